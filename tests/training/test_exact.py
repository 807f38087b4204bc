"""A winner that no exact graph holds gives way to one that has a graph and is no worse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.training.made_tables import messy
from tests.training.search.test_search import run
from training.exact import MAX_RIVALS, Fitted, prefer_exact, rivals_of, told
from training.export import OnnxForm, onnx_form
from training.search.search import fit


@pytest.fixture(scope="module")
def made():
    return messy("binary", 200)


@pytest.fixture(scope="module")
def result(made):
    return run(made, trials=5, ensemble=False)


@pytest.fixture
def candidate(made, result):
    def fitted(trial, reason=""):
        pipeline = fit(trial, made.matrix, made.labels, made.signature, result.layout)
        if reason:
            return Fitted(pipeline, trial, OnnxForm(None, None, reason))
        form = onnx_form(pipeline, made.signature, made.matrix, made.labels, made.matrix)
        assert not form.reason
        return Fitted(pipeline, trial, form)

    return fitted


def test_the_rivals_are_the_best_of_other_families(result):
    rivals = list(rivals_of(result))
    assert len(rivals) == MAX_RIVALS
    assert len({result.best.family, *(each.family for each in rivals)}) == MAX_RIVALS + 1
    assert [each.score for each in rivals] == sorted((each.score for each in rivals), reverse=True)


def test_an_exact_candidate_within_noise_is_taken_and_a_better_winner_is_kept(made, result, candidate):
    linear = next(each for each in result.trials if each.family == "linear")
    folds = np.array(linear.fold_scores)
    noise = np.where(np.arange(len(folds)) % 2, -0.009, 0.01)
    near = replace(result.best, fold_scores=tuple(folds + noise), score=float(folds.mean()))
    far = replace(near, fold_scores=tuple(folds + 0.2 + noise / 10))
    other = candidate(replace(linear, family="linear"), "it has none")
    exact = candidate(linear)
    for trial, kept in ((near, False), (far, True)):
        winner = Fitted(exact.pipeline, trial, OnnxForm(None, None, "scores differ by 0.05"))
        chosen, beside = prefer_exact(winner, iter([other, exact]), result)
        assert (chosen, beside) == ((winner, exact) if kept else (exact, exact))
        said = "; ".join(told(chosen, winner, beside, "roc_auc", made.matrix[:1], 2))
        assert "scores differ by 0.05" in said
        assert "ms by scikit-learn" in said
        assert "ms by ONNX" in said
        assert ("measurably better" in said) is kept


def test_where_no_rival_is_exact_the_winner_stays(made, result, candidate):
    winner = candidate(result.best, "it has none")
    chosen, beside = prefer_exact(winner, [winner], result)
    assert chosen is winner
    assert beside is None
    assert "so it is taken" in told(chosen, winner, beside, "roc_auc", made.matrix[:1], 2)[-1]
