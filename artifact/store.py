"""Into and out of BentoML's model store, verified on both ways: `artifact`'s one door to bentoml."""

from __future__ import annotations

import fcntl
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
from bentoml.exceptions import BentoMLException, NotFound

from artifact import atomic, manifest
from artifact.manifest import MANIFEST, ArtifactError
from artifact.signing import SIGNED

if TYPE_CHECKING:
    from collections.abc import Iterator

DIGEST_CHARACTERS = 12
FOLDER = "artifact"
"""Where a stored model holds it, beside BentoML's model.yaml: an artifact has no unlisted file."""


def put(directory: Path, *, name: str, version: str) -> str:
    """Copy the artifact in `directory` into the model store and give its exact tag.

    The tag is made of the name, the registry's version and the artifact's digest, so the same artifact always
    has the same tag and is copied once; a copy that was cut short or damaged since is replaced.

    Raises
    ------
    ArtifactError
        The artifact is damaged or another use case's.
    """
    artifact = manifest.load(directory, name=name)
    digest = manifest.digest(directory / MANIFEST)
    tag = f"{model_name(name)}:{version}-{digest[:DIGEST_CHARACTERS]}"
    with one_writer():
        if is_whole(tag):
            return tag
        remove(tag)
        metadata = {
            "name": name,
            "version": version,
            "run_id": artifact.manifest.run_id,
            "manifest_sha256": digest,
        }
        with bentoml.models.create(tag, labels={"okamochi": name}, metadata=metadata) as model:
            shutil.copytree(directory, Path(model.path) / FOLDER)
    return tag


def keep_signature(tag: str, signature: str) -> None:
    """Put a signature beside the artifact of a tag, unless it is there already."""
    path = path_of(tag)[0].parent / SIGNED
    if not path.is_file() or path.read_text("utf-8") != signature:
        atomic.write(path, signature.encode())


def signature_of(tag: str) -> str:
    """The signature beside the artifact of a tag, or ""."""
    path = path_of(tag)[0].parent / SIGNED
    return path.read_text("utf-8") if path.is_file() else ""


def find(name: str, *, version: str, run_id: str) -> str | None:
    """Give the tag of a registry's version if the store has it whole; the run tells registries apart."""
    wanted = {"name": name, "version": version, "run_id": run_id}
    for folder in _versions(model_name(name)):
        model = _readable(folder)
        if model is None or not wanted.items() <= model.info.metadata.items():
            continue
        if is_whole(str(model.tag)):
            return str(model.tag)
    return None


def tags_of(name: str) -> list[str]:
    """The tags that the store has of a use case, whether their files are whole or not."""
    return [f"{folder.parent.name}:{folder.name}" for folder in _versions(model_name(name))]


def all_models() -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Each model that was put here and is whole: its tag, the folder of its artifact, its metadata."""
    models = Path(bentoml_home()) / "models"
    names = sorted(path.name for path in models.glob("okamochi-*")) if models.is_dir() else []
    for folder in (folder for name in names for folder in _versions(name)):
        tag = f"{folder.parent.name}:{folder.name}"
        if is_whole(tag):
            path, metadata = path_of(tag)
            yield tag, path, metadata


def path_of(tag: str) -> tuple[Path, dict[str, Any]]:
    """Give the folder of the artifact with exactly this tag, and its metadata, `name` and `version` among it.

    Raises
    ------
    ArtifactError
        The store has no such tag, or what it has is not the artifact that was put there.
    """
    try:
        model = bentoml.models.get(tag)
    except (NotFound, BentoMLException) as error:
        raise ArtifactError(
            f"BentoML's model store has no {tag}: run `make bundle` again ({error})"
        ) from error
    except (
        Exception
    ) as error:  # of YAML, cattrs or a codec: whatever a damaged model.yaml makes BentoML raise
        raise ArtifactError(
            f"the model.yaml of {tag} in BentoML's model store is damaged: run `make bundle` again"
        ) from error
    if str(model.tag) != tag:  # the store answers `name:1` with `name:12` where that is its only match
        raise ArtifactError(f"BentoML's model store has no {tag}, only {model.tag}: run `make bundle` again")
    path, metadata = Path(model.path) / FOLDER, dict(model.info.metadata)
    expected = metadata.get("manifest_sha256")
    if not expected or "version" not in metadata:
        raise ArtifactError(f"{tag} in BentoML's model store was not put there by `python -m deploy bundle`")
    sealed = path / MANIFEST
    if not sealed.is_file() or manifest.digest(sealed) != expected:
        raise ArtifactError(f"{sealed} is not the one that was bundled as {tag}; run `make bundle` again")
    return path, metadata


def model_name(name: str) -> str:
    """Give the model's name in BentoML and Kubernetes: `breast_cancer` is `okamochi-breast-cancer`."""
    return f"okamochi-{name.replace('_', '-')}".rstrip("-")


def is_whole(tag: str) -> bool:
    return not problem(tag)


def problem(tag: str) -> str:
    """Why a server would refuse the stored artifact before it opens it; nothing where every file is whole."""
    try:
        manifest.load(path_of(tag)[0])
    except ArtifactError as error:
        return str(error)
    return ""


def stamp(tag: str) -> object:
    """Something that changes whenever a stored file of the tag does; it opens none of them."""
    name, _, version = tag.partition(":")
    folder = Path(bentoml_home()) / "models" / name / version
    try:
        found = [(path, path.lstat()) for path in sorted(folder.rglob("*"))]
        return tuple((str(path), was.st_size, was.st_mtime_ns, was.st_ino) for path, was in found)
    except OSError as error:  # they are being written or removed
        return error.errno


def remove(tag: str) -> None:
    """Forget the tag, and with it what BentoML cannot read of the same name: it would stumble over each.

    That is a folder whose model.yaml is damaged, or absent since a copy was killed.
    """
    name, _, version = tag.partition(":")
    for folder in _versions(name):
        if folder.name == version or _readable(folder) is None:
            shutil.rmtree(folder)
    latest = Path(bentoml_home()) / "models" / name / "latest"
    if latest.is_file() and not _names_a_version(latest):
        latest.unlink()  # BentoML makes it anew; with a version that is gone it fails each time it stores one


def _versions(model: str) -> list[Path]:
    """The folders of a model's versions."""
    folder = Path(bentoml_home()) / "models" / model
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _names_a_version(latest: Path) -> bool:
    """Whether BentoML's pointer to the newest version names one that is there."""
    version = latest.read_text("utf-8", "replace").strip()
    return version in {folder.name for folder in _versions(latest.parent.name)}


def _readable(folder: Path) -> Any:
    """What BentoML makes of a version's folder; None where it cannot read it."""
    try:
        return bentoml.models.get(f"{folder.parent.name}:{folder.name}")
    except Exception:  # noqa: BLE001 - of YAML, cattrs or a codec: whatever is wrong with its model.yaml
        return None


@contextmanager
def one_writer() -> Iterator[None]:
    """Let one process at a time write: BentoML copies straight into the final folder."""
    with (Path(bentoml_home()) / "okamochi.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def bentoml_home() -> str:
    from bentoml._internal.configuration.containers import BentoMLContainer  # no public way

    return str(BentoMLContainer.bentoml_home.get())
