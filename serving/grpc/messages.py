"""Messages to the bodies of `/v2`, and its replies to messages."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from serving.errors import Problem
from serving.grpc.schema import ModelInferResponse
from serving.protocols.oip.request import HEADER_LENGTH
from serving.protocols.oip.tensors import DTYPES
from serving.protocols.wording import short

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from serving.protocols import Reply

FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The field of `contents` for each datatype; FP16 has none."""
MAX_SIZE = 2**62
BINARY = "binary_data"
BINARY_OUTPUT = "binary_data_output"

_encode = msgspec.json.encode
_length = struct.Struct("<I")


class Body(msgspec.Struct, frozen=True, gc=False):
    """A body of `/v2` with binary tensors, and the length of its JSON."""

    data: bytes
    header: int


def body_of(request: Any) -> Body:
    """A `ModelInferRequest` as a body of `/v2`.

    Raises
    ------
    Problem
        422 for tensors and contents that do not belong together.
    """
    raw = request.raw_input_contents
    inputs = request.inputs
    if raw and len(raw) != len(inputs):
        raise Problem(
            422,
            f"raw_input_contents: expected {len(inputs)} elements, one for each of inputs, got {len(raw)}.",
        )
    behind: list[bytes] = []
    tensors = []
    for i, each in enumerate(inputs):
        tensor: dict[str, Any] = {"name": each.name, "datatype": each.datatype, "shape": list(each.shape)}
        parameters = _values(each.parameters) if each.parameters else {}
        parameters.pop("binary_data_size", None)
        where = f"input {short(each.name)}"
        if raw:
            if each.HasField("contents") and each.contents.ListFields():
                raise Problem(
                    422, f"{where}: has both contents and raw_input_contents; expected one of them."
                )
            data: Any = raw[i]
            _check_raw(where, each, data)
        else:
            data = _contents(where, each)
        if isinstance(data, bytes):
            behind.append(data)
            parameters["binary_data_size"] = len(data)
        else:
            tensor["data"] = data
        if parameters:
            tensor["parameters"] = parameters
        tensors.append(tensor)
    wanted: dict[str, Any] = {"inputs": tensors}
    if request.id:
        wanted["id"] = request.id
    parameters = _values(request.parameters) if request.parameters else {}
    wanted["parameters"] = parameters | {BINARY_OUTPUT: True}
    if isinstance(parameters.get("threshold"), str):
        parameters["threshold"] = wanted["parameters"]["threshold"] = _number(parameters["threshold"])
    if request.outputs:
        wanted["outputs"] = [_output(each) for each in request.outputs]
    head = _encode(wanted)
    return Body(b"".join((head, *behind)), len(head))


def _output(output: Any) -> dict[str, Any]:
    parameters = _values(output.parameters) if output.parameters else {}
    parameters.pop(BINARY, None)  # here every tensor is binary
    return {"name": output.name, "parameters": parameters} if parameters else {"name": output.name}


def _values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as JSON has them; one without a value is null."""
    found = {}
    for key, parameter in parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        found[key] = getattr(parameter, kind) if kind is not None else None
    return found


def _number(text: str) -> Any:
    """Parse a number from a text, since KServe's parameters have no floats; return other texts unchanged."""
    try:
        return msgspec.json.decode(text, type=float)
    except msgspec.MsgspecError:
        return text


def _cells(each: Any) -> int:
    """The number of elements of a shape; -1 for a shape that `/v2` refuses."""
    cells = 1
    for size in each.shape:
        if size < 0 or cells > MAX_SIZE:
            return -1
        cells *= size
    return cells


def _check_raw(where: str, each: Any, data: bytes) -> None:
    """Refuse bytes that do not fill a shape, in the words of this protocol; `/v2` checks all else."""
    cells = _cells(each)
    dtype = DTYPES.get(each.datatype)
    if dtype is not None and cells >= 0 and len(data) != cells * dtype.itemsize:
        raise Problem(
            422,
            f"{where}: raw_input_contents has {len(data)} bytes, but shape {_shape(each)} of {each.datatype} "
            f"is {cells * dtype.itemsize} bytes.",
        )


