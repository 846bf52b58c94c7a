"""The loop: exact gradients and updates, exact resumption, members that stop or diverge alone, and early stopping."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lib.core import Checkpoint, InputError  # noqa: E402
from lib.nets import StackedMLP, mlp  # noqa: E402
from lib.training import (  # noqa: E402
    Adadelta,
    Batches,
    Fit,
    Labelled,
    ModuleLearner,
    Scaling,
    StackLearner,
    Stages,
    Stopping,
    WindowStopping,
    derived_generator,
    derived_seed,
    evaluate,
    fit,
    validator,
)

SIZES = (36, 16, 4)
RATES = (0.05, 0.5, 1.0)


class Interrupted(Exception):
    """The machine went away just after a save."""


class Memory(Checkpoint):
    """A slot in memory that is always due, and interrupts after the given saves."""

    def __init__(self, interrupt_at: set[int]) -> None:
        self.saved, self.count, self.interrupt_at = None, 0, interrupt_at

    def load(self):
        return self.saved

    def due(self):
        return True

    def save(self, state):
        from lib.runs.checkpoints import _pack, _unpack

        self.saved = _unpack(
            _pack(state, "code"), "code"
        )  # through the file format: nothing is shared by reference
        self.count += 1
        if self.count in self.interrupt_at:
            raise Interrupted


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def sets():
    """Four blurred classes on 6 × 6 pixels: 500 training images and 150 to validate on."""
    generator = torch.Generator().manual_seed(7)
    centres = torch.randint(40, 216, (4, 1, 6, 6), generator=generator)
    labels = torch.randint(4, (650,), generator=generator)
    noise = torch.randint(-120, 121, (650, 1, 6, 6), generator=generator)
    images = (centres[labels] + noise).clamp(0, 255).to(torch.uint8)
    return images[:500], labels[:500], images[500:], labels[500:]


def stack_of(members, seed=1, sizes=SIZES):
    stack = StackedMLP(sizes, members)
    stack.initialise(torch.Generator().manual_seed(seed))
    return stack


def train(learner, sets, **changes) -> Fit:
    options = {"max_steps": 150, "eval_every": 7, "stopping": lambda: Stopping(3)} | changes
    batches = Batches(sets[0], sets[1], batch_size=32, seed=5)
    return fit(learner, batches, validator(sets[2], sets[3]), **options)


def same(a, b) -> bool:
    """Equal bit for bit, NaN equal to NaN, through dicts and lists."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


def interrupted(make, sets, at, **changes) -> Fit:
    """Train, interrupted after the saves `at`, with a new learner after each."""
    slot = Memory(at)
    while True:
        try:
            return train(make(), sets, checkpoint=slot, checkpoint_every=4, **changes)
        except Interrupted:
            continue


# --- optimiser -----------------------------------------------------------------------------------------------------


