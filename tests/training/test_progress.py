"""What a person sees of a step that takes long."""

from __future__ import annotations

import time

import pytest

from training import progress
from training.deadline import Deadline
from training.progress import Progress, in_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (8.2, "8 s"), (42, "40 s"), (94, "95 s"), (150, "2:30 min"), (718, "12 min")],
)
def test_a_duration_reads_as_a_person_would_say_it(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_a_long_step_is_heard_of_and_a_short_one_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LONG_S", 0.05)
    seen = Progress()
    seen.terminal = False
    with seen.long("fitting CatBoost", 75.0):
        end = time.monotonic() + 20
        said = ""
        while not said and time.monotonic() < end:
            time.sleep(0.02)
            said = capsys.readouterr().err
    assert said.strip().startswith("fitting CatBoost: 1 s of about 75 s")
    monkeypatch.setattr(progress, "LONG_S", 60.0)
    with seen.long("fitting a line", 0.1):
        pass
    assert not capsys.readouterr().err


def test_a_stage_says_how_long_the_run_still_takes(capsys: pytest.CaptureFixture[str]) -> None:
    seen = Progress()
    seen.terminal = False
    seen.stage("fitting the best", 130.0)
    assert capsys.readouterr().err.endswith("s] fitting the best, about 2:10 min left\n")


def test_a_deadline_is_set_by_a_timeout_only() -> None:
    assert not Deadline.after(None).set
    assert Deadline.after(None).left_s == float("inf")
    assert 0 < Deadline.after(60.0).left_s <= 60.0
    assert Deadline.after(0.0).left_s == 0
