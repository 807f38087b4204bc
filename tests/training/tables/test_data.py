"""What is made of tables as strangers publish them, and what is said of those that cannot be used."""

import gzip
import sqlite3
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from tests.training import nasty
from training.settings import (
    Bundled,
    Csv,
    Gate,
    OpenML,
    Parquet,
    Read,
    Sql,
    Synthetic,
    UseCase,
    all_use_cases,
)
from training.tables.data import Table, load_table, test_rows
from training.tables.dialect import find_dialect
from training.tables.raw import DataError


def use(path: Path, target: str = "y", **settings) -> UseCase:
    return UseCase(name="mine", target=target, source=Csv(path=str(path)), **settings)


def csv(folder: Path, text: str | bytes, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def plain(rows: int = 60) -> str:
    return "a,b,y\n" + "".join(f"{i % 7},{i % 5},{'yes' if i % 3 else 'no'}\n" for i in range(rows))


def said(table: Table, column: str | None, level: str = "warning") -> str:
    return " | ".join(note.text for note in table.notes if note.column == column and note.level == level)


def refusal(folder: Path, text: str | bytes, target: str = "y", **settings) -> str:
    with pytest.raises(DataError) as caught:
        load_table(use(csv(folder, text), target, **settings))
    return str(caught.value)


# --------------------------------------------------------------------------------- strangers' tables


def test_adult(tmp_path):
    """Spaces after commas go, `?` is missing, `<=50K.` is `<=50K`."""
    table = load_table(use(nasty.adult(tmp_path), "income"))
    assert table.classes == ("<=50K", ">50K")
    assert table.positive == ">50K"
    assert table.kinds["age"] == "number"
    assert table.kinds["workclass"] == "category"
    assert set(table.frame["workclass"].dropna()) == {"Private", "Self-emp-not-inc", "State-gov"}
    assert table.frame["workclass"].isna().any()
    assert "<=50K." in said(table, "income")


def test_bank(tmp_path):
    """`;` within quotes parts nothing; a constant is left out and said so."""
    table = load_table(use(nasty.bank(tmp_path)))
    assert table.classes == ("no", "yes")
    assert "technician; other" in set(table.frame["job"])
    assert table.kinds["balance"] == "number"
    assert "default" in table.ignored
    assert "same value (no)" in said(table, "default", "info")


def test_titanic(tmp_path):
    """Ids and tickets are left out, names are text, ages stay numbers, the boat gives survivors away."""
    table = load_table(use(nasty.titanic(tmp_path), "Survived"))
    assert table.classes == (0, 1)
    assert table.kinds == {
        "Pclass": "number", "Name": "text", "Sex": "category", "Age": "number", "Fare": "number",
        "Cabin": "category", "Embarked": "category", "boat": "number",
    }  # fmt: skip
    assert {"PassengerId", "Ticket"} <= set(table.ignored)
    assert "looks like an id" in said(table, "Ticket")
    assert "all but decides the target" in said(table, "boat")


def test_house_prices(tmp_path):
    """`NA` is missing, also where it was a level; 80 columns are 77 features; prices are a regression."""
    table = load_table(use(nasty.houses(tmp_path), "SalePrice"))
    assert table.task == "regression"
    assert table.target.dtype == np.float64
    assert table.frame.shape[1] == 77
    assert table.kinds["LotFrontage"] == "number"
    assert set(table.frame["Alley"].dropna()) == {"Pave", "Grvl"}
    assert set(table.frame["MasVnrType"]) == {"None", "BrkFace", "Stone"}


def test_churn(tmp_path):
    """A blank TotalCharges is a missing number; the customer's number is an id."""
    table = load_table(use(nasty.churn(tmp_path), "Churn"))
    assert table.kinds["TotalCharges"] == "number"
    assert table.frame["TotalCharges"].isna().sum() == 6
    assert "customerID" in table.ignored
    assert table.positive == "Yes"


def test_wine_quality(tmp_path):
    """A few whole marks are classes, and stay int."""
    table = load_table(use(nasty.wine_quality(tmp_path), "quality"))
    assert table.task == "multiclass"
    assert table.classes == (4, 5, 6, 7)
    assert all(type(label) is int for label in table.classes)


def test_german_credit(tmp_path):
    """Byte order mark, tabs, thousands commas; single quotes stand around levels and are no part of them."""
    table = load_table(use(nasty.german(tmp_path), "class"))
    assert set(table.frame["checking_status"]) == {"<0", "0<=X<200", "no checking"}
    assert table.kinds["credit_amount"] == "number"
    assert table.frame["credit_amount"].max() > 1000
    assert table.positive == "bad"


def test_bikes(tmp_path):
    """Dates day first are told by the days beyond 12, and are no numbers; `instant` counts rows; gzipped."""
    table = load_table(use(nasty.bikes(tmp_path), "cnt"))
    assert table.kinds["dteday"] == "date"
    assert table.frame["dteday"].iloc[1] == "2011-01-02"
    assert table.date_formats["dteday"] == ("%d-%m-%Y",)
    assert "instant" in table.ignored


def test_a_european_table(tmp_path):
    """Decimal commas, dots for thousands, percent and euro signs, Latin-1, a name twice and one missing."""
    table = load_table(use(nasty.european(tmp_path), "Ergebnis", read=Read(encoding="latin-1")))
    assert table.kinds == {
        "Größe": "number", "Preis": "number", "Anteil": "number", "Datum": "date", "Preis_2": "number",
        "Stadt": "category",
    }  # fmt: skip
    assert 20 <= table.frame["Größe"].min() < table.frame["Größe"].max() <= 200
    assert 1000 <= table.frame["Preis"].min() < table.frame["Preis"].max() <= 9000
    assert set(table.frame["Stadt"].dropna()) == {"Köln", "München"}
    assert "column_1" in table.ignored
    assert "renamed" in said(table, "Preis_2")


# -------------------------------------------------------------------------------------- cells and columns


@pytest.mark.parametrize(
    ("cells", "kind", "first"),
    [
        ([f"{i},{i % 10}00" for i in range(1, 41)], "number", 1.1),
        ([f"${i}.50" for i in range(40)], "number", 0.5),
        ([f"(${i}.50)" for i in range(40)], "number", -0.5),
        ([f"{i % 20}%" for i in range(40)], "number", 0.0),
        ([f"{i}e-3" for i in range(40)], "number", 0.0),
        ([f"+{i % 20}" for i in range(40)], "number", 0.0),
        (["1 234,5"] * 20 + ["2 000,5"] * 20, "number", 1234.5),
        (["1.234.567,50"] * 20 + ["12,25"] * 20, "number", 1234567.5),
        (["3", "5", "unknown", "7"] + ["4"] * 60, "number", 3.0),
        (["inf"] + [str(i) for i in range(40)], "number", None),
        (["007", "012", "345"] * 15, "category", "007"),
        (["True", "False"] * 20, "category", "true"),
        (["1.0", "x"] * 20, "category", "1"),
        ([f"2021-03-{i % 28 + 1:02d}" for i in range(40)], "date", "2021-03-01"),
        ([f"2021-03-{i % 28 + 1:02d} 14:{i:02d}:00" for i in range(40)], "date", "2021-03-01T14:00:00"),
        ([f"2021-03-{i % 28 + 1:02d}T14:{i:02d}:00+09:00" for i in range(40)], "date", "2021-03-01T14:00:00"),
        ([f"{i % 28 + 1}.3.2021" for i in range(40)], "date", "2021-03-01"),
        ([f"3/{i % 28 + 1}/21 2:05 PM" for i in range(40)], "date", "2021-03-01T14:05:00"),
        ([f"{i % 28 + 1:02d}/03/2021 2:05 p.m." for i in range(40)], "date", "2021-03-01T14:05:00"),
        ([f"{i % 28 + 1:02d}/03/2021 12:05:10 a.\u00a0m." for i in range(40)], "date", "2021-03-01T00:05:10"),
        ([f"{i % 28 + 1:02d}-Mar-2021" for i in range(40)], "date", "2021-03-01"),
        ([f"March {i % 28 + 1}, 2021" for i in range(40)], "date", "2021-03-01"),
        ([f"2021{3:02d}{i % 28 + 1:02d}T000000" for i in range(40)], "date", "2021-03-01"),
        ([f"2021-{i % 12 + 1:02d}" for i in range(40)], "date", "2021-01-01"),
        ([f"{i % 24:02d}:30" for i in range(40)], "date", "1900-01-01T00:30:00"),
        (["2021-03-01", "01.04.2021"] * 20, "date", "2021-03-01"),
        ([str(2000 + i % 20) for i in range(40)], "number", 2000.0),
        ([f"1.2.{i}" for i in range(3)] * 14, "category", "1.2.0"),
    ],
)
def test_cells_of_a_kind(tmp_path, cells, kind, first):
    """The kind that a person would say, and the cells as a person would read them."""
    rows = "".join(f'"{cell}";{i * i % 11};{i % 2}\n' for i, cell in enumerate(cells))
    delimited = csv(tmp_path, "c;d;y\n" + rows)
    table = load_table(use(delimited))
    assert table.kinds["c"] == kind
    value = table.frame["c"].iloc[0]
    assert value == first or (first is None and np.isnan(value))


@pytest.mark.parametrize(
    "word", ["?", "NA", "N/A", "n/a", "null", "NULL", "", "  ", "-", "nan", "NaN", "#N/A"]
)
def test_words_for_missing(tmp_path, word):
    """In a column of numbers as in one of categories."""
    rows = "".join(
        f"{word if i == 3 else i % 7},{word if i == 4 else 'ab'[i % 2]},{i % 3 % 2}\n" for i in range(60)
    )
    table = load_table(use(csv(tmp_path, "n,c,y\n" + rows)))
    assert table.kinds == {"n": "number", "c": "category"}
    assert np.flatnonzero(table.frame["n"].isna()).tolist() == [3]
    assert np.flatnonzero(table.frame["c"].isna()).tolist() == [4]


@pytest.mark.parametrize(
    ("unit", "first"),
    [
        ("{:.1f} kg", 0.5),
        ("{:,.0f} sq. ft", 500.0),
        ("{:.2f}km", 0.5),
        ("{:.1f} °C", 0.5),
        ("-{:.1f} mm", -0.5),
    ],
)
def test_numbers_with_one_unit_are_numbers(tmp_path, unit, first):
    """Whatever the unit, written with or without a space; some cells have none of it."""
    scale = 1000 if "," in unit else 1
    cells = [unit.format((i + 0.5) * scale) for i in range(60)]
    cells[7] = cells[7].replace(" ", "")
    cells[9] = ""
    rows = "".join(f'"{cell}",{i % 5},{i % 2}\n' for i, cell in enumerate(cells))
    table = load_table(use(csv(tmp_path, "size,b,y\n" + rows)))
    assert table.kinds["size"] == "number"
    assert table.frame["size"][0] == first
    assert table.frame["size"].isna().sum() == 1
    assert "without their" in said(table, "size", "info")


def test_units_that_convert_are_brought_to_one_and_told(tmp_path):
    """800 g is less than 1.2 kg: both in the unit that most cells have."""
    rows = "".join(f"{i // 2 + 1}{' kg' if i % 3 else ' g'},{i % 5},{i % 2}\n" for i in range(120))
    table = load_table(use(csv(tmp_path, "size,b,y\n" + rows)))
    assert table.kinds["size"] == "number"
    assert table.frame["size"][:2].tolist() == [0.001, 1]
    assert "1 g = 0.001 kg" in said(table, "size")


def test_units_that_do_not_convert_are_told(tmp_path):
    """No kilogram is a metre."""
    rows = "".join(f"{i // 2 + 1}{' kg' if i % 3 else ' m'},{i % 5},{i % 2}\n" for i in range(120))
    table = load_table(use(csv(tmp_path, "size,b,y\n" + rows)))
    assert table.kinds["size"] == "category"
    assert "do not convert" in said(table, "size")


def test_few_numbers_with_a_unit_are_amounts(tmp_path):
    """As the terms of a loan, 36 or 60 months."""
    rows = "".join(f"{36 if i % 3 else 60} months,{i % 5},{i % 2}\n" for i in range(90))
    assert load_table(use(csv(tmp_path, "term,b,y\n" + rows))).kinds["term"] == "number"


@pytest.mark.parametrize("odd", ["UNKNOWN", "02134-1234"])
def test_codes_stay_codes_though_a_few_are_none(tmp_path, odd):
    """A zip code loses its zero as a number, and its order means nothing."""
    rows = "".join(f"{odd if i == 5 else f'{501 + 37 * (i % 60):05}'},{i % 5},{i % 2}\n" for i in range(200))
    assert load_table(use(csv(tmp_path, "zip,b,y\n" + rows))).kinds["zip"] == "category"


def test_words_for_yes_and_no_that_are_kept_apart_are_told(tmp_path):
    """As a feature and as the target."""
    words = ("yes", "Y", "no", "N")
    rows = "".join(f"{words[i % 4]},{i % 5},{words[(i // 4) % 4]}\n" for i in range(160))
    table = load_table(use(csv(tmp_path, "smoker,b,y\n" + rows)))
    assert "N, Y, no, yes" in said(table, "smoker")
    assert "N, Y, no, yes" in said(table, "y")


@pytest.mark.parametrize("word", ["unknown", "n.a."])
def test_a_target_of_numbers_but_for_a_word_is_a_regression(tmp_path, word):
    """Its rows are left out, as rows without a target are, and that is said."""
    rows = "".join(f"{i % 7},{i % 5},{word if i % 50 == 7 else i * 1.5}\n" for i in range(150))
    table = load_table(use(csv(tmp_path, "a,b,y\n" + rows)))
    assert (table.task, table.rows) == ("regression", 147)
    assert f'"{word}"' in said(table, "y")
    assert "3 rows without a target" in said(table, "y")


def test_the_column_that_has_the_very_name_is_the_target(tmp_path):
    """Of `y ` and `y` the second, though it stands behind."""
    rows = "".join(f"{i}.5,{i % 5},{'a' if i % 2 else 'b'}\n" for i in range(60))
    table = load_table(use(csv(tmp_path, "y ,b,y\n" + rows)))
    assert table.classes == ("a", "b")
    assert "y_2" in table.kinds


def test_a_group_that_decides_the_target_is_hinted_at(tmp_path):
    """The visits of a patient are all sick or all healthy; with `group` set there is nothing to say."""
    rows = "".join(f"{1000 + i // 5},{i % 7},{'sick' if (i // 5) % 3 else 'well'}\n" for i in range(300))
    path = csv(tmp_path, "patient_id,b,y\n" + rows)
    assert 'group = "patient_id"' in said(load_table(use(path)), "patient_id")
    assert "group =" not in said(load_table(use(path, group="patient_id")), "patient_id")


def test_rows_in_the_order_of_a_date_are_hinted_at(tmp_path):
    """Not where the order is another, nor where `time` is set."""
    days = [f"2024-{1 + i // 28:02}-{1 + i % 28:02}" for i in range(100)]
    table = "day,b,y\n" + "".join(f"{day},{i % 5},{i % 2}\n" for i, day in enumerate(days))
    path = csv(tmp_path, table)
    assert 'time = "day"' in said(load_table(use(path)), "day")
    assert "time =" not in said(load_table(use(path, time="day")), "day")
    mixed = csv(
        tmp_path, "day,b,y\n" + "".join(f"{days[i * 37 % 100]},{i % 5},{i % 2}\n" for i in range(100))
    )
    assert "time =" not in said(load_table(use(mixed)), "day")


def test_a_column_that_is_there_twice_is_told(tmp_path):
    rows = "".join(f"{i % 7},{i % 7},{i % 5},{i % 2}\n" for i in range(60))
    table = load_table(use(csv(tmp_path, "a,again,b,y\n" + rows)))
    assert 'the same as "a"' in said(table, "again")


def test_a_target_that_numbers_the_rows_is_told(tmp_path):
    rows = "".join(f"{i % 7},{i % 5},{1000 + i}\n" for i in range(60))
    assert "looks like an id" in said(
        load_table(use(csv(tmp_path, "a,b,customer_id\n" + rows), "customer_id")), "customer_id"
    )


def test_a_class_of_few_test_rows_is_told(tmp_path):
    """5 of 30 rows say little about the class."""
    rows = "".join(f"{i % 7},{i % 5},{'rare' if i % 20 == 0 else 'usual'}\n" for i in range(400))
    assert "'rare' (" in said(load_table(use(csv(tmp_path, "a,b,y\n" + rows))), None)
    assert "'usual' (" not in said(load_table(use(csv(tmp_path, "a,b,y\n" + rows))), None)


def test_excels_line_of_the_separator(tmp_path):
    """`sep=;` above the header, as Excel writes it."""
    table = load_table(use(csv(tmp_path, "sep=;\r\n" + plain().replace(",", ";"))))
    assert list(table.frame) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"a": 1, "y": 2}\n{"a": 2, "y": 3}\n', "JSON"),
        ('[\n {"a": 1, "y": 2}\n]\n', "JSON"),
        ('[{"a": 1}, {"a": 2}]', "JSON"),
        ("<!DOCTYPE html>\n<html><body>404</body></html>\n", "HTML"),
    ],
)
def test_what_is_no_table_is_called_by_its_name(tmp_path, text, what):
    said = refusal(tmp_path, text)
    assert what in said
    assert "expected delimited text" in said


