"""Both lanes answer alike, byte for byte where it matters: the express lane is no other HTTP."""

from __future__ import annotations

import itertools
import json
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.http import heads
from tests.bento_server import bento_server, prepare
from tests.serving.http.lanes import (
    BODY,
    CHUNKED,
    COLD,
    END,
    HOST,
    KEEP_ALIVE_S,
    NAMES,
    connect,
    exchange,
    one_by_one,
    received,
    request,
    split,
    taken,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server
    from tests.serving.artifacts import Made
    from tests.serving.http.lanes import Lanes

RECEIVE_S = 1.0

SAME: dict[str, list[bytes]] = {
    "one": [request()],
    "of a model": [request(path="/models/linear/predict", body=b'{"x": 5}')],
    "two in one packet": [request() * 2],
    "a request and a half": [request() + request()[:60], request()[60:]],
    "half a body": [request()[:-7], request()[-7:]],
    "pipelined hot and cold": [request() + COLD + request() + COLD],
    "hot, cold, hot in packets": [request(), COLD, request()],
    "many pipelined": [request() * 50],
    "connection close": [request(headers=(HOST, "Connection: close"))],
    "connection close among others": [request(headers=(HOST, "Connection: foo, Close"))],
    "connection keep-alive": [request(headers=(HOST, "Connection: keep-alive"))],
    "http 1.0": [request(line="POST /predict HTTP/1.0")],
    "http 1.0 kept alive": [request(line="POST /predict HTTP/1.0", headers=("Connection: keep-alive",))],
    "http 2.0": [request(line="POST /predict HTTP/2.0")],
    "head": [request(b"", line="HEAD /predict HTTP/1.1")],
    "get": [request(b"", line="GET /predict HTTP/1.1")],
    "options": [request(b"", line="OPTIONS /predict HTTP/1.1")],
    "a method of nobody": [request(line="BREW /predict HTTP/1.1")],
    "lower-case method": [request(line="post /predict HTTP/1.1")],
    "expect": [request(headers=(HOST, "Expect: 100-continue"))],
    "chunked": [request(CHUNKED, headers=(HOST, "Transfer-Encoding: chunked"), length=False)],
    "chunked in packets": [
        request(CHUNKED, headers=(HOST, "Transfer-Encoding: chunked"), length=False)[i : i + 9]
        for i in range(0, 160, 9)
    ],
    "absolute form": [request(line="POST http://h/predict HTTP/1.1")],
    "query": [request(path="/predict?a=1")],
    "fragment": [request(path="/predict#a")],
    "percent-encoded": [request(path="/%70redict")],
    "dots": [request(path="/models/../predict")],
    "double slash": [request(path="//predict")],
    "two lengths alike": [request(headers=(HOST, f"Content-Length: {len(BODY)}"))],
    "two lengths at odds": [request(headers=(HOST, "Content-Length: 3"))],
    "length and chunked": [request(headers=(HOST, "Transfer-Encoding: chunked"))],
    "chunked and identity": [request(headers=(HOST, "Transfer-Encoding: chunked, identity"))],
    "negative length": [request(headers=(HOST, "Content-Length: -5"), length=False)],
    "signed length": [request(headers=(HOST, f"Content-Length: +{len(BODY)}"), length=False)],
    "a length with zeros in front": [request(headers=(HOST, f"Content-Length: 00{len(BODY)}"), length=False)],
    "a length with thousands of zeros": [
        request(headers=(HOST, f"Content-Length: {'0' * 5000}{len(BODY)}"), path=path, length=False)
        for path in ("/predict", "/v2/models/iris/infer", "/nothing")
    ],
    "a length of thousands of digits": [
        request(headers=(HOST, f"Content-Length: {'9' * 5000}"), length=False)
    ],
    "no length": [request(b"", headers=(HOST,), length=False)],
    "zero length": [request(b"")],
    "bare line feeds": [request().replace(b"\r\n", b"\n")],
    "one bare line feed": [request().replace(b"\r\n", b"\n", 1)],
    "empty line in the head": [request().replace(b"Host: h\r\n", b"Host: h\n\nX: y\r\n")],
    "obsolete folding": [request(headers=(HOST, "X-A: b\r\n c"))],
    "space before colon": [request(headers=(HOST, "X-A : b"))],
    "no colon": [request(headers=(HOST, "nonsense"))],
    "a null in a header": [request(headers=(HOST, "X-A: a\0b"))],
    "latin-1 in a header": [request(headers=(HOST, "X-A: \xe9"))],
    "no host": [request(headers=())],
    "two hosts": [request(headers=(HOST, "Host: i"))],
    "leading empty lines": [b"\r\n\r\n" + request()],
    "100 headers": [request(headers=(HOST, *(f"X-{i}: {i}" for i in range(100))))],
    "head over the limit": [request(headers=(HOST, "X-Long: " + "x" * 8000))],
    "head over the limit in packets": [
        request(headers=(HOST, "X-Long: " + "x" * 9000))[i : i + 1000] for i in range(0, 9200, 1000)
    ],
    "endless header": [b"POST /predict HTTP/1.1\r\nX: ", *[b"y" * 4000] * 30],
    "upgrade": [request(headers=(HOST, "Connection: Upgrade", "Upgrade: h2c"))],
    "request id": [request(headers=(HOST, "X-Request-Id: abc-123"))],
    "bad request id": [request(headers=(HOST, "X-Request-Id: " + "a" * 200))],
    "deadline": [request(headers=(HOST, "X-Deadline-Ms: 60000", "X-Request-Id: a"))],
    "bad deadline": [request(headers=(HOST, "X-Deadline-Ms: -1"))],
    "content type with charset": [request(headers=(HOST, "Content-Type: Application/JSON; charset=UTF-8"))],
    "no content type": [request(headers=(HOST,))],
    "wrong content type": [request(headers=(HOST, "Content-Type: text/xml"))],
    "gzip": [request(headers=(HOST, "Content-Encoding: gzip"))],
    "identity": [request(headers=(HOST, "Content-Encoding: identity"))],
    "trailers wanted": [request(headers=(HOST, "TE: trailers"))],
    "not json": [request(b"{")],
    "too deep": [request(b"[" * 5000)],
    "a refused row": [request(b'{"features": [[1, 2, 3]]}'), request()],
    "probabilities": [request(b'{"features": [[5.1, 3.5, 1.4, 0.2]], "probabilities": true}')],
    "records": [request(b'{"records": [{"age": 30}]}', path="/models/loans/predict")],
    "several rows": [request(b'{"features": [[5.1, 3.5, 1.4, 0.2], [6.1, 2.9, 4.7, 1.4]]}')],
    "too large by its length": [
        request(b"", headers=(HOST, "Connection: close", "Content-Length: 100001"), length=False)
    ],
    "too large": [request(b" " * 100_001)],
    "nonsense": [b"\x16\x03\x01\x02\x00\x01\x00"],
    "unknown model": [request(path="/models/nobody/predict")],
    "smuggled": [
        request(
            BODY + request(path="/models/linear/predict", body=b'{"x": 1}'),
            headers=(HOST, f"Content-Length: {len(BODY)}"),
            length=False,
        )
    ],
}


@pytest.mark.parametrize("chunks", SAME.values(), ids=SAME)
def test_both_lanes_give_the_same_replies(lanes: Lanes, chunks: list[bytes]) -> None:
    one, other = (exchange(server, chunks, pause=0.003) for server in lanes)
    assert one == other
    assert one
    assert all(reply.status < 500 for reply in one)


@pytest.mark.parametrize("place", range(1, len(request()), 3))
def test_a_request_split_at_any_place_gets_its_reply(lanes: Lanes, place: int) -> None:
    whole = request()
    replies = exchange(lanes.express, [whole[:place], whole[place:]], pause=0.002)
    assert [reply.status for reply in replies] == [200, 200]
    assert b'"setosa"' in replies[0].body


OFFER = ("Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAEAAEAAAAIAAAAA", "Upgrade: h2c")


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        ([request(headers=(HOST, *OFFER))], [200, 200]),
        ([request(headers=(HOST, *OFFER)) * 3 + request()], [200, 200, 200, 200, 200]),
        ([request(CHUNKED, headers=(HOST, *OFFER, "Transfer-Encoding: chunked"), length=False)], [200, 200]),
        ([request(headers=(HOST, *OFFER))[i : i + 7] for i in range(0, 280, 7)], [200, 200]),
        ([b"GET /livez HTTP/1.1\r\nHost: h\r\n" + "\r\n".join(OFFER).encode() + b"\r\n\r\n"], [200, 200]),
        ([request(headers=(HOST, "Connection: close, Upgrade", "Upgrade: h2c"))], [200]),
        (
            [
                request(
                    headers=(HOST, "Connection: Upgrade", "Upgrade: TLS/1.0"), line="POST /predict HTTP/1.0"
                )
            ],
            [200],
        ),
        ([request(headers=(HOST, *OFFER)) * 1500], [200] * 1501),
        ([request(headers=(HOST, "Connection: Upgrade", "Upgrade: websocket"))], [200, 200]),
    ],
    ids=["one", "several", "chunked", "in packets", "get", "close", "http 1.0", "many", "websocket"],
)
def test_an_offer_of_another_protocol_is_declined(
    lanes: Lanes, sent: list[bytes], statuses: list[int]
) -> None:
    """Java's HttpClient and `curl --http2` offer HTTP/2 with each request; its body is read all the same."""
    for server in lanes:
        replies = exchange(server, sent, pause=0.002)
        assert [reply.status for reply in replies] == statuses
        assert {name for reply in replies for name, _ in reply.headers} <= {b"content-type", b"connection"}


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/models/nobody/predict", ("Content-Length: 500",)),
        ("/docs", ("Content-Length: 500",)),
        ("/predict", ("Content-Length: 500", "Content-Type: text/xml")),
        ("/predict", ("Content-Length: 100001",)),
        ("/predict", ("Transfer-Encoding: chunked", "Content-Encoding: br")),
        ("/v2/models/iris/infer", ("Content-Length: 100001",)),
        ("/score", ("Content-Length: 500", "Content-Type: text/xml")),
    ],
)
def test_who_is_refused_while_waiting_for_100_continue_is_hung_up_on(
    lanes: Lanes, path: str, headers: tuple[str, ...]
) -> None:
    """Whether the body comes is the client's to choose: nobody could tell it from the next request."""
    for server in lanes:
        head = request(b"", path=path, headers=(HOST, "Expect: 100-continue", *headers), length=False)
        with connect(server) as connection:
            connection.sendall(head)
            (reply,) = split(received(connection))
        assert 400 <= reply.status < 500
        assert (b"connection", b"close") in reply.headers


