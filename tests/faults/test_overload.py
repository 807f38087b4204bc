"""More than the server can do: it does what it can, refuses the rest in time, and is itself again after."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks import models as ballast
from tests.bento_server import bento_server, prepare
from tests.faults.conftest import FULL
from tests.faults.wire import address, answers, one, open_to, predictions, read_reply, request
from tests.servers import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers import Server

SECONDS = 60 if FULL else 10
PARTS = 3 if FULL else 1
"""Of those seconds, each between two measurements of the peak: a shared machine is a third faster in one
minute than in the next."""
PEAK_SECONDS = 6 if FULL else 2
PEAK_CONNECTIONS = 64
IRIS = request("/models/iris/predict", b'{"features": [[5.1, 3.5, 1.4, 0.2]]}')


@pytest.fixture(scope="module")
def slow_by_the_row(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, bytes]]:
    """A server whose model takes some milliseconds a row, in any batch, and a request to it."""
    folder: Path = tmp_path_factory.mktemp("overload")
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    names = [str(name).replace(" ", "_") for name in data.feature_names]
    kind = ballast.SLOW
    matrix = data.data.astype(np.float32).astype(np.float64)
    estimator = ballast.fitted(kind, matrix, data.target)
    graph = ballast.onnx_of(estimator, kind.precision, ballast=True)
    ballast.write_artifact(
        folder / "artifact",
        kind,
        graph=graph,
        rows=data.data,
        scores=estimator.predict_proba(data.data),
        names=names,
    )
    prepare(folder / "work", {kind.name: (folder / "artifact", "1")})
    body = json.dumps({"features": [data.data[0].tolist()]}).encode()
    # So that those who wait for their answers fit into the connections of the generator.
    # And no connection of its is closed for idling just as a request comes.
    waits = {"OKAMOCHI_DEFAULT_DEADLINE_MS": "1000"}
    with bento_server(folder / "work", "--timeout-keep-alive", "300", settings=waits) as started:
        yield started, request("/predict", body)


def crowd(server: Server, whole: bytes, connections: int, seconds: float) -> tuple[float, Counter[int]]:
    """Replies of 200 a second, and the statuses, of so many clients that ask again once they are answered."""
    statuses: Counter[int] = Counter()

    async def main() -> float:
        opened = [await open_to(server) for _ in range(connections)]
        start = time.perf_counter()

        async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while time.perf_counter() - start < seconds:
                writer.write(whole)
                statuses[(await read_reply(reader)).status] += 1
            writer.close()

        await asyncio.gather(*(client(*pair) for pair in opened))
        return time.perf_counter() - start

    took = asyncio.run(main())
    return statuses[200] / took, statuses


def peak_of(server: Server, whole: bytes) -> float:
    """Replies a second of as many clients as the peak takes, who are told nothing but 200 and 429."""
    peak, statuses = crowd(server, whole, PEAK_CONNECTIONS, PEAK_SECONDS)
    assert set(statuses) <= {200, 429}
    return peak


def offer(server: Server, whole: bytes, rate: float, folder: Path) -> dict[str, Any]:
    """What came of so many requests a second, whether or not they are answered."""
    path = folder / "requests"
    path.write_bytes(b"%d\n%s\n" % (len(whole), whole))
    command = [sys.executable, "-m", "benchmarks.openloop", str(address(server)[1]), str(path), "--livez"]
    command += [f"--rate={rate:.1f}", f"--seconds={SECONDS / PARTS}", "--connections=1024"]
    done = subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, timeout=SECONDS + 60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("times", [2, 5, 10] if FULL else [2])
def test_beyond_its_knee_a_slow_model_answers_what_it_can_and_refuses_the_rest(
    slow_by_the_row: tuple[Server, bytes], tmp_path: Path, figures: dict[str, Any], times: int
) -> None:
    """Of arrivals that wait for nobody: 200 or 429, nothing else, and all is well within 5 s after."""
    server, whole = slow_by_the_row
    for attempt in range(2 if FULL else 1):
        peaks = [peak_of(server, whole)]
        goodputs, answers, livez_ms, after_ms = [], Counter[str](), 0.0, 0.0
        for _ in range(PARTS):
            found = offer(server, whole, times * peaks[-1], tmp_path)
            if (
                not FULL and "429" not in found["statuses"]
            ):  # other work had slowed the peak when it was measured
                found = offer(server, whole, 8 * times * peaks[-1], tmp_path)
            assert set(found["statuses"]) == {"200", "429"}, found
            end = time.monotonic() + (5 if FULL else 60)
            while time.monotonic() < end and one(server, whole).status != 200:
                time.sleep(0.1)
            start = time.perf_counter()
            assert len(predictions(one(server, whole))) == 1
            after_ms = max(after_ms, 1000 * (time.perf_counter() - start))
            livez_ms = max(livez_ms, found["livez_ms"])
            answers += Counter(found["statuses"])
            peaks.append(peak_of(server, whole))
            goodputs.append(found["goodput"] / (sum(peaks[-2:]) / 2))
        goodput = sum(goodputs) / PARTS
        figures[f"overload_{times}_times"] = {
            "peak": round(sum(peaks) / len(peaks)),
            "goodput_of_the_peak": round(goodput, 3),
            "livez_worst_ms": round(livez_ms),
            "request_after_ms": round(after_ms),
            "statuses": dict(answers),
        }
        if (goodput >= 0.9 and livez_ms < 100) or not FULL:
            break
        assert attempt == 0, figures[f"overload_{times}_times"]


def test_a_crowd_of_16_times_the_peak_is_answered_by_a_quick_model(
    server: Server, figures: dict[str, Any], program: Callable[[str], str], tmp_path: Path
) -> None:
    """Nobody is refused; `make faults` asks with wrk, since clients in Python are slower than the server."""
    if not FULL:
        _, statuses = crowd(server, IRIS, 16 * PEAK_CONNECTIONS, SECONDS)
        assert set(statuses) == {200}
    else:
        program("wrk")
        from benchmarks.load import closed_loop

        path = tmp_path / "requests"
        path.write_bytes(b"%d\n%s\n" % (len(IRIS), IRIS))
        port = address(server)[1]
        for attempt in range(2):
            peaks, rates = [], []
            for _ in range(PARTS):
                peak = closed_loop(port, path, connections=PEAK_CONNECTIONS, seconds=PEAK_SECONDS)
                many = closed_loop(port, path, connections=16 * PEAK_CONNECTIONS, seconds=SECONDS / PARTS)
                assert (peak.errors, many.errors) == (0, 0)
                peaks.append(peak.rate)
                rates.append(many.rate)
            rate = median(rates) / median(peaks)
            figures["crowd"] = {"peak": round(median(peaks)), "rate_of_the_peak": round(rate, 3), "errors": 0}
            if rate >= 0.9:
                break
            assert attempt == 0, figures["crowd"]
    (after,) = asyncio.run(answers(server, [IRIS], connections=1))
    assert predictions(after) == ["setosa"]
