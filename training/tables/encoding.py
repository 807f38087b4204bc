"""The encoding of a text file: found from its bytes, and told with sample words wherever it is a guess."""

import codecs
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import chardet

from artifact.nfc import nfc
from training.tables.raw import DataError
from training.tables.reading import Decided, LookAt, number_of
from training.tables.units import is_unit

SAMPLE_BYTES = 200_000
SAMPLE_WORDS = 3
MAX_WORD = 24
MAX_SIGNS = 8  # different words beside numbers: a text has more
NEAR = 0.1  # a second encoding that fits at most so much worse is told
BEST_BY = 0.005  # by less than that no encoding fits better than one that is commoner
MIN_UTF8_LINES = 3
MIN_PLAIN = 0.03  # of the characters of a table that are ASCII: digits, delimiters and line ends at least
_OTHER_ENDS = ("\x85", "\u2028", "\u2029", "\x1e")  # of lines, in a file that has no line feed
MOST_ODD_LINES = 0.34  # of the lines that are not ASCII, up to which they are strangers in a UTF-8 file

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WITHOUT_MARK = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")

# Encodings of the Latin script, the commoner first, and the letters outside of ASCII that languages written
# in them have. A detector trained on prose takes the one for the other in tables, where words are few and
# stand alone; a language whose alphabet explains all letters tells them apart.
_LATIN = (
    "windows-1252", "windows-1250", "windows-1257", "windows-1254", "iso-8859-2", "iso-8859-15", "mac-roman",
    "cp850", "cp852", "cp857", "windows-1258", "mac-latin2", "iso-8859-9", "cp775", "iso-8859-13",
)  # fmt: skip
_ALPHABETS = tuple(
    frozenset(letters + letters.upper())
    for letters in (
        "äöüß", "éèêëàâçîïôùûüœæ", "áéíóúñü", "àèéìòù", "áâãàçéêíóôõú", "ëéïöü", "åäö", "æøåé", "áéíóúýþæðö",
        "àçèéíïòóúü·", "ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "čćđšž", "ăâîșț",
        "ăâîşţ", "ąčęėįšųūž", "āčēģīķļņšūž", "äõöüšž", "çğıöşüâîİ",
    )
)  # fmt: skip
MAX_ODDITY = 0.3  # of a Latin text, above which common characters of Chinese or Japanese are likelier
MIN_COMMON = 0.9  # of the characters
# The commoner first; the codec and its first bytes that the common characters have.
_EASTERN = {
    "gb18030": ("gb2312", 0xB0, 0xD7), "shift_jis": ("euc_jp", 0xB0, 0xCF), "big5": ("big5", 0xA4, 0xC6),
    "euc-kr": ("euc_kr", 0xB0, 0xC8), "euc_jp": ("euc_jp", 0xB0, 0xCF),
}  # fmt: skip
MIN_ENCODED = 0.75  # of an alphabet's letters that an encoding has, if its language is written in it
_ICELANDIC = frozenset("áíóúæé")  # of which some word has one where others have þ, ð or ý
# Where a letter stands in the languages that have it; elsewhere it is rather one of another encoding.
_PLACES = {
    "õ": ("áâãàçéêíóôõú", re.compile(r"õe")),
    "ã": ("áâãàçéêíóôõú", re.compile(r"ã(?:[oesi]|$)")),
    "ç": ("áâãàçéêíóôõúéèêëàâçîïôùûüœæ", re.compile(r"ç[aouáãâàóôõú]")),
    "þ": ("áéíóúýþæðö", re.compile(r"(?<!\w)þ")),
    "ð": ("áéíóúýþæðö", re.compile(r"(?<=\w)ð")),
    "ğ": ("çğıöşüâîi̇", re.compile(r"(?<=[aeıioöuüâ])ğ")),
}
_VIETNAMESE = frozenset("àáâãèéêìíòóôõùúýăđơư" + "ÀÁÂÃÈÉÊÌÍÒÓÔÕÙÚÝĂĐƠƯ")  # whose tones stand apart
_TONES = "\u0300\u0301\u0303\u0309\u0323"  # windows-1258 writes them behind their letters
_SIGNS = frozenset("€£¥¢°½¼¾±×§")
_BETWEEN_WORDS = frozenset("“”„‘’‚–—…€£°²³µ«»¿¡ºª·§©®№½¼¾×\u00a0" + _TONES)
_WITHIN_WORDS = frozenset("’·" + _TONES)
_OTHERS = (  # of other scripts; a detector knows more, and takes rare ones for common ones in a few words
    "windows-1251", "windows-1253", "windows-1255", "windows-1256", "koi8-r", "koi8-u", "iso-8859-5", "cp866",
    "mac-cyrillic", "iso-8859-6", "iso-8859-7", "iso-8859-8", "cp874", "gb18030", "big5", "big5hkscs",
    "shift_jis", "cp932", "euc_jp", "euc_jis_2004", "euc-kr", "cp949", "johab",
)  # fmt: skip
_NAMES = {codecs.lookup(name).name: name for name in (*_LATIN, *_OTHERS)}
_NAMES |= {"utf-8-sig": "utf-8", "ascii": "utf-8", "gb2312": "gb18030", "gbk": "gb18030", "tis-620": "cp874"}
_COMMONER = {"cp949": "euc-kr", "cp932": "shift_jis", "big5hkscs": "big5", "euc_jis_2004": "euc_jp"}
_BESIDE_LATIN = "[\u0370-\u03ff\u0400-\u052f\u0590-\u06ff\u0e00-\u0e7f\u2500-\u259f]"
_TWO_SCRIPTS = re.compile(
    rf"[A-Za-z]{_BESIDE_LATIN}|{_BESIDE_LATIN}[A-Za-z]|[a-z][\uac00-\ud7a3]|[\uac00-\ud7a3][a-z]"
)
_TWICE = re.compile(
    "[\u00c2-\u00c5\u00d0\u00d1\u00e2][\u0080-\u00bf\u0152-\u0178\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]"
)


