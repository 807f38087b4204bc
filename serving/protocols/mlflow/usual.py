"""The usual bodies of `/invocations` in one pass of C: whole rows of numbers and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from serving.protocols.blocks import Blocks, Number, StandIn, rows_of
from serving.protocols.json_body import same_as_decoded
from serving.protocols.mlflow.frames import MAX_IGNORED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from artifact.signature import Signature

MAX_COLUMNS = 512  # msgspec looks for a key that is out of order in every field of a record

Rows = list[list[float]]
Read = Callable[[bytes], Rows | None]
ReadMatrix = Callable[[bytes], "NDArray[np.floating[Any]] | None"]

_astuple = msgspec.structs.astuple


def readers(signature: Signature) -> dict[bytes, Read]:
    """Readers of the forms, by the first key of the body, for a model of numbers.

    Each decodes a body that has that form and nothing else, with whole rows of numbers; for any other body
    it returns None.
    """
    if not signature.numeric or len(signature.columns) > MAX_COLUMNS:
        return {}
    width = len(signature.columns)
    by_row = rows_of(width)
    names = [f"c{i}" for i in range(width)]
    rename = dict(zip(names, signature.names, strict=True))
    try:
        record, extended = (
            msgspec.defstruct(
                "Record",
                [(name, Number) for name in names],
                rename=rename,
                gc=False,
                forbid_unknown_fields=strict,
            )
            for strict in (True, False)
        )
        column = Annotated[list[Number], Meta(min_length=1)]
        columns, more_columns = (
            msgspec.defstruct(
                "Columns", [(name, column) for name in names], rename=rename, forbid_unknown_fields=strict
            )
            for strict in (True, False)
        )
    except ValueError:  # a name that JSON has to escape
        return {
            b"dataframe_split": _split_reader(by_row, signature),
            b"instances": _reader("instances", by_row),
            b"inputs": _reader("inputs", by_row),
        }

    def records(form: str) -> Read:
        strict, extending = (Annotated[list[kind], Meta(min_length=1)] for kind in (record, extended))  # type: ignore[valid-type]
        return _first_of(
            _reader(form, strict, _record_lines), _reader(form, extending, _checked_record_lines)
        )

    def by_column(form: str) -> Read:
        return _first_of(
            _reader(form, columns, _column_lines), _reader(form, more_columns, _checked_column_lines)
        )

    def either(form: str) -> Read:
        return _by_brackets(form, _reader(form, by_row), records(form), by_column(form))

    return {
        b"dataframe_split": _split_reader(by_row, signature),
        b"dataframe_records": records("dataframe_records"),
        b"instances": either("instances"),
        b"inputs": either("inputs"),
    }


def _first_of(usual: Read, extended: Read) -> Read:
    """For records with extra keys, which MLflow ignores: the values that are skipped must be checked.

    If every column is present, no other key can be a misspelt column.
    """

    def read(body: bytes) -> Rows | None:
        rows = usual(body)
        return extended(body) if rows is None else rows

    return read


def _record_lines(records: Any, _body: bytes) -> Rows | None:
    return [_astuple(record) for record in records]  # type: ignore[misc]


def _checked_record_lines(records: Any, body: bytes) -> Rows | None:
    return _record_lines(records, body) if same_as_decoded(body, len(records) + 2) else None


def _column_lines(columns: Any, _body: bytes) -> Rows | None:
    return list(zip(*_astuple(columns), strict=True))  # type: ignore[arg-type]


def _checked_column_lines(columns: Any, body: bytes) -> Rows | None:
    if not same_as_decoded(body, len(columns.__struct_fields__) + 2) or _many_keys(body):
        return None
    return _column_lines(columns, body)


def _many_keys(body: bytes) -> bool:
    """Whether there may be more columns than a frame may have; each takes five bytes or more."""
    return len(body) > 5 * MAX_IGNORED and body.count(b":") > MAX_IGNORED


def _reader(form: str, value: Any, lines: Callable[[Any, bytes], Rows | None] | None = None) -> Read:
    decode_hot = _decoder(form, value)

    def read(body: bytes) -> Rows | None:
        try:
            found = decode_hot(body).value
            return found if lines is None else lines(found, body)
        except (msgspec.MsgspecError, ValueError, RecursionError):  # ValueError: not UTF-8, or ragged
            return None

    return read


def _by_brackets(form: str, rows: Read, records: Read, columns: Read) -> Read:
    """Check the first brackets, because a failed attempt costs 5 us."""
    start = len(form) + 3

    def read(body: bytes) -> Rows | None:
        brackets = body[start : start + 4]
        if b"[{" in brackets:
            return records(body)
        return columns(body) if b"{" in brackets else rows(body)

    return read


def _decoder(form: str, value: Any) -> Callable[[bytes], Any]:
    hot = msgspec.defstruct("Hot", [("value", value)], rename={"value": form}, forbid_unknown_fields=True)
    return msgspec.json.Decoder(hot).decode


def _split_reader(by_row: Any, signature: Signature) -> Read:
    decode_hot = _split_decoder(by_row)
    fits = _split_check(signature)

    def read(body: bytes) -> Rows | None:
        try:
            found = decode_hot(body).value
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        return cast("Rows", found.data) if fits(found, len(found.data)) else None

    return read


def _split_decoder(data: Any) -> Callable[[bytes], Any]:
    split = msgspec.defstruct(
        "Split",
        [
            ("data", data),
            ("columns", msgspec.Raw | UnsetType, UNSET),
            ("index", list[Any] | UnsetType, UNSET),
        ],
        forbid_unknown_fields=True,
    )
    return _decoder("dataframe_split", split)


def _split_check(signature: Signature) -> Callable[[Any, int], bool]:
    """Whether a split of `n` rows has the model's columns in order, and `n` entries in its index."""
    # The names as the usual writers spell them: compared as bytes, they need not be decoded (2 us for 30).
    spelt = {
        json.dumps(list(signature.names), separators=separators, ensure_ascii=ascii_only).encode()
        for separators in ((",", ":"), (", ", ": "))
        for ascii_only in (True, False)
    }

    def fits(split: Any, rows: int) -> bool:
        if split.columns is not UNSET and bytes(split.columns) not in spelt:
            return False
        return split.index is UNSET or len(split.index) == rows

    return fits


def large_readers(signature: Signature) -> dict[bytes, ReadMatrix]:
    """The same for bodies that are read a block at a time: the forms whose rows are lists."""
    if not signature.numeric:
        return {}
    blocks = Blocks(len(signature.columns), dtype=signature.dtype)

    def reader(decode: Callable[[bytes], Any], fits: Callable[[Any, int], bool]) -> ReadMatrix:
        def read(body: bytes) -> NDArray[np.floating[Any]] | None:
            found = blocks.read(body, decode)
            return None if found is None or not fits(found[1].value, len(found[0])) else found[0]

        return read

    return {
        b"dataframe_split": reader(_split_decoder(StandIn), _split_check(signature)),
        b"instances": reader(_decoder("instances", StandIn), lambda _, _rows: True),
        b"inputs": reader(_decoder("inputs", StandIn), lambda _, _rows: True),
    }
