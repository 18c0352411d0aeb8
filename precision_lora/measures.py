"""What a number measures: the name that it belongs to in its sentence."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from precision_lora import knowledge
from precision_lora.lexicon import inside_latin_word, longest_match_pattern
from precision_lora.numerals import fold
from precision_lora.unit_forms import dimension, is_analyte_unit, split_period

if TYPE_CHECKING:
    from precision_lora.quantity import Quantity


@dataclass(frozen=True)
class Name:
    """A name in the text: a quantity id, a generic drug name, or a word that hides one (高血压 hides 血压)."""

    start: int
    end: int
    kind: str
    id: str
    holds_digits: bool


# Words in which a quantity's name is no measurement.
_HIDING = (
    "高血压", "低血压", "高血糖", "低血糖", "高血脂", "高尿酸", "高胆固醇", "血压计", "血压药", "降压药", "血糖仪",
    "血糖试纸", "血脂康", "体重秤",
    "体温计", "体温表", "糖尿病", "降糖药", "降脂药", "高血钾", "低血钾", "低钠血症", "高钾血症", "低钾血症",
    "高尿酸血症", "心率失常", "血压仪", "血压袖带",
    "肺动脉高压", "门脉高压", "门静脉高压", "眼高压", "颅高压", "高压氧", "高压线", "肺动脉压", "盐酸", "硫酸盐",
    "食盐水", "生理盐水", "盐水", "口服补液盐",
    "阿莫西林克拉维酸钾", "钾肥", "维生素b1", "维生素b2", "维生素b6", "维生素b12", "维生素d3", "维生素k2", "维生素d2",
    "维生素k1", "2型糖尿病", "1型糖尿病", "二型糖尿病", "一型糖尿病",
    "pm2.5", "omega-3", "ω-3", "covid-19", "辅酶q10", "24小时动态血压", "24h动态血压", "24小时尿蛋白",
    "24小时动态心电图", "24h动态心电图", "cyp3a4", "cyp2c19",
    "氯化钾", "枸橼酸钾", "门冬氨酸钾", "碳酸钙d3", "钙尔奇d600", "两性霉素", "三酰甘油", "四肢", "五官", "二甲双胍",
    "三甲医院", "百日咳", "三叉神经", "十二指肠",
    "一氧化碳", "二氧化碳", "万古霉素", "千金", "三七", "六味地黄", "一过性", "双氯芬酸二乙胺", "十二导联", "九价",
    "四价", "二价", "两癌", "二尖瓣", "三尖瓣",
)  # fmt: skip
_SENTENCE_END = re.compile(r"[。！？!?；;\n]")
_CLAUSE_END = re.compile(r"[。！？!?；;\n，,]")
_PRONOUN = re.compile(
    r"这个值|这个数|该值|此值|这一数值|这数值|它|这个水平|这个指标|该指标|这项指标|这个结果|您的数值|你的数值|"
    r"正常值|参考值|参考范围|正常范围"
)
_JOINING_NORMAL = re.compile(r"[ :是为在约达到高低有的了值数正常范围参考应该一般（(\"“]{0,10}$")
_JOINING = re.compile(r"[ :是为在约达到高低有的了值数（(\"“]{0,6}$")
_AFTER = re.compile(r" ?的? ?(?:平均)?")
# 铋剂600 mg, 四环素500 mg: a substance that no table lists has its own amount.
_UNLISTED = re.compile(
    r"[、+，,和；或]\s*[\u4e00-\u9fff]{0,7}(?:剂|铋|钾|钠|钙|锌|铁|素|林|酸|唑|平|坦|洛尔|酮|酯|碱|醇|芬|沙星|韦|胶囊)\s*$"
)
_DOSE_DIMENSIONS = frozenset(["mass", "volume", "dose_unit", "activity", "mass_per_weight"])
# Short names that people use beside the table's; a bare 空腹 or 餐后 with a value is a glucose.
_SHORT = {
    "空腹": "fasting_glucose", "餐后": "postprandial_glucose", "饭后": "postprandial_glucose",
    "餐后2小时": "postprandial_glucose",
    "餐后两小时": "postprandial_glucose", "饭后2小时": "postprandial_glucose", "饭后两小时": "postprandial_glucose",
    "餐后2h": "postprandial_glucose",
    "餐后两小时血糖": "postprandial_glucose", "餐后二小时": "postprandial_glucose", "高烧": "body_temperature",
    "低烧": "body_temperature",
    "发烧": "body_temperature", "烧到": "body_temperature", "发热": "body_temperature", "高热": "body_temperature",
    "bmi值": "bmi",
}  # fmt: skip


@cache
def _table() -> tuple[re.Pattern[str], dict[str, tuple[str, str]], dict[str, knowledge.Measure]]:
    words: dict[str, tuple[str, str]] = {}
    for drug in knowledge.drugs():
        for name in (drug.name, *drug.aliases):
            words[fold(name)] = ("drug", drug.name)
    measures = {m.id: m for m in knowledge.quantities_table()}
    for measure in measures.values():
        for name in measure.names:
            words[fold(name)] = ("measure", measure.id)
    for word, measure_id in _SHORT.items():
        if measure_id in measures:
            words.setdefault(word, ("measure", measure_id))
    for word in _HIDING:
        words.setdefault(word, ("hidden", ""))
    return re.compile(longest_match_pattern(words)), words, measures


@cache
def _short_names() -> frozenset[str]:
    return frozenset(n for m in knowledge.quantities_table() for n in m.names if len(n) <= 2)


def find_names(folded: str, original: str) -> list[Name]:
    """All names in the text (given folded and as written), the longest at each place.

    Latin names of one or two letters count only as the table writes them: Mg is magnesium, mg is not.
    """
    pattern, words, _ = _table()
    names = []
    for match in pattern.finditer(folded):
        start, end = match.span()
        word = match[0]
        if inside_latin_word(folded, start, end):
            continue
        if len(word) <= 2 and word.isascii() and original[start:end] not in _short_names():
            continue
        kind, name = words[word]
        names.append(
            Name(start, end, kind, name, any(c.isdigit() or c in "一二两三四五六七八九十百千万" for c in word))
        )
    return names


def name_just_before(folded: str, start: int) -> bool:
    """Whether a quantity's name ends right before ``start``, but for a joining word."""
    tail = folded[max(0, start - 12) : start]
    joining = _JOINING.search(tail)
    tail = tail[: joining.start()] if joining else tail
    names = find_names(tail, tail)
    return bool(names) and names[-1].end == len(tail) and names[-1].kind == "measure"


