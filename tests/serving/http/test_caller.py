"""Limits are shared by who is at the other end of a connection, whatever a client says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from serving.http.access import Principal
from serving.http.caller import caller_of
from tests.bento_server import bento_server, prepare
from tests.serving.http.lanes import BODY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving.artifacts import Made


@pytest.mark.parametrize(
    ("client", "caller"),
    [
        (("10.1.2.3", 50_000), "10.1.2.3"),
        (("::ffff:10.1.2.3", 50_000), "10.1.2.3"),
        (("2001:db8:1:2:3:4:5:6", 50_000), "2001:db8:1:2::/64"),
        (("2001:db8:1:2:ffff::1", 50_000), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 50_000), "fe80::/64"),
        (("", 0), ""),
        (None, ""),
    ],
)
def test_a_caller_is_an_address(client: tuple[str, int] | None, caller: str) -> None:
    headers = [(b"x-forwarded-for", b"192.0.2.7")]
    assert caller_of({"client": client, "headers": headers}, None) == caller


def test_a_server_that_names_no_client_has_one_caller() -> None:
    assert caller_of({}, None) == ""


def test_a_principal_comes_before_the_address() -> None:
    scope = {"client": ("10.1.2.3", 50_000)}
    assert caller_of(scope, Principal("shop")) == caller_of({}, Principal("shop")) != caller_of(scope, None)


CALLERS = """
from serving.scoring import explain

_submit = explain.Explainer.submit

def submit(self, wanted, rows, n, done, deadline, caller, *, explicit):
    print(caller, file=open("callers", "a"))
    return _submit(self, wanted, rows, n, done, deadline, caller, explicit=explicit)

explain.Explainer.submit = submit
"""
"""A service of a test writes down who takes turns for explanations."""


@pytest.mark.parametrize("express", ["1", "0"], ids=["express", "gateway"])
@pytest.mark.parametrize("trusted", ["127.0.0.1", ""])
def test_a_trusted_proxy_names_its_clients_on_both_lanes(
    express: str, trusted: str, made: dict[str, Made], tmp_path: Path
) -> None:
    """Their addresses change from request to request over one connection, as a proxy's pool has it."""
    folder = tmp_path / "work"
    prepare(folder, {"iris": (made["iris"].path, "12")})
    service = folder / "service.py"
    service.write_text(service.read_text() + CALLERS)
    settings = {"OKAMOCHI_EXPRESS": express, "FORWARDED_ALLOW_IPS": trusted}
    shown = ["192.0.2.7", "192.0.2.7", "192.0.2.8", "203.0.113.5, 192.0.2.9", "192.0.2.7", "", None]
    with bento_server(folder, settings=settings) as server, httpx.Client(base_url=server.url) as client:
        for address in shown:
            own = {"X-Forwarded-For": address} if address is not None else {}
            reply = client.post("/explain", content=BODY, headers=own)
            assert reply.status_code == 200, reply.text
    last = [address.rpartition(", ")[2] or "127.0.0.1" if address else "127.0.0.1" for address in shown]
    expected = last if trusted else ["127.0.0.1"] * len(shown)
    assert (folder / "callers").read_text().split() == expected
