"""The patient's side: questions as people type them, from a case, with lay words, dialect, typos and every mood."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from data_mlx import figures
from data_mlx.cases import Asker, Case, Narrative, band_of, conditions, dosed, narratives
from data_mlx.readings import BY_QUANTITY
from data_mlx.spin import spin
from data_mlx.vignettes import CRISES, EMERGENCIES

RELATION = {
    "我": ("我",),
    "妈妈": ("我妈", "我妈妈", "我母亲", "老妈"),
    "爸爸": ("我爸", "我爸爸", "我父亲", "老爸"),
    "老公": ("我老公", "我爱人", "我先生"),
    "老婆": ("我老婆", "我爱人", "我媳妇"),
    "爷爷": ("我爷爷", "爷爷"),
    "奶奶": ("我奶奶", "奶奶"),
    "儿子": ("我儿子", "孩子", "我家孩子", "我家宝宝"),
    "女儿": ("我女儿", "孩子", "我家孩子", "我家宝宝"),
}
ADULT_CHILD = {"儿子": ("我儿子",), "女儿": ("我女儿", "我闺女")}
FEELING = {
    "担心": (
        "[很|挺|有点|特别]担心",
        "心里[不踏实|没底|老放不下]",
        "[真|好]担心",
        "[一直|总]不放心",
        "[越想越|]担心",
        "怕有事",
    ),
    "害怕": (
        "[好|很|真的]害怕",
        "吓[死了|坏了|得不行]",
        "[有点|特别]怕",
        "心里发慌",
        "[晚上|整晚]吓得睡不着",
    ),
    "焦虑": (
        "[好|特别]焦虑",
        "[坐立不安|心里七上八下]",
        "急[死了|得不行]",
        "[老|总]胡思乱想",
        "[紧张|慌]得不行",
    ),
    "难过": ("[很|好]难过", "[老|总]想哭", "心里[难受|堵得慌]", "[偷偷哭了|哭了好几次]"),
    "疲惫": ("[真的|]好累", "[快|有点]撑不住了", "心[太累|累]了", "被折腾得没脾气了"),
    "自责": ("[都怪我|是我不好]", "[特别|很]自责", "[后悔|内疚]得很", "觉得对不起家里人"),
    "烦躁": ("[烦死了|好烦]", "心烦", "[越看越|]烦", "真[恼火|来气]"),
    "困惑": (
        "[看不懂|搞不懂]",
        "[有点|]糊涂",
        "[拿不准|吃不准]",
        "不[知道|明白]怎么回事",
        "[网上说法不一|各说各的]，[不知道听谁的|晕了]",
    ),
    "平静": ("", "", ""),
    "羞耻": ("[不好意思|难为情]", "[说出来|觉得]丢人", "[怕人笑话|不敢跟人说]"),
}
ASK_READING = (
    "[需要|用]担心吗？",
    "[这个值|这个数]高吗？",
    "[要紧|打紧]吗？",
    "[严重|严不严重]吗？",
    "正常吗？",
    "[怎么办|该怎么办]？",
    "[要|需要]吃药吗？",
    "[算不算|是不是]{illness}？",
    "[要不要|用不用]去医院？",
    "[这算|算]高[吗|不]？",
    "[是什么意思|说明什么]？",
    "[有没有|有]问题吗？",
    "[能不能|可以]先不吃药？",
    "[平时|吃饭]要注意什么？",
    "[该|要]挂[什么|哪个]科？",
    "[危险|危不危险]吗？",
    "{worryq}？",
    "[还|要]做什么检查？",
)
# Dialect or very spoken forms: (plain, spoken).
DIALECT = (
    ("怎么办", "咋办"),
    ("怎么办", "咋整"),
    ("怎么办", "咋个办"),
    ("怎么回事", "咋回事"),
    ("怎么", "咋"),
    ("什么", "啥"),
    ("不知道", "不晓得"),
    ("很担心", "蛮担心"),
    ("特别", "老"),
    ("没有", "没得"),
    ("孩子", "娃"),
    ("孩子", "伢儿"),
    ("我妈妈", "俺娘"),
    ("我爸爸", "俺爹"),
    ("厉害", "凶"),
    ("是不是", "是不"),
    ("现在", "这会儿"),
    ("昨天", "昨儿"),
    ("今天", "今儿"),
    ("难受", "不得劲"),
    ("吗？", "不？"),
    ("吗？", "么？"),
    ("我老公", "俺当家的"),
)
TYPOS = (
    ("血压", "血鸭"),
    ("血糖", "血塘"),
    ("担心", "但心"),
    ("药", "要"),
    ("在", "再"),
    ("怎么", "怎莫"),
    ("需要", "须要"),
    ("严重", "严中"),
    ("正常", "正长"),
    ("已经", "以经"),
    ("的", "得"),
    ("睡不着", "睡不找"),
    ("检查", "捡查"),
    ("好像", "好象"),
    ("应该", "因该"),
    ("一直", "一只"),
    ("厉害", "历害"),
    ("账", "帐"),
)


def subject(rng: Random, case: Case) -> str:
    """How the writer names the patient."""
    relation = case.asker.relation
    if relation in ADULT_CHILD and case.asker.age >= 13:
        return rng.choice(ADULT_CHILD[relation])
    return rng.choice(RELATION[relation])


def age_text(rng: Random, case: Case) -> str:
    """The age as people write it; months for babies."""
    if case.asker.age < 1:
        return ""
    return rng.choice(
        (f"今年{case.asker.age}岁", f"{case.asker.age}岁", f"{case.asker.age}了", f"{case.asker.age}岁了")
    )


def value_text(rng: Random, case: Case, value: float | None = None) -> str:
    """The asker's own value, with, without or with another unit."""
    if case.quantity == "blood_pressure":
        return pressure_text(rng, case)
    shown = case.values[0] if value is None else value
    places = 2 if case.quantity == "tsh" else figures.decimals(case.quantity)
    unit = next(m.unit for m in figures.measures() if m.id == case.quantity)
    if case.unit and case.unit != unit:
        return f"{foreign(case):g}{rng.choice(('', ' '))}{case.unit}"
    text = f"{shown:.{places}f}"
    if unit == "%":
        return f"{text}%"
    if rng.random() < 0.45 or unit is None:
        return text
    return figures.with_unit(rng, text, unit)


