"""`deploy follow`: brings each new champion, shadow and canary into the model store and `models.lock`.

A server that watches `models.lock` then opens it, checks it and serves it. Whatever goes wrong here, the file
stays whole and keeps naming what was served before.
"""

from __future__ import annotations

import os
import select
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from artifact import models_lock, store
from artifact.manifest import ArtifactError
from artifact.models_lock import Entry, LockError
from deploy import program
from deploy.bundle import MODELS_LOCK, NoChampionError, name_of, one_writer, put_champion
from deploy.follow_roles import RoleFollower
from training.registry.mlflow_registry import read_alias
from training.registry.records import CHAMPION, RegistryError
from training.settings import UseCaseError, live_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from deploy.live_rules import Rules
    from training.registry.records import Version

EVERY_S = 5.0
"""Seconds between two looks at the registry."""
RULES_EVERY_S = 60.0
"""Seconds between two looks at the prediction log, where a rule of `[live]` is switched on."""
FIRST_RETRY_S, MAX_RETRY_S = 10.0, 600.0
"""Seconds until a version that was refused is tried again: twice as many each time, up to a bound."""


@dataclass
class Refused:
    """A version that could not be brought into the store, and when it is tried again (`time.monotonic`)."""

    version: tuple[str, str]
    wait_s: float
    again_at: float


class Follower:
    """Makes `models.lock` name the champions of the registry; one `look` at a time.

    Parameters
    ----------
    names
        Use cases or their TOML files; none: the names that the file holds at each look.
    keep
        Stored versions of a name beside the one that the file names; older ones are removed. None: all stay.
    tell
        Is given each sentence that a person wants to read. The same state is told once.
    rules_every_s
        Seconds between two looks at what the rules of `[live]` say.
    canary_percent
        Percentage of a canary whose version has no tag of it.
    """

    def __init__(
        self,
        names: Sequence[str] = (),
        lock: Path = MODELS_LOCK,
        *,
        keep: int | None = None,
        tell: Callable[[str], None] = print,
        rules_every_s: float = RULES_EVERY_S,
        canary_percent: float = 5.0,
    ) -> None:
        self._asked = {name_of(each): each for each in names}
        self._lock = lock
        self._keep = keep
        self._tell = tell
        self._settled: dict[str, tuple[tuple[str, str], str]] = {}  # the version and its tag
        self._refused: dict[str, Refused] = {}
        self._told: dict[str, str] = {}
        self._rules_every_s = rules_every_s
        self._rules: Rules | None = None
        self._roles = RoleFollower(lock, canary_percent, self._say)

    def look(self) -> bool:
        """Look at each alias once and bring what is new; whether every champion is in the file now."""
        try:
            locked = models_lock.read(self._lock)
        except LockError as error:
            self._say("the file", f"{error} Nothing changes until then.")
            return False
        self._say("the file", "")
        done = True
        for name in self._asked or locked:
            try:
                self._look_at_rules(name, self._asked.get(name, name))
                done &= self._look_at(name, locked.get(name))
                done &= self._roles.look(name)
            except RegistryError as error:
                self._say("the registry", f"{error} What is served stays.")
                return False
            except NoChampionError as error:
                self._say(name, f"{error}. What is served stays.")
                done = False
        if self._told.get("the registry"):
            self._tell("The registry answers again.")
            self._say("the registry", "")
        return done

    def _look_at_rules(self, name: str, asked_as: str) -> None:
        if self._rules is None:
            with suppress(UseCaseError):  # which the rules tell
                if not live_of(asked_as).acts:
                    return
            # Only where a rule is switched on: scikit-learn and pandas come with it, 190 MB.
            from deploy.live_rules import Rules

            self._rules = Rules(
                self._lock, tell=self._say_of_rules, announce=self._tell, every_s=self._rules_every_s
            )
        self._rules.look(name, asked_as)

    def _look_at(self, name: str, tag: str | None) -> bool:
        version = read_alias(name, CHAMPION)
        found = None if version is None else _identity(version)
        if found is not None and self._settled.get(name) == (found, tag):
            return True
        refused = self._refused.get(name)
        if refused is not None and refused.version == found and time.monotonic() < refused.again_at:
            return False
        try:
            self._bring(name, tag)
        except (NoChampionError, RegistryError):
            raise
        except Exception as error:  # noqa: BLE001 - a damaged file, a full disk: the next version may be whole
            self._refuse(name, version, error)
            return False
        return name in self._settled and self._settled[name][0] == found

    def _bring(self, name: str, tag: str | None) -> None:
        bundled = put_champion(name, self._asked.get(name, name))
        with one_writer(self._lock):
            now = read_alias(name, CHAMPION)
            if now is None or now.number != bundled.version:
                return  # The alias has moved since: the next look brings that version.
            if models_lock.read(self._lock).get(name) != bundled.tag:
                models_lock.update(self._lock, [Entry(name, bundled.tag)])
        self._settled[name] = (_identity(now), bundled.tag)
        self._refused.pop(name, None)
        self._say(name, "")
        if tag != bundled.tag:
            before = f", in place of {tag}" if tag else ""
            self._tell(
                f"{name}: champion version {bundled.version} is in {self._lock.name} as {bundled.tag}{before}"
            )
        if self._keep is not None:
            self._prune(name, bundled.tag, self._keep)

    def _refuse(self, name: str, version: Version | None, error: Exception) -> None:
        found = ("", "") if version is None else _identity(version)
        before = self._refused.get(name)
        again = before is not None and before.version == found
        wait = min(before.wait_s * 2, MAX_RETRY_S) if before is not None and again else FIRST_RETRY_S
        self._refused[name] = Refused(found, wait, time.monotonic() + wait)
        reason = str(error) if isinstance(error, ArtifactError) else f"{type(error).__name__}: {error}"
        self._say(
            name,
            f"{name}: champion version {found[0]} is refused and the one that is served stays: {reason}. "
            "It is tried again later, at most every "
            f"{MAX_RETRY_S / 60:.0f} minutes.",
        )

    def _prune(self, name: str, tag: str, keep: int) -> None:
        """Remove stored versions of the name, the oldest first, but for `keep` and those in the file."""
        used = {tag, *(entry.tag for entry in models_lock.entries(self._lock))}
        others = sorted(
            (path.stat().st_mtime, found)
            for found, path, metadata in store.all_models()
            if metadata["name"] == name and found not in used
        )
        with store.one_writer():
            for _, old in others[: max(len(others) - keep, 0)]:
                store.remove(old)

    def _say_of_rules(self, name: str, sentence: str) -> None:
        self._say(f"the rules of {name}", sentence)

    def _say(self, about: str, sentence: str) -> None:
        """Tell a sentence, unless it is what was told of the same thing last."""
        if sentence and sentence != self._told.get(about):
            self._tell(sentence)
        self._told[about] = sentence


