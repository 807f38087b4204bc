"""Draws the dashboard from the answers of a real Prometheus, where no Grafana can be had.

    python -m tests.k8s.picture docs/dashboard.png

starts two servers and a Prometheus, sends them some minutes of traffic (a calm, a rush with refusals, rows
that drift, feedback and a verdict on it), puts every query of okamochi.json to Prometheus and draws every
panel where the file has it. It shows what the queries give, and not how Grafana would draw it.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import numpy as np
import yaml
from matplotlib.figure import Figure
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from artifact.encode import Encoder
from artifact.signature import Signature
from tests.bento_server import bento_server, prepare
from tests.faults.wire import read_reply, request
from tests.k8s.monitored import answer, answer_over, filled_in, prometheus_of
from tests.k8s.rendering import K8S
from tests.serving import artifacts
from training.decide.live import judge
from training.decide.live_log import publish, read_log
from training.decide.promote import FIGURES
from training.plots import COLOURS, GRID, INK
from training.reference import reference
from training.registry.records import Version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from tests.k8s.rendering import Object

MODELS = "cells|cells_slow"
LABEL = (
    "Drawn by tests/k8s/picture.py from the answers of a real Prometheus, panel by panel as okamochi.json "
    "has them. Not a screenshot of Grafana."
)
SOFT = "#6b7883"
MAX_LINES = 9
MOST_TOLD, TOLD_AT_ONCE = 150, 25
CALM_S, RUSH_S, DRIFT_S = 25, 25, 25


# ---- drawing


def draw(
    url: str, dashboard: Object, *, start: float, end: float, step: float, rate_interval: str, models: str
) -> Figure:
    """Every panel of a dashboard in its place."""
    panels = dashboard["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = Figure(figsize=(14, 0.3 * rows + 0.6), dpi=85, facecolor="#f6f8f9")
    top = 0.6 / (0.3 * rows + 0.6)
    figure.text(0.01, 1 - top / 2, dashboard["title"], fontsize=13, color=INK, weight="bold", va="center")
    figure.text(0.99, 1 - top / 2, LABEL, fontsize=8, color=SOFT, ha="right", va="center")
    for panel in panels:
        place = panel["gridPos"]
        height = (1 - top) / rows
        left, width = place["x"] / 24, place["w"] / 24
        bottom = 1 - top - (place["y"] + place["h"]) * height
        axes = figure.add_axes(
            (left + 0.035, bottom + 1.6 * height, width - 0.045, (place["h"] - 3) * height), facecolor="white"
        )
        axes.set_title(panel["title"], fontsize=8.5, color=INK, loc="left", weight="bold")
        for side in ("top", "right", "left", "bottom"):
            axes.spines[side].set_color(GRID)
        queries = [
            (filled_in(target["expr"], rate_interval=rate_interval, models=models), target)
            for target in panel["targets"]
        ]
        if panel["type"] == "timeseries":
            found = [
                (legend(target["legendFormat"], series["metric"]), series["values"])
                for query, target in queries
                for series in answer_over(url, query, start, end, step)
            ]
            lines(axes, found, panel, start)
        else:
            cells = [
                (legend(target["legendFormat"], series["metric"]), float(series["value"][1]))
                for query, target in queries
                for series in answer(url, query)
            ]
            figures(axes, cells, panel)
    return figure


def legend(form: str, labels: Mapping[str, str]) -> str:
    """The name of a series as `legendFormat` has it; its labels where that is empty."""
    if not form:
        return "  ".join(f"{key}={value}" for key, value in sorted(labels.items()) if key != "__name__")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), form).strip() or "scores"


def lines(axes: Axes, found: Sequence[tuple[str, list[Any]]], panel: Object, start: float) -> None:
    """A panel of series over time."""
    drawn: list[tuple[float, str, Any, Any]] = []
    for name, values in found:
        times = np.array([when for when, _ in values], float) - start
        figures = np.array([float(value) for _, value in values])
        peak = float(np.nanmax(figures)) if np.isfinite(figures).any() else -math.inf
        drawn.append((peak, name, times / 60, figures))
    drawn.sort(key=lambda each: -each[0])
    for i, (_, name, times, figures) in enumerate(drawn[:MAX_LINES]):
        dashed = "promised" in name
        axes.plot(
            times,
            figures,
            color=COLOURS[i % len(COLOURS)],
            linewidth=1.2,
            label=name,
            linestyle="--" if dashed else "-",
        )
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axes.yaxis.set_major_formatter(lambda value, _: shown(value, unit))
    if panel["fieldConfig"]["defaults"].get("min") == 0:
        axes.set_ylim(bottom=0)
        if not any(peak > 0 for peak, *_ in drawn):
            axes.set_ylim(top=1)
    axes.tick_params(labelsize=6.5, colors=SOFT, length=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} min")
    axes.grid(visible=True, color=GRID, linewidth=0.6)
    axes.margins(x=0)
    if drawn:
        shown_of = f"{MAX_LINES} of {len(drawn)}" if len(drawn) > MAX_LINES else None
        axes.legend(
            fontsize=5.8, frameon=False, loc="upper left", labelcolor=INK, title=shown_of, title_fontsize=5.8,
            ncols=2 if len(drawn) > 5 else 1, handlelength=1.2, labelspacing=0.25, columnspacing=1,
        )  # fmt: skip


def figures(axes: Axes, cells: Sequence[tuple[str, float]], panel: Object) -> None:
    """A panel of single values: `stat` or `table`."""
    axes.set_xticks([])
    axes.set_yticks([])
    unit = panel["fieldConfig"]["defaults"]["unit"]
    large = panel["type"] == "stat"
    for i, (name, value) in enumerate(cells):
        y = 1 - (i + 0.5) / max(len(cells), 3)
        axes.text(0.04, y, name, fontsize=8, color=SOFT, va="center", transform=axes.transAxes)
        axes.text(
            0.94, y, shown(value, unit), fontsize=14 if large else 8, color=INK, va="center", ha="right",
            transform=axes.transAxes,
        )  # fmt: skip


def shown(value: float, unit: str) -> str:
    """A value in Grafana's units, as far as the dashboard has them."""
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        return f"{1000 * value:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    end = {"reqps": "/s", "wps": "/s"}.get(unit, "")
    if abs(value) >= 1000:
        return f"{value / 1000:.3g}k{end}"
    return f"{value:.4g}{end}"


