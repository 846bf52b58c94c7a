"""The site against the inventory of the originals: what differs is declared, or named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from lib.core import InputError
from lib.site import build as building
from lib.site import generated, mirror
from lib.site.execute import Executed
from tests.site import project
from tests.site.project import code, markdown, notebook, picture

ROOT = Path(__file__).resolve().parents[2]
SLUG = "distilling-knowledge"
FRONT = 'title: "Distilling the Knowledge in a Neural Network"\ndate: 2025-01-28\ncategories: [deep learning, paper]'
FIGURE = code("#| label: fig-demo\n#| fig-cap: Softer\n#| fig-alt: softer\n1", picture(30, 20))
TEXT = "## Idea\n\nText.\n\n## Something of ours\n\nText.\n\n## MNIST\n\nText.\n\n## Mythical 3\n\nText.\n\n## Final thoughts\n\nText."
DECLARED = "figures:\n  images/demo.png: fig-demo\nsections:\n  Mystical 3: Mythical 3\n"


def build(tmp_path: Path, front: str = FRONT, text: str = TEXT, declared: str = DECLARED) -> list[str]:
    root = project.make(tmp_path, {SLUG: notebook(front, markdown(text), dict(FIGURE))})
    for name in ("inventory.yml", "mirror.yml"):
        shutil.copyfile(ROOT / "posts" / name, root / "posts" / name)
    (root / "posts" / SLUG / "mirror.yml").write_text(declared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "executed", lambda root, names, **_: Executed(project.stored(root), ()))
        patch.setattr(building, "_generated", lambda root: {})
        building.build(root, renderer="embedded")
    return [str(problem) for problem in mirror.mirror(root)]


def test_a_faithful_post_has_no_problem(tmp_path: Path) -> None:
    assert build(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"front": FRONT.replace("Neural", "Nervous")},
            "the original's is 'Distilling the Knowledge in a Neural Network'",
        ),
        ({"front": FRONT.replace("01-28", "01-29")}, "the original's is Tue, 28 Jan 2025 05:00:00 GMT"),
        ({"front": FRONT.replace(", paper", "")}, "wanted are deep learning, paper"),
        ({"text": TEXT.replace("## MNIST", "## Digits")}, "there is no section 'mnist'"),
        (
            {"text": TEXT.replace("## Idea\n\nText.\n\n", "") + "\n\n## Idea"},
            "there is no section|stands before",
        ),
        ({"declared": "sections: {Mystical 3: Mythical 3}"}, "figure images/demo.png has no counterpart"),
        ({"declared": DECLARED.replace("fig-demo", "fig-none")}, "no such label"),
        (
            {"declared": DECLARED.replace("demo.png", "other.png")},
            "the original has no figure images/other.png",
        ),
        ({"declared": DECLARED + "exceptions: {x: no}"}, "a sentence that says why"),
    ],
)
def test_each_difference_is_named(tmp_path: Path, change: dict[str, str], message: str) -> None:
    import re

    found = build(tmp_path, **change)
    assert any(re.search(message, problem) for problem in found), found


def test_an_unknown_field_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no field 'figuers'"):
        build(tmp_path, declared="figuers: {}")


def test_the_inventory_is_whole() -> None:
    known = mirror.originals(ROOT)
    assert len(known) == 10
    assert next(iter(known)) == "trm"
    assert list(known)[-1] == "label-refinery"
    counts = yaml.safe_load((ROOT / "posts/inventory.yml").read_text(encoding="utf-8"))["totals"]
    assert (
        sum(len(post["figures"]) for slug, post in known.items() if slug != "label-refinery")
        == counts["figures"]
    )


def test_drafts_are_named_as_what_they_are(tmp_path: Path) -> None:
    root = project.make(tmp_path, {SLUG: notebook(FRONT, markdown(TEXT))})
    shutil.copyfile(ROOT / "posts/inventory.yml", root / "posts/inventory.yml")
    text = generated.drafts(root)
    assert text.count("\n- [") == 9
    assert "Distilling" not in text
