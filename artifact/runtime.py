"""A verified artifact to a function that scores: by onnxruntime, or by scikit-learn itself.

Training, the gate, the server and the registered model all open a model here, so that what is compared and
timed is what is served.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact import python_model
from artifact.manifest import ONNX, SKOPS, ArtifactError, check_golden
from artifact.onnx_session import open_session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.manifest import Artifact

# Rows of shape (n, width), each value one that float32 holds, in float32 or float64, to scores of shape
# (n, outputs) in float64.
Score = Callable[[Any], "NDArray[np.float64]"]


def load(artifact: Artifact, *, low_priority: bool = False) -> Score:
    """Open the model and score the golden rows.

    Parameters
    ----------
    low_priority
        See `open_session`.

    Raises
    ------
    ArtifactError
        The model cannot be opened here, or scores differ from those that training recorded.
    """
    score = open_score(artifact, low_priority=low_priority)
    check_golden(artifact, score)
    return score


def open_score(artifact: Artifact, *, low_priority: bool = False) -> Score:
    """Open the model in this process, as its manifest says.

    Parameters
    ----------
    low_priority
        See `open_session`.

    Raises
    ------
    ArtifactError
        The model cannot be opened here.
    """
    if artifact.manifest.runtime == "onnx":
        return _onnx(artifact, low_priority=low_priority)
    if artifact.signature.tensors is not None:
        raise ArtifactError(f"{artifact.path} takes tensors, not rows of a table: see artifact.tensor_model")
    spec = python_model.read(artifact)
    return _sklearn(artifact) if spec is None else python_model.open_score(artifact, spec)


def _onnx(artifact: Artifact, *, low_priority: bool) -> Score:
    path = str(artifact.path / ONNX)
    try:
        session = open_session(path, low_priority=low_priority)
    except Exception as error:
        raise ArtifactError(f"onnxruntime cannot open {path}: {error}") from error
    _check_shape(artifact, session)
    run = session.run
    outputs = ["scores"]

    def score(matrix: Any) -> NDArray[np.float64]:
        scores = run(outputs, {"X": matrix.astype(np.float64, copy=False)})[0]
        return scores.astype(np.float64, copy=False)  # type: ignore[no-any-return]

    return score


def _check_shape(artifact: Artifact, session: Any) -> None:
    inputs = {value.name: (value.type, value.shape) for value in session.get_inputs()}
    outputs = {value.name: value.shape for value in session.get_outputs()}
    width, scores = artifact.signature.width, artifact.signature.outputs
    kind, shape = inputs.get("X", ("", []))
    if len(inputs) != 1 or kind != "tensor(double)" or shape[-1] != width:
        raise ArtifactError(
            f"{artifact.path / ONNX}: expected one input X of tensor(double)[None, {width}], got {inputs}"
        )
    if "scores" not in outputs or len(outputs["scores"]) != 2:
        raise ArtifactError(
            f"{artifact.path / ONNX}: expected an output scores of [None, {scores}], got {outputs}"
        )


def _sklearn(artifact: Artifact) -> Score:
    path = artifact.path / SKOPS
    fitted = artifact.manifest.libraries.get("scikit-learn", "")
    here = version("scikit-learn")
    if fitted.split(".")[:2] != here.split(".")[:2]:
        raise ArtifactError(
            f"{path} was fitted with scikit-learn {fitted or 'of an unknown version'} and this is {here}: "
            "train the model again, or install that minor version"
        )
    # Both cost some 150 MB, so a worker whose models are all ONNX never imports them.
    import skops.io

    from artifact.trusted import TRUSTED

    try:
        unknown = sorted(set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED))
        model = None if unknown else skops.io.load(path, trusted=list(TRUSTED))
    except Exception as error:
        raise ArtifactError(f"skops cannot open {path}: {error}") from error
    if model is None:
        raise ArtifactError(f"{path} holds types that are not on our list: {', '.join(unknown)}")
    if artifact.signature.task != "regression":
        probabilities = model.predict_proba
        return lambda matrix: np.ascontiguousarray(
            probabilities(matrix.astype(np.float64, copy=False)), np.float64
        )
    predict = model.predict
    return lambda matrix: np.asarray(predict(matrix.astype(np.float64, copy=False)), np.float64).reshape(
        -1, 1
    )
