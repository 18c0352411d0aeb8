"""The three training phases, and the weight that each of them gives to a token (pure NumPy).

A token carries a bit mask of the span kinds that it lies in (`KIND_BITS`). A phase turns into one table of 32 weights,
so that weighting a batch is a single look-up, ``table[kinds]``, and a phase change costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KINDS: tuple[str, ...] = ("term", "number", "diagnosis", "treatment", "empathy")
KIND_BITS: dict[str, int] = {kind: 1 << index for index, kind in enumerate(KINDS)}
PRECISION_KINDS: tuple[str, ...] = KINDS[:4]

# The guide's run has 5200 steps; other lengths keep these proportions.
REFERENCE_STEPS = 5200
REFERENCE_BOUNDARIES = (2000, 4000)


@dataclass(frozen=True)
class Phase:
    """One phase: optimizer steps ``start`` (inclusive) to ``end`` (exclusive), both counted from 0."""

    index: int
    name: str
    start: int
    end: int
    precision_factor: float
    empathy_factor: float
    focus: tuple[str, ...]


def phases_for(steps: int) -> tuple[Phase, Phase, Phase]:
    """The three phases of a run of ``steps`` optimizer steps.

    Boundaries are 2000/5200 and 4000/5200 of ``steps``, rounded. From 3 steps on every phase has at least one step.
    """
    first, second = (round(steps * boundary / REFERENCE_STEPS) for boundary in REFERENCE_BOUNDARIES)
    if steps >= 3:
        first = max(first, 1)
        second = min(max(second, first + 1), steps - 1)
    return (
        Phase(1, "精准度核心强化", 0, first, 1.5, 0.8, ("term", "number")),
        Phase(2, "医学知识深化", first, second, 1.3, 0.9, ("diagnosis", "treatment")),
        Phase(3, "精度+人情味平衡", second, steps, 1.0, 1.0, KINDS),
    )


def phase_at(step: int, phases: tuple[Phase, ...]) -> Phase:
    """The phase that optimizer step ``step`` (counted from 0) belongs to; past the end it is the last one."""
    for phase in phases:
        if step < phase.end:
            return phase
    return phases[-1]


def weight_table(phase: Phase, precision_weight: float, empathy_weight: float) -> np.ndarray:
    """Weights for all 32 kind masks: float32, shape (32,), indexed by the mask.

    1 outside every span. A focus kind has ``precision_weight × precision_factor``, another precision kind plain
    ``precision_weight``, empathy ``empathy_weight × empathy_factor``. Where spans overlap, precision wins over empathy
    and the larger precision weight counts.
    """
    focused = precision_weight * phase.precision_factor
    table = np.ones(1 << len(KINDS), dtype=np.float32)
    for mask in range(1, len(table)):
        weights = [
            focused if kind in phase.focus else precision_weight for kind in PRECISION_KINDS if mask & KIND_BITS[kind]
        ]
        table[mask] = max(weights) if weights else empathy_weight * phase.empathy_factor
    return table


def mean_weight(table: np.ndarray, kinds: np.ndarray, row_weights: np.ndarray) -> float:
    """w̄: the mean over a training set's supervised tokens of ``table[kinds] × row_weights``, in float64.

    ``kinds`` uint8 (N,), ``row_weights`` float32 (N,), both over supervised tokens alone. 1.0 when the sum is 0, so
    that a set in which nothing weighs anything divides by one rather than by zero.
    """
    total = float(np.sum(table[kinds].astype(np.float64) * row_weights))
    return total / len(kinds) if total > 0 else 1.0
