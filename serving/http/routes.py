"""What is live: one immutable snapshot, which both lanes look up by one reference for each request.

To replace it is one assignment (`live.routes = other`): a request ends on the snapshot that it began with,
and the next one finds the other. Nothing else holds on to a model outside a request, so the old one can go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from serving.http.heads import Heads
from serving.http.plain import PlainReader
from serving.protocols import LARGE_BODY_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from serving.observe.metrics import Observer
    from serving.protocols import Endpoint, Reply
    from serving.scoring.catalog import Catalog
    from serving.settings import Settings


@dataclass(frozen=True)
class Page:
    """A route that is answered without a body being read: GET and HEAD."""

    endpoint: str
    answer: Callable[[], Reply | Awaitable[Reply]]


@dataclass(frozen=True)
class Routes:
    """Everything that is answered from the models of one catalog.

    Parameters
    ----------
    endpoints
        The prediction routes, by path.
    pages
        The routes of GET and HEAD, by path; what they say is prepared.
    heads
        What the express lane remembers of heads of requests, since that names an endpoint.
    """

    catalog: Catalog
    endpoints: Mapping[str, Endpoint]
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


def heads_of(endpoints: Mapping[str, Endpoint], observe: Observer, settings: Settings) -> Heads:
    """What the express lane remembers of heads: none yet, and none ever where it is turned off."""
    most = min(LARGE_BODY_BYTES - 1, settings.max_body_bytes)
    taken = endpoints if settings.express else {}
    read = PlainReader(taken, observe, max_head_bytes=settings.max_head_bytes, most_body_bytes=most)
    return Heads(read, most)
