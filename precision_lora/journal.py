"""What a run tells the person: lines on the terminal, the same lines with the time in a log file, one live line."""

from __future__ import annotations

import contextlib
import re
import sys
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

# Anything that moves a cursor or paints has no place in a file that is read with tail.
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
# Without a terminal there is no live line; every so many steps, at most this often in a run, a line takes its place.
PLAIN_EVERY, PLAIN_LINES = 10, 200
# Below this the live line goes without separators.
ROOMY_COLUMNS = 100


class Journal:
    """Terminal and log file of one run. A silent one (ranks other than 0) says and writes nothing."""

    def __init__(self, silent: bool = False) -> None:
        self.path: Path | None = None
        self._silent = silent
        self._file: IO[str] | None = None
        self._bar: tqdm[Any] | None = None
        self._waiting: list[str] = []
        self._warned: set[str] = set()

    def open(self, folder: Path) -> None:
        """Start the log file ``training_v3_precision_<time>.log``; what was said before goes into it too."""
        if self._silent:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"training_v3_precision_{datetime.now():%Y%m%d_%H%M%S}.log"
        self._file = open(self.path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 (closed by `close`)
        for line in self._waiting:
            self.note(line)

    def say(self, text: str = "") -> None:
        """Lines for the terminal and the log."""
        if self._silent:
            return
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()
        for line in text.splitlines():
            self.note(line)

    def warn(self, text: str) -> None:
        """A warning, said once however often it comes."""
        if text not in self._warned:
            self._warned.add(text)
            self.say(f"⚠️  {text}")

    def note(self, text: str) -> None:
        """A line for the log alone."""
        if self._silent or not text:
            return
        if self.path is None:
            self._waiting.append(text)
            return
        if self._file is None:
            return
        clean = _CONTROL.sub("", text)
        try:
            self._file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {clean}\n")
        except OSError as error:  # a full disk: the run itself is worth more than its log
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
            self.warn(f"日志写不下去了: {self.path}（{error.strerror}），训练继续")

    def start_bar(self, done: int, total: int) -> None:
        if not self._silent and sys.stderr.isatty():
            self._bar = tqdm(
                initial=done,
                total=total,
                dynamic_ncols=True,
                bar_format="{percentage:3.0f}%|{bar:10}| {n}/{total} {desc}",
            )

    def step(self, step: int, total: int, fields: Sequence[str], seconds_left: float) -> None:
        """One optimizer step done: ``fields`` are its numbers."""
        text, left = " · ".join(fields), f"剩余 {duration(seconds_left)}"
        self.note(f"步 {step}/{total} {text}")
        if self._bar is not None:
            roomy = (self._bar.ncols or ROOMY_COLUMNS) >= ROOMY_COLUMNS
            self._bar.set_description_str((" · " if roomy else " ").join([*fields, left]), refresh=False)
            self._bar.update(1)
        elif not self._silent and (step % max(PLAIN_EVERY, total // PLAIN_LINES) == 0 or step == total):
            print(f"   步 {step}/{total} {text} · {left}", flush=True)

    def end_bar(self) -> None:
        """Leave the live line as it is; what follows stands below it."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def close(self) -> None:
        self.end_bar()
        if self._file is not None:
            self._file.close()
            self._file = None


def duration(seconds: float) -> str:
    """Seconds for people: 45秒, 3分20秒, 2小时05分."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}秒"
    if whole < 3600:
        return f"{whole // 60}分{whole % 60:02d}秒"
    return f"{whole // 3600}小时{whole % 3600 // 60:02d}分"


def width(text: str) -> int:
    """Columns that ``text`` takes on a terminal: Chinese characters and pictures take two."""
    visible = (c for c in text if not unicodedata.combining(c) and c != "\ufe0f")
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in visible)
