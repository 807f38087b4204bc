"""JSON of a body, decoded by `artifact.json_text`; a text that is not JSON becomes a problem for the client.

Decoders of one form (`hot` in the protocols' modules, `blocks`) may take a body before it comes here, but
only such as `decode` takes with the same values.
"""

from __future__ import annotations

import codecs
from typing import Any

from artifact import json_text
from artifact.json_text import MAX_BRACKETS, MAX_DEPTH, JsonError, TooDeepError, TooManyError
from serving.errors import Problem


def decode(body: bytes, *, literals: bool = False) -> Any:
    """Decode a body as `artifact.json_text.decode` does, keys in NFC.

    Raises
    ------
    Problem
        400: not JSON, not UTF-8, half a surrogate pair, nested too deeply. 413: too many lists and objects.
    """
    if not body.removeprefix(codecs.BOM_UTF8).strip():
        raise Problem(400, "The body is empty; expected JSON.", reason="not_json")
    try:
        return json_text.decode(body, literals=literals)
    except TooManyError:
        raise Problem(
            413, f"The JSON has more than {MAX_BRACKETS} lists and objects.", reason="body_too_large"
        ) from None
    except TooDeepError:
        text = f"The JSON is nested too deeply; at most {MAX_DEPTH} levels of lists and objects are allowed."
        raise Problem(400, text, reason="not_json") from None
    except JsonError as error:
        raise Problem(400, f"The body is not JSON: {error}", reason="not_json") from None


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
