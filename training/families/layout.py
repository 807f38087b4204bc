"""Which columns of the encoded matrix are what: all that a family must know of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.signature import Signature

ONE_HOT_LEVELS = 16
"""Categories up to which a column is one-hot encoded; beyond, by the target."""
NATIVE_LEVELS = 200
"""Categories up to which gradient boosting splits a column by sets of them; it has room for 255."""
MIN_ONE_UNIT_COLUMNS, ONE_UNIT_FRACTION = 16, 0.5
"""`of_one_unit` needs this many columns, and half of them must spread this fraction of the widest."""


@dataclass(frozen=True)
class Layout:
    """Which columns of the matrix are what, by index.

    Parameters
    ----------
    numbers
        Numbers and parts of dates; NaN is missing.
    categories
        Codes; -1 is missing or unknown.
    levels
        How many categories each column of `categories` has.
    terms
        TF-IDF weights, never missing.
    letters
        TF-IDF weights of runs of letters, for linear models alone.
    counts
        Counts of a text, never missing.
    rows
        How many rows the search has.
    classes
        0 for a regression.
    weighted
        Class weights are tried: rare classes would otherwise not be predicted.
    one_unit
        The numbers have one unit, as pixels have: how far a column spreads says how much it matters.
    pair
        The places of users and items in a use case that ranks; None in any other.
    own, code
        Entries of `candidates.add`, and the folders of their modules.
    """

    numbers: tuple[int, ...]
    categories: tuple[int, ...]
    levels: tuple[int, ...]
    terms: tuple[int, ...]
    rows: int
    classes: int
    weighted: bool = False
    one_unit: bool = False
    pair: tuple[int, int] | None = None
    own: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    letters: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """Columns of the matrix, without those that only linear models see."""
        return len(self.numbers) + len(self.categories) + len(self.terms) + len(self.counts)

    @property
    def cost(self) -> int:
        """Columns by what they cost: a row has few of a text's terms, so twenty terms count as one."""
        return len(self.numbers) + len(self.categories) + len(self.counts) + len(self.terms) // 20

    @property
    def trees_a_round(self) -> int:
        """Trees that a round of boosting grows: one for each class of three and more."""
        return self.classes if self.classes > 2 else 1

    @property
    def one_hot(self) -> tuple[int, ...]:
        """The columns of few categories."""
        return tuple(c for c, n in zip(self.categories, self.levels, strict=True) if n <= ONE_HOT_LEVELS)

    @property
    def many(self) -> tuple[int, ...]:
        """The columns of many categories."""
        return tuple(c for c in self.categories if c not in self.one_hot)

    @property
    def native(self) -> tuple[int, ...]:
        """The columns whose categories gradient boosting can split by itself."""
        return tuple(c for c, n in zip(self.categories, self.levels, strict=True) if n <= NATIVE_LEVELS)


def layout_of(
    signature: Signature,
    rows: int,
    *,
    weighted: bool = False,
    one_unit: bool = False,
    pair: tuple[str, str] | None = None,
    own: tuple[str, ...] = (),
    code: tuple[str, ...] = (),
) -> Layout:
    """Where the signature's columns stand in the matrix; `pair` names those of users and items."""
    numbers: list[int] = []
    categories: list[int] = []
    levels: list[int] = []
    terms: list[int] = []
    letters: list[int] = []
    counts: list[int] = []
    start = 0
    for column in signature.columns:
        places = range(start, start + column.width)
        start += column.width
        if column.kind == "category":
            categories += places
            levels.append(len(column.categories))
        elif column.kind == "text":
            first = len(column.terms)
            last = first + len(column.letters)
            terms += places[:first]
            letters += places[first:last]
            counts += places[last:]
        else:
            numbers += places
    return Layout(
        tuple(numbers),
        tuple(categories),
        tuple(levels),
        tuple(terms),
        rows=rows,
        classes=len(signature.classes),
        weighted=weighted,
        one_unit=one_unit,
        pair=None if pair is None else pair_of(signature, pair),
        own=own,
        code=code,
        letters=tuple(letters),
        counts=tuple(counts),
    )


def pair_of(signature: Signature, pair: tuple[str, str]) -> tuple[int, int]:
    """The places of two categories in the matrix, by the names of their columns."""
    places = dict(zip(signature.names, signature.places, strict=True))
    return places[pair[0]].start, places[pair[1]].start


def of_one_unit(numbers: NDArray[np.float64]) -> bool:
    """Whether numbers, of shape (rows, columns), look like one unit, as pixels do.

    The columns' minima lie near one another, and most columns spread about as far as the widest.
    """
    if numbers.shape[1] < MIN_ONE_UNIT_COLUMNS or np.isnan(numbers).all(axis=0).any():
        return False
    low, high = np.nanmin(numbers, axis=0), np.nanmax(numbers, axis=0)
    spread = high - low
    near = low <= low.min() + ONE_UNIT_FRACTION / 2 * (high.max() - low.min())
    return bool(near.all() and np.median(spread) >= ONE_UNIT_FRACTION * spread.max())
