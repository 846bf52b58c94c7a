"""The network of a tiny recursive model: two layers that are applied again and again, an embedding, and two heads.

    model = TinyRecursiveModel(cells=81, digits=9)         # the paper's MLP variant: width 512, 2 layers, about 5M parameters
    x = model.embed(puzzles)                               # what is asked
    y, z = model.initial(len(puzzles), "static")           # the answer so far, and the thoughts about it
    y, z = Nested(n=6, T=3)(model, x, y, z)                # lib.methods.trm.recursion
    logits, halt = model.read(y)                           # digits of each cell; is that the solution?

A layer mixes the cells, then the channels, each with a residual connection that is normalised afterwards (post-norm,
without weights). Cells are mixed by a SwiGLU across them, which is what the paper uses for sudoku, or by attention with
rotary positions. Within `torch.autocast` the states have its type.

Source: Jolicoeur-Martineau (2025), Less is More: Recursive Reasoning with Tiny Networks, arXiv 2510.04871, section 4 and
the authors' configuration; SwiGLU: Shazeer (2020), arXiv 2002.05202; rotary positions: Su et al. (2021), arXiv 2104.09864.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional

from lib.methods.trm.fused import gated, normed_sum, rms_norm

Start = Literal["static", "batch", "puzzle", "cell", "zeros", "mixed"]
"""Where latents begin; see `TinyRecursiveModel.initial`."""
STARTS: tuple[Start, ...] = ("static", "batch", "puzzle", "cell", "zeros", "mixed")

Latents = Float[Tensor, "batch positions width"]

_TRUNCATED_STD = 0.8796256610342398
"""Standard deviation of a standard normal number that is cut off at ±2."""


def lecun_(weight: Tensor, fan_in: int, generator: torch.Generator | None) -> Tensor:
    """Fill with normal numbers of standard deviation 1/√fan_in, cut off at two underlying deviations; in place."""
    std = 1 / math.sqrt(fan_in) / _TRUNCATED_STD
    return nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)


class SwiGLU(nn.Module):
    """x ↦ W₃ (silu(W₁ x) ⊙ W₂ x) over the last axis, without biases.

    size: of that axis. expansion: the inner size is 2/3 of `expansion` · size, rounded up to a multiple of `multiple`.
    """

    def __init__(self, size: int, expansion: float, multiple: int, generator: torch.Generator | None) -> None:
        super().__init__()
        inner = -(-round(expansion * size * 2 / 3) // multiple) * multiple
        self.inward = nn.Parameter(lecun_(torch.empty(2 * inner, size), size, generator))
        self.outward = nn.Parameter(lecun_(torch.empty(size, inner), inner, generator))

    def forward(self, x: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        return functional.linear(gated(functional.linear(x, self.inward)), self.outward)


class Attention(nn.Module):
    """Self-attention over the cells with rotary positions, without biases. Raises ValueError for a width heads do not divide."""

    cosines: Tensor
    sines: Tensor

    def __init__(self, cells: int, width: int, heads: int, generator: torch.Generator | None) -> None:
        super().__init__()
        if width % (2 * heads):
            raise ValueError(
                f"width is {width} and heads {heads}; an even number of channels a head is wanted"
            )
        self.heads = heads
        self.inward = nn.Parameter(lecun_(torch.empty(3 * width, width), width, generator))
        self.outward = nn.Parameter(lecun_(torch.empty(width, width), width, generator))
        size = width // heads
        frequencies = 10_000.0 ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
        angles = torch.outer(torch.arange(cells, dtype=torch.float64), frequencies).repeat(1, 2)
        self.register_buffer("cosines", angles.cos().float(), persistent=False)  # (cells, size)
        self.register_buffer("sines", angles.sin().float(), persistent=False)

    def forward(self, x: Latents) -> Latents:
        batch, cells, width = x.shape
        projected = functional.linear(x, self.inward).view(batch, cells, 3, self.heads, -1)
        query, key, value = projected.permute(2, 0, 3, 1, 4)  # (batch, heads, cells, size) each
        mixed = functional.scaled_dot_product_attention(self.turned(query), self.turned(key), value)
        return functional.linear(mixed.transpose(1, 2).reshape(batch, cells, width), self.outward)

    def turned(self, x: Tensor) -> Tensor:
        """Each pair of channels turned by an angle that grows with the position."""
        first, second = x.chunk(2, dim=-1)
        return (x * self.cosines + torch.cat([-second, first], dim=-1) * self.sines).to(x.dtype)


class Layer(nn.Module):
    """Cells, then channels, each as x ↦ norm(x + f(x)); the mixer's norm is over the cells, as its f is."""

    def __init__(
        self,
        cells: int,
        width: int,
        *,
        mixing: Literal["mlp", "attention"],
        expansion: float,
        multiple: int,
        heads: int,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.mixing = mixing
        if mixing == "mlp":
            self.cells: nn.Module = SwiGLU(cells, expansion, multiple, generator)
        else:
            self.cells = Attention(cells, width, heads, generator)
        self.channels = SwiGLU(width, expansion, multiple, generator)

    def forward(self, x: Latents) -> Latents:
        if self.mixing == "mlp":
            across = x.mT.contiguous()  # (batch, width, cells)
            x = normed_sum(across, self.cells(across)).mT.contiguous()
        else:
            x = normed_sum(x, self.cells(x))
        return normed_sum(x, self.channels(x))


class TinyRecursiveModel(nn.Module):
    """Embedding, the one small network, the head that reads the answer, and the head that says when to stop.

    cells: positions of a puzzle. digits: what a cell of the answer can be; a cell of the puzzle can also be 0, a blank.
    width: channels. layers, expansion, multiple: of the network (`SwiGLU`). mixing: how cells are mixed; heads: of
    attention. registers: positions of the states beside the cells, which read zeros; the halting head reads the first,
    and the mean over all cells where there is none. two_headed: two maps after the network, so that one pass renews both
    states (`recursion.KStep`). generator: of the initial weights.
    """

    first: Tensor

    def __init__(
        self,
        *,
        cells: int,
        digits: int,
        width: int = 512,
        layers: int = 2,
        expansion: float = 4.0,
        multiple: int = 256,
        mixing: Literal["mlp", "attention"] = "mlp",
        heads: int = 8,
        registers: int = 0,
        two_headed: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for name, value in {"cells": cells, "digits": digits, "width": width, "layers": layers}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; at least 1 is wanted")
        if registers < 0:
            raise ValueError(f"registers is {registers}; 0 or more are wanted")
        self.cells, self.width, self.registers = cells, width, registers
        self.core = nn.Sequential(
            *(
                Layer(
                    cells + registers,
                    width,
                    mixing=mixing,
                    expansion=expansion,
                    multiple=multiple,
                    heads=heads,
                    generator=generator,
                )
                for _ in range(layers)
            )
        )
        self.split = (
            nn.Parameter(lecun_(torch.empty(2 * width, width), width, generator)) if two_headed else None
        )
        # tokens of standard deviation 1/√width, scaled to 1
        self.tokens = nn.Parameter(lecun_(torch.empty(digits + 1, width), width, generator))
        self.answer = nn.Parameter(lecun_(torch.empty(digits, width), width, generator))
        # almost certainly not solved yet, whatever the state
        self.halt = nn.Parameter(torch.zeros(width))
        self.halt_bias = nn.Parameter(torch.tensor(-5.0))
        first = lecun_(torch.empty(2, width), 1, generator)
        self.register_buffer("first", first)  # y and z of the static start

    @property
    def parameter_count(self) -> int:
        """Trained numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def dtype(self) -> torch.dtype:
        """The type of the states: autocast's where it is on, else the parameters'."""
        kind = self.tokens.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.tokens.dtype

    def embed(self, puzzles: Integer[Tensor, "batch cells"]) -> Latents:
        """The question x of each puzzle: the token of each cell, scaled; zeros for the registers."""
        if puzzles.shape[1] != self.cells:
            raise ValueError(f"puzzles have {puzzles.shape[1]} cells; {self.cells} are wanted")
        x = math.sqrt(self.width) * functional.embedding(puzzles.long(), self.tokens).to(self.dtype)
        return functional.pad(x, (0, 0, self.registers, 0)) if self.registers else x

    def initial(
        self, batch: int, start: Start, generator: torch.Generator | None = None
    ) -> tuple[Latents, Latents]:
        """The states y and z that a puzzle begins with.

        start: `static`, one vector each, drawn once with the weights, for all cells of all puzzles. Normal numbers drawn
        now: `batch`, one vector for all cells of the whole batch (the original post's random start); `puzzle`, one a
        puzzle; `cell`, one a cell. `zeros`. `mixed`: each puzzle zeros or `cell`, by a coin. generator: on the model's
        device, for those that draw.
        """
        device, shape = self.tokens.device, (2, batch, self.cells + self.registers, self.width)
        if start not in STARTS:
            raise ValueError(f"start is {start!r}; one of {', '.join(STARTS)} is wanted")
        if start == "static":
            states = self.first[:, None, None]
        elif start == "zeros":
            states = torch.zeros(2, 1, 1, 1, device=device)
        else:
            drawn = {"batch": (2, 1, 1), "puzzle": (2, batch, 1)}.get(start, shape[:3])
            states = torch.randn(*drawn, self.width, generator=generator, device=device)
            if start == "mixed":
                coin = torch.rand(1, batch, 1, 1, generator=generator, device=device)
                states = torch.where(coin < 0.5, 0.0, states)
        y, z = states.to(self.dtype).expand(shape)
        return y, z

    def forward(self, x: Latents) -> Latents:
        """One pass of the network over the sum of what it is told."""
        return self.core(x)

    def both(self, x: Latents) -> tuple[Latents, Latents]:
        """One pass that renews both states, where the model is two-headed: the next y and z."""
        if self.split is None:
            raise ValueError(
                "this model has one head: two_headed=True makes one that renews both states at once"
            )
        y, z = functional.linear(self.core(x), self.split).chunk(2, dim=-1)
        return rms_norm(y), rms_norm(z)

    def read(self, y: Latents) -> tuple[Float[Tensor, "batch n digits"], Float[Tensor, " batch"]]:
        """The logits of each cell's digit, and of the answer being right as a whole; in single precision.

        Digit d is class d − 1.
        """
        logits = functional.linear(y[:, self.registers :], self.answer).float()
        seen = y[:, 0].float() if self.registers else y.mean(1, dtype=torch.float32)
        return logits, (seen * self.halt).sum(-1) + self.halt_bias
