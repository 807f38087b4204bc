"""The pages that a person opens load nothing from another host, and their browser is told so."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import httpx
import pytest

from serving.http.gateway import Gateway
from serving.http.pages import page
from tests.serving.conftest import PATIENT_SETTINGS, ask, elsewhere

if TYPE_CHECKING:
    from serving.scoring.catalog import Catalog
    from tests.servers import Server

LOADED = {
    "src", "srcset", "data", "poster", "background", "action", "formaction", "manifest", "ping", "xlink:href",
}  # fmt: skip
ELSEWHERE = re.compile(r"""(?:url\(|@import|fetch\(|import\(|from\s)\s*["'`]?\s*(?:https?:)?//""")


class Loads(HTMLParser):
    """What a browser would load of a page, and what it would run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.inline: dict[str, list[str]] = {"style": [], "script": []}
        self.handlers: list[str] = []
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in = tag if tag in self.inline else ""
        for name, value in attrs:
            if name in LOADED or (name == "href" and tag in ("link", "base", "use", "image")):
                self.urls.append(value or "")
            if name.startswith("on") or name == "style":
                self.handlers.append(f"{tag} {name}")
            if tag == "meta" and name == "http-equiv":
                self.handlers.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        if self._in:
            self.inline[self._in].append(data)

    def handle_endtag(self, _tag: str) -> None:
        self._in = ""


def pages_of(server: Server) -> dict[str, httpx.Response]:
    """Every route that answers GET with HTML: those of OpenAPI, BentoML's, and whatever they link to."""
    with httpx.Client(base_url=server.url, headers={"Accept": "text/html,*/*;q=0.8"}) as client:
        waiting = ["/", *client.get("/openapi.json").json()["paths"], "/docs.json", "/schema.json", "/docs"]
        found: dict[str, httpx.Response] = {}
        seen: set[str] = set()
        while waiting:
            path = waiting.pop()
            if path in seen or "{" in path:
                continue
            seen.add(path)
            reply = client.get(path, follow_redirects=True)
            if reply.headers.get("content-type", "").startswith("text/html"):
                found[path] = reply
                waiting += re.findall(r'href="?(/[^"#?> ]*)', reply.text)
        return found


def test_no_page_loads_anything_from_elsewhere(server: Server) -> None:
    pages = pages_of(server)
    assert {"/", "/docs"} <= pages.keys()
    for path, reply in pages.items():
        loads = Loads(reply.text)
        for url in loads.urls:
            assert url.startswith(("data:", "/")), f"{path} loads {url}"
            assert not url.startswith("//"), f"{path} loads {url}"
        assert not ELSEWHERE.search(reply.text), path
        assert loads.handlers == [], path


def test_the_policy_lets_a_page_do_what_it_does_and_no_more(server: Server) -> None:
    for path, reply in pages_of(server).items():
        policy = dict(
            part.strip().split(" ", 1) for part in reply.headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["connect-src"] == "'self'"
        assert "http" not in reply.headers["content-security-policy"]
        assert "unsafe" not in reply.headers["content-security-policy"]
        for kind, contents in Loads(reply.text).inline.items():
            for content in contents:
                digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
                assert f"'sha256-{digest}'" in policy[f"{kind}-src"], path


def test_the_first_page_leads_a_browser_to_the_console(server: Server) -> None:
    accept = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    reply = httpx.get(server.url + "/", headers=accept)
    assert (reply.status_code, reply.headers["location"]) == (307, "/console")
    assert httpx.head(server.url + "/", headers=accept).status_code == 307
    assert httpx.get(server.url + "/", headers=accept, follow_redirects=True).url.path == "/console"


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html;q=0, */*", ""])
def test_the_first_page_tells_a_program_that_the_server_lives(server: Server, accept: str) -> None:
    """As KServe's clients of `/v1` and the default checks of load balancers expect."""
    reply = httpx.get(server.url + "/", headers={"Accept": accept})
    assert (reply.status_code, reply.json()) == (200, {"status": "alive"})
    assert "Accept" in reply.headers["vary"]
    assert httpx.head(server.url + "/", headers={"Accept": accept}).status_code == 200


def test_the_files_of_the_console_are_under_the_same_policy(server: Server) -> None:
    policy = httpx.get(server.url + "/console").headers["content-security-policy"]
    text = httpx.get(server.url + "/console").text
    files = re.findall(r'(?:src|href)="(/console/[^"]+)"', text)
    files += [f"/console/{name}.js" for name in ("dom", "charts", "model", "form")]
    assert len(files) >= 6
    for path in files:
        reply = httpx.get(server.url + path)
        assert reply.status_code == 200, path
        assert reply.headers["content-security-policy"] == policy
        assert not ELSEWHERE.search(reply.text), path
        assert "innerHTML" not in reply.text
        assert "insertAdjacentHTML" not in reply.text


def test_a_server_without_the_console_has_none_of_it(models: Catalog) -> None:
    without = Gateway(elsewhere, models, replace(PATIENT_SETTINGS, console=0))
    for path in ("/console", "/console/iris", "/console/console.js", "/console/state.json"):
        assert asyncio.run(ask(without, "GET", path)).status == 404, path
    first = asyncio.run(ask(without, "GET", "/", headers={"accept": "text/html"}))
    assert first.headers["location"] == "/docs"


@pytest.mark.parametrize(
    "path", ["/console/", "/console/../service.py", "/console/pages.py", "/console/IRIS", "/console/a/b"]
)
def test_the_console_has_no_other_files(gateway: Gateway, path: str) -> None:
    assert asyncio.run(ask(gateway, "GET", path)).status == 404


def test_nothing_of_bentomls_own_page_is_left(server: Server) -> None:
    for path in (
        "/static_content/swagger-ui.css",
        "/static_content/index.css",
        "/static_content/favicon.ico",
    ):
        assert httpx.get(server.url + path).status_code == 404


def test_a_page_without_a_script_allows_none() -> None:
    assert b"script-src" not in dict(page("<p>x").headers)[b"content-security-policy"]
