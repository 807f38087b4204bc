"""Follows the file of keys and the JWKS: what changes there counts within a second, in each worker."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from serving.access import keys
from serving.access.check import Check
from serving.followed import Followed
from serving.observe import metrics
from serving.observe.supervised import Supervised

if TYPE_CHECKING:
    from serving.settings import Settings

EVERY_S = 1.0
URL_EVERY_S = 300.0
URL_UNKNOWN_S = 10.0
"""After a token with an unknown key, and while it cannot be read, the URL is asked again after this time."""


_follow = partial(
    Followed, error=keys.KeysError, kept="the keys from before hold", none="nobody is admitted by it"
)


class KeysWatch:
    """Reads keys and JWKS once, and then again and again.

    A URL has a thread of its own, so that a provider that hangs holds up no change of the files.

    Parameters
    ----------
    settings
        One of `keys` and `jwks` is set.
    """

    def __init__(self, settings: Settings) -> None:
        self.check = check = Check(None, workers=settings.workers, digits=settings.probability_digits)
        self._files: list[Followed] = []
        self._url: _Url | None = None
        if settings.keys:
            path = Path(settings.keys)
            self._files.append(
                _follow(
                    settings.keys,
                    lambda: keys.read_bytes(path),
                    lambda content: check.replace(keys.parse(content, path)),
                )
            )
        if settings.jwks:
            from serving.access import tokens

            jwks = _follow(
                settings.jwks,
                lambda: tokens.read(settings.jwks),
                lambda content: check.replace_tokens(tokens.Tokens(content, settings)),
            )
            if tokens.is_url(settings.jwks):
                self._url = _Url(jwks, check)
            else:
                self._files.append(jwks)
        if self._url is not None:
            self._url.look()
        self.look()
        self._thread = Supervised("keys", self._run)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()
        if self._url is not None:
            self._url.thread.start()

    def close(self) -> None:
        """End the threads; one that waits for a provider ends with the process."""
        self._thread.close()
        if self._url is not None:
            self._url.thread.close(0)

    def _run(self) -> None:
        while not self._thread.ended.wait(EVERY_S):
            self.look()

    def look(self) -> None:
        """Look at the files once."""
        for each in self._files:
            each.look()
        every = [*self._files, *([self._url.followed] if self._url is not None else [])]
        metrics.keys_refused("clients", refused=any(each.refusal for each in every))


class _Url:
    """A JWKS at a URL."""

    def __init__(self, followed: Followed, check: Check) -> None:
        self.followed = followed
        self.thread = Supervised("jwks", self._run)
        self._check = check
        self._asked = 0.0

    def _run(self) -> None:
        while not self.thread.ended.wait(EVERY_S):
            if self._is_due():
                self.look()

    def look(self) -> None:
        """Ask the provider once."""
        self._check.unknown_key = False
        self.followed.look()
        self._asked = monotonic()

    def _is_due(self) -> bool:
        soon = self._check.unknown_key or self.followed.refusal
        return monotonic() - self._asked >= (URL_UNKNOWN_S if soon else URL_EVERY_S)
