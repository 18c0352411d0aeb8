"""Every number of an answer against the knowledge tables, and the faults that make an answer unsafe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from precision_lora import dosing, placement, safety
from precision_lora.asker import Asker, read_asker
from precision_lora.claims import canonical_factor, judge, kin, measures
from precision_lora.measures import Name, find_names, fits, is_bare
from precision_lora.numerals import fold
from precision_lora.quantities import Quantity, find
from precision_lora.readings import Finding, Reading
from precision_lora.unit_forms import convert, dimension, is_analyte_unit

_CONVERTING = re.compile(r"相当于|换算|折合|也就是|等于|即|约|大约|约为|＝|=|[（(]\s*$")
_CALCULATED = re.compile(r"换算|乘以|除以|乘|折合|相当于|等于")
_FOOD = re.compile(r"糖|盐|肉|菜|水果|主食|蛋白|奶|米|油|酒|豆|纤维|嘌呤|碳水|含|重|粉")
_AVERAGE = re.compile(r"平均|均值")
# 收缩压下降20mmHg: a change is no value of the measure.
_CHANGE = re.compile(r"下降|降低|升高|上升|相差|差|波动|增加|增长|减少|降了?|升了?|高出|低了|高了")
_TOLERANCE = 0.05


def _close(value: float, wanted: float) -> bool:
    return abs(value - wanted) <= _TOLERANCE * abs(wanted) + 1e-9


def _is_kin(first: str | None, second: str | None) -> bool:
    return first is None or second is None or first == second or first in kin(second) or second in kin(first)


def _echo(quantity: Quantity, asker: Asker) -> bool:
    """Whether the number is one that the asker gave."""
    for other in asker.quantities:
        same = (quantity.low, quantity.high, quantity.second_low, quantity.second_high) == (
            other.low, other.high, other.second_low, other.second_high,
        )  # fmt: skip
        units = None in (quantity.unit, other.unit) or quantity.unit == other.unit
        if same and units and _is_kin(quantity.measures, other.measures):
            return True
        # 140/90 taken apart: 收缩压140.
        part = {"systolic": other.low, "diastolic": other.second_low}.get(quantity.measures or "")
        if other.form == "pair" and quantity.form == "value" and units and part is not None and quantity.low == part:
            return True
    return False


def _in_context(answer: str, quantities: Sequence[Quantity], names: Sequence[Name], asker: Asker) -> list[Quantity]:
    """``quantities`` with what only the question names, and without bare integers that measure nothing.

    A bare 480 is the asker's urate, 目标是360μmol/L以下 is said of the urate asked about, 起始5mg of the drug.
    """
    told = [n for n in find_names(fold(asker.text), asker.text) if n.kind != "hidden"]
    asked_drugs = {n.id for n in told if n.kind == "drug"}
    own_drugs = {n.id for n in names if n.kind == "drug"}
    drug = next(iter(asked_drugs)) if len(asked_drugs) == 1 and own_drugs <= asked_drugs else None
    kept: list[Quantity] = []
    for quantity in quantities:
        if quantity.measures is None:
            measured = _asked_number(quantity, asker)
            if measured is None and quantity.unit is not None:
                measured = _asked_subject(answer, quantity, told, drug)
            quantity = replace(quantity, measures=measured)
        if quantity.measures is not None or not is_bare(quantity):
            kept.append(quantity)
    return kept


def _asked_number(quantity: Quantity, asker: Asker) -> str | None:
    """What the same number measures in the question."""
    for other in asker.quantities:
        same = (quantity.low, quantity.high, quantity.second_low) == (other.low, other.high, other.second_low)
        units = quantity.unit in (None, other.unit) or (
            other.unit is None and canonical_factor(other.measures or "", quantity.unit) == 1.0
        )
        if same and units and other.measures and quantity.form == other.form:
            return other.measures
    return None


def _asked_subject(answer: str, quantity: Quantity, told: Sequence[Name], drug: str | None) -> str | None:
    """The measure or drug of the question that a number with a unit can belong to; None if there are several."""
    if drug is not None and quantity.form == "frequency":
        return drug
    around = answer[max(0, quantity.start - 8) : quantity.end + 8]
    if drug is not None and quantity.unit in ("mg", "μg", "g") and not _FOOD.search(around):
        return drug
    fitting = {n.id for n in told if n.kind == "measure" and fits(quantity.unit, quantity.low, quantity.high, n)}
    said = answer[max(0, quantity.start - 14) : quantity.end + 6]
    if quantity.unit == "%" and (
        re.search(r"体重|减", said) or not re.search(r"目标|正常|标准|诊断|控制|参考|达标", said)
    ):
        return None  # 减掉体重的5～10%
    if len(fitting) != 1 or dimension(quantity.unit) in ("duration", "age", "count", "length"):
        return None
    return next(iter(fitting))


def _plain(quantity: Quantity) -> float | None:
    """The value of a plain number; None for ranges and open bounds."""
    if quantity.form != "value" or quantity.comparator not in (None, "~") or quantity.low != quantity.high:
        return None
    return quantity.low


def _computed(text: str, quantities: Sequence[Quantity], index: int, asker: Asker) -> Reading | None:
    """A number that follows from other numbers: a conversion, a BMI, a mean, a pulse pressure."""
    quantity = quantities[index]
    value = _plain(quantity)
    if value is None:
        return None
    measure = quantity.measures
    for other in asker.quantities:
        given = _plain(other)
        if given is None:
            continue
        factors = (canonical_factor(measure or "", quantity.unit), canonical_factor(other.measures or "", other.unit))
        if None not in factors and quantity.unit != other.unit and quantity.unit and _is_kin(measure, other.measures):
            if _close(value * factors[0], given * factors[1]):  # type: ignore[operator]
                return Reading(quantity, "computed", None, "单位换算", f"由提问者的{other.text}换算")
            if other.unit and _CALCULATED.search(text[max(0, quantity.start - 14) : quantity.start]):
                wanted = given * factors[1] / factors[0]  # type: ignore[operator]
                return Reading(
                    quantity, "contradicted", None, "单位换算", f"{other.text}换算后应为{wanted:.3g}{quantity.unit}"
                )
        if quantity.unit and other.unit and quantity.unit != other.unit:
            scaled = convert(given, other.unit, quantity.unit)
            if scaled is not None and _close(value, scaled):
                return Reading(quantity, "computed", None, "单位换算", f"由提问者的{other.text}换算")
    previous = quantities[index - 1] if index else None
    if previous is not None and quantity.start - previous.end <= 16:
        reading = _converted(quantity, previous, text[previous.end : quantity.start])
        if reading is not None:
            return reading
    if measure == "bmi" and (body := placement.mass_index(asker)) is not None:
        if _close(value, body):
            return Reading(quantity, "computed", None, "BMI=体重(kg)÷身高(m)²", f"由提问者的身高体重算得{body:.1f}")
        if re.search(r"您|你|算|约|大约", text[max(0, quantity.start - 14) : quantity.start]):
            return Reading(quantity, "contradicted", None, "BMI=体重(kg)÷身高(m)²", f"由提问者的身高体重应为{body:.1f}")
    given_values = [v for o in asker.quantities if o.measures == measure and measure and (v := _plain(o)) is not None]
    if len(given_values) >= 2 and _AVERAGE.search(text[max(0, quantity.start - 10) : quantity.start]):
        mean = sum(given_values) / len(given_values)
        verdict = "computed" if _close(value, mean) else "contradicted"
        return Reading(quantity, verdict, None, "算术平均", f"提问者{len(given_values)}次数值的平均为{mean:.4g}")  # type: ignore[arg-type]
    if measure == "pulse_pressure":
        for other in asker.quantities:
            if other.form == "pair" and other.low is not None and other.second_low is not None:
                wanted = other.low - other.second_low
                verdict = "computed" if _close(value, wanted) else "contradicted"
                return Reading(quantity, verdict, None, "脉压=收缩压−舒张压", f"应为{wanted:g}")  # type: ignore[arg-type]
    return None


def _converted(quantity: Quantity, other: Quantity, between: str) -> Reading | None:
    """The second number of 126 mg/dL（约7.0 mmol/L）."""
    value, given = _plain(quantity), _plain(other)
    if value is None or given is None or not quantity.unit or not other.unit or quantity.unit == other.unit:
        return None
    if not _CONVERTING.search(between + quantity.text[:2]) or re.search(r"[。；;！？\n]", between):
        return None
    scaled = convert(given, other.unit, quantity.unit)
    measure = other.measures if other.measures in measures() else quantity.measures
    if scaled is None and measure in measures() and _is_kin(quantity.measures, other.measures):
        factors = (canonical_factor(measure or "", quantity.unit), canonical_factor(measure or "", other.unit))
        if None not in factors:
            scaled = given * factors[1] / factors[0]  # type: ignore[operator]
    if scaled is None or (is_analyte_unit(quantity.unit) != is_analyte_unit(other.unit)):
        return None
    if _close(value, scaled):
        return Reading(quantity, "computed", None, "单位换算", f"{other.text}换算后为{scaled:.3g}{quantity.unit}")
    return Reading(quantity, "contradicted", None, "单位换算", f"{other.text}换算后应为{scaled:.3g}{quantity.unit}")


def _readings(answer: str, quantities: Sequence[Quantity], asker: Asker, doses: dict[int, Reading]) -> list[Reading]:
    readings: list[Reading] = []
    for index, quantity in enumerate(quantities):
        echo = _echo(quantity, asker)
        if index in doses and not (echo and doses[index].verdict != "contradicted"):
            readings.append(doses[index])
            continue
        if quantity.form == "frequency" or quantity.measures in dosing.drugs():
            readings.append(
                Reading(
                    quantity,
                    "echo" if echo else "unchecked",
                    None,
                    "",
                    "提问者自己的数值" if echo else "没有可对照的条目",
                )
            )
            continue
        judged = judge(answer, quantities, index, asker)
        bounded = quantity.comparator in (">", ">=", "<", "<=") or quantity.form == "range"
        if echo and not (judged is not None and judged.verdict == "supported" and bounded):
            readings.append(Reading(quantity, "echo", None, "", "提问者自己的数值"))
            continue
        computed = _computed(answer, quantities, index, asker)
        if (
            judged is not None
            and judged.verdict == "supported"
            and (computed is None or computed.verdict != "computed")
        ):
            readings.append(judged)
        else:
            readings.append(computed or judged or Reading(quantity, "unchecked", None, "", "没有可对照的条目"))
    return readings


def _wrong_units(answer: str, quantities: Sequence[Quantity], asker: Asker) -> list[Finding]:
    """Numbers whose unit does not belong to what they measure, or only to another size of number."""
    found: list[Finding] = []
    for quantity in quantities:
        measure = measures().get(quantity.measures or "")
        if measure is None or quantity.unit is None or measure.unit is None or quantity.form == "frequency":
            continue
        factor = canonical_factor(measure.id, quantity.unit)
        bounds = [b for b in (quantity.low, quantity.high) if b is not None]
        note = ""
        if factor is None:
            if is_analyte_unit(quantity.unit):
                note = f"{measure.names[0]}的单位应为{measure.unit}，不是{quantity.unit}"
        elif (
            bounds
            and is_analyte_unit(quantity.unit)
            and not _CHANGE.search(answer, max(0, quantity.start - 8), quantity.start)
        ):
            low, high = measure.plausible
            if not all(low <= b * factor <= high for b in bounds):
                others = [1.0, *measure.conversions.values()]
                if any(all(low <= b * other <= high for b in bounds) for other in others if other != factor):
                    note = f"{measure.names[0]}{quantity.text}：数值与单位不配，应为{measure.unit}"
        if note and not _echo(quantity, asker):
            found.append(Finding("wrong_unit", quantity.start, quantity.end, "error", measure.source, note))
    return found


@lru_cache(maxsize=64)
def review(answer: str, question: str = "", history: str = "") -> tuple[tuple[Reading, ...], tuple[Finding, ...]]:
    """All readings and all findings of one answer, each in the order of the text.

    ``question`` is the message that is answered. ``history``, what the asker wrote before it, adds numbers, sex, age
    and circumstances, but its red flags were the business of the earlier answers.
    """
    asker = read_asker(f"{history}\n{question}" if history else question)
    names = find_names(fold(answer), answer)
    quantities = _in_context(answer, find(answer, keep_bare=True), names, asker)
    doses, found = dosing.dose_readings(answer, quantities, asker)
    wrong_units = _wrong_units(answer, quantities, asker)
    spoilt = {(f.start, f.end): f for f in wrong_units}
    readings = []
    for reading in _readings(answer, quantities, asker, doses):
        fault = spoilt.get((reading.quantity.start, reading.quantity.end))
        if fault is not None:
            reading = Reading(reading.quantity, "contradicted", reading.fact_id, fault.source, fault.note)
        readings.append(reading)
    found += wrong_units
    named = {(f.start, f.end) for f in found}
    for reading in readings:
        span = (reading.quantity.start, reading.quantity.end)
        if reading.verdict == "contradicted" and span not in named:
            found.append(
                Finding(
                    "contradicted_number", *span, "error", reading.source, f"“{reading.quantity.text}”{reading.note}"
                )
            )
    found += dosing.contraindicated(answer, names, asker)
    found += dosing.unnoticed_overdose(answer, asker)
    found += placement.placements(answer, quantities, names, asker)
    found += placement.grades(answer, quantities, asker)
    found += safety.red_flags(answer, question)
    found += safety.stopped_treatment(answer)
    found.sort(key=lambda f: (f.start, f.end, f.kind))
    return tuple(readings), tuple(found)


def check(answer: str, question: str = "", history: str = "") -> list[Reading]:
    """One reading for each quantity of ``answer``, in order.

    ``question`` gives sex, age, pregnancy and the asker's own numbers. Where guidelines disagree every listed value is
    supported and ``source`` names the list that holds it.
    """
    return list(review(answer, question, history)[0])


def findings(answer: str, question: str = "", history: str = "") -> list[Finding]:
    """The faults of ``answer`` as a reply to ``question``, in order; an empty list for a sound answer."""
    return list(review(answer, question, history)[1])


__all__ = ["Finding", "Reading", "check", "findings", "review"]
