"""Pipelines as people have them, on one table; docs/onnx.md says which of them have an exact graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectFromModel, SelectKBest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import (
    BayesianRidge,
    ElasticNetCV,
    HuberRegressor,
    Lasso,
    LogisticRegression,
    Perceptron,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

NUMBERS, WORDS = ["age", "income"], ["city", "plan"]
ROWS = 360


def made_table() -> pd.DataFrame:
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
    "voting, one left out": VotingClassifier(
        [
            ("a", make_pipeline(columns(impute(StandardScaler()), ONE_HOT), LogisticRegression())),
            ("b", "drop"),
            ("c", make_pipeline(columns(impute(), ORDINAL), GaussianNB())),
        ],
        voting="soft",
        weights=[1, 2, 5],
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

SCALED = columns(impute(StandardScaler()), ONE_HOT)
DENSE = columns(
    impute(StandardScaler()),
    impute(OneHotEncoder(handle_unknown="ignore", sparse_output=False), strategy="most_frequent"),
)
CODED = columns(impute(), ORDINAL)
SMALL_TREE = DecisionTreeRegressor(max_depth=4)
SMALL_FOREST = RandomForestClassifier(8, random_state=0)
STRICT_CODES = ColumnTransformer([("zip", OneHotEncoder(), ["zip"]), ("n", impute(), ["age"])])
FORGIVING = OneHotEncoder(drop="first", handle_unknown="ignore")

CLASSIFIERS |= {
    "indicators, min-max, one-hot without the first": make_pipeline(
        columns(
            impute(MinMaxScaler(clip=True), add_indicator=True),
            impute(FORGIVING, strategy="constant", fill_value="?", add_indicator=True),
        ),
        LogisticRegression(max_iter=2000),
    ),
    "remainder passthrough, forest": make_pipeline(
        ColumnTransformer(
            [("w", ONE_HOT, WORDS), ("d", "drop", ["note", "member", "zip"])], remainder="passthrough"
        ),
        RandomForestClassifier(15, random_state=0),
    ),
    "columns by slices and masks": make_pipeline(
        ColumnTransformer(
            [
                ("n", impute(MaxAbsScaler()), slice(0, 2)),
                ("w", ONE_HOT, [False, False, True, True, False, False, False]),
            ]
        ),
        LogisticRegression(max_iter=2000),
    ),
    "union of features": make_pipeline(
        columns(
            impute(FeatureUnion([("s", StandardScaler()), ("b", KBinsDiscretizer(3, encode="ordinal"))])),
            ONE_HOT,
        ),
        LogisticRegression(max_iter=2000),
    ),
    "strict one-hot of numbers": make_pipeline(STRICT_CODES, LogisticRegression(max_iter=2000)),
    "gradient boosting": make_pipeline(CODED, GradientBoostingClassifier(n_estimators=20, random_state=0)),
    "histogram boosting, missing": make_pipeline(
        columns("passthrough", ORDINAL), HistGradientBoostingClassifier(max_iter=15)
    ),
    "histogram boosting, native categories": make_pipeline(
        columns("passthrough", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)),
        HistGradientBoostingClassifier(max_iter=15, categorical_features=[2, 3]),
    ),
    "AdaBoost": make_pipeline(CODED, AdaBoostClassifier(n_estimators=15, random_state=0)),
    "bagged trees of some columns": make_pipeline(
        CODED, BaggingClassifier(n_estimators=8, max_features=0.7, random_state=0)
    ),
    "hard vote": VotingClassifier(
        [
            ("a", make_pipeline(SCALED, LogisticRegression())),
            ("b", make_pipeline(DENSE, LinearSVC())),
            ("c", make_pipeline(DENSE, GaussianNB())),
        ]
    ),
    "stack of three": StackingClassifier(
        [
            ("a", make_pipeline(SCALED, LogisticRegression())),
            ("b", make_pipeline(CODED, SMALL_FOREST)),
            ("c", make_pipeline(SCALED, LinearSVC())),
        ],
        LogisticRegression(),
        cv=2,
    ),
    "isotonic forest": CalibratedClassifierCV(make_pipeline(CODED, SMALL_FOREST), method="isotonic", cv=2),
    "calibrated linear SVC": make_pipeline(SCALED, CalibratedClassifierCV(LinearSVC(), cv=2)),
    "SVC, RBF": make_pipeline(SCALED, SVC()),
    "SVC, polynomial": make_pipeline(SCALED, SVC(kernel="poly", degree=2)),
    "linear SVC": make_pipeline(SCALED, LinearSVC()),
    "perceptron": make_pipeline(SCALED, Perceptron()),
    "gradient descent, hinge": make_pipeline(SCALED, SGDClassifier(random_state=0)),
    "gradient descent, modified Huber": make_pipeline(
        SCALED, SGDClassifier(loss="modified_huber", random_state=0)
    ),
    "linear discriminant": make_pipeline(DENSE, LinearDiscriminantAnalysis()),
    "quadratic discriminant": make_pipeline(
        ColumnTransformer([("n", impute(StandardScaler()), NUMBERS)]), QuadraticDiscriminantAnalysis()
    ),
    "Gaussian naive Bayes": make_pipeline(DENSE, GaussianNB()),
    "Bernoulli naive Bayes": make_pipeline(columns(impute(Binarizer(threshold=40)), ONE_HOT), BernoulliNB()),
    "multinomial naive Bayes": make_pipeline(
        columns(impute(MinMaxScaler(clip=True)), ONE_HOT), MultinomialNB()
    ),
    "complement naive Bayes": make_pipeline(
        columns(impute(MinMaxScaler(clip=True)), ONE_HOT), ComplementNB()
    ),
    "k nearest, by distance": make_pipeline(DENSE, KNeighborsClassifier(7, weights="distance")),
    "network, tanh": make_pipeline(
        DENSE, MLPClassifier((6, 4), activation="tanh", max_iter=60, random_state=0)
    ),
    "one against the rest": make_pipeline(SCALED, OneVsRestClassifier(LogisticRegression())),
    "one against one": make_pipeline(SCALED, OneVsOneClassifier(LinearSVC())),
    "polynomial features": make_pipeline(
        columns(impute(StandardScaler(), PolynomialFeatures(2)), ONE_HOT), LogisticRegression(max_iter=2000)
    ),
    "the k best columns": make_pipeline(DENSE, SelectKBest(k=3), LogisticRegression()),
    "columns chosen by a forest": make_pipeline(
        DENSE, SelectFromModel(ExtraTreesClassifier(10, random_state=0)), LogisticRegression()
    ),
    "PCA, whitened": make_pipeline(DENSE, PCA(3, whiten=True), LogisticRegression()),
    "SVD": make_pipeline(SCALED, TruncatedSVD(3), LogisticRegression()),
    "PCA, forest": make_pipeline(DENSE, PCA(3), SMALL_FOREST),
    "log1p": make_pipeline(
        columns(impute(FunctionTransformer(np.log1p), StandardScaler()), ONE_HOT), LogisticRegression()
    ),
    "a function with arguments": make_pipeline(
        columns(impute(FunctionTransformer(np.clip, kw_args={"a_min": 0, "a_max": 50})), ONE_HOT),
        LogisticRegression(max_iter=2000),
    ),
    "target encoder, logistic": make_pipeline(
        columns(impute(), TargetEncoder(random_state=0)), LogisticRegression(max_iter=2000)
    ),
    "rows of length 1": make_pipeline(
        ColumnTransformer([("n", impute(Normalizer()), NUMBERS)]), LogisticRegression()
    ),
    "Yeo-Johnson": make_pipeline(columns(impute(PowerTransformer()), ONE_HOT), LogisticRegression()),
    "splines": make_pipeline(
        columns(impute(SplineTransformer()), ONE_HOT), LogisticRegression(max_iter=2000)
    ),
    "dummy": DummyClassifier(strategy="most_frequent"),
}  # fmt: skip
REGRESSIONS |= {
    "lasso": make_pipeline(SCALED, Lasso(0.1)),
    "elastic net": make_pipeline(SCALED, ElasticNetCV(cv=2)),
    "gradient descent": make_pipeline(SCALED, SGDRegressor(random_state=0)),
    "Bayesian ridge": make_pipeline(DENSE, BayesianRidge()),
    "Huber": make_pipeline(SCALED, HuberRegressor(max_iter=1000)),
    "SVR": make_pipeline(SCALED, SVR(C=10)),
    "forest": make_pipeline(CODED, RandomForestRegressor(15, random_state=0)),
    "extra trees": make_pipeline(CODED, ExtraTreesRegressor(15, random_state=0)),
    "tree": make_pipeline(CODED, DecisionTreeRegressor(max_depth=5)),
    "histogram boosting": make_pipeline(
        columns("passthrough", ORDINAL), HistGradientBoostingRegressor(max_iter=15)
    ),
    "AdaBoost of trees": make_pipeline(CODED, AdaBoostRegressor(n_estimators=12, random_state=0)),
    "bagged trees": make_pipeline(CODED, BaggingRegressor(n_estimators=8, random_state=0)),
    "vote": VotingRegressor(
        [
            ("a", make_pipeline(SCALED, Ridge())),
            ("b", make_pipeline(CODED, DecisionTreeRegressor(max_depth=4))),
        ]
    ),
    "stack": StackingRegressor(
        [
            ("a", make_pipeline(SCALED, Ridge())),
            ("b", make_pipeline(CODED, DecisionTreeRegressor(max_depth=4))),
        ],
        cv=2,
    ),
    "k nearest": make_pipeline(DENSE, KNeighborsRegressor(4)),
    "kernel ridge": make_pipeline(DENSE, KernelRidge(kernel="rbf")),
    "network": make_pipeline(DENSE, MLPRegressor(hidden_layer_sizes=(6,), max_iter=80, random_state=0)),
    "partial least squares": make_pipeline(DENSE, PLSRegression(2)),
    "Gaussian process": make_pipeline(DENSE, GaussianProcessRegressor(alpha=1.0)),
    "scaled target": TransformedTargetRegressor(make_pipeline(SCALED, Ridge()), transformer=StandardScaler()),
    "mean": DummyRegressor(),
}
THREE_CLASSES = (
    "ordinal, forest", "one-hot, logistic", "gradient boosting", "AdaBoost", "isotonic forest", "SVC, RBF",
    "stack of three", "linear SVC", "gradient descent, modified Huber", "one against the rest",
    "target encoder, logistic", "histogram boosting, native categories", "Gaussian naive Bayes",
)  # fmt: skip
CASES = [
    *((name, "churned", model) for name, model in CLASSIFIERS.items()),
    *((f"{name}, three classes", "level", CLASSIFIERS[name]) for name in THREE_CLASSES),
    *((f"{name}, regression", "spent", model) for name, model in REGRESSIONS.items()),
]
