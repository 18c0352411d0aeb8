"""Whether a mention in Chinese medical text is affirmed, negated, contraindicated, uncertain or conditional.

The scope of a cue is the clause that it stands in: a clause ends at punctuation other than 、 and before 但, 不过, 而
and the like. Within the clause the cues before the mention are read in order, so that 不是不需要 affirms and
不建议布洛芬，改用… negates only the first drug; few cues may stand behind the mention (孕妇禁用, 待排, 阴性).
"""

from __future__ import annotations

import re
from typing import Literal

Polarity = Literal["affirmed", "negated", "contraindicated", "uncertain", "conditional"]

_REACH = 60  # characters on each side in which a clause is looked for
_CLAUSE = re.compile(
    r"[,，。；;！!？?\n:：]|(?=但是?|不过|可是|然而|却|而(?!且|后|已|言|立)|改用|改吃|改服|改为|换成|换用|换为|"
    r"改成|否则)|(?<=[^因从反])(?=而[不是应要需])"
)
_SENTENCE = re.compile(r"[。；;！!？?\n]")

# Words in which 不, 没, 无, 未, 非, 别 and 停 say nothing about what follows.
_HARMLESS = re.compile(
    r"不低于|不高于|不超过|不少于|不大于|不小于|不多于|不满|不到(?=\d)|不仅仅?|不但|不光|不只|不止|不断|不同|不久|"
    r"不少|不良|不适|不舒服|不稳定?|不足|不全|不明原因|不明显|不规则|不整|不安|不管|不论|无论如何|无论|"
    r"差不多|来不及|要不然|不然|对不起|不好意思|不客气|不错|不知道|不放心|不着急|不慌|不要紧|没关系|没事儿?|没问题|"
    r"(?:不要|不用|不必|无需|别)(?:太|过于|过分|太过|再)?(?:担心|紧张|害怕|着急|焦虑|慌|怕|自责|难过|灰心|有压力|"
    r"有顾虑)|"
    r"特别|分别|区别|鉴别|级别|性别|个别|识别|告别|未来|未婚|无糖|无盐|无创|无菌|无痛|无症状|无意|非常|非甾体|"
    r"非布司他|非诺贝特|非洛地平|非那雄胺|"
    r"非那根|非处方|非药物|停留|停经|忌口|禁食|禁酒|戒"
)
_ASKING = r"是否|是不是|有没有|要不要|需不需要|能不能|可不可以|该不该|用不用|会不会|好不好"
_DOUBLE = re.compile(
    r"(?:不是|并非|并不是|不等于|不代表)(?:完全|绝对|一定|说)?(?:不|没有?|无)(?:需要|需|能|可以?|必|用|建议|该|"
    r"应)?|不得不|不能不|不可不|不会不|无不|不可缺少|不可或缺|少不了|"
    r"离不开|不无|没有不"
)
_NOT = (
    r"不|没有?|未|无|勿|莫|别|非|否认|并未|尚未|从未|毫无|拒绝|避免|避开|杜绝|远离|戒除|戒掉|排除了?|可以排除|"
    r"已排除|除外|可除外|谢绝|反对|"
    r"达不到|够不上|算不上|称不上|谈不上|用不着|犯不着|何必|排除"
)
_STOP = r"停用|停药|停服|停掉|停止|停吃|停打|暂停|停|中断|中止|漏服|漏吃|漏打|忘记|忘了?|骤停|断药|撤掉|撤"
_FORBID = r"禁用|禁服|禁忌|禁止|忌用|忌服|忌食|严禁|切忌|绝对禁忌|忌"
_CARE = r"慎用|慎服|慎重|谨慎|慎选|酌情|必要时|需要时|视情况|视病情|在必要|实在"
_IF = r"如果|假如|假使|倘若|要是|若是|若(?!干)|一旦|除非|万一|只有|只要|当(?=.{1,14}时)|的话|才"
_MAYBE = (
    r"不能(?:完全)?排除|不可排除|不除外|不排除|难以排除|尚不能排除|不能除外|不一定|未必|不见得|不确定|难说|说不准|"
    r"可能|疑似|怀疑|疑|考虑|也许|或许|似乎|像是|大概|"
    r"警惕|待排|待查|" + _ASKING
)
_UNLIKELY = (
    r"不(?:太|大)?可能|不太?像|不(?:太|首先)?考虑|不怀疑|不支持|可能性(?:不大|很?小|很?低|极小)|不提示|不符合|不属于|"
    r"不算|不是|没达到|未达到|没到|还没到|未见|未发现|未检出|没发现|没查出"
)
_MANNER = (
    r"(?:不要|不能|不可|不宜|不应|不应该|不建议|别|勿|切勿|请勿|避免|不得|不推荐|不可以)(?:在)?"
    r"(?:空腹|饭前|饭后|餐前|餐后|睡前|过量|超量|大量|超剂量|超说明书|长期|一次性?|同时|立即|马上|直接|单独|反复|"
    r"频繁|过早|过度|连续|天天)"
)
_RESET = (
    r"就(?=去|来|要|得|应|需|该|打|尽|马上|立|换|加|到)|而是|而应|应该|应当|建议|推荐|可以|可选|首选|加用|联用|选用|"
    r"之后|后再|后(?=用|可|再|加|服|吃)|就能|也能|也要|还是要|仍要|仍需|才能"
)