def test_adadelta_is_torchs():
    """Sixty steps of each member agree with torch.optim.Adadelta and autograd to rounding."""
    stack = stack_of(3)
    nets = [stack.module(member) for member in range(3)]
    theirs = [torch.optim.Adadelta(net.parameters(), lr=lr) for net, lr in zip(nets, RATES, strict=True)]
    ours = Adadelta(stack, RATES)
    generator = torch.Generator().manual_seed(2)
    for _ in range(60):
        x = torch.rand(16, 36, generator=generator)
        y = torch.randint(4, (16,), generator=generator)
        stack.backward(x, y)
        ours.step(stack.parameters, stack.gradients)
        for net, optimizer in zip(nets, theirs, strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
    for member, net in enumerate(nets):
        flat = torch.cat([p.detach().flatten() for p in net.parameters()])
        torch.testing.assert_close(stack.parameters[member], flat, rtol=1e-4, atol=2e-6)


def test_adadelta_needs_a_rate_for_each_member():
    with pytest.raises(ValueError, match="2 learning rates"):
        Adadelta(stack_of(2), (0.1,))


# --- batches -------------------------------------------------------------------------------------------------------


def test_a_pass_has_each_example_once_and_the_next_another_order(sets):
    images, labels = sets[0][:100], torch.arange(100)
    batches = Batches(images, labels, batch_size=32, seed=3)
    assert batches.per_pass == 4
    first = torch.cat([batches(step)[1] for step in range(4)])
    second = torch.cat([batches(step)[1] for step in range(4, 8)])
    assert len(batches(3)[0]) == 100 - 96
    assert torch.equal(first.sort().values, labels) and torch.equal(second.sort().values, labels)
    assert not torch.equal(first, second)


def test_any_step_can_be_returned_to(sets):
    batches = Batches(sets[0], sets[1], batch_size=32, seed=3)
    there = [tuple(t.clone() for t in batches(step)) for step in range(40)]
    again = Batches(sets[0], sets[1], batch_size=32, seed=3)
    for step in (37, 2, 16, 0):
        inputs, labels = again(step)
        assert torch.equal(inputs, there[step][0]) and torch.equal(labels, there[step][1])


def test_inputs_belong_to_labels(sets):
    images = torch.arange(200, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2).contiguous()
    inputs, labels = Batches(images, torch.arange(200), batch_size=50, seed=0)(1)
    assert torch.equal((inputs[:, 0, 0, 0] * 255).round().long(), labels)


def test_augmentation_is_drawn_from_the_step(sets):
    def noise(inputs, generator):
        return inputs + torch.rand(inputs.shape, generator=generator)

    make = lambda: Batches(sets[0], sets[1], batch_size=32, seed=3, augment=noise)  # noqa: E731
    one, two = make(), make()
    fifth = one(5)[0].clone()
    assert not torch.equal(fifth, one(6)[0])
    assert torch.equal(two(5)[0], fifth)


def test_more_examples_a_batch_than_there_are(sets):
    with pytest.raises(InputError, match="batch_size"):
        Batches(sets[0], sets[1], batch_size=501, seed=0, drop_last=True)


def test_scaling():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    assert Scaling()(images).flatten().tolist() == pytest.approx([0, 0.2, 1])
    assert Scaling(0.5, 0.5)(images).flatten().tolist() == pytest.approx([-1, -0.6, 1])
    colour = torch.randint(256, (5, 3, 4, 4), dtype=torch.uint8)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)
    expected = (colour / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(Scaling(mean, std)(colour), expected)
    with pytest.raises(ValueError, match="std"):
        Scaling(0.0, 0.0)


def test_seeds_are_apart():
    seeds = {
        derived_seed(s, *p) for s in range(50) for p in [("weights",), ("order",), ("noise", 0), ("noise", 1)]
    }
    assert len(seeds) == 200 and derived_seed(1, "a") == derived_seed(1, "a")
    assert all(0 <= seed < 2**63 for seed in seeds)


# --- evaluation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 149, 150, 1000])
def test_a_ragged_last_batch_counts_as_the_whole_set_does(sets, batch_size):
    """Mean over examples, not over batches: the same whatever the batch, and what the whole set at once gives."""
    stack = stack_of(2)
    stack.parameters[1] *= 3
    found = evaluate(stack.logits, sets[2], sets[3], batch_size=batch_size)
    for member in range(2):
        logits = stack.module(member)(sets[2].float() / 255).detach()
        right = logits.argmax(1) == sets[3]
        assert found.accuracy[member].item() == pytest.approx(right.double().mean().item(), abs=1e-12)
        loss = nn.functional.cross_entropy(logits, sets[3]).item()
        assert found.loss[member].item() == pytest.approx(loss, rel=1e-5)
        for k in range(4):
            expected = right[sets[3] == k].double().mean().item()
            assert found.by_class[member, k].item() == pytest.approx(expected)


def test_a_class_that_does_not_occur_has_no_accuracy(sets):
    labels = torch.zeros_like(sets[3])
    found = evaluate(stack_of(1).logits, sets[2], labels)
    assert math.isfinite(found.by_class[0, 0]) and torch.isnan(found.by_class[0, 1:]).all()


# --- early stopping ------------------------------------------------------------------------------------------------


def watched(stopping, values):
    """Feed values; the number of evaluations after which it stopped (None: never)."""
    for number, value in enumerate(values, 1):
        if stopping.update(value, number * 10, lambda number=number: {"w": torch.tensor([float(number)])}):
            return number
    return None


@pytest.mark.parametrize(
    ("options", "values", "stopped", "best"),
    [
        ({"patience": 2}, [0.1, 0.2, 0.3, 0.2, 0.25, 0.9], 5, 3),
        ({"patience": 2}, [0.1, 0.3, 0.2, 0.4, 0.3, 0.3], 6, 4),
        ({"patience": 1}, [0.5, 0.5], 2, 1),
        ({"patience": None}, [0.5, 0.1, 0.1, 0.1], None, 1),
        ({"patience": 2, "min_delta": 0.1}, [0.50, 0.55, 0.59, 0.9], 3, 1),
        ({"patience": 2, "mode": "min"}, [3.0, 2.0, 2.5, 1.0, 1.1, 1.2], 6, 4),
        ({"patience": 2}, [math.nan, 0.2, math.nan, math.nan], 4, 2),
        ({"patience": 2}, [math.nan, math.nan], 2, None),
    ],
)
def test_stopping_on_scripted_values(options, values, stopped, best):
    stopping = Stopping(**options)
    assert watched(stopping, values) == stopped
    if best is None:
        assert stopping.best is None and math.isnan(stopping.best_value)
    else:
        assert stopping.best_step == best * 10 and stopping.best["w"].item() == best
        assert stopping.best_value == values[best - 1]


def test_the_originals_rule():
    """`epoch > patience and val_acc <= max(val_acc[-patience-1:-1])`, epochs from 0, on random sequences."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        values = (torch.rand(12, generator=generator) * 8).round().div(8).tolist()
        expected, log = None, []
        for epoch, value in enumerate(values):
            log.append(value)
            if epoch > 3 and value <= max(log[-3 - 1 : -1]):
                expected = epoch + 1
                break
        assert watched(WindowStopping(3), values) == expected


def test_the_originals_rule_forgives_nothing_that_patience_would():
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.49, 0.6, 0.7]
    assert watched(WindowStopping(3), values) == 6
    assert watched(Stopping(3), values) is None


def test_bad_patience():
    with pytest.raises(ValueError, match="patience"):
        Stopping(0)


# --- the loop ------------------------------------------------------------------------------------------------------


def stacked(ema=None):
    stack = stack_of(len(RATES))
    return StackLearner(stack, Adadelta(stack, RATES), ema=ema)


def plain(ema=None):
    net = nn.Sequential(
        mlp((36, 16), generator=torch.Generator().manual_seed(1)), nn.BatchNorm1d(16), nn.ReLU()
    )
    net.extend([nn.Dropout(0.3), nn.Linear(16, 4)])
    nn.init.constant_(net[-1].weight, 0.1)
    nn.init.constant_(net[-1].bias, 0.0)
    return ModuleLearner(net, torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), ema=ema)


@pytest.mark.parametrize("make", [stacked, plain], ids=["stack", "module"])
@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("at", [{1}, {3, 4, 9}, {2, 6, 7, 13}], ids=str)
def test_resumed_is_uninterrupted_bit_for_bit(sets, make, ema, at):
    """With dropout, batch normalisation, momentum, averages, and members that have stopped in between."""
    options = {"schedule": lambda step: 1 / (1 + step / 50)}
    whole = train(make(ema), sets, **options)
    parts = interrupted(lambda: make(ema), sets, at, **options)
    assert same(vars(whole), vars(parts))
    assert bool(whole.averages) == (ema is not None)


def test_a_resumption_that_forgets_the_optimiser_would_be_noticed(sets):
    class Forgetful(StackLearner):
        def load(self, state):
            self.stack.load(state["parameters"])

    def make():
        stack = stack_of(len(RATES))
        return Forgetful(stack, Adadelta(stack, RATES))

    options = {"stopping": lambda: Stopping(None)}
    assert not same(vars(train(stacked(), sets, **options)), vars(interrupted(make, sets, {3}, **options)))


def test_a_stack_is_its_members_trained_apart(sets):
    together = train(stacked(), sets)
    assert len(set(together.steps)) > 1, "the sets should make members stop at different times"
    for member, rate in enumerate(RATES):
        stack = stack_of(1)
        apart = train(StackLearner(stack, Adadelta(stack, (rate,))), sets)
        assert apart.steps[0] == together.steps[member]
        assert apart.best_step[0] == together.best_step[member]
        torch.testing.assert_close(apart.best[0], together.best[member], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(apart.last[0], together.last[member], rtol=1e-4, atol=1e-6)


def test_a_stack_is_modules_trained_by_the_same_loop(sets):
    stack = stack_of(1)
    net = stack.module(0)
    ours = train(StackLearner(stack, Adadelta(stack, (0.5,))), sets)
    theirs = train(ModuleLearner(net, torch.optim.Adadelta(net.parameters(), lr=0.5)), sets)
    assert ours.steps == theirs.steps
    flat = torch.cat([tensor.flatten() for tensor in theirs.last[0].values()])
    torch.testing.assert_close(ours.last[0]["parameters"], flat, rtol=1e-4, atol=1e-5)
    assert ours.series["train_loss"][0] == pytest.approx(theirs.series["train_loss"][0], rel=1e-4)


@pytest.mark.parametrize("make", [stacked, plain], ids=["stack", "module"])
def test_the_best_weights_are_kept_unchanged_by_further_training(sets, make):
    """Training on to a later evaluation never changes what was best before it; the original's live state_dict did."""
    patient = {"stopping": lambda: Stopping(None)}
    learner = make()
    long = train(learner, sets, **patient)
    for member, step in enumerate(long.best_step):
        short = train(make(), sets, max_steps=step, **patient)
        assert same(short.last[member], long.best[member])
    learner.restore(long.best)
    accuracy = validator(sets[2], sets[3])(learner)["accuracy"]
    assert accuracy == pytest.approx(long.best_value)
    assert accuracy == [max(values) for values in long.series["accuracy"]]


def test_a_member_that_diverges_leaves_the_others_alone(sets):
    def with_rates(rates):
        stack = stack_of(len(rates))
        return StackLearner(stack, Adadelta(stack, rates))

    found = train(with_rates((0.05, 1e38, 0.5)), sets)
    assert found.diverged == [False, True, False]
    assert found.steps[1] == 7
    sane = train(with_rates((0.05, 0.5)), sets)
    assert same([found.best[0], found.best[2]], sane.best)
    everyone = train(with_rates((1e38, 3e38)), sets)
    assert everyone.diverged == [True, True] and everyone.best == [None, None]


def test_the_average_is_what_it_says(sets):
    """Against the definition, step by step; the raw weights are untouched by it."""
    learner = stacked(ema=0.9)
    weights = []
    batches = Batches(sets[0], sets[1], batch_size=32, seed=5)
    for step in range(40):
        learner.step(*batches(step), 1.0)
        learner.update_average(step)
        weights.append(learner.stack.parameters.clone())
    average = weights[0]
    for step, now in enumerate(weights[1:], 1):
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * now
    torch.testing.assert_close(learner.average[0], average)
    with learner.averaged():
        assert torch.equal(learner.stack.parameters, learner.average[0])
    assert torch.equal(learner.stack.parameters, weights[-1])


def test_averages_are_evaluated_beside_the_raw_weights(sets):
    raw, both = train(stacked(), sets), train(stacked(ema=0.9), sets)
    assert same(raw.best, both.best) and same(raw.series["accuracy"], both.series["accuracy"])
    assert [max(values) for values in both.series["accuracy_ema"]] == both.average_value


def test_the_schedule_scales_the_rates(sets):
    halved = train(stacked(), sets, schedule=lambda step: 0.5, stopping=lambda: Stopping(None))
    stack = stack_of(len(RATES))
    lower = StackLearner(stack, Adadelta(stack, [rate / 2 for rate in RATES]))
    plainly = train(lower, sets, stopping=lambda: Stopping(None))
    torch.testing.assert_close(halved.last, plainly.last, rtol=1e-5, atol=1e-7)


def test_evaluations_and_progress(sets):
    seen = []
    found = train(
        stacked(),
        sets,
        max_steps=20,
        stopping=lambda: Stopping(None),
        progress=lambda *what: seen.append(what),
    )
    assert [step for step, _, _ in seen] == [7, 14, 20] and all(total == 20 for _, total, _ in seen)
    assert all(len(values) == 3 for series in found.series.values() for values in series)
    assert found.steps == [20] * 3


def test_the_global_generator_is_left_alone(sets):
    learner = plain()
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    train(learner, sets, max_steps=5)
    assert torch.equal(torch.rand(3), expected)


def test_autocast_and_channels_last_learn(sets):
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    learner = ModuleLearner(net, optimizer, autocast=torch.bfloat16, channels_last=True)
    found = train(learner, sets, max_steps=80, stopping=lambda: Stopping(None))
    assert found.best_value[0] > 0.6
    assert all(p.dtype == torch.float32 for p in net.parameters())


def test_bad_budgets(sets):
    with pytest.raises(InputError, match="max_steps"):
        train(stacked(), sets, max_steps=0)


def test_stages_resume_in_the_middle(sets):
    """Three fits in a row in one slot, each beginning where the one before ended."""

    def chain(slot):
        stages = Stages(slot)
        for number in range(3):
            if number < len(stages.done):
                continue
            stack = stack_of(1)
            if number:
                stack.load(stages.done[-1]["parameters"][None])
            learner = StackLearner(stack, Adadelta(stack, (RATES[number],)))
            stages.finish(train(learner, sets, checkpoint=stages).last[0])
        return stages.done

    whole = chain(Memory(set()))
    slot, parts = Memory({2, 5, 11}), None
    while parts is None:
        try:
            parts = chain(slot)
        except Interrupted:
            continue
    assert same(whole, parts) and slot.count > 11


def test_labelled_gives_each_image_its_label():
    labels = torch.tensor([3, 1, 2])
    index, found = Labelled(labels).take(torch.tensor([2, 0]))
    assert index.tolist() == [2, 0] and found.tolist() == [2, 3]


def test_generators_are_reproducible():
    assert torch.equal(
        torch.rand(4, generator=derived_generator(3, "x")), torch.rand(4, generator=derived_generator(3, "x"))
    )
