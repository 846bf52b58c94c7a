"""lib.data.images: order, fingerprint and types of image sets."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.core import InputError

torch = pytest.importorskip("torch")

from lib.data.images import ORDER_SEED, ImageSet, Split, fingerprint, image_set, tiny  # noqa: E402


def sorted_set(n: int = 1_000, change: int = 0) -> ImageSet:
    """A set sorted by class, each image filled with its number; `change` is added to one pixel."""
    images = np.zeros((n, 1, 2, 2), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(n) // 256, np.arange(n) % 256
    images[n // 2, 0, 1, 1] += change
    labels = np.arange(n) * 10 // n
    return image_set("sorted", "Sorted", (images, labels), (images, labels), [str(c) for c in range(10)])


def test_order_is_a_permutation_that_keeps_images_with_their_labels() -> None:
    for split in (sorted_set().train, sorted_set().test):
        number = split.images[:, 0, 0, 0].long() * 256 + split.images[:, 0, 0, 1]
        assert sorted(number.tolist()) == list(range(1_000))
        assert torch.equal(split.labels, number * 10 // 1_000)


def test_order_mixes_classes() -> None:
    data = sorted_set()
    for split in (data.train, data.test):
        # of 100 draws from ten even classes, each is expected ten times: 25 is five standard deviations away
        assert split.labels[:100].bincount(minlength=10).max() < 25
        assert split.labels[:100].unique().numel() == 10
        assert (split.labels[1:] == split.labels[:-1]).double().mean() < 0.2
    assert not torch.equal(data.train.labels, data.test.labels)


def test_order_is_that_of_the_documented_seed() -> None:
    order = torch.randperm(1_000, generator=torch.Generator().manual_seed(ORDER_SEED))
    assert torch.equal(sorted_set().train.labels, order * 10 // 1_000)


def test_order_neither_reads_nor_moves_the_global_generators() -> None:
    before = torch.get_rng_state()
    first = sorted_set()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(before[0].item() + 1)
    assert torch.equal(first.train.images, sorted_set().train.images)
    torch.set_rng_state(before)


def test_fingerprint_is_the_same_in_another_process() -> None:
    code = "from lib.data.images import tiny; print(tiny().fingerprint)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == tiny().fingerprint
    assert len(tiny().fingerprint) >= 16 and int(tiny().fingerprint, 16) >= 0


def test_fingerprint_sees_a_pixel_a_label_the_name_and_the_shape() -> None:
    data = sorted_set()
    split = data.train
    label = split.labels.clone()
    label[0] = (label[0] + 1) % 10
    others = [
        sorted_set(change=1).fingerprint,
        fingerprint("sorted", Split(split.images, label), data.test),
        fingerprint("other", data.train, data.test),
        fingerprint("sorted", Split(split.images.reshape(-1, 1, 4, 1), split.labels), data.test),
        fingerprint("sorted", data.test, data.train),
    ]
    assert data.fingerprint == sorted_set().fingerprint == fingerprint("sorted", data.train, data.test)
    assert len({data.fingerprint, *others}) == len(others) + 1


def test_empty_splits_are_sets_too() -> None:
    assert len(tiny(n_test=0).test) == 0
    assert tiny(n_test=0).fingerprint != tiny(n_test=1).fingerprint


def test_fingerprint_ignores_strides() -> None:
    data = tiny(channels=3)
    last = Split(data.train.images.to(memory_format=torch.channels_last), data.train.labels)
    assert fingerprint("tiny", last, data.test) == data.fingerprint


def test_to_returns_itself_or_a_moved_copy() -> None:
    data = tiny()
    assert data.to("cpu") is data
    moved = data.to("meta")
    assert moved.device.type == "meta" and moved.test.labels.device.type == "meta"
    assert moved.fingerprint == data.fingerprint and data.device.type == "cpu"


@given(st.lists(st.integers(0, 63), max_size=20))
def test_subset_follows_its_index(index: list[int]) -> None:
    split = tiny().train
    part = split.subset(index)
    assert len(part) == len(index)
    for i, j in enumerate(index):
        assert torch.equal(part.images[i], split.images[j]) and part.labels[i] == split.labels[j]


def test_subset_by_tensor_mask_and_slice() -> None:
    split = tiny().train
    mask = split.labels == 3
    assert set(split.subset(mask).labels.tolist()) == {3}
    assert torch.equal(split.subset(slice(0, 5)).images, split.subset(torch.arange(5)).images)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64), "uint8"),
        (torch.zeros(2, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), "n × c × h × w"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), "int64 of 2"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(2), "int64 of 2"),
    ],
)
def test_split_refuses_what_does_not_fit(images: "torch.Tensor", labels: "torch.Tensor", words: str) -> None:
    with pytest.raises(InputError, match=words):
        Split(images, labels)


def test_image_set_refuses_labels_outside_its_classes_and_unequal_lengths() -> None:
    images = np.zeros((2, 1, 2, 2), np.uint8)
    with pytest.raises(InputError, match="labels from 0 to 2 for 2 classes"):
        image_set("x", "X", (images, np.array([0, 2])), (images, np.array([0, 1])), ["a", "b"])
    with pytest.raises(InputError, match="2 images with 1 labels"):
        image_set("x", "X", (images, np.array([0])), (images, np.array([0, 1])), ["a", "b"])


def test_tiny_is_learnable_by_nearest_pattern() -> None:
    data = tiny(n_train=200, n_test=100, channels=3)
    assert data.shape == (3, 8, 8) and data.n_classes == 10
    flat, test = data.train.images.flatten(1).double(), data.test.images.flatten(1).double()
    centres = torch.stack([flat[data.train.labels == c].mean(0) for c in range(10)])
    assert (torch.cdist(test, centres).argmin(1) == data.test.labels).double().mean() == 1
