"""Small models of PyTorch, Keras and TensorFlow, exported to ONNX as docs/your-own-model.md says.

It runs in an environment with torch, onnxscript, tensorflow-cpu and tf2onnx. Into a folder it writes a table
model and an image or sequence model of each framework, and rows with the framework's own answers. The folder
`exported` beside it is what `make test` serves.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

RANDOM = np.random.default_rng(7)
TABLE = RANDOM.normal(size=(5, 4)).round(3).astype(np.float32)
IMAGES = RANDOM.random((3, 1, 8, 8)).round(3).astype(np.float32)
TOKENS = RANDOM.integers(0, 20, (3, 6))


def pytorch(folder: Path) -> None:
    """A table model that ends in a softmax, and a sequence model with two outputs."""
    import torch

    torch.manual_seed(0)
    table = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3), torch.nn.Softmax(dim=1)
    ).eval()
    rows = torch.export.Dim("rows")
    torch.onnx.export(
        table,
        (torch.from_numpy(TABLE),),
        folder / "pytorch_table.onnx",
        input_names=["x"],
        output_names=["probabilities"],
        dynamic_shapes=({0: rows},),
        external_data=False,
        verbose=False,
    )

    class Tagger(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = torch.nn.Embedding(20, 4)
            self.memory = torch.nn.GRU(4, 5, batch_first=True)
            self.last = torch.nn.Linear(5, 2)

        def forward(self, tokens: Any) -> Any:
            every, _ = self.memory(self.words(tokens))
            return self.last(every), every.mean(dim=1)

    tagger = Tagger().eval()
    length = torch.export.Dim("length")
    torch.onnx.export(
        tagger,
        (torch.from_numpy(TOKENS),),
        folder / "pytorch_sequence.onnx",
        input_names=["tokens"],
        output_names=["tags", "mean"],
        dynamic_shapes=({0: rows, 1: length},),
        external_data=False,
        verbose=False,
    )
    with torch.no_grad():
        tags, mean = tagger(torch.from_numpy(TOKENS))
        own = table(torch.from_numpy(TABLE))
    write(folder / "pytorch_table", {"x": TABLE}, {"probabilities": own.numpy()})
    write(folder / "pytorch_sequence", {"tokens": TOKENS}, {"tags": tags.numpy(), "mean": mean.numpy()})


def keras(folder: Path) -> None:
    """A table model that ends in a sigmoid, and an image model."""
    import keras as k

    k.utils.set_random_seed(0)
    table = k.Sequential([k.Input((4,)), k.layers.Dense(8, "relu"), k.layers.Dense(1, "sigmoid")])
    image = k.Sequential(
        [
            k.Input((8, 8, 1)),
            k.layers.Conv2D(4, 3, activation="relu"),
            k.layers.GlobalAveragePooling2D(),
            k.layers.Dense(3, "softmax"),
        ]
    )
    pictures = IMAGES.transpose(0, 2, 3, 1)
    for name, model, rows in (("keras_table", table, TABLE), ("keras_image", image, pictures)):
        write(folder / name, {"": rows}, {"": np.asarray(model(rows))})
        model.export(str(folder / f"{name}.onnx"), format="onnx", verbose=False)


def tensorflow(folder: Path) -> None:
    """A table model with a number as its answer, and an image model with two outputs."""
    import tensorflow as tf
    import tf2onnx

    weights = RANDOM.normal(size=(4, 1)).astype(np.float32)
    kernel = RANDOM.normal(size=(3, 3, 1, 2)).astype(np.float32)

    # A tensor that a function captures from outside would become an input of the graph.
    @tf.function
    def price(x: Any) -> Any:
        return {"price": tf.matmul(tf.tanh(x), tf.constant(weights))}

    @tf.function
    def filtered(image: Any) -> Any:
        edges = tf.nn.conv2d(image, tf.constant(kernel), 1, "SAME")
        return {"edges": edges, "brightest": tf.reduce_max(edges, axis=[1, 2])}

    pictures = IMAGES.transpose(0, 2, 3, 1)
    for name, function, key, rows in (
        ("tensorflow_table", price, "x", TABLE),
        ("tensorflow_image", filtered, "image", pictures),
    ):
        tf2onnx.convert.from_function(
            function,
            input_signature=[tf.TensorSpec([None, *rows.shape[1:]], tf.float32, name=key)],
            opset=17,
            output_path=str(folder / f"{name}.onnx"),
        )
        write(folder / name, {key: rows}, {each: np.asarray(found) for each, found in function(rows).items()})


def write(
    path: Path, inputs: dict[str, np.ndarray[Any, Any]], outputs: dict[str, np.ndarray[Any, Any]]
) -> None:
    """What the framework was given and what it answered; "" for the only one."""
    said = {
        what: {
            name: {"shape": list(array.shape), "data": array.ravel().tolist()} for name, array in some.items()
        }
        for what, some in (("inputs", inputs), ("outputs", outputs))
    }
    path.with_suffix(".json").write_text(json.dumps(said) + "\n", "utf-8")


FRAMEWORKS = {"pytorch": pytorch, "keras": keras, "tensorflow": tensorflow}


def main(folder: Path, *names: str) -> None:
    """Export the models of some frameworks, of all by default."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or FRAMEWORKS:
        FRAMEWORKS[name](folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