def test_a_decimal_comma_in_one_column_is_one_in_the_next(tmp_path):
    """`"0,75"` in a comma file is three quarters, so `"2,001"` beside it is no 2001."""
    rows = "".join(f'"{i + 1},{i:03d}","0,{i:02d}",{i % 2}\n' for i in range(60))
    table = load_table(use(csv(tmp_path, "a,b,y\n" + rows)))
    assert table.frame["a"].iloc[1] == 2.001
    assert table.frame["b"].iloc[25] == 0.25


def test_ambiguous_dates_go_by_the_order_of_the_rows(tmp_path):
    """Rows that go forward by days say which is the day; else the month comes first, with a warning."""
    forward = "d,a,y\n" + "".join(
        f"{i % 12 + 1:02d}/{i // 12 + 1:02d}/2020,{i % 7},{i % 3 % 2}\n" for i in range(48)
    )
    assert load_table(use(csv(tmp_path, forward))).frame["d"].iloc[1] == "2020-01-02"
    mixed = "d,a,y\n" + "".join(
        f"{i * 5 % 12 + 1:02d}/{i * 7 % 11 + 1:02d}/2020,{i % 7},{i % 3 % 2}\n" for i in range(60)
    )
    table = load_table(use(csv(tmp_path, mixed)))
    assert "possible too" in said(table, "d")


