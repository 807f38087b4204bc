"""An endpoint whose answers pass through another function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from serving.errors import Problem
    from serving.protocols import Endpoint, Head, Reply
    from serving.scoring.catalog import LiveModel
    from serving.scoring.scores import Scores


class Watched:
    """See the module.

    Its functions are attributes instead of methods, so calling a wrapped function costs nothing more.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        answer: Callable[[Any, Scores, int], Reply],
        refuse: Callable[[Problem], Reply] | None = None,
    ) -> None:
        self.name: str = endpoint.name
        self.model: LiveModel = endpoint.model
        self.content_types: tuple[str, ...] = endpoint.content_types
        self.read: Callable[[bytes, Head], Any] = endpoint.read
        self.answer = answer
        self.refuse: Callable[[Problem], Reply] = refuse or endpoint.refuse


def each(endpoints: Mapping[str, Endpoint], wrap: Callable[[Endpoint], Endpoint]) -> dict[str, Endpoint]:
    """Endpoints by path, each wrapped once, however many paths it has."""
    wrapped: dict[int, Endpoint] = {}
    for endpoint in endpoints.values():
        if id(endpoint) not in wrapped:
            wrapped[id(endpoint)] = wrap(endpoint)
    return {path: wrapped[id(endpoint)] for path, endpoint in endpoints.items()}
