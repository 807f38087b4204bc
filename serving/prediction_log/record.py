"""What the prediction log keeps, and what a store of it can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from artifact.verdict import Verdict

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


class StoreError(Exception):
    """The log cannot be read or written now, and why."""


class Told(NamedTuple):
    """What became of a row: the actual value that somebody gave."""

    line: Line
    actual: Any


class Store(Protocol):
    """Where lines are kept. Every method raises `StoreError`; none is called on the event loop."""

    def write(self, lines: Sequence[Line]) -> None:
        """Keep lines, in the order of their ids."""

    def expire(self, days: float) -> None:
        """Forget what is older."""

    def find(self, id: str, row: int | None) -> Line | None:  # noqa: A002 - the reply's name for it
        """A line by its id and row; any row of the id for None."""

    def tell(self, told: Sequence[Told]) -> list[Any]:
        """Keep actual values, all or none; for each what is known already, else `NEW`.

        None is kept where another value is known of one.
        """

    def verdicts(self) -> list[Verdict]:
        """What training found the models that log here to be worth."""

    def close(self) -> None:
        """Let go of files and connections."""


NEW = object()
