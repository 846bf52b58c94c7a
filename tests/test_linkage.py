"""lib.methods.linkage: scores, candidates, classifier, decisions, outcomes; slow obvious versions and other libraries agree."""

from __future__ import annotations

import itertools
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

rapidfuzz = pytest.importorskip("rapidfuzz")
pytest.importorskip("torch")

from rapidfuzz import fuzz  # noqa: E402
from rapidfuzz.distance import JaroWinkler, Levenshtein  # noqa: E402

from lib.core import InputError  # noqa: E402
from lib.methods.linkage import (  # noqa: E402
    DECISIONS,
    Candidates,
    Comparison,
    Feature,
    Linker,
    PairClassifier,
    Remembered,
    Table,
    argmax,
    assignment,
    candidates,
    decide,
    first,
    fold,
    keys,
    outcomes,
    shares,
    similarity,
    training_pairs,
)
from lib.methods.linkage.linker import scored_blocks  # noqa: E402
from lib.methods.linkage.ngrams import NgramEncoder, corrupted  # noqa: E402

NAMES = st.text("abcdeñ áz", max_size=14)
RECIPE = (Feature("name", "token_sort_ratio"), Feature("department", "token_set_ratio"))


@pytest.fixture(scope="module")
def lists():
    """Two small tables with the truth: every left profile's match is a misspelt copy, somewhere on the right."""
    rng = np.random.default_rng(0)
    words = [
        "juan",
        "maria",
        "perez",
        "lopez",
        "garcia",
        "luis",
        "cruz",
        "ana",
        "soto",
        "vega",
        "rosa",
        "lara",
        "ibarra",
        "nava",
        "meza",
        "trejo",
        "olga",
        "hugo",
    ]
    names = sorted({" ".join(rng.choice(words, 3, replace=False)) for _ in range(60)})
    order = rng.permutation(len(names))
    theirs = [f"{names[i][:4]}x{names[i][5:]}" for i in order]
    fields = ["mate", "compu", "eco", "derecho"]
    mine = [(fields[i % 4], fields[(i + 1) % 4]) if i % 3 else fields[i % 4] for i in range(len(names))]
    left = Table.of({"name": names, "department": mine})
    right = Table.of({"name": theirs, "department": [fields[i % 4] if i % 5 else None for i in order]})
    matches = np.column_stack([order, np.arange(len(order))]).astype(np.int64)
    return left, right, matches


# --- text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("María  GONZÁLEZ", "maria gonzalez"),
        ("Pérez López, Juan", "perez lopez juan"),
        ("J. de la O'Hara-Ñúñez", "j de la ohara nunez"),
        ("_ - .", ""),
        ("", ""),
    ],
)
def test_fold(text, folded):
    assert fold(text) == folded and fold(folded) == folded


def test_what_is_missing_is_similar_to_nothing():
    table = Table.of({"name": ["Ana", None, "", "—"], "field": [["a", "b", "A"], [], None, "x y"]})
    assert table["name"] == (("ana",), (), (), ())
    assert table["field"] == (("a", "b"), (), (), ("x y",))
    assert table.missing() == {"name": 3, "field": 2}
    for scorer in (
        "ratio",
        "token_sort_ratio",
        "token_set_ratio",
        "jaro_winkler",
        "levenshtein",
        "partial_ratio",
    ):
        compared = Comparison(table, table, [Feature("name", scorer)])
        (block,) = compared.block(0, 4)
        assert block.tolist() == [[100, 0, 0, 0], [0] * 4, [0] * 4, [0] * 4]
        i, j = (x.ravel() for x in np.mgrid[:4, :4])
        assert np.array_equal(compared.pairs(i, j)[:, 0], block.ravel())


@pytest.mark.parametrize(
    ("columns", "ids", "said"),
    [
        ({}, None, "without columns"),
        ({"name": ["a"], "field": []}, None, "different lengths"),
        ({"name": ["a", 3]}, None, "name, profile 1: 3 .int"),
        ({"name": [float("nan")]}, None, "nan .float"),
        ({"name": [b"a"]}, None, "bytes"),
        ({"name": [["a", None]]}, None, "several texts"),
        ({"name": ["a", "b"]}, ["x"], "1 ids for 2"),
        ({"name": ["a", "b"]}, ["x", "x"], "'x' is there twice"),
    ],
)
def test_bad_tables(columns, ids, said):
    with pytest.raises(InputError, match=said):
        Table.of(columns, ids)


