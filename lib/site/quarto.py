"""Quarto as the renderer: found, its version checked, run on a staged copy with executed notebooks.

usable()                               # whether a quarto new enough is on the PATH
render(site, folder, executed, generated, tell)
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import yaml

from lib.core import InputError, PostsError
from lib.site.place import post_links
from lib.site.settings import Site
from lib.site.tidy import tidy

OLDEST = (1, 7)
STAGE = ".build/quarto"


@functools.cache
def version() -> tuple[int, ...] | None:
    """The version of the quarto on the PATH, or None."""
    found = shutil.which("quarto")
    if found is None:
        return None
    done = subprocess.run(
        [found, "--version"], capture_output=True, encoding="utf-8", check=False, timeout=60
    )
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", done.stdout)
    return tuple(int(part) for part in match.groups() if part) if match and done.returncode == 0 else None


def usable() -> bool:
    """Whether Quarto is there and new enough."""
    found = version()
    return found is not None and found[:2] >= OLDEST


def render(
    site: Site,
    folder: Path,
    executed: dict[str, Path],
    generated: dict[str, str],
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Render the project into `folder`, from a copy in which the notebooks are executed and execution is off.

    tell: is given Quarto's lines as they come. Raises InputError where there is no Quarto or it is too old, PostsError
    with Quarto's own words, the page among them, where it fails.
    """
    found = version()
    oldest = ".".join(map(str, OLDEST))
    if found is None:
        raise InputError("quarto is not on the PATH; install it, or use --renderer embedded")
    if found[:2] < OLDEST:
        raise InputError(
            f"quarto {'.'.join(map(str, found))} is too old; {oldest} or newer is wanted, or --renderer embedded"
        )
    stage = site.root / STAGE
    _stage(site, stage, executed, generated)
    lines: list[str] = []
    with subprocess.Popen(
        ["quarto", "render", "--no-execute"],
        cwd=stage,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        # Dates are local midnight: the feed's are those of the original only in its time zone.
        env={**os.environ, "TZ": "America/New_York"},
    ) as process:
        for line in process.stdout or ():
            line = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line).rstrip()
            if line:
                lines.append(line)
                tell(line)
    if process.returncode:
        raise PostsError(failure(lines))
    shutil.copytree(stage / site.output, folder)
    tidy(folder)
    for name, path in executed.items():
        slug = Path(name).parent.name
        shutil.copyfile(path, folder / Path(name).parent / f"{slug}.ipynb")


def failure(lines: list[str]) -> str:
    """One line from Quarto's output: the page that it was at, and what it said was wrong."""
    page = next(
        (m.group(1) for line in reversed(lines) if (m := re.match(r"\s*\[\s*\d+/\d+\]\s+(\S+)", line))), ""
    )
    start = next(
        (i for i, line in enumerate(lines) if re.search(r"\bERROR\b|^Error", line)), max(0, len(lines) - 3)
    )
    said = " ".join(" ".join(lines[start : start + 4]).split())
    return f"quarto failed{f' at {page}' if page else ''}: {said or 'it said nothing'}"


def _stage(site: Site, stage: Path, executed: dict[str, Path], generated: dict[str, str]) -> None:
    """A copy of what Quarto reads, with executed notebooks in place of the sources and no hooks."""
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    for name in ("posts", "about", "scorecard", "benchmarks", "lib/site"):
        source = site.root / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("results", "__pycache__", ".ipynb_checkpoints", "*.failed.ipynb")
            shutil.copytree(source, stage / name, ignore=ignore)
    for path in [*site.root.glob("*.qmd"), *(site.root / name for name in site.bibliography)]:
        if path.is_file():
            shutil.copyfile(path, stage / path.name)
    for name, path in executed.items():
        (stage / name).write_text(_staged(site, name, path), encoding="utf-8")
    for name, text in generated.items():
        target = stage / ".build/generated" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    config = yaml.safe_load((site.root / "_quarto.yml").read_text(encoding="utf-8"))
    for hook in ("pre-render", "post-render"):
        config.get("project", {}).pop(hook, None)
    config["execute"] = {"enabled": False}
    (stage / "_quarto.yml").write_text(
        yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )


def _staged(site: Site, name: str, path: Path) -> str:
    """An executed notebook as Quarto is given it: no cell of papermill's, and all links of the post in its front matter."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["cells"] = [
        cell
        for cell in notebook["cells"]
        if "injected-parameters" not in (cell.get("metadata", {}).get("tags") or [])
    ]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["source"] = _options_in_lines("".join(cell["source"]))
            for output in cell.get("outputs", []):
                if "text" in output:
                    output["text"] = _lines(output["text"])
                data = output.get("data", {})
                data |= {kind: _lines(text) for kind, text in data.items() if kind.startswith("text/")}
        if cell["cell_type"] != "raw":
            cell["source"] = _lines(cell["source"])
    front = next(cell for cell in notebook["cells"] if cell["cell_type"] == "raw")
    source = front["source"]
    meta = yaml.safe_load((source if isinstance(source, str) else "".join(source)).strip().strip("-"))
    meta["other-links"] = post_links(name, meta, site)
    front["source"] = _lines(f"---\n{yaml.safe_dump(meta, sort_keys=False, allow_unicode=True)}---")
    return json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"


def _lines(text: str | list[str]) -> list[str]:
    """Text as a list of lines: one string is valid in a notebook, but Quarto would join its lines."""
    return "".join(text).splitlines(keepends=True)


def _options_in_lines(source: str) -> str:
    """A cell's source with each of its options in one line: Quarto doubles the line breaks within an option.

    A block (`>-`) then begins with an empty line, and its option, a caption or an alt text, is lost.
    """
    lines = source.splitlines(keepends=True)
    end = next((i for i, line in enumerate(lines) if not line.startswith("#|")), len(lines))
    if end == 0:
        return source
    options = yaml.safe_load("".join(line[2:].removeprefix(" ") for line in lines[:end]))
    if not isinstance(options, dict):
        return source
    if isinstance(options.get("code-summary"), str):
        # For Quarto a summary is Markdown in an attribute, here it is text.
        options["code-summary"] = options["code-summary"].replace("<", "&amp;lt;")
    flat = "".join(
        f"#| {key}: {json.dumps(value, ensure_ascii=False, default=str)}\n" for key, value in options.items()
    )
    return flat + "".join(lines[end:])
