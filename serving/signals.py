"""What signals do to a server's processes; docs/reliability.md has the table.

Circus would have SIGHUP replace the workers, which closes their idle connections under the clients, and
SIGUSR1 and SIGUSR2 would end a process at once.
"""

from __future__ import annotations

import os
import signal

IGNORED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def ignore() -> None:
    """Ignore these in this process and in those that it starts from here on."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)


def end_by_quit() -> None:
    """Have SIGQUIT, which a terminal sends to all of a server's processes, end this one as SIGTERM does."""
    signal.signal(signal.SIGQUIT, lambda _number, _frame: os.kill(os.getpid(), signal.SIGTERM))
