"""Copy champions from the registry into BentoML's model store; write their exact tags to `models.lock`."""

from __future__ import annotations

import fcntl
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from artifact import canary_bounds, manifest, models_lock, runtime, signing, store
from artifact.contracts import mismatch
from artifact.manifest import ArtifactError
from artifact.models_lock import Entry, LockError
from training.decide.aliases import sign
from training.interpreter import typed
from training.owner import check_owner
from training.registry.mlflow_registry import Registry, exists, read_alias
from training.registry.records import CHAMPION, SIGNATURE
from training.settings import load_use_case

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from training.registry.records import Version

CHECKOUT = Path(__file__).resolve().parent.parent
MODELS_LOCK = CHECKOUT / models_lock.FILE


class NoVersionError(Exception):
    """No version has the alias of a role, or models.lock has no champion of the name."""


class NoChampionError(NoVersionError):
    """A use case has no champion in the registry: it is not trained, or the alias is missing."""


@dataclass(frozen=True)
class Bundled:
    """A version in the model store."""

    name: str
    version: str
    tag: str


@dataclass(frozen=True)
class Bundling:
    """The bundled models, and the contents of `models.lock` after it.

    Parameters
    ----------
    locked
        Names and tags of all lines, the default model first.
    removed
        The lines that were removed.
    unusable
        Names of kept lines whose model cannot be served, with the reason.
    mended
        The error in the old file, where it could not be read and was written anew.
    """

    models: list[Bundled]
    locked: Mapping[str, str]
    removed: Mapping[str, str] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)
    mended: str = ""

    @property
    def kept(self) -> list[str]:
        """Names of lines that stay as they were."""
        return [name for name in self.locked if name not in {model.name for model in self.models}]

    def lines(self) -> Iterator[str]:
        """The result for a person, one sentence a line."""
        for model in self.models:
            yield f"{model.name}: champion version {model.version} is bundled as {model.tag}"
        if self.mended:
            yield f"models.lock could not be read and was written anew: {self.mended}"
        for name, tag in self.removed.items():
            yield f"models.lock: {name} ({tag}) is removed and no longer served"
        if len(self.locked) > 1:
            default, *others = self.locked
            yield f"models.lock names {', '.join([f'{default} (the default of /predict)', *others])}"
        for name, reason in self.unusable.items():
            again = typed(f"-m deploy bundle {name}")
            yield f"models.lock keeps {name}, whose model cannot be served: {reason}. To bundle it: {again}"


def bundle_beside(names: list[str], role: str, percent: float, lock: Path = MODELS_LOCK) -> list[Bundled]:
    """Put the version that has the alias `shadow` or `canary` into the store, and its line into `lock`.

    All other lines stay. Nothing is written unless each version can stand beside its champion.

    Raises
    ------
    NoVersionError, ArtifactError, LockError, RegistryError, UseCaseError
    """
    with one_writer(lock):
        locked = models_lock.read(lock)
        models = [put_beside(name_of(each), role, locked) for each in dict.fromkeys(names)]
        changes = [Entry(model.name, model.tag, role, percent) for model in models]
        models_lock.update(lock, changes)
    return models


def put_beside(name: str, role: str, locked: Mapping[str, str]) -> Bundled:
    """Download the version that has the alias of a role, check it beside the champion, store it.

    Parameters
    ----------
    locked
        The champions of models.lock, names and tags.

    Raises
    ------
    NoVersionError
        No version has the alias, or the champion is not in `locked`.
    ArtifactError
        The version must not be served, or its columns or classes differ from the champion's.
    """
    version = read_alias(name, role)
    if version is None:
        raise NoVersionError(
            f"no version of {name} has the alias {role} in the registry; "
            f"{typed(f'-m training role {name} {role} --version N')} gives it to one"
        )
    if name not in locked:
        again = typed(f"-m deploy bundle {name}")
        raise NoVersionError(
            f"models.lock has no champion of {name}, which a {role} needs; bundle it: {again}"
        )
    found = put_version(name, version)
    champion, other = (manifest.load(store.path_of(tag)[0], name=name) for tag in (locked[name], found.tag))
    reason = mismatch(champion.signature, other.signature)
    if reason:
        raise ArtifactError(f"version {version.number} of {name} cannot be its {role}: {reason}")
    canary_bounds.read(other.path)
    return found


