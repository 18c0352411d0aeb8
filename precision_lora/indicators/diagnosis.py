"""Diagnosis confidence: calibrated, not loud."""

from __future__ import annotations

import re
from functools import cache

from precision_lora.indicators.findings import DIAGNOSIS, Finding
from precision_lora.indicators.numbers import grade_said
from precision_lora.indicators.phrases import apply, rule
from precision_lora.indicators.reading import Clause, Consultation, bigrams
from precision_lora.indicators.terms import disease_words
from precision_lora.lexicon import longest_match_pattern
from precision_lora.negation import polarity

_RULE = "评分规则：判断有据、留有余地、说清如何确认"

# Diseases that no table lists, by the way in which they are named.
_SUFFIX = (
    r"(?![级期度是为于像了的有和或与能到虑示合除个中就])[\u4e00-\u9fff]{1,8}?(?:综合征|结石|骨折|障碍|功能不全|"
    r"功能减退|功能亢进|破裂|出血|梗死|栓塞|感染|溃疡|息肉|囊肿|增生|疝|贫血|中毒|痉挛|反流|脱垂|狭窄|"
    r"肥大|炎|癌|瘤|结核|血症|心衰|衰竭|硬化|早搏|房颤|惊厥|肠套叠|耳石症|飞蚊症|糖尿病|高血压|低血压|低血糖|甲亢|"
    r"甲减|疱疹|荨麻疹|湿疹|疥疮|卒中|"
    r"缺血|不稳定|突出|血栓|现象|损伤|撕裂|积液|黄疸|失调|抑郁|焦虑|发作|良性|肿块|痴呆|缺[铁钙钾碘]|前期|受损|减低|"
    r"减少症|增多症|缺乏|不良反应|痛风|心绞痛|先兆|过敏)"
)
# What a lazily matched name may have caught in front of it.
_TRIM = re.compile(
    r"^.*(?:多为|多是|考虑|排除|可能是?|才算|即为|就是|说明|也要|属于?|警惕|提示|诊断为|符合|表现|引起|常见于|结合|"
    r"怀疑|伴有?|最像|是|或)(?=.{2})"
)
_NOT_DISEASE = re.compile(
    r"^(?:发炎|消炎|炎|感染|破裂|出血|过敏|缺乏|溃疡|损伤|狭窄|积液|障碍|增生|前期|先兆|受损|现象|缺血)$|抗炎|消炎|"
    r"非甾体"
)

