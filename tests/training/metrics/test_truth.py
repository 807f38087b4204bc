from __future__ import annotations

import pytest

from training.metrics.truth import class_indices


def test_true_is_not_one():
    assert class_indices([True, 1], (1, True)).tolist() == [1, 0]
    with pytest.raises(ValueError, match="'maybe' is not one of"):
        class_indices(["maybe"], ("no", "yes"))
