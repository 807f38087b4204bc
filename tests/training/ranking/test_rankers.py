"""The ranking of a use case: which one is kept, and what it holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from artifact.signature import Column, Signature
from training.families.layout import layout_of
from training.ranking.rankers import Interactions, RankingPlan, by_popularity, choose, measured_ranking
from training.settings import Rank

USERS, ITEMS = 120, 90
RANK = Rank(query=("user",), item=("film",))


def names(letter, count):
    return tuple(f"{letter}{number:03d}" for number in range(count))


SIGNATURE = Signature(
    task="regression",
    target="rating",
    columns=(
        Column(name="film", kind="category", categories=names("f", ITEMS), mode="f000"),
        Column(name="year", kind="number", median=2000.0, missing="allow"),
        Column(name="user", kind="category", categories=names("u", USERS), mode="u000"),
    ),
)
PLAN = RankingPlan(RANK, SIGNATURE, layout_of(SIGNATURE, 1000, pair=RANK.pair), {"rank": 3, "sweeps": 20}, 0)


def taste():
    """The true rating of each film by each user: two kinds of people, two kinds of films."""
    random = np.random.default_rng(3)
    sides = random.normal(0, 1, (USERS, 2)), random.normal(0, 1, (ITEMS, 2))
    return 3 + sides[0] @ sides[1].T


def told(rows, seed, choosing):
    """Ratings; with `choosing` people rate mostly what they like, as in life."""
    random = np.random.default_rng(seed)
    true = taste()
    chance = np.exp(choosing * true)
    flat = random.choice(USERS * ITEMS, rows, replace=False, p=(chance / chance.sum()).ravel())
    users, items = flat // ITEMS, flat % ITEMS
    ratings = true[users, items] + random.normal(0, 0.3, rows)
    matrix = np.column_stack([items, np.full(rows, 2000.0), users]).astype(float)
    return Interactions(users, items, ratings, matrix)


def split(found, seed=0):
    test = np.random.default_rng(seed).random(len(found.users)) < 0.2
    return found.some(~test), found.some(test)


def test_known_taste_is_ranked_far_better_than_by_popularity():
    """Where people rate whatever comes, the expected rating ranks best."""
    found = measured_ranking(PLAN, *split(told(5000, 1, choosing=0)))

    assert found.ranking.by == "rating"
    assert found.figures["ndcg_at_10"] > 1.5 * found.baseline["ndcg_at_10"]
    assert found.figures["coverage_at_10"] > found.baseline["coverage_at_10"]


def test_where_people_rate_what_they_like_preference_wins():
    found = choose(PLAN, split(told(1500, 1, choosing=1.5))[0])

    assert found.ranking.by == "preference"


def test_scores_by_rating_are_the_expected_ratings():
    """Also with another column, whose part is that of the user and of the film."""
    training = told(6000, 1, choosing=0)
    year = 1950.0 + np.arange(ITEMS)
    training.matrix[:, 1] = year[training.items]
    shifted = Interactions(
        training.users, training.items, training.ratings + 0.02 * year[training.items], training.matrix
    )
    found = choose(PLAN, shifted).ranking

    scores = found.score(np.arange(USERS, dtype=float)[:, None])
    error = scores - taste() - 0.02 * year
    assert found.by == "rating"
    assert np.sqrt(np.mean(error**2)) < 0.15


def test_a_user_without_ratings_gets_the_popular_items():
    training = told(3000, 1, choosing=0)
    known = training.users > 4
    found = choose(PLAN, training.some(known)).ranking

    scores = found.score(np.array([[0.0], [-1.0], [50.0]]))
    assert (
        scores[0].tolist() == scores[1].tolist() == found.cold.tolist() == by_popularity(found).bias.tolist()
    )
    assert scores[2].tolist() != found.cold.tolist()
    assert found.seen(0).tolist() == found.seen(-1).tolist() == []
    assert sorted(found.seen(50).tolist()) == sorted(set(training.items[training.users == 50].tolist()))


def test_the_seed_decides_the_ranking():
    training = told(2000, 1, choosing=0)

    one, other = (choose(PLAN, training).ranking for _ in range(2))

    np.testing.assert_array_equal(one.users, other.users)
    np.testing.assert_array_equal(one.items, other.items)


@pytest.mark.parametrize(("relevant", "expected"), [(None, 3.0), (4.5, 4.5)])
def test_relevant_is_what_the_use_case_says_else_the_median(relevant, expected):
    rank = Rank(query=("user",), item=("film",), relevant=relevant)
    found = choose(replace(PLAN, rank=rank), told(2000, 1, choosing=0))

    assert found.relevant == pytest.approx(expected, abs=0.1)
