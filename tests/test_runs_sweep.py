"""A sweep computes what is missing and nothing else; publishing packs it."""

from __future__ import annotations

import json

import pytest
import torch

from lib.core import InputError, Result
from lib.runs import context, fingerprints, ledger, progress, published, sweep
from lib.runs.context import Task, compute_one
from lib.runs.executors import Serial
from lib.runs.records import Damaged
from lib.runs.store import Store


@pytest.fixture
def place(toy, tmp_path):
    """(project, store, how many runs were computed so far)."""

    def computed():
        log = tmp_path / "log"
        return len(log.read_text().split()) if log.exists() else 0

    return tmp_path, Store(tmp_path / "store"), computed


def test_what_is_there_is_not_computed_again(place):
    _, store, computed = place
    first = sweep.compute("toy-post", "smoke")
    assert len(first.endings) == 10 and not first.failures and computed() == 10
    second = sweep.compute("toy-post", "smoke")
    assert second.present == 10 and not second.endings and computed() == 10
    assert all(store.get(config).finished for config in first.configs.values())


def test_an_artifact_is_made_when_it_is_asked_for(toy, place):
    _, store, computed = place
    config = toy.configs("smoke")[-1]
    assert compute_one(Task(config, str(store.path))).status == "done"
    assert computed() == 2
    walk = store.get(config.start)
    assert store.get(config).metrics["distance"] != walk.metrics["distance"]


def test_the_time_of_an_artifact_is_that_of_the_run_that_makes_it(toy, place):
    """A reader that has to have it made first costs no more than one that finds it."""
    _, store, _ = place
    start = toy.Walk(steps=40, seed=0, pause=0.01)
    reader = toy.Onward(start=start, seed=0)
    compute_one(Task(reader, str(store.path)))
    made, read = (store.get(config).provenance for config in (start, reader))
    assert 0.4 <= made.wall_s > read.wall_s >= 0
    assert made.cpu_s > 0 and read.cpu_s >= 0


def test_fresh_computes_all_again_with_the_same_digests(place):
    _, store, computed = place
    report = sweep.compute("toy-post", "smoke")
    before = {key: store.get(config).digest for key, config in report.configs.items()}
    dates = {key: store.date(config) for key, config in report.configs.items()}
    sweep.compute("toy-post", "smoke", fresh=True)
    assert computed() == 20
    assert before == {key: store.get(config).digest for key, config in report.configs.items()}
    assert all(dates[key] != store.date(config) for key, config in report.configs.items())


def test_the_code_behind_an_artifact_makes_its_reader_stale_and_is_renewed_with_it(toy, place, monkeypatch):
    """A run that reads an artifact records the code that made it; `--stale` computes a stale artifact again."""
    _, store, computed = place
    now = {
        toy.Walk: {"lib.experiments.toy_post:walk": "1"},
        toy.Onward: {"lib.experiments.toy_post:onward": "1"},
    }
    current = {name: value for code in now.values() for name, value in code.items()}
    monkeypatch.setattr(context, "code_of", lambda config: now[type(config)])
    monkeypatch.setattr(
        fingerprints, "changes", lambda recorded: [n for n in recorded if recorded[n] != current[n]]
    )
    onward = toy.configs("smoke")[-1]
    monkeypatch.setattr(toy, "configs", lambda profile: [onward])
    sweep.compute("toy-post", "smoke")
    assert set(store.get(onward).provenance.code) == set(current) and computed() == 2
    now[toy.Walk]["lib.experiments.toy_post:walk"] = current["lib.experiments.toy_post:walk"] = "2"
    assert sweep.stale(store.get(onward)) == ["lib.experiments.toy_post:walk"]
    sweep.compute("toy-post", "smoke", stale_too=True)
    assert computed() == 4 and sweep.stale(store.get(onward)) == [] == sweep.stale(store.get(onward.start))