@dataclass(frozen=True)
class Decoded:
    """A file's text in NFC, how it was decoded, and what is unsure about it."""

    text: str
    encoding: Decided[str]
    look_at: tuple[LookAt, ...] = ()


def decode(content: bytes, path: Path, given: str | None = None) -> Decoded:
    """Decode a whole file, in the encoding that `[read]` gives or in the one that its bytes speak for.

    Raises DataError where the given encoding does not fit (naming the line), or none does.
    """
    if given is not None:
        return _decode_given(content, given, path)
    for mark, marked in _MARKS:
        if content.startswith(mark):
            return _decode_as(content, marked, "a byte order mark at its start", path)
    if b"\0" in content[:SAMPLE_BYTES]:
        encoding = _by_zero_bytes(content)
        if encoding is None:
            line = content.count(b"\n", 0, content.index(b"\0")) + 1
            raise DataError(f"{path}, line {line} holds a zero byte: expected text without any.")
        return _decode_as(content, encoding, "every other byte of its digits and signs is zero", path)
    if content.isascii():
        if b"\x1b$" in content or b"\x1b(" in content:
            return _decode_as(content, "iso2022_jp_2", "escape sequences of Japanese", path)
        return Decoded(_cleaned(content.decode("ascii")), Decided("utf-8", "all of its bytes are ASCII"))
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return _mostly_utf8(content) or _guessed(content, path)
    if _is_utf8_by_chance(content, text):
        return _guessed(content, path)
    return Decoded(_cleaned(text), Decided("utf-8", "all of its bytes are UTF-8"), _encoded_twice(text))


def _cleaned(text: str) -> str:
    """The text in NFC, its lines parted by line feeds, without marks where files were glued together."""
    if "\n" not in text and "\r" not in text:
        for end in _OTHER_ENDS:
            text = text.replace(end, "\n")
    return nfc(text.removeprefix("\ufeff").replace("\n\ufeff", "\n"))


def _decode_as(content: bytes, encoding: str, reason: str, path: Path) -> Decoded:
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(_unfit(content, error, _name(encoding), path)) from None
    return Decoded(_cleaned(text), Decided(_name(encoding), reason))


def _decode_given(content: bytes, given: str, path: Path) -> Decoded:
    try:
        encoding = codecs.lookup(given).name
    except LookupError:
        raise DataError(
            f'unknown encoding "{given}"; expected such as "utf-8", "gb18030" or "windows-1251".'
        ) from None
    for mark, marked in _MARKS:  # what a mark says is so, whatever a key says
        if content.startswith(mark) and encoding != marked.removesuffix("-sig"):
            reason = "a byte order mark at its start, which encoding under [read] cannot change"
            return _decode_as(content, marked, reason, path)
    encoding = "utf-8-sig" if encoding == "utf-8" else encoding
    if encoding in {"iso8859-1", "ascii"}:  # mostly Windows-1252, which has the euro sign and curly quotes
        try:
            content.decode("cp1252")
            encoding = "cp1252"
        except UnicodeDecodeError:
            encoding = "latin-1"
    decoded = _decode_as(content, encoding, "", path)
    return Decoded(decoded.text, Decided(given.lower(), "encoding under [read]", given=True))


