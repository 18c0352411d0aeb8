"""Whether a number that an answer states about a measurement agrees with a fact."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from precision_lora import knowledge
from precision_lora.asker import Asker
from precision_lora.knowledge import Fact
from precision_lora.quantities import Quantity
from precision_lora.readings import Reading
from precision_lora.unit_forms import split_period

# Names that people use for each other: a 血糖 may be a fasting one, a 脉搏 is a heart rate.
_KIN: dict[str, tuple[str, ...]] = {
    "random_glucose": (
        "random_glucose", "fasting_glucose", "postprandial_glucose", "ogtt_2h", "ogtt_1h", "nonfasting_glucose",
        "bedtime_glucose",
        "pregnancy_fasting_glucose",
    ),
    "fasting_glucose": ("fasting_glucose", "pregnancy_fasting_glucose"),
    "postprandial_glucose": ("postprandial_glucose", "ogtt_2h", "ogtt_1h", "nonfasting_glucose"),
    "ogtt_2h": ("ogtt_2h", "postprandial_glucose"),
    "nonfasting_glucose": ("nonfasting_glucose", "postprandial_glucose", "random_glucose"),
    "bedtime_glucose": ("bedtime_glucose", "nonfasting_glucose", "random_glucose"),
    "heart_rate": ("heart_rate", "pulse"),
    "pulse": ("pulse", "heart_rate"),
    "blood_pressure": (
        "blood_pressure", "home_blood_pressure", "ambulatory_24h_blood_pressure", "daytime_blood_pressure",
        "night_blood_pressure",
    ),
    "oral_temperature": ("oral_temperature", "body_temperature"),
    "ear_temperature": ("ear_temperature", "body_temperature"),
    "rectal_temperature": ("rectal_temperature", "body_temperature"),
    "antipyretic_gap_hours": ("antipyretic_gap_hours",),
}  # fmt: skip
_PRESSURES = _KIN["blood_pressure"]

_MEANINGS: dict[str, re.Pattern[str]] = {
    "line": re.compile(
        r"诊断(?:标准|线|切点|界值|界线)|(?:高血压|糖尿病|发热|发烧|高尿酸血症|贫血|缺乏|肥胖)(?:病|症)?的?(?:标准|"
        r"界线|界限)|为高(?!血|尿|脂|危)|为异常|(?:才算|就算)(?!够|正常|合格|达标|好)|才叫|就叫|才(?:要)?考虑"
    ),
    "normal": re.compile(
        r"正常|成人(?:安静|静息)|上限|下限|(?:一般|通常|大致)(?:是|为|在)(?=[^,，]{0,2}▮)|合适|参考(?:值|范围|"
        r"区间)|标准范围|健康(?:人|成人)|合适水平|适宜"
    ),
    "diagnostic": re.compile(
        r"诊断|确诊|(?:才算|就算)(?!够|正常|合格|达标|好)|算是?(?:高|糖尿|发)|界限|界值|切点|(?:属于|叫|称为|"
        r"定义为)(?:高|糖尿|发|低|肥)|高血压是|糖尿病是|界线|(?:提示|考虑|怀疑)(?:高|妊娠|糖尿|低血|贫血|感染|甲|"
        r"肾|肝)|(?:高血压|糖尿病|发热|发烧|高尿酸血症|贫血|低血糖)[（(]▮"
    ),
    "grade": re.compile(
        r"[123一二三ⅠⅡⅢ]级|轻度|中度|重度|受损|减低|超重|肥胖|正常高值|高热|低热|分级|▮[^,，▮]{0,6}[,，]?(?:属于|"
        r"叫|算)(?!正常|偏|在)"
    ),
    "target": re.compile(r"目标|控制(?:在|到|住)|(?<!下)降(?:到|至)|达标|维持|保持|压到|稳定在|先到|回到"),
    "action": re.compile(r"立即|马上|急诊|启动|停用|及时就医|尽快就医|去医院"),
    "limit": re.compile(r"不超过|不要超过|不能超过|最多|上限|至多|以内|少于|限制|控制(?:在|到)"),
    "amount": re.compile(r"建议|推荐|每天|每日|每周|不超过|少于|至少|控制(?:在|到)|应"),
    "duration": re.compile(r"休息|间隔|持续|疗程|复测|复查|超过|不超过"),
}
_AGREEING: dict[str, tuple[str, ...]] = {
    "line": ("diagnostic", "limit"),
    "normal": ("normal", "limit"),
    "diagnostic": ("diagnostic", "grade", "limit", "action"),
    "grade": ("grade", "diagnostic"),
    "target": ("target", "normal", "amount"),
    "action": ("action", "diagnostic", "limit", "grade"),
    "limit": ("limit", "amount", "target", "duration", "normal"),
    "amount": ("amount", "limit", "target"),
    "duration": ("duration", "limit", "action"),
}
_LABELS = re.compile(
    r"1级|2级|3级|一级|二级|三级|正常高值|超重|肥胖|空腹血糖受损|糖耐量(?:减低|受损)|高热|超高危|极高危|中高危|"
    r"高危|中危|低危|家庭|在家|自测|动态|24小时|夜间|"
    r"低血糖|糖尿病前期"
)
_REACHING = frozenset(["超高危", "极高危", "中高危", "高危", "中危", "低危", "家庭", "在家", "自测"])
_LABEL_WORDS = {
    "一级": "1级", "二级": "2级", "三级": "3级", "在家": "家庭", "自测": "家庭", "糖耐量受损": "糖耐量减低",
    "高危": "中、高危", "中危": "中、高危",
    "中高危": "中、高危", "动态": "24小时",
}  # fmt: skip
_ABOVE = re.compile(
    r"偏高|升高|过高|高于|超过|超出|超标|增高|异常|太高|就高|算高|高血压|糖尿病|肥胖|超重|发热|发烧|高尿酸|诊断|"
    r"高脂|加用|启动"
)
_BELOW = re.compile(r"偏低|过低|低于|不足|降低|贫血|低血糖|低血压|缺氧|减少|太低|就低")
_DENIED = re.compile(r"不|没|未|尚|非|无")
_PREGNANT_FACT = re.compile(r"孕|妊娠|产")
_CHILD_FACT = re.compile(r"儿|婴|孩|青少年|月龄")
_GLUCOSE_TIME = re.compile(r"空腹|[餐饭]后|随机|小时|睡前|OGTT|糖耐量|FPG|FBG|GLU|PBG|PG|早晨")
_FILLING = re.compile(r"[是为在约就即也都一般通常大概应该（(：: ]")
_BREAK = re.compile(r"[。！？!?；;\n]")


@dataclass(frozen=True)
class Range:
    """One listed range of a fact: the bounds of the number that is compared, and who lists it."""

    fact: Fact
    low: float | tuple[float, float] | None
    high: float | tuple[float, float] | None
    source: str


@cache
def facts_of() -> dict[str, tuple[Fact, ...]]:
    """Quantity id -> its facts."""
    table: dict[str, list[Fact]] = {}
    for fact in knowledge.facts():
        table.setdefault(fact.quantity, []).append(fact)
    return {quantity: tuple(entries) for quantity, entries in table.items()}


@cache
def measures() -> dict[str, knowledge.Measure]:
    """Quantity id -> its entry."""
    return {measure.id: measure for measure in knowledge.quantities_table()}


def kin(measure: str) -> tuple[str, ...]:
    """The quantity ids whose facts speak of ``measure``, the closest first."""
    if measure in _PRESSURES:
        return (measure, *(other for other in _PRESSURES if other != measure))
    return _KIN.get(measure, (measure,))


def ranges(fact: Fact) -> Iterator[Range]:
    """The fact's own range and every listed alternative."""
    yield Range(fact, fact.low, fact.high, fact.source)
    for other in fact.alternatives:
        yield Range(fact, other.low, other.high, other.source)


