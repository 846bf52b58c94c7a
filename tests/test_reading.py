"""What notebooks display: frames and provenance from records made by hand, excerpts, Markdown that pandoc
understands."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lib.reading
from lib.core import InputError, PostsError, Provenance, Record, canonical, sha256
from lib.reading import Missing, Post, Runs, excerpt, filled, front_matter, open_post, source_markdown
from lib.runs import published
from lib.stats import Interval

ROOT = Path(__file__).resolve().parent.parent

PROVENANCE = Provenance(
    data={"mnist": "f00d"},
    code={"lib.training:fit": "abc"},
    commit="0123456789abcdef",
    clean=True,
    versions={"python": "3.11.2"},
    device="cpu",
    threads=1,
    wall_s=1.0,
    cpu_s=1.0,
    peak_mb=100.0,
    date="2026-11-20T23:59:58+00:00",
)


def record(
    config: dict[str, Any],
    metrics: dict[str, Any] | None = None,
    *,
    experiment: str = "curve",
    outcome: str = "done",
    series: dict[str, list[float]] | None = None,
    arrays: dict[str, np.ndarray] | None = None,
    **provenance: Any,
) -> Record:
    """A record of the post `demo`, as a run would have left it."""
    return Record(
        post="demo",
        experiment=experiment,
        key=sha256(canonical([experiment, config])),
        config=config,
        outcome=outcome,  # type: ignore[arg-type]
        metrics=metrics or {},
        series=series or {},
        arrays=arrays or {},
        provenance=dataclasses.replace(PROVENANCE, **provenance),
    )


def curve(seeds: Iterable[int] = range(3), data: str = "mnist", **provenance: Any) -> list[Record]:
    """Two networks at two noise levels: acc = 1 − alpha / 100 + seed / 1000 (mlp), 0.1 less (perceptron)."""
    return [
        record(
            {"network": network, "alpha": alpha, "data": data, "seed": seed},
            {"acc": 1 - alpha / 100 + seed / 1000 - 0.1 * (network == "perceptron")},
            series={"val": [0.1, 0.2, 0.3 + seed / 10]},
            arrays={"confusion": np.full((2, 2), seed)},
            **provenance,
        )
        for network in ("perceptron", "mlp")
        for alpha in (10, 0)
        for seed in seeds
    ]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one post, `demo`, and nothing published."""
    (tmp_path / "_quarto.yml").write_text("website:\n  repo-url: https://example.org/ten/posts/\n")
    folder = tmp_path / "posts" / "demo"
    folder.mkdir(parents=True)
    front = "---\ntitle: 'A demo: with a colon'\ndate: 2024-06-18\n---"
    cells = [{"cell_type": "raw", "id": "front", "metadata": {}, "source": front.splitlines(keepends=True)}]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "index.ipynb").write_text(json.dumps(notebook))
    return tmp_path


