"""Named numbers as ONNX graphs: the same answers as the model, or its own process with the reason."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.compose import TransformedTargetRegressor
from sklearn.covariance import EllipticEnvelope
from sklearn.cross_decomposition import PLSRegression
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, MultiTaskLasso, Ridge, SGDOneClassSVM
from sklearn.mixture import GaussianMixture
from sklearn.multioutput import MultiOutputRegressor, RegressorChain
from sklearn.neighbors import KNeighborsRegressor, LocalOutlierFactor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from sklearn.tree import DecisionTreeRegressor

from artifact.python_model import score_of
from artifact.signature import Column, Signature
from training.imported.contract import spec_of
from training.imported.describe import describe
from training.imported.exact import onnx_form
from training.imported.numbers import named_numbers
from training.onnx.parity import onnx_score, tolerances_of
from training.settings import Model, UseCase

if TYPE_CHECKING:
    from artifact.python_model import PythonModel
    from training.imported.exact import Form

RNG = np.random.default_rng(0)
X = RNG.normal(2, 3, (300, 3))
Y = X @ np.array([[1, 2000], [0, 100], [3, 50]]) + RNG.normal(size=(300, 2))
"""Two targets, whose sizes differ a thousandfold."""

TARGETS: dict[str, Any] = {
    "linear": LinearRegression(),
    "scaled": make_pipeline(SimpleImputer(), StandardScaler(), Ridge()),
    "lasso": MultiTaskLasso(),
    "tree": DecisionTreeRegressor(random_state=0),
    "forest": RandomForestRegressor(10, random_state=0),
    "extra": ExtraTreesRegressor(5, random_state=0),
    "network": make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=(8,), max_iter=20)),
    "projected": PLSRegression(2),
    "kernel": KernelRidge(kernel="rbf"),
    "each": MultiOutputRegressor(GradientBoostingRegressor(n_estimators=10)),
    "each_histogram": MultiOutputRegressor(HistGradientBoostingRegressor(max_iter=10)),
    "chain": RegressorChain(Ridge(), order=[1, 0]),
    "chain_of_trees": RegressorChain(DecisionTreeRegressor(max_depth=4)),
    "scaled_target": TransformedTargetRegressor(Ridge(), transformer=StandardScaler()),
}
FINDERS: dict[str, Any] = {
    "isolation": IsolationForest(n_estimators=20, random_state=0),
    "contaminated": IsolationForest(n_estimators=20, contamination=0.1, random_state=0),
    "filled": make_pipeline(SimpleImputer(), StandardScaler(), IsolationForest(n_estimators=9)),
    "descent": SGDOneClassSVM(),
    "means": KMeans(4, random_state=0),
    "batches": make_pipeline(StandardScaler(), MiniBatchKMeans(5, random_state=0)),
}
JUMPS: dict[str, Any] = {
    "neighbours": KNeighborsRegressor(),
    "machine": OneClassSVM(),
    "envelope": EllipticEnvelope(random_state=0),
    "mixture": GaussianMixture(3, random_state=0),
}
UNWRITTEN: dict[str, tuple[Any, str]] = {
    "local": (LocalOutlierFactor(novelty=True), "LocalOutlierFactor"),
    "some columns": (IsolationForest(n_estimators=5, max_features=0.7), "read some of the columns"),
    "diagonal": (GaussianMixture(2, covariance_type="diag"), "covariances of the kind 'diag'"),
}


def contract(model: Any) -> tuple[PythonModel, Signature]:
    """The spec and the signature of a fitted model of X."""
    described = describe(model)
    columns = tuple(Column(name=f"x{i}", kind="number", missing="refuse") for i in range(3))
    signature = Signature(task="regression", target="y", columns=columns, raw=True)
    loaded: Any = SimpleNamespace(flavor="pickle", file=Path("m.pkl"), trusted=(), versions={}, model=model)
    spec = spec_of(loaded, described, signature, {f"x{i}": "float" for i in range(3)})
    use_case = UseCase(name="written", target="y", model=Model(source="m.pkl"))
    return named_numbers(model, described, spec, signature, X, use_case=use_case)


def written(model: Any) -> tuple[Form, Any]:
    """The form of a fitted model, and what the model itself gives for X, beside each other."""
    spec, signature = contract(model)
    score = score_of(model, spec, signature)
    scores = score(X)
    allowed = tolerances_of(signature, scores)
    return onnx_form(model, spec, signature, score, raw_rows=X, tolerance=allowed), scores


@pytest.mark.parametrize("name", TARGETS)
def test_several_targets_have_an_exact_graph(name: str) -> None:
    """Each target within its own tolerance, and in its own column."""
    model = TARGETS[name].fit(X, Y)
    form, scores = written(model)
    assert form.runtime == "onnx", form.reason
    np.testing.assert_allclose(scores, model.predict(X))
    np.testing.assert_allclose(onnx_score(form.graph)(X), scores, rtol=1e-9)


@pytest.mark.parametrize("name", FINDERS)
def test_finders_of_outliers_and_clusters_have_an_exact_graph(name: str) -> None:
    """Labels, clusters, distances and scores, also of the rows on the border."""
    model = FINDERS[name].fit(X)
    form, scores = written(model)
    assert form.runtime == "onnx", form.reason
    found = onnx_score(form.graph)(X)
    np.testing.assert_array_equal(found[:, 0], model.predict(X))
    np.testing.assert_allclose(found, scores, atol=1e-9)


@pytest.mark.parametrize("name", JUMPS)
def test_a_graph_that_differs_where_the_answer_jumps_is_not_taken(name: str) -> None:
    """It adds in another order, so a row that lies on the jump to the last bit falls to the other side."""
    form, _ = written(JUMPS[name].fit(X, Y) if name == "neighbours" else JUMPS[name].fit(X))

    assert form.runtime == "python"
    assert "its ONNX form is not exact: scores differ" in form.reason


@pytest.mark.parametrize("name", UNWRITTEN)
def test_what_has_no_graph_is_scored_by_its_own_library(name: str) -> None:
    """The reason names the part."""
    model, reason = UNWRITTEN[name]
    form, scores = written(model.fit(X))
    assert form.runtime == "python"
    assert reason in form.reason
    np.testing.assert_array_equal(scores[:, 0], model.predict(X))


def test_one_of_several_numbers_that_is_wrong_is_enough() -> None:
    """A difference that is small beside the large target, and large beside its own, is not exact."""
    model = LinearRegression().fit(X, Y)
    spec, signature = contract(model)
    score = score_of(model, spec, signature)
    allowed = tolerances_of(signature, score(X))

    form = onnx_form(
        model, spec, signature, lambda rows: np.add(score(rows), [1e-3, 0.0]), raw_rows=X, tolerance=allowed
    )

    assert allowed[1] > 1e-3 > allowed[0]
    assert form.runtime == "python"
    assert "not exact" in form.reason
