"""Whether a column names things: ids, codes, numbers of rows."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.tables.numbers import NUMBER_SHARE, plain

ID_SHARE = 0.95  # distinct values per row from which a column is an id
MIN_ID_ROWS = 20
MIN_TELEPHONE_DIGITS = 8
_ID_WORD = re.compile(
    r"(?:.*[\s_.-])?(?:id|ids|idx|uuid|guid|index|key|rownames?|row|rownum|rowid|no|nr|num|number|sno|serial|instant"
    r"|record|case|seq|sequence)|unnamed.*|s\.?\s?no\.?"
)
_NAMES_THINGS = re.compile(r"(?:.*[\s_.-])?(?:[iI][dD]s?|ID)|.*[a-z](?:ID|Id)|[iI][dD][\s_.-].+")


def names_things(name: str) -> bool:
    """Whether a column of this name says which thing a row is about, as `patient_id` and `id_paciente` do."""
    return _NAMES_THINGS.fullmatch(name) is not None


def has_id_name(name: str) -> bool:
    """Whether a column's name is one of numbers and ids."""
    return _ID_WORD.fullmatch(name.lower()) is not None or names_things(name)


def counts_rows(values: NDArray[np.float64], name: str) -> bool:
    """0, 1, 2, ... in the file's order, or in any order under no name of its own."""
    if values[0] in {0.0, 1.0} and bool((np.diff(values) == 1).all()):
        return True
    return name.startswith("column_") and values.max() - values.min() == len(values) - 1


def is_code(word: str) -> bool:
    """Digits with a zero in front, or a telephone number such as "+393401234567"."""
    if word[:1] == "+":
        return len(word) > MIN_TELEPHONE_DIGITS and word[1:].isdigit()
    return word[:1] == "0" and len(word) > 1 and word.isdigit()


def has_codes(distinct: Sequence[str]) -> bool:
    """Whether they are digits with zeros or all with a plus in front, which a number would lose."""
    if sum(word[:1] == "+" and is_code(word) for word in distinct) >= NUMBER_SHARE * len(distinct):
        return True
    others = [word for word in distinct if not word.isdigit()]
    if len(others) > (1 - NUMBER_SHARE) * len(distinct):
        return False
    return any(is_code(word) and word[0] == "0" for word in distinct) and bool(
        np.isnan(plain(others)).all()
    )  # "unknown" or "02134-1234", but no "1.5"
