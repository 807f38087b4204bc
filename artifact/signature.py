"""The contract of a model: its columns, their kinds and policies, its labels."""

from __future__ import annotations

import math
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from artifact.tensors import Tensors  # noqa: TC001 - msgspec reads the type of the field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Kind = Literal["number", "category", "text", "date", "image"]
Task = Literal["binary", "multiclass", "regression", "scores", "tensors"]
DatePart = Literal["year", "month", "day", "weekday", "day_of_year", "hour", "minute", "second"]
TextUnits = Literal["words", "characters", "letters"]
View = Literal["grey", "colour", "gradients", "histogram"]
Label = bool | int | float | str

VIEW_WIDTHS: dict[View, int] = {"grey": 256, "colour": 192, "gradients": 576, "histogram": 28}
"""How many features each view of a picture has; `artifact.kinds.image` makes them."""

TEXT_COUNTS = (
    "characters", "words", "digits", "capitals", "signs", "longest word", "exclamations", "beyond ASCII",
)  # fmt: skip
"""The counts that a text may have as features; `artifact.kinds.text` makes them."""

TIE = 1e-12
"""Scores nearer than this are equal: a forest's votes, added in another order, differ in the last bits."""


class Pixels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a model that was made elsewhere is given a picture: numbers from 0 to 255, row by row of pixels.

    Parameters
    ----------
    height, width
        In pixels.
    grey
        One number for each pixel, its brightness; else red, green and blue.
    crop
        The middle of the picture, in the form of the model's; else all of it, stretched.
    """

    height: int
    width: int
    grey: bool = False
    crop: bool = False

    @property
    def numbers(self) -> int:
        """How many numbers a picture becomes."""
        return self.height * self.width * (1 if self.grey else 3)


class Column(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One column of the raw table, as a client sends it.

    Parameters
    ----------
    missing
        What `null`, an absent key, `""` and `marks` do: refused, or coded as missing.
    marks
        Texts that stood for a missing value in the training table, such as `?`. Of texts only these are
        taken where a number or a date is expected.
    unknown
        What a category that training never saw does: refused, coded as missing, or passed on to a model that
        knows what to do with it: as it is to one that reads raw columns, else as the code after the last.
    whole
        Only whole numbers are taken, since the model fails on others.
    integer
        Every training value was whole, so an example is shown whole.
    minimum, maximum, median
        Of the training rows, for numbers. They describe; no request is refused for them.
    categories
        For categories: canonical spellings; a category's code is its index.
    mode
        For categories: the most frequent one. For texts: a made one, of terms that tell the classes apart.
        For pictures: the mean of the training pictures, small.
    offset
        For numbers: what is taken off each value before the matrix, whose float32 would not tell large values
        apart that lie near each other. The bounds and the median are those of values as sent.
    unit
        For numbers that the training table writes otherwise: what one is, such as "seconds".
    dotted_thousands
        For numbers: texts of the training table have dots between thousands, so no text with a dot is taken.
    terms, idf, ngrams, units
        For text: the vocabulary, its inverse document frequencies, the most words or characters that a term
        has, and which of the two it is made of.
    letters, letter_idf
        For text: runs of letters within words that are features beside the terms, and their inverse document
        frequencies.
    counts
        For text: the counts in `TEXT_COUNTS` are features too.
    parts, formats, middle
        For dates: the calendar parts that are features, the data's own formats (ISO 8601 is always read), and
        a date in the middle of the training rows, in ISO 8601.
    names
        For dates: what the words of the formats mean, such as "M10" for "oktober"; see
        `artifact.kinds.date`.
    latest
        For dates whose year has two digits: the last day that such a date can be, in ISO 8601.
    clock
        For dates: the offset from UTC, such as "+00:00", to which a moment with an
        offset of its own is brought.
    views
        For pictures: the views that give its features, in their order; see `artifact.kinds.image`.
    pixels
        For pictures of a model that was made elsewhere: the pixels that are its features, in place of views.
    """

    name: str
    kind: Kind
    missing: Literal["refuse", "allow"] = "refuse"
    marks: tuple[str, ...] = ()
    unknown: Literal["refuse", "missing", "pass"] = "refuse"
    whole: bool = False
    integer: bool = False
    minimum: float | None = None
    maximum: float | None = None
    median: float | None = None
    offset: float = 0.0
    unit: str = ""
    dotted_thousands: bool = False
    categories: tuple[str, ...] = ()
    mode: str | None = None
    terms: tuple[str, ...] = ()
    idf: tuple[float, ...] = ()
    ngrams: int = 1
    units: TextUnits = "words"
    letters: tuple[str, ...] = ()
    letter_idf: tuple[float, ...] = ()
    counts: bool = False
    parts: tuple[DatePart, ...] = ()
    formats: tuple[str, ...] = ()
    middle: str | None = None
    names: dict[str, str] = {}
    latest: str | None = None
    clock: str | None = None
    views: tuple[View, ...] = ()
    pixels: Pixels | None = None

    @property
    def width(self) -> int:
        """How many columns of the matrix this one becomes."""
        match self.kind:
            case "text":
                return len(self.terms) + len(self.letters) + len(TEXT_COUNTS) * self.counts
            case "date":
                return len(self.parts)
            case "image" if self.pixels is not None:
                return self.pixels.numbers
            case "image":
                return sum(VIEW_WIDTHS[view] for view in self.views)
        return 1

    @property
    def feature_names(self) -> list[str]:
        """The names of its columns of the matrix, `width` of them."""
        if self.kind == "text":
            parts = [*self.terms, *(f"letters {run!r}" for run in self.letters)]
            parts += [f"count of {what}" for what in TEXT_COUNTS] if self.counts else []
            return [f"{self.name}: {part}" for part in parts]
        if self.kind == "date":
            return [f"{self.name}: {part}" for part in self.parts]
        if self.kind == "image" and self.pixels is not None:
            return [f"{self.name}: pixel {i}" for i in range(self.pixels.numbers)]
        if self.kind == "image":
            return [f"{self.name}: {view} {i}" for view in self.views for i in range(VIEW_WIDTHS[view])]
        return [self.name]

    @property
    def example(self) -> float | str | None:
        """A made value that the model accepts: the median, the mode, words that decide, a middle date."""
        if self.kind == "number":
            if self.median is None:
                return 0.0
            return round(self.median) if self.integer else self.median
        if self.kind in {"category", "image"}:
            return self.mode
        if self.kind == "text":
            commonest = sorted(range(len(self.terms)), key=lambda i: self.idf[i])[:4]
            return self.mode or " ".join(self.terms[i] for i in commonest) or "text"
        return self.middle


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """What a model takes and gives.

    Parameters
    ----------
    classes
        The data's own labels, in the order of the columns of the scores; empty without classes.
    numbers
        For the task "scores": the names of the columns of the scores, such as several targets, a label and a
        score of an outlier, or distances to clusters. A row's prediction has a number for each.
    positive
        The label of a binary task whose probability `threshold` applies to.
    threshold
        Null: the label of the highest score, as scikit-learn's `predict` has it. Else `positive` from
        this probability on.
    ignored
        Names that a client may send and that count for nothing: left-out, sensitive and target columns.
    sensitive
        Names, of columns or of ignored ones, whose values no log may hold as they are.
    raw
        The model reads the raw columns itself: a row of its matrix has one cell a column, as it came.
    decided
        The model's own label is not always that of the highest score, so the scores have one more column: the
        index of the label that the model predicts.
    double
        Numbers keep the float64 that was sent, for a model that was fitted on such; else they are rounded to
        float32. A model that reads raw columns gets float64 in any case.
    tensors
        For the task "tensors": what the graph takes and gives. It has no columns, and only `/v2` serves it.
    """

    task: Task
    target: str
    columns: tuple[Column, ...]
    classes: tuple[Label, ...] = ()
    positive: Label | None = None
    threshold: float | None = None
    ignored: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    raw: bool = False
    decided: bool = False
    double: bool = False
    numbers: tuple[str, ...] = ()
    tensors: Tensors | None = None

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if (self.task == "tensors") != (self.tensors is not None):
            raise ValueError('a signature has tensors if, and only if, its task is "tensors"')
        if self.tensors is not None:
            return
        if not names:
            raise ValueError("a signature needs at least one column")
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"columns stand twice in the signature: {', '.join(twice)}")
        if (self.task == "scores") != bool(self.numbers) or len(set(self.numbers)) != len(self.numbers):
            raise ValueError(f"a {self.task} signature has the named numbers {list(self.numbers)}")
        if self.task not in {"regression", "scores"} and len(self.classes) < 2:
            raise ValueError(f"a {self.task} signature needs two classes or more, got {list(self.classes)}")
        if self.task == "binary" and self.positive not in self.classes:
            raise ValueError(f"the positive label {self.positive!r} is not one of {list(self.classes)}")

    @cached_property
    def width(self) -> int:
        """How many columns the matrix has; for tensors, a call and the index of its row."""
        if self.tensors is not None:
            return 2
        return len(self.columns) if self.raw else sum(column.width for column in self.columns)

    @cached_property
    def places(self) -> tuple[slice, ...]:
        """The place of each column in the matrix."""
        widths = [1 if self.raw else column.width for column in self.columns]
        return tuple(slice(end - width, end) for width, end in zip(widths, accumulate(widths), strict=True))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the raw columns, in the order of `features` by position."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def feature_names(self) -> list[str]:
        """The names of the matrix's columns."""
        if self.raw:
            return list(self.names)
        return [name for column in self.columns for name in column.feature_names]

    @cached_property
    def numeric(self) -> bool:
        """Every column is any number as it stands, so that a row is already its line of the matrix."""
        return self.tensors is None and all(
            column.kind == "number" and not column.offset and not column.whole for column in self.columns
        )

    @cached_property
    def pictures(self) -> tuple[str, ...]:
        """The names of the columns that hold pictures; to decode one takes milliseconds."""
        return tuple(column.name for column in self.columns if column.kind == "image")

    @cached_property
    def combinations(self) -> float:
        """The number of distinct rows that the columns can hold; infinite if a column is continuous."""
        found = 1.0
        for column in self.columns:
            if column.kind == "category":
                found *= len(column.categories) + 1
            elif column.kind == "number" and column.integer and column.minimum is not None:
                found *= float(column.maximum or 0) - column.minimum + 1
            else:
                return math.inf
        return found

    @cached_property
    def dtype(self) -> type[np.floating[Any]]:
        """The type that holds each value of the matrix as the model reads it.

        The encoder rounds to float32; a model that was made elsewhere gets numbers as they were sent.
        """
        return np.float64 if self.raw or self.double else np.float32

    @cached_property
    def outputs(self) -> int:
        """How many scores a row has."""
        return len(self.classes) + self.decided or len(self.numbers) or 1

    @cached_property
    def positive_index(self) -> int:
        """The column of the scores that holds the positive label's probability; binary tasks only."""
        return next(i for i, label in enumerate(self.classes) if same_label(label, self.positive))

    @property
    def example(self) -> dict[str, float | str | None]:
        """A made record that the model accepts; never a row of the data."""
        return {column.name: column.example for column in self.columns}


