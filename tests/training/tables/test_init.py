"""A use case for a person's own table, written without a question asked."""

import re

import pytest

from tests.training import nasty
from training.settings import Csv, Read, UseCaseError, load_use_case
from training.tables.data import load_table, test_rows
from training.tables.init import write_use_case
from training.tables.raw import DataError

TARGETS = {
    nasty.adult: "income", nasty.bank: "y", nasty.titanic: "Survived", nasty.houses: "SalePrice",
    nasty.churn: "Churn",
    nasty.wine_quality: "quality", nasty.german: "class", nasty.bikes: "cnt", nasty.european: "Ergebnis",
}  # fmt: skip


@pytest.mark.parametrize(("made", "target"), TARGETS.items(), ids=[made.__name__ for made in TARGETS])
def test_what_is_written_reads_the_same_table(tmp_path, made, target):
    """The kinds in the file are those that were guessed, and a second reading takes them."""
    path = write_use_case(made(tmp_path), target, tmp_path)
    case = load_use_case(path)
    table = load_table(case)
    guessed = {name: kind for name, kind in case.kinds.items() if kind != "leave_out"}
    assert guessed == table.kinds
    assert list(guessed) == list(table.frame)
    assert case.metric == {"regression": "r2", "multiclass": "accuracy"}.get(table.task, "roc_auc")
    test = test_rows(table)
    assert 0.1 < test.mean() < 0.3
    for label in table.classes:
        assert test[table.target == label].any()


def test_it_lies_beside_the_data_under_its_name(tmp_path):
    """`Wine Quality (2).csv.gz` gives wine_quality_2.toml, with a path relative to it."""
    data = nasty.wine_quality(tmp_path).rename(tmp_path / "Wine Quality (2).csv")
    path = write_use_case(data, "quality", tmp_path)
    assert path == tmp_path / "wine_quality_2.toml"
    assert 'path = "Wine Quality (2).csv"' in path.read_text(encoding="utf-8")
    assert load_use_case(path).source == Csv(path=str(data))


def test_a_name_that_is_taken_by_a_shipped_use_case_is_avoided(tmp_path):
    """Or one's own iris would challenge the shipped one."""
    data = nasty.wine_quality(tmp_path).rename(tmp_path / "iris.csv")
    assert load_use_case(write_use_case(data, "quality", tmp_path)).name == "my_iris"


@pytest.mark.parametrize("name", ["2024-11.csv", "数据.csv", "-.csv", "a" * 90 + ".csv"])
def test_any_file_name_gives_a_name(tmp_path, name):
    """Also one without a letter."""
    data = nasty.wine_quality(tmp_path).rename(tmp_path / name)
    assert load_use_case(write_use_case(data, "quality", tmp_path)).trials


def test_what_a_person_should_look_at_is_told_and_stands_in_the_file(tmp_path):
    """What has no column of its own stands above all."""
    rows = "".join(f"{i % 7},{i % 2},{i % 5},{i % 2 if i % 40 else ''}\n" for i in range(400))
    (tmp_path / "data.csv").write_text("a,copy,b,y\n" + rows, encoding="utf-8")
    told: list[str] = []
    text = write_use_case(tmp_path / "data.csv", "y", tmp_path, tell=told.append).read_text(encoding="utf-8")
    assert told[0] == "! y: 10 rows without a target are left out"
    assert any("alone all but decides the target" in line for line in told)
    assert "# ! y: 10 rows without a target are left out" in text


def test_the_salt_deals_a_rare_class_its_share_of_test_rows(tmp_path):
    """Of 40 rows of 8,000 about 8, by whatever salt."""
    rows = "".join(f"{i},{i * 7 % 13},{'fraud' if i % 200 == 3 else 'fine'}\n" for i in range(8000))
    (tmp_path / "data.csv").write_text("a,b,y\n" + rows, encoding="utf-8")
    table = load_table(load_use_case(write_use_case(tmp_path / "data.csv", "y", tmp_path)))
    assert (table.target[test_rows(table)] == "fraud").sum() >= 6


