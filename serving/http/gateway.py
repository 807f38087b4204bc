"""The ASGI application: every route, and every request that the express lane does not take.

It is outermost, so an unknown path never reaches BentoML's own stack. Each request first passes
`access.admit`, whatever its path.
"""

from __future__ import annotations

import asyncio
import math
import typing
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from serving.access.check import demand_admin
from serving.console.pages import ROUTE as CONSOLE
from serving.console.pages import Console
from serving.errors import Problem, method_not_allowed, server_failed
from serving.http import access, pages
from serving.http.asgi import close_unless_read, read_body, send_reply
from serving.http.bodies import Bodies
from serving.http.caller import CERTIFICATE, caller_of, is_local, presence_of
from serving.http.cors import cors_of
from serving.http.docs_page import docs_page
from serving.http.fair_queue import FairQueue, Place
from serving.http.head import as_sent, name_request, read_head, request_id_of
from serving.http.kept import Elsewhere, Seldom, kept
from serving.http.lane import lane
from serving.http.openapi import document
from serving.http.routes import Live, Page, Routes, heads_of
from serving.observe import metrics
from serving.observe.logs import RequestLog
from serving.observe.scrapes import Scrapes
from serving.observe.supervised import Pool
from serving.prediction_log import capture, feedback
from serving.protocols import Endpoint, Head, Protocol, Reply, data_plane, problem_reply
from serving.protocols.codings import compressed, expanded, negotiated
from serving.protocols.media import prefers
from serving.protocols.oip import repository as model_repository
from serving.protocols.registry import PROTOCOLS
from serving.roles.roles import Roles, alone
from serving.shared import Shared
from serving.waiting import Until, unless_left

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from serving.access.watch import KeysWatch
    from serving.http.asgi import App, Message, Receive, Scope, Send
    from serving.http.cors import Cors
    from serving.observe.traces import Tracer
    from serving.roles.canary import Split
    from serving.scoring.catalog import Catalog, LiveModel
    from serving.scoring.repository import Repository
    from serving.scoring.scores import Scores
    from serving.scoring.watch import Watch
    from serving.settings import Settings

JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"


class Beside(typing.Protocol):
    """Another transport in the same worker."""

    async def start(self) -> None:
        """Begin to listen."""

    async def end(self) -> None:
        """Take no new requests; return once those in progress are answered."""


