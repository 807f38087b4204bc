"""`/rank`: the best items for users, of a model whose use case has [rank]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.errors import Problem
from serving.protocols import problem_reply, unknown_version
from serving.protocols.rank import document
from serving.protocols.rank.endpoint import RankEndpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from serving.protocols import Described, Endpoint, Reply
    from serving.scoring.catalog import Catalog

VERB = "rank"


class Rank:
    """See `serving.protocols.Protocol`."""

    name = VERB

    def endpoints(self, catalog: Catalog) -> Mapping[str, Endpoint]:
        """The routes of each live model that ranks, and of its version; one without a name."""
        routes: dict[str, Endpoint] = {}
        for name, model in catalog.live.items():
            if model.ranked is None:
                continue
            endpoint = RankEndpoint(model.ranked)
            routes[_route_of(name)] = routes[_route_of(name, model.version)] = endpoint
            if name == catalog.default:
                routes[_route_of()] = endpoint
        return routes

    def pages(self, catalog: Catalog) -> Mapping[str, Callable[[], Reply]]:  # noqa: ARG002 - it has none
        """It has none."""
        return {}

    def owns(self, path: str) -> bool:
        """Its routes."""
        name, version = _parts_of(path)
        return path == _route_of(name, version)

    def refuse(self, problem: Problem) -> Reply:
        """As `application/problem+json`."""
        return problem_reply(problem)

    def refused(self, path: str, catalog: Catalog) -> str:
        """The model of the path, if it was refused."""
        name, version = _parts_of(path)
        if path != _route_of(name, version):
            return ""
        name = name or catalog.default
        return name if catalog.not_served(name) else ""

    def not_found(self, path: str, catalog: Catalog) -> Problem | None:
        """404 for a model that does not rank, and for an unknown version of one that does."""
        name, version = _parts_of(path)
        model = catalog.live.get(name or catalog.default)
        if model is None or path != _route_of(name, version):
            return None
        if version and version not in catalog.versions(name):
            return unknown_version(catalog, name, version)
        return Problem(
            404, f"Model {model.name!r} ranks no items: its use case has no table [rank].", reason="not_found"
        )

    def document(self, catalog: Catalog) -> Described:
        """One operation for each route."""
        return document.of(catalog, _route_of)


def _parts_of(path: str) -> tuple[str, str]:
    """The model and the version that a route would name; "" for a part that it does not name."""
    parts = path.split("/")
    return parts[2] if len(parts) > 3 else "", parts[4] if len(parts) == 6 else ""


def _route_of(name: str = "", version: str = "") -> str:
    if not name:
        return f"/{VERB}"
    return f"/models/{name}/versions/{version}/{VERB}" if version else f"/models/{name}/{VERB}"
