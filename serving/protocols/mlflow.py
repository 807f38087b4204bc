"""MLflow's scoring protocol, as `mlflow models serve` speaks it: `POST /invocations` of the default model.

Where the two differ, docs/protocols.md says how and why; a test asks both servers. MLflow itself is not
imported: its own server builds a data frame for each request, which takes 2 ms.
"""

from __future__ import annotations

import difflib
import itertools
import json
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, cast

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from artifact.encode import BadRows, CellError
from artifact.nfc import nfc
from artifact.signature import labels
from serving.errors import Problem, bad_rows
from serving.protocols import LARGE_BODY_BYTES, Reply, csv_table
from serving.protocols.blocks import Blocks, Number, StandIn, rows_of
from serving.protocols.json_body import decode, same_as_decoded
from serving.protocols.predict import Query, kind, with_options
from serving.scoring.batcher import packer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from artifact.signature import Signature
    from serving.protocols import Head
    from serving.scoring.batcher import Scores
    from serving.scoring.catalog import Catalog, LiveModel

JSON = b"application/json"
CSV = "text/csv"
ROUTE = "/invocations"
PAGES = ("/ping", "/health", "/version")
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
PARAMS = ("probabilities", "threshold")
VERSION = "3.17.2"
"""The MLflow whose protocol this is: what `/version` says of a model that does not say its own."""

ERROR_CODES = {
    400: "BAD_REQUEST",
    404: "ENDPOINT_NOT_FOUND",
    422: "INVALID_PARAMETER_VALUE",  # MLflow answers it with 400, and so do we
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}
MOST_HOT_COLUMNS = 512  # msgspec looks for a key that is out of order in every field of a record
MOST_HINTS = 20
MOST_NAME = 200
MOST_IGNORED = 10_000
"""Columns that a frame may have beside the model's own: they count for nothing, but take memory."""

_encode = msgspec.json.encode
_astuple = msgspec.structs.astuple

Rows = list[list[float]]
Read = Callable[[bytes], Rows | None]
ReadMatrix = Callable[[bytes], "NDArray[np.float32] | None"]


class InvocationsEndpoint:
    """`/invocations` of one model."""

    name = "invocations"
    content_types = ("application/json", CSV)

    def __init__(self, model: LiveModel) -> None:
        self.model = model
        # The whole reply to one row, as most are; the bytes are MLflow's own.
        self._one = [
            Reply(200, JSON, b'{"predictions": [%s]}' % _encode(label)) for label in model.signature.classes
        ]
        self._hot = _hot_readers(model.signature)
        self._large = _large_readers(model.signature)
        self._pack = packer(model.signature.width)

    def read(self, body: bytes, head: Head) -> Query:
        """See `Endpoint`."""
        if head.content_type in (b"", JSON) or not _is_csv(head.content_type):
            # Whole rows of numbers and nothing else: decoded and checked in one pass of C, 30 columns in 2 to
            # 5 us. Whatever is refused here is looked at again below, by what can say why.
            form = body[2:20].partition(b'"')[0]
            if len(body) >= LARGE_BODY_BYTES and form in self._large:
                matrix = self._large[form](body)
                if matrix is not None:
                    self.model.check_rows(len(matrix))
                    return Query(matrix, len(matrix))
            found = self._hot.get(form)
            rows = None if found is None else found(body)
            if rows is not None:
                n = len(rows)
                self.model.check_rows(n)
                return Query(self._pack(rows), n)
            return parse(body, self.model)
        return parse_csv(body, self.model)

    def answer(self, query: Query, scores: Scores, first: int) -> Reply:
        """See `Endpoint`."""
        stop = first + query.n
        if not query.plain:
            values = scores.values[first:stop]
            return Reply(200, JSON, b'{"predictions": %s}' % _encode(self._predictions(query, values)))
        if query.n == 1 and self._one:
            return self._one[scores.chosen[first]]
        return Reply(200, JSON, b'{"predictions": %s}' % _encode(scores.labels(first, stop)))

    def _predictions(self, query: Query, values: NDArray[np.float64]) -> Sequence[Any]:
        signature = self.model.signature
        if not query.probabilities:
            return labels(signature, values, query.threshold)
        names = [str(label) for label in signature.classes]
        return [dict(zip(names, row, strict=True)) for row in values.tolist()]

    def refuse(self, problem: Problem) -> Reply:
        """A problem as MLflow words it; what the signature refuses is 400 there."""
        return refusal(problem)


