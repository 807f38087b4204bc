"""Which version is live: the aliases, and the way back.

An alias moves in one call and no call moves two, so the order matters: a registry that is lost
half-way leaves the old champion live, and running the same command again finishes the move.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from artifact import manifest, signing
from artifact.models_lock import percent_word
from training.interpreter import typed
from training.registry.records import CANARY, CANARY_PERCENT, CHALLENGER, CHAMPION, PREVIOUS, SIGNATURE

if TYPE_CHECKING:
    from training.registry.mlflow_registry import Registry
    from training.registry.records import Version

REPLACED = "okamochi.replaced"
"""Tag of a version that became champion: the number of the one that it took over from."""
MADE_CHAMPION_BY = "okamochi.made_champion_by"
"""Tag of a version that became champion: how it last did, `PROMOTION` or `ROLLBACK`."""
CHAMPION_AT = "okamochi.champion_at."
"""How tags of a version begin that say when it became champion; a time in UTC follows. The value is JSON:
`by`, the number of the version that it `replaced`, and of a change by a rule of `[live]` the `reason` and
`until`, the time of the last row that it was decided by."""
DECIDED = "okamochi.decided"
"""Tag of a version that a rule of `[live]` makes champion, set before the alias moves: its `Decision`."""
PROVEN = "okamochi.proven"
"""Tag of a champion that a rule found better than the one before it: `over` that number, as JSON, with the
`reason` and `until` of the decision."""
CANARY_STOPPED = "okamochi.canary_stopped."
"""How tags of a version begin that say when a server stopped it as a canary; a time in UTC follows. The value
is JSON: the `reason`, and the `percent` of the callers that it was to answer."""
PROMOTION, ROLLBACK = "promotion", "rollback"
GATE = "gate"
"""Tag of a version: what the gate said of it."""
SHOWN_VERSIONS = 8


@dataclass(frozen=True)
class Change:
    """How a version became champion once.

    Parameters
    ----------
    at
        ISO 8601 in UTC.
    by
        `PROMOTION` or `ROLLBACK`.
    replaced
        The number of the version whose place it took; empty for the first champion.
    reason, until
        Of a change by a rule: why, and the time of the last row that it was decided by; else empty.
    """

    at: str
    by: str
    replaced: str
    reason: str = ""
    until: str = ""


@dataclass(frozen=True)
class Decision:
    """Why a rule of `[live]` changes the champion, and the time of the last row that it was decided by."""

    reason: str
    until: str


def changes_of(version: Version) -> list[Change]:
    """Each time that a version became champion, as its tags tell, the oldest first.

    Two followers that acted on one decision at the same moment have left two tags of one change.
    """
    found: list[Change] = []
    for key, tag in sorted(version.tags.items()):
        if key.startswith(CHAMPION_AT):
            change = Change(key.removeprefix(CHAMPION_AT), **json.loads(tag))
            if not change.until or change.until not in {other.until for other in found}:
                found.append(change)
    return found


@dataclass(frozen=True)
class Stop:
    """How a server stopped a version that was a canary.

    Parameters
    ----------
    at
        ISO 8601 in UTC.
    percent
        Of the callers that it was to answer.
    """

    at: str
    reason: str
    percent: float


def stops_of(version: Version) -> list[Stop]:
    """Each time that a version was stopped as a canary, the oldest first."""
    return [
        Stop(key.removeprefix(CANARY_STOPPED), **json.loads(tag))
        for key, tag in sorted(version.tags.items())
        if key.startswith(CANARY_STOPPED)
    ]


def record_stop(
    registry: Registry, version: Version, stop: Stop, *, is_canary: bool, begun: bool = False
) -> bool:
    """Record that a server has stopped a canary, and take its alias away: so all servers drop it.

    The tag comes last: a caller that was stopped before it was set calls again. A call after it was set
    changes nothing, even if a person has set the alias again since then.

    Parameters
    ----------
    is_canary
        Whether the version has the alias for this percentage. If not, a person or another server was quicker.
    begun
        Whether an earlier call has taken the alias away, perhaps.

    Returns
    -------
    Whether anything has changed.
    """
    before = stops_of(version)
    if stop.at in {other.at for other in before}:
        return False
    if is_canary:
        registry.delete_alias(version.name, CANARY)
    elif not begun and stop.percent in {other.percent for other in before}:
        return False
    said = {"reason": stop.reason, "percent": stop.percent}
    registry.tag(version, {f"{CANARY_STOPPED}{stop.at}": json.dumps(said)})
    return True


class NothingToPromoteError(Exception):
    """There is no version to move to (exit code 2)."""

    exit_code = 2


class WhichVersionError(Exception):
    """The version to roll back to has to be named, or no version has that number (exit code 2)."""

    exit_code = 2


def make_champion(
    registry: Registry, version: Version, *, by: str = PROMOTION, decision: Decision | None = None
) -> None:
    """Move the aliases: `previous` to the old champion, then `champion` to this version.

    Parameters
    ----------
    by
        `PROMOTION` or `ROLLBACK`.
    decision
        Of a rule of `[live]`, where that moves them.
    """
    name = version.name
    if signing.configured() and SIGNATURE not in version.tags:
        sign(registry, version)
    old = registry.version(name, CHAMPION)
    if old is None or old.number != version.number:
        # Before any alias moves, and on the version that is not champion yet: should the registry be lost
        # after one of the next calls, the champion's own tags are still true, and a rollback finds its way.
        tags = {MADE_CHAMPION_BY: by} | ({} if old is None else {REPLACED: old.number})
        if decision is not None:
            tags[DECIDED] = json.dumps(asdict(decision))
        elif DECIDED in version.tags:
            tags[DECIDED] = ""
        registry.tag(version, tags)
    if old is not None and old.number != version.number:
        registry.set_alias(name, PREVIOUS, old)
    registry.set_alias(name, CHAMPION, version)
    if old is None or old.number != version.number:
        _record_change(registry, version, by, "" if old is None else old.number, decision)
    newest = registry.version(name, CHALLENGER)
    if newest is not None and newest.number == version.number:
        registry.delete_alias(name, CHALLENGER)


def _record_change(
    registry: Registry, version: Version, by: str, replaced: str, decision: Decision | None
) -> None:
    change = {"by": by, "replaced": replaced} | ({} if decision is None else asdict(decision))
    registry.tag(version, {f"{CHAMPION_AT}{utc(time.time())}": json.dumps(change)})


def complete_change(registry: Registry, champion: Version) -> bool:
    """Record the change that a rule made, where it was killed between moving the alias and recording it.

    Returns
    -------
    Whether there was anything to record.
    """
    said = champion.tags.get(DECIDED)
    decision = Decision(**json.loads(said)) if said else None
    if decision is None or decision.until in {change.until for change in changes_of(champion)}:
        return False
    by, replaced = (champion.tags.get(key, "") for key in (MADE_CHAMPION_BY, REPLACED))
    _record_change(registry, champion, by, replaced, decision)
    return True


def sign(registry: Registry, version: Version) -> str:
    """Sign a version's artifact; keep the signature as its tag, and give it.

    Raises
    ------
    ArtifactError
        Its files are lost or damaged.
    SigningKeyError
        The key cannot be used.
    """
    with TemporaryDirectory(prefix="okamochi-") as folder:
        directory = registry.download(version, Path(folder))
        manifest.load(directory, name=version.name)
        signature = signing.sign(directory, name=version.name, version=version.number)
    registry.tag(version, {SIGNATURE: signature})
    return signature


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


def set_role(
    registry: Registry, name: str, role: str, number: str | None = None, percent: float | None = None
) -> Version:
    """Let a version stand beside the champion.

    Parameters
    ----------
    role
        `shadow` or `canary`.
    number
        None: the challenger.
    percent
        Of a canary: the percentage of the callers; None: as the version's tag or the follower has it.

    Raises
    ------
    NothingToPromoteError
        There is no champion beside which it could stand, or no challenger.
    WhichVersionError
        No version has that number, or it is the champion itself.
    """
    champion = registry.version(name, CHAMPION)
    if champion is None:
        raise NothingToPromoteError(
            f"{name} has no champion, so it cannot have a {role}: promote a version first."
        )
    version = registry.version(name, CHALLENGER) if number is None else _numbered(registry, name, number)
    if version is None:
        raise NothingToPromoteError(
            f"{name} has no challenger: name a version with --version. {_told_versions(registry, name)}"
        )
    if version.number == champion.number:
        raise WhichVersionError(f"Version {version.number} of {name} is the champion. Nothing has changed.")
    if percent is not None:
        registry.tag(version, {CANARY_PERCENT: percent_word(percent)})
    registry.set_alias(name, role, version)
    return version
