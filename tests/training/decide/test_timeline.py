"""When which version became champion, by what, and why, as the registry remembers it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.training.decide.test_promote import Make, fruits, versions
from training.__main__ import main
from training.decide.aliases import rollback
from training.decide.promote import challenge
from training.decide.timeline import timeline
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def changed(mlflow_url: str, make_artifact: Make, request: pytest.FixtureRequest) -> tuple[Registry, str]:
    """Three versions: promoted, better and promoted, refused; then a rollback."""
    name = request.node.name.replace("test_", "")[:30]
    registry = Registry(mlflow_url)
    for version in versions(registry, make_artifact, name, 1.5, 3.0, 1.0):
        challenge(registry, fruits(name), version)
    rollback(registry, name)
    return registry, name


def test_each_change_is_told_in_its_order(changed: tuple[Registry, str]) -> None:
    found = timeline(*changed)

    changes = [(event.version, event.what, event.replaced) for event in found if event.what != "registered"]
    assert changes == [("1", "promotion", ""), ("2", "promotion", "1"), ("1", "rollback", "2")]
    decisions = {event.version: event.decision for event in found if event.what == "registered"}
    assert decisions == {"1": "accepted", "2": "accepted", "3": "refused"}
    assert [event.at for event in found] == sorted(event.at for event in found)
    assert all(event.at for event in found)
    refused = next(event for event in found if event.version == "3")
    assert "champion" in refused.reason


def test_a_champion_that_was_made_by_hand_has_no_time(mlflow_url: str, make_artifact: Make) -> None:
    """As one of a registry that an earlier release wrote; it is told, first, and once."""
    registry = Registry(mlflow_url)
    (only,) = versions(registry, make_artifact, "by_hand", 3.0)
    registry.set_alias("by_hand", CHAMPION, only)
    promoted, registered = timeline(registry, "by_hand")
    assert (promoted.at, promoted.what) == ("", "promotion")
    assert registered.what == "registered"


def test_it_is_printed_for_a_person_and_for_a_program(
    changed: tuple[Registry, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, name = changed
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)

    assert main(["timeline", name]) == 0
    out = capsys.readouterr().out
    assert "rollback, in place of version 2" in out
    assert "The gate's last decision, version 3: " in out

    assert main(["timeline", name, "--json"]) == 0
    events = json.loads(capsys.readouterr().out)
    assert [event["version"] for event in events if event["what"] == "rollback"] == ["1"]


def test_a_name_without_versions_is_told_to_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("OKAMOCHI_STATE_DIR", str(tmp_path))
    assert main(["timeline", "iris"]) == 0
    assert "iris has no version in the registry" in capsys.readouterr().out
