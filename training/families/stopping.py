"""Fits of boosting that end at a moment: after the round that is then being grown."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from training.families.optional import library

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIRST_ROUNDS, SLACK = 10, 0.9
"""Histogram boosting cannot be stopped: so many rounds tell how many fit into this fraction of the time."""


def fit_until(model: Any, x: NDArray[Any], y: NDArray[Any], end: float) -> tuple[int, int] | None:
    """Fit a model until it has its rounds or `end` of the monotonic clock: how many it has, and of how many.

    None for a model that has no rounds: it is fitted whole.
    """
    kind = type(model).__name__
    for prefix, fit in _FITS.items():
        if kind.startswith(prefix):
            return fit(model, x, y, end)
    model.fit(x, y)
    return None


def _fit_lightgbm(model: Any, x: NDArray[Any], y: NDArray[Any], end: float) -> tuple[int, int]:
    stopped = library("lightgbm").callback.EarlyStopException

    def stop(state: Any) -> None:
        if time.monotonic() > end:
            raise stopped(state.iteration, [])

    model.fit(x, y, callbacks=[stop])
    return model.booster_.current_iteration(), model.n_estimators


def _fit_catboost(model: Any, x: NDArray[Any], y: NDArray[Any], end: float) -> tuple[int, int]:
    class Stop:
        def after_iteration(self, _: Any) -> bool:
            return time.monotonic() <= end

    model.fit(x, y, callbacks=[Stop()])
    return model.tree_count_, model.get_param("iterations")


def _fit_xgboost(model: Any, x: NDArray[Any], y: NDArray[Any], end: float) -> tuple[int, int]:
    callback: Any = library("xgboost").callback.TrainingCallback

    class Stop(callback):  # type: ignore[misc]
        def after_iteration(self, *_: Any) -> bool:
            return time.monotonic() > end

    model.set_params(callbacks=[Stop()])
    model.fit(x, y)
    model.set_params(callbacks=None)
    return model.get_booster().num_boosted_rounds(), model.n_estimators


def _fit_histogram(model: Any, x: NDArray[Any], y: NDArray[Any], end: float) -> tuple[int, int]:
    """First a few rounds, then as many as fit into what is left of the time by what these took."""
    rounds = model.max_iter
    model.set_params(max_iter=min(rounds, FIRST_ROUNDS), warm_start=True)
    started = time.monotonic()
    model.fit(x, y)
    while model.n_iter_ < rounds:
        now = time.monotonic()
        more = int(SLACK * (end - now) / (now - started) * model.max_iter)
        if more < FIRST_ROUNDS:
            break
        before = model.max_iter
        model.set_params(max_iter=min(rounds, before + more))
        started = time.monotonic()
        model.fit(x, y)
        if model.max_iter == before + more:
            break
    model.set_params(warm_start=False)
    return model.n_iter_, rounds


_FITS = {
    "LGBM": _fit_lightgbm,
    "CatBoost": _fit_catboost,
    "XGB": _fit_xgboost,
    "HistGradientBoosting": _fit_histogram,
}
