"""The training step of engression's plain network (one hidden layer with noise, batch norm, ReLU), written out.

    trainer = PlainTrainer(StochasticNet(1, 1), x, y, m=2, lr=0.01)     # as Trainer, where `fits(network)`

It computes what autograd computes, in memory that is kept from step to step: fresh memory of this size is made page by page
and costs more than the arithmetic. What is left is the noise and two matrix products, of W_ε and of its gradient. Any
objective will do: its gradient with respect to the samples, which is small, is left to autograd.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lib.methods.engression import StochasticNet, Trainer


def fits(network: nn.Module, precision: str = "fp32") -> bool:
    """Whether the step below is that of `network`: one noisy layer, no blocks, batch norm, single precision."""
    return (
        isinstance(network, StochasticNet)
        and len(network.noisy) == 1
        and not len(network.block_layers)
        and isinstance(network.noisy_norms[0], nn.BatchNorm1d)
        and network.noise_dim > 0
        and network.out.weight.dtype == torch.float32
        and precision == "fp32"
    )


class PlainTrainer(Trainer):
    """`Trainer` with the step written out; the same batches, noise, losses and weights, up to rounding."""

    def __init__(
        self, network: StochasticNet, x: Float[Tensor, "n p"], y: Float[Tensor, "n d"], **options: Any
    ) -> None:
        super().__init__(network, x, y, **options)
        if not fits(network, self.precision):
            raise ValueError("a network of one noisy layer with batch norm, in fp32, is wanted")
        (layer,), (norm,) = network.noisy, network.noisy_norms
        assert isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d)
        self.layer, self.norm, self.out = layer, norm, network.out
        width, n_out = layer.out_features, network.out.out_features
        rows = self.m * self.batch_size
        like = layer.weight.detach()
        self.noise = [like.new_empty(self.m, self.batch_size, network.noise_dim)]
        self.z, self.hidden, self.delta = (like.new_empty(rows, width) for _ in range(3))
        self.drawn = like.new_empty(rows, n_out)
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self) -> Float[Tensor, ""]:
        """One batch; its loss (detached, on the device)."""
        network, layer, norm, out = self.network, self.layer, self.norm, self.out
        assert isinstance(network, StochasticNet)
        network.train()
        x, y = self.batch()
        network.draw_noise(self.m, len(x), self.noise_generator, self.noise)
        noise = self.noise[0].flatten(0, 1)  # (m n, q)
        rows, p = len(noise), x.shape[1]
        # z = W_x x + b + W_ε ε − μ: the first two are the same for all samples of an example, and what is taken off, batch
        # norm's running mean, keeps digits when the variance is a difference of squares
        z = torch.mm(noise, layer.weight[:, p:].t(), out=self.z)
        shift = self.running_mean
        z.view(self.m, len(x), -1).add_(torch.addmm(layer.bias - shift, x, layer.weight[:, :p].t()))
        mean = z.mean(dim=0)
        variance = torch.linalg.vecdot(z, z, dim=0).div_(rows).sub_(mean.square()).clamp_min_(0)
        scale = (variance + norm.eps).rsqrt_()
        # h = max(γ (z − mean) / sd + β, 0),  samples = W_o h + b_o
        factor = norm.weight * scale
        hidden = torch.addcmul(norm.bias - mean * factor, z, factor, out=self.hidden).relu_()
        torch.addmm(out.bias, hidden, out.weight.t(), out=self.drawn)
        self._remember(mean + shift, variance, rows)
        samples = self.drawn.view(self.m, len(x), -1)
        with torch.enable_grad():
            leaf = samples.detach().requires_grad_()
            loss = self.objective(y, leaf.transpose(0, 1))
            (above,) = torch.autograd.grad(loss, leaf)
        above = above.reshape(rows, -1)
        gradient = [parameter.grad for parameter in (out.weight, out.bias, norm.weight, norm.bias)]
        d_out, d_out_bias, d_gamma, d_beta = (_there(tensor) for tensor in gradient)
        torch.mm(above.t(), hidden, out=d_out)
        torch.sum(above, dim=0, out=d_out_bias)
        delta = torch.mm(above, out.weight, out=self.delta)
        torch.ops.aten.threshold_backward(delta, hidden, 0, grad_input=delta)
        torch.sum(delta, dim=0, out=d_beta)
        torch.mul(torch.linalg.vecdot(delta, z, dim=0).sub_(mean * d_beta), scale, out=d_gamma)
        # through batch norm: γ / sd · (δ − mean δ − (z − mean) / sd · d_γ / rows); its sum over the batch, the gradient of
        # the bias before it, is 0
        slope = factor * scale * d_gamma / rows
        delta.mul_(factor).addcmul_(z, slope, value=-1).add_(mean * slope - factor * d_beta / rows)
        d_weight = _there(layer.weight.grad)
        d_weight[:, p:] = torch.mm(delta.t(), noise)
        d_weight[:, :p] = torch.mm(_over_samples(delta, self.m).t(), x)
        self.optimizer.step()
        self.done += 1
        return loss.detach()

    @property
    def running_mean(self) -> Tensor:
        """Batch norm's running mean."""
        assert self.norm.running_mean is not None
        return self.norm.running_mean

    def _remember(self, mean: Tensor, variance: Tensor, rows: int) -> None:
        """Batch norm's running statistics, as torch keeps them."""
        norm = self.norm
        assert norm.running_var is not None and norm.momentum is not None
        self.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (rows / (rows - 1)), norm.momentum)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)


def _over_samples(delta: Tensor, m: int) -> Tensor:
    """(n, width) from (m n, width): the sum over the samples of each example."""
    parts = delta.chunk(m)
    total = parts[0] + parts[1] if m > 1 else parts[0]
    for part in parts[2:]:
        total += part
    return total


def _there(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise RuntimeError("a gradient was taken away; PlainTrainer keeps its gradients from step to step")
    return tensor
