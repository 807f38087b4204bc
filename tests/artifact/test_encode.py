"""Rows of any shape to one matrix."""

import math
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from artifact.encode import BadRows, Encoder, canonical, learn_text, parse_date
from artifact.kinds.text import MAX_READ
from artifact.signature import Column, Signature

TERMS, IDF = learn_text(["good film", "bad film", "good plot"], min_documents=1)


def signature(*columns, ignored=("id", "y")):
    return Signature(task="regression", target="y", columns=columns, ignored=ignored)


MIXED = signature(
    Column(name="age", kind="number"),
    Column(name="income", kind="number", missing="allow"),
    Column(name="city", kind="category", categories=("1", "Rome", "Paris")),
    Column(name="open", kind="category", categories=("x", "y"), unknown="missing", missing="allow"),
    Column(
        name="when",
        kind="date",
        parts=("year", "month", "weekday"),
        formats=("%d/%m/%Y",),
        middle="2024-01-01",
    ),
    Column(name="note", kind="text", terms=TERMS, idf=IDF, missing="allow"),
)
ROW = {"age": 30, "income": 1.5, "city": "Rome", "open": "y", "when": "2024-03-01", "note": "good"}


def refusals(call, *args):
    with pytest.raises(BadRows) as caught:
        call(*args)
    return {(error.row, error.column): error.reason for error in caught.value.errors}


def test_rows_records_and_columns_give_one_matrix():
    encoder = Encoder(MIXED)
    by_name = encoder.records([ROW, ROW | {"city": 1, "note": "bad plot"}])
    by_place = encoder.rows([list(ROW.values()), [30, 1.5, "1", "y", "01/03/2024", "bad plot"]])
    by_column = encoder.columns({k: [v, {"city": 1.0, "note": "bad plot"}.get(k, v)] for k, v in ROW.items()})
    frame = pd.DataFrame([ROW, ROW | {"city": "1", "note": "bad plot"}])
    assert by_name.shape == (2, MIXED.width)
    assert by_name.flags.c_contiguous
    np.testing.assert_array_equal(by_name, by_place)
    np.testing.assert_array_equal(by_name, by_column)
    np.testing.assert_array_equal(by_name, encoder.columns(dict(frame.items())))
    assert by_name[0, :7].tolist() == [30, 1.5, 1, 1, 2024, 3, 4]


def test_numbers_are_what_float32_holds():
    encoder = Encoder(signature(Column(name="a", kind="number")))
    assert encoder.rows([[0.1]])[0, 0] == np.float32(0.1)
    assert encoder.rows([[2**53 + 1]])[0, 0] == np.float32(2**53 + 1)


def test_text_matches_scikit_learns_tfidf():
    texts = ["A good film, a GOOD plot", "bad film", "good", ""]
    terms, idf = learn_text(texts, min_documents=1, ngrams=2)
    ours = Encoder(signature(Column(name="t", kind="text", terms=terms, idf=idf, ngrams=2, missing="allow")))
    theirs = TfidfVectorizer(ngram_range=(1, 2)).fit(texts)
    order = theirs.get_feature_names_out().tolist()
    assert list(terms) == order
    np.testing.assert_allclose(ours.rows([[t] for t in texts]), theirs.transform(texts).toarray(), atol=1e-7)


def test_the_vocabulary_is_bounded_and_drops_what_one_document_alone_says():
    terms, _ = learn_text(["aa bb", "aa bb cc", "aa"], max_terms=1)
    assert terms == ("aa",)
    assert "cc" not in learn_text(["aa bb", "aa bb cc", "aa"])[0]


@pytest.mark.parametrize("value", [None, "", "  ", math.nan])
def test_missing_follows_the_policy(value):
    encoder = Encoder(MIXED)
    found = encoder.records([ROW | {"income": value, "open": value, "note": value}])
    assert math.isnan(found[0, 1])
    assert found[0, 3] == -1
    assert not found[0, 7:].any()
    assert "missing" in refusals(encoder.records, [ROW | {"age": value}])[0, "age"]
    assert "missing" in refusals(encoder.records, [ROW | {"city": value}])[0, "city"]
    assert "missing" in refusals(encoder.records, [ROW | {"when": value}])[0, "when"]


