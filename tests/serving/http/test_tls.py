"""TLS by BentoML's own options, with certificates of an authority: keys hold there as well."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from serving.access import keys
from tests import servers
from tests.bento_server import bento_server, prepare
from tests.certificates import issued
from tests.serving.http.lanes import BODY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Server
    from tests.serving.artifacts import Made


def context(authority: Path, *own: Path) -> ssl.SSLContext:
    found = ssl.create_default_context(cafile=str(authority))
    if own:
        found.load_cert_chain(*own)
    return found


def test_clients_check_the_server_and_the_server_its_clients(
    made: dict[str, Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a certificate, or with one of another authority, there is no reply; a key is needed too."""
    authority, certificate, key = issued(tmp_path, "127.0.0.1")
    own = issued(tmp_path, "shop.example.com")[1:]
    other_authority, *foreign = issued(tmp_path, "other.example.com", authority="other")
    trusted = context(authority, *own)

    def answers(server: Server, ready: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                assert httpx.get(server.url + ready, verify=trusted).status_code == 200
            except httpx.TransportError:
                assert server.process.poll() is None, server.log.read_text()
                time.sleep(0.1)
            else:
                return

    monkeypatch.setattr(servers, "_await", answers)
    secret, entry = keys.make("shop", ["predict"])
    folder = tmp_path / "work"
    prepare(folder, {"iris": (made["iris"].path, "12")})
    keys.write(tmp_path / "keys.json", [entry])
    options = ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)]
    options += ["--ssl-ca-certs", str(authority), "--ssl-cert-reqs", str(int(ssl.CERT_REQUIRED))]
    settings = {"OKAMOCHI_KEYS": str(tmp_path / "keys.json")}
    with bento_server(folder, *options, settings=settings, ready="/livez") as server:
        url = f"{server.url}/predict"
        with httpx.Client(verify=trusted) as client:
            statuses = [
                client.post(url, content=BODY, headers=headers).status_code
                for headers in ({"X-API-Key": secret}, {"X-API-Key": "wrong"}, {}, {"X-API-Key": secret})
            ]
        assert statuses == [200, 401, 401, 200]
        for refused in (context(authority), context(authority, *foreign), context(other_authority, *own)):
            with pytest.raises(httpx.TransportError):
                httpx.post(url, content=BODY, headers={"X-API-Key": secret}, verify=refused)
        with pytest.raises(httpx.TransportError):
            httpx.post(url.replace("https", "http"), content=BODY, headers={"X-API-Key": secret})
        with httpx.Client(verify=trusted) as client:
            assert client.post(url, content=BODY, headers={"X-API-Key": secret}).status_code == 200
