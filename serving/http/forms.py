"""Heads of one client differ in a few values only, so a head is compared with a form instead of parsed again.

Clients, proxies and meshes put something new into each request: `X-Request-Id`, `traceparent`, `x-b3-*`,
`x-datadog-*`, `x-amzn-trace-id`, a date. A form is made of two heads that llhttp has parsed and whose lines
are equal except for values. Matching a third head with the form costs a tenth of parsing it.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

MAX_VALUES = 24
MAX_HEAD_BYTES = 4096  # a longer head is not worth remembering

# The grammar of a line with a variable value: a part of RFC 9110's, all of which llhttp accepts. It has no
# folding, no space around the value, no byte below 32 or above 126.
_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): [!-~](?:[ -~]*[!-~])?")
_VALUE: Callable[[bytes], object] = re.compile(rb"[!-~](?:[ -~]*+(?<! ))?").fullmatch
_LENGTH: Callable[[bytes], object] = re.compile(rb"[0-9]{1,9}").fullmatch
# These control the connection or the body, or are decided by the whole head.
_FIXED = frozenset(
    b"accept accept-encoding connection content-encoding content-type expect keep-alive".split()
    + b"proxy-connection te trailer transfer-encoding upgrade".split()
)


class Form(NamedTuple):
    """The template of heads that differ in values only: fixed parts around the values.

    Parameters
    ----------
    start
        The bytes before the first value.
    fields
        For each value a function that checks it, and the fixed part behind it.
    names
        Names of the values' headers, in lower case.
    lines
        Indices of the lines with the values.
    """

    start: bytes
    fields: tuple[tuple[Callable[[bytes], object], bytes], ...]
    names: tuple[bytes, ...]
    lines: tuple[int, ...]

    def values(self, head: bytes) -> list[bytes] | None:
        """The values of a head that has this form; None for any other head.

        llhttp would accept the head and, apart from these values, parse it like the heads the form came from.
        """
        if not head.startswith(self.start):
            return None
        place = len(self.start)
        found = []
        for is_value, part in self.fields:
            end = head.find(b"\r\n", place)
            value = head[place:end]
            if not head.startswith(part, end) or not is_value(value):
                return None
            found.append(value)
            place = end + len(part)
        return found if place == len(head) else None


def form_of(
    one: bytes, other: bytes, known: Form | None = None, always: Collection[bytes] = ()
) -> Form | None:
    """The form of two heads that llhttp has parsed; None if they differ in more than values.

    Parameters
    ----------
    known
        A form whose values stay values even if these two heads do not differ in them.
    always
        Names of headers that are values even if the two heads do not differ in them. Credentials are: fixed
        parts are compared byte by byte, and the time of that would tell how much of a key was right.
    """
    befores, lines = one.split(b"\r\n"), other.split(b"\r\n")
    if len(befores) != len(lines):
        return None
    places = {
        i for i, line in enumerate(lines) if line.partition(b":")[0].lower() in always or line != befores[i]
    }
    if known is not None:
        places.update(
            i
            for i, name in zip(known.lines, known.names, strict=True)
            if i < len(lines) and lines[i].lower().startswith(name + b": ")
        )
    if not 0 < len(places) <= MAX_VALUES or 0 in places:
        return None
    begins = list(accumulate((len(line) + 2 for line in lines), initial=0))
    parts, checks, names, start = [], [], [], 0
    for i in sorted(places):
        found, before = _LINE.fullmatch(lines[i]), _LINE.fullmatch(befores[i])
        if found is None or before is None or found[1] != before[1]:
            return None
        name = found[1].lower()
        if name in _FIXED:
            return None
        parts.append(other[start : begins[i] + len(name) + 2])
        checks.append(_LENGTH if name == b"content-length" else _VALUE)
        names.append(name)
        start = begins[i] + len(lines[i])
    fields = tuple(zip(checks, [*parts[1:], other[start:]], strict=True))
    return Form(parts[0], fields, tuple(names), tuple(sorted(places)))
