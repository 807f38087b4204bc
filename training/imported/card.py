"""The model card of a model that was made elsewhere: where it is from, what it takes, how good it is here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.metrics.metric import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from artifact.python_model import PythonModel
    from artifact.signature import Signature

MAX_COLUMNS = 40


def card(
    *,
    title: str,
    description: str,
    source: str,
    algorithm: str,
    spec: PythonModel,
    signature: Signature,
    versions: Mapping[str, str],
    metrics: Mapping[str, float],
    baseline: Mapping[str, float],
    rows: int,
    digest: str,
    reason: str,
    examples: Mapping[str, str] | None = None,
) -> str:
    """Write the card as Markdown.

    Parameters
    ----------
    metrics, baseline
        Figures on the rows of the table, of the model and of a baseline that looks at no column.
    digest
        SHA-256 of the model's file.
    reason
        Why its own library scores it; empty for an ONNX graph.
    examples
        For a model that no table measured: where the example of each column is from.
    """
    lines = [f"# {title}", ""]
    lines += [description, ""] if description else []
    lines += ["## What it is", ""]
    lines += [f"{algorithm}, made elsewhere and read from {source} (SHA-256 {digest[:12]}...).", ""]
    if versions:
        lines += [f"Made with {', '.join(f'{name} {number}' for name, number in versions.items())}.", ""]
    served = "It is served as an ONNX graph, which gives the same answers as the model itself."
    if reason:
        served = f"It is scored by its own library, in a process of its own: {reason}."
    lines += [served, ""]
    lines += ["## How good it is", ""]
    if examples is None:
        lines += [f"On {rows:,} rows; whether it was fitted on some of them is not known here:", ""]
        lines += ["| figure | model | baseline |", "|---|---|---|"]
        for key, value in metrics.items():
            better = "higher" if METRICS[key].higher_is_better else "lower"
            beside = baseline.get(key, float("nan"))
            lines.append(f"| {METRICS[key].title} ({better} is better) | {value:.4g} | {beside:.4g} |")
    else:
        lines += ["It is unmeasured: the use case names no table, so nothing is known of how good it is."]
    more = "" if examples is None else " example | of |"
    lines += ["", "## What it takes", "", f"| column | kind | as |{more}", "|---" * (5 if more else 3) + "|"]
    columns = {column.name: column for column in signature.columns}
    for each in spec.inputs[:MAX_COLUMNS]:
        column = columns[each.name]
        line = f"| {each.name.replace('|', '/')} | {column.kind} | {each.dtype} |"
        if examples is not None:
            line += f" {str(column.example).replace('|', '/')} | {examples[each.name]} |"
        lines.append(line)
    if len(spec.inputs) > MAX_COLUMNS:
        lines.append(f"| and {len(spec.inputs) - MAX_COLUMNS} more | | |")
    return "\n".join(lines) + "\n"
