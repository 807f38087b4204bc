"""A model over tensors as an artifact: no table measures it, and `/v2` serves its tensors as they are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from artifact import canary_bounds, manifest
from artifact.python_model import PythonModel
from artifact.signature import Signature
from training.imported.adoption import Adoption
from training.imported.load import shown_source
from training.imported.seal import copy_model, digest_of, libraries_of
from training.imported.tensor_graph import TensorGraph, read_graph

if TYPE_CHECKING:
    from pathlib import Path

    from artifact.tensors import Tensor, Tensors
    from training.imported.load import Loaded
    from training.pending import Finished
    from training.progress import Progress
    from training.registry.mlflow_registry import Registry
    from training.settings import UseCase

ALGORITHM = "ONNX graph over tensors"
RUNTIME_REASON = "it takes tensors, which onnxruntime scores in a process of its own"
REASON = "unmeasured, as it takes tensors and no table"


def adopt_tensors(
    registry: Registry, use_case: UseCase, *, key: str, folder: Path, progress: Progress, began: str
) -> Finished:
    """Make an artifact of a use case's [model] with `tensors = true`, in `folder`.

    Raises
    ------
    ModelError
        The model cannot be opened, or one of its inputs or outputs is not a tensor.
    RegistryError
    """
    adoption = Adoption(registry, use_case, key, folder, progress, began)
    loaded = adoption.open()
    progress.stage("making tensors that it answers")
    graph = read_graph(loaded.file)
    with adoption.run(task="tensors") as run_id:
        return _sealed(adoption, loaded, graph, run_id)


def _sealed(adoption: Adoption, loaded: Loaded, graph: TensorGraph, run_id: str) -> Finished:
    use_case, folder = adoption.use_case, adoption.folder
    digest = digest_of(loaded.file)
    words = tensor_card(use_case, loaded, graph, digest)
    seal_tensors(folder / "okamochi", use_case, loaded, graph, words, run_id)
    (folder / "pictures").mkdir()
    return adoption.keep(
        run_id,
        algorithm=ALGORITHM,
        loaded=loaded,
        digest=digest,
        params={"inputs": str(len(graph.tensors.inputs)), "outputs": str(len(graph.tensors.outputs))},
        runtime="python",
        reason=RUNTIME_REASON,
        metric="",
        metrics={},
        baseline={},
        unmeasured=REASON,
        card=words,
        table=None,
    )


def seal_tensors(  # noqa: PLR0917 - what was found out so far, each once
    folder: Path, use_case: UseCase, loaded: Loaded, graph: TensorGraph, words: str, run_id: str
) -> None:
    assert use_case.model is not None  # noqa: S101 - only such use cases come here
    folder.mkdir(parents=True)
    spec = PythonModel(
        flavor="onnx",
        file=f"model/{loaded.file.name}",
        inputs=(),
        frame=False,
        method="",
        packages=tuple(loaded.versions),
    )
    copy_model(folder, loaded, spec, use_case.model)
    canary_bounds.write(folder, use_case.canary)
    (folder / manifest.CARD).write_text(words, "utf-8")
    (folder / manifest.GOLDEN_TENSORS).write_bytes(msgspec.msgpack.encode(graph.golden))
    manifest.write(
        folder,
        signature=Signature(task="tensors", target=use_case.target, columns=(), tensors=graph.tensors),
        golden=manifest.Golden(records=[], scores=[], tolerance=0.0),
        name=use_case.name,
        run_id=run_id,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        runtime="python",
        runtime_reason=RUNTIME_REASON,
        algorithm=ALGORITHM,
        metric="",
        metrics={},
        libraries=libraries_of(loaded),
    )


def tensor_card(use_case: UseCase, loaded: Loaded, graph: TensorGraph, digest: str) -> str:
    """The model card: where it is from, what it takes and gives, and how its requests are answered."""
    source = shown_source(use_case, loaded)
    lines = [f"# {use_case.title or use_case.name}", ""]
    lines += [use_case.description, ""] if use_case.description else []
    lines += [
        "## What it is",
        "",
        f"An ONNX graph over tensors, made elsewhere and read from {source} (SHA-256 {digest[:12]}...).",
        "",
        f"onnxruntime scores it in a process of its own. {how_it_is_asked(graph)}",
        "",
        "## How good it is",
        "",
        "It is unmeasured: it takes tensors and no table, so nothing is known of how good it is.",
        "",
    ]
    for title, tensors in (("takes", graph.tensors.inputs), ("gives", graph.tensors.outputs)):
        lines += [f"## What it {title}", "", "| tensor | datatype | shape |", "|---|---|---|"]
        lines += [f"| {each.name.replace('|', '/')} | {each.datatype} | {_shape(each)} |" for each in tensors]
        lines.append("")
    return "\n".join(lines)


def how_it_is_asked(graph: TensorGraph) -> str:
    """A sentence on whether the rows of several requests go into one call, and if not, why."""
    asked = "Rows of several requests go into one call"
    if graph.why_not_batched:
        asked = f"Requests are answered one at a time, since {graph.why_not_batched}"
    return f"{asked}."


def _shape(tensor: Tensor) -> str:
    if tensor.shape is None:
        return "any"
    return f"[{', '.join(_size(size) for size in tensor.shape)}]"


def _size(size: int | str) -> str:
    return str(size) if isinstance(size, int) else (size.replace("|", "/") or "any")


def tensors_toml_lines(tensors: Tensors) -> list[str]:
    """The inputs and outputs as lines for the file of the use case."""
    return [
        f"It {what} {each.name}: {each.datatype} {_shape(each)}"
        for what, some in (("takes", tensors.inputs), ("gives", tensors.outputs))
        for each in some
    ] + _picture_lines(tensors)


def _picture_lines(tensors: Tensors) -> list[str]:
    """[images], where the one input may be a picture: a person decides, and knows mean and classes."""
    shape = tensors.inputs[0].shape or ()
    channels = [place for place in (1, 3) if len(shape) == 4 and shape[place] in {1, 3}]
    if len(tensors.inputs) != 1 or len(channels) != 1:
        return []
    sides = shape[2:] if channels == [1] else shape[1:3]
    size = [side if isinstance(side, int) else 224 for side in sides]
    return [
        "If these are pictures (docs/your-own-model.md#pictures), take the # off these lines, remove",
        "tensors = true, and requests are pictures as files or in base64:",
        "[images]",
        f"size = {size}",
        "mean = [0.485, 0.456, 0.406]",
        "std = [0.229, 0.224, 0.225]",
        'classes = ["first", "second"]',
    ]
