"""Why a table is not scored."""


class TableError(Exception):
    """A table cannot be read or written as asked; the message names it (exit code 2)."""

    exit_code = 2


class ScoringError(Exception):
    """Scoring ended before the table did; what is done is kept (exit code 1)."""

    exit_code = 1
