"""Tables that are too large to be held: which rows are read, and that no piece's size decides it."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from artifact.kinds.category import canonical
from training.settings import Read, UseCase, UseCaseError, load_use_case
from training.tables import pieces
from training.tables.data import _label_hashes, load_table
from training.tables.delimited import read_delimited
from training.tables.hashes import text_hashes
from training.tables.init import write_use_case
from training.tables.parquet import read_parquet
from training.tables.pieces import row_hashes, rows_of, sampled_parquet, threshold_of
from training.tables.raw import DataError
from training.tables.sources import read_source, source_of

ROWS, MOST = 20_000, 2_000


def made(rows: int = ROWS) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    amount = np.round(rng.normal(size=rows), 4)
    return pd.DataFrame(
        {
            "amount": np.where(rng.random(rows) < 0.1, np.nan, amount),
            "count": rng.integers(0, 9, rows),
            "place": rng.choice(["Ulm", "Köln", 'a "big" town', "one, two"], rows),
            "answer": np.where(amount + rng.normal(size=rows) > 0, "yes", "no"),
        }
    )


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return made()


@pytest.fixture
def csv(table, tmp_path):
    path = tmp_path / "many.csv"
    table.to_csv(path, index=False)
    return path


def cells(frame: pd.DataFrame) -> list[tuple[str, ...]]:
    return [tuple(map(str, row)) for row in frame.to_numpy().tolist()]


def told(raw) -> str:
    return " ".join(each.text for each in raw.reading.look_at)


def test_of_a_csv_file_with_more_rows_about_as_many_are_read_and_told(csv, table):
    raw = read_delimited(csv, max_rows=MOST)
    assert 0.9 * MOST < len(raw.frame) < 1.15 * MOST
    assert f"{len(raw.frame):,} of {ROWS:,} rows are read, chosen by a hash" in told(raw)
    assert "max_rows under [source]" in told(raw)
    whole = read_delimited(csv)
    assert set(cells(raw.frame)) <= set(cells(whole.frame))
    assert raw.digest == whole.digest
    assert "hash" not in told(whole)
    counts = raw.frame["place"].value_counts(normalize=True)
    assert (counts - table["place"].value_counts(normalize=True)).abs().max() < 0.05


def test_the_rows_of_a_csv_file_are_the_same_in_any_order_and_packed(csv, table, tmp_path):
    """Only the rows at both ends, which are always read, may differ."""
    turned, packed = tmp_path / "turned.csv", tmp_path / "packed.csv.gz"
    table.iloc[::-1].to_csv(turned, index=False, lineterminator="\r\n")
    packed.write_bytes(gzip.compress(csv.read_bytes()))
    one, other, third = (cells(read_delimited(path, max_rows=MOST).frame) for path in (csv, turned, packed))
    assert one == third
    ends = 2 * (pieces.HEAD_ROWS + pieces.END_ROWS)
    assert len(set(one) ^ set(other)) <= ends


def test_a_smaller_sample_is_part_of_a_larger_one(csv):
    small, large = (cells(read_delimited(csv, max_rows=most).frame) for most in (500, MOST))
    assert set(small) <= set(large)


def test_a_cell_of_several_lines_stays_whole(tmp_path, table):
    path = tmp_path / "lines.csv"
    with_lines = table.assign(note=[f'line one {i}\nline "two"\n\nlast' for i in range(len(table))])
    with_lines.to_csv(path, index=False)
    frame = read_delimited(path, max_rows=MOST).frame
    assert len(frame) > 100
    assert frame["note"].str.fullmatch(r'line one \d+\nline "two"\n\nlast').all()


def test_a_quote_that_stands_for_itself_does_not_swallow_the_rest():
    lines = [b'a,5" pipe\n', *([b"b,c\n"] * (2 * pieces.MAX_LINES_OF_ROW))]
    assert list(rows_of(lines, b'"')) == lines
    assert list(rows_of([b'a,"x\n', b'y"\n', b"b,c\n"], b'"')) == [b'a,"x\ny"\n', b"b,c\n"]


def test_titles_totals_and_the_way_a_file_is_written_are_found_in_a_sample(tmp_path, table):
    path = tmp_path / "titled.csv"
    body = table.to_csv(index=False, sep=";", decimal=",", encoding="cp1252")
    total = f"Total;{table['count'].sum()};;\n"
    path.write_bytes(f"A report\nof many rows\n\n{body}{total}".encode("cp1252"))
    raw = read_delimited(path, max_rows=MOST)
    assert list(raw.frame.columns) == list(table.columns)
    assert "total" in told(raw).lower()
    assert "Köln" in set(raw.frame["place"])
    assert raw.reading.encoding.value == "windows-1252"


def test_a_fault_in_a_sample_says_that_lines_are_counted_there(csv):
    lines = csv.read_text().splitlines(keepends=True)
    csv.write_text("".join([*lines[:30], "1,2,yes,no,1,2\n", *lines[30:]]))
    with pytest.raises(DataError, match=r"Lines are counted among the [\d,]+ of [\d,]+ that are read"):
        read_delimited(csv, Read(delimiter=","), max_rows=MOST)


@pytest.fixture
def parquet(table, tmp_path):
    path = tmp_path / "many.parquet"
    days = pd.date_range("2024-01-01", periods=len(table), freq="min")
    typed = table.assign(day=days, whole=pd.array([None, 1] * (len(table) // 2), "Int64"))
    typed = typed.assign(place=typed["place"].astype("category"), parts=[[1, 2]] * len(table))
    typed.to_parquet(path, row_group_size=3_000)
    return path


def test_the_rows_of_a_parquet_file_are_the_same_whatever_the_size_of_a_piece(parquet):
    with pq.ParquetFile(parquet) as file:
        samples = [sampled_parquet(file, MOST, rows_at_once=size) for size in (77, 1_000, 65_536)]
    first, *others = [found[0] for found in samples if found is not None]
    assert 0.9 * MOST < first.num_rows < 1.1 * MOST
    assert [each.equals(first) for each in others] == [True, True]


def test_of_a_parquet_file_with_more_rows_about_as_many_are_read_and_told(parquet):
    frame, digest, look_at = read_parquet(parquet, MOST)
    whole, same, nothing = read_parquet(parquet)
    assert list(frame.dtypes) == list(whole.dtypes)
    assert digest == same
    assert not nothing
    assert f"{len(frame):,} of {ROWS:,} rows are read" in look_at[0].text
    assert set(frame["day"]) <= set(whole["day"])
    assert frame.index.equals(pd.RangeIndex(len(frame)))


def test_equal_rows_of_a_parquet_file_have_one_hash_whether_or_not_a_cell_beside_them_is_missing():
    types = {"a": pa.int64(), "b": pa.string(), "c": pa.bool_(), "d": pa.date32()}
    schema = pa.schema(list(types.items()))
    row = {"a": 1, "b": "x", "c": True, "d": None}
    alone = pa.RecordBatch.from_pylist([row], schema)
    beside = pa.RecordBatch.from_pylist([dict.fromkeys(types), row], schema)
    assert row_hashes(alone)[0] == row_hashes(beside)[1]
    assert row_hashes(beside)[0] != row_hashes(beside)[1]


def test_every_column_of_a_row_counts_for_its_hash(table):
    batch = pa.RecordBatch.from_pandas(table.head(500), preserve_index=False)
    assert len(np.unique(row_hashes(batch))) == len(table.head(500).drop_duplicates())


@pytest.mark.parametrize(("most", "rows"), [(1_000, 4_000), (3, 10_000_000), (10, 10), (20, 10)])
def test_the_threshold_lets_the_wanted_fraction_of_all_hashes_pass(most, rows):
    assert threshold_of(most, rows) / 2**64 == pytest.approx(min(1.0, most / rows))


def test_a_table_of_more_cells_than_fit_is_sampled_without_being_asked(csv, parquet, monkeypatch):
    monkeypatch.setattr(pieces, "MAX_CELLS", 4 * MOST)
    for path in (csv, parquet):
        raw = read_source(UseCase(name="many", target="answer", source=source_of(path)))
        assert len(raw.frame) < 1.2 * MOST
        assert "rows are read" in told(raw)


def test_the_table_of_a_sample_is_the_same_twice_and_its_use_case_says_so(csv, tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "MAX_CELLS", 4 * MOST)
    lines: list[str] = []
    path = write_use_case(csv, "answer", tmp_path, lines.append)
    assert any("rows are read, chosen by a hash" in line for line in lines)
    assert "rows are read, chosen by a hash" in path.read_text()
    use_case = load_use_case(path)
    one, other = load_table(use_case), load_table(use_case)
    assert (one.row_hashes == other.row_hashes).all()
    assert one.rows < 1.2 * MOST


def test_max_rows_is_a_key_of_the_source(csv, tmp_path):
    path = write_use_case(csv, "answer", tmp_path)
    text = path.read_text()
    path.write_text(text.replace("[source]\n", f"[source]\nmax_rows = {MOST}\n"))
    assert load_table(load_use_case(path)).rows < 1.2 * MOST
    path.write_text(text.replace("[source]\n", "[source]\nmax_rows = 5\n"))
    with pytest.raises(UseCaseError, match="max_rows"):
        load_use_case(path)


def test_a_delimiter_of_several_characters_in_a_sample(tmp_path, table):
    path = tmp_path / "many.csv"
    rows = table.head(5_000).to_numpy().tolist()
    path.write_text(
        "\n".join("~|~".join(map(str, row)) for row in [list(table.columns), *rows]) + "\n", encoding="utf-8"
    )
    raw = read_delimited(path, Read(delimiter="~|~"), max_rows=1_000)
    assert list(raw.frame.columns) == list(table.columns)
    assert 800 < len(raw.frame) < 1_200


@pytest.mark.parametrize("labels", [["ja", " nein ", "ja"], [True, False, True], [1, 2, 1], [1, "1", True]])
def test_labels_have_the_hash_of_their_spelling(labels):
    """The split of a table follows it, so that it stays what it was."""
    target = np.array(labels, object)
    assert _label_hashes(target).tolist() == text_hashes([canonical(label) for label in labels]).tolist()
