"""The usual call of `ModelInfer`: answered in callbacks, without a future and a task of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from serving.errors import Problem, server_failed
from serving.grpc.call import Call
from serving.grpc.messages import response_of
from serving.grpc.replies import late, refuse, trailers_of
from serving.protocols.data_plane import digits_of
from serving.protocols.oip.endpoint import ENCODED

if TYPE_CHECKING:
    from serving.grpc.stream import Stream
    from serving.protocols import Endpoint, Reply
    from serving.scoring.batcher import Ticket
    from serving.scoring.scores import Scores
    from serving.settings import Settings


class Service(Protocol):
    """What a call needs of its service."""

    settings: Settings

    def tell(self, name: str, reply: Reply, call: Call, endpoint: Endpoint | None = None) -> None:
        """Count, audit and log an answered call."""


class QuickCall:
    """See the module.

    Parameters
    ----------
    query
        Of `plain_query`.
    raw
        See `response_of`.
    """

    __slots__ = ("_call", "_endpoint", "_query", "_raw", "_service", "_stream", "_ticket")

    def __init__(
        self, service: Service, stream: Stream, endpoint: Endpoint, query: Any, *, raw: bool
    ) -> None:
        self._service = service
        self._stream = stream
        self._endpoint = endpoint
        self._query = query
        self._raw = raw
        self._call = Call(stream)
        self._ticket: Ticket | None = None

    def begin(self, path: str) -> None:
        """Admit the call and queue its rows."""
        call, stream, query = self._call, self._stream, self._query
        try:
            call.admit("POST", path)
            due, explicit = self._deadline()
            stream.left = self._left
            batcher = self._endpoint.model.batcher
            ticket = batcher.submit(query.rows, query.n, self._scored, due, explicit=explicit)
            if not stream.is_over:
                self._ticket = ticket
        except Problem as problem:
            self._refuse(problem)
        except Exception as error:  # noqa: BLE001 - a bug is a 500 and a line in the log
            self._refuse(server_failed(error))

    def _deadline(self) -> tuple[float, bool]:
        """As `serving.protocols.deadline`, for a query without a deadline of its own."""
        call, settings = self._call, self._service.settings
        timeout, ms = self._stream.timeout, call.head.deadline_ms
        if timeout is None and ms is None:
            return call.started + min(settings.default_deadline_ms, settings.max_deadline_ms) / 1000, False
        seconds = settings.max_deadline_ms / 1000
        if timeout is not None and timeout < seconds:
            seconds = timeout
        if ms is not None and ms / 1000 < seconds:
            seconds = ms / 1000
        return call.started + seconds, True

    def _scored(self, scores: Scores | None, first: int, problem: Problem | None) -> None:
        """The batcher has scored the rows, or not."""
        call, endpoint = self._call, self._endpoint
        if scores is None:
            self._refuse(problem or Problem(500, "There are no scores."))
            return
        call.scores = scores
        try:
            digits = digits_of(call.principal, self._service.settings)
            reply = endpoint.answer(self._query, scores.rounded(digits) if digits else scores, first)
            encoded = reply.content_type is ENCODED
            response = reply.body if encoded else response_of(reply, raw=self._raw)
        except Problem as found:
            self._refuse(found)
            return
        except Exception as error:  # noqa: BLE001 - as above
            self._refuse(server_failed(error))
            return
        self._service.tell(endpoint.name, reply, call, endpoint)
        self._stream.reply(response, trailers_of(reply, call.head))

    def _refuse(self, problem: Problem) -> None:
        call, endpoint = self._call, self._endpoint
        reply = endpoint.refuse(call.named(problem))
        self._service.tell(endpoint.name, reply, call, endpoint)
        self._stream.start(refuse(self._stream, call, reply))

    def _left(self) -> None:
        """The client has left: its rows leave the queue."""
        if self._ticket is not None:
            self._endpoint.model.batcher.cancel(self._ticket)
        if self._call.is_late:
            reply = self._endpoint.refuse(self._call.named(late()))
            self._service.tell(self._endpoint.name, reply, self._call, self._endpoint)
