"""The registered model: MLflow logs this one file and the `artifact` package, and scores raw rows with them.

It stands alone: nothing of `training` is there where it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel

from artifact import manifest, runtime, tensor_model
from artifact.encode import BadRows, Encoder
from artifact.program import plain_cells
from artifact.signature import labels
from artifact.signature import probabilities as probabilities_of
from artifact.tensors import DTYPES, array_of, value_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.tensors import Tensors


class Scorer(PythonModel):  # type: ignore[misc]
    """Raw rows in a data frame to the data's own labels, or to numbers for a regression."""

    def load_context(self, context: Any) -> None:
        """Verify the artifact that was logged with the model, and open it."""
        self.artifact = manifest.load(Path(context.artifacts["okamochi"]))
        self.encoder = Encoder(self.artifact.signature)
        if self.artifact.signature.tensors is not None:
            self.tensors = tensor_model.open_model(self.artifact)
            tensor_model.check_golden(self.artifact, self.tensors.answer)
        else:
            self.score = runtime.load(self.artifact)

    def predict(
        self,
        context: Any,  # noqa: ARG002 - MLflow's own parameters
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> Any:
        """Predictions, or with `{"probabilities": true}` a data frame with one column a class.

        `{"threshold": 0.3}` is the probability from which on a binary model predicts its positive label.
        """
        signature, asked = self.artifact.signature, params or {}
        if signature.tensors is not None:
            return self._outputs(model_input, signature.tensors)
        probabilities, threshold = bool(asked.get("probabilities")), asked.get("threshold")
        if threshold is not None and not 0 <= threshold <= 1:
            raise MlflowException.invalid_parameter_value(f"threshold: expected 0 to 1, got {threshold}")
        if probabilities and not signature.classes:
            raise MlflowException.invalid_parameter_value("a model without classes has no probabilities")
        try:
            scores = self.score(self._matrix(model_input))
        except BadRows as error:
            reasons = "; ".join(_place(each.row, each.column) + each.reason for each in error.errors)
            raise MlflowException.invalid_parameter_value(reasons) from error
        if probabilities:
            chances = probabilities_of(signature, scores)
            return pd.DataFrame(chances, columns=[str(label) for label in signature.classes])
        if signature.numbers:
            return pd.DataFrame(scores, columns=list(signature.numbers))
        return np.array(labels(signature, scores, threshold))

    def _outputs(self, given: Any, tensors: Tensors) -> dict[str, NDArray[Any]]:
        """Arrays by the names of the inputs, or the one array, to arrays by the names of the outputs."""
        arrays = given if isinstance(given, dict) else {tensors.inputs[0].name: given}
        try:
            inputs = [
                value_of(np.asarray(arrays[each.name]).astype(DTYPES[each.datatype], copy=False))
                for each in tensors.inputs
            ]
        except KeyError as error:
            raise MlflowException.invalid_parameter_value(f"no input {error}") from None
        (found,) = self.tensors.answer([inputs])
        if isinstance(found, str):
            raise MlflowException.invalid_parameter_value(found)
        outputs = zip(tensors.outputs, found, strict=True)
        return {each.name: array_of(value, each.datatype) for each, value in outputs}

    def _matrix(self, rows: pd.DataFrame | NDArray[Any]) -> NDArray[np.float64]:
        if not isinstance(rows, pd.DataFrame):
            return self.encoder.rows(np.asarray(rows, dtype=object).tolist())
        return self.encoder.columns({str(name): plain_cells(rows[name]) for name in rows.columns})


def _place(row: int | None, column: str | None) -> str:
    parts = [f"row {row}"] if row is not None else []
    parts += [f"column {column!r}"] if column is not None else []
    return ", ".join(parts) + ": " if parts else ""


mlflow.models.set_model(Scorer())
