"""The command: one clear line and the right exit status for each mistake; nothing lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lib import cli


@pytest.fixture
def toy_copy(project_copy):
    """A copy of the project with the toy post's experiments, and a log of what was computed."""
    shutil.copy(
        Path(__file__).with_name("toy_post.py"), project_copy.root / "lib" / "experiments" / "toy_post.py"
    )
    (project_copy.root / "posts" / "toy-post").mkdir()
    project_copy.env["TOY_LOG"] = str(project_copy.root / "log")
    return project_copy


def one_line(done):
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("posts: "), done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "toy-pots"], "did you mean toy-post?"),
        (["run", "toy-post", "--profile", "huge"], "no profile 'huge'; one of smoke, laptop, full is wanted"),
        (["run", "toy-post", "--profile", "smoke", "--only", "walks"], "no experiment 'walks'"),
        (["run", "toy-post", "--jobs", "0"], "--jobs is 0"),
        (["run", "toy-post", "--jobs", "many"], "--jobs"),
        (["run", "toy-post", "--device", "abacus"], "no device 'abacus'"),
        (["run", "toy-post", "--executor", "cloud"], "dask://host:port is wanted"),
        (["run", "toy-post", "--colour"], "No such option"),
        (["publish", "nothing"], "no post 'nothing'"),
        (["budget", "nothing"], "no post 'nothing'"),
        (["why", "nothing"], "no post 'nothing'"),
        (["why"], "Missing argument"),
        (["notebook", "nothing"], "no post 'nothing'"),
        (["notebook", "-p", "profile"], "name=value is wanted"),
        (["data", "burn"], "list or fetch is wanted"),
        (["data", "fetch"], "name at least one"),
        (["data", "fetch", "mnits"], "did you mean 'mnist'?"),
        (["bench", "nothing"], "nothing"),
        (["new", "Bad Slug"], "cannot be a slug"),
        (["site", "--renderer", "word"], "word"),
        (["site", "--profile", "huge"], "huge"),
        (["flurb"], "No such command"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(toy, monkeypatch, capsys, arguments, says):
    monkeypatch.setattr("sys.argv", ["posts", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    told = capsys.readouterr()
    assert stop.value.code == 2, told
    assert told.err.startswith("posts: ") and told.err.count("\n") == 1 and says in told.err


def test_outside_a_project_it_says_so(toy_copy, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (toy_copy.root / "_quarto.yml").unlink()
    done = toy_copy.python("-m", "lib", "list", cwd=outside)
    assert done.returncode == 2 and "no project here" in one_line(done)
    toy_copy.env["POSTS_ROOT"] = str(outside)
    assert "POSTS_ROOT" in one_line(toy_copy.run("list"))


def test_an_unwritable_store_is_one_line(toy_copy):
    (toy_copy.root / ".store").write_text("not a folder")
    done = toy_copy.run("run", "toy-post", "--profile", "smoke", "--jobs", "2")
    assert done.returncode == 2 and "cannot write" in one_line(done)
    assert (toy_copy.root / ".store").read_text() == "not a folder"


def test_run_publish_budget_why(toy_copy):
    done = toy_copy.run("run", "toy-post", "--profile", "smoke", "--jobs", "2", check=True)
    assert "10 computed, 0 were there, 10 in all" in done.stdout
    assert (
        "0 computed, 10 were there"
        in toy_copy.run("run", "toy-post", "--profile", "smoke", check=True).stdout
    )
    assert (
        "walk.json: 8 records" in toy_copy.run("publish", "toy-post", "--profile", "smoke", check=True).stdout
    )
    assert "walk" in toy_copy.run("budget", "toy-post", check=True).stdout
    assert "no record is stale" in toy_copy.run("why", "toy-post", check=True).stdout
    source = toy_copy.root / "lib" / "experiments" / "toy_post.py"
    source.write_text(source.read_text().replace("norm(end + 1)", "norm(end + 2)"))
    told = toy_copy.run("why", "toy-post", check=True).stdout
    assert "2 records" in told and "lib.experiments.toy_post:onward changed" in told and ":walk" not in told


@pytest.mark.parametrize(
    ("trouble", "says"), [("error", "went astray"), ("kill", "SIGKILL"), ("memory", "MemoryError")]
)
def test_a_failed_run_is_in_the_table_and_status_1(toy_copy, trouble, says):
    source = toy_copy.root / "lib" / "experiments" / "toy_post.py"
    source.write_text(
        source.read_text().replace(
            "pause=pause, seed=seed) for",
            f'pause=pause, seed=seed, trouble="{trouble}" if seed == 3 else "") for',
        )
    )
    done = toy_copy.run("run", "toy-post", "--profile", "smoke", "--jobs", "2")
    assert done.returncode == 1 and says in done.stderr and "seed=3" in done.stderr
    assert "9 computed" in done.stdout


def test_a_missing_data_set_is_one_line(toy_copy):
    source = toy_copy.root / "lib" / "experiments" / "toy_post.py"
    source.write_text(
        source.read_text().replace("seed=seed) for seed", 'seed=seed, trouble="data") for seed')
    )
    for jobs in ("1", "2"):
        done = toy_copy.run("run", "toy-post", "--profile", "smoke", "--jobs", jobs)
        assert done.returncode == 2 and "no-such-set" in one_line(done)


def test_a_damaged_pack_is_named(toy_copy):
    toy_copy.run("run", "toy-post", "--profile", "smoke", check=True)
    toy_copy.run("publish", "toy-post", "--profile", "smoke", check=True)
    pack = toy_copy.root / "posts" / "toy-post" / "results" / "smoke" / "walk.json"
    pack.write_text(pack.read_text().replace('"seed":3', '"seed":4'))
    done = toy_copy.run("run", "toy-post", "--profile", "smoke")
    assert done.returncode == 1 and "walk.json is damaged" in one_line(done)


def test_help_names_every_command(toy_copy):
    done = toy_copy.run("--help", check=True)
    for command in [
        "list",
        "run",
        "publish",
        "notebook",
        "site",
        "serve",
        "check",
        "budget",
        "bench",
        "why",
        "data",
        "new",
    ]:
        assert f" {command} " in done.stdout
    assert toy_copy.run().returncode == 2
