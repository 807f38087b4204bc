"""What may stand beside a number: currencies, words for thousands and millions, units that convert into each other."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache


@dataclass(frozen=True)
class Scale:
    """From a number in one unit to the base unit of its family: `value * factor + shift`."""

    family: str
    factor: Fraction
    shift: Fraction = Fraction(0)


def _family(name: str, **units: tuple[str, str]) -> dict[str, list[Scale]]:
    found: dict[str, list[Scale]] = {}
    for spellings, factor in units.values():
        for spelling in spellings.split():
            found.setdefault(spelling, []).append(Scale(name, Fraction(factor)))
    return found


_INCH = "0.0254"
# Of time, in further languages; a month is a twelfth of a year, so that the two convert exactly.
_SECONDS = "secondi secondo seconden sekund sekunda sekundy sekunder saniye δευτερόλεπτα секунд секунды detik giây วินาที ثانية שניות"
_MINUTES = "minuti minuut minuten minut minuty minuter minutter dakika λεπτά минут минуты хвилин menit phút นาที perc minuuttia دقيقة דקות 分間"
_HOURS = (
    "ore uur uren godzina godziny godzin timme timmar timer hodina hodiny hodin saat ώρες години годин jam giờ "
    "ชั่วโมง óra tuntia tunti ساعة ساعات שעות घंटे 小時"
)
_DAYS = (
    "giorno giorni dag dagen dagar dage døgn dzień dni den dny dní gün ημέρες μέρες днів дні hari ngày วัน nap "
    "päivä päivää zi zile يوم أيام ימים दिन 일 日間"
)
_WEEKS = (
    "settimana settimane weken vecka veckor uge uger uke uker tydzień tygodnie tygodni týden týdny týdnů hafta "
    "εβδομάδες неделя недели недель тиждень тижні тижнів minggu tuần สัปดาห์ hét viikko viikkoa săptămâni "
    "أسبوع أسابيع שבועות 周 週 週間 星期 주"
)
_MONTHS = (
    "mese mesi mês maand maanden månad månader måned måneder miesiąc miesiące miesięcy měsíc měsíce měsíců ay "
    "μήνες μήνας месяца місяць місяці місяців bulan tháng เดือน hónap kuukausi kuukautta lună luni شهر أشهر "
    "חודשים महीने 個月 ヶ月 か月 カ月 ヵ月 ケ月 개월"
)
_YEARS = (
    "anno anni ano anos jaar jaren år rok roky roku lata lat let yıl yaş χρόνια έτη ετών рік роки років tahun "
    "năm tuổi ปี év éves vuosi vuotta ani سنة سنوات שנים שנה साल वर्ष 년"
)
_FAMILIES = (
    _family(
        "time",
        us=("us µs μs microsecond microseconds", "0.000001"),
        ms=("ms msec msecs millisecond milliseconds", "0.001"),
        s=(f"s sec secs second seconds sek sekunde sekunden seg segundo segundos seconde secondes сек с 秒 초 {_SECONDS}", "1"),
        min=(f"min mins minute minutes minuten minuto minutos m мин 分 分钟 分鐘 분 {_MINUTES}", "60"),
        h=(f"h hr hrs hour hours std stunde stunden hora horas heure heures ч час часа часов 小时 時間 시간 {_HOURS}", "3600"),
        d=(f"d day days tag tage tagen dia dias día días jour jours д дн день дня дней 天 日 {_DAYS}", "86400"),
        month=(f"mo mon month months monat monate monaten mes meses mois мес месяц месяцев 个月 月 {_MONTHS}", "2629800"),
        year=(f"y yr yrs year years jahr jahre jahren año años ans an année années год лет года 岁 年 歳 세 {_YEARS}", "31557600"),
        w=(f"w wk wks week weeks woche wochen semana semanas semaine semaines {_WEEKS}", "604800"),
    ),
    _family(
        "length",
        nm=("nm", "0.000000001"),
        um=("um µm μm", "0.000001"),
        mm=("mm millimeter millimetre millimeters millimetres мм", "0.001"),
        cm=("cm centimeter centimetre centimeters centimetres zentimeter см 厘米", "0.01"),
        dm=("dm", "0.1"),
        m=("m meter metre meters metres metros mètres м 米", "1"),
        km=("km kms kilometer kilometre kilometers kilometres км 公里 千米", "1000"),
        inch=('in inch inches " ″', _INCH),
        ft=("ft foot feet '", "0.3048"),
        yd=("yd yds yard yards", "0.9144"),
        mi=("mi mile miles", "1609.344"),
        nmi=("nmi", "1852"),
    ),
    _family(
        "mass",
        ug=("ug µg μg mcg", "0.000000001"),
        mg=("mg milligram milligrams мг", "0.000001"),
        g=("g gr gram grams gramm gramo gramos г 克", "0.001"),
        kg=("kg kgs kilo kilos kilogram kilograms kilogramm кг 公斤 千克", "1"),
        t=("t ton tonne tonnes tonnen т 吨", "1000"),
        lb=("lb lbs pound pounds", "0.45359237"),
        oz=("oz ounce ounces", "0.028349523125"),
    ),
    _family(
        "volume",
        ml=("ml milliliter millilitre мл 毫升", "0.001"),
        cl=("cl", "0.01"),
        dl=("dl", "0.1"),
        l=("l lt ltr liter litre liters litres litros л 升", "1"),
        hl=("hl", "100"),
        m3=("m3 m³ cbm", "1000"),
        cm3=("cm3 cm³ ccm cc", "0.001"),
    ),
    _family(
        "area",
        mm2=("mm2 mm²", "0.000001"),
        cm2=("cm2 cm²", "0.0001"),
        m2=("m2 m² qm sqm м2 м² 平方米", "1"),
        are=("ar", "100"),
        ha=("ha hectare hectares hektar га", "10000"),
        km2=("km2 km² qkm", "1000000"),
        sqft=("sqft ft2 ft²", "0.09290304"),
        acre=("acre acres ac", "4046.8564224"),
    ),
    _family(
        "data",
        b=("b byte bytes", "1"),
        kb=("kb kilobyte kilobytes", "1000"),
        mb=("mb megabyte megabytes", "1000000"),
        gb=("gb gigabyte gigabytes", "1000000000"),
        tb=("tb terabyte terabytes", "1000000000000"),
        pb=("pb", "1000000000000000"),
        kib=("kib", "1024"),
        mib=("mib", "1048576"),
        gib=("gib", "1073741824"),
        tib=("tib", "1099511627776"),
    ),
    _family("data rate", b=("bps bit/s", "1"), k=("kbps kbit/s", "1000"), m=("mbps mbit/s", "1000000"),
            g=("gbps gbit/s", "1000000000")),
    _family("frequency", hz=("hz", "1"), khz=("khz", "1000"), mhz=("mhz", "1000000"), ghz=("ghz", "1000000000")),
    _family("power", mw=("mW", "0.001"), w=("w watt", "1"), kw=("kw", "1000"), MW=("MW", "1000000"),
            GW=("gw", "1000000000"), hp=("hp", "745.69987158227022")),
    _family("energy", j=("j", "1"), kj=("kj", "1000"), mj=("mj", "1000000"), wh=("wh", "3600"),
            kwh=("kwh", "3600000"), mwh=("mwh", "3600000000"), cal=("cal", "4.184"), kcal=("kcal", "4184")),
    _family("voltage", uv=("uv µv μv", "0.000001"), mv=("mv", "0.001"), v=("v volt volts", "1"), kv=("kv", "1000")),
    _family("current", ua=("ua µa μa", "0.000001"), ma=("ma", "0.001"), a=("a amp amps", "1")),
    _family("pressure", pa=("pa", "1"), hpa=("hpa mbar", "100"), kpa=("kpa", "1000"), mpa=("mpa", "1000000"),
            bar=("bar", "100000"), atm=("atm", "101325"), psi=("psi", "6894.757293168361")),
    _family("speed", ms=("m/s", "1"), kmh=("km/h kmh kph", "0.27777777777777777777777777778"),
            mph=("mph mi/h", "0.44704"), kn=("kn kt knots", "0.51444444444444444444444444444")),
    _family("part", percent=("% pct percent prozent", "0.01"), permille=("‰", "0.001"), ppm=("ppm", "0.000001")),
    _family("temperature", c=("°c ℃ c degc celsius", "1")),
)  # fmt: skip
_UNITS: dict[str, list[Scale]] = {}
for _each in _FAMILIES:
    for _name, _scales in _each.items():
        _UNITS.setdefault(_name, []).extend(_scales)
_UNITS.setdefault("k", []).append(Scale("temperature", Fraction(1), Fraction("-273.15")))
for _name in ("°f", "℉", "f", "degf", "fahrenheit"):
    _UNITS.setdefault(_name, []).append(Scale("temperature", Fraction(5, 9), Fraction(-160, 9)))
_UNITS["kmh"] = _UNITS["km/h"] = _UNITS["kph"] = [Scale("speed", Fraction(5, 18))]

# Words that multiply, by how they are spelt in small letters with no dot at their end.
_MULTIPLIERS = {
    10**3: "k tsd thousand thousands tausend mil mille tys тыс тысяч 千 천",
    10**4: "万 萬 만",
    10**5: "lakh lakhs lac lacs",
    10**6: "mio mn mln million millions millionen mill millón millones millones млн 百万 백만",
    10**7: "crore crores cr",
    10**8: "亿 億 억",
    10**9: "bn bln billion billions mrd md mia milliard milliards milliarden mld млрд",
    10**12: "tn trn trillion trillions bio billionen трлн 兆",
}
_TIMES = {word: factor for factor, spelt in _MULTIPLIERS.items() for word in spelt.split()}
# Letters that multiply only in company: "m" beside "k" is a million, alone it is a metre.
_LETTERS = {"m": 10**6, "mm": 10**6, "b": 10**9, "t": 10**12, "g": 10**9, "l": 10**5}

_CURRENCY_WORDS = {
    "$": "$ us$ usd dollar dollars u$s", "€": "€ eur euro euros", "£": "£ gbp", "¥": "¥ ￥", "CNY": "cny rmb 元 人民币",
    "JPY": "jpy 円 圓 yen", "KRW": "₩ krw 원 won", "₹": "₹ inr rs rupees", "₽": "₽ rub руб р рублей", "CHF": "chf sfr fr",
    "kr": "kr sek nok dkk", "zł": "zł pln zl", "Kč": "kč czk", "Ft": "ft huf", "₺": "₺ try tl", "R$": "r$ brl", "₴": "₴ uah грн",
    "₪": "₪ ils nis", "A$": "a$ aud au$", "C$": "c$ cad ca$", "HK$": "hk$ hkd", "S$": "s$ sgd", "NT$": "nt$ twd", "NZ$": "nz$ nzd",
    "Rp": "rp idr", "RM": "rm myr", "₱": "₱ php", "฿": "฿ thb บาท", "₫": "₫ vnd đ", "₦": "₦ ngn", "R": "zar", "lei": "lei ron",
    "лв": "лв bgn", "дин": "din rsd", "MX$": "mx$ mxn", "₸": "₸ kzt", "AED": "aed د.إ", "SAR": "sar ر.س", "EGP": "egp",
    "KES": "kes ksh", "GHS": "gh₵ ghs", "COP": "cop", "CLP": "clp", "ARS": "ars", "PEN": "pen s/", "CFA": "cfa fcfa xof xaf",
}  # fmt: skip
_CURRENCIES = {word: name for name, spelt in _CURRENCY_WORDS.items() for word in spelt.split()}


def spelt(unit: str) -> str:
    """A unit without what makes no difference: spaces, and a dot at its end."""
    return unit.replace(" ", "").rstrip(".")


def currency(word: str) -> str | None:
    """The currency that a word or a sign names, or None."""
    plain = spelt(word)
    if not plain:
        return None
    known = _CURRENCIES.get(plain.casefold())
    if known is not None and not (known == "Ft" and plain == "ft"):
        return known
    if len(plain) == 1 and unicodedata.category(plain) == "Sc":
        return plain
    return None


@lru_cache(4096)
def is_currency(word: str) -> bool:
    """Whether a word or a sign names a currency."""
    return currency(word) is not None


def is_unit(word: str) -> bool:
    """Whether a word or a sign beside a number is known: a currency, a multiplier, a unit, or several of them."""
    beside = sorted_out(word)
    return (bool(beside.currency or beside.times) and not beside.unit) or scales([beside.unit]) is not None


@dataclass(frozen=True)
class Beside:
    """What stands beside a number, sorted: at most one of each."""

    currency: str = ""
    times: str = ""  # "k", "Mio", or a letter that may multiply
    unit: str = ""


@lru_cache(4096)
def sorted_out(text: str) -> Beside:
    """Sort "$ k", "Mio. €" or "km" into currency, multiplier and unit."""
    money, times, units = "", "", []
    for part in _parts(text):
        if not money and (found := currency(part)) is not None:
            money = found
        elif not times and spelt(part).casefold() in _TIMES:
            times = spelt(part)
        else:
            units.append(part)
    unit = spelt(" ".join(units))
    return Beside(money, times, unit)


def _parts(text: str) -> list[str]:
    """The words of what stands beside a number; signs of currencies are words of their own."""
    words: list[str] = []
    for word in text.split():
        if currency(word) is not None:
            words.append(word)
            continue
        rest = word
        for i, letter in enumerate(word):
            if unicodedata.category(letter) == "Sc" and (i in {0, len(word) - 1}):
                words.append(letter)
                rest = rest.replace(letter, "", 1)
        cut = next(
            (i for i in (1, 2) if rest[:i] in _TIMES and not rest.isascii() and is_currency(rest[i:])), 0
        )
        words += [part for part in (rest[:cut], rest[cut:]) if part]  # "万円" is "万" and "円"
    return words


def multiplier(word: str) -> int | None:
    """1000 for "k" or "Tsd", or None."""
    return _TIMES.get(spelt(word).casefold())


def letter_multiplier(word: str) -> int | None:
    """A million for "m": letters that are units unless others of their kind stand beside them."""
    return _LETTERS.get(word.casefold()) or multiplier(word)


def scales(units: Iterable[str]) -> dict[str, Scale] | None:
    """Each unit's scale within the one family that has them all, or None."""
    options = {unit: _UNITS.get(unit) or _UNITS.get(unit.casefold(), []) for unit in units}
    families = [{scale.family for scale in found} for found in options.values()]
    common = set.intersection(*families) if families else set()
    if not common:
        return None
    family = min(common)
    return {unit: next(s for s in found if s.family == family) for unit, found in options.items()}


def convert(value: float, of: Scale, to: Scale) -> float:
    """A number in one unit as a number in another of the same family, rounded once."""
    exact = (Fraction(value) * of.factor + of.shift - to.shift) / to.factor
    return float(exact)
