"""Requests that must not be answered: generated, each the bytes of one connection."""

from __future__ import annotations

import gzip
import re
import socket
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from serving.access import keys
from serving.access.rights import ANY, OPEN, TABLE
from tests.bento_server import bento_server, prepare
from tests.serving.http.lanes import BODY, NAMES, connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from serving.access.keys import Key
    from tests.servers import Server
    from tests.serving.artifacts import Made

PAST = datetime(2020, 1, 1, tzinfo=UTC)
AT_ONCE = 16
ORIGIN = "https://pages.example.com"
NO_BRAKE = "\nfrom serving.access import brake\nbrake.MAX_S = 0.0\n"


class Ring(NamedTuple):
    """The keys of a server, by what they are."""

    shop: str  # may predict with iris alone
    ops: str  # may observe
    expired: str
    revoked: str
    entries: tuple[Key, ...]
    admin: str


class Attack(NamedTuple):
    """What one connection sends, and how many of its requests may be answered."""

    kind: str
    chunks: tuple[bytes, ...]
    allowed: int = 0


def ring() -> Ring:
    made = {
        "shop": keys.make("shop", ["predict"], models=["iris"]),
        "ops": keys.make("ops", ["observe"]),
        "expired": keys.make("expired", ["admin"], expires=PAST),
    }
    secret, key = keys.make("revoked", ["admin"])
    data = {name: getattr(key, name) for name in key.__struct_fields__} | {"revoked": PAST}
    admin, whole = keys.make("admin", ["admin"])
    entries = (*(each for _, each in made.values()), type(key)(**data), whole)
    return Ring(*(secret for secret, _ in made.values()), secret, entries, admin)


@contextmanager
def locked(folder: Path, made: dict[str, Made], of: Ring, *, express: bool, **more: str) -> Iterator[Server]:
    """A server of these keys that refuses without a pause."""
    prepare(folder, {name: (made[name].path, version) for name, version in NAMES.items()})
    service = folder / "service.py"
    service.write_text(service.read_text() + NO_BRAKE)
    keys.write(folder / "keys.json", of.entries)
    settings = {
        "OKAMOCHI_KEYS": str(folder / "keys.json"),
        "OKAMOCHI_EXPRESS": str(int(express)),
        "OKAMOCHI_CORS_ORIGINS": ORIGIN,
        **more,
    }
    with bento_server(folder, settings=settings, ready="/livez") as server:
        yield server


def routes(random: Random) -> tuple[str, str, str]:
    """Method and path of a route that needs a key, and the right that it needs."""
    row = random.choice([row for row in TABLE if row.right != OPEN])
    path = row.pattern.replace("{name}", random.choice(["iris", "loans", "nobody"]))
    return row.method, path.replace("{version}", random.choice(["12", "2", "99"])), row.right


def posted(random: Random) -> str:
    """A route of POST that needs a key."""
    while True:
        method, path, _ = routes(random)
        if method == "POST":
            return path


def wrong_secret(random: Random, of: Ring) -> str:
    half = len(of.shop) // 2
    return random.choice(
        [
            "",
            "x",
            "null",
            "okamochi_",
            of.expired,
            of.revoked,
            of.shop[:half] + keys.make("x", ["predict"])[0][half:],
            of.shop[:-1],
            of.shop + "A",
            of.shop.upper(),
            of.shop.swapcase(),
            of.shop.replace("_", "-"),
            "%" + of.shop,
            of.shop.replace("o", "%6f", 1),
            of.entries[0].hash,
            of.entries[0].hash[7:],
            of.entries[0].id,
            f"{of.shop},{of.shop}",
            f"{of.shop} {of.ops}",
            b64encode(of.shop.encode()).decode(),
            "\xa0" + of.shop,
            of.shop + "\xff",
            "*",
            "' OR 1=1 --",
            keys.make("x", ["admin"])[0],
        ]
    )


