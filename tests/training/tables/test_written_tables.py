"""Tables written in many ways: no cell is read otherwise than it was meant, unless its column is named."""

import math
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from training.tables.columns import clean_column, decide_from_cells
from training.tables.reading import Decided, Reading

ROWS = 60
LEVELS = 15  # different cells from which amounts with a unit are no levels
quick = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def read(cells: dict[str, list[str]], delimiter: str = ",") -> dict[str, Any]:
    """Each column as it is cleaned after the whole file was looked at."""
    frame = pd.DataFrame({name: pd.array(values, dtype="str") for name, values in cells.items()})
    reading = decide_from_cells(frame, Reading(delimiter=Decided(delimiter, "of the test")))
    return {name: clean_column(frame[name], name, reading=reading) for name in cells}


def check(meant: dict[str, list[Any]], cells: dict[str, list[str]], delimiter: str = ",") -> None:
    """Each cell is read as it was meant, or its column is named."""
    for name, column in read(cells, delimiter).items():
        if column.look_at or name not in meant:
            continue
        for written, value, found in zip(cells[name], meant[name], column.cells.tolist(), strict=True):
            where = f"{name}: {written!r} is {value!r}, read as {found!r} ({column.kind}, {column.formats})"
            if isinstance(value, float):
                assert isinstance(found, float), where
                assert math.isclose(found, value, rel_tol=1e-9, abs_tol=1e-12), where
            else:
                assert found == value, where


def grouped(digits: str, mark: str, indian: bool = False) -> str:
    if len(digits) <= 3:
        return digits
    head, tail = digits[:-3], digits[-3:]
    size = 2 if indian else 3
    parts = []
    while head:
        parts.insert(0, head[-size:])
        head = head[:-size]
    return mark.join([*parts, tail])


@st.composite
def amounts(draw: st.DrawFn) -> tuple[list[float], list[str], str]:
    """Numbers of one way of writing, and the delimiter of their file."""
    decimal, thousands = draw(
        st.sampled_from(
            [(".", ","), (".", ""), (".", "'"), (".", "\u2019"), (".", " "), (",", "."), (",", ""),
             (",", " "), (",", "\u00a0"), (",", "\u202f"), (",", "\u2009"), (",", "'"), ("\u066b", "\u066c")]
        )
    )  # fmt: skip
    places = draw(st.integers(0, 4))
    largest = draw(st.sampled_from([10, 1_000, 100_000, 50_000_000]))
    indian = thousands == "," and draw(st.booleans())
    sign = draw(st.sampled_from(["before", "behind", "parentheses", "\u2212", "none"]))
    around = draw(
        st.sampled_from(
            ["{}", "${}", "{} €", "€ {}", "{} kr", "₹{}", "R$ {}", "{} CHF", "{} %", "{} kg", "{}руб."]
        )
    )
    script = draw(st.sampled_from(["0123456789"] * 6 + ["０１２３４５６７８９", "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९"]))
    values, cells = [], []
    random = draw(st.randoms(use_true_random=False))
    for _ in range(ROWS):
        whole = random.randrange(largest)
        fraction = "".join(random.choice("0123456789") for _ in range(places))
        text = grouped(str(whole), thousands, indian) if thousands else str(whole)
        text += decimal + fraction if places else ""
        value = float(f"{whole}.{fraction or 0}")
        if sign != "none" and random.random() < 0.3 and value:
            value = -value
            text = {"before": "-{}", "behind": "{}-", "parentheses": "({})", "\u2212": "\u2212{}"}[
                sign
            ].format(text)
        text = text.translate(str.maketrans("0123456789", script))
        values.append(value)
        cells.append(around.format(text))
    assume(len(set(cells)) >= LEVELS)
    return values, cells, ";" if decimal == "," else ","


@quick
@given(amounts())
def test_amounts(written):
    values, cells, delimiter = written
    check({"a": values}, {"a": cells}, delimiter)


@quick
@given(amounts(), amounts())
def test_two_columns_of_amounts_of_one_file(one, two):
    assume(one[2] == two[2])
    check({"a": one[0], "b": two[0]}, {"a": one[1], "b": two[1]}, one[2])


