"""Tables as strangers publish them, made here in the manner of well-known ones: every oddity, no real row."""

import csv
import gzip
from pathlib import Path

import numpy as np

ROWS = 300
FEATURES = range(71)


def adult(folder: Path, rows: int = ROWS) -> Path:
    """Spaces after commas, `?` for missing, a weight that means nothing, labels with a dot in some rows."""
    random = np.random.default_rng(1)
    lines = ["age, workclass, fnlwgt, education, education-num, sex, capital-gain, native-country, income"]
    for i in range(rows):
        age = random.integers(17, 90)
        years = random.integers(1, 17)
        work = random.choice(["Private", "Self-emp-not-inc", "State-gov", "?"], p=[0.7, 0.1, 0.14, 0.06])
        country = random.choice(["United-States", "Mexico", "?"], p=[0.9, 0.06, 0.04])
        rich = random.uniform() < 1 / (1 + np.exp(4 - 0.03 * age - 0.15 * years))
        dot = "." if i % 3 == 0 else ""
        lines.append(
            f"{age}, {work}, {random.integers(12_000, 900_000)}, ed-{years}, {years}, "
            f"{random.choice(['Male', 'Female'])}, "
            f"{0 if random.uniform() < 0.9 else random.integers(1, 99_999)}, "
            f"{country}, {'>50K' if rich else '<=50K'}{dot}"
        )
    return _written(folder / "adult.data.csv", "\n".join(lines) + "\n\n")


def bank(folder: Path, rows: int = ROWS) -> Path:
    """`;` and every text in quotes, `unknown` as a level, pdays -1."""
    random = np.random.default_rng(2)
    lines = ['"age";"job";"default";"balance";"housing";"month";"duration";"pdays";"poutcome";"y"']
    for _ in range(rows):
        yes = random.uniform() < 0.12
        jobs = ["admin.", "blue-collar", "technician; other", "unknown"]
        lines.append(
            f'{random.integers(18, 90)};"{random.choice(jobs)}";"no";'
            f'{random.integers(-500, 9000)};"{random.choice(["yes", "no"])}";'
            f'"{random.choice(["may", "jun", "nov"])}";'
            f"{random.integers(5, 1200) + 500 * yes};{random.choice([-1, 90, 180])};"
            f'"{random.choice(["unknown", "failure", "success"])}";"{"yes" if yes else "no"}"'
        )
    return _written(folder / "bank-full.csv", "\r\n".join(lines))


def titanic(folder: Path, rows: int = ROWS) -> Path:
    """Names with commas in quotes, tickets, cabins mostly blank, ages with gaps, a running number."""
    random = np.random.default_rng(3)
    path = folder / "titanic.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "PassengerId",
                "Survived",
                "Pclass",
                "Name",
                "Sex",
                "Age",
                "Ticket",
                "Fare",
                "Cabin",
                "Embarked",
                "boat",
            ]
        )
        for i in range(rows):
            sex = random.choice(["male", "female"], p=[0.65, 0.35])
            survived = int(random.uniform() < (0.75 if sex == "female" else 0.2))
            surname = "".join(random.choice(list("abcdeilmnorst"), 7)).capitalize()
            title = "Mr." if sex == "male" else "Mrs."
            name = f'{surname}, {title} {random.choice(["John", "Anna"])} "Jo" {surname[:3]}'
            ticket = random.choice(["", "PC ", "A/5 "]) + str(random.integers(1_000, 99_999))
            cabin = f"C{random.integers(1, 130)}" if random.uniform() < 0.2 else ""
            age = "" if random.uniform() < 0.2 else f"{random.uniform(1, 80):.1f}"
            port = random.choice(["S", "C", "Q", ""], p=[0.7, 0.18, 0.1, 0.02])
            boat = random.integers(1, 16) if survived else ""
            fare = f"{random.gamma(1, 30):.4f}"
            writer.writerow(
                [i + 1, survived, random.integers(1, 4), name, sex, age, ticket, fare, cabin, port, boat]
            )
    return path


def houses(folder: Path, rows: int = ROWS) -> Path:
    """Eighty columns, `NA` as a level of its own, an Id, a constant, prices as the target."""
    random = np.random.default_rng(4)
    header = ["Id", "MSSubClass", "Alley", "Utilities", "YearBuilt", "LotFrontage", "GrLivArea", "MasVnrType"]
    header += [f"Feature{i}" for i in FEATURES] + ["SalePrice"]
    lines = [",".join(header)]
    for i in range(rows):
        area = random.integers(500, 4000)
        cells = [
            i + 1, random.choice([20, 60, 120]), random.choice(["NA", "Pave", "Grvl"], p=[0.9, 0.05, 0.05]),
            "AllPub",
            random.integers(1880, 2010), "NA" if random.uniform() < 0.18 else random.integers(20, 150), area,
            random.choice(["None", "BrkFace", "Stone"]),
            *(random.choice(["Ex", "Gd", "TA", "NA"]) if j % 2 else j + random.integers(9) for j in FEATURES),
            int(area * 110 + random.normal(0, 9000)),
        ]  # fmt: skip
        lines.append(",".join(map(str, cells)))
    return _written(folder / "house prices.csv", "\n".join(lines))


