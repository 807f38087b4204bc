"""What was answered is in the log, as it was sent, and the log never stands in a request's way."""

from __future__ import annotations

import asyncio
import json
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import numpy as np
import pytest
from prometheus_client import REGISTRY

from artifact import verdict
from artifact.logged import hash_of
from artifact.verdict import LiveVerdict
from serving.http.gateway import Gateway
from serving.ids import PREFIX
from serving.prediction_log import capture
from serving.protocols.watched import Watched
from serving.scoring import catalog
from serving.settings import Settings, SettingsError, read
from tests.bento_server import bento_server, prepare
from tests.serving import artifacts
from tests.serving.conftest import Answer, ask, elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.serving.artifacts import Made

PATIENT: dict[str, Any] = {"default_deadline_ms": 60_000, "drift_rows_per_s": 0}  # on a busy machine too
LOAN = {"age": 40, "income": 0.1, "job": "cook", "city": "Ulm", "since": "2020-05-17", "note": "paid late"}


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """Models of every kind; of the loans a column and an ignored one are sensitive."""
    folder = tmp_path_factory.mktemp("sealed")
    made = {
        "loans": artifacts.loans(folder / "loans"),
        "iris": artifacts.iris(folder / "iris"),
        "linear": artifacts.linear(folder / "linear"),
    }
    signature = msgspec.structs.replace(made["loans"].signature, sensitive=("gender", "city"))
    (made["loans"].path / "signature.json").write_bytes(msgspec.json.encode(signature))
    artifacts.reseal(made["loans"].path)
    return made


