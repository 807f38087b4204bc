"""Words in cells: whether they are texts or categories, and what a person should look at in them."""

from collections.abc import Sequence

from artifact.kinds.text import terms_in, units_of, unspaced
from training.tables.tokens import Tokens

YES = frozenset({"yes", "y", "true", "t", "1", "1.0", "on", "ja", "si", "oui"})
NO = frozenset({"no", "n", "false", "f", "0", "0.0", "off", "nein", "non"})
MIN_TEXTS = 20
TEXT_SHARE = 0.3  # different texts by the row from which they are no categories
SAMPLED_TEXTS = 2_000
MIN_WORDS = 3  # of a text, on average
MIN_LETTERS = 5  # of a text without spaces, on average; names have fewer
RETURNING = 0.6  # different words (or pairs of letters) by all of them, below which a vocabulary comes back
NEARLY_ID = 0.5  # different values by the row from which a category is nearly an id
MIN_CATEGORY_ROWS = 100
MEASURED_SHARE = 0.1  # different values by the row from which such as begin with numbers may be amounts


def is_prose(tokens: Tokens, distinct: Sequence[str]) -> bool:
    """Texts of many words, mostly different from row to row, out of a vocabulary that comes back."""
    if len(distinct) < MIN_TEXTS or len(distinct) < TEXT_SHARE * tokens.present:
        return False
    sample = distinct[:: max(1, len(distinct) // SAMPLED_TEXTS)]
    if units_of(sample) == "words":
        found = [[word for word in terms_in(text, 1) if not word.isdigit()] for text in sample]
        least = MIN_WORDS
    else:
        found = [_pairs_and_words(text) for text in sample]
        letters = sum(map(unspaced, sample))
        least = MIN_LETTERS - 1 if letters > len(sample) * MIN_WORDS else MIN_WORDS
    total = sum(map(len, found))
    if total < least * len(sample):
        return False
    return len({word for words in found for word in words}) < RETURNING * total


def _pairs_and_words(text: str) -> list[str]:
    """Pairs of letters where no spaces part words, and words elsewhere."""
    return [term for term in terms_in(text, 2, "characters") if " " not in term and len(term) > 1]


def several_for_yes_or_no(words: set[str]) -> bool:
    """Whether words, in small letters, all say yes or no, and one of the two in several ways."""
    return words <= YES | NO and (len(words & YES) > 1 or len(words & NO) > 1)


def odd_words(tokens: Tokens, distinct: Sequence[str], id_like: bool) -> list[str]:
    """What a person should look at in the values of a category."""
    found = []
    words = {word.casefold() for word in distinct}
    if len(words) < len(distinct):
        found.append("values that differ only in capitals are kept apart")
    if several_for_yes_or_no(words):
        found.append(f"several words for yes and no are kept apart: {', '.join(sorted(distinct))}")
    quoted = [word for word in distinct if len(word) > 2 and word[0] == word[-1] and word[0] in "'\"`"]
    if quoted:
        cells = sum(int(tokens.counts[i]) for i, word in enumerate(distinct) if word in set(quoted))
        found.append(
            f"quotes are part of {len(quoted):,} values in {cells:,} cells, such as {quoted[0][:40]}: "
            f"where they only "
            f"enclose a cell, set quote = {quoted[0][0]!r} under [read]"
        )
    if not id_like and tokens.present >= MIN_CATEGORY_ROWS and len(distinct) >= NEARLY_ID * tokens.present:
        found.append(
            f"{len(distinct):,} different values in {tokens.present:,} rows: nearly an id, from which a "
            f"model learns "
            "little; leave it out, or say that it is text, under [kinds]"
        )
    if not id_like and len(distinct) >= MIN_TEXTS and len(distinct) >= MEASURED_SHARE * tokens.present:
        begin = sum(word.lstrip("-+(<>~'\"#")[:1].isdecimal() for word in distinct)
        digits = sum(any(letter.isdecimal() for letter in word) for word in distinct)
        if digits >= 0.9 * len(distinct) and begin >= 0.6 * len(distinct):
            found.append(
                f'values that begin with numbers, such as "{distinct[0][:30]}", are taken as categories: '
                f"where they are "
                "amounts or dates, write them as plain numbers or in ISO 8601"
            )
    return found
