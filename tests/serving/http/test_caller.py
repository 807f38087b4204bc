"""Limits are shared by who is at the other end of a connection, whatever a client says of itself."""

from __future__ import annotations

import pytest

from serving.http.access import Principal
from serving.http.caller import caller_of


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
