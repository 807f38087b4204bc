"""The options of the commands of `python -m training`, in groups."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from training.registry.records import CANARY, SHADOW

if TYPE_CHECKING:
    from training.settings import Read


def budget_options(parser: argparse.ArgumentParser) -> None:
    """How long a search may take, and with whom it is shared."""
    parser.add_argument("--trials", type=positive, metavar="N", help="candidates to try")
    parser.add_argument("--timeout", type=seconds, metavar="S", help="seconds that the whole run may take")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="K", help="the seed of every random draw (default: 0)"
    )
    parser.add_argument(
        "--storage", metavar="URL", help="an Optuna storage through which several processes share one search"
    )
    parser.add_argument("--study", metavar="STUDY", help="its name in the storage (default: okamochi-NAME)")


def gate_options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """What the gate may let pass; gives the parser."""
    parser.add_argument(
        "--anyway",
        action="store_true",
        help="promote a first model even if it may be no better than guessing",
    )
    return parser


def role_options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options of `role`."""
    parser.add_argument(
        "role", choices=(SHADOW, CANARY), help="shadow: sees its rows; canary: answers some callers"
    )
    parser.add_argument("--version", metavar="N", help="the version (default: the challenger)")
    parser.add_argument(
        "--percent", type=percentage, metavar="P", help="of a canary: the percentage of the callers"
    )
    parser.add_argument("--none", action="store_true", help="no version has the role any more")
    return parser


def percentage(text: str) -> float:
    """Parse the percentage of a canary."""
    from artifact.models_lock import CANARY, role_of

    try:
        return role_of(f"{CANARY}={text}")[1]
    except ValueError:
        expected = "above 0 and at most 100, with six decimals at most"
        raise argparse.ArgumentTypeError(f"{text} is not {expected}") from None


def live_options(parser: argparse.ArgumentParser) -> None:
    """Where live quality is read from, and where it goes."""
    parser.add_argument(
        "--log",
        metavar="FOLDER|URL",
        help="the prediction log (default: OKAMOCHI_PREDICTION_LOG, as the server has it)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for a program to read")
    parser.add_argument(
        "--publish", action="store_true", help="write the verdict to the log, for the servers' metrics"
    )


def forget_options(parser: argparse.ArgumentParser) -> None:
    """The person, and the log."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="only rows of this model (default: of all)")
    parser.add_argument(
        "--column", required=True, metavar="COLUMN", help="the column that identifies the person"
    )
    parser.add_argument(
        "--value",
        required=True,
        action="append",
        metavar="VALUE",
        help="the person's value in it; may be given again; -: read values from standard input, one a line",
    )
    parser.add_argument(
        "--log",
        metavar="FOLDER|URL",
        help="the prediction log (default: OKAMOCHI_PREDICTION_LOG, as the server has it)",
    )
    parser.add_argument("--dry-run", action="store_true", help="count the rows and remove nothing")
    in_models = parser.add_mutually_exclusive_group()
    in_models.add_argument(
        "--models",
        action="store_const",
        const="remove",
        default="ask",
        help="replace versions of models that have rows of the person by ones without these rows",
    )
    in_models.add_argument(
        "--keep-models",
        dest="models",
        action="store_const",
        const="keep",
        help="do not look into models",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for a program to read")


def init_options(parser: argparse.ArgumentParser) -> None:
    """The table or model that a use case is written for."""
    parser.add_argument(
        "data",
        metavar="DATA.csv|MODEL",
        help="a CSV or Parquet file; or a model's file, MLmodel or models:/...",
    )
    parser.add_argument(
        "--target", metavar="COLUMN", help="the column to predict; a table needs it; several as a,b"
    )
    parser.add_argument("--name", default="", help="the name of the use case (default: that of the file)")
    made = parser.add_argument_group("for a model that was made elsewhere")
    made.add_argument(
        "--data",
        dest="table",
        metavar="DATA.csv",
        help="a table that the model has not seen (without one, the model is not measured)",
    )
    made.add_argument("--trust", action="store_true", help="open a pickle, which can run any code")
    made.add_argument(
        "--code", action="append", metavar="FOLDER", help="a folder that its own classes are imported from"
    )
    reading_options(parser)


def preview_options(parser: argparse.ArgumentParser) -> None:
    """The file to show, and how much of it."""
    parser.add_argument("data", metavar="FILE", help="a CSV or Parquet file")
    parser.add_argument("--target", metavar="COLUMN", help="the column to predict")
    parser.add_argument("--rows", type=positive, default=20, metavar="N", help="rows to show (default: 20)")
    parser.add_argument("--json", action="store_true", help="for a program to read")
    reading_options(parser)


def reading_options(parser: argparse.ArgumentParser) -> None:
    """The keys of [read] and [formats] as options."""
    group = parser.add_argument_group("how the file is written, where it is not detected or detected wrongly")
    group.add_argument("--encoding", metavar="NAME", help='such as "gb18030" or "windows-1251"')
    group.add_argument("--delimiter", metavar="C", help='what stands between cells, or "tab"')
    group.add_argument("--quote", metavar="C", help='the character around cells; "" for none')
    group.add_argument(
        "--escape", metavar="C", help='the character before a quote inside of quotes; "" for none'
    )
    group.add_argument("--decimal", choices=(".", ","), help="the decimal mark")
    group.add_argument("--thousands", metavar="C", help='the mark between thousands; "" for none')
    group.add_argument("--skip-lines", type=int, metavar="N", help="lines above the header")
    group.add_argument(
        "--missing", action="append", metavar="WORD", help="words that stand for a missing value"
    )
    group.add_argument(
        "--not-missing",
        action="append",
        metavar="WORD",
        help="a usual word for a missing value that is a value here",
    )
    order = group.add_mutually_exclusive_group()
    order.add_argument("--day-first", action="store_true", default=None, help="01/02/2024 is in February")
    order.add_argument(
        "--month-first", action="store_false", dest="day_first", help="01/02/2024 is in January"
    )
    group.add_argument(
        "--format",
        action="append",
        metavar="COLUMN=FORMAT",
        help="the date format of a column, such as day=%%d.%%m.%%Y",
    )


def read_of(chosen: argparse.Namespace) -> Read:
    """The table [read] that the options say.

    Raises
    ------
    UseCaseError
    """
    from training.settings import read_of_options

    keys = (
        "encoding", "delimiter", "quote", "escape", "decimal", "thousands", "skip_lines", "missing",
        "not_missing", "day_first",
    )  # fmt: skip
    return read_of_options({key: getattr(chosen, key) for key in keys}, formats_of(chosen))


def formats_of(chosen: argparse.Namespace) -> dict[str, str]:
    """The table [formats] that the options say."""
    return dict(pair.rpartition("=")[::2] for pair in chosen.format or ())


def positive(text: str) -> int:
    """A whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {value}")
    return value


def seconds(text: str) -> float:
    """A number above 0."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"expected more than 0 seconds, got {text}")
    return value