def test_an_unknown_column_or_scorer():
    table = Table.of({"name": ["a"]})
    with pytest.raises(InputError, match="no column 'nam'; there are: name"):
        table["nam"]
    with pytest.raises(InputError, match="no scorer 'soundex'"):
        Feature("name", "soundex")
    with pytest.raises(InputError, match="no scorer"):
        similarity("x", ["a"], ["b"])


def test_rank_depends_on_content_alone():
    names, ids = ["b", "a", "b", "c"], ["p", "q", "r", "s"]
    rank = dict(zip(ids, Table.of({"name": names}, ids).rank, strict=True))
    for order in itertools.permutations(range(4)):
        table = Table.of({"name": [names[i] for i in order]}, [ids[i] for i in order])
        assert dict(zip(table.ids, table.rank, strict=True)) == rank
    assert [rank[i] for i in "qprs"] == [0, 1, 2, 3]


# --- scores --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "score"),
    [
        ("Juan Perez", "J. Perez", 77.8),
        ("Juan Pérez", "J. Perez", 66.7),
        ("Juan Perez", "Juan Perez Lopez", 76.9),
    ],
)
def test_scores_of_the_specification(a, b, score):
    assert fuzz.token_sort_ratio(a, b) == pytest.approx(score, abs=0.05)


def test_the_default_processor_and_our_folding():
    assert fuzz.token_sort_ratio(
        "Juan Perez", "J. Perez", processor=rapidfuzz.utils.default_process
    ) == pytest.approx(82.4, abs=0.05)
    assert similarity("token_sort_ratio", [fold("Juan Pérez")], [fold("J. Perez")])[0, 0] == 82


SLOW = {
    "ratio": fuzz.ratio,
    "token_sort_ratio": fuzz.token_sort_ratio,
    "token_set_ratio": fuzz.token_set_ratio,
    "partial_ratio": lambda a, b: fuzz.partial_ratio(*(" ".join(sorted(x.split())) for x in (a, b))),
    "joined_ratio": lambda a, b: fuzz.ratio(a.replace(" ", ""), b.replace(" ", "")),
    "jaro_winkler": lambda a, b: 100 * JaroWinkler.normalized_similarity(a, b),
    "levenshtein": lambda a, b: 100 * (1 - Levenshtein.distance(a, b) / (len(a) + len(b))),
}


