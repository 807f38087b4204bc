"""A client that sends its whole body before it reads gets its refusal, and gains nothing else by sending."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from serving.http import linger
from serving.http.linger import Linger
from tests.serving.http.lanes import connect, received, request, split

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.serving.http.lanes import Lanes

LARGE = b"[" + b"1" * 20_000_000  # over the limit, and more than the buffers of two sockets hold


@pytest.mark.parametrize("lane", ["express", "gateway"])
def test_who_sends_all_before_it_reads_gets_its_413(lanes: Lanes, lane: str) -> None:
    """Python's urllib does, with `Connection: close`; `http.client` without it."""
    url = getattr(lanes, lane).url
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(f"{url}/predict", data=LARGE))
    assert refused.value.code == 413
    assert b"larger than" in refused.value.read()
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.request("POST", "/predict", LARGE)
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize("lane", ["express", "gateway"])
def test_a_refusal_of_the_parser_is_read_too(lanes: Lanes, lane: str) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"
    with connect(getattr(lanes, lane)) as connection:
        connection.sendall(head + LARGE)
        assert [reply.status for reply in split(received(connection))] == [400]


def test_a_client_that_goes_on_sending_is_hung_up_on(lanes: Lanes) -> None:
    """With and without `Connection: close`: the refused body has an end for the server."""
    for close in ((), ("Connection: close",)):
        head = request(b"", headers=("Host: h", "Content-Length: 9000000000", *close), length=False)
        with connect(lanes.express) as connection:
            connection.sendall(head)
            sent = 0
            with suppress(ConnectionError):
                while sent <= 4 * linger.MAX_BYTES:
                    sent += connection.send(bytes(1 << 20))
            assert sent < 2 * linger.MAX_BYTES


class Clock:
    """An event loop of which only the time is used."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Clock:
        self.due.append((self.now + seconds, callback))
        return self

    def cancel(self) -> None:
        """Of a timer."""

    def turn(self) -> None:
        self.now, callback = self.due.pop(0)
        callback()


class Transport:
    def __init__(self) -> None:
        self.closed = False
        self.ended = False

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(linger, "_open", set())
    return Clock()


def lingering(clock: Any) -> tuple[Transport, Linger]:
    transport: Any = Transport()
    return transport, Linger(transport, clock)


def test_it_ends_in_silence_after_its_bytes_and_after_its_time(clock: Clock) -> None:
    silent, _ = lingering(clock)
    clock.turn()
    assert silent.ended
    assert silent.closed

    many, its = lingering(clock)
    its.received(linger.MAX_BYTES)
    assert not many.closed
    its.received(1)
    assert many.closed

    clock.due.clear()
    slow, its = lingering(clock)
    began = clock.now
    while not slow.closed:
        its.received(1)
        clock.turn()
    assert clock.now - began == pytest.approx(linger.MAX_S, abs=2 * linger.SILENT_S)


def test_no_more_than_a_few_are_open_at_once(clock: Clock) -> None:
    several = [lingering(clock) for _ in range(linger.MAX_CONNECTIONS)]
    one_more, its = lingering(clock)

    assert one_more.closed
    assert not any(transport.closed for transport, _ in several)
    its.end()
    several[0][1].end()
    assert not lingering(clock)[0].closed
