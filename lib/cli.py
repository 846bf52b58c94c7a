"""The command `posts`: one entry for everything that the project does.

Exit status: 0 done (a diverged run is a result), 1 a run or a notebook failed, 2 the input was wrong.
"""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from lib import project
from lib.core import PROFILES, InputError, PostsError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Ten posts as notebooks whose every number comes from a recorded run.",
)
WIDE = 160
"""Columns for tables where there is no terminal to ask."""
out = Console(soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)
err = Console(stderr=True, soft_wrap=True, width=None if sys.stderr.isatty() else WIDE)

NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
"""What a machine may say to any use of a file: no right to, a disk that is read-only or full."""

Renderer = Literal["auto", "quarto", "embedded"]
Slugs = Annotated[list[str] | None, typer.Argument(help="posts; all of them where none is given")]
ProfileOption = Annotated[str, typer.Option("--profile", "-P", help=f"one of {', '.join(PROFILES)}")]


def main() -> None:
    """Run the command, turning errors for people into one line and an exit status."""
    code: int | None
    try:
        code = app(standalone_mode=False)
    except InputError as error:
        _say_error(str(error))
        code = 2
    except PostsError as error:
        _say_error(str(error))
        code = 1
    except typer.Abort:
        code = 130
    except KeyboardInterrupt:
        _say_error("stopped; what was finished is kept")
        code = 130
    except BrokenPipeError:
        code = 0
    except OSError as error:
        if error.errno not in NOT_OURS or error.filename is None:
            raise
        _say_error(f"{error.filename}: {error.strerror}")
        code = 2
    except Exception as error:
        # Usage errors come from click, or from the copy of it that newer versions of typer carry.
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ != "NoArgsIsHelpError":
            _say_error(" ".join(error.format_message().split()))
        code = 2
    sys.exit(code or 0)


def _say_error(text: str) -> None:
    err.print(f"posts: {text}", markup=False, highlight=False)


def _print(text: str) -> None:
    out.print(text, markup=False, highlight=False)


# --- computing -----------------------------------------------------------------------------------------------------


@app.command()
def run(
    slugs: Slugs = None,
    profile: ProfileOption = "laptop",
    only: Annotated[str | None, typer.Option(help="one experiment of the post")] = None,
    jobs: Annotated[
        int | None, typer.Option(help="runs at once; one a core where not given, one on a GPU")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads of a run", min=1)] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps")] = "cpu",
    executor: Annotated[
        str | None, typer.Option(help="a Dask cluster instead of --jobs: dask://host:port")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="stop at the next checkpoints after this long")
    ] = None,
    stale: Annotated[
        bool, typer.Option("--stale", help="also what was made by other code than today's")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="all of it again")] = False,
) -> None:
    """Compute the runs of a profile that are missing; killed at any moment, it goes on from where it was."""
    from lib import experiments
    from lib.runs import progress, sweep

    root = project.root()
    chosen = _computable(slugs)
    if jobs is None:
        jobs = 1 if device != "cpu" else sweep.cores()
    if jobs < 1:
        raise InputError(f"--jobs is {jobs}; at least 1 is wanted")
    cluster = None
    if executor is not None:
        from lib.runs.cluster import Cluster

        cluster = Cluster(executor)
    if profile not in PROFILES:
        experiments.configs(chosen[0], profile)
    failed: list[tuple[str, str, str]] = []
    later = 0
    for slug in chosen:
        live = out.is_terminal

        def watch(*args: Any, live: bool = live) -> progress.Quiet:
            return progress.Live(*args, console=out) if live else progress.Plain(*args, console=out)

        report = sweep.compute(
            slug,
            profile,
            project_root=root,
            only=only,
            jobs=jobs,
            threads=threads,
            device=device if cluster else _device(device),
            minutes=minutes,
            stale_too=stale,
            fresh=fresh,
            executor=cluster,
            watch=watch,
        )
        for warning in report.warnings:
            _say_error(warning)
        done = len(report.endings) - len(report.failures) - report.suspended
        later += report.suspended
        _print(
            f"{slug} {profile}: {done} computed, {report.present} were there, {len(report.configs)} in all"
        )
        failed += [(slug, config.label(), f"{end.status}: {end.error}") for config, end in report.failures]
    if later:
        _print(f"{later} runs are not finished: time was up; the same command goes on with them")
    if failed:
        table = Table("post", "run", "what happened", title=f"{len(failed)} runs failed")
        for row in failed:
            table.add_row(row[0], row[1], row[2].splitlines()[-1] if "\n" in row[2] else row[2])
        err.print(table)
        raise typer.Exit(1)


def _computable(slugs: list[str] | None) -> tuple[str, ...]:
    from lib import experiments

    return project.check_slugs(slugs or (), experiments.computable())


def _device(name: str) -> str:
    if name == "cpu":
        return name
    import torch

    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"no device {name!r} here: {str(error).splitlines()[0]}") from error
    return name


