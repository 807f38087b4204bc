"""Pictures of a model: each can be understood without the others."""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from training.families.ensemble import ENSEMBLE
from training.metrics.behaviour import Behaviour
from training.metrics.metric import METRICS, ranked
from training.metrics.truth import truth_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from artifact.signature import Signature
    from training.metrics.dependence import Dependence
    from training.metrics.importances import Importance
    from training.search.trial import Trial

INK, SOFT, GRID = "#22303c", "#8a97a3", "#e4e9ed"
COLOURS = (
    "#2f6f9f",
    "#d9822b",
    "#4c9a6a",
    "#b5495b",
    "#7b62a3",
    "#3aa6a6",
    "#96703d",
    "#c86fa0",
    "#6d7f2f",
    "#4d5b68",
)
mpl.rcParams["text.parse_math"] = False  # the name of a column or a class may have dollars
MAX_CURVES, MAX_BARS, MAX_NAMED_CLASSES = 10, 20, 15
NO_BEHAVIOUR = Behaviour()
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def plots(
    signature: Signature,
    y: Sequence[Any] | NDArray[Any],
    scores: NDArray[np.float64],
    *,
    metric: str,
    trials: Sequence[Trial] = (),
    behaviour: Behaviour = NO_BEHAVIOUR,
) -> dict[str, Figure]:
    """The pictures of a task, by the name of their file.

    Parameters
    ----------
    y
        The data's own labels, or values, of the test rows.
    scores
        The scores of the same rows, shape (rows, k).
    """
    found: dict[str, Figure] = {}
    if signature.classes:
        found["roc"] = _roc(signature, y, scores)
        found["precision_recall"] = _precision_recall(signature, y, scores)
        found["calibration"] = _calibration(signature, y, scores)
        found["confusion"] = _confusion(signature, y, scores)
    else:
        for place, (name, actual, predicted) in enumerate(_values(signature, y, scores)):
            after = f"_{place}" if signature.numbers else ""
            found[f"predictions{after}"] = _predictions(name, actual, predicted)
            found[f"residuals{after}"] = _residuals(name, actual, predicted)
    found |= plots_of_behaviour(signature, behaviour, metric)
    if trials:
        found["search"] = _search(trials, metric)
    return found


def plots_of_behaviour(signature: Signature, behaviour: Behaviour, metric: str) -> dict[str, Figure]:
    """The pictures that need no true values, and the importances, by the name of their file."""
    found: dict[str, Figure] = {}
    if behaviour.importances:
        found["importances"] = _importances(behaviour.importances, metric)
    for each in behaviour.dependences:
        found[dependence_name(signature, each)] = _dependence(signature, each)
    return found


def dependence_name(signature: Signature, found: Dependence) -> str:
    """The name of a curve's file, without the name of the column, which may be no name of a file."""
    return f"dependence_{signature.names.index(found.column) + 1}"


def dependence_svg(signature: Signature, found: Dependence) -> str:
    """The curve of one column as SVG, with its text as text, so that a reader's own fonts show it."""
    figure = _dependence(signature, found)
    figure.set_size_inches(5.6, 3.8)
    written = io.StringIO()
    style = {"svg.fonttype": "none", "svg.hashsalt": dependence_name(signature, found)}
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(written, format="svg", metadata={"Date": None})
    drawn = re.sub(r"^.*?(?=<svg)|<metadata>.*?</metadata>", "", written.getvalue(), flags=re.DOTALL)
    drawn = _NOT_XML.sub(" ", drawn)
    return re.sub(r"font-family: [^;\"]+", "font-family: sans-serif", re.sub(r"\s*\n\s*", " ", drawn))


