"""What both renderers need of a notebook's source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "posts").glob("*/index.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.parent.name)
def test_each_cell_option_is_one_line(path):
    """Quarto doubles the newlines inside options of notebooks, so a block over several lines loses its text."""
    for cell in json.loads(path.read_text())["cells"]:
        for line in "".join(cell["source"]).splitlines():
            if line.startswith("#|"):
                option = yaml.safe_load(line[2:])
                assert isinstance(option, dict) and None not in option.values(), f"{cell['id']}: {line}"
                assert not line.rstrip().endswith((">", ">-", "|", "|-")), f"{cell['id']}: {line}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.parent.name)
def test_sources_hold_no_outputs_and_have_stable_ids(path):
    cells = json.loads(path.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    ids = [cell["id"] for cell in cells]
    assert len(set(ids)) == len(ids)
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in cells) == 1
