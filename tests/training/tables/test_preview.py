"""`preview` shows what a file is read as: right, or told in `look_at` with the column."""

import csv
import io
import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.__main__ import main
from training.settings import Read
from training.tables.preview import as_json, as_text, preview

CASES = Path(__file__).parent / "cases"
TOWNS = {
    "utf-8": ["Genève", "Łódź", "東京", "Москва", "Bern"],
    "utf-16": ["Genève", "Łódź", "東京", "Москва", "Bern"],
    "windows-1251": ["Москва", "Казань", "Пермь", "Омск", "Тверь"],
    "windows-1252": ["München", "Köln", "Fürth", "Görlitz", "Bonn"],
    "gb18030": ["北京市", "上海市", "广州市", "深圳市", "成都市"],
    "shift_jis": ["東京都", "大阪府", "京都府", "北海道", "なごや"],
    "koi8-r": ["Москва", "Казань", "Пермь", "Омск", "Тверь"],
}


def shown(path: Path, **more) -> dict:
    return json.loads(as_json(preview(path, **more)))


def column(found: dict, name: str) -> dict:
    return next(each for each in found["columns"] if each["name"] == name)


def test_the_json_is_as_the_design_says():
    """Its keys, and numbers as numbers."""
    found = shown(CASES / "cp1251.csv", rows=3)
    assert list(found) == ["encoding", "delimiter", "decimal", "columns", "look_at"]
    assert (found["encoding"], found["delimiter"]) == ("windows-1251", ";")
    assert column(found, "возраст") == {
        "name": "возраст", "kind": "number", "read_as": "", "raw": ["3", "31", "1"], "parsed": [3, 31, 1],
    }  # fmt: skip
    assert column(found, "город")["parsed"] == ["Омск", "Казань", "Омск"]
    assert "encoding under [read]" in found["look_at"][0]["text"]


def test_missing_is_null_and_what_became_missing_is_counted(tmp_path):
    """Cells that are not blank, too."""
    rows = "".join(f"{'n.a.' if i == 3 else 'NA' if i < 2 else i / 4},{i % 3}\n" for i in range(60))
    (tmp_path / "t.csv").write_text("a,b\n" + rows)
    found = shown(tmp_path / "t.csv")
    assert column(found, "a")["parsed"][:5] == [None, None, 0.5, None, 1]
    assert '3 cells that are not blank ("NA", "n.a.") are missing' in column(found, "a")["read_as"]


def test_a_class_that_is_called_na_is_asked_about():
    """It is kept, or the key that keeps it is named; and the keys settle it."""
    for target in ("continent", None):
        found = shown(CASES / "target_na.csv", target=target, rows=300)
        told = " ".join(each["text"] for each in found["look_at"] if each["column"] == "continent")
        assert '"NA"' in told
        assert "under [read]" in told
    kept = shown(CASES / "target_na.csv", target="continent", rows=300, read=Read(not_missing=("NA",)))
    assert column(kept, "continent")["parsed"].count("NA") == 118
    assert not kept["look_at"]
    gone = shown(CASES / "target_na.csv", rows=300, read=Read(missing=("NA",)))
    assert column(gone, "continent")["parsed"].count(None) == 118


def test_a_word_for_missing_among_values_is_asked_about(tmp_path):
    """Null is a surname, and a word for nothing."""
    names = ["Smith", "Null", "Roe", "Li", "Weber"]
    (tmp_path / "t.csv").write_text("name,n\n" + "".join(f"{names[i % 5]},{i}\n" for i in range(60)))
    found = shown(tmp_path / "t.csv")
    assert any(
        'not_missing = ["Null"]' in each["text"] for each in found["look_at"] if each["column"] == "name"
    )


def test_the_first_column_without_a_name_numbers_the_rows():
    """It is left out, and said so."""
    found = shown(CASES / "index_of_a_sample.csv")
    assert "numbers the rows: left out" in found["columns"][0]["read_as"]
    assert [each["column"] for each in found["look_at"]] == ["column_1"]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_table_fits_the_terminal(width):
    """Also where letters take two columns."""
    text = as_text(preview(CASES / "chinese_reviews_gb18030.csv"), width)
    table = text[text.index("rows, ") :].splitlines()[1:]
    wide = [sum(2 if ord(c) > 0x2E7F else 1 for c in line) for line in table]
    assert max(wide) <= width
    assert text.startswith("! the file is not UTF-8")
    assert any(line.startswith("  parsed") for line in table)


