"""Open Inference Protocol v2 over REST: tensors in JSON, or in binary behind a JSON header.

The rules of the protocol are the KServe project's, those of binary tensors Triton's (its extension
`binary_tensor_data`). A request is one tensor of shape (rows, columns), or one tensor a column.
docs/protocols.md has what a client needs to know.
"""

from __future__ import annotations

import difflib
import json
import struct
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta

from artifact import __version__
from artifact.signature import decide
from serving.errors import Problem
from serving.ids import PREFIX, SINCE_EPOCH, new_id, next_secret, now
from serving.protocols import LARGE_BODY_BYTES, Reply
from serving.protocols.blocks import Blocks, Number, StandIn, rows_of
from serving.protocols.json_body import decode
from serving.protocols.tensors import (
    DTYPES,
    Tensor,
    described,
    encode_rows,
    listed,
    parameters_of,
    read_tensors,
    short,
)
from serving.scoring.batcher import packer

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from artifact.encode import CellError
    from artifact.signature import Column, Label, Signature
    from serving.protocols import Head
    from serving.scoring.batcher import Scores
    from serving.scoring.catalog import Catalog, LiveModel

ROOT = "/v2"
SERVER = "okamochi"
SERVER_VERSION = __version__
EXTENSIONS = ("binary_tensor_data",)
MATRIX = "features"  # what the one tensor of an all-number model is called; any name will do
HEADER_LENGTH = b"inference-header-content-length"
JSON = b"application/json"
BINARY = b"application/octet-stream"
MOST_ERRORS = 20
MOST_KEY = 40  # characters that are compared with what may be meant
KEYS = ("id", "inputs", "outputs", "parameters")

_encode = msgspec.json.encode
_pack = struct.Struct("<I").pack


class Wanted(NamedTuple):
    """An output that a request asks for, and whether as bytes behind the JSON."""

    name: str
    binary: bool


class Query(msgspec.Struct, frozen=True, gc=False):
    """A request that was understood. `rows` is what `Batcher.submit` takes, `n` of them.

    Parameters
    ----------
    id
        The client's own; empty for ours.
    outputs
        None for all of them in JSON by the signature's own threshold.
    within_s
        How long an answer is of use; None where the request does not say.
    """

    rows: Any
    n: int
    id: str = ""
    outputs: tuple[Wanted, ...] | None = None
    threshold: float | None = None
    within_s: float | None = None


