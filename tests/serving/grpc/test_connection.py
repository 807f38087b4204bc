"""HTTP/2 on the wire: frames in any form and order, limits, floods, cancelled calls, the end."""

from __future__ import annotations

import asyncio
import collections
import random
import socket
import threading
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import hpack
import pytest
import uvloop

from serving.grpc import frames
from serving.grpc.connection import MAX_STREAMS, Connection, Method, Shared
from serving.grpc.frames import Code
from serving.grpc.header_block import BlockError, Decoder, TooLarge, encoded
from serving.grpc.heading import Headings
from serving.http.bodies import Bodies
from serving.observe.supervised import Pool
from serving.settings import Settings
from tests.servers import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from serving.errors import Problem
    from serving.grpc.stream import Stream

MAX_BYTES = 200_000
HEAD = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/echo"),
    (":authority", "x"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]


class Port:
    """A listening port in a loop of its own; its methods echo, hold or stream.

    Parameters
    ----------
    receive_s
        How long it waits for a client.
    """

    def __init__(self, receive_s: float) -> None:
        self.held: list[Stream] = []
        self.left = self.streaming = 0
        self.settings = Settings(max_body_bytes=MAX_BYTES, max_head_bytes=8_192, receive_s=receive_s)
        self.loop = uvloop.new_event_loop()
        self.errors: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.errors.append(context))
        self.bodies = Bodies(8 * MAX_BYTES, MAX_BYTES)
        methods = {
            b"/echo": Method(lambda call, data: call.reply(data)),
            b"/hold": Method(self._hold),
            b"/broken": Method(lambda call, _: call.start(self._broken())),
            b"/several": Method(lambda call, _: call.start(self._several(call)), several=True),
        }
        self.refused: list[Problem] = []
        reading = Pool("reading", 1)
        self.shared = Shared(self.settings, methods, Headings(), reading, set(), self.bodies, self._tell)
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.port: int = self.run(self._listen())

    async def _listen(self) -> int:
        self.server = await self.loop.create_server(lambda: Connection(self.shared), "127.0.0.1", 0)
        port: int = self.server.sockets[0].getsockname()[1]
        return port

    def _tell(self, _: Stream, problem: Problem) -> str:
        self.refused.append(problem)
        return f"id-{len(self.refused)}"

    def _hold(self, call: Stream, _: bytes) -> None:
        self.held.append(call)
        call.left = self._count

    def _count(self) -> None:
        self.left += 1

    async def _broken(self) -> None:
        raise LookupError("hunter2")

    async def _several(self, call: Stream) -> None:
        self.streaming += 1
        try:
            async for data in call.messages():
                call.send(data)
                await call.drained()
            call.end(0)
        finally:
            self.streaming -= 1

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_S)

    def do(self, work: Callable[..., object], *arguments: Any) -> None:
        async def call() -> None:
            work(*arguments)

        self.run(call())

    def close(self) -> None:
        self.do(self.server.close)
        for each in tuple(self.shared.connections):
            self.do(each.abort)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def port() -> Iterator[Port]:
    """It never ends a call or connection for its slowness, as a busy machine may stop a test for seconds."""
    with opened(receive_s=PATIENCE_S) as found:
        yield found


@pytest.fixture(scope="module")
def impatient_port() -> Iterator[Port]:
    """It ends slow calls and connections after half a second to a second."""
    with opened(receive_s=0.5) as found:
        yield found


@contextmanager
def opened(receive_s: float) -> Iterator[Port]:
    found = Port(receive_s)
    yield found
    found.close()
    assert found.errors == []


