"""Small tables that were read wrongly once: each cell as a person reads it, or its column is named."""

import csv
from pathlib import Path

import numpy as np

from training.settings import Csv, UseCase
from training.tables.data import Table, load_table

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
