"""Medical terms: fitting the question, used to say something, and said right."""

from __future__ import annotations

import re
from functools import cache

from precision_lora import knowledge
from precision_lora.indicators import topics
from precision_lora.indicators.findings import TERM, Finding
from precision_lora.indicators.glosses import GLOSSES, LAY_WORDS, MISSPELT
from precision_lora.indicators.reading import Consultation, Mention
from precision_lora.indicators.relations import relations
from precision_lora.lexicon import longest_match_pattern
from precision_lora.numerals import fold

_TIER_POINTS = {"high": 0.5, "professional": 0.5, "middle": 0.14}
# Everyday words of the table: right, but no sign of knowledge.
_PLAIN_CATEGORIES = frozenset(["general", "lifestyle", "anatomy", "department"])
# Aliases that mean something else more often than not.
_MISLEADING = frozenset(
    [
        "换药",
        "发作",
        "治疗",
        "检查",
        "体检",
        "化验",
        "化验单",
        "报告",
        "参考范围",
        "正常值",
        "药膏",
        "药物",
        "药",
        "指标",
        "吃药",
        "症状",
        "疾病",
        "医院",
        "医生",
        "疲劳",
        "睡不好",
        "熬夜",
    ]
)
_RULE = "评分规则：术语与问题相关且用于陈述"
_IS = re.compile(
    r"[\"”（(，,：: ]?(?:就|主要|也|其实|说的|一般|通常|医学上|的意思|这项|高了?|升高|它|多|所谓){0,2}(?:是(?!否|"
    r"不是)|指|反映|属于|叫|即|衡量|代表|看的|查的|用来|用于|会引起|控制不好会|会|能|常见于|见于|包括|说明|提示)"
)
_IS_BEFORE = re.compile(r"(?:就是|叫做?|指的是|也就是|规范的说法是|医学上称?|即|称为)$")
_CLASS_WORDS = {
    "普利": "转换酶抑制 acei", "沙坦": "受体拮抗 受体阻滞剂 arb 沙坦类 血管紧张素ⅱ 血管紧张素ii",
    "地平": "钙通道 钙拮抗 ccb 地平类",
    "洛尔": "β受体 β阻滞 β-受体 倍他", "他汀": "他汀类 调脂 降脂 还原酶", "格列净": "sglt2 列净类 钠-葡萄糖",
    "格列汀": "dpp-4 dpp4 列汀类 二肽基",
    "拉唑": "质子泵 ppi 抑酸", "替丁": "h2", "西林": "青霉素 β-内酰胺 抗生素 抗菌",
    "头孢": "头孢菌素 β-内酰胺 抗生素 抗菌", "沙星": "喹诺酮 抗菌 抗生素",
    "氯吡格雷": "抗血小板 p2y12", "阿司匹林": "抗血小板 非甾体 水杨酸", "华法林": "抗凝 维生素k拮抗",
    "沙班": "抗凝 因子xa", "布洛芬": "非甾体 解热镇痛", "双氯芬酸": "非甾体",
    "二甲双胍": "双胍类 胰岛素增敏", "奥司他韦": "神经氨酸酶 抗病毒", "舍曲林": "再摄取抑制 ssri 抗抑郁",
    "对乙酰氨基酚": "解热镇痛",
    "别嘌醇": "黄嘌呤氧化酶", "非布司他": "黄嘌呤氧化酶", "噻嗪": "利尿", "呋塞米": "利尿 袢", "螺内酯": "利尿 醛固酮",
}  # fmt: skip
_ALL_CLASSES = [
    "转换酶抑制",
    "acei",
    "arb",
    "受体拮抗",
    "钙通道",
    "钙拮抗",
    "ccb",
    "β受体",
    "他汀类",
    "沙坦类",
    "地平类",
    "普利类",
    "洛尔类",
    "质子泵",
    "喹诺酮",
    "抗血小板",
    "抗凝",
    "非甾体",
    "双胍类",
    "神经氨酸酶",
    "再摄取抑制",
    "利尿",
    "抗生素",
    "抗菌药",
    "抗病毒",
    "溶栓",
    "糖皮质激素",
    "黄嘌呤氧化酶",
    "sglt2",
    "dpp-4",
    "降糖药",
    "抗组胺",
    "溶脑药",
]


def find(c: Consultation) -> list[Finding]:
    """Findings on terms."""
    if not c.genuine:
        return []
    found = [Finding("回答使用了成句的中文说明", 0.35, TERM, 0, 0, _RULE)]
    found += _mentions(c)
    found += _unlisted(c)
    found += _definitions(c)
    found += _identities(c)
    found += _drug_classes(c)
    found += _wording(c)
    found += _repeats(c)
    found += _relations(c)
    found += _regions(c)
    return found


