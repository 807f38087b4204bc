"""A model in a process of its own, as the batcher calls it: a matrix in, scores out; or tensors both ways.

The model's memory, its imports and its crashes stay out of the worker. A process that dies is replaced within
milliseconds by a fork of the one that holds the open model (`artifact.keeper`), and the call is made once
more; a call that kills three of them, or that exceeds its time limit, fails, and the batcher finds the row
that causes it.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from artifact.keeper import ANSWER, CALL, OPENED, STARTED, apart, received, received_into
from artifact.manifest import ArtifactError
from artifact.tensors import pack_requests, unpack_answers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from artifact.manifest import Artifact
    from artifact.tensors import Answer, Value

logger = logging.getLogger("bentoml.okamochi")

ROOT = Path(__file__).resolve().parents[2]
INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_FILE", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
"""The variables of the worker that a model may see: no password, no key, no address."""
MAX_CALL_BYTES = 2**32 - 1
"""The largest size that the head of a call holds, in 32 bits."""
MEMORY_EVERY_S = 5.0
TRIES = 3
"""Tries of a call whose process ended, and of reopening the model: one end may have an outside cause."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


T = TypeVar("T")


class ModelProcessError(Exception):
    """A call without scores, and the reason, which has no value of a cell."""


class _LostError(Exception):
    """The scorer has hung up."""


