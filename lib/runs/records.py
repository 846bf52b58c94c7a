"""Records as bytes: JSON that carries its own checksum, arrays in safetensors.

A sealed document is one canonical JSON text `{"body": …, "schema": …, "sha256": …}`. It is accepted only if writing it
again gives the same bytes and the checksum is that of body and schema, so any changed byte is noticed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from lib.core import PostsError, Provenance, Record, canonical, decode, encode, sha256

SCHEMA = 1
"""Raised when a body changes shape; `UPGRADES[n]` turns a body of schema n into one of n + 1."""

UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


class Damaged(PostsError):
    """A record or artifact whose bytes are not those that were written."""


def seal(body: Mapping[str, Any], layout: Callable[[Any], str] = canonical) -> bytes:
    """`body` with its schema and checksum. `layout` writes the document, on more lines perhaps."""
    sealed = {"body": body, "schema": SCHEMA}
    return layout(sealed | {"sha256": sha256(canonical(sealed))}).encode()


def unseal(content: bytes, where: str, layout: Callable[[Any], str] = canonical) -> dict[str, Any]:
    """The body of a sealed document, upgraded to today's schema. Raises Damaged, naming `where`."""
    try:
        document = json.loads(content)
        body, schema = document["body"], document["schema"]
        checksum = sha256(canonical({"body": body, "schema": schema}))
        whole = checksum == document["sha256"] and layout(document).encode() == content
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{where} is damaged ({type(error).__name__})") from error
    if not whole or not isinstance(body, dict):
        raise Damaged(f"{where} is damaged: its checksum does not fit")
    if schema > SCHEMA:
        raise Damaged(f"{where} has schema {schema}; this version reads up to {SCHEMA}: update the project")
    for version in range(schema, SCHEMA):
        body = UPGRADES[version](body)
    return body


def record_to_plain(record: Record) -> dict[str, Any]:
    """Everything but the arrays, JSON-ready."""
    return {
        "post": record.post,
        "experiment": record.experiment,
        "key": record.key,
        "config": dict(record.config),
        "outcome": record.outcome,
        "metrics": encode(dict(record.metrics)),
        "series": encode(dict(record.series)),
        "provenance": asdict(record.provenance),
        "error": record.error,
    }


def record_from_plain(plain: Mapping[str, Any], arrays: Mapping[str, np.ndarray], where: str) -> Record:
    """The inverse of `record_to_plain`. Raises Damaged for a body that lacks something."""
    try:
        return Record(
            post=plain["post"],
            experiment=plain["experiment"],
            key=plain["key"],
            config=plain["config"],
            outcome=plain["outcome"],
            metrics=decode(plain["metrics"]),
            series=decode(plain["series"]),
            arrays=dict(arrays),
            provenance=Provenance(**plain["provenance"]),
            error=plain["error"],
        )
    except (KeyError, TypeError) as error:
        raise Damaged(f"{where} is damaged: {error} is missing or wrong") from error


def pack_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays by name as the bytes of one safetensors file."""
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(value) for name, value in sorted(arrays.items())})


def unpack_arrays(content: bytes, checksum: str, where: str) -> dict[str, np.ndarray]:
    """The inverse of `pack_arrays`; Damaged where the checksum does not fit."""
    from safetensors.numpy import load

    if sha256(content) != checksum:
        raise Damaged(f"{where} is damaged: its checksum does not fit")
    return load(content)
