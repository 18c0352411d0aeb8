"""Doses against the drug table: too much at once, too much a day, and drugs that the asker must not take."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from precision_lora import knowledge
from precision_lora.asker import Asker
from precision_lora.claims import facts_of
from precision_lora.knowledge import Drug
from precision_lora.measures import Name
from precision_lora.negation import polarity
from precision_lora.quantities import Quantity
from precision_lora.readings import Finding, Reading
from precision_lora.unit_forms import convert

_CLAUSE = re.compile(r"[,，。；;！!？?\n：:]")
_SENTENCE = re.compile(r"[。；;！!？?\n]")
_NOT_ADVICE = re.compile(
    r"过量|超量|超过|中毒|误服|多吃了|吃多|负荷|嚼服|嚼碎|首剂|抢救|急救时|规格|每片|每粒|一片是|一粒是|含有?$|"
    r"说明书上|太多|太大|会伤|伤肝|伤肾|危险|风险|您说|您吃|您目前|您现在"
)
_DAY_TOTAL = re.compile(r"(?:每日|每天|一天|一日|24小时|全天|日剂量|日总量|累计|总量|合计|总共)[^,，。；\d]{0,10}$")
_FILLER = (
    r"(?:(?:一?[片粒颗点些]|\d[^,，。；]{0,6}|半片|少量|小剂量|的?药|如|比如|例如|像|“|\"| )){0,3}"
    r"[^,，。；;！!？?\n期间时后]{0,6}$"
)
_ADVISED_BEFORE = re.compile(
    r"(?:建议|推荐|可以|可|首选|优选|选择|选用|选|常用|改用|改成|改为|换成|换用|换|加用|加上|备点?|买点?|给予|试试|"
    r"试用|来点|开点?|外加|先[吃用服])" + _FILLER
)
_TAKEN_BEFORE = re.compile(r"(?:使用|服用|口服|吃|服|用|含服|含|注射|打|配合)" + _FILLER)
# 用华法林要查凝血, 和氟康唑同用要当心: what holds while the drug is taken, no advice to take it.
_WHILE_TAKING = re.compile(
    r"^[^,，。；;！!？?\n]{0,8}?(?:要|需|时|的|可能|会|容易|后|同用|合用|联用|一起|同服|并用|治疗)"
)
_RECOMMENDED_AFTER = re.compile(
    r"^[^,，。；;！!？?\n]{0,6}?(?:每次|每日|每天|一天|一日|一次|\d|[一二两三半]片|口服|就可以|就行|就好|即可|"
    r"都可以|可以(?:吃|用|服)|可以(?=[,，。])|能吃|是安全|很安全|比较安全|也可以|效果(?:好|不错))"
)
_ALREADY = re.compile(
    r"期间|之前|以前|时候|说明书|正在|您(?:现在|目前|一直)?(?:在)?(?:吃|用|服)的|如果(?:在)?(?:吃|用|服)|吃(?:过|"
    r"了)|用(?:过|了)|成分|含有?$|不是|代替|取代|以外|过敏"
)
_TURNED_AWAY = re.compile(
    r"^[^。；;！!？?\n]{0,12}?(?:换|停|改|不适合|不安全|禁用|忌用|不能|不要|不宜|过敏|有风险|会加重|伤|期间|之前|"
    r"以前|前要|过量|成分)"
)


@dataclass(frozen=True)
class Limits:
    """A drug's limits in ``unit``: usual single dose, the most in 24 hours by any listed source."""

    unit: str | None
    low: float | None
    high: float | None
    daily: float | None
    source: str


@cache
def drugs() -> dict[str, Drug]:
    """Generic name -> entry."""
    return {drug.name: drug for drug in knowledge.drugs()}


def _listed_highs(name: str, unit: str) -> list[float]:
    """Highs that facts about this drug's amount a day list, in ``unit``."""
    highs: list[float] = []
    for measure in knowledge.quantities_table():
        if measure.unit is None or not any(n in (f"{name}日剂量", f"{name}片日剂量") for n in measure.names):
            continue
        for fact in facts_of().get(measure.id, ()):
            for bound in (fact.high, *(other.high for other in fact.alternatives)):
                scaled = convert(bound, measure.unit.split("/")[0], unit) if isinstance(bound, float) else None
                if scaled is not None:
                    highs.append(scaled)
    return highs


