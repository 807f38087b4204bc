"""How a server's processes react to signals; docs/reliability.md has the table.

By default, Circus replaces the workers on SIGHUP, which closes idle connections that clients may be about to
use, and SIGUSR1 and SIGUSR2 end a process at once.
"""

from __future__ import annotations

import os
import signal

IGNORED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def ignore() -> None:
    """Ignore these signals in this process and in those that it starts from now on."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)


def end_by_quit() -> None:
    """Make SIGQUIT, which a terminal sends to all processes of a server, end this one as SIGTERM does."""
    signal.signal(signal.SIGQUIT, lambda _number, _frame: os.kill(os.getpid(), signal.SIGTERM))