def test_compact_dates_under_their_name(tmp_path):
    """20140513 in a column called date is a day, and elsewhere too, which is told."""
    rows = "".join(f"201405{i % 28 + 1:02d},201405{i % 27 + 1:02d},{i % 3 % 2}\n" for i in range(60))
    table = load_table(use(csv(tmp_path, "sale_date,code,y\n" + rows)))
    assert table.kinds == {"sale_date": "date", "code": "date"}
    assert [each.column for each in table.look_at if "read as dates" in each.text] == ["code"]
    assert table.frame["sale_date"].iloc[0] == "2014-05-01"


def test_many_categories_stay_categories(tmp_path):
    """500 names in 5,000 rows are no ids and no text."""
    rows = "".join(f"city {i * 37 % 500},{i % 9},{i % 3 % 2}\n" for i in range(5_000))
    assert load_table(use(csv(tmp_path, "city,a,y\n" + rows))).kinds["city"] == "category"


def test_reviews_are_text(tmp_path):
    """Many words, hardly ever the same."""
    words = [f"{letter}ord" for letter in "abcdefghijklmnopqr"]
    random = np.random.default_rng(0)
    rows = "".join(f'"{" ".join(random.choice(words, 9))}",{i % 2}\n' for i in range(200))
    assert load_table(use(csv(tmp_path, "review,y\n" + rows))).kinds == {"review": "text"}


