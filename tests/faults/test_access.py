"""Keys under attack: 100,000 requests that must not be answered, and the time that a half-right key takes."""

from __future__ import annotations

import time
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from serving.access import keys
from serving.access.check import Check
from serving.access.request import AccessRequest
from serving.errors import Problem
from tests.serving.http.attacks import got_through, locked, ring
from tests.serving.http.lanes import BODY, HOST, connect, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers import Server
    from tests.serving.artifacts import Made

RING = ring()
ATTACKS = 50_000  # on each lane
TIMED = 20_000
SAME = 5.0
"""The largest difference of two mean ranks, in standard errors: by chance once in 1.7 million tests."""


@pytest.fixture(scope="module", params=[True, False], ids=["express", "gateway"])
def attacked(
    request: pytest.FixtureRequest, made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, str]]:
    folder: Path = tmp_path_factory.mktemp("attacked")
    with locked(folder, made, RING, express=request.param) as server:
        yield server, "express" if request.param else "gateway"


@pytest.mark.timeout(3_600)
def test_none_of_100_000_attacks_is_answered(attacked: tuple[Server, str], figures: dict[str, Any]) -> None:
    server, lane = attacked
    through = got_through(server, 2026, ATTACKS, RING)
    figures[f"attacks on keys, {lane} lane"] = {"sent": ATTACKS, "answered": len(through)}

    assert not through, f"{len(through)} of {ATTACKS}, the first: {through[0]}"


def half_right(random: Random) -> str:
    """The right key up to its middle, and then another."""
    place = len(RING.shop) // 2
    return RING.shop[:place] + wrong(random)[place:]


def wrong(random: Random) -> str:
    """A key of which not even the first letter is right."""
    return "".join(random.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ23456789") for _ in RING.shop)


def apart(ask: Callable[[str], None], seed: int) -> float:
    """How far the times of wrong and half-right keys differ: by Mann-Whitney, in standard errors."""
    random = Random(seed)  # noqa: S311 - no secret
    kinds = np.array([random.random() < 0.5 for _ in range(TIMED)])
    shown = [(half_right if kind else wrong)(random) for kind in kinds]
    times = np.empty(TIMED)
    for i, secret in enumerate(shown):
        began = time.perf_counter_ns()
        ask(secret)
        times[i] = time.perf_counter_ns() - began
    ranks = np.empty(TIMED)
    ranks[np.argsort(times, kind="stable")] = np.arange(TIMED)
    n, m = int(kinds.sum()), int((~kinds).sum())
    error = np.sqrt((TIMED * (TIMED + 1) / 12) * (1 / n + 1 / m))
    return float(abs(ranks[kinds].mean() - ranks[~kinds].mean()) / error)


def test_a_half_right_key_takes_as_long_as_a_wrong_one_to_check(figures: dict[str, Any]) -> None:
    check = Check(RING.entries)

    def ask(secret: str) -> None:
        credentials = ((b"authorization", f"Bearer {secret}".encode()),)
        with pytest.raises(Problem):
            check.admit(AccessRequest("POST", "/predict", credentials, "iris"))

    found = min(apart(ask, seed) for seed in (1, 2))
    figures["half-right key against wrong, in the check, standard errors"] = round(found, 2)
    assert found < SAME


def test_a_half_right_key_takes_as_long_as_a_wrong_one_to_refuse(
    attacked: tuple[Server, str], figures: dict[str, Any]
) -> None:
    """Over a connection whose head of this form was answered with the right key a moment ago."""
    server, lane = attacked
    with connect(server) as connection:

        def ask(secret: str) -> None:
            connection.sendall(request(headers=(HOST, f"Authorization: Bearer {secret}")))
            reply = b""
            while not reply.endswith(b"}"):
                reply += connection.recv(1 << 16)
            assert reply.startswith(b"HTTP/1.1 401 " if secret != RING.shop else b"HTTP/1.1 200 "), BODY

        for _ in range(3):
            ask(RING.shop)
        found = min(apart(ask, seed) for seed in (1, 2))
    figures[f"half-right key against wrong, {lane} lane, standard errors"] = round(found, 2)
    assert found < SAME


def test_the_statistic_sees_a_comparison_that_stops_early() -> None:
    """The test itself: it detects a comparison letter by letter at once."""

    def ask(secret: str) -> None:
        for one, other in zip(secret, RING.shop, strict=True):
            if one != other:
                return

    assert apart(ask, 1) > 3 * SAME


def test_keys_cost_little(figures: dict[str, Any]) -> None:
    """What a remembered decision costs, beside the 25 us of a request."""
    secret, key = keys.make("shop", ["predict"], rate="999999/s")
    check = Check([key])
    asked = AccessRequest("POST", "/predict", ((b"x-api-key", secret.encode()),), "iris")
    check.admit(asked)
    began = time.perf_counter()
    for _ in range(100_000):
        check.admit(asked)
    each_us = (time.perf_counter() - began) * 10
    figures["a key with a rate, us a request"] = round(each_us, 2)
    assert each_us < 2.5
