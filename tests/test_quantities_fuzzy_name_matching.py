"""The post's quantities on records whose answers are known, and the original's numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from lib.claims import judge, load
from lib.core import InputError, Provenance, Record, canonical, sha256
from lib.quantities import fuzzy_name_matching as q
from lib.reading import Post, open_post
from lib.runs import published

SLUG = "fuzzy-name-matching"
ROOT = Path(__file__).resolve().parents[1]
N = 200


def record(
    experiment: str, config: dict[str, Any], metrics: dict[str, Any], cpu: float = 1.0, **more: Any
) -> Record:
    config = {"data": "names", "n": 1000, "noise": 0.15, "labels": 100} | config
    place = Provenance(
        {"names": "f00d"}, {}, "0123456789", True, {}, "cpu", 1, 1.0, cpu, 2048.0, "2026-11-20"
    )
    key = sha256(canonical([experiment, config]))
    return Record(
        SLUG, experiment, key, config, "done", metrics, more.get("series", {}), more.get("arrays", {}), place
    )


def outcomes(wrong: int) -> np.ndarray:
    return np.array([2] * wrong + [0] * (N - wrong), dtype=np.int8)


def matching(seed: int, model: str, right: dict[str, float], wrong: int) -> Record:
    metrics = {"owner_found": 0.9, "one_found": 0.8}
    right = dict.fromkeys((*q.DECISIONS, "tuned"), 0.5) | right
    for decision, value in right.items():
        metrics |= {f"{decision}_correct": value, f"{decision}_incorrect": (1 - value) / 4}
        metrics |= {f"{decision}_missed": 3 * (1 - value) / 4, f"{decision}_has_match": 0.7}
    arrays = {decision: outcomes(wrong) for decision in right} | {"sweep": np.zeros((4, len(q.SWEEP), 4))}
    return record("matching", {"seed": seed, "model": model, "steps": 0}, metrics, arrays=arrays)


def records() -> list[Record]:
    out = []
    for seed in range(3):
        shift = seed / 1000
        out.append(matching(seed, "recipe", {"argmax": 0.9 + shift, "assignment": 0.92 + shift}, 20))
        out.append(matching(seed, "levenshtein", {"first": 0.8, "tuned": 0.85}, 60))
        cv, test = np.zeros((2, 2, 5, 4)), np.zeros((2, 2, 4))
        test[..., 0], test[..., 3] = [[0.8, 0.9], [0.91, 0.7]], [[0.9, 0.7], [0.6, 0.4]]
        config = {"seed": seed, "arm": "corrected", "ks": [1, 10], "thresholds": [0.5, 0.75], "folds": 5}
        metrics = {"cv_correct": 0.95, "best_correct": 0.9 + shift, "guess_correct": 0.9}
        out.append(record("grid", config, metrics, arrays={"cv": cv, "test": test}))
        out.append(record("grid", config | {"arm": "pairs_split"}, metrics | {"best_correct": 0.7}))
        for arm, cpu in (("generate", 2.0), ("blocks", 3.0), ("link", 6.0)):
            size = {"left": 1000, "right": 1000, "pairs": 10_000, "kept": 0.99}
            out.append(record("cost", {"seed": seed, "arm": arm}, size, cpu=cpu))
        for arm, fields, share in (("assignment", "two", 0.9), ("splink", "two", 0.8)):
            if arm == "assignment" or seed < 2:
                out.append(
                    record("side_by_side", {"seed": seed, "arm": arm, "fields": fields}, {"correct": share})
                )
    return out


@pytest.fixture
def post(tmp_path: Path) -> Post:
    return opened(tmp_path, records())


def opened(root: Path, found: list[Record]) -> Post:
    (root / "posts" / SLUG).mkdir(parents=True)
    (root / "_quarto.yml").write_text("project: {type: website}\n")
    for experiment in {r.experiment for r in found}:
        own = [r for r in found if r.experiment == experiment]
        published.write(root, SLUG, "laptop", experiment, own, of=len(own))
    return open_post(SLUG, root=root)


# --- the original's numbers ----------------------------------------------------------------------------------------


def test_the_original_s_table_adds_up() -> None:
    table = q.original().set_index("metric")
    assert table.loc[["correct", "incorrect", "missed"]].sum().tolist() == pytest.approx([1, 1])
    assert (table * q.N_ORIGINAL).sub((table * q.N_ORIGINAL).round()).abs().max().max() < 1e-9


def test_forty_five_against_forty_one_is_not_enough() -> None:
    assert q.original_p() == 0.125
    new, old = q.original_interval("new"), q.original_interval("previous")
    assert new.low < old.high and (new.mean, old.mean) == (0.9, 0.82)


@pytest.mark.parametrize(("a", "b"), [(0, 0), (4, 0), (0, 6), (3, 9), (20, 20)])
def test_mcnemar_is_the_sign_test(a: int, b: int) -> None:
    tail = stats.binom.cdf(min(a, b), a + b, 0.5)
    assert q.mcnemar(a, b) == pytest.approx(min(1, 2 * tail)) and q.mcnemar(a, b) == q.mcnemar(b, a)


def test_mcnemar_wants_counts() -> None:
    with pytest.raises(InputError, match="-1 and 2"):
        q.mcnemar(-1, 2)


# --- quantities ----------------------------------------------------------------------------------------------------


def test_gains_are_paired_by_seed(post: Post) -> None:
    found = q.gain(post, model="recipe", decision="argmax", over="levenshtein", over_decision="first")
    assert found.tolist() == pytest.approx([0.1, 0.101, 0.102])
    assert q.wrong_kept(post, model="recipe", decision="assignment").tolist() == pytest.approx(
        [0.8, 0.079 / 0.099, 0.078 / 0.098]
    )


def test_power_grows_with_the_profiles(post: Post) -> None:
    """The recipe alone is right for 40 of 200: few profiles seldom show six such, all of them always do."""
    options = {
        "model": "recipe",
        "decision": "argmax",
        "over": "levenshtein",
        "over_decision": "first",
        "draws": 300,
    }
    few, more, all_of_them = (q.decided(post, n=n, **options) for n in (10, 50, 0))
    assert (few < 0.1).all() and (few < more).all() and (all_of_them == 1).all()
    # six or more of 50, drawn without replacement from 40 among 200, and none the other way
    assert more.mean() == pytest.approx(stats.hypergeom(N, 40, 50).sf(5), abs=0.05)


def test_a_seed_that_one_side_lacks_has_no_number(tmp_path: Path) -> None:
    found = [r for r in records() if not (r.config.get("model") == "levenshtein" and r.config["seed"] == 1)]
    post = opened(tmp_path, found)
    options = {"model": "recipe", "decision": "argmax", "over": "levenshtein", "over_decision": "first"}
    assert np.isnan(q.gain(post, **options)[1]) and np.isnan(q.decided(post, n=0, **options)[1])


def test_settings_of_the_grid(post: Post) -> None:
    assert q.between(post, threshold=0.75, k=1, other_threshold=0.5, other_k=10).tolist() == pytest.approx(
        [-0.01] * 3
    )
    assert q.between(post, threshold=0.9, k=1, other_threshold=0.5, other_k=10).isna().all()
    assert q.knob(post).tolist() == pytest.approx([-1] * 3)
    assert q.optimism(post, arm="pairs_split").tolist() == pytest.approx([0.25] * 3)
    assert q.leak_cost(post, arm="pairs_split").tolist() == pytest.approx([0.2, 0.201, 0.202])


def test_costs_are_differences(post: Post) -> None:
    assert q.seconds(post, n=1000).tolist() == [4, 4, 4]
    assert q.speed(post, n=1000).tolist() == pytest.approx([0.25] * 3)
    assert q.peak_gib(post, n=1000).tolist() == [2, 2, 2]
    assert q.blocked(post, n=1000, metric="share").tolist() == pytest.approx([0.01] * 3)
    assert q.blocked(post, n=1000, metric="kept").tolist() == [0.99] * 3
    assert len(q.seconds(post, n=10_000)) == 0 and len(q.speed(post, n=10_000)) == 0


def test_peers_are_compared_over_the_seeds_that_both_have(post: Post) -> None:
    found = q.beside_gain(post, arm="assignment", over="splink", fields="two", n=1000)
    assert found.index.tolist() == [0, 1] and found.tolist() == pytest.approx([0.1, 0.1])


def test_every_claim_can_be_judged(post: Post) -> None:
    """Against few records: nothing raises, and a reason is given."""
    for claim in load(ROOT, SLUG):
        found = judge(claim, post)
        assert found.verdict and found.reason, claim.id


def test_generated_examples_differ() -> None:
    table = q.examples(6)
    assert len(table) == 6 and (table["Name (school)"] != table["Name (review)"]).all()


def test_quantities_need_no_torch_and_no_rapidfuzz() -> None:
    code = "import sys; import lib.quantities.fuzzy_name_matching; print({'torch', 'rapidfuzz', 'numba'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