def test_an_absent_key_is_missing_and_an_ignored_one_is_ignored():
    encoder = Encoder(MIXED)
    row = {k: v for k, v in ROW.items() if k != "income"}
    assert math.isnan(encoder.records([row | {"id": [1], "y": "anything"}])[0, 1])
    assert refusals(encoder.records, [{k: v for k, v in ROW.items() if k != "age"}]).keys() == {(0, "age")}


@pytest.mark.parametrize(
    "value", ["abc", "3", True, False, [1], {"a": 1}, 1e39, -1e300, 10**400, math.inf, -math.inf]
)
def test_what_is_no_number_is_refused_at_its_place(value):
    encoder = Encoder(MIXED)
    assert refusals(encoder.records, [ROW, ROW | {"age": value}]).keys() == {(1, "age")}
    assert math.isnan(encoder.records([ROW | {"age": value}], lenient=True)[0, 0])


@pytest.mark.parametrize("value", ["rome", "", 2, True, ["Rome"], {"a": 1}])
def test_an_unknown_category_of_a_closed_column_is_refused(value):
    encoder = Encoder(MIXED)
    assert refusals(encoder.records, [ROW | {"city": value}]).keys() == {(0, "city")}
    assert encoder.records([ROW | {"city": value}], lenient=True)[0, 2] == -1
    if not isinstance(value, (list, dict)):
        assert encoder.records([ROW | {"open": value}])[0, 3] == -1


@pytest.mark.parametrize("value", [1, 1.0, "1", " 1 ", "1.0", np.int64(1), np.float32(1)])
def test_one_is_one_however_it_is_spelt(value):
    assert Encoder(MIXED).records([ROW | {"city": value}])[0, 2] == 0


@pytest.mark.parametrize("value", ["01067", '="01067"', "'01067"])
def test_a_code_as_a_spreadsheet_writes_it_is_the_code(value):
    """As in the files that training reads."""
    encoder = Encoder(signature(Column(name="plz", kind="category", categories=("01067", "80331"))))
    assert encoder.rows([[value]])[0, 0] == 0


@pytest.mark.parametrize("value", [True, "true", "True", "TRUE", np.True_])
def test_booleans_match_as_categories(value):
    encoder = Encoder(signature(Column(name="b", kind="category", categories=("false", "true"))))
    assert encoder.rows([[value]])[0, 0] == 1
    assert refusals(encoder.rows, [[1]]).keys() == {(0, "b")}


@pytest.mark.parametrize("value", ["yesterday", 20240301, "20240301", "2024", True, "31/02/2024"])
def test_what_is_no_date_is_refused(value):
    assert (
        "expected a date such as 2024-01-01"
        in refusals(Encoder(MIXED).records, [ROW | {"when": value}])[0, "when"]
    )


@pytest.mark.parametrize(
    "value",
    [
        "2024-03-01",
        "2024-03-01T23:30:00Z",
        "2024-03-01 23:30",
        "01/03/2024",
        datetime(2024, 3, 1),
        pd.Timestamp("2024-03-01"),
    ],
)
def test_dates_are_read_as_written(value):
    assert Encoder(MIXED).records([ROW | {"when": value}])[0, 4:7].tolist() == [2024, 3, 4]


def test_errors_name_every_place_but_at_most_twenty():
    encoder = Encoder(MIXED)
    found = refusals(encoder.records, [ROW | {"age": "x", "city": "y"}] * 3)
    assert found.keys() == {(row, column) for row in range(3) for column in ("age", "city")}
    assert len(refusals(encoder.records, [ROW | {"age": "x"}] * 100)) == 20


@pytest.mark.parametrize(
    ("method", "rows", "place"),
    [
        ("rows", [], (None, None)),
        ("rows", [[1]], (0, None)),
        ("rows", [list(ROW.values()), "abcdef"], (1, None)),
        ("records", [], (None, None)),
        ("records", [ROW, [1]], (1, None)),
        ("records", [ROW | {"aeg": 1}], (0, "aeg")),
        ("columns", {}, (None, None)),
        ("columns", {"age": []}, (None, None)),
        ("columns", {"age": "abc"}, (None, "age")),
        ("columns", {"age": 3}, (None, "age")),
        ("columns", {"age": [1], "city": ["1", "1"]}, (None, "city")),
        ("columns", {"aeg": [1]}, (None, "aeg")),
    ],
)
def test_a_wrong_shape_is_refused_at_its_place(method, rows, place):
    assert place in refusals(getattr(Encoder(MIXED), method), rows)


