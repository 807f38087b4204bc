"""Hashes of cells and rows: they decide which rows are for the test, and which of a large table are read."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def number_hashes(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """A hash of each number; shape (rows,)."""
    whole = np.where(np.isnan(values), np.nan, values) + 0.0  # one NaN, and no minus zero
    return np.ascontiguousarray(whole).view(np.uint64)


def text_hashes(values: Iterable[Any]) -> NDArray[np.uint64]:
    """A hash of each text, None being a missing one; shape (rows,)."""
    codes, distinct = pd.factorize(np.asarray(values, object), use_na_sentinel=True)
    table = np.array([hash_of(f"text {value}") for value in distinct] + [hash_of("missing")], np.uint64)
    return table[codes]


def hash_of(text: str) -> np.uint64:
    """The 64-bit hash of a text."""
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014): every bit of the input moves every bit there is."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