@pytest.mark.parametrize("scorer", SLOW)
@given(st.lists(NAMES, min_size=1, max_size=6), st.lists(NAMES, min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_similarities_are_rapidfuzz_s(scorer, a, b):
    left, right = [fold(x) for x in a], [fold(x) for x in b]
    found = similarity(scorer, left, right)
    for i, x in enumerate(left):
        for j, y in enumerate(right):
            assert abs(found[i, j] - (SLOW[scorer](x, y) if x and y else 0)) <= 0.51


def lcs(a, b):
    """The length of the longest common subsequence, by the book."""
    row = [0] * (len(b) + 1)
    for x in a:
        before = row[:]
        for j, y in enumerate(b, 1):
            row[j] = before[j - 1] + 1 if x == y else max(row[j - 1], before[j])
    return row[-1]


@given(NAMES, NAMES)
@settings(max_examples=60, deadline=None)
def test_the_sorted_ratio_is_twice_the_common_letters_over_all(a, b):
    a, b = (" ".join(sorted(fold(x).split())) for x in (a, b))
    expected = 200 * lcs(a, b) / (len(a) + len(b)) if a and b else 0
    assert abs(similarity("token_sort_ratio", [a], [b])[0, 0] - expected) <= 0.51


@pytest.mark.parametrize("scorer", ["token_sort_ratio", "token_set_ratio", "levenshtein"])
def test_blocks_listed_pairs_and_a_slow_version_agree(lists, scorer):
    left, right, _ = lists
    features = [Feature("name", scorer), Feature("department", "token_set_ratio")]
    compared = Comparison(left, right, features)
    n, m = compared.shape
    whole = np.stack(list(compared.block(0, n)), axis=-1)
    parts = np.concatenate(
        [np.stack(list(compared.block(s, min(s + 7, n))), axis=-1) for s in range(0, n, 7)]
    )
    i, j = (x.ravel() for x in np.mgrid[:n, :m])
    assert np.array_equal(whole, parts)
    assert np.array_equal(compared.pairs(i, j), whole.reshape(-1, 2))
    kept = Remembered(compared)
    assert np.array_equal(kept.pairs(i, j), whole.reshape(-1, 2))
    assert np.array_equal(np.stack(list(kept.block(3, 9)), axis=-1), whole[3:9])
    for p, q in itertools.product(range(0, n, 9), range(0, m, 9)):
        cells = itertools.product(left["department"][p], right["department"][q])
        best = max((fuzz.token_set_ratio(a, b) for a, b in cells), default=0)
        assert abs(whole[p, q, 1] - best) <= 0.51


def test_vectors_are_one_more_feature(lists):
    left, right, _ = lists
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((len(t), 5)).astype(np.float32) for t in (left, right))
    a, b = a / np.linalg.norm(a, axis=1, keepdims=True), b / np.linalg.norm(b, axis=1, keepdims=True)
    compared = Comparison(left, right, RECIPE[:1], [(a, b)])
    *_, found = compared.block(0, 4)
    assert np.abs(found - 100 * np.clip(a[:4] @ b.T, 0, 1)).max() <= 0.51
    with pytest.raises(InputError, match="vectors of shapes"):
        Comparison(left, right, [], [(a[:-1], b)])
    with pytest.raises(InputError, match="nothing to compare"):
        Comparison(left, right, [])


# --- classifier ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("l2", [0.1, 1.0, 10.0])
def test_the_classifier_is_scikit_learn_s(l2):
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(1)
    x = rng.integers(0, 101, (400, 3)).astype(np.uint8)
    y = rng.random(400) < 1 / (1 + np.exp(-(x @ np.array([0.05, 0.02, -0.01]) - 3)))
    peer = linear.LogisticRegression(C=1 / l2, tol=1e-10, max_iter=1000).fit(x / 100, y)
    ours = PairClassifier.fit(x, y, l2=l2)
    assert ours.weights == pytest.approx(peer.coef_[0], rel=1e-4)
    assert ours.bias == pytest.approx(peer.intercept_[0], rel=1e-4)
    assert ours.probability(x) == pytest.approx(peer.predict_proba(x / 100)[:, 1], abs=1e-5)


def test_separable_pairs_have_a_solution():
    x = np.array([[0], [10], [90], [100]], dtype=np.uint8)
    found = PairClassifier.fit(x, np.array([False, False, True, True]))
    assert found.weights[0] > 0 and found.probability(x)[1] < 0.5 < found.probability(x)[2]


def test_bad_training():
    x, y = np.zeros((3, 1), dtype=np.uint8), np.array([True, True, True])
    with pytest.raises(InputError, match="3 matches among 3 pairs"):
        PairClassifier.fit(x, y)
    with pytest.raises(InputError, match="l2 is 0"):
        PairClassifier.fit(x, np.array([True, False, True]), l2=0.0)
    with pytest.raises(InputError, match="1 similarities for a classifier of 2"):
        PairClassifier(np.ones(2), 0.0).logit(x)


@given(st.integers(0, 5), st.integers(1, 20))
@settings(max_examples=20, deadline=None)
def test_no_true_match_is_among_the_negatives(seed, k):
    matches = np.array([[0, 0], [0, 1], [0, 2], [1, 3], [2, 3]])
    pairs, is_match = training_pairs(matches, 5, k, np.random.default_rng(seed))
    assert np.array_equal(pairs[is_match], matches) and (~is_match).sum() == k * len(matches)
    assert not {tuple(p) for p in pairs[~is_match]} & {tuple(p) for p in matches}
    assert sorted(pairs[~is_match, 0]) == sorted(np.repeat(matches[:, 0], k))


def test_negatives_come_from_the_pool():
    pairs, is_match = training_pairs(
        np.array([[0, 0]]), 100, 50, np.random.default_rng(0), pool=np.array([0, 7, 9])
    )
    assert set(pairs[~is_match, 1]) == {7, 9}
    with pytest.raises(InputError, match="all of them are matches"):
        training_pairs(np.array([[0, 0]]), 1, 1, np.random.default_rng(0))
    with pytest.raises(InputError, match="k = 0"):
        training_pairs(np.array([[0, 0]]), 3, 0, np.random.default_rng(0))


# --- decisions -----------------------------------------------------------------------------------------------------


def random_candidates(seed, n=12, m=15, p=0.4):
    rng = np.random.default_rng(seed)
    i, j = np.nonzero(rng.random((n, m)) < p)
    logit = np.round(rng.normal(0, 2, len(i)), 2)
    return Candidates(i, j, logit, rng.permutation(n), rng.permutation(m))


def shuffled(found, seed):
    """The same candidates with both lists in another order: and the positions back."""
    rng = np.random.default_rng(seed)
    a, b = rng.permutation(len(found.left)), rng.permutation(len(found.right))
    back_a, back_b = np.argsort(a), np.argsort(b)
    order = rng.permutation(len(found.i))
    moved = Candidates(
        a[found.i][order], b[found.j][order], found.logit[order], found.left[back_a], found.right[back_b]
    )
    return moved, a, back_b


@pytest.mark.parametrize("name", ["argmax", "assignment", "mutual_best"])
@pytest.mark.parametrize("seed", range(5))
def test_decisions_do_not_depend_on_the_order(name, seed):
    found = random_candidates(seed)
    links = decide(name, found, 0.3)
    moved, a, back_b = shuffled(found, seed)
    again = decide(name, moved, 0.3)[a]
    assert np.array_equal(links, np.where(again >= 0, back_b[again], -1))


def test_the_first_match_depends_on_the_order():
    found = Candidates(np.zeros(2, int), np.arange(2), np.array([1.0, 5.0]), np.arange(1), np.arange(2))
    turned = Candidates(found.i, found.j, found.logit[::-1].copy(), found.left, found.right[::-1].copy())
    assert first(found, 0.5).tolist() == first(turned, 0.5).tolist() == [0]
    assert argmax(found, 0.5).tolist() == [1] and argmax(turned, 0.5).tolist() == [0]


def test_ties_go_to_the_lower_rank():
    found = Candidates(np.zeros(3, int), np.arange(3), np.ones(3), np.arange(1), np.array([2, 0, 1]))
    assert argmax(found, 0.5).tolist() == [1]


@pytest.mark.parametrize("seed", range(8))
def test_dense_sparse_and_a_slow_assignment_find_the_same_sum(seed):
    found = random_candidates(seed, n=6, m=7)
    threshold = 0.4
    cut = np.log(threshold / (1 - threshold))
    table = np.zeros((6, 7))
    table[found.i, found.j] = np.maximum(found.logit - cut, 0)
    best = max(sum(table[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(7), 6))
    for dense in (True, False):
        links = assignment(found, threshold, dense=dense)
        has = links >= 0
        assert table[np.flatnonzero(has), links[has]].sum() == pytest.approx(best)


@pytest.mark.parametrize("name", ["assignment", "mutual_best"])
@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.9])
def test_no_review_profile_is_used_twice(name, threshold):
    for seed in range(5):
        links = decide(name, random_candidates(seed), threshold)
        assert len(set(links[links >= 0])) == (links >= 0).sum()