@cache
def limits(name: str) -> Limits | None:
    """The limits of a drug; None where the table knows none."""
    drug = drugs().get(name)
    if drug is None or drug.dose.unit is None:
        return None
    unit = drug.dose.unit
    daily: list[float] = _listed_highs(name, unit)
    if drug.max_daily is not None:
        scaled = convert(drug.max_daily.value, drug.max_daily.unit, unit)
        if scaled is not None:
            daily.append(scaled)
    return Limits(unit, drug.dose.low, drug.dose.high, max(daily) if daily else None, drug.source)


def clause_before(text: str, start: int, pattern: re.Pattern[str] = _CLAUSE, reach: int = 40) -> str:
    """What stands between the beginning of the clause and ``start``."""
    begin = max(0, start - reach)
    for match in pattern.finditer(text, begin, start):
        begin = match.end()
    return text[begin:start]


def clause_after(text: str, end: int, pattern: re.Pattern[str] = _CLAUSE, reach: int = 40) -> str:
    """What stands between ``end`` and the end of the clause."""
    stop = pattern.search(text, end, min(len(text), end + reach))
    return text[end : stop.start() if stop else min(len(text), end + reach)]


def _amounts(quantity: Quantity, unit: str) -> tuple[float, float] | None:
    """Lowest and highest amount in ``unit``; None where the units do not convert."""
    bounds = [b for b in (quantity.low, quantity.high) if b is not None]
    if quantity.unit is None or not bounds:
        return None
    scaled = [convert(b, quantity.unit, unit) for b in bounds]
    if any(s is None for s in scaled):
        return None
    known = [s for s in scaled if s is not None]
    return min(known), max(known)


def _times_a_day(quantities: Sequence[Quantity], index: int, text: str) -> float | None:
    """The frequency that belongs to a dose: the next in its sentence before another dose, else the one just before."""
    quantity = quantities[index]
    for other in quantities[index + 1 : index + 4]:
        if _SENTENCE.search(text, quantity.end, other.start):
            break
        if other.form == "frequency" and other.unit == "次/天" and other.measures in (None, quantity.measures):
            return other.low if other.low is not None else other.high
        if (
            other.form != "frequency"
            and other.measures == quantity.measures
            and other.unit not in ("天", "周", "月", "分钟", "小时")
        ):
            break
    for other in reversed(quantities[max(0, index - 2) : index]):
        if _SENTENCE.search(text, other.end, quantity.start):
            break
        if other.form == "frequency" and other.unit == "次/天" and other.measures == quantity.measures:
            return other.low if other.low is not None else other.high
        break
    return None


def _is_day_total(quantity: Quantity, text: str) -> bool:
    return quantity.per == "天" or bool(_DAY_TOTAL.search(clause_before(text, quantity.start)))


