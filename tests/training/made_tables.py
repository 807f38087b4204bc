"""Small made tables for the tests of training, each as encoded matrix, labels, signature and raw frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from artifact.encode import Encoder, learn_text
from artifact.signature import Column, Signature, Task

LABELS: dict[str, tuple[Any, ...]] = {"binary": ("no", "yes"), "multiclass": (1, 2, 3), "regression": ()}


@dataclass(frozen=True)
class Made:
    matrix: np.ndarray
    labels: np.ndarray
    signature: Signature
    frame: pd.DataFrame


def messy(task: Task, rows: int = 300, seed: int = 0, *, texts: bool = True) -> Made:
    """Numbers (one skewed), categories of few and many levels, a date and a text; with missing cells."""
    rng = np.random.default_rng(seed)
    number, skewed = rng.normal(size=rows), rng.lognormal(2, 1.5, rows)
    few, many = rng.integers(0, 4, rows), rng.integers(0, 30, rows)
    happy = rng.random(rows) < 0.5
    signal = number + np.log(skewed) + few % 2 + 0.5 * (many % 3) + 2 * happy + 0.3 * rng.normal(size=rows)
    said = [["fine day today", "bad sad day"][int(not one)] for one in happy]
    gone = rng.random((rows, 3)) < 0.1
    frame = pd.DataFrame(
        {
            "number": np.where(gone[:, 0], np.nan, number),
            "skewed": skewed,
            "few": pd.Series(
                [None if g else f"f{c}" for c, g in zip(few, gone[:, 1], strict=True)], dtype=object
            ),
            "many": pd.Series(
                [None if g else f"m{c}" for c, g in zip(many, gone[:, 2], strict=True)], dtype=object
            ),
            "day": pd.Series([f"2024-{1 + i % 12:02d}-{1 + i % 28:02d}" for i in range(rows)], dtype=object),
            "said": pd.Series(said, dtype=object),
        }
    )
    if not texts:
        frame = frame.drop(columns="said")
    terms, idf = learn_text(said)
    columns = (
        Column(name="number", kind="number", missing="allow", minimum=-3.0, maximum=3.0, median=0.0),
        Column(name="skewed", kind="number", minimum=0.0, maximum=99.0, median=7.0),
        Column(
            name="few",
            kind="category",
            missing="allow",
            categories=tuple(f"f{i}" for i in range(4)),
            mode="f0",
        ),
        Column(
            name="many",
            kind="category",
            missing="allow",
            unknown="missing",
            categories=tuple(f"m{i}" for i in range(30)),
            mode="m0",
        ),
        Column(name="day", kind="date", parts=("month", "weekday"), middle="2024-06-01"),
        Column(name="said", kind="text", terms=terms, idf=idf),
    )
    classes = LABELS[task]
    if task == "regression":
        labels = signal * 100
    else:
        cuts = np.quantile(signal, np.linspace(0, 1, len(classes) + 1)[1:-1])
        labels = np.array([classes[i] for i in np.digitize(signal, cuts)], object)
    signature = Signature(
        task=task,
        target="outcome",
        columns=columns if texts else columns[:-1],
        classes=classes,
        positive="yes" if task == "binary" else None,
        ignored=("outcome",),
    )
    matrix = Encoder(signature).columns({name: frame[name] for name in signature.names}, lenient=True)
    return Made(matrix, labels, signature, frame)