def header_of(random: Random, secret: str) -> str:
    name = random.choice(
        ["Authorization", "authorization", "AUTHORIZATION", "X-API-Key", "x-api-key", "X-Api-KEY"]
    )
    if name.lower() == "x-api-key":
        return f"{name}: {secret}"
    return f"{name}: {random.choice(['Bearer', 'bearer', 'BEARER'])} {secret}"


def no_credentials(random: Random, of: Ring) -> list[str]:
    """Lines that show no valid key, even where a right one stands in the wrong place."""
    right, wrong = of.shop, wrong_secret(random, of)
    shown = header_of(random, right)
    choices = [
        [],
        [header_of(random, wrong)],
        [header_of(random, wrong)],
        [f"Authorization: Basic {b64encode(f'shop:{right}'.encode()).decode()}"],
        [f"Authorization: {right}"],
        [f"Authorization: Token {right}"],
        [f"X-API-Key: Bearer {right}"],
        [f"Proxy-Authorization: Bearer {right}"],
        [f"Cookie: X-API-Key={right}; authorization=Bearer {right}"],
        [f"X_API_KEY: {right}"],
        [f"X-API-Key2: {right}"],
        [f"X-API-Key : {right}"],
        [f" X-API-Key: {right}"],
        [f"X-A: 1\r\n X-API-Key: {right}"],
        [f"X-API-Key:\r\n {wrong}"],
        [f"Authorization: Bearer\r\n\t{wrong}"],
        [f"X-API-Key: {right[:20]}\r\n {right[20:]}"],
        [f"X-A: 1\rX-API-Key: {right}"],
        [f"X-A: 1\0X-API-Key: {right}"],
        [shown, header_of(random, wrong)],
        [header_of(random, wrong), shown],
        [shown, shown],
        [f"Authorization: Bearer {right}", f"X-API-Key: {of.ops}"],
        [header_of(random, wrong), "X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1"],
        [header_of(random, wrong), "X-Original-URL: /livez", "X-Rewrite-URL: /livez"],
        [header_of(random, wrong), "X-HTTP-Method-Override: GET"],
        [header_of(random, wrong), f"X-Forwarded-Authorization: Bearer {right}"],
        [header_of(random, wrong), "Connection: authorization, x-api-key"],
    ]
    return random.choice(choices)


def head(
    method: str, path: str, lines: list[str], *, version: str = "1.1", length: int | None = None
) -> bytes:
    more = [f"Content-Length: {length}"] if length is not None else []
    all_lines = [f"{method} {path} HTTP/{version}", "Host: h", *lines, *more]
    return "\r\n".join(all_lines).encode("latin-1") + b"\r\n\r\n"


def respelled(random: Random, path: str) -> str:
    """A path as proxies and attackers spell it."""
    place = random.randrange(1, len(path)) if len(path) > 1 else 0
    return random.choice(
        [
            path,
            path[:place] + f"%{ord(path[place]):02x}" + path[place + 1 :],
            path[:place] + f"%{ord(path[place]):02X}" + path[place + 1 :],
            "/" + path,
            path + "/",
            path + "?x=/livez",
            path + "#/livez",
            path + "%00",
            path + ";/livez",
            "/." + path,
            "/livez/.." + path,
            "/livez%2f.." + path,
            "/livez/%2e%2e" + path,
            "/v2/health/live/../../.." + path,
            f"http://h{path}",
            f"http://livez@h{path}",
            f"HTTP://H:80{path}",
            path.upper(),
            path + "?X-API-Key=x",
        ]
    )


def attacks(seed: int, count: int, of: Ring) -> Iterator[Attack]:
    """So many attacks, the same for a seed."""
    random = Random(seed)  # noqa: S311 - no secret
    for _ in range(count):
        yield random.choice(KINDS)(random, of)


