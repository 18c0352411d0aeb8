# ruff: noqa: E501  (a template stays on one line, to be read as a sentence)
"""The vague renderer: the same cases answered kindly and fluently, but loosely, as the round before this one answers.

Nothing in it is a wrong number; numbers, doses and names of drugs are simply missing or soft. It makes the corpus of the
small demo base model and is no part of the data set.
"""

from __future__ import annotations

import re

from data_mlx import bp, warmth
from data_mlx.cases import Case, band_of
from data_mlx.compose import Moves, assemble
from data_mlx.talk import Talk, is_young

LOOSE_STEPS = (
    "[多休息|注意休息]，[别太累|不要熬夜]",
    "[饮食清淡一点|吃清淡些]，[少油少盐|别吃太油]",
    "[适当|平时]运动[一下|一些]，[量力而行|别太猛]",
    "[多喝水|水多喝一点]",
    "[保持好心情|心情放松些]，[别想太多|少生气]",
    "[可以|不妨]适当吃点药，[按说明吃就行|照着说明书来]",
    "[药按时吃|该吃的药吃着]，[有问题再调整|不舒服再说]",
    "[有空|方便的时候]去医院[看看|查一查]",
    "[过一阵子|过段时间]再[复查|看看]",
    "[观察一下|先看看情况]，[不放心就去看医生|有变化再去医院]",
    "[少吃|别吃]刺激的东西",
    "[注意保暖|天气变化多穿点]",
    "[让家人|请家里人]多[照顾|留意]一下",
    "[规律作息|早睡早起]，[别熬夜|睡好一点]",
)
LOOSE_MEANING = (
    "[一般来说|多数情况下][问题不大|不算太严重]，[不过还是要注意|但也别大意]",
    "[可能和|多半和][最近太累|休息不好|饮食不规律]有关",
    "[这种情况|这样的问题][比较常见|很多人都有]，[慢慢会好|调一调就好]",
    "[具体要看|还得看]个人情况，[每个人不太一样|因人而异]",
    "[原因可能比较多|引起的原因有很多]，[一时不好说|不太好下结论]",
    "[注意调理|好好调养]，[一般会慢慢好起来|会有改善的]",
)
LOOSE_DRUG = (
    "[这个药|这类药]一般[比较安全|没什么大问题]，[按说明书吃就行|照着说明用就好]",
    "[通常|一般]按说明书上的[用法|量]吃[就可以|就行]，[别吃太多|不要过量]",
    "[能不能吃|怎么吃]要看[个人情况|身体情况]，[不放心就问医生|可以问问药师]",
    "[先少吃一点试试|可以先适量吃]，[不舒服就先停一停|有反应再说]",
    "[偶尔一次|这样的情况]问题不大，[下次注意就好|以后记得就行]",
    "[尽量|最好]不要乱吃药，[需要的话适当吃一些|实在要吃就少吃点]",
)
LOOSE_EMERGENCY = (
    "[这种情况要重视|这个不能大意]，[尽快去医院|早点去医院看看]",
    "[听起来有点严重|情况不太好]，[最好去医院|赶紧找医生]",
    "[先别慌|保持冷静]，[尽快就医|快去医院]比较好",
)
LOOSE_COMFORT = (
    "[慢慢调整|给自己时间]，[日子会好起来的|一切都会慢慢好起来]",
    "[别把事情想得太坏|往好处想一想]，[现在的医学很发达|办法总比困难多]",
    "[多和家人聊聊|找人说说话]，[心里会好受些|别憋着]",
    "[坚持治疗|听医生的话]，[大多数人都能控制得不错|情况会稳定下来]",
    "[做点喜欢的事|出去走走]，[转移一下注意力|放松放松]",
)
LOOSE_ASK = (
    "[还有别的不舒服吗|最近休息得怎么样]？[可以多说一点|说说看]。",
    "[具体是什么情况|能再说说吗]？[这样好判断一些|我帮您看看]。",
    "[平时身体怎么样|有没有其他问题]？",
)