class Client:
    """A client that writes frames by hand; hpack's own encoder and decoder are beside ours."""

    def __init__(self, port: Port, settings: dict[int, int] | None = None, *, greet: bool = True) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port.port), timeout=PATIENCE_S)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.data = b""
        if greet:
            self.socket.sendall(frames.PREFACE + frames.settings(settings or {}))

    def block(self, path: str = "/echo", *more: tuple[str, str]) -> bytes:
        fields = [(name, path if name == ":path" else value) for name, value in HEAD]
        found: bytes = self.encoder.encode([*fields, *more])
        return found

    def call(self, number: int, message: bytes = b"hello", path: str = "/echo") -> bytes:
        head = frames.frame(frames.HEADERS, frames.END_HEADERS, number, self.block(path))
        return head + frames.frame(frames.DATA, frames.END_STREAM, number, prefixed(message))

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def frame(self) -> tuple[int, int, int, bytes] | None:
        """The next frame; None where the connection ends."""
        while True:
            if len(self.data) >= 9:
                high, low, kind, flags, number = frames.unpack_header(self.data)
                end = 9 + (high << 16 | low)
                if len(self.data) >= end:
                    payload, self.data = self.data[9:end], self.data[end:]
                    return kind, flags, number, payload
            try:
                more = self.socket.recv(65_536)
            except ConnectionResetError:
                return None
            if not more:
                return None
            self.data += more

    def replies(self, count: int) -> dict[int, tuple[bytes, dict[str, str]]]:
        """The messages and the last fields of so many calls."""
        messages: dict[int, bytes] = {}
        found: dict[int, tuple[bytes, dict[str, str]]] = {}
        while len(found) < count:
            frame = self.frame()
            assert frame is not None, "the connection ended"
            kind, flags, number, payload = frame
            assert kind != frames.GOAWAY, payload
            if kind == frames.DATA:
                messages[number] = messages.get(number, b"") + payload
            elif kind == frames.HEADERS:
                fields = dict(self.decoder.decode(payload))
                if flags & frames.END_STREAM:
                    found[number] = (messages.get(number, b"")[5:], fields)
            elif kind == frames.RST_STREAM and frames.number_of(payload) != Code.NO_ERROR:
                found[number] = (b"", {"reset": Code(frames.number_of(payload)).name})
        return found

    def ended(self) -> str:
        """Why the server has ended the connection."""
        why = ""
        while (frame := self.frame()) is not None:
            if frame[0] == frames.GOAWAY:
                why = Code(int.from_bytes(frame[3][4:8], "big")).name
        return why


@contextmanager
def client(port: Port, settings: dict[int, int] | None = None, *, greet: bool = True) -> Iterator[Client]:
    found = Client(port, settings, greet=greet)
    with found.socket:
        yield found


def prefixed(message: bytes, compressed: int = 0) -> bytes:
    return bytes((compressed,)) + len(message).to_bytes(4, "big") + message


OK = {"grpc-status": "0"}


def test_a_method_that_fails_is_told_and_named(port: Port) -> None:
    """A bug in a service is INTERNAL for the client, and its line has the place in the code."""
    before = len(port.refused)
    client = Client(port)
    client.send(client.call(1, path="/broken"))

    _, fields = client.replies(1)[1]

    (problem,) = port.refused[before:]
    assert (fields["grpc-status"], fields["x-request-id"]) == ("13", f"id-{before + 1}")
    assert problem.status == 500
    assert problem.error.startswith("LookupError at ")
    assert "hunter2" not in problem.error + fields["grpc-message"]


# ---- frames in any form


def test_a_call_that_comes_byte_by_byte_is_answered(port: Port) -> None:
    """Wherever the packets are cut, the preface included."""
    with client(port, greet=False) as one:
        for byte in frames.PREFACE + frames.settings({}) + one.call(1) + one.call(3, b""):
            one.send(bytes((byte,)))
        assert one.replies(2) == {1: (b"hello", OK), 3: (b"", OK)}


def test_the_calls_of_one_read_are_all_answered(port: Port) -> None:
    """Many frames in one buffer, with others between."""
    with client(port) as one:
        ping = frames.frame(frames.PING, 0, 0, b"12345678")
        unknown = frames.frame(0xBB, 0xFF, 7, b"x" * 100)
        numbers = range(1, 401, 2)
        one.send(*(one.call(number, b"%d" % number) + ping + unknown for number in numbers))
        assert one.replies(200) == {number: (b"%d" % number, OK) for number in numbers}


