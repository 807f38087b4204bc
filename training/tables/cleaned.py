"""What a column is once it is uniform."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from artifact.signature import Kind
from training.tables.reading import LookAt

if TYPE_CHECKING:
    import pandas as pd


class UnfitColumn(ValueError):  # noqa: N818 - reads as what it is where it is caught
    """The cells do not read as the kind that `[kinds]` asks for; the text says what was there."""


@dataclass(frozen=True)
class Cleaned:
    """A column made uniform.

    Parameters
    ----------
    cells
        Number: float64 with NaN. Else: object of `str` (categories canonical, dates ISO 8601) or None.
    formats
        Of dates that are not ISO 8601: the formats that the data has, as `artifact.kinds.date` reads them.
    remarks
        What was done to the cells.
    id_like
        Why the column seems to name rows rather than to describe them, or None.
    marks
        Texts that stand for a missing value.
    look_at
        What its cells leave open.
    read_as
        How its cells are read, in a few words: "decimal comma, dots part thousands".
    unit
        What a number of it is, where the cells were written otherwise: "km", "seconds".
    dotted_thousands
        Its texts have dots between thousands, so that "1.234" in a request would be no 1.234.
    names, latest, clock
        Of dates, as in `artifact.signature.Column`.
    """

    kind: Kind
    cells: "pd.Series[Any]"
    formats: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    id_like: str | None = None
    marks: tuple[str, ...] = ()
    look_at: tuple[LookAt, ...] = ()
    read_as: str = ""
    unit: str = ""
    dotted_thousands: bool = False
    names: dict[str, str] = field(default_factory=dict)
    latest: str | None = None
    clock: str | None = None

    @property
    def spelling(self) -> dict[str, Any]:
        """What the signature says of how the cells are written, besides formats and marks."""
        said = {key: getattr(self, key) for key in ("unit", "dotted_thousands", "names", "latest", "clock")}
        return {key: value for key, value in said.items() if value}
