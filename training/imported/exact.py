"""Whether a model that was made elsewhere has an exact ONNX form: its own scores beside the graph's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits

from artifact.onnx_table import OnnxTable
from artifact.signature import labels
from training.imported.convert import convert
from training.imported.embedded import check_quick
from training.imported.words import UNLISTED
from training.onnx.graph import NoExport
from training.onnx.parity import Parity, onnx_score

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from artifact.manifest import Score
    from artifact.python_model import PythonModel
    from artifact.signature import Column, Signature

MAX_ROWS = 20_000
MIXED_ROWS = 1_000
EDGES = 250
HALVINGS = 64
MAX_CATEGORY_ROWS = 1_000
TINY = float(np.finfo(float).tiny)
BESIDE = 1e-11
"""How far beside a jump rows stand as well, as a part of the value: far more than the last bits of a sum, and
far less than float32 rounds."""
ALONE = 60
"""Rows at a jump that a model is asked for alone, to see whether it answers as it does among others."""


@dataclass(frozen=True)
class Form:
    """The ONNX form of a model, or why there is none.

    Parameters
    ----------
    signature
        Of the matrix in front of the graph; None without a graph.
    """

    signature: Signature | None
    graph: bytes
    parity: Parity | None
    reason: str

    @property
    def runtime(self) -> Literal["onnx", "python"]:
        """What scores the model in a server."""
        return "python" if self.signature is None else "onnx"


def onnx_form(
    model: Any,
    spec: PythonModel,
    signature: Signature,
    score: Score,
    *,
    raw_rows: NDArray[Any],
    tolerance: NDArray[np.float64],
) -> Form:
    """Write a model as a graph and keep it if it answers as the model does.

    Parameters
    ----------
    signature
        Of the model that reads raw columns.
    score
        The model's own, of raw rows.
    raw_rows
        Rows of the table.
    tolerance
        The largest allowed difference of each score, shape (outputs,), or (1,) for all.
    """
    parity = None
    try:
        proto, coded = convert(model, spec, coded_signature(signature, score, raw_rows))
        graph = proto.SerializeToString()
        with threadpool_limits(1):  # of a few hundred rows a call, threads wait more than they work
            scored = onnx_score(graph)
            if isinstance(model, OnnxTable):
                check_quick(scored, matrix_of(coded, raw_rows[:1]))
            parity = parity_of(coded, score, scored, raw_rows, tolerance)
        if parity.exact:
            return Form(coded, graph, parity, "")
        reason = f"its ONNX form is not exact: {parity}"
    except NoExport as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 - a graph that cannot be made or run costs speed, not the model
        reason = (
            f"its ONNX form cannot be made: {(str(error).splitlines() or [type(error).__name__])[0][:300]}"
        )
    return no_form(reason, parity)


def no_form(why: str, parity: Parity | None = None) -> Form:
    """For a model that its own library scores."""
    return Form(None, b"", parity, f"it was made elsewhere and is scored by its own library: {why}")


def coded_signature(signature: Signature, score: Score, raw_rows: NDArray[Any]) -> Signature:
    """The same contract in front of a matrix: words become codes, numbers keep their float64.

    Where the model refuses a word that it does not know, so does the signature.
    """
    columns = []
    row = next((each for each in raw_rows if np.isfinite(answers(score, each.reshape(1, -1))).all()), None)
    for place, column in enumerate(signature.columns):
        if column.kind == "category" and column.unknown == "pass" and row is not None:
            asked = row.astype(object)
            asked[place] = UNLISTED
            if not np.isfinite(answers(score, asked.reshape(1, -1))).all():
                columns.append(msgspec.structs.replace(column, unknown="refuse"))
                continue
        columns.append(column)
    return msgspec.structs.replace(signature, columns=tuple(columns), raw=False, double=True)


def answers(score: Score, rows: NDArray[Any]) -> NDArray[np.float64]:
    """Scores of raw rows; NaN for a row that the model refuses."""
    try:
        return score(rows)
    except Exception:  # noqa: BLE001 - whatever a model raises, it refuses a row
        if len(rows) == 1:
            return np.full((1, 1), np.nan)
        middle = len(rows) // 2
        parts = [answers(score, rows[:middle]), answers(score, rows[middle:])]
        width = max(part.shape[1] for part in parts)
        return np.concatenate([np.broadcast_to(part, (len(part), width)) for part in parts])


def raw_of(signature: Signature, matrix: NDArray[np.float64]) -> NDArray[Any]:
    """The raw rows that rows of the matrix stand for."""
    cells: list[NDArray[Any]] = []
    start = 0
    for column in signature.columns:
        part = matrix[:, start]
        start += column.width
        if column.kind == "number":
            cells.append(part)
        elif column.kind == "category":
            words = np.array([None, *column.categories, UNLISTED], object)
            cells.append(words[part.astype(int) + 1])
        else:
            cells.append(np.full(len(matrix), "", object))
    if all(column.kind == "number" for column in signature.columns):
        return np.column_stack(cells)
    rows = np.empty((len(matrix), len(cells)), object)
    for place, each in enumerate(cells):
        rows[:, place] = each
    return rows


def parity_of(
    signature: Signature,
    score: Score,
    graph: Score,
    raw_rows: NDArray[Any],
    tolerance: NDArray[np.float64],
) -> Parity:
    """Compare a model with its graph on rows of the table and on rows where a difference would show.

    Raises
    ------
    NoExport
        One of the two refuses a row that the other answers.
    """
    matrix = matrix_of(signature, raw_rows[:MAX_ROWS])

    def own(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return answers(score, raw_of(signature, rows))

    jumps, beside = _jumps(signature, own, matrix, tolerance)
    compared = [
        _compared(signature, own, graph, [matrix, *_made_rows(signature, matrix), *beside], tolerance)
    ]
    if len(jumps):
        last_bits = _compared(signature, own, graph, [jumps], tolerance)
        if last_bits.exact or not _contradicts_itself(own, graph, jumps, tolerance):
            compared.append(last_bits)
    worst = max(compared, key=lambda each: (each.worst / max(each.tolerance, TINY), each.labels))
    rows, different = (sum(getattr(each, of) for each in compared) for of in ("rows", "labels"))
    return Parity(rows, worst.worst, worst.tolerance, different)


def _compared(
    signature: Signature,
    own: Score,
    graph: Score,
    parts: list[NDArray[np.float64]],
    tolerance: NDArray[np.float64],
) -> Parity:
    """The two beside each other on rows of the matrix."""
    rows = np.ascontiguousarray(np.concatenate(parts))
    expected, found = own(rows), graph(rows)
    expected = np.broadcast_to(expected, found.shape)
    finite = np.asarray(np.isfinite(expected).all(axis=1))
    apart = int((finite != np.isfinite(found).all(axis=1)).sum())
    if apart:
        raise NoExport(
            f"its ONNX form is not exact: of {len(rows)} rows, either the model or the form refuses {apart}"
        )
    differences = np.abs(expected[finite] - found[finite]).max(axis=0, initial=0.0)
    allowed = np.broadcast_to(tolerance, differences.shape)
    # The number whose difference is largest in relation to its own tolerance.
    place = int(np.argmax(differences / np.maximum(allowed, TINY)))
    different = 0
    if signature.classes:
        own_labels = labels(
            msgspec.structs.replace(signature, raw=True), expected[finite]
        )  # a tie by its bits
        different = sum(
            one != other for one, other in zip(own_labels, labels(signature, found[finite]), strict=True)
        )
    return Parity(len(rows), float(differences[place]), float(allowed[place]), different)


def _contradicts_itself(
    own: Score, graph: Score, jumps: NDArray[np.float64], tolerance: NDArray[np.float64]
) -> bool:
    """Whether a model answers rows at its jumps otherwise alone than among others.

    The last bits of a matrix product depend on its number of rows: then they decide on which side of the jump
    such a row is, and no answer is the right one. Rows on which the graph differs are asked for first.
    """
    among = own(jumps)
    differs = (np.abs(among - graph(jumps)) > tolerance).any(axis=1)
    chosen = np.argsort(~differs, kind="stable")[:ALONE]
    alone = np.concatenate([own(row.reshape(1, -1)) for row in jumps[chosen]])
    return bool((np.abs(alone - among[chosen]) > tolerance).any())


def matrix_of(signature: Signature, raw_rows: NDArray[Any]) -> NDArray[np.float64]:
    """Rows of the table by the signature."""
    from artifact.encode import Encoder

    cells = {name: raw_rows[:, place].tolist() for place, name in enumerate(signature.names)}
    return Encoder(signature).columns(cells, lenient=True)


def _made_rows(signature: Signature, matrix: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Rows that the table does not have: columns drawn apart, and each column's special values in turn."""
    rng = np.random.default_rng(0)
    mixed = np.column_stack([rng.choice(matrix[:, i], MIXED_ROWS) for i in range(matrix.shape[1])])
    yield mixed
    start = 0
    gaps: list[tuple[int, list[float]]] = []
    for column in signature.columns:
        special = _special(column, matrix[:, start], rng)
        rows = matrix[rng.integers(0, len(matrix), len(special))]
        rows[:, start] = special
        yield rows
        absent = [np.nan if column.kind == "number" else -1.0] * (column.missing == "allow")
        if column.kind == "category" and column.unknown == "pass":
            absent.append(float(len(column.categories)))
        if column.kind != "text" and absent:
            gaps.append((start, absent))
        start += column.width
    rows = mixed.copy()
    for place, values in gaps:
        chosen = rng.random(len(rows)) < 0.4
        rows[chosen, place] = rng.choice(values, int(chosen.sum()))
    yield rows