@pytest.mark.parametrize("name", DECISIONS)
def test_links_are_above_the_threshold_and_none_at_one(name):
    found = random_candidates(3)
    logit = {(i, j): z for i, j, z in zip(found.i, found.j, found.logit, strict=True)}
    links = decide(name, found, 0.6)
    assert all(logit[i, j] > np.log(0.6 / 0.4) for i, j in enumerate(links) if j >= 0)
    assert (decide(name, found, 1.0) == -1).all() and (decide(name, found, 1 - 1e-12) == -1).all()
    assert len(decide(name, found.of(found.logit > 100), 0.5)) == 12


def test_bad_decisions():
    found = random_candidates(0)
    with pytest.raises(InputError, match="no decision 'best'"):
        decide("best", found, 0.5)
    with pytest.raises(InputError, match=r"threshold is 1\.5"):
        argmax(found, 1.5)
    with pytest.raises(InputError, match="threshold is 0"):
        assignment(found, 0.0)


# --- outcomes ------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(-1, 9), min_size=1, max_size=30), st.integers(0, 3))
def test_shares_add_up(links, seed):
    rng = np.random.default_rng(seed)
    links = np.array(links, dtype=np.int64)
    left, right = np.arange(len(links)), rng.integers(0, 20, 10)
    found = outcomes(links, left, right)
    total = shares(found, links)
    assert total["correct"] + total["incorrect"] + total["missed"] == pytest.approx(1)
    assert total["has_match"] == np.mean(links >= 0)
    for i, j in enumerate(links):
        exists, same = left[i] in right, j >= 0 and right[j] == left[i]
        assert found[i] == (0 if same or (j < 0 and not exists) else 1 if j >= 0 else 2)


