"""A model that does as well as promised is let alone; one that does not is told, and not by chance."""

from __future__ import annotations

import asyncio
import json
import math
import time
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from artifact import verdict
from artifact.signature import Column, Signature
from serving.http.gateway import Gateway
from serving.prediction_log.folder import Folder
from serving.prediction_log.record import Line
from serving.scoring import catalog
from serving.settings import Settings
from tests.serving.conftest import ask, elsewhere
from tests.serving.prediction_log.rows import id_of, tell
from tests.training import conftest
from tests.training.decide.test_promote import fruits
from training.decide.live import Estimate, judge, tolerance_of
from training.decide.live_log import NothingToJudgeError, PublishError, Row, publish, read_log
from training.decide.live_report import as_dict, as_json, table
from training.decide.promote import FIGURES, challenge
from training.registry.mlflow_registry import Registry
from training.registry.records import Version

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from artifact import manifest

FRUIT = msgspec.structs.replace(conftest.FRUIT, sensitive=("farm",))
HOUSE = Signature(task="regression", target="price", columns=(Column(name="rooms", kind="number"),))


def version(metric: str = "accuracy", promise: float = 0.9, test_rows: int | None = 400) -> Version:
    figures = {"metrics": {metric: promise}, "test_rows": test_rows}
    return Version("fruit", "7", "run", {"metric": metric, FIGURES: json.dumps(figures)})


def fruit(n: int, right: float, seed: int = 0, number: str = "7") -> list[Row]:
    """Rows of which a share was told rightly, over four days."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        plum = bool(rng.random() < 0.5)
        said = plum == bool(rng.random() < right)
        chance = rng.uniform(0.5, 1) if said else rng.uniform(0, 0.5)
        columns = {"weight": 1.0, "colour": ["blue", "red", None][i % 3], "farm": ["0a", "0b"][i % 2]}
        at = f"2026-11-0{1 + i % 4}T10:00:00.000+00:00"
        rows.append(Row(at, number, columns, [1 - chance, chance], "plum" if plum else "apple"))
    return rows


def test_a_kept_promise_is_told_with_its_interval_days_and_slices() -> None:
    found = judge(version(), FRUIT, fruit(600, 0.9))
    assert not found.broken
    assert found.live.low < 0.9 < found.live.high
    assert found.live.high - found.live.low < 0.06
    assert list(found.days) == ["2026-11-01", "2026-11-02", "2026-11-03", "2026-11-04"]
    assert sum(part.rows for part in found.days.values()) == 600
    assert [(name, level) for name, level, _ in found.slices] == [
        ("farm", "0a"),
        ("farm", "0b"),
        ("colour", "blue"),
        ("colour", "missing"),
        ("colour", "red"),
    ]
    text = table(found)
    assert "promised  0.9000 on 400 test rows" in text
    assert "The promise is kept" in text
    assert "colour = missing" in text
    assert json.loads(as_json(as_dict(found)))["slices"][0]["column"] == "farm"


def test_groups_of_people_are_compared_by_the_outcomes_that_came() -> None:
    """Each plum of one farm is missed; where the log has no sensitive column, nothing is compared."""
    rows = [
        msgspec.structs.replace(row, scores=[0.9, 0.1]) if row.columns["farm"] == "0b" else row
        for row in fruit(600, 0.9)
    ]
    (found,) = judge(version(), FRUIT, rows).fairness
    assert (found.title, found.answer) == ("farm", "plum")
    apart = found.disparities["equal_opportunity_difference"]
    assert (apart.highest.levels, apart.lowest.levels) == (("0a",), ("0b",))
    assert apart.value == pytest.approx(0.9, abs=0.05)
    text = table(judge(version(), FRUIT, rows))
    assert "Groups by farm (answer plum)" in text
    assert "Equal opportunity difference: " in text
    told = json.loads(as_json(as_dict(judge(version(), FRUIT, rows))))
    assert told["fairness"][0]["disparities"]["equal_opportunity_difference"]["value"] == apart.value
    without = [msgspec.structs.replace(row, columns={"weight": 1.0}) for row in rows]
    assert judge(version(), FRUIT, without).fairness == []


def test_a_broken_promise_is_told() -> None:
    found = judge(version(), FRUIT, fruit(600, 0.8))
    assert found.broken
    assert "The promise is broken" in table(found)


def test_the_noise_of_both_figures_breaks_a_promise_once_in_forty_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model of 0.9 whose promise was measured on 200 rows, as well as what it does now on 200 others."""
    monkeypatch.setattr("training.decide.live.RESAMPLES", 200)
    monkeypatch.setattr("training.decide.live.RESAMPLES_OF_PART", 1)
    monkeypatch.setattr("training.decide.live.MIN_RESAMPLES", 1)
    rng = np.random.default_rng(2)
    broken = sum(
        judge(
            version(promise=rng.binomial(200, 0.9) / 200, test_rows=200), FRUIT, fruit(200, 0.9, seed)
        ).broken
        for seed in range(100)
    )
    assert broken <= 7
    assert tolerance_of(Estimate(200, 0.9, 0.86, 0.94), 200, higher_is_better=True) == pytest.approx(
        0.04 * (math.sqrt(2) - 1)
    )
    assert tolerance_of(Estimate(200, 0.9, 0.86, 0.94), None, higher_is_better=True) == 0


