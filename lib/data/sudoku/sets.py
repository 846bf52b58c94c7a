"""The sets of puzzles by name: generated ones, the real lists of 9 × 9, Sudoku-Extreme; and how a set is divided.

    from lib import data

    data.load("sudoku-6x6").puzzles                        # uint8, puzzles × 36
    parts = divide(data.load("sudoku-hardest"), {"train": 1000, "test": 5000}, seed=0)
    parts["test"].solutions                                # solved, each shown to have one solution

The lists are in the order of their makers, with clues in favoured cells: `divide` shuffles the puzzles and moves each by a
random symmetry first. No puzzle of one part is equivalent to one of another.

Sources: generated sets: ours. The lists: tdoku's benchmark data (github.com/t-dillon/tdoku), from Gordon Royle's and the
enjoysudoku forum's collections, magictour, and Serg's benchmark. Sudoku-Extreme: the hub's `sapientinc/sudoku-extreme`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.core import InputError, array_digest, sha256
from lib.data.sudoku.grids import SHAPES, Grids, Shape, checked, parse

SEED = 0
GENERATED = {"4x4": 4_000, "6x6": 6_000, "9x9": 3_000}
"""Puzzles of the generated sets."""


@dataclass(frozen=True)
class PuzzleSet:
    """Puzzles of one shape.

    puzzles: uint8, n × cells, 0 for a blank. solutions: the same, where they are known, else None.
    """

    name: str
    title: str
    shape: Shape
    puzzles: Grids
    solutions: Grids | None = None

    def __len__(self) -> int:
        return len(self.puzzles)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any puzzle."""
        return sha256(f"{self.shape.name} {array_digest(self.puzzles)}")[:16]


@dataclass(frozen=True)
class Part:
    """Solved puzzles, n × cells each: one solution a puzzle."""

    puzzles: Grids
    solutions: Grids


# --- dividing --------------------------------------------------------------------------------------------------------


def divide(found: PuzzleSet, sizes: Mapping[str, int], seed: int) -> dict[str, Part]:
    """Parts of these sizes, shuffled, each puzzle under a random symmetry, none equivalent to one of another part.

    Classes of equivalent puzzles are dealt out whole. Puzzles without a solution in the set are
    solved. Raises InputError where one does not have exactly one solution (`sudoku-several` is no set to divide), and
    where there are too few puzzles for the sizes.
    """
    import torch

    from lib.data.sudoku.equivalence import classes
    from lib.data.sudoku.symmetries import Symmetries

    wanted = sum(sizes.values())
    if not sizes or min(sizes.values()) < 0 or not 1 <= wanted <= len(found):
        raise InputError(f"{dict(sizes)} puzzles of {found.name} are wanted, which has {len(found)}")
    seeds = np.random.SeedSequence([seed, *map(ord, "sudoku")])
    rng = np.random.default_rng(seeds)
    chosen = rng.permutation(len(found))[: 2 * wanted]  # more than needed: equivalent ones may be left out
    puzzles = found.puzzles[chosen]
    solutions = _solutions(found, chosen)
    names = classes(puzzles, solutions, found.shape)
    owners = _dealt(names, list(sizes.values()), rng)
    moves = Symmetries.draw(
        len(puzzles), found.shape, torch.Generator().manual_seed(int(seeds.generate_state(1)[0]))
    )
    puzzles, solutions = (moves.apply(torch.from_numpy(grids)).numpy() for grids in (puzzles, solutions))
    parts = {}
    for number, (part, size) in enumerate(sizes.items()):
        own = np.flatnonzero(owners == number)[:size]
        if len(own) < size:
            raise InputError(
                f"{found.name} has {len(own)} puzzles for the part {part!r} that are equivalent to none elsewhere; "
                f"{size} are wanted"
            )
        parts[part] = Part(puzzles[own], solutions[own])
    return parts


def _dealt(names: np.ndarray, sizes: list[int], rng: np.random.Generator) -> np.ndarray:
    """Which part each puzzle is for: whole classes in random order, each to the part that lacks the largest share."""
    kinds, of, counts = np.unique(names, return_inverse=True, return_counts=True)
    owner = np.zeros(len(kinds), np.int64)
    lacking = [1.0 if size else -np.inf for size in sizes]
    for kind in rng.permutation(len(kinds)):
        part = lacking.index(max(lacking))
        owner[kind] = part
        lacking[part] -= counts[kind] / sizes[part]
    return owner[of]


def _solutions(found: PuzzleSet, chosen: np.ndarray) -> Grids:
    if found.solutions is not None:
        return found.solutions[chosen]
    from lib.data.sudoku.solver import solve

    solved = solve(found.puzzles[chosen], found.shape)
    wrong = np.flatnonzero(~solved.unique)
    if len(wrong):
        count = "no" if solved.counts[wrong[0]] == 0 else "more than one"
        raise InputError(
            f"{len(wrong)} of {len(chosen)} puzzles of {found.name} do not have exactly one solution; "
            f"number {int(chosen[wrong[0]])} has {count}"
        )
    return solved.solutions


def thinned(part: Part, seed: int) -> Grids:
    """Each puzzle without one of its clues, chosen at random: several solutions, where the puzzles are minimal."""
    draws = np.random.default_rng([seed, *map(ord, "thin")]).random(part.puzzles.shape)
    out = part.puzzles.copy()
    out[np.arange(len(out)), np.where(out > 0, draws, -1.0).argmax(1)] = 0
    return out


