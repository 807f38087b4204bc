"""Full and read-only disks, a log that nobody reads, a clock that steps, MLflow gone, damaged models."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.bento_server import environment, prepare
from tests.faults.conftest import FULL, VERSIONS
from tests.faults.wire import SECONDS, ask, connect, one, open_to, predictions, read_reply, request, workers
from tests.servers import CHECKOUT, PATIENCE_S, free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.servers import Server

    Serve = Callable[..., AbstractContextManager[Server]]

IRIS = b'{"features": [[5.1, 3.5, 1.4, 0.2]]}'
QUICK = request("/predict", IRIS)
SLOW = request("/models/slow/predict", IRIS)
BROKEN = request("/models/fragile/predict", b'{"features": [[null, 3.5, 1.4, 0.2]]}')
GATEWAY = request("/predict?lane", IRIS)
LARGE = request("/predict", json.dumps({"features": [[5.1, 3.5, 1.4, 0.2]] * 5_000}).encode())
SCORE = request("/score", b'{"rows": [[5.1, 3.5, 1.4, 0.2]]}', "Content-Type: application/json")
METRICS = request("/metrics", method="GET")
READY = request("/readyz", method="GET")
EVERY_KIND = (QUICK, GATEWAY, LARGE, SLOW, SCORE, METRICS, READY, request("/docs", method="GET"))


def serves(server: Server) -> None:
    """Every kind of request is answered, and so it is by a new worker."""
    assert [reply.status for reply in ask(server, *EVERY_KIND) if reply] == [200] * len(EVERY_KIND)
    (worker,) = workers(server)
    worker.kill()
    worker.wait(PATIENCE_S)
    assert [reply.status for reply in ask(server, *EVERY_KIND) if reply] == [200] * len(EVERY_KIND)


def sample(server: Server, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", one(server, METRICS).body.decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


# ---- disks


@pytest.fixture
def mounts(program: Callable[[str], str]) -> Callable[[str], list[str]]:
    """A command with mounts of its own, made by the lines of a shell script, that becomes its arguments."""
    unshare = program("unshare")
    if subprocess.run([unshare, "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare -m is not allowed: mounts of a process's own take root")

    def script(lines: str) -> list[str]:
        whole = f'set -e\nmount --make-rprivate /\n{lines}\nexec "$@"'
        return [unshare, "-m", "sh", "-c", whole, "sh"]

    return script


def new_tmp(keep: Path, size: str) -> str:
    """Lines that mount an empty /tmp of a size; what the server needs below /tmp stays there."""
    kept = {keep, CHECKOUT, Path(sys.prefix)}
    below = sorted(str(path) for path in kept if path.is_relative_to("/tmp"))  # noqa: S108
    hold = [
        f"mkdir -p /dev/shm/held{i}; mount --bind {path} /dev/shm/held{i}" for i, path in enumerate(below)
    ]
    back = [f"mkdir -p {path}; mount --bind /dev/shm/held{i} {path}" for i, path in enumerate(below)]
    # What holds them has to be a mount of this process alone as well.
    return "\n".join(
        ["mount -t tmpfs tmpfs /dev/shm", *hold, f"mount -t tmpfs -o size={size} tmpfs /tmp", *back]
    )


def small_disk(folder: Path) -> str:
    """Lines that mount a disk of 16 MB at a folder, with the content that the folder has."""
    return "\n".join(
        [
            "mount -t tmpfs tmpfs /dev/shm",
            f"cp -a {folder} /dev/shm/held",
            f"mount -t tmpfs -o size=16m tmpfs {folder}",
            f"cp -a /dev/shm/held/. {folder}",
        ]
    )


def test_a_full_tmp_stops_neither_a_start_nor_a_worker(
    serve: Serve, mounts: Callable[[str], list[str]], tmp_path: Path
) -> None:
    full = f"{new_tmp(tmp_path, '64k')}\ndd if=/dev/zero of=/tmp/fill bs=4k 2>/dev/null || true"
    with serve(into=tmp_path, models=("iris", "slow"), within=mounts(full)) as server:
        theirs = Path(f"/proc/{server.process.pid}/root/tmp")
        with pytest.raises(OSError, match="No space left"):
            (theirs / "more").write_bytes(b"x" * 8_192)
        serves(server)


def test_a_read_only_root_is_served_from(
    serve: Serve, mounts: Callable[[str], list[str]], tmp_path: Path
) -> None:
    """As in the pod: only /tmp and BENTOML_HOME can be written to."""
    work = tmp_path / "work"
    only = "\n".join(
        [
            new_tmp(tmp_path, "16m"),
            f"mount --bind {work} {work}",
            f"mount --bind {work}/bentoml {work}/bentoml",
            f"mount -o remount,bind,ro {work}",
            "mount -o remount,bind,ro /",
        ]
    )
    with serve(into=tmp_path, models=("iris", "slow"), within=mounts(only)) as server:
        root = Path(f"/proc/{server.process.pid}/root")
        for folder in ("/", "/var", str(work)):
            with pytest.raises(OSError, match="Read-only file system"):
                (root / folder.lstrip("/") / "x").write_bytes(b"")
        serves(server)


@pytest.mark.parametrize("full", ["at start", "later"])
def test_a_full_disk_under_bentoml_home_ends_no_worker(
    serve: Serve, mounts: Callable[[str], list[str]], tmp_path: Path, full: str
) -> None:
    """There the workers' metrics are, in mapped files: a write that finds no block is a SIGBUS."""
    home = tmp_path / "work" / "bentoml"
    fill = f"dd if=/dev/zero of={home}/fill bs=4k 2>/dev/null || true"
    lines = [small_disk(home)] + [fill] * (full == "at start")
    with serve(into=tmp_path, within=mounts("\n".join(lines))) as server:
        root = Path(f"/proc/{server.process.pid}/root")
        theirs = root / str(home).lstrip("/")
        if full == "later":
            subprocess.run(
                ["dd", "if=/dev/zero", f"of={theirs}/fill", "bs=4k"], stderr=subprocess.DEVNULL, check=False
            )
        with pytest.raises(OSError, match="No space left"):
            (theirs / "more").write_bytes(b"x" * 8_192)
        (before,) = workers(server)
        # Of each model and route, so that the files would grow.
        asked = [request(f"/models/{name}/predict{lane}", IRIS) for name in VERSIONS for lane in ("", "?l")]
        replies = ask(server, *asked * 20)
        assert {reply.status for reply in replies if reply} == {200, 422}
        assert None not in replies
        assert workers(server) == [before]
        serves(server)
        assert sample(server, 'okamochi_requests_total{endpoint="predict",model="iris",status="200"}') >= 2


