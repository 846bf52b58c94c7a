"""Label Refinery: planted mistakes that its tests must notice."""

POST = "lib/experiments/label_refinery.py"
QUANTITIES = "lib/quantities/label_refinery.py"
TESTS = {
    POST: "tests/test_experiments_label_refinery.py",
    QUANTITIES: "tests/test_quantities_label_refinery.py",
}

MISTAKES = {
    "a teacher in training mode, as in the reference code": (
        POST,
        '    if config.teacher_mode == "training":',
        "    if True:",
        "test_a_teacher_stays_as_it_is_unless_it_is_in_training_mode",
    ),
    "frozen labels of the whole image for every copy": (
        POST,
        "rows = torch.cat([rows, _in_parts(say, images, scaling)], dim=1)",
        "rows = torch.cat([rows, _in_parts(say, images[: len(sets.train)], scaling).repeat(3, 1)], dim=1)",
        "test_frozen_copies_are_three_views_each_with_a_label_of_its_own",
    ),
    "three times the updates for frozen copies": (
        POST,
        '    passes = 1 + COPIES if config.all_copies and config.crops != "none" else 1',
        '    passes = 1 + COPIES if config.all_copies or config.arm == "static_frozen" else 1',
        "test_equal_updates_unless_as_posted",
    ),
    "another rule than the stopping that was asked for": (
        POST,
        "PostedStopping if config.posted_stopping",
        "PostedStopping if not config.posted_stopping",
        "test_the_original_rule_keeps_the_last_weights_and_stops_without_ten_points",
    ),
    "the best weights are the best by ten points": (
        POST,
        "        super().__init__(None)\n",
        "        super().__init__(5, min_delta=0.1)\n",
        "test_the_best_weights_are_those_of_the_highest_value_whatever_stops",
    ),
    "neighbours of the same class": (
        POST,
        "        while (same := labels[other] == labels).any():",
        "        while (same := labels[other] != labels[other]).any():",
        "test_composed_images_have_neighbours_of_other_classes_in_the_share_asked_for",
    ),
    "weights of their own for each arm": (
        POST,
        'generator = derived_generator(config.seed, "weights", config.generation)',
        'generator = derived_generator(config.seed, "weights", config.generation, config.arm)',
        "test_arms_see_the_same_crops_and_begin_with_the_same_weights",
    ),
    "digits that are mirrored": (
        POST,
        'flips = () if config.data in ("svhn", "mnist", "digits") else (flip,)',
        "flips = (flip,)",
        "test_svhn_is_an_experiment_like_the_others",
    ),
    "crops compared with themselves": (
        POST,
        "other = others[:, max(0, -rise)",
        "other = crops[:, max(0, -rise)",
        "test_crops_that_overlap_are_found_and_others_are_not",
    ),
    "a gain at other generations": (
        QUANTITIES,
        'at = {"experiment": experiment, "generation": 2, **fields}',
        'at = {"experiment": experiment, "generation": 1, **fields}',
        "test_gains_are_paired_by_seed_at_the_second_network",
    ),
}
