"""What a person would notice in the values of a table: told with counts and a key, never changed."""

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.tables.cleaned import Cleaned
from training.tables.float32 import MERGED_SHARE, merged_share, offset_of
from training.tables.ids import ID_SHARE
from training.tables.reading import LookAt
from training.tables.spelt_numbers import repeated_signs
from training.tables.tokens import is_a_code_among_codes

if TYPE_CHECKING:
    import pandas as pd

_SAYS_MISSING = """
unknown|unkown|none|missing|n.a.|n.a|not available|not applicable|no data|not known|not specified
unspecified|undefined|undetermined|tbd|nil|void|k.a.|k. a.|unbekannt|keine angabe|keine|inconnu
non renseigné|desconocido|sin datos|s/d|sconosciuto|desconhecido|onbekend|nieznane|brak|неизвестно
нет данных|bilinmiyor|不明|未知|不详|无|無し|なし|미상|(blank)|(missing)|(unknown)|[null]|blank|empty
xxx|??|???|...|*|#|_|---|n.d.|nd|n/d|s.d.|n.v.|n.v.t.|—|–|…|..|:|leer|vide|vacío|vuoto|sin dato|없음
<null>|<none>|""|''|not recorded|not stated|not given|not collected|no answer|see note|see notes|error
err|#error!|#error|loading...|bdl|below detection|ohne angabe|keine daten|nicht bekannt|fehlt|k. a
sans objet|non disponible|non connu|nc|manquant|non specificato|non disponibile|mancante|não informado
não disponível|ignorado|sem informação|geen|geen gegevens|niet bekend|okänd|uppgift saknas|saknas|ukjent
ukendt|mangler|ingen data|tuntematon|puuttuu|άγνωστο|δ/υ|неизв.|неизвестен|недоступно|недоступен
отсутствует|невідомо|neznámé|neznámý|není k dispozici|ismeretlen|nincs adat|necunoscut|nepoznato
bilinmeyen|veri yok|yok|غير معروف|غير متوفر|لا يوجد|לא ידוע|אין נתונים|ไม่ทราบ|ไม่มีข้อมูล|không rõ
không có|tidak diketahui|tidak ada|अज्ञात|データなし|資料なし|記載なし|未記入|未回答|無回答|未詳|暂无
暂缺|缺失|缺|空|空白|待定|未填|未填写|没有|無資料|缺值|자료없음|알 수 없음|무응답|미응답|sin información
no disponible|не указано|н/д|ei tietoa|brak danych|不適用|不适用|該当なし|해당없음|모름|#nv|#n/b|#wert!
#bezug!|#valor!|#valeur!|#¡div/0!|#disp!|inf|-inf|+inf|infinity|-infinity
refused|refusal|refuse|declined|declined to answer|prefer not to say|prefer not to answer|rather not say
not answered|don't know|dont know|do not know|dk|dk/na|can't say|not sure|verweigert|weiß nicht|weiss nicht
möchte ich nicht sagen|refus|ne sait pas|nsp|ne se prononce pas|no sabe|no contesta|ns/nc|ns/nr|non so
non risponde|não sabe|não respondeu|weet niet|wil niet zeggen|vet ej|vet inte|ved ikke|vet ikke|nie wiem
odmowa|nevím|nevi|neví|nem tudom|nem válaszol|nu știu|отказ|отказался|затрудняюсь ответить|не знаю
bilmiyorum|cevap yok|لا أعرف|رفض|לא יודע|मालूम नहीं|拒绝|拒绝回答|拒答|不知道|不清楚|分からない|わからない
回答拒否|모르겠다|모르겠음|응답거부|ไม่ทราบ|không biết|tidak tahu
"""
SAYS_MISSING = frozenset(word for line in _SAYS_MISSING.split("\n") for word in line.split("|") if word)
LEVELS_OF_LOGS = frozenset(
    {
        "info", "information", "warn", "warning", "debug", "trace", "notice", "fatal", "critical",
        "ok", "success", "succeeded", "done", "completed", "pass", "passed", "fail", "failed",
        "timeout", "running", "up", "down", "ready",
    }
)  # fmt: skip
MIN_LETTERS_BESIDE_X = 3  # of each other word; beside shorter words "x" may be a category like them
MIN_BINARY_CODES = 2  # different numbers such as 101 and 110, which are neither 0 nor a power of ten
MIN_STAND_INS = 3  # cells with the one number that may stand for a missing value
MIN_OTHERS = 5  # different numbers from which one lies apart
MIN_SCALE, MAX_SCALE_CODES = 3, 3  # different numbers of a scale, and codes above it
FAR = 3.0  # times the largest other number, from which 999 is no measurement
MIN_NUMBERS = 20  # different ones, of a measurement
MIN_ZEROS = 0.01  # of the cells
ABOVE_ZERO = 0.15  # of the median, above which every other number lies
SAME_FACTOR, SAME_LINE = 1e-3, 1e-4  # the second by the range of the values
MIN_NAMES = 3  # different words of two columns that say the same
PAIRED_COLUMNS, PAIRED_ROWS = 80, 2_000
MANY_COPIES = 0.2  # of the rows
WAYS_BY_ROW = 10  # in which rows can differ, by the number of rows, from which copies are no chance
ID_DIGITS = 9  # of whole numbers that are all as long and all different
MAX_CODES = 2_000
MAX_VERSIONS = 100
_VERSION_NAME = re.compile(
    r"version|release|(?:^|[\s_.-])(?:ver|build|code|codes|account|acct|konto|icd|icd9|icd10|diag|diagnosis|hs|section|chapter|paragraph|clause|kapitel|abschnitt|capitulo|capítulo|chapitre)"
    r"(?:$|[\s_.-])|版本|バージョン|버전|версия",
    re.IGNORECASE,
)
_NINES = re.compile(r"-?(?:9{2,}|8{2,}|77+)")
_SCALE_CODE = re.compile(r"[6-9]|[6-9]{2}|9{3}|888|777")
MIN_TELEPHONE_DIGITS = 5
_TELEPHONE_NAME = re.compile(
    r"phone|(?:^|[\s_.-])(?:tel|telefon|telefono|teléfono|mobile?|mobil|handy|cell|fax|whatsapp|msisdn)(?:$|[\s_.\d-])"
    r"|телефон|电话|電話|手机|手機|携帯|전화|휴대",
    re.IGNORECASE,
)
_CODE_NAME = re.compile(
    r"(?:^|[\s_.-])(?:code|codes|zip|zipcode|postcode|postal|plz|cp|cep|pin_?code|isbn|ean|gtin|upc|barcode|imei|naics|sic|icd|isco|fips|area_?code|branch|sector|type"
    r"|typ|kategorie|category|class|klasse|status|region|district|store|shop|dept|department|pin|account|acct|konto|kostenstelle"
    r"|cost_?cent(?:er|re)|postleitzahl|postnummer|postnr|c[oó]digo_?postal|kod_?pocztowy|irányítószám|psč|psc|индекс|邮编|邮政编码|郵便番号"
    r"|우편번호|gender|sex|geschlecht|sexe|sexo|race|ethnicity|marital|religion|nationality|country|state|county|province|city|occupation"
    r"|profession|job|brand|vendor|supplier|product|sku|article|material|plant|werk|warehouse|route|zone|ward)(?:$|[\s_.-])",
    re.IGNORECASE,
)


