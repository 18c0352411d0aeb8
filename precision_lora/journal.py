"""What a run tells the person: lines on the terminal, the same lines with the time in a log file, a progress bar."""

from __future__ import annotations

import re
import sys
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

# Anything that moves a cursor or paints has no place in a file that is read with tail.
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
# Without a terminal there is no bar; every so many steps a line takes its place.
PLAIN_EVERY = 10


class Journal:
    """Terminal and log file of one run. A silent one (ranks other than 0) says and writes nothing."""

    def __init__(self, silent: bool = False) -> None:
        self._silent = silent
        self._file: IO[str] | None = None
        self._bar: tqdm[Any] | None = None
        self._waiting: list[str] = []

    def open(self, folder: Path) -> Path | None:
        """Start the log file ``training_v3_precision_<time>.log``; what was said before goes into it too."""
        if self._silent:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"training_v3_precision_{datetime.now():%Y%m%d_%H%M%S}.log"
        self._file = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 (closed by `close`)
        for line in self._waiting:
            self.note(line)
        return path

    def say(self, text: str = "") -> None:
        """A line for the terminal and the log."""
        if self._silent:
            return
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()
        self.note(text)

    def note(self, text: str) -> None:
        """A line for the log alone."""
        if self._silent:
            return
        if self._file is None:
            self._waiting.append(text)
            return
        clean = _CONTROL.sub("", text)
        self._file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {clean}\n")

    def start_bar(self, done: int, total: int) -> None:
        if not self._silent and sys.stderr.isatty():
            self._bar = tqdm(
                initial=done,
                total=total,
                unit="步",
                dynamic_ncols=True,
                bar_format="{desc} {percentage:3.0f}%|{bar}| {n}/{total} [{elapsed}<{remaining}{postfix}]",
            )

    def step(self, step: int, total: int, text: str, seconds_left: float) -> None:
        """One optimizer step done: ``text`` is its numbers in a line."""
        self.note(f"步 {step}/{total} {text}")
        if self._bar is not None:
            self._bar.set_description_str(text, refresh=False)
            self._bar.update(1)
        elif not self._silent and (step % PLAIN_EVERY == 0 or step == total):
            print(f"   步 {step}/{total} {text} · 剩余 {duration(seconds_left)}", flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
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
