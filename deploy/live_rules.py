"""The rules of `[live]`: the follower promotes a better shadow, or goes back to the champion before.

What decides is `training.decide.comparison`. Here the registry is changed, so that a second follower, and
one that was killed at any step, find the change as it is, and complete it.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from artifact.manifest import ArtifactError
from deploy.bundle import one_writer
from training.decide.aliases import (
    MADE_CHAMPION_BY,
    PROMOTION,
    PROVEN,
    REPLACED,
    ROLLBACK,
    Decision,
    changes_of,
    complete_change,
    make_champion,
)
from training.decide.comparison import CannotCompareError, Contender, compare, is_before, rule
from training.decide.live_log import NothingToJudgeError
from training.decide.live_pairs import read_pairs
from training.decide.rivals import contender
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION, SHADOW
from training.settings import UseCaseError, live_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from training.registry.records import Version
    from training.settings import Live

LOG_VARIABLE = "OKAMOCHI_PREDICTION_LOG"
MAX_FRACTION = 0.05
"""The most of the time that reading logs may take: a look that takes long is followed by a longer pause."""


class Rules:
    """Looks at the rules of each name now and then, and does what they say.

    Parameters
    ----------
    lock
        The file whose writers take turns: so do the followers of one file.
    tell
        Is given what a person wants to read of a name: `tell(name, sentence)`; "" once that is over.
    announce
        Is given each change.
    every_s
        Seconds between two looks at a name, or more where looking takes long; 0: each time that it is called.
    """

    def __init__(
        self,
        lock: Path,
        *,
        tell: Callable[[str, str], None],
        announce: Callable[[str], None],
        every_s: float,
    ) -> None:
        self._lock = lock
        self._tell = tell
        self._announce = announce
        self._every_s = every_s
        self._again_at: dict[str, float] = {}
        self._contenders: dict[tuple[str, str, str], Contender] = {}

    def look(self, name: str, asked_as: str) -> None:
        """Do what the rules of a name say, if it is time to look.

        Raises
        ------
        RegistryError
            What was begun is completed by a later look.
        """
        began = time.monotonic()
        if began < self._again_at.get(name, began):
            return
        try:
            live = live_of(asked_as)
            self._tell(name, self._look(name, live) if live.acts else "")
        except (ArtifactError, CannotCompareError, NothingToJudgeError, UseCaseError) as error:
            self._tell(name, f"{name}: the rules of [live] do nothing: {str(error).rstrip('.')}.")
        if self._every_s:
            took = time.monotonic() - began
            self._again_at[name] = began + max(self._every_s, took / MAX_FRACTION)

    def _look(self, name: str, live: Live) -> str:
        """The state, as a sentence; empty where there is nothing to tell."""
        switched = [key for key in ("promote_shadow", "roll_back") if getattr(live, key)]
        target = os.environ.get(LOG_VARIABLE, "")
        if not target:
            return (
                f"{name}: [live] has {' and '.join(f'{key} = true' for key in switched)}, but {LOG_VARIABLE} "
                "is not set for `deploy follow`, so no outcome is known and no rule changes anything."
            )
        registry = Registry()
        champion = registry.version(name, CHAMPION)
        if champion is None:
            return ""  # which the follower tells
        if complete_change(registry, champion):
            champion = registry.version(name, CHAMPION) or champion
        shadow = self._settled_shadow(registry, champion, live)
        if shadow is None:
            return ""
        before = is_before(champion, shadow)
        if not (live.roll_back if before else live.promote_shadow):
            return ""
        rivals = (self._contender(registry, champion), self._contender(registry, shadow))
        pairs = read_pairs(target, name, champion.number, shadow.number, known_only=True)
        found = compare(*rivals, pairs, live, with_figures=False)
        ruling = rule(found, live, before=before)
        decision = Decision(ruling.reason, found.until)
        if ruling.action == "keep":
            if before:  # another shadow stays, for a person to look at
                _release(registry, champion, shadow, decision)
            return f"{name}: {ruling.reason}"
        if ruling.action in {"promote", "roll back"}:
            by = ROLLBACK if ruling.action == "roll back" else PROMOTION
            self._change(registry, champion, shadow, live, by=by, decision=decision)
        return ""

    def _settled_shadow(self, registry: Registry, champion: Version, live: Live) -> Version | None:
        """The shadow; a shadow that has become champion gives its place to the champion before."""
        name = champion.name
        shadow = registry.version(name, SHADOW)
        if shadow is not None and shadow.number != champion.number:
            return shadow
        before = self._to_watch(registry, champion) if live.roll_back else None
        if before is not None:
            registry.set_alias(name, SHADOW, before)
            self._announce(
                f"{name}: version {before.number}, the champion before version {champion.number}, is its "
                "shadow now, since [live] has roll_back = true"
            )
        elif shadow is not None:
            registry.delete_alias(name, SHADOW)
        return before

    def _to_watch(self, registry: Registry, champion: Version) -> Version | None:
        """The champion before, unless that is how this one came back, or it was found worse already."""
        tags = champion.tags
        number = tags.get(REPLACED, "")
        proven = json.loads(tags.get(PROVEN) or "{}").get("over")
        if not number or tags.get(MADE_CHAMPION_BY, PROMOTION) != PROMOTION or proven == number:
            return None
        return registry.numbered(champion.name, number)

    def _change(
        self,
        registry: Registry,
        champion: Version,
        shadow: Version,
        live: Live,
        *,
        by: str,
        decision: Decision,
    ) -> None:
        name = champion.name
        contender(registry, shadow)  # its files may have been lost since they were opened
        with one_writer(self._lock):
            now = [registry.version(name, alias) for alias in (CHAMPION, SHADOW)]
            if [_state(each) for each in now] != [_state(each) for each in (champion, shadow)]:
                return  # somebody was quicker: the next look begins with what is there then
            make_champion(registry, shadow, by=by, decision=decision)
        self._announce(f"{name}: version {shadow.number} is champion by a rule of [live]. {decision.reason}")
        live_again = registry.version(name, CHAMPION)
        if live_again is not None:
            self._settled_shadow(registry, live_again, live)

    def _contender(self, registry: Registry, version: Version) -> Contender:
        """With the signature of its artifact, which is downloaded once."""
        key = version.name, version.number, version.run_id
        if key not in self._contenders:
            self._contenders[key] = contender(registry, version)
        return Contender(version, self._contenders[key].signature)


def _release(registry: Registry, champion: Version, before: Version, decision: Decision) -> None:
    """End the watch over a champion that has proven better than the one before."""
    said = {"over": before.number, **asdict(decision)}
    registry.tag(champion, {PROVEN: json.dumps(said)})
    registry.delete_alias(champion.name, SHADOW)


def _state(version: Version | None) -> tuple[str, list[dict[str, str]]] | None:
    """A version and all that has made it champion."""
    return None if version is None else (version.number, [asdict(each) for each in changes_of(version)])
