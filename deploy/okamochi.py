"""`okamochi`: the verbs of `python -m training` and `python -m deploy` in one command."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from artifact import __version__
from deploy import __main__ as deploy
from training import __main__ as training

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb of either package and give its exit code."""
    parser = argparse.ArgumentParser(
        prog="okamochi", description="From a table of data to a model that serves production traffic."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    training.add_commands(commands)
    deploy.add_commands(commands)
    chosen = parser.parse_args(arguments)
    return int(chosen.execute(chosen))


if __name__ == "__main__":
    sys.exit(main())