def foreign(case: Case) -> float:
    """The case's value in its foreign unit, rounded as a report would print it."""
    factor = next(m.conversions[case.unit] for m in figures.measures() if m.id == case.quantity)
    converted = case.values[0] / factor
    return round(converted) if converted >= 20 else round(converted, 1)


def kpa(case: Case) -> tuple[float, float]:
    """The pair in kPa with one decimal."""
    factor = next(m.conversions["kPa"] for m in figures.measures() if m.id == "blood_pressure")
    return round(case.values[0] / factor, 1), round(case.values[1] / factor, 1)


def pressure_text(rng: Random, case: Case) -> str:
    """A pair as people write it."""
    if case.unit == "kPa":
        a, b = kpa(case)
        return f"{a:g}/{b:g}{rng.choice(('kPa', ' kPa'))}"
    s, d = (f"{v:g}" for v in case.values)
    return rng.choice(
        (
            f"{s}/{d}",
            f"{s}/{d}",
            f"{s}/{d}mmHg",
            f"{s}/{d} mmHg",
            f"高压{s}，低压{d}",
            f"高压{s}低压{d}",
            f"{s}-{d}" if rng.random() < 0.1 else f"{s}/{d}",
        )
    )


def _slots(rng: Random, case: Case, narrative: Narrative | None) -> dict[str, str]:
    who = subject(rng, case)
    feeling = spin(rng, rng.choice(FEELING[case.feeling]), {})
    condition = conditions().get(case.condition)
    lay = ""
    if condition is not None:
        lay = rng.choice((condition.name, condition.name, *condition.lay_names))
    return {
        "who": who,
        "whos": "我的" if who == "我" else f"{who}的",
        "age": age_text(rng, case),
        "years": f"{max(case.asker.age, 1)}岁",
        "feel": feeling,
        "cond": condition.name if condition else "",
        "lay": lay,
        "dur": case.duration,
        "illness": condition.name if condition else "",
        "worryq": rng.choice(narrative.worries) if narrative else "",
        "drug": _drug_name(rng, case),
        "other": case.other,
    }


def _bare(worry: str) -> str:
    """``会不会中风`` → ``中风`` where a sentence brings its own 会不会."""
    return worry.removeprefix("会不会")


def _drug_name(rng: Random, case: Case) -> str:
    if not case.drug:
        return ""
    entry = figures.drug(case.drug)
    assert entry is not None
    return rng.choice((case.drug, case.drug, case.drug, *entry.aliases[:2]))


