"""Empathy: reaction, interpretation and exploration tied to what the asker said (the three mechanisms of EPITOME)."""

from __future__ import annotations

import re
from functools import cache

from precision_lora import knowledge
from precision_lora.indicators.findings import EMPATHY, Finding
from precision_lora.indicators.phrases import apply, rule
from precision_lora.indicators.reading import Clause, Consultation, bigrams
from precision_lora.lexicon import longest_match_pattern
from precision_lora.numerals import fold

_RULE = "评分规则：情感反应、解读、探询三种机制（EPITOME）"

# What people feel, as a listener says it back.
_FEELING = (
    r"担心|担忧|不安|害怕|恐惧|紧张|焦虑|着急|心急|焦急|急坏|急死|又急|慌|发毛|打鼓|没底|忐忑|七上八下|揪着|揪心|"
    r"心疼|难过|伤心|心碎|心酸|酸又疼|又酸|难受|委屈|憋屈|孤单|孤独|无助|无力|绝望|灰心|沮丧|失落|失望|落空|自责|"
    r"内疚|愧疚|懊恼|后悔|"
    r"怪自己|羞|难堪|尴尬|自卑|难为情|不好意思|累|疲惫|辛苦|不容易|难熬|煎熬|受罪|遭罪|受苦|磨人|折磨|崩溃|烦|压力|"
    r"重担|太重|沉甸甸|沉|压着|堵|憋|扛|硬撑|撑|绷|咯噔|一惊|吓一跳|吓人|吓坏|吓到|打怵|犯怵|犯嘀咕|心里一|心乱|"
    r"很乱|"
    r"放不下|放心不下|不踏实|舍不得|盼|想念|思念|牵挂|为难|左右为难|夹在中间|难处|苦|痛苦|心痛|疼得|睡不着|睡不踏实|"
    r"没睡|不敢|退堂鼓|想放弃|迷茫|纠结|困惑|生气|气|恼火|丧|麻木|抖|塌|眼泪|哭|想哭|往坏处想|胡思乱想|顾虑|抗拒|嫌弃|心寒|丢脸|悬着|悬|"
    r"扛不住|喘不过气|憋闷|不甘|冤枉|腿软|发紧|难捱|够难|挨(?:着|他|她|骂)|合眼|最坏|回放|千万遍|难(?=[，。])|勇气|"
    r"没着落|担惊受怕|提防|挑拣|揪|碎|掉泪|掉眼泪|酸楚|为难|拦不住|舍不得|难受|太重|又气|火气|过不去|怕得|反胃|难言|"
    r"滋味|心情|情绪|感受|感觉|念头"
)
_FEELING_RE = re.compile(_FEELING)
# Ways of showing that a feeling is seen.
_SEEN = re.compile(
    r"难怪|怪不得|说得通|情有可原|人之常情|换(?:作|成|做|了)?(?:是)?(?:谁|哪个|任何人|我)|谁(?:都|看了|看到|听了|听到|遇到|碰到|摊上|也)|"
    r"任谁|一定(?!要|得|会好|没|是(?!又|很))|想必|恐怕|肯定(?:很|又|特别|也|不|是|急|吓|心|一|把|累|会|慌|都|难|挺)|"
    r"很?自然|(?:很|太|是|再|都很)?正常(?!范围|值|上限|高值|血|参考|区间|人|饮食|吃|的?参|月经|，没|。没)|可以?想象|"
    r"能想象|想象得到|"
    r"我?(?:能|特别能|完全能|很能|都)?(?:懂|明白|理解|体会|体会到|感受到|感受得到|听见|听到|听得出|看得出|听出来|"
    r"感觉得到)|听(?:着|起来|您|你)|看(?:着|得出)|真(?:的|是|让人|不)|实在|太(?!多|高|低|大|早|晚|快|长)|难免|"
    r"免不了|多么?|最(?:磨|怕|难|让)|"
    r"心里|心头|心都|像(?!是|腹|手|.{0,6}(?:炎|病))|(?:这种|这份|那种|这些|那份|这样的)[^，。]{0,14}(?:感觉|滋味|"
    r"难受|心情|压力|孤独|孤单|委屈|害怕|担心|不安|难处|疲惫|盼望|念头|疼|疼过|顾虑|难过|紧绷|无助|煎熬|憋屈|话)|"
    r"很多人|说出来|说出口|"
    r"特别|整夜|整个人|一下子|一个人|还要|还得|偏偏|一边|明明|好不容易|反反复复|又(?=[^，。]{1,5}又)|"
    r"越[^，。]{1,4}越|确实|很久|好久|吧(?=[，。？！?!]|$)|都让人|会把人|逼到|一定很"
)
_PLAINLY_SEEN = re.compile(
    r"难怪|怪不得|换(?:作|成|做|了)?(?:是)?(?:谁|哪个|任何人)|谁(?:都|看了|听了|遇到|摊上)[^，。]{0,10}会|能理解|"
    r"可以理解|完全理解|我(?:能)?(?:懂|明白)"
)
_IMPERATIVE = re.compile(
    r"(?:不要|别|不用|不必|无需|请勿|莫|勿)(?:太|过于|过分|过度|再|那么|这么|总|有)?(?:担心|害怕|怕|紧张|焦虑|难过|"
    r"伤心|着急|慌|多想|胡思乱想|自卑|哭|沮丧|灰心|压力|急)[^，。；！？]{0,4}"
)
_AFFIRM = (
    rule(
        r"(?:谢谢|感谢)(?:您|你)?(?:愿意|能|肯)[^，。]{0,12}|(?:您|你)?(?:今天)?肯(?:讲|说|来|开口)[^，。]{0,6}|"
        r"(?:您|你)(?:能|愿意|肯|已经|这么|第一时间|及时|马上|来)[^，。？]{0,16}(?:很好|非常好|很对|对了|很及时|"
        r"了不起|不容易|勇敢|难得|力量|强|做得|细心|保护|改变|好事|用心|尽力)|能(?:来问|及时来问|注意到|说出来|"
        r"问出来|主动)[^，。]{0,14}|这一步走得|就是在保护|"
         r"已经做得|很勇敢|勇气|有力量|了不起|很细心|很用心|在乎(?:这|他|她|您|家)|太在乎|是因为在乎|就很勇敢|"
         r"做得很好|走得很对|反而是好事|孝心|负责任|还在替",
         "肯定提问者已经做的努力", 0.55, _RULE, 2),
    rule(
        r"不(?:是|怪|能怪|算)(?:您|你)(?:的错|自己|哪里|不够|一个人|矫情|还不是[^，。]{0,8}(?:熬|喝|吃|懒|作|抽)|作出来的|没用|娇气|做错|想太多|的问题|不好)?|"
        r"不是(?:谁|任何人)的错|(?:也)?不(?:是|说明)[^，。]{0,8}(?:做错|的错|没用|矫情|不够努力|没做好)|不丢人|"
        r"没什么丢人|不用(?:自责|怪自己|觉得丢人)|别(?:怪自己|自责)|不能用来衡量|不(?:等于|代表)(?:您|你)(?:的难受|"
        r"不行|没用|失败)|还是那个",
         "免去自责", 0.5, _RULE, 2),
    rule(
        r"我们一起|咱们(?:一起|一步|一项|慢慢|先)|一起(?:想办法|面对|看|调整|来|慢慢|努力)|(?:我|我们|大家|"
        r"家人)(?:会|都|来|可以)?(?:一直)?陪(?:着)?(?:您|你)|我在(?:这里|听|这儿)|不是一个人|不孤单|并不孤|"
        r"别一个人(?:扛|待)|不用一个人|一步一?步|一项一?项|一条一?条|慢慢来|先缓|缓口气|喘口气|深呼吸|我帮(?:您|你)|"
        r"随时(?:告诉|来问|找)|拿我的话|今天先|不用一下子|让家(?:里)?人陪|叫上[^，。]{0,8}人|一点一点|朝着它",
         "表示陪伴与支持", 0.35, _RULE, 3),
)  # fmt: skip
_EXPLORE_FEELING = re.compile(
    r"(?:最)?(?:担心|怕|害怕|放不下|放心不下|在意|难受|难熬|牵挂|想恢复|介意|顾虑|盼|舍不得|"
    r"困扰)[^。！]{0,16}(?:什么|哪|是不是|吗|呢|\?|？)|愿意[^。！]{0,14}(?:说|讲|聊|告诉)|(?:说说|讲讲|聊聊|说给我|"
    r"告诉我|说出来|慢慢说|慢慢讲|跟我说|听您|听你)|心里(?:是不是|在想)|(?:有没有|有)(?:人|谁|"
    r"家人)[^。！]{0,8}(?:陪|搭把手|帮|照顾|在)[^。！]{0,6}(?:吗|呢|？|\?)|身边[^。！]{0,8}(?:人|谁)|"
    r"睡过整觉|是不是[^。！]{0,16}(?:怕|担心|责怪|忍不住|紧张|慌|难过|停不下)|这些话[^。]{0,6}(?:说过|跟谁)|"
    r"跟家里人说|家里人知道"
)
_QUESTION_TO_ASKER = re.compile(
    r"(?:吗|呢|呀|什么|哪[一些里件条种句天位]?|多久|多大|怎么样|几|有没有|是不是|会不会|谁|"
    r"吧)[^，。；！？?]{0,10}[？?]|(?:您|你|他|她|孩子|现在|这几天)[^，。；！？?]{0,24}[？?]"
)
_COLD = (
    rule(
        r"(?:自己(?:去|上网|看|查|想办法|看着办)[^，。；]{0,6}(?:查|看|吧|医院|办)|问我(?:没用|也没用|我也不知道)|"
        r"我(?:也|又)?不知道|不知道，|没什么好(?:说|怕|难过|担心)|有什么(?:好|不好)(?:怕|难过|意思|担心|哭|怎么|"
        r"不好意思)|别问了|别再问|问来问去|问半天|少问|下一(?:个|位)|有啥(?:怎么|好)|随你|听不听随|懒得|跟我(?:说|"
        r"讲)(?:没用|没有用)|"
         r"忍忍(?:吧|就)|忍一忍|忍一下|都要(?:吐|疼|哭)的|谁让你离|这点(?:小)?(?:事|病|疼)|小题大做|大惊小怪|没必要因此|气也没用|哭有什么用|别老哭|"
         r"没用的|只能这样|就这样吧|谁都一样|见多了|没空|准备后事|没有办法了|没救了|看不懂就|就是这样|大可不必|"
         r"(?:不用|别)(?:太)?放在心上|不用(?:太)?(?:在意|管)|清静|是福气|愁出|要是不放心你就|爱信不信|"
         r"别在网上问|耽误了可别怪|何必|至于吗|不至于|去查就|怀不上就)",
         "冷淡或打发", -1.0, _RULE, 3),
    rule(
        r"(?:谁没有?(?:个)?(?:病|难处|压力)|大家都(?:有|这样|一样)|人都有这一天|哪个[^，。]{1,6}没有|(?:比|"
        r"还有)(?:您|你)[^，。]{1,6}(?:惨|严重|苦|难)|(?:的)?人多了(?:去了)?|(?:这|也)?不算(?:什么|啥|事)|"
        r"没(?:什么)?大不了|多大点事|想开(?:一?点)|看开(?:点|些)|你看看(?:那些|人家)|人家那么|自己吓自己|纯属|"
        r"看点电视|忘了吧|就忘了|别(?:人)?(?:家)?都能|再怀(?:一个|就)|还年轻(?:，|呢)|他说的也是|催也正常|"
        r"老人都这样|当真|"
         r"不要有负面|要学会放下|学会(?:调节|放下)|调整(?:一下)?(?:你的)?心态|心态(?:有|放)|别(?:胡思乱想|想太多|"
         r"那么紧张|矫情)|不要胡思乱想|开心(?:一?点)就|都会这样|老了都这样|越想越)",
         "轻视感受", -0.7, _RULE, 2),
)  # fmt: skip
_BLAME = (
    rule(
        r"谁(?:让|叫)(?:你|您)|早(?:干嘛|干什么|干吗|知道这样)|(?:都|只能|还不是)怪(?:你|您|自己)|怪不了别人|"
        r"(?:都是|就是|是)(?:你|您)(?:自己|家长|的错|平时|当初|没)|活该|自己(?:作|找的|造成|惹|不(?:注意|检点|小心|"
        r"当心|爱惜)|管不住|要负责|不听|种下)|怎么(?:现在才|才|这么(?:粗心|不|大意)|不早|没想过|不想想|早不|就不|"
        r"搞的|当(?:妈|爸|家长))|怎么(?:还|又)不|管不住嘴|太懒|懒惰|"
         r"不自律|没管教|没本事|惯的|太惯|矫情|想太多|无病呻吟|脆弱|娇气|玻璃心|怎么不[\u4e00-\u9fff]|"
         r"怎么没[\u4e00-\u9fff]|说明(?:你|您)(?:平时|自己(?!知道|想)|不|的(?:生活)?习惯)|教育有问题|教育方式|"
         r"心理素质|你还不信|有什么用|后果自负|承担(?:后果)?$|后果(?:她|他|你|您)?自己|(?:你|您)也有责任|习惯太差|"
         r"心态有问题|胆小|装的?(?:病|吧)|吃药都能|之前怎么不|做子女的应该|家长平时|早点发现|平时也不|现在(?:出了事|"
         r"知道怕|才(?:来|着急|知道))|引起注意|胖就要|父母(?:不|没)|责怪?你|疏忽|缺乏(?:自律|责任)",
         "责备提问者", -1.3, _RULE, 3),
)  # fmt: skip
# 不是您矫情, 怕被责怪: the words of blame inside a defence.
_DEFENDED = re.compile(
    r"(?:不是|不全是?|不都是?|不完全是?|未必|不怪|并非|别怪|不能怪|不该|不用|不等于|没有|哪里|绝不|怎么会|别说|不代表|担心被|怕被)[^，。；]{0,8}$"
)
_FALSE = (
    rule(
        r"(?:绝对|肯定|百分之?百|一定|保证|铁定)(?:[^，。；]{0,4})(?:没(?:有)?(?:任何|什么)?(?:事|问题|大碍)|"
        r"不会(?:有(?:事|问题)|失明|是癌|复发|传染|的)|(?:能|会)(?:好|治好|根治|痊愈)|健康|正常|是良性|不是癌|"
        r"不会有)|我(?:向你|向您|跟你|敢|可以)?(?:保证|打包票|担保)|(?:一万|一百|百分|放一百)个(?:放心|心)|放一百|"
        r"一点(?:事|问题)(?:都|也)没|没事的没事的|完全不用担心|"
         r"(?:一辈子|以后|永远)(?:都)?(?:没事|不会)|别人不会[^，。]{0,4}的|不可能有事|好孕会来|可以的，加油|过几天就好",
         "没有依据的保证", -0.9, _RULE, 2),
)  # fmt: skip
_ORDERED = (
    rule(
        r"(?:不要|别|不用|不必|无需|请勿)(?:太|过于|过分|再|那么|这么|总)?(?:担心|害怕|怕|紧张|焦虑|难过|伤心|急|"
        r"着急|慌|多想|胡思|自卑|哭|沮丧|灰心|有(?:心理)?(?:压力|负担))", "套话：叫人不要有情绪", 0.08, _RULE, 2),
)  # fmt: skip


