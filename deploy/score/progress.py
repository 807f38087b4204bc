"""How far a table is, with the rate and the time left: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.score.files import Source

LINE_EVERY_S = 10.0


class Progress:
    """The progress of one table, in rows where the table says how many it has, else in bytes of the file.

    The rate is that of this run, without what an earlier one had done.
    """

    def __init__(self, name: str, *, shown: bool = True) -> None:
        self._shown = shown
        self._name = name
        self._began = self._told = time.monotonic()
        self._rows = self._done = self._before = 0
        self._bar: Any = None

    def add(self, source: Source, rows: int, *, done_before: bool) -> None:
        """Count rows, of this run or of an earlier one."""
        if not self._shown:
            return
        self._rows += rows
        counted = source.total is not None
        self._done = self._rows if counted else min(source.bytes_read(), source.size)
        if done_before:
            self._before, self._began = self._done, time.monotonic()
        total = source.total if source.total is not None else source.size
        if sys.stderr.isatty():
            self._draw(total, "rows" if counted else "B")
        elif time.monotonic() - self._told >= LINE_EVERY_S:
            self._told = time.monotonic()
            seconds = self._told - self._began
            unit = "rows" if counted else "bytes"
            line = told(self._name, self._done, total, (self._done - self._before) / seconds, unit)
            print(line, file=sys.stderr, flush=True)

    def _draw(self, total: int, unit: str) -> None:
        if self._bar is None:
            from tqdm import tqdm  # only for a terminal

            self._bar = tqdm(total=total, unit=f" {unit}", unit_scale=True, desc=self._name)
        bar = self._bar
        bar.n, bar.initial = self._done, self._before
        bar.start_t = bar._time() - (time.monotonic() - self._began)  # noqa: SLF001 - tqdm has no other way
        bar.refresh()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def told(name: str, done: int, total: int, rate: float, unit: str) -> str:
    """A line of progress; `rate` in units a second."""
    left = f", {(total - done) / rate:,.0f} s left" if rate > 0 else ""
    return f"{name}: {done:,} of {total:,} {unit} ({done / max(total, 1):.0%}), {rate:,.0f} a second{left}"