def bundle(names: list[str], lock: Path = MODELS_LOCK, *, only: bool = False) -> Bundling:
    """Put the champion of each use case (a name or a TOML file) into the store, then its tag into `lock`.

    All other lines stay, and a new name is added at the end. `lock` is written after all models were checked;
    the same champions give the same file.

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
        locked = models_lock.update(lock, [Entry(name, tag) for name, tag in tags.items()])
    reasons = {name: store.problem(tag) for name, tag in locked.items() if name not in tags}
    return Bundling(models, locked, unusable={name: reason for name, reason in reasons.items() if reason})


@contextmanager
def one_writer(lock: Path) -> Iterator[None]:
    """Let one command at a time change `lock`; the others print that they wait."""
    lock = lock.resolve()
    with lock.with_name(f"{lock.name}.writer").open("a") as writer:
        try:
            fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Waiting for another command that is writing {lock}.", file=sys.stderr, flush=True)
            fcntl.flock(writer, fcntl.LOCK_EX)
        yield


def _read(lock: Path, *, only: bool) -> tuple[dict[str, str], str]:
    """The contents of the file, and the error in it, which with `only` is not raised."""
    try:
        return models_lock.read(lock), ""
    except LockError as error:
        if not only:
            raise
        return {}, str(error)


def name_of(name_or_path: str) -> str:
    """The name of a use case; a plain name needs no TOML file here."""
    return load_use_case(name_or_path).name if name_or_path.endswith(".toml") else name_or_path


def put_champion(name: str, asked_as: str) -> Bundled:
    """Download a champion, check it as a server does, store it; skip that if the store has it undamaged."""
    version = _champion(name, asked_as)
    if asked_as.endswith(".toml"):
        use_case = load_use_case(asked_as)
        check_owner(use_case, use_case.kinds, version.tags, version.number)
    return put_version(name, version)


def put_version(name: str, version: Version) -> Bundled:
    """Download a version, check it as a server does, store it; skip that if the store has it undamaged."""
    tag = store.find(name, version=version.number, run_id=version.run_id)
    if tag is None:
        with tempfile.TemporaryDirectory(prefix="okamochi-bundle-") as folder:
            directory = Registry().download(version, Path(folder))
            runtime.load(manifest.load(directory, name=name))
            tag = store.put(directory, name=name, version=version.number)
    _keep_signature(version, tag)
    return Bundled(name, version.number, tag)


def sign_champion(asked_as: str) -> str:
    """Sign a champion again, and say so; the next bundling takes the new signature.

    Raises
    ------
    NoChampionError, ArtifactError, RegistryError, SigningKeyError
    """
    name = name_of(asked_as)
    version = _champion(name, asked_as)
    said = signing.statement_of(sign(Registry(), version))
    until = f" until {said.expires}" if said is not None and said.expires else ""
    signer = "" if said is None else said.signer
    again = typed(f"-m deploy bundle {asked_as}")
    return f"{name}: champion version {version.number} is signed by {signer}{until}. To serve it: {again}"


def _keep_signature(version: Version, tag: str) -> None:
    """Put the version's signature beside its artifact; sign a version without one if a key is configured."""
    signature = version.tags.get(SIGNATURE, "")
    if not signature and signing.configured():
        signature = sign(Registry(), version)
    if signature:
        store.keep_signature(tag, signature)
    trusted = signing.trusted_file()
    if trusted is not None:  # a server with these keys would refuse it later
        path = store.path_of(tag)[0]
        signing.check(path, name=version.name, version=version.number, trusted=trusted)


def _champion(name: str, asked_as: str) -> Version:
    version = read_alias(name, CHAMPION)
    if version is None:
        raise NoChampionError(no_champion(name, asked_as))
    return version


def no_champion(name: str, asked_as: str) -> str:
    """Say what is missing: a training, or the alias of a registered model."""
    if name.startswith(("models:", "runs:")):
        adopt = typed(f"-m training init {name} --name NAME")
        return (
            f"{name} is a place in MLflow, expected the name of a use case; to serve the model that stands "
            f"there, take it in: {adopt}"
        )
    versions = Registry().versions(name) if exists() else []
    if not versions:
        train = typed(f"-m training run {asked_as}")
        return f"{name} has no champion in the registry; train one: {train}"
    numbers = ", ".join(version.number for version in versions[:8])
    return (
        f"{name} has no champion in the registry: there are versions {numbers}, but no alias {CHAMPION}. "
        f"Set the alias on a version that Okamochi made (`make mlflow`, then Models, {name}), or train one: "
        f"{typed(f'-m training run {asked_as}')}"
    )
