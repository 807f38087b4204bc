"""From the registry's champion to an exact tag in models.lock."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import bentoml
import pytest

from artifact import manifest, signing, store
from artifact.manifest import MANIFEST, ArtifactError
from artifact.models_lock import LockError
from deploy import bundle as deploy
from deploy.__main__ import main
from deploy.bundle import NoChampionError
from tests.deploy.registered import crown
from tests.servers import CHECKOUT, free_port
from tests.serving.artifacts import iris
from training.__main__ import main as training_main
from training.decide.aliases import make_champion
from training.registry.mlflow_registry import Registry, read_alias
from training.registry.records import CHAMPION, SIGNATURE, RegistryError
from training.settings import UseCaseError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("bentoml_home")


@pytest.mark.usefixtures("state")
def test_champions_are_bundled_under_exact_tags(tmp_path: Path) -> None:
    """One line each, in the order asked for; what is stored is the artifact that was registered."""
    lock = tmp_path / "models.lock"

    bundled = deploy.bundle(["linear", "iris", "linear"], lock).models

    assert [(model.name, model.version) for model in bundled] == [("linear", "1"), ("iris", "1")]
    assert lock.read_text() == "".join(f"{model.name} {model.tag}\n" for model in bundled)
    path, metadata = store.path_of(bundled[1].tag)
    champion = read_alias("iris", CHAMPION)
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
    crown(Registry(), iris(tmp_path / "b", runtime="python"), "iris")

    second = deploy.bundle(["iris"], lock)

    assert second.models[0].version == "2"
    assert second.models[0].tag != first.models[0].tag
    assert {str(model.tag) for model in bentoml.models.list()} == {first.models[0].tag, second.models[0].tag}


def test_a_champion_is_signed_when_it_is_promoted_and_its_signature_is_bundled(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By promotion, by bundling what was promoted before, and anew by `sign`; a server's keys are asked."""
    assert state
    trusted = tmp_path / "trusted"
    trusted.write_text(signing.make_key(tmp_path / "private", "release"))
    monkeypatch.setenv("OKAMOCHI_TRUSTED_KEYS", str(trusted))
    with pytest.raises(ArtifactError, match="version 1 of iris is not signed"):
        deploy.bundle(["iris"], tmp_path / "models.lock")
    assert not (tmp_path / "models.lock").exists()

    monkeypatch.setenv("OKAMOCHI_SIGNING_KEY", str(tmp_path / "private"))
    version = read_alias("iris", CHAMPION)
    assert version is not None
    make_champion(Registry(), version)
    (model,) = deploy.bundle(["iris"], tmp_path / "models.lock").models
    first = store.signature_of(model.tag)
    assert read_alias("iris", CHAMPION).tags[SIGNATURE] == first  # type: ignore[union-attr]
    assert signing.statement_of(first).version == "1"  # type: ignore[union-attr]
    (unsigned,) = deploy.bundle(["linear"], tmp_path / "models.lock").models
    assert signing.statement_of(store.signature_of(unsigned.tag)).name == "linear"  # type: ignore[union-attr]

    monkeypatch.setenv("OKAMOCHI_SIGNATURE_DAYS", "7")
    assert main(["sign", "iris"]) == 0
    assert "champion version 1 is signed by release until" in capsys.readouterr().out
    monkeypatch.delenv("OKAMOCHI_SIGNING_KEY")
    deploy.bundle(["iris"], tmp_path / "models.lock")
    again = store.signature_of(model.tag)
    assert signing.statement_of(again).expires  # type: ignore[union-attr]
    assert training_main(["show", "iris"]) == 0
    assert "signed by release" in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("state")
