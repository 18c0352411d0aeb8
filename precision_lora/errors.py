"""Errors that the person at the keyboard can mend, and the one place where a script turns them into an exit code."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

EXIT_DONE = 0
EXIT_USER = 2
EXIT_VETO = 3
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """Bad input: one line that says what and where, then the ways to mend it.

    ``message`` is printed behind ``❌``; each of ``fixes`` on a line of its own under ``解决:``.
    """

    def __init__(self, message: str, *fixes: str) -> None:
        super().__init__(message)
        self.message = message
        self.fixes = fixes

    def render(self) -> str:
        """The text for the terminal, without a trailing newline."""
        lines = [f"❌ {self.message}"]
        if self.fixes:
            lines.append("解决:")
            lines.extend(f"   {fix}" for fix in self.fixes)
        return "\n".join(lines)


def run_main(main: Callable[[], int]) -> int:
    """Run a script's ``main`` and return its exit code; only bugs keep their traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console of another code page must not end a run over a picture
            stream.reconfigure(errors="replace")
    try:
        return main()
    except UserError as error:
        print(error.render(), file=sys.stderr)
        return EXIT_USER
    except KeyboardInterrupt:
        print("已中断。", file=sys.stderr)
        return EXIT_INTERRUPTED
