"""The ASGI application: every route, and whatever the express lane does not take.

It is outermost, so a path that it does not know never reaches BentoML's own stack. Each request is first of
all asked about at `access.admit`, whatever its path.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from serving.errors import Problem, method_not_allowed, overloaded, server_failed
from serving.http import access, pages
from serving.http.asgi import close_unless_read, read_body, send_reply, unless_left
from serving.http.head import as_sent, is_request_id, name_request, read_head
from serving.http.openapi import docs_page, document
from serving.observe import metrics
from serving.observe.logs import RequestLog
from serving.observe.scrapes import Scrapes
from serving.observe.supervised import Pool
from serving.prediction_log import capture, feedback
from serving.prediction_log.record import GivenUpError, NotYetError, Until
from serving.protocols import (
    LARGE_BODY_BYTES,
    Endpoint,
    Head,
    Reply,
    deadline,
    mlflow,
    oip,
    predict,
    problem_reply,
    score,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from serving.http.asgi import App, Message, Receive, Scope, Send
    from serving.observe.traces import Tracer
    from serving.scoring.batcher import Scores
    from serving.scoring.catalog import Catalog, LiveModel
    from serving.settings import Settings

PROTOCOLS = (predict, oip, mlflow)
JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"


@dataclass(frozen=True)
class Page:
    """A route that is answered without a body being read: GET and HEAD."""

    endpoint: str
    answer: Callable[[], Reply | Awaitable[Reply]]


class Gateway:
    """See the module.

    Parameters
    ----------
    bentoml_app
        BentoML's own application, for the lifespan and for `passed_on`.
    passed_on
        Paths of BentoML's that GET and HEAD may reach.
    score_path
        Of the API that BentoML's clients use; empty for none.
    on_started
        Called once the application has started, before the first request.
    """

    def __init__(
        self,
        bentoml_app: App,
        catalog: Catalog,
        settings: Settings,
        *,
        passed_on: Iterable[str] = (),
        score_path: str = "",
        on_started: Callable[[], None] = lambda: None,
        tracer: Tracer | None = None,
    ) -> None:
        self._bentoml = bentoml_app
        self.catalog = catalog
        self.settings = settings
        self._on_started = on_started
        self._observe = metrics.Observer("gateway")
        self._log = RequestLog("gateway", settings.log_sample, tracer)
        self._passed_on = frozenset(passed_on)
        self._readers = Pool("reading", 2)
        self._scrapes = Scrapes()
        self._score_path = score_path
        self.endpoints: dict[str, Endpoint] = {}
        for protocol in PROTOCOLS:
            self.endpoints.update(protocol.endpoints(catalog))
        if score_path:
            self.endpoints.update(score.endpoints(catalog, score_path))
        self.predictions = capture.open_log(settings)
        if self.predictions is not None:
            self.endpoints = self.predictions.logged(self.endpoints)
            self.predictions.start()
        self._feedback = feedback.Feedback(catalog, self.predictions)
        self._tellers = Pool("feedback", 2)
        openapi = msgspec.json.encode(document(catalog, settings))
        docs = pages.page(docs_page(catalog, settings))
        self._pages: dict[str, Page] = {
            "/livez": Page("health", lambda: Reply(200, TEXT, b"alive\n")),
            "/readyz": Page("health", self._readyz),
            "/metrics": Page("metrics", self._metrics),
            "/models": Page("models", self._models),
            "/openapi.json": Page("docs", lambda: Reply(200, JSON, openapi)),
            "/": Page("docs", pages.first),
            pages.FIRST: Page("docs", lambda: docs),
        }
        self._pages |= {path: Page("v2", answer) for path, answer in oip.pages(catalog).items()}
        self._pages |= {path: Page("mlflow", answer) for path, answer in mlflow.pages(catalog).items()}
        for name in catalog.names:
            self._pages[f"/models/{name}"] = Page("models", lambda name=name: self._model(name))  # type: ignore[misc]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "http":
            if any(name == b"expect" for name, _ in scope["headers"]):
                receive, send = close_unless_read(receive, send)
            endpoint = self.endpoints.get(scope["path"])
            if endpoint is not None and scope["method"] == "POST":
                await self._predict(endpoint, scope, receive, send)
            else:
                await self._other(endpoint, scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    # ---- predictions

    async def _predict(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        asked = Asked(scope)
        try:
            asked.principal = access.admit(_asking(scope))
            asked.head = read_head(scope["headers"], endpoint.content_types)
            body = await read_body(receive, asked.head.length, self.settings.max_body_bytes)
            if body is None:
                return  # the client left before it had sent all
            reply = await self._answer(endpoint, body, asked, receive)
            if reply is None:
                return
        except Problem as problem:
            reply = endpoint.refuse(asked.named(problem))
        except Exception as error:  # noqa: BLE001 - a bug is a 500 and a line in the log
            reply = endpoint.refuse(asked.named(server_failed(error)))
        seconds = perf_counter() - asked.started
        self._observe(endpoint.model.name, endpoint.name, reply.status, seconds, reply.reason)
        self._tell(endpoint.name, reply, asked, endpoint)
        await send_reply(send, reply, asked.name)

    def _tell(self, name: str, reply: Reply, asked: Asked, endpoint: Endpoint | None = None) -> None:
        self._log(
            name,
            reply,
            asked.started,
            endpoint=endpoint,
            head=asked.head,
            model=asked.model,
            queued=asked.queued,
            scores=asked.scores,
            request_id=asked.request_id,
            problem=asked.problem,
            principal=asked.principal.name if asked.principal is not None else "",
        )

    async def _answer(self, endpoint: Endpoint, body: bytes, asked: Asked, receive: Receive) -> Reply | None:
        """The reply, or None for a client that has left."""
        loop = asyncio.get_running_loop()
        head = asked.head
        large = len(body) >= LARGE_BODY_BYTES
        if large:
            query = await loop.run_in_executor(self._readers, endpoint.read, body, head)
        else:
            query = endpoint.read(body, head)
        future: asyncio.Future[tuple[Scores, int]] = loop.create_future()

        def scored(scores: Scores | None, first: int, problem: Problem | None) -> None:
            if future.done():
                return
            if scores is None:
                future.set_exception(problem or Problem(500, "There are no scores."))
            else:
                future.set_result((scores, first))

        batcher = endpoint.model.batcher
        due, explicit = deadline(head, query, asked.started, self.settings)
        asked.queued = perf_counter()
        ticket = batcher.submit(query.rows, query.n, scored, due, explicit=explicit)
        try:
            if not large and not batcher.slow:
                found: tuple[Scores, int] | None = await future
            else:
                found = await unless_left(future, receive)
        finally:
            batcher.cancel(ticket)
        if found is None:
            return None
        asked.scores = found[0]
        return endpoint.answer(query, *found)

    # ---- all else

    async def _other(self, endpoint: Endpoint | None, scope: Scope, receive: Receive, send: Send) -> None:
        asked = Asked(scope, endpoint.model if endpoint is not None else None)
        path, method = scope["path"], scope["method"]
        page = self._pages.get(path)
        name = endpoint.name if endpoint is not None else page.endpoint if page else "other"
        try:
            asked.principal = access.admit(_asking(scope))
            asked.head = read_head(scope["headers"], None)
            if path in self._passed_on and method in ("GET", "HEAD"):
                name = "bentoml"
                await self._pass_on(name, asked, scope, receive, send)
                return
            if path == feedback.ROUTE and method == "POST":
                name = "feedback"
                found = await self._take_feedback(scope, receive)
                if found is None:
                    return
                reply = found
            else:
                reply = await self._page(page, path, method)
        except Problem as problem:
            reply = _refuse(path, asked.named(problem))
        except Exception as error:  # noqa: BLE001 - a bug is a 500 and a line in the log
            reply = _refuse(path, asked.named(server_failed(error)))
        model = asked.model.name if asked.model is not None else ""
        self._observe(model, name, reply.status, perf_counter() - asked.started, reply.reason)
        self._tell(name, reply, asked)
        await send_reply(send, reply, asked.name)

    async def _page(self, page: Page | None, path: str, method: str) -> Reply:
        if page is not None and method in ("GET", "HEAD"):
            reply = page.answer()
            return reply if isinstance(reply, Reply) else await reply
        allowed = self._allowed(path)
        if not allowed:
            raise self._not_found(path)
        if method == "OPTIONS":
            return Reply(204, b"", b"", ((b"allow", ", ".join(allowed).encode()),))
        name = self._refused(path)
        if name and method == "POST":
            self.catalog.model(name)  # raises the reason
        raise method_not_allowed(method, path, allowed)

    def _allowed(self, path: str) -> tuple[str, ...]:
        if path in self.endpoints or path == feedback.ROUTE or self._refused(path):
            return ("POST", "OPTIONS")
        if path in self._pages or path in self._passed_on:
            return ("GET", "HEAD", "OPTIONS")
        return ("GET", "HEAD", "POST", "OPTIONS") if path == "*" else ()  # the server as a whole

    def _refused(self, path: str) -> str:
        """The name of a model whose endpoint this would be, had it not been refused."""
        for name in self.catalog.refused:
            unnamed = {"/predict", mlflow.ROUTE, self._score_path} if name == self.catalog.default else set()
            routes = {predict.route_of(name)} | unnamed
            if path in routes:
                return name
        return ""

    def _not_found(self, path: str) -> Problem:
        if oip.owns(path):
            return oip.not_found(path, self.catalog)
        parts = path.split("/")
        if path.startswith("/models/") and len(parts) > 2 and parts[2] not in self.catalog.names:
            try:
                self.catalog.model(parts[2][:100])
            except Problem as problem:
                return problem
        return Problem(404, f"There is no {path[:200]!r} here; /docs lists what there is.")

    async def _pass_on(self, name: str, asked: Asked, scope: Scope, receive: Receive, send: Send) -> None:
        """Let BentoML answer; what it refuses or fails at has its line as well."""

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                asked.request_id = name_request(asked.head)
                self._tell(name, Reply(message["status"], b"", b""), asked)
                named = (b"x-request-id", asked.request_id.encode("latin-1"))
                message = {**message, "headers": [*message["headers"], named]}
            await send(message)

        await self._bentoml(scope, receive, noted)

    async def _take_feedback(self, scope: Scope, receive: Receive) -> Reply | None:
        head = read_head(scope["headers"], ("application/json",))
        body = await read_body(receive, head.length, self.settings.max_body_bytes)
        if body is None:
            return None
        until = Until(perf_counter() + self.settings.default_deadline_ms / 1000)
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(
                    self._tellers, self._feedback.answer, body, until
                )
            except NotYetError as error:
                await asyncio.sleep(error.after_s)
            except GivenUpError:
                raise overloaded("Too busy: the feedback waited until its deadline.", "deadline", 1) from None

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def tell(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._on_started()
            elif message["type"] == "lifespan.shutdown.complete":
                self.catalog.close()
                if self.predictions is not None:
                    await asyncio.get_running_loop().run_in_executor(None, self.predictions.close)
            await send(message)

        await self._bentoml(scope, receive, tell)

    # ---- pages

    def _readyz(self) -> Reply:
        reasons = self.catalog.not_ready
        if reasons:
            raise Problem(503, f"Not ready: {reasons}", error=reasons)
        return Reply(200, TEXT, b"ready\n")

    async def _metrics(self) -> Reply:
        return Reply(200, metrics.CONTENT_TYPE, await self._scrapes.text())

    def _models(self) -> Reply:
        models = [model.description() for model in self.catalog.live.values()]
        return Reply(200, JSON, msgspec.json.encode({"default": self.catalog.default, "models": models}))

    def _model(self, name: str) -> Reply:
        return Reply(200, JSON, msgspec.json.encode(self.catalog.model(name).description()))


class Asked:
    """A request on its way, and what its line in the log and its spans will say."""

    __slots__ = (
        "head",
        "model",
        "principal",
        "problem",
        "queued",
        "request_id",
        "scope",
        "scores",
        "started",
    )

    def __init__(self, scope: Scope, model: LiveModel | None = None) -> None:
        self.started = perf_counter()
        self.scope = scope
        self.model = model
        self.principal: access.Principal | None = None
        self.problem: Problem | None = None  # why it was refused
        self.head = Head()
        self.queued: float | None = None  # when its rows were read
        self.scores: Scores | None = None
        self.request_id = ""

    @property
    def name(self) -> bytes | None:
        """For the header of the reply: what the client calls it, or we do where it was refused."""
        return self.request_id.encode("latin-1") if self.request_id else self.head.request_id

    def named(self, problem: Problem) -> Problem:
        """The problem with the name by which the log has this request."""
        self.problem = problem = as_sent(problem, self.head)
        if not self.head.headers:  # refused in its head, whose X-Request-Id may be well
            own = [value for name, value in self.scope["headers"] if name == b"x-request-id"]
            self.head = Head(request_id=own[-1] if own and is_request_id(own[-1]) else None)
        self.request_id = problem.request_id = name_request(self.head)
        return problem


def _asking(scope: Scope) -> access.Asking:
    return access.Asking(scope["method"], scope["path"], access.credentials_of(scope["headers"]))


def _refuse(path: str, problem: Problem) -> Reply:
    """A problem in the shape of the protocol that the path belongs to."""
    if mlflow.owns(path):
        return mlflow.refusal(problem)
    return oip.refusal(problem) if oip.owns(path) else problem_reply(problem)
