"""Claims and their verdicts: what a post says, tied to the records that can decide it, judged by rule.

    post = open_post("dl-massive-label-noise")
    post.claims()                          # in a notebook: the table
    judge_all(root())                      # every claim of every post, for the scorecard

`posts/<slug>/claims.yml` is a list; each claim has

    - id: corrected-is-better              # lower-case words and hyphens, unique in its post
      text: "Uniform labels beat shifted ones at $\\alpha = 50$."    # one sentence of Markdown
      source: ours                         # whose claim it is: paper, original, or ours
      profile: laptop                      # the smallest profile that can decide it: smoke, laptop, full
      data: [mnist]                        # the data sets that can decide it
      quantity: {name: gain, with: {alpha: 50}}     # a function of lib.quantities.<post>, with its arguments
      expect: {above: 0.2}                 # exactly one of above: x, below: x, within: [value, margin]
      paper: 0.893                         # optional: the sources' numbers, or short texts,
      original: 0.481                      #   shown beside ours; in the quantity's unit
      format: ".1%"                        # optional: how numbers are written (default .3f)
      unit: ""                             # optional: written after each number
      min_seeds: 3                         # optional (default 3, at least 2): fewer seeds cannot decide
      interval: t                          # optional: t (default), bootstrap, correlation, or ratio
      mistake: "Labels of neighbours"      # optional: the original's mistake whose effect this measures, for the errata

The quantity is called with the post and its arguments and returns a pandas Series of one number a seed,
indexed by seed (see `lib.quantities`). It reads runs through `post.runs(…)`, which gives it those of the data
sets that can decide; where there are none it gets what there is, so that a smoke run exercises it, and the
verdict says that it cannot decide.

The verdict compares the two-sided 95 % interval over seeds with what is expected:

- `above` x: reproduced where the interval lies wholly above x, not reproduced where wholly below; `below`
  likewise;
- `within` [v, m]: an equivalence: reproduced where the interval lies wholly inside v ± m, not reproduced
  where outside;
- else inconclusive; and inconclusive, with the reason in words, where records are missing or stale, the
  profile is smaller than the one that can decide, the data set is another one, a seed has no number (its run
  diverged, or its pair is missing), or there are too few seeds. Nobody writes a verdict by hand.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lib.core import PROFILES, InputError, Profile, Record, sha256
from lib.project import module_name, read_yaml, slugs
from lib.reading import Missing, Post, Runs, data_sets, open_post
from lib.runs.records import Damaged
from lib.stats import METHODS, Interval, Method, interval, number

if TYPE_CHECKING:
    import pandas as pd

Source = Literal["paper", "original", "ours"]
SOURCES: tuple[Source, ...] = ("paper", "original", "ours")
Verdict = Literal["reproduced", "not reproduced", "inconclusive"]
VERDICTS: tuple[Verdict, ...] = ("reproduced", "not reproduced", "inconclusive")
Direction = Literal["above", "below", "within"]


@dataclass(frozen=True)
class Expect:
    """What is expected of a quantity: above or below `value`, or within `margin` of it."""

    direction: Direction
    value: float
    margin: float = 0.0

    def verdict(self, found: Interval) -> Verdict:
        """By rule, from the ends of the interval."""
        if self.direction == "within":
            low, high = self.value - self.margin, self.value + self.margin
            if low <= found.low and found.high <= high:
                return "reproduced"
            return "not reproduced" if found.low > high or found.high < low else "inconclusive"
        above, below = found.low > self.value, found.high < self.value
        if self.direction == "below":
            above, below = below, above
        return "reproduced" if above else "not reproduced" if below else "inconclusive"

    def describe(self, spec: str, unit: str = "") -> str:
        """`above 20.0 %`, `within 50.0 % ± 2.0 %`."""
        if self.direction == "within":
            return f"within {number(self.value, spec)}{unit} ± {number(self.margin, spec)}{unit}"
        return f"{self.direction} {number(self.value, spec)}{unit}"


@dataclass(frozen=True)
class Claim:
    """One claim of a post, as `claims.yml` gives it; the module's docstring says what each field means."""

    post: str
    id: str
    text: str
    source: Source
    profile: Profile
    data: tuple[str, ...]
    quantity: str
    arguments: Mapping[str, Any]
    expect: Expect
    paper: float | str | None = None
    original: float | str | None = None
    format: str = ".3f"
    unit: str = ""
    min_seeds: int = 3
    interval: Method = "t"
    mistake: str = ""


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict.

    interval: over seeds, None where there is no number. reason: why, in words, for every verdict. profile,
    data: of the records that were used (None and empty where there are none). experiments: whose records, in
    order of use. keys: the records' keys.
    """

    claim: Claim
    verdict: Verdict
    reason: str
    interval: Interval | None = None
    profile: Profile | None = None
    data: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    keys: tuple[str, ...] = field(default=(), repr=False)

    @property
    def ours(self) -> str:
        """Our number for a reader: `66.4 % [64.0, 68.8] (n = 5)`, or a dash."""
        if self.interval is None:
            return "–"
        text = format(self.interval, self.claim.format)
        return f"{text}{self.claim.unit} (n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{self.interval.n})"

    @property
    def paper(self) -> str:
        """The paper's number, or a dash."""
        return _theirs(self.claim.paper, self.claim)

    @property
    def original(self) -> str:
        """The original post's number, or a dash."""
        return _theirs(self.claim.original, self.claim)


