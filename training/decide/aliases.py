"""Which version is live: the aliases, and the way back.

An alias moves in one call and no call moves two, so the order matters: a registry that is lost
half-way leaves the old champion live, and running the same command again finishes the move.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from artifact import manifest
from training.interpreter import typed
from training.registry.records import CHALLENGER, CHAMPION, PREVIOUS

if TYPE_CHECKING:
    from training.registry.mlflow_registry import Registry
    from training.registry.records import Version

REPLACED = "okamochi.replaced"
"""Tag of a version that became champion: the number of the one that it took over from."""
MADE_CHAMPION_BY = "okamochi.made_champion_by"
"""Tag of a version that became champion: how it last did, `PROMOTION` or `ROLLBACK`."""
CHAMPION_AT = "okamochi.champion_at."
"""How tags of a version begin that say when it became champion; a time in UTC follows. The value is JSON:
`by`, and the number of the version that it `replaced`."""
PROMOTION, ROLLBACK = "promotion", "rollback"
GATE = "gate"
"""Tag of a version: what the gate said of it."""
SHOWN_VERSIONS = 8


class NothingToPromoteError(Exception):
    """There is no version to move to (exit code 2)."""

    exit_code = 2


class WhichVersionError(Exception):
    """The version to roll back to has to be named, or no version has that number (exit code 2)."""

    exit_code = 2


def make_champion(registry: Registry, version: Version, *, by: str = PROMOTION) -> None:
    """Move the aliases: `previous` to the old champion, then `champion` to this version.

    Parameters
    ----------
    by
        `PROMOTION` or `ROLLBACK`.
    """
    name = version.name
    old = registry.version(name, CHAMPION)
    if old is None or old.number != version.number:
        # Before any alias moves, and on the version that is not champion yet: should the registry be lost
        # after one of the next calls, the champion's own tags are still true, and a rollback finds its way.
        registry.tag(version, {MADE_CHAMPION_BY: by} | ({} if old is None else {REPLACED: old.number}))
    if old is not None and old.number != version.number:
        registry.set_alias(name, PREVIOUS, old)
    registry.set_alias(name, CHAMPION, version)
    if old is None or old.number != version.number:
        at = utc(time.time())
        change = {"by": by, "replaced": "" if old is None else old.number}
        registry.tag(version, {f"{CHAMPION_AT}{at}": json.dumps(change)})
    newest = registry.version(name, CHALLENGER)
    if newest is not None and newest.number == version.number:
        registry.delete_alias(name, CHALLENGER)


def utc(seconds: float) -> str:
    """Seconds since the epoch in ISO 8601, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rollback(registry: Registry, name: str, to: str | None = None) -> tuple[Version, Version]:
    """Make an older version live again; the version that is live now, and the one that was.

    Parameters
    ----------
    to
        The number of the version. It is needed where the last change was a rollback: the champion before is
        then the version that was rolled back from. Where it is live already, nothing changes.

    Raises
    ------
    NothingToPromoteError
        There is no champion, or none before it.
    WhichVersionError
        The last change was a rollback and `to` is None, or there is no version `to`.
    ArtifactError
        The files of the version are lost or damaged: the one that is live stays.
    """
    live = registry.version(name, CHAMPION)
    if live is None:
        raise NothingToPromoteError(f"{name} has no champion, so there is nothing to roll back.")
    before = _champion_before(registry, live) if to is None else _numbered(registry, name, to)
    if before.number != live.number:
        with TemporaryDirectory(prefix="okamochi-") as folder:
            manifest.load(registry.download(before, Path(folder)), name=name)
        make_champion(registry, before, by=ROLLBACK)
    return before, live


def _champion_before(registry: Registry, live: Version) -> Version:
    name = live.name
    if live.tags.get(MADE_CHAMPION_BY) == ROLLBACK:
        raise WhichVersionError(
            f"The last change of {name} was a rollback already: version {live.number} is champion again, "
            f"in place of version {live.tags.get(REPLACED)}. Nothing has changed. To go to another version, "
            f"name it: {typed(f'-m training rollback {name} --to VERSION')}. {_told_versions(registry, name)}"
        )
    before = registry.version(name, PREVIOUS)
    if before is not None and before.number == live.number:  # a move that was cut half-way
        before = registry.numbered(name, live.tags.get(REPLACED, ""))
    if before is None:
        raise NothingToPromoteError(
            f"{name} has no champion before version {live.number}, so there is nothing to roll back to."
        )
    return before


def _numbered(registry: Registry, name: str, number: str) -> Version:
    found = registry.numbered(name, number)
    if found is None:
        raise WhichVersionError(
            f"{name} has no version {number!r}. Nothing has changed. {_told_versions(registry, name)}"
        )
    return found


def _told_versions(registry: Registry, name: str) -> str:
    """Each version by its number, with what the gate said of it and the alias that it has."""
    aliases: dict[str, list[str]] = {}
    for alias in (CHAMPION, PREVIOUS, CHALLENGER):
        version = registry.version(name, alias)
        if version is not None:
            aliases.setdefault(version.number, []).append(alias)
    told = []
    for version in registry.versions(name)[:SHOWN_VERSIONS]:
        words = [*aliases.get(version.number, []), version.tags.get(GATE, "not judged")]
        told.append(f"{version.number} ({', '.join(words)})")
    return f"Its newest versions are: {', '.join(told)}."
