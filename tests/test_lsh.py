"""Hyperplane hashing: what a bit says on average, codes, the index against brute force, probing, prefix trees, files."""

from __future__ import annotations

import itertools
import json
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from scipy import stats

from lib.core import InputError
from lib.methods.lsh import CosineLSH, LSHForest, kernels
from lib.methods.lsh.index import FORMAT
from lib.methods.lsh.planes import (
    PLANES,
    by_code,
    hamming,
    hyperplanes,
    packed,
    signs,
    unit,
    unpacked,
)
from lib.methods.lsh.probing import directed_flips, hamming_flips
from lib.methods.lsh.theory import agreement, agreement_2d, probing_recall


def gauss(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def clustered(n=600, d=24, seed=0):
    """Points around a few centres, all with positive entries: far from centred, as images are."""
    rng = np.random.default_rng(seed)
    centres = rng.random((12, d)) + 0.5
    return np.abs(centres[rng.integers(12, size=n)] + 0.25 * rng.standard_normal((n, d)))


def exact(X, Q, k):
    """ids (m, k) by cosine in float64, ties by the smaller id."""
    U, V = (np.asarray(A, float) / np.linalg.norm(A, axis=1, keepdims=True) for A in (X, Q))
    return np.argsort(-(V @ U.T), axis=1, kind="stable")[:, :k]


def pair(theta, d, rng):
    """Two unit vectors at an angle, in a random plane."""
    basis, _ = np.linalg.qr(rng.standard_normal((d, 2)))
    return basis[:, 0], math.cos(theta) * basis[:, 0] + math.sin(theta) * basis[:, 1]


# --- planes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["normal", "orthogonal"])
@pytest.mark.parametrize("degrees", [10, 60, 90, 150])
def test_a_bit_agrees_with_probability_one_minus_theta_over_pi(kind, degrees, rng):
    """Within 4 standard errors over sets of planes, wherever the pair lies."""
    theta, d, sets = math.radians(degrees), 12, 600
    a, b = pair(theta, d, rng)
    normals = [hyperplanes(d, d, kind, rng) for _ in range(sets)]
    means = np.array([(signs(a[None], v) == signs(b[None], v)).mean() for v in normals])
    assert abs(means.mean() - agreement(theta)) < 4 * means.std(ddof=1) / math.sqrt(sets)


def test_orthogonal_planes_spread_a_bits_agreement_less(rng):
    a, b = pair(math.pi / 3, 16, rng)

    def spread(kind):
        normals = [hyperplanes(16, 16, kind, rng) for _ in range(800)]
        return np.std([(signs(a[None], v) == signs(b[None], v)).mean() for v in normals])

    assert spread("orthogonal") < 0.98 * spread("normal")


def test_the_originals_planes_agree_more_or_less_by_where_the_pair_lies(rng):
    """Measured as the closed form says, from .60 to .73; without the shift the closed form is 2/3 everywhere."""
    theta, n = math.pi / 3, 200_000
    normals = hyperplanes(n, 2, "shifted", rng)
    found = []
    for start in np.arange(24) * math.pi / 12:
        a, b = (np.array([[math.cos(t), math.sin(t)]]) for t in (start, start + theta))
        expected = agreement_2d(float(start), theta, 0.5)
        assert abs((signs(a, normals) == signs(b, normals)).mean() - expected) < 4 * math.sqrt(0.25 / n)
        assert agreement_2d(float(start), theta) == pytest.approx(2 / 3, abs=1e-12)
        found.append(expected)
    assert min(found) == pytest.approx(0.60, abs=0.005) and max(found) == pytest.approx(0.73, abs=0.005)


def test_orthogonal_normals_are_orthonormal_in_groups(rng):
    normals = hyperplanes(25, 10, "orthogonal", rng).astype(float)
    for start in (0, 10, 20):
        group = normals[start : start + 10]
        np.testing.assert_allclose(group @ group.T, np.eye(len(group)), atol=1e-6)
    assert abs(normals[:10] @ normals[10:20].T).max() > 0.1


def test_orthogonal_normals_are_uniform_directions(rng):
    """The first coordinate of a direction in three dimensions is uniform on [−1, 1], of each of the three rows."""
    rows = np.stack([hyperplanes(3, 3, "orthogonal", rng)[:, 0] for _ in range(2000)])
    for column in rows.T:
        assert stats.kstest(column, "uniform", args=(-1, 2)).pvalue > 1e-4


@pytest.mark.parametrize("d", [4, 64, 512])
def test_independent_normals_are_nearly_orthogonal(d, rng):
    """The cosine of two has standard deviation 1/√d."""
    units = unit(hyperplanes(150, d, "normal", rng)).astype(float)
    cosines = (units @ units.T)[np.triu_indices(150, 1)]
    assert np.sqrt(np.mean(cosines**2)) * math.sqrt(d) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((0, 3, "normal"), "0 hyperplanes"),
        ((3, 0, "normal"), "0 dimensions"),
        ((3, 3, "cubic"), "there are:"),
    ],
)
def test_bad_planes(options, message, rng):
    with pytest.raises((InputError, TypeError), match=rf"{message}|kind"):
        hyperplanes(*options, rng)


