"""An ONNX graph that takes a table: rows by its columns in, probabilities, labels or numbers out.

The graph may be any that onnxruntime reads: one input of shape [rows, columns], or one a column or a group of
columns; with or without ZipMap; with a fixed number of rows, as an export without dynamic axes has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from artifact.onnx_session import open_session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

TYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(int8)": np.dtype(np.int8),
    "tensor(int16)": np.dtype(np.int16),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(uint16)": np.dtype(np.uint16),
    "tensor(uint32)": np.dtype(np.uint32),
    "tensor(uint64)": np.dtype(np.uint64),
    "tensor(bool)": np.dtype(np.bool_),
    "tensor(string)": np.dtype(object),
}
"""onnxruntime's names of the types that a column can have."""


FRACTIONS = frozenset({"tensor(float)", "tensor(double)", "tensor(float16)"})
"""Types of outputs that are fractions."""
NUMBERS = FRACTIONS | {"tensor(int64)", "tensor(int32)"}
"""Types of outputs that are numbers."""


class NotATableError(ValueError):
    """The graph takes or gives tensors that are no columns of a table."""


class TableInput(NamedTuple):
    """One input of the graph.

    Parameters
    ----------
    width
        Its columns; 0 where the graph does not say.
    flat
        Its shape is [rows], without a dimension of columns.
    """

    name: str
    dtype: np.dtype[Any]
    width: int
    flat: bool


