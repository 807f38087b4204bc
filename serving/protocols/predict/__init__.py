"""`/predict`, the simplest protocol: rows as JSON, errors as problem details (RFC 9457)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.protocols import problem_reply, unknown_version
from serving.protocols.predict import document
from serving.protocols.predict.endpoint import PredictEndpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from serving.errors import Problem
    from serving.protocols import Described, Endpoint, Reply
    from serving.scoring.catalog import Catalog

ROUTE = "/predict"


class Predict:
    """See `serving.protocols.Protocol`."""

    name = "predict"

    def endpoints(self, catalog: Catalog) -> Mapping[str, Endpoint]:
        """Two routes for each live model, with and without its version, and the default model's own."""
        routes = {_route_of(name): PredictEndpoint(model) for name, model in catalog.live.items()}
        routes |= {
            _route_of(name, model.version): routes[_route_of(name)] for name, model in catalog.live.items()
        }
        if catalog.default in catalog.live:
            routes[ROUTE] = routes[_route_of(catalog.default)]
        return routes

    def pages(self, catalog: Catalog) -> Mapping[str, Callable[[], Reply]]:  # noqa: ARG002 - it has none
        """It has none."""
        return {}

    def owns(self, path: str) -> bool:
        """Its routes; paths of no protocol are refused in the same shape."""
        return path == ROUTE or (path.startswith("/models/") and path.endswith("/predict"))

    def refuse(self, problem: Problem) -> Reply:
        """As `application/problem+json`."""
        return problem_reply(problem)

    def refused(self, path: str, catalog: Catalog) -> str:
        """The model of the path, if it was refused."""
        if path == ROUTE:
            return catalog.default if catalog.default in catalog.refused else ""
        name, version = _parts_of(path)
        return name if name in catalog.refused and path == _route_of(name, version) else ""

    def not_found(self, path: str, catalog: Catalog) -> Problem | None:
        """404 with the version that is live, for another one of a live model."""
        name, version = _parts_of(path)
        model = catalog.live.get(name)
        if model is None or not version or path != _route_of(name, version):
            return None
        return unknown_version(model, version)

    def document(self, catalog: Catalog) -> Described:
        """One operation for each route."""
        return document.of(catalog, ROUTE, _route_of)


def _parts_of(path: str) -> tuple[str, str]:
    """The model and the version that a route would name; "" where it names none."""
    parts = path.split("/")
    return (parts[2] if len(parts) > 2 else "", parts[4] if len(parts) == 6 else "")


def _route_of(name: str, version: str = "") -> str:
    return f"/models/{name}/versions/{version}/predict" if version else f"/models/{name}/predict"
