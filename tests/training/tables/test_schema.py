"""The signature that a table gives: what is learnt from its training rows, and what is refused later."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from artifact.encode import BadRows, Encoder
from artifact.signature import Column, Signature
from training.settings import Csv, UseCase, all_use_cases
from training.tables.data import load_table, test_rows
from training.tables.schema import MAX_TEXT_TERMS, signature_of


def signature(folder: Path, text: str, **settings) -> Signature:
    path = folder / "data.csv"
    path.write_text(text, encoding="utf-8")
    table = load_table(UseCase(name="mine", target="y", source=Csv(path=str(path)), **settings))
    return signature_of(table, ~test_rows(table))


def column(made: Signature, name: str) -> Column:
    return next(each for each in made.columns if each.name == name)


def rows(count: int = 200) -> str:
    random = np.random.default_rng(0)
    lines = ["n,gap,colour,town,y"]
    for i in range(count):
        gap = "" if i % 9 == 0 else f"{random.normal():.3f}"
        town = f"town{i}" if i % 10 == 0 else "Oslo"
        lines.append(f"{i % 13},{gap},{['red', 'blue', 'blue'][i % 3]},{town},{'yn'[i % 2]}")
    return "\n".join(lines)


def test_every_shipped_signature_takes_its_own_rows_and_its_example():
    """All rows encode to finite numbers or NaN, as wide as the signature says."""
    for case in all_use_cases():
        table = load_table(case)
        made = signature_of(table, ~test_rows(table))
        matrix = Encoder(made).columns(table.frame, lenient=True)
        assert matrix.shape == (table.rows, made.width)
        assert not np.isinf(matrix).any()
        Encoder(made).records([made.example])
        if case.name == "digits":
            assert made.width == 64


def test_missing_is_allowed_where_the_table_has_it(tmp_path):
    """And refused elsewhere."""
    made = signature(tmp_path, rows())
    assert column(made, "gap").missing == "allow"
    assert column(made, "n").missing == "refuse"


def test_a_set_of_categories_is_closed_if_none_was_seen_but_once(tmp_path):
    """Colours are known; towns that come up once say that there are more of them."""
    made = signature(tmp_path, rows())
    assert column(made, "colour").unknown == "refuse"
    assert column(made, "town").unknown == "missing"
    record = {"n": 1, "gap": None, "colour": "blue", "town": "Atlantis"}
    assert Encoder(made).records([record])[0, -1] == -1
    with pytest.raises(BadRows, match="unknown category 'green'"):
        Encoder(made).records([record | {"colour": "green"}])


def test_the_use_case_has_the_last_word_on_policies(tmp_path):
    """`[unknown]` and `[missing]`."""
    made = signature(tmp_path, rows(), unknown={"colour": "missing"}, missing={"n": "allow", "gap": "refuse"})
    assert column(made, "colour").unknown == "missing"
    assert column(made, "n").missing == "allow"
    assert column(made, "gap").missing == "refuse"


def test_categories_are_those_of_the_training_rows_by_frequency(tmp_path):
    """The order is the same for the same rows in another order."""
    made = signature(tmp_path, rows())
    assert column(made, "colour").categories == ("blue", "red")
    assert column(made, "colour").mode == "blue"
    header, *lines = rows().split("\n")
    assert signature(tmp_path, "\n".join([header, *lines[::-1]])) == made


def test_numbers_have_bounds_and_a_tidy_median(tmp_path):
    """Whole numbers are known to be whole."""
    made = signature(tmp_path, rows())
    n = column(made, "n")
    assert (n.minimum, n.maximum, n.integer) == (0, 12, True)
    assert isinstance(n.example, int)
    assert not column(made, "gap").integer


def test_dates_have_the_parts_that_vary(tmp_path):
    """One year's days have no year and no hour; the data's own format is read in a request too."""
    days = "d,y\n" + "".join(f"{i % 28 + 1:02d}.{i % 12 + 1:02d}.2021,{i % 2}\n" for i in range(200))
    made = signature(tmp_path, days)
    assert column(made, "d").parts == ("month", "day", "weekday", "day_of_year")
    encoder = Encoder(made)
    assert (encoder.records([{"d": "03.02.2021"}]) == encoder.records([{"d": "2021-02-03"}])).all()
    assert encoder.records([{"d": "03.02.2021"}])[0, :2].tolist() == [2, 3]


def test_times_of_day_are_hours_and_minutes(tmp_path):
    """Without a made-up day."""
    times = "t,y\n" + "".join(f"{i % 24:02d}:{i % 60:02d},{i % 2}\n" for i in range(200))
    made = signature(tmp_path, times)
    assert column(made, "t").parts == ("hour", "minute")
    assert Encoder(made).records([{"t": "17:45"}])[0].tolist() == [17, 45]


def test_a_vocabulary_is_bounded(tmp_path):
    """However many words there are."""
    random = np.random.default_rng(0)
    words = [f"word{i}" for i in range(4_000)]
    text = "t,y\n" + "".join(f"{' '.join(random.choice(words, 60))},{i % 2}\n" for i in range(1_000))
    assert len(column(signature(tmp_path, text, kinds={"t": "text"}), "t").terms) == MAX_TEXT_TERMS


def test_words_have_letters_and_counts_beside_them_and_unspaced_text_has_counts(tmp_path):
    random = np.random.default_rng(0)
    words = [
        f"{a}{b}{c}" for a in ("sun", "moon", "star") for b in ("light", "rise", "set") for c in range(90)
    ]
    lines = [f"{' '.join(random.choice(words, 8))},{i % 2}" for i in range(300)]
    found = column(signature(tmp_path, "\n".join(["t,y", *lines]), kinds={"t": "text"}), "t")
    assert {" sun", "ight", "rise"} <= set(found.letters)
    assert found.counts
    unspaced = [f"{''.join(random.choice(list('质量不好很服务态度用了'), 9))},{i % 2}" for i in range(300)]
    found = column(signature(tmp_path, "\n".join(["t,y", *unspaced]), kinds={"t": "text"}), "t")
    assert found.units == "characters"
    assert not found.letters
    assert found.counts


def test_the_threshold_and_what_is_ignored_go_along(tmp_path):
    """Left-out and target columns are accepted and count for nothing."""
    made = signature(tmp_path, rows(), threshold=0.3, leave_out=("town",), positive="y")
    assert made.threshold == 0.3
    assert made.positive == "y"
    assert made.ignored == ("town", "y")
    Encoder(made).records([{"n": 1, "gap": 2.0, "colour": "red", "town": "Oslo", "y": "n"}])


def test_a_server_takes_the_marks_for_missing_that_the_table_has(tmp_path):
    """A row as it stands in the file is not refused for its `?`; other words are."""
    lines = [
        f"{1900 + i % 90 if i % 9 else 'unknown'},{'ab'[i % 2] if i % 8 else '?'},{i % 7},{'yn'[i % 2]}"
        for i in range(400)
    ]
    made = signature(tmp_path, "\n".join(["built,job,n,y", *lines]))
    assert [(each.kind, each.marks) for each in made.columns] == [
        ("number", ("unknown",)),
        ("category", ("?",)),
        ("number", ()),
    ]
    matrix = Encoder(made).records([{"built": "unknown", "job": "?", "n": 1}])
    assert np.array_equal(matrix, [[np.nan, -1, 1]], equal_nan=True)
    for row in ({"built": "?", "job": "a", "n": 1}, {"built": 1, "job": "c", "n": 1}, {"built": 1, "n": "?"}):
        with pytest.raises(BadRows):
            Encoder(made).records([row])


def test_the_example_of_a_text_is_made_of_terms_that_decide(tmp_path: Path) -> None:
    """Neither of the commonest words, which say nothing, nor a row of the table."""
    random = np.random.default_rng(2)
    good, bad = ("wonderful acting", "great fun"), ("boring plot", "awful sound")
    rows = []
    for i in range(200):
        words = random.choice(good if i % 2 else bad, 2)
        rows.append(
            (f"the film it is and my {words[0]} of the {words[1]}, number {i}", "yes" if i % 2 else "no")
        )
    frame = pd.DataFrame(rows, columns=["review", "liked"])
    frame.to_csv(tmp_path / "films.csv", index=False)
    use_case = UseCase(name="films", target="liked", source=Csv(path=str(tmp_path / "films.csv")))
    table = load_table(use_case)
    column = signature_of(table, np.ones(table.rows, bool)).columns[0]

    assert column.kind == "text"
    example = str(column.example)
    assert set(example.split()) & {"wonderful", "acting", "great", "fun", "boring", "plot", "awful", "sound"}
    assert not set(example.split()) & {"the", "it", "is", "and", "my", "of", "film"}
    assert example not in set(frame["review"])
