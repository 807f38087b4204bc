"""A booster of XGBoost, LightGBM or CatBoost as nodes of a graph that give what its own `predict` gives.

Converters of others were wrong here without an error: XGBoost's in 351 labels of 1,000. The three libraries
compare and add in three ways, which the modules beside this one keep: docs/onnx.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from training.onnx import catboost_trees, lightgbm_trees, xgboost_trees
from training.onnx.graph import NoExport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from training.onnx.graph import Graph

LIBRARIES: dict[str, ModuleType] = {
    "xgboost": xgboost_trees,
    "lightgbm": lightgbm_trees,
    "catboost": catboost_trees,
}
"""What writes the boosters of a library, by the package that their types are of."""


def write_booster(graph: Graph, estimator: Any, x: str) -> str:
    """Add a fitted booster to a graph whose ai.onnx.ml is version 5.

    Parameters
    ----------
    estimator
        An estimator of XGBoost, LightGBM or CatBoost in the style of scikit-learn, or a plain booster of
        theirs. Early stopping counts as in its own `predict`.
    x
        The name of its columns, float64 (rows, columns), in its own order; NaN is missing. A native category
        is the number that the booster itself splits by, so its position in the list of categories where the
        booster was fitted on a data frame.

    Returns
    -------
    The name of a float64 output. A classifier's and a classification booster's: probabilities (rows,
    classes), in the order of `classes_`, both of two classes; 1 for the answered class where a booster
    answers labels (`multi:softmax`, `binary:hinge`). Any other: values (rows, outputs).

    Raises
    ------
    NoExport
        It is no such booster, or holds what has no exact form; the message says what.
    """
    library, booster = _library(estimator)
    return str(LIBRARIES[library].write(graph, booster, x))


def thresholds_of_booster(estimator: Any) -> Iterator[tuple[int, float]]:
    """Column and threshold of each numerical split of a booster, as `Writer.thresholds`."""
    library, booster = _library(estimator)
    yield from LIBRARIES[library].thresholds(booster)


def is_booster(estimator: Any) -> bool:
    """Whether this is an estimator or a booster of one of the three libraries."""
    return _package(estimator) in LIBRARIES


def _library(estimator: Any) -> tuple[str, Any]:
    # artifact/python_model.py opens a file of XGBoost as an object that holds the booster.
    for each in (estimator, getattr(estimator, "booster", None)):
        if (library := _package(each)) in LIBRARIES:
            return library, each
    raise NoExport(f"{type(estimator).__name__} is no booster of {', '.join(LIBRARIES)}")


def _package(estimator: Any) -> str:
    packages = (each.__module__.partition(".")[0] for each in type(estimator).__mro__)
    return next((package for package in packages if package in LIBRARIES), "")
