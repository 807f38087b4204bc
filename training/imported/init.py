"""A use case file for a model that was made elsewhere and a table to measure it on."""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from training.imported.contract import NUMBERS, columns_wanted, named_as, unmeasurable
from training.imported.describe import describe
from training.imported.load import FLAVORS, ModelError, NoTableError, open_model
from training.imported.tensor_graph import read_graph
from training.imported.unmeasured import MADE_UP, contract_of
from training.imported.unmeasured_tensors import how_it_is_asked, tensors_toml_lines
from training.registry.mlflow_registry import Registry
from training.settings import REGISTERED, UNMEASURED_TARGET, Model, UseCase, UseCaseError
from training.tables.init import name_of, tensors_toml, unmeasured_toml, write_use_case
from training.tables.sources import read_source, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from training.imported.describe import Described
    from training.imported.load import Loaded
    from training.settings import KindSetting, Read

SHOWN = 8
FEW_NUMBERS = 0.99
"""The part of a column's cells from which on they are numbers with a few slips."""


def is_model(named: str, target: str | None = "") -> bool:
    """Whether `init` is given a model rather than a table; `.txt` and `.json` are tables with a target."""
    if named.startswith(REGISTERED) or (Path(named).is_dir() and (Path(named) / "MLmodel").is_file()):
        return True
    suffix = Path(named).suffix.lower()
    return suffix in FLAVORS and (target is None or suffix not in {".txt", ".json"})