def _feel_clause(slots: dict[str, str], comma: str = "，") -> str:
    return f"{comma}{slots['feel']}" if slots["feel"] else ""


GROUP_LINE = {
    "孕妇": ("怀孕[五个月|二十多周|三十周|七个月|孕中期]", "[正怀着孕|孕期]"),
    "糖尿病": ("有[好几年|十来年]糖尿病", "糖尿病[五六年|多年]了"),
    "肾病": ("[肾不太好|有慢性肾病]", "[肌酐一直偏高|有肾炎]"),
    "肾功能不全": ("[肾功能不全|肾不好，肌酐高]", "[有慢性肾病|做过肾穿刺]"),
    "肝功能不全": ("[肝不好|有乙肝肝硬化]", "[转氨酶一直高|肝功能不好]"),
    "哺乳期": ("[还在喂奶|正在哺乳]", "[宝宝三个月，母乳喂养|喂母乳]"),
    "儿童": ("[孩子还小|才这么点大]", ""),
    "哮喘": ("[有哮喘|从小哮喘]", "[哮喘老犯|一直有哮喘]"),
    "消化性溃疡": ("[有胃溃疡|得过胃溃疡]", "[胃出过血|老胃病]"),
}


def _reading(rng: Random, case: Case) -> str:
    narrative = narratives()[case.condition]
    slots = _slots(rng, case, narrative)
    reading = BY_QUANTITY.get(case.quantity)
    name = "血压" if reading is None else rng.choice(reading.lay)
    slots["name"] = name
    slots["value"] = value_text(rng, case)
    slots["ask"] = spin(rng, rng.choice(ASK_READING), slots)
    slots["group"] = spin(rng, rng.choice(GROUP_LINE.get(case.asker.group, ("",))), {})
    slots["feelc"] = _feel_clause(slots)
    slots["treated"] = (
        spin(
            rng,
            "[一直吃着|在吃|吃了半年]降[压|压]药" if reading is None else "[一直吃着|在吃|打着]降糖药",
            {},
        )
        if "treated" in case.frame
        else ""
    )
    slots["home"] = spin(rng, "[自己在家|家里|在家]量", {}) if case.frame == "bp_home" else ""
    sex = ""
    if reading is not None and band_of(case).sex != "any" and case.asker.relation == "我":
        sex = spin(rng, "[男|男的|本人男|我是男的]" if case.asker.sex == "male" else "[女|女的|本人女|我是女的]", {})
    extra = "，".join(x for x in (sex, slots["group"], slots["treated"]) if x)
    slots["extra"] = f"{extra}，" if extra else ""
    if case.frame == "bp_home":
        return spin(
            rng,
            rng.choice(
                (
                    "{whos}血压[自己在家|在家里]量[是|]{value}，[医院说没到标准|听说家里的标准不一样]，{ask}",
                    "[自己在家|家里的电子血压计]量血压{value}{feelc}，[算高吗|这算高血压吗]？",
                    "{age}，[在家早晚量|家里测]{who}的血压都在{value}[左右|]，{ask}",
                    "[家里|在家]量的血压{value}，[和医院的标准一样吗|要紧吗]？{feel}",
                )
            ),
            slots,
        )
    if case.frame in ("reading_unit", "bp_kpa"):
        return spin(
            rng,
            rng.choice(
                (
                    "{extra}{whos}{name}[报告上写|是]{value}，[单位看不懂|这个单位没见过]，{ask}",
                    "[国外|外院]的化验单，{extra}{name}{value}，[换算成我们的是多少|怎么换算]？{ask}",
                    "{extra}{name}{value}{feelc}，[和网上的数对不上|单位不一样]，{ask}",
                    "{who}{age}，{extra}{name}{value}，[到底高不高|这个值高吗]？",
                )
            ),
            slots,
        )
    short = (
        "{whos}{name}{value}[，|]{ask}",
        "{whos}{name}是{value}，{ask}",
        "{whos}{name}{value}{feelc}，{ask}",
        "{name}{value}[，|]{ask}",
        "[医生，|你好，|请问|]{whos}{name}[量出来|测了|查出来]{value}，{ask}",
        "{extra}{name}{value}，{ask}",
    )
    long = (
        "[医生您好|大夫好|您好]，{who}{age}，{extra}[今天|刚刚|昨天|早上][量|查]{name}[是|]{value}{feelc}，{ask}",
        "{who}{age}，{extra}[体检|单位体检|复查]{name}{value}，[平时没什么不舒服|人没啥感觉|最近老加班]，{ask}{feel}",
        "[刚拿到报告|刚出结果]，{name}{value}{feelc}。{who}{age}，{extra}{ask}",
        "{name}[这次|今天]{value}，[上次还正常|比上次高|以前没量过]，{extra}{ask}{feel}",
        "{feel}[，|。]{who}{age}，{extra}{name}[连着几天|最近]都是{value}[左右|]，{ask}",
        "[网上查了半天|问了好几个人]也没弄明白：{who}{age}，{extra}{name}{value}，{ask}",
    )
    pool: tuple[str, ...]
    if case.condition == "child_fever":
        pool = tuple(t for t in (*short, *long) if "{who" in t)
    elif slots["extra"]:
        pool = (*long, short[5])
    else:
        pool = short if rng.random() < 0.5 else long
    return spin(rng, rng.choice(pool), slots)


