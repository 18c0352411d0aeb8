"""How units are written, and the conversions that hold whatever is measured (mass, volume, time)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from precision_lora import knowledge
from precision_lora.numerals import SUPERSCRIPTS, fold

# Counting words that are grammar rather than medicine; the unit table has all others.
_COUNTERS = {
    "秒": ("duration", "s sec 秒钟"), "分钟": ("duration", "分钟 minute minutes"), "小时": ("duration",
    "小时 hrs hour hours"),
    "天": ("duration", "天 日 day days"), "周": ("duration", "周 个周 wk week weeks"), "月": ("duration",
    "个月 个多月 month months"),
    "年": ("duration", "年 年余 year years"), "勺": ("household", "勺 匙"), "瓶": ("household", "瓶"),
    "盒": ("household", "盒"),
    "杯": ("household", "杯"), "碗": ("household", "碗"), "口": ("household", "口"), "根": ("household", "根"),
    "支": ("dose_unit", "支烟"),
    "疗程": ("count", "个疗程 疗程"), "步": ("count", "步"), "百分点": ("multiple", "个百分点"), "km": ("length",
    "公里 千米 km"),
    "kcal": ("energy", "千卡 大卡 kcal"),
}  # fmt: skip
# Forms that mean something else far more often than the unit: 8点, 3张, 2回, 一按.
_AMBIGUOUS = frozenset(["点", "张", "按", "栓", "百分", "千分", "遍", "回", "月份", "两", "points", "吸"])
# Units of amounts in a time: kept as the amount plus Quantity.per, so that 5克/日 and 每天5克 read alike.
_PERIODS = {"天": "天", "周": "周", "月": "月", "年": "年"}

_MASS_MG = {"ng": 1e-6, "μg": 1e-3, "mg": 1.0, "g": 1000.0, "kg": 1e6, "斤": 5e5, "公斤": 1e6, "吨": 1e9}
_VOLUME_ML = {"μL": 1e-3, "mL": 1.0, "ml": 1.0, "dL": 100.0, "L": 1000.0}
_TIME_H = {"秒": 1 / 3600, "分钟": 1 / 60, "小时": 1.0, "天": 24.0, "周": 168.0, "月": 730.5, "年": 8766.0}
_SCALES = (_MASS_MG, _VOLUME_ML, _TIME_H)

# Dimensions of plain amounts; any other is a laboratory value's or a vital sign's.
_PLAIN = frozenset(
    ["duration", "age", "gestation", "dose_unit", "count", "household", "multiple", "score", "mass", "volume", "length",
     "activity", "energy", "pack_years", "mass_per_weight", "volume_per_weight",
     "mass_per_weight_per_day", "fraction", ""]
)  # fmt: skip


@dataclass(frozen=True)
class UnitForms:
    """Folded form -> canonical unit; canonical unit -> dimension; length of the longest form."""

    by_form: dict[str, str]
    dimension: dict[str, str]
    longest: int


def _spellings(form: str) -> set[str]:
    """The folded form, with and without blanks, and its powers of ten as the reader writes them (10^9/l)."""
    folded = fold(form)
    spellings = {folded, folded.replace(" ", "")}
    power = re.search(rf"10(?:\^|\*)?([{''.join(SUPERSCRIPTS)}]{{1,2}}|\d{{1,2}})/(.+)$", folded.replace(" ", ""))
    if power:
        exponent = "".join(SUPERSCRIPTS.get(c, c) for c in power[1])
        spellings.add(f"10^{exponent}/{power[2]}")
    return spellings


@cache
def unit_forms() -> UnitForms:
    """All written forms of all units."""
    by_form: dict[str, str] = {}
    dimension: dict[str, str] = {}
    for unit, (kind, forms) in _COUNTERS.items():
        dimension[unit] = kind
        for form in forms.split():
            by_form[fold(form)] = unit
    # In folded text G/L is g/L and mM is mm: the units' own names go before other forms.
    entries = knowledge.units()
    for entry in entries:
        dimension.setdefault(entry.unit, entry.dimension)
        for spelling in _spellings(entry.unit):
            by_form.setdefault(spelling, entry.unit)
    for entry in entries:
        for form in set(entry.forms) - _AMBIGUOUS:
            for spelling in _spellings(form):
                by_form.setdefault(spelling, entry.unit)
    return UnitForms(by_form, dimension, max(map(len, by_form)))


def dimension(unit: str | None) -> str:
    """The dimension of a canonical unit; empty for None and for unknown units."""
    return unit_forms().dimension.get(unit or "", "")


def is_analyte_unit(unit: str | None) -> bool:
    """Whether only a laboratory value or a vital sign carries this unit (mmol/L, mmHg, ℃, 次/分)."""
    return dimension(unit) not in _PLAIN


@cache
def split_period(unit: str) -> tuple[str, str | None]:
    """(g, 天) for g/天, (unit, None) for a unit that counts no time or whose amount is no unit of its own."""
    amount, slash, period = unit.rpartition("/")
    if slash and period in _PERIODS and amount in unit_forms().dimension and amount != "次" and amount not in _PERIODS:
        return amount, period
    return unit, None


def scale(unit: str) -> tuple[int, float] | None:
    """(kind, factor to that kind's base) of a unit of mass (mg), volume (mL) or time (h)."""
    for kind, table in enumerate(_SCALES):
        if unit in table:
            return kind, table[unit]
    return None


def convert(value: float, unit: str, into: str) -> float | None:
    """``value`` of ``unit`` in unit ``into`` for mass, volume and time; None where they do not convert."""
    if unit == into:
        return value
    source, target = scale(unit), scale(into)
    if source is None or target is None or source[0] != target[0]:
        return None
    return round(value * source[1] / target[1], 9)
