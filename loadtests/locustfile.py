"""Locust's file: users of each protocol. `locust -f loadtests/locustfile.py --host http://127.0.0.1:3000`."""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, ClassVar

from locust import FastHttpUser, events, task
from locust.exception import StopUser

sys.path.append(str(Path(__file__).resolve().parent.parent))  # Locust loads this file from anywhere

from loadtests import run, target
from loadtests.payloads import check
from loadtests.protocols import INFER, INVOCATIONS, PREDICT, WrongAnswerError

if TYPE_CHECKING:
    from locust.env import Environment

    from loadtests.payloads import Request
    from loadtests.protocols import Protocol
    from loadtests.tally import Outcome
    from loadtests.traffic import Traffic

run.attach(events)

HEADERS = {"Content-Type": "application/json", **target.key_header()}
SHED = 429


class ModelUser(FastHttpUser):
    """Sends a request whenever one is due, and checks each answer."""

    abstract = True
    protocols: ClassVar[tuple[Protocol, ...]] = ()
    concurrency = 1
    connection_timeout = 10.0
    network_timeout = 60.0

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._due: float | None = None
        self._waited = False

    def on_start(self) -> None:
        """Join the test that has begun."""
        found: run.Run = self.environment.okamochi
        if found.broken or found.traffic is None:
            raise StopUser  # the run prints the reason
        self._traffic: Traffic = found.traffic
        for protocol in self.protocols:
            found.traffic.prepare(protocol)
        self._pace = found.traffic.pace()

    def wait_time(self) -> float:
        """Seconds until a request is due; Locust may end a user that waits."""
        self._due = self._traffic.next_due(self._pace)
        seconds = self._due - perf_counter()
        self._waited = seconds > 0
        return max(0.0, seconds)

    def ask(self, protocol: Protocol) -> None:
        """Send one request; its time is measured from when it was due."""
        if self._due is None:
            return  # Locust starts with a task, not with a wait
        traffic, due = self._traffic, self._due
        if traffic.closed:
            raise StopUser
        request, path = traffic.request(protocol), protocol.path(traffic.model)
        traffic.sending(due, waited=self._waited)
        try:
            status, outcome, milliseconds = self._exchange(protocol, path, request, due)
        except BaseException:  # Locust's GreenletExit is not an Exception
            traffic.cut_off(protocol, due)
            raise
        traffic.over(protocol, due, status, outcome, milliseconds)

    def _exchange(
        self, protocol: Protocol, path: str, request: Request, due: float
    ) -> tuple[int, Outcome, float]:
        traffic = self._traffic
        with self.client.post(path, data=request.body, headers=HEADERS, catch_response=True) as response:
            milliseconds = max(0.0, perf_counter() - due) * 1000
            response.request_meta["response_time"] = milliseconds
            status = response.status_code
            if status == SHED:
                if traffic.shed_allowed:
                    response.request_meta["name"] += " (429)"
                    response.success()
                return status, "shed", milliseconds
            if status == 200:
                try:
                    check(protocol, traffic.model, request, response.content)
                except WrongAnswerError as error:
                    response.failure(f"wrong answer: {error}")
                else:
                    return status, "good", milliseconds
        return status, "error", milliseconds


class PredictUser(ModelUser):
    """The server's own `/predict`."""

    protocols = (PREDICT,)

    @task
    def predict(self) -> None:
        self.ask(PREDICT)


class OipUser(ModelUser):
    """The Open Inference Protocol, `/v2`."""

    protocols = (INFER,)

    @task
    def infer(self) -> None:
        self.ask(INFER)


class MlflowUser(ModelUser):
    """MLflow's `/invocations`."""

    protocols = (INVOCATIONS,)

    @task
    def invocations(self) -> None:
        self.ask(INVOCATIONS)


class MixedUser(ModelUser):
    """All three protocols on one connection."""

    protocols = (PREDICT, INFER, INVOCATIONS)

    @task(3)
    def predict(self) -> None:
        self.ask(PREDICT)

    @task
    def infer(self) -> None:
        self.ask(INFER)

    @task
    def invocations(self) -> None:
        self.ask(INVOCATIONS)
