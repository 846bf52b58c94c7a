"""The protocols: what each arm sees, begins with, chooses by and reports; resumption through files; the profiles' lists."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest

import tests.room

torch = pytest.importorskip("torch")

from scipy import stats  # noqa: E402

from lib.core import PROFILES, Config, InputError  # noqa: E402
from lib.data.images import Split, image_set, tiny  # noqa: E402
from lib.experiments import dl_massive_label_noise as post  # noqa: E402
from lib.experiments.dl_massive_label_noise import (  # noqa: E402
    ARMS,
    ByPass,
    Convolution,
    Inputs,
    LearningRates,
    Mistakes,
    NoiseCurve,
    Order,
    Watching,
)
from lib.methods.label_noise import ORDERS, shifted_labels  # noqa: E402
from lib.methods.noise_ceiling import ceiling, thresholds  # noqa: E402
from lib.nets import mlp  # noqa: E402
from lib.runs.checkpoints import FileCheckpoint  # noqa: E402
from lib.training import Stopping, WindowStopping, derived_generator  # noqa: E402

VALIDATION = 100
BUDGET = {
    "lrs": (0.1, 0.5, 1.0),
    "data": "tiny",
    "validation": VALIDATION,
    "batch_size": 32,
    "max_steps": 24,
    "eval_every": 8,
    "patience": 3,
}
EXPERIMENTS = ("noise_curve", "mistakes", "order", "stopping", "learning_rates")
SUMMARIES = ("lr", "val_accuracy", "best_step", "steps")


pytestmark = pytest.mark.usefixtures("one_thread")
Room = partial(tests.room.Room, post.run)


@pytest.fixture(scope="module")
def data():
    """Ten classes of very different frequency, 8 × 8 pixels."""
    whole = tiny(n_train=1200, n_test=300)
    kept = torch.arange(1200) % (whole.train.labels + 2) < 2
    return dataclasses.replace(whole, train=whole.train.subset(kept.nonzero()[:, 0]))


@pytest.fixture
def fits(monkeypatch):
    """Every training of a run: what it was given, the weights it began with, what it found."""
    seen = []
    inner = post._fit

    def spy(config, context, sets, stack, noise, **options):
        entry = {"sets": sets, "start": stack.parameters.clone(), "noise": noise, **options}
        seen.append(entry)
        entry["fit"], found = inner(config, context, sets, stack, noise, **options)
        return entry["fit"], found

    monkeypatch.setattr(post, "_fit", spy)
    return seen


def curve(**changes):
    return NoiseCurve(**{"network": "mlp1", "alpha": 25, "seed": 0} | BUDGET | changes)


def mistake(arm, **changes):
    options = {"network": "mlp1", "alpha": 25, "seed": 0, "through": (0, 25, 50)} | BUDGET | changes
    return Mistakes(arm=arm, **options)


FURTHER = {
    "network": "mlp1",
    "alpha": 5,
    "data": "tiny",
    "images": 320,
    "validation": VALIDATION,
    "batch_size": 32,
    "seed": 0,
}


def order(name="shuffled", **changes):
    return Order(**FURTHER | {"order": name, "lr": 0.5, "evaluations": 5} | changes)


def watching(**changes):
    return Watching(**FURTHER | {"lr": 0.5, "ema": 0.9, "max_steps": 40, "eval_every": 8} | changes)


def rates(**changes):
    options = {"lrs": (0.1, 0.5), "ema": 0.9, "examples": 960, "evaluations": 3}
    return LearningRates(**FURTHER | options | changes)


def convolution(**changes):
    options = {"network": "conv4", "widths": (16, 32), "hidden": 32, "precision": "float32"}
    return Convolution(**options | {"alpha": 2, "seed": 0} | BUDGET | {"lrs": (1.0, 3.0)} | changes)


def scrambled(split, part=slice(None)):
    """The split with wrong labels in `part`."""
    labels = split.labels.clone()
    labels[part] = (labels[part] + 1) % 10
    return Split(split.images, labels)


def same(a, b):
    """Equal bit for bit, through mappings and lists."""
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return a == b


def same_result(a, b):
    return all(same(getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(a))


# --- lists of configs ----------------------------------------------------------------------------------------------


def needed(config: Config) -> Config | None:
    """The config whose artifact a run of `config` reads."""
    if not isinstance(config, Mistakes) or config.arm == "shifted":
        return None
    if config.arm in ("corrected", "last"):
        fields = {field.name for field in dataclasses.fields(NoiseCurve)}
        return NoiseCurve(**{name: getattr(config, name) for name in fields})
    place = config.through.index(config.alpha)
    return config.replace(alpha=config.through[place - 1]) if place else None


@pytest.mark.parametrize("profile", PROFILES)
def test_configs_are_unique_and_in_order(profile):
    """What a config needs the artifact of comes before it; the lists of smoke and laptop are closed."""
    configs = post.configs(profile)
    place = {config.key: number for number, config in enumerate(configs)}
    assert len(place) == len(configs)
    for number, config in enumerate(configs):
        assert config.post == "dl-massive-label-noise" and config.experiment in EXPERIMENTS
        if (other := needed(config)) is not None:
            assert place.get(other.key, -1 if profile == "full" else len(configs)) < number, config.label()


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_covers_networks_arms_and_seeds(profile):
    configs = post.configs(profile)
    curves = [config for config in configs if isinstance(config, NoiseCurve)]
    wrong = [config for config in configs if isinstance(config, Mistakes)]
    conv = [config for config in configs if isinstance(config, post.Convolution)]
    signed = [config for config in configs if isinstance(config, post.Inputs)]
    assert len(conv) == len({config.alpha for config in conv}) * len({config.seed for config in conv}) > 0
    assert {config.alpha for config in signed} == {0, 25, 50}
    assert tuple(dict.fromkeys(config.experiment for config in configs)) == EXPERIMENTS
    assert {config.network for config in curves} == {"perceptron", "mlp1", "mlp2", "mlp4"}
    assert {(config.arm, config.alpha) for config in wrong} == {
        (arm, alpha) for arm in ARMS for alpha in (0, 25, 50) if (arm, alpha) != ("shifted", 0)
    }
    for kind in (curves, wrong):
        groups = {}
        for config in kind:
            groups.setdefault(config.replace(seed=0), []).append(config.seed)
        assert all(seeds == list(range(len(seeds))) for seeds in groups.values())
        assert {len(seeds) for seeds in groups.values()} == {"smoke": {2}, "laptop": {3, 5}, "full": {3}}[
            profile
        ]
    assert {config.data for config in configs} == {"digits" if profile == "smoke" else "mnist"}
    if profile != "smoke":
        same_budget = [*curves, *wrong, *signed]
        assert all(c.lrs == (0.01, 0.05, 0.1, 0.5) and c.batch_size == 128 for c in same_budget)
        assert all(config.validation == 5000 for config in configs)
        assert all(c.widths == (32, 64, 128, 256) and c.hidden == 1000 for c in conv)


@pytest.mark.parametrize("profile", PROFILES)
def test_further_experiments_have_all_settings_and_seeds(profile):
    configs = post.configs(profile)
    for kind, names in (
        (Order, ("order", "alpha")),
        (Watching, ("images", "alpha")),
        (LearningRates, ("network", "batch_size", "alpha")),
    ):
        own = [config for config in configs if type(config) is kind]
        groups = {}
        for config in own:
            groups.setdefault(tuple(getattr(config, name) for name in names), []).append(config.seed)
        (seeds,) = {tuple(found) for found in groups.values()}
        assert len(seeds) >= (2 if profile == "smoke" else 3) and seeds == tuple(range(len(seeds)))
    orders = {(c.order, c.alpha) for c in configs if isinstance(c, Order)}
    assert orders == {(order, alpha) for order in ORDERS for alpha in (1, 5, 25)}
    by_size = [c for c in configs if isinstance(c, LearningRates)]
    assert all(c.examples // c.batch_size * c.batch_size == c.examples for c in by_size)


def test_as_posted_is_validated_once_a_pass_in_full():
    posted = [c for c in post.configs("full") if isinstance(c, Mistakes) and c.arm == "as_posted"]
    assert posted and all(isinstance(c, ByPass) and c.eval_every == 1 for c in posted)


def test_alphas():
    alphas = {p: sorted({c.alpha for c in post.configs(p) if isinstance(c, NoiseCurve)}) for p in PROFILES}
    assert alphas["laptop"] == [0, 10, 25, 50] and alphas["full"] == [0, 10, 20, 25, *range(30, 101, 10)]


def test_smoke_is_small():
    """About 2,300 batches, measured as 13 s of one core for all of it, after imports; the bar is 20 s."""
    batches = 0
    for config in post.configs("smoke"):
        if isinstance(config, Order):
            batches += config.images * (config.alpha + 1) // config.batch_size
        elif isinstance(config, LearningRates):
            batches += config.examples // config.batch_size
        elif config.experiment != "mistakes" or config.arm in ("shifted", "signed"):
            batches += config.max_steps
        elif config.arm in ("carried", "as_posted"):
            batches += config.max_steps * len(config.lrs)
        assert config.batch_size <= 128
    assert len(post.configs("smoke")) <= 110 and batches <= 2500


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"network": "mlp3"}, "network"),
        ({"lrs": (0.1, float("nan"))}, "lrs"),
        ({"lrs": 0.1}, "lrs"),
        ({"alpha": 2.5}, "alpha"),
    ],
)
def test_bad_configs(changes, named):
    with pytest.raises(InputError, match=named):
        curve(**changes)


def test_bad_arm():
    with pytest.raises(InputError, match="arm"):
        mistake("shuffled")


@pytest.mark.parametrize("validation", [0, 100_000])
def test_bad_validation(data, validation):
    with pytest.raises(InputError, match=f"validation is {validation}"):
        post.run(curve(validation=validation), Room(data))


def test_a_carried_network_needs_its_place(data):
    with pytest.raises(InputError, match="alpha is 10"):
        post.run(mistake("carried", alpha=10), Room(data))


# --- the corrected protocol ----------------------------------------------------------------------------------------


def test_sets_of_the_corrected_protocol(data, fits):
    """Clean validation images from the training set, the test set whole, nothing twice, inputs in [0, 1]."""
    post.run(curve(), Room(data))
    sets = fits[0]["sets"]
    kept = len(data.train) - VALIDATION
    assert torch.equal(torch.cat([sets.images, sets.val_images]), data.train.images)
    assert torch.equal(torch.cat([sets.labels, sets.val_labels]), data.train.labels)
    assert len(sets.val_labels) == VALIDATION and len(sets.labels) == kept
    assert torch.equal(sets.test_images, data.test.images) and torch.equal(sets.test_labels, data.test.labels)
    ends = sets.scaling(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1))
    assert ends.flatten().tolist() == pytest.approx([0, 1])


def test_noise_is_uniform_and_what_is_trained_on(data, fits, monkeypatch):
    """Uniform though the classes are not, one table a run; the batches hold each image once clean and α times noisy."""
    batches = []
    inner = post.Batches
    monkeypatch.setattr(post, "Batches", lambda *a, **k: batches.append(inner(*a, **k)) or batches[-1])
    post.run(curve(), Room(data))
    noise, sets = fits[0]["noise"], fits[0]["sets"]
    assert noise.shape == (len(sets.labels), 25)
    assert stats.chisquare(torch.bincount(noise.flatten().long(), minlength=10).numpy()).pvalue > 1e-3
    assert stats.chisquare(torch.bincount(sets.labels, minlength=10).numpy()).pvalue < 1e-6
    (used,) = batches
    assert used.images is sets.images or torch.equal(used.images, sets.images)
    image, label = used.pairs.take(torch.arange(len(used.pairs)))
    label = label.view(-1, 26)
    assert torch.equal(image.view(-1, 26)[:, 7], torch.arange(len(sets.labels)))
    assert torch.equal(label[:, 0], sets.labels) and torch.equal(label[:, 1:], noise.long())


def test_the_test_set_decides_nothing(data):
    """With wrong labels in the test set only what is measured on it changes."""
    wrong = dataclasses.replace(data, test=scrambled(data.test))
    for config in (curve(), mistake("shifted"), mistake("carried"), mistake("last")):
        right, other = post.run(config, Room(data)), post.run(config, Room(wrong))
        assert same(dict(right.series), dict(other.series))
        for name in SUMMARIES:
            assert right.metrics[name] == other.metrics[name]
        assert right.metrics["test_accuracy"] > other.metrics["test_accuracy"]
        if config.experiment == "mistakes" and config.arm == "carried":
            assert same(right.artifact, other.artifact)


def test_the_validation_set_teaches_nothing(data, fits):
    """With wrong labels in it, the weights at the end of the budget are the same."""
    held_out = slice(len(data.train) - VALIDATION, None)
    for sets in (data, dataclasses.replace(data, train=scrambled(data.train, held_out))):
        post.run(curve(patience=100), Room(sets))
    one, two = (entry["fit"] for entry in fits)
    assert one.best_value != two.best_value
    assert all(torch.equal(a["parameters"], b["parameters"]) for a, b in zip(one.last, two.last, strict=True))


def test_the_rate_is_chosen_by_validation_and_the_best_weights_returned(data, fits):
    result = post.run(curve(max_steps=80), Room(data))
    found, chosen = fits[0]["fit"], result.arrays["best_val_accuracy"].argmax()
    assert result.metrics["lr"] == BUDGET["lrs"][chosen]
    assert result.metrics["val_accuracy"] == max(found.best_value)
    assert result.metrics["test_accuracy"] == result.arrays["test_accuracy"][chosen]
    assert result.metrics["best_step"] == found.best_step[chosen]
    for member, lr in enumerate(BUDGET["lrs"]):
        network = mlp((64, 256, 10))
        torch.nn.utils.vector_to_parameters(found.best[member]["parameters"], network.parameters())
        with torch.no_grad():
            right = network(data.test.images / 255).argmax(1) == data.test.labels
        assert result.arrays["test_accuracy"][member] == pytest.approx(right.double().mean().item())
        assert result.series[f"val_accuracy_{lr:g}"] == found.series["accuracy"][member]
        if member == chosen:
            by_class = [right[data.test.labels == k].double().mean().item() for k in range(10)]
            assert result.arrays["by_class"].tolist() == pytest.approx(by_class)


def test_every_run_begins_with_fresh_weights(data, fits):
    """Those of its seed, the same for all rates and α, whatever ran before."""
    first = post.run(curve(), Room(data))
    post.run(curve(seed=1), Room(data))
    again = post.run(curve(), Room(data))
    post.run(curve(alpha=0), Room(data))
    assert same_result(first, again)
    starts = [entry["start"] for entry in fits]
    network = mlp((64, 256, 10), generator=derived_generator(0, "weights"))
    fresh = torch.nn.utils.parameters_to_vector(network.parameters()).detach().expand(3, -1)
    assert torch.equal(starts[0], fresh) and torch.equal(starts[2], fresh) and torch.equal(starts[3], fresh)
    assert not torch.isclose(starts[1], fresh).any()
    assert not torch.equal(fits[0]["noise"], fits[1]["noise"])


@pytest.mark.parametrize("network", post.HIDDEN)
def test_sizes_of_networks(data, fits, network):
    post.run(curve(network=network, max_steps=1), Room(data))
    sizes = (64, *{"perceptron": (), "mlp1": (256,), "mlp2": (256, 128), "mlp4": (256, 128, 64)}[network], 10)
    assert fits[0]["start"].shape[1] == sum(p.numel() for p in mlp(sizes).parameters())


def test_it_learns(data):
    """Without noise and with ten wrong labels a right one, these easy images are told apart."""
    for alpha, steps, least in ((0, 80, 0.95), (10, 400, 0.8)):
        result = post.run(curve(alpha=alpha, max_steps=steps, eval_every=40, patience=9), Room(data))
        assert result.metrics["test_accuracy"] > least and result.metrics["ceiling"] == 1


# --- the mistakes --------------------------------------------------------------------------------------------------


def test_corrected_is_the_noise_curves_run(data):
    room = Room(data)
    reported, run = post.run(mistake("corrected"), room), post.run(curve(), Room(data))
    assert same(dict(reported.metrics), dict(run.metrics)) and same(dict(reported.series), dict(run.series))
    assert same(dict(reported.arrays), dict(run.arrays)) and list(room.made) == [curve()]


def test_last_reports_the_last_weights(data):
    """The same training, the same rate; where validation has fallen since its best, other weights."""
    room = Room(data)
    best, last = (post.run(mistake(arm, max_steps=80), room) for arm in ("corrected", "last"))
    chosen = BUDGET["lrs"].index(best.metrics["lr"])
    assert len(room.made) == 1
    assert all(best.metrics[name] == last.metrics[name] for name in SUMMARIES)
    assert last.metrics["test_accuracy"] == best.arrays["last_test_accuracy"][chosen]
    assert last.metrics["test_accuracy"] != best.metrics["test_accuracy"]


def test_shifted_differs_in_the_noise_alone(data, fits):
    post.run(curve(), Room(data))
    result = post.run(mistake("shifted"), Room(data))
    right, wrong = fits
    assert torch.equal(right["start"], wrong["start"]) and torch.equal(
        right["sets"].images, wrong["sets"].images
    )
    labels = wrong["sets"].labels
    tables = (shifted_labels(labels, 25, shift) for shift in range(len(labels)))
    assert sum(torch.equal(table, wrong["noise"]) for table in tables) >= 1
    counts = [
        torch.bincount(part.labels, minlength=10).tolist()
        for part in (Split(wrong["sets"].images, labels), data.test)
    ]
    assert result.metrics["ceiling"] == ceiling(counts[0], 25, counts[1]) < 1


def test_shifted_noise_loses_the_classes_that_it_must(fits):
    """Classes below their threshold are answered never, the ceiling is reached; uniform noise loses none."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 200, (4, 1, 6, 6))

    def split(n, weights):
        labels = rng.choice(4, n, p=weights)
        return (patterns[labels] + rng.integers(0, 56, (n, 1, 6, 6))).astype(np.uint8), labels

    sets = image_set(
        "tiny", "Four", split(3100, [0.5, 0.36, 0.07, 0.07]), split(400, [0.25] * 4), list("abcd")
    )
    options = {"network": "perceptron", "alpha": 5, "max_steps": 800, "eval_every": 200, "patience": 9}
    shifted = post.run(mistake("shifted", **options), Room(sets))
    uniform = post.run(curve(**options), Room(sets))
    limits = thresholds(torch.bincount(fits[0]["sets"].labels).tolist())
    assert (limits[2:] < 3).all() and (limits[:2] > 6).all()
    assert shifted.arrays["by_class"].tolist() == pytest.approx([1, 1, 0, 0], abs=0.1)
    assert shifted.metrics["test_accuracy"] <= shifted.metrics["ceiling"] + 0.02
    assert uniform.metrics["test_accuracy"] > 0.95