def _ask_back(rng: Random, case: Case) -> str:
    slots = _slots(rng, case, narratives()[case.condition])
    slots["feelc"] = _feel_clause(slots)
    if case.frame == "bp_ask_back":
        return spin(
            rng,
            rng.choice(
                (
                    "{who}[血压有点高|血压高了|血压老是高]{feelc}，[怎么办|要不要吃药|要紧吗|该怎么调]？",
                    "[量血压|体检]说{whos}血压[偏高|不正常|超标]，{age}，[怎么降|怎么办|咋治|要注意什么]？{feel}",
                    "[医生|大夫|您好]，{who}最近[头晕|头胀|脖子发紧]，[怀疑|觉得]是血压[的事|高]，[怎么办|吃什么药好|要查吗]？{feel}",
                    "{who}{age}，血压[忽高忽低|不稳|时高时低]{feelc}，[是怎么回事|要不要紧|用吃药吗]？",
                    "[想问问|请问]{who}血压[一直降不下来|总压不住]，[要不要换药|怎么办|换什么药]？{feel}",
                )
            ),
            slots,
        )
    return spin(
        rng,
        rng.choice(
            (
                "{who}[血糖有点高|血糖偏高|血糖高了]{feelc}，[怎么办|要不要吃药|能吃水果吗|严重吗]？",
                "[指尖测|家里测|药店测]了一下，{who}[血糖高|血糖不太好]，{age}，[算糖尿病吗|怎么办|要去医院吗]？{feel}",
                "[体检|化验]说{whos}血糖[超了|不正常|有箭头]，{age}，[平时|以后][吃什么好|要忌口吗|怎么吃]？{feel}",
                "[医生|您好|大夫]，{who}{age}，[最近老口渴|一直很渴|夜里起夜多]{feelc}，[是不是血糖高|要不要查血糖]？",
            )
        ),
        slots,
    )


def _belief(rng: Random, case: Case) -> str:
    narrative = narratives()[case.condition]
    index = int(case.detail.partition("+")[2] or case.detail)
    slots = _slots(rng, case, narrative)
    slots["belief"] = narrative.beliefs[index][0]
    slots["feelc"] = _feel_clause(slots)
    slots["complaint"] = narrative.complaints[int(case.detail.partition("+")[0])] if "+" in case.detail else ""
    if case.frame == "symptom_belief":
        return spin(
            rng,
            rng.choice(
                (
                    "{complaint}，{dur}。[邻居说|听人说|网上说]{belief}，[对吗|是真的吗|能信吗]？{feel}",
                    "{who}{age}，{complaint}，[家里老人|朋友]说{belief}，[能这么办吗|是这样吗]？",
                    "{complaint}{feelc}，[别人都说|都说]{belief}，[到底|究竟]对不对？",
                )
            ),
            slots,
        )
    return spin(
        rng,
        rng.choice(
            (
                "[听人说|邻居说|网上说|我婆婆说]{belief}，[是真的吗|对吗|能信吗|是不是这样]？{feel}",
                "{who}{age}，[有{lay}|查出{lay}]，[朋友劝我说|大家都说]{belief}，[我该听吗|对不对]？",
                "{belief}，[这话对吗|是这个理吧|有道理吗]？{who}有{lay}{feelc}",
                "[我一直觉得|我寻思着]{belief}，[医生您看呢|没错吧|对不对]？{who}{age}，{lay}{feelc}",
            )
        ),
        slots,
    )


