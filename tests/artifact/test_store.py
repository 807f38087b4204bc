"""Into and out of BentoML's model store."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import bentoml
import pytest

from artifact import manifest, store
from artifact.manifest import ArtifactError
from tests.serving.artifacts import iris, linear

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("bentoml_home")


def test_an_artifact_comes_out_as_it_went_in(tmp_path: Path) -> None:
    """The tag names model and version; the folder is a whole artifact; the version is in the metadata."""
    made = iris(tmp_path / "iris")

    tag = store.put(made.path, name="iris", version="3")
    path, metadata = store.path_of(tag)

    assert tag.startswith("okamochi-iris:3-")
    assert metadata["version"] == "3"
    assert manifest.load(path, name="iris").manifest == manifest.load(made.path).manifest


def test_the_same_artifact_keeps_its_tag(tmp_path: Path) -> None:
    """A second bundling of one champion copies nothing."""
    made = iris(tmp_path / "iris")
    first = store.put(made.path, name="iris", version="3")
    before = store.path_of(first)[0].stat().st_ino

    assert store.put(made.path, name="iris", version="3") == first
    assert store.path_of(first)[0].stat().st_ino == before


def test_another_artifact_of_the_same_version_gets_another_tag(tmp_path: Path) -> None:
    """Two checkouts count versions from 1 in one store, and neither serves the other's."""
    first, second = iris(tmp_path / "a"), iris(tmp_path / "b", runtime="python")

    assert store.put(first.path, name="iris", version="1") != store.put(second.path, name="iris", version="1")


def test_a_copy_that_was_damaged_is_replaced(tmp_path: Path) -> None:
    """Bundling again mends a store in which a file was cut short."""
    made = iris(tmp_path / "iris")
    tag = store.put(made.path, name="iris", version="3")
    stored = store.path_of(tag)[0] / "model.onnx"
    stored.write_bytes(stored.read_bytes()[:100])

    assert store.put(made.path, name="iris", version="3") == tag
    assert stored.read_bytes() == (made.path / "model.onnx").read_bytes()


def test_a_copy_that_was_cut_short_is_replaced(tmp_path: Path, bentoml_home: Path) -> None:
    """A process killed within BentoML's copying leaves a folder without model.yaml."""
    made = iris(tmp_path / "iris")
    tag = store.put(made.path, name="iris", version="3")
    folder = bentoml_home / "models" / tag.replace(":", "/")
    shutil.rmtree(folder)
    folder.mkdir()

    assert store.put(made.path, name="iris", version="3") == tag
    manifest.load(store.path_of(tag)[0])


@pytest.mark.parametrize("killed", ["", "removed", "half-written"])
def test_the_newest_version_may_be_removed_before_another_is_stored(
    tmp_path: Path, bentoml_home: Path, killed: str
) -> None:
    """Also by a process that was killed before it had mended BentoML's pointer to the newest one."""
    folder = bentoml_home / "models" / "okamochi-iris"
    first = store.put(iris(tmp_path / "1").path, name="iris", version="1")
    newest = store.put(iris(tmp_path / "2").path, name="iris", version="2")
    if not killed:
        store.remove(newest)
    elif killed == "removed":
        shutil.rmtree(folder / newest.partition(":")[2])
    else:
        (folder / "latest").write_text("")

    tag = store.put(iris(tmp_path / "3").path, name="iris", version="3")
    for each in (first, tag):
        assert store.is_whole(each)
    assert str(bentoml.models.get("okamochi-iris").tag) == tag


def test_a_damaged_artifact_is_not_stored(tmp_path: Path) -> None:
    """The error names the file, and the store stays as it was."""
    made = iris(tmp_path / "iris")
    with (made.path / "model.onnx").open("ab") as file:
        file.write(b"!")

    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        store.put(made.path, name="iris", version="3")
    assert bentoml.models.list() == []


def test_another_models_artifact_is_not_stored(tmp_path: Path) -> None:
    """A name never serves another use case's model."""
    with pytest.raises(ArtifactError, match="linear"):
        store.put(linear(tmp_path / "linear").path, name="iris", version="3")


def test_a_tag_is_only_answered_by_itself(tmp_path: Path) -> None:
    """BentoML takes the beginning of a tag for the whole if one model matches: another model."""
    tag = store.put(iris(tmp_path / "iris").path, name="iris", version="3")
    assert str(bentoml.models.get(tag[:-3]).tag) == tag

    with pytest.raises(ArtifactError, match=r"make bundle"):
        store.path_of(tag[:-3])


def test_a_model_that_was_swapped_is_refused(tmp_path: Path) -> None:
    """A whole artifact in the place of another one is not what was bundled."""
    tag = store.put(iris(tmp_path / "a").path, name="iris", version="1")
    path = store.path_of(tag)[0]
    shutil.rmtree(path)
    shutil.copytree(iris(tmp_path / "b", runtime="python").path, path)

    with pytest.raises(ArtifactError, match="not the one that was bundled"):
        store.path_of(tag)


def test_a_model_of_someone_else_is_refused() -> None:
    """The store is shared with everything else its user makes with BentoML."""
    with bentoml.models.create("okamochi-iris:other"):
        pass

    with pytest.raises(ArtifactError, match="python -m deploy bundle"):
        store.path_of("okamochi-iris:other")
    assert store.find("iris", version="1", run_id="0123456789abcdef") is None


def test_a_registered_version_is_found_in_the_store(tmp_path: Path) -> None:
    """By name, version and run, and only while it is whole."""
    tag = store.put(iris(tmp_path / "iris").path, name="iris", version="3")

    assert store.find("iris", version="3", run_id="0123456789abcdef") == tag
    assert store.find("iris", version="4", run_id="0123456789abcdef") is None
    assert store.find("iris", version="3", run_id="another") is None
    (store.path_of(tag)[0] / "card.md").write_text("unlisted")
    assert store.find("iris", version="3", run_id="0123456789abcdef") is None


@pytest.mark.parametrize(
    ("name", "model"),
    [("breast_cancer", "okamochi-breast-cancer"), ("iris", "okamochi-iris"), ("a_", "okamochi-a")],
)
def test_names_of_models(name: str, model: str) -> None:
    """Underscores are dashes for BentoML and Kubernetes, and a tag never ends in one."""
    assert store.model_name(name) == model
