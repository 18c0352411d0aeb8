"""Exact answers to readings: the value against its range, what its band may mean, what to do."""

from __future__ import annotations

from random import Random

from data_mlx import figures
from data_mlx.cases import band_of
from data_mlx.compose import Moves
from data_mlx.questions import foreign
from data_mlx.readings import BY_QUANTITY, Band
from data_mlx.talk import Talk

# Quantities whose bands say all figures themselves.
OWN_FIGURES = frozenset({"body_temperature", "phq9", "pregnancy_fasting_glucose"})


ABOVE = (
    "{whos}{name}[是|测到|到了]{value}，[正常范围|参考范围|正常值][是|在|一般为]{range}，[确实偏高|已经偏高|高出来了|超过了正常]",
    "{name}[的|]正常[范围|值][一般|通常|大致]是{range}，{whos}{value}[超出了|高过上限|已经偏高|偏高]",
    "[先看数字|先说数值|说到数值]：{value}，[对照|比起|对比]{range}的[正常范围|参考范围]，[是偏高的|高了|偏高]",
    "{name}{value}[，|]超过[了|]正常范围（{range}）",
    "[按|拿]{range}的[参考范围|正常范围][来看|比]，{whos}{name}{value}[属于偏高|偏高|高了]",
    "[直接回答您|先回答您]：{value}[偏高|高了]，[正常|一般]是{range}",
)
BELOW = tuple(
    t.replace("确实偏高|已经偏高|高出来了|超过了正常", "确实偏低|已经偏低|低了|没到正常")
    .replace("超出了|高过上限|已经偏高|偏高", "没到下限|低于下限|偏低|偏低了")
    .replace("是偏高的|高了|偏高", "是偏低的|低了|偏低")
    .replace("超过[了|]正常范围", "低于正常范围")
    .replace("属于偏高|偏高|高了", "属于偏低|偏低|低了")
    .replace("偏高|高了", "偏低|低了")
    for t in ABOVE
)
INSIDE = (
    "{whos}{name}[是|测到]{value}，[正常范围|参考范围|正常值][是|在|一般为]{range}，[在正常范围内|没有超|是正常的|处在正常之内]",
    "[先让您放心|先说结论|直接说结果]：{value}[是正常的|没有问题|在正常范围内]，[正常|参考]范围是{range}",
    "{name}{range}[算|都是]正常，{whos}{value}[在里面|没有越界|属于正常]",
    "[对照|比着]{range}的[正常范围|参考范围]，{whos}{name}{value}[并不高|正常|没有异常]",
    "{value}[在|落在]正常范围（{range}）[之内|里]",
)
TARGETED = (
    "{whos}{name}{value}，[而|]控制目标[一般|通常]是{range}，{goal_verdict}",
    "[治疗中的人|已经用药的人]{name}[一般要求|目标是]{range}，{whos}是{value}，{goal_verdict}",
    "[拿|按]控制目标{range}来[比|看]，{whos}{name}{value}{goal_verdict}",
)
LINE_ABOVE = (
    "{whos}{name}{value}，[已经|]超过{line}（{edge}）",
    "{line}是{edge}，{whos}{name}{value}[已经越过|超过了|高出来了]",
    "[先看数字|先说数值]：{name}{value}，{line}[是|为]{edge}，[过线了|已经超过]",
    "{name}{value}[，|]高于{line}{edge}",
    "[直接回答您|先回答您]：{value}[偏高|高了]，{line}[定在|是]{edge}",
)
LINE_BELOW = (
    "{whos}{name}{value}，[没有到|低于]{line}（{edge}）",
    "{line}是{edge}，{whos}{name}{value}[没有超过|还在线下]",
    "[先让您放心|先说结论]：{name}{value}[不高|没有超]，{line}[是|为]{edge}",
    "{name}{value}，[离|比]{line}{edge}[还低|低一些]",
)
GRADE_LEVEL = (
    "{whos}{name}{value}，[落在|处在]{range}[之间|这一段]，[属于|算]{line}",
    "[先看数字|先说数值]：{name}{value}，[正好|恰好]在{range}[之间|里面]，[算是|属于]{line}",
    "{range}[这一段|之间]叫{line}，{whos}{name}{value}[就在里面|正在其中]",
    "{line}[指的是|就是]{name}{range}，{whos}{value}[够上了|符合]",
)
LINE_UNDER = (
    "{whos}{name}{value}，[已经|]低于{line}（{under}）",
    "{line}是{under}，{whos}{name}{value}[没到|不够|低了]",
    "[先看数字|先说数值]：{name}{value}，{line}[是|为]{under}，[比它低|低了]",
)
GRADE_BELOW = (
    "{whos}{name}{value}，[正常|合格的]{name}[应|应该]低于{edge}，[没有超|是正常的]",
    "[先让您放心|先说结论]：{name}{value}[是正常的|没有问题]，[低于|没到]{edge}就好",
    "{name}低于{edge}[算正常|就正常]，{whos}{value}[属于正常|没有超]",
)
# What a diagnostic line or a grade is called in a sentence.
LINES = {
    "dm_hba1c": "糖尿病的诊断线",
    "hyperuricemia": "高尿酸血症的界线",
    "dm_2h_postprandial": "糖尿病的诊断线",
    "prediabetes_hba1c": "糖尿病前期",
    "igt_postprandial": "糖耐量减低",
    "egfr_g2": "肾功能轻度下降",
    "ckd_egfr": "慢性肾脏病的界线",
    "acr_micro": "微量白蛋白尿",
    "ferritin_deficiency": "铁缺乏的界线",
    "vitd_deficiency": "维生素D缺乏的界线",
    "vitd_insufficient": "维生素D不足",
    "gdm_fasting": "妊娠期糖尿病的诊断线",
    "fever_low_grade": "低热",
    "fever": "发热的界线",
    "phq9_mild": "轻度抑郁症状",
    "phq9_moderate": "中度抑郁症状",
    "phq9_modsevere": "中重度抑郁症状",
}