def canonical_factor(measure: str, unit: str | None) -> float | None:
    """Factor from ``unit`` to the measure's own unit; 1 for no unit, None where the unit does not belong."""
    entry = measures().get(measure)
    if entry is None:
        return None
    if unit is None or unit == entry.unit or (entry.unit and unit == split_period(entry.unit)[0]):
        return 1.0
    return entry.conversions.get(unit)


def window(text: str, quantities: Sequence[Quantity], index: int) -> str:
    """The words that speak of a quantity, which ▮ stands for: its sentence, up to the neighbouring numbers."""
    quantity = quantities[index]
    begin, end = max(0, quantity.start - 50), min(len(text), quantity.end + 30)
    for match in _BREAK.finditer(text, begin, quantity.start):
        begin = match.end()
    if stop := _BREAK.search(text, quantity.end, end):
        end = stop.start()
    if index:
        begin = max(begin, quantities[index - 1].end)
    if index + 1 < len(quantities):
        end = min(end, quantities[index + 1].start)
    return text[begin : quantity.start] + "▮" + text[quantity.end : end]


def _sentence(text: str, quantity: Quantity) -> str:
    """The sentence up to the quantity and a few characters on."""
    begin = max(0, quantity.start - 100)
    for match in _BREAK.finditer(text, begin, quantity.start):
        begin = match.end()
    return text[begin : quantity.end + 12]


