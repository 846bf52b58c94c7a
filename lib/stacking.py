"""Several networks of one architecture trained as one: weights stacked, forward and backward passes batched over them.

    networks = [resnet(20, generator=derived_generator(seed, "weights")) for seed in range(10)]
    learner = StackedModules(networks, partial(torch.optim.SGD, lr=0.1, momentum=0.9))
    fit(learner, batches, validator(...), ...)                                       # all see the same batches
    learner = StackedModules(networks, ..., own_batches=True)
    fit(learner, StackedBatches([Batches(..., seed=s) for s in range(10)]), ...)     # or each its own
    networks[3].load_state_dict(found.best[3])

On a GPU small networks cost about as much together as one alone. Members are independent: what one does never reaches
another, as long as the optimiser treats each number by itself (SGD, Adam, Adadelta, … without clipping by norm).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call, stack_module_state, vmap

from lib.adam import MixedAdam
from lib.nets import ByteDropout
from lib.training import Learner, State


class StackedBatches:
    """Batches for each member by itself, as one: inputs and labels have the members as their first dimension.

    All have to have batches of the same sizes at the same steps.
    """

    def __init__(self, batches: Sequence[Callable[[int], tuple[Tensor, Tensor]]]) -> None:
        self.batches = list(batches)

    def __call__(
        self, step: int
    ) -> tuple[Float[Tensor, "members batch ..."], Shaped[Tensor, "members batch ..."]]:
        """Inputs and labels of step `step` (from 0)."""
        inputs, labels = zip(*(batches(step) for batches in self.batches), strict=True)
        return torch.stack(inputs), torch.stack(labels)


class StackedModules(Learner):
    """Modules of one architecture with one torch optimiser, as a learner with as many members.

    optimizer: from the stacked weights to an optimiser; its rate is that of every member. loss: from one member's logits
    and labels to a scalar. own_batches: inputs and labels come with a dimension for the members in front. autocast: a
    lower-precision dtype for the forward pass, or None. Dropout is drawn for each member by itself. The given modules are
    copied and stay as they are.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        optimizer: Callable[[list[Tensor]], torch.optim.Optimizer],
        *,
        loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
        own_batches: bool = False,
        autocast: torch.dtype | None = None,
        ema: float | None = None,
    ) -> None:
        super().__init__(ema)
        if not modules:
            raise ValueError("modules is empty; one or more networks are wanted")
        self.device = next(modules[0].parameters()).device
        self.parameters, self.buffers = stack_module_state(list(modules))
        self.form = copy.deepcopy(modules[0]).to("meta")
        self.loss, self.own_batches, self.autocast = loss, own_batches, autocast
        self.kept = list(range(len(modules)))
        self.optimizer = optimizer([tensor for tensor in self.parameters.values() if tensor.requires_grad])
        self.rates = [group["lr"] for group in self.optimizer.param_groups]

    @property
    def members(self) -> int:
        return len(self.kept)

    def _forward(self, inputs: Tensor, own: bool) -> Float[Tensor, "members batch n_classes"]:
        def one(parameters: State, buffers: State, batch: Tensor) -> Tensor:
            return functional_call(self.form, (parameters, buffers), (batch,))

        with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            every = vmap(one, in_dims=(0, 0, 0 if own else None), randomness="different")
            return every(self.parameters, self.buffers, inputs).float()

    def step(self, inputs: Tensor, labels: Tensor, factor: float) -> Float[Tensor, " members"]:
        self.form.train()
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        if self.own_batches and len(inputs) != self.members:
            inputs, labels = inputs[self.kept], labels[self.kept]
        self.optimizer.zero_grad(set_to_none=True)
        logits = self._forward(inputs, self.own_batches)
        losses = vmap(self.loss, in_dims=(0, 0 if self.own_batches else None))(logits, labels)
        losses.sum().backward()
        self.optimizer.step()
        return losses.detach()

    @torch.no_grad()
    def logits(self, inputs: Tensor) -> Float[Tensor, "members batch n_classes"]:
        self.form.eval()
        return self._forward(inputs, False)

    def tensors(self) -> list[Tensor]:
        return [tensor for tensor in self._all().values() if tensor.is_floating_point()]

    def snapshot(self, member: int) -> State:
        """The state of one member, as its module has it."""
        return {name: tensor[member] for name, tensor in self._all().items()}

    def restore(self, states: Sequence[State]) -> None:
        self.kept = list(range(len(states)))
        self._use({name: torch.stack([state[name] for state in states]) for name in self._all()})
        self.optimizer.state.clear()

    def keep(self, members: Sequence[int]) -> None:
        chosen = list(members)
        self.kept = [self.kept[member] for member in chosen]
        for parameter, state in self.optimizer.state.items():
            for name, value in state.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    state[name] = value[chosen]
        self._use({name: tensor[chosen] for name, tensor in self._all().items()})
        if self.average is not None:
            self.average = [tensor[chosen] for tensor in self.average]

    def state(self) -> dict[str, Any]:
        return {
            "tensors": self._all(),
            "kept": self.kept,
            "optimizer": self.optimizer.state_dict(),
            "ema": self.average,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.kept = list(state["kept"])
        self._use(state["tensors"])
        self.optimizer.load_state_dict(state["optimizer"])
        average = state["ema"]
        self.average = None if average is None else [tensor.to(self.device, copy=True) for tensor in average]

    def _all(self) -> dict[str, Tensor]:
        return {**{name: tensor.detach() for name, tensor in self.parameters.items()}, **self.buffers}

    def _use(self, tensors: Mapping[str, Tensor]) -> None:
        """Become these tensors, for any number of members; the optimiser's groups hold the same parameters as before."""
        for name, parameter in self.parameters.items():
            parameter.grad = None
            parameter.data = tensors[name].detach().to(self.device, copy=True)
        for name in self.buffers:
            self.buffers[name] = tensors[name].to(self.device, copy=True)


class StackedPerceptrons(StackedModules):
    """`StackedModules` that computes networks of `Flatten`, `Linear`, `ReLU` and dropout layer by layer.

    What vmap and autocast make of a linear layer copies its weights and gradients several times a step, transposed, which
    takes longer on a CPU than the products; here it is one product forwards and two backwards. With autocast to bfloat16
    and `lib.adam.MixedAdam` gradients and the weights of the products stay in bfloat16. Other networks are computed as in
    `StackedModules`, and so are networks within networks.
    """

    def _forward(self, inputs: Tensor, own: bool) -> Float[Tensor, "members batch n_classes"]:
        layers = list(self.form.named_children())
        dropouts = (nn.Dropout, ByteDropout)
        kinds = {type(layer) for _, layer in layers}
        if type(self.form) is not nn.Sequential or not kinds <= {nn.Flatten, nn.Linear, nn.ReLU, *dropouts}:
            return super()._forward(inputs, own)
        hidden = inputs.flatten(2 if own else 1)
        for name, layer in layers:
            if isinstance(layer, nn.Linear):
                weight, bias = self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"]
                hidden = _Linear.apply(hidden, self._narrow(weight), bias, self.autocast or weight.dtype)
            elif isinstance(layer, nn.ReLU):
                hidden = hidden.relu()
            elif isinstance(layer, dropouts):
                hidden = layer(hidden if hidden.ndim == 3 else hidden.expand(self.members, -1, -1))
        return hidden.float()

    def _narrow(self, weight: Tensor) -> Tensor:
        if self.autocast is torch.bfloat16 and isinstance(self.optimizer, MixedAdam):
            return self.optimizer.narrow(weight)
        return weight

    def _use(self, tensors: Mapping[str, Tensor]) -> None:
        super()._use(tensors)
        if isinstance(self.optimizer, MixedAdam):
            self.optimizer.forget()


class _Linear(torch.autograd.Function):
    """x (batch, n_in), the same for all, or (members, batch, n_in): to (members, batch, n_out), in `dtype`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
        x, narrow = x.to(dtype), weight.to(dtype)
        ctx.save_for_backward(x, narrow)
        ctx.kinds = weight.dtype, bias.dtype
        every = x if x.ndim == 3 else x.expand(len(weight), -1, -1)
        return torch.baddbmm(bias[:, None].to(dtype), every, narrow.mT)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, narrow = ctx.saved_tensors
        every = x if x.ndim == 3 else x.expand(len(narrow), -1, -1)
        down = torch.bmm(above, narrow) if ctx.needs_input_grad[0] else None
        if down is not None and x.ndim == 2:
            down = down.sum(0)
        of_weight, of_bias = ctx.kinds
        return down, torch.bmm(above.mT, every).to(of_weight), above.sum(1, dtype=of_bias), None
