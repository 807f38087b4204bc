from __future__ import annotations

import io
import json
import pickle

import numpy as np
import onnx
import pytest
import skops.io
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from artifact import canary_bounds, manifest
from artifact.canary_bounds import CanaryBounds
from artifact.trusted import TRUSTED
from tests.training.made_tables import messy
from training.export import ExportError, export
from training.families.catalog import BASELINE, FAMILIES, WRITERS, build
from training.families.ensemble import ENSEMBLE
from training.families.layout import layout_of
from training.families.scores import scores_of
from training.metrics.truth import truth_of
from training.onnx.boosters import LIBRARIES as BOOSTERS
from training.onnx.convert import convert
from training.onnx.parity import onnx_score

TASKS = ("binary", "multiclass", "regression")
TRAIN = 180


def variants(task):
    """Every family by its defaults, preprocessing that defaults leave out, an ensemble of unlike members."""
    layout = layout_of(messy(task).signature, TRAIN)
    for each in (*FAMILIES, BASELINE):
        default = each.default(layout)
        yield each.name, each.name, default
        for key, value in (
            ("skew", "power"),
            ("skew", "range"),
            ("categories", "target"),
            ("weights", "uniform"),
        ):
            if key in default:
                yield f"{each.name}-{value}", each.name, {**default, key: value}
    if task == "regression":
        yield "ridge", "linear", {"skew": "standard", "penalty": "ridge", "alpha": 1.0}
        elastic = {"skew": "standard", "penalty": "elastic", "strength": 0.01, "l1_ratio": 0.5}
        yield "elastic", "linear", elastic
    members = [
        {"family": each.name, "params": each.default(layout), "weight": weight}
        for each, weight in zip(FAMILIES, (3, 1, 2), strict=False)
    ]
    yield "ensemble", ENSEMBLE, {"members": members}


CASES = [(task, *variant) for task in TASKS for variant in variants(task)]
NAMES = [f"{task}-{variant}" for task, variant, *_ in CASES]


def fitted(task, name, params, **made_as):
    made = messy(task, **made_as)
    truth = truth_of(task, made.labels, made.signature.classes, made.signature.positive)
    layout = layout_of(made.signature, TRAIN)
    return made, build(name, params, layout, task, 0).fit(made.matrix[:TRAIN], truth.y[:TRAIN])


def exported(made, pipeline, directory, **settings):
    chosen = {
        "train_matrix": made.matrix[:TRAIN],
        "train_labels": made.labels[:TRAIN],
        "test_matrix": made.matrix[TRAIN:],
        "test_frame": made.frame[TRAIN:],
        "name": "made",
        "run_id": "0",
        "algorithm": "test",
        "metric": "accuracy",
        "metrics": {"accuracy": 0.9, "roc_auc": float("nan")},
        "card": "# Made\n",
    } | settings
    return export(pipeline, made.signature, directory, **chosen)


def open_skops(content):
    """As a server opens it."""
    return skops.io.load(io.BytesIO(content), trusted=list(TRUSTED))


@pytest.mark.parametrize(("task", "name", "params"), [(t, n, p) for t, _, n, p in CASES], ids=NAMES)
def test_every_family_reaches_onnx_and_loads_from_skops(task, name, params, tmp_path):
    """Served by ONNX it gives the pipeline's labels and scores, at thresholds too; skops holds the same."""
    made, pipeline = fitted(task, name, params)
    result = exported(made, pipeline, tmp_path / "artifact")
    assert (result.runtime, result.reason) == ("onnx", "")
    assert result.parity is not None
    largest = 1.0 if made.signature.classes else np.abs(made.labels).max()
    assert result.parity.worst <= 1e-7 * largest
    loaded = manifest.load(tmp_path / "artifact", name="made")
    manifest.check_golden(loaded, onnx_score((loaded.path / manifest.ONNX).read_bytes()))
    again = open_skops((loaded.path / manifest.SKOPS).read_bytes())
    classes = len(made.signature.classes)
    assert np.array_equal(scores_of(again, made.matrix, classes), scores_of(pipeline, made.matrix, classes))
    assert (name in loaded.manifest.libraries) == (name in BOOSTERS)


