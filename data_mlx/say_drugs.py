"""Exact answers to questions about a medicine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from data_mlx import figures
from data_mlx.cases import GROUPS
from data_mlx.compose import Moves
from data_mlx.talk import Talk
from precision_lora.knowledge import Drug

GROUP_WORD = {
    "孕妇": "孕期",
    "哺乳期": "哺乳期",
    "肾功能不全": "肾功能不好",
    "肝功能不全": "肝功能不好",
    "儿童": "孩子",
    "哮喘": "有哮喘",
    "消化性溃疡": "有溃疡",
}


@dataclass(frozen=True)
class Leaflet:
    """What the table says of a medicine, as sentences for this patient; an empty one where it says nothing."""

    drug: Drug
    usual: str
    most: str
    limit: str
    avoid: str
    mixed: str
    general: tuple[str, ...]


Said = tuple[str, list[str], list[str]]  # finding, meaning, steps


def leaflet(t: Talk) -> Leaflet:
    """Dose, daily maximum, chief contraindications and one interaction of the case's medicine."""
    case, rng = t.case, t.rng
    d = figures.drug(case.drug)
    assert d is not None
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
        else t.say(f"[孩子|儿童]用{d.name}要按[体重|公斤数]和年龄算[量|剂量]，[不能照大人的量|别按大人的量]给")
    )
    most = (
        t.say(rng.choice((f"[24小时内|一天]不超过{limit}", f"一天[最多|总量不超]{limit}")))
        if limit and not child
        else ""
    )
    groups = sorted({c.group for c in d.contraindications if c.strength == "禁用"})
    avoid = t.say(f"[{'、'.join(rng.sample(groups, min(2, len(groups))))}]的人[不能用|禁用]") if groups else ""
    mixed = ""
    if d.interactions:
        i = rng.choice(d.interactions)
        mixed = t.say(f"[和|与]{i.other}[同用|一起用]要[当心|小心]：{i.effect}")
    if case.frame == "group":
        mixed = ""  # naming a second drug to a special group needs its own check
    general = (
        "[按时吃|每天固定时间吃]，[别|不要]自己[加量|加减]",
        avoid,
        mixed,
        "[用药期间|吃药期间]不[喝酒|饮酒]",
        "[把正在吃的药|所有在吃的药]列个单子给医生看",
        "{follow_up}",
        "{life1}",
    )
    return Leaflet(d, usual, most, limit, avoid, mixed, tuple(g for g in general if g))


def _usage(t: Talk, leaf: Leaflet) -> Said:
    """How to take it."""
    finding = leaf.usual
    means = [leaf.most] if leaf.most else []
    steps = t.some(leaf.general, 3)
    return finding, means, steps


def _missed(t: Talk, leaf: Leaflet) -> Said:
    """A dose was left out."""
    finding = t.say(
        t.rng.choice(
            (
                f"{leaf.drug.name}漏了一次，[想起来得早就补上|刚过点就补吃]，[快到下一顿|离下次很近]就[跳过|不补]，[千万别|不要][一次吃双份|吃双份]",
                "[漏一次不必慌|偶尔漏一次不要紧]：[离下一次还远就补|早想起就补]，[快到点了就算了|接近下次就跳过]，[不要|绝不]加倍",
            )
        )
    )
    means = [leaf.usual]
    steps = t.some(
        (
            "[设个闹钟|用分格药盒]，[不容易忘|能少漏]",
            "[老漏服|常忘]就和医生商量[换一天一次的|简化方案]",
            *([leaf.mixed] if leaf.mixed else []),
            "{life1}",
            "{follow_up}",
        ),
        3,
    )
    return finding, means, steps