class InferEndpoint:
    """`POST /v2/models/{name}/infer` of one model."""

    name = "infer"
    content_types = ("application/json", "application/octet-stream")

    def __init__(self, model: LiveModel) -> None:
        self.model = model
        signature = model.signature
        self._labels = Labels(signature)
        self._head = (
            f'{{"model_name":{_json(model.name)},"model_version":{_json(model.version)},"id":'.encode()
        )
        # The outputs of one row but for its scores: nearly all replies are one of these.
        self._one = [_one_row(signature, self._labels, label) for label in signature.classes]
        width = len(signature.columns)
        self._width = width
        self._flat = (
            _hot_decoder(Annotated[list[Number], Meta(min_length=width)]) if signature.numeric else None
        )
        self._nested = _hot_decoder(rows_of(width))
        self._rest = _hot_decoder(StandIn)
        self._blocks = Blocks(width)
        self._pack = packer(signature.width)

    # ---- in

    def read(self, body: bytes, head: Head) -> Query:
        """See `Endpoint`."""
        header = _header_length(head, len(body))
        if header is not None:
            if header:
                return parse(body[:header], memoryview(body)[header:], self.model)
            return _raw(body, self.model)
        if self._flat is not None:
            # One matrix of floats and nothing else: decoded and checked in one pass of C. Whatever is refused
            # here is looked at again below, by what can say why.
            query = self._hot(body) if len(body) < LARGE_BODY_BYTES else self._large(body)
            if query is not None:
                return query
        return parse(body, None, self.model)

    def _hot(self, body: bytes) -> Query | None:
        width, nested = self._width, False
        try:
            request = self._flat(body)  # type: ignore[misc]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            try:
                request, nested = self._nested(body), True
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return None
        tensor = request.inputs[0]
        n, columns = tensor.shape
        data = tensor.data
        if columns != width or len(data) != (n if nested else n * width):
            return None
        self.model.check_rows(n)
        if nested:
            return Query(self._pack(data), n, request.id)
        return Query(self._pack([data]) if n == 1 else struct.pack(f"{n * width}d", *data), n, request.id)

    def _large(self, body: bytes) -> Query | None:
        found = self._blocks.read(body, self._rest)
        if found is None:
            return None
        rows, request = found
        if request.inputs[0].shape != rows.shape:
            return None
        self.model.check_rows(len(rows))
        return Query(rows, len(rows), request.id)

    # ---- out

    def answer(self, query: Query, scores: Scores, first: int) -> Reply:
        """See `Endpoint`."""
        if query.outputs is not None or query.n > 1 or query.threshold is not None:
            return self._reply(query, scores.values[first : first + query.n])
        values = _encode(scores.values[first].tolist())
        if query.id:
            text = _encode(query.id)
        else:
            text = b'"%s-%x-%s"' % (_ID_PREFIX, now() + SINCE_EPOCH, next_secret())
        outputs = self._one[scores.chosen[first]] if self._one else _NUMBER
        return Reply(200, JSON, b"%s%s%s%s}]}" % (self._head, text, outputs, values))

    def refuse(self, problem: Problem) -> Reply:
        """See `Endpoint`."""
        return refusal(problem)

    def _reply(self, query: Query, values: NDArray[np.float64]) -> Reply:
        """The reply to a request for scores of shape (rows, outputs)."""
        outputs: list[bytes] = []
        behind: list[bytes] = []
        wanted = query.outputs
        if wanted is None:
            wanted = tuple(Wanted(name, binary=False) for name in output_names(self.model.signature))
        for name, binary in wanted:
            if name == "prediction":
                datatype, shape = self._labels.datatype, b"[%d]" % query.n
                if binary:
                    behind.append(self._labels.binary(values, query.threshold))
                else:
                    data = self._labels.json(values, query.threshold)
            else:
                datatype, shape = "FP64", b"[%d,%d]" % values.shape
                if binary:
                    behind.append(values.tobytes())
                else:
                    data = _encode(values.ravel().tolist())
            what = b'{"name":"%s","datatype":"%s","shape":%s,' % (name.encode(), datatype.encode(), shape)
            if binary:
                outputs.append(b'%s"parameters":{"binary_data_size":%d}}' % (what, len(behind[-1])))
            else:
                outputs.append(b'%s"data":%s}' % (what, data))
        text = _encode(query.id or new_id())
        body = b'%s%s,"outputs":[%s]}' % (self._head, text, b",".join(outputs))
        if not behind:
            return Reply(200, JSON, body)
        header = ((HEADER_LENGTH, b"%d" % len(body)),)
        return Reply(200, BINARY, b"".join((body, *behind)), header)


_ID_PREFIX = PREFIX.encode()
_NUMBER = b',"outputs":[{"name":"prediction","datatype":"FP64","shape":[1],"data":'


def _one_row(signature: Signature, labels: Labels, label: Label) -> bytes:
    """The outputs of one row with this label, up to its scores."""
    return (
        f',"outputs":[{{"name":"prediction","datatype":"{labels.datatype}","shape":[1],'
        f'"data":[{_json(labels.shown(label))}]}},{{"name":"probabilities","datatype":"FP64",'
        f'"shape":[1,{len(signature.classes)}],"data":'
    ).encode()


def output_names(signature: Signature) -> tuple[str, ...]:
    """What a model can be asked for, in the order in which all of it is given."""
    return ("prediction",) if signature.task == "regression" else ("prediction", "probabilities")


