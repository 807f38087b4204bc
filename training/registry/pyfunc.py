"""A model of ours as MLflow describes it: inputs, outputs, an example, and what it needs installed."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType

from artifact.tensors import DTYPES

if TYPE_CHECKING:
    from artifact.manifest import Artifact
    from artifact.signature import Signature
    from artifact.tensors import Tensor


def requirements_of(artifact: Artifact) -> list[str]:
    """The distributions that score the artifact, at the versions that are installed."""
    needed = ["mlflow", "numpy", "pandas", "msgspec"]
    graph = artifact.manifest.runtime == "onnx" or artifact.signature.tensors is not None
    needed += ["onnxruntime"] if graph else ["scikit-learn", "skops"]
    return [f"{name}=={version(name)}" for name in needed]


def mlflow_signature(signature: Signature) -> Any:
    """The columns, the prediction and the parameters, in MLflow's terms; or the tensors."""
    if signature.tensors is not None:
        return ModelSignature(_tensors(signature.tensors.inputs), _tensors(signature.tensors.outputs))
    if signature.task == "regression":
        return ModelSignature(_inputs(signature), Schema([ColSpec("double", signature.target)]))
    if signature.numbers:
        return ModelSignature(
            _inputs(signature), Schema([ColSpec("double", name) for name in signature.numbers])
        )
    kinds = {bool: "boolean", int: "long", float: "double"}
    kind = kinds.get(type(signature.classes[0]), "string")
    params = [ParamSpec("probabilities", "boolean", default=False)]
    if signature.task == "binary":
        params.append(ParamSpec("threshold", "double", default=signature.threshold))
    return ModelSignature(_inputs(signature), Schema([ColSpec(kind, signature.target)]), ParamSchema(params))


def _inputs(signature: Signature) -> Any:
    # `Any` where MLflow's own check is narrower than the encoder: in a data frame, as `read_csv` makes it, it
    # refuses int64 for a double, a number for a string and a timestamp for either. The price is that its
    # scoring server takes no CSV: no schema allows both.
    return Schema(
        [
            ColSpec(
                "string" if column.kind in {"text", "image"} else AnyType(),
                column.name,
                required=column.missing == "refuse",
            )
            for column in signature.columns
        ]
    )


def _tensors(found: tuple[Tensor, ...]) -> Any:
    return Schema([TensorSpec(DTYPES[each.datatype], tuple(each.sizes), each.name) for each in found])


def example_of(signature: Signature) -> pd.DataFrame | None:
    """One made row; never a row of the data. None for tensors, which may be large."""
    if signature.tensors is not None:
        return None
    return pd.DataFrame([signature.example], columns=list(signature.names))
