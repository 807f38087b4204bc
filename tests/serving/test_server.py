"""The whole HTTP contract, asked of a real `bentoml serve`."""

from __future__ import annotations

import json
import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest

from tests.servers import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from tests.servers import Server
    from tests.serving.artifacts import Made

IRIS = [5.1, 3.5, 1.4, 0.2]
LOAN = {"age": 30, "income": 1000, "job": "cook", "city": "Ulm", "since": "2020-05-17", "note": "paid"}


def predict(client: httpx.Client, body: Any, *, model: str = "iris") -> httpx.Response:
    return client.post(f"/models/{model}/predict", json=body)


def problem(reply: httpx.Response, status: int) -> dict[str, Any]:
    """The problem that a reply is, checked for what every one has."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = reply.json()
    assert set(found) == {"type", "title", "status", "detail", "request_id", "errors"}
    assert found["status"] == status
    assert found["detail"]
    assert len(found["errors"]) <= 20
    return found


def raw(server: Server, sent: bytes) -> bytes:
    """What comes back on a connection of its own, up to its end."""
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname, where.port), timeout=PATIENCE_S) as connection:
        connection.sendall(sent)
        received = b""
        while part := connection.recv(65536):
            received += part
    return received


# ---- the oldest clients


def test_features_by_position_give_the_labels_of_the_data(client: httpx.Client) -> None:
    reply = predict(client, {"features": [IRIS]})
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    found = reply.json()
    assert found["prediction"] == ["setosa"]
    assert (found["model"], found["version"]) == ("iris", "12")
    assert set(found) == {"prediction", "model", "version", "id"}


def test_a_scalar_for_a_model_of_one_column_gives_a_scalar(client: httpx.Client) -> None:
    found = predict(client, {"x": 5}, model="linear").json()
    assert abs(found["prediction"] - 10.0) < 1e-6


def test_predict_without_a_name_asks_the_first_model(client: httpx.Client, made: dict[str, Made]) -> None:
    rows = made["breast_cancer"].rows[:50]
    found = client.post("/predict", json={"features": rows}).json()
    assert found["model"] == "breast_cancer"
    assert found["prediction"] == made["breast_cancer"].labels(rows)


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize(
    ("size", "status", "words"),
    [
        (65_536, 414, "at most 65535 bytes are accepted"),
        (65_537, 431, "OKAMOCHI_MAX_HEAD_BYTES"),
        (100_000, 431, "OKAMOCHI_MAX_HEAD_BYTES"),
    ],
)
def test_a_long_target_is_refused_in_words(
    server: Server, method: bytes, size: int, status: int, words: str
) -> None:
    """Also one that is within the limit of a head, which the parser cannot take apart."""
    target = b"/predict?" + b"x" * (size - 9)
    found = raw(server, b"%b %b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}" % (method, target))
    assert found.startswith(b"HTTP/1.1 %d " % status)
    assert words.encode() in found


def test_no_content_type_means_json(server: Server) -> None:
    body = json.dumps({"features": [IRIS]}).encode()
    head = b"POST /models/iris/predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    received = raw(server, head % len(body) + body)
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'"setosa"' in received


# ---- forms and options


@pytest.mark.parametrize("name", ["breast_cancer", "iris", "loans"])
def test_every_form_gives_what_the_estimator_gives(
    client: httpx.Client, made: dict[str, Made], name: str
) -> None:
    """Rows by position, by record and by column are the same rows, and score as the fitted pipeline does."""
    rows = made[name].rows[:40]
    names = made[name].signature.names
    records = [dict(zip(names, row, strict=True)) for row in rows]
    columns = {column: [row[i] for row in rows] for i, column in enumerate(names)}
    for form in ({"features": rows}, {"records": records}, {"columns": columns}):
        found = predict(client, form | {"probabilities": True}, model=name).json()
        assert found["prediction"] == made[name].labels(rows)
        assert np.allclose(found["probabilities"], made[name].scores(rows), atol=1e-6)
        assert found["classes"] == list(made[name].signature.classes)


def test_threshold_applies_to_the_positive_label(client: httpx.Client, made: dict[str, Made]) -> None:
    rows = made["breast_cancer"].rows[:100]
    found = predict(client, {"features": rows, "threshold": 0.9}, model="breast_cancer").json()
    chances = made["breast_cancer"].scores(rows)[:, 1]
    assert found["prediction"] == ["malignant" if chance >= 0.9 else "benign" for chance in chances]


def test_labels_keep_their_type(client: httpx.Client) -> None:
    assert predict(client, {"records": [LOAN]}, model="loans").json()["prediction"][0] in (True, False)


def test_missing_values_are_null_absent_or_empty(client: httpx.Client) -> None:
    rows = [LOAN | {"city": None}, {k: v for k, v in LOAN.items() if k != "city"}, LOAN | {"city": ""}]
    found = predict(client, {"records": rows, "probabilities": True}, model="loans").json()
    assert found["probabilities"][0] == found["probabilities"][1] == found["probabilities"][2]


def test_categories_match_as_text(client: httpx.Client) -> None:
    rows = [LOAN | {"job": job} for job in (3, 3.0, "3", " 3 ")]
    found = predict(client, {"records": rows, "probabilities": True}, model="loans").json()
    assert all(chances == found["probabilities"][0] for chances in found["probabilities"])


def test_left_out_sensitive_and_target_columns_are_ignored(client: httpx.Client) -> None:
    more = LOAN | {"gender": "x", "default": [1e308]}
    plain = predict(client, {"records": [LOAN], "probabilities": True}, model="loans").json()
    found = predict(client, {"records": [more], "probabilities": True}, model="loans").json()
    assert found["probabilities"] == plain["probabilities"]


# ---- bad input: each gets a clear answer


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"features=1", "not JSON"),
        (b'{"features": [[5.1, 3.5, 1.4, 0.2]]', "not JSON"),
        (b'{"features": [[5.1, 3.5, 1.4, 0.2]]} x', "not JSON"),
        (b'{"features": [[5.1, NaN, 1.4, 0.2]]}', "NaN"),
        (b'{"features": [[1e400, NaN, 1.4, 0.2]]}', "NaN"),
        (b'{"features": [[5.1, Infinity, 1.4, 0.2]]}', "Infinity"),
        (b'{"features": [[5.1, -Infinity, 1.4, 0.2]]}', "Infinity"),
        (b'{"features": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deep"),
        (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, "deep"),
        (b'\xff\xfe{"features"', "not JSON"),
        (b'{"features": [["\xed\xa0\x80"]]}', "not JSON"),
    ],
)
def test_what_is_not_json_is_400(client: httpx.Client, body: bytes, says: str) -> None:
    reply = client.post("/models/iris/predict", content=body, headers={"Content-Type": "application/json"})
    assert says in problem(reply, 400)["detail"]


@pytest.mark.parametrize(
    ("body", "row", "column", "says"),
    [
        ({"features": [IRIS, [1, 2, 3]]}, 1, None, "expected 4 values, got 3"),
        ({"features": [[*IRIS, 1]]}, 0, None, "expected 4 values, got 5"),
        ({"features": []}, None, None, "at least one row"),
        ({"features": [[]]}, 0, None, "expected 4 values, got 0"),
        ({"features": IRIS}, 0, None, "expected a list"),
        ({"features": 5}, None, "features", "expected a list of rows"),
        ({"features": None}, None, "features", "got null"),
        ({"features": [None]}, 0, None, "got null"),
        ({"features": [IRIS, ["abc", 1, 2, 3]]}, 1, "sepal_length", "expected a number, got 'abc'"),
        ({"features": [["5.1", 1, 2, 3]]}, 0, "sepal_length", "expected a number, got '5.1'"),
        ({"features": [[True, 1, 2, 3]]}, 0, "sepal_length", "expected a number, got true"),
        ({"features": [[None, 1, 2, 3]]}, 0, "sepal_length", "missing"),
        ({"features": [["", 1, 2, 3]]}, 0, "sepal_length", "missing"),
        ({"features": [[[1], 1, 2, 3]]}, 0, "sepal_length", "a list"),
        ({"features": [[10**39, 1, 2, 3]]}, 0, "sepal_length", "within"),
        ({"records": []}, None, None, "at least one record"),
        ({"records": [{}]}, 0, "sepal_length", "missing"),
        ({"records": [5]}, 0, None, "expected an object"),
        ({"records": {"a": 1}}, None, "records", "expected a list of rows"),
        ({"records": [{"sepal_lenth": 1}]}, 0, "sepal_lenth", "did you mean 'sepal_length'?"),
        ({"columns": {}}, None, None, "at least one of the columns"),
        ({"columns": {"sepal_length": [1, 2], "sepal_width": [1]}}, None, "sepal_width", "expected 2"),
        ({"columns": {"sepal_length": 5}}, None, "sepal_length", "expected a list"),
        ({"columns": [1]}, None, "columns", "expected an object"),
        ({"columns": {"wing": [1]}}, None, "wing", "unknown column"),
        ({"x": 5}, None, "x", "unknown key"),
        ({"feature": [IRIS]}, None, "feature", "did you mean 'features'?"),
        ({"features": [IRIS], "probabilities": 1}, None, "probabilities", "true or false"),
        ({"features": [IRIS], "threshold": 0.5}, None, "threshold", "binary"),
    ],
)
def test_what_the_signature_refuses_is_422_and_names_the_place(
    client: httpx.Client, body: Any, row: int | None, column: str | None, says: str
) -> None:
    first = problem(predict(client, body), 422)["errors"][0]
    assert (first["row"], first["column"]) == (row, column)
    assert says in first["reason"]


@pytest.mark.parametrize(
    "body", [b"[1]", b"5", b"null", b'"a"', b"{}", b'{"features": [[1,2,3,4]], "records": []}']
)
def test_an_object_with_one_form_is_expected(client: httpx.Client, body: bytes) -> None:
    reply = client.post("/models/iris/predict", content=body, headers={"Content-Type": "application/json"})
    assert '"features"' in problem(reply, 422)["detail"]


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1e39", "9" * 5000])
def test_a_number_too_large_is_422(client: httpx.Client, number: str) -> None:
    body = f'{{"features": [[1, {number}, 1, 1]]}}'.encode()
    reply = client.post("/models/iris/predict", content=body)
    assert problem(reply, 422)["errors"][0]["column"] == "sepal_width"


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"job": "astronaut"}, "job"),
        ({"job": None}, "job"),
        ({"job": ["cook"]}, "job"),
        ({"age": "abc"}, "age"),
        ({"since": "yesterday"}, "since"),
        ({"note": 5}, "note"),
    ],
)
def test_every_kind_of_column_names_what_it_refuses(
    client: httpx.Client, change: dict[str, Any], column: str
) -> None:
    found = problem(predict(client, {"records": [LOAN, LOAN | change]}, model="loans"), 422)
    assert [(error["row"], error["column"]) for error in found["errors"]] == [(1, column)]


def test_an_unknown_category_may_count_as_missing(client: httpx.Client) -> None:
    rows = [LOAN | {"city": "Atlantis"}, LOAN | {"city": None}]
    found = predict(client, {"records": rows, "probabilities": True}, model="loans").json()
    assert found["probabilities"][0] == found["probabilities"][1]


def test_at_most_twenty_places_are_named(client: httpx.Client) -> None:
    assert len(problem(predict(client, {"features": [["a"] * 4] * 50}), 422)["errors"]) == 20


@pytest.mark.parametrize("threshold", ["0.5", True, -0.1, 1.1, [0.5]])
def test_a_threshold_is_a_probability(client: httpx.Client, made: dict[str, Made], threshold: Any) -> None:
    body = {"features": made["breast_cancer"].rows[:1], "threshold": threshold}
    found = problem(predict(client, body, model="breast_cancer"), 422)
    assert found["errors"][0]["column"] == "threshold"


def test_a_regression_has_no_probabilities(client: httpx.Client) -> None:
    found = problem(predict(client, {"x": 1, "probabilities": True}, model="linear"), 422)
    assert found["errors"][0]["column"] == "probabilities"


# ---- HTTP


def test_a_body_that_is_too_large_is_413(client: httpx.Client) -> None:
    reply = client.post("/models/iris/predict", content=b'{"features": [' + b" " * 1_100_000 + b"]}")
    assert "1000000" in problem(reply, 413)["detail"]
    assert predict(client, {"features": [IRIS]}).status_code == 200


def test_a_chunked_body_is_counted_as_it_streams(client: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 50_000

    reply = client.post("/models/iris/predict", content=endless())
    problem(reply, 413)


def test_a_chunked_body_within_the_limit_is_read(client: httpx.Client) -> None:
    parts = iter([b'{"features": ', b"[[5.1, 3.5, ", b"1.4, 0.2]]}"])
    assert client.post("/models/iris/predict", content=parts).json()["prediction"] == ["setosa"]


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/html",
        "application/vnd.bentoml+pickle",
        "nonsense",
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/score"])
def test_another_content_type_is_415(client: httpx.Client, content_type: str, path: str) -> None:
    reply = client.post(path, content=b"{}", headers={"Content-Type": content_type})
    assert "application/json" in problem(reply, 415)["detail"]


def test_json_may_name_its_charset(client: httpx.Client) -> None:
    body = json.dumps({"features": [IRIS]}).encode()
    for content_type in ("application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"'):
        reply = client.post("/models/iris/predict", content=body, headers={"Content-Type": content_type})
        assert reply.status_code == 200
    wrong = client.post(
        "/models/iris/predict", content=body, headers={"Content-Type": "application/json; charset=utf-16"}
    )
    problem(wrong, 415)


def test_a_body_in_an_unknown_compression_is_415(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "br"}
    problem(client.post("/predict", content=b"\x1f\x8b", headers=headers), 415)
    headers["Content-Encoding"] = "identity"
    body = json.dumps({"features": [IRIS]}).encode()
    assert client.post("/models/iris/predict", content=body, headers=headers).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/predict", "/models/iris/predict", "/score"])
def test_a_wrong_method_is_405(client: httpx.Client, method: str, path: str) -> None:
    reply = client.request(method, path)
    assert reply.status_code == 405
    assert reply.headers["allow"] == "POST, OPTIONS"


@pytest.mark.parametrize(
    "path", ["/models", "/models/iris", "/livez", "/metrics", "/docs", "/openapi.json", "/docs.json"]
)
def test_pages_take_get_and_head(client: httpx.Client, path: str) -> None:
    got = client.get(path)
    head = client.head(path)
    assert got.status_code == head.status_code == 200
    assert head.content == b""
    posted = client.post(path)
    assert posted.status_code == 405
    assert posted.headers["allow"] == "GET, HEAD, OPTIONS"
    assert client.options(path).headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/predict/",
        "/models/nope",
        "/models/nope/predict",
        "/models/iris/nope",
        "/healthz",
        "/static_content/nope.js",
        "/static_content/../service.py",
        "//predict",
        "/%00",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_path_is_404(server: Server, path: str, method: str) -> None:
    received = raw(
        server,
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode(),
    )
    assert received.startswith(b"HTTP/1.1 404 ")
    assert b"application/problem+json" in received


def test_the_request_id_is_echoed(client: httpx.Client) -> None:
    for path, body in (("/models/iris/predict", {"features": [IRIS]}), ("/models/iris/predict", {"x": 1})):
        reply = client.post(path, json=body, headers={"X-Request-Id": "a b~1"})
        assert reply.headers["x-request-id"] == "a b~1"
    assert client.get("/livez", headers={"X-Request-Id": "q"}).headers["x-request-id"] == "q"


@pytest.mark.parametrize("value", ["a" * 129, "a\tb", "\xe9"])
def test_a_malformed_request_id_is_400(client: httpx.Client, value: str) -> None:
    headers = [(b"X-Request-Id", value.encode("latin-1"))]
    reply = client.post("/models/iris/predict", json={"features": [IRIS]}, headers=headers)
    problem(reply, 400)
    assert reply.headers["x-request-id"] == reply.json()["request_id"] != value


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "", "1e3", "9" * 30])
def test_a_malformed_deadline_is_400(client: httpx.Client, value: str) -> None:
    reply = client.post("/models/iris/predict", json={"features": [IRIS]}, headers={"X-Deadline-Ms": value})
    assert "X-Deadline-Ms" in problem(reply, 400)["detail"]


def test_a_long_deadline_is_clipped(client: httpx.Client) -> None:
    reply = client.post(
        "/models/iris/predict", json={"features": [IRIS]}, headers={"X-Deadline-Ms": "99999999"}
    )
    assert reply.status_code == 200


# ---- pages


def test_models_describe_themselves(client: httpx.Client) -> None:
    found = client.get("/models").json()
    assert found["default"] == "breast_cancer"
    assert [model["name"] for model in found["models"]] == ["breast_cancer", "iris", "linear", "loans"]
    iris = client.get("/models/iris").json()
    assert iris["version"] == "12"
    assert iris["runtime"] == "onnx"
    assert iris["signature"]["classes"] == ["setosa", "versicolor", "virginica"]
    assert [column["kind"] for column in iris["signature"]["columns"]] == ["number"] * 4
    loans = client.get("/models/loans").json()
    assert loans["runtime"] == "python"
    assert loans["signature"]["columns"][2]["categories"] == ["clerk", "cook", "3"]


def test_the_example_of_every_model_works_when_sent(client: httpx.Client) -> None:
    for model in client.get("/models").json()["models"]:
        assert predict(client, {"records": [model["example"]]}, model=model["name"]).status_code == 200


def test_health(client: httpx.Client) -> None:
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 200


def test_docs_load_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "/models/iris/predict" in page.text


def test_docs_have_every_route_and_what_takes_get_is_a_link(client: httpx.Client) -> None:
    """Those of the OpenAPI document; a browser that follows a link or asks for an icon finds no 404."""
    page = client.get("/docs").text
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        for method in operations:
            assert (f'<a href="{path}">{path}</a>' if method == "get" else f"<td>{path}<td>") in page
    assert "<link rel=icon" in page
    links = set(re.findall(r'<a href="(/[^"]*)"', page))
    found = {link: client.get(link, follow_redirects=True).status_code for link in links}
    assert found == dict.fromkeys(links, 200)


# ---- BentoML's own client


def test_the_batchable_api_answers_bentoml_clients(server: Server, made: dict[str, Made]) -> None:
    import bentoml

    rows = made["breast_cancer"].rows[:5]
    with bentoml.SyncHTTPClient(server.url) as bento:
        assert bento.score(rows=rows) == made["breast_cancer"].labels(rows)


def test_the_api_of_bentoml_clients_has_the_limits_of_predictions(
    client: httpx.Client, made: dict[str, Made]
) -> None:
    """A deadline that cannot be kept, a name in the log, a count: none of which BentoML's dispatcher had."""
    rows = made["breast_cancer"].rows[:1]
    reply = client.post("/score", json={"rows": rows}, headers={"X-Request-Id": "order-77"})
    assert reply.json() == made["breast_cancer"].labels(rows)
    assert reply.headers["x-request-id"] == "order-77"
    many = {"rows": made["breast_cancer"].rows[:1] * 4000}
    late = client.post("/score", json=many, headers={"X-Deadline-Ms": "1"})
    assert late.status_code == 429
    assert int(late.headers["retry-after"]) >= 1
    counts = client.get("/metrics").text
    assert 'okamochi_requests_total{endpoint="score",model="breast_cancer",status="200"}' in counts
    assert 'okamochi_requests_total{endpoint="score",model="breast_cancer",status="429"}' in counts


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"rows": [[NaN]]}', 400),
        (b"[]", 422),
        (b'{"rows": 5}', 422),
        (b'{"rows": [[1, 2]]}', 422),
        (b'{"rows": [["a"]]}', 422),
        (b'{"rows": []}', 422),
        (b'{"rows": [[' + b",".join([b"1e400"] * 30) + b"]]}", 422),
        (b" " * 1_100_000, 413),
    ],
)
def test_the_batchable_api_is_guarded(client: httpx.Client, body: bytes, status: int) -> None:
    problem(client.post("/score", content=body, headers={"Content-Type": "application/json"}), status)


