"""A use case file for a person's own table, guessed from the table."""

import dataclasses
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np

from artifact.models_lock import NAME_RULE
from artifact.signature import Signature
from training.settings import (
    REGISTERED,
    USE_CASES,
    KindSetting,
    Label,
    Model,
    Read,
    Task,
    UseCase,
    UseCaseError,
)
from training.tables.columns import clean_labels
from training.tables.data import Note, Table, clean_table, test_rows, with_few_test_rows
from training.tables.preview import column_lines
from training.tables.ratings import Pair, looks_like_ratings
from training.tables.raw import DataError, Raw
from training.tables.shown import not_obvious
from training.tables.sources import read_source, source_of

FOLDS, FEWEST_FOLDS = 5, 2
MAX_DROPPED_SHARE = 0.2
SALTS_TRIED = 50
SHARE_TOLERANCE = 0.04
FAIR_SHARE = 0.75  # of a class's rows that should be test rows, at least so much of them are
MAX_SHOWN = 8
EVEN_SHARE = 0.5  # of an even share: classes rarer than that make accuracy misleading


def write_use_case(
    data_path: str | Path,
    target: str,
    directory: str | Path = ".",
    tell: Callable[[str], None] = lambda _: None,
    *,
    read: Read = Read(),  # noqa: B008 - frozen
    formats: Mapping[str, str] = MappingProxyType({}),
    width: int = 110,
    name: str = "",
    model: Model | None = None,
    kinds: Mapping[str, KindSetting] = MappingProxyType({}),
    leave_out: tuple[str, ...] = (),
    task: Task | None = None,
    targets: tuple[str, ...] = (),
    taken: Callable[[str, Table], bool] = lambda _, __: False,
) -> Path:
    """Write `NAME.toml` for a person's data, NAME being the data file's own, and say in it what was guessed.

    Nothing needs editing before `run`. Raises UseCaseError if the file exists, DataError for data that
    cannot be used.

    Parameters
    ----------
    data_path
        A CSV (also gzipped) or Parquet file.
    directory
        Where the TOML goes; its `path` is relative to it.
    tell
        Called with each line of what a person should look at.
    read, formats
        What the person says of how the file is written.
    width
        Columns of the terminal that `tell` writes to.
    name
        Of the use case, instead of the data file's own.
    model, kinds, leave_out, task, targets
        A model that was made elsewhere, what it says of the columns, and for the task "scores" its targets.
    taken
        Whether a name belongs to another table already.
    """
    data = Path(data_path).expanduser().resolve()
    base = name or name_of(data)
    path = Path(directory).resolve() / f"{base}.toml"
    if path.exists():
        raise UseCaseError(f"{path} exists already: edit it, or move it away to have a new one written.")
    draft = UseCase(
        name=f"my_{base}"[:41] if (USE_CASES / f"{base}.toml").exists() else base,
        target=target,
        targets=targets,
        source=source_of(data),
        folds=FOLDS,
        read=read,
        formats=dict(formats),
        model=model,
        kinds=dict(kinds),
        leave_out=leave_out,
        task=task,
        file=str(path),
    )
    raw = read_source(draft)
    if model is None:
        drop_classes, folds = _rare(raw, draft)
        draft = msgspec.structs.replace(draft, drop_classes=drop_classes, folds=folds)
    table = clean_table(raw, draft)
    if not name and taken(draft.name, table):
        draft = msgspec.structs.replace(draft, name=name_of(data, folder=True))
    draft = msgspec.structs.replace(draft, task=table.task, salt="" if model else _salt(table))
    table = dataclasses.replace(table, use_case=draft)
    if model is None:
        table = with_few_test_rows(table)
    pair = None if model is not None else looks_like_ratings(table)
    path.write_text(_toml(draft, table, os.path.relpath(data, path.parent), pair), encoding="utf-8")
    for line in table.to_look_at():
        tell(line)
    for line in _unobvious(table, width):
        tell(line)
    if pair is not None:
        tell(
            f"These look like ratings of {pair.item} by {pair.query}: [rank] in {path.name}, now a comment, "
            "would rank items for users (docs/recommendation.md)."
        )
    return path


def _unobvious(table: Table, width: int) -> list[str]:
    """The columns that are read otherwise than they are written, or of which something is unsure."""
    columns = not_obvious(table.shown, table.look_at)
    if not columns:
        return []
    lines = ["", "Columns whose reading is not obvious:", *column_lines(columns[:MAX_SHOWN], width)]
    more = len(columns) - MAX_SHOWN
    return [*lines, *([f"and {more} more: see the data report"] if more > 0 else []), ""]