def endpoints(catalog: Catalog) -> dict[str, InvocationsEndpoint]:
    """The route of the protocol: the default model's."""
    model = catalog.live.get(catalog.default)
    return {} if model is None else {ROUTE: InvocationsEndpoint(model)}


def pages(catalog: Catalog) -> dict[str, Callable[[], Reply]]:
    """What MLflow answers to GET beside it: is the default model there, and of which MLflow is it."""
    model = catalog.live.get(catalog.default)

    def ping() -> Reply:
        if model is None:
            reason = catalog.refused.get(catalog.default, "no model is live")
            raise Problem(503, f"Not ready: {reason}", error=reason, model=catalog.default)
        return Reply(200, JSON, b"\n")

    said = "" if model is None else model.artifact.manifest.libraries.get("mlflow", "")
    version = Reply(200, JSON, (said or VERSION).encode())
    return dict(zip(PAGES, (ping, ping, lambda: version), strict=True))


def owns(path: str) -> bool:
    """Whether what is said about a path is said in this protocol's shape."""
    return path == ROUTE or path in PAGES


def refusal(problem: Problem) -> Reply:
    """A problem in MLflow's shape, with the places beside it in `errors`."""
    code = ERROR_CODES.get(problem.status, "BAD_REQUEST" if problem.status < 500 else "INTERNAL_ERROR")
    body: dict[str, Any] = {"error_code": code, "message": problem.detail}
    if problem.errors:
        body["errors"] = [
            {"row": error.row, "column": error.column, "reason": error.reason} for error in problem.errors
        ]
    status = 400 if problem.status == 422 else problem.status
    return Reply(status, JSON, _encode(body), problem.headers, problem.reason)


# ---- JSON


def parse(body: bytes, model: LiveModel) -> Query:
    """Any JSON body of `/invocations` to encoded rows.

    Raises
    ------
    Problem
        400 for what is not JSON or not of the protocol, 413 for too many rows, 422 for what the signature
        refuses.
    """
    # MLflow's own client writes NaN for a missing cell.
    request = decode(body, literals=True)
    forms = [form for form in FORMS if form in request] if isinstance(request, dict) else []
    if len(forms) != 1:
        got = kind(request) if not isinstance(request, dict) else _listed(forms) or "none of them"
        raise Problem(400, f"The input must be a JSON object with exactly one of {_or(FORMS)}; got {got}.")
    # MLflow ignores other keys; an option in the wrong place would silently be without effect.
    misplaced = [key for key in PARAMS if key in request] or difflib.get_close_matches(
        "params", _first(request, "params", *forms), 1, 0.81
    )
    if misplaced:
        raise Problem(
            400, f'{misplaced[0]!r} stands beside "params"; options are read from "params": {{...}}.'
        )
    probabilities, threshold = _params(request.get("params"), model)
    form = forms[0]
    try:
        matrix = _READERS[form](request[form], form, model)
    except BadRows as error:
        raise bad_rows(error) from None
    return with_options(matrix, probabilities=probabilities, threshold=threshold)


