"""The model families that the search chooses from: each one's preprocessing, search space and limits.

Every pipeline takes the encoded matrix (`artifact.encode`) and is made of scikit-learn's own parts only, so
that it exports to ONNX (`training.onnx.graph`) and loads from skops on our own list of types. Classifiers
are fitted on class indices, 0 to k - 1, in the order of `Signature.classes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import TruncatedSVD
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    PowerTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from optuna.trial import BaseTrial

    from artifact.signature import Signature, Task

Params = dict[str, Any]

ONE_HOT_LEVELS = 16
"""Categories up to which a column is one-hot encoded; beyond, by the target."""
NATIVE_LEVELS = 200
"""Categories up to which gradient boosting splits a column by sets of them; it has room for 255."""
WIDE_TEXT = 100
"""Terms up to which trees and distances see each; beyond, through a singular value decomposition."""
TEXT_COMPONENTS = 64
INNER_FOLDS = 3
MIN_ONE_UNIT, ONE_UNIT_SHARE = 16, 0.5
"""Columns from which `of_one_unit` may say so, and how far half of them spread, of the widest."""


@dataclass(frozen=True)
class Layout:
    """Which columns of the matrix are what, by index.

    Parameters
    ----------
    numbers
        Numbers and parts of dates; NaN is missing.
    categories
        Codes; -1 is missing or unknown.
    levels
        How many categories each column of `categories` has.
    terms
        TF-IDF weights, never missing.
    rows
        How many rows the search has.
    classes
        0 for a regression.
    weighted
        Weights of classes are tried: the rare ones would else not be predicted.
    one_unit
        The numbers are of one unit, as pixels are: how far each of them spreads tells how much it matters.
    """

    numbers: tuple[int, ...]
    categories: tuple[int, ...]
    levels: tuple[int, ...]
    terms: tuple[int, ...]
    rows: int
    classes: int
    weighted: bool = False
    one_unit: bool = False

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return len(self.numbers) + len(self.categories) + len(self.terms)

    @property
    def cost(self) -> int:
        """Columns as they cost: of texts only few terms are in a row."""
        return len(self.numbers) + len(self.categories) + len(self.terms) // 20

    @property
    def one_hot(self) -> tuple[int, ...]:
        """The columns of few categories."""
        return tuple(c for c, n in zip(self.categories, self.levels, strict=True) if n <= ONE_HOT_LEVELS)

    @property
    def many(self) -> tuple[int, ...]:
        """The columns of many categories."""
        return tuple(c for c in self.categories if c not in self.one_hot)

    @property
    def native(self) -> tuple[int, ...]:
        """The columns whose categories gradient boosting can split by itself."""
        return tuple(c for c, n in zip(self.categories, self.levels, strict=True) if n <= NATIVE_LEVELS)


def layout_of(signature: Signature, rows: int, *, weighted: bool = False, one_unit: bool = False) -> Layout:
    """Where the signature's columns stand in the matrix."""
    numbers: list[int] = []
    categories: list[int] = []
    levels: list[int] = []
    terms: list[int] = []
    start = 0
    for column in signature.columns:
        places = range(start, start + column.width)
        start += column.width
        if column.kind == "category":
            categories += places
            levels.append(len(column.categories))
        elif column.kind == "text":
            terms += places
        else:
            numbers += places
    return Layout(
        tuple(numbers),
        tuple(categories),
        tuple(levels),
        tuple(terms),
        rows=rows,
        classes=len(signature.classes),
        weighted=weighted,
        one_unit=one_unit,
    )


def of_one_unit(numbers: NDArray[np.float64]) -> bool:
    """Whether columns begin alike and most spread about as far as the widest; of shape (rows, columns)."""
    if numbers.shape[1] < MIN_ONE_UNIT or np.isnan(numbers).all(axis=0).any():
        return False
    low, high = np.nanmin(numbers, axis=0), np.nanmax(numbers, axis=0)
    spread = high - low
    near = low <= low.min() + ONE_UNIT_SHARE / 2 * (high.max() - low.min())
    return bool(near.all() and np.median(spread) >= ONE_UNIT_SHARE * spread.max())


