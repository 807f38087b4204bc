"""Pages for a browser: they load nothing from other hosts, and a content security policy enforces that."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

from serving.protocols import Reply

HTML = b"text/html; charset=utf-8"
DOCS = "/docs"

_VARY = (b"vary", b"Accept")
ALIVE = Reply(200, b"application/json", b'{"status":"alive"}', (_VARY,))
"""The reply to a program's `/`, as KServe's clients of `/v1` and the checks of load balancers expect it."""

_INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


def first(path: str) -> Reply:
    """The reply to a browser's `/`: it leads to this path."""
    return Reply(307, b"text/plain; charset=utf-8", b"", ((b"location", path.encode()), _VARY))


def page(text: str) -> Reply:
    """A page that may run its own scripts and call this server, and may load nothing else."""
    allowed: dict[str, list[str]] = {"style": [], "script": []}
    for kind, content in _INLINE.findall(text):
        allowed[kind].append(f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'")
    policy = "; ".join(
        (
            "default-src 'none'",
            *(f"{kind}-src {' '.join(hashes)}" for kind, hashes in allowed.items() if hashes),
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )
    headers = ((b"content-security-policy", policy.encode()), (b"x-content-type-options", b"nosniff"))
    return Reply(200, HTML, text.encode(), headers)
