"""How a model that reads raw columns uses them: words, whole numbers, texts, missing cells."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from artifact.signature import Column, Signature
from training.card import pictures_of, reliance_lines, robustness_lines
from training.metrics.behaviour import Behaviour, behaviour
from training.metrics.dependence import Dependence
from training.model_card import model_card, without_pictures
from training.settings import CardWords

COLUMNS = (
    Column(name="note", kind="text", missing="allow", terms=("a", "b", "c"), idf=(1.0, 1.0, 1.0)),
    Column(name="rooms", kind="number", whole=True, integer=True),
    Column(name="colour", kind="category", missing="allow", unknown="pass", categories=("red", "blue")),
    Column(name="size", kind="number", missing="allow"),
)


def signature(**more: Any) -> Signature:
    return Signature(columns=COLUMNS, raw=True, **{"task": "regression", "target": "price", **more})


def table(count: int = 300) -> np.ndarray:
    random = np.random.default_rng(0)
    rows = np.empty((count, 4), object)
    rows[:, 0] = random.choice(["a b", "c", None], count)
    rows[:, 1] = random.integers(1, 6, count).astype(float)
    rows[:, 2] = random.choice(["red", "blue", None], count)
    rows[:, 3] = np.where(random.random(count) < 0.1, np.nan, random.normal(size=count))
    return rows


def price(rows: np.ndarray) -> np.ndarray:
    """What a model makes of raw cells; it fails on cells of another type."""
    assert all(cell is None or isinstance(cell, str) for cell in rows[:, [0, 2]].ravel())
    rooms = rows[:, 1].astype(float)
    assert (rooms == np.round(rooms)).all()
    red = np.array([cell == "red" for cell in rows[:, 2]], float)
    return (4 * np.nan_to_num(rows[:, 3].astype(float)) + rooms + red)[:, None]


def test_raw_columns_are_measured_as_they_came():
    rows = table()
    found = behaviour(price, rows, price(rows)[:, 0], signature(), "r2")
    assert [each.column for each in found.importances[:3]] == ["size", "rooms", "colour"]
    assert all(each.error > 0 for each in found.importances[:3])
    assert found.importances[3].column == "note"
    assert found.importances[3].mean == 0
    curves = {each.column: each for each in found.dependences}
    assert set(curves) == {"size", "rooms", "colour"}
    assert curves["rooms"].values == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert np.diff(curves["rooms"].scores[:, 0]) == pytest.approx(1)
    by_colour = dict(zip(curves["colour"].values, curves["colour"].scores[:, 0], strict=True))
    assert by_colour["red"] - by_colour["blue"] == pytest.approx(1)
    assert found.robust is not None
    assert 0 < found.robust.changed < 0.02


def test_without_true_values_the_curves_and_the_noise_remain():
    found = behaviour(price, table(), None, signature(), "r2")
    assert found.importances == ()
    assert {each.column for each in found.dependences} == {"rooms", "colour", "size"}
    assert found.robust is not None
    assert "true values" in "\n".join(reliance_lines(found, signature()))


def test_named_numbers_have_each_their_own_spread():
    """One number a thousand times as large as the other does not hide it."""
    both = signature(task="scores", target="", numbers=("small", "large"))
    rows = table()
    truth = np.column_stack([price(rows)[:, 0], np.ones(len(rows))])
    found = behaviour(
        lambda asked: np.column_stack([price(asked)[:, 0], 1000 + 0 * price(asked)[:, 0]]),
        rows, truth, both, "rmse",
    )  # fmt: skip
    assert found.robust.changed == pytest.approx(
        behaviour(price, rows, None, signature(), "r2").robust.changed / 2
    )
    assert found.importances[0].column == "size"
    assert "the mean small is" in "\n".join(reliance_lines(found, both))


def test_the_card_holds_its_pictures_and_says_them_in_words():
    """As SVG that any name of a column leaves whole; text alone is short enough for MLflow."""
    odd = Column(name="$x^ <b>]|\x07", kind="number")
    named = Signature(task="binary", target="y", columns=(odd,), classes=("no", "$y_{"), positive="$y_{")
    curve = Dependence(odd.name, (1.0, 2.5), np.array([[0.75, 0.25], [0.5, 0.5]]))
    measured = Behaviour(dependences=(curve,))
    pictures = pictures_of(measured, named)
    card = model_card("T", CardWords(), {"Metrics": reliance_lines(measured, named)}, pictures=pictures)

    assert re.search(r"^\[dependence_1\]: data:image/svg\+xml;base64,\S+$", card, re.MULTILINE)
    shown = re.search(r"^!\[([^]]*)\]\[dependence_1\]$", card, re.MULTILINE)
    assert shown is not None
    assert "is 0.25 at 1 and 0.5 at 2.5" in shown[1]
    root = ET.fromstring(pictures["dependence_1"])  # noqa: S314 - our own
    assert any("$x^ <b>" in (each.text or "") for each in root.iter())
    assert len(card) < 40_000
    plain = without_pictures(card)
    assert "data:" not in plain
    assert "0.25 at 1 and 0.5 at 2.5. (pictures/dependence_1.png)" in plain
    assert without_pictures(plain) == plain


def test_what_is_not_measured_says_why():
    unknown = Behaviour(unmeasured="a row takes 900 ms")
    texts = Signature(task="regression", target="y", columns=COLUMNS[:1], raw=True)
    assert reliance_lines(unknown, texts)[-1] == "Not measured: a row takes 900 ms."
    assert robustness_lines(unknown, texts)[-1] == "Not measured: a row takes 900 ms."
    nothing = behaviour(lambda rows: np.ones((len(rows), 1)), table()[:, :1], None, texts, "r2")
    assert "needs a number column" in robustness_lines(nothing, texts)[-1]
    assert "No partial dependence" in reliance_lines(nothing, texts)[-1]
