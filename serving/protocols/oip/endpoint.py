"""`POST /v2/models/{name}/infer`: the usual bodies in one pass, all others through `request`."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from artifact.signature import probabilities
from serving.ids import PREFIX, SINCE_EPOCH, new_id, next_secret, now
from serving.protocols import LARGE_BODY_BYTES, Reply
from serving.protocols.blocks import Blocks, Number, StandIn, rows_of
from serving.protocols.oip.labels import EXPLAINED, Labels, as_json
from serving.protocols.oip.request import HEADER_LENGTH, Query, every_output, header_length, parse, parse_raw
from serving.scoring.batcher import packer
from serving.scoring.explain import ExplainedScores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from artifact.encode import CellError
    from artifact.signature import Label, Signature
    from serving.errors import Problem
    from serving.protocols import Head
    from serving.scoring.catalog import LiveModel
    from serving.scoring.scores import Scores

JSON = b"application/json"
BINARY = b"application/octet-stream"
ENCODED = b"application/x-protobuf"
"""Of a reply that `Query.encode` has made."""
MAX_ERRORS = 20  # errors in the text of one refusal

_encode = msgspec.json.encode


class InferEndpoint:
    """`POST /v2/models/{name}/infer` of one model."""

    name = "infer"
    content_types: tuple[str, ...] = ("application/json", "application/octet-stream")

    def __init__(self, model: LiveModel) -> None:
        self.model = model
        signature = model.signature
        self._labels = Labels(signature)
        self._head = head_of(model)
        # The outputs of one row but for its scores: nearly all replies are one of these.
        self._one = [_one_row(signature, self._labels, label) for label in signature.classes]
        self._quick_rows = 0 if signature.decided or signature.numbers else 1
        width = len(signature.columns)
        self._width = width
        self._flat = (
            _hot_decoder(Annotated[list[Number], Meta(min_length=width)]) if signature.numeric else None
        )
        self._nested = _hot_decoder(rows_of(width))
        self._rest = _hot_decoder(StandIn)
        self._blocks = Blocks(width, dtype=signature.dtype)
        self._pack = packer(signature.width)

    # ---- in

    def read(self, body: bytes, head: Head) -> Query:
        """See `Endpoint`."""
        header = header_length(head, len(body))
        if header is not None:
            if header:
                return parse(body[:header], memoryview(body)[header:], self.model)
            return parse_raw(body, self.model)
        if self._flat is not None:
            # One matrix of floats and nothing else: decoded and checked in one pass of C. A body that is
            # refused here is decoded again below, where the error is named.
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
        if query.outputs is not None or query.n > self._quick_rows or query.threshold is not None:
            return self._reply(query, scores, first)
        values = _encode(scores.shown[first].tolist())
        if query.id:
            text = _encode(query.id)
        else:
            text = b'"%s-%x-%s"' % (_ID_PREFIX, now() + SINCE_EPOCH, next_secret())
        outputs = self._one[scores.chosen[first]] if self._one else _NUMBER
        return Reply(200, JSON, b"%s%s%s%s}]}" % (self._head, text, outputs, values))

    def refuse(self, problem: Problem) -> Reply:
        """See `Endpoint`."""
        return refusal(problem)

    def _reply(self, query: Query, scores: Scores, first: int) -> Reply:
        """The reply to any request."""
        if query.encode is not None:
            return Reply(200, ENCODED, query.encode(query, scores, first))
        signature, values = self.model.signature, scores.shown[first : first + query.n]
        # See `Scores.labels`: by the model's own threshold, the label does not depend on rounding.
        decided_by = values if query.threshold is not None else scores.values[first : first + query.n]
        outputs: list[bytes] = []
        behind: list[bytes] = []
        for name, binary in query.outputs or every_output(signature, binary=False):
            if name == "prediction":
                datatype, shape = self._labels.datatype, b"[%d]" % query.n
                if binary:
                    behind.append(self._labels.binary(decided_by, query.threshold))
                else:
                    data = self._labels.json(decided_by, query.threshold)
            else:
                chances = explained(name, scores) if name in EXPLAINED else probabilities(signature, values)
                datatype, shape = "FP64", _encode(chances.shape)
                if binary:
                    behind.append(chances.tobytes())
                else:
                    data = _encode(chances.ravel().tolist())
            what = b'{"name":"%s","datatype":"%s","shape":%s,' % (name.encode(), datatype.encode(), shape)
            if binary:
                outputs.append(b'%s"parameters":{"binary_data_size":%d}}' % (what, len(behind[-1])))
            else:
                outputs.append(b'%s"data":%s}' % (what, data))
        return reply_of(self._head, query.id, outputs, behind)


_ID_PREFIX = PREFIX.encode()
_NUMBER = b',"outputs":[{"name":"prediction","datatype":"FP64","shape":[1],"data":'


def _one_row(signature: Signature, labels: Labels, label: Label) -> bytes:
    """The outputs of one row with this label, up to its scores."""
    return (
        f',"outputs":[{{"name":"prediction","datatype":"{labels.datatype}","shape":[1],'
        f'"data":[{as_json(labels.shown(label))}]}},{{"name":"probabilities","datatype":"FP64",'
        f'"shape":[1,{len(signature.classes)}],"data":'
    ).encode()


def head_of(model: LiveModel) -> bytes:
    """The beginning of each reply of a model, up to the id."""
    return f'{{"model_name":{as_json(model.name)},"model_version":{as_json(model.version)},"id":'.encode()


def reply_of(head: bytes, own_id: str, outputs: Sequence[bytes], behind: Sequence[bytes]) -> Reply:
    """The reply with these outputs.

    Parameters
    ----------
    own_id
        The id of the request; "" if it has none.
    behind
        The data of the binary outputs.
    """
    body = b'%s%s,"outputs":[%s]}' % (head, _encode(own_id or new_id()), b",".join(outputs))
    if not behind:
        return Reply(200, JSON, body)
    header = ((HEADER_LENGTH, b"%d" % len(body)),)
    return Reply(200, BINARY, b"".join((body, *behind)), header)


def explained(name: str, scores: Scores) -> NDArray[np.float64]:
    """An output that explains: of shape (rows,), `contributions` of shape (rows, columns of the table)."""
    assert isinstance(scores, ExplainedScores)  # noqa: S101 - the explainer's
    return np.array([getattr(made.attribution, name) for made in scores.explanations], np.float64)


def refusal(problem: Problem) -> Reply:
    """A problem in the protocol's shape: all in one text."""
    text = problem.detail
    if len(problem.errors) > 1:
        text = "; ".join(map(_placed, problem.errors[:MAX_ERRORS]))
    return Reply(problem.status, JSON, _encode({"error": text}), problem.headers, problem.reason)


def _placed(error: CellError) -> str:
    place = [f"row {error.row}"] if error.row is not None else []
    place += [f"column {error.column!r}"] if error.column is not None else []
    return ", ".join(place) + (": " if place else "") + error.reason


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
