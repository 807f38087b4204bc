"""The model card of a model that was made elsewhere: where it is from, what it takes, how good it is here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.card import (
    coverage_lines,
    metric_lines,
    pictures_of,
    quality_lines,
    reliance_lines,
    robustness_lines,
    seen_as,
)
from training.fairness_report import factor_lines, fairness_lines
from training.imported.load import shown_source
from training.model_card import (
    ANALYSES,
    DETAILS,
    EVALUATION,
    FACTORS,
    MEASURED,
    SECTIONS,
    TRAINING,
    model_card,
)
from training.plots import NO_BEHAVIOUR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from artifact.python_model import PythonModel
    from artifact.signature import Signature
    from training.imported.load import Loaded
    from training.metrics.behaviour import Behaviour
    from training.metrics.conformal import Coverage
    from training.metrics.fairness import Fairness
    from training.settings import UseCase

MAX_COLUMNS = 40


def card(
    use_case: UseCase,
    *,
    algorithm: str,
    spec: PythonModel,
    signature: Signature,
    loaded: Loaded,
    metrics: Mapping[str, float],
    baseline: Mapping[str, float],
    rows: int,
    digest: str,
    reason: str,
    groups: Sequence[Fairness] = (),
    coverages: Sequence[Coverage] = (),
    behaviour: Behaviour = NO_BEHAVIOUR,
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
    groups
        How the model treats groups of people.
    coverages
        What prediction intervals, or sets of classes, come to.
    behaviour
        How the model uses its columns.
    examples
        For a model that no table measured: where the example of each column is from.
    """
    preface = [use_case.description, ""] if use_case.description else []
    source = shown_source(use_case, loaded)
    details = [f"{algorithm}, made elsewhere and read from {source} (SHA-256 {digest[:12]}...).", ""]
    if loaded.versions:
        opened = ", ".join(f"{name} {number}" for name, number in loaded.versions.items())
        details += [f"Opened with {opened}.", ""]
    details += [loaded.warning, ""] if loaded.warning else []
    served = "It is served as an ONNX graph, which gives the same answers as the model itself."
    if reason:
        served = f"It is scored by its own library, in a process of its own: {reason}."
    details += [served, ""]
    if signature.numbers:
        details += [f"For each row it gives the numbers {', '.join(signature.numbers)}.", ""]
    details += _columns(spec, signature, examples)
    sections = {DETAILS: details, FACTORS: factor_lines(groups), MEASURED: metric_lines(metrics, signature)}
    if examples is None:
        sections[EVALUATION] = [f"{rows:,} rows; whether it was fitted on some of them is not known here."]
        sections[ANALYSES] = _quality(signature, metrics, baseline)
        sections[ANALYSES] += ["", *fairness_lines(groups, signature.target)] if groups else []
        sections[ANALYSES] += ["", *reliance_lines(behaviour, signature)]
        sections[ANALYSES] += ["", *coverage_lines(coverages, signature)] if coverages else []
        sections[ANALYSES] += ["", *robustness_lines(behaviour, signature)]
    else:
        sections[EVALUATION] = ["None: the use case names no table."]
        told = (
            "It is unmeasured: how good it is, which columns it relies on and what noise changes is not "
            "known without rows. Name a table that has them: init MODEL --data TABLE."
        )
        sections[ANALYSES] = [told]
    asked = {**SECTIONS, TRAINING: ("training_data",)}
    return model_card(
        use_case.title or use_case.name,
        use_case.card,
        sections,
        preface=preface,
        pictures=pictures_of(behaviour, signature),
        asked=asked,
    )


def _quality(signature: Signature, metrics: Mapping[str, float], baseline: Mapping[str, float]) -> list[str]:
    if not metrics:
        return ["It is unmeasured: no column of the table has the true values."]
    lines = quality_lines(metrics, baseline)
    if len(signature.numbers) > 1:
        lines += ["", f"Each figure is the mean over {', '.join(signature.numbers)}."]
    return lines


def _columns(spec: PythonModel, signature: Signature, examples: Mapping[str, str] | None) -> list[str]:
    more = "" if examples is None else " example | of |"
    lines = [f"| column | kind | as |{more}", "|---" * (5 if more else 3) + "|"]
    columns = {column.name: column for column in signature.columns}
    for each in spec.inputs[:MAX_COLUMNS]:
        column = columns[each.name]
        line = f"| {each.name.replace('|', '/')} | {column.kind} | {each.dtype} |"
        if examples is not None:
            line += f" {str(column.example).replace('|', '/')} | {examples[each.name]} |"
        lines.append(line)
    if not spec.inputs:  # it takes pictures
        where = examples or {}
        lines += [
            f"| {column.name} | {column.kind} | {seen_as(column)} | | {where.get(column.name, '')} |"
            for column in signature.columns
        ]
    if len(spec.inputs) > MAX_COLUMNS:
        lines.append(f"| and {len(spec.inputs) - MAX_COLUMNS} more | | |")
    return lines
