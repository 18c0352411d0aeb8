"""An answer read once for all indicators: clauses and their worth, terms, quantities, what the question is about.

Only clauses that say something count. A clause that repeats the question, repeats an earlier clause, lists words,
strings numbers together or is no Chinese sentence earns nothing anywhere: that is what makes pasted text worthless.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import cache

from precision_lora import knowledge, quantities
from precision_lora.indicators import topics
from precision_lora.indicators.plausibility import plausibility
from precision_lora.lexicon import inside_latin_word, longest_match_pattern
from precision_lora.numerals import fold
from precision_lora.quantities import Quantity

# Beyond this an answer is not read: nobody reads on, and a scorer must not hang on 100 kB.
MAX_CHARACTERS = 12_000

_BOUNDARY = re.compile(r"[。！？!?；;，,\n：:]")
_SENTENCE_END = re.compile(r"[。！？!?；;\n]")
_LETTER = re.compile(r"[\u4e00-\u9fffa-z0-9]")
_NO_LETTER = re.compile(r"[^\u4e00-\u9fffa-z0-9]+")
_HAN = re.compile(r"[\u4e00-\u9fff]")
# The small words that turn nouns into statements.
_GLUE = frozenset(
    "的了是在有和就不也很都要会可以如果能到把被让给再先后前上下每吃做查测看用说为对从及过得着没别您你我他她它这那个些请并因所但还"
    "又才只需应该当或与则由向跟比更最太已经将于其之至若即使曾吗呢吧啊像叫打去来走喝睡停换减加控属考虑警惕排除提示建议控制多少高低伴加含合指叫以致使需见包括称种位结多为"
)  # fmt: skip
_BAD_START = re.compile(r"^[的了吗呢吧]")
_BAD_END = re.compile(r"(?:[和与或把被从向及每很]|如果|因为|虽然|而且|但是|建议您|并且|以及|不要|已经)$")
_BAD_INSIDE = re.compile(r"的的|了的了|和的|把的|很的|不的|也的|与的|或的|您的您|和和|吗的|呢的|的和了|会的要")
_LEAD_IN = re.compile(r"^(?:您|你)?(?:问|的问题是?|提问|说|想问的?是?|问的是?|咨询的?是?)$")
# Marks that no writer puts side by side; shuffled text does.
_ODD_MARKS = re.compile(
    r"[，,；;：:、][，,。；;：:、！？]|[。！？][，,；;：:、]|^[，,。；;：:、]|\.[，。；]|[，。；]\."
)
# No Chinese clause of good prose runs this long without a mark.
_LONGEST_RUN = 34
_CALCULATION = re.compile(r"\d\s*[÷×*/]\s*(?:\d[\d.]*|[（(][^）)]*[）)])[^，。]*[=≈]")
# Mean mutual information of neighbouring characters below which a text is shuffled, see ``plausibility``.
_IMPLAUSIBLE = -0.45
_OPENER = re.compile(
    r"第[一二三四五六]|首先|其次|再次|最后|另外|此外|还有|再有|同时|平时|好的|您好|你好|其一|其二|先|再|然后|记住|"
    r"是的|对|不能|可以|不行|需要|高|低"
)
_JOINTS = re.compile(r"[是的与和就要会起为了在不或有能以也被把从到]")
_RELATION = re.compile(
    r"包括|提示|引起|说明|考虑|需要|分为|常见|属于|反映|排除|导致|是[\u4e00-\u9fff]{3}|建议|可以|多为|用于|之间|"
    r"应该|不要|避免|是|[^必急]需|确认|判断|高于|低于|可能性|≈|[一1两3半]个?[年月周]后?复?查|每[日天周晚]一次|若"
)
# Verbs of terse clinical writing; they count only outside of terms (抑制剂 and 诊断学 state nothing).
_VERB = re.compile(
    r"需|升高|降低|减低|增加|减少|提高|支持|符合|见于|反映|诊断|评估|检测|复查|抑制|改善|缓解|产生|形成|起效|累及|压迫|"
    r"确认|确诊|鉴别|判断|排查|造成|诱发|加重|转为|改用|加用|首选|停用|避开|避免|监测|随访|查|行|测|予|宜|忌|做|"
    r"高于|低于|大于|小于|达|呈|示|为|致|指|即|后|时|可|应|若|未"
)
_RUN = re.compile(r"[\u4e00-\u9fffa-z0-9.%/\-~+<>≥≤=×^±°℃⁹]+")
_COMMON = ["可以", "建议", "如果", "需要", "因为", "所以", "但是", "这个", "您的", "一个", "没有", "不要", "不能",
    "可能", "应该", "出现", "考虑", "就是", "还是", "一般", "比较", "已经", "自己", "时候", "什么", "怎么", "我们",
    "每天", "每周", "复查", "检查", "医院", "医生", "及时", "马上", "立即", "情况", "属于", "超过", "高于", "低于",
    "正常", "范围", "偏高", "注意", "避免", "控制", "方案", "治疗", "担心", "不用", "不会", "不是", "也要", "也不",
    "的话", "了解", "以上", "以下", "之后", "之前", "一次", "两次", "起来", "出来", "下来", "容易", "引起", "导致",
    "说明", "提示", "排除", "明确", "确认", "确诊", "诊断", "就诊", "就医", "复诊", "的人", "的药", "不好", "都会",
    "都是", "还有", "或者", "以及", "如何", "这样", "那种", "一定", "真的", "很多", "最好", "先做", "再查", "再看",
    "之间", "左右", "至少", "不超", "不到", "多数", "常见", "的是", "是否", "好了", "的情", "一下", "一直", "看看",
    "吃药", "用药", "停药", "医嘱", "症状", "疾病", "问题", "结果", "指标", "标准", "之一", "主要", "预防", "危险",
    "身体", "休息", "睡前", "饭后", "早上", "晚上", "小时", "分钟", "一起", "慢慢", "理解", "心里", "难受",
    "紧张", "害怕", "反应", "不同", "同时", "目前", "现在", "继续", "坚持", "开始", "减少", "增加", "具体",
    "作用", "影响", "感觉", "疼痛", "不适", "方面", "生活", "运动", "饮食", "清淡", "多喝", "少吃", "没事", "不了",
    "没关", "不高", "不低", "不行", "还行", "的确", "算高", "去看", "先别", "别急", "拖", "打120", "尽快", "肯定",
    "几天", "怎样", "愿意", "孩子", "宝宝", "家里", "有人", "真是", "多久", "别人", "换谁", "这么", "那么", "着急",
    "一边", "身边", "告诉", "说说", "知道", "觉得", "听到", "看到", "看着", "有点", "一样", "最近", "平时", "今天",
    "明天", "多为", "符合", "之类", "那个", "东西", "也许", "反正", "不少", "不太", "有些", "只要", "只是",
    "不过", "其实", "当然", "原来", "突然", "经常", "总是", "每次", "一会", "再说", "一点", "以前", "好多", "这种",
    "难免", "谁都", "多见"]  # fmt: skip


@dataclass(frozen=True)
class Clause:
    """A stretch between commas; ``sentence`` numbers the sentence that it belongs to. ``worth``: "prose", or why
    it earns nothing: "echo", "repeat", "list", "numbers", "broken"."""

    start: int
    end: int
    text: str
    sentence: int
    worth: str


@dataclass(frozen=True)
class Mention:
    """A medical term in the answer, by its entry."""

    start: int
    end: int
    term: knowledge.Term
    written: str


@dataclass(frozen=True)
class Consultation:
    """Question and answer, read. ``q``/``a`` are folded, one character for one. ``genuine`` is false for what is no
    answer at all, ``reason`` then says why in Chinese."""

    question: str
    answer: str
    q: str
    a: str
    clauses: tuple[Clause, ...]
    starts: tuple[int, ...]
    mentions: tuple[Mention, ...]
    asked_terms: frozenset[str]
    quantities: tuple[Quantity, ...]
    asked: tuple[Quantity, ...]
    about: frozenset[str]
    around: frozenset[str]
    genuine: bool
    reason: str

    def clause_at(self, position: int) -> Clause:
        """The clause that holds a character."""
        return self.clauses[max(0, bisect_right(self.starts, position) - 1)]

    def counts(self, position: int) -> bool:
        """Whether what stands at a character may earn points."""
        return bool(self.clauses) and self.clause_at(position).worth == "prose"

    def sentence_span(self, position: int) -> tuple[int, int]:
        """(start, end) of the sentence around a character."""
        here = max(0, bisect_right(self.starts, position) - 1)
        first = last = here
        while first and self.clauses[first - 1].sentence == self.clauses[here].sentence:
            first -= 1
        while last + 1 < len(self.clauses) and self.clauses[last + 1].sentence == self.clauses[here].sentence:
            last += 1
        return self.clauses[first].start, self.clauses[last].end


@cache
def term_table() -> tuple[re.Pattern[str], dict[str, knowledge.Term]]:
    """Pattern of all terms and aliases in folded text, and the entry of each."""
    words: dict[str, knowledge.Term] = {}
    for entry in knowledge.terms():
        words[fold(entry.term)] = entry
    for entry in knowledge.terms():
        for alias in entry.aliases:
            words.setdefault(fold(alias), entry)
    for drug in knowledge.drugs():
        entry = knowledge.Term(drug.name, "high", "drug", drug.aliases, drug.source)
        for name in (drug.name, *drug.aliases):
            words.setdefault(fold(name), entry)
    return re.compile(longest_match_pattern(words)), words


@cache
def _comfort_pattern() -> re.Pattern[str]:
    literal = [fold(p.phrase) for p in knowledge.empathy() if "…" not in p.phrase]
    return re.compile(longest_match_pattern(literal))


def find_terms(folded: str) -> list[Mention]:
    """Terms of the table in folded text, the longest at each place."""
    pattern, words = term_table()
    found = []
    for match in pattern.finditer(folded):
        start, end = match.span()
        word = match[0]
        if inside_latin_word(folded, start, end):
            continue
        found.append(Mention(start, end, words[word], word))
    return found


def _same_speaker(text: str) -> str:
    return "".join(_LETTER.findall(text.replace("您", "你").replace("我", "你")))


def bigrams(text: str) -> set[str]:
    """Pairs of neighbouring letters, speaker and listener made the same."""
    letters = _same_speaker(text)
    return {letters[i : i + 2] for i in range(len(letters) - 1)}


def _letters(text: str) -> int:
    return len(_LETTER.findall(text))


def _mask(text: str, *patterns: re.Pattern[str]) -> bytearray:
    """1 for every letter that lies in a match of any of the patterns."""
    marked = bytearray(len(text))
    for pattern in patterns:
        for match in pattern.finditer(text):
            start, end = match.span()
            marked[start:end] = b"\1" * (end - start)
    for match in _NO_LETTER.finditer(text):
        start, end = match.span()
        marked[start:end] = bytes(end - start)
    return marked


def _share(mask: bytearray, start: int, end: int, letters: int) -> float:
    return sum(mask[start:end]) / letters if letters else 0.0


def _glue_share(text: str) -> float:
    han = _HAN.findall(text)
    return sum(c in _GLUE for c in han) / len(han) if han else 0.0


def _self_repeating(text: str) -> bool:
    letters = "".join(_LETTER.findall(text))
    if len(letters) < 10:
        return False
    pairs = [letters[i : i + 2] for i in range(len(letters) - 1)]
    return len(set(pairs)) / len(pairs) < 0.55


_DIGITS_AND_UNITS = re.compile(
    r"[\d.\-/~±×^%≥≤<>=+()（）℃°]|mmol|mmhg|mg|dl|kg|ml|μmol|umol|iu|[lgdmh]|毫摩尔?|毫克|毫升|毫米汞柱|"
    r"[克升天周月次片年岁]"
)


def _worth(text: str, covered: int, question_bigrams: set[str], question_letters: str, seen: set[str]) -> str:
    stripped = _same_speaker(text)
    if not stripped:
        return "broken"
    if stripped in seen:
        return "repeat"
    if _self_repeating(text):
        return "repeat"
    own = bigrams(text)
    if _LEAD_IN.search(text) or (len(stripped) >= 4 and stripped in question_letters):
        return "echo"
    if len(stripped) >= 7 and question_bigrams and len(own & question_bigrams) / len(own) >= 0.8:
        return "echo"
    if len(stripped) >= 4 and not _HAN.search(_DIGITS_AND_UNITS.sub("", text)) and not _CALCULATION.search(text):
        return "numbers" if re.search(r"\d", text) else "broken"
    cover = covered / len(stripped)
    if "、" in text or " " in text.strip():
        items = [i for i in re.split(r"[、\s]+", text) if i]
        glue = _glue_share(text)
        if (len(items) >= 5 and cover >= 0.62 and glue < 0.12) or (len(items) >= 9 and cover >= 0.5 and glue < 0.2):
            return "list"
    elif len(stripped) >= 8 and cover >= 0.9 and _glue_share(text) < 0.05:
        return "list"
    if len(stripped) > _LONGEST_RUN and max(map(len, _RUN.findall(text))) > _LONGEST_RUN:
        return "broken"
    if len(stripped) >= 5 and (_BAD_START.search(text) or _BAD_END.search(text) or _BAD_INSIDE.search(text)):
        return "broken"
    return "prose"


def _clauses(a: str, terms: bytearray, question_bigrams: set[str], question_letters: str) -> tuple[Clause, ...]:
    found: list[Clause] = []
    seen: set[str] = set()
    start = sentence = 0
    ends = [m.start() for m in _BOUNDARY.finditer(a)] + [len(a)]
    for end in ends:
        raw = a[start:end]
        text = raw.strip()
        if text:
            begin = start + len(raw) - len(raw.lstrip())
            worth = _worth(text, sum(terms[begin : begin + len(text)]), question_bigrams, question_letters, seen)
            found.append(Clause(begin, begin + len(text), text, sentence, worth))
            stripped = _same_speaker(text)
            if len(stripped) >= 4:
                seen.add(stripped)
        if end < len(a) and _SENTENCE_END.match(a[end]):
            sentence += 1
        start = end + 1
    return _mark_lists(found, terms)


def _mark_lists(clauses: list[Clause], terms: bytearray) -> tuple[Clause, ...]:
    """Runs of four or more clauses that are hardly more than a term each are a list, too."""
    bare = [
        c.worth == "prose"
        and (n := _letters(c.text)) <= 9
        and _share(terms, c.start, c.end, n) >= 0.75
        and _glue_share(c.text) <= 0.34
        for c in clauses
    ]
    out = list(clauses)
    i = 0
    while i < len(clauses):
        j = i
        while j < len(clauses) and bare[j]:
            j += 1
        if j - i >= 4:
            for k in range(i, j):
                c = clauses[k]
                out[k] = Clause(c.start, c.end, c.text, c.sentence, "list")
        i = max(j, i + 1)
    return tuple(out)


_OPERATOR = re.compile(r"[=≈÷×<>≥≤+]|约|换")
_SPACED = re.compile(r"[\u4e00-\u9fff] +[\u4e00-\u9fff]")
_MARK = re.compile(r"[，,。；;：:！？!?\s]+")


def _terse(a: str, letters: int, terms: bytearray, clauses: tuple[Clause, ...]) -> bool:
    """Whether a text is short clinical writing: few clauses of some length, no bare list, no string of keywords."""
    if letters > 70 or not 1 <= len(clauses) <= 7 or _SPACED.search(a) or a.count("、") > 5:
        return False
    if any(c.worth in ("repeat", "echo", "broken") for c in clauses):
        return False
    if letters / len(clauses) < 5.5 or (len(clauses) == 1 and letters > 14):
        return False
    texts = [t for t in _MARK.split(a) if _HAN.search(t)]
    if len(texts) >= 4 and sum(map(len, texts)) / len(texts) < 4.2:
        return False
    units = _mask(a, _DIGITS_AND_UNITS)
    plain = sum(1 for i, ch in enumerate(a) if not terms[i] and not units[i] and _HAN.match(ch))
    calculated = bool(re.search(r"\d", a)) and bool(_OPERATOR.search(a)) and bool(_HAN.search(a))
    return plain >= max(2, letters // 14) or calculated


def _judge(a: str, terms: bytearray, clauses: tuple[Clause, ...], question_bigrams: set[str]) -> tuple[bool, str]:
    """(is this an answer at all, why not)."""
    letters = _letters(a)
    if letters == 0:
        return False, "回答为空"
    han = len(_HAN.findall(a))
    if han >= 2 and _terse(a, letters, terms, clauses):
        likely, pairs = plausibility(a)
        own = bigrams(a)
        echoed = letters >= 8 and question_bigrams and len(own & question_bigrams) / max(1, len(own)) >= 0.72
        if not echoed and (pairs < 8 or likely >= _IMPLAUSIBLE):
            return True, ""
    if han < 2 or han / letters < 0.25:
        return False, "没有中文内容" if han < 2 or not re.search(r"\d", a) else "只有数字，没有说明"
    prose = [c for c in clauses if c.worth == "prose"]
    good = sum(_letters(c.text) for c in prose)
    if good / letters < 0.4:
        worths = {
            w: sum(_letters(c.text) for c in clauses if c.worth == w)
            for w in ("echo", "repeat", "list", "numbers", "broken")
        }
        names = {
            "echo": "只是复述问题",
            "repeat": "反复重复",
            "list": "罗列词语",
            "numbers": "只有数字，没有说明",
            "broken": "语句不成文",
        }
        return False, names[max(worths, key=lambda w: worths[w])]
    listed = sum(_letters(c.text) for c in clauses if c.worth in ("list", "numbers"))
    measured = _mask(a, _DIGITS_AND_UNITS)
    for i, mark in enumerate(terms):
        measured[i] |= mark
    cover, of_terms = sum(measured) / letters, sum(terms) / letters
    comfort = _mask(a, _comfort_pattern())
    if letters >= 18 and len(_RUN.findall(a)) <= 1 and len(_JOINTS.findall(a)) <= letters // 20 and cover >= 0.55:
        return False, "罗列词语"
    if listed / letters >= 0.35:
        return False, "罗列词语"
    own = bigrams(a)
    if letters >= 8 and question_bigrams and len(own & question_bigrams) / max(1, len(own)) >= 0.72:
        return False, "只是复述问题"
    if _self_repeating(a) and letters >= 20 and len(own) < 0.45 * letters:
        return False, "反复重复"
    glue = _glue_share(a)
    runs = _RUN.findall(a)
    stated = _RELATION.search(a) and a.count("、") <= 5
    bare = (letters >= 12 and glue < 0.05) or (letters >= 16 and cover >= 0.62 and glue < 0.12 and len(runs) >= 5)
    outside = "".join("·" if mark else ch for ch, mark in zip(a, terms, strict=True))
    if bare and not stated and (listed or len(_VERB.findall(outside)) < 1 + letters // 30):
        return False, "罗列词语"
    average = sum(map(len, runs)) / max(1, len(runs))
    if stated and listed == 0 and re.search(r"若|如果|可能性", a) and not _SPACED.search(a):
        # A terse judgement names tests one after another.
        average *= 1.1
    if len(runs) >= 6 and average < (3.0 if len(re.findall("[:：]", a)) >= 2 else 4.2):
        return False, "罗列词语"
    if letters >= 30 and sum(comfort) / letters >= 0.5 and not _answers(prose, comfort, question_bigrams):
        return False, "只有安慰套话的堆砌"
    likely, pairs = plausibility(a)
    if pairs >= 14 and likely < _IMPLAUSIBLE:
        return False, "语句不成文"
    if letters >= 20:
        # Shuffled characters break both terms and common words.
        common = sum(a.count(word) for word in _COMMON) / letters
        if common < (0.025 if letters >= 40 else 0.001) and of_terms < 0.12:
            return False, "语句不成文"
    # A label before a colon (①饮食：…) is short by right.
    short = sum(
        _letters(c.text) <= 2 and a[c.end : c.end + 1] not in ("：", ":") and not _OPENER.match(c.text) for c in clauses
    )
    odd = len(_ODD_MARKS.findall(a))
    if odd >= 2 or (odd and (short or any(c.worth == "broken" for c in clauses))):
        return False, "语句不成文"
    if short >= 4 and short / len(clauses) >= 0.25:
        return False, "语句不成文"
    stock = sum(_letters(c.text) for c in prose if _share(comfort, c.start, c.end, _letters(c.text)) >= 0.6)
    if letters >= 30 and good < letters and (good - stock) / letters < 0.2:
        return False, "词语、数字和套话的堆砌"
    broken = sum(c.worth == "broken" for c in clauses) + len(_BAD_INSIDE.findall(a))
    if letters >= 16 and broken >= 2 and broken / letters >= 0.045:
        return False, "语句不成文"
    return True, ""


def _answers(prose: list[Clause], comfort: bytearray, question_bigrams: set[str]) -> bool:
    """Whether at least two clauses share something of substance with the question."""
    touching = 0
    for clause in prose:
        if _share(comfort, clause.start, clause.end, _letters(clause.text)) >= 0.5:
            continue
        shared = {b for b in bigrams(clause.text) & question_bigrams if not all(c in _GLUE for c in b)}
        touching += bool(shared)
    return touching >= 2


def read(question: str, answer: str) -> Consultation:
    """Read a question and its answer; any strings are fine, control characters are blanks."""
    answer = answer[:MAX_CHARACTERS]
    q, a = fold(_plain(question)), fold(_plain(answer))
    question_bigrams = bigrams(q)
    terms = _mask(a, term_table()[0])
    clauses = _clauses(a, terms, question_bigrams, _same_speaker(q))
    genuine, reason = _judge(a, terms, clauses, question_bigrams)
    if genuine and _terse(a, _letters(a), terms, clauses):
        clauses = tuple(replace(c, worth="prose") for c in clauses)
    about, around = topics.fields_of_question(q)
    asked_terms = find_terms(q)
    if any(m.term.category == "disease" and not topics.fields_of(fold(m.term.term)) for m in asked_terms):
        # The question is about something whose field is not known: anything may belong to it.
        about = around = frozenset()
    return Consultation(
        question=question,
        answer=answer,
        q=q,
        a=a,
        clauses=clauses,
        starts=tuple(c.start for c in clauses),
        mentions=tuple(find_terms(a)) if genuine else (),
        asked_terms=frozenset(m.term.term for m in asked_terms),
        quantities=tuple(quantities.find(_plain(answer))) if genuine else (),
        asked=tuple(quantities.find(_plain(question))),
        about=about,
        around=around,
        genuine=genuine,
        reason=reason,
    )


_CONTROL = {code: " " for code in [*range(9), 11, 12, *range(14, 32), 127, 0x200B, 0xFEFF, 0xFFFD]}


def _plain(text: str) -> str:
    return text.translate(_CONTROL)
