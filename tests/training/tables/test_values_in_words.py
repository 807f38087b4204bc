"""Durations, numerals, relative times and codes: each is read as it was meant, or its column is told."""

from datetime import date, timedelta

import pandas as pd
import pytest

from training.tables.cleaned import Cleaned
from training.tables.columns import clean_column, decide_from_cells
from training.tables.noticed import noticed
from training.tables.reading import Reading

ROWS = 120


def read(cells: list[str], name: str = "a") -> Cleaned:
    """The column of these cells, repeated to a table."""
    column = pd.Series(cells * (ROWS // len(cells) + 1), name=name, dtype="str")
    reading = decide_from_cells(pd.DataFrame({name: column}), Reading())
    return clean_column(column, name, reading=reading)


def is_told(found: Cleaned, name: str = "a") -> bool:
    return bool(found.look_at or noticed({name: found}, 0, ROWS))


@pytest.mark.parametrize(
    ("cells", "meant"),
    [
        (["36 months", "60 months"], [36, 60]),
        (["1 year", "2 years", "9 years"], [1, 2, 9]),
        (["5 mg", "10 mg", "20 mg"], [5, 10, 20]),
        (["12 Monate", "24 Monate"], [12, 24]),
        (["3 лет", "4 года"], [3, 4]),
        (["5年", "8年"], [5, 8]),
        (["12-month", "24-month"], [12, 24]),
        ([f"{n}-day" for n in range(1, 30)], list(range(1, 30))),
        (["24h", "48h"], [24, 48]),
        (["585,50-EUR", "12,25EUR", "3,50-EUR"], [-585.5, 12.25, -3.5]),
        (["Rs.500", "Rs. 1,250.50", "Rs.90/-"], [500, 1250.5, 90]),
        (["Fr. 12'500.50", "Fr. 90.00"], [12500.5, 90]),
        (["kr. -5.418,93", "kr. 1.551,27"], [-5418.93, 1551.27]),
    ],
)
def test_amounts_that_are_read_without_a_question(cells, meant):
    found = read(cells)
    assert found.kind == "number"
    assert found.cells.tolist()[: len(meant)] == meant
    assert not is_told(found)


@pytest.mark.parametrize(
    "words",
    [
        ("years", "months"), ("Jahre", "Monate"), ("ans", "mois"), ("años", "meses"), ("anni", "mesi"),
        ("лет", "месяцев"), ("lat", "miesięcy"), ("jaar", "maanden"), ("let", "měsíců"), ("yıl", "ay"),
        ("år", "måneder"), ("år", "månader"), ("vuotta", "kuukautta"), ("év", "hónap"), ("ani", "luni"),
        ("χρόνια", "μήνες"), ("سنوات", "أشهر"), ("tahun", "bulan"), ("năm", "tháng"), ("ปี", "เดือน"),
        ("年", "个月"), ("年", "ヶ月"), ("년", "개월"), ("साल", "महीने"), ("років", "місяців"),
        ("שנים", "חודשים"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("few", [True, False])
def test_years_beside_months_are_one_unit_and_told(words, few):
    """A year is twelve months exactly, whichever of the two is the commoner."""
    year, month = words
    numbers = range(2, 6) if few else range(2, 30)
    found = read([f"{n} {year if n % 3 else month}" for n in numbers])
    assert found.kind == "number"
    assert found.look_at
    assert found.cells.tolist()[: len(numbers)] == [n if n % 3 else pytest.approx(n / 12) for n in numbers]


def test_years_with_bounds_are_numbers_and_told():
    cells = ["< 1 year", "1 year", *(f"{n} years" for n in range(2, 10)), "10+ years"]
    found = read(cells)
    assert found.cells.tolist()[: len(cells)] == [1, *range(1, 11)]
    assert found.look_at


@pytest.mark.parametrize(
    "cells",
    [
        ["I", "II", "III", "IV"],
        ["v", "vi", "vii"],
        ["一", "二", "三", "十二"],
        ["第一", "第二"],
        ["one", "two", "three"],
        ["One", "Two", "many", "Three"],
        ["eins", "zwei", "drei"],
        ["un", "deux", "trois"],
        ["uno", "dos"],
        ["два", "три"],
        ["bir", "iki"],
        ["하나", "둘"],
        ["first", "second", "third"],
        ["★★★☆☆", "★★☆☆☆", "★★★★★"],
        ["⭐", "⭐⭐"],
        ["***", "**", "*"],
        ["$", "$$", "$$$"],
        ["2 days ago", "1 day ago", "30 days ago"],
        ["yesterday", "3 hours ago"],
        [f"{n} days ago" for n in range(2, 40)],
        ["vor 3 Tagen", "vor 25 Tagen"],
        ["il y a 2 mois", "il y a 1 an"],
        ["hace 3 días", "hace 10 días"],
        ["3天前", "5小时前", "昨天"],
        ["3 дня назад", "вчера"],
        ["in 3 days", "in 10 days"],
        ["před 5 dny", "před 4 dny"],
        ["πριν 3 ημέρες", "πριν 4 ημέρες"],
        ["acum 3 zile", "acum 4 zile"],
        ["לפני 4 ימים", "לפני 5 ימים"],
        ["up 5 days", "up 12 days"],
        ["2 л/100км", "3 л/100км", "4 л/100км"],
        ["1010", "1100", "1110"],
        ["10", "101", "110", "0"],
        ["low", "high", "medium", "x"],
        ["low", "high", "medium", "refused"],
        ["ja", "nein", "weiß nicht"],
        ["low", "high", "medium", "inf"],
        ["3 bd", "4 bd", "5 bd"],
        ["3 BHK", "4 Bedroom", "3 Bedroom"],
        ["1x daily", "2x daily"],
        ["1990s", "2000s", "2010s"],
        ["10,000+", "5,000+", "50,000+"],
        ["1:20", "1:40", "1:80"],
        ['1 1/4"', '3/8"', '1/2"'],
        ["1.9", "1.10", "2.0", "2.1"],
        ["08.20", "12.34", "11.16"],
        ["▲5.20", "3.10", "▲1.05"],
        ["[5.20]", "3.10", "[1.05]"],
        ["令和4年8月19日", "令和5年8月9日"],
        ["民國112年12月6日", "民國113年1月6日"],
        ["112/03/26", "113/06/27"],
        ["/Date(1708214400000)/", "/Date(1707177600000)/"],
        ["250.00", "401.9", "V58.61", "E880"],
        ["147.39 H", "2.358,05 S"],
        ["147.39", "2,358.05 CR", "12.50"],
        [f'ISODate("2020-{m:02d}-{d:02d}T00:00:00Z")' for m in range(1, 13) for d in (3, 9, 17, 25)],
        [f"NumberLong({n * n})" for n in range(40)],
        [f"datetime.date(2021, {m}, 3)" for m in range(1, 13)],
    ],
)
def test_what_is_not_read_is_told(cells):
    assert is_told(read(cells))


@pytest.mark.parametrize(
    "cells",
    [
        ["S", "M", "L", "XL", "XXL"],
        ["C", "D", "M"],
        ["I", "O"],
        ["X", "Y"],
        ["x", "y", "z"],
        ["x", ""],
        ["5a", "5b", "6a", "6b"],
        ["4G", "5G", "3G"],
        ["-66kg", "+73kg", "-60kg"],
        ["1012 AB", "3011 CD", "9711 EF"],
        ["200 OK", "404 Not Found", "500 Internal Server Error"],
        ["Under 18", "18-24", "25-34", "65 or older"],
        ["1.2.3", "1.2.10", "2.0.0"],
        ["INFO", "WARN", "ERROR"],
        ["today", "later"],
        ["one", "way"],
        ["single", "married", "divorced"],
        ["+", "++", "-"],
        ["EG", "1. OG", "2. OG"],
        ["A", "AA", "AAA"],
        ["Mi", "Di", "Do"],
        ["<=50K", ">50K"],
        ["IIA", "IIB", "III", "IV"],
        ["1-0-1", "1-1-1"],
        ["16:9", "4:3"],
        ["100-0001", "530-0001", "060-0001"],
        ["#1", "#2"],
        ["Room 101", "Room 102"],
        ["2nd floor", "3rd floor"],
        ["205/55 R16", "195/65 R15"],
    ],
)
def test_a_plain_category_is_no_question(cells):
    found = read(cells)
    assert found.kind == "category"
    assert not is_told(found)


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("version", ["3.8", "3.9", "3.11", "3.12"]),
        ("Konto", ["1200", "1210", "4400", "70001"]),
        ("konto", ["1.201", "1.210", "4.400"]),
        ("gender", ["1", "2", "9"]),
        ("pin", ["560001", "110001", "400001"]),
        ("Datum", [f"{45_277 + n}.{n % 9 + 1}" for n in range(60)]),
    ],
)
def test_numbers_that_a_name_makes_codes_or_dates_are_told(name, cells):
    assert is_told(read(cells, name), name)


DAY = date(2024, 1, 1)


@pytest.mark.parametrize(
    "write",
    [
        lambda d: f"ngày {d.day} tháng {d.month} năm {d.year}",
        lambda d: f"{d.day} tháng {d.month}, {d.year}",
        lambda d: f"Thứ Hai, {d.day} tháng {d.month} năm {d.year}",
        lambda d: f"{d.year}年{d.month}月{d.day}日 0时00分",
        lambda d: f"{d.year}년 {d.month}월 {d.day}일 0시 0분",
        lambda d: f"{d.year}. {d.month}. {d.day}. 오전 12:00:00",
        lambda d: f"{d:[%d/%b/%Y:00:00:00 +0000]}",
    ],
)
def test_dates_in_words_are_read(write):
    days = [DAY + timedelta(17 * n) for n in range(30)]
    found = read([write(day) for day in days])
    assert found.kind == "date"
    assert [str(cell)[:10] for cell in found.cells[:30]] == [day.isoformat() for day in days]
    assert not is_told(found)


def test_whole_numbers_that_are_all_days_are_dates_and_told():
    """Under whatever name: so many numbers of eight digits are no days by chance."""
    days = [DAY + timedelta(17 * n) for n in range(30)]
    found = read([f"{day:%Y%m%d}" for day in days], "reference")
    assert found.cells.tolist()[:30] == [day.isoformat() for day in days]
    assert found.look_at


def test_the_week_and_the_month_of_statistics_are_read():
    assert read([f"Week {n} 2024" for n in range(1, 40)]).cells[1] == "2024-01-08"
    assert read([f"2024M{n:02}" for n in range(1, 13)]).cells[1] == "2024-02-01"


def test_hours_from_gmt_are_offsets():
    """As forms write them: one clock for all, which is told."""
    found = read([f"2024/02/{n:02} 10:33:37 AM GMT+1" for n in range(1, 28)])
    assert found.cells[0] == "2024-02-01T09:33:37"
    assert found.look_at


def test_infinite_numbers_of_a_typed_column_are_told():
    """As Parquet has them; those of a file of text are told by their word."""
    column = pd.Series([float("inf") if n % 9 == 0 else n * 1.5 for n in range(ROWS)])
    found = clean_column(column, "a")
    assert found.cells.isna().sum() == len(range(0, ROWS, 9))
    assert "infinite" in found.look_at[0].text


def test_addresses_of_mail_are_ids():
    column = pd.Series([f"u{n * 7919}@example.org" for n in range(ROWS)], dtype="str")
    assert clean_column(column, "mail").id_like


@pytest.mark.parametrize(
    ("cells", "meant"),
    [
        (["(1992)", "(2004)", "(2017)"], [1992, 2004, 2017]),
        (["(1,473)", "(23)", "(7)"], [1473, 23, 7]),
        (["(585.56)", "(12.00)"], [-585.56, -12]),
        (["($70)", "($45)"], [-70, -45]),
    ],
)
def test_parentheses_around_all_numbers_are_told(cells, meant):
    """They may say less than a minus: a year or a count stands in them too."""
    found = read(cells)
    assert found.cells.tolist()[: len(meant)] == meant
    assert any("parentheses" in each.text for each in found.look_at)


@pytest.mark.parametrize("word", ["?", "not yet known"])
def test_words_among_numbers_do_not_hide_their_decimal_mark(word):
    """A word of many cells is one text beside many numbers: "0.350" decides for the other column."""
    power = [word if i % 4 == 0 else f"{i % 9}.{350 + i}" for i in range(ROWS)]
    volts = [f"{230 + i % 9}.{100 + i}" for i in range(ROWS)]
    frame = pd.DataFrame({"power": power, "volts": volts}, dtype="str")
    reading = decide_from_cells(frame, Reading())
    found = clean_column(frame["volts"], "volts", reading=reading)
    assert (found.cells.iloc[1], found.look_at) == (231.101, ())


DAYS = [date(2019, 1, 3) + timedelta(days=13 * i) for i in range(ROWS)]


@pytest.mark.parametrize("write", ["%y-%m-%d", "%y/%m/%d", "%y.%m.%d %H:%M"])
@pytest.mark.parametrize("days", [DAYS, [date(2001, 1, 3) + timedelta(days=67 * i) for i in range(ROWS)]])
def test_a_year_of_two_digits_in_front_is_found_and_told(write, days):
    """The days of a month have many values and reach 31, the years do not: "23-07-25" is in 2023."""
    found = read([day.strftime(write) for day in days])
    assert found.kind == "date"
    assert found.cells.str[:10].tolist()[:ROWS] == [day.isoformat() for day in days]
    assert "the year is taken to stand first" in found.look_at[0].text


@pytest.mark.parametrize("write", ["%d.%m.%y", "%m/%d/%y", "%Y:%m:%d %H:%M:%S", "%Y_%m_%d"])
def test_dates_whose_order_their_days_show(write):
    found = read([day.strftime(write) for day in DAYS])
    assert found.cells.str[:10].tolist()[:ROWS] == [day.isoformat() for day in DAYS]
    assert not is_told(found)


def test_a_year_in_front_says_nothing_of_other_columns():
    """ "23-07-25" can only have its day behind, which does not make "03/04/2021" a day of April."""
    months = [f"0{i % 9 + 1}/0{i % 7 + 1}/2021" for i in range(ROWS)]
    frame = pd.DataFrame({"a": [day.strftime("%y-%m-%d") for day in DAYS], "b": months}, dtype="str")
    reading = decide_from_cells(frame, Reading())
    assert reading.day_first is None
    assert "the other is possible too" in clean_column(frame["b"], "b", reading=reading).look_at[0].text
