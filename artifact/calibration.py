"""How far a model was off on rows that it never saw, and the intervals that follow.

The method is split conformal prediction (Vovk et al., 2005; Lei et al., 2018): if new rows come from where
the held-out rows came from, an interval or a set at a level holds the outcome with at least that chance,
whatever the model.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact.manifest import CALIBRATION, read_list
from artifact.signature import probabilities

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from artifact.manifest import Artifact
    from artifact.signature import Label, Signature

MAX_ROWS = 5_000
"""The most misses that an artifact holds; with this many, coverage is within half a point of the level."""


def misses(signature: Signature, truth: NDArray[Any], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each row's scores are off, shape (rows,): a distance, or 1 less the true class's probability.

    Parameters
    ----------
    truth
        Indices of classes, or values, shape (rows,).
    scores
        Shape (rows, outputs).
    """
    if signature.task == "regression":
        return np.abs(np.asarray(truth, np.float64) - scores[:, 0])
    chances = probabilities(signature, scores)
    return np.asarray(1 - chances[np.arange(len(truth)), truth])


def reach(missed: NDArray[np.float64], level: float) -> float | None:
    """The distance that a new row's miss stays within at this level; None if there are too few rows for it.

    Parameters
    ----------
    missed
        Of held-out rows, sorted.
    """
    place = math.ceil((len(missed) + 1) * level - 1e-9)
    return float(missed[max(place, 1) - 1]) if place <= len(missed) else None


def highest_level(rows: int) -> float:
    """The highest level that this number of rows can promise."""
    return rows / (rows + 1)


def intervals(scores: NDArray[np.float64], within: float) -> list[list[float]]:
    """Of each row of a regression, the lowest and the highest value."""
    values = scores[:, 0]
    return np.stack((values - within, values + within), axis=1).tolist()  # type: ignore[no-any-return]


def sets(signature: Signature, scores: NDArray[np.float64], within: float) -> list[list[Label]]:
    """Of each row the classes that are likely enough, the likeliest first and always one."""
    chances = probabilities(signature, scores)
    order = np.argsort(-chances, axis=1, kind="stable")
    found = []
    for row, places in zip(chances, order.tolist(), strict=True):
        likely = [signature.classes[i] for i in places if 1 - row[i] <= within]
        found.append(likely or [signature.classes[places[0]]])
    return found


def write(directory: Path, missed: NDArray[np.float64], *, seed: int = 0) -> None:
    """Write the misses of held-out rows, before the artifact is sealed."""
    if len(missed) > MAX_ROWS:
        missed = np.random.default_rng(seed).choice(missed, MAX_ROWS, replace=False)
    content = msgspec.json.encode({"misses": np.sort(missed).tolist()})
    (directory / CALIBRATION).write_bytes(content + b"\n")


def read(artifact: Artifact) -> NDArray[np.float64] | None:
    """The misses, sorted; None if the artifact has none.

    Raises
    ------
    ArtifactError
        The file holds something else.
    """
    found = read_list(artifact, CALIBRATION, "misses", dict[str, list[float]])
    return np.sort(np.array(found, np.float64)) if found else None