@pytest.mark.parametrize(("arm", "weights"), [("carried", "best"), ("as_posted", "last")])
def test_carried_networks_go_on_where_the_last_one_ended(data, fits, arm, weights):
    """Through the rates, then from each α to the next; only the very first network is fresh."""
    room = Room(data)
    post.run(mistake(arm, alpha=50), room)
    assert [config.alpha for config in room.made] == [0, 25]  # computed on the way, innermost first
    assert [len(entry["noise"].T) for entry in fits] == [0] * 3 + [25] * 3 + [50] * 3
    network = mlp((64, 256, 10), generator=derived_generator(0, "weights"))
    expected = torch.nn.utils.parameters_to_vector(network.parameters()).detach()
    for number, entry in enumerate(fits):
        assert entry["lrs"] == (BUDGET["lrs"][number % 3],)
        assert torch.equal(entry["start"][0], expected), f"fit {number} should go on"
        fit = entry["fit"]
        expected = (fit.best if weights == "best" else fit.last)[0]["parameters"]
        assert not torch.equal(entry["start"][0], expected)


def test_carried_has_new_noise_and_order_for_each_network(data, fits):
    post.run(mistake("carried"), Room(data))
    tables = [entry["noise"] for entry in fits[3:]]
    assert (
        len(tables) == 3 and not torch.equal(tables[0], tables[1]) and not torch.equal(tables[1], tables[2])
    )
    assert all(isinstance(entry["stopping"](), Stopping) for entry in fits)
    assert not any(isinstance(entry["stopping"](), WindowStopping) for entry in fits)


