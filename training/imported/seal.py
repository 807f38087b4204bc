"""A model's file with its contract, golden rows and card as a sealed artifact."""

from __future__ import annotations

import hashlib
import shutil
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact import manifest
from artifact.encode import Encoder
from artifact.manifest import MODEL
from artifact.onnx_table import OnnxTable
from artifact.python_model import CODE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from artifact.manifest import Score
    from artifact.python_model import PythonModel
    from artifact.signature import Signature
    from training.imported.load import Loaded
    from training.settings import UseCase

NOT_CODE = shutil.ignore_patterns("__pycache__", ".*")
RUNTIME_REASON = "it was made elsewhere and is scored by its own library"


def seal(
    folder: Path,
    use_case: UseCase,
    loaded: Loaded,
    spec: PythonModel,
    signature: Signature,
    *,
    score: Score,
    records: Sequence[Mapping[str, Any]],
    tolerance: float,
    card: str,
    run_id: str,
    metric: str,
    metrics: Mapping[str, float],
) -> PythonModel:
    """Write the artifact into `folder`, which is made and must hold nothing else.

    Parameters
    ----------
    records
        The golden rows, as a client sends them.

    Returns
    -------
    `spec` as the artifact has it.
    """
    assert use_case.model is not None  # noqa: S101 - only such use cases come here
    (folder / "model").mkdir(parents=True)
    if loaded.file.is_dir():
        shutil.copytree(loaded.file, folder / spec.file, ignore=NOT_CODE)
    else:
        shutil.copy(loaded.file, folder / spec.file)
    for each in use_case.model.code:
        shutil.copytree(each, folder / CODE, dirs_exist_ok=True, ignore=NOT_CODE)
    spec = msgspec.structs.replace(spec, code=bool(use_case.model.code))
    (folder / MODEL).write_bytes(msgspec.json.format(msgspec.json.encode(spec)) + b"\n")
    (folder / manifest.CARD).write_text(card, "utf-8")
    manifest.write(
        folder,
        signature=signature,
        golden=manifest.Golden(
            records=[dict(record) for record in records],
            scores=score(Encoder(signature).records(records, lenient=True)).tolist(),
            tolerance=tolerance,
        ),
        name=use_case.name,
        run_id=run_id,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        runtime="python",
        runtime_reason=RUNTIME_REASON,
        algorithm=algorithm_of(loaded.model),
        metric=metric,
        metrics={key: float(value) for key, value in metrics.items() if np.isfinite(value)},
        libraries={**loaded.versions, "mlflow": version("mlflow"), "numpy": version("numpy")},
    )
    return spec


def digest_of(file: Path) -> str:
    """SHA-256 of a model's file, or of the names and digests of the files of its folder."""
    if not file.is_dir():
        return manifest.digest(file)
    digest = hashlib.sha256()
    for each in sorted(file.rglob("*")):
        if each.is_file() and "__pycache__" not in each.parts:
            digest.update(f"{each.relative_to(file).as_posix()} {manifest.digest(each)}\n".encode())
    return digest.hexdigest()


def algorithm_of(model: Any) -> str:
    """What a model is called: the class of its last step."""
    if isinstance(model, OnnxTable):
        return "ONNX graph"
    if type(model).__module__.startswith("mlflow.pyfunc"):
        return "MLflow python_function"
    return type(model.steps[-1][1] if hasattr(model, "steps") else model).__name__
