"""The routes of rows for a model that takes tensors: each request is told which route serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from serving.errors import Problem
from serving.protocols import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.protocols import Head, Reply
    from serving.scoring.catalog import LiveModel
    from serving.scoring.scores import Scores


class TensorsOnly:
    """See `serving.protocols.Endpoint`; it refuses all.

    Parameters
    ----------
    name, content_types, refuse
        Of the protocol's endpoint of rows.
    """

    def __init__(
        self, model: LiveModel, name: str, content_types: tuple[str, ...], refuse: Callable[[Problem], Reply]
    ) -> None:
        self.model = model
        self.name = name
        self.content_types = content_types
        self.refuse = refuse

    def read(self, body: bytes, head: Head) -> NoReturn:  # noqa: ARG002 - whatever they are
        """See `Endpoint`."""
        path = f"/v2/models/{self.model.name}"
        raise Problem(
            422,
            f"{self.model.name!r} takes tensors, not rows of a table: send them to POST {path}/infer; "
            f"GET {path} has their names, datatypes and shapes.",
        )

    def answer(self, query: Any, scores: Scores, first: int) -> NoReturn:
        """Never called, since `read` refuses all."""
        raise NotImplementedError


class OfRows(Endpoint, Protocol):
    """A protocol's endpoint of rows."""

    def __init__(self, model: LiveModel) -> None:
        """Of one model."""


def endpoint_of(kind: type[OfRows], model: LiveModel, refuse: Callable[[Problem], Reply]) -> Endpoint:
    """The endpoint of rows, or for a model that takes tensors the one that refuses them.

    Parameters
    ----------
    refuse
        The protocol's form of a refusal.
    """
    if model.signature.tensors is None:
        return kind(model)
    return TensorsOnly(model, kind.name, kind.content_types, refuse)
