"""What a model knows about itself: its columns, their types, its classes, and how it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from artifact.onnx_table import OnnxTable
from training.imported.categories import categories_of, reading_parts
from training.imported.load import ModelError
from training.imported.objectives import by_objective, count_of_answers
from training.imported.onnx_file import classes_of, last_operator

KNOWN = frozenset({"sklearn", "imblearn", "xgboost", "lightgbm", "catboost"})
"""Packages whose classifiers predict the label of the highest probability, but for those of `APART`."""
APART = frozenset(
    {
        *("SVC", "NuSVC", "FixedThresholdClassifier", "TunedThresholdClassifierCV", "OneVsRestClassifier"),
        *("GaussianProcessClassifier", "RadiusNeighborsClassifier", "DummyClassifier", "NearestCentroid"),
    }
)
DELEGATES = {
    **dict.fromkeys(
        ("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV"),
        ("best_estimator_",),
    ),
    "StackingClassifier": ("final_estimator_",),
    **dict.fromkeys(("SelfTrainingClassifier", "RFE", "RFECV"), ("estimator_",)),
    "FrozenEstimator": ("estimator",),
}
"""Where the model is that answers for another, by the other's class."""

if TYPE_CHECKING:
    from collections.abc import Iterator

    from artifact.python_model import Dtype
    from training.settings import Task


@dataclass(frozen=True)
class Described:
    """A model in its own words.

    Parameters
    ----------
    names
        Of its columns, in its order; empty where it was fitted on an array and knows only how many.
    columns
        How many; 0 where it does not say.
    frame
        It wants a data frame with these names.
    dtypes
        Of the columns that an encoder of it reads.
    texts
        It was fitted on a list of texts, as a pipeline is that begins with a vectorizer.
    probabilities
        Its method `predict` answers probabilities of `classes`, as boosters do.
    categories
        Values of the columns that it reads as pandas categories.
    spaceless
        Its names have "_" where those of the table may have a space, as LightGBM writes them.
    every
        The type of all columns, of which no name is known.
    answers
        How many numbers it answers for a row; 0 where it does not say.
    known
        Values that an encoder knows and refuses others, by column.
    classes
        Its labels in its own order; empty for a regression.
    methods
        The methods that give its named numbers; empty if it answers none.
    ranks
        Its answers put rows in order, and are no values of a target.
    answered
        Its labels as `predict` gives them, where `classes` has the table's instead.
    decides
        Its label may be another than that of its highest probability.
    behind
        `names` are those of a step behind one that names none, so it may read other columns.
    """

    task: Task | None
    method: str
    names: tuple[str, ...]
    columns: int
    frame: bool
    classes: tuple[Any, ...]
    dtypes: dict[str, Dtype] = field(default_factory=dict)
    known: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    categories: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    spaceless: bool = False
    texts: bool = False
    probabilities: bool = False
    decides: bool = False
    every: Dtype | None = None
    answers: int = 0
    methods: tuple[str, ...] = ()
    behind: bool = False
    ranks: bool = False
    answered: tuple[Any, ...] = ()


