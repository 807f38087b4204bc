"""Delimited files of every make are cut into the cells that were written, or it is said what was left out."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.settings import Read
from training.tables.delimited import read_delimited
from training.tables.raw import DataError, Raw

CASES = Path(__file__).parent / "cases"


def reading(folder: Path, text: str, read: Read = Read(), **more) -> Raw:  # noqa: B008
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return read_delimited(path, read, **more)


def told(raw: Raw) -> str:
    return "\n".join(each.text for each in raw.reading.look_at)


def rows(count: int = 40, delimiter: str = ",") -> str:
    lines = [["name", "n", "y"]] + [
        [f"row {i}", str(i * 3 % 17), "ja" if i % 3 else "nein"] for i in range(count)
    ]
    return "".join(delimiter.join(line) + "\n" for line in lines)


# ---------------------------------------------------------------------------------------- every dialect

WORD = st.sampled_from(
    [
        "north",
        "Berlin",
        "New York",
        "São Paulo",
        "A-12",
        "Tom & Co",
        "O'Brien",
        "low",
        "yes",
        '5" pipe',
        "C:\\new",
    ]
)
PROSE = st.lists(
    st.sampled_from(["good", "bad,", "the", "service;", "was", "fine.", '"quick"', "don't", "again!", "|"]),
    min_size=3, max_size=9,
).map(" ".join)  # fmt: skip
NUMBERS = st.floats(-999, 9999, allow_nan=False).map(lambda value: f"{value:.2f}")
CELLS = {
    "whole": st.integers(0, 999).map(str),
    "number": NUMBERS,
    "decimal comma": NUMBERS.map(lambda text: text.replace(".", ",")),
    "word": WORD,
    "name": st.sampled_from(["Smith, J", "Roe, K", "Müller, M"]),
    "prose": PROSE,
    "day": st.dates().map(str),
    "moment": st.datetimes().map(lambda moment: moment.isoformat(" ", "seconds")),
    "list": st.lists(st.sampled_from("abcd"), min_size=1, max_size=3).map("|".join),
    "money": st.integers(1000, 99_999).map(lambda value: f"${value:,}.00"),
    "gaps": st.sampled_from(["", "3"]),
}
NAMES = st.sampled_from(["a b", "Preis, EUR", "Größe", "x (kg)", "p;q", "size"])


@st.composite
def tables(draw):
    kinds = draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=2, max_size=6))
    header = [f"{draw(NAMES)} {i}" for i in range(len(kinds))] + ["y"]
    last = st.sampled_from(["ja", "nein"])
    body = draw(st.lists(st.tuples(*(CELLS[kind] for kind in kinds), last), min_size=12, max_size=40))
    return header, [list(row) for row in body]


@given(
    table=tables(),
    how=st.fixed_dictionaries(
        {
            "delimiter": st.sampled_from(",;\t|"),
            "quotechar": st.sampled_from("\"'"),
            "escapechar": st.sampled_from([None, "\\"]),
            "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
            "lineterminator": st.sampled_from(["\n", "\r\n"]),
        }
    ),
    title=st.sampled_from(["", "Report 2024\n\n", "Sales\nPrinted: today\n\n"]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_cell_is_what_was_written_or_it_is_told(tmp_path, table, how, title):
    """Whatever the delimiter, the quotes, the escapes and what stands above."""
    header, body = table
    if how["escapechar"]:  # a backslash is one where nothing is escaped
        body = [[cell.replace("\\", "/") for cell in row] for row in body]
    written = io.StringIO()
    csv.writer(written, **how, doublequote=not how["escapechar"]).writerows([header, *body])
    raw = reading(tmp_path, title + written.getvalue())
    same = list(raw.frame.columns) == header and raw.frame.to_numpy().tolist() == body
    assert same or any(word in told(raw) for word in ("not doubled", "looks like a row", "total"))
    assert not title or "left out above the header" in told(raw)


# ---------------------------------------------------------------------------------------------- one by one


@pytest.mark.parametrize(
    ("name", "header", "first"),
    [
        ("backslash_quotes_comma.csv", "name size price label", ['5" pipe, steel', "4", "74.23", "dear"]),
        ("single_quotes.csv", "name x y", ["Smith, J", "71", "ja"]),
        ("title_above.csv", "customer x amount cls", ["K0000", "35", "396", "A"]),
    ],
)
def test_cases(name, header, first):
    """Files as people have them."""
    frame = read_delimited(CASES / name).frame
    assert " ".join(frame.columns) == header
    assert frame.iloc[0].tolist() == first


def test_a_file_whose_names_hold_commas():
    """Its cells say which of the two is the delimiter."""
    raw = read_delimited(CASES / "commas_in_names.csv")
    assert list(raw.frame.columns) == ["Preis, EUR", "Gewicht, kg", "kauf"]
    assert raw.reading.delimiter.value == ";"


def test_a_title_above_is_told_and_skip_lines_settles_it():
    """Line 4 is the header."""
    assert "header is line 4" in told(read_delimited(CASES / "title_above.csv"))
    raw = read_delimited(CASES / "title_above.csv", Read(skip_lines=3))
    assert list(raw.frame.columns) == ["customer", "x", "amount", "cls"]
    assert told(raw) == ""


def test_a_title_in_the_first_of_many_blanks(tmp_path):
    """As a spreadsheet exports it."""
    raw = reading(tmp_path, "Sales report,,\n,,\nPrinted today,,\n" + rows())
    assert list(raw.frame.columns) == ["name", "n", "y"]
    assert len(raw.frame) == 40
    assert "Sales report" in told(raw)


@pytest.mark.parametrize(
    ("footer", "said"),
    [
        ("Total,293,\n", "totals"),
        ("\nSumme,,\n", "a single value"),
        ("\nSource: the ministry\n", "fewer values"),
        ("# end\n", "comments"),
        (",,\nSource: the ministry,,\n", "a single value"),
        ("name,n,y\n", "repeats the header"),
    ],
)
def test_what_stands_below_the_table_is_left_out_and_told(tmp_path, footer, said):
    """Totals, sources and comments are no rows."""
    raw = reading(tmp_path, rows() + footer)
    assert len(raw.frame) == 40
    assert raw.frame.iloc[-1, 0] == "row 39"
    assert said in told(raw)


def test_a_row_named_total_that_adds_nothing_up_is_kept_and_told(tmp_path):
    """It may be the name of a thing."""
    raw = reading(tmp_path, rows() + "Total,3,ja\n")
    assert len(raw.frame) == 41
    assert "may be a total" in told(raw)


@pytest.mark.parametrize(
    ("place", "line", "said"),
    [(10, "a,b,c,d", "line 12 has 4 values, expected 3"), (10, "a,b", "line 12 has 2 values, expected 3"),
     (0, "a,b,c,d", "line 2 has 4 values, expected 3"), (0, '"5 pipe, steel,4,ja', "expected 3")],
)  # fmt: skip
def test_the_odd_line_is_the_one_that_is_named(tmp_path, place, line, said):
    """With its start, and the keys that change how it is cut."""
    lines = rows().splitlines()
    lines.insert(place + 1, line)
    with pytest.raises(DataError) as caught:
        reading(tmp_path, "\n".join(lines) + "\n")
    assert said in str(caught.value)
    assert "delimiter, quote or escape under [read]" in str(caught.value)


def test_quotes_inside_of_quotes_that_nothing_escapes(tmp_path):
    """A quote ends a cell where a delimiter follows."""
    text = 'name,n,y\n"plain",1,ja\n"5" pipe, steel",4,nein\n"a ""b"" c",5,ja\n' * 3
    raw = reading(tmp_path, text)
    assert raw.frame.iloc[1].tolist() == ['5" pipe, steel', "4", "nein"]
    assert raw.frame.iloc[2].tolist() == ['a "b" c', "5", "ja"]
    assert "line 3" in told(raw)


def test_backslashes_that_escape_nothing_stay(tmp_path):
    """As in paths."""
    raw = reading(tmp_path, "path,n\n" + "".join(f"C:\\new\\{i},{i}\n" for i in range(20)))
    assert raw.frame.iloc[3, 0] == "C:\\new\\3"


def test_a_file_without_a_header_is_told(tmp_path):
    """Its first line is a row, and the keys that say otherwise are named."""
    text = "".join(f"{i / 7:.2f},{i},{'ab'[i % 2]}\n" for i in range(30))
    raw = reading(tmp_path, text)
    assert raw.frame.shape == (30, 3)
    assert "columns = [...] under [source]" in told(raw)
    assert reading(tmp_path, text, Read(skip_lines=0)).frame.shape == (29, 3)
    named = reading(tmp_path, text, columns=("a", "b", "c"))
    assert (named.frame.shape, told(named)) == ((30, 3), "")


@pytest.mark.parametrize("header", ["country,2019,2020,2021", "0,1,2,3", "x,y,z,w"])
def test_years_and_numbers_may_be_names(tmp_path, header):
    """Where they count up, or others beside them are words."""
    text = header + "\n" + "".join(f"{i},{i * 1.5},{i * 2.5},{i * 7}\n" for i in range(30))
    raw = reading(tmp_path, text)
    assert list(raw.frame.columns) == header.split(",")


def test_rows_with_names_that_the_header_has_none_for(tmp_path):
    """As R writes them."""
    text = '"n","y"\n' + "".join(f'"{i + 1}",{i * 5 % 7},"{"ab"[i % 2]}"\n' for i in range(30))
    raw = reading(tmp_path, text)
    assert list(raw.frame.columns) == ["", "n", "y"]
    assert len(raw.frame) == 30


@pytest.mark.parametrize(
    ("read", "cell"),
    [
        (Read(delimiter=";"), "a,b"),
        (Read(quote=""), '"a'),
        (Read(quote="'"), '"a'),
        (Read(delimiter=",", quote='"'), "a,b"),
    ],
)
def test_keys_count_whatever_the_file_looks_like(tmp_path, read, cell):
    """A person's word."""
    text = '"a,b";c\n' * 12 if read.delimiter == ";" else "x,y\n" + '"a,b",c\n' * 12
    if read.quote in {"", "'"}:
        text = "x,y,z\n" + '"a,b",c\n' * 12
    assert reading(tmp_path, text, read).frame.iloc[0, 0] == cell


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_line_ends(tmp_path, end):
    """Of every system, and quoted cells that hold some."""
    text = 'name,n\n"two\nlines",1\n' + "plain,2\n" * 10
    raw = reading(tmp_path, text.replace("\n", end))
    assert raw.frame.shape == (11, 2)
    assert raw.frame.iloc[0, 0] == f"two{end}lines"


