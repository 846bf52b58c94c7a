"""The site's pages by the embedded renderer and by Quarto.

    posts bench site_build       # where quarto is on the PATH

Both sides do what `posts site` does with every notebook executed before: all pages from their sources, the listing, the
feed, the index of the search, and the check of the result. The embedded renderer's kept pages are taken away before each
turn, so that it renders all of them; Quarto has no such cache. The sides take turns and swap who goes first. Reported: the
medians of seconds by the clock, and the median of the paired ratios with a bootstrap interval.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib import bench
from lib.core import InputError
from lib.project import root
from lib.site import quarto
from lib.site.build import WORK, build

NAME = "site_build"
TITLE = "All pages of this site, against quarto render"


def run(*, repeats: int = 5, threads: int = 1) -> dict[str, Any]:
    """One row. threads: pages that the embedded renderer makes side by side. Raises InputError where Quarto is missing or
    too old."""
    if not quarto.usable():
        raise InputError(
            f"the peer is not here: quarto {'.'.join(map(str, quarto.OLDEST))} or newer has to be on the PATH"
        )
    project = root()
    with tempfile.TemporaryDirectory(prefix="site-") as made:
        pages = build(project, renderer="embedded", out=Path(made) / "first").pages  # executes what has to be

        def side(renderer: Any) -> Callable[[], None]:
            def rendered() -> None:
                shutil.rmtree(project / WORK / "pages", ignore_errors=True)
                build(project, renderer=renderer, jobs=threads, out=Path(made) / renderer)

            return rendered

        seconds, _ = bench.in_turn(side("embedded"), side("quarto"), repeats)
    case = f"{pages} pages, notebooks executed before"
    return {
        "rows": [{"case": case, "unit": "s", "n": repeats, **bench.paired(seconds)}],
        "notes": [
            f"the embedded renderer with {threads} page(s) at once, Quarto as it chooses",
            "each side indexes and checks its site, as `posts site` does",
        ],
        "versions": {"quarto": ".".join(map(str, quarto.version() or ()))},
    }