def meanings(words: str) -> set[str]:
    """What kind of statement the words around a number make: those of its clause, else those of its sentence."""
    place = words.index("▮")
    begin = max(words.rfind(c, 0, place) for c in ",，") + 1
    ends = [i for c in ",，" if (i := words.find(c, place)) >= 0]
    near = words[begin : min(ends, default=len(words))]
    own = _said(near)
    # 正常范围大家都有数，一般在3.9～6.1: only a clause that names nothing itself takes its sense from its neighbours.
    return own if own or len(_FILLING.sub("", words[begin:place])) > 6 else _said(words[:place])


def _said(words: str) -> set[str]:
    said = {name for name, pattern in _MEANINGS.items() if pattern.search(words)}
    if "line" in said:  # 诊断线, 才算: plainly one, so that lines of treatment and grades do not stand in
        said -= {"diagnostic", "action", "grade"} if not _LABELS.search(words) else {"diagnostic", "action"}
    return said


def applies(fact: Fact, asker: Asker, words: str) -> bool:
    """Whether the fact can be meant for this asker, or for the people that the words name."""
    sex = "male" if re.search(r"男", words) else "female" if re.search(r"女", words) else None
    both = re.search(r"男", words) and re.search(r"女", words)
    if fact.sex != "any" and not both and (sex or asker.sex) not in (None, fact.sex):
        return False
    of_pregnancy = bool(_PREGNANT_FACT.search(fact.population + fact.label)) and "非妊娠" not in fact.label
    if of_pregnancy and not (asker.pregnant or re.search(r"孕|妊娠", words)):
        return asker.sex != "male" and not asker.text
    of_children = bool(_CHILD_FACT.search(fact.population + fact.label))
    if of_children and not (asker.child or _CHILD_FACT.search(words)):
        return False
    return not (
        fact.age is not None
        and asker.age is not None
        and not re.search(r"岁|成人|老年|儿童|年龄|孩|宝|一般", words)
        and not fact.age[0] <= asker.age < fact.age[1] + 1
    )


def candidates(measure: str, asker: Asker, words: str) -> list[Fact]:
    """Facts that can be meant by a number of this measure among these words."""
    facts = [f for m in kin(measure) for f in facts_of().get(m, ()) if applies(f, asker, words)]
    if asker.pregnant and not re.search(r"非孕|平时|一般人|普通人|孕前", words):
        own = {f.meaning for f in facts if _PREGNANT_FACT.search(f.population + f.label)}
        facts = [f for f in facts if f.meaning not in own or _PREGNANT_FACT.search(f.population + f.label)]
    return facts


def _narrowed(facts: list[Fact], words: str) -> list[Fact]:
    """Only the facts that carry the label (2级, 超高危, 家庭 …) that stands nearest to the number."""
    place = words.index("▮")

    def distance(match: re.Match[str]) -> int:
        between = words[match.end() : place] if match.end() <= place else words[place : match.start()]
        if match.end() <= place and match[0] in _REACHING:
            # 您属于极高危人群，低密度要降到…, but not past the next group: 低危的人…，得过心梗的人…
            return len(between) if not re.search(r"的人|有|得过|患者|达标", between) else 1000
        return len(between) if not re.search(r"[,，；）)]", between) else 1000

    found = sorted((m for m in _LABELS.finditer(words) if distance(m) < 1000), key=distance)
    for match in found:
        label = _LABEL_WORDS.get(match[0], match[0])
        labelled = [f for f in facts if label in f.label or label in f.population]
        if labelled:
            return labelled
    return facts


def _near(value: float | None, bound: float | None, slack: float) -> bool:
    return value is not None and bound is not None and abs(value - bound) <= slack * max(abs(bound), 1e-9) + 1e-9


def _component(bound: float | tuple[float, float] | None, index: int) -> float | None:
    return bound[index] if isinstance(bound, tuple) else bound if index == 0 else None


