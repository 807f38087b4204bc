"""The inputs of a request for a model that takes tensors, or the error that names the wrong one."""

from __future__ import annotations

import difflib
import math
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from artifact.tensors import DTYPES, Value
from serving.errors import Problem
from serving.protocols.oip.tensors import (
    DATATYPES,
    binary_size,
    cells_of_bytes,
    cells_of_json,
    check_parameters,
    check_sizes,
    check_used,
    list_of_tensors,
    name_of,
)
from serving.protocols.wording import cut, described, listed, short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from artifact.tensors import Tensor, Tensors
    from serving.scoring.catalog import LiveModel

MAX_RANK = 32
MAX_FLOAT = 2**1023


class Sent(NamedTuple):
    """The metadata of an input; see `serving.protocols.oip.tensors.Tensor`."""

    name: str
    datatype: str
    sizes: tuple[int, ...]

    @property
    def cells(self) -> int:
        return math.prod(self.sizes)

    @property
    def shape(self) -> str:
        return cut(str(list(self.sizes)))

    @property
    def place(self) -> str:
        return f"input {short(self.name)}"

    def place_of(self, cell: int) -> str:
        """The place of the cell with this index, in words."""
        where = [int(place) for place in np.unravel_index(cell, self.sizes)] if self.sizes else []
        return f"{self.place}, element {where}"


def read_inputs(inputs: object, binary: memoryview | None, model: LiveModel) -> tuple[list[Value], int]:
    """The inputs in the order of the graph, and the rows that they have; 1 if rows are not independent.

    Raises
    ------
    Problem
        400 for binary tensors that do not fit the body, 413 for too much, 422 for other errors.
    """
    tensors = model.signature.tensors
    assert tensors is not None  # noqa: S101 - the endpoint's model takes tensors
    known = {each.name: each for each in tensors.inputs}
    found: dict[str, tuple[Sent, Value]] = {}
    used = size = 0
    for i, each in enumerate(list_of_tensors(inputs)):
        sent = _sent(i, each, known, model)
        if sent.name in found:
            raise Problem(422, f"inputs[{i}]: duplicate input {short(sent.name)}.")
        length = binary_size(sent, each, binary, used)
        if length is None:
            value = _of_json(sent, each.get("data"))
        else:
            assert binary is not None  # noqa: S101 - or there were no length
            value = _of_bytes(sent, binary[used : used + length])
            used += length
        size += value.size
        if model.calls is not None and size > model.calls.max_bytes:
            raise Problem(
                413,
                f"{sent.place}: with it, the tensors of the request have {size} bytes; this model takes at "
                f"most {model.calls.max_bytes}.",
            )
        found[sent.name] = (sent, value)
    check_used(binary, used)
    lacking = [name for name in known if name not in found]
    if lacking:
        raise Problem(422, f"No input {listed(lacking)}; {model.name!r} takes {listed(list(known))}.")
    ordered = [found[each.name] for each in tensors.inputs]
    _check_named_sizes(tensors, [sent for sent, _ in ordered])
    return [value for _, value in ordered], _rows(tensors, [sent for sent, _ in ordered], model)


def _sent(place: int, found: Any, known: dict[str, Tensor], model: LiveModel) -> Sent:
    name = name_of(f"inputs[{place}]", found)
    datatype, shape = found.get("datatype"), found.get("shape")
    tensor = known.get(name)
    if tensor is None:
        near = difflib.get_close_matches(name[:100], list(known), 1)
        hint = f"did you mean {short(near[0])}?" if near else f"{model.name!r} takes {listed(list(known))}."
        raise Problem(422, f"inputs[{place}]: unknown input {short(name)}; {hint}")
    where = f"input {short(name)}"
    if datatype != tensor.datatype:
        other = "" if datatype in DATATYPES else f", which is no datatype (these are {', '.join(DATATYPES)})"
        raise Problem(
            422, f"{where}: datatype: expected {tensor.datatype}, got {described(datatype)}{other}."
        )
    if not isinstance(shape, list):
        raise Problem(422, f"{where}: shape: expected a list of whole numbers, got {described(shape)}.")
    check_sizes(where, shape, least=0)
    _check_shape(where, shape, tensor)
    check_parameters(where, found)
    return Sent(name, tensor.datatype, tuple(shape))


