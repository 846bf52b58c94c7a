"""Approximate Nearest Cosine Neighbors: planted mistakes that its tests must notice."""

KERNELS, PLANES, INDEX, FOREST, PROBING, POST = (
    f"lib/{name}.py"
    for name in (
        "methods/lsh/kernels",
        "methods/lsh/planes",
        "methods/lsh/index",
        "methods/lsh/forest",
        "methods/lsh/probing",
        "experiments/lsh",
    )
)
METHODS = "tests/test_lsh.py"
TESTS = {
    **dict.fromkeys((KERNELS, PLANES, INDEX, FOREST, PROBING), METHODS),
    POST: "tests/test_experiments_lsh.py",
}

MISTAKES = {
    "normals that lean, as posted": (
        PLANES,
        'if kind == "shifted":',
        'if kind in ("shifted", "normal"):',
        "test_a_bit_agrees_with_probability_one_minus_theta_over_pi",
    ),
    "ties with the last candidate cut off": (
        KERNELS,
        "if distances[i] <= limit:",
        "if distances[i] < limit or (distances[i] == limit and kept < 10):",
        "test_candidates_are_the_nearest_codes_and_all_that_tie",
    ),
    "the last point of a block taken for padding": (
        KERNELS,
        "block[size:whole] = 65535",
        "block[size - 1 : whole] = 65535",
        "test_candidates_are_the_nearest_codes_and_all_that_tie",
    ),
    "the centre forgotten when a query is hashed": (
        INDEX,
        "return units @ self._normals[table].T - self._offsets[table]",
        "return units @ self._normals[table].T - (self._offsets[table] if len(units) > 1 else 0)",
        "test_one_vector_and_a_batch_agree",
    ),
    "ids that do not move with their points": (
        INDEX,
        "self._ids[holes] = self._ids[movers]",
        "self._ids[holes] = holes",
        "test_after_adding_and_removing_it_answers_like_an_index_of_what_is_left",
    ),
    "margins not squared": (
        PROBING,
        "costs = [float(margins[i]) ** 2 for i in order]",
        "costs = [float(margins[i]) for i in order]",
        "test_directed_flips_are_all_codes_by_what_they_cost",
    ),
    "trees that give what lies one level higher": (
        FOREST,
        "order[starts[level] : ends[level]]",
        "order[starts[max(level - 1, 0)] : ends[max(level - 1, 0)]]",
        "test_trees_ascend_together_until_there_are_enough",
    ),
    "the query's draw before the planes'": (
        POST,
        "planes = torch.randn((config.planes, 2), generator=generator) - 0.5\n    query = torch.randn((2,), generator=generator)",
        "query = torch.randn((2,), generator=generator)\n    planes = torch.randn((config.planes, 2), generator=generator) - 0.5",
        "test_the_walk_is_the_originals_to_the_last_printed_digit",
    ),
    "recall by the one table that is looked at last": (
        POST,
        "nearest_table = np.minimum(nearest_table, apart)",
        "nearest_table = apart",
        "test_probing_recall_is_as_predicted",
    ),
}
