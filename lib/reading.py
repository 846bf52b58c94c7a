"""What a notebook needs: a post's records as data frames, and Markdown made from them.

    post = open_post("dl-massive-label-noise")             # published records, best profile first
    runs = post.runs("noise_curve").where(network="mlp2")
    runs.frame                                             # one row a run: config, outcome, metrics, key
    runs.series("val_acc")                                 # long: config, outcome, key, step, value
    runs.per_seed("test_acc")                              # one number a seed, indexed by seed
    post.source("lib.methods.label_noise:NoisyLabels")     # the code that ran, folded
    post.say("MLP2 reaches {acc:.1%}.", acc=interval)      # numbers come from records
    post.provenance("noise_curve")                         # the line under a figure
    post.claims()                                          # the table of verdicts

A notebook opens within a second and needs no torch. With a profile's name instead of `published`, what is
missing is computed first, which needs the extra `compute`. What is displayed depends on the records alone,
never on the clock.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import string
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from lib.core import PROFILES, InputError, PostsError, Profile, Record, canonical
from lib.experiments import computable
from lib.project import check_slugs, site_config, store_path
from lib.project import root as find_root
from lib.project import slugs as posts_of
from lib.stats import number

if TYPE_CHECKING:
    import pandas as pd

    from lib.claims import Claim, Judged

Reading = Literal["published", "smoke", "laptop", "full"]
CHOICES: tuple[Reading, ...] = ("published", *PROFILES)
"""What a notebook's `profile` parameter can be."""


class Missing(InputError):
    """There are no records of what was asked for. In a claim that is a reason, not an error."""


def open_post(slug: str, profile: str = "published", *, root: Path | None = None, **options: Any) -> Post:
    """The post's records, ready to be shown.

    profile: `published` reads what is committed, for each experiment of its best profile; `smoke`, `laptop`
    and `full` compute what the store lacks, in this process and without a word, and read the store. options:
    for that computation (`lib.runs.sweep.compute`), without effect on published records. root: the project,
    found where it is not given.

    Raises InputError for an unknown post or profile, and for a computation without torch.
    """
    project = find_root() if root is None else root
    check_slugs([slug], among=sorted({*posts_of(project), *computable()}))
    if profile not in CHOICES:
        raise InputError(f"no profile {profile!r}; there are: {', '.join(CHOICES)}")
    if profile == "published":
        return Post(project, slug, profile, _Published(project, slug))
    return Post(project, slug, profile, _Computed(slug, profile, _compute(project, slug, profile, options)))


def _compute(project: Path, slug: str, profile: str, options: Mapping[str, Any]) -> list[Record]:
    """Compute what a profile lacks and give all of its records. Raises PostsError where a run failed."""
    if importlib.util.find_spec("torch") is None:
        raise InputError(
            f"profile {profile!r} computes, and torch is not installed: pip install -e '.[compute]', "
            "or read with profile 'published'"
        )
    from lib.runs.store import Store
    from lib.runs.sweep import compute, lookup

    store = Store(store_path(project))
    report = compute(slug, profile, **{"project_root": project, "store": store, **options})
    if report.failures:
        config, ending = report.failures[0]
        why = " ".join(ending.error.split())
        raise PostsError(
            f"{len(report.failures)} of {len(report.configs)} runs failed, first {config.label()}: {why}"
        )
    return list(lookup(slug, report.configs, project, store).values())


class _Published:
    """Records committed with the post; read when they are asked for."""

    def __init__(self, project: Path, slug: str) -> None:
        from lib.runs.published import available

        self.project, self.slug = project, slug
        self.profiles: dict[str, list[Profile]] = available(project, slug)

    def best(self, experiment: str) -> Profile:
        return max(self.profiles[experiment], key=PROFILES.index)

    def read(self, experiment: str) -> tuple[Profile, list[Record]]:
        from lib.runs.published import read

        profile = self.best(experiment)
        return profile, read(self.project, self.slug, profile, experiment)


class _Computed:
    """Records of one profile, just computed or found in the store."""

    def __init__(self, slug: str, profile: str, records: Iterable[Record]) -> None:
        self.slug = slug
        self.profile = next(name for name in PROFILES if name == profile)
        self.records: dict[str, list[Record]] = {}
        for record in records:
            self.records.setdefault(record.experiment, []).append(record)
        self.profiles = {experiment: [self.profile] for experiment in self.records}

    def best(self, experiment: str) -> Profile:
        return self.profile

    def read(self, experiment: str) -> tuple[Profile, list[Record]]:
        return self.profile, self.records[experiment]


