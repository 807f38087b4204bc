"""The steps of the benchmark: start, check, load in interleaved rounds, measure memory, stop."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING

import msgspec

from benchmarks import bulk, explained, figures
from benchmarks.contestants import CONTESTANTS, GATEWAY, OURS, WITH_ITS_LIBRARY, Contestant, Setting
from benchmarks.environments import CHECKOUT, Absent, cache, digest, say
from benchmarks.load import Sampler, closed_loop, difference, open_loop, write_requests
from benchmarks.models import FILE, HELD_OUT, KINDS, OWN_PROCESS, SLOW, read
from benchmarks.parts import OFF, PARTS
from benchmarks.parts import measure as measure_parts
from benchmarks.results import FixedLoad, Overload, Results, Row, blank, summary
from benchmarks.servers import (
    BenchError,
    Server,
    cpu_since_mark,
    free_port,
    mark_cpu,
    memory,
    post,
    running,
    wait_ready,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benchmarks.dialects import Dialect
    from benchmarks.load import Load
    from benchmarks.models import Prepared

CONNECTIONS = 64
KEPT_MODELS = 4
"""The sets of fitted models that are kept, since other checkouts may be using theirs."""
WARM_UP_S = 1.0
LADDER = (1, 8, 64, 256)
OFFERED = (500, 2_000, 8_000, 16_000)
BEYOND = (2, 5, 10)
CROWD, CROWDS = 16, 3
PART_ROUNDS, PART_S = 15, 1.0
"""Many short rounds: a part may cost less than the machine's speed changes from one second to the next."""
QUICK_RETRY_S = 110.0
"""After this time a quick run measures nothing again, since it must end within three minutes."""
OVERLOAD_S = 4.0
"""The minimum: an overloaded slow model answers some hundred requests per second, each after 0.25 s."""


@dataclass(frozen=True)
class Plan:
    """What is measured, for how long and how often.

    Parameters
    ----------
    only
        Names of contestants; empty for all of the plan.
    parts, own_process, trust
        Measure only the optional work of the server, only the model in a process of its own, or only keys and
        explanations.
    """

    quick: bool
    rounds: int
    seconds: float
    only: tuple[str, ...] = ()
    parts: bool = False
    own_process: bool = False
    trust: bool = False


@dataclass
class Live:
    """A route of a running server."""

    name: str
    title: str
    dialect: Dialect
    server: Server
    requests: Path
    row: Row = field(init=False)


def run(plan: Plan, scratch: Path) -> Results:
    """Measure everything of the plan, judge the figures, and measure missed ones once more."""
    models = prepared_models()
    results = blank(quick=plan.quick, rounds=plan.rounds, seconds=plan.seconds)
    bench = Bench(plan, models, scratch, results)
    alone = plan.parts or plan.own_process or plan.trust
    for kind in KINDS if not alone else ():
        bench.compare(kind.name)
    if plan.own_process or not alone:
        bench.own_process()
    if plan.parts:
        bench.parts()
    elif plan.trust:
        bench.keys()
        bench.explanations()
    elif not plan.quick and not alone:
        bench.second_worker()
        bench.parts()
        bench.keys()
        bench.explanations()
        bench.overload(SLOW.name)
        bench.overload(KINDS[0].name)
    results.figures = figures.judge(results)
    bench.retry()
    measured = results.rows + results.retried
    results.wrong += [f"{row.title}, {row.model}: {text}" for row in measured for text in row.wrong]
    results.wrong += [text for one in [*results.bulk, *results.explained] for text in one.wrong]
    results.wrong += [f"{row.title}: {text}" for row in results.keys for text in row.wrong]
    results.missed = [f"{figure.title} ({figure.model})" for figure in results.figures if figure.met is False]
    return results


