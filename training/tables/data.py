"""A use case's table, made uniform: features, labels, who may see what, and which rows are for the test."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from artifact.encode import canonical
from artifact.signature import Kind
from training.settings import METRIC_NAMES, Label, Task, UseCase, fairness_measures, nearest
from training.tables.columns import (
    Cleaned,
    UnfitColumn,
    clean_column,
    clean_labels,
    decide_from_cells,
    names_things,
)
from training.tables.hashes import hash_of, mixed, number_hashes, text_hashes
from training.tables.leaks import leaking_columns
from training.tables.noticed import noticed
from training.tables.raw import DataError, Raw
from training.tables.reading import UNDECIDED, LookAt, Reading
from training.tables.shown import ShownColumn, became_missing, show_column, words_taken_for_missing
from training.tables.sources import read_source

MAX_CLASS_NUMBERS = 12  # whole numbers with more values than this are a regression
MAX_CLASSES = 200
RARE_SHARE = 0.1
FEW_TEST_ROWS = 8  # of a class: what is said of it rests on them
MOST_GROUPS = 0.5  # different values by the row up to which an id's rows are groups
DECIDED_SHARE = 0.9
DISTINCT_ROW_NUMBERS = 0.6  # of the rows; a sample with replacement has 0.63
MIN_MOMENTS = 20
SLICE_RANGES = 4
POSITIVE_WORDS = (
    "true",
    "1",
    "yes",
    "y",
    "t",
    "positive",
    "pos",
    "+",
    "malignant",
    "bad",
    "fraud",
    "churned",
)


@dataclass(frozen=True)
class Note:
    """What a person should know about the data; a warning is for something to look at."""

    level: Literal["info", "warning"]
    column: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.column}: {self.text}" if self.column else self.text


@dataclass(frozen=True)
class Table:
    """A cleaned table.

    Parameters
    ----------
    frame
        The features, (rows, columns). Number: float64 with NaN; category, text: object of `str` or None;
        date: object of ISO 8601 `str` or None.
    target
        Labels as an object array of int, float, bool or str, or float64 for a regression; (rows,). For the
        task "scores" float64 of shape (rows, targets), with no column where there is no target.
    classes
        The labels in order; empty without classes.
    positive
        The label that a binary task is about.
    date_formats
        For date columns that are not ISO 8601: the `strptime` formats of the data.
    marks
        For columns that have such: the texts that stand for a missing value.
    spelling
        For columns whose cells are written in a way of their own: what the signature says of it.
    sensitive
        Text columns to slice by, numbers as ranges; no column where none is sensitive.
    groups, times
        What rows belong together, and when they were; None unless the use case says so.
    ignored
        Columns of the source that are no features.
    row_hashes
        A hash of each row's content, whatever the order of the columns; (rows,).
    digest
        sha256 of the source's content.
    reading
        What was decided for the file as a whole.
    look_at
        The readings that the file leaves open.
    shown
        The first cells of each column that may be a feature, as they are written and as they are read.
    """

    frame: pd.DataFrame
    target: NDArray[Any]
    kinds: dict[str, Kind]
    classes: tuple[Label, ...]
    positive: Label | None
    date_formats: dict[str, tuple[str, ...]]
    sensitive: pd.DataFrame
    groups: NDArray[Any] | None
    times: NDArray[Any] | None
    ignored: tuple[str, ...]
    notes: tuple[Note, ...]
    duplicates: int
    row_hashes: NDArray[np.uint64]
    digest: str
    task: Task
    use_case: UseCase
    marks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    spelling: dict[str, dict[str, Any]] = field(default_factory=dict)
    reading: Reading = UNDECIDED
    look_at: tuple[LookAt, ...] = ()
    shown: tuple[ShownColumn, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return len(self.frame)

    def to_look_at(self, most: int = 8) -> list[str]:
        """What a person should look at before trusting a model of it, a line each."""
        warnings = [f"! {note}" for note in self.notes if note.level == "warning"]
        more = len(warnings) - most
        return warnings[:most] + ([f"! and {more} more: see the data report"] if more > 0 else [])


def load_table(use_case: UseCase) -> Table:
    """Read and clean the table of a use case. Raises DataError in a sentence or two."""
    table = with_few_test_rows(clean_table(read_source(use_case), use_case))
    # What the cells took as text is free now: 320 MB of 780 on 1,000,000 rows of 19 columns.
    pa.default_memory_pool().release_unused()
    return table


def clean_table(raw: Raw, use_case: UseCase) -> Table:
    """Clean a table that has been read; see `load_table`."""
    notes = [Note("info", column, text) for column, text in raw.notes]
    frame, renamed = named(raw.frame)
    notes += [Note("warning", *each) for each in renamed]
    reading = decide_from_cells(frame.drop(columns=[*raw.pictures], errors="ignore"), raw.reading)
    check_named_columns(use_case, list(frame.columns))
    if len(frame) < 2:
        raise DataError(f"{_where(use_case)} has {len(frame)} row: there is nothing to learn from.")
    read_target = _targets if use_case.task == "scores" else _target
    labels, task, frame = read_target(frame, use_case, reading, notes)
    classes = _classes(labels, task, use_case)
    positive = _positive(classes, labels, use_case) if task == "binary" else None
    _check_measures(task, use_case)
    features = _feature_names(frame, use_case, notes, unnamed=is_unnamed(raw.frame.columns[0]))
    found = _Found(notes, list(reading.look_at), pictures=raw.pictures)
    cleaned = _clean_features(frame, features, use_case, reading, found)
    if not cleaned:
        raise DataError(
            f"{_where(use_case)} has no feature column left besides the target: every one is constant, "
            "empty, or left out. Look at leave_out and [kinds]."
        )
    clean = pd.DataFrame({name: column.cells for name, column in cleaned.items()}, copy=False)
    rows = _content_hashes(clean, labels)
    duplicates = _duplicates(rows, use_case, notes)
    found.look_at += noticed(cleaned, duplicates, len(rows))
    return Table(
        frame=clean,
        target=labels,
        kinds={name: column.kind for name, column in cleaned.items()},
        classes=classes,
        positive=positive,
        date_formats={name: column.formats for name, column in cleaned.items() if column.formats},
        sensitive=_slices(frame, use_case, reading),
        groups=_groups(frame, use_case),
        times=_times(frame, use_case, reading),
        ignored=tuple(str(name) for name in frame.columns if name not in cleaned),
        notes=(
            *notes,
            *(Note("warning", *each) for each in found.look_at),
            *_looked_at(clean, labels, task),
            *_hints(frame, cleaned, labels, use_case),
        ),
        duplicates=duplicates,
        row_hashes=rows,
        digest=raw.digest,
        task=task,
        use_case=use_case,
        marks={name: column.marks for name, column in cleaned.items() if column.marks},
        spelling={name: column.spelling for name, column in cleaned.items() if column.spelling},
        reading=reading,
        look_at=tuple(found.look_at),
        shown=tuple(found.shown.values()),
    )


def _check_measures(task: Task, use_case: UseCase) -> None:
    """Raise DataError for a metric or a fairness measure that this task does not have."""
    if use_case.metric is not None and use_case.metric not in METRIC_NAMES[task]:
        raise DataError(
            f'metric is "{use_case.metric}", but {_where(use_case)} is a {task} task: expected one of '
            f"{', '.join(METRIC_NAMES[task])}."
        )
    for measure in use_case.gate.fairness:
        if measure not in fairness_measures(task):
            raise DataError(
                f'gate.fairness bounds "{measure}", but {_where(use_case)} is a {task} task: expected some '
                f"of {', '.join(fairness_measures(task))}."
            )


def _duplicates(rows: NDArray[np.uint64], use_case: UseCase, notes: list[Note]) -> int:
    """How many rows are copies of others, by the hashes of all rows; a note tells it.

    Raises DataError if all rows are copies of one.
    """
    duplicates = len(rows) - len(np.unique(rows))
    if duplicates == len(rows) - 1:
        raise DataError(
            f"All {len(rows)} rows of {_where(use_case)} are the same: there is nothing to learn from."
        )
    if duplicates:
        notes.append(Note("info", None, f"{duplicates:,} rows are copies of others; copies stay on one side"))
    return duplicates


# --------------------------------------------------------------------------------------------- the split


def test_rows(table: Table) -> NDArray[np.bool_]:
    """Which rows are for the test: shape (rows,).

    A row's side is decided by a hash of its own content (or of its group's name) and the salt, or by its
    time: neither the seed, nor the order of the rows, nor any other row has a say, and copies stay together.
    So a small class can fall on one side whole; another `salt` deals anew. Raises DataError where nothing,
    or none of a class, is left to train on.
    """
    use_case = table.use_case
    if table.times is not None:
        test = _latest(table.times, use_case.test_fraction)
    else:
        keys = (
            table.row_hashes
            if table.groups is None
            else text_hashes([canonical(group) for group in table.groups])
        )
        dealt = mixed(keys ^ hash_of(f"salt {use_case.salt}"))
        test = dealt < np.uint64(use_case.test_fraction * 2**64)
    if test.all() or not test.any():
        side = "train" if test.all() else "test"
        raise DataError(
            f"{_where(use_case)} leaves no rows to {side} on, of {len(test)}: change test_fraction or salt."
        )
    for label in table.classes:
        if test[table.target == label].all():
            raise DataError(
                f"All rows of the class {label!r} are test rows, none is left to train on: change salt"
                f"{' or time' if table.times is not None else ''}."
            )
    return test


test_rows.__test__ = False  # type: ignore[attr-defined]  # pytest takes the name for a test


def with_few_test_rows(table: Table) -> Table:
    """The table, with a warning where hardly a row of some class is a test row."""
    try:
        test = test_rows(table)
    except DataError:
        return table  # whoever splits it says so
    few = []
    for label in table.classes:
        of_class = table.target == label
        if (count := int(test[of_class].sum())) < FEW_TEST_ROWS:
            few.append(f"{label!r} ({count} of {int(of_class.sum())})")
    if not few:
        return table
    shown = ", ".join(few[:6]) + (" ..." if len(few) > 6 else "")
    text = f"what is said of these classes rests on few test rows: {shown}"
    return replace(table, notes=(*table.notes, Note("warning", None, text)))


def _latest(times: NDArray[Any], fraction: float) -> NDArray[np.bool_]:
    """The rows after a moment, such that about `fraction` of them are; equal times stay on one side."""
    missing = np.isnat(times) if times.dtype.kind == "M" else np.isnan(times)
    moments, counts = np.unique(times[~missing], return_counts=True)
    later = counts[::-1].cumsum()[::-1] / len(times)
    if len(moments) < 2:
        return np.zeros(len(times), bool)
    first = 1 + int(np.argmin(np.abs(later[1:] - fraction)))
    latest: NDArray[np.bool_] = ~missing & (times >= moments[first])
    return latest


def _content_hashes(frame: pd.DataFrame, target: NDArray[Any]) -> NDArray[np.uint64]:
    """A hash of each row's content, shape (rows,): the same whatever the columns' order."""
    total = np.zeros(len(frame), np.uint64)
    for name in frame.columns:
        values = frame[name].to_numpy()
        hashes = number_hashes(values) if values.dtype.kind == "f" else text_hashes(values)
        total += mixed(hashes ^ hash_of(f"column {name}"))
    if target.ndim > 1:
        for place, values in enumerate(target.T):
            total += mixed(number_hashes(values) ^ hash_of(f"target {place}"))
        return mixed(total)
    labels = number_hashes(target) if target.dtype.kind == "f" else _label_hashes(target)
    return mixed(total + mixed(labels ^ hash_of("target")))


def _label_hashes(target: NDArray[Any]) -> NDArray[np.uint64]:
    """A hash of each label; of texts, each different one is spelt and hashed once."""
    if set(map(type, target)) != {str}:
        return text_hashes([canonical(label) for label in target])
    codes, labels = pd.factorize(target)
    return text_hashes([canonical(label) for label in labels])[codes]


# -------------------------------------------------------------------------------------------- the columns


def named(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[LookAt]]:
    """Give every column a name of its own; of two, who has it to the letter keeps it, else the first."""
    renamed = []
    plain = [" ".join(str(name).split()) or f"column_{i}" for i, name in enumerate(frame.columns, start=1)]
    taken: Counter[str] = Counter()
    names = list(plain)
    for place in sorted(range(len(plain)), key=lambda i: str(frame.columns[i]) != plain[i]):
        wanted = unique = plain[place]
        taken[wanted] += 1
        while taken[wanted] > 1 and (unique == wanted or unique in taken):
            unique = f"{wanted}_{taken[wanted]}"
            taken[wanted] += 1
        if unique != wanted:
            taken[unique] += 1
            renamed.append(LookAt(unique, f'this is another column named "{wanted}": renamed'))
        names[place] = unique
    copy = frame.copy(deep=False)
    copy.columns = pd.Index(names)
    return copy, renamed


def check_named_columns(use_case: UseCase, columns: list[str]) -> None:
    """Refuse a use case that names a column which its table does not have. Raises DataError."""
    named: dict[str, Iterable[str | None]] = {
        "targets" if use_case.targets else "target": [name or None for name in use_case.target_columns],
        "group": [use_case.group],
        "time": [use_case.time],
        "leave_out": use_case.leave_out,
        "sensitive": use_case.sensitive,
        "[kinds]": use_case.kinds,
        "[formats]": use_case.formats,
        "[unknown]": use_case.unknown,
        "[missing]": use_case.missing,
    }
    for key, names in named.items():
        for name in names:
            if name is not None and name not in columns:
                shown = ", ".join(columns[:12]) + (
                    f" and {len(columns) - 12} more" if len(columns) > 12 else ""
                )
                hint = nearest(name, columns)
                raise DataError(
                    f'{key} names the column "{name}", which {_where(use_case)} does not have{hint}; '
                    f"it has {shown}."
                )


NUMBERS_ROWS = "has no name and numbers the rows: left out; to use it, say what it is under [kinds]"


def is_unnamed(name: object) -> bool:
    """Whether a column has no name of its own, or the one that pandas gives to such."""
    return not str(name).strip() or str(name).startswith("Unnamed: ")


def numbers_rows(cells: "pd.Series[Any]") -> bool:
    """Whether a first column without a name holds row numbers, also those of a sample or in another order."""
    numbers = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    if np.isnan(numbers).any() or (numbers != np.round(numbers)).any() or (numbers < 0).any():
        return False
    return len(np.unique(numbers)) >= DISTINCT_ROW_NUMBERS * len(numbers)


def _feature_names(frame: pd.DataFrame, use_case: UseCase, notes: list[Note], *, unnamed: bool) -> list[str]:
    left_out = {*use_case.target_columns, *use_case.leave_out}
    left_out |= {name for name, kind in use_case.kinds.items() if kind == "leave_out"}
    if not use_case.use_sensitive:
        left_out |= set(use_case.sensitive)
    first = str(frame.columns[0])
    if (
        unnamed
        and first not in {*use_case.target_columns, use_case.group, use_case.time, *use_case.kinds}
        and numbers_rows(frame[first])
    ):
        left_out.add(first)
        notes.append(Note("info", first, NUMBERS_ROWS))
    if use_case.group and use_case.group not in use_case.kinds:
        left_out.add(use_case.group)
        notes.append(Note("info", use_case.group, "groups rows in the split, and is no feature"))
    return [str(name) for name in frame.columns if name not in left_out]


@dataclass
class _Found:
    """What cleaning the columns brings to light."""

    notes: list[Note]
    look_at: list[LookAt]
    pictures: tuple[str, ...] = ()
    shown: dict[str, ShownColumn] = field(default_factory=dict)


def _clean_features(
    frame: pd.DataFrame, features: list[str], use_case: UseCase, reading: Reading, found: _Found
) -> dict[str, Cleaned]:
    kept: dict[str, Cleaned] = {}
    ids: dict[str, Cleaned] = {}
    for name in features:
        if name in found.pictures:
            kept[name] = Cleaned("image", frame[name])
            found.shown[name] = show_column(name, frame[name], kept[name])
            continue
        setting = use_case.kinds.get(name)
        wanted: Kind | None = setting if setting in get_args(Kind) else None  # type: ignore[assignment]
        try:
            column = clean_column(frame[name], name, wanted=wanted, reading=reading)
        except UnfitColumn as error:
            raise DataError(f'[kinds] says "{name}" is a {setting}, but it {error}.') from None
        found.notes.extend(Note("info", name, text) for text in column.remarks)
        if said := became_missing(frame[name], column):
            found.notes.append(Note("info", name, said))
        found.look_at += [*column.look_at, *words_taken_for_missing(name, frame[name], column)]
        found.shown[name] = show_column(name, frame[name], column)
        present = column.cells.dropna()
        if present.empty:
            found.notes.append(Note("warning", name, "every cell is missing: left out"))
        elif wanted is None and len(present) == len(column.cells) and (present == present.iloc[0]).all():
            found.notes.append(
                Note("info", name, f"every row has the same value ({str(present.iloc[0])[:40]}): left out")
            )
        elif column.id_like:
            ids[name] = column
        else:
            kept[name] = column
    for name, column in ids.items():
        if kept:
            found.notes.append(
                Note(
                    "warning",
                    name,
                    f"looks like an id ({column.id_like}): left out; to use it, say what it is under [kinds]",
                )
            )
        else:
            found.notes.append(
                Note("warning", name, f"looks like an id ({column.id_like}), kept for want of others")
            )
    kept = kept or ids
    return {name: kept[name] for name in features if name in kept}


# --------------------------------------------------------------------------------------------- the target


def _target(
    frame: pd.DataFrame, use_case: UseCase, reading: Reading, notes: list[Note]
) -> tuple[NDArray[Any], Task, pd.DataFrame]:
    """Labels (or numbers), the task, and the rows that have one."""
    name = use_case.target
    labels, remarks = _labels(frame[name], use_case, reading)
    notes.extend(Note("warning", name, text) for text in remarks)
    keep = np.array([label is not None for label in labels], bool)
    if not keep.any():
        raise DataError(f'The target "{name}" is missing in all {len(labels)} rows of {_where(use_case)}.')
    if not keep.all():
        notes.append(Note("warning", name, f"{int((~keep).sum()):,} rows without a target are left out"))
    for label in use_case.drop_classes:
        same = np.array(
            [there and _same(value, label) for value, there in zip(labels, keep, strict=True)], bool
        )
        if not same.any():
            raise DataError(f'drop_classes names {label!r}, which is no label of "{name}".')
        notes.append(Note("warning", name, f"{int(same.sum()):,} rows of the class {label!r} are left out"))
        keep &= ~same
    labels, frame = labels[keep], frame.loc[keep].reset_index(drop=True)
    distinct = set(labels)
    if len(labels) < 2:
        raise DataError(
            f'{_where(use_case)} has {len(labels)} row with a target "{name}": nothing to learn from.'
        )
    if len(distinct) == 1:
        if len(frame.drop_duplicates()) == 1:
            raise DataError(
                f"All {len(labels)} rows of {_where(use_case)} are the same: nothing to learn from."
            )
        raise DataError(
            f'The target "{name}" is {labels[0]!r} in all {len(labels)} rows: there is nothing to predict.'
        )
    task = use_case.task or guess_task(labels, use_case)
    if task == "multiclass" and len(distinct) == 2:
        notes.append(Note("info", name, "two classes: a binary task"))
        task = "binary"
    if task == "regression":
        return _as_numbers(labels, name, task), task, frame
    return labels, task, frame


def _targets(
    frame: pd.DataFrame, use_case: UseCase, reading: Reading, notes: list[Note]
) -> tuple[NDArray[np.float64], Task, pd.DataFrame]:
    """Numbers of shape (rows, targets), and the rows that have all of them; all rows without targets."""
    found = []
    for name in use_case.targets:
        alone = msgspec.structs.replace(use_case, target=name, task="regression")
        labels, remarks = _labels(frame[name], alone, reading)
        notes.extend(Note("warning", name, text) for text in remarks)
        found.append(np.array([np.nan if label is None else label for label in labels], object))
    values = [
        _as_numbers(labels, name, "scores") for labels, name in zip(found, use_case.targets, strict=True)
    ]
    numbers = np.column_stack(values) if values else np.empty((len(frame), 0))
    keep = np.asarray(np.isfinite(numbers).all(axis=1))
    if not keep.all():
        text = f"{int((~keep).sum()):,} rows without a value of each target are left out"
        notes.append(Note("warning", None, text))
    if keep.sum() < 2:
        raise DataError(
            f"{_where(use_case)} has {int(keep.sum())} rows with a value of each of "
            f"{', '.join(use_case.targets)}: that is too few."
        )
    for name, column in zip(use_case.targets, numbers[keep].T, strict=True):
        if np.ptp(column) == 0:
            raise DataError(f'The target "{name}" is {column[0]:g} in all rows: there is nothing to predict.')
    return numbers[keep], "scores", frame.loc[keep].reset_index(drop=True)


def _labels(cells: "pd.Series[Any]", use_case: UseCase, reading: Reading) -> tuple[NDArray[Any], list[str]]:
    """Labels of the target; numbers with a unit, or but for a few words, as in the features."""
    labels, remarks = clean_labels(cells, reading)
    texts = {label for label in set(labels.tolist()) if isinstance(label, str)}
    if use_case.task in {"binary", "multiclass"} or len(texts) <= MAX_CLASS_NUMBERS:
        return labels, remarks
    column = clean_column(cells, use_case.target, reading=reading)
    if column.kind != "number":
        return labels, remarks
    numbers = column.cells.astype(object).where(column.cells.notna(), None).to_numpy()
    return numbers, [
        text.split(";")[0] for text in (*column.remarks, *(each.text for each in column.look_at))
    ]


def _as_numbers(labels: NDArray[Any], name: str, task: Task) -> NDArray[np.float64]:
    for label in labels:
        if isinstance(label, str):
            raise DataError(
                f'task is "{task}", but the target "{name}" holds the text "{label[:40]}": '
                'expected numbers, or task = "multiclass".'
            )
    return labels.astype(np.float64)


def guess_task(labels: NDArray[Any], use_case: UseCase) -> Task:
    counts = Counter(labels.tolist())
    if len(counts) == 2:
        return "binary"
    first = next(iter(counts))
    if isinstance(first, str):
        if len(counts) > max(20, min(MAX_CLASSES, len(labels) // 2)):
            odd = next((label for label in counts if not any(letter.isdigit() for letter in label)), first)
            raise DataError(
                f'The target "{use_case.target}" holds {len(counts):,} different texts (such as '
                f'"{odd[:40]}") in {len(labels):,} rows: expected numbers or a few labels. '
                'If these are classes, set task = "multiclass".'
            )
        return "multiclass"
    if isinstance(first, float) or len(counts) > MAX_CLASS_NUMBERS:
        return "regression"
    # A number that hardly ever comes back is an amount, not a class.
    return (
        "multiclass"
        if min(counts.values()) >= use_case.folds and len(labels) >= 10 * len(counts)
        else "regression"
    )


def _classes(labels: NDArray[Any], task: Task, use_case: UseCase) -> tuple[Label, ...]:
    if task in {"regression", "scores"}:
        return ()
    counts = Counter(labels.tolist())
    classes = tuple(sorted(counts, key=lambda label: (isinstance(label, str), label)))
    where = f'the target "{use_case.target}" of {_where(use_case)}'
    if task == "binary" and len(classes) != 2:
        shown = ", ".join(repr(label) for label in classes[:6])
        raise DataError(f'task is "binary", but {where} has {len(classes)} values ({shown}): expected two.')
    if len(classes) > MAX_CLASSES:
        raise DataError(
            f'{where} has {len(classes)} classes, more than {MAX_CLASSES}: is task = "regression" meant?'
        )
    few = [label for label in classes if counts[label] < use_case.folds]
    if few:
        shown = ", ".join(f"{label!r} ({counts[label]})" for label in few[:5])
        dropped = f", or leave their rows out with drop_classes = {_toml_list(few)}"
        raise DataError(
            f"Classes of {where} have fewer rows than folds = {use_case.folds}: {shown}. "
            f"Lower folds{dropped if len(classes) - len(few) > 1 else ', or bring more rows'}."
        )
    return classes


def _toml_list(labels: Iterable[Label]) -> str:
    shown = [
        str(x).lower() if isinstance(x, bool) else f'"{x}"' if isinstance(x, str) else str(x) for x in labels
    ]
    return f"[{', '.join(shown)}]"


def _positive(classes: tuple[Label, ...], labels: NDArray[Any], use_case: UseCase) -> Label:
    if use_case.positive is not None:
        for label in classes:
            if _same(label, use_case.positive):
                return label
        shown = " and ".join(repr(label) for label in classes)
        raise DataError(
            f'positive is {use_case.positive!r}, but the labels of "{use_case.target}" are {shown}.'
        )
    return guess_positive(classes, Counter(labels.tolist()))


def guess_positive(classes: tuple[Label, ...], counts: Counter[Any]) -> Label:
    """The label that says yes, else the rarer one."""
    named = [label for label in classes if canonical(label).lower() in POSITIVE_WORDS]
    if len(named) == 1:
        return named[0]
    return min(reversed(classes), key=lambda label: counts[label])


def _same(label: object, other: object) -> bool:
    return canonical(label).casefold() == canonical(other).casefold()


# --------------------------------------------------------------------------- groups, times, slices, warnings


def _groups(frame: pd.DataFrame, use_case: UseCase) -> NDArray[Any] | None:
    if use_case.group is None:
        return None
    column = clean_column(frame[use_case.group], use_case.group, wanted="category")
    if column.cells.isna().any():
        raise DataError(
            f'group is "{use_case.group}", which is missing in {int(column.cells.isna().sum())} rows.'
        )
    return column.cells.to_numpy()


def _times(frame: pd.DataFrame, use_case: UseCase, reading: Reading) -> NDArray[Any] | None:
    if use_case.time is None:
        return None
    column = clean_column(frame[use_case.time], use_case.time, reading=reading)
    if column.kind == "date":
        return pd.to_datetime(column.cells, format="ISO8601").to_numpy("datetime64[s]")
    if column.kind == "number":
        return column.cells.to_numpy()
    shown = column.cells.dropna().iloc[0]
    raise DataError(
        f'time is "{use_case.time}", a column of texts such as "{shown[:40]}": expected dates or numbers.'
    )


def _slices(frame: pd.DataFrame, use_case: UseCase, reading: Reading) -> pd.DataFrame:
    slices: dict[str, Any] = {}
    for name in use_case.sensitive:
        column = clean_column(frame[name], name, reading=reading)
        values = column.cells
        if column.kind == "number" and values.nunique() > 10:
            ranges = pd.qcut(values, SLICE_RANGES, duplicates="drop")
            texts = ranges.map(lambda each: f"{each.left:g} to {each.right:g}").astype(object)
        elif column.kind == "number":
            texts = values.map(canonical, na_action="ignore").astype(object)
        else:
            texts = values.astype(object)
        slices[name] = texts.where(values.notna(), "missing").to_numpy()
    return pd.DataFrame(slices, index=frame.index)


def _looked_at(frame: pd.DataFrame, target: NDArray[Any], task: Task) -> list[Note]:
    """Warnings about the cleaned table as a whole: leaks, classes that are spelt alike, imbalance."""
    if task == "scores":
        return []
    notes = [Note("warning", name, text) for name, text in leaks(frame, target, task)]
    if task != "regression":
        counts = Counter(target.tolist())
        alike: dict[str, list[Any]] = {}
        for label in sorted(counts, key=str):
            alike.setdefault(str(label).casefold(), []).append(label)
        notes += [
            Note("warning", None, f"classes that differ in capitals only: {', '.join(map(repr, labels))}")
            for labels in alike.values()
            if len(labels) > 1
        ]
        label, count = counts.most_common()[-1]
        if count < RARE_SHARE * len(target) and count < 0.5 * len(target) / len(counts):
            share = count / len(target)
            notes.append(
                Note("warning", None, f"imbalanced: the class {label!r} has {share:.1%} of the rows")
            )
    return notes


def same_columns(cleaned: Mapping[str, Cleaned]) -> list[tuple[str, str]]:
    """Columns that are the same as one before them in every row, and what to tell of it."""
    found = []
    same: dict[bytes, str] = {}
    for name, column in cleaned.items():
        if column.cells.nunique() < 2:
            continue
        hashes = pd.util.hash_pandas_object(column.cells, index=False).to_numpy()
        content = hashlib.blake2b(hashes.tobytes()).digest()
        if content in same:
            found.append((name, f'the same as "{same[content]}" in every row'))
        same.setdefault(content, name)
    return found


def leaks(frame: pd.DataFrame, target: NDArray[Any], task: Task) -> list[tuple[str, str]]:
    """Columns that alone all but decide the target, and what to tell of them."""
    return [
        (name, f"alone all but decides the target ({what}): would it be known when you predict?")
        for name, what in leaking_columns(frame, target, task)
    ]


def _hints(
    frame: pd.DataFrame, cleaned: dict[str, Cleaned], target: NDArray[Any], use_case: UseCase
) -> list[Note]:
    """What the table suggests to set and nobody has set, and what is there in vain."""
    notes = []
    if use_case.group is None and target.ndim == 1:
        notes += _group_hints(cleaned, target)
        notes += _time_hints(cleaned) if use_case.time is None else []
    notes += [Note("warning", name, text) for name, text in same_columns(cleaned)]
    for name in use_case.target_columns if target.dtype.kind == "f" else ():
        about = clean_column(frame[name], name)
        if about.id_like:
            text = f"the target looks like an id ({about.id_like}): there may be nothing to learn"
            notes.append(Note("warning", name, text))
    return notes


def _group_hints(cleaned: dict[str, Cleaned], target: NDArray[Any]) -> list[Note]:
    notes = []
    for name, column in cleaned.items():
        if not names_things(name) or column.kind not in {"category", "number"}:
            continue
        if 2 <= column.cells.nunique() <= MOST_GROUPS * len(target) and _decides(column.cells, target):
            text = (
                f"nearly all rows of one {name} have one target: where they are the same thing seen again, "
                f'set group = "{name}", else the model is tested on things that it was trained on'
            )
            notes.append(Note("warning", name, text))
    return notes


def _time_hints(cleaned: dict[str, Cleaned]) -> list[Note]:
    notes = []
    for name, column in cleaned.items():
        moments = column.cells.to_numpy(object) if column.kind == "date" else np.array([])
        if len(set(moments)) < MIN_MOMENTS or column.cells.isna().any():
            continue
        if (moments[1:] >= moments[:-1]).all():
            text = (
                "the rows are in its order: where later rows are to be predicted, set "
                f'time = "{name}", else the model is tested between rows that it was trained on'
            )
            notes.append(Note("warning", name, text))
    return notes


def _decides(cells: "pd.Series[Any]", target: NDArray[Any]) -> bool:
    """Whether nearly all rows with one value, of those that have company, have one target."""
    groups = pd.Series(target).groupby(cells.to_numpy())
    sizes, kinds = groups.transform("size"), groups.transform("nunique")
    several = sizes > 1
    return bool(several.any()) and bool((kinds[several] == 1).mean() >= DECIDED_SHARE)


def _where(use_case: UseCase) -> str:
    path = getattr(use_case.source, "path", None)
    return str(path) if path else f'the data of "{use_case.name}"'
