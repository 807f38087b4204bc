"""The process that opens one model that onnxruntime cannot run, and forks the process that scores with it.

`python -m artifact.keeper FOLDER FD MEMORY_BYTES` is started by `serving.scoring.model_process`. It opens
the model once, then forks a scorer each time the worker asks for one, so that a scorer that died is
replaced in milliseconds, without an import and without a second copy of the model in memory.

On FD, a socket, the worker sends one byte with the descriptor of the new scorer's socket; the answer is
`STARTED`. The first message, unasked, is `OPENED`, and a text where the model could not be opened. A scorer
reads matrices (`CALL`, then float64 values, then the columns of other cells) and answers scores
(`ANSWER`, then float64 values, or a text that says what failed). A model that takes tensors gets its requests
as bytes (`CALL` without rows or columns) and answers bytes.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import struct
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact.raised import raised_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from artifact.manifest import Score

    Answer = Callable[[bytes], bytes]

OPENED = struct.Struct("<I")  # bytes of the text that says why not; 0 where it is open
# The scorer's pid, and the status of the one before from `waitpid`, 0 for none.
STARTED = struct.Struct("<ii")
CALL = struct.Struct("<III")  # rows, columns, bytes of the cells that are not numbers
ANSWER = struct.Struct("<iII")  # 0 or 1 for a failure; rows and outputs, or bytes and 0


def main(arguments: list[str]) -> int:
    """Open the model, then fork scorers until the worker is gone; 1 where the model cannot be opened."""
    folder, descriptor, memory_bytes = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    worker = socket.socket(fileno=descriptor)
    # These are the worker's, which ends this process by hanging up; circus sends them to its children too.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _quiet()
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    try:
        answer = _open(folder)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the worker is told
        text = f"{type(error).__name__}: {error}".encode(errors="replace")[:2000]
        worker.sendall(OPENED.pack(len(text)) + text)
        return 1
    worker.sendall(OPENED.pack(0))
    _keep(worker, answer)
    return 0


def _open(folder: Path) -> Callable[[socket.socket], bool]:
    """What answers one call on a scorer's socket; it returns False where the worker has hung up."""
    import gc

    from artifact import manifest, runtime, tensor_model

    artifact = manifest.load(folder)
    if artifact.signature.tensors is not None:
        answer = partial(_answer_tensors, tensor_model.open_answer(artifact))
    else:
        answer = partial(_answer_rows, runtime.open_score(artifact))
    gc.collect()
    gc.freeze()  # the scorers share these pages as long as nobody writes to them
    return answer


def _quiet() -> None:
    """What a model prints has no reader, and a pipe that nobody reads would stop it."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)


def _keep(worker: socket.socket, answer: Callable[[socket.socket], bool]) -> None:
    scorer = 0
    while True:
        message, descriptors, _, _ = socket.recv_fds(worker, 1, 1)
        ended = 0
        if scorer:
            with suppress(ProcessLookupError):
                os.kill(scorer, signal.SIGKILL)
            ended = os.waitpid(scorer, 0)[1]
        if not message:
            return
        scorer = os.fork()
        if not scorer:
            worker.close()
            os._exit(_score(socket.socket(fileno=descriptors[0]), answer))
        os.close(descriptors[0])
        worker.sendall(STARTED.pack(scorer, ended))


def _score(worker: socket.socket, answer: Callable[[socket.socket], bool]) -> int:
    """Answer calls until the worker hangs up."""
    while answer(worker):
        pass
    return 0


def _answer_rows(score: Score, worker: socket.socket) -> bool:
    """A matrix in, scores out."""
    head = received(worker, CALL.size)
    if head is None:
        return False
    rows, columns, size = CALL.unpack(head)
    matrix = np.empty((rows, columns))
    if not received_into(worker, matrix.reshape(-1).view(np.uint8).data):
        return False
    objects = received(worker, size)
    if objects is None:
        return False
    try:
        scores = np.ascontiguousarray(score(with_objects(matrix, objects)), np.float64)
        answer = ANSWER.pack(0, *scores.shape) + scores.tobytes()
    except Exception as error:  # noqa: BLE001 - whatever a model raises is the answer
        answer = _failure(error)
    worker.sendall(answer)
    return True


def _answer_tensors(ask: Answer, worker: socket.socket) -> bool:
    """Packed requests in, packed answers out."""
    head = received(worker, CALL.size)
    requests = received(worker, CALL.unpack(head)[2]) if head is not None else None
    if requests is None:
        return False
    try:
        answers = ask(requests)
        worker.sendall(ANSWER.pack(0, len(answers), 0))
        worker.sendall(answers)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        worker.sendall(_failure(error))
    return True


def _failure(error: Exception) -> bytes:
    text = raised_at(error).encode(errors="replace")[:2000]
    return ANSWER.pack(1, len(text), 0) + text


def apart(rows: NDArray[Any]) -> tuple[NDArray[np.float64], bytes]:
    """Rows as float64 values, and the columns that hold anything else as MessagePack, by their places."""
    if rows.dtype != object:
        return np.ascontiguousarray(rows, np.float64), b""
    objects = {}
    matrix = np.zeros(rows.shape)
    for place in range(rows.shape[1]):
        cells = rows[:, place]
        if all(type(cell) is float for cell in cells):
            matrix[:, place] = cells
        else:
            objects[place] = cells.tolist()
    return matrix, msgspec.msgpack.encode(objects)


def with_objects(matrix: NDArray[np.float64], objects: bytes) -> NDArray[Any]:
    """What `apart` took apart."""
    if not objects:
        return matrix
    rows = matrix.astype(object)
    for place, cells in msgspec.msgpack.decode(objects, type=dict[int, list[Any]]).items():
        rows[:, place] = cells
    return rows


def received(connection: socket.socket, size: int) -> bytes | None:
    """Exactly so many bytes; None where the other side has hung up."""
    content = bytearray(size)
    return bytes(content) if received_into(connection, memoryview(content)) else None


def received_into(connection: socket.socket, room: memoryview) -> bool:
    """Fill `room`; False where the other side has hung up."""
    place = 0
    while place < len(room):
        count = connection.recv_into(room[place:])
        if not count:
            return False
        place += count
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
