"""canary.json: the bounds in which a canary of this model must stay; training writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

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

    max_errors: float = 0.02
    max_slowdown: float = 3.0
    max_score_shift: float = 0.25


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
    except (OSError, msgspec.DecodeError) as error:
        raise ArtifactError(f"{folder / FILE} cannot be read: {error}") from None
