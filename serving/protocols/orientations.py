"""The JSON that `DataFrame.to_json` of pandas writes in each `orient`, as one of the forms of a protocol.

A body in a form of the protocol is left to the protocol. A body that fits two orientations is refused.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from artifact.encode import CellError
from artifact.nfc import nfc
from serving.errors import Problem
from serving.protocols.wording import described, short

if TYPE_CHECKING:
    from collections.abc import Collection

    from serving.scoring.catalog import LiveModel

_NESTED = (dict, list)


class Frame(NamedTuple):
    """A data frame: `features` are rows by position, `columns` lists of cells by name."""

    form: Literal["features", "records", "columns"]
    rows: Any


def frame_of(request: object, model: LiveModel, forms: Collection[str]) -> Frame | None:
    """The data frame in a decoded body; None for any other body.

    Parameters
    ----------
    forms
        The keys of the protocol's own forms: a body with one of them is read as the protocol says.

    Raises
    ------
    Problem
        422 for a body that fits two orientations, or whose columns have different rows.
    """
    if isinstance(request, list) and request:
        if all(isinstance(row, dict) for row in request):
            return Frame("records", request)
        return Frame("features", request) if all(isinstance(row, list) for row in request) else None
    if not isinstance(request, dict) or not request:
        return None
    keys = request.keys()
    data = request.get("data")
    if isinstance(data, list):
        names, schema = request.get("columns"), request.get("schema")
        if keys <= {"columns", "index", "data"} and isinstance(names, list):
            return _split(names, data, model)
        if keys == {"schema", "data"} and isinstance(schema, dict):
            return Frame("records", _table(schema, data, model))
    if keys & set(forms) or not all(isinstance(inner, dict) and inner for inner in request.values()):
        return None
    if any(isinstance(cell, _NESTED) for inner in request.values() for cell in inner.values()):
        return None
    return _by_keys(request, model)


def _by_keys(request: dict[str, dict[str, Any]], model: LiveModel) -> Frame | None:
    """The names of columns are the outer keys for `orient="columns"`, the inner keys for `orient="index"`."""
    names = {*model.signature.names, *model.signature.ignored}
    inside = {key for inner in request.values() for key in inner}
    outer, inner = not names.isdisjoint(request), not names.isdisjoint(inside)
    if outer and inner:
        raise Problem(
            422,
            'This could be orient="columns" or orient="index" of a data frame, since keys outside and inside '
            'are names of columns; send orient="split" or orient="records".',
        )
    if inner:
        model.check_rows(len(request))
        return Frame("records", list(request.values()))
    return _columns(request, model) if outer else None


def _columns(request: dict[str, dict[str, Any]], model: LiveModel) -> Frame:
    first, index = next(iter(request.items()))
    model.check_rows(len(index))
    columns: dict[str, list[Any]] = {}
    for name, cells in request.items():
        if cells.keys() != index.keys():
            key = next(iter(cells.keys() ^ index.keys()))
            reason = f"its index differs from that of {short(first)}, for example at {short(key)}"
            raise Problem(422, f"column {short(name)}: {reason}", errors=[CellError(None, name, reason)])
        columns[name] = [cells[key] for key in index]
    return Frame("columns", columns)


def _split(names: list[Any], data: list[Any], model: LiveModel) -> Frame:
    model.check_rows(len(data))
    if not all(isinstance(name, str) for name in names):
        raise Problem(422, '"columns": expected a list of names.')
    names = [nfc(name) for name in names]
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise Problem(422, f'The column {short(twice)} stands twice in "columns".')
    for i, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(names):
            got = len(row) if isinstance(row, list) else described(row)
            reason = f'expected {len(names)} values, one for each of "columns", got {got}'
            raise Problem(422, f"row {i}: {reason}", errors=[CellError(i, None, reason)])
    cells = list(zip(*data, strict=True)) or [()] * len(names)
    return Frame("columns", {name: list(each) for name, each in zip(names, cells, strict=True)})


def _table(schema: dict[str, Any], data: list[Any], model: LiveModel) -> list[Any]:
    """Records without the index, whose columns `primaryKey` names."""
    model.check_rows(len(data))
    index = schema.get("primaryKey")
    names = [key for key in index if isinstance(key, str)] if isinstance(index, list) else []
    left_out = set(names) - {*model.signature.names, *model.signature.ignored}
    return [
        {key: cell for key, cell in row.items() if key not in left_out} if isinstance(row, dict) else row
        for row in data
    ]
