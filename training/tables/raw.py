"""A table as its source has it, and the error for one that cannot be used."""

from dataclasses import dataclass, field

import pandas as pd

from training.tables.reading import UNDECIDED, Reading


class DataError(Exception):
    """Data that cannot be trained on: one or two sentences for the person whose data it is (exit code 2)."""

    exit_code = 2


@dataclass(frozen=True)
class Raw:
    """A table as its source has it.

    Parameters
    ----------
    frame
        Columns of `str` (a delimited file) or of the source's own types; names may be empty or repeated.
    digest
        sha256 of the source's content.
    reading
        How a text file is written, the keys of `[read]` and `[formats]` in it.
    notes
        What was done to read it, as (column or None, text).
    pictures
        The columns whose cells are squares of `artifact.kinds.image`.
    """

    frame: pd.DataFrame
    digest: str
    reading: Reading = UNDECIDED
    notes: tuple[tuple[str | None, str], ...] = field(default=())
    pictures: tuple[str, ...] = ()


def first_line(error: BaseException) -> str:
    """What an error of a library says, for the end of a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