def test_a_graph_that_splits_otherwise_at_a_threshold_is_not_kept(tmp_path, monkeypatch):
    """A threshold that is off by its last bit changes no test row, but rows at the threshold show it."""
    made, pipeline = fitted("binary", "tree", {"max_depth": 3, "min_samples_leaf": 5}, texts=False)
    honest = convert(pipeline, made.signature.width, WRITERS)

    def wrong(*_):
        model = onnx.ModelProto()
        model.CopyFrom(honest)
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "nodes_splits":
                    moved = np.nextafter(
                        onnx.numpy_helper.to_array(attribute.t).astype(np.float32), -np.float32(np.inf)
                    )
                    moved = np.nextafter(moved, -np.float32(np.inf)).astype(np.float64)
                    attribute.t.CopyFrom(onnx.numpy_helper.from_array(moved))
        return model

    monkeypatch.setattr("training.export.convert", wrong)
    result = exported(made, pipeline, tmp_path / "artifact")
    assert result.runtime == "python"
    assert "not exact" in result.reason
    assert not (tmp_path / "artifact" / manifest.ONNX).exists()
    assert manifest.load(tmp_path / "artifact").manifest.runtime_reason == result.reason


def test_an_estimator_without_a_graph_is_served_by_scikit_learn(tmp_path):
    made = messy("binary", texts=False)
    whole = np.nan_to_num(made.matrix)
    truth = truth_of("binary", made.labels, made.signature.classes, "yes")
    pipeline = GaussianNB().fit(whole, truth.y)
    frame = made.frame.assign(number=made.frame["number"].fillna(0.0))
    settings = {"train_matrix": whole[:TRAIN], "test_matrix": whole[TRAIN:], "test_frame": frame[TRAIN:]}
    result = exported(made, pipeline, tmp_path / "artifact", **settings)
    assert (result.runtime, result.reason) == ("python", "no ONNX form of GaussianNB")


def test_a_pipeline_with_a_foreign_type_is_refused_before_anything_is_sealed(tmp_path):
    made = messy("binary", texts=False)
    truth = truth_of("binary", made.labels, made.signature.classes, "yes")
    model = LogisticRegression().fit(np.nan_to_num(made.matrix), truth.y)
    model.extra_ = tables_of_a_stranger
    with pytest.raises(ExportError, match="tables_of_a_stranger"):
        exported(made, model, tmp_path / "artifact")
    assert not (tmp_path / "artifact" / manifest.MANIFEST).exists()


def tables_of_a_stranger():
    return "code that a model file could name"


def test_skops_of_a_foreign_type_and_a_pickle_are_not_opened():
    model = IsotonicRegression().fit([0, 1], [0, 1])
    model.extra_ = tables_of_a_stranger
    with pytest.raises(Exception, match="tables_of_a_stranger"):
        open_skops(skops.io.dumps(model))
    with pytest.raises(Exception, match="zip"):
        open_skops(pickle.dumps(model))


def test_golden_rows_are_test_rows_as_a_client_sends_them(tmp_path):
    made, pipeline = fitted("binary", "linear", {"skew": "standard", "C": 1.0})
    exported(made, pipeline, tmp_path / "artifact")
    golden = manifest.load(tmp_path / "artifact").golden()
    assert len(golden.records) == 32
    assert all(record.keys() == set(made.signature.names) for record in golden.records)
    sent = {record["skewed"] for record in golden.records}
    assert sent <= set(made.frame["skewed"][TRAIN:])
    assert None in {record["few"] for record in golden.records}


def test_the_reference_counts_every_training_row_once_and_scores_of_the_others(tmp_path):
    made, pipeline = fitted("multiclass", "tree", {"max_depth": 3, "min_samples_leaf": 5})
    exported(made, pipeline, tmp_path / "artifact")
    found = json.loads((tmp_path / "artifact" / manifest.REFERENCE).read_text("utf-8"))
    assert found["rows"] == TRAIN
    number, few = found["columns"]["number"], found["columns"]["few"]
    assert sum(number["counts"]) + number["missing"] == TRAIN
    assert len(number["counts"]) == len(number["edges"]) + 1
    assert sum(few["counts"]) + few["missing"] == TRAIN
    assert few["missing"] == made.frame["few"][:TRAIN].isna().sum()
    assert {sum(each["counts"]) for each in found["scores"].values()} == {len(made.frame) - TRAIN}


def test_figures_that_are_undefined_stay_out_of_the_manifest(tmp_path):
    made, pipeline = fitted("binary", "linear", {"skew": "standard", "C": 1.0})
    exported(made, pipeline, tmp_path / "artifact")
    assert manifest.load(tmp_path / "artifact").manifest.metrics == {"accuracy": 0.9}


def test_an_artifact_has_the_bounds_of_its_canary_where_the_use_case_sets_some(tmp_path):
    made, pipeline = fitted("binary", "linear", {"skew": "standard", "C": 1.0})
    wide = CanaryBounds(max_slowdown=10.0)
    for bounds, files in ((wide, True), (CanaryBounds(), False)):
        folder = tmp_path / str(files)
        exported(made, pipeline, folder, canary=bounds)
        assert (canary_bounds.FILE in manifest.load(folder).manifest.files) == files
        assert canary_bounds.read(folder) == bounds
