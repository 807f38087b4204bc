"""A model in a program of one's own answers as the server does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from artifact import load, manifest, store
from artifact.encode import BadRows
from artifact.manifest import ArtifactError
from tests.serving.artifacts import Made, breast_cancer, iris, linear, loans

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return iris(tmp_path_factory.mktemp("iris") / "iris")


def test_rows_of_every_shape_have_the_estimators_labels(flowers: Made) -> None:
    model = load(flowers.path)
    rows = flowers.rows
    names = list(flowers.signature.names)
    expected = flowers.labels(rows)
    frame = pd.DataFrame(rows, columns=names)
    assert model.name == "iris"
    assert model.classes == ("setosa", "versicolor", "virginica")
    for shape in (
        rows,
        np.array(rows),
        frame,
        frame[names[::-1]],
        frame.to_dict("records"),
        frame.to_dict("list"),
        {name: frame[name].to_numpy() for name in names},
        [tuple(row) for row in rows],
    ):
        assert list(model.predict(shape)) == expected
    assert list(model.predict(frame.to_dict("records")[0])) == expected[:1]
    assert model.predict_proba(rows) == pytest.approx(flowers.scores(rows))


def test_a_regression_has_numbers_and_no_probabilities(tmp_path: Path) -> None:
    model = load(linear(tmp_path / "linear").path)
    assert model.predict([[3.0], [4.5]]).tolist() == pytest.approx([6.0, 9.0])
    with pytest.raises(ValueError, match="linear has no classes"):
        model.predict_proba([[3.0]])
    with pytest.raises(ValueError, match="threshold: linear is no binary model, but a regression one"):
        model.predict([[3.0]], threshold=0.5)


def test_a_threshold_moves_the_label(tmp_path: Path) -> None:
    made = breast_cancer(tmp_path / "breast_cancer")
    model = load(made.path)
    chances = model.predict_proba(made.rows)[:, 1]
    for threshold in (0.0, 0.2, 0.9):
        expected = ["malignant" if chance >= threshold else "benign" for chance in chances]
        assert list(model.predict(made.rows, threshold=threshold)) == expected
    with pytest.raises(ValueError, match=r"expected 0 to 1, got 1\.5"):
        model.predict(made.rows, threshold=1.5)


def test_a_data_frame_with_gaps_and_dates_is_read_as_json_is(tmp_path: Path) -> None:
    """What pandas calls missing is missing, a timestamp is a date, and a refused cell is named."""
    made = loans(tmp_path / "loans")
    model = load(made.path)
    frame = pd.DataFrame(made.rows, columns=list(made.signature.names))
    assert list(model.predict(frame)) == made.labels(made.rows)
    record = dict(zip(made.signature.names, made.rows[0], strict=True))
    with pytest.raises(BadRows) as refused:
        model.predict([record, record | {"age": "old"}])
    assert (refused.value.errors[0].row, refused.value.errors[0].column) == (1, "age")
    with pytest.raises(BadRows) as unknown:
        model.predict(frame.rename(columns={"age": "aeg"}))
    assert "did you mean 'age'?" in unknown.value.errors[0].reason


def test_threads_share_a_model(tmp_path: Path, flowers: Made) -> None:
    for made in (flowers, iris(tmp_path / "python", runtime="python")):
        expected = made.labels(made.rows)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(load(made.path).predict, [made.rows] * 64))
        assert all(list(answer) == expected for answer in answers)


@pytest.mark.usefixtures("bentoml_home")
def test_a_tag_of_bentomls_store_is_opened_exactly(tmp_path: Path) -> None:
    made = iris(tmp_path / "iris")
    tag = store.put(made.path, name="iris", version="3")
    assert list(load(tag).predict(made.rows)) == made.labels(made.rows)
    with pytest.raises(ArtifactError, match=f"has no okamochi-iris:4-000000000000; it has {tag}"):
        load("okamochi-iris:4-000000000000")
    with pytest.raises(ArtifactError, match="no okamochi-other"):
        load("okamochi-other:1-000000000000")
    folder = store.path_of(tag)[0]
    other = linear(tmp_path / "linear")
    for file in folder.iterdir():
        file.unlink()
    for file in other.path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ArtifactError, match="is not the one that was bundled"):
        load(tag)


def test_what_is_no_model_is_one_sentence(tmp_path: Path, flowers: Made) -> None:
    with pytest.raises(ArtifactError, match="is not a folder; expected the folder of an artifact"):
        load(tmp_path / "absent")
    with pytest.raises(ArtifactError, match=r"holds no artifact: it has no manifest\.json"):
        load(tmp_path)
    damaged = iris(tmp_path / "damaged").path
    (damaged / "model.onnx").write_bytes((flowers.path / "model.onnx").read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="is damaged"):
        load(damaged)


@pytest.mark.parametrize("by", ["folder", "tag"])
def test_a_folder_or_a_tag_needs_neither_mlflow_nor_bentoml_nor_scikit_learn(
    flowers: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """These imports take seconds; without them a model is open in 0.2 s (`make bench` measures it)."""
    source = str(flowers.path)
    if by == "tag":
        monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
        digest = manifest.digest(flowers.path / manifest.MANIFEST)[:12]
        stored = tmp_path / "models" / "okamochi-iris" / f"1-{digest}" / "artifact"
        shutil.copytree(flowers.path, stored)
        source = f"okamochi-iris:1-{digest}"
    code = (
        "import sys; from artifact import load; "
        f"print(load({source!r}).predict([[5.1, 3.5, 1.4, 0.2]]), "
        "sorted({'mlflow', 'bentoml', 'sklearn', 'pandas', 'scipy', 'skops'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "['setosa'] []"