def test_a_champion_of_another_table_is_not_bundled(tmp_path: Path) -> None:
    """Two tables whose use cases have one name: the sentence has both."""
    champion = read_alias("iris", CHAMPION)
    assert champion is not None
    tags = {
        "okamochi.target": "species",
        "okamochi.columns": '["petal", "sepal"]',
        "okamochi.table": "a/iris.csv",
    }
    Registry().tag(champion, tags)
    own = '[source]\nkind = "csv"\npath = "iris.csv"\n[kinds]\nage = "number"\ndebt = "number"\n'
    for target in ("species", "paid"):
        (tmp_path / "iris.toml").write_text(f'target = "{target}"\n{own}')
        with pytest.raises(
            UseCaseError, match=r'name "iris" belongs to version 1, .*"species" of a/iris\.csv'
        ):
            deploy.bundle([str(tmp_path / "iris.toml")], tmp_path / "models.lock")
    (tmp_path / "iris.toml").write_text(f'target = "species"\n{own}'.replace("age", "petal"))
    assert deploy.bundle([str(tmp_path / "iris.toml")], tmp_path / "models.lock").models[0].name == "iris"


@pytest.mark.usefixtures("state")
def test_a_name_without_a_champion_is_told_to_train(tmp_path: Path) -> None:
    """And the lock that serves now is left alone."""
    lock = tmp_path / "models.lock"
    lock.write_text("iris okamochi-iris:before\n")

    with pytest.raises(NoChampionError, match=r"wine has no champion .*python -m training run wine"):
        deploy.bundle(["iris", "wine"], lock)
    assert lock.read_text() == "iris okamochi-iris:before\n"


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("place", ["models:/theirs/1", "models:/theirs@champion", "runs:/abc/model"])
def test_a_place_in_mlflow_is_no_name(tmp_path: Path, place: str) -> None:
    with pytest.raises(NoChampionError) as said:
        deploy.bundle([place], tmp_path / "models.lock")
    assert "expected the name of a use case" in str(said.value)
    assert f"training init {place} --name NAME" in str(said.value)


@pytest.mark.usefixtures("state")
def test_a_missing_alias_is_no_missing_training(tmp_path: Path) -> None:
    """Somebody took it away, or registered the model without it: the versions are told."""
    Registry().delete_alias("iris", CHAMPION)

    with pytest.raises(NoChampionError, match="versions 1, but no alias champion"):
        deploy.bundle(["iris"], tmp_path / "models.lock")


def test_looking_for_a_champion_makes_no_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a checkout where nothing was trained."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("OKAMOCHI_STATE_DIR", str(tmp_path))

    with pytest.raises(NoChampionError, match="train one"):
        deploy.bundle(["iris"], tmp_path / "models.lock")
    assert not list(tmp_path.glob("mlflow.db"))


@pytest.mark.usefixtures("state")
def test_bundling_one_keeps_the_others(tmp_path: Path) -> None:
    """As after a rollback: its line changes where it stands, a name that is new comes last."""
    lock = tmp_path / "models.lock"
    lock.write_text("# the night shift's\niris okamochi-iris:0-old\n")
    (linear_model,) = deploy.bundle(["linear"], lock).models
    assert lock.read_text().splitlines()[1:] == ["iris okamochi-iris:0-old", f"linear {linear_model.tag}"]

    done = deploy.bundle(["iris"], lock)

    (iris_model,) = done.models
    assert lock.read_text() == f"# the night shift's\niris {iris_model.tag}\nlinear {linear_model.tag}\n"
    assert list(done.locked.items()) == [("iris", iris_model.tag), ("linear", linear_model.tag)]
    assert (done.removed, done.unusable) == ({}, {})


@pytest.mark.usefixtures("state")
def test_only_removes_the_others_and_says_so(tmp_path: Path) -> None:
    """In the order asked for; it is what mends a file that cannot be read."""
    lock = tmp_path / "models.lock"
    lock.write_text("wine okamochi-wine:1-a\niris okamochi-iris:0-old\n")

    done = deploy.bundle(["linear", "iris"], lock, only=True)

    assert [line.split()[0] for line in lock.read_text().splitlines()] == ["linear", "iris"]
    assert done.removed == {"wine": "okamochi-wine:1-a"}
    assert any("wine (okamochi-wine:1-a) is removed" in line for line in done.lines())

    lock.write_text("iris\n")
    with pytest.raises(LockError, match="line 1"):
        deploy.bundle(["linear"], lock)
    done = deploy.bundle(["linear"], lock, only=True)
    assert lock.read_text() == f"linear {done.models[0].tag}\n"
    assert any("could not be read" in line and "line 1" in line for line in done.lines())


