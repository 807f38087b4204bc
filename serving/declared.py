"""The models that a server is to serve: of `models.lock`, as `OKAMOCHI_MODELS` picks and orders them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from artifact import models_lock
from artifact.models_lock import LockError

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path, picked: tuple[str, ...]) -> dict[str, str]:
    """Names and exact tags, the default model first.

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
    locked = models_lock.read(path)
    if not locked:
        raise LockError(
            f"{path} names no model; run `make bundle` (or `python -m deploy bundle NAME`) first."
        )
    for name in picked:
        if name not in locked:
            raise LockError(
                f"OKAMOCHI_MODELS names {name!r}, but {path} has only {', '.join(locked)}; bundle it first."
            )
    return {name: locked[name] for name in picked or locked}
