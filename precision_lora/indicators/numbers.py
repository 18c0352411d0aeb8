"""Numbers: each checked against the tables, the question and arithmetic; the asker's value placed on its side."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

from precision_lora import factcheck, knowledge
from precision_lora.asker import Asker, read_asker
from precision_lora.claims import candidates, canonical_factor, measures, ranges
from precision_lora.dosing import drugs, limits
from precision_lora.indicators.arithmetic import sums, tablets
from precision_lora.indicators.findings import NUMBER, Finding
from precision_lora.indicators.reading import Consultation
from precision_lora.indicators.recall import Recalled, recall
from precision_lora.lexicon import longest_match_pattern
from precision_lora.negation import polarity
from precision_lora.numerals import fold
from precision_lora.placement import zone
from precision_lora.quantities import Quantity
from precision_lora.readings import Reading
from precision_lora.unit_forms import convert

_RULE = "评分规则：数值核对"
_GUIDE = "中国高血压防治指南（2024年修订版）"
# Kinds of the fact checker that are about numbers, and their points.
_FAULTS = {
    "contradicted_number": -1.8, "wrong_unit": -1.6, "overdose": -1.9, "underdose": -1.2,
    "wrong_placement": -1.7, "wrong_grade": -1.4,
}  # fmt: skip

# Most mg a kilogram in one intake.
_PER_KG = {"布洛芬": 10.0, "美林": 10.0, "对乙酰氨基酚": 15.0, "泰诺林": 15.0}
_HIGH_RISK = re.compile(r"支架|冠心病|心梗|心肌梗|脑梗|搭桥|缺血性(?:卒中|脑)|心绞痛")
_TIMES = frozenset(["天", "小时", "分钟", "周", "月", "年", "秒", "日"])
_HIGH = re.compile(
    r"偏高|高于|超过|超出|超了|超标|升高|过高|高了|略高|稍高|增高|太高|过线|偏快|偏胖|超重|肥胖|达到|没(?:有)?达标|未达标|不达标|已经?到|高血压|"
    r"高血糖|高尿酸|高脂|发热|发烧|低热|高热|属于高|算高|≥|越过|碰到这条线|明显高|高出|偏大|糖尿病的?诊断|够上"
)
_LOW = re.compile(
    r"偏低|低于|不足|降低|减少|低了|过低|略低|稍低|太低|偏慢|不够|低血糖|低血压|减低|贫血|没到|低钾|低钠|低氧|偏瘦"
)
_FINE = re.compile(
    r"正常(?!上限|高值|值|值?[是为]|范围[是为一在]|血压[是为])|在(?:参考)?范围|没(?:有)?超|达标|合适|够用|安全|居中|"
    r"不(?:算)?(?:高|低)|没(?:什么)?(?:问题|事)|合格|理想|放心"
)
_ABOUT_ASKER = re.compile(r"您|你|这个(?:数|值|结果|水平|血|指标)|这次|该值|目前|已经|属于|算|落在")


def find(c: Consultation) -> list[Finding]:
    """Findings on numbers."""
    if not c.genuine:
        return []
    # Silence about numbers is worth more than a wrong number (see ``findings.fold_points``).
    found = [Finding("没有因数值出错而失分", 0.4, NUMBER, 0, 0, _RULE)]
    readings = _readings(c)
    wrong: list[tuple[int, int]] = []
    right: set[str] = set()
    unchecked = echoes = good = 0
    recalled = _recalled(c, readings)
    for index, reading in enumerate(readings):
        q = reading.quantity
        if reading.verdict == "supported" and not _same_direction(reading):
            reading = replace(reading, verdict="unchecked")
        if reading.verdict == "contradicted":
            wrong.append((q.start, q.end))
            if len(wrong) <= 3:
                found.append(
                    Finding(f"数值有误：{q.text}（{reading.note}）", -1.8, NUMBER, q.start, q.end, reading.source)
                )
            continue
        key = fold(q.text)
        if key in right or not c.counts(q.start):
            continue
        right.add(key)
        span_of_time = q.unit in _TIMES and reading.verdict == "computed"
        if reading.verdict in ("supported", "computed") and not span_of_time:
            points = 0.85 * 0.75**good
            good += 1
            what = "数值与资料一致" if reading.verdict == "supported" else "换算或计算正确"
            found.append(Finding(f"{what}：{q.text}（{reading.note}）", points, NUMBER, q.start, q.end, reading.source))
        elif reading.verdict == "echo":
            echoes += 1
            if echoes == 1:
                found.append(Finding(f"引用提问者的数值：{q.text}", 0.08, NUMBER, q.start, q.end, "提问"))
        elif (remembered := recalled.get(index)) is not None:
            note = f"{remembered.label}，{q.text}"
            if remembered.verdict == "supported":
                found.append(
                    Finding(f"数值与资料相符：{note}", 0.6 * 0.75**good, NUMBER, q.start, q.end, remembered.source)
                )
                good += 1
            else:
                wrong.append((q.start, q.end))
                found.append(Finding(f"数值与资料相差很远：{note}", -1.0, NUMBER, q.start, q.end, remembered.source))
        elif unchecked < 5:
            points = _plain_value(q) * 0.8**unchecked
            unchecked += 1
            found.append(
                Finding(f"给出具体数值：{q.text}（资料未收录，未核对）", points, NUMBER, q.start, q.end, _RULE)
            )
    placed_wrong = False
    for fault in factcheck.findings(c.answer, c.question):
        weight = _FAULTS.get(fault.kind)
        if weight is None or any(fault.start < e and s < fault.end for s, e in wrong):
            continue
        placed_wrong |= fault.kind in ("wrong_placement", "wrong_grade")
        wrong.append((fault.start, fault.end))
        found.append(Finding(fault.note, weight, NUMBER, fault.start, fault.end, fault.source))
    for q in c.quantities:
        name = next((n for n in _PER_KG if n in c.a[max(0, q.start - 40) : q.start] or n in c.q), None)
        if q.unit == "mg/kg" and name and (q.high or q.low):
            most, dose = _PER_KG[name], max(q.high or 0.0, q.low or 0.0)
            usual = dose <= most
            text = f"{name}按体重的剂量{'在常用范围内' if usual else f'超过每次{most:g} mg/kg'}：{q.text}"
            found.append(Finding(text, 0.6 if usual else -1.9, NUMBER, q.start, q.end, "药品说明书"))
            break
    for points, text, start, end in _conversions(c):
        if points > 0 and any(f.points > 0.5 and f.start <= start < f.end for f in found):
            continue
        if points > 0 or not any(start < e and s < end for s, e in wrong):
            found.append(Finding(text, points, NUMBER, start, end, "摩尔质量换算"))
    for done in sums(c.a, c.quantities, c.asked):
        if done.right and not any(f.points > 0.5 and f.start <= done.start < f.end for f in found):
            found.append(Finding("算得正确", 0.6, NUMBER, done.start, done.end, "算术"))
        elif not done.right and not any(done.start < e and s < done.end for s, e in wrong):
            found.append(Finding(f"算错或比错：{done.note}", -1.6, NUMBER, done.start, done.end, "算术"))
    found += _tablets(c)
    grade = grade_said(c)
    if grade and grade[0] == grade[1]:
        found.append(Finding(f"血压分级判断正确：{grade[0]}级", 0.6, NUMBER, grade[2], grade[3], _GUIDE))
    elif grade and not placed_wrong:
        expected = f"应为{grade[1]}级" if grade[1] else "还不到高血压"
        found.append(Finding(f"血压分级判断有误：{expected}", -1.4, NUMBER, grade[2], grade[3], _GUIDE))
    if not placed_wrong:
        found += _placements(c)
    return found


def _recalled(c: Consultation, readings: list[Reading]) -> dict[int, Recalled]:
    """What the facts say by their wording to numbers that no measure claims, by index into ``readings``.

    A fact that one number of the answer meets says nothing against the others, and at most one number is wrong by it.
    """
    found: dict[int, Recalled] = {}
    for index, reading in enumerate(readings):
        q = reading.quantity
        if reading.verdict != "unchecked" or q.measures in drugs() or q.unit in ("岁", "%", "倍"):
            continue
        first, last = c.sentence_span(q.start)
        if _CHANGED.search(c.a[max(first, q.start - 4) : q.start]):
            continue
        if (said := recall(q, f"{c.q}。{c.a[first : q.start]}。{c.a[q.end : last]}")) is not None:
            found[index] = said
    met = {said.fact_id for said in found.values() if said.verdict == "supported"}
    met |= {r.fact_id for r in readings if r.verdict == "supported" and r.fact_id}
    kept: dict[int, Recalled] = {}
    for index, said in found.items():
        if said.verdict == "supported":
            kept[index] = said
        elif said.fact_id not in met:
            met.add(said.fact_id)
            kept[index] = said
    return kept


# 偏高3 mmHg: a difference, no value.
_CHANGED = re.compile(r"[高低升降差多少增减]了?$")


def _tablets(c: Consultation) -> list[Finding]:
    """Tablets multiplied by their strength, against what the drug's table allows in one intake or day."""
    names = {q.measures for q in (*c.quantities, *c.asked) if q.measures in drugs()}
    known = limits(names.pop() or "") if len(names) == 1 else None
    if known is None or known.unit is None or known.high is None:
        return []
    allowed = max(known.daily or 0.0, known.high)
    found: list[Finding] = []
    for q, amount, unit in tablets(c.quantities, c.asked):
        dose = convert(amount, unit, known.unit)
        if dose is None:
            continue
        if dose > allowed * 1.001:
            note = f"{q.text}合{dose:g}{known.unit}，超过最大量{allowed:g}{known.unit}"
            return [Finding(f"片数折算后过量：{note}", -1.8, NUMBER, q.start, q.end, known.source)]
        if not found:
            note = f"{q.text}合{dose:g}{known.unit}"
            found.append(Finding(f"片数折算后在限量之内：{note}", 0.4, NUMBER, q.start, q.end, known.source))
    return found


