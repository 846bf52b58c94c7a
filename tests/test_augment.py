"""Augmentation: equal to slow obvious versions image by image, given by (seed, step) alone, the source left as it was."""

from __future__ import annotations

import math
from functools import partial

import pytest

torch = pytest.importorskip("torch")


from lib.augment import (  # noqa: E402
    AugmentedBatches,
    affine,
    chain,
    crop,
    cutout,
    flip,
    pad,
    resized,
    switched,
    warp,
)
from lib.core import InputError  # noqa: E402
from lib.training import Batches, Scaling, derived_generator  # noqa: E402

EDGES = ("constant", "replicate", "reflect")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return torch.rand(40, 3, 9, 7, generator=seeded(1))


def beyond(image, y, x, edge, fill=0.0):
    """The pixel at (y, x) of one channel, by what an edge means, one coordinate at a time."""
    height, width = image.shape
    if edge == "constant" and not (0 <= y < height and 0 <= x < width):
        return fill
    places = []
    for place, side in ((y, height), (x, width)):
        if edge == "reflect":
            place = -place if place < 0 else place
            place = 2 * (side - 1) - place if place >= side else place
        places.append(min(max(place, 0), side - 1))
    return image[places[0], places[1]].item()


def shifted(images, down, right, edge, fill=0.0):
    """Image by image and pixel by pixel: what is at (y, x) was at (y + down, x + right)."""
    out = torch.empty_like(images)
    for i in range(len(images)):
        for c in range(images.shape[1]):
            for y in range(images.shape[2]):
                for x in range(images.shape[3]):
                    out[i, c, y, x] = beyond(images[i, c], y + int(down[i]), x + int(right[i]), edge, fill)
    return out


# --- one by one ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_crop_shifts_each_image_by_itself(images, edge, dtype):
    images = (255 * images[:8]).to(dtype)
    fill = 3.0 if edge == "constant" else 0.0
    found = crop(images, seeded(), padding=2, edge=edge, fill=fill)
    places = torch.randint(5, (8, 2), generator=seeded()) - 2
    assert found.dtype == dtype
    assert torch.equal(found, shifted(images, places[:, 0], places[:, 1], edge, fill))


def test_crop_reaches_every_place_equally():
    """25 places of a padding of 2, each as often as chance has it (χ² with 24 degrees of freedom below 60)."""
    point = torch.zeros(5000, 1, 5, 5)
    point[:, :, 2, 2] = 1
    counts = crop(point, seeded(), padding=2).sum((0, 1))
    assert counts.sum() == 5000
    assert ((counts - 200) ** 2 / 200).sum() < 60


def test_crop_without_padding_changes_nothing(images):
    assert torch.equal(crop(images, seeded(), padding=0), images)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_flip_mirrors_some_and_leaves_the_others(images, dtype):
    images = (255 * images).to(dtype)
    found = flip(images, seeded())
    which = torch.rand(40, generator=seeded()) < 0.5
    assert 0 < which.sum() < 40
    for image, result, mirrored in zip(images, found, which, strict=True):
        assert torch.equal(result, image.flip(-1) if mirrored else image)
    assert torch.equal(flip(images, seeded(), p=1.0), images.flip(-1))
    assert torch.equal(flip(images, seeded(), p=0.0), images)


