"""What models are compared on: the test rows of a table, and what a model makes of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from artifact import manifest
from artifact.calibration import misses
from artifact.encode import Encoder, canonical
from artifact.ranking import read as read_ranking
from artifact.runtime import open_score
from artifact.signature import probabilities
from training.metrics.conformal import coverages
from training.metrics.fairness import fairness
from training.metrics.metric import DEFAULT_METRIC, metrics
from training.metrics.slices import SliceFigure, slices
from training.metrics.truth import class_indices, truth_of
from training.ranking.figures import held_out, judge
from training.ranking.rankers import by_popularity, interactions, relevant_from
from training.tables.data import test_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from artifact.manifest import Artifact, Score
    from artifact.signature import Label, Signature
    from training.metrics.conformal import Coverage
    from training.metrics.fairness import Fairness
    from training.ranking.figures import HeldOut, Ranked
    from training.tables.data import Table

TIMED_ROWS = 30


@dataclass(frozen=True)
class TestSet:
    """What models are compared on.

    Parameters
    ----------
    rows
        Which rows of the table are for the test, shape (rows,).
    metric
        The metric that decides.
    """

    __test__: ClassVar[bool] = False  # not a test that pytest should collect

    table: Table
    rows: NDArray[np.bool_]
    metric: str

    @property
    def truth(self) -> NDArray[Any]:
        """The test rows' own labels, or values."""
        return self.table.target[self.rows]


