"""The hot swap: what `models.lock` newly names goes live in a running server, without a lost request.

One thread looks at the file. A new version is opened, verified and warmed up there, one model at a time; then
`publish` makes it live by one assignment. Requests under way end on the model that they began with, which is
closed once none is left. A version that is refused changes nothing, and is tried again only when the file or
its stored files change (docs/decisions/0026).
"""

from __future__ import annotations

import gc
import logging
import os
import weakref
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from artifact.models_lock import FILE, LockError
from serving.errors import without_paths
from serving.observe import metrics
from serving.observe.supervised import Supervised
from serving.scoring.catalog import Catalog, Held, LiveModel, Parts, open_or_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from serving.scoring.catalog import Locate
    from serving.settings import Settings

logger = logging.getLogger("bentoml.okamochi")

T = TypeVar("T")

SETTLE_S = 0.3
"""How long the file must stay the same before it counts: an editor may write it in several steps."""
UNUSED_WAIT_S = 5.0
"""How long the next model waits for the previous one to be closed, so that few are open at once."""
LOOK_UNUSED_S = 0.1


# ---- policy: what is wanted and what is live in, what to do out


class Plan(NamedTuple):
    """The steps from what is live to what `models.lock` names.

    Parameters
    ----------
    open
        Names and tags that are not live.
    keep
        The names that stay or may come, in the order of the file; all others go.
    """

    open: dict[str, str]
    keep: tuple[str, ...]


def plan(wanted: Mapping[str, str], live: Mapping[str, str]) -> Plan:
    """Compare names and tags of `models.lock` with those that are live."""
    return Plan({name: tag for name, tag in wanted.items() if live.get(name) != tag}, tuple(wanted))


def arranged(catalog: Catalog, keep: tuple[str, ...]) -> Catalog:
    """The catalog with these names alone, in this order; with all of its names if no model would be live."""
    live = {name: catalog.live[name] for name in keep if name in catalog.live}
    if not live:
        return replace(catalog, lock="")
    refused = {name: catalog.refused[name] for name in keep if name in catalog.refused}
    held = {name: catalog.held[name] for name in keep if name in catalog.held}
    default = next(name for name in keep if name in live or name in refused)
    return Catalog(live, refused, default, held)


# ---- the watch


class _Unused(NamedTuple):
    """A model that is live no more; requests that began with it may still use it."""

    model: weakref.ref[LiveModel]
    parts: Parts


