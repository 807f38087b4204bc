"""Tokens of an identity provider: who is admitted, and every way to forge one."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
from base64 import urlsafe_b64encode
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from serving.access import keys, tokens
from serving.access import watch as access_watch
from serving.access.keys import KeysError
from serving.access.request import AccessRequest, Principal
from serving.access.watch import KeysWatch
from serving.errors import Problem
from serving.settings import Settings, SettingsError, read
from tests.certificates import issued
from tests.servers import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RSA = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
SETTINGS = Settings(jwks="jwks.json", jwt_audience="okamochi", jwt_issuer="https://id.example.com/")


def public(key: Any, kid: str, **more: str) -> dict[str, Any]:
    kind = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "EdDSA"
    kind = "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else kind
    found = jwt.get_algorithm_by_name(kind).to_jwk(key.public_key(), as_dict=True)
    return {**found, "kid": kid, "use": "sig", **more}


def jwks(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


BOTH = jwks(public(RSA, "one"), public(EC, "two"), public(ED, "three"))


LIFE_S = 86_400
"""Tokens are made when the file is collected, which may be an hour before its tests."""


def claims(**more: Any) -> dict[str, Any]:
    found = {
        "sub": "shop",
        "aud": "okamochi",
        "iss": "https://id.example.com/",
        "exp": time.time() + LIFE_S,
        "roles": ["predict"],
        **more,
    }
    return {name: value for name, value in found.items() if value is not None}


def token(key: Any = RSA, kid: str | None = "one", algorithm: str = "RS256", **more: Any) -> bytes:
    headers = {"kid": kid} if kid is not None else {}
    return jwt.encode(claims(**more), key, algorithm=algorithm, headers=headers).encode()


def by_hand(head: dict[str, Any], payload: dict[str, Any], signature: bytes = b"") -> bytes:
    parts = [json.dumps(head).encode(), json.dumps(payload).encode(), signature]
    return b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in parts)


@pytest.fixture
def found() -> tokens.Tokens:
    return tokens.Tokens(BOTH, SETTINGS)


@pytest.mark.parametrize(
    ("key", "kid", "algorithm"), [(RSA, "one", "RS256"), (EC, "two", "ES256"), (ED, "three", "EdDSA")]
)
def test_a_right_token_of_each_kind(found: tokens.Tokens, key: Any, kid: str, algorithm: str) -> None:
    granted = found.check(token(key, kid, algorithm))
    assert granted.principal == Principal("shop", frozenset({"predict"}), None)
    assert LIFE_S < granted.expires_at - time.time() < LIFE_S + 100


@pytest.mark.parametrize(
    ("more", "rights", "models"),
    [
        ({"roles": "predict observe"}, {"predict", "observe"}, None),
        ({"roles": ["observe", "of-another-program"]}, {"observe"}, None),
        ({"roles": None}, set(), None),
        ({"roles": ["admin"]}, {"predict", "explain", "feedback", "observe", "admin"}, None),
        ({"models": ["iris"]}, {"predict"}, {"iris"}),
        ({"models": "iris loans"}, {"predict"}, {"iris", "loans"}),
        ({"models": []}, {"predict"}, set()),
        ({"aud": ["okamochi", "another"]}, {"predict"}, None),
    ],
)
def test_roles_and_models(
    found: tokens.Tokens, more: dict[str, Any], rights: set[str], models: set[str] | None
) -> None:
    principal = found.check(token(**more)).principal
    assert principal.rights == rights
    assert principal.models == models


SECRET = RSA.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def hs(secret: bytes, **head: Any) -> bytes:
    """HS256 with a public key as if it were a secret, which PyJWT itself refuses to make."""
    import hashlib
    import hmac

    start = by_hand({"alg": "HS256", "typ": "JWT", "kid": "one", **head}, claims()).rpartition(b".")[0]
    mac = hmac.new(secret, start, hashlib.sha256).digest()
    return start + b"." + urlsafe_b64encode(mac).rstrip(b"=")


WRONG = {
    "another audience": token(aud="another"),
    "no audience": token(aud=None),
    "another issuer": token(iss="https://evil.example.com/"),
    "no issuer": token(iss=None),
    "expired": token(exp=time.time() - 3_600),
    "no end": token(exp=None),
    "an end that is no number": by_hand({"alg": "RS256", "kid": "one"}, claims(exp="later"), b"x"),
    "an end that no float holds": token(exp=10**400),
    "an end without an end": token(exp=float("inf")),
    "a beginning that no float holds": token(nbf=10**400),
    "not yet": token(nbf=time.time() + 3_600),
    "no subject": token(sub=None),
    "a subject that no log takes": token(sub="a\nb"),
    "roles that are none": token(roles=5),
    "models that are none": token(models={"iris": 1}),
    "another key of the same id": token(OTHER),
    "an unknown key": token(OTHER, "four"),
    "no key id": token(RSA, None),
    "the key of another algorithm": token(EC, "one", "ES256"),
    "an algorithm that the key is not for": token(RSA, "one", "PS256"),
    "none": by_hand({"alg": "none", "kid": "one"}, claims()),
    "None": by_hand({"alg": "None", "kid": "one"}, claims()),
    "nothing": by_hand({"kid": "one"}, claims()),
    "the public key as a secret": hs(SECRET),
    "the public key as a secret, in one line": hs(SECRET.strip()),
    "an empty secret": hs(b""),
    "an own key in the head": by_hand(
        {"alg": "RS256", "kid": "one", "jwk": public(OTHER, "one")}, claims(), b"x"
    ),
    "a URL in the head": by_hand({"alg": "RS256", "kid": "one", "jku": "https://x/"}, claims(), b"x"),
    "critical": by_hand({"alg": "RS256", "kid": "one", "crit": ["b64"], "b64": False}, claims(), b"x"),
    "no signature": token().rpartition(b".")[0] + b".",
    "a signature that is cut": token()[:-4],
    "other claims": b".".join(
        [token().split(b".")[0], by_hand({}, claims(roles=["admin"])).split(b".")[1], token().split(b".")[2]]
    ),
    "three dots": b"a.b.c",
    "only dots": b"..",
    "bytes": b"\xff.\xfe.\xfd",
    "a list": by_hand([], claims()),  # type: ignore[arg-type]
    "long": b"a" * 5_000 + b"." + b"b" * 5_000 + b".",
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_token_is_refused(found: tokens.Tokens, what: str) -> None:
    with pytest.raises(tokens.BadTokenError) as refused:
        found.check(WRONG[what])
    said = str(refused.value)
    expected = {
        "another audience": "audience",
        "another issuer": "issuer",
        "expired": "expired",
        "not yet": "not valid yet",
        "an unknown key": "its key is unknown",
        "another key of the same id": "signature",
    }
    assert expected.get(what, "") in said


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"keys": 5}',
        b'{"keys": []}',
        b'{"keys": [5]}',
        jwks({"kty": "oct", "k": "c2VjcmV0", "kid": "one", "alg": "HS256"}),
        jwks({"kty": "RSA", "kid": "one"}),
        jwks({**public(RSA, "one"), "alg": "HS256"}),
        jwks({**public(RSA, "one"), "use": "enc"}),
        jwks({**public(RSA, "one"), "d": "AQAB"}),
    ],
)
def test_what_is_no_jwks(content: bytes) -> None:
    with pytest.raises(KeysError, match=r"OKAMOCHI_JWKS: jwks\.json (is no JWKS|has no public key)"):
        tokens.Tokens(content, SETTINGS)


def test_a_key_of_a_newer_kind_leaves_the_others() -> None:
    found = tokens.Tokens(jwks({"kty": "AKP", "kid": "pq"}, public(RSA, "one", alg="RS256")), SETTINGS)
    assert found.check(token()).principal.name == "shop"
    alone = tokens.Tokens(jwks(public(RSA, "one")), SETTINGS)
    assert alone.check(token(RSA, None)).principal.name == "shop"


def asked(secret: bytes) -> AccessRequest:
    return AccessRequest("POST", "/predict", ((b"authorization", b"Bearer " + secret),), "iris")


def test_a_rotation_counts_without_a_restart_and_a_broken_file_does_not(tmp_path: Path) -> None:
    """Tokens of the old key, which were remembered, are refused once the JWKS has it no more."""
    path = tmp_path / "jwks.json"
    path.write_bytes(jwks(public(RSA, "one")))
    settings = Settings(jwks=str(path), jwt_audience="okamochi", jwt_issuer="https://id.example.com/")
    watch = KeysWatch(settings)
    old, new = token(), token(OTHER, "new")
    for _ in range(2):
        assert watch.check.admit(asked(old)) == Principal("shop", frozenset({"predict"}), None)
    with pytest.raises(Problem, match="its key is unknown"):
        watch.check.admit(asked(new))
    assert watch.check.unknown_key
    path.write_text("{")
    watch.look()
    assert watch.check.admit(asked(old)) is not None
    path.write_bytes(jwks(public(OTHER, "new")))
    watch.look()
    assert watch.check.admit(asked(new)) is not None
    with pytest.raises(Problem) as refused:
        watch.check.admit(asked(old))
    assert refused.value.status == 401
    with pytest.raises(Problem) as unknown:
        watch.check.admit(asked(b"no-token-and-no-key"))
    assert unknown.value.status == 401


class Provider:
    """An identity provider on HTTPS, whose replies a test sets.

    Attributes
    ----------
    reply
        Called for each request.
    asked
        How many requests came.
    """

    def __init__(self, server: http.server.HTTPServer) -> None:
        self.url = f"https://127.0.0.1:{server.server_port}/jwks.json"
        self.asked = 0
        self.reply: Callable[[http.server.BaseHTTPRequestHandler], None] = partial(send, content=BOTH)


def send(to: http.server.BaseHTTPRequestHandler, content: bytes, status: int = 200, where: str = "") -> None:
    to.send_response(status)
    if where:
        to.send_header("Location", where)
    to.send_header("Content-Length", str(len(content)))
    to.end_headers()
    to.wfile.write(content)


@contextmanager
def listening(tls: ssl.SSLContext | None) -> Iterator[Provider]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked += 1
            with suppress(OSError):
                provider.reply(self)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        provider = Provider(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield provider
        server.shutdown()


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    return issued(tmp_path, "127.0.0.1")[0]


@pytest.fixture
def provider(tmp_path: Path, authority: Path) -> Iterator[Provider]:
    assert authority.exists()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "127.0.0.1.pem", tmp_path / "127.0.0.1.key")
    with listening(tls) as found:
        yield found


def test_a_url_is_read_by_tls_alone(
    provider: Provider, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider with a certificate that the server trusts, and the same one untrusted."""
    with pytest.raises(KeysError, match="cannot be read"):
        tokens.read(provider.url)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert tokens.read(provider.url) == BOTH
    provider.reply = partial(send, content=b"", status=404)
    with pytest.raises(KeysError, match="cannot be read"):
        tokens.read(provider.url)


