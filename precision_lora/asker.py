"""What the question says about the person: sex, age, circumstances, measured values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from precision_lora.negation import polarity
from precision_lora.number_forms import several_at
from precision_lora.numerals import chinese_number
from precision_lora.quantities import Quantity, find

_MALE = re.compile(
    r"男性|男[,，、 ]|男孩|男的|先生|父亲|爸爸|我爸|爷爷|外公|姥爷|老公|丈夫|儿子|老头|大叔|男友|男朋友|前列腺|"
    r"睾丸|哥哥|弟弟|叔叔|男\d|岁男|老伴儿?他|(?<=\d)\s*[,，]?\s*男(?!孩|友)|[（(]男|男[)）]"
)
_FEMALE = re.compile(
    r"女性|女[,，、 ]|女孩|女的|女士|母亲|妈妈|我妈|奶奶|外婆|姥姥|老婆|妻子|女儿|阿姨|女友|女朋友|月经|怀孕|孕妇|"
    r"孕期|哺乳|绝经|更年期|产后|姐姐|妹妹|闺女|女\d|岁女|孕\d|(?<=\d)\s*[,，]?\s*女(?!孩|友)|[（(]女|女[)）]"
)
_CHILD = re.compile(r"宝宝|孩子|小孩|婴儿|新生儿|小朋友|娃(?!娃)|幼儿|儿童|小宝|满月")
_PREGNANT = re.compile(
    r"怀孕(?!前)|怀(?:了|着)|孕(?:早期|中期|晚期|期|妇|\d|[一二三四五六七八九十])|妊娠|有喜|有孕|身孕|双胞胎肚"
)
_LATE_PREGNANT = re.compile(r"孕晚期|晚孕|快生了|预产期")
_LACTATING = re.compile(r"哺乳|喂奶|母乳|奶娃")
_MONTHS_OLD = re.compile(
    r"(\d{1,2}|[一二两三四五六七八九十]{1,3})个(?:多|半)?月(?:大|的?(?:宝宝|孩子|婴儿|娃))|(\d{1,2})月龄"
)


@dataclass(frozen=True)
class Asker:
    """The person that the question is about; None and False where it does not say.

    ``age`` in years, ``weeks`` of pregnancy, ``quantities`` the numbers of the question.
    """

    text: str
    sex: str | None
    age: float | None
    child: bool
    pregnant: bool
    weeks: float | None
    lactating: bool
    quantities: tuple[Quantity, ...]

    def says(self, pattern: str) -> bool:
        """Whether the question mentions ``pattern`` (a regular expression) without denying it."""
        return mentioned(pattern, self.text)


_FEARED = re.compile(
    r"(?:会不会|要不要|能不能|是不是会|会引起|会导致|会得|变成|发展成|害?怕|担心|听说|预防|避免|万一|以防|有的人|"
    r"别人|查不查|像不像|是不是?)[^,，。；;！!？?\n]{0,8}$"
)


def mentioned(pattern: str | re.Pattern[str], text: str) -> bool:
    """Whether ``text`` has a match that it neither denies nor merely asks about or fears."""
    return any(m.end() > m.start() and is_stated(text, *m.span()) for m in re.finditer(pattern, text))


def is_stated(text: str, start: int, end: int) -> bool:
    """Whether the asker says that text[start:end] is so: it is neither denied nor feared (会不会抽风)."""
    return polarity(text, start, end) != "negated" and not _FEARED.search(text, max(0, start - 16), start)


def _months(word: str) -> float | None:
    """The months that ``word`` counts, the fewer of 七八; None where it is no number (二三十)."""
    if word.isdigit():
        return float(word)
    several = several_at(word, 0, len(word))
    return several[0] if several else chinese_number(word)


@lru_cache(maxsize=256)
def read_asker(question: str) -> Asker:
    """The asker of ``question``."""
    quantities = tuple(find(question))
    male, female = bool(_MALE.search(question)), bool(_FEMALE.search(question))
    ages = [
        q.low if q.low is not None else q.high
        for q in quantities
        if q.measures == "age" and q.form in ("value", "range")
    ]
    age = next((a for a in ages if a is not None), None)
    if age is None and (months := _MONTHS_OLD.search(question)):
        number = _months(months[1] or months[2])
        age = None if number is None else number / 12
    pregnant = mentioned(_PREGNANT, question) and not re.search(
        r"备孕|准备怀孕|想怀孕|没(?:有)?怀孕|打算怀孕", question
    )
    weeks = next(
        (
            q.low
            for q in quantities
            if q.unit in ("周", "孕周") and q.low is not None and "孕" in question[max(0, q.start - 4) : q.end + 2]
        ),
        None,
    )
    if weeks is None and pregnant and _LATE_PREGNANT.search(question):
        weeks = 32.0
    child = (age is not None and age < 14) or (age is None and bool(_CHILD.search(question)) and not pregnant)
    sex = "female" if pregnant else "male" if male and not female else "female" if female and not male else None
    return Asker(question, sex, age, child, pregnant, weeks, mentioned(_LACTATING, question), quantities)
