"""A server with a file of keys, on both lanes: who is answered, and what happens when the file changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import msgspec
import numpy as np
import pytest

from serving.access import keys
from tests.bento_server import bento_server, environment, prepare
from tests.servers import PATIENCE_S, free_port
from tests.serving.http.lanes import BODY, HOST, NAMES, one_by_one, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from serving.access.keys import Key
    from tests.servers import Server
    from tests.serving.artifacts import Made


class Kept(NamedTuple):
    """A server, its folder of keys as a Secret has it (`..data` is a link that moves), and keys by name."""

    server: Server
    folder: Path
    secrets: dict[str, str]

    def put(self, content: bytes) -> None:
        """Swap the folder as Kubernetes does."""
        fresh = self.folder / f"..{time.monotonic_ns()}"
        fresh.mkdir()
        (fresh / "keys.json").write_bytes(content)
        link = self.folder / "..new"
        link.symlink_to(fresh.name)
        link.rename(self.folder / "..data")

    def get(self, path: str, who: str = "", method: str = "GET", **options: Any) -> httpx.Response:
        headers = {"X-API-Key": self.secrets.get(who, who)} if who else {}
        return httpx.request(method, self.server.url + path, headers=headers, timeout=PATIENCE_S, **options)

    def predict(self, who: str = "", path: str = "/predict") -> int:
        return self.get(path, who, "POST", content=BODY).status_code


def encoded(found: list[Key]) -> bytes:
    return msgspec.json.encode({"keys": found})


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def entries() -> dict[str, tuple[str, Key]]:
    return {
        "shop": keys.make("shop", ["predict"], models=["iris"]),
        "both": keys.make("both", ["predict"]),
        "why": keys.make("why", ["predict", "explain"]),
        "coarse": keys.make("coarse", ["predict", "explain"], digits=1),
        "ops": keys.make("ops", ["observe"]),
        "rated": keys.make("rated", ["predict"], rate="2/h"),
        "late": keys.make("late", ["admin"], expires=datetime(2020, 1, 1, tzinfo=UTC)),
    }


@pytest.fixture(scope="module", params=["1", "0"], ids=["express", "gateway"])
def kept(
    request: pytest.FixtureRequest,
    made: dict[str, Made],
    entries: dict[str, tuple[str, Key]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("keyed")
    prepare(folder, {name: (made[name].path, version) for name, version in NAMES.items()})
    kept_keys = folder / "keys"
    kept_keys.mkdir()
    (kept_keys / "keys.json").symlink_to("..data/keys.json")
    found = Kept(None, kept_keys, {name: secret for name, (secret, _) in entries.items()})  # type: ignore[arg-type]
    found.put(encoded([key for _, key in entries.values()]))
    settings = {
        "OKAMOCHI_EXPRESS": request.param,
        "OKAMOCHI_KEYS": str(kept_keys / "keys.json"),
        "OKAMOCHI_LOG_SAMPLE": "1",
        "OKAMOCHI_PREDICTION_LOG": str(folder / "log"),
    }
    with bento_server(folder, settings=settings, ready="/livez") as server:
        yield found._replace(server=server)


def test_an_explanation_needs_its_own_right_by_every_route(kept: Kept) -> None:
    """Also where the body asks for it on a route of predictions."""
    body = json.loads(BODY)
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, len(body["features"][0])]}
    tensor["data"] = body["features"][0]
    model = kept.get("/predict", "both", "POST", content=BODY).json()["model"]
    for path, asked in (
        ("/explain", body),
        ("/predict", body | {"explain": True}),
        (f"/v2/models/{model}/infer", {"inputs": [tensor], "outputs": [{"name": "contributions"}]}),
    ):
        refused = kept.get(path, "both", "POST", json=asked)
        assert refused.status_code == 403, path
        assert "lacks the right 'explain'" in refused.text
        assert kept.get(path, "why", "POST", json=asked).status_code == 200, path


def test_probabilities_are_rounded_for_a_key_by_every_route(kept: Kept, made: dict[str, Made]) -> None:
    """Also a threshold, a set and an explanation tell no more than the rounded ones do; labels are exact."""
    rows = made["iris"].rows[::10]
    names = {column: [row[i] for row in rows] for i, column in enumerate(made["iris"].signature.names)}

    def said(who: str, path: str, body: Any) -> Any:
        reply = kept.get(path, who, "POST", json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def both(path: str, body: Any) -> tuple[Any, Any]:
        return said("why", path, body), said("coarse", path, body)

    for path, body in (
        ("/predict", {"features": rows, "probabilities": True}),
        ("/models/iris/predict", {"columns": names, "probabilities": True}),
    ):
        exact, coarse = both(path, body)
        assert np.allclose(np.round(exact["probabilities"], 1), coarse["probabilities"], atol=1e-12)
        assert not np.allclose(exact["probabilities"], coarse["probabilities"], atol=1e-3)
        assert exact["prediction"] == coarse["prediction"]
    chances = coarse["probabilities"]

    found = said("coarse", "/invocations", {"inputs": names, "params": {"probabilities": True}})
    assert [list(row.values()) for row in found["predictions"]] == chances
    found = said(
        "coarse", "/v1/models/iris:predict", {"instances": rows, "parameters": {"probabilities": True}}
    )
    assert [list(row.values()) for row in found["predictions"]] == chances
    data: dict[str, Any] = {"name": "x", "datatype": "FP64"}
    tensor = {**data, "shape": [len(rows), 4], "data": np.ravel(rows).tolist()}
    for more in ({}, {"outputs": [{"name": "prediction"}, {"name": "probabilities"}]}):
        outputs = said("coarse", "/v2/models/iris/infer", {"inputs": [tensor], **more})["outputs"]
        assert np.allclose(np.reshape(outputs[1]["data"], (-1, 3)), chances, atol=0)
        assert outputs[0]["data"] == coarse["prediction"]
    one = {"inputs": [{**data, "shape": [1, 4], "data": rows[7]}]}
    assert said("coarse", "/v2/models/iris/infer", one)["outputs"][1]["data"] == chances[7]
    raw = one | {"outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}]}
    reply = kept.get("/v2/models/iris/infer", "coarse", "POST", json=raw)
    assert np.frombuffer(reply.content[-24:]).tolist() == chances[7]

    for level in (0.3, 0.9):
        exact, coarse = both("/predict", {"features": rows, "interval": level})
        assert [each[0] for each in coarse["sets"]] == coarse["prediction"]
        assert all(set(few) <= set(many) for few, many in zip(exact["sets"], coarse["sets"], strict=True))
    for path, more in (("/explain", {}), ("/predict", {"explain": True, "class": "versicolor"})):
        coarse = said("coarse", path, {"features": rows, **more})
        for i, each in enumerate(coarse["explanations"]):
            place = ["setosa", "versicolor", "virginica"].index(each["class"])
            assert each["score"] == chances[i][place]
            numbers = [each["base"], *(part["contribution"] for part in each["contributions"])]
            assert [round(number, 1) for number in numbers] == numbers
            assert each["error"] >= 0.05
    for who, status in (("why", 200), ("coarse", 422)):
        reply = kept.get("/explain", who, "POST", json={"features": rows[:1], "log_odds": True})
        assert (reply.status_code, "rounded to 1 digits" in reply.text) == (status, status == 422)


def test_probes_need_no_key_and_all_else_does(kept: Kept) -> None:
    for path in ("/livez", "/readyz", "/ping", "/health", "/v2/health/live", "/v2/health/ready"):
        assert kept.get(path).status_code == 200
        assert kept.get(path, "wrong").status_code == 200
    for path in ("/console", "/console/iris", "/console/nobody", "/console/console.js"):
        assert kept.get(path).status_code == 200
        assert kept.get(path, "wrong").text == kept.get(path).text
    about_all = ("/metrics", "/docs", "/openapi.json", "/models", "/", "/docs.json", "/console/state.json")
    for path in (*about_all, "/v2", "/nowhere"):
        reply = kept.get(path)
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"] == 'Bearer realm="okamochi"'
        assert kept.get(path, "late").status_code == 401
        assert kept.get(path, "both").status_code == {"/v2": 200, "/nowhere": 404}.get(path, 403)
        assert kept.get(path, "ops").status_code == (404 if path == "/nowhere" else 200)


def test_a_key_for_one_model_learns_of_no_other(kept: Kept) -> None:
    """403 in the same words for a model that is there and for one that is not; its own 404 names none."""
    assert kept.predict("shop") == 200
    assert kept.predict("shop", "/models/iris/predict") == 200
    words = set()
    for path in ("/models/loans/predict", "/models/nobody/predict", "/v2/models/loans/infer"):
        reply = kept.get(path, "shop", "POST", content=BODY)
        assert reply.status_code == 403
        words.add(reply.json().get("detail") or reply.json()["error"])
    assert len({word.removeprefix("Forbidden: ") for word in words}) == 1
    for path in ("/models/loans", "/models/nobody", "/v2/models/loans", "/models"):
        assert kept.get(path, "shop").status_code == 403
    for path in ("/models/iris/versions/99/predict", "/models/iris/nothing"):
        reply = kept.get(path, "shop", "POST", content=BODY)
        assert reply.status_code == 404
        assert "loans" not in reply.text
    assert kept.get("/models/iris", "shop").status_code == 200


def test_feedback_of_another_models_row_is_as_unknown_as_none(kept: Kept, entries: Any) -> None:
    """A key that may give feedback on one model learns of no row of another."""
    reply = kept.get("/models/linear/predict", "both", "POST", content=b'{"x": 5}')
    assert reply.status_code == 200
    secret, key = keys.make("judge", ["feedback"], models=["iris"])
    other_secret, other = keys.make("judge", ["feedback"])
    found = [key for _, key in entries.values()]
    kept.put(encoded([*found, key, other]))
    body = json.dumps({"id": reply.json()["id"], "actual": 12})
    until(lambda: kept.get("/feedback", secret, "POST", content=body).status_code not in (401, 403))
    assert kept.get("/feedback", secret, "POST", content=body).status_code == 404
    assert kept.get("/feedback", other_secret, "POST", content=body).status_code == 200
    assert kept.get("/feedback", "both", "POST", content=body).status_code == 403
    kept.put(encoded(found))
    until(lambda: kept.get("/feedback", secret, "POST", content=body).status_code == 401)


def test_a_rate_that_is_used_up(kept: Kept) -> None:
    """2 an hour: one at once, then 429 that says when."""
    statuses = [kept.predict("rated") for _ in range(3)]
    assert statuses == [200, 429, 429]
    reply = kept.get("/predict", "rated", "POST", content=BODY)
    assert 1_700 < int(reply.headers["retry-after"]) <= 1_800
    assert kept.predict("both") == 200


def test_keys_come_and_go_without_a_restart_on_remembered_heads(
    kept: Kept, entries: dict[str, tuple[str, Key]]
) -> None:
    """The same bytes on one connection: answered, refused once the key is revoked, and answered again."""
    secret, key = keys.make("new", ["predict"])
    found = [key for _, key in entries.values()]
    plain = request(headers=(HOST, f"Authorization: Bearer {secret}"))
    assert one_by_one(kept.server, [plain] * 3) == [401] * 3
    kept.put(encoded([*found, key]))
    until(lambda: one_by_one(kept.server, [plain]) == [200])
    assert one_by_one(kept.server, [plain] * 20) == [200] * 20
    kept.put(encoded([*found, msgspec.structs.replace(key, revoked=datetime.now(UTC))]))
    until(lambda: one_by_one(kept.server, [plain]) == [401])
    assert one_by_one(kept.server, [plain] * 3) == [401] * 3
    (kept.folder / "..data" / "keys.json").write_bytes(encoded([*found, key]))  # in place, without a swap
    until(lambda: one_by_one(kept.server, [plain]) == [200])
    kept.put(encoded(found))
    until(lambda: one_by_one(kept.server, [plain]) == [401])


def test_a_broken_file_keeps_the_last_keys_and_says_so(
    kept: Kept, entries: dict[str, tuple[str, Key]]
) -> None:
    for broken in (b"{", b"", encoded([]).replace(b"[]", b'[{"id": "x"}]')):
        kept.put(broken)
        until(lambda: "okamochi_keys_refused 1.0" in kept.get("/metrics", "ops").text)
        assert kept.predict("both") == 200
        assert kept.predict("wrong") == 401
    (kept.folder / "..data" / "keys.json").unlink()
    until(lambda: "keys.json cannot be read" in kept.server.log.read_text())
    assert kept.predict("both") == 200
    kept.put(encoded([key for _, key in entries.values()]))
    until(lambda: "okamochi_keys_refused 0.0" in kept.get("/metrics", "ops").text)
    until(lambda: "is followed again" in kept.server.log.read_text())
    assert "the keys from before hold" in kept.server.log.read_text()


def test_the_log_names_who_asked_and_never_shows_a_key(kept: Kept) -> None:
    named = {"X-Request-Id": "whose", "Authorization": f"Bearer {kept.secrets['both']}"}
    refused = {"X-Request-Id": "refused", "Authorization": "Bearer okamochi_wrong_key"}
    with httpx.Client(base_url=kept.server.url, timeout=PATIENCE_S) as client:
        assert client.post("/predict", content=BODY, headers=named).status_code == 200
        assert client.post("/predict", content=BODY, headers=refused).status_code == 401

    def lines() -> dict[str, Any]:
        found = [line for line in kept.server.log.read_text().splitlines() if '"request_id"' in line]
        return {each["request_id"]: each for each in map(json.loads, found)}

    until(lambda: {"whose", "refused"} <= lines().keys())
    assert lines()["whose"]["principal"] == "both"
    assert lines()["refused"]["reason"] == "bad_credentials"
    assert "principal" not in lines()["refused"]
    log = kept.server.log.read_text()
    assert "okamochi_wrong_key" not in log
    assert not any(secret in log for secret in kept.secrets.values())


def test_a_client_that_leaves_while_its_refusal_waits_costs_nothing(kept: Kept) -> None:
    wrong = request(headers=(HOST, "Authorization: Bearer wrong"))
    for _ in range(30):
        with suppress(TimeoutError), httpx.Client(timeout=0.02) as client, suppress(httpx.TimeoutException):
            client.post(kept.server.url + "/predict", content=BODY, headers={"X-API-Key": "wrong"})
    assert one_by_one(kept.server, [wrong]) == [401]
    assert kept.predict("both") == 200
    assert '"error"' not in "".join(
        line for line in kept.server.log.read_text().splitlines() if "Traceback" in line
    )


def serve_output(folder: Path, *arguments: str, **variables: str) -> tuple[int | None, str]:
    """The exit code and the output of `bentoml serve`; None if it serves."""
    command = [sys.executable, "-m", "bentoml", "serve", "--port", str(free_port()), *arguments]
    with (folder / "started.log").open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment(folder), **variables},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + PATIENCE_S
        while process.poll() is None and time.monotonic() < end:
            if "Starting production HTTP" in (text := (folder / "started.log").read_text()):
                return None, text
            time.sleep(0.1)
        return process.returncode, (folder / "started.log").read_text()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def one_model(made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("start")
    prepare(folder, {"linear": (made["linear"].path, "1")})
    yield folder
    shutil.rmtree(folder)


def test_a_broken_file_at_start_is_a_sentence(one_model: Path) -> None:
    for content, said in ((b"{", "is not a file of keys"), (None, "cannot be read")):
        path = one_model / "broken.json"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        code, text = serve_output(one_model, "--host", "127.0.0.1", OKAMOCHI_KEYS=str(path))
        assert code not in (0, None)
        assert f"OKAMOCHI_KEYS: {path}" in text
        assert said in text
        assert "Traceback" not in text


def test_a_server_that_others_reach_says_loudly_that_it_has_no_keys(one_model: Path) -> None:
    """One line; none on loopback, none with keys."""
    path = one_model / "keys.json"
    keys.write(path, [keys.make("shop", ["predict"])[1]])
    for host, variables, lines in (
        ("0.0.0.0", {}, 1),  # noqa: S104 - what this test is about
        ("127.0.0.1", {}, 0),
        ("0.0.0.0", {"OKAMOCHI_KEYS": str(path)}, 0),  # noqa: S104 - as above
    ):
        code, text = serve_output(one_model, "--host", host, **variables)
        assert code is None, text
        assert text.count("NO KEYS") == lines, (host, variables)
