"""Facts found by their wording: what a number means where no measure is named as the tables name it.

A number that the checker leaves unchecked (疗程14天, 每天补800 mg) is compared with the facts of the same kind of unit
whose label the question and the sentence share. A range of the right size earns less than a checked one; only a
number far from every fact that fits loses.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from functools import cache

from precision_lora import knowledge
from precision_lora.numerals import fold
from precision_lora.quantities import Quantity
from precision_lora.unit_forms import convert

# Share of a label's weight that question and sentence must hold.
_SHARED = 0.4
# The same, for saying that a number is wrong.
_SURELY = 0.5
# Labels this close to the best one are all meant.
_NEAR = 0.8
# How far from every bound a number must be to be called wrong.
_FAR = 1.9
_CLOSE = 0.05
_PERIODS = ("/天", "/周", "/月", "/年", "/次")
_VARIANTS = {
    "每日": "每天", "一天": "每天", "一日": "每天", "一次": "每次", "成年人": "成人", "建议": "推荐",
    "参考区间": "正常",
    "正常范围": "正常", "参考范围": "正常", "正常值": "正常", "服药": "用药",
    "吃药": "用药", "服用": "用药", "喝水": "饮水", "吃盐": "食盐",
    "小孩": "儿童", "孩子": "儿童", "宝宝": "儿童", "发烧": "发热",
    "退烧": "退热", "运动量": "运动", "锻炼": "运动", 
    "大便": "粪便", "小便": "尿",
    "时长": "时间", "多久": "时间", "多长时间": "时间",
}  # fmt: skip
_SAME = re.compile("|".join(sorted(_VARIANTS, key=len, reverse=True)))
_FILLER = re.compile(r"自行用药时限|自行|时限|推荐|建议|摄入量?|参考|时间|疗程|用量|常用|一般|首次|间隔")
_SMALL = frozenset("的了是在有和就不也很都要会可以如果能到把被让给再每天日次人内外后前中时上下大小第一二三0123456789")
# Two lengths of time are compared where their units are neighbours: days and weeks, not minutes and days.
_TIME_STEPS = {"秒": 0, "分钟": 1, "小时": 2, "天": 3, "周": 4, "月": 5, "年": 6}


@dataclass(frozen=True)
class Recalled:
    """``verdict``: "supported" or "contradicted"; the fact's id, label and source."""

    verdict: str
    fact_id: str
    label: str
    source: str


def _pairs(text: str) -> frozenset[str]:
    """Characters and pairs of neighbours, common variants made the same."""
    letters = _SAME.sub(lambda m: _VARIANTS[m[0]], "".join(c for c in text if c.isalnum()))
    return frozenset(letters[i : i + 2] for i in range(len(letters) - 1)) | (frozenset(letters) - _SMALL)


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
        label = _FILLER.sub("", fold(fact.label))
        unit = {"孕周": "周", "月龄": "月", "mL": "ml"}.get(unit, unit)
        found.append((fact, unit, _pairs(label if len(label) >= 2 else fold(fact.label))))
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
    if all(any(abs(s - b) <= _CLOSE * abs(b) for b in bounds) or (closed and low <= s <= high) for s in known):
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
    unit = {"孕周": "周", "月龄": "月", "mL": "ml"}.get(unit, unit)
    weights = _weights()
    ranked = []
    for fact, fact_unit, pairs in _facts():
        if not pairs or convert(1.0, unit, fact_unit) is None:
            continue
        if value.measures is not None and value.measures != fact.quantity:
            continue
        if abs(_TIME_STEPS.get(unit, 0) - _TIME_STEPS.get(fact_unit, 0)) > 1:
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
            return Recalled("supported", fact.id, fact.label, fact.source)
    # 两次间隔4小时，一天不超过4次: a number of another thing in the same sentence is near no fact either.
    if best >= _SURELY and all(fit == "far" for _, fit in near):
        fact = near[0][0]
        return Recalled("contradicted", fact.id, fact.label, fact.source)
    return None