@pytest.mark.parametrize("harm", ["gone", "damaged"])
@pytest.mark.usefixtures("state")
def test_a_kept_line_whose_model_is_gone_is_told(tmp_path: Path, harm: str) -> None:
    """It stays, and the command that puts it back is named; that command works."""
    lock = tmp_path / "models.lock"
    (kept,) = deploy.bundle(["iris"], lock).models
    path, _ = store.path_of(kept.tag)
    if harm == "gone":
        store.remove(kept.tag)
    else:
        (path / "model.onnx").write_bytes(b"")

    done = deploy.bundle(["linear"], lock)

    assert list(done.locked) == ["iris", "linear"]
    (told,) = [line for line in done.lines() if "cannot be served" in line]
    assert "keeps iris" in told
    assert "python -m deploy bundle iris" in told
    assert deploy.bundle(["iris"], lock).models == [kept]
    assert deploy.bundle(["linear"], lock).unusable == {}


def spoil_the_model(stored: Path) -> None:
    content = bytearray((stored / "artifact" / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (stored / "artifact" / "model.onnx").write_bytes(bytes(content))


def reseal_the_manifest(stored: Path) -> None:
    (stored / "artifact" / MANIFEST).write_bytes(b"{}")


def lose_the_folder(stored: Path) -> None:
    shutil.rmtree(stored / "artifact")


def lose_bentomls_file(stored: Path) -> None:
    (stored / "model.yaml").unlink()


def empty_bentomls_file(stored: Path) -> None:
    (stored / "model.yaml").write_text("")


def scramble_bentomls_file(stored: Path) -> None:
    (stored / "model.yaml").write_bytes(b"\x00\xff: [")


def add_a_file(stored: Path) -> None:
    (stored / "artifact" / "more.py").write_text("")


@pytest.mark.parametrize(
    "harm",
    [
        spoil_the_model,
        reseal_the_manifest,
        lose_the_folder,
        lose_bentomls_file,
        empty_bentomls_file,
        scramble_bentomls_file,
        add_a_file,
    ],
)
@pytest.mark.usefixtures("state")
def test_bundling_again_mends_what_the_store_has(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """The store is verified each time, and a model that is damaged in it is put there anew."""
    lock = tmp_path / "models.lock"
    (model,) = deploy.bundle(["iris"], lock).models
    path, _ = store.path_of(model.tag)
    harm(path.parent)

    assert deploy.bundle(["iris"], lock).models == [model]
    assert store.problem(model.tag) == ""


@pytest.mark.parametrize("harm", [lose_bentomls_file, scramble_bentomls_file])
@pytest.mark.usefixtures("state")
def test_a_damaged_version_is_in_nobodys_way(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """A new champion is bundled beside an older version whose model.yaml BentoML cannot read."""
    lock = tmp_path / "models.lock"
    (old,) = deploy.bundle(["iris"], lock).models
    harm(store.path_of(old.tag)[0].parent)
    crown(Registry(), iris(tmp_path / "b", runtime="sklearn"), "iris")

    (new,) = deploy.bundle(["iris"], lock).models

    assert new.version == "2"
    assert store.problem(new.tag) == ""
    assert "no okamochi-iris" in store.problem(old.tag)


@pytest.mark.usefixtures("state")
def test_two_at_once_lose_nothing(tmp_path: Path) -> None:
    """Each waits for the other, so both names are in the file."""
    lock = tmp_path / "models.lock"
    lock.write_text("wine okamochi-wine:1-a\n")
    script = "import sys, pathlib, deploy.bundle as it; it.bundle([sys.argv[1]], pathlib.Path(sys.argv[2]))"
    with deploy.one_writer(lock):
        started = [
            subprocess.Popen(
                [sys.executable, "-c", script, name, str(lock)],
                cwd=CHECKOUT,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name in ("iris", "linear")
        ]
        said = [process.stderr.readline() for process in started if process.stderr is not None]
        assert all("Waiting for another command" in line for line in said), said
        assert lock.read_text() == "wine okamochi-wine:1-a\n"
    for process in started:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err

    assert {line.split()[0] for line in lock.read_text().splitlines()} == {"wine", "iris", "linear"}


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
