"""Exact answers to complaints, beliefs and worries about a condition."""

from __future__ import annotations

from data_mlx import bp, figures
from data_mlx.compose import Moves
from data_mlx.talk import SELF_CARE, Talk


def belief(t: Talk) -> Moves:
    assert t.narrative and t.condition
    index = int(t.case.detail.partition("+")[2] or t.case.detail)
    truth = t.narrative.beliefs[index][1]
    finding = t.say(
        t.rng.choice(
            (
                "[这个说法不对|这话不准确|这是个常见的误会]",
                "[很多人都这么想|不少人都这么说]，[可|但]不是这样",
                "[不能这样|别信这个]",
                "[先说结论|直接说]：[不对|这个说法站不住脚]",
                "[这样做不合适|这个想法要改一改]",
            )
        )
    )
    means = [truth, t.rng.choice(t.narrative.explains)]
    steps = condition_steps(t)
    return Moves(
        t.empathy(),
        finding,
        means,
        steps,
        t.urgent(t.narrative.alarms) if t.rng.random() < 0.5 else "",
        t.closing(),
    )


def purpose_of(t: Talk) -> str:
    """What the examinations are for, more often than not."""
    assert t.condition
    if t.rng.random() < 0.45 or not t.condition.differentials:
        return ""
    other = t.rng.choice(t.condition.differentials)
    return t.rng.choice(
        (
            "，[弄清|明确][原因|是不是它]",
            f"，[排除|看看是不是]{other}",
            "，[结果出来|查完]再[定下一步|决定怎么治]",
            "，[判断轻重|看看程度]",
        )
    )


def condition_steps(t: Talk) -> list[str]:
    """Checks, habits, a drug with its dose and a fact or two for the condition."""
    assert t.condition and t.narrative
    exams = t.rng.sample(t.condition.examinations, min(len(t.condition.examinations), t.rng.choice((2, 2, 3))))
    verb = "做" if t.condition.department == "心理科" else "[查|做]"
    purpose = purpose_of(t)
    pool = [
        f"[到|去|近期到|这几天去]{{dept}}{verb}"
        + "、".join(exams[:-1])
        + ("和" if len(exams) > 1 else "")
        + exams[-1]
        + purpose,
        "{life1}",
        "{life2}",
        "{follow_up}",
        *t.amounts()[:2],
    ]
    if t.allowed_drugs():
        otc = [n for n in t.allowed_drugs() if n in SELF_CARE]
        if otc and t.rng.random() < 0.75:
            entry = figures.drug(t.rng.choice(otc))
            assert entry is not None
            limit = figures.max_daily(t.rng, entry)
            extra = t.rng.choice((f"，24小时内不超过{limit}", f"，一天最多{limit}", "")) if limit else ""
            pool.append(f"[难受时|症状明显时|需要时]可以用{entry.name}，{figures.dose(t.rng, entry)}{extra}")
        else:
            pool.append(
                "[需要用药时|确诊以后|若要用药]，[医生常用|常选|可用]{drug}，[要在医生指导下用|由医生定|别自己买来吃]"
            )
    steps = t.some(pool, 4)
    return steps


def symptom(t: Talk) -> Moves:
    assert t.condition and t.narrative
    c = t.condition
    other = t.rng.sample(c.differentials, min(2, len(c.differentials)))
    others = t.rng.choice(("和", "或者", "、")).join(other)
    finding = t.say(
        t.rng.choice(
            (
                f"[从您说的看|按描述|听下来]，[比较像|首先考虑|可能是]{c.name}，[但|不过]还[不能确诊|定不下来]，[也要|得]排除{others}"
                if other
                else f"[听下来|按描述]，[比较像|可能是]{c.name}",
                f"[这些表现|这种情况][多见于|提示]{c.name}，{others}[也要除外|也不能排除]，[现在|目前]只能说[可能性较大|有这个可能]",
                f"[单凭描述|没见到人]不能[下定论|确诊]，[考虑|可能]是{c.name}，[需要和|要与]{others}[鉴别|区分开]",
            )
        )
    )
    means = [t.rng.choice(t.narrative.explains)]
    return Moves(t.empathy(), finding, means, condition_steps(t), t.urgent(t.narrative.alarms), t.closing())