# --- runs ---------------------------------------------------------------------------------------------------


class Runs:
    """Records of one experiment in one profile, in an order that depends on their configs only.

    post, experiment, profile: whose they are. records: finished runs (done or diverged).
    """

    def __init__(self, post: str, experiment: str, profile: Profile, records: Iterable[Record]) -> None:
        self.post, self.experiment, self.profile = post, experiment, profile
        finished = [record for record in records if record.finished]
        self.records = tuple(sorted(finished, key=lambda record: _order(record.config)))
        self._flat_rows = {record.key: _row(record) for record in self.records}

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        return f"<{len(self)} runs of {self.post}/{self.experiment}, {self.profile}>"

    def of(self, records: Iterable[Record]) -> Runs:
        """The same experiment and profile with these of its records only, in the order in which they come."""
        kept = copy(self)
        kept.records = tuple(records)
        kept.__dict__.pop("frame", None)
        return kept

    @property
    def _rows(self) -> list[dict[str, Any]]:
        return [self._flat_rows[record.key] for record in self.records]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row a run: the config's fields (a nested config's as `field.name`), `outcome`, metrics, `key`.

        A metric that a run does not have (it diverged, say) is NaN.
        """
        import pandas as pd

        rows = []
        for record, row in zip(self.records, self._rows, strict=True):
            for name in record.metrics:
                if name in row:
                    raise InputError(f"{self.experiment}: the metric {name!r} has the name of a config field")
            rows.append({**row, **record.metrics, "key": record.key})
        return pd.DataFrame(rows)

    def series(self, name: str, *, first: int = 1) -> pd.DataFrame:
        """One row a value of the series `name`: the run's config and key, `step` (from `first`), `value`."""
        import pandas as pd

        self._has(name, "series", [record.series for record in self.records])
        rows = [
            {**row, "key": record.key, "step": step, "value": value}
            for record, row in zip(self.records, self._rows, strict=True)
            for step, value in enumerate(record.series.get(name, ()), first)
        ]
        return pd.DataFrame(rows)

    def array(self, key: str, name: str) -> np.ndarray:
        """The array `name` of the run whose key begins with `key`."""
        found = [record for record in self.records if record.key.startswith(key)]
        if len(found) != 1:
            raise Missing(
                f"{len(found)} runs of {self.experiment} have a key that begins with {key!r}; one is wanted"
            )
        self._has(name, "array", [record.arrays for record in found])
        return found[0].arrays[name]

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The array `name` of every run that has it, by key, in the order of the frame."""
        self._has(name, "array", [record.arrays for record in self.records])
        return {record.key: record.arrays[name] for record in self.records if name in record.arrays}

    def where(self, **fields: Any) -> Runs:
        """The runs whose config has these values; a list, tuple or set stands for any of its values.

        Where none fits the result is empty. Raises InputError for a field that no run has.
        """
        rows = self._rows
        names = {name for row in rows for name in row}
        for name in fields:
            if rows and name not in names:
                raise InputError(
                    f"{self.experiment} has no field {name!r}; there are: {', '.join(sorted(names))}"
                )
        return self.of(
            record
            for record, row in zip(self.records, rows, strict=True)
            if all(_fits(row.get(name), wanted) for name, wanted in fields.items())
        )

    def one(self, **fields: Any) -> Record:
        """The only run whose config has these values. Raises InputError where there are none or several."""
        found = self.where(**fields)
        if len(found) != 1:
            given = ", ".join(f"{name}={value!r}" for name, value in fields.items()) or "no condition"
            kind = InputError if found.records else Missing
            raise kind(f"{len(found)} runs of {self.experiment} fit {given}; exactly one is wanted")
        return found.records[0]

    def per_seed(self, metric: str) -> pd.Series[float]:
        """One number a seed, indexed by seed: NaN where the run has none, for it diverged.

        Raises InputError where a seed has several runs (narrow them with `where` first) or the metric is
        unknown.
        """
        import pandas as pd

        if not self.records:
            return pd.Series([], index=pd.Index([], name="seed", dtype="int64"), name=metric, dtype=float)
        self._has(metric, "metric", [record.metrics for record in self.records])
        if "seed" not in self.frame:
            raise InputError(f"{self.experiment} has no field 'seed'")
        values = self.frame.set_index("seed")[metric].astype(float).sort_index()
        if not values.index.is_unique:
            varying = [
                name for name in self.fields if name != "seed" and self.frame[name].map(repr).nunique() > 1
            ]
            raise InputError(
                f"{self.experiment}: a seed has several runs, which differ in {', '.join(varying)}"
            )
        return values

    @property
    def fields(self) -> tuple[str, ...]:
        """The config's fields, as columns of the frame."""
        return tuple(dict.fromkeys(name for record in self.records for name in _flat(record.config)))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, sorted."""
        found = {
            record.config["seed"] for record in self.records if isinstance(record.config.get("seed"), int)
        }
        return tuple(sorted(found))

    @property
    def data(self) -> tuple[str, ...]:
        """Names of the data sets of these runs, sorted."""
        return tuple(sorted({name for record in self.records for name in data_sets(record)}))

    def line(self) -> str:
        """Where these runs come from, as one line of Markdown: profile, data, seeds, device, date, commit."""
        return provenance_line(self)

    def _has(self, name: str, kind: str, holders: Sequence[Mapping[str, Any]]) -> None:
        there = sorted({key for holder in holders for key in holder})
        if holders and name not in there:
            raise InputError(
                f"{self.experiment} has no {kind} {name!r}; there are: {', '.join(there) or 'none'}"
            )


def data_sets(record: Record) -> tuple[str, ...]:
    """The data sets of a run: its config's `data`, else those whose fingerprints its provenance holds."""
    named = record.config.get("data")
    return (named,) if isinstance(named, str) else tuple(sorted(record.provenance.data))


