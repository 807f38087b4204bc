from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib

import pytest

from serving.errors import Problem
from serving.protocols import Reply
from serving.protocols.codings import (
    MAX_MEMBERS,
    coding_of,
    compressed,
    expanded,
    gzip_wish,
    negotiated,
)

LIMIT = 1_000_000
TEXT = random.Random(7).randbytes(50_000).hex().encode()  # noqa: S311 - no secret
HALF = len(TEXT) // 2


def raw(body: bytes) -> bytes:
    made = zlib.compressobj(9, zlib.DEFLATED, -15)
    return made.compress(body) + made.flush()


GOOD = {
    "gzip": (b"gzip", gzip.compress(TEXT), TEXT),
    "several members": (b"gzip", gzip.compress(TEXT[:HALF]) + gzip.compress(TEXT[HALF:]), TEXT),
    "many small members": (b"gzip", b"".join(gzip.compress(b"%d," % i) for i in range(900)), None),
    "padded": (b"gzip", gzip.compress(TEXT) + bytes(100_000), TEXT),
    "of nothing": (b"gzip", gzip.compress(b""), b""),
    "zlib": (b"deflate", zlib.compress(TEXT), TEXT),
    "raw deflate": (b"deflate", raw(TEXT), TEXT),
    "exactly the limit": (b"gzip", gzip.compress(bytes(LIMIT)), bytes(LIMIT)),
    "no coding": (b"", TEXT, TEXT),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_body_is_expanded(case: str) -> None:
    coding, body, text = GOOD[case]
    if text is None:
        text = b"".join(b"%d," % i for i in range(900))
    assert expanded(body, coding, LIMIT) == text


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip", gzip.compress(bytes(LIMIT + 1))),
        (b"gzip", gzip.compress(bytes(50_000_000))),
        (b"gzip", gzip.compress(bytes(LIMIT)) + gzip.compress(b"x")),
        (b"deflate", zlib.compress(bytes(50_000_000))),
        (b"deflate", raw(bytes(50_000_000))),
        (b"gzip", gzip.compress(b"") * (MAX_MEMBERS + 1)),
    ],
)
def test_a_bomb_is_413_and_is_not_expanded_beyond_the_limit(coding: bytes, body: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(Problem) as refused:
        expanded(body, coding, LIMIT)
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (refused.value.status, refused.value.reason) == (413, "body_too_large")
    assert highest < 3 * LIMIT


@pytest.mark.parametrize("size", [0, 1, 5, 10, 100, 40_000, -9, -8, -1])
def test_what_is_cut_short_is_400_with_the_place(size: int) -> None:
    for coding, whole in ((b"gzip", gzip.compress(TEXT)), (b"deflate", zlib.compress(TEXT))):
        body = whole[: size if size >= 0 else len(whole) + size]
        if coding == b"deflate" and size in (-9, -8):
            continue  # the checksum has four bytes
        with pytest.raises(Problem, match=f"cut short: it ends at byte {len(body)}") as refused:
            expanded(body, coding, LIMIT)
        assert (refused.value.status, refused.value.reason) == (400, "bad_content_encoding")


def test_damage_is_400_with_the_byte() -> None:
    whole = gzip.compress(TEXT)
    for place, at in ((0, "byte [01] "), (2, "byte [23] "), (len(whole) - 6, f"byte {len(whole) - 5} ")):
        body = bytearray(whole)
        body[place] ^= 0x55
        with pytest.raises(Problem, match=f"gzip body is damaged at {at}") as refused:
            expanded(bytes(body), b"gzip", LIMIT)
        assert refused.value.status == 400


def test_any_damage_is_a_problem_or_nothing() -> None:
    """The checksum finds what the format does not: never another text, never another exception."""
    chance = random.Random(11)  # noqa: S311 - no secret
    for coding, whole in ((b"gzip", gzip.compress(TEXT[:3000])), (b"deflate", zlib.compress(TEXT[:3000]))):
        for _ in range(1000):
            body = bytearray(whole)
            body[chance.randrange(len(body))] = chance.randrange(256)
            try:
                assert expanded(bytes(body), coding, LIMIT) == TEXT[:3000]
            except Problem as problem:
                assert problem.status in (400, 413)


@pytest.mark.parametrize("tail", [b"x", b"{}", bytes(9) + b"x", bytes(20_000) + b"x"])
def test_other_bytes_behind_the_data_are_400(tail: bytes) -> None:
    body = gzip.compress(TEXT)
    with pytest.raises(Problem, match=f"followed by other bytes from byte {len(body)} on"):
        expanded(body + tail, b"gzip", LIMIT)
    body = zlib.compress(TEXT)
    with pytest.raises(Problem, match="followed by other bytes"):
        expanded(body + body, b"deflate", LIMIT)


def test_the_coding_of_a_request() -> None:
    for value, coding in (
        (b"gzip", b"gzip"),
        (b" GZip ", b"gzip"),
        (b"x-gzip", b"gzip"),
        (b"deflate", b"deflate"),
        (b"identity", b""),
        (b"", b""),
    ):
        assert coding_of(value) == coding
    assert coding_of(b"identity", b"gzip") == b"gzip"
    for value, before in ((b"br", b""), (b"gzip, gzip", b""), (b"gzip", b"gzip"), (b"zstd" * 99, b"")):
        with pytest.raises(Problem, match="expected one of gzip, deflate, identity") as refused:
            coding_of(value, before)
        assert refused.value.headers == ((b"accept-encoding", b"gzip, deflate, identity"),)
        assert refused.value.status == 415


@pytest.mark.parametrize(
    ("accepted", "wish"),
    [
        ("", "no"),
        ("gzip", "may"),
        ("GZIP;q=1.0", "may"),
        ("x-gzip", "may"),
        ("gzip, deflate, br, zstd", "may"),
        ("deflate, gzip;q=0.5", "may"),
        ("*", "may"),
        ("br;q=1, *;q=0.1", "may"),
        ("gzip;q=0", "no"),
        ("gzip; q = 0.0", "no"),
        ("*;q=0", "no"),
        ("gzip;q=0, *", "no"),
        ("identity", "no"),
        ("identity, gzip;q=0.5", "no"),
        ("identity;q=0.5, gzip;q=0.5", "may"),
        ("identity;q=0", "no"),  # nothing that we have is acceptable, so it gets what there is
        ("identity;q=0, gzip", "must"),
        ("identity;q=0, *", "must"),
        ("gzip, *;q=0", "must"),
        ("gzip, identity;q=0.1, *;q=0", "may"),
        ("gzip;q=much", "no"),
        ("br", "no"),
        (";;,,=", "no"),
    ],
)
def test_what_a_client_accepts(accepted: str, wish: str) -> None:
    assert gzip_wish([(b"accept-encoding", accepted.encode())]) == wish
    split = [(b"accept-encoding", part.encode()) for part in accepted.split(",")]
    assert gzip_wish(split) == wish, "several headers are one list"


def test_a_reply_depends_on_what_is_accepted_from_its_size_on() -> None:
    small, large = Reply(200, b"text/plain", b"a" * 99), Reply(200, b"text/plain", b"a" * 100)
    gzip_only = [(b"accept-encoding", b"gzip, identity;q=0")]
    both = [(b"accept-encoding", b"gzip")]
    vary = ((b"vary", b"Accept-Encoding"),)
    assert negotiated(small, both, 100) == (small, False)
    assert negotiated(large, [], 100) == (Reply(200, b"text/plain", b"a" * 100, vary), False)
    assert negotiated(large, both, 100)[1]
    assert negotiated(small, gzip_only, 100)[1]
    assert not negotiated(Reply(204, b"", b""), gzip_only, 100)[1]
    made = compressed(large)
    assert gzip.decompress(made.body) == large.body
    assert made.headers == ((b"content-encoding", b"gzip"),)