def _symptom(rng: Random, case: Case) -> str:
    narrative = narratives()[case.condition]
    slots = _slots(rng, case, narrative)
    slots["complaint"] = narrative.complaints[int(case.detail)]
    slots["feelc"] = _feel_clause(slots)
    slots["ask"] = spin(
        rng,
        rng.choice(
            (
                "[是怎么回事|怎么回事]？",
                "[怎么办|该怎么办]？",
                "[要不要紧|要紧吗]？",
                "[可能是什么病|是什么毛病]？",
                "[吃什么药好|要吃药吗]？",
                "[要去医院吗|用不用去医院]？",
                "[该|要]挂[什么|哪个]科？",
                "{worryq}？",
                "[是不是|会不会是]{lay}？",
                "[严重吗|严不严重]？",
                "[要做什么检查|查什么好]？",
            )
        ),
        slots,
    )
    if case.frame == "symptom_ask_back":
        symptom = rng.choice(conditions()[case.condition].symptoms).removeprefix("多无症状")
        slots["s"] = symptom or slots["lay"]
        return spin(
            rng,
            rng.choice(
                (
                    "{who}{s}，[怎么办|怎么回事|吃什么药]？{feel}",
                    "[医生|大夫|您好]，{who}[老是|总|最近]{s}{feelc}，[要紧吗|是什么病]？",
                    "{s}[是怎么回事|是什么原因|要查吗]？{who}{age}{feelc}",
                    "{who}{age}，[有点|一直]{s}，[能帮我看看吗|想问问]{feelc}",
                )
            ),
            slots,
        )
    return spin(
        rng,
        rng.choice(
            (
                "{complaint}，{dur}，{ask}{feel}",
                "{who}{age}，{complaint}，{dur}{feelc}。{ask}",
                "[医生|大夫|您好]，{complaint}{feelc}，{dur}了[，|。]{ask}".replace("了[", "["),
                "{dur}，{who}{complaint}，{ask}"
                if not slots["complaint"].startswith(("孩子", "娃", "宝宝", "老婆", "体检"))
                else "{dur}，{complaint}，{ask}",
                "{ask}{complaint}，{dur}，{who}{age}{feelc}",
                "{complaint}，[吃了点药没见好|还没去看|自己扛着]，{dur}，{ask}{feel}",
            )
        ),
        slots,
    )


