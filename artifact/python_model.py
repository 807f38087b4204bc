"""A model that scores by its own library: which one, from which file, with which columns.

`model.json` of the artifact says so; the file that it names is opened only after every digest was checked.
A pipeline of our own has none, since artifact/runtime.py opens its model.skops.
"""

from __future__ import annotations

import math
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from artifact.encode import canonical
from artifact.manifest import MODEL, ArtifactError
from artifact.signature import Label, same_label

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from artifact.manifest import Artifact, Score
    from artifact.signature import Signature

CODE = "code"

Flavor = Literal["pickle", "skops", "xgboost", "lightgbm", "catboost", "onnx", "pyfunc"]
Dtype = Literal["float", "float32", "int", "int32", "bool", "str", "datetime", "category"]


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column as the model was fitted on it; a missing cell is NaN, or None among texts.

    Parameters
    ----------
    categories
        Of a column of pandas categories the values in the model's order; any other value is missing.
    """

    name: str
    dtype: Dtype
    categories: tuple[Label, ...] = ()


class PythonModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model is opened and asked.

    Parameters
    ----------
    flavor
        What opens `file`.
    file
        Its path in the artifact.
    inputs
        In the order in which the model wants them; empty for a pipeline of ours, which takes the matrix.
    frame
        Whether it wants a pandas data frame with these names, or else a two-dimensional array.
    method
        The method that is called.
    methods
        For named numbers: the methods whose answers stand beside each other.
    order
        For each class or named number of the signature the column of what the model answers.
    labels
        For each class of the signature the label that `predict` answers, where that is asked.
    trusted
        For skops: the types that a person has let it open.
    packages
        Distributions whose versions have to be those of the manifest.
    texts
        Whether it wants its one column as a list of texts, as a vectorizer does.
    code
        Whether the folder `code` of the artifact holds modules of the model.
    """

    flavor: Flavor
    file: str
    inputs: tuple[Input, ...]
    frame: bool
    method: str
    methods: tuple[str, ...] = ()
    order: tuple[int, ...] = ()
    labels: tuple[Label, ...] = ()
    trusted: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    code: bool = False
    texts: bool = False


def read(artifact: Artifact) -> PythonModel | None:
    """The artifact's model.json; None for a pipeline of our own."""
    if MODEL not in artifact.manifest.files:
        return None
    try:
        return msgspec.json.decode((artifact.path / MODEL).read_bytes(), type=PythonModel)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ArtifactError(f"{artifact.path / MODEL} cannot be read: {error}") from error


def open_score(artifact: Artifact, spec: PythonModel) -> Score:
    """What scores raw rows of shape (rows, columns) into scores of shape (rows, outputs).

    Raises
    ------
    ArtifactError
        A library is absent or of another version, or the model cannot be opened.
    """
    check_packages(spec.packages, artifact.manifest.libraries, str(artifact.path))
    if spec.code:
        sys.path.insert(0, str(artifact.path / CODE))
    try:
        model = OPENERS[spec.flavor](artifact.path / spec.file, spec)
    except ArtifactError:
        raise
    except Exception as error:
        raise ArtifactError(
            f"{artifact.path / spec.file} cannot be opened: {type(error).__name__}: {error}"
        ) from error
    return score_of(model, spec, artifact.signature)


def score_of(model: Any, spec: PythonModel, signature: Signature) -> Score:
    """The same of a model that is open."""
    ask = getattr(model, spec.method)
    decide = model.predict if signature.decided else None
    columns_of = _columns_of(spec, signature)

    def score(rows: NDArray[Any]) -> NDArray[np.float64]:
        columns = columns_of(rows)
        if spec.methods:
            return _side_by_side(answers(model, spec, columns, len(rows)), spec, signature)
        scores = scores_from(ask(columns), spec, signature, len(rows))
        if decide is None:
            return scores
        return np.column_stack([scores, _chosen(decide(columns), spec, len(rows)).argmax(axis=1)])

    return score


def answer_of(model: Any, spec: PythonModel, signature: Signature) -> Callable[[NDArray[Any]], Any]:
    """Raw rows to whatever the method of an open model answers."""
    ask = getattr(model, spec.method)
    columns_of = _columns_of(spec, signature)
    return lambda rows: ask(columns_of(rows))


def _columns_of(spec: PythonModel, signature: Signature) -> Callable[[NDArray[Any]], Any]:
    """Raw rows to what the model is given; a pipeline without inputs of its own takes the matrix."""
    places = [signature.names.index(each.name) for each in spec.inputs]
    if not places:
        return lambda rows: rows.astype(np.float64, copy=False)
    return lambda rows: _columns(rows, places, spec)


def answers_of(
    model: Any, spec: PythonModel, signature: Signature
) -> Callable[[NDArray[Any]], list[NDArray[np.float64]]]:
    """What turns raw rows into what each of a model's methods answers."""
    columns_of = _columns_of(spec, signature)
    return lambda rows: answers(model, spec, columns_of(rows), len(rows))


