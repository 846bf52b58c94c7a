"""Stacked modules: equal to the modules trained one by one, members independent, exact resumption."""

from __future__ import annotations

from functools import partial

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lib.adam import MixedAdam  # noqa: E402
from lib.convnets import conv4, convnet, resnet  # noqa: E402
from lib.nets import ByteDropout, mlp  # noqa: E402
from lib.stacking import StackedBatches, StackedModules, StackedPerceptrons  # noqa: E402
from lib.training import Batches, ModuleLearner, Stopping, fit, validator  # noqa: E402
from tests.test_training import interrupted, same, train  # noqa: E402

MEMBERS = 3


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pictures():
    """Four blurred classes on 3 × 8 × 8 pixels."""
    generator = torch.Generator().manual_seed(7)
    centres = torch.randint(40, 216, (4, 3, 8, 8), generator=generator)
    labels = torch.randint(4, (260,), generator=generator)
    noise = torch.randint(-120, 121, (260, 3, 8, 8), generator=generator)
    images = (centres[labels] + noise).clamp(0, 255).to(torch.uint8)
    return images[:200], labels[:200], images[200:], labels[200:]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


NETWORKS = {
    "conv4": lambda seed: conv4((4, 6), 8, n_classes=4, in_channels=3, image_size=8, generator=seeded(seed)),
    "convnet": lambda seed: convnet((6,), (8,), n_classes=4, image_size=8, generator=seeded(seed)),
    "resnet": lambda seed: resnet(8, width=4, n_classes=4, generator=seeded(seed)),
    "group norm": lambda seed: resnet(8, width=4, n_classes=4, norm="group", generator=seeded(seed)),
}
OPTIMISERS = {
    "sgd": partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": partial(torch.optim.Adam, lr=3e-3, eps=1e-4),
}


def trained(learner, sets, batches, steps=12, **options):
    images, labels, val_images, val_labels = sets
    return fit(learner, batches, validator(val_images, val_labels), max_steps=steps, eval_every=4, **options)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_stacked_is_one_by_one(pictures, name, optimiser):
    """Weights, running statistics, averages, losses and accuracies, with a schedule; to rounding."""
    images, labels = pictures[:2]
    batches = Batches(images, labels, batch_size=32, seed=0)
    options = {"schedule": lambda step: 1 / (1 + step / 5)}
    modules = [NETWORKS[name](seed) for seed in range(MEMBERS)]
    together = trained(StackedModules(modules, OPTIMISERS[optimiser], ema=0.9), pictures, batches, **options)
    for member in range(MEMBERS):
        network = NETWORKS[name](member)
        assert same(
            network.state_dict(), modules[member].state_dict()
        )  # those that were given stay as they were
        learner = ModuleLearner(network, OPTIMISERS[optimiser](network.parameters()), ema=0.9)
        alone = trained(learner, pictures, batches, **options)
        for mine, theirs in (
            (together.last[member], alone.last[0]),
            (together.averages[member], alone.averages[0]),
        ):
            assert mine.keys() == theirs.keys()
            for key, value in theirs.items():
                assert torch.allclose(mine[key], value, rtol=1e-3, atol=2e-4), key
        for series, values in alone.series.items():
            tolerance = 1 / 60 + 1e-6 if series.startswith("accuracy") else 1e-3
            assert together.series[series][member] == pytest.approx(values[0], abs=tolerance)


def test_members_can_have_batches_of_their_own(pictures):
    """Each as if it were alone with its own order."""
    images, labels = pictures[:2]
    orders = [Batches(images, labels, batch_size=32, seed=seed, drop_last=True) for seed in range(MEMBERS)]
    learner = StackedModules(
        [NETWORKS["conv4"](0) for _ in range(MEMBERS)], OPTIMISERS["sgd"], own_batches=True
    )
    together = trained(learner, pictures, StackedBatches(orders))
    for member in range(MEMBERS):
        network = NETWORKS["conv4"](0)
        alone = trained(
            ModuleLearner(network, OPTIMISERS["sgd"](network.parameters())), pictures, orders[member]
        )
        for key, value in alone.last[0].items():
            assert torch.allclose(together.last[member][key], value, rtol=1e-3, atol=1e-4), key
    assert not torch.equal(together.last[0]["0.weight"], together.last[1]["0.weight"])


