"""The progress of a training, on stderr."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

STAGES = (
    "reading the table",
    "opening MLflow",
    "searching",
    "fitting the best",
    "exporting and checking",
    "drawing pictures",
    "registering in MLflow",
    "the gate",
)


LONG_S, TELL_EVERY_S = 2.0, 10.0
"""A step that prints nothing else shows how long it has taken, first after LONG_S."""


def in_words(seconds: float) -> str:
    """A rounded duration: `8 s`, `40 s`, `2:30 min`, `12 min`."""
    if seconds < 95:
        return f"{max(1, round(seconds)) if seconds < 20 else round(seconds / 5) * 5} s"
    if seconds >= 570:
        return f"{round(seconds / 60)} min"
    tens = round(seconds / 10)
    return f"{tens // 6}:{tens % 6}0 min"


class Progress:
    """The stage that a run is in: a bar on a terminal, otherwise a line for each stage."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._started = time.monotonic()
        self._tenths = 0

    def stage(self, name: str, left_s: float | None = None) -> None:
        """Begin one of `STAGES`; `left_s` is about how long the whole run still takes, if known."""
        left = "" if left_s is None else f", about {in_words(left_s)} left"
        if not self.terminal:
            self.say(f"[{time.monotonic() - self._started:5.1f} s] {name}{left}")
            return
        if self._bar is None:
            from tqdm import tqdm  # only for a terminal

            layout = "{desc:<24} {bar:24} {n_fmt}/{total_fmt} [{elapsed}]"
            self._bar = tqdm(total=len(STAGES), bar_format=layout, leave=False)
        self._bar.n = STAGES.index(name)
        self._bar.set_description_str(f"{name}{left}")

    @contextmanager
    def long(self, what: str, expected_s: float) -> Iterator[None]:
        """Show how long a step has taken and about how long it takes, while it takes longer than LONG_S."""
        done = Event()

        def tell() -> None:
            began = time.monotonic()
            wait = LONG_S
            while not done.wait(wait):
                spent = f"{what}: {in_words(time.monotonic() - began)} of about {in_words(expected_s)}"
                if self._bar is not None:
                    self._bar.set_description_str(spent)
                    self._bar.refresh()
                else:
                    self.say(f"          {spent}")
                wait = 1.0 if self.terminal else max(TELL_EVERY_S, expected_s / 10)

        teller = Thread(target=tell, name="progress", daemon=True)
        teller.start()
        try:
            yield
        finally:
            done.set()
            teller.join()

    def trial(self, done: int, total: int, what: str) -> None:
        """Count a trial; without a bar, print a line for every tenth of all trials."""
        if not self.terminal and done * 10 // total > self._tenths:
            self._tenths = done * 10 // total
            self.say(f"          {done} of {total} trials, {what}")

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self._bar is not None:
            self._bar.clear()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def done(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
