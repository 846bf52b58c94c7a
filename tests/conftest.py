"""What tests share: a copy of the project to change at will, seeded generators, the real data where they are.

Shapes and types of the functions of the rooms in CHECKED are checked at run time (jaxtyping with beartype) wherever both
are installed, so an annotation that lies fails a test.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.toy import toy  # noqa: F401 - a fixture

if TYPE_CHECKING:
    import numpy as np

ROOT = Path(__file__).resolve().parents[1]
CHECKED = ["lib.augment", "lib.methods", "lib.muon", "lib.nets"]
NOT_COPIED = {"build", "data", "dist", "node_modules"}

# Of several processes of tests each has one thread.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# In the background of a shell Ctrl-C is ignored, by this process and by every process that a test starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if all(importlib.util.find_spec(name) for name in ("jaxtyping", "beartype", "torch")):
    from jaxtyping import install_import_hook

    install_import_hook(CHECKED, "beartype.beartype")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What `--dist loadgroup` leaves together in one process, because it is made there once.

    The tests of a notebook (ten in one process would be the last to end, the others idle), of the site as it is, and of a
    post's planted mistakes; else those of a file.
    """
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        given = (
            item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        )
        whole_site = {"real", "real_address"} & set(getattr(item, "fixturenames", ()))
        group = given.get("notebook") or ("the site" if whole_site else (item.path, given.get("post")))
        item.add_marker(pytest.mark.xdist_group(str(group)))


@dataclass(frozen=True)
class ProjectCopy:
    """A project in a folder of its own; `env` is what its commands run with."""

    root: Path
    env: dict[str, str]

    def run(
        self, *args: str | Path, check: bool = False, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """`python -m lib ARGS…` in the copy; with `check`, a test fails with what was printed unless it ends with 0."""
        return self.python("-m", "lib", *args, check=check, timeout=timeout)

    def python(
        self, *args: str | Path, check: bool = False, timeout: float = 120, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`python ARGS…` in the copy, as `run`."""
        command = [sys.executable, *map(str, args)]
        done = subprocess.run(
            command, cwd=cwd or self.root, env=self.env, capture_output=True, text=True, timeout=timeout
        )
        if check and done.returncode:
            pytest.fail(
                f"{' '.join(map(str, args))} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done


@pytest.fixture
def project_copy(tmp_path: Path) -> ProjectCopy:
    """A copy of this project under `tmp_path`, with an empty store and without the machine's data sets."""
    root = tmp_path / "project"
    root.mkdir()
    for path in sorted(ROOT.iterdir()):
        if path.name.startswith((".", "_site")) or path.name in NOT_COPIED or path.name.endswith(".egg-info"):
            continue
        if path.is_dir():
            shutil.copytree(path, root / path.name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy2(path, root)
    return ProjectCopy(root, clean_environment(PYTHONPATH=str(root)))


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without what points to a project, a store or data; one thread; no colours."""
    dropped = {"FORCE_COLOR", "CLICOLOR_FORCE", "PYTHONWARNINGS"}
    env = {k: v for k, v in os.environ.items() if not k.startswith("POSTS_") and k not in dropped}
    return env | {"COLUMNS": "200", "NO_COLOR": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | more


@pytest.fixture
def generator() -> Any:
    """A torch generator, seeded the same for every test."""
    torch = pytest.importorskip("torch")
    return torch.Generator().manual_seed(20170530)


@pytest.fixture
def rng() -> np.random.Generator:
    """A NumPy generator, seeded the same for every test."""
    import numpy as np

    return np.random.default_rng(20170530)


@pytest.fixture(scope="session")
def posts_data() -> Path:
    """The folder of real data sets that POSTS_DATA names; skips where it names none."""
    given = os.environ.get("POSTS_DATA")
    if not given:
        pytest.skip("needs real data: POSTS_DATA is not set")
    path = Path(given).expanduser()
    if not path.is_dir():
        pytest.fail(f"POSTS_DATA is {given}, which is no folder")
    return path


@pytest.fixture
def one_thread():
    """Sums in one order, whatever the machine: torch with one thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