def _direction_agrees(quantity: Quantity, at_low: bool, fact: Fact, words: str) -> bool:
    """Whether ≥, < or the words around a single bound point to the side that the fact means."""
    comparator = quantity.comparator
    if comparator in (None, "~"):
        return True
    upwards = comparator in (">", ">=")
    if fact.meaning == "normal" or (fact.meaning == "target" and fact.low is not None and fact.high is not None):
        inwards = upwards == at_low
        outside = bool((_ABOVE if upwards else _BELOW).search(words)) or "不正常" in words
        denied = bool(re.search(r"(?<!不)正常|目标|控制|保持|达标|理想|最好|维持", words))
        return inwards or outside or not denied
    if fact.meaning in ("target", "limit", "amount"):
        if fact.low is not None and fact.high is not None:
            return True
        return upwards == at_low or bool((_ABOVE if upwards else _BELOW).search(words)) or bool(_DENIED.search(words))
    if fact.meaning == "grade" and fact.low is not None and fact.high is not None:
        return upwards == at_low
    if fact.meaning in ("diagnostic", "action") or (
        fact.meaning == "grade" and (fact.low is None or fact.high is None)
    ):
        return upwards == at_low or bool(_DENIED.search(words)) or "正常" in words or "目标" in words or "控制" in words
    return True


def _matches(quantity: Quantity, listed: Range, factor: float, words: str, next_bounds: set[float]) -> bool:
    """Whether the quantity states this range or one of its bounds."""
    slack = 0.0 if factor == 1.0 else 0.03
    ends = [quantity.low, quantity.high]
    low, high = (None if e is None else e * factor for e in ends)
    fact_low, fact_high = _component(listed.low, 0), _component(listed.high, 0)
    if quantity.form == "pair":
        if not (isinstance(listed.low, tuple) or isinstance(listed.high, tuple)):
            return False
        seconds = [None if e is None else e * factor for e in (quantity.second_low, quantity.second_high)]
        second_low, second_high = _component(listed.low, 1), _component(listed.high, 1)
        if low is not None and high is not None and low != high:
            return (_near(low, fact_low, slack) and _near(high, fact_high, slack)) and (
                _near(seconds[0], second_low, slack) and _near(seconds[1], second_high, slack)
            )
        first = low if low is not None else high
        second = seconds[0] if seconds[0] is not None else seconds[1]
        at_low = _near(first, fact_low, slack) and _near(second, second_low, slack)
        at_high = _near(first, fact_high, slack) and _near(second, second_high, slack)
        return (at_low and _direction_agrees(quantity, True, listed.fact, words)) or (
            at_high and _direction_agrees(quantity, False, listed.fact, words)
        )
    if quantity.form == "range" or (low is not None and high is not None and low != high):
        step = 0.11 if isinstance(fact_high, float) and fact_high < 30 else 1.01
        end_agrees = _near(high, fact_high, slack) or (
            fact_high is not None
            and high is not None
            and 0 < high - fact_high <= step
            and any(_near(high, b, 0) for b in next_bounds)
        )
        start_agrees = _near(low, fact_low, slack)
        if fact_low is None:
            return end_agrees and listed.fact.meaning in ("limit", "duration", "amount")
        if fact_high is None:
            return start_agrees and listed.fact.meaning in ("duration", "amount")
        return start_agrees and end_agrees
    value = low if low is not None else high
    return (_near(value, fact_low, slack) and _direction_agrees(quantity, True, listed.fact, words)) or (
        _near(value, fact_high, slack) and _direction_agrees(quantity, False, listed.fact, words)
    )


def _pair_part(measure: str) -> int | None:
    return {"systolic": 0, "diastolic": 1}.get(measure)


def _listed(facts: Sequence[Fact], measure: str) -> Iterator[Range]:
    """All ranges of ``facts``; for a lone systolic or diastolic number that part of the pairs."""
    part = _pair_part(measure)
    for fact in facts:
        for entry in ranges(fact):
            if part is not None and (isinstance(entry.low, tuple) or isinstance(entry.high, tuple)):
                yield Range(entry.fact, _component(entry.low, part), _component(entry.high, part), entry.source)
            else:
                yield entry