def _plain_value(q: Quantity) -> float:
    """Worth of a number that no table knows: with a unit more than without."""
    if q.form == "frequency":
        return 0.14
    if q.unit is None and q.form in ("value", "fraction"):
        return 0.05
    return 0.22


@cache
def _lines() -> dict[str, tuple[float, ...]]:
    """Where hypertension begins, by the way of measuring."""
    lines: dict[str, tuple[float, ...]] = {}
    for fact in knowledge.facts():
        if fact.meaning == "diagnostic" and fact.population == "普通" and isinstance(fact.low, tuple):
            lines[fact.quantity] = fact.low
    return lines


def _normal(measure: str, asker: Asker, index: int) -> tuple[list[float], list[float]] | None:
    """(lower bounds, upper bounds) of normal by every listed source; without a normal range those of the zone."""
    normal = [f for f in candidates(measure, asker, "") if f.meaning == "normal"]
    if not normal:
        limits = zone(measure, asker, index)
        if limits is None:
            return None
        lows, highs = [limits.low_min, limits.low_max], [limits.high_min, limits.high_max]
    else:
        lows, highs = [], []
        for fact in normal:
            for entry in ranges(fact):
                low, high = (b[index] if isinstance(b, tuple) else b for b in (entry.low, entry.high))
                lows.append(low)
                highs.append(high)
    if measure == "ldl_c" and _HIGH_RISK.search(asker.text):
        # After a stent or a stroke the goal, not the laboratory's limit, says what is high.
        return [], [1.8]
    if measure in _lines():
        # 120–139/80–89 is neither plainly normal nor high.
        highs.append(_lines()[measure][index] - 1)
    return [b for b in lows if b is not None], [b for b in highs if b is not None]


