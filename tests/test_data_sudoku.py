"""lib.data.sudoku: the solver against a slow one and known counts, minimality, symmetries, equivalence, division."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")
torch = pytest.importorskip("torch")

from lib import data  # noqa: E402
from lib.core import InputError  # noqa: E402
from lib.data.sudoku import (  # noqa: E402
    SHAPES,
    PuzzleSet,
    Shape,
    canonical,
    classes,
    divide,
    generate,
    parse,
    shape_of,
    signature,
    solve,
    text,
    thinned,
    waves,
)
from lib.data.sudoku import sets as sudoku_sets  # noqa: E402
from lib.data.sudoku.symmetries import Symmetries, solves  # noqa: E402

# Arto Inkala's puzzle of 2010 and its solution
HARD = "..53.....8......2..7..1.5..4....53...1..7...6..32...8..6.5....9..4....3......97.."
ANSWER = "145327698839654127672918543496185372218473956753296481367542819984761235521839764"


@pytest.fixture(params=list(SHAPES))
def shape(request):
    return SHAPES[request.param]


def slow_solutions(grid, shape, limit):
    """Backtracking as anybody would write it; clues that contradict each other are found out at the end."""
    if 0 not in grid:
        valid = all(len({grid[cell] for cell in unit}) == shape.n for unit in shape.units.tolist())
        return [tuple(grid)] * valid
    cell = grid.index(0)
    row, column = divmod(cell, shape.n)
    used = set()
    for other, digit in enumerate(grid):
        r, c = divmod(other, shape.n)
        box = (r // shape.box_rows, c // shape.box_columns)
        if r == row or c == column or box == (row // shape.box_rows, column // shape.box_columns):
            used.add(digit)
    found = []
    for digit in range(1, shape.n + 1):
        if digit not in used and len(found) < limit:
            found += slow_solutions([*grid[:cell], digit, *grid[cell + 1 :]], shape, limit - len(found))
    return found


def thin(puzzles, rng, least=0):
    """Puzzles without some of their clues, all the way from one solution to many."""
    return np.where(rng.random(puzzles.shape) < rng.uniform(least, 1, (len(puzzles), 1)), puzzles, 0).astype(
        np.uint8
    )


# --- grids -----------------------------------------------------------------------------------------------------------


def test_units_and_peers_of_a_cell():
    shape = SHAPES["6x6"]
    assert sorted(shape.units[12].tolist()) == [0, 1, 2, 6, 7, 8]  # the first box: two rows, three columns
    assert shape.peers[0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 12, 18, 24, 30]
    for each in SHAPES.values():
        assert (np.sort(each.units.ravel()) == np.repeat(np.arange(each.cells), 3)).all()
        assert each.peers.shape[1] == 3 * each.n - each.box_rows - each.box_columns - 1
        assert all(cell in each.units[unit] for cell in range(each.cells) for unit in each.units_of[cell])


def test_symmetries_are_as_many_as_is_known():
    assert [SHAPES[name].symmetries for name in ("4x4", "6x6", "9x9")] == [128, 3456, 3_359_232]


def test_text_there_and_back():
    (puzzle,) = parse(["# a comment", "", HARD.replace(".", "0"), "  "], SHAPES["9x9"])
    assert text(puzzle) == HARD


@pytest.mark.parametrize("line", ["12", "x" * 81, "5" + "." * 15, "é" * 16])
def test_lines_that_are_no_puzzle(line):
    with pytest.raises(InputError, match="line 2"):
        parse(["." * 16, line], SHAPES["4x4"])


def test_shapes_that_there_are_not():
    with pytest.raises(InputError, match="4x4, 6x6, 9x9"):
        shape_of("5x5")
    with pytest.raises(InputError, match="0 × 3"):
        Shape(0, 3)


# --- solver ----------------------------------------------------------------------------------------------------------


def test_a_known_puzzle_and_none_one_or_several_solutions():
    shape = SHAPES["9x9"]
    broken = "55" + HARD[2:]
    impossible = HARD.replace("8......2", "8....1.2")  # no rule is broken by the clues themselves
    several = "." + HARD[1:8] + "." + HARD[9:80] + "."
    several = several.replace("53", "..", 1)
    found = solve(parse([HARD, broken, impossible, several, "." * 81, ANSWER], shape), shape)
    assert found.counts.tolist() == [1, 0, 0, 2, 2, 1]
    assert found.unique.tolist() == [True, False, False, False, False, True]
    assert text(found.solutions[0]) == ANSWER == text(found.solutions[5])
    assert found.solutions[1].max() == 0
    assert found.guesses[0] > 0 and found.guesses[5] == 0


def test_all_grids_of_4x4():
    shape = SHAPES["4x4"]
    blank = np.zeros((1, 16), np.uint8)
    assert solve(blank, shape, limit=1000).counts[0] == 288
    assert solve(blank, shape, limit=17).counts[0] == 17
    assert solve(np.zeros((0, 16), np.uint8), shape).counts.shape == (0,)


@pytest.mark.parametrize("name", ["4x4", "6x6"])
def test_the_solver_agrees_with_a_slow_one(name, rng):
    shape = SHAPES[name]
    full = generate(60, shape, 3)[1]
    puzzles = thin(full, rng, 0.25 if name == "6x6" else 0)
    puzzles[::7, 0] = puzzles[::7, 0] % shape.n + 1  # some have no solution
    found = solve(puzzles, shape, limit=5)
    for i, puzzle in enumerate(puzzles):
        expected = slow_solutions(puzzle.tolist(), shape, 5)
        assert found.counts[i] == len(expected)
        if len(expected):
            assert solves(*map(torch.from_numpy, (found.solutions[i], puzzle)), shape)
        if len(expected) == 1:
            assert tuple(found.solutions[i]) == expected[0]


def test_an_independent_solver_agrees():
    """Integer programming (HiGHS, through scipy): the same solution, and no other."""
    optimize = pytest.importorskip("scipy.optimize")
    shape = SHAPES["4x4"]
    puzzles, _ = generate(6, shape, 9)
    found = solve(puzzles, shape)
    n, cells = shape.n, shape.cells
    rows = [[(cell * n + d, 1.0) for d in range(n)] for cell in range(cells)]
    rows += [[(cell * n + d, 1.0) for cell in unit] for unit in shape.units for d in range(n)]
    matrix = np.zeros((len(rows), cells * n))
    for i, row in enumerate(rows):
        for at, value in row:
            matrix[i, at] = value
    for puzzle, solution in zip(puzzles, found.solutions, strict=True):
        lower = np.zeros((cells, n))
        lower[puzzle > 0, puzzle[puzzle > 0] - 1] = 1
        own = np.zeros((cells, n))
        own[np.arange(cells), solution - 1] = 1
        rules = optimize.LinearConstraint(matrix, 1, 1)
        options = {"integrality": np.ones(cells * n), "bounds": optimize.Bounds(lower.ravel(), 1)}
        answer = optimize.milp(np.zeros(cells * n), constraints=[rules], **options)
        assert (answer.x.reshape(cells, n).argmax(1) + 1 == solution).all()
        other = optimize.LinearConstraint(own.ravel()[None], -np.inf, cells - 1)
        assert optimize.milp(np.zeros(cells * n), constraints=[rules, other], **options).status == 2


def test_bad_input_to_the_solver():
    shape = SHAPES["4x4"]
    with pytest.raises(InputError, match=r"n × 16 is wanted"):
        solve(np.zeros((2, 81), np.uint8), shape)
    with pytest.raises(InputError, match="0 to 4 are wanted"):
        solve(np.full((1, 16), 5, np.uint8), shape)
    with pytest.raises(InputError, match="limit is 0"):
        solve(np.zeros((1, 16), np.uint8), shape, limit=0)


def test_waves_end_where_guesses_begin(shape):
    puzzles, solutions = generate(80, shape, 5)
    found, guesses = waves(puzzles, shape), solve(puzzles, shape).guesses
    assert ((found == 0) == (puzzles > 0)).all()
    assert ((found >= 0).all(1) == (guesses == 0)).all()
    assert found.max() > 1
    for puzzle, solution, wave in zip(puzzles[:10], solutions, found, strict=False):
        for number in range(1, wave.max() + 1):
            known = np.where((wave >= 0) & (wave < number), solution, 0).astype(np.uint8)
            assert (waves(known[None], shape)[0][wave == number] == 1).all()
        assert (wave[puzzle == 0] != 0).all()


# --- generator -------------------------------------------------------------------------------------------------------


def test_generated_puzzles_are_minimal(shape):
    puzzles, solutions = generate(20, shape, 0)
    found = solve(puzzles, shape)
    assert found.unique.all() and (found.solutions == solutions).all()
    assert ((puzzles == 0) | (puzzles == solutions)).all()
    for puzzle in puzzles:
        without = np.stack(
            [np.where(np.arange(shape.cells) == cell, 0, puzzle) for cell in puzzle.nonzero()[0]]
        )
        assert (solve(without, shape).counts == 2).all()


def test_the_seed_decides_and_puzzles_do_not_depend_on_each_other(shape):
    whole = generate(12, shape, 4)
    part = generate(5, shape, 4, first=7)
    assert all((a[7:] == b).all() for a, b in zip(whole, part, strict=True))
    assert (whole[1] != generate(12, shape, 5)[1]).any()
    assert len(np.unique(whole[1], axis=0)) > 6


def test_generated_sets_are_the_same_everywhere():
    """A generator that changes would make every record another experiment's."""
    assert text(generate(1, SHAPES["4x4"], 0)[0][0]) == "2.....3.......43"
    assert data.load("sudoku-6x6").fingerprint == data.load("sudoku-6x6").fingerprint


