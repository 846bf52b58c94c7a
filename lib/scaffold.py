"""A new post that runs, is tested and is listed, to be changed piece by piece into the post that is meant.

    new(root(), "eleventh-post", "The Eleventh Post")      # the paths that were written

The templates in `lib/templates/post/` are a small complete post called `new-post`; the slug, the module's name, the title
and the date are put in the place of that post's. Its smoke runs are computed and published, so the page has records
from the first minute. All or nothing: where anything fails, nothing that was written stays.
"""

from __future__ import annotations

import datetime
import importlib
import importlib.util
import json
import keyword
import shutil
from pathlib import Path
from typing import Any

from lib import project
from lib.core import InputError, PostsError
from lib.runs.files import write_whole

TEMPLATES = Path(__file__).resolve().parent / "templates" / "post"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def new(root: Path, slug: str, title: str | None = None, *, date: datetime.date | None = None) -> list[Path]:
    """Write a new post, compute its smoke runs and publish them; the files that were written.

    title: the slug's words where none is given. date: of the post, today where none is given. Raises InputError for a
    slug or title that cannot be, for files that are there already, and where torch is not installed.
    """
    module = project.module_name(project.valid_slug(slug))
    if keyword.iskeyword(module):
        raise InputError(f"{slug!r} cannot be a slug: Python keeps the word for itself")
    title = slug.replace("-", " ").capitalize() if title is None else " ".join(title.split())
    if not title:
        raise InputError("the title is empty; a text is wanted")
    if root.resolve() != Path(__file__).resolve().parent.parent:
        raise InputError(
            f"{root} is not the project that this command belongs to; run python -m lib new {slug} there"
        )
    if importlib.util.find_spec("torch") is None:
        raise InputError("a new post computes its first runs, which needs torch: pip install -e '.[compute]'")
    files = _files(root, slug, module, title, date or datetime.date.today())
    for path in (*files, root / "posts" / slug):
        if path.exists():
            raise InputError(f"{path.relative_to(root)} is there already; another slug is wanted")
    store = project.store_path(root) / slug
    kept = store.exists()
    try:
        for path, text in files.items():
            write_whole(path, text.encode())
        return [*files, *_first_runs(root, slug)]
    except BaseException:
        for path in files:
            path.unlink(missing_ok=True)
        shutil.rmtree(root / "posts" / slug, ignore_errors=True)
        if not kept:
            shutil.rmtree(store, ignore_errors=True)
        raise


def _files(root: Path, slug: str, module: str, title: str, date: datetime.date) -> dict[Path, str]:
    """The text of each file of the post."""

    def text(name: str) -> str:
        found = (TEMPLATES / name).read_text(encoding="utf-8")
        # the title last: it is the author's, and may contain anything
        for old, own in (("new-post", slug), ("new_post", module), ("1970-01-01", date.isoformat())):
            found = found.replace(old, own)
        return found.replace('"A New Post"', json.dumps(title, ensure_ascii=False))

    return {
        root / "lib" / "experiments" / f"{module}.py": text("experiments.py.tmpl"),
        root / "lib" / "quantities" / f"{module}.py": text("quantities.py.tmpl"),
        root / "posts" / slug / "index.ipynb": notebook(text("index.ipynb.tmpl")),
        root / "posts" / slug / "claims.yml": text("claims.yml.tmpl"),
        root / "tests" / f"test_experiments_{module}.py": text("test.py.tmpl"),
    }


def notebook(text: str) -> str:
    """A notebook (JSON, nbformat 4.5) from cells that each begin with a line `%% kind id [tag]`."""
    cells: list[dict[str, Any]] = []
    for part in text.removeprefix("%% ").split("\n%% "):
        head, _, source = part.partition("\n")
        kind, name, *tags = head.split()
        cell: dict[str, Any] = {"cell_type": kind, "id": name, "metadata": {"tags": tags} if tags else {}}
        if kind == "code":
            cell |= {"execution_count": None, "outputs": []}
        cells.append(cell | {"source": source.strip("\n").splitlines(keepends=True)})
    metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    whole = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _first_runs(root: Path, slug: str) -> list[Path]:
    from lib.runs import sweep

    importlib.invalidate_caches()
    report = sweep.compute(slug, "smoke", project_root=root)
    if report.failures:
        config, ending = report.failures[0]
        raise PostsError(f"{slug}: the first run failed, {config.label()}: {ending.error}")
    published = sweep.publish(slug, "smoke", project_root=root)
    return [pack.path for pack in published]
