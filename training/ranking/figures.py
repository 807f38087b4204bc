"""How good a ranking is, on ratings that it has not seen.

Candidates are all items that a user had not rated in the training rows. Relevant are those that the user
rated in the held-out rows with at least a given rating. A user without one says nothing and is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from artifact.ranking import best

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.ranking import Ranking

K = 10
"""How many items are ranked: the figures are of the first ten."""
USERS_AT_ONCE = 64
RESAMPLES = 1_000


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The relevant items of the held-out rows.

    Parameters
    ----------
    users
        Codes of the users who have one, shape (users,).
    relevant
        Of each of these users the codes of the items.
    unjudged
        Relevant rows that no ranking can find, because their item has no code.
    """

    users: NDArray[np.intp]
    relevant: tuple[NDArray[np.intp], ...]
    unjudged: int = 0


@dataclass(frozen=True, eq=False)
class Ranked:
    """The figures of a ranking, each of shape (users,), and the fraction of items that it ever shows."""

    ndcg: NDArray[np.float64]
    recall: NDArray[np.float64]
    coverage: float

    def of(self, metric: str) -> NDArray[np.float64]:
        """The figures of a metric by its name."""
        return {"ndcg_at_10": self.ndcg, "recall_at_10": self.recall}[metric]

    @property
    def figures(self) -> dict[str, float]:
        """The means over users, by the names of the metrics."""
        if not len(self.ndcg):
            return dict.fromkeys(("ndcg_at_10", "recall_at_10", "coverage_at_10"), float("nan"))
        return {
            "ndcg_at_10": float(self.ndcg.mean()),
            "recall_at_10": float(self.recall.mean()),
            "coverage_at_10": self.coverage,
        }


def held_out(
    users: NDArray[np.intp], items: NDArray[np.intp], ratings: NDArray[np.float64], relevant: float
) -> HeldOut:
    """The relevant items of held-out rows; users and items are codes, -1 for one that training never saw."""
    liked = (ratings >= relevant) & (users >= 0)
    known = liked & (items >= 0)
    pairs = np.unique(np.column_stack([users[known], items[known]]), axis=0)
    found, starts = np.unique(pairs[:, 0], return_index=True)
    parts = np.split(pairs[:, 1], starts[1:]) if len(found) else []
    return HeldOut(found, tuple(parts), int((liked & ~known).sum()))


def judge(ranking: Ranking, held: HeldOut) -> Ranked:
    """The figures of a ranking on held-out ratings."""
    ndcg, recall = np.zeros(len(held.users)), np.zeros(len(held.users))
    shown = np.zeros(len(ranking.items), np.bool_)
    for start in range(0, len(held.users), USERS_AT_ONCE):
        some = held.users[start : start + USERS_AT_ONCE]
        scores = ranking.score(some[:, None].astype(np.float64))
        for place, (user, row) in enumerate(zip(some.tolist(), scores, strict=True), start):
            first = best(row, ranking.seen(user), K)
            shown[first] = True
            hits = np.isin(first, held.relevant[place])
            ndcg[place] = ndcg_of(hits, len(held.relevant[place]))
            recall[place] = hits.sum() / len(held.relevant[place])
    return Ranked(ndcg, recall, float(shown.mean()) if shown.size else float("nan"))


def ndcg_of(hits: NDArray[np.bool_], relevant: int) -> float:
    """The normalised discounted cumulative gain of the first K items.

    Parameters
    ----------
    hits
        Whether each of them is relevant, the first one first.
    relevant
        How many relevant items there are.
    """
    discounts = 1.0 / np.log2(np.arange(2, K + 2))
    ideal = discounts[: min(relevant, K)].sum()
    return float((discounts[: len(hits)] * hits).sum() / ideal)


def gain_by_user(
    one: NDArray[np.float64], other: NDArray[np.float64], seed: int = 0
) -> tuple[float, float, float]:
    """How much higher the mean of `one` is over the same users, with a 95 % paired bootstrap interval."""
    differences = one - other
    if not len(differences):
        return float("nan"), float("nan"), float("nan")
    random = np.random.default_rng(seed)
    draws = [
        differences[random.integers(0, len(differences), len(differences))].mean() for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(differences.mean()), float(low), float(high)
