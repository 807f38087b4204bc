"""A use case's name belongs to one target and the columns of one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow
import pytest

from tests.kept import empty_registry
from training.job import Budget
from training.owner import COLUMNS, check_owner, columns_of, is_of_another_table, tags_of_table
from training.progress import Progress
from training.registry.mlflow_registry import Registry, read_alias
from training.registry.records import CHALLENGER, CHAMPION, SOURCE, Version
from training.run import run
from training.settings import Csv, UseCase, UseCaseError, load_use_case
from training.tables.data import load_table
from training.tables.init import write_use_case

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from artifact.manifest import Artifact
    from training.tables.data import Table

    Make = Callable[..., Artifact]


def table_in(
    folder: Path, header: str = "size,rooms,price", name: str = "train.csv", target: str = "price"
) -> Table:
    folder.mkdir(exist_ok=True)
    width = len(header.split(","))
    rows = "".join(",".join(str((i * (k + 3)) % 17 + k) for k in range(width)) + "\n" for i in range(80))
    (folder / name).write_text(f"{header}\n{rows}", encoding="utf-8")
    return load_table(
        UseCase(name="train", target=target, source=Csv(path=str(folder / name)), task="regression")
    )


def registered(registry: Registry, make: Make, name: str, table: Table) -> Version:
    run_id = registry.start(name, f"{name} run", {"mlflow.source.name": f"{SOURCE} run {name}"})
    return registry.register(
        make(name, run_id=run_id), run_id, tags=tags_of_table(table), metrics={}, description="", about=""
    )


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry of the test's own, the default of every command."""
    monkeypatch.setenv("OKAMOCHI_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty_registry(tmp_path))
    return Registry()


def test_the_same_table_with_a_column_more_or_less_is_no_other(tmp_path: Path) -> None:
    """Tables grow; features are chosen."""
    tags = tags_of_table(table_in(tmp_path / "shop"))
    for header in ("size,rooms,price", "size,rooms,age,price", "rooms,price"):
        other = table_in(tmp_path / "next", header)
        assert not is_of_another_table(tags, "price", columns_of(other))


def test_another_target_or_other_columns_are_another_table(tmp_path: Path) -> None:
    """And the sentence has both, and the key."""
    tags = tags_of_table(table_in(tmp_path / "shop"))
    assert is_of_another_table(tags, "rooms", {"size", "price"})
    other = table_in(tmp_path / "bank", "age,income,debt,price")
    with pytest.raises(UseCaseError) as caught:
        check_owner(other.use_case, columns_of(other), tags, "3")
    said = str(caught.value)
    for part in (
        '"train"',
        "version 3",
        '"price" of shop/train.csv from rooms, size',
        "bank/train.csv",
        "change name",
    ):
        assert part in said
    assert str(tmp_path) not in said


def test_a_version_from_before_the_tags_and_one_of_very_many_columns(tmp_path: Path) -> None:
    """The first is of any table; the second keeps as many names as a tag holds, the same of each table."""
    assert not is_of_another_table({}, "y", {"a"})
    names = [f"a rather long name of a column {i}" for i in range(400)]
    tags = tags_of_table(table_in(tmp_path / "wide", ",".join(names) + ",price"))
    assert len(tags[COLUMNS]) <= 4_000
    assert not is_of_another_table(tags, "price", names[50:])
    assert is_of_another_table(tags, "price", {f"other {i}" for i in range(400)})


def test_run_refuses_another_table_under_the_name_and_init_finds_it_another(
    tmp_path: Path, registry: Registry, make_artifact: Make
) -> None:
    """Before anything is trained; nothing is registered."""
    shop = table_in(tmp_path / "shop")
    registry.set_alias("train", CHAMPION, registered(registry, make_artifact, "train", shop))
    bank = table_in(tmp_path / "bank", "age,income,debt,paid", target="paid")

    with pytest.raises(UseCaseError, match=r'The name "train" belongs to version 1'):
        run(bank.use_case, Budget(trials=1), Progress())
    assert len(registry.versions("train")) == 1

    def taken(name: str, table: Table) -> bool:
        version = read_alias(name, CHAMPION)
        return version is not None and is_of_another_table(
            version.tags, table.use_case.target, columns_of(table)
        )

    written = write_use_case(tmp_path / "bank" / "train.csv", "paid", tmp_path / "bank", taken=taken)
    assert load_use_case(written).name == "bank_train"
    again = write_use_case(tmp_path / "shop" / "train.csv", "price", tmp_path / "shop", taken=taken)
    assert load_use_case(again).name == "train"


def test_a_champion_whose_version_was_deleted_is_none(
    tmp_path: Path, registry: Registry, make_artifact: Make
) -> None:
    """Neither for the quick look nor for MLflow; the next model is the first."""
    version = registered(registry, make_artifact, "gone", table_in(tmp_path / "shop"))
    for alias in (CHAMPION, CHALLENGER):
        registry.set_alias("gone", alias, version)
    mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").delete_model_version("gone", version.number)
    for alias in (CHAMPION, CHALLENGER):
        assert registry.version("gone", alias) is None
        assert read_alias("gone", alias) is None
