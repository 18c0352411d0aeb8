"""Numbers in Chinese medical text: every written form as value or range, comparator, unit and what is measured.

The text is folded one character to one (``numerals.fold``), so offsets always refer to the original. Atoms
(numbers, frequencies, things that only look like numbers) come from one compiled expression whose repeats are
possessive; what stands around an atom is looked up in dictionaries. Both are linear in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from precision_lora import measures, no_quantities
from precision_lora.frequencies import FREQUENCY, read_frequency
from precision_lora.number_forms import (
    ARABIC,
    CHINESE,
    CN,
    COMPARATORS,
    NUMBER,
    PLUS_MINUS,
    SEPARATOR,
    SLASH,
    SUFFIX,
    bounds_of,
    comparator_before,
    is_minus,
    number_at,
    period_around,
    several_at,
    unit_at,
)
from precision_lora.numerals import DIGITS, chinese_number, fold
from precision_lora.quantity import Quantity
from precision_lora.unit_forms import convert, split_period

__all__ = ["Quantity", "find"]

_ATOM = re.compile(
    rf"(?P<none>{no_quantities.NO_QUANTITY})|(?P<frequency>{FREQUENCY})|(?P<portion>[{CN}]{{1,4}}+分之)"
    rf"|(?P<arabic>{ARABIC})|(?P<chinese>半|{CHINESE})"
)
_APART = re.compile(r"(?:高压|收缩压|上压|高血压值)(?:是|为|约|有|在|到|大概|:| )? ?$")
_APART_SECOND = re.compile(r"[ ,，、;和]{0,2}(?:低压|舒张压|下压)(?:是|为|约|有|在|到|大概|:| )? ?")
_LISTING = re.compile("、")
_TENTHS = re.compile(r"[\d一二三四五六七八九](?![\d.])")
_PRESSURE_UNITS = (None, "mmHg", "kPa")
_STRENGTH_UNITS = ("mg", "μg")
_SUFFIX_SIGNS = {"ge": ">=", "lt": "<", "le": "<=", "about": "~"}


def find(text: str, keep_bare: bool = False) -> list[Quantity]:
    """All quantities of ``text``, in order and without overlaps; the longest written form wins.

    Dates, clock times, phone numbers (120, 12356), ordinals, list numbers, counting words (3个问题, 一种) and numbers
    inside names (2型糖尿病, 维生素B12, 餐后2小时血糖) are none. 高压140低压90 is one pair with ``parts``;
    收缩压≥140和(或)舒张压≥90 are two values that measure ``systolic`` and ``diastolic``. Integers that neither carry a
    unit nor measure anything are dropped unless ``keep_bare``.
    """
    folded = fold(text)
    names = measures.find_names(folded, text)
    found: list[Quantity] = []
    position, name_index = 0, 0
    while match := _ATOM.search(folded, position):
        start = match.start()
        while name_index < len(names) and names[name_index].end <= start:
            name_index += 1
        if name_index < len(names) and names[name_index].start <= start and names[name_index].holds_digits:
            position = names[name_index].end
            continue
        after_name = name_index > 0 and names[name_index - 1].end == start
        quantity, position = _read(folded, text, match, after_name)
        if quantity is not None:
            found.append(quantity)
    return measures.assign(folded, found, names, keep_bare)


def _read(s: str, original: str, match: re.Match[str], after_name: bool) -> tuple[Quantity | None, int]:
    """The quantity at an atom (or None) and where to go on."""
    start, end = match.span()
    if match["none"] is not None:
        return None, end
    if match["portion"] is not None:
        return _portion(s, original, start, end)
    if match["frequency"] is not None:
        quantity = read_frequency(s, original, match)
        if quantity is not None:
            return quantity, end
        # A plain span of time (3天) that only looked like an interval.
        number = NUMBER.match(s, start)
        # 半小时 is half an hour; 一个半小时, 大半年 and 好半天 are not.
        if number is None and (s[start] != "半" or s[max(0, start - 1) : start] in ("个", "大", "好")):
            return None, start + 1
        end = number.end() if number else start + 1
    if start and not after_name and no_quantities.belongs_to_word(s, start):
        return None, end
    return _number(s, original, start, after_name)


@dataclass
class _Draft:
    """A quantity while it is read from left to right; ``end`` is how far it reaches."""

    start: int
    end: int
    low: float
    high: float
    form: str = "value"
    second_low: float | None = None
    second_high: float | None = None
    second_sign: str | None = None
    unit: str | None = None
    parts: tuple[tuple[int, int], ...] = ()

    def take_unit(self, s: str, value: float) -> None:
        """Take the unit that stands at ``end``, if there is one."""
        if got := unit_at(s, self.end, value):
            self.unit, self.end = got


def _number(s: str, original: str, start: int, after_name: bool) -> tuple[Quantity | None, int]:
    """The quantity whose first number begins at ``start`` (or None) and where to go on."""
    first = number_at(s, start)
    if first is None:
        number = NUMBER.match(s, start)
        return None, number.end() if number else start + 1
    value, end, chinese = first
    if not chinese and (s[end : end + 1].isdigit() or (s[end : end + 1] == "." and s[end + 1 : end + 2].isdigit())):
        return None, end  # longer than any measured number, or a version such as 1.2.3
    if no_quantities.is_list_mark(s, start, end):
        return None, end
    draft = _Draft(start, end, value, value)
    several = several_at(s, start, end) if chinese else None
    if several:
        draft.low, draft.high = several
        draft.form = "range"
    vague = s[end : end + 1] in ("多", "余", "来", "几") and end < len(s)
    draft.end += vague
    _first_unit(draft, s)
    first_end = draft.end
    if not several and not _second_number(draft, s):
        return None, no_quantities.after_digits(s, draft.end)
    sign, outer = comparator_before(s, original, start)
    if outer == start and not chinese and is_minus(s, original, start):
        draft.low, draft.high, outer = -draft.high, -draft.low, start - 1
        sign, before_minus = comparator_before(s, original, outer)
        outer = min(outer, before_minus)
    if vague:
        sign = sign or "~"
    if draft.form == "value" and sign is None:
        _written_apart(draft, s)
    if draft.form == "pair" and not _is_pair(draft, s):
        return None, draft.end
    if draft.form == "value" and draft.unit is None and _is_no_value(draft, s, chinese):
        return None, draft.end
    if chinese and not no_quantities.chinese_counts(
        s, start, first_end, draft.end, draft.form, draft.unit, draft.low, after_name
    ):
        return None, draft.end
    one = draft.low == draft.high == 1 and sign is None
    if one and draft.unit in ("天", "周", "年") and no_quantities.names_period(s, draft.end):
        return None, draft.end
    return _finished(draft, s, original, sign, outer), draft.end


def _first_unit(draft: _Draft, s: str) -> None:
    """The unit right behind the first number, with 38度5 and 两小时半."""
    if s[draft.start] == "半" and draft.end - draft.start > 1:
        return
    draft.take_unit(s, draft.low)
    if draft.unit == "℃" and s[draft.end - 1] == "度" and (tail := _TENTHS.match(s, draft.end)):
        tenths = chinese_number(tail[0]) if tail[0] in DIGITS else float(tail[0])
        draft.low = draft.high = draft.low + (tenths or 0.0) / 10
        draft.end = tail.end()
    if s.startswith("半", draft.end) and draft.unit in ("小时", "天", "年", "月", "片", "粒", "周"):
        draft.low, draft.high, draft.end = draft.low + 0.5, draft.high + 0.5, draft.end + 1


def _second_number(draft: _Draft, s: str) -> bool:
    """Read on behind /, ± or a range's dash. False for a chain that is none (400-161-9995)."""
    if (slash := SLASH.match(s, draft.end)) and draft.unit in (*_PRESSURE_UNITS, *_STRENGTH_UNITS):
        _pair(draft, s, slash)
        return True
    if sign := PLUS_MINUS.match(s, draft.end):
        if other := number_at(s, sign.end()):
            draft.second_low = draft.second_high = other[0]
            draft.end, draft.form = other[1], "mean_sd"
            draft.take_unit(s, other[0])
        return True
    separator = SEPARATOR.match(s, draft.end) or _LISTING.match(s, draft.end)
    return separator is None or _range(draft, s, separator)


