"""Which graphs stand for a model: those that answer as it does where its answer jumps, to the last bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC, LinearSVC, OneClassSVM

from artifact.python_model import Input, PythonModel, score_of
from artifact.signature import Column, Signature
from training.imported import exact
from training.imported.exact import onnx_form, parity_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.imported.exact import Form

COLUMNS = 4
NAMES = tuple(f"x{place}" for place in range(COLUMNS))
TOLERANCE = np.array([1e-5])


def table() -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Numbers, and two classes that a line parts badly."""
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(200, COLUMNS))
    return rows, np.where(rows[:, 0] + rows[:, 1] ** 2 + rng.normal(0, 0.3, 200) > 0.7, "yes", "no")


def form_of(model: Any, **asked: Any) -> Form:
    """The form of a model that is fitted on the table."""
    rows, labels = table()
    columns = tuple(Column(name=name, kind="number", missing="refuse") for name in NAMES)
    if "numbers" in asked:
        signature = Signature(
            task="scores", target="y", columns=columns, raw=True, numbers=asked.pop("numbers")
        )
    else:
        signature = Signature(
            task="binary", target="y", columns=columns, raw=True, classes=("no", "yes"), positive="yes"
        )
        asked = {"order": (0, 1), **asked}
    spec = PythonModel(
        flavor="pickle", file="", inputs=tuple(Input(name, "float") for name in NAMES), frame=False, **asked
    )
    model.fit(rows, labels)
    score = score_of(model, spec, signature)
    return onnx_form(model, spec, signature, score, raw_rows=rows, tolerance=TOLERANCE)


LABELS = {"method": "predict", "labels": ("no", "yes")}
OUTLIERS = {
    "method": "predict", "methods": ("predict", "score_samples", "decision_function"), "order": (0, 1, 2),
    "numbers": ("label", "score_samples", "decision_function"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        (SVC(), LABELS),
        (SVC(kernel="poly", degree=2), LABELS),
        (KNeighborsClassifier(5), {"method": "predict_proba"}),
        (OneClassSVM(), OUTLIERS),
    ],
    ids=["RBF", "polynomial", "neighbours", "outliers"],
)
def test_a_sum_in_another_order_is_found_where_the_answer_jumps(model: Any, asked: dict[str, Any]) -> None:
    """The model adds row by row, its graph by a matrix product: a row on the border falls to either side."""
    form = form_of(model, **asked)

    assert form.runtime == "python"
    assert "its ONNX form is not exact: scores differ by at most" in form.reason


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        (LinearSVC(), LABELS),
        (RidgeClassifier(), LABELS),
        (LogisticRegression(), {"method": "predict_proba"}),
        (
            KMeans(3, n_init=1, random_state=0),
            {
                "method": "predict", "methods": ("predict", "transform"), "order": (0, 1, 2, 3),
                "numbers": ("cluster", "distance_0", "distance_1", "distance_2"),
            },
        ),
    ],
    ids=["margin", "ridge", "logistic", "clusters"],
)  # fmt: skip
def test_a_border_on_which_the_model_contradicts_itself_decides_nothing(
    model: Any, asked: dict[str, Any]
) -> None:
    """A matrix product has other last bits for one row than for many: there no answer is the right one."""
    assert form_of(model, **asked).runtime == "onnx"


@pytest.mark.parametrize("blurred", [np.float32, lambda rows: rows + 1e-13 * np.abs(rows)])
def test_a_graph_that_rounds_is_found_even_if_the_model_contradicts_itself(
    blurred: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows stand a little beside a jump as well, where float32 shows and the last bits do not."""
    rows, _ = table()
    signature = Signature(
        task="regression", target="y", raw=True,
        columns=tuple(Column(name=name, kind="number", missing="refuse") for name in NAMES),
    )  # fmt: skip
    monkeypatch.setattr(exact, "_contradicts_itself", lambda *_: True)

    def score(asked: NDArray[np.float64]) -> NDArray[np.float64]:
        steps = np.floor(np.asarray(asked, np.float64) * 7.3)  # a jump at each 7.3rd, in float64
        return steps.sum(axis=1, keepdims=True)

    found = parity_of(signature, score, lambda asked: score(blurred(asked)), rows, TOLERANCE)

    assert found.exact == (blurred is not np.float32)