def test_a_delimiter_at_the_end_of_each_row(tmp_path):
    """Is no column."""
    raw = reading(tmp_path, "a,b\n" + "1,2,\n" * 10)
    assert raw.frame.shape == (10, 2)


def test_escaped_delimiters_without_quotes(tmp_path):
    """As Hive and MySQL write them."""
    raw = reading(tmp_path, "name,n\n" + "".join(f"Smith\\, J,{i}\n" for i in range(20)))
    assert raw.frame.iloc[3].tolist() == ["Smith, J", "3"]


def test_a_table_of_text_with_a_ruled_header(tmp_path):
    """The rule is no row."""
    raw = reading(tmp_path, "| a | b |\n|---|---|\n" + "".join(f"| {i} | x{i % 3} |\n" for i in range(20)))
    assert raw.frame.shape == (20, 4)
    assert "rules it off" in told(raw)


def test_a_header_narrower_than_the_rows_is_an_error(tmp_path):
    """As where a decimal comma parts cells."""
    with pytest.raises(DataError, match=r"line 1: the header has 3 values and the rows have 5"):
        reading(tmp_path, "a,b,y\n" + "".join(f"{i},5,{i * 2},25,{i % 2}\n" for i in range(40)))


def test_words_alone_may_be_a_file_without_a_header(tmp_path):
    """Where each of the first line is a value of its column."""
    text = "".join(f"{'red' if i % 2 else 'blue'},{'xyz'[i % 3]}\n" for i in range(40))
    assert reading(tmp_path, text).frame.shape == (40, 2)
    assert reading(tmp_path, "colour,letter\n" + text).frame.shape == (40, 2)


