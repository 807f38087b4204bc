"""Pages of other origins: what a browser lets them do, and the headers by which it decides."""

from __future__ import annotations

import asyncio
import gzip
import re
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

from serving.access import keys
from serving.http.gateway import Gateway
from serving.settings import SettingsError, read
from tests.bento_server import bento_server, prepare
from tests.servers import PATIENCE_S
from tests.serving.conftest import PATIENT_SETTINGS, ask, elsewhere
from tests.serving.http.lanes import BODY, HOST, NAMES, exchange, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

    from serving.scoring.catalog import Catalog
    from tests.servers import Server
    from tests.serving.artifacts import Made

PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type,x-api-key,sentry-trace",
}


class Empty(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<!doctype html><title>a page</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def page_server() -> Iterator[str]:
    """An origin with an empty page."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def origins() -> Iterator[tuple[str, str]]:
    """Of a page that may call the server, and of one that may not."""
    with page_server() as friend, page_server() as stranger:
        yield friend, stranger


class Called:
    """A server that pages of one origin may call, with a key."""

    def __init__(self, server: Server, key: str, spent: str) -> None:
        self.server, self.key, self.spent = server, key, spent


@pytest.fixture(scope="module")
def called(
    origins: tuple[str, str], made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Called]:
    folder = tmp_path_factory.mktemp("cors")
    prepare(folder, {name: (made[name].path, version) for name, version in NAMES.items()})
    secret, key = keys.make("page", ["predict", "observe"])
    spent, once = keys.make("once", ["predict"], rate="1/h")
    (folder / "keys.json").write_bytes(msgspec.json.encode({"keys": [key, once]}))
    settings = {
        "OKAMOCHI_CORS_ORIGINS": f"https://app.example.org, {origins[0]}",
        "OKAMOCHI_KEYS": str(folder / "keys.json"),
        "OKAMOCHI_MAX_BODY_BYTES": "100000",
        "OKAMOCHI_MAX_HEAD_BYTES": "8000",
    }
    with bento_server(folder, settings=settings) as server:
        yield Called(server, secret, spent)


@contextmanager
def opened(chromium: str, origin: str) -> Iterator[Page]:
    """A page in a real browser, which is gone afterwards: while it is there, no event loop can be started."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, headless=True, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = browser.new_page()
        page.goto(origin)
        yield page
        browser.close()


FETCH = """async ([url, options]) => {
    try {
        const reply = await fetch(url, options)
        const names = ["x-request-id", "retry-after", "www-authenticate", "x-model-version"]
        const headers = Object.fromEntries(names.map(name => [name, reply.headers.get(name)]))
        return {status: reply.status, text: await reply.text(), headers}
    } catch (error) { return {error: String(error)} }
}"""


def fetched(page: Page, url: str, **options: Any) -> Any:
    return page.evaluate(FETCH, [url, options])


@pytest.fixture
def page(origins: tuple[str, str], program: Callable[[str], str]) -> Iterator[Page]:
    with opened(program("chromium"), origins[0]) as found:
        yield found


def test_a_page_of_an_allowed_origin_gets_predictions(page: Page, called: Called) -> None:
    url, body = called.server.url, BODY.decode()
    sent = {"Content-Type": "application/json", "X-API-Key": called.key, "X-Request-Id": "a-1"}
    found = fetched(page, f"{url}/predict", method="POST", body=body, headers=sent)
    assert (found["status"], found["headers"]["x-request-id"]) == (200, "a-1")
    assert '"setosa"' in found["text"]
    bearer = {"Authorization": f"Bearer {called.key}"}
    assert fetched(page, f"{url}/models/iris", headers=bearer)["status"] == 200
    scored = fetched(
        page, f"{url}/score", method="POST", body='{"rows": [[5.1, 3.5, 1.4, 0.2]]}', headers=sent
    )
    assert (scored["status"], scored["headers"]["x-model-version"]) == (200, "12")
    assert "okamochi_requests_total" in fetched(page, f"{url}/metrics", headers=bearer)["text"]


def test_a_page_sees_why_it_was_refused(page: Page, called: Called) -> None:
    """A reply without the headers would be an opaque network error to its script."""
    url = called.server.url
    sent = {"Content-Type": "application/json", "X-API-Key": called.key}

    def post(body: str, path: str = "/predict", **headers: str) -> Any:
        return fetched(page, url + path, method="POST", body=body, headers=sent | headers)

    none = fetched(page, f"{url}/predict", method="POST", body=BODY.decode())
    assert (none["status"], none["headers"]["www-authenticate"] is not None) == (401, True)
    assert post("{")["status"] == 400
    assert post("{}")["status"] == 422
    assert post(" " * 100_001)["status"] == 413
    assert post("{}", "/nowhere")["status"] == 404
    assert post("{}", "/models")["status"] == 405
    assert post("<a/>", **{"Content-Type": "text/xml"})["status"] == 415
    assert post("{}", "/explain")["status"] == 403
    once = {"X-API-Key": called.spent}
    statuses = [post(BODY.decode(), **once) for _ in range(2)]
    assert [each["status"] for each in statuses] == [200, 429]
    assert int(statuses[1]["headers"]["retry-after"]) > 0


def test_a_page_of_another_origin_gets_nothing(
    origins: tuple[str, str], called: Called, program: Callable[[str], str]
) -> None:
    sent = {"Content-Type": "application/json", "X-API-Key": called.key}
    with opened(program("chromium"), origins[1]) as page:
        for path, method, body in (("/predict", "POST", BODY.decode()), ("/livez", "GET", None)):
            found = fetched(page, called.server.url + path, method=method, body=body, headers=sent)
            assert "error" in found


# ---- headers


@pytest.mark.parametrize(
    "path", ["/predict", "/models/iris", "/v2/models/iris/infer", "/feedback", "/livez", "/", "/nowhere"]
)
def test_a_preflight_needs_no_key_and_is_the_same_everywhere(
    called: Called, origins: tuple[str, str], path: str
) -> None:
    headers = {"Origin": origins[0], **PREFLIGHT}
    reply = httpx.options(called.server.url + path, headers=headers, timeout=PATIENCE_S)
    assert (reply.status_code, reply.content) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == origins[0]
    assert reply.headers["access-control-allow-methods"] == "GET, HEAD, POST, OPTIONS"
    assert reply.headers["access-control-allow-headers"] == PREFLIGHT["Access-Control-Request-Headers"]
    assert reply.headers["access-control-max-age"] == "600"
    assert reply.headers["vary"] == "Access-Control-Request-Headers, Origin"
    refused = httpx.options(
        called.server.url + path, headers=headers | {"Origin": origins[1]}, timeout=PATIENCE_S
    )
    assert refused.status_code == 403
    assert "OKAMOCHI_CORS_ORIGINS" in refused.text
    assert "access-control-allow-origin" not in refused.headers


def test_options_that_are_no_preflight_need_a_key(called: Called, origins: tuple[str, str]) -> None:
    for headers in ({}, {"Origin": origins[0]}, PREFLIGHT):
        reply = httpx.options(f"{called.server.url}/predict", headers=headers, timeout=PATIENCE_S)
        assert reply.status_code == 401


def test_headers_of_replies(called: Called, origins: tuple[str, str]) -> None:
    """Also of those that the parser refuses, and of compressed ones; every reply says what it depends on."""
    friend, stranger = origins
    key = f"X-API-Key: {called.key}"
    before = taken_with_key(called)
    for origin, allowed in ((friend, True), (stranger, False), ("null", False), ("", None)):
        own = (HOST, key, *([f"Origin: {origin}"] if origin else []))
        for sent, status in (
            (request(headers=own), 200),
            (request(b"{", headers=own), 400),
            (request(path="/nowhere", headers=own), 404),
            (request(headers=(*own, "X-Long: " + "a" * 9000)), 431),
            (request(headers=(*own, "Host: h2")), 400),
            (request(gzip.compress(BODY), headers=(*own, "Content-Encoding: gzip")), 200),
        ):
            reply = exchange(called.server, [sent], end=b"")[0]
            headers = dict(reply.headers)
            assert reply.status == status
            assert headers[b"vary"] == b"Origin"
            assert headers.get(b"access-control-allow-origin") == (friend.encode() if allowed else None)
            assert headers.get(b"access-control-allow-credentials") == (b"true" if allowed else None)
            assert (b"Retry-After" in headers.get(b"access-control-expose-headers", b"")) == bool(allowed)
    assert taken_with_key(called) - before == 2, "without an Origin the express lane answers"


def taken_with_key(called: Called) -> int:
    text = httpx.get(called.server.url + "/metrics", headers={"X-API-Key": called.key}).text
    found = re.search(r'okamochi_lane_requests_total{lane="express"} (\S+)', text)
    return int(float(found[1])) if found else 0


def test_two_origins_are_no_browsers(called: Called, origins: tuple[str, str]) -> None:
    own = (HOST, f"X-API-Key: {called.key}", f"Origin: {origins[0]}", f"Origin: {origins[0]}")
    reply = exchange(called.server, [request(headers=own)], end=b"")[0]
    assert b"access-control-allow-origin" not in dict(reply.headers)


def test_with_a_star_every_page_may_ask_but_without_cookies(models: Catalog) -> None:
    gateway = Gateway(elsewhere, models, replace(PATIENT_SETTINGS, cors_origins=("*",)))
    for origin in ("https://a.example", "null"):
        for method, path in (("POST", "/predict"), ("GET", "/livez"), ("GET", "/nowhere")):
            found = asyncio.run(ask(gateway, method, path, b"{}", {"origin": origin}))
            assert found.headers["access-control-allow-origin"] == "*"
            assert not {"access-control-allow-credentials", "vary"} & found.headers.keys()
        headers = {"origin": origin, "access-control-request-method": "POST"}
        found = asyncio.run(ask(gateway, "OPTIONS", "/predict", b"", headers))
        assert (found.status, found.headers["access-control-allow-origin"]) == (204, "*")
        assert "access-control-allow-credentials" not in found.headers
    plain = asyncio.run(ask(gateway, "GET", "/livez"))
    assert "access-control-allow-origin" not in plain.headers


def test_without_the_setting_there_are_no_such_headers(gateway: Gateway) -> None:
    headers = {"origin": "https://a.example", **{key.lower(): value for key, value in PREFLIGHT.items()}}
    found = asyncio.run(ask(gateway, "OPTIONS", "/predict", b"", headers))
    assert found.headers == {"allow": "POST, OPTIONS"}
    found = asyncio.run(ask(gateway, "GET", "/livez", b"", headers))
    assert not [name for name in found.headers if name.startswith("access-control") or name == "vary"]


def test_names_that_are_none_are_not_repeated(models: Catalog) -> None:
    gateway = Gateway(elsewhere, models, replace(PATIENT_SETTINGS, cors_origins=("https://a.example",)))
    for names in ("a b", "a,,b", "a:b", "\xe9"):
        headers = {
            "origin": "https://a.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": names,
        }
        found = asyncio.run(ask(gateway, "OPTIONS", "/predict", b"", headers))
        assert found.status == 204
        assert "access-control-allow-headers" not in found.headers


def test_the_setting_takes_origins() -> None:
    found = read({"OKAMOCHI_CORS_ORIGINS": "https://a.example, http://localhost:5173 http://[::1]:8080"})
    assert found.cors_origins == ("https://a.example", "http://localhost:5173", "http://[::1]:8080")
    assert read({"OKAMOCHI_CORS_ORIGINS": "*"}).cors_origins == ("*",)
    assert read({"OKAMOCHI_CORS_ORIGINS": "capacitor://localhost"}).cors_origins == ("capacitor://localhost",)


@pytest.mark.parametrize(
    ("origin", "says"),
    [
        ("https://a.example/", "expected 'https://a.example'"),
        ("https://a.example/app", "without a path"),
        ("https://me@a.example", "without a path, a query or a user"),
        ("https://a.example?x", "without a path"),
        ("a.example", "expected scheme://host"),
        ("localhost:5173", "expected scheme://host"),
        ("https://", "expected scheme://host"),
        ("null", "expected scheme://host"),
        ("https://*.a.example", "expected an exact origin, or * alone"),
        ("*", "must stand alone"),
        ("https://A.example", "expected 'https://a.example'"),
        ("https://b\u00fccher.example", "punycode"),
        ("https://a.example:443", "expected 'https://a.example'"),
        ("http://a.example:80", "expected 'http://a.example'"),
        ("http://a.example:65536", "expected a port from 1 to 65535, got 65536"),
        ("http://a.example:", "expected scheme://host"),
        ("http://a.example:0", "expected scheme://host"),
        ('"https://a.example"', "expected scheme://host"),
    ],
)
def test_what_no_browser_sends_is_refused_with_its_place(origin: str, says: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read({"OKAMOCHI_CORS_ORIGINS": f"https://first.example,{origin}"})
    assert str(refused.value).startswith("OKAMOCHI_CORS_ORIGINS: origin 2, ")
    assert says in str(refused.value)