def _row(record: Record) -> dict[str, Any]:
    return _flat(record.config) | {"outcome": record.outcome}


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Fields by name, a nested config's as `field.name`, lists as (hashable) tuples."""
    out: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            out |= _flat(value.get("config", value), f"{prefix}{name}.")
        else:
            out[prefix + name] = _tuple(value)
    return out


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list | tuple) else value


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, list | tuple | set | frozenset | range) and not isinstance(value, tuple):
        return value in wanted
    return bool(value == _tuple(wanted))


def _order(config: Mapping[str, Any]) -> list[tuple[str, int, float, str]]:
    """Sorts numbers as numbers, and configs of any mixture of types."""
    key = []
    for name, value in _flat(config).items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        key.append((name, 0, float(value), "") if number else (name, 1, 0.0, canonical(value)))
    return key


# --- provenance ---------------------------------------------------------------------------------------------

_SMOKE = "**smoke run: it shows that the code runs, and nothing else**"


def provenance_line(runs: Runs) -> str:
    """Profile · data sets · runs and seeds · device · date · parent commit, from the records.

    A commit with `+` had uncommitted changes. A smoke run says so first, in bold.
    """
    if not runs.records:
        raise Missing(f"no runs of {runs.experiment} are left to say where they come from")
    found = [record.provenance for record in runs.records]
    dates = sorted({item.date[:10] for item in found})
    commits = sorted({(item.commit[:7] or "no commit") + "+" * (not item.clean) for item in found})
    diverged = sum(record.outcome == "diverged" for record in runs.records)
    parts = [
        _SMOKE if runs.profile == "smoke" else f"{runs.profile} profile",
        ", ".join(map(data_title, runs.data)),
        _plural(len(runs), "run") + (f", {_plural(len(runs.seeds), 'seed')}" if runs.seeds else ""),
        f"{diverged} diverged" if diverged else "",
        ", ".join(sorted({_device(item.device) for item in found})),
        dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}",
        f"commit {commits[0]}" if len(commits) == 1 else f"commits {_some(commits)}",
    ]
    return " · ".join(part for part in parts if part)


def data_title(name: str) -> str:
    """A data set's name for readers: 'CIFAR-10 (JPEG)' for `cifar10-jpeg`; else the name itself."""
    from lib.data import catalogue

    return next((source.title for source in catalogue() if source.name == name), name)


def _device(name: str) -> str:
    return "CPU" if name == "cpu" else name


def _plural(n: int, word: str) -> str:
    return f"{n:,} {word}{'s' * (n != 1)}"


def _some(names: list[str], most: int = 3) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


# --- source excerpts ----------------------------------------------------------------------------------------


class Excerpt:
    """One definition of the package, as its file has it.

    path: relative to the project (`lib/methods/tent.py`). line: of its first line. text: dedented source.
    """

    def __init__(self, path: str, line: int, text: str) -> None:
        self.path, self.line, self.text = path, line, text