def test_a_url_leads_to_https_alone(
    provider: Provider, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can change what comes over plain HTTP could send public keys of their own."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with listening(None) as plain:
        elsewhere = plain.url.replace("https", "http")
        provider.reply = partial(send, content=b"", status=302, where=elsewhere)
        with pytest.raises(KeysError, match="leads to http://"):
            tokens.read(provider.url)
        assert not plain.asked


def test_an_address_may_lead_to_another_of_https(
    provider: Provider, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))

    def reply(to: http.server.BaseHTTPRequestHandler) -> None:
        if to.path == "/moved":
            send(to, b"", 302, provider.url)
        else:
            send(to, BOTH)

    provider.reply = reply
    assert tokens.read(provider.url.replace("/jwks.json", "/moved")) == BOTH


def test_a_provider_that_sends_slowly_is_given_up(
    provider: Provider, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    monkeypatch.setattr(tokens, "TIMEOUT_S", 0.3)
    provider.reply = drip
    with pytest.raises(KeysError, match=r"within 0\.3 s"):
        tokens.read(provider.url)


def drip(to: http.server.BaseHTTPRequestHandler) -> None:
    """Bytes without an end, each of them soon enough."""
    to.send_response(200)
    to.end_headers()
    while True:
        to.wfile.write(b" ")
        time.sleep(0.02)


def test_a_provider_that_hangs_holds_up_no_change_of_keys(
    provider: Provider, authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is revoked meanwhile is refused."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    monkeypatch.setattr(access_watch, "EVERY_S", 0.05)
    monkeypatch.setattr(access_watch, "URL_UNKNOWN_S", 0.05)
    path = tmp_path / "keys.json"
    secret, key = keys.make("shop", ["predict"])
    keys.write(path, [key])
    watch = KeysWatch(watched(jwks=provider.url, keys=str(path)))
    hanging, ended = threading.Event(), threading.Event()

    def hang(_: object) -> None:
        hanging.set()
        ended.wait(PATIENCE_S)

    provider.reply = hang
    monkeypatch.setattr(tokens, "TIMEOUT_S", PATIENCE_S)
    watch.start()
    try:
        with pytest.raises(Problem, match="its key is unknown"):
            watch.check.admit(asked(token(OTHER, "new")))
        assert hanging.wait(PATIENCE_S)
        assert watch.check.admit(asked(secret.encode())) is not None
        keys.write(path, [])
        until(lambda: refused(watch, secret.encode()))
        assert not ended.is_set()
    finally:
        ended.set()
        watch.close()


def test_a_provider_that_was_away_at_the_start_is_asked_again_soon(
    provider: Provider, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    monkeypatch.setattr(access_watch, "EVERY_S", 0.05)
    monkeypatch.setattr(access_watch, "URL_UNKNOWN_S", 0.05)
    provider.reply = partial(send, content=b"", status=503)
    watch = KeysWatch(watched(jwks=provider.url))
    watch.start()
    try:
        with pytest.raises(Problem) as nobody:
            watch.check.admit(asked(token()))
        assert nobody.value.status == 503
        provider.reply = partial(send, content=BOTH)
        until(lambda: not refused(watch, token()))
        asked_until_then = provider.asked
        assert not refused(watch, token(EC, "two", "ES256"))
        time.sleep(0.5)
        assert provider.asked == asked_until_then, "what was read holds for five minutes"
    finally:
        watch.close()


def watched(**more: str) -> Settings:
    return Settings(jwt_audience="okamochi", jwt_issuer="https://id.example.com/", **more)


def refused(watch: KeysWatch, secret: bytes) -> bool:
    try:
        watch.check.admit(asked(secret))
    except Problem:
        return True
    return False


def until(found: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not found():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"OKAMOCHI_JWKS": "http://id.example.com/"}, "expected a file or an https:// URL"),
        ({"OKAMOCHI_JWT_AUDIENCE": ""}, "OKAMOCHI_JWT_AUDIENCE must be set"),
        ({"OKAMOCHI_JWT_ISSUER": ""}, "OKAMOCHI_JWT_ISSUER must be set"),
    ],
)
def test_settings_that_would_admit_anybodys_tokens(more: dict[str, str], said: str) -> None:
    whole = {"OKAMOCHI_JWKS": "f", "OKAMOCHI_JWT_AUDIENCE": "a", "OKAMOCHI_JWT_ISSUER": "i"}
    assert read(whole).jwks == "f"
    with pytest.raises(SettingsError, match=said):
        read(whole | more)
