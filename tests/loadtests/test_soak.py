"""What a soak makes of its samples, and a short one of a real server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from loadtests import soak
from loadtests.soak import Sample, mb_per_million

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers import Server


def samples(growth: float, *, noise: float = 0.0) -> list[Sample]:
    """A quarter of an hour at 20,000 requests a second; it also grows by 30 MB in its first three minutes."""
    return [
        Sample(
            seconds,
            20_000 * seconds,
            130.0
            + min(30.0, seconds / 6)
            + growth * 0.02 * max(0, seconds - 180)
            + noise * (-1) ** (seconds // 15),
        )
        for seconds in range(15, 901, 15)
    ]


@pytest.mark.parametrize("growth", [0.0, 0.5, 3.0, -1.0])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_growth_is_measured_after_the_warm_up(growth: float, noise: float) -> None:
    found = mb_per_million(samples(growth, noise=noise), 180)

    assert found == pytest.approx(growth, abs=0.05 + noise / 4)


def test_too_few_samples_have_no_growth() -> None:
    assert mb_per_million(samples(1.0)[:14], 180) is None
    assert mb_per_million([], 0) is None


@pytest.mark.parametrize(("growth", "code"), [(1.9, 0), (2.1, 1)])
def test_the_bound_is_two_megabytes_a_million(
    growth: float, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert soak.conclude(samples(growth), 180, tmp_path / "reports" / "soak.json") == code

    assert json.loads((tmp_path / "reports" / "soak.json").read_text())["allowed"] == 2
    assert capsys.readouterr().out.startswith("FAILED" if code else "PASSED")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seconds", "10", "--warm-up", "10"], "--warm-up is 10; expected more than 0 and less than"),
        (["--host", "http://192.0.2.7:3000"], "the server must be on this machine"),
        (["--host", "http://127.0.0.1:1"], "Nothing answers at http://127.0.0.1:1 "),
    ],
)
def test_a_slip_is_one_sentence_and_exit_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert soak.main(arguments) == 2

    assert said in capsys.readouterr().err


def test_a_short_soak_of_a_real_server_samples_its_worker(
    program: Callable[[str], str],
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every answer is 200, and the process that works is found by its port."""
    program("wrk")
    monkeypatch.setattr(soak, "CONNECTIONS", 4)  # this server's queue is short
    out = tmp_path / "soak.json"

    soak.main(["--host", server.url, "--seconds", "6", "--warm-up", "1", "--out", str(out)])

    found = json.loads(out.read_text())
    assert len(found["samples"]) >= 5
    assert found["samples"][-1]["requests"] > 1000
    assert all(50 < sample["pss_mb"] < 1000 for sample in found["samples"])
    assert "per million requests" in capsys.readouterr().out
