"""The post's experiments: the original's demo to the last digit, exact predictions, searches that find, the profiles."""

from __future__ import annotations

import dataclasses
import importlib
import math
from functools import partial

import numpy as np
import pytest

import tests.room

torch = pytest.importorskip("torch")
pytest.importorskip("numba")

from lib.core import PROFILES, Config, InputError  # noqa: E402
from lib.data.images import tiny  # noqa: E402
from lib.experiments import lsh as post  # noqa: E402
from lib.experiments.lsh import (  # noqa: E402
    ARMS,
    BUILDERS,
    WAYS,
    Arms,
    Bits,
    Orientation,
    Probing,
    Reach,
    Size,
    Spread,
    Tradeoff,
    Walk,
)
from lib.methods.lsh.planes import unit  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
Room = partial(tests.room.Room, post.run)


@pytest.fixture(scope="module")
def data():
    """400 images of 8 × 8 pixels, ten kinds; 60 queries."""
    return tiny(n_train=400, n_test=60)


AT = {"data": "tiny", "k": 5, "seed": 0}


# --- the original's demo -------------------------------------------------------------------------------------------


def test_the_walk_is_the_originals_to_the_last_printed_digit():
    """Its tensors as printed: regions, buckets, the query (−0.9890, 0.9580) and its bucket, with torch's seed 42."""
    found = post.run(Walk(points=5, planes=2, seed=42), Room())
    assert found.arrays["regions"].astype(bool).tolist() == [
        [True, False],
        [True, False],
        [False, False],
        [False, True],
        [True, False],
    ]
    assert [f"{value:.4f}" for value in found.arrays["query"]] == ["-0.9890", "0.9580"]
    assert found.arrays["query_region"].astype(bool).tolist() == [True, False]
    assert found.arrays["bucket"].tolist() == [0, 1, 4]
    assert found.metrics["buckets"] == 3


def test_the_walks_bucket_misses_the_true_neighbour():
    found = post.run(Walk(points=5, planes=2, seed=42), Room())
    cosines = found.arrays["cosines"]
    assert [f"{cosines[i]:.2f}" for i in (0, 1, 4)] == ["-0.42", "-0.02", "-0.27"]
    assert found.metrics["best"] == 2 and found.metrics["best_flips"] == 1
    assert found.metrics["best_cosine"] == pytest.approx(0.595, abs=5e-4)


def test_the_walk_draws_as_the_originals_code_does():
    """`torch.randn((5, 2))`, `torch.randn((2, 2)) - 0.5`, and later `torch.randn((2,))`, after `torch.manual_seed(42)`."""
    state = torch.get_rng_state()
    torch.manual_seed(42)
    X, planes, q = torch.randn((5, 2)), torch.randn((2, 2)) - 0.5, torch.randn((2,))
    torch.set_rng_state(state)
    found = post.run(Walk(points=5, planes=2, seed=42), Room()).arrays
    for name, drawn in (("points", X), ("planes", planes), ("query", q)):
        np.testing.assert_array_equal(found[name], drawn.numpy())


# --- planes --------------------------------------------------------------------------------------------------------


def test_orientation_is_measured_as_computed():
    n = 40_000
    leaning = post.run(Orientation(shift=0.5, degrees=60.0, steps=24, sets=n, seed=1), Room())
    error = 4.5 * math.sqrt(0.25 / n)
    assert abs(leaning.arrays["measured"] - leaning.arrays["exact"]).max() < error
    assert leaning.metrics["exact_least"] == pytest.approx(0.602, abs=0.002)
    assert leaning.metrics["exact_most"] == pytest.approx(0.729, abs=0.002)
    straight = post.run(Orientation(shift=0.0, degrees=60.0, steps=24, sets=n, seed=1), Room())
    assert straight.arrays["exact"] == pytest.approx(2 / 3)
    assert straight.metrics["range"] < 2 * error < leaning.metrics["range"]


