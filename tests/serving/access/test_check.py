"""One request after another against keys that change."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from serving.access import keys
from serving.access.certificate import Certificate, certificate_of
from serving.access.check import MAX_GRANTS, Check
from serving.access.request import AccessRequest, Principal
from serving.errors import Problem

if TYPE_CHECKING:
    from serving.access.keys import Key


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def made(*roles: Any, name: str = "shop", **options: Any) -> tuple[str, Key]:
    return keys.make(name, roles or ("predict",), **options)


def asked(
    secret: str | None, path: str = "/predict", method: str = "POST", model: str = "iris"
) -> AccessRequest:
    credentials = ((b"authorization", f"Bearer {secret}".encode()),) if secret is not None else ()
    return AccessRequest(method, path, credentials, model)


def refusal(check: Check, request: AccessRequest) -> Problem:
    with pytest.raises(Problem) as refused:
        check.admit(request)
    return refused.value


def test_a_right_key_is_admitted_by_either_header_and_a_wrong_one_by_none() -> None:
    secret, key = made(name="shop", models=["iris"])
    check = Check([key])
    shop = Principal("shop", frozenset({"predict"}), frozenset({"iris"}))

    assert check.admit(asked(secret)) == shop
    assert check.admit(asked(secret)) == shop
    for credentials in (
        ((b"x-api-key", secret.encode()),),
        ((b"authorization", b"bearer  " + secret.encode()),),
        ((b"authorization", b"BEARER " + secret.encode()),),
    ):
        assert check.admit(AccessRequest("POST", "/predict", credentials, "iris")) == shop
    whole = secret.encode()
    for wrong in (
        (),
        ((b"x-api-key", b""),),
        ((b"x-api-key", whole[:-1]),),
        ((b"x-api-key", b"Bearer " + whole),),
        ((b"authorization", whole),),
        ((b"authorization", b"Basic " + whole),),
        ((b"authorization", b"Bearer"),),
        ((b"authorization", b"Bearer " + whole + b" x"),),
        ((b"authorization", b"Bearer " + whole), (b"authorization", b"Bearer " + whole)),
        ((b"authorization", b"Bearer " + whole), (b"x-api-key", whole)),
    ):
        problem = refusal(check, AccessRequest("POST", "/predict", wrong, "iris"))
        assert problem.status == 401, wrong
        assert problem.reason == ("bad_credentials" if wrong else "no_credentials")
        assert dict(problem.headers)[b"www-authenticate"].startswith(b"Bearer ")


def test_what_was_granted_is_forgotten_when_the_keys_change() -> None:
    secret, key = made()
    other_secret, other = made(name="other")
    check = Check([key])
    assert check.admit(asked(secret)) is not None

    revoked = msgspec.structs.replace(key, revoked=datetime.now(UTC))
    check.replace([revoked, other])
    assert "revoked" in refusal(check, asked(secret)).detail
    assert check.admit(asked(other_secret)) is not None
    check.replace([msgspec.structs.replace(other, roles=("observe",))])
    assert refusal(check, asked(other_secret)).status == 403
    assert refusal(check, asked(secret)).status == 401


def test_a_key_expires_between_two_requests() -> None:
    clock = Clock()
    ends = datetime.now(UTC) + timedelta(hours=1)
    secret, key = made(expires=ends)
    check = Check([key], clock=clock)
    assert check.admit(asked(secret)) is not None

    clock.now = ends.timestamp() - 0.001
    assert check.admit(asked(secret)) is not None
    clock.now = ends.timestamp()
    problem = refusal(check, asked(secret))
    assert problem.status == 401
    assert "expired" in problem.detail


def test_a_refusal_says_the_right_and_never_whether_a_model_exists() -> None:
    """The same words for a model that is there and for one that is not."""
    secret, key = made("predict", models=["iris"])
    _, observer = made("observe", "explain", models=["iris"])
    check = Check([key])
    for there, absent in (
        ("/models/loans/predict", "/models/nobody/predict"),
        ("/v2/models/loans/infer", "/v2/models/nobody/infer"),
        ("/models/loans/nothing", "/models/nobody/nothing"),
    ):
        one = refusal(check, asked(secret, there, model="loans"))
        other = refusal(check, asked(secret, absent, model="iris"))
        assert (one.status, one.detail, one.headers) == (403, other.detail, other.headers)
    assert refusal(check, asked(secret, "/predict", model="loans")).status == 403
    assert check.admit(asked(secret, "/models/iris/predict", model="iris")) is not None
    assert check.admit(asked(secret, "/models/iris", "GET")) is not None
    problem = refusal(check, asked(secret, "/metrics", "GET"))
    assert "'observe'" in problem.detail
    assert b'scope="observe"' in dict(problem.headers)[b"www-authenticate"]
    seen, _ = made("observe", models=["iris"])
    limited = Check([observer])
    assert refusal(limited, asked(seen, "/metrics", "GET")).status == 401


def test_a_key_for_some_models_does_not_see_pages_about_all() -> None:
    secret, key = made("observe", "admin", models=["iris"])
    whole_secret, whole = made("observe")
    check = Check([key, whole])
    for path in ("/metrics", "/models", "/docs", "/openapi.json", "/"):
        assert refusal(check, asked(secret, path, "GET")).status == 403
        assert check.admit(asked(whole_secret, path, "GET")) is not None


@pytest.mark.parametrize("role", ["predict", "explain", "feedback", "observe"])
def test_a_role_has_its_own_right_and_admin_has_all(role: Any) -> None:
    routes = {
        "predict": ("POST", "/predict"),
        "explain": ("POST", "/explain"),
        "feedback": ("POST", "/feedback"),
        "observe": ("GET", "/metrics"),
    }
    secret, key = made(role)
    admin_secret, admin = made("admin")
    check = Check([key, admin])
    for right, (method, path) in routes.items():
        assert check.admit(asked(admin_secret, path, method)) is not None
        if right == role:
            assert check.admit(asked(secret, path, method)) is not None
        else:
            assert (
                refusal(check, asked(secret, path, method)).detail == f"This key lacks the right {right!r}."
            )


def test_an_open_route_asks_nobody_and_a_worker_without_keys_admits_nobody() -> None:
    check = Check(None)
    secret, _ = made("admin")
    assert check.admit(asked(None, "/livez", "GET")) is None
    assert check.admit(asked("wrong", "/readyz", "HEAD")) is None
    assert refusal(check, asked(secret)).status == 503
    assert refusal(check, asked(None)).status == 401


def test_a_rate_is_shared_by_the_workers_and_survives_a_change_of_other_keys() -> None:
    secret, key = made(rate="10/s")
    check = Check([key], workers=2)
    for _ in range(5):
        assert check.admit(asked(secret)) is not None
    problem = refusal(check, asked(secret))
    assert (problem.status, problem.reason) == (429, "rate_exceeded")
    assert int(dict(problem.headers)[b"retry-after"]) == 1
    assert refusal(check, asked(secret, "/metrics", "GET")).status == 403
    check.replace([key, made(name="other")[1]])
    assert refusal(check, asked(secret)).status == 429
    check.replace([msgspec.structs.replace(key, rate="1000/s")])
    assert check.admit(asked(secret)) is not None


def test_what_is_remembered_is_bounded() -> None:
    secret, key = made("admin")
    check = Check([key])
    for i in range(2 * MAX_GRANTS + 5):
        assert check.admit(asked(secret, f"/{i}", "GET")) is not None
        assert len(check.now.granted) <= MAX_GRANTS
    held = len(check.now.granted)
    assert check.admit(asked(secret, "/" + "x" * 5_000, "GET")) is not None
    assert len(check.now.granted) == held
    for i in range(50):
        refusal(check, asked(f"wrong-{i}"))
    assert len(check.now.granted) == held


def test_wrong_keys_wait_and_right_ones_never_do() -> None:
    secret, key = made()
    check = Check([key])
    waits = [refusal(check, asked(f"wrong-{i}")).wait_s for i in range(100)]
    assert waits[0] == 0.0
    assert waits[-1] == pytest.approx(1.0)
    assert max(waits) <= 1.0
    assert refusal(check, asked(None)).wait_s == 0.0
    assert refusal(check, asked(secret, "/metrics", "GET")).wait_s == 0.0
    assert check.admit(asked(secret)) is not None


def shown(*names: str, ends: float = math.inf, credentials: Any = ()) -> AccessRequest:
    return AccessRequest("POST", "/predict", credentials, "iris", Certificate(names, ends))


def test_a_certificate_with_an_entry_is_its_caller() -> None:
    secret, key = made(name="other")
    _, entry = made(name="shop", certificate="DNS:shop.example.com", models=["iris"])
    check = Check([key, entry])
    shop = Principal("shop", frozenset({"predict"}), frozenset({"iris"}))

    for names in (("DNS:shop.example.com",), ("DNS:a", "DNS:shop.example.com", "CN:b")):
        assert check.admit(shown(*names)) == shop
    for names in ((), ("CN:shop.example.com",), ("URI:shop.example.com",), ("DNS:x.shop.example.com",)):
        assert refusal(check, shown(*names)).status == 401
    wrong = ((b"x-api-key", b"wrong"),)
    assert "unknown" in refusal(check, shown("DNS:shop.example.com", credentials=wrong)).detail
    right = ((b"x-api-key", secret.encode()),)
    found = check.admit(shown("DNS:shop.example.com", credentials=right))
    assert found is not None and found.name == "other"  # noqa: PT018 - two sides of one fact
    assert check.admit(asked(secret)) == found
    assert refusal(check, asked(None)).status == 401, "what a certificate was granted, it was granted alone"
    assert refusal(Check([]), shown("DNS:shop.example.com")).status == 401
    assert refusal(Check(None), shown("DNS:shop.example.com")).status == 503


def test_a_certificate_counts_until_it_or_its_entry_ends() -> None:
    clock = Clock()
    soon = datetime.fromtimestamp(clock.now + 60, UTC)
    _, entry = made(certificate="CN:shop", expires=soon)
    _, rated = made(certificate="CN:slow", rate="1/min")
    check = Check([entry, rated], clock=clock)
    brief = shown("CN:shop", ends=clock.now + 30)
    assert check.admit(brief) == check.admit(shown("CN:shop")) is not None
    assert check.admit(shown("CN:slow")) is not None
    assert refusal(check, shown("CN:slow")).status == 429
    assert "several entries" in refusal(check, shown("CN:shop", "CN:slow")).detail
    clock.now += 31
    assert "certificate has expired" in refusal(check, brief).detail
    assert check.admit(shown("CN:shop")) is not None
    clock.now += 31
    assert "entry for this client certificate has expired" in refusal(check, shown("CN:shop")).detail
    check.replace([msgspec.structs.replace(rated, revoked=soon)])
    assert "was revoked" in refusal(check, shown("CN:slow")).detail


def test_the_names_of_a_certificate_are_those_of_its_subject_and_its_alternative_names() -> None:
    peer = {
        "subject": ((("organizationName", "CN=root"),), (("commonName", "Shop A"),)),
        "subjectAltName": (
            ("DNS", "Shop.Example.com"),
            ("URI", "spiffe://Example/Shop"),
            ("email", "A@example.com"),
            ("IP Address", "127.0.0.1"),
        ),
        "notAfter": "Jan  1 00:00:00 2030 GMT",
    }
    names = ("DNS:shop.example.com", "URI:spiffe://Example/Shop", "email:a@example.com", "CN:Shop A")
    assert certificate_of(peer) == Certificate(names, datetime(2030, 1, 1, tzinfo=UTC).timestamp())
    assert certificate_of({}) is None
    assert certificate_of(None) is None


@pytest.mark.parametrize(
    ("digits", "setting", "rounded"), [(0, 0, 0), (2, 0, 2), (0, 3, 3), (2, 3, 2), (4, 3, 3)]
)
def test_of_a_key_and_the_setting_the_fewer_digits_count(digits: int, setting: int, rounded: int) -> None:
    secret, key = made(digits=digits)
    found = Check([key], digits=setting).admit(asked(secret))
    assert found is not None
    assert found.digits == rounded