def test_whole_numbers_that_are_taken_for_classes_may_be_amounts(tmp_path):
    """Grades, counts: nobody but the person knows."""
    path = write_use_case(nasty.wine_quality(tmp_path), "quality", tmp_path)
    assert 'task = "multiclass"' in path.read_text(encoding="utf-8")
    assert 'where their order matters, as of counts and grades: "regression"' in path.read_text(
        encoding="utf-8"
    )


def test_it_refuses_to_overwrite(tmp_path):
    """What a person has edited is not lost."""
    data = nasty.churn(tmp_path)
    path = write_use_case(data, "Churn", tmp_path)
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(UseCaseError, match="exists already"):
        write_use_case(data, "Churn", tmp_path)
    assert path.read_text(encoding="utf-8") == "mine"


def test_classes_too_rare_to_learn_are_named(tmp_path):
    """They are left out in the file, where the person sees it."""
    lines = [f"{i % 7},{i % 5},{'abc'[i % 3]}" for i in range(90)] + ["1,2,rare one"] * 2
    (tmp_path / "d.csv").write_text("p,q,y\n" + "\n".join(lines), encoding="utf-8")
    path = write_use_case(tmp_path / "d.csv", "y", tmp_path)
    assert 'drop_classes = ["rare one"]' in path.read_text(encoding="utf-8")
    assert load_table(load_use_case(path)).classes == ("a", "b", "c")


@pytest.mark.parametrize(
    ("labels", "folds"), [(["no"] * 60 + ["yes"] * 3, 3), ([0] * 60 + [1] * 4, 4), (list("aaabbbccc"), 3)]
)
def test_where_a_rare_class_cannot_be_left_out_there_are_fewer_folds(tmp_path, labels, folds):
    """So that what is written trains."""
    lines = [f"{i % 7},{i % 5},{label}" for i, label in enumerate(labels)]
    (tmp_path / "d.csv").write_text("p,q,y\n" + "\n".join(lines), encoding="utf-8")
    use_case = load_use_case(write_use_case(tmp_path / "d.csv", "y", tmp_path))
    assert (use_case.folds, use_case.drop_classes) == (folds, ())
    assert load_table(use_case).classes == tuple(sorted(set(labels)))


def test_odd_column_names_are_quoted(tmp_path):
    """Quotes, dots, hashes, other scripts."""
    names = ['say "hi"', "a.b", "#no", "größe", "back\\slash", "y"]
    header = ",".join('"' + name.replace('"', '""') + '"' for name in names)
    lines = [f"{i % 7},{i % 5},{i % 4},{i % 9},{i % 8},{i % 3 % 2}" for i in range(80)]
    (tmp_path / "d.csv").write_text(header + "\n" + "\n".join(lines), encoding="utf-8")
    assert list(load_use_case(write_use_case(tmp_path / "d.csv", "y", tmp_path)).kinds) == names[:-1]


def test_a_wrong_target_names_the_nearest(tmp_path):
    """As `run` would say it; nothing is written."""
    with pytest.raises(DataError, match='did you mean "Churn"'):
        write_use_case(nasty.churn(tmp_path), "churned", tmp_path)
    assert not list(tmp_path.glob("*.toml"))


def test_a_missing_file_is_said(tmp_path):
    """One sentence."""
    with pytest.raises(DataError, match="there is no such file"):
        write_use_case(tmp_path / "absent.csv", "y", tmp_path)


def test_large_numbers_are_written_whole(tmp_path):
    """A range says 1234567, not 1.23457e+06."""
    rows = "".join(f"{1_234_567 - 11 * i},{(i % 7) / 3:.3f}\n" for i in range(60))
    (tmp_path / "big.csv").write_text(f"paid,y\n{rows}", encoding="utf-8")
    assert "to 1234567" in write_use_case(tmp_path / "big.csv", "y", tmp_path).read_text(encoding="utf-8")


