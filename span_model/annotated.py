"""Annotated texts: one clause a line, ``LETTERS<TAB>clause`` with its terms in 【】, under ``## name``.

LETTERS are some of D, T, E (diagnosis, treatment, empathy) or ``-``; ⏎ stands for a line break. See guideline.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

KIND_OF_LETTER = {"D": "diagnosis", "T": "treatment", "E": "empathy"}
ANNOTATED_KINDS = ("term", *KIND_OF_LETTER.values())
_PUNCTUATION = frozenset("，、。；：！？ ,（）()“”\n;:!?…~—\"'《》")

# (start, end, kind) in characters of the text.
Marks = tuple[tuple[int, int, str], ...]


@dataclass(frozen=True)
class Annotated:
    """A text and what was marked in it; ``marks`` of diagnosis, treatment and empathy are whole clauses."""

    name: str
    text: str
    clauses: tuple[str, ...]
    marks: Marks


def read(path: Path) -> list[Annotated]:
    """The texts of a file, in order.

    Raises:
        ValueError: a line of another form, with its number.
    """
    blocks: list[tuple[str, list[tuple[str, str]]]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("## "):
            blocks.append((line[3:].strip(), []))
        elif line.strip():
            found = re.fullmatch(r"(-|D?T?E?)\t(.+)", line)
            if not found or not found[1] or not blocks or re.search("[【】]", re.sub("【[^【】]+】", "", found[2])):
                raise ValueError(f"{path}:{number}: not LETTERS<TAB>clause: {line!r}")
            blocks[-1][1].append((found[1], found[2].replace("⏎", "\n")))
    return [_annotated(name, lines) for name, lines in blocks if lines]


def _annotated(name: str, lines: Sequence[tuple[str, str]]) -> Annotated:
    text, marks, clauses = "", [], []
    for letters, marked in lines:
        start = opened = len(text)
        for character in marked:
            if character == "【":
                opened = len(text)
            elif character == "】":
                marks.append((opened, len(text), "term"))
            else:
                text += character
        clauses.append(text[start:])
        marks += [(start, len(text), KIND_OF_LETTER[letter]) for letter in letters if letter != "-"]
    return Annotated(name, text, tuple(clauses), tuple(marks))


def character_f1(
    rows: Iterable[tuple[str, Iterable[tuple[int, int, str]], Iterable[tuple[int, int, str]]]], kind: str
) -> float:
    """F1 over characters of one kind, punctuation left out; rows are (text, wanted marks, found marks)."""
    both = one = 0
    for text, wanted, found in rows:
        a, b = (
            {i for start, end, k in marks if k == kind for i in range(start, end) if text[i] not in _PUNCTUATION}
            for marks in (wanted, found)
        )
        both, one = both + len(a & b), one + len(a ^ b)
    return 2 * both / (2 * both + one) if both or one else 1.0
