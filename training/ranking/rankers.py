"""The ranking of a use case: four kinds are fitted, and the best on held-out training ratings is kept.

By rating: the items of the highest expected rating. By preference: factors of what a user likes, where an
item that was not rated counts a little as not liked (implicit least squares: Hu, Koren and Volinsky, ICDM
2008); it wins where people rate what they like anyway. By a blend: the expected rating with a bonus for items
that many have rated. By popularity: the items that most users like, which is the baseline.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix

from artifact.ranking import Ranking, column_of
from training.families.factorization import Factorization
from training.families.factors import columns
from training.families.layout import pair_of
from training.ranking.figures import gain_by_user, held_out, judge

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import NDArray

    from artifact.signature import Signature
    from training.families.layout import Layout
    from training.settings import Rank

FOLDS, FOLDS_JUDGED = 6, 3
"""The training ratings are cut into six parts, and three of them choose among the rankings."""
UNRATED, REGULARISATION, FACTORS, SWEEPS = 0.05, 2.0, (8, 32), 8
"""Of rankings by preference: the weight of a pair that was not rated, and what is tried."""
BONUSES = (0.5, 1.5, 4.0)
"""Of blends: the bonus for e times as many ratings of an item, in standard deviations of the ratings."""
NAMES = (
    "rating",
    *(f"blend {bonus}" for bonus in BONUSES),
    *(f"preference {factors}" for factors in FACTORS),
    "popularity",
)
"""The rankings that are tried, the plainest first."""
ADDITIVE_SWEEPS = 20


@dataclass(frozen=True, eq=False)
class Interactions:
    """Ratings with the codes of users and items; -1 is a user or an item without a code."""

    users: NDArray[np.intp]
    items: NDArray[np.intp]
    ratings: NDArray[np.float64]
    matrix: NDArray[np.float64]

    def some(self, rows: NDArray[np.bool_]) -> Interactions:
        """Those of some rows."""
        return Interactions(self.users[rows], self.items[rows], self.ratings[rows], self.matrix[rows])


@dataclass(frozen=True)
class RankingPlan:
    """What is ranked, and by which factors of the ratings."""

    rank: Rank
    signature: Signature
    layout: Layout
    params: Mapping[str, Any]
    seed: int

    @property
    def sizes(self) -> tuple[int, int]:
        """How many users and items have a code."""
        users, items = (len(column_of(self.signature, name).categories) for name in self.rank.pair)
        return users, items


@dataclass(frozen=True, eq=False)
class Chosen:
    """The ranking that is kept, and the validation figures of all that were tried."""

    ranking: Ranking
    relevant: float
    tried: dict[str, float]


@dataclass(frozen=True, eq=False)
class MeasuredRanking:
    """The ranking of an artifact with its figures on the test rows.

    Parameters
    ----------
    figures, baseline
        By the names of the metrics, of the ranking and of the items that most users like.
    users
        How many users had a relevant item in the test rows.
    unjudged
        How many relevant ratings were of an item that training had not seen.
    """

    ranking: Ranking
    relevant: float
    tried: dict[str, float]
    figures: dict[str, float]
    baseline: dict[str, float]
    users: int
    unjudged: int


def measured_ranking(plan: RankingPlan, training: Interactions, test: Interactions) -> MeasuredRanking:
    """The best ranking of the training rows, judged on the test rows."""
    chosen = choose(plan, training)
    held = held_out(test.users, test.items, test.ratings, chosen.relevant)
    return MeasuredRanking(
        chosen.ranking,
        chosen.relevant,
        chosen.tried,
        judge(chosen.ranking, held).figures,
        judge(by_popularity(chosen.ranking), held).figures,
        len(held.users),
        held.unjudged,
    )


def interactions(
    signature: Signature, rank: Rank, matrix: NDArray[np.float64], ratings: NDArray[Any]
) -> Interactions:
    """The ratings of the rows of an encoded matrix."""
    users, items = (matrix[:, place].astype(np.intp) for place in pair_of(signature, rank.pair))
    return Interactions(users, items, np.asarray(ratings, np.float64), matrix)


def by_popularity(ranking: Ranking) -> Ranking:
    """The baseline: every user gets the items that most users like."""
    return replace(
        ranking, by="popularity", users=0 * ranking.users, items=0 * ranking.items, bias=ranking.cold
    )


def relevant_from(rank: Rank, ratings: NDArray[np.float64]) -> float:
    """The rating from which an item counts as relevant."""
    return float(np.median(ratings)) if rank.relevant is None else rank.relevant


def choose(plan: RankingPlan, training: Interactions) -> Chosen:
    """Fit each ranking on a part of the ratings, and the best one on all of them.

    The expected rating is the plainest score: another ranking must be better by more than chance.
    """
    relevant = relevant_from(plan.rank, training.ratings)
    random = np.random.default_rng(plan.seed)
    fold = random.integers(0, FOLDS, len(training.ratings))
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in NAMES}
    for number in range(FOLDS_JUDGED):
        part, rest = training.some(fold != number), training.some(fold == number)
        held = held_out(rest.users, rest.items, rest.ratings, relevant)
        by_rating = _fitted(plan, part, relevant, NAMES[0])
        for name in NAMES:
            ranking = _blended(by_rating, part, name) or _fitted(plan, part, relevant, name)
            parts[name].append(judge(ranking, held).ndcg)
    found = {name: np.concatenate(figures) for name, figures in parts.items()}
    best = NAMES[0]
    for name in NAMES[1:]:
        if gain_by_user(found[name], found[best], plan.seed)[1] > 0:
            best = name
    tried = {name: float(each.mean()) if len(each) else float("nan") for name, each in found.items()}
    return Chosen(_fitted(plan, training, relevant, best), relevant, tried)


def _blended(by_rating: Ranking, training: Interactions, name: str) -> Ranking | None:
    """The ranking by rating itself, or with a bonus for the logarithm of each item's number of ratings.

    None for a name of another kind.
    """
    by, _, weight = name.partition(" ")
    if by == NAMES[0]:
        return by_rating
    if by != "blend":
        return None
    times = np.bincount(by_rating.rated, minlength=len(by_rating.items))
    bonus = float(weight) * float(training.ratings.std()) * np.log1p(times)
    return replace(by_rating, by=by, bias=by_rating.bias + bonus)


def _fitted(plan: RankingPlan, training: Interactions, relevant: float, name: str) -> Ranking:
    by, _, factors = name.partition(" ")
    if by == "blend":
        blended = _blended(_fitted(plan, training, relevant, NAMES[0]), training, name)
        assert blended is not None  # noqa: S101 - its name says so
        return blended
    known = (training.users >= 0) & (training.items >= 0)
    shape = plan.sizes
    liked = known & (training.ratings >= relevant)
    seen = _incidence(training, known, shape)
    likes = _incidence(training, liked, shape)
    cold = np.asarray(likes.sum(axis=0), np.float64).ravel()
    if by == "rating":
        users, items, bias = _of_ratings(plan, training)
    elif by == "preference":
        users, items = _of_likes(likes, int(factors), np.random.default_rng(plan.seed))
        bias = np.zeros(shape[1])
    else:
        users, items, bias = np.zeros((shape[0], 1)), np.zeros((shape[1], 1)), cold
    return Ranking(
        *plan.rank.pair,
        by,
        users,
        items,
        bias,
        cold,
        seen.indptr.astype(np.int64),
        seen.indices.astype(np.int64),
    )


def _incidence(training: Interactions, rows: NDArray[np.bool_], shape: tuple[int, int]) -> csr_matrix:
    """1 for each pair of a user and an item in these rows."""
    users, items = training.users[rows], training.items[rows]
    found = csr_matrix((np.ones(len(users)), (users, items)), shape=shape)
    found.sum_duplicates()
    found.data[:] = 1.0
    return found


def _of_ratings(
    plan: RankingPlan, training: Interactions
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The vectors of users and items, and the items' biases: product plus bias is the expected rating.

    The other columns count by what they add, on average, for each user and each item.
    """
    users, items = plan.sizes
    prepared = columns(plan.layout, "regression", plan.seed)
    x = np.asarray(prepared.fit_transform(training.matrix, training.ratings), np.float64)
    model = Factorization(rank=plan.params["rank"], sweeps=plan.params["sweeps"], random_state=plan.seed).fit(
        x, training.ratings
    )
    of_user, of_item, mean = _additive(x[:, 2:] @ model.coef_, training, users, items)
    left, right = _padded(model.users_, users), _padded(model.items_, items)
    # A factor that is 1 for every item carries what does not depend on the item.
    constant = left[:, -1] + of_user + model.mean_ + mean
    return (
        np.column_stack([left[:, :-1], constant]),
        np.column_stack([right[:, :-1], np.ones(items)]),
        right[:, -1] + of_item,
    )