def _contents(where: str, each: Any) -> Any:
    """The typed contents of an input: as bytes, or as a list for the datatypes whose values have bounds."""
    filled = {field.name: value for field, value in each.contents.ListFields()}
    field = FIELDS.get(each.datatype)
    if field is None:
        if each.datatype in DTYPES:
            raise Problem(422, f"{where}: {each.datatype} has no contents; send raw_input_contents.")
        return []  # `/v2` refuses it and names the supported datatypes
    other = [name for name in filled if name != field]
    if other:
        raise Problem(
            422, f"{where}: {each.datatype} belongs into contents.{field}, found contents.{other[0]}."
        )
    found = filled.get(field, ())
    cells = _cells(each)
    if cells >= 0 and len(found) != cells:
        raise Problem(
            422, f"{where}: contents.{field} has {len(found)} values, but its shape is {_shape(each)}."
        )
    if each.datatype == "BYTES":
        return b"".join([part for text in found for part in (_length.pack(len(text)), text)])
    if each.datatype in ("FP32", "FP64"):
        return np.array(found, DTYPES[each.datatype]).tobytes()
    return list(found)


def _shape(each: Any) -> str:
    sizes = [str(size) for size in each.shape[:8]] + (["..."] if len(each.shape) > 8 else [])
    return f"[{', '.join(sizes)}]"


# ---- out


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int]


class _Answer(msgspec.Struct):
    model_name: str
    model_version: str
    id: str
    outputs: list[_Output]


_decode = msgspec.json.Decoder(_Answer).decode


def response_of(reply: Reply, *, raw: bool) -> bytes:
    """A reply of 200 with binary tensors as a `ModelInferResponse`.

    Parameters
    ----------
    raw
        Whether the tensors are in `raw_output_contents`, as the request's were; else in `contents`.
    """
    header = next(int(value) for name, value in reply.headers if name == HEADER_LENGTH)
    body = reply.body
    answer = _decode(memoryview(body)[:header])
    found = ModelInferResponse(model_name=answer.model_name, model_version=answer.model_version, id=answer.id)
    outputs, blocks = found.outputs, found.raw_output_contents
    place = header
    for each in answer.outputs:
        output = outputs.add(name=each.name, datatype=each.datatype, shape=each.shape)
        end = place + each.parameters["binary_data_size"]
        if raw:
            blocks.append(body[place:end])
        else:
            fill(output, body[place:end])
        place = end
    return found.SerializeToString()  # type: ignore[no-any-return]


def fill(output: Any, data: bytes) -> None:
    """Put a binary tensor into `contents`."""
    if output.datatype == "BYTES":
        output.contents.bytes_contents.extend(_texts(data))
        return
    cells = np.frombuffer(data, DTYPES[output.datatype])
    if output.datatype == "BOOL":
        cells = cells.astype(bool)
    elif output.datatype == "FP16":  # which has no field of its own
        output.datatype, cells = "FP32", cells.astype(np.float32)
    getattr(output.contents, FIELDS[output.datatype]).extend(cells.tolist())


def _texts(data: bytes) -> Iterable[bytes]:
    place = 0
    while place < len(data):
        start = place + 4
        place = start + _length.unpack_from(data, place)[0]
        yield data[start:place]


def set_parameters(target: Any, values: Mapping[str, Any]) -> None:
    """Put texts, numbers and bools into a map of parameters."""
    for key, value in values.items():
        kind = {bool: "bool_param", int: "int64_param", float: "double_param"}.get(
            type(value), "string_param"
        )
        setattr(target[key], kind, value if kind != "string_param" else str(value))


def set_tensors(target: Any, tensors: Sequence[Mapping[str, Any]]) -> None:
    """Put the inputs or outputs of a model's metadata into a list of `TensorMetadata`."""
    for each in tensors:
        found = target.add(name=each["name"], datatype=each["datatype"], shape=each["shape"])
        set_parameters(found.parameters, each.get("parameters", {}))
