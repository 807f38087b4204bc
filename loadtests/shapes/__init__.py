"""How the number of users changes over time; each shape has a module, and a table in objectives.toml."""

from __future__ import annotations

from loadtests.shapes import arrivals, soak, spike, steady, step

SHAPES = {
    "steady": steady.SHAPE,
    "step": step.SHAPE,
    "spike": spike.SHAPE,
    "soak": soak.SHAPE,
    "arrivals": arrivals.SHAPE,
}
