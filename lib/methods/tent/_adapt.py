"""`adapt`: a method by name."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from torch import nn

from lib.methods.tent._adapted import Adapted, Source
from lib.methods.tent._lame import Lame
from lib.methods.tent._learning import Eata, Norm, PseudoLabels, Sar, Tent
from lib.methods.tent._memo import Memo

METHODS: dict[str, type[Adapted]] = {
    "source": Source,
    "norm": Norm,
    "tent": Tent,
    "pseudo": PseudoLabels,
    "eata": Eata,
    "sar": Sar,
    "lame": Lame,
    "memo": Memo,
}


def adapt(model: nn.Module, method: str = "tent", **options: Any) -> Adapted:
    """A copy of `model` that adapts by one of METHODS; `model` is left as it is.

    options: of that method's class: TENT has lr, steps, parameters, optimizer, prior, episodic. Raises ValueError for an
    unknown method or option, for a value that makes no sense, and for a model without what the method adapts.
    """
    if method not in METHODS:
        near = difflib.get_close_matches(str(method), METHODS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no method {method!r}: {', '.join(METHODS)} are known{hint}")
    known = _options(METHODS[method])
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"{method!r} has no option {', '.join(unknown)}; it has {', '.join(known)}")
    return METHODS[method](model, **options)


def _options(kind: type[Adapted]) -> list[str]:
    """The keyword arguments that a class takes, those that it passes on included."""
    names: list[str] = []
    for base in kind.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        names += [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in names]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names
