"""lib.data.vision: torchvision imports whether or not its build matches torch's."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

MATCHING = """
import torch
library = torch.library.Library("torchvision", "DEF")  # as a matching build's compiled operators do
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
imports = globals().get("imports", 0) + 1
"""

MISMATCHED = """
import torch
from torchvision import part

@torch.library.register_fake("torchvision::nms")
def fake_nms(dets, scores, iou_threshold):
    return dets

@torch.library.register_fake("torchvision::qnms")
def fake_qnms(dets, scores, iou_threshold):
    return dets
"""

REPORT = """
import sys
from lib.data import vision
again = __import__("importlib").import_module("lib.data.vision")
import torchvision
print(vision.stubs is None, vision.torchvision is torchvision, again is vision)
"""


def run(folder: Path, init: str, code: str = REPORT) -> subprocess.CompletedProcess[str]:
    """`code` in a fresh interpreter in which `init` is the package torchvision."""
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(init)
    (package / "part.py").write_text("")
    script = f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"
    return subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)


def test_matching_build_is_left_alone(tmp_path: Path) -> None:
    done = run(tmp_path, MATCHING)
    assert done.stdout.split() == ["True", "True", "True"], done.stderr


def test_mismatched_build_is_helped(tmp_path: Path) -> None:
    plain = run(tmp_path, MISMATCHED, "import torchvision")
    assert "torchvision::nms does not exist" in plain.stderr
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{REPORT}"],
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["False", "True", "True"], done.stderr


def test_other_faults_are_not_hidden(tmp_path: Path) -> None:
    done = run(tmp_path, 'raise RuntimeError("compiled with different CUDA major versions")')
    assert done.returncode and "RuntimeError: compiled with different CUDA major versions" in done.stderr


def test_the_installed_torchvision_works() -> None:
    pytest.importorskip("PIL")
    from lib.data import vision

    assert vision.torchvision.datasets.MNIST and importlib.import_module("torchvision.transforms.v2")
    compiled = vision.torchvision.extension._has_ops()
    assert (vision.stubs is None) == compiled
    if not compiled:
        # the definitions are empty: they must not pretend to compute
        with pytest.raises(NotImplementedError):
            torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
