"""BentoML's own API `score`: rows of the default model by position, predictions as a list.

It is answered like every other prediction. BentoML's dispatcher behind it had a queue without an end, knew no
deadline, and went on scoring for clients that had left (docs/decisions/0011).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from artifact.encode import BadRows
from serving.errors import Problem, bad_rows
from serving.protocols import Reply, problem_reply
from serving.protocols.json_body import decode
from serving.protocols.predict import Query

if TYPE_CHECKING:
    from serving.protocols import Endpoint, Head
    from serving.scoring.batcher import Scores
    from serving.scoring.catalog import Catalog, LiveModel

JSON = b"application/json"
_encode = msgspec.json.encode


class ScoreEndpoint:
    """`/score` of one model."""

    name: str = "score"
    content_types: tuple[str, ...] = ("application/json",)

    def __init__(self, model: LiveModel) -> None:
        self.model = model

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
        return Reply(200, JSON, _encode(scores.labels(first, first + query.n)))

    def refuse(self, problem: Problem) -> Reply:
        """See `Endpoint`."""
        return problem_reply(problem)


def endpoints(catalog: Catalog, path: str) -> dict[str, Endpoint]:
    """The one route, if the default model is live."""
    model = catalog.live.get(catalog.default)
    return {path: ScoreEndpoint(model)} if model is not None else {}
