"""Medical knowledge as data: JSON-lines tables beside this file and their strict loader.

One table a file, one entry a line, each entry with its ``source``. A table is read on first use, checked
against its dataclass (unknown keys, missing keys, wrong types, duplicate keys, empty ranges) and cached; a
mistake raises ``ValueError`` that begins with ``file:line``.
"""

from __future__ import annotations

import hashlib
import json
import types
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

FOLDER = Path(__file__).resolve().parent

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Term:
    """A medical noun in one of the guide's tiers: high (diagnoses, examinations, treatments), middle or
    professional (indicators)."""

    term: str
    tier: Literal["high", "middle", "professional"]
    category: str
    aliases: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class EmpathyPhrase:
    """A warm expression; ``…`` in ``phrase`` stands for a gap of at most 12 characters."""

    phrase: str
    mechanism: Literal["reaction", "interpretation", "exploration"]
    feelings: tuple[str, ...]
    strength: Literal["weak", "strong"]
    source: str


@dataclass(frozen=True)
class Feeling:
    """A feeling and the words by which people tell it."""

    feeling: str
    words: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class RedFlag:
    """A dangerous picture: one alternative of every group in ``signs`` found in the question raises it."""

    id: str
    name: str
    signs: tuple[tuple[str, ...], ...]
    action: Literal["120", "急诊", "12356", "就医"]
    must_say: tuple[str, ...]
    must_not: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Measure:
    """What can be measured: names, canonical unit and factors ``value in other unit × factor = canonical``.

    ``pair`` marks values written as two numbers (140/90); ``plausible`` is then the first number's range.
    """

    id: str
    names: tuple[str, ...]
    dimension: str
    unit: str | None
    conversions: dict[str, float]
    plausible: tuple[float, float]
    pair: bool
    source: str


# One bound of a fact: a number, a (systolic, diastolic) pair, or None where that side is open-ended.
Bound = float | tuple[float, float] | None


@dataclass(frozen=True)
class Alternative:
    """Another range for the same fact, as a differing source states it."""

    low: Bound
    high: Bound
    source: str


@dataclass(frozen=True)
class Fact:
    """A reference range, diagnostic line, grade, target, action line, limit, duration or amount.

    ``low_open``/``high_open``: the bound itself does not belong to the range. ``age`` is in years.
    """

    id: str
    quantity: str
    meaning: Literal["normal", "diagnostic", "grade", "target", "action", "limit", "duration", "amount"]
    label: str
    low: Bound
    high: Bound
    unit: str | None
    source: str
    low_open: bool = False
    high_open: bool = False
    sex: Literal["any", "male", "female"] = "any"
    age: tuple[float, float] | None = None
    population: str = "普通"
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True)
class Unit:
    """A unit and every form in which it is written."""

    unit: str
    forms: tuple[str, ...]
    dimension: str
    source: str


@dataclass(frozen=True)
class Dose:
    """Usual dose of one intake; None where the leaflet fixes none."""

    low: float | None
    high: float | None
    start: float | None
    unit: str | None
    frequency: tuple[str, ...]


@dataclass(frozen=True)
class MaxDaily:
    """The most that may be taken in 24 hours."""

    value: float
    unit: str


@dataclass(frozen=True)
class Contraindication:
    """A group of people who must not (禁用) or should hardly (慎用) take a drug."""

    group: str
    strength: Literal["禁用", "慎用"]


@dataclass(frozen=True)
class Interaction:
    """What happens together with another drug, food or drink (key ``with`` in the table)."""

    other: str = field(metadata={"key": "with"})
    effect: str


@dataclass(frozen=True)
class Drug:
    """A drug by its generic name (key ``class`` in the table is ``drug_class`` here)."""

    name: str
    aliases: tuple[str, ...]
    drug_class: str = field(metadata={"key": "class"})
    route: str
    indications: tuple[str, ...]
    dose: Dose
    max_daily: MaxDaily | None
    otc: bool
    contraindications: tuple[Contraindication, ...]
    interactions: tuple[Interaction, ...]
    source: str


@dataclass(frozen=True)
class Condition:
    """A condition of everyday consultation and what a good answer to it draws on."""

    id: str
    name: str
    aliases: tuple[str, ...]
    lay_names: tuple[str, ...]
    symptoms: tuple[str, ...]
    examinations: tuple[str, ...]
    facts: tuple[str, ...]
    drugs: tuple[str, ...]
    lifestyle: tuple[str, ...]
    differentials: tuple[str, ...]
    red_flags: tuple[str, ...]
    department: str
    follow_up: str | tuple[str, ...]
    source: str


