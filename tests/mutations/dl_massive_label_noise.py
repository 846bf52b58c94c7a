"""Deep Learning is Robust to Massive Label Noise: planted mistakes that its tests must notice."""

NOISE, TRAINING, POST, NETS = (
    f"lib/{name}.py"
    for name in ("methods/label_noise", "training", "experiments/dl_massive_label_noise", "nets")
)
TESTS = {
    NOISE: "tests/test_label_noise.py",
    TRAINING: "tests/test_training.py",
    POST: "tests/test_experiments_dl_massive_label_noise.py",
    NETS: "tests/test_nets.py",
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
}
