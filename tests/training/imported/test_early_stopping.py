"""A booster that stopped early answers with its best rounds, also from its own file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from training.imported.load import load

if TYPE_CHECKING:
    from pathlib import Path

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(600, 4)).astype(np.float32)
TRUTH = (ROWS[:, 0] + RANDOM.normal(size=600) > 0).astype(int)


@pytest.mark.parametrize("booster", ["gbtree", "dart"])
@pytest.mark.parametrize("saved", ["ubj", "json"])
def test_an_estimators_file_answers_as_the_estimator(tmp_path: Path, saved: str, booster: str) -> None:
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.XGBClassifier(
        n_estimators=200, early_stopping_rounds=5, learning_rate=0.3, booster=booster
    )
    model.fit(ROWS[:300], TRUTH[:300], eval_set=[(ROWS[300:], TRUTH[300:])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    path = tmp_path / f"model.{saved}"
    model.save_model(path)
    opened = load(path, trust=False).model
    np.testing.assert_allclose(opened.predict(ROWS), model.predict_proba(ROWS)[:, 1], rtol=0, atol=2e-7)
    assert opened.booster.num_boosted_rounds() == model.best_iteration + 1


def test_a_boosters_file_answers_as_the_booster(tmp_path: Path) -> None:
    """`Booster.predict` uses every round, whatever stopped its training."""
    xgboost = pytest.importorskip("xgboost")
    train, rest = (xgboost.DMatrix(ROWS[part], TRUTH[part]) for part in (slice(300), slice(300, None)))
    options = {"objective": "binary:logistic", "eta": 0.3}
    model = xgboost.train(
        options, train, 200, evals=[(rest, "rest")], early_stopping_rounds=5, verbose_eval=False
    )
    model.save_model(tmp_path / "model.json")
    opened = load(tmp_path / "model.json", trust=False).model
    np.testing.assert_allclose(opened.predict(ROWS), model.predict(xgboost.DMatrix(ROWS)), rtol=0, atol=1e-7)
    assert opened.booster.num_boosted_rounds() == model.num_boosted_rounds()