def test_profiles_share_what_they_share(toy, place, monkeypatch):
    _, _, computed = place
    monkeypatch.setattr(
        toy, "configs", lambda profile: toy_configs(toy, {"smoke": 3, "laptop": 5, "full": 5}[profile])
    )
    sweep.compute("toy-post", "smoke")
    report = sweep.compute("toy-post", "laptop")
    assert report.present == 3 and computed() == 5


def toy_configs(module, n):
    return [module.Walk(steps=4, pause=0, seed=seed) for seed in range(n)]


@pytest.mark.parametrize(
    ("trouble", "outcome", "failures"),
    [("error", "error", 1), ("memory", "out of memory", 1), ("diverge", "diverged", 0)],
)
def test_a_run_in_trouble_costs_itself_only(toy, place, monkeypatch, trouble, outcome, failures):
    _, store, computed = place
    configs = toy_configs(toy, 3)
    configs[1] = configs[1].replace(trouble=trouble)
    monkeypatch.setattr(toy, "configs", lambda profile: configs)
    report = sweep.compute("toy-post", "smoke")
    assert len(report.failures) == failures
    assert [store.get(config).outcome for config in configs] == ["done", outcome, "done"]
    again = sweep.compute("toy-post", "smoke")
    assert again.present == 3 - failures and len(again.failures) == failures
    if trouble == "error":
        assert "went astray" in store.get(configs[1]).error


def test_a_missing_data_set_stops_the_sweep(toy, place, monkeypatch):
    configs = [config.replace(trouble="data") for config in toy_configs(toy, 2)]
    monkeypatch.setattr(toy, "configs", lambda profile: configs)
    with pytest.raises(InputError, match="no-such-set"):
        sweep.compute("toy-post", "smoke")


def test_a_damaged_record_is_named_set_aside_and_computed_again(place):
    _, store, computed = place
    report = sweep.compute("toy-post", "smoke")
    config = next(iter(report.configs.values()))
    path = store.place(config.post, config.experiment, config.key)
    digest = store.get(config).digest
    path.write_bytes(path.read_bytes()[:-9] + b"X" + path.read_bytes()[-8:])
    again = sweep.compute("toy-post", "smoke")
    assert len(again.warnings) == 1 and str(path) in again.warnings[0]
    assert computed() == 11 and store.get(config).digest == digest
    assert path.with_suffix(".damaged").exists()


def test_stale_records_are_kept_named_and_computed_again_when_asked(place, monkeypatch):
    project, store, computed = place
    version = {"toy": "1"}
    monkeypatch.setattr(context, "code_of", lambda config: dict(version))
    monkeypatch.setattr(
        fingerprints, "changes", lambda recorded: [] if recorded == version else ["lib.methods.x:f changed"]
    )
    sweep.compute("toy-post", "smoke")
    sweep.publish("toy-post", "smoke")
    assert sweep.why("toy-post", project, store) == {}
    version["toy"] = "2"
    assert sweep.compute("toy-post", "smoke").present == 10
    ((reasons, pairs),) = sweep.why("toy-post", project, store).items()
    assert reasons == ("lib.methods.x:f changed",) and len(pairs) == 10
    assert sweep.publish("toy-post", "smoke")[0].stale == 8
    sweep.compute("toy-post", "smoke", stale_too=True)
    assert computed() == 20 and sweep.why("toy-post", project, store) == {}
    assert sweep.publish("toy-post", "smoke")[0].stale == 0


def test_time_up_suspends_and_the_next_sweep_goes_on_exactly(toy, place, monkeypatch):
    project, store, _ = place
    (config,) = [toy.Walk(steps=30, pause=0.02, seed=5)]
    monkeypatch.setattr(toy, "configs", lambda profile: [config])
    report = sweep.compute("toy-post", "smoke", minutes=0.3 / 60)
    assert report.suspended == 1 and store.get(config) is None and store.checkpoint(config).exists()
    assert sweep.compute("toy-post", "smoke", minutes=-1).suspended == 1
    report = sweep.compute("toy-post", "smoke")
    assert [ending.status for ending in report.endings.values()] == ["done"]
    assert not store.checkpoint(config).exists()
    whole = Store(project / "other")
    sweep.compute("toy-post", "smoke", store=whole)
    assert store.get(config).digest == whole.get(config).digest