def _stop(t: Talk, leaf: Leaflet) -> Said:
    """May it be stopped?"""
    assert t.condition and t.narrative
    finding = t.say(
        t.rng.choice(
            (
                f"{leaf.drug.name}[不要|别]自己停，[感觉好|指标好][往往|多半]是药在[起作用|管着]",
                f"[先别急着停|不建议自行停用]{leaf.drug.name}，[好转|正常]不等于[病已经没了|根子去掉了]",
                f"能不能停{leaf.drug.name}，[要由医生看过指标|得复查以后由医生]再定",
            )
        )
    )
    means = [leaf.usual, t.rng.choice(t.narrative.explains)]
    if leaf.drug.otc:
        finding = t.say(
            f"{leaf.drug.name}是[对症的药|缓解症状的药]，[不难受了就可以停|症状没了就能停]，[不用吃满|不必长期吃]"
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
    return finding, means, steps


def _side_effect(t: Talk, leaf: Leaflet) -> Said:
    """Fear of what it does."""
    finding = t.say(
        t.rng.choice(
            (
                "[副作用写得多|说明书列得全]，[不等于都会碰上|不代表您会有]，[绝大多数人|多数人]能[耐受|平稳用下去]",
                "[是药都有副作用|药都有两面]，[按量用|用对量][利大于弊|好处更大]，[真正要防的是|重点是]用错人和过量",
            )
        )
    )
    means = [leaf.usual] + ([leaf.avoid] if leaf.avoid else [])
    steps = t.some(
        [
            g
            for g in (
                leaf.mixed,
                leaf.most and f"[总量|一天]别超过{leaf.limit}",
                "[起皮疹、脸肿|有皮疹或呼吸不畅]就停药就诊",
                "[不舒服|有反应]先[记下来|记录]，[再问医生|复诊时说]",
                "{follow_up}",
            )
            if g
        ],
        3,
    )
    return finding, means, steps


def _why(t: Talk, leaf: Leaflet) -> Said:
    """Why at all?"""
    assert t.condition and t.narrative
    finding = t.say(
        f"{leaf.drug.name}[是|属于]{leaf.drug.drug_class}，[用来|主要]治{'、'.join(leaf.drug.indications[:2])}"
    )
    means = [t.rng.choice(t.narrative.explains), leaf.usual]
    steps = t.some(
        [
            g
            for g in (
                "[想换药|不想吃]可以和医生[商量|讲]，[别自己停|不要悄悄停]",
                leaf.avoid,
                leaf.mixed,
                "{life1}",
                "{follow_up}",
            )
            if g
        ],
        3,
    )
    return finding, means, steps


def _double(t: Talk, leaf: Leaflet) -> Said:
    """Taken twice."""
    finding = t.say(
        t.rng.choice(
            (
                f"[多吃一次|偶尔重复一次]{leaf.drug.name}，[多数|通常][不要紧|问题不大]，[但要|不过得]观察",
                f"[先别慌|先坐下来]，[看|算]一下今天一共吃了多少{leaf.drug.name}",
            )
        )
    )
    means = [m for m in (leaf.usual, leaf.most) if m]
    steps = t.some(
        (
            "[下一次|接下来那顿][往后顺延|跳过就好]，[不要催吐|别自己抠吐]",
            "[头晕、心慌、嗜睡|恶心、皮疹、特别困]就[马上|立刻]去医院，[带上药盒|拿着药盒]",
            "[吃了好几倍|一下吃了很多]或是[老人孩子|孩子误吃]，[直接去急诊|马上拨打120]",
            "[以后用药盒|用分格药盒][免得吃重|避免重复]",
        ),
        3,
    )
    return finding, means, steps


def _fit(t: Talk, leaf: Leaflet) -> Said:
    """Is it the right one?"""
    assert t.condition and t.narrative
    finding = t.say(
        f"{t.condition.name}[常用|可以用]{leaf.drug.name}，[合不合适|适不适合]要看[肝肾功能、过敏史和在吃的药|身体情况和别的用药]"
    )
    means = [leaf.usual] + ([leaf.avoid] if leaf.avoid else [])
    steps = t.some(
        [
            g
            for g in (
                leaf.mixed,
                "[先|用之前]问清[过敏史|有没有过敏]",
                leaf.most and f"一天不超过{leaf.limit}",
                "{follow_up}",
                "{life1}",
            )
            if g
        ],
        3,
    )
    return finding, means, steps


def _with_other(t: Talk, leaf: Leaflet) -> Said:
    """Together with something else."""
    i = next(x for x in leaf.drug.interactions if x.other == t.case.other)
    finding = t.say(
        t.rng.choice(
            (
                f"{leaf.drug.name}和{i.other}[一起用要小心|同用有讲究|不能随便一起用]：{i.effect}",
                f"[先说结果|直接说]：{leaf.drug.name}[加|配]{i.other}，{i.effect}",
                f"[这两样|这样搭配]要当心，{leaf.drug.name}[碰上|遇到]{i.other}[的问题是|会]：{i.effect}",
            )
        )
    )
    means = [leaf.usual]
    steps = t.some(
        [
            g
            for g in (
                "[先别自己合用|没问过医生先别同用]，[带上药盒|拿着药名]问医生或药师",
                "[必须合用|需要一起用]时由医生[调量、监测|定间隔]",
                leaf.avoid,
                "[有不舒服|出现异常]马上[停用并就诊|联系医生]",
                "{follow_up}",
            )
            if g
        ],
        3,
    )
    return finding, means, steps


def _group(t: Talk, leaf: Leaflet) -> Said:
    """In pregnancy, nursing, childhood or with another disease."""
    marks = GROUPS[t.case.detail]
    hits = [c for c in leaf.drug.contraindications if any(m in c.group for m in marks)]
    hit = hits[0]
    word = GROUP_WORD[t.case.detail]
    if hit.strength == "禁用":
        finding = t.say(
            t.rng.choice(
                (
                    f"[不能用|不可以用]：{leaf.drug.name}对{hit.group}是禁用的",
                    f"{word}[不能|不要]用{leaf.drug.name}，说明书[写明|列为]{hit.group}禁用",
                )
            )
        )
        means = [
            t.say(
                t.rng.choice(
                    (
                        "[已经吃了|如果已经用了]先别慌，[停下来|停药]告诉医生[吃了多少|用了几次]",
                        "[还有别的药可选|可以换更安全的药]，[请医生换|由医生来换]",
                    )
                )
            )
        ]
        steps = t.some(
            (
                "[把情况|把您的情况]告诉开药的医生，[请他换药|换一种]",
                "[别|不要]自己[减半吃|少吃点试试]",
                "{follow_up}",
                "[看病时|每次就诊]先说[明|]自己的情况",
            ),
            3,
        )
    else:
        finding = t.say(
            t.rng.choice(
                (
                    f"{leaf.drug.name}对{hit.group}是慎用，[不是绝对不能用|要医生权衡]",
                    f"{word}[要慎用|得慎用]{leaf.drug.name}，[用不用|能不能用]由医生[权衡|掂量]",
                )
            )
        )
        means = [t.say("[量和疗程|用多少、用多久]都[要减到最小|尽量少]，[不自己买来吃|别自己决定]")]
        steps = t.some(
            [
                g
                for g in (
                    "[先问|用前问]医生或药师",
                    leaf.mixed,
                    "[用药期间|吃药时]留意[不舒服|反应]，[有变化就停药就诊|不对劲马上去医院]",
                    "{follow_up}",
                )
                if g
            ],
            3,
        )
    return finding, means, steps


FRAMES: dict[str, Callable[[Talk, Leaflet], Said]] = {
    "usage": _usage,
    "missed": _missed,
    "stop": _stop,
    "side_effect": _side_effect,
    "why": _why,
    "double": _double,
    "fit": _fit,
    "with_other": _with_other,
    "group": _group,
}


def medicine(t: Talk) -> Moves:
    """The answer's moves to a question about a medicine."""
    assert t.narrative
    finding, means, steps = FRAMES[t.case.frame](t, leaflet(t))
    return Moves(
        t.empathy(),
        finding,
        [m for m in means if m],
        steps,
        t.urgent(t.narrative.alarms) if t.rng.random() < 0.25 else "",
        t.closing(),
    )
