"""Predictions as a tensor of one datatype, in JSON and in bytes."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from artifact.signature import decide
from serving.protocols.oip.tensors import DTYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.signature import Label, Signature

_encode = msgspec.json.encode
_pack = struct.Struct("<I").pack


def output_names(signature: Signature) -> tuple[str, ...]:
    """The outputs of a model, in the order in which they are returned."""
    if signature.numbers:
        return ("scores",)
    if signature.tensors is not None:
        return tuple(each.name for each in signature.tensors.outputs)
    return ("prediction",) if signature.task == "regression" else ("prediction", "probabilities")


EXPLAINED = ("score", "base", "contributions", "error")
"""Outputs that explain a prediction; they are returned only if a request names them."""


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
            return label if isinstance(label, str) else as_json(label)
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
        # Joins references to the few distinct elements: 0.14 ms for 10,000, half the time of a mask.
        return b"".join(found.tolist()) if self.datatype == "BYTES" else found.tobytes()


def as_json(value: object) -> str:
    """As JSON, in as few bytes as possible."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