def test_there_are_36_minimal_puzzles_of_4x4():
    found = data.load("sudoku-4x4")
    assert len(np.unique(classes(found.puzzles, found.solutions, found.shape))) == 36


def test_bad_input_to_the_generator():
    with pytest.raises(InputError, match="seed -1"):
        generate(1, SHAPES["4x4"], -1)


# --- symmetries ------------------------------------------------------------------------------------------------------


def test_symmetries_keep_validity_clues_and_the_number_of_solutions(shape, generator):
    puzzles, solutions = generate(50, shape, 1)
    moves = Symmetries.draw(50, shape, generator)
    moved, answers = (moves.apply(torch.from_numpy(grids)) for grids in (puzzles, solutions))
    assert moved.dtype == torch.uint8 and (moved != torch.from_numpy(puzzles)).any(1).all()
    assert solves(answers, moved, shape).all()
    assert ((moved > 0).sum(1).numpy() == (puzzles > 0).sum(1)).all()
    found = solve(moved.numpy(), shape)
    assert found.unique.all() and (found.solutions == answers.numpy()).all()
    several = torch.from_numpy(thinned(sudoku_sets.Part(puzzles, solutions), 0))
    counts = [solve(grids.numpy(), shape, limit=9).counts for grids in (several, moves.apply(several))]
    assert (counts[0] == counts[1]).all() and (counts[0] > 1).all()
    assert torch.equal(moves.undo(moved), torch.from_numpy(puzzles))


