"""The models of the console's tests: one with many oddly named columns, and one that is never asked."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from artifact import manifest
from artifact.encode import Encoder
from artifact.signature import Column, Signature
from tests.serving import artifacts

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving.artifacts import Made

EVIL = "<img src=x onerror=window.broken=1>"
LONG = "average_monthly_revenue_of_the_customer_over_the_last_twelve_months_before_the_contract_ended"
CHINESE = "客户所在的城市"
CITIES = (*(f"城市{i:03d}" for i in range(199)), EVIL)
PICTURE = b64encode(
    b'<svg xmlns="http://www.w3.org/2000/svg" width="320" height="200" onload="window.broken=1">'
    b'<script>window.broken=1</script><rect width="320" height="200" fill="#2f6f9f"/></svg>'
).decode()
CARD = f"""# Customers

> **To fill in**: `owner`,
> `contact`.

Whether a customer **leaves**, from `{CHINESE}` and others. {EVIL}

| column | kind |
|---|---|
| {EVIL} | number |
| {CHINESE} | category |

- The costs of errors are not considered,
  and nobody was asked.

![Partial dependence on {EVIL}: it rises.][dependence_1]

![From elsewhere][dependence_2]

[dependence_1]: data:image/svg+xml;base64,{PICTURE}
[dependence_2]: https://example.com/picture.png
"""


def customers(directory: Path) -> Made:
    """Forty columns: numbers, 200 categories, a short list, a date, a moment and a text."""
    signature = Signature(
        task="binary",
        target="leaves",
        columns=(
            Column(name="age", kind="number", minimum=18, maximum=90, median=40, integer=True),
            Column(name=LONG, kind="number", minimum=0, maximum=9e5, median=1250.5, unit="euros"),
            Column(name=EVIL, kind="number", minimum=-1, maximum=1, median=0.25),
            Column(name=CHINESE, kind="category", categories=CITIES, mode=CITIES[0]),
            Column(name="plan", kind="category", categories=("basic", EVIL, "高级"), mode="basic"),
            Column(
                name="channel",
                kind="category",
                missing="allow",
                unknown="missing",
                categories=("shop", "web"),
                mode="web",
            ),
            Column(name="since", kind="date", parts=("year", "month"), middle="2020-05-17"),
            Column(name="last_call", kind="date", parts=("month", "hour"), middle="2024-02-03T10:30:00"),
            Column(name="note", kind="text", terms=("late", "paid"), idf=(1.5, 1.25), mode="paid late"),
            *(
                Column(name=f"usage_{i:02d}", kind="number", minimum=0, maximum=10, median=5)
                for i in range(31)
            ),
        ),
        classes=("stays", EVIL),
        positive=EVIL,
    )
    random = np.random.default_rng(3)
    rows: list[list[Any]] = [
        [
            int(random.integers(18, 90)),
            float(random.integers(0, 9_000)),
            float(random.normal()),
            str(random.choice(CITIES)),
            str(random.choice(signature.columns[4].categories)),
            str(random.choice(["shop", "web"])),
            f"20{random.integers(10, 24)}-{random.integers(1, 12):02d}-11",
            f"2024-02-{random.integers(10, 28)}T{random.integers(10, 23)}:30:00",
            str(random.choice(["paid late", "paid", "never"])),
            *(float(value) for value in random.uniform(0, 10, 31).round(2)),
        ]
        for _ in range(240)
    ]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    model.fit(Encoder(signature).rows(rows), [int(row[2] + row[0] / 30 > 2) for row in rows])
    made = artifacts.seal(directory, "customers", model, signature, rows)
    (directory / manifest.CARD).write_text(CARD, "utf-8")
    artifacts.reseal(directory)
    return made


def quiet(directory: Path) -> Made:
    """A model that no test asks."""
    signature = Signature(task="regression", target="y", columns=(Column(name="x", kind="number"),))
    rows = [[float(x)] for x in range(20)]
    model = LinearRegression().fit(Encoder(signature).rows(rows), [row[0] for row in rows])
    return artifacts.seal(directory, "quiet", model, signature, rows)
