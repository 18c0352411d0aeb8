"""Facts found by their wording: what a number means where no measure is named as the tables name it.

A number that the checker leaves unchecked (疗程14天, 每天补800 mg) is compared with the facts of the same kind of unit
whose label the question and the sentence share. A range of the right size earns less than a checked one; only a
number far from every fact that fits loses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

from precision_lora import knowledge
from precision_lora.numerals import fold
from precision_lora.quantities import Quantity
from precision_lora.unit_forms import convert

# Share of a label's weight that question and sentence must hold.
_SHARED = 0.5
# Labels this close to the best one are all meant.
_NEAR = 0.8
# How far from every bound a number must be to be called wrong.
_FAR = 1.9
_CLOSE = 0.05
_PERIODS = ("/天", "/周", "/月", "/年", "/次")


@dataclass(frozen=True)
class Recalled:
    """``verdict``: "supported" or "contradicted"; the fact's label and source."""

    verdict: str
    label: str
    source: str


def _pairs(text: str) -> frozenset[str]:
    letters = "".join(c for c in text if c.isalnum())
    return frozenset(letters[i : i + 2] for i in range(len(letters) - 1))


@cache
def _facts() -> tuple[tuple[knowledge.Fact, str, frozenset[str]], ...]:
    """(fact, its unit without the period, pairs of characters of its label)."""
    found = []
    for fact in knowledge.facts():
        if fact.unit is None or isinstance(fact.low, tuple) or isinstance(fact.high, tuple):
            continue
        unit = fact.unit
        for period in _PERIODS:
            unit = unit.removesuffix(period)
        found.append((fact, unit, _pairs(fold(fact.label))))
    return tuple(found)


@cache
def _weights() -> dict[str, float]:
    """Pair -> how much it tells one label from another."""
    counts: dict[str, int] = {}
    for _, _, pairs in _facts():
        for pair in pairs:
            counts[pair] = counts.get(pair, 0) + 1
    return {pair: math.log(1 + len(_facts()) / n) for pair, n in counts.items()}


def _fits(value: Quantity, fact: knowledge.Fact, unit: str) -> str:
    """ "right", "near" or "far"."""
    said = [convert(b, value.unit or "", unit) for b in (value.low, value.high) if b is not None]
    bounds = [b for b in (fact.low, fact.high) if isinstance(b, float | int)]
    bounds += [b for a in fact.alternatives for b in (a.low, a.high) if isinstance(b, float | int)]
    known = [s for s in said if s is not None and s > 0]
    if not known or not bounds or len(known) != len(said):
        return "near"
    low, high = min(bounds), max(bounds)
    closed = fact.low is not None and fact.high is not None
    if all(
        any(abs(s - b) <= _CLOSE * abs(b) for b in bounds) or (closed and low <= s <= high) for s in known
    ):
        return "right"
    if any(s > high * _FAR or s * _FAR < low for s in known):
        return "far"
    return "near"


def recall(value: Quantity, context: str) -> Recalled | None:
    """What the facts say to a quantity with a unit in a folded ``context``; None where no label fits or tells."""
    if value.unit is None or value.form not in ("value", "range"):
        return None
    unit, own = value.unit, _pairs(context)
    for period in _PERIODS:
        unit = unit.removesuffix(period)
    weights = _weights()
    ranked = []
    for fact, fact_unit, pairs in _facts():
        if not pairs or convert(1.0, unit, fact_unit) is None:
            continue
        total = sum(weights[p] for p in pairs)
        shared = sum(weights[p] for p in pairs & own) / total
        if shared >= _SHARED:
            ranked.append((shared, fact, fact_unit))
    if not ranked:
        return None
    best = max(shared for shared, _, _ in ranked)
    plain = replace(value, unit=unit)
    near = [(f, _fits(plain, f, u)) for shared, f, u in ranked if shared >= best * _NEAR]
    for fact, fit in near:
        if fit == "right":
            return Recalled("supported", fact.label, fact.source)
    # 两次间隔4小时，一天不超过4次: a number of another thing in the same sentence is near no fact either.
    if all(fit == "far" for _, fit in near):
        fact = near[0][0]
        return Recalled("contradicted", fact.label, fact.source)
    return None