def prepared_models() -> Path:
    """The folder of the models in all their forms; they are fitted once."""
    here = Path(__file__).resolve().parent
    lock = CHECKOUT / "requirements" / "dev.txt"
    of_artifacts = [*sorted((CHECKOUT / "artifact").glob("*.py")), CHECKOUT / "training" / "export.py"]
    sources = [here / "models.py", lock, *of_artifacts]
    folder = cache() / f"models-{digest(*sources)}"
    if not (folder / SLOW.name / FILE).is_file():
        tell("fitting the models, once")
        by_age = sorted(cache().glob("models-*"), key=lambda old: -old.stat().st_mtime)
        for old in by_age[KEPT_MODELS:]:
            shutil.rmtree(old, ignore_errors=True)
        say([sys.executable, "-m", "benchmarks.models", str(folder)], folder=CHECKOUT)
    return folder


class Bench:
    """One run: its plan, its models, the folder of its servers, and its results."""

    def __init__(self, plan: Plan, models: Path, scratch: Path, results: Results) -> None:
        self.plan, self.models, self.scratch, self.results = plan, models, scratch, results
        self.starts = 0
        self.began = time.monotonic()

    def compare(self, model: str) -> None:
        """Measure every contestant with this model."""
        with self.started(self.contestants(), model) as live:
            self.results.rows += self.rounds(live, model)
            ours = self.ours(live)
            if ours is not None:
                tell(f"{model}: 10,000 rows in one request")
                prepared = read(self.models, model)
                self.results.bulk.append(bulk.measure(ours.server, prepared, self.models / model))
            if not self.plan.quick and model == KINDS[0].name:
                self.ladder(live, model)
                self.fixed(live, model)

    def own_process(self) -> None:
        """Measure the model that has no ONNX form."""
        with self.started(self.contestants(WITH_ITS_LIBRARY), OWN_PROCESS.name) as live:
            self.results.rows += self.rounds(live, OWN_PROCESS.name)

    def contestants(self, of: tuple[Contestant, ...] = CONTESTANTS) -> list[Contestant]:
        chosen = [one for one in of if one.quick or one.name in self.plan.only or not self.plan.quick]
        return [one for one in chosen if not self.plan.only or one.name in self.plan.only]

    def ours(self, live: Iterable[Live]) -> Live | None:
        """Our /predict: on the express lane if there is one, else on the gateway."""
        found = {one.name: one for one in live}
        return found.get("predict") or found.get("predict-gateway")

    @contextlib.contextmanager
    def started(
        self, contestants: Iterable[Contestant], model: str, environment: dict[str, str] | None = None
    ) -> Iterator[list[Live]]:
        """Start each contestant, wait until it answers, and check its answers to the held-out rows."""
        prepared = read(self.models, model)
        with ExitStack() as stack:
            live: list[Live] = []
            for contestant in contestants:
                try:
                    live += self.start(stack, contestant, prepared, environment or {})
                except Absent as reason:
                    self.results.absent[contestant.name] = str(reason)
                    tell(f"{contestant.name}: absent, {reason}")
            yield live

    def setting(self, prepared: Prepared, name: str) -> Setting:
        """A port and a folder for another server."""
        self.starts += 1
        scratch = self.scratch / f"{self.starts:02}-{name}"
        scratch.mkdir()
        return Setting(prepared, self.models / prepared.name, free_port(), scratch)

    def start(
        self, stack: ExitStack, contestant: Contestant, prepared: Prepared, environment: dict[str, str]
    ) -> list[Live]:
        setting = self.setting(prepared, contestant.name)
        port, scratch = setting.port, setting.scratch
        command = contestant.start(setting)
        command.environment.update(environment)
        began = time.monotonic()
        server = stack.enter_context(running(contestant.name, command, port, scratch / "log"))
        first = next(iter(contestant.routes.values()))
        wait_ready(
            server,
            first.path.format(model=prepared.name),
            first.body(prepared.rows[:1]),
            began,
            headers=first.headers,
        )
        tell(f"{prepared.name}: {contestant.name} answers after {server.ready_s:.1f} s")
        live = []
        routes = contestant.quick_routes if self.plan.quick else tuple(contestant.routes)
        for name in routes or contestant.routes:
            dialect = contestant.routes[name]
            path = dialect.path.format(model=prepared.name)
            status, answer = post(port, path, dialect.body(prepared.rows[:1]), dialect.headers)
            if status in {404, 405, 501}:
                self.results.absent[name] = f"no {dialect.path.format(model=prepared.name)} yet ({status})"
                continue
            if status != 200:
                raise BenchError(f"{contestant.name}, {dialect.path}: {status} {answer[:300]!r}")
            requests = write_requests(scratch / f"{name}.requests", dialect, prepared)
            one = Live(name, contestant.titles[name], dialect, server, requests)
            one.row = Row(
                name=name, title=one.title, model=prepared.name, connections=CONNECTIONS, rounds=[],
                rate=0.0, p50_ms=0.0, p99_ms=0.0, errors=0, ready_s=server.ready_s, wrong=[],
            )  # fmt: skip
            one.row.wrong += held_out(one, prepared)
            live.append(one)
        return live

    def rounds(
        self, live: list[Live], model: str, rounds: int | None = None, seconds: float | None = None
    ) -> list[Row]:
        """Load every route in turn, in several rounds; measure the worker's memory after each."""
        prepared = read(self.models, model)
        rounds, seconds = rounds or self.plan.rounds, seconds or self.plan.seconds
        for one in live:
            closed_loop(one.server.port, one.requests, connections=CONNECTIONS, seconds=WARM_UP_S)
        for number in range(rounds):
            for one in live:
                mark_cpu(one.server)
                with Sampler(one.server, one.dialect, prepared) as sampler:
                    load = closed_loop(
                        one.server.port, one.requests, connections=CONNECTIONS, seconds=seconds
                    )
                one.row.rounds.append(load)
                used = cpu_since_mark(one.server)
                if used is not None:
                    one.row.cpu_rounds_us.append(used / (load.requests + sampler.asked) * 1e6)
                one.row.asked_under_load += sampler.asked
                one.row.wrong += sampler.wrong[:5]
                weight = memory(one.server)
                if weight:
                    one.row.worker_mb, one.row.all_mb = weight
                tell(
                    f"{model}: round {number + 1}, {one.title}: {load.rate:,.0f}/s, p99 {load.p99_ms:.2f} ms"
                )
        for one in live:
            one.row.cpu_us = median(one.row.cpu_rounds_us) if one.row.cpu_rounds_us else None
        return [summary(one.row) for one in live]

    def ladder(self, live: list[Live], model: str) -> None:
        """Measure the rate with other numbers of connections."""
        for connections in LADDER:
            for one in (
                one for one in live if one.name in {"empty", "compiled", "predict", "predict-gateway"}
            ):
                load = closed_loop(
                    one.server.port, one.requests, connections=connections, seconds=self.plan.seconds
                )
                tell(f"{model}: {connections} connections, {one.title}: {load.rate:,.0f}/s")
                self.results.connections.append(self.single(one, load, connections))

    def single(self, one: Live, load: Load, connections: int) -> Row:
        row = Row(
            name=one.name, title=one.title, model=one.row.model, connections=connections, rounds=[load],
            rate=0.0, p50_ms=0.0, p99_ms=0.0, errors=0,
        )  # fmt: skip
        return summary(row)

    def fixed(self, live: list[Live], model: str) -> None:
        """Latency at a fixed offered rate, where it is below the route's own peak."""
        for rate in OFFERED:
            for one in (
                one for one in live if one.row.rate > rate and not one.name.startswith(("v2", "invoc"))
            ):
                result = open_loop(one.server.port, one.requests, rate=rate, seconds=self.plan.seconds)
                tell(f"{model}: {rate:,}/s offered, {one.title}: p99 {result.p99_ms:.2f} ms")
                self.results.fixed.append(
                    FixedLoad(name=one.name, title=one.title, model=model, result=result)
                )

    def second_worker(self) -> None:
        """Measure the gain of a second worker with both models; the generator uses the same cores."""
        for kind in KINDS:
            with ExitStack() as stack:
                live = []
                for workers in (1, 2):
                    environment = {"OKAMOCHI_WORKERS": str(workers)}
                    started = stack.enter_context(self.started([self.lane()], kind.name, environment))
                    one = self.ours(started)
                    if one is None:
                        return
                    one.row.title = f"{one.title}, {workers} worker{'s' if workers > 1 else ''}"
                    one.title = one.row.title
                    live.append(one)
                self.results.workers += self.rounds(live, kind.name)

    def parts(self) -> None:
        """Measure what each part of the optional work costs the express lane."""
        with ExitStack() as stack:
            live = []
            for number, part in enumerate((OFF, *PARTS)):
                folder = self.scratch / f"part-{number}"
                started = stack.enter_context(self.started([self.lane()], KINDS[0].name, part.within(folder)))
                one = self.ours(started)
                if one is None:
                    return
                one.row.title = one.title = part.title
                live.append(one)
            self.results.parts = self.rounds(live, KINDS[0].name, PART_ROUNDS, PART_S)
        tell("counting instructions")
        try:
            prepared, peak = read(self.models, KINDS[0].name), self.results.parts[0].rate
            self.results.instructions = measure_parts(
                lambda: self.setting(prepared, "callgrind"), OURS.routes["predict"], peak
            )
        except (Absent, BenchError) as reason:  # keep what was measured before
            self.results.absent["instructions of the parts"] = str(reason)

    def keys(self) -> None:
        """Measure what keys cost: two servers, of which one asks each request for its key."""
        file = self.scratch / "keys.json"
        add = [
            sys.executable,
            "-m",
            "deploy",
            "keys",
            "add",
            "bench",
            "--role",
            "predict",
            "--file",
            str(file),
        ]
        secret = next(word for word in say(add, folder=CHECKOUT).split() if word.startswith("okamochi_"))
        with ExitStack() as stack:
            live = []
            for title, environment, headers in (
                (figures.KEYS_OFF, {}, {}),
                (figures.KEYS_ON, {"OKAMOCHI_KEYS": str(file)}, {"X-API-Key": secret}),
            ):
                lane = self.lane()
                name = next(iter(lane.routes))
                route = replace(lane.routes[name], headers=headers)
                lane = replace(lane, routes={name: route}, quick_routes=(name,))
                started = stack.enter_context(self.started([lane], KINDS[0].name, environment))
                for one in started:
                    one.row.title = one.title = title
                    live.append(one)
            self.results.keys = self.rounds(live, KINDS[0].name, PART_ROUNDS, PART_S)

    def explanations(self) -> None:
        """Measure single explanations, and predictions beside them."""
        for kind in KINDS:
            with self.started([self.lane()], kind.name) as live:
                one = self.ours(live)
                if one is None:
                    return
                tell(f"{kind.name}: explanations")
                found = explained.measure(
                    one.server,
                    read(self.models, kind.name),
                    one.requests,
                    connections=CONNECTIONS,
                    rounds=PART_ROUNDS,
                    seconds=PART_S,
                )
                self.results.explained.append(found)

    def lane(self) -> Contestant:
        return GATEWAY if OURS.name in self.results.absent else OURS

    def overload(self, model: str) -> None:
        """Measure beyond the knee: the slow model in an open loop, the fast one with many connections."""
        with self.started([self.lane()], model) as live:
            one = self.ours(live)
            if one is None:
                return
            seconds = max(self.plan.seconds, OVERLOAD_S)
            port, requests = one.server.port, one.requests

            def peak() -> float:
                return closed_loop(port, requests, connections=CONNECTIONS, seconds=seconds).goodput

            closed_loop(port, requests, connections=CONNECTIONS, seconds=WARM_UP_S)
            peaks = [peak()]
            found = Overload(model=model, peak=peaks[0])
            if model == SLOW.name:
                for times in BEYOND:
                    offered = open_loop(
                        port, requests, rate=peaks[-1] * times, seconds=seconds * 2,
                        connections=2048, livez=True,
                    )  # fmt: skip
                    tell(f"{model}: {times} times the peak offered, goodput {offered.goodput:,.0f}/s")
                    peaks.append(peak())
                    found.open_loops[f"{times} times"] = offered
                    found.peaks[f"{times} times"] = mean(peaks[-2:])
            else:
                crowds: list[Load] = []
                for _ in range(CROWDS):
                    crowds.append(
                        closed_loop(port, requests, connections=CONNECTIONS * CROWD, seconds=seconds)
                    )
                    tell(f"{model}: {CONNECTIONS * CROWD} connections: {crowds[-1].rate:,.0f}/s")
                    peaks.append(peak())
                middle = sorted(crowds, key=lambda load: load.rate)[CROWDS // 2]
                errors = sum(load.errors for load in crowds)
                found.crowd = msgspec.structs.replace(middle, errors=errors)
            found.peak = median(peaks)
            self.results.overload = [one for one in self.results.overload if one.model != model] + [found]

    def retry(self) -> None:
        """Measure the rows of missed figures once more, side by side; figures that were met stay."""
        missed = [figure for figure in self.results.figures if figure.met is False]
        if missed and self.plan.quick and time.monotonic() - self.began > QUICK_RETRY_S:
            tell("missed figures are not measured again: no time is left")
            return
        again = Bench(self.plan, self.models, self.scratch / "again", blank_like(self.results))
        if missed:
            again.scratch.mkdir()
        for model in dict.fromkeys(figure.model for figure in missed):
            names = {name for figure in missed if figure.model == model for name in figure.rows}
            tell(f"{model}: measuring again for missed figures: {', '.join(sorted(names))}")
            again.measure(names, model)
        second = {(figure.title, figure.model): figure for figure in figures.judge(again.results)}
        for figure in missed:
            fresh = second.get((figure.title, figure.model))
            figure.first = figure.value
            if fresh is not None and fresh.value is not None:
                figure.value = fresh.value
        self.results.retried = again.results.rows
        self.results.wrong += again.results.wrong

    def measure(self, names: set[str], model: str) -> None:
        """Measure the rows that `Figure.rows` names."""
        if f"overload {model}" in names:
            self.overload(model)
        if figures.PARTS in names:
            self.parts()
        if figures.KEYS in names:
            self.keys()
        if figures.EXPLAINED in names:
            self.explanations()
        chosen = [
            one
            for one in self.contestants()
            if names & set(one.routes) or (figures.BULK in names and one is self.lane())
        ]
        with self.started(chosen, model) as live:
            self.results.rows += self.rounds([one for one in live if one.name in names], model)
            ours = self.ours(live)
            if figures.BULK in names and ours is not None:
                self.results.bulk.append(
                    bulk.measure(ours.server, read(self.models, model), self.models / model)
                )


def blank_like(results: Results) -> Results:
    """Empty results for the second measurement."""
    return blank(quick=results.quick, rounds=results.rounds, seconds=results.seconds)


def held_out(one: Live, prepared: Prepared) -> list[str]:
    """Compare the answers to the held-out rows, each sent alone, with scikit-learn's."""
    wrong = []
    for row, label in zip(prepared.rows[:HELD_OUT], prepared.labels[:HELD_OUT], strict=True):
        status, answer = post(
            one.server.port,
            one.dialect.path.format(model=prepared.name),
            one.dialect.body([row]),
            one.dialect.headers,
        )
        problem = (
            difference(one.dialect, answer, [label])
            if status == 200
            else f"status {status}: {answer[:200]!r}"
        )
        if problem:
            wrong.append(problem)
    return wrong[:5]


def tell(text: str) -> None:
    """Print progress to standard error."""
    print(text, file=sys.stderr, flush=True)