def describe(model: Any) -> Described:
    """Read what a fitted estimator, a pipeline or a booster knows.

    Raises
    ------
    ModelError
        It is none of these, or it is not fitted.
    """
    if isinstance(model, (dict, list, tuple, np.ndarray, str)):
        inside = ", ".join(map(str, list(model)[:5])) if isinstance(model, dict) else ""
        what = f"a {type(model).__name__}" + (f" with {inside}" if inside else "")
        raise ModelError(f"The file holds {what}, expected a fitted model with predict or predict_proba.")
    if isinstance(model, type):
        raise ModelError(f"The file holds the class {model.__name__}, expected a fitted model of it.")
    if isinstance(model, OnnxTable):
        return _of_onnx(model)
    if type(model).__module__.startswith("mlflow.pyfunc"):
        return _of_pyfunc(model)
    if not callable(getattr(model, "predict", None)):
        last = f" that ends in a {type(estimator_of(model)).__name__}" if hasattr(model, "steps") else ""
        raise ModelError(
            f"The file holds a {type(model).__name__}{last}, which has no method predict: it is no model, or "
            f"only a part of one."
        )
    ranks = by_objective(estimator_of(model))
    names, behind = _names(model)
    categories = categories_of(model)
    texts = not names and callable(getattr(_first(model), "build_analyzer", None))  # of every vectorizer
    classes = tuple(value.item() if isinstance(value, np.generic) else value for value in _classes(model))
    probabilities = classes and callable(getattr(model, "predict_proba", None))
    described = Described(
        task=_task(model, classes),
        method="predict_proba" if probabilities else "predict",
        names=names,
        columns=0
        if behind
        else len(names) or (1 if texts else int(getattr(model, "n_features_in_", 0) or _width(model))),
        frame=hasattr(model, "feature_names_in_")
        or behind
        or _takes_names(model)
        or bool(categories)
        or _reads_several_types(model),
        classes=classes,
        categories=categories,
        spaceless=any(type(part).__module__.startswith("lightgbm") for part in reading_parts(model)),
        texts=texts,
        decides=bool(probabilities) and _decides(model),
        methods=("predict",) if ranks else _methods(model),
        ranks=ranks,
        behind=behind,
    )
    if not classes:
        described = replace(described, answers=count_of_answers(model, described.columns))
    for column, known, refuses in _encoded(model):
        described.dtypes[column] = _dtype(known)
        if refuses:
            described.known[column] = tuple(known.tolist())
    described.dtypes.update(dict.fromkeys(categories, "category"))
    return described


def estimator_of(model: Any) -> Any:
    """A model, or of a pipeline its last step, pipelines within pipelines included."""
    while getattr(model, "steps", None):
        model = model.steps[-1][1]
    return model


HIGHEST = frozenset({"ArgMax", "TreeEnsembleClassifier", "LinearClassifier"})
"""Operators whose label is that of the highest number."""
_ONNX_KINDS: dict[str, Dtype] = {"f": "float", "i": "int", "u": "int", "b": "bool", "O": "str"}


def _of_onnx(model: OnnxTable) -> Described:
    dtypes: dict[str, Dtype] = {}
    if len(model.inputs) > 1:
        for each in model.inputs:
            own = [each.name] if each.width == 1 else [f"{each.name}_{i}" for i in range(each.width)]
            dtypes |= dict.fromkeys(own, _ONNX_KINDS[each.dtype.kind])
    first = model.inputs[0]
    classes, task = _onnx_classes(model), None
    method = "predict_proba" if model.maps or model.numbers else "predict"
    if classes and model.apart:
        method = _by_class(model, classes)
    if classes:
        task = "binary" if len(classes) == 2 else "multiclass"
    elif model.numbers and not model.labels:
        ends_in = last_operator(model.path, model.numbers)
        if ends_in == "Softmax":
            task = "binary" if model.answers == 2 else "multiclass"
        elif ends_in == "Sigmoid" and model.answers == 1:
            task = "binary"
    return Described(
        task=cast("Task | None", task),
        method=method,
        names=tuple(dtypes),
        columns=len(dtypes) or first.width,
        frame=False,
        classes=classes,
        dtypes=dtypes,
        every=None if dtypes else _ONNX_KINDS[first.dtype.kind],
        decides=bool(classes and model.labels and (model.maps or model.numbers))
        and last_operator(model.path, model.labels) not in HIGHEST,
        spaceless=bool(dtypes),  # converters write "_" for a space
        answers=model.answers,
    )


def _by_class(model: OnnxTable, classes: tuple[Any, ...]) -> str:
    """The method of a graph with an output of one number for each class, as `zipmap="columns"` makes them.

    Raises
    ------
    ModelError
        The outputs are not named after the classes.
    """
    ends = [name.endswith(str(label)) for name, label in zip(model.apart, classes, strict=False)]
    if len(model.apart) == len(classes) and all(ends):
        return "by_class"
    if "prob" in model.numbers.lower():
        return "predict_proba"
    raise ModelError(
        f"The ONNX file has the outputs {', '.join(map(repr, model.apart))} of one number each beside its "
        f"labels, and they are not named after the classes {', '.join(map(repr, classes[:20]))} in this "
        "order. Expected one output of shape [rows, classes], as zipmap=False makes it."
    )


