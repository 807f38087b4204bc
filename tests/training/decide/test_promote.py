"""Aliases move to what is better, stay for what is not, and survive a registry that is lost half-way."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from artifact import manifest
from tests.kept import empty_registry
from training.decide.aliases import (
    NothingToPromoteError,
    WhichVersionError,
    make_champion,
    rollback,
    set_role,
)
from training.decide.promote import challenge
from training.decide.test_set import TestSet
from training.registry.mlflow_registry import Registry
from training.registry.records import (
    CANARY,
    CANARY_PERCENT,
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    SHADOW,
    RegistryError,
    Version,
)
from training.settings import Gate, Synthetic, UseCase
from training.tables.data import Table

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Said
    from servers import Cut

Make = Callable[..., manifest.Artifact]


def fruits(name: str, *, drop: str | None = None, **gate: Any) -> TestSet:
    """Two hundred fruits, plums being those below a weight of 3, all for the test."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"weight": rng.uniform(0, 6, 200), "colour": rng.choice(["red", "blue"], 200)})
    target = np.where(frame["weight"] > 3, "apple", "plum").astype(object)
    frame["colour"] = frame["colour"].astype(object)
    if drop:
        frame = frame.drop(columns=drop)
    use_case = UseCase(name=name, target="fruit", source=Synthetic("linear"), gate=Gate(**gate))
    table = Table(
        frame=frame,
        target=target,
        kinds={"weight": "number", "colour": "category"},
        classes=("apple", "plum"),
        positive="plum",
        date_formats={},
        sensitive=pd.DataFrame(index=frame.index),
        groups=None,
        times=None,
        ignored=(),
        notes=(),
        duplicates=0,
        row_hashes=np.arange(200, dtype=np.uint64),
        digest="d",
        task="binary",
        use_case=use_case,
    )
    return TestSet(table, np.ones(200, bool), "accuracy")


def versions(registry: Registry, make: Make, name: str, *turns: float) -> list[Version]:
    """Register a model for each weight at which it turns from plum to apple; 3 is right."""
    made = []
    for turn in turns:
        run = registry.start(name, name, {})
        artifact = make(name, run_id=run, turn=turn)
        made.append(registry.register(artifact, run, tags={}, metrics={}, description="", about=""))
    return made


def aliases(registry: Registry, name: str) -> dict[str, str | None]:
    found = {alias: registry.version(name, alias) for alias in (CHAMPION, PREVIOUS, CHALLENGER)}
    return {alias: None if version is None else version.number for alias, version in found.items()}


def test_a_better_model_takes_over_and_can_be_rolled_back(mlflow_url: str, make_artifact: Make) -> None:
    """The champion becomes previous; rolling back swaps them, and once more has to name the version."""
    registry = Registry(mlflow_url)
    poor, good = versions(registry, make_artifact, "takeover", 1.5, 3.0)
    assert challenge(registry, fruits("takeover"), poor).accepted
    verdict = challenge(registry, fruits("takeover"), good)
    assert verdict.accepted
    assert verdict.metrics["accuracy"] > verdict.champion_metrics["accuracy"]
    assert aliases(registry, "takeover") == {"champion": "2", "previous": "1", "challenger": None}
    live = registry.version("takeover", CHAMPION)
    assert live is not None
    assert live.tags["gate"] == "accepted"
    assert "better" in live.tags["gate.reasons"]

    rollback(registry, "takeover")
    assert aliases(registry, "takeover") == {"champion": "1", "previous": "2", "challenger": None}
    with pytest.raises(WhichVersionError) as said:
        rollback(registry, "takeover")
    assert "version 1 is champion again, in place of version 2" in str(said.value)
    assert "rollback takeover --to VERSION" in str(said.value)
    assert "2 (previous, accepted), 1 (champion, accepted)" in str(said.value)
    assert aliases(registry, "takeover") == {"champion": "1", "previous": "2", "challenger": None}
    rollback(registry, "takeover", "2")
    assert aliases(registry, "takeover") == {"champion": "2", "previous": "1", "challenger": None}


def test_a_promotion_after_a_rollback_can_be_rolled_back(mlflow_url: str, make_artifact: Make) -> None:
    """What counts is the last change: a version that was once rolled back to and is promoted is promoted."""
    registry = Registry(mlflow_url)
    first, second, third = versions(registry, make_artifact, "between", 1.5, 2.0, 3.0)
    for version in (first, second):
        make_champion(registry, version)
    assert rollback(registry, "between")[0].number == "1"
    make_champion(registry, third)
    assert rollback(registry, "between")[0].number == "1"
    make_champion(registry, third)
    make_champion(registry, first)
    assert rollback(registry, "between")[0].number == "3"


