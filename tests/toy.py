"""The toy post (tests/toy_post.py) made known to this process, for tests of the run model that need no command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lib import experiments
from lib.runs import context


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The module of the toy post, as `lib.experiments.toy_post`, and a project around it in `tmp_path`."""
    package = tmp_path / "more_experiments"
    package.mkdir()
    shutil.copy(Path(__file__).with_name("toy_post.py"), package / "toy_post.py")
    (tmp_path / "posts" / "toy-post").mkdir(parents=True)
    (tmp_path / "_quarto.yml").write_text("project: {type: website}\n")
    monkeypatch.setattr(experiments, "__path__", [*experiments.__path__, str(package)])
    monkeypatch.setenv("POSTS_ROOT", str(tmp_path))
    monkeypatch.setenv("POSTS_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    module = experiments.load("toy-post")
    yield module
    import sys

    sys.modules.pop("lib.experiments.toy_post", None)
    context._code.cache_clear()
