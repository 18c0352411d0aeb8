"""The reading of one written quantity."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """One written quantity.

    ``start``/``end``: character offsets in the original text, ``text`` what stands there, comparator and unit
    included. ``low``/``high``: in ``unit``; a value has low == high, an open side is None (≥7.0 is low 7.0,
    high None). ``second_low``/``second_high``: the diastolic part of a pair, or the SD of a mean.
    ``form``: value, range, pair, mean_sd, fraction or frequency. A frequency counts 次/天, 次/周, 次/月, 次/年, or
    时间/次 (2 天/次 is every other day); prn has neither low nor high. ``measures``: quantity id or generic drug
    name. ``per``: the time or intake that an amount counts for (天, 次, 周 …). ``parts``: the number spans of a
    pair that is written apart (高压140低压90), else empty.
    """

    start: int
    end: int
    text: str
    form: str
    comparator: str | None
    low: float | None
    high: float | None
    second_low: float | None = None
    second_high: float | None = None
    unit: str | None = None
    measures: str | None = None
    per: str | None = None
    parts: tuple[tuple[int, int], ...] = ()
