"""Several requests on one connection of which one is malformed: each reply is that of its own request."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest

from tests.bento_server import bento_server, prepare
from tests.servers import PATIENCE_S
from tests.serving.http.lanes import (
    BODY,
    CHUNKED,
    COLD,
    HOST,
    NAMES,
    connect,
    exchange,
    received,
    request,
    split,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Server
    from tests.serving.artifacts import Made
    from tests.serving.http.lanes import Lanes

ROWS = b'{"features": %s}' % json.dumps([[5.1, 3.5, 1.4, 0.2]] * 4000).encode()
SLOW = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"  # waits for what other workers have counted
CHUNKS = (HOST, "Transfer-Encoding: chunked")

GOOD: dict[str, tuple[bytes, list[int]]] = {
    "plain": (request(), [200]),
    "two": (request() + request(path="/models/linear/predict", body=b'{"x": 5}'), [200, 200]),
    "five, one of them slow": (request() + SLOW + request() + COLD + request(), [200] * 5),
    "slow": (SLOW, [200]),
    "large": (request(ROWS), [200]),
    "chunked": (request(CHUNKED, headers=CHUNKS, length=False), [200]),
    "a page": (COLD, [200]),
    "a page of BentoML's": (b"GET /schema.json HTTP/1.1\r\nHost: h\r\n\r\n", [200]),
    "refused": (request(b'{"features": [[1]]}'), [422]),
    "not there": (request(path="/nowhere"), [404]),
    "feedback": (request(b"[]", path="/feedback"), [422]),
    "another protocol": (request(b'{"inputs": [[5.1, 3.5, 1.4, 0.2]]}', path="/invocations"), [200]),
    "an offer of another protocol": (
        request(headers=(HOST, "Connection: Upgrade", "Upgrade: h2c")),
        [200],
    ),
    "none": (b"", []),
}
BAD: dict[str, tuple[bytes, list[int]]] = {
    "nonsense": (b"\x16\x03\x01\x02\r\n\r\n", [400]),
    "a header without a colon": (b"GET /livez HTTP/1.1\r\nHost: h\r\nnonsense\r\n\r\n", [400]),
    "two lengths": (request(headers=(HOST, "Content-Length: 3")), [400]),
    "no host": (request(headers=()), [400]),
    "a chunk without a size": (request(b"zz\r\n", headers=CHUNKS, length=False), [400]),
    "a second chunk without a size": (
        request(b"3\r\nabc\r\nzz\r\n", path="/v2/models/iris/infer", headers=CHUNKS, length=False),
        [400],
    ),
    "a large head": (request(headers=(HOST, "X-Long: " + "x" * 9000)), [431]),
    "a long target": (b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n" % (b"x" * 9000), [431]),
    "a long query": (request(path="/predict?" + "x" * 9000), [431]),
    "a malformed one with a valid one behind it": (b"GET\r\n\r\n" + request(), [400]),
    "refused before its body, which is malformed": (
        request(b"3\r\nabc\r\nzz", path="/nowhere", headers=CHUNKS, length=False),
        [400],  # or 404 where the body came later; never both
    ),
}


def statuses(server: Server, chunks: list[bytes], *, half_close: bool = False) -> list[int]:
    """Of all replies until the server closes, without an end that the client asks for."""
    with connect(server) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            for chunk in chunks:
                connection.sendall(chunk)
                if len(chunks) > 1:
                    time.sleep(0.0005)
        if half_close:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        return [reply.status for reply in split(received(connection))]


@pytest.mark.parametrize("half_close", [False, True], ids=["", "half-closed"])
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("good", GOOD)
def test_what_comes_before_a_malformed_request_is_answered_first(
    lanes: Lanes, good: str, bad: str, half_close: bool
) -> None:
    """In one segment."""
    for server in lanes:
        found = statuses(server, [GOOD[good][0] + BAD[bad][0]], half_close=half_close)
        assert found == GOOD[good][1] + BAD[bad][1]


@pytest.mark.parametrize("good", ["plain", "two", "slow", "chunked", "a page", "feedback"])
@pytest.mark.parametrize("bad", BAD)
def test_however_the_bytes_arrive(lanes: Lanes, good: str, bad: str) -> None:
    stream = GOOD[good][0] + BAD[bad][0][:600]
    expected = GOOD[good][1] + BAD[bad][1]
    if BAD[bad][1] == [431]:
        stream = GOOD[good][0] + BAD[bad][0]
    either = [expected, GOOD[good][1] + [404]] if "refused" in bad else [expected]
    places = range(1, len(stream), max(1, len(stream) // 12))
    cuts = [[stream[:place], stream[place:]] for place in places]
    cuts.append([stream[i : i + 1] for i in range(len(stream))] if len(stream) < 600 else [stream])
    cuts.append([stream[i : i + 37] for i in range(0, len(stream), 37)])
    for server in lanes:
        for chunks in cuts:
            assert statuses(server, chunks) in either, f"cut at {len(chunks[0])} of {len(stream)}"


def test_an_endless_head_is_refused_after_what_came_before_it(lanes: Lanes) -> None:
    for server in lanes:
        chunks = [SLOW + request() + b"GET /livez HTTP/1.1\r\nX: ", *[b"y" * 3000] * 5]
        assert statuses(server, chunks) == [200, 200, 431]
        assert statuses(server, [b"".join(chunks)]) == [200, 200, 431]


def test_requests_that_wait_behind_a_reply_of_the_express_lane_are_answered_after_a_half_close(
    lanes: Lanes,
) -> None:
    """What came while a reply was due is no less a request of a client that sends no more."""
    with httpx.Client(base_url=lanes.express.url) as client:
        assert client.post("/predict", content=ROWS).status_code == 200
    for server in lanes:
        for _ in range(20):
            chunks = [request(b'{"features": %s}' % json.dumps([[5.1, 3.5, 1.4, 0.2]] * 900).encode())]
            chunks += [request(), request() + b"GET\r\n\r\n"]
            assert statuses(server, chunks, half_close=True) == [200, 200, 200, 400]


def test_a_request_that_is_cut_off_gets_no_reply_and_those_before_it_do(lanes: Lanes) -> None:
    for server in lanes:
        for cut in (20, len(request()) - 5):
            assert statuses(server, [SLOW + request() + request()[:cut]], half_close=True) == [200, 200]


def test_after_connection_close_nothing_is_answered(lanes: Lanes) -> None:
    """RFC 9112, 9.6: not even that it is malformed."""
    for server in lanes:
        for first in (request(headers=(HOST, "Connection: close")), SLOW.replace(b"\r\n", END, 1)):
            assert statuses(server, [first + b"GET\r\n\r\n"]) == [200]


END = b"\r\nConnection: close\r\n"


def test_feedback_that_is_stored_is_told_so(lanes: Lanes) -> None:
    for server in lanes:
        whole = httpx.post(server.url + "/models/linear/predict", json={"x": 5}).json()
        told = json.dumps([{"id": whole["id"], "row": 0, "actual": 10}]).encode()
        assert statuses(server, [request(told, path="/feedback") + b"GET\r\n\r\n"]) == [200, 400]


def test_pipelines_that_end_badly_leave_a_bounded_number_of_lines_and_no_exception(lanes: Lanes) -> None:
    """Also of clients that leave without having read a reply."""
    for server in lanes:
        before = len(server.log.read_text())
        for i in range(300):
            connection = connect(server)
            connection.sendall(request() + SLOW + request(ROWS if i % 50 == 0 else BODY) + COLD)
            connection.sendall(request() + (b"GET\r\n\r\n" if i % 2 else b"POST"))
            if i % 3 == 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01" + bytes(3) + bytes(4))
            elif i % 3 == 1:
                time.sleep(0.003)
            else:
                received(connection) if i % 2 else None
            connection.close()
        assert exchange(server, [request()])[0].status == 200
        time.sleep(0.5)
        new = server.log.read_text()[before:]
        assert "Exception" not in new, new[:3000]
        assert '"level":"error"' not in new, new[:3000]
        assert len(new.splitlines()) < 200


def test_refusals_of_a_connection_are_counted(lanes: Lanes) -> None:
    for server in lanes:
        before = _refused(server)
        assert statuses(server, [request() + b"GET\r\n\r\n"]) == [200, 400]
        assert _refused(server) == before + 1


def _refused(server: Server) -> float:
    text = httpx.get(server.url + "/metrics").text
    found = re.search(
        r'^okamochi_requests_total{endpoint="other",model="",status="400"} (\S+)$', text, re.MULTILINE
    )
    return float(found[1]) if found else 0.0


class TestTLS:
    """The same through TLS, where segments are records."""

    @pytest.fixture(scope="class")
    def secured(
        self, made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[tuple[Server, ssl.SSLContext]]:
        folder: Path = tmp_path_factory.mktemp("tls")
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ]
        names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run(
            [*command, *names, "-out", certificate, "-keyout", key], check=True, capture_output=True
        )
        prepare(folder / "server", {name: (made[name].path, version) for name, version in NAMES.items()})
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(certificate))
            with bento_server(
                folder / "server",
                "--ssl-certfile",
                str(certificate),
                "--ssl-keyfile",
                str(key),
                settings={"OKAMOCHI_MAX_HEAD_BYTES": "8000"},
            ) as server:
                yield server, ssl.create_default_context(cafile=certificate)

    @pytest.mark.parametrize("good", ["plain", "five, one of them slow", "large", "chunked", "none"])
    @pytest.mark.parametrize("bad", ["nonsense", "no host", "a chunk without a size", "a large head"])
    def test_what_comes_before_a_malformed_request_is_answered_first(
        self, secured: tuple[Server, ssl.SSLContext], good: str, bad: str
    ) -> None:
        server, context = secured
        where = urlsplit(server.url)
        stream = GOOD[good][0] + BAD[bad][0]
        cuts = [[stream], [stream[:-30], stream[-30:]]]
        if len(stream) < 1000:
            cuts.append([stream[i : i + 1] for i in range(len(stream))])
        for chunks in cuts:
            with (
                socket.create_connection((where.hostname, where.port), timeout=PATIENCE_S) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
            ):
                with suppress(BrokenPipeError, ConnectionResetError):
                    for chunk in chunks:
                        connection.sendall(chunk)
                assert [reply.status for reply in split(received(connection))] == (
                    GOOD[good][1] + BAD[bad][1]
                )
