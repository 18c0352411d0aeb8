"""Many words as one regular expression that finds the longest of them in linear time."""

from __future__ import annotations

import re
from collections.abc import Iterable


def longest_match_pattern(words: Iterable[str]) -> str:
    """A pattern that matches the longest of ``words`` at a position.

    The words are folded into a prefix tree, so that trying a position costs one branch per character instead
    of one per word. Raises ValueError for an empty word or no word at all: such a pattern would match anywhere.
    """
    tree: dict[str, dict] = {}
    for word in words:
        if not word:
            raise ValueError("an empty word would match anywhere")
        node = tree
        for character in word:
            node = node.setdefault(character, {})
        node[""] = {}
    if not tree:
        raise ValueError("no words")
    return _branch(tree)


def _branch(node: dict[str, dict]) -> str:
    ends_here = "" in node
    branches = [re.escape(c) + _branch(child) for c, child in node.items() if c]
    if not branches:
        return ""
    joined = branches[0] if len(branches) == 1 and not ends_here else f"(?:{'|'.join(branches)})"
    return f"{joined}?" if ends_here else joined


def inside_latin_word(text: str, start: int, end: int) -> bool:
    """Whether a Latin letter stands right before or behind a match that begins or ends with one: no BP in BPH."""

    def latin(at: int) -> bool:
        return 0 <= at < len(text) and text[at].isascii() and text[at].isalpha()

    return (latin(start) and latin(start - 1)) or (latin(end - 1) and latin(end))
