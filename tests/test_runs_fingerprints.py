"""The code fingerprint follows what a run reaches, and nothing else."""

from __future__ import annotations

import importlib
import sys

import pytest

from lib.runs import fingerprints

SOURCES = {
    "__init__": "",
    "post": '''
"""A post."""
from pkg import nets
from pkg.tools import helper as h
import pkg.deep.inner

LIMIT = 3

class Shared(Base, post="p"):
    gamma: int

class C(Shared, experiment="x"):
    """Its fields are in the record."""
    alpha: int
    def double(self): return 2 * self.alpha

def handler(config, context):
    from pkg.lazy import late
    net = nets.small(LIMIT)
    pkg.deep.inner.bottom()
    return h(net), late()

def other():
    return nets.big()
''',
    "nets": """
WIDTH = 4
def small(n: int) -> int:
    return shared(n) + WIDTH
def big():
    return shared(9)
def shared(n):
    # a comment
    return n
def unused():
    return 1
""",
    "tools": "from pkg.nets import shared as again\ndef helper(x):\n    return again(x)\n",
    "lazy": "import pkg.whole as w\ndef late():\n    return getattr(w, 'a')()\n",
    "whole": "def a():\n    return 1\ndef b():\n    return 2\n",
    "deep/__init__": "",
    "deep/inner": "def bottom():\n    return nothing\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    def write(**changes):
        for name, source in (SOURCES | changes).items():
            path = tmp_path / "pkg" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        importlib.invalidate_caches()
        fingerprints._module.cache_clear()
        fingerprints._current.cache_clear()
        return fingerprints.code("pkg.post", "handler") | fingerprints.code("pkg.post", "C")

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(fingerprints, "PACKAGE", "pkg")
    monkeypatch.setattr(fingerprints, "POSTS", "pkg.post:")
    yield write
    fingerprints._module.cache_clear()
    fingerprints._current.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "pkg"]:
        del sys.modules[name]


def test_what_is_reached(package):
    assert set(package()) == {
        "pkg.post:handler",
        "pkg.post:LIMIT",
        "pkg.post:C",
        "pkg.post:Shared",
        "pkg.nets:small",
        "pkg.nets:shared",
        "pkg.nets:WIDTH",
        "pkg.tools:helper",
        "pkg.lazy:late",
        "pkg.whole:a",
        "pkg.whole:b",
        "pkg.deep.inner:bottom",
    }


def changed(package, name, old, new):
    before = package()
    assert old in SOURCES[name]
    assert fingerprints.changes(before) == []
    package(**{name: SOURCES[name].replace(old, new)})
    return fingerprints.changes(before)


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("nets", "WIDTH = 4", "WIDTH = 5", ["pkg.nets:WIDTH changed"]),
        ("nets", "return n\n", "return n + 1\n", ["pkg.nets:shared changed"]),
        ("post", "gamma: int", "gamma: int = 3", ["pkg.post:Shared changed"]),
        ("post", "2 * self.alpha", "3 * self.alpha", ["pkg.post:C changed"]),
        (
            "post",
            "nets.small(LIMIT)",
            "nets.big()",
            ["pkg.post:handler changed", "pkg.nets:WIDTH is gone", "pkg.nets:big is new"],
        ),
        (
            "tools",
            "from pkg.nets import shared as again",
            "from pkg.nets import big as again",
            ["pkg.nets:big is new"],
        ),
        ("whole", "return 2", "return 3", ["pkg.whole:b changed"]),
    ],
)
def test_a_change_is_named(package, name, old, new, says):
    found = changed(package, name, old, new)
    assert set(says) <= set(found)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("nets", "# a comment", "# another comment\n"),
        ("nets", "(n: int) -> int", "(n)"),
        ("nets", "return 1", "return 2"),
        (
            "nets",
            "def big():\n    return shared(9)",
            "def big():\n    return 0\n\ndef bigger():\n    return 1",
        ),
        ("post", '"""Its fields are in the record."""', '"""Said otherwise."""'),
        ("post", "    alpha: int\n", "    alpha: int\n    beta: int = 3\n"),
        ("post", "    gamma: int\n", "    gamma: int\n    delta: int = later(3)\n"),
        ("tools", "def helper(x):\n    return again(x)", "def helper(x): return (  again( x ) )"),
    ],
)
def test_what_cannot_change_a_result_is_no_change(package, name, old, new):
    assert changed(package, name, old, new) == []


def test_a_package_that_cannot_be_imported_here_is_read_all_the_same(package):
    """Staleness is told where torch is not installed: nothing is imported to find a file."""
    whole = package(**{"deep/__init__": "import not_installed_here"})
    assert "pkg.deep.inner:bottom" in whole
    assert fingerprints.changes(whole) == []
