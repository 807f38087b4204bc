"""Ids of predictions: which process answered, and which of its answers it was."""

from __future__ import annotations

import itertools
import os
import re

# Unique over workers and restarts, for 0.1 us: random bytes of the process, and a counter. The prediction log
# counts on ids of one process that rise.
PREFIX = os.urandom(6).hex()
next_number = itertools.count(1).__next__
FORM = re.compile(r"[0-9a-f]{12}-[0-9a-f]{1,15}")


def new_id() -> str:
    """The id of one more prediction; the hot path makes the same of the parts above."""
    return f"{PREFIX}-{next_number():x}"
