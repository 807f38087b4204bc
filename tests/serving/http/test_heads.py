"""A head that has the form of others is what llhttp says that it is, or it goes llhttp's way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import uvicorn.config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from serving.http import express
from serving.http.forms import form_of
from serving.http.heads import Client
from serving.http.lane import lane
from serving.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving.http.gateway import Gateway
    from serving.http.heads import Kind


@pytest.fixture(scope="module", autouse=True)
def express_lane(gateway: Gateway) -> Iterator[None]:
    """The express lane of this process, as a worker has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn.config, "HTTP_PROTOCOLS", dict(uvicorn.config.HTTP_PROTOCOLS))
        express.install(gateway.live, gateway.observe_express, Settings())
        yield


def head(*lines: bytes, path: bytes = b"/predict", length: bytes = b"36") -> bytes:
    first = (b"POST %s HTTP/1.1" % path, b"Host: h", b"Content-Type: application/json")
    return b"\r\n".join((*first, *lines, b"Content-Length: " + length)) + b"\r\n\r\n"


def kind_of(one: bytes, other: bytes) -> Kind | None:
    lane.heads.kinds = ()
    plain = lane.heads.read(other)
    assert plain is not None
    assert lane.heads.read(one) is not None
    return lane.heads.kind_of(one, other, plain)


def test_values_that_differ_are_found() -> None:
    kind = kind_of(
        head(b"X-Request-Id: a", b"x-b3-spanid: 1", b"Accept: */*", b"X-Deadline-Ms: 50"),
        head(b"X-Request-Id: bc", b"x-b3-spanid: 22", b"Accept: */*", b"X-Deadline-Ms: 60", length=b"1234"),
    )
    assert kind is not None
    assert kind.form.names == (b"x-request-id", b"x-b3-spanid", b"x-deadline-ms", b"content-length")
    third = head(b"X-Request-Id: d e", b"x-b3-spanid: 3", b"Accept: */*", b"X-Deadline-Ms: 7", length=b"9")
    plain = lane.heads.of_kind(kind, third)
    assert plain is not None
    assert (plain.head.request_id, plain.head.deadline_ms, plain.length) == (b"d e", 7, 9)


@pytest.mark.parametrize(
    ("kind", "is_plain"),
    [
        (b"text/csv", True),
        (b"application/vnd.apache.parquet", False),
        (b"Multipart/Form-Data; boundary=x", False),
    ],
)
def test_a_body_that_may_take_long_to_read_goes_to_the_gateway_however_small(
    kind: bytes, is_plain: bool
) -> None:
    """A form of 1,000 fields takes 10 ms on the event loop: 16 clients of such forms held up all others."""
    sent = head().replace(b"application/json", kind)
    assert (lane.heads.read(sent) is not None) is is_plain


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (head(b"Connection: keep-alive"), head(b"Connection: Keep-Alive")),
        (head(b"X-A: 1"), head(b"X-B: 1")),
        (head(b"X-A: 1"), head(b"X-A: 1", b"X-B: 1")),
        (head(path=b"/predict"), head(path=b"/models/iris/predict")),
        (head(b"X-Request-Id: 1", b"X-Request-Id: 2"), head(b"X-Request-Id: 3", b"X-Request-Id: 4")),
        (head(b"X-Request-Id: 1", b"X-Request-Id: 2"), head(b"X-Request-Id: 1", b"X-Request-Id: 4")),
        (head(b"traceparent: 1", b"traceparent: 2"), head(b"traceparent: 1", b"traceparent: 4")),
        (head(b"X-A: 1 "), head(b"X-A: 2 ")),
        (head(b"X-A: \xe9"), head(b"X-A: \xe8")),
        (head(b"X-A:1"), head(b"X-A:2")),
    ],
)
def test_heads_that_differ_in_more_than_values_have_no_form(one: bytes, other: bytes) -> None:
    assert kind_of(one, other) is None


@pytest.mark.parametrize(
    "line",
    [
        b"X-Request-Id: a\r\n b",
        b"X-Request-Id: a\r\nTransfer-Encoding: chunked",
        b"X-Request-Id: a\nContent-Length: 3",
        b"X-Request-Id: a\rb",
        b"X-Request-Id: a\0",
        b"X-Request-Id: " + b"a" * 129,
        b"X-Request-Id: \x7f",
        b"X-Request-Id: ",
        b"X-Request-Id: a ",
        b"X-Request-Id:  a",
    ],
)
def test_a_value_that_is_none_goes_llhttps_way(line: bytes) -> None:
    kind = kind_of(head(b"X-Request-Id: 1"), head(b"X-Request-Id: 2"))
    assert kind is not None
    assert lane.heads.of_kind(kind, head(line)) is None


@pytest.mark.parametrize("length", [b"-1", b"+5", b"5 ", b"0x5", b"5,5", b"1" * 10, b"", b"65536", b"\xb2"])
def test_a_length_that_is_none_goes_llhttps_way(length: bytes) -> None:
    kind = kind_of(head(length=b"10"), head(length=b"36"))
    assert kind is not None
    assert lane.heads.of_kind(kind, head(length=length)) is None