_LIKELY = (
    r"属(?![性相])|考虑|可能|多半|大概率|倾向|提示|符合|最?像|首先要想|怀疑|警惕|属于|达到|常见(?:于|的是)|多见于|"
    r"多[为是]|一般是|诊断|标准|当心|不能排除|不排除|不除外|支持|很?大可能|"
    r"大多(?:数)?是|往往是|说明有|说明|就叫|叫做|落在|判断|初步|临床上|称为|是?典型|指向|意味着|表现|特点|落入|"
    r"算是?|更接近|范围|已经?到|之间"
)
_LIKELY_RE = re.compile(_LIKELY)
_CAREFUL = re.compile(
    r"考虑|可能|多半|大概率|倾向|提示|符合|像|怀疑|警惕|属于|达到|多[为是]|多见|常见|不能排除|大多|初步|一般|当心|"
    r"更接近|说明|标准|范围|算"
)
_DIFFERENTIAL = re.compile(
    r"排除|鉴别|区分|区别|分清|除外|也可能是?|也有可能|另外(?:还|也)?(?:要|可能)|还要考虑|还可能|也要(?:考虑|当心|"
    r"想到)|不能排除|同时考虑|或者是|少数是|也会"
)
_CONFIRM = re.compile(
    r"确认|确诊|明确|证实|核实|区分|分清|排除|鉴别|判断|弄清|定性|才(?:能|算)|评估|看(?:是不是|是否|程度|有没有|得)|"
    r"知道|诊断|清楚|来定|决定|再定|有意义|证明|判定|筛查|定级|帮助"
)
_EXAMS = frozenset(["examination", "indicator", "procedure"])
_EXAM_VERB = re.compile(r"(?:查|做|测|拍|抽|验|化验|检测|复查|复测|检查|加做|加查|评估|监测|看|挂|活检|穿刺)")
_EXAM_EXTRA = re.compile(
    r"[a-z]{2,8}\d*|b超|彩超|超声|ct|磁共振|mri|核磁|x线|x光|片子|心电图|血常规|尿常规|肝功能?|肾功能?|甲功|胃镜|"
    r"肠镜|活检|穿刺|量表|培养|造影|镜检?|试验|抗体|抗原|"
    r"静脉血|血压|血糖|尿蛋白|眼底|体征|查体|听诊|指检|测定|定量|彩色|诊刮|染色体|基因"
)
_CERTAIN = (
    rule(
        r"(?:肯定|一定|百分之?百|百分百|绝对|毫无疑问|无疑|100%|必定|铁定|准是|板上钉钉|不用怀疑|我(?:敢)?(?:保证|"
        r"打包票|确定)|没跑了?|跑不了|确定无疑|可以断定|就能断定|断定|笃定|八九不离十都不用)"
         r"(?![^，。；]{0,4}(?:不是|没事|要|得|会好|很|又|难|能|需|心|让|是?(?:急|累|难|害怕|担心|慌|疼|辛苦|委屈)))",
         "资料不足就下断言", -1.1, _RULE, 3),
    rule(
        r"(?:已经?|可以|就是|这就|你这|您这|直接|就)(?:是)?确诊(?:了|为|是)?|确诊了|确诊为|(?:你|您)(?:得的是|得了|"
        r"患了|患的是|就是得了)", "单凭现有资料宣布确诊", -1.0, _RULE, 2),
    rule(
        r"(?:不用|不必|无需|不需要?|没必要)(?:再|做任何|做什么|任何|去医院|去)?(?:检查|查(?!血糖|房)|化验|确认|复查|"
        r"看医生)(?!都)|检查(?:都)?是走形式|别听医生|不用做任何", "否定必要的检查", -1.0, _RULE, 2),
    rule(
        r"(?:绝对|肯定|一定|百分之?百|保证|决)(?:不是|没有?(?:别的)?(?:病|事|问题)|不会是|不可能)|不可能(?:是|有)|"
        r"(?:没有|没)别的(?:可能|事|病)|没什么病|没有病|(?:肯定|绝对)(?:是)?(?:良性|没)",
        "没有依据地排除疾病", -1.0, _RULE, 2),
    rule(
        r"就(?:说明|等于|代表|意味着)(?:你|您)?(?:得|患|有|是)?[^，。；]{0,6}(?:癌|病|瘤|症)|"
        r"[级类阳性]就是[^，。；]{1,8}(?:癌|瘤|病)|就等于|(?:你|您)?已经是(?:了|癌|糖尿病)|"
         r"就是[^，。；]{1,9}(?:病|症|炎|癌|瘫|瘤)了?(?=[，。；！]|$)", "由一项结果直接断定", -0.8, _RULE, 2),
    rule(r"赶紧(?:准备)?(?:住院|治疗|手术|吃激素|吃药)|直接(?:开始)?吃药|可以直接|一辈子的事|早做手术|早切",
        "判断未明就催促治疗", -0.5, _RULE, 1),
)  # fmt: skip
_DISMISS = (
    rule(
        r"(?:问题不大|没(?:什么)?大?(?:事|问题)|不要紧|不碍事|很正常|都会这样|没关系|忍一忍|忍忍|一会儿?就(?:好|"
        r"过去)|老了都这样|年纪大了都|再说吧|别管|不用管|不用太?在意|累的)", "轻描淡写，没有依据", -0.4, _RULE, 2),
)  # fmt: skip
_HEDGES = (
    rule(
        r"(?:都有可能|什么都有可能|都可能|可能有事(?:也)?可能没事|可能高也可能不高|可能是也可能不是|"
        r"也许是[^，。]{1,8}也许不是|可能(?:是|受|有)[^，。；]{0,12}(?:也可能|可能)(?:是)?(?:别的|不是|没有?)|"
         r"不好说|说不(?:准|清|好)|很难说|难说|没法(?:讲|说|判断)|因人而异|各人不一样|每个人(?:的)?(?:情况|身体状况|"
         r"体质)?(?:都)?(?:是)?不(?:太)?(?:一样|相同|同)|具体情况具体分析|(?:要|得)?看(?:具体)?情况|不一定|"
         r"谁也说不准|不确定|我(?:又)?(?:没看见|也不知道|也说不好)|到底是什么|各种原因|(?:很|非常|太)多(?:种)?原因|"
         r"原因(?:有)?(?:很|太|非常)多|(?:什么|各种)(?:病|原因|情况)都|多了|比较复杂)",
         "空泛推脱，没有给出判断", -0.5, _RULE, 3),
    rule(r"(?:问题|毛病|的病|不太?好|有点虚|气血|什么病)(?=[，。；、]|$)|(?:某种|一种)(?:皮肤)?(?:病|问题)|反正是",
        "只说“有问题”，没有说是什么", -0.12, _RULE, 2),
    rule(
        r"(?:查了|检查完|去医院(?:看看|检查|一下)?)(?:就知道|再说)|听(?:听)?医生(?:怎么说|的意见|的)|看医生怎么说|"
        r"等等看|再看看", "把判断全推给别人", -0.2, _RULE, 2),
)  # fmt: skip
_CALIBRATED = (
    rule(
        r"(?:单|一|这|只凭|仅凭|光靠|单凭|只看|单看)[^，。；]{0,10}(?:次|项|几次|结果|手摸|"
        r"症状)[^，。；]{0,8}(?:不能|不够|不算|还不|无法|定不了|不足以|算不得)|一次不算数|"
         r"(?:还|暂时|目前|尚)(?:不能|没到|不到|谈不上|不足以|不够|够不上|称不上|没有到|未达)|不能(?:说是|确诊|定论|"
         r"只靠|画等号|直接|就此|因此|单凭|光靠|据此|算)|不等于|不代表|不一定是|未必|才能(?:确诊|确定|定性|下|诊断)|"
         r"才(?:算|可以)(?:数|确诊|诊断)|"
         r"(?:大多|多数|大部分|往往|通常)[^，。；]{0,8}(?:良性|生理|自己会好|好转|不是|没有)|可能(?:性)?(?:大约|约|"
         r"较|更|很|最)?(?:大|小|低|高|在?\d)|概率|几率|初步(?:考虑|判断)|不同日|非同日|基本可以考虑",
         "判断留有余地，说明依据是否充分", 0.5, _RULE, 2),
)  # fmt: skip
_URGENT = r"(?:立即|立刻|马上|赶紧|赶快|尽快|尽早|当天|及时|今天就|直接|属于|就要?|要|得|请)"
_RED_FLAGS = (
    rule(
        rf"(?:如果|要是|一旦|若(?!干)|假如|万一|出现|伴有?|超过|突然|持续|胸痛|黑便|呕血|昏|喘|剧痛|剧烈|无力|高烧|"
        rf"抽搐|发紫|尿少|没尿|肿块|红肿|气促|麻|晕倒|失禁|瘀斑|低于|眼花|"
        rf"念头)[^。！？\n]{{0,45}}?{_URGENT}[^，。；]{{0,7}}"
         r"(?:急诊|120|就医|就诊|医院|急症|12356|救护车|复诊|看医生|回院)|(?:立即|立刻|马上|赶紧)(?:拨打?|叫|打|去|"
         r"到|送)[^，。；]{0,4}(?:120|急诊|急救)", "说明需要立即就医的危险信号", 0.55, "评分规则：危险信号", 1),
    rule(r"(?:要)?(?:高度)?(?:警惕|当心|危险信号|紧急|急症|不能等|不能拖|别拖|不要拖|每一分钟)",
        "提示紧急程度", 0.25, "评分规则：危险信号", 1),
)  # fmt: skip
_EVIDENCE = (
    rule(
        r"结合|根据|依据|从[^，。；]{1,12}(?:来看|看)|听(?:您|你)?(?:的)?描述|这些(?:表现|症状|特点)|放在一起|加上|"
        r"因为|由于|再加|既[^，。]{1,10}又|的特点|典型|对称|超过了?[\d≥]|两项都|听起来",
        "说出判断的依据", 0.3, _RULE, 2),
)  # fmt: skip
_GRADE = re.compile(
    r"[1-3一二三][级度期](?:高血压|肥胖)?|(?:轻|中|重)(?:到中|到重|至中|至重)?度|前期|受损|减低|临界|正常高值|急性|"
    r"慢性|早期|晚期|亚临床|无症状|单纯性|低危|中危|高危|极高危|稳定型|2型|1型|偏[高低]|升高|降低|轻微|良性|生理性?|"
    r"超(?:过|出|重)|高于|低于|达到"
)


