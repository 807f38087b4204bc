"""Networks of PyTorch, Keras and TensorFlow, exported as the documentation says, answer as in the framework.

tests/frameworks/export.py wrote the files in tests/frameworks/exported; OKAMOCHI_FRAMEWORKS names others.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from artifact.encode import Encoder
from artifact.tensors import DTYPES
from serving.http.gateway import Gateway
from serving.scoring import catalog
from tests.artifact.graphs import seal
from tests.serving.conftest import PATIENT_SETTINGS, ask, elsewhere
from training.imported.load import load
from training.imported.unmeasured import contract_of
from training.settings import Model, UseCase

COMMITTED = Path(__file__).resolve().parents[2] / "frameworks" / "exported"
EXPORTED = Path(os.environ.get("OKAMOCHI_FRAMEWORKS") or COMMITTED)
TABLES = ("pytorch_table", "keras_table", "tensorflow_table")
TENSORS = ("pytorch_sequence", "keras_image", "tensorflow_image")


def said(name: str, what: str) -> dict[str, np.ndarray[Any, Any]]:
    """The inputs or outputs of the framework itself, by name; "" where Keras chose the name."""
    found = json.loads((EXPORTED / f"{name}.json").read_text("utf-8"))[what]
    return {key: np.array(each["data"]).reshape(each["shape"]) for key, each in found.items()}


@pytest.mark.parametrize("name", TABLES)
def test_a_network_over_a_table_answers_as_its_framework(name: str) -> None:
    """Probabilities of a softmax or a sigmoid, or a number."""
    file = EXPORTED / f"{name}.onnx"
    (rows,), (expected,) = said(name, "inputs").values(), said(name, "outputs").values()
    use_case = UseCase(name=name, target="y", model=Model(source=str(file)))

    found = contract_of(load(file, trust=False), use_case)
    scores = found.score(Encoder(found.signature).rows(rows.tolist()))

    if name == "keras_table":
        expected = np.column_stack([1 - expected, expected])
    np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.mark.parametrize("name", TENSORS)
def test_a_network_over_tensors_answers_as_its_framework(name: str, tmp_path: Path) -> None:
    """Images and sequences through `/v2`, all rows in one request and each alone; batched."""
    artifact = seal(tmp_path / name, name, onnx.load(EXPORTED / f"{name}.onnx"))
    models = catalog.load([(name, name)], lambda _: (artifact.path, {"version": "1"}), PATIENT_SETTINGS)
    try:
        assert models.refused == {}
        gateway = Gateway(elsewhere, models, PATIENT_SETTINGS)
        path = f"/v2/models/{name}"
        (tensor,) = asyncio.run(ask(gateway, "GET", path)).json()["inputs"]
        (rows,), expected = said(name, "inputs").values(), said(name, "outputs")
        rows = rows.astype(DTYPES[tensor["datatype"]])
        assert models.live[name].description()["signature"]["batched"]

        for start, stop in ((0, len(rows)), *((row, row + 1) for row in range(len(rows)))):
            part = rows[start:stop]
            sent = tensor | {"shape": list(part.shape), "data": part.tolist()}
            found = asyncio.run(
                ask(gateway, "POST", f"{path}/infer", json.dumps({"inputs": [sent]}).encode())
            )
            assert found.status == 200, found.body
            outputs = {each["name"]: each for each in found.json()["outputs"]}
            assert len(outputs) == len(expected)
            for key, own in expected.items():
                output = outputs[key] if key else next(iter(outputs.values()))
                answered = np.array(output["data"]).reshape(output["shape"])
                np.testing.assert_allclose(answered, own[start:stop], atol=1e-5)
    finally:
        models.close()