def test_names_that_begin_with_an_apostrophe_are_not_quoted(tmp_path):
    """A single quote that nothing closes is a letter of a name, as in 's-Gravenhage."""
    towns = ["O'Brien", "'s-Gravenhage", "rock 'n' roll", "Bern"]
    raw = reading(tmp_path, "town,n\n" + "".join(f"{towns[i % 4]},{i}\n" for i in range(80)))
    assert raw.frame["town"].tolist() == towns * 20


def test_decimal_commas_of_the_first_column_are_no_delimiters(tmp_path):
    """Where a tab parts them from words, and the header has no comma."""
    raw = reading(tmp_path, "wert\tart\n" + "".join(f"{i % 9},{i * 7 % 900 + 100}\tja\n" for i in range(40)))
    assert raw.frame.shape == (40, 2)
    assert raw.reading.delimiter.value == "\t"
    assert raw.frame.columns.tolist() == ["wert", "art"]


def test_spaces_inside_of_cells_that_tabs_part_are_no_delimiters(tmp_path):
    """Where every name has two words, and a title above has no tab."""
    raw = reading(tmp_path, "Report 2024\n\nGröße 0\tGröße 1\ty\n" + "Smith, J\tSmith, J\tja\n" * 12)
    assert raw.frame.columns.tolist() == ["Größe 0", "Größe 1", "y"]


def test_an_escaped_apostrophe_tells_the_quote_where_no_cell_needs_one(tmp_path):
    """As a writer that quotes by need leaves it, with the single quote as its own."""
    text = rows().replace("row 7,", "don\\'t,")
    assert "don't" in reading(tmp_path, text).frame["name"].tolist()


def test_the_header_of_a_file_that_was_glued_to_another_is_left_out(tmp_path):
    """Each of the two began with a byte order mark."""
    raw = reading(tmp_path, rows() + "\ufeff" + rows())
    assert len(raw.frame) == 80
    assert "as it repeats the header" in told(raw)


def test_a_decimal_comma_that_may_be_a_delimiter_is_told(tmp_path):
    """`7,32,5,red` under `id,price,colour` has a row name, or the price is 32.5."""
    lines = "".join(f"{i},{i % 9},{10 + i % 80},red\n" for i in range(60))
    raw = reading(tmp_path, "id,price,colour\n" + lines)
    assert 'if "0,10" is one number' in told(raw)
    assert "decimal comma" not in told(reading(tmp_path, "id,price,kind,colour\n" + lines))
