"""Patterns that find expressions in folded text, with the findings that they give."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from precision_lora.indicators.findings import Finding
from precision_lora.indicators.reading import Consultation


@dataclass(frozen=True)
class Rule:
    """An expression and what it is worth. ``limit``: how often it may count."""

    pattern: re.Pattern[str]
    criterion: str
    points: float
    source: str
    limit: int = 1


def rule(pattern: str, criterion: str, points: float, source: str, limit: int = 1) -> Rule:
    """A rule from a pattern's text."""
    return Rule(re.compile(pattern), criterion, points, source, limit)


def apply(rules: tuple[Rule, ...], c: Consultation, indicator: str, prose_only: bool = True) -> Iterator[Finding]:
    """Findings of every rule, in the order of the rules; a later equal match earns half of the one before."""
    for r in rules:
        count, seen = 0, set()
        for match in r.pattern.finditer(c.a):
            if count >= r.limit:
                break
            if match[0] in seen or (prose_only and r.points > 0 and not c.counts(match.start())):
                continue
            seen.add(match[0])
            yield Finding(r.criterion, r.points * 0.5**count, indicator, match.start(), match.end(), r.source)
            count += 1
