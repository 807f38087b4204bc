"""The encoding of a file is found from its bytes, and what is a guess is told with words from the file."""

import unicodedata
from pathlib import Path

import pytest

from training.tables.delimited import read_delimited
from training.tables.encoding import decode
from training.tables.raw import DataError

CASES = Path(__file__).parent / "cases"
HERE = Path("table.csv")

# Names of towns and words for good and bad, as a person types them into a table.
WORDS = {
    "ru": "Москва Казань Омск Тверь Пермь хорошо плохо имя город возраст Пётр Анна Ёлка",
    "uk": "Київ Львів Чернігів Їжак добре погано місто ім'я Ґанок",
    "el": "Αθήνα Θεσσαλονίκη Πάτρα Ηράκλειο καλό κακό όνομα πόλη",
    "he": "ירושלים חיפה טוב רע שם עיר",
    "ar": "القاهرة دمشق جيد سيئ اسم مدينة الرياض",
    "tr": "İstanbul İzmir Muğla Şırnak iyi kötü isim şehir Çankırı ağaç",
    "pl": "Łódź Kraków Gdańsk Poznań dobry zły imię miasto Święta Żywiec",
    "cs": "Plzeň Liberec Děčín Třebíč dobrý špatný jméno město Žďár",
    "hu": "Győr Szűcs Pécs Székesfehérvár jó rossz név város Hódmezővásárhely",
    "lt": "Šiauliai Panevėžys Klaipėda geras blogas vardas miestas Ąžuolas",
    "de": "München Köln Düsseldorf Fürth gut schlecht Größe Straße Übung",
    "fr": "Orléans Besançon Genève Nîmes bien mauvais prénom âgé forêt",
    "es": "Málaga Cádiz España niño año bueno también acción",
    "sv": "Malmö Göteborg Västerås Örebro bra dålig år",
    "zh": "北京 上海 广州 深圳 好评 差评 姓名 城市 非常满意 质量不错",
    "zh_Hant": "臺北 高雄 臺中 好評 差評 姓名 城市 非常滿意 品質不錯",
    "ja": "東京 大阪 名古屋 よい わるい なまえ 都市 とても満足です カタカナ",
    "ko": "서울 부산 대구 좋음 나쁨 이름 도시 매우 만족합니다",
    "th": "กรุงเทพ เชียงใหม่ ดี ไม่ดี ชื่อ เมือง",
}
OLDER = [
    ("ru", "cp1251"), ("ru", "koi8_r"), ("ru", "cp866"), ("uk", "cp1251"), ("el", "cp1253"), ("he", "cp1255"),
    ("ar", "cp1256"), ("tr", "cp1254"), ("pl", "cp1250"), ("cs", "cp1250"), ("cs", "iso8859_2"),
    ("hu", "cp1250"), ("lt", "cp1257"), ("de", "latin_1"), ("de", "mac_roman"), ("fr", "cp1252"),
    ("fr", "mac_roman"), ("es", "latin_1"), ("sv", "cp1252"), ("zh", "gb18030"), ("zh_Hant", "big5"),
    ("ja", "shift_jis"), ("ja", "euc_jp"), ("ko", "euc_kr"), ("th", "cp874"),
]  # fmt: skip


def table(language: str) -> str:
    words = WORDS[language].split()
    rows = (f"{words[i % len(words)]},{i},{words[(i * 7 + 3) % len(words)]}" for i in range(60))
    return f"{words[-1]},n,{words[0]}\n" + "\n".join(rows) + "\n"


@pytest.mark.parametrize(("language", "encoding"), OLDER)
def test_older_encodings_are_found_and_told_with_words(language, encoding):
    """As no byte says so, the words are shown for a person to judge, and the key is named."""
    text = table(language)
    decoded = decode(text.encode(encoding), HERE)
    assert decoded.text == text
    assert len(decoded.look_at) == 1
    told = decoded.look_at[0].text
    assert "encoding under [read]" in told
    assert any(f'"{word}"' in told for word in WORDS[language].split() if not word.isascii())


