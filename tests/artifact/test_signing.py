"""Only what a trusted key signed is served, at start and while the server runs."""

from __future__ import annotations

import base64
import codecs
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from artifact import load, signing
from artifact.manifest import MANIFEST, ArtifactError, digest
from artifact.signing import SIGNED, SigningKeyError, check, make_key, read_trusted, sign
from deploy.__main__ import main
from serving import bento
from serving.scoring import catalog
from serving.settings import Settings
from tests.bento_server import bento_server, environment, prepare, store
from tests.serving.artifacts import linear

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = timedelta(days=1)


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private key, which the environment names, and the file of trusted keys with its line."""
    line = make_key(tmp_path / "private", "release")
    (tmp_path / "trusted").write_text(f"# who may sign\n{line}\n")
    monkeypatch.setenv("OKAMOCHI_SIGNING_KEY", str(tmp_path / "private"))
    monkeypatch.delenv("OKAMOCHI_SIGNATURE_DAYS", raising=False)
    return tmp_path / "trusted"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linear(tmp_path_factory.mktemp("made") / "linear").path


@pytest.fixture
def artifact(made: Path, tmp_path: Path) -> Path:
    """An artifact as the store has it, in a folder of its own."""
    return Path(shutil.copytree(made, tmp_path / "stored" / "artifact"))


def put(artifact: Path, signature: str) -> None:
    (artifact.parent / SIGNED).write_text(signature)


def refusal(artifact: Path, trusted: Path | str, name: str = "linear", version: str = "3") -> str:
    """Why a server with trusted keys refuses an artifact; "" if it serves it."""
    settings = Settings(trusted_keys=str(trusted), drift_rows_per_s=0)
    found = catalog.load([(name, "tag")], lambda _tag: (artifact, {"version": version}), settings)
    found.close()
    return found.refused.get(name, "")


def test_what_a_trusted_key_signed_is_served_and_told(artifact: Path, keys: Path) -> None:
    put(artifact, sign(artifact, name="linear", version="3"))

    settings = Settings(trusted_keys=str(keys), drift_rows_per_s=0)
    found = catalog.load([("linear", "tag")], lambda _tag: (artifact, {"version": "3"}), settings)
    told = found.live["linear"].description()
    found.close()

    assert told["signed_by"] == "release"
    assert told["signed"].startswith(f"{datetime.now(UTC):%Y-}")


def test_without_trusted_keys_nothing_is_asked(artifact: Path) -> None:
    assert refusal(artifact, "") == ""


def test_an_unsigned_artifact_is_refused(artifact: Path, keys: Path) -> None:
    assert "version 3 of linear is not signed" in refusal(artifact, keys)


def test_a_foreign_signature_is_refused(
    artifact: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a key that is not trusted, and of one that has the trusted name."""
    for name, said in (("stranger", "which is not among the keys"), ("release", "was not made by the key")):
        make_key(tmp_path / f"other-{name}", name)
        monkeypatch.setenv("OKAMOCHI_SIGNING_KEY", str(tmp_path / f"other-{name}"))
        put(artifact, sign(artifact, name="linear", version="3"))
        told = refusal(artifact, keys)
        assert said in told
        assert repr(name) in told


@pytest.mark.parametrize(
    ("field", "value"), [("name", "other"), ("version", "4"), ("manifest_sha256", "0" * 64), ("at", "")]
)
def test_a_changed_statement_is_refused(artifact: Path, keys: Path, field: str, value: str) -> None:
    whole = json.loads(sign(artifact, name="linear", version="3"))
    whole["statement"] = json.dumps({**json.loads(whole["statement"]), field: value})
    put(artifact, json.dumps(whole))
    assert "was not made by the key of 'release'" in refusal(artifact, keys)


@pytest.mark.parametrize(("name", "version"), [("linear", "2"), ("other", "3")])
def test_a_signature_of_something_else_is_refused(
    artifact: Path, keys: Path, name: str, version: str
) -> None:
    """It is whole, and of another version or another model."""
    put(artifact, sign(artifact, name=name, version=version))
    assert "is of other files" in refusal(artifact, keys)


def test_other_files_under_a_signature_are_refused(artifact: Path, keys: Path) -> None:
    """Sealed anew, as whoever can write to the store would do it."""
    put(artifact, sign(artifact, name="linear", version="3"))
    shutil.rmtree(artifact)
    linear(artifact, slope=3)
    assert "is of other files" in refusal(artifact, keys)
    (artifact / MANIFEST).write_bytes((artifact / MANIFEST).read_bytes() + b"\n")
    assert "is of other files" in refusal(artifact, keys)