def _drug(rng: Random, case: Case) -> str:
    slots = _slots(rng, case, narratives()[case.condition])
    slots["group"] = spin(rng, rng.choice(GROUP_LINE.get(case.detail, ("",))), {})
    slots["feelc"] = _feel_clause(slots)
    pools: dict[str, tuple[str, ...]] = {
        "usage": (
            "{drug}[怎么吃|怎么用|一天几次|一次多少|该怎么服用]？{who}{age}，{lay}",
            "[医生|大夫]给{who}开了{drug}，[忘了问怎么吃|没说清一天吃几次|说明书看不懂]{feelc}，[怎么用|一次多少]？",
            "{who}{lay}，[刚开始|要]吃{drug}，[一天吃几次|什么时候吃|一次吃多少]？{feel}",
            "[请问|想问下]{drug}[一次吃多少|一天最多吃多少|多久吃一次]{feelc}？",
        ),
        "missed": (
            "{drug}[早上忘吃了|漏了一次|昨天忘了吃]，[要补吗|要不要补双份|怎么办]？{feel}",
            "{who}{age}，吃{drug}[老忘|漏了一顿]{feelc}，[下次能吃两倍吗|补不补]？",
            "[出差|忙起来][忘了吃|没吃]{drug}，{lay}，[要紧吗|要补上吗]？",
        ),
        "stop": (
            "{lay}[好多了|感觉好了|指标正常了]，{drug}[能停吗|可以不吃了吗]？{feel}",
            "{who}{age}，吃{drug}[半年|一阵子]了，[不想吃了|能不能停]{feelc}？",
            "{drug}[是不是|要]吃一辈子？[能减量吗|能不能停了]？{who}{lay}{feelc}",
        ),
        "side_effect": (
            "吃{drug}[有什么副作用|伤不伤身|副作用大不大]？{who}{lay}{feelc}",
            "{who}{age}，[怕|担心]{drug}[伤肝伤肾|有副作用]，[不敢吃|能吃吗]？",
            "[说明书上|看说明书]{drug}副作用[一大堆|好长]{feelc}，[到底要不要吃|怎么看]？",
        ),
        "why": (
            "{lay}[为什么|干嘛]要吃{drug}？[不吃行吗|能换别的吗]？{feel}",
            "医生说{who}{lay}要用{drug}，[有必要吗|是治什么的]{feelc}？",
        ),
        "double": (
            "[不小心|迷糊了]多吃了一次{drug}，{who}{age}，[要紧吗|怎么办]{feelc}？",
            "{drug}[刚吃过又吃了一遍|吃重了]，[会不会有事|要不要去医院]？{feel}",
        ),
        "fit": (
            "{who}{age}，{lay}，[吃{drug}合适吗|能吃{drug}吗|用{drug}行不行]？{feel}",
            "{lay}[吃{drug}管用吗|用{drug}好不好]{feelc}？{who}{age}",
        ),
        "with_other": (
            "{drug}[和|跟]{other}[能一起用吗|可以一起吃吗|犯冲吗]？{feel}",
            "{who}{age}，在吃{drug}，[现在|又]要用{other}{feelc}，[能同时用吗|有没有冲突]？",
            "吃着{drug}，[能不能|可以]{other}[一起|同时]用？{who}{lay}{feelc}",
        ),
        "group": (
            "{who}{group}，[能吃{drug}吗|{drug}能用吗|{drug}可以吃吗]？{feel}",
            "{group}，{who}{lay}，[医生开了|药店推荐]{drug}，[安全吗|敢不敢吃]{feelc}？",
            "[请问|想问]{group}[能不能|可不可以]用{drug}？{who}{age}{feelc}",
        ),
    }
    text = spin(rng, rng.choice(pools[case.frame]), slots)
    named = (condition := conditions()[case.condition]).lay_names + condition.aliases + (condition.name,)
    if not any(name in text for name in named):
        # The answer speaks of the condition, so the question has to.
        text = spin(rng, rng.choice(("{lay}，", "有{lay}，", "因为{lay}，", "{lay}的药，")), slots) + text
    return text


def _emotion(rng: Random, case: Case) -> str:
    narrative = narratives()[case.condition]
    slots = _slots(rng, case, narrative)
    slots["feelc"] = _feel_clause(slots)
    slots["complaint"] = narrative.complaints[int(case.detail) % len(narrative.complaints)]
    slots["w"] = narrative.worries[int(case.detail) % len(narrative.worries)]
    pools: dict[str, tuple[str, ...]] = {
        "diagnosed": (
            "[刚|刚刚]确诊{cond}，{feel}，[以后怎么办|不知道怎么办|怎么面对]...",
            "[刚|今天]查出{cond}{feelc}，{w}？",
            "{who}{age}，[刚被确诊|医生说是]{cond}，{feel}，{w}？",
            "[确诊|得了]{cond}[以后|之后]，{feel}，[晚上睡不着|吃不下饭|老查手机]，{w}……",
            "[今天|上午]医生告诉我是{cond}，[脑子一片空白|一下子懵了]{feelc}，[接下来怎么办|怎么办]？",
            "[才|刚]{years}，就得了{cond}{feelc}，{w}？[以后|往后]可怎么办",
            "{who}[刚查出|确诊]{lay}，[我|全家]{feel}，[该怎么劝|怎么办]？",
        ),
        "burden": (
            "{lay}{dur}，{feel}，[药天天吃|老反复]，[什么时候是个头|看不到头]？",
            "{who}{age}，{cond}{dur}，[什么都不敢吃|工作也受影响]，{feel}",
            "[为了{lay}|被{lay}折腾]{feelc}，[不想治了|不想吃药了]，{w}？",
        ),
        "fear": (
            "[老|总]怕{bw}，{who}{lay}{feelc}，[怎么办|怎么才能不怕]？",
            "{lay}，[网上说|看到有人说]很严重，{feel}，{w}？",
            "[检查|复查][还没出结果|要等几天]，怀疑{cond}，{feel}，[一夜没睡|吃不下饭]",
        ),
        "guilt": (
            "{who}得了{lay}，[是不是我没照顾好|都是我平时没注意]，{feel}",
            "{who}{age}，{cond}，[要是早点查就好了|怪我没早点带去看]{feelc}，[还来得及吗|怎么办]？",
        ),
        "mood": (
            "{complaint}，{dur}，{feel}，[怎么办|我是不是病了|有人能帮帮我吗]",
            "{complaint}{feelc}，[不知道跟谁说|没人懂]，{dur}",
            "{who}{age}，{complaint}，{feel}，{w}？",
            "[医生|您好]，{complaint}，{w}？{feel}",
        ),
    }
    slots["bw"] = _bare(slots["w"]).removeprefix("要不要").removeprefix("是不是")
    return spin(rng, rng.choice(pools[case.frame]), slots)