def test_an_unknown_column_names_the_nearest():
    assert "did you mean 'age'" in refusals(Encoder(MIXED).records, [ROW | {"aeg": 1}])[0, "aeg"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
)


@given(st.lists(JSON, min_size=6, max_size=6))
def test_any_row_is_encoded_or_refused_and_lenient_encodes_every_one(row):
    encoder = Encoder(MIXED)
    lenient = encoder.rows([row], lenient=True)
    assert np.isfinite(lenient[~np.isnan(lenient)]).all()
    try:
        np.testing.assert_array_equal(encoder.rows([row]), lenient)
    except BadRows as refused:
        assert all(error.row == 0 for error in refused.errors)


@given(st.integers(-(10**15), 10**15))
def test_canonical_joins_the_spellings_of_a_whole_number(value):
    assert canonical(value) == canonical(float(value)) == canonical(str(value))


def test_parse_date_takes_the_datas_own_format_first():
    assert parse_date("03/04/2024", ("%m/%d/%Y",)) == datetime(2024, 3, 4)
    assert parse_date("2024-04-03", ("%m/%d/%Y",)) == datetime(2024, 4, 3)


def test_marks_are_missing_values_in_their_column_alone():
    """Where missing is refused they are refused as such; a category of that name comes first."""
    encoder = Encoder(
        signature(
            Column(name="age", kind="number", missing="allow", marks=("?",)),
            Column(name="city", kind="category", missing="allow", marks=("?",), categories=("Rome",)),
            Column(name="job", kind="category", marks=("?",), categories=("?",)),
            Column(name="when", kind="date", missing="allow", marks=("?",), parts=("year",)),
        )
    )
    row = {"age": " ?", "city": "?", "job": "?", "when": "?"}
    assert np.array_equal(encoder.records([row]), [[math.nan, -1, 0, math.nan]], equal_nan=True)
    assert refusals(encoder.records, [row | {"age": "-", "when": "-"}]) == {
        (0, "age"): "expected a number, got '-'",
        (0, "when"): "expected a date such as None, got '-'",
    }
    strict = Encoder(signature(Column(name="city", kind="category", marks=("?",), categories=("Rome",))))
    assert "missing" in refusals(strict.records, [{"city": "?"}])[0, "city"]


CELL = st.sampled_from(
    [
        None,
        "",
        1,
        1.0,
        "1",
        "Rome",
        "x",
        "y",
        "z",
        True,
        2.5,
        -3,
        1e39,
        2**70,
        "2024-03-01",
        "01/03/2024",
        "no",
        " Rome",
    ]
)


@given(st.lists(st.lists(CELL, min_size=5, max_size=5), min_size=1, max_size=3))
def test_the_quick_way_for_a_few_rows_agrees_with_the_careful_one(rows):
    encoder = Encoder(signature(*MIXED.columns[:5]))
    quick = encoder._few(rows)
    if quick is not None:
        for lenient in (True, False):
            careful = encoder._matrix(len(rows), list(zip(*rows, strict=True)), lenient=lenient)
            np.testing.assert_array_equal(quick, careful)


def test_plain_rows_take_the_quick_way():
    encoder = Encoder(signature(*MIXED.columns[:5]))
    assert (
        encoder._few([[30, 1.5, "Rome", None, "2024-03-01"], [1, None, "1", "x", "01/03/2024"]]) is not None
    )


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        (Column(name="a", kind="number", unit="seconds"), "00:00:05", "a number (seconds), got '00:00:05'"),
        (
            Column(name="a", kind="number", dotted_thousands=True),
            "66.723",
            "without dots between its thousands",
        ),
    ],
)
def test_a_number_as_the_table_writes_it_is_refused_and_what_is_expected_is_said(column, cell, words):
    assert words in refusals(Encoder(signature(column)).records, [{"a": cell}])[0, "a"]


def test_letters_of_words_match_scikit_learns_character_ngrams():
    texts = ["Win a £1,000 prize NOW!", "see you at 5\tthen,  ok", "I", ""]
    found, idf = learn_text(texts, ngrams=4, units="letters", min_documents=1)
    column = Column(name="t", kind="text", letters=found, letter_idf=idf, missing="allow")
    theirs = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4)).fit(texts)
    assert list(found) == theirs.get_feature_names_out().tolist()
    ours = Encoder(signature(column)).rows([[text] for text in texts])
    np.testing.assert_allclose(ours, theirs.transform(texts).toarray(), atol=1e-7)


