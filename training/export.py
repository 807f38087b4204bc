"""Write a fitted pipeline as an artifact: ONNX if it is exact, skops, golden rows, reference, card."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from io import BytesIO
from types import FunctionType
from typing import TYPE_CHECKING, Any

import joblib  # type: ignore[import-untyped]
import msgspec
import numpy as np
import skops.io

from artifact import background, calibration, canary_bounds, manifest
from artifact.encode import Encoder
from artifact.python_model import CODE, PythonModel
from artifact.ranking import write as write_ranking
from artifact.trusted import TRUSTED
from training.families.catalog import WRITERS
from training.families.scores import scores_of
from training.interpreter import installed_packages
from training.onnx.boosters import LIBRARIES as BOOSTERS
from training.onnx.convert import convert, parts_of
from training.onnx.graph import NoExport
from training.onnx.parity import compare, onnx_score, parity_rows, tolerance_of
from training.reference import reference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from artifact.canary_bounds import CanaryBounds
    from artifact.manifest import Manifest, Score
    from artifact.ranking import Ranking
    from artifact.signature import Signature
    from training.onnx.parity import Parity

GOLDEN_ROWS = 32
LIBRARIES = ("numpy", "scipy", "scikit-learn", "skops", "onnx", "onnxruntime", "mlflow")


class ExportError(Exception):
    """A server would not open the model."""


@dataclass(frozen=True)
class ExportResult:
    """The result of an export.

    Parameters
    ----------
    reason
        The reason why it is not served by ONNX; empty for ONNX.
    parity
        The comparison of the graph with the pipeline; None without a graph.
    size_mb
        The size of all files of the artifact, in million bytes.
    """

    runtime: str
    reason: str
    parity: Parity | None
    size_mb: float
    manifest: Manifest


@dataclass(frozen=True)
class OnnxForm:
    """The graph of a pipeline where it is exact, else the reason; see `ExportResult`."""

    graph: bytes | None
    parity: Parity | None
    reason: str


def onnx_form(
    pipeline: Any,
    signature: Signature,
    train_matrix: NDArray[np.float64],
    train_labels: Sequence[Any] | NDArray[Any],
    test_matrix: NDArray[np.float64],
    *,
    seed: int = 0,
) -> OnnxForm:
    """The graph of a fitted pipeline, compared with it on rows where a difference would show."""

    def score(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        return scores_of(pipeline, matrix, len(signature.classes))

    def rows() -> NDArray[np.float64]:
        return parity_rows(pipeline, WRITERS, signature, train_matrix, test_matrix, seed=seed)

    return OnnxForm(*_onnx_form(pipeline, signature, score, rows, tolerance_of(signature, train_labels)))


def export(
    pipeline: Any,
    signature: Signature,
    directory: Path,
    *,
    train_matrix: NDArray[np.float64],
    train_labels: Sequence[Any] | NDArray[Any],
    test_matrix: NDArray[np.float64],
    test_frame: pd.DataFrame,
    train_frame: pd.DataFrame | None = None,
    missed: NDArray[np.float64] | None = None,
    ranking: Ranking | None = None,
    name: str,
    run_id: str,
    algorithm: str,
    metric: str,
    metrics: Mapping[str, float],
    card: str,
    created: datetime | None = None,
    seed: int = 0,
    own: Sequence[Path] = (),
    canary: CanaryBounds | None = None,
    form: OnnxForm | None = None,
) -> ExportResult:
    """Write the artifact of a fitted pipeline into `directory`, which must be new or empty.

    Parameters
    ----------
    train_matrix, test_matrix
        Encoded rows, shape (rows, signature.width).
    train_labels
        The data's own labels, or values, of the training rows.
    test_frame
        The raw columns of the test rows, which golden rows are taken from; other columns are ignored.
    train_frame
        The raw columns of the training rows, which the background of explanations is drawn from.
    missed
        How far the scores of the test rows are off, for prediction intervals.
    ranking
        Of a use case that ranks items for users.
    card
        The model card, Markdown.
    own
        Modules of candidates of one's own. Where one of these won, they travel with it.
    canary
        The bounds of a canary; None: the default ones.
    form
        What `onnx_form` found, if it was asked before.

    Raises
    ------
    ExportError
        The pipeline has a type that a server would not open, and there are no modules for it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    outputs = len(signature.classes)

    def score(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        return scores_of(pipeline, matrix, outputs)

    packages = _write_model(pipeline, directory, own, outputs)
    tolerance = tolerance_of(signature, train_labels)
    if form is None:
        form = onnx_form(pipeline, signature, train_matrix, train_labels, test_matrix, seed=seed)
    if form.graph is not None:
        (directory / manifest.ONNX).write_bytes(form.graph)
    test_scores = score(test_matrix)
    records = golden_records(signature, test_frame, test_scores)
    write_json(directory / manifest.REFERENCE, reference(signature, train_matrix, test_scores))
    if train_frame is not None:
        background.write(directory, background_records(signature, train_frame, seed=seed))
    if missed is not None:
        calibration.write(directory, missed, seed=seed)
    if ranking is not None:
        write_ranking(directory, ranking)
    if canary is not None:
        canary_bounds.write(directory, canary)
    (directory / manifest.CARD).write_text(card, "utf-8")
    sealed = manifest.write(
        directory,
        signature=signature,
        golden=_golden(signature, records, score, tolerance),
        name=name,
        run_id=run_id,
        created=(created or datetime.now(UTC)).isoformat(timespec="seconds"),
        runtime="python" if form.reason else "onnx",
        runtime_reason=form.reason,
        algorithm=algorithm,
        metric=metric,
        metrics={key: float(value) for key, value in metrics.items() if np.isfinite(value)},
        libraries={library: version(library) for library in (*LIBRARIES, *packages)} | _boosters(pipeline),
    )
    size = sum(path.stat().st_size for path in directory.iterdir()) / 1e6
    return ExportResult(sealed.runtime, form.reason, form.parity, size, sealed)


def _onnx_form(
    pipeline: Any,
    signature: Signature,
    score: Score,
    rows: Callable[[], NDArray[np.float64]],
    tolerance: float,
) -> tuple[bytes | None, Parity | None, str]:
    """The graph if it is exact on `rows`, its comparison with the pipeline, and why it is not kept."""
    parity = None
    try:
        model: bytes = convert(pipeline, signature.width, WRITERS).SerializeToString()
        parity = compare(signature, score, onnx_score(model), rows(), tolerance)
        if parity.exact:
            return model, parity, ""
        reason = f"the ONNX form is not exact: {parity}"
    except NoExport as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 - a graph that onnx or onnxruntime refuses costs speed, not the model
        reason = f"onnxruntime does not run the ONNX form: {str(error).splitlines()[0][:300]}"
    return None, parity, reason


def _write_model(pipeline: Any, directory: Path, own: Sequence[Path], classes: int) -> tuple[str, ...]:
    """The pipeline as skops, or pickled beside its own modules; distributions that it needs then."""
    try:
        _write_skops(pipeline, directory / manifest.SKOPS)
    except Exception:  # whatever skops says of a class that it does not know
        if not own:
            raise
    else:
        return ()
    (directory / "model").mkdir()
    file = "model/model.joblib"
    joblib.dump(pipeline, directory / file, compress=1)
    for place in own:
        to = directory / CODE / place.name
        to.parent.mkdir(exist_ok=True)
        if place.is_dir():
            shutil.copytree(place, to, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy(place, to)
    packages = _distributions(pipeline)
    spec = PythonModel(
        flavor="pickle",
        file=file,
        inputs=(),
        frame=False,
        method="predict_proba" if classes else "predict",
        order=tuple(range(classes)),
        packages=packages,
        code=True,
    )
    (directory / manifest.MODEL).write_bytes(msgspec.json.format(msgspec.json.encode(spec)) + b"\n")
    return packages


class _Seen(pickle.Pickler):
    """Notes the packages of all that it pickles."""

    def __init__(self) -> None:
        super().__init__(BytesIO())
        self.roots: set[str] = set()

    def reducer_override(self, value: Any) -> Any:
        owner = value if isinstance(value, (type, FunctionType)) else type(value)
        self.roots.add(str(owner.__module__).partition(".")[0])
        return NotImplemented


def _distributions(pipeline: Any) -> tuple[str, ...]:
    """The installed distributions of all that a pipeline holds."""
    seen = _Seen()
    seen.dump(pipeline)
    installed = installed_packages()
    return tuple(sorted({installed[root][0] for root in seen.roots if root in installed}))


def _boosters(pipeline: Any) -> dict[str, str]:
    """The versions of the boosters' libraries that a pipeline holds, by the names of their modules."""
    modules = {type(part).__module__.partition(".")[0] for part in parts_of(pipeline, WRITERS)}
    return {name: sys.modules[name].__version__ for name in sorted(modules & BOOSTERS.keys())}


def _write_skops(pipeline: Any, path: Path) -> None:
    for model in parts_of(pipeline, WRITERS):
        if type(model) in WRITERS:
            WRITERS[type(model)].strip(model)
    content = skops.io.dumps(pipeline, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
    foreign = sorted(set(skops.io.get_untrusted_types(data=content)) - set(TRUSTED))
    if foreign:
        raise ExportError(
            f"model.skops would hold types that artifact/trusted.py does not list: {', '.join(foreign)}"
        )
    path.write_bytes(content)


def _golden(
    signature: Signature, records: list[dict[str, Any]], score: Score, tolerance: float
) -> manifest.Golden:
    """Rows with the scores that the pipeline gives them as a server encodes them."""
    scores = score(Encoder(signature).records(records, lenient=True)).tolist()
    return manifest.Golden(records=records, scores=scores, tolerance=tolerance)


def golden_records(
    signature: Signature, frame: pd.DataFrame, scores: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """At most GOLDEN_ROWS rows as a client sends them, evenly spaced by their first score."""
    order = np.argsort(scores[:, 0], kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(GOLDEN_ROWS, len(order))).astype(int))]
    return _records(signature, frame, np.sort(chosen))


def background_records(signature: Signature, frame: pd.DataFrame, *, seed: int) -> list[dict[str, Any]]:
    """At most `background.ROWS` rows as a client sends them, drawn at random."""
    count = min(background.ROWS, len(frame))
    chosen = np.random.default_rng(seed).choice(len(frame), count, replace=False)
    return _records(signature, frame, np.sort(chosen))


def _records(signature: Signature, frame: pd.DataFrame, chosen: NDArray[np.intp]) -> list[dict[str, Any]]:
    cells = {column.name: frame[column.name].iloc[chosen].tolist() for column in signature.columns}
    return [
        {column.name: _plain(cells[column.name][i], integer=column.integer) for column in signature.columns}
        for i in range(len(chosen))
    ]


def _plain(cell: Any, *, integer: bool) -> Any:
    """A cell as a JSON value; a missing one is null."""
    if cell is None or cell != cell:  # noqa: PLR0124 - NaN and NaT
        return None
    if isinstance(cell, np.generic):
        cell = cell.item()
    if isinstance(cell, float) and integer and cell.is_integer():
        return int(cell)
    return cell if isinstance(cell, (bool, int, float, str)) else str(cell)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, allow_nan=False, indent=1) + "\n", "utf-8")