def noticed(cleaned: Mapping[str, Cleaned], copies: int, rows: int) -> list[LookAt]:
    """What stands out in the cells of the features."""
    found: list[LookAt] = []
    for name, column in cleaned.items():
        if column.kind == "category":
            found += _words(name, column.cells)
        elif column.kind == "number":
            found += _numbers(name, column.cells.to_numpy("float64"))
    found += _factors({n: c.cells.to_numpy("float64") for n, c in cleaned.items() if c.kind == "number"})
    found += _in_other_words(cleaned)
    if copies > MANY_COPIES * rows and _ways(cleaned) > WAYS_BY_ROW * rows:
        found.append(
            LookAt(
                None,
                f"{copies:,} of {rows:,} rows are copies of others: where they are the same things seen "
                f"again, set group, "
                "or take the copies out",
            )
        )
    return found


def _ways(cleaned: Mapping[str, Cleaned]) -> float:
    """In how many ways rows can differ: few columns of few values make copies by chance."""
    return math.prod(float(max(1, column.cells.nunique())) for column in cleaned.values())


def _words(name: str, cells: "pd.Series[Any]") -> list[LookAt]:
    counts = cells.value_counts()
    return [
        LookAt(
            name,
            f'"{word}" in {count:,} cells may stand for a missing value, and is kept as a category: '
            f"where it does, set "
            f'missing = ["{word}"] under [read]',
        )
        for word, count in counts.items()
        if _says_missing(str(word).casefold(), {str(other).casefold() for other in counts.index} - {"x"})
        and not is_a_code_among_codes(str(word), list(counts.index))
        and not repeated_signs(list(counts.index))
    ]


