"""Sums, comparisons and doses that an answer works out, checked against its own and the asker's numbers (pure)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from precision_lora.quantities import Quantity
from precision_lora.unit_forms import convert

_TOLERANCE = 0.05
_NUMBER = r"\d+(?:\.\d+)?"
_UNIT = r"\s*(?:[a-zμ/]+|片|次|天|岁|克|公斤|毫克)?\s*"
_SUM = re.compile(
    rf"(?<![\d.])({_NUMBER}){_UNIT}(÷|×|\*|乘以?|除以|减去?|\+|加上?){_UNIT}[（(]?"
    rf"({_NUMBER})(²|\^2|的平方)?{_UNIT}[）)]?[^\d，。；]{{0,3}}"
    rf"(?:=|≈|得|约|，(?:约|大约|得|最大心率)[^\d，。；]{{0,6}}约?)\s*({_NUMBER})(?![\d.]*[~～\-])"
)
_COMPARED = re.compile(
    rf"(?<![\d./~～-])({_NUMBER})(?:%|{_UNIT})(?:已经?|就|还|也|明显|略|稍|是|，)?"
    rf"(高于|超过了?|大于|>|低于|小于|<|不到|没到|没有?超过|未超过|没超)"
    rf"(?:了)?[^\d，。；]{{0,6}}({_NUMBER})(?![\d]|\.\d|/|[~～-])|"
    rf"(?<![\d./~～-])({_NUMBER})(?:%|{_UNIT})在({_NUMBER})(?:%|{_UNIT})以([上下])"
)
_ABOVE = re.compile(r"^(?:高于|超过|大于|>)")
_TIMES = re.compile(
    rf"每周(?:运动)?({_NUMBER})[次天][^。；]{{0,6}}每次({_NUMBER})分钟"
    rf"[^。；]{{0,8}}?(?:合计|一共|总共|共|加起来|就是)({_NUMBER})分钟"
)
_EXCESS = re.compile(rf"({_NUMBER})(?:{_UNIT})?(?:超了|超出了?|高出了?|高了|多了)约?({_NUMBER})(?![\d]|\.\d|倍|%)")


@dataclass(frozen=True)
class Sum:
    """Something worked out: whether it is right, its place, what it should be (Chinese)."""

    right: bool
    start: int
    end: int
    note: str


def _close(said: float, wanted: float) -> bool:
    return abs(said - wanted) <= _TOLERANCE * abs(wanted) + 1e-9


def _written(text: str) -> Iterator[Sum]:
    for match in _SUM.finditer(text):
        left, right, said = float(match[1]), float(match[3]), float(match[5])
        right = right**2 if match[4] else right
        sign = match[2][0]
        if sign in "÷除" and right == 0:
            continue
        wanted = (
            left * right if sign in "×*乘" else left / right if sign in "÷除" else left - right if sign == "减"
            else left + right
        )  # fmt: skip
        yield Sum(_close(said, wanted), match.start(5), match.end(5), f"应为{wanted:.4g}")
    for match in _TIMES.finditer(text):
        wanted = float(match[1]) * float(match[2])
        yield Sum(_close(float(match[3]), wanted), match.start(3), match.end(3), f"应为{wanted:g}分钟")


def _compared(text: str) -> Iterator[Sum]:
    for match in _COMPARED.finditer(text):
        if match[1]:
            first, second, above = float(match[1]), float(match[3]), bool(_ABOVE.match(match[2]))
        else:
            first, second, above = float(match[4]), float(match[5]), match[6] == "上"
        right = first >= second if above else first <= second
        if not right:
            yield Sum(False, *match.span(), f"{first:g}并不{'高于' if above else '低于'}{second:g}")


def _excess(text: str, asked: Sequence[Quantity]) -> Iterator[Sum]:
    values = {q.low for q in asked if q.low is not None and q.low == q.high}
    for match in _EXCESS.finditer(text):
        value, said = float(match[1]), float(match[2])
        if value not in values:
            continue
        lines = [float(n) for n in re.findall(_NUMBER, text) if float(n) not in (value, said)]
        below = [line for line in lines if value / 3 < line < value]
        if below and said < value / 2:
            right = any(_close(said, value - line) for line in below)
            yield Sum(right, match.start(2), match.end(2), f"与{value:g}减去界值不符")


def _by_weight(quantities: Sequence[Quantity], asked: Sequence[Quantity]) -> Iterator[Sum]:
    weights = [q.low for q in (*asked, *quantities) if q.unit in ("kg", "公斤") and q.low and q.low == q.high]
    for index, rate in enumerate(quantities):
        unit = (rate.unit or "").removesuffix("/kg")
        if not (rate.unit or "").endswith("/kg") or not weights or rate.low is None or rate.high is None:
            continue
        for said in quantities[index + 1 : index + 4]:
            if said.unit is None or said.low is None or said.high is None or said.form not in ("value", "range"):
                continue
            scaled = [convert(b, said.unit, unit) for b in (said.low, said.high)]
            if None in scaled:
                continue
            low, high = rate.low * weights[0], rate.high * weights[0]
            right = all(low * 0.95 <= s <= high * 1.05 for s in scaled if s is not None)
            yield Sum(right, said.start, said.end, f"按体重应为{low:g}～{high:g}{unit}")
            break


def _mean(text: str, quantities: Sequence[Quantity], asked: Sequence[Quantity]) -> Iterator[Sum]:
    pairs = [(q.low, q.second_low) for q in asked if q.form == "pair" and q.low and q.second_low]
    if len(pairs) < 2:
        return
    wanted = [math.fsum(p[i] or 0.0 for p in pairs) / len(pairs) for i in (0, 1)]
    for q in quantities:
        if q.form == "pair" and q.low and q.second_low and re.search("平均|均值", text[max(0, q.start - 8) : q.start]):
            right = abs(q.low - wanted[0]) <= 2 and abs(q.second_low - wanted[1]) <= 2
            yield Sum(right, q.start, q.end, f"平均应为{wanted[0]:.0f}/{wanted[1]:.0f}")
            return


def sums(text: str, quantities: Sequence[Quantity], asked: Sequence[Quantity]) -> list[Sum]:
    """What a folded answer works out, in no particular order."""
    return [
        *_written(text), *_compared(text), *_excess(text, asked), *_by_weight(quantities, asked),
        *_mean(text, quantities, asked),
    ]  # fmt: skip


def tablets(quantities: Sequence[Quantity], asked: Sequence[Quantity]) -> Iterator[tuple[Quantity, float, str]]:
    """(quantity in tablets, amount of the drug in one intake or day, unit) where the strength of a tablet is told."""
    strengths = [
        q for q in (*quantities, *asked) if q.unit in ("mg", "g", "μg") and q.low is not None and q.low == q.high
    ]
    if not strengths:
        return
    for q in quantities:
        most = q.high if q.high is not None else q.low
        if q.unit in ("片", "粒", "颗") and most is not None and q.form in ("value", "range", "fraction"):
            strength = min(strengths, key=lambda s: abs(s.start - q.start) if s in quantities else 10_000)
            yield q, most * (strength.low or 0.0), strength.unit or "mg"
