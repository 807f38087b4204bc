"""JSON to Python values: one decoder for the bodies of all routes and the lines of all files.

docs/protocols.md ("JSON") documents it for clients.
"""

from __future__ import annotations

import codecs
import json
import math
import re
import sys
from typing import Any

import msgspec

from artifact.nfc import nfc

MAX_BRACKETS = 1_000_000
"""Lists and objects in one text: an empty list has two bytes there and 88 in memory, 88 MB at this limit."""
MAX_DEPTH = 100
"""Nesting depth of lists and objects. Python's own limit would depend on the caller's stack."""
MAX_DIGITS = sys.int_info.default_max_str_digits
"""Digits of a whole number that becomes an int; a longer one exceeds float64, and parsing it is quadratic."""
LARGE_BYTES = 64 * 1024
"""The size from which a text is checked to be JSON before any number is decoded."""

_PLACE = re.compile(r"\(byte (\d+)\)")  # in msgspec's errors
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_NESTED = frozenset((dict, list))
_look = msgspec.json.Decoder(msgspec.Raw).decode


class JsonError(ValueError):
    """A text is not JSON; the message says why, as in "it is not UTF-8 at byte 7."."""


class TooManyError(JsonError):
    """A text has more lists and objects than are allowed."""


class TooDeepError(JsonError):
    """A text is nested too deeply."""


def decode(text: bytes, *, literals: bool = False, keys_in_nfc: bool = True) -> Any:
    """Decode a text that is not blank as RFC 8259 has JSON: UTF-8, of two equal keys the last one.

    A number beyond float64 becomes an infinity, which every column refuses.

    Parameters
    ----------
    literals
        Whether `NaN`, `Infinity` and `-Infinity`, which JSON does not have, are numbers.
    keys_in_nfc
        Whether keys are brought to NFC; else they stay as they are.

    Raises
    ------
    JsonError
        Not JSON, not UTF-8, half a surrogate pair, nested too deeply, too many lists and objects.
    """
    text = text.removeprefix(codecs.BOM_UTF8)  # which RFC 8259 (8.1) lets a parser pass over
    brackets = text.count(b"[") + text.count(b"{")
    if brackets > MAX_BRACKETS:
        raise TooManyError(f"it has more than {MAX_BRACKETS} lists and objects.")
    try:
        found = _decode(text, literals=literals)
        if brackets > MAX_DEPTH:
            _check_depth(found)
        if keys_in_nfc and (b"\\u" in text or not text.isascii()):
            found = _with_keys_in_nfc(found)
    except RecursionError:
        raise TooDeepError(_TOO_DEEP) from None
    except UnicodeDecodeError:
        raise JsonError(_not_utf8(text)) from None
    except JsonError:
        raise
    except (ValueError, msgspec.DecodeError) as error:
        literal = _literal(text, error)
        raise JsonError(
            f"it has no {literal}; send null for a missing value." if literal else str(error)
        ) from None
    return found


def _with_keys_in_nfc(found: object) -> Any:
    """The same values; objects with keys that are not in NFC are copied with keys in NFC."""
    if type(found) is list:
        if found and type(found[0]) not in _NESTED:  # cells
            return found
        return [_with_keys_in_nfc(inner) if type(inner) in _NESTED else inner for inner in found]
    if type(found) is not dict:
        return found
    return {
        nfc(key): _with_keys_in_nfc(inner) if type(inner) in _NESTED else inner
        for key, inner in found.items()
    }


def _decode(text: bytes, *, literals: bool) -> Any:
    try:
        if len(text) >= LARGE_BYTES:
            _look(text)  # a large text is checked to be JSON before any number is decoded
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        if "out of range" not in str(error) and not (literals and _literal(text, error)):
            raise
    whole = text.decode()
    found = json.loads(whole, parse_int=_whole, parse_constant=float if literals else _no_constant)
    if _SURROGATE.search(whole):
        _check_surrogates(found)
    return found


def _check_surrogates(found: object) -> None:
    """Refuse half a surrogate pair, which `json` accepts as text but no reply can repeat.

    Raises
    ------
    ValueError
    """
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("half a surrogate pair is not a character") from None


def _check_depth(found: object) -> None:
    level = [found] if type(found) in _NESTED else []
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)  # type: ignore[attr-defined]
            if type(inner) in _NESTED
        ]
        if not level:
            return
    raise TooDeepError(_TOO_DEEP)


_TOO_DEEP = f"it is nested too deeply; at most {MAX_DEPTH} levels of lists and objects are allowed."


def _whole(digits: str) -> int | float:
    if len(digits.lstrip("-")) <= MAX_DIGITS:
        return int(digits)
    return -math.inf if digits.startswith("-") else math.inf


def _no_constant(literal: str) -> float:
    raise ValueError(f"JSON has no {literal}")


def _not_utf8(text: bytes) -> str:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return f"it is not UTF-8 at byte {error.start}."
    return "it is not UTF-8."


def _literal(text: bytes, error: Exception) -> str:
    """NaN or Infinity at the place where the text stops being JSON; many programs write them."""
    place = _PLACE.search(str(error))
    found = text[int(place[1]) : int(place[1]) + 8] if place else b""
    return next((literal for literal in ("NaN", "Infinity") if found.startswith(literal.encode())), "")