def _onnx_classes(model: OnnxTable) -> tuple[Any, ...]:
    """The labels of a graph that answers labels or maps; a network's outputs have none."""
    if not (model.maps or model.labels):
        return ()
    listed = classes_of(model.path)
    if model.maps:  # a map has its keys in order, whatever the order in the file
        listed = tuple(sorted(listed))
    return listed if len(listed) > 1 else ()


_PYFUNC_KINDS: dict[str, Dtype] = {
    "double": "float",
    "float": "float32",
    "long": "int",
    "integer": "int32",
    "boolean": "bool",
    "string": "str",
    "datetime": "datetime",
}


def _of_pyfunc(model: Any) -> Described:
    """A model of MLflow that has no flavor but python_function: what its signature says."""
    schema = model.metadata.get_input_schema()
    described = Described(None, "predict", (), 0, frame=True, classes=())
    if schema is None:
        return described
    if not schema.is_tensor_spec():
        dtypes: dict[str, Dtype] = {}
        for place, each in enumerate(schema.inputs):
            kind = getattr(each.type, "name", str(each.type))
            if kind not in _PYFUNC_KINDS:
                raise ModelError(
                    f"The MLflow signature has the column {each.name!r} of type {kind}; expected one of "
                    f"{', '.join(_PYFUNC_KINDS)}."
                )
            dtypes[str(each.name) if each.name is not None else str(place)] = _PYFUNC_KINDS[kind]
        return replace(described, names=tuple(dtypes), columns=len(dtypes), dtypes=dtypes)
    shape = tuple(schema.inputs[0].shape)
    if len(schema.inputs) > 1 or len(shape) != 2 or shape[1] < 1:
        shapes = ", ".join(str(tuple(each.shape)) for each in schema.inputs)
        raise ModelError(
            f"The MLflow signature has tensors of shape {shapes}; expected one of [-1, columns]."
        )
    every: Dtype = "float32" if str(schema.inputs[0].type) == "float32" else "float"
    return replace(described, columns=int(shape[1]), frame=False, every=every)


def _names(model: Any) -> tuple[tuple[str, ...], bool]:
    """The names of its columns, and whether they are those of a step behind one that names none."""
    read = [id(owner) for owner in _reading(model)]
    for owner in _owners(model):
        names = getattr(owner, "feature_names_in_", None)
        if names is not None:
            return tuple(map(str, names)), id(owner) not in read
    for attribute in ("feature_names", "feature_name", "feature_names_"):
        names = getattr(getattr(model, "booster", model), attribute, None)
        names = names() if callable(names) else names
        if names:
            return tuple(map(str, names)), False
    return (), False


def _owners(model: Any) -> Iterator[Any]:
    """A model and, of a pipeline, its steps from the first on."""
    yield model
    for _, step in getattr(model, "steps", ()):
        yield step
    inner = getattr(model, "best_estimator_", None)
    if inner is not None:
        yield from _owners(inner)


def _reading(model: Any) -> Iterator[Any]:
    """A model and, of a pipeline, the steps that get the cells as they are sent, imputed ones included."""
    yield model
    for _, step in getattr(model, "steps", ()):
        yield step
        if step is not None and step != "passthrough" and type(step).__name__ != "SimpleImputer":
            break
    inner = getattr(model, "best_estimator_", None)
    if inner is not None:
        yield from _reading(inner)


def _first(model: Any) -> Any:
    """The step of a pipeline that reads the columns, or the model itself."""
    inner = getattr(model, "best_estimator_", model)
    return inner.steps[0][1] if getattr(inner, "steps", ()) else inner


