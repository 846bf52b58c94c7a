"""Planted mistakes (`tests/mutations/`, a module a post): each must be noticed by the test that names it."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import tests.mutations

pytest.importorskip("torch")

POSTS = [module.name for module in pkgutil.iter_modules(tests.mutations.__path__)]
TABLES = {post: importlib.import_module(f"tests.mutations.{post}") for post in POSTS}
MISTAKES = [(post, mistake) for post, table in TABLES.items() for mistake in table.MISTAKES]


def noticed(copy, test_file, names):
    """pytest on the tests of these names: 0 where all pass, 1 where some fail."""
    arguments = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", test_file, "-k", " or ".join(names))
    return copy.python(*arguments, timeout=600)


@pytest.mark.parametrize("post", POSTS)
def test_each_post_has_mistakes_and_each_mistake_a_place(project_copy, post):
    table = TABLES[post]
    assert len(table.MISTAKES) >= 3
    for path, right, wrong, name in table.MISTAKES.values():
        assert (project_copy.root / path).read_text(encoding="utf-8").count(right) == 1, (path, right)
        assert right != wrong
        assert f"def {name}(" in (project_copy.root / table.TESTS[path]).read_text(encoding="utf-8")


@pytest.mark.long
@pytest.mark.parametrize("post", POSTS)
def test_without_a_mistake_these_tests_pass(project_copy, post):
    table = TABLES[post]
    for path, test_file in table.TESTS.items():
        names = {name for where, _, _, name in table.MISTAKES.values() if where == path}
        done = noticed(project_copy, test_file, sorted(names))
        assert done.returncode == 0 and "passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.parametrize(("post", "mistake"), MISTAKES)
def test_a_planted_mistake_is_noticed(project_copy, post, mistake):
    table = TABLES[post]
    path, right, wrong, name = table.MISTAKES[mistake]
    source = project_copy.root / path
    text = source.read_text(encoding="utf-8")
    assert text.count(right) == 1, f"{path} has changed: say anew where the mistake goes"
    source.write_text(text.replace(right, wrong), encoding="utf-8")
    done = noticed(project_copy, table.TESTS[path], [name])
    assert done.returncode == 1 and f"::{name}" in done.stdout, done.stdout + done.stderr
