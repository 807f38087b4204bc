"""A gateway that follows a models.lock, over copies of artifacts that a test may damage."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from artifact import signing
from artifact.manifest import ArtifactError
from artifact.models_lock import CHAMPION
from serving import declared
from serving.http.gateway import Gateway
from serving.scoring import catalog, watch
from serving.scoring.repository import Repository
from serving.scoring.watch import Watch
from serving.settings import Settings
from serving.shared import Shared
from tests.serving import artifacts
from tests.serving.conftest import ask, elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.serving.conftest import Answer


@dataclass
class Store:
    """Artifacts by tag in place of BentoML's store, with their versions."""

    folders: dict[str, Path] = field(default_factory=dict)
    located: list[str] = field(default_factory=list)

    def locate(self, tag: str) -> tuple[Path, dict[str, Any]]:
        self.located.append(tag)
        if tag not in self.folders:
            raise ArtifactError(f"BentoML's model store has no {tag}")
        return self.folders[tag], {"version": tag.rpartition(":")[2]}

    def tags_of(self, name: str) -> list[str]:
        return [tag for tag in self.folders if tag.startswith(f"{name}:")]

    def stamp(self, tag: str) -> object:
        folder = self.folders.get(tag)
        files = sorted([*folder.rglob("*"), *folder.parent.glob(signing.SIGNED)]) if folder else []
        return [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files]


@dataclass
class Running:
    """A gateway and its watch, whose looks the test makes."""

    store: Store
    lock: Path
    gateway: Gateway
    watch: Watch

    def look(self, content: str | None = None) -> None:
        if content is not None:
            self.lock.write_text(content)
        self.watch.look()

    def get(self, path: str) -> Answer:
        return asyncio.run(ask(self.gateway, "GET", path))

    def post(self, path: str, body: bytes = b'{"x": 10}') -> Answer:
        return asyncio.run(ask(self.gateway, "POST", path, body))

    def says(self) -> tuple[float, str]:
        """The prediction for 10 and its version."""
        found = self.post("/predict").json()
        return round(found["prediction"], 6), found["version"]

    @property
    def not_live(self) -> list[dict[str, Any]]:
        return list(self.get("/models").json()["not_live"])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Versions of `linear` that answer their version times x, by tag, and one of iris."""
    folder = tmp_path_factory.mktemp("versions")
    found = {f"linear:{v}": artifacts.linear(folder / str(v), slope=v).path for v in (1, 2, 3)}
    return found | {"iris:1": artifacts.iris(folder / "iris").path}


@pytest.fixture
def run(
    kept: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Running]]:
    """A server of what models.lock names first, of copies that a test may damage."""
    monkeypatch.setattr(watch, "SETTLE_S", 0.0)
    started: list[Running] = []

    def start(content: str = "linear linear:1\n", **options: Any) -> Running:
        settings = Settings(**options)
        copies = {tag: shutil.copytree(path, tmp_path / tag / "artifact") for tag, path in kept.items()}
        store = Store({tag: Path(copy) for tag, copy in copies.items()})
        for tag, copy in store.folders.items() if signing.configured() else ():
            name, _, version = tag.partition(":")
            (copy.parent / signing.SIGNED).write_text(signing.sign(copy, name=name, version=version))
        lock = tmp_path / "models.lock"
        lock.write_text(content)
        read = partial(declared.read, lock, settings.models)
        first = read()
        models = catalog.load(
            [entry[:2] for entry in first if entry.role == CHAMPION],
            store.locate,
            settings,
            [entry for entry in first if entry.role != CHAMPION],
        )
        shared = Shared()
        gateway = Gateway(elsewhere, models, settings, shared=shared)

        looking = Watch(
            lock,
            read=read,
            declared=first,
            locate=store.locate,
            stamp=store.stamp,
            current=lambda: gateway.catalog,
            publish=gateway.publish,
            settings=settings,
            shared=shared,
        )
        gateway.repository = Repository(looking, shared, lambda: gateway.catalog, store.tags_of)
        started.append(Running(store, lock, gateway, looking))
        return started[-1]

    yield start
    for running in started:
        running.watch.close()
        running.gateway._roles.close()
        running.gateway.catalog.close()
