"""An ONNX file over a table behind the one float64 matrix that all models have, so that a worker runs it.

The nodes of the file stay as they are. In front of them stand nodes that cut the matrix into the file's
inputs, turn codes of categories back into words and convert types; behind them stand those that put its
answers in order.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from training.imported.words import UNLISTED, with_words
from training.onnx.graph import INPUT, OUTPUT, NoExport

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.manifest import Score
    from artifact.onnx_table import OnnxTable, TableInput
    from artifact.python_model import PythonModel
    from artifact.signature import Column, Signature

FILE = "file/"
"""Begins every name of the file, so that none of ours is among them."""
OURS = "okamochi/"
OLDEST, OLDEST_IR = 9, 4
"""The operator set that has `Where`, and the format in which a constant need not be an input."""
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
APART = frozenset(
    {
        *("Loop", "Scan", "If", "SequenceMap"),
        *(
            "RandomNormal",
            "RandomUniform",
            "RandomNormalLike",
            "RandomUniformLike",
            "Bernoulli",
            "Multinomial",
        ),
    }
)
"""Operators that may run without end, or answer otherwise each time: no worker runs them."""
CARRIES = frozenset(
    {
        *("Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Expand", "Concat", "Split"),
        *("Gather", "Slice", "Where", "ArrayFeatureExtractor"),
    }
)
"""Operators that give words as they are."""
COMPARES = frozenset({"LabelEncoder", "CategoryMapper", "OneHotEncoder", "Equal"})
"""Operators to which words are equal or not, so that all words that the file does not name are alike."""
TIMED = 5
MAX_ROW_S = 0.005
"""A worker answers nobody else while it runs a graph."""


def embedded(table: OnnxTable, spec: PythonModel, signature: Signature) -> tuple[onnx.ModelProto, Signature]:
    """The file with the input `X` and the output `scores`, and the signature with the words that it names.

    Raises
    ------
    NoExport
        It has to be run in a process of its own.
    """
    model = onnx.load(str(table.path))
    _check(table, model)
    words = _words_of(model)
    if words:
        signature = with_words(signature, {each.name: words for each in spec.inputs if each.dtype == "str"})
    model = compose.add_prefix(model, FILE)
    nodes = _Nodes()
    _feed(nodes, table, spec, signature)
    front, nodes.made = nodes.made, []
    scores = _scores(nodes, table, model, spec, signature)
    if nodes.broken:
        scores = nodes.op("Where", nodes.any_broken(), nodes.constant([[np.nan]]), scores)
    nodes.op("Identity", scores, output=OUTPUT)
    graph = model.graph
    own = list(graph.node)
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend([*front, *own, *nodes.made])
    graph.initializer.extend(nodes.constants)
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, [None, signature.width]))
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.DOUBLE, [None, signature.outputs]))
    return model, signature


def _check(table: OnnxTable, model: onnx.ModelProto) -> None:
    versions = {each.domain: each.version for each in model.opset_import}
    oldest = versions.get("", versions.get("ai.onnx", OLDEST))
    if oldest < OLDEST or model.ir_version < OLDEST_IR:
        raise NoExport(
            f"the file has operator set {oldest} and IR version {model.ir_version}, and only from "
            f"{OLDEST} and {OLDEST_IR} on it can be extended"
        )
    if table.batch:
        raise NoExport(f"the file takes {table.batch} rows at a time")
    for each in table.inputs:
        if each.dtype == np.float16:
            raise NoExport("onnxruntime does not round float64 to float16 in one step")
    for node in model.graph.node:
        if node.domain not in DOMAINS or len(model.functions):
            raise NoExport(f"the file's operator {node.op_type} is of another domain than ONNX's own")
        if node.op_type in APART:
            raise NoExport(f"the file has the operator {node.op_type}")


class _Nodes:
    """Nodes and constants as they are added; they exist with these inputs in every operator set from 9 on."""

    def __init__(self) -> None:
        self.made: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.broken: list[str] = []
        """Tensors of shape (rows, columns) that are not 0 where the file cannot take a cell."""
        self._broken_columns = 0
        self._count = 0

    def op(self, kind: str, *inputs: str, output: str = "", domain: str = "", **attributes: Any) -> str:
        """Add a node; returns its output."""
        self._count += 1
        name = output or f"{OURS}{self._count}"
        self.made.append(helper.make_node(kind, list(inputs), [name], name=name, domain=domain, **attributes))
        return name

    def constant(self, values: Any, dtype: Any = np.float64) -> str:
        """The name of a constant."""
        name = f"{OURS}c{len(self.constants)}"
        if dtype is str:
            proto = helper.make_tensor(
                name, TensorProto.STRING, [len(values)], [each.encode() for each in values]
            )
        else:
            proto = numpy_helper.from_array(np.asarray(values, dtype), name)
        self.constants.append(proto)
        return name

    def columns(self, x: str, places: list[int]) -> str:
        """Some columns of a tensor."""
        return self.op("Gather", x, self.constant(places, np.int64), axis=1)

    def shaped(self, x: str, shape: list[int]) -> str:
        """A tensor in another shape."""
        return self.op("Reshape", x, self.constant(shape, np.int64))

    def beside(self, parts: list[str]) -> str:
        """Tensors of rows beside each other."""
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=1)

    def any_broken(self) -> str:
        """Whether the file cannot take a cell of the row, shape (rows, 1)."""
        flags = self.op("Cast", self.beside(self.broken), to=TensorProto.BOOL)  # NaN is not 0 either
        ones = self.constant(np.ones((self._broken_columns, 1)))
        count = self.op("MatMul", self.op("Cast", flags, to=TensorProto.DOUBLE), ones)
        return self.op("Cast", count, to=TensorProto.BOOL)

    def breaks(self, x: str, width: int) -> None:
        """Note cells that the file cannot take where a tensor is not 0; such a row has no answer."""
        self.broken.append(x)
        self._broken_columns += width


def _feed(nodes: _Nodes, table: OnnxTable, spec: PythonModel, signature: Signature) -> None:
    """Each of the file's inputs of the matrix."""
    starts = {name: place.start for name, place in zip(signature.names, signature.places, strict=True)}
    columns = {each.name: each for each in signature.columns}
    asked, place = spec.inputs, 0
    if not asked:  # it takes the matrix as it is
        (whole,) = table.inputs
        nodes.op("Cast", INPUT, to=helper.np_dtype_to_tensor_dtype(whole.dtype), output=FILE + whole.name)
        return
    for each in table.inputs:
        width = each.width or len(asked)
        chosen = [(columns[one.name], starts[one.name]) for one in asked[place : place + width]]
        place += width
        fed = _words(nodes, chosen) if each.dtype == object else _numbers(nodes, each, chosen)
        nodes.op(
            "Reshape",
            fed,
            nodes.constant([-1] if each.flat else [-1, len(chosen)], np.int64),
            output=FILE + each.name,
        )