def missed_of(signature: Signature, test: TestSet, scores: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """How far a model's scores of the test rows are off, for prediction intervals."""
    if signature.numbers:
        return None
    truth = truth_of(signature.task, test.truth, signature.classes, signature.positive)
    return misses(signature, truth.y, scores)


def coverages_of(signature: Signature, test: TestSet, scores: NDArray[np.float64]) -> list[Coverage]:
    """What intervals that are calibrated on the test rows come to, for the card."""
    missed = missed_of(signature, test, scores)
    return [] if missed is None else coverages(signature, missed, scores)


@dataclass(frozen=True)
class Scored:
    """A model and what it makes of the test rows.

    Parameters
    ----------
    scores
        Shape (test rows, outputs).
    matrix
        The encoded test rows, shape (test rows, signature.width).
    score
        The model itself, as a server would open it.
    """

    artifact: Artifact
    score: Score
    matrix: NDArray[np.float64]
    scores: NDArray[np.float64]


def test_set_of(table: Table) -> TestSet:
    """The test rows of a table, with the use case's metric or the default of its task.

    For a model that was made elsewhere all rows are test rows.
    """
    rows = test_rows(table) if table.use_case.model is None else np.ones(table.rows, np.bool_)
    return TestSet(table, rows, table.use_case.metric or DEFAULT_METRIC[table.task])


def score_test_set(artifact: Artifact, test: TestSet) -> Scored:
    """Score the test rows by an artifact's own signature; a cell that it refuses counts as missing."""
    score = open_score(artifact)
    matrix = encode(artifact.signature, test.table, test.rows)
    return Scored(artifact, score, matrix, score(matrix))


def encode(signature: Signature, table: Table, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The matrix of the chosen rows of a table, shape (rows, signature.width)."""
    chosen = table.frame.loc[rows]
    return Encoder(signature).columns({name: chosen[name] for name in signature.names}, lenient=True)


def metrics_of(scored: Scored, test: TestSet) -> dict[str, float]:
    """Every metric of the task on the test rows."""
    table, signature = test.table, scored.artifact.signature
    classes, threshold = signature.classes, signature.threshold
    ranked = ranked_of(scored, test)
    found = metrics(table.task, test.truth, scored.scores, classes, table.positive, threshold)
    return found if ranked is None else found | ranked[1].figures


def ranked_of(scored: Scored, test: TestSet) -> tuple[HeldOut, Ranked, Ranked] | None:
    """How a model ranks items for the users of the test rows, and how their popularity does.

    None where the use case does not rank, or the model cannot.
    """
    rank = test.table.use_case.rank
    ranking = None if rank is None else read_ranking(scored.artifact)
    if rank is None or ranking is None or (ranking.query, ranking.item) != rank.pair:
        return None
    target = test.table.target
    relevant = relevant_from(rank, np.asarray(target[~test.rows], np.float64))
    found = interactions(scored.artifact.signature, rank, scored.matrix, test.truth)
    held = held_out(found.users, found.items, found.ratings, relevant)
    return held, judge(ranking, held), judge(by_popularity(ranking), held)


def slices_of(test: TestSet, signature: Signature, scores: NDArray[np.float64]) -> list[SliceFigure]:
    """The metric on the test rows for each level of each sensitive column; empty without one."""
    table = test.table
    if not len(table.sensitive.columns):
        return []
    return slices(
        test.metric,
        test.truth,
        scores,
        table.sensitive.loc[test.rows],
        task=table.task,
        classes=signature.classes,
        positive=table.positive,
        threshold=signature.threshold,
    )


def groups_of(test: TestSet, signature: Signature, scores: NDArray[np.float64]) -> list[Fairness]:
    """How a model treats groups of people on the test rows; empty for named numbers and without groups."""
    table = test.table
    if table.task == "scores" or not len(table.sensitive.columns):
        return []
    truth = truth_of(table.task, test.truth, signature.classes, table.positive, signature.threshold)
    return fairness(truth, scores, table.sensitive.loc[test.rows], signature.classes)


def in_order_of(classes: Sequence[Label], scored: Scored) -> NDArray[np.float64]:
    """Scores with a column for each of `classes`, which hold all of the model's own; 0 where it has none."""
    signature = scored.artifact.signature
    if list(signature.classes) == list(classes):
        return scored.scores
    places = class_indices(signature.classes, classes)
    ordered = np.zeros((len(scored.scores), len(classes)))
    ordered[:, places] = probabilities(signature, scored.scores)
    if not signature.decided:
        return ordered
    return np.column_stack([ordered, places[scored.scores[:, -1].astype(np.intp)]])


def model_size_mb(artifact: Artifact) -> float:
    """The size of the files that a server scores with, in millions of bytes."""
    if manifest.MODEL in artifact.manifest.files and artifact.manifest.runtime != "onnx":
        files = (artifact.path / "model").rglob("*")
        return sum(path.stat().st_size for path in files if path.is_file()) / 1e6
    file = manifest.ONNX if artifact.manifest.runtime == "onnx" else manifest.SKOPS
    scored = {file, manifest.RANKING} & artifact.manifest.files.keys()
    return sum((artifact.path / each).stat().st_size for each in scored) / 1e6


def time_of_row_ms(scored: Scored) -> float:
    """The time that one row alone takes, in milliseconds: the median over TIMED_ROWS rows."""
    taken = []
    for i in range(min(TIMED_ROWS, len(scored.matrix))):
        row = scored.matrix[i : i + 1]
        started = time.perf_counter()
        scored.score(row)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken[len(taken) // 5 :])) * 1000


def cannot_score(signature: Signature, table: Table) -> str | None:
    """Why a model with this signature cannot score a table's rows; None where it can."""
    lost = [name for name in signature.names if name not in table.frame.columns]
    if lost:
        shown = ", ".join(repr(name) for name in lost[:3]) + (" and others" if len(lost) > 3 else "")
        return f"it reads {shown}, which the table no longer has as a feature"
    if signature.task != table.task:
        return f"it does a {signature.task} task, the table is now a {table.task} one"
    unknown = [
        label for label in table.classes if canonical(label) not in set(map(canonical, signature.classes))
    ]
    if unknown:
        return f"it knows the classes {list(signature.classes)}, the table has {unknown[0]!r} too"
    if signature.target != table.use_case.target:
        return f"it predicts {signature.target!r}, the target is now {table.use_case.target!r}"
    return None
