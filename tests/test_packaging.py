"""What is declared is what is used: requirements, lock, package data, and the commands that the documents name."""

from __future__ import annotations

import ast
import fnmatch
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from lib import cli

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/runs.md")

DISTRIBUTIONS = {
    "IPython": "ipython",
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "faiss": "faiss-cpu",
    "jupyter_client": "jupyter-client",
    "jupyter_core": "jupyter-core",
    "pypandoc": "pypandoc-binary",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Imports whose distribution has another name."""

COMPUTING = ("core", "project", "data", "methods", "nets", "training", "experiments", "runs")
READING = ("core", "project", "reading", "claims", "stats", "plots", "quantities", "notebooks", "site")
A_GPU_NODE_HAS = {
    *("torch", "torchvision", "numpy", "scipy", "pandas", "scikit-learn", "numba", "pillow"),
    *("safetensors", "jaxtyping", "typer", "rich"),
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*extras: str) -> set[str]:
    """The names of the base requirements and those of the given extras."""
    lines = list(PROJECT["project"]["dependencies"])
    for extra in extras:
        lines += PROJECT["project"]["optional-dependencies"][extra]
    return {normal(re.match(r"[\w.-]+", line)[0]) for line in lines}


def lock() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Distributions that a file imports, anywhere in it, and on which line; those under TYPE_CHECKING left out."""
    return imports(ast.parse(path.read_text()))


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    ignored = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in ignored:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        else:
            continue
        for name in names:
            top = name.split(".")[0]
            if top not in sys.stdlib_module_names and top not in ("lib", "tests"):
                yield normal(DISTRIBUTIONS.get(top, top)), node.lineno


def undeclared(paths: Iterator[Path], known: set[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sorted(paths)
        for name, line in imported(path)
        if name not in known
    ]


def room(*names: str) -> Iterator[Path]:
    for name in names:
        path = ROOT / "lib" / name
        yield from path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]


# --- requirements --------------------------------------------------------------------------------------------


def test_everything_that_lib_imports_is_declared() -> None:
    known = declared("site", "compute", "cluster")
    experiments = set((ROOT / "lib/experiments").glob("*.py"))
    assert undeclared((p for p in (ROOT / "lib").rglob("*.py") if p not in experiments), known) == []
    assert undeclared(iter(experiments), known | declared("peers")) == []


def test_experiments_import_peers_in_functions_only() -> None:
    """Whoever lacks a peer can import the module, and run everything that does not compare with it."""
    for path in sorted((ROOT / "lib/experiments").glob("*.py")):
        top = ast.Module([node for node in ast.parse(path.read_text()).body if not _defines(node)], [])
        names = {name for name, _ in imports(top)}
        assert not names & (declared("peers") - declared("compute")), path.name


def _defines(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def test_the_reading_rooms_need_no_compute() -> None:
    assert undeclared(room(*READING), declared("site")) == []


def test_the_computing_rooms_need_what_a_gpu_node_has() -> None:
    lazily = {"pyyaml"}  # lib.project reads _quarto.yml for the reading rooms
    # clusters and peers are imported where they are asked for; llvmlite is a part of numba
    lazily |= declared("cluster", "peers") | {"llvmlite"}
    lazily |= {"rapidfuzz"}  # names are compared on a CPU, and lib.methods.linkage stands alone
    assert undeclared(room(*COMPUTING), A_GPU_NODE_HAS | lazily) == []
    assert declared("compute") >= A_GPU_NODE_HAS


def test_tests_and_benchmarks_import_what_is_declared() -> None:
    known = declared("site", "compute", "cluster", "test") | {"packaging"}  # pytest's own requirement
    known |= {normal(path.stem) for path in (ROOT / "tests").glob("*.py")}
    assert undeclared((ROOT / "tests").rglob("*.py"), known) == []
    assert undeclared((ROOT / "benchmarks").glob("*.py"), known | declared("peers")) == []


# --- lock ----------------------------------------------------------------------------------------------------


def test_the_lock_holds_exact_versions_and_nothing_else() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            assert re.fullmatch(r"[a-z0-9][a-z0-9-]*==[0-9][0-9a-z.]*", line), line
    assert "://" not in (ROOT / "constraints.txt").read_text()
    assert list(lock()) == sorted(lock())
    assert (lock()["torch"], lock()["torchvision"]) == ("2.13.0", "0.28.0")


def test_the_lock_meets_every_requirement() -> None:
    requirements = pytest.importorskip("packaging.requirements")
    project = PROJECT["project"]
    lines = [
        *project["dependencies"],
        *(x for extra in project["optional-dependencies"].values() for x in extra),
    ]
    for line in lines:
        requirement = requirements.Requirement(line)
        assert normal(requirement.name) in lock(), line
        assert requirement.specifier.contains(lock()[normal(requirement.name)]), line


def test_the_lock_holds_what_the_requirements_bring_along() -> None:
    requirements = pytest.importorskip("packaging.requirements")
    from_torch = ("nvidia-", "cuda-", "triton")  # of a CUDA build: torch's own metadata pins them
    waiting, seen, missing = [(name, "pyproject.toml") for name in sorted(lock())], set(), []
    while waiting:
        name, by = waiting.pop()
        if name in seen or name.startswith(from_torch):
            continue
        seen.add(name)
        if name not in lock():
            missing.append(f"{name}, wanted by {by}")
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for line in lines:
            requirement = requirements.Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append((normal(requirement.name), name))
    assert missing == []


# --- package data --------------------------------------------------------------------------------------------


def test_every_file_of_the_package_is_installed_with_it() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["lib"]
    for path in (ROOT / "lib").rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc") and path.parent.name != "__pycache__":
            name = path.relative_to(ROOT / "lib").as_posix()
            assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns), name


def test_every_folder_with_code_is_a_package() -> None:
    for path in (ROOT / "lib").rglob("*.py"):
        assert (path.parent / "__init__.py").is_file(), path.parent


# --- documents -----------------------------------------------------------------------------------------------


def spoken(name: str) -> Iterator[str]:
    """The lines of a document's code, in blocks and in running text."""
    text = (ROOT / name).read_text()
    for block in re.findall(r"^```[a-z]*\n(.*?)^```", text, re.M | re.S):
        yield from block.splitlines()
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def test_commands_in_the_documents_exist() -> None:
    known = set(typer.main.get_command(cli.app).commands)
    named = {
        match[1]
        for name in DOCUMENTS
        for line in spoken(name)
        if (match := re.match(r"(?:posts|python -m lib) ([a-z]+)", line))
    }
    assert {"run", "publish", "notebook", "site", "check", "budget", "data", "new", "why"} <= named
    assert named <= known


def test_make_targets_in_the_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {"site", "test", "test-long", "serve", "clean"} <= targets
    named = {
        m[1] for name in DOCUMENTS for line in spoken(name) if (m := re.search(r"\bmake ([a-z-]+)", line))
    }
    assert {"site", "test", "test-long", "serve"} <= named <= targets


def test_links_in_the_documents_resolve() -> None:
    for name in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / name).read_text()):
            if "://" not in target:
                assert ((ROOT / name).parent / target).exists(), f"{name} links to {target}"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("arguments", "extras"),
    [
        (["site"], "site"),
        (["site", "PROFILE=smoke"], "site,compute"),
        (["test"], "site,compute,cluster,test"),
        (["test-long"], "site,compute,cluster,test"),
    ],
)
def test_a_fresh_machine_gets_what_the_target_needs(
    tmp_path: Path, arguments: list[str], extras: str
) -> None:
    command = ["make", "--dry-run", *arguments, f"VENV={tmp_path / 'venv'}"]
    outer = ("MAKE", "MFLAGS", "PROFILE", "VENV")  # of the make that runs this test
    env = {name: value for name, value in os.environ.items() if not name.startswith(outer)}
    plan = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    assert f"-m venv {tmp_path / 'venv'}" in plan
    assert re.findall(r"-c constraints\.txt -e '\.\[(.*?)\]'", plan) == [extras]


def test_one_version_everywhere() -> None:
    version = PROJECT["project"]["version"]
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_conda_environment_installs_declared_extras_at_locked_versions() -> None:
    import yaml

    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = (item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
    extras = re.fullmatch(r"-e \.\[(.*)\]", pip[1])[1].split(",")
    assert pip[0] == "-c constraints.txt"
    assert set(extras) <= set(PROJECT["project"]["optional-dependencies"])
    assert any(str(item).startswith("quarto") for item in environment["dependencies"])


# --- notebooks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", sorted((ROOT / "posts").glob("*/index.ipynb")), ids=lambda path: path.parent.name
)
def test_notebooks_are_as_the_git_filter_leaves_them(path: Path) -> None:
    pytest.importorskip("nbstripout")
    command = [sys.executable, "-m", "nbstripout", "--keep-id", "--textconv", str(path)]
    stripped = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True).stdout
    assert stripped == path.read_text(encoding="utf-8")
