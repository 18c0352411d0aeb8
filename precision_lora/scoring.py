"""Scores of an answer: five indicators 0–5 from findings, their weighted overall, vetoes.

A pure function of question, answer and rubric. Nothing but findings enters a score, see ``findings.fold_points``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from precision_lora import vetoes as _vetoes
from precision_lora.indicators import diagnosis, empathy, numbers, terms, treatment
from precision_lora.indicators.findings import (
    DIAGNOSIS,
    EMPATHY,
    INDICATORS,
    NUMBER,
    TERM,
    TREATMENT,
    Finding,
    fold_points,
)
from precision_lora.indicators.reading import Consultation, read
from precision_lora.negation import polarity
from precision_lora.numerals import fold
from precision_lora.vetoes import Veto

__all__ = ["INDICATORS", "MET", "WEIGHTS", "Finding", "Scored", "Veto", "check_rubric", "overall_of", "score"]

# The weights under which the guide's table holds: 4,3,4,3,4 is 3.6 and 5,5,5,5,4 is 4.6.
WEIGHTS: dict[str, float] = {TERM: 0.1, NUMBER: 0.2, DIAGNOSIS: 0.1, TREATMENT: 0.2, EMPATHY: 0.4}
VETO_CAP = 1.0
# An indicator counts as met from the middle of the scale on.
MET = 2.5

# One finding folds to the end of the scale with far fewer; more is a slip of the pen.
_MOST_POINTS = 100


@dataclass(frozen=True)
class Scored:
    """``scores``: indicator -> 0–5; ``overall``: their weighted sum, at most 1 where there is a veto; ``findings``: the
    evidence of every score, in the order of the indicators; ``genuine``: false for what is no answer (``reason``)."""

    scores: dict[str, float]
    overall: float
    vetoes: tuple[Veto, ...]
    findings: tuple[Finding, ...]
    genuine: bool
    reason: str


def score(question: str, answer: str, rubric: Sequence[Mapping[str, Any]] | None = None) -> Scored:
    """Score one answer.

    Args:
        rubric: what this question in particular asks for: ``{"indicator", "criterion", "points", "all": [[alternatives]
            …]}``; met where of every group one alternative stands in the answer and is not
            negated there. ``points`` may be negative for what an answer must not say.

    Raises:
        ValueError: as `check_rubric`.
    """
    if rubric is not None:
        check_rubric(rubric)
    c = read(question, answer)
    found: list[Finding] = []
    if not c.genuine:
        found += [
            Finding(f"不是有效的回答：{c.reason}", -1.0, indicator, 0, len(c.answer), "评分规则")
            for indicator in INDICATORS
        ]
    found += terms.find(c) + numbers.find(c) + diagnosis.find(c) + treatment.find(c) + empathy.find(c)
    found += _padding(c, found)
    if rubric and c.genuine:
        found += _by_rubric(c, rubric)
    scores = {name: round(fold_points(f for f in found if f.indicator == name), 3) for name in INDICATORS}
    vetoes = _vetoes.find(c)
    order = {name: i for i, name in enumerate(INDICATORS)}
    found.sort(key=lambda f: (order[f.indicator], f.start, f.end, f.criterion))
    return Scored(scores, overall_of(scores, bool(vetoes)), vetoes, tuple(found), c.genuine, c.reason)


def check_rubric(rubric: Any) -> None:
    """Refuse what `score` cannot use as a rubric; any JSON value may come in.

    Raises:
        ValueError: not a list of objects with a known indicator, a criterion, numeric points and non-empty groups of
            non-empty strings. The text, in Chinese for the person, names the entry and what is wrong with it.
    """
    if not isinstance(rubric, Sequence) or isinstance(rubric, str):
        raise ValueError("应为对象的列表")
    for number, entry in enumerate(rubric, 1):
        if problem := _entry_problem(entry):
            raise ValueError(f"第{number}条: {problem}")


def _entry_problem(entry: Any) -> str | None:
    if not isinstance(entry, Mapping):
        return "应为对象"
    if missing := [key for key in ("indicator", "criterion", "points", "all") if key not in entry]:
        return f"缺少{'、'.join(missing)}"
    if entry["indicator"] not in INDICATORS:
        return f"没有这个indicator: {entry['indicator']!r}，应为 {'、'.join(INDICATORS)} 之一"
    if not _is_text(entry["criterion"]):
        return "criterion应为非空的文字"
    points = entry["points"]
    # NaN fails the comparison too.
    if isinstance(points, bool) or not isinstance(points, int | float) or not abs(points) <= _MOST_POINTS:
        return f"points应为 -{_MOST_POINTS} 到 {_MOST_POINTS} 的数"
    groups = entry["all"]
    if not isinstance(groups, list) or not groups:
        return "all应为非空的列表，其中每组是若干说法"
    if not all(isinstance(group, list) and group and all(map(_is_text, group)) for group in groups):
        return "all的每组应为非空的列表，其中是非空的文字"
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


# Letters that an answer may use for each point of precise content before it counts as long-winded.
_LETTERS_A_POINT = 60
_SHORT_ENOUGH = 100


def _padding(c: Consultation, found: Sequence[Finding]) -> list[Finding]:
    """A long answer that says next to nothing precise is worse than a short one; warmth may take its words."""
    letters = sum(not ch.isspace() for ch in c.answer)
    if not c.genuine or letters <= _SHORT_ENOUGH:
        return []
    content = sum(f.points for f in found if f.points > 0 and f.indicator != EMPATHY and f.end > 0)
    warm = fold_points(f for f in found if f.indicator == EMPATHY) >= MET
    if content * _LETTERS_A_POINT >= letters or warm:
        return []
    return [Finding("篇幅长而内容少", -0.5, name, 0, 0, "评分规则：言之有物") for name in INDICATORS]


def overall_of(scores: Mapping[str, float], vetoed: bool = False) -> float:
    """Weighted sum of the five scores, rounded to 3 places and capped at ``VETO_CAP`` where ``vetoed``."""
    total = sum(WEIGHTS[name] * scores[name] for name in INDICATORS)
    return round(min(total, VETO_CAP) if vetoed else total, 3)


@lru_cache(maxsize=4096)
def _alternatives(words: tuple[str, ...]) -> re.Pattern[str]:
    parts = []
    for word in words:
        folded = fold(word)
        escaped = re.escape(folded)
        # 7.0 must not be found inside 17.0 or 7.05.
        if folded[0].isdigit():
            escaped = r"(?<![\d.])" + escaped
        if folded[-1].isdigit():
            escaped += r"(?![\d]|\.\d)"
        parts.append(escaped)
    return re.compile("|".join(parts))


def _by_rubric(c: Consultation, rubric: Sequence[Mapping[str, Any]]) -> list[Finding]:
    found = []
    for entry in rubric:
        spans = [_affirmed(c, tuple(group)) for group in entry["all"]]
        if all(spans):
            start, end = min(s[0] for s in spans if s), max(s[1] for s in spans if s)
            found.append(
                Finding(
                    f"本题要点：{entry['criterion']}",
                    float(entry["points"]),
                    entry["indicator"],
                    start,
                    end,
                    "本题评分要点",
                )
            )
    return found


def _affirmed(c: Consultation, group: tuple[str, ...]) -> tuple[int, int] | None:
    """The first of the alternatives that the answer says without denying it, in a clause that counts."""
    for match in _alternatives(group).finditer(c.a):
        # 不要 and the like are alternatives themselves; their own polarity means nothing.
        denies = match[0][0] in "不别禁避勿停"
        if c.counts(match.start()) and (denies or polarity(c.a, *match.span()) != "negated"):
            return match.span()
    return None
