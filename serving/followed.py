"""A file or URL whose content counts while the server runs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("bentoml.okamochi")


class Followed:
    """A file or URL whose content is used while it is valid.

    The content is compared: a date or an inode may stay the same where the content does not, and it is small.
    A path through a link that is moved, as in a Secret's folder, is followed with each look.

    Parameters
    ----------
    read
        The content; raises `error`.
    use
        Applies a content; raises `error`.
    kept, none
        For the log, while new content cannot be used: what holds after valid content, and what holds before
        any.
    """

    def __init__(
        self,
        what: str,
        read: Callable[[], bytes],
        use: Callable[[bytes], None],
        *,
        error: type[Exception],
        kept: str,
        none: str = "",
    ) -> None:
        self._what = what
        self._read = read
        self._use = use
        self._error = error
        self._kept, self._none = kept, none or kept
        self._content: bytes | None = None
        self.refusal = ""  # the reason why it is not followed

    def look(self) -> None:
        """Apply new content; keep the old one if the new one cannot be used."""
        try:
            content = self._read()
            if content != self._content:
                self._use(content)
                if self._content is not None:
                    logger.info("%s has changed", self._what)
                self._content = content
        except self._error as error:
            if str(error) != self.refusal:
                held = self._none if self._content is None else self._kept
                why = str(error).rstrip(".")
                logger.error("%s. Until then %s.", why, held)  # noqa: TRY400 - the reason needs no traceback
            self.refusal = str(error)
            return
        if self.refusal:
            logger.info("%s is followed again", self._what)
        self.refusal = ""
