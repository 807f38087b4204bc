"""The follower's part for the aliases `shadow` and `canary`: their versions stand beside the champion."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import structs

from artifact import canary_stop, models_lock
from artifact.manifest import ArtifactError
from artifact.models_lock import CANARY, SHADOW, Entry, role_of
from deploy.bundle import NoVersionError, one_writer, put_beside
from training.decide.aliases import Stop, record_stop
from training.registry.mlflow_registry import Registry, read_alias
from training.registry.records import CANARY_PERCENT, SIGNATURE, RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from artifact.canary_stop import CanaryStop
    from training.registry.records import Version

RETRY_S = 60.0
"""Seconds until a version that was refused is tried again."""


@dataclass
class _Refused:
    version: tuple[str, ...]
    again_at: float  # by `time.monotonic`


class RoleFollower:
    """Makes models.lock name the shadows and canaries of the registry's aliases.

    Parameters
    ----------
    percent
        Of a canary whose version has no tag `CANARY_PERCENT`.
    say
        Is given what a sentence is about, and the sentence; the same one is told once.
    """

    def __init__(self, lock: Path, percent: float, say: Callable[[str, str], None]) -> None:
        self._lock = lock
        self._percent = percent
        self._say = say
        self._settled: dict[tuple[str, str], tuple[tuple[str, ...], Entry | None]] = {}
        self._refused: dict[tuple[str, str], _Refused] = {}

    def look(self, name: str) -> bool:
        """Bring a name's new shadow and canary into the file; False if one of them is refused.

        Raises
        ------
        RegistryError
            The registry cannot be read.
        LockError
        """
        self._look_at_stop(name)
        found = {entry.slot: entry for entry in models_lock.entries(self._lock)}
        if (name, models_lock.CHAMPION) not in found:
            return True
        done = [self._look_at(name, role, found) for role in (SHADOW, CANARY)]
        return all(done)

    def _look_at_stop(self, name: str) -> None:
        """Record in the registry that the server of this file has stopped its canary."""
        about = f"the stopped canary of {name}"
        try:
            stop = canary_stop.read(self._lock, name)
        except ArtifactError as error:
            self._say(about, f"{error}. So no other server is told of the canary of {name} that is stopped.")
            return
        if stop is None:
            self._say(about, "")
            return
        registry = Registry()
        version = registry.numbered(name, stop.version)
        if version is not None and version.run_id == stop.run_id:
            is_canary = self._is_canary(registry.version(name, CANARY), stop)
            if is_canary:
                with suppress(OSError):  # without a note of its own it is recorded as well
                    canary_stop.write(self._lock, name, structs.replace(stop, begun=True))
            told = Stop(stop.at, stop.reason, stop.percent)
            if record_stop(registry, version, told, is_canary=is_canary, begun=stop.begun):
                removed = is_canary or stop.begun
                then = (
                    "alias is removed, so that every server drops it" if removed else "alias had gone before"
                )
                self._say(
                    about,
                    f"the canary of {name}, version {stop.version}, was stopped by its server: "
                    f"{stop.reason}. MLflow has the reason now, and its {then}",
                )
        canary_stop.remove(self._lock, name)

    def _is_canary(self, version: Version | None, stop: CanaryStop) -> bool:
        """Whether the registry still asks for the canary that was stopped, with the same percentage."""
        if version is None or version.number != stop.version:
            return False
        try:
            return self._percent_of(version) == stop.percent
        except NoVersionError:
            return False

    def _look_at(self, name: str, role: str, found: dict[tuple[str, str], Entry]) -> bool:
        version = read_alias(name, role)
        about = f"the {role} of {name}"
        champion, now = found[name, models_lock.CHAMPION], found.get((name, role))
        if version is None:
            self._take_away(about, now)
            return True
        tags = (version.tags.get(key, "") for key in (CANARY_PERCENT, SIGNATURE))
        wanted = (version.number, version.run_id, *tags, champion.tag)
        if self._settled.get((name, role)) == (wanted, now):
            return True  # to bring it again would read every file of both models, at each look
        refused = self._refused.get((name, role))
        if refused is not None and refused.version == wanted and time.monotonic() < refused.again_at:
            return False
        try:
            line = self._bring(name, role, version, now, champion)
        except RegistryError:
            raise
        except Exception as error:  # noqa: BLE001 - a damaged file, a full disk: the next version may be whole
            self._settled.pop((name, role), None)
            self._refused[name, role] = _Refused(wanted, time.monotonic() + RETRY_S)
            self._say(about, f"{about}, version {version.number}, is refused and nothing changes: {error}")
            return False
        self._settled[name, role] = (wanted, line)
        self._refused.pop((name, role), None)
        return True

    def _bring(
        self, name: str, role: str, version: Version, now: Entry | None, champion: Entry
    ) -> Entry | None:
        """Store a version and write its line; None if it is the champion, which needs no second line."""
        about = f"the {role} of {name}"
        percent = self._percent_of(version) if role == CANARY else 0.0
        bundled = put_beside(name, role, {name: champion.tag})
        if bundled.tag == champion.tag:
            self._take_away(about, now)
            return None
        entry = Entry(name, bundled.tag, role, percent)
        if entry == now:
            self._say(about, "")
            return entry
        with one_writer(self._lock):
            models_lock.update(self._lock, [entry])
        self._say(about, f"{about} is version {bundled.version}, as {bundled.tag} {entry.word}")
        return entry

    def _percent_of(self, version: Version) -> float:
        said = version.tags.get(CANARY_PERCENT)
        if said is None:
            return self._percent
        try:
            return role_of(f"{CANARY}={said}")[1]
        except ValueError as error:
            raise NoVersionError(f"its tag {CANARY_PERCENT} is {said!r}; expected {error}") from None

    def _take_away(self, about: str, now: Entry | None) -> None:
        """Remove a line whose alias is gone, or whose version has become the champion."""
        if now is None:
            return
        with one_writer(self._lock):
            models_lock.update(self._lock, [], removed=[now.slot])
        self._say(about, f"{about} is removed; {now.tag} is no longer in {self._lock.name}")
