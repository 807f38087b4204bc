"""`/rank`: the best items for users, by a model whose use case has the table [rank]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.errors import Problem
from serving.protocols import problem_reply, unknown_version
from serving.protocols.model_routes import named_by, refused, routes_of
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
        """The routes of each live model that ranks, and of its version; one is without a name."""
        routes: dict[str, Endpoint] = {}
        for name, model in catalog.live.items():
            if model.ranked is not None:
                routes |= dict.fromkeys(routes_of(VERB, name, catalog), RankEndpoint(model.ranked))
        return routes

    def pages(self, catalog: Catalog) -> Mapping[str, Callable[[], Reply]]:  # noqa: ARG002 - it has none
        """It has none."""
        return {}

    def owns(self, path: str) -> bool:
        """Its routes."""
        return named_by(path, (VERB,)) is not None

    def refuse(self, problem: Problem) -> Reply:
        """As `application/problem+json`."""
        return problem_reply(problem)

    def refused(self, path: str, catalog: Catalog) -> str:
        """The model of the path, if it is refused or unloaded."""
        return refused(path, catalog, (VERB,))

    def not_found(self, path: str, catalog: Catalog) -> Problem | None:
        """404 for a model that does not rank, and for an unknown version of one that does."""
        named = named_by(path, (VERB,))
        model = None if named is None else catalog.live.get(named[0] or catalog.default)
        if named is None or model is None:
            return None
        name, version = named
        if version and version not in catalog.versions(name):
            return unknown_version(catalog, name, version)
        return Problem(
            404, f"Model {model.name!r} ranks no items: its use case has no table [rank].", reason="not_found"
        )

    def document(self, catalog: Catalog) -> Described:
        """One operation for each route."""
        return document.of(catalog, VERB)