def name_of(data: Path, *, folder: bool = False) -> str:
    """A use case name out of a file name, and the folder's: `Bank-Full (2).csv.gz` gives `bank_full_2`."""
    stem = re.sub(r"(\.(csv|tsv|txt|data|dat|tab|gz|parquet|pq))+$", "", data.name.lower())
    stem = f"{data.parent.name.lower()}_{stem}" if folder else stem
    name = re.sub(r"[^a-z0-9]+", "_", stem).strip("_")
    if not name or not name[0].isalpha():
        name = f"data_{name}".rstrip("_")
    name = name[:41].rstrip("_")
    assert NAME_RULE.fullmatch(name)  # noqa: S101 - so made above
    return name


def _rare(raw: Raw, draft: UseCase) -> tuple[tuple[Label, ...], int]:
    """Classes with fewer rows than folds, where the others make up nearly all of the table, and the folds.

    Where too much would be left out, there are fewer folds.
    """
    places = [i for i, name in enumerate(raw.frame.columns) if str(name).strip() == draft.target]
    if not places:
        return (), FOLDS
    labels, _ = clean_labels(raw.frame.iloc[:, places[0]], raw.reading)
    counts = Counter(labels.tolist())
    counts.pop(None, None)
    if len(counts) > 2 and not all(isinstance(label, str) for label in counts):
        return (), FOLDS  # numbers as uneven as that are a regression
    for folds in range(FOLDS, FEWEST_FOLDS - 1, -1):
        few: list[Any] = sorted((label for label, count in counts.items() if count < folds), key=str)
        left_out = sum(counts[label] for label in few)
        if len(counts) - len(few) >= 2 and left_out <= MAX_DROPPED_SHARE * len(labels):
            return tuple(few), folds
    return (), FOLDS


def _salt(table: Table) -> str:
    """The first salt that deals a fair share of the rows, and rows of every class, to either side.

    It stands in the file from then on, so that a row still never changes sides.
    """
    best, best_cost = "", np.inf
    for number in range(SALTS_TRIED):
        salt = str(number) if number else ""
        dealt = msgspec.structs.replace(table.use_case, salt=salt)
        try:
            test = test_rows(dataclasses.replace(table, use_case=dealt))
        except DataError:
            continue
        # Of a rare class by chance 5 of 40 rows are dealt, and then 8 of 40 by another salt.
        dealt_of = [float(test[table.target == label].mean()) for label in table.classes]
        absent = sum(share == 0 for share in dealt_of)
        short = max((max(0.0, FAIR_SHARE - share / dealt.test_fraction) for share in dealt_of), default=0.0)
        cost = absent + short + max(0.0, abs(float(test.mean()) - dealt.test_fraction) - SHARE_TOLERANCE)
        if cost < best_cost:
            best, best_cost = salt, cost
        if cost == 0:
            break
    return best


def _metric(table: Table) -> tuple[str, str]:
    """The metric to choose a model by, and why."""
    if table.task == "scores":
        return "r2", "the mean over the targets of the share of each one's variance that is explained"
    if table.task == "regression":
        return (
            "r2",
            "the share of the target's variance that is explained; 1 is perfect, 0 is guessing the mean",
        )
    if table.task == "binary":
        return "roc_auc", "how well the rows are ranked, whatever the threshold and however rare a class is"
    counts = Counter(table.target.tolist())
    if min(counts.values()) < EVEN_SHARE * table.rows / len(counts):
        return "log_loss", "classes are uneven, and accuracy would forget the rare ones; lower is better"
    return "accuracy", "the share of rows whose class is right"


def _trials(table: Table) -> int:
    cells = table.frame.shape[0] * table.frame.shape[1]
    return 40 if cells < 100_000 else 30 if cells < 1_000_000 else 20