@pytest.mark.parametrize("size", [1, 3, 4, 14])
def test_cutout_fills_a_square(images, size):
    found = cutout(images, seeded(), size=size, fill=7.0)
    generator = seeded()
    rows = torch.randint(9, (40, 1), generator=generator)[:, 0]
    columns = torch.randint(7, (40, 1), generator=generator)[:, 0]
    for i, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        wanted = images[i].clone()
        top, left = row - size // 2, column - size // 2
        wanted[:, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = 7.0
        assert torch.equal(found[i], wanted)


def bilinear(image, y, x, edge):
    """The value between pixels at (y, x): weights of the four neighbours."""
    top, left = math.floor(y), math.floor(x)
    return sum(
        (1 - abs(y - row)) * (1 - abs(x - column)) * beyond(image, row, column, edge)
        for row in (top, top + 1)
        for column in (left, left + 1)
    )


@pytest.mark.parametrize("edge", ["constant", "replicate"])
def test_warp_is_the_rotation_pixel_by_pixel(images, edge):
    """Each pixel comes from where the inverse of (zoom, rotate, shift) says, in pixel coordinates about the centre."""
    images = images[:3, :1]
    angles = torch.tensor([0.3, -0.6, 0.1])
    zooms = torch.tensor([1.2, 0.8, 1.0])
    shifts = torch.tensor([[0.1, -0.2], [0.0, 0.15], [-0.3, 0.05]])
    found = warp(images, angles=angles, zooms=zooms, shifts=shifts, edge=edge)
    height, width = images.shape[-2:]
    for i in range(3):
        cos, sin = math.cos(angles[i]), math.sin(angles[i])
        for y in range(height):
            for x in range(width):
                down = y - (height - 1) / 2 - float(shifts[i, 0]) * height
                right = x - (width - 1) / 2 - float(shifts[i, 1]) * width
                # counter-clockwise on the screen, where y goes down
                from_x = (cos * right - sin * down) / float(zooms[i]) + (width - 1) / 2
                from_y = (sin * right + cos * down) / float(zooms[i]) + (height - 1) / 2
                wanted = bilinear(images[i, 0], from_y, from_x, edge)
                assert found[i, 0, y, x].item() == pytest.approx(wanted, abs=2e-5)


def test_warp_turns_as_torchvision_does(images):
    """A third party: the same angle, in degrees, is counter-clockwise there too."""
    from lib.data.vision import torchvision

    functional = torchvision.transforms.functional
    square = images[:, :, :7]
    found = warp(
        square, angles=torch.full((40,), math.radians(20)), zooms=torch.ones(40), shifts=torch.zeros(40, 2)
    )
    theirs = functional.rotate(square, 20.0, interpolation=torchvision.transforms.InterpolationMode.BILINEAR)
    # torchvision scales by a mask of ones where it leaves the image, which changes the border alone
    assert torch.allclose(found[:, :, 2:-2, 2:-2], theirs[:, :, 2:-2, 2:-2], atol=1e-5)


def test_warp_in_closed_form(images):
    square = images[:, :, :7]
    nothing = {"angles": torch.zeros(40), "zooms": torch.ones(40), "shifts": torch.zeros(40, 2)}
    assert torch.allclose(warp(images, **nothing), images, atol=1e-6)
    quarter = warp(square, **{**nothing, "angles": torch.full((40,), math.pi / 2)})
    assert torch.allclose(quarter, square.rot90(1, (-2, -1)), atol=1e-5)
    down = warp(square, **{**nothing, "shifts": torch.tensor([[2 / 7, -1 / 7]]).expand(40, 2)})
    assert torch.allclose(down[:, :, 2:, :-1], square[:, :, :-2, 1:], atol=1e-5)
    assert down[:, :, :2].abs().max() < 1e-5


@pytest.mark.parametrize("edge", EDGES)
def test_affine_stays_within_its_limits(edge):
    """A disc that is turned and moved by less than two pixels stays within four; without limits nothing changes."""
    point = torch.zeros(200, 1, 21, 21)
    point[:, :, 10, 10] = 1
    found = affine(point, seeded(), degrees=10, zoom=0.1, shift=0.1, edge=edge)
    rows = torch.arange(21.0)
    mass = found.sum((1, 2, 3))
    centre = (found.sum((1, 3)) * rows).sum(1) / mass
    assert (centre - 10).abs().max() < 2.7 and (centre - 10).abs().max() > 1.5
    assert torch.allclose(affine(point, seeded(), edge=edge), point, atol=1e-5)


# --- what holds for all --------------------------------------------------------------------------------------------

STEPS = {
    "crop": partial(crop, padding=2),
    "reflected crop": partial(crop, padding=2, edge="reflect"),
    "flip": flip,
    "cutout": partial(cutout, size=4),
    "affine": partial(affine, degrees=10, zoom=0.1, shift=0.1),
    "all": chain(partial(crop, padding=2), flip, partial(cutout, size=4)),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_batch_is_given_by_its_generator(images, name):
    before = torch.get_rng_state()
    first = STEPS[name](images, seeded(4))
    assert torch.equal(first, STEPS[name](images, seeded(4)))
    assert not torch.equal(first, STEPS[name](images, seeded(5)))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.shape == images.shape and first.dtype == images.dtype


@pytest.mark.parametrize("name", STEPS)
def test_the_input_stays_as_it_was(images, name):
    kept = images.clone()
    found = STEPS[name](images, seeded(4))
    assert torch.equal(images, kept)
    found.zero_()
    assert torch.equal(images, kept)


def test_chain_draws_from_one_generator(images):
    generator = seeded()
    wanted = flip(crop(images, generator, padding=1), generator)
    assert torch.equal(chain(partial(crop, padding=1), flip)(images, seeded()), wanted)
    assert chain()(images, seeded()) is images


@pytest.mark.parametrize("edge", EDGES)
def test_pad_adds_what_is_beyond_the_edge(images, edge):
    padded = pad(images, 2, edge=edge)
    assert torch.equal(padded[:, :, 2:-2, 2:-2], images)
    for y, x in ((0, 0), (1, 5), (12, 10), (6, 0)):
        assert padded[0, 0, y, x].item() == beyond(images[0, 0], y - 2, x - 2, edge)


def test_bad_arguments_are_named(images):
    with pytest.raises(ValueError, match="padding is 7 with edge 'reflect'; 0 to 6"):
        pad(images, 7, edge="reflect")
    with pytest.raises(ValueError, match="padding is -1"):
        pad(images, -1)
    with pytest.raises(ValueError, match="size is 0"):
        cutout(images, seeded(), size=0)
    with pytest.raises(ValueError, match="zoom 1"):
        affine(images, seeded(), zoom=1.0)


# --- resident images -----------------------------------------------------------------------------------------------


@pytest.fixture
def resident():
    return torch.randint(256, (50, 3, 9, 7), dtype=torch.uint8, generator=seeded(2)), torch.arange(50)


@pytest.mark.parametrize("flips", ["none", "random", "alternating"])
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("padding", [0, 2])
def test_augmented_batches_are_the_plain_ones_augmented(resident, flips, edge, padding):
    """The examples of `Batches` in its order; each image cropped, then mirrored, then scaled."""
    images, labels = resident
    scaling = Scaling((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    setting = {"batch_size": 16, "seed": 3}
    mine = AugmentedBatches(
        images, labels, padding=padding, edge=edge, flips=flips, scaling=scaling, **setting
    )
    plain = Batches(images, labels, **setting)
    first = torch.rand(50, generator=derived_generator(3, "flips")) < 0.5
    for step in (0, 3, 5, 9):  # the last of a pass is smaller
        found, found_labels = mine(step)
        _, index = plain(step)
        assert torch.equal(found_labels, labels[index])
        generator = derived_generator(3, "augment", step)
        wanted = images[index]
        if padding:
            wanted = crop(wanted, generator, padding=padding, edge=edge)
        if flips == "random":
            wanted = flip(wanted, generator)
        elif flips == "alternating":
            turned = first[index] ^ (step >= 4 and step < 8)
            wanted = torch.where(turned[:, None, None, None], wanted.flip(-1), wanted)
        assert torch.equal(found, scaling(wanted))


def test_alternating_flips_show_each_side_in_turn(resident):
    images, labels = resident
    batches = AugmentedBatches(images, labels, batch_size=10, seed=0, flips="alternating")
    passes = []
    for number in range(3):
        seen = torch.empty(50, 3, 9, 7)
        for step in range(5):
            inputs, index = batches(5 * number + step)
            seen[index] = inputs
        passes.append(seen)
    assert torch.equal(passes[0], passes[2])
    assert torch.equal(passes[0], passes[1].flip(-1))


def test_augmented_batches_can_be_returned_to(resident):
    """Any step, in any order, and the resident images stay as they were."""
    images, labels = resident
    kept = images.clone()

    def made():
        more = partial(cutout, size=3)
        return AugmentedBatches(
            images, labels, batch_size=16, seed=3, padding=2, flips="random", augment=more
        )

    one, other = made(), made()
    forward = [one(step)[0].clone() for step in range(8)]
    for step in reversed(range(8)):
        assert torch.equal(other(step)[0], forward[step])
    assert not torch.equal(forward[0], forward[4])
    assert torch.equal(images, kept)


def test_the_last_steps_can_go_without(resident):
    images, labels = resident
    augmented = AugmentedBatches(images, labels, batch_size=16, seed=3, padding=2)
    plain = Batches(images, labels, batch_size=16, seed=3)
    batches = switched(6, augmented, plain)
    for step in range(12):
        wanted = (augmented if step < 6 else plain)(step)[0].clone()
        assert torch.equal(batches(step)[0], wanted)


def test_the_first_steps_can_be_smaller(resident):
    """Halving is the mean of neighbours weighted by distance: a constant stays, and so does the mean of a period of two."""
    images, labels = resident
    plain = Batches(images, labels, batch_size=16, seed=3)
    inputs, found = resized(plain, 4)(2)
    whole, wanted = plain(2)
    assert inputs.shape == (16, 3, 4, 4) and torch.equal(found, wanted)
    stripes = torch.zeros(1, 1, 8, 8)
    stripes[..., ::2] = 1
    small, _ = resized(lambda step: (stripes, None), 4)(0)
    assert torch.allclose(small[..., 1:-1], torch.full((1, 1, 4, 2), 0.5), atol=1e-6)
    same, _ = resized(plain, 9)(2)
    assert same.shape == (16, 3, 9, 9)
    with pytest.raises(ValueError, match="size is 0"):
        resized(plain, 0)


def test_unknown_flips_are_named(resident):
    with pytest.raises((InputError, TypeError), match="flips"):
        AugmentedBatches(*resident, batch_size=16, seed=3, flips="vertical")