def publish(project: Path, profile: str, records: list[Record]) -> None:
    """Pack records as `posts publish` does."""
    for experiment in {item.experiment for item in records}:
        own = [item for item in records if item.experiment == experiment]
        published.write(project, "demo", profile, experiment, own, of=len(own))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is displayed, instead of being displayed."""
    texts: list[str] = []
    monkeypatch.setattr(lib.reading, "show_markdown", texts.append)
    return texts


@pytest.fixture
def to_html() -> Callable[[str], str]:
    pypandoc = pytest.importorskip("pypandoc")
    return lambda text: pypandoc.convert_text(text, "html5", format="markdown", extra_args=["--wrap=none"])


# --- opening ------------------------------------------------------------------------------------------------


def test_the_reading_path_imports_no_torch_and_little_else() -> None:
    code = (
        "import sys, lib.reading, lib.claims, lib.stats, lib.plots, lib.notebooks, lib.quantities\n"
        "heavy = 'torch pandas matplotlib seaborn papermill nbformat IPython scipy.stats'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_reading_a_post_works_where_torch_cannot_be_imported(project: Path) -> None:
    publish(project, "laptop", curve())
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from lib.reading import open_post\n"
        "post = open_post('demo'); runs = post.runs('curve')\n"
        "print(len(runs.frame), runs.line())"
    )
    environment = {"PATH": "/usr/bin:/bin", "POSTS_ROOT": str(project), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("12 laptop profile · MNIST")


def test_published_reads_the_best_profile_of_each_experiment(project: Path) -> None:
    publish(project, "smoke", [*curve(range(1)), record({"seed": 0}, experiment="other")])
    publish(project, "laptop", curve(range(3)))
    post = open_post("demo", root=project)
    assert post.experiments == ("curve", "other")
    assert (post.runs("curve").profile, len(post.runs("curve"))) == ("laptop", 12)
    assert post.runs("other").profile == "smoke" and post.smoke
    publish(project, "full", curve(range(2)))
    assert open_post("demo", root=project).runs("curve").profile == "full"
    assert post.title == "A demo: with a colon"


@pytest.mark.parametrize(
    ("slug", "profile", "words"),
    [
        ("dema", "published", "demo"),
        ("demo", "Laptop", "published, smoke, laptop, full"),
        ("demo", "", "no profile"),
    ],
)
def test_unknown_posts_and_profiles_are_named_in_one_line(
    project: Path, slug: str, profile: str, words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        open_post(slug, profile, root=project)
    assert "\n" not in str(caught.value)


def test_an_unknown_experiment_lists_those_that_there_are(project: Path) -> None:
    publish(project, "smoke", curve())
    with pytest.raises(Missing, match=r"'curves' \(published\); there are: curve"):
        open_post("demo", root=project).runs("curves")


def test_computing_without_torch_names_the_extra(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lib.reading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[compute\]'"):
        open_post("demo", "smoke", root=project)


def test_a_profile_computes_first_and_reads_what_that_left(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lib.runs import sweep

    monkeypatch.setattr(lib.reading.importlib.util, "find_spec", lambda name: object())
    asked: list[Any] = []

    def compute(slug: str, profile: str, **options: Any) -> sweep.Report:
        asked.append((slug, profile, options["threads"]))
        return sweep.Report({})

    monkeypatch.setattr(sweep, "compute", compute)
    monkeypatch.setattr(sweep, "lookup", lambda *_: {item.key: item for item in curve(range(1))})
    post = open_post("demo", "smoke", root=project, threads=2)
    assert asked == [("demo", "smoke", 2)]
    assert post.runs("curve").profile == "smoke" and len(post.runs("curve")) == 4
    assert capsys.readouterr().out == ""


def test_a_failed_run_is_an_error_in_one_line(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lib.core import Config
    from lib.runs import sweep
    from lib.runs.context import Ending

    class Tiny(Config, post="demo", experiment="tiny"):
        seed: int = 0

    report = sweep.Report(
        {Tiny().key: Tiny()}, endings={Tiny().key: Ending(Tiny().key, "error", error="ValueError:\nno")}
    )
    monkeypatch.setattr(lib.reading.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(sweep, "compute", lambda *_, **__: report)
    with pytest.raises(PostsError, match="^1 of 1 runs failed, first tiny seed=0: ValueError: no$"):
        open_post("demo", "smoke", root=project)


# --- runs ---------------------------------------------------------------------------------------------------


def runs(records: list[Record] | None = None, profile: str = "laptop") -> Runs:
    return Runs("demo", "curve", profile, curve() if records is None else records)  # type: ignore[arg-type]


def test_the_frame_has_one_row_a_run_in_an_order_that_comes_from_the_configs() -> None:
    there = curve()
    frame = runs(there).frame
    assert list(frame.columns) == ["network", "alpha", "data", "seed", "outcome", "acc", "key"]
    assert frame["alpha"].tolist() == [0, 0, 0, 10, 10, 10] * 2
    assert frame["network"].tolist() == ["mlp"] * 6 + ["perceptron"] * 6
    assert runs(there[::-1]).frame.equals(frame)
    assert frame.loc[(frame.network == "mlp") & (frame.alpha == 10), "acc"].tolist() == [0.9, 0.901, 0.902]


def test_failures_are_no_runs_and_a_diverged_one_has_no_metric() -> None:
    there = [
        record({"seed": 0}, {"acc": 0.5}),
        record({"seed": 1}, outcome="diverged"),
        record({"seed": 2}, outcome="error"),
    ]
    frame = runs(there).frame
    assert frame["outcome"].tolist() == ["done", "diverged"]
    assert frame["acc"].isna().tolist() == [False, True]
    assert runs(there).per_seed("acc").isna().tolist() == [False, True]


def test_nested_configs_and_lists_become_columns_and_tuples() -> None:
    source = {"post": "demo", "experiment": "source", "config": {"lr": 0.1, "widths": [4, 2]}}
    found = runs([record({"source": source, "seed": 0}, {"acc": 1.0})])
    assert found.frame.loc[0, "source.lr"] == 0.1
    assert found.frame.loc[0, "source.widths"] == (4, 2)
    assert len(found.where(**{"source.widths": [4, 2]})) == 1


def test_a_metric_must_not_hide_a_field() -> None:
    with pytest.raises(InputError, match="'seed' has the name of a config field"):
        _ = runs([record({"seed": 0}, {"seed": 1.0})]).frame


def test_series_are_long_and_count_from_one() -> None:
    long = runs().series("val")
    assert len(long) == 36
    mine = long[(long.network == "mlp") & (long.alpha == 0) & (long.seed == 2)]
    assert mine["step"].tolist() == [1, 2, 3] and mine["value"].tolist() == [0.1, 0.2, 0.5]
    assert runs().series("val", first=0)["step"].min() == 0
    with pytest.raises(InputError, match="no series 'train'; there are: val"):
        runs().series("train")


def test_arrays_by_key_and_all_of_them() -> None:
    found = runs()
    key = found.one(network="mlp", alpha=0, seed=2).key
    assert found.array(key[:12], "confusion").tolist() == [[2, 2], [2, 2]]
    assert list(found.arrays("confusion")) == found.frame["key"].tolist()
    with pytest.raises(InputError, match="no array 'confused'; there are: confusion"):
        found.array(key, "confused")
    with pytest.raises(Missing, match="0 runs of curve"):
        found.array("xyz", "confusion")


def test_where_narrows_and_refuses_fields_that_do_not_exist() -> None:
    assert len(runs().where(network="mlp", seed=[0, 1])) == 4
    assert len(runs().where(alpha=range(5))) == 6
    assert len(runs().where(network="cnn")) == 0
    assert len(runs([]).where(anything=1)) == 0
    with pytest.raises(InputError, match="no field 'net'; there are: alpha, data, network, outcome, seed"):
        runs().where(net="mlp")
    with pytest.raises(
        InputError, match="3 runs of curve fit network='mlp', alpha=0; exactly one is wanted"
    ) as caught:
        runs().one(network="mlp", alpha=0)
    assert not isinstance(caught.value, Missing)
    with pytest.raises(Missing, match="0 runs of curve fit seed=9"):
        runs().one(seed=9)


def test_per_seed_is_paired_by_its_index_and_refuses_replicates_that_are_none() -> None:
    mlp, perceptron = (runs().where(network=name, alpha=0).per_seed("acc") for name in ("mlp", "perceptron"))
    assert (mlp - perceptron).round(9).to_dict() == {0: 0.1, 1: 0.1, 2: 0.1}
    with pytest.raises(InputError, match="which differ in network$"):
        runs().where(alpha=0).per_seed("acc")
    with pytest.raises(InputError, match="no metric 'loss'; there are: acc"):
        runs().where(network="mlp", alpha=0).per_seed("loss")
    assert len(runs([]).per_seed("acc")) == 0


# --- provenance ---------------------------------------------------------------------------------------------


def test_the_line_says_where_runs_come_from() -> None:
    line = runs().line()
    assert line == "laptop profile · MNIST · 12 runs, 3 seeds · CPU · 2026-11-20 · commit 0123456"
    assert "CIFAR-10 (JPEG)" in runs(curve(data="cifar10-jpeg")).line()
    assert "· somewhere ·" in runs(curve(data="somewhere")).line()


def test_the_line_names_what_differs_and_what_is_dubious() -> None:
    mixed = [
        record({"seed": 0}, commit="aaaaaaaaaa", clean=False, date="2026-11-01T00:00:00+00:00"),
        record({"seed": 1}, outcome="diverged", device="NVIDIA H200"),
    ]
    line = runs(mixed).line()
    for part in (
        "2 runs, 2 seeds",
        "1 diverged",
        "CPU, NVIDIA H200",
        "2026-11-01 to 2026-11-20",
        "commits 0123456, aaaaaaa+",
    ):
        assert f"· {part}" in line


def test_a_smoke_figure_says_so_loudly(
    project: Path, shown: list[str], to_html: Callable[[str], str]
) -> None:
    publish(project, "smoke", curve())
    post = open_post("demo", root=project)
    post.provenance("curve")
    post.banner()
    html = to_html(shown[0])
    assert '<div class="provenance smoke">' in html and "<strong>smoke run" in html
    assert 'class="callout-warning"' in to_html(shown[1])


def test_a_laptop_figure_does_not(project: Path, shown: list[str]) -> None:
    publish(project, "laptop", curve())
    post = open_post("demo", root=project)
    post.banner()
    assert not post.smoke and shown == []
    post.provenance("curve", post.runs("curve").where(network="mlp"))
    assert shown[0].startswith("::: {.provenance}\n") and "smoke" not in shown[0]
    assert "12 runs" in shown[0] and "6 runs" in shown[0]
    with pytest.raises(Missing, match="no runs of curve"):
        post.provenance(post.runs("curve").where(network="cnn"))


# --- excerpts -----------------------------------------------------------------------------------------------


def test_an_excerpt_is_the_files_own_text() -> None:
    found = excerpt("lib.core:InputError")
    lines = (ROOT / "lib/core.py").read_text().splitlines()
    assert found.path == "lib/core.py"
    assert found.text.splitlines() == lines[found.line - 1 : found.line - 1 + len(found.text.splitlines())]
    assert found.text.startswith("class InputError(PostsError, ValueError):")


def test_decorators_belong_to_an_excerpt_and_methods_are_dedented() -> None:
    assert excerpt("lib.stats:Interval").text.startswith("@dataclass(frozen=True)\nclass Interval:")
    assert excerpt("lib.stats:Interval.known").text.startswith("@property\ndef known(self) -> bool:\n    ")
    assert excerpt("lib.core:PROFILES").text.startswith("PROFILES: tuple")


def test_an_excerpt_does_not_import_the_module() -> None:
    code = "import sys; from lib.reading import excerpt as e; e('lib.runs.context:Task'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "lib.runs.context" not in done.stdout.split()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("lib.core", "names no definition"),
        ("os:path", "names no definition"),
        ("lib.nothing:x", "no module lib.nothing"),
        ("lib.core:Confg", "'Confg' is not defined there; there are: .*Config"),
        ("lib.core:Config.keys", "'keys' is not defined there; there are: .*key"),
        ("lib.core:PROFILES.x", "there are: nothing"),
    ],
)
def test_an_excerpt_that_is_not_there_is_named(target: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        excerpt(target)


def test_source_comes_out_of_pandoc_as_folded_highlighted_code(
    project: Path, shown: list[str], to_html: Callable[[str], str]
) -> None:
    publish(project, "laptop", curve())
    open_post("demo", root=project).source(
        "lib.core:InputError", "lib.core:PostsError", summary="Errors < all"
    )
    html = to_html(shown[0])
    assert html.startswith('<details class="code-fold">\n<summary>')
    assert "Errors &lt; all" in html and html.rstrip().endswith("</details>")
    assert html.count("sourceCode python") >= 2 and '<span class="kw">class</span>' in html
    line = excerpt("lib.core:InputError").line
    assert f'href="https://example.org/ten/posts/blob/main/lib/core.py#L{line}"' in html
    assert "```" not in html and ":::" not in html


def test_without_a_repository_there_is_no_link(project: Path) -> None:
    (project / "_quarto.yml").write_text("project:\n  type: website\n")
    assert "](" not in source_markdown(["lib.core:InputError"], "Errors", project)


# --- words --------------------------------------------------------------------------------------------------


def test_say_fills_in_numbers(project: Path, shown: list[str]) -> None:
    publish(project, "laptop", curve())
    post = open_post("demo", root=project)
    post.say("[{acc:.1%}]{{.number}} of {n} at $x^{{2}}$", acc=Interval(0.5, 0.25, 0.75, 3), n=4)
    post.say("{a:.1%} {b:+.2f} {c:,} {d:>3}|{e}", a=np.float32(0.25), b=-1.5, c=1234, d="x", e=-0.5)
    assert shown == [
        "[50.0\u00a0% [25.0, 75.0]]{.number} of 4 at $x^{2}$",
        "25.0\u00a0% −1.50 1,234   x|-0.5",
    ]


@pytest.mark.parametrize(
    ("template", "values", "words"),
    [
        ("{acc}", {}, "no value for 'acc'"),
        ("nothing", {"acc": 1}, "'acc' is given and not used"),
        ("{acc:.2q}", {"acc": 1.0}, "cannot be filled in"),
        ("{acc", {"acc": 1.0}, "cannot be filled in"),
        ("{} {acc}", {"acc": 1.0}, "no value for ''"),
        (r"$\frac{1}{2}$", {}, "no value for '1', '2'"),
    ],
)
def test_a_sentence_that_cannot_be_filled_in_is_refused(
    template: str, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        filled(template, values)


def test_front_matter_that_cannot_be_read_names_the_file(project: Path) -> None:
    path = project / "posts" / "demo" / "index.ipynb"
    assert front_matter(path.with_name("absent.ipynb")) == {}
    path.write_text(path.read_text().replace("'A demo: with a colon'", "A demo: with a colon"))
    with pytest.raises(InputError, match=r"index\.ipynb: its front matter cannot be read"):
        front_matter(path)
    path.write_text("no json")
    with pytest.raises(InputError, match=r"index\.ipynb"):
        front_matter(path)


def test_what_is_displayed_is_the_same_every_time(project: Path, shown: list[str]) -> None:
    publish(project, "laptop", curve())
    for _ in range(2):
        post: Post = open_post("demo", root=project)
        post.provenance("curve")
        post.source("lib.core:Config.key")
    assert shown[:2] == shown[2:]


def test_without_claims_the_table_is_refused(project: Path) -> None:
    publish(project, "laptop", curve())
    with pytest.raises(InputError, match="claims.yml is missing or empty"):
        open_post("demo", root=project).claims()


def test_markdown_is_displayed_as_markdown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    display = pytest.importorskip("IPython.display")
    seen: list[Any] = []
    monkeypatch.setattr(display, "display", seen.append)
    lib.reading.show_markdown("**x**")
    assert isinstance(seen[0], display.Markdown) and seen[0].data == "**x**"