# --- codes ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 200), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_codes_are_the_sides_and_popcount_counts_differences(n, bits, seed):
    sides = np.random.default_rng(seed).random((n, bits)) < 0.5
    codes = packed(sides)
    assert codes.shape == (n, -(-bits // 64))
    np.testing.assert_array_equal(unpacked(codes, bits), sides)
    np.testing.assert_array_equal(hamming(codes[0], codes), (sides != sides[0]).sum(axis=1))


def test_plane_j_is_bit_j():
    sides = np.zeros((1, 70), bool)
    sides[0, [0, 3, 64]] = True
    assert packed(sides).tolist() == [[0b1001, 1]]


@given(st.integers(2, 20), st.integers(1, 100), st.floats(1e-20, 1e20))
@settings(max_examples=40, deadline=None)
def test_codes_do_not_change_with_length_and_turn_over_with_the_sign(d, bits, scale):
    X = gauss(5, d, seed=bits)
    normals = hyperplanes(bits, d, "normal", np.random.default_rng(d))
    codes = packed(signs(unit(X), normals))
    np.testing.assert_array_equal(packed(signs(unit(scale * X), normals)), codes)
    opposite = packed(signs(unit(-X), normals))
    assert [int(hamming(a, b[None])[0]) for a, b in zip(codes, opposite, strict=True)] == [bits] * 5


def test_buckets_are_the_rows_that_share_all_sides():
    sides = np.array([[1, 0], [1, 0], [0, 0], [0, 1], [1, 0]], bool)
    assert by_code(sides) == {(True, False): [0, 1, 4], (False, False): [2], (False, True): [3]}


def test_unit_keeps_directions_of_very_short_and_very_long_vectors():
    X = np.array([[3e-300, 4e-300], [3e200, -4e200], [0.0, 1e-45]])
    np.testing.assert_allclose(unit(X), [[0.6, 0.8], [0.6, -0.8], [0, 1]], rtol=1e-6)


# --- the index against brute force ---------------------------------------------------------------------------------


@given(
    n=st.integers(1, 300),
    d=st.integers(1, 40),
    bits=st.integers(1, 140),
    tables=st.integers(1, 3),
    k=st.integers(1, 20),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_with_all_points_as_candidates_it_is_brute_force(n, d, bits, tables, k, seed):
    X, Q = gauss(n, d, seed), gauss(4, d, seed + 1)
    index = CosineLSH(bits, tables, seed=seed).fit(X)
    ids, cosines = index.query(Q, k, candidates=max(k, n))
    assert ids.shape == cosines.shape == (4, k) and ids.dtype == np.int64 and cosines.dtype == np.float32
    there = min(n, k)
    assert (ids[:, there:] == -1).all() and (cosines[:, there:] == -np.inf).all()
    U, V = unit(X).astype(float), unit(Q).astype(float)
    expected = np.sort(V @ U.T, axis=1)[:, ::-1][:, :there]
    np.testing.assert_allclose(cosines[:, :there], expected, atol=2e-6)
    np.testing.assert_allclose(np.take_along_axis(V @ U.T, ids[:, :there], 1), expected, atol=2e-6)


@pytest.mark.parametrize("bits", [1, 63, 64, 65, 300])
@pytest.mark.parametrize("n", [1, 64, 511, 513, 1100])
def test_candidates_are_the_nearest_codes_and_all_that_tie(n, bits):
    """For any number of points around the sizes of words and blocks; with few bits nearly all of them tie."""
    X, Q = gauss(n, 8), gauss(70, 8, 1)
    index = CosineLSH(bits, planes="normal", centre=False, seed=3).fit(X)
    normals = index.normals[0]
    codes, asked = packed(signs(unit(X), normals)), packed(signs(unit(Q), normals))
    for wanted in (1, 7, 40, n):
        found = index.candidates(Q, wanted)
        for code, ids in zip(asked, found, strict=True):
            distances = hamming(code, codes)
            limit = np.sort(distances)[min(wanted, n) - 1]
            np.testing.assert_array_equal(ids, np.flatnonzero(distances <= limit))


def test_more_ties_than_there_is_slack():
    """4,000 copies of one vector: every one of them is a candidate, and the smallest ids win."""
    X = np.concatenate([np.tile(gauss(1, 6), (4000, 1)), gauss(50, 6, 1)])
    index = CosineLSH(64).fit(X)
    assert len(index.candidates(X[:1], 10)[0]) >= 4000 > kernels.SLACK + 10
    assert index.query(X[0], 5, candidates=10).ids.tolist() == [0, 1, 2, 3, 4]


def test_ties_go_to_the_smaller_id():
    X = np.repeat(np.array([[1.0, 0.0], [0.0, 1.0]]), 3, axis=0)
    index = CosineLSH(8, centre=False).fit(X[::-1])
    assert index.query([1.0, 0.1], 6, candidates=6).ids.tolist() == [3, 4, 5, 0, 1, 2]


def test_one_vector_and_a_batch_agree():
    X, Q = clustered(), clustered(80, seed=1)
    index = CosineLSH(128).fit(X)
    ids, cosines = index.query(Q, 5, candidates=30)
    for row, query in enumerate(Q):
        one = index.query(query, 5, candidates=30)
        assert one.ids.shape == (5,)
        np.testing.assert_array_equal(one.ids, ids[row])
        np.testing.assert_allclose(one.cosines, cosines[row], atol=1e-6)


def test_the_same_seed_gives_the_same_index_and_another_one_another():
    X = clustered()

    def made(seed, **options):
        return CosineLSH(64, 2, seed=seed, **options).fit(X).to_bytes()

    assert made(1) == made(1) != made(2)
    assert made(1) != made(1, planes="normal") != made(1, planes="normal", centre=False)


def test_the_order_of_the_points_does_not_matter(rng):
    X, Q = clustered(), clustered(20, seed=1)
    order = rng.permutation(len(X))
    first = CosineLSH(64).fit(X)
    second = CosineLSH(64).fit(X[:1])
    second._mean, second._offsets = first._mean, first._offsets
    second.remove([0]).add(X[order], ids=order)
    np.testing.assert_array_equal(first.query(Q, 5, candidates=20).ids, second.query(Q, 5, candidates=20).ids)


def recall(found, true):
    return np.mean([np.isin(right, row).mean() for row, right in zip(found, true, strict=True)])


def test_recall_grows_with_candidates_and_tables_and_bits():
    X, Q = clustered(2000), clustered(60, seed=1)
    true = exact(X, Q, 10)

    def of(bits, tables, candidates):
        index = CosineLSH(bits, tables, seed=5).fit(X)
        return recall(index.candidates(Q, candidates), true)

    by_candidates = [of(32, 1, c) for c in (10, 50, 200, 2000)]
    by_tables = [of(32, t, 20) for t in (1, 2, 4, 8)]
    by_bits = [of(b, 1, 40) for b in (8, 64, 512)]
    assert by_candidates == sorted(by_candidates) and by_candidates[-1] == 1
    assert by_tables == sorted(by_tables) and by_tables[0] < by_tables[-1]
    # with eight bits whole buckets tie, so recall is compared at equal numbers of candidates only from 64 on
    assert by_bits[1] < by_bits[2]


def test_centring_balances_the_bits():
    X = clustered(2000)
    index = CosineLSH(64, seed=0).fit(X)
    balance = signs(unit(X), index.normals[0], index._offsets[0]).mean(axis=0)
    plain = signs(unit(X), index.normals[0]).mean(axis=0)
    assert 0.45 < np.median(balance) < 0.55 and abs(balance.mean() - 0.5) < 0.05
    assert abs(plain - 0.5).mean() > 0.3


def test_tables_partition_all_ids():
    index = CosineLSH(6, 3, seed=1).fit(clustered())
    assert len(index.buckets) == 3
    for buckets in index.buckets:
        assert sorted(itertools.chain.from_iterable(buckets.values())) == list(range(600))
        assert all(len(side) == 6 for side in buckets)


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 0}, "bits is 0"),
        ({"bits": 2.5}, "bits is 2.5"),
        ({"bits": 1 << 20}, "bits is 1048576"),
        ({"tables": 0}, "tables is 0"),
        ({"tables": True}, "tables is True"),
        ({"seed": -1}, "seed is -1"),
        ({"planes": "round"}, "no hyperplanes 'round'"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises((InputError, TypeError), match=rf"{message}|parameter"):
        CosineLSH(**options)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((0, 3)), r"shape \(0, 3\)"),
        (np.ones(3), r"shape \(3,\)"),
        (np.ones((2, 0)), r"shape \(2, 0\)"),
        (np.ones((2, 2, 2)), "is wanted"),
        ([[1.0, 2.0], [np.nan, 1.0]], "row 1 of X holds NaN"),
        ([[1.0, np.inf]], "row 0 of X holds NaN or an infinity"),
        ([[1.0, 1.0], [0.0, 0.0]], "row 1 of X is all zeros"),
        ([["a", "b"]], "no matrix of real numbers"),
        ([[1.0, 2.0], [1.0]], "no matrix of real numbers"),
        (np.ones((2, 2)) * 1j, "no matrix of real numbers"),
    ],
)
def test_bad_points(X, message):
    with pytest.raises(InputError, match=message):
        CosineLSH(8).fit(X)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (lambda i: i.query(np.ones(4)), "Q has 4 dimensions; the index has 3"),
        (lambda i: i.query([[0.0, 0.0, 0.0]]), "row 0 of Q is all zeros"),
        (lambda i: i.query([1.0, np.nan, 0.0]), "NaN"),
        (lambda i: i.query(np.ones(3), 0), "k is 0"),
        (lambda i: i.query(np.ones(3), 5, candidates=4), "candidates is 4, below k, which is 5"),
        (lambda i: i.query(np.ones(3), 5, candidates=2.5), "candidates is 2.5|parameter"),
        (lambda i: i.probe(np.ones((1, 3))), "one vector"),
        (lambda i: i.probe(np.ones(3), order="near"), "no order 'near'|parameter"),
        (lambda i: i.probe(np.ones(3), radius=-1), "radius is -1"),
        (lambda i: i.add(np.ones((1, 2))), "X has 2 dimensions"),
        (lambda i: i.add(np.ones((1, 3)), ids=[2]), "id 2 is taken"),
        (lambda i: i.add(np.ones((2, 3)), ids=[7, 7]), "given twice"),
        (lambda i: i.add(np.ones((2, 3)), ids=[7]), "1 ids are given for 2 rows"),
        (lambda i: i.add(np.ones((1, 3)), ids=[-1]), "0 or more"),
        (lambda i: i.remove([0, 9]), "no id 9"),
    ],
)
def test_bad_queries(query, message):
    index = CosineLSH(8).fit(gauss(5, 3))
    before = index.to_bytes()
    with pytest.raises((InputError, TypeError), match=message):
        query(index)
    assert index.to_bytes() == before


