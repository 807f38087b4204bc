"""The models that a server is to serve: of `models.lock`, as `OKAMOCHI_MODELS` picks and orders them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from artifact import models_lock
from artifact.models_lock import CHAMPION, LockError

if TYPE_CHECKING:
    from pathlib import Path

    from artifact.models_lock import Entry


def read(path: Path, picked: tuple[str, ...]) -> list[Entry]:
    """The lines of the models, the champion of the default model first, then what is beside champions.

    Parameters
    ----------
    path
        Of `models.lock`.
    picked
        The names of `OKAMOCHI_MODELS`; none for all of the file, in its order.

    Raises
    ------
    LockError
        There is nothing to serve, or a line cannot be read.
    """
    found = models_lock.entries(path)
    champions = {entry.name: entry for entry in found if entry.role == CHAMPION}
    if not champions:
        raise LockError(
            f"{path} names no model; run `make bundle` (or `python -m deploy bundle NAME`) first."
        )
    for name in picked:
        if name not in champions:
            raise LockError(
                f"OKAMOCHI_MODELS names {name!r}, but {path} has only {', '.join(champions)}; "
                "bundle it first."
            )
    names = dict.fromkeys(picked or champions)
    beside = [entry for entry in found if entry.role != CHAMPION and entry.name in names]
    return [*(champions[name] for name in names), *beside]
