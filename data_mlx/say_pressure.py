# ruff: noqa: E501  (a template stays on one line, to be read as a sentence)
"""Exact answers to blood pressures, and asking back where no number is given."""

from __future__ import annotations

from random import Random

from data_mlx import bp, figures
from data_mlx.compose import Moves
from data_mlx.questions import kpa
from data_mlx.say_readings import ABOVE, INSIDE
from data_mlx.talk import Talk


def pressure(t: Talk) -> Moves:
    case, rng = t.case, t.rng
    s, d = case.values
    own = dict(t.slots.own)
    if case.unit == "kPa":
        a, b = kpa(case)
        own["value"] = f"{a:g}/{b:g} kPa"
    else:
        own["value"] = rng.choice((f"{s:g}/{d:g} mmHg", f"{s:g}/{d:g}mmHg", f"{s:g}/{d:g}"))
    own["name"] = "血压"
    own["range"] = lambda r: normal_pressure(r)
    t.slots = figures.FactSlots(own)
    band = case.band
    means = [t.pick(bp.MEANS[band])]
    steps = t.some(t.usable(bp.STEPS[band]), 4)
    if case.frame == "bp_home":
        finding = t.pick(
            (
                "[在家量|家庭自测]的血压[标准更严|界线低一些]：{htn_home}[就算高|就属于偏高]，[医院|诊室]才是{htn_office}，{whos}{value}[够上了|已经到了家庭的界线]",
                "[家里|在家]测到{value}，[家庭血压|自测血压]{htn_home}就[算高|偏高]，[和|与]诊室的{htn_office}不同",
                "{value}[在医院不算高|放在诊室没到{htn_office}]，[可|但]家庭自测以{htn_home}为界，[所以|因此]是偏高的",
            )
        )
        means = [
            t.pick(
                (
                    "[提示|说明]可能有高血压，[再连测一周|测满一周]看平均值[更可靠|才准]",
                    "[一两次不能定|先别急着下结论]，[一周的平均值|连续一周的平均]更[说明问题|可信]",
                )
            )
        ]
        steps = t.some(t.usable(bp.STEPS["grade1"]), 4)
    elif case.frame == "bp_treated":
        verdict, goal = _treated_goal(t, s, d)
        finding = t.say(
            rng.choice(
                (
                    f"{{whos}}血压{{value}}，[目标|控制目标]是{goal}，{verdict}",
                    f"[吃药以后|用药期间]{{value}}，[对照|比着]{goal}的目标，{verdict}",
                    f"[正在治疗的人|用药的人]要降到{goal}，{{whos}}{{value}}{verdict}",
                )
            )
        )
        if "达标" in verdict and "没" not in verdict:
            means = [
                t.pick(
                    (
                        "[说明药是有效的|这个方案管用]，[不要|别]因为正常就自己停药",
                        "[血压平稳是药在起作用|是药把血压稳住的]，[停了容易反弹|一停就可能反弹]",
                    )
                )
            ]
            steps = t.some(
                (
                    "[药照原量吃|继续按原来的量服药]",
                    "[每周挑几天|每周两三天]早晚各量一次[记下来|]",
                    "{life1}",
                    "{life2}",
                    "{follow_up}",
                    "[每年|一年]查血脂、肾功能和尿白蛋白",
                ),
                4,
            )
        else:
            means = [
                t.pick(
                    (
                        "[先看看|要弄清]是不是漏服、吃得咸或没睡好，[再调药|之后再考虑加药]",
                        "[不一定是药不行|药未必没用]，[量法、盐和睡眠|漏服和吃咸]都会[影响|让它降不下来]",
                    )
                )
            ]
            steps = t.some(
                (
                    "[连着一周|这一周]早晚各量两次，[带着记录|拿记录]到{dept}[调药|让医生调方案]",
                    "[药先按原量吃|别自己加倍吃药]",
                    "[量前静坐|先安静坐]{bp_rest.low}[再量|]",
                    "[每天食盐|吃盐每天]{salt}",
                    "{life1}",
                    "{life2}",
                ),
                4,
            )
    elif case.frame == "bp_comorbid":
        finding = t.pick(_bp_finding(band))
        means.append(
            t.say(
                "有[糖尿病|糖尿病的人]，[能耐受的话|受得了的话]血压[要降到|目标]{bp_target_tolerated}，比一般人[更严|严一点]"
                if case.asker.group == "糖尿病"
                else "[肾不好的人|有肾病的人]血压[更要|一定要]管住，[能耐受的话|受得了]降到{bp_target_tolerated}，[对护肾有好处|肾会坏得慢]"
            )
        )
        steps = t.some(
            (
                "[近期|一两周内]到{dept}[定用药方案|看门诊]，[优先|医生可能优先]考虑沙坦类或普利类[，要查血钾和肌酐|，用前查肾功能和血钾]",
                "[连续一周|这一周]早晚各量两次[记录下来|]",
                "[每天食盐|吃盐每天]{salt}",
                "{life1}",
                "[别自己吃|少用]布洛芬这类止痛药"
                if case.asker.group == "肾病"
                else "[血糖|糖化血红蛋白]也要[一起管|按时查]，[目标|一般]{dm_target_hba1c}",
                "[查|复查]尿白蛋白和肾功能",
            ),
            4,
        )
    elif case.condition == "gestational_hypertension":
        finding = t.pick(_bp_finding(band))
        if band in ("grade1", "grade2"):
            means = [
                t.pick(
                    (
                        "[孕期|怀孕后]达到{htn_office}[就要|应该]考虑妊娠期高血压，[要查尿蛋白|尿蛋白一定要查]，[排除|看有没有]子痫前期",
                        "[怀孕以后|孕中晚期]血压这样，[首先|要]考虑妊娠期高血压，[复测还高|再量仍高]就[要处理|需要治疗]",
                    )
                )
            ]
            steps = t.some(
                (
                    "[今明两天|一两天内]到产科复测血压、查尿蛋白和肝肾功能",
                    "[左侧卧位|侧躺]多休息，每天数胎动",
                    "[需要用药时|若要吃药]由产科[开|定]，[普利类和沙坦类孕期禁用|孕期不能用普利类和沙坦类药]",
                    "{life1}",
                    "{life2}",
                ),
                4,
            )
        else:
            steps = t.some(
                (
                    "[按时产检|每次产检都量血压]",
                    "[每天|隔天]在家量一次[血压|]记下来",
                    "{life1}",
                    "{life2}",
                    "[出现|有]头痛眼花、水肿明显就[提前去|随时]产检",
                ),
                3,
            )
    else:
        finding = t.pick(_bp_finding(band))
        if case.unit == "kPa":
            canonical = f"{s:g}/{d:g} mmHg"
            finding = (
                t.pick(
                    (
                        "{value}[换算成毫米汞柱|换成常用单位]约",
                        "[千帕和毫米汞柱别混|单位不一样]：{value}[折合|约合]",
                    )
                )
                + canonical
                + t.rng.choice(("。", "，"))
                + finding.replace(str(own["value"]), canonical, 1)
            )
        if case.asker.age >= 65 and band in ("grade1", "grade2", "grade3") and rng.random() < 0.7:
            means.append(_old_goal(t))
    urgent = ""
    if band in ("grade2", "grade3") or rng.random() < 0.45:
        if case.condition == "gestational_hypertension" and t.narrative:
            urgent = t.urgent(t.narrative.alarms)
        elif band == "low":
            urgent = t.urgent(("晕倒", "黑便", "胸痛或心慌得厉害"))
        elif band not in ("normal",):
            urgent = t.urgent([t.say(u) for u in bp.URGENT])
    return Moves(t.empathy(), finding, means, steps, urgent, t.closing())


