"""An ONNX file over tensors of any rank: its inputs, a request that it answers, independence of rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from artifact.onnx_session import open_session
from artifact.tensor_model import TensorModel
from artifact.tensors import DTYPES, Tensor, TensorGolden, Tensors, Value, array_of, difference, value_of
from training.imported.load import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(string)": "BYTES",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    **{
        f"tensor({sign}int{bits})": f"{sign.upper()}INT{bits}"
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
}
"""onnxruntime's names of the types to those of the Open Inference Protocol."""
SIZES = (8, 32, 64, 224, 16, 128, 1, 2, 3, 4, 5, 10, 256)
"""Tried for the sizes that a graph leaves open."""
CHANNELS = (None, 3, 1)
"""Tried for the open number of channels of an image; None takes the same size as the others."""
WORDS = (("a", "b c"), ("1", "0"))
ROWS = 4
MAX_GOLDEN_BYTES = 256 * 1024
"""A golden request whose inputs are larger than this has only one row."""
SAME_ROWS = 1e-5
"""The largest relative difference between rows in one call and each row alone; see SAME_ROWS_OF."""
TOLERANCE = {"FP16": 2e-2, "FP32": 1e-3, "FP64": 1e-3}
"""By the coarsest floating-point type of the outputs: processors round differently in many layers."""
SAME_ROWS_OF = {"FP16": 1e-2}
TOGETHER = {
    *("Loop", "Scan", "If", "NonMaxSuppression", "NonZero", "Unique", "Compress", "DynamicQuantizeLinear"),
    *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
    "BatchNormalization in training mode",
}
"""Operators that may look at all rows at once or draw at random: a trial of a few rows proves nothing."""
SCALES = ((1.0, 100.0, 0.01, -1.0), (-1e3, 1.0, 1e3, 1.0), (0.0, 1e6, -1.0, 0.5), (1.0, 1.0, -1e6, 0.0))
"""Factors for the rows of a request, which reveal a row whose answer depends on other rows."""


@dataclass(frozen=True)
class TensorGraph:
    """A graph over tensors, open.

    Parameters
    ----------
    why_not_batched
        Why its requests are answered one at a time; "" if rows of several go into one call.
    """

    tensors: Tensors
    golden: TensorGolden
    why_not_batched: str


def read_graph(file: Path) -> TensorGraph:
    """The inputs and outputs of a file, with a request that it answers.

    Raises
    ------
    ModelError
        It cannot be opened, or an input or output is not a tensor of a known type.
    """
    try:
        session = open_session(str(file))
    except Exception as error:  # noqa: BLE001 - whatever onnxruntime raises on a file
        reason = str(error).splitlines()[0][:300] if str(error) else ""
        raise ModelError(f"{file} cannot be opened: {type(error).__name__}: {reason}") from None
    graph = onnx.load(str(file), load_external_data=False).graph
    ranked = {each.name for each in (*graph.input, *graph.output) if each.type.tensor_type.HasField("shape")}
    inputs = tuple(_tensor(each, ranked, file, "input") for each in session.get_inputs())
    outputs = tuple(_tensor(each, ranked, file, "output") for each in session.get_outputs())
    if not inputs:
        raise ModelError(f"{file} takes no input, so there is nothing to ask it.")
    model = TensorModel(session, Tensors(inputs, outputs))
    asked = _answered_request(model)
    if asked is None:
        why = "no request was found that it answers, so whether its rows are independent is not known"
        return TensorGraph(model.tensors, TensorGolden(None, None, 0.0), why)
    first, again = _outputs(model, asked), _outputs(model, asked)
    tolerance = max((TOLERANCE.get(each.datatype, 0.0) for each in outputs), default=0.0)
    steady = first is not None and again is not None and not _differs(outputs, first, again, tolerance)
    why = (
        _why_not_batched(model, _operators(graph), asked) if steady else "its answers differ from run to run"
    )
    tensors = Tensors(inputs, outputs, batched=not why)
    return TensorGraph(
        tensors, _golden(model, asked, tolerance if steady else math.inf, batched=not why), why
    )


