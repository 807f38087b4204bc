"""Words that stand in a model made elsewhere: each becomes a category that a request can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from artifact.encode import canonical
from artifact.nfc import nfc

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from artifact.signature import Signature

UNLISTED = "\u0001 no such word \u0001"
"""Stands for every word that the signature does not list."""


def with_words(signature: Signature, words: Mapping[str, AbstractSet[str]]) -> Signature:
    """The signature with more categories where unknown ones are passed on.

    A word that no request can hold, such as one with a space at its end, stays out.

    Parameters
    ----------
    words
        By column.
    """
    columns = []
    for column in signature.columns:
        new = sorted(
            word
            for word in words.get(column.name, set()) - set(column.categories)
            if nfc(canonical(word)) == word and word
        )
        takes = column.kind == "category" and column.unknown == "pass"
        columns.append(
            msgspec.structs.replace(column, categories=(*column.categories, *new))
            if new and takes
            else column
        )
    return msgspec.structs.replace(signature, columns=tuple(columns))