def test_an_id_is_used_where_the_file_says_what_it_is(tmp_path):
    """`[kinds]` has the last word."""
    text = "id,a,y\n" + "".join(f"{i + 1},{i % 7},{i % 3 % 2}\n" for i in range(60))
    assert "id" in load_table(use(csv(tmp_path, text))).ignored
    assert load_table(use(csv(tmp_path, text), kinds={"id": "number"})).kinds["id"] == "number"


def test_an_id_of_things_that_come_back_is_no_amount(tmp_path):
    """Many rows a thing: categories. Hardly two: left out, with a warning."""
    rows = "".join(f"{i // 3 * 7},{i * 5 // 6},{i % 7},{i % 4 % 2}\n" for i in range(6_000))
    table = load_table(use(csv(tmp_path, "job_ad_id,subjectId,a,y\n" + rows)))
    assert table.kinds == {"job_ad_id": "category", "a": "number"}
    assert "5,000 different numbers in 6,000 rows" in said(table, "subjectId")


def test_a_target_in_another_guise_is_told(tmp_path):
    """A corrected, converted or rounded copy of the target gives it away, also in a table of few rows."""
    random = np.random.default_rng(0)
    prices = random.uniform(5, 50, 120)
    guises = {"euros": prices * 0.9 + 3, "corrected": prices + random.normal(0, 0.4, 120)}
    honest = prices + random.normal(0, 4, 120)
    lines = ["price,euros,corrected,honest"]
    lines += [
        f"{a:.2f},{b:.2f},{c:.2f},{d:.2f}"
        for a, b, c, d in zip(prices, *guises.values(), honest, strict=True)
    ]
    table = load_table(use(csv(tmp_path, "\n".join(lines)), target="price"))
    told = [note.column for note in table.notes if "all but decides the target" in note.text]
    assert told == ["euros", "corrected"]