def _pair(draft: _Draft, s: str, slash: re.Match[str]) -> None:
    """140/90, ≥140/≥90, 120/80-139/89, 80mg/5mg."""
    other = number_at(s, slash.end())
    if other and draft.unit in _STRENGTH_UNITS and (unit_at(s, other[1], other[0]) or ("", 0))[0] != draft.unit:
        return  # 5mg/1次
    if other is None:
        return
    second = other[0]
    draft.second_low = draft.second_high = second
    draft.second_sign, draft.end, draft.form = slash["c"], other[1], "pair"
    draft.take_unit(s, second)
    separator = SEPARATOR.match(s, draft.end)
    third = number_at(s, separator.end()) if separator else None
    if third is None:
        return
    slash_again = SLASH.match(s, third[1])
    fourth = number_at(s, slash_again.end()) if slash_again else None
    if fourth:
        draft.high, draft.second_high, draft.end = third[0], fourth[0], fourth[1]
    elif third[0] > second:  # 140/90-99
        draft.second_high, draft.end = third[0], third[1]
    else:
        return
    draft.take_unit(s, third[0])


def _range(draft: _Draft, s: str, separator: re.Match[str]) -> bool:
    """3.9-6.1, 500mg-1g, 2、3天, 140-159/90-99. False for a chain of three numbers."""
    other = number_at(s, separator.end())
    listing = separator[0] == "、"
    if other is None or (listing and (other[0] != draft.low + 1 or draft.unit is not None or draft.low >= 10)):
        return True
    other_unit, end = unit_at(s, other[1], other[0]) or (None, other[1])
    low: float | None = draft.low
    if draft.unit and other_unit and draft.unit != other_unit:
        low = convert(draft.low, draft.unit, other_unit)
    if low is None or low >= other[0] or (listing and other_unit is None):
        return True
    if s[end : end + 1] == "-" and s[end + 1 : end + 2].isdigit():
        draft.end = end
        return False
    draft.low, draft.high, draft.form = low, other[0], "range"
    draft.unit, draft.end = other_unit or draft.unit, end
    slash = SLASH.match(s, end)
    third = number_at(s, slash.end()) if slash else None
    if slash is None or third is None or draft.unit not in _PRESSURE_UNITS:
        return True
    draft.second_low = draft.second_high = third[0]
    draft.second_sign, draft.end, draft.form = slash["c"], third[1], "pair"
    separator_again = SEPARATOR.match(s, draft.end)
    fourth = number_at(s, separator_again.end()) if separator_again else None
    if fourth and fourth[0] > third[0]:
        draft.second_high, draft.end = fourth[0], fourth[1]
    draft.take_unit(s, third[0])
    return True


