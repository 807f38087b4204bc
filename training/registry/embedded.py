"""The embedded registry, an SQLite database of MLflow's: what is done to it without MLflow."""

from __future__ import annotations

import fcntl
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from training.registry.records import Version

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEME = "sqlite:///"


def database_of(uri: str) -> Path | None:
    """The database file that a tracking URI names; None for a server or another database."""
    return Path(uri.removeprefix(SCHEME)).resolve() if uri.startswith(SCHEME) else None


def read_alias_in(path: Path, name: str, alias: str) -> Version | None:
    """The version that an alias names; sqlite3.Error where the tables are not those that we know.

    Importing MLflow takes seconds, this takes a millisecond.
    """
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as database:
        row = database.execute(
            "SELECT v.version, v.run_id, v.creation_time FROM registered_model_aliases a "
            "JOIN model_versions v ON v.name = a.name AND v.version = a.version "
            "WHERE a.name = ? AND a.alias = ? AND v.current_stage != 'Deleted_Internal'",
            (name, alias),
        ).fetchone()
        if row is None:
            return None
        tags = database.execute(
            "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?", (name, row[0])
        ).fetchall()
    return Version(name, str(row[0]), row[1] or "", dict(tags), row[2] / 1000)


_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Where MLflow's tables hold absolute paths of files."""


def relocate(database: Path, artifacts: Path) -> None:
    """Let a checkout that was moved or copied find its files again: its database holds absolute paths."""
    if not database.is_file() or not artifacts.is_dir():
        return
    here = artifacts.as_uri()
    try:
        with closing(sqlite3.connect(database, timeout=5)) as connection, connection:
            locations = connection.execute(
                "SELECT artifact_location FROM experiments WHERE name LIKE 'okamochi/%'"
            ).fetchall()
            roots = {location.rsplit("/", 1)[0] for (location,) in locations if location}
            for root in roots - {here}:
                if not (root.startswith("file:") and root.endswith("/mlruns")):
                    continue
                for table, column in _PLACES:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608 - our names
                        f"WHERE substr({column}, 1, ?) = ?",
                        (here, len(root) + 1, len(root) + 1, root + "/"),
                    )
    except sqlite3.Error:
        return  # Other tables, or no permission to write: MLflow's own error about a lost file is clearer.


@contextmanager
def one_process(database: Path) -> Iterator[None]:
    """One process at a time: two that create or migrate MLflow's tables at the same time both fail."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(f"{database.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
