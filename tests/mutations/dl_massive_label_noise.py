"""Deep Learning is Robust to Massive Label Noise: planted mistakes that its tests must notice."""

NOISE, TRAINING, POST, NETS, QUANTITIES, CEILING = (
    f"lib/{name}.py"
    for name in (
        "methods/label_noise",
        "training",
        "experiments/dl_massive_label_noise",
        "nets",
        "quantities/dl_massive_label_noise",
        "methods/noise_ceiling",
    )
)
TESTS = {
    NOISE: "tests/test_label_noise.py",
    TRAINING: "tests/test_training.py",
    POST: "tests/test_experiments_dl_massive_label_noise.py",
    NETS: "tests/test_nets.py",
    QUANTITIES: "tests/test_quantities_dl_massive_label_noise.py",
    CEILING: "tests/test_label_noise.py",
}

MISTAKES = {
    "noise from shifted labels": (
        POST,
        'generator = derived_generator(config.seed, "noise", *purpose)',
        "return _shifted(config, sets, *purpose)",
        "test_noise_is_uniform_and_what_is_trained_on",
    ),
    "the label table drawn again at each reading": (
        NOISE,
        "self.table[pairs].long()",
        "torch.where(pairs % self.copies == 0, self.table[pairs].long(), torch.randint(10, pairs.shape))",
        "test_labels_are_the_same_whenever_they_are_read",
    ),
    "the own label left out of the noise": (
        POST,
        "return uniform_labels(len(sets.labels), config.alpha, sets.n_classes, generator).to(sets.labels.device)",
        "return (sets.labels[:, None] + 1 + uniform_labels(len(sets.labels), config.alpha, 9, generator)).to(torch.uint8) % 10",
        "test_noise_is_uniform_and_what_is_trained_on",
    ),
    "the live state kept for the best": (
        TRAINING,
        "self.best = {name: tensor.detach().clone() for name, tensor in snapshot().items()}",
        "self.best = dict(snapshot())",
        "test_the_best_weights_are_kept_unchanged_by_further_training",
    ),
    "validation images trained on": (
        POST,
        "images=train.images[:kept],\n        labels=train.labels[:kept],",
        "images=train.images,\n        labels=train.labels,",
        "test_the_validation_set_teaches_nothing",
    ),
    "validation on the test set": (
        POST,
        "val_images=train.images[kept:],\n        val_labels=train.labels[kept:],",
        "val_images=test.images,\n        val_labels=test.labels,",
        "test_the_test_set_decides_nothing",
    ),
    "the rate chosen on the test set": (
        POST,
        'choose_on: str = "best_val_accuracy"',
        'choose_on: str = "test_accuracy"',
        "test_the_test_set_decides_nothing",
    ),
    "weights that depend on what ran before": (
        POST,
        'stack.initialise(derived_generator(config.seed, "weights"))',
        "stack.initialise()",
        "test_every_run_begins_with_fresh_weights",
    ),
    "a stop at the first value that is no better": (
        TRAINING,
        "len(self.values) - 1 - self.best_index >= self.patience",
        "len(self.values) - 1 - self.best_index >= 1",
        "test_stopping_on_scripted_values",
    ),
    "the sum of losses for their mean": (
        NETS,
        "delta.mul_(1 / batch)",
        "delta.mul_(1)",
        "test_gradients_are_autograds",
    ),
    "clean pairs that are not all first": (
        NOISE,
        "clean = shuffled(n) * copies",
        "clean = shuffled(n) * copies + (alpha > 0)",
        "test_an_order_goes_through_every_pair_once",
    ),
    "adjacent copies in the order of the images": (
        NOISE,
        "(shuffled(n)[:, None] * copies",
        "(torch.arange(n, device=device)[:, None] * copies",
        "test_parts_of_an_order_are_shuffled_by_the_generator",
    ),
    "an order that another seed's noise comes with": (
        POST,
        "pairs = NoisyLabels(sets.labels, _uniform(config, sets))\n    drawn",
        "pairs = NoisyLabels(sets.labels, _uniform(config, sets, len(config.order)))\n    drawn",
        "test_orders_share_weights_and_noise_and_report_the_last_weights",
    ),
    "noisy validation labels that are clean": (
        POST,
        'targets["noisy_"] = label_shares(sets.val_labels, noise, sets.n_classes)',
        'targets["noisy_"] = own',
        "test_what_a_rule_could_watch_is_recorded_at_every_evaluation",
    ),
    "batches for the same number of steps, not of examples": (
        POST,
        "steps = config.examples // config.batch_size",
        "steps = config.examples // 32",
        "test_rates_see_the_same_number_of_examples_at_each_batch_size",
    ),
    "the average of a diverged network chosen": (
        POST,
        "lost = np.array(found.diverged)",
        "lost = np.zeros(len(config.lrs), dtype=bool)",
        "test_a_diverged_rate_is_not_chosen",
    ),
    "passes of the first alpha for all": (
        POST,
        "pairs = len(context.data(config.data).train.labels) * (config.alpha + 1)",
        "pairs = len(context.data(config.data).train.labels) * (config.through[0] + 1)",
        "test_passes_are_steps_of_the_runs_own_alpha",
    ),
    "a rule that returns the weights where it stops": (
        QUANTITIES,
        "return place, max(best, 0)",
        "return place, place",
        "test_a_patient_rule_is_the_training_loops",
    ),
    "a fixed budget learnt from the seed itself": (
        QUANTITIES,
        "for other, curve in curves.items() if other != seed and",
        "for other, curve in curves.items() if other == seed and",
        "test_a_fixed_budget_is_learnt_from_the_other_seeds",
    ),
    "noisy accuracy without the lucky agreements": (
        CEILING,
        "return (accuracy + alpha / n_classes) / (1 + alpha)",
        "return accuracy / (1 + alpha)",
        "test_noisy_accuracy_is_what_a_learner_of_known_accuracy_gets",
    ),
}
