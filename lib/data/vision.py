"""torchvision, importable also where its build does not match torch's: `from lib.data.vision import
torchvision`.

Where torch is a CPU build and torchvision a CUDA build, torchvision's compiled operators cannot be loaded,
and its import fails because it describes two of them (`nms`, `qnms`) to torch. Data sets and transforms need
neither: empty definitions let the import pass, and calling one of the two still fails. With matching builds
this is a plain import.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

stubs: torch.library.Library | None = None
"""The empty definitions, which live as long as this object; None where they were not needed."""


def _import() -> ModuleType:
    global stubs
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error) or "does not exist" not in str(error):
            raise
    # submodules of the failed import stay behind and would be taken for whole ones
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    stubs = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        stubs.define(schema)
    return importlib.import_module("torchvision")


torchvision = _import()