def test_as_posted_uses_the_test_set_as_the_original_did(data, fits):
    """A fifth to validate on, the rest to test on and to choose the rate by; all of the training set to train on."""
    result = post.run(mistake("as_posted"), Room(data))
    sets, fifth = fits[-1]["sets"], len(data.test) // 5
    assert torch.equal(sets.images, data.train.images) and torch.equal(sets.labels, data.train.labels)
    assert torch.equal(sets.val_images, data.test.images[:fifth])
    assert torch.equal(sets.val_labels, data.test.labels[:fifth])
    assert torch.equal(sets.test_images, data.test.images[fifth:])
    assert torch.equal(sets.test_labels, data.test.labels[fifth:])
    ends = sets.scaling(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1))
    assert ends.flatten().tolist() == pytest.approx([-1, 1])
    rule = fits[-1]["stopping"]()
    assert isinstance(rule, WindowStopping) and rule.patience == 3
    measured = result.arrays["last_test_accuracy"]
    assert same(result.arrays["test_accuracy"], measured)
    assert result.metrics["test_accuracy"] == measured.max()
    assert result.metrics["lr"] == BUDGET["lrs"][measured.argmax()]
    counts = torch.bincount(data.train.labels).tolist(), torch.bincount(sets.test_labels).tolist()
    assert result.metrics["ceiling"] == ceiling(counts[0], 25, counts[1])