def _axes(title: str, x: str, y: str, *, width: float = 6.4, height: float = 4.8) -> tuple[Figure, Axes]:
    # A Figure without pyplot, so nothing stays open and no display is needed.
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK)
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    axes.tick_params(colors=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _sides(signature: Signature) -> list[tuple[int, str]]:
    """The classes with a curve: the positive one of two, at most ten of several."""
    if signature.task == "binary":
        place = signature.positive_index
        return [(place, str(signature.classes[place]))]
    return [(i, str(label)) for i, label in enumerate(signature.classes)][:MAX_CURVES]


def _truth(signature: Signature, y: Sequence[Any] | NDArray[Any]) -> Any:
    return truth_of(signature.task, y, signature.classes, signature.positive, signature.threshold)


def _roc(signature: Signature, y: Sequence[Any] | NDArray[Any], scores: NDArray[np.float64]) -> Figure:
    truth = _truth(signature, y)
    area = METRICS["roc_auc"].compute(truth, scores)
    figure, axes = _axes(f"ROC curve, area {area:.3f}", "False alarm rate", "Hit rate", width=5.6, height=5.2)
    axes.plot([0, 1], [0, 1], color=SOFT, linestyle=":", linewidth=1.2, label="chance")
    for (place, name), colour in zip(_sides(signature), COLOURS, strict=False):
        _, hits, alarms = ranked(truth.y == place, truth.weights, scores[:, place])
        if hits[-1] > 0 and alarms[-1] > 0:
            hit, alarm = np.append(0, hits / hits[-1]), np.append(0, alarms / alarms[-1])
            axes.plot(alarm, hit, color=colour, linewidth=2, label=name)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def _precision_recall(
    signature: Signature, y: Sequence[Any] | NDArray[Any], scores: NDArray[np.float64]
) -> Figure:
    truth = _truth(signature, y)
    area = METRICS["average_precision"].compute(truth, scores)
    figure, axes = _axes(
        f"Precision and recall, average precision {area:.3f}", "Recall", "Precision", width=5.6, height=5.2
    )
    for (place, name), colour in zip(_sides(signature), COLOURS, strict=False):
        yes = truth.y == place
        _, hits, alarms = ranked(yes, truth.weights, scores[:, place])
        if hits[-1] > 0:
            axes.step(
                hits / hits[-1], hits / (hits + alarms), color=colour, linewidth=2, label=name, where="pre"
            )
            axes.axhline(yes.mean(), color=colour, linestyle=":", linewidth=1, alpha=0.6)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.03))
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    return figure


def _calibration(
    signature: Signature, y: Sequence[Any] | NDArray[Any], scores: NDArray[np.float64]
) -> Figure:
    truth = _truth(signature, y)
    figure, axes = _axes(
        "Calibration: the fraction of rows that have the predicted class",
        "Predicted probability",
        "Observed fraction",
        height=5.2,
    )
    axes.plot([0, 1], [0, 1], color=SOFT, linestyle=":", linewidth=1.2, label="perfect")
    for (place, name), colour in zip(_sides(signature), COLOURS, strict=False):
        given, yes = scores[:, place], truth.y == place
        bins = np.clip((given * 10).astype(int), 0, 9)
        counts = np.bincount(bins, minlength=10)
        there = counts > 0
        mean = np.bincount(bins, given, 10)[there] / counts[there]
        fraction = np.bincount(bins, yes, 10)[there] / counts[there]
        axes.plot(mean, fraction, color=colour, linewidth=1.6, label=name)
        axes.scatter(mean, fraction, s=12 + 160 * counts[there] / counts.sum(), color=colour, zorder=3)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    return figure


def _confusion(signature: Signature, y: Sequence[Any] | NDArray[Any], scores: NDArray[np.float64]) -> Figure:
    truth = _truth(signature, y)
    k = len(signature.classes)
    table = np.bincount(truth.y * k + truth.predicted(scores), minlength=k * k).reshape(k, k)
    fraction = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(2.6 + 0.55 * k, 4.2, 10))
    figure, axes = _axes(
        "Confusion: rows of each class", "Predicted", "Actual", width=side + 0.8, height=side
    )
    axes.grid(visible=False)
    axes.imshow(fraction, cmap="Blues", vmin=0, vmax=1)
    if k <= MAX_NAMED_CLASSES:
        for i, j in np.ndindex(k, k):
            if table[i, j]:
                colour = "white" if fraction[i, j] > 0.55 else INK
                axes.text(j, i, f"{table[i, j]:,}", ha="center", va="center", color=colour, fontsize=9)
        names = [str(label)[:18] for label in signature.classes]
        turned = 45 if max(map(len, names)) * k > 30 else 0
        axes.set_xticks(range(k), names, rotation=turned, ha="right" if turned else "center")
        axes.set_yticks(range(k), names)
    return figure


