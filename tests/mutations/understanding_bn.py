"""Batch normalisation: planted mistakes that its tests must notice."""

NORM, PROBES = "lib/methods/batch_norm.py", "lib/methods/probes.py"
POST, QUANTITIES = "lib/experiments/understanding_bn.py", "lib/quantities/understanding_bn.py"
TESTS = {
    NORM: "tests/test_batch_norm.py",
    PROBES: "tests/test_probes.py",
    POST: "tests/test_experiments_understanding_bn.py",
    QUANTITIES: "tests/test_quantities_understanding_bn.py",
}

MISTAKES = {
    "the original's schedule, handed the loss for the epoch": (
        POST,
        '    if arm == "rate_kept":\n        return',
        "    if True:\n        return",
        "test_the_rate_falls_after_half_and_three_quarters_of_the_epochs",
    ),
    "the original's tentative steps without their momentum": (
        POST,
        "decayed if momentum is None else decayed + MOMENTUM * momentum",
        "decayed",
        "test_the_originals_tentative_steps_are_the_optimisers",
    ),
    "channel 0 for all channels": (
        POST,
        '"variance": np.array([float(one.variance.mean()) for one in found])',
        '"variance": np.array([float(one.variance[0]) for one in found])',
        "test_activations_are_of_all_channels_of_every_convolution",
    ),
    "moments of the wrong set, as the original has them": (
        POST,
        "for part in (data.train, data.test)]",
        "for part in (data.train, data.train)]",
        "test_training_and_test_images_have_moments_of_their_own",
    ),
    "the first images of a sorted set": (
        POST,
        "chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:count]",
        "chosen = torch.arange(count)",
        "test_a_subset_is_drawn_from_all_classes_and_by_the_seed",
    ),
    "useful again beyond the wall": (
        POST,
        "count = len(sizes) if lowers.all() else int(np.argmin(lowers))",
        "count = int(np.flatnonzero(lowers)[-1]) + 1",
        "test_the_largest_useful_step_comes_before_the_wall",
    ),
    "the dead counted for trained": (
        POST,
        "return bool(alive) and last < first",
        "return last < first",
        "test_a_network_that_died_does_not_train",
    ),
    "a gradient of the logits that is not of the mean loss": (
        PROBES,
        "nn.functional.one_hot(labels, logits.shape[1])) / len(logits)",
        "nn.functional.one_hot(labels, logits.shape[1]))",
        "test_the_logits_gradient",
    ),
    "the biased variance kept": (
        NORM,
        "self.running_var.lerp_(variance * m / (m - 1), self.momentum)",
        "self.running_var.lerp_(variance, self.momentum)",
        "test_biased_for_the_output_unbiased_for_the_running_variance",
    ),
    "with over without": (
        QUANTITIES,
        "gradient(post, name, bn=False, **fields) / gradient(post, name, bn=True, **fields)",
        "gradient(post, name, bn=True, **fields) / gradient(post, name, bn=False, **fields)",
        "test_ratios_are_logarithms_of_without_over_with",
    ),
}