def test_padding_priority_and_continuation_are_read(port: Port) -> None:
    """In one call: a padded head with a priority, in three parts; a message in three padded parts."""
    with client(port) as one:
        block = one.block()
        head = bytes((3,)) + (0).to_bytes(4, "big") + b"\x10" + block[:5] + b"\0\0\0"
        data = prefixed(b"hello")
        one.send(
            frames.frame(frames.HEADERS, frames.PADDED | frames.WITH_PRIORITY, 1, head),
            frames.frame(frames.CONTINUATION, 0, 1, block[5:9]),
            frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[9:]),
            frames.frame(frames.PRIORITY, 0, 1, bytes(5)),
            *(
                frames.frame(frames.DATA, frames.PADDED, 1, b"\2" + part + b"\0\0")
                for part in (data[:3], data[3:])
            ),
            frames.frame(frames.DATA, frames.END_STREAM, 1, b""),
        )
        assert one.replies(1) == {1: (b"hello", OK)}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "PROTOCOL_ERROR"),
        (frames.PREFACE + frames.frame(frames.PING, 0, 0, bytes(8)), "PROTOCOL_ERROR"),
        (frames.PREFACE + b"\xff\xff\xff\x04\0\0\0\0\0", "FRAME_SIZE_ERROR"),
        (frames.PREFACE + frames.settings({4: 2**31}), "FLOW_CONTROL_ERROR"),
        (frames.PREFACE + frames.settings({}) + frames.window_update(0, 2**31 - 1), "FLOW_CONTROL_ERROR"),
        (
            frames.PREFACE + frames.settings({}) + frames.frame(frames.HEADERS, 4, 1, b"\xff\xff"),
            "COMPRESSION_ERROR",
        ),
        (frames.PREFACE + frames.settings({}) + frames.frame(frames.DATA, 0, 1, b"x"), "PROTOCOL_ERROR"),
        (
            frames.PREFACE + frames.settings({}) + frames.frame(frames.CONTINUATION, 4, 1, b""),
            "PROTOCOL_ERROR",
        ),
    ],
)
def test_a_connection_that_breaks_a_rule_ends_with_the_reason(port: Port, data: bytes, why: str) -> None:
    """Alone: others go on."""
    with client(port, greet=False) as one, client(port) as other:
        one.send(data)
        assert one.ended() == why
        other.send(other.call(1))
        assert other.replies(1) == {1: (b"hello", OK)}


def test_any_bytes_are_survived(port: Port) -> None:
    """10,000 valid frames with bytes changed, cut or added: the connection ends or goes on, nothing fails."""
    draw = random.Random(3)  # noqa: S311 - the same bytes each time
    for _ in range(100):
        with client(port) as one:
            data = bytearray()
            for number in range(1, 201, 2):
                piece = bytearray(
                    one.call(number, draw.randbytes(draw.randrange(30)), draw.choice(["/echo", "/hold"]))
                )
                if draw.random() < 0.05:
                    place = draw.randrange(len(piece))
                    piece[place : place + draw.randrange(3)] = draw.randbytes(draw.randrange(4))
                data += piece
            one.socket.settimeout(PATIENCE_S)
            try:
                one.send(bytes(data))
                one.socket.shutdown(socket.SHUT_WR)
                while one.frame() is not None:
                    pass
            except (BrokenPipeError, ConnectionResetError):
                pass
    with client(port) as one:
        one.send(one.call(1))
        assert one.replies(1) == {1: (b"hello", OK)}
    port.held.clear()


# ---- calls that are refused


ONE = "Expected exactly one message."


@pytest.mark.parametrize(
    ("path", "more", "data", "refusal"),
    [
        ("/nothing", (), prefixed(b""), ("12", "Unknown method '/nothing'.")),
        ("/nöthing 100%", (), prefixed(b""), ("12", "Unknown method '/n%C3%B6thing 100%25'.")),
        ("/echo", ("grpc-encoding", "snappy"), prefixed(b""), ("12", "'snappy' is not supported")),
        ("/echo", (), b"", ("12", ONE)),
        ("/echo", (), prefixed(b"a") + prefixed(b"b"), ("12", ONE)),
        ("/echo", (), prefixed(b"abc")[:-1], ("12", ONE)),
        ("/echo", (), prefixed(b"abc", 1), ("13", "compressed")),
        ("/echo", ("grpc-encoding", "gzip"), prefixed(b"abc", 1), ("3", "gzip")),
        ("/echo", ("x-long", "x" * 9_000), prefixed(b""), ("8", "OKAMOCHI_MAX_HEAD_BYTES")),
        ("/echo", (), b"\0" + MAX_BYTES.to_bytes(4, "big") + b"x", ("12", ONE)),
        ("/echo", (), b"\0" + (MAX_BYTES + 1).to_bytes(4, "big"), ("8", "OKAMOCHI_MAX_BODY_BYTES")),
    ],
)
def test_a_call_is_refused_in_words_and_others_go_on(
    port: Port, path: str, more: tuple[str, ...], data: bytes, refusal: tuple[str, str]
) -> None:
    """On the same connection."""
    with client(port) as one:
        one.send(
            frames.header_frames(1, one.block(path, *([(more[0], more[1])] if more else []))),
            frames.frame(frames.DATA, frames.END_STREAM, 1, data),
            one.call(3),
        )
        replies = one.replies(2)
    assert replies[1][1]["grpc-status"] == refusal[0]
    assert refusal[1] in replies[1][1]["grpc-message"]
    assert replies[3] == (b"hello", OK)