UNITS = [
    {"s": 1, "min": 60, "h": 3600},
    {"kg": 1000, "g": 1, "mg": 0.001},
    {"km": 1000, "m": 1, "cm": 0.01},
    {"GB": 1000, "MB": 1, "TB": 1e6},
    {"k": 1000, "": 1, "M": 1e6},
    {"K": 1000, "": 1, "bn": 1e9},
    {"Tsd.": 1000, "Mio.": 1e6, "": 1},
    {"%": 0.01, "": 1},
    {"kg": 1, "m": 1},
    {"$": 1, "€": 1},
    {"": 1, "lb": 0.45359237, "kg": 1},
    {"": 1, "days": 24, "h": 1},
]


@quick
@given(st.sampled_from(UNITS), st.sampled_from(["", " "]), st.randoms(use_true_random=False))
def test_units_in_one_column(units, gap, random):
    values, cells = [], []
    for _ in range(ROWS):
        unit, number = random.choice(list(units)), round(random.uniform(0.1, 99), 1)
        values.append(number * units[unit])
        cells.append(f"{number}{gap}{unit}".strip())
    assume(len(set(cells)) >= LEVELS)
    check({"a": values}, {"a": cells})


DAYS = [
    "{d:02}.{m:02}.{y}", "{d}/{m}/{y}", "{m}/{d}/{y}", "{m:02}-{d:02}-{y}", "{d:02}-{m:02}-{y}",
    "{y}/{m:02}/{d:02}", "{d:02}{m:02}{y}", "{y}{m:02}{d:02}", "{d:02}/{m:02}/{yy:02}",
    "{m}/{d}/{yy:02} {h}:{i:02} PM", "{d:02}.{m:02}.{y} {h:02}:{i:02}", "{y}-{m:02}-{d:02}T{h:02}:{i:02}:00Z",
]  # fmt: skip
LANGUAGES = ["de", "fr", "es", "it", "pt", "nl", "ru", "pl", "cs", "tr", "sv", "en", "ja", "ko", "zh"]


@quick
@given(
    st.sampled_from(DAYS),
    st.sampled_from([28, 12]),
    st.randoms(use_true_random=False),
    st.sampled_from(["day", "dob", "order_date", "when"]),
)  # fmt: skip
def test_dates_in_digits(form, days, random, name):
    values, cells = [], []
    for _ in range(ROWS):
        moment = datetime(random.randint(1950, 2025), random.randint(1, 12), random.randint(1, days))
        clock = "{h" in form
        spoken = "PM" in form
        hour, minute = random.randint(1, 11), random.randint(0, 59)
        cells.append(
            form.format(d=moment.day, m=moment.month, y=moment.year, yy=moment.year % 100, h=hour, i=minute)
        )
        shown = (
            moment.replace(hour=hour + 12 * spoken, minute=minute).isoformat()
            if clock
            else moment.date().isoformat()
        )
        values.append(shown)
    if form in {"{d:02}{m:02}{y}", "{y}{m:02}{d:02}"} and name == "when":
        return  # whole numbers under a name that says nothing of dates are numbers
    check({name: values}, {name: cells})


@quick
@given(st.sampled_from(LANGUAGES),
       st.sampled_from(["long", "medium"]), st.randoms(use_true_random=False))  # fmt: skip
def test_dates_in_words(language, width, random):
    from babel.dates import format_date

    values, cells = [], []
    for _ in range(ROWS):
        day = date(random.randint(1990, 2025), random.randint(1, 12), random.randint(1, 28))
        values.append(day.isoformat())
        cells.append(format_date(day, format=width, locale=language))
    check({"a": values}, {"a": cells})


@quick
@given(
    st.lists(st.sampled_from([0, 60, 540, -300, 330]), min_size=1, max_size=3, unique=True),
    st.randoms(use_true_random=False),
)
def test_offsets(offsets, random):
    """One offset: the clock on the wall; several: one clock, and told."""
    values, cells = [], []
    for _ in range(ROWS):
        zone = timezone(timedelta(minutes=random.choice(offsets)))
        moment = datetime(
            2024, random.randint(1, 12), random.randint(1, 28), random.randint(0, 23), 5, tzinfo=zone
        )
        cells.append(moment.isoformat())
        values.append(moment.replace(tzinfo=None).isoformat())
    column = read({"a": cells})["a"]
    if len({cell[-6:] for cell in cells}) == 1:
        assert column.cells.tolist() == values
    else:
        assert column.look_at
        instants = [datetime.fromisoformat(cell).astimezone(UTC).replace(tzinfo=None) for cell in cells]
        assert [datetime.fromisoformat(cell) for cell in column.cells] == instants


