"""Compare the counts of a server's metrics with the requests that were sent."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from loadtests.tally import Served, Tally

METRIC = "okamochi_requests_total"
SHOWN = 5

_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class NotOurs(Exception):  # noqa: N818 - it reads as a sentence where it is raised
    """A page of metrics without the metric."""


def parse(text: str) -> Counter[Served]:
    """Requests by model, route and status from the text of `/metrics`, without those of no model.

    Raises
    ------
    NotOurs
    """
    if METRIC.removesuffix("_total") not in text:
        raise NotOurs(f"has no {METRIC}")
    found: Counter[Served] = Counter()
    for line in text.splitlines():
        if line.startswith(METRIC + "{"):
            labels = dict(_LABEL.findall(line))
            if labels.get("model"):
                key = labels["model"], labels["endpoint"], labels["status"]
                found[key] += int(float(line.rpartition(" ")[2]))
    return found


def disagreements(before: Mapping[Served, int], after: Mapping[Served, int], sent: Tally) -> list[str]:
    """A sentence for each difference between the server's counts and the requests that were sent.

    A request without an answer may or may not have been counted.
    """
    if any(after.get(key, 0) < count for key, count in before.items()):
        return ["the counts went down: the server restarted, or another one answered (name all by --metrics)"]
    counted = {key: count - before.get(key, 0) for key, count in after.items()}
    spare = Counter(sent.unanswered)
    found = []
    for key in sorted(counted.keys() | sent.answers.keys()):
        model, endpoint, status = key
        served, ours = counted.get(key, 0), sent.answers[key]
        extra = served - ours
        forgiven = min(max(extra, 0), spare[model, endpoint])
        spare[model, endpoint] -= forgiven
        if extra - forgiven:
            found.append(
                f"{model} {endpoint} {status}: the server counted {served:,} requests, {ours:,} were sent"
            )
    return found