@pytest.mark.parametrize(
    "fields",
    [
        HEAD[1:],
        [*HEAD, (":path", "/echo")],
        [*HEAD, ("X-Upper", "x")],
        [*HEAD, ("connection", "close")],
        [*HEAD[:-1], ("te", "gzip")],
        [*HEAD, ("grpc-timeout", "1X")],
        [*HEAD, ("grpc-timeout", "123456789S")],
        [*HEAD, ("content-length", "1")],
        [*HEAD, ("content-length", "9" * 5000)],
        [*HEAD, ("content-length", "0" * 5000)],
        [*HEAD, ("x", "a\nb")],
        [("grpc-timeout", "1S"), *HEAD],
    ],
)
def test_fields_that_http2_forbids_reset_their_call_alone(port: Port, fields: Any) -> None:
    with client(port) as one:
        block = encoded([(name.encode(), value.encode()) for name, value in fields])
        one.send(
            frames.header_frames(1, block),
            frames.frame(frames.DATA, frames.END_STREAM, 1, prefixed(b"")),
            one.call(3),
        )
        assert one.replies(2) == {1: (b"", {"reset": "PROTOCOL_ERROR"}), 3: (b"hello", OK)}


def test_what_is_not_grpc_gets_a_page_that_says_so(port: Port) -> None:
    """A browser or curl, for instance."""
    with client(port) as one:
        fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "x")]
        one.send(
            frames.frame(
                frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, one.encoder.encode(fields)
            )
        )
        frame = one.frame()
        while frame is not None and frame[0] != frames.HEADERS:
            frame = one.frame()
        assert frame is not None
        assert dict(one.decoder.decode(frame[3]))[":status"] == "415"
        data = one.frame()
        assert data is not None
        assert b"gRPC" in data[3]


@pytest.mark.parametrize("media", [None, "application/grpc"])
def test_the_reply_to_head_has_no_body(port: Port, media: str | None) -> None:
    with client(port) as one:
        fields = [(":method", "HEAD"), (":scheme", "http"), (":path", "/"), (":authority", "x")]
        block = one.encoder.encode(fields if media is None else [*fields, ("content-type", media)])
        one.send(frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, block), one.call(3))
        replies = one.replies(2)
        (body, found), (message, ok) = replies[1], replies[3]
        assert (body, message, ok) == (b"", b"hello", OK)
        wanted = {":status": "415"} if media is None else {":status": "405", "allow": "POST"}
        assert found.items() >= wanted.items()


# ---- windows


def test_a_reply_is_sent_as_the_client_takes_it(port: Port) -> None:
    """Not a byte more than either window; the fields behind it come last."""
    with client(port, {frames.INITIAL_WINDOW_SIZE: 10}) as one:
        message = b"m" * 100_000
        one.send(frames.header_frames(1, one.block()))
        data = prefixed(message)
        one.send(*(frames.frame(frames.DATA, 0, 1, data[i : i + 16_000]) for i in range(0, 48_000, 16_000)))
        granted = 0
        while granted == 0:  # the rest needs more than the usual room
            frame = one.frame()
            assert frame is not None
            if frame[0] == frames.WINDOW_UPDATE and frame[2] == 1:
                granted = frames.number_of(frame[3])
        assert granted + 65_535 > 48_000
        one.send(
            *(frames.frame(frames.DATA, 0, 1, data[i : i + 16_000]) for i in range(48_000, len(data), 16_000))
        )
        one.send(frames.frame(frames.DATA, frames.END_STREAM, 1))
        found, room = b"", 10
        while len(found) < len(data):
            frame = one.frame()
            assert frame is not None
            if frame[0] != frames.DATA:
                continue
            found += frame[3]
            assert len(found) <= room
            if len(found) == room:
                more = 30_000
                room += more
                one.send(frames.window_update(1, more), frames.window_update(0, more))
        assert found == data
        assert one.replies(1)[1][1] == OK


