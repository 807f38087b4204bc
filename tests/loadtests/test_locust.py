"""Locust itself against a real server, from its command line to its exit code."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections import defaultdict
from contextlib import contextmanager, suppress
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from loadtests.shapes import SHAPES
from tests.loadtests.conftest import LENIENT, command, lenient, locust
from tests.servers import CHECKOUT, PATIENCE_S, free_port, started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers import Server
    from tests.serving.artifacts import Made

pytestmark = pytest.mark.deep

SECONDS = {"step": "6s"}
SECONDS_AT_MOST = 120


class Elements(HTMLParser):
    """The text in each kind of element."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[str, str] = defaultdict(str)
        self._within = ""

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        self._within = tag

    def handle_data(self, data: str) -> None:
        self.texts[self._within] += data


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_every_shape_ends_with_a_verdict_a_report_and_figures(
    shape: str, server: Server, tmp_path: Path
) -> None:
    done = locust(
        tmp_path,
        *("--host", server.url, "--shape", shape, "-u", "6", "-t", SECONDS.get(shape, "3s"), "--rate", "30"),
        *("--html", "reports/load.html", "--csv", "reports/load", *lenient(tmp_path, shape)),
    )

    assert (done.code, done.last) == (0, "PASSED"), done.out + done.err
    assert f"Verdict: {shape} against {server.url}" in done.out
    for name in ("p50_ms", "p95_ms", "p99_ms", "error_rate", "goodput", "the server's counts"):
        assert f"  {name} " in done.out
    for route in ("/predict", "/v2/models/iris/infer", "/invocations"):
        assert route in (tmp_path / "reports" / "load_stats.csv").read_text()
    page = Elements()
    page.feed((tmp_path / "reports" / "load.html").read_text())
    assert f"Verdict: {shape}" in page.texts["pre"]  # an element, and in no script's text
    assert "Verdict" not in page.texts["script"]


def test_steps_are_shown_one_by_one(server: Server, tmp_path: Path) -> None:
    done = locust(
        tmp_path,
        *("--host", server.url, "--shape", "step", "-u", "4", "-t", "7s", *lenient(tmp_path, "step")),
    )

    assert done.code == 0, done.out + done.err
    stages = [line.split()[0] for line in done.out.partition("due/s")[2].splitlines()[1:3]]
    assert stages == ["2", "4"]
    assert "knee" in done.out


@pytest.mark.parametrize(
    ("model", "users"),
    [
        ("iris", ["PredictUser"]),
        ("iris", ["OipUser"]),
        ("iris", ["MlflowUser"]),
        ("iris", ["MixedUser"]),
        ("linear", []),
        ("loans", []),
    ],
)
def test_golden_rows_are_answered_as_training_scored_them(
    model: str, users: list[str], server: Server, made: dict[str, Made], tmp_path: Path
) -> None:
    """By every protocol, and for every kind of column and task."""
    done = locust(
        tmp_path,
        *("--host", server.url, "-u", "3", "-r", "10", "-t", "2s", "--model", model),
        *("--golden", str(made[model].path / "golden.json"), *lenient(tmp_path, "steady"), *users),
    )

    assert (done.code, done.last) == (0, "PASSED"), done.out + done.err


def test_a_fast_wrong_answer_is_a_failure(server: Server, made: dict[str, Made], tmp_path: Path) -> None:
    """One score of one golden row is off by ten times the tolerance."""
    golden = json.loads((made["iris"].path / "golden.json").read_text())
    golden["scores"][3][0] += 10 * golden["tolerance"]
    (tmp_path / "golden.json").write_text(json.dumps(golden))

    done = locust(
        tmp_path,
        *("--host", server.url, "--shape", "steady", "-u", "3", "-t", "3s", "--golden", "golden.json"),
        *lenient(tmp_path, "steady"),
    )

    assert (done.code, done.last) == (1, "FAILED: error_rate"), done.out + done.err
    assert "wrong answer: golden row 3: score" in done.out + done.err