def _unfit(content: bytes, error: UnicodeDecodeError, encoding: str, path: Path) -> str:
    line = content.count(b"\n", 0, error.start) + 1
    try:
        guess = _guessed(content, path).encoding.value
    except DataError:
        guess = "latin-1"
    return (
        f'{path}, line {line} is not {encoding.upper()}: set encoding = "{guess}" under [read], '
        "or what the file is written in."
    )


def _name(encoding: str) -> str:
    try:
        canonical = codecs.lookup(encoding).name
    except LookupError:
        return encoding.lower()
    return _NAMES.get(canonical, canonical)


def _by_zero_bytes(content: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark: the one in which ASCII stands between the other characters."""
    sample = content[: SAMPLE_BYTES // 8 * 8]
    best, most = None, 0
    for encoding in _WITHOUT_MARK:
        width = 4 if "32" in encoding else 2
        if len(content) % width:
            continue
        text = sample[: len(sample) // width * width].decode(encoding, "replace")
        plain = sum(" " <= character <= "~" or character in "\t\r\n" for character in text)
        strange = sum(unicodedata.category(character) in {"Cn", "Co"} for character in set(text)) > 1
        if text.count("\n") < sample.count(b"\n") / 2:  # a zero byte beside a few of its cells
            continue
        if "\0" in text or strange or text.count("\ufffd") > 1 or plain < MIN_PLAIN * len(text):
            continue
        if plain > most:
            best, most = encoding, plain
    return best


def _is_utf8_by_chance(content: bytes, text: str) -> bool:
    """Whether the one letter that UTF-8 reads is a unit in another encoding, as "元" of GBK is."""
    words = set(_words(text[:SAMPLE_BYTES].splitlines()))
    if len(words) != 1 or len(next(iter(words))) > 1 or _is_sign(next(iter(words))):
        return False
    return bool(_by_signs(_lines_with_letters(content)))


def _mostly_utf8(content: bytes) -> Decoded | None:
    """A UTF-8 file with a few lines of another encoding, as tables that were glued together have."""
    lines = content.split(b"\n")
    odd, good = [], 0
    for number, line in enumerate(lines):
        if line.isascii():
            continue
        try:
            line.decode("utf-8")
            good += 1
        except UnicodeDecodeError:
            odd.append(number)
    if good < MIN_UTF8_LINES or len(odd) > MOST_ODD_LINES * (good + len(odd)):
        return None
    for number in odd:
        lines[number] = lines[number].decode("cp1252", "replace").encode()
    words = _sample_words(lines[number].decode() for number in odd)
    told = LookAt(
        None,
        f"{number_of(len(odd), 'line')} not in UTF-8 as the others are (the first is line {odd[0] + 1}), "
        f"and read as windows-1252 ({words}): where these words are wrong, mend the lines or set "
        "encoding under [read]",
    )
    text = b"\n".join(lines).decode("utf-8-sig")
    return Decoded(_cleaned(text), Decided("utf-8", "nearly all of its lines are UTF-8"), (told,))


def _encoded_twice(text: str) -> tuple[LookAt, ...]:
    """UTF-8 that was taken for Windows-1252 and written as UTF-8 once more: "MÃ¼ller"."""
    found = _TWICE.search(text)
    if found is None:
        return ()
    words = [word for word in _words(text[: 20 * SAMPLE_BYTES].splitlines()) if _TWICE.search(word)]
    words = list(dict.fromkeys(words))[:200]
    mended = []
    for word in words:
        try:
            mended.append(word.encode("cp1252").decode("utf-8"))
        except UnicodeError:
            continue
    if 2 * len(mended) <= len(words):
        return ()
    shown = ", ".join(f'"{word}"' for word in words[:SAMPLE_WORDS])
    return (
        LookAt(
            None,
            f"some words look as if UTF-8 had been written as UTF-8 twice ({shown}, for "
            f'"{mended[0]}"): they stay as they are; write the file anew from its source',
        ),
    )


# --------------------------------------------------------------------------------------------- the guess


def _guessed(content: bytes, path: Path) -> Decoded:
    """The likeliest of the older encodings, told with words from the file."""
    sample = _lines_with_letters(content)
    ranked = _ranked(sample)
    fitting = [(encoding, worse) for encoding, worse in ranked if _fits(content, encoding)]
    if not fitting:
        raise DataError(f"{path} is in no encoding that could be found: set encoding under [read].")
    encoding = fitting[0][0]
    text = content.decode(encoding)
    commoner = _COMMONER.get(encoding)
    if commoner and _fits(content, commoner) and content.decode(commoner) == text:
        encoding = commoner  # by the name that more people know
    words = _sample_words(sample.decode(encoding, "replace").splitlines())
    told = f"the file is not UTF-8, and its encoding is a guess: it is read as {encoding} ({words})"
    other = next(
        (
            each
            for each, worse in fitting[1:]
            if worse <= NEAR and sample.decode(each, "replace") != sample.decode(encoding, "replace")
        ),
        None,
    )
    if other is not None:
        told += (
            f"; as {other} the same words are {_sample_words(sample.decode(other, 'replace').splitlines())}"
        )
    told += "; if these words are wrong, set encoding under [read]"
    return Decoded(
        _cleaned(text), Decided(encoding, f"a guess from words such as {words}"), (LookAt(None, told),)
    )


def _lines_with_letters(content: bytes) -> bytes:
    """The lines that are not ASCII, each once, for as long as a detector looks."""
    lines: dict[bytes, None] = {}
    size = 0
    for line in content.splitlines():
        if not line.isascii() and line not in lines:
            lines[line] = None
            size += len(line)
            if size > SAMPLE_BYTES:
                break
    return b"\n".join(lines)


def _byte_words(sample: bytes) -> bytes:
    """The words that are not ASCII, a line each: numbers and other words beside them mislead a detector."""
    words = dict.fromkeys(word for word in re.split(rb"[\s,;\"]+", sample) if not word.isascii())
    return b"\n".join(words)


def _ranked(sample: bytes) -> list[tuple[str, float]]:
    """Encodings that decode the sample, the likeliest first, with how much worse than the first they fit."""
    signs = _by_signs(sample)
    if signs:
        return [(encoding, 0.0) for encoding in signs]
    found = [
        (_name(str(each["encoding"])), float(each["confidence"] or 0))
        for each in chardet.detect_all(_byte_words(sample))
        if each["encoding"]
    ]
    known = {*_LATIN, *_OTHERS}
    detected = [(encoding, each) for encoding, each in found if encoding in known and _fits(sample, encoding)]
    detected = [each for each in detected if not _mixes_scripts(sample.decode(each[0]))]
    if detected and not _is_latin(sample.decode(detected[0][0])):
        best = detected[0][1]
        return [(encoding, 1 - each / best if best else 0.0) for encoding, each in detected]
    scored = []
    for place, encoding in enumerate(dict.fromkeys([*_LATIN, *(encoding for encoding, _ in detected[:1])])):
        if _fits(sample, encoding):
            alphabets = (_VIETNAMESE,) if encoding == "windows-1258" else _alphabets_in(encoding)
            scored.append((_oddity(sample.decode(encoding), alphabets), place, encoding))
    east = _eastern(sample) if not scored or min(scored)[0] > MAX_ODDITY else None
    if not scored:
        return [(east, 0.0)] if east else []
    least = min(scored)[0]
    first = next(each for each in scored if each[0] <= least + BEST_BY)
    rest = sorted(each for each in scored if each is not first)
    found = [(encoding, max(0.0, odd - first[0])) for odd, _, encoding in [first, *rest]]
    return [(east, 0.0), *found] if east else found


def _by_signs(sample: bytes) -> list[str]:
    """Encodings in which all words that are not ASCII are signs and units, such as "€", "½" or "zł".

    No detector knows them alone, as they stand beside the numbers of a table. Of encodings that read the same
    words, the commonest is given.
    """
    found: dict[tuple[str, ...], str] = {}
    for encoding in (*_LATIN, *_OTHERS):
        if _fits(sample, encoding):
            words = tuple(dict.fromkeys(_words(sample.decode(encoding).splitlines())))
            if words and len(words) <= MAX_SIGNS and all(map(_is_sign, words)):
                found.setdefault(words, encoding)
    return list(found.values())


def _is_sign(word: str) -> bool:
    return set(word) <= _SIGNS or ("¤" not in word and is_unit(word))


def _eastern(sample: bytes) -> str | None:
    """The encoding of Chinese, Japanese or Korean by which nearly all characters are common ones.

    A detector sees none in a few words such as "男" and "女".
    """
    for encoding, (codec, low, high) in _EASTERN.items():
        try:
            characters = [c for c in sample.decode(encoding) if not c.isascii()]
        except UnicodeDecodeError:
            continue
        common = sum(_is_common(character, codec, low, high) for character in characters)
        if common >= MIN_COMMON * len(characters):
            return encoding
    return None


def _is_common(character: str, codec: str, low: int, high: int) -> bool:
    """Whether a character is among the common ones of an encoding, by the first byte that it has in it."""
    if "\u3041" <= character <= "\u30fe" or "\uff66" <= character <= "\uff9f":
        return codec == "euc_jp"
    return low <= character.encode(codec, "ignore")[:1].ljust(1, b"\0")[0] <= high


@cache
def _alphabets_in(encoding: str) -> tuple[frozenset[str], ...]:
    """The alphabets of the languages that are written in an encoding."""
    return tuple(
        alphabet
        for alphabet in _ALPHABETS
        if sum(bool(letter.encode(encoding, "ignore")) for letter in alphabet) >= MIN_ENCODED * len(alphabet)
    )


def _mixes_scripts(text: str) -> bool:
    """Whether most words with letters outside of ASCII have letters of two scripts: "grцяe"."""
    words = {word for word in _words(text.splitlines()) if len(word) > 1}
    mixed = [word for word in words if _TWO_SCRIPTS.search(word)]
    return 0 < len(words) <= 2 * len(mixed)


def _fits(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return False
    return True


def _is_latin(text: str) -> bool:
    letters = [character for character in text if not character.isascii() and character.isalpha()]
    latin = sum(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    return latin >= 0.8 * len(letters)


def _oddity(text: str, alphabets: Iterable[frozenset[str]]) -> float:
    """How badly the best of the alphabets explains the letters of a Latin text, and how oddly they stand."""
    counts: dict[str, int] = {}
    misplaced: dict[str, int] = {}
    characters = odd = 0
    words = set(_words(text.splitlines()))
    for word in words:
        for place, character in enumerate(word):
            if character.isascii():
                continue
            characters += 1
            before, after = word[place - 1 : place], word[place + 1 : place + 2]
            category = unicodedata.category(character)
            if category[0] == "L":
                counts[character] = counts.get(character, 0) + 1
                if _is_misplaced(word.lower(), place):
                    misplaced[character] = misplaced.get(character, 0) + 1
                odd += _oddly_placed(character, category, before, after)
            elif category in {"Cc", "Co", "Cn"}:
                odd += 3
            elif character not in _BETWEEN_WORDS or (
                character not in _WITHIN_WORDS and before.isalpha() and after.isalpha()
            ):
                odd += 1
    icelandic = any(letter in _ICELANDIC for word in words for letter in word.lower())
    explained = max(
        sum(
            count - (misplaced.get(letter, 0) if _has_places(letter, alphabet) else 0)
            for letter, count in counts.items()
            if letter in alphabet and (icelandic or "þ" not in alphabet)
        )
        for alphabet in alphabets
    )
    return (sum(counts.values()) - explained + odd) / max(characters, 1)


def _is_misplaced(word: str, place: int) -> bool:
    """Whether a letter stands where its language never has it."""
    places = _PLACES.get(word[place : place + 1])
    return places is not None and places[1].match(word, place) is None


def _has_places(letter: str, alphabet: frozenset[str]) -> bool:
    """Whether a letter has its places in the language of an alphabet: "õ" has in Portuguese."""
    places = _PLACES.get(letter.lower())
    return places is not None and alphabet <= frozenset(places[0] + places[0].upper())


def _oddly_placed(letter: str, category: str, before: str, after: str) -> int:
    if category == "Lu":
        return 2 if before.islower() else int(before.isupper() and after.islower())
    if category == "Ll":
        return int(before.isupper() and after.isupper() and letter != "ß")
    return 1


def _words(lines: Iterable[str]) -> list[str]:
    """The words that are not ASCII, in the order of the file."""
    found = (
        word for line in lines if not line.isascii() for word in re.findall(r"[^\s,;|\"\d()\[\]:/_]+", line)
    )
    return [word for word in found if not word.isascii()]


def _sample_words(lines: Iterable[str]) -> str:
    words: Sequence[str] = list(
        dict.fromkeys(islice((word for line in lines for word in _words([line])), 200))
    )
    # What has most letters outside of ASCII shows best whether they are right.
    words = sorted(words, key=lambda word: -sum(not c.isascii() and c.isalpha() for c in word[:MAX_WORD]))
    return ", ".join(f'"{word[:MAX_WORD]}"' for word in words[:SAMPLE_WORDS])
