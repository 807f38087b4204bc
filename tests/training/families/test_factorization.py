"""Matrix factorisation: what it recovers, and its exact form in ONNX."""

from __future__ import annotations

import numpy as np
import optuna
import pytest

from artifact.signature import Column, Signature
from training.families.catalog import WRITERS, affordable_families
from training.families.factorization import Factorization
from training.families.factors import FAMILY
from training.families.layout import layout_of
from training.onnx.convert import convert
from training.onnx.parity import onnx_score

USERS, ITEMS, NOISE = 200, 150, 0.5


def rated(seed=0, rows=12_000):
    """Rows of codes and ratings of a known table of rank 3, with noise."""
    random = np.random.default_rng(seed)
    user, item = random.normal(0, 0.4, USERS), random.normal(0, 0.5, ITEMS)
    taste = random.normal(0, 0.8, (USERS, 3)) @ random.normal(0, 0.8, (ITEMS, 3)).T
    flat = random.choice(USERS * ITEMS, rows, replace=False)
    users, items = flat // ITEMS, flat % ITEMS
    true = 3.5 + user[users] + item[items] + taste[users, items]
    return np.column_stack([users, items]).astype(float), true, true + random.normal(0, NOISE, rows)


def rmse(one, other):
    return float(np.sqrt(np.mean((one - other) ** 2)))


@pytest.mark.parametrize("rank", [3, 12])
def test_a_known_table_of_low_rank_is_recovered(rank):
    """The error is near the noise, which no model can go below, and too many factors do little harm."""
    x, true, y = rated()
    test = np.random.default_rng(1).random(len(y)) < 0.2

    found = Factorization(rank=rank).fit(x[~test], y[~test]).predict(x[test])

    assert rmse(true[test], y[test]) == pytest.approx(NOISE, abs=0.02)
    assert rmse(found, y[test]) < 1.12 * NOISE
    assert y[test].std() > 2 * NOISE


def test_the_same_seed_gives_the_same_factors():
    x, _, y = rated(rows=3000)

    one, other = (Factorization(random_state=4).fit(x, y) for _ in range(2))

    np.testing.assert_array_equal(one.users_, other.users_)
    np.testing.assert_array_equal(one.items_, other.items_)


def test_an_unknown_user_is_the_average_one():
    """For codes of -1, and for codes that no row of the fit had."""
    x, _, y = rated(rows=3000)
    model = Factorization().fit(x, y)

    found = model.predict(np.array([[-1.0, -1.0], [9999.0, -1.0], [-1.0, 5.0]]))

    assert found[0] == found[1] == model.mean_
    assert found[2] == pytest.approx(model.mean_ + model.items_[6, -1])


def test_a_pair_that_was_rated_twice_counts_twice():
    x = np.array([[0, 0], [0, 0], [0, 1], [1, 0], [1, 1], [1, 1]], float)

    found = Factorization(rank=1).fit(x, np.array([1.0, 3.0, 2.0, 2.0, 2.0, 2.0]))

    assert np.isfinite(found.predict(x)).all()


def test_the_other_columns_say_what_they_can_of_an_unknown_user():
    random = np.random.default_rng(0)
    x, _, y = rated()
    other = random.normal(size=len(y))
    model = Factorization().fit(np.column_stack([x, other]), y + 2 * other)

    found = model.predict(np.array([[-1.0, -1.0, 0.0], [-1.0, -1.0, 1.0]]))

    assert found[1] - found[0] == pytest.approx(2, abs=0.05)


SIGNATURE = Signature(
    task="regression",
    target="rating",
    columns=(
        Column(name="age", kind="number", median=30.0, missing="allow"),
        Column(name="item", kind="category", categories=tuple(map(str, range(ITEMS)))),
        Column(name="genre", kind="category", categories=("a", "b", "c"), missing="allow"),
        Column(name="user", kind="category", categories=tuple(map(str, range(USERS)))),
    ),
)
LAYOUT = layout_of(SIGNATURE, 3000, pair=("user", "item"))


def test_the_graph_is_exact_with_other_columns_and_unknown_codes():
    x, _, y = rated(rows=3000)
    random = np.random.default_rng(0)
    age = np.where(random.random(3000) < 0.1, np.nan, random.normal(40, 9, 3000))
    matrix = np.column_stack([age, x[:, 1], random.integers(-1, 3, 3000), x[:, 0]])
    pipeline = FAMILY.build({"rank": 5, "sweeps": 10}, LAYOUT, "regression", 0).fit(matrix, y)
    asked = matrix[:200].copy()
    asked[:20, 3], asked[10:30, 1] = -1, -1

    graph = onnx_score(convert(pipeline, 4, WRITERS).SerializeToString())

    np.testing.assert_allclose(graph(asked)[:, 0], pipeline.predict(asked), rtol=0, atol=1e-9)


def test_only_a_table_that_ranks_is_factorised():
    assert [each.name for each in affordable_families(LAYOUT, "regression")] == ["factors", "linear"]
    plain = affordable_families(layout_of(SIGNATURE, 3000), "regression")
    assert "factors" not in {each.name for each in plain}


@pytest.mark.parametrize("second", [False, True])
def test_its_default_is_within_its_search_space(second):
    default = FAMILY.default(LAYOUT) | (FAMILY.second(LAYOUT) if second else {})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial({f"factors.{key}": value for key, value in default.items()})

    assert FAMILY.suggest(study.ask(), LAYOUT) == default
