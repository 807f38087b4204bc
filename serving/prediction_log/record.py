"""The records of the prediction log, and the interface of its stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from artifact.models_lock import CHAMPION
from artifact.sealing import about_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from artifact.sealing import Sealed, Sealing
    from artifact.verdict import LiveVerdict
    from serving.waiting import Until

ID_HEADER = b"x-prediction-id"


class RowHead(msgspec.Struct, frozen=True):
    """The part of a logged row by which it is found.

    Parameters
    ----------
    id, row, rows
        Id of the reply, number of the row in it (from 0), and its number of rows.
    at
        UTC, ISO 8601.
    """

    id: str
    row: int
    rows: int
    at: str
    model: str
    version: str
    endpoint: str

    @property
    def head(self) -> tuple[str, int, int, str, str, str, str]:
        """These fields, in their order."""
        return self.id, self.row, self.rows, self.at, self.model, self.version, self.endpoint


class Line(RowHead, frozen=True):
    """One logged row.

    Parameters
    ----------
    columns
        Cells by column, as the client sent them; sensitive cells only as `hash_of` returns them.
    scores
        Probabilities in the order of the model's classes, or a regression's one number.
    role
        The role of the version that answered: `champion` or `canary`.
    """

    columns: dict[str, Any]
    prediction: Any
    scores: list[float]
    role: str = CHAMPION


class SealedLine(RowHead, frozen=True):
    """A logged row whose cells, prediction and scores only `artifact.sealing` opens."""

    key: str
    sealed: str
    role: str = CHAMPION


class ShadowHead(msgspec.Struct, frozen=True):
    """The part of a shadow's line by which it is found; the logged row has the same `id` and `row`."""

    id: str
    row: int
    at: str
    model: str
    version: str
    role: str

    @property
    def head(self) -> tuple[str, int, str, str, str, str]:
        """These fields, in their order."""
        return self.id, self.row, self.at, self.model, self.version, self.role


class ShadowLine(ShadowHead, frozen=True):
    """What a shadow predicts for a row that is logged."""

    prediction: Any
    scores: list[float]


class SealedShadowLine(ShadowHead, frozen=True):
    """What a shadow predicts, sealed like the row."""

    key: str
    sealed: str


def sealed_line(line: Line, sealing: Sealing) -> SealedLine:
    """Seal a row; its head stays readable, since rows are found by it."""
    found = _sealed(line, ("rows", "at", "endpoint", "role", "columns", "prediction", "scores"), sealing)
    return SealedLine(*line.head, found.key, found.sealed, line.role)


def sealed_shadow_line(line: ShadowLine, sealing: Sealing) -> SealedShadowLine:
    """Seal what a shadow predicts."""
    found = _sealed(line, ("prediction", "scores"), sealing)
    return SealedShadowLine(*line.head, found.key, found.sealed)


def _sealed(line: Line | ShadowLine, fields: tuple[str, ...], sealing: Sealing) -> Sealed:
    content = msgspec.json.encode({field: getattr(line, field) for field in fields})
    return sealing.seal(content, about_row(line.id, line.row, line.model, line.version))


class Found(msgspec.Struct, frozen=True):
    """A logged row, as feedback needs it.

    Parameters
    ----------
    place
        Position of the row, for the store that found it.
    """

    id: str
    row: int
    rows: int
    model: str
    place: Any = None


class Actual(NamedTuple):
    """The actual value that a client reported for a row."""

    row: Found
    actual: Any


class StoreError(Exception):
    """The log cannot be read or written now; the message has the reason."""


class Store(Protocol):
    """A store of log lines. Every method may raise `StoreError`; none is called on the event loop.

    The work of `find` and `add_actuals` is bounded by the number of their items, however large the log is.
    They raise `GivenUpError` if the client no longer waits, and `NotYetError` if another process holds the
    lock.
    """

    def write(self, lines: Sequence[Line]) -> None:
        """Store lines, in the order of their ids."""

    def write_shadows(self, lines: Sequence[ShadowLine]) -> int:
        """Store what a shadow predicts for rows that `write` has stored; return the number of stored lines.

        Lines whose row is not stored are left out.
        """

    def expire(self, days: float) -> None:
        """Delete older rows, what shadows predicted for them, and their feedback."""

    def find(self, wanted: Sequence[tuple[str, int | None]], until: Until) -> list[Found | None]:
        """The logged row for each id and row; row None means any row of the id."""

    def add_actuals(self, actuals: Sequence[Actual], until: Until) -> list[Any]:
        """Store actual values, all or none; return for each the value stored before, else `NEW`.

        None is stored if one contradicts a stored value.
        """

    def verdicts(self) -> list[LiveVerdict]:
        """The live-quality verdicts that training has published for the models that log here."""

    def close(self) -> None:
        """Close files and connections."""


NEW = object()
