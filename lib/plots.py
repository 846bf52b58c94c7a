"""One look for all figures, on the light page and on the dark one.

    def draw(fig):                                        # called once for each mode, with an empty figure
        ax = fig.subplots()
        band(ax, frame, "alpha", "test_acc", hue="network")
        ax.set(xlabel="noisy labels per clean one", ylabel="test accuracy")
        ax.legend()

    show(draw, width=680, height=400)                     # in a cell with `#| renderings: [light, dark]`

Sizes are CSS pixels: an image 680 wide fills the column, is drawn at twice that, and says so in its metadata.
Lines take their colours from the cycle (`C0` to `C7`); anything else that has a colour must take it from
`colours(fig)` or `ink(fig)`, so that it shows on both pages. The same figure gives the same bytes.

The eight colours keep a contrast of at least 3 : 1 to their page and stay apart for readers who see no red or
no green (simulated after Machado, Oliveira and Fernandes, 2009); markers tell lines apart without any colour.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lib.core import InputError, array_digest, canonical, sha256
from lib.stats import LEVEL, t_interval

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Mode = Literal["light", "dark"]
MODES: tuple[Mode, ...] = ("light", "dark")

PAGE: dict[Mode, str] = {"light": "#ffffff", "dark": "#16181d"}
"""The page's background, and the figures'; the site's stylesheet has the same."""
INK: dict[Mode, str] = {"light": "#24272e", "dark": "#d9dce3"}
"""Text and axes."""
GRID: dict[Mode, str] = {"light": "#e3e5ea", "dark": "#31353e"}
"""Grid lines."""
COLOURS: dict[Mode, tuple[str, ...]] = {
    "light": ("#4969ec", "#e3660c", "#124017", "#a24680", "#695b08", "#109ec8", "#640f89", "#b9757d"),
    "dark": ("#6e8dff", "#e19023", "#65fbd8", "#915876", "#ece15b", "#73c5e4", "#605cc7", "#cf3007"),
}
"""The cycle, the same hues in both modes, in the same order."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

SCALE = 2
"""Device pixels for each CSS pixel."""
_CSS_INCH = 96
_CSS_POINT = 72 / _CSS_INCH

Draw = Callable[["Figure"], Any]


def parameters(mode: Mode) -> dict[str, Any]:
    """Matplotlib's settings for a mode. Only fonts that come with Matplotlib, the same everywhere."""
    if mode not in MODES:
        raise InputError(f"no mode {mode!r}; there are: {', '.join(MODES)}")
    from cycler import cycler

    page, ink, grid = PAGE[mode], INK[mode], GRID[mode]
    return {
        "font.family": ["DejaVu Sans"],
        "mathtext.fontset": "dejavusans",
        "font.size": 13 * _CSS_POINT,
        "axes.titlesize": 14 * _CSS_POINT,
        "axes.labelsize": 13 * _CSS_POINT,
        "xtick.labelsize": 12 * _CSS_POINT,
        "ytick.labelsize": 12 * _CSS_POINT,
        "legend.fontsize": 12 * _CSS_POINT,
        "legend.title_fontsize": 12 * _CSS_POINT,
        "figure.titlesize": 15 * _CSS_POINT,
        "axes.titlelocation": "left",
        "figure.facecolor": page,
        "savefig.facecolor": page,
        "axes.facecolor": page,
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        "axes.edgecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "legend.labelcolor": ink,
        "legend.frameon": False,
        "grid.color": grid,
        "grid.linewidth": 1.0 * _CSS_POINT,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 1.0 * _CSS_POINT,
        "axes.prop_cycle": cycler(color=COLOURS[mode]),
        "patch.edgecolor": page,
        "hatch.color": ink,
        "boxplot.flierprops.color": ink,
        "boxplot.boxprops.color": ink,
        "boxplot.whiskerprops.color": ink,
        "boxplot.capprops.color": ink,
        "lines.linewidth": 2.0 * _CSS_POINT,
        "lines.markersize": 6.0 * _CSS_POINT,
        "lines.markeredgewidth": 0.0,
        "image.cmap": "viridis",
        "image.interpolation": "nearest",
        "axes.unicode_minus": True,
        "axes.formatter.use_mathtext": True,
        "figure.dpi": _CSS_INCH,
        "savefig.dpi": _CSS_INCH * SCALE,
        "svg.hashsalt": "posts",
    }


@contextmanager
def style(mode: Mode) -> Iterator[None]:
    """Within it, Matplotlib draws for the page of `mode`, whatever was set before."""
    import matplotlib.style

    with matplotlib.style.context(["default", parameters(mode)]):
        yield


# --- drawing ------------------------------------------------------------------------------------------------


def mode_of(fig: Figure) -> Mode:
    """Which page a figure is drawn for."""
    return getattr(fig, "_posts_mode", "light")


def ink(fig: Figure) -> str:
    """The colour of text and axes on this figure's page, for reference lines and annotations."""
    return INK[mode_of(fig)]


