"""The figures that this benchmark asserts, computed from its results."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from benchmarks.models import OWN_PROCESS
from benchmarks.results import Figure

if TYPE_CHECKING:
    from benchmarks.results import Bulk, Explained, Instructions, Overload, Results, Row

FRAMEWORKS = ("fastapi", "flask", "mlserver", "litserve")
OURS = "predict"
PROTOCOLS = ("v2", "invocations")
BULK = "bulk"
PARTS = "parts"
KEYS, EXPLAINED = "keys", "explained"
KEYS_OFF, KEYS_ON = "keys off", "keys on"
EXPLAINED_MS = {"logistic": 3, "forest": 30}
OFF = "all of it off"


def judge(results: Results) -> list[Figure]:
    """Every figure for every model that was measured, as ratios within the run."""
    figures = []
    for model in dict.fromkeys(row.model for row in results.rows):
        figures += own_process(results) if model == OWN_PROCESS.name else rates(results, model)
    for bulk in results.bulk:
        figures += bulks(bulk)
    for overload in results.overload:
        figures += overloads(overload)
    figures += instructions(results.instructions) or parts(results.parts)
    figures += keys(results.keys)
    for one in results.explained:
        figures += explained(one)
    return figures


def rates(results: Results, model: str) -> list[Figure]:
    """The figures of one row per request."""
    rows = {row.name: row for row in results.rows if row.model == model}
    frameworks = [rows[name] for name in FRAMEWORKS if name in rows]
    fastest = max(frameworks, key=lambda row: row.rate, default=None)

    def times(name: str, other: str, title: str, bound: float) -> Figure:
        return compared(results, model, [name, other], title, bound)

    figures = [
        times(OURS, "empty", "/predict, times the empty ASGI app", 1.5),
        times(OURS, "compiled", "/predict, times the compiled server", 1.0),
        times(OURS, fastest.name if fastest else "", "/predict, times the fastest framework", 20),
        times(OURS, "bentoml", "/predict, times BentoML's batchable API", 40),
        *(times(name, "empty", f"/{name}, times the empty ASGI app", 1.0) for name in PROTOCOLS),
    ]
    p99_ms = rows[OURS].p99_ms if OURS in rows else None
    return [*figures, at_most("/predict, p99 in ms at 64 connections", 4, p99_ms, model, [OURS])]


def own_process(results: Results) -> list[Figure]:
    """The figures of a model that its own library scores."""
    title = "/predict, times FastAPI with the same pipeline"
    return [compared(results, OWN_PROCESS.name, [OURS, "fastapi"], title, 5)]


def compared(results: Results, model: str, names: list[str], title: str, bound: float) -> Figure:
    """The lower bound of the ratio of two rows' rates."""
    one, other = names
    return at_least(title, bound, ratio(results.row(one, model), results.row(other, model)), model, names)


def bulks(bulk: Bulk) -> list[Figure]:
    """The figures of many rows in one request."""
    if bulk.model == "forest":
        json, binary = (
            fraction(bulk.in_process_ms, bulk.json_ms),
            fraction(bulk.in_process_ms, bulk.binary_ms),
        )
        return [
            at_least("10,000 rows in JSON, of the rate in process", 0.5, json, bulk.model, [BULK]),
            at_least("10,000 rows in binary, of the rate in process", 0.85, binary, bulk.model, [BULK]),
        ]
    json = fraction(bulk.json_ms, bulk.decode_ms)
    return [at_most("10,000 rows in JSON, times decoding the body", 1.7, json, bulk.model, [BULK])]


def overloads(overload: Overload) -> list[Figure]:
    """The figures of one overloaded model."""
    model, again = overload.model, [f"overload {overload.model}"]
    figures = []
    for times, offered in overload.open_loops.items():
        strange = sum(count for status, count in offered.statuses.items() if status not in {"200", "429"})
        goodput = offered.goodput / overload.peaks.get(times, overload.peak)
        figures += [
            at_most(f"overload {times}, neither 200 nor 429", 0, strange, model, again),
            at_least(f"overload {times}, goodput of the peak", 0.9, goodput, model, again),
            at_most(f"overload {times}, /livez in ms", 100, offered.livez_ms, model, again),
        ]
    if overload.crowd is not None:
        rate = overload.crowd.rate / overload.peak
        figures += [
            at_most("1,024 connections, errors", 0, overload.crowd.errors, model, again),
            at_least("1,024 connections, rate of the peak", 0.9, rate, model, again),
        ]
    return figures


def instructions(rows: list[Instructions]) -> list[Figure]:
    """What each part may cost, in instructions."""
    return [
        at_most(f"instructions with {row.title}", 1.03, 1 + row.fraction, row.model, [PARTS])
        for row in rows
        if row.title != OFF
    ]


def parts(rows: list[Row]) -> list[Figure]:
    """The same by processor time, where instructions were not counted; it is less exact.

    Each round is compared with that of the server without any part, since the machine's speed changes.
    """
    off = next((row.cpu_rounds_us for row in rows if row.title == OFF), [])
    return [
        at_most(f"processor time with {row.title}", 1.03, beside(row.cpu_rounds_us, off), row.model, [PARTS])
        for row in rows
        if row.title != OFF
    ]


def keys(rows: list[Row]) -> list[Figure]:
    """The rate with keys, of that without: the median over pairs of rounds."""
    rates = {row.title: [load.goodput for load in row.rounds] for row in rows}
    if not rates:
        return []
    value = beside(rates[KEYS_ON], rates[KEYS_OFF])
    return [at_least("rate with keys, of the rate without", 0.97, value, rows[0].model, [KEYS])]


def explained(found: Explained) -> list[Figure]:
    """The time of an explanation on an idle server, and what it leaves of the rate of predictions."""
    rate = beside(found.beside, found.alone)
    title = f"one explanation ({found.score}), median in ms"
    return [
        at_most(title, EXPLAINED_MS[found.model], found.p50_ms, found.model, [EXPLAINED]),
        at_least("predictions beside explanations, of the rate alone", 0.95, rate, found.model, [EXPLAINED]),
    ]


def beside(part: list[float], off: list[float]) -> float | None:
    """The median ratio of the rounds; None without rounds."""
    pairs = list(zip(part, off, strict=bool(part and off)))
    return median(one / other for one, other in pairs) if pairs else None


def at_least(title: str, bound: float, value: float | None, model: str, rows: list[str]) -> Figure:
    """A figure with a lower bound."""
    return Figure(title=title, bound=bound, at_least=True, value=value, model=model, rows=rows)


def at_most(title: str, bound: float, value: float | None, model: str, rows: list[str]) -> Figure:
    """A figure with an upper bound."""
    return Figure(title=title, bound=bound, at_least=False, value=value, model=model, rows=rows)


def ratio(one: Row | None, other: Row | None) -> float | None:
    """The ratio of two rates; None where one of them is absent."""
    return one.rate / other.rate if one and other and other.rate else None


def fraction(part: float | None, whole: float | None) -> float | None:
    """The ratio of two times; None where one was not measured."""
    return part / whole if part and whole else None
