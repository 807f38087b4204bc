"""Named numbers with a table: several targets are measured, outliers and clusters get rows only."""

from __future__ import annotations

import asyncio
import json
import tomllib
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import IsolationForest, RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from serving.http.gateway import Gateway
from serving.scoring import catalog
from serving.settings import Settings
from tests.serving.conftest import ask, elsewhere
from training.decide.live import judge
from training.decide.live_log import read_log
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION, UNMEASURED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Said

    from training.registry.records import Version

pytestmark = pytest.mark.deep

TARGETS = ["height", "weight"]


def table(rows: int = 240) -> Any:
    """Three columns, and two targets whose sizes differ a hundredfold."""
    rng = np.random.default_rng(5)
    found = pd.DataFrame(rng.normal(2, 3, (rows, 2)), columns=["a", "b"])
    found["colour"] = rng.choice(["red", "green"], rows)
    found["height"] = 2 * found.a + 4 * (found.colour == "red") + rng.normal(size=rows)
    found["weight"] = 200 * found.a + 100 * found.b + 50 * rng.normal(size=rows)
    return found


def fitted(model: Any, rows: Any, targets: list[str] = TARGETS) -> Any:
    columns = [("n", StandardScaler(), ["a", "b"]), ("c", OneHotEncoder(), ["colour"])]
    return make_pipeline(ColumnTransformer(columns), model).fit(rows[["a", "b", "colour"]], rows[targets])


def ran(cli: Callable[..., Said], *command: str) -> Said:
    found = cli(*command)
    assert found.code == 0, found.err
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    table()[120:].to_csv("table.csv", index=False)
    return tmp_path


def champion(url: str, name: str) -> tuple[Registry, Version]:
    registry = Registry(url)
    version = registry.version(name, CHAMPION)
    assert version is not None
    return registry, version


def test_several_targets_are_measured_compared_and_served_by_onnx(
    cli: Callable[..., Said], here: Path, mlflow_url: str
) -> None:
    """Each figure is the mean over the targets; a better model takes the place of the first."""
    whole = table()
    forest = fitted(RandomForestRegressor(5, random_state=0), whole[:120])
    joblib.dump(forest, "model.pkl")
    options = ("--data", "table.csv", "--target", "height,weight", "--name", "two_targets", "--trust")

    ran(cli, "init", "model.pkl", *options)
    written = tomllib.loads((here / "two_targets.toml").read_text())
    ran(cli, "run", "two_targets.toml")
    registry, first = champion(mlflow_url, "two_targets")
    joblib.dump(fitted(LinearRegression(), whole[:120]), "model.pkl")
    said = ran(cli, "run", "two_targets.toml").out
    shown = ran(cli, "show", "two_targets").out
    report = ran(cli, "report", "two_targets.toml").out

    assert (written["targets"], written["task"]) == (TARGETS, "scores")
    assert "target" not in written
    actual, predicted = whole[120:][TARGETS], forest.predict(whole[120:][["a", "b", "colour"]])
    found = json.loads(first.tags["okamochi.figures"])["metrics"]
    assert found["r2"] == pytest.approx(r2_score(actual, predicted))
    assert found["mae"] == pytest.approx(mean_absolute_error(actual, predicted))
    assert found["rmse"] == pytest.approx(root_mean_squared_error(actual, predicted))
    assert first.tags["runtime"] == "onnx"
    _, second = champion(mlflow_url, "two_targets")
    assert (first.number, second.number) == ("1", "2")
    assert "It is better" in said
    assert "version    2" in shown
    assert "height -" in report
    artifact = registry.download(second, here / "champion")
    assert "Each figure is the mean over height, weight." in (artifact / "card.md").read_text()
    assert set(json.loads((artifact / "reference.json").read_text())["scores"]) == set(TARGETS)


@pytest.fixture
def gateway(cli: Callable[..., Said], here: Path, mlflow_url: str) -> Iterator[Gateway]:
    """Two targets served with a prediction log."""
    joblib.dump(fitted(LinearRegression(), table()[:120]), "model.pkl")
    options = ("--data", "table.csv", "--target", "height,weight", "--name", "logged_targets", "--trust")
    ran(cli, "init", "model.pkl", *options)
    ran(cli, "run", "logged_targets.toml")
    registry, version = champion(mlflow_url, "logged_targets")
    artifact = registry.download(version, here / "champion")
    settings = Settings(prediction_log=str(here / "log"), default_deadline_ms=60_000)
    models = catalog.load(
        [("logged_targets", "logged_targets")], lambda _: (artifact, {"version": version.number}), settings
    )
    found = Gateway(elsewhere, models, settings)
    yield found
    assert found.predictions is not None
    found.predictions.close()
    models.close()


