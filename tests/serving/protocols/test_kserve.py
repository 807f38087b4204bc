"""KServe's first protocol, `/v1`: what its clients, TensorFlow Serving's and Vertex AI's send."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from serving.http.gateway import Gateway
from tests.serving.conftest import PATIENT_SETTINGS, ask, elsewhere
from tests.serving.http.lanes import taken

if TYPE_CHECKING:
    import httpx

    from serving.scoring.catalog import Catalog
    from tests.servers import Server
    from tests.serving.artifacts import Made

IRIS = [5.1, 3.5, 1.4, 0.2]
LOAN = {"age": 30, "income": None, "job": "clerk", "since": "2020-05-17", "note": "paid late"}


def post(gateway: Gateway, path: str, body: Any) -> tuple[int, Any]:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = asyncio.run(ask(gateway, "POST", path, sent))
    return found.status, found.json()


def test_the_models_and_that_they_are_ready(client: httpx.Client) -> None:
    names = client.get("/v1/models").json()
    assert names == {"models": ["breast_cancer", "iris", "linear", "loans"]}
    for name in names["models"]:
        assert client.get(f"/v1/models/{name}").json() == {"name": name, "ready": True}
    for path in ("/v1/models/none", "/v1/models/none:predict", "/v1", "/v1/models/iris:fit", "/v1/models/"):
        found = client.get(path)
        assert (found.status_code, list(found.json())) == (404, ["error"]), path
    wrong = client.get("/v1/models/iris:predict")
    assert (wrong.status_code, wrong.headers["allow"], list(wrong.json())) == (
        405,
        "POST, OPTIONS",
        ["error"],
    )


def test_a_refused_model_is_503(models: Catalog) -> None:
    from dataclasses import replace

    live = {name: model for name, model in models.live.items() if name != "iris"}
    gateway = Gateway(
        elsewhere, replace(models, live=live, refused={"iris": "its digest differs"}), PATIENT_SETTINGS
    )
    for method, path in (("GET", "/v1/models/iris"), ("POST", "/v1/models/iris:predict")):
        found = asyncio.run(ask(gateway, method, path, b"{}"))
        assert (found.status, "digest" in found.json()["error"]) == (503, True)


def test_instances_are_lists_dicts_or_single_values(gateway: Gateway) -> None:
    path = "/v1/models/iris:predict"
    record = {
        "sepal_length": 5.1,
        "sepal_width": 3.5,
        "petal_length": 1.4,
        "petal_width": 0.2,
    }
    for instances in ([IRIS, [6.3, 3.3, 6.0, 2.5]], [record, dict.fromkeys(record, 5.0)]):
        status, found = post(gateway, path, {"instances": instances})
        assert (status, found["version"], found["predictions"][0]) == (200, "12", "setosa")
        assert len(found["predictions"]) == 2
    assert post(gateway, path, {"instances": [IRIS], "signature_name": "serving_default"})[0] == 200
    status, found = post(gateway, "/v1/models/linear:predict", {"instances": [5, 6]})
    assert found["predictions"] == pytest.approx([10, 12])
    assert post(gateway, "/v1/models/linear:predict", {"instances": [[5], [6]]})[1] == found
    assert post(gateway, "/v1/models/linear:predict", {"instances": [{"x": 5}, {"x": 6}]})[1] == found
    status, found = post(gateway, "/v1/models/loans:predict", {"instances": [LOAN]})
    assert (status, len(found["predictions"])) == (200, 1)


def test_what_numpy_writes_for_a_missing_number(gateway: Gateway) -> None:
    nan = json.dumps({"instances": [LOAN | {"income": float("nan")}]}).encode()
    assert b"NaN" in nan
    path = "/v1/models/loans:predict"
    assert post(gateway, path, nan) == post(gateway, path, {"instances": [LOAN]})
    infinite = nan.replace(b"NaN", b"-Infinity")
    status, found = post(gateway, path, infinite)
    assert (status, "income" in found["error"], "row 0" in found["error"]) == (422, True, True)
    status, found = post(gateway, "/v1/models/iris:predict", b'{"instances": [[1, NaN, 1, 1]]}')
    assert (status, "sepal_width" in found["error"]) == (422, True)


def test_parameters(gateway: Gateway) -> None:
    path = "/v1/models/loans:predict"
    found = post(gateway, path, {"instances": [LOAN], "parameters": {"probabilities": True}})[1]
    assert sum(found["predictions"][0].values()) == pytest.approx(1)
    for threshold, label in ((0, True), (1, False)):
        body = {"instances": [LOAN], "parameters": {"threshold": threshold}}
        assert post(gateway, path, body)[1]["predictions"] == [label]


def test_explanations_are_those_of_the_plain_protocol(client: httpx.Client) -> None:
    body = {"instances": [IRIS], "parameters": {"class": "virginica"}}
    found = client.post("/v1/models/iris:explain", json=body)
    plain = client.post("/models/iris/explain", json={"features": [IRIS], "class": "virginica"})
    assert found.status_code == plain.status_code == 200, found.text
    assert found.json()["explanations"] == plain.json()["explanations"]
    assert found.json()["predictions"] == plain.json()["prediction"]
    many = client.post("/v1/models/iris:explain", json={"instances": [IRIS] * 65})
    assert (many.status_code, list(many.json())) == (413, ["error"])


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "not JSON"),
        (b"", 400, "empty"),
        (b"[]", 422, '"instances"'),
        ({}, 422, '"instances": expected a list of rows, got null'),
        ({"instances": []}, 422, "row"),
        ({"instances": {"x": [1]}}, 422, "expected a list of rows, got an object"),
        ({"instances": [[1, 2, 3]]}, 422, "row 0"),
        ({"instances": [IRIS, [1, "a", 3, 4]]}, 422, "row 1"),
        ({"instances": [5]}, 422, "row 0"),
        ({"instances": [IRIS, {"a": 1}]}, 422, "row 1"),
        ({"instances": [IRIS], "probabilities": True}, 422, 'belongs into "parameters"'),
        ({"instances": [IRIS], "instance": 1}, 422, "did you mean 'instances'?"),
        ({"inputs": [IRIS]}, 422, "Unknown key 'inputs'"),
        ({"instances": [IRIS], "parameters": {"probability": True}}, 422, "did you mean 'probabilities'?"),
        ({"instances": [IRIS], "parameters": {"threshold": 0.5}}, 422, "threshold"),
        ({"instances": [IRIS], "parameters": []}, 422, "expected an object"),
        ({"instances": [IRIS], "parameters": {"explain": True}}, 422, "unknown key 'explain'"),
    ],
)
def test_errors_have_kserves_form(gateway: Gateway, body: Any, status: int, says: str) -> None:
    found = post(gateway, "/v1/models/iris:predict", body)
    assert (found[0], list(found[1])) == (status, ["error"])
    assert says in found[1]["error"]
    assert post(gateway, "/v1/models/iris:explain", body)[0] == status or "explain" in str(body)


def test_it_takes_the_express_lane_and_scores_as_the_model_does(
    client: httpx.Client, server: Server, made: dict[str, Made]
) -> None:
    before = taken(server, "express")
    rows = made["iris"].rows
    found = client.post("/v1/models/iris:predict", json={"instances": rows})
    assert found.json()["predictions"] == made["iris"].labels(rows)
    large = client.post("/v1/models/iris:predict", json={"instances": rows * 40})
    assert large.json()["predictions"] == made["iris"].labels(rows) * 40
    assert taken(server, "express") - before == 1, "large bodies are the gateway's"
    wrong = client.post("/v1/models/iris:predict", content=b"<a/>", headers={"Content-Type": "text/xml"})
    assert (wrong.status_code, list(wrong.json())) == (415, ["error"])
