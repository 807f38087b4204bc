"""`python -m deploy keys`: what a person types, and what then is in the file."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from deploy import keys
from deploy.__main__ import main
from serving.access.keys import Keys, KeysError, read
from tests.servers import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 28, 12, 30, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "etc" / "keys.json"
    monkeypatch.setenv("OKAMOCHI_KEYS", str(path))
    return path


def test_a_key_is_printed_once_listed_without_it_and_revoked(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "keys add shop --role predict --models credit --rate 100/s --expires 90d"
    assert main(options.split()) == 0
    secret = capsys.readouterr().out.strip()
    assert re.fullmatch(r"okamochi_[0-9a-f]{8}_[A-Za-z0-9_-]{43}", secret)
    key = Keys(read(file)).find(secret.encode())
    assert key is not None
    assert (key.name, key.roles, key.models, key.rate) == ("shop", ("predict",), ("credit",), "100/s")
    assert key.expires is not None
    assert timedelta(days=89) < key.expires - datetime.now(UTC) <= timedelta(days=90)

    assert main(["keys", "add", "ops", "--role", "observe,predict"]) == 0
    capsys.readouterr()
    assert main(["keys", "list"]) == 0
    head, one, other = capsys.readouterr().out.splitlines()
    assert head.split() == [
        "id",
        "name",
        "roles",
        "models",
        "rate",
        "digits",
        "expires",
        "state",
        "shown",
        "by",
    ]
    assert one.split()[:5] == [key.id, "shop", "predict", "credit", "100/s"]
    assert other.split()[1:] == ["ops", "predict,observe", "all", "-", "-", "never", "valid", "a", "key"]
    assert secret not in one

    assert main(["keys", "revoke", "shop"]) == 0
    assert [key.state(datetime.now(UTC)) for key in read(file)] == ["revoked", "valid"]
    assert main(["keys", "revoke", "shop"]) == 2
    assert "it has keys of: ops" in capsys.readouterr().err


def test_a_client_certificate_has_an_entry_and_no_key(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["keys", "add", "shop", "--role", "predict", "--certificate", "DNS:shop.example.com"]
    assert main(options) == 0
    said = capsys.readouterr()
    assert (said.out, "--ssl-cert-reqs" in said.err) == ("", True)
    assert main([*options[:-1], "DNS:SHOP.example.com"]) == 2
    assert "revoke it first" in capsys.readouterr().err
    assert main(["keys", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("valid  DNS:shop.example.com")
    assert main(["keys", "revoke", "shop"]) == 0
    assert main(options) == 0
    assert [bool(key.hash) for key in read(file)] == [False, False]


def test_of_two_keys_of_one_name_an_id_names_one(file: Path) -> None:
    _, old = keys.add(file, "shop", ["predict"])
    keys.add(file, "shop", ["predict"])
    assert [key.id for key in keys.revoke(file, old.id)] == [old.id]
    assert len(keys.revoke(file, "shop")) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "a b", "--role", "predict"], "the name 'a b'"),
        (["add", "shop", "--role", "root"], "--role: found root, expected predict, explain"),
        (["add", "shop", "--role", ","], "--role: found none"),
        (["add", "shop", "--role", "predict", "--models", "A-b"], "the model 'A-b'"),
        (["add", "shop", "--role", "predict", "--digits", "16"], "the digits 16, expected 1 to 15"),
        (["add", "shop", "--role", "predict", "--rate", "lots"], "the rate: found 'lots'"),
        (
            ["add", "shop", "--role", "predict", "--certificate", "shop"],
            "the certificate 'shop', expected CN:",
        ),
        (["add", "shop", "--role", "predict", "--expires", "soon"], "--expires: found 'soon'"),
        (["add", "shop", "--role", "predict", "--expires", "0d"], "--expires: 0d is over"),
        (["add", "shop", "--role", "predict", "--expires", "2020-02-02"], "is over"),
        (["add", "shop", "--role", "predict", "--expires", "999999w"], "--expires: found '999999w'"),
        (["list"], "cannot be read"),
        (["revoke", "shop"], "cannot be read"),
    ],
)
def test_what_is_wrong_is_a_sentence_and_nothing_is_written(
    file: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", *arguments]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""
    assert not file.exists()


def test_without_a_file_the_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OKAMOCHI_KEYS", raising=False)
    assert main(["keys", "list"]) == 2
    assert "set OKAMOCHI_KEYS to its path, or give --file" in capsys.readouterr().err


def test_a_broken_file_is_left_as_it_is(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.parent.mkdir()
    file.write_text("{")
    assert main(["keys", "add", "shop", "--role", "predict"]) == 2
    assert "is not a file of keys" in capsys.readouterr().err
    assert file.read_text() == "{"


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("90d", NOW + timedelta(days=90)),
        ("30m", NOW + timedelta(minutes=30)),
        ("2w", NOW + timedelta(weeks=2)),
        ("2026-11-28", datetime(2026, 11, 29, tzinfo=UTC)),
        ("", None),
    ],
)
def test_when_a_key_ends(text: str, ends: datetime | None) -> None:
    assert keys.until(text, NOW) == ends
    with pytest.raises(KeysError):
        keys.until("2026-11-27", NOW)


def test_two_who_add_at_once_lose_nothing(file: Path) -> None:
    """Each in a process of its own."""

    def add(number: int) -> int:
        command = [sys.executable, "-m", "deploy", "keys", "add", f"n{number}", "--role", "predict"]
        return subprocess.run(command, cwd=CHECKOUT, check=False, capture_output=True).returncode

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(add, range(6))) == {0}
    assert {key.name for key in read(file)} == {f"n{number}" for number in range(6)}
