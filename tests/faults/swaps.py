"""A server whose model `linear` has versions that tell themselves apart: version v answers v * x."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests import bento_server
from tests.faults.wire import one, open_to, read_reply, request
from tests.servers import PATIENCE_S
from tests.serving import artifacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.faults.wire import Reply
    from tests.servers import Server

WATCH = {"OKAMOCHI_WATCH_S": "0.2"}


@dataclass
class Swapping:
    """A server that runs, and the lines of models.lock for each of its models' versions."""

    server: Server
    folder: Path
    lines: dict[str, str]  # by version, or by name of another model

    @property
    def lock(self) -> Path:
        return self.folder / "models.lock"

    def declare(self, *keys: str) -> None:
        """Write models.lock in one step, as `python -m deploy bundle` does."""
        new = self.folder / "models.lock.new"
        new.write_text("".join(f"{self.lines[key]}\n" for key in keys))
        new.replace(self.lock)

    def models(self) -> Any:
        # Not by httpx: 20 looks a second by new clients of it raised the 99th percentile of the clients of a
        # test, which share this process, from 1.8 to 5.9 ms while nothing was swapped.
        return json.loads(one(self.server, request("/models", method="GET")).body)

    def live(self) -> dict[str, str]:
        """The versions that are live, by name."""
        return {model["name"]: model["version"] for model in self.models()["models"]}

    def wait(self, *, every_s: float = 0.05, **versions: str) -> None:
        """Until exactly these are live."""
        self.until(lambda: self.live() == versions, f"{versions} are not live", every_s)

    def until(self, found: Any, what: str, every_s: float = 0.05) -> None:
        end = time.monotonic() + PATIENCE_S
        while not found():
            assert time.monotonic() < end, f"{what}: {self.models()} {self.server.log.read_text()[-3000:]}"
            time.sleep(every_s)

    def reason(self, name: str | None) -> str:
        """Why what models.lock says of a name, or as a whole, is not live; "" if it is."""
        held = {one["name"]: one["reason"] for one in self.models()["not_live"]}
        return str(held.get(name, ""))

    def said(self, what: str) -> int:
        """How often the log of the server has some words."""
        return self.server.log.read_text().count(what)


@contextmanager
def swapping(
    folder: Path,
    *,
    versions: Sequence[int] = (1, 2, 3),
    runtime: str = "onnx",
    settings: Mapping[str, str] | None = None,
    others: Mapping[str, Path] | None = None,
    within: Sequence[str] = (),
    copies: int = 0,
) -> Iterator[Swapping]:
    """Serve the first of some versions of `linear`; the store has them all, and version 1 of other models.

    Parameters
    ----------
    within
        See `bento_server`.
    copies
        Of the forest that each version has in its graph.
    """
    folder.mkdir(parents=True, exist_ok=True)
    work = folder / "work"
    made = {v: artifacts.linear(folder / f"v{v}", slope=v, runtime=runtime).path for v in versions}
    for path in made.values() if copies else ():
        artifacts.weigh_down(path, copies=copies)
    bento_server.prepare(work, {"linear": (made[versions[0]], str(versions[0]))})
    stored = [("linear", path, str(v)) for v, path in made.items()]
    stored += [(name, path, "1") for name, path in (others or {}).items()]
    keys = [*map(str, made), *(others or {})]
    lines = dict(zip(keys, bento_server.store(work, stored), strict=True))
    with bento_server.bento_server(work, settings={**WATCH, **(settings or {})}, within=within) as server:
        yield Swapping(server, work, lines)


@dataclass
class Load:
    """Clients that ask one request after the other until they are told to stop."""

    server: Server
    stop: bool = False
    answered: dict[str, int] = field(default_factory=dict)  # by version
    wrong: list[Any] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    async def client(self, number: int) -> None:
        """Every lane and protocol in turn; each answer must be of the version that it names."""
        reader, writer = await open_to(self.server)
        i = number
        while not self.stop:
            i += 1
            path, body, headers = _asked(i)
            began = time.perf_counter()
            writer.write(request(path, body, *headers))
            try:
                reply = await read_reply(reader)
            except ConnectionError:
                self.wrong.append((path, "the connection was closed"))
                reader, writer = await open_to(self.server)
                continue
            self.seconds.append(time.perf_counter() - began)
            self.check(i % 1000, path, reply)
        writer.close()

    def p99(self) -> float:
        """The 99th percentile of the times, in seconds."""
        return sorted(self.seconds)[int(0.99 * len(self.seconds))]

    def check(self, x: int, path: str, reply: Reply) -> None:
        if reply.status != 200:
            self.wrong.append((path, reply.status, reply.body))
            return
        found = json.loads(reply.body)
        if isinstance(found, list):  # /score
            found = {"prediction": found, "version": reply.headers["x-model-version"]}
        version = found.get("version") or found["model_version"]
        if "outputs" in found:
            value = found["outputs"][0]["data"][0]
        else:
            value = found["prediction"] if "prediction" in found else found["predictions"]
        value = value[0] if isinstance(value, list) else value
        if abs(value - int(version) * x) > 0.01:
            self.wrong.append((path, x, found))
        self.answered[version] = self.answered.get(version, 0) + 1


def _asked(i: int) -> tuple[str, bytes, tuple[str, ...]]:
    x = i % 1000
    kind = i % 8
    if kind == 0:
        return "/predict", b'{"x": %d}' % x, (f"X-Request-Id: r{i}",)
    if kind == 1:
        return "/models/linear/predict?gateway", b'{"x": %d}' % x, ()
    if kind == 2:
        tensor = b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 1], "data": [%d]}]}' % x
        return "/v2/models/linear/infer", tensor, ()
    if kind == 3:
        return "/invocations", b'{"inputs": [[%d]]}' % x, ()
    if kind == 4:
        return "/score", b'{"rows": [[%d]]}' % x, ()
    return "/models/linear/predict", b'{"features": [[%d]]}' % x, ()


async def under_load(server: Server, work: Any, *, connections: int = 16) -> Load:
    """Clients ask until `work`, which runs in a thread, has ended."""
    load = Load(server)
    clients = [asyncio.create_task(load.client(1000 * n)) for n in range(connections)]
    try:
        await asyncio.to_thread(work)
    finally:
        load.stop = True
        await asyncio.gather(*clients)
    return load