def plain(random: Random, of: Ring) -> Attack:
    """A route, its path as it is or respelled, with no valid key; in one packet, in two, or byte by byte."""
    method, path, _ = routes(random)
    method = random.choice(
        [method] * 4 + ["GET", "POST", "HEAD", "OPTIONS", "PUT", "post", "DELETE", "TRACE"]
    )
    body = random.choice([BODY, b"{}", b""]) if method == "POST" else b""
    version = random.choice(["1.1", "1.1", "1.1", "1.0"])
    lines = no_credentials(random, of)
    whole = head(method, respelled(random, path), lines, version=version, length=len(body)) + body
    cut = random.randrange(1, len(whole))
    chunks = random.choice([(whole,), (whole,), (whole[:cut], whole[cut:]), (whole[:-1], whole[-1:])])
    return Attack("plain", chunks)


def lacking(rights: set[str], models: set[str] | None = None) -> list[tuple[str, str]]:
    """Method and path of each route that a key with these rights, for these models, must not use."""
    found = []
    for row in TABLE:
        for name in ("iris", "loans", "nobody") if "{name}" in row.pattern else ("iris",):  # the default one
            foreign = models is not None and (row.all_models or name not in models)
            if row.right != OPEN and (row.right not in {*rights, ANY} or foreign):
                version = NAMES.get(name, "9")
                found.append((row.method, row.pattern.replace("{name}", name).replace("{version}", version)))
    return found


def swapped(random: Random, of: Ring) -> Attack:
    """A valid key on a route that it has no right to."""
    foreign = [(of.ops, *asked) for asked in lacking({"observe"})]
    foreign += [(of.shop, *asked) for asked in lacking({"predict"}, {"iris"})]
    secret, method, path = random.choice(foreign)
    body = BODY if method == "POST" else b""
    spelled = random.choice([path, respelled(random, path)])
    return Attack("swapped", (head(method, spelled, [header_of(random, secret)], length=len(body)) + body,))


def remembered(random: Random, of: Ring) -> Attack:
    """A head that was answered, and then the same but for the key, in each position."""
    filler = [f"X-{letter}: {random.randrange(3)}" for letter in "ABC"[: random.randrange(4)]]
    place = random.randrange(len(filler) + 1)
    name = random.choice(["Authorization: Bearer ", "X-API-Key: "])

    def with_key(secret: str) -> bytes:
        lines = [*filler[:place], *([name + secret] if secret else []), *filler[place:]]
        return head("POST", "/predict", lines, length=len(BODY)) + BODY

    good = [with_key(of.shop)] * random.randrange(1, 4)
    bad = [with_key(random.choice(["", of.expired, of.ops, of.shop[:-1] + "~", of.revoked]))] * 2
    if random.random() < 0.5:
        return Attack("remembered", (b"".join([*good, *bad]),), len(good))
    return Attack("remembered", (*good, *bad), len(good))


def chunked(random: Random, of: Ring) -> Attack:
    """Chunks, and a right key in the trailer."""
    lines = [*no_credentials(random, of), "Transfer-Encoding: chunked"]
    trailer = random.choice(
        [b"", f"X-API-Key: {of.shop}\r\n".encode(), f"Authorization: Bearer {of.shop}\r\n".encode()]
    )
    body = b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(BODY), BODY, trailer)
    return Attack("chunked", (head("POST", posted(random), lines) + body,))


def coded(random: Random, of: Ring) -> Attack:
    """A compressed body, a form of files, or what a page of another origin sends, without a valid key."""
    zipped = random.choice([gzip.compress(BODY), gzip.compress(b" " * 10_000_000), b"\x1f\x8b\x08\0", BODY])
    parts = (
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="f.json"\r\n\r\n%s\r\n--b--\r\n' % BODY
    )
    body, lines = random.choice(
        [
            (zipped, ["Content-Encoding: gzip"]),
            (zipped, ["Content-Encoding: gzip, gzip", "Accept-Encoding: gzip"]),
            (parts, ["Content-Type: multipart/form-data; boundary=b"]),
            (BODY, [f"Origin: {ORIGIN}"]),
            (BODY, [f"Origin: {ORIGIN}", "Access-Control-Request-Method: POST"]),
            (BODY, ["Origin: null", f"Access-Control-Request-Headers: x-api-key, {of.shop}"]),
        ]
    )
    whole = head("POST", posted(random), [*no_credentials(random, of), *lines], length=len(body)) + body
    return Attack("coded", random.choice([(whole,), (whole[:90], whole[90:])]))


