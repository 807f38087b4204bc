"""Input tensors of the Open Inference Protocol to encoded rows, and their errors.

Each tensor is checked on its own (shape, datatype and data), then all tensors against the signature. Memory
is allocated for the data that was sent, never for the size that a shape claims.
"""

from __future__ import annotations

import struct
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from artifact.encode import MAX_NUMBER, BadRows
from artifact.nfc import nfc
from serving.errors import Problem, bad_rows
from serving.protocols.wording import cut, described, listed, short

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from artifact.signature import Column
    from serving.scoring.catalog import LiveModel

FLOATS = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
WHOLE = {
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
}
DTYPES = {name: np.dtype(code) for name, code in (FLOATS | WHOLE | {"BOOL": "|u1"}).items()}
DATATYPES = (*DTYPES, "BYTES")

_NUMBERS = {int, float}
_NARROW = (DTYPES["FP16"], DTYPES["FP32"])
_length = struct.Struct("<I").unpack_from
_packed_length = struct.Struct("<I").pack


class Placed(Protocol):
    """An input whose data is checked."""

    @property
    def datatype(self) -> str:
        """One of `DATATYPES`."""

    @property
    def cells(self) -> int:
        """How many elements it has."""

    @property
    def shape(self) -> str:
        """Its shape, in words."""

    @property
    def place(self) -> str:
        """Its name, in words."""

    def place_of(self, cell: int) -> str:
        """The place of the cell with this index, in words."""


class Tensor(NamedTuple):
    """The metadata of an input.

    Parameters
    ----------
    width
        None for a shape of one dimension.
    """

    name: str
    datatype: str
    rows: int
    width: int | None

    @property
    def columns(self) -> int:
        return 1 if self.width is None else self.width

    @property
    def cells(self) -> int:
        return self.rows * self.columns

    @property
    def shape(self) -> str:
        return cut(f"[{self.rows}]" if self.width is None else f"[{self.rows}, {self.width}]")

    @property
    def place(self) -> str:
        return f"input {short(self.name)}"

    def place_of(self, cell: int) -> str:
        """The place of the cell with this index, in words."""
        row, column = divmod(cell, self.columns)
        return f"{self.place}, row {row}" + (f", position {column}" if self.columns > 1 else "")


# A tensor and its cells: flat, row by row, an array of the datatype or a list of Python values.
Filled = tuple[Tensor, Any]


def read_tensors(inputs: object, binary: memoryview | None, model: LiveModel) -> list[Filled]:
    """The inputs of a request, each checked against itself.

    Parameters
    ----------
    binary
        The bytes behind the JSON; None if the request does not give the length of its JSON.

    Raises
    ------
    Problem
        400 for binary tensors that do not fit the body, 413 for too many rows, 422 for other errors.
    """
    inputs = list_of_tensors(inputs)
    if not inputs:
        raise Problem(422, '"inputs" is empty; expected one tensor, or one a column.')
    most = len(model.signature.columns) + len(model.signature.ignored)
    if len(inputs) > most:
        raise Problem(
            422,
            f'"inputs": {len(inputs)} tensors, but {model.name!r} has {most} columns; '
            "expected one tensor, or one a column.",
        )
    found: list[Filled] = []
    names: set[str] = set()
    used = 0
    for i, each in enumerate(inputs):
        tensor = _claimed(f"inputs[{i}]", each)
        name = nfc(tensor.name)
        if name in names:
            raise Problem(422, f"inputs[{i}]: duplicate input {short(tensor.name)}.")
        names.add(name)
        model.check_rows(tensor.rows)
        size = binary_size(tensor, each, binary, used)
        if size is None:
            cells = cells_of_json(tensor, _without_nan(tensor, _flattened(tensor, each.get("data"))))
        else:
            assert binary is not None  # noqa: S101 - or there were no size
            cells = cells_of_bytes(tensor, binary[used : used + size])
            used += size
        found.append((tensor, cells))
    check_used(binary, used)
    return found


def list_of_tensors(inputs: object) -> list[Any]:
    """The `inputs` of a request.

    Raises
    ------
    Problem
        422 if they are not a list.
    """
    if not isinstance(inputs, list):
        raise Problem(422, f'"inputs": expected a list of tensors, got {described(inputs)}.')
    return inputs