class Labels:
    """Predictions as a tensor of one datatype, in JSON and in bytes."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        classes = signature.classes
        kinds = set(map(type, classes))
        self.datatype = "BYTES"
        if signature.task == "regression":
            self.datatype = "FP64"
        elif kinds == {bool}:
            self.datatype = "BOOL"
        elif kinds == {int} and all(-(2**63) <= label < 2**63 for label in classes):  # type: ignore[operator]
            self.datatype = "INT64"
        elif float in kinds and kinds <= {int, float}:
            self.datatype = "FP64"
        self._shown = [self.shown(label) for label in classes]
        if self.datatype == "BYTES":
            texts = [str(text).encode() for text in self._shown]
            self._array = np.array([_pack(len(text)) + text for text in texts], object)
        else:
            self._array = np.array(self._shown, DTYPES[self.datatype])

    def shown(self, label: Label) -> Label:
        """A label as its datatype has it."""
        if self.datatype == "BYTES":
            return label if isinstance(label, str) else _json(label)
        return float(label) if self.datatype == "FP64" else label

    def json(self, values: NDArray[np.float64], threshold: float | None) -> bytes:
        """The data of a JSON tensor."""
        if not self._shown:
            return _encode(values[:, 0].tolist())
        shown = self._shown
        return _encode([shown[i] for i in decide(self._signature, values, threshold).tolist()])

    def binary(self, values: NDArray[np.float64], threshold: float | None) -> bytes:
        """The data of a binary tensor."""
        if not self._shown:
            return values[:, 0].tobytes()
        chosen = decide(self._signature, values, threshold)
        found = self._array[chosen]
        # References to the few elements there are, joined: 0.14 ms for 10,000, half of what a mask took.
        return b"".join(found.tolist()) if self.datatype == "BYTES" else found.tobytes()


def refusal(problem: Problem) -> Reply:
    """A problem as the protocol says it: all in one text."""
    text = problem.detail
    if len(problem.errors) > 1:
        text = "; ".join(map(_placed, problem.errors[:MOST_ERRORS]))
    return Reply(problem.status, JSON, _encode({"error": text}), problem.headers, problem.reason)


def _placed(error: CellError) -> str:
    place = [f"row {error.row}"] if error.row is not None else []
    place += [f"column {error.column!r}"] if error.column is not None else []
    return ", ".join(place) + (": " if place else "") + error.reason


# ---- routes


def endpoints(catalog: Catalog) -> dict[str, InferEndpoint]:
    """The routes of the protocol that take a body: of each live model, and of its version."""
    routes: dict[str, InferEndpoint] = {}
    for model in catalog.live.values():
        endpoint = InferEndpoint(model)
        routes.update({f"{path}/infer": endpoint for path in _paths(model)})
    return routes


def pages(catalog: Catalog) -> dict[str, Callable[[], Reply]]:
    """The routes of the protocol that are only looked at."""

    def ready() -> Reply:
        status, reason = (200, "") if catalog.ready else (503, "not_ready")
        return Reply(status, JSON, _encode({"ready": catalog.ready}), reason=reason)

    server = {"name": SERVER, "version": SERVER_VERSION, "extensions": EXTENSIONS}
    found = {
        ROOT: _page(server),
        f"{ROOT}/health/live": _page({"live": True}),
        f"{ROOT}/health/ready": ready,
    }
    for model in catalog.live.values():
        for path in _paths(model):
            found[path] = _page(metadata(model))
            found[f"{path}/ready"] = _page({"name": model.name, "ready": True})
    return found


def _page(content: object) -> Callable[[], Reply]:
    reply = Reply(200, JSON, _encode(content))
    return lambda: reply


def _paths(model: LiveModel) -> tuple[str, str]:
    path = f"{ROOT}/models/{model.name}"
    return path, f"{path}/versions/{model.version}"


def owns(path: str) -> bool:
    """Whether what is said about a path is said in this protocol's shape."""
    return path == ROOT or path.startswith(f"{ROOT}/")


def not_found(path: str, catalog: Catalog) -> Problem:
    """Why there is nothing at a path below `/v2`: 404, or 503 for a model that was refused."""
    parts = path.split("/")
    if path.startswith(f"{ROOT}/models/") and parts[3]:
        try:
            model = catalog.model(parts[3][:100])
        except Problem as problem:
            return problem
        if len(parts) > 5 and parts[4] == "versions" and parts[5] != model.version:
            return Problem(
                404, f"There is no version {parts[5][:40]!r} of {model.name!r} here; it is {model.version!r}."
            )
    return Problem(404, f"There is no {path[:200]!r} here; extensions other than {EXTENSIONS[0]} are none.")