def _params(params: object, model: LiveModel) -> tuple[bool, float | None]:
    if params is None:
        return False, None
    if not isinstance(params, dict):
        raise Problem(422, f'"params": expected an object, got {kind(params)}.')
    for key in _first(params, *PARAMS):
        near = difflib.get_close_matches(key, PARAMS, 1, 0.8)
        if near:
            raise Problem(422, f'"params": unknown key {key!r}; did you mean {near[0]!r}?')
    task = model.signature.task
    probabilities, threshold = params.get("probabilities"), params.get("threshold")
    if probabilities is not None and not isinstance(probabilities, bool):
        raise Problem(
            422, f'"probabilities": expected true or false, got {kind(probabilities)}.', reason="bad_option"
        )
    if probabilities and task == "regression":
        raise Problem(
            422, f'"probabilities": {model.name!r} is a regression, which has none.', reason="bad_option"
        )
    if threshold is not None:
        if task != "binary":
            raise Problem(
                422,
                f'"threshold": only a binary model has one; {model.name!r} is {task}.',
                reason="bad_option",
            )
        if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
            raise Problem(
                422,
                f'"threshold": expected a number from 0 to 1, got {kind(threshold)}.',
                reason="bad_option",
            )
        threshold = float(threshold)
    return bool(probabilities), threshold


def _first(keys: Iterable[str], *known: str) -> list[str]:
    """Keys that may be slips of the pen: a few, as finding what each is near to takes its time."""
    return list(itertools.islice((key for key in keys if key not in known and len(key) < 30), MOST_HINTS))


def _split(value: object, form: str, model: LiveModel) -> NDArray[Any]:
    if not isinstance(value, dict) or "data" not in value or not value.keys() <= {"columns", "data", "index"}:
        got = _listed([str(key)[:MOST_NAME] for key in value]) if isinstance(value, dict) else kind(value)
        raise Problem(
            400, f'"{form}" must be an object with "data" and, if wanted, "columns" and "index"; got {got}.'
        )
    data, names, index = value["data"], value.get("columns"), value.get("index")
    if not isinstance(data, list):
        raise Problem(400, f'"{form}": expected "data" to be a list of rows, got {kind(data)}.')
    if index is not None and (not isinstance(index, list) or len(index) != len(data)):
        raise Problem(400, f'"{form}": expected "index" to be a list as long as "data", {len(data)}.')
    if names is None:
        return _rows(data, model)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Problem(400, f'"{form}": expected "columns" to be a list of names.')
    names = [nfc(name) for name in names]
    if tuple(names) == model.signature.names:
        return _rows(data, model)
    _check_names(names, f'in "columns" of "{form}"', model)
    if len(names) == 1:
        data = [row if isinstance(row, list) else [row] for row in data]
    _check_widths(data, len(names))
    cells = list(zip(*data, strict=True)) or [()] * len(names)
    return _columns(dict(zip(names, cells, strict=True)), model)


def _records(value: object, form: str, model: LiveModel) -> NDArray[Any]:
    if not isinstance(value, list):
        raise Problem(400, f'"{form}" must be a list of records, got {kind(value)}.')
    model.check_rows(len(value))
    signature = model.signature
    accepted = frozenset(signature.names) | frozenset(signature.ignored)
    known = frozenset(signature.names)
    records: list[Any] = []
    unknown: dict[str, set[str]] = {}
    for record in value:
        if isinstance(record, dict) and not record.keys() <= accepted:
            absent = known - record.keys()
            if absent and len(unknown) < MOST_HINTS:
                unknown |= dict.fromkeys(record.keys() - accepted, absent)
            records.append({name: cell for name, cell in record.items() if name in accepted})
        else:
            records.append(record)
    _check_spelling(unknown)
    if records and not any(record.keys() & known for record in records if isinstance(record, dict)):
        # Where every column may be missing; MLflow has no frame to score either.
        model.encoder.columns({}) if all(isinstance(record, dict) for record in records) else None
    return model.encoder.records(records)


def _tensor(value: object, form: str, model: LiveModel) -> NDArray[Any]:
    """`instances` or `inputs`: both take rows, records and columns, whatever their names say."""
    if isinstance(value, dict):
        _check_width(len(value), f'in "{form}"', model)
        return _columns(_full(value, model), model)
    if isinstance(value, list):
        if value and isinstance(value[0], dict):
            return _records(value, form, model)
        return _rows(value, model)
    raise Problem(
        400, f'"{form}" must be a list of rows or records, or an object of columns; got {kind(value)}.'
    )


