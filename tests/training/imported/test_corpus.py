"""Models as people have them: what a server would answer is what the model itself answers on a data frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from artifact.encode import BadRows, Encoder
from artifact.python_model import score_of
from artifact.signature import labels, probabilities
from training.decide.test_set import encode
from training.imported.contract import (
    columns_wanted,
    dtypes_of,
    signature_of,
    spec_of,
    with_missing_refused,
)
from training.imported.describe import describe
from training.imported.init import write_model_use_case
from training.imported.load import load
from training.settings import Read, load_use_case
from training.tables.data import load_table

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS, WORDS = ["age", "income"], ["city", "plan"]
ROWS = 360


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Numbers with gaps, words with gaps, whole numbers that are codes, truth values, texts."""
    random = np.random.default_rng(11)
    frame = pd.DataFrame(
        {
            "age": np.where(random.random(ROWS) < 0.1, np.nan, random.normal(40, 12, ROWS).round(1)),
            "income": random.lognormal(10, 1, ROWS).round(2),
            "city": random.choice(np.array(["Ulm", "Bern", "Zürich", np.nan], object), ROWS),
            "plan": random.choice(["basic", "plus", "Pro Max"], ROWS),
            "zip": random.choice([10115, 20095, 80331], ROWS),
            "member": random.random(ROWS) < 0.5,
            "note": random.choice(["paid late", "paid on time", "never, ever paid"], ROWS),
        }
    )
    score = (
        frame["age"].fillna(40)
        + 10 * (frame["city"] == "Ulm")
        + 8 * frame["member"]
        + random.normal(0, 6, ROWS)
    )
    frame["level"] = np.select([score > 58, score > 46], ["high", "middle"], "low")
    frame["churned"] = np.where(score > 50, "yes", "no")
    frame["spent"] = (score * 3.7).round(3)
    return frame


def columns(numbers: Any, words: Any) -> ColumnTransformer:
    return ColumnTransformer([("numbers", numbers, NUMBERS), ("words", words, WORDS)])


def impute(*steps: Any, **options: Any) -> Any:
    return make_pipeline(SimpleImputer(**options), *steps)


ONE_HOT = impute(OneHotEncoder(handle_unknown="ignore"), strategy="most_frequent")
ORDINAL = impute(
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    strategy="constant",
    fill_value="none",
)

CLASSIFIERS: dict[str, Any] = {
    "one-hot, logistic": make_pipeline(columns(impute(StandardScaler()), ONE_HOT), LogisticRegression()),
    "infrequent categories": make_pipeline(
        columns(impute(), OneHotEncoder(min_frequency=90, handle_unknown="infrequent_if_exist")),
        LogisticRegression(max_iter=2000),
    ),
    "ordinal, forest": make_pipeline(columns(impute(), ORDINAL), RandomForestClassifier(20, random_state=0)),
    "ordinal, extra trees": make_pipeline(columns(impute(), ORDINAL), ExtraTreesClassifier(20)),
    "target encoder, boosting": make_pipeline(
        columns("passthrough", TargetEncoder(random_state=0)), HistGradientBoostingClassifier(max_iter=20)
    ),
    "calibrated forest": CalibratedClassifierCV(
        make_pipeline(columns(impute(), ORDINAL), RandomForestClassifier(10, random_state=0)), cv=3
    ),
    "stacking": StackingClassifier(
        [("t", make_pipeline(columns(impute(), ORDINAL), DecisionTreeClassifier(max_depth=3)))],
        LogisticRegression(),
    ),
    "voting": VotingClassifier(
        [
            ("a", make_pipeline(columns(impute(StandardScaler()), ONE_HOT), LogisticRegression())),
            ("b", make_pipeline(columns(impute(), ORDINAL), GaussianNB())),
        ],
        voting="soft",
    ),
    "k nearest, KNN imputer": make_pipeline(
        columns(make_pipeline(KNNImputer(), RobustScaler()), ONE_HOT), KNeighborsClassifier()
    ),
    "power, PCA, SVC": make_pipeline(
        columns(impute(PowerTransformer()), ONE_HOT), PCA(3), SVC(probability=True, random_state=0)
    ),
    "quantiles, network": make_pipeline(
        columns(impute(QuantileTransformer(n_quantiles=50)), ONE_HOT), MLPClassifier((8,), random_state=0)
    ),
    "bins, gradient descent": make_pipeline(
        columns(impute(KBinsDiscretizer(4, encode="onehot-dense")), ONE_HOT),
        SGDClassifier(loss="log_loss", random_state=0),
    ),
    "grid search": GridSearchCV(
        make_pipeline(columns(impute(StandardScaler()), ONE_HOT), LogisticRegression()),
        {"logisticregression__C": [0.1, 1.0]},
        cv=2,
    ),
    "selector of types": make_pipeline(
        ColumnTransformer(
            [
                ("numbers", impute(), make_column_selector(dtype_include=np.number)),
                ("words", ONE_HOT, make_column_selector(dtype_include=[object, "string"])),
            ]
        ),
        LogisticRegression(max_iter=2000),
    ),
    "codes and truth values": make_pipeline(
        ColumnTransformer(
            [("codes", OneHotEncoder(handle_unknown="ignore"), ["zip", "member"]), ("n", impute(), ["age"])]
        ),
        LogisticRegression(max_iter=2000),
    ),
    "strict encoder": make_pipeline(
        ColumnTransformer([("plan", OneHotEncoder(), ["plan"]), ("n", impute(), ["income"])]),
        DecisionTreeClassifier(max_depth=4),
    ),
    "texts": make_pipeline(
        ColumnTransformer([("note", TfidfVectorizer(), "note"), ("n", impute(), NUMBERS)]), TruncatedSVD(4),
        LogisticRegression(),
    ),
    "no probabilities": make_pipeline(columns(impute(StandardScaler()), ONE_HOT), RidgeClassifier()),
}  # fmt: skip
REGRESSIONS: dict[str, Any] = {
    "ridge": make_pipeline(columns(impute(StandardScaler()), ONE_HOT), Ridge()),
    "boosting": make_pipeline(columns(impute(), ORDINAL), GradientBoostingRegressor(n_estimators=20)),
    "log target": TransformedTargetRegressor(
        make_pipeline(columns(impute(StandardScaler()), ONE_HOT), Ridge()),
        func=np.log1p,
        inverse_func=np.expm1,
    ),
}
CASES = [
    *((name, "churned", model) for name, model in CLASSIFIERS.items()),
    *(
        (f"{name}, three classes", "level", CLASSIFIERS[name])
        for name in ("ordinal, forest", "one-hot, logistic")
    ),
    *((name, "spent", model) for name, model in REGRESSIONS.items()),
]


