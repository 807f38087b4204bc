"""Quarters, half years and Roman months, as tables of many countries write them."""

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artifact.kinds.date import clock_of, parse_date
from training.tables.columns import Cleaned, clean_column

ROWS = 60
QUARTERS = [
    "Q{q} {y}", "{y}Q{q}", "{q}Q{y}", "{q}Q{yy:02}", "Q{q} '{yy:02}", "{o} quarter {y}", "Quarter {q}, {y}",
    "{q}. Quartal {y}", "Quartal {q}/{y}", "{r}. Quartal {y}", "{q}.Quartal {y}",
    "T{q} {y}", "{y}-T{q}", "{y}T{q}", "{q}T{y}", "{f} trimestre {y}", "{f} trim. {y}",
    "{f} trimestre de {y}", "{r}/{y}",
    "{q}° trimestre {y}", "{q}º trim. {y}", "{r} trimestre {y}", "{q}.º trimestre de {y}", "trim. {q} {y}",
    "{q}e kwartaal {y}", "{r} kw. {y}", "{q} kwartał {y}", "{q} кв. {y}", "{r} квартал {y} г.",
    "{q}-й квартал {y}", "{q}. čtvrtletí {y}", "Kv{q} {y}", "{q}. kvartal {y}", "{y}. {r}. negyedév",
    "{y} {q}. çeyrek", "{y}年第{q}季度", "{y}年{c}季度", "{y}年Q{q}",
    "{y}年第{q}四半期", "{y}년 {q}분기",
]  # fmt: skip
HALVES = [
    "H{h} {y}", "{y}H{h}", "{h}H{y}", "{h}. Halbjahr {y}", "S{h} {y}", "{h}er semestre {y}",
    "{h} полугодие {y}", "{y}年{z}半年",
]  # fmt: skip


def column(cells: list[str], name: str = "period") -> Cleaned:
    return clean_column(pd.Series(cells, dtype="str"), name)


def served(read: Cleaned, cell: str) -> str | None:
    """A cell as a server reads it, by what the signature says of the column."""
    found = parse_date(cell, read.formats, names=read.names or None, clock=clock_of(read.clock))
    return None if found is None else found.date().isoformat()


def written(form: str, year: int, month: int) -> str:
    quarter, half = (month - 1) // 3 + 1, 1 if month < 7 else 2
    return form.format(
        q=quarter, y=year, yy=year % 100, h=half, z="上下"[half - 1], r=["I", "II", "III", "IV"][quarter - 1],
        c="一二三四"[quarter - 1], f="1er" if quarter == 1 else f"{quarter}e",
        o=["1st", "2nd", "3rd", "4th"][quarter - 1],
    )  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from([*QUARTERS, *HALVES]), st.integers(1, 25), st.randoms(use_true_random=False))
def test_a_period_is_its_first_day(form, years, random):
    """However few different ones there are; a server reads each as training did."""
    months = [(random.randint(2000, 2000 + years), random.randint(1, 12)) for _ in range(ROWS)]
    months += [(2000 + i % 2, 3 * i - 2) for i in range(1, 5)]
    cells = [written(form, *each) for each in months]
    size = 6 if form in HALVES else 3
    meant = [f"{year}-{(month - 1) // size * size + 1:02}-01" for year, month in months]
    read = column(cells)
    assert read.kind == "date"
    assert read.cells.tolist() == meant
    assert [served(read, cell) for cell in cells] == meant


@pytest.mark.parametrize("form", ["S{h} {y}", "{q}T{yy:02}", "{r}/{y}"])
def test_what_may_be_a_code_is_told(form):
    cells = [written(form, 2012 + i % 5, i % 12 + 1) for i in range(ROWS)]
    assert column(cells).look_at


@pytest.mark.parametrize(
    "cells",
    [
        [f"T{i % 4 + 1} {4500 + i % 7}" for i in range(ROWS)],  # models, not years
        [f"{i % 3 + 1}. Quartal" for i in range(ROWS)],  # no year
        [f"K{i % 4 + 1}" for i in range(ROWS)],
        [f"Semester {i % 8 + 1} 2014" for i in range(ROWS)],  # a year has two of them
        [f"FY{2012 + i % 5} Q{i % 4 + 1}" for i in range(ROWS)],  # whose year begins when it pleases
    ],
)
def test_what_is_no_period_stays_a_category(cells):
    assert column(cells).kind == "category"


def test_roman_months_are_months_where_one_is_above_four():
    romans = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"]
    cells = [f"{i % 28 + 1} {romans[i % 12]} {1990 + i % 9}" for i in range(ROWS)]
    meant = [f"{1990 + i % 9}-{i % 12 + 1:02}-{i % 28 + 1:02}" for i in range(ROWS)]
    read = column(cells)
    assert read.cells.tolist() == meant
    assert not read.look_at


@pytest.mark.parametrize("zone", ["GMT+0200", "GMT+0200 (CEST)", "GMT+0200 (Central European Summer Time)"])
def test_moments_as_javascript_writes_them(zone):
    cells = [f"Tue Dec {i % 28 + 1} 1991 12:05:07 {zone}" for i in range(ROWS)]
    read = column(cells)
    assert read.cells.tolist() == [f"1991-12-{i % 28 + 1:02}T12:05:07" for i in range(ROWS)]
    assert read.clock == "+02:00"


def test_the_name_of_a_zone_behind_its_offset_is_no_word():
    cells = [f"1991-12-{i % 28 + 1:02}T10:00:00+01:00[Europe/Berlin]" for i in range(ROWS)]
    assert column(cells).cells[0] == "1991-12-01T10:00:00"


def test_a_month_and_a_year_with_a_dot_are_no_number():
    cells = [f"{i % 12 + 1:02}.{1990 + i % 30}" for i in range(ROWS)]
    read = column(cells)
    assert read.cells.tolist() == [f"{1990 + i % 30}-{i % 12 + 1:02}-01" for i in range(ROWS)]
    assert "number" in read.look_at[0].text
    assert column([f"{i % 12 + 1}.{i * 37 % 10_000:04}" for i in range(ROWS)]).kind == "number"