@app.command()
def publish(
    slugs: Slugs = None,
    profile: ProfileOption = "laptop",
) -> None:
    """Pack finished records into posts/<slug>/results/<profile>/, to be committed and shown by the site."""
    from lib.runs import published, sweep

    root = project.root()
    for slug in _computable(slugs):
        packed = sweep.publish(slug, profile, project_root=root)
        for pack in packed:
            missing = f", {pack.of - pack.records} of {pack.of} are missing" if pack.records < pack.of else ""
            old = f", {pack.stale} stale (posts why {slug})" if pack.stale else ""
            _print(f"{pack.path.relative_to(root)}: {pack.records} records{missing}{old}")
        if not packed:
            _print(f"{slug}: nothing is finished at {profile}; posts run {slug} --profile {profile}")
        else:
            _print(f"{slug}: {published.size_of(root, slug) / 1024:.0f} of {published.LIMIT // 1024} kB")


@app.command()
def budget(slugs: Slugs = None) -> None:
    """The ledger: experiment × arms × seeds × measured seconds, by profile."""
    from lib.runs import ledger
    from lib.runs.progress import duration
    from lib.runs.store import Store

    root = project.root()
    store = Store(project.store_path(root))
    for slug in _computable(slugs):
        table = Table(title=slug, title_justify="left")
        for name in (
            "profile",
            "experiment",
            "arms",
            "seeds",
            "runs",
            "measured",
            "CPU",
            "wall",
            "longest",
            "peak",
        ):
            table.add_column(name, justify="left" if name in ("profile", "experiment") else "right")
        totals: dict[str, float] = {}
        for line in ledger.budget(slug, root, store):
            times = [duration(x) if x is not None else "?" for x in (line.cpu_s, line.wall_s, line.longest_s)]
            peak = f"{line.peak_mb:.0f} MiB" if line.peak_mb else "?"
            table.add_row(
                line.profile,
                line.experiment,
                *map(str, (line.arms, line.seeds, line.runs, line.measured)),
                *times,
                peak,
            )
            spent = line.wall_s if line.profile == "full" else line.cpu_s
            totals[line.profile] = totals.get(line.profile, 0.0) + (spent or 0.0)
        out.print(table)
        for profile, total in totals.items():
            if total:
                allowed = ledger.ALLOWANCE[profile]
                kind = "GPU" if profile == "full" else "CPU"
                _print(f"{profile}: {total:,.0f} of {allowed:,.0f} {kind}-seconds ({total / allowed:.0%})")


@app.command()
def why(slug: str) -> None:
    """Which records are stale, and because of which change."""
    from lib import data
    from lib.runs import sweep
    from lib.runs.store import Store

    root = project.root()
    (chosen,) = _computable([slug])
    store = Store(project.store_path(root))
    groups = sweep.why(chosen, root, store)
    for reasons, pairs in groups.items():
        commits = sorted({record.provenance.commit[:10] for _, record in pairs})
        _print(f"{len(pairs)} records made at {', '.join(commits)}:")
        for reason in reasons:
            _print(f"  {reason}")
        for config, _ in pairs[:3]:
            _print(f"    {config.label()}")
        if len(pairs) > 3:
            _print(f"    and {len(pairs) - 3} more")
    for name, known, here in sweep.other_data(chosen, root, store, data.load):
        _print(f"data set {name}: here it is {here}, but records were made from {known}")
    if not groups:
        _print(f"{chosen}: no record is stale")


# --- reading -------------------------------------------------------------------------------------------------------


@app.command(name="list")
def list_() -> None:
    """What there is: title, date, profiles published, verdicts."""
    from lib import claims, reading
    from lib.runs import published

    root = project.root()
    table = Table("post", "title", "date", "published", "verdicts")
    for slug in project.slugs(root):
        front = reading.front_matter(root / "posts" / slug / "index.ipynb")
        profiles = [p for p in PROFILES if (published.folder(root, slug, p)).is_dir()]
        post = reading.open_post(slug, root=root)
        counts = claims.tally(claims.judge(claim, post) for claim in claims.load(root, slug))
        verdicts = ", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n) or "no claims"
        table.add_row(
            slug, str(front.get("title", "")), str(front.get("date", "")), ", ".join(profiles), verdicts
        )
    out.print(table)


@app.command()
def notebook(
    slugs: Slugs = None,
    profile: Annotated[
        str, typer.Option("--profile", "-P", help="published, " + ", ".join(PROFILES))
    ] = "published",
    parameter: Annotated[
        list[str] | None, typer.Option("-p", help="name=value, checked before a kernel starts")
    ] = None,
    jobs: Annotated[int, typer.Option(help="notebooks at once", min=1)] = 1,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for the executed notebooks")] = Path(
        ".build/notebooks"
    ),
) -> None:
    """Execute notebooks through papermill, with their parameters checked first."""
    from lib import notebooks

    root = project.root()
    given = dict(_pair(text) for text in parameter or [])
    given.setdefault("profile", _shown(profile))
    work = [
        notebooks.Job(root / "posts" / slug / "index.ipynb", output / f"{slug}.ipynb", given)
        for slug in project.check_slugs(slugs or (), project.slugs(root))
    ]
    failed = 0
    for done in notebooks.execute_many(work, at_once=jobs):
        if done.error is None:
            _print(f"{done.job.out} in {done.seconds:.1f} s")
        else:
            failed += 1
            _say_error(str(done.error))
    if failed:
        raise typer.Exit(1)


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
        raise InputError(f"-p {text!r}; name=value is wanted")
    return name, value


