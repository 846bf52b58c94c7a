"""Engression: planted mistakes that its tests must notice."""

SCORES, METHOD, KERNELS, PLACEMENT, POST = (
    f"lib/{name}.py"
    for name in (
        "methods/scores",
        "methods/engression",
        "methods/plain_kernels",
        "methods/noise_placement",
        "experiments/engression",
    )
)
TESTS = {
    SCORES: "tests/test_scores.py",
    METHOD: "tests/test_engression.py",
    KERNELS: "tests/test_plain_step.py",
    PLACEMENT: "tests/test_noise_placement.py",
    POST: "tests/test_experiments_engression.py",
}

MISTAKES = {
    "the second term dropped": (
        SCORES,
        "first, second = energy_terms(y, samples, beta)\n    return first - second / 2",
        "first, second = energy_terms(y, samples, beta)\n    return first",
        "test_the_minimum_is_at_the_truth_for_every_m",
    ),
    "the sign of the second term": (
        SCORES,
        "first, second = energy_terms(y, samples, beta)\n    return first - second / 2",
        "first, second = energy_terms(y, samples, beta)\n    return first + second / 2",
        "test_the_minimum_is_at_the_truth_for_every_m",
    ),
    "pairs of a sample with itself": (
        SCORES,
        "scale = 1 / (m * (m - 1))",
        "scale = 1 / (m * m)",
        "test_value_and_gradient_are_those_of_the_loops",
    ),
    "the second term dropped from training": (
        METHOD,
        "        first, second = unchecked_terms(y, samples, self.beta)\n        return first - second / 2",
        "        first, second = unchecked_terms(y, samples, self.beta)\n        return first",
        "test_a_step_is_adam_on_the_energy_loss",
    ),
    "samples drawn in training mode": (
        METHOD,
        "    network.eval()\n    try:",
        "    try:",
        "test_drawing_leaves_batch_norm_and_mode_alone",
    ),
    "z with the sign of the other model": (
        PLACEMENT,
        "difference = first - second",
        "difference = second - first",
        "test_z_is_above_zero_where_the_second_scores_are_better",
    ),
    "post-additive data that stay pre-additive": (
        POST,
        '"pre" if config.arm == "as_posted" else config.placement',
        '"pre"',
        "test_the_placement_reaches_data_baseline_and_scatter",
    ),
    "evaluation on the training examples": (
        POST,
        "return x[:n], y[:n], x[len(x) - n_test :], y[len(y) - n_test :], names",
        "return x[:n], y[:n], x[:n_test], y[:n_test], names",
        "test_held_out_pairs_are_not_trained_on",
    ),
    "a head that is trained on in-sample predictions": (
        POST,
        "out_of_fold[fold] = _base(config, x[rest], y[rest], number)(x[fold])",
        "out_of_fold[fold] = _base(config, x, y, number)(x[fold])",
        "test_no_row_is_predicted_by_a_model_that_saw_it",
    ),
    "quantiles averaged before they are subtracted": (
        POST,
        "right = (found - truth).abs().mean(dim=1)",
        "right = (found.mean(dim=1, keepdim=True) - truth).abs().mean(dim=1)",
        "test_exact_quantiles_have_no_error",
    ),
    "the gradient through batch norm without its mean": (
        KERNELS,
        "base = middle * tilt - slope * total / f32(columns)",
        "base = middle * tilt",
        "test_its_gradients_are_autograds",
    ),
    "an octant left out of the noise": (
        KERNELS,
        "        swap = low < 0\n",
        "        swap = False\n",
        "test_a_radius_is_that_of_box_and_muller",
    ),
}
