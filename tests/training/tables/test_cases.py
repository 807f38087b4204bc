"""Small tables that were read wrongly once: each cell as a person reads it, or its column is named."""

import csv
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from artifact.encode import BadRows, Encoder
from training.settings import Csv, Read, UseCase
from training.tables.data import Table, load_table, test_rows
from training.tables.schema import signature_of

CASES = Path(__file__).parent / "cases"


def case(name: str, target: str, **settings) -> Table:
    path = next(CASES.glob(f"{name}.*"))
    return load_table(UseCase(name="mine", target=target, source=Csv(path=str(path)), **settings))


def raw(name: str, column: str, encoding: str = "utf-8", delimiter: str = ",") -> list[str]:
    """The cells of a column as the file has them."""
    path = next(CASES.glob(f"{name}.*"))
    with path.open(encoding=encoding, newline="") as file:
        return [row[column] for row in csv.DictReader(file, delimiter=delimiter)]


def told(table: Table, column: str) -> str:
    return " | ".join(text for name, text in table.look_at if name == column)


def same(table: Table, column: str, expected: list[float]) -> None:
    np.testing.assert_array_equal(table.frame[column].to_numpy("float64"), expected)


def test_dots_part_thousands_where_the_file_has_decimal_commas():
    """`66.723` is 66723 beside `69,68`, and nothing is left open."""
    table = case("german_thousands", "kauf")
    turnover = raw("german_thousands", "umsatz", delimiter=";")
    price = raw("german_thousands", "preis", delimiter=";")
    same(table, "umsatz", [float(cell.replace(".", "")) for cell in turnover])
    same(table, "preis", [float(cell.replace(",", ".")) for cell in price])
    assert not table.look_at


def test_three_decimals_are_no_thousands_where_one_cell_begins_with_zero():
    table = case("three_decimals_utf16", "urteil")
    cells = raw("three_decimals_utf16", "gewicht_kg", "utf-16", "\t")
    same(table, "gewicht_kg", [float(cell.replace(",", ".")) for cell in cells])
    assert not told(table, "gewicht_kg")


def test_a_k_behind_a_number_is_a_thousand():
    table = case("k_suffix", "famous")
    cells = raw("k_suffix", "followers")
    expected = [float(c.removesuffix("k")) * (1000 if c.endswith("k") else 1) for c in cells]
    np.testing.assert_allclose(table.frame["followers"], expected, rtol=1e-12)


def test_percent_beside_fractions_is_a_fraction_and_told():
    table = case("percent_and_fraction", "level")
    cells = raw("percent_and_fraction", "rate")
    expected = [float(c.rstrip("%")) / (100 if c.endswith("%") else 1) for c in cells]
    np.testing.assert_allclose(table.frame["rate"], expected, rtol=1e-12)
    assert "33% is read as 0.33" in told(table, "rate")


def test_apostrophes_part_thousands():
    table = case("swiss", "klasse")
    same(table, "betrag", [float(c.replace("'", "")) for c in raw("swiss", "betrag", delimiter=";")])


def test_a_minus_behind_a_number_is_its_sign():
    table = case("trailing_minus", "kz")
    cells = [c.replace(",", ".") for c in raw("trailing_minus", "betrag", delimiter=";")]
    same(table, "betrag", [-float(c[:-1]) if c.endswith("-") else float(c) for c in cells])


def test_more_or_less_than_a_number_is_that_number_and_told():
    table = case("censored", "cls")
    same(table, "age", [float(c.strip("<>")) for c in raw("censored", "age")])
    assert '">90"' in told(table, "age")


def test_ids_that_differ_in_their_last_digit_stay_apart():
    """Also as whole numbers of a Parquet file, and in a request."""
    table = case("big_ids", "state")
    assert table.kinds["sensor"] == "category"
    assert table.frame["sensor"].tolist() == raw("big_ids", "sensor")


def test_na_among_codes_of_two_letters_is_a_class():
    """And the word and the key that takes it for a missing value are told."""
    table = case("target_na", "continent")
    assert table.classes == ("AS", "EU", "NA")
    note = next(str(note) for note in table.notes if note.column == "continent")
    assert '"NA" in 118 rows' in note
    assert 'missing = ["NA"] under [read]' in note


