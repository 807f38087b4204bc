"""JSON of a body to Python values: one decoder for all routes, so that no two disagree about a body.

docs/protocols.md ("JSON") documents it for clients. Decoders of one form (`hot` in the protocols'
modules, `blocks`) may take a body before it comes here, but only such as `decode` takes with the same values.
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
from serving.errors import Problem
from serving.protocols import LARGE_BODY_BYTES

MAX_BRACKETS = 1_000_000
"""Lists and objects in one body: an empty list has two bytes there and 88 in memory, 88 MB at this limit."""
MAX_DEPTH = 100
"""Nesting depth of lists and objects. Python's own limit would depend on the caller's stack."""
MAX_DIGITS = sys.int_info.default_max_str_digits
"""Digits of a whole number that becomes an int; a longer one exceeds float64, and parsing it is quadratic."""

_PLACE = re.compile(r"\(byte (\d+)\)")  # in msgspec's errors
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_NESTED = frozenset((dict, list))
_look = msgspec.json.Decoder(msgspec.Raw).decode


def decode(body: bytes, *, literals: bool = False) -> Any:
    """Decode a body as RFC 8259 has JSON: UTF-8, of two equal keys the last one; keys are in NFC.

    A number beyond float64 becomes an infinity, which every column refuses.

    Parameters
    ----------
    literals
        Whether `NaN`, `Infinity` and `-Infinity`, which JSON does not have, are numbers.

    Raises
    ------
    Problem
        400: not JSON, not UTF-8, half a surrogate pair, nested too deeply. 413: too many lists and objects.
    """
    body = body.removeprefix(codecs.BOM_UTF8)  # which RFC 8259 (8.1) lets a parser pass over
    if not body.strip():
        raise Problem(400, "The body is empty; expected JSON.", reason="not_json")
    brackets = body.count(b"[") + body.count(b"{")
    if brackets > MAX_BRACKETS:
        raise Problem(
            413, f"The JSON has more than {MAX_BRACKETS} lists and objects.", reason="body_too_large"
        )
    try:
        found = _decode(body, literals=literals)
        if brackets > MAX_DEPTH:
            _check_depth(found)
        if b"\\u" in body or not body.isascii():
            found = _with_keys_in_nfc(found)
    except RecursionError:
        raise Problem(400, _TOO_DEEP, reason="not_json") from None
    except UnicodeDecodeError:
        raise Problem(400, f"The body is not JSON: {_not_utf8(body)}", reason="not_json") from None
    except (ValueError, msgspec.DecodeError) as error:
        literal = _literal(body, error)
        reason = f"it has no {literal}; send null for a missing value." if literal else str(error)
        raise Problem(400, f"The body is not JSON: {reason}", reason="not_json") from None
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


def same_as_decoded(body: bytes, brackets: int) -> bool:
    """Whether `decode` would take a body in which msgspec has skipped the values of unknown keys.

    The values that msgspec skips may have any depth, need not be UTF-8, and may belong to a key not in NFC.

    Parameters
    ----------
    brackets
        How many lists and objects the known keys have.
    """
    if not body.isascii() or b"\\u" in body:
        return False
    return body.count(b"[") + body.count(b"{") == brackets


def _decode(body: bytes, *, literals: bool) -> Any:
    try:
        if len(body) >= LARGE_BODY_BYTES:
            _look(body)  # a large body is checked to be JSON before any number is decoded
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        if "out of range" not in str(error) and not (literals and _literal(body, error)):
            raise
    text = body.decode()
    found = json.loads(text, parse_int=_whole, parse_constant=float if literals else _no_constant)
    if _SURROGATE.search(text):
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
    raise Problem(400, _TOO_DEEP, reason="not_json")


_TOO_DEEP = f"The JSON is nested too deeply; at most {MAX_DEPTH} levels of lists and objects are allowed."


def _whole(digits: str) -> int | float:
    if len(digits.lstrip("-")) <= MAX_DIGITS:
        return int(digits)
    return -math.inf if digits.startswith("-") else math.inf


def _no_constant(literal: str) -> float:
    raise ValueError(f"JSON has no {literal}")


def _not_utf8(body: bytes) -> str:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return f"it is not UTF-8 at byte {error.start}."
    return "it is not UTF-8."


def _literal(body: bytes, error: Exception) -> str:
    """NaN or Infinity at the place where the body stops being JSON; many programs write them."""
    place = _PLACE.search(str(error))
    found = body[int(place[1]) : int(place[1]) + 8] if place else b""
    return next((literal for literal in ("NaN", "Infinity") if found.startswith(literal.encode())), "")
