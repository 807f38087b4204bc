"""Every metric stands in docs/operations.md, and what stands there exists."""

import re

from prometheus_client import Counter, Gauge, Histogram

from serving import metrics
from tests.servers import CHECKOUT


def test_the_metrics_page_and_the_code_name_the_same_metrics_and_labels():
    page = (CHECKOUT / "docs" / "operations.md").read_text()
    documented = {
        name: tuple(labels.split(", "))
        for name, labels in re.findall(r"^\| `(okamochi_\w+)` \| ([\w, ]+) \|", page, re.MULTILINE)
    }
    exported = {}
    for found in vars(metrics).values():
        if isinstance(found, (Counter, Gauge, Histogram)):
            name = found._name + ("_total" if isinstance(found, Counter) else "")
            exported[name] = tuple(found._labelnames)
    assert documented == exported
