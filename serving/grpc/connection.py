"""gRPC over HTTP/2 (RFC 9113), from the bytes of one connection to calls, and back.

The calls that arrive in one read are all begun before it ends, so they are scored together; uvloop sends
their replies with one system call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from serving.access.certificate import certificate_of
from serving.errors import Problem, server_failed
from serving.grpc import frames, stream
from serving.grpc.frames import Code, ConnectionEnds, StreamEnds
from serving.grpc.header_block import BlockError, Decoder, TooLarge
from serving.grpc.heading import MalformedError, check_field
from serving.grpc.limits import RESET_COSTS, Credit, Room
from serving.grpc.replies import late
from serving.grpc.stream import PREFIX_BYTES, Stream
from serving.http.caller import caller_of
from serving.http.patience import unsent
from serving.protocols.codings import expanded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from serving.access.certificate import Certificate
    from serving.grpc.header_block import Field
    from serving.grpc.heading import Headings
    from serving.http.bodies import Bodies
    from serving.observe.supervised import Pool
    from serving.settings import Settings

MAX_STREAMS = 1_024
"""Calls in progress on one connection; further ones wait in the client."""
MAX_AGE_S = 300.0
"""The age at which a connection is replaced, in order: new workers and pods get their part as well."""
LEAVING_S = 1.0
"""How long a client may take to say that it has read the goodbye, and to close its end after it."""
MAX_FRAGMENTS = 128
"""Frames of one header block."""
MAX_OF_SEVERAL = frames.WINDOW_BYTES - PREFIX_BYTES
"""Bytes of one message of several, also where it is expanded: no call needs more, and they wait in memory."""
MAX_RESET = 256
"""Numbers of calls that the server has reset, whose frames may still come."""
MAX_SKIPPED = 16
LAST = 2**31 - 1

_LEAVING_PING = b"leaving!"
_ALIVE_PING = b"alive? !"


class Method(NamedTuple):
    """A method of a service.

    Parameters
    ----------
    call
        Takes the call and its message.
    several
        Whether the call has several messages; the message is then empty.
    label
        The value of the metric label `endpoint`.
    """

    call: Callable[[Stream, bytes], None]
    several: bool = False
    label: str = "other"


class Shared(NamedTuple):
    """What the connections of a worker share.

    Parameters
    ----------
    tell
        Counts and logs a call that a connection refuses, before its method sees it; gives the id of its line.
    """

    settings: Settings
    methods: Mapping[bytes, Method]
    headings: Headings
    readers: Pool
    connections: set[Connection]
    bodies: Bodies
    tell: Callable[[Stream, Problem], str]
    tls: bool = False


class Connection(asyncio.Protocol):
    """See the module and `stream.Carrier`."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self.peer: Any = None
        self._rest = b""
        self._greeted = self._configured = False
        self._decoder = Decoder(shared.settings.max_head_bytes)
        self._block: tuple[int, int, list[bytes]] | None = None  # a header block that is not whole
        self._last = 0  # the newest call
        self._reset: deque[int] = deque(maxlen=MAX_RESET)
        self._initial_window = frames.WINDOW_BYTES
        self._received = 0  # bytes of messages since the last update of the connection's window
        self._credit = Credit(self._loop.time)
        self._room = Room(2 * shared.settings.max_body_bytes, self.give_room)
        self._heard = self._moved = self._born = self._loop.time()
        self._unsent = 0
        self._timer: asyncio.TimerHandle | None = None
        self._leaving = self._left = self._failed = False
        self._block_since = 0.0
        self._skipped: deque[range] = deque(maxlen=MAX_SKIPPED)
        self.window = frames.WINDOW_BYTES
        self.streams: dict[int, Stream] = {}
        self.blocked: dict[int, Stream] = {}
        self.paused = False
        self.certificate: Certificate | None = None

    # ---- the transport

    def connection_made(self, transport: Any) -> None:
        """Greet."""
        self._transport = transport
        self.peer = transport.get_extra_info("peername")
        self._shared.connections.add(self)
        if self._shared.tls:
            tls = transport.get_extra_info("ssl_object")
            if tls is None or tls.selected_alpn_protocol() != "h2":
                transport.close()
                return
            self.certificate = certificate_of(transport.get_extra_info("peercert"))
        self.write(
            frames.settings(
                {
                    frames.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                    frames.HEADER_LIST_SIZE: self._shared.settings.max_head_bytes,
                }
            )
            + frames.window_update(0, frames.MAX_WINDOW - frames.WINDOW_BYTES)
        )
        self._timer = self._loop.call_later(self._shared.settings.receive_s, self._look)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the name is asyncio's
        """The client has left: its calls end."""
        self._shared.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        streams = list(self.streams.values())
        self.streams.clear()
        self.blocked.clear()
        for each in streams:
            each.cancel()
            if each.held is not None:
                each.held.release()

    def pause_writing(self) -> None:
        """A client that does not read gets no further calls answered."""
        self.paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client has read."""
        self.paused = False
        self._pump()
        if not self.paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send frames."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Take all whole frames."""
        if self._failed:
            return
        self._heard = self._loop.time()
        if self._rest:
            data = self._rest + data
            self._rest = b""
        try:
            self._take(data)
        except ConnectionEnds as problem:
            self._fail(problem.code, str(problem))
        except Exception as error:  # noqa: BLE001 - a bug: asyncio would close without a word to anybody
            self._loop.call_exception_handler({"message": "a connection of gRPC failed", "exception": error})
            self._fail(Code.INTERNAL_ERROR, server_failed(error).detail)

    def _fail(self, code: Code, text: str) -> None:
        self.write(frames.goaway(self._last, code, text))
        self._transport.close()
        self._failed = True

    def _take(self, data: bytes) -> None:  # noqa: C901, PLR0912 - the hot loop: a call less a frame
        place, size = 0, len(data)
        if not self._greeted:
            greeting = data[: len(frames.PREFACE)]
            if not frames.PREFACE.startswith(greeting):
                raise ConnectionEnds(Code.PROTOCOL_ERROR, "expected HTTP/2")
            if len(greeting) < len(frames.PREFACE):
                self._rest = data
                return
            self._greeted = True
            place = len(frames.PREFACE)
        unpack = frames.unpack_header
        while size - place >= frames.HEADER_BYTES:
            high, low, kind, flags, number = unpack(data, place)
            length = high << 16 | low
            start = place + frames.HEADER_BYTES
            if length > frames.MAX_FRAME_BYTES:
                raise ConnectionEnds(Code.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            if start + length > size:
                break
            place = start + length
            if not self._configured:
                if kind != frames.SETTINGS or flags & frames.ACK:
                    raise ConnectionEnds(Code.PROTOCOL_ERROR, "expected SETTINGS")
                self._configured = True
            try:
                if self._block is None:
                    if kind == frames.HEADERS:
                        self._headers(number & frames.MAX_WINDOW, flags, data[start:place])
                        continue
                    if kind == frames.DATA:
                        self._data(number & frames.MAX_WINDOW, flags, data[start:place], length)
                        continue
                self._other(kind, flags, number & frames.MAX_WINDOW, data[start:place])
            except StreamEnds as problem:
                self._end_stream(problem.stream, problem.code)
            if self._transport.is_closing():
                return
        self._rest = data[place:]

    # ---- frames

    def _headers(self, number: int, flags: int, payload: bytes) -> None:
        if number == 0:
            raise ConnectionEnds(Code.PROTOCOL_ERROR, "HEADERS without a stream")
        if flags & frames.PADDED:
            payload = frames.unpadded(payload)
        if flags & frames.WITH_PRIORITY:
            if len(payload) < 5:
                raise ConnectionEnds(Code.FRAME_SIZE_ERROR, "HEADERS without its priority")
            depends = frames.number_of(payload) & frames.MAX_WINDOW
            payload = payload[5:]
            if depends == number:
                flags |= _DEPENDS_ON_ITSELF
        if flags & frames.END_HEADERS:
            self._whole_headers(number, flags, payload)
        else:
            self._block, self._block_since = (number, flags, [payload]), self._heard

    def _continuation(self, number: int, flags: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != number:
            raise ConnectionEnds(Code.PROTOCOL_ERROR, "CONTINUATION without its HEADERS")
        _, first, parts = self._block
        parts.append(payload)
        if len(parts) > MAX_FRAGMENTS or sum(map(len, parts)) > self._shared.settings.max_head_bytes:
            raise ConnectionEnds(Code.ENHANCE_YOUR_CALM, "a header block that is too large")
        if flags & frames.END_HEADERS:
            self._block = None
            self._whole_headers(number, first, b"".join(parts))

    def _whole_headers(self, number: int, flags: int, block: bytes) -> None:
        try:
            fields = self._decoder.decode(block)
        except BlockError as error:
            raise ConnectionEnds(Code.COMPRESSION_ERROR, str(error)) from None
        except TooLarge:
            fields = None
        if flags & _DEPENDS_ON_ITSELF:
            raise StreamEnds(number, Code.PROTOCOL_ERROR)
        if number <= self._last or number % 2 == 0:
            self._trailers(number, flags, fields)
            return
        if number > self._last + 2:
            self._skipped.append(range(self._last + 2, number, 2))
        self._last = number
        if self._left or len(self.streams) >= MAX_STREAMS:
            raise StreamEnds(number, Code.REFUSED_STREAM)
        if fields is None:
            self._add(number, flags, _NO_HEADING, None)
            self.refuse(self.streams[number], stream.RESOURCE_EXHAUSTED, self._head_too_large())
            return
        try:
            heading, timeout = self._shared.headings.read(fields)
        except MalformedError:
            raise StreamEnds(number, Code.PROTOCOL_ERROR) from None
        self._add(number, flags, heading, timeout)

    def _head_too_large(self) -> Problem:
        most = self._shared.settings.max_head_bytes
        return Problem(431, f"The metadata has more than {most} bytes (OKAMOCHI_MAX_HEAD_BYTES).")

    def refuse(self, call: Stream, code: int, problem: Problem, trailers: Iterable[Field] = ()) -> None:
        """Refuse a call that its method has not seen: with a log line, whose id is in the trailers."""
        name = self._shared.tell(call, problem)
        call.end(code, problem.detail, [(b"x-request-id", name.encode("latin-1")), *trailers])

    def _refuse_http(self, call: Stream) -> None:
        """Refuse a request that is not a call of gRPC."""
        self._shared.tell(call, Problem(call.heading.refused, "Not a call of gRPC."))
        call.refuse_http(call.heading.refused)

    def _add(self, number: int, flags: int, heading: Any, timeout: float | None) -> None:
        call = self.streams[number] = Stream(self, number, heading, timeout, self._initial_window)
        if heading is _NO_HEADING:
            return
        self._moved = self._heard
        if flags & frames.END_STREAM:
            call.half_closed = True
            if heading.length:
                raise StreamEnds(number, Code.PROTOCOL_ERROR)
        if heading.refused:
            if call.half_closed:
                self._refuse_http(call)
            return
        method = call.method = self._shared.methods.get(heading.path)
        if method is None:
            shown = heading.path[:200].decode("utf-8", "replace")
            self.refuse(call, stream.UNIMPLEMENTED, Problem(404, f"Unknown method {shown!r}."))
        elif heading.coding not in _CODINGS:
            shown = heading.coding[:40].decode("utf-8", "replace")
            problem = Problem(
                415,
                f"grpc-encoding {shown!r} is not supported; expected gzip, deflate or identity.",
                reason="bad_content_encoding",
            )
            accepted = ((b"grpc-accept-encoding", b"identity,deflate,gzip"),)
            self.refuse(call, stream.UNIMPLEMENTED, problem, accepted)
        elif method.several:
            call.take_several()
            method.call(call, b"")
        elif call.half_closed:
            self._refuse_count(call)

    def _trailers(self, number: int, flags: int, fields: list[tuple[bytes, bytes]] | None) -> None:
        """Fields behind the messages of a call: gRPC gives them no meaning, HTTP/2 has rules for them."""
        call = self.streams.get(number)
        if call is None:
            if number in self._reset:
                return
            if number % 2 == 0 or any(number in each for each in self._skipped):
                raise ConnectionEnds(Code.PROTOCOL_ERROR, f"stream {number} cannot be opened")
            raise ConnectionEnds(Code.STREAM_CLOSED, f"HEADERS on the closed stream {number}")
        if call.half_closed:
            raise StreamEnds(number, Code.STREAM_CLOSED)
        if not flags & frames.END_STREAM:
            raise StreamEnds(number, Code.PROTOCOL_ERROR)
        for name, value in fields or ():
            try:
                check_field(name, value)
            except MalformedError:
                raise StreamEnds(number, Code.PROTOCOL_ERROR) from None
        self._half_closed(call)

    def _data(  # noqa: C901 - one rule a branch
        self, number: int, flags: int, payload: bytes, length: int
    ) -> None:
        self._received += length
        if self._received >= _UPDATE_AT:
            self.write(frames.window_update(0, self._received))
            self._received = 0
        call = self.streams.get(number)
        if call is None or call.half_closed:
            self._closed_data(number)
            return
        if flags & frames.PADDED:
            payload = frames.unpadded(payload)
        call.room -= length
        if call.room < 0:
            raise StreamEnds(number, Code.FLOW_CONTROL_ERROR)
        if not payload and not flags & frames.END_STREAM:
            self._credit.spend(1)
        self._moved = self._heard
        heading = call.heading
        call.received += len(payload)
        if heading.length is not None and (
            call.received > heading.length or (flags & frames.END_STREAM and call.received != heading.length)
        ):
            raise StreamEnds(number, Code.PROTOCOL_ERROR)
        if heading.refused:
            if flags & frames.END_STREAM:
                call.half_closed = True
            if call.half_closed or call.room < frames.MAX_FRAME_BYTES:
                self._refuse_http(call)
            return
        if (  # the usual call: one message in one frame
            flags & frames.END_STREAM
            and call.data is None
            and len(payload) >= PREFIX_BYTES
            and not payload[0]
            and int.from_bytes(payload[1:5], "big") == len(payload) - PREFIX_BYTES
            and not call.takes_several
        ):
            call.half_closed = True
            call.method.call(call, payload[PREFIX_BYTES:])
            return
        self._gather(call, payload)
        if flags & frames.END_STREAM and not call.is_over:
            self._half_closed(call)

    def _closed_data(self, number: int) -> None:
        if number > self._last or number % 2 == 0:
            raise ConnectionEnds(Code.PROTOCOL_ERROR, f"DATA on the idle stream {number}")
        self._credit.spend(1)
        if number not in self._reset:
            raise StreamEnds(number, Code.STREAM_CLOSED)

    def _gather(self, call: Stream, payload: bytes) -> None:
        """Keep a part of a message; hand over the whole messages of a call of several."""
        data = call.data
        if data is None:
            data = call.data = bytearray()
        data += payload
        most = self._shared.settings.max_body_bytes
        while len(data) >= PREFIX_BYTES:
            size = PREFIX_BYTES + int.from_bytes(data[1:5], "big")
            if size - PREFIX_BYTES > most:
                self._refuse_size(call, size - PREFIX_BYTES)
                return
            if not call.takes_several:
                call.size, missing = size, size - len(data)
                if missing < 0:
                    self._refuse_count(call)
                elif missing > call.room and not call.granted:
                    self._take_large(call, size, missing - call.room)
                return
            if size > frames.WINDOW_BYTES:
                self._refuse_size_of_several(call)
                return
            if len(data) < size:
                return
            if not _is_readable(call, data[0]):
                self._refuse_coding(call)
                return
            message = bytes(data[:size])
            del data[:size]
            call.came(message)

    def _take_large(self, call: Stream, size: int, more: int) -> None:
        call.held = self._shared.bodies.of(lambda: caller_of({"client": self.peer}, None))
        try:
            call.held.hold(size)
        except Problem as problem:
            self.refuse(call, stream.RESOURCE_EXHAUSTED, problem)
        else:
            self._room.ask(call, more)

    def _refuse_size(self, call: Stream, size: int) -> None:
        most = self._shared.settings.max_body_bytes
        text = f"The message has {size} bytes; at most {most} are accepted (OKAMOCHI_MAX_BODY_BYTES)."
        self.refuse(call, stream.RESOURCE_EXHAUSTED, Problem(413, text))

    def _refuse_size_of_several(self, call: Stream) -> None:
        text = f"Expected messages of at most {MAX_OF_SEVERAL} bytes."
        self.refuse(call, stream.RESOURCE_EXHAUSTED, Problem(413, text))

    def _refuse_count(self, call: Stream) -> None:
        self.refuse(call, stream.UNIMPLEMENTED, Problem(400, "Expected exactly one message."))

    def _half_closed(self, call: Stream) -> None:
        """The client has sent all of a call."""
        call.half_closed = True
        if call.heading.refused:
            self._refuse_http(call)
        elif call.takes_several:
            call.came(None)
        elif call.data is None or call.size != len(call.data):
            self._refuse_count(call)
        else:
            data, call.data = call.data, None
            message = bytes(memoryview(data)[PREFIX_BYTES:])
            if not _is_readable(call, data[0]):
                self._refuse_coding(call)
            elif data[0]:
                call.start(self._expand(call, message))
            else:
                call.method.call(call, message)

    def _refuse_coding(self, call: Stream) -> None:
        detail = "The message is compressed, and grpc-encoding does not say how."
        self.refuse(call, stream.INTERNAL, Problem(400, detail, reason="bad_content_encoding"))

    async def _expand(self, call: Stream, message: bytes) -> None:
        found = await self.expanded(call, message, self._shared.settings.max_body_bytes)
        if found is not None:
            call.method.call(call, found)

    async def expanded(self, call: Stream, message: bytes, most: int = MAX_OF_SEVERAL) -> bytes | None:
        """See `stream.Carrier`."""
        try:
            return await self._loop.run_in_executor(
                self._shared.readers, expanded, message, call.heading.coding, most
            )
        except asyncio.CancelledError:
            if call.is_late:
                self._shared.tell(call, late())
            raise
        except Problem as problem:
            if problem.status != 413:
                self.refuse(call, stream.INVALID_ARGUMENT, problem)
            elif call.takes_several:
                self._refuse_size_of_several(call)
            else:
                self._refuse_size(call, most + 1)
        return None

    # ---- room for messages

    def give_room(self, call: Stream, more: int) -> None:
        """Let the client send more of a call."""
        if not call.half_closed and not call.is_over:
            call.room += more
            self.write(frames.window_update(call.id, more))

    def _forget(self, call: Stream) -> None:
        """A call has ended."""
        self.streams.pop(call.id, None)
        self.blocked.pop(call.id, None)
        self._room.ended(call)
        if call.held is not None:
            call.held.release()

    def finished(self, call: Stream) -> None:
        """A call is answered."""
        self._forget(call)
        if not call.half_closed:  # the client need not send the rest
            self._reset.append(call.id)
            self.write(frames.reset(call.id, Code.NO_ERROR))
        self._credit.earn()
        if self._left and not self.streams:
            self._close_soon()

    def _pump(self) -> None:
        for call in list(self.blocked.values()):
            if self.window <= 0 or self.paused:
                return
            call.pump()

    # ---- other frames

    def _other(self, kind: int, flags: int, number: int, payload: bytes) -> None:  # noqa: C901, PLR0912 - one kind a branch
        if kind == frames.CONTINUATION:
            self._continuation(number, flags, payload)
        elif self._block is not None:
            raise ConnectionEnds(Code.PROTOCOL_ERROR, "expected CONTINUATION")
        elif kind == frames.WINDOW_UPDATE:
            self._window_update(number, payload)
        elif kind == frames.PING:
            self._ping(number, flags, payload)
        elif kind == frames.RST_STREAM:
            self._rst_stream(number, payload)
        elif kind == frames.SETTINGS:
            self._settings(number, flags, payload)
        elif kind == frames.PRIORITY:
            self._credit.spend(1)
            if number == 0:
                raise ConnectionEnds(Code.PROTOCOL_ERROR, "PRIORITY without a stream")
            if len(payload) != 5:
                raise StreamEnds(number, Code.FRAME_SIZE_ERROR)
            if frames.number_of(payload) & frames.MAX_WINDOW == number:
                raise StreamEnds(number, Code.PROTOCOL_ERROR)
        elif kind == frames.GOAWAY:
            if number:
                raise ConnectionEnds(Code.PROTOCOL_ERROR, "GOAWAY on a stream")
            if len(payload) < 8:
                raise ConnectionEnds(Code.FRAME_SIZE_ERROR, "GOAWAY is too short")
            self._credit.spend(1)
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionEnds(Code.PROTOCOL_ERROR, "a client cannot push")
        else:
            self._credit.spend(1)  # of an extension, which is ignored

    def _window_update(self, number: int, payload: bytes) -> None:  # noqa: C901 - one rule a branch
        if len(payload) != 4:
            raise ConnectionEnds(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE is not of 4 bytes")
        more = frames.number_of(payload) & frames.MAX_WINDOW
        if number == 0:
            if more == 0:
                raise ConnectionEnds(Code.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
            self.window += more
            if self.window > frames.MAX_WINDOW:
                raise ConnectionEnds(Code.FLOW_CONTROL_ERROR, "the window is too large")
            if self.blocked:
                self._pump()
            else:
                self._credit.spend(0.1)
            return
        if number > self._last or number % 2 == 0:
            raise ConnectionEnds(Code.PROTOCOL_ERROR, f"WINDOW_UPDATE on the idle stream {number}")
        call = self.streams.get(number)
        if more == 0:
            raise StreamEnds(number, Code.PROTOCOL_ERROR)
        if call is None:
            self._credit.spend(0.1)
            return
        call.window += more
        if call.window > frames.MAX_WINDOW:
            raise StreamEnds(number, Code.FLOW_CONTROL_ERROR)
        if number in self.blocked:
            call.pump()
        else:
            self._credit.spend(0.1)

    def _ping(self, number: int, flags: int, payload: bytes) -> None:
        if number:
            raise ConnectionEnds(Code.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionEnds(Code.FRAME_SIZE_ERROR, "PING is not of 8 bytes")
        self._credit.spend(1)
        if not flags & frames.ACK:
            self.write(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif payload == _LEAVING_PING and self._leaving:
            self._leave_now()

    def _rst_stream(self, number: int, payload: bytes) -> None:
        if number == 0 or number > self._last or number % 2 == 0:
            raise ConnectionEnds(Code.PROTOCOL_ERROR, f"RST_STREAM on the idle stream {number}")
        if len(payload) != 4:
            raise ConnectionEnds(Code.FRAME_SIZE_ERROR, "RST_STREAM is not of 4 bytes")
        call = self.streams.get(number)
        self._credit.spend(RESET_COSTS if call is not None else 1)
        if call is not None:
            self._drop(call)

    def _settings(self, number: int, flags: int, payload: bytes) -> None:  # noqa: C901 - one rule a branch
        if number:
            raise ConnectionEnds(Code.PROTOCOL_ERROR, "SETTINGS on a stream")
        if len(payload) % 6 or (flags & frames.ACK and payload):
            raise ConnectionEnds(Code.FRAME_SIZE_ERROR, "SETTINGS is not of 6 bytes for each")
        self._credit.spend(1)
        if flags & frames.ACK:
            return
        for key, value in frames.settings_of(payload):
            if key == frames.INITIAL_WINDOW_SIZE:
                if value > frames.MAX_WINDOW:
                    raise ConnectionEnds(Code.FLOW_CONTROL_ERROR, "an initial window that is too large")
                more, self._initial_window = value - self._initial_window, value
                for call in self.streams.values():
                    call.window += more
                    if call.window > frames.MAX_WINDOW:
                        raise ConnectionEnds(Code.FLOW_CONTROL_ERROR, "a window that is too large")
            elif key == frames.ENABLE_PUSH and value > 1:
                raise ConnectionEnds(Code.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
            elif key == frames.FRAME_SIZE and not frames.MAX_FRAME_BYTES <= value < 2**24:
                raise ConnectionEnds(Code.PROTOCOL_ERROR, f"MAX_FRAME_SIZE is {value}")
        self.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self._pump()

    # ---- ends

    def _end_stream(self, number: int, code: Code) -> None:
        call = self.streams.get(number)
        if call is not None:
            self._drop(call)
        self._credit.spend(1)
        self._reset.append(number)
        self.write(frames.reset(number, code))

    def _drop(self, call: Stream) -> None:
        self._forget(call)
        call.cancel()
        if self._left and not self.streams:
            self._close_soon()

    def leave(self) -> None:
        """Tell the client to make other connections; answer the calls that it has sent until it knows."""
        if self._leaving or self._left:
            return
        self._leaving = True
        ping = frames.frame(frames.PING, 0, 0, _LEAVING_PING)
        self.write(frames.goaway(LAST, Code.NO_ERROR) + ping)
        self._loop.call_later(LEAVING_S, self._leave_now)

    def _leave_now(self) -> None:
        if self._left:
            return
        self._left = True
        self.write(frames.goaway(self._last, Code.NO_ERROR))
        if not self.streams:
            self._close_soon()

    def _close_soon(self) -> None:
        """The client closes once it has read all; if we did so first, the kernel might drop replies."""
        self._loop.call_later(LEAVING_S, self._transport.close)

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _look(self) -> None:
        """Look every now and then whether the client still reads, sends what it has begun, and is there."""
        wait = self._shared.settings.receive_s
        self._timer = self._loop.call_later(wait, self._look)
        before, self._unsent = self._unsent, unsent(self._transport)
        now = self._loop.time()
        silent = now - self._heard
        if (self._unsent and self._unsent == before) or silent >= 1.9 * wait or not self._configured:
            self._transport.abort()
        elif self._block is not None and now - self._block_since >= wait:
            self._fail(Code.ENHANCE_YOUR_CALM, "a header block that does not end")
        elif silent >= wait * 0.9:
            self.write(frames.frame(frames.PING, 0, 0, _ALIVE_PING))
        elif now - self._born >= MAX_AGE_S:
            self.leave()
        if now - self._moved >= wait:
            for call in [each for each in self.streams.values() if not each.half_closed]:
                if not call.takes_several:
                    self._end_stream(call.id, Code.CANCEL)


def _is_readable(call: Stream, flag: int) -> bool:
    """Whether a message with this first byte of its prefix can be read."""
    return flag == 0 or (flag == 1 and call.heading.coding in (b"gzip", b"deflate"))


_DEPENDS_ON_ITSELF = 0x100
_UPDATE_AT = 2**29
_CODINGS = (b"", b"identity", b"gzip", b"deflate")
_NO_HEADING: Any = None