def test_the_cosine_of_two_normals_spreads_as_one_over_root_d():
    found = post.run(Spread(dimensions=(2, 30, 400), normals=120, seed=0), Room())
    np.testing.assert_allclose(found.arrays["sd"] * np.sqrt([2, 30, 400]), 1, atol=0.06)


def test_bits_agree_for_symmetric_planes_and_not_for_the_originals(data):
    """The original's planes say of nearly every pair of images, at whatever angle, that it belongs together."""
    biases = {
        arm: post.run(Bits(arm=arm, pairs=400, planes=1500, data="tiny", seed=0), Room(data)).metrics["bias"]
        for arm in ARMS
    }
    assert max(abs(bias) for arm, bias in biases.items() if arm not in ("as_posted", "rand")) < 0.02
    assert biases["as_posted"] > 0.05


def test_probing_recall_is_as_predicted(data):
    """The mean over plane sets, within 4 standard errors, at every radius."""
    config = Probing(bits=12, tables=2, radius=4, sets=250, queries=20, others=50, **AT)
    found = post.run(config, Room(data)).arrays
    error = 4 * found["sd"] / math.sqrt(config.sets) + 1e-3
    assert (abs(found["recall"] - found["predicted"]) < error).all()
    for name in ("recall", "predicted", "share"):
        assert (np.diff(found[name]) >= 0).all()
    assert (found["share"] < found["recall"]).all()


def test_more_tables_and_a_larger_radius_find_more(data):
    one, four = (
        post.run(Probing(bits=16, tables=t, radius=3, sets=40, queries=20, others=50, **AT), Room(data))
        for t in (1, 4)
    )
    assert (four.arrays["recall"] > one.arrays["recall"]).all()


@pytest.mark.parametrize("arm", ARMS)
def test_arms(data, arm):
    config = Arms(arm=arm, bits=64, bucket_bits=8, candidates=30, queries=40, **AT)
    found = post.run(config, Room(data))
    assert 0 < found.metrics["recall"] <= 1 and found.metrics["mean_candidates"] >= 30
    assert 0 < found.metrics["largest_bucket"] <= 1 and 1 <= found.metrics["buckets"] <= 2**8
    if "centred" in arm:
        assert found.metrics["imbalance"] < 0.1


def test_the_planes_as_posted_hardly_cut_images_and_centred_ones_halve_them(data):
    def of(arm):
        config = Arms(arm=arm, bits=64, bucket_bits=8, candidates=30, queries=40, **AT)
        return post.run(config, Room(data)).metrics

    posted, right = of("as_posted"), of("orthogonal centred")
    assert posted["imbalance"] > 0.4 > 0.1 > right["imbalance"]
    assert posted["largest_bucket"] > 3 * right["largest_bucket"]
    assert posted["entropy_bits"] < right["entropy_bits"] / 2


# --- recall against time -------------------------------------------------------------------------------------------


def tradeoff(methods, **changes):
    fields = {"methods": methods, "n": 300, "queries": 20, "singles": 4, "repeats": 1} | AT
    return Tradeoff(**(fields | changes))


def test_every_setting_has_a_recall_and_a_speed(data):
    room = Room(data)
    found = post.run(tradeoff(("lsh", "torch")), room)
    for method in ("lsh", "torch"):
        labels = found.metrics[f"{method}: settings"].split(" · ")
        for name in ("recall", "batch_cpu_qps", "batch_wall_qps", "single_cpu_qps", "single_wall_qps"):
            values = found.arrays[f"{method}: {name}"]
            assert len(values) == len(labels) and (values > 0).all()
    assert found.arrays["torch: recall"].tolist() == [1.0]
    # with as many candidates as points it is brute force
    assert found.arrays["lsh: recall"].max() == 1.0 and room.told


