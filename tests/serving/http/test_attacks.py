"""Thousands of requests without a valid key or without the right, on both lanes: none is answered."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx
import pytest

from serving.access.rights import ANY, OPEN, TABLE, needed
from tests.serving.http.attacks import (
    KINDS,
    ORIGIN,
    STATUS,
    Attack,
    answered,
    attacks,
    got_through,
    head,
    lacking,
    locked,
    ring,
)
from tests.serving.http.lanes import BODY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Server
    from tests.serving.artifacts import Made

RING = ring()
COUNT = 1_500


@pytest.fixture(scope="module", params=[True, False], ids=["express", "gateway"])
def server(
    request: pytest.FixtureRequest, made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("attacked")
    with locked(folder, made, RING, express=request.param) as found:
        yield found


def test_no_attack_is_answered(server: Server) -> None:
    through = got_through(server, 20, COUNT, RING)

    assert not through, f"{len(through)} of {COUNT}, the first: {through[0]}"


METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE")
AT_ONCE = 30  # requests on a connection


def statuses(server: Server, asked: list[tuple[str, str, list[str]]]) -> dict[tuple[str, str], int]:
    """The status of each request, by its method and path."""
    found = {}
    for start in range(0, len(asked), AT_ONCE):
        some = asked[start : start + AT_ONCE]
        sent = tuple(
            head(method, path, lines, length=len(BODY) if method == "POST" else None)
            + (BODY if method == "POST" else b"")
            for method, path, lines in some
        )
        stream = answered(server, Attack("each", (b"".join(sent),)))[1]
        codes = [int(code) for code in STATUS.findall(stream)]
        assert len(codes) == len(some), stream[-500:]
        found |= {each[:2]: code for each, code in zip(some, codes, strict=True)}
    return found


def served(server: Server) -> set[tuple[str, str]]:
    """Method and path of each route that the running server describes, and of each that the table has."""
    document = httpx.get(f"{server.url}/openapi.json", headers={"X-API-Key": RING.admin}).json()
    found = {(method.upper(), path) for path, each in document["paths"].items() for method in each}
    found |= {(row.method, row.pattern) for row in TABLE}
    return {(method, path.replace("{name}", "iris").replace("{version}", "12")) for method, path in found}


def test_every_route_is_refused_without_a_key_and_without_its_right(server: Server) -> None:
    """The routes are those that the running server describes; a new one needs a row in `rights.TABLE`."""
    routes = served(server)
    missing = [route for route in routes if needed(*route).right == ANY and not has_row(*route)]
    assert not missing, "serving/access/rights.py does not say which right these routes need"
    paths = sorted({path for _, path in routes})
    preflight = [f"Origin: {ORIGIN}", "Access-Control-Request-Method: POST"]
    for lines in (
        [],
        ["X-API-Key: x"],
        [f"Authorization: Bearer {RING.expired}"],
        [f"Origin: {ORIGIN}"],
        preflight,
    ):
        asked = [(method, path, lines) for path in paths for method in METHODS]
        for route, code in statuses(server, asked).items():
            browser = lines is preflight and route[0] == "OPTIONS"
            is_open = needed(*route).right == OPEN  # tests/serving/access/test_rights.py lists these
            assert code == (200 if is_open else 204 if browser else 401), (route, lines)
    for secret, rights, models in ((RING.ops, {"observe"}, None), (RING.shop, {"predict"}, {"iris"})):
        asked = [(method, path, [f"X-API-Key: {secret}"]) for method, path in lacking(rights, models)]
        refused = statuses(server, asked)
        assert set(refused.values()) == {403}, {route for route, code in refused.items() if code != 403}


def has_row(method: str, path: str) -> bool:
    return any(
        row.method == method and re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(row.pattern)), path)
        for row in TABLE
    )


def test_a_page_learns_nothing_by_asking_first(server: Server) -> None:
    """A preflight needs no key, so its reply is the same for every path, whether that is there or not."""
    lines = [f"Origin: {ORIGIN}", "Access-Control-Request-Method: POST"]
    replies = set()
    for path in ("/predict", "/nowhere", "/models/loans/predict", "/models/nobody/predict", "/metrics"):
        stream = answered(server, Attack("preflight", (head("OPTIONS", path, lines),)))[1]
        replies.add(re.sub(rb"(?i)(date|x-request-id): [^\r]*\r\n", b"", stream))
    assert len(replies) == 1, replies


def test_what_is_allowed_is_answered(server: Server) -> None:
    """Else the attacks would prove nothing: the right key is answered, and so are good requests among bad."""
    good = head("POST", "/predict", [f"X-API-Key: {RING.shop}"], length=len(BODY)) + BODY
    assert answered(server, Attack("good", (good * 3,)))[0] == 3
    kinds = {}
    for attack in attacks(21, 400, RING):
        kinds.setdefault(attack.kind, []).append(attack)
    assert len(kinds) == len(set(KINDS))
    for attack in kinds["remembered"][:20]:
        assert answered(server, attack)[0] == attack.allowed
