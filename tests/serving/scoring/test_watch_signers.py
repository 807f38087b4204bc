"""The file of trusted keys is followed: versions are withdrawn when the key that signed them is removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from artifact import signing
from serving.observe import metrics
from tests.serving.swapping import Running, kept, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["kept", "run"]  # the fixtures

MODELS = "linear linear:1\niris iris:1\nlinear linear:2 shadow\n"


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of two keys; the first signs all versions."""
    monkeypatch.setenv("OKAMOCHI_SIGNING_KEY", str(tmp_path / "release"))
    return [signing.make_key(tmp_path / name, name) + "\n" for name in ("release", "other")]


@pytest.fixture
def trusted(tmp_path: Path, lines: list[str]) -> Path:
    path = tmp_path / "trusted"
    path.write_text(lines[0])
    return path


def sign_again(running: Running, monkeypatch: pytest.MonkeyPatch, tag: str, key: Path) -> None:
    monkeypatch.setenv("OKAMOCHI_SIGNING_KEY", str(key))
    folder, (name, _, version) = running.store.folders[tag], tag.partition(":")
    (folder.parent / signing.SIGNED).write_text(signing.sign(folder, name=name, version=version))


def refused() -> float:
    return metrics.KEYS_REFUSED._value.get()


def test_a_key_that_is_taken_away_ends_what_it_signed(
    run: Callable[..., Running], trusted: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = run(MODELS, trusted_keys=str(trusted))
    running.look()
    sign_again(running, monkeypatch, "iris:1", trusted.parent / "other")

    trusted.write_text("".join(lines))  # another key beside it changes nothing
    running.look()
    assert running.says() == (10, "1")
    assert running.not_live == []

    trusted.write_text(lines[1])
    running.look()
    reply = running.post("/predict")
    assert (reply.status, "is signed by 'release', which is not among" in str(reply.json())) == (503, True)
    assert running.get("/readyz").status == 503
    assert running.get("/models/iris").status == 200
    assert {(each["name"], each.get("role")) for each in running.not_live} == {
        ("linear", None),
        ("linear", "shadow"),
    }
    running.look()
    assert running.store.located.count("linear:1") == 1, "it is not opened again and again"

    sign_again(running, monkeypatch, "linear:1", trusted.parent / "other")
    running.look()
    assert running.says() == (10, "1")
    assert running.get("/readyz").status == 200
    assert [each["role"] for each in running.not_live] == ["shadow"]

    trusted.write_text("".join(lines))
    running.look()
    assert running.not_live == []
    assert [each["role"] for each in running.get("/models/linear").json()["beside"]] == ["shadow"]


def test_a_shadow_alone_goes_where_its_key_goes(
    run: Callable[..., Running], trusted: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted.write_text("".join(lines))
    running = run(MODELS, trusted_keys=str(trusted))
    for tag in ("linear:1", "iris:1"):
        sign_again(running, monkeypatch, tag, trusted.parent / "other")
    trusted.write_text(lines[1])
    running.look()
    assert running.says() == (10, "1")
    assert running.get("/readyz").status == 200
    assert running.get("/models/linear").json()["beside"] == []
    assert [(each["role"], "not among the keys" in each["reason"]) for each in running.not_live] == [
        ("shadow", True)
    ]


@pytest.mark.parametrize("content", [None, "", "# none\n", "release AAAA\n", "release"])
def test_while_the_file_is_broken_what_is_live_stays_and_nothing_new_comes(
    run: Callable[..., Running], trusted: Path, lines: list[str], content: str | None
) -> None:
    running = run("linear linear:1\n", trusted_keys=str(trusted))
    running.look()
    assert refused() == 0
    trusted.unlink()
    if content is not None:
        trusted.write_text(content)
    running.look("linear linear:2\n")
    assert running.says() == (10, "1")
    assert refused() == 1
    assert "OKAMOCHI_TRUSTED_KEYS" in running.not_live[0]["reason"]
    trusted.write_text(lines[0])
    running.look()
    assert running.says() == (20, "2")
    assert refused() == 0


def test_the_keys_that_count_are_those_of_the_content_that_was_compared(
    run: Callable[..., Running], trusted: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that changes right after it was read counts as it was read; the next look sees the change."""
    running = run("linear linear:1\n", trusted_keys=str(trusted))
    running.look()

    def read(path: Path) -> bytes:
        content = path.read_bytes()
        path.write_text(lines[1])
        return content

    trusted.write_text(lines[0] + "# changed\n")
    with monkeypatch.context() as patched:
        patched.setattr(signing, "trusted_content", read)
        running.look()
    assert running.says() == (10, "1")
    running.look()
    assert running.post("/predict").status == 503


def test_a_key_whose_last_day_is_over_counts_no_more(
    run: Callable[..., Running], trusted: Path, lines: list[str]
) -> None:
    running = run("linear linear:1\n", trusted_keys=str(trusted))
    trusted.write_text(f"{lines[0].strip()} 2020-01-31\n")
    running.look()
    assert "whose key is trusted until 2020-01-31 only" in str(running.post("/predict").json())
