"""One look on two pages: colours that can be told apart, images that say their size, the same bytes every
time."""

from __future__ import annotations

import base64
import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib import plots
from lib.core import InputError
from lib.plots import COLOURS, GRID, INK, MODES, PAGE, Mode
from lib.stats import t_interval

Image = pytest.importorskip("PIL.Image")

# --- colours ------------------------------------------------------------------------------------------------


def linear(colour: str) -> np.ndarray:
    """Linear sRGB (3,) of `#rrggbb`."""
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    """WCAG 2's contrast ratio."""
    first, second = sorted((float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (a, b)), reverse=True)
    return (first + 0.05) / (second + 0.05)


# Severity 1 of Machado, Oliveira and Fernandes (2009), applied to linear RGB.
SIGHT = {
    "full": np.eye(3),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "no blue": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Ottosson's OKLab of linear sRGB."""
    lms = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return np.asarray(lab @ np.cbrt(lms @ rgb))


def nearest(colours: tuple[str, ...], sight: str) -> float:
    seen = [oklab(np.clip(SIGHT[sight] @ linear(colour), 0, 1)) for colour in colours]
    return min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2))


def test_the_yardsticks_are_right() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert oklab(linear("#ffffff")) == pytest.approx([1, 0, 0], abs=1e-4)
    # Matplotlib's own cycle has two colours that readers without green cannot tell apart.
    tab10 = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f")
    assert nearest(tab10, "no green") < 0.06


@pytest.mark.parametrize("mode", MODES)
def test_every_colour_shows_on_its_page(mode: Mode) -> None:
    assert len(set(COLOURS[mode])) == len(COLOURS[mode]) == 8 == len(set(plots.MARKERS))
    for colour in COLOURS[mode]:
        assert contrast(colour, PAGE[mode]) >= 3
    assert contrast(INK[mode], PAGE[mode]) >= 7
    assert contrast(GRID[mode], PAGE[mode]) < 2  # there, and behind


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("sight", "apart"), [("full", 0.1), ("no red", 0.1), ("no green", 0.1), ("no blue", 0.08)]
)
def test_colours_stay_apart_for_every_sight(mode: Mode, sight: str, apart: float) -> None:
    assert nearest(COLOURS[mode], sight) >= apart


# --- images -------------------------------------------------------------------------------------------------


def line(fig: Any) -> None:
    ax = fig.subplots()
    ax.plot([0, 1, 2], [0.1, 0.4, 0.2], label="α = 50")
    ax.legend()


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def rgb(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


@pytest.mark.parametrize("mode", MODES)
def test_an_image_has_the_pages_colour_and_twice_its_size(mode: Mode) -> None:
    png, _ = plots.render(line, mode, 300, 200)
    image = pixels(png)
    assert image.shape == (400, 600, 3)
    for corner in (image[0, 0], image[0, -1], image[-1, 0], image[-1, -1]):
        assert corner.tolist() == rgb(PAGE[mode])
    assert (image == rgb(COLOURS[mode][0])).all(-1).any()
    other: Mode = "dark" if mode == "light" else "light"
    assert not (image == rgb(COLOURS[other][0])).all(-1).any()


def test_the_same_figure_gives_the_same_bytes_without_a_date_or_version() -> None:
    first, second = (plots.render(line, "light", 300, 200)[0] for _ in range(2))
    assert first == second
    assert set(Image.open(io.BytesIO(first)).info) <= {"dpi"}


def test_settings_of_others_neither_enter_nor_are_changed() -> None:
    import matplotlib as mpl

    clean = plots.render(line, "light", 300, 200)[0]
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 30, "axes.grid": False}):
        assert plots.render(line, "light", 300, 200)[0] == clean
        assert mpl.rcParams["lines.linewidth"] == 9
    backend = mpl.get_backend()
    with plots.style("dark"):
        assert mpl.rcParams["axes.facecolor"] == PAGE["dark"]
        assert mpl.get_backend() == backend
    assert mpl.rcParams["axes.facecolor"] != PAGE["dark"]


def test_settings_are_put_back_when_drawing_fails() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    with pytest.raises(ZeroDivisionError):
        plots.render(lambda fig: 1 / 0, "dark", 300, 200)
    assert dict(mpl.rcParams) == before