def test_an_id_is_kept_for_want_of_others(tmp_path):
    """A table of nothing but a running number and the target can still be trained on, with a warning."""
    text = "id,y\n" + "".join(f"{i + 1},{i % 3 % 2}\n" for i in range(60))
    table = load_table(use(csv(tmp_path, text)))
    assert list(table.frame) == ["id"]
    assert "for want of others" in said(table, "id")


def test_empty_and_constant_columns_are_left_out(tmp_path):
    """And are still accepted, as ignored, by the model."""
    text = "e,k,a,y\n" + "".join(f",5,{i % 7},{i % 3 % 2}\n" for i in range(60))
    table = load_table(use(csv(tmp_path, text)))
    assert table.ignored == ("e", "k", "y")
    assert "every cell is missing" in said(table, "e")


def test_a_row_name_without_header(tmp_path):
    """As R writes it: one name fewer than values."""
    text = "a,y\n" + "".join(f"row{i},{i % 7},{i % 3 % 2}\n" for i in range(60))
    assert list(load_table(use(csv(tmp_path, text))).frame) == ["a"]


def test_a_file_without_header(tmp_path):
    """`source.columns` names them."""
    text = "".join(f"{i % 7},{i % 3 % 2}\n" for i in range(60))
    case = UseCase(name="m", target="y", source=Csv(path=str(csv(tmp_path, text)), columns=("a", "y")))
    assert load_table(case).rows == 60


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("a,b\n1,2\n", ","),
        ("a;b\n1,5;2,5\n", ";"),
        ("a\tb\n1, 2, 3\tx, y\n", "\t"),
        ("a|b\n1|2\n", "|"),
        ('a,b\n"x; y; z",1\n"p; q; r",2\n', ","),
        ("one\n1\n2\n", ","),
        ("a   b\n1   2\n", " "),
        ('note;y\n"well, yes, or no";1\n"a, b";0\n', ";"),
    ],
)
def test_delimiters(text, delimiter):
    """The one that cuts every row alike."""
    assert find_dialect(text)[0].delimiter == delimiter


def test_utf16(tmp_path):
    """Excel's "Unicode text"."""
    assert load_table(use(csv(tmp_path, plain().replace(",", "\t").encode("utf-16")))).rows == 60


def test_line_ends_and_newlines_in_quotes(tmp_path):
    """Of Windows, and within a quoted cell."""
    text = "a,t,y\r\n" + "".join(f'{i % 7},"x\n{i % 2}",{i % 3 % 2}\r\n' for i in range(60))
    assert load_table(use(csv(tmp_path, text))).rows == 60


# ----------------------------------------------------------------------------------------------- the target


@pytest.mark.parametrize(
    ("labels", "task", "classes"),
    [
        (["yes", " no "], "binary", ("no", "yes")),
        (["True", "False"], "binary", (False, True)),
        (["+", "-"], "binary", ("+", "-")),
        (["1.0", "2.0"], "binary", (1, 2)),
        (["01", "02"], "binary", ("01", "02")),
        (["a", "b", "c"], "multiclass", ("a", "b", "c")),
        (["1", "2", "3"], "multiclass", (1, 2, 3)),
        (["1.5", "2", "3", "4"], "regression", ()),
        ([str(i) for i in range(30)], "regression", ()),
        (["$1,000", "$2,500", "$3,300.50"], "regression", ()),
    ],
)
def test_tasks_are_guessed_and_labels_keep_their_type(tmp_path, labels, task, classes):
    """`"yes"` stays text, 1 stays int, True stays bool."""
    text = "a\tb\ty\n" + "".join(f"{i * i % 23}\t{i % 5}\t{labels[i % len(labels)]}\n" for i in range(240))
    table = load_table(use(csv(tmp_path, text)))
    assert table.task == task
    assert table.classes == classes
    assert [type(label) for label in table.classes] == [type(label) for label in classes]


def test_rows_without_target_are_left_out(tmp_path):
    """With a note of how many."""
    table = load_table(use(csv(tmp_path, plain() + "1,2,\n3,4,?\n")))
    assert table.rows == 60
    assert "2 rows without a target" in said(table, "y")


def test_classes_that_differ_in_capitals_only_are_warned_of(tmp_path):
    """They stay apart: in a table of genes they are two things."""
    text = "a,y\n" + "".join(f"{i % 7},{('yes', 'Yes', 'no')[i % 3]}\n" for i in range(60))
    table = load_table(use(csv(tmp_path, text)))
    assert "'Yes', 'yes'" in said(table, None)
    assert len(table.classes) == 3
    assert "capitals" not in said(load_table(use(csv(tmp_path, plain()))), None)


def test_infinite_values_and_a_spreadsheets_errors_are_missing_numbers(tmp_path):
    """As in what was divided by zero, however many."""
    odd = ["inf", "-Infinity", "#DIV/0!", "Inf"]
    lines = [f"{odd[i % 4] if i % 5 == 0 else i / 7},{i % 5},{'yes' if i % 3 else 'no'}" for i in range(100)]
    table = load_table(use(csv(tmp_path, "a,b,y\n" + "\n".join(lines))))
    assert table.kinds["a"] == "number"
    assert table.frame["a"].isna().sum() == 20
    assert '"inf"' in said(table, "a")