@cache
def _table(strength: str) -> re.Pattern[str]:
    gap = "[^，。；！？,.;!?\n]{0,12}?"
    literal: list[str] = []
    gapped: list[str] = []
    for entry in knowledge.empathy():
        if entry.strength == strength:
            phrase = fold(entry.phrase).strip("…")
            (gapped if "…" in phrase else literal).append(phrase)
    parts = [re.escape(p).replace("…", gap) for p in sorted(gapped, key=len, reverse=True)]
    return re.compile("|".join([*parts, longest_match_pattern(literal)]))


@cache
def _feeling_words() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((f.feeling, re.compile("|".join(map(re.escape, map(fold, f.words))))) for f in knowledge.feelings())


def voiced(folded: str) -> frozenset[str]:
    """Feelings that a folded text voices."""
    return frozenset(name for name, pattern in _feeling_words() if pattern.search(folded))


def find(c: Consultation) -> list[Finding]:
    """Findings on warmth."""
    if not c.genuine:
        return []
    found = [Finding("语气平和地作答", 0.35, EMPATHY, 0, 0, _RULE)]
    found += _warm_clauses(c)
    if len(found) == 1:
        # Nothing said back in full; a feeling at least named is more than none.
        for match in list(_FEELING_RE.finditer(_IMPERATIVE.sub(lambda m: "·" * len(m[0]), c.a)))[:2]:
            if c.counts(match.start()) and len(match[0]) >= 2:
                found.append(Finding("提到感受", 0.05, EMPATHY, *match.span(), _RULE))
    found += _stock(c)
    found += apply(_AFFIRM, c, EMPATHY)
    found += _questions(c)
    found += apply(_ORDERED, c, EMPATHY)
    if re.search(r"您|你", c.a):
        found.append(Finding("以“您”相称，直接对话", 0.08, EMPATHY, 0, 0, _RULE))
    for group in (_COLD, _BLAME, _FALSE):
        for f in apply(group, c, EMPATHY, prose_only=False):
            if not _DEFENDED.search(c.a[max(0, f.start - 10) : f.start]):
                found.append(f)
    return found