def test_as_posted_is_trained_without_its_test_part(data):
    """Its four fifths choose the rate and nothing else: the networks are the same with wrong labels in them."""
    fifth = len(data.test) // 5
    wrong = dataclasses.replace(data, test=scrambled(data.test, slice(fifth, None)))
    right, other = (post.run(mistake("as_posted"), Room(sets)) for sets in (data, wrong))
    assert same(right.artifact, other.artifact) and same(dict(right.series), dict(other.series))
    assert not same(right.arrays["test_accuracy"], other.arrays["test_accuracy"])


def test_signed_inputs_differ_in_the_scaling_alone(data, fits):
    post.run(curve(), Room(data))
    post.run(Inputs(**{"network": "mlp1", "alpha": 25, "seed": 0, "arm": "signed"} | BUDGET), Room(data))
    right, wrong = fits
    assert torch.equal(right["start"], wrong["start"]) and torch.equal(right["noise"], wrong["noise"])
    ends = wrong["sets"].scaling(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1))
    assert ends.flatten().tolist() == pytest.approx([-1, 1])
    for field in dataclasses.fields(right["sets"]):
        if field.name not in ("scaling", "n_classes"):
            one, other = (getattr(entry["sets"], field.name) for entry in fits)
            assert torch.equal(one, other), field.name


