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


@pytest.mark.parametrize("value", [-999, -9999, -200, 2147483647])
def test_a_number_far_from_the_others_may_stand_for_a_missing_value(tmp_path, value):
    cells = some(np.random.default_rng(0), -15, 35)
    cells[::17] = value
    assert f"{value:g} in {len(cells[::17])} cells" in told(table_of(tmp_path, a=cells), "a")


@pytest.mark.parametrize("codes", [[9], [8, 9], [99], [77, 88, 99]])
def test_codes_above_a_scale_may_stand_for_a_missing_value(tmp_path, codes):
    cells = some(np.random.default_rng(0), 1, 6)
    for place, code in enumerate(codes):
        cells[place::40] = code
    assert f"{codes[-1]} in " in (text := told(table_of(tmp_path, a=cells), "a"))
    assert "may stand for a missing value" in text


def test_a_scale_without_codes_is_told_nothing(tmp_path):
    assert told(table_of(tmp_path, a=some(np.random.default_rng(0), 1, 8)), "a") == ""


@pytest.mark.parametrize(("low", "high"), [(0, 60), (-50, 50), (0, 2000), (900, 1000)])
def test_numbers_that_are_what_they_are(tmp_path, low, high):
    assert told(table_of(tmp_path, a=some(np.random.default_rng(0), low, high)), "a") == ""


@pytest.mark.parametrize(
    "word", ["unknown", "keine Angabe", "неизвестно", "未知", "없음", "ไม่ทราบ", "暂无", "okänd"]
)
def test_a_word_that_may_stand_for_a_missing_value(tmp_path, word):
    cells = np.random.default_rng(0).choice(["red", "green", word], ROWS)
    assert f'missing = ["{word}"] under [read]' in told(table_of(tmp_path, a=cells), "a")


def test_a_column_on_a_straight_line_of_another(tmp_path):
    celsius = np.random.default_rng(0).uniform(1, 30, ROWS).round(2)
    table = table_of(tmp_path, celsius=celsius, fahrenheit=(celsius * 1.8 + 32).round(3))
    assert '"celsius" times 1.8, plus 32' in told(table, "fahrenheit")


def test_categories_in_other_words(tmp_path):
    code = np.random.default_rng(0).choice(["DE", "FR", "IT"], ROWS)
    land = np.array([{"DE": "Germany", "FR": "France", "IT": "Italy"}[each] for each in code])
    table = table_of(
        tmp_path, code=code, land=land, other=np.random.default_rng(1).choice(["a", "b", "c"], ROWS)
    )
    assert 'says in other words what "code" says' in told(table, "land")
    assert told(table, "other") == ""


@pytest.mark.parametrize("plus", [["+"], ["+", "++"], ["+", "+/-"]])
def test_a_minus_beside_a_plus_is_a_value(tmp_path, plus):
    table = table_of(tmp_path, test=np.random.default_rng(0).choice([*plus, "-"], ROWS))
    assert set(table.frame["test"]) == {*plus, "-"}


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        (["M\ufffdnchen", "Köln", "Ulm"], "a letter that could not be read"),
        (["M\\u00fcnchen", "Köln", "Ulm"], "as HTML or a program writes them"),
        (["b'Ulm'", "b'Kiel'", "b'Bonn'"], "as HTML or a program writes them"),
        (["1/2", "3/4", "1 1/2", "2"], "values of two numbers"),
    ],
)
def test_what_stands_in_the_words_is_told(tmp_path, cells, text):
    assert text in told(table_of(tmp_path, a=np.random.default_rng(0).choice(cells, ROWS)), "a")


def test_a_quote_without_an_end_is_told(tmp_path):
    path = tmp_path / "data.csv"
    rows = [f"{['Ulm', 'Kiel'][i % 2]},{i},{'ja' if i % 3 else 'nein'}" for i in range(60)]
    rows[7] = '"' + rows[7]
    path.write_text("\n".join(["town,n,y", *rows]) + "\n")
    table = load_table(UseCase(name="mine", target="y", source=Csv(path=str(path))))
    assert "a quote that has no end" in told(table, "town")


@pytest.mark.parametrize("shape", ["{m} {y}", "{m}. {y}"])
def test_two_months_of_one_year_are_no_date_and_no_crash(tmp_path, shape):
    months = ["Jan-Mar", "Apr-Jun", "Jul-Sep", "Oct-Dec"]
    cells = [shape.format(m=months[i % 4], y=2000 + i % 20) for i in range(ROWS)]
    assert table_of(tmp_path, a=cells).frame["a"].iloc[0] == cells[0]


@pytest.mark.parametrize("name", ["month", "quarter", "Monat", "year_month"])
@pytest.mark.parametrize("step", ["{y}{m:02}", "{y}.{m:02}"])
def test_months_in_numbers_are_told(tmp_path, name, step):
    cells = [step.format(y=2000 + i % 20, m=i % 12 + 1) for i in range(ROWS)]
    assert "stay numbers: write dates" in told(table_of(tmp_path, **{name: cells}), name)


def test_money_in_millions_by_a_small_letter(tmp_path):
    table = table_of(tmp_path, budget=[f"${i % 90 + 1}m" for i in range(ROWS)])
    assert table.frame["budget"].head(3).tolist() == [1e6, 2e6, 3e6]


def test_a_date_that_is_there_only_for_one_class_gives_it_away(tmp_path):
    frame = pd.DataFrame({"z": np.arange(ROWS) % 7, "y": np.where(np.arange(ROWS) % 3, "yes", "no")})
    days = pd.date_range("2020-01-01", periods=ROWS).astype(str)
    frame["cancel_date"] = np.where(frame["y"] == "no", days, "")
    frame.to_csv(tmp_path / "data.csv", index=False)
    table = load_table(UseCase(name="mine", target="y", source=Csv(path=str(tmp_path / "data.csv"))))
    notes = [note.text for note in table.notes if note.column == "cancel_date"]
    assert any("all but decides the target" in text for text in notes)


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
