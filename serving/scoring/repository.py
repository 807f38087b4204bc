"""The models that a server could serve, and the orders of an administrator to load or unload one.

It knows no transport: the routes below `/v2/repository` call it. An order holds for all workers of the
server, and a reply is made once each of them has followed it (docs/decisions/0043).
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from artifact.models_lock import CHAMPION
from serving.errors import Problem
from serving.scoring import orders
from serving.scoring.orders import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from artifact.models_lock import Entry
    from serving.scoring.catalog import Catalog
    from serving.scoring.watch import Watch
    from serving.shared import Shared

logger = logging.getLogger("bentoml.okamochi")

READY = "READY"
UNAVAILABLE = "UNAVAILABLE"
WAIT_S = 50.0
"""How long a request waits until its order is followed; many clients give up after a minute."""
LOOK_S = 0.02


class Indexed(NamedTuple):
    """A version that is loaded or could be loaded.

    Parameters
    ----------
    state
        `READY` or `UNAVAILABLE`.
    reason
        Why it is unavailable; "" for one that is ready.
    """

    name: str
    version: str
    state: str
    reason: str = ""


class Repository:
    """See the module.

    Parameters
    ----------
    watch
        Follows the orders in this worker.
    current
        The catalog that is live in this worker.
    stored
        Gives the tags in the model store for a name.
    """

    def __init__(
        self,
        watch: Watch,
        shared: Shared,
        current: Callable[[], Catalog],
        stored: Callable[[str], Iterable[str]],
    ) -> None:
        self._watch = watch
        self._shared = shared
        self._current = current
        self._stored = stored

    def index(self, *, ready: bool = False) -> list[Indexed]:
        """The versions of the names in `models.lock`: those that are loaded first, then all others.

        Parameters
        ----------
        ready
            Leave out the others.
        """
        catalog = self._current()
        lines = self._watch.declared()
        found = [Indexed(slot[0], model.version, READY) for slot, model in catalog.loaded.items()]
        if not ready:
            found += [
                Indexed(entry.name, version_of(entry.tag), UNAVAILABLE, "unloaded")
                for entry in lines
                if entry.name in catalog.unloaded
            ]
            tags = {entry.name: entry.tag for entry in lines if entry.role == CHAMPION}
            found += [
                Indexed(name, version_of(tags.get(name, "")), UNAVAILABLE, reason)
                for name, reason in catalog.refused.items()
            ]
            held = [(name, each) for name, each in catalog.held.items()]
            held += [(slot[0], each) for slot, each in catalog.not_beside.items()]
            found += [Indexed(name, version_of(each.tag), UNAVAILABLE, each.reason) for name, each in held]
            found += [
                Indexed(name, version_of(tag), UNAVAILABLE, "in the store, not loaded")
                for name in tags
                for tag in self._stored(name)
            ]
        first: dict[tuple[str, str], Indexed] = {}
        for each in found:
            first.setdefault((each.name, each.version), each)
        return list(first.values())

    def load(self, name: str, version: str = "") -> None:
        """Serve a name as `models.lock` has it, or another stored version as its champion.

        The order about a version ends once the file names another champion.

        Raises
        ------
        Problem
            404 for a name that the file does not have, or a version that the store does not have; 503 for a
            version that a worker refuses, or if the workers are not done in time.
        """
        line = self._line_of(name)
        tag = self._tag_of(line, version) if version else line.tag
        order = Order(tag, line.tag) if tag != line.tag else None
        before = self._order(name, order)
        refused = [each.refused[tag] for each in orders.workers(self._shared) if tag in each.refused]
        if not refused:
            logger.info("model %s: version %s was loaded by an administrator", name, version_of(tag))
            return
        nothing = ""
        if order is not None:
            self._order(name, before)
            nothing = " Nothing has changed."
        raise Problem(
            503,
            f"Version {version_of(tag)} of {name!r} is refused: {refused[0]}.{nothing}",
            reason="model_refused",
            error=refused[0],
            model=name,
        )

    def unload(self, name: str) -> None:
        """Serve no version of a name, until it is loaded or the server starts anew.

        Raises
        ------
        Problem
            404 for a name that `models.lock` does not have; 503 if the workers are not done in time.
        """
        self._line_of(name)
        self._order(name, Order())
        logger.warning("model %s was unloaded by an administrator", name)

    def _line_of(self, name: str) -> Entry:
        """The line of a name's champion."""
        champions = {each.name: each for each in self._watch.declared() if each.role == CHAMPION}
        if name not in champions:
            names = ", ".join(map(repr, champions))
            raise Problem(
                404,
                f"models.lock does not name {name[:100]!r}; this server has {names}.",
                reason="unknown_model",
            )
        return champions[name]

    def _tag_of(self, line: Entry, version: str) -> str:
        """The tag of a stored version."""
        tags = list({line.tag: None, **dict.fromkeys(self._stored(line.name))})
        found = [tag for tag in tags if version_of(tag) == version]
        if len(found) == 1 or line.tag in found:
            return found[0]
        if found:
            raise Problem(
                409,
                f"The store has version {version} of {line.name!r} {len(found)} times: {', '.join(found)}; "
                "name one of them in models.lock.",
            )
        raise Problem(
            404,
            f"The store has no version {version[:40]!r} of {line.name!r}, only "
            f"{', '.join(map(version_of, tags))}.",
            reason="unknown_version",
        )

    def _order(self, name: str, order: Order | None) -> Order | None:
        """Give an order and wait until each worker has followed it; the order before."""
        try:
            number, before = orders.change(self._shared, name, order)
        except OSError as error:
            raise Problem(
                503, f"The order cannot be stored: {error.strerror}. Nothing has changed."
            ) from None
        self._watch.wake()
        end = time.monotonic() + WAIT_S
        while True:
            workers = orders.workers(self._shared)
            if workers and all(each.number >= number for each in workers):
                return before
            if self._watch.ended or time.monotonic() > end:
                done = sum(each.number >= number for each in workers)
                raise Problem(
                    503,
                    f"The order is given, and {done} of {len(workers)} workers have followed it so far; "
                    "POST /v2/repository/index tells what is loaded.",
                )
            time.sleep(LOOK_S)


def version_of(tag: str) -> str:
    """The registry's version in a tag of the model store."""
    return tag.rpartition(":")[2].partition("-")[0]
