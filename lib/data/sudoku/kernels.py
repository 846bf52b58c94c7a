"""The compiled inner loops behind `solver`, `generator` and `equivalence`: plain loops over masks of candidates.

A grid is an array of masks, one a cell: bit d − 1 says that digit d is still possible. Everything is in this one module,
because numba's cache on disk notices changes of a function's own file only. Source: ours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "boundscheck": False}


@njit(**_OPTIONS)
def _popcount(mask):
    count = 0
    while mask:
        mask &= mask - 1
        count += 1
    return count


@njit(**_OPTIONS)
def _propagate(masks, queue, waiting, dirty, units, units_of, peers):
    """Naked and hidden singles until nothing changes; False for a contradiction.

    queue[:waiting]: cells that have just become single. dirty: bits of the units in which something has changed.
    """
    n = units.shape[1]
    everything = (1 << n) - 1
    while True:
        while waiting:
            waiting -= 1
            cell = queue[waiting]
            bit = masks[cell]
            for i in range(peers.shape[1]):
                peer = peers[cell, i]
                mask = masks[peer]
                if mask & bit:
                    mask &= ~bit
                    if mask == 0:
                        return False
                    masks[peer] = mask
                    dirty |= (1 << units_of[peer, 0]) | (1 << units_of[peer, 1]) | (1 << units_of[peer, 2])
                    if mask & (mask - 1) == 0:
                        queue[waiting] = peer
                        waiting += 1
        unit = 0
        while dirty and not waiting:
            while not (dirty >> unit) & 1:
                unit += 1
            dirty &= ~(1 << unit)
            once = twice = single = 0
            for i in range(n):
                mask = masks[units[unit, i]]
                twice |= once & mask
                once |= mask
                if mask & (mask - 1) == 0:
                    single |= mask
            if once != everything:
                return False  # a digit has no place
            hidden = once & ~twice & ~single
            if hidden:
                dirty |= 1 << unit
                for i in range(n):
                    cell = units[unit, i]
                    bit = masks[cell] & hidden
                    if bit:
                        if bit & (bit - 1):
                            return False  # two digits have this place alone
                        masks[cell] = bit
                        dirty |= (
                            (1 << units_of[cell, 0]) | (1 << units_of[cell, 1]) | (1 << units_of[cell, 2])
                        )
                        queue[waiting] = cell
                        waiting += 1
        if not waiting and not dirty:
            return True


@njit(**_OPTIONS)
def _random(state):
    """The next 64 bits of splitmix64 (Steele, Lea and Flood, 2014); state is an array of one."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(**_OPTIONS)
def _below(state, limit):
    return np.int64(_random(state) >> np.uint64(33)) % limit


@njit(**_OPTIONS)
def _search(stack, queue, limit, solution, shuffled, state, units, units_of, peers):
    """Solutions of the masks in stack[0], counted up to `limit`: (count, guesses). The first is left in `solution`.

    The most constrained cell is guessed, both ways at once: that it has a digit, and that it has not. `shuffled`: guess a
    random digit, not the smallest.
    """
    cells = stack.shape[1]
    units_left = (1 << units.shape[0]) - 1
    waiting = 0
    for cell in range(cells):
        mask = stack[0, cell]
        if mask == 0:
            return 0, 0
        if mask & (mask - 1) == 0:
            queue[waiting] = cell
            waiting += 1
    if not _propagate(stack[0], queue, waiting, units_left, units, units_of, peers):
        return 0, 0
    count = guesses = depth = 0
    while depth >= 0:
        masks = stack[depth]
        best, fewest = -1, 99
        for cell in range(cells):
            mask = masks[cell]
            if mask & (mask - 1):
                size = _popcount(mask)
                if size < fewest:
                    best, fewest = cell, size
                    if size == 2:
                        break
        if best < 0:
            if count == 0:
                for cell in range(cells):
                    solution[cell] = masks[cell]
            count += 1
            if count == limit:
                return count, guesses
            depth -= 1
            continue
        guesses += 1
        mask = masks[best]
        bit = mask & -mask
        if shuffled:
            for _ in range(_below(state, fewest)):
                mask &= mask - 1
            bit = mask & -mask
        child = stack[depth + 1]
        for cell in range(cells):
            child[cell] = masks[cell]
        changed = (1 << units_of[best, 0]) | (1 << units_of[best, 1]) | (1 << units_of[best, 2])
        child[best] = bit
        queue[0] = best
        taken = _propagate(child, queue, 1, changed, units, units_of, peers)
        masks[best] &= ~bit
        rest = masks[best]
        waiting = 0
        if rest & (rest - 1) == 0:
            queue[0] = best
            waiting = 1
        left = _propagate(masks, queue, waiting, changed, units, units_of, peers)
        if taken and left:
            depth += 1
        elif taken:
            for cell in range(cells):
                masks[cell] = child[cell]
        elif not left:
            depth -= 1
    return count, guesses


