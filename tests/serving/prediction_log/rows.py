"""Lines of a log, and questions to a store of them that wait as long as it takes."""

from __future__ import annotations

import math
from time import sleep
from typing import TYPE_CHECKING, Any

from serving.ids import PREFIX
from serving.prediction_log.record import Actual, Line, ShadowLine
from serving.waiting import NotYetError, Until

if TYPE_CHECKING:
    from serving.prediction_log.record import Found, Store

FOREVER = Until(math.inf)


def id_of(number: int, prefix: str = PREFIX) -> str:
    """An id as this release makes them, at a time of its own."""
    return f"{prefix}-{number:x}-{number:032x}"


def old_id_of(number: int, prefix: str = PREFIX) -> str:
    """An id as releases before 0.2 made them."""
    return f"{prefix}-{number:x}"


def line(one: int | str, row: int = 0, rows: int = 1, text: str = "", model: str = "iris") -> Line:
    """A line of the log, by its id or the number of it."""
    found = id_of(one) if isinstance(one, int) else one
    at = "2026-01-01T00:00:00.000+00:00"
    return Line(found, row, rows, at, model, "4", "predict", {"t": text}, "a", [1.0])


def shadow_of(found: Line, version: str = "5") -> ShadowLine:
    """What the shadow of a version predicts for a line."""
    return ShadowLine(found.id, found.row, found.at, found.model, version, "shadow", "b", [0.5])


def find(store: Store, one: str, row: int | None = 0) -> tuple[str, int, int] | None:
    """Id, row and rows of what the store finds."""
    (found,) = store.find([(one, row)], FOREVER)
    return None if found is None else (found.id, found.row, found.rows)


def tell(store: Store, *values: tuple[Line, Any]) -> list[Any]:
    """Tell a store values of rows that it has."""
    while True:  # as `Feedback` does: from the start, since a file may have been rewritten meanwhile
        found = store.find([(said.id, said.row) for said, _ in values], FOREVER)
        assert None not in found
        told = [
            Actual(row, actual) for row, (_, actual) in zip(found, values, strict=True) if row is not None
        ]
        try:
            return store.add_actuals(told, FOREVER)
        except NotYetError as error:
            sleep(error.after_s)


def whole(found: Found | None) -> Found:
    """What was found, which is something."""
    assert found is not None
    return found
