"""The model card: what a model predicts, its data, its quality and its limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.fairness_report import factor_lines, fairness_lines
from training.metrics.conformal import SPLITS
from training.metrics.metric import METRICS
from training.metrics.robustness import NOISE
from training.model_card import (
    ANALYSES,
    CAVEATS,
    DETAILS,
    EVALUATION,
    FACTORS,
    MEASURED,
    TRAINING,
    model_card,
    picture,
    table_cell,
)
from training.plots import NO_BEHAVIOUR, dependence_name, dependence_svg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from artifact.signature import Column, Signature
    from training.metrics.behaviour import Behaviour
    from training.metrics.conformal import Coverage
    from training.metrics.dependence import Dependence
    from training.metrics.fairness import Fairness
    from training.metrics.importances import Importance
    from training.metrics.slices import SliceFigure
    from training.ranking.rankers import MeasuredRanking
    from training.search.search import SearchResult
    from training.search.trial import Trial
    from training.settings import UseCase

MAX_COLUMNS, MAX_IMPORTANCES = 40, 10
SMALL_TEST = 100


def card(
    use_case: UseCase,
    *,
    signature: Signature,
    found: SearchResult,
    metrics: Mapping[str, float],
    baseline: Mapping[str, float],
    train_rows: int,
    test_rows: int,
    digest: str,
    slices: Sequence[SliceFigure] = (),
    groups: Sequence[Fairness] = (),
    behaviour: Behaviour = NO_BEHAVIOUR,
    coverages: Sequence[Coverage] = (),
    ranked: MeasuredRanking | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Write the card as Markdown.

    Parameters
    ----------
    metrics, baseline
        Metrics on the held-out rows, of the model and of a baseline that uses no column.
    digest
        SHA-256 of the data.
    groups
        How the model treats groups of people.
    coverages
        What prediction intervals, or sets of classes, come to.
    behaviour
        How the model uses its columns.
    ranked
        How items are ranked for users; None where they are not.
    notes
        Sentences on what was cleaned or left out.
    """
    preface = []
    if use_case.synthetic:
        preface = [
            "> **Synthetic data.** A program generated the rows; the metrics say nothing about real data.",
            "",
        ]
    preface += [use_case.description, ""] if use_case.description else []
    title = METRICS[found.metric].title
    analyses = quality_lines(metrics, baseline)
    analyses += ["", f"In cross-validation, {title}: {found.best.score:.4g} ({_spread(found.best)})."]
    analyses += ["", *_slices(found.metric, slices)] if slices else []
    analyses += ["", *fairness_lines(groups, signature.target)] if groups else []
    analyses += ["", *reliance_lines(behaviour, signature)]
    analyses += ["", *coverage_lines(coverages, signature)] if coverages else []
    analyses += ["", *robustness_lines(behaviour, signature)]
    analyses += ["", *ranking_lines(ranked)] if ranked is not None else []
    columns = _columns(signature.columns)
    training = f"{train_rows:,} rows of the same table; SHA-256 of the data `{digest[:16]}…`."
    sections = {
        DETAILS: _what(signature, found),
        FACTORS: factor_lines(groups),
        MEASURED: metric_lines(metrics, signature),
        EVALUATION: [f"{test_rows:,} held-out rows that neither search nor fit used."],
        TRAINING: [training, "", *columns, *([""] if notes else []), *(f"- {note}" for note in notes)],
        ANALYSES: analyses,
        CAVEATS: [f"- {limit}" for limit in _limits(signature, test_rows, synthetic=use_case.synthetic)],
    }
    pictures = pictures_of(behaviour, signature)
    return model_card(
        use_case.title or use_case.name, use_case.card, sections, preface=preface, pictures=pictures
    )


def metric_lines(metrics: Mapping[str, float], signature: Signature) -> list[str]:
    """Which metrics are measured, how the answer is decided, and how far chance is accounted for."""
    names = ", ".join(METRICS[key].title for key in metrics)
    lines = [f"- Measured: {names}."] if names else []
    if signature.threshold is not None:
        lines.append(
            f"- The answer is `{signature.positive}` from a probability of {signature.threshold:g} on."
        )
    elif signature.classes:
        lines.append("- The answer is the class with the highest probability.")
    lines.append("- Differences between models and between groups have 95 % bootstrap intervals.")
    return lines


def quality_lines(metrics: Mapping[str, float], baseline: Mapping[str, float]) -> list[str]:
    """Each metric of the model, beside that of a baseline that looks at no column."""
    lines = ["| metric | model | baseline |", "|---|---|---|"]
    for key, value in metrics.items():
        better = "higher" if METRICS[key].higher_is_better else "lower"
        beside = baseline.get(key, float("nan"))
        lines.append(f"| {METRICS[key].title} ({better} is better) | {value:.4g} | {beside:.4g} |")
    return lines


def coverage_lines(coverages: Sequence[Coverage], signature: Signature) -> list[str]:
    """What the option `interval` of a request promises, and what it came to on held-out rows."""
    size = "classes in a set, on average" if signature.classes else "from the prediction, up and down"
    rows = [f"| {each.level:g} | {each.covered:.3f} | {each.size:.4g} |" for each in coverages]
    about = (
        "A request may ask for an interval, or a set of classes, that holds the outcome with a given chance "
        "(split conformal prediction, calibrated on the held-out rows). Calibrated on a random half of them, "
        f"they held this fraction of the other half's outcomes, on average over {SPLITS} halvings:"
    )
    if signature.classes:
        after = [
            "",
            "The chance is that of all rows together: sets may hold the rows of a rare class far less often.",
        ]
    else:
        after = ["", "The chance is that of all rows together, not of each kind of row."]
    return [
        "### How sure it is",
        "",
        about,
        "",
        f"| level | held | {size} |",
        "|---|---|---|",
        *rows,
        *after,
    ]


