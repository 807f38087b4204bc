"""Whether a graph is exact: its scores beside the pipeline's, on rows where a difference would show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from artifact.onnx_session import open_session
from artifact.signature import labels
from training.onnx.graph import INPUT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from artifact.manifest import Score
    from artifact.signature import Signature
    from training.onnx.graph import Writer

PROBABILITY_TOLERANCE = 1e-5
REGRESSION_TOLERANCE = 1e-6
"""Of the larger of the target's range and its largest absolute value."""
MAX_THRESHOLDS = 3_000
MAX_PARITY_CELLS = 20_000_000
BATCH_ROWS = 4_096
LARGEST = float(np.finfo(np.float32).max)


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
        The largest allowed difference.
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


def onnx_score(model: bytes) -> Score:
    """A function that scores a matrix by the graph, in batches as a server has them."""
    session = open_session(model)

    def score(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        parts = [
            session.run(None, {INPUT: matrix[start : start + BATCH_ROWS]})[0]
            for start in range(0, len(matrix), BATCH_ROWS)
        ]
        return np.concatenate(parts).astype(np.float64)

    return score


def tolerance_of(signature: Signature, train_labels: Sequence[Any] | NDArray[Any]) -> float:
    """The largest allowed difference of a served score from the pipeline's."""
    return float(np.max(tolerances_of(signature, train_labels)))


def tolerances_of(signature: Signature, values: Sequence[Any] | NDArray[Any]) -> NDArray[np.float64]:
    """The largest allowed difference of each score, shape (outputs,), or (1,) if it is the same for all.

    Parameters
    ----------
    values
        Labels or values, shape (rows,); for named numbers the model's own scores, shape (rows, numbers).
    """
    if signature.classes:
        return np.array([PROBABILITY_TOLERANCE])
    numbers = np.asarray(values, np.float64).reshape(len(values), -1)
    sizes: NDArray[np.float64] = np.maximum(np.ptp(numbers, axis=0), np.abs(numbers).max(axis=0))
    return REGRESSION_TOLERANCE * sizes


def compare(
    signature: Signature, one: Score, other: Score, rows: NDArray[np.float64], tolerance: float
) -> Parity:
    """Compare two ways of scoring on these rows of the matrix."""
    expected, found = one(rows), other(rows)
    worst = float(np.abs(expected - found).max(initial=0.0))
    different = 0
    if signature.classes:
        pairs = zip(labels(signature, expected), labels(signature, found), strict=True)
        different = sum(a != b for a, b in pairs)
    return Parity(len(rows), float("inf") if np.isnan(worst) else worst, tolerance, different)


def parity_rows(
    pipeline: Any,
    writers: Mapping[type, Writer],
    signature: Signature,
    train_matrix: NDArray[np.float64],
    test_matrix: NDArray[np.float64],
    *,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Rows where an inexact graph would show: test rows, rows at thresholds, rows with a value missing.

    At most MAX_THRESHOLDS of the trees' thresholds are drawn; each stands in three rows, as the float32 next
    to it and the neighbours on both sides. The other columns come from rows drawn from the training and test
    rows.
    """
    rng = np.random.default_rng(seed)
    sources = np.concatenate([test_matrix, train_matrix])
    room = max(300, MAX_PARITY_CELLS // max(1, signature.width))
    # CatBoost parts missing values from others at float32's lowest number, whose neighbour is infinite.
    # Rows with a value missing show that split.
    found = sorted(each for each in set(thresholds(pipeline, writers)) if abs(each[1]) < LARGEST)
    wanted = min(MAX_THRESHOLDS, room // 3)
    if len(found) > wanted:
        found = [found[i] for i in np.sort(rng.choice(len(found), wanted, replace=False))]
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


def thresholds(
    model: Any, writers: Mapping[type, Writer], columns: Sequence[int | None] | None = None
) -> Iterator[tuple[int, float]]:
    """Thresholds within a model on values that stand in the matrix, each with the matrix's column.

    `columns` names the matrix column of each of the model's columns, None for those that were transformed.
    """
    writer = writers.get(type(model))
    if writer is None:
        return
    if isinstance(model, Pipeline):
        for _, step in model.steps[:-1]:
            if isinstance(step, ColumnTransformer):
                columns = _origins(step)
    for place, value in writer.thresholds(model):
        column = place if columns is None else columns[place]
        if column is not None and np.isfinite(value):
            yield column, value
    for member in writer.members(model):
        yield from thresholds(member, writers, columns)


def _origins(step: ColumnTransformer) -> list[int | None]:
    """The matrix column behind each output column; None where it was transformed."""
    origins: list[int | None] = []
    outputs = step.output_indices_
    for name, part, places in step.transformers_:
        width = outputs[name].stop - outputs[name].start
        plain = getattr(part, "func", part) is None or part == "passthrough"
        origins += [int(place) for place in places] if plain and width == len(places) else [None] * width
    return origins
