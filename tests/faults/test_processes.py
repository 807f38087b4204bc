"""Signals to the server's processes, and TLS, while requests are under way."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import json
import signal
import socket
import ssl
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.faults.conftest import FULL
from tests.faults.wire import (
    SECONDS,
    Reply,
    address,
    all_read,
    answers,
    connect,
    one,
    open_to,
    predictions,
    read_reply,
    request,
    unread,
    workers,
)
from tests.servers import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.servers import Server

    Serve = Callable[..., AbstractContextManager[Server]]

IRIS = b'{"features": [[5.1, 3.5, 1.4, 0.2]]}'
QUICK = request("/predict", IRIS)
SLOW = request("/models/slow/predict", IRIS)
# A request of many calls of the slow model, on the gateway's lane.
LONG = request("/models/slow/predict", json.dumps({"features": [[5.1, 3.5, 1.4, 0.2]] * 2_000}).encode())


def test_sigterm_lets_requests_of_both_lanes_end_and_then_closes(serve: Serve) -> None:
    """All that the worker has begun is answered; each connection is closed after, and the server ends."""
    with serve(models=("iris", "slow")) as server:
        (worker,) = workers(server)

        async def main() -> None:
            opened = [await open_to(server) for _ in range(24)]
            for i, (_, writer) in enumerate(opened):
                express, gateway = SLOW, SLOW.replace(b"predict HTTP", b"predict?lane HTTP")
                writer.write(LONG if i == 0 else express if i % 2 else gateway)
            await all_read(server, [writer for _, writer in opened])
            worker.send_signal(signal.SIGTERM)
            replies = [await read_reply(reader) for reader, _ in opened]
            assert [reply.status for reply in replies] == [200] * len(replies)
            for reader, writer in opened:
                assert await reader.read() == b""
                writer.close()

        asyncio.run(main())
        worker.wait(PATIENCE_S)


@pytest.mark.parametrize("numbers", [(15,), (15, 15), (2, 15), (2, 2)])
def test_sigterm_to_the_parent_ends_the_server_with_its_requests_answered(
    serve: Serve, numbers: tuple[int, ...]
) -> None:
    """And SIGINT; nobody's impatience costs a request."""
    with serve(models=("iris", "slow")) as server:

        async def main() -> None:
            opened = [await open_to(server) for _ in range(8)]
            for _, writer in opened:
                writer.write(SLOW)
            await all_read(server, [writer for _, writer in opened])
            for number in numbers:
                server.process.send_signal(number)
                await asyncio.sleep(0.1)
            assert [(await read_reply(reader)).status for reader, _ in opened] == [200] * 8
            for _, writer in opened:
                writer.close()

        asyncio.run(main())
        server.process.wait(PATIENCE_S)
        with pytest.raises(ConnectionError):
            connect(server).close()


def test_a_killed_worker_is_replaced_and_a_stopped_one_goes_on(serve: Serve) -> None:
    with serve(models=("iris",)) as server:
        (worker,) = workers(server)
        with connect(server) as held:
            held.sendall(QUICK)
            assert held.recv(65536).startswith(b"HTTP/1.1 200 ")
            worker.suspend()
            held.sendall(QUICK)
            time.sleep(0.3)
            worker.resume()
            assert held.recv(65536).startswith(b"HTTP/1.1 200 ")
        worker.kill()
        worker.wait(PATIENCE_S)
        # The parent's socket takes connections meanwhile; they are answered once there is a worker again.
        assert predictions(one(server, QUICK)) == ["setosa"]
        assert [found.pid for found in workers(server)] != [worker.pid]
        assert one(server, request("/readyz", method="GET")).status == 200
        end = time.monotonic() + SECONDS
        while f"worker {worker.pid} was killed" not in server.log.read_text():
            assert time.monotonic() < end, "nothing in the log says that a worker was killed"
            time.sleep(0.1)


IGNORED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGPIPE)


