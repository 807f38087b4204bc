"""The database of a study that several processes share."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import optuna
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from training.registry.place import shown_uri

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

SQLITE_LOCK_S = 60
"""A wait for the database file while another process writes. A busy machine needs more than the usual 5 s."""
STORAGE_TRIES, STORAGE_PAUSE_S = 5, 1.0
"""Processes that find an empty database at the same time all create its tables, and all but one fail."""


class StorageError(Exception):
    """The database of a shared study cannot be read or written (exit code 4)."""

    exit_code = 4


@contextmanager
def reporting_failures(storage: str | None) -> Iterator[None]:
    """Say in a sentence that the study's database failed."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise StorageError(
            f"The Optuna storage {shown_uri(storage or '')} failed: {reason}. "
            "Trials that are finished stay there; start it and run the same command again."
        ) from error


def open_storage(url: str) -> optuna.storages.RDBStorage:
    options: dict[str, Any] = {"pool_pre_ping": True}
    if url.startswith("sqlite"):
        options["connect_args"] = {"timeout": SQLITE_LOCK_S}
    for attempt in range(STORAGE_TRIES):
        try:
            storage = optuna.storages.RDBStorage(url, engine_kwargs=options)
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError):
            if attempt == STORAGE_TRIES - 1:
                raise
            time.sleep(STORAGE_PAUSE_S)
        else:
            if url.startswith("sqlite"):
                _lock_before_reading(storage.engine)
            return storage
    raise AssertionError


def _lock_before_reading(engine: Engine) -> None:
    """Let each transaction take SQLite's lock as it begins.

    SQLite has no `SELECT ... FOR UPDATE`, by which Optuna takes a waiting trial, and Python's driver begins a
    transaction at its first write only: two processes would read that a trial waits, and both would run it.
    """

    @event.listens_for(engine, "connect")
    def let_us_begin(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