@pytest.mark.parametrize("language", ["de", "ru", "zh", "ja", "ar"])
@pytest.mark.parametrize(
    ("encoding", "called"),
    [
        ("utf-8", "utf-8"), ("utf-8-sig", "utf-8"), ("utf-16", "utf-16"), ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"), ("utf-32", "utf-32"), ("utf-32-be", "utf-32-be"),
    ],
)  # fmt: skip
def test_unicode_is_read_with_and_without_a_mark_and_there_is_nothing_to_tell(language, encoding, called):
    """Its bytes leave nothing open."""
    decoded = decode(table(language).encode(encoding), HERE)
    assert (decoded.text, decoded.encoding.value, decoded.look_at) == (table(language), called, ())


def test_escape_sequences_of_japanese():
    """Seven bits, and no ASCII."""
    assert decode(table("ja").encode("iso2022_jp"), HERE).text == table("ja")


def test_a_given_encoding_is_taken_and_one_that_does_not_fit_names_another():
    """A person's word counts; where it cannot be, the line and a better one are named."""
    content = table("ru").encode("cp1251")
    assert decode(content, HERE, "mac_cyrillic").text != table("ru")
    assert decode(content, HERE, "windows-1251").text == table("ru")
    assert decode(content, HERE, "windows-1251").look_at == ()
    with pytest.raises(DataError, match=r'line 1 is not UTF-8: set encoding = "windows-1251" under \[read\]'):
        decode(content, HERE, "utf-8")


def test_a_few_lines_of_another_encoding_are_read_and_told():
    """Tables that were glued together."""
    lines = table("fr").splitlines()
    content = b"\n".join(line.encode("cp1252" if i == 7 else "utf-8") for i, line in enumerate(lines))
    decoded = decode(content, HERE)
    assert decoded.text.splitlines() == lines
    assert "1 line is not in UTF-8 as the others are (the first is line 8)" in decoded.look_at[0].text


def test_utf8_that_was_written_twice_is_told():
    """It stays as it is: what is in the file may be meant."""
    decoded = decode(table("fr").encode().decode("cp1252", "replace").encode(), HERE)
    assert "twice" in decoded.look_at[0].text


def test_texts_are_in_nfc():
    """Two spellings that look alike are one category, and one name."""
    frame = read_delimited(CASES / "nfc.csv").frame
    assert all(unicodedata.is_normalized("NFC", name) for name in frame.columns)
    assert set(frame.iloc[:, 0]) == {"Bern", "Genève", "Zürich"}


def test_zero_bytes_are_no_text():
    """Neither UTF-16 nor a table."""
    with pytest.raises(DataError, match="zero byte"):
        decode(b"a,b\n" + b"10,2\n" * 9 + b"1,\x00\n", HERE)