def test_show_displays_light_then_dark_with_sizes_and_leaves_no_figure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    display = pytest.importorskip("IPython.display")
    seen: list[tuple[Any, Any]] = []
    monkeypatch.setattr(display, "display", lambda data, *, metadata, raw: seen.append((data, metadata)))
    modes: list[Mode] = []

    def draw(fig: Any) -> None:
        modes.append(plots.mode_of(fig))
        fig.subplots().axhline(0.5, color=plots.ink(fig))
        assert plots.ink(fig) == INK[modes[-1]] and plots.colours(fig) == COLOURS[modes[-1]]

    plots.show(draw, width=340, height=200)
    assert modes == ["light", "dark"]
    assert [meta for _, meta in seen] == [{"image/png": {"width": 340, "height": 200}}] * 2
    for (data, _), mode in zip(seen, MODES, strict=True):
        image = pixels(base64.b64decode(data["image/png"]))
        assert image.shape == (400, 680, 3) and image[0, 0].tolist() == rgb(PAGE[mode])
        assert data["text/plain"].startswith("Figure: ") and data["text/plain"].endswith(f"({mode})")
    assert pyplot.get_fignums() == []


def titled(fig: Any) -> None:
    axes = fig.subplots(2, 2, sharex=True)
    for ax in axes.flat:
        ax.plot([1, 1000], [0.001, 1], label="a rather long label")
        ax.set(ylabel="loss", yscale="log", xlabel="step")
    fig.suptitle("A title")
    fig.supylabel("of the whole figure")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center")


def with_a_bar(fig: Any) -> None:
    ax = fig.subplots()
    fig.colorbar(ax.imshow([[0.0, 1.0], [2.0, 3.0]]), ax=ax, label="height")


def wider_in_the_dark(fig: Any) -> None:
    fig.subplots(1, MODES.index(plots.mode_of(fig)) + 1)


@pytest.mark.parametrize("draw", [line, titled, with_a_bar, wider_in_the_dark])
def test_the_dark_figure_is_laid_out_as_if_it_stood_alone(
    draw: plots.Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    display = pytest.importorskip("IPython.display")
    seen: list[Any] = []
    monkeypatch.setattr(display, "display", lambda data, **_: seen.append(data["image/png"]))
    plots.show(draw, width=340, height=260)
    assert base64.b64decode(seen[1]) == plots.render(draw, "dark", 340, 260)[0]


def test_a_card_has_exactly_its_size(tmp_path: Path) -> None:
    plots.save(line, tmp_path / "card.png")
    assert pixels((tmp_path / "card.png").read_bytes()).shape == (630, 1200, 3)


def test_the_description_changes_with_the_numbers_and_not_with_the_look() -> None:
    def draw(value: float, colour: str) -> Any:
        def inner(fig: Any) -> None:
            ax = fig.subplots()
            ax.plot([0, 1], [0, value], color=colour)
            ax.fill_between([0, 1], [0, 0], [1, value], color=colour)
            ax.bar([0, 1], [1, value], color=colour)
            ax.imshow(np.array([[0.0, value]]))
            ax.scatter([0, 1], [value, 1], color=colour)

        return inner

    said = {
        (value, colour, mode): plots.render(draw(value, colour), mode, 200, 200)[1]
        for value in (0.5, 0.50001)
        for colour in ("C0", "C1")
        for mode in MODES
    }
    assert len({text for (value, *_), text in said.items() if value == 0.5}) == 1
    assert len(set(said.values())) == 2
    assert said[0.5, "C0", "light"].startswith("Figure: 1 lines, 5 other shapes; data ")


@pytest.mark.parametrize("size", [(0, 100), (100, -1)])
def test_a_figure_without_size_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="cannot be drawn"):
        plots.render(line, "light", *size)
    with pytest.raises(InputError, match="there are: light, dark"):
        plots.parameters("sepia")  # type: ignore[arg-type]


# --- bands --------------------------------------------------------------------------------------------------


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"network": name, "alpha": alpha, "seed": seed, "acc": rng.normal(0.5, 0.1)}
        for name in ("mlp", "cnn")
        for alpha in (50, 0)
        for seed in range(4)
    )


def axes() -> Any:
    from matplotlib.figure import Figure

    return Figure().subplots()


