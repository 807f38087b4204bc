"""The state that the connections of one worker share; `express.install` sets it once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from serving.observe.logs import RequestLog
from serving.observe.supervised import Pool
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.errors import Headers
    from serving.http.caller import Proxies
    from serving.http.cors import Cors
    from serving.http.heads import Heads
    from serving.http.routes import Live
    from serving.observe.audit import Audit
    from serving.observe.metrics import Observer


class Lane:
    """See the module. An instance, because looking up an attribute of a class takes ten times as long."""

    live: Live
    observe: Observer
    observe_refused: Observer  # for requests refused before they reach an endpoint

    def __init__(self) -> None:
        self.settings = Settings()
        self.deadline_s = math.inf
        self.digits = 0  # of probabilities, for callers without a key
        self.log = RequestLog("express", 0)
        self.log_refused = RequestLog("gateway", 0)
        self.traced = False
        self.audit: Audit | None = None
        self.gzip_bytes = math.inf  # the size from which a reply is compressed
        self.compressing = Pool("compressing")
        self.proxies: Proxies | None = None  # None: the other end of a connection is the client
        self.cors: Cors | None = None  # None: no page of another origin may call the server
        self.sample_rate: float | None = (
            None  # fraction of the successful replies that `log` is called for; None: it is never called
        )

    @property
    def always(self) -> Headers:
        """Headers of every reply, beside the server's own."""
        return self.cors.always if self.cors is not None else ()

    @property
    def heads(self) -> Heads:
        """The cached heads of requests to the live models."""
        return self.live.routes.heads


lane = Lane()
