"""How units are written, and the conversions that hold whatever is measured (mass, volume, time)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from precision_lora import knowledge
from precision_lora.numerals import SUPERSCRIPTS, fold

# Counting words of doses and times: grammar rather than medicine, so they are here and not in the unit table.
_COUNTERS = {
    "片": ("time_form", "片"), "粒": ("dose_form", "粒 颗"), "丸": ("dose_form", "丸"), "支": ("dose_form", "支"),
    "袋": ("dose_form", "袋 包"), "滴": ("dose_form", "滴"), "喷": ("dose_form", "喷 揿 吸"), "枚": ("dose_form", "枚"),
    "贴": ("dose_form", "贴"), "瓶": ("dose_form", "瓶"), "盒": ("dose_form", "盒"), "勺": ("dose_form", "勺 匙"),
    "秒": ("time", "秒 秒钟 s sec"), "分钟": ("time", "分钟 min mins minute minutes"), "小时": ("time", "小时 个小时 h hr hrs hour hours 钟头 个钟头"),
    "天": ("time", "天 日 d day days"), "周": ("time", "周 个周 星期 个星期 礼拜 个礼拜 wk week weeks"), "个月": ("time", "个月 月龄 month months 个多月"),
    "年": ("time", "年 年余 year years"), "岁": ("age", "岁 周岁 岁半"), "疗程": ("count", "个疗程 疗程"),
    "次": ("count", "次"), "步": ("count", "步"), "杯": ("household", "杯"), "碗": ("household", "碗"), "口": ("household", "口"),
    "根": ("household", "根"), "支烟": ("household", "支烟 根烟"), "倍": ("ratio", "倍"), "分": ("score", "分"), "百分点": ("ratio", "个百分点"),
    "公里": ("length", "公里 km 千米"), "斤": ("mass", "斤"), "两": ("mass", "两重"),
}  # fmt: skip
_COUNTERS["片"] = ("dose_form", "片")

_MASS_MG = {"ng": 1e-6, "μg": 1e-3, "mg": 1.0, "g": 1000.0, "kg": 1e6, "斤": 5e5, "公斤": 1e6, "吨": 1e9}
_VOLUME_ML = {"μL": 1e-3, "mL": 1.0, "ml": 1.0, "dL": 100.0, "L": 1000.0}
_TIME_H = {"秒": 1 / 3600, "分钟": 1 / 60, "小时": 1.0, "天": 24.0, "周": 168.0, "个月": 730.5, "年": 8766.0}
_SCALES = (_MASS_MG, _VOLUME_ML, _TIME_H)

# Dimensions in which nothing but a laboratory value or a vital sign is given.
_NOT_ANALYTE = frozenset(
    ["time", "age", "dose_form", "count", "household", "ratio", "score", "mass", "volume", "length", "dose", "frequency", ""]
)


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
    for entry in knowledge.units():
        dimension[entry.unit] = entry.dimension
        for form in (entry.unit, *entry.forms):
            for spelling in _spellings(form):
                by_form[spelling] = entry.unit
    return UnitForms(by_form, dimension, max(map(len, by_form)))


def dimension(unit: str | None) -> str:
    """The dimension of a canonical unit; empty for None and for unknown units."""
    return unit_forms().dimension.get(unit or "", "")


def is_analyte_unit(unit: str | None) -> bool:
    """Whether only a laboratory value or a vital sign carries this unit (mmol/L, mmHg, ℃, 次/分)."""
    return dimension(unit) not in _NOT_ANALYTE


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