def test_who_is_told_to_continue_is_kept(lanes: Lanes) -> None:
    """`100 Continue` was sent, so the body comes, and after it the next request."""
    whole = request(headers=(HOST, "Expect: 100-continue"))
    cut = whole.index(BODY)
    for server in lanes:
        replies = exchange(server, [whole[:cut], whole[cut:] + request()], pause=0.2)
        assert [reply.status for reply in replies] == [100, 200, 200, 200]


def test_http_1_0_knows_no_100_continue(lanes: Lanes) -> None:
    """RFC 9110, 10.1.1."""
    for server in lanes:
        sent = request(line="POST /predict HTTP/1.0", headers=(HOST, "Expect: 100-continue"))
        assert [reply.status for reply in exchange(server, [sent])] == [200]


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        ("", (), 400),
        ("", (HOST, HOST), 400),
        ("", (HOST, "Host: i"), 400),
        ("", ("Host:",), 200),
        ("POST /predict HTTP/1.0", (), 200),
    ],
)
def test_a_request_of_http_1_1_names_its_host_once(
    lanes: Lanes, line: str, headers: tuple[str, ...], status: int
) -> None:
    """RFC 9112, 3.2."""
    for server in lanes:
        first, *_ = exchange(server, [request(line=line, headers=headers)])
        assert first.status == status
        assert status == 200 or b"exactly one Host header" in first.body


