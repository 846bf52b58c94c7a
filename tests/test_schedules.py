"""Schedules: closed forms, and torch's own where it has them."""

from __future__ import annotations

import pytest

from lib.schedules import cosine, every, one_cycle, stepped, triangular


def test_triangular_goes_up_and_down_in_straight_lines():
    factor = triangular(100, peak=0.2, start=0.1, end=0.05)
    assert factor(0) == pytest.approx(0.1)
    assert factor(10) == pytest.approx(0.55)
    assert factor(20) == 1
    assert factor(60) == pytest.approx(0.525)
    assert factor(100) == pytest.approx(0.05) and factor(150) == factor(100)
    up = [factor(i + 1) - factor(i) for i in range(20)]
    down = [factor(i + 1) - factor(i) for i in range(20, 100)]
    assert up == pytest.approx([0.9 / 20] * 20) and down == pytest.approx([-0.95 / 80] * 80)


@pytest.mark.parametrize(("steps", "peak"), [(10, 0.3), (97, 0.25), (1000, 0.5)])
def test_one_cycle_is_torchs(steps, peak):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=steps, pct_start=peak, cycle_momentum=False
    )
    mine = one_cycle(steps, peak=peak)
    for step in range(steps):
        assert 0.1 * mine(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-12)
        optimizer.step()
        if step < steps - 1:
            theirs.step()
    assert mine(steps + 5) == pytest.approx(1 / 250_000)


def test_cosine_in_closed_form():
    factor = cosine(110, warmup=10, end=0.1)
    assert [factor(i) for i in range(10)] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert factor(10) == 1
    assert factor(60) == pytest.approx(0.55)
    assert factor(110) == pytest.approx(0.1) and factor(500) == factor(110)


def test_stepped_divides_at_each_milestone():
    """165 epochs, divided by 10 at 50 % and at 75 %: the rates of epochs 0, 82, 83, 123, 124."""
    factor = stepped([82, 123])
    assert [factor(e) for e in (0, 81, 82, 83, 122, 123, 124, 164)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01]
    )
    assert stepped([])(7) == 1
    assert stepped([0, 0], gamma=0.5)(0) == 0.25


def test_every_halves():
    factor = every(15)
    assert [factor(e) for e in (0, 14, 15, 29, 30, 60)] == [1, 1, 0.5, 0.5, 0.25, 0.0625]


@pytest.mark.parametrize(
    "make",
    [
        lambda: triangular(1),
        lambda: triangular(10, peak=0),
        lambda: one_cycle(10, peak=1),
        lambda: cosine(10, warmup=10),
        lambda: stepped([5, 3]),
        lambda: stepped([-1]),
        lambda: every(0),
    ],
)
def test_bad_arguments_are_named(make):
    with pytest.raises(ValueError, match=" is .* wanted"):
        make()
