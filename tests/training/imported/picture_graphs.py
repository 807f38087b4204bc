"""ONNX graphs over pictures, as frameworks export them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto

from tests.artifact.graphs import FLOAT, graph

if TYPE_CHECKING:
    from collections.abc import Sequence

UINT8 = TensorProto.UINT8


def classifier(
    size: Sequence[int | str],
    *,
    channels: int = 3,
    nhwc: bool = False,
    element: int = FLOAT,
    rows: int | str = "n",
    ends_in: str = "",
) -> Any:
    """Pictures to three logits, which depend on colours and on where they are."""
    random = np.random.default_rng(1)
    nodes: list[Any] = [("Cast", "x", "x32", {"to": FLOAT})]
    nodes.append(("Transpose", "x32", "t", {"perm": [0, 3, 1, 2] if nhwc else [0, 1, 2, 3]}))
    nodes += [
        ("Conv", "t kernel", "c", {"pads": [1, 1, 1, 1]}),
        ("Relu", "c", "r"),
        ("GlobalAveragePool", "r", "p"),
        ("Flatten", "p", "f"),
        ("MatMul", "f w", "z" if ends_in else "logits"),
    ]
    if ends_in:
        nodes.append((ends_in, "z", "logits", {"axis": 1}))
    shape = [rows, *size, channels] if nhwc else [rows, channels, *size]
    scale = 0.01 if element == UINT8 or nhwc else 1.0
    return graph(
        nodes,
        {"x": (element, shape)},
        {"logits": (FLOAT, [rows, 3])},
        kernel=(scale * random.normal(size=(4, channels, 3, 3))).astype(np.float32),
        w=random.normal(size=(4, 3)).astype(np.float32),
    )