class Gateway:
    """See the module.

    Parameters
    ----------
    bentoml_app
        BentoML's own application, for the lifespan and for `passed_on`.
    passed_on
        BentoML's paths that GET and HEAD may reach.
    on_started
        Called once the application has started, before the first request.
    shared
        What this worker shares with the others; None: it is the only one.
    lock
        The `models.lock` of this server, beside which a stopped canary is noted.

    Attributes
    ----------
    watch
        Changes what is live while the server runs, if it is set before the server starts.
    keys
        Follows the file of keys, if it is set before the server starts.
    repository
        Loads and unloads models by order, if it is set before the server starts.
    grpc
        Another way in, which starts and ends with HTTP, if it is set before the server starts.
    """

    watch: Watch | None = None
    keys: KeysWatch | None = None
    repository: Repository | None = None
    grpc: Beside | None = None

    def __init__(
        self,
        bentoml_app: App,
        catalog: Catalog,
        settings: Settings,
        *,
        passed_on: Iterable[str] = (),
        on_started: Callable[[], None] = lambda: None,
        tracer: Tracer | None = None,
        protocols: Sequence[Protocol] = PROTOCOLS,
        shared: Shared | None = None,
        lock: Path | None = None,
    ) -> None:
        self._bentoml = bentoml_app
        self.settings = settings
        self._on_started = on_started
        self._observe = metrics.Observer("gateway")
        self._log = RequestLog("gateway", settings.log_sample, tracer)
        self._passed_on = {path: Page("bentoml", Elsewhere(bentoml_app, path)) for path in passed_on}
        self._cors = cors_of(settings)
        self._gzip_bytes = settings.gzip_bytes or math.inf
        self._readers = Pool("reading", 2)
        self.bodies = Bodies(settings.bodies_bytes, settings.max_body_bytes)
        self._scrapes = Scrapes()
        self._protocols = protocols
        self.predictions = capture.open_log(settings)
        self.observe_express = metrics.Observer("express")
        self._roles = Roles(settings, self.predictions, shared or Shared(), lock)
        self._console = Console(self._roles.describe, _not_live) if settings.console else None
        self.live = Live(self.routes_of(catalog))
        if self._console is not None:
            self._console.events.note(None, catalog)
        if self.predictions is not None:
            self.predictions.start(self.live.versions)
        self._feedback = feedback.Feedback(lambda: self.catalog, self.predictions)
        self._feedback_queue = FairQueue(
            "feedback",
            threads=2,
            max_requests=settings.feedback_requests,
            max_bytes=settings.feedback_bytes,
        )

    # ---- what is live

    @property
    def catalog(self) -> Catalog:
        """The models that are live now."""
        return self.live.routes.catalog

    def routes_of(self, catalog: Catalog) -> Routes:
        """A snapshot of these models; the assignment `live.routes = routes_of(other)` makes it live."""
        endpoints, splits = self._roles.routes(catalog, self._endpoints_of)
        heads = heads_of(endpoints, splits, self.observe_express, self.settings)
        return Routes(catalog, endpoints, splits, self._pages_of(catalog), heads)

    def _endpoints_of(self, catalog: Catalog) -> dict[str, Endpoint]:
        endpoints: dict[str, Endpoint] = {}
        for protocol in self._protocols:
            endpoints.update(protocol.endpoints(catalog))
        return endpoints

    def publish(self, catalog: Catalog) -> None:
        """Make other models live; called from any thread."""
        before = self.catalog
        self.live.routes = self.routes_of(catalog)
        if self._console is not None:
            self._console.events.note(before, catalog)
        self._roles.keep_only(catalog)
        live = {(model.name, model.version) for model in catalog.loaded.values()}
        for observer in (self._observe, self.observe_express):
            observer.forget_all_but(live)

    def _pages_of(self, catalog: Catalog) -> dict[str, Page]:
        document_of = document(catalog, self.settings, self._protocols)
        openapi = msgspec.json.encode(document_of)
        described = {
            name: msgspec.json.encode(model.description() | {"tag": model.tag})
            for name, model in catalog.live.items()
        }
        docs = kept(pages.page(docs_page(catalog, document_of["paths"])))
        found = {
            "/livez": _prepared("health", TEXT, b"alive\n"),
            "/readyz": Page("health", lambda: _readyz(catalog)),
            "/metrics": Page("metrics", self._metrics),
            "/models": Page("models", Seldom(partial(self._models, catalog, described))),
            "/openapi.json": _prepared("docs", JSON, openapi),
            "/": Page("docs", partial(pages.first, pages.DOCS if self._console is None else CONSOLE)),
            pages.DOCS: Page("docs", lambda: docs),
        }
        for protocol in self._protocols:
            own = protocol.pages(catalog)
            for beside in catalog.beside.values():
                own = {**protocol.pages(alone(catalog, beside)), **own}
            found |= {path: Page(protocol.name, each) for path, each in own.items()}
        for name, about in described.items():
            found[f"/models/{name}"] = Page("models", Seldom(partial(self._model, catalog, name, about)))
        if self._console is not None:
            found |= {path: Page("console", answer) for path, answer in self._console.pages(catalog).items()}
        for name in catalog.refused:
            found[f"/models/{name}"] = Page("models", partial(_refused_model, catalog, name))
        return found

    def _models(self, catalog: Catalog, described: dict[str, bytes]) -> bytes:
        """All models; of these, only the versions beside champions change while this snapshot is live."""
        every = {
            "default": catalog.default,
            "models": [msgspec.Raw(self._model(catalog, name, about)) for name, about in described.items()],
            "not_live": _not_live(catalog),
        }
        return msgspec.json.encode(every)

    def _model(self, catalog: Catalog, name: str, about: bytes) -> bytes:
        beside = msgspec.json.encode(self._roles.describe(catalog, name))
        return b'%b,"beside":%b}' % (about[:-1], beside)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "http":
            if any(name == b"expect" for name, _ in scope["headers"]):
                receive, send = close_unless_read(receive, send)
            if self._cors is not None:
                send = self._cors.adding(scope["headers"], send)
                if scope["method"] == "OPTIONS" and self._cors.is_preflight(scope["headers"]):
                    await self._preflight(self._cors, scope, send)
                    return
            routes = self.live.routes  # the request ends with the snapshot that it began with
            endpoint = routes.endpoints.get(scope["path"])
            if endpoint is not None and scope["method"] == "POST":
                await self._predict(endpoint, routes.splits.get(scope["path"]), scope, receive, send)
            else:
                await self._other(routes, endpoint, scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    # ---- predictions

    async def _predict(
        self, endpoint: Endpoint, split: Split | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        context = RequestContext(scope)
        held = self.bodies.of(context.caller)
        try:
            context.principal = access.admit(_access_request(scope, endpoint.model.name))
            context.head = read_head(scope["headers"], endpoint.content_types)
            caller = context.principal.name if context.principal is not None else None
            if split is not None and split.picks(context.head.canary_key, caller):
                endpoint = split.endpoint
            body = await read_body(receive, context.head.length, self.settings.max_body_bytes, held.hold)
            if body is None:
                return  # the client left before it had sent all
            reply = await data_plane.answer(
                endpoint,
                body,
                context.head,
                context,
                settings=self.settings,
                readers=self._readers,
                left=receive,
            )
            if reply is None:
                return
        except Problem as problem:
            if problem.wait_s:
                await asyncio.sleep(problem.wait_s)
            reply = endpoint.refuse(context.named(problem))
        except Exception as error:  # noqa: BLE001 - a bug is a 500 and a line in the log
            reply = endpoint.refuse(context.named(server_failed(error)))
        finally:
            held.release()
        seconds = perf_counter() - context.started
        model = endpoint.model
        self._observe(model.name, model.version, endpoint.name, reply.status, seconds, reason=reply.reason)
        self._audit(endpoint.name, reply.status, context, model)
        self._tell(endpoint.name, reply, context, endpoint)
        await self._send(send, reply, context)

    def _audit(self, name: str, status: int, context: RequestContext, model: LiveModel | None) -> None:
        if lane.audit is None:
            return
        caller = context.principal.name if context.principal is not None else ""
        of = (model.name, model.version) if model is not None else ("", "")
        lane.audit(caller, *of, name, status)

    def _tell(
        self, name: str, reply: Reply, context: RequestContext, endpoint: Endpoint | None = None
    ) -> None:
        self._log(
            name,
            reply,
            context.started,
            endpoint=endpoint,
            head=context.head,
            model=context.model,
            queued=context.queued,
            scores=context.scores,
            request_id=context.request_id,
            problem=context.problem,
            principal=context.principal.name if context.principal is not None else "",
        )

    # ---- all else

    async def _other(
        self, routes: Routes, endpoint: Endpoint | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        context = RequestContext(scope, endpoint.model if endpoint is not None else None)
        path, method = scope["path"], scope["method"]
        page = self._page_at(routes, path)
        name = endpoint.name if endpoint is not None else page.endpoint if page else _name_of(path)
        try:
            model_name = endpoint.model.name if endpoint is not None else routes.catalog.default
            context.principal = access.admit(_access_request(scope, model_name))
            context.head = read_head(scope["headers"], None)
            if path == feedback.ROUTE and method == "POST":
                answered = await self._take_feedback(context, scope, receive)
            elif method == "POST" and model_repository.is_route(path):
                answered = await self._change_models(context, scope, receive)
            else:
                answered = await self._page(routes, page, path, method, context.head)
                if answered.status >= 400:  # a protocol's own way to say that the server is not ready
                    context.named(Problem(answered.status, "", error=routes.catalog.not_ready))
            if answered is None:
                return  # the client left
            reply = answered
        except Problem as problem:
            if problem.wait_s:
                await asyncio.sleep(problem.wait_s)
            reply = self._refuse(path, context.named(access.discreet(problem, context.principal)))
        except Exception as error:  # noqa: BLE001 - a bug is a 500 and a line in the log
            reply = self._refuse(path, context.named(server_failed(error)))
        await self._send_other(send, reply, name, context)

    async def _send_other(self, send: Send, reply: Reply, name: str, context: RequestContext) -> None:
        model, version = (
            (context.model.name, context.model.version) if context.model is not None else ("", "")
        )
        self._observe(
            model, version, name, reply.status, perf_counter() - context.started, reason=reply.reason
        )
        self._audit(name, reply.status, context, context.model)
        self._tell(name, reply, context)
        await self._send(send, reply, context)

    async def _send(self, send: Send, reply: Reply, context: RequestContext) -> None:
        """Send a whole reply, in gzip if the client wants that."""
        reply, compress = negotiated(reply, context.scope["headers"], self._gzip_bytes)
        if compress and reply.gzip:
            reply = compressed(reply)
        elif compress:
            reply = await asyncio.get_running_loop().run_in_executor(lane.compressing, compressed, reply)
        await send_reply(send, reply, context.name)

    async def _preflight(self, cors: Cors, scope: Scope, send: Send) -> None:
        """Answer a browser that asks whether a page may send a request, whatever the path."""
        context = RequestContext(scope)
        try:
            reply = cors.preflight(scope["headers"])
        except Problem as problem:
            reply = problem_reply(context.named(problem))
        await self._send_other(send, reply, "preflight", context)

    async def _page(self, routes: Routes, page: Page | None, path: str, method: str, head: Head) -> Reply:
        if page is not None and method in ("GET", "HEAD"):
            if path == "/" and not prefers(head, b"text/html"):  # a program, not a person
                return pages.ALIVE
            reply = page.answer()
            return reply if isinstance(reply, Reply) else await reply
        allowed = self._allowed(routes, path)
        if not allowed:
            raise self._not_found(routes.catalog, path)
        if method == "OPTIONS":
            return Reply(204, b"", b"", ((b"allow", ", ".join(allowed).encode()),))
        name = self._refused(routes.catalog, path)
        if name and method == "POST":
            routes.catalog.model(name)  # raises the reason
        raise method_not_allowed(method, path, allowed)

    def _page_at(self, routes: Routes, path: str) -> Page | None:
        found = routes.pages.get(path) or self._passed_on.get(path)
        if found is None and self._console is not None:
            reply = self._console.file(path)
            return None if reply is None else Page("console", lambda: reply)
        return found

    def _allowed(self, routes: Routes, path: str) -> tuple[str, ...]:
        if (
            path in routes.endpoints
            or path == feedback.ROUTE
            or model_repository.is_route(path)
            or self._refused(routes.catalog, path)
        ):
            return ("POST", "OPTIONS")
        if self._page_at(routes, path) is not None:
            return ("GET", "HEAD", "OPTIONS")
        return ("GET", "HEAD", "POST", "OPTIONS") if path == "*" else ()  # the server as a whole

    def _refused(self, catalog: Catalog, path: str) -> str:
        """The name of the refused model that this path belongs to; "" if there is none."""
        names = (protocol.refused(path, catalog) for protocol in self._protocols)
        return next(filter(None, names), "")

    def _refuse(self, path: str, problem: Problem) -> Reply:
        """A problem in the shape of the protocol that the path belongs to."""
        owner = next((protocol for protocol in self._protocols if protocol.owns(path)), None)
        return problem_reply(problem) if owner is None else owner.refuse(problem)

    def _not_found(self, catalog: Catalog, path: str) -> Problem:
        own = (protocol.not_found(path, catalog) for protocol in self._protocols)
        return next(filter(None, own), None) or _not_found(catalog, path)

    async def _take_feedback(self, context: RequestContext, scope: Scope, receive: Receive) -> Reply | None:
        """The reply to feedback, or None for a client that has left."""
        settings = self.settings
        context.head = read_head(scope["headers"], ("application/json",))
        wait_ms = min(context.head.deadline_ms or settings.default_deadline_ms, settings.max_deadline_ms)
        until = Until(context.started + wait_ms / 1000)
        presence = presence_of(scope)
        presence.dispensable = True
        models = context.principal.models if context.principal is not None else None

        async def work(place: Place) -> Reply | None:
            most, setting = min(
                (settings.feedback_body_bytes, "FEEDBACK_BODY_BYTES"),
                (settings.max_body_bytes, "MAX_BODY_BYTES"),
            )
            body = await read_body(receive, context.head.length, most, place.hold, setting)
            if body is None:
                return None
            expand = partial(expanded, coding=context.head.coding, limit=most, setting=setting)

            def answer(body: bytes, until: Until) -> Reply:
                return self._feedback.answer(expand(body), until, models=models)

            answered = asyncio.ensure_future(place.run(answer, body, until))
            return await unless_left(answered, receive)

        caller = context.caller()
        return await self._feedback_queue.answer(caller, until, work, presence)

    async def _change_models(self, context: RequestContext, scope: Scope, receive: Receive) -> Reply | None:
        """The reply to a request about the models that are loaded, or None for a client that has left."""
        path = scope["path"]
        if path != model_repository.INDEX:
            demand_admin(context.principal, keys=access.required(), local=is_local(scope))
        context.head = read_head(scope["headers"], model_repository.CONTENT_TYPES)
        most, setting = min(
            (model_repository.MAX_BYTES, ""), (self.settings.max_body_bytes, "MAX_BODY_BYTES")
        )
        body = await read_body(receive, context.head.length, most, setting=setting)
        if body is None:
            return None
        repository, coding = model_repository.required(self.repository), context.head.coding

        def answer() -> Reply:
            return model_repository.answer(repository, path, expanded(body, coding, most, setting))

        return await asyncio.get_running_loop().run_in_executor(None, answer)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def hear() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown" and self.grpc is not None:
                await self.grpc.end()
            return message

        async def tell(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                await self._start()
            elif message["type"] == "lifespan.shutdown.complete":
                await self._close()
            await send(message)

        await self._bentoml(scope, hear, tell)

    async def _start(self) -> None:
        if self.grpc is not None:
            await self.grpc.start()
        self._on_started()
        for follower in (self.watch, self.keys, lane.audit):
            if follower is not None:
                follower.start()

    async def _close(self) -> None:
        loop = asyncio.get_running_loop()
        for follower in (self.watch, self.keys, lane.audit):
            if follower is not None:
                await loop.run_in_executor(None, follower.close)
        self.catalog.close()
        self._roles.close()
        if self.predictions is not None:
            await loop.run_in_executor(None, self.predictions.close)

    # ---- pages

    async def _metrics(self) -> Reply:
        return Reply(200, metrics.CONTENT_TYPE, await self._scrapes.text())


def _name_of(path: str) -> str:
    """The metric label `endpoint` of a path without a page, whatever comes of its request."""
    if path == feedback.ROUTE:
        return "feedback"
    return "repository" if model_repository.is_route(path) else "other"


def _prepared(endpoint: str, content_type: bytes, body: bytes) -> Page:
    """A page with a constant reply."""
    reply = kept(Reply(200, content_type, body))
    return Page(endpoint, lambda: reply)


def _not_live(catalog: Catalog) -> list[dict[str, str | None]]:
    """What models.lock names and the server does not serve, with the reason; `name` is null for the file."""
    found: list[dict[str, str | None]] = [
        {"name": name, "reason": why} for name, why in catalog.refused.items()
    ]
    found += [{"name": name, "reason": "an administrator has unloaded it"} for name in catalog.unloaded]
    found += [{"name": name, "tag": held.tag, "reason": held.reason} for name, held in catalog.held.items()]
    found += [
        {"name": name, "role": role, "tag": held.tag, "reason": held.reason}
        for (name, role), held in catalog.not_beside.items()
    ]
    return found + ([{"name": None, "reason": catalog.lock}] if catalog.lock else [])


def _readyz(catalog: Catalog) -> Reply:
    reasons = catalog.not_ready
    if reasons:
        raise Problem(503, f"Not ready: {reasons}", error=reasons)
    return Reply(200, TEXT, b"ready\n")


def _refused_model(catalog: Catalog, name: str) -> Reply:
    catalog.model(name)  # raises the reason
    raise AssertionError(name)


def _not_found(catalog: Catalog, path: str) -> Problem:
    parts = path.split("/")
    if path.startswith("/models/") and len(parts) > 2 and parts[2] not in catalog.names:
        try:
            catalog.model(parts[2][:100])
        except Problem as problem:
            return problem
    return Problem(404, f"Unknown path {path[:200]!r}; /docs lists the routes.")


class RequestContext:
    """A request that is being answered, and the data for its log line and its spans."""

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
        self.problem: Problem | None = None  # the reason of a refusal
        self.head = Head()
        self.queued: float | None = None  # when its rows were read
        self.scores: Scores | None = None
        self.request_id = ""

    @property
    def name(self) -> bytes | None:
        """The reply's X-Request-Id: the client's, or the server's own if the request was refused."""
        return self.request_id.encode("latin-1") if self.request_id else self.head.request_id

    def caller(self) -> str:
        """See `caller_of`."""
        return caller_of(self.scope, self.principal)

    def named(self, problem: Problem) -> Problem:
        """The problem with the request id of the log line."""
        self.principal = self.principal or access.refused(problem)
        self.problem = problem = as_sent(problem, self.head)
        if not self.head.headers:  # refused by its head, whose X-Request-Id may be valid
            self.head = Head(request_id=request_id_of(self.scope["headers"]))
        self.request_id = problem.request_id = name_request(self.head)
        return problem


def _access_request(scope: Scope, model: str) -> access.AccessRequest:
    return access.AccessRequest(
        scope["method"],
        scope["path"],
        access.credentials_of(scope["headers"]),
        model,
        scope.get(CERTIFICATE),
    )
