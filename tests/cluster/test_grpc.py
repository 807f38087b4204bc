"""What a gRPC client notices while a Deployment is restarted: nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import grpc

from deploy.cluster import DEPLOYMENT, NAME
from serving.grpc import schema
from tests.cluster.deployment import steady

if TYPE_CHECKING:
    from types import TracebackType

    from tests.cluster.deployment import Served

CLIENTS = 16
EVERY_S = 0.04  # the pause of a client: 400 calls a second in all
PATIENCE_S = 15
CALLS = 10_000


class Calls:
    """A thread that calls `ModelInfer` until it is left; each client keeps one connection, as clients do."""

    def __init__(self, address: str, message: bytes) -> None:
        self._address = address
        self._message = message
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.answered = 0
        self.lost: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        self._thread.join()

    def until(self, answered: int) -> None:
        """Wait until so many calls have been answered."""
        while self.answered < answered:
            assert self._thread.is_alive()
            time.sleep(0.1)

    async def _run(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(CLIENTS)))

    async def _client(self) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._address, options) as channel:
            infer = channel.unary_unary(f"/{schema.SERVICE}/ModelInfer")
            while not self._leaving.is_set():
                try:
                    await infer(self._message, timeout=PATIENCE_S)
                    self.answered += 1
                except grpc.aio.AioRpcError as error:
                    self.lost[f"{error.code().name}: {error.details()}"] += 1
                await asyncio.sleep(EVERY_S)


def test_a_rolling_restart_loses_no_call_of_grpc(served: Served) -> None:
    """0 of at least 10,000, through the port `grpc` of the Service."""
    ports = served.cluster.get(f"service/{NAME}")["spec"]["ports"]
    (port,) = (each["nodePort"] for each in ports if each["name"] == "grpc")
    row = served.made.rows[0]
    message = schema.ModelInferRequest(model_name="breast_cancer")
    tensor = message.inputs.add(name="features", datatype="FP64", shape=[1, len(row)])
    tensor.contents.fp64_contents.extend(row)

    with Calls(f"{urlsplit(served.url).hostname}:{port}", message.SerializeToString()) as calls:
        calls.until(500)
        began = time.monotonic()
        served.cluster.kubectl("rollout", "restart", DEPLOYMENT)
        steady(served.cluster)
        seconds = time.monotonic() - began
        calls.until(CALLS)
    served.figures["rolling_restart_grpc"] = {
        "answered": calls.answered,
        "lost": sum(calls.lost.values()),
        "lost_by": dict(calls.lost),
        "seconds": round(seconds),
    }

    assert not calls.lost