def _values(
    signature: Signature, y: Sequence[Any] | NDArray[Any], scores: NDArray[np.float64]
) -> list[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
    """Each target with its actual and its predicted values; at most ten."""
    truth = _truth(signature, y)
    names = signature.numbers or (signature.target,)
    actual = truth.y.reshape(len(truth.y), -1).T
    return list(zip(names, actual, scores.T, strict=True))[:MAX_CURVES]


def _predictions(name: str, actual: NDArray[np.float64], predicted: NDArray[np.float64]) -> Figure:
    r2 = METRICS["r2"].compute(truth_of("regression", actual), predicted[:, None])
    figure, axes = _axes(
        f"Predicted and actual {name}, R² {r2:.3f}", "Actual", "Predicted", width=5.6, height=5.2
    )
    ends = [min(actual.min(), predicted.min()), max(actual.max(), predicted.max())]
    axes.plot(ends, ends, color=SOFT, linestyle=":", linewidth=1.2)
    axes.scatter(actual, predicted, s=14, alpha=0.5, color=COLOURS[0], edgecolors="none")
    return figure


def _residuals(name: str, actual: NDArray[np.float64], predicted: NDArray[np.float64]) -> Figure:
    figure, axes = _axes(f"Residuals of {name}", "Predicted", "Actual minus predicted")
    axes.axhline(0, color=SOFT, linestyle=":", linewidth=1.2)
    axes.scatter(predicted, actual - predicted, s=14, alpha=0.5, color=COLOURS[0], edgecolors="none")
    return figure


def _importances(importances: Sequence[Importance], metric: str) -> Figure:
    shown = list(importances[:MAX_BARS])[::-1]
    title = METRICS[metric].title
    figure, axes = _axes(
        f"Importances: loss of {title} when a column is shuffled",
        f"Loss of {title}, with 95 % intervals",
        "",
        width=7.2,
        height=1.6 + 0.28 * len(shown),
    )
    axes.grid(visible=False, axis="y")
    axes.barh(
        [each.column[:40] for each in shown],
        [each.mean for each in shown],
        xerr=[each.error for each in shown],
        color=COLOURS[0],
        error_kw={"ecolor": SOFT, "elinewidth": 1},
    )
    return figure


def _dependence(signature: Signature, found: Dependence) -> Figure:
    name = found.column[:60]
    score = "Mean probability" if signature.classes else f"Mean {signature.target}"
    if signature.numbers:
        score = "Mean"
    figure, axes = _axes(f"Partial dependence on {name}", name, score)
    sides = _sides(signature) if signature.classes else [(0, signature.target)]
    if signature.numbers:
        sides = list(enumerate(signature.numbers))[:MAX_CURVES]
    names = [each[:20] if isinstance(each, str) else each for each in found.values]
    marker = "o" if isinstance(names[0], str) else ""
    for (place, label), colour in zip(sides, COLOURS, strict=False):
        axes.plot(names, found.scores[:, place], color=colour, linewidth=2, label=label, marker=marker)
    if isinstance(names[0], str):
        axes.tick_params(axis="x", rotation=30)
    if signature.classes or signature.numbers:
        axes.legend(frameon=False)
    return figure


def _search(trials: Sequence[Trial], metric: str) -> Figure:
    found = METRICS[metric]
    complete = [trial for trial in trials if np.isfinite(trial.score)]
    figure, axes = _axes(
        "The search: cross-validated score of each candidate", "Trial", found.title, width=7.6
    )
    families = list(dict.fromkeys(trial.family for trial in complete))
    for name, colour in zip(families, COLOURS * 2, strict=False):
        own = [trial for trial in complete if trial.family == name]
        title = "Ensemble" if name == ENSEMBLE else own[0].title
        for state, marker in (("complete", "o"), ("pruned", "x")):
            part = [trial for trial in own if trial.state == state]
            label = title if part and (state == "complete" or len(part) == len(own)) else None
            axes.scatter(
                [trial.number for trial in part],
                [trial.score for trial in part],
                marker="*" if name == ENSEMBLE else marker,
                s=130 if name == ENSEMBLE else 32,
                color=colour,
                label=label,
                zorder=3,
            )
    full = [trial for trial in complete if trial.state == "complete"]
    if full:
        best = np.maximum.accumulate([found.sign * trial.score for trial in full]) * found.sign
        axes.step([trial.number for trial in full], best, where="post", color=INK, linewidth=1, alpha=0.6)
        figures = np.array([trial.score for trial in complete])
        low, high = np.quantile(figures, [0.1, 0.9])
        good = max(figures) if found.higher_is_better else min(figures)
        room = 0.15 * max(high - low, 1e-9)
        if found.higher_is_better:
            axes.set_ylim(low - room, good + room)
        else:
            axes.set_ylim(good - room, high + room)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), title="x: pruned")
    return figure


def live_quality(
    title: str,
    metric: str,
    days: Mapping[str, NDArray[np.float64]],
    *,
    promise: float,
    live: tuple[float, float],
) -> Figure:
    """A metric by day, with the value that was promised.

    Parameters
    ----------
    days
        By date: the value and the ends of its confidence interval, shape (3,).
    live
        The interval over all days.
    """
    figure, axes = _axes(title, "Day (UTC)", metric, width=8.0)
    places = np.arange(len(days))
    values = np.array(list(days.values())).reshape(-1, 3)
    axes.axhspan(*live, color=COLOURS[0], alpha=0.15, linewidth=0, label="all days, 95 %")
    axes.axhline(promise, color=COLOURS[1], linestyle="--", linewidth=1.6, label=f"promised: {promise:.4g}")
    spread = np.abs(values[:, 1:] - values[:, :1]).T
    axes.errorbar(
        places,
        values[:, 0],
        yerr=spread,
        color=COLOURS[0],
        marker="o",
        linewidth=1.2,
        capsize=3,
        label="one day, 95 %",
    )
    step = max(1, len(days) // 10)
    axes.set_xticks(places[::step], list(days)[::step], rotation=30, ha="right")
    axes.legend(frameon=False, fontsize=9)
    return figure