def same_label(one: object, other: object) -> bool:
    """Whether two labels are equal; `True` is not `1`."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def decide(
    signature: Signature, scores: NDArray[np.float64], threshold: float | None = None
) -> NDArray[np.intp]:
    """Index of each row's class in `signature.classes`.

    Parameters
    ----------
    scores
        Shape (rows, outputs).
    threshold
        Binary only: overrides the signature's own, and what the model itself decided.

    Returns
    -------
    Shape (rows,).
    """
    if signature.decided:
        if threshold is None:
            return scores[:, -1].astype(np.intp)
        scores = scores[:, :-1]
    if threshold is None:
        threshold = signature.threshold
    # A model's own library breaks a tie by the last bits, and the served label is the one that it gives.
    tie = 0.0 if signature.raw else TIE
    if threshold is None or signature.task != "binary":
        return pick(scores, tie=tie)
    return pick(scores, threshold, signature.positive_index, tie)


def probabilities(signature: Signature, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The classes' probabilities of scores of shape (rows, outputs)."""
    return scores[:, :-1] if signature.decided else scores


def pick(
    scores: NDArray[np.float64], threshold: float | None = None, positive: int = 1, tie: float = TIE
) -> NDArray[np.intp]:
    """Index of each row's highest score, the first of equals; with a threshold, of what reaches it or not.

    Parameters
    ----------
    scores
        Shape (rows, classes).
    threshold
        For two classes: the score from which `positive` is chosen. Ignored for more classes.
    tie
        Scores nearer than this are equal.

    Returns
    -------
    Shape (rows,).
    """
    if scores.shape[1] != 2:
        first: NDArray[np.intp] = (scores >= scores.max(axis=1, keepdims=True) - tie).argmax(axis=1)
        return first
    if threshold is None:
        return (scores[:, 1] > scores[:, 0] + tie).astype(np.intp)
    return np.where(scores[:, positive] >= threshold - tie, positive, 1 - positive)


def labels(
    signature: Signature, scores: NDArray[np.float64], threshold: float | None = None
) -> Sequence[Label | dict[str, float]]:
    """Predictions of scores of shape (rows, outputs): the data's own labels, numbers, or named numbers."""
    if signature.task == "scores":
        return [dict(zip(signature.numbers, row, strict=True)) for row in scores.tolist()]
    if signature.task == "regression":
        return scores[:, 0].tolist()  # type: ignore[no-any-return]
    classes = signature.classes
    return [classes[i] for i in decide(signature, scores, threshold).tolist()]
