"""The networks that several posts share: multilayer perceptrons, one by one and stacked.

    mlp((784, 256, 10), generator=generator)            # an ordinary nn.Module
    stack = StackedMLP((784, 256, 10), members=4)       # four of them, trained as one: all see the same batch
    stack.initialise(generator)                         # the same initial weights for every member
    losses = stack.backward(inputs, labels)             # (4,); the gradients are in stack.gradients
    stack.module(2)                                     # the third of them as an ordinary nn.Module

A stack exists for speed: a few matrix products for all members, no autograd, no allocation, all weights in one tensor.
Its members are independent: what one does never reaches another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


def mlp(sizes: Sequence[int], *, generator: torch.Generator | None = None) -> nn.Sequential:
    """Flatten, then linear layers of the given sizes with ReLU between them: `(784, 10)` is a perceptron.

    Initialised as torch initialises `nn.Linear`, from `generator` (None: torch's global one).
    """
    layers: list[nn.Module] = [nn.Flatten()]
    for n_in, n_out in pairwise(_checked(sizes)):
        linear = nn.utils.skip_init(nn.Linear, n_in, n_out)
        initialise_linear(linear.weight, linear.bias, generator)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def initialise_linear(
    weight: Float[Tensor, "n_out n_in"],
    bias: Float[Tensor, " n_out"],
    generator: torch.Generator | None = None,
) -> None:
    """torch's default for `nn.Linear`, in place: weights and biases uniform in ± 1 / √n_in."""
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)
    bound = 1 / math.sqrt(weight.shape[1])
    nn.init.uniform_(bias, -bound, bound, generator=generator)


class ByteDropout(nn.Module):
    """Dropout whose coins are the bytes of random words: eight from one draw, which on a CPU is what dropout costs.

    p: the share of units that are dropped, a multiple of 1/256; the others are divided by 1 − p. Coins are torch's global
    generator's. Raises ValueError for another p, or one outside [0, 1).
    """

    def __init__(self, p: float | int) -> None:
        super().__init__()
        if not (0 <= p < 1 and 256 * p == round(256 * p)):
            raise ValueError(f"p is {p!r}; a multiple of 1/256 in [0, 1) is wanted")
        self.dropped = round(256 * p)

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if not self.training or not self.dropped:
            return x
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device)
        coins = words.random_(-(2**63), None).view(torch.uint8)[: x.numel()].view(x.shape)
        kept = (coins >= self.dropped).view(torch.uint8).to(x.dtype)  # bytes convert faster than bools
        return x * kept * (256 / (256 - self.dropped))

    def extra_repr(self) -> str:
        return f"p={self.dropped / 256}"


