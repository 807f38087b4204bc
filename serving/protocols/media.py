"""Media types in the headers of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from serving.protocols import Head

JSON = b"application/json"


def media_type(value: bytes) -> bytes:
    """The media type of a header's value: without parameters, in lower case."""
    return value.split(b";", 1)[0].strip().lower()


def check_charset(value: bytes) -> None:
    """Refuse a Content-Type with a charset other than UTF-8.

    Raises
    ------
    Problem
        415.
    """
    for parameter in value.decode("latin-1").lower().split(";")[1:]:
        key, _, charset = parameter.partition("=")
        if key.strip() == "charset" and charset.strip(" \"'") not in ("utf-8", "utf8", "us-ascii"):
            raise Problem(415, f"Charset {charset[:40]!r} is not supported; expected utf-8.")


def weight_of(parameters: Iterable[bytes]) -> float:
    """The weight `q` among the parameters of a part of `Accept` or `Accept-Encoding`; 1 without one."""
    for parameter in parameters:
        key, _, value = parameter.partition(b"=")
        if key.strip().lower() == b"q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def is_packed(content_type: bytes) -> bool:
    """Whether a small body may take long to read: Parquet of many cells, a form of many parts."""
    return media_type(content_type) in (b"application/vnd.apache.parquet", b"multipart/form-data")


def prefers(head: Head, media: bytes) -> bool:
    """Whether the client names this media type, or its range, and gives it more weight than JSON.

    Of equal weights the type that is named in full counts; of two that are, JSON.
    """
    accepted = b",".join(value for name, value in head.headers if name == b"accept")
    weights = {media_type(part): weight_of(part.split(b";")[1:]) for part in accepted.split(b",")}
    wanted = _weight(weights, media)
    if wanted is None or not weights.keys() & {media, _range(media)}:
        return False
    other = _weight(weights, JSON)
    return wanted > (other or 0.0) or (wanted == other != 0 and JSON not in weights)


def _weight(weights: Mapping[bytes, float], media: bytes) -> float | None:
    """The weight that `Accept` gives a media type: of the most specific entry; None if no entry names it."""
    return next((weights[each] for each in (media, _range(media), b"*/*") if each in weights), None)


def _range(media: bytes) -> bytes:
    return media.partition(b"/")[0] + b"/*"