def test_a_peer_that_is_not_installed_is_skipped_with_the_reason(data, monkeypatch):
    monkeypatch.setitem(BUILDERS, "hnswlib", ("no_such_package", BUILDERS["hnswlib"][1]))
    found = post.run(tradeoff(("torch", "hnswlib")), Room(data))
    assert found.metrics["hnswlib: skipped"] == "no_such_package is not installed"
    assert "hnswlib: recall" not in found.arrays


@pytest.mark.parametrize("method", [name for name in BUILDERS if name not in ("lsh", "torch", "pynndescent")])
def test_peers_find_what_is_there(data, method):
    """The best setting of each finds nearly everything, whichever way its ids and its metric are meant."""
    package, build = BUILDERS[method]
    pytest.importorskip(package)
    points, queries = unit(data.train.images.flatten(1).numpy()), unit(data.test.images.flatten(1).numpy())
    true, _ = post.nearest(points, queries, 5)
    best = max(post.recall(search(queries), true) for search in build(points, 5, 0).values())
    assert best > (0.2 if method == "faiss lsh" else 0.95)


@pytest.mark.long
def test_pynndescent_finds_what_is_there(data):
    pytest.importorskip("pynndescent")
    points, queries = unit(data.train.images.flatten(1).numpy()), unit(data.test.images.flatten(1).numpy())
    true, _ = post.nearest(points, queries, 5)
    found = BUILDERS["pynndescent"][1](points, 5, 0)
    assert max(post.recall(search(queries), true) for search in found.values()) > 0.9


def test_times_are_the_smallest_of_the_rounds_in_turn():
    calls = []
    searches = {name: lambda Q, name=name: calls.append((name, len(Q))) or Q for name in "ab"}
    times = post._timed(searches, np.zeros((10, 2)), 3)
    assert calls == [("a", 2), ("b", 2), *[("a", 10), ("b", 10)] * 3]
    assert all(cpu >= 0 and wall >= 0 for cpu, wall in times.values())


def test_recall_counts_the_true_ones_among_those_found():
    assert post.recall(np.array([[1, 2, 9], [4, 5, 6]]), np.array([[1, 2], [7, 4]])) == 0.75


def test_size_is_paired_and_counts_bytes(data):
    config = Size(n=900, bits=64, candidates=50, queries=20, singles=3, repeats=1, **AT)
    found = post.run(config, Room(data)).metrics
    assert found["recall"] > 0.5 and found["lsh_batch_s"] > 0 < found["brute_single_s"]
    assert found["index_mb"] * 2**20 == pytest.approx(900 * (4 * 64 + 8) + 960 * 8 + 4 * 64 * 66, rel=1e-3)


# --- the data ------------------------------------------------------------------------------------------------------


def test_images_are_moved_by_a_pixel_beyond_the_sets_own(data):
    images = data.train.images.numpy()
    found = post.vectors(Room(data), "tiny", 5 * 400, 10)
    assert found.points.shape == (2000, images[0].size) and found.queries.shape == (10, images[0].size)
    blocks = found.points.reshape(5, 400, *images.shape[2:])
    np.testing.assert_array_equal(blocks[0], images[:, 0])
    for block, (down, right) in zip(blocks[1:], [(0, 1), (1, 0), (0, -1), (-1, 0)], strict=True):
        rolled = np.roll(images[:, 0], (down, right), (1, 2))
        inner = (slice(None), slice(1, -1), slice(1, -1))
        np.testing.assert_array_equal(block[inner], rolled[inner])
        assert (block[:, 0] == 0).all() if down == 1 else True
    with pytest.raises(InputError, match="n is 2001; tiny has 400 images"):
        post.vectors(Room(data), "tiny", 2001)
    with pytest.raises(InputError, match="tiny has 60 test images; 61 queries"):
        post.vectors(Room(data), "tiny", None, 61)


