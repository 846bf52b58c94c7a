"""The store: a folder of records and artifacts, addressed by the hash of post, experiment and config.

    store = Store(".store")
    record = store.get(config)              # None where the config was not computed yet
    arrays = store.artifact(config)         # None where there is none

Layout: `<post>/<experiment>/<key>.json` (sealed, see `lib.runs.records`), `<key>.<sum>.safetensors` for its arrays,
`<key>.artifact.<sum>.safetensors`, `<key>.checkpoint`, and `locks/<key>`. Arrays are written before the record that
names their checksum, under a name of their own, so that a record is never seen without them nor with another's. A
damaged file is never shown: reading it raises Damaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from lib.core import Config, InputError, Record, sha256
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


class Store:
    """Records and artifacts under one folder, shared safely by any number of processes of one machine."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def place(self, post: str, experiment: str, key: str, suffix: str = ".json") -> Path:
        """Where a file of a config lies."""
        return self.path / post / experiment / f"{key}{suffix}"

    def _of(self, config: Config, suffix: str = ".json") -> Path:
        return self.place(config.post, config.experiment, config.key, suffix)

    def get(self, config: Config) -> Record | None:
        """The record of a config, or None. Raises Damaged, naming the file."""
        return self._read(self._of(config), config.key)

    def date(self, config: Config) -> str | None:
        """When the record of a config was made; None where there is none that can be read."""
        try:
            record = self.get(config)
        except Damaged:
            return None
        return record.provenance.date if record is not None else None

    def _read(self, path: Path, key: str) -> Record | None:
        try:
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        body = unseal(content, str(path))
        if body.get("key") != key:
            raise Damaged(f"{path} is the record of another config ({str(body.get('key'))[:12]})")
        arrays = {}
        if body.get("arrays"):
            arrays = self._arrays(path, "", body["arrays"])
        return record_from_plain(body, arrays, str(path))

    @staticmethod
    def _beside(path: Path, kind: str, checksum: str) -> Path:
        return path.with_name(f"{path.stem}{kind}.{checksum[:8]}.safetensors")

    def _arrays(self, path: Path, kind: str, checksum: str) -> dict[str, np.ndarray]:
        place = self._beside(path, kind, checksum)
        try:
            return unpack_arrays(place.read_bytes(), checksum, str(place))
        except FileNotFoundError as error:
            raise Damaged(f"{place} is missing, though a record names it") from error

    def put(self, record: Record, artifact: Mapping[str, np.ndarray] | None = None) -> None:
        """Keep a record (and the artifact its run made) in place of an earlier one."""
        path = self.place(record.post, record.experiment, record.key)
        body = record_to_plain(record)
        before, beside = self._named(path), set()
        for name, kind, arrays in (("arrays", "", record.arrays), ("artifact", ".artifact", artifact)):
            if arrays:
                content = pack_arrays(arrays)
                body[name] = sha256(content)
                place = self._beside(path, kind, body[name])
                files.write_whole(place, content)
                beside.add(place)
        files.write_whole(path, seal(body))
        for old in before - beside:
            old.unlink(missing_ok=True)

    def _named(self, path: Path) -> set[Path]:
        """The files of arrays that belong to the record in `path`; a folder of many thousands is not searched for them."""
        try:
            body = unseal(path.read_bytes(), str(path))
        except OSError:  # there is none, or the write that follows will say why
            return set()
        except Damaged:
            return set(path.parent.glob(f"{path.stem}.*safetensors"))
        kinds = {"arrays": "", "artifact": ".artifact"}
        return {self._beside(path, kind, body[name]) for name, kind in kinds.items() if body.get(name)}

    def artifact(self, config: Config) -> dict[str, np.ndarray] | None:
        """The artifact of a config, or None where its run was not computed here or makes none. Raises Damaged."""
        path = self._of(config)
        if not path.exists():
            return None
        checksum = unseal(path.read_bytes(), str(path)).get("artifact")
        return self._arrays(path, ".artifact", checksum) if checksum else None

    def records(self, post: str, experiment: str | None = None) -> Iterator[Record]:
        """All records of a post (of one of its experiments). Damaged ones raise."""
        pattern = f"{experiment or '*'}/*.json"
        for path in sorted((self.path / post).glob(pattern)):
            record = self._read(path, path.stem)
            if record is not None:
                yield record

    def checkpoint(self, config: Config) -> Path:
        """The file in which a run of this config keeps its state."""
        return self._of(config, ".checkpoint")

    def set_aside(self, config: Config) -> Path:
        """Rename a damaged record so that the config can be computed again; the new name. Raises InputError."""
        path = self._of(config)
        aside = path.with_suffix(".damaged")
        try:
            path.replace(aside)
        except OSError as error:
            raise InputError(f"cannot set {path} aside: {error.strerror or error}") from error
        return aside

    def lock(self, config: Config, *, wait: bool) -> AbstractContextManager[bool]:
        """The right to compute a config; yields whether it is ours."""
        return files.lock(self.path / "locks" / config.key, wait=wait)
