"""The tensors that a graph takes and gives, and a call of it as bytes between processes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    "BYTES": np.dtype(object),
}
"""The datatypes of the Open Inference Protocol; BYTES are texts."""


class Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One input or output of a graph.

    Parameters
    ----------
    shape
        Whole numbers, and for a size that may vary its name in the graph, or "" if it has none there. None if
        the graph does not say how many dimensions there are.
    """

    name: str
    datatype: str
    shape: tuple[int | str, ...] | None

    @property
    def sizes(self) -> list[int]:
        """The shape as the protocol has it: -1 for a size that may vary."""
        return [-1] if self.shape is None else [size if isinstance(size, int) else -1 for size in self.shape]


class Tensors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a graph takes and gives.

    Parameters
    ----------
    batched
        The first axis of every input and output counts rows, and a row's answer does not depend on the
        others: then the rows of several requests may go into one call.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    batched: bool = False


class Value(msgspec.Struct, array_like=True, gc=False):
    """One tensor of a call: its shape, and its elements in row-major order."""

    shape: list[int]
    data: bytes | list[str]

    @property
    def size(self) -> int:
        """How many bytes its elements are; of a text, its characters."""
        return len(self.data) if isinstance(self.data, bytes) else sum(map(len, self.data))

    def part(self, start: int, stop: int) -> Value:
        """The rows [start, stop) of the first axis."""
        rows = self.shape[0]
        if start == 0 and stop == rows:
            return self
        per_row = len(self.data) // rows
        return Value([stop - start, *self.shape[1:]], self.data[start * per_row : stop * per_row])


Answer = list[Value] | str
"""The outputs of one request, or the reason why the graph does not take its tensors."""

_encode = msgspec.msgpack.encode
pack_requests = _encode
unpack_requests = msgspec.msgpack.Decoder(list[list[Value]]).decode
pack_answers = _encode
unpack_answers = msgspec.msgpack.Decoder(list[list[Value] | str]).decode


class TensorGolden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A made request and what the graph answered at import; None if it answered no request that was tried.

    Parameters
    ----------
    tolerance
        The largest allowed difference of a floating-point number, relative to the largest of its tensor.
        Infinity for a graph whose answers differ from run to run: then only shapes are compared.
    """

    inputs: list[Value] | None
    outputs: list[Value] | None
    tolerance: float


def array_of(value: Value, datatype: str) -> NDArray[Any]:
    """A tensor as numpy has it; read-only unless it holds texts."""
    if isinstance(value.data, list):
        found = np.empty(len(value.data), object)
        found[:] = value.data
        return found.reshape(value.shape)
    return np.frombuffer(value.data, DTYPES[datatype]).reshape(value.shape)


def value_of(array: NDArray[Any]) -> Value:
    """What numpy has as a tensor of a call."""
    if array.dtype.kind in "OUS":
        return Value(list(array.shape), [str(text) for text in array.ravel().tolist()])
    return Value(list(array.shape), np.ascontiguousarray(array).tobytes())


def joined(parts: Sequence[Value]) -> Value:
    """Tensors one after the other along the first axis."""
    if len(parts) == 1:
        return parts[0]
    rows = sum(part.shape[0] for part in parts)
    if isinstance(parts[0].data, bytes):
        return Value([rows, *parts[0].shape[1:]], b"".join(part.data for part in parts))  # type: ignore[misc]
    return Value([rows, *parts[0].shape[1:]], [text for part in parts for text in part.data])  # type: ignore[misc]


def difference(found: Value, expected: Value, datatype: str, tolerance: float) -> str:
    """How a tensor differs from the expected one; "" if it does not."""
    if found.shape != expected.shape:
        return f"its shape is {found.shape}, expected {expected.shape}"
    if not datatype.startswith("FP"):
        return "" if found.data == expected.data or math.isinf(tolerance) else "its values differ"
    one, other = (array_of(each, datatype).astype(np.float64) for each in (found, expected))
    if math.isinf(tolerance) or not one.size:
        return ""
    finite = np.isfinite(other)
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True) or not np.isfinite(one[finite]).all():
        return "its infinities or NaNs differ"
    allowed = tolerance * max(1.0, float(np.abs(other[finite]).max(initial=0.0)))
    worst = float(np.abs(one[finite] - other[finite]).max(initial=0.0))
    return "" if worst <= allowed else f"a value differs by {worst:.3g}, more than {allowed:.3g}"
