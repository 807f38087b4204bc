"""Thousands of requests without a valid key or without the right, on both lanes: none is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.serving.http.attacks import (
    KINDS,
    Attack,
    answered,
    attacks,
    got_through,
    head,
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