@pytest.mark.parametrize(
    ("top", "names"),
    [
        ("# from a telescope\n# COLUMN a: metres, or so, or more\na,b,y\n", ["a", "b"]),
        ("#a,b,y\n", ["#a", "b"]),
        ("# made on a day\n#a,b,y\n", ["#a", "b"]),
    ],
)
def test_comments_above_the_header_are_passed_over(tmp_path, top, names):
    """A header that begins like one is a header; lines are counted with the comments."""
    rest = plain().partition("\n")[2]
    assert list(load_table(use(csv(tmp_path, top + rest))).frame) == names
    ragged = top + rest + "1,2,3,4\n"
    assert f"line {ragged.count(chr(10))} has 4 values" in refusal(tmp_path, ragged)


@pytest.mark.parametrize("positive", ["no", "NO"])
def test_positive_is_the_named_label(tmp_path, positive):
    """Whatever its capitals."""
    assert load_table(use(csv(tmp_path, plain()), positive=positive)).positive == "no"


def test_rare_classes_can_be_left_out(tmp_path):
    """`drop_classes` names them."""
    table = load_table(use(csv(tmp_path, plain() + "1,2,maybe\n"), drop_classes=("maybe",)))
    assert table.classes == ("no", "yes")


# --------------------------------------------------------------------------------------------------- refusals


def test_a_missing_file(tmp_path):
    """One sentence with the path and the key."""
    with pytest.raises(DataError, match=r"absent\.csv: there is no such file\. A path in a TOML"):
        load_table(use(tmp_path / "absent.csv"))


@pytest.mark.parametrize(
    ("text", "settings", "parts"),
    [
        ("", {}, ["empty"]),
        ("\n\n", {}, ["empty"]),
        ("a,y\n", {}, ["no rows"]),
        ("a,y\n1,2\n", {}, ["1 row"]),
        (plain(), {"target": "Y"}, ['target names the column "Y"', 'did you mean "y"?']),
        (plain(), {"leave_out": ("bb",)}, ['leave_out names the column "bb"', 'did you mean "b"?']),
        (plain(), {"kinds": {"zz": "text"}}, ["[kinds]", '"zz"', "a, b, y"]),
        ("a,y\n1,x\n2,x\n3,x\n", {}, ["'x' in all 3 rows"]),
        ("a,y\n1,\n2,?\n3,NA\n", {}, ["missing in all 3 rows"]),
        (plain() + "1,2,maybe\n", {}, ["'maybe' (1)", "folds = 5", 'drop_classes = ["maybe"]']),
        ("a,y\n1,p\n2,q\n3,p\n", {}, ["'p' (2), 'q' (1)", "Lower folds, or bring more rows."]),
        (plain() + "1,2,3,4\n", {}, ["line 62 has 4 values, expected 3"]),
        (plain() + "1\n1,2,yes\n", {}, ["line 62 has 1 values, expected 3"]),
        ("a,y\n" + "1,x\n" * 9, {}, ["All 9 rows", "the same"]),
        (plain(), {"task": "regression"}, ['task is "regression"', '"no"']),
        (plain(), {"positive": "perhaps"}, ["'perhaps'", "'no' and 'yes'"]),
        (plain() + "1,2,maybe\n" * 9, {"task": "binary"}, ["3 values", "expected two"]),
        (plain(), {"metric": "rmse"}, ['metric is "rmse"', "binary"]),
        (
            plain(),
            {"gate": Gate(fairness={"mean_error_difference": 0.1})},
            ['gate.fairness bounds "mean_error_difference"', "binary", "equalized_odds_difference"],
        ),
        (
            plain().replace("yes", "jä").encode("latin-1"),
            {"read": Read(encoding="utf-8")},
            ["line 3", 'encoding = "windows-1252"'],
        ),
        (b"PK\x03\x04 and so on", {}, ["Excel"]),
        (b"\x1f\x8bdamaged", {}, ["damaged gzip"]),
        (gzip.compress(plain().encode())[:-30], {}, ["damaged gzip"]),
        (plain(), {"kinds": {"y": "leave_out", "a": "date"}}, ['[kinds] says "a" is a date']),
        ("a,y\n" + "".join(f"1,{i % 2}\n" for i in range(60)), {}, ["no feature column"]),
        (
            "a,y\n" + "".join(f"{i % 7},word{i}\n" for i in range(60)),
            {},
            ["60 different texts", "multiclass"],
        ),
        (plain(), {"drop_classes": ("never",)}, ["drop_classes", "'never'"]),
        (plain(), {"time": "y"}, ['time is "y"', "expected dates or numbers"]),
    ],
)
def test_data_that_cannot_be_used_says_why(tmp_path, text, settings, parts):
    """In a sentence or two, with the place and the key."""
    message = refusal(tmp_path, text, **{"target": "y", **settings})
    for part in parts:
        assert part in message, message
    assert message.count(". ") <= 2


# -------------------------------------------------------------------------------------------------- the split


@pytest.fixture
def credit() -> Table:
    return load_table(UseCase(name="c", target="default", source=Synthetic(name="credit")))


