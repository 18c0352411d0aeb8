"""The exact renderer: a case as a good doctor answers it, warm, with every number out of the knowledge tables."""

from __future__ import annotations

from collections.abc import Callable

from data_mlx import figures
from data_mlx.cases import Case
from data_mlx.compose import Moves, assemble
from data_mlx.say_care import belief, emotion, symptom, symptom_ask_back
from data_mlx.say_drugs import medicine
from data_mlx.say_pressure import ask_back, pressure
from data_mlx.say_readings import reading
from data_mlx.say_urgent import emergency
from data_mlx.talk import Talk, is_young

FRAMES: dict[str, Callable[[Talk], Moves]] = {
    "reading": reading,
    "treated": reading,
    "reading_unit": reading,
    "bp_reading": pressure,
    "bp_home": pressure,
    "bp_kpa": pressure,
    "bp_treated": pressure,
    "bp_comorbid": pressure,
    "bp_ask_back": ask_back,
    "glucose_ask_back": ask_back,
    "belief": belief,
    "bp_belief": belief,
    "symptom_belief": belief,
    "symptom": symptom,
    "symptom_ask_back": symptom_ask_back,
    "emergency": emergency,
    "crisis": emergency,
    "diagnosed": emotion,
    "burden": emotion,
    "fear": emotion,
    "guilt": emotion,
    "mood": emotion,
}


def first_answer(case: Case) -> str:
    """The exact answer to the opening question.

    Raises:
        ValueError: the case gives too much or too little to say in 60–350 characters.
    """
    talk = Talk(case)
    moves = FRAMES.get(case.frame, medicine)(talk)
    return assemble(talk.rng, moves, young=is_young(case))


def follow_answer(case: Case, topic: str, turn: int, said: str = "", drug: str = "") -> str:
    """The answer of a later turn about ``topic``."""
    t = Talk(case, turn)
    assert t.condition and t.narrative
    c, n, rng = t.condition, t.narrative, t.rng
    moves = Moves()
    if topic == "lifestyle":
        moves.finding = t.say(
            rng.choice(
                (
                    "[平时|日常]这样做[最管用|就好]",
                    "[生活上|吃和动上][抓住几点|记住几样]就[行|可以]",
                    "[自己能做的|在家能做的][不少|很多]",
                )
            )
        )
        moves.steps = t.some([*["{life1}"] * 3, *t.amounts()[:2]], 5)
        moves.meaning = [rng.choice(n.explains)]
    elif topic == "belief":
        truth = dict(n.beliefs)[said]
        moves.finding = t.say(
            rng.choice(
                (
                    "[这话不对|这是误会]",
                    "[很多人都这么说|不少人这么想]，[可|但]并不对",
                    "[别信这个|不能这样办]",
                )
            )
        )
        moves.meaning, moves.steps = [truth], t.some(("{life1}", "{follow_up}"), 2)
    elif topic == "exam":
        names = rng.sample(c.examinations, min(4, len(c.examinations)))
        moves.finding = t.say(f"[到|挂]{c.department}[就行|即可]，[一般|通常][查|做]{'、'.join(names)}")
        moves.meaning = [rng.choice(n.explains)]
        moves.steps = t.some(
            (
                "[抽血的项目|要抽血的][最好空腹|先别吃早饭]",
                "[以前的报告|旧的单子][带上|一起带去]",
                "{follow_up}",
                "{life1}",
            ),
            2,
        )
    elif topic == "follow_up":
        moves.finding = t.say("[一般来说|按常规]，{follow_up}")
        moves.meaning = [rng.choice(n.outlook)]
        moves.steps = t.some(("[把|每次把]症状和[数值|指标]记下来[带去|给医生看]", "{life1}", "{life2}"), 2)
        moves.urgent = t.urgent(n.alarms)
    elif topic == "worry":
        moves.empathy = t.empathy()
        moves.meaning = [rng.choice(n.outlook), rng.choice(n.explains)]
        moves.steps = t.some(("{life1}", "{follow_up}"), 2)
    elif topic == "alarm":
        moves.finding = t.say(
            "[下面这些|这几样][要记牢|别大意]："
            + "；".join(rng.sample(n.alarms, min(3, len(n.alarms))))
            + "，[有一样就|出现任何一样][去急诊|马上去医院]"
        )
        moves.meaning = [
            t.say(
                rng.choice(
                    (
                        "[没有这些|没出现这些]，[按计划来|照原来的安排]就[好|行]",
                        "[平时不必|不用]天天[提心吊胆|盯着自己]",
                    )
                )
            )
        ]
        moves.steps = t.some(("{follow_up}", "{life1}"), 1)
    elif topic == "drug":
        entry = figures.drug(drug)
        if entry is None or drug not in t.allowed_drugs():
            moves.finding = t.say(
                "[要不要用药|用什么药]，[得由|要由]医生[看过|检查后][再|来]定，[先|目前先]从生活上[做起|调整]"
            )
            moves.steps = t.some(("{life1}", "{life2}", "{follow_up}"), 3)
            moves.meaning = [rng.choice(n.explains)]
        else:
            limit = figures.max_daily(rng, entry)
            moves.finding = t.say(f"[常用的是|可以用|医生多会选]{entry.name}，{figures.dose(rng, entry)}")
            moves.meaning = [t.say(f"[24小时内|一天]不超过{limit}")] if limit else []
            groups = [x.group for x in entry.contraindications if x.strength == "禁用"]
            moves.steps = t.some(
                [
                    g
                    for g in (
                        f"{rng.choice(groups)}的人不能用" if groups else "",
                        "[量|剂量]由医生[定|看情况调]，[别自己加减|不要自己加量]",
                        "{follow_up}",
                        "{life1}",
                    )
                    if g
                ],
                3,
            )
    elif topic == "tell_symptom":
        moves = symptom(t)
        moves.empathy = t.say(
            rng.choice(
                (
                    "[谢谢您说得这么细|您说得很清楚]。",
                    "[明白了|好的]，[这样就清楚些|有数了]。",
                    "[辛苦您了|您很细心]。",
                )
            )
        )
    moves.closing = moves.closing or t.closing()
    if not moves.empathy and rng.random() < 0.55:
        moves.empathy = t.say(
            rng.choice(
                (
                    "[您问得很好|问得好]。",
                    "[别着急|不用着急]，[我说给您听|咱们慢慢说]。",
                    "[好的|可以]，[我来说说|说具体点]。",
                    "[您很细心|您做得很对]。",
                    "[理解您的顾虑|您的顾虑很合理]。",
                    "[慢慢来|放轻松]。",
                )
            )
        )
    return assemble(rng, moves, young=is_young(case))
