"""A fitted pipeline to an artifact: ONNX where it is exact, skops always, golden rows, reference, card."""

from __future__ import annotations

import io
import json
import time
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import skops.io
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from artifact import manifest, runtime
from artifact.encode import Encoder
from artifact.signature import labels
from artifact.trusted import TRUSTED
from training.onnx.graph import INPUT, NoExport, convert, parts_of
from training.search.search import scores_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from artifact.manifest import Manifest, Score
    from artifact.signature import Signature

PROBABILITY_TOLERANCE = 1e-5
REGRESSION_TOLERANCE = 1e-6
"""Of the larger of the target's range and its largest absolute value."""
GOLDEN_ROWS = 32
MOST_THRESHOLDS = 3_000
MOST_PARITY_CELLS = 20_000_000
BATCH_ROWS = 4_096
HISTOGRAM_BINS = 10
MOST_REFERENCE_TERMS = 50
LIBRARIES = ("numpy", "scipy", "scikit-learn", "skops", "onnx", "onnxruntime", "mlflow")


class ExportError(Exception):
    """The model cannot be kept in any form that a server would open."""


@dataclass(frozen=True)
class Parity:
    """How far a graph is from its pipeline.

    Parameters
    ----------
    rows
        Rows compared: the test rows, rows at the trees' thresholds, rows with one value missing.
    worst
        The largest absolute difference of a score.
    tolerance
        The most that it may be.
    labels
        Rows on which the labels differ.
    """

    rows: int
    worst: float
    tolerance: float
    labels: int

    @property
    def exact(self) -> bool:
        """Whether the graph may stand for the pipeline."""
        return self.worst <= self.tolerance and self.labels == 0

    def __str__(self) -> str:
        told = f"scores differ by at most {self.worst:.2g} (allowed {self.tolerance:.2g})"
        return f"{told}, labels on {self.labels} of {self.rows} rows"


@dataclass(frozen=True)
class ExportResult:
    """What an export came to.

    Parameters
    ----------
    reason
        Why the runtime is scikit-learn; empty for ONNX.
    parity
        None where there is no graph to compare.
    size_mb
        All files of the artifact, in units of a million bytes.
    """

    runtime: str
    precision: str
    reason: str
    parity: Parity | None
    size_mb: float
    manifest: Manifest


