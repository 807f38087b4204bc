"""Ids of predictions: `PREFIX-TIME-SECRET`, in hexadecimal digits.

The prefix identifies the process, and so the files of the prediction log that have the row. The time
(nanoseconds since 1970, which never goes back within a process) tells where in those files it is. The secret
is 128 random bits, so only the caller who got the reply knows the id. Releases before 0.2 had `PREFIX-NUMBER`
with a counter; their rows in a log are still found.
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
SECRETS_AT_ONCE = 256  # 25 us for all; one by one, the system call alone takes 0.5 us each

# Every reply has an id, so the hot path formats these three together with its reply:
# b"%x-%s" % (now() + SINCE_EPOCH, next_secret()), which takes 0.2 us; a counter took 0.05 us. Only the event
# loop may call it: two threads at once would use the same generator.
now = time.monotonic_ns
SINCE_EPOCH = time.time_ns() - now()
_cut = struct.Struct("32s" * SECRETS_AT_ONCE).unpack
_drawn: list[bytes] = []


def _draws() -> Iterator[list[bytes]]:
    while True:
        _drawn[:] = _cut(hexlify(os.urandom(16 * SECRETS_AT_ONCE)))
        yield _drawn


next_secret = itertools.chain.from_iterable(_draws()).__next__
os.register_at_fork(after_in_child=_drawn.clear)  # otherwise parent and child would make the same secrets


def new_id() -> str:
    """A new id."""
    return f"{PREFIX}-{now() + SINCE_EPOCH:x}-{next_secret().decode()}"


def place_of(one: str) -> tuple[str, int]:
    """The prefix of the process that made an id, and its time, which increases from one id to the next."""
    prefix, order = one.split("-")[:2]
    return prefix, int(order, 16)


def age_s(one: str) -> float:
    """Seconds since an id was made, by the clocks of two machines; decades for an id of the older form."""
    return (time.time_ns() - place_of(one)[1]) / 1e9