def test_signals_that_mean_nothing_cost_no_request_and_no_process(serve: Serve) -> None:
    """A terminal that closes, a rotation of logs, another server's way to reload."""
    with serve(models=("iris", "slow")) as server:
        (worker,) = workers(server)

        async def main() -> int:
            asked = asyncio.ensure_future(answers(server, [QUICK, SLOW] * 400, connections=16))
            sent = 0
            while not asked.done() or sent < 4 * len(IGNORED):
                for process in (server.process, worker):
                    process.send_signal(IGNORED[sent // 2 % len(IGNORED)])
                    sent += 1
                await asyncio.sleep(0.02)
            assert [reply and reply.status for reply in await asked] == [200] * 800
            return sent

        assert asyncio.run(main()) >= 4 * len(IGNORED)
        assert workers(server) == [worker]
        assert server.process.poll() is None
        # And the successor of a worker does as it did.
        worker.kill()
        worker.wait(PATIENCE_S)
        assert predictions(one(server, QUICK)) == ["setosa"]
        (successor,) = workers(server)
        for number in IGNORED:
            successor.send_signal(number)
        assert predictions(one(server, QUICK)) == ["setosa"]
        assert workers(server) == [successor]


@pytest.mark.parametrize("whom", ["parent", "worker", "both"])
def test_sigquit_ends_with_the_requests_answered(serve: Serve, whom: str) -> None:
    """As SIGTERM does; a terminal sends it to every process that was started in it."""
    with serve(models=("iris", "slow")) as server:
        (worker,) = workers(server)

        async def main() -> None:
            opened = [await open_to(server) for _ in range(8)]
            for i, (_, writer) in enumerate(opened):
                writer.write(SLOW if i else LONG)
            await all_read(server, [writer for _, writer in opened])
            if whom != "parent":
                worker.send_signal(signal.SIGQUIT)
            if whom != "worker":
                server.process.send_signal(signal.SIGQUIT)
            assert [(await read_reply(reader)).status for reader, _ in opened] == [200] * 8
            for _, writer in opened:
                writer.close()

        asyncio.run(main())
        worker.wait(PATIENCE_S)
        if whom == "worker":
            assert predictions(one(server, QUICK)) == ["setosa"]
        else:
            server.process.wait(PATIENCE_S)


def test_workers_of_a_killed_parent_answer_what_they_have_and_free_the_port(serve: Serve) -> None:
    """Nobody is left to tell them, so they look."""
    with serve(models=("iris", "slow"), OKAMOCHI_WORKERS="2") as server:
        orphans = workers(server)
        assert len(orphans) == 2

        async def main() -> None:
            opened = [await open_to(server) for _ in range(16)]
            for i, (_, writer) in enumerate(opened):
                writer.write(SLOW if i else LONG)
            await all_read(server, [writer for _, writer in opened])
            server.process.kill()
            assert [(await read_reply(reader)).status for reader, _ in opened] == [200] * 16
            for _, writer in opened:
                writer.close()

        asyncio.run(main())
        gone, alive = psutil.wait_procs(orphans, timeout=PATIENCE_S)
        assert (len(gone), alive) == (2, [])
        with socket.create_server(address(server)):
            pass  # the next server can have it


def test_a_worker_that_is_killed_each_second_comes_back_once_that_ends(serve: Serve) -> None:
    """However often: the parent does not give up, and who asks meanwhile is answered then."""
    with serve(models=("iris",)) as server:
        for _ in range(10 if FULL else 4):
            for worker in workers(server):
                worker.kill()
            time.sleep(1)
        assert predictions(one(server, QUICK)) == ["setosa"]
        assert one(server, request("/readyz", method="GET")).status == 200
        assert len(workers(server)) == 1


def test_a_stopped_parent_stops_no_worker_and_goes_on_replacing_them(serve: Serve) -> None:
    with serve(models=("iris",)) as server:
        (worker,) = workers(server)
        parent = psutil.Process(server.process.pid)
        parent.suspend()
        assert predictions(one(server, QUICK)) == ["setosa"]
        time.sleep(1.5)  # longer than a worker waits before it looks for its parent
        assert predictions(one(server, QUICK)) == ["setosa"]
        worker.kill()
        parent.resume()
        worker.wait(PATIENCE_S)
        assert predictions(one(server, QUICK)) == ["setosa"]
        assert [found.pid for found in workers(server)] != [worker.pid]


def test_connections_through_tls_are_kept_and_answered_on_both_lanes(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = _self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serve("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key), models=("iris",)) as server:
        context = ssl.create_default_context(cafile=certificate)
        sent = [
            QUICK,
            QUICK.replace(b"predict HTTP", b"predict?lane HTTP"),
            request("/livez", method="GET"),
        ] * 50
        replies: list[Reply | None] = asyncio.run(answers(server, sent, connections=4, tls=context))
        assert [reply.status for reply in replies if reply] == [200] * len(sent)
        lanes = asyncio.run(answers(server, [request("/metrics", method="GET")], connections=1, tls=context))[
            0
        ]
        assert lanes is not None
        text = lanes.body.decode()
        assert 'okamochi_lane_requests_total{lane="express"} 50.0' in text


def test_who_takes_nothing_through_tls_is_hung_up_on(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without TLS (`TestPatience` of the express lane), where uvloop says what it holds."""
    certificate, key = _self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    rows = [[5.1, 3.5, 1.4, 0.2]] * 100_000
    large = request("/predict", json.dumps({"features": rows, "probabilities": True}).encode())
    with serve(
        "--ssl-certfile",
        str(certificate),
        "--ssl-keyfile",
        str(key),
        models=("iris",),
        OKAMOCHI_RECEIVE_S="1",
    ) as server:
        context = ssl.create_default_context(cafile=certificate)
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        plain.connect(address(server))
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as client:
            client.sendall(large)
            end = time.monotonic() + SECONDS
            while unread(server):  # until the server has closed its end
                assert time.monotonic() < end
                time.sleep(0.05)
            client.settimeout(20)
            taken = 0
            with suppress(OSError):  # cut off, without a goodbye
                while part := client.recv(1 << 20):
                    taken += len(part)
        assert 0 < taken < 6_000_000
        (after,) = asyncio.run(answers(server, [QUICK], connections=1, tls=context))
        assert after is not None
        assert after.status == 200


def _self_signed(folder: Path) -> tuple[Path, Path]:
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))
    made: Any = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, private