def _emergency(rng: Random, case: Case) -> str:
    table = EMERGENCIES if case.frame == "emergency" else CRISES
    vignette = table[case.condition]
    s, d = rng.randint(182, 215), rng.randint(118, 132)
    slots = _slots(rng, case, None) | {"bp_crisis": f"{s}/{d}"}
    slots["complaint"] = spin(rng, vignette.complaints[int(case.detail)], slots)
    slots["feelc"] = _feel_clause(slots)
    if case.frame == "crisis":
        return spin(
            rng,
            rng.choice(
                (
                    "{complaint}",
                    "{complaint}……",
                    "{who}{age}。{complaint}" if case.asker.relation == "我" else "{complaint}，怎么办",
                    "[不知道该跟谁说|说出来您别笑我]，{complaint}",
                )
            ),
            slots,
        )
    who = "" if slots["complaint"].startswith(("孩子", "宝宝", "怀孕", "孕", "月经", "发现")) else "{who}"
    aged = "" if not slots["age"] else "，{age}"
    return spin(
        rng,
        rng.choice(
            (
                who + "{complaint}，[怎么办|要不要去医院|在家观察行吗]？{feel}",
                f"[医生|大夫|急]！{who}{{complaint}}{aged}，[怎么办|快帮帮我]",
                "{complaint}{feelc}，[能先吃点药吗|是怎么回事]？",
                f"{who}{{complaint}}{aged}，[要紧吗|明天再去行不行]？{{feel}}",
            )
        ),
        slots,
    )


# Words by which a question names the patient, dialect and misspelt ones included.
NAMED = {
    "妈妈": ("妈", "母亲", "娘"),
    "爸爸": ("爸", "父亲", "爹"),
    "老公": ("老公", "爱人", "先生", "当家的"),
    "老婆": ("老婆", "爱人", "媳妇"),
    "爷爷": ("爷爷",),
    "奶奶": ("奶奶",),
    "儿子": ("儿子", "孩子", "宝宝", "娃", "伢儿"),
    "女儿": ("女儿", "闺女", "孩子", "宝宝", "娃", "伢儿"),
}
UNKNOWN_AGE = 40


def revealed(case: Case, question: str) -> Case:
    """The case as the question lets a doctor know it: whom and which age it does not name, the answer may not use."""
    asker = case.asker
    relation = asker.relation
    if relation != "我" and not any(word in question for word in NAMED[relation]):
        relation = "我"
    told = str(asker.age) in question.replace(pressure_free(case), "") or (
        asker.age < 14 and relation in ("儿子", "女儿")
    )
    return replace(case, asker=Asker(relation, asker.age if told else UNKNOWN_AGE, asker.sex, asker.group))


def pressure_free(case: Case) -> str:
    """The value's own digits, which are no age; a mark that never occurs where there are none."""
    return f"{case.values[0]:g}" if case.values else "\0"


def _noise(rng: Random, text: str) -> str:
    """Spoken words, a typo now and then, and the punctuation of people in a hurry."""
    if rng.random() < 0.14:
        fitting = [pair for pair in DIALECT if pair[0] in text]
        if fitting:
            plain, spoken = rng.choice(fitting)
            text = text.replace(plain, spoken, 1)
    if rng.random() < 0.07:
        fitting = [pair for pair in TYPOS if pair[0] in text]
        if fitting:
            right, wrong = rng.choice(fitting)
            text = text.replace(right, wrong, 1)
    roll = rng.random()
    if roll < 0.06:
        text = text.rstrip("？。") + rng.choice(("？？", "...", "，急", "，谢谢", "，求解答", "，在线等"))
    elif roll < 0.11:
        text = text.replace("，", " ").rstrip("？。")
    return text


