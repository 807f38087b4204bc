"""From the registry into BentoML's model store: each champion under an exact tag, listed in `models.lock`."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from artifact import manifest, runtime, store
from training.interpreter import typed
from training.registry.mlflow_registry import CHAMPION, Registry, peek
from training.settings import load_use_case

CHECKOUT = Path(__file__).resolve().parent.parent
MODELS_LOCK = CHECKOUT / "models.lock"


class NoChampionError(Exception):
    """A use case that nobody has trained yet."""


@dataclass(frozen=True)
class Bundled:
    """A champion in the model store."""

    name: str
    version: str
    tag: str


def bundle(names: list[str], lock: Path = MODELS_LOCK) -> list[Bundled]:
    """Put the champion of each use case (a name or a TOML file) into the store, then write `lock`.

    The first is the default model. `lock` stays as it is unless all are whole; the same champions give the
    same file.

    Raises
    ------
    NoChampionError, ArtifactError, RegistryError, UseCaseError
    """
    asked = {name_of(each): each for each in reversed(names)}
    bundled = [put_champion(name, asked[name]) for name in dict.fromkeys(map(name_of, names))]
    replace(lock, "".join(f"{model.name} {model.tag}\n" for model in bundled))
    return bundled


def name_of(name_or_path: str) -> str:
    """A champion needs no TOML file here, so a plain name stands for itself."""
    return load_use_case(name_or_path).name if name_or_path.endswith(".toml") else name_or_path


def put_champion(name: str, asked_as: str) -> Bundled:
    """Download, open and score as a server would, store; nothing of it if the store has this version."""
    version = peek(name, CHAMPION)
    if version is None:
        raise NoChampionError(
            f"{name} has no champion in the registry; train one: {typed(f'-m training run {asked_as}')}"
        )
    stored = store.find(name, version=version.number, run_id=version.run_id)
    if stored is not None:
        return Bundled(name, version.number, stored)
    with tempfile.TemporaryDirectory(prefix="okamochi-bundle-") as folder:
        directory = Registry().download(version, Path(folder))
        runtime.load(manifest.load(directory, name=name))
        return Bundled(name, version.number, store.put(directory, name=name, version=version.number))


def replace(path: Path, text: str) -> None:
    """Write so that a reader finds the old file or the new one, whole."""
    half = path.with_name(f"{path.name}.{os.getpid()}")
    half.write_text(text)
    half.replace(path)