def test_a_rollback_to_a_version_goes_there_or_nowhere(mlflow_url: str, make_artifact: Make) -> None:
    """Any version will do, also one that was never live; an unknown one or the champion changes nothing."""
    registry = Registry(mlflow_url)
    first, second, _ = versions(registry, make_artifact, "named", 1.5, 2.0, 3.0)
    for version in (first, second):
        make_champion(registry, version)
    for unknown in ("4", "two", "", "-1"):
        with pytest.raises(
            WhichVersionError, match=r"no version '.*Its newest versions are: 3 \(not judged\)"
        ):
            rollback(registry, "named", unknown)
    live, before = rollback(registry, "named", "2")
    assert live.number == before.number == "2"
    assert aliases(registry, "named") == {"champion": "2", "previous": "1", "challenger": None}

    live, before = rollback(registry, "named", "3")
    assert (live.number, before.number) == ("3", "2")
    assert aliases(registry, "named") == {"champion": "3", "previous": "2", "challenger": None}
    assert rollback(registry, "named", "1")[0].number == "1"


def test_a_model_that_is_no_better_changes_nothing(mlflow_url: str, make_artifact: Make) -> None:
    """A refused one is the challenger, with the reasons in its tags; by hand it can still be promoted."""
    registry = Registry(mlflow_url)
    good, poor = versions(registry, make_artifact, "refused", 3.0, 1.5)
    challenge(registry, fruits("refused"), good)
    assert not challenge(registry, fruits("refused"), poor).accepted
    assert aliases(registry, "refused") == {"champion": "1", "previous": None, "challenger": "2"}
    stored = registry.numbered("refused", "2")
    assert stored is not None
    assert stored.tags["gate"] == "refused"
    assert stored.tags["gate.reasons"].startswith("It is no better: accuracy")
    with pytest.raises(NothingToPromoteError, match="no champion before version 1"):
        rollback(registry, "refused")

    assert challenge(registry, fruits("refused"), poor, force=True).accepted
    assert aliases(registry, "refused") == {"champion": "2", "previous": "1", "challenger": None}


def test_the_same_model_again_is_no_better(mlflow_url: str, make_artifact: Make) -> None:
    """A retraining that changes nothing says so."""
    registry = Registry(mlflow_url)
    (first,) = versions(registry, make_artifact, "again", 3.0)
    challenge(registry, fruits("again"), first)
    run = registry.start("again", "again", {})
    artifact = make_artifact("again", run_id=run, turn=3.0)
    second = registry.register(artifact, run, tags={}, metrics={}, description="", about="")
    verdict = challenge(registry, fruits("again"), second)
    assert not verdict.accepted
    assert "the same scores" in verdict.decision.reasons[0]


def test_a_champion_whose_column_is_gone_cannot_be_compared(mlflow_url: str, make_artifact: Make) -> None:
    """The reason names the column, and the champion stays."""
    registry = Registry(mlflow_url)
    (champion,) = versions(registry, make_artifact, "narrower", 3.0)
    make_champion(registry, champion)
    run = registry.start("narrower", "narrower", {})
    artifact = make_artifact("narrower", run_id=run, turn=2.9, coloured=False)
    newer = registry.register(artifact, run, tags={}, metrics={}, description="", about="")
    verdict = challenge(registry, fruits("narrower", drop="colour"), newer)
    assert not verdict.accepted
    assert "it reads 'colour', which the table no longer has" in verdict.decision.reasons[0]
    assert aliases(registry, "narrower") == {"champion": "1", "previous": None, "challenger": "2"}


@pytest.mark.parametrize("harm", ["lost behind a server", "lost", "damaged"])
def test_a_champion_whose_files_are_gone_is_replaced_by_hand_only(
    mlflow_url: str, mlflow_folder: Path, tmp_path: Path, make_artifact: Make, harm: str
) -> None:
    """No comparison, no promotion; the reason says the way out, and there is no way back to a broken one."""
    served = "server" in harm
    registry = Registry(mlflow_url if served else empty_registry(tmp_path))
    (old,) = versions(registry, make_artifact, "broken", 3.0)
    make_champion(registry, old)
    (folder,) = (
        found.parent
        for found in (mlflow_folder if served else tmp_path / "mlruns").rglob("manifest.json")
        if manifest.load(found.parent).manifest.name == "broken"
    )
    if "lost" in harm:
        shutil.rmtree(folder)
    else:
        (folder / manifest.SKOPS).write_bytes(b"not what it was")
    (newer,) = versions(registry, make_artifact, "broken", 2.9)
    verdict = challenge(registry, fruits("broken"), newer)
    assert not verdict.accepted
    assert "its files cannot be used" in verdict.decision.reasons[0]
    assert "promote --force broken" in verdict.decision.reasons[0]
    assert aliases(registry, "broken") == {"champion": "1", "previous": None, "challenger": "2"}

    assert challenge(registry, fruits("broken"), newer, force=True).accepted
    assert aliases(registry, "broken") == {"champion": "2", "previous": "1", "challenger": None}
    with pytest.raises(manifest.ArtifactError):
        rollback(registry, "broken")
    assert aliases(registry, "broken") == {"champion": "2", "previous": "1", "challenger": None}


