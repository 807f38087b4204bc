"""The artifact of a use case's champion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from artifact import manifest
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION

if TYPE_CHECKING:
    from pathlib import Path


def champion(name: str, url: str, folder: Path) -> manifest.Artifact:
    """It is downloaded into `folder` and opened."""
    registry = Registry(url)
    found = registry.version(name, CHAMPION)
    assert found is not None
    return manifest.load(registry.download(found, folder))
