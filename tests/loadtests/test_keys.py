"""The programs that ask a server which wants a key: Locust, `make serve`, the commands of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from deploy import cluster, serve
from serving.access import keys
from tests.bento_server import bento_server, prepare
from tests.loadtests.conftest import lenient, locust

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Server
    from tests.serving.artifacts import Made

VARIABLE = "OKAMOCHI_CLIENT_KEY"
SECRET, KEY = keys.make("loadtest", ["predict", "observe"])


@pytest.fixture(scope="module")
def keyed(made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("keyed") / "work"
    prepare(folder, {"iris": (made["iris"].path, "1")})
    keys.write(folder / "keys.json", [KEY])
    with bento_server(folder, settings={"OKAMOCHI_KEYS": str(folder / "keys.json")}) as server:
        yield server


def test_locust_sends_its_key_and_says_where_it_lacks_one(
    keyed: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--host", keyed.url, "-u", "2", "-t", "2s", "--rate", "20", *lenient(tmp_path, "steady"))
    refused = locust(tmp_path, *options)
    assert refused.code == 2
    assert f"answers 401: set {VARIABLE} to a key with the roles predict and observe" in refused.err
    monkeypatch.setenv(VARIABLE, SECRET)
    done = locust(tmp_path, *options)
    assert (done.code, done.last) == (0, "PASSED"), done.out + done.err
    assert SECRET not in done.out + done.err + keyed.log.read_text()


def test_make_serve_greets_with_a_key_and_without(keyed: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    port = urlsplit(keyed.url).port
    assert port is not None
    assert serve.ready(port)
    (told,) = serve.greeting(port, 5001, followed=False)
    assert f"set {VARIABLE}" in told
    monkeypatch.setenv(VARIABLE, SECRET)
    lines = "\n".join(serve.greeting(port, 5001, followed=False))
    assert f'-H "X-API-Key: ${VARIABLE}"' in lines
    assert SECRET not in lines


def test_the_commands_of_a_cluster_send_the_key(keyed: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(cluster.DeployFailed, match=f"answers 401.*{VARIABLE}"):
        cluster.process_of(keyed.url)
    monkeypatch.setenv(VARIABLE, SECRET)
    assert cluster.process_of(keyed.url)
