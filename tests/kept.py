"""What tests keep between sessions, and the empty registry among it."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def cache() -> Path:
    """Outside the tree, as a clone is often a fresh one."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("OKAMOCHI_TEST_CACHE") or Path(home) / "okamochi")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one session at a time in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def empty_registry(folder: Path) -> str:
    """The tracking URI of a new database of MLflow's in `folder`.

    A copy, as MLflow takes 1.3 s of processor time to make its tables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = cache() / "registries" / f"{version('mlflow')}.db"
    with locked(kept.with_suffix(".lock")):
        if not kept.exists():
            _make_tables(kept)
    shutil.copyfile(kept, folder / "mlflow.db")
    return f"sqlite:///{folder}/mlflow.db"


def _make_tables(path: Path) -> None:
    from training.registry.mlflow_registry import Registry

    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    Registry(f"sqlite:///{new}")
    with closing(sqlite3.connect(new)) as database, database:
        database.execute("DELETE FROM experiments")  # it has the path of this folder; MLflow makes it again
    new.replace(path)
