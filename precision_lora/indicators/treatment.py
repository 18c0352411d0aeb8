"""Treatment: who takes what, how much, how often, how long; steps with amounts, watched and followed up."""

from __future__ import annotations

import re
from functools import cache

from precision_lora import factcheck, knowledge
from precision_lora.indicators.findings import TREATMENT, Finding
from precision_lora.indicators.phrases import apply, rule
from precision_lora.indicators.reading import Clause, Consultation
from precision_lora.lexicon import longest_match_pattern
from precision_lora.negation import polarity
from precision_lora.numerals import fold
from precision_lora.quantities import Quantity

_RULE = "评分规则：方案具体到量、频次、时间和随访"

# Kinds of the fact checker that make a plan a bad one, and their points.
_FAULTS = {
    "contraindicated_drug": -1.8, "overdose": -1.8, "harmful_advice": -1.2, "stopped_treatment": -1.5,
    "underdose": -0.6, "missed_red_flag": -0.8,
    "unnoticed_overdose": -1.2,
}  # fmt: skip

_DRUG_SUFFIX = re.compile(
    r"[\u4e00-\u9fff]{1,6}(?:地平|普利|沙坦|洛尔|他汀|双胍|格列净|格列汀|列净|列汀|拉唑|替丁|西林|沙星|霉素|唑仑|"
    r"西泮|芬|康唑|布洛芬|昔康|昔布|司他|溴马隆|胰岛素|甲状腺素|优甲乐|"
    r"松龙|地松|他定|利嗪|膦酸钠?|贝特|麦布|格雷|沙班|法林|咪唑|嘧啶|铋剂?|补液盐|凝胶|乳膏|软膏|滴耳液|喷剂|"
    r"(?<!的)胶囊|缓释片|肠溶片|洛韦|米松|可的松|曲林|西汀|必利|甘油|乳果糖|维生素[a-z]?\d*|钙片|碳酸钙|亚铁|"
    r"秋水仙碱|硝酸甘油)"
)
_DOSE_UNITS = frozenset(
    [
        "mg",
        "g",
        "μg",
        "ml",
        "mL",
        "IU",
        "U",
        "片",
        "粒",
        "袋",
        "支",
        "滴",
        "喷",
        "揿",
        "丸",
        "mg/kg",
        "单位",
        "mg/天",
        "g/天",
        "克",
    ]
)
_TIMING = re.compile(
    r"饭前|饭后|餐前|餐后|随餐|餐中|饭中|空腹|睡前|清晨|早晨|早上|晚上|每晚|早餐|晚餐|早饭|固定时间|临睡|喂完奶|"
    r"早晚|喷前|运动前|舌下|薄涂|口服|含服|外涂"
)
_ACTION = re.compile(
    r"盐|运动|快走|步行|慢跑|散步|游泳|主食|蔬菜|水果|喝水|饮水|体重|减重|减肥|戒烟|戒酒|睡|起床|坐浴|冷敷|冰敷|"
    r"热敷|拉伸|锻炼|训练|抬|卧床|休息|活动|呼吸|练|洗|涂|敷|冲|含|吸|喷|滴|泡|补|喂|"
    r"油|肉|糖|热量|杂粮|纤维|奶|咖啡|酒|烟|屏幕|手机|晒|保湿|轮换|换药|晾|垫高|平卧|侧躺|站|坐|蹲|走|跑|吃|喝|服|"
    r"用|减|加|停|换|挤|梳|刷|漱|记|拉|滚|压|按|抹|贴|戴|爬|摆|穿|垫|开|翻|坚持|做|用|维持|控制|继续|连"
)
_LIFESTYLE = re.compile(
    r"少盐|低盐|限盐|减盐|戒烟|戒酒|控制体重|减重|低脂|低糖|低嘌呤|低钾|多喝水|规律作息|防晒|保湿|坐浴|冷敷|冰敷|"
    r"抬高|垫高|拐杖|护膝|少量多餐|软毛|侧躺|别喂|禁食|照常吃饭|母乳|流动凉水|保持干燥|别挑破|不要挑破|"
    r"轮换|洗鼻|漱口|拉伸|腹式呼吸|床边训练|快走|杂粮|粗粮|深呼吸|热水袋"
)
_MONITOR = re.compile(
    r"监测|测量|自测|量(?:一)?次|早晚[各测量]|测血压|测血糖|量血压|量体温|称体重|量身高|记录|日记|记下|记两周|连记|"
    r"连量|数一数|数(?:一)?次呼吸|测一次|观察尿量|打分"
)
_FOLLOW = re.compile(
    r"复查|复诊|随访|再查|再做|回院|回来看|复测|再抽血|回访|再测|门诊|再评估|评估|查(?:一次)?(?:血|肝|肾|甲|inr|骨|"
    r"尿|眼)|拆线"
)
_SEEK = re.compile(
    r"(?:心内|内分泌|神经|消化|呼吸|肾内|泌尿|骨|皮肤|眼|耳鼻喉|口腔|妇|产|儿|感染|血液|风湿|肛肠|精神|心理|睡眠|"
    r"康复|外|内)(?:分泌|内)?[科门]|急诊|120|12356|就医|就诊|去医院|到医院|找医生|联系医生|告诉医生|问医生|回医院|"
    r"看医生|让医生"
)
_TIME = re.compile(
    r"[\d一二两三四五六七八九十半几]+(?:[-至到、][\d一二两三四五六七八九十]+)?个?(?:小时|分钟|天|日|周|星期|月|年|"
    r"秒)|今天|当天|立即|立刻|马上|下周|本周|这周|明天|每[天日周月年晚半]|定期|下次"
)
_ORDER = (
    rule(
        r"第[一二三四五1-5]步|首先|其次|然后|最后|再次|①|②|③|(?:^|[。；;\n ])[1-5][.、)]|"
        r"先[^，。；]{1,14}(?:，)?(?:再|然后|后)|之后", "步骤有先后", 0.35, _RULE, 3),
)  # fmt: skip
_IF_THEN = (
    rule(
        r"(?:如果|要是|若(?!干)|一旦|出现|超过|低于|不缓解|没好转|不好转|没改善|不好|还(?:疼|喘|烧|低|高|拉|不)|"
        r"不退|不减|精神差|尿少|再[疼发烧]|不高的话|起泡|黑便|头晕)[^。！？\n]{0,26}(?:立即|立刻|马上|尽快|就(?:医|"
        r"诊|去|看|要|停|复|再|打)|再(?:含|吃|看|查|吸|谈)|停药|减量|加量|去(?:医院|急诊|看)|打?120|到(?:医院|急诊)|"
        r"联系医生|告诉医生|当天|回(?:院|来|医院)|复诊|复查|急诊|可用|可以用)",
        "说明什么情况下该怎么做", 0.35, _RULE, 2),
)  # fmt: skip
_CAUTION = (
    rule(
        r"(?:不要|别|不能|勿|避免|禁用|禁止|不得|不可|忌|慎用|不应|不宜|不建议)(?:自行|自己|擅自|同时|再|立刻|马上|"
        r"在|和|与|超过|提前)?(?:停|加量|减量|吃|服|用|喝|含|挑破|揉|按摩|热敷|合用|换|一起|抓|挤|喂|洗|躺|补|使用|"
        r"氯化钾|普利|沙坦|布洛芬|阿莫西林|缬沙坦|自行)",
         "给出需要避免的做法", 0.35, _RULE, 2),
    rule(
        r"(?:孕妇|怀孕期间?|孕期|哺乳期?|哮喘|胃溃疡|溃疡|肾功能不[好全]|青霉素过敏|过敏)(?:的人|者|"
        r"患者)?[^，。；]{0,6}(?:禁用|慎用|不能|不要|避免|要减量|禁|忌)", "说明禁忌人群", 0.3, _RULE, 1),
    rule(
        r"(?:肝功|肾功能|不良反应|副作用|出血|心率|血钾|皮疹|水肿|低血糖|肌酸激酶|转氨酶|脚踝|出疹|"
        r"黑便)[^。；]{0,14}(?:停|减量|复查|查|告诉|就诊|就医|留意|注意|马上|立即)",
        "说明用药后要留意什么", 0.25, _RULE, 1),
)  # fmt: skip
_HARM = (
    rule(
        r"(?<!不要)(?<!不能)(?<!别)(?<!勿)(?<!自行)(?<!自己)(?<!擅自)(?<!突然)(?<!提前)(?<!随便)(?<!随意)(?:可以|就|"
        r"赶紧|马上|干脆|直接|受不了就|自己)(?:先)?停(?:药|了|掉|用)(?:吧|就|，|。|胰岛素|血压|也)|停了吧|停药等|"
        r"自己停了|等高了再吃|不吃也没(?:事|关系)|就不用吃了|就别吃了|没感觉就不用|靠自己调整|不用吃药|吃到不疼就停|"
        r"不疼就停|可以停掉",
         "劝人自行停药", -1.5, _RULE, 1),
    rule(
        r"偏方|秘方|祖传|排毒|保健品|保肝片|洗血管|血管洗|输(?:两次|点)?液把|春秋各一次|抹点?(?:牙膏|酱油)|"
        r"牙膏或酱油|涂(?:点)?(?:牙膏|酱油|香油)|苦瓜(?:代替)?|南瓜|纳豆|土方|放血|用火烧|骨头汤|红枣|红糖|以毒攻毒|"
        r"童子尿|符水|先饿(?:一天)?|刮痧就好|神药|根治",
         "用没有依据的办法代替治疗", -0.9, _RULE, 2),
    rule(
        r"多吃几片|越多(?:降|好)|多吃一?点也(?:没|行)|加倍|翻倍|随便(?:买|哪|吃)|再热敷揉|挑破放水|多热敷|一直吃到|"
        r"巩固一下|想喝就喝|少喝点没事|啤酒不算酒|可以一起吃|连用到|想吃就吃|什么药都(?:行|可以)|自己(?:加|调)量|"
        r"降得越快|吃两种",
         "有害或随意的用药建议", -1.2, _RULE, 2),
    rule(
        r"不用管|忍忍|忍一忍|忍着|不用去医院|观察观察再说|睡一觉|明天再(?:看|说)|以后再说|该吃吃该喝喝|没有办法|"
        r"慢慢熬|等等再说|不用治|切了就放心|先观察再说|等走不动", "拖延或放弃处理", -0.8, _RULE, 2),
)  # fmt: skip
_VAGUE = (
    rule(
        r"注意(?:休息|饮食|保暖|卫生|身体|营养|一下|运动)|适当(?:运动|锻炼|活动|休息)|清淡(?:一?些|一?点|饮食|"
        r"为主)?|保持(?:好)?(?:心情|良好|乐观|心态)|心情舒畅|按说明书|看着吃|看着办|慢慢(?:就)?会?好|少吃(?:甜的|"
        r"辣的?|油腻)|"
         r"多(?:动动|锻炼|运动|休息|喝(?:点)?(?:温|热)?水|吃蔬菜|吃水果|观察|活动)|管住嘴|迈开腿|坚持就有|按时吃药|"
         r"别熬夜|早点睡|吃一段时间|有问题再说|不行就|好好(?:养|补|休息)|加强营养|别累着|定期检查|定期查|养成好|"
         r"放松心情|不要想太多|"
         r"增强(?:自身的?)?(?:免疫|抵抗)力|别忘了就行|记得吃|难受时候|消炎药|涂涂|抹抹|调理|调整(?:一下)?心态|"
         r"过阵子|吃少一点", "泛泛的建议，没有量和时间", -0.07, _RULE, 5),
)  # fmt: skip