def _written_apart(draft: _Draft, s: str) -> None:
    """高压140低压90 as one pair."""
    if draft.unit not in _PRESSURE_UNITS or not _APART.search(s, max(0, draft.start - 8), draft.start):
        return
    between = _APART_SECOND.match(s, draft.end)
    other = number_at(s, between.end()) if between else None
    if between is None or other is None or SEPARATOR.match(s, other[1]):
        return
    unit, end = unit_at(s, other[1], other[0]) or (None, other[1])
    if unit not in _PRESSURE_UNITS:
        return
    draft.parts = ((draft.start, draft.end), (between.end(), end))
    draft.second_low = draft.second_high = other[0]
    draft.unit, draft.end, draft.form = unit or draft.unit, end, "pair"


def _is_pair(draft: _Draft, s: str) -> bool:
    """Whether a/b is a blood pressure, a double strength or a fraction (which it then becomes)."""
    second = draft.second_low
    assert second is not None
    if draft.unit in ("mmHg", "kPa", "mg", "μg", "g"):
        return True
    if draft.unit is None and 50 <= draft.low <= 320 and 20 <= second <= 220 and draft.low > second:
        return True
    single = draft.low == draft.high and second == draft.second_high
    if not single or not 0 < draft.low < second <= 100 or not draft.low.is_integer():
        return False
    draft.low = draft.high = draft.low / second
    draft.second_low = draft.second_high = None
    draft.form = "fraction"
    draft.take_unit(s, draft.low)
    if draft.unit is not None:
        draft.form = "value"
    return True