def _toml(draft: UseCase, table: Table, path: str, pair: Pair | None) -> str:
    metric, why = _metric(table)
    counts = Counter(() if table.task == "scores" else table.target.tolist())
    shares = ", ".join(f"{label} {count / table.rows:.1%}" for label, count in counts.most_common(6))
    shares += " ..." if len(counts) > 6 else ""
    lines = [
        f"# Written from {Path(path).name}: {table.rows:,} rows, {table.frame.shape[1]} features.",
        "# Look it over, then: python -m training run THIS_FILE",
        *(
            _on_one_line(f"# ! {note}")
            for note in table.notes
            if note.level == "warning" and _of_whole(note, draft)
        ),
        "",
        f"name = {_value(draft.name)}",
        f"title = {_value(draft.name.replace('_', ' ').capitalize())}",
        *_target_lines(draft),
        f"task = {_value(table.task)}  # {_task_reason(table, shares)}",
    ]
    if table.task == "binary":
        lines.append(f"positive = {_value(table.positive)}  # the label that it is about")
    if draft.measured:
        lines.append(f"metric = {_value(metric)}  # {why}")
    if draft.model is None:
        lines.append(f"trials = {_trials(table)}")
    if draft.salt:
        lines.append(f"salt = {_value(draft.salt)}  # deals rows of every class to training and test")
    if draft.drop_classes:
        listed = ", ".join(_value(label) for label in draft.drop_classes)
        lines.append(
            f"drop_classes = [{listed}]  # fewer than {draft.folds} rows each: too few to learn and to judge"
        )
    if draft.folds != FOLDS:
        lines.append(f"folds = {draft.folds}  # a class has so few rows; what comes of it is little to go by")
    lines += [
        "# sensitive = []  # columns such as sex or age: no features, but the model is compared across them",
        "",
        "[source]",
        f"kind = {_value(msgspec.to_builtins(draft.source)['kind'])}",
        f"path = {_value(path)}",
        "",
        *_read_lines(draft, table),
        *_model_lines(draft),
        *([] if pair is None else _rank_lines(pair, table)),
        "# What each column is: number, category, text, date or leave_out.",
        "[kinds]",
        *_kind_lines(table),
        "",
        "# What a model must reach to be promoted; without floors, it must beat the one before.",
        "[gate]",
        *(
            [f"# floors = {{ {metric} = {'1.0' if metric == 'log_loss' else '0.7'} }}"]
            if draft.measured
            else []
        ),
        "",
    ]
    return "\n".join(lines)


def _target_lines(draft: UseCase) -> list[str]:
    """The target, or the names of several numbers."""
    if draft.targets:
        return [f"targets = {_value(list(draft.targets))}"]
    return [f"target = {_value(draft.target)}"] if draft.target_columns else []


def unmeasured_toml(draft: UseCase, signature: Signature, examples: Mapping[str, str]) -> str:
    """The file of a model that no table measures.

    Parameters
    ----------
    examples
        Where the example of each column is from.
    """
    lines = [
        "# Written from a model alone: it is served, and no table measures it.",
        "# Look it over, then: make serve USECASES=THIS_FILE",
        "",
        f"name = {_value(draft.name)}",
        f"title = {_value(draft.name.replace('_', ' ').capitalize())}",
        *_target_lines(draft),
        f"task = {_value(signature.task)}",
    ]
    if signature.task == "binary":
        lines.append(f"positive = {_value(signature.positive)}  # the label that it is about")
    if signature.numbers and not draft.targets:
        lines.append(f"# It answers the numbers {', '.join(signature.numbers)} for each row.")
    lines += [
        "",
        *_model_lines(draft),
        "# To measure it, name rows that it was not fitted on, and their column as the target above.",
        "# [source]",
        '# kind = "csv"',
        '# path = "test.csv"',
        "",
        "# What each column is: number, category or text.",
        "[kinds]",
    ]
    for column in signature.columns:
        example = f"for example {str(column.example)[:40]!r}" if isinstance(column.example, str) else ""
        example = example or f"for example {column.example}"
        line = f'{_key(column.name)} = "{column.kind}"  # {example}, {examples[column.name]}'
        lines.append(_on_one_line(line))
    lines += ["", "# What a model must reach to be promoted.", "[gate]", ""]
    return "\n".join(lines)


def _read_lines(draft: UseCase, table: Table) -> list[str]:
    """[read] and [formats]: what was given, and as comments what was found out and why."""
    given = msgspec.to_builtins(draft.read)
    lines = [f"{key} = {_value(value)}" for key, value in given.items() if value not in (None, ())]
    for key, usual in _USUAL.items():
        decided = getattr(table.reading, key)
        if decided is not None and not decided.given and decided.value != usual:
            lines.append(_on_one_line(f"# {key} = {_value(decided.value)}  # found: {decided.reason}"))
    if lines:
        above = (
            "# How the file is written. Comments say what was found out; without the first # it is settled."
        )
        lines = [above, "[read]", *lines, ""]
    if draft.formats:
        lines += ["[formats]", *(f"{_key(name)} = {_value(form)}" for name, form in draft.formats.items())]
        lines.append("")
    return lines


