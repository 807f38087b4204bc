"""An ONNX graph over tensors of any rank: requests in, its outputs out, as bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact.manifest import GOLDEN_TENSORS, MODEL, ArtifactError
from artifact.onnx_session import open_session
from artifact.tensors import (
    TensorGolden,
    array_of,
    difference,
    joined,
    pack_answers,
    unpack_requests,
    value_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from artifact.manifest import Artifact
    from artifact.tensors import Answer, Tensors, Value

MAX_REASON = 300
"""Characters of onnxruntime's reason."""


class TensorModel:
    """The graph of a file, open."""

    def __init__(self, session: Any, tensors: Tensors) -> None:
        self._session = session
        self.tensors = tensors
        self._names = [each.name for each in tensors.outputs]

    def answer(self, requests: Sequence[list[Value]]) -> list[Answer]:
        """Each request's outputs, or the reason why the graph does not take its tensors.

        Requests whose rows have the same shapes are one call, if the graph's rows are independent.
        """
        answers: list[Answer] = [""] * len(requests)
        for together in self._groups(requests):
            for place, found in zip(together, self._answer([requests[i] for i in together]), strict=True):
                answers[place] = found
        return answers

    def _groups(self, requests: Sequence[list[Value]]) -> list[list[int]]:
        if not self.tensors.batched:
            return [[i] for i in range(len(requests))]
        groups: dict[object, list[int]] = {}
        for i, inputs in enumerate(requests):
            groups.setdefault(tuple(tuple(each.shape[1:]) for each in inputs), []).append(i)
        return list(groups.values())

    def _answer(self, requests: list[list[Value]]) -> list[Answer]:
        try:
            inputs = [joined([request[i] for request in requests]) for i in range(len(requests[0]))]
            outputs = self._run(inputs)
        except Exception as error:  # noqa: BLE001 - whatever onnxruntime raises on tensors that it refuses
            if len(requests) == 1:
                return [reason_of(error)]
            outputs = []
        if len(requests) == 1:
            return [outputs]
        sizes = [request[0].shape[0] for request in requests]
        if not outputs or any(each.shape[:1] != [sum(sizes)] for each in outputs):
            return [answer for request in requests for answer in self._answer([request])]
        ends = np.cumsum(sizes).tolist()
        return [
            [each.part(end - size, end) for each in outputs] for size, end in zip(sizes, ends, strict=True)
        ]

    def _run(self, inputs: list[Value]) -> list[Value]:
        feed = {
            each.name: array_of(value, each.datatype)
            for each, value in zip(self.tensors.inputs, inputs, strict=True)
        }
        return [value_of(np.asarray(found)) for found in self._session.run(self._names, feed)]


def reason_of(error: Exception) -> str:
    """What onnxruntime says of tensors that it refuses: the sentence, without its place in the source."""
    if isinstance(error, MemoryError) or "bad_alloc" in str(error) or "Failed to allocate" in str(error):
        raise error  # the server's limit, and not the client's tensors
    text = " ".join(str(error).split()).rpartition("Status Message: ")[2] or type(error).__name__
    text = text.partition(" : ")[2] if text.startswith("[ONNXRuntimeError]") else text
    words = [word for word in text.split() if "/onnxruntime" not in word]
    return " ".join(words)[:MAX_REASON]


def open_model(artifact: Artifact) -> TensorModel:
    """The graph of a verified artifact.

    Raises
    ------
    ArtifactError
        onnxruntime cannot open it, or its tensors are not those of the signature.
    """
    tensors = artifact.signature.tensors
    assert tensors is not None  # noqa: S101 - why this was called
    path = artifact.path / msgspec.json.decode((artifact.path / MODEL).read_bytes())["file"]
    try:
        session = open_session(str(path))
    except Exception as error:
        raise ArtifactError(f"onnxruntime cannot open {path}: {error}") from error
    for what, declared, found in (
        ("inputs", tensors.inputs, session.get_inputs()),
        ("outputs", tensors.outputs, session.get_outputs()),
    ):
        names = [each.name for each in found]
        if names != [each.name for each in declared]:
            raise ArtifactError(
                f"{path}: its {what} are {names}, expected {[each.name for each in declared]}"
            )
    return TensorModel(session, tensors)


def open_answer(artifact: Artifact) -> Callable[[bytes], bytes]:
    """What answers packed requests, as the model's own process does."""
    model = open_model(artifact)
    return lambda packed: pack_answers(model.answer(unpack_requests(packed)))


def golden_of(artifact: Artifact) -> TensorGolden:
    """The made request of an artifact, and what the graph answered to it at import."""
    return msgspec.msgpack.decode((artifact.path / GOLDEN_TENSORS).read_bytes(), type=TensorGolden)


def check_golden(artifact: Artifact, answer: Callable[[list[list[Value]]], list[Answer]]) -> None:
    """Ask the golden request.

    Raises
    ------
    ArtifactError
        An answer differs from the one at import.
    """
    golden, tensors = golden_of(artifact), artifact.signature.tensors
    if golden.inputs is None or golden.outputs is None or tensors is None:
        return
    (found,) = answer([golden.inputs])
    if isinstance(found, str):
        raise ArtifactError(f"the golden tensors of {artifact.path} are refused: {found}")
    for each, one, other in zip(tensors.outputs, found, golden.outputs, strict=True):
        how = difference(one, other, each.datatype, golden.tolerance)
        if how:
            raise ArtifactError(f"golden tensors of {artifact.path}, output {each.name!r}: {how}")