def excerpt(target: str) -> Excerpt:
    """The definition `module:qualname` of `lib` (class, function, method, constant), parsed but not imported.

    Raises InputError for a module or a name that is not there, naming what is, and for a name defined twice.
    """
    module, _, qualname = target.partition(":")
    base = Path(__file__).resolve().parent.parent
    if not qualname or not module.startswith("lib."):
        raise InputError(
            f"{target!r} names no definition; 'lib.module:name' is wanted, such as 'lib.core:Config.key'"
        )
    stem = base.joinpath(*module.split("."))
    path = next((p for p in (stem.with_suffix(".py"), stem / "__init__.py") if p.is_file()), None)
    if path is None:
        raise InputError(f"{target!r}: there is no module {module}")
    text = path.read_text(encoding="utf-8")
    body: list[ast.stmt] = ast.parse(text).body
    node: ast.stmt | None = None
    for part in qualname.split("."):
        names = [(name, item) for item in body for name in _defined(item)]
        found = [item for name, item in names if name == part]
        if len(found) != 1:
            there = ", ".join(dict.fromkeys(name for name, _ in names)) or "nothing"
            why = f"{part!r} is defined {len(found)} times" if found else f"{part!r} is not defined"
            raise InputError(f"{target!r}: {why} there; there are: {there}")
        node = found[0]
        body = getattr(node, "body", [])
    if node is None or node.end_lineno is None:
        raise InputError(f"{target!r} names no definition")
    first = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", ()))])
    lines = text.splitlines()[first - 1 : node.end_lineno]
    return Excerpt(path.relative_to(base).as_posix(), first, textwrap.dedent("\n".join(lines)))


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.name]
    if isinstance(node, ast.AnnAssign):
        return [node.target.id] if isinstance(node.target, ast.Name) else []
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def source_markdown(targets: Sequence[str], summary: str, project: Path) -> str:
    """Excerpts as one folded block of Markdown: code with a link to its file and line."""
    parts = []
    for item in map(excerpt, targets):
        place = f"`{item.path}`, line {item.line}"
        url = repository_url(project, item.path, item.line)
        link = f"[{place}]({url})" if url else place
        parts.append(f"```python\n{item.text}\n```\n\n::: {{.source-link}}\n{link}\n:::")
    inner = "\n\n".join(parts)
    return f'<details class="code-fold">\n<summary>{_html(summary)}</summary>\n\n{inner}\n\n</details>'


def repository_url(project: Path, path: str, line: int | None = None) -> str | None:
    """The page of a file in the public repository that `_quarto.yml` names, or None where it names none."""
    config = site_config(project)
    website = config.get("website") or {}
    url = website.get("repo-url") or config.get("repo-url")
    if not isinstance(url, str) or not url:
        return None
    branch = website.get("repo-branch") or "main"
    return f"{url.rstrip('/')}/blob/{branch}/{path}" + (f"#L{line}" if line else "")