class OnnxTable:
    """The graph of a file.

    Raises
    ------
    NotATableError
        Names the input or output and its shape.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._session = open_session(str(path))
        found = self._session.get_inputs()
        self.inputs = tuple(_input(each) for each in found)
        self.batch = _batch(found)
        outputs = self._session.get_outputs()
        self.maps = next((each.name for each in outputs if each.type.startswith("seq(map")), "")
        numbers = [each.name for each in outputs if each.type in FRACTIONS]
        self.tensors = tuple(each.name for each in outputs if each.type in NUMBERS)
        """Outputs that are tensors of numbers."""
        labels = [each.name for each in outputs if each.type in {"tensor(int64)", "tensor(string)"}]
        self.numbers = next((name for name in numbers if "prob" in name.lower()), (numbers or [""])[0])
        self.labels = labels[0] if labels else ""
        single = [each.name for each in outputs if each.name in numbers and _width(each) == 1]
        self.apart = tuple(single) if labels and len(single) == len(numbers) > 1 else ()
        """Outputs of one number each beside labels, which may be the classes' probabilities."""
        self.others = tuple(
            each.name
            for each in outputs
            if each.name not in {self.maps, self.numbers, self.labels, *self.apart}
        )
        """Outputs that a table has no place for."""
        self.answers = next((_width(each) for each in outputs if each.name == self.numbers), 0)
        """Numbers that the graph answers for a row; 0 where it does not say."""
        if not (self.maps or self.numbers or self.labels):
            shown = ", ".join(f"{each.name!r} of {each.type}" for each in outputs)
            raise NotATableError(
                f"its outputs are {shown}; expected numbers, labels or maps of probabilities"
            )

    def predict_proba(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Probabilities, or whatever numbers the graph answers, of shape (rows, outputs)."""
        answered = self._run(rows, self.maps or self.numbers)
        if self.maps:
            classes = list(answered[0])
            return np.array([[each[label] for label in classes] for each in answered], np.float64)
        return np.asarray(answered, np.float64).reshape(len(rows), -1)

    def predict(self, rows: NDArray[Any]) -> Any:
        """Labels; the numbers of a graph that has none."""
        if not self.labels:
            return self.predict_proba(rows)
        return np.asarray(self._run(rows, self.labels)).reshape(len(rows))

    def by_class(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Probabilities of a graph that has an output for each class, of shape (rows, classes)."""
        return np.column_stack([self._numbers(rows, name) for name in self.apart])

    def every(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """The numbers of all outputs beside each other, of shape (rows, numbers)."""
        return np.column_stack([self._numbers(rows, name) for name in self.tensors])

    def names_of_every(self, rows: NDArray[Any]) -> tuple[str, ...]:
        """The names of what `every` gives: those of the outputs, with places where an output has several."""
        found: list[str] = []
        for name in self.tensors:
            width = self._numbers(rows, name).shape[1]
            found += [name] if width == 1 else [f"{name}_{place}" for place in range(width)]
        return tuple(found)

    def _numbers(self, rows: NDArray[Any], output: str) -> NDArray[np.float64]:
        return np.asarray(self._run(rows, output), np.float64).reshape(len(rows), -1)

    def mapped(self, rows: NDArray[Any]) -> tuple[Any, ...]:
        """The labels of the maps that a ZipMap gives, in their order."""
        return tuple(self._run(rows[:1], self.maps)[0])

    def _run(self, rows: NDArray[Any], output: str) -> Any:
        if not self.batch or len(rows) == self.batch:
            return self._session.run([output], self._feed(rows))[0]
        parts: list[Any] = []
        for start in range(0, len(rows), self.batch):
            part = rows[start : start + self.batch]
            lacking = self.batch - len(part)
            filled = np.concatenate([part, np.repeat(part[-1:], lacking, axis=0)]) if lacking else part
            parts += list(self._session.run([output], self._feed(filled))[0])[: len(part)]
        return parts if output == self.maps else np.asarray(parts)

    def _feed(self, rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
        feed, place = {}, 0
        for each in self.inputs:
            width = each.width or rows.shape[1]
            cells = rows[:, place : place + width]
            place += width
            converted = _converted(each, cells)
            feed[each.name] = np.ascontiguousarray(converted[:, 0] if each.flat else converted)
        return feed


def _input(found: Any) -> TableInput:
    shape: list[Any] = list(found.shape)
    dtype: np.dtype[Any] | None = TYPES.get(found.type)
    if dtype is None or len(shape) not in {1, 2}:
        raise NotATableError(
            f"its input {found.name!r} is {found.type} of shape {shape}; expected [rows, columns] of "
            "numbers, booleans or strings"
        )
    if len(shape) == 1:
        return TableInput(found.name, dtype, 1, flat=True)
    return TableInput(found.name, dtype, shape[1] if isinstance(shape[1], int) else 0, flat=False)


def _width(output: Any) -> int:
    shape = list(output.shape)
    if len(shape) == 1:
        return 1
    return shape[-1] if len(shape) == 2 and isinstance(shape[1], int) else 0


def _batch(found: list[Any]) -> int:
    """The fixed number of rows; 0 where any number is taken."""
    sizes = [each.shape[0] for each in found if isinstance(each.shape[0], int) and each.shape[0] > 0]
    return int(sizes[0]) if sizes else 0


def _converted(to: TableInput, cells: NDArray[Any]) -> NDArray[Any]:
    """Cells as the graph takes them; a cell that its type cannot hold is an error, not another number."""
    if to.dtype == object:
        if not all(isinstance(cell, str) for cell in cells.ravel().tolist()):
            raise ValueError(f"input {to.name!r}: a text is missing")
        return cells.astype(object)
    return _CONVERT[to.dtype.kind](to, cells)


def _whole(to: TableInput, cells: NDArray[Any]) -> NDArray[Any]:
    numbers = cells.astype(np.float64)
    bounds = np.iinfo(to.dtype)
    fits = np.isfinite(numbers) & (numbers == np.floor(numbers))
    if not (fits & (numbers >= bounds.min) & (numbers <= bounds.max)).all():
        raise ValueError(f"input {to.name!r}: expected whole numbers that {to.dtype} holds")
    return numbers.astype(to.dtype)


def _truth(to: TableInput, cells: NDArray[Any]) -> NDArray[Any]:
    numbers = cells.astype(np.float64)
    if not np.isin(numbers, (0.0, 1.0)).all():
        raise ValueError(f"input {to.name!r}: expected true or false")
    return numbers.astype(np.bool_)


_CONVERT: dict[str, Callable[[TableInput, NDArray[Any]], NDArray[Any]]] = {
    "f": lambda to, cells: cells.astype(to.dtype),
    "i": _whole,
    "u": _whole,
    "b": _truth,
}
