"""An ONNX file over pictures: its graph behind a row of pixels, and its contract."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from artifact.encode import Encoder
from artifact.kinds.image import cell_of
from artifact.onnx_session import open_session
from artifact.onnx_table import OnnxTable
from artifact.python_model import PythonModel, score_of
from artifact.signature import Column, Pixels, Signature
from training.imported.adoption import Adoption
from training.imported.answers import check_probabilities, reason_of
from training.imported.describe import describe
from training.imported.embedded import check_quick, embedded
from training.imported.exact import Form, no_form
from training.imported.load import ModelError
from training.imported.numbers import named_numbers
from training.imported.onnx_file import last_operator
from training.imported.seal import digest_of
from training.imported.unmeasured import Contract, sealed, with_objective
from training.metrics.metric import DEFAULT_METRIC
from training.onnx.graph import NoExport
from training.onnx.parity import Parity, onnx_score

if TYPE_CHECKING:
    from pathlib import Path

    from training.imported.load import Loaded
    from training.pending import Finished
    from training.progress import Progress
    from training.registry.mlflow_registry import Registry
    from training.settings import PictureInput, UseCase

COLUMN = "image"
INPUT, OUTPUT, PREFIX = "okamochi_pixels", "okamochi_answer", "okamochi_"
FRACTIONS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16}
WHOLE = {TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64}
PROBABILITIES = {"Softmax", "Sigmoid"}
MAX_ANSWERS = 10_000
"""Numbers for a picture: with more of them, as for a mask, a file is served as tensors."""
MADE, SIDE = 6, 16
"""Made pictures for the golden rows, and their side: small ones, as they stand in the artifact."""
EXAMPLE = "made up: no picture is known"
TOLERANCE = 1e-5


class Taken(NamedTuple):
    """What a file's one input is: the size of its picture and how its numbers are made."""

    pixels: Pixels
    nhwc: bool
    bgr: bool
    element: int


def adopt_pictures(
    registry: Registry, use_case: UseCase, *, key: str, folder: Path, progress: Progress, began: str
) -> Finished:
    """Make an artifact of a use case's [model] that takes pictures as [images] says, in `folder`.

    Raises
    ------
    ModelError
        The model cannot be opened, takes no picture, or answers other than [images] says.
    RegistryError
    """
    assert use_case.images is not None  # noqa: S101 - only such use cases come here
    adoption = Adoption(registry, use_case, key, folder, progress, began)
    opened = adoption.open()
    progress.stage("making pictures that it answers")
    loaded, pixels = with_pixels(opened, use_case.images, folder / "pixels")
    contract = contract_of(loaded, pixels, use_case)
    metric = use_case.metric or DEFAULT_METRIC[contract.signature.task]
    with adoption.run(task=contract.signature.task, metric=metric) as run_id:
        form = form_of(loaded.model, contract)
        return sealed(adoption, loaded, contract, metric, run_id, form=form, digest=digest_of(opened.file))


