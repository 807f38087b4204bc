"""Generated tables, the same on every machine; for uses of which no real set can ship."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.random import Generator

SEED = 20240229


def generate(name: str) -> pd.DataFrame:
    """Rows of the generated set `name`, with its target column."""
    return _MAKERS[name](np.random.Generator(np.random.PCG64(SEED)))


def _linear(random: Generator) -> pd.DataFrame:
    """Y = 2x exactly: the smallest use case there is."""
    x = np.round(random.uniform(-100, 100, 200), 2)
    return pd.DataFrame({"x": x, "y": 2 * x})


def _credit(random: Generator) -> pd.DataFrame:
    """Loan applications; about one in five defaults. `age_group` has no influence of its own."""
    n = 4_000
    age_group = random.choice(["18-25", "26-40", "41-60", "over 60"], n, p=[0.15, 0.4, 0.33, 0.12])
    employment = random.choice(
        ["employed", "self-employed", "civil servant", "unemployed", "retired"],
        n,
        p=[0.6, 0.14, 0.1, 0.08, 0.08],
    )
    income = np.round(random.lognormal(10.4, 0.5, n) * np.where(employment == "unemployed", 0.45, 1.0), -1)
    purpose = random.choice(
        ["car", "home", "education", "business", "other"], n, p=[0.34, 0.22, 0.14, 0.1, 0.2]
    )
    amount = np.round(np.minimum(random.lognormal(9.2, 0.8, n), 120_000), -2)
    months = random.choice([12, 24, 36, 48, 60, 72], n)
    late = random.poisson(0.5, n)
    history = np.round(random.gamma(2.2, 4.0, n), 1)
    housing = random.choice(["rent", "own", "mortgage"], n, p=[0.45, 0.2, 0.35])
    burden = amount / months * 12 / income
    risk = (
        -2.3
        + 2.6 * np.minimum(burden, 1.5)
        + 0.75 * late
        - 0.05 * history
        + 1.1 * (employment == "unemployed")
        + 0.45 * (employment == "self-employed")
        + 0.6 * (purpose == "business")
        - 0.5 * (housing == "own")
        + random.normal(0, 0.35, n)
    )
    default = random.uniform(size=n) < 1 / (1 + np.exp(-risk))
    frame = pd.DataFrame(
        {
            "age_group": age_group,
            "employment": employment,
            "income": income,
            "housing": housing,
            "purpose": purpose,
            "amount": amount,
            "months": months,
            "late_payments": late,
            "years_of_history": history,
            "default": np.where(default, "yes", "no"),
        }
    )
    frame.loc[random.uniform(size=n) < 0.06, "income"] = np.nan
    frame.loc[random.uniform(size=n) < 0.03, "employment"] = None
    return frame


def _fraud(random: Generator) -> pd.DataFrame:
    """Card payments, about 2 % of them fraud: foreign, at night, online, far above the usual amount."""
    n = 12_000
    category = random.choice(
        ["groceries", "fuel", "restaurant", "electronics", "travel", "gift cards", "clothing"],
        n,
        p=[0.34, 0.14, 0.2, 0.1, 0.08, 0.03, 0.11],
    )
    channel = random.choice(["chip", "contactless", "online", "magstripe"], n, p=[0.3, 0.38, 0.28, 0.04])
    country = random.choice(
        ["JP", "US", "DE", "FR", "BR", "NG", "VN"], n, p=[0.86, 0.04, 0.03, 0.03, 0.02, 0.01, 0.01]
    )
    day_hours = np.clip(random.normal(14, 4.5, n), 0, 23.99)
    hours = np.where(random.uniform(size=n) < 0.06, random.uniform(0, 5, n), day_hours)
    minutes = (random.integers(0, 365, n) * 1440 + hours * 60).astype("int64")
    when = np.datetime64("2023-01-01T00:00") + minutes.astype("timedelta64[m]")
    usual = random.lognormal(3.4, 0.5, n)
    amount = np.round(usual * random.lognormal(0, 0.7, n), 2)
    days_since = np.round(random.exponential(3.0, n), 2)
    ratio = np.log(amount / usual)
    risk = (
        -7.3
        + 2.1 * (country != "JP")
        + 1.9 * (hours < 5)
        + 1.5 * (channel == "online")
        + 1.9 * (channel == "magstripe")
        + 1.6 * np.maximum(ratio, -0.5)
        + 1.3 * np.isin(category, ["gift cards", "electronics"])
        - 0.1 * np.minimum(days_since, 10)
    )
    fraud = random.uniform(size=n) < 1 / (1 + np.exp(-1.35 * risk - 2.7))
    frame = pd.DataFrame(
        {
            "time": np.datetime_as_string(when, unit="m"),
            "amount": amount,
            "usual_amount": np.round(usual, 2),
            "merchant_category": category,
            "channel": channel,
            "country": country,
            "days_since_last": days_since,
            "fraud": fraud,
        }
    )
    frame.loc[random.uniform(size=n) < 0.05, "merchant_category"] = None
    frame.loc[random.uniform(size=n) < 0.08, "days_since_last"] = np.nan
    return frame.sort_values("time", kind="stable", ignore_index=True)


_PRAISE = [
    "loved every minute of it",
    "works exactly as promised",
    "a joy to use",
    "worth every coin",
    "better than I hoped",
    "fast delivery and friendly people",
    "my family adores it",
    "beautifully made",
    "would gladly buy it again",
    "solid and comfortable",
    "sharp picture and clear sound",
    "the taste was wonderful",
]
_BLAME = [
    "broke after a week",
    "a waste of money",
    "nobody answered my complaint",
    "arrived late and damaged",
    "far too loud",
    "the worst I have owned",
    "sent it back the same day",
    "cheap plastic that smells",
    "nothing like the photo",
    "stopped charging",
    "bland and overpriced",
    "the manual makes no sense",
]
_PLAIN = [
    "I bought it in spring",
    "it came in a brown box",
    "my brother has the same one",
    "we use it on weekends",
    "the colour is blue",
    "it is about the size of a book",
    "I read other reviews first",
    "it was on offer",
    "this is my second one",
    "ordered it for the office",
]
_MIXED = [
    "not as good as the old one, but fine",
    "better than nothing",
    "I expected worse",
    "I expected more",
    "it is what it is",
    "not bad at all",
    "not good at all",
]
_THINGS = [
    "kettle",
    "headphones",
    "backpack",
    "lamp",
    "keyboard",
    "blender",
    "tent",
    "coffee",
    "jacket",
    "game",
    "novel",
    "chair",
]


def _sentiment(random: Generator) -> pd.DataFrame:
    """Short product reviews put together from phrases; one label in twenty is wrong, as labels are."""
    reviews, labels = [], []
    for _ in range(3_000):
        happy = random.uniform() < 0.55
        own, other = (_PRAISE, _BLAME) if happy else (_BLAME, _PRAISE)
        phrases = list(random.choice(own, random.integers(1, 3), replace=False))
        phrases += list(random.choice(_PLAIN, random.integers(0, 3), replace=False))
        phrases += [str(random.choice(other))] if random.uniform() < 0.22 else []
        phrases += [str(random.choice(_MIXED))] if random.uniform() < 0.25 else []
        random.shuffle(phrases)
        text = f"The {random.choice(_THINGS)}: " + ". ".join(
            _misspelt(str(phrase), random) for phrase in phrases
        )
        reviews.append(text + random.choice([".", "!", "...", ""]))
        labels.append("positive" if happy != (random.uniform() < 0.05) else "negative")
    return pd.DataFrame({"review": reviews, "sentiment": labels})


def _misspelt(phrase: str, random: Generator) -> str:
    """The phrase, in one of eight cases with two neighbouring letters swapped."""
    if random.uniform() > 0.12:
        return phrase
    at = int(random.integers(0, len(phrase) - 1))
    return phrase[:at] + phrase[at + 1] + phrase[at] + phrase[at + 2 :]


def _recommend(random: Generator) -> pd.DataFrame:
    """Ratings of 1 to 5 (in halves) that 150 users gave to 80 films, by hidden taste."""
    users, items, n = 150, 80, 8_000
    genres = np.array(["drama", "comedy", "thriller", "documentary", "animation"])
    genre = random.integers(0, len(genres), items)
    year = random.integers(1970, 2024, items)
    minutes = np.round(random.normal(108, 18, items)).astype(int)
    quality = random.normal(0, 0.55, items)
    generosity = random.normal(0, 0.5, users)
    taste = random.normal(0, 0.7, (users, len(genres)))
    region = random.choice(["north", "south", "east", "west"], users)
    user = random.integers(0, users, n)
    item = np.minimum(random.exponential(22, n).astype(int), items - 1)
    score = 3.3 + generosity[user] + quality[item] + taste[user, genre[item]] + random.normal(0, 0.45, n)
    return pd.DataFrame(
        {
            "user": [f"u{number:03d}" for number in user],
            "film": [f"f{number:02d}" for number in item],
            "genre": genres[genre[item]],
            "year": year[item],
            "minutes": minutes[item],
            "region": region[user],
            "rating": np.clip(np.round(score * 2) / 2, 1, 5),
        }
    ).drop_duplicates(["user", "film"], ignore_index=True)


_MAKERS: dict[str, Callable[[Generator], pd.DataFrame]] = {
    "linear": _linear,
    "credit": _credit,
    "fraud": _fraud,
    "sentiment": _sentiment,
    "recommend": _recommend,
}
