"""Media types in the headers of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving.protocols import Head


def media_type(value: bytes) -> bytes:
    """The media type of a header's value: without parameters, in lower case."""
    return value.split(b";", 1)[0].strip().lower()


def prefers(head: Head, media: bytes) -> bool:
    """Whether the client accepts this media type and does not name JSON beside it."""
    accepted = b",".join(value for name, value in head.headers if name == b"accept")
    kinds = set(map(media_type, accepted.split(b",")))
    return media in kinds and b"application/json" not in kinds