def test_a_row_never_changes_sides(tmp_path):
    """Neither the order of the rows, nor of the columns, nor new rows move an old one."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"a": random.normal(size=900), "b": random.choice(list("xyz"), 900)})
    frame["y"] = random.choice(["p", "q"], 900)
    frame.to_csv(tmp_path / "one.csv", index=False)
    frame.sample(frac=1, random_state=1)[["y", "b", "a"]].to_csv(tmp_path / "two.csv", index=False)
    frame.head(600).to_csv(tmp_path / "three.csv", index=False)
    one, two, three = (load_table(use(tmp_path / f"{name}.csv")) for name in ("one", "two", "three"))
    sides = [dict(zip(table.frame["a"], test_rows(table), strict=True)) for table in (one, two, three)]
    assert sides[0] == sides[1]
    assert all(sides[0][key] == side for key, side in sides[2].items())


def test_the_split_is_a_fifth_and_goes_by_salt(credit):
    """Near the fraction that was asked for; another salt deals anew."""
    import dataclasses

    import msgspec

    first = test_rows(credit)
    assert abs(first.mean() - 0.2) < 0.03
    salted = dataclasses.replace(credit, use_case=msgspec.structs.replace(credit.use_case, salt="1"))
    second = test_rows(salted)
    assert abs(second.mean() - 0.2) < 0.03
    assert abs((first & second).mean() - 0.04) < 0.02


def test_copies_stay_together_and_are_counted(tmp_path):
    """A copy of a training row is no test row."""
    random = np.random.default_rng(0)
    rows = [f"{random.normal():.6f},{random.choice(['p', 'q'])}" for _ in range(200)]
    table = load_table(use(csv(tmp_path, "a,y\n" + "\n".join(rows + rows))))
    test = test_rows(table)
    assert (test[:200] == test[200:]).all()
    assert table.duplicates == 200


def test_a_group_stays_together(tmp_path):
    """And is no feature unless the file says so."""
    random = np.random.default_rng(0)
    rows = "".join(f"p{i % 40},{random.normal():.4f},{random.choice(['p', 'q'])}\n" for i in range(400))
    table = load_table(use(csv(tmp_path, "patient,a,y\n" + rows), group="patient"))
    test = test_rows(table)
    assert "patient" in table.ignored
    assert not set(table.groups[test]) & set(table.groups[~test])


def test_by_time_the_latest_are_test(tmp_path):
    """The last fifth of the days."""
    day = np.datetime64("2020-01-01")
    rows = "".join(f"{day + i * 37 % 300},{i % 11},{i % 3 % 2}\n" for i in range(300))
    table = load_table(use(csv(tmp_path, "when,a,y\n" + rows), time="when"))
    test = test_rows(table)
    assert abs(test.mean() - 0.2) < 0.01
    assert table.times[test].min() > table.times[~test].max()


def test_a_class_with_no_training_row_is_refused(tmp_path):
    """With the key that deals anew."""
    rows = "".join(f"{i},{'late' if i >= 90 else 'early'}\n" for i in range(100))
    table = load_table(use(csv(tmp_path, "day,y\n" + rows), time="day", kinds={"day": "number"}))
    with pytest.raises(DataError, match="'late'.*change salt or time"):
        test_rows(table)


# ---------------------------------------------------------------------------------------------------- sources


def test_every_shipped_table_loads():
    """With both sides and every class on each."""
    for case in all_use_cases():
        table = load_table(case)
        test = test_rows(table)
        for label in table.classes:
            assert test[table.target == label].any(), case.name
        assert not [note for note in table.notes if "all but decides" in note.text]


def test_generated_rows_are_the_same_each_time():
    """One digest."""
    case = UseCase(name="c", target="fraud", source=Synthetic(name="fraud"))
    one, two = load_table(case), load_table(case)
    assert one.digest == two.digest
    assert 0.01 < (one.target == True).mean() < 0.03  # noqa: E712 - labels are objects


def test_breast_cancer_has_names_for_labels():
    """Not 0 and 1."""
    table = load_table(UseCase(name="b", target="diagnosis", source=Bundled(name="breast_cancer")))
    assert Counter(table.target) == {"benign": 357, "malignant": 212}
    assert table.positive == "malignant"


def test_sensitive_columns_are_slices_and_no_features(tmp_path):
    """Numbers as ranges; features only where asked."""
    text = "age,sex,a,y\n" + "".join(f"{20 + i % 50},{'mf'[i % 2]},{i % 7},{i % 3 % 2}\n" for i in range(100))
    case = use(csv(tmp_path, text), sensitive=("age", "sex"))
    table = load_table(case)
    assert list(table.frame) == ["a"]
    assert table.sensitive["age"].nunique() == 4
    assert set(table.sensitive["sex"]) == {"m", "f"}
    asked = load_table(use(csv(tmp_path, text), sensitive=("age", "sex"), use_sensitive=True))
    assert list(asked.frame) == ["age", "sex", "a"]


def test_parquet(tmp_path):
    """Types as they are: dates, categories, booleans with gaps, decimals."""
    from decimal import Decimal

    frame = pd.DataFrame(
        {
            "when": pd.date_range("2021-01-01", periods=60, tz="Asia/Tokyo"),
            "level": pd.Categorical(["1", "2", None] * 20),
            "flag": pd.array([True, False, None] * 20, dtype="boolean"),
            "cost": [Decimal(i) / 4 for i in range(60)],
            "count": pd.array([1, 2, None, 4] * 15, dtype="Int64"),
            "y": [True, False] * 30,
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    table = load_table(UseCase(name="p", target="y", source=Parquet(path=str(tmp_path / "t.parquet"))))
    assert table.kinds == {
        "when": "date", "level": "category", "flag": "category", "cost": "number", "count": "number",
    }  # fmt: skip
    assert table.frame["when"].iloc[0] == "2021-01-01"
    assert table.frame["flag"].tolist()[:3] == ["true", "false", None]
    assert table.classes == (False, True)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match="no Parquet file"):
        load_table(UseCase(name="p", target="y", source=Parquet(path=str(tmp_path / "bad.parquet"))))


def test_sql(tmp_path, monkeypatch):
    """A query; the URL's path is beside the TOML, `$NAME` comes from the environment."""
    with sqlite3.connect(tmp_path / "shop.db") as base:
        base.execute("create table sales (a real, city text, y text)")
        base.executemany(
            "insert into sales values (?, ?, ?)", [(i % 7, "AB"[i % 2], "pq"[i % 3 % 2]) for i in range(60)]
        )
    monkeypatch.setenv("SHOP_DB", "shop.db")

    def case(url: str = "sqlite:///$SHOP_DB", query: str = "select * from sales") -> UseCase:
        return UseCase(name="s", target="y", source=Sql(url=url, query=query), file=str(tmp_path / "s.toml"))

    assert load_table(case()).kinds == {"a": "number", "city": "category"}
    for wrong, words in [
        (case(query="select * from goods"), "no such table: goods"),
        (case(url="sqlite:///absent.db"), "no such database"),
        (case(url="sqlite:///$NOT_SET_AT_ALL"), "NOT_SET_AT_ALL, which is not set"),
        (case(url="nonsense"), "no database URL"),
        (case(url="postgresql+psycopg://me:secret@127.0.0.1:9/x"), "failed at"),
    ]:
        with pytest.raises(DataError, match=words) as caught:
            load_table(wrong)
        assert "secret" not in str(caught.value)