def _further(c: Consultation, found: list[Finding]) -> list[Finding]:
    """Things to do that no rule above has counted: little each, so that equal plans are told apart."""
    taken = [(f.start, f.end) for f in found if f.end]
    more: list[Finding] = []
    for clause in c.clauses:
        action = _ACTION.search(clause.text) if clause.worth == "prose" else None
        if not action or any(s < clause.end and clause.start < e for s, e in taken):
            continue
        if _VAGUE[0].pattern.search(clause.text) or len(clause.text) < 4:
            continue
        more.append(Finding("另有做法", 0.05, TREATMENT, clause.start, clause.end, _RULE))
        if len(more) == 3:
            break
    return more


_TOLD_NOT = re.compile(r"(?:不要|别|不能|勿|不可|避免|不用|禁止|不得|不宜|不应|忌|切莫)[^，。；]{0,5}$")
# What the question is about : what must not be advised then. Regular expressions on folded text.
_OUT_OF_PLACE = tuple(
    (re.compile(asked), re.compile(told), why)
    for asked, told, why in (
        (
            r"痛风.{0,6}(?:发作|疼|肿)|脚趾.{0,6}(?:疼|肿)",
            r"(?:马上|立即|赶紧|直接|现在|就)[^，。；]{0,4}(?:别嘌醇|非布司他|苯溴马隆)|热敷|按摩|多揉",
            "痛风急性期不开始降尿酸、不热敷",
        ),
        (
            r"感冒|流清?鼻涕|流感|病毒",
            r"(?:要|吃|用|来|加|上|开)点?(?:头孢|阿莫西林|阿奇霉素|左氧氟沙星|抗生素|消炎药)",
            "病毒感染不用抗生素",
        ),
        (
            r"腹泻|拉肚子|水样便|轮状",
            r"禁食|停奶|断奶|饿(?:一|两|几)(?:顿|天)|吃[^，。；]{0,4}(?:头孢|诺氟沙星)",
            "腹泻不禁食、不随意用抗生素",
        ),
        (
            r"漏服|忘(?:了|记)?(?:吃|服)",
            r"双份|两倍|补两片|一次(?:吃)?两片|加倍|两次的?(?:量)?一起",
            "漏服后不加倍补服",
        ),
        (
            r"漏|优甲乐|甲减",
            r"忘了第二天吃两片|(?:和|跟|与)[^，。；]{0,8}(?:豆浆|钙|铁)[^，。；]{0,6}(?:一起|一块|同)",
            "服法有误",
        ),
        (
            r"扭伤|崴|挫伤|拉伤",
            r"(?:马上|立即|先|赶紧)?(?:热敷|揉|按摩|推拿)",
            "急性扭伤不热敷、不揉",
        ),
        (
            r"鼻(?:出血|血)",
            r"仰头|后仰|平躺",
            "鼻出血不仰头",
        ),
        (
            r"烫|烧伤",
            r"牙膏|酱油|香油|挑破|冰块直接|撕",
            "烫伤不涂异物、不挑破",
        ),
        (
            r"抽搐|惊厥|癫痫|抽风",
            r"掐人中|撬|塞|按住|灌",
            "抽搐时不塞物、不强按",
        ),
        (
            r"鱼刺|卡喉|异物",
            r"吞饭|咽饭|馒头|喝醋|抠",
            "异物不硬咽",
        ),
        (
            r"便秘",
            r"番泻叶[^，。；]{0,6}(?:天天|每天|长期|一直)|(?:天天|每天|长期)[^，。；]{0,4}(?:番泻叶|开塞露|大黄)",
            "刺激性泻药不长期用",
        ),
        (
            r"失眠|睡不着",
            r"再(?:加|吃)(?:一|两|几)片|喝(?:点)?酒助眠|长期吃没事",
            "安眠药不自行加量",
        ),
        (
            r"发烧|发热|退烧|体温",
            r"捂汗|酒精擦|裹紧|捂一?捂|两种退烧药一起",
            "发热不捂、不用酒精擦",
        ),
        (
            r"他汀",
            r"柚子?汁?(?:可以|没事|随便)|肌肉疼[^，。；]{0,4}(?:忍|继续)",
            "他汀与西柚、肌痛须留意",
        ),
        (
            r"骨折|脱臼",
            r"自己(?:掰|复位|揉)|按摩",
            "骨折不自行复位",
        ),
        (
            r"咬|抓伤|狂犬",
            r"不用打|草药|包(?:紧|严)|挤一挤就",
            "咬伤须冲洗并评估接种",
        ),
        (
            r"高血压|血压",
            r"(?:盐|咸菜|腊肉)[^，。；]{0,4}(?:随便|照吃|不限)|高了(?:再|才)吃",
            "降压须限盐、规律服药",
        ),
        (
            r"糖尿病|血糖|胰岛素",
            r"(?:粥|水果|蜂蜜)[^，。；]{0,4}(?:随便|放开|多)|高了(?:再|才)(?:吃|打)",
            "控糖须定量、规律用药",
        ),
    )
)


