"""Steps over columns of which some are words: what the step makes of each word is looked up by its code.

A step is asked for its own answer to every cell that a column can have, so encoders and imputers of any
options need no rewriting; they only have to treat each column apart from the others.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, TargetEncoder

from training.onnx.graph import Graph, NoExport, Number, Words
from training.onnx.transformers import transform

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.onnx.graph import Columns

ENCODERS = (OneHotEncoder, OrdinalEncoder, TargetEncoder)


def transform_columns(graph: Graph, step: Any, columns: Columns) -> Columns:
    """Add a fitted transformer.

    Raises
    ------
    NoExport
        There is no ONNX form of the step.
    """
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return columns
    if isinstance(step, Pipeline):
        for _, part in step.steps:
            columns = transform_columns(graph, part, columns)
        return columns
    if isinstance(step, ColumnTransformer):
        return _chosen(graph, step, columns)
    if isinstance(step, FeatureUnion):
        return _union(graph, step, columns)
    if isinstance(step, FunctionTransformer) and step.func is None:
        return columns
    if type(step) in ENCODERS:
        return tuple(
            number for place in range(len(columns)) for number in _encoded(graph, step, columns, place)
        )
    if type(step) is SimpleImputer:
        return _imputed(graph, step, columns)
    numbers = transform(graph, step, graph.matrix(columns))
    width = _width(step, len(columns))
    return tuple(Number(numbers, place, width) for place in range(width))


def _chosen(graph: Graph, step: ColumnTransformer, columns: Columns) -> Columns:
    places = step._transformer_to_input_indices  # noqa: SLF001 - names, masks and slices, resolved
    found: list[Number | Words] = []
    for name, part, _ in step.transformers_:
        if isinstance(part, str) and part == "drop":
            continue
        chosen = tuple(columns[place] for place in places[name])
        if not chosen:
            continue
        part_columns = transform_columns(graph, part, chosen)
        weight = (step.transformer_weights or {}).get(name)
        found += part_columns if weight is None else _weighted(graph, part_columns, weight)
    return tuple(found)


def _union(graph: Graph, step: FeatureUnion, columns: Columns) -> Columns:
    found: list[Number | Words] = []
    for name, part in step.transformer_list:
        if isinstance(part, str) and part == "drop":
            continue
        made = transform_columns(graph, part, columns)
        weight = (step.transformer_weights or {}).get(name)
        found += made if weight is None else _weighted(graph, made, weight)
    return tuple(found)


def _weighted(graph: Graph, columns: Columns, weight: float) -> Columns:
    product = graph.mul(graph.matrix(columns), [[weight]])
    return tuple(Number(product, place, len(columns)) for place in range(len(columns)))


def _width(step: Any, columns: int) -> int:
    try:
        return len(step.get_feature_names_out())
    except (AttributeError, ValueError, TypeError):
        return columns


# ---- encoders


def _encoded(graph: Graph, step: Any, columns: Columns, place: int) -> tuple[Number, ...]:
    """What an encoder makes of one of its columns."""
    column = columns[place]
    if isinstance(column, Words):
        _note(graph, column, step.categories_[place].tolist())
        table = _answers(step, place, column.cells)
        return graph.looked_up(column, table[:, _outputs(step, place)])
    known = [float(value) for value in step.categories_[place] if value == value]  # noqa: PLR0124 - NaN
    unknown = (max(known) if known else 0.0) + 1.5  # of no encoder fitted on numbers a category
    table = _answers(step, place, (np.nan, *known, unknown))[:, _outputs(step, place)]
    width = table.shape[1]
    x = graph.matrix((column,))
    missing = graph.constant(table[:1])
    other = graph.constant(table[-1:])
    if known:
        hits = graph.cast(graph.op("Equal", x, graph.constant([known])))
        found = graph.op("Greater", graph.row_sum(hits), graph.constant([[0.0]]))
        other = graph.op("Where", found, graph.matmul(hits, table[1:-1]), other)
    made = graph.op("Where", graph.op("IsNaN", x), missing, other)
    return tuple(Number(made, k, width) for k in range(width))


def _note(graph: Graph, column: Words, known: list[Any]) -> None:
    """Note the words that a step knows and the table lacks, also one that an imputer fills in."""
    lacking = {word for word in known if isinstance(word, str)} - {*map(str, column.cells[1:-1])}
    graph.unlisted.setdefault(column.name, set()).update(lacking)


def _outputs(step: Any, place: int) -> slice:
    """Which outputs of an encoder are of one of its columns."""
    if isinstance(step, OneHotEncoder):
        widths = step._n_features_outs  # noqa: SLF001 - after drop and infrequent categories
        start = sum(widths[:place])
        return slice(start, start + widths[place])
    each = len(step.encodings_) // len(step.categories_) if isinstance(step, TargetEncoder) else 1
    return slice(place * each, (place + 1) * each)


def _answers(step: Any, place: int, cells: tuple[Any, ...]) -> NDArray[np.float64]:
    """What an encoder gives for each cell of one column, NaN for a cell that it refuses."""
    others = [known[0] for known in step.categories_]
    return _asked(step, [[*others[:place], cell, *others[place + 1 :]] for cell in cells])


def _asked(step: Any, rows: list[list[Any]]) -> NDArray[Any]:
    try:
        return _transformed(step, rows)
    except Exception:  # noqa: BLE001 - whatever it raises, it refuses a row
        found: list[Any] = []
        for row in rows:
            try:
                found.append(_transformed(step, [row])[0])
            except Exception:  # noqa: BLE001
                found.append(None)
        widths = {len(row) for row in found if row is not None}
        if not widths:
            raise NoExport(
                f"{type(step).__name__} refuses every row that its graph would be made of"
            ) from None
        return np.array([[np.nan] * max(widths) if row is None else row for row in found])


def _transformed(step: Any, rows: list[list[Any]]) -> NDArray[Any]:
    table: Any = np.array(rows, object)
    names = getattr(step, "feature_names_in_", None)
    if names is not None:
        import pandas as pd

        table = pd.DataFrame(table, columns=list(names))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = step.transform(table)
    found = found.toarray() if hasattr(found, "toarray") else found
    return np.asarray(found)


# ---- imputer


def _imputed(graph: Graph, step: SimpleImputer, columns: Columns) -> Columns:
    """Words stay words, with the filled cell in the place of a missing one; then the indicators."""
    if all(isinstance(column, Number) for column in columns):
        numbers = transform(graph, step, graph.matrix(columns))
        width = _width(step, len(columns))
        return tuple(Number(numbers, place, width) for place in range(width))
    empty = np.array([value != value for value in step.statistics_.tolist()])  # noqa: PLR0124 - NaN
    if empty.any() and not step.keep_empty_features:
        raise NoExport("no ONNX form of an imputer of words that drops a column")
    found: list[Number | Words] = []
    marks: list[Number] = []
    marked = set() if step.indicator_ is None else set(step.indicator_.features_.tolist())
    for place, column in enumerate(columns):
        gone: Any
        if isinstance(column, Words):
            gone = [_is(cell, step.missing_values) for cell in column.cells]
            filled = step.statistics_[place]
            _note(graph, column, [step.missing_values])
            cells = tuple(filled if lost else cell for cell, lost in zip(column.cells, gone, strict=True))
            found.append(Words(column.name, column.index, cells))
            if place in marked:
                marks += graph.looked_up(column, np.array(gone, float)[:, None])
            continue
        x = graph.matrix((column,))
        lost = _lost(graph, step, x)
        made = graph.op("Where", lost, graph.constant([[float(step.statistics_[place])]]), x)
        found.append(Number(made, 0, 1))
        if place in marked:
            marks.append(Number(graph.cast(lost), 0, 1))
    return (*found, *marks)


def _lost(graph: Graph, step: SimpleImputer, x: str) -> str:
    if _is(np.nan, step.missing_values):
        return graph.op("IsNaN", x)
    return graph.op("Equal", x, graph.constant([[float(step.missing_values)]]))


def _is(cell: Any, missing: Any) -> bool:
    if missing is None or missing != missing:  # noqa: PLR0124 - NaN
        return cell is None or (isinstance(cell, float) and cell != cell)  # noqa: PLR0124
    return type(cell) is type(missing) and bool(cell == missing)