def tidy(text: str) -> str:
    """Join what templates leave: doubled marks, marks at the ends."""
    for wrong, right in (
        ("，，", "，"),
        ("。。", "。"),
        ("？，", "？"),
        ("，。", "。"),
        ("。，", "，"),
        ("，？", "？"),
        ("；。", "。"),
        ("，；", "；"),
        ("？。", "？"),
        ("。？", "？"),
        ("……。", "……"),
        ("我家孩子孩子", "我家孩子"),
        ("我家宝宝孩子", "我家宝宝"),
        ("孩子孩子", "孩子"),
        ("我家宝宝宝宝", "我家宝宝"),
        ("会不会会不会", "会不会"),
    ):
        while wrong in text:
            text = text.replace(wrong, right)
    return text.strip().lstrip("，。、；")


def first_question(case: Case) -> str:
    """The opening message of the consultation."""
    rng = Random(f"{case.family}/{case.seed}/question")
    if case.frame in ("bp_ask_back", "glucose_ask_back"):
        text = _ask_back(rng, case)
    elif case.frame in ("belief", "bp_belief", "symptom_belief"):
        text = _belief(rng, case)
    elif case.frame in ("symptom", "symptom_ask_back"):
        text = _symptom(rng, case)
    elif case.frame in ("reading", "treated", "reading_unit"):
        text = _reading(rng, case)
    elif case.family == "药物咨询":
        text = _drug(rng, case)
    elif case.frame in ("emergency", "crisis"):
        text = _emergency(rng, case)
    elif case.family == "情绪支持":
        text = _emotion(rng, case)
    else:
        text = _reading(rng, case)
    return _noise(rng, tidy(text))


FOLLOW: dict[str, tuple[str, ...]] = {
    "lifestyle": (
        "[那|好的，]平时[生活上|吃饭上]要注意[什么|哪些]？",
        "[吃的|饮食]方面[有什么讲究|怎么安排]？",
        "[除了吃药|不吃药]，我[自己|在家]能做点什么？",
        "[运动和饮食|吃和动]怎么[配合|安排]好？",
    ),
    "belief": (
        "[可是|但是]我听[人|邻居]说{belief}，[对吗|是真的吗]？",
        "[还有个事|再问一句]，[都说|有人说]{belief}，[能信吗|是这样吗]？",
    ),
    "exam": (
        "[那|]要做[哪些|什么]检查？",
        "[去医院|到医院]具体查[什么|哪些]，[挂哪个科|要空腹吗]？",
        "[检查|化验]要[做|查]哪些项目？",
    ),
    "follow_up": (
        "[多久|隔多长时间]复查一次？",
        "[以后|后面]怎么[复诊|复查]？",
        "[复查|复诊][一般|]要多久一次？",
    ),
    "worry": (
        "[我最怕的是|其实我怕]，{worry}？",
        "[说实话|不瞒您说]，我[就怕|担心]{bareworry}……",
        "[那|那么]{worry}？",
    ),
    "alarm": (
        "[哪些情况|什么情况]要[马上|赶紧]去医院？",
        "[万一|要是]加重了，[怎么判断|哪些信号要当心]？",
        "[有什么|哪些]危险信号[要盯着|要注意]？",
    ),
    "drug": (
        "[那|]要吃[什么|哪些]药？[怎么吃|一天几次]？",
        "[如果|要是]用药，[一般用什么|吃多少]？",
        "[听说要吃|医生提过]{somedrug}，[怎么用|一次吃多少]？",
    ),
}


def follow_question(case: Case, topic: str, turn: int, belief: str, worry: str, drug: str) -> str:
    """The question of a later turn; ``belief``, ``worry`` and ``drug`` are what it may name."""
    rng = Random(f"{case.family}/{case.seed}/follow/{turn}")
    templates = FOLLOW[topic] if drug else tuple(t for t in FOLLOW[topic] if "{somedrug}" not in t)
    slots = {"belief": belief, "worry": worry, "bareworry": worry, "somedrug": drug}
    thanks = rng.choice(
        ("", "", "", "", "谢谢医生，", "明白了，", "嗯嗯，", "好的，", "原来这样，", "听您这么说好多了。")
    )
    return tidy(thanks + spin(rng, rng.choice(templates), slots))


def follow_drugs(case: Case) -> list[str]:
    """Drugs a later turn may name: those of the condition that the table doses; none for special groups."""
    if case.asker.group or case.asker.age < 14:
        return []
    return dosed(conditions()[case.condition])
