"""`POST /v1/models/{name}:predict` and `:explain` of one model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from artifact.encode import BadRows
from serving.errors import Problem, bad_rows
from serving.protocols import LARGE_BODY_BYTES, Reply
from serving.protocols.json_body import decode
from serving.protocols.mlflow import usual
from serving.protocols.mlflow.frames import rows_of_form
from serving.protocols.oip.endpoint import refusal
from serving.protocols.oip.tensors import parameters_of
from serving.protocols.options import (
    OPTIONS,
    Query,
    explain_of,
    probabilities_of,
    threshold_of,
    with_options,
)
from serving.protocols.predict.explanation import explanations
from serving.protocols.wording import described, hint, short
from serving.scoring.batcher import packer
from serving.scoring.explain import ExplainedScores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving.protocols import Head
    from serving.scoring.catalog import LiveModel
    from serving.scoring.scores import Scores

JSON = b"application/json"
ROWS = "instances"
KEYS = (ROWS, "parameters", "signature_name")
"""`parameters` are Vertex AI's, whose containers have the same bodies; `signature_name` is TensorFlow's."""

_encode = msgspec.json.encode


class PredictEndpoint:
    """`:predict` of one model."""

    name: str = "v1_predict"
    content_types: tuple[str, ...] = ("application/json",)
    options: tuple[str, ...] = OPTIONS

    def __init__(self, model: LiveModel) -> None:
        self.model = model
        self._tail = b',"version":%s}' % _encode(model.version)
        form = ROWS.encode()
        self._hot = usual.readers(model.signature).get(form)
        self._large = usual.large_readers(model.signature).get(form)
        self._pack = packer(model.signature.width)

    def read(self, body: bytes, head: Head) -> Query:  # noqa: ARG002 - other protocols look at headers
        """See `Endpoint`."""
        # Whole rows of numbers and nothing else: decoded and checked in one pass of C. A body that is refused
        # here is decoded again below, where the error is named.
        if self._large is not None and len(body) >= LARGE_BODY_BYTES:
            matrix = self._large(body)
            if matrix is not None:
                self.model.check_rows(len(matrix))
                return Query(matrix, len(matrix))
        rows = self._hot(body) if self._hot is not None else None
        if rows is None:
            return parse(body, self.model, self.options)
        self.model.check_rows(len(rows))
        return Query(self._pack(rows), len(rows))

    def answer(self, query: Query, scores: Scores, first: int) -> Reply:
        """See `Endpoint`."""
        return Reply(
            200, JSON, b'{"predictions":%s%s' % (self._predictions(query, scores, first), self._tail)
        )

    def _predictions(self, query: Query, scores: Scores, first: int) -> bytes:
        stop = first + query.n
        if query.plain:
            return _encode(scores.labels(first, stop))
        if not query.probabilities:
            return _encode(scores.labels(first, stop, query.threshold))
        return _encode(scores.by_class(first, stop))

    def refuse(self, problem: Problem) -> Reply:
        """See `Endpoint`."""
        return refusal(problem)


class ExplainEndpoint(PredictEndpoint):
    """`:explain` of one model."""

    name = "v1_explain"
    options = (*OPTIONS, "class", "log_odds")

    def read(self, body: bytes, head: Head) -> Query:  # noqa: ARG002 - other protocols look at headers
        """See `Endpoint`."""
        return parse(body, self.model, self.options, explain=True)

    def answer(self, query: Query, scores: Scores, first: int) -> Reply:
        """See `Endpoint`."""
        assert isinstance(scores, ExplainedScores)  # noqa: S101 - the explainer's
        made = _encode(explanations(self.model, query, scores))
        found = self._predictions(query, scores, first)
        return Reply(200, JSON, b'{"predictions":%s,"explanations":%s%s' % (found, made, self._tail))


def parse(body: bytes, model: LiveModel, options: Sequence[str], *, explain: bool = False) -> Query:
    """Any body to encoded rows.

    Raises
    ------
    Problem
        400 for a body that is not JSON or not of the protocol, 413 for too many rows, 422 for rows that the
        signature refuses.
    """
    request = decode(body, literals=True)  # Python's json writes NaN for a missing number
    if not isinstance(request, dict):
        raise Problem(422, f'Expected a JSON object with "{ROWS}", got {described(request)}.')
    for key in request:
        if key not in KEYS:
            instead = 'belongs into "parameters"' if key in options else hint(key, KEYS)
            raise Problem(422, f"Unknown key {short(key)}; {instead}.")
    given = parameters_of(request, "the request")
    for key in given:
        if key not in options:
            raise Problem(422, f"parameters: unknown key {short(key)}; {hint(key, options)}.")
    instances = request.get(ROWS)
    if not isinstance(instances, list):
        raise Problem(422, f'"{ROWS}": expected a list of rows, got {described(instances)}.')
    threshold = threshold_of(given.get("threshold"), model)
    chances = probabilities_of(given.get("probabilities"), model)
    wanted = explain_of(given, model, threshold, always=True) if explain else None
    try:
        matrix = rows_of_form(ROWS, instances, model)
    except BadRows as error:
        raise bad_rows(error) from None
    if wanted is not None:
        model.explainer.check(len(matrix))
    return with_options(matrix, probabilities=chances, threshold=threshold, explain=wanted)


def example(model: LiveModel) -> dict[str, Any]:
    """A body that works when pasted, made of medians and modes."""
    return {ROWS: [model.signature.example]}
