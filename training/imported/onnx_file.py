"""An ONNX file before it is opened: all of it in one file, and what its graph says of its classes."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from onnx import numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 2 * 1024**3 - 1
"""What one file of protobuf holds."""
_CLASSES = ("classlabels_strings", "classlabels_int64s", "classlabels_ints", "cats_strings", "cats_int64s")

_LOOKED_UP = frozenset({"ArrayFeatureExtractor", "Gather"})
_PASSED = _LOOKED_UP | {"Cast", "Identity", "Reshape", "Squeeze", "Flatten", "LabelEncoder"}


class NotOnnxError(ValueError):
    """The file is no graph that one file can hold; the message goes on after the file's name."""


def in_one_file(path: Path) -> Path:
    """The file itself, or a copy that holds the weights that stand in files beside it.

    Raises
    ------
    NotOnnxError
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception:  # noqa: BLE001 - whatever protobuf raises on a file that is none
        raise NotOnnxError("is no ONNX file, or it is cut short") from None
    if not model.graph.output:
        raise NotOnnxError("is no ONNX file, or it is cut short")
    places = sorted({where for tensor in _tensors(model.graph) for where in _outside(tensor)})
    if not places:
        return path
    for place in places:
        if ".." in Path(place).parts or Path(place).is_absolute() or not (path.parent / place).is_file():
            raise NotOnnxError(f"has weights in the file {place!r}, which is not beside it")
    onnx.load_external_data_for_model(model, str(path.parent))
    if model.ByteSize() > MAX_BYTES:
        raise NotOnnxError(f"has weights in {', '.join(places)} that do not fit into one file of 2 GB")
    folder = Path(tempfile.mkdtemp(prefix="okamochi-onnx-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    whole = folder / path.name
    onnx.save_model(model, str(whole))
    return whole


def classes_of(path: Path) -> tuple[Any, ...]:
    """The labels that a node of the graph lists, or a constant that is called so; none where none does."""
    graph = onnx.load(str(path)).graph
    for node in reversed(graph.node):
        for attribute in node.attribute:
            if attribute.name in _CLASSES and (attribute.strings or attribute.ints):
                return tuple(each.decode() for each in attribute.strings) or tuple(attribute.ints)
    for constant in graph.initializer:
        if "classes" in constant.name.lower():
            values = numpy_helper.to_array(constant).ravel().tolist()
            return tuple(each.decode() if isinstance(each, bytes) else each for each in values)
    return ()


def last_operator(path: Path, output: str) -> str:
    """The operator that makes an output; casts, copies and what looks a place up are passed over."""
    made_by = {name: node for node in onnx.load(str(path)).graph.node for name in node.output}
    node = made_by.get(output)
    while node is not None and node.op_type in _PASSED:
        node = made_by.get(node.input[1 if node.op_type in _LOOKED_UP else 0])
    return node.op_type if node is not None else ""


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)
            for each in attribute.graphs:
                yield from _tensors(each)


def _outside(tensor: Any) -> list[str]:
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return []
    return [entry.value for entry in tensor.external_data if entry.key == "location"]
