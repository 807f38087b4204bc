"""Frames of HTTP/2 (RFC 9113): their numbers, and those that the server sends."""

from __future__ import annotations

import struct
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES = 9
MAX_FRAME_BYTES = 16_384
"""The largest frame that either side sends: the default, which every client accepts."""
WINDOW_BYTES = 65_535
"""What may be sent on a stream or a connection at its start: the default."""
MAX_WINDOW = 2**31 - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)

END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, FRAME_SIZE, HEADER_LIST_SIZE = (
    range(1, 7)
)

unpack_header = struct.Struct(">BHBBL").unpack_from
"""The length in two parts, the kind, the flags and the stream of a frame."""
_header = struct.Struct(">BHBBL").pack
_message = struct.Struct(">BHBBLBL").pack
_setting = struct.Struct(">HL")
_u32 = struct.Struct(">L")


class Code(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12


class ConnectionEnds(Exception):  # noqa: N818 - it ends for what the client did
    """The client broke a rule after which the connection cannot go on."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


class StreamEnds(Exception):  # noqa: N818 - likewise
    """The client broke a rule of one stream."""

    def __init__(self, stream: int, code: Code) -> None:
        super().__init__(code.name)
        self.stream = stream
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Any frame; at most `MAX_FRAME_BYTES` of payload."""
    size = len(payload)
    return _header(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def message_frame(stream: int, message: bytes) -> bytes:
    """A whole message of gRPC in one frame."""
    size = len(message) + 5
    return _message(size >> 16, size & 0xFFFF, DATA, 0, stream, 0, size - 5) + message


def header_frames(stream: int, block: bytes, flags: int = 0) -> bytes:
    """A header block, in as many frames as it needs."""
    parts = [block[i : i + MAX_FRAME_BYTES] for i in range(0, len(block), MAX_FRAME_BYTES)]
    last = len(parts) - 1
    return b"".join(
        frame(
            CONTINUATION if i else HEADERS,
            (0 if i else flags) | (END_HEADERS if i == last else 0),
            stream,
            part,
        )
        for i, part in enumerate(parts)
    )


def settings(values: dict[int, int]) -> bytes:
    """Our settings."""
    return frame(SETTINGS, 0, 0, b"".join(_setting.pack(key, value) for key, value in values.items()))


def settings_of(payload: bytes) -> list[tuple[int, int]]:
    """The settings of a client, in their order."""
    return list(_setting.iter_unpack(payload))


def reset(stream: int, code: Code) -> bytes:
    """The end of one stream."""
    return frame(RST_STREAM, 0, stream, _u32.pack(code))


def window_update(stream: int, more: int) -> bytes:
    """Let the client send more bytes, on a stream or (0) on the connection."""
    return frame(WINDOW_UPDATE, 0, stream, _u32.pack(more))


def goaway(last: int, code: Code, text: str = "") -> bytes:
    """The end of the connection: streams after `last` are not answered."""
    return frame(GOAWAY, 0, 0, _u32.pack(last) + _u32.pack(code) + text.encode()[:200])


def number_of(payload: bytes) -> int:
    """The number of a RST_STREAM or WINDOW_UPDATE frame."""
    found: int = _u32.unpack_from(payload)[0]
    return found


def unpadded(payload: bytes) -> bytes:
    """The payload of a padded frame without its padding.

    Raises
    ------
    ConnectionEnds
        The padding is longer than the frame.
    """
    if not payload or payload[0] >= len(payload):
        raise ConnectionEnds(Code.PROTOCOL_ERROR, "the padding is longer than its frame")
    return payload[1 : len(payload) - payload[0]]
