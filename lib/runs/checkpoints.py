"""Checkpoints: the state of a long run in one safetensors file, from which it goes on exactly.

A state is nested dicts, lists and tuples of torch tensors, NumPy arrays, numbers, texts, truth values and None: an
optimiser's `state_dict()`, a generator's `get_state()`. Tensors become the file's tensors, the rest a JSON tree in its
metadata, with a checksum over both. Never pickle.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from lib.core import Checkpoint, InputError, Suspended, decode, encode
from lib.runs import files


class FileCheckpoint(Checkpoint):
    """A slot in a file.

    code: the fingerprint of the code that runs; a state saved by other code is not gone on from.
    every: seconds between two saves. deadline: `time.monotonic()` after which a save raises Suspended.
    """

    def __init__(self, path: Path, code: str, *, every: float, deadline: float | None = None) -> None:
        self.path, self.code, self.every, self.deadline = path, code, every, deadline
        self.last = time.monotonic()

    def load(self) -> Any | None:
        try:
            return _unpack(self.path.read_bytes(), self.code)
        except (FileNotFoundError, _Unusable):
            return None

    def due(self) -> bool:
        now = time.monotonic()
        return now - self.last >= self.every or (self.deadline is not None and now >= self.deadline)

    def save(self, state: Any) -> None:
        files.write_whole(self.path, _pack(state, self.code))
        self.last = time.monotonic()
        if self.deadline is not None and self.last >= self.deadline:
            raise Suspended(f"time is up; {self.path.name[:12]} goes on from its checkpoint")

    def clear(self) -> None:
        """Forget the state: the run has ended."""
        self.path.unlink(missing_ok=True)


class _Unusable(Exception):
    """Damaged, or saved by other code."""


def _pack(state: Any, code: str) -> bytes:
    from safetensors.torch import save

    tensors: dict[str, Any] = {}
    tree = json.dumps(_flatten(state, tensors))
    return save(tensors, metadata={"tree": tree, "code": code, "sum": _checksum(tree, code, tensors)})


def _unpack(content: bytes, code: str) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + size])["__metadata__"]
        tensors = load(content)
        whole = metadata["sum"] == _checksum(metadata["tree"], metadata["code"], tensors)
        if not whole or metadata["code"] != code:
            raise _Unusable
        return _restore(json.loads(metadata["tree"]), tensors)
    except (
        SafetensorError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        OverflowError,
        MemoryError,
    ) as error:
        raise _Unusable from error


def _checksum(tree: str, code: str, tensors: dict[str, Any]) -> str:
    import torch

    digest = hashlib.sha256(f"{code}\n{tree}".encode())
    for name in sorted(tensors, key=int):
        tensor = tensors[name].contiguous()
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy() if tensor.numel() else b"")
    return digest.hexdigest()


def _flatten(value: Any, tensors: dict[str, Any]) -> Any:
    import torch

    if isinstance(value, torch.Tensor | np.ndarray):
        name = str(len(tensors))
        if isinstance(value, torch.Tensor):
            kind, tensor = "tensor", value.detach()
        else:
            kind, tensor = "array", torch.from_numpy(np.ascontiguousarray(value))
        tensors[name] = tensor.cpu().contiguous().clone()
        return {kind: name}
    if isinstance(value, dict):
        return {"dict": [[_flatten(k, tensors), _flatten(v, tensors)] for k, v in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_flatten(v, tensors) for v in value]}
    if isinstance(value, list):
        return [_flatten(v, tensors) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return {"float": encode(value)} if isinstance(value, float) else value
    if isinstance(value, np.generic):
        return _flatten(value.item(), tensors)
    raise InputError(f"a checkpoint cannot hold a {type(value).__name__}")


def _restore(value: Any, tensors: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_restore(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    match kind:
        case "tensor":
            return tensors[inner]
        case "array":
            return tensors[inner].numpy()
        case "float":
            return float(decode(inner))
        case "tuple":
            return tuple(_restore(v, tensors) for v in inner)
        case _:
            return {_restore(k, tensors): _restore(v, tensors) for k, v in inner}