def dose_readings(text: str, quantities: Sequence[Quantity], asker: Asker) -> tuple[dict[int, Reading], list[Finding]]:
    """Readings (by index into ``quantities``) and findings for all amounts of known drugs."""
    readings: dict[int, Reading] = {}
    found: list[Finding] = []
    for index, quantity in enumerate(quantities):
        known = limits(quantity.measures) if quantity.measures in drugs() else None
        if quantity.form == "frequency" and quantity.measures in drugs() and quantity.unit == "次/天":
            most_often = quantity.high if quantity.high is not None else quantity.low
            usual_times = _most_times(quantity.measures)
            if most_often is not None and most_often > usual_times * (1 if quantity.comparator in ("<=", "<") else 2):
                source = drugs()[quantity.measures].source
                usual = "或".join(drugs()[quantity.measures].dose.frequency)
                note = f"{quantity.measures}每日{most_often:g}次过多，常用{usual}"
                readings[index] = Reading(quantity, "contradicted", None, source, note)
                found.append(Finding("overdose", quantity.start, quantity.end, "error", source, note))
            continue
        if known is None or known.unit is None or quantity.form not in ("value", "range", "fraction"):
            continue
        if quantity.comparator in (">", ">=") or (quantity.unit or "").endswith("/kg"):
            continue
        amounts = _amounts(quantity, known.unit)
        if amounts is None:
            continue
        least, most = amounts
        name = quantity.measures or ""
        before, after = clause_before(text, quantity.start), clause_after(text, quantity.end)
        if polarity(text, quantity.start, quantity.end) in (
            "negated",
            "contraindicated",
        ) and quantity.comparator not in ("<=", "<"):
            continue
        if _NOT_ADVICE.search(before) or _NOT_ADVICE.search(after[:12]):
            continue
        ceiling = known.daily
        single = max((h for h in (known.high, known.low) if h is not None), default=None)
        allowed = ceiling if ceiling is not None else single
        if allowed is None or single is None:
            continue
        is_limit = quantity.comparator in ("<=", "<")
        total = _is_day_total(quantity, text)
        times = None if total or is_limit else _times_a_day(quantities, index, text)
        usual = f"{name}常用单次量{_span(known)}" + (
            f"，每日最多{ceiling:g}{known.unit}" if ceiling is not None else ""
        )
        note = ""
        if total or is_limit:
            day_limit = ceiling if ceiling is not None else single * _most_times(name)
            if most > day_limit * 1.001 and (total or most > max(single, day_limit) * 1.001):
                note = f"{name}每日{most:g}{known.unit}超过最大量：{usual}"
        elif most > max(allowed, single) * 1.001:
            note = f"{name}一次{most:g}{known.unit}超过最大量：{usual}"
        elif (
            times is not None
            and ceiling is not None
            and most * times > ceiling * 1.001
            and least * times > ceiling * 0.999
        ):
            note = f"{name}每次{most:g}{known.unit}、每日{times:g}次共{most * times:g}{known.unit}，超过最大量：{usual}"
        elif times is not None and ceiling is None and times > _most_times(name) and most >= single:
            note = f"{name}每日{times:g}次过多：{usual}"
        if note:
            readings[index] = Reading(quantity, "contradicted", None, known.source, note)
            found.append(Finding("overdose", quantity.start, quantity.end, "veto", known.source, note))
            continue
        if not total and not is_limit and most > single * 1.001 and (quantity.per == "次" or times):
            note = f"{name}一次{most:g}{known.unit}高于常用量：{usual}"
            readings[index] = Reading(quantity, "contradicted", None, known.source, note)
            found.append(Finding("overdose", quantity.start, quantity.end, "error", known.source, note))
            continue
        floor = known.low
        if (
            floor is not None
            and most < floor * 0.5
            and not asker.child
            and not is_limit
            and polarity(text, quantity.start, quantity.end) == "affirmed"
        ):
            note = f"{name}{most:g}{known.unit}远低于常用量：{usual}"
            readings[index] = Reading(quantity, "contradicted", None, known.source, note)
            found.append(Finding("underdose", quantity.start, quantity.end, "error", known.source, note))
            continue
        if floor is not None and least >= floor * 0.999 and most <= max(allowed, single) * 1.001:
            readings[index] = Reading(quantity, "supported", None, known.source, f"在常用量之内：{usual}")
    return readings, found


def _span(known: Limits) -> str:
    if known.low is None or known.high is None:
        return "按医嘱"
    return f"{known.low:g}{known.unit}" if known.low == known.high else f"{known.low:g}～{known.high:g}{known.unit}"


_TIMES = {"一": 1, "两": 2, "二": 2, "三": 3, "四": 4, "五": 5, "六": 6, "八": 8}


@cache
def _most_times(name: str) -> float:
    """The most intakes a day that the table lists (每4～6小时一次 counts six)."""
    most = 1.0
    for word in drugs()[name].dose.frequency:
        if match := re.search(r"每[日天晚][^一二两三四五六八\d]{0,4}([一二两三四五六八\d])次", word):
            most = max(most, float(_TIMES.get(match[1], 0) or match[1]))
        elif match := re.search(r"每(\d+)", word):
            most = max(most, 24 / float(match[1]))
    return most