def test_outcomes_of_several_targets_are_reported_and_judged(
    gateway: Gateway, here: Path, mlflow_url: str
) -> None:
    """The log has the named numbers; an outcome is an object of them, and live quality is their mean."""

    def sent(path: str, body: Any) -> Any:
        return asyncio.run(ask(gateway, "POST", path, json.dumps(body).encode()))

    rows = table()[120:]
    reply = sent("/predict", {"records": rows[["a", "b", "colour"]].to_dict("records")}).json()
    outcomes = rows[TARGETS].to_dict("records")
    items = [{"id": reply["id"], "row": i, "actual": actual} for i, actual in enumerate(outcomes)]
    wrong = [{**items[0], "actual": actual} for actual in (1.0, {"height": 1}, {"height": 1, "weight": "x"})]
    refused = [sent("/feedback", [item]) for item in wrong]
    told = sent("/feedback", items)
    artifact = gateway.catalog.live["logged_targets"].artifact
    _, version = champion(mlflow_url, "logged_targets")
    assert gateway.predictions is not None
    gateway.predictions.flush()
    live = judge(version, artifact.signature, read_log(str(here / "log"), "logged_targets"))

    assert [answer.status for answer in refused] == [422] * 3
    assert "height, weight" in refused[0].json()["errors"][0]["reason"]
    assert "'weight'" in refused[2].json()["errors"][0]["reason"]
    assert told.status == 200, told.json()
    predicted = pd.DataFrame(reply["prediction"])[TARGETS]
    assert live.live.rows == 120
    assert live.live.value == pytest.approx(r2_score(rows[TARGETS], predicted))
    assert not live.broken


@pytest.mark.parametrize(
    "model", [IsolationForest(n_estimators=10, random_state=0), KMeans(3, random_state=0)]
)
def test_a_finder_gets_rows_and_no_figures_from_a_table(
    model: Any, cli: Callable[..., Said], here: Path, mlflow_url: str
) -> None:
    """The table gives columns, golden rows, the reference for drift and the proof of the graph."""
    rows = table()[["a", "b"]]
    joblib.dump(model.fit(rows), "model.pkl")
    name = f"found_{type(model).__name__.lower()}"

    ran(cli, "init", "model.pkl", "--data", "table.csv", "--name", name, "--trust")
    said = ran(cli, "run", f"{name}.toml").out
    ran(cli, "report", f"{name}.toml")
    registry, version = champion(mlflow_url, name)
    artifact = registry.download(version, here / "champion")

    assert "unmeasured, as the use case names no target" in said
    assert version.tags[UNMEASURED]
    assert version.tags["runtime"] == "onnx"
    golden = json.loads((artifact / "golden.json").read_text())
    assert len(golden["records"]) > 8
    model_says = model.predict(pd.DataFrame(golden["records"])[["a", "b"]])
    assert [row[0] for row in golden["scores"]] == pytest.approx(model_says)
    reference = json.loads((artifact / "reference.json").read_text())
    assert set(reference["columns"]) == {"a", "b"}
    assert "no column of the table has the true values" in (artifact / "card.md").read_text()


@pytest.mark.usefixtures("here", "mlflow_url")
def test_answers_and_targets_that_do_not_fit_are_one_sentence(cli: Callable[..., Said]) -> None:
    """It says how many numbers there are, or which name is wrong, before anything is registered."""
    whole = table()
    joblib.dump(fitted(LinearRegression(), whole), "two.pkl")
    joblib.dump(IsolationForest(n_estimators=5).fit(whole[["a", "b"]]), "outliers.pkl")
    wrong: dict[str, tuple[tuple[str, ...], str]] = {
        "one": (
            ("two.pkl", "--target", "height"),
            "of shape (120, 2), expected one number a row. Name a column for each number",
        ),
        "feature": (("two.pkl", "--target", "height,a"), "reads the column 'a', so it cannot be a target"),
        "misspelt": (("two.pkl", "--target", "height,wight"), 'names the column "wight"'),
        "none": (("two.pkl",), "--target is missing"),
        "outliers": (("outliers.pkl", "--target", "height"), "which the column 'height' does not measure"),
    }
    for name, (command, sentence) in wrong.items():
        found = cli("init", *command, "--data", "table.csv", "--name", f"wrong_{name}", "--trust")
        if found.code == 0:
            found = cli("run", f"wrong_{name}.toml")
        assert found.code == 2, name
        assert sentence in found.err, name
        assert "Traceback" not in found.err
    for name, target in (("three", "height,weight,size"), ("four", "a,b,c,d")):
        found = cli("init", "two.pkl", "--target", target, "--name", f"wrong_{name}", "--trust")
        assert found.code == 2
        assert "answers 2 numbers a row" in found.err


