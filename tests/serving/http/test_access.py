"""Every request is asked about, once, whatever lane it takes and whatever was remembered before it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, NamedTuple

import httpx
import pytest

from tests.bento_server import bento_server, prepare
from tests.serving.http.lanes import BODY, CHUNKED, HOST, NAMES, connect, exchange, request, split

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Server
    from tests.serving.artifacts import Made

KEY = "right-4711"
# The service of every server, with a check of keys in place of today's: it writes down whatever it is asked.
CHECK = """
from serving.errors import Problem
from serving.http import access

_asked = open("asked", "a", buffering=1)

def admit(access_request):
    keys = [value.decode("latin-1") for name, value in access_request.credentials]
    print(access_request.method, access_request.path, *keys, file=_asked)
    if access_request.path == "/livez":
        return None
    if keys in (["Bearer right-4711"], ["right-4711"]):
        return access.Principal("somebody")
    if keys == ["Bearer another"]:
        raise Problem(403, "This key is for another model.")
    raise Problem(401, "A key is needed.", headers=((b"www-authenticate", b"Bearer"),))

access.admit = admit
"""


class Locked(NamedTuple):
    server: Server
    asked: Path

    def since(self, before: int) -> list[str]:
        """What was asked after the first so many."""
        return self.asked.read_text().splitlines()[before:]

    @property
    def count(self) -> int:
        return len(self.asked.read_text().splitlines())


@pytest.fixture(scope="module", params=["1", "0"], ids=["express", "gateway"])
def locked(
    request: pytest.FixtureRequest, made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Locked]:
    folder = tmp_path_factory.mktemp("locked")
    prepare(folder, {name: (made[name].path, version) for name, version in NAMES.items()})
    service = folder / "service.py"
    service.write_text(service.read_text() + CHECK)
    settings = {"OKAMOCHI_EXPRESS": request.param, "OKAMOCHI_LOG_SAMPLE": "1"}
    with bento_server(folder, settings=settings, ready="/livez") as server:
        yield Locked(server, folder / "asked")


def keyed(
    key: str = "", *, header: str = "Authorization", more: tuple[str, ...] = (), **options: object
) -> bytes:
    """A prediction request with a key, or none."""
    shown = f"Bearer {key}" if header.lower() == "authorization" else key
    own = (f"{header}: {shown}",) if key else ()
    return request(headers=(HOST, *own, *more), **options)  # type: ignore[arg-type]


EXPECTED = {KEY: 200, "another": 403, "wrong": 401, "": 401}


def test_a_key_of_each_kind_on_heads_that_were_seen_before(locked: Locked) -> None:
    """The same bytes again, the same form with other values, and forms that change: on kept connections."""
    before, sent, statuses = locked.count, [], []
    for header in ("Authorization", "X-API-Key", "authorization"):
        for key in (KEY, "wrong", "", KEY, "another", "wrong", KEY, "", KEY):
            if key == "another" and header != "Authorization":
                continue
            for more in ((), ("X-A: 1",), (f"X-B3-SpanId: {len(sent)}",), (f"X-Request-Id: {len(sent)}",)):
                for body in (BODY, BODY + b" "):
                    sent.append(keyed(key, header=header, more=more, body=body))
                    statuses.append(EXPECTED[key])
    replies = one_by_one(locked.server, sent * 2)
    assert replies == statuses * 2
    assert locked.count - before == len(sent) * 2
    assert all(line.startswith("POST /predict") for line in locked.since(before))


def one_by_one(server: Server, requests: list[bytes]) -> list[int]:
    """Statuses of requests on one connection, each sent when the one before is answered."""
    statuses = []
    with connect(server) as connection:
        for each in requests:
            connection.sendall(each)
            reply = b""
            while b"\r\n\r\n" not in reply or not reply.endswith(b"}"):
                part = connection.recv(1 << 16)
                assert part, f"the server closed after {reply!r}"
                reply += part
            statuses.append(split(reply)[0].status)
    return statuses


@pytest.mark.parametrize("key", EXPECTED)
def test_requests_of_every_shape(locked: Locked, key: str) -> None:
    """Pipelined, in chunks, in packets, with an offer of another protocol, of HTTP/1.0, after a valid one."""
    shown = f"Authorization: Bearer {key}"
    own = (shown,) if key else ()
    chunked = request(CHUNKED, headers=(HOST, *own, "Transfer-Encoding: chunked"), length=False)
    offer = ("Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAEAAEAAAAIAAAAA", "Upgrade: h2c")
    plain = keyed(key)
    shapes: dict[str, list[bytes]] = {
        "pipelined": [plain * 3],
        "behind one that may": [keyed(KEY) + plain],
        "chunked": [chunked],
        "byte by byte": [plain[i : i + 1] for i in range(len(plain))],
        "head, then body": [plain[: -len(BODY)], plain[-len(BODY) :]],
        "an offer": [keyed(key, more=offer)],
        "HTTP/1.0": [request(line="POST /predict HTTP/1.0", headers=(*own, "Connection: keep-alive"))],
        "query": [request(path="/predict?a", headers=(HOST, *own))],
        "percent-encoded": [request(path="/%70redict", headers=(HOST, *own))],
        "large": [request(BODY + b" " * 70_000, headers=(HOST, *own))],
        "a deadline": [keyed(key, more=("X-Deadline-Ms: 60000",))],
        "a trace": [keyed(key, more=(f"traceparent: 00-{1:032x}-{1:016x}-01",))],
    }
    for name, chunks in shapes.items():
        before = locked.count
        whole = b"".join(chunks)
        replies = exchange(locked.server, chunks, pause=0.001 if len(chunks) > 1 else 0.0)
        expected = [EXPECTED[key]] * whole.count(b"POST ")
        if name == "behind one that may":
            expected[0] = 200
        assert [reply.status for reply in replies][: len(expected)] == expected, name
        assert locked.count - before == len(replies), name


def test_a_refused_client_that_waits_for_100_continue_sends_no_body(locked: Locked) -> None:
    whole = keyed("wrong", more=("Expect: 100-continue",))
    with connect(locked.server) as connection:
        connection.sendall(whole[: -len(BODY)])
        reply = b""
        while part := connection.recv(1 << 16):
            reply += part
    assert [each.status for each in split(reply)] == [401]


ROUTES = [
    ("POST", "/predict", BODY),
    ("POST", "/models/linear/predict", b'{"x": 5}'),
    ("POST", "/models/nobody/predict", b"{}"),
    ("POST", "/v2/models/iris/infer", b"{}"),
    ("POST", "/invocations", b"{}"),
    ("POST", "/feedback", b"[]"),
    ("POST", "/score", b'{"rows": [[5.1, 3.5, 1.4, 0.2]]}'),
    ("POST", "/score", b"{"),
    ("GET", "/", b""),
    ("GET", "/schema.json", b""),
    ("GET", "/docs.json", b""),
    ("GET", "/docs", b""),
    ("GET", "/openapi.json", b""),
    ("GET", "/models", b""),
    ("GET", "/console/state.json", b""),
    ("GET", "/console/models/iris", b""),
    ("HEAD", "/models/iris", b""),
    ("GET", "/v2", b""),
    ("GET", "/ping", b""),
    ("GET", "/metrics", b""),
    ("GET", "/readyz", b""),
    ("OPTIONS", "/predict", b""),
    ("GET", "/nowhere", b""),
    ("DELETE", "/predict", b""),
]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_every_route_asks_once_and_refuses_in_its_protocols_shape(
    locked: Locked, method: str, path: str, body: bytes
) -> None:
    before = locked.count
    reply = httpx.request(method, locked.server.url + path, content=body)
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert locked.since(before) == [f"{method} {path}"]
    if method != "HEAD":
        shape = {"/v2": "error", "/in": "error_code", "/pi": "error_code"}.get(path[:3], "status")
        assert shape in reply.json()
    before = locked.count
    passed = httpx.request(method, locked.server.url + path, content=body, headers={"X-API-Key": KEY})
    assert passed.status_code not in (401, 403)
    assert locked.since(before) == [f"{method} {path} {KEY}"]


def test_the_log_has_who_asked_and_never_the_key(locked: Locked) -> None:
    headers = {"X-API-Key": KEY, "X-Request-Id": "whose"}
    assert httpx.post(locked.server.url + "/predict", content=BODY, headers=headers).status_code == 200
    for _ in range(4_000):
        lines = [line for line in locked.server.log.read_text().splitlines() if '"whose"' in line]
        if lines:
            break
        time.sleep(0.05)
    (line,) = lines
    assert json.loads(line)["principal"] == "somebody"
    assert KEY not in locked.server.log.read_text()
