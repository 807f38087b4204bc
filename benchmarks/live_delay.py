"""How many rows the rule of `[live]` needs to tell a better model: `python -m benchmarks.live_delay`.

Prints the table of docs/live-quality.md. Everything is simulated, so it takes seconds and no server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.decide.evidence import BETS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
    """Differences of loss over their bound, shape (histories,)."""

HISTORIES, MAX_ROWS, ALPHA, SEED = 400, 40_000, 0.05, 20


@dataclass(frozen=True)
class Difference:
    """A shadow that is better than the champion, and by how much."""

    loss: str
    shadow: str
    draw: Draw


def first_decisions(draw: Draw, histories: int, rows: int, alpha: float) -> NDArray[np.intp]:
    """The rows after which each history decides for either model, looked at after every row; 0: it does not.

    Returns
    -------
    Shape (histories,).
    """
    rng = np.random.default_rng(SEED)
    first = np.zeros(histories, np.intp)
    shadow, champion = (np.ones((len(BETS), histories)) for _ in range(2))
    bets = BETS[:, None]
    for row in range(1, rows + 1):
        differences = draw(rng, histories)
        shadow *= 1 + bets * differences
        champion *= 1 - bets * differences
        enough = np.maximum(shadow.mean(axis=0), champion.mean(axis=0)) >= 2 / alpha
        first[enough & (first == 0)] = row
        if first.all():
            break
    return first


def _disagreeing(right: float, wrong: float) -> Draw:
    """Of all rows, the fractions in which only the shadow is right, and only the champion."""
    return lambda rng, n: rng.choice([1.0, -1.0, 0.0], n, p=[right, wrong, 1 - right - wrong])


def _brier(mean: float, spread: float) -> Draw:
    return lambda rng, n: np.clip(rng.normal(mean, spread, n), -1, 1)


def _errors(factor: float, alike: float = 0.9) -> Draw:
    """Absolute errors of correlated predictions; one above three times the champion's RMSE counts as that."""

    def draw(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        champion = rng.normal(size=n)
        shadow = factor * (alike * champion + np.sqrt(1 - alike**2) * rng.normal(size=n))
        return (np.minimum(np.abs(champion), 3) - np.minimum(np.abs(shadow), 3)) / 3

    return draw


DIFFERENCES = (
    Difference("`accuracy`", "5 points better, other answers on 15 % of the rows", _disagreeing(0.10, 0.05)),
    Difference("`accuracy`", "2 points better, other answers on 10 %", _disagreeing(0.06, 0.04)),
    Difference("`accuracy`", "1 point better, other answers on 3 %", _disagreeing(0.02, 0.01)),
    Difference("`brier`", "0.02 better, standard deviation of a row's difference 0.1", _brier(0.02, 0.1)),
    Difference("`brier`", "0.01 better, standard deviation 0.1", _brier(0.01, 0.1)),
    Difference("`brier`", "0.005 better, standard deviation 0.05", _brier(0.005, 0.05)),
    Difference("`mae`", "errors 10 % smaller, correlation of the errors 0.9", _errors(0.9)),
    Difference("`mae`", "errors 5 % smaller, correlation 0.9", _errors(0.95)),
)


def row_of(difference: Difference) -> str:
    """A line of the table."""
    first = first_decisions(difference.draw, HISTORIES, MAX_ROWS, ALPHA)
    took = np.where(first == 0, MAX_ROWS, first)
    median, late = (f"{round(float(np.quantile(took, part)), -1):,.0f}" for part in (0.5, 0.9))
    return f"| {difference.loss} | {difference.shadow} | {median} | {late} |"


def table() -> str:
    """The table in Markdown."""
    head = ["| `metric` | the shadow is | rows, median | rows, 9 of 10 |", "|---|---|---|---|"]
    return "\n".join([*head, *map(row_of, DIFFERENCES)])


if __name__ == "__main__":
    print(table())