def test_all_symmetries_of_4x4_are_drawn(generator):
    shape = SHAPES["4x4"]
    moves = Symmetries.draw(6000, shape, generator)
    assert len(moves.cells.unique(dim=0)) == shape.symmetries
    assert len(moves.digits.unique(dim=0)) == 24 and (moves.digits[:, 0] == 0).all()


def test_only_square_boxes_are_transposed(generator):
    corner = {name: torch.zeros(400, shape.cells, dtype=torch.uint8) for name, shape in SHAPES.items()}
    for name, shape in SHAPES.items():
        corner[name][:, : shape.n] = torch.arange(1, shape.n + 1)  # a full first row
        moved = Symmetries.draw(400, shape, generator).apply(corner[name]).view(400, shape.n, shape.n)
        columns = (moved > 0).all(1).any(1)
        assert columns.any() == shape.square and ((moved > 0).all(2).any(1) | columns).all()


@given(st.integers(0, 2**31), st.sampled_from(list(SHAPES)))
@settings(max_examples=40, deadline=None)
def test_solves_is_what_the_rules_say(seed, name):
    shape, rng = SHAPES[name], np.random.default_rng(seed)
    puzzle, solution = (grids[0] for grids in generate(1, shape, seed))
    grid = solution.copy()
    if rng.random() < 0.7:
        cells = rng.permutation(shape.cells)[:2]
        grid[cells] = rng.integers(0, shape.n + 1, 2) if rng.random() < 0.5 else grid[cells[::-1]]
    rules = all(sorted(grid[unit]) == list(range(1, shape.n + 1)) for unit in shape.units)
    clues = all(clue in (0, digit) for clue, digit in zip(puzzle, grid, strict=True))
    assert bool(solves(torch.from_numpy(grid), torch.from_numpy(puzzle), shape)) == (rules and clues)


