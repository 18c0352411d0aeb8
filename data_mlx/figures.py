"""Numbers for the answers, always out of the knowledge tables: facts, doses and their many written forms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from random import Random

from precision_lora import knowledge
from precision_lora.knowledge import Drug, Fact, Measure

SEPARATORS = ("-", "-", "–", "～", "~", "至", "到")
# Units that are written close to the number in Chinese prose.
CLOSE_UNITS = frozenset(
    {
        "喷",
        "滴",
        "粒",
        "%",
        "℃",
        "天",
        "周",
        "分钟",
        "小时",
        "秒",
        "次/天",
        "分钟/周",
        "次/分",
        "个月",
        "岁",
        "年",
        "分",
    }
)
# A unit "per day" that reads better spoken: 每天 in front, then the plain unit.
SPOKEN_UNITS = {
    "g/天": "g",
    "mg/天": "mg",
    "mL/天": "mL",
    "分钟/周": "分钟",
    "次/天": "次",
    "IU/天": "IU",
    "小时/天": "小时",
    "天/周": "天",
    "月": "个月",
    "kg/周": "kg",
    "天/月": "天",
}


@cache
def _facts() -> dict[str, Fact]:
    return {fact.id: fact for fact in knowledge.facts()}


@cache
def _drugs() -> dict[str, Drug]:
    return {drug.name: drug for drug in knowledge.drugs()}


def measures() -> tuple[Measure, ...]:
    """The quantities of the knowledge tables."""
    return knowledge.quantities_table()


def fact(fact_id: str) -> Fact:
    """The fact of that id; KeyError if there is none."""
    return _facts()[fact_id]


def drug(name: str) -> Drug | None:
    """The drug of that generic name, or None."""
    return _drugs().get(name)


@cache
def decimals(quantity: str) -> int:
    """Decimal places in which values of a quantity are written: as many as its facts need."""
    places = 0
    for entry in knowledge.facts():
        if entry.quantity != quantity:
            continue
        for bound in (entry.low, entry.high):
            for number in bound if isinstance(bound, tuple) else (bound,):
                if number is not None and number != int(number):
                    places = max(places, 1)
    return places


def number_text(value: float, places: int) -> str:
    """``7.0`` with one place, ``47.5`` and ``0.27`` as they are, ``140`` with none."""
    short = f"{value:.{places}f}"
    return short if float(short) == value else f"{value:g}"


def bound_text(bound: float | tuple[float, float], places: int) -> str:
    """A number, or a pair as ``140/90``."""
    if isinstance(bound, tuple):
        return "/".join(number_text(part, places) for part in bound)
    return number_text(bound, places)


def with_unit(rng: Random, text: str, unit: str | None) -> str:
    """``text`` and its unit, with or without the blank."""
    if not unit:
        return text
    unit = SPOKEN_UNITS.get(unit, unit)
    if unit.startswith("10"):
        return f"{text}×{unit}"
    gap = "" if unit in CLOSE_UNITS else rng.choice((" ", ""))
    return f"{text}{gap}{unit}"


def bounds(rng: Random, entry: Fact) -> str:
    """The fact's range with its unit in one of its written forms: ``3.9–6.1 mmol/L``, ``≥7.0mmol/L``."""
    places = decimals(entry.quantity)
    low, high = entry.low, entry.high
    if low is not None and high is not None:
        if low == high:
            return with_unit(rng, bound_text(low, places), entry.unit)
        separator = rng.choice(SEPARATORS)
        if isinstance(low, tuple) and isinstance(high, tuple):
            text = "/".join(
                f"{number_text(a, places)}{separator}{number_text(b, places)}" for a, b in zip(low, high, strict=True)
            )
        else:
            text = f"{bound_text(low, places)}{separator}{bound_text(high, places)}"
        return with_unit(rng, text, entry.unit)
    if high is None:
        assert low is not None
        number = with_unit(rng, bound_text(low, places), entry.unit)
        return rng.choice(
            (f">{number}", f"超过{number}", f"高于{number}")
            if entry.low_open
            else (f"≥{number}", f"≥{number}", f"{number}及以上", f"不低于{number}")
        )
    number = with_unit(rng, bound_text(high, places), entry.unit)
    return rng.choice(
        (f"<{number}", f"{number}以下", f"低于{number}") if entry.high_open else (f"≤{number}", f"不超过{number}")
    )


def edge(rng: Random, entry: Fact, side: str) -> str:
    """One bound alone with its unit, for sentences such as 上限是6.1 mmol/L."""
    bound = entry.low if side == "low" else entry.high
    if bound is None:
        raise KeyError(f"{entry.id} has no {side}")
    return with_unit(rng, bound_text(bound, decimals(entry.quantity)), entry.unit)


def dose_number(value: float, unit: str, rng: Random) -> str:
    """A dose with its unit: mg and g as written on the box."""
    return with_unit(rng, f"{value:g}", unit)


def dose(rng: Random, entry: Drug, start: bool = True) -> str:
    """``每次5 mg，每日一次``; empty where the table fixes no dose."""
    d = entry.dose
    if d.unit is None or (d.low is None and d.start is None):
        return ""
    amount: str
    first = d.start if start and d.start is not None else d.low
    assert first is not None
    if d.high is not None and d.low is not None and d.low != d.high and not (start and d.start is not None):
        amount = with_unit(rng, f"{d.low:g}{rng.choice(SEPARATORS)}{d.high:g}", d.unit)
    else:
        amount = dose_number(first, d.unit, rng)
    each = rng.choice(("每次", "一次"))
    if not d.frequency:
        return f"{each}{amount}"
    often = d.frequency[0]
    if often == "必要时":
        return f"必要时{each}{amount}"
    if often == "单次":
        return f"只服一次，{amount}"
    return rng.choice((f"{each}{amount}，{often}", f"{often}，{each}{amount}", f"{often}、{each}{amount}"))


def max_daily(rng: Random, entry: Drug) -> str:
    """``24小时内不超过2 g``-like limit without its frame; empty where there is none."""
    if entry.max_daily is None:
        return ""
    return with_unit(rng, f"{entry.max_daily.value:g}", entry.max_daily.unit)


class FactSlots(Mapping[str, object]):
    """Slots for templates: own entries first, then ``{fact_id}``, ``{fact_id.low}`` and ``{fact_id.high}``."""

    def __init__(self, own: Mapping[str, object]) -> None:
        self.own = own

    def __getitem__(self, key: str) -> object:
        if key in self.own:
            return self.own[key]
        name, _, side = key.partition(".")
        found = fact(name)
        if side:
            return lambda rng: edge(rng, found, side)
        return lambda rng: bounds(rng, found)

    def __iter__(self) -> Iterator[str]:
        return iter(self.own)

    def __len__(self) -> int:
        return len(self.own)