def name_of(where: str, found: object) -> str:
    """The name of an input.

    Raises
    ------
    Problem
        422 if the input is not an object with a name.
    """
    if not isinstance(found, dict):
        raise Problem(422, f"{where}: expected an object with a name, got {described(found)}.")
    name = found.get("name")
    if not isinstance(name, str):
        raise Problem(422, f"{where}: name: expected a text, got {described(name)}.")
    return name


def check_used(binary: memoryview | None, used: int) -> None:
    """Refuse bytes behind the JSON that belong to no input, with 400."""
    if binary is not None and used != len(binary):
        raise Problem(
            400, f"{len(binary)} bytes follow the JSON, but the inputs' binary_data_size adds up to {used}."
        )


def check_sizes(where: str, shape: list[Any], *, least: int) -> None:
    """Refuse a shape whose sizes are not whole numbers, with 422.

    Parameters
    ----------
    least
        The smallest size that the message names; 0 is not refused here.
    """
    for size in shape:
        if type(size) is not int or size < 0:
            raise Problem(422, f"{where}: shape: expected whole numbers from {least}, got {described(size)}.")


def check_parameters(where: str, found: dict[str, Any]) -> None:
    """Refuse an input whose parameters ask for what is not supported, with 422."""
    parameters = parameters_of(found, where)
    if parameters.get("content_type") == "base64":
        raise Problem(422, f"{where}: content_type 'base64' is not supported; send the text itself.")
    if any(key.startswith("shared_memory") for key in parameters):
        raise Problem(422, f"{where}: shared memory is not supported; send the data.")


def _claimed(where: str, found: Any) -> Tensor:
    name = name_of(where, found)
    datatype, shape = found.get("datatype"), found.get("shape")
    where = f"input {short(name)}"
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise Problem(
            422, f"{where}: datatype: expected one of {', '.join(DATATYPES)}, got {described(datatype)}."
        )
    if not isinstance(shape, list):
        raise Problem(422, f"{where}: shape: expected a list of whole numbers, got {described(shape)}.")
    if len(shape) not in (1, 2):
        raise Problem(
            422, f"{where}: shape: expected [rows] or [rows, columns], got {len(shape)} dimensions."
        )
    check_sizes(where, shape, least=1)
    tensor = Tensor(name, datatype, shape[0], shape[1] if len(shape) == 2 else None)
    if not tensor.cells:
        raise Problem(422, f"{where}: shape {tensor.shape}: expected at least one row, got none.")
    check_parameters(where, found)
    return tensor


def binary_size(tensor: Placed, found: dict[str, Any], binary: memoryview | None, used: int) -> int | None:
    """The tensor's number of bytes behind the JSON; None if its data is JSON."""
    size = parameters_of(found, tensor.place).get("binary_data_size")
    if size is None:
        return None
    if found.get("data") is not None:
        raise Problem(422, f"{tensor.place}: has both data and binary_data_size; expected one of them.")
    if type(size) is not int or size < 0:
        raise Problem(
            400, f"{tensor.place}: binary_data_size: expected a whole number from 0, got {described(size)}."
        )
    if binary is None:
        raise Problem(
            400, f"{tensor.place}: binary_data_size needs the header Inference-Header-Content-Length."
        )
    if size > len(binary) - used:
        left = len(binary) - used
        raise Problem(
            400, f"{tensor.place}: binary_data_size is {described(size)}, but only {left} bytes are left."
        )
    return size


# ---- cells


def _flattened(tensor: Tensor, data: object) -> list[Any]:
    """Data as one list, row by row, whether it was sent flat or nested."""
    if not isinstance(data, list):
        raise Problem(422, f"{tensor.place}: data: expected a list, got {described(data)}.")
    if data and isinstance(data[0], list):
        if len(data) != tensor.rows:
            raise Problem(422, f"{tensor.place}: data has {len(data)} rows, but its shape is {tensor.shape}.")
        for i, row in enumerate(data):
            if not isinstance(row, list) or len(row) != tensor.columns:
                got = f"{len(row)} values" if isinstance(row, list) else described(row)
                raise Problem(
                    422,
                    f"{tensor.place}, row {i}: expected a list as its shape is {tensor.shape}, got {got}.",
                )
        data = list(chain.from_iterable(data))
    if len(data) != tensor.cells:
        raise Problem(422, f"{tensor.place}: data has {len(data)} values, but its shape is {tensor.shape}.")
    return data