# --- candidates needed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_reach_grows_to_everything(data, way):
    config = Reach(way=way, bits=10, tables=3, wanted=(10, 60, 400), queries=15, **AT)
    found = post.run(config, Room(data)).arrays
    assert (found["candidates"] >= [10, 60, 400]).all() and found["candidates"][-1] == 400
    assert (np.diff(found["recall"]) >= 0).all() and found["recall"][-1] == 1


def test_own_buckets_are_those_of_codes_cut_to_one_length(data):
    """For one table: the points whose first bits are the query's, as many bits as leave enough points on average."""
    config = Reach(way="buckets", bits=9, tables=1, wanted=(20, 150), queries=6, **AT)
    found = post.run(config, Room(data)).arrays
    vectors = post.vectors(Room(data), "tiny", queries=6)
    sides = _sides(vectors.points, vectors.points)
    asked = _sides(vectors.points, vectors.queries)
    means = [
        np.mean([(sides[:, :length] == row[:length]).all(axis=1).sum() for row in asked])
        for length in range(10)
    ]
    for wanted, count in zip((20, 150), found["candidates"], strict=True):
        assert count == min(mean for mean in means if mean >= wanted)


def _sides(points, asked):
    index = post.CosineLSH(9, seed=0).fit(points)
    return (unit(asked) @ index.normals[0].T - index.normals[0] @ unit(points).mean(axis=0)) >= 0


@pytest.mark.parametrize("way", ["rings", "directed"])
def test_the_order_of_points_is_the_order_of_buckets(data, way):
    """What probing bucket by bucket meets, for one query: the same candidates at the same recall."""
    config = Reach(way=way, bits=9, tables=1, wanted=(40,), queries=6, **AT)
    found = post.run(config, Room(data)).arrays
    vectors = post.vectors(Room(data), "tiny", queries=6)
    index = post.CosineLSH(9, seed=0).fit(vectors.points)
    order = "directed" if way == "directed" else "hamming"
    met = [index.probe(query, 40, order=order, radius=9) for query in vectors.queries]
    assert found["candidates"][0] == np.mean([one.candidates for one in met])


# --- profiles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_the_profiles(profile):
    configs = post.configs(profile)
    assert len({config.key for config in configs}) == len(configs)
    assert {type(config).__name__ for config in configs} == {
        *("Walk", "Orientation", "Spread", "Bits", "Probing", "Arms", "Tradeoff", "Size", "Reach")
    }
    seeds = {getattr(config, "seed", None) for config in configs if not isinstance(config, Walk)}
    assert seeds == set(range(2 if profile == "smoke" else 5))
    if profile == "smoke":
        # no peer is needed
        assert {m for c in configs if isinstance(c, Tradeoff) for m in c.methods} == {"lsh", "torch"}
    if profile == "laptop":
        probing = [config for config in configs if isinstance(config, Probing) and config.bits == 16]
        assert sum(config.sets for config in probing if config.tables == 1) >= 200
        assert {c.n for c in configs if isinstance(c, Size)} >= {1000, 60_000, 240_000}
        assert {m for c in configs if isinstance(c, Tradeoff) for m in c.methods} == set(BUILDERS)


def test_a_seed_decides_a_run(data):
    config = Probing(bits=8, tables=1, radius=2, sets=5, queries=10, others=50, **AT)
    first, again = (post.run(config, Room(data)).arrays for _ in range(2))
    other = post.run(dataclasses.replace(config, seed=1), Room(data)).arrays
    np.testing.assert_array_equal(first["recall"], again["recall"])
    assert not np.array_equal(first["recall"], other["recall"])


def test_another_posts_config_is_refused():
    class Other(Config, post="other", experiment="other"):
        seed: int

    with pytest.raises(InputError, match="Other is not a config of lsh"):
        post.run(Other(seed=0), Room())


def test_importing_the_experiments_imports_no_peer():
    assert importlib.import_module("lib.experiments.lsh") is post
    assert not any(hasattr(post, name) for name in ("faiss", "hnswlib", "annoy", "pynndescent"))