def _out_of_place(c: Consultation) -> list[Finding]:
    """Advice that is wrong for what the question is about."""
    for asked, told, why in _OUT_OF_PLACE:
        if not asked.search(c.q):
            continue
        for match in told.finditer(c.a):
            if not _TOLD_NOT.search(c.a[max(0, match.start() - 8) : match.start()]) and polarity(
                c.a, *match.span()
            ) not in ("negated", "contraindicated"):
                return [Finding(why, -1.2, TREATMENT, *match.span(), "诊疗常规（编者整理）")]
    return []


@cache
def _drug_names() -> re.Pattern[str]:
    names = [fold(n) for d in knowledge.drugs() for n in (d.name, *d.aliases)]
    return re.compile(f"{longest_match_pattern(names)}|{_DRUG_SUFFIX.pattern}")


def find(c: Consultation) -> list[Finding]:
    """Findings on the plan."""
    if not c.genuine:
        return []
    found = [Finding("有回应", 0.15, TREATMENT, 0, 0, _RULE)]
    numbers: dict[int, list[Quantity]] = {}
    for q in c.quantities:
        numbers.setdefault(c.clause_at(q.start).start, []).append(q)
    drugs = _drugs(c)
    found += drugs
    found += _steps(c, numbers)
    found += _watching(c)
    steps = len(found) - 1
    if steps >= 2:
        found += apply(_ORDER, c, TREATMENT)
    found += apply(_IF_THEN, c, TREATMENT)
    found += apply(_CAUTION, c, TREATMENT)
    found += _further(c, found)
    harms = [
        h
        for h in apply(_HARM, c, TREATMENT, prose_only=False)
        if not _TOLD_NOT.search(c.a[max(0, h.start - 8) : h.start])
    ]
    harms += _out_of_place(c)
    for fault in factcheck.findings(c.answer, c.question):
        points = _FAULTS.get(fault.kind)
        if points is not None and not any(fault.start < h.end and h.start < fault.end for h in harms):
            harms.append(Finding(fault.note, points, TREATMENT, fault.start, fault.end, fault.source))
    found += harms
    found += apply(_VAGUE, c, TREATMENT, prose_only=False)
    return found


