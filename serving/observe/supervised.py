"""Background threads of a worker: one that raises is logged, counted and started again.

docs/operations.md lists them. `Supervised` is one thread with one piece of work; `Pool` is a few threads that
run calls. `watch_the_rest` logs and counts a thread of another library that ends by an exception.
"""

from __future__ import annotations

import logging
import threading
import weakref
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from artifact.raised import raised_at
from serving.errors import thread_failed
from serving.observe import metrics

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("bentoml.okamochi")

FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 30.0
SETTLED_S = 60.0  # work that ran for this long before it raised is restarted after the first pause

P = ParamSpec("P")
T = TypeVar("T")


class Supervised:
    """A daemon thread that does `work` until it returns, and does it again when it raises.

    Parameters
    ----------
    name
        Its value of the metric label `thread`, such as `drift`.
    work
        Returns when `ended` is set.
    of
        What the thread works for, such as the name of a model; it appears in the log.

    Attributes
    ----------
    ended
        Set by `close`; the work looks at it.
    failed
        Whether the work has raised and is not done again yet.
    """

    def __init__(self, name: str, work: Callable[[], None], *, of: str = "") -> None:
        self.name = name
        self.ended = threading.Event()
        self.failed = False
        self._work = work
        self._of = of
        self._failures = metrics.THREAD_FAILURES.labels(name)  # from 0, so that its first increase is seen
        self._thread = threading.Thread(
            target=self._run, name=f"okamochi-{name}-{of}".rstrip("-"), daemon=True
        )

    def start(self) -> None:
        """Begin the work.

        Raises
        ------
        RuntimeError
            The system has no more threads for this process.
        """
        self._thread.start()

    def close(self, wait_s: float = 5.0) -> None:
        """Have the work end, and wait for that."""
        self.ended.set()
        if self._thread.is_alive():
            self._thread.join(wait_s)

    @property
    def started(self) -> bool:
        return self._thread.ident is not None

    def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while not self.ended.is_set():
            began = monotonic()
            try:
                self._work()
            except BaseException as error:  # noqa: BLE001 - SystemExit too would end a thread in silence
                self.failed = True
                if monotonic() - began >= SETTLED_S:
                    pause = FIRST_PAUSE_S
                self._tell(error, pause)
            else:
                return
            self.ended.wait(pause)
            pause = min(2 * pause, MAX_PAUSE_S)
            self.failed = False

    def _tell(self, error: BaseException, pause: float) -> None:
        with suppress(Exception):
            self._failures.inc()
        with suppress(Exception):
            logger.error(
                "the thread %s%s failed and is started again in %.1f s: %s",
                self.name,
                f" of {self._of}" if self._of else "",
                pause,
                raised_at(error),
            )


class _Call:
    """One call of a pool."""

    __slots__ = ("future", "work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self.future: Future[Any] = Future()
        self.work = work

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.work()
        except BaseException as error:  # noqa: BLE001 - the caller gets it, as from Python's executors
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class _Caller:
    """Runs the calls of a pool in one thread; refers to its queue alone, so that an unused pool can go."""

    def __init__(self, name: str, of: str, calls: SimpleQueue[_Call | None]) -> None:
        self._calls = calls
        self._in_hand: _Call | None = None
        self.thread = Supervised(name, self._run, of=of)

    def _run(self) -> None:
        try:
            while True:
                self._in_hand = self._calls.get()
                if self._in_hand is None:
                    self._calls.put(None)  # for the next thread
                    return
                self._in_hand.run()
                self._in_hand = None  # else the thread would keep it alive until the next call
        except BaseException:
            call, self._in_hand = self._in_hand, None
            if call is not None and not call.future.done():
                call.future.set_exception(thread_failed())
            raise


class Pool(Executor):
    """Threads that run calls in the order that they come; those are started with the first calls.

    A call that is lost with its thread ends in a `Problem` of status 503.

    Parameters
    ----------
    name, of
        As of `Supervised`.
    """

    def __init__(self, name: str, threads: int = 1, *, of: str = "") -> None:
        self._name = name
        self._of = of
        self._most = threads
        self._callers: list[_Caller] = []
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        metrics.THREAD_FAILURES.labels(name)
        weakref.finalize(self, self._calls.put, None).atexit = False

    @property
    def failed(self) -> bool:
        """Whether each of its threads has failed and is not at work again yet."""
        return bool(self._callers) and all(caller.thread.failed for caller in self._callers)

    @property
    def waiting(self) -> int:
        """Calls that no thread has taken yet."""
        return self._calls.qsize()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue a call. Not for two threads at once.

        Raises
        ------
        RuntimeError
            There is no thread and none can be started.
        """
        if len(self._callers) < self._most:
            self._start()
        call = _Call(partial(fn, *args, **kwargs))
        self._calls.put(call)
        return call.future

    def _start(self) -> None:
        caller = _Caller(self._name, self._of, self._calls)
        try:
            caller.thread.start()
        except RuntimeError:
            if not self._callers:
                raise
            return  # tried again with the next call
        self._callers.append(caller)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `Executor`."""
        while cancel_futures and not self._calls.empty():
            call = self._calls.get()
            if call is not None:
                call.future.cancel()
        self._calls.put(None)
        for caller in self._callers if wait else ():
            caller.thread.close()


def watch_the_rest() -> None:
    """Log and count every other thread that ends by an exception, such as one of a library."""
    failures = metrics.THREAD_FAILURES.labels("other")

    def tell(arguments: threading.ExceptHookArgs) -> None:
        name = arguments.thread.name if arguments.thread is not None else "unknown"
        failures.inc()
        logger.error("the thread %s has ended: %s", name, raised_at(arguments.exc_value))

    threading.excepthook = tell
