"""Published records: what the site shows, packed by experiment into `posts/<slug>/results/<profile>/`.

A pack is a sealed document (`lib.runs.records`) `<experiment>.json`, one record a line, with the arrays of all of them
beside it in `<experiment>.<sum>.safetensors`. The arrays have a name of their own for each content, and the document
that names them is renamed into place last: a reader sees the old pack or the new one, whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lib.core import PROFILES, InputError, Profile, Record, canonical, sha256
from lib.runs import files
from lib.runs.records import (
    Damaged,
    pack_arrays,
    record_from_plain,
    record_to_plain,
    seal,
    unpack_arrays,
    unseal,
)

LIMIT = 2 * 1024**2
"""Bytes that the published records of one post may take."""


def folder(project: Path, slug: str, profile: str) -> Path:
    """Where the packs of a post and profile lie."""
    return project / "posts" / slug / "results" / profile


def available(project: Path, slug: str) -> dict[str, list[Profile]]:
    """The profiles published of each experiment, the best first."""
    out: dict[str, list[Profile]] = {}
    for profile in reversed(PROFILES):
        for path in sorted(folder(project, slug, profile).glob("*.json")):
            out.setdefault(path.stem, []).append(profile)
    return out


def read(project: Path, slug: str, profile: str, experiment: str) -> list[Record]:
    """The records of a pack, in the order of the profile. Raises InputError where there is none, Damaged."""
    path = folder(project, slug, profile) / f"{experiment}.json"
    if not path.is_file():
        raise InputError(f"{slug} has no published records of {experiment} at {profile}")
    body = unseal(path.read_bytes(), str(path), _layout)
    arrays: dict[str, np.ndarray] = {}
    if body["arrays"]:
        beside = _arrays_path(path, body["arrays"])
        try:
            arrays = unpack_arrays(beside.read_bytes(), body["arrays"], str(beside))
        except FileNotFoundError as error:
            raise Damaged(f"{beside} is missing, though {path.name} names it") from error
    own: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        key, _, short = name.partition("/")
        own.setdefault(key, {})[short] = array
    records = []
    for plain in body["records"]:
        provenance = plain["provenance"] | {"code": body["codes"][plain["provenance"]["code"]]}
        records.append(
            record_from_plain(plain | {"provenance": provenance}, own.get(plain["key"], {}), str(path))
        )
    return records


def read_all(project: Path, slug: str) -> dict[str, Record]:
    """Every published record of a post by key, whichever profiles it is in."""
    found: dict[str, Record] = {}
    for experiment, profiles in available(project, slug).items():
        for profile in profiles:
            for record in read(project, slug, profile, experiment):
                found.setdefault(record.key, record)
    return found


def size_of(project: Path, slug: str) -> int:
    """Bytes that the published records of a post take."""
    return sum(
        path.stat().st_size for path in (project / "posts" / slug / "results").rglob("*") if path.is_file()
    )


def write(
    project: Path, slug: str, profile: str, experiment: str, records: Sequence[Record], of: int
) -> Path:
    """Pack records; `of` is the number of configs that the profile lists. Raises InputError over the size limit.

    The same records give the same bytes.
    """
    path = folder(project, slug, profile) / f"{experiment}.json"
    codes = {record.provenance.code_fingerprint: dict(record.provenance.code) for record in records}
    plain: list[dict[str, Any]] = []
    for record in records:
        short = record_to_plain(replace(record, provenance=replace(record.provenance, code={})))
        short["provenance"]["code"] = record.provenance.code_fingerprint
        plain.append(short)
    arrays = {f"{record.key}/{name}": value for record in records for name, value in record.arrays.items()}
    content = pack_arrays(arrays) if arrays else b""
    checksum = sha256(content) if arrays else ""
    body = {"experiment": experiment, "post": slug, "profile": profile, "of": of}
    document = seal(body | {"arrays": checksum, "codes": codes, "records": plain}, _layout)
    mine = [path, *path.parent.glob(f"{experiment}.*.safetensors")]
    others = size_of(project, slug) - sum(p.stat().st_size for p in mine if p.exists())
    if others + len(content) + len(document) > LIMIT:
        raise InputError(
            f"{slug}: publishing {experiment} at {profile} takes {(len(content) + len(document)) / 1024:.0f} kB beside "
            f"{others / 1024:.0f} kB; at most {LIMIT // 1024} kB a post: record less, or drop an experiment"
        )
    if arrays:
        files.write_whole(_arrays_path(path, checksum), content)
    files.write_whole(path, document)
    for old in path.parent.glob(f"{experiment}.*.safetensors"):
        if not arrays or old != _arrays_path(path, checksum):
            old.unlink(missing_ok=True)
    return path


def best(candidates: Iterable[Record | None], stale: Callable[[Record], object]) -> Record | None:
    """Of several records of one config: a finished one, not stale before stale, the newest."""
    finished = [record for record in candidates if record is not None and record.finished]
    return max(finished, key=lambda record: (not stale(record), record.provenance.date), default=None)


def _arrays_path(path: Path, checksum: str) -> Path:
    return path.with_name(f"{path.stem}.{checksum[:8]}.safetensors")


def _layout(document: dict[str, Any]) -> str:
    """A sealed pack on many lines, one for each record and each code, so that a change is a small diff."""
    body = document["body"]
    head = {name: value for name, value in document.items() if name != "body"}
    rest = {name: value for name, value in body.items() if name not in ("records", "codes")}
    codes = ",\n".join(
        f"{canonical(name)}:{canonical(value)}" for name, value in sorted(body["codes"].items())
    )
    records = ",\n".join(canonical(record) for record in body["records"])
    inner = canonical(rest)[1:-1]
    return f'{{{canonical(head)[1:-1]},\n"body":{{{inner},\n"codes":{{\n{codes}\n}},\n"records":[\n{records}\n]}}}}\n'
