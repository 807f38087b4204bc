"""A finished training is kept in a folder until the registry has it."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from artifact import manifest
from training.model_card import without_pictures
from training.registry.records import CHALLENGER, DataInput, TrialRun

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from training.registry.mlflow_registry import Registry
    from training.registry.records import Version


class BusyError(Exception):
    """Another run of the same use case is in progress (exit code 1)."""

    exit_code = 1


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """A finished training that is not in MLflow yet, as it is kept in `.okamochi/pending/NAME`.

    Parameters
    ----------
    baseline
        All metrics of the baseline on the test rows.
    key
        The digest of everything that it depends on; a run with another key trains again.
    data
        None for a model that no table measured.
    logged
        How many of `trials` are in MLflow already.
    """

    key: str
    name: str
    about: str
    run_id: str
    title: str
    begun: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    baseline: dict[str, float]
    folds: dict[str, list[float]]
    tags: dict[str, str]
    note: str
    data: DataInput | None
    trials: list[TrialRun]
    logged: int


def pending(folder: Path, key: str) -> Finished | None:
    """The training that is kept in the folder, if it has the same table, settings and budget."""
    try:
        finished = msgspec.json.decode((folder / "finished.json").read_bytes(), type=Finished)
        manifest.load(folder / "okamochi", name=finished.name)
    except (OSError, msgspec.MsgspecError, manifest.ArtifactError):
        return None
    return finished if finished.key == key else None


def save(finished: Finished, folder: Path) -> Finished:
    """Write it into the folder atomically."""
    half = folder / "finished.json.half"
    half.write_bytes(msgspec.json.encode(finished))
    half.replace(folder / "finished.json")
    return finished


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Lock the use case, since two runs would write to one folder; BusyError if another run has the lock."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BusyError(
                f"Another run of {folder.name} is in progress in {folder.parent}; wait for its end."
            ) from None
        yield


def record(registry: Registry, finished: Finished, folder: Path) -> Version:
    """Log a finished training in MLflow, except what is there already; returns the registered version."""
    artifact = manifest.load(folder / "okamochi", name=finished.name)
    if not registry.has_run(finished.run_id):  # another registry than at the start of the training
        run_id = registry.start(finished.name, finished.title, finished.begun, description=finished.about)
        finished = save(msgspec.structs.replace(finished, run_id=run_id, logged=0), folder)
    for number, trial in enumerate(finished.trials[finished.logged :], start=finished.logged + 1):
        registry.trial(finished.name, finished.run_id, trial)
        finished = save(msgspec.structs.replace(finished, logged=number), folder)
    on_test = {key: value for key, value in finished.metrics.items() if key.startswith("test_")}
    registry.describe(
        finished.run_id,
        title=finished.title,
        params=finished.params,
        metrics={key: value for key, value in finished.metrics.items() if key not in on_test},
        folds=finished.folds,
        tags={key: value for key, value in finished.tags.items() if key not in on_test},
        note=without_pictures(finished.note),
        card=finished.note,
        data=finished.data,
    )
    registry.files(finished.run_id, folder / "pictures", "pictures")
    version = registry.version_of_run(finished.name, finished.run_id)
    if version is None:
        version = registry.register(
            artifact,
            finished.run_id,
            tags=finished.tags,
            metrics=on_test,
            description=without_pictures(finished.note),
            about=finished.about,
        )
        registry.set_alias(finished.name, CHALLENGER, version)
    registry.finish(finished.run_id)
    return version