@quick
@given(
    st.sampled_from(["clock", "words", "iso", "days"]),
    st.integers(1, 200_000),
    st.randoms(use_true_random=False),
)
def test_durations(form, longest, random):
    values, cells = [], []
    for _ in range(ROWS):
        total = random.randint(1, longest)
        hours, minutes, rest = total // 3600, total // 60 % 60, total % 60
        cells.append(
            {
                "clock": f"{hours:02}:{minutes:02}:{rest:02}",
                "words": f"{hours}h {minutes}m {rest}s",
                "iso": f"PT{hours}H{minutes}M{rest}S",
                "days": f"{hours // 24} days {hours % 24:02}:{minutes:02}:{rest:02}",
            }[form]
        )
        values.append(float(total))
    check({"a": values}, {"a": cells})


@quick
@given(st.sampled_from(["{:05}", "{:019}", '="{:05}"', "{:03}"]), st.randoms(use_true_random=False))
def test_codes_keep_their_zeros(form, random):
    numbers = [random.randrange(100) for _ in range(ROWS)]
    cells = [form.format(number) for number in numbers]
    assume(len(set(cells)) > 2)
    column = read({"a": cells})["a"]
    assert column.kind == "category"
    assert column.cells.tolist() == [cell.strip('="') for cell in cells]


@pytest.mark.parametrize("marks", [("<", ">"), ("≤", "≥"), ("<=", ">="), ("~", "ca. ")])
def test_bounds_are_told(marks):
    cells = [f"{i % 40 + 10}" if i % 5 else f"{marks[i % 2]}{i % 40 + 10}" for i in range(ROWS)]
    column = read({"a": cells})["a"]
    assert column.kind == "number"
    assert column.cells.tolist() == [i % 40 + 10 for i in range(ROWS)]
    assert column.look_at


def test_ranges_are_no_numbers():
    column = read({"a": ["<18", "18-25", "25-40", ">40"] * 15})["a"]
    assert column.kind == "category"
    assert set(column.cells) == {"<18", "18-25", "25-40", ">40"}


@pytest.mark.parametrize(
    ("cells", "first"),
    [
        (["13,-", "250,50", "1.400,-"], 13.0),
        (["13/-", "250/-", "99/-"], 13.0),
        (["3½", "4", "1¼"], 3.5),
        (["3 1/2", "4", "1 3/4"], 3.5),
        (["$(5.00)", "$7.00", "$(1.50)"], -5.0),
        (["1:02.500", "1:03.250", "0:41.125"], 62.5),
        (["1h 5m", "45m", "2h"], 3900.0),
        (["0 days 00:05:00", "2 days 03:00:00", "1 days 00:00:01"], 300.0),
        (["1.5 Mrd. €", "300 Mio. €", "2 Tsd. €"], 1.5e9),
        (["3.6万", "1.2亿", "500"], 36_000.0),
        (["3万円", "52億円", "5百万円"], 30_000.0),
    ],
)
def test_a_way_of_writing(cells, first):
    """Among others of its column, which are different enough to be amounts."""
    more = [cells[i % len(cells)].replace("5", str(i % 10)) for i in range(3, ROWS)]
    column = read({"a": [*cells, *more]}, ";" if "," in cells[0] else ",")["a"]
    assert column.kind == "number"
    assert column.cells.iloc[0] == first