def test_a_form_learns_of_values_that_change_seldom() -> None:
    form = form_of(head(b"X-A: 1", b"X-B: 1"), head(b"X-A: 2", b"X-B: 1"))
    again = form_of(head(b"X-A: 2", b"X-B: 1"), head(b"X-A: 2", b"X-B: 2"), form)
    assert again is not None
    assert again.values(head(b"X-A: 3", b"X-B: 3")) == [b"3", b"3"]


def test_a_head_is_remembered_unless_it_is_of_one_request_alone() -> None:
    """The heads of a client differ in the length of the body: each is read once."""
    client = Client()
    for lengths, line, kept in (
        (b"10 11 12", b"X-A: 1", True),
        (b"20 21 22", b"X-Request-Id: %s", False),
    ):
        heads = [head(line.replace(b"%s", n), length=n) for n in lengths.split()]
        found = [lane.heads.unseen(one, client) for one in heads]
        assert [plain is not None and plain.length for plain in found] == [int(n) for n in lengths.split()]
        assert client.key
        assert [one in lane.heads.seen for one in heads] == [kept] * 3


@pytest.mark.parametrize("name", [b"Authorization", b"X-API-Key", b"authorization", b"x-api-key"])
def test_who_asks_is_part_of_what_is_remembered(name: bytes) -> None:
    """Of a head that is known whole, of one that has a known form, and of one whose form is new."""
    client = Client()
    for _ in range(2):
        for key in (b"one", b"two", b"three", b"", b"one two", b"one"):
            for more in ((), (b"X-A: " + key,), (b"X-Request-Id: " + key[:1] + b"1",)):
                lines = (*((name + b": " + key,) if key else ()), *more)
                whole = head(*lines)
                seen = lane.heads.seen
                plain = seen[whole] if whole in seen else lane.heads.unseen(whole, client)
                assert plain is not None
                expected = ((name.lower(), key),) if key else ()
                assert plain.access_request.credentials == plain.head.credentials == expected
                assert (plain.access_request.method, plain.access_request.path) == ("POST", "/predict")


def test_credentials_that_stand_twice_are_all_seen() -> None:
    client = Client()
    for key in (b"1", b"2", b"3"):
        for other in (b"4", b"5", b"6"):
            plain = lane.heads.unseen(head(b"X-API-Key: " + key, b"x-api-key: " + other), client)
            assert plain is not None
            assert plain.access_request.credentials == ((b"x-api-key", key), (b"x-api-key", other))


NAMES = st.sampled_from(
    b"Authorization|X-API-Key|X-A|x-a|X-Request-Id|Content-Length|Connection|Transfer-Encoding|traceparent|X-Deadline-Ms".split(
        b"|"
    )
    + b"Inference-Header-Content-Length|tracestate|Keep-Alive|Expect|Content-Encoding|X A|X-A ".split(b"|")
)
VALUES = st.one_of(
    st.sampled_from(
        b"|1|36|a|keep-alive|close|chunked| x|x |\ty|a\rb|a\nb|a\r\nb|a\r\n c|\xe9|\0|+5|05|0".split(b"|")
    ),
    st.sampled_from([b"a\r\nTransfer-Encoding: chunked", b"100-continue", b"00-%032x-%016x-01" % (1, 1)]),
    st.binary(max_size=6),
)

PLAIN = st.sampled_from([b"1", b"36", b"abc", b"7 8"])


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    names=st.lists(NAMES, min_size=1, max_size=4),
    values=st.tuples(*[st.lists(each, min_size=4, max_size=4) for each in (PLAIN, PLAIN, VALUES)]),
    lengths=st.tuples(*[st.sampled_from([b"36", b"5", b"70000", b"036", b"+5"])] * 3),
)
def test_what_a_form_says_is_what_llhttp_says(
    names: list[bytes], values: tuple[list[bytes], ...], lengths: tuple[bytes, ...]
) -> None:
    one, other, third = (
        head(*(b"%s: %s" % pair for pair in zip(names, row, strict=False)), length=length)
        for row, length in zip(values, lengths, strict=True)
    )
    plain = lane.heads.read(other)
    if plain is None or lane.heads.read(one) is None:
        return  # no form is made of those
    lane.heads.kinds = ()
    kind = lane.heads.kind_of(one, other, plain)
    for asked in (one, other, third):
        found = lane.heads.of_kind(kind, asked) if kind is not None else None
        if found is not None:
            expected = lane.heads.read(asked)
            assert expected is not None
            assert (found.endpoint, found.length) == (expected.endpoint, expected.length)
            unordered = {"headers": (), "credentials": ()}  # compared below, in any order
            assert replace(found.head, **unordered) == replace(expected.head, **unordered)
            assert sorted(found.access_request.credentials) == sorted(expected.access_request.credentials)
            looked_at = [
                pair
                for pair in expected.head.headers
                if pair[0] in (b"tracestate", b"inference-header-content-length")
            ]
            assert sorted(looked_at) == sorted(pair for pair in found.head.headers if pair in looked_at)