def fits(unit: str | None, low: float | None, high: float | None, name: Name) -> bool:
    """Whether a number of this unit can belong to ``name``."""
    if name.kind == "hidden":
        return False
    if name.kind == "drug":
        return dimension(unit) in _DOSE_DIMENSIONS
    measure = _table()[2][name.id]
    if unit is None:
        known = [b for b in (low, high) if b is not None]
        slack = 1.5
        return bool(known) and all(measure.plausible[0] / slack <= b <= measure.plausible[1] * slack for b in known)
    if measure.unit is None:
        return False
    amount = split_period(measure.unit)[0]
    if unit in (measure.unit, amount) or unit in measure.conversions:
        return True
    kind = dimension(unit)
    return bool(kind) and kind == dimension(amount) and not is_analyte_unit(unit)


def _outside(names: Sequence[Name], quantities: Sequence[Quantity]) -> list[Name]:
    """The names that are no part of a quantity, such as the Mg of 5Mg."""
    kept: list[Name] = []
    index = 0
    for name in names:
        while index < len(quantities) and quantities[index].end <= name.start:
            index += 1
        if index == len(quantities) or quantities[index].start >= name.end or quantities[index].parts:
            kept.append(name)
    return kept


def assign(
    folded: str, quantities: Sequence[Quantity], names: Sequence[Name], keep_bare: bool = False
) -> list[Quantity]:
    """``quantities`` with ``measures``; bare integers that measure nothing are dropped unless ``keep_bare``."""
    names = _outside(names, quantities)
    starts = [n.start for n in names]
    ends = [n.end for n in names]
    result: list[Quantity] = []
    last: str | None = None
    last_end = -1
    respectively = _respectively(folded, quantities, names, ends)
    for index, quantity in enumerate(quantities):
        measured = respectively.get(index)
        if measured is None:
            measured = _resolve(folded, quantity, names, starts, ends, last, last_end)
        quantity = replace(quantity, measures=measured)
        if measured is None and not keep_bare and is_bare(quantity):
            continue
        if measured is not None and quantity.form != "frequency":
            last, last_end = measured, quantity.end
        result.append(quantity)
    return result


def is_bare(quantity: Quantity) -> bool:
    """Whether the quantity is a lone integer without a unit, which may as well be a counting word's."""
    return (
        quantity.form == "value"
        and quantity.unit is None
        and "." not in quantity.text
        and quantity.comparator in (None, "~", "<", "<=", ">", ">=")
        and float(quantity.low if quantity.low is not None else quantity.high or 0).is_integer()
    )


def _bound_before(pattern: re.Pattern[str], folded: str, position: int, reach: int) -> int:
    """Where the clause or sentence that holds ``position`` begins, at most ``reach`` characters back."""
    begin = max(0, position - reach)
    cut = begin
    for match in pattern.finditer(folded, begin, position):
        cut = match.end()
    return cut


