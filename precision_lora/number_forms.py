"""Numbers and what stands around them: separators, units, comparators, the time or intake that they count for.

All functions take folded text (``numerals.fold``).
"""

from __future__ import annotations

import re

from precision_lora.numerals import DIGITS, SUPERSCRIPTS, chinese_number
from precision_lora.unit_forms import unit_forms

CN = "零〇一二两三四五六七八九十百千万"
ARABIC = r"(?:[½¼¾⅓⅔]|(?:\d{1,3}(?:,\d{3})++(?![\d])|\d{1,12}+)(?:\.\d{1,9}+)?)"
_VULGAR = {"½": 1 / 2, "¼": 1 / 4, "¾": 3 / 4, "⅓": 1 / 3, "⅔": 2 / 3}
CHINESE = rf"[{CN}]{{1,14}}+(?:点[{''.join(DIGITS)}]{{1,4}}+)?"
NUMBER = re.compile(rf"(?P<arabic>{ARABIC})|(?P<chinese>{CHINESE})")
SEPARATOR = re.compile(r" {0,2}(?:-{1,2}|至|到) {0,2}")
SLASH = re.compile(r" ?/ ?(?P<c>[≥≤<>]=?)? ?")
PLUS_MINUS = re.compile(r" ?(?:±|\+/-|\+-) ?")
SUFFIX = re.compile(
    r" ?(?:(?P<ge>(?:及|或|和)?以上|或更[高多])|(?P<lt>以下|或更[低少])|(?P<le>(?:及|或|和)以下|以内|之内)|"
    r"(?P<about>左右|上下))"
)
_POWER = re.compile(
    rf" ?[×x*·]? ?10 ?(?:\^|\*\*)? ?(?:\*)?(?P<power>[{''.join(SUPERSCRIPTS)}]{{1,2}}|\d{{1,2}})"
    r"(?P<per> ?(?:个)?/ ?(?:l|升|ml|毫升|μl|mm3|mm³)(?![a-z]))?"
)
_PER_AFTER = re.compile(
    r" ?(?:/|每) ?(?:(kg|公斤|千克) ?(?:/|每)? ?)?(日|天|d(?![a-z])|周|w(?![a-z])|月|次|顿|餐|h(?![a-z])|小时)?"
)
_PER_BEFORE = re.compile(
    r"(每日|每天|一天|一日|全天|日总量|24小时内?|每周|一周|每星期|每月|每次|一次|单次|每顿|每餐|每剂)(?:(?!次|bid|"
    r"qd|tid)[^\d,，。;；:\n]){0,10}$"
)
_PER_NAMES = {
    "每日": "天", "每天": "天", "一天": "天", "一日": "天", "全天": "天", "日总量": "天", "24小时": "天",
    "24小时内": "天",
    "日": "天", "天": "天", "d": "天", "每周": "周", "一周": "周", "每星期": "周", "周": "周", "w": "周",
    "每月": "月", "月": "月",
    "每次": "次", "一次": "次", "单次": "次", "每顿": "次", "每餐": "次", "每剂": "次", "次": "次", "顿": "次",
    "餐": "次",
    "h": "小时", "小时": "小时",
}  # fmt: skip
COMPARATORS = {"≥": ">=", "≤": "<=", ">": ">", "<": "<", ">=": ">=", "<=": "<=", "≈": "~", "=": None}
SAYING = {
    "大于等于": ">=", "大于或等于": ">=", "不低于": ">=", "不少于": ">=", "不小于": ">=", "至少": ">=", "最少": ">=",
    "满": ">=",
    "小于等于": "<=", "小于或等于": "<=", "不超过": "<=", "不高于": "<=", "不大于": "<=", "不多于": "<=",
    "至多": "<=", "最多": "<=",
    "大于": ">", "高于": ">", "超过": ">", "多于": ">", "超出": ">",
    "小于": "<", "低于": "<", "少于": "<", "不到": "<", "未满": "<", "不满": "<", "不足": "<",
    "约": "~", "大约": "~", "大概": "~", "将近": "~", "接近": "~", "近": "~", "差不多": "~", "约为": "~",
}  # fmt: skip
for _not in (
    "不能",
    "不要",
    "不可",
    "不得",
    "不应",
    "不应该",
    "不宜",
    "不可以",
    "别",
    "勿",
    "请勿",
    "切勿",
    "未",
    "没",
    "没有",
    "不会",
    "不再",
):
    SAYING |= {_not + word: "<=" for word in ("超过", "高于", "大于", "多于")}
    SAYING |= {_not + word: ">=" for word in ("低于", "少于", "小于")}
SAYING |= {word + tail: sign for word, sign in list(SAYING.items()) for tail in ("了", "到") if sign != "~"}
_LONGEST_SAYING = max(map(len, SAYING))
# 近 and 约 are comparators only where they do not end a word: 最近3天, 预约3天.
_NO_COMPARATOR_BEFORE = {"近": "最附靠临", "约": "预制节大", "满": "不未圆"}