def test_the_command_takes_the_keys_as_options(tmp_path, capsys):
    """And says which value is wrong."""
    (tmp_path / "t.csv").write_text("# one\n# two\na;b\n" + "1,5;x\n" * 9)
    path = str(tmp_path / "t.csv")
    assert main(["preview", path, "--json", "--skip-lines", "2", "--delimiter", ";", "--decimal", ","]) == 0
    assert json.loads(capsys.readouterr().out)["columns"][0]["parsed"][0] == 1.5
    assert main(["preview", path]) == 0
    assert "parsed" in capsys.readouterr().out
    assert main(["preview", path, "--encoding", "klingon"]) == 2
    assert '"klingon"' in capsys.readouterr().err
    assert main(["preview", path, "--target", "c"]) == 2
    assert 'target names the column "c"' in capsys.readouterr().err
    assert main(["preview", str(tmp_path / "absent.csv")]) == 2


def test_a_parquet_file(tmp_path):
    """Has no encoding and no delimiter; names and texts are in NFC, whole numbers beside gaps stay exact."""
    frame = pd.DataFrame(
        {"ville e\u0301": ["Gene\u0300ve", None] * 20, "id": pd.array([2**60 + 1, None] * 20, dtype="Int64")}
    )
    frame.to_parquet(tmp_path / "t.parquet")
    found = shown(tmp_path / "t.parquet", rows=2)
    assert (found["encoding"], found["delimiter"]) == (None, None)
    assert column(found, "ville é")["parsed"] == ["Genève", None]
    assert column(found, "id")["parsed"] == [str(2**60 + 1), None]


@pytest.mark.parametrize("target", [None, "level"])
def test_what_init_notices_in_the_values_is_told_here_too(tmp_path, target):
    """Numbers that may stand for a missing value, and codes; of a target that is an amount as well."""
    rows = "".join(
        f"{-999 if i % 9 == 0 else i * 37 % 101 / 4},{90210 + i % 7},{i % 2}\n" for i in range(200)
    )
    (tmp_path / "t.csv").write_text("level,zip,y\n" + rows)
    told = {each["column"]: each["text"] for each in shown(tmp_path / "t.csv", target=target)["look_at"]}
    assert 'missing = ["-999"]' in told["level"]
    assert "may be codes" in told["zip"]


# ----------------------------------------------------------------------- whatever is written is read, or told

NUMBER = st.decimals(-9999, 99999, places=2, allow_nan=False, allow_infinity=False)