def _padded(vectors: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The vectors of all codes: zeros for those that no row of the fit had."""
    found = np.zeros((count, vectors.shape[1]))
    found[: len(vectors) - 1] = vectors[1:]
    return found


def _additive(
    values: NDArray[np.float64], training: Interactions, users: int, items: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Values as a mean, a part of the user and a part of the item (alternating least squares)."""
    mean = float(values.mean()) if len(values) else 0.0
    of_user, of_item = np.zeros(users), np.zeros(items)
    if not np.any(values):
        return of_user, of_item, 0.0
    known = (training.users >= 0) & (training.items >= 0)
    who, what, rest = training.users[known], training.items[known], values[known] - mean
    times_user = np.maximum(np.bincount(who, minlength=users), 1)
    times_item = np.maximum(np.bincount(what, minlength=items), 1)
    for _ in range(ADDITIVE_SWEEPS):
        of_item = np.bincount(what, rest - of_user[who], minlength=items) / times_item
        of_user = np.bincount(who, rest - of_item[what], minlength=users) / times_user
    return of_user, of_item, mean


def _of_likes(
    likes: csr_matrix, factors: int, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Vectors whose product is near 1 for a liked item, and with a small weight near 0 for any other."""
    items = random.normal(0, 0.1, (likes.shape[1], factors))
    users = np.zeros((likes.shape[0], factors))
    across = csr_matrix(likes.T)
    for _ in range(SWEEPS):
        users = _solved(likes, items)
        items = _solved(across, users)
    return users, items


def _solved(likes: csr_matrix, other: NDArray[np.float64]) -> NDArray[np.float64]:
    upper = np.triu_indices(other.shape[1])
    sums = likes @ (other[:, upper[0]] * other[:, upper[1]])
    second = np.empty((likes.shape[0], other.shape[1], other.shape[1]))
    second[:, upper[0], upper[1]] = second[:, upper[1], upper[0]] = (1 - UNRATED) * sums
    second += UNRATED * (other.T @ other) + REGULARISATION * np.eye(other.shape[1])
    return np.linalg.solve(second, (likes @ other)[:, :, None])[:, :, 0]
