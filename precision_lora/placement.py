"""Whether an answer puts the asker's own value on the right side of its range and into the right grade."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from precision_lora.asker import Asker
from precision_lora.claims import applies, candidates, canonical_factor, describe, facts_of, kin, measures, ranges
from precision_lora.measures import Name
from precision_lora.negation import polarity
from precision_lora.quantities import Quantity
from precision_lora.readings import Finding

Span = TypeVar("Span", Quantity, Name)

_CLAUSE = re.compile(r"[,，。；;！!？?\n]")
_SENTENCE = re.compile(r"[。；;！!？?\n]")
_JUDGEMENT = re.compile(
    r"(?P<normal>(?:在|处于|属于|都在|还在|仍在|落在)(?:[^,，。；▮\d]{0,6})?(?:正常|参考)(?:的)?(?:范围|区间|"
    r"水平)?(?:之?内|里)?|"
    r"(?<!高于)(?<!低于)(?<!超过)(?<!超出)(?<!恢复)(?<!降到)(?<!降至)(?<!回到)(?<!离)(?<!比)(?<!接近)(?<!到)(?<!不在)正常"
    r"(?!范围|值|上限|下限|高值|人|参考|标准|水平|情况|来说|的?(?:空腹|餐后|血|体|心)|应|是|为|高限|低限|线|成人|"
    r"下|的话|生活|工作|饮食|吃|上班|作息|产检|发育|接种|妊娠|分娩))"
    r"|(?P<high>(?:明显|略微?|稍微?|轻度|有些?|有点|已经|确实|属于|都)?(?:偏高|升高|过高|增高|超标|太高|"
    r"高了(?:一点|一些|些|点)?|高于正常|超出正常|超过正常|超过了?(?:正常)?上限|高出正常))"
    r"|(?P<low>(?:明显|略微?|稍微?|轻度|有些?|有点|已经|确实|属于)?(?:偏低|过低|太低|低于正常|低了(?:一点|一些|些|"
    r"点)?|低于(?:正常)?下限))"
)
_GENERAL = re.compile(
    r"如果|若|一旦|通常|一般来说|多数人|有些人|正常人|健康人|以后|将来|下次|降到|控制|目标|达标|恢复|标准|定义|"
    r"诊断标准|怀疑|是否|会不会|容易|可能会|引起|导致|造成|长期|之前|以前|原来"
)
_GRADE = re.compile(
    r"(?P<grade>[1-3一二三ⅠⅡⅢ])级(?:的)?高血压|高血压(?:病)?[（(]?(?P<after>[1-3一二三ⅠⅡⅢ])级|"
    r"(?P<high_normal>正常高值)|(?P<over>超重)(?!的)|(?P<obese>肥胖)(?!症|会|的|者|人)"
)
_GRADE_NUMBER = {"1": 1, "一": 1, "Ⅰ": 1, "2": 2, "二": 2, "Ⅱ": 2, "3": 3, "三": 3, "Ⅲ": 3}
_REACHED = re.compile(
    r"(?:达到|达到了|符合|满足|够上|够得上|已达|超过了?)(?:[^,，。；]{0,8})?(?:诊断标准|诊断线|的标准|诊断界值|"
    r"诊断切点)|可以(?:直接)?(?:诊断|确诊)|(?:已经|就)(?:可以)?确诊"
)
_CHILD_SAFE = frozenset(
    ["body_temperature", "spo2", "fasting_glucose", "random_glucose", "postprandial_glucose", "hba1c"]
)


@dataclass(frozen=True)
class Zone:
    """Where a value is surely normal, high or low, with every listed alternative allowed.

    A value above ``high_max`` is high by every source, one below ``high_min`` by none; the same for low.
    """

    low_min: float | None
    low_max: float | None
    high_min: float | None
    high_max: float | None
    source: str
    text: str


def _part(bound: float | tuple[float, float] | None, index: int) -> float | None:
    return bound[index] if isinstance(bound, tuple) else bound


def zone(measure: str, asker: Asker, index: int = 0) -> Zone | None:
    """The zones of a measure for this asker; ``index`` 1 is the diastolic part of a pair."""
    facts = [f for f in candidates(measure, asker, "") if f.meaning in ("normal", "diagnostic", "limit")]
    related = kin(measure)
    if measure not in ("random_glucose", "bedtime_glucose", "nonfasting_glucose"):
        own = [f for f in facts if f.quantity == measure or f.quantity in related[:2]]
        facts = own or facts
    normal = [f for f in facts if f.meaning == "normal"]
    lows = [b for f in normal for r in ranges(f) if (b := _part(r.low, index)) is not None]
    highs = [b for f in normal for r in ranges(f) if (b := _part(r.high, index)) is not None]
    # A diagnostic line counts where there is no normal range, or where it all but ends the range; for blood pressure
    # always, since 正常高值 lies between the two.
    top, bottom = max(highs, default=None), min(lows, default=None)
    for fact in facts:
        if fact.meaning == "normal":
            continue
        for entry in ranges(fact):
            low, high = _part(entry.low, index), _part(entry.high, index)
            if low is not None and high is None and (top is None or measure == "blood_pressure" or low <= top * 1.1):
                highs.append(low)
            elif high is not None and low is None and (bottom is None or high >= bottom * 0.9):
                lows.append(high)
    if not lows and not highs:
        return None
    first = normal[0] if normal else facts[0]
    return Zone(
        min(lows, default=None),
        max(lows, default=None),
        min(highs, default=None),
        max(highs, default=None),
        first.source,
        describe(first),
    )


def _values(quantity: Quantity) -> tuple[float, ...] | None:
    """(value,) or (systolic, diastolic) of a plain reading, in the measure's unit."""
    if quantity.form not in ("value", "pair") or quantity.comparator not in (None, "~") or quantity.measures is None:
        return None
    factor = canonical_factor(quantity.measures, quantity.unit)
    if factor is None or quantity.low is None or quantity.low != quantity.high:
        return None
    if quantity.form == "pair":
        if quantity.second_low is None:
            return None
        return quantity.low * factor, quantity.second_low * factor
    return (quantity.low * factor,)