def _period_agrees(quantity: Quantity, fact: Fact) -> bool:
    """A fact per week cannot be met by an amount per day; an amount of no said period may be either."""
    if fact.unit is None:
        return True
    period = split_period(fact.unit)[1]
    return quantity.per in (None, period) or (period is None and quantity.per is not None and quantity.per != "次")


def describe(fact: Fact) -> str:
    """The fact in words: 空腹血糖正常范围：3.9～6.1 mmol/L."""

    def show(bound: float | tuple[float, float]) -> str:
        return "/".join(f"{b:g}" for b in bound) if isinstance(bound, tuple) else f"{bound:g}"

    unit = f" {fact.unit}" if fact.unit else ""
    if fact.low is not None and fact.high is not None:
        value = show(fact.low) if fact.low == fact.high else f"{show(fact.low)}～{show(fact.high)}"
    elif fact.low is not None:
        value = ("＞" if fact.low_open else "≥") + show(fact.low)
    else:
        assert fact.high is not None
        value = ("＜" if fact.high_open else "≤") + show(fact.high)
    return f"{fact.label}：{value}{unit}"


def judge(text: str, quantities: Sequence[Quantity], index: int, asker: Asker) -> Reading | None:
    """Supported or contradicted by the facts of what the quantity measures; None where they do not speak of it."""
    quantity = quantities[index]
    measure = quantity.measures
    if measure is None or measure not in measures():
        return None
    words = window(text, quantities, index)
    if measure in _KIN["random_glucose"] and not _GLUCOSE_TIME.search(_sentence(text, quantity)):
        measure = "random_glucose"  # carried over from an earlier sentence: any of the family may be meant
    part = _pair_part(measure)
    pool = candidates(measure, asker, words)
    if part is not None:
        pool += [f for m in _PRESSURES for f in facts_of().get(m, ()) if applies(f, asker, words)]
    pool = [f for f in pool if _period_agrees(quantity, f)]
    if not pool:
        return None
    factor = canonical_factor(measure, quantity.unit)
    if factor is None:
        return None
    narrowed = _narrowed(pool, words)
    known = {f.meaning for f in pool}
    said = meanings(words) & (known | ({"normal", "line"} if "diagnostic" in known else set()))
    wanted = {a for m in said for a in _AGREEING[m]}
    own = said | ({"diagnostic"} if "line" in said else set())
    meant = sorted((f for f in narrowed if f.meaning in wanted or not said), key=lambda f: f.meaning not in own)
    if "normal" in said:
        meant += _borders(narrowed, meant)
    near_lines = _limits_near_lines(narrowed, meant) if own & {"diagnostic"} else []
    bounds = {b for r in _listed(pool, measure) for b in (_component(r.low, 0), _component(r.high, 0)) if b is not None}
    for entry in [*_listed(meant, measure), *near_lines]:
        if _matches(quantity, entry, factor, words, bounds):
            return Reading(quantity, "supported", entry.fact.id, entry.source, f"与“{describe(entry.fact)}”一致")
    if said and _pressure_ceiling(quantity, measure, words):
        return Reading(quantity, "supported", "htn_office", "高血压诊断线以下", "低于高血压诊断线")
    if not meant or not _claims(quantity, words, said, meant):
        return None
    if quantity.form != "range" and any(_matches(quantity, r, factor, words, bounds) for r in _listed(pool, measure)):
        return None if not _strict(said, narrowed, pool) else _contradicted(quantity, meant, said)
    return _contradicted(quantity, meant, said)


def _borders(facts: Sequence[Fact], normal: Sequence[Fact]) -> list[Fact]:
    """Diagnostic lines that end the normal range (正常应低于420), but not those beyond it (7.0 for fasting glucose)."""
    tops = [r.high for f in normal if f.meaning == "normal" for r in ranges(f) if isinstance(r.high, float)]
    return [
        f
        for f in facts
        if f.meaning == "diagnostic"
        and f not in normal
        and (not tops or (isinstance(f.low, float) and f.high is None and f.low <= max(tops)))
    ]


def _limits_near_lines(facts: Sequence[Fact], lines: Sequence[Fact]) -> list[Range]:
    """Ends of normal ranges within 5 % of a diagnostic line: 低于115 and 低于110 are both said of anaemia."""
    listed = [r for f in lines if f.meaning == "diagnostic" for r in ranges(f)]

    def kept(
        bound: float | tuple[float, float] | None, marks: list[float | tuple[float, float] | None]
    ) -> float | None:
        return (
            bound
            if isinstance(bound, float) and any(isinstance(m, float) and _near(bound, m, 0.05) for m in marks)
            else None
        )

    low_lines = [r.high for r in listed if r.low is None]
    high_lines = [r.low for r in listed if r.high is None]
    normal = [f for f in facts if f.meaning == "normal" and f not in lines]
    return [Range(f, kept(f.low, low_lines), kept(f.high, high_lines), f.source) for f in normal]