def _without_nan(tensor: Tensor, data: list[Any]) -> list[Any]:
    """The cells with null for NaN: both mean missing. Floats keep NaN."""
    if tensor.datatype in FLOATS or float not in set(map(type, data)):
        return data
    return [None if cell != cell else cell for cell in data]  # noqa: PLR0124 - only NaN differs from itself


def cells_of_json(tensor: Placed, data: list[Any]) -> Any:
    """Checked cells; null means missing for every datatype."""
    kinds = set(map(type, data))
    kinds.discard(type(None))
    missing = not kinds or None in data
    datatype = tensor.datatype
    if datatype == "BYTES":
        return _checked(tensor, data, kinds <= {str}, lambda cell: type(cell) is str)
    if datatype == "BOOL":
        _checked(tensor, data, kinds <= {bool}, lambda cell: type(cell) in (bool, int) and cell in (0, 1))
        return data if kinds <= {bool} else [None if cell is None else bool(cell) for cell in data]
    _checked(tensor, data, kinds <= _NUMBERS, lambda cell: type(cell) in _NUMBERS)
    if datatype in FLOATS:
        # In double whatever the datatype: what a text says is not rounded twice.
        try:
            return data if missing else np.array(data, np.float64)
        except OverflowError:
            return data  # a whole number beyond float64, which the encoder refuses
    if float in kinds:
        _checked(tensor, data, False, lambda cell: float(cell).is_integer())
        data = [None if cell is None else int(cell) for cell in data]
    bounds = np.iinfo(DTYPES[datatype])
    low, high = int(bounds.min), int(bounds.max)
    present = [cell for cell in data if cell is not None] if missing else data
    within = not present or (min(present) >= low and max(present) <= high)
    _checked(tensor, data, within, lambda cell: low <= cell <= high)
    return data if missing else np.array(data, DTYPES[datatype])


def _checked(tensor: Placed, data: list[Any], known: bool, good: Callable[[Any], bool]) -> list[Any]:
    """The data; raises for an invalid cell. `known` skips the check of single cells."""
    if not known:
        for i, cell in enumerate(data):
            if cell is not None and not good(cell):
                expected = "BYTES, a text" if tensor.datatype == "BYTES" else tensor.datatype
                raise Problem(422, f"{tensor.place_of(i)}: expected {expected}, got {described(cell)}.")
    return data


def cells_of_bytes(tensor: Placed, data: memoryview) -> Any:
    """Cells of a binary tensor: an array over the body itself, or the texts of BYTES."""
    if tensor.datatype == "BYTES":
        return _texts(tensor, data)
    dtype = DTYPES[tensor.datatype]
    if len(data) != tensor.cells * dtype.itemsize:
        raise Problem(
            400,
            f"{tensor.place}: binary_data_size is {len(data)}, but shape {tensor.shape} of {tensor.datatype} "
            f"is {described(tensor.cells * dtype.itemsize)} bytes.",
        )
    cells = np.frombuffer(data, dtype)
    return list(map(bool, cells.tolist())) if tensor.datatype == "BOOL" else cells


def _texts(tensor: Placed, data: memoryview) -> list[str]:
    texts: list[str] = []
    place, end = 0, len(data)
    while place < end:
        if len(texts) == tensor.cells:
            raise Problem(
                400, f"{tensor.place}: {end - place} bytes follow the texts of shape {tensor.shape}."
            )
        size = _length(data, place)[0] if place + 4 <= end else end
        place += 4
        if place + size > end:
            raise Problem(400, f"{tensor.place_of(len(texts))}: the text's length goes beyond the data.")
        try:
            texts.append(str(data[place : place + size], "utf-8"))
        except UnicodeDecodeError:
            raise Problem(400, f"{tensor.place_of(len(texts))}: expected a text in UTF-8.") from None
        place += size
    if len(texts) != tensor.cells:
        raise Problem(400, f"{tensor.place}: {len(texts)} texts, but its shape is {tensor.shape}.")
    return texts


def packed_texts(texts: Sequence[str]) -> bytes:
    """Texts as the bytes of a binary tensor: each after its length."""
    encoded = [text.encode() for text in texts]
    return b"".join([part for text in encoded for part in (_packed_length(len(text)), text)])