def _mentions(c: Consultation) -> list[Finding]:
    found: list[Finding] = []
    seen: set[str] = set()
    strange: list[Mention] = []
    for mention in c.mentions:
        entry = mention.term
        if entry.term in seen or mention.written in _MISLEADING or not c.counts(mention.start):
            continue
        seen.add(entry.term)
        if entry.category in _PLAIN_CATEGORIES:
            if entry.tier != "middle" and entry.category == "anatomy" and _related(c, mention):
                found.append(_use(mention, 0.12))
            continue
        if not _related(c, mention):
            if entry.category != "symptom":
                strange.append(mention)
            continue
        points = _TIER_POINTS[entry.tier]
        if entry.category == "symptom" or (len(mention.written) <= 2 and entry.tier != "high"):
            points = min(points, 0.14)
        if entry.term in c.asked_terms:
            # The asker's own word shows no knowledge; its proper name (GGT: 谷氨酰转肽酶) does.
            points *= 0.3 if mention.written in c.q else 0.8
        elif mention.written != fold(entry.term) and not mention.written.isascii():
            points *= 0.8
        if entry.category in ("drug", "drug_class") and c.about and not _directly(c, mention):
            points *= 0.25
        if _in_long_list(c, mention):
            points *= 0.3
        found.append(_use(mention, points))
    if len(strange) >= 2:
        for mention in strange[:5]:
            text = f"与问题无关的术语：{mention.term.term}"
            found.append(Finding(text, -0.4, TERM, mention.start, mention.end, _RULE))
    elif strange:
        mention = strange[0]
        found.append(
            Finding(f"与问题关系不大的术语：{mention.term.term}", -0.12, TERM, mention.start, mention.end, _RULE)
        )
    return found


# How doctors name things that no table lists: operations, tests, structures, substances.
_FORMED = re.compile(
    r"(?:[\u4e00-\u9fff]{1,6}?(?:切除术|成形术|移植术|造口术|切割|光凝|消融术?|置换术?|引流术?|清创|造影|显像|活检|"
    r"涂片|培养|镜检?查?|超声心动图|动图|形态学|肌电图|试验|抗体|抗原|受体|抑制剂|拮抗剂|激动剂|阻滞剂|螯合剂|激素|"
    r"因子|酶|"
    r"血症|尿症|综合征|病变|水肿|坏死|穿孔|梗阻|栓塞|脱离|裂孔|化生|增生|不典型|纤维化|硬化|萎缩|破裂|夹层|短绌|"
    r"心音|杂音|早搏|收缩|传导|缺损|闭锁|畸形|反流|返流|瓣膜?|心室|心房|动脉|静脉|神经|黏膜|软骨|韧带|滑膜|筋膜|"
    r"半月板|"
    r"腺体?|注射|静滴|透析|滤过率|清除率|指数|比值|评分|量表|负荷|射血分数|分型|杆菌|球菌|病毒|真菌|支原体|衣原体|"
    r"螺旋体|细胞|蛋白|核酸|基因|染色体|球蛋白|肽|膜|窦|囊肿|息肉|结节|肿物|占位|斑块|血栓|疱疹|皮炎|肌炎|肾炎|肝炎|"
    r"心炎|脑炎|骨髓|功能不全|功能障碍|指征|体征|现象|反应|征|扫描|测定|定量|水平|通路|屏障|代谢|递质|受损|剥脱|浸润|"
    r"钙化|液化|灌注|耐药|抵抗|筛查|评分|分级|分期|阳性|阴性|疗法|减压|修补|吻合|电切|碎石|结扎|"
    r"[^的是有和个了这那]{2}(?:炎|癌|瘤|症|术|剂|碱|酸|钠|素|肽|醇))"
    r"(?![痛疼])|(?<![a-z])[a-z]{2,8}-?\d{0,3}[a-z]?\d?(?![a-z]))"
)
_FORM_STOPS = re.compile(
    r"^.*[的是有和查做要为由等及与或用可在到了把被这那您你我他她它不也都会能个种些看以对从先再并请加含按常叫]"
)
_NO_FORM = frozenset(
    [
        "mg",
        "ml",
        "kg",
        "dl",
        "mmol",
        "mmhg",
        "mol",
        "cm",
        "mm",
        "iu",
        "umol",
        "bid",
        "tid",
        "qd",
        "prn",
        "ok",
        "app",
        "ph",
    ]
)