# --- equivalence -----------------------------------------------------------------------------------------------------


def test_a_symmetry_changes_neither_form_nor_class(shape, generator):
    puzzles, solutions = generate(30, shape, 2)
    moves = Symmetries.draw(30, shape, generator)
    moved = [moves.apply(torch.from_numpy(grids)).numpy() for grids in (puzzles, solutions)]
    assert (signature(*moved, shape) == signature(puzzles, solutions, shape)).all()
    few = slice(0, 8)
    assert (
        canonical(moved[0][few], moved[1][few], shape) == canonical(puzzles[few], solutions[few], shape)
    ).all()
    both = [np.concatenate(pair) for pair in zip((puzzles, solutions), moved, strict=True)]
    names = classes(*(grids[np.r_[few, 30:38]] for grids in both), shape)
    assert (names[:8] == names[8:]).all()


def test_the_canonical_form_is_the_smallest_of_all():
    """Every symmetry of 4 × 4, one by one."""
    shape = SHAPES["4x4"]
    puzzles, solutions = generate(3, shape, 6)
    orders = [a + b for a, b in itertools.permutations([(0, 1), (2, 3)])]
    orders = [
        tuple(q) for a, b, c, d in orders for q in ((a, b, c, d), (b, a, c, d), (a, b, d, c), (b, a, d, c))
    ]
    for puzzle, solution in zip(puzzles, solutions, strict=True):
        forms = []
        for turned, rows, columns in itertools.product((False, True), orders, orders):
            grid, clues = (x.reshape(4, 4).T if turned else x.reshape(4, 4) for x in (solution, puzzle))
            grid, clues = (x[np.ix_(rows, columns)] for x in (grid, clues))
            name = {digit: i + 1 for i, digit in enumerate(grid[0])}
            forms.append(
                [2 * name[digit] + (clue > 0) for digit, clue in zip(grid.flat, clues.flat, strict=True)]
            )
        assert min(forms) == canonical(puzzle[None], solution[None], shape)[0].tolist()


def test_another_pattern_of_clues_is_another_puzzle():
    shape = SHAPES["6x6"]
    puzzle, solution = generate(1, shape, 0)
    more = puzzle.copy()
    blank = np.flatnonzero(puzzle[0] == 0)[0]
    more[0, blank] = solution[0, blank]
    names = classes(np.concatenate([puzzle, more]), np.concatenate([solution, solution]), shape)
    assert names[0] != names[1]


def test_solutions_that_do_not_fit():
    shape = SHAPES["4x4"]
    puzzles, solutions = generate(2, shape, 0)
    with pytest.raises(InputError, match="solution 0 does not complete"):
        canonical(puzzles, solutions[::-1], shape)
    with pytest.raises(InputError, match="cannot be paired"):
        classes(puzzles, solutions[:1], shape)


# --- sets ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "sizes"), [("4x4", (150, 30, 60)), ("6x6", (300, 50, 100))])
def test_no_test_puzzle_is_equivalent_to_a_training_puzzle(name, sizes):
    found = data.load(f"sudoku-{name}")
    parts = divide(found, dict(zip(("train", "val", "test"), sizes, strict=True)), seed=1)
    kinds = []
    for size, part in zip(sizes, parts.values(), strict=True):
        assert len(part.puzzles) == len(part.solutions) == size
        assert solves(torch.from_numpy(part.solutions), torch.from_numpy(part.puzzles), found.shape).all()
        assert solve(part.puzzles, found.shape).unique.all()
        kinds.append({bytes(form) for form in canonical(part.puzzles, part.solutions, found.shape)})
    assert not kinds[0] & kinds[1] and not kinds[0] & kinds[2] and not kinds[1] & kinds[2]