def _is_instruction(text: str) -> bool:
    """请…, 建议…, 如果…, 不要…: what to do, not what is felt."""
    return bool(
        re.match(
            r"(?:请|建议|如果|要是|一旦|可以|先|需要|应该|不要|别|避免|或者?|查|做|平时|每天|出现|若|以免|防止|医生|"
            r"这个?药|同时|必要时)",
            text,
        )
    )


def _warm_clauses(c: Consultation) -> list[Finding]:
    """Clauses that say a feeling back, strongest where they hold the asker's own matter."""
    pairs = {p for p in bigrams(c.q) if p not in _COMMON_PAIRS}
    asked = voiced(c.q)
    found: list[Finding] = []
    sentences: dict[int, list[Clause]] = {}
    for clause in c.clauses:
        sentences.setdefault(clause.sentence, []).append(clause)
    for clauses in sentences.values():
        text = _IMPERATIVE.sub("", c.a[clauses[0].start : clauses[-1].end])
        if not any(k.worth in ("prose", "echo") for k in clauses):
            continue
        hits = [
            k
            for k in clauses
            if not _is_instruction(k.text)
            and (
                _FEELING_RE.search(_IMPERATIVE.sub("", k.text))
                or _SEEN.search(k.text)
                or _table("strong").search(k.text)
            )
        ]
        feels = [k for k in hits if _FEELING_RE.search(_IMPERATIVE.sub("", k.text))]
        seen = [k for k in hits if _SEEN.search(k.text)]
        strong = _table("strong").search(text)
        plain = _PLAINLY_SEEN.search(text)
        together = any(abs(clauses.index(f) - clauses.index(s)) <= 1 for f in feels for s in seen)
        if not together and not strong and not plain:
            if not _mirrors(text, clauses, pairs):
                continue
            found.append(
                Finding("回应提问者的处境", 0.4 * 0.6 ** len(found), EMPATHY, clauses[0].start, clauses[-1].end, _RULE)
            )
            continue
        if (
            _medical(text)
            and not strong
            and not re.search(r"难怪|换作|换成|换谁|谁都|我(?:能)?(?:懂|明白|理解)|理解|体会|心里|不容易|辛苦", text)
        ):
            continue
        if any(rx.search(text) for rx in (_BLAME[0].pattern, _COLD[0].pattern, _COLD[1].pattern)) and not strong:
            continue
        own = bigrams(text) & pairs
        tied = len(own) >= 2 or bool(asked & voiced(text))
        specific = len(bigrams(text)) >= 9
        points = 0.55 + 0.25 * min(3, len(feels)) * (1 if specific else 0.5)
        if not specific and not tied:
            points = 0.35
        criterion = "体会提问者的感受"
        if not together:
            points = 0.4
        if tied and (feels or plain):
            points += 0.4
            criterion = "体会提问者的感受，并联系到所说的处境"
        first = hits[0] if hits else clauses[0]
        found.append(Finding(criterion, points * 0.6 ** len(found), EMPATHY, first.start, clauses[-1].end, _RULE))
        if len(found) == 4:
            break
    return found