def test_a_coding_that_is_not_read_is_501(lanes: Lanes) -> None:
    """RFC 9112, 6.1: the chunks can be told apart, but not what is in them."""
    for server in lanes:
        headers = (HOST, "Transfer-Encoding: gzip, chunked")
        assert exchange(server, [request(CHUNKED, headers=headers, length=False)])[0].status == 501


def test_javas_default_requests_take_the_express_lane(lanes: Lanes) -> None:
    before = taken(lanes.express, "express")
    assert one_by_one(lanes.express, [request(headers=(HOST, *OFFER))]) == [200]
    assert taken(lanes.express, "express") - before == 1


def test_heads_that_differ_in_values_take_the_express_lane_with_their_own_ids(lanes: Lanes) -> None:
    before = taken(lanes.express, "express")
    for i in range(5):
        with httpx.Client(base_url=lanes.express.url) as client:
            for j in range(5):
                own = {"x-b3-spanid": f"{i}{j}", "X-Request-Id": f"{i}-{j}"}
                reply = client.post("/predict", content=BODY + b" " * j, headers=own)
                assert (reply.status_code, reply.headers["x-request-id"]) == (200, f"{i}-{j}")
    assert taken(lanes.express, "express") - before == 25


@pytest.mark.parametrize(
    "path", ["/predict", "/v2/models/iris/infer", "/invocations", "/nowhere", "/v2/nowhere"]
)
@pytest.mark.parametrize("own", [(), ("X-Request-Id: mine",)])
def test_a_refusal_in_any_protocol_names_its_request(lanes: Lanes, path: str, own: tuple[str, ...]) -> None:
    """By the name that the log has it by: bodies of other protocols have no place for it."""
    for server in lanes:
        reply = exchange(server, [request(b"{", path=path, headers=(HOST, *own))])[0]
        assert reply.status in (400, 404)
        named = [value for name, value in reply.headers if name == b"x-request-id"]
        assert named == [b"mine" if own else b"*"]