def test_a_file_that_is_no_signature_is_refused(artifact: Path, keys: Path) -> None:
    whole = sign(artifact, name="linear", version="3")
    signature = msgspec.json.decode(whole, type=signing.Signature)
    for bad in (
        "",
        "{}",
        "nonsense",
        whole[:-5],
        msgspec.json.encode(msgspec.structs.replace(signature, signature="AAAA")).decode(),
        msgspec.json.encode(msgspec.structs.replace(signature, signature="\u00e9")).decode(),
    ):
        put(artifact, bad)
        assert "signature" in refusal(artifact, keys)


def test_a_signature_expires(artifact: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OKAMOCHI_SIGNATURE_DAYS", "30")
    put(artifact, sign(artifact, name="linear", version="3"))
    now = datetime.now(UTC)
    given: dict[str, Any] = {"name": "linear", "version": "3", "trusted": keys}

    assert check(artifact, **given, now=now + 29 * DAY).signer == "release"
    with pytest.raises(ArtifactError, match="by 'release' expired at"):
        check(artifact, **given, now=now + 31 * DAY)


def test_a_key_expires(artifact: Path, keys: Path) -> None:
    """Its last day counts; the signature's own time does not, since whoever has the key can write any."""
    put(artifact, sign(artifact, name="linear", version="3"))
    line = keys.read_text().splitlines()[1]
    given: dict[str, Any] = {"name": "linear", "version": "3", "trusted": keys}
    keys.write_text(f"{line} 2027-01-31\n")
    assert check(artifact, **given, now=datetime(2027, 1, 31, 23, 59, tzinfo=UTC)).signer == "release"
    with pytest.raises(ArtifactError, match="whose key is trusted until 2027-01-31 only"):
        check(artifact, **given, now=datetime(2027, 2, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        ("", "has no key"),
        ("# nothing", "has no key"),
        ("release", "line 1: expected a name, a public key"),
        ("\nrelease AAAA", "line 2: the key of 'release' is not 32 bytes"),
        ("release {key} tomorrow", "line 1: 'tomorrow' is not a day"),
        ("release {key}\nrelease {key}", "line 2: the name 'release' is there twice"),
        ("a/b {key}", "line 1: expected a name"),
    ],
)
def test_a_broken_file_of_trusted_keys_refuses_the_start_and_later_every_model(
    artifact: Path, keys: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, said: str
) -> None:
    put(artifact, sign(artifact, name="linear", version="3"))
    keys.unlink()
    if content is not None:
        keys.write_text(content.replace("{key}", base64.b64encode(b"k" * 32).decode()))
    with pytest.raises(SigningKeyError, match="OKAMOCHI_TRUSTED_KEYS: "):
        read_trusted(keys)
    assert said in refusal(artifact, keys)
    monkeypatch.setenv("OKAMOCHI_TRUSTED_KEYS", str(keys))
    with pytest.raises(bento.BentoMLException, match="OKAMOCHI_TRUSTED_KEYS: "):
        bento.settings()


def test_a_byte_order_mark_is_no_part_of_a_name(
    artifact: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the trusted keys, and of the key that signs: editors on Windows write it."""
    keys.write_bytes(codecs.BOM_UTF8 + keys.read_bytes().replace(b"\n", b"\r\n"))
    assert list(read_trusted(keys)) == ["release"]
    make_key(tmp_path / "marked", "release")
    (tmp_path / "marked").write_bytes(codecs.BOM_UTF8 + (tmp_path / "marked").read_bytes())
    monkeypatch.setenv("OKAMOCHI_SIGNING_KEY", str(tmp_path / "marked"))
    assert '\\"signer\\":\\"release\\"' in sign(artifact, name="linear", version="3")


def test_a_signing_key_that_cannot_be_used_is_one_sentence(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content, said in (
        (None, "cannot be read"),
        (b"", "is not a signing key"),
        (b"name: a\nPEM", "is not a"),
    ):
        path = tmp_path / "key"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        monkeypatch.setenv("OKAMOCHI_SIGNING_KEY", str(path))
        with pytest.raises(SigningKeyError, match=said):
            sign(artifact, name="linear", version="3")
    make_key(tmp_path / "good", "release")
    monkeypatch.setenv("OKAMOCHI_SIGNING_KEY", str(tmp_path / "good"))
    monkeypatch.setenv("OKAMOCHI_SIGNATURE_DAYS", "-1")
    with pytest.raises(SigningKeyError, match="OKAMOCHI_SIGNATURE_DAYS='-1'"):
        sign(artifact, name="linear", version="3")


def opening(source: Path | str) -> str:
    """Why a program does not open an artifact; "" if it does."""
    try:
        load(source)
    except ArtifactError as error:
        return str(error)
    return ""


def test_a_program_opens_what_a_server_would_serve(
    artifact: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the same setting, with the same sentences; of a folder, only its signature knows the version."""
    assert opening(artifact) == ""
    monkeypatch.setenv("OKAMOCHI_TRUSTED_KEYS", str(keys))
    assert "linear is not signed" in opening(artifact)
    for version in ("3", "4"):
        put(artifact, sign(artifact, name="linear", version=version))
        assert opening(artifact) == ""
    put(artifact, sign(artifact, name="other", version="3"))
    assert "is of other files" in opening(artifact)
    whole = sign(artifact, name="linear", version="3")
    put(artifact, whole.replace("release", "stranger"))
    assert "which is not among the keys" in opening(artifact)
    monkeypatch.setenv("OKAMOCHI_SIGNATURE_DAYS", "0.0000001")
    put(artifact, sign(artifact, name="linear", version="3"))
    assert "by 'release' expired at" in opening(artifact)
    put(artifact, whole)
    shutil.rmtree(artifact)
    linear(artifact, slope=3)
    assert "is of other files" in opening(artifact)
    keys.unlink()
    assert "OKAMOCHI_TRUSTED_KEYS" in opening(artifact)


def test_a_tag_says_which_version_must_be_signed(
    made: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OKAMOCHI_TRUSTED_KEYS", str(keys))
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    version = f"3-{digest(made / MANIFEST)[:12]}"
    stored = tmp_path / "models" / "okamochi-linear" / version / "artifact"
    shutil.copytree(made, stored)
    tag = f"okamochi-linear:{version}"
    assert "version 3 of linear is not signed" in opening(tag)
    put(stored, sign(made, name="linear", version="2"))
    assert "it says version 2 of linear" in opening(tag)
    put(stored, sign(made, name="linear", version="3"))
    assert opening(tag) == ""


def test_the_command_makes_a_key_and_never_overwrites_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "private"
    assert main(["signing-key", str(path), "--name", "release"]) == 0
    told = capsys.readouterr()
    (tmp_path / "trusted").write_text(told.out)
    assert list(read_trusted(tmp_path / "trusted")) == ["release"]
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    assert main(["signing-key", str(path), "--name", "release"]) == 2
    assert main(["signing-key", str(tmp_path / "other"), "--name", "a b"]) == 2
    assert path.read_bytes() == before
    assert not (tmp_path / "other").exists()


def test_a_running_server_takes_no_version_that_is_not_signed_and_keeps_none_whose_key_was_revoked(
    artifact: Path, keys: Path, tmp_path: Path
) -> None:
    """What it serves stays; once the signature is there, the version goes live; without the key it goes."""
    work = tmp_path / "work"
    prepare(work, {"linear": (artifact, "1")})

    def folder(tag: str) -> Path:
        name, _, version = tag.partition(":")
        return Path(environment(work)["BENTOML_HOME"]) / "models" / name / version

    def told() -> dict[str, Any]:
        with urllib.request.urlopen(f"{server.url}/models") as reply:
            return json.load(reply)

    def until(holds: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        end = time.monotonic() + 60
        while not holds(said := told()) and time.monotonic() < end:
            time.sleep(0.1)
        return said

    lock = work / "models.lock"
    put(folder(lock.read_text().split()[1]) / "artifact", sign(artifact, name="linear", version="1"))
    with bento_server(
        work, settings={"OKAMOCHI_TRUSTED_KEYS": str(keys), "OKAMOCHI_WATCH_S": "0.2"}
    ) as server:
        assert told()["models"][0]["signed_by"] == "release"
        (line,) = store(work, [("linear", artifact, "2")])
        lock.write_text(line + "\n")
        said = until(lambda found: found["not_live"])
        assert "version 2 of linear is not signed" in json.dumps(said["not_live"])
        assert said["models"][0]["version"] == "1"
        second = folder(line.split()[1])
        put(second / "artifact", sign(artifact, name="linear", version="2"))
        os.utime(lock)
        said = until(lambda found: not found["not_live"])
        assert said["not_live"] == []
        assert said["models"][0]["version"] == "2"

        trusted = keys.read_text()
        keys.write_text(make_key(tmp_path / "another", "another") + "\n")
        said = until(lambda found: not found["models"])
        assert "is signed by 'release', which is not among the keys" in json.dumps(said["not_live"])
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server.url}/predict", data=b'{"x": 1}')
        assert refused.value.code == 503
        keys.write_text(trusted)
        assert until(lambda found: found["models"])["models"][0]["version"] == "2"