@cache
def _disease_pattern() -> re.Pattern[str]:
    return re.compile(f"{longest_match_pattern(disease_words())}|{_SUFFIX}")


def diseases(text: str) -> list[re.Match[str]]:
    """Diseases named in folded text."""
    return [m for m in _disease_pattern().finditer(text) if not _NOT_DISEASE.search(m[0]) and len(m[0]) >= 2]


def find(c: Consultation) -> list[Finding]:
    """Findings on the judgement."""
    if not c.genuine:
        return []
    found = [Finding("有回应", 0.25, DIAGNOSIS, 0, 0, _RULE)]
    named = _named(c)
    found += named
    found += _differentials(c, bool(named))
    found += _confirmation(c)
    found += apply(_CALIBRATED, c, DIAGNOSIS)
    found += apply(_RED_FLAGS, c, DIAGNOSIS)
    if named:
        found += apply(_EVIDENCE, c, DIAGNOSIS)
        found += _observed(c)
    found += apply(_CERTAIN, c, DIAGNOSIS, prose_only=False)
    hedges = list(apply(_HEDGES, c, DIAGNOSIS, prose_only=False))
    if named:
        hedges = [Finding(h.criterion, h.points * 0.6, h.indicator, h.start, h.end, h.source) for h in hedges]
    found += hedges
    grade = grade_said(c)
    if grade and grade[0] != grade[1]:
        found.append(
            Finding("血压分级与数值不符", -1.3, DIAGNOSIS, grade[2], grade[3], "中国高血压防治指南（2024年修订版）")
        )
    found += apply(_DISMISS, c, DIAGNOSIS, prose_only=False)
    return found


