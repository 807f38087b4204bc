"""Ids of predictions: `PREFIX-TIME-SECRET`, in hexadecimal digits.

The prefix is that of the process, so the prediction log knows whose files have the row; the time (nanoseconds
since 1970, which never goes back within a process) is where in those files it stands; the secret is 128 bits
of the system's random numbers, so an id is known to nobody but who was answered. Releases before 0.2 had
`PREFIX-NUMBER`, with a counter: their rows in a log are still found.
"""

from __future__ import annotations

import itertools
import os
import re
import struct
import time
from binascii import hexlify
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = os.urandom(6).hex()
FORM = re.compile(r"([0-9a-f]{12})-([0-9a-f]{1,16})(?:-[0-9a-f]{32})?")
PATTERN = f"^{FORM.pattern}$"
SECRETS_AT_ONCE = 256  # 25 us for all of them; one by one, the call of the system alone is 0.5 us each

# An id is made for every reply, so the hot path puts these three together in the formatting of its reply:
# b"%x-%s" % (now() + SINCE_EPOCH, next_secret()), which is 0.2 us where a counter was 0.05 us. For the event
# loop alone: two threads at once would ask the same generator.
now = time.monotonic_ns
SINCE_EPOCH = time.time_ns() - now()
_cut = struct.Struct("32s" * SECRETS_AT_ONCE).unpack
_drawn: list[bytes] = []


def _draws() -> Iterator[list[bytes]]:
    while True:
        _drawn[:] = _cut(hexlify(os.urandom(16 * SECRETS_AT_ONCE)))
        yield _drawn


next_secret = itertools.chain.from_iterable(_draws()).__next__
os.register_at_fork(after_in_child=_drawn.clear)  # or parent and child would give the same secrets


def new_id() -> str:
    """The id of one more prediction."""
    return f"{PREFIX}-{now() + SINCE_EPOCH:x}-{next_secret().decode()}"


def place_of(one: str) -> tuple[str, int]:
    """Prefix of the process that made an id, and its time, which rises from one to the next."""
    prefix, order = one.split("-")[:2]
    return prefix, int(order, 16)


def age_s(one: str) -> float:
    """Seconds since an id was made, by the clocks of two machines; decades for one of the older form."""
    return (time.time_ns() - place_of(one)[1]) / 1e9
