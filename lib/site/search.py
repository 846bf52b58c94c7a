"""The search index of a built site, by pagefind, made again only where a page has changed.

index(folder, cache)                   # writes folder/pagefind/
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from lib.core import InputError, PostsError

KEPT = (
    "pagefind.js",
    "pagefind-worker.js",
    "pagefind-entry.json",
    "wasm.en.pagefind",
    "wasm.unknown.pagefind",
)
SUFFIXES = (".pf_meta", ".pf_fragment", ".pf_index")


def index(folder: Path, cache: Path) -> None:
    """Index the pages in `folder`. The last index and the hash of its pages are kept in `cache`."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.html")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    key, kept, stamp = digest.hexdigest(), cache / "pagefind", cache / "pagefind.key"
    if not (kept.is_dir() and stamp.is_file() and stamp.read_text() == key):
        shutil.rmtree(kept, ignore_errors=True)
        _run(folder, kept)
        stamp.write_text(key)
    shutil.copytree(kept, folder / "pagefind")


def _run(folder: Path, out: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pagefind",
        "--site",
        str(folder),
        "--output-path",
        str(out),
        "--force-language",
        "en",
    ]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=300)
    if "No module named pagefind" in done.stderr:
        raise InputError("pagefind is not installed here: pip install -e '.[site]' brings it")
    if done.returncode:
        raise PostsError(f"pagefind failed: {' '.join((done.stderr or done.stdout).split())[-400:]}")
    # Its own user interface is not used: the pages ask the engine through a script of ours.
    for path in out.rglob("*"):
        if path.is_file() and path.name not in KEPT and path.suffix not in SUFFIXES:
            path.unlink()