def _theirs(value: float | str | None, claim: Claim) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else number(value, claim.format) + claim.unit


# --- reading claims.yml -------------------------------------------------------------------------------------

REQUIRED = ("id", "text", "source", "profile", "data", "quantity", "expect")
OPTIONAL = ("paper", "original", "format", "unit", "min_seeds", "interval", "mistake")


def load(project: Path, slug: str) -> tuple[Claim, ...]:
    """The claims of a post; none where it has no claims.yml.

    Raises InputError naming the file, the claim, the field, and what would be accepted.
    """
    path = project / "posts" / slug / "claims.yml"
    name = f"posts/{slug}/claims.yml"
    if not path.exists():
        return ()
    entries = read_yaml(path, name)
    if not isinstance(entries, list):
        raise InputError(f"{name}: a list of claims is wanted, each beginning with '- id: …'")
    claims = tuple(_claim(entry, slug, f"{name}, claim {i}") for i, entry in enumerate(entries, 1))
    seen: set[str] = set()
    for claim in claims:
        if claim.id in seen:
            raise InputError(f"{name}: two claims have the id {claim.id}; ids are unique in a post")
        seen.add(claim.id)
    return claims


def _claim(entry: Any, slug: str, where: str) -> Claim:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: fields are wanted ({', '.join(REQUIRED)}), not {entry!r}")
    identifier = entry.get("id")
    if not isinstance(identifier, str) or not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", identifier):
        raise InputError(f"{where}: id is {identifier!r}; lower-case words joined by hyphens are wanted")
    where = f"{where.rsplit(',', 1)[0]}, claim {identifier}"
    for name in entry:
        if name not in REQUIRED + OPTIONAL:
            near = difflib.get_close_matches(str(name), REQUIRED + OPTIONAL, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(REQUIRED + OPTIONAL)}"
            raise InputError(f"{where}: no field {name!r}; {hint}")
    for name in REQUIRED:
        if name not in entry:
            raise InputError(f"{where}: {name} is missing")
    quantity, arguments = _quantity(entry["quantity"], where)
    return Claim(
        post=slug,
        id=identifier,
        text=_text(entry["text"], where, "text"),
        source=_one_of(entry["source"], SOURCES, where, "source"),
        profile=_one_of(entry["profile"], PROFILES, where, "profile"),
        data=_names(entry["data"], where),
        quantity=quantity,
        arguments=arguments,
        expect=_expect(entry["expect"], where),
        paper=_number_or_text(entry.get("paper"), where, "paper"),
        original=_number_or_text(entry.get("original"), where, "original"),
        format=_format(entry.get("format", ".3f"), where),
        unit=_unit(entry.get("unit", ""), where),
        min_seeds=_seeds(entry.get("min_seeds", 3), where),
        interval=_one_of(entry.get("interval", "t"), METHODS, where, "interval"),
        mistake=_text(entry["mistake"], where, "mistake") if "mistake" in entry else "",
    )


def _wrong(where: str, name: str, value: Any, wanted: str) -> InputError:
    return InputError(f"{where}: {name} is {value!r}; {wanted}")


def _one_of(value: Any, options: tuple[Any, ...], where: str, name: str) -> Any:
    if value not in options:
        raise _wrong(where, name, value, f"one of {', '.join(options)} is wanted")
    return value


