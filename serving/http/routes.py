"""The live models and routes: one immutable snapshot, which both lanes look up for each request.

One assignment replaces it (`live.routes = other`): a request ends with the snapshot that it began with, and
the next request uses the new one. Nothing else refers to a model outside a request, so the old one is freed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from serving.http.caller import FORWARDED_FOR, proxies
from serving.http.head import CANARY_KEY
from serving.http.heads import Heads
from serving.http.plain import PlainReader
from serving.protocols import LARGE_BODY_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from serving.observe.metrics import Observer
    from serving.protocols import Endpoint, Reply
    from serving.roles.canary import Split
    from serving.scoring.catalog import Catalog
    from serving.settings import Settings


@dataclass(frozen=True)
class Page:
    """A route of GET and HEAD, which is answered without reading a body."""

    endpoint: str
    answer: Callable[[], Reply | Awaitable[Reply]]


@dataclass(frozen=True)
class Routes:
    """All routes of the models of one catalog.

    Parameters
    ----------
    endpoints
        The prediction routes, by path.
    splits
        Those that a canary answers in part, by path.
    pages
        The routes of GET and HEAD, by path; their replies are prepared.
    heads
        The express lane's cache of heads; it is part of the snapshot because it refers to endpoints.
    """

    catalog: Catalog
    endpoints: Mapping[str, Endpoint]
    splits: Mapping[str, Split]
    pages: Mapping[str, Page]
    heads: Heads


class Live:
    """The one reference."""

    __slots__ = ("routes",)

    def __init__(self, routes: Routes) -> None:
        self.routes = routes

    def versions(self) -> dict[str, str]:
        """The version of each live model."""
        return {name: model.version for name, model in self.routes.catalog.live.items()}


def heads_of(
    endpoints: Mapping[str, Endpoint],
    splits: Mapping[str, Split],
    observe: Observer,
    settings: Settings,
) -> Heads:
    """An empty cache of heads; it stays empty if the express lane is turned off."""
    most = min(LARGE_BODY_BYTES - 1, settings.max_body_bytes)
    taken = {}
    if settings.express:
        # Bodies with pictures are decoded in a thread, so they go through the gateway.
        taken = {path: each for path, each in endpoints.items() if not each.model.signature.pictures}
    read = PlainReader(
        taken,
        observe,
        splits,
        max_head_bytes=settings.max_head_bytes,
        max_body_bytes=most,
        cors=bool(settings.cors_origins),
    )
    relevant = {*((CANARY_KEY,) if splits else ()), *((FORWARDED_FOR,) if proxies() is not None else ())}
    return Heads(read, most, relevant=frozenset(relevant))