_CUES = re.compile(
    rf"(?P<harmless>{_HARMLESS.pattern})|(?P<double>{_DOUBLE.pattern})|(?P<maybe>{_MAYBE})|(?P<unlikely>{_UNLIKELY})"
    rf"|(?P<manner>{_MANNER})"
    r"|(?P<deny>(?:不|没有?|无|未|别|勿|莫)(?:再|太|大|怎么|特意|非得|一定)?(?:建议|推荐|主张|提倡|需要|需|必要|必|"
    r"用|要|应该?|宜|可以?|能|得|许|准|该|认为|觉得|打算|赞成|会|是|有|再)?(?:再|给|给予)?|"
    rf"{_NOT})"
    rf"|(?P<forbid>{_FORBID})|(?P<stop>{_STOP})|(?P<care>{_CARE})|(?P<cond>{_IF})|(?P<reset>{_RESET})"
)
_BEHIND = re.compile(
    r"^[^,，。；;！!？?\n:：]{0,10}?(?:"
    r"(?P<keep>(?:不是|并非|并不是|不等于)(?:绝对|完全|一定)?(?:不能|不可以?|不许|不需要|不必|没有?)(?:使用|服用|"
    r"用|吃|做|打)?"
    r"|(?:不能|不要|不可以?|不得|不应该?|不宜|不建议|别|勿|切勿|请勿)(?:自行|擅自|随便|随意|突然|马上|轻易|"
    r"说)?(?:停用|停药|停服|停掉|停|中断|断|漏服|漏吃|漏|减))"
    r"|(?P<forbid>禁用|禁服|忌用|忌服|禁忌|是禁忌|(?:绝对)?(?:不能|不可以?|不得|不许)(?:使用|服用|用|吃|服)(?=者|"
    r"的人)|过敏)"
    r"|(?P<care>慎用|慎服|(?:要|需|须|应)?谨慎(?:使用|服用|选择)?|酌情(?:使用|加用|选用)?|视情况而定|要看情况)"
    r"|(?P<unlikely>(?:已经?|可以?|可|基本)?(?:被)?排除(?!外)|阴性|可能性(?:不大|很?小|很?低|极小)|不支持|证据不足|"
    r"没有?(?:发生|出现|必要)|未见|不存在|不成立|不明显)"
    r"|(?P<deny>(?:暂时|暂|先|目前|现在|一般|并|都|也|就|绝对|千万)?(?:不|别|无|没|没有|不再|用不着)(?:建议|推荐|"
    r"需要?|必要?|用|要|应该?|宜|可以?|能|得)?"
    r"(?:再|常规|继续|马上|立即|急着|长期)?(?:使用|服用|应用|处理|治疗|吃|用|打|做|喝|补|加)?)"
    r"|(?P<stop>(?:应|要|需|须|请|可以|可|先|立即|马上|建议|得)?(?:停用|停掉|停药|停服|停了|停止(?:使用|服用)?|停))"
    r"|(?P<maybe>待排(?:除|查)?|不除外|不能排除|(?:的)?可能(?:性)?(?:大|较大|更大|很大|存在|有)?)"
    r")(?:了|的|为好|为宜|更好|比较好|这个药|此药|该药|一下|者|患者|的人|哦|啊|呢)?(?=$|[,，。；;！!？?\n、)）:：]|"
    r"但|而)"
)
_AFTER_ASKING = re.compile(r"^[^,，。；;！!\n]{0,16}?(?:吗|么|[?？])")
_GROUP = re.compile(
    r"孕妇|孕期|怀孕|妊娠|哺乳|备孕|儿童|小儿|婴|新生儿|老年|老人|患者|病人|人群|过敏者|功能不全|者$|溃疡|哮喘|"
    r"青光眼|心衰|的人"
)


