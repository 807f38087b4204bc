"""Runs of letters in a search: they help where words do not come back, and cost nothing where they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from artifact.encode import Encoder, learn_text
from artifact.signature import Column, Signature
from serving.scoring.words import _terms_without
from training.families.catalog import WRITERS, build, family
from training.families.ensemble import ENSEMBLE
from training.families.layout import layout_of
from training.families.linear import LETTERS, WORDS
from training.families.scores import scores_of
from training.onnx.convert import convert
from training.onnx.parity import compare, onnx_score
from training.search.letters import without_unseen
from training.search.search import search
from training.search.spec import SearchSpec

ROWS = 240


@pytest.fixture(scope="module")
def texts():
    """Words that never come back whole, with an ending that tells the class."""
    rng = np.random.default_rng(0)
    syllables = ["ba", "ke", "lo", "mi", "nu", "pa", "re", "so", "ti", "vu"]

    def word(ending):
        return "".join(rng.choice(syllables, 5)) + ending

    y = np.arange(ROWS) % 2
    ends = [("ingly", "esque"), ("ation", "ville")]
    return [" ".join(word(rng.choice(ends[c])) for _ in range(4)) for c in y], y


@pytest.fixture(scope="module")
def signature(texts):
    terms, idf = learn_text(texts[0], min_documents=1, max_terms=300)
    letters, letter_idf = learn_text(texts[0], ngrams=4, units="letters")
    said = Column(name="said", kind="text", terms=terms, idf=idf, letters=letters, letter_idf=letter_idf)
    return Signature(
        task="binary",
        target="y",
        classes=(0, 1),
        positive=1,
        columns=(said, Column(name="other", kind="number")),
    )


@pytest.fixture(scope="module")
def matrix(texts, signature):
    return Encoder(signature).rows([[text, i % 7] for i, text in enumerate(texts[0])])


def pipeline(layout, matrix, y, **changed):
    params = family("linear").default(layout) | changed
    return build("linear", params, layout, "binary", 0).fit(matrix, y)


def test_letters_tell_what_words_do_not(texts, signature, matrix):
    layout = layout_of(signature, ROWS)
    half = ROWS // 2
    right = {
        text: (
            pipeline(layout, matrix[:half], texts[1][:half], text=text).predict(matrix[half:])
            == texts[1][half:]
        ).mean()
        for text in (WORDS, LETTERS)
    }
    assert right[LETTERS] > 0.95
    assert right[WORDS] < 0.8


@pytest.mark.parametrize("text", [WORDS, LETTERS])
def test_the_served_graph_is_the_pipeline_to_the_last_digits(texts, signature, matrix, text):
    model = pipeline(layout_of(signature, ROWS), matrix, texts[1], text=text)
    graph = onnx_score(convert(model, signature.width, WRITERS).SerializeToString())
    found = compare(signature, lambda rows: scores_of(model, rows, 2), graph, matrix, 1e-12)
    assert found.exact, str(found)


def test_a_winner_that_sees_no_letters_is_served_without_them(texts, signature, matrix):
    spec = SearchSpec(task="binary", metric="roc_auc", trials=2, folds=2, jobs=1)
    found = search(matrix, texts[1], signature, spec, progress=False, ensemble=False)
    best = replace(found.best, family="linear", params={"skew": "standard", "text": WORDS, "C": 1.0})
    narrow, result, left = without_unseen(signature, replace(found, best=best))
    assert not narrow.columns[0].letters
    assert np.array_equal(
        Encoder(narrow).rows([[text, i % 7] for i, text in enumerate(texts[0])]), matrix[:, left]
    )
    before = pipeline(found.layout, matrix, texts[1], text=WORDS)
    after = pipeline(result.layout, matrix[:, left], texts[1], text=WORDS)
    assert np.array_equal(scores_of(before, matrix, 2), scores_of(after, matrix[:, left], 2))

    seen = replace(
        best,
        family=ENSEMBLE,
        params={
            "members": [{"family": "linear", "params": best.params | {"text": LETTERS}, "weight": 1}],
        },
    )
    same, _, every = without_unseen(signature, replace(found, best=seen))
    assert same is signature
    assert len(every) == signature.width


def test_without_a_word_its_letters_are_gone_too():
    """An explanation takes a word out of the row as if it were out of the text."""
    both, alone = "prize money", "money"
    terms, idf = learn_text([both], min_documents=1)
    letters, letter_idf = learn_text([both], ngrams=4, units="letters", min_documents=1)
    column = Column(name="t", kind="text", terms=terms, idf=idf, letters=letters, letter_idf=letter_idf)
    encode = Encoder(Signature(task="regression", target="y", columns=(column,)))
    row, other = encode.rows([[both], [alone]])
    found = _terms_without(column, row)
    assert set(found) == {"prize", "money"}
    assert np.allclose(found["prize"], other, atol=1e-6)