_SOFT = re.compile(
    r"一定|大概|想必|恐怕|真(?:的|是|难|让)?|太|最|谁|哪(?:个|能|有)|反复|整(?:夜|天|个)|越|明明|偏偏|还要|又|却|"
    r"肯定|多少|心里|脑子里|这句话|这几个字|这件事|那种|那一下|一下子|舍不得|不容易|吧"
)


def _mirrors(text: str, clauses: list[Clause], pairs: set[str]) -> bool:
    """A sentence that tells the asker's situation back, softly, without advice or numbers."""
    if (
        len(text) < 12
        or _medical(text)
        or any(_is_instruction(k.text) for k in clauses)
        or re.search(r"\d|一般|通常|正常|治疗|药|需要|建议|应|要查|请|等待", text)
    ):
        return False
    return ((shared := len(bigrams(text) & pairs)) >= 2 and len(_SOFT.findall(text)) >= 1) or (
        shared >= 1 and len(_SOFT.findall(text)) >= 3
    )


_COMMON_PAIRS = frozenset(
    [
        "怎么",
        "么办",
        "是不",
        "不是",
        "可以",
        "什么",
        "我的",
        "需要",
        "医生",
        "一个",
        "有点",
        "现在",
        "正常",
        "吗我",
        "了我",
        "这个",
        "还是",
        "要不",
        "不要",
        "能不",
        "不能",
    ]
)