def _text(value: Any, where: str, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _wrong(where, name, value, "a text is wanted")
    return " ".join(value.split())


def _names(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise _wrong(where, "data", value, "a list of names of data sets is wanted, such as [mnist]")
    return tuple(dict.fromkeys(value))


def _quantity(value: Any, where: str) -> tuple[str, dict[str, Any]]:
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict) or not set(value) <= {"name", "with"}:
        raise _wrong(where, "quantity", value, "{name: function, with: {argument: value}} is wanted")
    name, arguments = value.get("name"), value.get("with") or {}
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
        raise _wrong(
            where, "quantity's name", name, "the name of a function of the post's quantities is wanted"
        )
    if not isinstance(arguments, dict) or not all(
        isinstance(key, str) and key.isidentifier() for key in arguments
    ):
        raise _wrong(where, "quantity's with", arguments, "a mapping from argument names to values is wanted")
    return name, arguments


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _expect(value: Any, where: str) -> Expect:
    wanted = "exactly one of {above: number}, {below: number}, {within: [number, margin]} is wanted"
    if isinstance(value, dict) and len(value) == 1:
        ((direction, bound),) = value.items()
        if direction in ("above", "below") and _finite(bound):
            return Expect(direction, float(bound))
        if direction == "within" and isinstance(bound, list) and len(bound) == 2 and all(map(_finite, bound)):
            if bound[1] > 0:
                return Expect("within", float(bound[0]), float(bound[1]))
            raise _wrong(where, "expect", value, "the margin must be above 0")
    raise _wrong(where, "expect", value, wanted)


def _number_or_text(value: Any, where: str, name: str) -> float | str | None:
    if value is None:
        return None
    if _finite(value):
        return float(value)
    if isinstance(value, str) and value.strip():
        return " ".join(value.split())
    raise _wrong(where, name, value, "a number or a short text is wanted")


def _format(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(where, "format", value, "a text such as '.3f' or '.1%' is wanted")
    try:
        number(0.5, value)
    except InputError as error:
        raise _wrong(where, "format", value, "a format such as '.3f' or '.1%' is wanted") from error
    return value


def _unit(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(where, "unit", value, "a text is wanted")
    return f"\N{NO-BREAK SPACE}{value.strip()}" if value.strip() else ""


def _seeds(value: Any, where: str) -> int:
    if type(value) is not int or value < 2:
        raise _wrong(where, "min_seeds", value, "a whole number of at least 2 is wanted")
    return value


# --- judging ------------------------------------------------------------------------------------------------


class Evidence:
    """A post as a quantity sees it: runs of the data sets that can decide; it notes what was read."""

    def __init__(self, claim: Claim, post: Post) -> None:
        self._claim, self._post = claim, post
        self.used: dict[str, Runs] = {}
        self.deciding = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._post, name)

    def runs(self, experiment: str) -> Runs:
        """As `Post.runs`, kept to the claim's data sets where there are any of them."""
        if experiment not in self._post.experiments:
            raise Missing(f"no {self._post.reading} records of {experiment}")
        runs = self._post.runs(experiment)
        kept = [record for record in runs.records if set(data_sets(record)) <= set(self._claim.data)]
        if kept:
            runs = runs.of(kept)
        else:
            self.deciding = False
        self.used[experiment] = runs
        return runs

    @property
    def records(self) -> list[Record]:
        return [record for runs in self.used.values() for record in runs.records]


def judge(claim: Claim, post: Post, *, stale: Callable[[Record], bool] | None = None) -> Judged:
    """The verdict on one claim from the records that `post` reads.

    stale: says of a record whether the code that made it has changed; where it is given, a stale record
    cannot decide. Raises InputError, naming the claim, for a quantity that does not exist, fails, or returns
    something else.
    """
    evidence = Evidence(claim, post)
    try:
        values = _values(claim, evidence)
    except Missing as reason:
        return Judged(claim, "inconclusive", str(reason))
    used = evidence.records
    facts: dict[str, Any] = {
        "profile": min((runs.profile for runs in evidence.used.values()), key=PROFILES.index, default=None),
        "data": tuple(dict.fromkeys(name for record in used for name in data_sets(record))),
        "experiments": tuple(evidence.used),
        "keys": tuple(record.key for record in used),
    }

    def inconclusive(reason: str, found: Interval | None = None) -> Judged:
        return Judged(claim, "inconclusive", reason, found, **facts)

    if len(values) == 0:
        return inconclusive("no run fits")
    lacking = [seed for seed, value in values.items() if not math.isfinite(value)]
    if lacking:
        return inconclusive(f"no number for {_count(lacking)}: a run is missing or diverged")
    rng = np.random.default_rng(int(sha256(f"{claim.post} {claim.id}")[:8], 16))
    found = interval(values.to_numpy(dtype=float), claim.interval, rng=rng)
    profile = facts["profile"]
    if profile is not None and PROFILES.index(profile) < PROFILES.index(claim.profile):
        return inconclusive(f"{profile} runs cannot decide, {claim.profile} ones can", found)
    if not evidence.deciding:
        there, wanted = ", ".join(facts["data"]) or "no data set", ", ".join(claim.data)
        return inconclusive(f"runs on {there} cannot decide, runs on {wanted} can", found)
    if found.n < claim.min_seeds:
        return inconclusive(f"{found.n} seed{'s' * (found.n != 1)}, {claim.min_seeds} are wanted", found)
    if stale is not None and (changed := sum(map(stale, used))):
        return inconclusive(
            f"{changed} of {len(used)} records were made by code that has changed since", found
        )
    verdict = claim.expect.verdict(found)
    expected = claim.expect.describe(claim.format, claim.unit)
    lies = {"reproduced": "lies", "not reproduced": "does not lie", "inconclusive": "lies only partly"}[
        verdict
    ]
    return Judged(claim, verdict, f"the interval {lies} {expected}", found, **facts)


def _count(seeds: list[Any]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"


def _values(claim: Claim, evidence: Evidence) -> pd.Series[float]:
    where = f"posts/{claim.post}/claims.yml, claim {claim.id}"
    module_path = f"lib.quantities.{module_name(claim.post)}"
    try:
        module = importlib.import_module(module_path)
    except ModuleNotFoundError as error:
        if error.name != module_path:
            raise
        raise InputError(
            f"{where}: there is no {module_path.replace('.', '/')}.py to take {claim.quantity} from"
        ) from error
    function = getattr(module, claim.quantity, None)
    if not callable(function):
        there = [
            name
            for name, item in vars(module).items()
            if inspect.isfunction(item) and item.__module__ == module_path
        ]
        there = [name for name in there if not name.startswith("_")]
        raise InputError(f"{where}: no quantity {claim.quantity!r}; there are: {', '.join(there) or 'none'}")
    try:
        inspect.signature(function).bind(evidence, **claim.arguments)
    except TypeError as error:
        raise InputError(f"{where}: {claim.quantity}: {error}") from error
    try:
        values = function(evidence, **claim.arguments)
    except (Missing, Damaged):
        raise
    except Exception as error:
        raise InputError(f"{where}: {claim.quantity} failed: {type(error).__name__}: {error}") from error

    import pandas as pd

    if not isinstance(values, pd.Series) or (len(values) and not pd.api.types.is_numeric_dtype(values)):
        raise InputError(
            f"{where}: {claim.quantity} returned a {type(values).__name__}; a Series of numbers is wanted"
        )
    if not values.index.is_unique:
        raise InputError(f"{where}: {claim.quantity} returned more than one number for a seed")
    return values


def judge_all(project: Path, *, stale: Callable[[Record], bool] | None = None) -> list[Judged]:
    """Every claim of every post that has a notebook, from published records, in order of slug."""
    judged: list[Judged] = []
    for slug in slugs(project):
        claims = load(project, slug)
        if claims:
            post = open_post(slug, root=project)
            judged.extend(judge(claim, post, stale=stale) for claim in claims)
    return judged


def tally(judged: Iterable[Judged]) -> dict[Verdict, int]:
    """How many claims have each verdict, in the order of `VERDICTS`, zeros included."""
    found = [item.verdict for item in judged]
    return {verdict: found.count(verdict) for verdict in VERDICTS}


# --- showing ------------------------------------------------------------------------------------------------

_WIDTHS = {"Claim": 38, "Paper": 10, "Original": 10, "Ours": 20, "Verdict": 22}


def table(judged: Iterable[Judged]) -> str:
    """The claims as a Markdown pipe table in a `.claims` div; each row is the target of `#claim-<id>`."""
    rows = [
        (
            f"[]{{#claim-{item.claim.id}}}{cell(item.claim.text)}",
            cell(item.paper),
            cell(item.original),
            cell(item.ours.replace(", ", ",\N{NO-BREAK SPACE}")),
            f"[{item.verdict}]{{.verdict .{item.verdict.replace(' ', '-')}}}: {cell(item.reason)}",
        )
        for item in judged
    ]
    lines = [
        "| " + " | ".join(_WIDTHS) + " |",
        "|" + "|".join("-" * width for width in _WIDTHS.values()) + "|",
    ]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(["::: {.claims}", "", *lines, "", ":::"])


_VERBATIM = re.compile(r"(`[^`]*`|\$[^$]+\$)")


def cell(text: str) -> str:
    """A text as a cell of a pipe table: one line, its no-break spaces kept, with bars escaped.

    In code and mathematics they are not, where a backslash would be shown.
    """
    parts = _VERBATIM.split(re.sub(r"[ \t\r\n]+", " ", text).strip())
    return "".join(part if i % 2 else re.sub(r"(?<!\\)\|", r"\\|", part) for i, part in enumerate(parts))