def test_division_shuffles_moves_and_follows_its_seed():
    found = data.load("sudoku-6x6")
    once, again, other = (divide(found, {"a": 40, "b": 10}, seed) for seed in (0, 0, 1))
    assert (once["a"].puzzles == again["a"].puzzles).all()
    assert (once["a"].puzzles != other["a"].puzzles).any()
    lines = {text(puzzle) for puzzle in found.puzzles}
    assert sum(text(puzzle) in lines for puzzle in once["a"].puzzles) < 3


def test_sets_without_solutions_are_solved_and_several_are_refused():
    shape = SHAPES["6x6"]
    puzzles, solutions = generate(30, shape, 8)
    plain = PuzzleSet("plain", "plain", shape, puzzles)
    parts = divide(plain, {"train": 20, "test": 5}, seed=0)
    assert solves(*map(torch.from_numpy, (parts["test"].solutions, parts["test"].puzzles)), shape).all()
    several = PuzzleSet("several", "several", shape, thinned(sudoku_sets.Part(puzzles, solutions), 0))
    with pytest.raises(InputError, match=r"30 of 30 puzzles of several .* more than one"):
        divide(several, {"train": 20, "test": 5}, seed=0)


@pytest.mark.parametrize("sizes", [{}, {"train": -1}, {"train": 25, "test": 6}])
def test_sizes_that_cannot_be(sizes):
    shape = SHAPES["6x6"]
    with pytest.raises(InputError, match="which has 30"):
        divide(PuzzleSet("few", "few", shape, *generate(30, shape, 8)), sizes, seed=0)


def test_thinning_takes_one_clue_away():
    shape = SHAPES["9x9"]
    part = sudoku_sets.Part(*generate(10, shape, 0))
    thinner = thinned(part, 3)
    assert ((part.puzzles > 0).sum(1) - (thinner > 0).sum(1) == 1).all()
    assert ((thinner == 0) | (thinner == part.puzzles)).all()
    assert (thinner == thinned(part, 3)).all() and (thinner != thinned(part, 4)).any()


def test_a_list_that_is_not_whole(tmp_path):
    folder = tmp_path / "sudoku"
    folder.mkdir()
    path = folder / "puzzles3_magictour_top1465"
    path.write_text(f"# a list\n{HARD}\n")
    assert data.status("sudoku-magictour", tmp_path).state == "damaged"
    with pytest.raises(InputError, match="1 puzzles, 1,465 are expected"):
        data.load("sudoku-magictour", root=tmp_path)
    path.write_text("what is this\n")
    with pytest.raises(InputError, match="line 1"):
        data.load("sudoku-magictour", root=tmp_path)


def test_sudoku_extreme_where_a_user_has_it(tmp_path):
    path = tmp_path / "sudoku-extreme" / "test.csv"
    path.parent.mkdir()
    path.write_text(f"source,question,answer,rating\nforum,{HARD},{ANSWER},12\n")
    found = data.load("sudoku-extreme-test", root=tmp_path)
    assert text(found.puzzles[0]) == HARD and text(found.solutions[0]) == ANSWER
    assert data.status("sudoku-extreme", tmp_path).state == "missing"
    path.write_text("puzzle\n1\n")
    with pytest.raises(InputError, match="Sudoku-Extreme's CSV"):
        data.load("sudoku-extreme-test", root=tmp_path)
    path.write_text(f"question,answer\n{HARD},{ANSWER[:80]}\n")
    with pytest.raises(InputError, match="every answer has 81 signs"):
        data.load("sudoku-extreme-test", root=tmp_path)


@pytest.mark.parametrize("name", ["sudoku-hardest", "sudoku-17", "sudoku-magictour", "sudoku-several"])
def test_the_real_lists(posts_data, name):
    if data.status(name).state == "missing":
        pytest.skip(f"{name} is not here")
    found = data.load(name)
    rng = np.random.default_rng(0)
    some = found.puzzles[rng.permutation(len(found))[:50]]
    expected = 2 if name == "sudoku-several" else 1
    assert (solve(some, found.shape).counts == expected).all()
    if expected == 1:
        parts = divide(found, {"train": 40, "test": 20}, seed=0)
        assert len(parts["test"].puzzles) == 20