def _resolve(
    folded: str,
    quantity: Quantity,
    names: Sequence[Name],
    starts: list[int],
    ends: list[int],
    last: str | None,
    last_end: int,
) -> str | None:
    unit, low, high = quantity.unit, quantity.low, quantity.high
    if quantity.form == "pair" and unit in (None, "mmHg", "kPa"):
        return _pair_name(folded, quantity, names, ends)
    if unit == "岁":
        return "age" if "age" in _table()[2] else None
    sentence = _bound_before(_SENTENCE_END, folded, quantity.start, 160)
    clause = _bound_before(_CLAUSE_END, folded, quantity.start, 80)
    index = bisect_left(ends, quantity.start + 1)
    if quantity.form == "frequency":
        for name in reversed(names[max(0, index - 12) : index]):
            if name.start < sentence:
                break
            if name.kind == "drug":
                return name.id
        return None
    before = [n for n in names[max(0, index - 12) : index] if n.start >= sentence]
    near = [n for n in reversed(before) if n.start >= clause]
    for name in near:
        if name.kind == "drug" and _UNLISTED.search(folded, name.end, quantity.start):
            return None
        if fits(unit, low, high, name):
            return _single(name.id, quantity)
    if (
        near
        and is_analyte_unit(unit)
        and near[0].kind == "measure"
        and _JOINING_NORMAL.fullmatch(folded, near[0].end, quantity.start)
    ):
        return near[0].id  # 空腹血糖7.2mmHg: a wrong unit, still a glucose
    after = _AFTER.match(folded, quantity.end)
    if after and after.end() > quantity.end:
        at = bisect_left(starts, after.end())
        if at < len(names) and names[at].start == after.end() and fits(unit, low, high, names[at]):
            return _single(names[at].id, quantity)
    elif unit is not None and (at := bisect_left(starts, quantity.end)) < len(names):
        following = names[at]
        if following.start == quantity.end and following.kind == "drug" and fits(unit, low, high, following):
            return following.id  # 5mg氨氯地平
    if unit is not None or quantity.form != "value" or quantity.comparator is not None or (low or 0) % 1:
        for name in reversed([n for n in before if n.start < clause]):
            if dimension(unit) in ("duration", "count", "household"):
                break
            if name.kind == "drug" and _UNLISTED.search(folded, max(name.end, clause - 1), quantity.start):
                return None
            if fits(unit, low, high, name):
                return _single(name.id, quantity)
    if last is not None and last in _table()[2] and quantity.start - last_end <= 80:
        as_name = Name(0, 0, "measure", last, False)
        pronoun = _PRONOUN.search(folded, sentence, quantity.start)
        fractional = (low if low is not None else high or 0) % 1 != 0 and quantity.start - last_end <= 30
        if fits(unit, low, high, as_name) and (is_analyte_unit(unit) or (unit is None and (pronoun or fractional))):
            return last
    return _by_unit(unit, low, high)


def _pair_name(folded: str, quantity: Quantity, names: Sequence[Name], ends: list[int]) -> str:
    """The kind of blood pressure (at home, at night …) that a pair belongs to."""
    sentence = _bound_before(_SENTENCE_END, folded, quantity.start, 80)
    index = bisect_left(ends, quantity.start + 1)
    for name in reversed(names[max(0, index - 6) : index]):
        if name.start < sentence:
            break
        if name.kind == "measure" and _table()[2][name.id].pair:
            return name.id
    return "blood_pressure"


def _single(name: str, quantity: Quantity) -> str:
    """A lone number called 血压 is the systolic one when it is that high."""
    if name != "blood_pressure" or quantity.form == "pair" or "systolic" not in _table()[2]:
        return name
    first = quantity.low if quantity.low is not None else quantity.high
    return "systolic" if first is not None and first >= 100 else name


_DEFAULTS = {"℃": "body_temperature", "次/分": "heart_rate", "kg/m²": "bmi", "kg/m2": "bmi"}


def _by_unit(unit: str | None, low: float | None, high: float | None) -> str | None:
    name = _DEFAULTS.get(unit or "")
    if name is None or name not in _table()[2]:
        return None
    return name if fits(unit, low, high, Name(0, 0, "measure", name, False)) else None


def _respectively(
    folded: str, quantities: Sequence[Quantity], names: Sequence[Name], ends: list[int]
) -> dict[int, str]:
    """空腹和餐后血糖分别是7.2和11.5: the i-th number belongs to the i-th name."""
    given: dict[int, str] = {}
    position = folded.find("分别")
    quantity_starts = [q.start for q in quantities]
    while position >= 0:
        begin = _bound_before(_SENTENCE_END, folded, position, 80)
        stop = _SENTENCE_END.search(folded, position, position + 120)
        end = stop.start() if stop else min(len(folded), position + 120)
        index = bisect_left(ends, position + 1)
        told = [n for n in names[max(0, index - 6) : index] if n.start >= begin and n.kind != "hidden"]
        first = bisect_left(quantity_starts, position)
        numbers = [i for i in range(first, min(first + 6, len(quantities))) if quantities[i].end <= end]
        if len(told) >= len(numbers) > 1:
            given.update({i: n.id for i, n in zip(numbers, told[-len(numbers) :], strict=True)})
        position = folded.find("分别", position + 2)
    return given