# ---- cells to rows


def encode_rows(inputs: Sequence[Filled], model: LiveModel) -> NDArray[Any]:
    """The encoded rows of one tensor of all columns, or of one tensor a column.

    Raises
    ------
    Problem
        422 for rows that the signature refuses.
    """
    signature = model.signature
    names = signature.names
    try:
        if len(inputs) == 1:
            tensor, cells = inputs[0]
            if tensor.columns == len(names) and (tensor.width is not None or len(names) == 1):
                return _matrix(tensor, cells, model)
        return model.encoder.columns(_by_column(inputs, model))
    except BadRows as error:
        raise bad_rows(error) from None


def _by_column(inputs: Sequence[Filled], model: LiveModel) -> dict[str, Any]:
    signature = model.signature
    kinds: dict[str, str] = {column.name: column.kind for column in signature.columns}
    known = kinds.keys() | set(signature.ignored)
    names = [nfc(tensor.name) for tensor, _ in inputs]
    for tensor, _ in inputs:
        if len(inputs) == 1 and (nfc(tensor.name) not in known or tensor.columns != 1):
            raise Problem(
                422,
                f"{tensor.place}: shape {tensor.shape}: expected [rows, {len(kinds)}], or one input a column "
                f"named as the columns of /models/{model.name}.",
            )
        if tensor.columns != 1:
            raise Problem(
                422, f"{tensor.place}: shape {tensor.shape}: expected [rows] or [rows, 1], as of one column."
            )
    given = {name: _column(cells, kinds.get(name)) for name, (_, cells) in zip(names, inputs, strict=True)}
    lacking = [
        column.name for column in signature.columns if column.missing == "refuse" and column.name not in given
    ]
    if lacking and given.keys() <= known:
        raise Problem(422, f"No input for {listed(lacking)}; expected a tensor for each of these columns.")
    return given


def _matrix(tensor: Tensor, cells: Any, model: LiveModel) -> NDArray[Any]:
    columns = model.signature.columns
    width = len(columns)
    if isinstance(cells, np.ndarray):
        cells = cells.reshape(tensor.rows, width)
        ready = _as_rows(cells, columns, model.signature.dtype) if model.signature.numeric else None
        if ready is not None:
            return ready
        by_column = list(cells.T)
    else:
        by_column = [cells[i::width] for i in range(width)]
    return model.encoder.columns(
        {column.name: _column(each, column.kind) for column, each in zip(columns, by_column, strict=True)}
    )


def _as_rows(
    cells: NDArray[Any], columns: Sequence[Column], dtype: type[np.floating[Any]]
) -> NDArray[np.floating[Any]] | None:
    """Numbers to rows at once; None if the encoder must name the error.

    A tensor of FP32 is not copied, unless the JSON before it leaves it unaligned (0.1 ms for 10,000 x 30).
    """
    if dtype is np.float64:
        numbers = np.require(cells, np.float64, ["C", "A"])
        return numbers if np.abs(numbers).max() <= MAX_NUMBER else None  # a NaN is not
    with np.errstate(over="ignore", invalid="ignore"):
        if cells.dtype == np.float32:
            single = np.require(cells, np.float32, ["C", "A"])
        else:
            # Through float64, as the encoder and JSON do: of INT64 some would be rounded to another float32.
            single = cells.astype(np.float64, copy=False).astype(np.float32)
        # A sum is finite only if all its terms are, and costs a quarter of looking at each of them.
        if np.isfinite(single.sum()):
            return single
    if np.isinf(single).any():
        return None
    for gone, column in zip(np.isnan(single).any(axis=0), columns, strict=True):
        if gone and column.missing == "refuse":
            return None
    return single


def _column(cells: Any, kind: str | None) -> Any:
    """Cells as the encoder takes them: an FP32 that is a category is 0.1, not 0.10000000149."""
    if isinstance(cells, np.ndarray) and kind != "number" and cells.dtype in _NARROW:
        return [float(str(cell)) for cell in cells]
    return cells


def parameters_of(holder: dict[str, Any], where: str) -> dict[str, Any]:
    """The `parameters` of a request, an input or an output.

    Raises
    ------
    Problem
        422 if they are not an object.
    """
    found = holder.get("parameters")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Problem(422, f"{where}: parameters: expected an object, got {described(found)}.")
    return found
