"""A model's file with its contract, golden rows and card as a sealed artifact."""

from __future__ import annotations

import hashlib
import shutil
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact import background, calibration, canary_bounds, manifest
from artifact.encode import Encoder
from artifact.manifest import MODEL
from artifact.onnx_table import OnnxTable
from artifact.python_model import CODE
from training.export import write_json
from training.imported.describe import estimator_of
from training.onnx.parity import onnx_score
from training.reference import reference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from artifact.manifest import Score
    from artifact.python_model import PythonModel
    from artifact.signature import Signature
    from training.imported.exact import Form
    from training.imported.load import Loaded
    from training.settings import Model, UseCase

NOT_CODE = shutil.ignore_patterns("__pycache__", ".*")
UNMEASURED_REASON = "without a table there are no rows to compare an ONNX form with the model on"
LIBRARIES = ("mlflow", "numpy")
GRAPH_LIBRARIES = ("onnx", "onnxruntime")
NAMES = {"_XGBoost": "XGBoost booster", "Booster": "LightGBM booster"}
"""What a booster's own file is called, by the class that opens it."""


def seal(
    folder: Path,
    use_case: UseCase,
    loaded: Loaded,
    spec: PythonModel,
    signature: Signature,
    *,
    score: Score,
    records: Sequence[Mapping[str, Any]],
    background_rows: Sequence[Mapping[str, Any]] = (),
    missed: NDArray[np.float64] | None = None,
    tolerance: float,
    card: str,
    run_id: str,
    metric: str,
    metrics: Mapping[str, float],
    form: Form,
    seen: NDArray[np.float64] | None = None,
) -> PythonModel:
    """Write the artifact into `folder`, which is made and must hold nothing else.

    Parameters
    ----------
    signature
        Of the model that reads raw columns.
    score
        The model's own, of raw rows.
    records
        The golden rows, as a client sends them.
    background_rows
        Rows of the table that explanations compare with; empty without a table.
    missed
        How far the scores of the table's rows are off, for prediction intervals.
    form
        The ONNX form, if it is exact: then the model's own file is not part of the artifact.
    seen
        For an ONNX form: the matrix of the table's rows, the reference for drift.

    Returns
    -------
    `spec` as the artifact has it.
    """
    assert use_case.model is not None  # noqa: S101 - only such use cases come here
    folder.mkdir(parents=True)
    if form.signature is None:
        spec = copy_model(folder, loaded, spec, use_case.model)
    else:
        (folder / manifest.ONNX).write_bytes(form.graph)
        if seen is not None:
            write_json(
                folder / manifest.REFERENCE, reference(form.signature, seen, onnx_score(form.graph)(seen))
            )
    if background_rows:
        background.write(folder, background_rows)
    if missed is not None:
        calibration.write(folder, missed)
    canary_bounds.write(folder, use_case.canary)
    (folder / manifest.CARD).write_text(card, "utf-8")
    manifest.write(
        folder,
        signature=form.signature or signature,
        golden=manifest.Golden(
            records=[dict(record) for record in records],
            scores=score(Encoder(signature).records(records, lenient=True)).tolist(),
            tolerance=tolerance,
        ),
        name=use_case.name,
        run_id=run_id,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        runtime=form.runtime,
        runtime_reason=form.reason,
        algorithm=algorithm_of(loaded.model),
        metric=metric,
        metrics={key: float(value) for key, value in metrics.items() if np.isfinite(value)},
        libraries=libraries_of(loaded, *(GRAPH_LIBRARIES if form.signature else ())),
    )
    return spec


def libraries_of(loaded: Loaded, *more: str) -> dict[str, str]:
    """The versions that the manifest records."""
    return {**loaded.versions, **{name: version(name) for name in (*LIBRARIES, *more)}}


def digest_of(file: Path) -> str:
    """SHA-256 of a model's file, or of the names and digests of the files of its folder."""
    if not file.is_dir():
        return manifest.digest(file)
    digest = hashlib.sha256()
    for each in sorted(file.rglob("*")):
        if each.is_file() and "__pycache__" not in each.parts:
            digest.update(f"{each.relative_to(file).as_posix()} {manifest.digest(each)}\n".encode())
    return digest.hexdigest()


def copy_model(folder: Path, loaded: Loaded, spec: PythonModel, asked: Model) -> PythonModel:
    """Write the files that the model's own process opens."""
    (folder / "model").mkdir()
    if loaded.file.is_dir():
        shutil.copytree(loaded.file, folder / spec.file, ignore=NOT_CODE)
    else:
        shutil.copy(loaded.file, folder / spec.file)
    for each in asked.code:
        shutil.copytree(each, folder / CODE, dirs_exist_ok=True, ignore=NOT_CODE)
    spec = msgspec.structs.replace(spec, code=bool(asked.code))
    (folder / MODEL).write_bytes(msgspec.json.format(msgspec.json.encode(spec)) + b"\n")
    return spec


def algorithm_of(model: Any) -> str:
    """What a model is called: the class of its last step."""
    if isinstance(model, OnnxTable):
        return "ONNX graph"
    if type(model).__module__.startswith("mlflow.pyfunc"):
        return "MLflow python_function"
    return NAMES.get(name := type(estimator_of(model)).__name__, name)