def test_large_messages_take_turns(port: Port) -> None:
    """Three at once have room for two; the third may send once one is answered."""
    with client(port) as one:
        size = MAX_BYTES - 10
        for number in (1, 3, 5):
            head = frames.header_frames(number, one.block())
            one.send(head, frames.frame(frames.DATA, 0, number, prefixed(b"m" * size)[:10]))
        rooms: dict[int, int] = {}

        def until_room(count: int) -> None:
            while len(rooms) < count:
                frame = one.frame()
                assert frame is not None
                if frame[0] == frames.WINDOW_UPDATE and frame[2]:
                    rooms[frame[2]] = frames.number_of(frame[3])

        until_room(2)
        one.send(frames.frame(frames.PING, 0, 0, bytes(8)))
        while (frame := one.frame()) is not None and frame[0] != frames.PING:
            assert frame[0] != frames.WINDOW_UPDATE
        assert rooms.keys() == {1, 3}
        one.send(frames.reset(3, Code.CANCEL))
        until_room(3)
        assert 5 in rooms


def test_a_client_that_sends_beyond_its_room_is_reset(port: Port) -> None:
    """Two other calls have all the room for large messages."""
    with client(port) as one:
        data = prefixed(b"m" * (MAX_BYTES - 10))
        for number in (1, 3, 5):
            one.send(
                frames.header_frames(number, one.block()), frames.frame(frames.DATA, 0, number, data[:10])
            )
        one.send(*(frames.frame(frames.DATA, 0, 5, data[:16_384]) for _ in range(4)))
        assert one.replies(1) == {5: (b"", {"reset": "FLOW_CONTROL_ERROR"})}


# ---- calls that are cancelled; floods


def held(port: Port, count: int) -> None:
    """Wait until so many calls are held."""
    until = threading.Event()
    for _ in range(int(PATIENCE_S * 100)):
        if len(port.held) >= count:
            return
        until.wait(0.01)
    raise AssertionError(f"{len(port.held)} of {count} calls came")


def test_a_cancelled_call_and_a_lost_connection_free_their_place(port: Port) -> None:
    """Their handlers are told, once each."""
    port.held.clear()
    port.left = 0
    with client(port) as one:
        one.send(one.call(1, path="/hold"), one.call(3, path="/hold"))
        held(port, 2)
        one.send(frames.reset(1, Code.CANCEL), one.call(5))
        assert one.replies(1) == {5: (b"hello", OK)}
        assert port.left == 1
    for _ in range(int(PATIENCE_S * 100)):
        if port.left == 2:
            break
        threading.Event().wait(0.01)
    assert port.left == 2
    port.held.clear()


def test_calls_beyond_the_limit_of_a_connection_are_refused_to_be_sent_again(port: Port) -> None:
    """REFUSED_STREAM: gRPC's clients send them again by themselves."""
    port.held.clear()
    with client(port) as one:
        one.send(*(one.call(number, path="/hold") for number in range(1, 2 * MAX_STREAMS + 1, 2)))
        held(port, MAX_STREAMS)
        one.send(one.call(2 * MAX_STREAMS + 1))
        assert one.replies(1) == {2 * MAX_STREAMS + 1: (b"", {"reset": "REFUSED_STREAM"})}
    port.held.clear()


@pytest.mark.parametrize(
    "flood",
    [
        lambda one, number: frames.frame(frames.PING, frames.ACK, 0, bytes(8)),
        lambda one, number: frames.frame(frames.SETTINGS, frames.ACK, 0),
        lambda one, number: frames.frame(frames.PRIORITY, 0, 99, bytes(5)),
        lambda one, number: frames.frame(frames.DATA, 0, 1),
        lambda one, number: frames.frame(0xAA, 0, 0),
        lambda one, number: one.call(number, path="/hold") + frames.reset(number, Code.CANCEL),
    ],
    ids=["ping", "settings", "priority", "empty data", "unknown", "rapid reset"],
)
def test_a_flood_ends_its_connection(port: Port, flood: Callable[[Client, int], bytes]) -> None:
    """With ENHANCE_YOUR_CALM; what brings a call further is not a flood."""
    with client(port) as one:
        one.send(frames.header_frames(1, one.block()))
        try:
            for start in range(3, 120_003, 2_000):
                one.send(*(flood(one, number) for number in range(start, start + 2_000, 2)))
        except (BrokenPipeError, ConnectionResetError):
            pass
        else:
            assert one.ended() == "ENHANCE_YOUR_CALM"
    assert all(each.is_over for each in port.held)
    port.held.clear()


