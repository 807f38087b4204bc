"""Letters of texts are columns of a search; a winner that does not see them is served without them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from training.families.linear import LETTERS
from training.search.trial import members_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.signature import Signature
    from training.search.search import SearchResult
    from training.search.trial import Trial


def sees_letters(trial: Trial) -> bool:
    """Whether a candidate, or a member of it, sees the runs of letters of texts."""
    return any(member["params"].get("text") == LETTERS for member in members_of(trial))


def without_unseen(
    signature: Signature, result: SearchResult
) -> tuple[Signature, SearchResult, NDArray[np.intp]]:
    """The signature and the result without letters that the winner does not see.

    Also the columns of the searched matrix that are left, of shape (signature.width,).
    """
    every = np.arange(signature.width)
    if sees_letters(result.best) or not result.layout.letters:
        return signature, result, every
    columns = tuple(msgspec.structs.replace(each, letters=(), letter_idf=()) for each in signature.columns)
    layout = result.layout
    left = np.setdiff1d(every, layout.letters)
    place = {old: new for new, old in enumerate(left.tolist())}

    def moved(columns: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(place[each] for each in columns)

    layout = replace(
        layout,
        numbers=moved(layout.numbers),
        categories=moved(layout.categories),
        terms=moved(layout.terms),
        counts=moved(layout.counts),
        letters=(),
        pair=None if layout.pair is None else (place[layout.pair[0]], place[layout.pair[1]]),
    )
    return msgspec.structs.replace(signature, columns=columns), replace(result, layout=layout), left