@dataclass(frozen=True)
class Family:
    """One kind of model.

    Parameters
    ----------
    default
        Parameters of its first trial, within what `suggest` can give.
    suggest
        Draws parameters for a trial, each named `FAMILY.parameter`.
    build
        An unfitted pipeline over the matrix.
    affordable
        Whether rows, matrix columns and classes (0: regression) let a trial finish in seconds.
    second
        What to change in the default for another first trial, where a small budget would else never leave it;
        empty for none.
    """

    name: str
    title: str
    tasks: frozenset[str]
    default: Callable[[Layout], Params]
    suggest: Callable[[BaseTrial, Layout], Params]
    build: Callable[[Mapping[str, Any], Layout, Task, int], Pipeline]
    affordable: Callable[[int, int, int], bool]
    second: Callable[[Layout], Params] = lambda _layout: {}


# --- preprocessing -----------------------------------------------------------------------------------------


def _columns(*steps: tuple[str, Any, tuple[int, ...]]) -> ColumnTransformer:
    present = [(name, step, list(places)) for name, step, places in steps if places]
    return ColumnTransformer(present, verbose_feature_names_out=False)


def _imputer(*, indicator: bool = False) -> SimpleImputer:
    # Without keep_empty_features a column that is all missing in one fold would change the width.
    return SimpleImputer(strategy="median", keep_empty_features=True, add_indicator=indicator)


def _target_encoder(task: Task, seed: int) -> TargetEncoder:
    kind = {"binary": "binary", "multiclass": "multiclass", "regression": "continuous"}[task]
    return TargetEncoder(target_type=kind, cv=5, shuffle=True, random_state=seed)


def _terms(layout: Layout, seed: int, *, dense: bool) -> Any:
    """TF-IDF columns: as they are, sparse where they are many, or decomposed for what needs few columns."""
    if len(layout.terms) <= WIDE_TEXT:
        return "passthrough"
    sparse = FunctionTransformer(csr_matrix, accept_sparse=True)
    if not dense:
        return sparse
    return Pipeline([("sparse", sparse), ("svd", TruncatedSVD(TEXT_COMPONENTS, random_state=seed))])


def _scaled(layout: Layout, task: Task, seed: int, *, skew: str, dense: bool) -> ColumnTransformer:
    """For models that sum or measure distances: everything near one scale, nothing missing."""
    scaler = {"standard": StandardScaler, "power": PowerTransformer, "range": MinMaxScaler}[skew]()
    return _columns(
        ("numbers", Pipeline([("impute", _imputer(indicator=True)), ("scale", scaler)]), layout.numbers),
        ("few", OneHotEncoder(handle_unknown="ignore", sparse_output=False), layout.one_hot),
        (
            "many",
            Pipeline([("target", _target_encoder(task, seed)), ("scale", StandardScaler())]),
            layout.many,
        ),
        ("terms", _terms(layout, seed, dense=dense), layout.terms),
    )


def _ordered(layout: Layout, task: Task, seed: int) -> ColumnTransformer:
    """For trees: any monotone scale will do, categories stand by their target's mean."""
    return _columns(
        ("numbers", "passthrough", layout.numbers),
        ("few", OneHotEncoder(handle_unknown="ignore", sparse_output=False), layout.one_hot),
        ("many", _target_encoder(task, seed), layout.many),
        ("terms", _terms(layout, seed, dense=True), layout.terms),
    )


def _boosted(
    layout: Layout, task: Task, seed: int, *, categories: str
) -> tuple[ColumnTransformer, list[int]]:
    """For gradient boosting, and which of its columns are native categories."""
    native = layout.native if categories == "native" else ()
    rest = tuple(c for c in layout.categories if c not in native)
    columns = _columns(
        ("native", "passthrough", native),
        ("numbers", "passthrough", layout.numbers),
        ("coded", _target_encoder(task, seed), rest),
        ("terms", _terms(layout, seed, dense=True), layout.terms),
    )
    return columns, list(range(len(native)))