_READERS: dict[str, Callable[[Any, str, LiveModel], NDArray[Any]]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "instances": _tensor,
    "inputs": _tensor,
}


def _rows(rows: list[Any], model: LiveModel) -> NDArray[Any]:
    """By position; a one-column model's may be bare values, and those of numbers nested as a tensor."""
    model.check_rows(len(rows))
    signature = model.signature
    if len(signature.columns) == 1 and rows and not any(isinstance(row, (list, dict)) for row in rows):
        rows = [[row] for row in rows]
    elif signature.numeric and rows and all(map(_nested, rows)):
        rows = _flat(rows, signature.width)
    return model.encoder.rows(rows)


def _nested(row: object) -> bool:
    return isinstance(row, list) and bool(row) and all(isinstance(cell, list) for cell in row)


def _flat(rows: list[Any], width: int) -> list[Any]:
    """Images and the like: each row a rectangle of numbers, read line by line."""
    try:
        tensor = np.array(rows, dtype=object)
    except ValueError:
        raise Problem(422, "The nested lists are ragged; expected a rectangular tensor.") from None
    cells = tensor.reshape(-1)  # `flat` stops at 32 dimensions
    if tensor.size != len(rows) * width or any(isinstance(cell, list) for cell in cells):
        raise Problem(422, f"Expected {width} values a row, got a tensor of shape {list(tensor.shape)}.")
    return cast("list[Any]", cells.reshape(len(rows), width).tolist())


def _full(columns: dict[str, Any], model: LiveModel) -> dict[str, Any]:
    """Columns where single values stand for a whole column, or for the one row there is."""
    lengths = [len(cells) for cells in columns.values() if isinstance(cells, list)]
    n = max(lengths, default=1)
    model.check_rows(n)
    accepted = model.signature.names
    return {
        name: [cells] * n if name in accepted and not isinstance(cells, (list, dict)) else cells
        for name, cells in columns.items()
    }


def _columns(columns: Mapping[str, Any], model: LiveModel) -> NDArray[Any]:
    signature = model.signature
    model.check_rows(max((len(cells) for cells in columns.values() if hasattr(cells, "__len__")), default=0))
    absent = {name for name in signature.names if name not in columns}
    accepted = frozenset(signature.names) | frozenset(signature.ignored)
    if absent:
        _check_spelling({name: absent for name in columns if name not in accepted})
    # An ignored column counts for nothing, its shape included.
    kept = {name: columns[name] for name in signature.names if name in columns}
    if signature.numeric and not absent:
        matrix = _numbers(list(kept.values()))
        if matrix is not None:
            return matrix
    return model.encoder.columns(kept)


def _numbers(columns: list[Any]) -> NDArray[Any] | None:
    """The matrix of columns that are lists of numbers and nothing else, 20 times as fast as the encoder."""
    try:
        values = [msgspec.convert(cells, list[Number]) for cells in columns]
        matrix = np.array(values, np.float32).T
    except (msgspec.ValidationError, ValueError):
        return None
    return np.ascontiguousarray(matrix) if matrix.size and np.isfinite(matrix).all() else None


def _check_width(width: int, where: str, model: LiveModel) -> None:
    own = len(model.signature.names)
    if width > own + MOST_IGNORED:
        raise Problem(400, f"There are {width} columns {where}; {model.name!r} has {own}.")


def _check_names(names: Sequence[str], where: str, model: LiveModel) -> None:
    """Refuse a frame in which a name stands twice, or one of no end of columns."""
    _check_width(len(names), where, model)
    if len(set(names)) != len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise Problem(400, f"The column {twice[:MOST_NAME]!r} stands twice {where}.")


def _check_spelling(unknown: Mapping[str, Iterable[str]]) -> None:
    """Refuse a column that MLflow would ignore, if it is meant to be one of those that are not there."""
    for name, absent in list(unknown.items())[:MOST_HINTS]:
        near = difflib.get_close_matches(name, absent, 1, 0.8) if len(name) <= MOST_NAME else []
        if near:
            reason = f"unknown column; did you mean {near[0]!r}?"
            raise Problem(422, f"column {name!r}: {reason}", errors=[CellError(None, name, reason)])


