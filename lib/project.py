"""Where the project is, and what is in it: found in the file system, never listed by hand.

`root()` is `POSTS_ROOT`, else the first folder upwards from the working folder that holds `_quarto.yml`, else the
folder that this package was installed from (an editable install). Papermill, nbval, Jupyter and Quarto each start a
kernel in another folder; all of them find the same root.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from lib.core import InputError

MARKER = "_quarto.yml"


def root() -> Path:
    """The project's folder. Raises InputError where there is none."""
    given = os.environ.get("POSTS_ROOT")
    if given:
        path = Path(given).expanduser().resolve()
        if not (path / MARKER).is_file():
            raise InputError(f"POSTS_ROOT is {given}, but there is no {MARKER} in it")
        return path
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / MARKER).is_file() and (folder / "posts").is_dir():
            return folder
    installed = Path(__file__).resolve().parent.parent
    if (installed / MARKER).is_file():
        return installed
    raise InputError(
        f"no project here: no {MARKER} in {here} or above it; set POSTS_ROOT to the project's folder"
    )


def store_path(project: Path) -> Path:
    """The working store: `POSTS_STORE`, else `.store/` in the project."""
    given = os.environ.get("POSTS_STORE")
    return Path(given).expanduser().resolve() if given else project / ".store"


def module_name(slug: str) -> str:
    """The Python name of a post: `dl-massive-label-noise` -> `dl_massive_label_noise`."""
    return slug.replace("-", "_")


def slugs(project: Path) -> tuple[str, ...]:
    """The posts that have a notebook, in alphabetical order."""
    return tuple(sorted(path.parent.name for path in (project / "posts").glob("*/index.ipynb")))


def check_slugs(given: Iterable[str], among: Iterable[str]) -> tuple[str, ...]:
    """`given` as a tuple, or all of `among` where nothing is given. Raises InputError for one that does not exist."""
    among = tuple(among)
    chosen = tuple(dict.fromkeys(given))
    for slug in chosen:
        if slug not in among:
            near = difflib.get_close_matches(slug, among, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(among) or 'none'}"
            raise InputError(f"no post {slug!r}; {hint}")
    return chosen or among


SLUG = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def valid_slug(slug: str) -> str:
    """`slug`, or InputError: lower-case words joined by hyphens, beginning with a letter."""
    if not SLUG.fullmatch(slug):
        raise InputError(
            f"{slug!r} cannot be a slug: lower-case letters and digits joined by hyphens, a letter first"
        )
    return slug


def read_yaml(path: Path, name: str) -> Any:
    """A YAML file's plain values. Raises InputError, which begins with `name`, for a file that cannot be read as such."""
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (
        OSError,
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ) as error:  # ValueError: no UTF-8, or no such date
        raise InputError(f"{name}: cannot be read as YAML: {' '.join(str(error).split())}") from error


@lru_cache(maxsize=4)
def _config(path: Path, stamp: int) -> dict[str, Any]:
    found = read_yaml(path, str(path)) or {}
    if not isinstance(found, dict):
        raise InputError(f"{path}: a mapping is wanted, such as 'project:' and 'website:'")
    return found


def site_config(project: Path) -> dict[str, Any]:
    """`_quarto.yml` as plain values."""
    path = project / MARKER
    return _config(path, path.stat().st_mtime_ns)