def number_at(s: str, position: int) -> tuple[float, int, bool] | None:
    """(value, end, is Chinese) of the number at ``position``."""
    match = NUMBER.match(s, position)
    if match is None:
        if s.startswith("半", position):
            return 0.5, position + 1, True
        return None
    end = match.end()
    if match["arabic"] is not None:
        word = match["arabic"]
        value = _VULGAR.get(word) or float(word.replace(",", ""))
        if s.startswith(("万", "亿"), end):
            value *= 10_000 if s[end] == "万" else 100_000_000
            end += 1
        return value, end, False
    number = chinese_number(match["chinese"])
    return None if number is None else (number, end, True)


def several_at(s: str, start: int, end: int) -> tuple[float, float] | None:
    """两三(天), 七八(十): two neighbouring digits as a range."""
    word = s[start:end]
    if len(word) == 2 and all(c in DIGITS for c in word) and 0 < DIGITS[word[0]] < DIGITS[word[1]]:
        return float(DIGITS[word[0]]), float(DIGITS[word[1]])
    return None


def unit_at(s: str, position: int, value: float) -> tuple[str, int] | None:
    """(canonical unit, end) of the longest unit form at ``position``, at most two blanks on."""
    for _ in range(2):
        if s.startswith(" ", position):
            position += 1
    # (3.5-9.5)×10⁹/L: the bracket closes before the unit.
    power = _POWER.match(s, position + 1 if s.startswith(")", position) else position)
    if power and power["per"]:
        exponent = "".join(SUPERSCRIPTS.get(c, c) for c in power["power"])
        litre = power["per"].replace(" ", "").lstrip("个/")
        unit = unit_forms().by_form.get(f"10^{exponent}/{litre}")
        if unit:
            return unit, power.end()
    table = unit_forms()
    for length in range(min(table.longest, len(s) - position), 0, -1):
        form = s[position : position + length]
        unit = table.by_form.get(form)
        if unit is None:
            continue
        end = position + length
        if form[-1].isascii() and form[-1].isalpha() and end < len(s) and s[end].isascii() and s[end].isalpha():
            continue
        if form == "度" and not 34 <= value <= 43:
            continue
        return unit, end
    return None


def comparator_before(s: str, original: str, start: int) -> tuple[str | None, int]:
    """(comparator, where it begins) of what stands before the number at ``start``."""
    position = start
    while position and start - position < 2 and s[position - 1] == " ":
        position -= 1
    for length in (2, 1):
        sign = s[max(0, position - length) : position]
        if len(sign) == length and sign in COMPARATORS:
            return (COMPARATORS[sign], position - length) if sign != "=" else (None, start)
    if position and original[position - 1] in "~～∼˜" and (position == 1 or not s[position - 2].isalnum()):
        return "~", position - 1
    for length in range(min(_LONGEST_SAYING, position), 0, -1):
        word = s[position - length : position]
        if word in SAYING:
            first = position - length
            if first and s[first - 1] in _NO_COMPARATOR_BEFORE.get(word, ""):
                return None, start
            if SAYING[word] in (">", "<") and s[max(0, first - 1) : first] == "否":
                return None, start  # 是否超过: a question, no bound
            return SAYING[word], first
    return None, start


def bounds_of(sign: str | None, low: float, high: float) -> tuple[float | None, float | None]:
    """(lowest, highest) that ``low`` to ``high`` behind comparator ``sign`` stands for; None is an open end."""
    if sign in (">=", ">"):
        return low, None
    if sign in ("<=", "<"):
        return None, high
    return low, high


def period_around(s: str, start: int, end: int) -> tuple[str | None, str, int]:
    """(time or intake that the amount counts for, unit tail such as /kg, end)."""
    after = _PER_AFTER.match(s, end)
    if after and (after[1] or after[2]):
        slashed = s[end : after.end()].lstrip()[0] == "/"
        # 5mg每日一次: the 每日 belongs to the frequency that follows.
        if slashed or not re.match(r"[^,，。;；]{0,6}次", s[after.end() : after.end() + 8]):
            return _PER_NAMES.get(after[2] or ""), "/kg" if after[1] else "", after.end()
    before = _PER_BEFORE.search(s, max(0, start - 16), start)
    return (_PER_NAMES[before[1]] if before else None), "", end


def is_minus(s: str, original: str, start: int) -> bool:
    """Whether the dash before ``start`` is a minus, not a range's or a name's; ``original`` is the unfolded text."""
    if not start or s[start - 1] != "-" or original[start - 1] in "~～∼˜—–":
        return False
    return start == 1 or s[start - 2] in " :=(,，≤≥<>值为是分"