def write_unmeasured_use_case(
    source: str,
    *,
    name: str = "",
    target: str = "",
    trust: bool = False,
    code: Sequence[str] = (),
    directory: str | Path = ".",
    tell: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write `NAME.toml` with [model] and no [source]: the model is served, and nothing measures it.

    Raises
    ------
    ModelError
        The model cannot be opened, or does not say enough of itself.
    UseCaseError, RegistryError
    """
    asked = _asked(source, trust=trust, code=code)
    named = name or _name_of(source)
    path = Path(directory).resolve() / f"{named}.toml"
    if path.exists():
        raise UseCaseError(f"{path} exists already: edit it, or move it away to have a new one written.")
    targets = _several(target)
    draft = UseCase(
        name=named,
        target=target or UNMEASURED_TARGET,
        targets=targets,
        task="scores" if targets else None,
        model=asked,
        file=str(path),
    )
    graph = None
    try:
        with _opened(asked) as loaded:
            graph = loaded.file if loaded.flavor == "onnx" else None
            if loaded.warning:
                tell(f"! {loaded.warning}")
            if graph is not None and not targets:
                _refuse_more_outputs(loaded)
            contract = contract_of(loaded, draft)
    except ModelError as refused:
        if graph is None and not isinstance(refused, NoTableError):
            raise
        return _write_tensors(draft, refused, tell)
    path.write_text(unmeasured_toml(draft, contract.signature, contract.examples), encoding="utf-8")
    made_up = [column for column, said in contract.examples.items() if said == MADE_UP]
    if made_up:
        more = f" and {len(made_up) - SHOWN} more" if len(made_up) > SHOWN else ""
        tell(
            f"! The model does not say what stands in {', '.join(map(repr, made_up[:SHOWN]))}{more}: the "
            "example value is made up, and [kinds] says whether it is a number or a category."
        )
    tell("! No table measures the model, so nothing is known of how good it is.")
    return path


def _several(target: str) -> tuple[str, ...]:
    """The names in `height,weight`; empty for a single name."""
    names = tuple(name.strip() for name in target.split(","))
    return names if len(names) > 1 and all(names) else ()


def _refuse_more_outputs(loaded: Loaded) -> None:
    """Refuse a graph whose further outputs a model of a table would not give."""
    if loaded.model.others:
        raise NoTableError(f"it has the outputs {', '.join(map(repr, loaded.model.others))} as well.")


def _write_tensors(draft: UseCase, refused: ModelError, tell: Callable[[str], None]) -> Path:
    """Write the use case of a graph over tensors, and say why it cannot be a model of a table."""
    assert draft.model is not None  # noqa: S101 - as `draft` was made
    asked = msgspec.structs.replace(draft.model, tensors=True)
    with _opened(asked) as loaded:
        graph = read_graph(loaded.file)
    path = Path(draft.file)
    path.write_text(
        tensors_toml(msgspec.structs.replace(draft, model=asked), tensors_toml_lines(graph.tensors)), "utf-8"
    )
    if not isinstance(refused, NoTableError):
        tell(f"! It cannot be served as a model of a table: {refused}")
    tell(f"! It takes tensors: POST /v2/models/{draft.name}/infer serves them as they are.")
    tell(f"! {how_it_is_asked(graph)}")
    return path


def _asked(source: str, *, trust: bool, code: Sequence[str]) -> Model:
    return Model(
        source=source if source.startswith(REGISTERED) else str(Path(source).expanduser().resolve()),
        trust=trust,
        code=tuple(str(Path(each).expanduser().resolve()) for each in code),
    )


def _name_of(source: str) -> str:
    return name_of(
        Path(re.sub(r"[@:/]+", "_", source) if source.startswith(REGISTERED) else Path(source).stem)
    )


@contextmanager
def _opened(asked: Model) -> Iterator[Loaded]:
    with tempfile.TemporaryDirectory(prefix="okamochi-model-") as folder:
        registry = Registry() if asked.source.startswith(REGISTERED) else None
        yield open_model(asked, registry, Path(folder))


def write_model_use_case(
    source: str,
    data: str,
    target: str | None,
    *,
    name: str = "",
    trust: bool = False,
    code: Sequence[str] = (),
    directory: str | Path = ".",
    tell: Callable[[str], None] = lambda _: None,
    read: Read,
    formats: Mapping[str, str],
    width: int = 110,
) -> Path:
    """Write `NAME.toml` with [model], the columns that the model reads as [kinds], all others left out.

    Raises
    ------
    ModelError
        The model cannot be opened, or it reads a column that the table lacks.
    UseCaseError, DataError, RegistryError
    """
    asked = _asked(source, trust=trust, code=code)
    with _opened(asked) as loaded:
        if loaded.warning:
            tell(f"! {loaded.warning}")
        described = describe(loaded.model)
    table = Path(data).expanduser().resolve()
    named = name or _name_of(source)
    draft = UseCase(
        name=named, target=UNMEASURED_TARGET, source=source_of(table), read=read, formats=dict(formats)
    )
    raw = read_source(draft)
    available = [str(column).strip() for column in raw.frame.columns]
    described = named_as(described, available)
    task, targets = described.task, _several(target or "")
    if target is not None and described.methods:
        raise unmeasurable(described, target)
    if target is None:
        if not _needs_no_target(described, loaded):
            raise UseCaseError("--target is missing; name the column to predict, or several as --target a,b.")
        task = "scores"
        tell("! Without --target no column measures the model: its numbers are served unmeasured.")
    elif targets and target not in available:
        task = "scores"
    else:
        targets = ()
    columns = targets or ((target,) if target is not None else ())
    wanted = columns_wanted(described, available, columns, table.name)
    kinds: dict[str, KindSetting] = {}
    for column in available:
        if column in wanted:
            cells = raw.frame.iloc[:, available.index(column)].tolist()
            dtype = described.dtypes.get(column, described.every) or _dtype(cells)
            kinds[column] = "number" if dtype in NUMBERS and not _is_truth(cells) else "category"
    return write_use_case(
        data,
        ", ".join(columns) or UNMEASURED_TARGET,
        directory,
        tell,
        read=read,
        formats=formats,
        width=width,
        name=named,
        model=asked,
        kinds=kinds,
        leave_out=tuple(column for column in available if column not in {*wanted, *columns}),
        task=task,
        targets=targets,
    )


def _needs_no_target(described: Described, loaded: Loaded) -> bool:
    """Whether no column of a table may have the true values of what a model answers."""
    graph = loaded.flavor == "onnx" and described.task is None
    return bool(described.methods) or graph or described.answers > 1


def _is_truth(cells: Sequence[object]) -> bool:
    """Whether cells are truth values in words, which a model of numbers reads as 1 and 0."""
    found = {str(cell).strip().lower() for cell in cells if cell is not None and cell == cell}  # noqa: PLR0124 - NaN
    return bool(found - {""}) and found <= {"true", "false", ""}


def _dtype(cells: Sequence[object]) -> str:
    """Whether cells are numbers, as `read_csv` would have made them before the model was fitted."""
    there = [str(cell).strip() for cell in cells if cell is not None and cell == cell and str(cell).strip()]  # noqa: PLR0124 - NaN
    numbers = sum(re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", cell) is not None for cell in there)
    return "float" if there and numbers >= FEW_NUMBERS * len(there) else "str"
