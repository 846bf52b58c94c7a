"""The training step of engression's plain network (one hidden layer with noise, batch norm, ReLU), written out.

    trainer = PlainTrainer(StochasticNet(1, 1), x, y, m=2, lr=0.01)     # as Trainer, where `fits(network)`

It computes what autograd computes, on a processor, in memory that is kept from step to step: fresh memory of this size is
made page by page and costs more than the arithmetic. Noise comes from a generator of its own, and everything between the
two matrix products, of W_ε and of its gradient, is done in few passes (`lib.methods.plain_kernels`). Any objective will
do: its gradient with respect to the samples, which is small, is left to autograd.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lib.methods import plain_kernels as kernels
from lib.methods.engression import StochasticNet, Trainer


def fits(network: nn.Module, precision: str = "fp32") -> bool:
    """Whether the step below is that of `network`: one noisy layer, no blocks, batch norm, single precision, no GPU."""
    return (
        isinstance(network, StochasticNet)
        and len(network.noisy) == 1
        and not len(network.block_layers)
        and isinstance(network.noisy_norms[0], nn.BatchNorm1d)
        and network.noise_dim > 0
        and network.out.weight.dtype == torch.float32
        and network.out.weight.device.type == "cpu"
        and precision == "fp32"
    )


class PlainTrainer(Trainer):
    """`Trainer` with the step written out; with the same noise the same batches, losses and weights, up to rounding."""

    def __init__(
        self, network: StochasticNet, x: Float[Tensor, "n p"], y: Float[Tensor, "n d"], **options: Any
    ) -> None:
        super().__init__(network, x, y, **options)
        if not fits(network, self.precision):
            raise ValueError("a network of one noisy layer with batch norm, in fp32 on a CPU, is wanted")
        (layer,), (norm,) = network.noisy, network.noisy_norms
        assert isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d)
        self.layer, self.norm, self.out = layer, norm, network.out
        width, rows = layer.out_features, self.m * self.batch_size
        self.noise = torch.empty(self.m, self.batch_size, network.noise_dim)
        self.z, self.delta = torch.empty(width, rows), torch.empty(width, rows)
        self.drawn = torch.empty(network.out.out_features, rows)
        self.shared = torch.empty(width, self.batch_size)
        self.scaled = torch.empty(4, width)
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)

    def draw_noise(self) -> None:
        """Noise for the next batch, into `noise`."""
        network = self.network
        assert isinstance(network, StochasticNet)
        if network.noise != "normal":
            network.draw_noise(self.m, self.batch_size, self.noise_generator, [self.noise])
            return
        state = torch.empty((), dtype=torch.int64).random_(generator=self.noise_generator)
        kernels.normals(self.noise.numpy().reshape(-1), np.uint64(int(state)))
        if network.noise_scale != 1:
            self.noise.mul_(network.noise_scale)

    @torch.no_grad()
    def step(self) -> Float[Tensor, ""]:
        """One batch; its loss (detached)."""
        self.network.train()
        layer, norm, out = self.layer, self.norm, self.out
        x, y = self.batch()
        self.draw_noise()
        noise = self.noise.flatten(0, 1)  # (m n, q)
        rows, p = len(noise), x.shape[1]
        mean = norm.running_mean
        assert mean is not None
        # z = W_x x + b + W_ε ε − μ: the first two are the same for all samples of an example, and what is taken off, batch
        # norm's running mean, keeps digits when the variance is a difference of squares
        torch.mm(layer.weight[:, p:], noise.t(), out=self.z)
        torch.addmm((layer.bias - mean)[:, None], layer.weight[:, :p], x.t(), out=self.shared)
        z, scaled, weight = self.z.numpy(), self.scaled.numpy(), out.weight.detach().numpy()
        kernels.forward(
            z,
            self.shared.numpy(),
            norm.weight.detach().numpy(),
            norm.bias.detach().numpy(),
            norm.eps,
            weight,
            out.bias.detach().numpy(),
            scaled,
            self.drawn.numpy(),
        )
        self._remember(rows)
        with torch.enable_grad():
            leaf = self.drawn.detach().requires_grad_()
            loss = self.objective(y, leaf.view(-1, self.m, len(x)).permute(2, 1, 0))
            (above,) = torch.autograd.grad(loss, leaf)
        gradients = (parameter.grad for parameter in (out.weight, out.bias, norm.weight, norm.bias))
        d_out, d_out_bias, d_gamma, d_beta = (_there(tensor) for tensor in gradients)
        torch.sum(above, dim=1, out=d_out_bias)
        kernels.backward(
            z,
            scaled,
            norm.eps,
            weight,
            above.contiguous().numpy(),
            self.delta.numpy(),
            self.shared.numpy(),
            d_out.numpy(),
            d_gamma.numpy(),
            d_beta.numpy(),
        )
        d_weight = _there(layer.weight.grad)
        d_weight[:, p:] = torch.mm(self.delta, noise)
        d_weight[:, :p] = torch.mm(self.shared, x)
        self.optimizer.step()
        self.done += 1
        return loss.detach()

    def _remember(self, rows: int) -> None:
        """Batch norm's running statistics, as torch keeps them; the mean in `scaled` is from the running one."""
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
        norm.running_mean.add_(self.scaled[0], alpha=norm.momentum)
        norm.running_var.lerp_(self.scaled[1] * (rows / (rows - 1)), norm.momentum)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)


def _there(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise RuntimeError("a gradient was taken away; PlainTrainer keeps its gradients from step to step")
    return tensor
