"""What the fitted steps of a model know of its columns: types, values, bounds, and a value to show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from artifact.python_model import Dtype

SHOWN_TERMS = 3


@dataclass(frozen=True)
class Known:
    """One column, as far as the model knows it.

    Parameters
    ----------
    dtype
        None where no step says it.
    values
        The categories of its encoder.
    refuses
        Whether that encoder refuses all others.
    example
        A value in the middle of what the model was fitted on.
    source
        Where the example is from, such as "the mean of its StandardScaler"; "" where there is none.
    """

    dtype: Dtype | None = None
    values: tuple[Any, ...] = ()
    refuses: bool = False
    minimum: float | None = None
    maximum: float | None = None
    example: float | str | None = None
    source: str = ""
    text: bool = False


def known_columns(model: Any, names: Sequence[str]) -> dict[str, Known]:
    """Each column that a fitted step reads first, by its name."""
    found: dict[str, Known] = {}
    for step, columns in _first_steps(model, list(names)):
        for place, column in enumerate(columns):
            new = _of_step(step, place, len(columns))
            found[column] = _merged(found.get(column, Known()), new)
    return found


def _merged(old: Known, new: Known) -> Known:
    """What two steps know of a column; where both know something, the first."""
    keep = {
        key: value
        for key, value in vars(new).items()
        if value not in (None, (), "", False) and getattr(old, key) in (None, (), "", False)
    }
    if old.example is not None:
        keep.pop("source", None)
    return replace(old, **keep)


def _first_steps(model: Any, columns: list[str]) -> Iterator[tuple[Any, list[str]]]:
    """The steps that read the columns as they come, or with only missing cells filled."""
    inner = getattr(model, "best_estimator_", None)
    if inner is not None:
        yield from _first_steps(inner, columns)
    elif hasattr(model, "transformers_"):
        own = getattr(model, "feature_names_in_", None)
        every = columns if own is None else [str(name) for name in own]
        for _, transformer, chosen in model.transformers_:
            if not isinstance(transformer, str):
                yield from _first_steps(transformer, _chosen(chosen, every))
    elif hasattr(model, "steps"):
        for _, step in model.steps:
            yield from _first_steps(step, columns)
            if step is not None and step != "passthrough" and not _only_fills(step, columns):
                return
    else:
        yield model, columns


def _chosen(chosen: Any, every: list[str]) -> list[str]:
    if isinstance(chosen, (str, int)):
        chosen = [chosen]
    if isinstance(chosen, slice):
        return every[chosen] if not isinstance(chosen.start, str) else []
    places = np.asarray(chosen)
    if places.dtype == bool:
        return [every[place] for place in np.flatnonzero(places)]
    return [str(each) if isinstance(each, str) else every[each] for each in places.tolist()]


def _only_fills(step: Any, columns: list[str]) -> bool:
    return hasattr(step, "statistics_") and len(step.statistics_) == len(columns)


def _of_step(step: Any, place: int, width: int) -> Known:
    """What one fitted step knows of the column at a place."""
    if getattr(step, "vocabulary_", None):
        words = _words(step)
        return Known(dtype="str", text=True, example=words, source="words of its vocabulary")
    if callable(getattr(step, "build_analyzer", None)):  # it hashes words and knows none
        return Known(dtype="str", text=True)
    kind = type(step).__name__
    categories = getattr(step, "categories_", None)
    if categories is not None and len(categories) == width:
        values = tuple(_plain(value) for value in np.asarray(categories[place], object).tolist())
        there = [value for value in values if value is not None]
        refuses = getattr(step, "handle_unknown", "ignore") == "error"
        return Known(
            dtype=_dtype(there),
            values=values,
            refuses=refuses,
            example=there[0] if there else None,
            source=f"a category of its {kind}" if there else "",
        )
    filled = _at(step, "statistics_", place, width)
    if isinstance(filled, str):
        return Known(dtype="str", example=filled, source=f"what its {kind} fills in")
    if filled is not None and getattr(step, "strategy", "") != "constant":
        return Known(dtype="float", example=filled, source=f"what its {kind} fills in")
    low, high = _at(step, "data_min_", place, width), _at(step, "data_max_", place, width)
    if low is not None and high is not None:
        middle = (low + high) / 2
        return Known("float", minimum=low, maximum=high, example=middle, source=f"the middle of its {kind}")
    for attribute, what in (("mean_", "mean"), ("center_", "median")):
        value = _at(step, attribute, place, width)
        if value is not None and hasattr(step, "scale_"):
            return Known("float", example=value, source=f"the {what} of its {kind}")
    return Known()


def _at(step: Any, attribute: str, place: int, width: int) -> Any:
    found = getattr(step, attribute, None)
    if not isinstance(found, np.ndarray) or found.shape != (width,):
        return None
    value = _plain(found[place])
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value


def _plain(value: Any) -> Any:
    """A value as Python has it; NaN and what pandas calls missing are None."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if value is None or value != value else value  # noqa: PLR0124 - NaN


def _dtype(values: list[Any]) -> Dtype | None:
    kinds = {type(value) for value in values}
    if not kinds:
        return None
    if kinds == {bool}:
        return "bool"
    if kinds == {int}:
        return "int"
    return "float" if kinds <= {int, float} else "str"


def _words(step: Any) -> str:
    """A few words that a vectorizer knows, the commonest where it counts."""
    terms = sorted(step.vocabulary_, key=lambda term: step.vocabulary_[term])
    idf = getattr(step, "idf_", None)
    if idf is not None:
        terms.sort(key=lambda term: idf[step.vocabulary_[term]])
    whole = [term for term in terms if isinstance(term, str) and " " not in term] or list(map(str, terms))
    return " ".join(whole[:SHOWN_TERMS])
