"""Whatever bytes a client sends: no answer of 5xx, no worker lost, each answer in its protocol's shape."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from tests.faults.conftest import FULL
from tests.faults.wire import Reply, ask, one, predictions, request, workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import Server

REQUESTS = 10_000 if FULL else 1_200
IRIS = [5.1, 3.5, 1.4, 0.2]
GOLDEN = request("/predict", json.dumps({"features": [IRIS]}).encode())

NASTY: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -0.0,
        1e308,
        10**400,
        -1,
        0.1,
        "",
        " ",
        "abc",
        "\x00",
        "\ud83d\ude00",
        "x" * 9000,
    ),
    *([], {}, [[]], [{}], {"": None}, [[[1]]], "NaN", "1e400", "2024-02-30", "../../etc/passwd"),
    *("%s%n", "' OR 1=1", "a\r\nX-Evil: 1"),
]
VALID: list[tuple[str, Any]] = [
    ("/predict", {"features": [IRIS, IRIS], "probabilities": True}),
    (
        "/predict",
        {"records": [dict(zip(("sepal_length", "sepal_width", "petal_length"), IRIS, strict=False))]},
    ),
    ("/predict", {"columns": {"sepal_length": [1, 2], "sepal_width": [1, 2], "petal_length": [3, 4]}}),
    ("/models/linear/predict", {"x": 5}),
    (
        "/models/loans/predict",
        {"features": [[30, None, "cook", "Ulm", "2020-05-17", "paid"]], "threshold": 0.4},
    ),
    ("/models/loans/predict", {"records": [{"age": 30, "job": "3", "since": "2020-05-17", "gender": "x"}]}),
    (
        "/v2/models/iris/infer",
        {
            "id": "a",
            "inputs": [{"name": "f", "datatype": "FP32", "shape": [1, 4], "data": IRIS}],
            "outputs": [{"name": "prediction", "parameters": {"binary_data": True}}],
        },
    ),
    (
        "/v2/models/loans/infer",
        {
            "parameters": {"threshold": 0.2, "timeout": 10**6},
            "inputs": [
                {"name": "age", "datatype": "INT64", "shape": [1], "data": [30]},
                {"name": "job", "datatype": "BYTES", "shape": [1, 1], "data": ["cook"]},
                {"name": "since", "datatype": "BYTES", "shape": [1], "data": ["2020-05-17"]},
            ],
        },
    ),
    ("/invocations", {"dataframe_split": {"columns": ["petal_length"], "index": [0], "data": [[1.5]]}}),
    (
        "/invocations",
        {"dataframe_records": [{"sepal_length": 1, "other": 2}], "params": {"probabilities": True}},
    ),
    ("/invocations", {"instances": [IRIS]}),
    ("/invocations", {"inputs": {"sepal_length": [1, 2], "sepal_width": 3}}),
    ("/score", {"rows": [IRIS]}),
]
ROUTES = [
    *("/", "/predict", "/models", "/models/iris", "/models/nobody", "/models/slow/predict", "/invocations"),
    *("/ping", "/health", "/version", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/iris"),
    *("/v2/models/iris/versions/12", "/v2/models/iris/versions/12/infer", "/v2/models/iris/ready", "/score"),
    *("/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs.json", "/schema.json", "/nowhere"),
]
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"]
HEADERS = [
    *("Content-Type: text/csv", "Content-Type: application/octet-stream", "Content-Type: text/xml"),
    *("Content-Type: ;;;=", "Content-Type: application/json; charset=utf-16", "Content-Encoding: gzip"),
    *("Content-Encoding: \xff", "X-Request-Id: \xe9", "X-Request-Id: " + "a" * 129, "X-Request-Id: a\tb"),
    *("X-Deadline-Ms: 0", "X-Deadline-Ms: 1", "X-Deadline-Ms: " + "9" * 5000, "X-Deadline-Ms: \xb2"),
    *("Inference-Header-Content-Length: 0", "Inference-Header-Content-Length: 5"),
    *("Inference-Header-Content-Length: -1", "Inference-Header-Content-Length: 99999999999"),
    *(
        "Accept: image/png",
        "Range: bytes=0-",
        "Cookie: " + "c=" * 3000,
        "X-A: b\r\n folded",
        "Expect: nothing",
    ),
]
CSV = b"sepal_length,sepal_width,petal_length,petal_width\n5.1,3.5,1.4,0.2\n"


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    found = [path]
    if isinstance(value, dict):
        found += [place for key in value for place in places(value[key], (*path, key))]
    elif isinstance(value, list):
        found += [place for i, each in enumerate(value) for place in places(each, (*path, i))]
    return found


def replaced(value: Any, place: tuple[Any, ...], what: Any) -> Any:
    if not place:
        return what
    changed = value.copy()
    changed[place[0]] = replaced(value[place[0]], place[1:], what)
    return changed


def mutated_json(pick: random.Random) -> bytes:
    """A valid body with one or two values replaced, a key renamed, or its text damaged."""
    path, body = pick.choice(VALID)
    for _ in range(pick.randint(1, 2)):
        body = replaced(body, pick.choice(places(body)), pick.choice(NASTY))
    if isinstance(body, dict) and body and pick.random() < 0.2:
        key = pick.choice(list(body))
        body = {
            (pick.choice(["", "featurs", "x", "é", key * 30]) if each == key else each): body[each]
            for each in body
        }
    text = json.dumps(body).encode()
    if pick.random() < 0.3:
        text = damaged(text, pick)
    return request(path, text, *pick.sample(HEADERS, pick.randint(0, 1)))


def damaged(text: bytes, pick: random.Random) -> bytes:
    at = pick.randrange(len(text) + 1)
    insert = pick.choice(
        [b"\xff", b"\x00", b"NaN", b"Infinity", b"[" * 3000, b"1e999", b'"', b"\\ud800", b"-", b",,"]
    )
    return text[:at] + insert + text[at + pick.randint(0, 9) :]


def binary_tensors(pick: random.Random) -> bytes:
    """Tensors behind JSON whose shape, datatype, size or header length need not fit them."""
    datatype = pick.choice(["FP16", "FP32", "FP64", "INT8", "UINT64", "BOOL", "BYTES", "BF16", "", None])
    data = pick.randbytes(pick.choice([0, 4, 8, 16, 32, 33, 64]))
    shape = pick.choice([[1, 4], [4], [2**62, 4], [0, 4], [-1, 4], [1, 1, 4], [10**30], [], "a", [1.0, 4]])
    size = pick.choice([len(data), len(data), 0, 2**63, -1, "8", None])
    tensor = {"name": "f", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [tensor] * pick.choice([1, 1, 2])}).encode()
    said = pick.choice([len(head), len(head), 0, 1, len(head) + 1, 10**9])
    name = pick.choice(["iris", "loans", "linear"])
    return request(f"/v2/models/{name}/infer", head + data, f"Inference-Header-Content-Length: {said}")


def mutated_csv(pick: random.Random) -> bytes:
    text = pick.choice([CSV, b'x\n"1\n', b"\n\n", b"a,a\n1,2\n", b"x\n" + b"1" * 30_000 + b"x\n", CSV + CSV])
    return request("/invocations", damaged(text, pick), "Content-Type: text/csv")


def raw_bytes(pick: random.Random) -> bytes:
    """Bytes that are a request in part, and the end of the connection."""
    whole = bytearray(GOLDEN)
    for _ in range(pick.randint(1, 4)):
        at = pick.randrange(len(whole))
        whole[at : at + pick.randint(0, 3)] = pick.randbytes(pick.randint(0, 3))
    return bytes(whole) + b"\r\n\r\n" * 2 + b"\x00 nonsense\r\n\r\n"


def odd_route(pick: random.Random) -> bytes:
    path = pick.choice(ROUTES) + pick.choice(["", "", "/", "?a=1", "?" + "q" * 3000, "%00", "/../x", "/%ff"])
    body = pick.choice([b"", b"", b"{}", b"[1]", pick.randbytes(40)])
    method = pick.choice([m for m in METHODS if m != "HEAD"])  # its length is no body's, here
    return request(path, body, *pick.sample(HEADERS, pick.randint(0, 2)), method=method)


KINDS: list[Callable[[random.Random], bytes]] = [
    *[mutated_json] * 5,
    *[binary_tensors] * 2,
    mutated_csv,
    raw_bytes,
    *[odd_route] * 2,
]


def shape_is_right(whole: bytes, reply: Reply) -> bool:
    """Whether a refusal is worded as the protocol of its route words it."""
    if reply.status < 400:
        return True
    parts = whole.split(b" ", 2)
    path = parts[1] if len(parts) == 3 else b""
    found = json.loads(reply.body)
    if reply.headers.get("content-type") == "application/problem+json":
        return bool(found["status"] == reply.status and found["title"] and found["detail"])
    if path.startswith(b"/v2"):
        return list(found) == ["error"] and bool(found["error"])
    return path.split(b"?")[0] in (b"/invocations", b"/ping", b"/health", b"/version") and bool(
        found["error_code"]
    )


def test_malformed_requests_get_refusals_and_harm_no_worker(server: Server, figures: dict[str, Any]) -> None:
    """The row of the design: 10,000 malformed requests, 0 answers of 5xx, no worker lost."""
    pick = random.Random(20_240_517)  # noqa: S311 - the same requests each time
    before = [worker.pid for worker in workers(server)]
    sent = [pick.choice(KINDS)(pick) for _ in range(REQUESTS)]
    replies = ask(server, *sent)
    answered = [(whole, reply) for whole, reply in zip(sent, replies, strict=True) if reply is not None]
    failed = [(whole[:2000], reply) for whole, reply in answered if reply.status >= 500]
    figures["malformed_requests"] = {
        "sent": len(sent),
        "answered": len(answered),
        "status_5xx": len(failed),
        "workers_lost": len(set(before) - {worker.pid for worker in workers(server)}),
        "refused": sum(reply.status >= 400 for _, reply in answered),
    }
    assert not failed
    wrong = [(whole[:300], reply) for whole, reply in answered if not shape_is_right(whole, reply)]
    assert not wrong
    assert len(answered) > 0.9 * len(sent)
    assert [worker.pid for worker in workers(server)] == before
    assert one(server, request("/readyz", method="GET")).status == 200
    assert predictions(one(server, GOLDEN)) == ["setosa"]
