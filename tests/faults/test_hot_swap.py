"""models.lock changes under a server that runs: a new version goes live, and nothing is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.conftest import FULL
from tests.faults.swaps import swapping, under_load

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("workers", [1, 2])
def test_versions_are_swapped_under_load_and_no_answer_is_lost_or_of_another_version(
    tmp_path: Path, figures: dict[str, Any], workers: int
) -> None:
    """On both lanes and in every protocol, in each worker."""
    swaps = 20 if FULL else 6
    with swapping(tmp_path, settings={"OKAMOCHI_WORKERS": str(workers)}) as swap:

        def work() -> None:
            for i in range(swaps):
                version = str(1 + (i + 1) % 3)
                swap.declare(version)
                for _ in range(5 * workers):  # each from a connection of its own, so from any worker
                    swap.wait(linear=version)

        load = asyncio.run(under_load(swap.server, work))
        assert not load.wrong, load.wrong[:5]
        assert set(load.answered) == {"1", "2", "3"}
        figures[f"swapped_under_load_{workers}"] = {"swaps": swaps, "answered": len(load.seconds), "lost": 0}
