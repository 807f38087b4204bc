"""A logged row is a person's if its cell in one column is one of the given values."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact.encode import canonical
from artifact.logged import HASH_DIGITS, MAX_TEXT, hash_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from artifact.sealing import Sealing

_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")
"""A text that may stand for a logged number; 007 does not."""
_HASH = re.compile(rf"[0-9a-f]{{{HASH_DIGITS}}}")


class ErasureError(Exception):
    """Nothing was removed; the message says why (exit code 2)."""

    exit_code = 2


class UnfinishedError(Exception):
    """Some rows may have been removed and others not (exit code 1)."""

    exit_code = 1


@dataclass(frozen=True)
class Person:
    """Whose rows are removed.

    Parameters
    ----------
    column, values
        The column that identifies the person, and the person's values in it, as texts.
    model
        Only rows of this model; "" for all models.
    hash_key
        The key by which servers hash sensitive cells, or "".
    sealing
        The keys of an encrypted log.
    """

    column: str
    values: tuple[str, ...]
    model: str = ""
    hash_key: str = ""
    sealing: Sealing | None = None

    def _spellings(self) -> Iterator[str | float]:
        """All forms in which a server may have received or logged one of the values."""
        for value in self.values:
            for form in ("NFC", "NFD"):
                yield unicodedata.normalize(form, value)[:MAX_TEXT]
            if _NUMBER.fullmatch(value.strip()):
                if "." not in value:
                    yield int(value)
                yield float(value)
                yield float(np.float32(value))
                yield float(str(np.float32(value)))

    @cached_property
    def _texts(self) -> frozenset[str]:
        return frozenset(canonical(found) for found in self._spellings())

    @cached_property
    def _hashes(self) -> frozenset[str | None]:
        key = self.hash_key
        return frozenset(hash_of(key, found) for found in self._spellings()) if key else frozenset()

    @cached_property
    def rounded(self) -> tuple[str, ...]:
        """The values that float32 rounds: a row of another value may have been logged as the same number."""
        return tuple(
            value
            for value in self.values
            if _NUMBER.fullmatch(value.strip()) and float(np.float32(value)) != float(value)
        )

    def has(self, cell: Any) -> bool:
        """Whether a logged cell is one of the values."""
        return cell is not None and (canonical(cell) in self._texts or cell in self._hashes)

    def may_be_hidden(self, cell: Any) -> bool:
        """Whether a cell looks hashed and cannot be compared, since there is no key."""
        return not self.hash_key and isinstance(cell, str) and bool(_HASH.fullmatch(cell))

    def in_half_a_line(self, line: bytes) -> bool:
        """Whether a line that is not JSON, since its writer died, has one of the values in the column."""
        key = msgspec.json.encode(self.column) + b":"
        cells = (msgspec.json.encode(cell) for cell in (*self._spellings(), *self._hashes))
        return any(key + cell in line for cell in cells)