def test_what_was_found_stands_in_the_file_with_its_reason_and_options_as_keys(tmp_path):
    """And the columns whose reading is not obvious are shown at the end, raw beside parsed."""
    rows = "".join(f"{i % 7},5;{'köln' if i % 2 else 'bonn'};{i % 3 % 2}\n" for i in range(90))
    (tmp_path / "t.csv").write_bytes(f"Export\n\ngröße;ort;y\n{rows}".encode("cp1252"))
    told: list[str] = []
    path = write_use_case(tmp_path / "t.csv", "y", tmp_path, tell=told.append, read=Read(not_missing=("NA",)))
    text = path.read_text(encoding="utf-8")
    for line in ("skip_lines = 2", 'encoding = "windows-1252"', 'delimiter = ";"', 'decimal = ","'):
        assert f"# {line}  # found: " in text
    assert 'not_missing = ["NA"]' in text
    assert load_use_case(path).read == Read(not_missing=("NA",))
    shown = "\n".join(told)
    assert "Columns whose reading is not obvious" in shown
    assert "0,5" in shown
    assert "0.5" in shown


@pytest.mark.parametrize(
    ("user", "item"),
    [("user", "movie"), ("userId", "item_id"), ("CUSTOMER_ID", "Film"), ("Users", "bookid")],
)
def test_ratings_are_recognised_and_ranking_them_is_proposed(tmp_path, user, item):
    """As comments: the file means the same until a person takes them out, and then it can be used."""
    rows = "".join(f"{i % 40},{(7 * i + i // 40) % 60},{1 + i % 5}\n" for i in range(900))
    (tmp_path / "data.csv").write_text(f"{user},{item},stars\n{rows}", encoding="utf-8")
    told: list[str] = []

    path = write_use_case(tmp_path / "data.csv", "stars", tmp_path, told.append)

    assert load_use_case(path).rank is None
    assert any(f"ratings of {item} by {user}" in line for line in told)
    text = path.read_text(encoding="utf-8")
    for line in ("[rank]", f'query = ["{user}"]', f'item = ["{item}"]'):
        text = text.replace(f"# {line}", line)
    text = text.replace('task = "multiclass"', 'task = "regression"').replace('= "number"', '= "category"')
    path.write_text(re.sub('metric = "[a-z_]+"', 'metric = "rmse"', text), encoding="utf-8")
    rank = load_use_case(path).rank
    assert rank is not None
    assert rank.pair == (user, item)


@pytest.mark.parametrize(
    ("columns", "cells"),
    [
        ("town,street,stars", lambda i: f"{i % 40},{(7 * i + i // 40) % 60},{1 + i % 5}"),  # other names
        ("user,movie,stars", lambda i: f"{i % 5},{(7 * i + i // 40) % 60},{1 + i % 5}"),  # few users
        ("user,movie,stars", lambda i: f"{i % 40},{i},{1 + i % 5}"),  # each item once
        ("user,movie,stars", lambda i: f"{i % 40},{i % 40},{1 + i % 5}"),  # the same pairs again
        ("user,movie,stars", lambda i: f"{i % 40},{(7 * i + i // 40) % 60},{'ab'[i % 2]}"),  # no number
        ("user,movie,stars", lambda i: f"{i % 40},{(7 * i + i // 40) % 60},{i * 1.37}"),  # no rating
    ],
)
def test_other_tables_are_not_taken_for_ratings(tmp_path, columns, cells):
    (tmp_path / "data.csv").write_text("\n".join([columns, *map(cells, range(900)), ""]), encoding="utf-8")
    told: list[str] = []

    path = write_use_case(tmp_path / "data.csv", "stars", tmp_path, told.append)

    assert "[rank]" not in path.read_text(encoding="utf-8") + "".join(told)