class Watch:
    """Follows `models.lock`.

    Parameters
    ----------
    path
        Of the file.
    read
        Names and tags that it names; raises LockError.
    declared
        Names and tags that it named when the server started.
    locate
        See `catalog.load`.
    stamp
        A tag to something that changes whenever its stored files do.
    current
        The catalog that is live.
    publish
        Makes a catalog live.
    """

    def __init__(
        self,
        path: Path,
        *,
        read: Callable[[], Mapping[str, str]],
        declared: Mapping[str, str],
        locate: Locate,
        stamp: Callable[[str], object],
        current: Callable[[], Catalog],
        publish: Callable[[Catalog], None],
        settings: Settings,
    ) -> None:
        self._path = path
        self._read = read
        self._locate = locate
        self._stamp = stamp
        self._current = current
        self._publish = publish
        self._settings = settings
        self._seen: object = None  # the state of the file that was followed last
        # Of each name whose version is refused, the tag and the stamp of its stored files.
        self._refused = {name: (declared[name], stamp(declared[name])) for name in current().refused}
        self._unused: list[_Unused] = []
        self._thread = Supervised("models", self._run)

    def start(self) -> None:
        """Begin to look."""
        for name in ("", *self._current().live):  # from 0, so that the first refusal is an increase
            metrics.VERSION_REFUSED.labels(name).set(0)
        self._thread.start()

    def close(self) -> None:
        """End the thread, and close what is live no more."""
        self._thread.close()
        for unused in self._unused:
            unused.parts.close()
        self._unused.clear()

    def _run(self) -> None:
        while not self._thread.ended.wait(self._settings.watch_s):
            self.look()

    def look(self) -> None:
        """Follow the file if it has changed; close models that no request uses any more."""
        self._close_unused()
        now = self._now()
        changed = now[0] != self._seen
        if not changed and now[1] == dict(self._refused.values()):
            return
        if self._thread.ended.wait(SETTLE_S) or self._now() != now:
            return  # something is being written: looked at again in a moment
        try:
            wanted = self._read()
        except LockError as error:
            if changed:
                self._hold_all(str(error))
        else:
            self._follow(wanted, again=changed and self._seen is not None)
        self._seen = now[0]

    def _now(self) -> tuple[object, dict[str, object]]:
        """The states of the file and of the stored files of each tag that is refused."""
        return _state(self._path), {tag: self._stamp(tag) for tag, _ in self._refused.values()}

    # ---- the file

    def _hold_all(self, reason: str) -> None:
        """Keep all as it is while the file cannot be followed."""
        logger.error("%s is not followed, and what is live stays: %s", FILE, reason)
        metrics.VERSION_REFUSED.labels("").set(1)
        self._put(replace(self._current(), lock=without_paths(reason, str(self._path.parent))))

    def _follow(self, wanted: Mapping[str, str], *, again: bool) -> None:
        metrics.VERSION_REFUSED.labels("").set(0)
        live = {name: model.tag for name, model in self._current().live.items()}
        steps = plan(wanted, live)
        for name in self._refused.keys() - steps.open.keys():
            self._forget(name)
        for name, tag in steps.open.items():
            if not again and self._refused.get(name) == (tag, self._stamp(tag)):
                continue
            if not self._wait_for_unused():
                return
            self._bring(name, tag)
        self._leave(steps.keep)

    def _forget(self, name: str) -> None:
        """The version that was refused is live, or the file no longer names it."""
        self._refused.pop(name, None)
        metrics.VERSION_REFUSED.labels(name).set(0)
        catalog = self._current()
        self._put(replace(catalog, held=_without(catalog.held, name)))

    def _bring(self, name: str, tag: str) -> None:
        """Open one model, and make it live or hold it."""
        began = monotonic()
        stamp = self._stamp(tag)
        model, reason = open_or_reason(name, tag, self._locate, self._settings)
        if model is not None:
            reason = _too_slow(model, self._settings)
            if reason:
                logger.error("model %s (%s) is refused: %s", name, tag, reason)
                Parts.of(model).close()
        if model is None or reason:
            self._hold(name, tag, stamp, reason)
            return
        if self._swap(model):
            seconds = monotonic() - began
            logger.info("model %s: version %s (%s) is live after %.2f s", name, model.version, tag, seconds)
        else:
            self._hold(name, tag, stamp, "its routes could not be made")

    def _hold(self, name: str, tag: str, stamp: object, reason: str) -> None:
        self._refused[name] = tag, stamp
        catalog = self._current()
        if name in catalog.refused:  # no version was live since the start, so the server is not ready
            self._put(replace(catalog, refused={**catalog.refused, name: reason}))
            return
        metrics.VERSION_REFUSED.labels(name).set(1)
        self._put(replace(catalog, held={**catalog.held, name: Held(tag, reason)}))

    def _swap(self, model: LiveModel) -> bool:
        """Make a model live; False if that fails, and nothing has changed then."""
        name = model.name
        catalog = self._current()
        live = {**catalog.live, name: model}
        try:
            self._put(replace(catalog, live=live, refused=_without(catalog.refused, name)))
        except Exception:
            logger.exception("model %s (%s) is refused: its routes could not be made", name, model.tag)
            Parts.of(model).close()
            return False
        if name in catalog.live:
            self._retire(catalog.live[name])
        model.announce()
        self._forget(name)
        return True

    def _leave(self, keep: tuple[str, ...]) -> None:
        """Take the names away that the file no longer has, and order the others as the file does."""
        before = self._current()
        after = arranged(before, keep)
        self._put(after)
        for name in before.refused.keys() - after.refused.keys():
            metrics.MODEL_REFUSED.labels(name).set(0)
        for name in before.live.keys() - after.live.keys():
            old = before.live[name]
            logger.info("model %s: version %s (%s) is no longer served", name, old.version, old.tag)
            self._retire(old)

    def _put(self, catalog: Catalog) -> None:
        if _content(catalog) != _content(self._current()):
            self._publish(catalog)

    # ---- models that are live no more

    def _retire(self, model: LiveModel) -> None:
        self._unused.append(_Unused(weakref.ref(model), Parts.of(model)))
        metrics.no_longer_live(model.name, model.version, model.artifact.manifest.runtime)
        if model.drift is not None:
            model.drift.close()  # at once: the metrics of drift are the next version's

    def _close_unused(self) -> None:
        """Close the models that nothing refers to any more: outside a request, only the snapshot did."""
        if not self._unused:
            return
        if any(unused.model() is not None for unused in self._unused):
            gc.collect()  # a refused request leaves a cycle: its problem, and the frames that raised it
        left = [unused for unused in self._unused if unused.model() is not None]
        for unused in self._unused:
            if unused.model() is None:
                unused.parts.close()
        self._unused = left

    def _wait_for_unused(self) -> bool:
        """Give requests under way some time to end; False if the server ends."""
        end = monotonic() + UNUSED_WAIT_S
        while self._unused and monotonic() < end:
            if self._thread.ended.wait(LOOK_UNUSED_S):
                return False
            self._close_unused()
        return not self._thread.ended.is_set()


def _content(catalog: Catalog) -> object:
    """What tells two catalogs apart; the order does, too."""
    live = [(name, id(model)) for name, model in catalog.live.items()]
    return live, list(catalog.refused.items()), catalog.default, catalog.held, catalog.lock


def _without(found: Mapping[str, T], name: str) -> dict[str, T]:
    return {other: value for other, value in found.items() if other != name}


def _state(path: Path) -> object:
    """Something that changes whenever the file is written, also with the same content."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            return found.st_ino, found.st_mtime_ns, found.st_size, file.read()
    except OSError as error:
        return error.errno


def _too_slow(model: LiveModel, settings: Settings) -> str:
    """The reason if no request without a deadline of its own could be answered in time; else ""."""
    row_ms = 1000 * model.batcher.row_s
    if row_ms <= settings.default_deadline_ms:
        return ""
    most_ms = settings.default_deadline_ms
    return f"one row takes {row_ms:.0f} ms, more than OKAMOCHI_DEFAULT_DEADLINE_MS={most_ms}"