def _side(value: float, lows: list[float], highs: list[float]) -> str:
    """ "high", "low", "fine"; empty where the sources disagree about this value."""
    if highs and value > max(highs):
        return "high"
    if lows and value < min(lows):
        return "low"
    if all(value <= h for h in highs) and all(value >= low for low in lows):
        return "fine"
    return ""


def side_of(q: Quantity, asker: Asker) -> str | None:
    """ "high", "low" or "fine" for a value of the asker, None where the tables do not tell or their ranges disagree."""
    if q.low is None or q.low != q.high or q.measures is None or q.form not in ("value", "pair"):
        return None
    factor = canonical_factor(q.measures, q.unit)
    if factor is None or (q.form == "pair" and q.second_low is None):
        return None
    sides = []
    for index, value in enumerate([q.low, q.second_low] if q.form == "pair" else [q.low]):
        bounds = _normal(q.measures, asker, index)
        if bounds is None or value is None:
            return None
        sides.append(_side(value * factor, *bounds))
    for side in ("high", "low"):
        if side in sides:
            return side
    return "fine" if all(s == "fine" for s in sides) else None


_CONVERTIBLE = {
    "血糖": "fasting_glucose", "胆固醇": "total_cholesterol", "甘油三酯": "triglycerides", "尿酸": "uric_acid",
    "肌酐": "creatinine", "胆红素": "total_bilirubin",
}  # fmt: skip
_BARE_BOUND = re.compile(
    r"(?:[过于到达≥≤<>]|不到)\s?\d[\d.]*(?![\d.]*\s?(?:天|周|月|年|小时|分钟|次|克|片|mg|g\b|%|岁|秒))"
)
_CONVERTS = re.compile(r"换|等于|约|相当于|≈|=|折合|就是|除以|乘|mmol|μmol|umol")


