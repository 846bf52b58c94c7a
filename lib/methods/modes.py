"""A network in evaluation mode for a while.

with evaluating(network):
    answers = network(images)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def evaluating(network: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside, a module and all its parts are in evaluation mode; afterwards each part is in the mode that it was in.

    A network that is an ordinary function has no mode and is left alone.
    """
    modes = [(part, part.training) for part in network.modules()] if isinstance(network, nn.Module) else []
    for part, _ in modes:
        part.training = False
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