def _unlisted(c: Consultation) -> list[Finding]:
    """Proper expressions outside the table, told by how they are formed."""
    taken = [(m.start, m.end) for m in c.mentions]
    found: list[Finding] = []
    seen: set[str] = set()
    for match in _FORMED.finditer(c.a):
        start, end = match.span()
        word = match[0]
        if not word.isascii():
            kept = _FORM_STOPS.sub("", word)
            start += len(word) - len(kept)
            word = kept
        if len(word) < (2 if word.isascii() else 3) or word in seen or word in c.q or word in _NO_FORM:
            continue
        if not c.counts(start) or any(s < end and start < e for s, e in taken):
            continue
        seen.add(word)
        fields = topics.fields_of(word)
        if fields and c.about and not fields & c.around:
            continue
        found.append(Finding(f"使用专业表达：{word}", 0.32 * 0.85 ** len(found), TERM, start, end, _RULE))
        if len(found) == 5:
            break
    return found


_CONTRAST = re.compile(r"不|非|而|无|没|别|与|和|比|换|[。；;]")
_REGIONS = ("颈椎", "腰椎", "胸椎", "膝关节", "髋关节", "肩关节", "腕关节", "踝关节")


def _relations(c: Consultation) -> list[Finding]:
    """What the answer says of drugs, signs and findings: right, or turned round."""
    found: list[Finding] = []
    for subject, right, wrong in relations():
        for match in subject.finditer(c.a):
            if not c.counts(match.start()):
                continue
            tail = c.a[match.end() : min(match.end() + 16, c.sentence_span(match.start())[1])]
            good, bad = right.search(tail), wrong.search(tail)
            span = match.start(), match.end()
            if bad and (not good or bad.start() < good.start()) and not _CONTRAST.search(tail[: bad.start()]):
                found.append(Finding(f"“{match[0]}”与“{bad[0]}”不相符", -1.2, TERM, *span, "诊断学与药品说明书"))
            elif good and not _CONTRAST.search(tail[: good.start()]):
                points = 0.3 * 0.6 ** sum(f.points > 0 for f in found)
                text = f"说对了“{match[0]}”与“{good[0]}”的关系"
                found.append(Finding(text, points, TERM, *span, "诊断学与药品说明书"))
            break
    return found


def _regions(c: Consultation) -> list[Finding]:
    """Another joint or part of the spine than the one asked about."""
    asked = [r for r in _REGIONS if r in c.q or (r[0] in c.q and r[0] in "颈腰膝髋肩腕踝")]
    if len(asked) != 1 or asked[0][0] not in c.a:
        return []
    for region in _REGIONS:
        place = c.a.find(region)
        if region not in asked and place >= 0 and c.counts(place):
            return [Finding(f"部位与所问不符：{region}", -0.4, TERM, place, place + len(region), _RULE)]
    return []


def _repeats(c: Consultation) -> list[Finding]:
    """One term over and over instead of saying more."""
    places: dict[str, list[Mention]] = {}
    for mention in c.mentions:
        if mention.term.category not in _PLAIN_CATEGORIES:
            places.setdefault(mention.term.term, []).append(mention)
    letters = sum(not ch.isspace() for ch in c.a)
    found = []
    for term, here in places.items():
        if len(here) >= 4 and len(here) * 18 >= letters:
            text = f"反复使用同一术语：{term}"
            found.append(Finding(text, -0.15 * (len(here) - 2), TERM, here[3].start, here[3].end, _RULE))
    return found


def _use(mention: Mention, points: float) -> Finding:
    criterion = f"使用相关术语：{mention.term.term}"
    return Finding(criterion, points, TERM, mention.start, mention.end, mention.term.source)


@cache
def _fields(term: str) -> frozenset[str]:
    return topics.fields_of(fold(term))


def _related(c: Consultation, mention: Mention) -> bool:
    fields = _fields(mention.term.term) | _fields(mention.written)
    return not fields or not c.about or bool(fields & c.around) or mention.term.term in c.asked_terms


def _directly(c: Consultation, mention: Mention) -> bool:
    """Whether the term belongs to the very field of the question, not to a neighbouring one."""
    fields = _fields(mention.term.term) | _fields(mention.written)
    return not fields or bool(fields & c.about) or mention.term.term in c.asked_terms


_IDENTITY = re.compile(
    r"(?:其实|主要|就|一般|也)?(?:是(?!否|不是|需)|指的是|指|反映的?是?|属于|衡量|代表|查的是|看的是)"
)


def _identities(c: Consultation) -> list[Finding]:
    """A term said to be, or to show, something of quite another field (网织红细胞反映肝脏解毒)."""
    for mention in c.mentions:
        if mention.term.category in ("symptom", "general", "anatomy", "lifestyle", "department"):
            continue
        verb = _IDENTITY.match(c.a, mention.end)
        fields = _fields(mention.term.term)
        if mention.written in GLOSSES or not verb or not fields:
            continue
        clause = c.clause_at(verb.end() - 1)
        said = topics.fields_of(c.a[verb.end() : min(clause.end, verb.end() + 14)])
        if said and not said & topics.widen(fields) and not said & c.about:
            text = f"对“{mention.written}”的说明与其领域不符"
            return [Finding(text, -1.0, TERM, mention.start, mention.end, _RULE)]
    return []


