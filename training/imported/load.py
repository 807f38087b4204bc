"""A model's source to the model itself: a file, or a folder with an MLmodel as MLflow keeps it."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped] # MLflow brings it

from artifact.onnx_table import NotATableError
from artifact.python_model import OPENERS, Flavor, PythonModel
from training.imported.onnx_file import NotOnnxError, in_one_file
from training.imported.pickles import NotAPickleError, imported_names, suspicious
from training.imported.versions import OF_ONE_VERSION, PACKAGES, differences, installed, made_with, told
from training.settings import REGISTERED

if TYPE_CHECKING:
    from training.registry.mlflow_registry import Registry
    from training.settings import Model, UseCase

PICKLES = (".pkl", ".pickle", ".joblib", ".sav")
FLAVORS: dict[str, Flavor] = {
    **dict.fromkeys(PICKLES, "pickle"),
    ".skops": "skops",
    ".json": "xgboost",
    ".ubj": "xgboost",
    ".xgb": "xgboost",
    ".txt": "lightgbm",
    ".lgb": "lightgbm",
    ".cbm": "catboost",
    ".cb": "catboost",
    ".onnx": "onnx",
}
SHOWN_NAMES = 12
TREES_END = b"\nend of trees"


class ModelError(Exception):
    """A model that cannot be taken: a sentence or two for the person who named it (exit code 2)."""

    exit_code = 2


class NoTableError(ModelError):
    """An ONNX file with inputs or outputs that are not columns of a table."""


@dataclass(frozen=True)
class Loaded:
    """A model that is open.

    Parameters
    ----------
    file
        Where it was read from; it goes into the artifact as it is.
    trusted
        For skops: the types that a person has let it open.
    versions
        Of the packages that it needs, as they are installed here, by distribution.
    other_versions
        The version that made the model and the version installed here, of each package where they differ.
    """

    model: Any
    flavor: Flavor
    file: Path
    trusted: tuple[str, ...]
    versions: dict[str, str]
    other_versions: dict[str, tuple[str, str]]

    @property
    def warning(self) -> str:
        """What a person should know about the model; "" if there is nothing to say."""
        said = told(self.other_versions)
        return f"{said}. What is measured and served is the model as it is opened here." if said else ""

    def check_provable(self) -> None:
        """Refuse a model without a table if another version of its library may answer differently.

        Raises
        ------
        ModelError
            Names the packages with both versions.
        """
        unproven = {name: both for name, both in self.other_versions.items() if name in OF_ONE_VERSION}
        if unproven:
            pins = " ".join(f"{name}=={made}" for name, (made, _) in unproven.items())
            raise ModelError(
                f"{told(unproven)}, and without a table nothing shows whether it still gives the same "
                f"answers. Install what made it (pip install {pins}), or measure it on a table: "
                "init MODEL --data TABLE --target COLUMN."
            )


def open_model(asked: Model, registry: Registry | None, folder: Path) -> Loaded:
    """The model that a use case names; one from MLflow is fetched into `folder`."""
    code = tuple(Path(each) for each in asked.code)
    local = registry is None or not asked.source.startswith(REGISTERED)
    found = Path(asked.source) if local else registry.fetch(asked.source, folder)  # type: ignore[union-attr]
    return load(found, trust=asked.trust, code=code, tensors=asked.tensors)


def shown_source(use_case: UseCase, loaded: Loaded) -> str:
    """The source of a model as its card names it: its name in MLflow, or its file without the folders."""
    assert use_case.model is not None  # noqa: S101 - only such use cases have a loaded model
    named = use_case.model.source
    return named if named.startswith(REGISTERED) else loaded.file.name


def load(file: Path, *, trust: bool, code: tuple[Path, ...] = (), tensors: bool = False) -> Loaded:
    """Open a model's file, or the one that an MLmodel beside it names.

    With `tensors` an ONNX file is only checked; its `model` is then None.

    Raises
    ------
    ModelError
        There is no such file, it is of no kind that this opens, it is a pickle without `trust`, or it cannot
        be opened.
    """
    if file.is_dir():
        found = _of_mlmodel(file)
        if found is None:
            return _function(file, trust=trust, code=code)
        file = found
    if not file.is_file():
        raise ModelError(f"{file}: there is no such file.")
    flavor = FLAVORS.get(file.suffix.lower())
    if flavor is None:
        raise ModelError(
            f"{file}: {file.suffix or 'a file without an ending'} is no kind of model that can be taken; "
            f"expected one of {', '.join(FLAVORS)}, or a folder with an MLmodel."
        )
    if flavor == "onnx":
        try:
            file = in_one_file(file)
        except NotOnnxError as error:
            raise ModelError(f"{file} {error}.") from None
    if tensors:
        if flavor != "onnx":
            raise ModelError(
                f"{file} is not an ONNX file; tensors = true in [model] is for ONNX files only, and so is "
                "[images]."
            )
        return Loaded(None, flavor, file, (), _needed([], flavor), {})
    if flavor == "lightgbm" and TREES_END not in file.read_bytes():  # LightGBM would read past the end
        raise ModelError(
            f"{file} is no model of LightGBM, or it is cut short: it has no line 'end of trees'."
        )
    names = _names(file, flavor, trust=trust)
    _put_on_path(code)
    trusted = _untrusted(file) if flavor == "skops" else ()
    spec = PythonModel(flavor=flavor, file=file.name, inputs=(), frame=False, method="", trusted=trusted)
    different = differences(made_with(file, flavor))
    model = _opened(file, flavor, spec, different)
    return Loaded(model, flavor, file, trusted, _needed(names, flavor), different)


def _put_on_path(code: tuple[Path, ...]) -> None:
    for folder in reversed(code):
        if not folder.is_dir():
            raise ModelError(
                f"model.code: {folder} is no folder; name the one that holds the model's modules."
            )
        sys.path.insert(0, str(folder))


def _opened(file: Path, flavor: Flavor, spec: PythonModel, different: dict[str, tuple[str, str]]) -> Any:
    said = told(different)
    also = f" {said}." if said else ""
    try:
        with warnings.catch_warnings():
            if said:  # scikit-learn would repeat it for each part of the model
                warnings.filterwarnings("ignore", message="Trying to unpickle estimator")
            return OPENERS[flavor](file, spec)
    except ModuleNotFoundError as error:
        raise ModelError(_lacks(file, error.name or "") + also) from None
    except NotATableError as error:
        raise NoTableError(
            f"{file} is not a model of a table: {error}. tensors = true in [model] serves its tensors as "
            "they are, through /v2."
        ) from None
    except AttributeError as error:
        raise ModelError(
            f"{file} cannot be opened: {error}.{also} Where a class of the model stands in a module of your "
            'own, name the folder of that module: code = ["FOLDER"] in [model], or init --code FOLDER.'
        ) from None
    except Exception as error:  # noqa: BLE001 - whatever a library raises on a file
        reason = str(error).splitlines()[0][:300] if str(error) else ""
        raise ModelError(f"{file} cannot be opened: {type(error).__name__}: {reason}.{also}") from None


def _function(folder: Path, *, trust: bool, code: tuple[Path, ...]) -> Loaded:
    """A model of MLflow that has no flavor but python_function, whose own code opens it."""
    loader = str(_flavors(folder)["python_function"].get("loader_module", "its loader"))
    if not trust:
        raise ModelError(
            f"{folder} is a python_function of MLflow, and opening it runs its code and its pickle (by "
            f"{loader}). If you know where it comes from: trust = true in [model], or init --trust."
        )
    _put_on_path(code)
    spec = PythonModel(flavor="pyfunc", file=folder.name, inputs=(), frame=True, method="predict")
    made = made_with(folder, "pyfunc")
    different = differences(made)
    model = _opened(folder, "pyfunc", spec, different)
    modules = ["mlflow", *(module for module, package in PACKAGES.items() if package in made)]
    return Loaded(model, "pyfunc", folder, (), _needed(modules, "pyfunc"), different)


def _names(file: Path, flavor: Flavor, *, trust: bool) -> list[str]:
    """What opening the file imports; refused where nobody has said that it may."""
    if flavor == "pickle":
        try:
            names = imported_names(file)
        except NotAPickleError as error:
            raise ModelError(f"{error}.") from None
        if not trust:
            raise ModelError(_untrusted_pickle(file, names))
        return names
    if flavor == "skops":
        names = list(_untrusted(file))
        if names and not trust:
            raise ModelError(
                f"{file} holds types that skops does not trust by itself: {_listed(names)}. Opening it "
                f"may run their "
                "code. If you know where it comes from: trust = true in [model], or init --trust."
            )
        return ["sklearn", *names]
    return []


def _untrusted(file: Path) -> tuple[str, ...]:
    import skops.io

    try:
        return tuple(sorted(skops.io.get_untrusted_types(file=file)))
    except Exception as error:  # noqa: BLE001 - as above
        raise ModelError(f"{file} is no skops file: {str(error).splitlines()[0][:200]}.") from None


def _untrusted_pickle(file: Path, names: list[str]) -> str:
    odd = suspicious(names)
    marked = f" Of these a model of well-known packages needs none: {_listed(odd)}." if odd else ""
    return (
        f"{file} is a pickle, and opening it runs whatever it names: {_listed(names)}.{marked} "
        "If you know where it comes from: trust = true in [model], or init --trust."
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more


def _lacks(file: Path, module: str) -> str:
    package = module.partition(".")[0]
    if package in PACKAGES:
        return (
            f"{file} needs {PACKAGES[package]}, which is not installed here: pip install {PACKAGES[package]}."
        )
    return (
        f'{file} needs the module {module!r}. Where it is your own, name its folder: code = ["FOLDER"] in '
        f"[model], "
        "or init --code FOLDER; else install the package that it is of."
    )


def _needed(names: list[str], flavor: Flavor) -> dict[str, str]:
    library = "onnxruntime" if flavor == "onnx" else flavor
    return installed([*names, *({library} & PACKAGES.keys())])


def _flavors(folder: Path) -> dict[str, Any]:
    """The flavors that an MLmodel names."""
    described = folder / "MLmodel"
    if not described.is_file():
        raise ModelError(f"{folder} has no file MLmodel, so it is no model of MLflow.")
    try:
        return dict(yaml.safe_load(described.read_text("utf-8"))["flavors"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError, UnicodeDecodeError):
        raise ModelError(f"{described} is damaged: it names no flavors.") from None


def _of_mlmodel(folder: Path) -> Path | None:
    """The file of the flavor by which a folder of MLflow is opened; None for python_function alone."""
    flavors, described = _flavors(folder), folder / "MLmodel"
    for name, key in (
        ("sklearn", "pickled_model"),
        ("xgboost", "data"),
        ("lightgbm", "data"),
        ("catboost", "data"),
        ("onnx", "data"),
    ):
        if name in flavors:
            file = folder / str(flavors[name].get(key) or flavors[name].get("model_data") or "")
            if not file.is_file():
                raise ModelError(
                    f"{described} names {file.name!r} for its flavor {name}, and {file} is not there."
                )
            return file
    if "python_function" in flavors:
        return None
    raise ModelError(
        f"{described} has the flavors {', '.join(sorted(flavors))}; expected sklearn, xgboost, lightgbm, "
        f"catboost, onnx or python_function."
    )
