"""canary.json: the bounds in which a canary of this model must stay, from [canary] of its use case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from artifact.manifest import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

FILE = "canary.json"


class CanaryBounds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bounds, each compared with the champion over the same time.

    Parameters
    ----------
    max_errors
        By how much the fraction of failed requests may be larger.
    max_slowdown
        How many times as long the median call may take.
    max_score_shift
        The largest Kolmogorov-Smirnov distance of the scores, from 0 to 1.
    """

    max_errors: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.02
    max_slowdown: Annotated[float, msgspec.Meta(ge=1, le=1e6)] = 3.0
    max_score_shift: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.25


def write(folder: Path, bounds: CanaryBounds) -> None:
    """Write the bounds into an artifact that is not sealed yet, if they are not the default ones."""
    if bounds != CanaryBounds():
        (folder / FILE).write_bytes(msgspec.json.encode(bounds) + b"\n")


def read(folder: Path) -> CanaryBounds:
    """The bounds of an artifact; the default ones where it has none.

    Raises
    ------
    ArtifactError
        The file cannot be read.
    """
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=CanaryBounds)
    except FileNotFoundError:
        return CanaryBounds()
    except (OSError, msgspec.MsgspecError) as error:
        raise ArtifactError(f"{folder / FILE} cannot be read: {error}") from None
