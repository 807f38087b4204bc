"""`POST /v2/models/{name}/infer` of a model that takes tensors: they reach the graph as they are."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact.tensors import DTYPES, Value
from serving.errors import Problem
from serving.protocols import Reply
from serving.protocols.oip.endpoint import head_of, refusal, reply_of
from serving.protocols.oip.labels import as_json
from serving.protocols.oip.request import envelope, every_output, header_length
from serving.protocols.oip.tensor_inputs import read_inputs
from serving.protocols.oip.tensors import packed_texts
from serving.scoring.tensors import Call

if TYPE_CHECKING:
    from collections.abc import Iterator

    from artifact.tensors import Tensor
    from serving.protocols import Head
    from serving.protocols.oip.request import Wanted
    from serving.scoring.catalog import LiveModel
    from serving.scoring.scores import Scores

BLOCK = 16_384  # elements that are written as JSON in one step; other threads run between the steps

_encode = msgspec.json.encode


class Query(msgspec.Struct, frozen=True, gc=False):
    """A valid request; `rows` are the `n` rows for `Batcher.submit`."""

    call: Call
    rows: Any
    n: int
    within_s: float | None = None
    explain: None = None  # outputs of tensors have no explanations


class TensorEndpoint:
    """The route of one model."""

    name = "infer"
    content_types: tuple[str, ...] = ("application/json", "application/octet-stream")

    def __init__(self, model: LiveModel) -> None:
        self.model = model
        tensors = model.signature.tensors
        assert tensors is not None  # noqa: S101 - the protocol chose this endpoint for it
        self._tensors = tensors
        self._places = {each.name: place for place, each in enumerate(tensors.outputs)}
        self._head = head_of(model)

    def read(self, body: bytes, head: Head) -> Query:
        """See `Endpoint`."""
        header = header_length(head, len(body))
        if header == 0:
            return self._read_raw(body)
        binary = None if header is None else memoryview(body)[header:]
        found = envelope(body if header is None else body[:header], self.model)
        inputs, rows = read_inputs(found.inputs, binary, self.model)
        return self._query(inputs, rows, found.id, found.outputs, found.within_s)

    def _read_raw(self, body: bytes) -> Query:
        """A body without any JSON: the one input, whose number of rows alone may vary."""
        tensor, *others = self._tensors.inputs
        sizes = tensor.sizes
        if others or tensor.datatype == "BYTES" or not sizes or -1 in sizes[1:]:
            raise Problem(
                422,
                f"Inference-Header-Content-Length is 0, but {self.model.name!r} needs its inputs described "
                "in JSON.",
            )
        row_bytes = int(np.prod(sizes[1:], dtype=np.int64)) * DTYPES[tensor.datatype].itemsize
        rows = len(body) // row_bytes if sizes[0] == -1 and row_bytes else sizes[0]
        if not rows or len(body) != rows * row_bytes:
            raise Problem(
                400,
                f"The body has {len(body)} bytes; expected {tensor.datatype} of shape {sizes}, "
                f"{row_bytes} bytes a row.",
            )
        self.model.check_rows(rows)
        outputs = every_output(self.model.signature, binary=True)
        value = Value([rows, *sizes[1:]], body)
        return self._query([value], rows if self._tensors.batched else 1, "", outputs, None)

    def _query(
        self,
        inputs: list[Value],
        rows: int,
        own_id: str,
        outputs: tuple[Wanted, ...] | None,
        within_s: float | None,
    ) -> Query:
        wanted = outputs or every_output(self.model.signature, binary=False)
        call = Call(inputs, rows, partial(self._reply, wanted, own_id))
        if self.model.calls is not None:
            self.model.calls.admit(call)
        return Query(call, call.matrix(), rows, within_s)

    def answer(self, query: Query, scores: Scores, first: int) -> Reply:  # noqa: ARG002 - the call has the reply
        """See `Endpoint`."""
        call = query.call
        if call.problem is not None:
            raise call.problem
        if not isinstance(call.reply, Reply):
            raise TypeError("a call was answered without its outputs")
        return call.reply

    def refuse(self, problem: Problem) -> Reply:
        """See `Endpoint`."""
        return refusal(problem)

    def _reply(self, wanted: tuple[Wanted, ...], own_id: str, outputs: list[Value]) -> Reply:
        """Called in the batcher's thread, where a large reply delays no other request."""
        texts: list[bytes] = []
        behind: list[bytes] = []
        for name, binary in wanted:
            place = self._places[name]
            tensor, value = self._tensors.outputs[place], outputs[place]
            about = f'"name":{as_json(name)},"datatype":"{tensor.datatype}","shape":{as_json(value.shape)}'
            what = f"{{{about},".encode()
            if binary:
                data = value.data if isinstance(value.data, bytes) else packed_texts(value.data)
                behind.append(data)
                texts.append(b'%s"parameters":{"binary_data_size":%d}}' % (what, len(data)))
            else:
                texts.append(b'%s"data":[%s]}' % (what, b",".join(_json_of(tensor, value))))
        return reply_of(self._head, own_id, texts, behind)


def _json_of(tensor: Tensor, value: Value) -> Iterator[bytes]:
    """The elements as JSON, some at a time.

    Raises
    ------
    Problem
        422 for a number that JSON does not have.
    """
    if isinstance(value.data, list):
        for start in range(0, len(value.data), BLOCK):
            yield _encode(value.data[start : start + BLOCK])[1:-1]
        return
    array = np.frombuffer(value.data, DTYPES[tensor.datatype])
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise Problem(
            422,
            f"output {tensor.name!r} has a number that JSON does not have (NaN or infinity): ask for it with "
            'the parameter "binary_data": true.',
            reason="not_finite",
        )
    for start in range(0, len(array), BLOCK):
        yield _encode(array[start : start + BLOCK].tolist())[1:-1]