def _check_widths(rows: Sequence[Any], width: int) -> None:
    for i, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != width:
            got = len(row) if isinstance(row, list) else kind(row)
            reason = f"expected {width} values, one for each of the columns, got {got}"
            raise Problem(422, f"row {i}: {reason}", errors=[CellError(i, None, reason)])


# ---- the usual bodies


def _hot_readers(signature: Signature) -> dict[bytes, Read]:
    """Readers of the forms, by the first key of the body, for a model of numbers.

    Each takes a body that holds that form and nothing else, with whole rows of numbers within float32; any
    other gives None.
    """
    if not signature.numeric or len(signature.columns) > MOST_HOT_COLUMNS:
        return {}
    width = len(signature.columns)
    by_row = rows_of(width)
    names = [f"c{i}" for i in range(width)]
    rename = dict(zip(names, signature.names, strict=True))
    try:
        record, extended = (
            msgspec.defstruct(
                "Record",
                [(name, Number) for name in names],
                rename=rename,
                gc=False,
                forbid_unknown_fields=strict,
            )
            for strict in (True, False)
        )
        column = Annotated[list[Number], Meta(min_length=1)]
        columns, more_columns = (
            msgspec.defstruct(
                "Columns", [(name, column) for name in names], rename=rename, forbid_unknown_fields=strict
            )
            for strict in (True, False)
        )
    except ValueError:  # a name that JSON has to escape
        return {
            b"dataframe_split": _split_reader(by_row, signature),
            b"instances": _reader("instances", by_row),
            b"inputs": _reader("inputs", by_row),
        }

    def records(form: str) -> Read:
        strict, extending = (Annotated[list[kind], Meta(min_length=1)] for kind in (record, extended))  # type: ignore[valid-type]
        return _first_of(
            _reader(form, strict, _record_lines), _reader(form, extending, _checked_record_lines)
        )

    def by_column(form: str) -> Read:
        return _first_of(
            _reader(form, columns, _column_lines), _reader(form, more_columns, _checked_column_lines)
        )

    def either(form: str) -> Read:
        return _by_brackets(form, _reader(form, by_row), records(form), by_column(form))

    return {
        b"dataframe_split": _split_reader(by_row, signature),
        b"dataframe_records": records("dataframe_records"),
        b"instances": either("instances"),
        b"inputs": either("inputs"),
    }


def _first_of(usual: Read, extended: Read) -> Read:
    """For records with keys of their own, which MLflow ignores: what is passed over there has to be checked.

    With every column there, no other key is one of them misspelt.
    """

    def read(body: bytes) -> Rows | None:
        rows = usual(body)
        return extended(body) if rows is None else rows

    return read


def _record_lines(records: Any, _body: bytes) -> Rows | None:
    return [_astuple(record) for record in records]  # type: ignore[misc]


def _checked_record_lines(records: Any, body: bytes) -> Rows | None:
    return _record_lines(records, body) if same_as_decoded(body, len(records) + 2) else None


def _column_lines(columns: Any, _body: bytes) -> Rows | None:
    return list(zip(*_astuple(columns), strict=True))  # type: ignore[arg-type]


def _checked_column_lines(columns: Any, body: bytes) -> Rows | None:
    if not same_as_decoded(body, len(columns.__struct_fields__) + 2) or _many_keys(body):
        return None
    return _column_lines(columns, body)


def _many_keys(body: bytes) -> bool:
    """Whether there may be more columns than a frame may have; each takes five bytes or more."""
    return len(body) > 5 * MOST_IGNORED and body.count(b":") > MOST_IGNORED


def _reader(form: str, value: Any, lines: Callable[[Any, bytes], Rows | None] | None = None) -> Read:
    decode_hot = _decoder(form, value)

    def read(body: bytes) -> Rows | None:
        try:
            found = decode_hot(body).value
            return found if lines is None else lines(found, body)
        except (msgspec.MsgspecError, ValueError, RecursionError):  # ValueError: not UTF-8, or ragged
            return None

    return read


