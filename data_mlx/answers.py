# ruff: noqa: E501  (a template stays on one line, to be read as a sentence)
"""The exact renderer: a case as a good doctor answers it, warm, with every number out of the knowledge tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from data_mlx import bp, figures, warmth
from data_mlx.amounts import AMOUNTS
from data_mlx.cases import Case, Narrative, band_of, conditions, dosed, narratives
from data_mlx.compose import Moves, assemble
from data_mlx.questions import foreign, kpa
from data_mlx.readings import BY_QUANTITY, Band
from data_mlx.spin import slot_names, spin
from data_mlx.vignettes import CRISES, EMERGENCIES
from precision_lora import knowledge
from precision_lora.knowledge import Condition, RedFlag

# Conditions whose figures are meant for children too.
CHILD_AMOUNTS = frozenset({"child_fever", "hfmd", "common_cold", "pharyngitis", "influenza", "scald"})
# What people may buy and take by themselves when it is bad; all else is for the doctor to choose.
SELF_CARE = frozenset(
    {"对乙酰氨基酚", "布洛芬", "氯雷他定", "西替利嗪", "氨溴索", "铝碳酸镁", "蒙脱石散", "乳果糖"}
)

# Quantities whose bands say all figures themselves.
OWN_FIGURES = frozenset({"body_temperature", "phq9", "pregnancy_fasting_glucose"})

WHO = {
    "我": ("您",),
    "妈妈": ("您母亲", "您妈妈"),
    "爸爸": ("您父亲", "您爸爸"),
    "老公": ("您先生", "您爱人"),
    "老婆": ("您太太", "您爱人"),
    "爷爷": ("您爷爷", "老人家"),
    "奶奶": ("您奶奶", "老人家"),
    "儿子": ("孩子",),
    "女儿": ("孩子",),
}


def _as_tuple(text: str | tuple[str, ...]) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


class Talk:
    """One case on its way to text: the generator and the slots that its sentences share."""

    def __init__(self, case: Case, turn: int = 0) -> None:
        self.case = case
        self.rng = Random(f"{case.family}/{case.seed}/answer/{turn}")
        self.condition: Condition | None = conditions().get(case.condition)
        self.narrative: Narrative | None = narratives().get(case.condition)
        self.who = self.rng.choice(WHO[case.asker.relation])
        self._lifestyle: list[str] = []
        if self.condition is not None:
            self._lifestyle = self.rng.sample(self.condition.lifestyle, len(self.condition.lifestyle))
        own: dict[str, object] = {
            "who": self.who,
            "whos": f"{self.who}的" if self.rng.random() < 0.8 else self.who,
            "thing": self.thing(),
            "life1": lambda _: self._next_lifestyle(),
            "life2": lambda _: self._next_lifestyle(),
            "drug": lambda rng: self.drug_line(rng),
        }
        if self.condition is not None:
            own |= {
                "dept": self.condition.department,
                "follow_up": lambda rng: rng.choice(_as_tuple(self.condition.follow_up)),
                "cond": self.condition.name,
            }
        self.slots = figures.FactSlots(own)

    def _next_lifestyle(self) -> str:
        return self._lifestyle.pop() if self._lifestyle else ""

    def thing(self) -> str:
        """What the question is about, as the opening sentence names it."""
        case = self.case
        if case.quantity == "blood_pressure":
            return "血压"
        if case.quantity:
            name = BY_QUANTITY[case.quantity].names[-1]
            return self.rng.choice((name, name, "这个结果", "这个数"))
        if case.drug:
            return self.rng.choice(("用药的事", case.drug, "这个药"))
        if self.condition is None:
            return "这种情况"
        return self.rng.choice(
            (
                self.condition.name,
                self.condition.name,
                self.condition.lay_names[0] if self.condition.lay_names else "这件事",
            )
        )

    def say(self, template: str) -> str:
        """One sentence of a template."""
        return spin(self.rng, template, self.slots)  # type: ignore[arg-type]

    def pick(self, templates: Sequence[str]) -> str:
        return self.say(self.rng.choice(templates))

    def some(self, templates: Sequence[str], count: int) -> list[str]:
        """Up to ``count`` different templates, in a new order; empty sentences are left out."""
        chosen = self.rng.sample(list(templates), min(count, len(templates)))
        return [text for template in chosen if (text := self.say(template))]

    def usable(self, templates: Sequence[str]) -> list[str]:
        """Templates whose drug slot can be filled."""
        return [t for t in templates if "drug" not in slot_names(t) or self.allowed_drugs()]

    def allowed_drugs(self) -> list[str]:
        """Drugs of the condition that may be named to this patient."""
        if self.condition is None or self.case.asker.age < 18:
            return []
        if self.case.asker.group and self.case.condition != "gestational_hypertension":
            return []
        return dosed(self.condition)

    def amounts(self) -> list[str]:
        """Templates with figures that fit the patient, in a new order."""
        age = self.case.asker.age
        if age < 18 and self.case.condition not in CHILD_AMOUNTS:
            return []
        fitting = [a for a in AMOUNTS.get(self.case.condition, ()) if not (age < 1 and "mg" in a)]
        return self.rng.sample(fitting, len(fitting))

    def drug_line(self, rng: Random) -> str:
        """``氨氯地平，每日一次，每次5 mg`` of a drug of this condition."""
        names = self.allowed_drugs()
        if not names:
            raise KeyError("drug")
        entry = figures.drug(rng.choice(names))
        assert entry is not None
        dose = figures.dose(rng, entry)
        return rng.choice((f"{entry.name}{dose}", f"{entry.name}（{dose}）", f"{entry.name}，{dose}"))

    def empathy(self) -> str:
        """The feeling met; now and then nothing for calm askers."""
        return self.pick(warmth.REACTION[self.case.feeling])

    def closing(self) -> str:
        if self.rng.random() < 0.16:
            return self.pick(warmth.EXPLORE)
        return self.pick(warmth.CLOSING)

    def urgent(self, signs: Sequence[str], place: str = "") -> str:
        """When not to wait: signs are finished text."""
        few = self.rng.sample(list(signs), min(len(signs), self.rng.choice((1, 2, 2, 3))))
        if not few:
            return ""
        listed = self.rng.choice(("、", "，或者", "，或")).join(few) if len(few) < 3 else "、".join(few)
        return self.say(
            self.rng.choice(
                (
                    f"[如果|要是|一旦]出现{listed}，[要马上|请立刻|就马上]去[急诊|医院]。",
                    f"[碰到|遇到|出现]{listed}[这样的情况|时]，[别等|不要拖|别硬扛]，[直接|马上]去急诊。",
                    f"[记住|请记住|提醒一句]：{listed}[是危险信号|都不能等]，[要立即|应当马上]就医。",
                    f"[有|出现]{listed}，[就|那就]不能[等|拖]了，[当天|马上]去医院。",
                    f"[万一|倘若|若]{listed}，[随时|立刻]到急诊[看|处理]。",
                )
            )
        )


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
    "{whos}{name}{value}，[而|但|]控制目标[一般|通常]是{range}",
    "[治疗中的人|已经用药的人]{name}[一般要求|目标是]{range}，{whos}是{value}",
    "[拿|按]控制目标{range}来[比|看]，{whos}{name}{value}[还没达标|高一点|没有到位]",
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


def _reading(t: Talk) -> Moves:
    case, rng = t.case, t.rng
    band = band_of(case)
    reading = BY_QUANTITY[case.quantity]
    fact = figures.fact(band.reference)
    places = 2 if case.quantity == "tsh" else figures.decimals(case.quantity)
    value = case.values[0]
    own = dict(t.slots.own)
    unit = next(m.unit for m in figures.measures() if m.id == case.quantity)
    shown = f"{value:.{places}f}"
    if case.unit:
        value_text = f"{foreign(case):g} {case.unit}"
    else:
        value_text = figures.with_unit(rng, shown, unit)
    own |= {
        "name": rng.choice(reading.names),
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
        rng.choice(("还没有达标", "离目标还差一点", "现在偏高一些", "没有达到目标"))
        if value > goal
        else "已经达标"
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
    return Moves(t.empathy(), finding, [t.pick(band.means)], steps, urgent, closing)


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


def _pressure(t: Talk) -> Moves:
    case, rng = t.case, t.rng
    s, d = case.values
    own = dict(t.slots.own)
    if case.unit == "kPa":
        a, b = kpa(case)
        own["value"] = f"{a:g}/{b:g} kPa"
    else:
        own["value"] = rng.choice((f"{s:g}/{d:g} mmHg", f"{s:g}/{d:g}mmHg", f"{s:g}/{d:g}"))
    own["name"] = "血压"
    own["range"] = lambda r: _normal_pressure(r)
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
                + finding.replace(str(own["value"]), "这个血压", 1)
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


def _normal_pressure(rng: Random) -> str:
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
            "{value}[比|低于]正常下限{bp_normal.low}[低|，偏低]",
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


def _ask_back(t: Talk) -> Moves:
    if t.case.frame == "bp_ask_back":
        meaning = t.pick(
            (
                "[单说偏高|光说高]还[判断不了|不好定]，[具体数字|高压和低压]很关键：[诊室|医院]{htn_office}才算高血压，家里是{htn_home}",
                "[我得先知道数字|需要具体的数值]才能说：正常血压{norm}，{htn_office}[算高血压|才诊断高血压]".replace(
                    "{norm}", _normal_pressure(t.rng)
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
        t.rng.choice(
            ("想先问您几件事：", "麻烦您告诉我：", "请再说一下：", "我需要知道：", "方便的话告诉我：")
        )
        + t.rng.choice(("？", "；", "，")).join(s.rstrip("？") for s in steps)
        + "？"
    )
    return Moves(t.empathy(), "", [meaning], [], "", asks)


def _belief(t: Talk) -> Moves:
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
    steps = _condition_steps(t)
    return Moves(
        t.empathy(),
        finding,
        means,
        steps,
        t.urgent(t.narrative.alarms) if t.rng.random() < 0.5 else "",
        t.closing(),
    )


def _condition_steps(t: Talk) -> list[str]:
    """Checks, habits, a drug with its dose and a fact or two for the condition."""
    assert t.condition and t.narrative
    exams = t.rng.sample(
        t.condition.examinations, min(len(t.condition.examinations), t.rng.choice((2, 2, 3)))
    )
    verb = "做" if t.condition.department == "心理科" else "[查|做]"
    pool = [
        f"[到|去]{{dept}}{verb}" + "、".join(exams[:-1]) + ("和" if len(exams) > 1 else "") + exams[-1],
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


def _symptom(t: Talk) -> Moves:
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
    return Moves(t.empathy(), finding, means, _condition_steps(t), t.urgent(t.narrative.alarms), t.closing())


def _symptom_ask_back(t: Talk) -> Moves:
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
    return Moves(
        t.empathy(), "", [meaning], [], t.urgent(t.narrative.alarms) if t.rng.random() < 0.5 else "", text
    )


GROUP_WORD = {
    "孕妇": "孕期",
    "哺乳期": "哺乳期",
    "肾功能不全": "肾功能不好",
    "肝功能不全": "肝功能不好",
    "儿童": "孩子",
    "哮喘": "有哮喘",
    "消化性溃疡": "有溃疡",
}


def _drug(t: Talk) -> Moves:
    assert t.condition and t.narrative
    case, rng = t.case, t.rng
    d = figures.drug(case.drug)
    assert d is not None
    from data_mlx.cases import GROUPS

    dose, limit = figures.dose(rng, d), figures.max_daily(rng, d)
    child = case.asker.age < 14 or case.detail == "儿童"
    usual = (
        t.say(
            rng.choice(
                (
                    f"{d.name}[成人|]一般{dose}",
                    f"{d.name}的[常用量|通常用法]是{dose}",
                    f"[说明书上|按说明书]{d.name}{dose}",
                    f"{d.name}[多从|常从]{dose}[开始|起步]",
                )
            )
        )
        if not child
        else t.say(
            f"[孩子|儿童]用{d.name}要按[体重|公斤数]和年龄算[量|剂量]，[不能照大人的量|别按大人的量]给"
        )
    )
    most = (
        t.say(rng.choice((f"[24小时内|一天]不超过{limit}", f"一天[最多|总量不超]{limit}")))
        if limit and not child
        else ""
    )
    groups = sorted({c.group for c in d.contraindications if c.strength == "禁用"})
    avoid = (
        t.say(f"[{'、'.join(rng.sample(groups, min(2, len(groups))))}]的人[不能用|禁用]") if groups else ""
    )
    mixed = ""
    if d.interactions:
        i = rng.choice(d.interactions)
        mixed = t.say(f"[和|与]{i.other}[同用|一起用]要[当心|小心]：{i.effect}")
    if case.frame == "group":
        mixed = ""  # naming a second drug to a special group needs its own check
    steps: list[str] = []
    finding, means = usual, [most] if most else []
    general = [
        "[按时吃|每天固定时间吃]，[别|不要]自己[加量|加减]",
        avoid,
        mixed,
        "[用药期间|吃药期间]不[喝酒|饮酒]",
        "[把正在吃的药|所有在吃的药]列个单子给医生看",
        "{follow_up}",
        "{life1}",
    ]
    if case.frame == "usage":
        steps = t.some([g for g in general if g], 3)
    elif case.frame == "missed":
        finding = t.say(
            rng.choice(
                (
                    f"{d.name}漏了一次，[想起来得早就补上|刚过点就补吃]，[快到下一顿|离下次很近]就[跳过|不补]，[千万别|不要][一次吃双份|吃双份]",
                    "[漏一次不必慌|偶尔漏一次不要紧]：[离下一次还远就补|早想起就补]，[快到点了就算了|接近下次就跳过]，[不要|绝不]加倍",
                )
            )
        )
        means = [usual]
        steps = t.some(
            (
                "[设个闹钟|用分格药盒]，[不容易忘|能少漏]",
                "[老漏服|常忘]就和医生商量[换一天一次的|简化方案]",
                *([mixed] if mixed else []),
                "{life1}",
                "{follow_up}",
            ),
            3,
        )
    elif case.frame == "stop":
        finding = t.say(
            rng.choice(
                (
                    f"{d.name}[不要|别]自己停，[感觉好|指标好][往往|多半]是药在[起作用|管着]",
                    f"[先别急着停|不建议自行停用]{d.name}，[好转|正常]不等于[病已经没了|根子去掉了]",
                    f"能不能停{d.name}，[要由医生看过指标|得复查以后由医生]再定",
                )
            )
        )
        means = [usual, rng.choice(t.narrative.explains)]
        if d.otc:
            finding = t.say(
                f"{d.name}是[对症的药|缓解症状的药]，[不难受了就可以停|症状没了就能停]，[不用吃满|不必长期吃]"
            )
        steps = t.some(
            (
                "[先复查|带着最近的指标]，[再|然后]到{dept}[商量减量|问医生]",
                "{follow_up}",
                "{life1}",
                "[停药或减量|要减]也得[慢慢来|一步步来]",
            ),
            3,
        )
    elif case.frame == "side_effect":
        finding = t.say(
            rng.choice(
                (
                    "[副作用写得多|说明书列得全]，[不等于都会碰上|不代表您会有]，[绝大多数人|多数人]能[耐受|平稳用下去]",
                    "[是药都有副作用|药都有两面]，[按量用|用对量][利大于弊|好处更大]，[真正要防的是|重点是]用错人和过量",
                )
            )
        )
        means = [usual] + ([avoid] if avoid else [])
        steps = t.some(
            [
                g
                for g in (
                    mixed,
                    most and f"[总量|一天]别超过{limit}",
                    "[起皮疹、脸肿|有皮疹或呼吸不畅]就停药就诊",
                    "[不舒服|有反应]先[记下来|记录]，[再问医生|复诊时说]",
                    "{follow_up}",
                )
                if g
            ],
            3,
        )
    elif case.frame == "why":
        finding = t.say(f"{d.name}[是|属于]{d.drug_class}，[用来|主要]治{'、'.join(d.indications[:2])}")
        means = [rng.choice(t.narrative.explains), usual]
        steps = t.some(
            [
                g
                for g in (
                    "[想换药|不想吃]可以和医生[商量|讲]，[别自己停|不要悄悄停]",
                    avoid,
                    mixed,
                    "{life1}",
                    "{follow_up}",
                )
                if g
            ],
            3,
        )
    elif case.frame == "double":
        finding = t.say(
            rng.choice(
                (
                    f"[多吃一次|偶尔重复一次]{d.name}，[多数|通常][不要紧|问题不大]，[但要|不过得]观察",
                    f"[先别慌|先坐下来]，[看|算]一下今天一共吃了多少{d.name}",
                )
            )
        )
        means = [m for m in (usual, most) if m]
        steps = t.some(
            (
                "[下一次|接下来那顿][往后顺延|跳过就好]，[不要催吐|别自己抠吐]",
                "[头晕、心慌、嗜睡|恶心、皮疹、特别困]就[马上|立刻]去医院，[带上药盒|拿着药盒]",
                "[吃了好几倍|一下吃了很多]或是[老人孩子|孩子误吃]，[直接去急诊|马上拨打120]",
                "[以后用药盒|用分格药盒][免得吃重|避免重复]",
            ),
            3,
        )
    elif case.frame == "fit":
        finding = t.say(
            f"{t.condition.name}[常用|可以用]{d.name}，[合不合适|适不适合]要看[肝肾功能、过敏史和在吃的药|身体情况和别的用药]"
        )
        means = [usual] + ([avoid] if avoid else [])
        steps = t.some(
            [
                g
                for g in (
                    mixed,
                    "[先|用之前]问清[过敏史|有没有过敏]",
                    most and f"一天不超过{limit}",
                    "{follow_up}",
                    "{life1}",
                )
                if g
            ],
            3,
        )
    elif case.frame == "with_other":
        i = next(x for x in d.interactions if x.other == case.other)
        finding = t.say(
            rng.choice(
                (
                    f"{d.name}和{i.other}[一起用要小心|同用有讲究|不能随便一起用]：{i.effect}",
                    f"[先说结果|直接说]：{d.name}[加|配]{i.other}，{i.effect}",
                    f"[这两样|这样搭配]要当心，{d.name}[碰上|遇到]{i.other}[的问题是|会]：{i.effect}",
                )
            )
        )
        means = [usual]
        steps = t.some(
            [
                g
                for g in (
                    "[先别自己合用|没问过医生先别同用]，[带上药盒|拿着药名]问医生或药师",
                    "[必须合用|需要一起用]时由医生[调量、监测|定间隔]",
                    avoid,
                    "[有不舒服|出现异常]马上[停用并就诊|联系医生]",
                    "{follow_up}",
                )
                if g
            ],
            3,
        )
    elif case.frame == "group":
        marks = GROUPS[case.detail]
        hits = [c for c in d.contraindications if any(m in c.group for m in marks)]
        hit = hits[0]
        word = GROUP_WORD[case.detail]
        if hit.strength == "禁用":
            finding = t.say(
                rng.choice(
                    (
                        f"[不能用|不可以用]：{d.name}对{hit.group}是禁用的",
                        f"{word}[不能|不要]用{d.name}，说明书[写明|列为]{hit.group}禁用",
                    )
                )
            )
            means = [
                t.say(
                    rng.choice(
                        (
                            "[已经吃了|如果已经用了]先别慌，[停下来|停药]告诉医生[吃了多少|用了几次]",
                            "[还有别的药可选|可以换更安全的药]，[请医生换|由医生来换]",
                        )
                    )
                )
            ]
            steps = t.some(
                (
                    "[把情况|您的情况]告诉开药的医生，[请他换药|换一种]",
                    "[别|不要]自己[减半吃|少吃点试试]",
                    "{follow_up}",
                    "[看病时|每次就诊]先说[明|]自己的情况",
                ),
                3,
            )
        else:
            finding = t.say(
                rng.choice(
                    (
                        f"{d.name}对{hit.group}是慎用，[不是绝对不能用|要医生权衡]",
                        f"{word}[要慎用|得慎用]{d.name}，[用不用|能不能用]由医生[权衡|掂量]",
                    )
                )
            )
            means = [t.say("[量和疗程|用多少、用多久]都[要减到最小|尽量少]，[不自己买来吃|别自己决定]")]
            steps = t.some(
                [
                    g
                    for g in (
                        "[先问|用前问]医生或药师",
                        mixed,
                        "[用药期间|吃药时]留意[不舒服|反应]，[有变化就停药就诊|不对劲马上去医院]",
                        "{follow_up}",
                    )
                    if g
                ],
                3,
            )
    return Moves(
        t.empathy(),
        finding,
        [m for m in means if m],
        steps,
        t.urgent(t.narrative.alarms) if rng.random() < 0.25 else "",
        t.closing(),
    )


def _emotion(t: Talk) -> Moves:
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
    steps = t.some(pool, 3) if pool else _condition_steps(t)
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


def _emergency(t: Talk) -> Moves:
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


FRAMES: dict[str, Callable[[Talk], Moves]] = {
    "reading": _reading,
    "treated": _reading,
    "reading_unit": _reading,
    "bp_reading": _pressure,
    "bp_home": _pressure,
    "bp_kpa": _pressure,
    "bp_treated": _pressure,
    "bp_comorbid": _pressure,
    "bp_ask_back": _ask_back,
    "glucose_ask_back": _ask_back,
    "belief": _belief,
    "bp_belief": _belief,
    "symptom_belief": _belief,
    "symptom": _symptom,
    "symptom_ask_back": _symptom_ask_back,
    "emergency": _emergency,
    "crisis": _emergency,
    "diagnosed": _emotion,
    "burden": _emotion,
    "fear": _emotion,
    "guilt": _emotion,
    "mood": _emotion,
}


def first_answer(case: Case) -> str:
    """The exact answer to the opening question.

    Raises:
        ValueError: the case gives too much or too little to say in 60–350 characters.
    """
    talk = Talk(case)
    moves = FRAMES.get(case.frame, _drug)(talk)
    return assemble(talk.rng, moves, young=is_young(case))


def is_young(case: Case) -> bool:
    """Whether the doctor says 你: young people writing for themselves, some of them."""
    return case.asker.relation == "我" and case.asker.age < 32 and Random(f"{case.seed}/young").random() < 0.5


def follow_answer(case: Case, topic: str, turn: int, belief: str = "", drug: str = "") -> str:
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
        truth = dict(n.beliefs)[belief]
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
        moves = _symptom(t)
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
