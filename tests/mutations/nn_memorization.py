"""Memorization: planted mistakes that its tests must notice."""

LASS, NOISE = "lib/methods/lass.py", "lib/methods/memorization.py"
POST, QUANTITIES = "lib/experiments/nn_memorization.py", "lib/quantities/nn_memorization.py"
TESTS = {
    LASS: "tests/test_lass.py",
    NOISE: "tests/test_memorization.py",
    POST: "tests/test_experiments_nn_memorization.py",
    QUANTITIES: "tests/test_quantities_nn_memorization.py",
}

MISTAKES = {
    "the original's RandX, N(0, 1) for the data's moments": (
        NOISE,
        "return noise * variance.sqrt().to(images).view(shape) + mean.to(images).view(shape)",
        "return noise",
        "test_noise_has_the_moments_of_the_data",
    ),
    "no box around the example": (
        LASS,
        "moving = torch.minimum(torch.maximum(moving, centre - r), centre + r)",
        "moving = moving + 0 * centre",
        "test_what_is_reported_lies_in_the_box_and_has_another_answer",
    ),
    "a search in whatever mode the network is": (
        LASS,
        "    with evaluating(network):",
        "    if True:",
        "test_the_search_is_made_in_evaluation_mode",
    ),
    "the noise that was trained on, for fresh noise": (
        POST,
        "both = random_inputs(_repeated(real, len(real) + tested), generator)\n        real, own = both[:count], both[count:]",
        "both = random_inputs(_repeated(real, len(real) + tested), generator)\n        real, own = both[:count], both[:tested]",
        "test_fresh_noise_is_not_the_noise_that_was_trained_on",
    ),
    "the first images of a sorted set": (
        POST,
        'chosen = torch.randperm(len(labels), generator=derived_generator(seed, "subset", part))[:count]',
        "chosen = torch.arange(count)",
        "test_a_subset_is_drawn_from_all_classes_and_by_the_seed",
    ),
    "the hardest of an array that was sorted before": (
        POST,
        'order = state["test"][1].argsort(stable=True)',
        'order = state["test"][1].sort().values.argsort(stable=True)',
        "test_the_hardest_are_test_images_in_the_order_of_their_counts",
    ),
    "one order for all passes": (
        POST,
        'order = torch.randperm(len(self.labels), generator=derived_generator(self.seed, "pass", number))',
        'order = torch.randperm(len(self.labels), generator=derived_generator(self.seed, "pass"))',
        "test_every_pass_has_an_order_of_its_own_and_each_example_once",
    ),
    "what is taken from generalising, added": (
        QUANTITIES,
        'return lost["randy"] - lost["real"]',
        'return lost["randy"] + lost["real"]',
        "test_a_regulariser_is_judged_by_what_it_takes_from_each",
    ),
}
