"""The signature of a model that was made elsewhere: what it knows and a table say."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact.encode import canonical
from artifact.python_model import Input, PythonModel, absent
from artifact.signature import Column, Signature
from training.imported.load import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from artifact.manifest import Score
    from artifact.python_model import Dtype
    from artifact.signature import Label
    from training.imported.describe import Described
    from training.imported.load import Loaded
    from training.tables.data import Table

NUMBERS = frozenset({"float", "float32", "int", "int32"})
"""Types of columns that are numbers."""
TRUTH = frozenset({"true", "false"})
MAX_CATEGORIES = 500
"""Different texts of a column from which on the signature lists none of them."""
SHOWN = 5


def named_as(described: Described, available: Sequence[str]) -> Described:
    """The model with the column names of a table, if its own names have lost their spaces.

    A name of the model that two columns of the table could have is left as it is.
    """
    if not described.spaceless:
        return described
    spaceless = [name.replace(" ", "_") for name in available]
    ours = {
        short: name
        for short, name in zip(spaceless, available, strict=True)
        if spaceless.count(short) == 1 and short in described.names
    }
    return replace(
        described,
        names=tuple(ours.get(name, name) for name in described.names),
        dtypes={ours.get(name, name): dtype for name, dtype in described.dtypes.items()},
        categories={ours.get(name, name): values for name, values in described.categories.items()},
    )


def columns_wanted(
    described: Described, available: Sequence[str], targets: Sequence[str], source: str
) -> tuple[str, ...]:
    """Which columns of a table the model reads, in its order.

    Parameters
    ----------
    available
        All columns of the table, target included.
    source
        What the table is called in an error.

    Raises
    ------
    ModelError
        The table lacks one, or has another number of them than a model that knows no names.
    """
    if described.names and not described.behind:
        lacking = [name for name in described.names if name not in available]
        if lacking:
            more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
            raise ModelError(
                f"The model reads the columns {', '.join(map(repr, lacking[:SHOWN]))}{more}, which "
                f"{source} does not have; "
                f"it has {', '.join(map(repr, available[:20]))}."
            )
        for name in described.names:
            if name in targets:
                raise ModelError(
                    f"The model reads the column {name!r}, so it cannot be a target: name the column of the "
                    "true values of what the model predicts."
                )
        return described.names
    features = tuple(name for name in available if name not in targets)
    if described.columns and len(features) != described.columns:
        beside = f" beside the target {', '.join(map(repr, targets))}" if targets else ""
        raise ModelError(
            f"The model was fitted on an array of {described.columns} columns without names, and {source} "
            f"has {len(features)}{beside}. Name a table that has only the columns that "
            f"it reads, in its order, or name the others as leave_out in the use case."
        )
    return features


def spelt_as(described: Described, classes: Sequence[Any]) -> Described:
    """The model with the table's classes where one has truth values and the other 0 and 1, as XGBoost has."""
    one, other = set(map(canonical, described.classes)), set(map(canonical, classes))
    if {frozenset(one), frozenset(other)} != {TRUTH, frozenset({"0", "1"})}:
        return described
    spelt = {bool(label): label for label in classes}
    return replace(
        described,
        classes=tuple(spelt[bool(label)] for label in described.classes),
        answered=described.classes,
    )


def dtypes_of(described: Described, table: Table, names: Sequence[str]) -> dict[str, Dtype]:
    """The type of each column as the model was fitted on it: an encoder's own, else the table's.

    Raises
    ------
    ModelError
        The model reads numbers where the table has words.
    """
    found: dict[str, Dtype] = {}
    for name in names:
        kind, cells = table.kinds[name], table.frame[name].dropna()
        wanted = described.dtypes.get(name, described.every)
        truth = kind == "category" and set(map(canonical, cells.unique())) <= TRUTH
        if wanted in NUMBERS and truth:
            found[name] = "bool"  # 1 and 0 to a model that reads numbers
            continue
        if wanted in NUMBERS and kind != "number":
            raise ModelError(
                f"The model reads {name!r} as a number, and the table has words there, such as "
                f"{cells.iloc[0]!r}: "
                f'{name} = "number" under [kinds] reads them as numbers where they are.'
            )
        if wanted is not None:
            found[name] = wanted
        elif kind == "number":
            found[name] = "float"
        else:
            found[name] = "bool" if truth else "str"
    return found


def signature_of(described: Described, table: Table, dtypes: dict[str, Dtype]) -> Signature:
    """The signature; columns in the model's order, classes in the table's.

    A model that answers named numbers gets the signature of a regression, which `named_numbers` completes.

    Raises
    ------
    ModelError
        The table and the model disagree about the task or the classes.
    """
    if described.methods and table.task != "scores":
        raise unmeasurable(described, table.use_case.target)
    if described.classes and table.task == "scores":
        raise ModelError(
            'The model predicts classes, but the task is "scores": name the column of the classes as target, '
            "and leave targets and task out."
        )
    wanted = "regression" if table.task == "scores" else table.task  # until its numbers are known
    task = described.task or wanted
    if task != wanted:
        raise ModelError(
            f"The model is for a {task} task, but the target {table.use_case.target!r} of the table makes "
            f"a {table.task} one; "
            f'task = "{task}" in the use case says otherwise.'
        )
    columns = tuple(_column(described, table.frame[name], name, dtype) for name, dtype in dtypes.items())
    classes, positive = table.classes, table.positive
    if described.classes:
        unseen = [
            label for label in table.classes if canonical(label) not in set(map(canonical, described.classes))
        ]
        if unseen:
            raise ModelError(
                f"The table has the class {unseen[0]!r} in {table.use_case.target!r}, which the model "
                f"never saw; "
                f"it knows {', '.join(map(repr, described.classes[:20]))}."
            )
        classes = tuple(map(label_of, described.classes))  # in its own spelling, as it predicts them
        if positive is not None:
            spelt = {canonical(label): label for label in classes}
            positive = spelt[canonical(positive)]
    return Signature(
        task=task,
        target=table.use_case.target,
        columns=columns,
        classes=classes,
        positive=positive,
        threshold=table.use_case.threshold if task == "binary" else None,
        ignored=tuple(name for name in table.ignored if name not in dtypes),
        sensitive=table.use_case.sensitive,
        raw=True,
        decided=described.decides and table.use_case.threshold is None,
    )