@app.command()
def site(
    renderer: Annotated[Renderer, typer.Option(help="quarto where it is installed, else embedded")] = "auto",
    profile: Annotated[
        str, typer.Option("--profile", "-P", help="published, " + ", ".join(PROFILES))
    ] = "published",
    jobs: Annotated[int | None, typer.Option(help="notebooks at once; one a core where not given")] = None,
) -> None:
    """Build _site/ with Quarto where it is installed, else with the embedded renderer."""
    from lib.runs.sweep import cores
    from lib.site import build

    report = build.build(project.root(), renderer=renderer, profile=_shown(profile), jobs=jobs or cores())
    if report.unchanged:
        _print(f"{report.out} is up to date ({report.seconds:.1f} s)")
    else:
        executed = f", executed {', '.join(report.ran)}" if report.ran else ""
        _print(f"{report.out}: {report.pages} pages by {report.renderer} in {report.seconds:.1f} s{executed}")


def _shown(profile: str) -> str:
    """A profile that a page can show."""
    if profile not in ("published", *PROFILES):
        raise InputError(f"no profile {profile!r}; one of published, {', '.join(PROFILES)} is wanted")
    return profile


@app.command()
def serve(port: Annotated[int, typer.Option(min=0, max=65535)] = 8000) -> None:
    """Look at the built site in a browser, on this machine only."""
    from lib.site import serve

    serve.serve(project.root() / "_site", port)


@app.command()
def check(
    mirror: Annotated[
        bool, typer.Option("--mirror", help="also hold the site against the original's inventory")
    ] = False,
) -> None:
    """Check claims, records, and the built site's links, ids and feed."""
    from lib import checks

    root = project.root()
    problems = checks.check(root, mirror=mirror)
    for problem in problems:
        _say_error(str(problem))
    if problems:
        raise typer.Exit(1)
    _print("all is well")


@app.command()
def bench(
    names: Annotated[list[str] | None, typer.Argument(help="benchmarks; all where none is given")] = None,
    repeats: Annotated[int, typer.Option(help="measured repeats of each side", min=5)] = 5,
) -> None:
    """Compare methods with their peers, paired in one run; the result is kept in benchmarks/results/."""
    from lib import bench as benchmarks

    root = project.root()
    for name in benchmarks.chosen(root, names or ()):
        result = benchmarks.run(root, name, repeats=repeats)
        table = Table(
            "case", "ours", "peer or bar", "unit", "ratio", title=result["title"], title_justify="left"
        )
        for row in result["rows"]:
            if "value" in row:
                cells = (
                    f"{benchmarks.measured(row)}, n = {row['n']}",
                    benchmarks.bar(row),
                    row["unit"],
                    "",
                )
            else:
                interval = f"[{row['low']:.4g}, {row['high']:.4g}], n = {row['n']}"
                cells = (
                    f"{row['ours']:.4g}",
                    f"{row['peer']:.4g}",
                    row["unit"],
                    f"{row['ratio']:.2f} {interval}",
                )
            table.add_row(row["case"], *cells)
        out.print(table)


# --- data and new posts --------------------------------------------------------------------------------------------


@app.command()
def data(
    action: Annotated[str, typer.Argument(help="list or fetch")] = "list",
    names: Annotated[list[str] | None, typer.Argument(help="data sets to fetch")] = None,
) -> None:
    """Data sets: where each is looked for and whether it is whole; `posts data fetch NAME` downloads one."""
    from lib import data as sets

    if action == "list":
        table = Table("name", "title", "state", "where", "where users get it")
        for source in sets.catalogue():
            found = sets.status(source.name)
            table.add_row(source.name, source.title, found.state, str(found.where or ""), source.origin)
        out.print(table)
        return
    if action != "fetch":
        raise InputError(f"posts data {action}: list or fetch is wanted")
    if not names:
        raise InputError("posts data fetch: name at least one data set (posts data lists them)")
    for name in names:
        sets.find(name)
    for name in names:
        where = sets.fetch(name, announce=_print)
        _print(f"{name}: {where or 'embedded, nothing to fetch'}")


@app.command()
def new(slug: str, title: Annotated[str | None, typer.Option(help="the post's title")] = None) -> None:
    """Make a new post that already runs, is tested and is listed."""
    from lib import scaffold

    root = project.root()
    for path in scaffold.new(root, slug, title):
        _print(str(path.relative_to(root)))