def test_a_tunnel_is_refused_and_the_connection_closed(lanes: Lanes) -> None:
    for server in lanes:
        replies = exchange(server, [b"CONNECT /predict HTTP/1.1\r\nHost: h\r\n\r\n" + COLD])
        assert [reply.status for reply in replies] == [405]
        assert (b"connection", b"close") in replies[0].headers


def test_a_plain_request_takes_the_express_lane_and_others_do_not(lanes: Lanes) -> None:
    before = taken(lanes.express, "express"), taken(lanes.gateway, "express")
    for server in lanes:
        others = [request(headers=("Host: h", "X-Request-Id: a")), request(path="/predict?a")]
        assert one_by_one(server, [request(), *others]) == [200, 200, 200]
    assert taken(lanes.express, "express") - before[0] == 2
    assert taken(lanes.gateway, "express") == before[1] == 0


def test_a_head_whose_body_comes_in_the_next_packet_takes_the_express_lane(lanes: Lanes) -> None:
    """As Python's http.client and httpx send it."""
    before = taken(lanes.express, "express")
    head = len(request()) - len(BODY)
    for place in (head, head + 5):
        assert exchange(lanes.express, [request()[:place], request()[place:]], pause=0.05)[0].status == 200
    assert taken(lanes.express, "express") - before == 2


def test_replies_come_in_the_order_of_the_requests(lanes: Lanes) -> None:
    sent, expected = b"", []
    for i in range(200):
        sent += request(b'{"x": %d}' % i, path="/models/linear/predict")
        expected.append(2.0 * i)
        if i % 7 == 0:
            sent += COLD
            expected.append(None)
    for size in (1 << 20, 700, 90):
        packets = [sent[i : i + size] for i in range(0, len(sent), size)]
        replies = exchange(lanes.express, packets)[:-1]
        found = [json.loads(reply.body).get("prediction") for reply in replies]
        assert [value if value is None else round(value, 6) for value in found] == expected


def test_a_client_that_half_closes_still_gets_its_reply(lanes: Lanes) -> None:
    for chunks in ([request()], [request() + COLD], [COLD]):
        one, other = (exchange(server, chunks, end=b"") for server in lanes)
        assert one == other
        assert len(one) == b"".join(chunks).count(b"HTTP/1.1")


def test_a_half_sent_request_of_a_client_that_half_closes_ends_the_connection(lanes: Lanes) -> None:
    for server in lanes:
        assert exchange(server, [request()[:-5]], pause=0.05, end=b"") == []


def test_a_client_that_resets_harms_nobody(lanes: Lanes) -> None:
    for _ in range(50):
        connection = connect(lanes.express)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        connection.sendall(request() * 3)
        connection.close()
    assert exchange(lanes.express, [request()])[0].status == 200


def test_a_client_that_reads_nothing_is_not_read_without_end(lanes: Lanes) -> None:
    """Back-pressure: what it sends piles up on its side, not in the worker."""
    for whole in (
        request(),
        request(b'{"features": %s}' % json.dumps([[5.1, 3.5, 1.4, 0.2]] * 900).encode()),
    ):
        with connect(lanes.express) as connection:
            connection.settimeout(2)
            sent = 0
            with suppress(TimeoutError):
                while sent < 200 << 20:
                    sent += connection.send(whole * 20)
            assert sent < 50 << 20
        assert exchange(lanes.express, [request()])[0].status == 200


def test_an_idle_connection_is_closed_after_the_keep_alive_time_and_no_sooner(lanes: Lanes) -> None:
    for server in lanes:
        with connect(server) as connection:
            connection.sendall(request())
            time.sleep(KEEP_ALIVE_S * 0.3)
            connection.sendall(request())
            start = time.monotonic()
            assert [reply.status for reply in split(received(connection))] == [200, 200]
            assert time.monotonic() - start > KEEP_ALIVE_S * 0.8