# ---- the log


UNREAD = (
    "import os, sys; r, w = os.pipe(); os.set_inheritable(r, True); "
    "os.dup2(w, 1); os.dup2(w, 2); os.close(w); os.execv(sys.argv[1], sys.argv[1:])"
)
"""Standard output is a pipe whose other end the server itself holds, unread."""


def unread_pipe(server: Server) -> int:
    """The end to read from of the pipe that the server logs to."""
    descriptors = Path(f"/proc/{server.process.pid}/fd")
    sink = (descriptors / "1").readlink()
    for path in descriptors.iterdir():
        if int(path.name) > 2 and path.readlink() == sink:
            return os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    raise AssertionError("the server has no pipe for its log")


def read_all(descriptor: int) -> list[str]:
    parts, quiet = [], 0
    while quiet < 10:
        try:
            parts.append(os.read(descriptor, 1 << 20))
            quiet = 0
        except BlockingIOError:
            quiet += 1
            time.sleep(0.1)
    return b"".join(parts).decode().splitlines()


def test_a_log_that_nobody_reads_holds_up_no_request(serve: Serve, figures: dict[str, Any]) -> None:
    """A pipe holds 64 KB; what a bounded queue has no room for is dropped and counted until it is read."""
    count = 20_000 if FULL else 4_000
    within = (sys.executable, "-c", UNREAD)
    with serve(within=within, models=("iris", "slow", "fragile"), OKAMOCHI_LOG_SAMPLE="1") as server:
        sent = [BROKEN if i % 4 == 0 else QUICK for i in range(count)]
        statuses = [reply.status if reply else 0 for reply in ask(server, *sent)]
        assert statuses == [500 if i % 4 == 0 else 200 for i in range(count)]
        dropped = sample(server, "okamochi_log_lines_dropped_total")
        assert dropped > 0
        figures["log_unread"] = {"sent": count, "unanswered": 0, "lines_dropped": dropped}
        serves(server)  # the parent logs there as well
        descriptor = unread_pipe(server)
        before = read_all(descriptor)
        assert len(before) > 100
        again: list[str] = []
        for attempt in range(SECONDS):  # until there is room again, and the line is written
            one(server, request("/predict", IRIS, f"X-Request-Id: read-again-{attempt}"))
            again += [line for line in read_all(descriptor) if '"request_id":"read-again-' in line]
            if again:
                break
        os.close(descriptor)
        assert json.loads(again[0])["status"] == 200
        # Unread again, and full: it ends all the same.
        ask(server, *[QUICK] * 2_000)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(PATIENCE_S)


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_server_without_standard_output_serves(serve: Serve, closed: str) -> None:
    with serve(models=("iris", "slow"), within=("sh", "-c", f'exec "$@" {closed}', "sh")) as server:
        serves(server)