def churn(folder: Path, rows: int = ROWS) -> Path:
    """A customer number of letters, TotalCharges blank in new customers, yes and no."""
    random = np.random.default_rng(5)
    lines = ["customerID,gender,SeniorCitizen,Partner,tenure,Contract,MonthlyCharges,TotalCharges,Churn"]
    for i in range(rows):
        tenure = 0 if i % 50 == 0 else random.integers(1, 72)
        monthly = random.uniform(18, 120)
        letters = "".join(random.choice(list("ABCDEFGHJKLMNPQRSTUVWXYZ"), 5))
        lines.append(
            f"{i:04d}-{letters},{random.choice(['Male', 'Female'])},"
            f"{random.integers(0, 2)},{random.choice(['Yes', 'No'])},{tenure},"
            f"{random.choice(['Month-to-month', 'One year', 'Two year'])},{monthly:.2f},"
            f"{f'{monthly * tenure:.2f}' if tenure else ' '},"
            f"{'Yes' if random.uniform() < 0.5 - tenure / 150 else 'No'}"
        )
    return _written(folder / "WA_Fn-UseC_-Telco-Customer-Churn.csv", "\n".join(lines))


def wine_quality(folder: Path, rows: int = ROWS) -> Path:
    """`;`, quoted header, whole marks as the target."""
    random = np.random.default_rng(6)
    lines = ['"fixed acidity";"volatile acidity";"residual sugar";"alcohol";"quality"']
    for _ in range(rows):
        alcohol = random.uniform(8, 14)
        quality = int(np.clip(round(5.4 + (alcohol - 11) * 0.5 + random.normal(0, 0.4)), 4, 7))
        lines.append(
            f"{random.uniform(4, 15):.1f};{random.uniform(0.1, 1.5):.2f};{random.uniform(1, 15):.1f};"
            f"{alcohol:.1f};{quality}"
        )
    return _written(folder / "winequality-red.csv", "\n".join(lines))


def german(folder: Path, rows: int = ROWS) -> Path:
    """Single quotes around levels, with spaces and signs in them, a byte order mark and tabs."""
    random = np.random.default_rng(7)
    lines = ["checking_status\tduration\tpurpose\tcredit_amount\tforeign_worker\tclass"]
    for _ in range(rows):
        status = random.choice(["'<0'", "'0<=X<200'", "'no checking'"])
        purpose = random.choice(["radio/tv", "'new car'", "education"])
        label = random.choice(["good", "bad"], p=[0.7, 0.3])
        lines.append(
            f"{status}\t{random.integers(4, 72)}\t{purpose}\t{random.integers(250, 18_000):,}\tyes\t{label}"
        )
    return _written(folder / "german.tsv", "\ufeff" + "\n".join(lines))


def bikes(folder: Path, rows: int = ROWS) -> Path:
    """Dates day first, an `instant` that counts rows, parts that add up to the target, gzipped."""
    random = np.random.default_rng(8)
    lines = ["instant,dteday,season,temp,hum,casual,registered,cnt"]
    day = np.datetime64("2011-01-01")
    for i in range(rows):
        year, month, date = str(day + i).split("-")
        casual, registered = random.integers(5, 900), random.integers(50, 4000)
        lines.append(
            f"{i + 1},{date}-{month}-{year},{1 + i // 90 % 4},{random.uniform():.3f},{random.uniform():.3f},"
            f"{casual},{registered},{casual + registered}"
        )
    path = folder / "day.csv.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def european(folder: Path, rows: int = ROWS) -> Path:
    """`;`, decimal commas, dots for thousands, percentages, money, Latin-1, a name twice, one missing."""
    random = np.random.default_rng(9)
    lines = [";Größe;Preis;Anteil;Datum;Preis;Stadt;Ergebnis"]
    for i in range(rows):
        size = random.uniform(20, 200)
        price = f"{random.uniform(1000, 9000):,.2f}".translate(str.maketrans(",.", ".,"))
        share = f"{random.uniform(0, 100):.1f}".replace(".", ",")
        euros = random.integers(1, 900)
        day = f"{random.integers(1, 29):02d}.{random.integers(1, 13):02d}.{random.integers(2015, 2022)}"
        lines.append(
            f"{i};{f'{size:.1f}'.replace('.', ',')};{price};{share} %;{day};{euros} €;"
            f"{random.choice(['Köln', 'München', '-'])};"
            f"{'ja' if size > 110 + random.normal(0, 20) else 'nein'}"
        )
    path = folder / "wohnungen.csv"
    path.write_bytes("\r\n".join(lines).encode("cp1252"))
    return path


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path