@pytest.mark.parametrize("own", [False, True])
def test_members_that_stop_leave_the_others_alone(pictures, own):
    """The second member diverges at once; the third goes on as it would without it, with its own batches."""
    images, labels = pictures[:2]
    orders = [Batches(images, labels, batch_size=32, seed=seed, drop_last=True) for seed in range(MEMBERS)]

    def run(broken):
        modules = [NETWORKS["conv4"](seed) for seed in range(MEMBERS)]
        if broken:
            nn.init.constant_(modules[1][0].weight, float("nan"))
        learner = StackedModules(modules, OPTIMISERS["sgd"], own_batches=own, ema=0.9)
        return trained(learner, pictures, StackedBatches(orders) if own else orders[0])

    whole, parted = run(False), run(True)
    assert parted.diverged == [False, True, False] and parted.steps == [12, 4, 12]
    for member in (0, 2):
        for key, value in whole.last[member].items():
            assert torch.allclose(parted.last[member][key], value, rtol=1e-4, atol=1e-5), key
    modules = [NETWORKS["conv4"](seed) for seed in range(2)]
    learner = StackedModules(modules, OPTIMISERS["sgd"])
    learner.restore([parted.best[0], parted.best[2], parted.best[2]])
    assert learner.members == 3
    modules[0].load_state_dict(parted.best[2])
    inputs = torch.rand(5, 3, 8, 8, generator=seeded(0))
    assert torch.allclose(learner.logits(inputs)[1], modules[0].eval()(inputs), atol=1e-5)


@pytest.mark.parametrize("at", [{1}, {2, 5}], ids=str)
def test_resumed_is_uninterrupted_bit_for_bit(pictures, at):
    """With batch norm, dropout, momentum, averages, and a member that stops in between."""

    def make():
        modules = [
            nn.Sequential(
                convnet((4,), (8,), n_classes=8, image_size=8, generator=seeded(seed)), nn.Dropout(0.2)
            )
            for seed in range(MEMBERS)
        ]
        return StackedModules(modules, OPTIMISERS["sgd"], ema=0.9)

    options = {"stopping": lambda: Stopping(2)}
    whole, parts = train(make(), pictures, **options), interrupted(make, pictures, at, **options)
    assert same(vars(whole), vars(parts))


def test_soft_targets_and_lower_precision(pictures):
    images, labels = pictures[:2]
    soft = nn.functional.one_hot(labels, 4).float() * 0.8 + 0.05
    learner = StackedModules(
        [NETWORKS["convnet"](seed) for seed in range(2)], OPTIMISERS["sgd"], autocast=torch.bfloat16
    )
    losses = [learner.step(images / 255.0, soft, 1.0) for _ in range(20)]
    assert (losses[-1] < losses[0] - 0.05).all()


def test_no_modules():
    with pytest.raises(ValueError, match="modules is empty"):
        StackedModules([], OPTIMISERS["sgd"])


def one_step(kind, modules, inputs, labels, **options):
    """Logits, losses and gradients of a step."""
    learner = kind(modules, partial(torch.optim.SGD, lr=0.1), **options)
    logits = learner.logits(inputs) if inputs.shape[0] != len(modules) else torch.zeros(0)
    losses = learner.step(inputs, labels, 1.0)
    return [logits, losses, *(parameter.grad for parameter in learner.parameters.values())]


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("sizes", [(192, 4), (192, 20, 12, 4)])
def test_perceptrons_are_what_vmap_makes_of_them(pictures, sizes, own):
    modules = [mlp(sizes, generator=seeded(member)) for member in range(MEMBERS)]
    inputs, labels = pictures[0][:30] / 255, pictures[1][:30]
    if own:
        inputs, labels = inputs.unflatten(0, (MEMBERS, 10)), labels.unflatten(0, (MEMBERS, 10))
    every = [
        one_step(kind, modules, inputs, labels, own_batches=own)
        for kind in (StackedPerceptrons, StackedModules)
    ]
    torch.testing.assert_close(*every, rtol=1e-5, atol=1e-6)
    narrow, as_vmap = (
        one_step(kind, modules, inputs, labels, own_batches=own, autocast=torch.bfloat16)
        for kind in (StackedPerceptrons, StackedModules)
    )
    for one, other, wide in zip(narrow, as_vmap, every[1], strict=True):
        assert one.dtype == torch.float32
        assert not torch.equal(one, wide) or not one.numel()
        # both round to bfloat16 after each product
        assert (one - other).norm() <= 4 * torch.finfo(torch.bfloat16).eps * other.norm()