def colours(fig: Figure) -> tuple[str, ...]:
    """The eight colours for this figure's page."""
    return COLOURS[mode_of(fig)]


def render(draw: Draw, mode: Mode, width: float, height: float, *, scale: float = SCALE) -> tuple[bytes, str]:
    """PNG bytes of what `draw` draws, and its description; sizes in CSS pixels, `scale` dots each way."""
    return _rendered(draw, mode, width, height, scale)[1:]


def _rendered(
    draw: Draw, mode: Mode, width: float, height: float, scale: float, like: Figure | None = None
) -> tuple[Figure, bytes, str]:
    """As `render`, the figure before it; `like`: the same one in the other mode, whose layout fits."""
    if not (width > 0 and height > 0):
        raise InputError(f"a figure of {width} × {height} pixels cannot be drawn")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style(mode):
        # Not pyplot's: nothing is registered anywhere, so there is nothing to close and no backend to choose.
        fig = Figure(figsize=(width / _CSS_INCH, height / _CSS_INCH), layout="constrained")
        FigureCanvasAgg(fig)
        fig._posts_mode = mode  # type: ignore[attr-defined]
        draw(fig)
        fig.set_dpi(_CSS_INCH * scale)
        _lay_out(fig, like)
        out = io.BytesIO()
        fig.savefig(out, format="png", dpi=fig.dpi, metadata={"Software": None})
        return fig, out.getvalue(), describe(fig)


def _lay_out(fig: Figure, like: Figure | None) -> None:
    """Place the axes, once and for all: savefig would go through the whole figure a first time for it.

    Finding places takes as long as drawing, and colours change nothing in them, so those of `like` are taken over where
    there is nothing to place but axes and titles.
    """
    engine = fig.get_layout_engine()
    if engine is None:
        return
    bars = any(hasattr(ax, "_colorbar_info") for ax in fig.axes)
    if like is None or len(like.axes) != len(fig.axes) or fig.subfigs or bars:
        engine.execute(fig)
    else:
        for ax, other in zip(fig.axes, like.axes, strict=True):
            ax.set_position(other.get_position(original=True), which="original")
        for name in ("_suptitle", "_supxlabel", "_supylabel"):
            if (title := getattr(fig, name)) is not None:
                title.set_position(getattr(like, name).get_position())
    fig.set_layout_engine(None)


def describe(fig: Figure) -> str:
    """What a figure shows, for readers without images, with a digest of the numbers that were drawn.

    The digest is over data rounded to 6 digits, without style, so it is the same in both modes, and comparing
    the text outputs of two executions (nbval does) compares the numbers behind the figures.
    """
    import numpy as np

    parts: list[str] = []
    data: list[str] = []
    for ax in fig.axes:
        arrays = [np.asarray(line.get_xydata(), dtype=float) for line in ax.lines]
        for item in ax.collections:
            arrays.append(np.ma.filled(np.ma.asarray(item.get_offsets(), dtype=float), np.nan))
            arrays.extend(np.asarray(path.vertices, dtype=float) for path in item.get_paths())
        arrays.extend(p.get_patch_transform().transform(p.get_path().vertices) for p in ax.patches)
        arrays.extend(
            np.ma.filled(np.ma.asarray(image.get_array(), dtype=float), np.nan) for image in ax.images
        )
        data.extend(array_digest(_rounded(array)) for array in arrays)
        parts.append(
            f"{len(ax.lines)} lines, {len(ax.collections) + len(ax.patches) + len(ax.images)} other shapes"
        )
    return f"Figure: {'; '.join(parts)}; data {sha256(canonical(data))[:12]}"


def _rounded(array: Any) -> Any:
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.where((array == 0) | ~np.isfinite(array), 0.0, 5 - np.floor(np.log10(np.abs(array))))
    return np.round(array * 10.0**power) + 0.0


def show(draw: Draw, *, width: float = 680, height: float = 400) -> None:
    """Display what `draw` draws, for the light page and then for the dark one.

    draw: takes an empty figure. width, height: in CSS pixels; the column is 680 wide.
    """
    from IPython.display import display

    light = _rendered(draw, "light", width, height, SCALE)
    dark = _rendered(draw, "dark", width, height, SCALE, like=light[0])
    for (_, png, text), mode in ((light, "light"), (dark, "dark")):
        size = {"image/png": {"width": round(width), "height": round(height)}}
        content = {"image/png": base64.b64encode(png).decode(), "text/plain": f"{text} ({mode})"}
        display(content, metadata=size, raw=True)


def save(
    draw: Draw, path: Path, *, width: int = 1200, height: int = 630, mode: Mode = "light", scale: float = 2
) -> None:
    """Write what `draw` draws as a PNG of width × height dots, by default the size of a social card.

    scale: dots for each CSS pixel, so that text stays readable when the card is shown small.
    """
    from lib.runs.files import write_whole

    write_whole(path, render(draw, mode, width / scale, height / scale, scale=scale)[0])


