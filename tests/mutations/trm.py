"""Tiny Recursive Models: planted mistakes that its tests must notice."""

RECURSION, SUPERVISION, BREADTH, ALIGNMENT = (
    f"lib/methods/trm/{name}.py" for name in ("recursion", "supervision", "breadth", "alignment")
)
FUSED = "lib/methods/trm/fused.py"
DRAWN, RUNS = "lib/experiments/trm/puzzles.py", "lib/experiments/trm/training.py"
SETS, MOVES, KERNELS = (f"lib/data/sudoku/{name}.py" for name in ("sets", "symmetries", "kernels"))
TESTS = {
    RECURSION: "tests/test_trm.py",
    SUPERVISION: "tests/test_trm.py",
    BREADTH: "tests/test_trm.py",
    ALIGNMENT: "tests/test_trm.py",
    FUSED: "tests/test_trm_fused.py",
    DRAWN: "tests/test_experiments_trm.py",
    RUNS: "tests/test_experiments_trm.py",
    SETS: "tests/test_data_sudoku.py",
    MOVES: "tests/test_data_sudoku.py",
    KERNELS: "tests/test_data_sudoku.py",
}

MISTAKES = {
    "gradients through the warm-up": (
        RECURSION,
        "with torch.no_grad():",
        "with torch.enable_grad():",
        "test_gradients_come_from_the_last_recursion_alone",
    ),
    "the halting target by cell": (
        SUPERVISION,
        "(logits.argmax(-1) + 1 == solutions).all(1).float()",
        "(logits.argmax(-1) + 1 == solutions).float().mean(1)",
        "test_the_halting_target_is_the_whole_puzzle",
    ),
    "states that outlive their puzzle": (
        SUPERVISION,
        "        return Slots(**pick)",
        '        return Slots(**{**pick, "y": old.y, "z": old.z})',
        "test_done_slots_are_replaced_and_the_others_left_alone",
    ),
    "uniforms cut off at 1, no longer centred": (
        SUPERVISION,
        "    return mean - half_width, mean + half_width",
        "    return max(1, mean - half_width - 1), mean + half_width",
        "test_limits_are_centred",
    ),
    "ties between puzzles without regard to confidence": (
        BREADTH,
        "_take(grids, torch.where(votes == votes.amax(0), best, -torch.inf).argmax(0))",
        "_take(grids, votes.argmax(0))",
        "test_votes_are_what_counting_gives",
    ),
    "alignment with the puzzle's own states": (
        ALIGNMENT,
        "settle((first[0].roll(1, 0), first[1].roll(1, 0)))",
        "settle(first)",
        "test_alignment_of_a_contraction_and_of_the_identity",
    ),
    "test puzzles in training": (
        DRAWN,
        'puzzles, solutions = sets.parts["train"]',
        'puzzles, solutions = sets.parts["test"]',
        "test_training_draws_from_training_puzzles_alone",
    ),
    "validation on test puzzles": (
        RUNS,
        'puzzles = sets.parts["val"][0][: config.val_puzzles]',
        'puzzles = sets.parts["test"][0][: config.val_puzzles]',
        "test_validation_sees_validation_puzzles_alone",
    ),
    "equivalent puzzles in several parts": (
        SETS,
        "owners = _dealt(names, list(sizes.values()), rng)",
        "owners = _dealt(np.arange(len(names)), list(sizes.values()), rng)",
        "test_no_test_puzzle_is_equivalent_to_a_training_puzzle",
    ),
    "oblong boxes transposed": (
        MOVES,
        "if shape.square:",
        "if shape.n > 1:",
        "test_only_square_boxes_are_transposed",
    ),
    "a wrong guess that ends the search": (
        KERNELS,
        "        elif not left:\n            depth -= 1",
        "        else:\n            depth -= 1",
        "test_a_known_puzzle_and_none_one_or_several_solutions",
    ),
    "the gradient through the norm without what its scale depends on": (
        FUSED,
        "scale * (_number(from_above[i]) - _number(result[i]) * along)",
        "scale * _number(from_above[i])",
        "test_gradients_are_those_of_the_formulas",
    ),
    "bfloat16 cut off instead of rounded": (
        FUSED,
        "i32(word + i32(i32(0x7FFF) + odd))",
        "word",
        "test_words_are_rounded_to_even",
    ),
}