@pytest.mark.parametrize(
    ("name", "encoding", "first"),
    [
        ("cp1251.csv", "windows-1251", ["Омск", "3", "да"]),
        ("chinese_reviews_gb18030.csv", "gb18030", ["客服非常满意。", "46", "深圳", "好评"]),
        ("three_decimals_utf16.txt", "utf-16", ["0,633", "C", "schlecht"]),
    ],
)
def test_cases(name, encoding, first):
    """Files as people have them."""
    raw = read_delimited(CASES / name)
    assert raw.reading.encoding.value == encoding
    assert raw.frame.iloc[0].tolist() == first


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("windows-1250", ["Győr", "Székesfehérvár", "Pécs", "Kőszeg", "Hódmezővásárhely"]),
        ("windows-1250", ["Győr", "Pécs"]),
        ("windows-1254", ["İzmir", "Muğla", "Şanlıurfa", "Ağrı"]),
        ("windows-1254", ["Muğla", "Ağrı"]),
        ("cp857", ["İzmir", "Muğla", "Şanlıurfa", "Ağrı"]),
        ("windows-1257", ["Jūrmala", "Liepāja", "Daugavpils", "Rēzekne"]),
        ("windows-1252", ["größe"]),
        ("windows-1252", ["Reykjavík", "Akureyri", "Garðabær", "Þórshöfn"]),
        ("windows-1252", ["São Paulo", "Brasília", "Maceió", "Goiânia"]),
        ("windows-1252", ["Besançon", "Nîmes", "Orléans"]),
        ("shift_jis", ["はい", "いいえ"]),
        ("shift_jis", ["トヨタ", "ホンダ", "日産"]),
        ("shift_jis", ["男", "女"]),
        ("gb18030", ["男", "女"]),
        ("big5", ["男", "女"]),
        ("euc_jp", ["はい", "いいえ"]),
    ],
)
def test_a_few_words_tell_their_encoding(encoding, words):
    """Beside numbers and words of ASCII, which say nothing; the guess is told all the same."""
    rows = "".join(
        f"{words[i % len(words)]},{i * 37 % 101},{'ja' if i % 3 else 'nein'}\n" for i in range(120)
    )
    decoded = decode(f"a,x,y\n{rows}".encode(encoding), Path("a.csv"))
    assert words[0] in decoded.text
    assert all(word in decoded.text for word in words)
    assert "is a guess" in decoded.look_at[0].text


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("windows-1250", ["Šibenik", "Čakovec", "Đakovo", "Požega", "Karlovac"]),
        ("windows-1252", ["Évry;1\u00a0204,50", "Nîmes;12\u00a0900,10"]),
    ],
)
def test_no_word_has_letters_of_two_scripts(encoding, words):
    """As "Po룐ga" and "Nюmes" have, which other encodings make of the same bytes."""
    text = "town;n\n" + "".join(f"{word}\n" for word in words * 5)
    assert decode(text.encode(encoding), HERE).text == text


@pytest.mark.parametrize(
    ("cell", "encoding", "found"),
    [
        ("€{}.50", "cp1252", "windows-1252"),
        ("{} €", "mac_roman", "mac-roman"),
        ("{} €", "iso8859_15", "iso-8859-15"),
        ("£{}", "cp850", "cp850"),
        ("{}°C", "cp850", "cp850"),
        ("{} µg", "latin_1", "windows-1252"),
        ("{} zł", "cp1250", "windows-1250"),
        ("{} Kč", "cp1250", "windows-1250"),
        ("{} м", "koi8_r", "koi8-r"),
        ("{} руб.", "cp1251", "windows-1251"),
        ("{}円", "shift_jis", "shift_jis"),
        ("{}원", "euc_kr", "euc-kr"),
        ("{}元", "gbk", "gb18030"),  # these two bytes are a letter in UTF-8 too
        ("{}萬元", "big5", "big5"),
    ],
)
def test_a_unit_beside_numbers_tells_the_encoding(cell, encoding, found):
    """No detector knows a sign alone: "€5" of Windows was taken for a Cyrillic letter."""
    text = "colour;price\n" + "".join(f"red;{cell.format(i)}\n" for i in range(60))
    decoded = decode(text.encode(encoding), HERE)
    assert (decoded.encoding.value, decoded.text) == (found, text)
    assert "encoding under [read]" in decoded.look_at[0].text


def test_a_letter_beside_numbers_in_utf8_is_utf8():
    text = "colour;grade\n" + "".join(f"red;{i}é\n" for i in range(60))
    assert decode(text.encode(), HERE).encoding.value == "utf-8"


def test_a_zero_byte_in_a_cell_is_named_by_its_line():
    text = "name,n\n" + "".join(f"row {i}{chr(0) if i % 2 else ''},{i}\n" for i in range(60))
    with pytest.raises(DataError, match=r"table\.csv, line 3 holds a zero byte"):
        decode(text.encode(), HERE)


@pytest.mark.parametrize("end", ["\x85", "\u2028", "\u2029", "\x1e"])
def test_other_line_ends_where_there_is_no_line_feed(end):
    assert decode(f"a,b{end}1,2{end}".encode(), HERE).text == "a,b\n1,2\n"
