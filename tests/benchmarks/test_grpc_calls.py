"""The part of the benchmark that calls by gRPC, where its load generator is not installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import grpc_calls

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_without_its_load_generator_it_is_skipped_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That names the command which installs it; nothing is started or fitted."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("benchmarks.run.prepared_models", lambda: 1 / 0)

    assert grpc_calls.main([]) == 0
    assert "gRPC is not measured: ghz is not installed (go install" in capsys.readouterr().err