def test_bad_links():
    with pytest.raises(InputError, match="links from 3 to 3 for 2"):
        outcomes(np.array([3]), np.arange(1), np.arange(2))
    with pytest.raises(InputError, match="no profiles"):
        shares(np.zeros(0, np.int8), np.zeros(0, np.int64))


# --- blocks --------------------------------------------------------------------------------------------------------


def test_keys():
    assert keys("juan perez") == {"juan p", "pere j"}
    assert keys("j perez") == {"pere j"}
    assert keys("perez") == {"pere"} and keys("") == set()
    assert keys("juan perez", 4) == {"juan pere", "pere juan"}


@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_candidates_are_the_pairs_that_share_a_key(lists, chunk):
    left, right, _ = lists
    pairs = [
        p for i, j in candidates(left["name"], right["name"], chunk=chunk) for p in zip(i, j, strict=True)
    ]
    assert pairs == sorted(set(pairs))
    kept = {
        (i, j) for i, a in enumerate(left["name"]) for j, b in enumerate(right["name"]) if keys(*a) & keys(*b)
    }
    assert set(pairs) == kept


def test_large_keys_are_made_longer(lists):
    left, right, _ = lists
    few = sum(len(i) for i, _ in candidates(left["name"], right["name"], most=1))
    assert 0 < few < sum(len(i) for i, _ in candidates(left["name"], right["name"]))
    with pytest.raises(InputError, match="most is 0"):
        list(candidates(left["name"], right["name"], most=0))
    assert list(candidates([(), ()], right["name"])) == []


# --- the whole -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(lists):
    left, right, matches = lists
    return Linker(RECIPE).fit(left, right, matches[:40], rng=np.random.default_rng(0), k=2)


def test_a_linker_links(lists, fitted):
    left, right, matches = lists
    links = fitted.link(left, right)
    found, true = links[matches[:, 0]], matches[:, 1]
    assert np.mean(found >= 0) > 0.5 and np.mean((found == true)[found >= 0]) > 0.9


def test_full_comparison_and_blocks_agree_on_what_shares_a_key(lists, fitted, monkeypatch):
    left, right, _ = lists
    whole = fitted.candidates(left, right, floor=0.2)
    monkeypatch.setattr("lib.methods.linkage.linker.FULL", 10)
    listed = fitted.candidates(left, right, floor=0.2)
    together = {(i, j): z for i, j, z in zip(whole.i, whole.j, whole.logit, strict=True)}
    kept = {p: z for p, z in together.items() if keys(*left["name"][p[0]]) & keys(*right["name"][p[1]])}
    assert {(i, j): z for i, j, z in zip(listed.i, listed.j, listed.logit, strict=True)} == kept