def _drugs(c: Consultation) -> list[Finding]:
    """Drugs that the answer tells to take, with the relation to dose, frequency, duration and timing."""
    found: list[Finding] = []
    seen: set[str] = set()
    for match in _drug_names().finditer(c.a):
        name, start, end = match[0], *match.span()
        if name in seen or not c.counts(start):
            continue
        seen.add(name)
        state = polarity(c.a, start, end)
        if state in ("negated", "contraindicated"):
            continue
        first, last = c.sentence_span(start)
        found.append(Finding(f"说到药物：{name}", 0.12 if name in c.q else 0.25, TREATMENT, start, end, _RULE))
        if len(found) > 3:
            break
        near = [q for q in c.quantities if first <= q.start < last]
        for text, points, chosen in (
            ("剂量", 0.5, [q for q in near if _is_dose(q)]),
            ("频次", 0.4, [q for q in near if q.form == "frequency"]),
            ("疗程", 0.35, [q for q in near if _is_duration(q)]),
        ):
            if chosen:
                q = chosen[0]
                found.append(Finding(f"药物{text}：{q.text}", points, TREATMENT, q.start, q.end, _RULE))
        if when := _TIMING.search(c.a, first, last):
            found.append(Finding(f"服用时间或方法：{when[0]}", 0.25, TREATMENT, when.start(), when.end(), _RULE))
        if len(found) > 1:
            break
    return found or _asked_drug(c)


