"""The contract of a model."""

import msgspec
import numpy as np
import pytest

from artifact.signature import Column, Signature, labels

BINARY = Signature(
    task="binary",
    target="y",
    columns=(
        Column(name="a", kind="number", median=2.0, integer=True),
        Column(name="b", kind="category", mode="u"),
    ),
    classes=("no", "yes"),
    positive="yes",
)


def test_example_is_made_of_medians_and_modes():
    assert BINARY.example == {"a": 2, "b": "u"}
    assert isinstance(BINARY.example["a"], int)


def test_labels_are_the_datas_own_and_ties_go_as_argmax_has_them():
    scores = np.array([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]])
    assert labels(BINARY, scores) == ["no", "yes", "no"]


@pytest.mark.parametrize("noise", [-2e-16, 2e-16, 5e-13])
def test_what_differs_in_the_last_bits_is_a_tie(noise):
    """A forest's votes summed in another order, by another runtime, decide for the same label."""
    scores = np.array([[0.5, 0.5 + noise], [0.5 + noise, 0.5]])
    assert labels(BINARY, scores) == ["no", "no"]
    assert labels(BINARY, scores, 0.5) == ["yes", "yes"]
    three = msgspec.structs.replace(BINARY, task="multiclass", classes=("a", "b", "c"), positive=None)
    assert labels(three, np.array([[0.2, 0.4, 0.4 + noise], [0.2, 0.4 + noise, 0.4]])) == ["b", "b"]
    assert labels(three, np.array([[0.2, 0.39, 0.41], [0.41, 0.2, 0.39]])) == ["c", "a"]


def test_threshold_applies_to_the_positive_label():
    scores = np.array([[0.7, 0.3], [0.71, 0.29]])
    assert labels(BINARY, scores, 0.3) == ["yes", "no"]
    flipped = msgspec.structs.replace(BINARY, positive="no")
    assert labels(flipped, scores, 0.705) == ["yes", "no"]


def test_the_signatures_own_threshold_holds_unless_one_is_given():
    careful = msgspec.structs.replace(BINARY, threshold=0.25)
    assert labels(careful, np.array([[0.7, 0.3]])) == ["yes"]
    assert labels(careful, np.array([[0.7, 0.3]]), 0.5) == ["no"]


def test_boolean_labels_are_not_numbers():
    booleans = msgspec.structs.replace(BINARY, classes=(False, True), positive=True)
    assert booleans.positive_index == 1
    assert labels(booleans, np.array([[0.4, 0.6]]))[0] is True


def test_a_signature_survives_json_unchanged():
    assert msgspec.json.decode(msgspec.json.encode(BINARY), type=Signature) == BINARY


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"columns": ()}, "at least one column"),
        ({"columns": (Column(name="a", kind="number"),) * 2}, "stand twice"),
        ({"classes": ("no",)}, "two classes"),
        ({"positive": "maybe"}, "'maybe'"),
    ],
)
def test_an_impossible_signature_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        msgspec.structs.replace(BINARY, **change)
