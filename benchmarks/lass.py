"""Critical samples by `lib.methods.lass`, against the same search one example at a time and without letting examples go.

    run(repeats=5, threads=1)      # {"rows": [...], "notes": [...]}

Ours searches a whole batch and lets an example go once its answer has changed. One peer is Algorithm 1 of the paper (Arpit et
al. 2017, arXiv 1706.05394) as it stands and as the original post had it: an example at a time, up the cross-entropy with the
network's own answer, until another answer is found or the iterations are over. The other has the whole batch, all iterations,
and keeps the first change of each example.

Same network, inputs, radius, steps and noise (drawn beforehand for the peers, in the search for ours), fp32. The verdicts
have to be the same but for rounding. The sides take turns and swap who goes first; medians and paired ratios.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lib import bench, data
from lib.convnets import convnet
from lib.core import PostsError
from lib.methods.lass import lass
from lib.training import Batches, ModuleLearner, Scaling, derived_generator, fit, validator

NAME = "lass"
TITLE = "Critical samples, one search"

ALPHA, BETA, ITERATIONS = 0.25 / 255, 0.2 / 255, 100
RADII = (0.3, 1.0, 8.0)
"""In 255ths: the paper's, and two larger."""

DIFFERENT = 0.02
"""The share of verdicts that rounding may change."""

Search = Callable[[nn.Module, Tensor, list[Tensor], float], Tensor]
"""From a network in evaluation mode, inputs, noise by iteration and a radius: whether each example is critical."""


def one_by_one(network: nn.Module, inputs: Tensor, noise: list[Tensor], r: float) -> Tensor:
    """As Algorithm 1 has it."""
    return torch.cat(
        [
            to_the_end(network, inputs[i : i + 1], [one[i : i + 1] for one in noise], r, stop=True)
            for i in range(len(inputs))
        ]
    )


def to_the_end(
    network: nn.Module, inputs: Tensor, noise: list[Tensor], r: float, *, stop: bool = False
) -> Tensor:
    """All examples together, in all iterations, or until all are critical where `stop` is set."""
    with torch.no_grad():
        answers = network(inputs).argmax(1)
    moved = inputs
    critical = torch.zeros(len(inputs), dtype=torch.bool)
    for drawn in noise:
        leaf = moved.detach().requires_grad_()
        loss = nn.functional.cross_entropy(network(leaf), answers, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, leaf)
        moved = leaf.detach() + ALPHA * gradient.sign() + BETA * drawn
        moved = moved.clamp(inputs - r, inputs + r)
        with torch.no_grad():
            critical |= network(moved).argmax(1) != answers
        if stop and critical.all():
            break
    return critical


def run(*, repeats: int = 5, threads: int = 1, count: int = 150, epochs: int = 10) -> dict[str, Any]:
    """A row for each radius and peer. Raises PostsError where the verdicts do not agree."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        network, inputs, title = _made(count, epochs)
        noise = _noise(inputs)
        rows, shares = [], []
        for r in RADII:
            search = _ours(network, inputs, r / 255)
            found = search()
            shares.append(f"{found.double().mean():.0%} at r = {r:g}/255")
            peers: tuple[tuple[str, Search], ...] = (
                ("one by one", one_by_one),
                ("the whole batch, none let go", to_the_end),
            )
            for name, peer in peers:
                verdicts = peer(network, inputs, noise, r / 255)
                if (verdicts != found).double().mean() > DIFFERENT:
                    raise PostsError(f"r = {r:g}/255: {name} gives other verdicts than lib.methods.lass")
                seconds, _ = bench.in_turn(search, partial(peer, network, inputs, noise, r / 255), repeats)
                case = f"{count} images, r = {r:g}/255, against {name}"
                rows.append({"case": case, "unit": "s", "n": repeats, **bench.paired(seconds)})
    finally:
        torch.set_num_threads(before)
    return {
        "rows": rows,
        "notes": [
            f"{title}, the ConvNet with 32 channels, {ITERATIONS} iterations, fp32, {threads} thread(s)",
            f"critical: {'; '.join(shares)}; both sides agree",
        ],
    }


def _ours(network: nn.Module, inputs: Tensor, r: float) -> Callable[[], Tensor]:
    def search() -> Tensor:
        generator = derived_generator(0, "search")
        return lass(
            network, inputs, r=r, alpha=ALPHA, beta=BETA, max_iterations=ITERATIONS, generator=generator
        ).critical

    return search


def _noise(inputs: Tensor) -> list[Tensor]:
    """What ours draws in its iterations."""
    generator = derived_generator(0, "search")
    return [torch.randn(inputs.shape, generator=generator) for _ in range(ITERATIONS)]


def _made(count: int, epochs: int) -> tuple[nn.Module, Tensor, str]:
    """A network trained for so many epochs, in evaluation mode, and so many test images."""
    name = next((one for one in ("cifar10", "cifar10-jpeg") if data.status(one).state == "whole"), "shapes")
    found = data.load(name)
    network = convnet((32, 32), (64, 32), generator=derived_generator(0, "weights"))
    batches = Batches(found.train.images[:2000], found.train.labels[:2000], batch_size=50, seed=0)
    fit(
        ModuleLearner(network, torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)),
        batches,
        validator(found.train.images[:200], found.train.labels[:200]),
        max_steps=epochs * batches.per_pass,
        eval_every=epochs * batches.per_pass,
    )
    return network.eval(), Scaling()(found.test.images[:count]), found.title
