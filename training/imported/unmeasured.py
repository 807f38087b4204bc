"""A model without a table: its contract from what it knows, its example made up and tried, no figures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact.encode import Encoder, canonical
from artifact.onnx_table import OnnxTable
from artifact.python_model import score_of
from artifact.signature import Column, Signature
from training.imported.adoption import Adoption
from training.imported.answers import check_each_row_alone, check_probabilities, reason_of, with_labels
from training.imported.card import card
from training.imported.contract import (
    NUMBERS,
    label_of,
    spec_of,
    with_fractions_refused,
    with_missing_refused,
)
from training.imported.describe import describe
from training.imported.exact import no_form, onnx_form
from training.imported.known import Known, known_columns
from training.imported.load import ModelError
from training.imported.numbers import named_numbers
from training.imported.objectives import objective_of
from training.imported.seal import UNMEASURED_REASON, algorithm_of, digest_of, seal
from training.metrics.metric import DEFAULT_METRIC
from training.onnx.parity import tolerance_of, tolerances_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from artifact.manifest import Score
    from artifact.python_model import Dtype, PythonModel
    from training.imported.describe import Described
    from training.imported.exact import Form
    from training.imported.load import Loaded
    from training.pending import Finished
    from training.progress import Progress
    from training.registry.mlflow_registry import Registry
    from training.settings import UseCase

MADE_UP = "made up: the model does not say"
REASON = "unmeasured, as the use case names no table"
MAX_MIXED = 8
"""Columns of unknown types up to which each combination of numbers and words is tried."""
GOLDEN_ROWS = 8


@dataclass(frozen=True)
class Contract:
    """What a model takes and gives, without a table.

    Parameters
    ----------
    records
        Made rows that the model scores, the signature's own example first.
    examples
        Where the example of each column is from.
    """

    signature: Signature
    spec: PythonModel
    score: Score
    records: tuple[dict[str, Any], ...]
    examples: dict[str, str]


def adopt_unmeasured(
    registry: Registry, use_case: UseCase, *, key: str, folder: Path, progress: Progress, began: str
) -> Finished:
    """Make an artifact of a use case's [model] alone, in `folder`.

    Raises
    ------
    ModelError
        The model cannot be opened, or does not say enough of itself.
    RegistryError
    """
    adoption = Adoption(registry, use_case, key, folder, progress, began)
    loaded = adoption.open()
    progress.stage("making a row that it answers")
    contract = contract_of(loaded, use_case)
    metric = use_case.metric or DEFAULT_METRIC[contract.signature.task]
    with adoption.run(task=contract.signature.task, metric=metric) as run_id:
        form, digest = _form(loaded, contract), digest_of(loaded.file)
        return sealed(adoption, loaded, contract, metric, run_id, form=form, digest=digest)


def contract_of(loaded: Loaded, use_case: UseCase) -> Contract:
    """The contract of an open model, with an example that was tried.

    Raises
    ------
    ModelError
        It does not say how many columns it reads or what it answers, it answers no made row, or it was made
        with another version of a library than the one that opens it.
    """
    loaded.check_provable()
    described = with_objective(describe(loaded.model), loaded.model)
    if not described.columns:
        raise ModelError(
            "The model does not say which columns it reads; name a table that does: init MODEL --data TABLE."
        )
    names = described.names or tuple(f"x{place}" for place in range(described.columns))
    known = known_columns(loaded.model, names)
    columns = {
        name: _asked(
            _of_signature(known.get(name, Known()), described.dtypes.get(name, described.every)),
            use_case.kinds.get(name),
        )
        for name in names
    }
    for name, listed in described.categories.items():
        columns[name] = Known(
            "category", listed, example=canonical(listed[0]), source="one of its categories"
        )
    failed = ""
    for values in _combinations([name for name, each in columns.items() if each.example is None]):
        filled = {name: _filled(each, values.get(name)) for name, each in columns.items()}
        try:
            return _tried(loaded, described, use_case, filled)
        except ModelError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a model raises on a row that it does not take
            failed = failed or reason_of(error)
    raise ModelError(
        f"No row could be made that the model answers ({failed}). [kinds] says what its columns are, "
        f"or name a table that has them: init MODEL --data TABLE."
    )


def _combinations(names: list[str]) -> Iterator[dict[str, float | str]]:
    """Values to try for the columns that the model says nothing of: numbers, then words in some of them."""
    yield dict.fromkeys(names, 0.0)
    yield dict.fromkeys(names, 1.0)
    if len(names) <= MAX_MIXED:
        for words in product((False, True), repeat=len(names)):
            if any(words):
                yield {name: "a" if word else 1.0 for name, word in zip(names, words, strict=True)}
    else:
        yield dict.fromkeys(names, "a")


def _asked(known: Known, kind: str | None) -> Known:
    """A column as [kinds] has it where the model does not say."""
    if kind is None or known.dtype is not None:
        return known
    return replace(known, dtype="float" if kind == "number" else "str", text=kind == "text")


def _of_signature(known: Known, dtype: Dtype | None) -> Known:
    """A column with the type that the model's own signature gives it."""
    return known if dtype is None or known.dtype == dtype else replace(known, dtype=dtype)


