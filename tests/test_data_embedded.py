"""The embedded sets: scikit-learn's digits at 28 × 28, and the procedural shapes."""

import time

import numpy as np
import pytest

from lib import data

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from lib.data import digits, shapes  # noqa: E402
from lib.data.images import ImageSet  # noqa: E402


@pytest.mark.parametrize(
    ("name", "fingerprint"), [("digits", "366fe56b765bd871"), ("shapes", "aee2902245706afb")]
)
def test_fingerprints_are_the_same_everywhere(name: str, fingerprint: str) -> None:
    """A change here makes every published record of this set stale: mean it."""
    assert data.load(name).fingerprint == fingerprint


# --- digits -----------------------------------------------------------------------------------------------


def test_digits_are_all_there_and_stratified() -> None:
    found = data.load("digits")
    assert found.shape == (1, 28, 28)
    assert (len(found.train), len(found.test)) == (1_437, 360)
    train, test = found.train.labels.bincount(), found.test.labels.bincount()
    assert (train + test).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert ((test - (train + test) / 5).abs() < 1).all()


def test_digits_share_no_image_between_splits() -> None:
    found = data.load("digits")
    rows = [{image.numpy().tobytes() for image in split.images} for split in (found.train, found.test)]
    assert not rows[0] & rows[1]


def test_enlarging_interpolates_linearly() -> None:
    # against floating-point bilinear interpolation with half-pixel centres, on ink away from the border
    images = np.zeros((3, 8, 8), np.int64)
    images[:, 2:6, 2:6] = np.random.default_rng(0).integers(0, 17, (3, 4, 4))
    grown = torch.nn.functional.interpolate(
        torch.from_numpy(images)[:, None].double(), size=(20, 20), mode="bilinear", align_corners=False
    )
    wanted = (grown[:, 0] * 255 / 16).numpy()
    for image, reference in zip(digits.enlarged(images), wanted, strict=True):
        found = [
            np.abs(image[top : top + 20, left : left + 20] - reference).max()
            for top in range(9)
            for left in range(9)
        ]
        assert min(found) <= 0.5 + 1e-9


def test_enlarging_keeps_black_black_and_full_ink_white() -> None:
    assert digits.enlarged(np.zeros((1, 8, 8), np.int64)).max() == 0
    full = digits.enlarged(np.full((1, 8, 8), 16, np.int64))[0]
    assert (full[6:22, 6:22] == 255).all() and (full[:4] == 0).all() and (full[:, 24:] == 0).all()


def test_digits_are_centred_by_mass() -> None:
    images = data.load("digits").train.images[:, 0].double()
    mass = images.sum((1, 2))
    grid = torch.arange(28).double()
    for axis in (1, 2):
        centre = (images.sum(axis) * grid).sum(1) / mass
        assert ((centre - 13.5).abs() <= 0.5 + 1e-9).all()


def test_digits_are_learnable() -> None:
    found = data.load("digits")
    train, test = (split.images.flatten(1).double() for split in (found.train, found.test))
    nearest = torch.cdist(test, train).argmin(1)
    assert (found.train.labels[nearest] == found.test.labels).double().mean() > 0.97


# --- shapes -----------------------------------------------------------------------------------------------


def test_shapes_are_even_and_colourful() -> None:
    found = data.load("shapes")
    assert found.shape == (3, 32, 32) and found.n_classes == 10
    assert found.train.labels.bincount().tolist() == [500] * 10
    assert found.test.labels.bincount().tolist() == [100] * 10
    assert (found.train.images[:, 0] != found.train.images[:, 1]).any((1, 2)).all()


def test_shapes_follow_their_seed() -> None:
    once, again, other = (shapes.generate(40, seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)
    rows = [
        {image.numpy().tobytes() for image in split.images}
        for split in (shapes.make(200, 200).train, shapes.make(200, 200).test)
    ]
    assert not rows[0] & rows[1] and len(rows[0]) == 200


def test_shapes_of_any_number() -> None:
    for n in (0, 1, shapes.CHUNK, shapes.CHUNK + 3):
        images, labels = shapes.generate(n, 0)
        assert images.shape == (n, 3, 32, 32) and labels.tolist() == [i % 10 for i in range(n)]


@pytest.mark.parametrize("name", shapes.CLASSES)
def test_figures_are_bounded_and_of_middling_size(name: str) -> None:
    grid = np.linspace(-2, 2, 401)
    x, y = np.meshgrid(grid, grid)
    inside = shapes.FIGURES[name](x, y) < 0
    area = inside.mean() * 16
    assert 0.6 < area < 2.6
    assert not inside[np.hypot(x, y) > 1.3].any()


def test_figures_change_by_their_distance() -> None:
    # no function changes faster than one per unit of length by much, so a soft edge is about a pixel wide
    grid = np.linspace(-1.5, 1.5, 301)
    x, y = np.meshgrid(grid, grid)
    for name, figure in shapes.FIGURES.items():
        slope = np.hypot(*np.gradient(figure(x, y), 0.01))
        near = np.abs(figure(x, y)) < 0.1
        assert 0.5 < np.median(slope[near]) < 1.3, name


def test_colour_says_nothing_about_the_class() -> None:
    images, labels = shapes.generate(4_000, 7)
    means = images.mean((2, 3))
    for channel in means.T:
        by_class = np.array([channel[labels == c].mean() for c in range(10)])
        standard_error = channel.std() / np.sqrt(400)
        # figures of larger area are lighter by a little; four standard errors leave room for nothing more
        assert np.abs(by_class - channel.mean()).max() < 4 * standard_error + 8


@pytest.mark.long
def test_shapes_are_generated_quickly() -> None:
    start = time.process_time()
    shapes.generate(6_000, 0)
    assert time.process_time() - start < 3


def accuracy(net: "torch.nn.Module", found: ImageSet, epochs: int, lr: float) -> float:
    """Test accuracy after a short training run with a one-cycle schedule."""
    train, test = ((split.images.float() - 127.5) / 64 for split in (found.train, found.test))
    labels, batch = found.train.labels, 128
    steps = epochs * (len(labels) // batch)
    optimiser = torch.optim.Adam(net.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        order = torch.randperm(len(labels), generator=generator)
        for start in range(0, len(labels) - batch + 1, batch):
            index = order[start : start + batch]
            loss = torch.nn.functional.cross_entropy(net(train[index]), labels[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    net.eval()
    with torch.no_grad():
        return (net(test).argmax(1) == found.test.labels).double().mean().item()


@pytest.mark.long
def test_shapes_are_neither_trivial_nor_hopeless() -> None:
    from torch import nn

    def block(n_in: int, n_out: int) -> list[nn.Module]:
        return [nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]

    torch.manual_seed(0)
    found = data.load("shapes")
    linear = accuracy(nn.Sequential(nn.Flatten(), nn.Linear(3_072, 10)), found, 10, 1e-3)
    pool = nn.MaxPool2d(2)
    layers = [*block(3, 16), pool, *block(16, 32), pool, *block(32, 64), pool, *block(64, 64)]
    convnet = accuracy(
        nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)), found, 6, 5e-3
    )
    assert 0.2 < linear < 0.6
    assert convnet > 0.8
