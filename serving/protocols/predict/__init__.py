"""`/predict`, the simplest protocol: rows as JSON, errors as problem details (RFC 9457)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.protocols import problem_reply, unknown_version
from serving.protocols.model_routes import named_by, refused, route_of, routes_of
from serving.protocols.predict import document
from serving.protocols.predict.endpoint import ExplainEndpoint, PredictEndpoint
from serving.protocols.tensors_only import endpoint_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from serving.errors import Problem
    from serving.protocols import Described, Endpoint, Reply
    from serving.scoring.catalog import Catalog

VERBS = {"predict": PredictEndpoint, "explain": ExplainEndpoint}
"""The last part of each route, and what answers it."""


class Predict:
    """See `serving.protocols.Protocol`."""

    name = "predict"

    def endpoints(self, catalog: Catalog) -> Mapping[str, Endpoint]:
        """For each verb the routes of each live model and version, and one without a name."""
        routes: dict[str, Endpoint] = {}
        for verb, kind in VERBS.items():
            for name, model in catalog.live.items():
                endpoint = endpoint_of(kind, model, problem_reply)
                routes |= dict.fromkeys(routes_of(verb, name, catalog), endpoint)
        return routes

    def pages(self, catalog: Catalog) -> Mapping[str, Callable[[], Reply]]:  # noqa: ARG002 - it has none
        """It has none."""
        return {}

    def owns(self, path: str) -> bool:
        """Its routes; paths of no protocol are refused in the same shape."""
        verb = path.rpartition("/")[2]
        return verb in VERBS and (path == route_of(verb) or path.startswith("/models/"))

    def refuse(self, problem: Problem) -> Reply:
        """As `application/problem+json`."""
        return problem_reply(problem)

    def refused(self, path: str, catalog: Catalog) -> str:
        """The model of the path, if it is refused or unloaded."""
        return refused(path, catalog, VERBS)

    def not_found(self, path: str, catalog: Catalog) -> Problem | None:
        """404 with the version that is live, for another one of a live model."""
        name, version = named_by(path, VERBS) or ("", "")
        return unknown_version(catalog, name, version) if name in catalog.live and version else None

    def document(self, catalog: Catalog) -> Described:
        """One operation for each route."""
        return document.of(catalog)