def test_a_texts_counts_stand_behind_its_terms_and_letters():
    column = Column(
        name="t", kind="text", terms=("win",), idf=(1.0,), letters=("wi",), letter_idf=(1.0,), counts=True
    )
    (row,) = Encoder(signature(column)).records([{"t": "WIN a £100 prize now!?"}])
    assert dict(zip(column.feature_names, row.tolist(), strict=True)) == {
        "t: win": 1,
        "t: letters 'wi'": 1,
        "t: count of characters": 22,
        "t: count of words": 5,
        "t: count of digits": 3,
        "t: count of capitals": 3,
        "t: count of signs": 3,
        "t: count of longest word": 5,
        "t: count of exclamations": 2,
        "t: count of beyond ASCII": 1,
    }
    missing = Column(name="t", kind="text", terms=("win",), idf=(1.0,), counts=True, missing="allow")
    assert not Encoder(signature(missing)).records([{"t": None}]).any()


def test_only_the_start_of_an_endless_text_is_read_for_letters_and_counts():
    column = Column(name="t", kind="text", letters=("zz",), letter_idf=(1.0,), counts=True)
    text = "a1 " * MAX_READ + "zz"
    row = Encoder(signature(column)).records([{"t": text}])[0]
    assert row[0] == 0
    assert row[1] == len(text)
    assert row[2] <= MAX_READ / 2


def test_text_without_spaces_has_terms_of_characters():
    """And words where spaces part them, also of scripts whose vowels are signs."""
    terms, idf = learn_text(["质量很好 very good", "质量不好"], ngrams=3, units="characters", min_documents=1)
    assert {"质", "质量", "质量很", "very", "very good", "不好"} <= set(terms)
    column = Column(name="t", kind="text", terms=terms, idf=idf, ngrams=3, units="characters")
    row = Encoder(signature(column)).records([{"t": "质量"}])[0]
    assert {terms[i] for i in np.flatnonzero(row)} == {"质", "量", "质量"}
    hindi, _ = learn_text(["हिन्दी में लिखा"], units="characters", ngrams=3, min_documents=1)
    assert "हिन्दी" in hindi


def test_a_text_is_compared_in_nfc():
    terms, idf = learn_text(["café bar"], min_documents=1)
    encoder = Encoder(signature(Column(name="t", kind="text", terms=terms, idf=idf)))
    np.testing.assert_array_equal(encoder.rows([["cafe\u0301 bar"]]), encoder.rows([["café bar"]]))


def test_an_offset_keeps_large_numbers_apart_that_lie_near_each_other():
    """Seconds since 1970 within minutes: float32 holds one in 128."""
    shifted = signature(Column(name="at", kind="number", offset=1_700_000_000.0, missing="allow"))
    assert not shifted.numeric
    for rows in (
        [[1_700_000_001], [1_700_000_002.5], [None]],
        [[1_700_000_001], [1_700_000_002.5], [None]] * 9,
    ):
        found = Encoder(shifted).rows(rows)
        assert found[:2, 0].tolist() == [1, 2.5]
        assert math.isnan(found[2, 0])


def test_names_and_categories_are_compared_in_nfc():
    """Two spellings that look alike are one, whichever of the two a client types."""
    towns = signature(Column(name="ville é", kind="category", categories=("Bern", "Genève")))
    encoder = Encoder(towns)
    composed, apart = ("ville é", "Genève"), ("ville e\u0301", "Gene\u0300ve")
    for name in (composed[0], apart[0]):
        for town in (composed[1], apart[1]):
            assert encoder.records([{name: town}]).tolist() == [[1]]
            assert encoder.columns({name: [town]}).tolist() == [[1]]
            assert encoder.rows([[town]]).tolist() == [[1]]
    assert "unknown column" in refusals(encoder.records, [{"ville è": "Bern"}])[0, "ville è"]


def test_a_code_as_spreadsheets_write_it_is_that_code():
    encoder = Encoder(signature(Column(name="a", kind="category", categories=("00123",), unknown="missing")))
    assert encoder.records([{"a": '="00123"'}])[0, 0] == 0