def symptom_ask_back(t: Talk) -> Moves:
    assert t.condition and t.narrative
    c = t.condition
    meaning = t.say(
        f"[原因有好几种|可能的原因不止一个]，[比如|像]{c.name}[和|、]{t.rng.choice(c.differentials)}[都会这样|都有可能]，[光凭这一点|只这一句][分不清|还判断不了]"
    )
    asks = t.some(
        (
            "[多久了|什么时候开始的]",
            "[什么时候加重|做什么会更厉害]",
            "[有没有发烧|体温多少，{fever}才算发烧]",
            f"有没有{t.rng.choice(t.narrative.alarms)}",
            "[有什么老毛病|以前有过什么病]",
            "[吃过什么药|用过药没有]",
            "多大年纪",
        ),
        3,
    )
    text = (
        t.rng.choice(("想先问清楚：", "请您告诉我：", "麻烦说一下：", "我想了解：", "方便的话说说："))
        + "，".join(asks)
        + "？"
    )
    return Moves(t.empathy(), "", [meaning], [], t.urgent(t.narrative.alarms) if t.rng.random() < 0.5 else "", text)


def emotion(t: Talk) -> Moves:
    assert t.condition and t.narrative
    rng = t.rng
    means: list[str] = []
    if rng.random() < 0.6:
        means.append(rng.choice(t.narrative.explains))
    lead = t.say(
        rng.choice(
            (
                "[先说让您安心的|先说好消息]：",
                "[说实话|实事求是地说]，",
                "[您最怕的事|您担心的那些]，[多半可以避免|不是注定会发生]，",
                "[从医生的角度看|按我们的经验]，",
                "[别被名字吓住|别让病名吓住]，",
                "",
                "",
            )
        )
    )
    finding = lead + rng.choice(t.narrative.outlook)
    pool: list[str] = []
    if t.case.condition == "hypertension":
        pool = [*t.usable(bp.STEPS["grade1"]), *t.amounts()[:1]]
        means.append(
            t.pick(
                (
                    "[一般|通常]把血压降到{bp_target_general}[就好|就行]，[能耐受|受得了]再到{bp_target_tolerated}",
                    "[目标很清楚|方向很明确]：先到{bp_target_general}",
                )
            )
        )
    elif t.case.condition in ("type2_diabetes", "prediabetes"):
        pool = [
            "[空腹血糖|早上空腹]控制在{dm_target_fpg}，糖化血红蛋白{dm_target_hba1c}"
            if t.case.condition == "type2_diabetes"
            else "[空腹血糖|早上空腹]回到{fpg_normal}[就达到目的了|就好]",
            "{life1}",
            "{life2}",
            "{follow_up}",
            *t.amounts()[:2],
        ]
        if t.allowed_drugs() and t.case.condition == "type2_diabetes":
            pool.append("[药物|用药]方面[常用|一般先用]{drug}，[由医生调|慢慢加量]")
    steps = t.some(pool, 3) if pool else condition_steps(t)
    empathy = t.empathy()
    if rng.random() < 0.4:
        empathy += t.say(
            rng.choice(
                (
                    "[您不是一个人|您并不孤单]，[很多人都有|不少人都有过]这样的[时候|阵子]。",
                    "[有这样的情绪很正常|会这么想很正常]。",
                    "[说出来|愿意说出来]，[就好了一半|已经很好]。",
                    "[先深呼吸|先缓一缓]，[听我慢慢说|我们慢慢说]。",
                )
            )
        )
    urgent = t.urgent(t.narrative.alarms) if rng.random() < 0.4 else ""
    if (
        t.case.frame == "mood"
        and t.case.condition in ("depression", "postpartum_depression", "anxiety", "caregiver")
        and rng.random() < 0.75
    ):
        urgent = t.say(
            rng.choice(
                (
                    "[如果|要是]冒出不想活的念头，[随时|马上]拨打12356心理援助热线，[或去急诊|身边也要留人]。",
                    "[难熬的时候|撑不住时]可以打12356，[二十四小时都有人|夜里也有人]接听。",
                    "[有伤害自己的念头|一想到不想活]就[打|拨]12356，[危险时打120|情况急就拨120]。",
                )
            )
        )
    closing = t.closing()
    return Moves(empathy, finding, means, steps, urgent, closing)