@given(
    rows=st.lists(
        st.tuples(
            NUMBER, st.integers(0, 400), st.integers(0, 4), st.dates(pd.Timestamp("1950-01-01").date())
        ),
        min_size=25,
        max_size=40,
    ),
    encoding=st.sampled_from(sorted(TOWNS)),
    dialect=st.tuples(
        st.sampled_from(",;\t|"), st.sampled_from(".,"), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    ),
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_cell_is_what_was_written_or_its_column_is_told(tmp_path, rows, encoding, dialect):
    """Encodings, delimiters and decimal marks together."""
    delimiter, decimal, quoting = dialect
    towns = TOWNS[encoding]
    written = io.StringIO()
    writer = csv.writer(written, delimiter=delimiter, quoting=quoting)
    writer.writerow(["amount", "count", towns[0], "day"])
    for amount, count, town, day in rows:
        writer.writerow([str(amount).replace(".", decimal), count, towns[town], day.isoformat()])
    path = tmp_path / "table.csv"
    path.write_bytes(written.getvalue().encode(encoding))
    found = shown(path, rows=len(rows))
    told = {each["column"] for each in found["look_at"]}
    wanted = {
        "amount": [float(amount) for amount, *_ in rows],
        "count": [count for _, count, *_ in rows],
        "day": [day.isoformat() for *_, day in rows],
        towns[0]: [towns[town] for _, _, town, _ in rows],
    }
    if encoding.startswith("utf"):
        of_the_file = [each["text"] for each in found["look_at"] if each["column"] is None]
        assert all("rows are copies of others" in text for text in of_the_file)
    for name, values in wanted.items():
        if None in told and name not in {each["name"] for each in found["columns"]}:
            continue  # its name is among the words of a guessed encoding
        parsed = column(found, name)["parsed"]
        right = parsed == values or [str(each) for each in parsed] == [str(each) for each in values]
        assert right or name in told or (None in told and name == towns[0])


def parquet(tmp_path: Path, cells) -> dict:
    """What a column of a Parquet file is read as."""
    count = len(cells)
    frame = pd.DataFrame(
        {"a": cells, "x": [i * 7 % 31 for i in range(count)], "y": ["no", "yes"] * (count // 2)}
    )
    frame.to_parquet(tmp_path / "t.parquet")
    return shown(tmp_path / "t.parquet")


def test_large_decimals_of_parquet_keep_their_digits(tmp_path):
    """As whole numbers do; small ones are numbers."""
    large = [Decimal(1_344_800_117_571_260_408 + i % 7) for i in range(60)]
    assert column(parquet(tmp_path, large), "a")["parsed"][:20] == [str(value) for value in large[:20]]
    small = [Decimal(f"{i}.25") for i in range(60)]
    assert column(parquet(tmp_path, small), "a")["parsed"][:3] == [0.25, 1.25, 2.25]


def test_bytes_of_parquet_are_texts(tmp_path):
    found = parquet(tmp_path, ["Köln".encode(), b"Ulm"] * 30)
    assert column(found, "a")["parsed"][:2] == ["Köln", "Ulm"]


@pytest.mark.parametrize("cells", [[[1, 2], [3]] * 30, [{"a": 1}, {"a": 2}] * 30])
def test_lists_and_records_of_parquet_are_told(cells, tmp_path):
    found = parquet(tmp_path, cells)
    assert any(each["column"] == "a" for each in found["look_at"])
    assert column(found, "a")["kind"] == "category"


def test_moments_of_a_place_whose_offset_changes_are_told(tmp_path):
    found = parquet(tmp_path, pd.date_range("2024-01-01", periods=60, freq="7D", tz="Europe/Berlin"))
    assert column(found, "a")["parsed"][0] == "2023-12-31T23:00:00"
    assert "Europe/Berlin" in next(each["text"] for each in found["look_at"] if each["column"] == "a")


@pytest.mark.parametrize("target", [None, "churned"])
def test_columns_that_are_the_same_or_give_the_target_away_are_told(target, tmp_path):
    churned = ["ja" if i * 7 % 5 < 2 else "nein" for i in range(80)]
    rows = [
        f"{i * 3 % 41},{i * 3 % 41},{'closed' if y == 'ja' else 'open'},{y}" for i, y in enumerate(churned)
    ]
    (tmp_path / "data.csv").write_text("a,b,status,churned\n" + "\n".join(rows) + "\n")
    look_at = shown(tmp_path / "data.csv", target=target)["look_at"]
    assert any(each["column"] == "b" and 'the same as "a"' in each["text"] for each in look_at)
    leaks = [each for each in look_at if "decides the target" in each["text"]]
    assert [each["column"] for each in leaks] == (["status"] if target else [])


def test_dates_of_parquet_that_stand_for_no_date_are_told(tmp_path):
    dates = [date(9999, 12, 31) if i % 9 == 0 else date(2020, 1, 1 + i % 28) for i in range(60)]
    (told,) = [each["text"] for each in parquet(tmp_path, dates)["look_at"] if each["column"] == "a"][:1]
    assert "9999-12-31" in told


@pytest.mark.parametrize("second", ["years,,kg,", "age,town,weight,"])
def test_a_second_header_is_told(second, tmp_path):
    rows = "".join(
        f"{20 + i % 50},{['Ulm', 'Bonn'][i % 2]},{50 + i % 40}.5,{'no' if i % 3 else 'yes'}\n"
        for i in range(60)
    )
    (tmp_path / "t.csv").write_text(f"a,b,c,y\n{second}\n{rows}")
    told = " ".join(each["text"] for each in shown(tmp_path / "t.csv")["look_at"] if each["column"] is None)
    assert "second header" in told
    (tmp_path / "t.csv").write_text(f"a,b,c,y\n{rows}")
    assert not shown(tmp_path / "t.csv")["look_at"]


@pytest.mark.parametrize(
    "cell", ["{d:02} {m:02} 1991", "06 {d:02} {m:02} 56 78", "Tue Dec {d} 12:05:07 CET 1991"]
)
def test_spaces_within_the_cells_of_a_comma_file_part_no_columns(cell, tmp_path):
    rows = "".join(
        f"{cell.format(d=i % 28 + 1, m=i % 12 + 1)},{i},{'no' if i % 3 else 'yes'}\n" for i in range(60)
    )
    (tmp_path / "t.csv").write_text(f"a,x,y\n{rows}")
    found = shown(tmp_path / "t.csv")
    assert [each["name"] for each in found["columns"]] == ["a", "x", "y"]