# ---- many at once


def test_concurrent_answers_are_never_mixed_up(client: httpx.Client, made: dict[str, Made]) -> None:
    """Requests of three models, valid and not, all at once: each gets the answer to its own rows."""
    cancer = made["breast_cancer"]
    chances = cancer.scores(cancer.rows)
    ids: list[str] = []
    lock = threading.Lock()

    def one(i: int) -> None:
        kind = i % 4
        if kind == 0:
            reply = predict(client, {"x": i}, model="linear")
            assert abs(reply.json()["prediction"] - 2 * i) < 1e-6 * max(i, 1)
        elif kind == 1:
            rows = cancer.rows[i % 400 : i % 400 + 1 + i % 7]
            reply = predict(client, {"features": rows, "probabilities": True}, model="breast_cancer")
            expected = chances[i % 400 : i % 400 + 1 + i % 7]
            assert np.allclose(reply.json()["probabilities"], expected, atol=1e-6)
        elif kind == 2:
            reply = predict(client, {"features": [[i, 1, 1]]})
            problem(reply, 422)
            return
        else:
            reply = client.post(
                "/predict", json={"features": [cancer.rows[i % 500]]}, headers={"X-Request-Id": str(i)}
            )
            assert reply.headers["x-request-id"] == str(i)
            assert reply.json()["prediction"] == cancer.labels([cancer.rows[i % 500]])
        with lock:
            ids.append(reply.json()["id"])

    with ThreadPoolExecutor(32) as pool:
        for done in [pool.submit(one, i) for i in range(600)]:
            done.result()
    assert len(set(ids)) == len(ids) == 450


def test_ten_thousand_rows_in_one_request(client: httpx.Client) -> None:
    rows = [[float(i)] for i in range(10_000)]
    found = predict(client, {"features": rows}, model="linear").json()
    assert np.allclose(found["prediction"], [2 * i for i in range(10_000)])


# ---- the processes


def test_the_parent_process_stays_light(server: Server) -> None:
    """The arbiter imports the service but none of what opens a model."""
    maps = [path.path for path in psutil.Process(server.process.pid).memory_maps()]
    assert not [path for path in maps if "onnxruntime" in path or "sklearn" in path or "/numpy/" in path]


def test_the_ids_of_one_process_tell_a_rollout_that_it_is_one(server: Server) -> None:
    """So `make cluster` knows the Service's port from whatever else listens there."""
    from deploy.cluster import process_of

    assert process_of(server.url) == process_of(server.url) != ""