def _findings(band: Band, meaning: str) -> tuple[str, ...]:
    """Sentences that set a value against what the quoted fact is: a range, a line, a grade or a target."""
    if meaning == "target":
        return TARGETED
    if meaning == "diagnostic":
        return {"normal": LINE_BELOW, "low": LINE_UNDER}.get(band.name, LINE_ABOVE)
    if meaning == "grade":
        return GRADE_BELOW if band.name == "normal" else GRADE_LEVEL
    return {"low": BELOW, "normal": INSIDE}.get(band.name, ABOVE)


def reading(t: Talk) -> Moves:
    case, rng = t.case, t.rng
    band = band_of(case)
    measured = BY_QUANTITY[case.quantity]
    fact = figures.fact(band.reference)
    places = 2 if case.quantity == "tsh" else figures.decimals(case.quantity)
    value = case.values[0]
    own = dict(t.slots.own)
    unit = next(m.unit for m in figures.measures() if m.id == case.quantity)
    shown = f"{value:.{places}f}"
    value_text = f"{foreign(case):g} {case.unit}" if case.unit else figures.with_unit(rng, shown, unit)
    own |= {
        "name": rng.choice(measured.names),
        "value": value_text,
        "range": lambda r: figures.bounds(r, fact),
    }
    if fact.meaning in ("diagnostic", "grade"):
        own |= {
            "line": LINES[fact.id],
            "edge": lambda r: figures.edge(r, fact, "low"),
            "under": lambda r: figures.edge(r, fact, "high"),
        }
    goal = fact.high if isinstance(fact.high, float) else 0.0
    own["goal_verdict"] = (
        rng.choice(("还没有达标", "离目标还差一点", "现在偏高一些", "没有达到目标")) if value > goal else "已经达标"
    )
    own["fever_drug"] = lambda r: _fever_drug(r)
    t.slots = figures.FactSlots(own)
    pool = _findings(band, fact.meaning)
    finding = t.pick(pool)
    if case.unit:
        finding = _converted(t, shown, unit, places, finding)
    steps = t.some(
        (
            *t.usable(band.steps),
            *(t.amounts()[:1] if band.name != "normal" and case.quantity not in OWN_FIGURES else ()),
        ),
        4,
    )
    urgent = t.urgent([t.say(u) for u in band.urgent]) if band.urgent and rng.random() < 0.7 else ""
    if band.name != "normal" and not urgent and t.narrative and rng.random() < 0.4:
        urgent = t.urgent(t.narrative.alarms)
    closing = t.closing() if band.name != "normal" or rng.random() < 0.5 else ""
    means = [t.pick(band.means)]
    if band.name not in ("normal", "treated") and case.quantity not in OWN_FIGURES and rng.random() < 0.4:
        means.append(t.doubt())
    return Moves(t.empathy(), finding, means, steps, urgent, closing)


def _fever_drug(rng: Random) -> str:
    entry = figures.drug(rng.choice(("对乙酰氨基酚", "布洛芬")))
    assert entry is not None
    limit = figures.max_daily(rng, entry)
    return f"{entry.name}（{figures.dose(rng, entry)}，{rng.choice(('24小时内不超过', '一天最多'))}{limit}）"


def _converted(t: Talk, shown: str, unit: str | None, places: int, finding: str) -> str:
    canonical = figures.with_unit(t.rng, shown, unit)
    return (
        t.say(
            t.rng.choice(
                (
                    "[单位不同|两种单位别混]：{value}[换算过来|折合]约",
                    "{value}[换成|折算成]我们常用的单位[大约是|约为]",
                    "[先换算单位|先把单位换一下]，{value}[约等于|就是]",
                )
            )
        )
        + canonical
        + t.rng.choice(("。", "，", "；"))
        + finding.replace(t.slots.own["value"] if isinstance(t.slots.own["value"], str) else "", canonical, 1)
    )
