"""The shadows and canaries of a worker, and the routes that follow from them.

What a shadow and a canary remember lasts as long as their line of models.lock; a snapshot of routes does not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from artifact.models_lock import CHAMPION, SHADOW
from serving.observe import metrics
from serving.roles.canary import Canary, Split
from serving.roles.shadow import Shadow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serving.prediction_log.capture import PredictionLog
    from serving.protocols import Endpoint
    from serving.scoring.catalog import Beside, Catalog
    from serving.settings import Settings
    from serving.shared import Shared

    EndpointsOf = Callable[[Catalog], dict[str, Endpoint]]


class RoleRoutes(NamedTuple):
    """Routes of champions with what is beside them, and by path the ones that a canary answers in part."""

    endpoints: dict[str, Endpoint]
    splits: dict[str, Split]


class Roles:
    """See the module.

    Parameters
    ----------
    lock
        See `Canary`.
    """

    def __init__(
        self, settings: Settings, log: PredictionLog | None, shared: Shared, lock: Path | None = None
    ) -> None:
        self._settings = settings
        self._shared = shared
        self._lock = lock
        self._log = log
        self._states: dict[Beside, Shadow | Canary] = {}

    def routes(self, catalog: Catalog, endpoints_of: EndpointsOf) -> RoleRoutes:
        """The prediction routes of a catalog.

        Parameters
        ----------
        endpoints_of
            The routes of the live models of a catalog, by path.
        """
        found = self._logged(endpoints_of(catalog), CHAMPION)
        splits: dict[str, Split] = {}
        for beside in catalog.beside.values():
            champion = catalog.live[beside.model.name]
            state = self._state_of(beside, champion.version)
            own = self._logged(endpoints_of(alone(catalog, beside)), beside.role)
            champions = {path: each for path, each in found.items() if each.model is champion}
            if isinstance(state, Canary):
                own = state.watching(own, state.own, judge=True)
                found |= state.watching(champions, state.champion)
                ranked = {path for path, each in found.items() if each.model is champion.ranked}
                splits |= {path: Split(state, own[path]) for path in (champions.keys() | ranked) & own.keys()}
            else:
                found |= state.offered(champions, self._log)
            found = own | found
        return RoleRoutes(found, splits)

    def _logged(self, endpoints: dict[str, Endpoint], role: str) -> dict[str, Endpoint]:
        return endpoints if self._log is None else self._log.logged(endpoints, role)

    def _state_of(self, beside: Beside, champion: str) -> Shadow | Canary:
        state = self._states.get(beside)
        if state is None:
            if beside.role == SHADOW:
                state = Shadow(beside.model, self._settings)
            else:
                state = Canary(
                    beside.model,
                    beside.percent,
                    beside.bounds,
                    shared=self._shared,
                    against=champion,
                    lock=self._lock,
                )
                state.start()
            self._states[beside] = state
            metrics.has_role(beside.model.name, beside.model.version, beside.role)
        return state

    def keep_only(self, catalog: Catalog) -> None:
        """Forget what is beside no champion of this catalog any more; called from any thread."""
        kept = set(catalog.beside.values())
        for beside in self._states.keys() - kept:
            state = self._states.pop(beside)
            if isinstance(state, Shadow):
                state.close()
            else:
                state.close(forget=True)

    def close(self) -> None:
        """End the threads."""
        for state in self._states.values():
            if isinstance(state, Shadow):
                state.close()
            else:
                state.close(forget=False)

    def describe(self, catalog: Catalog, name: str) -> list[dict[str, Any]]:
        """What `GET /models` shows of the versions beside the champion of a name."""
        return [
            self._states[beside].description()
            for beside in catalog.beside.values()
            if beside.model.name == name and beside in self._states
        ]


def alone(catalog: Catalog, beside: Beside) -> Catalog:
    """The catalog in which a version beside a champion is the champion, and no other model is live."""
    name = beside.model.name
    return replace(
        catalog, live={name: beside.model}, refused={}, default=name if catalog.default == name else ""
    )