def export(
    pipeline: Any,
    signature: Signature,
    directory: Path,
    *,
    train_matrix: NDArray[np.float64],
    train_labels: Sequence[Any] | NDArray[Any],
    test_matrix: NDArray[np.float64],
    test_frame: pd.DataFrame,
    name: str,
    run_id: str,
    algorithm: str,
    metric: str,
    metrics: Mapping[str, float],
    card: str,
    created: datetime | None = None,
    seed: int = 0,
) -> ExportResult:
    """Write the artifact of a fitted pipeline into `directory`, which is made and must hold nothing else.

    Parameters
    ----------
    train_matrix, test_matrix
        Encoded rows, shape (rows, signature.width).
    train_labels
        The data's own labels, or values, of the training rows.
    test_frame
        The raw columns of the test rows, of which golden rows are taken; columns beside the signature's are
        ignored.
    card
        The model card, Markdown.

    Raises
    ------
    ExportError
        The pipeline holds a type that a server would not open.
    """
    directory.mkdir(parents=True, exist_ok=True)
    outputs = len(signature.classes)

    def score(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        return scores_of(pipeline, matrix, outputs)

    _write_skops(pipeline, directory / manifest.SKOPS)
    tolerance = tolerance_of(signature, train_labels)
    reason, parity = "", None
    try:
        model = convert(pipeline, signature.width).SerializeToString()
        rows = parity_rows(pipeline, signature, train_matrix, test_matrix, seed)
        parity = compare(signature, score, onnx_score(model), rows, tolerance)
        if parity.exact:
            (directory / manifest.ONNX).write_bytes(model)
        else:
            reason = f"the ONNX form is not exact: {parity}"
    except NoExport as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 - a graph that onnx or onnxruntime refuses costs speed, not the model
        reason = f"onnxruntime does not run the ONNX form: {str(error).splitlines()[0][:300]}"
    records = golden_records(signature, test_frame, score(test_matrix))
    golden = manifest.Golden(
        records=records,
        scores=score(Encoder(signature).records(records, lenient=True)).tolist(),
        tolerance=tolerance,
    )
    _write_json(directory / manifest.REFERENCE, reference(signature, train_matrix, score(test_matrix)))
    (directory / manifest.CARD).write_text(card, "utf-8")
    precision = "float64"
    sealed = manifest.write(
        directory,
        signature=signature,
        golden=golden,
        name=name,
        run_id=run_id,
        created=(created or datetime.now(UTC)).isoformat(timespec="seconds"),
        runtime="sklearn" if reason else "onnx",
        runtime_reason=reason,
        precision=precision,
        algorithm=algorithm,
        metric=metric,
        metrics={key: float(value) for key, value in metrics.items() if np.isfinite(value)},
        libraries={library: version(library) for library in LIBRARIES},
    )
    size = sum(path.stat().st_size for path in directory.iterdir()) / 1e6
    return ExportResult(sealed.runtime, precision, reason, parity, size, sealed)


def _write_skops(pipeline: Any, path: Path) -> None:
    for model in parts_of(pipeline):
        if getattr(model, "_preprocessor", None) is not None:
            # Boosting with native categories keeps a function that checks its input. The encoded matrix needs
            # no
            # check, and no server opens a function.
            for _, step, _ in (*model._preprocessor.transformers, *model._preprocessor.transformers_):  # noqa: SLF001
                if isinstance(step, FunctionTransformer):
                    step.func = None
    content = skops.io.dumps(pipeline, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
    foreign = sorted(set(skops.io.get_untrusted_types(data=content)) - set(TRUSTED))
    if foreign:
        raise ExportError(f"model.skops would hold types that artifact/trusted.py does not list: {foreign}")
    path.write_bytes(content)


def onnx_score(model: bytes) -> Score:
    """What scores a matrix through the graph, one thread, in batches as a server has them."""
    session = runtime.open_session(model)

    def score(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        parts = [
            session.run(None, {INPUT: matrix[start : start + BATCH_ROWS]})[0]
            for start in range(0, len(matrix), BATCH_ROWS)
        ]
        return np.concatenate(parts).astype(np.float64)

    return score


def tolerance_of(signature: Signature, train_labels: Sequence[Any] | NDArray[Any]) -> float:
    """The most that a served score may differ from the pipeline's."""
    if signature.task != "regression":
        return PROBABILITY_TOLERANCE
    values = np.asarray(train_labels, np.float64)
    return REGRESSION_TOLERANCE * float(max(np.ptp(values), np.abs(values).max()))


def compare(
    signature: Signature, one: Score, other: Score, rows: NDArray[np.float64], tolerance: float
) -> Parity:
    """Hold two ways of scoring against each other on these rows of the matrix."""
    expected, found = one(rows), other(rows)
    worst = float(np.abs(expected - found).max(initial=0.0))
    different = 0
    if signature.task != "regression":
        pairs = zip(labels(signature, expected), labels(signature, found), strict=True)
        different = sum(a != b for a, b in pairs)
    return Parity(len(rows), float("inf") if np.isnan(worst) else worst, tolerance, different)


def parity_rows(
    pipeline: Any,
    signature: Signature,
    train_matrix: NDArray[np.float64],
    test_matrix: NDArray[np.float64],
    seed: int = 0,
) -> NDArray[np.float64]:
    """Rows where an inexact graph would show: test rows, rows at thresholds, rows with a value missing.

    Of the trees' thresholds at most 3,000 are drawn; each stands in three rows, as the float32 next to it
    and the neighbours on both sides. The other columns are those of rows drawn from the training and test
    rows.
    """
    rng = np.random.default_rng(seed)
    sources = np.concatenate([test_matrix, train_matrix])
    room = max(300, MOST_PARITY_CELLS // max(1, signature.width))
    found = sorted(set(thresholds(pipeline)))
    most = min(MOST_THRESHOLDS, room // 3)
    if len(found) > most:
        found = [found[i] for i in np.sort(rng.choice(len(found), most, replace=False))]
    columns = np.array([column for column, _ in found], np.intp)
    middle = np.array([value for _, value in found], np.float64).astype(np.float32)
    placed = []
    for values in (
        middle,
        np.nextafter(middle, np.float32(-np.inf)),
        np.nextafter(middle, np.float32(np.inf)),
    ):
        rows = sources[rng.integers(0, len(sources), len(found))]
        rows[np.arange(len(found)), columns] = values
        placed.append(rows)
    gaps = _gaps(signature)
    if len(gaps) > room // 4:
        gaps = [gaps[i] for i in rng.choice(len(gaps), room // 4, replace=False)]
    missing = sources[rng.integers(0, len(sources), len(gaps))]
    for row, (column, value) in enumerate(gaps):
        missing[row, column] = value
    return np.ascontiguousarray(np.concatenate([test_matrix[:room], *placed, missing]))


def _gaps(signature: Signature) -> list[tuple[int, float]]:
    """Matrix columns and what missing is there; text is never missing."""
    gaps, start = [], 0
    for column in signature.columns:
        if column.kind in ("number", "date"):
            gaps += [(start + i, np.nan) for i in range(column.width)]
        elif column.kind == "category":
            gaps.append((start, -1.0))
        start += column.width
    return gaps


def thresholds(  # noqa: C901 - one branch a kind of model
    model: Any, columns: Sequence[int | None] | None = None
) -> Iterator[tuple[int, float]]:
    """Thresholds of all trees within a model on values that stand in the matrix, with the matrix's column.

    `columns` names the matrix column of each of the model's columns, None for those that were transformed.
    """
    if isinstance(model, Pipeline):
        for _, step in model.steps[:-1]:
            if isinstance(step, ColumnTransformer):
                columns = _origins(step)
        yield from thresholds(model.steps[-1][1], columns)
    elif isinstance(model, (VotingClassifier, VotingRegressor)):
        for each in model.estimators_:
            yield from thresholds(each, columns)
    elif isinstance(model, TransformedTargetRegressor):
        yield from thresholds(model.regressor_, columns)
    elif hasattr(model, "_predictors"):
        native = (
            np.zeros(model.n_features_in_, bool) if model.is_categorical_ is None else model.is_categorical_
        )
        order = [*np.flatnonzero(native), *np.flatnonzero(~native)]
        for predictor in (one for round_ in model._predictors for one in round_):  # noqa: SLF001
            nodes = predictor.nodes[
                (predictor.nodes["is_leaf"] == 0) & (predictor.nodes["is_categorical"] == 0)
            ]
            places = [int(order[i]) for i in nodes["feature_idx"]]
            yield from _of_matrix(places, nodes["num_threshold"].tolist(), columns)
    elif hasattr(model, "tree_") or hasattr(model, "estimators_"):
        for each in getattr(model, "estimators_", [model]):
            inner = each.tree_.feature >= 0
            yield from _of_matrix(
                each.tree_.feature[inner].tolist(), each.tree_.threshold[inner].tolist(), columns
            )


def _of_matrix(
    places: Sequence[int], values: Sequence[float], columns: Sequence[int | None] | None
) -> Iterator[tuple[int, float]]:
    for place, value in zip(places, values, strict=True):
        column = place if columns is None else columns[place]
        if column is not None and np.isfinite(value):
            yield column, value


def _origins(step: ColumnTransformer) -> list[int | None]:
    """The matrix column behind each output column; None where it was transformed."""
    origins: list[int | None] = []
    outputs = step.output_indices_
    for name, part, places in step.transformers_:
        width = outputs[name].stop - outputs[name].start
        plain = getattr(part, "func", part) is None or part == "passthrough"
        origins += [int(place) for place in places] if plain and width == len(places) else [None] * width
    return origins


def golden_records(
    signature: Signature, frame: pd.DataFrame, scores: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """At most 32 of the frame's rows, evenly over the order of their first score, as a client sends them."""
    order = np.argsort(scores[:, 0], kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(GOLDEN_ROWS, len(order))).astype(int))]
    cells = {column.name: frame[column.name].tolist() for column in signature.columns}
    return [
        {column.name: _plain(cells[column.name][row], integer=column.integer) for column in signature.columns}
        for row in np.sort(chosen).tolist()
    ]


def _plain(cell: Any, *, integer: bool) -> Any:
    """A cell as JSON has it; missing is null."""
    if cell is None or cell != cell:  # noqa: PLR0124 - NaN and NaT
        return None
    if isinstance(cell, np.generic):
        cell = cell.item()
    if isinstance(cell, float) and integer and cell.is_integer():
        return int(cell)
    return cell if isinstance(cell, (bool, int, float, str)) else str(cell)


def reference(
    signature: Signature, matrix: NDArray[np.float64], scores: NDArray[np.float64]
) -> dict[str, Any]:
    """What training saw, for drift: per raw column and per score, edges and counts.

    `scores` are those of rows that the estimator was not fitted on: of its own rows a forest is surer.

    Returns
    -------
    `rows`; `columns`: by name `{"kind", "missing", ...}` with `edges` and `counts` for numbers (deciles; the
    outer bins are open) and each part of a date, `categories` and `counts` for categories, and for text the
    share of rows that hold each of the commonest terms; `scores`: by class, `edges` and `counts`.
    """
    columns: dict[str, Any] = {}
    start = 0
    for column in signature.columns:
        part = matrix[:, start : start + column.width]
        start += column.width
        if column.kind == "number":
            columns[column.name] = {"kind": "number", **_histogram(part[:, 0])}
        elif column.kind == "category":
            codes = part[:, 0].astype(int)
            counts = np.bincount(codes[codes >= 0], minlength=len(column.categories))
            columns[column.name] = {
                "kind": "category",
                "missing": int((codes < 0).sum()),
                "categories": list(column.categories),
                "counts": counts.tolist(),
            }
        elif column.kind == "date":
            parts = {name: _histogram(part[:, i]) for i, name in enumerate(column.parts)}
            columns[column.name] = {"kind": "date", "parts": parts}
        else:
            shares = (part > 0).mean(axis=0) if len(part) else np.zeros(column.width)
            often = np.argsort(-shares, kind="stable")[:MOST_REFERENCE_TERMS]
            columns[column.name] = {
                "kind": "text",
                "missing": int((~part.any(axis=1)).sum()),
                "terms": {column.terms[i]: float(shares[i]) for i in often},
            }
    names = [str(label) for label in signature.classes] or [signature.target]
    if signature.classes:
        edges = np.linspace(0, 1, 2 * HISTOGRAM_BINS + 1)
        figures = {
            name: {
                "edges": edges.tolist(),
                "counts": np.histogram(scores[:, i].clip(0, 1), edges)[0].tolist(),
            }
            for i, name in enumerate(names)
        }
    else:
        figures = {names[0]: _histogram(scores[:, 0])}
    return {"rows": len(matrix), "columns": columns, "scores": figures}


def _histogram(values: NDArray[np.float64]) -> dict[str, Any]:
    """Counts between the deciles; `edges` are the inner ones, so that there is one count more than edges."""
    there = values[np.isfinite(values)]
    inner = np.linspace(0, 1, HISTOGRAM_BINS + 1)[1:-1]
    edges = np.unique(np.quantile(there, inner)) if there.size else np.array([])
    counts = np.bincount(np.searchsorted(edges, there, side="left"), minlength=len(edges) + 1)
    return {"missing": int(len(values) - there.size), "edges": edges.tolist(), "counts": counts.tolist()}


def row_milliseconds(score: Callable[[Any], Any], row: NDArray[np.float64], repeats: int = 200) -> float:
    """What one row costs alone, shape (1, width): the median, in milliseconds."""
    spent = []
    for _ in range(repeats):
        started = time.perf_counter()
        score(row)
        spent.append(time.perf_counter() - started)
    return float(np.median(spent)) * 1e3


def open_skops(content: bytes) -> Any:
    """The pipeline of a model.skops, opened against our own list of types, as a server opens it."""
    return skops.io.load(io.BytesIO(content), trusted=list(TRUSTED))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, allow_nan=False, indent=1) + "\n", "utf-8")
