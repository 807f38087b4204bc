"""Tokens of an identity provider (JWT, RFC 7519), checked by the public keys of a JWKS file or URL.

Only algorithms with public keys are supported. So a token that says `none`, or that is signed with a public
key as if it were a secret (`HS256`), is refused.
"""

from __future__ import annotations

import json
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jwt
import msgspec

from artifact.regular import read_regular
from serving.access.keys import OWNER_RULE, KeysError
from serving.access.request import Principal
from serving.access.rights import RIGHTS

if TYPE_CHECKING:
    from serving.settings import Settings

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY_S = 30
"""How far the clocks of the server and the identity provider may differ."""
MAX_BYTES = 1024 * 1024  # of a JWKS
MAX_TOKEN_BYTES = 8_192
TIMEOUT_S = 5.0
"""How long a provider may take, to answer and then to send its JWKS."""
CLAIM_ROLES, CLAIM_MODELS = "roles", "models"


class BadTokenError(Exception):
    """Why a token is refused, for its sender."""


class UnknownKeyError(BadTokenError):
    """It was signed with a key that the JWKS does not have, or not yet."""


class Granted(NamedTuple):
    """What a token grants, and until when, in seconds since 1970."""

    principal: Principal
    expires_at: float


class Tokens:
    """Checks tokens by one set of public keys.

    Parameters
    ----------
    content
        A JWKS (RFC 7517).

    Raises
    ------
    KeysError
        The content is not a JWKS, or has no public key for a supported algorithm.
    """

    def __init__(self, content: bytes, settings: Settings) -> None:
        self._settings = settings
        self._keys: dict[str, jwt.PyJWK] = {}
        try:
            found = [each for each in json.loads(content)["keys"] if _is_public(each)]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise KeysError(
                f"OKAMOCHI_JWKS: {settings.jwks} is no JWKS ({type(error).__name__}); expected "
                '{"keys": [...]} with public keys.'
            ) from None
        for each in found:
            with suppress(jwt.PyJWTError, ValueError, TypeError):  # a provider may have keys of newer kinds
                key = jwt.PyJWK(each)
                if key.algorithm_name in ALGORITHMS:
                    self._keys[str(each.get("kid", ""))] = key
        if not self._keys:
            raise KeysError(
                f"OKAMOCHI_JWKS: {settings.jwks} has no public key for one of {', '.join(ALGORITHMS)}."
            )

    def check(self, token: bytes) -> Granted:
        """Who shows a token.

        Raises
        ------
        BadTokenError
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise BadTokenError("it is too long")
        try:
            kid = str(jwt.get_unverified_header(token).get("kid", ""))
            key = self._keys.get(kid)
            if key is None and not kid and len(self._keys) == 1:
                (key,) = self._keys.values()
            if key is None:
                raise UnknownKeyError("its key is unknown")
            claims = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=self._settings.jwt_audience,
                issuer=self._settings.jwt_issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "sub", "aud", "iss"]},
            )
            expires_at = float(claims["exp"]) + LEEWAY_S
        except jwt.PyJWTError as error:
            raise BadTokenError(_REASONS.get(type(error), "it is not valid")) from None
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise BadTokenError("it is not valid") from None
        principal = msgspec.structs.replace(principal_of(claims), digits=self._settings.probability_digits)
        return Granted(principal, expires_at)


_REASONS: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "it has expired",
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.InvalidAudienceError: "it is for another audience",
    jwt.InvalidIssuerError: "it is of another issuer",
    jwt.InvalidAlgorithmError: "its algorithm is not supported",
    jwt.InvalidSignatureError: "its signature is wrong",
    jwt.MissingRequiredClaimError: "it lacks one of the claims exp, sub, aud and iss",
}


def _is_public(key: Any) -> bool:
    """Whether a key of a JWKS verifies signatures; a shared secret (`oct`) never does here."""
    return key.get("kty") in ("RSA", "EC", "OKP") and "d" not in key and key.get("use", "sig") == "sig"


def principal_of(claims: dict[str, Any]) -> Principal:
    """The caller that a token names; `roles` and `models` are its claims, as a list or with blanks between.

    Raises
    ------
    BadTokenError
    """
    name = str(claims["sub"])
    if not OWNER_RULE.fullmatch(name):
        raise BadTokenError("its claim sub is not a name of 1 to 64 letters, digits and . _ @ -")
    roles = _words(claims, CLAIM_ROLES) or frozenset()
    rights = frozenset(RIGHTS) if "admin" in roles else roles & frozenset(RIGHTS)
    return Principal(name, rights, _words(claims, CLAIM_MODELS))


def _words(claims: dict[str, Any], claim: str) -> frozenset[str] | None:
    """The words of a claim; None where the token does not have it."""
    if claim not in claims:
        return None
    value = claims[claim]
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise BadTokenError(f"its claim {claim} is neither a text nor a list of texts")
    return frozenset(words)


def is_url(target: str) -> bool:
    """Whether a JWKS is at a URL, else it is a file."""
    return target.startswith("https://")


def read(target: str) -> bytes:
    """The content of a JWKS file or URL.

    Raises
    ------
    KeysError
    """
    try:
        content = _read_url(target) if is_url(target) else read_regular(Path(target), MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise KeysError(f"OKAMOCHI_JWKS: {target} cannot be read ({error}).") from None
    if len(content) > MAX_BYTES:
        raise KeysError(f"OKAMOCHI_JWKS: {target} is larger than {MAX_BYTES} bytes.")
    return content


class _ByTlsAlone(urllib.request.HTTPRedirectHandler):
    """Follows no address that leads away from HTTPS, where others could send keys of their own."""

    def redirect_request(self, *arguments: Any) -> urllib.request.Request | None:
        newurl = str(arguments[-1])
        if not is_url(newurl):
            raise OSError(f"it leads to {newurl[:200]}, expected an https:// address")
        return super().redirect_request(*arguments)


def _read_url(url: str) -> bytes:
    opener = urllib.request.build_opener(_ByTlsAlone)
    parts: list[bytes] = []
    with opener.open(url, timeout=TIMEOUT_S) as reply:
        end = time.monotonic() + TIMEOUT_S
        while (part := reply.read1(65_536)) and sum(map(len, parts)) <= MAX_BYTES:
            parts.append(part)
            if time.monotonic() > end:
                raise OSError(f"it was not sent within {TIMEOUT_S:g} s")
    return b"".join(parts)
