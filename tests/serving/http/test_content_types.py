"""One rule for every route that reads JSON: without a media type, and as `curl -d` sends it, JSON is JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from tests.serving.http.lanes import BODY, PREDICTIONS, taken

if TYPE_CHECKING:
    from tests.serving.http.lanes import Lanes

ROUTES = {
    **PREDICTIONS,
    "/models/iris/predict": BODY,
    "/feedback": b'{"id": "unknown", "actual": "setosa"}',
}
TAKEN = (
    "",
    "application/json",
    "application/x-www-form-urlencoded",
    "Application/X-WWW-Form-Urlencoded; charset=UTF-8",
)
FORM = "application/x-www-form-urlencoded"


def sent(url: str, body: bytes, content_type: str) -> httpx.Response:
    with httpx.Client() as client:
        headers = {"Content-Type": content_type} if content_type else {}
        return client.post(url, content=body, headers=headers)


@pytest.mark.parametrize("path", ROUTES)
def test_json_is_read_whatever_the_client_says_of_it(lanes: Lanes, path: str) -> None:
    for server in lanes:
        for query in ("", "?gateway"):
            replies = [sent(server.url + path + query, ROUTES[path], kind) for kind in TAKEN]
            assert len({reply.status_code for reply in replies}) == 1
            assert replies[0].status_code in (200, 404, 422)
            assert (replies[0].status_code == 200) == (path != "/feedback")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "body",
    [b"features=5&x=1", b"", b'{"features": [[', b"\xff", b'json={"a":1}', b'{"a": 1}&b=2', b"{}" * 2],
)
def test_a_form_that_is_one_is_415(lanes: Lanes, path: str, body: bytes) -> None:
    for server in lanes:
        for query in ("", "?gateway"):
            reply = sent(server.url + path + query, body, FORM)
            assert reply.status_code == 415
            text = reply.json()
            assert "form-urlencoded" in (text.get("detail") or text.get("message") or text["error"])
            assert sent(server.url + path + query, body, "application/json").status_code == 400


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "kind",
    ["text/plain", "text/json", "multipart/form-data; boundary=x", "application/xml", "json", FORM + "x"],
)
def test_any_other_media_type_is_415(lanes: Lanes, path: str, kind: str) -> None:
    form = kind.startswith("multipart/") and path.endswith("/predict")  # an invalid form
    for server in lanes:
        assert sent(server.url + path, ROUTES[path], kind).status_code == (400 if form else 415)


def test_a_form_in_another_charset_is_415(lanes: Lanes) -> None:
    for server in lanes:
        assert sent(server.url + "/predict", BODY, FORM + "; charset=latin-1").status_code == 415


def test_what_curl_sends_takes_the_express_lane(lanes: Lanes) -> None:
    before = taken(lanes.express, "express")
    for kind in TAKEN:
        assert sent(lanes.express.url + "/predict", BODY, kind).status_code == 200
    assert taken(lanes.express, "express") - before == len(TAKEN)
