"""Windows of rows that nothing has happened to are quiet, and shifts that matter are told."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import numpy as np
import pytest
from prometheus_client import REGISTRY
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from artifact.encode import Encoder
from artifact.signature import Column, Signature
from serving.scoring import catalog
from serving.scoring.drift import MIN_ROWS, Window, group, noise_limit, psi
from serving.scoring.sampler import Sampler
from serving.settings import Settings
from tests.bento_server import bento_server, prepare
from tests.serving import artifacts
from training.reference import reference

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

WINDOWS = 200


@dataclass(frozen=True)
class Watched:
    """A model, what its training saw, and rows that it did not see."""

    signature: Signature
    reference: dict[str, Any]
    held_out: NDArray[np.float64]
    score: Callable[[NDArray[np.float64]], NDArray[np.float64]]

    def window(self, rows: int) -> Window:
        return Window(self.signature, self.reference, rows=rows, seconds=3600, least_psi=0.2)

    def drawn(self, rng: np.random.Generator, rows: int) -> NDArray[np.float64]:
        """Rows of those held out, each once while there are enough."""
        return self.held_out[rng.choice(len(self.held_out), rows, replace=rows > len(self.held_out))].copy()

    def alarms(self, matrix: NDArray[np.float64], rows: int | None = None) -> set[str]:
        window = self.window(rows or len(matrix))
        window.add(matrix, self.score(matrix), 0.0)
        return {name for name, _, _ in window.judge(0.0).alarms}


def _watched(
    signature: Signature, matrix: NDArray[Any], y: Any, model: Any, *, train: int, test: int
) -> Watched:
    """Of the shuffled rows so many for training and for its test; the rest is what comes later."""
    order = np.random.default_rng(0).permutation(len(matrix))
    matrix, y = matrix[order], np.asarray(y)[order]
    model.fit(matrix[:train], y[:train])
    tested = model.predict_proba(matrix[train : train + test])
    held = msgspec.json.decode(msgspec.json.encode(reference(signature, matrix[:train], tested)))
    return Watched(signature, held, matrix[train + test :], model.predict_proba)


def few_measures() -> Watched:
    """Thirty columns that go together, 120 rows in the reference, 30 of the scores."""
    data = load_breast_cancer()
    signature = Signature(
        task="binary",
        target="y",
        columns=artifacts.numbers([f"c{i}" for i in range(30)], data.data),
        classes=("benign", "malignant"),
        positive="malignant",
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    return _watched(signature, data.data, 1 - data.target, model, train=120, test=30)


def pixels() -> Watched:
    """Sixty-four columns of few whole numbers, ten classes, and a forest that knows its own rows by heart."""
    data = load_digits()
    signature = Signature(
        task="multiclass",
        target="y",
        columns=artifacts.numbers([f"p{i}" for i in range(64)], data.data, integer=True),
        classes=tuple(range(10)),
    )
    return _watched(
        signature, data.data, data.target, RandomForestClassifier(30, random_state=0), train=500, test=200
    )


def table() -> Watched:
    """Numbers, one of them often missing, categories of all sizes and a date."""
    rng = np.random.default_rng(3)
    n = 8000
    towns = tuple(f"t{i}" for i in range(60))
    signature = Signature(
        task="binary",
        target="y",
        columns=(
            Column(name="age", kind="number", integer=True, minimum=18, maximum=90),
            Column(name="income", kind="number", missing="allow", median=1.0),
            Column(name="job", kind="category", categories=("a", "b", "c")),
            Column(name="town", kind="category", missing="allow", unknown="missing", categories=towns),
            Column(name="day", kind="date", parts=("year", "month", "weekday"), middle="2020-05-17"),
        ),
        classes=("no", "yes"),
        positive="yes",
    )
    shares = 1 / np.arange(1, 61)
    columns = {
        "age": rng.integers(18, 90, n).tolist(),
        "income": [x if rng.random() < 0.9 else None for x in rng.lognormal(10, 1, n)],
        "job": rng.choice(["a", "b", "c"], n, p=[0.7, 0.25, 0.05]).tolist(),
        "town": rng.choice(towns, n, p=shares / shares.sum()).tolist(),
        "day": [
            f"20{rng.integers(10, 24)}-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}" for _ in range(n)
        ],
    }
    matrix = Encoder(signature).columns(columns)

    class Model:
        def fit(self, matrix: NDArray[Any], y: Any) -> None: ...

        def predict_proba(self, matrix: NDArray[Any]) -> NDArray[Any]:
            chance = 1 / (1 + np.exp((matrix[:, 0] - 50) / 10 + (matrix[:, 2] - 1)))
            return np.column_stack([1 - chance, chance])

    return _watched(signature, matrix, np.zeros(n), Model(), train=1500, test=400)


@pytest.fixture(scope="module")
def watched() -> dict[str, Watched]:
    return {"few": few_measures(), "pixels": pixels(), "table": table()}


@pytest.mark.parametrize("name", ["few", "pixels", "table"])
@pytest.mark.parametrize("rows", [120, 400, 2000])
def test_windows_of_unshifted_rows_are_quiet(watched: dict[str, Watched], name: str, rows: int) -> None:
    """At most one false alarm in 200 windows, where one in a thousand is meant."""
    found = watched[name]
    rng = np.random.default_rng(rows)
    window = found.window(rows)
    alarms = []
    for i in range(WINDOWS):
        matrix = found.drawn(rng, rows)
        window.add(matrix, found.score(matrix), 1e4 * i)
        verdict = window.judge(1e4 * i)
        assert verdict.psi, "the window was not judged"
        alarms += [verdict.alarms] if verdict.alarms else []
    assert len(alarms) <= 1, alarms


@pytest.mark.parametrize("name", ["few", "pixels", "table"])
def test_a_column_that_moves_by_one_standard_deviation_is_told(
    watched: dict[str, Watched], name: str
) -> None:
    found = watched[name]
    rng = np.random.default_rng(1)
    place = {"few": 3, "pixels": 20, "table": 0}[name]
    for rows in (400, 2000):
        matrix = found.drawn(rng, rows)
        matrix[:, place] += found.held_out[:, place].std()
        assert found.signature.columns[place].name in found.alarms(matrix)


def test_a_category_that_takes_over_and_one_that_is_new_are_told(watched: dict[str, Watched]) -> None:
    found = watched["table"]
    rng = np.random.default_rng(1)
    for place, name, code in ((2, "job", 2.0), (3, "town", 40.0), (3, "town", -1.0)):
        matrix = found.drawn(rng, 300)
        matrix[rng.random(300) < 0.5, place] = code
        assert found.alarms(matrix) & {name, ""}, (name, code)
        assert name in found.alarms(matrix)


def test_missing_values_that_appear_are_told(watched: dict[str, Watched]) -> None:
    rng = np.random.default_rng(1)
    for name, places in {"few": [7], "table": [0, 4]}.items():
        found = watched[name]
        for place in places:
            matrix = found.drawn(rng, 500)
            scores = found.score(matrix)
            matrix[rng.random(500) < 0.3, place : place + (3 if place == 4 else 1)] = np.nan
            window = found.window(500)
            window.add(matrix, scores, 0.0)
            alarms = {column for column, _, _ in window.judge(0.0).alarms}
            assert alarms == {found.signature.columns[place].name}


def test_scores_that_move_are_told_where_no_column_does(watched: dict[str, Watched]) -> None:
    found = watched["table"]
    matrix = found.held_out[:500]
    window = found.window(500)
    window.add(
        matrix, np.column_stack([1 - found.score(matrix)[:, 1] ** 3, found.score(matrix)[:, 1] ** 3]), 0.0
    )
    verdict = window.judge(0.0)
    assert [name for name, _, _ in verdict.alarms] == [""]
    assert verdict.psi[""] == max(verdict.psi[name] for name in ("", "age", "income", "job", "town"))


def test_todays_dates_are_measured_and_are_no_alarm(watched: dict[str, Watched]) -> None:
    """A window of an hour never looks like ten years of a table."""
    found = watched["table"]
    matrix = found.held_out[:400].copy()
    matrix[:, 4:7] = (2026.0, 11.0, 5.0)
    window = found.window(400)
    window.add(matrix, found.score(matrix), 0.0)
    verdict = window.judge(0.0)
    assert verdict.psi["day"] > 1
    assert verdict.alarms == []


def test_words_that_come_and_go_are_told() -> None:
    terms = ("late", "paid", "soon")
    signature = Signature(
        task="regression",
        target="y",
        columns=(Column(name="note", kind="text", missing="allow", terms=terms, idf=(1.0, 1.0, 1.0)),),
    )
    rng = np.random.default_rng(0)

    def rows(n: int, *chances: float) -> NDArray[np.float64]:
        return (rng.random((n, 3)) < chances).astype(float)

    held = reference(signature, rows(800, 0.5, 0.3, 0.1), rng.normal(size=(200, 1)))
    found = Watched(signature, held, rows(5000, 0.5, 0.3, 0.1), lambda m: rng.normal(size=(len(m), 1)))
    # Eight different rows are all that such a table can hold; here each counts as often as it comes.
    window = found.window(500)
    window._few = 8
    for i in range(WINDOWS):
        matrix = found.drawn(rng, 500)
        window.add(matrix, found.score(matrix), 1e4 * i)
        assert window.judge(1e4 * i).alarms == []
    matrix = rows(500, 0.5, 0.3, 0.7)
    window.add(matrix, found.score(matrix), 1e7)
    assert [name for name, _, _ in window.judge(1e7).alarms] == ["note"]


def test_one_row_sent_again_and_again_is_one_row(watched: dict[str, Watched]) -> None:
    """A load test that repeats a payload, or probes, are no drift: there is too little to judge."""
    found = watched["few"]
    window = found.window(2000)
    matrix = np.repeat(found.held_out[:1], 2000, axis=0)
    window.add(matrix, found.score(matrix), 0.0)
    verdict = window.judge(0.0)
    assert (verdict.rows, verdict.alarms, verdict.psi) == (1, [], {})


def test_columns_of_few_values_count_every_row() -> None:
    """Where all rows that there can be are few, that they repeat says nothing."""
    signature = Signature(
        task="regression",
        target="y",
        columns=(Column(name="c", kind="category", categories=("a", "b", "c")),),
    )
    codes = np.repeat([0.0, 1.0, 2.0], [500, 400, 100])[:, None]
    held = reference(signature, codes, codes)
    window = Window(signature, held, rows=1000, seconds=10, least_psi=0.2)
    window.add(codes, codes, 0.0)
    assert (window.judge(0.0).rows, window.judge(0.0).alarms) == (1000, [])
    window.add(np.repeat([[2.0]], 900, axis=0), np.repeat([[2.0]], 900, axis=0), 1.0)
    assert {name for name, _, _ in window.judge(1.0).alarms} == {"c", ""}


def test_the_window_forgets_by_rows_and_by_time(watched: dict[str, Watched]) -> None:
    found = watched["table"]
    window = found.window(300)
    for i in range(10):
        matrix = found.held_out[100 * i : 100 * (i + 1)]
        window.add(matrix, found.score(matrix), float(i))
    assert window.judge(9.0).rows == 300
    assert window.judge(3600 + 8.5).rows == MIN_ROWS
    assert window.judge(3600 + 9.5).rows == 0


def test_psi_of_equal_shares_is_nothing_and_noise_shrinks_with_rows() -> None:
    assert psi(np.array([10, 20]), np.array([100, 200])) == pytest.approx(0, abs=1e-3)
    assert psi(np.array([50, 50]), np.array([90, 10])) == pytest.approx(0.88, abs=0.05)
    counts = np.full(10, 40)
    limits = [noise_limit(counts, rows, 1e-4) for rows in (100, 400, 2000)]
    assert limits == sorted(limits, reverse=True)
    assert limits[0] > 0.2 > limits[2] > 0.03


def test_bins_are_joined_with_their_neighbours() -> None:
    assert group(np.full(10, 40), 10).tolist() == list(range(10))
    assert group(np.full(10, 40), 5).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert group(np.array([97, 1, 1, 1]), 4).tolist() == [0, 1, 1, 1]
    assert group(np.array([0, 0, 0]), 4).tolist() == [0, 0, 0]


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("rate", [20, 500, 20_000])
def test_the_sampler_is_even_and_bounded(rate: int, rows: int) -> None:
    now = [0.0]
    sampler = Sampler(100, clock=lambda: now[0])
    taken, halves, seen, second = 0, [0, 0], 0, [0] * 40
    for i in range(30 * rate // rows + 1):
        found = sampler.take(rows)
        seen += rows
        if found is not None:
            assert 0 <= found[0] <= found[-1] < rows
            taken += len(found)
            second[int(now[0])] += len(found)
            halves[i % 2] += len(found)
        now[0] += rows / rate
    assert taken + sampler.skipped() - sampler.left == seen
    assert max(second) <= 2 * 100  # a second of ours lies in two of the sampler's
    assert taken <= 31 * 100
    assert taken >= (0.35 * 30 * min(rate, 100) if rows < rate else 1)
    if rows < 10:
        assert min(halves) > 0.35 * taken


def test_a_sampler_that_was_busy_wakes_up() -> None:
    now = [0.0]
    sampler = Sampler(10, clock=lambda: now[0])
    for _ in range(100):
        sampler.take(10_000)
        now[0] += 0.1
    assert sampler.take(1) is None
    now[0] += 5
    sampler.wake()
    taken = 0
    for _ in range(100):
        taken += len(sampler.take(1) or ())
        now[0] += 1
        sampler.wake()
    assert taken == 100


# ---- in a server


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """The artifact of a logistic regression with a reference beside it."""
    made = artifacts.breast_cancer(tmp_path / "breast_cancer")
    matrix = np.array(made.rows)
    held = reference(made.signature, matrix[::2], made.scores(made.rows[1::2]))
    (made.path / "reference.json").write_bytes(msgspec.json.encode(held))
    artifacts.reseal(made.path)
    return made.path


def _model(path: Path, **settings: Any) -> catalog.LiveModel:
    return catalog.open_model("breast_cancer", path, {"version": "3"}, Settings(**settings))


def _gauge(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_what_a_model_scores_is_watched(sealed: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = _model(sealed, drift_rows_per_s=10_000)
    model.announce()
    assert model.drift is not None
    data = load_breast_cancer().data[1::2]

    async def score(rows: NDArray[Any]) -> None:
        waiting = asyncio.get_running_loop().create_future()
        model.batcher.submit(rows, len(rows), lambda *_: waiting.set_result(None), time.perf_counter() + 9)
        await waiting

    try:
        asyncio.run(score(data))
        assert model.drift.look(0.0).alarms == []
        assert _gauge("okamochi_drift_rows", model="breast_cancer") == len(data)
        assert _gauge("okamochi_drift_alarm", model="breast_cancer") == 0
        shifted = data.copy()
        shifted[:, 5] += data[:, 5].std()
        asyncio.run(score(shifted))
        column = model.signature.names[5]
        assert column in {name for name, _, _ in model.drift.look(1e9).alarms}
        assert _gauge("okamochi_drift_alarm", model="breast_cancer") == 1
        assert (_gauge("okamochi_drift_psi", model="breast_cancer", column=column) or 0) > 0.2
        assert any(repr(column) in message and "limit" in message for message in caplog.messages)
        model.drift.look(2e9)  # everything is too old
        assert _gauge("okamochi_drift_alarm", model="breast_cancer") == 0
    finally:
        model.batcher.close()
        model.drift.close()


def test_drift_is_off_where_it_is_turned_off_or_there_is_no_reference(
    sealed: Path, made: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert _model(sealed, drift_rows_per_s=0).drift is None
    bare = catalog.open_model("iris", made["iris"].path, {"version": "1"}, Settings())
    assert bare.drift is None
    held = msgspec.json.decode((sealed / "reference.json").read_bytes())
    held["columns"].popitem()
    (sealed / "reference.json").write_bytes(msgspec.json.encode(held))
    artifacts.reseal(sealed)
    assert _model(sealed).drift is None
    assert any("not watched for drift" in message for message in caplog.messages)


def test_a_server_tells_drift(sealed: Path, tmp_path: Path) -> None:
    """Held-out rows raise nothing, shifted ones raise the alarm within some looks."""
    prepare(tmp_path / "work", {"breast_cancer": (sealed, "3")})
    settings = {
        "OKAMOCHI_DRIFT_EVERY_S": "0.3",
        "OKAMOCHI_DRIFT_ROWS_PER_S": "1000",
        "OKAMOCHI_DRIFT_WINDOW_ROWS": "280",
    }
    data = load_breast_cancer().data[1::2]

    def found(client: httpx.Client, sample: str) -> float:
        value = re.search(rf"^{re.escape(sample)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
        return float(value[1]) if value else -1.0

    def until(client: httpx.Client, sample: str, least: float) -> bool:
        return any(found(client, sample) >= least or time.sleep(0.2) for _ in range(1_000))  # type: ignore[func-returns-value]

    with (
        bento_server(tmp_path / "work", settings=settings) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        for row in data:
            assert client.post("/predict", json={"features": [row.tolist()]}).status_code == 200
        assert until(client, 'okamochi_drift_rows{model="breast_cancer"}', 250)
        assert found(client, 'okamochi_drift_alarm{model="breast_cancer"}') == 0
        for row in data * 1.5:
            client.post("/predict", json={"features": [row.tolist()]})
        assert until(client, 'okamochi_drift_alarm{model="breast_cancer"}', 1)
        # The look that raised the alarm may have been one in the midst of the shifted rows.
        assert until(client, 'okamochi_drift_psi{column="mean_radius",model="breast_cancer"}', 0.2)
        # The metric is set before the line is written.
        told = re.compile(r"^.*model breast_cancer drifts.*mean_radius.*$", re.MULTILINE)
        for _ in range(1_000):
            if told.search(server.log.read_text()):
                break
            time.sleep(0.2)
        assert told.search(server.log.read_text()), server.log.read_text()
