"""Every number, dose and red flag of every answer against the fact tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from precision_lora import factcheck
from precision_lora.readings import Finding


@dataclass(frozen=True)
class RowFinding:
    """A finding and the answer that it is in; ``row`` counts from 1."""

    row: int
    turn: int
    text: str
    finding: Finding


def check_messages(messages: list[dict[str, str]], row: int) -> list[RowFinding]:
    """Findings in all assistant messages of one row; the question is all that the asker has said so far."""
    found: list[RowFinding] = []
    asked = ""
    turn = 0
    for message in messages:
        if message["role"] == "user":
            asked = f"{asked}\n{message['content']}" if asked else message["content"]
        elif message["role"] == "assistant":
            turn += 1
            for finding in factcheck.findings(message["content"], asked):
                found.append(RowFinding(row, turn, message["content"][finding.start : finding.end], finding))
    return found


def check_lines(lines: Iterable[str]) -> list[RowFinding]:
    """Findings over JSON lines of rows."""
    return [f for row, line in enumerate(lines, 1) for f in check_messages(json.loads(line)["messages"], row)]


def check_files(paths: Iterable[Path], out: TextIO | None = None) -> int:
    """Print every finding with file and row; the exit code: 1 if there is any, else 0."""
    out = out or sys.stdout
    total = 0
    rows = 0
    for path in paths:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows += len(lines)
        for found in check_lines(lines):
            total += 1
            text = found.text if len(found.text) <= 40 else found.text[:40] + "…"
            print(
                f"{path.name}:{found.row} 第{found.turn}轮 {found.finding.kind} “{text}”：{found.finding.note}",
                file=out,
            )
    print(f"{'❌' if total else '✅'} {rows} 行，{total} 处发现", file=out)
    return 1 if total else 0