def test_an_objective_that_is_missed_is_exit_code_1(server: Server, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[steady]\np99_ms = 0.001\n")

    done = locust(
        tmp_path,
        *("--host", server.url, "--shape", "steady", "-u", "2", "-t", "2s", "--objectives", "mine.toml"),
    )

    assert (done.code, done.last) == (1, "FAILED: p99_ms"), done.out + done.err


@pytest.mark.parametrize("shed_rate", [None, 1])
def test_429_is_shed_only_where_the_objectives_say_so(
    shed_rate: int | None, server: Server, tmp_path: Path
) -> None:
    """Forty users who ask as fast as they are answered, and a queue of eight rows."""
    more = [] if shed_rate is None else [f"shed_rate = {shed_rate}"]
    done = locust(
        tmp_path,
        *("--host", server.url, "--shape", "steady", "-u", "40", "-t", "3s", "--pace", "0"),
        *("--model", "slow", *lenient(tmp_path, "steady", *more), "PredictUser"),
    )

    assert "shed_rate" in done.out, "nothing was shed"
    assert "the server's counts" in done.out
    assert "disagree" not in done.out
    if shed_rate is None:
        assert (done.code, done.last) == (1, "FAILED: error_rate"), done.out + done.err
    else:
        assert (done.code, done.last) == (0, "PASSED"), done.out + done.err


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Locust with its output in `folder`/out and /err; ended afterwards."""
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        process = subprocess.Popen(command(*arguments), cwd=folder, stdout=out, stderr=err, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(condition: Callable[[], Any]) -> Any:
    """What it gives, as soon as that is something."""
    end = time.monotonic() + SECONDS_AT_MOST
    while time.monotonic() < end:
        with suppress(OSError):
            found = condition()
            if found:
                return found
        time.sleep(0.1)
    raise AssertionError(f"waited for {SECONDS_AT_MOST} s in vain")


def predictions_of(server: Server, model: str) -> float:
    """How many the server has answered, as its metrics say."""
    counted = re.findall(
        rf'^okamochi_requests_total{{endpoint="predict",model="{model}",[^}}]*}} (\S+)$',
        fetch(f"{server.url}/metrics").decode(),
        flags=re.MULTILINE,
    )
    return sum(map(float, counted))


def fetch(url: str, **form: Any) -> bytes:
    data = urllib.parse.urlencode(form).encode() if form else None
    with urllib.request.urlopen(url, data, timeout=PATIENCE_S) as reply:
        return bytes(reply.read())


def post(url: str, body: Any) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
        assert reply.status == 200


def test_a_server_that_counts_otherwise_than_was_sent_fails_the_run(server: Server, tmp_path: Path) -> None:
    """Somebody else asks another model meanwhile."""
    options = ["--host", server.url, "--shape", "steady", "-u", "2", "-t", "4s", *lenient(tmp_path, "steady")]
    with running(tmp_path, "--headless", *options) as process:
        until(lambda: "All users spawned" in (tmp_path / "err").read_text())
        for _ in range(3):
            post(f"{server.url}/models/linear/predict", {"x": 5})
        code = process.wait(PATIENCE_S)

    out = (tmp_path / "out").read_text()
    assert code == 1, out
    assert "linear predict 200: the server counted 3 requests, 0 were sent" in out
    assert out.strip().splitlines()[-1] == "FAILED: the server's counts"


def test_an_interrupted_run_is_judged_for_what_it_has_sent(server: Server, tmp_path: Path) -> None:
    """Ctrl-C: what was on its way comes back first, so that the counts agree."""
    options = ["--host", server.url, "-u", "6", "-r", "10", "-t", "10m", *lenient(tmp_path, "steady")]
    options += ["--model", "slow", "--pace", "0", "PredictUser"]
    before = predictions_of(server, "slow")
    with running(tmp_path, "--headless", *options) as process:
        until(lambda: "All users spawned" in (tmp_path / "err").read_text())
        until(lambda: predictions_of(server, "slow") > before)
        process.send_signal(signal.SIGINT)
        code = process.wait(PATIENCE_S)

    out = (tmp_path / "out").read_text()
    assert (code, out.strip().splitlines()[-1]) == (0, "PASSED"), out + (tmp_path / "err").read_text()
    assert "without an answer" not in out


INTERRUPTED = f"""
import os, signal, sys
sys.path.append({str(CHECKOUT)!r})
from loadtests.locustfile import PredictUser

class Interrupted(PredictUser):
    left = 20

    def _exchange(self, *arguments):
        answer = super()._exchange(*arguments)
        Interrupted.left -= 1
        if not Interrupted.left:
            os.kill(os.getpid(), signal.SIGINT)
        return answer
"""


def test_an_interrupt_within_a_users_own_code_loses_no_request(server: Server, tmp_path: Path) -> None:
    """Python would raise it there, between an answer and its being counted."""
    (tmp_path / "mine.py").write_text(INTERRUPTED)
    options = ["--host", server.url, "-u", "3", "-r", "10", "-t", "10m", *lenient(tmp_path, "steady")]
    arguments = command("--headless", "--pace", "50", *options, "Interrupted")
    arguments[arguments.index("-f") + 1] = "mine.py"

    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    assert (done.returncode, done.stdout.strip().splitlines()[-1]) == (0, "PASSED"), done.stdout + done.stderr
    assert "without an answer" not in done.stdout


# ---- several processes


@pytest.mark.parametrize("shape", ["spike", "arrivals"])
def test_processes_are_judged_together(
    shape: str, server: Server, made: dict[str, Made], tmp_path: Path
) -> None:
    port = str(free_port())
    done = locust(
        tmp_path,
        *("--host", server.url, "--shape", shape, "-u", "6", "-t", "5s", "--rate", "40", "--processes", "2"),
        *("--golden", str(made["iris"].path / "golden.json"), *lenient(tmp_path, shape)),
        *("--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--master-port", port),
    )

    assert (done.code, done.last) == (0, "PASSED"), done.out + done.err
    assert re.search(r"processes that reported +2 +2 +ok", done.out)
    if shape == "arrivals":
        sent = int(re.search(r"  requests +(\d+)", done.out)[1])  # type: ignore[index]
        assert sent <= 5 * 40 + 40, "each process sent at the whole rate"


def test_the_masters_exit_code_is_the_verdict_of_all_its_workers(server: Server, tmp_path: Path) -> None:
    """Master and workers that were started by hand; only the master has the objectives and the host."""
    (tmp_path / "mine.toml").write_text("[steady]\np99_ms = 0.001\n")
    port = str(free_port())
    worker = command("--worker", "--master-port", port)
    workers = [
        subprocess.Popen(worker, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]
    try:
        done = locust(
            tmp_path,
            *("--host", server.url, "--shape", "steady", "-u", "4", "-t", "3s", "--objectives", "mine.toml"),
            *("--master", "--expect-workers", "2", "--master-bind-host", "127.0.0.1"),
            *("--master-bind-port", port),
        )
        for process in workers:
            process.wait(PATIENCE_S)
    finally:
        for process in workers:
            process.kill()
            process.wait()

    assert (done.code, done.last) == (1, "FAILED: p99_ms"), done.out + done.err
    assert re.search(r"processes that reported +2 +2 +ok", done.out)
    assert re.search(r"the server's counts +agree", done.out)


# ---- the web UI


def test_the_web_ui_starts_and_stops_tests_and_each_has_its_verdict(server: Server, tmp_path: Path) -> None:
    page = f"http://127.0.0.1:{free_port()}"
    options = ["--web-host", "127.0.0.1", "--web-port", page.rpartition(":")[2], "--class-picker"]
    with running(tmp_path, *options, *lenient(tmp_path, "steady", LENIENT.format(shape="spike"))) as process:
        html = until(lambda: fetch(page)).decode()
        assert "locust" in html.lower()
        assert '"spike"' in html.replace("&#34;", '"')

        for shape, expected in (("Default", "steady"), ("spike", "spike")):
            form = {"user_count": 2, "spawn_rate": 10, "host": server.url, "shape_class": shape}
            assert json.loads(fetch(f"{page}/swarm", **form, user_classes="PredictUser"))["success"]
            until(lambda: json.loads(fetch(f"{page}/stats/requests"))["total_rps"] > 0)
            fetch(f"{page}/stop", stop=1)
            out = until(lambda: (tmp_path / "out").read_text().partition(f"Verdict: {expected} ")[2])  # noqa: B023
            assert "the server's counts" in out
        process.terminate()
        code = process.wait(PATIENCE_S)

    assert (tmp_path / "out").read_text().count("PASSED") == 2
    assert code == 0


def test_a_host_that_is_wrong_in_the_web_ui_is_named_and_nothing_is_sent(tmp_path: Path) -> None:
    page = f"http://127.0.0.1:{free_port()}"
    nowhere = f"http://127.0.0.1:{free_port()}"
    options = ["--web-host", "127.0.0.1", "--web-port", page.rpartition(":")[2]]
    with running(tmp_path, *options):
        until(lambda: fetch(page))
        fetch(f"{page}/swarm", user_count=2, spawn_rate=10, host=nowhere)
        until(lambda: f"Nothing answers at {nowhere}" in (tmp_path / "out").read_text())
        assert json.loads(fetch(f"{page}/stats/requests"))["stats"][-1]["num_requests"] == 0


# ---- slips


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shape", "spkie"], "--shape spkie is unknown; did you mean 'spike'?"),
        (["--model", "irsi"], "{url} does not serve 'irsi'; did you mean 'iris'?"),
        (["--model", "linear", "MlflowUser"], "MlflowUser can only ask the default model"),
        (["--host", "127.0.0.1:3000"], "--host '127.0.0.1:3000' is not a base URL"),
        (["--host", "http://127.0.0.1:1"], "Nothing answers at http://127.0.0.1:1 ("),
        (["--objectives", "none.toml"], "--objectives none.toml cannot be read: No such file or directory."),
        (["--objectives", "slip.toml"], "[steady] p99 is not an objective; did you mean 'p99_ms'?"),
        (["--golden", "none.json"], "--golden none.json cannot be read: No such file or directory."),
        (["--golden", "{linear}"], "is not that of the live model 'iris' version 1 (its rows have no"),
        (
            ["--golden", "{old}"],
            "is not that of the live model 'iris' version 1 (its manifest names 'iris', run 000",
        ),
        (["--metrics", "localhost/metrics"], "--metrics 'localhost/metrics' is not a URL"),
        (["--shape", "arrivals", "--rate", "0"], "--rate is 0; the shape arrivals needs more than 0"),
        (["--pace", "-3"], "argument --pace: invalid rate_of value: '-3'"),
    ],
)
def test_a_slip_is_one_sentence_and_exit_code_2(
    arguments: list[str], said: str, server: Server, made: dict[str, Made], tmp_path: Path
) -> None:
    (tmp_path / "slip.toml").write_text("[steady]\np99 = 3\n")
    (tmp_path / "linear").mkdir()
    for name in ("golden.json", "manifest.json"):
        (tmp_path / name).write_bytes((made["iris"].path / name).read_bytes())
    (tmp_path / "linear" / "golden.json").write_bytes((made["linear"].path / "golden.json").read_bytes())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["manifest"]["run_id"] = "0" * 32
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    places = {"{linear}": "linear/golden.json", "{old}": "golden.json"}

    done = locust(
        tmp_path,
        *("--host", server.url, "-u", "1", "-t", "1s"),
        *(places.get(argument, argument) for argument in arguments),
    )

    assert done.code == 2, done.out + done.err
    assert said.replace("{url}", server.url) in done.err
    sentences = [line for line in done.err.splitlines() if "INFO" not in line and line.strip()]
    assert len(sentences) == 1, done.err
    assert done.out == ""


def test_a_slip_leaves_no_process_behind(tmp_path: Path) -> None:
    """Those that Locust forked have its output open, and waited a minute for a master that was gone."""
    port = str(free_port())
    done = locust(
        tmp_path,
        *("--host", "http://127.0.0.1:1", "-u", "2", "-t", "1s", "--processes", "2"),
        *("--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--master-port", port),
    )

    assert done.code == 2
    assert "Nothing answers at http://127.0.0.1:1 (" in done.err
    assert "heartbeat" not in done.err


def test_json_on_standard_output_is_json_alone(server: Server, tmp_path: Path) -> None:
    done = locust(
        tmp_path, *("--host", server.url, "-u", "2", "-t", "2s", "--json", *lenient(tmp_path, "steady"))
    )

    assert done.code == 0, done.err
    assert {entry["method"] for entry in json.loads(done.out)} == {"POST"}
    assert done.err.strip().splitlines()[-1] == "PASSED"


def test_without_a_host_it_says_how_to_give_one(tmp_path: Path) -> None:
    done = locust(tmp_path, "-u", "1", "-t", "1s")

    assert done.code == 2
    assert "name the server, such as --host http://127.0.0.1:3000" in done.err


def test_a_server_of_another_kind_is_told_from_ours(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("not JSON")
    port = free_port()
    with started(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        url=f"http://127.0.0.1:{port}",
        ready="/models",
        log=tmp_path / "log",
        cwd=tmp_path,
    ) as other:
        done = locust(tmp_path, "--host", other.url, "-u", "1", "-t", "1s")

    assert done.code == 2
    assert "lists no models: it is not an Okamochi server" in done.err