def normal_pressure(rng: Random) -> str:
    fact = figures.fact("bp_normal")
    assert isinstance(fact.low, tuple) and isinstance(fact.high, tuple)
    (s0, d0), (s1, d1) = fact.low, fact.high
    separator = rng.choice(figures.SEPARATORS)
    return rng.choice(
        (
            f"低于{s1:g}/{d1:g} mmHg",
            f"<{s1:g}/{d1:g} mmHg",
            f"{s0:g}{separator}{s1:g}/{d0:g}{separator}{d1:g} mmHg",
            f"{s1:g}/{d1:g} mmHg以下",
        )
    )


def _bp_finding(band: str) -> tuple[str, ...]:
    if band == "low":
        return (
            "{whos}血压{value}，[正常|理想]血压[下限|最低]是{bp_normal.low}，[偏低了|低于下限]",
            "{value}[比正常下限{bp_normal.low}低|低于正常下限{bp_normal.low}，偏低]",
            "[先看数字|先说数值]：{value}，[正常|一般]不低于{bp_normal.low}，[是偏低的|偏低]",
        )
    if band == "normal":
        return INSIDE
    return (
        *ABOVE,
        "{whos}血压{value}，[高于|超过了]{bp_normal.high}[的正常上限|这个正常上限]",
        "[量到|测得]{value}，[而|]正常血压[是|为]{range}，[偏高|高了]",
    )