ARFF = """@RELATION toy
@ATTRIBUTE size REAL
@ATTRIBUTE colour {red,blue}
@ATTRIBUTE class {1,2}
@DATA
""" + "\n".join(f"{i % 7 if i % 9 else '?'},{'red' if i % 2 else 'blue'},{i % 3 % 2 + 1}" for i in range(60))


def test_openml_from_its_cache(tmp_path, monkeypatch):
    """A set that was fetched before needs no network; its labels of digits are int."""
    import hashlib
    import json

    folder = tmp_path / "openml" / "openml.org"
    described = {
        "data_set_description": {
            "id": "987654", "description": "made up", "name": "toy", "version": "1",
            "format": "ARFF", "file_id": "1", "status": "active",
            "default_target_attribute": "class", "md5_checksum": hashlib.md5(ARFF.encode()).hexdigest(),  # noqa: S324
            "url": "https://api.openml.org/data/v1/download/1/toy.arff",
        }
    }  # fmt: skip
    names = [("size", "numeric"), ("colour", "nominal"), ("class", "nominal")]
    features = {
        "data_features": {
            "feature": [
                {
                    "index": str(i), "name": name, "data_type": kind,
                    "is_target": str(name == "class").lower(),
                    "is_ignore": "false", "is_row_identifier": "false", "number_of_missing_values": "0",
                }
                for i, (name, kind) in enumerate(names)
            ]
        }
    }  # fmt: skip
    files = {
        "api/v1/json/data/987654": json.dumps(described),
        "api/v1/json/data/features/987654": json.dumps(features),
        "api/v1/json/data/qualities/987654": json.dumps(
            {"data_qualities": {"quality": [{"name": "NumberOfInstances", "value": "60"}]}}
        ),
        "data/v1/download/1/toy.arff": ARFF,
    }
    for place, text in files.items():
        path = folder / f"{place}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()))
    monkeypatch.setenv("OKAMOCHI_DATA", str(tmp_path))
    table = load_table(UseCase(name="o", target="class", source=OpenML(id=987654)))
    assert table.kinds == {"size": "number", "colour": "category"}
    assert table.classes == (1, 2)
    assert table.frame["size"].isna().sum() == 7


def test_postgresql(postgres_url):
    """What its driver gives for exact numbers, dates, times, booleans and NULL is what a CSV would have."""
    rows = ", ".join(
        f"({i * 1.25}, date '2024-01-01' + {i}, timestamptz '2024-01-01 10:00+00' + interval '{i} hours', "
        f"{i % 2 == 0}, {'NULL' if i % 9 == 0 else i % 7}, 'city {i % 3}', '{'yes' if i % 3 else 'no'}')"
        for i in range(90)
    )
    columns = "price numeric(10,2), day date, at timestamptz, member boolean, items int, city text, y text"
    with sa.create_engine(postgres_url).begin() as connection:
        connection.execute(sa.text("create schema shop"))
        connection.execute(sa.text(f"create table shop.sales ({columns})"))
        connection.execute(sa.text(f"insert into shop.sales values {rows}"))  # noqa: S608 - our own numbers
    case = UseCase(name="s", target="y", source=Sql(url=postgres_url, query="select * from shop.sales"))

    table = load_table(case)

    assert table.kinds == {
        "price": "number", "day": "date", "at": "date", "member": "category", "items": "number",
        "city": "category",
    }  # fmt: skip
    assert table.frame["price"].tolist()[:3] == [0.0, 1.25, 2.5]
    assert table.frame["day"].iloc[1] == "2024-01-02"
    assert table.frame["items"].isna().sum() == 10