# ---- a run to draw


def make(folder: Path) -> dict[str, tuple[Path, str]]:
    """Two models of real data: a quick one, and a forest that is slow enough to be overrun."""
    data, signature = load_breast_cancer(), make_signature()
    rows: list[list[Any]] = data.data.tolist()
    matrix = Encoder(signature).rows(rows)
    made = {}
    for name, model, runtime in (
        ("cells", make_pipeline(StandardScaler(), LogisticRegression()), "onnx"),
        ("cells_slow", RandomForestClassifier(300, random_state=0), "python"),
    ):
        model.fit(matrix[::2], data.target[::2])
        sealed = artifacts.seal(folder / name, name, model, signature, rows, runtime=runtime)
        held = reference(signature, matrix[::2], sealed.scores(rows[1::2]))
        (sealed.path / "reference.json").write_bytes(msgspec.json.encode(held))
        artifacts.reseal(sealed.path)
        made[name] = (sealed.path, "4")
    return made


class Traffic:
    """Requests to two servers, with counts of what came back."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.addresses = [url.removeprefix("http://").split(":") for url in urls]
        self.rows = load_breast_cancer().data[1::2]
        self.actual = [("malignant", "benign")[i] for i in load_breast_cancer().target[1::2]]
        self.answered: list[tuple[str, int]] = []  # id and number of the row, of what can be told about

    async def send(self, kind: str, seconds: float, *, every: float = 0.0) -> None:
        """One connection's requests for so long, `every` seconds or as fast as they are answered."""
        rng = np.random.default_rng()
        host, port = self.addresses[rng.integers(len(self.addresses))]
        reader, writer = await asyncio.open_connection(host, int(port))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            i = int(rng.integers(len(self.rows)))
            path, row = "/models/cells/predict", self.rows[i]
            if kind == "drift":
                row = row * np.where(np.arange(len(row)) == 0, 1.6, 1.0)
            body = json.dumps({"features": [row.tolist()]}).encode()
            if kind == "slow":
                path = "/models/cells_slow/predict"
                body = json.dumps({"features": self.rows[:40].tolist()}).encode()
            elif kind == "wrong":
                body = [b'{"features": [["x"]]}', b"{", b'{"features": [[1.0]]}' * 10_000][i % 3]
            elif kind == "v2":
                path = "/v2/models/cells/infer"
                tensor = {"name": "x", "shape": [1, 30], "datatype": "FP64", "data": row.tolist()}
                body = json.dumps({"inputs": [tensor]}).encode()
            writer.write(request(path, body))
            try:
                reply = await read_reply(reader)
            except ConnectionError:  # as after a body that is too large
                reader, writer = await asyncio.open_connection(host, int(port))
                continue
            if kind == "plain" and reply.status == 200 and len(self.answered) < MOST_TOLD:
                self.answered.append((json.loads(reply.body)["id"], i))
            if every:
                await asyncio.sleep(every)
        writer.close()

    async def minutes(self) -> None:
        """A calm, a rush and a drift."""
        whole = CALM_S + RUSH_S + DRIFT_S
        steady = [
            *(self.send("plain", whole, every=0.01) for _ in range(8)),
            *(self.send("v2", whole, every=0.05) for _ in range(2)),
            self.send("slow", whole, every=1.0),
            self.send("wrong", whole, every=0.5),
        ]

        async def later() -> None:
            await asyncio.sleep(CALM_S)
            await asyncio.gather(
                *(self.send("plain", RUSH_S) for _ in range(16)),
                *(self.send("slow", RUSH_S) for _ in range(40)),
                *(self.send("wrong", RUSH_S, every=0.02) for _ in range(4)),
            )
            await asyncio.gather(*(self.send("drift", DRIFT_S, every=0.01) for _ in range(16)))

        await asyncio.gather(*steady, later())


