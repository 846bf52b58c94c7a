"""Distilling the Knowledge in a Neural Network: planted mistakes that its tests must notice."""

SOFT = "lib/methods/soft_labels.py"
ADAM = "lib/adam.py"
POST = "lib/experiments/distilling_knowledge.py"
QUANTITIES = "lib/quantities/distilling_knowledge.py"
TESTS = {
    SOFT: "tests/test_soft_labels.py",
    ADAM: "tests/test_adam.py",
    POST: "tests/test_experiments_distilling_knowledge.py",
    QUANTITIES: "tests/test_quantities_distilling_knowledge.py",
}

MISTAKES = {
    "no T² before the soft term": (
        SOFT,
        "loss = loss + soft_weight * temperature**2 * soft",
        "loss = loss + soft_weight * soft",
        "test_at_high_temperature_logits_are_matched",
    ),
    "max-norm that lengthens short rows": (
        ADAM,
        "weight.mul_((limit / norms).clamp(max=1))",
        "weight.mul_(limit / norms)",
        "test_max_norm",
    ),
    "weights cut off to bfloat16 in place of rounded": (
        ADAM,
        "u16((words[i] + u32(0x7FFF) + ((words[i] >> u32(16)) & u32(1))) >> u32(16))",
        "u16(words[i] >> u32(16))",
        "test_the_copy_rounds_to_the_nearest_and_ties_to_even",
    ),
    "the omitted digit left in the transfer set": (
        POST,
        "        keep &= split.labels != digit",
        "        keep &= split.labels != digit + 1",
        "test_an_omitted_digit_is_in_no_batch_and_in_no_choice_of_the_epoch",
    ),
    "one transform for training and validation, as posted": (
        POST,
        "        if config.jittered_validation:",
        "        if config.jitter:",
        "test_a_teacher_is_validated_on_images_as_they_are",
    ),
    "cached labels for jittered images": (
        POST,
        "fresh = teacher(inputs) if config.jitter else targets.logits",
        "fresh = targets.logits",
        "test_a_teacher_sees_the_jittered_image_that_the_student_sees",
    ),
    "the bias matched on the test set": (
        POST,
        "bias = matching_bias(unlabelled, mass)",
        "bias = matching_bias(logits, mass)",
        "test_the_matched_bias_gives_the_prior_on_images_held_out",
    ),
    "a partner that is taught by its own pupil's loss": (
        POST,
        "return distilled(logits, partner.detach())",
        "return distilled(logits, partner)",
        "test_mutual_learners_differ_and_learn_from_each_other",
    ),
    "errors not scaled to 10,000": (
        QUANTITIES,
        'return 10_000 * float(chosen.sum()) / float(record.metrics["test_images"])',
        "return float(chosen.sum())",
        "test_errors_are_scaled_to_10_000_images_and_indexed_by_seed",
    ),
}