def _asked_drug(c: Consultation) -> list[Finding]:
    """Dose, frequency and timing of the drug that only the question names."""
    name = _drug_names().search(c.q)
    own = [q for q in c.quantities if c.counts(q.start)]
    dose = next((q for q in own if _is_dose(q) and q.unit in ("mg", "μg", "g")), None)
    if not name or dose is None:
        return []
    found = [Finding(f"所问药物的剂量：{dose.text}", 0.5, TREATMENT, dose.start, dose.end, _RULE)]
    if often := next((q for q in own if q.form == "frequency"), None):
        found.append(Finding(f"药物频次：{often.text}", 0.4, TREATMENT, often.start, often.end, _RULE))
    if when := _TIMING.search(c.a):
        found.append(Finding(f"服用时间或方法：{when[0]}", 0.25, TREATMENT, when.start(), when.end(), _RULE))
    return found


def _is_dose(q: Quantity) -> bool:
    return q.unit in _DOSE_UNITS or (
        bool(re.search(r"mg|毫克|克|片|粒|毫升|ml|喷|滴|单位|iu", fold(q.text))) and q.form != "frequency"
    )


def _is_duration(q: Quantity) -> bool:
    return q.form != "frequency" and bool(re.search(r"天|周|月|日", q.text))


def _steps(c: Consultation, numbers: dict[int, list[Quantity]]) -> list[Finding]:
    """Things to do, with an amount or without."""
    found: list[Finding] = []
    before: Clause | None = None
    for clause in c.clauses:
        if clause.worth != "prose" or re.search(r"^(?:您|你)(?:的|这个|这次)?[^，]{0,6}(?:高|低|是|属于)", clause.text):
            continue
        action = _ACTION.search(clause.text) or (
            before is not None and before.sentence == clause.sentence and _ACTION.search(before.text)
        )
        before = clause
        if not action:
            continue
        amounts = [q for q in numbers.get(clause.start, []) if not _is_reading(q)]
        if amounts and not _FOLLOW.search(clause.text):
            points = 0.42 * 0.8 ** len(found)
            points += 0.15 * (len(amounts) > 1)
            written = "，".join(q.text for q in amounts[:3])
            found.append(Finding(f"做法带有具体的量：{written}", points, TREATMENT, clause.start, clause.end, _RULE))
        elif plain := _LIFESTYLE.search(clause.text):
            if polarity(c.a, clause.start + plain.start(), clause.start + plain.end()) == "negated" and not plain[
                0
            ].startswith(("别", "不要")):
                continue
            found.append(Finding(f"可执行的做法：{plain[0]}", 0.14, TREATMENT, clause.start, clause.end, _RULE))
        if len(found) == 8:
            break
    return found