@pytest.mark.usefixtures("here")
def test_a_target_without_numbers_is_one_sentence(cli: Callable[..., Said]) -> None:
    """Words, one value in all rows, and rows without a value."""
    whole = table()
    joblib.dump(fitted(LinearRegression(), whole), "two.pkl")
    for column, cells, sentence in (
        ("weight", ["heavy"] * 120, "expected numbers"),
        ("weight", [3.5] * 120, "is 3.5 in all rows"),
        ("height", [1.0] + [None] * 119, "that is too few"),
    ):
        whole[120:].assign(**{column: cells}).to_csv("odd.csv", index=False)
        options = ("--data", "odd.csv", "--target", "height,weight", "--name", "odd_targets", "--trust")
        found = cli("init", "two.pkl", *options)
        assert found.code == 2
        assert sentence in found.err


def test_targets_of_a_use_case_are_checked(cli: Callable[..., Said], here: Path) -> None:
    """With a target beside them, another task, no model, or twice the same name."""
    model = '[model]\nsource = "two.pkl"\ntrust = true\n'
    for lines, sentence in (
        ('target = "y"\ntargets = ["a", "b"]\n', "target and targets are both set"),
        ('targets = ["a", "a"]\n', "each of them once"),
        ("targets = []\n", "expected one name or more"),
        ('task = "regression"\ntargets = ["a", "b"]\n', 'is for the task "scores"'),
    ):
        (here / "checked.toml").write_text(f'name = "checked"\n{lines}{model}')
        found = cli("run", "checked.toml")
        assert found.code == 2
        assert sentence in found.err
    (here / "checked.toml").write_text('targets = ["a", "b"]\n[source]\nkind = "csv"\npath = "table.csv"\n')
    found = cli("run", "checked.toml")
    assert found.code == 2
    assert "only a model that was made elsewhere has" in found.err


class Unsteady:
    """Answers what its task allows until a column is large, then NaN or another shape."""

    def __init__(self, bad: str) -> None:
        self.bad = bad
        self.n_features_in_ = 2

    def predict(self, rows: Any) -> Any:
        good = np.column_stack([rows[:, 0], rows[:, 1]])
        if not (rows > 1000).any():
            return good
        return good * np.nan if self.bad == "nan" else good[:, :1] if self.bad == "narrow" else np.array("no")


@pytest.mark.parametrize("bad", ["nan", "narrow", "words"])
def test_a_model_whose_answers_change_their_shape_fails_for_that_row_alone(
    bad: str, cli: Callable[..., Said], here: Path, mlflow_url: str
) -> None:
    """NaN is the row's fault (422); another shape is the model's (500); the next row is answered."""
    joblib.dump(Unsteady(bad), "model.pkl")
    name = f"unsteady_{bad}"
    ran(cli, "init", "model.pkl", "--name", name, "--trust", "--target", "p,q")
    ran(cli, "run", f"{name}.toml")
    registry, version = champion(mlflow_url, name)
    artifact = registry.download(version, here / "champion")
    models = catalog.load([(name, name)], lambda _: (artifact, {"version": "1"}), Settings())
    assert models.refused == {}
    gateway = Gateway(elsewhere, models, Settings(default_deadline_ms=60_000))
    try:
        both = asyncio.run(several(gateway, [[1.0, 2.0]], [[5000.0, 2.0]], [[3.0, 4.0]]))
    finally:
        models.close()
    assert both[0].json()["prediction"] == [{"p": 1.0, "q": 2.0}]
    assert both[1].status == (422 if bad == "nan" else 500)
    assert both[2].json()["prediction"] == [{"p": 3.0, "q": 4.0}]


async def several(gateway: Gateway, *bodies: Any) -> list[Any]:
    return [
        await ask(gateway, "POST", "/predict", json.dumps({"features": rows}).encode()) for rows in bodies
    ]