def _filled(known: Known, value: float | str | None) -> Known:
    """A column with an example, and with a type if no step of the model has one."""
    if value is None:
        return known
    if known.dtype is None:
        known = replace(known, dtype="str" if isinstance(value, str) else "float")
    if known.dtype == "bool":
        return replace(known, example="false")
    if known.dtype == "str":
        return replace(known, example="a")
    return replace(known, example=value if isinstance(value, float) else 0.0)


def _tried(loaded: Loaded, described: Described, use_case: UseCase, columns: dict[str, Known]) -> Contract:
    """The contract with these columns; raises whatever the model raises on its example."""
    dtypes: dict[str, Dtype] = {name: each.dtype or "float" for name, each in columns.items()}
    # What says nothing of its task and answers a number is a regression.
    described = replace(described, task=described.task or use_case.task or "regression")
    if described.task == "scores":
        described = replace(described, task="regression")  # until its numbers are known
    signature = _signature(described, use_case, columns)
    spec = spec_of(loaded, described, signature, dtypes)
    rows = Encoder(signature).records([signature.example], lenient=True)
    if not described.classes:
        spec, signature = named_numbers(loaded.model, described, spec, signature, rows, use_case=use_case)
    spec = with_labels(loaded.model, spec, signature, rows)
    score = score_of(loaded.model, spec, signature)
    began = perf_counter()
    scores = score(rows)
    row_s = perf_counter() - began
    if not np.isfinite(scores).all():
        raise ValueError("its answer is not a finite number")
    check_probabilities(signature, scores)
    signature = with_missing_refused(signature, score, rows)
    signature = with_fractions_refused(signature, spec, score, rows)
    records = [signature.example]
    for number in range(1, GOLDEN_ROWS):
        record = {name: _other(each, signature.example[name], number) for name, each in columns.items()}
        if record not in records and _is_scored(signature, score, record):
            records.append(record)
    made = Encoder(signature).records(records, lenient=True)
    check_each_row_alone(loaded.model, score, signature, made, row_s=row_s)
    return Contract(
        signature,
        spec,
        score,
        tuple(records),
        {name: each.source or MADE_UP for name, each in columns.items()},
    )


def _is_scored(signature: Signature, score: Score, record: dict[str, Any]) -> bool:
    try:
        return bool(np.isfinite(score(Encoder(signature).records([record]))).all())
    except Exception:  # noqa: BLE001 - whatever the model raises, it does not take the row
        return False


def _other(known: Known, example: Any, number: int) -> Any:
    """Another value of a column for a golden row."""
    values = [value for value in known.values if value is not None]
    if values:
        value = values[number % len(values)]
        return canonical(value) if known.refuses or known.dtype in {"str", "bool", "category"} else value
    if known.minimum is not None and known.maximum is not None:
        return (example, known.minimum, known.maximum)[number % 3]
    return example + (number % 3) - 1 if isinstance(example, float) else example


def _signature(described: Described, use_case: UseCase, columns: dict[str, Known]) -> Signature:
    task = described.task
    assert task is not None  # noqa: S101 - found out before
    classes = tuple(map(label_of, described.classes)) if task != "regression" else ()
    positive = None
    if task == "binary":
        positive = use_case.positive if use_case.positive is not None else classes[-1]
    try:
        return Signature(
            task=task,
            target=use_case.target,
            columns=tuple(_column(name, each) for name, each in columns.items()),
            classes=classes,
            positive=positive,
            threshold=use_case.threshold if task == "binary" else None,
            sensitive=use_case.sensitive,
            raw=True,
            decided=described.decides and use_case.threshold is None,
        )
    except ValueError as error:
        raise ModelError(f"The model has no contract: {error}.") from None


