"""A constant load for a long time, to find what only time shows."""

from __future__ import annotations

from loadtests.shapes.shape import Shape
from loadtests.shapes.steady import stages

SHAPE = Shape(stages, seconds=15 * 60)
