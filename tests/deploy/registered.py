"""A registry in which an artifact is a champion without a training, and its versions by their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from artifact import manifest
from artifact.manifest import MANIFEST
from training.registry.records import CHAMPION

if TYPE_CHECKING:
    from tests.serving.artifacts import Made
    from training.registry.mlflow_registry import Registry
    from training.registry.records import Version


def crown(registry: Registry, made: Made, name: str) -> None:
    """Register an artifact under the run that made it and make it the champion."""
    run = registry.start(name, f"{name} run", {})
    sealed = msgspec.json.decode((made.path / MANIFEST).read_bytes())["manifest"]
    signature, golden = manifest.load(made.path).signature, manifest.load(made.path).golden()
    for key in ("files", "format"):
        sealed.pop(key)
    manifest.write(made.path, signature=signature, golden=golden, **{**sealed, "run_id": run})
    version = registry.register(manifest.load(made.path), run, tags={}, metrics={}, description="", about="")
    registry.set_alias(name, CHAMPION, version)


def version_of(registry: Registry, number: str, name: str = "iris") -> Version:
    """A version that is there."""
    version = registry.numbered(name, number)
    assert version is not None
    return version


def promote(registry: Registry, number: str, name: str = "iris") -> None:
    """Set the alias alone, as a person does on MLflow's page."""
    registry.set_alias(name, CHAMPION, version_of(registry, number, name))
