"""The texts that the commands of `python -m training` print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from training.interpreter import typed
from training.registry.records import SIGNATURE, UNMEASURED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from training.decide.promote import GateResult
    from training.decide.timeline import Event
    from training.registry.records import Version
    from training.run import Result
    from training.settings import UseCase


def known_for(version: Version) -> str:
    """A version in a few words: its algorithm and its metric on the test rows."""
    tags = version.tags
    if UNMEASURED in tags:
        return f"{tags.get('algorithm', '?')}, unmeasured"
    metric = tags.get("metric", "")
    return f"{tags.get('algorithm', '?')}, {metric} {tags.get(f'test_{metric}', '?')}"


def told_version(version: Version, figures_tag: str) -> dict[str, Any]:
    """The facts that `show` prints about a version; `figures_tag` is the tag with the gate's figures."""
    tags = version.tags
    figures = json.loads(tags.get(figures_tag, "{}"))
    return {
        "version": version.number,
        "run": version.run_id,
        "algorithm": tags.get("algorithm"),
        "runtime": tags.get("runtime"),
        "runtime_reason": tags.get("runtime.reason", ""),
        "measured": UNMEASURED not in tags,
        "metric": tags.get("metric"),
        "signed_by": signer_of(tags),
        "gate": tags.get("gate", "not judged yet"),
        "reasons": tags.get("gate.reasons", ""),
        "size_mb": figures.get("size_mb"),
        "row_ms": figures.get("row_ms"),
        "metrics": figures.get("metrics")
        or {
            key.removeprefix("test_"): float(value) for key, value in tags.items() if key.startswith("test_")
        },
    }


def signer_of(tags: Mapping[str, str]) -> str | None:
    """The name of the key that signed a version, as its tag says; servers check it."""
    from artifact.signing import statement_of  # msgspec may be absent until a command is run

    said = statement_of(tags.get(SIGNATURE, ""))
    return None if said is None else said.signer


def side_by_side(told: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Rows for `table_of`: a column for each alias, a row for each fact."""
    sides = list(told.values())
    rows: list[tuple[str, ...]] = [("", *told)]
    rows += [
        (key, *(str(side[key] or "-") for side in sides))
        for key in ("version", "algorithm", "runtime", "gate")
    ]
    if any(side["signed_by"] for side in sides):
        rows.append(("signed by", *(side["signed_by"] or "nobody" for side in sides)))
    if not all(side["measured"] for side in sides):
        rows.append(("figures", *("measured" if side["measured"] else "unmeasured" for side in sides)))
    names = dict.fromkeys(name for side in sides for name in side["metrics"])
    rows += [(name, *(_figure(side["metrics"].get(name)) for side in sides)) for name in names]
    rows += [(key, *(_figure(side[key]) for side in sides)) for key in ("size_mb", "row_ms")]
    return rows


def told_timeline(events: Sequence[Event]) -> str:
    """A table with a line for each event, and why each last decision was made."""
    rows = [("time (UTC)", "version", "event", "gate", "algorithm", "test rows")]
    for event in events:
        figure = "-" if event.value is None else f"{event.metric} {event.value:.4g}"
        what = f"{event.what}, in place of version {event.replaced}" if event.replaced else event.what
        at = event.at.partition(".")[0].replace("T", " ") or "not known"
        rows.append((at, event.version, what, event.decision or "-", event.algorithm or "-", figure))
    last = ""
    decided = {_decided_by(event): event for event in events if event.reason}
    for who in ("The gate's last decision", "The rule's last decision", "The canary that was stopped last"):
        if who in decided:
            last += f"\n\n{who}, version {decided[who].version}: {decided[who].reason}"
    return table_of(rows) + last


def _decided_by(event: Event) -> str:
    from training.decide.timeline import STOPPED  # whoever has an event has imported it

    if event.what == STOPPED:
        return "The canary that was stopped last"
    return "The gate's last decision" if event.decision else "The rule's last decision"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def table_of(rows: Sequence[tuple[str, ...]]) -> str:
    """A table as text, each column as wide as its widest cell."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def result_of(use_case: UseCase, result: Result, name: str, *, goes_on: bool) -> str:
    """The last screen of a run: the winner, its metrics, the gate's decision, and the next command.

    Parameters
    ----------
    name
        The use case or its TOML file, as the user typed it.
    goes_on
        Whether the caller serves the model next; then no next step is named.
    """
    finished, gate = result.finished, result.gate
    metric = finished.tags["metric"]
    measured = UNMEASURED not in finished.tags
    does = "won" if use_case.model is None else "is measured" if measured else "is unmeasured"
    lines = ["", f"{use_case.title or use_case.name}: {finished.tags['algorithm']} {does}"]
    if result.resumed:
        lines.append("  An earlier run trained it and was interrupted; this run has completed it in MLflow.")
    lines += [f"  {member}" for member in finished.params["settings"].split("; ")]
    champion = gate.champion
    head = ["", f"version {gate.challenger.number}", "baseline"]
    compared = champion is not None and champion.number != gate.challenger.number
    head += [f"champion ({champion.number})"] if compared and champion is not None else []
    rows = [tuple(head)]
    for key, value in sorted(gate.metrics.items(), key=lambda pair: pair[0] != metric):
        cells = [key, _figure(value), _figure(finished.baseline.get(key))]
        cells += [_figure(gate.champion_metrics.get(key))] if compared else []
        rows.append(tuple(cells))
    lines += ["", table_of(rows), ""] if measured else [""]
    on = f"on {finished.params['test_rows']} test rows" if measured else finished.tags[UNMEASURED]
    lines.append(
        f"  {on}; runs by {finished.tags['runtime']}, "
        f"{gate.figures.size_mb:.3g} MB, {gate.figures.row_ms:.3g} ms a row"
    )
    if why := finished.tags.get("runtime.reason"):
        lines.append(f"  Runs by {finished.tags['runtime']}, as {why}")
    lines += [gate_of(use_case.name, gate), "  Experiments:  make mlflow"]
    if not gate.accepted:
        lines.append(f"  Next:         {typed(f'-m training show {name}')}")
    elif not goes_on:
        lines.append(f"  Next:         make serve USECASES={name}")
    return "\n".join(lines)


def gate_of(name: str, result: GateResult) -> str:
    """The gate's decision on a version, and its reasons."""
    says = "promoted to champion" if result.accepted else "refused; the champion stays"
    if not result.accepted and result.champion is None:
        says = "refused; there is no champion yet"
    reasons = [f"  - {reason}" for reason in result.decision.reasons]
    return "\n".join(["", f"The gate: {name} version {result.challenger.number} is {says}", *reasons, ""])
