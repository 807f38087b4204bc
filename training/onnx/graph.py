"""An ONNX graph in float64 as it is built up, operator by operator, and what writes a fitted model into it.

skl2onnx gives float32 tree ensembles; `TreeEnsemble` of ai.onnx.ml 5 runs in float64 at the same speed, so
each family writes its own nodes, and they equal scikit-learn to the last few bits: docs/onnx.md. A graph has
no string, no ZipMap and no locale.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

OPSET, IR_VERSION = 18, 9
ML_OPSET = 5
"""Version of ai.onnx.ml: the first with `TreeEnsemble`."""
INPUT, OUTPUT = "X", "scores"


class NoExport(Exception):  # noqa: N818 - it says why, it is not a fault
    """There is no graph for an estimator of this pipeline."""


def _none(_model: Any) -> Sequence[Any]:
    return ()


def _no_thresholds(_model: Any) -> Iterator[tuple[int, float]]:
    return iter(())


def _keep(_model: Any) -> None:
    pass


@dataclass(frozen=True)
class Number:
    """A column of numbers: one column of a float64 tensor of shape (rows, width)."""

    tensor: str
    place: int
    width: int


@dataclass(frozen=True, eq=False)
class Words:
    """A column of words: an int64 tensor of shape (rows,) with places in `cells`.

    Parameters
    ----------
    name
        The column of the table that they are from.
    index
        The tensor; empty for free text, which no step can read by a code.
    cells
        What the model's steps see: first a missing cell, last a word that none of them knows.
    """

    name: str
    index: str
    cells: tuple[Any, ...]


Columns = tuple[Number | Words, ...]
"""A table whose columns are not all numbers, or stand in several tensors."""


@dataclass(frozen=True)
class Writer:
    """How a fitted predictor of one type becomes nodes of a graph.

    Parameters
    ----------
    write
        Adds the model's nodes. Takes the graph, the model and the name of its input, shape (rows, columns);
        returns the name of its output: probabilities (rows, classes), or values (rows, 1).
    members
        The predictors within a fitted model.
    thresholds
        Pairs of a column of the model's input and a value that the model compares that column with: rows on
        both sides of it are where an inexact graph shows.
    strip
        Takes out of a fitted model what the file for servers must not hold.
    holds
        It hands its input on to its members, so that the input may be `Columns` too.
    ml_opset
        The version of ai.onnx.ml that its nodes need; None: any.
    ml_opset_of_many_classes
        The version that makes it faster where there are more than two classes.
    """

    write: Callable[[Graph, Any, Any], str]
    members: Callable[[Any], Sequence[Any]] = _none
    thresholds: Callable[[Any], Iterator[tuple[int, float]]] = _no_thresholds
    strip: Callable[[Any], None] = _keep
    holds: bool = False
    ml_opset: int | None = None
    ml_opset_of_many_classes: int | None = None


@dataclass
class Graph:
    """Nodes and constants as they are added; a value is the name of a (rows, columns) float64 tensor.

    Parameters
    ----------
    writers
        By the type of a fitted predictor; `predict` raises `NoExport` for any other.
    unlisted
        Words that a step knows and the cells of its column lack, by column: the graph is right only for a
        signature that lists them.
    """

    writers: Mapping[type, Writer] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    ml_opset: int = ML_OPSET
    unlisted: dict[str, set[str]] = field(default_factory=dict)
    _known: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)
    _count: int = 0

    def name(self, stem: str) -> str:
        """A name that no other value has."""
        self._count += 1
        return f"{stem}_{self._count}"

    def constant(self, value: Any, dtype: Any = np.float64) -> str:
        """Name of a constant; equal ones are stored once."""
        array = np.ascontiguousarray(value, dtype=dtype).reshape(np.shape(value))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = self.name("c")
            self.constants.append(numpy_helper.from_array(array, self._known[key]))
        return self._known[key]

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add one node with one output; returns the output's name."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add one node with several outputs."""
        names = [self.name(kind.lower()) for _ in range(outputs)]
        domain = "ai.onnx.ml" if kind.startswith("TreeEnsemble") else ""
        self.nodes.append(
            helper.make_node(kind, list(inputs), names, name=names[0], domain=domain, **attributes)
        )
        return names

    def add(self, x: str, value: Any) -> str:
        """`x + value`; no node where the value is 0."""
        return self.op("Add", x, self.constant(value)) if np.any(value) else x

    def mul(self, x: str, value: Any) -> str:
        """`x * value`; no node where the value is 1."""
        return self.op("Mul", x, self.constant(value)) if np.any(np.asarray(value) != 1) else x

    def matmul(self, x: str, matrix: NDArray[np.float64]) -> str:
        """`x @ matrix`, of a matrix of shape (columns, outputs)."""
        return self.op("MatMul", x, self.constant(matrix))

    def gather(self, x: str, columns: Sequence[int]) -> str:
        """Some columns of `x`, in this order."""
        return self.op("Gather", x, self.constant(list(columns), np.int64), axis=1)

    def concat(self, parts: Sequence[str]) -> str:
        """The columns of all parts, one after the other."""
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=1)

    def cast(self, x: str, kind: int = TensorProto.DOUBLE) -> str:
        """`x` as another type, by default float64."""
        return self.op("Cast", x, to=kind)

    def single(self, x: str) -> str:
        """Rounded to float32 and held in float64: scikit-learn's trees compare such values."""
        return self.cast(self.cast(x, TensorProto.FLOAT))

    def row_sum(self, x: str, *, keep: int = 1, axis: int = 1) -> str:
        """The sum over the columns, or another axis."""
        return self.op("ReduceSum", x, self.constant([axis], np.int64), keepdims=keep)

    def complement(self, p: str) -> str:
        """Both probabilities, (rows, 2), of the second's, (rows, 1)."""
        return self.concat([self.op("Sub", self.constant([[1.0]]), p), p])

    def affine(self, x: str, weights: Any, bias: Any) -> str:
        """`x @ weights.T + bias`, with weights of shape (outputs, columns) or (columns,)."""
        row = np.atleast_1d(np.asarray(bias, np.float64))[None, :]
        return self.add(self.matmul(x, np.atleast_2d(weights).T), row)

    def softmax(self, x: str) -> str:
        """Softmax over the columns."""
        return self.op("Softmax", x, axis=1)

    def matrix(self, x: str | Columns) -> str:
        """Columns of numbers as one float64 tensor; truth values count as 1 and 0.

        Raises
        ------
        NoExport
            A column has words.
        """
        if isinstance(x, str):
            return x
        parts: list[tuple[str, int, list[int]]] = []
        for each in (self._number(column) for column in x):
            if parts and parts[-1][0] == each.tensor:
                parts[-1][2].append(each.place)
            else:
                parts.append((each.tensor, each.width, [each.place]))
        if not parts:
            raise NoExport("no ONNX form of a step without a column")
        return self.concat(
            [
                tensor if places == list(range(width)) else self.gather(tensor, places)
                for tensor, width, places in parts
            ]
        )

    def _number(self, column: Number | Words) -> Number:
        if isinstance(column, Number):
            return column
        if not all(isinstance(cell, bool) for cell in column.cells[1:-1]):
            raise NoExport("no ONNX form of a predictor that reads words")
        return self.looked_up(column, [[np.nan], *([float(cell)] for cell in column.cells[1:-1]), [np.nan]])[
            0
        ]

    def looked_up(self, column: Words, table: Any) -> tuple[Number, ...]:
        """The numbers that stand for each cell of a column of words, shape (cells, numbers)."""
        if not column.index:
            raise NoExport("no ONNX form of a step that reads free text")
        values = np.asarray(table, np.float64)
        found = self.op("Gather", self.constant(values), column.index, axis=0)
        return tuple(Number(found, place, values.shape[1]) for place in range(values.shape[1]))

    def predict(self, model: Any, x: str | Columns) -> str:
        """Add a fitted predictor: probabilities, or values of shape (rows, 1)."""
        writer = self.writers.get(type(model))
        if writer is None:
            raise NoExport(f"no ONNX form of {type(model).__name__}")
        return writer.write(self, model, x if writer.holds else self.matrix(x))