@njit(**_OPTIONS)
def _digit(mask):
    digit = 0
    while mask:
        mask >>= 1
        digit += 1
    return digit


@njit(**_OPTIONS)
def solve_many(puzzles, limit, solutions, counts, guesses, units, units_of, peers):
    """Solve each row of `puzzles` (n × cells), counting up to `limit` solutions; fills the three arrays after it."""
    cells = puzzles.shape[1]
    everything = (1 << units.shape[1]) - 1
    stack = np.empty((cells + 1, cells), np.int64)
    queue = np.empty(cells, np.int64)
    solution = np.zeros(cells, np.int64)
    state = np.zeros(1, np.uint64)
    for p in range(puzzles.shape[0]):
        for cell in range(cells):
            clue = np.int64(puzzles[p, cell])
            stack[0, cell] = everything if clue == 0 else np.int64(1) << (clue - 1)
        counts[p], guesses[p] = _search(stack, queue, limit, solution, False, state, units, units_of, peers)
        for cell in range(cells):
            solutions[p, cell] = _digit(solution[cell]) if counts[p] else 0


@njit(**_OPTIONS)
def generate_many(seeds, puzzles, solutions, units, units_of, peers):
    """A minimal puzzle and its solution for each of `seeds` (uint64), into the rows of `puzzles` and `solutions`."""
    cells = puzzles.shape[1]
    everything = (1 << units.shape[1]) - 1
    stack = np.empty((cells + 1, cells), np.int64)
    queue = np.empty(cells, np.int64)
    grid = np.empty(cells, np.int64)
    other = np.empty(cells, np.int64)
    clues = np.empty(cells, np.int64)
    order = np.empty(cells, np.int64)
    state = np.zeros(1, np.uint64)
    for p in range(seeds.shape[0]):
        state[0] = seeds[p]
        stack[0, :] = everything
        _search(stack, queue, 1, grid, True, state, units, units_of, peers)
        for cell in range(cells):
            clues[cell] = grid[cell]
            order[cell] = cell
        for i in range(cells - 1, 0, -1):  # Fisher and Yates
            j = _below(state, i + 1)
            order[i], order[j] = order[j], order[i]
        for i in range(cells):
            # a clue is needed where there is a solution without it that has another digit in its place
            removed = order[i]
            for cell in range(cells):
                stack[0, cell] = clues[cell] if clues[cell] else everything
            stack[0, removed] = everything & ~grid[removed]
            count, _ = _search(stack, queue, 1, other, False, state, units, units_of, peers)
            if count == 0:
                clues[removed] = 0
        for cell in range(cells):
            puzzles[p, cell] = _digit(clues[cell])
            solutions[p, cell] = _digit(grid[cell])


