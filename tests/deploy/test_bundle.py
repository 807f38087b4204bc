"""From the registry's champion to an exact tag in models.lock."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import bentoml
import msgspec
import pytest

from artifact import manifest, store
from artifact.manifest import MANIFEST, ArtifactError
from deploy import bundle as deploy
from deploy.bundle import NoChampionError
from tests.servers import CHECKOUT, free_port
from tests.serving.artifacts import iris, linear
from training.registry.mlflow_registry import CHAMPION, Registry, RegistryError, peek

if TYPE_CHECKING:
    from tests.serving.artifacts import Made

pytestmark = pytest.mark.usefixtures("bentoml_home")


@pytest.fixture(scope="module")
def champions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a checkout in which `iris` and `linear` have a champion."""
    folder = tmp_path_factory.mktemp("champions")
    registry = Registry(f"sqlite:///{folder}/state/mlflow.db")
    crown(registry, iris(folder / "iris"), "iris")
    crown(registry, linear(folder / "linear"), "linear")
    return folder / "state"


@pytest.fixture
def state(champions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own copy of it, which the registry is opened on by default."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("OKAMOCHI_STATE_DIR", str(tmp_path / "state"))
    return Path(shutil.copytree(champions, tmp_path / "state"))


def crown(registry: Registry, made: Made, name: str) -> None:
    """Register an artifact under the run that made it and make it the champion."""
    run = registry.start(name, f"{name} run", {})
    sealed = msgspec.json.decode((made.path / MANIFEST).read_bytes())["manifest"]
    signature, golden = manifest.load(made.path).signature, manifest.load(made.path).golden()
    for key in ("files", "format"):
        sealed.pop(key)
    manifest.write(made.path, signature=signature, golden=golden, **{**sealed, "run_id": run})
    version = registry.register(manifest.load(made.path), run, tags={}, metrics={}, description="", about="")
    registry.point(name, CHAMPION, version)


@pytest.mark.usefixtures("state")
def test_champions_are_bundled_under_exact_tags(tmp_path: Path) -> None:
    """One line each, in the order asked for; what is stored is the artifact that was registered."""
    lock = tmp_path / "models.lock"

    bundled = deploy.bundle(["linear", "iris", "linear"], lock)

    assert [(model.name, model.version) for model in bundled] == [("linear", "1"), ("iris", "1")]
    assert lock.read_text() == "".join(f"{model.name} {model.tag}\n" for model in bundled)
    path, metadata = store.path_of(bundled[1].tag)
    champion = peek("iris", CHAMPION)
    assert champion is not None
    assert metadata["version"] == champion.number
    assert manifest.load(path).manifest.run_id == champion.run_id


def test_the_same_champion_is_not_imported_again(state: Path, tmp_path: Path) -> None:
    """A second bundling needs no download: the registry's files may even be gone."""
    lock = tmp_path / "models.lock"
    first = deploy.bundle(["iris"], lock)
    written = lock.read_text()
    shutil.rmtree(state / "mlruns")

    assert deploy.bundle(["iris"], lock) == first
    assert lock.read_text() == written
    assert len(bentoml.models.list()) == 1


@pytest.mark.usefixtures("state")
def test_a_new_champion_gets_a_new_tag(tmp_path: Path) -> None:
    """The old one stays in the store for a way back."""
    lock = tmp_path / "models.lock"
    first = deploy.bundle(["iris"], lock)
    crown(Registry(), iris(tmp_path / "b", runtime="sklearn"), "iris")

    second = deploy.bundle(["iris"], lock)

    assert second[0].version == "2"
    assert second[0].tag != first[0].tag
    assert {str(model.tag) for model in bentoml.models.list()} == {first[0].tag, second[0].tag}


@pytest.mark.usefixtures("state")
def test_a_name_without_a_champion_is_told_to_train(tmp_path: Path) -> None:
    """And the lock that serves now is left alone."""
    lock = tmp_path / "models.lock"
    lock.write_text("iris okamochi-iris:before\n")

    with pytest.raises(NoChampionError, match="python -m training run wine"):
        deploy.bundle(["iris", "wine"], lock)
    assert lock.read_text() == "iris okamochi-iris:before\n"


@pytest.mark.parametrize("file", ["model.onnx", "signature.json", "golden.json", "manifest.json"])
def test_a_damaged_champion_is_not_bundled(state: Path, tmp_path: Path, file: str) -> None:
    """Whatever happened to the registry's files, nothing of it reaches a server."""
    lock = tmp_path / "models.lock"
    (stored,) = (state / "mlruns" / "iris").rglob(f"okamochi/{file}")
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 1
    stored.write_bytes(bytes(content))

    with pytest.raises(ArtifactError):
        deploy.bundle(["iris"], lock)
    assert not lock.exists()
    assert bentoml.models.list() == []


def test_a_registry_that_is_down_fails_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 4 and a sentence, and the lock stays."""
    lock = tmp_path / "models.lock"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(RegistryError, match="connection refused"):
        deploy.bundle(["iris"], lock)
    assert not lock.exists()

    done = subprocess.run(
        [sys.executable, "-m", "deploy", "bundle", "iris"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert "MLFLOW_TRACKING_URI" in done.stderr