# --- helpers ------------------------------------------------------------------------------------------------


def seeds(
    ax: Axes,
    frame: pd.DataFrame,
    x: str,
    y: str,
    hue: str | None = None,
    *,
    order: Sequence[Any] | None = None,
    labels: Mapping[Any, str] | None = None,
    first: int = 0,
    **line: Any,
) -> pd.DataFrame:
    """As `band`, but with a small dot for each seed instead of an interval: for few seeds, whose t interval fills the axes.

    Returns what is drawn: hue (where given), x, mean, n.
    """
    import pandas as pd

    for name in (x, y, *([hue] if hue else [])):
        if name not in frame:
            raise InputError(f"no column {name!r}; there are: {', '.join(map(str, frame.columns))}")
    values: list[Any] = list(order) if order is not None else sorted(frame[hue].unique()) if hue else [None]
    tables = []
    for i, value in enumerate(values, first):
        part = (frame if hue is None else frame[frame[hue] == value]).dropna(subset=[y])
        if not len(part):
            raise InputError(f"no row has {hue}={value!r} and a number in {y}")
        table = part.groupby(x)[y].agg(mean="mean", n="count").reset_index()
        colour = f"C{i % len(COLOURS['light'])}"
        label = (labels or {}).get(value, None if value is None else str(value))
        look = {"color": colour, "marker": MARKERS[i % len(MARKERS)], "label": label} | line
        ax.plot(table[x], table["mean"], **look)
        ax.scatter(part[x], part[y], s=9, color=look["color"], alpha=0.55, linewidth=0)
        tables.append(table if hue is None else table.assign(**{hue: value}))
    out = pd.concat(tables, ignore_index=True)
    return out[[*([hue] if hue else []), x, "mean", "n"]]


def band(
    ax: Axes,
    frame: pd.DataFrame,
    x: str,
    y: str,
    hue: str | None = None,
    *,
    order: Sequence[Any] | None = None,
    labels: Mapping[Any, str] | None = None,
    first: int = 0,
    level: float = LEVEL,
    markers: bool = True,
    **line: Any,
) -> pd.DataFrame:
    """Draw the mean of column `y` over seeds against column `x` as a line with its t interval as a band.

    hue: a column, one line for each of its values, in the order of `order` (default: sorted), called as
    `labels` says. first: number of the first colour and marker. line: passed to `Axes.plot`. Rows where `y`
    is NaN (diverged runs) are left out, so n says how many remain; with one seed there is a line and no band.

    Returns what is drawn: hue (where given), x, mean, low, high, n. Raises InputError for a column that is
    not there, and where a seed has several rows at one point, for they are no replicates: narrow the frame
    first.
    """
    import numpy as np
    import pandas as pd

    for name in (x, y, *([hue] if hue else [])):
        if name not in frame:
            raise InputError(f"no column {name!r}; there are: {', '.join(map(str, frame.columns))}")
    by = [*([hue] if hue else []), x]
    if "seed" in frame and (repeated := frame.duplicated([*by, "seed"])).any():
        row = frame[repeated].iloc[0]
        where = ", ".join(f"{name}={row[name]!r}" for name in [*by, "seed"])
        raise InputError(f"several rows at {where}: choose among them before they are averaged")
    values: list[Any] = list(order) if order is not None else sorted(frame[hue].unique()) if hue else [None]
    rows = []
    for i, value in enumerate(values, first):
        part = frame if hue is None else frame[frame[hue] == value]
        if not len(part):
            raise InputError(
                f"no row has {hue}={value!r}; there are: {', '.join(map(repr, frame[hue or x].unique()))}"
            )
        drawn = []
        for at, group in part.dropna(subset=[y]).groupby(x, sort=True):
            found = t_interval(group[y].to_numpy(dtype=float), level=level)
            drawn.append({"x": at, "mean": found.mean, "low": found.low, "high": found.high, "n": found.n})
        table = pd.DataFrame(drawn, columns=["x", "mean", "low", "high", "n"])
        colour = f"C{i % len(COLOURS['light'])}"
        settings = {
            "color": colour,
            "label": (labels or {}).get(value, None if value is None else str(value)),
        }
        if markers:
            settings["marker"] = MARKERS[i % len(MARKERS)]
        ax.plot(table["x"], table["mean"], **(settings | line))
        known = np.isfinite(table["low"].to_numpy(dtype=float))
        if known.any():
            low, high = (
                table[end].where(known, table["mean"]).to_numpy(dtype=float) for end in ("low", "high")
            )
            shade = {"color": line.get("color", colour), "alpha": 0.22, "linewidth": 0}
            ax.fill_between(table["x"], low, high, where=known, **shade)
        rows.append(table if hue is None else table.assign(**{hue: value}))
    out = pd.concat(rows, ignore_index=True).rename(columns={"x": x})
    return out[[*by, "mean", "low", "high", "n"]]
