"""Results as a Markdown page and a chart."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from benchmarks.load import Offered
    from benchmarks.results import Explained, Figure, Instructions, Results, Row

TITLES = {
    "logistic": "logistic regression",
    "forest": "forest of 200 trees",
    "splines": "splines, which have no ONNX form",
    "slow": "slow model",
}
OURS, THEIRS = "#c8553d", "#8a9ba8"


def write(results: Results, folder: Path) -> None:
    """Write results.json, results.md and results.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    (folder / "results.md").write_text(page(results))
    chart(results, folder / "results.svg")


def page(results: Results) -> str:
    """The whole page in Markdown."""
    parts = ["# Benchmark", *top(results)]
    for model in dict.fromkeys(row.model for row in results.rows):
        parts += [f"## One row per request, {TITLES[model]}, 64 connections", rate_table(results, model)]
    if results.absent:
        reasons = "; ".join(f"{name} ({why})" for name, why in results.absent.items())
        parts += [f"Not measured: {reasons}."]
    sections = (
        ("Figures", figure_table(results.figures)),
        ("Measured again for missed figures", model_table(results.retried)),
        ("Connections, logistic regression", connection_table(results.connections)),
        (
            "At a fixed offered rate, logistic regression, from when each request was due",
            fixed_table(results),
        ),
        ("10,000 rows in one request", bulk_table(results)),
        ("A second worker", model_table(results.workers)),
        ("Optional work of the server, each part alone", part_table(results.parts)),
        ("The same in instructions per request (callgrind)", instruction_table(results.instructions)),
        ("Keys", part_table(results.keys)),
        ("Explanations of one row", explained_table(results.explained)),
        ("Overload", overload_table(results)),
        ("Wrong answers", "\n".join(f"- {text}" for text in results.wrong)),
    )
    for title, text in sections:
        parts += [f"## {title}", text] if text else []
    return "\n\n".join(parts) + "\n"


def top(results: Results) -> list[str]:
    """The run, the machine, the versions."""
    machine = results.machine
    course = (
        f"{results.started}, {'quick, ' if results.quick else ''}{results.rounds} interleaved rounds of "
        f"{results.seconds:.0f} s, medians. {machine['processor']}, {machine['cores']} cores shared by "
        f"server and generator, {machine['memory_gb']} GB, {machine['system']}; {machine['generator']}."
    )
    return [course, ", ".join(f"{name} {number}" for name, number in results.versions.items()) + "."]


def fixed_table(results: Results) -> str:
    lines = [
        (one.title, f"{one.result.offered:,.0f}", f"{one.result.goodput:,.0f}", *latency(one.result))
        for one in results.fixed
    ]
    return table(("", "offered/s", "answered/s", "p50 ms", "p99 ms"), lines)


def bulk_table(results: Results) -> str:
    lines = [
        (TITLES[one.model], ms(one.in_process_ms), ms(one.decode_ms), ms(one.json_ms), ms(one.binary_ms))
        for one in results.bulk
    ]
    return table(("", "onnxruntime in process", "msgspec alone", "JSON over HTTP", "binary over HTTP"), lines)


def model_table(rows: Iterable[Row]) -> str:
    lines = [(TITLES[row.model], row.title, *numbers(row)) for row in rows]
    return table(("model", "", "rows/s", "p50 ms", "p99 ms", "errors"), lines)


def part_table(rows: Iterable[Row]) -> str:
    lines = [(row.title, *numbers(row), f"{row.cpu_us:.1f}" if row.cpu_us else "") for row in rows]
    return table(("", "rows/s", "p50 ms", "p99 ms", "errors", "CPU us"), lines)


def instruction_table(rows: Iterable[Instructions]) -> str:
    lines = [
        (
            row.title,
            f"{row.rarely:,.0f}",
            f"{row.often:,.0f}",
            f"{row.slower:.0f}",
            f"{100 * row.fraction:.2f} %",
        )
        for row in rows
    ]
    head = ("", "with nothing to do", "at work", "times as often as at full speed", "cost at full speed")
    return table(head, lines)


def explained_table(found: Iterable[Explained]) -> str:
    lines = [
        (
            f"{TITLES[one.model]}, {one.score}",
            f"{one.p50_ms:.2f}",
            f"{one.p90_ms:.2f}",
            f"{one.cpu_ms:.2f}" if one.cpu_ms is not None else "",
            f"{median(one.alone):,.0f}",
            f"{median(one.beside):,.0f}",
            f"{median(one.beside_explained):,.1f}",
        )
        for one in found
    ]
    head = ("", "p50 ms", "p90 ms", "CPU ms", "predictions/s alone", "beside", "explanations/s meanwhile")
    return table(head, lines)


