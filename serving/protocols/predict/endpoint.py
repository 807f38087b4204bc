"""`POST /predict`: rows as JSON, by position, by record or by column."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact import calibration
from artifact.encode import BadRows
from artifact.kinds.image import MEDIA_TYPES
from artifact.signature import TIE, probabilities
from serving.errors import Problem, bad_rows
from serving.ids import PREFIX, SINCE_EPOCH, new_id, next_secret, now
from serving.protocols import LARGE_BODY_BYTES, Reply, problem_reply
from serving.protocols.blocks import Blocks, StandIn, rows_of
from serving.protocols.json_body import decode
from serving.protocols.media import prefers
from serving.protocols.options import (
    EXPLAIN_OPTIONS,
    OPTIONS,
    SURE_OPTIONS,
    Interval,
    Query,
    Warnings,
    bad_option,
    explain_of,
    flag_of,
    interval_of,
    probabilities_of,
    threshold_of,
    with_options,
)
from serving.protocols.orientations import frame_of
from serving.protocols.predict import files, picture
from serving.protocols.predict.explanation import explanations
from serving.protocols.predict.unusual import warned
from serving.protocols.wording import described, hint, one_of
from serving.scoring.batcher import packer
from serving.scoring.explain import ExplainedScores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.signature import Signature
    from serving.protocols import Head
    from serving.scoring.catalog import LiveModel
    from serving.scoring.scores import Scores

JSON = b"application/json"
FORMS = ("features", "records", "columns")
_JSON_TYPES = (b"", b"application/json", b"application/x-ww")
"""The first 16 bytes of the content types that clients send JSON with."""

_encode = msgspec.json.encode


class PredictEndpoint:
    """`/predict` of one model."""

    name: str = "predict"
    content_types: tuple[str, ...] = ("application/json", *files.MEDIA_TYPES)

    def __init__(self, model: LiveModel) -> None:
        self.model = model
        signature = model.signature
        tail = f'],"model":{_json(model.name)},"version":{_json(model.version)},"id":"{PREFIX}-'
        self._tail = tail.encode()
        # The whole reply to one row, except for the id: most replies are one of these.
        self._one = [b'{"prediction":[' + _encode(label) + self._tail for label in signature.classes]
        width = len(signature.columns)
        if signature.pictures and width == 1:
            self.content_types = (*self.content_types, *MEDIA_TYPES)
        self._hot = _hot_decoder(rows_of(width)) if signature.numeric else None
        self._rest = _hot_decoder(StandIn)
        self._blocks = Blocks(width, dtype=signature.dtype)
        self._pack = packer(signature.width)

    def read(self, body: bytes, head: Head) -> Query:
        """See `Endpoint`."""
        hot = self._hot
        if hot is not None and head.content_type[:16] in _JSON_TYPES:
            # Numbers by position and nothing else: decoded and checked in one pass of C. A body that is
            # refused here is decoded again below, where the error is named.
            if len(body) >= LARGE_BODY_BYTES:
                return self._read_large(body, head)
            try:
                rows = hot(body).features
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return self._parsed(body, head)
            n = len(rows)
            self.model.check_rows(n)
            pack = self._pack  # called as an attribute, Python 3.11 would look it up anew each time
            return Query(pack(rows), n)
        return self._parsed(body, head)

    def _parsed(self, body: bytes, head: Head, *, explain: bool = False) -> Query:
        """A body in any form that the route reads."""
        if head.content_type.strip().lower().startswith(b"image/"):
            request = {"features": [[base64.b64encode(body).decode()]]}
            return parse_request(request, self.model, explain=explain)
        if not files.is_file(head):
            return parse(body, self.model, explain=explain)
        found = files.read(body, head, self.model)
        query = parse_request(found.request, self.model, explain=explain, places=found.places)
        return _with_csv(query) if prefers(head, files.CSV.encode()) else query

    def _read_large(self, body: bytes, head: Head) -> Query:
        found = None if files.is_file(head) else self._blocks.read(body, self._rest)
        if found is None:
            return self._parsed(body, head)
        rows = found[0]
        self.model.check_rows(len(rows))
        return Query(rows, len(rows))

    def answer(self, query: Query, scores: Scores, first: int) -> Reply:
        """See `Endpoint`."""
        if not query.plain:
            return self._answer_options(query, scores, first)
        n = query.n
        if n == 1 and self._one:
            one = self._one[scores.chosen[first]]
            return Reply(200, JSON, b'%s%x-%s"}' % (one, now() + SINCE_EPOCH, next_secret()))
        predictions = _encode(scores.labels(first, first + n))[:-1]
        made = now() + SINCE_EPOCH, next_secret()
        return Reply(200, JSON, b'{"prediction":%s%s%x-%s"}' % (predictions, self._tail, *made))

    def _answer_options(self, query: Query, scores: Scores, first: int) -> Reply:
        signature = self.model.signature
        values = scores.shown[first : first + query.n]
        predictions: Any = scores.labels(first, first + query.n, query.threshold)
        if query.csv:
            return self._in_csv(query, predictions, values)
        answer = {"prediction": predictions[0] if query.scalar else predictions}
        if query.probabilities:
            chances = probabilities(signature, values).tolist()
            answer["probabilities"] = chances[0] if query.scalar else chances
            answer["classes"] = list(signature.classes)
        if query.explain is not None:
            assert isinstance(scores, ExplainedScores)  # noqa: S101 - the explainer's
            answer["explanations"] = explanations(self.model, query, scores)
        if query.interval is not None:
            answer |= _how_sure(query, query.interval, scores, first)
        if query.warnings is not None:
            answer["warnings"] = [each._asdict() for each in query.warnings.found]
            answer["warnings_left_out"] = query.warnings.left_out
        answer |= {
            "model": self.model.name,
            "version": self.model.version,
            "id": new_id(),
        }
        return Reply(200, JSON, _encode(answer))

    def _in_csv(self, query: Query, predictions: list[Any], values: NDArray[np.float64]) -> Reply:
        """One line for each row: the prediction or the numbers of "scores", and the probabilities."""
        signature = self.model.signature
        columns: dict[str, Any] = {"prediction": predictions}
        if signature.numbers:
            columns = {name: [row[name] for row in predictions] for name in signature.numbers}
        if query.probabilities:
            chances = probabilities(signature, values).T.tolist()
            names = [f"probability_{label}" for label in signature.classes]
            columns |= dict(zip(names, chances, strict=True))
        headers = ((b"x-model-version", self.model.version.encode()),)
        return Reply(200, files.CSV.encode(), files.csv_of(columns), headers)

    def refuse(self, problem: Problem) -> Reply:
        """See `Endpoint`."""
        return problem_reply(problem)


def _with_csv(query: Query) -> Query:
    """A query whose answer is CSV, which can only hold predictions and probabilities."""
    wanted = {"explain": query.explain, "interval": query.interval, "warnings": query.warnings}
    for option, value in wanted.items():
        if value is not None:
            raise bad_option(option, "a reply in CSV has no place for it; send Accept: application/json")
    return msgspec.structs.replace(query, plain=False, csv=True)


def _how_sure(query: Query, interval: Interval, scores: Scores, first: int) -> dict[str, Any]:
    """The keys of the reply that the option `interval` adds."""
    signature, rows = scores.signature, slice(first, first + query.n)
    key = "sets" if signature.classes else "intervals"
    if not signature.classes:
        found: list[Any] = calibration.intervals(scores.values[rows], interval.within)
    elif not scores.rounding:
        found = calibration.sets(signature, scores.values[rows], interval.within)
    else:  # a set keeps its promise if it takes every class that rounding may have brought below it
        values = scores.shown[rows].copy()
        values[np.arange(query.n), scores.chosen[rows]] += TIE  # of equal ones, the predicted class is first
        found = calibration.sets(signature, values, interval.within + scores.rounding)
    return {key: found[0] if query.scalar else found, "level": interval.level}


class ExplainEndpoint(PredictEndpoint):
    """`/explain` of one model: `/predict` whose rows are always explained, as JSON or as a picture."""

    name = "explain"

    def read(self, body: bytes, head: Head) -> Query:
        """See `Endpoint`."""
        query = self._parsed(body, head, explain=True)
        if not prefers(head, picture.SVG):
            return query
        if query.n > 1:
            raise Problem(
                422,
                f"A picture explains one row, and the request has {query.n}. Send one row, or "
                "Accept: application/json.",
            )
        return msgspec.structs.replace(query, picture=True)

    def answer(self, query: Query, scores: Scores, first: int) -> Reply:
        """See `Endpoint`."""
        if not query.picture:
            return super().answer(query, scores, first)
        assert isinstance(scores, ExplainedScores)  # noqa: S101 - the explainer's
        assert query.explain is not None  # noqa: S101 - see `read`
        made = explanations(self.model, query, scores)[0]
        drawn = picture.of(made, self.model.signature.target, log_odds=query.explain.log_odds)
        return Reply(200, picture.SVG, drawn.encode())


def parse(body: bytes, model: LiveModel, *, explain: bool = False) -> Query:
    """Any body of `/predict` to encoded rows.

    Parameters
    ----------
    explain
        Whether the rows are explained without the option `explain`.

    Raises
    ------
    Problem
        400 for a body that is not JSON, 413 for too many rows, 422 for rows that the signature refuses.
    """
    return parse_request(decode(body), model, explain=explain)


def parse_request(
    request: Any, model: LiveModel, *, explain: bool = False, places: Sequence[str] | None = None
) -> Query:
    """A decoded body of `/predict` to encoded rows; otherwise as `parse`.

    Parameters
    ----------
    places
        The names of the rows in errors, if the rows come from a file.
    """
    frame = frame_of(request, model, FORMS)
    if frame is not None:
        request = {frame.form: frame.rows}
    if not isinstance(request, dict):
        raise Problem(422, f"Expected a JSON object with one of {one_of(FORMS)}, got {described(request)}.")
    signature = model.signature
    one = signature.columns[0].name if len(signature.columns) == 1 else None
    # A lone column that has the name of an option stays the column, as before the option existed.
    options = (*OPTIONS, *(option for option in (*EXPLAIN_OPTIONS, *SURE_OPTIONS) if option != one))
    given = [key for key in request if key not in options]
    forms = [key for key in given if key in FORMS]
    scalars = [key for key in given if one is not None and key in ("x", one) and key not in FORMS]
    lone = list(dict.fromkeys(("x", one))) if one is not None else []
    known = [*FORMS, *options, *lone]
    for key in given:
        if key not in forms and key not in scalars:
            instead = hint(key, known, f"one of {one_of(FORMS)}")
            raise bad_option(key[:100], f"unknown key; {instead}", fault=None)
    if len(forms) + len(scalars) != 1:
        got = " and ".join(map(repr, forms + scalars)) or "none of them"
        raise Problem(422, f"Expected exactly one of {one_of([*FORMS, *lone])}, got {got}.")
    probabilities = probabilities_of(request.get("probabilities"), model)
    threshold = threshold_of(request.get("threshold"), model)
    wanted = explain_of(
        {option: request.get(option) for option in EXPLAIN_OPTIONS if option in options},
        model,
        threshold,
        explain,
    )
    interval = interval_of(request.get("interval"), model) if "interval" in options else None
    warn = "warnings" in options and flag_of("warnings", request.get("warnings"))
    try:
        matrix = _matrix(request[scalars[0]] if scalars else None, forms, request, model)
    except BadRows as error:
        raise (bad_rows(error) if places is None else files.named(error, places)) from None
    if wanted is not None:
        model.explainer.check(len(matrix))
    query = with_options(
        matrix, probabilities=probabilities, threshold=threshold, scalar=bool(scalars), explain=wanted
    )
    if interval is None and not warn:
        return query
    warnings = None
    if warn:
        cell = _cell_of(request, forms[0] if forms else scalars[0], model.signature)
        warnings = Warnings(*warned(model, matrix, cell))
    return msgspec.structs.replace(query, plain=False, interval=interval, warnings=warnings)


def _cell_of(request: dict[str, Any], form: str, signature: Signature) -> Callable[[int, str], Any]:
    """A function that gives the cell of a row and a column of a valid request as it was sent."""
    rows = request[form]
    if form == "features":
        places = {name: i for i, name in enumerate(signature.names)}
        return lambda row, name: rows[row][places[name]]
    if form == "records":
        return lambda row, name: rows[row].get(name)
    if form == "columns":
        return lambda row, name: rows[name][row] if name in rows else None
    return lambda _row, _name: rows


def _matrix(value: object, forms: list[str], request: dict[str, Any], model: LiveModel) -> NDArray[Any]:
    if not forms:
        return model.encoder.rows([[value]])
    form = forms[0]
    rows = request[form]
    if form == "columns":
        if not isinstance(rows, Mapping):
            raise bad_option(form, f"expected an object of columns, got {described(rows)}")
        model.check_rows(max((len(cells) for cells in rows.values() if isinstance(cells, list)), default=0))
        return model.encoder.columns(rows)
    if not isinstance(rows, list):
        raise bad_option(form, f"expected a list of rows, got {described(rows)}")
    model.check_rows(len(rows))
    return model.encoder.rows(rows) if form == "features" else model.encoder.records(rows)


def _hot_decoder(rows: Any) -> Callable[[bytes], Any]:
    """Decoder of `{"features": rows}` and nothing else."""
    hot = msgspec.defstruct("Hot", [("features", rows)], forbid_unknown_fields=True)
    return msgspec.json.Decoder(hot).decode


def _json(text: str) -> str:
    return _encode(text).decode()