def answers(model: Any, spec: PythonModel, columns: Any, rows: int) -> list[NDArray[np.float64]]:
    """What each of the methods answers, as shape (rows, numbers).

    Raises
    ------
    ValueError
        An answer has another number of rows, or is not of numbers.
    """
    found = []
    for method in spec.methods:
        answered = getattr(model, method)(columns)
        numbers = np.asarray(answered.toarray() if hasattr(answered, "toarray") else answered)
        if numbers.shape[:1] != (rows,) or numbers.ndim > 2:
            raise ValueError(f"{rows} rows gave {method} of shape {numbers.shape}, expected ({rows}, n)")
        found.append(numbers.reshape(rows, -1).astype(np.float64))
    return found


def _side_by_side(
    parts: list[NDArray[np.float64]], spec: PythonModel, signature: Signature
) -> NDArray[np.float64]:
    scores = np.column_stack(parts)
    if scores.shape[1] != len(signature.numbers):
        raise ValueError(
            f"the model answered {scores.shape[1]} numbers a row, expected {len(signature.numbers)}: "
            f"{', '.join(signature.numbers)}"
        )
    return np.ascontiguousarray(scores[:, list(spec.order)])


def check_packages(names: tuple[str, ...], fitted: dict[str, str], where: str) -> None:
    """Compare what is installed with what the model was made with: the same major and minor version.

    Raises
    ------
    ArtifactError
        Names the package and both versions.
    """
    for name in names:
        made_with = fitted.get(name, "")
        try:
            here = version(name)
        except PackageNotFoundError:
            raise ArtifactError(
                f"{where}: its model needs {name} {made_with}, which is not installed here"
            ) from None
        if made_with.split(".")[:2] != here.split(".")[:2]:
            raise ArtifactError(
                f"{where}: its model was made with {name} {made_with or 'of an unknown version'}, and this "
                f"is {here}: install that version, or make the model anew with this one"
            )


def _columns(rows: NDArray[Any], places: list[int], spec: PythonModel) -> Any:
    columns = [
        _categories(rows[:, place], each.categories)
        if each.dtype == "category"
        else CONVERT[each.dtype](rows[:, place])
        for each, place in zip(spec.inputs, places, strict=True)
    ]
    if spec.texts:
        return columns[0]
    if spec.frame:
        import pandas as pd  # of the model's own process

        return pd.DataFrame(dict(zip((each.name for each in spec.inputs), columns, strict=True)))
    if all(each.dtype == "float32" for each in spec.inputs):
        return np.column_stack(columns)
    if all(each.dtype in {"float", "int", "bool"} for each in spec.inputs):
        return np.column_stack([np.asarray(column, np.float64) for column in columns])
    return np.column_stack([np.asarray(column, object) for column in columns])


def _categories(cells: NDArray[Any], categories: tuple[Label, ...]) -> Any:
    import pandas as pd  # of the model's own process

    codes = {canonical(value): code for code, value in enumerate(categories)}
    found = [-1 if absent(cell) else codes.get(canonical(cell), -1) for cell in cells.tolist()]
    return pd.Categorical.from_codes(found, categories=pd.Index(categories))


def _float(cells: NDArray[Any]) -> NDArray[np.float64]:
    return cells.astype(np.float64)


def _int(cells: NDArray[Any]) -> NDArray[Any]:
    numbers = cells.astype(np.float64)
    whole = np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all()
    return numbers.astype(np.int64) if whole else numbers


def _float32(cells: NDArray[Any]) -> NDArray[np.float32]:
    return cells.astype(np.float64).astype(np.float32)


def _int32(cells: NDArray[Any]) -> NDArray[Any]:
    whole = _int(cells)
    fits = whole.dtype == np.int64 and bool((whole == whole.astype(np.int32)).all())
    return whole.astype(np.int32) if fits else whole


def _bool(cells: NDArray[Any]) -> NDArray[Any]:
    truth = {"true": True, "false": False, 1.0: True, 0.0: False}
    found = np.array([None if absent(cell) else truth.get(cell, cell) for cell in cells], object)
    return found.astype(bool) if all(isinstance(cell, bool) for cell in found.tolist()) else found


def _str(cells: NDArray[Any]) -> NDArray[Any]:
    return np.array([np.nan if absent(cell) else cell for cell in cells], object)


def _datetime(cells: NDArray[Any]) -> NDArray[Any]:
    return np.array(["NaT" if absent(cell) else cell for cell in cells], "datetime64[ns]")


def absent(cell: Any) -> bool:
    """Whether a raw cell is missing: None among texts, NaN among numbers."""
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


CONVERT: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "float": _float,
    "float32": _float32,
    "int": _int,
    "int32": _int32,
    "bool": _bool,
    "str": _str,
    "datetime": _datetime,
}