def _html(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


# --- the post -----------------------------------------------------------------------------------------------


class Post:
    """One post's records and what its notebook displays of them; made by `open_post`."""

    def __init__(self, root: Path, slug: str, reading: str, records: _Published | _Computed) -> None:
        self.root, self.slug, self.reading = root, slug, reading
        self._records = records
        self._runs: dict[str, Runs] = {}
        self._judged: dict[str, Judged] = {}

    def __repr__(self) -> str:
        return f"<post {self.slug}, {self.reading}: {', '.join(self.experiments) or 'no records'}>"

    @property
    def experiments(self) -> tuple[str, ...]:
        """Experiments that have records here."""
        return tuple(sorted(self._records.profiles))

    @property
    def smoke(self) -> bool:
        """Whether the best that there is of some experiment is a smoke run."""
        return any(self._records.best(experiment) == "smoke" for experiment in self.experiments)

    @cached_property
    def front(self) -> dict[str, Any]:
        """The notebook's front matter."""
        return front_matter(self.root / "posts" / self.slug / "index.ipynb")

    @property
    def title(self) -> str:
        """The notebook's title, or the slug."""
        return str(self.front.get("title") or self.slug)

    def runs(self, experiment: str) -> Runs:
        """The finished runs of an experiment. Raises Missing, naming those that there are."""
        if experiment not in self._runs:
            if experiment not in self._records.profiles:
                there = ", ".join(self.experiments) or "none"
                raise Missing(
                    f"{self.slug} has no records of {experiment!r} ({self.reading}); there are: {there}"
                )
            profile, records = self._records.read(experiment)
            self._runs[experiment] = Runs(self.slug, experiment, profile, records)
        return self._runs[experiment]

    # what is displayed

    def say(self, template: str, **values: Any) -> None:
        """Display Markdown with `{name:format}` filled in; a literal brace is doubled, as in `{{.class}}`.

        Raises InputError for a name that is not given and for a value that is not used.
        """
        show_markdown(filled(template, values))

    def source(self, *targets: str, summary: str | None = None) -> None:
        """Display definitions of `lib` (`lib.methods.tent:Tent`) as folded code with a link to the file."""
        if not targets:
            raise InputError("source() wants at least one 'lib.module:name'")
        names = ", ".join(target.partition(":")[2] for target in targets)
        show_markdown(source_markdown(targets, summary or f"Code: {names}", self.root))

    def provenance(self, *of: str | Runs) -> None:
        """Display where the runs of a figure come from: experiments by name, or narrowed runs."""
        if not of:
            raise InputError("provenance() wants at least one experiment or runs")
        chosen = [self.runs(item) if isinstance(item, str) else item for item in of]
        lines = list(dict.fromkeys(provenance_line(runs) for runs in chosen))
        smoke = " .smoke" * any(runs.profile == "smoke" for runs in chosen)
        show_markdown(f"::: {{.provenance{smoke}}}\n" + "\\\n".join(lines) + "\n:::")

    def banner(self) -> None:
        """Display a warning where some of the records are smoke runs; nothing where none is."""
        if self.smoke:
            show_markdown(
                "::: {.callout-warning}\n## Smoke run\n\nSome figures on this page come from smoke runs: "
                "tiny data, a few steps. They show that the code runs, and say nothing about the claims.\n:::"
            )

    def judge(self) -> list[Judged]:
        """The post's claims with their verdicts, in the order of claims.yml."""
        return [self.claim(identifier) for identifier in self._claims]

    def claim(self, identifier: str) -> Judged:
        """One claim with its verdict, by id: `post.say("{gain}", gain=post.claim("gain").interval)`."""
        from lib.claims import judge

        if identifier not in self._claims:
            raise InputError(
                f"{self.slug} has no claim {identifier!r}; there are: {', '.join(self._claims) or 'none'}"
            )
        if identifier not in self._judged:
            self._judged[identifier] = judge(self._claims[identifier], self)
        return self._judged[identifier]

    @cached_property
    def _claims(self) -> dict[str, Claim]:
        from lib.claims import load

        return {claim.id: claim for claim in load(self.root, self.slug)}

    def claims(self) -> None:
        """Display the table of claims: the paper's number, the original's, ours, the verdict."""
        from lib.claims import table

        judged = self.judge()
        if not judged:
            raise InputError(f"{self.slug} has no claims: posts/{self.slug}/claims.yml is missing or empty")
        show_markdown(table(judged))


def filled(template: str, values: Mapping[str, Any]) -> str:
    """`template.format(**values)`, where every name is given and every value is used.

    Numbers with a format are written as `lib.stats.number` writes them, alone as in an interval.
    """
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise InputError(f"say(): {template!r} cannot be filled in: {error}") from error
    used = {name.split(".")[0].split("[")[0] for name in fields}
    if missing := sorted(used - set(values)):
        raise InputError(f"say(): no value for {', '.join(map(repr, missing))} in {template!r}")
    if unused := sorted(set(values) - used):
        raise InputError(f"say(): {', '.join(map(repr, unused))} is given and not used in {template!r}")
    try:
        return _Formatter().format(template, **values)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise InputError(f"say(): {template!r} cannot be filled in: {error}") from error


class _Formatter(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, int | float | np.number) and not isinstance(value, bool) and format_spec:
            return number(cast(float, value), format_spec)
        return str(super().format_field(value, format_spec))


def front_matter(notebook: Path) -> dict[str, Any]:
    """The YAML of a notebook's front-matter cell (the first raw cell that begins with ---), or nothing.

    Raises InputError naming the file, for JSON or YAML that does not parse.
    """
    import yaml

    if not notebook.is_file():
        return {}
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        for cell in cells:
            text = "".join(cell["source"]).strip()
            if cell["cell_type"] == "raw" and text.startswith("---"):
                found = yaml.safe_load(text.removeprefix("---").removesuffix("---"))
                return found if isinstance(found, dict) else {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise InputError(
            f"{notebook}: its front matter cannot be read: {' '.join(str(error).split())}"
        ) from error
    return {}


def show_markdown(text: str) -> None:
    """Display Markdown in a notebook. The one place where this module displays anything."""
    from IPython.display import Markdown, display

    display(Markdown(text))
