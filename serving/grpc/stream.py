"""One call: what came of it, and the messages and the status that go back."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from serving.errors import server_failed
from serving.grpc import frames
from serving.grpc.header_block import encoded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable

    from serving.access.certificate import Certificate
    from serving.errors import Problem
    from serving.grpc.header_block import Field
    from serving.grpc.heading import Heading
    from serving.http.bodies import Body

logger = logging.getLogger("bentoml.okamochi")

OK, INVALID_ARGUMENT, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 0, 3, 4, 8, 12, 13
PREFIX_BYTES = 5
"""Of a message: whether it is compressed, and its length."""

_OK_BLOCK = b"\x88" + encoded([(b"content-type", b"application/grpc")])  # :status 200 has the index 8
_OK_FRAME = frames.frame(frames.HEADERS, frames.END_HEADERS, 0, _OK_BLOCK)
_OK_HEADER, _OK_REST = _OK_FRAME[:5], _OK_BLOCK
_STATUS_OK = encoded([(b"grpc-status", b"0")])
_END = frames.END_HEADERS | frames.END_STREAM
_DONE_HEADER = frames.frame(frames.HEADERS, _END, 0, _STATUS_OK)[:5]
_NOT_GRPC = b"This port answers gRPC: POST with content-type application/grpc.\n"
_NOT_PLAIN = re.compile(rb"[^ -$&-~]")


def status_fields(code: int, text: str = "", trailers: Iterable[Field] = ()) -> list[Field]:
    """The fields at the end of a call."""
    found = [(b"grpc-status", b"%d" % code)]
    if text:
        shown = _NOT_PLAIN.sub(lambda each: b"%%%02X" % each[0][0], text.encode("utf-8", "backslashreplace"))
        found.append((b"grpc-message", shown))
    return [*found, *trailers]


class Carrier(Protocol):
    """A connection as its calls see it.

    Attributes
    ----------
    peer
        The address at the other end.
    window
        What may still be sent to the client on all calls.
    streams
        The calls that are not over.
    blocked
        Those whose reply waits for the client to take more.
    paused
        Whether the client does not read what was sent.
    certificate
        Of the client, verified.
    """

    peer: Any
    window: int
    streams: dict[int, Stream]
    blocked: dict[int, Stream]
    paused: bool
    certificate: Certificate | None

    def write(self, data: bytes) -> None:
        """Send frames."""

    def give_room(self, call: Stream, more: int) -> None:
        """Let the client send more of a call."""

    async def expanded(self, call: Stream, message: bytes) -> bytes | None:
        """A compressed message of several without its coding; None if the call is refused for it."""

    def finished(self, call: Stream) -> None:
        """A call is answered."""

    def refuse(self, call: Stream, code: int, problem: Problem) -> None:
        """Refuse a call that nobody has told of yet, with a log line."""


class Stream:
    """See the module.

    Attributes
    ----------
    left
        Called once if the client leaves, or its deadline passes, before the call is answered.
    window
        What may still be sent to the client.
    room
        What the client may still send.
    granted
        What it may send beyond the usual, for a large message.
    held
        The memory that a large message is counted with.
    data
        What has come of the message; a call of several messages has them in `_messages`.
    """

    __slots__ = (
        "_drained",
        "_following",
        "_messages",
        "_pending",
        "_status",
        "_task",
        "_timer",
        "begun",
        "connection",
        "data",
        "granted",
        "half_closed",
        "heading",
        "held",
        "id",
        "left",
        "method",
        "received",
        "room",
        "size",
        "started",
        "timeout",
        "window",
    )

    def __init__(
        self, connection: Carrier, number: int, heading: Heading, timeout: float | None, window: int
    ) -> None:
        self.started = perf_counter()
        self.connection = connection
        self.id = number
        self.heading = heading
        self.timeout = timeout
        self.window = window
        self.room = frames.WINDOW_BYTES
        self.granted = 0
        self.held: Body | None = None
        self.received = 0
        self.data: bytearray | None = None
        self.size = -1  # of the message with its prefix, once that is known
        self.half_closed = False
        self.begun = False  # the head of the reply is sent
        self.left: Callable[[], None] | None = None
        self.method: Any = None
        self._pending = bytearray()  # of the reply, until the client takes more
        self._status: bytes | None = None  # the block at the end, likewise; empty for an end without fields
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._messages: deque[bytes] | None = None  # None: the call has one
        self._following: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None

    # ---- out

    def reply(self, message: bytes, trailers: Iterable[Field] = ()) -> None:
        """Answer a call of one message, in one write where the client takes it at once."""
        size = len(message) + PREFIX_BYTES
        connection = self.connection
        if self.id not in connection.streams:
            return
        if size > self.window or size > connection.window or size > frames.MAX_FRAME_BYTES or self.begun:
            self.send(message)
            self.end(OK, "", trailers)
            return
        connection.window -= size
        number = self.id.to_bytes(4, "big")
        parts = [_OK_HEADER, number, _OK_REST, frames.message_frame(self.id, message)]
        if trailers:
            block = _STATUS_OK + encoded(trailers)
            parts.append(frames.header_frames(self.id, block, frames.END_STREAM))
        else:
            parts += (_DONE_HEADER, number, _STATUS_OK)
        connection.write(b"".join(parts))
        self._over()

    def send(self, message: bytes) -> None:
        """Send one message of several."""
        if self.is_over:
            return
        if not self.begun:
            self.begun = True
            self.connection.write(frames.frame(frames.HEADERS, frames.END_HEADERS, self.id, _OK_BLOCK))
        self._pending += b"\0" + len(message).to_bytes(4, "big")
        self._pending += message
        self.pump()

    def end(self, code: int, text: str = "", trailers: Iterable[Field] = ()) -> None:
        """Send the status, behind the messages."""
        if self.is_over or self._status is not None:
            return
        fields = status_fields(code, text, trailers)
        if self.begun:
            self._status = encoded(fields)
        else:
            self.begun = True
            self._status = _OK_BLOCK + encoded(fields)
        self.pump()

    def refuse_http(self, status: int) -> None:
        """Answer a request that is not a call of gRPC."""
        fields = [(b":status", b"%d" % status), (b"content-type", b"text/plain")]
        if status == 405:
            fields.append((b"allow", b"POST"))
        block = encoded([*fields, (b"content-length", b"%d" % len(_NOT_GRPC))])
        if self.heading.is_head:
            self.connection.write(frames.frame(frames.HEADERS, _END, self.id, block))
            self._over()
            return
        self.connection.write(frames.frame(frames.HEADERS, frames.END_HEADERS, self.id, block))
        self._pending += _NOT_GRPC
        self._status = b""
        self.pump()

    def pump(self) -> None:
        """Send as much as the client takes."""
        connection, pending = self.connection, self._pending
        while pending and not connection.paused:
            room = min(self.window, connection.window, frames.MAX_FRAME_BYTES)
            if room <= 0:
                break
            part = bytes(pending[:room])
            del pending[:room]
            self.window -= len(part)
            connection.window -= len(part)
            connection.write(frames.frame(frames.DATA, 0, self.id, part))
        if pending:
            connection.blocked[self.id] = self
            return
        connection.blocked.pop(self.id, None)
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._status is not None:
            if self._status:
                connection.write(frames.header_frames(self.id, self._status, frames.END_STREAM))
            else:
                connection.write(frames.frame(frames.DATA, frames.END_STREAM, self.id))
            self._over()

    async def drained(self) -> None:
        """Wait until the client has taken what was sent."""
        while self._pending and not self.is_over:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be sent."""
        return self.id not in self.connection.streams

    @property
    def is_late(self) -> bool:
        """Whether the client's deadline has passed."""
        return self.timeout is not None and perf_counter() >= self.started + self.timeout

    def _over(self) -> None:
        """The reply is sent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.left = None
        self.connection.finished(self)
        if self._following is not None and not self._following.done():  # a refused call has no more messages
            self._following.set_result(None)

    # ---- a call that takes its time

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Answer the call in a task, which is cancelled where the client leaves or its deadline passes."""
        loop = asyncio.get_running_loop()
        self._task = task = loop.create_task(self._guarded(work))
        task.add_done_callback(self._forget)
        if self.timeout is not None and self._timer is None:
            left = self.started + self.timeout - perf_counter()
            self._timer = loop.call_later(max(left, 0), self._too_late)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - a bug is INTERNAL and a line in the log
            self.connection.refuse(self, INTERNAL, server_failed(error))

    def _forget(self, done: object) -> None:
        if self._task is done:  # else a task that it has started answers the call
            self._task = None

    def _too_late(self) -> None:
        self._timer = None
        task = self._task
        self.end(DEADLINE_EXCEEDED, "The deadline of the call has passed.")
        if task is not None:
            task.cancel()

    def cancel(self) -> None:
        """The client has left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
        left, self.left = self.left, None
        if left is not None:
            left()

    # ---- a call of several messages

    def take_several(self) -> None:
        """Have the messages wait for `messages`."""
        self._messages = deque()

    @property
    def takes_several(self) -> bool:
        """Whether the call has several messages."""
        return self._messages is not None

    def came(self, message: bytes | None) -> None:
        """A message has come, with its prefix; None: the client sends no more."""
        assert self._messages is not None  # noqa: S101 - of a call of several messages
        if message is not None:
            self._messages.append(message)
        if self._following is not None and not self._following.done():
            self._following.set_result(None)

    async def messages(self) -> AsyncIterator[bytes]:
        """The messages of the client, as they come; more may come once one is taken."""
        assert self._messages is not None  # noqa: S101 - of a call of several messages
        while True:
            while self._messages and not self.is_over:
                message = self._messages.popleft()
                self.connection.give_room(self, len(message))
                data: bytes | None = message[PREFIX_BYTES:]
                if message[0]:
                    data = await self.connection.expanded(self, message[PREFIX_BYTES:])
                if data is None:
                    return
                yield data
            if self.half_closed or self.is_over:
                return
            self._following = asyncio.get_running_loop().create_future()
            await self._following
