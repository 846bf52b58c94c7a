"""TENT: planted mistakes that its tests must notice."""

LAYERS, ENTROPY, ADAPTED, LEARNING = (
    f"lib/methods/tent/{name}.py" for name in ("_layers", "_entropy", "_adapted", "_learning")
)
POST = "lib/experiments/tent.py"
BLUR, CORRUPT = (f"lib/data/corruptions/{name}.py" for name in ("_blur", "_corrupt"))
TESTS = {
    LAYERS: "tests/test_tent.py",
    ENTROPY: "tests/test_tent.py",
    ADAPTED: "tests/test_tent.py",
    LEARNING: "tests/test_tent.py",
    POST: "tests/test_experiments_tent.py",
    BLUR: "tests/test_corruptions.py",
    CORRUPT: "tests/test_corruptions.py",
}

MISTAKES = {
    "the original's freezing, of modules and not of parameters": (
        LAYERS,
        "    model.requires_grad_(False)\n    for parameter in found.values():\n        parameter.requires_grad_(True)",
        "    model.requires_grad_(True)\n    for module in model.modules():\n        module.requires_grad = isinstance(module, NORMALISING)",
        "test_only_what_is_chosen_can_be_trained",
    ),
    "running statistics kept": (
        LAYERS,
        "            module.track_running_stats = False\n            module.running_mean = module.running_var = module.num_batches_tracked = None",
        "            module.track_running_stats = True",
        "test_norm_does_not_depend_on_running_statistics",
    ),
    "the prior counted for the batch": (
        LAYERS,
        "share = self.prior / (self.prior + len(x))",
        "share = len(x) / (self.prior + len(x))",
        "test_a_heavy_prior_is_the_source_and_none_is_the_batch",
    ),
    "the entropy of logits": (
        ENTROPY,
        "    return -(log_p.exp() * log_p).sum(1)",
        "    return -(log_p.exp() * logits).sum(1)",
        "test_entropy_is_between_certainty_and_ignorance",
    ),
    "a reset that leaves the optimiser": (
        ADAPTED,
        '            self.optimizer.load_state_dict(copy.deepcopy(self._start["optimizer"]))',
        "            pass",
        "test_reset_goes_back_exactly",
    ),
    "the user's own model adapted": (
        ADAPTED,
        "self.model = copy.deepcopy(model).eval().requires_grad_(False)",
        "self.model = model.eval().requires_grad_(False)",
        "test_scale_and_shift_of_normalisation_layers_change_and_nothing_else",
    ),
    "EATA learning from the redundant": (
        LEARNING,
        "kept = kept & (cosine.abs() < self.redundancy)",
        "kept = kept & (cosine.abs() > self.redundancy)",
        "test_eata_learns_from_the_reliable_with_their_weights",
    ),
    "no fresh copy for a new corruption": (
        POST,
        '            if config.mode != "continual":\n                adapted.reset()',
        '            if config.mode != "continual":\n                pass',
        "test_every_corruption_begins_with_a_fresh_copy_unless_it_is_continual",
    ),
    "the mean of batch errors": (
        POST,
        "        return float(1 - self.right.double().mean())",
        "        return float(np.mean(self.batch_errors()))",
        "test_every_image_counts_once",
    ),
    "a swap where the benchmark copies": (
        BLUR,
        "x = x.flatten(2).gather(2, source.flatten(1)[:, None].expand(-1, x.shape[1], -1)).view_as(x)",
        "x = x.flatten(2).scatter(2, source.flatten(1)[:, None].expand(-1, x.shape[1], -1), x.flatten(2)).view_as(x)",
        "test_glass_blur_is_the_benchmarks_swap_of_views",
    ),
    "severities counted from 0": (
        CORRUPT,
        "parameters = PARAMETERS[corruption][severity - 1]",
        "parameters = PARAMETERS[corruption][severity % 5]",
        "test_noise_has_the_moments_that_its_parameters_say",
    ),
}