def _is_reading(q: Quantity) -> bool:
    """A measured value, not an amount of something to do."""
    return bool(re.search(r"mmol|mmhg|μmol|umol|g/l|10⁹|u/l|iu/l|次/分|%", fold(q.text))) and not re.search(
        r"体重|减", q.text
    )


def _watching(c: Consultation) -> list[Finding]:
    found: list[Finding] = []
    done: set[str] = set()
    for clause in c.clauses:
        if clause.worth != "prose":
            continue
        timed = bool(_TIME.search(clause.text))
        for label, pattern, with_time, without in (
            ("监测", _MONITOR, 0.4, 0.18),
            ("随访复查", _FOLLOW, 0.45, 0.15),
            ("就医去向", _SEEK, 0.3, 0.18),
        ):
            match = pattern.search(clause.text)
            key = f"{label}{timed}"
            if not match or key in done or label in done:
                continue
            start, end = clause.start + match.start(), clause.start + match.end()
            if polarity(c.a, start, end) in ("negated", "contraindicated"):
                continue
            done.add(key)
            if timed:
                done.add(label)
            text = f"{label}有时间：{clause.text[:20]}" if timed else f"提到{label}：{match[0]}"
            found.append(Finding(text, with_time if timed else without, TREATMENT, start, end, _RULE))
    return found