def test_a_run_leaves_its_process_as_it_was(place):
    threads, generator = torch.get_num_threads(), torch.get_rng_state()
    sweep.compute("toy-post", "smoke", threads=threads + 1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), generator)
    assert (torch.tensor([1e-40]) * 1.0).item() > 0


def test_a_run_inside_another_leaves_it_as_it_was(toy, place, monkeypatch):
    _, store, _ = place
    seen = []

    def onward(config, context):
        def state():
            return (
                torch.get_num_threads(),
                (torch.tensor([1e-40]) * 1.0).item(),
                torch.get_rng_state().tolist(),
            )

        before = state()
        context.artifact(config.start)
        seen.append(before == state() and before[1] == 0)
        return Result({"x": 1})

    monkeypatch.setattr(
        context.experiments, "handler", lambda *given: onward if given[1] is toy.Onward else toy.walk
    )
    assert compute_one(Task(toy.configs("smoke")[-1], str(store.path))).status == "done"
    assert seen == [True]


# --- publishing ----------------------------------------------------------------------------------------------------


def test_published_records_are_read_back_and_count_as_present(place):
    project, store, computed = place
    report = sweep.compute("toy-post", "smoke")
    packs = sweep.publish("toy-post", "smoke")
    assert [(pack.experiment, pack.records, pack.of) for pack in packs] == [("walk", 8, 8), ("onward", 2, 2)]
    assert published.available(project, "toy-post") == {"onward": ["smoke"], "walk": ["smoke"]}
    for record in published.read_all(project, "toy-post").values():
        assert record.digest == store.get(report.configs[record.key]).digest
        assert record.provenance == store.get(report.configs[record.key]).provenance
    elsewhere = Store(project / "elsewhere")
    assert sweep.compute("toy-post", "smoke", store=elsewhere).present == 10 and computed() == 10
    before = {path: path.read_bytes() for path in (project / "posts").rglob("*") if path.is_file()}
    sweep.publish("toy-post", "smoke", store=elsewhere)
    assert before == {path: path.read_bytes() for path in (project / "posts").rglob("*") if path.is_file()}


def test_publishing_in_two_halves_loses_nothing(toy, place, monkeypatch):
    project, _, _ = place
    whole = toy.configs
    monkeypatch.setattr(toy, "configs", lambda profile: whole(profile)[:3])
    sweep.compute("toy-post", "smoke", store=Store(project / "one"))
    monkeypatch.setattr(toy, "configs", lambda profile: whole(profile)[3:8])
    sweep.compute("toy-post", "smoke", store=Store(project / "two"))
    monkeypatch.setattr(toy, "configs", whole)
    assert sweep.publish("toy-post", "smoke", store=Store(project / "one"))[0].records == 3
    assert sweep.publish("toy-post", "smoke", store=Store(project / "two"))[0].records == 8


def test_an_experiment_that_is_gone_is_no_longer_published(toy, place, monkeypatch):
    project, _, _ = place
    sweep.compute("toy-post", "smoke")
    sweep.publish("toy-post", "smoke")
    whole = toy.configs
    monkeypatch.setattr(toy, "configs", lambda profile: whole(profile)[:8])
    sweep.publish("toy-post", "smoke")
    assert list(published.available(project, "toy-post")) == ["walk"]