def _special(column: Column, values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    if column.kind == "text":
        return values[:0]
    if column.kind == "category":
        codes = [float(code) for code in range(len(column.categories))]
        if len(codes) > MAX_CATEGORY_ROWS:
            codes = rng.choice(codes, MAX_CATEGORY_ROWS, replace=False).tolist()
        codes += [-1.0] * (column.missing == "allow")
        codes += [float(len(column.categories))] * (column.unknown == "pass")
        return np.array(codes)
    there = values[np.isfinite(values)]
    if not len(there):
        return np.array([0.0])
    low, high = float(there.min()), float(there.max())
    spread = (high - low) or 1.0
    some = rng.choice(there, 20)
    found = [low, high, low - spread, high + spread, low - 10 * spread, high + 10 * spread, 0.0, -1.0]
    found += [*some, *(some + rng.choice(there, 20)) / 2, *np.nextafter(some, np.inf)]
    found += [np.nan] * 3 * (column.missing == "allow")
    return np.array(found)


def _jumps(
    signature: Signature, own: Score, matrix: NDArray[np.float64], tolerance: NDArray[np.float64]
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """Rows on both sides of values at which the model's score jumps, found by halving, and rows beside them.

    Trees compare a number with a threshold, before which it may have been scaled or rounded; labels,
    neighbours and clusters change at once. The model itself shows where, to the last bit. Where its score is
    smooth, the two ends of a pair come within the tolerance, and the pair is left.
    """
    rng = np.random.default_rng(1)
    places = [
        place.start
        for column, place in zip(signature.columns, signature.places, strict=True)
        if column.kind == "number"
    ]
    sources = matrix[np.isfinite(matrix[:, places]).all(axis=1)]
    if not places or len(sources) < 2:
        return matrix[:0], []
    rows = sources[rng.integers(0, len(sources), EDGES)]
    which = rng.choice(places, EDGES)
    low = rows[np.arange(EDGES), which]
    high = sources[rng.integers(0, len(sources), EDGES), which]

    def at(values: NDArray[np.float64], of: NDArray[np.intp]) -> NDArray[np.float64]:
        asked = rows[of]
        asked[np.arange(len(of)), which[of]] = values
        return asked

    left, right = own(at(low, np.arange(EDGES))), own(at(high, np.arange(EDGES)))
    for _ in range(HALVINGS):
        middle = low + (high - low) / 2
        between = (middle != low) & (middle != high) & (np.abs(right - left) > tolerance).any(axis=1)
        of = np.flatnonzero(between)
        if not len(of):
            break
        found = own(at(middle[of], of))
        # The jump is in the half whose ends differ more; what else changes there is smooth.
        below = np.abs(found - left[of]).max(axis=1) >= np.abs(right[of] - found).max(axis=1)
        high[of[below]], right[of[below]] = middle[of[below]], found[below]
        low[of[~below]], left[of[~below]] = middle[of[~below]], found[~below]
    of = np.flatnonzero((np.abs(right - left) > tolerance).any(axis=1))
    low, high = low[of], high[of]
    beside = []
    for values in (low, high):
        near, away = values.astype(np.float32), np.maximum(np.abs(values), TINY) * BESIDE
        floats = (near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf)))
        beside += [at(each.astype(np.float64), of) for each in (values - away, values + away, *floats)]
    return np.concatenate([at(low, of), at(high, of)]), beside
