"""Executed notebooks in `.build/executed/`, made again only where something that they show has changed.

    done = executed(root, ["posts/tent/index.ipynb"], profile="published")
    done.paths["posts/tent/index.ipynb"], done.ran

What a notebook shows depends on its text, on its folder (records, claims, images), on the package's code (which it calls,
and which it quotes), on `_quarto.yml`, and on the libraries that draw. All of it is hashed; when in doubt it runs again.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from lib.core import PostsError
from lib.project import MARKER

FOLDER = ".build/executed"
LIBRARIES = (
    "numpy",
    "pandas",
    "scipy",
    "matplotlib",
    "seaborn",
    "ipython",
    "ipykernel",
    "nbclient",
    "papermill",
)


@dataclass(frozen=True)
class Executed:
    """Where each executed notebook is, and which of them ran just now."""

    paths: dict[str, Path]
    ran: tuple[str, ...]


def executed(
    root: Path,
    notebooks: Iterable[str],
    *,
    profile: str = "published",
    jobs: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Executed:
    """Execute what changed. Raises the first notebook's error after all others have ended; those that ran are kept.

    A profile other than `published` reads the working store, which changes without leaving a trace here: it always runs.
    """
    from lib.notebooks import Job, execute_many, parameters

    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    manifest = _manifest(folder / "manifest.json")
    common = _common(root)
    keys, paths, todo = {}, {}, []
    for name in notebooks:
        keys[name] = _key(root, name, common, profile)
        paths[name] = folder / name
        fresh = profile == "published" and manifest.get(name) == keys[name] and paths[name].is_file()
        if not fresh:
            todo.append(name)
    errors: list[PostsError] = []
    work = []
    # The longest first, so that none of them is left alone at the end.
    for name in sorted(todo, key=lambda name: (-(root / name).stat().st_size, name)):
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        given = {"profile": profile} if any(p.name == "profile" for p in parameters(root / name)) else {}
        work.append(Job(root / name, paths[name], given))
    names = {root / name: name for name in todo}
    for done in execute_many(work, at_once=jobs):
        name = names[done.job.path]
        if done.error is not None:
            manifest.pop(name, None)
            errors.append(done.error)
            continue
        tell(f"executed {name} in {done.seconds:.1f} s")
        manifest[name] = keys[name]
        _save(folder / "manifest.json", manifest)
    if errors:
        raise errors[0]
    return Executed(paths, tuple(todo))


def _manifest(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _save(path: Path, manifest: dict[str, str]) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
    beside.replace(path)


def tree_hash(paths: Iterable[Path], root: Path) -> str:
    """One hash for the names and contents of files."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _common(root: Path) -> str:
    """What every notebook depends on: the package without the site and the command, the settings, the libraries."""
    package = Path(__file__).resolve().parent.parent
    code = [path for path in package.rglob("*.py") if "site" not in path.relative_to(package).parts[:1]]
    # The part of the site that notebooks call.
    code += [*package.glob("site/interactive.*"), package / "site/scenes.py"]
    versions = [sys.version]
    for name in LIBRARIES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{name} missing")
    marker = hashlib.sha256((root / MARKER).read_bytes()).hexdigest()
    return hashlib.sha256("\n".join([tree_hash(code, package), marker, *versions]).encode()).hexdigest()


def _key(root: Path, name: str, common: str, profile: str) -> str:
    folder = (root / name).parent
    files = [
        path
        for path in folder.rglob("*")
        if path.is_file()
        and ".ipynb_checkpoints" not in path.parts
        and not path.name.endswith(".failed.ipynb")
    ]
    return hashlib.sha256(f"{common} {profile} {tree_hash(files, root)}".encode()).hexdigest()