def test_an_error_that_grows_breaks_a_promise_too() -> None:
    rng = np.random.default_rng(0)

    def rows(error: float) -> list[Row]:
        return [Row("2026-11-01", "7", {"rooms": 3.0}, [5.0], 5.0 + rng.normal(0, error)) for _ in range(300)]

    assert not judge(version("rmse", 1.0), HOUSE, rows(1.0)).broken
    assert not judge(version("rmse", 1.0), HOUSE, rows(0.5)).broken
    assert judge(version("rmse", 1.0), HOUSE, rows(1.5)).broken


def test_a_day_of_one_class_is_undefined_and_breaks_nothing() -> None:
    rows = fruit(200, 0.95)
    rows += [Row("2026-11-09", "7", {}, [0.9, 0.1], "apple")] * 5
    found = judge(version("roc_auc", 0.9), FRUIT, rows)
    assert math.isnan(found.days["2026-11-09"].value)
    assert "2026-11-09  undefined   5 rows" in table(found)
    assert json.loads(as_json(as_dict(found)))["days"]["2026-11-09"]["value"] is None


@pytest.mark.parametrize(
    ("tagged", "rows", "reason"),
    [
        (version(), [], "0 rows that version 7 of fruit answered have feedback"),
        (version(), fruit(29, 0.9), "29 rows"),
        (version(), fruit(100, 0.9, number="6"), "100 are of other versions"),
        (version(), [Row("2026-11-01", "7", {}, [0.5, 0.5], "pear")] * 50, "the value of 50 is not one"),
        (version("roc_auc"), [Row("2026-11-01", "7", {}, [0.9, 0.1], "apple")] * 50, "all of one class"),
        (Version("fruit", "7", "run", {}), fruit(100, 0.9), "no figure from the gate"),
    ],
)
def test_where_there_is_nothing_to_judge_it_says_why(tagged: Version, rows: list[Row], reason: str) -> None:
    with pytest.raises(NothingToJudgeError, match=reason):
        judge(tagged, FRUIT, rows)


def _line(number: int, model: str = "fruit") -> Line:
    return Line(
        id_of(number),
        0,
        1,
        f"2026-11-01T00:00:{number % 60:02d}.000+00:00",
        model,
        "7",
        "predict",
        {"colour": "red"},
        "plum",
        [0.25, 0.75],
    )


def test_a_folder_is_joined_by_id_and_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    for start in (0, 100):
        store = Folder(tmp_path, file_bytes=3000, file_s=1e9)
        store.write([_line(i) for i in range(start, start + 40)])
        store.write([_line(start + 40, "other")])
        tell(store, *((_line(i), "plum") for i in range(start, start + 40, 2)))
        tell(store, (_line(start + 40, "other"), "plum"))
        store.close()
    for path in tmp_path.glob("*.jsonl"):
        with path.open("ab") as file:
            file.write(b'{"id":"%s","row":0,"a' % id_of(0).encode())
    (tmp_path / "feedback-expired.jsonl").write_text(
        '{"id":"0123456789ab-1","row":0,"actual":1,"model":"fruit"}\n'
    )
    rows = list(read_log(str(tmp_path), "fruit"))
    assert len(rows) == 40
    assert {row.actual for row in rows} == {"plum"}
    assert rows[0] == Row("2026-11-01T00:00:00.000+00:00", "7", {"colour": "red"}, [0.25, 0.75], "plum")
    with pytest.raises(NothingToJudgeError, match="is not a folder"):
        list(read_log(str(tmp_path / "nowhere"), "fruit"))


