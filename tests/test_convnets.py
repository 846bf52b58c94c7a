"""Convolutional networks: the papers' shapes and counts, torch's initial weights, normalisation that can be switched."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lib.convnets import (  # noqa: E402
    BasicBlock,
    CompiledGroup,
    conv4,
    convnet,
    convolutions,
    disable_bn,
    fast_convnet,
    initialise,
    normalisation,
    resnet,
    resnet18,
    whitening_layer,
    wide_resnet,
    with_compiled_layers,
)

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


# --- residual networks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "parameters"), [(20, 269_722), (32, 464_154), (56, 853_018), (110, 1_727_962)]
)
def test_residual_networks_are_hes(depth, parameters):
    """Of depth 6n + 2: one convolution less than layers, the rest the classifier. Counts in closed form."""
    network = resnet(depth, generator=seeded())
    n = (depth - 2) // 6
    assert len(convolutions(network)) == depth - 1
    kernels = 9 * (
        3 * 16 + 2 * n * 16 * 16 + 16 * 32 + (2 * n - 1) * 32 * 32 + 32 * 64 + (2 * n - 1) * 64 * 64
    )
    norms = 2 * (16 * (2 * n + 1) + 32 * 2 * n + 64 * 2 * n)
    assert count(network) == parameters == kernels + norms + 64 * 10 + 10
    widths = [c.out_channels for c in convolutions(network)]
    assert widths == [16] * (2 * n + 1) + [32] * 2 * n + [64] * 2 * n


def test_resnet_110_halves_twice():
    network = resnet(8, generator=seeded())
    hidden = network.stem(torch.rand(2, 3, 32, 32))
    shapes = [hidden.shape]
    for stage in network.stages:
        hidden = stage(hidden)
        shapes.append(hidden.shape)
    assert shapes == [(2, 16, 32, 32), (2, 16, 32, 32), (2, 32, 16, 16), (2, 64, 8, 8)]
    assert network.head(hidden).shape == (2, 10)


@pytest.mark.parametrize(
    ("network", "parameters", "count_convolutions"),
    [
        (lambda: resnet18(generator=seeded()), 11_173_962, 20),
        (lambda: wide_resnet(generator=seeded()), 36_479_194, 28),
        (lambda: resnet(26, shortcut="projection", generator=seeded()), 369_690, 27),
    ],
    ids=["ResNet-18", "WRN-28-10", "R-26"],
)
def test_others_have_their_published_size(network, parameters, count_convolutions):
    """Counts as others' implementations for 32 × 32 pixels have them."""
    made = network()
    assert count(made) == parameters
    assert len(convolutions(made)) == count_convolutions


def test_narrow_ones_answer():
    inputs = torch.rand(2, 3, 32, 32, generator=seeded())
    for network in (
        resnet18(width=4, n_classes=7, generator=seeded()),
        wide_resnet(10, 1, n_classes=7, generator=seeded()),
        resnet(8, width=4, n_classes=7, generator=seeded()),
    ):
        assert network(inputs).shape == (2, 7)
        assert torch.isfinite(network(inputs)).all()


def test_a_block_of_nothing_is_its_shortcut():
    """With kernels of 0 and no norm a block lets through relu(x): every second pixel, and channels of 0 behind."""
    inputs = torch.randn(2, 4, 6, 6, generator=seeded())
    same, halved = BasicBlock(4, 4, 1, "none", "pad"), BasicBlock(4, 8, 2, "none", "pad")
    for block in (same, halved):
        for conv in convolutions(block):
            nn.init.zeros_(conv.weight)
    assert torch.equal(same(inputs), inputs.relu())
    assert torch.equal(halved(inputs)[:, :4], inputs[:, :, ::2, ::2].relu())
    assert not halved(inputs)[:, 4:].any()


def test_a_block_is_its_equation():
    """Against the equation with functions of torch, batch norm in training."""
    inputs = torch.randn(5, 4, 6, 6, generator=seeded())
    block = BasicBlock(4, 8, 2, "batch", "projection")
    initialise(block, "kaiming_normal", generator=seeded())

    def normed(x):
        return (x - x.mean((0, 2, 3), keepdim=True)) / (
            x.var((0, 2, 3), correction=0, keepdim=True) + 1e-5
        ).sqrt()

    conv2d = nn.functional.conv2d
    hidden = normed(conv2d(inputs, block.conv1.weight, stride=2, padding=1)).relu()
    beside = normed(conv2d(inputs, block.shortcut[0].weight, stride=2))
    wanted = (normed(conv2d(hidden, block.conv2.weight, padding=1)) + beside).relu()
    assert torch.allclose(block(inputs), wanted, atol=1e-5)


