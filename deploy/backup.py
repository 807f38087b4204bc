"""Backup and restore of a machine's state: registry, stored models, `models.lock`, prediction log."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import sqlite3
import tarfile
import tempfile
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import psutil

from artifact import __version__, manifest, models_lock, store
from deploy.bundle import MODELS_LOCK, one_writer
from training.interpreter import typed
from training.registry.mlflow_registry import Registry
from training.registry.place import shown_uri, state_folder, tracking_uri

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = 1
MANIFEST = "manifest.json"
FOLDER = "backups"
DATABASE, LOCK, MODELS, LOG = "mlflow.db", models_lock.FILE, "models", "prediction-log"
TREES = ("mlruns", "mlartifacts", ".okamochi")
"""Folders beside the database: our files, those of an `mlflow server`, trainings not yet registered."""

BESIDE_A_DATABASE = ("", "-wal", "-shm", "-journal")
LOG_VARIABLE = "OKAMOCHI_PREDICTION_LOG"
BUSY_S = 30


class BackupError(Exception):
    """The reason why nothing was done, and what to do about it (exit code 2)."""

    exit_code = 2


class DamagedError(BackupError):
    """An archive or a database is damaged; nothing was changed (exit code 1)."""

    exit_code = 1


class File(msgspec.Struct, frozen=True):
    sha256: str
    size: int


class StoredModel(msgspec.Struct, frozen=True):
    name: str
    version: str
    tag: str
    signature: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last file of the archive: every other file with its digest, by its path in the archive."""

    format: int
    okamochi: str
    created: str
    models: list[StoredModel]
    files: dict[str, File]


class Place(NamedTuple):
    """A part of the archive and its path on this machine."""

    part: str
    path: Path


@dataclass(frozen=True)
class State:
    """The paths of what is backed up."""

    database: Path
    log: Path | None

    @property
    def folder(self) -> Path:
        return self.database.parent

    def places(self) -> list[Place]:
        """All parts except the model store, which is written through `artifact.store`."""
        trees = [Place(tree, self.folder / tree) for tree in TREES]
        log = [] if self.log is None else [Place(LOG, self.log)]
        return [Place(DATABASE, self.database), *trees, Place(LOCK, MODELS_LOCK), *log]


def find_state() -> State:
    """Find the state by the environment variables.

    Raises
    ------
    BackupError
        The registry is a server.
    """
    uri = tracking_uri()
    if not uri.startswith("sqlite:///"):
        raise BackupError(
            f"MLFLOW_TRACKING_URI is {shown_uri(uri)}, whose database and files are not in this checkout. "
            "Back them up where they are (on Kubernetes: the component backup), or unset MLFLOW_TRACKING_URI "
            f"to back up {state_folder() / DATABASE}."
        )
    log = os.environ.get(LOG_VARIABLE, "").strip()
    folder = Path(log).expanduser().resolve() if log and "://" not in log else None
    return State(Path(uri.removeprefix("sqlite:///")).resolve(), folder)


# --------------------------------------------------------------------------------------------------- backup


def backup(to: Path | None = None) -> Path:
    """Write the archive and return its path. Servers, MLflow and trainings may run meanwhile.

    Raises
    ------
    BackupError
        There is nothing to back up, or the file exists.
    """
    state = find_state()
    created = dt.datetime.now(dt.UTC)
    path = to or state.folder / FOLDER / f"okamochi-{created:%Y-%m-%dT%H-%M-%SZ}.tar.gz"
    if path.exists():
        raise BackupError(f"{path} exists already; name another file.")
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.half")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="okamochi-backup-") as folder,
            tarfile.open(half, "w:gz") as archive,
        ):
            writer = _Writer(archive, Path(folder))
            models = _add_all(writer, state)
            if not writer.files:
                raise BackupError(f"There is nothing to back up: no {state.database}, no model in the store.")
            whole = Manifest(
                format=FORMAT,
                okamochi=__version__,
                created=created.isoformat(timespec="seconds"),
                models=models,
                files=writer.files,
            )
            writer.add_manifest(whole)
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
    return path


class _Writer:
    """Adds files to the archive and keeps their digests."""

    def __init__(self, archive: tarfile.TarFile, folder: Path) -> None:
        self.files: dict[str, File] = {}
        self._archive, self._folder = archive, folder

    def add(self, file: Path, name: str) -> None:
        """Add a copy, since a program may write to the file meanwhile; skip a file that is gone."""
        copy = self._folder / "copy"
        try:
            shutil.copyfile(file, copy)
        except FileNotFoundError:
            return
        if name.endswith(".jsonl"):
            _cut_last_line(copy)
        self._archive.add(copy, name, filter=_plain)
        self.files[name] = File(manifest.digest(copy), copy.stat().st_size)

    def add_tree(self, folder: Path, name: str) -> None:
        for parent, _, files in os.walk(folder):
            for file in sorted(files):
                path = Path(parent) / file
                if path.is_file():
                    self.add(path, f"{name}/{path.relative_to(folder).as_posix()}")

    def add_manifest(self, whole: Manifest) -> None:
        file = self._folder / MANIFEST
        file.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n")
        self._archive.add(file, MANIFEST, filter=_plain)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out owner and mode: they belong to the machine of the backup."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member