def _decode(value: Any, hint: Any, where: str) -> Any:
    """``value`` (parsed JSON) as the type ``hint``; ``where`` names the key in messages."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        for option in args:
            try:
                return _decode(value, option, where)
            except ValueError:
                continue
        raise ValueError(f"{where}: {value!r} is none of {', '.join(str(a) for a in args)}")
    if origin is Literal:
        if value not in args:
            raise ValueError(f"{where}: {value!r} is not one of {', '.join(map(str, args))}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where}: a list is needed, not {value!r}")
        if args[-1] is Ellipsis:
            return tuple(_decode(v, args[0], f"{where}[{i}]") for i, v in enumerate(value))
        if len(value) != len(args):
            raise ValueError(f"{where}: {len(args)} items are needed, not {len(value)}")
        return tuple(_decode(v, a, f"{where}[{i}]") for i, (v, a) in enumerate(zip(value, args, strict=True)))
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{where}: an object is needed, not {value!r}")
        return {key: _decode(v, args[1], f"{where}.{key}") for key, v in value.items()}
    if hint is types.NoneType:
        if value is not None:
            raise ValueError(f"{where}: null is needed, not {value!r}")
        return None
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{where}: a number is needed, not {value!r}")
        return float(value)
    if hint is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{where}: true or false is needed, not {value!r}")
        return value
    if hint is str:
        if not isinstance(value, str) or not value or value != value.strip():
            raise ValueError(f"{where}: text without blanks around it is needed, not {value!r}")
        return value
    return _build(value, hint, where)


@cache
def _keys(entry_type: type) -> dict[str, tuple[str, Any, bool]]:
    """JSON key -> (attribute, type hint, required) of a dataclass."""
    hints = get_type_hints(entry_type)
    return {f.metadata.get("key", f.name): (f.name, hints[f.name], f.default is MISSING) for f in fields(entry_type)}


def _build(value: Any, entry_type: Callable[..., Entry], where: str = "") -> Entry:
    """One dataclass from one JSON object, every key known and every needed key there."""
    if not isinstance(value, dict):
        raise ValueError(f"{where or 'entry'}: an object is needed, not {value!r}")
    keys = _keys(entry_type)
    if unknown := sorted(value.keys() - keys.keys()):
        raise ValueError(f"{where}: unknown key {', '.join(unknown)}".lstrip(": "))
    if missing := [key for key, (_, _, required) in keys.items() if required and key not in value]:
        raise ValueError(f"{where}: missing key {', '.join(missing)}".lstrip(": "))
    decoded = {keys[k][0]: _decode(v, keys[k][1], f"{where}.{k}".lstrip(".")) for k, v in value.items()}
    return entry_type(**decoded)


def _check_range(low: Bound, high: Bound, where: str) -> None:
    """Raise unless at least one side is bounded and, side by side, low <= high."""
    if low is None and high is None:
        raise ValueError(f"{where}: low and high are both null")
    lows, highs = (b if isinstance(b, tuple) else (b,) for b in (low, high))
    if any(a is not None and b is not None and a > b for a, b in zip(lows, highs, strict=False)):
        raise ValueError(f"{where}: low {low} is above high {high}")


def _check_entry(entry: Any) -> None:
    """Checks that go beyond types."""
    if isinstance(entry, Fact):
        _check_range(entry.low, entry.high, entry.id)
        for alternative in entry.alternatives:
            _check_range(alternative.low, alternative.high, f"{entry.id} alternative")
    elif isinstance(entry, Measure):
        if entry.plausible[0] >= entry.plausible[1]:
            raise ValueError(f"{entry.id}: plausible low must be below high")
        if any(factor <= 0 for factor in entry.conversions.values()):
            raise ValueError(f"{entry.id}: conversion factors must be above 0")
    elif isinstance(entry, Drug):
        low, high = entry.dose.low, entry.dose.high
        if low is not None and high is not None and low > high:
            raise ValueError(f"{entry.name}: dose low {low} is above high {high}")
        if low is not None and entry.dose.unit is None:
            raise ValueError(f"{entry.name}: a dose needs its unit")
    elif isinstance(entry, RedFlag) and not (entry.signs and all(entry.signs) and entry.must_say):
        raise ValueError(f"{entry.id}: signs, their groups and must_say may not be empty")


def read_table(path: Path, entry_type: type[Entry]) -> tuple[Entry, ...]:
    """All entries of one JSON-lines file.

    The first field of ``entry_type`` is the key of the table and may not repeat.

    Raises:
        ValueError: ``file:line: reason`` for the first line that is no sound entry.
    """
    entries: list[Entry] = []
    seen: dict[Any, int] = {}
    key = fields(entry_type)[0].name  # type: ignore[arg-type]
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entry = _build(json.loads(line), entry_type)
            _check_entry(entry)
            name = getattr(entry, key)
            if name in seen:
                raise ValueError(f"{key} {name!r} is already on line {seen[name]}")
        except ValueError as error:  # JSONDecodeError is one too
            raise ValueError(f"{path.name}:{number}: {error}") from error
        seen[name] = number
        entries.append(entry)
    if not entries:
        raise ValueError(f"{path.name}:1: the table is empty")
    return tuple(entries)


@cache
def terms() -> tuple[Term, ...]:
    """Medical nouns."""
    return read_table(FOLDER / "terms.jsonl", Term)


@cache
def empathy() -> tuple[EmpathyPhrase, ...]:
    """Warm expressions in three mechanisms."""
    return read_table(FOLDER / "empathy.jsonl", EmpathyPhrase)


@cache
def feelings() -> tuple[Feeling, ...]:
    """Feelings and their words."""
    return read_table(FOLDER / "feelings.jsonl", Feeling)


@cache
def red_flags() -> tuple[RedFlag, ...]:
    """Dangerous pictures and what must be done."""
    return read_table(FOLDER / "red_flags.jsonl", RedFlag)


@cache
def quantities_table() -> tuple[Measure, ...]:
    """What can be measured."""
    return read_table(FOLDER / "quantities.jsonl", Measure)


@cache
def facts() -> tuple[Fact, ...]:
    """Ranges, lines, targets, limits, durations and amounts."""
    return read_table(FOLDER / "facts.jsonl", Fact)


@cache
def units() -> tuple[Unit, ...]:
    """Units and their written forms."""
    return read_table(FOLDER / "units.jsonl", Unit)


@cache
def drugs() -> tuple[Drug, ...]:
    """Drugs by generic name."""
    return read_table(FOLDER / "drugs.jsonl", Drug)


@cache
def conditions() -> tuple[Condition, ...]:
    """Conditions of everyday consultation."""
    return read_table(FOLDER / "conditions.jsonl", Condition)


@cache
def tables_digest() -> str:
    """SHA-256 (hex) over the names and bytes of all tables: what caches and reports are keyed by."""
    digest = hashlib.sha256()
    for path in sorted(FOLDER.glob("*.jsonl")):
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