# Group in the drug table -> how askers say that they belong to it.
_GROUPS: tuple[tuple[str, str], ...] = (
    ("消化性溃疡", r"(?:胃|十二指肠|消化性)(?:和十二指肠)?溃疡"),
    ("十二指肠溃疡", r"(?:胃|十二指肠|消化性)(?:和十二指肠)?溃疡"),
    ("消化道出血", r"消化道出血|胃出血|黑便|呕血|便血"),
    ("活动性出血", r"正在出血|活动性出血|消化道出血|胃出血|脑出血"),
    ("阿司匹林哮喘", r"阿司匹林(?:性)?哮喘|吃(?:了)?阿司匹林[^。]{0,8}(?:哮喘|喘)"),
    ("支气管哮喘", r"哮喘"),
    ("青光眼", r"青光眼"),
    ("前列腺增生", r"前列腺(?:增生|肥大)"),
    ("透析", r"透析|尿毒症"),
    ("1型糖尿病", r"[1一]型糖尿病"),
    ("酮症酸中毒", r"酮症"),
    ("双侧肾动脉狭窄", r"双侧肾动脉狭窄"),
    ("血管性水肿", r"血管性水肿"),
    ("高钾血症", r"高钾|血钾(?:偏)?高"),
    ("低钾血症", r"低钾|血钾(?:偏)?低"),
    ("窦性心动过缓", r"心动过缓|心跳(?:很|太|过)慢"),
    ("活动性肝病", r"活动性肝(?:病|炎)|肝炎(?:活动|发作)期?|肝衰竭"),
    ("痛风急性", r"痛风(?:急性)?发作"),
    ("癫痫", r"癫痫|羊癫疯"),
    ("抑郁症", r"抑郁症"),
    ("重症肌无力", r"重症肌无力"),
    ("肠梗阻", r"肠梗阻"),
    ("肾结石", r"肾结石"),
    ("心肌梗死", r"心梗|心肌梗[死塞]"),
    ("冠脉搭桥", r"搭桥"),
    ("颅内出血", r"脑出血|颅内出血"),
    ("蚕豆病", r"蚕豆病|G6PD"),
    ("G6PD", r"蚕豆病|G6PD"),
)
_SEVERE_KIDNEY = r"尿毒症|透析|肾衰竭?|肾功能衰竭|(?:严重|重度)(?:的)?肾功能不全|(?:慢性)?肾(?:脏)?病[45四五]期"
_SEVERE_LIVER = r"肝衰竭|失代偿|(?:严重|重度)肝功能(?:不全|损害)|肝硬化腹水"
_ALLERGIES = (
    "磺胺",
    "青霉素",
    "头孢",
    "水杨酸",
    "阿司匹林",
    "碘",
    "二氢吡啶",
    "喹唑啉",
    "花生",
    "大豆",
    "鸡蛋",
    "大环内酯",
    "喹诺酮",
    "非甾体",
)


def belongs(group: str, asker: Asker) -> bool:
    """Whether the asker plainly belongs to a group of the drug table's contraindications."""
    if "孕晚期" in group:
        return asker.pregnant and asker.weeks is not None and asker.weeks >= 28
    if "孕早期" in group:
        return asker.pregnant and asker.weeks is not None and asker.weeks <= 13
    if "孕中" in group:
        return asker.pregnant and asker.weeks is not None and asker.weeks >= 14
    if "孕妇" in group or "妊娠" in group or group == "孕期":
        return asker.pregnant
    if "哺乳" in group:
        return asker.lactating
    if match := re.search(r"[（(＜<]?[<＜]\s?(\d+)\s?(岁|个?月)", group):
        years = float(match[1]) / (1 if match[2] == "岁" else 12)
        if any(word in group for word in ("儿童", "婴", "小儿", "青少年", "岁以下", "未成年")):
            return asker.age is not None and asker.age < years
    if match := re.search(r"(\d+)岁以下", group):
        return asker.age is not None and asker.age < float(match[1])
    if re.search(r"eGFR|肌酐清除率|肾功能不全|肾衰", group):
        if asker.says(_SEVERE_KIDNEY):
            return not re.search(r"轻度", group)
        line = re.search(r"[<＜](\d+)", group)
        values = [
            q.high for q in asker.quantities if q.measures in ("egfr", "creatinine_clearance") and q.high is not None
        ]
        return bool(line and values and values[-1] < float(line[1]))
    if re.search(r"重度肝功能|肝功能衰竭|肝昏迷|肝硬化", group):
        return asker.says(_SEVERE_LIVER)
    if "过敏" in group:
        return any(allergen in group and allergic(allergen, asker) for allergen in _ALLERGIES)
    if "心力衰竭" in group or "心衰" in group:
        severe = re.search(r"重度|失代偿|严重|NYHA", group)
        return asker.says(
            r"(?:严重|重度|急性|失代偿)[^,，。]{0,3}(?:心衰|心力衰竭)|心衰(?:加重|发作)" if severe else r"心衰|心力衰竭"
        )
    for word, said in _GROUPS:
        if word in group:
            return asker.says(said)
    return False


