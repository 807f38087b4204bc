"""The best items for users, as the scores of a model: all items are scored and sorted in one call.

A call takes what was asked for and gives only the best, so neither the scores of all items nor their order
come to the event loop: of 100,000 items, a request for 64 users would bring it 51 MB of scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from artifact.ranking import best, column_of
from artifact.signature import Signature
from serving.prediction_log.remembering import with_cells_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from artifact.ranking import Ranking

MAX_K = 1_000
"""The most items for one user."""
_BLOCK_BYTES = 8 * 1024 * 1024  # of the scores of all items that a call holds at once
_BEFORE = 2  # numbers of a row before its items


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """What is asked for one user.

    Parameters
    ----------
    user
        Its code; -1 is an unknown user.
    k
        The most items.
    exclude
        Codes of the items that are left out.
    seen
        Whether items that the user has rated count too.
    """

    user: int
    k: int
    exclude: Any
    seen: bool


class Found(NamedTuple):
    """The best items of one user: their codes, the best first, and their scores."""

    items: list[int]
    scores: list[float]
    cold: bool  # nothing is known of the user


class BestItems:
    """Scores rows of `Wanted`, shape (n, 1); `found` reads a row of the result.

    Parameters
    ----------
    max_rows
        A larger call would take too much memory.
    """

    def __init__(self, ranking: Ranking, max_rows: int = 1) -> None:
        self._ranking = ranking
        self._most = min(MAX_K, len(ranking.items))
        self.max_rows = max_rows
        self._block = max(1, _BLOCK_BYTES // (8 * max(1, len(ranking.items))))

    @property
    def outputs(self) -> int:
        """How many numbers a row of the result has."""
        return _BEFORE + 2 * self._most

    def __call__(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Shape (n, outputs): whether a user is unknown, how many items, their codes, their scores."""
        if len(rows) > self.max_rows:
            raise ValueError(f"{len(rows)} users in one call, expected at most {self.max_rows}")
        out = np.zeros((len(rows), self.outputs))
        for start in range(0, len(rows), self._block):
            wanted = rows[start : start + self._block, 0].tolist()
            scores = self._ranking.score(np.array([[each.user] for each in wanted]))
            for place, each in enumerate(wanted):
                self._fill(each, scores[place], out[start + place])
        return out

    def _fill(self, wanted: Wanted, scores: NDArray[np.float64], row: NDArray[np.float64]) -> None:
        rated, left_out = self._ranking.seen(wanted.user), wanted.exclude
        if not wanted.seen:
            left_out = np.concatenate([rated, left_out]) if len(left_out) else rated
        items = best(scores, left_out, wanted.k)
        count, most = len(items), self._most
        row[0], row[1] = not len(rated), count
        row[_BEFORE : _BEFORE + count] = items
        row[_BEFORE + most : _BEFORE + most + count] = scores[items]

    def signature(self, of: Signature) -> Signature:
        """A signature of one column of users, with a number for each number of a row of the result."""
        user = column_of(of, self._ranking.query)
        items = range(1, self._most + 1)
        return Signature(
            task="scores",
            target=self._ranking.item,
            columns=(msgspec.structs.replace(user, missing="refuse", unknown="missing"),),
            numbers=(
                "cold_start",
                "items",
                *(f"item {place}" for place in items),
                *(f"score {place}" for place in items),
            ),
            sensitive=tuple(name for name in of.sensitive if name == self._ranking.query),
        )


def rows_of(codes: NDArray[np.float64], k: int, exclude: NDArray[np.int64], *, seen: bool) -> NDArray[Any]:
    """Rows of `Wanted` for users, from the encoder's matrix of shape (n, 1)."""
    return with_cells_of(codes, as_rows(Wanted(int(code), k, exclude, seen) for code in codes[:, 0].tolist()))


def as_rows(wanted: Iterable[Wanted]) -> NDArray[Any]:
    """An array of shape (n, 1)."""
    every = list(wanted)
    rows = np.empty((len(every), 1), object)
    rows[:, 0] = every
    return rows


def found(row: NDArray[np.float64]) -> Found:
    """The items in a row that `BestItems` gave."""
    most, count = (len(row) - _BEFORE) // 2, int(row[1])
    items = row[_BEFORE : _BEFORE + count].astype(np.intp).tolist()
    return Found(items, row[_BEFORE + most : _BEFORE + most + count].tolist(), bool(row[0]))
