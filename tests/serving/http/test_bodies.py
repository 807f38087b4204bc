"""The memory of bodies is bounded over all requests: who sends many large ones is refused, others are not."""

from __future__ import annotations

import json
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from serving.errors import Problem
from serving.grpc import schema
from serving.http.bodies import Bodies
from serving.protocols import LARGE_BODY_BYTES
from tests.bento_server import bento_server, prepare
from tests.faults.wire import Reply, address, request, unread
from tests.servers import PATIENCE_S, free_port
from tests.serving.grpc.calls import channel_to, method

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server
    from tests.serving.artifacts import Made

MAX_BYTES = 400_000
LARGE = request("/models/linear/predict", b'{"x": 5}'.ljust(MAX_BYTES - 10))
SMALL = request("/models/linear/predict?lane=gateway", b'{"x": 5}')


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {"grpc": free_port()}


@pytest.fixture(scope="module")
def server(
    made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory, ports: dict[str, int]
) -> Iterator[Server]:
    """All bodies may have twice the largest one, so one caller may have one of that size."""
    folder = tmp_path_factory.mktemp("bodies") / "work"
    prepare(folder, {"linear": (made["linear"].path, "1")})
    settings = {
        "OKAMOCHI_MAX_BODY_BYTES": str(MAX_BYTES),
        "OKAMOCHI_BODIES_BYTES": "1024",
        "OKAMOCHI_GRPC_PORT": str(ports["grpc"]),
    }
    with bento_server(folder, settings=settings) as started:
        yield started


def begun(server: Server, stack: ExitStack, source: str = "127.0.0.1") -> socket.socket:
    """A connection that has sent most of a large body and no more, which the server has read."""
    connection = stack.enter_context(socket.create_connection(address(server), PATIENCE_S, (source, 0)))
    connection.sendall(LARGE[:-1_000])
    until = time.monotonic() + PATIENCE_S
    while any(unread(server)):
        assert time.monotonic() < until
        time.sleep(0.02)
    return connection


def reply_to(server: Server, whole: bytes, source: str = "127.0.0.1") -> Reply:
    """The reply to a client at an address of its own."""
    with socket.create_connection(address(server), PATIENCE_S, (source, 0)) as connection:
        return sent(connection, whole)


def sent(connection: socket.socket, data: bytes) -> Reply:
    connection.sendall(data)
    with connection.makefile("rb") as file:
        status = int(file.readline().split()[1])
        headers: dict[str, str] = {}
        while line := file.readline().strip():
            key, _, value = line.decode("latin-1").partition(":")
            headers[key.lower()] = value.strip()
        return Reply(status, headers, file.read(int(headers["content-length"])))


def answered_again(server: Server) -> None:
    """Wait until the server has seen that clients have left, and given their memory back."""
    until = time.monotonic() + PATIENCE_S
    while (reply := reply_to(server, LARGE)).status != 200:
        assert reply.status == 429
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_caller_has_at_most_half_and_others_are_answered(server: Server) -> None:
    with ExitStack() as stack:
        waiting = begun(server, stack)
        refused = reply_to(server, LARGE)
        assert refused.status == 429
        assert refused.headers["retry-after"] == "1"
        assert "OKAMOCHI_BODIES_BYTES" in json.loads(refused.body)["detail"]
        assert reply_to(server, SMALL).status == 200
        assert reply_to(server, LARGE, "127.0.0.2").status == 200
        assert sent(waiting, LARGE[-1_000:]).status == 200
    answered_again(server)


def test_all_callers_together_have_at_most_the_setting(server: Server) -> None:
    with ExitStack() as stack:
        for source in ("127.0.0.2", "127.0.0.3"):
            begun(server, stack, source)
        assert b"all callers" in reply_to(server, LARGE).body
        assert reply_to(server, SMALL).status == 200
    answered_again(server)


def test_a_message_of_grpc_counts_with_the_bodies(server: Server, ports: dict[str, int]) -> None:
    def infer() -> Any:
        with channel_to(f"127.0.0.1:{ports['grpc']}") as channel:
            call = schema.ModelInferRequest(model_name="linear", id="i" * (MAX_BYTES - 1_000))
            with pytest.raises(grpc.RpcError) as found:
                method(channel)(call, timeout=PATIENCE_S)
            return found.value

    assert infer().code() == grpc.StatusCode.INVALID_ARGUMENT  # it has no inputs
    with ExitStack() as stack:
        begun(server, stack)
        refused = infer()
        assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "OKAMOCHI_BODIES_BYTES" in refused.details()
    answered_again(server)
    assert infer().code() == grpc.StatusCode.INVALID_ARGUMENT


def test_what_is_given_back_can_be_taken_again() -> None:
    """The first 64 KiB of a body are free, and a body gives back what it was counted with, once."""
    bodies = Bodies(4_000, 1_000)
    for _ in range(3):
        held = [bodies.of(lambda: "a"), bodies.of(lambda: "a"), bodies.of(lambda: "b")]
        for each in held:
            each.hold(LARGE_BODY_BYTES)
        assert bodies.bytes == 0
        held[0].hold(1_500)
        held[1].hold(500)
        with pytest.raises(Problem, match="this caller hold 2000 bytes"):
            held[1].hold(1)
        held[2].hold(2_000)
        with pytest.raises(Problem, match="all callers hold 4000 bytes"):
            held[2].hold(1)
        for each in [*held, *held]:
            each.release()
        assert bodies.bytes == 0