def _check_shape(where: str, shape: list[int], tensor: Tensor) -> None:
    wanted = tensor.shape
    if wanted is None:
        if len(shape) > MAX_RANK:
            raise Problem(422, f"{where}: shape: expected at most {MAX_RANK} sizes, got {len(shape)}.")
        return
    fits = len(shape) == len(wanted) and all(
        size == expected or not isinstance(expected, int)
        for size, expected in zip(shape, wanted, strict=True)
    )
    if not fits:
        raise Problem(
            422,
            f"{where}: shape: expected {tensor.sizes}{' (-1: any size)' if -1 in tensor.sizes else ''}, "
            f"got {cut(str([size if size < 10**18 else '...' for size in shape]))}.",
        )


def _check_named_sizes(tensors: Tensors, sent: Sequence[Sent]) -> None:
    """A size that the graph gives one name is one number."""
    seen: dict[str, tuple[int, str]] = {}
    for each, own in zip(tensors.inputs, sent, strict=True):
        for name, size in zip(each.shape or (), own.sizes, strict=False):
            if not isinstance(name, str) or not name:
                continue
            other, first = seen.setdefault(name, (size, own.place))
            if other != size:
                raise Problem(
                    422,
                    f"{own.place}: shape {own.shape}: its size {short(name)} is {size}, but that of {first} "
                    f"is {other}.",
                )


def _rows(tensors: Tensors, sent: Sequence[Sent], model: LiveModel) -> int:
    if not tensors.batched:
        return 1
    rows = sent[0].sizes[0]
    for each in sent:
        if each.sizes[0] != rows:
            raise Problem(
                422,
                f"{each.place}: shape {each.shape}: expected {rows} rows, as {sent[0].place} has.",
            )
    if not rows:
        raise Problem(422, f"{sent[0].place}: shape {sent[0].shape}: expected at least one row, got none.")
    model.check_rows(rows)
    return rows


# ---- elements


def _of_json(sent: Sent, data: object) -> Value:
    cells = _flat(sent, data)
    if None in cells:
        raise Problem(422, f"{sent.place_of(cells.index(None))}: expected {sent.datatype}, got null.")
    return _value(sent, cells_of_json(sent, cells))


def _of_bytes(sent: Sent, data: memoryview) -> Value:
    if sent.datatype == "BYTES":
        return Value(list(sent.sizes), cells_of_bytes(sent, data))
    if sent.datatype == "BOOL":
        return _value(sent, cells_of_bytes(sent, data))
    cells_of_bytes(sent, data)  # checks the length
    return Value(list(sent.sizes), bytes(data))


def _value(sent: Sent, cells: Any) -> Value:
    if sent.datatype == "BYTES":
        return Value(list(sent.sizes), list(cells))
    dtype = DTYPES[sent.datatype]
    with np.errstate(over="ignore"):
        try:
            array = np.asarray(cells).astype(dtype) if len(cells) else np.empty(0, dtype)
        except OverflowError:  # a whole number beyond float64
            array = np.array([cell if abs(cell) < MAX_FLOAT else math.inf for cell in cells], np.float64)
    if dtype.kind == "f" and not np.isfinite(array).all():
        worst = int(np.flatnonzero(~np.isfinite(array))[0])
        raise Problem(
            422, f"{sent.place_of(worst)}: expected {sent.datatype}, got {described(cells[worst])}."
        )
    return Value(list(sent.sizes), array.tobytes())


def _flat(sent: Sent, data: object) -> list[Any]:
    """Data as one list in row-major order, whether it was sent flat or nested as its shape says."""
    if not isinstance(data, list):
        raise Problem(422, f"{sent.place}: data: expected a list, got {described(data)}.")
    if data and isinstance(data[0], list):
        for depth, size in enumerate(sent.sizes[:-1]):
            wanted = math.prod(sent.sizes[:depth]) * size
            if len(data) != wanted or not all(isinstance(each, list) for each in data):
                raise _not_nested(sent)
            inner = sent.sizes[depth + 1]
            if any(len(each) != inner for each in data):
                raise _not_nested(sent)
            data = list(chain.from_iterable(data))
    if len(data) != sent.cells:
        raise Problem(422, f"{sent.place}: data has {len(data)} values, but its shape is {sent.shape}.")
    return data


def _not_nested(sent: Sent) -> Problem:
    return Problem(422, f"{sent.place}: data: its lists are not nested as its shape {sent.shape} says.")