_RANK_TITLES = {
    "ndcg_at_10": "NDCG@10",
    "recall_at_10": "Recall@10",
    "coverage_at_10": "Coverage: items in anybody's first ten",
}
_BY = {
    "rating": "the expected rating",
    "blend": "the expected rating with a bonus for items that many have rated",
    "preference": "factors of what users like (implicit least squares)",
    "popularity": "the number of users who like an item",
}


def ranking_lines(ranked: MeasuredRanking) -> list[str]:
    """How well items are ranked for users, beside the ranking by popularity."""
    rows = [
        f"| {title} | {ranked.figures[name]:.4g} | {ranked.baseline[name]:.4g} |"
        for name, title in _RANK_TITLES.items()
    ]
    tried = ", ".join(f"{name} {value:.4g}" for name, value in ranked.tried.items())
    about = (
        f"`/rank` orders {len(ranked.ranking.items):,} items by {_BY[ranked.ranking.by]}. Of "
        f"{ranked.users:,} users with a held-out rating of {ranked.relevant:g} or more, among all items that "
        f"they had not rated in training:"
    )
    lost = f" {ranked.unjudged:,} such ratings are of items that training had not seen, and do not count."
    return [
        "### Ranking",
        "",
        about,
        "",
        "| metric (higher is better) | model | popularity |",
        "|---|---|---|",
        *rows,
        "",
        f"Chosen by NDCG@10 on ratings held out of the training rows: {tried}."
        + (lost if ranked.unjudged else ""),
    ]


def _slices(metric: str, slices: Sequence[SliceFigure]) -> list[str]:
    rows = [
        f"| {table_cell(each.column)} | {table_cell(each.level)} | {each.rows:,} | {each.value:.4g} |"
        for each in slices
    ]
    head = f"| column | level | rows | {METRICS[metric].title} |"
    return ["### By group", "", head, "|---|---|---|---|", *rows]


def reliance_lines(behaviour: Behaviour, signature: Signature) -> list[str]:
    """Which columns the model relies on, and the curves of those that matter most."""
    lines = ["### What it relies on", ""]
    if behaviour.unmeasured:
        return [*lines, f"Not measured: {behaviour.unmeasured}."]
    if behaviour.importances:
        lines += ["| column | loss when shuffled | 95 % interval over shuffles |", "|---|---|---|"]
        lines += map(_importance, behaviour.importances[:MAX_IMPORTANCES])
    else:
        lines.append("No importances: they compare with true values, which the table does not have.")
    for each in behaviour.dependences:
        lines += ["", picture(dependence_name(signature, each), _told(each, signature))]
    if not behaviour.dependences:
        lines += ["", "No partial dependence: no number or category column that matters varies."]
    return lines


def _importance(each: Importance) -> str:
    ends = f"{each.mean - each.error:.3g} to {each.mean + each.error:.3g}"
    return f"| {table_cell(each.column)} | {each.mean:.3g} | {ends} |"


def _told(found: Dependence, signature: Signature) -> str:
    """A curve in words: the score at both ends."""
    place, what = 0, "the mean prediction"
    if signature.classes:
        place = signature.positive_index if signature.task == "binary" else 0
        what = f"the mean probability of {signature.classes[place]}"
    elif signature.numbers:
        what = f"the mean {signature.numbers[0]}"
    ends = " and ".join(
        f"{found.scores[i, place]:.3g} at {value if isinstance(value, str) else format(value, 'g')}"
        for i, value in ((0, found.values[0]), (-1, found.values[-1]))
    )
    return f"Partial dependence on {found.column}: {what} is {ends}."


def pictures_of(behaviour: Behaviour, signature: Signature) -> dict[str, str]:
    """The pictures that `reliance_lines` refers to, as SVG."""
    return {
        dependence_name(signature, each): dependence_svg(signature, each) for each in behaviour.dependences
    }


def robustness_lines(behaviour: Behaviour, signature: Signature) -> list[str]:
    """What a little noise does."""
    lines = ["### Robustness", ""]
    found = behaviour.robust
    if behaviour.unmeasured:
        return [*lines, f"Not measured: {behaviour.unmeasured}."]
    if found is None:
        return [*lines, "Not measured: noise needs a number column that varies, and the table has none."]
    told = f"{found.changed:.2%} of the labels change"
    if not signature.classes:
        told = f"a prediction moves by {found.changed:.2%} of the predictions' standard deviation, on average"
    noise = f"noise of {NOISE:.0%} of its standard deviation in every number column at once"
    return [*lines, f"With {noise}, {told} ({found.rows:,} rows with noise)."]


def _columns(columns: Sequence[Column]) -> list[str]:
    rows = [f"| {table_cell(each.name)} | {each.kind} | {_takes(each)} |" for each in columns[:MAX_COLUMNS]]
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
        "category": f"{len(column.categories)} categories, most often {table_cell(column.mode or '')}",
        "text": f"text, {len(column.terms):,} terms"
        + (f", {len(column.letters):,} runs of letters" if column.letters else "")
        + (", counts" if column.counts else ""),
        "image": f"picture, seen as {seen_as(column)}",
        "date": "dates: " + ", ".join(column.parts),
    }[column.kind]
    return told + ("; may be missing" if column.missing == "allow" else "")


def seen_as(column: Column) -> str:
    """What a model sees of a picture."""
    if column.pixels is None:
        return ", ".join(column.views)
    return f"{column.pixels.width} x {column.pixels.height} pixels" + " in grey" * column.pixels.grey


def _number(value: float | None) -> str:
    return "?" if value is None or not np.isfinite(value) else f"{value:g}"


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
