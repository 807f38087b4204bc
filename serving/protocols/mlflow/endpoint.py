"""`POST /invocations` of one model: JSON in four forms, or CSV."""

from __future__ import annotations

import difflib
import itertools
from typing import TYPE_CHECKING, Any

import msgspec

from artifact.encode import BadRows
from serving.errors import Problem, bad_rows
from serving.protocols import LARGE_BODY_BYTES, Reply, csv_table
from serving.protocols.json_body import decode
from serving.protocols.media import media_type
from serving.protocols.mlflow import usual
from serving.protocols.mlflow.frames import FORMS, MAX_HINTS, check_names, from_columns, rows_of_form
from serving.protocols.options import OPTIONS, Query, probabilities_of, threshold_of, with_options
from serving.protocols.orientations import frame_of
from serving.protocols.wording import described, keys, one_of
from serving.scoring.batcher import packer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from serving.protocols import Head
    from serving.scoring.catalog import LiveModel
    from serving.scoring.scores import Scores

JSON = b"application/json"
CSV = "text/csv"
OF_FRAMES = {"features": "instances", "records": "dataframe_records", "columns": "inputs"}
"""The form that reads a data frame of `orientations`."""
ERROR_CODES = {
    400: "BAD_REQUEST",
    404: "ENDPOINT_NOT_FOUND",
    422: "INVALID_PARAMETER_VALUE",  # MLflow answers it with 400, and so do we
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}

_encode = msgspec.json.encode


class InvocationsEndpoint:
    """`/invocations` of one model."""

    name = "invocations"
    content_types: tuple[str, ...] = ("application/json", CSV)

    def __init__(self, model: LiveModel) -> None:
        self.model = model
        self._tail = b', "version": %s}' % _encode(model.version)  # MLflow's own reply has predictions alone
        # The whole reply to one row, as most are.
        self._one = [self._reply([label]) for label in model.signature.classes]
        self._hot = usual.readers(model.signature)
        self._large = usual.large_readers(model.signature)
        self._pack = packer(model.signature.width)

    def read(self, body: bytes, head: Head) -> Query:
        """See `Endpoint`."""
        if head.content_type in (b"", JSON) or media_type(head.content_type) != CSV.encode():
            # Whole rows of numbers and nothing else: decoded and checked in one pass of C, 30 columns in 2 to
            # 5 us. A body that is refused here is decoded again below, where the error is named.
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
            return self._reply(self._predictions(query, scores, first))
        if query.n == 1 and self._one:
            return self._one[scores.chosen[first]]
        return self._reply(scores.labels(first, stop))

    def _reply(self, predictions: Sequence[Any]) -> Reply:
        return Reply(200, JSON, b'{"predictions": %s%s' % (_encode(predictions), self._tail))

    def _predictions(self, query: Query, scores: Scores, first: int) -> Sequence[Any]:
        stop = first + query.n
        if not query.probabilities:
            return scores.labels(first, stop, query.threshold)
        return scores.by_class(first, stop)

    def refuse(self, problem: Problem) -> Reply:
        """A problem in MLflow's shape; rows that the signature refuses are 400 there."""
        return refusal(problem)


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


def parse(body: bytes, model: LiveModel) -> Query:
    """Any JSON body of `/invocations` to encoded rows.

    Raises
    ------
    Problem
        400 for a body that is not JSON or not of the protocol, 413 for too many rows, 422 for rows that the
        signature refuses.
    """
    # MLflow's own client writes NaN for a missing cell.
    request = decode(body, literals=True)
    frame = frame_of(request, model, (*FORMS, "params"))
    if frame is not None:
        request = {OF_FRAMES[frame.form]: frame.rows}
    forms = [form for form in FORMS if form in request] if isinstance(request, dict) else []
    if len(forms) != 1:
        got = described(request) if not isinstance(request, dict) else keys(forms) or "none of them"
        raise Problem(400, f"The input must be a JSON object with exactly one of {one_of(FORMS)}; got {got}.")
    # MLflow ignores other keys; a misplaced option would silently have no effect.
    misplaced = [key for key in OPTIONS if key in request] or difflib.get_close_matches(
        "params", _first(request, "params", *forms), 1, 0.81
    )
    if misplaced:
        raise Problem(400, f'{misplaced[0]!r} is beside "params"; options belong inside "params": {{...}}.')
    probabilities, threshold = _params(request.get("params"), model)
    form = forms[0]
    try:
        matrix = rows_of_form(form, request[form], model)
    except BadRows as error:
        raise bad_rows(error) from None
    return with_options(matrix, probabilities=probabilities, threshold=threshold)


def _params(params: object, model: LiveModel) -> tuple[bool, float | None]:
    if params is None:
        return False, None
    if not isinstance(params, dict):
        raise Problem(422, f'"params": expected an object, got {described(params)}.')
    for key in _first(params, *OPTIONS):
        near = difflib.get_close_matches(key, OPTIONS, 1, 0.8)
        if near:
            raise Problem(422, f'"params": unknown key {key!r}; did you mean {near[0]!r}?')
    return probabilities_of(params.get("probabilities"), model), threshold_of(params.get("threshold"), model)


def _first(keys: Iterable[str], *known: str) -> list[str]:
    """A few keys that may be misspelt; comparing each with the known keys takes time."""
    return list(itertools.islice((key for key in keys if key not in known and len(key) < 30), MAX_HINTS))


def parse_csv(body: bytes, model: LiveModel) -> Query:
    """A CSV body to encoded rows; the signature says what its texts are.

    Raises
    ------
    Problem
        400 for a body that is not CSV in UTF-8, 413 for too many rows, 422 for rows that the signature
        refuses.
    """
    table = csv_table.read(body, model.check_rows)
    check_names([name for name in table.header if name], "in the header", model)
    try:
        matrix = from_columns(table.columns(model.signature), model)
    except BadRows as error:
        raise bad_rows(error) from None
    return Query(matrix, len(matrix))
