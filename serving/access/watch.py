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
"""After a token with an unknown key the URL is asked again, but not more often than this."""


_follow = partial(
    Followed, error=keys.KeysError, kept="the keys from before hold", none="nobody is admitted by it"
)


class KeysWatch:
    """Reads keys and JWKS once, and then again and again.

    Parameters
    ----------
    settings
        One of `keys` and `jwks` is set.
    """

    def __init__(self, settings: Settings) -> None:
        self.check = check = Check(None, workers=settings.workers, digits=settings.probability_digits)
        self._followed: list[Followed] = []
        self._url: Followed | None = None
        self._url_asked = 0.0
        if settings.keys:
            path = Path(settings.keys)
            self._followed.append(
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
                self._url = jwks
            else:
                self._followed.append(jwks)
        self.look()
        self._thread = Supervised("keys", self._run)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._thread.close()

    def _run(self) -> None:
        while not self._thread.ended.wait(EVERY_S):
            self.look()

    def look(self) -> None:
        """Look at all of them once."""
        for each in self._followed:
            each.look()
        if self._url is not None and self._is_due():
            self._url_asked = monotonic()
            self.check.unknown_key = False
            self._url.look()
        every = [*self._followed, *([self._url] if self._url is not None else [])]
        metrics.keys_refused("clients", refused=any(each.refusal for each in every))

    def _is_due(self) -> bool:
        since = monotonic() - self._url_asked if self._url_asked else URL_EVERY_S
        return since >= URL_EVERY_S or (self.check.unknown_key and since >= URL_UNKNOWN_S)
