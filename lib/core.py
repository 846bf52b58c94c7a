"""The words that all rooms share: Config, Profile, Context, Result, Record.

The run model, in one page
--------------------------

A **config** is a frozen, typed value that decides one run completely: the arm, the data set, the budget, the seed.
Each experiment has a config class of its own, which names its post and itself, so that a config alone is enough to
find the code that runs it and the place of its record::

    class NoiseCurve(Config, post="dl-massive-label-noise", experiment="noise_curve"):
        network: Literal["perceptron", "mlp2"]
        alpha: int
        lr: float
        data: str = "mnist"
        seed: int = 0

`lib/experiments/<post>.py` holds three things: the config classes, `configs(profile)`, which lists the configs of a
**profile** (`smoke`, `laptop`, `full`; a profile is nothing but such a list), and `run(config, context)`, a
`functools.singledispatch` with one handler for each config class. A handler is pure but for what its **context** gives:
device, data, the artifacts of other configs, progress, and a checkpoint slot. It returns a **Result**: scalar metrics,
series, arrays, and, where another run needs it, an artifact.

The store (`lib.runs.store`) wraps a result into a **Record**: config, outcome, results, and the provenance. A record is
addressed by `config.key`, the hash of post, experiment and config, so the same config in two profiles is one run, and a
machine without the data can look it up. Its `digest` covers config, outcome and results only: two computations of one
config on the same kind of machine must agree in it. A record made by other code than today's is *stale*, not lost.

Something cheap that shares its data with its neighbours (learning rates, initialisations) may be one field of a config,
a tuple, and be trained as one stack: every member is in the result. Across configs nothing is stacked, so that a sweep
gives the same digests whichever runs were there already.

Rules for a config that outlives its author
-------------------------------------------

- Fields are `str`, `int`, `float`, `bool`, `Literal`s of these, `None`-able ones, tuples of these, or other configs.
- A field added after records exist is declared with `later(default)`: it is left out of the key while it has that
  default, so old records stay the records of what they computed.
- Never change a default in place: it would give an old key a new meaning. Spell the value out in `configs` instead.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

Profile = Literal["smoke", "laptop", "full"]
PROFILES: tuple[Profile, ...] = typing.get_args(Profile)
"""Smallest first: a later profile is the better evidence."""

Outcome = Literal["done", "diverged", "out of memory", "error"]
FINISHED: tuple[Outcome, ...] = ("done", "diverged")
"""Outcomes that are results. The other two are failures: kept to be looked at, computed again by the next sweep."""

Scalar = str | int | float | bool


class PostsError(Exception):
    """An error whose message is complete for the person who reads it: no traceback is needed."""


class InputError(PostsError, ValueError):
    """What was asked for cannot be: unknown name, wrong type, unreadable file. The command exits with status 2."""


class Suspended(PostsError):
    """A run stopped at a checkpoint because its time was up; it goes on from there when it is asked for again."""


def later(default: Any) -> Any:
    """A config field added after records exist: left out of the key while it equals `default`."""
    return field(default=default, metadata={"later": True})


# --- configs -------------------------------------------------------------------------------------------------------


@typing.dataclass_transform(frozen_default=True, kw_only_default=True)
@dataclass(frozen=True, kw_only=True)
class Config:
    """Base of all configs; a subclass is made a frozen dataclass and checked when it is created.

    Subclass arguments: `post` (a slug) and `experiment`; a subclass of a concrete config may give a new `experiment`
    alone. Raises InputError for a value whose type is not the field's.
    """

    post: ClassVar[str] = ""
    experiment: ClassVar[str] = ""

    def __init_subclass__(
        cls, *, post: str | None = None, experiment: str | None = None, **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        if post is not None:
            cls.post = post
        if experiment is not None:
            cls.experiment = experiment
        dataclass(frozen=True, kw_only=True)(cls)

    def __post_init__(self) -> None:
        hints = _hints(type(self))
        for item in dataclasses.fields(self):
            value = _checked(getattr(self, item.name), hints[item.name], f"{type(self).__name__}.{item.name}")
            object.__setattr__(self, item.name, value)

    def to_dict(self) -> dict[str, Any]:
        """Every field, JSON-ready; a nested config carries its post and experiment."""
        return {item.name: _plain(getattr(self, item.name)) for item in dataclasses.fields(self)}

    @property
    def identity(self) -> dict[str, Any]:
        """What the key hashes: all fields but those declared with `later` that still have their default."""
        return {
            item.name: _plain(getattr(self, item.name), identity=True)
            for item in dataclasses.fields(self)
            if not (item.metadata.get("later") and getattr(self, item.name) == item.default)
        }

    @property
    def key(self) -> str:
        """64 hexadecimal digits: SHA-256 of post, experiment and config."""
        return sha256(canonical({"post": self.post, "experiment": self.experiment, "config": self.identity}))

    def replace(self, **changes: Any) -> typing.Self:
        """The same config with some fields changed."""
        unknown = set(changes) - {item.name for item in dataclasses.fields(self)}
        if unknown:
            raise InputError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        return dataclasses.replace(self, **changes)

    def label(self) -> str:
        """One short line for progress and error messages: `noise_curve network=mlp2 alpha=50 …`."""
        return " ".join(
            [
                self.experiment,
                *(f"{f.name}={_brief(getattr(self, f.name))}" for f in dataclasses.fields(self)),
            ]
        )


def _hints(cls: type[Config], cache: dict[type, dict[str, Any]] = {}) -> dict[str, Any]:  # noqa: B006
    if cls not in cache:
        cache[cls] = typing.get_type_hints(cls)
    return cache[cls]


def _checked(value: Any, hint: Any, where: str) -> Any:
    """`value` if it fits `hint` (an int where a float is wanted becomes one), else InputError."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if any(value == option and type(value) is type(option) for option in args):
            return value
        raise InputError(f"{where} is {value!r}; one of {', '.join(map(repr, args))} is wanted")
    if origin in (typing.Union, types.UnionType):
        for option in args:
            try:
                return _checked(value, option, where)
            except InputError:
                continue
        raise InputError(f"{where} is {value!r}; {hint} is wanted")
    if origin is tuple:
        if isinstance(value, list | tuple):
            if len(args) == 2 and args[1] is Ellipsis:
                return tuple(_checked(item, args[0], f"{where}[{i}]") for i, item in enumerate(value))
            if len(args) == len(value):
                return tuple(
                    _checked(item, arg, f"{where}[{i}]")
                    for i, (item, arg) in enumerate(zip(value, args, strict=True))
                )
        raise InputError(f"{where} is {value!r}; {hint} is wanted")
    if hint is float and type(value) is int:
        value = float(value)
    if hint is float and isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{where} is {value!r}; a finite number is wanted")
    if hint is type(None):
        if value is None:
            return None
    elif hint in (str, int, float, bool):
        if type(value) is hint:
            return value
    elif isinstance(hint, type) and issubclass(hint, Config):
        if isinstance(value, hint):
            return value
    else:
        raise InputError(f"{where}: a config field cannot have the type {hint}")
    raise InputError(
        f"{where} is {value!r} ({type(value).__name__}); {getattr(hint, '__name__', hint)} is wanted"
    )


