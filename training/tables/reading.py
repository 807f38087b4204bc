"""How a file is read: what was decided for the whole of it and why, and what a person should settle.

Every stage (encoding, dialect, numbers, dates) adds to both; `preview`, `init`, the data report and the
notes of a run show them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from training.settings import Read

Value = TypeVar("Value")


class LookAt(NamedTuple):
    """A reading that the file leaves open.

    The text says what was unsure, the reading that was taken, what the other would be and, last, the key
    that settles it: 'days are read as %d/%m/%Y, and %m/%d/%Y fits as well: set day_first under [read]'.
    """

    column: str | None
    text: str


@dataclass(frozen=True)
class Decided(Generic[Value]):
    """One decision for the whole file, and what in the file (or which key) says so."""

    value: Value
    reason: str
    given: bool = False  # by a key, so that nothing that the cells say changes it


@dataclass(frozen=True)
class Reading:
    """What was decided for a whole file; None where nothing in the file asks for a decision.

    Parameters
    ----------
    encoding, delimiter, quote, escape, skip_lines
        Of a text file, from `sources`; quote and escape are "" where the file has none.
    decimal, thousands
        The marks of its numbers. `thousands` is "" where no number may have such a mark.
    day_first
        Whether 01/02/2024 is in February, in every column that does not say otherwise itself.
    missing, not_missing
        The words of `[read]`; the usual ones stand in `tokens.MISSING_WORDS`.
    formats
        The `strptime` format of a column, from `[formats]`.
    look_at
        What no column's own cells leave open, but the file as a whole.
    """

    encoding: Decided[str] | None = None
    delimiter: Decided[str] | None = None
    quote: Decided[str] | None = None
    escape: Decided[str] | None = None
    skip_lines: Decided[int] | None = None
    decimal: Decided[str] | None = None
    thousands: Decided[str] | None = None
    day_first: Decided[bool] | None = None
    missing: tuple[str, ...] = ()
    not_missing: tuple[str, ...] = ()
    formats: Mapping[str, str] = field(default_factory=dict)
    look_at: tuple[LookAt, ...] = ()


UNDECIDED = Reading()


def from_keys(read: Read, formats: Mapping[str, str]) -> Reading:
    """What the use case says, so that no cell can say otherwise."""

    def given(key: str) -> Decided[Any] | None:
        value = getattr(read, key)
        return None if value is None else Decided(value, f"{key} under [read]", given=True)

    return Reading(
        encoding=given("encoding"),
        delimiter=given("delimiter"),
        quote=given("quote"),
        escape=given("escape"),
        skip_lines=given("skip_lines"),
        decimal=given("decimal"),
        thousands=given("thousands"),
        day_first=given("day_first"),
        missing=read.missing,
        not_missing=read.not_missing,
        formats=formats,
    )


def number_of(count: int, thing: str) -> str:
    """Count a thing, with its verb: "1 line is" or "2 lines are"."""
    return f"{count:,} {thing} is" if count == 1 else f"{count:,} {thing}s are"
