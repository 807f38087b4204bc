"""Compressed requests and replies, on both lanes."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING

import httpx
import pytest
import tritonclient.http as triton

from tests.serving.http.lanes import BODY, HOST, PREDICTIONS, ROW, exchange, request, taken

if TYPE_CHECKING:
    from tests.serving.http.lanes import Lanes

ROUTES = {**PREDICTIONS, "/models/iris/versions/12/predict": BODY, "/explain": BODY}
FEEDBACK = b'{"id": "unknown", "actual": "setosa"}'
MANY = json.dumps({"features": [ROW] * 2500}).encode()
"""A body for the express lane, with a reply of more than 16 KiB."""
LIMIT = 100_000


def post(url: str, body: bytes, **headers: str) -> httpx.Response:
    with httpx.Client(timeout=60) as client:
        del client.headers["accept-encoding"]
        return client.post(url, content=body, headers={k.replace("_", "-"): v for k, v in headers.items()})


def without_id(reply: httpx.Response) -> object:
    found = reply.json()
    if isinstance(found, dict):
        found.pop("id", None)
    return found


@pytest.mark.parametrize("path", ROUTES)
def test_every_route_takes_a_compressed_body(lanes: Lanes, path: str) -> None:
    for server in lanes:
        plain = post(server.url + path, ROUTES[path])
        for coding, body in (
            ("gzip", gzip.compress(ROUTES[path])),
            ("gzip", gzip.compress(ROUTES[path][:9]) + gzip.compress(ROUTES[path][9:])),
            ("deflate", zlib.compress(ROUTES[path])),
        ):
            found = post(server.url + path, body, content_encoding=coding)
            assert found.status_code == plain.status_code == 200, found.text
            assert without_id(found) == without_id(plain)


@pytest.mark.parametrize("path", [*ROUTES, "/feedback"])
def test_what_cannot_be_expanded_is_refused_by_every_route(lanes: Lanes, path: str) -> None:
    body = ROUTES.get(path, FEEDBACK)
    whole = gzip.compress(body)
    for server in lanes:
        for sent, coding, status, says in (
            (gzip.compress(b" " * (LIMIT + 1)), "gzip", 413, "_BODY_BYTES)"),
            (gzip.compress(b" " * 20_000_000), "gzip", 413, "_BODY_BYTES)"),
            (zlib.compress(b" " * 20_000_000), "deflate", 413, "_BODY_BYTES)"),
            (whole[:-9], "gzip", 400, f"ends at byte {len(whole) - 9}"),
            (body, "gzip", 400, "damaged at byte"),
            (whole + b"x", "gzip", 400, f"other bytes from byte {len(whole)} on"),
            (body, "br", 415, "gzip, deflate, identity"),
            (whole, "gzip, gzip", 415, "gzip, deflate, identity"),
            (gzip.compress(b"{"), "gzip", 400, "not JSON"),
        ):
            found = post(server.url + path, sent, content_encoding=coding)
            assert (found.status_code, says in found.text) == (status, True), found.text
            if status == 415:
                assert found.headers["accept-encoding"] == "gzip, deflate, identity"


def test_feedback_may_be_compressed(lanes: Lanes) -> None:
    found = post(lanes.express.url + "/feedback", gzip.compress(FEEDBACK), content_encoding="gzip")
    assert found.status_code == post(lanes.express.url + "/feedback", FEEDBACK).status_code
    assert "expected the id of a reply" in found.text


def test_a_compressed_body_may_be_chunked(lanes: Lanes) -> None:
    body = gzip.compress(BODY)
    chunked = b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (9, body[:9], len(body) - 9, body[9:])
    headers = (HOST, "Content-Encoding: gzip", "Transfer-Encoding: chunked")
    for server in lanes:
        first = exchange(server, [request(chunked, headers=headers, length=False), request()])
        assert [reply.status for reply in first] == [200, 200, 200]


def test_clients_of_triton_may_compress_both_ways(lanes: Lanes) -> None:
    import numpy as np

    rows = np.array([ROW] * 2000)
    for server in lanes:
        client = triton.InferenceServerClient(server.url.removeprefix("http://"))
        for binary in (True, False):
            tensor = triton.InferInput("features", list(rows.shape), "FP64")
            tensor.set_data_from_numpy(rows, binary_data=binary)
            for how in ("gzip", "deflate", None):
                found = client.infer(
                    "iris",
                    [tensor],
                    request_compression_algorithm=how,
                    response_compression_algorithm="gzip",
                    outputs=[triton.InferRequestedOutput("probabilities", binary_data=binary)],
                )
                assert found.as_numpy("probabilities").shape == (2000, 3)


@pytest.mark.parametrize("query", ["", "?gateway"])
def test_a_large_reply_is_compressed_for_a_client_that_accepts_it(lanes: Lanes, query: str) -> None:
    for server in lanes:
        before = taken(server, "express")
        plain = post(server.url + "/predict" + query, MANY)
        zipped = post(server.url + "/predict" + query, MANY, accept_encoding="br, gzip;q=0.8")
        assert without_id(zipped) == without_id(plain)
        assert plain.headers["vary"] == zipped.headers["vary"] == "Accept-Encoding"
        assert "content-encoding" not in plain.headers
        assert zipped.headers["content-encoding"] == "gzip"
        assert int(zipped.headers["content-length"]) * 5 < int(plain.headers["content-length"])
        small = post(server.url + "/predict" + query, BODY, accept_encoding="gzip")
        assert not {"vary", "content-encoding"} & small.headers.keys()
        for accepted in ("gzip;q=0", "identity", "deflate", "*;q=0"):
            found = post(server.url + "/predict" + query, MANY, accept_encoding=accepted)
            assert ("content-encoding" in found.headers, found.headers["vary"]) == (False, "Accept-Encoding")
        only = post(server.url + "/predict" + query, BODY, accept_encoding="gzip, identity;q=0")
        assert only.headers["content-encoding"] == "gzip"
        assert only.json()["prediction"] == ["setosa"]
        took = taken(server, "express") - before
        assert took == (7 if server is lanes.express and not query else 0), "all but the last"


def test_replies_that_are_compressed_keep_their_order_and_their_connection(lanes: Lanes) -> None:
    large = request(MANY, headers=(HOST, "Accept-Encoding: gzip", "X-Request-Id: a"))
    for server in lanes:
        found = exchange(server, [large, request(), large + request() + large])
        assert [reply.status for reply in found] == [200] * 6
        zipped = [dict(reply.headers).get(b"content-encoding") for reply in found]
        assert zipped == [b"gzip", None, b"gzip", None, b"gzip", None]
        assert dict(found[0].headers)[b"x-request-id"] == b"a"


def test_a_client_that_leaves_before_its_reply_is_compressed_harms_nobody(lanes: Lanes) -> None:
    from tests.serving.http.lanes import connect

    large = request(MANY, headers=(HOST, "Accept-Encoding: gzip"))
    for server in lanes:
        for _ in range(20):
            with connect(server) as connection:
                connection.sendall(large)
        assert exchange(server, [request()])[0].status == 200


@pytest.mark.parametrize("path", ["/metrics", "/openapi.json", "/docs", "/models", "/livez"])
def test_pages_are_compressed_and_head_says_what_get_would(lanes: Lanes, path: str) -> None:
    with httpx.Client(base_url=lanes.gateway.url, timeout=60) as client:
        del client.headers["accept-encoding"]
        plain = client.get(path)
        zipped = client.get(path, headers={"Accept-Encoding": "gzip"})
        head = client.head(path, headers={"Accept-Encoding": "gzip"})
        large = len(plain.content) >= 16 * 1024
        assert (path in ("/metrics", "/openapi.json")) <= large
        for reply in (zipped, head):
            assert reply.headers.get("content-encoding") == ("gzip" if large else None)
            assert reply.headers.get("vary") == ("Accept-Encoding" if large else None)
            assert reply.headers["content-type"] == plain.headers["content-type"]
        assert head.content == b""
        if path != "/metrics":  # whose text changes
            assert zipped.text == plain.text
            assert head.headers["content-length"] == zipped.headers["content-length"]
        assert plain.headers.get("vary") == ("Accept-Encoding" if large else None)