def _sides(values: tuple[float, ...], measure: str, asker: Asker) -> tuple[set[str], Zone] | None:
    """The judgements that may be passed on the values: any of normal, high, low."""
    allowed: set[str] = set()
    shown: Zone | None = None
    normal = True
    for index, value in enumerate(values):
        limits = zone(measure, asker, index)
        if limits is None:
            return None
        shown = shown or limits
        if limits.high_min is not None and value >= limits.high_min:
            allowed.add("high")
        if limits.low_max is not None and value <= limits.low_max:
            allowed.add("low")
        if limits.high_max is not None and value > limits.high_max:
            normal = False
        if limits.low_min is not None and value < limits.low_min:
            normal = False
        if limits.high_min is None:
            allowed.add("high")
        if limits.low_min is None:
            allowed.add("low")
    if normal:
        allowed.add("normal")
    assert shown is not None
    return allowed, shown


def _asked(asker: Asker) -> dict[str, list[Quantity]]:
    """Measure -> the asker's plain readings of it."""
    asked: dict[str, list[Quantity]] = {}
    for quantity in asker.quantities:
        if quantity.measures in measures() and _values(quantity) is not None:
            asked.setdefault(quantity.measures or "", []).append(quantity)
    return asked


def _same(first: Quantity, second: Quantity) -> bool:
    return (first.low, first.high, first.second_low, first.second_high) == (
        second.low,
        second.high,
        second.second_low,
        second.second_high,
    )


def _span_of(pattern: re.Pattern[str], text: str, position: int, reach: int) -> tuple[int, int]:
    begin = max(0, position - reach)
    for match in pattern.finditer(text, begin, position):
        begin = match.end()
    stop = pattern.search(text, position, min(len(text), position + reach))
    return begin, stop.start() if stop else min(len(text), position + reach)


def _within(spans: Sequence[Span], begin: int, end: int) -> Sequence[Span]:
    """The spans (sorted by start, without overlaps) that lie in text[begin:end]."""
    first = bisect_left(spans, begin, key=lambda s: s.start)
    last = bisect_left(spans, end, key=lambda s: s.start)
    return [s for s in spans[first:last] if s.end <= end]


def _spoken_of(
    text: str,
    position: int,
    quantities: Sequence[Quantity],
    names: Sequence[Name],
    asked: dict[str, list[Quantity]],
) -> Quantity | None:
    """The asker's reading that a judgement at ``position`` is about: by the number before it, or by the name."""
    begin, end = _span_of(_CLAUSE, text, position, 60)
    earlier, _ = _span_of(_SENTENCE, text, position, 60)
    near = _within(quantities, earlier, end)
    in_clause = [q for q in near if q.start >= begin]
    before = [q for q in near if q.end <= position]
    subject = in_clause[-1] if len(in_clause) == 1 and in_clause[0].end <= position else None
    if subject is None and not in_clause and before and position - before[-1].end <= 12:
        between = text[before[-1].end : begin]
        if len(before) == 1 and not any(n.kind == "measure" for n in _within(names, before[-1].end, position)):
            subject = before[-1] if len(between) <= 3 else None
    if subject is not None:
        for measure, readings in asked.items():
            if subject.measures in kin(measure) or measure in kin(subject.measures or ""):
                for reading in readings:
                    if _same(subject, reading):
                        return reading
        return None
    if in_clause:
        return None
    close = [n for n in _within(names, begin, position) if n.kind == "measure" and position - n.end <= 8]
    if len(close) == 1 and re.search(r"您|你", text[begin : close[0].start]):
        readings = asked.get(close[0].id, [])
        if len(readings) == 1:
            return readings[0]
    return None


