"""The benchmarks of training: rows that can be kept, seeds that are computed once, both sides the same data and network."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lib import bench, data  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def accuracy(monkeypatch, tmp_path):
    """The benchmark on a few drawn shapes, with a store of its own."""
    module = bench._load(ROOT, "cifar_accuracy")
    monkeypatch.setattr(module, "DATA", "shapes")
    monkeypatch.setattr(module, "HELD_OUT", 4600)
    monkeypatch.setenv("POSTS_STORE", str(tmp_path))
    return module


@pytest.mark.long
def test_a_seed_is_computed_once(accuracy, monkeypatch):
    recipe = accuracy.Recipe(widths=(4, 8, 8), epochs=1, batch_size=64, cutout=4)
    found = accuracy.run(recipe=recipe, seeds=(0, 1), held_out=True)
    assert [bench._missing(row) for row in found["rows"]] == [[]] * 4
    assert all(row["n"] == 2 and math.isfinite(row["value"]) for row in found["rows"])
    assert "seed 1" in found["notes"][0] and "400 images" in found["notes"][0]

    def never(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(accuracy, "train", never)
    assert accuracy.run(recipe=recipe, seeds=(0, 1), held_out=True) == found
    with pytest.raises(AssertionError, match="again"):
        accuracy.run(recipe=recipe, seeds=(0, 2), held_out=True)


def test_the_recipe_trains_every_weight_once(accuracy):
    """Three groups: kernels by Muon, biases, and the classifier."""
    images = torch.rand(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    learner = accuracy.learner(accuracy.Recipe(widths=(4, 8, 8), epochs=1), images, 0)
    groups = [{id(p) for p in group["params"]} for group in learner.optimizer.param_groups]
    wanted = {id(p) for p in learner.module.parameters() if p.requires_grad}
    assert set.union(*groups) == wanted and sum(map(len, groups)) == len(wanted)
    kernels, biases, head = learner.optimizer.param_groups
    assert (
        all(p.ndim == 4 for p in kernels["params"]) and kernels["orthogonal"] and len(kernels["params"]) == 6
    )
    assert len(biases["params"]) == 7 and len(head["params"]) == 1
    assert biases["lr"] * biases["weight_decay"] == pytest.approx(head["lr"] * head["weight_decay"])


def test_both_sides_have_the_same_images():
    """Without crops and flips the two pipelines give the same numbers: same scaling, same layout."""
    module = bench._load(ROOT, "cifar_throughput")
    split = data.load("shapes").train.subset(slice(0, 6))
    pictures = module.Pictures(split)
    steps = pictures.transform.transforms
    pictures.transform.transforms = steps[2:]
    assert type(steps[0]).__name__ == "RandomCrop" and steps[0].padding == module.PADDING
    scaled = module.Scaling(module.MEAN, module.STD)(split.images)
    for number in range(6):
        image, label = pictures[number]
        assert torch.allclose(image, scaled[number], atol=1e-5) and label == split.labels[number]


@pytest.mark.long
def test_throughput_rows_can_be_kept():
    module = bench._load(ROOT, "cifar_throughput")
    kept = ("softmax regression", module.FAST)
    module.STEPS, module.NETWORKS = 1, {name: module.NETWORKS[name] for name in kept}
    found = module.run(repeats=1)
    assert [row["case"] for row in found["rows"]] == ["input alone", *kept, f"{module.FAST}: compiled layers"]
    assert [bench._missing(row) for row in found["rows"]] == [[]] * 4


def test_the_distillation_benchmark_runs_on_digits(monkeypatch):
    """Rows that can be kept; both sides of each can go on."""
    module = bench._load(ROOT, "distillation")
    monkeypatch.setattr(module, "STEPS", 1)
    monkeypatch.setenv("POSTS_DATA", "")
    sides = []
    monkeypatch.setattr(
        module.bench,
        "in_turn",
        lambda ours, peer, repeats: (sides.append((ours, peer)), [np.ones((2, repeats))] * 2)[1],
    )
    found = module.run(repeats=2)
    assert [bench._missing(row) for row in found["rows"]] == [[]] * 8
    assert "float32" in found["notes"][0] and len(sides) == 8
    for ours, peer in sides:
        ours(), peer()
