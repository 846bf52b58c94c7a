"""A built site for each renderer, once a session, and the pages in it as trees."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import lxml.html
import pytest

from lib.core import InputError
from lib.site import build as building
from lib.site import quarto
from lib.site.execute import Executed
from tests.site import project


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds take notebooks with their stored outputs as executed."""
    monkeypatch.setattr(building, "executed", lambda root, names, **_: Executed(project.stored(root), ()))


@pytest.fixture(scope="session", params=["embedded", "quarto"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the torture site as built by a renderer."""
    if request.param == "quarto" and not quarto.usable():
        pytest.skip("quarto is not installed here, so only the embedded renderer's pages are read")
    root = project.make(tmp_path_factory.mktemp(request.param))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "executed", lambda root, names, **_: Executed(project.stored(root), ()))
        return building.build(root, renderer=request.param).out


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the torture site as built by the embedded renderer."""
    root = project.make(tmp_path_factory.mktemp("only-embedded"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "executed", lambda root, names, **_: Executed(project.stored(root), ()))
        return building.build(root, renderer="embedded").out


@pytest.fixture(scope="session")
def page(built: Path) -> Callable[[str], lxml.html.HtmlElement]:
    """A page of the built site by its path."""
    return lambda name: lxml.html.document_fromstring((built / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the project's own site: every post as it is, from published records, by the embedded renderer."""
    root, out = Path(__file__).resolve().parents[2], tmp_path_factory.mktemp("real") / "_site"
    deadline = time.monotonic() + 600
    while True:
        try:
            return building.build(root, renderer="embedded", out=out).out
        except (
            InputError
        ) as error:  # another process of these tests is at it; what it makes is kept for this one
            if "another build" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(1)
