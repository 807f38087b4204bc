"""Explanations of single rows: their time on an idle server, and the rate of predictions beside them."""

from __future__ import annotations

import http.client
import json
import threading
from statistics import median, quantiles
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self

from benchmarks.load import closed_loop
from benchmarks.results import Explained
from benchmarks.servers import BenchError, cpu_since_mark, mark_cpu

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.models import Prepared
    from benchmarks.servers import Server

ROWS, WARM_UP_ROWS = 200, 20
MAX_ERROR = 0.1
"""The largest stated error, as a fraction of the largest contribution."""
ADDITIVE = 1e-6


def measure(
    server: Server, prepared: Prepared, requests: Path, *, connections: int, rounds: int, seconds: float
) -> Explained:
    """Explain rows one after another, then load the server alternately with and without explanations."""
    log_odds = prepared.name == "logistic"
    asked = explanations(server, prepared, log_odds=log_odds)
    for _ in range(WARM_UP_ROWS):
        next(asked)
    mark_cpu(server)
    answers = [next(asked) for _ in range(ROWS)]
    used = cpu_since_mark(server)
    times = [each * 1000 for each, _ in answers]
    found = Explained(
        model=prepared.name,
        score="log-odds" if log_odds else "probability",
        p50_ms=median(times),
        p90_ms=quantiles(times, n=10)[-1],
        cpu_ms=None if used is None else used / ROWS * 1000,
        wrong=[wrong for _, answer in answers for wrong in problems(answer)][:5],
    )
    closed_loop(server.port, requests, connections=connections, seconds=seconds)
    for number in range(rounds):
        for beside in (False, True) if number % 2 else (True, False):
            with Beside(server, prepared, log_odds=log_odds, on=beside) as explaining:
                load = closed_loop(server.port, requests, connections=connections, seconds=seconds)
            (found.beside if beside else found.alone).append(load.goodput)
            if beside:
                found.beside_explained.append(explaining.answered / seconds)
                found.wrong += explaining.wrong[:5]
    return found


def explanations(
    server: Server, prepared: Prepared, *, log_odds: bool
) -> Iterator[tuple[float, dict[str, Any]]]:
    """The time and the explanation of each row, over one connection, without an end."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    place = 0
    while True:
        body = json.dumps({"features": [prepared.rows[place % len(prepared.rows)]], "log_odds": log_odds})
        began = perf_counter()
        connection.request("POST", "/explain", body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        content = reply.read()
        seconds = perf_counter() - began
        if reply.status != 200:
            raise BenchError(f"/explain: {reply.status} {content[:300]!r}")
        yield seconds, json.loads(content)["explanations"][0]
        place += 1


def problems(explanation: dict[str, Any]) -> Iterator[str]:
    """What is wrong with an explanation: its sum, or its error."""
    parts = [each["contribution"] for each in explanation["contributions"]]
    gap = abs(sum(parts) - (explanation["score"] - explanation["base"]))
    if gap > ADDITIVE:
        yield f"contributions miss score - base by {gap:.3g}"
    if explanation["error"] > MAX_ERROR * max(map(abs, parts)):
        yield f"the stated error {explanation['error']:.3g} is above a tenth of {max(map(abs, parts)):.3g}"


class Beside:
    """Within it, a thread explains one row after another, if it is on."""

    def __init__(self, server: Server, prepared: Prepared, *, log_odds: bool, on: bool) -> None:
        self.answered = 0
        self.wrong: list[str] = []
        self._asked = explanations(server, prepared, log_odds=log_odds)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._explain, daemon=True) if on else None

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        if self._thread is not None:
            self._thread.join()

    def _explain(self) -> None:
        try:
            while not self._ends.is_set():
                next(self._asked)
                self.answered += 1
        except (BenchError, OSError, http.client.HTTPException) as error:
            self.wrong.append(f"beside predictions: {error}")