def _medical(text: str) -> bool:
    """A sentence with a measured number or a plan in it is about the matter, not the feeling."""
    return bool(
        re.search(
            r"\d\s?(?:mg|mmol|mmhg|g\b|克|毫克|次|%|μmol|cm|mm|周|分钟|小时|天)|复查|复诊|就诊|考虑|排除|确诊|检查|"
            r"症状",
            text,
        )
    )


def _stock(c: Consultation) -> list[Finding]:
    """Phrases that fit anyone: the weak level, however many there are."""
    found: list[Finding] = []
    seen: set[str] = set()
    for match in _table("weak").finditer(c.a):
        if match[0] in seen or not c.counts(match.start()):
            continue
        seen.add(match[0])
        found.append(Finding(f"安慰套话：{match[0]}", 0.12 if len(found) < 2 else 0.02, EMPATHY, *match.span(), _RULE))
        if len(found) == 4:
            break
    return found


def _questions(c: Consultation) -> list[Finding]:
    found: list[Finding] = []
    for match in _EXPLORE_FEELING.finditer(c.a):
        if c.counts(match.start()):
            found.append(Finding("探询提问者的感受或处境", 0.6 * 0.5 ** len(found), EMPATHY, *match.span(), _RULE))
            if len(found) == 2:
                break
    asked = [m for m in _QUESTION_TO_ASKER.finditer(c.a) if c.counts(m.start())]
    if asked:
        found.append(Finding("关心地追问", 0.3 if not found else 0.15, EMPATHY, *asked[0].span(), _RULE))
    return found
