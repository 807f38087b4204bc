"""The file of keys: what it refuses, in which words, and that it holds no key."""

from __future__ import annotations

import codecs
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from serving.access import keys
from serving.access.keys import Keys, KeysError

FILE = Path("keys.json")
ENTRY: dict[str, Any] = {
    "id": "0123abcd",
    "name": "shop",
    "hash": "sha256:" + "0" * 64,
    "roles": ["predict"],
}


def content(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"keys": entries}).encode()


def test_a_key_is_found_by_its_secret_and_by_nothing_else() -> None:
    secret, key = keys.make("shop", ["predict"], models=["iris"], rate="5/s")
    other, _ = keys.make("shop", ["predict"])
    found = Keys([key])

    assert found.find(secret.encode()) == key
    for wrong in (other, "", secret[:-1], secret + "a", secret.upper(), key.hash, key.hash[7:], key.id, " "):
        assert found.find(wrong.encode()) is None, wrong


def test_the_file_holds_no_key_and_is_its_owners_alone(tmp_path: Path) -> None:
    secret, key = keys.make("shop", ["predict"], expires=datetime.now(UTC) + timedelta(days=1))
    path = tmp_path / "keys.json"
    keys.write(path, [key])

    assert keys.read(path) == (key,)
    assert secret.rpartition("_")[2] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    keys.write(path, [key, keys.make("ops", ["observe"])[1]])
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "not a file of keys"),
        (b"\xff", "not a file of keys"),
        (b"[]", "not a file of keys"),
        (b'{"keys": 5}', "$.keys"),
        (b'{"kyes": []}', "kyes"),
        (content(ENTRY)[:-3], "not a file of keys"),
        (content(ENTRY | {"roles": ["root"]}), "$.keys[0].roles[0]"),
        (content(ENTRY | {"roles": []}), "key 1: no role"),
        (content(ENTRY | {"role": "predict"}), "role"),
        (content(ENTRY | {"hash": "my-own-key"}), "key 1: the hash"),
        (content(ENTRY | {"hash": "sha256:" + "A" * 64}), "key 1: the hash"),
        (content(ENTRY | {"id": "x"}), "key 1: the id 'x'"),
        (content(ENTRY | {"name": "a b"}), "key 1: the name 'a b'"),
        (content(ENTRY | {"name": "a\n"}), "key 1: the name"),
        (content(ENTRY | {"models": ["../x"]}), "key 1: the model '../x'"),
        (content(ENTRY | {"rate": "fast"}), "key 1: the rate"),
        (content(ENTRY | {"expires": "2027-01-01"}), "$.keys[0].expires"),
        (content(ENTRY | {"expires": "2027-01-01T00:00:00"}), "$.keys[0].expires"),
        (content(ENTRY, ENTRY), "key 2: the id 0123abcd or its hash stands twice"),
        (content(ENTRY, ENTRY | {"id": "00000000"}), "key 2: the id 00000000 or its hash stands twice"),
    ],
)
def test_a_broken_file_says_where_and_what(text: bytes, said: str) -> None:
    with pytest.raises(KeysError) as refused:
        keys.parse(text, FILE)

    assert said in str(refused.value)
    assert "OKAMOCHI_KEYS: keys.json" in str(refused.value)
    assert "my-own-key" not in str(refused.value)


def test_a_byte_order_mark_is_no_part_of_the_file() -> None:
    """Editors on Windows write it."""
    assert [key.name for key in keys.parse(codecs.BOM_UTF8 + content(ENTRY), FILE)] == ["shop"]


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, tmp_path / "absent"):
        with pytest.raises(KeysError, match=str(path)):
            keys.read(path)