def _says_missing(word: str, others: set[str]) -> bool:
    """Whether a word stands for a missing value; "x" does beside words, "error" where none is of a log."""
    if word == "x":
        return len(others) > 1 and min(map(len, others)) >= MIN_LETTERS_BESIDE_X
    if word in {"error", "err"} and others & LEVELS_OF_LOGS:
        return False
    return word in SAYS_MISSING


def _numbers(name: str, values: NDArray[np.float64]) -> list[LookAt]:
    there = values[np.isfinite(values)]
    if len(there) < MIN_NUMBERS:
        return []
    distinct, counts = np.unique(there, return_counts=True)
    texts = [*_stand_ins(distinct, counts), *_zeros(distinct, counts)]
    if (_CODE_NAME.search(name) and _are_codes(distinct)) or _are_telephones(name, distinct):
        texts.append(
            f"{len(distinct):,} different whole numbers that may be codes, whose order means nothing: "
            f"where they are, set "
            'the kind of the column to "category" under [kinds]'
        )
    if (
        _VERSION_NAME.search(name)
        and len(distinct) <= MAX_VERSIONS
        and (distinct != np.round(distinct)).any()
    ):
        texts.append(
            "numbers that may be versions, sections or codes, of which 1.10 comes after 1.9: where they are, "
            'set the kind of the column to "category" under [kinds]'
        )
    if _are_binary_codes(distinct):
        texts.append(
            f"{len(distinct):,} different numbers of zeros and ones may be codes, whose order means nothing: "
            'where they are, set the kind of the column to "category" under [kinds]'
        )
    digits = {len(f"{value:.0f}") for value in (distinct[0], distinct[-1])}
    whole = bool((there == np.round(there)).all()) and distinct[0] > 0
    if whole and len(digits) == 1 and min(digits) >= ID_DIGITS and len(distinct) >= ID_SHARE * len(there):
        texts.append(
            f"{len(distinct):,} different whole numbers of {min(digits)} digits each may be ids, and are "
            "kept as amounts: where they are, leave the column out"
        )
    share = merged_share(there, offset_of(there)) if len(distinct) > MIN_NUMBERS else 0.0
    if share >= MERGED_SHARE and bool((there == np.round(there)).all()):
        texts.append(
            f"{share:.0%} of its different whole numbers are too large to be told apart by the model, "
            f"which holds 24 bits "
            'of each: where they name things, set the kind of the column to "category" under [kinds]'
        )
    return [LookAt(name, text) for text in texts]


