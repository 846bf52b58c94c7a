"""The site from start to end: notebooks executed, pages rendered, indexed, checked, and only then put in place.

    report = build(root(), renderer="auto", profile="published")
    report.renderer, report.pages, report.ran, report.seconds

`auto` takes Quarto where it is on the PATH and new enough, else the embedded renderer. The site is made in a folder beside
the last one and takes its place by a rename, so whatever fails leaves the last good site untouched.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lib.core import InputError
from lib.site import embedded, generated, quarto, search
from lib.site.check import Problem, check_site
from lib.site.execute import executed, tree_hash
from lib.site.settings import Site, settings
from lib.site.source import read

Renderer = Literal["auto", "quarto", "embedded"]
WORK = ".build"


@dataclass(frozen=True)
class BuildReport:
    """What a build did. ran: notebooks executed just now; unchanged: whether there was nothing to do."""

    out: Path
    renderer: str
    pages: int
    ran: tuple[str, ...]
    seconds: float
    unchanged: bool = False


def build(
    root: Path,
    *,
    renderer: Renderer = "auto",
    profile: str = "published",
    jobs: int | None = None,
    out: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> BuildReport:
    """Build the site of the project in `root` into `out` (default: the output folder of `_quarto.yml`).

    Only what lies in that folder is remembered: another `out` is made again each time, from what is kept of its pages.

    tell: is given a line for each step. Raises InputError for what is wrong in a source, and then changes nothing.
    """
    if renderer not in ("auto", "quarto", "embedded"):
        raise InputError(f"no renderer {renderer!r}; there are auto, quarto, embedded")
    begin = time.monotonic()
    site = settings(root)
    out = out or root / site.output
    chosen = renderer if renderer != "auto" else "quarto" if quarto.usable() else "embedded"
    with _lock(root / WORK):
        _mend(out)
        # Read first: a broken source is found before a kernel starts.
        paths = embedded.sources(site)
        notebooks = [path for path in paths if path.endswith(".ipynb")]
        for path in paths:
            read(root / path, root)
        done = executed(root, notebooks, profile=profile, jobs=jobs, tell=tell)
        key = _key(site, paths, done.paths, chosen)
        if _same(root, out, key):
            return BuildReport(out, chosen, len(paths), done.ran, time.monotonic() - begin, unchanged=True)
        parts = _generated(root)
        fresh = out.with_name(f"{out.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            if chosen == "quarto":
                quarto.render(site, fresh, done.paths, parts, tell)
            else:
                _embedded(site, fresh, done.paths, parts, jobs)
                search.index(fresh, root / WORK)
            _refuse(check_site(fresh, site.url), site, paths)
            _swap(fresh, out)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        if out == root / site.output:
            _remember(root, out, key)
    return BuildReport(out, chosen, len(paths), done.ran, time.monotonic() - begin)


def _embedded(
    site: Site, folder: Path, done: dict[str, Path], parts: dict[str, str], jobs: int | None
) -> None:
    files, _ = embedded.render_site(site, done, parts, site.root / WORK / "pages", jobs)
    for name, data in sorted(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.read_bytes())


def _refuse(problems: list[Problem], site: Site, paths: list[str]) -> None:
    """Raise an InputError about the first problem, with the file and cell that it comes from where that can be told."""
    if not problems:
        return
    first = problems[0]
    where = str(first)
    for path in paths:
        if str(Path(path).with_suffix(".html")) == first.page and first.token:
            page = read(site.root / path, site.root)
            where = f"{page.where(page.cell_with(first.token))}: {first.message}"
    more = f" (and {len(problems) - 1} more: posts check lists them)" if len(problems) > 1 else ""
    raise InputError(where + more)


# --- incremental, atomic -------------------------------------------------------------------------------------------


def _key(site: Site, paths: list[str], done: dict[str, Path], renderer: str) -> str:
    """A hash of all that the site is made from."""
    root = site.root
    package = Path(__file__).resolve().parent.parent
    beside = [
        path
        for folder in ("posts", "about", "scorecard", "benchmarks")
        for path in (root / folder).rglob("*")
    ]
    inputs = [path for path in beside if path.is_file() and path.suffix != ".pyc"]
    inputs += [root / "_quarto.yml", *(root / name for name in site.bibliography if (root / name).is_file())]
    inputs += [root / path for path in paths]
    digest = hashlib.sha256(f"{renderer} {tree_hash(set(inputs), root)}".encode())
    digest.update(
        tree_hash((p for p in package.rglob("*") if p.is_file() and p.suffix != ".pyc"), package).encode()
    )
    for name, path in sorted(done.items()):
        digest.update(name.encode() + path.read_bytes())
    return digest.hexdigest()


def _files(folder: Path) -> list[list[object]]:
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            stat = path.stat()
            found.append([path.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns])
    return found


def _same(root: Path, out: Path, key: str) -> bool:
    """Whether `out` is what the last build made of the same inputs, with no file touched since."""
    try:
        kept = json.loads((root / WORK / "site.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return False
    return kept.get("key") == key and kept.get("out") == str(out) and kept.get("files") == _files(out)


def _remember(root: Path, out: Path, key: str) -> None:
    body = {"key": key, "out": str(out), "files": _files(out)}
    beside = root / WORK / "site.new"
    beside.write_text(json.dumps(body), encoding="utf-8")
    beside.replace(root / WORK / "site.json")


def _generated(root: Path) -> dict[str, str]:
    """The generated parts, judged again only where records, claims, posts' titles and order, or code changed."""
    package = Path(__file__).resolve().parent.parent
    inputs = [
        p
        for name in ("posts", "benchmarks", "tests/mutations")
        for p in (root / name).rglob("*")
        if p.is_file() and p.suffix != ".ipynb"
    ]
    titles = json.dumps(list(generated.titles(root).items()))
    code = list(package.rglob("*.py"))
    key = hashlib.sha256(
        (tree_hash([*inputs, root / "_quarto.yml"], root) + tree_hash(code, package) + titles).encode()
    ).hexdigest()
    stamp = root / WORK / "generated.json"
    with contextlib.suppress(OSError, ValueError):
        kept = json.loads(stamp.read_text(encoding="utf-8"))
        if kept["key"] == key:
            return dict(kept["parts"])
    parts = generated.write(root)
    stamp.write_text(json.dumps({"key": key, "parts": parts}), encoding="utf-8")
    return parts


def _old(out: Path) -> Path:
    return out.with_name(f"{out.name}.old")


def _mend(out: Path) -> None:
    """Put the last site back where a crash between the two renames of `_swap` left it aside."""
    if _old(out).is_dir() and not out.exists():
        _old(out).rename(out)


def _swap(fresh: Path, out: Path) -> None:
    """Put `fresh` in the place of `out`."""
    old = _old(out)
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    try:
        fresh.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One build at a time in a project."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError("another build of this site is running; wait for it to end") from error
        handle.write(str(os.getpid()))
        handle.flush()
        yield
