"""Locust in the cluster: what the component loadtest says of the server, as its Job's end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from deploy.cluster import NAME
from tests.cluster.place import Place
from tests.k8s.rendering import compose, render

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.deployment import Served

WITHIN_REACH = "[steady]\np99_ms = 10000\nerror_rate = 0\ngoodput = 0.5\n"
OUT_OF_REACH = "[steady]\np50_ms = 0.001\nerror_rate = 0\n"


@pytest.mark.usefixtures("loadtests_image")
@pytest.mark.parametrize(
    ("objectives", "end", "verdict"),
    [
        pytest.param(WITHIN_REACH, "Complete", "PASSED", id="met"),
        pytest.param(OUT_OF_REACH, "Failed", "FAILED: p50", id="missed"),
    ],
)
def test_the_job_ends_as_its_verdict_says(
    served: Served, tmp_path: Path, objectives: str, end: str, verdict: str
) -> None:
    """With objectives of one's own; two workers report, and the three servers' counts agree."""
    settings = {
        "USERS": "20",
        "SECONDS_IN_ALL": "15",
        "PACE": "5",
        "OBJECTIVES": "/config/mine.toml",
        "mine.toml": objectives,
    }
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "okamochi-loadtest"}}
    objects = render(
        compose(
            tmp_path / "overlay",
            "loadtest",
            on="",
            patches=[{"patch": yaml.safe_dump(config | {"data": settings})}],
        )
    )
    here = Place(served.cluster.context, NAME)
    here.apply(objects)
    try:
        ended = here.job("okamochi-loadtest")
        log = here.log("okamochi-loadtest")
        workers = here.job("okamochi-loadtest-workers") if ended == "Complete" else ""
    finally:
        here.kubectl("delete", "-f", "-", "--cascade=foreground", given=yaml.safe_dump_all(objects))

    assert ended == end, log
    assert verdict in log
    if end == "Complete":
        assert workers == "Complete"
