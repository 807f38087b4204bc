"""The gate of a use case that ranks: floors of its figures, and models that are compared user by user."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from artifact import manifest, ranking
from artifact.encode import Encoder
from artifact.manifest import RANKING
from artifact.ranking import Ranking
from training.decide import promote
from training.decide.test_set import Scored, metrics_of, model_size_mb, ranked_of
from training.decide.test_set import TestSet as Tested
from training.settings import Gate, Rank, load_use_case
from training.tables.data import load_table, test_rows
from training.tables.schema import signature_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def tested() -> Tested:
    use_case = load_use_case("recommend")
    rank = Rank(query=("user",), item=("film",), relevant=4.0, gate="ndcg_at_10")
    use_case = msgspec.structs.replace(use_case, rank=rank, gate=Gate(floors={"ndcg_at_10": 0.6}))
    table = load_table(use_case)
    return Tested(table, test_rows(table), "rmse")


def scored_by(folder: Path, tested: Tested, scores: str) -> Scored:
    """A model that predicts 3 for each row, and ranks by the truth, by chance, or not at all."""
    signature = signature_of(tested.table, ~tested.rows)
    frame = tested.table.frame[tested.rows]
    matrix = Encoder(signature).columns({name: frame[name] for name in signature.names}, lenient=True)
    folder.mkdir()
    users, items = (
        len(next(column.categories for column in signature.columns if column.name == name))
        for name in ("user", "film")
    )
    if scores != "none":
        factors = np.random.default_rng(0).normal(size=(users, items))
        if scores == "truth":
            places = dict(zip(signature.names, signature.places, strict=True))
            known = matrix[:, places["user"].start].astype(int), matrix[:, places["film"].start].astype(int)
            factors[known] += 10 * tested.truth.astype(float)
        cold = np.arange(items, dtype=float)
        # Each user has rated the first film, since a user without a rating counts as unknown.
        made = Ranking(
            "user", "film", "rating", factors, np.eye(items), np.zeros(items), cold,
            np.arange(users + 1, dtype=np.int64), np.zeros(users, np.int64),
        )  # fmt: skip
        ranking.write(folder, made)
    (folder / manifest.ONNX).write_bytes(b"graph")
    artifact = SimpleNamespace(
        path=folder,
        signature=signature,
        manifest=SimpleNamespace(
            runtime="onnx", files=dict.fromkeys((manifest.ONNX, *([RANKING] if scores != "none" else [])), "")
        ),
    )
    return Scored(artifact, lambda rows: np.full((len(rows), 1), 3.0), matrix, np.full((len(matrix), 1), 3.0))


def test_the_figures_of_a_ranking_stand_beside_those_of_the_ratings(tmp_path: Path, tested: Tested) -> None:
    found = metrics_of(scored_by(tmp_path / "truth", tested, "truth"), tested)

    assert found["ndcg_at_10"] > 0.9
    assert 0 < found["coverage_at_10"] <= 1
    assert found["rmse"] > 0
    assert "ndcg_at_10" not in metrics_of(scored_by(tmp_path / "none", tested, "none"), tested)


def test_a_better_ranking_gains_user_by_user(tmp_path: Path, tested: Tested) -> None:
    """By [rank] gate, whatever the ratings are."""
    truth, chance = (scored_by(tmp_path / name, tested, name) for name in ("truth", "chance"))

    better = promote._gain(truth, chance, tested, "ndcg_at_10")
    same = promote._gain(truth, truth, tested, "ndcg_at_10")
    none = promote._gain(truth, scored_by(tmp_path / "none", tested, "none"), tested, "ndcg_at_10")

    assert better.low > 0.3
    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)
    assert np.isnan(none.mean)
    value, over = promote._over_popularity(chance, tested)
    judged = ranked_of(chance, tested)
    assert judged is not None
    assert value == judged[2].figures["ndcg_at_10"]
    assert over.low < 0.1


def test_floors_of_a_ranking_are_judged(tmp_path: Path, tested: Tested) -> None:
    """A higher figure is better; a model without a ranking meets no floor."""
    for name, met in (("truth", True), ("chance", False), ("none", False)):
        scored = scored_by(tmp_path / name, tested, name)
        figures = promote._figures(scored, metrics_of(scored, tested), tested)
        assert figures.metric == "ndcg_at_10"
        assert [floor.met for floor in figures.floors] == [met], name


def test_the_size_counts_the_ranking(tmp_path: Path, tested: Tested) -> None:
    with_ranking, without = (scored_by(tmp_path / name, tested, name) for name in ("truth", "none"))

    assert model_size_mb(with_ranking.artifact) > model_size_mb(without.artifact) + 0.05