def allergic(substance: str, asker: Asker) -> bool:
    """Whether the asker says to be allergic to ``substance``."""
    pattern = re.compile(rf"{re.escape(substance)}[^,，。；！？\n]{{0,6}}过敏")
    for match in pattern.finditer(asker.text):
        if not re.search(r"不过敏|没有?过敏|无过敏|过敏(?:吗|么|怎么)", asker.text[match.start() : match.end() + 2]):
            return True
    return False


_ON_THE_SKIN = re.compile(r"^[^,，。；;！!？?\n]{0,4}(?:凝胶|乳膏|软膏|乳胶|贴|栓|喷雾|滴眼|外用|外涂)")


def _is_topical(drug: Drug, text: str, name: Name) -> bool:
    """Whether a drug that the table lists to be swallowed is meant as a gel or patch."""
    if not re.search(r"口服|静脉|肌注|注射", drug.route):
        return False
    return bool(
        _ON_THE_SKIN.match(text[name.end : name.end + 12])
        or re.search(r"外用|外涂|涂抹?", clause_before(text, name.start))
    )


def is_recommended(text: str, start: int, end: int) -> bool:
    """Whether the drug named at text[start:end] is plainly advised."""
    if polarity(text, start, end) != "affirmed":
        return False
    before, after = clause_before(text, start), clause_after(text, end)
    if _ALREADY.search(before) or _TURNED_AWAY.match(clause_after(text, end, _SENTENCE, 16)):
        return False
    if re.match(r"[^,，。；;！!？?\n]{0,4}(?:同用|合用|联用|一起|同服|并用)", after):
        return False
    if _ADVISED_BEFORE.search(before) or _RECOMMENDED_AFTER.match(after):
        return True
    return bool(_TAKEN_BEFORE.search(before)) and not _WHILE_TAKING.match(after)


def _same_class(drug: Drug, substance: str) -> bool:
    if substance == "青霉素":
        return "青霉素" in drug.drug_class or "西林" in drug.name
    if substance == "头孢":
        return drug.name.startswith("头孢")
    return False


def contraindicated(text: str, names: Sequence[Name], asker: Asker) -> list[Finding]:
    """Drugs that the answer advises and that the asker must not take."""
    found: list[Finding] = []
    for name in names:
        drug = drugs().get(name.id) if name.kind == "drug" else None
        if drug is None:
            continue
        reason = ""
        if allergic(drug.name, asker) or any(len(a) > 1 and allergic(a, asker) for a in drug.aliases):
            reason = f"提问者对{drug.name}过敏"
        elif any(_same_class(drug, s) and allergic(s, asker) for s in ("青霉素", "头孢")):
            reason = f"提问者对同类药物过敏：{drug.drug_class}"
        else:
            group = next(
                (c.group for c in drug.contraindications if c.strength == "禁用" and belongs(c.group, asker)), None
            )
            if group:
                reason = f"{drug.name}：{group}禁用"
        if reason and not _is_topical(drug, text, name) and is_recommended(text, name.start, name.end):
            found.append(Finding("contraindicated_drug", name.start, name.end, "veto", drug.source, reason))
    return found


_NOTICED = re.compile(
    r"超过|过量|超量|太多|太大|过多|减量|减少|降到|不要|不能|不可|不宜|停|最多|上限|最大|中毒|急诊|120|就医|危险|"
    r"伤肝|风险"
)


def unnoticed_overdose(text: str, asker: Asker) -> list[Finding]:
    """The asker takes more than the daily maximum, and the answer does not say so (at 0, 0)."""
    if not text or _NOTICED.search(text):
        return []
    quantities = asker.quantities
    for index, quantity in enumerate(quantities):
        known = limits(quantity.measures) if quantity.measures in drugs() else None
        if known is None or known.unit is None or known.daily is None or quantity.form not in ("value", "range"):
            continue
        amounts = _amounts(quantity, known.unit)
        if amounts is None:
            continue
        times = 1.0 if _is_day_total(quantity, asker.text) else _times_a_day(quantities, index, asker.text) or 1.0
        if amounts[0] * times > known.daily * 1.001:
            note = f"提问者所说的{quantity.measures}剂量超过每日最多{known.daily:g}{known.unit}，回答没有指出"
            return [Finding("unnoticed_overdose", 0, 0, "error", known.source, note)]
    return []