def test_nothing_can_be_asked_before_fit():
    for use in (
        lambda i: i.query([1.0]),
        lambda i: i.add([[1.0]]),
        lambda i: i.to_bytes(),
        lambda i: i.nbytes,
    ):
        with pytest.raises(InputError, match="fit"):
            use(CosineLSH(8))
    with pytest.raises(InputError, match="fit"):
        LSHForest().candidates([1.0], 3)


def test_more_bits_than_can_be_probed():
    with pytest.raises(InputError, match="64 bits at most"):
        CosineLSH(65).fit(gauss(5, 3)).probe(np.ones(3))


# --- adding, removing, memory, files -------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 59), max_size=40, unique=True), st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_after_adding_and_removing_it_answers_like_an_index_of_what_is_left(gone, more):
    X, extra, Q = gauss(60, 5), gauss(more, 5, 1), gauss(6, 5, 2)
    index = CosineLSH(32, 2, seed=1).fit(X)
    index.remove(gone)
    if more:
        index.add(extra, ids=np.arange(100, 100 + more))
    kept = [i for i in range(60) if i not in gone]
    names = np.array(kept + list(range(100, 100 + more)), np.int64)
    assert len(index) == len(names)
    np.testing.assert_array_equal(index.ids, names)
    everything = np.concatenate([X[kept], extra])
    k, there = 4, min(4, len(names))
    ids = index.query(Q, k, candidates=200).ids
    assert (ids[:, there:] == -1).all()
    np.testing.assert_array_equal(ids[:, :there], names[exact(everything, Q, there)] if there else ids[:, :0])
    assert sorted(itertools.chain.from_iterable(index.buckets[1].values())) == names.tolist()


