"""BentoML's own API `score`: rows of the default model by position, predictions as a list.

It is answered like every other prediction. BentoML's dispatcher had an unbounded queue and no deadlines, and
it went on scoring for clients that had left (docs/decisions/0011).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from artifact.encode import BadRows
from serving.errors import Problem, bad_rows
from serving.protocols import Described, Reply, problem_reply
from serving.protocols.json_body import decode
from serving.protocols.openapi import HEADERS, PROBLEMS, prediction, problem, request
from serving.protocols.options import Query
from serving.protocols.tensors_only import endpoint_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from serving.protocols import Endpoint, Head
    from serving.scoring.catalog import Catalog, LiveModel
    from serving.scoring.scores import Scores

JSON = b"application/json"
ROUTE = "/score"
VERSION_HEADER = b"x-model-version"

_encode = msgspec.json.encode


class ScoreEndpoint:
    """`/score` of one model."""

    name: str = "score"
    content_types: tuple[str, ...] = ("application/json",)

    def __init__(self, model: LiveModel) -> None:
        self.model = model
        self._headers = ((VERSION_HEADER, model.version.encode()),)  # BentoML's clients take a list alone

    def read(self, body: bytes, head: Head) -> Query:  # noqa: ARG002 - other protocols look at headers
        """See `Endpoint`."""
        found = decode(body)
        rows = found.get("rows") if isinstance(found, dict) else None
        if not isinstance(found, dict) or not isinstance(rows, list) or len(found) != 1:
            raise Problem(422, 'Expected {"rows": [[...], ...]}, each row by position.')
        self.model.check_rows(len(rows))
        try:
            return Query(self.model.encoder.rows(rows), len(rows))
        except BadRows as error:
            raise bad_rows(error) from None

    def answer(self, query: Query, scores: Scores, first: int) -> Reply:
        """See `Endpoint`."""
        return Reply(200, JSON, _encode(scores.labels(first, first + query.n)), self._headers)

    def refuse(self, problem: Problem) -> Reply:
        """See `Endpoint`."""
        return problem_reply(problem)


class Score:
    """See `serving.protocols.Protocol`."""

    name = "score"

    def endpoints(self, catalog: Catalog) -> Mapping[str, Endpoint]:
        """The default model's."""
        model = catalog.live.get(catalog.default)
        return {ROUTE: endpoint_of(ScoreEndpoint, model, problem_reply)} if model is not None else {}

    def pages(self, catalog: Catalog) -> Mapping[str, Callable[[], Reply]]:  # noqa: ARG002 - it has none
        """It has none."""
        return {}

    def owns(self, path: str) -> bool:
        """Its route."""
        return path == ROUTE

    def refuse(self, problem: Problem) -> Reply:
        """As `application/problem+json`."""
        return problem_reply(problem)

    def refused(self, path: str, catalog: Catalog) -> str:
        """The default model, if it is refused or unloaded."""
        return catalog.default if path == ROUTE and catalog.not_served(catalog.default) else ""

    def not_found(self, path: str, catalog: Catalog) -> Problem | None:  # noqa: ARG002 - the gateway's problem is enough
        """Nothing more than the gateway's own problem."""
        return None

    def document(self, catalog: Catalog) -> Described:
        """Its route."""
        model = catalog.of_rows.get(catalog.default)
        return Described({} if model is None else {ROUTE: {"post": _operation(model)}}, {})


def _operation(model: LiveModel) -> dict[str, Any]:
    signature = model.signature
    forms = (form["properties"] for form in request(model)["oneOf"])
    rows = next(form["features"] for form in forms if "features" in form)
    body = {
        "type": "object",
        "properties": {"rows": rows},
        "required": ["rows"],
        "additionalProperties": False,
    }
    example = {"value": {"rows": [list(signature.example.values())]}}
    label = prediction(signature)
    return {
        "operationId": "score",
        "summary": f"What BentoML's clients call: predict {signature.target} with {model.name}.",
        "parameters": HEADERS,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body, "examples": {"rows": example}}},
        },
        "responses": {
            "200": {
                "description": "The predictions, in the order of the rows.",
                "headers": {
                    "X-Model-Version": {
                        "description": "The version that answered.",
                        "schema": {"type": "string"},
                    }
                },
                "content": {"application/json": {"schema": {"type": "array", "items": label}}},
            },
            **{str(status): problem(status) for status in PROBLEMS},
        },
    }