@pytest.mark.parametrize(
    "cells",
    [
        [f"{i}.50 {'CR' if i % 2 else 'DR'}" for i in range(ROWS)],
        [f"{i}E{i % 5}" for i in range(10, ROWS)],
        [f"{i}A" for i in range(ROWS)],
        [f"{i}'{i % 50:02}\"" for i in range(ROWS)],
        [f"minus {i}" if i % 3 == 0 else str(i) for i in range(ROWS)],
        [f"{i % 25}:{i % 60:02}" for i in range(ROWS)],
        [f"{i} kg" if i % 2 else f"{i} m" for i in range(ROWS)],
        [f"{i + 220}.5 K" for i in range(ROWS)],
        ["1.1", "1.10", "1.2", "1.9"] * (ROWS // 4),
        ["401.1", "038.9", "250.0", "401.9"] * (ROWS // 4),
        [f"{i / 97:.4f}E+11".replace("0.", "4.", 1) for i in range(1, ROWS)],
        ["2009-10", "2010-11", "2011-12", "2008-09"] * (ROWS // 4),
        *(
            [f"5{foot}{i % 12}{inch}" for i in range(ROWS)]
            for foot, inch in [("'", '"'), ("'", ""), ("′", "″"), ("’", "”"), (" ft ", " in"), ("' ", '"')]
        ),
        *(
            [form.format(i % 7 + 1) for i in range(ROWS)]
            for form in [
                "{} lb 3 oz",
                "1m6{}",
                "{} years 2 months",
                "{}y 2m",
                "{}/10",
                "4.{}/5",
                "{} of 5",
                "12{}/80",
            ]
        ),
        *(
            [mark if i % 9 == 0 else f"({i},234.50)" if i % 2 else f"{i},234.50" for i in range(ROWS)]
            for mark in [" - ", "-", "--", "–", "—"]
        ),
        [f"{9_007_199_254_740_993 + 2 * (i % 9):,}" for i in range(ROWS)],
        ["5-Mar", "12-Apr", "3-4", "Jan-25"] * (ROWS // 4),
        ["Ulm", "Ulm\u200b", "Bonn"] * (ROWS // 3),
        ["Bad Ems", "Bad\u00a0Ems", "Bonn"] * (ROWS // 3),
        ["Bad Ems", "Bad  Ems", "Bonn"] * (ROWS // 3),
        ["ULM", "ＵＬＭ", "BONN"] * (ROWS // 3),
        ["BONN", "ВONN", "ULM"] * (ROWS // 3),  # the second begins with a Cyrillic letter
        ["M&amp;M", "Ben &amp; Jerry"] * (ROWS // 2),
        ["1", "2", "3", "four"] * (ROWS // 4),
        ["red", "blue", "-999"] * (ROWS // 3),
        ["ja", "j", "nein", "n"] * (ROWS // 4),
        ["sí", "si", "no"] * (ROWS // 3),
        ["WAHR", "TRUE", "FALSCH", "FALSE"] * (ROWS // 4),
        ["是", "Y", "否", "N"] * (ROWS // 4),
        [["Ulm", "Bonn", "Hof"][i // 5 % 3] if i % 5 == 0 else "" for i in range(ROWS)],
        [f"{'▲' if i % 2 else '▼'}{i}.5" for i in range(ROWS)],
        ["1900-01-01" if i % 9 == 0 else f"2015-{i % 12 + 1:02}-{i % 28 + 1:02}" for i in range(ROWS)],
        [f"{i % 28 + 1:02}/{i % 12 + 1:02}/{2550 + i % 9}" for i in range(ROWS)],
    ],
)
def test_what_stays_open_is_told(cells):
    column = read({"a": cells})["a"]
    assert column.look_at or column.id_like


@pytest.mark.parametrize(
    "cells",
    [
        ["18-25", "26-35", "36-45"] * (ROWS // 3),
        ["1920x1080", "1366x768"] * (ROWS // 2),
        ["ja", "nein"] * (ROWS // 2),
        ["yes", "no"] * (ROWS // 2),
        ["A+", "A-", "B+"] * (ROWS // 3),
        ["2014/2015", "2015/2016"] * (ROWS // 2),
        ["Müller", "Møller", "Miller"] * (ROWS // 3),
        ["Jan", "Feb", "Mar"] * (ROWS // 3),
        ["Q1", "Q2", "Q3"] * (ROWS // 3),
        ["ND", "SD", "CA", "TX"] * (ROWS // 4),
        ["K", "1", "2", "3"] * (ROWS // 4),
        ["192.168.0.1", "10.0.0.1"] * (ROWS // 2),
        ["a remark" if i in {3, 4, 17, 40} else "" for i in range(ROWS)],
    ],
)
def test_a_plain_category_is_no_question(cells):
    column = read({"a": cells})["a"]
    assert column.kind == "category"
    assert not column.look_at


def test_a_dash_that_a_key_settles_is_no_question():
    cells = pd.Series(["-" if i % 9 == 0 else f"{i}.5" for i in range(ROWS)], dtype="str")
    assert clean_column(cells, "a").look_at
    settled = Reading(missing=("-",))
    assert not clean_column(cells, "a", reading=settled).look_at


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("dep_time", [f"{i % 24 * 100 + i * 7 % 60}" for i in range(ROWS)]),
        ("arr_time", [f"{i % 24 * 10_000 + i * 7 % 60 * 100 + 5}" for i in range(ROWS)]),
        ("date", [f"{1990 + i % 30}{i * 5 % 365 + 1:03}" for i in range(ROWS)]),
        ("timestamp", [f"{1_700_000_000 + i * 86_400}.{i % 9 + 1}" for i in range(ROWS)]),
        ("phone", [f"138{10_000_000 + i % 33}" for i in range(ROWS)]),
        ("电话", [f"138{10_000_000 + i % 33}" for i in range(ROWS)]),
    ],
)
def test_numbers_whose_name_says_what_else_they_may_be(name, cells):
    from training.tables.noticed import noticed

    found = read({name: cells})
    assert found[name].kind == "number"
    assert found[name].look_at or noticed(found, 0, ROWS)
    found = read({"amount": cells})
    assert not found["amount"].look_at
    assert not noticed(found, 0, ROWS)


@pytest.mark.parametrize(
    "cells",
    [
        [f"{i % 9 + 15:02}{i % 12 + 1:02}{i % 28 + 1:02}" for i in range(ROWS)],
        [f"{2015 + i % 9}{i % 12 + 1:02}" for i in range(ROWS)],
        [f"202{i % 4}{i % 12 + 1:02}{i % 28 + 1:02}{i % 24:02}{i % 60:02}" for i in range(ROWS)],
        [f"202{i % 4}{i % 12 + 1:02}{i % 28 + 1:02}{i % 24:02}{i % 60:02}07" for i in range(ROWS)],
        [f"{1_676_270_126_000_000 + i * 86_400_000_000}" for i in range(ROWS)],
    ],
)
def test_numbers_under_a_name_of_dates_that_may_be_dates_are_told(cells):
    """YYMMDD, YYYYMM, microseconds since 1970; the same under another name are numbers."""
    assert "may be dates written as" in read({"event_date": cells})["event_date"].look_at[0].text
    assert not read({"amount": cells})["amount"].look_at


def test_telephone_numbers_with_a_plus_are_codes():
    """A plus before all of so many digits is no sign; before amounts it is."""
    cells = [f"+39{3_401_234_567 + i % 30}" for i in range(ROWS)]
    assert read({"a": cells})["a"].cells.tolist() == cells
    assert read({"a": [f"+{i}" for i in range(ROWS)]})["a"].kind == "number"


def test_words_with_one_offset_keep_the_clock_on_the_wall():
    """As dates of digits do."""
    cells = [f"{i % 28 + 1:02}/Aug/2021:07:{i % 60:02}:22 +0200" for i in range(ROWS)]
    column = read({"a": cells})["a"]
    assert (column.clock, column.cells[0]) == ("+02:00", "2021-08-01T07:00:22")
    mixed = [cell.replace("+0200", "+0100") if i % 2 else cell for i, cell in enumerate(cells)]
    column = read({"a": mixed})["a"]
    assert (column.clock, column.cells[1]) == ("+00:00", "2021-08-02T06:01:22")
    assert column.look_at


def test_dots_with_the_day_first_say_nothing_of_slashes_in_the_next_column():
    dotted = [f"{i % 28 + 1:02}.{i % 12 + 1:02}.2023" for i in range(ROWS)]
    slashed = [f"{i % 12 + 1:02}/{i * 5 % 12 + 1:02}/2023" for i in range(ROWS)]
    found = read({"a": dotted, "b": slashed})
    assert not found["a"].look_at
    assert "set day_first" in found["b"].look_at[0].text


def test_slashes_that_decide_one_column_decide_the_next():
    clear = [f"{i % 28 + 1:02}/{i % 12 + 1:02}/2023" for i in range(ROWS)]
    open_ = [f"{i % 12 + 1:02}/{i * 5 % 11 + 1:02}/2023" for i in range(ROWS)]
    found = read({"a": clear, "b": open_})["b"]
    assert found.formats == ("%d/%m/%Y",)
    assert not found.look_at


@quick
@given(
    st.lists(
        st.text("0123456789.,-+/: '’()%€$kKmMTZhsWQ½٣３年月äOctMaip\"=<>~", max_size=14),
        min_size=1,
        max_size=12,
    )
)
def test_any_texts_are_read_or_kept(texts):
    """Whatever stands in the cells: a kind, and as many cells."""
    cells = texts * 6
    column = read({"a": cells, "date": cells})["a"]
    assert len(column.cells) == len(cells)
