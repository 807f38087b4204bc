"""Candidates of one's own: `[candidates] add = ["mymodels:build"]`.

`build()` returns an estimator, or an estimator and a function of an Optuna trial that returns its parameters.
It stands behind the preprocessing of the linear models: numbers imputed and scaled, categories encoded.
"""

from __future__ import annotations

import ast
import importlib
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import optuna
from sklearn.base import clone

from training.families.family import ALL_TASKS, Family, pipeline_of
from training.families.preprocessing import scaled
from training.settings import UseCaseError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optuna.trial import BaseTrial
    from sklearn.pipeline import Pipeline

    from artifact.signature import Task
    from training.families.family import Params
    from training.families.layout import Layout


def is_own(family: str) -> bool:
    """Whether a family's name is an entry of `candidates.add`."""
    return ":" in family


@cache
def family_of(entry: str) -> Family:
    """The family of an entry, whose module can be imported already."""
    return Family(
        name=entry,
        title=entry,
        tasks=ALL_TASKS,
        default=lambda _layout: {},
        suggest=lambda trial, _layout: _suggested(entry, _Named(trial, entry)),
        build=lambda params, layout, task, seed: _build(entry, params, layout, task, seed),
        affordable=lambda _rows, _width, _classes: True,
    )


def importable(folders: Sequence[str]) -> None:
    """Let modules of these folders be imported, in a process that the search started too."""
    for folder in reversed(folders):
        if folder not in sys.path:
            sys.path.insert(0, folder)


def check(entries: Sequence[str], folders: Sequence[str], task: Task) -> None:
    """Build each candidate once, before anything is trained.

    Raises
    ------
    UseCaseError
        Names the entry and what is wrong with it.
    """
    importable(folders)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for entry in entries:
        where = f'candidates.add: "{entry}"'
        try:
            estimator, suggest = _made(entry)
        except ModuleNotFoundError as error:
            raise UseCaseError(
                f"{where}: there is no module {error.name!r} in {', '.join(folders)}, nor is one installed; "
                "candidates.code names the folders of your modules."
            ) from error
        except UseCaseError:
            raise
        except Exception as error:
            raise UseCaseError(f"{where} cannot be built: {_said(error)}.") from error
        needed = ["fit", "predict", "get_params", "set_params"]
        needed += ["predict_proba"] if task != "regression" else []
        lacking = [name for name in needed if not callable(getattr(estimator, name, None))]
        if lacking:
            raise UseCaseError(
                f"{where} returns a {type(estimator).__name__} without {', '.join(lacking)}; expected a "
                f"scikit-learn estimator for a {task} task, or a tuple of it and a function of a trial."
            )
        if suggest is None:
            continue
        try:
            params = _suggested(entry, optuna.create_study().ask())
            msgspec.json.encode(params)
            clone(estimator).set_params(**params)
        except Exception as error:
            raise UseCaseError(
                f"{where}: the parameters that its function gives cannot be set: {_said(error)}."
            ) from error


def roots_of(entries: Sequence[str], folders: Sequence[str]) -> list[Path]:
    """The modules of the entries, and those of the same folders that they import, as their text says."""
    names = [entry.partition(":")[0].partition(".")[0] for entry in entries]
    found: dict[str, Path] = {}
    while names:
        name = names.pop()
        place = next((place for folder in folders if (place := _place(Path(folder), name)) is not None), None)
        if name in found or place is None:
            continue
        found[name] = place
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            names += _imported(file)
    return sorted(found.values())


def _place(folder: Path, name: str) -> Path | None:
    for place in (folder / name, folder / f"{name}.py"):
        if place.is_file() or (place.is_dir() and any(place.glob("*.py"))):
            return place
    return None


def _imported(file: Path) -> list[str]:
    """The packages that a module names in its imports; none where it is no Python."""
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (SyntaxError, ValueError, OSError):
        return []
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return [name.partition(".")[0] for name in names]


class _Named:
    """A trial whose parameters carry the entry's name, so that two candidates may both have a `C`."""

    def __init__(self, trial: BaseTrial, entry: str) -> None:
        self._trial, self._entry = trial, entry

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._trial, name)
        if not name.startswith("suggest_"):
            return found
        return lambda parameter, *args, **options: found(f"{self._entry}.{parameter}", *args, **options)


def _made(entry: str) -> tuple[Any, Callable[[Any], Mapping[str, Any]] | None]:
    module, _, name = entry.partition(":")
    build = getattr(importlib.import_module(module), name, None)
    if not callable(build):
        raise UseCaseError(f'candidates.add: "{entry}": the module {module} has no function {name!r}.')
    made = build()
    if not isinstance(made, tuple):
        return made, None
    if len(made) != 2 or not callable(made[1]):
        raise UseCaseError(
            f'candidates.add: "{entry}" returns a tuple of {len(made)}, expected an estimator and a function.'
        )
    return made


def _suggested(entry: str, trial: Any) -> Params:
    suggest = _made(entry)[1]
    return {} if suggest is None else dict(suggest(trial))


def _build(entry: str, params: Mapping[str, Any], layout: Layout, task: Task, seed: int) -> Pipeline:
    importable(layout.code)
    estimator = clone(_made(entry)[0])
    if estimator.get_params().get("random_state", 0) is None:
        estimator.set_params(random_state=seed)
    columns = scaled(layout, task, seed, skew="standard", dense=True)
    return pipeline_of(columns, estimator.set_params(**params))


def _said(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:300]}" if text else type(error).__name__
