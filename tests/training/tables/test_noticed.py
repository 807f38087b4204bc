"""What a person would notice in the values is told, with its count and the key that settles it."""

import numpy as np
import pandas as pd
import pytest

from artifact.encode import Encoder
from training.settings import Csv, Parquet, UseCase
from training.tables.data import Table, load_table, test_rows
from training.tables.float32 import merged_share, offset_of
from training.tables.schema import signature_of

ROWS = 300


def table_of(tmp_path, **columns) -> Table:
    frame = pd.DataFrame(
        {**columns, "z": np.arange(ROWS) % 7, "y": np.where(np.arange(ROWS) % 3, "yes", "no")}
    )
    path = tmp_path / "data.csv"
    frame.to_csv(path, index=False)
    return load_table(UseCase(name="mine", target="y", source=Csv(path=str(path))))


def told(table: Table, column: str | None) -> str:
    return " | ".join(text for name, text in table.look_at if name == column)


def some(random: np.random.Generator, low: int, high: int) -> np.ndarray:
    return random.integers(low, high, ROWS)


@pytest.mark.parametrize(
    ("value", "low", "high"), [(-1, 0, 40), (-999, 5, 90), (999, 10, 80), (9999, 0, 500), (0, 40, 140)]
)
def test_a_number_that_may_stand_for_a_missing_value(tmp_path, value, low, high):
    random = np.random.default_rng(0)
    cells = some(random, low, high)
    cells[::17] = value
    text = told(table_of(tmp_path, a=cells), "a")
    assert f"{value} in {len(cells[::17])} cells" in text
    assert f'missing = ["{value}"] under [read]' in text


@pytest.mark.parametrize(("low", "high"), [(0, 60), (-50, 50), (0, 2000), (900, 1000)])
def test_numbers_that_are_what_they_are(tmp_path, low, high):
    assert told(table_of(tmp_path, a=some(np.random.default_rng(0), low, high)), "a") == ""


@pytest.mark.parametrize("word", ["unknown", "keine Angabe", "неизвестно", "未知"])
def test_a_word_that_may_stand_for_a_missing_value(tmp_path, word):
    cells = np.random.default_rng(0).choice(["red", "green", word], ROWS)
    assert f'missing = ["{word}"] under [read]' in told(table_of(tmp_path, a=cells), "a")


def test_a_column_that_is_another_times_a_number(tmp_path):
    metres = np.random.default_rng(0).uniform(1, 90, ROWS).round(2)
    table = table_of(tmp_path, metres=metres, feet=metres * 3.28084)
    assert '"metres" times 3.28084' in told(table, "feet")


def test_whole_numbers_as_long_as_ids(tmp_path):
    """All different and of eleven digits; amounts are of several lengths."""
    random = np.random.default_rng(0)
    table = table_of(tmp_path, pesel=random.integers(10**10, 10**11, ROWS), a=some(random, 0, 10**11))
    assert "of 11 digits each may be ids" in told(table, "pesel")
    assert "digits each" not in told(table, "a")


def test_whole_numbers_that_may_be_codes(tmp_path):
    table = table_of(tmp_path, branch_code=some(np.random.default_rng(0), 100, 160))
    assert "may be codes" in told(table, "branch_code")


def test_a_category_that_is_nearly_an_id(tmp_path):
    cells = [f"K{i if i % 3 else 0}" for i in range(ROWS)]
    assert "nearly an id" in told(table_of(tmp_path, a=cells), "a")


def test_quotes_that_are_part_of_the_values(tmp_path):
    cells = [f"`{'abc'[i % 3]}x`" for i in range(ROWS)]
    assert "quotes are part of 3 values in 300 cells" in told(table_of(tmp_path, a=cells), "a")


def test_many_equal_rows(tmp_path):
    """Few columns of few values have some by chance."""
    repeated = np.arange(ROWS) % 42
    assert "rows are copies of others" in told(table_of(tmp_path, a=repeated, b=repeated * 5 % 42), None)
    assert told(table_of(tmp_path, a=np.arange(ROWS) % 5), None) == ""


def test_seconds_within_minutes_are_told_apart_by_an_offset(tmp_path):
    """Of the encoding, so a request is read alike."""
    cells = 1_700_000_000 + np.random.default_rng(0).permutation(ROWS)
    table = table_of(tmp_path, counter=cells)
    made = signature_of(table, ~test_rows(table))
    column = made.columns[0]
    assert column.offset > 1_699_999_999
    assert column.minimum is not None
    assert column.minimum >= 1_700_000_000
    matrix = Encoder(made).columns(table.frame)
    assert len(set(matrix[:, 0])) == ROWS
    row = {name: table.frame[name].iloc[0].item() for name in table.frame}
    np.testing.assert_array_equal(Encoder(made).records([row])[0], matrix[0])


def test_an_offset_is_taken_only_where_it_helps():
    random = np.random.default_rng(0)
    assert offset_of(random.normal(size=1000)) == 0
    assert offset_of(random.integers(0, 1000, 1000).astype(float)) == 0
    wide = random.integers(0, 2**40, 1000).astype(float)
    assert offset_of(wide) == 0
    near = 123_456_789 + random.integers(0, 500, 1000).astype(float)
    assert merged_share(near) > 0.5
    assert merged_share(near, offset_of(near)) == 0


def test_whole_numbers_beyond_float64_are_exact_from_parquet(tmp_path):
    """Eight sensors whose ids differ in the last digit are eight categories, in requests too."""
    ids = 1_344_800_117_571_260_400 + np.arange(ROWS) % 8
    frame = pd.DataFrame({"sensor": ids, "n": np.arange(ROWS) % 7, "y": np.arange(ROWS) % 3 % 2})
    frame.to_parquet(tmp_path / "data.parquet")
    table = load_table(UseCase(name="mine", target="y", source=Parquet(path=str(tmp_path / "data.parquet"))))
    assert table.kinds["sensor"] == "category"
    assert table.frame["sensor"].nunique() == 8
    made = signature_of(table, ~test_rows(table))
    one, two = Encoder(made).records([{"sensor": int(ids[0]), "n": 1}, {"sensor": int(ids[1]), "n": 1}])
    assert one[0] != two[0]
