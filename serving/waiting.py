"""How long somebody waits for an answer, for those who work on it in a thread."""

from __future__ import annotations

from time import perf_counter


class NotYetError(Exception):
    """The answer is not there yet: ask again after some time, and hold no thread meanwhile."""

    def __init__(self, after_s: float) -> None:
        super().__init__(f"ask again in {after_s} s")
        self.after_s = after_s


class GivenUpError(Exception):
    """Nobody waits for the answer any more."""


class Until:
    """Until when somebody waits. Whoever works on the answer asks between two steps.

    Parameters
    ----------
    due
        By `time.perf_counter`.
    """

    def __init__(self, due: float) -> None:
        self.due = due

    @property
    def left_s(self) -> float:
        return max(0.0, self.due - perf_counter())

    def give_up(self) -> None:
        """Nobody waits any more: the client has left, or was refused. From any thread."""
        self.due = 0.0

    def check(self) -> None:
        """Stop here if nobody waits.

        Raises
        ------
        GivenUpError
            The time is over, or `give_up` was called.
        """
        if perf_counter() >= self.due:
            raise GivenUpError
