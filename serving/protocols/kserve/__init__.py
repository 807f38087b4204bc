"""KServe's first protocol (`/v1`), which TensorFlow Serving has too: `instances` in, `predictions` out.

`instances` are read as those of MLflow's protocol, and refusals have the shape of `/v2`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from serving.errors import Problem
from serving.protocols import Reply
from serving.protocols.kserve import document
from serving.protocols.kserve.endpoint import JSON, ExplainEndpoint, PredictEndpoint
from serving.protocols.oip.endpoint import refusal
from serving.protocols.tensors_only import endpoint_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from serving.protocols import Described, Endpoint
    from serving.scoring.catalog import Catalog

ROOT = "/v1/models"
VERBS = {"predict": PredictEndpoint, "explain": ExplainEndpoint}


class KServe:
    """See `serving.protocols.Protocol`."""

    name = "v1"

    def endpoints(self, catalog: Catalog) -> Mapping[str, Endpoint]:
        """One route for each verb of each live model."""
        return {
            f"{ROOT}/{name}:{verb}": endpoint_of(kind, model, refusal)
            for name, model in catalog.live.items()
            for verb, kind in VERBS.items()
        }

    def pages(self, catalog: Catalog) -> Mapping[str, Callable[[], Reply]]:
        """The names of the models, and the readiness of each."""
        found = {ROOT: _page({"models": list(catalog.live)})}
        return found | {f"{ROOT}/{name}": _page({"name": name, "ready": True}) for name in catalog.live}

    def owns(self, path: str) -> bool:
        """All below `/v1`."""
        return path == "/v1" or path.startswith("/v1/")

    def refuse(self, problem: Problem) -> Reply:
        """The whole problem in one text."""
        return refusal(problem)

    def refused(self, path: str, catalog: Catalog) -> str:
        """The model of the path, if it is refused or unloaded."""
        name, _, verb = path.removeprefix(f"{ROOT}/").partition(":")
        return name if verb in VERBS and path.startswith(ROOT) and catalog.not_served(name) else ""

    def not_found(self, path: str, catalog: Catalog) -> Problem | None:
        """404, or 503 for a refused model."""
        if not self.owns(path):
            return None
        name, _, verb = path.removeprefix(f"{ROOT}/").partition(":")
        if path.startswith(f"{ROOT}/") and "/" not in name and (not verb or verb in VERBS):
            try:
                catalog.model(name[:100])
            except Problem as problem:
                return problem
        verbs = " and ".join(f"{ROOT}/NAME:{verb}" for verb in VERBS)
        return Problem(404, f"Unknown path {path[:200]!r}; expected {ROOT}, {ROOT}/NAME, {verbs}.")

    def document(self, catalog: Catalog) -> Described:
        """Its pages, and one operation for each route."""
        return document.of(catalog, ROOT, tuple(VERBS))


def _page(content: object) -> Callable[[], Reply]:
    reply = Reply(200, JSON, msgspec.json.encode(content))
    return lambda: reply
