"""What is counted of one part, made into its share of a request at full speed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import parts
from benchmarks.parts import PARTS, Counted, Part


def test_what_a_part_does_under_callgrind_is_related_to_full_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is always paid counts whole, what is done so often a second as much less as callgrind slows it."""

    def count(_setting: Any, _dialect: Any, part: Part, more: dict[str, str]) -> Counted:
        if part is parts.OFF:
            return Counted(100_000, rate=500)
        if more is part.rarely:
            return Counted(101_000, rate=500)
        if part.fraction:
            assert float(more[part.fraction]) == pytest.approx(0.4)  # 40 times slower, 40 times as often
            return Counted(141_000, rate=400)
        return Counted(151_000, rate=400)

    monkeypatch.setattr(parts, "count", count)
    setting: Any = SimpleNamespace(prepared=SimpleNamespace(name="logistic"))
    dialect: Any = None
    off, *found = parts.measure(lambda: setting, dialect, peak=20_000)

    assert (off.fraction, [one.title for one in found]) == (0, [part.title for part in PARTS])
    for part, one in zip(PARTS, found, strict=True):
        assert one.fraction == pytest.approx(0.01 + (0.40 / 40 if part.fraction else 0.50 / 50))