def follow(
    names: Sequence[str],
    lock: Path = MODELS_LOCK,
    *,
    every_s: float = EVERY_S,
    keep: int | None = None,
    once: bool = False,
    canary_percent: float = 5.0,
    end_with_stdin: bool = False,
) -> int:
    """Follow the registry until a signal comes: 0. With `once`, look once: 0 if the file has all, else 1.

    Raises
    ------
    UseCaseError
        A TOML file that is named cannot be read.
    """
    stopped = program.catch_signals()
    # A database file that is restored meanwhile is another file: MLflow must not keep the old one open.
    if not any(key.startswith("MLFLOW_SQLALCHEMYSTORE_") for key in os.environ):
        os.environ["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "NullPool"
    follower = Follower(
        names,
        lock,
        keep=keep,
        canary_percent=canary_percent,
        tell=lambda sentence: print(_timed(sentence), flush=True),
    )
    while True:
        done = follower.look()
        if once:
            return 0 if done else 1
        until = time.monotonic() + every_s
        while time.monotonic() < until:
            if stopped or (end_with_stdin and _ended(sys.stdin)):
                return 0
            time.sleep(program.LOOK_EVERY_S)


def _ended(stream: TextIO) -> bool:
    """Whether the other end of a pipe is closed."""
    return bool(select.select([stream], [], [], 0)[0]) and not os.read(stream.fileno(), 1)


def _identity(version: Version) -> tuple[str, str]:
    """A version's number, and the run that made it: it tells registries apart."""
    return version.number, version.run_id


def _timed(sentence: str) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} follow: {sentence}"