def _weight(trial: BaseTrial, name: str, layout: Layout) -> Params:
    if not layout.weighted:
        return {}
    return {"class_weight": trial.suggest_categorical(f"{name}.class_weight", [None, "balanced"])}


def _no_weight(layout: Layout) -> Params:
    """Of a first trial; left open, the sampler would draw one."""
    return {"class_weight": None} if layout.weighted else {}


def _pipeline(columns: ColumnTransformer, model: Any) -> Pipeline:
    return Pipeline([("columns", columns), ("model", model)])


def _scaled_target(model: Any) -> TransformedTargetRegressor:
    return TransformedTargetRegressor(model, transformer=StandardScaler())


def _by_range(layout: Layout) -> Params:
    return {"skew": "range"} if layout.one_unit else {}


# --- linear ------------------------------------------------------------------------------------------------


def _skew(trial: BaseTrial, name: str, layout: Layout) -> str:
    kinds = ["standard", "power", *(["range"] if layout.one_unit else [])]
    skew: str = trial.suggest_categorical(f"{name}.skew", kinds)
    return skew


def _suggest_linear(trial: BaseTrial, layout: Layout) -> Params:
    if layout.classes:
        return {
            "skew": _skew(trial, "linear", layout),
            "C": trial.suggest_float("linear.C", 1e-3, 1e3, log=True),
            **_weight(trial, "linear", layout),
        }
    kind = trial.suggest_categorical("linear.penalty", ["none", "ridge", "elastic"])
    params = {"skew": _skew(trial, "linear", layout), "penalty": kind}
    if kind == "ridge":
        params["alpha"] = trial.suggest_float("linear.alpha", 1e-2, 1e3, log=True)
    elif kind == "elastic":
        params["strength"] = trial.suggest_float("linear.strength", 1e-4, 1.0, log=True)
        params["l1_ratio"] = trial.suggest_float("linear.l1_ratio", 0.1, 1.0)
    return params


def _build_linear(params: Mapping[str, Any], layout: Layout, task: Task, seed: int) -> Pipeline:
    columns = _scaled(layout, task, seed, skew=params["skew"], dense=False)
    model: Any
    if layout.classes:
        model = LogisticRegression(
            C=params["C"], class_weight=params.get("class_weight"), max_iter=1000, random_state=seed
        )
    elif params["penalty"] == "none":
        model = LinearRegression()
    elif params["penalty"] == "ridge":
        model = Ridge(alpha=params["alpha"], random_state=seed)
    else:
        # With the target scaled a strength means the same whatever its unit.
        model = _scaled_target(
            ElasticNet(
                alpha=params["strength"], l1_ratio=params["l1_ratio"], max_iter=2000, random_state=seed
            )
        )
    return _pipeline(columns, model)


# --- one tree, and forests ---------------------------------------------------------------------------------


def _suggest_tree(trial: BaseTrial, layout: Layout) -> Params:
    return {
        "max_depth": trial.suggest_int("tree.max_depth", 2, 16),
        "min_samples_leaf": trial.suggest_int("tree.min_samples_leaf", 1, 50, log=True),
        **_weight(trial, "tree", layout),
    }


def _build_tree(params: Mapping[str, Any], layout: Layout, task: Task, seed: int) -> Pipeline:
    kwargs = {key: params[key] for key in ("max_depth", "min_samples_leaf")} | {"random_state": seed}
    if layout.classes:
        model = DecisionTreeClassifier(class_weight=params.get("class_weight"), **kwargs)
    else:
        model = DecisionTreeRegressor(**kwargs)
    return _pipeline(_ordered(layout, task, seed), model)


def _trees(layout: Layout) -> int:
    """Trees of a forest: fewer where each costs much."""
    return 200 if layout.rows <= 5_000 else 100


def _most_features(layout: Layout) -> float:
    """The largest share of the columns that a forest's split looks through: less where tables are large."""
    return float(np.clip(200_000 / (layout.rows * max(1, layout.cost)), 0.25, 1.0))


