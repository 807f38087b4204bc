"""The orders of an administrator of a running server, beside `models.lock`: load a version, unload a name.

The orders are for all workers of one server, and end with it: a server that starts serves the versions in
the file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from artifact.models_lock import CHAMPION, Entry
from serving.shared import alive

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from serving.shared import Shared

ORDERS = "orders"
SERVED = "served"
WORKER = "worker-"
"""With the process id, the name of the state of a worker."""


class Order(msgspec.Struct, frozen=True):
    """The order about one name.

    Parameters
    ----------
    tag
        The version to serve; "" for a name that is unloaded.
    instead_of
        The tag in the champion's line when the order was given: the order ends once the line has another.
    """

    tag: str = ""
    instead_of: str = ""


class Orders(msgspec.Struct, frozen=True):
    """All orders, by name.

    Parameters
    ----------
    number
        Counts the changes.
    """

    number: int = 0
    by_name: dict[str, Order] = {}


class WorkerState(msgspec.Struct, frozen=True):
    """The number of the orders that a worker has followed, and the reasons of its refusals by tag."""

    number: int
    refused: dict[str, str] = {}


class Wanted(NamedTuple):
    """What is to be served.

    Parameters
    ----------
    entries
        The lines, champions first, without those of names that are unloaded.
    names
        All names of champions, in the order of the file.
    unloaded
        The names that are unloaded.
    """

    entries: list[Entry]
    names: tuple[str, ...]
    unloaded: tuple[str, ...]


def wanted(lines: Iterable[Entry], orders: Orders) -> Wanted:
    """The lines of `models.lock` as the orders change them."""
    lines = list(lines)
    names = tuple(entry.name for entry in lines if entry.role == CHAMPION)
    unloaded = tuple(name for name in names if name in orders.by_name and not orders.by_name[name].tag)
    entries = []
    for entry in lines:
        if entry.name in unloaded:
            continue
        order = orders.by_name.get(entry.name)
        if order is not None and entry.role == CHAMPION and entry.tag == order.instead_of:
            entry = entry._replace(tag=order.tag)  # noqa: PLW2901 - the line as it counts
        entries.append(entry)
    return Wanted(entries, names, unloaded)


def read(shared: Shared) -> Orders:
    """The orders in force."""
    return shared.read(ORDERS, Orders) or Orders()


def change(shared: Shared, name: str, order: Order | None) -> tuple[int, Order | None]:
    """Replace the order about a name; the number of the new orders, and the order before.

    Parameters
    ----------
    order
        None if the file alone decides.

    Raises
    ------
    OSError
        The disk takes nothing; the orders are unchanged.
    """
    with shared.one_writer():
        now = read(shared)
        by_name = {other: each for other, each in now.by_name.items() if other != name}
        if order is not None:
            by_name[name] = order
        shared.write(ORDERS, Orders(now.number + 1, by_name))
        return now.number + 1, now.by_name.get(name)


# ---- what the workers have done


def tell_followed(shared: Shared, state: WorkerState) -> None:
    """Store the state of this worker.

    Raises
    ------
    OSError
    """
    shared.write(f"{WORKER}{os.getpid()}", state)


def workers(shared: Shared) -> list[WorkerState]:
    """The states of the living workers; those of dead ones are removed."""
    found = []
    for name in shared.names(WORKER):
        pid = name.removeprefix(WORKER)
        if not pid.isdecimal() or not alive(int(pid)):
            shared.remove(name)
            continue
        state = shared.read(name, WorkerState)
        if state is not None:
            found.append(state)
    return found


# ---- what is served


def remember_served(shared: Shared, lines: Sequence[Entry], loaded: Mapping[tuple[str, str], Entry]) -> None:
    """Store the versions that are served, for a worker that starts while the file cannot be followed.

    For a line that is not served, the version that was served before it stays.

    Raises
    ------
    OSError
    """
    with shared.one_writer():
        before = served(shared)
        old = {entry.slot: entry for entry in before}
        now = [loaded.get(line.slot) or old.get(line.slot) for line in lines]
        found = [entry for entry in now if entry is not None]
        if found != before:
            shared.write(SERVED, found)


def served(shared: Shared) -> list[Entry]:
    """What the workers of this server served last; empty before the first has started."""
    return shared.read(SERVED, list[Entry]) or []