def placements(text: str, quantities: Sequence[Quantity], names: Sequence[Name], asker: Asker) -> list[Finding]:
    """Judgements (正常, 偏高, 偏低) on the asker's values that no listed source bears out."""
    asked = _asked(asker)
    if not asked:
        return []
    found: list[Finding] = []
    for match in _JUDGEMENT.finditer(text):
        side = match.lastgroup or ""
        begin, end = _span_of(_CLAUSE, text, match.start(), 60)
        clause = text[begin:end]
        if _GENERAL.search(clause):
            continue
        reading = _spoken_of(text, match.start(), quantities, names, asked)
        if reading is None:
            continue
        measure = reading.measures or ""
        if (asker.child or asker.pregnant) and measure not in _CHILD_SAFE:
            continue
        if asker.pregnant and measure not in ("blood_pressure", "body_temperature", "spo2"):
            continue
        values = _values(reading)
        sides = _sides(values, measure, asker) if values else None
        if sides is None:
            continue
        allowed, limits = sides
        said = polarity(text, *match.span())
        if said in ("uncertain", "conditional", "contraindicated"):
            continue
        # 不正常, 不高, 不算低: wrong only if nothing else can be said of the value.
        wrong = allowed == {side} if said == "negated" else side not in allowed
        if side == "normal" and re.search(r"(?:血糖|血压)?控制|达标", clause):
            wrong = False
        if wrong:
            word = {"normal": "正常", "high": "偏高", "low": "偏低"}[side]
            prefix = "不是" if said == "negated" else ""
            note = f"提问者的{reading.text}被说成{prefix}{word}，而{limits.text}"
            found.append(Finding("wrong_placement", match.start(), match.end(), "error", limits.source, note))
    found += _reached(text, asker, asked)
    return found


def _reached(text: str, asker: Asker, asked: dict[str, list[Quantity]]) -> list[Finding]:
    """达到诊断标准 said of a value below every listed line, or denied of one above all."""
    found: list[Finding] = []
    for match in _REACHED.finditer(text):
        begin, end = _span_of(_CLAUSE, text, match.start(), 60)
        clause = text[begin:end]
        disease = next((d for d in ("高血压", "糖尿病", "高尿酸血症", "肥胖", "发热") if d in clause), None)
        if disease is None or re.search(
            r"如果|若|复查|再次|[两三多]次|时$|出现|或|才|也达到|后达到|另一|症状|家庭|在家", clause
        ):
            continue
        said = polarity(text, match.start(), match.end())
        if said not in ("affirmed", "negated"):
            continue
        for measure, readings in asked.items():
            lines = [
                f
                for m in kin(measure)[:2]
                for f in facts_of().get(m, ())
                if f.meaning == "diagnostic" and disease in f.label and f.low is not None and applies(f, asker, "")
            ]
            if not lines or len(readings) != 1 or asker.pregnant or asker.child:
                continue
            values = _values(readings[0])
            if values is None:
                continue
            bounds = [r.low for f in lines for r in ranges(f) if r.low is not None]
            reached = [any(v >= (_part(b, i) or 0) for i, v in enumerate(values)) for b in bounds]
            if said == "affirmed" and not any(reached):
                note = f"提问者的{readings[0].text}未达到诊断标准：{describe(lines[0])}"
                found.append(Finding("wrong_placement", match.start(), match.end(), "error", lines[0].source, note))
            elif (
                said == "negated"
                and all(reached)
                and not re.search(r"单次|一次|仅凭|不能|还需|不可以|先不|光凭|单凭|只凭|就能", clause)
            ):
                note = f"提问者的{readings[0].text}已达到：{describe(lines[0])}"
                found.append(Finding("wrong_placement", match.start(), match.end(), "error", lines[0].source, note))
    return found


def _grade_of(values: tuple[float, float]) -> int:
    """Hypertension grade of a pair by the fact table: the higher of the two parts; 0 below grade 1."""
    grade = 0
    for fact in facts_of().get("blood_pressure", ()):
        number = re.match(r"([123])级高血压", fact.label)
        if fact.meaning != "grade" or number is None or not isinstance(fact.low, tuple):
            continue
        if values[0] >= fact.low[0] or values[1] >= fact.low[1]:
            grade = max(grade, int(number[1]))
    return grade