def _suggest_forest(name: str) -> Callable[[BaseTrial, Layout], Params]:
    def suggest(trial: BaseTrial, layout: Layout) -> Params:
        return {
            "max_features": trial.suggest_float(f"{name}.max_features", 0.02, _most_features(layout)),
            "min_samples_leaf": trial.suggest_int(f"{name}.min_samples_leaf", 1, 20, log=True),
            **_weight(trial, name, layout),
        }

    return suggest


def _forest_default(layout: Layout) -> Params:
    share = 1 / 3 if not layout.classes else 1 / max(1.0, layout.width) ** 0.5
    return {
        "max_features": float(np.clip(share, 0.02, _most_features(layout))),
        "min_samples_leaf": 1 if layout.classes or layout.rows > 1_000 else 2,
        **_no_weight(layout),
    }


def _build_forest(classifier: Any, regressor: Any) -> Callable[..., Pipeline]:
    def build(params: Mapping[str, Any], layout: Layout, task: Task, seed: int) -> Pipeline:
        kwargs = {key: params[key] for key in ("max_features", "min_samples_leaf")}
        kwargs |= {"n_estimators": _trees(layout), "random_state": seed}
        if layout.classes:
            model = classifier(class_weight=params.get("class_weight"), **kwargs)
        else:
            model = regressor(**kwargs)
        return _pipeline(_ordered(layout, task, seed), model)

    return build


# --- gradient boosting -------------------------------------------------------------------------------------