def _column(name: str, known: Known) -> Column:
    example = known.example
    if known.dtype in NUMBERS and not known.refuses and isinstance(example, (int, float)):
        value = float(example) if known.source or example else None
        return Column(
            name=name,
            kind="number",
            missing="allow",
            integer=known.dtype in {"int", "int32"},
            minimum=known.minimum,
            maximum=known.maximum,
            median=value,
        )
    if known.text:
        words = tuple(dict.fromkeys(str(example).split()))
        return Column(
            name=name,
            kind="text",
            missing="allow",
            terms=words,
            idf=(1.0,) * len(words),
            mode=str(example),
        )
    categories = tuple(dict.fromkeys(canonical(value) for value in known.values if value is not None))
    mode = canonical(example)
    return Column(
        name=name,
        kind="category",
        missing="allow",
        unknown="refuse" if known.refuses else "pass",
        categories=categories,
        mode=mode if mode in categories or not known.refuses else categories[0],
    )


def with_objective(described: Described, model: Any) -> Described:
    """A booster of a file of its own, with the task that its objective is of; a network, with its classes."""
    if described.classes:
        return described
    if described.task in {"binary", "multiclass"}:
        count = max(2, described.answers)
        return replace(described, classes=tuple(range(count)), probabilities=True)
    if described.task is not None:
        return described
    if described.ranks:
        return replace(described, task="regression")
    objective, classes = objective_of(model)
    if objective.startswith(("binary:hinge", "survival")):
        raise ModelError(
            f"The booster's objective is {objective}, whose answers are neither probabilities nor a value."
        )
    if objective.startswith("multi"):
        return replace(described, task="multiclass", classes=tuple(range(classes)), probabilities=True)
    if objective.startswith(("binary", "reg:logistic", "cross_entropy")):
        return replace(described, task="binary", classes=(0, 1), probabilities=True)
    return replace(described, task="regression") if objective else described


def _form(loaded: Loaded, contract: Contract) -> Form:
    if not isinstance(loaded.model, OnnxTable):
        return no_form(UNMEASURED_REASON)
    # Its nodes stay as they are, so made rows are enough.
    rows = Encoder(contract.signature).records(contract.records, lenient=True)
    return onnx_form(
        loaded.model,
        contract.spec,
        contract.signature,
        contract.score,
        raw_rows=rows,
        tolerance=tolerances_of(contract.signature, _shown(contract)),
    )


def _shown(contract: Contract) -> NDArray[np.float64]:
    """The answers to the made rows; with classes the first probability."""
    scores = contract.score(Encoder(contract.signature).records(contract.records, lenient=True))
    return scores if contract.signature.numbers else scores[:, 0]


def sealed(
    adoption: Adoption,
    loaded: Loaded,
    contract: Contract,
    metric: str,
    run_id: str,
    *,
    form: Form,
    digest: str,
) -> Finished:
    """Make the artifact of a model without a table; `digest` is that of the file that the use case names."""
    use_case, folder = adoption.use_case, adoption.folder
    signature, algorithm = contract.signature, algorithm_of(loaded.model)
    words = card(
        use_case,
        algorithm=algorithm,
        spec=contract.spec,
        signature=signature,
        loaded=loaded,
        metrics={},
        baseline={},
        rows=0,
        digest=digest,
        reason=form.reason,
        examples=contract.examples,
    )
    seal(
        folder / "okamochi",
        use_case,
        loaded,
        contract.spec,
        signature,
        score=contract.score,
        records=contract.records,
        tolerance=tolerance_of(signature, _shown(contract)),
        card=words,
        run_id=run_id,
        metric=metric,
        metrics={},
        form=form,
    )
    (folder / "pictures").mkdir()
    return adoption.keep(
        run_id,
        algorithm=algorithm,
        loaded=loaded,
        digest=digest,
        params={"columns": str(len(signature.columns))},
        runtime=form.runtime,
        reason=form.reason,
        metric=metric,
        metrics={},
        baseline={},
        unmeasured=REASON,
        card=words,
        table=None,
    )