def tell(url: str, log: Path, traffic: Traffic) -> None:
    """Feedback on what was answered, and the verdict that `training live --publish` would leave."""
    said = [{"id": found, "actual": traffic.actual[i]} for found, i in traffic.answered]
    with httpx.Client(base_url=url) as client:
        known = 0
        for start in range(0, len(said), TOLD_AT_ONCE):
            told = said[start : start + TOLD_AT_ONCE]
            known += sum(client.post("/feedback", json=item).status_code == 200 for item in told)
            time.sleep(2.5)  # or it were one step between two scrapes, which no rate shows
    sys.stdout.write(f"feedback on {known} of {len(said)} predictions\n")
    figures = {"metrics": {"accuracy": 0.965}, "test_rows": 285}
    version = Version("cells", "4", "run", {"metric": "accuracy", FIGURES: json.dumps(figures)})
    publish(judge(version, make_signature(), read_log(str(log), "cells")).verdict(), str(log))


def make_signature() -> Signature:
    """The contract of both models."""
    data = load_breast_cancer()
    return Signature(
        task="binary",
        target="diagnosis",
        columns=artifacts.numbers([name.replace(" ", "_") for name in data.feature_names], data.data),
        classes=("malignant", "benign"),
        positive="malignant",
    )


def main(target: str) -> None:
    """Run servers, Prometheus and traffic, and draw."""
    binary = shutil.which("prometheus")
    assert binary is not None, "prometheus is not installed"
    dashboard = json.loads((K8S / "components" / "monitoring" / "okamochi.json").read_text())
    rules = yaml.safe_load((K8S / "components" / "monitoring" / "prometheusrule.yaml").read_text())["spec"]
    with tempfile.TemporaryDirectory(prefix="okamochi-") as name:
        folder = Path(name)
        made = make(folder / "made")
        settings = {
            "OKAMOCHI_MAX_BODY_BYTES": "100000",
            "OKAMOCHI_DEFAULT_DEADLINE_MS": "300",
            "OKAMOCHI_QUEUE_ROWS": "2000",
            "OKAMOCHI_DRIFT_EVERY_S": "2",
            "OKAMOCHI_DRIFT_WINDOW_S": "60",
            "OKAMOCHI_PREDICTION_LOG": str(folder / "log"),
            "OKAMOCHI_PREDICTION_LOG_ROWS_PER_S": "500",
        }
        for pod in ("a", "b"):
            prepare(folder / pod, made)
        (folder / "log").mkdir()
        with (
            bento_server(folder / "a", settings=settings) as first,
            bento_server(folder / "b", settings=settings) as second,
            prometheus_of(
                binary, folder, {"okamochi-a": first.url, "okamochi-b": second.url}, rules, every="2s"
            ) as prometheus,
        ):
            time.sleep(5)
            start = time.time()
            traffic = Traffic([first.url, second.url])
            asyncio.run(traffic.minutes())
            tell(first.url, folder / "log", traffic)
            time.sleep(35)  # until the servers have looked for a verdict
            figure = draw(
                prometheus.url,
                dashboard,
                start=start,
                end=time.time(),
                step=2,
                rate_interval="10s",
                models=MODELS,
            )
    figure.savefig(target)
    sys.stdout.write(f"{target}: {Path(target).stat().st_size} bytes\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
