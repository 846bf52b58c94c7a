"""TENT and Norm by `lib.methods.tent`, against the reference implementation of the paper's authors.

    POSTS_PEER_TENT=/path/to/tent posts bench tent     # a checkout of github.com/DequanWang/tent: its tent.py and norm.py

Same network (the paper's R-26, trained for a moment so that its answers mean something), same stream (Gaussian noise at
severity 5, batches of 200), same optimiser, same precision. The two sides take turns, a whole stream each, from the
source's weights, and swap who goes first. Reported: the median time of a batch on each side and the median of the paired
ratios with a bootstrap interval; and the errors of both, which have to agree within .2 points.
"""

from __future__ import annotations

import copy
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib import data
from lib.convnets import resnet
from lib.core import InputError, PostsError
from lib.data.corruptions import corrupt
from lib.methods.tent import adapt
from lib.schedules import triangular
from lib.training import Batches, ModuleLearner, Scaling, derived_generator, fit, validator

NAME = "tent"
TITLE = "TENT and Norm, one batch of 200 images through R-26"

VARIABLE = "POSTS_PEER_TENT"
BATCH, RATE = 200, 1e-3
SCALING = Scaling((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
AGREEMENT = 0.002

Answer = Callable[[Tensor], Tensor]


def peer_modules() -> tuple[ModuleType, ModuleType]:
    """The reference's `tent` and `norm`. Raises InputError where the variable names no checkout of it."""
    folder = Path(os.environ.get(VARIABLE, "")).expanduser()
    files = [folder / "tent.py", folder / "norm.py"]
    if not os.environ.get(VARIABLE) or not all(path.is_file() for path in files):
        raise InputError(
            f"the peer is not here: {VARIABLE} has to name a checkout of github.com/DequanWang/tent, with tent.py and norm.py"
        )
    return _module(files[0]), _module(files[1])


def _module(path: Path) -> ModuleType:
    name = f"peer_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def peer_tent(reference: ModuleType, network: nn.Module) -> Answer:
    """As its `cifar10c.py` sets it up with `cfgs/tent.yaml`."""
    model = reference.configure_model(copy.deepcopy(network))
    parameters, _ = reference.collect_params(model)
    optimizer = torch.optim.Adam(parameters, lr=RATE, betas=(0.9, 0.999), weight_decay=0.0)
    reference.check_model(model)
    return reference.Tent(model, optimizer, steps=1)


def peer_norm(reference: ModuleType, network: nn.Module) -> Answer:
    """As its `cifar10c.py` sets it up with `cfgs/norm.yaml`."""
    model = reference.Norm(copy.deepcopy(network).eval())
    return lambda inputs: _without_gradients(model, inputs)


@torch.no_grad()
def _without_gradients(model: nn.Module, inputs: Tensor) -> Tensor:
    return model(inputs)


def passed(answer: Answer, batches: list[Tensor], labels: Tensor) -> tuple[float, float]:
    """Seconds a batch, and the error on the stream."""
    start = time.perf_counter()
    answers = [answer(batch) for batch in batches]
    seconds = (time.perf_counter() - start) / len(batches)
    return seconds, float((torch.cat(answers).argmax(1) != labels).double().mean())


def run(
    *, repeats: int = 5, threads: int = 1, count: int = 2_000, train: int = 10_000, depth: int = 26
) -> dict[str, Any]:
    """Both methods on both sides. Raises InputError without the peer, PostsError where errors do not agree."""
    tent, norm = peer_modules()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        images, labels, network, title = _made(count, train, depth)
        batches = [SCALING(part) for part in images.split(BATCH)]
        rows, errors = [], []
        for case, ours, theirs in (
            ("TENT", lambda: adapt(network, "tent", lr=RATE), lambda: peer_tent(tent, network)),
            ("Norm", lambda: adapt(network, "norm"), lambda: peer_norm(norm, network)),
        ):
            passed(ours(), batches[:1], labels[:BATCH])  # not counted
            passed(theirs(), batches[:1], labels[:BATCH])
            seconds, wrong = np.empty((repeats, 2)), np.empty((repeats, 2))
            for repeat in range(repeats):
                sides: list[Callable[[], Answer]] = [ours, theirs]
                for side in (0, 1) if repeat % 2 == 0 else (1, 0):
                    seconds[repeat, side], wrong[repeat, side] = passed(sides[side](), batches, labels)
            if np.abs(wrong[:, 0] - wrong[:, 1]).max() > AGREEMENT:
                raise PostsError(f"{case}: errors {wrong[0]} differ by more than {AGREEMENT:.1%}")
            rows.append(_row(case, seconds))
            errors.append(f"{case} {wrong[0, 0]:.2%} (ours) and {wrong[0, 1]:.2%} (reference)")
    finally:
        torch.set_num_threads(before)
    notes = [
        f"{title}, Gaussian noise at severity 5, {len(images):,} images, fp32, {threads} thread(s); a batch of the stream",
        f"errors on that stream: {'; '.join(errors)}",
        "ours keeps images and convolutions with channels last, which is where the time goes",
    ]
    return {"rows": rows, "notes": notes}


def _made(count: int, train: int, depth: int) -> tuple[Tensor, Tensor, nn.Module, str]:
    """Corrupted test images, their labels, and a network that saw `train` images once."""
    name = next((one for one in ("cifar10", "cifar10-jpeg") if data.status(one).state == "whole"), "shapes")
    found = data.load(name)
    images, labels = found.train.images[:train], found.train.labels[:train]
    network = resnet(depth, shortcut="projection", generator=derived_generator(0, "weights"))
    learner = ModuleLearner(
        network,
        torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True),
        channels_last=True,
    )
    taken = Batches(images, labels, batch_size=100, seed=0, scaling=SCALING, drop_last=True)
    held_out = validator(found.train.images[-200:], found.train.labels[-200:], scaling=SCALING)
    fit(
        learner,
        taken,
        held_out,
        max_steps=taken.per_pass,
        eval_every=taken.per_pass,
        schedule=triangular(taken.per_pass),
    )
    test = found.test.subset(slice(count))
    noisy = corrupt(test.images, "gaussian_noise", 5, derived_generator(0, "corruption"))
    plain = network.to(memory_format=torch.contiguous_format).eval()  # as whoever gets a network has it
    return noisy, test.labels, plain, found.title


def _row(case: str, seconds: np.ndarray) -> dict[str, Any]:
    """One row from (repeats, 2) seconds: medians, and the median of the paired ratios with a bootstrap interval."""
    ratios = seconds[:, 1] / seconds[:, 0]
    draws = np.random.default_rng(0).integers(len(ratios), size=(10_000, len(ratios)))
    low, high = np.quantile(np.median(ratios[draws], axis=1), [0.025, 0.975])
    ours, theirs = 1e3 * np.median(seconds, axis=0)
    return {
        "case": case,
        "unit": "ms",
        "n": len(ratios),
        "ours": float(ours),
        "peer": float(theirs),
        "ratio": float(np.median(ratios)),
        "low": float(low),
        "high": float(high),
    }
