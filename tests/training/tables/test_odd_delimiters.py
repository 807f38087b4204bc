"""Rows with an unusual delimiter, of fixed width or in quotes are cut into their cells, and that is told."""

from pathlib import Path

import pytest

from training.settings import Read
from training.tables.delimited import read_delimited
from training.tables.raw import DataError, Raw

ROWS = [[str(18 + i * 7 % 50), ["Ulm", "Bonn", "Kiel"][i % 3], f"{i * 3 % 17}.50"] for i in range(30)]
TABLE = [["age", "town", "price"], *ROWS]


def reading(folder: Path, text: str, read: Read = Read()) -> Raw:  # noqa: B008 - frozen
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return read_delimited(path, read)


def told(raw: Raw) -> str:
    return "\n".join(each.text for each in raw.reading.look_at)


def cells(raw: Raw) -> list[list[str]]:
    return [list(raw.frame.columns), *raw.frame.to_numpy().tolist()]


def lines(delimiter: str, table: list[list[str]] = TABLE) -> str:
    return "".join(delimiter.join(row) + "\n" for row in table)


def fixed(widths: tuple[int, ...], table: list[list[str]] = TABLE) -> str:
    return "".join("".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + "\n" for row in table)


@pytest.mark.parametrize(
    "delimiter", ["||", "~|~", "@@", "<>", "%%", "=>", "_|_", "###", "#", "!", "*", "&", "，"]
)
def test_an_unusual_delimiter(tmp_path, delimiter):
    raw = reading(tmp_path, lines(delimiter))
    assert cells(raw) == TABLE
    assert raw.reading.delimiter.value == delimiter
    assert f'cells are cut at "{delimiter}"' in told(raw)


@pytest.mark.parametrize("delimiter", ["::", "~|~", "ab"])
def test_a_delimiter_of_several_characters_by_its_key(tmp_path, delimiter):
    raw = reading(tmp_path, lines(delimiter), Read(delimiter=delimiter))
    assert cells(raw) == TABLE
    assert not told(raw)


def test_an_error_names_the_delimiter_of_the_file(tmp_path):
    with pytest.raises(DataError, match=r'line 32 .*"~\|~"'):
        reading(tmp_path, lines("~|~") + "1~|~Ulm~|~2~|~3\n", Read(delimiter="~|~"))


@pytest.mark.parametrize(
    "text",
    [
        "path,n\n" + "".join(f"C:\\new\\{i},{i}\n" for i in range(20)),
        "pay,y\n" + "".join(f"${i}K-${i + 9}K,{i % 2}\n" for i in range(20)),
        "url,y\n" + "".join(f"http://a.org/{i},{i % 2}\n" for i in range(20)),
    ],
)
def test_signs_within_the_cells_of_a_comma_file_are_no_delimiter(tmp_path, text):
    raw = reading(tmp_path, text)
    assert cells(raw)[1:] == [line.split(",") for line in text.splitlines()[1:]]


@pytest.mark.parametrize(
    "text", ["day\n" + "2024/01/02\n" * 20, "n\n" + "".join(f"{i}\n" for i in range(20))]
)
def test_one_column_is_told(tmp_path, text):
    raw = reading(tmp_path, text)
    assert raw.frame.shape[1] == 1
    assert "is read as one column" in told(raw)


def test_rows_in_quotes_as_a_whole(tmp_path):
    table = [[age, town.replace("Ulm", 'Ulm ""old""'), price] for age, town, price in TABLE]
    raw = reading(tmp_path, "".join(f'"{line}"\n' for line in lines(",", table).splitlines()))
    assert cells(raw) == [[age, town.replace('""', '"'), price] for age, town, price in table]
    assert "each line stands in quotes" in told(raw)


def test_quoted_cells_of_one_column_stay(tmp_path):
    raw = reading(tmp_path, '"note"\n' + "".join(f'"well{"," * (i % 3)}{i}"\n' for i in range(20)))
    assert raw.frame.shape[1] == 1


def test_quotes_around_each_cell_are_none_around_the_row(tmp_path):
    raw = reading(tmp_path, lines(";", [[f'"{cell}"' for cell in row] for row in TABLE]))
    assert cells(raw) == TABLE
    assert not told(raw)


def test_row_names_that_come_back_are_told(tmp_path):
    raw = reading(tmp_path, "town,price\n" + lines(",", [[town, age, price] for age, town, price in ROWS]))
    assert "the first is taken as a row name" in told(raw)


@pytest.mark.parametrize("towns", [{"Ulm": ""}, {"Ulm": "Bad Ulm"}, {"Ulm": "Bad Ulm", "Bonn": "Bad Ems"}])
def test_columns_of_fixed_width(tmp_path, towns):
    table = [[age, towns.get(town, town), price] for age, town, price in TABLE]
    raw = reading(tmp_path, fixed((6, 14, 8), table))
    assert cells(raw) == table
    assert "3 columns of fixed width" in told(raw)


def test_a_name_of_two_words_in_each_row_is_one_cell(tmp_path):
    table = [TABLE[0], *([age, "New York", price] for age, _, price in ROWS)]
    assert cells(reading(tmp_path, fixed((6, 14, 8), table))) == table


def test_wide_letters_in_columns_of_fixed_width(tmp_path):
    table = [[age, town.replace("Ulm", "東京").replace("Bonn", "大 阪"), price] for age, town, price in TABLE]
    text = "".join(
        f"{age:<6}{town}{' ' * (14 - sum(1 + (c > '⺀') for c in town))}{price}\n"
        for age, town, price in table
    )
    assert cells(reading(tmp_path, text)) == table


def test_a_line_that_breaks_the_columns_is_named(tmp_path):
    table = [[age, town.replace("Ulm", "Bad Ulm"), price] for age, town, price in TABLE * 12]
    with pytest.raises(DataError, match="line 373 has text where the columns of fixed width are parted"):
        reading(tmp_path, fixed((6, 14, 8), table) + "a line without any column at all\n")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "Git LFS"),
        ("INSERT INTO t VALUES (1,'a');\n" * 9, "SQL"),
        ("@relation x\n@attribute a numeric\n@data\n1\n2\n", "ARFF"),
    ],
)
def test_another_format_is_named(tmp_path, text, what):
    with pytest.raises(DataError, match=what):
        reading(tmp_path, text)


def test_the_head_of_a_report_above_a_blank_line_is_no_header(tmp_path):
    head = "Sales of all shops,,\nDate,2023-02-01,\n,,\n"
    raw = reading(tmp_path, head + lines(","))
    assert cells(raw) == TABLE
    assert "2 lines are left out above the header" in told(raw)


def test_marks_in_the_names_of_columns(tmp_path):
    raw = reading(tmp_path, "#" + lines(",").replace("town", "\ufefftown"))
    assert list(raw.frame.columns) == ["#age", "town", "price"]
    assert 'begins with "#"' in told(raw)