def test_passes_are_steps_of_the_runs_own_alpha(data, fits):
    """Validated once a pass over the n (α + 1) pairs, at each α on the way by its own length."""
    fields = {"network": "perceptron", "alpha": 2, "seed": 0, "arm": "as_posted", "through": (0, 2)}
    config = ByPass(**fields | BUDGET | {"lrs": (0.1,), "max_steps": 2, "eval_every": 1})
    seen = []
    inner = post.fit

    def spy(*args, **options):
        seen.append((options["max_steps"], options["eval_every"]))
        return inner(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(post, "fit", spy)
        room = Room(data)
        result = post.run(config, room)
    lengths = [-(-len(data.train) * (alpha + 1) // 32) for alpha in (0, 2)]
    assert seen == [(2 * length, length) for length in lengths]
    assert list(room.made) == [config.replace(alpha=0)]
    assert len(result.series["val_accuracy_0.1"]) == 2
    assert torch.equal(fits[1]["start"][0], fits[0]["fit"].last[0]["parameters"])


# --- the convolutional network -------------------------------------------------------------------------------------


def test_conv4_is_trained_by_the_curves_protocol(data, monkeypatch):
    """The noise and the order of the curve, the same fresh weights for each rate, the best kept, the rate by validation."""
    learners, batches, found = [], [], []
    for name, seen in (("ModuleLearner", learners), ("Batches", batches), ("fit", found)):
        inner = getattr(post, name)

        def spy(*args, inner=inner, seen=seen, **options):
            out = inner(*args, **options)
            weights = [tensor.clone() for tensor in out.tensors()] if seen is learners else None
            seen.append((out, weights))
            return out

        monkeypatch.setattr(post, name, spy)
    result = post.run(convolution(max_steps=16), Room(data))
    post.run(curve(alpha=2, max_steps=1), Room(data))
    (one, start), (_, other) = learners
    assert all(torch.equal(a, b) for a, b in zip(start, other, strict=True))
    assert one.module[0].in_channels == 1 and one.module[-1].out_features == 10
    tables = [item.pairs.table for item, _ in batches]
    assert torch.equal(tables[0], tables[1]) and torch.equal(tables[0], tables[2])
    assert torch.equal(batches[0][0](3)[1], batches[2][0](3)[1])
    for number, (fit, _) in enumerate(found[:2]):
        assert result.arrays["best_val_accuracy"][number] == fit.best_value[0]
    chosen = int(np.argmax(result.arrays["best_val_accuracy"]))
    assert result.metrics["lr"] == (1.0, 3.0)[chosen]
    assert result.metrics["test_accuracy"] == result.arrays["test_accuracy"][chosen]


def test_conv4_learns_and_its_test_set_decides_nothing(data):
    config = convolution(alpha=0, max_steps=80, eval_every=40, lrs=(3.0,))
    right = post.run(config, Room(data))
    wrong = post.run(config, Room(dataclasses.replace(data, test=scrambled(data.test))))
    assert right.metrics["test_accuracy"] > 0.9 > 0.2 > wrong.metrics["test_accuracy"]
    assert same(dict(right.series), dict(wrong.series))


def test_conv4_that_diverges_is_a_result(data):
    result = post.run(convolution(lrs=(1e38,)), Room(data))
    assert result.outcome == "diverged" and dict(result.metrics) == {"ceiling": 1.0}


# --- further experiments -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [0, 100_000])
def test_bad_numbers_of_images(data, images):
    for config in (order(images=images), watching(images=images), rates(images=images)):
        with pytest.raises(InputError, match=f"images is {images}"):
            post.run(config, Room(data))


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_is_trained_on_once_and_as_it_is(data, monkeypatch, name):
    """Every pair once; where the clean ones come first, or last, and where copies are adjacent, the batches show it."""
    labels, batches = [], []
    inner = post.fit

    def spy(learner, get, *args, max_steps, **options):
        batches.append(get)
        labels.extend(get(step)[1].clone() for step in range(max_steps))
        return inner(learner, get, *args, max_steps=max_steps, **options)

    monkeypatch.setattr(post, "fit", spy)
    result = post.run(order(name), Room(data))
    drawn = batches[0].order
    assert torch.equal(drawn.sort().values, torch.arange(320 * 6))
    assert torch.equal(torch.cat(labels), batches[0].pairs.table[drawn].long())
    assert result.metrics["steps"] == len(labels) == 60
    clean = (drawn % 6 == 0).nonzero()[:, 0]
    if name == "clean_first":
        assert clean.max() == 319
    elif name == "noisy_first":
        assert clean.min() == 1600
    elif name == "adjacent":
        assert (drawn.view(320, 6) // 6 == drawn.view(320, 6)[:, :1] // 6).all()
        assert not torch.equal(drawn[::6] // 6, torch.arange(320))
    else:
        assert clean.min() < 160 and 640 < clean[160] < 1280 and clean.max() > 1760


def test_orders_share_weights_and_noise_and_report_the_last_weights(data, monkeypatch):
    starts, tables = [], []
    inner, pairs = post._fresh, post.NoisyLabels
    monkeypatch.setattr(post, "_fresh", lambda *a: starts.append(inner(*a)) or starts[-1])
    first = []
    monkeypatch.setattr(post, "NoisyLabels", lambda *a: tables.append(a[1]) or pairs(*a))
    for name in ORDERS:
        result = post.run(order(name), Room(data))
        assert result.metrics["test_accuracy"] == result.series["test_accuracy"][-1]
        assert result.metrics["best_val_accuracy"] == max(result.series["accuracy"])
        best = result.series["accuracy"].index(max(result.series["accuracy"]))
        assert result.metrics["best_test_accuracy"] == result.series["test_accuracy"][best]
        assert len(result.series["accuracy"]) == 5
        first.append(result.series["train_loss"][0])
    assert all(torch.equal(tables[0], table) for table in tables[1:])


def test_clean_first_forgets():
    """What the clean part taught is gone after twenty times as much noise; shuffled keeps it."""
    room = Room(tiny(n_train=900, n_test=300))
    forgotten, kept = (
        post.run(order(name, images=800, alpha=20), room) for name in ("clean_first", "shuffled")
    )
    assert kept.metrics["test_accuracy"] > forgotten.metrics["test_accuracy"] + 0.2
    assert forgotten.metrics["best_test_accuracy"] > forgotten.metrics["test_accuracy"] + 0.2


def test_what_a_rule_could_watch_is_recorded_at_every_evaluation(data, monkeypatch):
    """Clean and noisy, raw and averaged, and the test set; the validation noise is its own and equals no training noise."""
    shares = []
    inner = post.label_shares
    monkeypatch.setattr(post, "label_shares", lambda *a: shares.append((a, inner(*a))) or shares[-1][1])
    result = post.run(watching(), Room(data))
    names = {"accuracy", "loss", "noisy_accuracy", "noisy_loss", "test_accuracy"}
    assert set(result.series) == {"train_loss"} | names | {f"{name}_ema" for name in names}
    assert {len(values) for values in result.series.values()} == {5}
    assert result.metrics["test_accuracy"] == result.series["test_accuracy"][-1]
    assert result.metrics["passes"] == pytest.approx(40 * 32 / 1920)
    (own, clean), (noisy, mixed) = shares
    held_out = data.train.labels[len(data.train) - VALIDATION :]
    assert torch.equal(own[0], held_out) and torch.equal(noisy[0], held_out)
    assert torch.equal(clean, torch.nn.functional.one_hot(held_out, 10).float())
    assert noisy[1].shape == (VALIDATION, 5) and torch.allclose(mixed.sum(1), torch.ones(VALIDATION))


def test_the_watching_changes_nothing(data):
    """With other validation noise or another decay of the average the training is the same; so it is on wrong test labels."""
    whole = post.run(watching(), Room(data))
    for config, sets in (
        (watching(ema=0.5), data),
        (watching(), dataclasses.replace(data, test=scrambled(data.test))),
    ):
        other = post.run(config, Room(sets))
        for name in ("train_loss", "accuracy", "loss", "noisy_accuracy"):
            assert whole.series[name] == other.series[name]


def test_rates_see_the_same_number_of_examples_at_each_batch_size(data, fits, monkeypatch):
    steps = []
    inner = post.fit
    monkeypatch.setattr(post, "fit", lambda *a, **k: steps.append(k["max_steps"]) or inner(*a, **k))
    results = [post.run(rates(batch_size=size), Room(data)) for size in (16, 96)]
    assert steps == [60, 10] and [result.metrics["steps"] for result in results] == steps
    for result in results:
        for prefix in ("", "ema_"):
            score = result.arrays[f"{prefix}best_val_accuracy"]
            assert result.metrics[f"{prefix}lr"] == (0.1, 0.5)[int(score.argmax())]
            assert result.metrics[f"{prefix}val_accuracy"] == score.max()
            tested = result.arrays[f"{prefix}test_accuracy"][int(score.argmax())]
            assert result.metrics[f"{prefix}test_accuracy"] == tested


def test_a_diverged_rate_is_not_chosen(data):
    result = post.run(rates(lrs=(0.5, 1e38)), Room(data))
    assert result.arrays["diverged"].tolist() == [False, True] and result.outcome == "done"
    assert result.metrics["lr"] == result.metrics["ema_lr"] == 0.5
    gone = post.run(rates(lrs=(1e38,)), Room(data))
    assert gone.outcome == "diverged" and dict(gone.metrics) == {"steps": 30}


# --- rates that diverge --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", post.HIDDEN)
def test_a_rate_that_diverges_leaves_the_others_alone(data, network):
    """Marked, never chosen, and the other rates' numbers are those of a run without it, bit for bit."""
    without = post.run(curve(network=network, lrs=(0.1, 0.5)), Room(data))
    result = post.run(curve(network=network, lrs=(0.1, 1e38, 0.5)), Room(data))
    assert result.arrays["diverged"].tolist() == [False, True, False] and result.outcome == "done"
    assert np.isnan(result.arrays["test_accuracy"][1]) and result.metrics["lr"] != 1e38
    for name in ("test_accuracy", "best_val_accuracy", "last_test_accuracy", "best_step", "steps"):
        assert same(np.delete(result.arrays[name], 1), without.arrays[name]), name
    for lr in (0.1, 0.5):
        assert result.series[f"val_accuracy_{lr:g}"] == without.series[f"val_accuracy_{lr:g}"]
    assert same(dict(result.metrics), dict(without.metrics))


def test_a_huge_rate_that_stays_finite_is_no_divergence(data):
    """Adadelta's steps are bounded, so at a rate of a million the loss is huge and finite; the others do not notice."""
    without = post.run(curve(lrs=(0.1, 0.5)), Room(data))
    result = post.run(curve(lrs=(0.1, 1e6, 0.5)), Room(data))
    assert not result.arrays["diverged"].any()
    assert same(result.arrays["test_accuracy"][[0, 2]], without.arrays["test_accuracy"])


@pytest.mark.parametrize("config", [curve(lrs=(1e38, 3e38)), mistake("carried", lrs=(1e38, 3e38), alpha=0)])
def test_all_rates_diverged_is_a_result(data, config):
    result = post.run(config, Room(data))
    assert result.outcome == "diverged" and dict(result.metrics) == {"ceiling": 1.0}


# --- resumption ----------------------------------------------------------------------------------------------------


class Killed(Exception):
    """The process was ended just after a save."""


class Mortal(FileCheckpoint):
    """A file that is always due; the process ends after the first save."""

    def due(self):
        return True

    def save(self, state):
        super().save(state)
        raise Killed


@pytest.mark.parametrize(
    ("config", "saves"),
    [
        (curve(network="mlp2"), 3),
        (mistake("shifted", network="perceptron"), 3),
        (mistake("carried"), 9),
        (mistake("as_posted", network="mlp4", max_steps=48), 18),
        (convolution(), 6),
        (order(), 6),
        (watching(), 5),
        (rates(), 3),
    ],
    ids=["noise_curve", "shifted", "carried", "as_posted", "conv4", "order", "stopping", "learning_rates"],
)
def test_killed_after_every_save_is_uninterrupted_bit_for_bit(data, tmp_path, config, saves):
    """With a new process's slot each time, between the evaluations of a network and between the networks of a chain."""
    room = Room(data)
    whole = post.run(config, room)
    kills, result = 0, None
    while result is None:
        again = Room(data, Mortal(tmp_path / "slot", "code", every=0.0))
        again.made = room.made
        try:
            result = post.run(config, again)
        except Killed:
            kills += 1
    assert same_result(whole, result)
    assert 2 <= kills <= saves