def test_a_header_block_without_an_end_ends_its_connection(port: Port, impatient_port: Port) -> None:
    """Too many parts, too many bytes, or too long a pause."""
    for parts in (200 * [b""], 10 * [b"\0" * 1_000]):
        with client(port) as one:
            one.send(frames.frame(frames.HEADERS, 0, 1, one.block()))
            more = [frames.frame(frames.CONTINUATION, 0, 1, part) for part in parts]
            one.send(*more, frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1))
            assert one.ended() == "ENHANCE_YOUR_CALM"
    with client(impatient_port) as one:
        one.send(frames.frame(frames.HEADERS, 0, 1, one.block()))
        assert one.ended() == "ENHANCE_YOUR_CALM"


def test_slow_clients_lose_their_call_or_connection(impatient_port: Port) -> None:
    """No preface; half a message; no sign of life, not even to a PING."""
    with client(impatient_port, greet=False) as one:
        assert one.ended() == ""
    with client(impatient_port) as one:
        one.send(frames.header_frames(1, one.block()), frames.frame(frames.DATA, 0, 1, b"\0\0\0\0\5he"))
        assert one.replies(1) == {1: (b"", {"reset": "CANCEL"})}
        assert one.ended() == ""


def test_a_client_that_does_not_read_is_left(impatient_port: Port) -> None:
    """It gets no further calls answered, and its connection ends; memory stays bounded."""
    with client(impatient_port, {frames.INITIAL_WINDOW_SIZE: 2**31 - 1}) as one:
        one.send(frames.window_update(0, 2**31 - 1 - 65_535))
        one.socket.settimeout(PATIENCE_S)
        calls = (one.call(number, b"x" * 10_000) for number in range(1, 400_001, 2))
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            collections.deque(map(one.send, calls), maxlen=0)


# ---- the end


def test_a_server_that_ends_answers_what_was_sent(port: Port) -> None:
    """Two goodbyes: calls sent before the second are answered, later ones are refused to be sent again."""
    port.held.clear()
    with client(port) as one:
        one.send(one.call(1, path="/hold"))
        held(port, 1)
        call = port.held[0]
        port.do(call.connection.leave)
        frame = one.frame()
        while frame is not None and frame[0] != frames.GOAWAY:
            frame = one.frame()
        assert frame is not None
        assert frames.number_of(frame[3]) == 2**31 - 1
        one.send(one.call(3))
        assert one.replies(1) == {3: (b"hello", OK)}
        while (frame := one.frame()) is not None and frame[0] != frames.GOAWAY:
            if frame[0] == frames.PING:
                one.send(frames.frame(frames.PING, frames.ACK, 0, frame[3]))
        assert frame is not None
        assert frames.number_of(frame[3]) == 3
        one.send(one.call(5))
        assert one.replies(1) == {5: (b"", {"reset": "REFUSED_STREAM"})}
        port.do(call.reply, b"late")
        assert one.replies(1) == {1: (b"late", OK)}
        assert one.ended() == ""
    port.held.clear()


def test_a_call_of_several_messages(port: Port) -> None:
    """Each is answered as it comes; more than a window of them in all."""
    with client(port) as one:
        one.send(frames.header_frames(1, one.block("/several")))
        for i in range(100):
            data = prefixed(b"%03d" % i + b"x" * 3_000)
            one.send(frames.frame(frames.DATA, 0, 1, data[:2]), frames.frame(frames.DATA, 0, 1, data[2:]))
            found = b""
            while len(found) < len(data):
                frame = one.frame()
                assert frame is not None
                found += frame[3] if frame[0] == frames.DATA else b""
            assert found == data
            one.send(frames.window_update(1, len(data)), frames.window_update(0, len(data)))
        one.send(frames.frame(frames.DATA, frames.END_STREAM, 1))
        assert one.replies(1)[1][1] == OK


