"""A training step of a tiny recursive model: ours against the official implementation.

    git clone https://github.com/SamsungSAILMontreal/TinyRecursiveModels peer
    TRM_PEER=peer posts bench trm

The peer is the authors' code, which is not part of this project: the environment variable TRM_PEER names a copy of their
repository. Both sides have the same sizes (cells, width, layers, inner sizes, batch, recursion, no dummy tokens), the same
puzzles, AdamW on both sides (the authors' own optimiser is a CUDA extension), and the same precision. A step is all of it:
replacing the puzzles that are done, the recursions, the loss, gradients, optimiser, and the averaged weights. The peer's
loss is its own, a cross-entropy in double precision.

The two sides take turns in short blocks within one process, and swap who goes first. Ratios are paired by block.
"""

from __future__ import annotations

import importlib
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

from lib.core import InputError
from lib.data.sudoku import SHAPES, generate
from lib.methods.trm import Average, Batch, DeepSupervision, Limit, Nested, TinyRecursiveModel

NAME = "trm"
TITLE = "A training step of a tiny recursive model"
VARIABLE = "TRM_PEER"
STEPS = 2
"""Steps a block on a CPU; ten times as many on a GPU."""

CASES = {
    "6 × 6, width 64, T = n = 2, batch 64": {
        "shape": "6x6", "width": 64, "n": 2, "T": 2, "limit": 8, "batch": 64, "on": "cpu",
    },
    "9 × 9, width 128, T = 3, n = 6, batch 16": {
        "shape": "9x9", "width": 128, "n": 6, "T": 3, "limit": 16, "batch": 16, "on": "cpu",
    },
    "9 × 9, width 512, T = 3, n = 6, batch 768": {
        "shape": "9x9", "width": 512, "n": 6, "T": 3, "limit": 16, "batch": 768, "on": "cuda",
    },
}  # fmt: skip
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Block = Callable[[int], None]


# --- the peer --------------------------------------------------------------------------------------------------------


def peer_modules() -> tuple[ModuleType, ModuleType]:
    """The authors' model and losses, from the copy that TRM_PEER names. Raises InputError where there is none."""
    given = os.environ.get(VARIABLE, "")
    place = Path(given).expanduser()
    if not given or not (place / "models" / "recursive_reasoning" / "trm.py").is_file():
        raise InputError(
            f"{VARIABLE} is {given!r}; the path of a copy of github.com/SamsungSAILMontreal/TinyRecursiveModels is wanted"
        )
    if "einops" not in sys.modules and importlib.util.find_spec("einops") is None:
        sys.modules["einops"] = ModuleType("einops")  # imported by the peer, called by its attention alone
    sys.path.insert(0, str(place))
    try:
        return importlib.import_module("models.recursive_reasoning.trm"), importlib.import_module(
            "models.losses"
        )
    except ModuleNotFoundError as error:
        raise InputError(f"the peer needs {error.name}, which is not installed") from error
    finally:
        sys.path.remove(str(place))


def theirs(case: dict[str, Any], puzzles: Tensor, solutions: Tensor, precision: str, device: str) -> Block:
    """The authors' model in their loss head, with their loop's order of things."""
    model_module, loss_module = peer_modules()
    cells, digits = puzzles.shape[1], int(solutions.max())
    options = {
        "batch_size": case["batch"],
        "seq_len": cells,
        "puzzle_emb_ndim": 0,
        "puzzle_emb_len": 0,
        "num_puzzle_identifiers": 1,
        "vocab_size": digits + 2,
        "H_cycles": case["T"],
        "L_cycles": case["n"],
        "H_layers": 0,
        "L_layers": 2,
        "hidden_size": case["width"],
        "expansion": 4,
        "num_heads": 8,
        "pos_encodings": "none",
        "halt_max_steps": case["limit"],
        "halt_exploration_prob": 0.1,
        "forward_dtype": {"fp32": "float32", "bf16": "bfloat16"}[precision],
        "mlp_t": True,
    }
    with torch.device(device):
        model = model_module.TinyRecursiveReasoningModel_ACTV1(options)
        head: nn.Module = loss_module.ACTLossHead(model, "stablemax_cross_entropy")
    if device == "cuda":
        head = torch.compile(head)  # type: ignore[assignment]
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=1.0)
    shadow = {name: weight.detach().clone() for name, weight in head.named_parameters()}
    batch = {
        "inputs": puzzles.to(torch.int32) + 1,
        "labels": solutions.to(torch.int32) + 1,
        "puzzle_identifiers": torch.zeros(len(puzzles), dtype=torch.int32, device=device),
    }
    with torch.device(device):
        carry = head.initial_carry(batch)

    def block(steps: int) -> None:
        nonlocal carry
        head.train()
        for _ in range(steps):
            with torch.device(device):
                carry, loss, *_ = head(carry=carry, batch=batch, return_keys=[])
            (loss / case["batch"]).backward()
            optimizer.step()
            optimizer.zero_grad()
            for name, weight in head.named_parameters():
                shadow[name] = 0.001 * weight.data + 0.999 * shadow[name]

    return block