def _treated_goal(t: Talk, s: float, d: float) -> tuple[str, str]:
    age = t.case.asker.age
    fact = figures.fact("bp_target_80" if age >= 80 else "bp_target_general")
    assert isinstance(fact.high, tuple)
    goal = figures.bounds(t.rng, fact)
    if s < fact.high[0] and d < fact.high[1]:
        return t.rng.choice(("已经达标", "达标了", "达到了目标")), goal
    return t.rng.choice(("还没有达标", "没有达到目标", "还差一些")), goal


def _old_goal(t: Talk) -> str:
    if t.case.asker.age >= 80:
        return t.say(
            "[八十岁以上|八十岁往上]的老人，[先降到|目标先放在]{bp_target_80}，[能耐受|受得了]再到{bp_target_80_tolerated}，[别降太快|慢慢来]"
        )
    return t.say("[六十五岁以上|上了年纪]的目标[一般|]是{bp_target_65_79}，[慢慢降|不要降太急]")


def ask_back(t: Talk) -> Moves:
    if t.case.frame == "bp_ask_back":
        meaning = t.pick(
            (
                "[单说偏高|光说高]还[判断不了|不好定]，[具体数字|高压和低压]很关键：[诊室|医院]{htn_office}才算高血压，家里是{htn_home}",
                "[我得先知道数字|需要具体的数值]才能说：正常血压{norm}，{htn_office}[算高血压|才诊断高血压]".replace(
                    "{norm}", normal_pressure(t.rng)
                ),
                "[血压高不高|要不要用药][要看数值|由数字说话]，[从|按]{htn_grade1}、{htn_grade2}到{htn_grade3}[处理各不相同|分三级]",
            )
        )
        steps = t.some(
            (
                "[最近几次的数值是多少|高压低压分别多少]",
                "[是医院量的还是家里量的|在哪儿量的、量前歇了{bp_rest.low}没有]",
                "[有没有|是否有]糖尿病、肾病或者怀孕",
                "[正在吃什么药|在吃哪种降压药]",
                "[有没有头痛、胸闷|头晕胸闷有没有]",
            ),
            3,
        )
    else:
        meaning = t.pick(
            (
                "[要分清|得先弄清]是空腹还是餐后：空腹正常{fpg_normal}，餐后两小时{dm_2h_postprandial}[才|就]考虑糖尿病",
                "[光说高|只说偏高]不好判断，空腹{dm_fpg}、餐后两小时{dm_2h_postprandial}[是|才是]糖尿病的诊断线",
                "[同样一个数|一样的数字]，空腹和餐后意义不同：空腹{ifg}叫[糖尿病前期|空腹血糖受损]，{dm_fpg}才考虑糖尿病",
            )
        )
        steps = t.some(
            (
                "[具体是多少|数值是多少]",
                "[空腹还是饭后测的|抽血前吃东西没有]",
                "[静脉血还是指尖血|在医院抽血还是家里扎手指]",
                "[有没有口渴、尿多、变瘦|最近体重有没有掉]",
                "[家里有人得糖尿病吗|父母有没有糖尿病]",
                "[在吃什么药|用没用过激素]",
            ),
            3,
        )
    asks = (
        t.rng.choice(("想先问您几件事：", "麻烦您告诉我：", "请再说一下：", "我需要知道：", "方便的话告诉我："))
        + t.rng.choice(("？", "；", "，")).join(s.rstrip("？") for s in steps)
        + "？"
    )
    return Moves(t.empathy(), "", [meaning], [], "", asks)