def with_pixels(loaded: Loaded, images: PictureInput, folder: Path) -> tuple[Loaded, Pixels]:
    """The model behind a row of pixels, open: a new file in `folder`.

    Raises
    ------
    ModelError
        Its input is no picture, or [images] says otherwise than the file.
    """
    model = onnx.load(str(loaded.file))
    weights = {each.name for each in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(repr(each.name) for each in inputs)
        raise ModelError(
            f"The file has {len(inputs)} inputs ({names}); [images] is for one input, a picture."
        )
    taken = _taken(inputs[0], images)
    output = _output(model, images)
    _put_in_front(model, inputs[0], taken, images)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / loaded.file.name
    try:
        _put_behind(model, output, images, last_operator(loaded.file, output))
        onnx.save_model(model, str(file))
        table = OnnxTable(file)
    except Exception as error:  # noqa: BLE001 - whatever onnx or onnxruntime raises on a file
        size = f"{taken.pixels.width} x {taken.pixels.height}"
        raise ModelError(f"The file does not answer a picture of {size} pixels: {reason_of(error)}") from None
    return replace(loaded, model=table, file=file), taken.pixels


def _taken(found: onnx.ValueInfoProto, images: PictureInput) -> Taken:
    kind = found.type.tensor_type
    sizes = [each.dim_value for each in kind.shape.dim]
    shown = f"the input {found.name!r} of shape {[size or '?' for size in sizes]}"
    if len(sizes) != 4 or kind.elem_type not in FRACTIONS | WHOLE:
        raise ModelError(
            f"[images] is for a file that takes pictures, [rows, channels, height, width] or "
            f"[rows, height, width, channels] of numbers; this one has {shown}."
        )
    layout = images.layout or _layout(sizes)
    if layout is None:
        raise ModelError(
            f"{shown[4:].capitalize()} does not say which axis has the channels: set images.layout."
        )
    channels, height, width = sizes[1:] if layout == "NCHW" else (sizes[3], sizes[1], sizes[2])
    wanted = {"grey": 1, None: channels or 3}.get(images.channels, 3)
    size = images.size or (height, width)
    if not all(size):
        raise ModelError(f"{shown[4:].capitalize()} leaves the size open: set images.size = [height, width].")
    fits = all(own in {0, said} for own, said in zip((channels, height, width), (wanted, *size), strict=True))
    if not fits or wanted not in {1, 3}:
        raise ModelError(
            f"[images] says {wanted} channels of {size[0]} x {size[1]} pixels in {layout}, and the file has "
            f"{shown}."
        )
    pixels = Pixels(height=size[0], width=size[1], grey=wanted == 1, crop=images.crop)
    return Taken(pixels, layout == "NHWC", images.channels == "BGR", kind.elem_type)


def _layout(sizes: list[int]) -> str | None:
    first, last = sizes[1] in {1, 3}, sizes[3] in {1, 3}
    return None if first == last else ("NCHW" if first else "NHWC")


def _output(model: onnx.ModelProto, images: PictureInput) -> str:
    names = [str(each.name) for each in model.graph.output]
    if images.output is None and len(names) == 1:
        return names[0]
    if images.output is None or images.output not in names:
        said = "" if images.output is None else f"images.output is {images.output!r}; "
        raise ModelError(
            f"{said}the file has the outputs {', '.join(map(repr, names))}: name one as images.output."
        )
    return images.output


class _Nodes:
    """Nodes to add; their constants are nodes too, as in every version of the format."""

    def __init__(self) -> None:
        self.made: list[onnx.NodeProto] = []

    def op(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or f"{PREFIX}{kind.lower()}_{len(self.made)}_{inputs[0] if inputs else ''}"
        self.made.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"{PREFIX}constant_{len(self.made)}"
        tensor = numpy_helper.from_array(np.asarray(values, dtype))
        self.made.append(helper.make_node("Constant", [], [name], name=name, value=tensor))
        return name


def _put_in_front(
    model: onnx.ModelProto, found: onnx.ValueInfoProto, taken: Taken, images: PictureInput
) -> None:
    """Rows of pixels become what the file takes."""
    nodes, pixels = _Nodes(), taken.pixels
    shape = [-1, pixels.height, pixels.width, 1 if pixels.grey else 3]
    x = nodes.op("Reshape", INPUT, nodes.constant(shape, np.int64))
    if taken.bgr:
        x = nodes.op("Gather", x, nodes.constant([2, 1, 0], np.int64), axis=3)
    if taken.element in FRACTIONS:
        # In float64, so that the numbers are those of numpy to the last bit of float32.
        x = nodes.op("Cast", x, to=TensorProto.DOUBLE)
        x = nodes.op("Div", x, nodes.constant(images.scale, np.float64))
        x = nodes.op("Sub", x, nodes.constant(images.mean, np.float64))
        x = nodes.op("Div", x, nodes.constant(images.std, np.float64))
    x = nodes.op("Cast", x, to=taken.element)
    perm = [0, 1, 2, 3] if taken.nhwc else [0, 3, 1, 2]
    nodes.op("Transpose", x, perm=perm, output=found.name)
    rows = found.type.tensor_type.shape.dim[0].dim_value or None
    own, kept = list(model.graph.node), [each for each in model.graph.input if each.name != found.name]
    del model.graph.node[:], model.graph.input[:]
    model.graph.node.extend([*nodes.made, *own])
    model.graph.input.extend(
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [rows, pixels.numbers]), *kept]
    )


def _put_behind(model: onnx.ModelProto, output: str, images: PictureInput, ends_in: str) -> None:
    """One answer of shape (rows, numbers), probabilities where [images] lists classes."""
    nodes = _Nodes()
    x = nodes.op("Cast", nodes.op("Flatten", output, axis=1), to=TensorProto.FLOAT)
    width = _width(model, nodes.made, x)
    if images.classes and ends_in == "LogSoftmax":
        x = nodes.op("Exp", x)
    elif images.classes and ends_in not in PROBABILITIES:
        x = nodes.op("Softmax", x, axis=1) if width > 1 else nodes.op("Sigmoid", x)
    nodes.op("Identity", x, output=OUTPUT)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, width]))
    model.graph.node.extend(nodes.made)


