"""Models that read columns of a type or a name of their own: pandas categories, and names without spaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import pytest

from artifact.encode import BadRows, Encoder
from artifact.python_model import score_of
from artifact.signature import probabilities
from training.decide.test_set import encode
from training.imported.answers import by_name
from training.imported.contract import columns_wanted, dtypes_of, named_as, signature_of, spec_of
from training.imported.describe import describe
from training.imported.init import write_model_use_case, write_unmeasured_use_case
from training.imported.load import ModelError, load
from training.imported.whole_numbers import as_read_csv_gives_them
from training.settings import Read, load_use_case
from training.tables.data import load_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from artifact.python_model import PythonModel
    from artifact.signature import Signature
    from training.imported.describe import Described
    from training.imported.load import Loaded
    from training.tables.data import Table

FEATURES = ["size", "home city", "code"]


def made_table(town: str = "Zurich") -> pd.DataFrame:
    """A number with gaps, words with gaps, and whole numbers that are codes."""
    random = np.random.default_rng(4)
    frame = pd.DataFrame(
        {
            "size": np.where(random.random(300) < 0.1, np.nan, random.normal(5, 2, 300).round(2)),
            "home city": random.choice(np.array(["Ulm", town, "Bern", None], object), 300),
            "code": random.choice([70, 5, 900], 300),
        }
    )
    frame["fruit"] = (
        frame["size"].fillna(5) + 4 * (frame["home city"] == town) + 3 * (frame["code"] == 5) > 8
    ).astype(int)
    return frame


def typed(frame: pd.DataFrame, town: str = "Zurich") -> pd.DataFrame:
    """As its owner makes it before fitting and before asking; the codes in an order of their own."""
    codes = pd.CategoricalDtype([900, 5, 70])
    cities = pd.CategoricalDtype([town, "Bern", "Ulm"])
    return frame[FEATURES].astype({"home city": cities, "code": codes})


def xgboost_model(folder: Path, saved: str, town: str = "Zurich") -> tuple[Any, Path]:
    library = pytest.importorskip("xgboost")
    table = made_table(town)
    model = library.XGBClassifier(n_estimators=8, enable_categorical=True)
    model.fit(typed(table, town), table["fruit"])
    path = folder / f"model.{saved}"
    joblib.dump(model, path) if saved == "joblib" else model.save_model(path)
    return model, path


def lightgbm_model(folder: Path, saved: str) -> tuple[Any, Path]:
    library = pytest.importorskip("lightgbm")
    table = made_table()
    options = {"min_child_samples": 5, "min_data_per_group": 1, "verbose": -1}
    model = library.LGBMClassifier(n_estimators=8, **options).fit(typed(table), table["fruit"])
    path = folder / f"model.{saved}"
    joblib.dump(model, path) if saved == "joblib" else model.booster_.save_model(path)
    return model, path


def held_against(
    frame: pd.DataFrame, target: str, model: Path
) -> tuple[Table, Loaded, Described, Signature, PythonModel]:
    """A table from the folder of a model's file, and the model's contract with it, as `run` makes it."""
    frame.to_csv(model.parent / "table.csv", index=False)
    use_case = load_use_case(
        write_model_use_case(
            str(model),
            str(model.parent / "table.csv"),
            target,
            name="made",
            trust=True,
            directory=model.parent,
            read=Read(),
            formats={},
        )
    )
    table = load_table(use_case)
    loaded = load(model, trust=True)
    described = named_as(describe(loaded.model), list(table.frame.columns))
    names = columns_wanted(described, list(table.frame.columns), (target,), "the table")
    dtypes = dtypes_of(described, table, names)
    signature = signature_of(described, table, dtypes)
    return table, loaded, described, signature, spec_of(loaded, described, signature, dtypes)


@pytest.mark.parametrize(
    ("made", "saved"),
    [
        (xgboost_model, "joblib"), (xgboost_model, "json"), (xgboost_model, "ubj"),
        (lightgbm_model, "joblib"), (lightgbm_model, "txt"),
    ],
)  # fmt: skip
def test_a_booster_of_pandas_categories_is_given_them(
    made: Callable[..., tuple[Any, Path]], saved: str, tmp_path: Path
) -> None:
    """With the values and the order that it was fitted on; another word is missing, as in pandas."""
    model, path = made(tmp_path, saved)
    table = made_table()
    cleaned, loaded, _, signature, spec = held_against(
        table[["code", "fruit", "home city", "size"]], "fruit", path
    )
    score = score_of(loaded.model, spec, signature)

    found = probabilities(signature, score(encode(signature, cleaned, np.ones(cleaned.rows, bool))))

    own = model.predict_proba(typed(table))
    assert np.ptp(own[:, 1]) > 0.5
    order = [int(str(label)) for label in signature.classes]
    np.testing.assert_allclose(found, own[:, order], rtol=0, atol=1e-7)
    asked = [
        {"size": 7.5, "home city": city, "code": code}
        for city in ("Ulm", "Zurich", "Paris", None)
        for code in (5, "900", 6)
    ]
    frame = pd.DataFrame(asked)
    frame["home city"] = frame["home city"].where(frame["home city"].isin(["Ulm", "Zurich"]))
    frame["code"] = pd.to_numeric(frame["code"]).where(lambda codes: codes != 6)
    found = probabilities(signature, score(Encoder(signature).records(asked)))
    np.testing.assert_allclose(found, model.predict_proba(typed(frame))[:, order], rtol=0, atol=1e-7)
    assert write_unmeasured_use_case(str(path), name="alone", trust=True, directory=tmp_path).is_file()


def test_a_booster_that_has_lost_its_categories_is_refused(tmp_path: Path) -> None:
    """XGBoost before 3.1 keeps only their numbers."""
    _, path = xgboost_model(tmp_path, "json")
    content = path.read_text()
    start = content.index('"cats":')
    end = content.index('"sorted_idx"', start)
    path.write_text(content[:start] + '"cats":{"enc":[],"feature_segments":[],' + content[end:])
    try:
        loaded = load(path, trust=True)
    except ModelError:
        return  # this XGBoost opens no such file
    with pytest.raises(ModelError, match="XGBoost 3.1 or later"):
        describe(loaded.model)


def test_words_that_xgboost_has_cut_are_refused(tmp_path: Path) -> None:
    """It counts letters and keeps so many bytes: "Zürich" would be "Züric", and the next word "hBer"."""
    model, _ = xgboost_model(tmp_path, "json", "Zürich")
    with pytest.raises(ModelError, match="letters outside ASCII, which XGBoost cuts"):
        describe(model)


class Rule:
    """A class of somebody's own, which says nothing of its columns and asks for one by name."""

    classes_ = np.array(["low", "high"])

    def predict(self, rows: Any) -> Any:
        return np.where(np.asarray(rows["size"], float) > 5, "high", "low")


