"""The versions that a model was made with, as its file and its MLmodel say, beside those installed here."""

from __future__ import annotations

import json
import re
import zipfile
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped] # MLflow brings it

from training.imported.pickles import XGBOOST_UBJ, NotAPickleError, look_into
from training.interpreter import installed_packages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from artifact.python_model import Flavor

PACKAGES = {
    "sklearn": "scikit-learn",
    "imblearn": "imbalanced-learn",
    "category_encoders": "category-encoders",
    "skops": "skops",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "catboost": "catboost",
    "pandas": "pandas",
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "mlflow": "mlflow",
}
"""Distributions of the packages that models are made of, by the name they are imported as."""
OF_ONE_VERSION = frozenset({"scikit-learn", "imbalanced-learn", "category-encoders"})
"""Packages that do not promise that a model of another of their versions answers the same."""
_FLAVOR_KEYS = {
    "sklearn_version": "scikit-learn",
    "xgb_version": "xgboost",
    "lgb_version": "lightgbm",
    "catboost_version": "catboost",
}
_XGBOOST_JSON = re.compile(rb'"version"\s*:\s*\[(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\]')
_CATBOOST = re.compile(rb"CatBoost release (\d+\.\d+(?:\.\d+)?)")


def installed(modules: Iterable[str]) -> dict[str, str]:
    """The installed versions of the packages that hold these modules, by distribution."""
    return dict(_distributions(modules).values())


def _distributions(modules: Iterable[str]) -> dict[str, tuple[str, str]]:
    """The installed distribution of each package and its version, by the name it is imported as."""
    distributions = installed_packages()
    found = {}
    for module in sorted({each.partition(".")[0] for each in modules} & PACKAGES.keys()):
        # xgboost may come from the distribution xgboost-cpu, and mlflow comes from two.
        named = sorted(distributions.get(module, ()), key=lambda each: each != PACKAGES[module])
        if named:
            found[module] = (named[0], version(named[0]))
    return found


def made_with(file: Path, flavor: Flavor) -> dict[str, str]:
    """The versions that made a model, by distribution, as its file and the MLmodel beside it say.

    LightGBM's own files do not name a version.
    """
    folder = file if flavor == "pyfunc" else file.parent
    described = next((each for each in (folder, folder.parent) if (each / "MLmodel").is_file()), None)
    found = {**_pinned(described), **_of_flavors(described)} if described is not None else {}
    return found | _of_file(file, flavor)


def differences(made: dict[str, str]) -> dict[str, tuple[str, str]]:
    """The model's version and the installed one, of each package whose major or minor version differs."""
    distributions = _distributions(PACKAGES)
    found = {}
    for module, package in PACKAGES.items():
        _, here = distributions.get(module, ("", ""))
        if here and package in made and _minor(made[package]) != _minor(here):
            found[package] = (made[package], here)
    return found


def told(different: dict[str, tuple[str, str]]) -> str:
    """The differences as a sentence without its full stop; "" if there are none."""
    said = [f"{package} {made}, and this is {here}" for package, (made, here) in different.items()]
    return f"The model was made with {'; with '.join(said)}" if said else ""


def _minor(number: str) -> list[str]:
    return number.split(".")[:2]


def _pinned(folder: Path) -> dict[str, str]:
    try:
        lines = (folder / "requirements.txt").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pins = (re.split(r"==|;", line.strip(), maxsplit=2) for line in lines if line.count("==") == 1)
    known = set(PACKAGES.values()) - {"mlflow"}
    return {
        name: pin for name, pin, *_ in ([part.strip() for part in each] for each in pins) if name in known
    }


def _of_flavors(folder: Path) -> dict[str, str]:
    try:
        flavors: dict[str, Any] = yaml.safe_load((folder / "MLmodel").read_text("utf-8"))["flavors"]
        return {
            _FLAVOR_KEYS[key]: str(value)
            for flavor in flavors.values()
            for key, value in flavor.items()
            if key in _FLAVOR_KEYS and value
        }
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
        return {}  # opening the model tells what is wrong


def _of_file(file: Path, flavor: Flavor) -> dict[str, str]:
    try:
        if flavor == "pickle":
            return look_into(file).versions
        if flavor == "skops":
            with zipfile.ZipFile(file) as archive:
                said = set(_sklearn_in(json.loads(archive.read("schema.json"))))
            return {"scikit-learn": min(said)} if said else {}
        if flavor in {"xgboost", "catboost"}:
            return _of_booster(file.read_bytes(), flavor)
    except (OSError, NotAPickleError, zipfile.BadZipFile, KeyError, ValueError, RecursionError):
        return {}  # opening the model tells what is wrong
    return {}


def _of_booster(content: bytes, flavor: str) -> dict[str, str]:
    if flavor == "catboost":
        found = _CATBOOST.search(content)
        return {"catboost": found[1].decode()} if found else {}
    found = XGBOOST_UBJ.search(content)
    if found:
        return {"xgboost": f"{found[1][0]}.{found[2][0]}.{found[3][0]}"}
    of_json = _XGBOOST_JSON.findall(content)
    return {"xgboost": b".".join(of_json[-1]).decode()} if of_json else {}


def _sklearn_in(node: Any) -> Iterator[str]:
    """The values of `_sklearn_version` in the schema of a skops file."""
    if isinstance(node, list):
        for each in node:
            yield from _sklearn_in(each)
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "_sklearn_version" and isinstance(value, dict):
                yield str(value.get("content", "")).strip('"')
            else:
                yield from _sklearn_in(value)