def _tensor(found: Any, ranked: set[str], file: Path, what: str) -> Tensor:
    datatype = DATATYPES.get(found.type)
    if datatype is None:
        raise ModelError(
            f"{file}: its {what} {found.name!r} is {found.type}; expected a tensor of numbers, booleans or "
            "strings. Cast it within the graph."
        )
    shape = None
    if found.shape or found.name in ranked:
        shape = tuple(
            size if isinstance(size, int) and size >= 0 else str(size or "") for size in found.shape
        )
    return Tensor(found.name, datatype, shape)


def _operators(graph: Any) -> set[str]:
    found = set()
    for node in graph.node:
        found.add(node.op_type)
        if any(each.name == "training_mode" and each.i for each in node.attribute):
            found.add("BatchNormalization in training mode")
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                found |= _operators(inner)
    return found


# ---- a request that it answers


def _answered_request(model: TensorModel) -> list[Value] | None:
    for sizes in _sizes(model.tensors):
        for words in WORDS if any(each.datatype == "BYTES" for each in model.tensors.inputs) else WORDS[:1]:
            for ones in (False, True):
                asked = _request(model.tensors, sizes, words, ones=ones)
                if _says_something(model, _outputs(model, asked)):
                    return asked
                if all(each.datatype.startswith("FP") for each in model.tensors.inputs):
                    break
    return None


def _says_something(model: TensorModel, outputs: list[Value] | None) -> bool:
    """Whether each output has elements, and numbers among them: an empty answer would prove nothing."""
    if outputs is None:
        return False
    arrays = [array_of(value, of.datatype) for value, of in zip(outputs, model.tensors.outputs, strict=True)]
    return all(each.size and (each.dtype.kind != "f" or np.isfinite(each).any()) for each in arrays)


def _sizes(tensors: Tensors) -> Iterator[tuple[int, int | None]]:
    """Pairs: the size for open dimensions other than rows, and the size for the channels of images."""
    open_sizes = any(isinstance(size, str) for each in tensors.inputs for size in (each.shape or ("",))[1:])
    images = any(len(each.shape or ()) == 4 for each in tensors.inputs)
    yield from product(
        SIZES if open_sizes else SIZES[:1], CHANNELS if images and open_sizes else CHANNELS[:1]
    )


def _request(
    tensors: Tensors, sizes: tuple[int, int | None], words: tuple[str, ...], *, ones: bool, seed: int = 0
) -> list[Value]:
    random = np.random.default_rng(seed)
    return [
        _made(each.datatype, _shape_of(each, sizes, tensors), words, random, ones=ones)
        for each in tensors.inputs
    ]


def _shape_of(tensor: Tensor, sizes: tuple[int, int | None], tensors: Tensors) -> list[int]:
    """The shape of an input: ROWS for its open rows, and for a size that has the name of rows."""
    if tensor.shape is None:
        return [ROWS, sizes[0]]
    first = {each.shape[0] for each in tensors.inputs if each.shape and isinstance(each.shape[0], str)} - {""}
    found = []
    for place, size in enumerate(tensor.shape):
        if isinstance(size, int):
            found.append(size)
        elif place == 0 or size in first:
            found.append(ROWS)
        elif len(tensor.shape) == 4 and place in {1, 3} and sizes[1] is not None:
            found.append(sizes[1] if place == 1 or isinstance(tensor.shape[1], int) else sizes[0])
        else:
            found.append(sizes[0])
    return found


def _made(
    datatype: str, shape: list[int], words: tuple[str, ...], random: np.random.Generator, *, ones: bool
) -> Value:
    """Elements that most graphs take; whole numbers are 0 and 1, which any vocabulary and mask has."""
    if datatype == "BYTES":
        return value_of(random.choice(np.array(words, object), shape))
    if datatype.startswith("FP"):
        return value_of(random.random(shape).astype(DTYPES[datatype]))
    numbers = np.ones(shape) if ones else random.integers(0, 2, shape)
    return value_of(np.asarray(numbers).astype(DTYPES[datatype]))


