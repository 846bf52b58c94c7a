"""Convolutional networks: the papers' shapes and counts, torch's initial weights, normalisation that can be switched."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lib.convnets import conv4, convnet, convolutions, disable_bn, initialise, normalisation  # noqa: E402

NORMS = ("batch", "group", "layer", "none")
NORMALISERS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


# --- the plain ones ------------------------------------------------------------------------------------------------


def test_conv4_is_the_papers():
    """Four convolutions of 3 × 3 to 1 × 1 × 256, then 256-1000-10."""
    network = conv4(generator=seeded())
    assert [c.out_channels for c in convolutions(network)] == [32, 64, 128, 256]
    kernels = 9 * (1 * 32 + 32 * 64 + 64 * 128 + 128 * 256) + 32 + 64 + 128 + 256
    assert count(network) == kernels + 256 * 1000 + 1000 + 1000 * 10 + 10
    inputs = torch.rand(2, 1, 28, 28, generator=seeded())
    assert network(inputs).shape == (2, 10)
    flat = next(i for i, layer in enumerate(network) if isinstance(layer, nn.Flatten))
    assert network[:flat](inputs).shape == (2, 256, 1, 1)


def test_convnet_is_the_papers():
    network = convnet(generator=seeded())
    assert [c.weight.shape for c in convolutions(network)] == [(200, 3, 5, 5), (200, 200, 5, 5)]
    assert [layer.weight.shape for layer in network if isinstance(layer, nn.Linear)] == [
        (384, 200),
        (192, 384),
        (10, 192),
    ]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network) == 2
    assert sum(isinstance(m, nn.BatchNorm1d) for m in network) == 2
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert convnet(image_size=28)(torch.rand(2, 3, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize(("make", "size"), [(conv4, 15), (convnet, 20)])
def test_an_image_that_is_too_small_is_named(make, size):
    with pytest.raises(ValueError, match=f"image_size is {size}"):
        make(image_size=size)


@pytest.mark.parametrize("make", [conv4, convnet])
def test_widths_have_to_be_positive(make):
    with pytest.raises(ValueError, match="widths is"):
        make(())
    with pytest.raises(ValueError, match="widths is"):
        make((8, 0))


# --- initial weights -----------------------------------------------------------------------------------------------


def test_initial_weights_are_torchs():
    """From the same generator state, bit for bit, as the layers make them themselves."""
    torch.manual_seed(5)
    theirs = [nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3), nn.Linear(6, 7), nn.Linear(7, 3)]
    network = conv4((4, 6), 7, n_classes=3, image_size=4, generator=seeded(5))
    mine = [layer for layer in network if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer, reference in zip(mine, theirs, strict=True):
        assert torch.equal(layer.weight, reference.weight) and torch.equal(layer.bias, reference.bias)


def test_making_a_network_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    conv4(generator=seeded())
    convnet((4,), (4,), generator=seeded())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        ("torch", (3 * 48) ** -0.5),
        ("xavier_uniform", (2 / (48 + 216)) ** 0.5),
        ("xavier_normal", (2 / (48 + 216)) ** 0.5),
        ("kaiming_uniform", (2 / 48) ** 0.5),
        ("kaiming_normal", (2 / 48) ** 0.5),
        ("kaiming_normal_fan_out", (2 / 216) ** 0.5),
    ],
)
def test_schemes_have_their_standard_deviation(init, expected):
    """In closed form, for layers with a fan-in of 48 and a fan-out of 216."""
    network = nn.Sequential(nn.Conv2d(12, 54, 2), nn.Linear(48, 216))
    initialise(network, init, generator=seeded())
    for layer in network:
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.05)
        assert (layer.bias == 0).all() == (init != "torch")


def test_linear_layers_can_have_a_scheme_of_their_own():
    """The convolutions do not change by it, up to the first linear layer."""
    one = convnet((4, 4), (8,), init="kaiming_normal", generator=seeded())
    two = convnet((4, 4), (8,), init="kaiming_normal", linear="torch", generator=seeded())
    for a, b in zip(convolutions(one), convolutions(two), strict=True):
        assert torch.equal(a.weight, b.weight)
    assert (one[-1].bias == 0).all() and not (two[-1].bias == 0).any()


def test_unknown_words_are_named():
    with pytest.raises(ValueError, match="init is 'glorot'; one of torch"):
        initialise(nn.Linear(2, 2), "glorot")
    with pytest.raises(ValueError, match="norm is 'instance'; one of batch"):
        normalisation("instance", 8)


# --- normalisation -------------------------------------------------------------------------------------------------


def smallest(norm):
    return [
        conv4((4, 8), 8, image_size=8, in_channels=3, norm=norm, generator=seeded()),
        convnet((4,), (8,), image_size=8, norm=norm, generator=seeded()),
    ]


@pytest.mark.parametrize("norm", NORMS)
def test_normalisation_is_what_was_asked_for(norm):
    for network in smallest(norm):
        found = [module for module in network.modules() if isinstance(module, NORMALISERS)]
        assert (len(found) > 0) == (norm != "none")
        for module in found:
            assert isinstance(module, nn.modules.batchnorm._BatchNorm) == (norm == "batch")
            if norm == "layer":
                assert module.num_groups == 1
        assert network(torch.rand(3, 3, 8, 8)).shape == (3, 10)


def test_normalisation_moves_no_weight():
    """Networks that differ in it alone begin with the same convolutions and linear layers."""
    kinds = (nn.Conv2d, nn.Linear)
    for others in zip(*map(smallest, NORMS), strict=True):
        weights = [[m.weight for m in network.modules() if isinstance(m, kinds)] for network in others]
        for same in zip(*weights, strict=True):
            assert all(torch.equal(same[0], weight) for weight in same[1:])


@pytest.mark.parametrize(("channels", "groups"), [(16, 2), (64, 8), (12, 2), (7, 1), (11, 11), (4, 1)])
def test_groups_divide_the_channels(channels, groups):
    assert normalisation("group", channels).num_groups == groups


def test_disable_bn_leaves_none():
    """What is left is the network that was made without, weights included."""
    for network, plain in zip(smallest("batch"), smallest("none"), strict=True):
        assert disable_bn(network) is network
        assert not [m for m in network.modules() if isinstance(m, NORMALISERS)]
        inputs = torch.rand(3, 3, 8, 8)
        assert torch.equal(network(inputs), plain(inputs))