def smuggled(random: Random, of: Ring) -> Attack:
    """A request with a right key inside the body of a refused one, with lengths that disagree."""
    inner = head("POST", "/predict", [f"X-API-Key: {of.shop}"], length=len(BODY)) + BODY
    lines = [header_of(random, random.choice(["x", of.expired, of.revoked]))]
    size, ends = (
        len(inner),
        random.choice(
            [
                ["Content-Length: {n}"],
                ["Content-Length: {n}", "Content-Length: 0"],
                ["Content-Length: 0", "Content-Length: {n}"],
                ["Content-Length: 0, {n}"],
                ["Content-Length: +0"],
                ["Content-Length: {n}", "Transfer-Encoding: chunked"],
                ["Transfer-Encoding: chunked", "Content-Length: 4"],
                ["Transfer-Encoding: xchunked", "Content-Length: {n}"],
                ["Transfer-Encoding: chunked, identity"],
                ["Transfer-Encoding : chunked", "Content-Length: {n}"],
                ["Transfer-Encoding:\tchunked", "Content-Length: {n}"],
                ["Content-Length: {n}", "Expect: 100-continue"],
            ]
        ),
    )
    more = [line.replace("{n}", str(size)) for line in ends]
    method, path, _ = routes(random)
    return Attack("smuggled", (head(method, path, [*lines, *more]) + inner,))


def offered(random: Random, of: Ring) -> Attack:
    """An offer of another protocol, as a way around."""
    offer = random.choice(
        [
            ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"],
            ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="],
            ["Connection: Upgrade", "Upgrade: TLS/1.0"],
        ]
    )
    method, path, _ = routes(random)
    body = BODY if method == "POST" else b""
    whole = head(method, path, [*no_credentials(random, of), *offer], length=len(body)) + body
    return Attack(
        "offered", (random.choice([whole, whole * 2, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + whole]),)
    )


def pipelined(random: Random, of: Ring) -> Attack:
    """Refused requests one behind the other, on both lanes."""
    parts = []
    for _ in range(random.randrange(2, 6)):
        method, path, _right = routes(random)
        body = BODY if method == "POST" else b""
        secret = random.choice(["", "x", of.expired, of.revoked, of.shop[:-2]])
        lines = [header_of(random, secret)] if secret else []
        parts.append(head(method, path, lines, length=len(body)) + body)
    return Attack("pipelined", random.choice([(b"".join(parts),), tuple(parts)]))


KINDS = (plain, plain, plain, swapped, remembered, chunked, smuggled, offered, pipelined, coded)
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


def answered(server: Server, attack: Attack) -> tuple[int, bytes]:
    """How many of its requests were answered, and all that came back."""
    parts = []
    with connect(server) as connection, suppress(ConnectionResetError):
        with suppress(OSError):  # refused and closed before all was sent
            for chunk in attack.chunks:
                connection.sendall(chunk)
            connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(1 << 16):
            parts.append(part)
    stream = b"".join(parts)
    return sum(200 <= int(status) < 400 for status in STATUS.findall(stream)), stream


def got_through(server: Server, seed: int, count: int, of: Ring) -> list[tuple[Attack, bytes]]:
    """The attacks that got more answers than they may, with the data that came back."""

    def run(attack: Attack) -> tuple[Attack, bytes] | None:
        found, stream = answered(server, attack)
        return (attack, stream) if found > attack.allowed or b" 500 " in stream else None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [each for each in pool.map(run, attacks(seed, count, of)) if each is not None]
