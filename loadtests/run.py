"""A load test from its options to its verdict, on Locust's own events.

A single process does everything. Of several, the master reads the server's models, sends the plan to the
workers with their first users, collects their tallies when the test ends, and judges.
"""

from __future__ import annotations

import html
import logging
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
import psutil
from locust.runners import STATE_MISSING, MasterRunner, WorkerRunner

from loadtests import objectives, payloads, target, verdict
from loadtests.errors import UsageError, nearest
from loadtests.protocols import INVOCATIONS
from loadtests.server_metrics import NotOurs, disagreements
from loadtests.shapes import SHAPES
from loadtests.staged import SPAWN_RATE, USERS, Staged
from loadtests.tally import Tally, percentile
from loadtests.traffic import DRAIN_S, Traffic, processes_of
from loadtests.verdict import Line, Stage

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from locust.env import Environment
    from locust.event import Events

logger = logging.getLogger(__name__)

WRONG_USAGE = 2
STOP_TIMEOUT_S = 5.0
"""How long a user that is stopped early may wait for the answer to its last request."""
WINDOWS = 600
"""The maximum number of windows in a tally; each is a second or longer."""
SHOWN = 5
LATE_MS = 10.0
SETTLE_S = 0.5
"""How long a server takes to count its last answers in its metrics."""
SHORT = (
    "  Locust had too little processor time, so the times are longer and the rates lower than\n"
    "  those of the server: use --processes, or run Locust on another machine."
)
FINISH, TALLY = "okamochi_finish", "okamochi_tally"
PLAN = "okamochi_plan"


def options(parser: ArgumentParser) -> None:
    """Add our options to Locust's; texts and numbers only, since a master sends them to its workers."""
    hidden: dict[str, Any] = {"include_in_web_ui": False}
    parser.add_argument(
        "--shape", metavar="NAME", help=f"how the load changes over time: {', '.join(SHAPES)}", **hidden
    )
    parser.add_argument(
        "--objectives",
        default=str(objectives.DEFAULT),
        metavar="FILE",
        help="the objectives, one table for each shape (default: loadtests/objectives.toml)",
        **hidden,
    )
    parser.add_argument(
        "--model", default="", metavar="NAME", help="the model to ask (default: the server's default model)"
    )
    parser.add_argument(
        "--golden",
        default="",
        metavar="FILE",
        help="the golden.json of the live model: send its rows, check every answer against its scores",
        **hidden,
    )
    parser.add_argument(
        "--pace",
        type=rate_of,
        default=2.0,
        metavar="N",
        help="requests per second of each user; 0: the next as soon as an answer comes (default 2)",
    )
    parser.add_argument(
        "--rate",
        type=rate_of,
        default=200.0,
        metavar="N",
        help="requests per second of all users together in the shape arrivals (default 200)",
    )
    parser.add_argument(
        "--metrics",
        default="",
        metavar="URL",
        help="the server's metrics (default: HOST/metrics); the sum over all addresses of the host name",
        **hidden,
    )


def rate_of(text: str) -> float:
    """A number from 0; argparse makes the error message."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError(text)
    return value


def with_verdict(page: str, text: str) -> str:
    """Locust's report with the verdict on top; the last `</body>` ends the page, others are in scripts."""
    style = "<style>body { display: flex; flex-direction: column }</style>"
    mine = f'<pre style="order: -1; margin: 2em">{html.escape(text)}</pre>'
    before, end, after = page.rpartition("</body>")
    return f"{before}{style}{mine}{end}{after}"


def attach(events: Events) -> None:
    """Register this load test with Locust."""
    events.init_command_line_parser.add_listener(options)
    events.init.add_listener(_init)


def interrupt_the_main_greenlet() -> None:
    """Make Ctrl-C interrupt Locust's main greenlet, whichever greenlet is running.

    Python raises KeyboardInterrupt in the running greenlet. In a user's greenlet it would abort a request,
    which the server counts and the run does not.
    """
    hub = gevent.get_hub()

    def interrupted(_signum: int, _frame: Any) -> None:
        hub.loop.run_callback_threadsafe(hub.parent.throw, KeyboardInterrupt)

    signal.signal(signal.SIGINT, interrupted)


def _init(environment: Environment, **_: Any) -> None:
    interrupt_the_main_greenlet()
    run = Run(environment)
    environment.okamochi = run  # type: ignore[attr-defined]
    try:
        run.prepare()
    except UsageError as error:
        print(error, file=sys.stderr)
        if isinstance(environment.runner, MasterRunner):
            # Locust does not end the workers of --processes; they would wait a minute for their master.
            for forked in psutil.Process().children():
                forked.terminate()
        sys.exit(WRONG_USAGE)