@pytest.mark.parametrize("depth", [2, 7, 21, 111])
def test_depths_that_there_are(depth):
    with pytest.raises(ValueError, match=rf"depth is {depth}; 6 n \+ 2"):
        resnet(depth)
    with pytest.raises(ValueError, match=rf"depth is {depth}; 6 n \+ 4"):
        wide_resnet(depth)


# --- the fast one --------------------------------------------------------------------------------------------------


def test_whitened_patches_are_white():
    """The covariance of the answers on the images themselves is diagonal, λ / (λ + eps), and each has its negative."""
    noise = torch.randn(300, 3, 12, 12, generator=seeded())
    images = nn.functional.avg_pool2d(noise, 3, 1)  # neighbours resemble one another
    layer = whitening_layer(images, eps=1e-3)
    assert layer.weight.shape == (24, 3, 2, 2) and not layer.weight.requires_grad
    answers = layer(images).detach()
    assert torch.allclose(answers[:, :12], -answers[:, 12:], atol=1e-5)
    flat = answers[:, :12].transpose(0, 1).flatten(1)
    covariance = flat @ flat.T / flat.shape[1]
    diagonal = covariance.diagonal()
    assert (covariance - diagonal.diag()).abs().max() < 1e-3
    assert (diagonal > 0.5).all() and (diagonal < 1).all()


def test_the_fast_network():
    images = torch.rand(50, 3, 32, 32, generator=seeded())
    network = fast_convnet(images, widths=(8, 16, 16), generator=seeded())
    again = fast_convnet(images, widths=(8, 16, 16), generator=seeded())
    assert all(
        torch.equal(a, b)
        for a, b in zip(network.state_dict().values(), again.state_dict().values(), strict=True)
    )
    assert network(images[:4]).shape == (4, 10)
    assert network(images[:4, :, :17, :17]).shape == (4, 10)
    first = network[2].conv1.weight
    assert torch.equal(first, nn.init.dirac_(torch.empty_like(first)))
    before = torch.get_rng_state()
    fast_convnet(images, widths=(8, 16, 16), generator=seeded())
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ValueError, match="three are wanted"):
        fast_convnet(images, widths=(8, 16))


def test_the_fast_network_in_compiled_layers():
    """The same weights, and in bfloat16 the same answers and gradients but for rounding; not one of torch's GELUs is left."""
    images = torch.rand(32, 3, 32, 32, generator=seeded())
    plain, compiled = (fast_convnet(images, widths=(8, 16, 16), generator=seeded()) for _ in range(2))
    state = plain.state_dict()
    compiled = with_compiled_layers(compiled)
    assert all(torch.equal(state[name], value) for name, value in compiled.state_dict().items())
    assert not any(isinstance(layer, nn.GELU) for layer in compiled.modules())
    assert sum(type(layer) is CompiledGroup for layer in compiled) == 3
    assert torch.equal(plain(images), compiled(images))  # float32
    found = []
    for network in (plain, compiled):
        network.to(memory_format=torch.channels_last).train()
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(images.contiguous(memory_format=torch.channels_last))
        nn.functional.cross_entropy(logits.float(), torch.arange(32) % 10).backward()
        found.append([logits.detach().float(), *(p.grad for p in network.parameters() if p.grad is not None)])
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).norm() < 0.05 * theirs.norm()


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
    resnet(8, shortcut="projection", generator=seeded())
    wide_resnet(10, 1, generator=seeded())
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
        resnet(14, width=4, norm=norm, generator=seeded()),
        resnet(14, width=4, norm=norm, shortcut="projection", generator=seeded()),
        resnet18(width=4, norm=norm, generator=seeded()),
        wide_resnet(10, 1, norm=norm, generator=seeded()),
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
        inputs = torch.rand(3, 3, 8, 8, generator=seeded())
        assert torch.equal(network(inputs), plain(inputs))
