"""The decision about one request, by the keys that hold now.

A decision that admits is remembered with the credentials that it was made for, as long as the file of keys
stays the same: a snapshot of the keys and what was granted by them are replaced by one assignment.
"""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

import msgspec

from serving.access.brake import Brake
from serving.access.keys import Keys
from serving.access.rates import Bucket, per_second
from serving.access.request import Principal, Refused
from serving.access.rights import ANY, OPEN, Need, needed
from serving.errors import Problem, overloaded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from serving.access.certificate import Certificate
    from serving.access.keys import Key
    from serving.access.request import AccessRequest
    from serving.access.tokens import Tokens
    from serving.errors import Headers

MAX_GRANTS = 2_048
MAX_REMEMBERED_BYTES = 4_096  # of a path and its credentials
REALM = b'Bearer realm="okamochi"'


class Grant(msgspec.Struct, frozen=True, gc=False):
    """What was decided for one path and one caller.

    Parameters
    ----------
    expires_at
        In seconds since 1970.
    bucket
        None for a key without a rate.
    timed
        Whether the key expires or has a rate: then each request looks at the clock.
    """

    principal: Principal | None
    expires_at: float
    bucket: Bucket | None
    timed: bool


class Snapshot(msgspec.Struct, frozen=True):
    """One state of the file of keys, and what was granted by it.

    Parameters
    ----------
    keys
        None where no file could be read yet.
    tokens
        None without a JWKS, or where it could not be read yet.
    """

    keys: Keys | None
    tokens: Tokens | None
    granted: dict[AccessRequest, Grant]
    buckets: dict[str, Bucket]