def _brief(value: Any) -> str:
    if isinstance(value, Config):
        return f"{value.experiment}:{value.key[:8]}"
    return ",".join(map(_brief, value)) if isinstance(value, tuple) else str(value)


def _plain(value: Any, identity: bool = False) -> Any:
    if isinstance(value, Config):
        inner = value.identity if identity else value.to_dict()
        return {"post": value.post, "experiment": value.experiment, "config": inner}
    if isinstance(value, tuple):
        return [_plain(item, identity) for item in value]
    return value


# --- results -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """What a run found.

    metrics: scalars by name (accuracies as fractions, times in seconds).
    series: lists of numbers by name, one value a step, epoch or evaluation.
    arrays: NumPy arrays by name, for figures.
    artifact: arrays by name, for another run (`context.artifact`); None where the run makes none.
    outcome: "done", or "diverged" where the loss left the finite numbers: that is a result too.
    """

    metrics: Mapping[str, Scalar] = field(default_factory=dict)
    series: Mapping[str, list[float]] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    artifact: Mapping[str, np.ndarray] | None = None
    outcome: Literal["done", "diverged"] = "done"

    def __post_init__(self) -> None:
        for name, value in self.metrics.items():
            if not isinstance(value, str | int | float | bool | np.generic) or value in _NON_FINITE:
                raise InputError(f"metric {name!r} is {value!r}; a number, a truth value or a text is wanted")
        object.__setattr__(self, "metrics", {k: _scalar(v) for k, v in self.metrics.items()})
        object.__setattr__(self, "series", {k: [_scalar(x) for x in v] for k, v in self.series.items()})
        object.__setattr__(self, "arrays", {k: np.ascontiguousarray(v) for k, v in self.arrays.items()})


@dataclass(frozen=True)
class Provenance:
    """Where a record comes from. Nothing in here enters the digest.

    data: fingerprint of each data set that was read, by name. code: the hash of each definition that the run went
    through, by `module:name` (see `lib.runs.fingerprints`). commit: the commit the tree was on, and whether it was
    clean. Times in seconds, memory in MiB (highest resident size of the process during the run).
    """

    data: Mapping[str, str]
    code: Mapping[str, str]
    commit: str
    clean: bool
    versions: Mapping[str, str]
    device: str
    threads: int
    wall_s: float
    cpu_s: float
    peak_mb: float
    date: str

    @property
    def code_fingerprint(self) -> str:
        """One hash for all of the code that the run went through."""
        return sha256(canonical(dict(self.code)))[:16]


@dataclass(frozen=True)
class Record:
    """What a run leaves in the store: its config as plain values, outcome, results and provenance."""

    post: str
    experiment: str
    key: str
    config: Mapping[str, Any]
    outcome: Outcome
    metrics: Mapping[str, Scalar]
    series: Mapping[str, list[float]]
    arrays: Mapping[str, np.ndarray]
    provenance: Provenance
    error: str = ""

    @property
    def finished(self) -> bool:
        """Whether this is a result (a diverged run is one) and not a failure."""
        return self.outcome in FINISHED

    @property
    def digest(self) -> str:
        """SHA-256 of config, outcome and results: equal for two computations that agree bit for bit."""
        body = {
            "post": self.post,
            "experiment": self.experiment,
            "config": dict(self.config),
            "outcome": self.outcome,
            "metrics": encode(dict(self.metrics)),
            "series": encode(dict(self.series)),
            "arrays": {name: array_digest(value) for name, value in sorted(self.arrays.items())},
        }
        return sha256(canonical(body))


# --- context -------------------------------------------------------------------------------------------------------


class Checkpoint(ABC):
    """The slot in which a long run keeps its state: nested dicts, lists and tuples of tensors, arrays and scalars."""

    @abstractmethod
    def load(self) -> Any | None:
        """The last saved state, or None. A state saved by other code, or damaged, counts as none."""

    @abstractmethod
    def due(self) -> bool:
        """Whether it is time to save again."""

    @abstractmethod
    def save(self, state: Any) -> None:
        """Keep `state` in place of the last one. Raises Suspended when the run's time is up."""


