"""Malformed messages at the gRPC port: none harms a worker."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.faults.wire import workers
from tests.servers import free_port
from tests.serving.grpc.calls import channel_to, message, method, send_malformed

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.servers import Server

MESSAGES = 10_000
KNOWN = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"}


def test_malformed_messages_get_refusals_and_harm_no_worker(
    serve: Callable[..., AbstractContextManager[Server]], figures: dict[str, Any]
) -> None:
    """10,000 of them; tests/serving/grpc sends some hundred."""
    port = free_port()
    with serve(models=("iris", "loans"), OKAMOCHI_GRPC_PORT=str(port)) as server:
        before = [worker.pid for worker in workers(server)]
        with channel_to(f"127.0.0.1:{port}") as channel:
            codes = Counter(send_malformed(channel, MESSAGES))
            assert method(channel)(message()).model_name == "iris"
        after = [worker.pid for worker in workers(server)]
    figures["malformed_grpc"] = {"sent": MESSAGES, "codes": dict(codes)}

    assert codes.keys() <= KNOWN, codes
    assert after == before
