"""What became of a model's versions, and why: from the tags that the gate and each change leave in MLflow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from training.decide.aliases import (
    GATE,
    MADE_CHAMPION_BY,
    PROMOTION,
    REPLACED,
    Change,
    changes_of,
    stops_of,
    utc,
)
from training.decide.promote import REASONS
from training.registry.records import CHAMPION

if TYPE_CHECKING:
    from training.registry.mlflow_registry import Registry
    from training.registry.records import Version

REGISTERED = "registered"
STOPPED = "canary stopped"


@dataclass(frozen=True)
class Event:
    """Something that happened to a version.

    Parameters
    ----------
    at
        ISO 8601 in UTC; empty where the registry does not say when, as for a promotion by Okamochi 0.2.0.
    what
        `registered`, `promotion`, `rollback` or `canary stopped`.
    decision
        What the gate said of the version: `accepted`, `refused` or `overridden`; empty: it was not judged.
    reason
        Of a registration, why the gate decided so; of a canary, why a server stopped it; of a change, why a
        rule of `[live]` made it, else empty.
    replaced
        The version whose place it took; empty for the first champion.
    algorithm, metric, value
        What the version is, and its figure on the test rows; None where training left none.
    """

    at: str
    version: str
    what: str
    decision: str = ""
    reason: str = ""
    replaced: str = ""
    algorithm: str = ""
    metric: str = ""
    value: float | None = None


def timeline(registry: Registry, name: str) -> list[Event]:
    """Every event of a name that the registry knows, the oldest first; those without a time come first."""
    versions = registry.versions(name)
    live = registry.version(name, CHAMPION)
    return sorted(
        (event for version in versions for event in _events(version, live)),
        key=lambda event: (event.at, int(event.version), event.what != REGISTERED),
    )


def _events(version: Version, live: Version | None) -> list[Event]:
    tags = version.tags
    metric = tags.get("metric", "")
    value = tags.get(f"test_{metric}")
    event = Event(
        utc(version.created),
        version.number,
        REGISTERED,
        decision=tags.get(GATE, ""),
        reason=tags.get(REASONS, ""),
        algorithm=tags.get("algorithm", ""),
        metric=metric,
        value=None if value is None else float(value),
    )
    changes = changes_of(version)
    is_live = live is not None and live.number == version.number
    if not changes and (is_live or MADE_CHAMPION_BY in tags):
        changes = [Change("", tags.get(MADE_CHAMPION_BY, PROMOTION), tags.get(REPLACED, ""))]
    return (
        [event]
        + [
            replace(
                event,
                at=change.at,
                what=change.by,
                decision="",
                reason=change.reason,
                replaced=change.replaced,
            )
            for change in changes
        ]
        + [
            replace(event, at=stop.at, what=STOPPED, decision="", reason=stop.reason)
            for stop in stops_of(version)
        ]
    )
