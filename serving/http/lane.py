"""What the connections of one worker share; set once, by `express.install`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from serving.http.heads import Heads
from serving.observe.logs import RequestLog
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.observe.metrics import Observer


class Lane:
    """See the module. An instance: to look up an attribute of a class takes ten times as long."""

    observe: Observer
    observe_refused: Observer  # of requests whose head or body HTTP refuses: no endpoint has them

    def __init__(self) -> None:
        self.settings = Settings()
        self.heads = Heads(lambda _: None, 0)
        self.deadline_s = math.inf
        self.log = RequestLog("express", 0)
        self.log_refused = RequestLog("gateway", 0)
        self.traced = False
        self.looked_at: float | None = None  # share of the usual replies that `log` is asked about


lane = Lane()