def unmeasurable(described: Described, target: str) -> ModelError:
    """The error for a target of a model that answers outlier scores, clusters or an order of rows."""
    if described.ranks:
        return ModelError(
            f"The model ranks: its answers put rows in order, and are no values of the column {target!r}. "
            'Call init with --data and without --target, or write task = "scores" and no target.'
        )
    return ModelError(
        f"The model answers named numbers by {', '.join(described.methods)}, which the column "
        f"{target!r} does not measure: call init with --data and without --target, or write "
        'task = "scores" and no target.'
    )


def label_of(label: Any) -> Label:
    return label if isinstance(label, (bool, int, float, str)) else str(label)


def _column(described: Described, cells: pd.Series[Any], name: str, dtype: Dtype) -> Column:
    seen = cells.dropna()
    if dtype in NUMBERS and name not in described.known:
        values = seen.to_numpy(np.float64)
        if not len(values):
            return Column(name=name, kind="number", missing="allow")
        return Column(
            name=name,
            kind="number",
            missing="allow",
            integer=bool((values == np.round(values)).all()),
            minimum=float(values.min()),
            maximum=float(values.max()),
            median=float(f"{np.median(values):.12g}"),
        )
    counts = Counter(map(canonical, seen.tolist()))
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    listed = dict.fromkeys([*ordered, *map(canonical, described.categories.get(name, ()))])
    known = described.known.get(name)
    if known is not None:  # its encoder refuses all else
        allowed = dict.fromkeys(canonical(value) for value in known if value is not None)
        kept = tuple(dict.fromkeys([*(word for word in ordered if word in allowed), *allowed]))
        mode = kept[0] if kept else None
        return Column(name=name, kind="category", missing="allow", categories=kept, mode=mode)
    encoded = name in described.dtypes  # an encoder reads it, so it is no free text
    if len(ordered) > MAX_CATEGORIES and not encoded:
        words = tuple(dict.fromkeys(ordered[0].split()))[:4]
        return Column(name=name, kind="text", missing="allow", terms=words, idf=(1.0,) * len(words))
    return Column(
        name=name,
        kind="category",
        missing="allow",
        unknown="pass",
        categories=tuple(listed),
        mode=next(iter(listed), None),
    )


def with_missing_refused(signature: Signature, score: Score, rows: NDArray[Any]) -> Signature:
    """The signature that refuses a missing cell wherever the model fails on one, by asking it.

    Parameters
    ----------
    rows
        Some raw rows that the model scores.
    """
    row = next((each for each in rows if not any(absent(cell) for cell in each)), None)
    if row is None:
        return signature
    columns = []
    for place, column in enumerate(signature.columns):
        asked = row.astype(object)
        asked[place] = np.nan if column.kind == "number" else None
        try:
            takes = bool(np.isfinite(score(asked.reshape(1, -1))).all())
        except Exception:  # noqa: BLE001 - whatever the model raises, it does not take the row
            takes = False
        columns.append(column if takes else msgspec.structs.replace(column, missing="refuse"))
    return msgspec.structs.replace(signature, columns=tuple(columns))


def with_fractions_refused(
    signature: Signature, spec: PythonModel, score: Score, rows: NDArray[Any]
) -> Signature:
    """The signature that takes only whole numbers where the model was made for them and fails on others."""
    whole = {each.name for each in spec.inputs if each.dtype in {"int", "int32"}}
    row = next((each for each in rows if not any(absent(cell) for cell in each)), None)
    if row is None:
        return signature
    columns = []
    for place, column in enumerate(signature.columns):
        takes = column.kind != "number" or column.name not in whole
        if not takes:
            asked = row.astype(object)
            asked[place] = float(asked[place]) + 0.5
            try:
                takes = bool(np.isfinite(score(asked.reshape(1, -1))).all())
            except Exception:  # noqa: BLE001 - as above
                takes = False
        columns.append(column if takes else msgspec.structs.replace(column, whole=True))
    return msgspec.structs.replace(signature, columns=tuple(columns))


def spec_of(
    loaded: Loaded, described: Described, signature: Signature, dtypes: dict[str, Dtype]
) -> PythonModel:
    """How a server opens the model and asks it."""
    own = [canonical(label) for label in described.classes]
    order = (
        tuple(own.index(canonical(label)) for label in signature.classes)
        if own
        else tuple(range(len(signature.classes)))
    )
    asked = signature.decided or (described.method == "predict" and not described.probabilities)
    answers_labels = asked and bool(signature.classes) and bool(own)
    return PythonModel(
        flavor=loaded.flavor,
        file=f"model/{loaded.file.name}",
        inputs=tuple(
            Input(name, dtype, tuple(map(label_of, described.categories.get(name, ()))))
            for name, dtype in dtypes.items()
        ),
        frame=described.frame,
        method=described.method,
        methods=described.methods,
        order=order,
        labels=tuple(label_of((described.answered or described.classes)[place]) for place in order)
        if answers_labels
        else (),
        trusted=loaded.trusted,
        packages=tuple(loaded.versions),
        texts=described.texts,
    )