def _width(model: onnx.ModelProto, more: list[onnx.NodeProto], output: str) -> int:
    """How many numbers the file answers for a picture, by asking it."""
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    del asked.graph.output[:]
    asked.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, None]))
    asked.graph.node.extend(more)
    rows, numbers = (each.dim_value for each in model.graph.input[0].type.tensor_type.shape.dim)
    pixels = np.zeros((rows or 1, numbers), np.float32)
    (answered,) = open_session(asked.SerializeToString()).run([output], {INPUT: pixels})
    if len(answered) != len(pixels) or not 0 < answered.shape[1] <= MAX_ANSWERS:
        raise ValueError(
            f"its answer for {len(pixels)} of them has the shape {list(answered.shape)}; expected a row for "
            f"each, of at most {MAX_ANSWERS:,} numbers"
        )
    return int(answered.shape[1])


def contract_of(loaded: Loaded, pixels: Pixels, use_case: UseCase) -> Contract:
    """The contract of a model of `with_pixels`, with made pictures that it answers.

    Raises
    ------
    ModelError
        It answers other than its classes say.
    """
    table: OnnxTable = loaded.model
    images = use_case.images
    assert images is not None  # noqa: S101 - only such use cases come here
    described = with_objective(describe(table), table)
    classes, task = described.classes, described.task or "regression"
    if images.classes:
        classes, task = images.classes, "binary" if len(images.classes) == 2 else "multiclass"
        if table.answers != len(classes) and (table.answers, len(classes)) != (1, 2):
            raise ModelError(
                f"images.classes lists {len(classes)} labels, and the file answers {table.answers} numbers "
                "for a picture."
            )
    positive = use_case.positive if use_case.positive is not None else classes[-1] if classes else None
    cells = _made_pictures()
    try:
        signature = Signature(
            task=task,
            target=use_case.target,
            columns=(Column(name=COLUMN, kind="image", pixels=pixels, mode=cells[0]),),
            classes=classes,
            positive=positive if task == "binary" else None,
            threshold=use_case.threshold if task == "binary" else None,
            sensitive=use_case.sensitive,
        )
    except ValueError as error:
        raise ModelError(f"The model has no contract: {error}.") from None
    spec = PythonModel(
        flavor="onnx",
        file=f"model/{loaded.file.name}",
        inputs=(),
        frame=False,
        method="predict_proba",
        order=tuple(range(len(classes))),
        packages=tuple(loaded.versions),
    )
    records = tuple({COLUMN: cell} for cell in cells)
    rows = Encoder(signature).records(records)
    if not classes:
        spec, signature = named_numbers(table, described, spec, signature, rows, use_case=use_case)
    score = score_of(table, spec, signature)
    scores = score(rows)
    if not np.isfinite(scores).all():
        raise ModelError("The model answers a made picture with a number that is not finite.")
    check_probabilities(signature, scores)
    return Contract(signature, spec, score, records, {COLUMN: EXAMPLE})


def _made_pictures() -> list[str]:
    """Small pictures as cells: grey, and some of random pixels."""
    random = np.random.default_rng(0)
    noise = [random.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for _ in range(MADE)]
    return [cell_of(each) for each in (np.full((SIDE, SIDE, 3), 128, np.uint8), *noise)]


def form_of(table: OnnxTable, contract: Contract) -> Form:
    """The graph for a worker, if a picture is quick enough for one; else the file has its own process."""
    signature = contract.signature
    rows = Encoder(signature).records(contract.records)
    try:
        proto, _ = embedded(table, contract.spec, signature)
        graph = proto.SerializeToString()
        scored = onnx_score(graph)
        check_quick(scored, rows)
        expected = contract.score(rows)
        worst = float(np.abs(expected - scored(rows)).max())
    except NoExport as error:
        return no_form(str(error))
    except Exception as error:  # noqa: BLE001 - a graph that cannot be made or run costs speed, not the model
        return no_form(f"its graph cannot be extended: {reason_of(error)}")
    tolerance = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    parity = Parity(len(rows), worst, tolerance, 0)
    return (
        Form(signature, graph, parity, "") if parity.exact else no_form(f"its graph is not exact: {parity}")
    )
