"""Requests that come at a fixed rate, whatever the answers do.

The users only carry them: each takes the next that is due of `--rate` a second in all (`traffic.Schedule`).
"""

from __future__ import annotations

from loadtests.shapes.shape import Shape
from loadtests.shapes.steady import stages

SHAPE = Shape(stages)
