"""lib.methods.trm: the recursion against one written out, where gradients go, slots, halting, resumption, votes, alignment."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from lib.methods.trm import (  # noqa: E402
    STARTS,
    AdamATan2,
    Average,
    Batch,
    DeepSupervision,
    KStep,
    Limit,
    Nested,
    TinyRecursiveModel,
    asymptotic_alignment,
    cell_mode,
    centred,
    centred_range,
    deep_recursion,
    explore,
    first_valid,
    latent_recursion,
    most_confident,
    puzzle_mode,
    single,
    stream,
    trajectory,
    warm_up,
)
from lib.methods.trm.network import Attention, SwiGLU, rms_norm  # noqa: E402
from lib.methods.trm.supervision import answer_loss, halting_target  # noqa: E402
from lib.runs.checkpoints import FileCheckpoint  # noqa: E402

CELLS, DIGITS, WIDTH, BATCH = 6, 3, 8, 5


def tiny(**options):
    generator = torch.Generator().manual_seed(7)
    size = {
        "cells": CELLS,
        "digits": DIGITS,
        "width": WIDTH,
        "multiple": 4,
        "heads": 2,
        "generator": generator,
    }
    return TinyRecursiveModel(**size | options)


def puzzles(seed=0, batch=BATCH):
    """Puzzles that can be solved: the answer is a permutation of the digits by position, some cells are blank."""
    generator = torch.Generator().manual_seed(seed)
    solutions = torch.randint(1, DIGITS + 1, (batch, CELLS), generator=generator)
    shown = torch.rand(batch, CELLS, generator=generator) < 0.6
    return Batch((solutions * shown).to(torch.uint8), solutions.to(torch.uint8))


def draw(step):
    return puzzles(1000 + step)


def training(model=None, *, average=None, **options):
    model = model or tiny()
    settings = {"think": lambda step: Nested(2, 2), "limit": Limit(4), "lr": 1e-2, "seed": 3}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    return DeepSupervision(model, optimizer, draw, average=average, **settings | options)


@pytest.fixture(params=["mlp", "attention"])
def model(request):
    return tiny(mixing=request.param)


# --- network ---------------------------------------------------------------------------------------------------------


def test_swiglu_and_norm_are_their_formulas(generator):
    layer, x = SwiGLU(6, 4.0, 4, generator), torch.randn(2, 3, 6, generator=generator)
    assert layer.outward.shape == (6, 16)  # 2/3 · 4 · 6 = 16
    gate, value = x @ layer.inward[:16].T, x @ layer.inward[16:].T
    torch.testing.assert_close(layer(x), (gate * torch.sigmoid(gate) * value) @ layer.outward.T)
    normed = rms_norm(x)
    torch.testing.assert_close(normed.square().mean(-1), torch.ones(2, 3), rtol=1e-3, atol=0)
    torch.testing.assert_close(normed / normed.norm(dim=-1, keepdim=True), x / x.norm(dim=-1, keepdim=True))


def test_the_mixer_mixes_cells_and_norms_over_them(generator):
    layer, x = tiny().core[0], torch.randn(BATCH, CELLS, WIDTH, generator=generator)
    across = x.transpose(1, 2)
    mixed = rms_norm(across + layer.cells(across)).transpose(1, 2)
    torch.testing.assert_close(layer(x), rms_norm(mixed + layer.channels(mixed)))


def test_rotary_positions_are_relative(generator):
    """The product of a query and a key depends on how far apart they are."""
    attention = Attention(10, 8, 2, generator)
    query, key = torch.randn(2, 1, 1, 1, 4, generator=generator).expand(2, 1, 2, 10, 4)
    scores = (attention.turned(query) @ attention.turned(key).mT)[0, 0]
    for offset in (-3, 0, 4):
        diagonal = scores.diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    assert not torch.allclose(scores[0, 0], scores[0, 5])


def test_attention_is_the_textbooks(generator):
    attention, x = Attention(CELLS, WIDTH, 2, generator), torch.randn(3, CELLS, WIDTH, generator=generator)
    query, key, value = (x @ w.T for w in attention.inward.chunk(3))
    heads = []
    for h in range(2):
        q, k = (attention.turned(t[..., 4 * h : 4 * h + 4]) for t in (query, key))
        heads.append(torch.softmax(q @ k.mT / 2, -1) @ value[..., 4 * h : 4 * h + 4])
    torch.testing.assert_close(attention(x), torch.cat(heads, -1) @ attention.outward.T)


def test_the_papers_size_and_the_heads_at_the_beginning():
    model = TinyRecursiveModel(cells=81, digits=9, registers=16)
    assert 4.9e6 < model.parameter_count < 5.1e6
    x = model.embed(torch.zeros(2, 81, dtype=torch.uint8))
    assert x.shape == (2, 97, 512) and x[:, :16].eq(0).all()
    logits, halt = model.read(torch.randn(2, 97, 512))
    assert logits.shape == (2, 81, 9) and halt.tolist() == [-5.0, -5.0]
    values = model.core[0].channels.inward
    assert values.std().item() == pytest.approx(512**-0.5, rel=0.01)
    assert values.abs().max() < 2.3 * 512**-0.5  # cut off
    x = model.embed(torch.arange(81)[None] % 10)[:, 16:]
    assert x.std().item() == pytest.approx(1, rel=0.1)


def test_a_generator_decides_the_weights():
    one, two = tiny(), tiny()
    assert all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("start", STARTS)
def test_where_states_begin(start, generator):
    model = tiny(width=64)
    y, z = model.initial(200, start, generator)
    again = model.initial(200, start, generator)
    assert y.shape == z.shape == (200, CELLS, 64)
    by_cell = (y != y[:, :1]).any()
    by_puzzle = (y != y[:1]).any()
    assert (by_puzzle, by_cell) == {
        "puzzle": (True, False),
        "cell": (True, True),
        "mixed": (True, True),
    }.get(start, (False, False))
    assert torch.equal(y, again[0]) == (start in ("static", "zeros"))
    assert not torch.equal(y, z) or start == "zeros"
    blank = (y == 0).flatten(1).all(1).float().mean().item()
    assert blank == pytest.approx({"zeros": 1.0, "mixed": 0.5}.get(start, 0.0), abs=0.15)
    if start in ("cell", "puzzle"):
        assert y.std().item() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"width": 0}, "width is 0"),
        ({"registers": -1}, "registers is -1"),
        ({"mixing": "attention", "heads": 3}, "heads 3"),
    ],
)
def test_bad_sizes(options, named):
    with pytest.raises(ValueError, match=named):
        tiny(**options)


def test_bad_puzzles_and_starts():
    with pytest.raises(ValueError, match="7 cells; 6 are wanted"):
        tiny().embed(torch.zeros(1, 7, dtype=torch.uint8))
    with pytest.raises((ValueError, TypeError), match="nowhere"):
        tiny().initial(1, "nowhere")


# --- recursion -------------------------------------------------------------------------------------------------------


def unrolled(model, x, y, z):
    """n = 2, T = 2, written out: (y, z), and the gradients of a loss of theirs that the last recursion gives."""
    with torch.no_grad():
        z = model(x + y + z)
        z = model(x + y + z)
        y = model(y + z)
    y, z = y.clone(), z.clone()
    z = model(x + y + z)
    z = model(x + y + z)
    y = model(y + z)
    return y, z


def gradients(model, loss):
    found = torch.autograd.grad(loss, [*model.core.parameters()])
    return torch.cat([gradient.flatten() for gradient in found])


def test_deep_recursion_is_the_one_written_out(model, generator):
    x, y, z = torch.randn(3, BATCH, CELLS, WIDTH, generator=generator)
    expected, found = unrolled(model, x, y, z), deep_recursion(model, x, y, z, 2, 2)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(
        *(gradients(model, (a * b.detach().cos()).sum()) for a, b in (expected, found))
    )


def test_gradients_come_from_the_last_recursion_alone(model, generator):
    """Not through the warm-up: neither to the states that it began with, nor through its passes to the weights."""
    x, y, z = torch.randn(3, BATCH, CELLS, WIDTH, generator=generator)
    y.requires_grad_(), z.requires_grad_()
    answer, thought = deep_recursion(model, x, y, z, 2, 3)
    grads = torch.autograd.grad(answer.sum() + thought.sum(), [y, z], allow_unused=True)
    assert grads == (None, None)
    warm = deep_recursion(model, x, y, z, 2, 2)
    alone = latent_recursion(model, x, *(state.detach() for state in warm), 2)
    torch.testing.assert_close(
        gradients(model, answer.square().sum()), gradients(model, alone[0].square().sum())
    )
    y2, _ = deep_recursion(model, x, y, z, 2, 1)  # without warm-up they do reach the states
    assert torch.autograd.grad(y2.sum(), z)[0].abs().sum() > 0


@pytest.mark.parametrize("mixing", ["mlp", "attention"])
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("think", [Nested(2, 1), Nested(1, 3), Nested(1, 2, 2), KStep(2)])
def test_all_weights_get_gradients(mixing, autocast, think):
    """Also where autocast has cast them within the warm-up already."""
    model = tiny(mixing=mixing, two_headed=isinstance(think, KStep))
    run = training(model, autocast=autocast, think=lambda step: think)
    run.step()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_autocast_is_close_and_keeps_its_type():
    model, batch = tiny(), puzzles()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        x = model.embed(batch.puzzles)
        y, _ = Nested(1, 1)(model, x, *model.initial(BATCH, "static"))
        assert x.dtype == y.dtype == torch.bfloat16
        logits, halt = model.read(y)
    assert logits.dtype == halt.dtype == torch.float32
    with torch.no_grad():
        exact, _ = Nested(1, 1)(model, model.embed(batch.puzzles), *model.initial(BATCH, "static"))
    assert (y.float() - exact).abs().mean() < 0.03


def test_the_simplified_recursion(generator):
    model = tiny(two_headed=True)
    x, y, z = torch.randn(3, BATCH, CELLS, WIDTH, generator=generator)
    found = KStep(2)(model, x, y, z)
    for _ in range(2):
        y, z = model.both(x + y + z)
    assert all(map(torch.equal, found, (y, z)))
    with pytest.raises(ValueError, match="two_headed=True"):
        KStep(1)(tiny(), x, y, z)


def test_passes_are_counted(generator):
    x, y, z = torch.randn(3, BATCH, CELLS, WIDTH, generator=generator)
    for think in (Nested(6, 3), Nested(1, 2, 3), KStep(4)):
        model, seen = tiny(two_headed=True), []
        model.core.register_forward_hook(lambda *_, seen=seen: seen.append(torch.is_grad_enabled()))
        think(model, x, y, z)
        assert (len(seen), sum(seen)) == (think.passes, think.gradient_passes)
    for bad in (lambda: Nested(0, 1), lambda: Nested(1, 0), lambda: KStep(0)):
        with pytest.raises(ValueError, match="at least 1"):
            bad()


# --- supervision -----------------------------------------------------------------------------------------------------


def test_the_loss_is_cross_entropy_over_the_cells_that_are_due(generator):
    logits = torch.randn(2, CELLS, DIGITS, generator=generator)
    solutions = puzzles(batch=2).solutions
    each = functional.cross_entropy(logits.flatten(0, 1), solutions.flatten().long() - 1, reduction="none")
    each = each.view(2, CELLS)
    torch.testing.assert_close(answer_loss(logits, solutions), each.mean())
    due = torch.zeros(2, CELLS, dtype=torch.bool)
    due[0, :2] = True
    torch.testing.assert_close(answer_loss(logits, solutions, due), each[0, :2].mean() / 2)
    torch.testing.assert_close(answer_loss(logits, solutions, ~torch.zeros_like(due)), each.mean())


def test_the_halting_target_is_the_whole_puzzle():
    solutions = puzzles(batch=3).solutions
    logits = functional.one_hot(solutions.long() - 1, DIGITS).float()
    logits[1, 4] = logits[1, 4].roll(1)  # one wrong cell
    logits[2] = logits[2].roll(1, -1)
    assert halting_target(logits, solutions).tolist() == [1, 0, 0]


def certain(bias, **options):
    """A training whose halting head says the same of every answer; it does not learn."""
    run = training(**{"lr": 0.0, "exploration": 0.0} | options)
    with torch.no_grad():
        run.model.halt_bias.fill_(bias)
    for group in run.optimizer.param_groups:
        group["weight_decay"] = 0.0
    return run


def ended(run, steps):
    out = []
    for _ in range(steps):
        run.step()
        out.append(run.slots.done.all().item())
        assert run.slots.done.any() == run.slots.done.all()
    return out


def test_puzzles_end_when_the_head_is_sure_or_at_the_limit():
    assert ended(certain(9.0), 3) == [True, True, True]
    assert ended(certain(-9.0), 8) == [False, False, False, True] * 2
    assert ended(certain(9.0, act=False), 8) == [False, False, False, True] * 2


def test_exploring_puzzles_have_least_steps():
    run = certain(9.0, exploration=1.0, limit=Limit(6))
    seen = []
    for _ in range(30):
        run.step()
        slots = run.slots
        assert (slots.done == (slots.steps >= slots.least)).all()
        seen += slots.least.tolist()
    assert set(seen) == {2, 3, 4, 5, 6}
    some = certain(9.0, exploration=0.3, limit=Limit(6))
    some.step()
    assert set(some.slots.least.tolist()) & {1}


def test_done_slots_are_replaced_and_the_others_left_alone():
    run = training(start="cell")
    for _ in range(2):
        run.step()
    before = run.slots
    before.done = torch.tensor([True, False, True, False, False])
    after, fresh = run.refill(2), draw(2)
    for i, done in enumerate(before.done.tolist()):
        same = all(torch.equal(getattr(after, name)[i], getattr(before, name)[i]) for name in vars(before))
        assert same != done
        if done:
            assert torch.equal(after.puzzles[i], fresh.puzzles[i]) and torch.equal(
                after.solutions[i], fresh.solutions[i]
            )
            assert after.steps[i] == 0 and not torch.equal(after.y[i], before.y[i])
    static = training()
    static.step()
    static.slots.done[:] = True
    assert torch.equal(static.refill(1).y[0, 0], static.model.first[0])


def test_states_go_on_from_where_they_were():
    """Two steps of a training that does not learn are two steps of a trajectory."""
    run = certain(-9.0)
    run.step()
    first = run.slots.puzzles.clone()
    run.step()
    assert torch.equal(run.slots.puzzles, first)
    *_, (_, _, y, z) = trajectory(
        run.model, first, Nested(2, 2), steps=2, states=run.model.initial(BATCH, "static")
    )
    torch.testing.assert_close((run.slots.y, run.slots.z), (y, z))
    assert not run.slots.y.requires_grad


def test_limits_are_centred():
    limit = Limit(8, 5)
    drawn = limit.draw(40_000, stream(0, "limits", 0)).float()
    assert (drawn.min(), drawn.max()) == (3, 13)
    assert drawn.mean().item() == pytest.approx(8, abs=0.06)
    draws = [centred(3, 2, 1, "T")(step) for step in range(2000)]
    assert set(draws) == {1, 2, 3, 4, 5} and np.mean(draws) == pytest.approx(3, abs=0.12)
    assert draws[:9] == [centred(3, 2, 1, "T")(step) for step in range(9)]
    assert centred(6, 0, 0, "n")(17) == 6
    for mean, width in ((3, 3), (3, -1)):
        with pytest.raises(ValueError, match=f"{mean} ± {width}"):
            centred_range(mean, width)


def test_summary_counts_what_left():
    run = certain(-9.0)
    for _ in range(8):
        run.step()
    found = run.summary()
    assert (found["ended"], found["steps"]) == (2 * BATCH, 4) and 0 <= found["solved"] <= 1
    assert run.passes == 8 * 6
    assert math.isnan(run.summary()["answer_loss"])


def test_it_learns():
    fixed = puzzles(5, batch=8)
    model = tiny(width=32)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    run = DeepSupervision(
        model,
        optimizer,
        lambda step: fixed,
        think=lambda step: Nested(2, 2),
        limit=Limit(4),
        seed=0,
        lr=1e-2,
        warmup=5,
    )
    for _ in range(80):
        run.step()
    run.summary()
    for _ in range(10):
        run.step()
    found = run.summary()
    assert found["answer_loss"] < 0.1 and found["solved"] > 0.9
    assert found["steps"] < 2.5  # the head has learned to stop


@pytest.mark.parametrize("kind", ["adamw", "atan2"])
def test_a_resumed_training_is_an_uninterrupted_one(kind, tmp_path):
    def made():
        model = tiny()
        run = training(
            model,
            average=Average(model, 0.9),
            start="cell",
            limit=Limit(4, 2),
            think=lambda step: Nested(centred(2, 1, 0, "n")(step), 2),
            autocast=torch.bfloat16,
            warmup=6,
        )
        if kind == "atan2":
            run.optimizer = AdamATan2(model.parameters(), lr=1e-2)
        return run

    whole, slot = made(), FileCheckpoint(tmp_path / "state", "code", every=0)
    for step in range(12):
        whole.step()
        if step == 6:
            slot.save(whole.state_dict())
    other = made()
    other.load_state_dict(slot.load())
    for _ in range(5):
        other.step()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, other.model.state_dict()[name]), name
    for name, tensor in whole.average.state_dict().items():
        assert torch.equal(tensor, other.average.state_dict()[name]), name
    assert all(torch.equal(value, getattr(other.slots, name)) for name, value in vars(whole.slots).items())
    assert whole.summary() == other.summary() and (whole.taken, whole.passes) == (other.taken, other.passes)


def test_exploration_that_is_no_share():
    with pytest.raises(ValueError, match="exploration is 2"):
        training(exploration=2.0)


# --- optimisation ----------------------------------------------------------------------------------------------------


def test_atan2_steps_as_adam_at_first_and_whatever_the_losss_unit():
    found = {}
    for unit in (1.0, 1e-9, 1e9):
        weight = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
        optimizer = AdamATan2([weight], lr=0.1, weight_decay=0.5)
        for _ in range(3):
            weight.grad = unit * torch.tensor([2.0, -1e-3, 0.5])
            optimizer.step()
        found[unit] = weight.detach().clone()
    expected = torch.tensor([1.0, -2.0, 3.0])
    for _ in range(3):
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * torch.tensor([1.0, -1.0, 1.0])  # m̂ = g, v̂ = g²
    for weight in found.values():
        torch.testing.assert_close(weight, expected)


def test_atan2_is_its_formula(generator):
    weight, moments = nn.Parameter(torch.zeros(4)), (torch.zeros(4), torch.zeros(4))
    optimizer = AdamATan2([weight, nn.Parameter(torch.ones(1))], lr=0.01, betas=(0.9, 0.95))
    expected = torch.zeros(4)
    for t in range(1, 6):
        gradient = torch.randn(4, generator=generator)
        weight.grad = gradient
        optimizer.step()
        moments = (0.9 * moments[0] + 0.1 * gradient, 0.95 * moments[1] + 0.05 * gradient**2)
        m, v = moments[0] / (1 - 0.9**t), moments[1] / (1 - 0.95**t)
        expected = expected - 0.01 * 4 / math.pi * torch.atan2(m, v.sqrt())
    torch.testing.assert_close(weight.detach(), expected)
    with pytest.raises(ValueError, match="lr is -1"):
        AdamATan2([weight], lr=-1.0)


def test_the_warm_up_is_a_straight_line():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    rates = []
    for step in range(6):
        warm_up(optimizer, 0.4, step, 4)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_the_average_is_the_closed_form():
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    average = Average(model, 0.8)
    for value in (2.0, -1.0, 5.0):
        with torch.no_grad():
            model.weight.fill_(value)
        average.update()
    expected = 0.8**3 * 1 + 0.2 * (0.8**2 * 2 + 0.8 * -1 + 5)
    assert average.state_dict()["weight"].flatten().tolist() == pytest.approx([expected] * 2)
    other = nn.Linear(2, 1, bias=False)
    average.copy_to(other)
    assert other.weight.flatten().tolist() == pytest.approx([expected] * 2)
    assert model.weight[0, 0] == 5  # the weights themselves are left alone
    with pytest.raises(ValueError, match="decay is 1"):
        Average(model, 1.0)


# --- breadth ---------------------------------------------------------------------------------------------------------


def test_passes_differ_by_start_noise_or_view(generator):
    model, batch = tiny(), puzzles(batch=9)
    options = {"steps": 2, "passes": 4, "generator": generator}
    plain = explore(model, batch.puzzles, Nested(1, 1), **options)
    assert plain.grids.shape == (4, 2, 9, CELLS) and plain.confidence.shape == (4, 2, 9)
    assert (plain.grids == plain.grids[:1]).all() and plain.grids.min() >= 1 and plain.grids.max() <= DIGITS
    for more in ({"start": "batch"}, {"start": "cell"}, {"sigma": 1.0}):
        found = explore(model, batch.puzzles, Nested(1, 1), **options | more)
        assert (found.grids != found.grids[:1]).any(), more
    flipped = explore(
        model,
        batch.puzzles,
        Nested(1, 1),
        **options,
        views=lambda wide: (wide.flip(1), lambda grids: grids.flip(1)),
    )
    by_hand = explore(model, batch.puzzles.flip(1), Nested(1, 1), **options)
    assert torch.equal(flipped.grids, by_hand.grids.flip(-1))
    with pytest.raises(ValueError, match="passes 0"):
        explore(model, batch.puzzles, Nested(1, 1), steps=1, passes=0)


def test_upto_is_every_answer_so_far():
    found = explore(tiny(), puzzles().puzzles, Nested(1, 1), steps=3, passes=4, sigma=1.0)
    grids, confidence = found.upto(2, 3)
    assert grids.shape == (6, BATCH, CELLS) and torch.equal(grids[5], found.grids[1, 2])
    assert torch.equal(confidence[3], found.confidence[1, 0])


answers = st.integers(1, 6).flatmap(
    lambda k: st.tuples(
        st.lists(
            st.lists(st.sampled_from([(1, 2), (2, 1), (2, 2)]), min_size=3, max_size=3),
            min_size=k,
            max_size=k,
        ),
        st.lists(st.permutations(range(18)), min_size=1, max_size=1),
    )
)


@given(answers)
@settings(max_examples=60, deadline=None)
def test_votes_are_what_counting_gives(drawn):
    lists, (order,) = drawn
    grids = torch.tensor(lists, dtype=torch.uint8)  # (passes, 3 puzzles, 2 cells)
    k = len(grids)
    confidence = torch.tensor(order[: 3 * k], dtype=torch.float32).view(k, 3)
    modes, votes, sure = (f(grids, confidence) for f in (cell_mode, puzzle_mode, most_confident))
    for p in range(3):
        whole = [tuple(row) for row in grids[:, p].tolist()]
        for c in range(2):
            counts = Counter(grid[c] for grid in whole)
            assert modes[p, c] == min(d for d in counts if counts[d] == max(counts.values()))
        counts = Counter(whole)
        best = max(whole, key=lambda g: (counts[g], max(confidence[i, p] for i in range(k) if whole[i] == g)))
        assert tuple(votes[p].tolist()) == best and tuple(votes[p].tolist()) in whole
        assert tuple(sure[p].tolist()) == whole[int(confidence[:, p].argmax())]
    assert torch.equal(single(grids, confidence), grids[0])


def test_one_pass_makes_all_aggregators_equal(generator):
    grids = torch.randint(1, 4, (1, 7, CELLS), generator=generator, dtype=torch.uint8)
    confidence = torch.randn(1, 7, generator=generator)
    for found in (
        *(f(grids, confidence) for f in (single, cell_mode, puzzle_mode, most_confident)),
        first_valid(grids, confidence, torch.rand(1, 7, generator=generator) < 0.5),
    ):
        assert torch.equal(found, grids[0])


def test_a_valid_answer_is_taken_wherever_there_is_one(generator):
    """So best-of-k by constraint check is at least as good as every pass, and as every other aggregator."""
    solutions = torch.randint(1, 4, (300, CELLS), generator=generator, dtype=torch.uint8)
    grids = torch.randint(1, 4, (5, 300, CELLS), generator=generator, dtype=torch.uint8)
    right = torch.rand(5, 300, generator=generator) < 0.2
    grids = torch.where(right[..., None], solutions, grids)
    valid = (grids == solutions).all(-1)
    confidence = torch.randn(5, 300, generator=generator)
    chosen = (first_valid(grids, confidence, valid) == solutions).all(-1)
    assert torch.equal(chosen, valid.any(0))
    for f in (single, puzzle_mode, most_confident):
        assert (chosen | ~(f(grids, confidence) == solutions).all(-1)).all()
    none = first_valid(grids, confidence, torch.zeros_like(valid))
    assert torch.equal(none, most_confident(grids, confidence))


# --- alignment -------------------------------------------------------------------------------------------------------


def test_alignment_of_a_contraction_and_of_the_identity(generator):
    start = (torch.randn(6, 4, 8, generator=generator), torch.randn(6, 4, 8, generator=generator))
    goal = torch.randn(6, 4, 8, generator=generator)

    def contraction(states):
        for _ in range(60):
            states = tuple(goal + 0.5 * (state - goal) for state in states)
        return states

    found = asymptotic_alignment(contraction, start)
    torch.testing.assert_close((found.y, found.z), (torch.ones(6).double(),) * 2, rtol=0, atol=1e-9)
    same = asymptotic_alignment(lambda states: states, start)
    expected = functional.cosine_similarity(start[0].flatten(1), start[0].roll(1, 0).flatten(1)).double()
    torch.testing.assert_close(same.y, expected, rtol=0, atol=1e-6)
    assert (same.y < 0.9).all() and torch.equal(same.second[1], start[1].roll(1, 0))
    with pytest.raises(ValueError, match="at least 2"):
        asymptotic_alignment(contraction, (start[0][:1], start[1][:1]))


def test_alignment_keeps_digits_close_to_one(generator):
    y = torch.randn(4, 3, 8, generator=generator).double()
    states = iter([(y, y), (y + 1e-6 * torch.randn(y.shape, generator=generator).double(), y)])
    found = asymptotic_alignment(lambda _: next(states), (y, y))
    assert ((1 - found.y) > 1e-14).all() and ((1 - found.y) < 1e-11).all() and (found.z == 1).all()
