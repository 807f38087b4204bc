"""The data report: what it says, that nothing of the data can break out of it, that it stands alone."""

import re

import numpy as np
import pytest

from tests.training import nasty
from training.settings import Csv, UseCase, load_use_case
from training.tables.data import load_table, test_rows
from training.tables.report import summary, write_report
from training.tables.schema import signature_of


def report(case: UseCase, folder) -> str:
    table = load_table(case)
    return write_report(table, signature_of(table, ~test_rows(table)), folder).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name", ["breast_cancer", "digits", "diabetes", "linear", "fraud", "sentiment", "recommend"]
)
def test_every_kind_of_table_has_a_report(tmp_path, name):
    """With a picture a column, and no other file or address needed."""
    case = load_use_case(name)
    page = report(case, tmp_path)
    assert page.count('class="card"') == len(load_table(case).frame.columns)
    assert not re.search(r"(?:src|href|url)\s*[=(]", page)
    assert ("synthetic</span>" in page) == case.synthetic


def test_it_says_what_is_wrong(tmp_path):
    """Leaks, ids and gaps stand where a person looks."""
    case = UseCase(name="t", target="Survived", source=Csv(path=str(nasty.titanic(tmp_path))))
    page = report(case, tmp_path)
    text = summary(load_table(case))
    for words in ("all but decides the target", "looks like an id"):
        assert words in page
        assert words in text
    assert "Cabin" in page
    assert "75.3%" in page


def test_cells_and_names_are_no_html(tmp_path):
    """A table may hold a script; the report must not run it."""
    evil = "<script>alert(1)</script>"
    rows = "".join(f"{evil if i % 3 else 'b'},{i % 7},{evil + 'x' if i % 2 else 'n'}\n" for i in range(80))
    (tmp_path / "d.csv").write_text(f"{evil}a,b,y\n{rows}", encoding="utf-8")
    page = report(
        UseCase(name="t", title=evil, target="y", source=Csv(path=str(tmp_path / "d.csv"))), tmp_path
    )
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_three_hundred_columns(tmp_path):
    """All are there, the later ones folded away."""
    random = np.random.default_rng(0)
    header = ",".join([f"x{i}" for i in range(300)] + ["y"])
    lines = [",".join(map(str, [*random.normal(size=300).round(3), i % 2])) for i in range(120)]
    (tmp_path / "w.csv").write_text(header + "\n" + "\n".join(lines), encoding="utf-8")
    page = report(UseCase(name="w", target="y", source=Csv(path=str(tmp_path / "w.csv"))), tmp_path)
    assert page.count('class="card"') == 300
    assert "240 more columns" in page
    assert len(page) < 3_000_000


def test_how_the_file_is_read_is_shown(tmp_path):
    """Raw cells beside parsed ones, and what was decided for the whole."""
    rows = "".join(f"{i % 7},5;{i % 3 % 2}\n" for i in range(90))
    (tmp_path / "t.csv").write_text(f"size;y\n{rows}", encoding="utf-8")
    use_case = UseCase(name="t", target="y", source=Csv(path=str(tmp_path / "t.csv")))
    text = report(use_case, tmp_path)
    assert "How the file is read" in text
    assert "<td>0,5</td>" in text
    assert "<td>0.5</td>" in text
