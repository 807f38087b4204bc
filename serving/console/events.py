"""The changes in a running server: versions that went live or ended, and versions that were refused."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from serving.scoring.catalog import Catalog

MAX_EVENTS = 200


class Change(NamedTuple):
    """One change.

    Parameters
    ----------
    kind
        `live`, `ended` or `refused`.
    """

    name: str
    kind: str
    text: str


def changes(before: Catalog | None, after: Catalog) -> list[Change]:
    """The differences between two catalogs."""
    was, now = _told(before), _told(after)
    found = [Change(name, "ended", f"{text} no more") for name, text in _loaded(before) - _loaded(after)]
    found += [Change(name, "live", text) for name, text in _loaded(after) - _loaded(before)]
    found += [Change(name, "refused", text) for (name, _), text in now.items() - was.items()]
    return sorted(found)


def _loaded(catalog: Catalog | None) -> set[tuple[str, str]]:
    if catalog is None:
        return set()
    percents = {slot: beside.percent for slot, beside in catalog.beside.items()}
    found = set()
    for (name, role), model in catalog.loaded.items():
        part = f" for {percents[name, role]:g} % of the callers" if percents.get((name, role)) else ""
        found.add((name, f"Version {model.version} is {role}{part}"))
    return found


def _told(catalog: Catalog | None) -> Mapping[tuple[str, str], str]:
    """The reasons why models are not live, by name and role."""
    if catalog is None:
        return {}
    found = {(name, ""): f"Refused: {why}" for name, why in catalog.refused.items()}
    found |= {(name, ""): f"{held.tag} is refused: {held.reason}" for name, held in catalog.held.items()}
    found |= {
        (name, role): f"{held.tag} is refused as {role}: {held.reason}"
        for (name, role), held in catalog.not_beside.items()
    }
    return found | ({("", ""): f"models.lock is not followed: {catalog.lock}"} if catalog.lock else {})


class Events:
    """The last changes that this worker has seen."""

    def __init__(self) -> None:
        self._found: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)

    def note(self, before: Catalog | None, after: Catalog) -> None:
        """Remember what changed; called from any thread."""
        at = time.time()
        self._found.extend({"at": at, **change._asdict()} for change in changes(before, after))

    def all(self) -> list[dict[str, Any]]:
        """The oldest first."""
        return list(self._found)
