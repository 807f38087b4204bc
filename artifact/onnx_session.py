"""The one place that opens an onnxruntime session."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

LOW_PRIORITY = 10
"""A nice value: beside a thread of normal priority that is always busy, 10 % of its core."""


def open_session(model: str | bytes, *, low_priority: bool = False) -> Any:
    """An onnxruntime session of a file or of its content, with the options that every session of ours has.

    Parameters
    ----------
    low_priority
        Leave the processor to the other threads of this process: opening a forest of 200 MB takes 3 s of it,
        and holds no lock of the interpreter meanwhile.
    """
    if not low_priority:
        return _open(model)
    # A thread of its own: an ordinary user cannot raise a priority again, and new threads inherit it.
    with ThreadPoolExecutor(1, "opening", initializer=_lower_priority) as pool:
        return pool.submit(_open, model).result()


def _lower_priority() -> None:
    if sys.platform == "linux":  # elsewhere priorities are those of processes
        thread = threading.get_native_id()
        # Never above that of a server which was itself started at a low priority.
        priority = max(LOW_PRIORITY, os.getpriority(os.PRIO_PROCESS, thread))
        os.setpriority(os.PRIO_PROCESS, thread, priority)


def _open(model: str | bytes) -> Any:
    import onnxruntime  # 30 MB that a server without ONNX models never needs

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a pod is one worker on one core; batches are its parallelism
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4  # its errors raise too; a line on a pipe that nobody reads never returns
    options.enable_cpu_mem_arena = False  # the arena keeps the largest batch's memory for good
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
