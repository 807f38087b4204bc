"""The comparison on public tables as a Markdown table and as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.report import OURS, THEIRS, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TITLES = {"roc_auc": "ROC AUC", "log_loss": "log loss", "accuracy": "accuracy", "rmse": "RMSE"}


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many tables there are, and on how many of them ours does what is promised."""
    return {
        "tables": len(rows),
        "better": sum(row["gain"] >= 0 for row in rows),
        "better_or_equal": sum(row["better_or_equal"] for row in rows),
        "significantly_worse": [row["name"] for row in rows if row["significantly_worse"]],
        "beyond_the_promise": [row["name"] for row in rows if not row["within_the_promise"]],
    }


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table in Markdown, with a line below that counts."""
    lines = [
        (
            f"{row['name']}: {row['about']}",
            f"{row['training_rows']:,} x {row['columns']}",
            ", ".join(TITLES[name] for name in row["ours"]),
            ", ".join(_figure(value) for value in row["ours"].values()),
            ", ".join(_figure(value) for value in row["theirs"].values()),
            _gain(row),
            f"{row['seconds']:.0f}",
            f"{row['row_ms']:.2g}",
            f"{row['their_row_ms']:.2g}",
        )
        for row in rows
    ]
    head = (
        "table",
        "training rows x columns",
        "figure",
        "Okamochi",
        "AutoGluon",
        "gain, 95 % interval",
        "seconds",
        "ms a row",
        "AutoGluon's",
    )
    found = summary(rows)
    counted = (
        f"Better on {found['better']} of {found['tables']} tables; better, or worse by no more than chance "
        f"explains, on {found['better_or_equal']}; significantly worse by more than 0.01 ROC AUC or 2 % of "
        f"the error: {', '.join(found['beyond_the_promise']) or 'none'}."
    )
    return f"{table(head, lines)}\n\n{counted}\n"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _gain(row: Mapping[str, Any]) -> str:
    if row["metric"] == "roc_auc":
        return f"{row['gain']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"
    return f"{100 * row['gain']:+.1f} % ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"


def chart(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the gain of each table with its interval, tables by ROC AUC above those by an error."""
    import matplotlib as mpl  # takes half a second, which `--help` must not wait for

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "okamochi"
    from matplotlib import pyplot as plt

    parts = (
        ("ROC AUC: ours less AutoGluon's", [row for row in rows if row["metric"] == "roc_auc"], 1.0, -0.01),
        (
            "error (of labels, or RMSE): by how many percent ours is smaller",
            [row for row in rows if row["metric"] != "roc_auc"],
            100.0,
            -2.0,
        ),
    )
    there = [part for part in parts if part[1]]
    heights = [len(part[1]) + 1 for part in there]
    figure, axes = plt.subplots(
        len(there), 1, figsize=(9, 0.38 * sum(heights) + 1.4), squeeze=False, height_ratios=heights
    )
    for axis, (title, shown, scale, bound) in zip(axes[:, 0], there, strict=True):
        for place, row in enumerate(reversed(shown)):
            colour = OURS if row["gain"] >= 0 else THEIRS
            low, gain, high = (scale * row[key] for key in ("low", "gain", "high"))
            axis.errorbar(gain, place, xerr=[[gain - low], [high - gain]], fmt="o", color=colour, capsize=3)
        axis.set_yticks(range(len(shown)), [row["name"] for row in reversed(shown)])
        axis.axvline(0, color="black", linewidth=0.8)
        axis.axvline(bound, color="black", linewidth=0.8, linestyle=":")
        axis.set_title(f"{title}; right of the line ours is better, dotted what is promised", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        axis.margins(y=0.12)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
