"""The posts' notebooks, found and not listed; a store for the session; and an interpreter without some packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, clean_environment

NOTEBOOKS = sorted((ROOT / "posts").glob("*/index.ipynb"))
FIRST_AT_ONCE = pytest.mark.parametrize(
    "notebook",
    [*NOTEBOOKS[:1], *(pytest.param(path, marks=pytest.mark.long) for path in NOTEBOOKS[1:])],
    ids=[path.parent.name for path in NOTEBOOKS],
    scope="session",
)
"""For what takes minutes with ten notebooks: the others are long tests."""
FIRST = pytest.mark.parametrize("notebook", NOTEBOOKS[:1], ids=lambda path: path.parent.name, scope="session")
"""For what one notebook shows as well as ten."""

COMPUTE = ("torch", "torchvision", "sklearn", "joblib", "numba", "llvmlite", "rapidfuzz", "jaxtyping")
"""What only the extra `compute` installs."""
JUPYTER = (
    *("IPython", "ipykernel", "jupyter_client", "jupyter_core", "nbclient", "nbformat", "nbval", "papermill"),
    *("traitlets", "zmq", "tornado", "yaml", "matplotlib", "seaborn", "jinja2", "lxml"),
    *("markupsafe", "pypandoc", "feedgen", "cycler"),
)
"""What a headless GPU node lacks: Jupyter, and what the reading rooms use."""

ABSENT = '''
import os
import sys
from importlib.machinery import PathFinder


class Absent(PathFinder):
    """Finds what is installed, but for the packages named in ABSENT: as if those were not."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname.partition(".")[0] in os.environ["ABSENT"].split():
            return None
        return super().find_spec(fullname, path, target)


sys.meta_path[:] = [Absent if finder is PathFinder else finder for finder in sys.meta_path]
'''


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `notebook` runs once for each post, unless it says for which."""
    said = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "notebook" in metafunc.fixturenames and "notebook" not in said:
        metafunc.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.parent.name, scope="session")


class Shell:
    """Runs Python in an environment of its own."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env

    def python(
        self, *args: str | Path, cwd: Path = ROOT, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """`python ARGS…`, whatever its exit status."""
        command = [sys.executable, *map(str, args)]
        return subprocess.run(
            command, cwd=cwd, env=self.env, capture_output=True, text=True, timeout=timeout, check=False
        )

    def passes(self, *args: str | Path, cwd: Path = ROOT, timeout: float = 300) -> str:
        """What `python ARGS…` prints; the test fails unless it ends with 0."""
        done = self.python(*args, cwd=cwd, timeout=timeout)
        if done.returncode:
            pytest.fail(
                f"{' '.join(map(str, args))} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done.stdout + done.stderr


def shell(store: Path, *absent: str, root: Path | None = None) -> Shell:
    """Python with this project and a store, without the packages named; `root` is where posts are looked for."""
    path = [str(ROOT)]
    if absent:
        site = store.parent / "absent"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(ABSENT)
        path.insert(0, str(site))
    env = clean_environment(PYTHONPATH=":".join(path), POSTS_STORE=str(store), ABSENT=" ".join(absent))
    return Shell(env | ({"POSTS_ROOT": str(root)} if root else {}))


@pytest.fixture(scope="session")
def unpublished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The posts without their published records, so that everything has to be computed."""
    root = tmp_path_factory.mktemp("unpublished")
    shutil.copy(ROOT / "_quarto.yml", root)
    shutil.copytree(ROOT / "posts", root / "posts", ignore=shutil.ignore_patterns("results"))
    return root


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for the session: each smoke run is computed once."""
    return tmp_path_factory.mktemp("notebooks") / "store"


@pytest.fixture(scope="session")
def plain(store: Path) -> Shell:
    """Python with everything that is installed, in the project as it is."""
    return shell(store)


@pytest.fixture(scope="session")
def smoke(notebook: Path, store: Path, unpublished: Path) -> Path:
    """The notebook after plain papermill in smoke, every run of it computed into the session's store."""
    pytest.importorskip("torch")
    out = store.parent / f"{notebook.parent.name}.ipynb"
    papermill(shell(store, root=unpublished), notebook, out, profile="smoke")
    return out


def papermill(shell: Shell, notebook: Path, out: Path, profile: str, cwd: Path = ROOT) -> None:
    """`papermill NOTEBOOK OUT -p profile PROFILE` in `cwd`."""
    path = notebook.relative_to(cwd) if notebook.is_relative_to(cwd) else notebook
    shell.passes("-m", "papermill", path, out, "-p", "profile", profile, "--no-progress-bar", cwd=cwd)
