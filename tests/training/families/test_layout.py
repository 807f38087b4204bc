from __future__ import annotations

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits

from tests.training.made_tables import messy
from training.families.layout import layout_of, of_one_unit


def test_the_layout_names_each_matrix_column_once():
    made = messy("binary")
    layout = layout_of(made.signature, 240)
    assert sorted((*layout.numbers, *layout.categories, *layout.terms)) == list(range(made.signature.width))
    assert layout.levels == (4, 30)
    assert [made.signature.feature_names[i] for i in layout.one_hot] == ["few"]
    assert [made.signature.feature_names[i] for i in layout.many] == ["many"]


def test_columns_of_one_unit_are_told_apart():
    """Pixels are of one unit; a table of amounts and shares is not, nor one with a column that is missing."""
    digits, cells = load_digits().data, load_breast_cancer().data
    assert of_one_unit(digits)
    assert not of_one_unit(cells)
    assert not of_one_unit(digits[:, :8])
    assert not of_one_unit(np.column_stack([digits, np.full(len(digits), np.nan)]))
    assert of_one_unit(np.column_stack([digits, np.where(np.arange(len(digits)) % 2, np.nan, 3.0)]))
