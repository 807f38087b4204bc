"""`live` shows champion and shadow on the same rows, from either kind of prediction log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from artifact.sealing import Sealing, add_key
from serving.prediction_log.folder import Folder
from tests.training.decide.shadow_log import answered, write_folder
from training.decide.live_log import NothingToJudgeError
from training.decide.live_pairs import UNKNOWN, read_pairs
from training.registry.mlflow_registry import Registry
from training.registry.records import CANARY, CHAMPION, SHADOW

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.training.decide.test_promote import Make
    from training.registry.records import Version


@pytest.fixture
def store(tmp_path: Path) -> Folder:
    (tmp_path / "log").mkdir()
    return Folder(tmp_path / "log", file_bytes=1_000_000, file_s=1e9)


def test_a_folder_gives_the_rows_that_both_scored(store: Folder) -> None:
    """Rows of other models and versions, rows without a shadow and lines that are cut short give none."""
    lines, shadows, actual = answered(60, 0.8, 0.9)
    others = answered(20, 0.8, 0.9, versions=("3", "2"), first=100)
    foreign = answered(20, 0.8, 0.9, model="other", first=200)
    path = write_folder(store, lines, [*shadows[:50], *others[1], *foreign[1]], actual[:30])
    write_folder(store, [*others[0], *foreign[0]], [], [])
    for each in store.path.glob("*.jsonl"):
        with each.open("ab") as file:
            file.write(b'{"id":"cut')
    found = list(read_pairs(str(store.path), "fruit", "1", "2"))
    assert len(found) == 50
    assert [pair.actual for pair in found[:30]] == actual[:30]
    assert {pair.actual for pair in found[30:]} == {UNKNOWN}
    assert found[7].scores == lines[7].scores
    assert found[7].shadow_scores == shadows[7].scores
    assert found[7].columns == lines[7].columns
    known = list(read_pairs(str(store.path), "fruit", "1", "2", known_only=True))
    assert known == found[:30]
    path.unlink()
    assert list(read_pairs(str(store.path), "fruit", "1", "2")) == [], "the answered rows have expired"


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sealing:
    """The keys of an encrypted log, which the reader has too."""
    path = tmp_path / "keys"
    add_key(path)
    monkeypatch.setenv("OKAMOCHI_LOG_KEYS", str(path))
    return Sealing(path)


def test_an_encrypted_folder_gives_the_same(
    tmp_path: Path, store: Folder, keys: Sealing, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealing = Folder(tmp_path / "sealed", file_bytes=1_000_000, file_s=1e9, sealing=keys)
    written = answered(60, 0.8, 0.9)
    write_folder(store, *written)
    write_folder(sealing, *written)
    assert b"plum" not in b"".join(path.read_bytes() for path in sealing.path.glob("*.jsonl"))
    found = list(read_pairs(str(sealing.path), "fruit", "1", "2"))
    assert len(found) == 60
    assert found == list(read_pairs(str(store.path), "fruit", "1", "2"))
    monkeypatch.delenv("OKAMOCHI_LOG_KEYS")
    with pytest.raises(NothingToJudgeError, match="is encrypted with the key"):
        list(read_pairs(str(sealing.path), "fruit", "1", "2"))


@pytest.mark.parametrize("encrypted", [False, True])
def test_postgresql_gives_the_same(postgres_url: str, store: Folder, keys: Sealing, encrypted: bool) -> None:
    from serving.prediction_log.postgres import Postgres
    from tests.serving.prediction_log.rows import tell

    model, first = ("pg_sealed", 0xB000) if encrypted else ("pg_pairs", 0xA000)
    sealing = keys if encrypted else None
    assert list(read_pairs(postgres_url, model, "1", "2")) == [], "perhaps without a table of shadows"
    lines, shadows, actual = answered(40, 0.8, 0.9, model=model, first=first)
    write_folder(store, lines, shadows[:30], actual[:20])
    database = Postgres(postgres_url, sealing)
    database.write(lines)
    tell(database, *zip(lines[:20], actual[:20], strict=True))
    database.write_shadows(shadows[:30])
    database.close()
    for known_only, expected in ((False, 30), (True, 20)):
        found = list(read_pairs(postgres_url, model, "1", "2", known_only=known_only))
        assert len(found) == expected
        assert found == list(read_pairs(str(store.path), model, "1", "2", known_only=known_only))


@pytest.fixture
def crowned(
    mlflow_url: str, make_artifact: Make, request: pytest.FixtureRequest
) -> tuple[str, list[Version]]:
    """A name with three versions of which the first is champion, with its promise."""
    from tests.training.decide.test_promote import fruits
    from training.decide.promote import challenge

    name = request.node.name.replace("test_", "")[:30]
    registry = Registry(mlflow_url)
    found = []
    for turn in (3.0, 2.9, 2.8):
        run = registry.start(name, f"turn {turn}", {})
        artifact = make_artifact(name, run_id=run, turn=turn)
        tags = {"metric": "accuracy"}
        found.append(registry.register(artifact, run, tags=tags, metrics={}, description="", about=""))
    assert challenge(registry, fruits(name), found[0]).accepted
    return name, found


def test_the_command_shows_who_is_better_and_what_the_rule_would_do(
    crowned: tuple[str, list[Version]], mlflow_url: str, cli: Callable[..., Any], store: Folder
) -> None:
    name, (_, shadow, canary) = crowned
    registry = Registry(mlflow_url)
    lines, shadows, actual = answered(700, 0.8, 0.95, model=name)
    write_folder(store, lines, shadows, actual)
    said = cli("live", name, "--log", store.path)
    assert f"{name} has no shadow: the registry has no alias shadow for it." in said.out
    registry.set_alias(name, SHADOW, shadow)
    registry.set_alias(name, CANARY, canary)
    said = cli("live", name, "--log", store.path)
    assert "Shadow (version 2) beside the champion (version 1) on the same rows" in said.out
    assert "700 rows; the same label on" in said.out
    assert "The rule says: promote. Nothing does so by itself: promote_shadow is not set" in said.out
    assert "Canary (version 3): 0 rows that it answered have a known outcome." in said.out
    found = json.loads(cli("live", name, "--log", store.path, "--json").out)
    assert found["live"]["rows"] == 700
    assert found["shadow"]["better"] == "shadow"
    assert found["shadow"]["rule"]["action"] == "promote"
    assert found["shadow"]["low"] > 0
    assert found["canary"] == {"canary": "3", "rows": 0, "quality": None}
    assert registry.version(name, CHAMPION).number == "1", "the command only looks"  # type: ignore[union-attr]


def test_without_feedback_it_still_shows_how_often_both_agree(
    crowned: tuple[str, list[Version]], mlflow_url: str, cli: Callable[..., Any], store: Folder
) -> None:
    name, (_, shadow, _) = crowned
    Registry(mlflow_url).set_alias(name, SHADOW, shadow)
    said = cli("live", name, "--log", store.path)
    assert said.code == 2
    assert "No row that both scored is in the log yet." in said.out
    lines, shadows, _ = answered(100, 0.8, 0.95, model=name)
    write_folder(store, lines, shadows, [])
    said = cli("live", name, "--log", store.path)
    assert said.code == 2
    assert "100 rows; the same label on" in said.out
    assert "The rule needs 100 rows or more whose outcome is known." in said.out
    assert "0 rows that version 1" in said.err
    said = cli("live", name, "--log", store.path, "--json")
    found = json.loads(said.out)
    assert (said.code, found["shadow"]["rows"], found["shadow"]["champion_loss"]) == (2, 100, None)
    assert "0 rows that version 1" in found["not_judged"]


def test_a_canary_is_judged_on_the_rows_that_it_answered(
    crowned: tuple[str, list[Version]], mlflow_url: str, cli: Callable[..., Any], store: Folder
) -> None:
    name, (_, _, canary) = crowned
    Registry(mlflow_url).set_alias(name, CANARY, canary)
    for versions, first, rows in ((("1", "2"), 0, 200), (("3", "2"), 1_000, 80)):
        lines, _, actual = answered(rows, 0.9, 0.9, model=name, versions=versions, first=first)
        write_folder(store, lines, [], actual)
    said = cli("live", name, "--log", store.path)
    assert "Canary (version 3), on the rows that it answered itself" in said.out
    assert json.loads(cli("live", name, "--log", store.path, "--json").out)["canary"]["quality"]["rows"] == 80
