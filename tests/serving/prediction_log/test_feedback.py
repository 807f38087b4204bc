"""What was right is kept once, with the row that it is about, or refused with the reason."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import REGISTRY

from artifact.signature import Column, Signature
from serving.http.gateway import Gateway
from serving.http.openapi import document
from serving.prediction_log.feedback import actual_of
from serving.scoring import catalog
from serving.settings import Settings
from tests.serving.conftest import Answer, ask, elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.serving.artifacts import Made

SETOSA = [5.1, 3.5, 1.4, 0.2]
PATIENT: dict[str, Any] = {"default_deadline_ms": 60_000, "drift_rows_per_s": 0}  # on a busy machine too


@pytest.fixture(params=["folder", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "log")
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def start(made: dict[str, Made], target: str) -> Iterator[Callable[..., Gateway]]:
    started: list[Gateway] = []

    def make(**settings: Any) -> Gateway:
        found = Settings(**{"prediction_log": target, **PATIENT, **settings})
        versions = {"iris": "12", "linear": "1"}
        models = catalog.load(
            [(name, name) for name in versions],
            lambda name: (made[name].path, {"version": versions[name]}),
            found,
        )
        started.append(Gateway(elsewhere, models, found))
        return started[-1]

    yield make
    for gateway in started:
        if gateway.predictions is not None:
            gateway.predictions.close()
        gateway.catalog.close()


def post(gateway: Gateway, path: str, *bodies: Any) -> list[Answer]:
    async def several() -> list[Answer]:
        return [
            await ask(gateway, "POST", path, body if isinstance(body, bytes) else json.dumps(body).encode())
            for body in bodies
        ]

    return asyncio.run(several())


def predicted(gateway: Gateway, rows: int = 1, path: str = "/predict") -> str:
    [answer] = post(gateway, path, {"features": [SETOSA] * rows})
    return str(answer.json()["id"])


def told(gateway: Gateway, body: Any) -> tuple[int, Any]:
    [answer] = post(gateway, "/feedback", body)
    return answer.status, answer.json()


def test_a_value_is_stored_once(start: Callable[..., Gateway]) -> None:
    gateway = start()
    before = REGISTRY.get_sample_value("okamochi_feedback_total", {"model": "iris", "outcome": "known"}) or 0
    said = {"id": predicted(gateway), "actual": "virginica"}
    assert told(gateway, said) == (200, {"stored": 1, "known": 0})
    assert told(gateway, said) == (200, {"stored": 0, "known": 1})
    assert told(gateway, {**said, "row": 0}) == (200, {"stored": 0, "known": 1})
    after = REGISTRY.get_sample_value("okamochi_feedback_total", {"model": "iris", "outcome": "known"})
    assert after == before + 2


def test_another_value_for_the_same_row_is_refused_and_the_first_stays(start: Callable[..., Gateway]) -> None:
    gateway = start()
    one, two = predicted(gateway), predicted(gateway)
    assert told(gateway, {"id": one, "actual": "virginica"})[0] == 200
    status, problem = told(gateway, [{"id": two, "actual": "setosa"}, {"id": one, "actual": "setosa"}])
    assert status == 409
    assert problem["errors"] == [
        {"row": 1, "column": "actual", "reason": "another value was stored for this row before"}
    ]
    for value in ("setosa", "virginica", "versicolor"):
        assert value not in json.dumps(problem)
    assert "nothing was stored" in problem["detail"]
    assert told(gateway, {"id": two, "actual": "versicolor"}) == (200, {"stored": 1, "known": 0})
    assert told(gateway, {"id": one, "actual": "virginica"}) == (200, {"stored": 0, "known": 1})


def test_a_list_may_say_the_same_twice_and_not_contradict_itself(start: Callable[..., Gateway]) -> None:
    gateway = start()
    said = {"id": predicted(gateway), "actual": "setosa"}
    status, problem = told(gateway, [said, {**said, "actual": "virginica"}])
    assert (status, problem["errors"][0]["row"]) == (409, 1)
    assert told(gateway, [said, said]) == (200, {"stored": 1, "known": 1})


def test_a_list_cannot_try_every_value_of_a_row(start: Callable[..., Gateway]) -> None:
    """The answer is the same whichever of them is stored."""
    gateway = start()
    answers = []
    for stored in ("setosa", "versicolor", "virginica", None):
        found = predicted(gateway)
        if stored:
            assert told(gateway, {"id": found, "actual": stored})[0] == 200
        tried = [{"id": found, "actual": value} for value in ("setosa", "versicolor", "virginica")]
        status, problem = told(gateway, tried)
        answers.append((status, problem["detail"].replace(found, ""), problem["errors"]))
    assert answers == [answers[0]] * 4
    assert answers[0][0] == 409


def test_rows_of_a_reply_are_told_apart(start: Callable[..., Gateway]) -> None:
    gateway = start()
    found = predicted(gateway, rows=3)
    status, problem = told(gateway, {"id": found, "actual": "setosa"})
    assert (status, problem["errors"][0]["reason"]) == (422, "missing; that reply had 3 rows, from 0")
    many = [{"id": found, "row": row, "actual": "setosa"} for row in range(3)]
    assert told(gateway, many) == (200, {"stored": 3, "known": 0})
    status, problem = told(gateway, {"id": found, "row": 3, "actual": "setosa"})
    assert status == 404
    assert "has no row 3" in problem["detail"]


@pytest.mark.parametrize("unknown", ["0123456789ab-1", "old", "ours"])
def test_an_unknown_id_is_404_and_says_which_are_known(start: Callable[..., Gateway], unknown: str) -> None:
    gateway = start()
    known = predicted(gateway)
    prefix, made, secret = known.split("-")
    unknown = {"ours": f"{prefix}-{made}-{secret[::-1]}", "old": f"{prefix}-{made}"}.get(unknown, unknown)
    status, problem = told(gateway, [{"id": known, "actual": "setosa"}, {"id": unknown, "actual": "setosa"}])
    assert status == 404
    assert unknown in problem["detail"]
    assert "OKAMOCHI_PREDICTION_LOG_DAYS" in problem["detail"]
    assert told(gateway, {"id": known, "actual": "setosa"}) == (200, {"stored": 1, "known": 0})


def test_an_expired_id_is_404(start: Callable[..., Gateway]) -> None:
    gateway = start()
    found = predicted(gateway)
    assert told(gateway, {"id": found, "actual": "setosa"})[0] == 200
    assert gateway.predictions is not None
    gateway.predictions.store.expire(-1)  # its id is still fresh, so that a row of it might yet be written
    assert told(gateway, {"id": found, "actual": "setosa"})[0] == 404


def test_without_a_log_every_row_is_unknown_and_how_to_turn_it_on_is_said(models: catalog.Catalog) -> None:
    gateway = Gateway(elsewhere, models, Settings())
    status, problem = told(gateway, {"id": "0123456789ab-1", "actual": 1})
    assert status == 404
    assert "OKAMOCHI_PREDICTION_LOG" in problem["detail"]
    assert told(gateway, {"actual": 1})[0] == 422
    assert "/feedback" not in document(models, Settings())["paths"]


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{", 400, "not JSON"),
        (b"", 400, "empty"),
        ([], 422, "at least one"),
        ([1], 422, "row 0 of the feedback"),
        ({"actual": 1}, 422, "'id': expected the id of a reply"),
        ({"id": 7, "actual": 1}, 422, "'id'"),
        ({"id": "../../etc/passwd", "actual": 1}, 422, "'id'"),
        ({"id": "*-1", "actual": 1}, 422, "'id'"),
        ({"id": "0123456789ab-1"}, 422, "'actual': missing"),
        ({"id": "0123456789ab-1", "actual": 1, "rwo": 2}, 422, "'rwo': unknown key"),
        ({"id": "0123456789ab-1", "actual": 1, "row": -1}, 422, "'row'"),
        ({"id": "0123456789ab-1", "actual": 1, "row": True}, 422, "'row'"),
        ([{"id": "0123456789ab-1", "actual": 1}] * 1001, 413, "at most 1000"),
    ],
)
def test_what_is_malformed_is_refused(
    made: dict[str, Made], tmp_path: Path, body: Any, status: int, reason: str
) -> None:
    settings = Settings(prediction_log=str(tmp_path), **PATIENT)
    models = catalog.load([("iris", "iris")], lambda _: (made["iris"].path, {"version": "1"}), settings)
    gateway = Gateway(elsewhere, models, settings)
    found, problem = told(gateway, body)
    assert (found, reason in problem["detail"]) == (status, True), problem
    gateway.predictions.close()  # type: ignore[union-attr]
    models.close()


def test_methods_and_media_types(start: Callable[..., Gateway]) -> None:
    gateway = start()

    async def main() -> None:
        get = await ask(gateway, "GET", "/feedback")
        assert (get.status, get.headers["allow"]) == (405, "POST, OPTIONS")
        csv = await ask(gateway, "POST", "/feedback", b"a,b", {"content-type": "text/csv"})
        assert csv.status == 415

    asyncio.run(main())
    found = document(gateway.catalog, gateway.settings)["paths"]["/feedback"]["post"]
    assert {"200", "400", "404", "409", "413", "415", "422", "503"} <= set(found["responses"])


@pytest.mark.parametrize(
    ("path", "actual", "reason"),
    [
        ("/predict", "rose", 'expected one of "setosa", "versicolor", "virginica", got "rose"'),
        ("/predict", 1, "got 1"),
        ("/predict", None, "expected one value, got null"),
        ("/predict", ["setosa"], "expected one value, got a list"),
        ("/models/linear/predict", "10", 'expected a number, got "10"'),
        ("/models/linear/predict", True, "expected a number, got true"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(
    start: Callable[..., Gateway], path: str, actual: Any, reason: str
) -> None:
    gateway = start()
    body = {"x": 5} if "linear" in path else {"features": [SETOSA]}
    [answer] = post(gateway, path, body)
    status, problem = told(gateway, {"id": answer.json()["id"], "actual": actual})
    assert status == 422
    assert reason in problem["detail"]
    right = 10 if "linear" in path else "setosa"
    assert told(gateway, {"id": answer.json()["id"], "actual": right}) == (200, {"stored": 1, "known": 0})


def test_labels_match_as_categories_do() -> None:
    columns = (Column(name="x", kind="number"),)
    bools = Signature(task="binary", target="y", columns=columns, classes=(False, True), positive=True)
    whole = Signature(task="multiclass", target="y", columns=columns, classes=(0, 1, 2))
    number = Signature(task="regression", target="y", columns=columns)
    assert actual_of("true", bools) == (True, "")
    assert actual_of(1, bools)[1] == "expected one of false, true, got 1"
    assert actual_of("2", whole) == actual_of(2.0, whole) == (2, "")
    assert actual_of(3, number) == (3.0, "")
    assert actual_of(float("inf"), number)[1]
    assert actual_of("anything", None) == ("anything", "")
