"""The hot swap: what `models.lock` newly names goes live in a running server, without a lost request.

One thread looks at the file. A new version is opened, verified and warmed up there, one model at a time; then
`publish` makes it live by one assignment. Requests under way end on the model that they began with, which is
closed once none is left. A version that is refused changes nothing, and is tried again only when the file or
its stored files change (docs/decisions/0026).
"""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from artifact import signing
from artifact.models_lock import CANARY, CHAMPION, FILE, MAX_BYTES, Entry, LockError
from artifact.regular import read_regular
from serving.errors import without_paths
from serving.followed import Followed
from serving.observe import metrics
from serving.observe.supervised import Supervised
from serving.scoring import orders
from serving.scoring.catalog import (
    Beside,
    Catalog,
    Held,
    LiveModel,
    Parts,
    open_or_reason,
    too_slow,
    unfit,
    with_beside,
    without,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from artifact.signing import Trusted
    from serving.scoring.catalog import Locate, Slot
    from serving.scoring.orders import Wanted
    from serving.settings import Settings
    from serving.shared import Shared

logger = logging.getLogger("bentoml.okamochi")

SETTLE_S = 0.3
"""How long the file must stay the same before it counts: an editor may write it in several steps."""
RESTLESS_S = 5.0
"""After this long without such a rest, a shorter one counts: whoever writes without end is followed too."""
SHORT_REST_S = 0.02
UNUSED_WAIT_S = 5.0
"""How long the next model waits for the previous one to be closed, so that few are open at once."""
LOOK_UNUSED_S = 0.1
ORDERS_EVERY_S = 0.25
"""How often a worker looks for orders that another worker has received."""


# ---- policy: what is wanted and what is live in, what to do out


class Plan(NamedTuple):
    """The steps from what is loaded to what `models.lock` names.

    Parameters
    ----------
    open
        The lines whose version is not loaded in that role, champions first.
    keep
        The names that stay or may come, in the order of the file; all others go.
    keep_beside
        The same for shadows and canaries.
    unloaded
        The names that an administrator has unloaded.
    default
        The name for routes without a name, if it stays or is unloaded.
    """

    open: list[Entry]
    keep: tuple[str, ...]
    keep_beside: frozenset[Slot]
    unloaded: tuple[str, ...] = ()
    default: str = ""


def plan(wanted: Wanted, loaded: Mapping[Slot, tuple[str, float]]) -> Plan:
    """Compare what is to be served with the tags and percentages that are loaded."""
    return Plan(
        [entry for entry in wanted.entries if loaded.get(entry.slot) != (entry.tag, entry.percent)],
        tuple(entry.name for entry in wanted.entries if entry.role == CHAMPION),
        frozenset(entry.slot for entry in wanted.entries if entry.role != CHAMPION),
        wanted.unloaded,
        wanted.names[0],
    )


def arranged(catalog: Catalog, steps: Plan) -> Catalog:
    """The catalog with what a plan keeps, in its order.

    A file leaves at least one model live: it keeps all of the names if it would take the last one away. An
    administrator may unload the last one.
    """
    live = {name: catalog.live[name] for name in steps.keep if name in catalog.live}
    last = {} if live else {name: model for name, model in catalog.live.items() if name not in steps.unloaded}
    if last:
        beside = {slot: found for slot, found in catalog.beside.items() if slot[0] in last}
        return replace(catalog, live=last, beside=beside, lock="", unloaded=steps.unloaded)
    refused = {name: catalog.refused[name] for name in steps.keep if name in catalog.refused}
    held = {name: catalog.held[name] for name in steps.keep if name in catalog.held}
    first = [name for name in steps.keep if name in live or name in refused]
    default = steps.default if steps.default in steps.unloaded or not first else first[0]
    beside = {
        slot: found for slot, found in catalog.beside.items() if slot in steps.keep_beside and slot[0] in live
    }
    not_beside = {slot: found for slot, found in catalog.not_beside.items() if slot in steps.keep_beside}
    return Catalog(
        live, refused, default, held, beside=beside, not_beside=not_beside, unloaded=steps.unloaded
    )


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
        Its lines, champions first; raises LockError.
    declared
        Its lines when the server started.
    locate
        See `catalog.load`.
    stamp
        A tag to something that changes whenever its stored files do.
    current
        The catalog that is live.
    publish
        Makes a catalog live.
    shared
        Has the orders of administrators, and what the other workers do.
    """

    def __init__(
        self,
        path: Path,
        *,
        read: Callable[[], Sequence[Entry]],
        declared: Sequence[Entry],
        locate: Locate,
        stamp: Callable[[str], object],
        current: Callable[[], Catalog],
        publish: Callable[[Catalog], None],
        settings: Settings,
        shared: Shared,
    ) -> None:
        self._path = path
        self._read = read
        self._locate = locate
        trusted = Path(settings.trusted_keys).expanduser() if settings.trusted_keys else None
        self._signers = self._followed_signers(trusted) if trusted is not None else None
        # A version that is refused is tried again as well when other keys are trusted.
        self._stamp = stamp if trusted is None else lambda tag: (stamp(tag), _state(trusted))
        self._current = current
        self._publish = publish
        self._settings = settings
        self._shared = shared
        self._wake = threading.Event()
        self.lines = list(declared)  # of the file when it could be followed last
        self._seen: object = None  # the state of the file that was followed last
        self._restless: float | None = None  # since when it has changed without a rest
        # Of each line whose version is refused, the tag and the stamp of its stored files.
        catalog = current()
        self._refused: dict[Slot, tuple[str, object]] = {
            entry.slot: (entry.tag, self._stamp(entry.tag))
            for entry in orders.wanted(declared, orders.read(shared)).entries
            if entry.slot in catalog.not_beside
            or (entry.role == CHAMPION and (entry.name in catalog.refused or entry.name in catalog.held))
        }
        self._followed_orders: object = None  # the state of the orders that were followed last
        self._unused: list[_Unused] = []
        self._thread = Supervised("models", self._run)

    def start(self) -> None:
        """Begin to look."""
        metrics.VERSION_REFUSED.labels("").set(0)  # from 0, so that the first refusal is an increase
        for name in self._current().live:
            self._mark(name)
        self._tell(0)
        self._thread.start()

    def close(self) -> None:
        """End the thread, and close what is live no more."""
        self._thread.ended.set()
        self._wake.set()
        self._thread.close()
        for unused in self._unused:
            unused.parts.close()
        self._unused.clear()

    def _run(self) -> None:
        due = monotonic() + self._settings.watch_s
        while not self._thread.ended.is_set():
            self._wake.wait(min(max(due - monotonic(), 0.01), ORDERS_EVERY_S))
            self._wake.clear()
            if monotonic() >= due or self._shared.state(orders.ORDERS) != self._followed_orders:
                self.look()
                due = monotonic() + self._settings.watch_s

    def declared(self) -> list[Entry]:
        """The lines of the file; if it cannot be read, those that were followed last."""
        try:
            return list(self._read())
        except LockError:
            return self.lines

    def wake(self) -> None:
        """Make the thread follow the orders at once; called from any thread."""
        self._wake.set()

    @property
    def ended(self) -> bool:
        """Whether the server ends."""
        return self._thread.ended.is_set()

    def look(self) -> None:
        """Follow files and orders that have changed; close models that no request uses any more."""
        self._close_unused()
        if self._signers is not None:
            self._signers.look()
            metrics.keys_refused("signers", refused=bool(self._signers.refusal))
        now = self._now()
        changed = now[0] != self._seen
        if not changed:
            self._restless = None
        ordered = self._shared.state(orders.ORDERS)
        if not changed and now[1] == dict(self._refused.values()) and ordered == self._followed_orders:
            return
        if changed and not self._rests(now):
            return  # something is being written: looked at again in a moment
        try:
            self.lines = list(self._read())
        except LockError as error:
            if changed:
                self._hold_all(str(error))
            if ordered != self._followed_orders:
                self._follow_orders(ordered, lock=self._current().lock)
        else:
            metrics.VERSION_REFUSED.labels("").set(0)
            self._follow_orders(ordered, again=changed and self._seen is not None)
        self._seen = now[0]

    def _rests(self, now: object) -> bool:
        """Whether the file, and what is refused, stay the same for a moment; False if the server ends."""
        if self._restless is None:
            self._restless = monotonic()
        rest_s = SETTLE_S if monotonic() - self._restless < RESTLESS_S else SHORT_REST_S
        if self._thread.ended.wait(rest_s) or self._now() != now:
            return False
        self._restless = None
        return True

    def _follow_orders(self, ordered: object, *, again: bool = False, lock: str = "") -> None:
        """Follow the lines as the orders change them.

        Parameters
        ----------
        lock
            Why the file is not followed.
        """
        found = orders.read(self._shared)
        wanted = orders.wanted(self.lines, found)
        self._follow(wanted, again=again or ordered != self._followed_orders)
        self._put(replace(self._current(), lock=lock))  # before the one who ordered it has the reply
        self._followed_orders = ordered
        self._tell(found.number, wanted.entries)

    def _tell(self, number: int, entries: Sequence[Entry] = ()) -> None:
        """Tell the other workers what this one serves, and which of these lines it has refused."""
        catalog = self._current()
        refused = {held.tag: held.reason for held in (*catalog.held.values(), *catalog.not_beside.values())}
        for entry in entries:
            if entry.role == CHAMPION and entry.name in catalog.refused:
                refused[entry.tag] = catalog.refused[entry.name]
        loaded = {
            slot: Entry(slot[0], tag, slot[1], percent) for slot, (tag, percent) in self._loaded().items()
        }
        try:
            orders.remember_served(self._shared, self.lines, loaded)
            orders.tell_followed(self._shared, orders.WorkerState(number, refused))
        except OSError as error:
            logger.warning("what this worker serves is not told to the other workers: %s", error.strerror)

    def _now(self) -> tuple[object, dict[str, object]]:
        """The states of the file and of the stored files of each tag that is refused."""
        return _state(self._path), {tag: self._stamp(tag) for tag, _ in self._refused.values()}

    # ---- the keys that sign

    def _followed_signers(self, path: Path) -> Followed:
        return Followed(
            str(path),
            lambda: signing.trusted_content(path),
            lambda content: self._withdraw_distrusted(signing.parse_trusted(content, path)),
            error=signing.SigningKeyError,
            kept="what is live stays, and no other version is opened",
        )

    def _withdraw_distrusted(self, keys: dict[str, Trusted]) -> None:
        """Withdraw the versions that no key of the new file has signed."""
        for slot, model in self._current().loaded.items():
            of = {"name": model.name, "version": model.version}
            reason = signing.distrusted(model.artifact.path, **of, keys=keys)
            if reason and slot in self._current().loaded:
                self._withdraw(slot, model, reason)

    def _withdraw(self, slot: Slot, model: LiveModel, reason: str) -> None:
        name, role = slot
        before = self._current()
        logger.error("the %s of model %s (%s) is served no more: %s", role, name, model.tag, reason)
        self._refused[slot] = model.tag, self._stamp(model.tag)
        if role == CHAMPION:
            gone = {beside: found for beside, found in before.beside.items() if beside[0] == name}
            for beside, found in gone.items():  # nothing stands beside a champion that is away
                self._refused[beside] = found.model.tag, self._stamp(found.model.tag)
            catalog = replace(
                before,
                live=without(before.live, name),
                refused={**before.refused, name: reason},
                beside={beside: found for beside, found in before.beside.items() if beside not in gone},
                not_beside={
                    **before.not_beside,
                    **{beside: Held(found.model.tag, reason) for beside, found in gone.items()},
                },
            )
            metrics.MODEL_REFUSED.labels(name).set(1)
        else:
            held = {**before.not_beside, slot: Held(model.tag, reason)}
            catalog = replace(before, beside=without(before.beside, slot), not_beside=held)
        self._put(catalog)
        self._mark(name)
        self._retire_replaced(before)

    # ---- the file

    def _hold_all(self, reason: str) -> None:
        """Keep all as it is while the file cannot be followed."""
        logger.error("%s is not followed, and what is live stays: %s", FILE, reason)
        metrics.VERSION_REFUSED.labels("").set(1)
        self._put(replace(self._current(), lock=without_paths(reason, str(self._path.parent))))

    def _follow(self, wanted: Wanted, *, again: bool) -> None:
        steps = plan(wanted, self._loaded())
        for slot in self._refused.keys() - {entry.slot for entry in steps.open}:
            self._forget(slot)
        new: set[str] = set()  # names with another champion than before
        for entry in steps.open:
            refused = self._refused.get(entry.slot) == (entry.tag, self._stamp(entry.tag))
            if refused and not again and entry.name not in new:
                continue
            if not self._wait_for_unused():
                return
            if entry.role == CHAMPION:
                if self._bring(entry):
                    new.add(entry.name)
            else:
                self._bring_beside(entry)
        self._leave(steps)

    def _loaded(self) -> dict[Slot, tuple[str, float]]:
        """Tag and percentage of what is loaded."""
        catalog = self._current()
        percents = {slot: beside.percent for slot, beside in catalog.beside.items()}
        return {slot: (model.tag, percents.get(slot, 0.0)) for slot, model in catalog.loaded.items()}

    def _forget(self, slot: Slot) -> None:
        """The version that was refused is loaded, or the file no longer names it."""
        self._refused.pop(slot, None)
        catalog = self._current()
        if slot[1] == CHAMPION:
            self._put(replace(catalog, held=without(catalog.held, slot[0])))
        else:
            self._put(replace(catalog, not_beside=without(catalog.not_beside, slot)))
        self._mark(slot[0])

    def _mark(self, name: str) -> None:
        """Say in the metrics whether a version of a name is refused."""
        catalog = self._current()
        refused = name in catalog.held or any(slot[0] == name for slot in catalog.not_beside)
        metrics.VERSION_REFUSED.labels(name).set(refused)

    def _bring(self, entry: Entry) -> bool:
        """Open one champion, and make it live or hold it; whether it is live."""
        name, tag = entry.name, entry.tag
        began = monotonic()
        stamp = self._stamp(tag)
        model, reason = self._beside_of(entry), ""
        known = model is not None
        if model is None:
            model, reason = open_or_reason(name, tag, self._locate, self._settings, low_priority=True)
        if model is not None:
            reason = too_slow(model, self._settings)
            if reason:
                logger.error("model %s (%s) is refused: %s", name, tag, reason)
                if not known:
                    Parts.of(model).close()
        if model is None or reason:
            self._hold(name, tag, stamp, reason)
            return False
        if not self._swap(model, known=known):
            self._hold(name, tag, stamp, "its routes could not be made")
            return False
        seconds = monotonic() - began
        logger.info("model %s: version %s (%s) is live after %.2f s", name, model.version, tag, seconds)
        return True

    def _beside_of(self, entry: Entry) -> LiveModel | None:
        """The model of a line, if it is loaded as a shadow or canary."""
        beside = self._current().beside.values()
        return next((b.model for b in beside if (b.model.name, b.model.tag) == (entry.name, entry.tag)), None)

    def _bring_beside(self, entry: Entry) -> None:
        """Open one shadow or canary, and put it beside its champion or hold it."""
        stamp = self._stamp(entry.tag)
        before = self._current()
        catalog, reason = with_beside(
            before, entry, self._beside_of(entry), self._locate, self._settings, low_priority=True
        )
        if reason:
            self._refused[entry.slot] = entry.tag, stamp
            self._put(catalog)
            self._mark(entry.name)
            return
        try:
            self._put(catalog)
        except Exception:
            logger.exception(
                "the %s of model %s (%s) is refused: its routes could not be made",
                entry.role,
                entry.name,
                entry.tag,
            )
            model = catalog.beside[entry.slot].model
            if model not in before.loaded.values():
                Parts.of(model).close()
            return
        self._retire_replaced(before)
        self._forget(entry.slot)
        version = catalog.beside[entry.slot].model.version
        logger.info("model %s: version %s (%s) is its %s", entry.name, version, entry.tag, entry.word)

    def _hold(self, name: str, tag: str, stamp: object, reason: str) -> None:
        self._refused[name, CHAMPION] = tag, stamp
        catalog = self._current()
        if name in catalog.refused:  # no version was live since the start, so the server is not ready
            self._put(replace(catalog, refused={**catalog.refused, name: reason}))
            return
        metrics.VERSION_REFUSED.labels(name).set(1)
        self._put(replace(catalog, held={**catalog.held, name: Held(tag, reason)}))

    def _swap(self, model: LiveModel, *, known: bool) -> bool:
        """Make a model live; False if that fails, and nothing has changed then.

        Parameters
        ----------
        known
            It is loaded as a shadow or canary.
        """
        name = model.name
        before = self._current()
        live = {**before.live, name: model}
        catalog = replace(before, live=live, refused=without(before.refused, name))
        for slot, beside in before.beside.items():
            if slot == (name, CANARY):  # what it has seen is compared with the new champion from now on
                catalog = replace(catalog, beside={**catalog.beside, slot: replace(beside)})
            reason = "" if slot[0] != name or beside.model is model else self._unfit(model, beside)
            if reason:
                held = Held(beside.model.tag, reason)
                catalog = replace(
                    catalog,
                    beside=without(catalog.beside, slot),
                    not_beside={**catalog.not_beside, slot: held},
                )
                self._refused[slot] = held.tag, self._stamp(held.tag)
        if known:
            others = {slot: beside for slot, beside in catalog.beside.items() if beside.model is not model}
            catalog = replace(catalog, beside=others)
        try:
            self._put(catalog)
        except Exception:
            logger.exception("model %s (%s) is refused: its routes could not be made", name, model.tag)
            if not known:
                Parts.of(model).close()
            return False
        self._retire_replaced(before)
        model.announce()
        self._forget((name, CHAMPION))
        return True

    def _unfit(self, champion: LiveModel, beside: Beside) -> str:
        reason = unfit(champion, beside.model, self._settings, role=beside.role)
        if reason:
            tag = beside.model.tag
            logger.error("the %s of model %s (%s) is refused: %s", beside.role, champion.name, tag, reason)
        return reason

    def _leave(self, steps: Plan) -> None:
        """Take away what the file no longer has, and order the names as the file does."""
        before = self._current()
        after = arranged(before, steps)
        self._put(after)
        for name in before.refused.keys() - after.refused.keys():
            metrics.MODEL_REFUSED.labels(name).set(0)
        for slot in before.loaded.keys() - after.loaded.keys():
            old = before.loaded[slot]
            as_role = "" if slot[1] == CHAMPION else f" as its {slot[1]}"
            logger.info(
                "model %s: version %s (%s) is no longer served%s", slot[0], old.version, old.tag, as_role
            )
        self._retire_replaced(before)

    def _put(self, catalog: Catalog) -> None:
        if _content(catalog) != _content(self._current()):
            self._publish(catalog)

    # ---- models that are live no more

    def _retire_replaced(self, before: Catalog) -> None:
        """Retire the models that are loaded no more."""
        now = {id(model) for model in self._current().loaded.values()}
        for model in {id(model): model for model in before.loaded.values()}.values():
            if id(model) not in now:
                self._retire(model)

    def _retire(self, model: LiveModel) -> None:
        self._unused.append(_Unused(weakref.ref(model), Parts.of(model)))
        if model.version not in self._current().versions(model.name):
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
    """What distinguishes two catalogs; the order of the models counts."""
    live = [(name, id(model)) for name, model in catalog.live.items()]
    beside = {slot: id(found) for slot, found in catalog.beside.items()}
    return (
        live,
        list(catalog.refused.items()),
        catalog.default,
        catalog.held,
        catalog.lock,
        beside,
        catalog.not_beside,
        catalog.unloaded,
    )


def _state(path: Path) -> object:
    """Something that changes whenever the file is written, also with the same content."""
    try:
        found = path.stat()
        return found.st_ino, found.st_mtime_ns, found.st_size, read_regular(path, MAX_BYTES)
    except OSError as error:
        return error.errno