@pytest.mark.parametrize(
    ("coding", "wbits"),
    [("gzip", 31), ("deflate", 15), ("deflate", -15)],
    ids=["gzip", "deflate", "raw deflate"],
)
def test_compressed_messages_of_a_call_of_several_are_read(port: Port, coding: str, wbits: int) -> None:
    """Beside one that is not, each in its turn, also in parts."""
    sent = [b"first", b"plain", b"x" * 60_000]
    packed = [
        prefixed(each if i == 1 else zlib.compress(each, wbits=wbits), int(i != 1))
        for i, each in enumerate(sent)
    ]
    data = b"".join(packed)
    with client(port) as one:
        one.send(frames.header_frames(1, one.block("/several", ("grpc-encoding", coding))))
        one.send(*(frames.frame(frames.DATA, 0, 1, data[i : i + 7]) for i in range(0, len(data), 7)))
        one.send(frames.frame(frames.DATA, frames.END_STREAM, 1))
        found, fields = one.replies(1)[1]
    assert fields == OK
    assert found == b"".join(prefixed(each) for each in sent)[5:]


@pytest.mark.parametrize(
    ("coding", "data", "refusal"),
    [
        ("gzip", prefixed(zlib.compress(b"x" * 70_000, wbits=31), 1), ("8", "at most 65530 bytes")),
        ("gzip", prefixed(b"\0" * 70_000), ("8", "at most 65530 bytes")),
        ("gzip", prefixed(b"abc", 1), ("3", "The gzip body is damaged at byte")),
        ("gzip", prefixed(zlib.compress(b"abc", wbits=31)[:-1], 1), ("3", "cut short")),
        ("gzip", prefixed(b"abc", 2), ("13", "grpc-encoding does not say how")),
        ("identity", prefixed(b"abc", 1), ("13", "grpc-encoding does not say how")),
        ("snappy", prefixed(b"abc", 1), ("12", "expected gzip, deflate or identity")),
    ],
)
def test_a_call_of_several_is_refused_in_words(
    port: Port, coding: str, data: bytes, refusal: tuple[str, str]
) -> None:
    """With the codes of a call of one message; others go on."""
    with client(port) as one:
        one.send(
            frames.header_frames(1, one.block("/several", ("grpc-encoding", coding))),
            *(frames.frame(frames.DATA, 0, 1, data[i : i + 9_000]) for i in range(0, 60_000, 9_000)),
            one.call(3),
        )
        replies = one.replies(2)
    assert replies[1][1]["grpc-status"] == refusal[0]
    assert refusal[1] in replies[1][1]["grpc-message"]
    assert replies[3] == (b"hello", OK)
    for _ in range(int(PATIENCE_S * 100)):  # the method ends too: a refused call leaves no task behind
        if not port.streaming:
            break
        threading.Event().wait(0.01)
    assert not port.streaming


# ---- HPACK


def test_header_blocks_are_read_as_hpack_reads_them() -> None:
    """Its encoder's blocks, with a table that overflows; then 20,000 blocks of any bytes."""
    draw = random.Random(5)  # noqa: S311 - the same blocks each time
    encoder, ours = hpack.Encoder(), Decoder(10**6)
    for i in range(2_000):
        fields = [
            (b"name-%d" % draw.randrange(60), draw.randbytes(draw.randrange(80)).hex().encode())
            for _ in range(8)
        ]
        if i % 50 == 0:
            encoder.header_table_size = draw.choice([0, 100, 1_000, 4_096])
        assert ours.decode(encoder.encode(fields, huffman=bool(i % 2))) == fields
    for _ in range(20_000):
        block = draw.randbytes(draw.randrange(12))
        theirs = hpack.Decoder(max_header_list_size=10**6)
        theirs.max_allowed_table_size = 4_096
        try:
            expected: Any = [(bytes(name), bytes(value)) for name, value in theirs.decode(block, raw=True)]
        except (hpack.HPACKError, IndexError, ValueError):
            expected = None
        try:
            found: Any = Decoder(10**6).decode(block)
        except BlockError:
            found = None
        assert found == expected, block.hex()


def test_fields_that_are_too_large_keep_the_tables_equal() -> None:
    """The next block may use what the one before has put into the table."""
    encoder, ours = hpack.Encoder(), Decoder(1_000)
    with pytest.raises(TooLarge):
        ours.decode(encoder.encode([(b"x", b"y" * 400)] * 3 + [(b"z", b"w" * 900)]))
    assert ours.decode(encoder.encode([(b"x", b"y" * 400)])) == [(b"x", b"y" * 400)]