class ModelProcess:
    """The processes of one model.

    Parameters
    ----------
    artifact
        The artifact, whose digests were checked.
    open_s
        Time limit for opening the model, in seconds.
    call_s
        Time limit of one call, in seconds; a process that exceeds it is killed and replaced.
    memory_bytes
        Memory limit of the process; 0 for no limit.
    on_restart
        Called each time a process was replaced.
    on_memory
        Called with the resident bytes of the process that scores, after a call, every few seconds.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        open_s: float = 120.0,
        call_s: float = 60.0,
        memory_bytes: int = 0,
        on_restart: Callable[[], None] = lambda: None,
        on_memory: Callable[[float], None] = lambda _bytes: None,
    ) -> None:
        self._artifact = artifact
        self._open_s = open_s
        self._call_s = call_s
        self._memory_bytes = memory_bytes
        self._on_restart = on_restart
        self._on_memory = on_memory
        self._measured = -math.inf  # when its memory was last measured, by time.monotonic
        self._calling = threading.Lock()
        self._closed = False
        self._outputs = artifact.signature.outputs
        self._home = tempfile.TemporaryDirectory(prefix="okamochi-model-")
        self._keeper: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._scorer: socket.socket | None = None
        self.pid = 0
        """The process that scores now."""
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def score(self, matrix: Any) -> NDArray[np.float64]:
        """Scores of a matrix of shape (rows, columns), as shape (rows, outputs).

        Raises
        ------
        ModelProcessError
            The model raised, took too long, or ended its process `TRIES` times.
        """
        numbers, objects = apart(matrix)
        return self._asked(lambda: self._call(numbers, objects))

    def answer(self, requests: Sequence[list[Value]]) -> list[Answer]:
        """What a graph over tensors answers to each of some requests.

        Raises
        ------
        ModelProcessError
            As `score`.
        """
        packed = pack_requests(requests)
        if len(packed) > MAX_CALL_BYTES:
            raise ModelProcessError(f"a call of {len(packed)} bytes is too large")
        return unpack_answers(self._asked(lambda: self._exchange(packed)))

    def _asked(self, call: Callable[[], T]) -> T:
        """The result of a call, which is repeated if its process ends."""
        with self._calling:
            for _ in range(TRIES):
                try:
                    found = call()
                    break
                except _LostError:
                    self._replace("it ended during a call")
            else:
                raise ModelProcessError(f"the model's process ended {TRIES} times on the same rows")
            now = time.monotonic()
            if now - self._measured >= MEMORY_EVERY_S:
                self._measured = now
                self._on_memory(self.memory_bytes())
            return found

    def memory_bytes(self) -> int:
        """Resident memory of the process that scores; 0 where it cannot be read."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def close(self) -> None:
        """End both processes."""
        self._closed = True
        if self._scorer is not None:
            self._scorer.close()
            self._scorer = None
            # It ends when its socket does, unless it hangs; the keeper ends it then, unless that is gone.
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self._drop_keeper()
        self._home.cleanup()

    # ---- processes

    def _drop_keeper(self) -> None:
        """End the keeper, if there is one; it ends when its socket is closed."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._keeper is not None:
            try:
                self._keeper.wait(timeout=2)
            except subprocess.TimeoutExpired:
                self._keeper.kill()
                self._keeper.wait()
            self._keeper = None

    def _open(self) -> None:
        """Start the keeper, wait until it has opened the model, and fork the first scorer."""
        self._drop_keeper()
        ours, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        environment |= dict.fromkeys(THREADS, "1")
        environment |= {"HOME": self._home.name, "TMPDIR": self._home.name, "PYTHONPATH": str(ROOT)}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1"}
        arguments = [str(self._artifact.path.resolve()), str(theirs.fileno()), str(self._memory_bytes)]
        self._keeper = subprocess.Popen(
            [sys.executable, "-m", "artifact.keeper", *arguments],
            pass_fds=[theirs.fileno()],
            env=environment,
            cwd=self._home.name,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the worker, which ends this one when it has answered
        )
        theirs.close()
        self._control = ours
        ours.settimeout(self._open_s)
        try:
            head = received(ours, OPENED.size)
            text = received(ours, OPENED.unpack(head)[0]) if head is not None else None
        except TimeoutError:
            raise ArtifactError(
                f"{self._artifact.path}: the model was not open after {self._open_s:g} s"
            ) from None
        except OSError:
            text = None
        if text is None:
            raise ArtifactError(
                f"{self._artifact.path}: the process that opens its model ended: {self._ended()}"
            )
        if text:
            raise ArtifactError(text.decode(errors="replace").removeprefix("ArtifactError: "))
        self._fork()

    def _ended(self) -> str:
        if self._keeper is None:
            return "it was not started"
        try:
            return _how(self._keeper.wait(timeout=2))
        except subprocess.TimeoutExpired:
            return "it hung up"

    def _fork(self) -> str:
        """Fork a new scorer, and return how the previous one ended.

        Raises
        ------
        OSError
            The keeper is gone.
        """
        if self._control is None:  # it could not be started anew the last time
            raise ConnectionResetError("there is no keeper")
        ours, theirs = socket.socketpair()
        try:
            socket.send_fds(self._control, [b"s"], [theirs.fileno()])
            answer = received(self._control, STARTED.size)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        if answer is None:
            ours.close()
            raise ConnectionResetError("the keeper has ended")
        if self._scorer is not None:
            self._scorer.close()
        self._scorer = ours
        self.pid, status = STARTED.unpack(answer)
        return _how(os.waitstatus_to_exitcode(status)) if status else ""

    def _replace(self, why: str) -> None:
        """Fork a new scorer; start a new keeper first if the keeper has ended too."""
        if self._closed:
            raise ModelProcessError("the model is closed")
        started = time.monotonic()
        try:
            how = self._fork()
        except OSError:
            how = f"with its keeper, {self._ended()}"
            self._reopen()
        took_ms = 1000 * (time.monotonic() - started)
        name = self._artifact.manifest.name
        logger.error("the process of model %s was replaced in %.0f ms: %s (%s)", name, took_ms, why, how)
        self._on_restart()

    def _reopen(self) -> None:
        for tries_left in reversed(range(TRIES)):
            try:
                self._open()
            except (ArtifactError, OSError) as error:
                if not tries_left:
                    raise ModelProcessError(f"the model cannot be opened again: {error}") from None
            else:
                return

    # ---- calls

    def _call(self, matrix: NDArray[np.float64], objects: bytes) -> NDArray[np.float64]:
        head = CALL.pack(*matrix.shape, len(objects))
        sent = (head, matrix.reshape(-1).view(np.uint8).data, objects)
        with self._patient(f"{len(matrix)} rows") as scorer:
            rows, outputs = self._answered(scorer, sent)
            scores = np.empty((rows, outputs))
            if not received_into(scorer, scores.reshape(-1).view(np.uint8).data):
                raise _LostError
        return scores

    def _exchange(self, packed: bytes) -> bytes:
        with self._patient(f"{len(packed)} bytes") as scorer:
            size, _ = self._answered(scorer, (CALL.pack(0, 0, len(packed)), packed))
            answers = received(scorer, size)
            if answers is None:
                raise _LostError
        return answers

    @contextmanager
    def _patient(self, of: str) -> Iterator[socket.socket]:
        """The scorer for one call; at the time limit the call ends and the process is replaced."""
        scorer = self._scorer
        if scorer is None:
            raise ModelProcessError("the model is closed")
        scorer.settimeout(self._call_s)
        try:
            yield scorer
        except TimeoutError:
            self._replace(f"a call of {of} took longer than {self._call_s:g} s")
            raise ModelProcessError(f"a call took longer than {self._call_s:g} s") from None
        except OSError:
            raise _LostError from None

    def _answered(self, scorer: socket.socket, sent: tuple[bytes | memoryview, ...]) -> tuple[int, int]:
        """The two numbers of the answer to a call; what follows it is still to be received."""
        for part in sent:
            scorer.sendall(part)
        head = received(scorer, ANSWER.size)
        if head is None:
            raise _LostError
        failed, first, second = ANSWER.unpack(head)
        if failed:
            text = received(scorer, first)
            if text is None:
                raise _LostError
            raise ModelProcessError(text.decode(errors="replace"))
        return first, second


def _how(code: int) -> str:
    """How a process ended, by its exit code as `subprocess` has it."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