def tensors_toml(draft: UseCase, about: Iterable[str]) -> str:
    """The file of a model that takes tensors; `about` says which, a line each."""
    lines = [
        "# Written from a model alone: it takes tensors, which /v2 serves as they are.",
        "# Look it over, then: make serve USECASES=THIS_FILE",
        "",
        f"name = {_value(draft.name)}",
        f"title = {_value(draft.name.replace('_', ' ').capitalize())}",
        "",
        *(_on_one_line(f"# {line}") for line in about),
        "",
        *_model_lines(draft),
        "# What a model must reach to be promoted.",
        "[gate]",
        "",
    ]
    return "\n".join(lines)


def _rank_lines(pair: Pair, table: Table) -> list[str]:
    """[rank] as comments, where the table looks like ratings: a person decides."""
    changes = [] if table.task == "regression" else ['task = "regression" and metric = "rmse", above']
    changes += [
        f'{_key(name)} = "category", in [kinds]' for name in pair if table.kinds.get(name) != "category"
    ]
    also = "; also set:" if changes else "."
    return [
        _on_one_line(f"# These look like ratings of {pair.item} by {pair.query}. To rank items for users"),
        f"# (docs/recommendation.md), take the # off the lines from [rank] on{also}",
        *(_on_one_line(f"#   {change}") for change in changes),
        "# [rank]",
        _on_one_line(f"# query = [{_value(pair.query)}]"),
        _on_one_line(f"# item = [{_value(pair.item)}]"),
        "",
    ]


def _model_lines(draft: UseCase) -> list[str]:
    """[model], with paths as the file says them."""
    if draft.model is None:
        return []
    folder = Path(draft.file).parent
    source = draft.model.source
    if not source.startswith(REGISTERED):
        source = os.path.relpath(source, folder)
    measured = "every row of the table measures it" if draft.measured else "no table measures it"
    lines = [f"# The model, made elsewhere: {measured}.", "[model]"]
    lines.append(f"source = {_value(source)}")
    if draft.model.trust:
        lines.append("trust = true  # opening it runs what it names")
    if draft.model.tensors:
        lines.append("tensors = true  # served as they are, through /v2")
    if draft.model.code:
        lines.append(f"code = {_value([os.path.relpath(each, folder) for each in draft.model.code])}")
    return [*lines, ""]


_USUAL = {
    "encoding": "utf-8", "delimiter": ",", "quote": '"', "escape": "", "skip_lines": 0, "decimal": None,
    "thousands": None, "day_first": None,
}  # fmt: skip


def _of_whole(note: Note, draft: UseCase) -> bool:
    """Whether a note has no line of a column to stand in."""
    return note.column is None or note.column in draft.target_columns


def _on_one_line(text: str) -> str:
    """Without what a comment of TOML must not hold."""
    return re.sub(r"[\x00-\x1f\x7f]", " ", text).rstrip()


def _task_reason(table: Table, shares: str) -> str:
    if table.task == "scores":
        return "named numbers" if table.use_case.targets else "named numbers, which no column measures"
    if table.task == "regression":
        low, high = float(table.target.min()), float(table.target.max())
        return f"numbers from {low:.10g} to {high:.10g}"
    if table.task == "multiclass" and all(isinstance(label, int) for label in table.classes):
        shares += '; where their order matters, as of counts and grades: "regression"'
    return _on_one_line(shares)


def _kind_lines(table: Table) -> list[str]:
    remarks: dict[str, list[str]] = {}
    for note in table.notes:
        if note.column:
            remarks.setdefault(note.column, []).append(note.text.split(";")[0])
    lines = []
    for name in dict.fromkeys([*table.frame.columns, *table.ignored]):
        if name in table.use_case.target_columns:
            continue
        said = "; ".join(remarks.get(name, []))
        if name in table.kinds:
            cells = table.frame[name]
            facts = _facts(table, name)
            missing = int(cells.isna().sum())
            facts += f", {missing:,} missing" if missing else ""
            line = f'{_key(name)} = "{table.kinds[name]}"  # {facts}{"; " + said if said else ""}'
        else:
            line = f'{_key(name)} = "leave_out"  # {said}'
        lines.append(_on_one_line(line))
    return lines


def _facts(table: Table, name: str) -> str:
    cells = table.frame[name].dropna()
    match table.kinds[name]:
        case "number":
            return f"{cells.min():.10g} to {cells.max():.10g}"
        case "category":
            often = ", ".join(str(value)[:24] for value in cells.value_counts().index[:4])
            count = cells.nunique()
            return f"{count:,} values: {often}{' ...' if count > 4 else ''}"
        case "date":
            return f"{cells.min()} to {cells.max()}"
        case "text":
            return f"for example {str(cells.iloc[0])[:40]!r}"
        case "image":
            return f"{len(cells):,} pictures"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)


def _value(value: object) -> str:
    """As TOML writes it; its strings are JSON's, save for the delete character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