class TestPatience:
    """`OKAMOCHI_RECEIVE_S`."""

    @pytest.fixture(scope="class", params=["1", "0"])
    def server(
        self, request: pytest.FixtureRequest, made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Server]:
        """With either lane."""
        folder = tmp_path_factory.mktemp("patience")
        prepare(folder, {name: (made[name].path, version) for name, version in NAMES.items()})
        limits = {"OKAMOCHI_RECEIVE_S": str(RECEIVE_S), "OKAMOCHI_EXPRESS": request.param}
        with bento_server(folder, settings=limits) as server:
            yield server

    @pytest.mark.parametrize("sent", [1, 20, -60, -1])
    def test_a_request_that_stays_incomplete_is_408_and_its_connection_closed(
        self, server: Server, sent: int
    ) -> None:
        with connect(server) as connection:
            connection.sendall(request() + request()[:sent])
            replies = split(received(connection))
        assert [reply.status for reply in replies] == [200, 408]
        what = b"head" if request()[:sent].find(b"\r\n\r\n") < 0 else b"body"
        assert b"The rest of the " + what in replies[1].body

    def test_a_head_that_comes_in_drops_is_408(self, server: Server) -> None:
        with connect(server) as connection:
            start = time.monotonic()
            with suppress(BrokenPipeError, ConnectionResetError):
                for byte in request()[:40]:
                    connection.sendall(bytes([byte]))
                    time.sleep(RECEIVE_S / 10)
            assert time.monotonic() - start < 3 * RECEIVE_S
            assert [reply.status for reply in split(received(connection))] in ([408], [])

    def test_a_body_that_keeps_coming_is_waited_for(self, server: Server) -> None:
        whole = request()
        cut = len(whole) - 12
        with connect(server) as connection:
            for part in (whole[:cut], *(whole[i : i + 1] for i in range(cut, len(whole)))):
                connection.sendall(part)
                time.sleep(RECEIVE_S / 5)
            connection.sendall(END)
            assert [reply.status for reply in split(received(connection))] == [200, 200]

    def test_who_says_nothing_is_hung_up_on(self, server: Server) -> None:
        with connect(server) as connection:
            assert received(connection) == b""

    def test_who_takes_nothing_of_a_reply_is_hung_up_on(self, server: Server) -> None:
        many = b"GET /openapi.json HTTP/1.1\r\nHost: h\r\n\r\n"
        with connect(server) as connection:
            with suppress(BrokenPipeError, ConnectionResetError, TimeoutError):
                connection.sendall(many * 2_000)
            time.sleep(4 * RECEIVE_S)
            came = received(connection)
        assert came.count(b"HTTP/1.1 200") < 2_000

    def test_requests_from_time_to_time_are_answered_for_longer_than_that(self, server: Server) -> None:
        with connect(server) as connection:
            for _ in range(8):
                connection.sendall(request())
                time.sleep(RECEIVE_S / 3)
            connection.sendall(END)
            assert [reply.status for reply in split(received(connection))] == [200] * 9


FRAGMENTS = st.sampled_from(
    [
        request(),
        request(headers=("Host: h", "X-Request-Id: 1")),
        COLD,
        *(
            chunks[0]
            for name, chunks in SAME.items()
            if name
            in (
                "several rows",
                "a refused row",
                "chunked",
                "query",
                "not json",
                "probabilities",
                "zero length",
                "identity",
            )
        ),
    ]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.lists(FRAGMENTS, min_size=1, max_size=6), cuts=st.lists(st.integers(1, 2000), max_size=5))
def test_any_stream_of_requests_gets_the_same_replies(
    lanes: Lanes, requests: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(requests)
    places = sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})
    chunks = [stream[a:b] for a, b in itertools.pairwise(places)]
    one, other = (exchange(server, chunks) for server in lanes)
    assert one == other
    assert len(one) == len(requests) + 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, len(request()) - 1), byte=st.binary(min_size=1, max_size=3))
def test_a_damaged_request_gets_the_same_replies(lanes: Lanes, place: int, byte: bytes) -> None:
    whole = request()
    damaged = whole[:place] + byte + whole[place + len(byte) :]
    one, other = (exchange(server, [damaged], end=b"") for server in lanes)
    assert one == other


def test_the_heads_that_are_remembered_are_bounded(lanes: Lanes) -> None:
    """Each client may have a head of its own; memory does not grow with their number."""
    with httpx.Client(base_url=lanes.express.url) as client:
        for i in range(heads.MAX_HEADS + 50):
            reply = client.post("/predict", content=BODY, headers={"X-Other": str(i)})
            assert reply.status_code == 200
    statuses: list[Any] = [reply.status for reply in exchange(lanes.express, [request()])]
    assert statuses == [200, 200]
