"""Calibration error against hand-made cases and the definition."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from lib.methods.calibration import calibration_error, reliability  # noqa: E402


def test_hand_made_cases():
    confidence = torch.tensor([0.85, 0.85, 0.85, 0.85, 0.55, 0.55])
    right = torch.tensor([True, True, True, False, True, False])
    # 4 of 6 at .85 with accuracy .75, 2 of 6 at .55 with accuracy .5
    assert calibration_error(confidence, right, 10) == pytest.approx(4 / 6 * 0.1 + 2 / 6 * 0.05)
    found = reliability(confidence, right, 10)
    assert found.count.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 4, 0]
    assert found.accuracy[8] == pytest.approx(0.75) and found.accuracy[0].isnan()


def test_a_calibrated_model_has_no_error(generator):
    confidence = torch.rand(200_000, generator=generator)
    right = torch.rand(200_000, generator=generator) < confidence
    assert calibration_error(confidence, right) < 0.01
    assert calibration_error(confidence, torch.zeros(200_000, dtype=torch.bool)) == pytest.approx(
        0.5, abs=0.01
    )


def test_the_ends_belong_to_bins():
    found = reliability(torch.tensor([0.0, 1.0, 0.5]), torch.tensor([False, True, True]), 2)
    assert found.count.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("confidence", "bins"), [([], 3), ([0.5], 0), ([1.5], 3), ([-0.1], 3), ([float("nan")], 3)]
)
def test_wrong_input_is_named(confidence, bins):
    with pytest.raises(ValueError, match="wanted|outside"):
        reliability(torch.tensor(confidence), torch.ones(len(confidence), dtype=torch.bool), bins)
