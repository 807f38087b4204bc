"""One spelling of a text: Unicode's NFC, in which "é" is one character and not "e" and an accent."""

from __future__ import annotations

import unicodedata


def nfc(text: str) -> str:
    """The text in NFC; itself where it is so already, as nearly every text is."""
    if text.isascii() or unicodedata.is_normalized("NFC", text):
        return text
    return unicodedata.normalize("NFC", text)
