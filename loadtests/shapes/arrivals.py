"""Requests at a fixed rate, however long the answers take.

A free user sends the next request that is due; `--rate` is that of all users (`traffic.Schedule`).
"""

from __future__ import annotations

from loadtests.shapes.shape import Shape
from loadtests.shapes.steady import stages

SHAPE = Shape(stages)