def _clause(text: str, start: int, end: int) -> tuple[int, int]:
    """Begin and end of the clause that holds text[start:end]."""
    begin = max(0, start - _REACH)
    for match in _CLAUSE.finditer(text, begin, start):
        begin = match.end()
    stop = _CLAUSE.search(text, end, min(len(text), end + _REACH))
    return begin, stop.start() if stop else min(len(text), end + _REACH)


def _sentence_begin(text: str, start: int) -> int:
    begin = max(0, start - 2 * _REACH)
    for match in _SENTENCE.finditer(text, begin, start):
        begin = match.end()
    return begin


def polarity(text: str, start: int, end: int) -> Polarity:
    """How the clause speaks of the mention ``text[start:end]``.

    ``negated``: denied, ruled out, advised against, stopped or avoided. ``contraindicated``: forbidden, mostly for a
    group (孕妇禁用), or an allergy. ``uncertain``: asked or merely possible (不能排除). ``conditional``: only under a
    condition or with care (慎用, 必要时, 如果…才, 不要空腹服用). A doubled negation (不是不需要, 不要停用) affirms.
    """
    begin, stop = _clause(text, start, end)
    before, behind = text[begin:start], text[end:stop]
    after_mark = text[end : min(len(text), stop + 1)]
    if before.endswith("对") and behind.startswith(("过敏", "类过敏", "有过敏", "严重过敏", "类药物过敏")):
        return "contraindicated"
    if (re.search(r"不是$", before) and "就是" in behind) or re.search(r"不是[^,，]{1,12}就是$", before):
        return "uncertain"
    here = _before(before)
    if here != "contraindicated":
        there = _behind(behind)
        if there is not None:
            here = there
    if here == "negated" and re.search(r"[吗么?？]$", after_mark) and not re.search(r"不是|没有|未", before):
        here = "uncertain"
    if here == "affirmed" and _AFTER_ASKING.match(after_mark):
        return "uncertain"
    if here in ("affirmed", "negated"):
        condition = _condition_before(text, begin, start)
        if condition == "除非" or (condition and here == "affirmed"):
            return "conditional"
    return here


def _before(clause: str) -> Polarity:
    """What the cues in front of the mention say, read from left to right."""
    state: Polarity = "affirmed"
    last = ""
    for match in _CUES.finditer(clause):
        kind = match.lastgroup
        if kind == "harmless":
            continue
        if kind == "double":
            state = "affirmed"
        elif kind == "reset":
            # 如果…可以 stays conditional; 没有溃疡的人可以 is affirmed; 可能可以 stays uncertain.
            if state in ("negated", "contraindicated"):
                state = "affirmed"
        elif kind == "maybe":
            state = "uncertain"
        elif kind == "unlikely":
            state = "negated"
        elif kind == "manner":
            state = "conditional"
        elif kind == "stop":
            # 不要停用, 别忘了: two denials affirm.
            state = (
                "affirmed" if last in ("deny", "manner", "care") and state in ("negated", "conditional") else "negated"
            )
        elif kind == "forbid":
            state = "affirmed" if last == "deny" and state == "negated" else "contraindicated"
        elif kind == "care":
            if state == "affirmed":
                state = "conditional"
        elif kind == "cond":
            if state != "negated" or match[0] == "除非":
                state = "conditional"
        elif kind == "deny":
            state = "negated" if last != "stop" or state != "affirmed" else state
        last = kind or ""
    return state


def _behind(clause: str) -> Polarity | None:
    match = _BEHIND.match(clause)
    if match is None:
        return None
    kind = match.lastgroup
    if kind == "keep":
        return "affirmed"
    if kind == "forbid":
        return "contraindicated"
    if kind == "care":
        return "conditional"
    if kind == "maybe":
        return "uncertain"
    if kind == "deny" and _HARMLESS.match(match[kind]):
        return None
    if kind == "deny" and _GROUP.search(clause[: match.start(kind)]):
        return "contraindicated"
    return "negated"


def _condition_before(text: str, begin: int, start: int) -> str:
    """The condition (如果, 除非 …) that an earlier clause of the sentence sets for this one, or an empty string."""
    sentence = _sentence_begin(text, start)
    earlier = text[sentence:begin]
    found = ""
    for match in re.finditer(
        r"如果|假如|倘若|要是|若是|若(?!干)|一旦|除非|万一|只有|只要|当(?=.{1,14}时)|的话", earlier
    ):
        found = match[0]
    if found != "除非" and "否则" in text[sentence:start]:
        return ""
    return found
