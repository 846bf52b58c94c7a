"""Fuzzy matching professors to their reviews: planted mistakes that its tests must notice."""

POST = "lib/experiments/fuzzy_name_matching.py"
CLASSIFIER, COMPARE, DECISIONS, LINKER = (
    f"lib/methods/linkage/{name}.py" for name in ("classifier", "compare", "decisions", "linker")
)
TESTS = {
    POST: "tests/test_experiments_fuzzy_name_matching.py",
    CLASSIFIER: "tests/test_linkage.py",
    COMPARE: "tests/test_linkage.py",
    DECISIONS: "tests/test_linkage.py",
    LINKER: "tests/test_linkage.py",
}

MISTAKES = {
    "true matches drawn as negatives": (
        CLASSIFIER,
        "bad = np.isin(left * n_right + right, forbidden)",
        "bad = np.zeros(len(left), dtype=bool)",
        "test_no_true_match_is_among_the_negatives",
    ),
    "negatives from the held-out professors": (
        POST,
        'if config.arm == "corrected" and held is not None:',
        'if config.arm == "nobody" and held is not None:',
        "test_no_professor_is_in_both_parts_of_a_fold",
    ),
    "training on the whole of the labelled professors": (
        POST,
        "rest = np.setdiff1d(found.labelled, fold)\n                seen, kind",
        "rest = found.labelled\n                seen, kind",
        "test_no_professor_is_in_both_parts_of_a_fold",
    ),
    "the threshold tuned on the test set": (
        POST,
        "return float(options[best[len(best) // 2]])",
        "return float(options[int(np.argmax(_at(options, found, pairs, found.test)[:, 0]))])",
        "test_the_test_set_decides_nothing",
    ),
    "the first above the threshold for the best": (
        DECISIONS,
        "order = np.lexsort((found.right[found.j], -found.logit, found.i))",
        "order = np.lexsort((found.j, found.i))",
        "test_decisions_do_not_depend_on_the_order",
    ),
    "ties decided by the place in the list": (
        DECISIONS,
        "order = np.lexsort((found.right[found.j], -found.logit, found.i))",
        "order = np.lexsort((found.j, -found.logit, found.i))",
        "test_ties_go_to_the_lower_rank",
    ),
    "links below the threshold in the dense assignment": (
        DECISIONS,
        "kept = matrix[rows, columns] > 0  # a weight of 0 is 'no match'",
        "kept = rows >= 0",
        "test_links_are_above_the_threshold_and_none_at_one",
    ),
    "'no match' for nothing in the sparse assignment": (
        DECISIONS,
        "values = np.concatenate([weight + 1, np.ones(n)])",
        "values = np.concatenate([weight, np.ones(n)])",
        "test_dense_sparse_and_a_slow_assignment_find_the_same_sum",
    ),
    "two empty names taken for the same": (
        COMPARE,
        "found[_lengths(a) == 0] = 0\n    found[:, _lengths(b) == 0] = 0",
        "pass",
        "test_what_is_missing_is_similar_to_nothing",
    ),
    "words not sorted": (
        COMPARE,
        '"token_sort_ratio": Scorer(fuzz.ratio, _words_sorted)',
        '"token_sort_ratio": Scorer(fuzz.ratio)',
        "test_similarities_are_rapidfuzz_s",
    ),
    "rows of later chunks counted from the chunk's beginning": (
        LINKER,
        "yield i[kept] + start, j[kept], logit[kept]",
        "yield i[kept], j[kept], logit[kept]",
        "test_chunks_change_nothing",
    ),
}