# --- generated sets --------------------------------------------------------------------------------------------------


def read_4x4() -> PuzzleSet:
    """Minimal puzzles of 4 × 4 cells; there are only 36 that are not equivalent."""
    return _generated("4x4")


def read_6x6() -> PuzzleSet:
    """Minimal puzzles of 6 × 6 cells, boxes of 2 rows and 3 columns."""
    return _generated("6x6")


def read_9x9() -> PuzzleSet:
    """Minimal puzzles of 9 × 9 cells."""
    return _generated("9x9")


def _generated(name: str) -> PuzzleSet:
    from lib.data.sudoku.generator import generate

    shape = SHAPES[name]
    puzzles, solutions = generate(GENERATED[name], shape, SEED)
    title = f"generated {shape.n} × {shape.n} sudokus"
    return PuzzleSet(f"sudoku-{name}", title, shape, puzzles, solutions)


# --- real lists ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _List:
    """A list of the benchmark data: its file, with or without `.txt`, and how many puzzles it has."""

    title: str
    file: str
    size: int

    def read(self, name: str, place: Path) -> PuzzleSet:
        path = next(
            (p for p in (place / "sudoku" / f"{self.file}.txt", place / "sudoku" / self.file) if p.is_file()),
            None,
        )
        if path is None:
            raise InputError(
                f"{place / 'sudoku' / self.file} is missing: it is part of tdoku's benchmark data"
            )
        try:
            puzzles = parse(path.read_text(encoding="ascii").splitlines(), SHAPES["9x9"])
        except (OSError, UnicodeDecodeError, InputError) as error:
            raise InputError(f"{path} cannot be read: {error}") from error
        if len(puzzles) != self.size:
            raise InputError(
                f"{path} has {len(puzzles):,} puzzles, {self.size:,} are expected. Replace it by a good copy."
            )
        return PuzzleSet(name, self.title, SHAPES["9x9"], puzzles)


HARDEST = _List("the forum's hardest sudokus", "puzzles5_forum_hardest_1905_11+", 48_766)
SEVENTEEN = _List("sudokus with 17 clues", "puzzles2_17_clue", 49_158)
MAGICTOUR = _List("magictour's top 1465 sudokus", "puzzles3_magictour_top1465", 1_465)
SEVERAL = _List("sudokus with several solutions (Serg's)", "puzzles7_serg_benchmark", 10_000)


def read_hardest(place: Path) -> PuzzleSet:
    """The hardest known puzzles, rated 11 and more."""
    return HARDEST.read("sudoku-hardest", place)


def read_seventeen(place: Path) -> PuzzleSet:
    """Puzzles of 17 clues, the fewest that there can be; most are easy."""
    return SEVENTEEN.read("sudoku-17", place)


def read_magictour(place: Path) -> PuzzleSet:
    """An older list of hard puzzles."""
    return MAGICTOUR.read("sudoku-magictour", place)


def read_several(place: Path) -> PuzzleSet:
    """A solver's benchmark: every puzzle has several solutions, so none is to be trained on."""
    return SEVERAL.read("sudoku-several", place)


def check_hardest(place: Path) -> None:
    """Raises InputError for a list that is missing, not whole, or no list of puzzles; so do the other checks."""
    read_hardest(place)


def check_seventeen(place: Path) -> None:
    read_seventeen(place)


def check_magictour(place: Path) -> None:
    read_magictour(place)


def check_several(place: Path) -> None:
    read_several(place)


# --- Sudoku-Extreme --------------------------------------------------------------------------------------------------


def read_extreme(place: Path) -> PuzzleSet:
    """Sudoku-Extreme's training puzzles, from `place/sudoku-extreme/train.csv`."""
    return _extreme("sudoku-extreme", "Sudoku-Extreme", place / "sudoku-extreme" / "train.csv")


def read_extreme_test(place: Path) -> PuzzleSet:
    """Sudoku-Extreme's test puzzles, from `place/sudoku-extreme/test.csv`."""
    return _extreme("sudoku-extreme-test", "Sudoku-Extreme (test)", place / "sudoku-extreme" / "test.csv")


def check_extreme(place: Path) -> None:
    """Raises InputError for a file that is missing or has no puzzles of the expected form."""
    read_extreme(place)


def check_extreme_test(place: Path) -> None:
    read_extreme_test(place)


def _extreme(name: str, title: str, path: Path) -> PuzzleSet:
    """Columns `question` and `answer` of 81 signs each, others besides."""
    import pandas as pd

    shape = SHAPES["9x9"]
    try:
        table = pd.read_csv(path, usecols=["question", "answer"], dtype=str)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as Sudoku-Extreme's CSV: {error}") from error
    grids = []
    for column in ("question", "answer"):
        lines = table[column].fillna("")
        if not (lines.str.len() == shape.cells).all():
            raise InputError(f"{path}: every {column} has {shape.cells} signs in Sudoku-Extreme; not here")
        signs = np.frombuffer("".join(lines).replace(".", "0").encode("ascii", "replace"), np.uint8)
        grids.append(checked(signs.reshape(-1, shape.cells) - np.uint8(ord("0")), shape))
    return PuzzleSet(name, title, shape, grids[0], grids[1])
