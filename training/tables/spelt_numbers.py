"""Numbers and moments that are written in words or signs: "three", "IV", "四", "★★★☆☆", "2 days ago".

They stay categories: which number a word means for a model, and from which day on "ago" counts, is not in
the file.
"""

import re
from collections.abc import Sequence

from training.tables.units import scales

MIN_SHARE = 0.75  # of the different values, beside "many" or "unsure"
MIN_RELATIVE = 0.9
_SPELT = """
en zero one two three four five six seven eight nine ten eleven twelve
en first second third fourth fifth sixth seventh eighth ninth tenth
en once twice thrice
de null ein eine eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf
de erste erster erstes zweite zweiter zweites dritte dritter drittes vierte vierter viertes fünfte sechste
fr zéro zero un une deux trois quatre cinq six sept huit neuf dix onze douze
fr premier première deuxième second seconde troisième quatrième cinquième
es cero uno un una dos tres cuatro cinco seis siete ocho nueve diez once doce
es primero primera segundo segunda tercero tercera cuarto cuarta quinto quinta
it zero uno un una due tre quattro cinque sei sette otto nove dieci undici dodici
it primo prima secondo seconda terzo terza quarto quarta quinto quinta
pt zero um uma dois duas três tres quatro cinco seis sete oito nove dez onze doze
pt primeiro primeira segundo segunda terceiro terceira quarto quarta
nl nul een één twee drie vier vijf zes zeven acht negen tien elf twaalf
sv noll en ett två tre fyra fem sex sju åtta nio tio elva tolv
da nul en et to tre fire fem seks syv otte ni ti elleve tolv
nb null en ett to tre fire fem seks sju åtte ni ti elleve tolv
fi nolla yksi kaksi kolme neljä viisi kuusi seitsemän kahdeksan yhdeksän kymmenen
pl zero jeden jedna jedno dwa dwie trzy cztery pięć sześć siedem osiem dziewięć dziesięć
cs nula jeden jedna jedno dva dvě tři čtyři pět šest sedm osm devět deset
hu nulla egy kettő két három négy öt hat hét nyolc kilenc tíz
ro zero unu una doi două trei patru cinci șase şase șapte şapte opt nouă zece
ru ноль нуль один одна одно два две три четыре пять шесть семь восемь девять десять
uk нуль один одна одне два дві три чотири п'ять шість сім вісім дев'ять десять
tr sıfır bir iki üç dört beş altı yedi sekiz dokuz on
el μηδέν ένα μία δύο τρία τέσσερα πέντε έξι επτά οκτώ εννέα δέκα
ar صفر واحد واحدة اثنان اثنين ثلاثة أربعة اربعة خمسة ستة سبعة ثمانية تسعة عشرة
he אפס אחד אחת שניים שתיים שלוש ארבע חמש שש שבע שמונה תשע עשר
hi शून्य एक दो तीन चार पाँच पांच छह छः सात आठ नौ दस
id nol satu dua tiga empat lima enam tujuh delapan sembilan sepuluh
vi không một hai ba bốn năm sáu bảy tám chín mười
th ศูนย์ หนึ่ง สอง สาม สี่ ห้า หก เจ็ด แปด เก้า สิบ
ko 영 공 일 이 삼 사 오 육 칠 팔 구 십
ko 하나 둘 셋 넷 다섯 여섯 일곱 여덟 아홉 열
"""
_LANGUAGES = tuple(frozenset(line.split()[1:]) for line in _SPELT.split("\n") if line)
_CHINESE = re.compile(r"第?[零〇一二三四五六七八九十百千两兩壹贰貳叁參肆伍陆陸柒捌玖拾]+[级級等类類档檔次]?")
_ROMAN = re.compile(r"(?=.)X{0,3}(?:IX|IV|V?I{0,3})")
_SIGNS = "★☆⭐✩✪✭✮⯨●○◉◯⬤■□▪▫◼◻♥♡❤♦◇◆👍🌟*$€£¥₹₽₩!#|"
_REPEATED = re.compile(rf"([{re.escape(_SIGNS)}])\1*([☆✩○◯□▫◻♡◇✮]*)")
_UNITS_OF_TIME = (
    r"(?:s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|wks?|weeks?|mo|months?|y|yrs?|years?)"
)
_DAYS = (
    "now|just now|today|yesterday|tomorrow|last (?:week|month|year)|this (?:week|month|year)|heute|gestern|vorgestern|morgen"
    "|aujourd'hui|hier|avant-hier|hoy|ayer|anteayer|oggi|ieri|hoje|ontem|vandaag|gisteren|сегодня|вчера|позавчера|dziś|dzisiaj"
    "|wczoraj|bugün|dün|idag|igår|i går|今天|昨天|前天|刚刚|今日|昨日|一昨日|오늘|어제|방금|اليوم|أمس|आज|कल|hôm nay|hôm qua"
)
_RELATIVE = re.compile(
    rf"(?:about |over |almost |more than |ca\.? |circa )?(?:\d+|an?|one|few|a few|several) ?\+? ?{_UNITS_OF_TIME} (?:ago|old|from now|left)"
    rf"|in (?:\d+|an?) {_UNITS_OF_TIME}|{_DAYS}"
    r"|(?:vor|seit) (?:über |etwa |mehr als )?(?:\d+|eine[mrn]?) \w+|(?:il y a|depuis|dans) (?:environ |plus de )?(?:\d+|une?) \w+"
    r"|(?:hace|desde hace|en|há|fa) (?:más de )?(?:\d+|una?|um|uma) \w+|(?:\d+|un|una|un') ?\w+ fa|(?:\d+|een) \w+ geleden"
    r"|(?:för )?(?:\d+|en|ett|et) \w+ (?:sedan|siden)|(?:\d+)? ?\w+ (?:назад|temu|lalu|önce|trước|sitten)|(?:через|za|за) \d+ \w+"
    r"|\d+ ?(?:秒|秒钟|分|分钟|分鐘|小时|小時|時間|天|日|周|週|週間|个月|個月|か月|ヶ月|年)[以之]?前|\d+ ?(?:초|분|시간|일|주|개월|년) ?전"
    r"|(?:قبل|منذ) .+|लगभग .+ पहले|\d+ \S+ पहले",
    re.IGNORECASE,
)
_WITHIN = re.compile(r"(?:([^\W\d_][^\d]{0,24}) )?\d{1,4} ?([^\W\d_]+)( [^\d]{1,24})?")


