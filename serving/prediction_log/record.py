"""What the prediction log keeps, and what a store of it can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from artifact.verdict import LiveVerdict
    from serving.waiting import Until

ID_HEADER = b"x-prediction-id"


class Line(msgspec.Struct, frozen=True):
    """One logged row.

    Parameters
    ----------
    id, row, rows
        Of the reply, which row of it (from 0), and how many rows it had.
    at
        UTC, ISO 8601.
    columns
        By name, as the client sent them; sensitive ones only as `hash_of` has them.
    scores
        Probabilities in the order of the model's classes, or a regression's one number.
    """

    id: str
    row: int
    rows: int
    at: str
    model: str
    version: str
    endpoint: str
    columns: dict[str, Any]
    prediction: Any
    scores: list[float]


class Found(msgspec.Struct, frozen=True):
    """A logged row that was asked for: what feedback has to know of it.

    Parameters
    ----------
    place
        Where it stands, for the store that found it.
    """

    id: str
    row: int
    rows: int
    model: str
    place: Any = None


class Told(NamedTuple):
    """What became of a row: the actual value that somebody gave."""

    row: Found
    actual: Any


class StoreError(Exception):
    """The log cannot be read or written now, and why."""


class Store(Protocol):
    """Where lines are kept. Every method raises `StoreError`; none is called on the event loop.

    `find` and `tell` do work that is bounded by the number of their items, however large the log is. They
    raise `GivenUpError` when nobody waits any more, and `NotYetError` where somebody else must be waited for.
    """

    def write(self, lines: Sequence[Line]) -> None:
        """Keep lines, in the order of their ids."""

    def expire(self, days: float) -> None:
        """Forget what is older."""

    def find(self, wanted: Sequence[tuple[str, int | None]], until: Until) -> list[Found | None]:
        """For each id and row what is logged; any row of the id for None."""

    def tell(self, told: Sequence[Told], until: Until) -> list[Any]:
        """Keep actual values, all or none; for each what is known already, else `NEW`.

        None is kept where another value is known of one.
        """

    def verdicts(self) -> list[LiveVerdict]:
        """What training found the models that log here to be worth."""

    def close(self) -> None:
        """Let go of files and connections."""


NEW = object()
