"""A small post for the tests of the run model: walks that take steps, one kind of which starts from another's end.

Copied into `lib/experiments/` of a copy of the project. Every run that ends is noted in the file TOY_LOG.
"""

from __future__ import annotations

import os
import signal
import time
from functools import singledispatch
from typing import Literal

import numpy as np
import torch

from lib.core import Config, Context, Result


class Walk(Config, post="toy-post", experiment="walk"):
    """A random walk of `steps` steps of `pause` seconds; `trouble` is what happens at the last step."""

    steps: int
    pause: float
    seed: int
    trouble: Literal["", "error", "memory", "kill", "diverge", "data"] = ""


class Onward(Config, post="toy-post", experiment="onward"):
    """A step from where a walk ended."""

    start: Walk
    seed: int


def configs(profile):
    """Eight walks, and two steps onward; more and longer ones at larger profiles."""
    pause = float(os.environ.get("TOY_PAUSE", "0"))
    steps = {"smoke": 20, "laptop": 60, "full": 200}[profile]
    walks = [Walk(steps=steps, pause=pause, seed=seed) for seed in range(8)]
    return [*walks, *(Onward(start=walk, seed=walk.seed) for walk in walks[:2])]


@singledispatch
def run(config: Config, context: Context) -> Result:
    """Compute a config."""
    raise TypeError(config)


@run.register
def walk(config: Walk, context: Context) -> Result:
    """Gaussian steps, with a checkpoint whenever one is due."""
    generator = torch.Generator().manual_seed(config.seed)
    state = context.checkpoint.load() or {"step": 0, "at": torch.zeros(2), "path": []}
    generator.set_state(state.get("generator", generator.get_state()))
    at, path = state["at"], state["path"]
    for step in range(state["step"], config.steps):
        at = at + torch.randn(2, generator=generator)
        path.append(float(at.norm()))
        time.sleep(config.pause)
        context.progress(step + 1, config.steps)
        if context.checkpoint.due():
            context.checkpoint.save(
                {"step": step + 1, "at": at, "path": path, "generator": generator.get_state()}
            )
    trouble(config, context)
    note(config)
    outcome = "diverged" if config.trouble == "diverge" else "done"
    return Result({"distance": path[-1]}, {"path": path}, {"end": at.numpy()}, {"end": at.numpy()}, outcome)


@run.register
def onward(config: Onward, context: Context) -> Result:
    """One more step."""
    end = context.artifact(config.start)["end"]
    note(config)
    return Result({"distance": float(np.linalg.norm(end + 1))})


def trouble(config: Walk, context: Context) -> None:
    """What a test asked for."""
    match config.trouble:
        case "error":
            raise ValueError("the walk went astray")
        case "memory":
            raise MemoryError
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "data":
            context.data("no-such-set")


def note(config: Config) -> None:
    """Append the config's key to TOY_LOG."""
    if log := os.environ.get("TOY_LOG"):
        with open(log, "a") as file:
            file.write(config.key + "\n")