def served(tmp_path: Path, model: Any, table: pd.DataFrame, target: str) -> tuple[Any, Any, Any]:
    """What a server makes of a saved model and a table: scores, scoring function and signature."""
    joblib.dump(model, tmp_path / "model.joblib")
    table.to_csv(tmp_path / "table.csv", index=False)
    path = write_model_use_case(
        str(tmp_path / "model.joblib"), str(tmp_path / "table.csv"), target, name="made", trust=True,
        directory=tmp_path, read=Read(), formats={},
    )  # fmt: skip
    use_case = load_use_case(path)
    cleaned = load_table(use_case)
    loaded = load(tmp_path / "model.joblib", trust=True)
    described = describe(loaded.model)
    names = columns_wanted(described, list(cleaned.frame.columns), target, "the table")
    dtypes = dtypes_of(described, cleaned, names)
    signature = signature_of(described, cleaned, dtypes)
    score = score_of(loaded.model, spec_of(loaded, described, signature, dtypes), signature)
    rows = encode(signature, cleaned, np.ones(cleaned.rows, bool))
    return score(rows), score, with_missing_refused(signature, score, rows)


def answers(model: Any, frame: pd.DataFrame, signature: Any) -> Any:
    """The model's own answer on a data frame, in the order of the signature's classes."""
    if not signature.classes:
        return np.asarray(model.predict(frame)).reshape(-1, 1)
    own = [str(label) for label in model.classes_]
    if hasattr(model, "predict_proba"):
        return model.predict_proba(frame)[:, [own.index(str(label)) for label in signature.classes]]
    said = model.predict(frame)
    return np.column_stack([said == label for label in signature.classes]).astype(float)


@pytest.mark.parametrize(("name", "target", "model"), CASES, ids=[f"{case[0]}" for case in CASES])
def test_a_saved_model_answers_as_it_does_itself(
    name: str, target: str, model: Any, table: pd.DataFrame, tmp_path: Path
) -> None:
    """On the table's rows, on a word that it never saw, and with every cell missing in turn."""
    features = table[[column for column in table.columns if column not in {"level", "churned", "spent"}]]
    model = model.fit(features.head(240), table[target].head(240))
    kept = table[[*features.columns, target]]

    found, score, signature = served(tmp_path, model, kept, target)

    chances = probabilities(signature, found)
    np.testing.assert_allclose(chances, answers(model, features, signature), rtol=0, atol=1e-9)
    if signature.classes:
        assert list(labels(signature, found)) == model.predict(features).tolist()
    encoder = Encoder(signature)
    row = {key: None if pd.isna(value) else value for key, value in features.iloc[0].to_dict().items()}
    sent = [dict(row, **({column: None} if column in row else {})) for column in signature.names]
    if name != "strict encoder":
        sent.append(row | {"city": "Paris", "plan": "none of them"})
    for asked in sent:
        # As `read_csv` gives them: a missing word is NaN, as a missing number is.
        frame = pd.DataFrame([asked], columns=features.columns).astype(object).fillna(np.nan)
        frame = frame.astype({"age": float, "income": float, "zip": float})
        try:
            expected = answers(model, frame, signature)
        except (ValueError, TypeError, AttributeError):  # the model itself does not take this row
            with pytest.raises(BadRows):
                encoder.records([{key: value for key, value in asked.items() if key in signature.names}])
            continue
        known = {key: value for key, value in asked.items() if key in signature.names}
        np.testing.assert_allclose(
            probabilities(signature, score(encoder.records([known]))),
            expected,
            rtol=0,
            atol=1e-9,
            err_msg=str(asked),
        )