# ---- the clock


def library(name: str) -> str:
    found = sorted(Path("/usr/lib").glob(f"*/faketime/{name}")) or sorted(
        Path("/usr/lib").glob(f"faketime/{name}")
    )
    if not found:
        pytest.skip("faketime is not installed")
    return str(found[-1])


def test_a_clock_that_steps_moves_no_deadline_and_closes_no_connection(serve: Serve, tmp_path: Path) -> None:
    """Back an hour, on a day and a year, while requests wait and connections idle: only dates are others."""
    stepped = tmp_path / "clock"
    stepped.write_text("+0")
    faked = {
        "LD_PRELOAD": library("libfaketimeMT.so.1"),
        "FAKETIME_TIMESTAMP_FILE": str(stepped),
        "FAKETIME_CACHE_DURATION": "1",  # seconds until a step counts
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "OKAMOCHI_DEFAULT_DEADLINE_MS": "30000",
    }
    # Long enough for a busy machine to come back to a connection before that is closed.
    with serve("--timeout-keep-alive", "15", into=tmp_path, models=("iris", "slow"), **faked) as server:

        async def main() -> None:
            explicit = SLOW.replace(b"Host: h", b"Host: h\r\nX-Deadline-Ms: 20000")
            whole = (SLOW, explicit, QUICK, GATEWAY)
            kept = [await open_to(server) for _ in whole]
            for step in (0, -3_600, 86_400, -86_400, 366 * 86_400):
                stepped.write_text(f"{step:+}")
                off = math.inf
                async with asyncio.timeout(SECONDS):
                    while off > 60:  # until the step counts; a request of each kind is under way when it does
                        for sent, (_, writer) in zip(whole, kept, strict=True):
                            writer.write(sent)
                        replies = [await read_reply(reader) for reader, _ in kept]
                        assert [reply.status for reply in replies] == [200] * 4
                        shown = parsedate_to_datetime(replies[-1].headers["date"]).timestamp()
                        off = abs(shown - (time.time() + step))
            for reader, writer in kept:
                if FULL:
                    assert await asyncio.wait_for(reader.read(), 60) == b""  # closed once it idled, as ever
                writer.close()

        asyncio.run(main())


# ---- MLflow


def test_serving_needs_no_mlflow(serve: Serve) -> None:
    """Neither at start nor later: what is served stands in models.lock, and no connection is tried."""
    gone = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}", "OKAMOCHI_STATE_DIR": "/nonexistent"}
    with serve(models=("iris", "slow"), **gone) as server:
        serves(server)
        for process in (psutil.Process(server.process.pid), *workers(server)):
            assert not [entry for entry in process.memory_maps() if "/mlflow/" in entry.path]
            for opened in process.net_connections("inet"):
                assert opened.status != psutil.CONN_SYN_SENT
                assert not opened.raddr or opened.laddr.port == int(server.url.rsplit(":", 1)[1])


@pytest.mark.parametrize("registry", ["server", "database"])
def test_make_serve_says_that_mlflow_is_gone(tmp_path: Path, registry: str) -> None:
    """Exit code 4 and a sentence: it cannot know which model is the champion."""
    environment = dict(os.environ, OKAMOCHI_STATE_DIR=str(tmp_path), BENTOML_HOME=str(tmp_path / "bentoml"))
    if registry == "server":
        environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{free_port()}"
    else:
        (tmp_path / "mlflow.db").mkdir()
        environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path}/mlflow.db"
    command = [sys.executable, "-m", "deploy", "serve", "linear", "--port", str(free_port())]
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


