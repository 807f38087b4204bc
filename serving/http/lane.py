"""What the connections of one worker share; set once, by `express.install`, all but what is live."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from serving.observe.logs import RequestLog
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.http.heads import Heads
    from serving.http.routes import Live
    from serving.observe.metrics import Observer


class Lane:
    """See the module. An instance: to look up an attribute of a class takes ten times as long."""

    live: Live
    observe: Observer
    observe_refused: Observer  # of requests whose head or body HTTP refuses: no endpoint has them

    def __init__(self) -> None:
        self.settings = Settings()
        self.deadline_s = math.inf
        self.log = RequestLog("express", 0)
        self.log_refused = RequestLog("gateway", 0)
        self.traced = False
        self.sample_rate: float | None = None  # share of the usual replies that `log` is asked about

    @property
    def heads(self) -> Heads:
        """What is remembered of heads of requests to what is live."""
        return self.live.routes.heads


lane = Lane()
