"""Quantities of the post on label refinery on made-up records: what is paired with what, and what stays missing."""

from __future__ import annotations

import pytest

from lib.core import InputError, Provenance, Record
from lib.quantities import label_refinery as q
from lib.reading import Runs

PROVENANCE = Provenance({}, {}, "c" * 40, True, {}, "cpu", 1, 1.0, 1.0, 1.0, "2026-01-01T00:00:00+00:00")
BASE = {"previous": None, "data": "tiny", "crops": "strong", "overlap": None}


def link(
    seed, accuracy, experiment="refine", arm="labels", generation=2, curve=None, divergence=None, **config
):
    metrics = {"test_accuracy": accuracy, "nll": 1.0, "ece": 0.1, "train_accuracy": accuracy + 0.1}
    if divergence is not None:
        metrics["label_divergence"] = divergence
    fields = BASE | {"seed": seed, "arm": arm, "generation": generation} | config
    series = {} if curve is None else {"val_accuracy_by_epoch": curve}
    key = f"{experiment}{fields}"
    return Record("p", experiment, key, fields, "done", metrics, series, {}, PROVENANCE)


class Post:
    """Records by experiment."""

    def __init__(self, *records):
        self.records = records

    def runs(self, experiment):
        return Runs("p", experiment, "laptop", [r for r in self.records if r.experiment == experiment])


def test_gains_are_paired_by_seed_at_the_second_network():
    post = Post(
        *(link(seed, 0.5 + seed / 100) for seed in (1, 0)),
        *(link(seed, 0.6 + seed / 50, arm="dynamic_soft") for seed in (0, 1)),
        link(0, 0.9, generation=1),
    )
    assert q.gain(post, arm="dynamic_soft", crops="strong").tolist() == pytest.approx([0.1, 0.11])
    assert len(q.gain(post, arm="dynamic_soft", crops="mild")) == 0
    assert q.accuracy(post, experiment="refine", arm="labels", generation=1).tolist() == [0.9]
    with pytest.raises(InputError, match="several runs"):
        q.accuracy(post, experiment="refine", arm="labels")


def test_growth_is_the_gain_at_the_highest_overlap_minus_that_at_the_lowest():
    accuracies = {0.0: (0.8, 0.81), 0.5: (0.7, 0.9), 1.0: (0.6, 0.65)}
    post = Post(
        *(
            link(0, pair[place], "overlap", arm, overlap=level, divergence=0.3 - 0.1 * place)
            for level, pair in accuracies.items()
            for place, arm in enumerate(("labels", "dynamic_soft"))
        )
    )
    assert q.overlap_growth(post, arm="dynamic_soft").tolist() == pytest.approx([0.04])
    assert q.divergence_fall(post, arm="dynamic_soft").tolist() == pytest.approx([0.1])
    with pytest.raises(InputError, match="one level"):
        q.overlap_growth(Post(link(0, 0.5, "overlap", overlap=1.0)), arm="dynamic_soft")


@pytest.fixture
def chains():
    def chain(fixed, accuracies, data="tiny"):
        return [
            link(
                seed,
                accuracy,
                "mistakes",
                generation=number,
                fixed=fixed,
                data=data,
                curve=[0.2, 0.5, 0.1 * number],
            )
            for seed in (0, 1)
            for number, accuracy in enumerate(accuracies, 1)
        ]

    return Post(
        *chain("nothing", (0.7, 0.6, 0.5)), *chain("labels", (0.7, 0.7, 0.65)), *chain("copies", (0.4, 0.3))
    )


def test_the_decline_goes_from_the_first_network_to_the_last(chains):
    assert q.decline(chains, fixed="nothing").tolist() == pytest.approx([0.2, 0.2])
    assert q.mended(chains, fixed="labels").tolist() == pytest.approx([0.15, 0.15])
    assert q.decline(chains, fixed="stem").empty
    assert q.unkept(chains, generation=3).tolist() == pytest.approx([0.2, 0.2])


def test_what_crops_share_is_beyond_what_crops_far_apart_do():
    config = {"data": "digits", "seed": 0}
    found = Record(
        "p", "houses", "k", config, "done", {"next": 0.5, "further": 0.1, "known": 0.4}, {}, {}, PROVENANCE
    )
    assert q.shared(Post(found), data="digits").tolist() == pytest.approx([0.4])
    assert q.shared(Post(found), data="digits", name="known").tolist() == [0.4]
    assert q.shared(Post(found), data="svhn-crops").empty


def test_variants_are_compared_with_hard_labels_of_their_own_where_there_are_any():
    def pair(changed, hard, soft):
        found = [link(0, soft, "variants", "dynamic_soft", changed=changed)]
        return found if hard is None else [*found, link(0, hard, "variants", changed=changed)]

    plain = [link(0, 0.5), link(0, 0.6, arm="dynamic_soft"), link(0, 0.9, generation=1)]
    post = Post(*plain, *pair("noise", 0.3, 0.45), *pair("teacher", None, 0.7))
    for changed, gain in {"nothing": 0.1, "noise": 0.15, "teacher": 0.2}.items():
        assert q.variant_gain(post, changed=changed).tolist() == pytest.approx([gain])


def test_the_originals_table_has_its_arithmetic():
    table = q.original().set_index(["data", "augment", "generation"])["mean"]
    assert table["CIFAR-10", 1, 1] - table["CIFAR-10", 1, 3] == pytest.approx(0.097)
    assert table["SVHN", 1, 3] - table["SVHN", 1, 1] == pytest.approx(0.005)
    assert all(list(kept) == sorted(kept, reverse=True) for kept in q.BY_VALIDATION.values())


def test_tables_are_texts(chains):
    beside = q.beside(chains)
    ours = "Ours: CIFAR-10, augment = "
    assert beside[f"{ours}1"].tolist() == ["70.0 ± 0.0 (2)", "60.0 ± 0.0 (2)", "50.0 ± 0.0 (2)"]
    assert beside[f"{ours}0"].tolist() == ["40.0 ± 0.0 (2)", "30.0 ± 0.0 (2)", "–"]
    assert set(beside["Ours: SVHN, augment = 1"]) == {"–"} and beside.iloc[0, 3] == "68.7 ± 4.5"
    post = Post(*(link(seed, 0.5 + seed / 10) for seed in range(3)))
    table = q.calibrated(post.runs("refine"), "strong")
    assert table.iloc[0].tolist() == [
        "hard labels", "R2", "60.0 ± 10.0 (3)", "1.000 ± 0.000 (3)", "10.0 ± 0.0 (3)", "10.0 ± 0.0 (3)"
    ]  # fmt: skip
    found = q.spread(q.long(post.runs("refine")), "test_accuracy", ["arm"])
    assert found.loc[0, "n"] == 3 and found.loc[0, "low"] < 0.5
    assert q.mean_sd([]) == "–" and q.mean_sd([0.5]) == "50.0 (1)"