def metadata(model: LiveModel) -> dict[str, Any]:
    """What `GET /v2/models/{name}` shows: tensors that a client can make without knowing more."""
    signature = model.signature
    inputs: list[dict[str, Any]]
    if signature.numeric:
        inputs = [{"name": MATRIX, "datatype": "FP64", "shape": [-1, len(signature.columns)]}]
    else:
        inputs = [
            {
                "name": column.name,
                "datatype": _datatype(column),
                "shape": [-1],
                "parameters": {"kind": column.kind, "missing": column.missing},
            }
            for column in signature.columns
        ]
    outputs: list[dict[str, Any]] = [
        {"name": "prediction", "datatype": Labels(signature).datatype, "shape": [-1]}
    ]
    if signature.classes:
        outputs.append(
            {
                "name": "probabilities",
                "datatype": "FP64",
                "shape": [-1, len(signature.classes)],
                # A parameter is a text, a number or a bool, so the list is JSON in a text.
                "parameters": {"classes": _json(list(signature.classes))},
            }
        )
    runtime = model.artifact.manifest.runtime
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": "onnxruntime_onnx" if runtime == "onnx" else "sklearn_skops",
        "inputs": inputs,
        "outputs": outputs,
    }


def example(model: LiveModel, *, one_tensor: bool) -> dict[str, Any]:
    """A request of one row that works when pasted, made of medians and modes."""
    cells = list(model.signature.example.values())
    if one_tensor:
        return {"inputs": [_example(MATRIX, "FP64", [1, len(cells)], cells)]}
    columns = zip(model.signature.columns, cells, strict=True)
    return {"inputs": [_example(column.name, _datatype(column), [1], [cell]) for column, cell in columns]}


def _example(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def _datatype(column: Column) -> str:
    return "FP64" if column.kind == "number" else "BYTES"


# ---- a request


def parse(header: bytes, binary: memoryview | None, model: LiveModel) -> Query:
    """Any infer request to encoded rows.

    Parameters
    ----------
    header
        The JSON.
    binary
        What stands behind it; None where the request does not say how long its JSON is.

    Raises
    ------
    Problem
        400 for what is not JSON or binary tensors that do not fill the body, 413 for too many rows, 422 for
        what contradicts itself or the signature.
    """
    request = decode(header)
    if not isinstance(request, dict):
        raise Problem(422, f'Expected a JSON object with "inputs", got {described(request)}.')
    for key in list(request)[:MOST_ERRORS]:  # keys of other extensions count for nothing, slips are told
        near = difflib.get_close_matches(key[:MOST_KEY], KEYS, 1, cutoff=0.8)
        if key not in KEYS and near:
            raise Problem(422, f"Unknown key {short(key)}; did you mean {near[0]!r}?")
    own_id = request.get("id")
    if own_id is not None and not (isinstance(own_id, str) and _is_text(own_id)):
        raise Problem(422, f'"id": expected a text, got {described(own_id)}.')
    parameters = parameters_of(request, "the request")
    outputs = _outputs(request.get("outputs"), parameters, model)
    threshold = _threshold(parameters.get("threshold"), model)
    within_s = _timeout(parameters.get("timeout"))
    rows = encode_rows(read_tensors(request.get("inputs"), binary, model), model)
    return Query(rows, len(rows), own_id or "", outputs=outputs, threshold=threshold, within_s=within_s)


def _raw(body: bytes, model: LiveModel) -> Query:
    """A body without any JSON: the one tensor of an all-number model, row by row."""
    width = len(model.signature.columns)
    if not model.signature.numeric:
        raise Problem(
            422,
            f"Inference-Header-Content-Length is 0, but {model.name!r} takes one tensor a column, in JSON.",
        )
    if not body or len(body) % (8 * width):
        raise Problem(
            400, f"The body has {len(body)} bytes; expected rows of {width} FP64, {8 * width} bytes each."
        )
    n = len(body) // (8 * width)
    model.check_rows(n)
    cells = np.frombuffer(body, "<f8")
    outputs = tuple(Wanted(name, binary=True) for name in output_names(model.signature))
    return Query(encode_rows([(Tensor(MATRIX, "FP64", n, width), cells)], model), n, outputs=outputs)


def _header_length(head: Head, size: int) -> int | None:
    """How long the JSON before the binary tensors is; None where the request does not say."""
    found: bytes | None = None
    for name, value in head.headers:
        if name == HEADER_LENGTH:
            if found is not None and found != value:
                raise Problem(400, "Inference-Header-Content-Length stands twice, with different values.")
            found = value
    if found is None:
        return None
    if not found.isdigit() or len(found) > 18 or int(found) > size:
        shown = found[:40].decode("latin-1")
        raise Problem(
            400,
            f"Inference-Header-Content-Length: expected how many of {size} bytes are JSON, got {shown!r}.",
        )
    return int(found)


def _threshold(threshold: object, model: LiveModel) -> float | None:
    if threshold is None:
        return None
    if model.signature.task != "binary":
        task = model.signature.task
        raise Problem(422, f"parameter 'threshold': only a binary model has one; {model.name!r} is {task}.")
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
        raise Problem(
            422, f"parameter 'threshold': expected a number from 0 to 1, got {described(threshold)}."
        )
    return float(threshold)


def _timeout(timeout: object) -> float | None:
    """Triton's parameter, in microseconds; 0 for none."""
    if timeout is None or timeout == 0:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int) or not 0 < timeout < 2**63:
        raise Problem(
            422, f"parameter 'timeout': expected whole microseconds from 0, got {described(timeout)}."
        )
    return timeout / 1e6