def _classes(model: Any) -> Any:
    found = getattr(model, "classes_", None)
    if found is None:
        return ()
    if any(isinstance(each, (list, tuple, np.ndarray)) for each in found):
        raise ModelError(
            f"The model predicts the classes of {len(found)} targets at once, and a use case has one target "
            "of classes: save a model for each target; a MultiOutputClassifier has them in estimators_."
        )
    if len(found) == 1:
        raise ModelError(
            f"The model was fitted on a single class, {str(found[0])!r}, which it answers for every row; "
            "expected one that was fitted on at least two."
        )
    return found


def _decides(model: Any) -> bool:
    """Whether the label that a classifier predicts may be another than that of its highest probability.

    An SVC decides by its margin and estimates probabilities apart; others have a threshold; and of a
    class that is not known here it has to be asked.
    """
    name, package = type(model).__name__, type(model).__module__.partition(".")[0]
    if hasattr(model, "steps"):
        return _decides(model.steps[-1][1])
    for inner in DELEGATES.get(name, ()) if package in KNOWN else ():
        if hasattr(model, inner):
            return _decides(getattr(model, inner))
    if getattr(model, "loss", None) == "modified_huber":  # clips its probabilities, so that several may be 1
        return True
    if package == "catboost":
        return bool(model.get_probability_threshold() not in {None, 0.5})
    return package not in KNOWN or name in APART


def _task(model: Any, classes: tuple[Any, ...]) -> Task | None:
    if classes:
        return "binary" if len(classes) == 2 else "multiclass"
    return "regression" if _kind(model) == "regressor" else None


def _kind(model: Any) -> str | None:
    """What scikit-learn calls the kind of an estimator."""
    kind = getattr(model, "_estimator_type", None)
    if kind is None and hasattr(model, "__sklearn_tags__"):
        kind = getattr(model.__sklearn_tags__(), "estimator_type", None)
    return kind


def _methods(model: Any) -> tuple[str, ...]:
    """The methods of a model that finds outliers or clusters."""
    last = estimator_of(model)
    match _kind(model) or _kind(last):
        case "outlier_detector":
            more: tuple[str, ...] = ("score_samples", "decision_function")
        case "clusterer":
            more = ("transform",) if hasattr(last, "cluster_centers_") else ()
        case "density_estimator":
            more = ("predict_proba", "score_samples")
        case _:
            return ()
    return ("predict", *(method for method in more if callable(getattr(model, method, None))))


def _width(model: Any) -> int:
    counted = getattr(getattr(model, "booster", model), "num_features", None) or getattr(
        model, "num_feature", None
    )
    return int(counted()) if callable(counted) else 0


def _reads_several_types(model: Any) -> bool:
    """A CatBoost with columns of categories takes words and whole numbers there, and no array of floats."""
    return any(
        type(part).__module__.startswith("catboost") and bool(part.get_cat_feature_indices())
        for part in reading_parts(model)
    )


def _takes_names(model: Any) -> bool:
    """A pipeline whose first step picks columns by name can be fitted on nothing but a frame."""
    return any(
        hasattr(owner, "transformers")
        and any(isinstance(c, str) for _, _, cs in owner.transformers for c in _listed(cs))
        for owner in _owners(model)
    )


def _listed(columns: Any) -> list[Any]:
    return list(columns) if isinstance(columns, (list, tuple, np.ndarray)) else []


def _encoded(model: Any) -> Iterator[tuple[str, Any, bool]]:
    """Columns that an encoder reads, what it knows of them, and whether it refuses all else."""
    for owner in _reading(model):
        for _, transformer, columns in getattr(owner, "transformers_", ()):
            for step in _reading(transformer):
                categories = getattr(step, "categories_", None)
                if categories is not None and len(categories) == len(_listed(columns)):
                    refuses = getattr(step, "handle_unknown", "ignore") == "error"
                    for column, known in zip(columns, categories, strict=True):
                        yield str(column), known, refuses


def _dtype(known: Any) -> Dtype:
    kinds = {type(value) for value in known.tolist() if value is not None and value == value}  # noqa: PLR0124 - NaN
    if kinds <= {bool}:
        return "bool"
    if kinds <= {int}:
        return "int"
    return "float" if kinds <= {int, float} else "str"