def _in_long_list(c: Consultation, mention: Mention) -> bool:
    """Whether the term stands in an enumeration of six or more."""
    clause = c.clause_at(mention.start)
    return clause.text.count("、") >= 6


@cache
def _gloss_pattern() -> re.Pattern[str]:
    return re.compile(longest_match_pattern(GLOSSES))


def _definitions(c: Consultation) -> list[Finding]:
    """Terms that the answer explains: right, or as something else."""
    found: list[Finding] = []
    done: set[str] = set()
    for match in _gloss_pattern().finditer(c.a):
        name = match[0]
        right, wrong = GLOSSES[name]
        if name in done or not c.counts(match.start()):
            continue
        if not _IS.match(c.a, match.end()) and not _IS_BEFORE.search(c.a[max(0, match.start() - 8) : match.start()]):
            continue
        stop = c.a.find("。", match.end())
        tail = c.a[match.end() : min(stop if stop >= 0 else len(c.a), match.end() + 60)]
        done.add(name)
        source = "医学名词释义（编者整理）"
        if any(w in tail[:26] for w in wrong):
            found.append(Finding(f"对“{name}”的解释不对", -1.6, TERM, match.start(), match.end(), source))
        elif any(w in tail for w in right):
            found.append(Finding(f"正确解释了“{name}”", 0.8, TERM, match.start(), match.end(), source))
        elif (
            tail
            and topics.fields_of(tail)
            and _fields(name)
            and not topics.fields_of(tail) & (_fields(name) | c.around)
        ):
            found.append(Finding(f"对“{name}”的解释与其含义不符", -1.2, TERM, match.start(), match.end(), source))
    return found


@cache
def _drug_pattern() -> re.Pattern[str]:
    return re.compile(longest_match_pattern(_CLASS_WORDS))


@cache
def _class_pattern() -> re.Pattern[str]:
    return re.compile(longest_match_pattern([*_ALL_CLASSES, *(w for v in _CLASS_WORDS.values() for w in v.split())]))


_IS_CLASS = re.compile(r"属于?|是一?种?|（|\(|这类|这种|为|如|像|包括|代表|类的|里的")


def _drug_classes(c: Consultation) -> list[Finding]:
    """A drug said to belong to a class: the right one or another."""
    found: list[Finding] = []
    for clause in c.clauses:
        if clause.worth != "prose":
            continue
        drug = _drug_pattern().search(clause.text)
        if not drug:
            continue
        for match in _class_pattern().finditer(clause.text):
            between = clause.text[min(drug.end(), match.end()) : max(drug.start(), match.start())]
            if len(between) > 8 or not _IS_CLASS.search(between) or re.search(r"不|改|换|或|和|、", between):
                continue
            own = [w for key in _CLASS_WORDS if key in clause.text for w in _CLASS_WORDS[key].split()]
            good = any(w in match[0] or match[0] in w for w in own)
            span = clause.start + match.start(), clause.start + match.end()
            if good:
                found.append(Finding(f"药物类别说对：{drug[0]}—{match[0]}", 0.5, TERM, *span, "药品说明书"))
            else:
                found.append(Finding(f"药物类别说错：{drug[0]}不属于{match[0]}", -1.5, TERM, *span, "药品说明书"))
            break
    return found


@cache
def _lay_pattern() -> re.Pattern[str]:
    return re.compile(longest_match_pattern(LAY_WORDS))


@cache
def _misspelt_pattern() -> re.Pattern[str]:
    return re.compile(longest_match_pattern(MISSPELT))


def _wording(c: Consultation) -> list[Finding]:
    found = []
    for count, match in enumerate(_misspelt_pattern().finditer(c.a)):
        if count == 3:
            break
        right = MISSPELT[match[0]]
        found.append(Finding(f"术语写错：应为{right}", -1.0, TERM, match.start(), match.end(), "医学名词（规范写法）"))
    seen: set[str] = set()
    for match in _lay_pattern().finditer(c.a):
        if match[0] in seen or match[0] in c.q or len(seen) >= 4:
            continue
        seen.add(match[0])
        found.append(Finding(f"用口头说法代替术语：{match[0]}", -0.1, TERM, match.start(), match.end(), _RULE))
    return found


def disease_words() -> frozenset[str]:
    """Names of diseases in the table, folded; used where only diseases matter."""
    return _disease_words()


@cache
def _disease_words() -> frozenset[str]:
    return frozenset(fold(w) for t in knowledge.terms() if t.category == "disease" for w in (t.term, *t.aliases))