def _outputs(outputs: object, parameters: dict[str, Any], model: LiveModel) -> tuple[Wanted, ...] | None:
    known = output_names(model.signature)
    binary = _flag(parameters.get("binary_data_output"), "parameter 'binary_data_output'")
    if outputs is None or outputs == []:
        return tuple(Wanted(name, binary=True) for name in known) if binary else None
    if not isinstance(outputs, list):
        raise Problem(422, f'"outputs": expected a list of objects, got {described(outputs)}.')
    wanted: dict[str, Wanted] = {}
    for i, output in enumerate(outputs):
        where = f"outputs[{i}]"
        if not isinstance(output, dict):
            raise Problem(422, f"{where}: expected an object with a name, got {described(output)}.")
        name = output.get("name")
        if name not in known if isinstance(name, str) else True:
            shown = short(name) if isinstance(name, str) else described(name)
            raise Problem(422, f"{where}: no output {shown}; {model.name!r} has {listed(known)}.")
        assert isinstance(name, str)  # noqa: S101 - the line above
        if name in wanted:
            raise Problem(422, f"{where}: output {name!r} stands twice.")
        own = parameters_of(output, where)
        for key in own:
            if key == "classification" or key.startswith("shared_memory"):
                raise Problem(
                    422, f"{where}: parameter {short(key)} belongs to an extension that is not here."
                )
        flag = own.get("binary_data")
        wanted[name] = Wanted(
            name, binary if flag is None else _flag(flag, f"{where}: parameter 'binary_data'")
        )
    return tuple(wanted.values())


def _flag(value: object, where: str) -> bool:
    if value is None:
        return False
    if not isinstance(value, bool):
        raise Problem(422, f"{where}: expected true or false, got {described(value)}.")
    return value


def _hot_decoder(cells: Any) -> Callable[[bytes], Any]:
    """Decoder of a request with one FP32 or FP64 tensor, whose data are `cells`."""
    size = Annotated[int, Meta(ge=1)]
    tensor: Any = msgspec.defstruct(
        "HotTensor",
        [("name", str), ("shape", tuple[size, size]), ("datatype", Literal["FP32", "FP64"]), ("data", cells)],
        forbid_unknown_fields=True,
        gc=False,
    )
    hot = msgspec.defstruct(
        "Hot", [("inputs", tuple[tensor]), ("id", str, "")], forbid_unknown_fields=True, gc=False
    )
    return msgspec.json.Decoder(hot).decode


def _is_text(text: str) -> bool:
    """Whether JSON in UTF-8 can say it: half a surrogate pair cannot be."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