def _named(c: Consultation) -> list[Finding]:
    """Conditions that the answer considers for the asker."""
    found: list[Finding] = []
    seen: set[str] = set()
    for clause in c.clauses:
        if clause.worth != "prose":
            continue
        likely = _LIKELY_RE.search(clause.text)
        here = diseases(clause.text)
        if len(here) >= 4 and "、" in clause.text:
            # An enumeration is no judgement about the asker.
            if not found:
                found.append(Finding("只是罗列疾病", 0.2, DIAGNOSIS, clause.start, clause.end, _RULE))
            continue
        near = likely or _leads_in(c, clause)
        for match in here:
            name = _TRIM.sub("", match[0]) or match[0]
            start, end = clause.start + match.start(), clause.start + match.end()
            if name in seen or polarity(c.a, start, end) in ("negated", "contraindicated"):
                continue
            if not near:
                continue
            seen.add(name)
            points = 0.75 if not found else 0.25
            # The asker's own diagnosis is no finding of the answer.
            if name in c.q:
                points *= 0.5
            if not likely or not _CAREFUL.search(clause.text):
                points *= 0.7
            found.append(Finding(f"提出可能的诊断：{name}", points, DIAGNOSIS, start, end, _RULE))
            if len(found) == 4:
                return found + _graded(c, clause)
        if likely and (graded := _graded(c, clause)) and len(found) < 6:
            found += graded if not any(f.criterion.startswith("给出程度") for f in found) else []
    return found


