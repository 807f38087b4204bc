"""A model that was made elsewhere becomes an artifact: opened, held against a table, measured, sealed."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact.python_model import score_of
from training.decide.test_set import coverages_of, encode, groups_of, missed_of
from training.export import background_records, golden_records
from training.facts import write_groups
from training.imported.adoption import Adoption
from training.imported.answers import (
    LOOKED_AT,
    by_its_answers,
    by_name,
    check_each_row_alone,
    check_probabilities,
    fails,
    scoring,
    with_labels,
)
from training.imported.card import card
from training.imported.contract import (
    columns_wanted,
    dtypes_of,
    named_as,
    signature_of,
    spec_of,
    spelt_as,
    with_fractions_refused,
    with_missing_refused,
)
from training.imported.describe import describe
from training.imported.exact import onnx_form
from training.imported.load import ModelError
from training.imported.numbers import named_numbers
from training.imported.reliance import reliance
from training.imported.seal import algorithm_of, digest_of, seal
from training.imported.whole_numbers import as_read_csv_gives_them
from training.metrics.baseline import same_for_all
from training.metrics.metric import metrics
from training.onnx.parity import tolerances_of
from training.plots import plots, plots_of_behaviour

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.manifest import Score
    from artifact.python_model import PythonModel
    from artifact.signature import Signature
    from training.imported.describe import Described
    from training.imported.exact import Form
    from training.imported.load import Loaded
    from training.job import Job
    from training.metrics.behaviour import Behaviour
    from training.pending import Finished
    from training.registry.mlflow_registry import Registry
    from training.tables.data import Table


NO_TARGET = "unmeasured, as the use case names no target in its table"


def adopt(registry: Registry, job: Job) -> Finished:
    """Make of a use case's [model] what a training makes: an artifact in `job.folder`, figures, pictures.

    Raises
    ------
    ModelError
        The model cannot be opened, does not fit the table, or answers what its task does not allow.
    RegistryError
    """
    use_case, table = job.use_case, job.test.table
    adoption = Adoption(registry, use_case, job.key, job.folder, job.progress, job.began)
    loaded = adoption.open()
    available = [*map(str, table.frame.columns), *table.ignored]
    described = spelt_as(named_as(describe(loaded.model), available), table.classes)
    job.progress.stage("measuring it on the table")
    described = with_its_columns(loaded, described, table)
    signature, spec = contract(loaded, described, table)
    rows = encode(signature, table, job.test.rows)
    spec = by_name(loaded.model, described, spec, signature, rows)
    spec, signature = as_read_csv_gives_them(loaded.model, spec, signature, rows, use_case)
    if table.task == "scores":
        with scoring(signature):
            spec, signature = named_numbers(
                loaded.model, described, spec, signature, rows[:LOOKED_AT], use_case=use_case
            )
    spec = by_its_answers(loaded.model, described, spec, signature, rows)
    spec = with_labels(loaded.model, spec, signature, rows)
    score = score_of(loaded.model, spec, signature)
    began = perf_counter()
    scores = _scores(score, rows, signature)
    row_s = (perf_counter() - began) / len(rows)
    check_probabilities(signature, scores)
    check_each_row_alone(loaded.model, score, signature, rows, row_s=row_s)
    signature = with_missing_refused(signature, score, rows)
    signature = with_fractions_refused(signature, spec, score, rows)
    job.progress.stage("comparing it with its ONNX form")
    tolerance = tolerances_of(signature, scores if signature.numbers else job.test.truth)
    form = onnx_form(loaded.model, spec, signature, score, raw_rows=rows, tolerance=tolerance)
    job.progress.stage("measuring what it relies on")
    truth = job.test.truth if use_case.measured else None
    uses = reliance(score, rows, truth, signature, job.metric, row_s=row_s)
    with adoption.run(task=table.task, metric=job.metric) as run_id:
        return _sealed(adoption, job, loaded, spec, signature, scores, form, uses, run_id)


def contract(loaded: Loaded, described: Described, table: Table) -> tuple[Signature, PythonModel]:
    """What the model and the table agree on, and how the model is asked.

    Raises
    ------
    ModelError
        They do not agree.
    """
    use_case = table.use_case
    available = [*map(str, table.frame.columns), *table.ignored]
    names = columns_wanted(described, available, use_case.target_columns, "the table")
    for name in names:
        if name not in table.frame.columns:
            raise ModelError(
                f"The model reads the column {name!r}, which the use case leaves out of the table: say "
                f"what it is, "
                f'for example {name} = "number" under [kinds].'
            )
    dtypes = dtypes_of(described, table, names)
    signature = signature_of(described, table, dtypes)
    return signature, spec_of(loaded, described, signature, dtypes)


def with_its_columns(loaded: Loaded, described: Described, table: Table) -> Described:
    """A model whose first step names no columns reads all of the table, or those of the step behind it."""
    if not described.behind or not set(described.names) <= {*map(str, table.frame.columns)}:
        return described
    signature, spec = contract(loaded, described, table)
    if fails(loaded.model, spec, signature, encode(signature, table, np.ones(table.rows, bool))):
        return replace(described, behind=False)
    return described


def _scores(score: Score, rows: NDArray[Any], signature: Signature) -> NDArray[np.float64]:
    with scoring(signature):
        scores = score(rows)
    bad = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(bad):
        raise ModelError(
            f"The model gives no finite number for {len(bad)} of {len(rows)} rows, the first of them row "
            f"{bad[0]}; "
            "where cells are missing in it, fill them before the model or within it."
        )
    return scores


def _sealed(  # noqa: PLR0917 - what was found out so far, each once
    adoption: Adoption,
    job: Job,
    loaded: Loaded,
    spec: PythonModel,
    signature: Signature,
    scores: NDArray[np.float64],
    form: Form,
    uses: Behaviour,
    run_id: str,
) -> Finished:
    use_case, test, table = job.use_case, job.test, job.test.table
    measured = use_case.measured
    figures, baseline = (
        metrics(table.task, test.truth, each, signature.classes, signature.positive, signature.threshold)
        if measured
        else {}
        for each in (scores, same_for_all(test.truth, signature.classes, len(scores)))
    )
    algorithm = algorithm_of(loaded.model)
    digest = digest_of(loaded.file)
    groups = groups_of(test, signature, scores)
    words = card(
        use_case,
        algorithm=algorithm,
        spec=spec,
        signature=signature,
        loaded=loaded,
        metrics=figures,
        baseline=baseline,
        rows=int(test.rows.sum()),
        digest=digest,
        reason=form.reason,
        groups=groups,
        coverages=coverages_of(signature, test, scores),
        behaviour=uses,
    )
    job.progress.stage("sealing")
    spec = seal(
        job.folder / "okamochi",
        use_case,
        loaded,
        spec,
        signature,
        score=score_of(loaded.model, spec, signature),
        records=golden_records(signature, table.frame.loc[test.rows], scores),
        background_rows=background_records(signature, table.frame, seed=0),
        missed=missed_of(signature, test, scores),
        tolerance=float(np.max(tolerances_of(signature, scores if signature.numbers else test.truth))),
        card=words,
        run_id=run_id,
        metric=job.metric,
        metrics=figures,
        form=form,
        seen=encode(form.signature, table, test.rows) if form.signature else None,
    )
    job.progress.stage("drawing pictures")
    pictures = job.folder / "pictures"
    pictures.mkdir()
    drawn = (
        plots(signature, test.truth, scores, metric=job.metric, behaviour=uses)
        if measured
        else plots_of_behaviour(signature, uses, job.metric)
    )
    for name, figure in drawn.items():
        figure.savefig(pictures / f"{name}.png")
    write_groups(test, groups, pictures)
    return adoption.keep(
        run_id,
        algorithm=algorithm,
        loaded=loaded,
        digest=digest,
        params={"test_rows": str(int(test.rows.sum())), "columns": str(len(spec.inputs))},
        runtime=form.runtime,
        reason=form.reason,
        metric=job.metric,
        metrics=figures,
        baseline=baseline,
        unmeasured="" if measured else NO_TARGET,
        card=words,
        table=table,
    )
