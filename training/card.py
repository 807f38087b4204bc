"""The model card: what a model predicts, its data, its quality and its limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.metrics.metric import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from artifact.signature import Column, Signature
    from training.metrics.importances import Importance
    from training.metrics.slices import SliceFigure
    from training.search.search import SearchResult
    from training.search.trial import Trial

MAX_COLUMNS, MAX_IMPORTANCES = 40, 10
SMALL_TEST = 100


def card(
    *,
    name: str,
    title: str,
    description: str,
    synthetic: bool,
    signature: Signature,
    found: SearchResult,
    metrics: Mapping[str, float],
    baseline: Mapping[str, float],
    train_rows: int,
    test_rows: int,
    digest: str,
    slices: Sequence[SliceFigure] = (),
    importances: Sequence[Importance] = (),
    notes: Sequence[str] = (),
    runtime: str = "",
) -> str:
    """Write the card as Markdown.

    Parameters
    ----------
    metrics, baseline
        Metrics on the held-out rows, of the model and of a baseline that uses no column.
    digest
        SHA-256 of the data.
    notes
        Sentences on what was cleaned or left out.
    runtime
        A sentence about how the model is served.
    """
    lines = [f"# {title or name}", ""]
    if synthetic:
        lines += [
            "> **Synthetic data.** A program generated the rows; the metrics say nothing about real data.",
            "",
        ]
    lines += [description, ""] if description else []
    lines += ["## What it is", "", *_what(signature, found), ""]
    lines += [runtime, ""] if runtime else []
    lines += _quality(found, metrics, baseline, test_rows)
    lines += _slices(found.metric, slices) if slices else []
    lines += _importances(importances) if importances else []
    lines += [
        "## Data",
        "",
        f"{train_rows:,} rows to train on, {test_rows:,} held out; SHA-256 `{digest[:16]}…`.",
        "",
        *_columns(signature.columns),
    ]
    lines += ["", *(f"- {note}" for note in notes), *([""] if notes else [])]
    lines += [
        "## Limits",
        "",
        *(f"- {limit}" for limit in _limits(signature, test_rows, synthetic=synthetic)),
        "",
    ]
    return "\n".join(lines)


def _quality(
    found: SearchResult, metrics: Mapping[str, float], baseline: Mapping[str, float], test_rows: int
) -> list[str]:
    lines = ["## How good it is", "", f"On {test_rows:,} held-out rows that neither search nor fit used:", ""]
    lines += ["| metric | model | baseline |", "|---|---|---|"]
    for key, value in metrics.items():
        better = "higher" if METRICS[key].higher_is_better else "lower"
        beside = baseline.get(key, float("nan"))
        lines.append(f"| {METRICS[key].title} ({better} is better) | {value:.4g} | {beside:.4g} |")
    title, best = METRICS[found.metric].title, found.best
    return [*lines, "", f"In cross-validation, {title}: {best.score:.4g} ({_spread(best)}).", ""]


def _slices(metric: str, slices: Sequence[SliceFigure]) -> list[str]:
    rows = [
        f"| {_cell(each.column)} | {_cell(each.level)} | {each.rows:,} | {each.value:.4g} |"
        for each in slices
    ]
    head = f"| column | level | rows | {METRICS[metric].title} |"
    return ["## Slices", "", head, "|---|---|---|---|", *rows, ""]


def _importances(importances: Sequence[Importance]) -> list[str]:
    rows = [f"| {_cell(each.column)} | {each.mean:.3g} |" for each in importances[:MAX_IMPORTANCES]]
    return ["## What it relies on", "", "| column | loss when shuffled |", "|---|---|", *rows, ""]


def _columns(columns: Sequence[Column]) -> list[str]:
    rows = [f"| {_cell(each.name)} | {each.kind} | {_takes(each)} |" for each in columns[:MAX_COLUMNS]]
    more = len(columns) - MAX_COLUMNS
    rows += [f"| … {more} more | | |"] if more > 0 else []
    return ["| column | kind | what it takes |", "|---|---|---|", *rows]


def _what(signature: Signature, found: SearchResult) -> list[str]:
    if signature.classes:
        shown = ", ".join(f"`{label}`" for label in signature.classes[:20])
        task = f"Predicts `{signature.target}`, one of {shown}."
    else:
        task = f"Predicts `{signature.target}`, a number."
    tried = len([trial for trial in found.trials if trial.family != "ensemble"])
    by = METRICS[found.metric].title
    return [task, f"{found.best.title}, chosen among {tried} candidates by {by} over {found.folds} folds."]


def _spread(trial: Trial) -> str:
    return "folds " + ", ".join(f"{figure:.4g}" for figure in trial.fold_scores)


def _takes(column: Column) -> str:
    told = {
        "number": f"{_number(column.minimum)} to {_number(column.maximum)}, median {_number(column.median)}",
        "category": f"{len(column.categories)} categories, most often {_cell(column.mode or '')}",
        "text": f"text, {len(column.terms):,} terms",
        "date": "dates: " + ", ".join(column.parts),
    }[column.kind]
    return told + ("; may be missing" if column.missing == "allow" else "")


def _number(value: float | None) -> str:
    return "?" if value is None or not np.isfinite(value) else f"{value:g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _limits(signature: Signature, test_rows: int, *, synthetic: bool) -> list[str]:
    limits = ["It was trained on rows within the ranges above; outside them it extrapolates."]
    if test_rows < SMALL_TEST:
        limits.append(f"Only {test_rows} rows were held out: the metrics may be wrong by several points.")
    if synthetic:
        limits.append("It is for demonstration and load tests; make no decisions with it.")
    if signature.threshold is None and signature.classes:
        limits.append(
            "The label is the one with the highest probability; the costs of errors are not considered."
        )
    limits.append("The importance of a column says how much the model uses it, not that it is a cause.")
    return limits
