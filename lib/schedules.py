"""Learning rates over training, as factors of the highest one: functions of the step, for `fit(schedule=…)`.

    fit(..., max_steps=steps, schedule=one_cycle(steps))
    fit(..., schedule=stepped([steps // 2, 3 * steps // 4]))       # divided by 10 at 50 % and at 75 %

Steps count from 0, so that the last of `steps` is `steps - 1`. Behind it the factor stays what it was.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

Schedule = Callable[[int], float]
"""From step to the factor of the learning rates."""


def triangular(steps: int, *, peak: float = 0.2, start: float = 0.0, end: float = 0.0) -> Schedule:
    """Linear from `start` up to 1 at `peak` of the way, and linear down to `end` at the last step's end."""
    top = _checked(steps, peak) * peak

    def factor(step: int) -> float:
        if step < top:
            return start + (1 - start) * step / top
        return 1 + (end - 1) * min(1.0, (step - top) / (steps - top))

    return factor


def one_cycle(steps: int, *, peak: float = 0.3, start: float = 1 / 25, end: float = 1 / 250_000) -> Schedule:
    """Smith's cycle (arXiv 1708.07120) with cosines, as `torch.optim.lr_scheduler.OneCycleLR` has it.

    From `start` up to 1 at `peak` of the way, and down to `end` at the last step.
    """
    top = _checked(steps, peak) * peak - 1

    def factor(step: int) -> float:
        if step <= top:
            return _cosine(start, 1.0, step / top)
        return _cosine(1.0, end, min(1.0, (step - top) / (steps - 1 - top)))

    return factor


def cosine(steps: int, *, warmup: int = 0, end: float = 0.0) -> Schedule:
    """Linear from 0 to 1 in `warmup` steps, then half a cosine down to `end` (Loshchilov and Hutter, arXiv 1608.03983)."""
    _checked(steps, 0.5)
    if not 0 <= warmup < steps:
        raise ValueError(f"warmup is {warmup}; 0 to {steps - 1} is wanted")

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return _cosine(1.0, end, min(1.0, (step - warmup) / (steps - warmup)))

    return factor


def stepped(milestones: Sequence[int], *, gamma: float = 0.1) -> Schedule:
    """1, times `gamma` from each milestone on: the first step with the new rate is the milestone itself."""
    places = list(milestones)
    if sorted(places) != places or (places and places[0] < 0):
        raise ValueError(f"milestones is {milestones!r}; steps in ascending order, none negative, are wanted")
    return lambda step: gamma ** bisect_right(places, step)


def every(period: int, *, gamma: float = 0.5) -> Schedule:
    """1, times `gamma` after each `period` steps."""
    if period < 1:
        raise ValueError(f"period is {period}; 1 or more is wanted")
    return lambda step: gamma ** (step // period)


def _cosine(first: float, last: float, way: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * way)) / 2


def _checked(steps: int, peak: float) -> int:
    if steps < 2 or not 0 < peak < 1:
        raise ValueError(
            f"steps is {steps} and peak is {peak}; 2 or more steps and a part between 0 and 1 are wanted"
        )
    return steps
