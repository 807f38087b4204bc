"""Writes a made-up table of any number of rows, and tells the best ROC AUC that a model of it can have.

    python -m benchmarks.large_table 1000000 large.csv
    python -m benchmarks.large_table 10000000 large.parquet

18 columns: ten numbers, two of them with gaps, two whole numbers, five categories of 3 to 200 levels and a
day. The target is drawn from a probability that is known, so the best possible figure is known, too.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.metrics import roc_auc_score

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

ROWS_AT_ONCE = 250_000
LEVELS = (3, 6, 12, 40, 200)


def parts(rows: int, seed: int = 0) -> Iterator[tuple[pd.DataFrame, NDArray[np.float64]]]:
    """Parts of the table, and the probability of "yes" in each of their rows."""
    effects = [np.random.default_rng(seed + level).normal(0, 0.4, level) for level in LEVELS]
    for start in range(0, rows, ROWS_AT_ONCE):
        yield _part(min(ROWS_AT_ONCE, rows - start), np.random.default_rng((seed, start)), effects)


def _part(
    rows: int, rng: np.random.Generator, effects: list[NDArray[np.float64]]
) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    numbers = rng.normal(size=(10, rows))
    codes = [rng.integers(0, level, rows) for level in LEVELS]
    counts = rng.poisson(3.0, (2, rows))
    days = rng.integers(0, 730, rows)
    raw = 0.5 * numbers[0] - 0.4 * numbers[1] + 0.5 * numbers[2] * numbers[3] + 0.4 * np.sin(2 * numbers[4])
    raw += 0.3 * (np.abs(numbers[5]) > 1) * (codes[0] - 1) + 0.1 * counts[0] + 0.2 * np.sin(days / 58)
    raw += sum(effect[code] for effect, code in zip(effects, codes, strict=True)) - 0.8
    chance = 1 / (1 + np.exp(-0.86 * raw))
    frame: dict[str, object] = {
        f"number_{i}": np.round(np.exp(values) if i % 3 == 2 else values, 5)
        for i, values in enumerate(numbers, start=1)
    }
    for name in ("number_4", "number_9"):
        frame[name] = np.where(rng.random(rows) < 0.05, np.nan, frame[name])
    frame |= {f"count_{i}": values for i, values in enumerate(counts, start=1)}
    for level, code in zip(LEVELS, codes, strict=True):
        frame[f"kind_of_{level}"] = np.array([f"k{i:03d}" for i in range(level)], object)[code]
    frame["day"] = (np.datetime64("2023-01-01") + days).astype(str)
    frame["answer"] = np.where(rng.random(rows) < chance, "yes", "no")
    return pd.DataFrame(frame), chance


def write(rows: int, path: Path, seed: int = 0) -> float:
    """Write the table as CSV, or as Parquet by its name; the ROC AUC of the probabilities themselves."""
    chances, answers = [], []
    writer = None
    path.unlink(missing_ok=True)
    for frame, chance in parts(rows, seed):
        chances.append(chance)
        answers.append(frame["answer"].to_numpy() == "yes")
        if path.suffix == ".parquet":
            part = pa.Table.from_pandas(frame, preserve_index=False)
            writer = writer or pq.ParquetWriter(path, part.schema)
            writer.write_table(part)
        else:
            frame.to_csv(path, index=False, mode="a", header=not path.exists())
    if writer is not None:
        writer.close()
    return float(roc_auc_score(np.concatenate(answers), np.concatenate(chances)))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("rows", type=int)
    arguments.add_argument("path", type=Path)
    given = arguments.parse_args()
    best = write(given.rows, given.path)
    print(f"{given.path}: {given.rows:,} rows; the best possible ROC AUC is {best:.4f}")
