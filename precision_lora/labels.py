"""How scores and span kinds are named and written for the person: in Chinese, stars, percentages (pure)."""

from __future__ import annotations

INDICATOR_NAMES = {
    "medical_term_accuracy": "医学术语准确性",
    "numerical_precision": "数值精度",
    "diagnosis_confidence": "诊断置信度",
    "treatment_specificity": "治疗具体性",
    "empathy": "人情味表达",
}
INDICATOR_ORDER = tuple(INDICATOR_NAMES)
FULL_SCORE = 5.0

# The span kinds in which the losses are told apart, `phases.KINDS` and the rest.
KIND_NAMES = {
    "term": "术语",
    "number": "数值",
    "diagnosis": "诊断",
    "treatment": "治疗",
    "empathy": "人情味",
    "other": "其他",
}


def stars(score: float) -> str:
    """A score 0–5 as five stars, rounded to the nearest whole one: 3.4 is ★★★☆☆."""
    full = min(5, max(0, int(score + 0.5)))
    return "★" * full + "☆" * (5 - full)


def share_of_scale(difference: float) -> str:
    """A difference of indicator scores in the guide's manner, as a share of the whole scale: one star is +20%."""
    return _signed(100 * difference / FULL_SCORE)


def relative(difference: float, reference: float) -> str:
    """A difference of overall scores in the guide's manner, relative to the reference: 3.6 → 4.6 is +28%."""
    return _signed(100 * difference / reference) if reference > 0 else "—"


def _signed(percentage: float) -> str:
    rounded = round(percentage)
    return f"{rounded:+d}%" if rounded else "0%"