def _by_brackets(form: str, rows: Read, records: Read, columns: Read) -> Read:
    """Look at the first brackets, as a failed attempt costs 5 us."""
    start = len(form) + 3

    def read(body: bytes) -> Rows | None:
        brackets = body[start : start + 4]
        if b"[{" in brackets:
            return records(body)
        return columns(body) if b"{" in brackets else rows(body)

    return read


def _decoder(form: str, value: Any) -> Callable[[bytes], Any]:
    hot = msgspec.defstruct("Hot", [("value", value)], rename={"value": form}, forbid_unknown_fields=True)
    return msgspec.json.Decoder(hot).decode


def _split_reader(by_row: Any, signature: Signature) -> Read:
    decode_hot = _split_decoder(by_row)
    fits = _split_check(signature)

    def read(body: bytes) -> Rows | None:
        try:
            found = decode_hot(body).value
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        return cast("Rows", found.data) if fits(found, len(found.data)) else None

    return read


def _split_decoder(data: Any) -> Callable[[bytes], Any]:
    split = msgspec.defstruct(
        "Split",
        [
            ("data", data),
            ("columns", msgspec.Raw | UnsetType, UNSET),
            ("index", list[Any] | UnsetType, UNSET),
        ],
        forbid_unknown_fields=True,
    )
    return _decoder("dataframe_split", split)


def _split_check(signature: Signature) -> Callable[[Any, int], bool]:
    """Whether a split of so many rows has the model's columns in their order, and as many labels of rows."""
    # The names as the usual writers spell them: compared as bytes, they need not be decoded (2 us for 30).
    spelt = {
        json.dumps(list(signature.names), separators=separators, ensure_ascii=ascii_only).encode()
        for separators in ((",", ":"), (", ", ": "))
        for ascii_only in (True, False)
    }

    def fits(split: Any, rows: int) -> bool:
        if split.columns is not UNSET and bytes(split.columns) not in spelt:
            return False
        return split.index is UNSET or len(split.index) == rows

    return fits


def _large_readers(signature: Signature) -> dict[bytes, ReadMatrix]:
    """The same for bodies that are read a block at a time: the forms whose rows are lists."""
    if not signature.numeric:
        return {}
    blocks = Blocks(len(signature.columns))

    def reader(decode: Callable[[bytes], Any], fits: Callable[[Any, int], bool]) -> ReadMatrix:
        def read(body: bytes) -> NDArray[np.float32] | None:
            found = blocks.read(body, decode)
            return None if found is None or not fits(found[1].value, len(found[0])) else found[0]

        return read

    return {
        b"dataframe_split": reader(_split_decoder(StandIn), _split_check(signature)),
        b"instances": reader(_decoder("instances", StandIn), lambda _, _rows: True),
        b"inputs": reader(_decoder("inputs", StandIn), lambda _, _rows: True),
    }


# ---- CSV


def _is_csv(content_type: bytes) -> bool:
    return content_type.split(b";", 1)[0].strip().lower() == CSV.encode()


def parse_csv(body: bytes, model: LiveModel) -> Query:
    """A CSV body to encoded rows; the signature says what its texts are.

    Raises
    ------
    Problem
        400 for what is not CSV in UTF-8, 413 for too many rows, 422 for what the signature refuses.
    """
    header, rows = csv_table.read(body, model.check_rows)
    _check_names([name for name in header if name], "in the header", model)
    texts = list(zip(*rows, strict=True)) or [()] * len(header)
    raw = dict(zip(header, texts, strict=True))
    columns: dict[str, Any] = dict(raw)
    for column in model.signature.columns:
        if column.name in raw:
            columns[column.name] = csv_table.cells(column, raw[column.name])
    try:
        matrix = _columns(columns, model)
    except BadRows as error:
        raise bad_rows(error) from None
    return Query(matrix, len(matrix))


# ---- words


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names[:8])


def _or(names: Sequence[str]) -> str:
    return f"{_listed(names[:-1])} or {_listed(names[-1:])}"