def _is_no_value(draft: _Draft, s: str, chinese: bool) -> bool:
    """Whether a lone number without a unit is part of a word (13C, 5-HT), counts things, is dialled, or is a year."""
    end = draft.end
    behind = s[end : end + 1]
    letter = s[end + 1 : end + 2] if behind == "-" else behind
    if letter.isascii() and letter.isalpha() and not (chinese and behind != "-"):
        return True
    if no_quantities.NOT_COUNTED.match(s, end) or no_quantities.is_call(s, draft.start, end, draft.low):
        return True
    if chinese or not draft.low.is_integer():
        return False
    length = end - draft.start
    too_long = length > 6 and s[end - 1] not in "万亿"
    return too_long or 1900 <= draft.low <= 2100 or (s[draft.start] == "0" and length > 1)


def _finished(draft: _Draft, s: str, original: str, sign: str | None, outer: int) -> Quantity:
    """The quantity with its comparator, bounds and the time or intake that it counts for."""
    unit, per = draft.unit, None
    if unit is not None:
        unit, per = split_period(unit)
        said_per, tail, per_end = period_around(s, outer, draft.end)
        per, unit, draft.end = per or said_per, unit + tail, max(draft.end, per_end)
    single = draft.form in ("value", "pair", "fraction")
    if suffix := SUFFIX.match(s, draft.end):
        said = _SUFFIX_SIGNS[suffix.lastgroup or ""]
        if (single and sign in (None, "~")) or (said == "~" and sign is None):
            sign = said
        draft.end = suffix.end()
    low: float | None = draft.low
    high: float | None = draft.high
    second_low, second_high = draft.second_low, draft.second_high
    # 不超过2-3天: the range says more than the bound, so only single values open a side.
    if single and draft.low == draft.high:
        low, high = bounds_of(sign, draft.low, draft.high)
    if draft.form == "pair" and second_low is not None and second_low == second_high:
        second_sign = COMPARATORS.get(draft.second_sign, sign) if draft.second_sign else sign
        second_low, second_high = bounds_of(second_sign, second_low, second_low)
    if s.startswith("(", outer - 1) and ")" in s[outer : draft.end] and "(" not in s[outer : draft.end]:
        outer -= 1
    text = original[outer : draft.end]
    return Quantity(
        outer, draft.end, text, draft.form, sign, low, high, second_low, second_high, unit, None, per, draft.parts
    )


def _portion(s: str, original: str, start: int, end: int) -> tuple[Quantity | None, int]:
    """百分之七, 三分之一."""
    whole = chinese_number(s[start : end - 2])
    part = number_at(s, end)
    if part is None or not whole:
        return None, end
    low = high = part[0]
    stop, form, unit = part[1], "value", "%"
    if separator := SEPARATOR.match(s, stop):
        again = separator.end() + (3 if s.startswith("百分之", separator.end()) else 0)
        other = number_at(s, again)
        if other and other[0] > low:
            high, stop, form = other[0], other[1], "range"
    sign, outer = comparator_before(s, original, start)
    if suffix := SUFFIX.match(s, stop):
        sign = sign or _SUFFIX_SIGNS[suffix.lastgroup or ""]
        stop = suffix.end()
    ends = bounds_of(sign, low, high) if form == "value" else (low, high)
    if whole == 100:
        return Quantity(outer, stop, original[outer:stop], form, sign, *ends, unit=unit), stop
    ends = tuple(None if e is None else e / whole for e in ends)  # type: ignore[assignment]
    return Quantity(outer, stop, original[outer:stop], "fraction", sign, *ends), stop