def _rounds(layout: Layout) -> int:
    """The most boosting rounds: each grows a tree a class, which costs as the table is large."""
    trees_a_round = layout.classes if layout.classes > 2 else 1
    cells = layout.rows * max(1, layout.cost) * trees_a_round
    return int(np.clip(min(1_000 // trees_a_round, 240_000_000 // cells), 40, 400))


def _suggest_boosting(trial: BaseTrial, layout: Layout) -> Params:
    params = {
        "learning_rate": trial.suggest_float("boosting.learning_rate", 0.02, 0.3, log=True),
        "max_iter": trial.suggest_int("boosting.max_iter", 30, _rounds(layout), log=True),
        "max_leaf_nodes": trial.suggest_int("boosting.max_leaf_nodes", 4, 63, log=True),
        "min_samples_leaf": trial.suggest_int("boosting.min_samples_leaf", 2, 60, log=True),
        "l2_regularization": trial.suggest_float("boosting.l2_regularization", 1e-3, 10.0, log=True),
        "max_features": trial.suggest_float("boosting.max_features", 0.3, 1.0),
        **_weight(trial, "boosting", layout),
    }
    if layout.categories:
        params["categories"] = trial.suggest_categorical("boosting.categories", ["native", "target"])
    return params


def _boosting_default(layout: Layout) -> Params:
    return {
        "learning_rate": 0.08,
        "max_iter": min(150, _rounds(layout)),
        "max_leaf_nodes": 15 if layout.rows <= 5_000 else 31,
        "min_samples_leaf": 10 if layout.rows <= 1_000 else 20,
        "l2_regularization": 0.1,
        "max_features": 0.7,
        **_no_weight(layout),
    } | ({"categories": "native"} if layout.categories else {})


def _build_boosting(params: Mapping[str, Any], layout: Layout, task: Task, seed: int) -> Pipeline:
    columns, native = _boosted(layout, task, seed, categories=params.get("categories", "target"))
    names = (
        "learning_rate",
        "max_iter",
        "max_leaf_nodes",
        "min_samples_leaf",
        "l2_regularization",
        "max_features",
    )
    kwargs = {key: params[key] for key in names}
    kwargs |= {"early_stopping": False, "random_state": seed, "categorical_features": native or None}
    if layout.classes:
        model = HistGradientBoostingClassifier(class_weight=params.get("class_weight"), **kwargs)
    else:
        model = HistGradientBoostingRegressor(**kwargs)
    return _pipeline(columns, model)


# --- support vectors ---------------------------------------------------------------------------------------


def _linear_kernel(layout: Layout) -> bool:
    return layout.rows > 4_000 or layout.width > 500


def _suggest_svm(trial: BaseTrial, layout: Layout) -> Params:
    params = {
        "skew": _skew(trial, "svm", layout),
        "C": trial.suggest_float("svm.C", 1e-2, 1e3, log=True),
        **_weight(trial, "svm", layout),
    }
    if not _linear_kernel(layout):
        params["gamma"] = trial.suggest_float("svm.gamma", 0.05, 5.0, log=True)
    if not layout.classes:
        params["epsilon"] = trial.suggest_float("svm.epsilon", 1e-3, 0.3, log=True)
    return params


def _build_svm(params: Mapping[str, Any], layout: Layout, task: Task, seed: int) -> Pipeline:
    columns = _scaled(layout, task, seed, skew=params["skew"], dense=not _linear_kernel(layout))
    if not layout.classes:
        gamma = params["gamma"] / max(1, layout.width)
        model = SVR(C=params["C"], gamma=gamma, epsilon=params["epsilon"], max_iter=200_000)
        return _pipeline(columns, _scaled_target(model))
    machine: Any
    if _linear_kernel(layout):
        # Unscaled C of the RBF machine is far too loose for wide text.
        machine = LinearSVC(
            C=params["C"] / 10, class_weight=params.get("class_weight"), max_iter=2_000, random_state=seed
        )
    else:
        gamma = params["gamma"] / max(1, layout.width)
        machine = SVC(
            C=params["C"],
            gamma=gamma,
            class_weight=params.get("class_weight"),
            max_iter=200_000,
            random_state=seed,
        )
    # SVC(probability=True) is deprecated in scikit-learn 1.9; this is what its notice names instead.
    return _pipeline(
        columns, CalibratedClassifierCV(machine, method="sigmoid", ensemble=False, cv=INNER_FOLDS)
    )


# --- neighbours --------------------------------------------------------------------------------------------


def _suggest_neighbours(trial: BaseTrial, layout: Layout) -> Params:
    most = int(np.clip(layout.rows // 10, 3, 50))
    return {
        "skew": _skew(trial, "neighbours", layout),
        "n_neighbors": trial.suggest_int("neighbours.n_neighbors", 1, most, log=True),
        "weights": trial.suggest_categorical("neighbours.weights", ["uniform", "distance"]),
    }


def _build_neighbours(params: Mapping[str, Any], layout: Layout, task: Task, seed: int) -> Pipeline:
    columns = _scaled(layout, task, seed, skew=params["skew"], dense=True)
    kind = KNeighborsClassifier if layout.classes else KNeighborsRegressor
    model = kind(n_neighbors=params["n_neighbors"], weights=params["weights"], algorithm="brute")
    return _pipeline(columns, model)


# --- neural network ----------------------------------------------------------------------------------------


def _suggest_network(trial: BaseTrial, layout: Layout) -> Params:
    return {
        "skew": _skew(trial, "network", layout),
        "units": trial.suggest_categorical("network.units", [16, 64, 128]),
        "layers": trial.suggest_int("network.layers", 1, 2),
        "alpha": trial.suggest_float("network.alpha", 1e-5, 1.0, log=True),
        "learning_rate": trial.suggest_float("network.learning_rate", 5e-4, 1e-2, log=True),
    }


def _build_network(params: Mapping[str, Any], layout: Layout, task: Task, seed: int) -> Pipeline:
    columns = _scaled(layout, task, seed, skew=params["skew"], dense=True)
    kwargs = {
        "hidden_layer_sizes": (params["units"],) * params["layers"],
        "alpha": params["alpha"],
        "learning_rate_init": params["learning_rate"],
        "batch_size": int(np.clip(layout.rows // 20, 16, 256)),
        "max_iter": int(np.clip(600_000 // max(1, layout.rows), 20, 200)),
        "early_stopping": layout.rows > 2_000,
        "n_iter_no_change": 8,
        "random_state": seed,
    }
    if layout.classes:
        return _pipeline(columns, MLPClassifier(**kwargs))
    return _pipeline(columns, _scaled_target(MLPRegressor(**kwargs)))


# --- all of them -------------------------------------------------------------------------------------------

_CLASSES = frozenset({"binary", "multiclass"})
_ALL = _CLASSES | {"regression"}


def _dense_width(width: int) -> int:
    """Columns that a model of decomposed text sees."""
    return min(width, 500)


FAMILIES: tuple[Family, ...] = (
    Family(
        "linear",
        "Linear or logistic regression",
        _ALL,
        lambda layout: (
            {"skew": "standard"}
            | ({"C": 1.0} if layout.classes else {"penalty": "none"})
            | _no_weight(layout)
        ),
        _suggest_linear,
        _build_linear,
        lambda _rows, _width, _classes: True,
        lambda layout: {"C": 30.0} if layout.classes else {"penalty": "ridge", "alpha": 10.0},
    ),
    Family(
        "boosting",
        "Histogram gradient boosting",
        _ALL,
        _boosting_default,
        _suggest_boosting,
        _build_boosting,
        lambda _rows, _width, classes: classes <= 30,
    ),
    Family(
        "forest",
        "Random forest",
        _ALL,
        _forest_default,
        _suggest_forest("forest"),
        _build_forest(
            RandomForestClassifier,
            # Bootstrap of a regression's trees as scikit-learn has it.
            RandomForestRegressor,
        ),
        lambda rows, width, _classes: rows * _dense_width(width) <= 4_000_000,
    ),
    Family(
        "extra_trees",
        "Extremely randomised trees",
        _ALL,
        _forest_default,
        _suggest_forest("extra_trees"),
        _build_forest(ExtraTreesClassifier, ExtraTreesRegressor),
        lambda rows, width, _classes: rows * _dense_width(width) <= 4_000_000,
    ),
    Family(
        "svm",
        "Support vector machine",
        _ALL,
        lambda layout: (
            {"skew": "standard", "C": 1.0}
            | ({} if _linear_kernel(layout) else {"gamma": 1.0})
            | ({} if layout.classes else {"epsilon": 0.1})
            | _no_weight(layout)
        ),
        _suggest_svm,
        _build_svm,
        lambda rows, width, classes: (
            rows <= 4_000 and width <= 500 if not classes else rows * min(width, 200) * classes <= 6_000_000
        ),
        lambda layout: (
            {"skew": "range", "C": 10.0, "gamma": 4.0}
            if layout.one_unit and not _linear_kernel(layout)
            else {}
        ),
    ),
    Family(
        "network",
        "Neural network",
        _ALL,
        lambda _layout: {
            "skew": "standard",
            "units": 64,
            "layers": 1,
            "alpha": 1e-2,
            "learning_rate": 2e-3,
        },
        _suggest_network,
        _build_network,
        lambda rows, width, _classes: rows * _dense_width(width) <= 4_000_000,
        _by_range,
    ),
    Family(
        "neighbours",
        "k nearest neighbours",
        _ALL,
        lambda _layout: {"skew": "standard", "n_neighbors": 5, "weights": "distance"},
        _suggest_neighbours,
        _build_neighbours,
        lambda rows, width, _classes: rows <= 5_000 and width <= 500,
        _by_range,
    ),
    Family(
        "tree",
        "Decision tree",
        _ALL,
        lambda layout: {"max_depth": 6, "min_samples_leaf": 5} | _no_weight(layout),
        _suggest_tree,
        _build_tree,
        lambda _rows, _width, _classes: True,
    ),
)


def _build_baseline(_params: Mapping[str, Any], layout: Layout, _task: Task, seed: int) -> Pipeline:
    model = DummyClassifier(strategy="prior", random_state=seed) if layout.classes else DummyRegressor()
    return Pipeline([("model", model)])


BASELINE = Family(
    "baseline",
    "Baseline that looks at no column",
    _ALL,
    lambda _layout: {},
    lambda _trial, _layout: {},
    _build_baseline,
    lambda _rows, _width, _classes: True,
)


def family(name: str) -> Family:
    """The family of that name; KeyError where there is none."""
    return {each.name: each for each in (*FAMILIES, BASELINE)}[name]


def affordable_families(layout: Layout, task: Task) -> list[Family]:
    """The families to search for this table, the best defaults first."""
    return [
        each
        for each in FAMILIES
        if task in each.tasks and each.affordable(layout.rows, layout.width, layout.classes)
    ]
