"""Work in several processes: the same results in order, whatever becomes of the processes."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from precision_lora import parallel
from precision_lora.dataset import kind_masks
from precision_lora.parallel import WORTHWHILE, several_processes

PROJECT = Path(__file__).resolve().parent.parent
TEXTS = ["空腹血糖7.2mmol/L偏高，", "别太担心，", "", "每日一次，每次5mg。"] * 5
PARENT = """
import os, sys, time
from precision_lora.parallel import WORTHWHILE, several_processes
from tests.test_parallel import pid_then_sleep
if __name__ == "__main__":
    with several_processes(WORTHWHILE) as start:
        start(pid_then_sleep, [0])()
"""


def process_ids(items):
    return [os.getpid() for _ in items]


def end_in_a_child(items):
    if multiprocessing.parent_process() is not None:
        os._exit(1)
    return [item + 1 for item in items]


def refuse(items):
    raise ValueError(items[0])


def pid_then_sleep(items):
    print(os.getpid(), flush=True)
    signal.pause()
    return items


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(parallel.os, "cpu_count", lambda: 2)


def test_results_come_in_order_and_are_those_of_one_process():
    with several_processes(WORTHWHILE) as start:
        waits = [start(kind_masks, part) for part in (TEXTS[:7], TEXTS[7:], [])]
        found = [mask for wait in waits for mask in wait()]
    assert [mask.tolist() for mask in found] == [mask.tolist() for mask in kind_masks(TEXTS)]


@pytest.mark.parametrize(
    ("items", "cores", "here"), [(WORTHWHILE, 2, False), (WORTHWHILE - 1, 2, True), (10**6, 1, True)]
)
def test_few_items_or_one_core_stay_in_this_process(items, cores, here, monkeypatch):
    monkeypatch.setattr(parallel.os, "cpu_count", lambda: cores)
    with several_processes(items) as start:
        assert (set(start(process_ids, [1, 2])()) == {os.getpid()}) is here


def test_work_of_processes_that_died_is_done_here():
    with several_processes(WORTHWHILE) as start:
        assert start(end_in_a_child, [1, 2, 3])() == [2, 3, 4]
        assert start(end_in_a_child, [5])() == [6]  # the pool is broken now


def test_an_error_of_the_work_is_an_error_here():
    with several_processes(WORTHWHILE) as start, pytest.raises(ValueError, match=r"^1$"):
        start(refuse, [1])()


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_processes_end_with_a_parent_that_was_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    assert int(parent.stdout.readline()) > 0
    parent.kill()
    # The children hold the pipe's other end: it is at its end only when all of them are gone.
    rest, _ = parent.communicate(timeout=60)
    assert rest == ""
