"""Likeness of texts by character n-grams: near copies across splits, and questions held out for the evaluation."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path

SUITES = Path(__file__).resolve().parent.parent / "precision_lora" / "suites"
GRAM = 5
# A question that shares this much of its 3-grams with an evaluation question counts as a copy of it.
QUESTION_LIMIT = 0.6
GUIDE_QUESTIONS = (
    "我的血压140/90需要担心吗？",
    "我的空腹血糖是7.2 mmol/L，这个值高吗？",
    "刚确诊高血压，很担心以后怎么办...",
)


def grams(text: str, size: int = GRAM) -> frozenset[str]:
    """All character n-grams of ``text`` without blanks."""
    text = re.sub(r"\s", "", text)
    return frozenset(text[i : i + size] for i in range(max(1, len(text) - size + 1)))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Shared over all n-grams."""
    return len(a & b) / len(a | b) if a or b else 0.0


class NearCopies:
    """An inverted index over answers: the highest Jaccard likeness of a text to any of them, exactly.

    A pair with likeness ≥ 0.5 shares at least a third of the smaller text's n-grams, so that looking up a part of
    them finds every such pair; below that the value returned is a lower bound and no concern.
    """

    def __init__(self, rows: Iterable[list[str]]) -> None:
        self.sets: list[frozenset[str]] = []
        self.index: dict[str, list[int]] = defaultdict(list)
        for answers in rows:
            for answer in answers:
                found = grams(answer)
                for gram in found:
                    self.index[gram].append(len(self.sets))
                self.sets.append(found)

    def highest(self, answers: list[str]) -> float:
        """The highest likeness of any of ``answers`` to an indexed one."""
        best = 0.0
        for answer in answers:
            mine = grams(answer)
            # With likeness ≥ 0.5 at least half of these rarest n-grams' owners cannot all miss the other text.
            rare = sorted(mine, key=lambda g: (len(self.index.get(g, ())), g))
            votes: Counter[int] = Counter()
            for gram in rare[: len(rare) * 2 // 3 + 1]:
                votes.update(self.index.get(gram, ()))
            for number, _ in votes.most_common(8):
                best = max(best, jaccard(mine, self.sets[number]))
        return best


def normal(text: str) -> str:
    """A question without marks, blanks and letters' case."""
    return re.sub(r"[\s，。？！、…,.?!；;：:~～]", "", text).lower()


@cache
def held_out() -> tuple[frozenset[str], ...]:
    """3-gram sets of the guide's and the evaluation suites' questions."""
    texts = list(GUIDE_QUESTIONS)
    for path in sorted(SUITES.glob("*.jsonl")) if SUITES.is_dir() else []:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            texts.append(
                row["question"]
                if "question" in row
                else next(m["content"] for m in row["messages"] if m["role"] == "user")
            )
    return tuple(grams(normal(text), 3) for text in texts)


def near_question(question: str) -> bool:
    """Whether a question is a near copy of one that is held out for the evaluation."""
    mine = grams(normal(question), 3)
    return any(jaccard(mine, other) >= QUESTION_LIMIT for other in held_out())