@pytest.mark.deep
@pytest.mark.parametrize("skip", [0, 1, 2])
def test_a_registry_lost_in_the_middle_leaves_the_old_champion(
    mlflow_url: str, cut: Cut, make_artifact: Make, monkeypatch: pytest.MonkeyPatch, skip: int
) -> None:
    """Wherever the moves are cut, the old champion is live, and the same command once more completes."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    name = f"lost_{skip}"
    direct = Registry(mlflow_url)
    poor, good = versions(direct, make_artifact, name, 1.5, 3.0)
    challenge(direct, fruits(name), poor)

    registry = Registry(cut.url)
    # The last calls are: tag of the version, alias previous, alias champion.
    cut.cut_at, cut.skip = (
        ("POST /api/2.0/mlflow/registered-models/alias", skip)
        if skip < 2
        else ("POST /api/2.0/mlflow/model-versions/set-tag", 0)
    )
    with pytest.raises(RegistryError, match="MLFLOW_TRACKING_URI"):
        challenge(registry, fruits(name), good)
    champion = direct.version(name, CHAMPION)
    assert champion is not None
    assert champion.number == "1"

    cut.heal()
    assert challenge(registry, fruits(name), good).accepted
    assert aliases(direct, name) == {"champion": "2", "previous": "1", "challenger": None}
    assert rollback(direct, name)[0].number == "1"


@pytest.mark.deep
def test_a_rollback_that_was_cut_finds_its_way(
    cut: Cut, make_artifact: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it is cut the old champion is live, and the same command once more goes where it was to go."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = Registry(cut.url)
    first, second = versions(registry, make_artifact, "back", 3.0, 2.9)
    make_champion(registry, first)
    calls = ("registered-models/alias", "model-versions/set-tag")
    for to, call, skip in itertools.product((None, "1"), calls, (0, 1)):
        make_champion(registry, second)
        cut.cut_at, cut.skip = f"POST /api/2.0/mlflow/{call}", skip
        with pytest.raises(RegistryError):
            rollback(registry, "back", to)
        cut.heal()
        assert aliases(registry, "back")["champion"] == "2", (call, skip)
        rollback(registry, "back", to)
        assert aliases(registry, "back") == {"champion": "1", "previous": "2", "challenger": None}
        with pytest.raises(WhichVersionError):
            rollback(registry, "back")


def test_a_model_that_treats_groups_too_differently_is_refused(mlflow_url: str, make_artifact: Make) -> None:
    """Fruits of one origin are lighter, so that more of them are called plums."""
    registry = Registry(mlflow_url)
    (version,) = versions(registry, make_artifact, "unfair", 3.0)
    test = fruits("unfair", fairness={"demographic_parity_difference": 0.3})
    origin = np.where(test.table.frame["weight"] + np.tile([0, 1.5], 100) > 3.5, "north", "south")
    table = dataclasses.replace(test.table, sensitive=pd.DataFrame({"origin": origin}))
    judged = challenge(registry, dataclasses.replace(test, table=table), version)
    assert not judged.accepted
    assert "demographic_parity_difference of origin for fruit = plum is" in judged.decision.reasons[0]
    assert "selected: south" in judged.decision.reasons[0]
    random = dataclasses.replace(table, sensitive=pd.DataFrame({"origin": np.tile(["north", "south"], 100)}))
    assert challenge(registry, dataclasses.replace(test, table=random), version).accepted


def test_a_version_stands_beside_the_champion_and_no_longer(
    mlflow_url: str, make_artifact: Make, cli: Callable[..., Said]
) -> None:
    """As shadow or canary; the champion itself, or a name without one, is refused in one sentence."""
    registry = Registry(mlflow_url)
    first, second, third = versions(registry, make_artifact, "beside", 1.5, 2.0, 3.0)
    with pytest.raises(NothingToPromoteError, match="beside has no champion, so it cannot have a shadow"):
        set_role(registry, "beside", SHADOW, first.number)
    make_champion(registry, first)
    with pytest.raises(NothingToPromoteError, match="no challenger: name a version with --version"):
        set_role(registry, "beside", SHADOW)
    with pytest.raises(WhichVersionError, match="Version 1 of beside is the champion"):
        set_role(registry, "beside", SHADOW, "1")
    registry.set_alias("beside", CHALLENGER, second)
    assert set_role(registry, "beside", SHADOW).number == second.number

    said = cli("role", "beside", "canary", "--version", third.number, "--percent", "12.5")
    assert said.code == 0, said.err
    assert "beside: version 3 (" in said.out
    canary = registry.version("beside", CANARY)
    assert canary is not None
    assert canary.tags[CANARY_PERCENT] == "12.5"
    assert cli("role", "beside", "shadow", "--percent", "5").code == 2
    assert cli("role", "beside", "canary", "--version", "9").code == 2
    assert cli("role", "beside", "shadow", "--none").code == 0
    assert registry.version("beside", SHADOW) is None
    assert registry.version("beside", CHAMPION).number == "1"  # type: ignore[union-attr]