def _conversions(c: Consultation) -> list[tuple[float, str, int, int]]:
    """(points, criterion, start, end) of the asker's foreign value written in the unit used here; 5 % off is right."""
    out = []
    for q in c.asked:
        if q.unit != "mg/dL" or q.low is None or q.low != q.high:
            continue
        measure = next((m for word, m in _CONVERTIBLE.items() if word in c.q), q.measures or "")
        entry = measures().get(measure)
        factor = canonical_factor(measure, q.unit) if entry else None
        if entry is None or factor is None:
            continue
        for said in c.quantities:
            if (
                said.unit != entry.unit
                or said.low is None
                or said.low != said.high
                or said.comparator not in (None, "~")
            ):
                continue
            first, last = c.sentence_span(said.start)
            lead = c.a[max(first, said.start - 14) : said.start]
            if not _CONVERTS.search(lead) or not re.search(r"换|除|乘|mg|约|等于|相当", c.a[first:last]):
                continue
            wanted = q.low * factor
            good = abs(said.low - wanted) <= 0.05 * wanted
            text = (
                f"换算正确：{q.text}约为{wanted:.3g} {entry.unit}"
                if good
                else f"换算有误：{q.text}应约为{wanted:.3g} {entry.unit}"
            )
            out.append((0.85 if good else -1.8, text, said.start, said.end))
            break
    return out


_GRADE = re.compile(r"([1-3一二三])级(?:的)?(?:高血压|的?范围)?")
_GRADE_NUMBERS = {"1": 1, "一": 1, "2": 2, "二": 2, "3": 3, "三": 3}


def grade_said(c: Consultation) -> tuple[int, int, int, int] | None:
    """(grade said, right grade, start, end) of the asker's pressure; None where none or several are named."""
    pairs = [
        q for q in c.asked if q.form == "pair" and q.measures in ("blood_pressure", None) and q.low and q.second_low
    ]
    if len(pairs) != 1 or "血压" not in c.q:
        return None
    high, low = pairs[0].low or 0.0, pairs[0].second_low or 0.0
    right = 3 if high >= 180 or low >= 110 else 2 if high >= 160 or low >= 100 else 1 if high >= 140 or low >= 90 else 0
    said = [
        m for m in _GRADE.finditer(c.a) if c.counts(m.start()) and polarity(c.a, *m.span()) in ("affirmed", "uncertain")
    ]
    if len({m[1] for m in said}) != 1:
        return None
    first, last = c.sentence_span(said[0].start())
    if not re.search(r"您|你|这个|这次|属|落在|达到|就是|已经?到|符合|算|医院|,|，", c.a[first:last]):
        return None
    return _GRADE_NUMBERS[said[0][1]], right, *said[0].span()


@cache
def _subject_pattern() -> re.Pattern[str]:
    names = [n for m in knowledge.quantities_table() for n in m.names if len(n) >= 2 or n in "盐"]
    names += [n for d in knowledge.drugs() for n in (d.name, *d.aliases)]
    return re.compile(longest_match_pattern(fold(n) for n in names))


