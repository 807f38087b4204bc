"""The one place that opens an onnxruntime session."""

from __future__ import annotations

from typing import Any


def open_session(model: str | bytes) -> Any:
    """An onnxruntime session of a file or of its content, with the options that every session of ours has."""
    import onnxruntime  # 30 MB that a server without ONNX models never needs

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a pod is one worker on one core; batches are its parallelism
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4  # its errors raise too; a line on a pipe that nobody reads never returns
    options.enable_cpu_mem_arena = False  # the arena keeps the largest batch's memory for good
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
