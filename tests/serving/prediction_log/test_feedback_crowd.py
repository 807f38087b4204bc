"""A real server, and clients that want all of its feedback: others get theirs, and a worker stays small."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import time
from secrets import token_hex
from typing import TYPE_CHECKING

import pytest

from tests.bento_server import bento_server, prepare
from tests.faults.wire import Reply, address, one, open_to, read_reply, request, workers
from tests.servers import PATIENCE_S
from tests.serving.prediction_log.rows import id_of, line
from tests.serving.prediction_log.test_folder import write_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.servers import Server
    from tests.serving.artifacts import Made

pytestmark = pytest.mark.deep

MIB = 1024 * 1024
JSON = "Content-Type: application/json"
PATIENT = "X-Deadline-Ms: 60000"


@pytest.fixture(scope="module")
def server(made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose log has 30 days of three other pods, a file each hour."""
    folder = tmp_path_factory.mktemp("crowd")
    with _server(made, folder) as started:
        yield started


def _server(made: dict[str, Made], folder: Path) -> AbstractContextManager[Server]:
    log = folder / "log"
    log.mkdir()
    for pod in range(3):
        prefix = f"{pod:012x}"
        for hour in range(720):
            name = f"predictions-20261101T000000Z-pod-{pod}-{prefix}-{hour:06d}-{hour * 9 + 1:x}.jsonl"
            write_file(log / name, [line(id_of(hour * 9 + number, prefix)) for number in (1, 3, 5)])
    prepare(folder / "work", {"iris": (made["iris"].path, "1")})
    settings = {
        "OKAMOCHI_PREDICTION_LOG": str(log),
        "OKAMOCHI_PREDICTION_LOG_ROWS_PER_S": "10000",
        "OKAMOCHI_RECEIVE_S": "600",
        "OKAMOCHI_DEFAULT_DEADLINE_MS": "60000",
    }
    return bento_server(folder / "work", settings=settings)


def unknown_ids(kind: str) -> bytes:
    """A list as long as it may be, of ids that the log does not have."""
    prefixes = [token_hex(6) if kind == "of nobody" else f"{number % 3:012x}" for number in range(1000)]
    if kind == "fresh":  # as another pod would have made them just now, so that they are looked up again
        ids = [f"{prefix}-{time.time_ns():x}-{token_hex(16)}" for prefix in prefixes]
    else:
        ids = [id_of(6 * number + 2, prefix) for number, prefix in enumerate(prefixes)]
    return json.dumps([{"id": one_id, "actual": "setosa"} for one_id in ids]).encode()


def predicted(server: Server) -> str:
    answered = one(server, request("/predict", b'{"features": [[5.1, 3.5, 1.4, 0.2]]}', JSON))
    return str(json.loads(answered.body)["id"])


def told(server: Server, id_: str) -> Reply:
    """Valid feedback, from an address of its own."""
    return one(server, request("/feedback", json.dumps({"id": id_, "actual": "setosa"}).encode(), JSON))


async def crowd(server: Server, whole: bytes, clients: int) -> list[asyncio.StreamReader]:
    """Send the same from many connections of another address than `told` has."""
    readers = []
    for _ in range(clients):
        reader, writer = await asyncio.open_connection(
            *address(server), local_addr=("127.0.0.2", 0), limit=1 << 26
        )
        writer.write(whole)
        readers.append(reader)
        _writers.append(writer)
    return readers


_writers: list[asyncio.StreamWriter] = []


def hang_up() -> None:
    for writer in _writers:
        writer.transport.abort()
    _writers.clear()


@pytest.mark.parametrize("kind", ["of nobody", "of others", "fresh"])
@pytest.mark.parametrize("stays", [True, False])
def test_unknown_ids_of_one_client_do_not_stop_anothers_feedback(
    server: Server, kind: str, *, stays: bool
) -> None:
    id_ = predicted(server)

    async def main() -> None:
        readers = await crowd(server, request("/feedback", unknown_ids(kind), JSON, PATIENT), 60)
        if not stays:
            hang_up()
        ours = await asyncio.to_thread(told, server, id_)
        assert (ours.status, json.loads(ours.body)) == (200, {"stored": 1, "known": 0})
        if stays:
            theirs = [await read_reply(reader) for reader in readers]
            assert {reply.status for reply in theirs} == {404}
        hang_up()

    asyncio.run(main())


def test_a_client_that_never_ends_its_requests_has_no_place_that_another_needs(server: Server) -> None:
    id_ = predicted(server)
    begun = request("/feedback", b'[{"id":', JSON, PATIENT, length=100_000)

    async def main() -> None:
        readers = await crowd(server, begun, 80)
        ours = await asyncio.to_thread(told, server, id_)
        assert ours.status == 200
        # Of 80, those that came when 64 were there, and one more for us.
        refused = [await read_reply(reader) for reader in readers[64:]]
        assert {(reply.status, reply.headers["retry-after"]) for reply in refused} == {(429, "1")}
        assert json.loads(refused[0].body)["status"] == 429
        hang_up()

    asyncio.run(main())


def test_who_claims_to_be_many_is_one(server: Server) -> None:
    """`X-Forwarded-For` of a client that is no proxy of ours."""
    id_ = predicted(server)

    async def main() -> None:
        for number in range(64):
            named = f"X-Forwarded-For: 192.0.2.{number}"
            await crowd(server, request("/feedback", b"[", JSON, PATIENT, named, length=9), 1)
        assert (await asyncio.to_thread(told, server, id_)).status == 200
        hang_up()

    asyncio.run(main())


def test_bodies_on_their_way_are_bounded_in_memory(server: Server) -> None:
    """48 of 15 MB, and then as many as one request may have, that stop before their ends."""
    (worker,) = workers(server)

    def peak() -> int:
        with open(f"/proc/{worker.pid}/status") as file:  # noqa: PTH123
            return next(int(text.split()[1]) * 1024 for text in file if text.startswith("VmHWM"))

    before = peak()
    large = b'[{"id":"' + b"a" * (15 * MIB)

    async def main() -> None:
        readers = []
        for _ in range(48):
            reader, writer = await open_to(server)
            writer.write(request("/feedback", large, JSON, PATIENT))
            readers.append(reader)
            _writers.append(writer)
        assert {(await read_reply(reader)).status for reader in readers} == {413}
        hang_up()
        chunked = request("/feedback", b"", JSON, PATIENT, "Transfer-Encoding: chunked")
        part = b"%x\r\n%s\r\n" % (MIB - 100, b" " * (MIB - 100))
        readers = await crowd(server, chunked + part, 48)
        replies = [asyncio.ensure_future(read_reply(reader)) for reader in readers]
        for reply in itertools.islice(asyncio.as_completed(replies), 48 - 16):  # as many have room
            assert (await reply).status == 429
        for task in replies:
            task.cancel()
        hang_up()

    asyncio.run(main())
    assert told(server, predicted(server)).status == 200
    assert peak() - before < 80 * MIB


@pytest.mark.parametrize("kind", ["of others", "fresh"])
def test_a_server_ends_soon_whatever_was_begun_for_clients_that_left(
    made: dict[str, Made], tmp_path: Path, kind: str
) -> None:
    async def main(server: Server) -> None:
        await crowd(server, request("/feedback", unknown_ids(kind), JSON, PATIENT), 100)
        hang_up()

    with _server(made, tmp_path) as server:
        asyncio.run(main(server))
        os.kill(server.process.pid, signal.SIGTERM)
        # With all of them worked off it was 52 s.
        assert server.process.wait(timeout=PATIENCE_S) == 0
        assert "Traceback" not in server.log.read_text()