@njit(**_OPTIONS)
def waves_many(puzzles, waves, units, units_of, peers):
    """The wave in which singles fix each cell, into `waves` (n × cells): 0 for clues, −1 for what they never fix.

    A wave places all naked and hidden singles that the digits placed before it allow.
    """
    cells, n = puzzles.shape[1], units.shape[1]
    everything = (1 << n) - 1
    digits = np.empty(cells, np.int64)
    masks = np.empty(cells, np.int64)
    found = np.empty(cells, np.int64)
    for p in range(puzzles.shape[0]):
        for cell in range(cells):
            clue = np.int64(puzzles[p, cell])
            digits[cell] = 0 if clue == 0 else np.int64(1) << (clue - 1)
            waves[p, cell] = -1 if clue == 0 else 0
        wave, going = 0, True
        while going:
            wave += 1
            going = False
            for cell in range(cells):
                mask = everything
                for i in range(peers.shape[1]):
                    mask &= ~digits[peers[cell, i]]
                masks[cell] = 0 if digits[cell] else mask
                found[cell] = masks[cell] if masks[cell] & (masks[cell] - 1) == 0 else 0
            for unit in range(units.shape[0]):
                once = twice = 0
                for i in range(n):
                    mask = masks[units[unit, i]]
                    twice |= once & mask
                    once |= mask
                hidden = once & ~twice
                if hidden:
                    for i in range(n):
                        cell = units[unit, i]
                        if masks[cell] & hidden:
                            found[cell] = masks[cell] & hidden
            for cell in range(cells):
                if found[cell] and not digits[cell]:
                    digits[cell] = found[cell]
                    waves[p, cell] = wave
                    going = True


# --- the smallest of all equivalent puzzles --------------------------------------------------------------------------


@njit(**_OPTIONS)
def _sort(order, start, size, keys):
    """Sort order[start : start + size] by keys[order[…]], by insertion."""
    for i in range(start + 1, start + size):
        j = i
        while j > start and keys[order[j]] < keys[order[j - 1]]:
            order[j], order[j - 1] = order[j - 1], order[j]
            j -= 1


@njit(**_OPTIONS)
def canonical_many(puzzles, solutions, columns, box_rows, out):
    """The smallest equivalent form of each solved puzzle, into `out` (n × cells): twice its digits, plus 1 for a clue.

    columns: all orders of the columns that keep the stacks (m × n). Every row of the grid, and of its transpose where
    boxes are square, is put first under every order of the columns and renamed 1 to n; then the order of the other rows
    is decided, for the first column must rise within bands and over bands. The smallest of these forms, read row by row,
    is the canonical one.
    """
    n = columns.shape[1]
    bands = n // box_rows
    grid = np.empty((n, n), np.int64)
    clue = np.empty((n, n), np.int64)
    best = np.empty((n, n), np.int64)
    name = np.empty(n + 1, np.int64)
    lead = np.empty(n, np.int64)
    tops = np.empty(bands, np.int64)
    order = np.empty(n, np.int64)
    outer = np.empty(bands, np.int64)
    for p in range(puzzles.shape[0]):
        best[:] = 2 * n + 2
        for turned in range(2 if box_rows * box_rows == n else 1):
            for row in range(n):
                for column in range(n):
                    place = column * n + row if turned else row * n + column
                    grid[row, column] = solutions[p, place]
                    clue[row, column] = 1 if puzzles[p, place] else 0
            for first in range(n):
                for c in range(columns.shape[0]):
                    for column in range(n):
                        name[grid[first, columns[c, column]]] = 2 * column + 2
                    for row in range(n):
                        lead[row] = name[grid[row, columns[c, 0]]]
                        order[row] = row
                    for band in range(bands):
                        _sort(order, band * box_rows, box_rows, lead)
                        tops[band] = lead[order[band * box_rows]]
                        outer[band] = band
                    _sort(outer, 0, bands, tops)  # `first` has the smallest digit of all, so it comes first
                    smaller = larger = False
                    for at in range(n):
                        row = order[outer[at // box_rows] * box_rows + at % box_rows]
                        for column in range(n):
                            source = columns[c, column]
                            value = name[grid[row, source]] + clue[row, source]
                            if not smaller and value != best[at, column]:
                                smaller = value < best[at, column]
                                larger = not smaller
                            if larger:
                                break
                            best[at, column] = value
                        if larger:
                            break
        out[p] = best.ravel()
