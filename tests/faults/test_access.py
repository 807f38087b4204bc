"""Keys under attack: 100,000 requests that must not be answered, and the time that a half-right key takes."""

from __future__ import annotations

import time
from random import Random
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from serving.access import keys
from serving.access.check import Check
from serving.access.request import AccessRequest
from serving.errors import Problem
from serving.grpc import schema
from tests.servers import free_port
from tests.serving.grpc.calls import channel_to, message, method
from tests.serving.http.attacks import got_through, locked, ring
from tests.serving.http.lanes import BODY, HOST, connect, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers import Server
    from tests.serving.artifacts import Made

RING = ring()
ATTACKS = 50_000  # on each lane
GRPC_ATTACKS = 10_000
CLOSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
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


@pytest.mark.timeout(1_800)
def test_no_call_of_grpc_is_answered(made: dict[str, Made], tmp_path: Path, figures: dict[str, Any]) -> None:
    """Every method with no key, a wrong, expired or revoked one, or right ones in the wrong places."""
    random = Random(2026)  # noqa: S311 - no secret
    port = free_port()
    answered = []
    methods = [name for name in schema.METHODS if name not in ("ServerLive", "ServerReady")]
    with (
        locked(tmp_path / "grpc", made, RING, express=True, OKAMOCHI_GRPC_PORT=str(port)),
        channel_to(f"127.0.0.1:{port}") as channel,
    ):
        calls = {name: method(channel, name) for name in methods}
        right = (("x-api-key", RING.shop),)
        assert calls["ModelInfer"](message(), metadata=right).model_name == "iris"
        for _ in range(GRPC_ATTACKS):
            name = random.choice(methods)
            shown = without_a_valid_key(random)
            sent = message() if name == "ModelInfer" else schema.METHODS[name][0]()
            if "name" in sent.DESCRIPTOR.fields_by_name:
                sent.name = random.choice(["iris", "loans", ""])
            try:
                calls[name](sent, metadata=shown)
            except grpc.RpcError as error:
                if error.code() not in CLOSED:
                    answered.append((name, shown, error.code()))
            else:
                answered.append((name, shown, "OK"))
    figures["attacks on keys, gRPC"] = {"sent": GRPC_ATTACKS, "answered": len(answered)}

    assert not answered, answered[0]


def without_a_valid_key(random: Random) -> tuple[tuple[str, str], ...]:
    """Metadata that admits to no method."""
    secret = random.choice(
        ["", "x", RING.expired, RING.revoked, RING.shop[:-1], RING.shop + "A", RING.entries[0].hash]
    )
    return random.choice(
        [
            (),
            (("x-api-key", secret),),
            (("authorization", f"Bearer {secret}"),),
            (("authorization", f"Basic {RING.shop}"),),
            (("authorization", RING.shop),),
            (("x-api-key", f"Bearer {RING.shop}"),),
            (("x-api-key", RING.shop), ("x-api-key", secret)),
            (("x-api-key", RING.shop), ("authorization", f"Bearer {secret}")),
            (("x_api_key", RING.shop),),
            (("cookie", f"x-api-key={RING.shop}"),),
            (("x-api-key-bin", RING.shop.encode()),),
        ]
    )


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