@pytest.fixture
def start(sealed: dict[str, Made], tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Make gateways with a log; the first model is the loans."""
    started: list[Gateway] = []

    def make(names: tuple[str, ...] = ("loans", "iris", "linear"), **settings: Any) -> Gateway:
        found = Settings(
            **{
                "prediction_log": str(tmp_path / "log"),
                "default_deadline_ms": 60_000,
                "drift_rows_per_s": 0,
                **settings,
            }
        )
        models = catalog.load(
            [(name, name) for name in names], lambda name: (sealed[name].path, {"version": "4"}), found
        )
        gateway = Gateway(elsewhere, models, found)
        started.append(gateway)
        return gateway

    yield make
    for gateway in started:
        assert gateway.predictions is not None
        gateway.predictions.close()
        gateway.catalog.close()


def post(gateway: Gateway, path: str, *bodies: Any, **headers: str) -> list[Answer]:
    async def several() -> list[Answer]:
        return [
            await ask(
                gateway, "POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), headers
            )
            for body in bodies
        ]

    return asyncio.run(several())


def logged(gateway: Gateway, folder: Path) -> list[dict[str, Any]]:
    assert gateway.predictions is not None
    gateway.predictions.flush()
    paths = sorted(folder.glob("predictions-*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


def dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("okamochi_prediction_log_dropped_total", {"reason": reason}) or 0.0


def test_each_form_of_a_request_is_logged_as_it_was_sent(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start()
    forms = [
        {"records": [LOAN]},
        {"features": [list(LOAN.values())], "probabilities": True, "threshold": 0.0},
        {"columns": {name: [cell] for name, cell in LOAN.items()}},
    ]
    answers = post(gateway, "/predict", *forms)
    lines = logged(gateway, tmp_path / "log")
    assert [line["id"] for line in lines] == [answer.json()["id"] for answer in answers]
    for answer, line in zip(answers, lines, strict=True):
        assert line["columns"] == {name: cell for name, cell in LOAN.items() if name != "city"}
        assert [line["prediction"]] == answer.json()["prediction"]
        assert (line["row"], line["rows"], line["model"], line["version"]) == (0, 1, "loans", "4")
        assert line["endpoint"] == "predict"
        assert line["at"].endswith("+00:00")
        assert sum(line["scores"]) == pytest.approx(1)
    assert lines[1]["prediction"] is True  # by the request's own threshold


def test_rows_of_numbers_are_logged_as_they_are_written(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    """Whether they came as lists or, many at once, as a matrix of float32."""
    gateway = start()
    rows = [[5.1, 3.5, 0.1, 0.2 + i / 10] for i in range(100)]
    [few, many] = post(gateway, "/models/iris/predict", {"features": rows[:3]}, {"features": rows})
    lines = logged(gateway, tmp_path / "log")
    assert [(line["id"], line["row"], line["rows"]) for line in lines] == [
        *((few.json()["id"], i, 3) for i in range(3)),
        *((many.json()["id"], i, 100) for i in range(100)),
    ]
    for line, row in zip(lines, rows[:3] + rows, strict=True):
        assert list(line["columns"].values()) == pytest.approx(row, rel=1e-6)
        assert line["columns"]["petal_length"] == 0.1
    assert [line["prediction"] for line in lines[3:]] == many.json()["prediction"]


def test_a_number_and_missing_values_are_logged(start: Callable[..., Gateway], tmp_path: Path) -> None:
    gateway = start()
    [answer] = post(gateway, "/models/linear/predict", {"x": 5})
    post(gateway, "/predict", {"records": [{**LOAN, "income": None, "note": ""}]})
    one, two = logged(gateway, tmp_path / "log")
    assert one["columns"] == {"x": 5.0}
    assert [one["prediction"]] == one["scores"] == [pytest.approx(answer.json()["prediction"])]
    assert (two["columns"]["income"], two["columns"]["note"]) == (None, "")


def test_replies_without_an_id_of_ours_have_it_in_a_header(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start(("iris",))
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}
    path = "/v2/models/iris/infer"
    own, named, forged = post(
        gateway,
        path,
        {"inputs": [tensor]},
        {"id": "mine", "inputs": [tensor]},
        {"id": f"{PREFIX}-1", "inputs": [tensor]},
    )
    [ping] = post(gateway, "/invocations", {"instances": [[5.1, 3.5, 1.4, 0.2]]})
    ids = [own.json()["id"], *(answer.headers["x-prediction-id"] for answer in (named, forged, ping))]
    lines = logged(gateway, tmp_path / "log")
    assert [line["id"] for line in lines] == ids
    assert len(set(ids)) == 4
    assert "x-prediction-id" not in own.headers
    assert named.json()["id"] == "mine"
    assert [line["endpoint"] for line in lines] == ["infer"] * 3 + ["invocations"]
    assert {line["prediction"] for line in lines} == {"setosa"}


def test_sensitive_values_are_left_out_or_hashed(start: Callable[..., Gateway], tmp_path: Path) -> None:
    record = {**LOAN, "gender": "f", "default": True}
    gateway = start()
    post(gateway, "/predict", {"records": [record]})
    [line] = logged(gateway, tmp_path / "log")
    assert list(line["columns"]) == ["age", "income", "job", "since", "note"]
    keyed = start(prediction_log=str(tmp_path / "keyed"), hash_key="secret")
    post(keyed, "/predict", {"records": [record, {**record, "gender": "m"}, record]}, {"records": [LOAN]})
    lines = logged(keyed, tmp_path / "keyed")
    genders = [line["columns"]["gender"] for line in lines]
    assert genders[0] == genders[2] == hash_of("secret", "f")
    assert genders[1] not in (genders[0], None)
    assert genders[3] is None
    assert {line["columns"]["city"] for line in lines} == {hash_of("secret", " Ulm")}
    text = b"".join(path.read_bytes() for path in tmp_path.rglob("*.jsonl"))
    assert b"Ulm" not in text
    assert b"default" not in text
    assert hash_of("secret", "f") != hash_of("other", "f")


def test_many_requests_are_sampled_and_the_rest_is_counted(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start(("iris",), prediction_log_rows_per_s=5)
    before = dropped("sampled_out")
    post(gateway, "/predict", *[{"features": [[5.1, 3.5, 1.4, 0.2]] * 4}] * 100)
    lines = logged(gateway, tmp_path / "log")
    assert 5 <= len(lines) <= 40
    assert gateway.predictions is not None
    assert dropped("sampled_out") - before - gateway.predictions._sampler.left == 400 - len(lines)


def test_what_the_buffer_cannot_hold_is_dropped_and_counted(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = start(("iris",), prediction_log_rows_per_s=100)
    log = gateway.predictions
    assert log is not None
    before = dropped("buffer_full")
    with log._writing:  # as while the store is slow
        log._most = 10
        replies = post(gateway, "/predict", *[{"features": [[5.1, 3.5, 1.4, 0.2]]}] * 15)
    assert {reply.status for reply in replies} == {200}
    assert len(logged(gateway, tmp_path / "log")) == 10
    assert dropped("buffer_full") - before == 5


@pytest.mark.parametrize("trouble", ["full", "a file in its place", "read-only"])
def test_a_folder_that_takes_nothing_costs_lines_and_no_request(
    trouble: str, start: Callable[..., Gateway], tmp_path: Path
) -> None:
    folder = {
        "full": tmp_path / "log",
        "a file in its place": tmp_path / "file",
        "read-only": Path("/proc/okamochi"),
    }[trouble]
    (tmp_path / "file").write_text("")
    gateway = start(("iris",), prediction_log=str(folder))
    log = gateway.predictions
    assert log is not None
    before = dropped("store_failed")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    body = {"features": [[5.1, 3.5, 1.4, 0.2]]}
    if trouble == "full":
        post(gateway, "/predict", body)
        assert len(logged(gateway, folder)) == 1
        with log._writing:
            size = next(folder.iterdir()).stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
    try:
        replies = post(gateway, "/predict", *[body] * 7)
        log.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {reply.status for reply in replies} == {200}
    assert dropped("store_failed") - before == 7
    if trouble == "full":
        post(gateway, "/predict", body)
        lines = logged(gateway, folder)  # whole ones, and on it goes
        assert len(lines) == 2
    [refused] = post(gateway, "/feedback", {"id": replies[0].json()["id"], "actual": "setosa"})
    assert refused.status in (404, 503)


def test_nothing_is_wrapped_where_the_log_is_off(models: catalog.Catalog) -> None:
    gateway = Gateway(elsewhere, models, Settings())
    assert gateway.predictions is None
    assert not any(isinstance(endpoint, Watched) for endpoint in gateway.live.routes.endpoints.values())


def test_a_target_that_is_no_log_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="OKAMOCHI_PREDICTION_LOG begins with s3://"):
        read({"OKAMOCHI_PREDICTION_LOG": "s3://bucket/log"})
    assert read({"OKAMOCHI_PREDICTION_LOG": "postgresql://x"}).prediction_log == "postgresql://x"
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match="psycopg is not installed"):
        read({"OKAMOCHI_PREDICTION_LOG": "postgresql://user:secret@x"})


def test_two_servers_share_a_folder(made: dict[str, Made], tmp_path: Path) -> None:
    """As pods do: each takes feedback on what the other has answered, once, and shows the same verdict."""
    folder = tmp_path / "log"
    folder.mkdir()
    said = LiveVerdict("iris", "1", "accuracy", 0.97, 0.9, 0.88, 0.92, broken=True, rows=500, at=1.7e9)
    verdict.leave(folder, said)
    for pod in ("a", "b"):
        prepare(tmp_path / pod, {"iris": (made["iris"].path, "1")})
    settings = {
        "OKAMOCHI_PREDICTION_LOG": str(folder),
        "OKAMOCHI_DEFAULT_DEADLINE_MS": "60000",
        "OKAMOCHI_PREDICTION_LOG_ROWS_PER_S": "10000",
    }
    with (
        bento_server(tmp_path / "a", settings=settings) as first,
        bento_server(tmp_path / "b", settings=settings) as second,
    ):
        rows = {"features": [[5.1, 3.5, 1.4, 0.2]] * 3}
        for here, there in ((first, second), (second, first)):
            ids = [httpx.post(here.url + "/predict", json=rows).json()["id"] for _ in range(10)]
            items = [{"id": id_, "row": row, "actual": "setosa"} for id_ in ids for row in range(3)]
            assert httpx.post(there.url + "/feedback", json=items).json() == {"stored": 30, "known": 0}
            assert httpx.post(here.url + "/feedback", json=items).json() == {"stored": 0, "known": 30}
            other = [{**items[0], "actual": "virginica"}]
            assert httpx.post(here.url + "/feedback", json=other).status_code == 409
        for server in (first, second):
            shown = httpx.get(server.url + "/metrics").text
            assert 'okamochi_live_promise_broken{model="iris",version="1"} 1.0' in shown
    assert len(list(folder.glob("predictions-*"))) == 2
    rows_told = [line for path in folder.glob("feedback-*") for line in path.read_text().splitlines()]
    assert len(rows_told) == 60


def test_verdicts_of_live_versions_are_shown_and_of_no_others(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    log = start().predictions
    assert log is not None
    folder = tmp_path / "log"
    folder.mkdir(exist_ok=True)
    said = LiveVerdict("iris", "4", "roc_auc", 0.97, 0.9, 0.88, 0.92, broken=True, rows=500, at=1.7e9)
    verdict.leave(folder, said)
    verdict.leave(folder, msgspec.structs.replace(said, model="loans", version="5"))
    (folder / "live-linear.json").write_text('{"model": "linear"')
    log.show_verdicts()

    def shown(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(f"okamochi_live_{name}", labels)

    live = {"model": "iris", "version": "4"}
    for bound, value in {"value": 0.9, "low": 0.88, "high": 0.92}.items():
        assert shown("quality", **live, metric="roc_auc", bound=bound) == value
    assert shown("promise", **live, metric="roc_auc") == 0.97
    assert shown("promise_broken", **live) == 1
    assert shown("rows", **live) == 500
    assert shown("judged_timestamp_seconds", **live) == 1.7e9
    verdict.leave(folder, msgspec.structs.replace(said, broken=False))
    log.show_verdicts()
    assert shown("promise_broken", **live) == 0
    assert shown("promise_broken", model="loans", version="5") is None


def test_two_workers_of_a_server_share_a_folder(made: dict[str, Made], tmp_path: Path) -> None:
    """Both lanes; each worker writes files of its own, and each finds the other's rows."""
    prepare(tmp_path / "work", {"iris": (made["iris"].path, "1")})
    folder = tmp_path / "log"
    settings = {
        "OKAMOCHI_PREDICTION_LOG": str(folder),
        "OKAMOCHI_DEFAULT_DEADLINE_MS": "60000",
        "OKAMOCHI_WORKERS": "2",
        "OKAMOCHI_PREDICTION_LOG_ROWS_PER_S": "10000",
    }
    ids: list[str] = []
    with bento_server(tmp_path / "work", settings=settings) as server:
        for i in range(40):
            with httpx.Client(base_url=server.url) as client:
                path = "/predict" if i % 2 else "/predict?lane=gateway"
                ids.append(client.post(path, json={"features": [[5.1, 3.5, 1.4, 0.2]]}).json()["id"])
        for i, id_ in enumerate(ids):
            with httpx.Client(base_url=server.url) as client:
                told = client.post("/feedback", json={"id": id_, "actual": "setosa"})
                assert told.json() == {"stored": 1, "known": 0}, i
                assert client.post("/feedback", json={"id": id_, "actual": "setosa"}).json()["known"] == 1
        text = httpx.get(server.url + "/metrics").text
        assert 'okamochi_feedback_total{model="iris",outcome="stored"} 40.0' in text
        assert "okamochi_prediction_log_rows_total 40.0" in text
    lines = [
        json.loads(line) for path in folder.glob("predictions-*") for line in path.read_text().splitlines()
    ]
    assert sorted(line["id"] for line in lines) == sorted(ids)
    prefixes = {id_.split("-")[0] for id_ in ids}
    assert len(prefixes) == 2, "the kernel gave all connections to one worker"
    for path in folder.glob("predictions-*"):
        assert {
            json.loads(line)["id"].split("-")[0] in path.name for line in path.read_text().splitlines()
        } == {True}
    assert np.unique([line["model"] for line in lines]).tolist() == ["iris"]


def test_a_row_of_which_no_line_can_be_made_costs_that_row_alone(
    start: Callable[..., Gateway], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the reason: the others are stored, it is counted, and feedback for the others is taken."""
    gateway = start(hash_key="key")
    assert gateway.predictions is not None
    usual = capture.hash_of

    def sometimes(key: str, cell: Any) -> str | None:
        if cell == "Rome":
            raise ValueError(cell)
        return usual(key, cell)

    monkeypatch.setattr(capture, "hash_of", sometimes)
    before = dropped("store_failed")
    rome, ulm = post(gateway, "/predict", {"records": [LOAN | {"city": "Rome"}]}, {"records": [LOAN]})
    assert [line["id"] for line in logged(gateway, tmp_path / "log")] == [ulm.json()["id"]]
    assert dropped("store_failed") == before + 1
    told = [{"id": answer.json()["id"], "actual": True} for answer in (ulm, rome)]
    assert [answer.status for answer in post(gateway, "/feedback", *told)] == [200, 404]
