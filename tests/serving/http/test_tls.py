"""TLS by BentoML's own options, with certificates of an authority: a key or a certificate says who asks."""

from __future__ import annotations

import json
import ssl
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx
import msgspec
import pytest

from serving.access import keys
from tests import servers
from tests.bento_server import bento_server, prepare
from tests.certificates import answers_to, context, issued
from tests.serving.http.lanes import BODY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.serving.artifacts import Made


def test_clients_check_the_server_and_the_server_its_clients(
    made: dict[str, Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a certificate, or with one of another authority, there is no reply.

    A certificate with an entry is its caller, on both lanes; any other needs a key too.
    """
    authority, certificate, key = issued(tmp_path, "127.0.0.1")
    own = issued(tmp_path, "shop.example.com")[1:]
    other_authority, *foreign = issued(tmp_path, "other.example.com", authority="other")
    trusted = context(authority, *own)
    monkeypatch.setattr(servers, "_await", answers_to(trusted))
    stranger = context(authority, *issued(tmp_path, "stranger.example.com")[1:])
    slow = context(authority, *issued(tmp_path, "slow.example.com")[1:])
    secret, entry = keys.make("shop", ["predict"])
    _, named = keys.make("orders", ["predict"], certificate="DNS:Shop.example.com")
    _, seldom = keys.make("slow", ["predict", "observe"], certificate="CN:slow.example.com", rate="2/h")
    folder = tmp_path / "work"
    prepare(folder, {"iris": (made["iris"].path, "12")})
    file, audit = tmp_path / "keys.json", tmp_path / "audit.jsonl"
    keys.write(file, [entry, named, seldom])
    options = ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)]
    options += ["--ssl-ca-certs", str(authority), "--ssl-cert-reqs", str(int(ssl.CERT_REQUIRED))]
    settings = {"OKAMOCHI_KEYS": str(file), "OKAMOCHI_AUDIT_LOG": str(audit)}
    with bento_server(folder, *options, settings=settings, ready="/livez") as server:
        url = f"{server.url}/predict"
        with httpx.Client(verify=stranger) as client:  # its authority is trusted, its name has no entry
            statuses = [
                client.post(url, content=body(), headers=headers).status_code
                for body in (whole, chunks)
                for headers in ({"X-API-Key": secret}, {"X-API-Key": "wrong"}, {}, {"X-API-Key": secret})
            ]
            assert client.get(f"{server.url}/livez").status_code == 200
        assert statuses == [200, 401, 401, 200] * 2
        for refused in (context(authority), context(authority, *foreign), context(other_authority, *own)):
            with pytest.raises(httpx.TransportError):
                httpx.post(url, content=BODY, headers={"X-API-Key": secret}, verify=refused)
        with pytest.raises(httpx.TransportError):
            httpx.post(url.replace("https", "http"), content=BODY, headers={"X-API-Key": secret})

        with httpx.Client(verify=slow) as client:
            replies = [client.post(url, content=BODY) for _ in range(2)]
            assert [reply.status_code for reply in replies] == [200, 429]
            assert "'slow'" in replies[1].json()["detail"]
        with httpx.Client(verify=trusted) as client:
            for body in (whole, chunks):
                for headers, status in (({}, 200), ({"X-API-Key": "wrong"}, 401), ({}, 200)):
                    assert client.post(url, content=body(), headers=headers).status_code == status
            lacking = client.get(f"{server.url}/metrics")
            assert (lacking.status_code, "'observe'" in lacking.text) == (403, True)
            keys.write(file, [entry, msgspec.structs.replace(named, revoked=datetime.now(UTC)), seldom])
            eventually(lambda: client.post(url, content=BODY).status_code == 401)  # the same connection
            assert "was revoked" in client.post(url, content=chunks()).json()["detail"]
        eventually(lambda: {"shop", "orders", "slow", None} <= callers(audit))


def whole() -> bytes:
    return BODY


def chunks() -> Iterator[bytes]:
    """A body without a length, which the express lane leaves to the gateway."""
    return iter([BODY])


def callers(audit: Path) -> set[str | None]:
    lines = audit.read_text().splitlines() if audit.exists() else []
    return {json.loads(line)["caller"] for line in lines}


def eventually(there: Callable[[], bool]) -> None:
    end = time.monotonic() + servers.PATIENCE_S
    while not there():
        assert time.monotonic() < end
        time.sleep(0.1)