def scores_from(answered: Any, spec: PythonModel, signature: Signature, rows: int) -> NDArray[np.float64]:
    """What a model answered as scores of shape (rows, outputs).

    Raises
    ------
    ValueError
        The answer has another shape or type than the task wants.
    """
    if hasattr(answered, "toarray"):
        answered = answered.toarray()
    found = np.asarray(answered)
    if signature.task == "regression":
        if found.size != rows:
            several = (
                ". Name a column for each number (--target a,b), or call init without --target where no "
                "column measures them, as for quantiles"
                if found.shape[:1] == (rows,)
                else ""
            )
            raise ValueError(
                f"{rows} rows gave an answer of shape {found.shape}, expected one number a row{several}"
            )
        return found.reshape(rows, 1).astype(np.float64)
    if spec.labels and not signature.decided:  # without probabilities the chosen class has all of it
        return _chosen(found, spec, rows)
    if found.ndim == 1 or found.shape[1] == 1:  # the probability of the second class, as boosters give it
        second = found.reshape(rows).astype(np.float64)
        found = np.column_stack([1 - second, second])
    if found.shape != (rows, len(spec.order)):
        raise ValueError(
            f"{rows} rows gave an answer of shape {found.shape}, expected ({rows}, {len(spec.order)})"
        )
    return np.ascontiguousarray(found[:, list(spec.order)], np.float64)


def _chosen(answered: Any, spec: PythonModel, rows: int) -> NDArray[np.float64]:
    """Labels as 1 for the class of the signature that each row has and 0 for the others."""
    found = np.asarray(answered)
    if found.size != rows:
        raise ValueError(f"{rows} rows gave an answer of shape {found.shape}, expected one label a row")
    plain = [
        said if isinstance(said, (bool, int, float, str)) else str(said) for said in found.ravel().tolist()
    ]
    chosen = [same_label(said, label) for said in plain for label in spec.labels]
    scores: NDArray[np.float64] = np.array(chosen, np.float64).reshape(rows, len(spec.labels))
    if not scores.any(axis=1).all():
        raise ValueError("the model answered a label that its signature does not have")
    return scores


# ---- what opens a file


def _open_pickle(path: Path, _spec: PythonModel) -> Any:
    try:
        import joblib  # type: ignore[import-untyped]
    except ImportError:
        import pickle

        with path.open("rb") as file:
            return pickle.load(file)  # noqa: S301 - a person has trusted it, and its digest was checked
    return joblib.load(path)


def _open_skops(path: Path, spec: PythonModel) -> Any:
    import skops.io

    return skops.io.load(path, trusted=list(spec.trusted))


def _open_xgboost(path: Path, _spec: PythonModel) -> Any:
    import xgboost

    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(path)
    best = booster.attr("best_iteration")
    if best is not None and booster.attr("scikit_learn") is not None:
        # The file of an estimator that stopped early: its `predict` leaves out the rounds after the best one.
        booster = booster[: int(best) + 1]
    if '"multi:softmax"' in booster.save_config():  # answers labels alone, of the same probabilities
        booster.set_param({"objective": "multi:softprob"})
    return _XGBoost(booster)


class _XGBoost:
    """A booster that takes data frames and arrays, missing cells included."""

    def __init__(self, booster: Any) -> None:
        self.booster = booster

    def predict(self, rows: Any) -> Any:
        import xgboost

        names = None if hasattr(rows, "columns") else self.booster.feature_names
        matrix = xgboost.DMatrix(rows, feature_names=names, enable_categorical=names is None)
        return self.booster.predict(matrix)


def _open_lightgbm(path: Path, _spec: PythonModel) -> Any:
    import lightgbm

    return lightgbm.Booster(model_file=str(path))


def _open_catboost(path: Path, _spec: PythonModel) -> Any:
    import catboost

    model = catboost.CatBoost()
    model.load_model(str(path))
    if len(model.classes_):  # of itself it would answer the sums of its leaves
        model = catboost.CatBoostClassifier()
        model.load_model(str(path))
    return model


def _open_onnx(path: Path, _spec: PythonModel) -> Any:
    from artifact.onnx_table import OnnxTable

    return OnnxTable(path)


def _open_pyfunc(path: Path, _spec: PythonModel) -> Any:
    import mlflow.pyfunc

    sys.dont_write_bytecode = True  # an artifact holds no file that its manifest does not list
    return mlflow.pyfunc.load_model(str(path), suppress_warnings=True)


OPENERS: dict[str, Callable[[Path, PythonModel], Any]] = {
    "pickle": _open_pickle,
    "skops": _open_skops,
    "xgboost": _open_xgboost,
    "lightgbm": _open_lightgbm,
    "catboost": _open_catboost,
    "onnx": _open_onnx,
    "pyfunc": _open_pyfunc,
}
