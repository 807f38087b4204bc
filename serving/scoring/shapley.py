"""Shapley values of one row, as a dialogue: rows to score are asked for, their scores are sent in.

The value of a set of columns is the mean score of the background rows with these columns replaced by the
row's own (interventional Shapley values; Strumbelj and Kononenko, 2014). Up to `EXACT_COLUMNS` columns all
sets are scored. Else each background row has random orders of its own, each used in both directions
(antithetic pairs; Mitchell et al., 2022): in one direction each column's contribution is its step from the
background row to the row. If both directions agree everywhere the model is additive, and one pass is exact.

Everything here is pure: it knows neither model nor queue.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from math import factorial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

EXACT_COLUMNS = 7  # 2**7 sets of columns; twice the rows of one pass over 30 columns
MAX_PASSES = 16
STANDARD_ERRORS = 2  # the stated error in standard errors
ROUNDING = 1e-12  # a contribution below this fraction of the largest counts as 0
ADDITIVE = 1e-6  # a stated error below this fraction of the largest step is rounding

T = TypeVar("T")


class Ask(NamedTuple):
    """Rows to be scored: how many, and a function that makes those from `start` to `stop`."""

    rows: int
    make: Callable[[int, int], NDArray[Any]]


Dialogue = Generator[Ask, "NDArray[np.float64]", T]
"""The caller sends `Ask.rows` scores, one a row."""


@dataclass(frozen=True)
class Attribution:
    """The contributions of a row's columns; they sum to its score less `base`.

    Parameters
    ----------
    base
        The mean score of the background rows.
    error
        All but a few of a hundred contributions are nearer to the true ones than this.
    exact
        Whether `error` is rounding alone.
    """

    base: float
    score: float
    contributions: NDArray[np.float64]
    error: float
    exact: bool


def attribute(
    row: NDArray[Any],
    score: float,
    background: NDArray[Any],
    scores: NDArray[np.float64],
    owners: NDArray[np.intp],
    *,
    tolerance: float,
    more: Callable[[], bool] = lambda: True,
) -> Dialogue[Attribution]:
    """Attribute the score of a row to its columns.

    Parameters
    ----------
    row
        The row of the matrix, shape (width,).
    background, scores
        Rows of the matrix, shape (rows, width), and their scores.
    owners
        The column of the table that each column of the matrix belongs to, shape (width,).
    tolerance
        Passes end once the error is below this fraction of the largest contribution.
    more
        Whether there is time for another pass.
    """
    columns = int(owners.max()) + 1
    base = float(scores.mean())
    found = np.zeros(columns)
    players = np.unique(owners[_differs(row, background)])
    if not len(players):
        return Attribution(base, score, found, 0.0, exact=True)
    place = np.zeros(columns, np.intp)  # a column that never differs is replaced without effect
    place[players] = np.arange(len(players))
    player_of = place[owners]
    alike = np.array_equal(player_of, np.arange(len(players)))  # a column of the mask is one of the matrix
    background = background.astype(np.result_type(background, row), copy=False)

    # Making the rows costs more than a linear model's scores of them: with `take` and `copyto` instead of
    # indexing and `where`, all work but the model's is a fifth less.
    def mixed(mask: NDArray[np.bool_], rows: NDArray[np.intp]) -> NDArray[Any]:
        made = background.take(rows, axis=0)
        np.copyto(made, row, where=mask if alike else mask.take(player_of, axis=1))
        return made

    if len(players) <= EXACT_COLUMNS:
        exact = yield from _all_sets(len(players), score, scores, mixed)
        exact[np.abs(exact) < ROUNDING * np.abs(exact).max()] = 0
        found[players] = exact
        return Attribution(base, score, found, 0.0, exact=True)
    found[players], error = yield from _passes(
        len(players), score, scores, mixed, tolerance=tolerance, more=more
    )
    steps = max(float(np.abs(scores - score).max()), float(np.abs(found).max()))
    return Attribution(base, score, found, error, exact=error <= ADDITIVE * steps)


def _differs(row: NDArray[Any], background: NDArray[Any]) -> NDArray[np.bool_]:
    """The columns of the matrix in which some background row differs from the row."""
    differ = np.asarray(background != row, bool)
    if background.dtype != object:
        differ &= ~(np.isnan(background) & np.isnan(row))
    return np.asarray(differ.any(axis=0))


_Mixed = Callable[["NDArray[np.bool_]", "NDArray[np.intp]"], "NDArray[Any]"]


def _all_sets(
    players: int, score: float, scores: NDArray[np.float64], mixed: _Mixed
) -> Dialogue[NDArray[np.float64]]:
    count = len(scores)
    bits = np.arange(players)

    def make(start: int, stop: int) -> NDArray[Any]:
        sets, rows = np.divmod(np.arange(start, stop), count)
        return mixed(((sets + 1)[:, None] >> bits & 1).astype(bool), rows)

    value = np.empty(2**players)
    value[0], value[-1] = scores.mean(), score
    if players > 1:
        inner = yield Ask((2**players - 2) * count, make)
        value[1:-1] = inner.reshape(-1, count).mean(axis=1)
    sets = np.arange(2**players)
    sizes = (sets[:, None] >> bits & 1).sum(axis=1)
    weights = np.array(
        [factorial(size) * factorial(players - size - 1) / factorial(players) for size in range(players)]
    )
    found = np.empty(players)
    for player in bits:
        without = sets[sets >> player & 1 == 0]
        found[player] = weights[sizes[without]] @ (value[without | 1 << player] - value[without])
    return found


def _passes(
    players: int,
    score: float,
    scores: NDArray[np.float64],
    mixed: _Mixed,
    *,
    tolerance: float,
    more: Callable[[], bool],
) -> Dialogue[tuple[NDArray[np.float64], float]]:
    """Contributions and their error, from as many passes over the background rows as it takes."""
    count = len(scores)
    random = np.random.default_rng(0)  # the same row has the same explanation
    pairs: list[NDArray[np.float64]] = []
    while True:
        # The place of each player in the order of each background row.
        place = random.permuted(np.tile(np.arange(players), (count, 1)), axis=1)
        short = place.astype(np.int32)  # compared faster

        def make(start: int, stop: int, short: NDArray[np.int32] = short) -> NDArray[Any]:
            rows, step = np.divmod(np.arange(start, stop), 2 * (players - 1))
            forth = step < players - 1
            taken = np.where(forth, step + 1, 2 * players - 2 - step).astype(
                np.int32
            )  # back: places from here on
            mask = (short.take(rows, axis=0) < taken[:, None]) == forth[:, None]
            return mixed(mask, rows)

        inner = yield Ask(2 * (players - 1) * count, make)
        chains = np.empty((count, 2, players + 1))
        chains[:, :, 0], chains[:, :, -1] = scores[:, None], score
        chains[:, :, 1:-1] = inner.reshape(count, 2, players - 1)
        steps = np.diff(chains, axis=2)
        forth = np.take_along_axis(steps[:, 0], place, axis=1)
        back = np.take_along_axis(steps[:, 1], players - 1 - place, axis=1)
        pairs.append((forth + back) / 2)
        found = np.mean(pairs, axis=0).mean(axis=0)
        if len(pairs) == 1:
            # The two directions of an order are negatively correlated, so this is an upper bound.
            variance = ((forth - back) / 2) ** 2
        else:
            variance = np.var(pairs, axis=0, ddof=1) / len(pairs)
        error = STANDARD_ERRORS * float(np.sqrt(variance.sum(axis=0)).max()) / count
        enough = error <= tolerance * float(np.abs(found).max())
        if enough or len(pairs) == MAX_PASSES or not more():
            return found, error


def owners_of(widths: Sequence[int]) -> NDArray[np.intp]:
    """For each column of the matrix the index of its column of the table.

    Parameters
    ----------
    widths
        The number of columns of the matrix for each column of the table.
    """
    return np.repeat(np.arange(len(widths)), widths)
