"""The audit log: every answered request is in it, with who asked, and no value."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from serving.access import keys
from serving.observe import audit, metrics
from serving.observe.audit import Audit
from tests.bento_server import bento_server, prepare
from tests.serving.http.lanes import BODY, HOST, one_by_one, request

if TYPE_CHECKING:
    from tests.serving.artifacts import Made


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("express", ["1", "0"])
def test_every_request_of_a_server_is_counted(made: dict[str, Made], tmp_path: Path, express: str) -> None:
    folder = tmp_path / "work"
    prepare(folder, {"iris": (made["iris"].path, "12")})
    secret, key = keys.make("shop", ["predict"])
    other, another = keys.make("ops", ["observe"])
    often, few = keys.make("often", ["predict"], rate="1/d")
    keys.write(tmp_path / "keys.json", [key, another, few])
    settings = {
        "OKAMOCHI_EXPRESS": express,
        "OKAMOCHI_KEYS": str(tmp_path / "keys.json"),
        "OKAMOCHI_AUDIT_LOG": str(tmp_path / "audit.jsonl"),
    }
    good = request(headers=(HOST, f"X-API-Key: {secret}"))
    with bento_server(folder, settings=settings, ready="/livez") as server:
        assert one_by_one(server, [good] * 25) == [200] * 25
        assert one_by_one(server, [request(b"{}", headers=(HOST, f"X-API-Key: {secret}"))]) == [422]
        assert one_by_one(server, [request(path="/models/iris/predict")] * 3) == [401] * 3
        assert one_by_one(server, [request(headers=(HOST, f"X-API-Key: {other}")), request()]) == [403, 401]
        assert one_by_one(server, [request(headers=(HOST, f"X-API-Key: {often}"))] * 3) == [200, 429, 429]
        assert one_by_one(server, [request(path="/nowhere", headers=(HOST, f"X-API-Key: {other}"))]) == [404]
        assert one_by_one(server, [request(path="/feedback", headers=(HOST, f"X-API-Key: {secret}"))]) == [
            403
        ]
        server.process.terminate()
        server.process.wait(60)
    found: Counter[tuple[Any, ...]] = Counter()
    for line in lines(tmp_path / "audit.jsonl"):
        assert list(line) == ["time", "caller", "model", "version", "endpoint", "status", "requests"]
        if line["endpoint"] not in ("livez", "health"):
            found[line["caller"], line["model"], line["version"], line["status"]] += line["requests"]
    assert found == {
        ("shop", "iris", "12", 200): 25,
        ("shop", "iris", "12", 422): 1,
        (None, "iris", "12", 401): 4,
        ("ops", "iris", "12", 403): 1,
        ("often", "iris", "12", 200): 1,
        ("often", "iris", "12", 429): 2,
        ("ops", None, None, 404): 1,
        ("shop", None, None, 403): 1,
    }
    logged = [json.loads(line) for line in server.log.read_text().splitlines() if '"status":4' in line]
    told = Counter((line.get("principal"), line["status"]) for line in logged)
    assert told[("ops", 403)] == told["shop", 403] == told["shop", 422] == 1
    assert told["often", 429] == 2
    assert told[(None, 401)] == 4
    text = (tmp_path / "audit.jsonl").read_text()
    assert secret not in text
    assert json.loads(BODY)["features"][0][0] == 5.1
    assert "5.1" not in text
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_disk_that_takes_nothing_keeps_lines_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MAX_LINES", 10)
    folder = tmp_path / "absent"
    log = Audit(folder / "audit.jsonl")
    before = metrics.AUDIT_LOST._value.get()

    async def ask(status: int) -> None:
        for i in range(15):
            log(f"caller{i}", "iris", "12", "predict", status)
        log._flush()

    asyncio.run(ask(200))
    log._write()
    assert metrics.AUDIT_LOST._value.get() - before == 5
    folder.mkdir()
    log._write()
    assert len(lines(folder / "audit.jsonl")) == 10
    (folder / "audit.jsonl").rename(folder / "moved")
    asyncio.run(ask(429))
    log.close()
    assert [line["status"] for line in lines(folder / "audit.jsonl")] == [429] * 10


def test_a_line_that_a_full_disk_cuts_is_written_again() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    log = Audit(full)

    async def ask() -> None:
        log("shop", "iris", "12", "predict", 200)
        log._flush()

    asyncio.run(ask())
    log._write()
    assert len(log._waiting) == 1
