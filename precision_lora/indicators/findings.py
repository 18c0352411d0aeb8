"""One point of evidence, and how points become a score."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

TERM = "medical_term_accuracy"
NUMBER = "numerical_precision"
DIAGNOSIS = "diagnosis_confidence"
TREATMENT = "treatment_specificity"
EMPATHY = "empathy"
INDICATORS = (TERM, NUMBER, DIAGNOSIS, TREATMENT, EMPATHY)

# Positive points fill the scale like a saturating curve: 0.9 points are half of it, 3 points nine tenths.
_FILL = 1.3
# Each negative point divides the score by e, so that one contradicted fact (1.8 points) outweighs any number of right
# ones: 5 · exp(−1.8) is less than the score of an answer that keeps silent.
_FADE = 1.0


@dataclass(frozen=True)
class Finding:
    """One observation in an answer.

    ``criterion``: what was looked for, in Chinese. ``points``: positive or negative. ``indicator``: one of
    ``INDICATORS``. ``start``/``end``: characters of the answer that show it (both 0 where nothing is there to
    show). ``source``: the guideline, table or rule behind it.
    """

    criterion: str
    points: float
    indicator: str
    start: int
    end: int
    source: str


def fold_points(findings: Iterable[Finding]) -> float:
    """Score 0–5 of one indicator: ``5 · (1 − exp(−P / 1.3)) · exp(−N)`` with P the sum of the positive and N of the
    negative points. Strictly monotone in both, so that two answers tie only where their evidence is the same."""
    gained = lost = 0.0
    for finding in findings:
        if finding.points > 0:
            gained += finding.points
        else:
            lost -= finding.points
    return 5.0 * (1.0 - math.exp(-gained / _FILL)) * math.exp(-lost / _FADE)
