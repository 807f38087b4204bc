"""The pandas categories that a booster was fitted on, and has to be given again."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from training.imported.load import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator


def categories_of(model: Any) -> dict[str, tuple[Any, ...]]:
    """The values of each column of categories, by its name; empty if the model reads no such column.

    Raises
    ------
    ModelError
        The booster was fitted on such columns and does not hold their values.
    """
    for part in reading_parts(model):
        booster = getattr(part, "booster_", None) or getattr(part, "booster", part)
        if hasattr(part, "get_booster"):
            booster = part.get_booster()
        package = type(booster).__module__.partition(".")[0]
        if package == "lightgbm":
            return _of_lightgbm(booster)
        if package == "xgboost":
            return _of_xgboost(booster)
    return {}


def reading_parts(model: Any) -> Iterator[Any]:
    """A model, and the models inside it that get its columns unchanged, as in a search or a calibration."""
    yield model
    inner = [getattr(model, "best_estimator_", None), getattr(model, "estimator_", None)]
    inner += [each.estimator for each in getattr(model, "calibrated_classifiers_", ())[:1]]
    inner += [step for _, step in getattr(model, "steps", ())[:1]]
    for each in inner:
        if each is not None:
            yield from reading_parts(each)


def _of_lightgbm(booster: Any) -> dict[str, tuple[Any, ...]]:
    values = getattr(booster, "pandas_categorical", None) or []
    if not values:
        return {}
    text = booster.model_to_string(num_iteration=1)
    infos = next(line for line in text.splitlines() if line.startswith("feature_infos=")).partition("=")[2]
    named = list(zip(booster.feature_name(), infos.split(), strict=True))
    # Numbers are "[low:high]", categories "0:1:2", and a column that no tree can split is "none".
    for chosen in (
        [name for name, info in named if not info.startswith("[") and info != "none"],
        [name for name, info in named if not info.startswith("[")],
    ):
        if len(chosen) == len(values):
            return {name: tuple(each) for name, each in zip(chosen, values, strict=True)}
    raise ModelError(
        f"The model was fitted on {len(values)} columns of pandas categories and does not say which of "
        f"{', '.join(repr(name) for name, info in named if not info.startswith('['))} they are; expected a "
        "model whose columns of categories all have that type."
    )


def _of_xgboost(booster: Any) -> dict[str, tuple[Any, ...]]:
    types = booster.feature_types or []
    if "c" not in types:
        return {}
    learner = json.loads(booster.save_raw("json"))["learner"]
    kept = learner["gradient_booster"].get("model", {}).get("cats", {}).get("enc", [])
    names = booster.feature_names or [str(place) for place in range(len(types))]
    found = {}
    for place, (name, kind) in enumerate(zip(names, types, strict=True)):
        if kind == "c":
            found[name] = tuple(_decoded(name, kept[place])) if place < len(kept) else ()
            if not found[name]:
                raise ModelError(
                    f"The model was fitted on pandas categories in {name!r}, and does not hold them, as "
                    "XGBoost holds them from version 3.1 on: nothing says which number stands for which "
                    "word. Expected a model of XGBoost 3.1 or later, or one that encodes its words."
                )
    return found


def _decoded(name: str, column: dict[str, Any]) -> Iterator[Any]:
    """The values of one column: numbers as they are, words as their bytes one after another."""
    if "offsets" not in column:
        yield from column["values"]
        return
    content = bytes(value % 256 for value in column["values"])
    if not content.isascii():  # XGBoost 3.2 counts letters and keeps so many bytes
        raise ModelError(
            f"The model was fitted on pandas categories in {name!r} with letters outside ASCII, which "
            "XGBoost cuts in its file, so that nothing says which words they are. Expected ASCII, or "
            "words that are encoded before the model, for example by an OrdinalEncoder."
        )
    for start, end in pairwise(column["offsets"]):
        yield content[start:end].decode()
