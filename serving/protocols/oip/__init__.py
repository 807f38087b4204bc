"""Open Inference Protocol v2 over REST: tensors in JSON, or in binary behind a JSON header.

The rules of the protocol are the KServe project's, those of binary tensors Triton's (its extension
`binary_tensor_data`). A request is one tensor of shape (rows, columns), or one tensor a column.
docs/protocols.md has what a client needs to know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from artifact import __version__
from serving.errors import Problem
from serving.protocols import Reply, unknown_version
from serving.protocols.oip import document
from serving.protocols.oip.endpoint import JSON, InferEndpoint, refusal
from serving.protocols.oip.metadata import metadata
from serving.protocols.oip.tensor_endpoint import TensorEndpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from serving.protocols import Described, Endpoint
    from serving.scoring.catalog import Catalog, LiveModel

ROOT = "/v2"
SERVER = "okamochi"
EXTENSIONS = ("binary_tensor_data", "model_repository")

_encode = msgspec.json.encode


class OpenInference:
    """See `serving.protocols.Protocol`."""

    name = "v2"

    def endpoints(self, catalog: Catalog) -> Mapping[str, Endpoint]:
        """Of each live model, and of its version."""
        routes: dict[str, Endpoint] = {}
        for model in catalog.live.values():
            tensors = model.signature.tensors is not None
            endpoint: Endpoint = TensorEndpoint(model) if tensors else InferEndpoint(model)
            routes.update({f"{path}/infer": endpoint for path in _paths(model)})
        return routes

    def pages(self, catalog: Catalog) -> Mapping[str, Callable[[], Reply]]:
        """Server, health and metadata."""

        def ready() -> Reply:
            status, reason = (200, "") if catalog.ready else (503, "not_ready")
            return Reply(status, JSON, _encode({"ready": catalog.ready}), reason=reason)

        server = {"name": SERVER, "version": __version__, "extensions": EXTENSIONS}
        found = {
            ROOT: _page(server),
            f"{ROOT}/health/live": _page({"live": True}),
            f"{ROOT}/health/ready": ready,
        }
        for model in catalog.live.values():
            for path in _paths(model):
                found[path] = _page(metadata(model))
                found[f"{path}/ready"] = _page({"name": model.name, "ready": True})
        return found

    def owns(self, path: str) -> bool:
        """All below `/v2`."""
        return path == ROOT or path.startswith(f"{ROOT}/")

    def refuse(self, problem: Problem) -> Reply:
        """The whole problem in one text."""
        return refusal(problem)

    def refused(self, path: str, catalog: Catalog) -> str:  # noqa: ARG002 - see `not_found`
        """None: a refused model has no version, so its paths are unknown; `not_found` has the reason."""
        return ""

    def not_found(self, path: str, catalog: Catalog) -> Problem | None:
        """404, or 503 for a refused model."""
        if not self.owns(path):
            return None
        parts = path.split("/")
        if path.startswith(f"{ROOT}/models/") and parts[3]:
            try:
                model = catalog.model(parts[3][:100])
            except Problem as problem:
                return problem
            if len(parts) > 5 and parts[4] == "versions" and parts[5] not in catalog.versions(model.name):
                return unknown_version(catalog, model.name, parts[5])
        return Problem(
            404, f"Unknown path {path[:200]!r}; the supported extensions are {' and '.join(EXTENSIONS)}."
        )

    def document(self, catalog: Catalog) -> Described:
        """Its pages, and one operation for each route."""
        return document.of(catalog, ROOT, _paths)


def _page(content: object) -> Callable[[], Reply]:
    reply = Reply(200, JSON, _encode(content))
    return lambda: reply


def _paths(model: LiveModel) -> tuple[str, str]:
    path = f"{ROOT}/models/{model.name}"
    return path, f"{path}/versions/{model.version}"