def test_any_changed_byte_of_a_pack_is_noticed(place):
    project, _, _ = place
    sweep.compute("toy-post", "smoke")
    sweep.publish("toy-post", "smoke")
    for path in published.folder(project, "toy-post", "smoke").glob("walk.*"):
        whole = path.read_bytes()
        for spot in range(0, len(whole), max(1, len(whole) // 40)):
            damaged = bytearray(whole)
            damaged[spot] ^= 4
            path.write_bytes(damaged)
            with pytest.raises(Damaged, match="walk"):
                published.read(project, "toy-post", "smoke", "walk")
        path.write_bytes(whole)
    assert len(published.read(project, "toy-post", "smoke", "walk")) == 8


def test_the_size_limit_is_kept_and_the_old_pack_stays(place, monkeypatch):
    project, _, _ = place
    sweep.compute("toy-post", "smoke")
    sweep.publish("toy-post", "smoke")
    monkeypatch.setattr(published, "LIMIT", 1000)
    with pytest.raises(InputError, match="toy-post: publishing walk"):
        sweep.publish("toy-post", "smoke")
    assert len(published.read(project, "toy-post", "smoke", "walk")) == 8


def test_a_pack_is_one_line_a_record(place):
    project, _, _ = place
    sweep.compute("toy-post", "smoke")
    path = sweep.publish("toy-post", "smoke")[0].path
    document = json.loads(path.read_text())
    assert len(document["body"]["records"]) == 8
    assert sum(line.startswith('{"config"') for line in path.read_text().splitlines()) == 8


# --- errors, ledger, progress --------------------------------------------------------------------------------------


def test_unknown_things_are_named(place):
    for arguments, wrong in (
        (("no-post", "smoke"), "no-post"),
        (("toy-post", "huge"), "huge"),
    ):
        with pytest.raises(InputError, match=wrong):
            sweep.compute(*arguments)
    with pytest.raises(InputError, match="wlak"):
        sweep.compute("toy-post", "smoke", only="wlak")


def test_the_ledger_counts_arms_seeds_and_measured_seconds(place):
    project, store, _ = place
    empty = ledger.budget("toy-post", project, store)
    assert [(line.profile, line.experiment, line.arms, line.seeds, line.runs, line.cpu_s) for line in empty][
        :2
    ] == [
        ("smoke", "walk", 1, 8, 8, None),
        ("smoke", "onward", 2, 2, 2, None),
    ]
    report = sweep.compute("toy-post", "smoke", only="walk")
    line = ledger.budget("toy-post", project, store)[0]
    spent = sum(
        store.get(config).provenance.cpu_s
        for config in report.configs.values()
        if config.experiment == "walk"
    )
    assert line.measured == 8 and line.cpu_s == pytest.approx(spent)


def test_other_data_than_recorded_is_told(toy, place, monkeypatch):
    project, store, _ = place

    class Set:
        fingerprint = "old"

    monkeypatch.setattr("lib.runs.context._load", lambda name, device: Set())
    inner = toy.trouble
    monkeypatch.setattr(
        toy, "trouble", lambda config, context: (context.data("digits"), inner(config, context))
    )
    sweep.compute("toy-post", "smoke")
    assert sweep.other_data("toy-post", project, store, lambda name: Set()) == []
    new = type("New", (), {"fingerprint": "new"})()
    assert sweep.other_data("toy-post", project, store, lambda name: new) == [("digits", "old", "new")]


def test_time_left_is_guessed_from_runs_of_the_kind(toy):
    from lib.runs.context import Ending
    from lib.runs.executors import Moved, Started

    configs = {str(i): toy.Walk(steps=1, pause=0, seed=i) for i in range(5)}
    watcher = progress.Quiet(configs, jobs=2)
    assert watcher.left() is None
    watcher.tell(Ending("0", "done", 10.0))
    assert watcher.left() == pytest.approx(4 * 10 / 2)
    watcher.tell(Started("1"))
    watcher.tell(Moved("1", 5, 10, ""))
    assert watcher.left() == pytest.approx(3.5 * 10 / 2)
    assert progress.duration(40) == "40 s" and progress.duration(3 * 3600 + 1200) == "3 h 20 min"


def test_nothing_is_printed(place, capsys):
    sweep.compute("toy-post", "smoke", executor=Serial())
    assert capsys.readouterr() == ("", "")
