"""Follows the file of keys: what is added, changed or revoked counts within a second, in each worker."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from serving.access import keys
from serving.access.check import Check
from serving.observe import metrics
from serving.observe.supervised import Supervised

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger("bentoml.okamochi")

EVERY_S = 1.0


class KeysWatch:
    """Reads the file once, and then again and again.

    It compares the content: a date or an inode may stay the same where the content does not, and the file is
    small. A path through a link that is moved, as in a Secret's folder, is followed with each look.

    Parameters
    ----------
    path
        Of the file.
    workers
        See `Check`.
    """

    def __init__(self, path: Path, *, workers: int) -> None:
        self._path = path
        self._content: bytes | None = None
        self._said = ""  # the reason why the file is not followed
        self.check = Check(None, workers=workers)
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
        """Let the keys of the file hold if it has changed; keep those that hold if it cannot be used."""
        try:
            content = keys.read_bytes(self._path)
            if content != self._content:
                found = keys.parse(content, self._path)
                self.check.replace(found)
                if self._content is not None:
                    logger.info("%s has changed: %d keys", self._path, len(found))
                self._content = content
        except keys.KeysError as error:
            self._refuse(str(error))
        else:
            if self._said:
                logger.info("%s is followed again", self._path)
            self._said = ""
            metrics.KEYS_REFUSED.set(0)

    def _refuse(self, reason: str) -> None:
        metrics.KEYS_REFUSED.set(1)
        if reason != self._said:
            kept = "the keys from before hold" if self._content is not None else "nobody is admitted"
            logger.error("%s Until then %s.", reason, kept)
        self._said = reason
