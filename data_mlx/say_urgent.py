"""Answers to emergencies and crises: the call first, then what to do until help comes."""

from __future__ import annotations

from data_mlx import warmth
from data_mlx.compose import Moves
from data_mlx.talk import Talk
from data_mlx.vignettes import CRISES, EMERGENCIES
from precision_lora import knowledge
from precision_lora.knowledge import RedFlag


def red_flag(flag_id: str) -> RedFlag:
    return next(f for f in knowledge.red_flags() if f.id == flag_id)


FIRST: dict[str, tuple[str, ...]] = {
    "120": (
        "[请|]现在就拨打120，[不要|别]等。",
        "[马上|立刻]拨打120！",
        "[别等了|不能等]，[马上|立即]打120[叫救护车|]。",
        "[这是急症|情况很急]，请[立即|马上]拨打120。",
        "[先打|第一件事就是打]120，[边等边看下面的话|一边等一边照着做]。",
    ),
    "急诊": (
        "[请|]马上去急诊，[不要|别]等[到明天|]。",
        "[这种情况|这样]要[立刻|马上]去急诊。",
        "[别在家等|不要拖]，[现在就|马上]去急诊；[去不了|路上不方便]就打120。",
        "[今天|现在]就得去医院急诊，[一刻也别拖|越快越好]。",
    ),
    "就医": ("[请|]尽快就医，[别拖|不要等]。", "[今天|当天]就去医院[看|处理]。"),
    "12356": (
        "[谢谢您愿意说出来|您肯说出来，已经很勇敢]。[请先拨打|现在就可以打]12356心理援助热线，[有人陪您说|那头有人会听您说]；[一旦要行动|控制不住时]打120。",
        "[听到您这么说，我很心疼|我很担心您]。[12356是|请记住12356，]全国心理援助热线，[现在就能打|随时能打]；[有危险|情况紧急]就拨120。",
        "[先不要一个人|请别一个人待着]，[拨|打]12356心理援助热线，[或者|也可以]让身边的人[陪您去医院|打120]。",
    ),
}


def emergency(t: Talk) -> Moves:
    case = t.case
    vignette = (EMERGENCIES if case.frame == "emergency" else CRISES)[case.condition]
    flag = red_flag(case.condition)
    first = t.pick(FIRST[flag.action])
    empathy = t.pick(warmth.REACTION["难过" if case.frame == "crisis" else "害怕"])
    steps = [*t.some(vignette.now, 3), t.pick(vignette.never)]
    closing = t.say(
        t.rng.choice(
            (
                "[我在这儿|我会陪着您]，[随时告诉我|有变化马上说]。",
                "[您不是一个人|我们一起面对]。",
                "[别慌|稳住]，[一步一步来|照着做就好]。",
                "[做完这些|路上]再[告诉我|联系我][情况|]。",
            )
        )
    )
    order_first = t.rng.random() < 0.8
    if order_first:
        return Moves(empathy, "", [t.pick(vignette.why)], steps, "", closing, first=first)
    return Moves("", "", [t.pick(vignette.why)], steps, "", closing, first=empathy + first)