def numbers_in_words(distinct: Sequence[str]) -> bool:
    """Whether words name numbers in one language, or are Roman or Chinese numerals."""
    words = {word.casefold().rstrip(".") for word in distinct}
    enough = max(2.0, MIN_SHARE * len(words))
    if any(len(words & language) >= enough for language in _LANGUAGES):
        return True
    if sum(_CHINESE.fullmatch(word) is not None for word in words) >= enough:
        return True
    roman = [word for word in distinct if _ROMAN.fullmatch(word.upper())]
    several = [word for word in roman if len(word) > 1 and "I" in word.upper()]
    one_case = all(word.isupper() for word in roman) or all(word.islower() for word in roman)
    return len(roman) >= enough and one_case and bool(several) and (len(several) > 1 or "I" in roman)


def repeated_signs(distinct: Sequence[str]) -> bool:
    """Whether values differ by how often they repeat one sign, as stars and "$$$" do."""
    found = [_REPEATED.fullmatch(word.replace("\ufe0f", "")) for word in distinct]
    if len(distinct) < 2 or not all(found):
        return False
    counts = {len(each[0]) - len(each[2]) for each in found if each}
    return len(counts) == len(distinct)


def _with_a_time_within(text: str) -> bool:
    """Whether further words stand around a number of days or the like, in any language that units have."""
    found = _WITHIN.fullmatch(text)
    if found is None or not (found[1] or found[3]):
        return False
    known = scales([found[2], "s"])
    return known is not None and known["s"].family == "time"


def relative_times(distinct: Sequence[str]) -> bool:
    """Whether values count from the day on which they were written, as "2 days ago" does."""
    relative = [word for word in distinct if _RELATIVE.fullmatch(word) or _with_a_time_within(word)]
    return len(relative) >= MIN_RELATIVE * len(distinct) and any(
        any(letter.isdigit() for letter in word) for word in relative
    )