def test_inputs_of_perceptrons_have_their_gradient(pictures):
    """Summed over the members where they share them, as vmap has it."""
    modules = [mlp((192, 9, 4), generator=seeded(member)) for member in range(MEMBERS)]
    found = []
    for kind in (StackedPerceptrons, StackedModules):
        learner = kind(modules, partial(torch.optim.SGD, lr=0.1))
        inputs = (pictures[0][:10] / 255).requires_grad_()
        found.append(torch.autograd.grad(learner._forward(inputs, False).square().sum(), inputs)[0])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


def test_other_networks_are_stacked_as_ever(pictures):
    inputs, labels = pictures[0][:20] / 255, pictures[1][:20]
    for made in (
        NETWORKS["conv4"],
        lambda seed: nn.Sequential(nn.Flatten(), mlp((192, 4), generator=seeded(seed))),
        lambda seed: nn.Sequential(*mlp((192, 8), generator=seeded(seed)), nn.Tanh()),
    ):
        modules = [made(member) for member in range(MEMBERS)]
        assert same(
            *(one_step(kind, modules, inputs, labels) for kind in (StackedPerceptrons, StackedModules))
        )


def dropping(seed, layer=ByteDropout):
    """192-20-4 with dropout on the inputs too."""
    flatten, first, relu, last = mlp((192, 20, 4), generator=seeded(seed))
    return nn.Sequential(flatten, layer(0.25), first, relu, layer(0.5), last)


@pytest.mark.parametrize("autocast", [None, torch.bfloat16], ids=str)
def test_perceptrons_are_the_same_with_mixed_adam(pictures, autocast):
    """As with torch's Adam, whose gradients come from the same products: weights after some steps, to rounding."""
    inputs, labels = pictures[0][:30] / 255, pictures[1][:30]
    found = []
    for optimizer in (MixedAdam, partial(torch.optim.Adam, fused=True)):
        modules = [mlp((192, 20, 12, 4), generator=seeded(member)) for member in range(MEMBERS)]
        learner = StackedPerceptrons(modules, partial(optimizer, lr=1e-3), autocast=autocast)
        for _ in range(5):
            learner.step(inputs, labels, 1.0)
        found.append([learner.logits(inputs), *learner.snapshot(1).values()])
    torch.testing.assert_close(found[0][1:], found[1][1:], rtol=1e-4, atol=1e-5)
    assert all(one.dtype == torch.float32 for one in found[0])
    torch.testing.assert_close(found[0][0], found[1][0], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("at", [{1}, {2, 5}], ids=str)
def test_perceptrons_in_bfloat16_resume_bit_for_bit(pictures, at):
    """With dropout, a limit on norms, an average that is evaluated, and members that stop in between."""

    def make():
        return StackedPerceptrons(
            [dropping(seed) for seed in range(MEMBERS)],
            partial(MixedAdam, lr=3e-3, max_norm=2.0),
            autocast=torch.bfloat16,
            ema=0.9,
        )

    options = {"stopping": lambda: Stopping(2)}
    whole, parts = train(make(), pictures, **options), interrupted(make, pictures, at, **options)
    assert same(vars(whole), vars(parts))
    learner = make()
    before = learner.logits(pictures[0] / 255)
    learner.restore([whole.best[2], whole.best[0]])
    after = learner.logits(pictures[0] / 255)
    assert learner.members == 2 and not torch.allclose(after[0], before[0], atol=0.1)
    plain = dropping(0)
    plain.load_state_dict(whole.best[2])
    torch.testing.assert_close(after[0], plain.eval()(pictures[0] / 255), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("layer", [ByteDropout, nn.Dropout])
def test_dropout_of_perceptrons_is_drawn_for_each_member(pictures, layer):
    """In training alone; of a network without a hidden layer the mean over draws is the answer without dropout."""
    flatten, last = mlp((192, 4), generator=seeded(0))
    modules = [nn.Sequential(flatten, layer(0.25), last) for _ in range(MEMBERS)]
    learner = StackedPerceptrons(modules, partial(torch.optim.SGD, lr=0.0))
    inputs = pictures[0][:5] / 255
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        sure = learner.logits(inputs)
        assert torch.equal(sure[0], sure[1]) and torch.equal(sure, learner.logits(inputs))
        learner.form.train()
        drawn = torch.stack([learner._forward(inputs, False) for _ in range(2000)])
    assert not torch.allclose(drawn[0, 0], drawn[0, 1], atol=1e-3)
    spread = drawn.std((0, 1)) / (2000 * MEMBERS) ** 0.5
    assert ((drawn.mean((0, 1)) - sure[0]).abs() < 5 * spread).all() and (spread > 0).all()