def _numbers(nodes: _Nodes, to: TableInput, chosen: list[tuple[Column, int]]) -> str:
    """Columns of numbers in the type of an input; a cell that the type cannot hold has no answer."""
    parts = []
    for column, start in chosen:
        if column.kind == "number":
            parts.append(nodes.columns(INPUT, [start]))
            continue
        truth = {"true": 1.0, "false": 0.0}
        if column.kind != "category" or not set(column.categories) <= truth.keys():
            raise NoExport("no ONNX form of words where the file takes numbers")
        table = [[np.nan], *([truth[word]] for word in column.categories), [np.nan]]
        parts.append(nodes.op("Gather", nodes.constant(table), _code(nodes, start), axis=0))
    cells = nodes.beside(parts)
    kind = helper.np_dtype_to_tensor_dtype(to.dtype)
    fed = nodes.op("Cast", cells, to=kind) if to.dtype != np.float64 else cells
    if to.dtype.kind in "iub":
        back = nodes.op("Cast", fed, to=TensorProto.DOUBLE)
        nodes.breaks(nodes.op("Sub", cells, back), len(chosen))
    return fed


def _code(nodes: _Nodes, start: int) -> str:
    """The place of a category's word from 0 on, where 0 is a missing cell; shape (rows,)."""
    code = nodes.op("Add", nodes.columns(INPUT, [start]), nodes.constant([[1.0]]))
    return nodes.shaped(nodes.op("Cast", code, to=TensorProto.INT64), [-1])


def _words(nodes: _Nodes, chosen: list[tuple[Column, int]]) -> str:
    """Columns of words; a missing one has no answer."""
    parts = []
    for column, start in chosen:
        if column.kind != "category":
            raise NoExport("no ONNX form of a column of free text")
        code = _code(nodes, start)
        words = ["", *column.categories, UNLISTED]
        word = nodes.op("Gather", nodes.constant(words, str), code, axis=0)
        parts.append(nodes.shaped(word, [-1, 1]))
        absent = nodes.op("Gather", nodes.constant([[1.0], *[[0.0]] * (len(words) - 1)]), code, axis=0)
        nodes.breaks(absent, 1)
    return nodes.beside(parts)