_TELLING = ("target", "diagnostic", "normal", "grade", "limit", "amount", "duration", "action")


def _contradicted(quantity: Quantity, meant: Sequence[Fact], said: set[str]) -> Reading:
    fact = min(meant, key=lambda f: (f.meaning not in said, _TELLING.index(f.meaning)))
    return Reading(quantity, "contradicted", fact.id, fact.source, f"与“{describe(fact)}”不符")


def _strict(said: set[str], narrowed: Sequence[Fact], pool: Sequence[Fact]) -> bool:
    """Whether a bound of another fact may not stand in: the label was named (2级 …) or the sense is plainly one."""
    return len(narrowed) < len(pool) or said in ({"normal"}, {"diagnostic"}, {"target"}, {"line"})


def _pressure_ceiling(quantity: Quantity, measure: str, words: str) -> bool:
    """正常血压低于140/90: not the table's word for it, yet said by every guideline."""
    if "正常" not in words and "理想" not in words:
        return False
    value = quantity.high if quantity.low is None else quantity.low
    if measure == "blood_pressure":
        return quantity.comparator in ("<", "<=") and (value, quantity.second_high) in ((140.0, 90.0), (130.0, 85.0))
    if measure == "systolic":
        return quantity.form == "range" and (quantity.low, quantity.high) in ((90.0, 139.0), (90.0, 140.0))
    return (
        measure == "diastolic"
        and quantity.form == "range"
        and (quantity.low, quantity.high) in ((60.0, 89.0), (60.0, 90.0))
    )


def _claims(quantity: Quantity, words: str, said: set[str], meant: Sequence[Fact]) -> bool:
    """Whether the words state a range or line, rather than report the asker's state or an example."""
    if not said or {f.meaning for f in meant} <= {"action"}:
        return False
    before, _, behind = words.partition("▮")
    if re.search(r"禁用|慎用|忌用|不能用|不可用|不宜用|的人不能|停用|减量|调整剂量", words):
        return False  # a group in which a drug is not used
    if re.search(
        r"[吗么?？]$|比如|例如|假设|举个例子|曾经|上次|之前|记错|有人说|传言|误以为|您说|您提到|听说",
        before[-14:] + behind[-1:],
    ):
        return False
    exact = (
        quantity.comparator in (">", ">=", "<", "<=")
        or quantity.form in ("range",)
        or (quantity.form == "pair" and quantity.low != quantity.high)
    )
    if re.search(r"您|你", before[-12:]) and not re.search(r"目标|控制|标准|正常(?:范围|值)?(?:是|为|应)", words):
        return False
    if {f.meaning for f in meant} <= {"limit", "amount", "duration"}:
        told = r"建议|推荐|应|最好|不超过|少于|至少|限|不能|不要|控制|以内|别超过|每[天日周]|一[天日周]|坚持|保持"
        return exact and quantity.comparator not in (">",) and bool(re.search(told, words + quantity.text))
    if exact:
        if said & {"target", "normal", "diagnostic", "grade", "line"}:
            return not re.search(r"波动|从|由|以前|原来|高出|低了|下降了|升高了|减少", before[-10:])
        return False
    if "line" in said and re.search(r"(?:达到|到了?|高过|满)\s*$", before) and re.match(r"\s*(?:就|才|即|便)", behind):
        return True
    # A plain value is a claim only right behind the word: 正常上限是6.1, 诊断标准是7.0.
    return bool(
        re.search(
            r"(?:诊断(?:标准|线|界值|切点)|正常(?:上限|下限|值)|参考值|上限|下限|目标(?:值)?|界值|界线|界限|"
            r"达标线)[^,，▮]{0,4}(?:是|为|应?在|：|:|在|定在)?\s*$",
            before,
        )
        or re.match(r"\s*(?:的|这条)[^,，▮]{0,6}(?:诊断线|界线|界值|切点|上限|下限|正常范围|参考范围|标准)", behind)
    )