# --- ours ------------------------------------------------------------------------------------------------------------


def ours(case: dict[str, Any], puzzles: Tensor, solutions: Tensor, precision: str, device: str) -> Block:
    """`DeepSupervision`, as the experiments use it."""
    cells, digits = puzzles.shape[1], int(solutions.max())
    model = TinyRecursiveModel(cells=cells, digits=digits, width=case["width"], multiple=256).to(device)
    if device == "cuda":
        model.core.compile()
    fused = device == "cuda"
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=1.0, fused=fused, foreach=not fused
    )
    batch, think = Batch(puzzles, solutions), Nested(case["n"], case["T"])
    training = DeepSupervision(
        model,
        optimizer,
        lambda step: batch,
        think=lambda step: think,
        limit=Limit(case["limit"]),
        seed=0,
        lr=1e-4,
        average=Average(model, 0.999),
        autocast=None if precision == "fp32" else torch.bfloat16,
    )

    def block(steps: int) -> None:
        for _ in range(steps):
            training.step()

    return block


# --- side by side ----------------------------------------------------------------------------------------------------


def alternate(sides: tuple[Block, Block], repeats: int, steps: int, device: str) -> np.ndarray:
    """Milliseconds a step, 2 sides × repeats, after two blocks of each that are not counted; processor time on a CPU."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    for block in sides * 2:
        block(steps)
    found = np.empty((2, repeats))
    for repeat in range(repeats):
        for side in (0, 1) if repeat % 2 == 0 else (1, 0):
            if device == "cuda":
                torch.cuda.synchronize()
            started = clock()
            sides[side](steps)
            if device == "cuda":
                torch.cuda.synchronize()
            found[side, repeat] = 1e3 * (clock() - started) / steps
    return found


def row(case: str, unit: str, mine: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """Medians, and the median of the paired ratios with its 95 % bootstrap interval."""
    ratios = other / mine
    draws = np.random.default_rng(0).integers(len(ratios), size=(10_000, len(ratios)))
    low, high = np.quantile(np.median(ratios[draws], axis=1), [0.025, 0.975])
    return {
        "case": case,
        "ours": float(np.median(mine)),
        "peer": float(np.median(other)),
        "unit": unit,
        "ratio": float(np.median(ratios)),
        "low": float(low),
        "high": float(high),
        "n": len(ratios),
    }


def run(*, repeats: int = 5, threads: int = 1, cases: tuple[str, ...] = tuple(CASES)) -> dict[str, Any]:
    """Compare in both precisions on a CPU, and where there is a GPU on it too; last, what bf16 gains on our side alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    rows = []
    try:
        for name in cases:
            case = CASES[name]
            device = str(case["on"])
            if device == "cuda" and not torch.cuda.is_available():
                continue
            puzzles, solutions = (
                torch.from_numpy(grids).to(device)
                for grids in generate(case["batch"], SHAPES[case["shape"]], 0)
            )
            mine: dict[str, Block] = {}
            for precision in TYPES if device == "cpu" else ("bf16",):
                mine[precision] = ours(case, puzzles, solutions, precision, device)
                sides = (mine[precision], theirs(case, puzzles, solutions, precision, device))
                found = alternate(sides, repeats, STEPS if device == "cpu" else 10 * STEPS, device)
                rows.append(row(f"{name}, {device.upper()}, {precision}", "ms", *found))
            if len(mine) == 2:
                found = alternate((mine["bf16"], mine["fp32"]), repeats, STEPS, device)
                rows.append(row(f"{name}, ours in bf16 against ours in fp32", "ms", *found))
    finally:
        torch.set_num_threads(before)
    notes = [
        f"One training step, MLP variant without dummy tokens, AdamW, equal sizes and precision; {threads} thread(s). "
        "On a CPU processor time, without torch.compile; on a GPU both sides compiled.",
        "The peer is the authors' repository, github.com/SamsungSAILMontreal/TinyRecursiveModels, given by path.",
    ]
    return {"rows": rows, "notes": notes}