def _cut_last_line(copy: Path) -> None:
    """Drop an incomplete last line: a server may be writing it."""
    content = copy.read_bytes()
    copy.write_bytes(content[: content.rfind(b"\n") + 1])


def _add_all(writer: _Writer, state: State) -> list[StoredModel]:
    # The database first: it names only files that exist by then, so the archive has all of them.
    if state.database.is_file():
        with tempfile.TemporaryDirectory(prefix="okamochi-backup-") as folder:
            copy = Path(folder) / DATABASE
            _copy_database(state.database, copy)
            writer.add(copy, DATABASE)
    for part, path in state.places():
        if part != DATABASE and path.is_file():
            writer.add(path, part)
        elif part != DATABASE and path.is_dir():
            writer.add_tree(path, part)
    models = []
    for tag, artifact, metadata in store.all_models():
        writer.add_tree(artifact, f"{MODELS}/{_folder_of(tag)}")
        models.append(
            StoredModel(str(metadata["name"]), str(metadata["version"]), tag, store.signature_of(tag))
        )
    return models


def _folder_of(tag: str) -> str:
    return tag.replace(":", "/")


def _copy_database(database: Path, copy: Path) -> None:
    """Copy by SQLite's backup API, which waits for writers and copies a consistent state."""
    try:
        with (
            closing(sqlite3.connect(database, timeout=BUSY_S)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
            (found,) = target.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.Error as error:
        raise DamagedError(f"{database} cannot be read: {error}") from error
    if found != "ok":
        raise DamagedError(f"{database} is damaged: {found}")


# -------------------------------------------------------------------------------------------------- restore


@dataclass(frozen=True)
class Restored:
    """The result of a restore."""

    manifest: Manifest
    replaced: Path | None
    """The folder with the state from before."""
    left_out: list[str]
    """Parts of the archive that were not restored, each with the reason."""


def restore(path: Path, *, overwrite: bool = False) -> Restored:
    """Restore the archive `path`, which may come from another machine.

    It is unpacked and checked before anything is changed. Existing state is moved aside, not deleted.

    Raises
    ------
    BackupError
        There is state already, or a program uses it.
    DamagedError
        The archive is damaged.
    """
    state = find_state()
    if not path.is_file():
        raise _no_archive(path, state.folder / FOLDER)
    state.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".okamochi-restore-", dir=state.folder) as folder:
        unpacked = Path(folder)
        whole = _unpack(path, unpacked)
        parts = {name.split("/", 1)[0] for name in whole.files}
        places = [place for place in state.places() if place.part in parts]
        _check_unused([place.path for place in places])
        taken = [str(file) for place in places for file in _present(place)]
        if taken and not overwrite:
            raise BackupError(
                f"The restore would replace {', '.join(taken)}. Nothing was changed. To replace them: "
                f"{typed(f'-m deploy restore {path} --overwrite')} (or make restore BACKUP={path} "
                "ARGS=--overwrite). The present state will be moved aside, not deleted."
            )
        with one_writer(MODELS_LOCK):
            aside = _move_aside(state, places) if taken else None
            for part, target in places:
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.is_dir():
                    target.rmdir()  # it is empty; `move` would put the folder into it
                shutil.move(unpacked / part, target)
            for model in whole.models:
                _put_model(model, unpacked)
        if DATABASE in parts:
            Registry(f"sqlite:///{state.database}")  # opening it replaces the absolute paths in the database
    left_out = []
    if LOG in parts and state.log is None:
        left_out.append(
            f"the prediction log: to restore it, set {LOG_VARIABLE} to a folder and restore again"
        )
    return Restored(whole, aside, left_out)


def _no_archive(path: Path, folder: Path) -> BackupError:
    newest = max(folder.glob("okamochi-*.tar.gz"), default=None)
    found = f"There are no archives in {folder}" if newest is None else f"The newest is {newest}"
    what = "is no file" if path.exists() else "does not exist"
    return BackupError(
        f"{path} {what}; expected an archive of `make backup`: make restore BACKUP=FILE. {found}."
    )


def _unpack(path: Path, folder: Path) -> Manifest:
    """Unpack the archive into `folder`, and check each file against the manifest."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            archive.extractall(folder, filter="data")
    except FileNotFoundError:
        raise BackupError(f"{path} does not exist.") from None
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DamagedError(f"{path} cannot be unpacked: {error}") from error
    try:
        content = (folder / MANIFEST).read_bytes()
        found = msgspec.json.decode(content).get("format")
        if found != FORMAT:
            raise BackupError(f"{path} has format {found}, this version reads format {FORMAT}.")
        whole = msgspec.json.decode(content, type=Manifest)
    except (OSError, msgspec.MsgspecError, AttributeError) as error:
        raise DamagedError(f"The manifest of {path} cannot be read: {error}") from error
    present = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir()} - {
        MANIFEST
    }
    for name in sorted(present ^ whole.files.keys()):
        raise DamagedError(f"{path}: {name} is {'not in the manifest' if name in present else 'absent'}.")
    for name, file in whole.files.items():
        if manifest.digest(folder / name) != file.sha256:
            raise DamagedError(f"{path}: {name} is damaged, its SHA-256 is not the one in the manifest.")
    return whole


def _present(place: Place) -> list[Path]:
    """The existing files of a place, and its folder where it is not empty."""
    if place.path.is_dir():
        return [place.path] if any(place.path.iterdir()) else []
    endings = BESIDE_A_DATABASE if place.part == DATABASE else ("",)
    found = (place.path.with_name(place.path.name + ending) for ending in endings)
    return [file for file in found if file.exists()]


def _check_unused(paths: list[Path]) -> None:
    """Refuse while a program has one of the files open: it would go on writing to the file moved aside."""
    users = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            opened = [Path(file.path) for file in process.open_files()] if process.pid != os.getpid() else []
            used = [path for path in paths if any(file == path or path in file.parents for file in opened)]
            if used:
                users.append(f"process {process.pid} uses {used[0]} ({' '.join(process.cmdline())[:80]})")
    if users:
        raise BackupError(
            f"{'; '.join(users)}. Nothing was changed. Stop it (Ctrl-C in the terminal of make mlflow or "
            "make serve; wait for a training), then restore again."
        )


def _move_aside(state: State, places: list[Place]) -> Path:
    """Move existing state into a new folder beside the database."""
    aside = state.folder / FOLDER / f"replaced-{dt.datetime.now(dt.UTC):%Y-%m-%dT%H-%M-%S.%fZ}"
    aside.mkdir(parents=True)
    for place in places:
        for file in _present(place):
            shutil.move(file, aside / (place.part + file.name.removeprefix(place.path.name)))
    return aside


def _put_model(model: StoredModel, unpacked: Path) -> None:
    tag = store.put(unpacked / MODELS / _folder_of(model.tag), name=model.name, version=model.version)
    if tag != model.tag:
        raise DamagedError(
            f"The backup's model {model.tag} was stored as {tag}: its files are not those of that tag."
        )
    if model.signature:
        store.keep_signature(tag, model.signature)


def not_archived(whole: Manifest) -> list[str]:
    """The models that `models.lock` names and the archive does not have: a restore cannot serve them.

    Raises
    ------
    LockError
        `models.lock` cannot be read.
    """
    if LOCK not in whole.files:
        return []
    stored = {model.tag for model in whole.models}
    return [each.tag for each in models_lock.entries(MODELS_LOCK) if each.tag not in stored]


def served_again() -> str:
    """The command that serves what `models.lock` names; `make serve` alone serves its default use case."""
    names = (
        dict.fromkeys(each.name for each in models_lock.entries(MODELS_LOCK)) if MODELS_LOCK.exists() else ()
    )
    if not names:
        return "models.lock names no model. To serve one: make bundle USECASES=NAME, then bentoml serve."
    shown = " ".join(names)
    return (
        f'To serve {shown}: .venv/bin/bentoml serve, or make serve USECASES="{shown}" (of a use case of your '
        "own: its TOML file). A server that runs takes them within seconds."
    )


def contents(whole: Manifest) -> Iterator[str]:
    """The contents of an archive, one line for each part."""
    parts: dict[str, list[File]] = {}
    for name, file in whole.files.items():
        parts.setdefault(name.split("/", 1)[0], []).append(file)
    for part, files in parts.items():
        size = sum(file.size for file in files) / 1e6
        names = f": {', '.join(model.tag for model in whole.models)}" if part == MODELS else ""
        yield f"  {part}: {len(files)} file{'s' * (len(files) != 1)}, {size:.1f} MB{names}"


def read_manifest(path: Path) -> Manifest:
    """The manifest of an archive that this module wrote."""
    with tarfile.open(path, "r:gz") as archive:
        file = archive.extractfile(MANIFEST)
        return msgspec.json.decode(b"" if file is None else file.read(), type=Manifest)