# ---- the model's files


@pytest.mark.parametrize(
    ("lock", "said"),
    [
        (None, "names no model"),
        (b"# nothing\n", "names no model"),
        (b"iris\n", "line 1: found the name 'iris' alone, expected a name and a tag"),
        (b"\niris okamochi-iris:1 more\n", "line 2: found the role 'more'"),
        (b"\xff\xfe\x00 okamochi-\xff:1\n", "line 1: found the byte 0xff, expected text in UTF-8"),
        (b"iris okamochi-iris:\xc3\xa9\n", "expected an exact tag of BentoML's model store"),
        (
            b"iris okamochi-iris:9-absent\n",
            "models.lock names okamochi-iris:9-absent for iris, but BentoML's model store in ",
        ),
    ],
)
def test_a_lock_that_names_no_models_is_one_sentence(tmp_path: Path, lock: bytes | None, said: str) -> None:
    """And the server ends, whatever is in the file."""
    folder = tmp_path / "work"
    prepare(folder, {})
    (folder / "models.lock").unlink()
    if lock is not None:
        (folder / "models.lock").write_bytes(lock)
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1", "--port", str(free_port())],
        cwd=folder,
        env={**os.environ, **environment(folder)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 1
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_models_damaged_on_disk_serve_on_until_a_new_worker_refuses_them(
    serve: Serve, tmp_path: Path
) -> None:
    """ONNX and scikit-learn, cut short and removed: what is open stays, what is opened anew is verified."""
    with serve(into=tmp_path, models=("iris", "slow", "linear")) as server:
        models = tmp_path / "work" / "bentoml" / "models"
        (graph,) = (models / "okamochi-iris").rglob("model.onnx")
        with graph.open("r+b") as file:
            file.truncate(100)
        (fitted,) = (models / "okamochi-slow").rglob("model.skops")
        fitted.unlink()
        sent = (QUICK, LARGE, SLOW)
        assert [reply.status for reply in ask(server, *sent * 10) if reply] == [200] * 30
        assert one(server, READY).status == 200
        (worker,) = workers(server)
        worker.kill()
        worker.wait(PATIENCE_S)
        assert one(server, QUICK).status == 503
        ready = one(server, READY)
        assert ready.status == 503
        assert "model.onnx" in json.loads(ready.body)["detail"]
        assert "model.skops" in json.loads(ready.body)["detail"]
        assert one(server, SLOW).status == 503
        assert one(server, request("/models/linear/predict", b'{"x": 2}')).status == 200
        assert one(server, request("/livez", method="GET")).status == 200


# ---- order


def test_pipelined_requests_are_answered_in_their_order(server: Server) -> None:
    """Of slow and quick models, of both lanes and all sizes, sent at once on one connection."""

    async def main() -> None:
        reader, writer = await open_to(server)
        numbers = list(range(40))
        kinds = []
        for i in numbers:
            whole = request("/models/linear/predict", b'{"x": %d}' % i)
            kinds.append(
                SLOW if i % 10 == 0 else whole if i % 2 else whole.replace(b"predict H", b"predict?g H")
            )
        writer.write(b"".join(kinds))
        for i in numbers:
            found = json.loads((await read_reply(reader)).body)
            if i % 10 == 0:
                assert found["prediction"] == ["setosa"]
            else:
                assert round(found["prediction"]) == 2 * i
        writer.close()

    asyncio.run(main())


def test_a_request_that_is_repeated_is_answered_each_time(server: Server) -> None:
    """A retry with the same id is another request: the same answer, an id of its own."""
    whole = request("/predict", IRIS, "X-Request-Id: again")
    replies = [reply for reply in ask(server, *[whole] * 200) if reply]
    assert {reply.headers["x-request-id"] for reply in replies} == {"again"}
    assert [predictions(reply) for reply in replies] == [["setosa"]] * 200
    assert len({json.loads(reply.body)["id"] for reply in replies}) == 200
    with connect(server) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(QUICK + QUICK[:40])  # and one that is cut short says nothing of the whole one
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