def rate_table(results: Results, model: str) -> str:
    empty = results.row("empty", model)
    rows = sorted((row for row in results.rows if row.model == model), key=lambda row: -row.rate)
    lines = [
        (
            row.title,
            *numbers(row),
            f"{row.rate / empty.rate:.2f}" if empty and empty.rate else "",
            f"{row.cpu_us:,.0f}" if row.cpu_us else "",
            f"{row.worker_mb:.0f}" if row.worker_mb else "",
            f"{row.ready_s:.1f}" if row.ready_s else "",
        )
        for row in rows
    ]
    head = ("", "rows/s", "p50 ms", "p99 ms", "errors", "times empty", "CPU us", "worker MB", "ready s")
    return table(head, lines)


def figure_table(figures: Iterable[Figure]) -> str:
    said = {True: "met", False: "MISSED", None: "not measured"}
    rows = [
        (
            figure.title,
            TITLES[figure.model],
            f"{'>=' if figure.at_least else '<='} {figure.bound:g}",
            "" if figure.value is None else f"{figure.value:.3g}",
            said[figure.met] + (f" (first {figure.first:.3g})" if figure.first is not None else ""),
        )
        for figure in figures
    ]
    return table(("figure", "model", "bound", "value", ""), rows)


def connection_table(rows: Iterable[Row]) -> str:
    lines = [(row.title, str(row.connections), *numbers(row)) for row in rows]
    return table(("", "connections", "rows/s", "p50 ms", "p99 ms", "errors"), lines)


def overload_table(results: Results) -> str:
    lines = []
    for one in results.overload:
        for times, offered in one.open_loops.items():
            statuses = ", ".join(
                f"{count:,} x {status}" for status, count in sorted(offered.statuses.items())
            )
            livez = ms(offered.livez_ms)
            lines.append(
                (
                    TITLES[one.model],
                    f"{times} the peak of {one.peaks.get(times, one.peak):,.0f}/s",
                    f"{offered.goodput:,.0f}",
                    statuses,
                    livez,
                )
            )
        if one.crowd is not None:
            text = f"1,024 connections, peak {one.peak:,.0f}/s"
            lines.append(
                (TITLES[one.model], text, f"{one.crowd.rate:,.0f}", f"{one.crowd.errors} errors", "")
            )
    return table(("model", "load", "good/s", "answers", "slowest /livez"), lines)


def numbers(row: Row) -> tuple[str, str, str, str]:
    return f"{row.rate:,.0f}", *latency(row), str(row.errors)


def latency(one: Row | Offered) -> tuple[str, str]:
    """Median and 99th percentile, in ms."""
    return f"{one.p50_ms:.2f}", f"{one.p99_ms:.2f}"


def ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} ms"


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table; empty without rows."""
    if not rows:
        return ""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    lines.insert(1, "|" + "---|" + "---:|" * (len(head) - 1))
    return "\n".join(lines)


def chart(results: Results, path: Path) -> None:
    """Draw the rates as bars from zero, one panel for each model."""
    import matplotlib as mpl  # takes half a second, which `--help` must not wait for

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "okamochi"
    from matplotlib import pyplot as plt

    models = list(dict.fromkeys(row.model for row in results.rows))
    if not models:
        return
    most = max(sum(row.model == model for row in results.rows) for model in models)
    figure, axes = plt.subplots(len(models), 1, figsize=(9, 0.36 * most * len(models) + 1.6), squeeze=False)
    for axis, model in zip(axes[:, 0], models, strict=True):
        rows = sorted((row for row in results.rows if row.model == model), key=lambda row: row.rate)
        colours = [OURS if row.title.startswith("Okamochi") else THEIRS for row in rows]
        bars = axis.barh([row.title for row in rows], [row.rate for row in rows], color=colours)
        axis.bar_label(bars, [f"{row.rate:,.0f}" for row in rows], padding=3, fontsize=8)
        axis.set_xlim(right=max(row.rate for row in rows) * 1.12)
        axis.set_title(
            f"{TITLES[model]}: predictions per second, one row per request, 64 connections", fontsize=10
        )
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
