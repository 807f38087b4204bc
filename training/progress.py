"""The progress of a training, on stderr."""

from __future__ import annotations

import sys
import time
from typing import Any

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


class Progress:
    """The stage that a run is in: a bar on a terminal, otherwise a line for each stage."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._started = time.monotonic()
        self._tenths = 0

    def stage(self, name: str) -> None:
        """Begin one of `STAGES`."""
        if not self.terminal:
            self.say(f"[{time.monotonic() - self._started:5.1f} s] {name}")
            return
        if self._bar is None:
            from tqdm import tqdm  # only for a terminal

            layout = "{desc:<24} {bar:24} {n_fmt}/{total_fmt} [{elapsed}]"
            self._bar = tqdm(total=len(STAGES), bar_format=layout, leave=False)
        self._bar.n = STAGES.index(name)
        self._bar.set_description_str(name)

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
