"""Tokens of an identity provider: who is admitted, and every way to forge one."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
from base64 import urlsafe_b64encode
from functools import partial
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from serving.access import tokens
from serving.access.keys import KeysError
from serving.access.request import AccessRequest, Principal
from serving.access.watch import KeysWatch
from serving.errors import Problem
from serving.settings import Settings, SettingsError, read
from tests.certificates import issued

if TYPE_CHECKING:
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


def test_a_url_is_read_by_tls_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider with a certificate that the server trusts, and the same one untrusted."""
    authority, certificate, key = issued(tmp_path, "127.0.0.1")
    (tmp_path / "jwks.json").write_bytes(BOTH)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as provider:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        provider.socket = context.wrap_socket(provider.socket, server_side=True)
        threading.Thread(target=provider.serve_forever, daemon=True).start()
        url = f"https://127.0.0.1:{provider.server_port}/jwks.json"
        with pytest.raises(KeysError, match="cannot be read"):
            tokens.read(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        assert tokens.read(url) == BOTH
        with pytest.raises(KeysError, match="cannot be read"):
            tokens.read(url + ".absent")
        provider.shutdown()


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