def test_a_model_of_ones_own_that_asks_by_name_gets_a_data_frame(tmp_path: Path) -> None:
    """It is given the names of the table once it has failed on an array."""
    table = made_table().dropna()[["code", "size"]]
    table["level"] = Rule().predict(table)
    (tmp_path / "rule.pkl").write_bytes(cloudpickle.dumps(Rule()))
    cleaned, loaded, described, signature, spec = held_against(table, "level", tmp_path / "rule.pkl")
    rows = encode(signature, cleaned, np.ones(cleaned.rows, bool))

    spec = by_name(loaded.model, described, spec, signature, rows)

    assert spec.frame
    scores = score_of(loaded.model, spec, signature)(rows)
    found = [signature.classes[place] for place in scores.argmax(axis=1)]
    assert found == table["level"].tolist()


@pytest.mark.parametrize("saved", ["cbm", "joblib"])
def test_catboost_gets_its_categories_as_words_and_whole_numbers(saved: str, tmp_path: Path) -> None:
    """It refuses an array of floats, and a fraction or a missing cell where it reads a category."""
    library = pytest.importorskip("catboost")
    table = made_table().dropna()
    quiet = {"iterations": 8, "verbose": 0, "allow_writing_files": False}
    for columns in (FEATURES, ["size", "code"]):
        kinds = [name for name in columns if name != "size"]
        model = library.CatBoostClassifier(**quiet, cat_features=kinds).fit(table[columns], table["fruit"])
        path = tmp_path / f"{len(columns)}" / f"model.{saved}"
        path.parent.mkdir()
        joblib.dump(model, path) if saved == "joblib" else model.save_model(str(path))
        cleaned, loaded, _, signature, spec = held_against(table[[*columns, "fruit"]], "fruit", path)
        rows = encode(signature, cleaned, np.ones(cleaned.rows, bool))

        spec, signature = as_read_csv_gives_them(loaded.model, spec, signature, rows, cleaned.use_case)

        score = score_of(loaded.model, spec, signature)
        order = [int(str(label)) for label in signature.classes]
        found = probabilities(signature, score(encode(signature, cleaned, np.ones(cleaned.rows, bool))))
        np.testing.assert_allclose(found, model.predict_proba(table[columns])[:, order], rtol=0, atol=1e-9)
        sent = {"size": 5.0, "home city": "Ulm", "code": 70}
        for wrong in (70.5, None):
            with pytest.raises(BadRows, match="code"):
                Encoder(signature).records([{name: (sent | {"code": wrong})[name] for name in columns}])