class Check:
    """Decides about requests.

    Parameters
    ----------
    keys
        Of the file; None if it could not be read.
    workers
        The processes that share the rate of a key.
    digits
        Digits that probabilities are rounded to for every caller, unless the key says fewer; 0: not rounded.

    Attributes
    ----------
    now
        What holds now; `replace` assigns another.
    unknown_key
        Whether a token was signed with a key that the JWKS does not have; `KeysWatch` resets it.
    """

    def __init__(
        self,
        keys: Iterable[Key] | None,
        *,
        workers: int = 1,
        digits: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._workers = workers
        self._digits = digits
        self._clock = clock
        self._brake = Brake()
        self._replacing = threading.Lock()
        self.now = Snapshot(None, None, {}, {})
        self.unknown_key = False
        if keys is not None:
            self.replace(keys)

    def replace(self, keys: Iterable[Key]) -> None:
        """Let these keys hold; everything that was remembered is forgotten. Called from any thread."""
        found = Keys(keys)
        buckets: dict[str, Bucket] = {}
        with self._replacing:
            for key in found.all:
                if key.rate:
                    per_s = per_second(key.rate) / self._workers
                    old = self.now.buckets.get(key.id)
                    buckets[key.id] = old if old is not None and old.per_s == per_s else Bucket(per_s)
            self.now = Snapshot(found, self.now.tokens, {}, buckets)

    def replace_tokens(self, tokens: Tokens) -> None:
        """Let these public keys check tokens from now on; likewise."""
        with self._replacing:
            keys = self.now.keys
            self.now = Snapshot(keys if keys is not None else Keys(()), tokens, {}, self.now.buckets)

    def admit(self, request: AccessRequest) -> Principal | None:
        """The caller of an admitted request; None for an open route.

        Raises
        ------
        Problem
            401, 403, or 429 for a key whose rate is used up; 503 where the keys could never be read. It is
            a `Refused` where the key is valid.
        """
        snapshot = self.now
        grant = snapshot.granted.get(request)
        if grant is None:
            grant = self._decide(request, snapshot)
        if grant.timed:
            now = self._clock()
            if grant.expires_at <= now:
                self._decide(request, snapshot)  # raises that it expired
            bucket = grant.bucket
            if bucket is not None:
                if bucket.full_at <= now:  # as `take` does, without its call: 0.1 us less
                    bucket.full_at = now + bucket.step
                elif not bucket.take(now):
                    raise _used_up(grant, bucket.wait_s(now))
        return grant.principal

    def _decide(self, request: AccessRequest, snapshot: Snapshot) -> Grant:
        need = needed(request.method, request.path)
        if need.right == OPEN:
            return Grant(None, math.inf, None, timed=False)
        try:
            grant = self._authenticate(request, snapshot)
        except Problem as problem:
            if problem.reason == "bad_credentials":
                problem.wait_s = self._brake.wait_s()
            raise
        assert grant.principal is not None  # noqa: S101 - of a key
        try:
            _authorize(grant.principal, need, request)
        except Problem as problem:
            raise Refused(problem, grant.principal) from None
        size = len(request.path) + sum(len(value) for _, value in request.credentials)
        if request.certificate is not None:
            size += sum(map(len, request.certificate.names))
        if size <= MAX_REMEMBERED_BYTES:
            if len(snapshot.granted) >= MAX_GRANTS:
                snapshot.granted.clear()
            snapshot.granted[request] = grant
        return grant

    def _authenticate(self, request: AccessRequest, snapshot: Snapshot) -> Grant:
        # A key that is shown decides alone: a certificate never stands in for a wrong one.
        by_certificate = request.certificate if not request.credentials else None
        secret = b"" if by_certificate is not None else _secret_of(request.credentials)
        if snapshot.keys is None:
            raise Problem(
                503, "The server cannot read its keys; its log has the reason.", error="no keys were read"
            )
        if by_certificate is not None:
            return self._by_certificate(by_certificate, snapshot)
        if snapshot.tokens is not None and secret.count(b".") == 2:  # a key has no dot
            return self._by_token(secret, snapshot.tokens)
        key = snapshot.keys.find(secret)
        if key is None:
            raise _refused("This key is unknown.", tried=True)
        if key.revoked is not None:
            raise _refused("This key was revoked.", tried=True)
        if key.expires is not None and key.expires_at <= self._clock():
            raise _refused(f"This key expired at {key.expires.isoformat()}.", tried=True)
        return self._granted(key, key.expires_at, snapshot)

    def _by_certificate(self, certificate: Certificate, snapshot: Snapshot) -> Grant:
        assert snapshot.keys is not None  # noqa: S101 - the caller has looked
        now = self._clock()
        if certificate.ends <= now:
            raise _refused("This client certificate has expired.", tried=True)
        named = snapshot.keys.of_certificate(certificate)
        if not named:
            shown = ", ".join(certificate.names)[:200] or "none"
            raise _refused(f"A key is needed: no entry is for this client certificate (names: {shown}).")
        held = [key for key in named if key.revoked is None]
        valid = [key for key in held if key.expires_at > now]
        if not valid:
            what = "has expired" if held else "was revoked"
            raise _refused(f"The entry for this client certificate {what}.", tried=True)
        if len(valid) > 1:
            raise _refused("This client certificate has the names of several entries.", tried=True)
        return self._granted(valid[0], min(valid[0].expires_at, certificate.ends), snapshot)

    def _granted(self, key: Key, expires_at: float, snapshot: Snapshot) -> Grant:
        models = frozenset(key.models) if key.models else None
        bucket = snapshot.buckets.get(key.id)
        timed = bucket is not None or not math.isinf(expires_at)
        digits = min(key.digits or self._digits, self._digits or key.digits)
        return Grant(Principal(key.name, key.rights, models, digits), expires_at, bucket, timed=timed)

    def _by_token(self, secret: bytes, tokens: Tokens) -> Grant:
        from serving.access.tokens import BadTokenError, UnknownKeyError

        try:
            granted = tokens.check(secret)
        except BadTokenError as error:
            self.unknown_key = self.unknown_key or isinstance(error, UnknownKeyError)
            raise _refused(f"This token is refused: {error}.", tried=True) from None
        return Grant(granted.principal, granted.expires_at, None, timed=True)


def _used_up(grant: Grant, wait_s: int) -> Problem:
    name = grant.principal.name if grant.principal is not None else ""
    problem = overloaded(f"The key of {name!r} has used up its rate.", "rate_exceeded", wait_s)
    return Refused(problem, grant.principal)


def _secret_of(credentials: Headers) -> bytes:
    """The key that a request shows.

    Raises
    ------
    Problem
        401.
    """
    if not credentials:
        raise _refused("A key is needed: `Authorization: Bearer KEY` or `X-API-Key: KEY`.")
    if len(credentials) > 1:
        raise _refused("Send one key, in `Authorization` or in `X-API-Key`, once.", tried=True)
    name, value = credentials[0]
    if name == b"x-api-key":
        secret = value.strip()
    else:
        scheme, _, secret = value.strip().partition(b" ")
        if scheme.lower() != b"bearer":
            raise _refused("Expected `Authorization: Bearer KEY`; no other scheme is supported.", tried=True)
        secret = secret.strip()
    if not secret:
        raise _refused("The key is empty.", tried=True)
    return secret


def demand(principal: Principal | None, right: str) -> None:
    """Refuse a caller who lacks a right. A server without keys has no callers and refuses nothing.

    Raises
    ------
    Problem
        403.
    """
    if principal is not None and not principal.may(right):
        scope = b', error="insufficient_scope", scope="%s"' % right.encode()
        raise Problem(
            403, f"This key lacks the right {right!r}.", headers=((b"www-authenticate", REALM + scope),)
        )


def demand_admin(principal: Principal | None, *, keys: bool, local: bool) -> None:
    """Refuse a caller who may not change what is served.

    Parameters
    ----------
    keys
        Whether the server requires keys. Without keys, every client on the machine is an administrator.
    local
        Whether the client is on this machine and is not a web page of another site.

    Raises
    ------
    Problem
        403.
    """
    demand(principal, "admin")
    if not keys and not local:
        raise Problem(
            403,
            "This needs the right 'admin'. The server has no keys, so only a client on its own machine has "
            "it; set OKAMOCHI_KEYS to give it to others.",
        )


def _authorize(principal: Principal, need: Need, request: AccessRequest) -> None:
    """Refuse what the key is not for, in the same words whether the model exists or not.

    Raises
    ------
    Problem
        403.
    """
    if need.right != ANY:
        demand(principal, need.right)
    if principal.models is None:
        return
    if need.all_models:
        raise Problem(403, f"This key is for some models only, and {request.path} is about all of them.")
    model = need.model or (request.model if need.default_model else "")
    if model and not principal.may_use(model):
        raise Problem(403, "This key lacks the right to this model.")


def _refused(detail: str, *, tried: bool = False) -> Problem:
    """401; `tried` if the request showed a key that is not valid."""
    challenge = REALM + (b', error="invalid_token"' if tried else b"")
    return Problem(
        401,
        detail,
        headers=((b"www-authenticate", challenge),),
        reason="bad_credentials" if tried else "no_credentials",
    )