def test_ids_go_on_from_the_largest():
    index = CosineLSH(8).fit(gauss(3, 3)).remove([2]).add(gauss(2, 3, 1))
    assert index.ids.tolist() == [0, 1, 2, 3]


def test_an_index_may_be_emptied_and_filled_again():
    index = CosineLSH(8).fit(gauss(3, 3)).remove([0, 1, 2])
    assert len(index) == 0 and index.query(np.ones(3), 2).ids.tolist() == [-1, -1]
    assert index.probe(np.ones(3), 2).ids.tolist() == [-1, -1]
    again = CosineLSH.from_bytes(index.to_bytes())
    assert again.add(gauss(70, 3, 1)).query(gauss(70, 3, 1)[5], 1).ids.tolist() == [5]


@pytest.mark.parametrize(("n", "bits", "tables"), [(20_000, 256, 1), (20_000, 64, 4)])
def test_memory_is_what_the_docstring_says(n, bits, tables):
    """Bytes that are kept, and the most that fit takes at a time, as tracemalloc measures them."""
    d = 32
    X = gauss(n, d).astype(np.float32)
    kept = 4 * n * d + 8 * n + 8 * n * math.ceil(bits / 64) * tables + 4 * bits * (d + 1) * tables
    tracemalloc.start()
    try:
        index = CosineLSH(bits, tables).fit(X)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert index.nbytes == pytest.approx(kept, rel=0.01)
    assert held == pytest.approx(kept, rel=0.01)
    assert peak < kept + 4096 * (8 * 2 * d + 16 * bits) + 2**20
    index.add(gauss(100, d, 1))
    assert index.nbytes < 1.55 * kept


