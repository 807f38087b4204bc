"""What a shadow costs the callers of its champion, at half load and at full load."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from typing import TYPE_CHECKING, Any

from tests.faults.conftest import FULL
from tests.faults.swaps import Swapping, swapping
from tests.faults.wire import one, open_to, read_reply, request

if TYPE_CHECKING:
    from pathlib import Path

CLIENTS = 32
PREDICT = request("/predict", b'{"features": [[10]]}')
METRICS = request("/metrics", method="GET")


async def rate(swap: Swapping, seconds: float, pause_s: float = 0.0) -> float:
    """Answers a second of clients that each pause between two requests."""
    answered = 0
    end = time.perf_counter() + seconds

    async def client() -> None:
        nonlocal answered
        reader, writer = await open_to(swap.server)
        while time.perf_counter() < end:
            writer.write(PREDICT)
            reply = await read_reply(reader)
            assert (reply.status, b'"version":"1"' in reply.body) == (200, True), reply
            answered += 1
            if pause_s:
                await asyncio.sleep(pause_s)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return answered / (time.perf_counter() - began)


def shadowed(swap: Swapping) -> tuple[float, float]:
    """Rows that the shadow has scored, and rows that it has dropped."""
    text = one(swap.server, METRICS).body.decode()
    found = [
        re.findall(rf"^okamochi_shadow_{what}_total\{{[^}}]*\}} (\S+)$", text, re.MULTILINE)
        for what in ("rows", "dropped_rows")
    ]
    return sum(map(float, found[0])), sum(map(float, found[1]))


def test_a_shadow_costs_its_champion_little_and_sheds_itself(tmp_path: Path, figures: dict[str, Any]) -> None:
    """`make faults` measures it in interleaved rounds; every row is scored again or counted as dropped."""
    rounds, seconds = (5, 6.0) if FULL else (1, 0.7)
    with swapping(tmp_path, versions=(1, 2)) as swap:
        swap.lines["shadow"] = f"{swap.lines['2']} shadow"
        ratios: dict[str, list[float]] = {"half": [], "full": []}
        scored: dict[str, list[float]] = {"half": [], "full": []}
        peak = asyncio.run(rate(swap, seconds))
        for load, pause in {"half": CLIENTS / peak, "full": 0.0}.items():
            for _ in range(rounds):
                alone = asyncio.run(rate(swap, seconds, pause))
                swap.declare("1", "shadow")
                swap.until(lambda: swap.models()["models"][0]["beside"], "the shadow does not come")
                before = shadowed(swap)
                beside = asyncio.run(rate(swap, seconds, pause))
                rows, dropped = (now - was for now, was in zip(shadowed(swap), before, strict=True))
                ratios[load].append(beside / alone)
                scored[load].append(rows / max(rows + dropped, 1))
                assert rows + dropped > 0
                swap.declare("1")
                swap.until(lambda: not swap.models()["models"][0]["beside"], "the shadow does not go")
        found = {
            load: {
                "rate_ratio": round(statistics.median(ratios[load]), 3),
                "scored": round(statistics.median(scored[load]), 2),
            }
            for load in ratios
        }
        figures["shadow_cost"] = {"clients": CLIENTS, "rounds": rounds, **found}
        if FULL:
            assert found["half"]["rate_ratio"] >= 0.97