# ---- words that the file names


def _words_of(model: onnx.ModelProto) -> set[str]:
    """The words that the file names, if it takes words.

    Raises
    ------
    NoExport
        An operator looks into a word, so that words that it does not name are not alike.
    """
    carried = {each.name for each in model.graph.input if _is_words(each.type)}
    if not carried:
        return set()
    found: set[str] = set()
    for tensor in model.graph.initializer:
        found |= _texts(tensor)
    for node in model.graph.node:
        for attribute in node.attribute:
            found |= {each.decode() for each in attribute.strings}
            if attribute.HasField("t"):
                found |= _texts(attribute.t)
        if not carried & {*node.input}:
            continue
        if node.op_type in CARRIES:
            carried |= {*node.output}
        elif node.op_type in COMPARES:
            if any(each.name == "values_strings" for each in node.attribute):
                carried |= {*node.output}
        else:
            raise NoExport(f"the file's operator {node.op_type} looks into words")
    return found


def _is_words(kind: Any) -> bool:
    return bool(kind.tensor_type.elem_type == TensorProto.STRING)


def _texts(tensor: onnx.TensorProto) -> set[str]:
    return {each.decode() for each in tensor.string_data} if tensor.data_type == TensorProto.STRING else set()


# ---- its answers


def _scores(
    nodes: _Nodes, table: OnnxTable, model: onnx.ModelProto, spec: PythonModel, signature: Signature
) -> str:
    """The file's answers as scores in the signature's order, float64."""
    if signature.numbers:
        scores = nodes.beside([_answer(nodes, name) for name in _outputs(table, spec)])
        return nodes.columns(scores, [*spec.order])
    if not signature.classes:
        return _answer(nodes, table.numbers or table.labels)
    if not spec.labels and spec.method == "by_class":
        scores = nodes.beside([_answer(nodes, name) for name in table.apart])
        return nodes.columns(scores, [*spec.order])
    if spec.labels or spec.method != "predict_proba" or not (table.maps or table.numbers):
        raise NoExport("the file answers labels alone")
    name, places = (table.numbers, [*spec.order])
    if table.maps:
        name, mapped = _behind_map(table, model)
        places = [mapped[place] for place in spec.order]
    scores = _answer(nodes, name)
    if len(signature.classes) == 2 and table.answers == 1 and not table.maps:
        other = nodes.op("Sub", nodes.constant([[1.0]]), scores)
        return nodes.beside([other, scores])
    return nodes.columns(scores, places)


def _outputs(table: OnnxTable, spec: PythonModel) -> tuple[str, ...]:
    return table.tensors if spec.methods == ("every",) else (table.numbers or table.labels,)


def _answer(nodes: _Nodes, name: str) -> str:
    """An output as float64 of shape (rows, numbers)."""
    return nodes.op("Cast", nodes.shaped(FILE + name, [0, -1]), to=TensorProto.DOUBLE)


def _behind_map(table: OnnxTable, model: onnx.ModelProto) -> tuple[str, list[int]]:
    """The tensor that a ZipMap reads, and the column of it for each of the map's keys in their order."""
    for place, node in enumerate(model.graph.node):
        if node.op_type == "ZipMap" and node.output[0] == FILE + table.maps:
            labels: list[Any] = next(
                [*each.strings] or [*each.ints]
                for each in node.attribute
                if each.name.startswith("classlabels")
            )
            del model.graph.node[place]
            return node.input[0].removeprefix(FILE), sorted(range(len(labels)), key=labels.__getitem__)
    raise NoExport("its maps of probabilities are made by another operator than ZipMap")


# ---- whether a worker may run it


def check_quick(graph: Score, matrix: NDArray[np.float64]) -> None:
    """Refuse a graph that takes too long for a worker, which answers nobody else meanwhile.

    Raises
    ------
    NoExport
    """
    times = []
    for _ in range(TIMED):
        began = perf_counter()
        graph(matrix[:1])
        times.append(perf_counter() - began)
    if min(times) > MAX_ROW_S:
        raise NoExport(
            f"one row takes {1000 * min(times):.0f} ms, more than the {1000 * MAX_ROW_S:.0f} ms of a worker"
        )