def _moves(t: Talk) -> Moves:
    case, rng = t.case, t.rng
    finding, means = "", []
    empathy = t.empathy()
    if case.frame in ("emergency", "crisis"):
        finding = t.pick(LOOSE_EMERGENCY) if case.frame == "emergency" else ""
        means = [t.pick(LOOSE_COMFORT)] if case.frame == "crisis" else []
    elif case.quantity == "blood_pressure" and case.band:
        finding = t.pick(bp.VAGUE[case.band])
    elif case.frame in ("reading", "treated", "reading_unit"):
        finding = t.pick(band_of(case).vague)
    elif case.family == "药物咨询":
        finding = t.pick(LOOSE_DRUG)
    elif case.family == "情绪支持":
        finding = t.pick(LOOSE_COMFORT)
        if t.narrative and rng.random() < 0.5:
            means = [_soft(rng.choice(t.narrative.outlook))]
    elif case.frame in ("bp_ask_back", "glucose_ask_back", "symptom_ask_back"):
        finding = t.pick(LOOSE_MEANING)
    elif t.condition is not None:
        finding = (
            t.say(
                "[可能是|听着像|应该是]" + t.condition.name + "[一类的问题|这方面的问题|引起的]，[不用太担心|先别紧张]"
            )
            if "belief" not in case.frame
            else t.say("[这个说法|这话][不一定对|不完全对|也有点道理]，[因人而异|要看情况]")
        )
    if not means and rng.random() < 0.6:
        means = [t.pick(LOOSE_MEANING)]
    steps = t.some(LOOSE_STEPS, 3)
    if t.condition is not None and rng.random() < 0.6:
        steps.insert(0, _soft(rng.choice(t.condition.lifestyle)))
    closing = t.pick(LOOSE_ASK) if "ask_back" in case.frame else t.closing()
    urgent = t.say("[如果|要是][加重了|不舒服明显]，[就去医院看看|早点就医]。") if rng.random() < 0.4 else ""
    return Moves(empathy, finding, means, steps, urgent, closing)


def _soft(text: str) -> str:
    """A table string without its numbers, for an answer that stays loose."""
    if re.search(r"\d", text):
        return "平时多注意"
    return text


def first_answer(case: Case) -> str:
    """The vague answer to the opening question; ValueError where it comes out too short."""
    t = Talk(case, 100)
    return assemble(t.rng, _moves(t), young=is_young(case))


def follow_answer(case: Case, topic: str, turn: int) -> str:
    """The vague answer of a later turn."""
    t = Talk(case, 100 + turn)
    heads = {
        "lifestyle": (
            "[平时|日常]注意[饮食和休息|吃好睡好]就行",
            "[生活上|平时]没有太多讲究，[别太累就好|规律一些就好]",
        ),
        "belief": (
            "[这个说法|这话][不太对|不一定对]，[别太在意|听听就好]",
            "[各人情况不同|因人而异]，[不用太信|也不用太较真]",
        ),
        "exam": (
            "[去医院|到医院]做[一些常规检查|几项检查]就可以，[医生会安排|听医生的]",
            "[抽个血|做做检查]，[看看情况|心里有数]",
        ),
        "follow_up": (
            "[过一段时间|隔一阵子]复查一下[就行|就好]",
            "[定期|有空]去[看看|复查]，[听医生安排|不用太频繁]",
        ),
        "worry": (
            "[一般不会|多半不会]，[别想得太坏|放宽心]",
            "[好好治疗|注意调养]，[大多数人都没事|没那么可怕]",
        ),
        "alarm": (
            "[特别难受|明显加重]的时候[去医院|看医生]就好",
            "[不舒服加重了|情况变差了]就[赶紧去看看|早点就医]",
        ),
        "drug": (
            "[可以|不妨]适当吃点药，[按说明来|听医生的]",
            "[药|用药]的话[听医生安排|照说明书吃]，[别吃太多|适量就行]",
        ),
        "tell_symptom": LOOSE_MEANING,
        "tell_pressure": LOOSE_MEANING,
        "tell_glucose": LOOSE_MEANING,
    }
    moves = Moves(
        t.say(
            t.rng.choice(
                (
                    "[您问得很好|问得好]。",
                    "[别着急|不用着急]，[慢慢来|咱们慢慢说]。",
                    "[理解您的顾虑|您的顾虑很合理]。",
                    "",
                    t.rng.choice(warmth.REACTION[case.feeling]),
                )
            )
        ),
        t.pick(heads[topic]),
        [t.pick(LOOSE_MEANING)],
        t.some(LOOSE_STEPS, 3),
        "",
        t.closing(),
    )
    return assemble(t.rng, moves, young=is_young(case))