def _outputs(model: TensorModel, asked: list[Value]) -> list[Value] | None:
    try:
        (found,) = model.answer([asked])
    except Exception:  # noqa: BLE001 - whatever it raises, also for lack of memory, it does not answer
        return None
    return None if isinstance(found, str) else found


def _golden(model: TensorModel, asked: list[Value], tolerance: float, *, batched: bool) -> TensorGolden:
    if batched and sum(each.size for each in asked) > MAX_GOLDEN_BYTES:
        asked = [each.part(0, 1) for each in asked]
    return TensorGolden(asked, _outputs(model, asked), tolerance)


# ---- whether rows are independent


def _why_not_batched(model: TensorModel, operators: set[str], asked: list[Value]) -> str:
    """Why rows of several requests do not go into one call; "" if each is answered as if it were alone."""
    tensors = model.tensors
    for each in (*tensors.inputs, *tensors.outputs):
        if each.shape is None:
            return f"{each.name!r} has no known shape"
        if not each.shape or isinstance(each.shape[0], int):
            return f"the first size of {each.name!r} is fixed"
    names = {str(each.shape[0]) for each in (*tensors.inputs, *tensors.outputs) if each.shape} - {""}
    taken = {str(each.shape[0]) for each in tensors.inputs if each.shape} - {""}
    if len(taken) > 1:
        return f"the first sizes of its inputs have the names {', '.join(sorted(taken))}"
    sizes = [size for each in tensors.inputs for size in (each.shape or ())[1:]]
    inner = {size for size in sizes if isinstance(size, str)} - {""}
    if names & inner:
        return f"the size {min(names & inner)!r} is also another than the first"
    suspicious = sorted(operators & TOGETHER)
    if suspicious:
        return f"its operator {suspicious[0]} may look at all rows at once"
    return _difference_of_rows(model, asked)


def _difference_of_rows(model: TensorModel, asked: list[Value]) -> str:
    """Rows in one call against each alone, for several requests that differ in size and sign."""
    for scaled in _variants(model.tensors, asked):
        together = _outputs(model, scaled)
        if together is None:
            continue
        for start, stop in ((0, 1), (1, 2), (2, 3), (3, 4), (0, 2), (1, 4)):
            apart = _outputs(model, [each.part(start, stop) for each in scaled])
            if apart is None:
                return "a row alone is refused, and with others it is not"
            for tensor, one, other in zip(model.tensors.outputs, together, apart, strict=True):
                if one.shape[:1] != [ROWS] or other.shape[:1] != [stop - start]:
                    return f"output {tensor.name!r} has not as many rows as the inputs"
                allowed = SAME_ROWS_OF.get(tensor.datatype, SAME_ROWS)
                if difference(one.part(start, stop), other, tensor.datatype, allowed):
                    return f"the rows of output {tensor.name!r} depend on the other rows of a call"
    return ""


def _variants(tensors: Tensors, asked: list[Value]) -> Iterator[list[Value]]:
    """The request, and others of the same shapes whose rows differ in magnitude and sign."""
    yield asked
    for scale in SCALES:
        found = []
        for tensor, value in zip(tensors.inputs, asked, strict=True):
            if not tensor.datatype.startswith("FP"):
                found.append(_rolled(tensor, value, int(scale[1]) % ROWS))
                continue
            array = array_of(value, tensor.datatype)
            by_row = np.array(scale).reshape([ROWS] + [1] * (array.ndim - 1))
            with np.errstate(over="ignore"):
                scaled = (array * by_row).astype(array.dtype)
            found.append(value_of(np.nan_to_num(scaled)))
        yield found


def _rolled(tensor: Tensor, value: Value, by: int) -> Value:
    """Rows of whole numbers and texts in another order, one of them all zeros or alike."""
    array = array_of(value, tensor.datatype).copy()
    if tensor.datatype != "BYTES":
        array[by] = 0
    return value_of(np.roll(array, by, axis=0))


def _differs(outputs: tuple[Tensor, ...], one: list[Value], other: list[Value], tolerance: float) -> bool:
    return any(
        difference(found, expected, each.datatype, tolerance)
        for each, found, expected in zip(outputs, one, other, strict=True)
    )