def test_chunks_change_nothing(lists, fitted):
    left, right, _ = lists
    compared = Comparison(left, right, RECIPE)
    found = [
        [
            np.concatenate(x)
            for x in zip(*scored_blocks(compared, fitted.classifier, -2.0, chunk_pairs=c), strict=True)
        ]
        for c in (1, 100, 10**6)
    ]
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_memory_is_bounded_by_the_chunk():
    """At most about 20 bytes for each pair of a chunk, however many chunks there are."""
    rng = np.random.default_rng(0)
    left, right = (
        Table.of({"name": ["".join(map(chr, rng.integers(97, 123, 12))) for _ in range(1500)]}) for _ in "ab"
    )
    compared = Comparison(left, right, RECIPE[:1])
    classifier = PairClassifier(np.array([20.0]), -18.0)
    tracemalloc.start()
    for _ in scored_blocks(compared, classifier, 0.0, chunk_pairs=100_000):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 100_000 + 1_000_000


def test_empty_tables(fitted):
    empty, one = Table.of({"name": [], "department": []}), Table.of({"name": ["a"], "department": ["b"]})
    assert fitted.link(empty, one).tolist() == [] and fitted.link(one, empty).tolist() == [-1]


def test_saved_and_loaded(lists, fitted, tmp_path):
    left, right, _ = lists
    path = tmp_path / "linker.json"
    fitted.save(path)
    again = Linker.load(path)
    assert again.to_dict() == fitted.to_dict()
    assert np.array_equal(again.link(left, right), fitted.link(left, right))
    assert [p.name for p in tmp_path.iterdir()] == ["linker.json"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[: len(text) // 2], "cut short"),
        (lambda text: "[]", "something else"),
        (lambda text: json.dumps({"format": "forest"}), "something else"),
        (lambda text: text.replace('"version": 1', '"version": 2'), "has version 2"),
        (lambda text: text.replace('"threshold": 0.5', '"threshold": 0.4'), "damaged"),
    ],
)
def test_a_file_that_is_no_linker_is_refused(fitted, tmp_path, change, said):
    path = tmp_path / "linker.json"
    fitted.save(path)
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=said):
        Linker.load(path)


def test_a_missing_file_and_bad_linkers(lists, tmp_path):
    left, right, matches = lists
    with pytest.raises(InputError, match="cannot be read"):
        Linker.load(tmp_path / "none.json")
    with pytest.raises(InputError, match="without features"):
        Linker([])
    with pytest.raises(InputError, match="no decision"):
        Linker(RECIPE, decision="x")
    with pytest.raises(InputError, match=r"threshold is 1\.0"):
        Linker(RECIPE, threshold=1.0)
    with pytest.raises(InputError, match="learned nothing"):
        Linker(RECIPE).link(left, right)
    with pytest.raises(InputError, match="learned nothing"):
        Linker(RECIPE).to_dict()
    with pytest.raises(InputError, match="outside"):
        Linker(RECIPE).fit(left, right, matches + 1000, rng=np.random.default_rng(0))


# --- n-grams -------------------------------------------------------------------------------------------------------


def test_ngrams_learn_to_know_a_corrupted_name():
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghij"), 6)) for _ in range(40)]
    names = [" ".join(rng.choice(words, 3, replace=False)) for _ in range(100)]
    encoder = NgramEncoder.train(names, np.random.default_rng(1), buckets=512, dim=16, steps=30, batch=40)
    vectors = encoder.vectors([*names, ""])
    assert vectors.dtype == np.float32 and not vectors[-1].any()
    assert np.linalg.norm(vectors[:-1], axis=1) == pytest.approx(1, abs=1e-5)
    changed = encoder.vectors([corrupted(name, rng) for name in names])
    assert np.mean((changed @ vectors[:-1].T).argmax(1) == np.arange(100)) > 0.7
    again = NgramEncoder.train(names, np.random.default_rng(1), buckets=512, dim=16, steps=30, batch=40)
    assert np.array_equal(again.vectors(names), vectors[:-1])
    with pytest.raises(InputError, match="1 different names"):
        NgramEncoder.train(["a", "a", ""], rng)


@given(st.text("abc é", min_size=1, max_size=12), st.integers(0, 50))
@settings(max_examples=100, deadline=None)
def test_a_corrupted_name_is_never_empty(name, seed):
    folded = fold(name) or "x"
    found = corrupted(folded, np.random.default_rng(seed))
    assert found.strip() and found == " ".join(found.split())