def _stand_ins(distinct: NDArray[np.float64], counts: NDArray[np.intp]) -> list[str]:
    """-1 where all else is positive, 999 where all else is small."""
    texts = []
    if len(distinct) < 3:
        return []
    low, high = float(distinct[0]), float(distinct[-1])
    if low < 0 <= distinct[1] and counts[0] >= MIN_STAND_INS:
        texts.append(_stand_in(low, int(counts[0]), "all other numbers are 0 or more"))
    elif counts[0] >= MIN_STAND_INS and _lies_apart(low, distinct[1:]):
        texts.append(_stand_in(low, int(counts[0]), f"the next smallest number is {distinct[1]:g}"))
    lies_far = high > FAR * max(1.0, abs(float(distinct[-2]))) and _NINES.fullmatch(f"{high:.0f}")
    if counts[-1] >= MIN_STAND_INS and (lies_far or _lies_apart(high, distinct[:-1])):
        texts.append(_stand_in(high, int(counts[-1]), f"the next largest number is {distinct[-2]:g}"))
    elif len(codes := _beyond_a_scale(distinct)):
        cells = int(counts[-len(codes) :].sum())
        last = distinct[-len(codes) - 1]
        texts.append(_stand_in(float(codes[-1]), cells, f"the others count from {distinct[0]:g} to {last:g}"))
    return texts


def _lies_apart(value: float, others: NDArray[np.float64]) -> bool:
    """Whether a number that returns lies far from all others, as -999 does from temperatures."""
    spread = float(others[-1] - others[0])
    gap = min(abs(value - float(others[0])), abs(value - float(others[-1])))
    times = 1.0 if _NINES.fullmatch(f"{value:.0f}") else FAR
    return len(others) >= MIN_OTHERS and gap >= times * spread > 0


def _beyond_a_scale(distinct: NDArray[np.float64]) -> NDArray[np.float64]:
    """The codes such as 8 and 9 above a scale of 1 to 5."""
    steps = np.flatnonzero(np.diff(distinct) != 1)
    if not len(steps) or distinct[0] not in {0.0, 1.0} or steps[0] + 1 < MIN_SCALE:
        return distinct[:0]
    codes = distinct[steps[0] + 1 :]
    if len(codes) > MAX_SCALE_CODES or any(_SCALE_CODE.fullmatch(f"{code:g}") is None for code in codes):
        return distinct[:0]
    return codes


def _stand_in(value: float, cells: int, why: str) -> str:
    return (
        f"{value:g} in {cells:,} cells may stand for a missing value ({why}): where it does, set "
        f'missing = ["{value:g}"] under [read]'
    )


def _zeros(distinct: NDArray[np.float64], counts: NDArray[np.intp]) -> list[str]:
    """Zeros far below every other number, as of a blood pressure."""
    if len(distinct) < MIN_NUMBERS or distinct[0] != 0 or counts[0] < MIN_ZEROS * counts.sum():
        return []
    lowest, median = float(distinct[1]), float(np.median(distinct[1:]))
    if lowest <= 2 or lowest < ABOVE_ZERO * median:
        return []
    text = (
        f"0 in {int(counts[0]):,} cells may stand for a missing value (the next number is {lowest:g}): "
        f"where it does, set "
        'missing = ["0"] under [read]'
    )
    return [text]


def _are_codes(distinct: NDArray[np.float64]) -> bool:
    if len(distinct) > MAX_CODES or distinct[0] < 0 or not bool((distinct == np.round(distinct)).all()):
        return False
    return len(distinct) > 2


def _are_binary_codes(distinct: NDArray[np.float64]) -> bool:
    """Whether the digits of all are zeros and ones, as of flags, and not those of 10, 100 and 1000 alone."""
    if not 2 < len(distinct) <= MAX_CODES or distinct[0] < 0 or distinct[-1] < 100:
        return False
    if not bool((distinct == np.round(distinct)).all()):
        return False
    texts = [f"{value:.0f}" for value in distinct]
    return all(set(text) <= {"0", "1"} for text in texts) and (
        sum(text.count("1") > 1 for text in texts) >= MIN_BINARY_CODES
    )


