"""The input and output tensors of a model: as metadata, and as an example request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serving.protocols.oip.labels import Labels, as_json
from serving.protocols.oip.request import MATRIX
from serving.scoring.catalog import tensors_of

if TYPE_CHECKING:
    from artifact.signature import Column
    from serving.scoring.catalog import LiveModel


def metadata(model: LiveModel) -> dict[str, Any]:
    """The reply to `GET /v2/models/{name}`: the tensors that a client can send."""
    signature = model.signature
    if signature.tensors is not None:
        tensors = tensors_of(signature)
        return {
            "name": model.name,
            "versions": [model.version],
            "platform": "onnxruntime_onnx",
            "inputs": tensors["inputs"],
            "outputs": tensors["outputs"],
        }
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
    if signature.numbers:
        names = as_json(list(signature.numbers))
        outputs = [
            {
                "name": "scores",
                "datatype": "FP64",
                "shape": [-1, len(signature.numbers)],
                "parameters": {"names": names},
            }
        ]
    if signature.classes:
        outputs.append(
            {
                "name": "probabilities",
                "datatype": "FP64",
                "shape": [-1, len(signature.classes)],
                # A parameter is a text, a number or a bool, so the list is JSON in a text.
                "parameters": {"classes": as_json(list(signature.classes))},
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