def test_postgresql_is_joined_too(postgres_url: str) -> None:
    from serving.prediction_log.postgres import Postgres

    store = Postgres(postgres_url)
    store.write([_line(0xF00 + i, "pg_fruit") for i in range(10)])
    tell(store, *((_line(0xF00 + i, "pg_fruit"), "plum") for i in range(5)))
    rows = list(read_log(postgres_url, "pg_fruit"))
    assert len(rows) == 5
    assert rows[0] == Row("2026-11-01", "7", {"colour": "red"}, [0.25, 0.75], "plum")
    for right, broken in ((0.9, False), (0.7, True)):
        publish(judge(version(), FRUIT, fruit(600, right)).verdict(), postgres_url)
        (said,) = store.verdicts()
        assert (said.model, said.version, said.metric, said.broken) == ("fruit", "7", "accuracy", broken)
    with pytest.raises(PublishError, match="cannot be written"):
        publish(
            judge(version(), FRUIT, fruit(600, 0.9)).verdict(), "postgresql://nobody:hidden@127.0.0.1:1/x"
        )
    store.close()
    with pytest.raises(NothingToJudgeError, match="cannot be read"):
        list(read_log("postgresql://nobody:hidden@127.0.0.1:1/x", "fruit"))


def test_the_command_judges_what_a_server_logged(
    mlflow_url: str,
    make_artifact: Callable[..., manifest.Artifact],
    cli: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """From requests and feedback to the exit code: 2 before there is any, 0 while it is right, else 3."""
    name, log = "livefruit", tmp_path / "log"
    registry = Registry(mlflow_url)
    run = registry.start(name, name, {})
    artifact = make_artifact(name, run_id=run, turn=3.0)
    registered = registry.register(
        artifact, run, tags={"metric": "accuracy"}, metrics={}, description="", about=""
    )
    assert challenge(registry, fruits(name), registered).accepted
    settings = Settings(prediction_log=str(log), drift_rows_per_s=0, prediction_log_rows_per_s=10_000)
    models = catalog.load([(name, name)], lambda _: (artifact.path, {"version": registered.number}), settings)
    gateway = Gateway(elsewhere, models, settings)

    def serve(turn: float) -> None:
        weights = np.random.default_rng(int(turn)).uniform(0, 6, 150)

        async def main() -> None:
            body = {"columns": {"weight": weights.tolist(), "colour": ["red", "blue", None] * 50}}
            answer = await ask(gateway, "POST", "/predict", json.dumps(body).encode())
            said = [
                {"id": answer.json()["id"], "row": i, "actual": "apple" if weight > turn else "plum"}
                for i, weight in enumerate(weights)
            ]
            told = await ask(gateway, "POST", "/feedback", msgspec.json.encode(said))
            assert told.json() == {"stored": 150, "known": 0}

        asyncio.run(main())

    log.mkdir()
    said = cli("live", name, "--log", log)
    assert said.code == 2
    assert "0 rows that version 1" in said.err
    assert cli("live", name).code == 2  # no log is named
    assert cli("live", name, "--log", tmp_path / "nowhere", "--publish").code == 2
    assert not list(log.glob("live-*"))
    serve(3.0)
    said = cli("live", name, "--log", log, "--publish")
    assert said.code == 0, said
    (shown,) = verdict.found_in(log)
    assert not shown.broken
    assert "The promise is kept" in said.out
    assert (tmp_path / "reports" / f"{name}-live.png").stat().st_size > 10_000
    serve(5.0)
    assert cli("live", name, "--log", log).code == 3
    assert verdict.found_in(log) == [shown], "nothing is left in a log unless it is asked for"
    said = cli("live", name, "--log", log, "--json", "--publish")
    assert said.code == 3, said
    found = json.loads(said.out)
    assert found["broken"] is True
    assert found["live"]["rows"] == 300
    (shown,) = verdict.found_in(log)
    assert (shown.broken, shown.rows, shown.value) == (True, 300, found["live"]["value"])
    assert shown.promise == found["promise"]
    assert abs(shown.at - time.time()) < 60
    assert found["promise_rows"] == 200
    assert {part["level"] for part in found["slices"]} == {"red", "blue", "missing"}
    assert gateway.predictions is not None
    gateway.predictions.close()
    models.close()