class Context(ABC):
    """All that a run may use besides its config.

    device: a torch device by name. The implementation is `lib.runs.context.RunContext`; `NoCheckpoint` and a subclass
    with two methods are enough to call a handler in a test.
    """

    device: str = "cpu"

    @abstractmethod
    def data(self, name: str) -> Any:
        """The data set `name` on this context's device (`lib.data.load`); its fingerprint enters the provenance."""

    @abstractmethod
    def artifact(self, config: Config) -> dict[str, np.ndarray]:
        """The artifact that the run of `config` makes: read from the store, computed first where it is not there."""

    @property
    @abstractmethod
    def checkpoint(self) -> Checkpoint:
        """This run's checkpoint slot."""

    def progress(self, done: float, total: float, note: str = "") -> None:  # noqa: B027
        """Tell whoever watches how far the run is, in units of its own."""


class NoCheckpoint(Checkpoint):
    """A slot that keeps nothing, for short runs and tests."""

    def load(self) -> Any | None:
        return None

    def due(self) -> bool:
        return False

    def save(self, state: Any) -> None:
        return None


# --- canonical values ----------------------------------------------------------------------------------------------

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def canonical(value: Any) -> str:
    """The one JSON text of a plain value: sorted keys, no blanks, no NaN (see `encode`)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256(text: str | bytes) -> str:
    """Hexadecimal SHA-256 of a text (as UTF-8) or of bytes."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def array_digest(array: np.ndarray) -> str:
    """SHA-256 of an array's type, shape and bytes."""
    array = np.ascontiguousarray(array)
    return sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())


def encode(value: Any) -> Any:
    """A JSON-ready copy of scalars in dicts and lists: infinities and NaN become their names."""
    if isinstance(value, Mapping):
        return {k: encode(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [encode(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def decode(value: Any) -> Any:
    """The inverse of `encode`."""
    if isinstance(value, dict):
        return {k: decode(v) for k, v in value.items()}
    if isinstance(value, list):
        return [decode(v) for v in value]
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value


def _scalar(value: Any) -> Scalar:
    return value.item() if isinstance(value, np.generic) else value
