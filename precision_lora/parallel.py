"""Several processes for what Python code does text by text: one process computes on one core (pure)."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol, TypeVar

from precision_lora.blas import use_one_numpy_thread

Item = TypeVar("Item")
Result = TypeVar("Result")


class Start(Protocol):
    """Begins work on items, gives a function that waits for all its results."""

    def __call__(
        self, work: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item]
    ) -> Callable[[], list[Result]]: ...


# A process needs about a second to begin.
WORTHWHILE = 1000
MAX_PROCESSES = 8
# Items of a part: the same on every machine, as rounding may depend on what is computed together.
PART = 128


@contextlib.contextmanager
def several_processes(expected: int) -> Iterator[Start]:
    """``start(work, items)``: begin ``work`` on parts of ``items``, give a function that waits for all its results.

    ``work`` is a module's function from items to as many results. It runs in this process where fewer than
    `WORTHWHILE` items are ``expected``, where there is one core, and where the system lets no process begin.
    """
    use_one_numpy_thread()  # here as there: the number of cores has no part in the rounding
    cores = min(os.cpu_count() or 1, MAX_PROCESSES)
    if expected < WORTHWHILE or cores < 2:
        yield _at_once
        return
    try:
        # Spawned, not forked: MLX and the tokenizer may have threads here.
        pool = ProcessPoolExecutor(cores, multiprocessing.get_context("spawn"), initializer=_begin)
    except (OSError, NotImplementedError, ImportError):  # a system without semaphores
        yield _at_once
        return

    def start(work: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item]) -> Callable[[], list[Result]]:
        try:
            parts = [pool.submit(work, items[first : first + PART]) for first in range(0, len(items), PART)]
        except (OSError, BrokenProcessPool):
            return _at_once(work, items)

        def wait() -> list[Result]:
            try:
                return [result for part in parts for result in part.result()]
            except BrokenProcessPool:
                return work(items)

        return wait

    try:
        yield start
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _at_once(work: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item]) -> Callable[[], list[Result]]:
    results = work(items)
    return lambda: results


def _begin() -> None:
    """In a new process: Ctrl-C is the parent's business, and the end of the parent, however it came, is its own."""
    use_one_numpy_thread()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