class StackedMLP:
    """`members` MLPs of the same sizes with softmax and cross-entropy, trained together on the same batches.

    parameters, gradients: (members, parameters of one network); each row holds, layer by layer, weight and bias in
    torch's layout. weights, biases: views into it. `backward` overwrites the gradients and no one else does.
    """

    def __init__(self, sizes: Sequence[int], members: int, *, device: str | torch.device = "cpu") -> None:
        self.sizes = _checked(sizes)
        if members < 1:
            raise ValueError(f"members is {members}; 1 or more are wanted")
        count = sum(n_out * (n_in + 1) for n_in, n_out in pairwise(self.sizes))
        self._use(torch.zeros(members, count, device=device))

    def _use(self, parameters: Tensor) -> None:
        self.parameters = parameters
        self.gradients = torch.zeros_like(parameters)
        self.weights, self.biases = self._views(parameters)
        self._weight_grads, self._bias_grads = self._views(self.gradients)
        self._buffers: dict[int, tuple[list[Tensor], list[Tensor]]] = {}

    def _views(self, flat: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The weights (members, n_out, n_in) and biases (members, n_out) of each layer."""
        weights, biases, start = [], [], 0
        for n_in, n_out in pairwise(self.sizes):
            weights.append(flat[:, start : start + n_out * n_in].unflatten(1, (n_out, n_in)))
            start += n_out * n_in
            biases.append(flat[:, start : start + n_out])
            start += n_out
        return weights, biases

    @property
    def members(self) -> int:
        return len(self.parameters)

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """The same fresh weights for every member, so that members differ in what is compared and in nothing else.

        Drawn on the CPU, so that every device starts from the same weights.
        """
        row = StackedMLP(self.sizes, 1)
        for weight, bias in zip(row.weights, row.biases, strict=True):
            initialise_linear(weight[0], bias[0], generator)
        self.parameters.copy_(row.parameters)

    def keep(self, members: Sequence[int]) -> None:
        """Go on with these members only, in this order."""
        self._use(self.parameters[list(members)])

    def load(self, parameters: Float[Tensor, "members parameters"]) -> None:
        """Take over weights, for as many members as there are rows."""
        if parameters.ndim != 2 or parameters.shape[1] != self.parameters.shape[1]:
            raise ValueError(
                f"parameters are {tuple(parameters.shape)}; (members, {self.parameters.shape[1]}) is wanted"
            )
        self._use(parameters.to(self.parameters, copy=True))

    def module(self, member: int) -> nn.Sequential:
        """One member as an ordinary module, with a copy of its weights."""
        network = mlp(self.sizes).to(self.parameters.device)
        linears = [layer for layer in network if isinstance(layer, nn.Linear)]
        with torch.no_grad():
            for layer, weight, bias in zip(linears, self.weights, self.biases, strict=True):
                layer.weight.copy_(weight[member])
                layer.bias.copy_(bias[member])
        return network

    def logits(self, inputs: Float[Tensor, "batch ..."]) -> Float[Tensor, "members batch n_classes"]:
        """What each member answers to the same batch."""
        hidden = inputs.flatten(1).expand(self.members, -1, -1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer:
                hidden = hidden.relu_()
            hidden = torch.baddbmm(bias[:, None], hidden, weight.mT)
        return hidden

    def backward(
        self,
        inputs: Float[Tensor, "batch ..."],
        labels: Int64[Tensor, " batch"] | Float[Tensor, "batch n_classes"],
    ) -> Float[Tensor, " members"]:
        """Mean cross-entropy of each member over the batch, and its gradient in `gradients`.

        labels: classes, or a distribution over them for each example.
        """
        members, batch = self.members, len(inputs)
        outs, deltas = self._workspace(batch)
        first = inputs.flatten(1).expand(members, -1, -1)
        # z_l = h_{l-1} W_lᵀ + b_l,  h_l = max(z_l, 0)
        hidden = first
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer:
                outs[layer - 1].relu_()
            hidden = torch.baddbmm(bias[:, None], hidden, weight.mT, out=outs[layer])
        # L = − Σ_k t_k log softmax(z)_k,  ∂L/∂z = (softmax(z) − t) / batch
        delta = deltas[-1]
        torch.log_softmax(outs[-1], dim=-1, out=delta)
        if labels.is_floating_point():
            losses = -(delta * labels).sum(-1).mean(-1)
            delta.exp_().sub_(labels)
        else:
            index = labels[None, :, None].expand(members, -1, -1)
            losses = -delta.gather(-1, index).mean((1, 2))
            delta.exp_().scatter_add_(-1, index, delta.new_full((1, 1, 1), -1.0).expand(index.shape))
        delta.mul_(1 / batch)
        for layer in reversed(range(len(self.weights))):
            # ∂L/∂W_l = δ_lᵀ h_{l-1},  ∂L/∂b_l = Σ δ_l,  δ_{l-1} = δ_l W_l ⊙ [h_{l-1} > 0]
            below = outs[layer - 1] if layer else first
            torch.bmm(delta.mT, below, out=self._weight_grads[layer])
            torch.sum(delta, dim=1, out=self._bias_grads[layer])
            if layer:
                lower = torch.bmm(delta, self.weights[layer], out=deltas[layer - 1])
                delta = torch.ops.aten.threshold_backward(lower, below, 0, grad_input=lower)
        return losses

    def _workspace(self, batch: int) -> tuple[list[Tensor], list[Tensor]]:
        if batch not in self._buffers:
            shapes = [(self.members, batch, n_out) for n_out in self.sizes[1:]]
            self._buffers[batch] = tuple([self.parameters.new_empty(s) for s in shapes] for _ in range(2))  # type: ignore[assignment]
        return self._buffers[batch]


def _checked(sizes: Sequence[int]) -> tuple[int, ...]:
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(
            f"sizes is {sizes!r}; two or more positive layer sizes are wanted, inputs first, classes last"
        )
    return tuple(sizes)
