"""A checkout's state with champions, and each test's own copy of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.deploy.registered import crown
from tests.kept import empty_registry
from tests.serving.artifacts import iris, linear
from training.registry.mlflow_registry import Registry


@pytest.fixture(scope="module")
def champions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a checkout in which `iris` and `linear` have a champion."""
    folder = tmp_path_factory.mktemp("champions")
    registry = Registry(empty_registry(folder / "state"))
    crown(registry, iris(folder / "iris"), "iris")
    crown(registry, linear(folder / "linear"), "linear")
    return folder / "state"


@pytest.fixture
def told() -> list[str]:
    """The sentences that a follower says."""
    return []


@pytest.fixture
def state(champions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own copy of it, which the registry is opened on by default."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("OKAMOCHI_STATE_DIR", str(tmp_path / "state"))
    return Path(shutil.copytree(champions, tmp_path / "state"))