def test_births_of_two_digit_years_are_in_no_future():
    table = case("birth_two_digit_year", "group")
    for cell, read in zip(raw("birth_two_digit_year", "dob"), table.frame["dob"], strict=True):
        month, day, year = cell.split("/")
        century = 19 if int(year) > 26 else 20
        assert read == f"{century}{year}-{month}-{day}"
    assert "years of two digits" in told(table, "dob")


def test_two_orders_of_day_and_month_in_one_column_are_told_with_their_counts():
    table = case("mixed_day_month", "season")
    cells = [tuple(map(int, cell.split("/")[:2])) for cell in raw("mixed_day_month", "day")]
    day_first = sum(one > 12 for one, _ in cells)
    month_first = sum(two > 12 for _, two in cells)
    assert f"{day_first:,} cells can only have the day first and {month_first:,} only the month" in told(
        table, "day"
    )


def test_an_order_of_day_and_month_that_nothing_decides_is_told_with_its_key():
    table = case("ambiguous_days", "season")
    assert "set day_first = false under [read]" in told(table, "day")
    settled = case("ambiguous_days", "season", read=Read(day_first=True))
    assert not told(settled, "day")
    one, two = table.frame["day"].iloc[1], settled.frame["day"].iloc[1]
    assert (one, two) == ("2023-09-04", "2023-04-09")
    by_format = case("ambiguous_days", "season", formats={"day": "%d/%m/%Y"})
    assert by_format.frame["day"].tolist() == settled.frame["day"].tolist()
    assert not told(by_format, "day")


def test_offsets_of_one_column_are_brought_to_one_clock_also_in_requests():
    table = case("mixed_offsets", "load")
    for cell, read in zip(raw("mixed_offsets", "at"), table.frame["at"], strict=True):
        assert datetime.fromisoformat(read) == datetime.fromisoformat(cell).astimezone(UTC).replace(
            tzinfo=None
        )
    assert "brought to UTC" in told(table, "at")
    encoder = Encoder(signature_of(table, ~test_rows(table)))
    row = {"at": "2024-02-11T12:02:00+09:00", "n": 9}
    np.testing.assert_array_equal(
        encoder.records([row]), encoder.records([row | {"at": "2024-02-11T03:02:00+00:00"}])
    )


def test_durations_are_numbers_of_seconds():
    """And a request that writes one as the file does is told what is expected."""
    table = case("seconds", "len")
    same(table, "call", [float(cell.split(":")[2]) for cell in raw("seconds", "call")])
    encoder = Encoder(signature_of(table, ~test_rows(table)))
    with pytest.raises(BadRows, match="expected a number \\(seconds\\), got '00:00:05'"):
        encoder.records([{"call": "00:00:05", "n": 1}])


MONTHS = ["Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober"]
MONTHS += ["November", "Dezember"]


def test_months_are_read_by_their_names_also_in_requests():
    table = case("german_months", "wetter")
    assert table.kinds["tag"] == "date"
    cells = raw("german_months", "tag", delimiter=";")
    for cell, read in zip(cells, table.frame["tag"], strict=True):
        day, month, year = cell.replace(".", "").split()
        assert read == f"{year}-{MONTHS.index(month) + 1:02}-{int(day):02}"
    encoder = Encoder(signature_of(table, ~test_rows(table)))
    file, iso = encoder.records([{"tag": "27. Oktober 2022", "n": 1}]), {"tag": "2022-10-27", "n": 1}
    np.testing.assert_array_equal(file, encoder.records([iso]))


def test_texts_without_spaces_are_texts():
    """Not a category of a thousand values; a request is read as the pipeline reads the table."""
    table = case("chinese_reviews", "情感")
    assert table.kinds["评论"] == "text"
    made = signature_of(table, ~test_rows(table))
    assert next(column for column in made.columns if column.name == "评论").units == "characters"
    matrix = Encoder(made).columns(table.frame)
    record = {name: table.frame[name].iloc[0] for name in table.frame.columns}
    np.testing.assert_array_equal(Encoder(made).records([record])[0], matrix[0])