def _leads_in(c: Consultation, clause: Clause) -> bool:
    """Whether the clause before, in the same sentence, announces a judgement: 比较常见的，是…"""
    return any(
        _LIKELY_RE.search(k.text) for k in c.clauses if k.sentence == clause.sentence and 0 < clause.start - k.end <= 2
    )


def _graded(c: Consultation, clause: Clause) -> list[Finding]:
    match = _GRADE.search(clause.text)
    if not match or not (diseases(clause.text) or c.asked):
        return []
    return [
        Finding(
            f"给出程度或分级：{match[0]}",
            0.4,
            DIAGNOSIS,
            clause.start + match.start(),
            clause.start + match.end(),
            _RULE,
        )
    ]


def _observed(c: Consultation) -> list[Finding]:
    """Judgement tied to what the asker told: the sentence of the judgement shares words with the question."""
    pairs = bigrams(c.q)
    sentences: dict[int, list[Clause]] = {}
    for clause in c.clauses:
        if clause.worth in ("prose", "echo"):
            sentences.setdefault(clause.sentence, []).append(clause)
    for clauses in sentences.values():
        text = "，".join(k.text for k in clauses)
        shared = len(bigrams(text) & pairs)
        if shared >= 3 and _LIKELY_RE.search(text) and diseases(text):
            return [Finding("判断联系到提问者的表现", 0.3, DIAGNOSIS, clauses[0].start, clauses[-1].end, _RULE)]
    return []


def _differentials(c: Consultation, named: bool) -> list[Finding]:
    found: list[Finding] = []
    for clause in c.clauses:
        if clause.worth != "prose":
            continue
        cue = _DIFFERENTIAL.search(clause.text)
        if not cue or re.search(r"不(?:用|必)排除", clause.text):
            continue
        others = [m for m in diseases(clause.text)] or re.findall(
            r"病|问题|感染|肿|异物|毒|血管|心脏|肺|裂孔|骨刺|细菌", clause.text
        )
        if not others:
            continue
        points = (0.55 if named or len(others) > 1 else 0.45) * 0.5 ** len(found)
        found.append(Finding("提到需要鉴别或排除的情况", points, DIAGNOSIS, clause.start, clause.end, _RULE))
        if len(found) == 3:
            break
    return found


def _confirmation(c: Consultation) -> list[Finding]:
    found: list[Finding] = []
    for clause in c.clauses:
        if clause.worth != "prose":
            continue
        if not _EXAM_VERB.search(clause.text):
            continue
        named = [
            (m.start, m.end) for m in c.mentions if clause.start <= m.start < clause.end and m.term.category in _EXAMS
        ]
        named += [(clause.start + m.start(), clause.start + m.end()) for m in _EXAM_EXTRA.finditer(clause.text)]
        if not named or polarity(c.a, *named[0]) in ("negated", "contraindicated"):
            continue
        purpose = _CONFIRM.search(clause.text) or _CONFIRM.search(c.a[clause.end : clause.end + 14])
        points = (0.55 if purpose else 0.35) * 0.6 ** len(found)
        text = "说明用什么检查确认" if purpose else "建议相关检查"
        found.append(Finding(text, points, DIAGNOSIS, clause.start, clause.end, _RULE))
        if len(found) == 3:
            break
    return found