def _same_direction(reading: Reading) -> bool:
    """Whether a bound on one side (over 300) agrees with a fact open on that side, not with its opposite."""
    fact = next((f for f in knowledge.facts() if f.id == reading.fact_id), None)
    if fact is None or reading.quantity.comparator not in (">", ">=", "<", "<="):
        return True
    above = reading.quantity.comparator in (">", ">=")
    return fact.low is not None if above else fact.high is not None


def _readings(c: Consultation) -> list[Reading]:
    """The checker's readings; a number whose subject only the question names (尿酸降到多少? 360) is read with it."""
    readings = factcheck.check(c.answer, c.question)
    subjects = list(dict.fromkeys(m[0] for m in _subject_pattern().finditer(c.q) if not m[0].isascii()))[-2:]
    if not subjects:
        return readings
    known = {(r.quantity.start, r.quantity.end): i for i, r in enumerate(readings)}
    out = list(readings)
    for number in sorted({k.sentence for k in c.clauses}):
        first, last = c.sentence_span(next(k.start for k in c.clauses if k.sentence == number))
        open_ones = any(
            first <= r.quantity.start < last and r.verdict == "unchecked" and r.quantity.measures is None
            and (r.quantity.unit or r.quantity.comparator or r.quantity.form == "range")
            and r.quantity.unit not in _TIMES
            for r in readings
        )  # fmt: skip
        if not open_ones and not _BARE_BOUND.search(c.a, first, last):
            continue
        for subject in subjects:
            for again in factcheck.check(subject + c.answer[first:last], c.question):
                if again.verdict not in ("supported", "contradicted") or again.quantity.start < len(subject):
                    continue
                if again.verdict == "supported" and not _same_direction(again):
                    continue
                shift = first - len(subject)
                span = again.quantity.start + shift, again.quantity.end + shift
                quantity = replace(again.quantity, start=span[0], end=span[1], parts=())
                moved = Reading(quantity, again.verdict, again.fact_id, again.source, again.note)
                if span in known:
                    old = out[known[span]]
                    if (
                        old.verdict == "unchecked"
                        and old.quantity.measures is None
                        and (old.quantity.unit or old.quantity.comparator or old.quantity.form == "range")
                    ):
                        out[known[span]] = moved
                elif again.quantity.comparator and not any(
                    span[0] < r.quantity.end and r.quantity.start < span[1] for r in out
                ):
                    known[span] = len(out)
                    out.append(moved)
    out.sort(key=lambda r: r.quantity.start)
    return out


def _placements(c: Consultation) -> list[Finding]:
    """Whether the answer says on which side the asker's values lie."""
    found: list[Finding] = []
    asker = read_asker(c.question)
    for q in c.asked:
        side = side_of(q, asker)
        if side is None:
            continue
        number = re.sub(r"[^\d./].*$", "", fold(q.text)) or fold(q.text)
        verdict = _said_side(c, number, alone=len(c.asked) <= 2, side=side)
        if verdict is None:
            continue
        said, start, end = verdict
        if said == side:
            found.append(
                Finding(f"指出提问者的{q.text}所处的位置", 0.75 * 0.6 ** len(found), NUMBER, start, end, _RULE)
            )
        else:
            found.append(Finding(f"提问者的{q.text}被放到了错误的一侧", -1.6, NUMBER, start, end, _RULE))
        if len(found) == 3:
            break
    return found


def _said_side(c: Consultation, number: str, alone: bool, side: str) -> tuple[str, int, int] | None:
    """The side that the answer puts a value on, and where it says so."""
    wrong: tuple[str, int, int] | None = None
    for clause in c.clauses:
        has_number = bool(number) and re.search(rf"(?<![\d.]){re.escape(number)}(?![\d]|\.\d)", clause.text) is not None
        if (
            not has_number
            and not (alone and _ABOUT_ASKER.search(clause.text))
            and not (alone and len(clause.text) <= 8)
        ):
            continue
        for label, pattern in (("fine", _FINE), ("high", _HIGH), ("low", _LOW)):
            match = pattern.search(clause.text)
            if not match:
                continue
            start, end = clause.start + match.start(), clause.start + match.end()
            state = polarity(c.a, start, end)
            if state in ("conditional", "contraindicated"):
                continue
            if state == "negated":
                continue
            if label == side:
                return label, start, end
            if wrong is None and has_number and label == "fine":
                wrong = (label, start, end)
    return wrong