def test_a_band_is_the_t_interval_over_seeds() -> None:
    data, ax = frame(), axes()
    table = plots.band(ax, data, "alpha", "acc", "network", labels={"mlp": "MLP"})
    assert table[["network", "alpha"]].values.tolist() == [["cnn", 0], ["cnn", 50], ["mlp", 0], ["mlp", 50]]
    for row in table.itertuples():
        there = data[(data.network == row.network) & (data.alpha == row.alpha)].acc
        wanted = t_interval(there.to_numpy())
        assert (row.mean, row.low, row.high, row.n) == (wanted.mean, wanted.low, wanted.high, 4)
    assert [item.get_label() for item in ax.lines] == ["cnn", "MLP"]
    assert [item.get_color() for item in ax.lines] == ["C0", "C1"]
    drawn = ax.collections[0].get_paths()[0].vertices
    assert drawn[:, 1].min() == pytest.approx(table.low[:2].min())
    assert drawn[:, 1].max() == pytest.approx(table.high[:2].max())


def test_bands_do_not_depend_on_the_order_of_rows_or_on_a_global_generator() -> None:
    data = frame()
    first = plots.band(axes(), data, "alpha", "acc", "network")
    np.random.seed(3)  # noqa: NPY002
    second = plots.band(axes(), data.sample(frac=1, random_state=1), "alpha", "acc", "network")
    pd.testing.assert_frame_equal(first, second, rtol=1e-12)


def test_order_decides_which_lines_there_are_and_first_their_colours() -> None:
    ax = axes()
    table = plots.band(ax, frame(), "alpha", "acc", "network", order=["mlp"], first=3, linestyle="--")
    assert table.network.unique().tolist() == ["mlp"]
    assert (ax.lines[0].get_color(), ax.lines[0].get_marker(), ax.lines[0].get_linestyle()) == (
        "C3",
        "D",
        "--",
    )


def test_one_seed_is_a_line_without_a_band_and_diverged_runs_are_not_counted() -> None:
    ax, data = axes(), frame().query("network == 'mlp'")
    plots.band(ax, data[data.seed == 0], "alpha", "acc")
    assert len(ax.lines) == 1 and len(ax.collections) == 0
    data.loc[(data.alpha == 0) & (data.seed > 0), "acc"] = np.nan
    assert plots.band(axes(), data, "alpha", "acc").n.tolist() == [1, 4]


def test_what_is_no_replicate_is_refused() -> None:
    with pytest.raises(InputError, match=r"several rows at alpha=.*50.*, seed=.*0"):
        plots.band(axes(), frame(), "alpha", "acc")
    with pytest.raises(InputError, match="no column 'net'; there are: network, alpha, seed, acc"):
        plots.band(axes(), frame(), "alpha", "acc", "net")
    with pytest.raises(InputError, match="no row has network='rnn'; there are: 'mlp', 'cnn'"):
        plots.band(axes(), frame(), "alpha", "acc", "network", order=["rnn"])


# --- seeds --------------------------------------------------------------------------------------------------


def test_seeds_are_dots_around_the_line_of_their_means() -> None:
    data, ax = frame(), axes()
    data.loc[(data.network == "cnn") & (data.alpha == 0) & (data.seed > 1), "acc"] = np.nan
    table = plots.seeds(ax, data, "alpha", "acc", "network", labels={"mlp": "MLP"})
    assert table[["network", "alpha", "n"]].values.tolist() == [
        ["cnn", 0, 2],
        ["cnn", 50, 4],
        ["mlp", 0, 4],
        ["mlp", 50, 4],
    ]
    assert table["mean"].to_list() == pytest.approx(data.groupby(["network", "alpha"]).acc.mean().to_list())
    assert [item.get_label() for item in ax.lines] == ["cnn", "MLP"]
    assert [len(dots.get_offsets()) for dots in ax.collections] == [6, 8]
    assert plots.seeds(axes(), data, "alpha", "acc", "network", order=["mlp"], first=3).n.tolist() == [4, 4]


def test_seeds_of_what_is_not_there() -> None:
    with pytest.raises(InputError, match="no column 'net'; there are: network, alpha, seed, acc"):
        plots.seeds(axes(), frame(), "alpha", "acc", "net")
    with pytest.raises(InputError, match="no row has network='rnn'"):
        plots.seeds(axes(), frame(), "alpha", "acc", "network", order=["rnn"])