class Run:
    """The load test of this process.

    Parameters
    ----------
    traffic
        The requests of this process' users; None before the first test and on a master.
    broken
        The reason why the users must not start.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.traffic: Traffic | None = None
        self.broken = ""
        self._options: Any = environment.parsed_options
        self._runner: Any = environment.runner
        self._master = isinstance(self._runner, MasterRunner)
        self._worker = isinstance(self._runner, WorkerRunner)
        self._objectives = objectives.Objectives()
        self._before: Any = None
        self._pages: list[str] = []
        self._processes = 1
        self._started = self._ended = 0.0
        self._tallies: dict[str, Tally] = {}
        self._text = ""

    # ---- before a test

    def prepare(self) -> None:
        """Check the options, and the server if it is known already; register for Locust's events.

        Raises
        ------
        UsageError
        """
        events = self.environment.events
        events.test_start.add_listener(self._test_start)
        events.test_stopping.add_listener(self._test_stopping)
        if self._worker:
            self._runner.register_message(FINISH, self._finish, concurrent=True)
            events.quitting.add_listener(self._finish)  # Ctrl-C reaches all processes of a terminal
            return
        events.test_stop.add_listener(self._test_stop)
        events.quitting.add_listener(self._quitting)
        events.quit.add_listener(self._quit)
        if self._master:
            self._runner.register_message(TALLY, self._collect)
        self._attach_shape()
        self._objectives = objectives.read(Path(self._options.objectives), self._shape, tuple(SHAPES))
        self.environment.stop_timeout = self.environment.stop_timeout or STOP_TIMEOUT_S
        if self.environment.host or self._options.headless or self._options.autostart:
            self._plan()

    @property
    def _shape(self) -> str:
        """The shape whose objectives apply; without a shape, `steady`, since the number of users stays."""
        shape = self.environment.shape_class
        return shape.name if isinstance(shape, Staged) else "steady"

    def _attach_shape(self) -> None:
        shapes = {name: Staged(name) for name in SHAPES}
        self.environment.available_shape_classes = shapes  # for Locust's own --class-picker
        name = self._options.shape
        if name and name not in SHAPES:
            raise UsageError(f"--shape {name} is unknown; {nearest(name, SHAPES)}")
        if name:
            shapes[name].runner = self._runner
            self.environment.shape_class = shapes[name]
            self._options.num_users = self._options.num_users or USERS
            self._options.spawn_rate = self._options.spawn_rate or SPAWN_RATE

    def _plan(self) -> dict[str, Any]:
        """Read the server's models; return all that a process needs to send requests.

        Raises
        ------
        UsageError
        """
        given = self._options
        host = self.environment.host
        if not host:
            raise UsageError("--host is missing; name the server, such as --host http://127.0.0.1:3000.")
        model = target.live_model(host, given.model)
        self._leave_out_invocations(model.name, default=model.default)
        golden = payloads.read_golden(Path(given.golden), model) if given.golden else None
        self._pages = target.each(given.metrics or f"{host.rstrip('/')}/metrics")
        arrivals = self._shape == "arrivals"
        if arrivals and not given.rate:
            raise UsageError("--rate is 0; the shape arrivals needs more than 0 requests per second.")
        seconds = given.run_time or getattr(self.environment.shape_class, "seconds", 0)
        return {
            "model": asdict(model),
            "golden": golden and golden.message(),
            "shed_allowed": self._objectives.shed_rate is not None,
            "pace": given.pace,
            "rate": given.rate if arrivals else 0.0,
            "processes": self._processes,
            "window_s": max(1.0, seconds / WINDOWS),
        }

    def _leave_out_invocations(self, name: str, *, default: bool) -> None:
        """Leave out users of MLflow's route, which names no model, unless the model is the default."""
        if default:
            return
        users: list[Any] = self.environment.user_classes
        kept = [user for user in users if INVOCATIONS not in user.protocols]
        left_out = [user.__name__ for user in users if INVOCATIONS in user.protocols]
        if left_out and (self._options.user_classes or not kept):
            raise UsageError(
                f"{' and '.join(left_out)} can only ask the default model, not {name!r}, since /invocations "
                "names no model; leave out that user or --model."
            )
        self.environment.user_classes[:] = kept

    # ---- Locust's events

    def _test_start(self, **_: Any) -> None:
        self.broken = ""
        if self._worker:
            plan = getattr(self._options, PLAN, None)
        else:
            plan = self._begin()
            setattr(self._options, PLAN, plan)  # Locust sends it to the workers
        if plan is None:
            self.broken = self.broken or "the master has no plan"
            if not self._worker:
                gevent.spawn(self._runner.quit if self._options.headless else self._runner.stop)
        elif not self._master:
            self.traffic = Traffic(plan, max(0, self._runner.worker_index))

    def _begin(self) -> dict[str, Any] | None:
        self._tallies = {}
        self._processes = processes_of(self._runner)
        self._started, self._ended = time.time(), 0.0
        try:
            self._objectives = objectives.read(Path(self._options.objectives), self._shape, tuple(SHAPES))
            plan = self._plan()
        except UsageError as error:
            self.broken = str(error)
            return None
        try:
            self._before = target.counts(self._pages)
        except (OSError, NotOurs) as error:
            self._before = str(error)
        self._started = time.time()
        return plan

    def _test_stopping(self, **_: Any) -> None:
        """Wait for the answers to the last requests: an aborted request cannot be counted."""
        self._ended = time.time()
        if self._master:
            self._runner.send_message(FINISH)
            end = time.monotonic() + DRAIN_S + 5
            while self._awaited() and time.monotonic() < end:
                gevent.sleep(0.05)
        elif self.traffic is not None:
            self.traffic.close()
            if not self._worker:
                self._tallies["local"] = self.traffic.tally

    def _awaited(self) -> bool:
        """On the master: whether a connected worker has not sent its tally yet."""
        workers = [worker for worker in self._runner.clients.all if worker.state != STATE_MISSING]
        return any(worker.id not in self._tallies for worker in workers)

    def _finish(self, **_: Any) -> None:
        """On a worker: the test ends; send the tally to the master."""
        if self.traffic is not None:
            self.traffic.close()
            self._runner.send_message(TALLY, self.traffic.tally.message())

    def _collect(self, msg: Any, **_: Any) -> None:
        """On the master: receive a worker's tally."""
        self._tallies[msg.node_id] = Tally.of(msg.data)

    def _test_stop(self, **_: Any) -> None:
        if not self._started:
            return
        if self.broken:
            self._text = self.broken
            self.environment.process_exit_code = WRONG_USAGE
        else:
            lines, text = self._judge()
            self._text = text
            self.environment.process_exit_code = 0 if verdict.passed(lines) else 1
        self._started = 0.0
        if not self._options.headless:
            self._say(self._text)

    def _quitting(self, **_: Any) -> None:
        """Judge the requests so far if the test is interrupted; put the verdict into the report."""
        if self._started and not self._ended:
            self._runner.stop()
        report = self._options.html_file
        if report and self._text and Path(report).is_file():
            page = Path(report).read_text(encoding="utf-8")
            Path(report).write_text(with_verdict(page, self._text), encoding="utf-8")

    def _quit(self, **_: Any) -> None:
        if self._options.headless and self._text:
            self._say(f"\n{self._text}")

    def _say(self, text: str) -> None:
        """Print to standard output; with Locust's --json, which is printed there, to standard error."""
        print(text, file=sys.stderr if self._options.json else sys.stdout, flush=True)

    # ---- after a test

    def _judge(self) -> tuple[list[Line], str]:
        tally = Tally(next((each.width_s for each in self._tallies.values()), 1.0))
        for one in self._tallies.values():
            tally.add(one)
        stages = self._stages(tally)
        whole = tally.total()
        if self._shape == "step":
            lines = verdict.judge_steps(stages, whole, self._objectives)
        else:
            lines = verdict.judge(whole, self._ended - self._started, self._objectives)
        if self._master:
            lines += self._reports()
        reasons = self._reconcile(tally)
        agrees = "agree" if not reasons else "disagree"
        lines.append(Line("the server's counts", agrees, "agree", met=not reasons))
        if tally.unanswered:
            lines.append(Line("without an answer", f"{tally.unanswered.total():,}"))
        lateness = percentile(tally.lateness, 0.95)
        lines.append(Line("Locust's own lateness", "none" if lateness is None else f"p95 {lateness:.3g} ms"))
        notes = [f"  {reason}" for reason in reasons[:SHOWN]]
        if self._short_of_processor(lateness):
            notes.append(SHORT)
        text = verdict.table(f"{self._shape} against {self.environment.host}", lines, notes)
        return lines, "\n".join([verdict.steps_table(stages), text] if len(stages) > 1 else [text])

    def _short_of_processor(self, lateness_ms: float | None) -> bool:
        runner = self._runner
        busy = runner.cpu_warning_emitted or runner.worker_cpu_warning_emitted
        return bool(busy or (lateness_ms or 0.0) > LATE_MS)

    def _stages(self, tally: Tally) -> list[Stage]:
        shape = self.environment.shape_class
        if not isinstance(shape, Staged):
            return []
        found = []
        for users, start, end in shape.held(self._ended):
            window, seconds = tally.between(start + 1, end)  # users are added in its first second
            if seconds:
                found.append(Stage(users, seconds, window))
        return found

    def _reports(self) -> list[Line]:
        reported = len(self._tallies)
        expected = max(self._processes, reported)
        return [Line("processes that reported", str(reported), str(expected), met=reported == expected > 0)]

    def _reconcile(self, tally: Tally) -> list[str]:
        if isinstance(self._before, str):
            return [self._before]
        try:
            found = disagreements(self._before, target.counts(self._pages), tally)
            if found:
                gevent.sleep(SETTLE_S)
                found = disagreements(self._before, target.counts(self._pages), tally)
        except (OSError, NotOurs) as error:
            return [str(error)]
        return found
