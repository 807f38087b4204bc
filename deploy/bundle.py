"""From the registry into BentoML's model store: each champion under an exact tag, listed in `models.lock`."""

from __future__ import annotations

import fcntl
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from artifact import manifest, models_lock, runtime, store
from artifact.models_lock import LockError
from training.interpreter import typed
from training.owner import check_owner
from training.registry.mlflow_registry import Registry, exists, read_alias
from training.registry.records import CHAMPION
from training.settings import load_use_case

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CHECKOUT = Path(__file__).resolve().parent.parent
MODELS_LOCK = CHECKOUT / models_lock.FILE


class NoChampionError(Exception):
    """A use case without a champion in the registry: nobody has trained it, or its alias is missing."""


@dataclass(frozen=True)
class Bundled:
    """A champion in the model store."""

    name: str
    version: str
    tag: str


@dataclass(frozen=True)
class Bundling:
    """What was bundled, and what `models.lock` holds now.

    Parameters
    ----------
    locked
        Names and tags of the whole file, the default model first.
    removed
        Those that are no longer in it.
    unusable
        Kept names whose model could not be served, with the reason.
    mended
        What was wrong with the file that was written anew.
    """

    models: list[Bundled]
    locked: Mapping[str, str]
    removed: Mapping[str, str] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)
    mended: str = ""

    @property
    def kept(self) -> list[str]:
        """Names that were not asked for and stay."""
        return [name for name in self.locked if name not in {model.name for model in self.models}]

    def told(self) -> Iterator[str]:
        """What a person wants to know of it, a sentence a line."""
        for model in self.models:
            yield f"{model.name}: champion version {model.version} is bundled as {model.tag}"
        if self.mended:
            yield f"models.lock was written anew; it could not be read: {self.mended}"
        for name, tag in self.removed.items():
            yield f"models.lock: {name} ({tag}) is removed and will not be served any more"
        if len(self.locked) > 1:
            default, *others = self.locked
            yield f"models.lock names {', '.join([f'{default} (the default of /predict)', *others])}"
        for name, reason in self.unusable.items():
            again = typed(f"-m deploy bundle {name}")
            yield f"models.lock keeps {name}, whose model cannot be served: {reason}. Put it back: {again}"


def bundle(names: list[str], lock: Path = MODELS_LOCK, *, only: bool = False) -> Bundling:
    """Put the champion of each use case (a name or a TOML file) into the store, then its tag into `lock`.

    All other lines stay as they are, and a name that is new comes last. `lock` stays as it is unless all are
    whole; the same champions give the same file.

    Parameters
    ----------
    only
        Write exactly these names, in this order.

    Raises
    ------
    NoChampionError, ArtifactError, LockError, RegistryError, UseCaseError
    """
    asked = {name_of(each): each for each in reversed(names)}
    with one_writer(lock):
        before, damage = _read(lock, only=only)
        models = [put_champion(name, asked[name]) for name in dict.fromkeys(map(name_of, names))]
        tags = {model.name: model.tag for model in models}
        if only:
            models_lock.write(lock, tags)
            removed = {name: tag for name, tag in before.items() if name not in tags}
            return Bundling(models, tags, removed, mended=damage)
        locked = models_lock.update(lock, tags)
    reasons = {name: store.problem(tag) for name, tag in locked.items() if name not in tags}
    return Bundling(models, locked, unusable={name: reason for name, reason in reasons.items() if reason})


@contextmanager
def one_writer(lock: Path) -> Iterator[None]:
    """Let one command at a time decide what `lock` holds; the others wait, and say so."""
    lock = lock.resolve()
    with lock.with_name(f"{lock.name}.writer").open("a") as writer:
        try:
            fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another command is writing {lock}; waiting for it.", file=sys.stderr, flush=True)
            fcntl.flock(writer, fcntl.LOCK_EX)
        yield


def _read(lock: Path, *, only: bool) -> tuple[dict[str, str], str]:
    """What the file holds; where it is written anew, what is wrong with it matters no more than that."""
    try:
        return models_lock.read(lock), ""
    except LockError as error:
        if not only:
            raise
        return {}, str(error)


def name_of(name_or_path: str) -> str:
    """A champion needs no TOML file here, so a plain name stands for itself."""
    return load_use_case(name_or_path).name if name_or_path.endswith(".toml") else name_or_path


def put_champion(name: str, asked_as: str) -> Bundled:
    """Download, open and score as a server would, store; nothing of it if the store has it whole."""
    version = read_alias(name, CHAMPION)
    if version is None:
        raise NoChampionError(no_champion(name, asked_as))
    if asked_as.endswith(".toml"):
        use_case = load_use_case(asked_as)
        check_owner(use_case, use_case.kinds, version.tags, version.number)
    stored = store.find(name, version=version.number, run_id=version.run_id)
    if stored is not None:
        return Bundled(name, version.number, stored)
    with tempfile.TemporaryDirectory(prefix="okamochi-bundle-") as folder:
        directory = Registry().download(version, Path(folder))
        runtime.load(manifest.load(directory, name=name))
        return Bundled(name, version.number, store.put(directory, name=name, version=version.number))


def no_champion(name: str, asked_as: str) -> str:
    """Say what is missing: a training, or the alias of a model that is registered."""
    versions = Registry().versions(name) if exists() else []
    if not versions:
        train = typed(f"-m training run {asked_as}")
        return f"{name} has no champion in the registry; train one: {train}"
    numbers = ", ".join(version.number for version in versions[:8])
    return (
        f"{name} has no champion in the registry: it has the versions {numbers}, but the alias {CHAMPION} "
        f"names none of them. Give it to a version that Okamochi made (`make mlflow`, then Models, {name}), "
        f"or train one: {typed(f'-m training run {asked_as}')}"
    )
