"""The figures of a ranking, beside scikit-learn's and counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from artifact.ranking import Ranking
from training.ranking.figures import K, gain_by_user, held_out, judge, ndcg_of


def ranking_of(scores, rated=()):
    """A ranking with these scores, shape (users, items); `rated` are pairs of a user and an item."""
    users, items = scores.shape
    counts = [sum(user == who for who, _ in rated) for user in range(users)]
    return Ranking(
        "user", "item", "rating", np.eye(users), scores.T, np.zeros(items), np.zeros(items),
        np.concatenate([[0], np.cumsum(counts)]), np.array([item for _, item in sorted(rated)], np.int64),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_ndcg_is_scikit_learns(seed):
    random = np.random.default_rng(seed)
    scores = random.permutation(40).astype(float)
    relevant = random.choice(40, random.integers(1, 25), replace=False)
    wanted = np.isin(np.arange(40), relevant)

    found = ndcg_of(wanted[np.argsort(-scores)[:K]], len(relevant))

    assert found == pytest.approx(ndcg_score(wanted[None].astype(float), scores[None], k=K))


def test_figures_count_items_that_the_user_had_not_rated():
    """User 0 has rated the item of the highest score, so it is not a candidate."""
    scores = np.tile(np.arange(30, dtype=float)[::-1], (2, 1))
    ranking = ranking_of(scores, rated=[(0, 0), (1, 29)])
    held = held_out(np.array([0, 0, 0, 1, 1]), np.array([1, 25, 2, 0, 3]), np.array([5, 5, 1, 4, 5]), 4.0)

    found = judge(ranking, held)

    assert held.users.tolist() == [0, 1]
    assert found.recall.tolist() == [0.5, 1.0]
    assert found.ndcg[0] == pytest.approx(1 / (1 + 1 / np.log2(3)))
    assert found.ndcg[1] == pytest.approx((1 + 1 / np.log2(5)) / (1 + 1 / np.log2(3)))
    assert found.coverage == pytest.approx(11 / 30)
    assert found.figures["recall_at_10"] == pytest.approx(0.75)


def test_items_and_users_that_training_never_saw_are_counted_apart():
    held = held_out(np.array([0, -1, 0]), np.array([-1, 2, 1]), np.array([5.0, 5.0, 5.0]), 3.0)

    assert held.users.tolist() == [0]
    assert held.unjudged == 1
    assert [part.tolist() for part in held.relevant] == [[1]]


def test_without_a_relevant_item_the_figures_are_undefined():
    found = judge(ranking_of(np.ones((1, 5))), held_out(*np.zeros((3, 1), int), 9.0))

    assert all(np.isnan(value) for value in found.figures.values())


def test_the_gain_is_judged_user_by_user():
    """The same small gain of every user is certain; one that some have and others lack is not."""
    base = np.random.default_rng(0).random(200)

    assert gain_by_user(base + 0.01, base)[1] > 0
    assert gain_by_user(base, base) == (0.0, 0.0, 0.0)
    mixed = gain_by_user(base + np.random.default_rng(1).normal(0.001, 0.5, 200), base)
    assert mixed[1] < 0 < mixed[2]