def _are_telephones(name: str, distinct: NDArray[np.float64]) -> bool:
    """Whether long whole numbers stand under a name of telephones."""
    whole = bool((distinct == np.round(distinct)).all())
    return whole and distinct[0] >= 10**MIN_TELEPHONE_DIGITS and _TELEPHONE_NAME.search(name) is not None


def _factors(numbers: Mapping[str, NDArray[np.float64]]) -> list[LookAt]:
    """Columns that are another times a number, as inches are of centimetres."""
    names = list(numbers)[:PAIRED_COLUMNS]
    sample = {name: numbers[name][:PAIRED_ROWS] for name in names}
    varied = [
        name for name in names if len(np.unique(sample[name][np.isfinite(sample[name])])) >= MIN_NUMBERS
    ]
    found = []
    for i, name in enumerate(varied):
        for before in varied[:i]:
            ratio = _ratio(sample[before], sample[name])
            if ratio is not None and _ratio(numbers[before], numbers[name]) is not None:
                found.append(
                    LookAt(name, f'"{before}" times {ratio:.6g} in every row: one of the two is enough')
                )
                break
            line = _line(sample[before], sample[name])
            if line is not None and _line(numbers[before], numbers[name]) is not None:
                text = f'"{before}" times {line[0]:.6g}, plus {line[1]:.6g}, in every row'
                found.append(LookAt(name, f"{text}: one of the two is enough"))
                break
    return found


def _line(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float] | None:
    """The straight line on which all of `other` lies, as degrees Fahrenheit do over Celsius, or None."""
    there = np.isfinite(one) & np.isfinite(other)
    if there.sum() < MIN_NUMBERS:
        return None
    x, y = one[there], other[there]
    low, high = int(x.argmin()), int(x.argmax())
    slope = float((y[high] - y[low]) / (x[high] - x[low])) if x[high] > x[low] else 0.0
    start = float(y[low] - slope * x[low])
    if slope == 0 or start == 0 or float(np.abs(slope * x + start - y).max()) > SAME_LINE * float(np.ptp(y)):
        return None
    return slope, start


def _in_other_words(cleaned: Mapping[str, Cleaned]) -> list[LookAt]:
    """Categories that name what another column names, as "Germany" stands beside "DE"."""
    columns = {name: column.cells for name, column in cleaned.items() if column.kind == "category"}
    codes: dict[str, NDArray[np.intp]] = {}
    found = []
    for name in list(columns)[:PAIRED_COLUMNS]:
        codes[name] = columns[name].head(PAIRED_ROWS).factorize()[0]
        if not MIN_NAMES <= int(codes[name].max()) + 1 <= ID_SHARE * len(codes[name]):
            del codes[name]
            continue
        for before in list(codes)[:-1]:
            if _say_the_same(codes[before], codes[name]) and _say_the_same(
                columns[before].factorize()[0], columns[name].factorize()[0]
            ):
                if not columns[before].equals(columns[name]):
                    text = f'says in other words what "{before}" says in every row: one of the two is enough'
                    found.append(LookAt(name, text))
                break
    return found


def _say_the_same(one: NDArray[np.intp], other: NDArray[np.intp]) -> bool:
    pairs = np.unique(one * (int(other.max()) + 2) + other)
    return len(pairs) == len(np.unique(one)) == len(np.unique(other))


def _ratio(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """The number by which all of `other` is more than `one`, None where it differs or is 1."""
    there = np.isfinite(one) & np.isfinite(other) & (one != 0)
    if there.sum() < MIN_NUMBERS:
        return None
    ratios = other[there] / one[there]
    middle = float(np.median(ratios))
    if middle == 0 or abs(middle - 1) < SAME_FACTOR or float(np.abs(ratios / middle - 1).max()) > SAME_FACTOR:
        return None
    return middle