def grades(text: str, quantities: Sequence[Quantity], asker: Asker) -> list[Finding]:
    """A grade (2级高血压, 正常高值, 超重, 肥胖) given to the asker that the asker's only reading does not have."""
    asked = _asked(asker)
    pressures = [v for q in asked.get("blood_pressure", []) if (v := _values(q)) and len(v) == 2]
    masses = [v for q in asked.get("bmi", []) if (v := _values(q))] or _mass_index(asker)
    if asker.child or asker.pregnant:
        return []
    found: list[Finding] = []
    for match in _GRADE.finditer(text):
        begin, end = _span_of(_CLAUSE, text, match.start(), 60)
        clause = text[begin:end]
        inside = [q for q in _within(quantities, begin, end) if q.form != "frequency"]
        after = text[match.end() : match.end() + 4]
        if after[:1] in "（(：:是为" and re.search(r"\d", text[match.end() : match.end() + 6]):
            continue  # 2级高血压（160～179/100～109）: the definition
        if _GENERAL.search(clause) or re.search(
            r"[、及和或]|以上|甚至|还没|以下|界|患者", text[max(begin, match.start() - 3) : match.start()] + after[:3]
        ):
            continue
        if not re.search(r"属于|算|是|达到|为|考虑|提示|相当于|处于|已经", clause) and not re.search(r"您|你", clause):
            continue
        if polarity(text, *match.span()) not in ("affirmed",):
            continue
        grade = match["grade"] or match["after"]
        if grade or match["high_normal"]:
            if len(pressures) != 1 or any(
                q.measures not in ("blood_pressure", "age") or not _is_asked(q, asker) for q in inside
            ):
                continue
            actual = _grade_of((pressures[0][0], pressures[0][1]))
            stated = _GRADE_NUMBER.get(grade or "", 0)
            systolic, diastolic = pressures[0]
            if match["high_normal"]:
                right = (120 <= systolic < 140 and diastolic < 90) or (80 <= diastolic < 90 and systolic < 140)
            else:
                right = actual == stated
            if not right:
                name = f"{actual}级高血压" if actual else "未到1级高血压"
                reading = asked["blood_pressure"][0]
                fact = next(
                    (f for f in facts_of().get("blood_pressure", ()) if f.label.startswith(f"{actual}级")), None
                )
                source = fact.source if fact else "中国高血压防治指南(2024年修订版)"
                found.append(
                    Finding(
                        "wrong_grade", match.start(), match.end(), "error", source, f"提问者的{reading.text}属于{name}"
                    )
                )
        elif len(masses) == 1 and not any(
            not _is_asked(q, asker) for q in inside if q.measures == "bmi" and q.comparator
        ):
            value = masses[0][0]
            facts = [
                f
                for f in facts_of().get("bmi", ())
                if f.meaning == "grade" and (match["over"] or match["obese"]) in f.label
            ]
            spans = [(_part(r.low, 0), _part(r.high, 0)) for f in facts for r in ranges(f)]
            if spans and not any(
                (lo is None or value >= lo - 0.05) and (hi is None or value < hi + 0.15) for lo, hi in spans
            ):
                note = f"提问者的BMI约{value:.1f}，不属于{match[0]}：{describe(facts[0])}"
                found.append(Finding("wrong_grade", match.start(), match.end(), "error", facts[0].source, note))
    return found


def _is_asked(quantity: Quantity, asker: Asker) -> bool:
    return any(_same(quantity, other) for other in asker.quantities) or quantity.unit in (
        "岁",
        "天",
        "周",
        "月",
        "年",
        "次/天",
    )


def _mass_index(asker: Asker) -> list[tuple[float, ...]]:
    value = mass_index(asker)
    return [] if value is None else [(value,)]


def mass_index(asker: Asker) -> float | None:
    """BMI in kg/m² from the asker's only height and weight; None without them."""
    heights, weights = [], []
    for quantity in asker.quantities:
        if quantity.low is None or quantity.low != quantity.high or quantity.form not in ("value",):
            continue
        factor = canonical_factor(quantity.measures or "", quantity.unit)
        if quantity.measures == "height" and factor:
            heights.append(quantity.low * factor)
        elif quantity.measures == "weight" and factor:
            weights.append(quantity.low * factor)
        elif quantity.unit == "cm" and 100 <= quantity.low <= 230 and quantity.measures is None:
            heights.append(quantity.low)
        elif quantity.unit in ("kg", "斤") and quantity.measures is None:
            weights.append(quantity.low * (0.5 if quantity.unit == "斤" else 1))
    if len(heights) != 1 or len(weights) != 1 or not heights[0]:
        return None
    metres = heights[0] / 100 if heights[0] > 3 else heights[0]
    return weights[0] / metres**2
