"""MLflow's scoring protocol, as `mlflow models serve` implements it, for the default model.

docs/protocols.md has the differences and the reasons; a test compares both servers. MLflow itself is not
imported: its own server builds a data frame for each request, which takes 2 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.errors import Problem
from serving.protocols import Reply
from serving.protocols.mlflow import document
from serving.protocols.mlflow.endpoint import JSON, InvocationsEndpoint, refusal
from serving.protocols.tensors_only import endpoint_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from serving.protocols import Described, Endpoint
    from serving.scoring.catalog import Catalog

ROUTE = "/invocations"
PAGES = ("/ping", "/health", "/version")
VERSION = "3.17.2"
"""The MLflow version of this protocol: `/version` for a model without a version of its own."""


class MLflow:
    """See `serving.protocols.Protocol`."""

    name = "mlflow"

    def endpoints(self, catalog: Catalog) -> Mapping[str, Endpoint]:
        """The default model's."""
        model = catalog.live.get(catalog.default)
        return {} if model is None else {ROUTE: endpoint_of(InvocationsEndpoint, model, refusal)}

    def pages(self, catalog: Catalog) -> Mapping[str, Callable[[], Reply]]:
        """Readiness of the default model, and its MLflow version."""
        model = catalog.live.get(catalog.default)

        def ping() -> Reply:
            if model is None:
                reason = catalog.refused.get(catalog.default, "no model is live")
                raise Problem(503, f"Not ready: {reason}", error=reason, model=catalog.default)
            return Reply(200, JSON, b"\n")

        said = "" if model is None else model.artifact.manifest.libraries.get("mlflow", "")
        version = Reply(200, JSON, (said or VERSION).encode())
        return dict(zip(PAGES, (ping, ping, lambda: version), strict=True))

    def owns(self, path: str) -> bool:
        """Its route and its pages."""
        return path == ROUTE or path in PAGES

    def refuse(self, problem: Problem) -> Reply:
        """In MLflow's shape, with the places beside it in `errors`."""
        return refusal(problem)

    def refused(self, path: str, catalog: Catalog) -> str:
        """The default model, if it is refused or unloaded."""
        return catalog.default if path == ROUTE and catalog.not_served(catalog.default) else ""

    def not_found(self, path: str, catalog: Catalog) -> Problem | None:  # noqa: ARG002 - the gateway's problem is enough
        """Nothing more than the gateway's own problem."""
        return None

    def document(self, catalog: Catalog) -> Described:
        """Its route and its pages."""
        return document.of(catalog, ROUTE, PAGES)