def test_saved_and_loaded_it_is_the_same(tmp_path):
    X, Q = clustered(), clustered(9, seed=1)
    index = CosineLSH(100, 2, planes="normal", centre=False, seed=4).fit(X).remove([5]).add(X[:3])
    index.save(tmp_path / "an.index")
    again = CosineLSH.load(tmp_path / "an.index")
    assert repr(again) == repr(index) and again.to_bytes() == index.to_bytes()
    for one, two in zip(index.query(Q), again.query(Q), strict=True):
        np.testing.assert_array_equal(one, two)
    again.add(X[:2]).remove([0])
    assert [path.name for path in tmp_path.iterdir()] == ["an.index"]


def test_foreign_and_damaged_files_are_refused_in_words(tmp_path):
    from safetensors.numpy import save

    content = CosineLSH(8).fit(gauss(70, 3)).to_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    head = json.loads(header["__metadata__"]["index"])
    arrays = {"units": np.ones((2, 3), np.float32)}

    def refused(data, message):
        (tmp_path / "file").write_bytes(data)
        with pytest.raises(InputError, match=message) as caught:
            CosineLSH.load(tmp_path / "file")
        assert str(tmp_path / "file") in str(caught.value)

    refused(b"", "not whole safetensors")
    refused(b"PK\x03\x04 a zip file, say", "not whole safetensors")
    refused(content[:100], "not whole safetensors")
    refused(content[:-1], "truncated or damaged")
    refused(save(arrays), f"no index of {FORMAT}")
    for change, message in (
        ({"version": 2}, "version 2; this code reads version 1"),
        ({"format": "another"}, "safetensors, but no index"),
        ({}, "damaged: ids is missing"),
        ({"settings": []}, "settings cannot be read"),
        ({"settings": head["settings"] | {"bits": 0}}, "settings cannot be read"),
    ):
        refused(save(arrays, {"index": json.dumps(head | change)}), message)
    with pytest.raises(InputError, match="cannot read"):
        CosineLSH.load(tmp_path / "nothing")
    with pytest.raises(InputError, match="cannot write"):
        CosineLSH(8).fit(gauss(5, 3)).save(tmp_path / "no folder" / "file")


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_damage_is_refused_or_harmless(data):
    """A byte changed anywhere: an error in words, or an index that answers."""
    content = bytearray(CosineLSH(8).fit(gauss(20, 3)).to_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    try:
        index = CosineLSH.from_bytes(bytes(content))
    except InputError:
        return
    assert index.query(np.ones(index.dimension), 3).ids.shape == (3,)


# --- buckets -------------------------------------------------------------------------------------------------------


def test_rings_of_flips_are_all_codes_by_distance():
    rings = list(hamming_flips(6, 6))
    assert [len(ring) for ring in rings] == [math.comb(6, r) for r in range(7)]
    assert all(mask.bit_count() == r for r, ring in enumerate(rings) for mask in ring)
    assert sorted(itertools.chain.from_iterable(rings)) == list(range(64))


@given(st.lists(st.floats(0, 10), min_size=1, max_size=8), st.integers(0, 8))
@settings(max_examples=60, deadline=None)
def test_directed_flips_are_all_codes_by_what_they_cost(margins, radius):
    """The slow obvious version: every subset, sorted by the sum of its squared margins."""
    weights = np.array(margins) ** 2
    masks = list(directed_flips(np.array(margins), radius))
    chosen = [m for m in range(1 << len(margins)) if m.bit_count() <= radius]
    assert sorted(masks) == chosen
    costs = [sum(w for i, w in enumerate(weights) if m >> i & 1) for m in masks]
    assert costs == pytest.approx(sorted(costs), abs=1e-9)


@pytest.mark.parametrize("order", ["hamming", "directed"])
@pytest.mark.parametrize("tables", [1, 3])
def test_probing_every_bucket_is_brute_force(order, tables):
    X, Q = gauss(80, 6), gauss(5, 6, 1)
    index = CosineLSH(7, tables, seed=2).fit(X)
    for query, expected in zip(Q, exact(X, Q, 80), strict=True):
        found = index.probe(query, 80, order=order, radius=7)
        np.testing.assert_array_equal(found.ids, expected)
        assert found.candidates == 80 and found.buckets <= tables * 2**7


def test_probing_stops_when_there_are_enough():
    """After the ring, in which the k-th point is met; the points met are those within that radius."""
    X, q = gauss(300, 6), gauss(1, 6, 1)[0]
    index = CosineLSH(10, seed=2).fit(X)
    codes = packed(signs(unit(X), index.normals[0], index._offsets[0]))
    asked = packed(signs(unit(q[None]), index.normals[0], index._offsets[0]))[0]
    distances = hamming(asked, codes)
    for k in (1, 5, 40):
        radius = int(np.sort(distances)[k - 1])
        found = index.probe(q, k)
        assert found.candidates == (distances <= radius).sum()
        assert found.buckets == sum(math.comb(10, r) for r in range(radius + 1))


def test_limits_of_probing():
    X, q = gauss(300, 6), gauss(1, 6, 1)[0]
    index = CosineLSH(10, 2, seed=2).fit(X)
    assert index.probe(q, 300, radius=0).buckets == 2
    assert index.probe(q, 300, order="directed", most_buckets=7).buckets == 14
    near = index.probe(q, 300, radius=10, least_cosine=0.5)
    there = near.ids >= 0
    assert there.any() and not there.all() and (near.cosines[there] >= 0.5).all()
    lonely = CosineLSH(20, seed=0).fit(gauss(1, 6))
    assert lonely.probe(-gauss(1, 6)[0], 3, radius=1).ids.tolist() == [-1, -1, -1]


def test_probing_after_a_removal_sees_what_is_left():
    X = gauss(60, 6)
    index = CosineLSH(5, seed=2).fit(X)
    q = gauss(1, 6, 1)[0]
    first = index.probe(q, 60, radius=5).ids
    index.remove(first[:3])
    assert index.probe(q, 57, radius=5).ids.tolist() == first[3:].tolist()
    assert index.add(X[first[:1]], ids=first[:1]).probe(q, 1, radius=5).candidates <= 58
    assert index.probe(q, 58, radius=5).ids[0] == first[0]


def test_directed_probing_needs_fewer_candidates():
    X, Q = clustered(3000), clustered(30, seed=1)
    true = exact(X, Q, 5)
    index = CosineLSH(11, seed=1).fit(X)
    rates = {}
    for order in ("hamming", "directed"):
        found = [index.probe(q, 60, order=order) for q in Q]
        hits = np.mean([np.isin(right, f.ids).mean() for f, right in zip(found, true, strict=True)])
        rates[order] = hits / np.mean([f.candidates for f in found])
    assert rates["directed"] > rates["hamming"]


# --- recall of probing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "tables", "radius"), [(8, 1, 1), (16, 1, 3), (16, 3, 2)])
def test_recall_of_probing_is_predicted(bits, tables, radius, rng):
    """Mean over 250 plane sets, within 4 standard errors of 1 − (1 − F(r; b, θ/π))^L."""
    X, Q = unit(clustered(400)), unit(clustered(20, seed=1))
    true = exact(X, Q, 5)
    cosines = np.einsum("qkd,qd->qk", X[true].astype(float), Q.astype(float))
    expected = probing_recall(np.arccos(cosines.clip(-1, 1)).ravel(), radius, bits, tables).mean()
    measured = []
    for _ in range(250):
        inside = np.zeros(true.shape, bool)
        for _ in range(tables):
            normals = hyperplanes(bits, X.shape[1], "normal", rng)
            sides, asked = signs(X, normals), signs(Q, normals)
            inside |= (sides[true] != asked[:, None]).sum(axis=2) <= radius
        measured.append(inside.mean())
    assert abs(np.mean(measured) - expected) < 4 * np.std(measured, ddof=1) / math.sqrt(250)


def test_prediction_at_its_ends():
    theta = np.array([0.0, 0.4, math.pi])
    assert probing_recall(theta, 8, 8).tolist() == [1, 1, 1]
    np.testing.assert_allclose(probing_recall(theta, 0, 8), [1, agreement(0.4) ** 8, 0])
    one = probing_recall(theta, 2, 8)
    np.testing.assert_allclose(probing_recall(theta, 2, 8, tables=3), 1 - (1 - one) ** 3)


# --- prefix trees --------------------------------------------------------------------------------------------------


def shared(a, b):
    """Bits that two codes have in common from the front."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), len(a))


@pytest.mark.parametrize("depth", [4, 20, 64])
def test_a_label_is_the_shortest_prefix_that_nobody_shares(depth):
    X = clustered(120, 6)
    forest = LSHForest(2, depth, seed=1).fit(X)
    for tree in range(2):
        sides = signs(unit(X), forest._normals[tree], forest._offsets[tree])
        leaves = forest.labels(tree)
        assert sorted(itertools.chain.from_iterable(leaves.values())) == list(range(120))
        for label, ids in leaves.items():
            assert all(tuple(sides[i][: len(label)].tolist()) == label for i in ids)
            longest = max(shared(sides[ids[0]], sides[j]) for j in range(120) if j not in ids)
            assert len(label) == (longest + 1 if len(ids) == 1 else depth)
        # labels of several lengths: this is no table
        assert depth == 4 or len({len(label) for label in leaves}) > 3


def test_trees_ascend_together_until_there_are_enough():
    """The slow obvious version: at each level, whoever shares that many bits in a tree that reaches so deep."""
    X, Q = clustered(150, 6), clustered(8, 6, seed=1)
    forest = LSHForest(3, 16, seed=1).fit(X)
    for q in Q:
        prefixes, reached = [], []
        for tree in range(3):
            sides = signs(unit(X), forest._normals[tree], forest._offsets[tree])
            asked = signs(unit(q[None]), forest._normals[tree], forest._offsets[tree])[0]
            common = np.array([shared(row, asked) for row in sides])
            prefixes.append(common)
            reached.append(next((x for x in range(17) if (common >= x).sum() <= 1), 16))
        for wanted in (1, 10, 60, 150, 999):
            ids, level = forest.candidates(q, wanted)
            at = {
                x: set().union(
                    *(np.flatnonzero(p >= x) for p, deep in zip(prefixes, reached, strict=True) if deep >= x)
                )
                for x in range(max(reached) + 1)
            }
            expected = max((x for x, found in at.items() if len(found) >= wanted), default=0)
            assert level == expected and ids.tolist() == sorted(at[expected])


def test_a_forest_with_everything_wanted_is_brute_force():
    X, Q = clustered(200), clustered(4, seed=1)
    forest = LSHForest(4, 12).fit(X)
    for q, expected in zip(Q, exact(X, Q, 6), strict=True):
        assert forest.query(q, 6, candidates=200)[0].tolist() == expected.tolist()


def test_recall_grows_with_trees():
    X, Q = clustered(2000), clustered(40, seed=1)
    true = exact(X, Q, 10)
    found = []
    for trees in (1, 4, 16):
        forest = LSHForest(trees, 24, seed=2).fit(X)
        found.append(
            np.mean(
                [np.isin(right, forest.candidates(q, 60)[0]).mean() for q, right in zip(Q, true, strict=True)]
            )
        )
    assert found == sorted(found) and found[0] < found[-1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LSHForest(0), "0 trees"),
        (lambda: LSHForest(1, 65), "depth 65"),
        (lambda: LSHForest().fit(np.zeros((0, 2))), "no rows"),
        (lambda: LSHForest().fit(gauss(4, 3)).query(np.ones(2)), "one vector"),
        (lambda: LSHForest().fit(gauss(4, 3)).query(np.ones(3), 0), "k is 0"),
        (lambda: LSHForest().fit(gauss(4, 3)).candidates(np.ones(3), 0), "candidates is 0"),
        (lambda: LSHForest().fit(gauss(4, 3)).labels(10), "no tree 10"),
    ],
)
def test_bad_forests(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_every_kind_of_planes_serves():
    X = clustered(300)
    for kind in PLANES:
        assert CosineLSH(32, planes=kind).fit(X).query(X[7], 1, candidates=300).ids.tolist() == [7]
