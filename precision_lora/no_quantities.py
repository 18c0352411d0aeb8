"""What looks like a number and is none: dates, telephone numbers, list numbers, counting words, parts of names."""

from __future__ import annotations

import re

from precision_lora import measures
from precision_lora.number_forms import CN

NO_QUANTITY = (
    r"(?:19|20)\d\d(?:-|/|\.)\d{1,2}(?:(?:-|/|\.)\d{1,2})?(?![\d.]|%)"
    r"|(?:19|20)\d\d年(?:\d{1,2}月(?:\d{1,2}[日号])?)?"
    r"|(?<!\d)\d{1,2}月(?:\d{1,2}[日号]|份|初|底|中旬)"
    r"|(?<!\d)\d{1,2}月(?!龄|大)"
    r"|(?<!\d)\d{1,2}:\d\d(?!\d)"
    r"|(?:早上|早晨|上午|中午|下午|傍晚|晚上|夜里|凌晨|今早|明早|昨晚|今晚)(?:\d{1,2}|[一二两三四五六七八九十]{1,3})点"
    r"(?:半|钟|整|\d{1,2}分?|[一二三四五六七八九十]{1,3}分?)?(?:-\d{1,2}点)?"
    r"|第(?:\d{1,4}|[一二三四五六七八九十百]{1,5})"
    r"|24小时(?=动态|尿|急诊|热线|服务|在线|值班|门诊|开放|心电)"
    r"|(?<!\d)[6-9012][05]后(?!\d)"
    r"|(?:400|800)-?\d{3,4}-?\d{3,4}(?!\d)|0\d{2,3}-\d{7,8}(?!\d)"
)
NOT_COUNTED = re.compile(
    r" ?(?:型|级|期|代|号|类|种|项|点|条|个(?!月|小时|星期|疗程|百分点|单位)|位|名|张|遍|家|件|大|招|句|题|组|版|"
    r"元|块|折|楼|层|床|室|路|章|节|页|届|胎|线|阶|"
    r"方面|尖瓣|甲医|甲|联|叉|角|药|度)"
)
_CALL_BEFORE = re.compile(
    r"(?:打|呼叫|叫|拨|电话|联系|立即|立刻|马上|赶紧|赶快|尽快|及时|急救|求助|拨通)[^。，,;；\d]{0,5}$"
)
_CALL_AFTER = re.compile(r" ?(?:急救|救护|电话|热线|/急诊|或急诊|或去急诊|并|接线|调度|送)")
_LIST_MARK = re.compile(r"(?:[.、)）](?!\d)| ?[.、] )")
_BEFORE_LIST = re.compile(r"(?:^|[\n。；;：:！!？?，, (（])[ \-*]*$")
_BLOCKED_CHINESE = frozenset(
    [
        "一度",
        "一分",
        "十分",
        "一步",
        "一口",
        "一成",
        "一次",
        "一时",
        "一级",
        "一线",
        "一支",
        "一粒",
        "一滴",
        "一身",
        "一家",
        "一米",
    ]
)
_ANOTHER_NUMBER = re.compile(rf"[^,，。;；、\n\d{CN}内后]{{0,6}}(?:\d|[{CN}半])")
_DAY_NAMES = frozenset("天日周年月")


def belongs_to_word(s: str, start: int) -> bool:
    """Whether the digits at ``start`` continue a Latin word or a longer number: B12, IL-6, 1.2.3."""
    before = s[start - 1]
    if before.isdigit() or (before == "." and start > 1 and s[start - 2].isdigit()):
        return True
    if (before.isascii() and before.isalpha()) or "α" <= before <= "ω":
        return True
    return before == "-" and start > 1 and (s[start - 2].isascii() and s[start - 2].isalpha())


def is_list_mark(s: str, start: int, end: int) -> bool:
    """Whether the one or two digits are an item number: 1. / 2、 / (3)."""
    if end - start > 2:
        return False
    mark = _LIST_MARK.match(s, end)
    if mark is None:
        return False
    return bool(_BEFORE_LIST.search(s, max(0, start - 6), start)) and not (
        s[end] in ")）" and s[max(0, start - 1) : start] not in ("(", "（", "\n", "", " ")
    )


def is_call(s: str, start: int, end: int, value: float) -> bool:
    """Whether the number is one that is dialled."""
    if value in (12356, 12320, 12355, 12345, 12338, 12333):
        return True
    if value not in (110, 112, 119, 120, 122, 999):
        return False
    return bool(_CALL_BEFORE.search(s, max(0, start - 9), start) or _CALL_AFTER.match(s, end))


def chinese_counts(
    s: str, start: int, plain_end: int, end: int, form: str, unit: str | None, low: float, after_name: bool
) -> bool:
    """Whether a Chinese numeral is a quantity and no part of a word."""
    if form == "pair":
        return True
    if s[start : start + 2] in _BLOCKED_CHINESE and form == "value":
        following = s[start + 2 : start + 3]
        return s[start : start + 2] in ("一支", "一粒", "一滴", "一口", "一米") and following not in ("", "直")
    if unit is not None:
        if start and s[start - 1] in "第某哪这那同每另有" and low == 1 and s[start] == "一":
            return False
        if s[start] == "半" and start and s[start - 1] in "一多大":
            return unit not in ("天",) or s[start - 1] != "多"
        return not (s[start] == "一" and low == 1 and s[end : end + 1] == s[end - 1 : end])
    if "点" in s[start:plain_end] and form in ("value", "range"):
        return s[end : end + 1] not in ("钟", "半", "分")
    if form == "range":
        return False
    said = measures.name_just_before(s, start)
    return (after_name or said) and low >= 10


def names_period(s: str, end: int) -> bool:
    """Whether the 一天/1日 that ends at ``end`` says 'per day' for the number behind it (一天三片), no span of time."""
    if s[end - 1] not in _DAY_NAMES and s[end - 2 : end] != "星期":
        return False
    return bool(_ANOTHER_NUMBER.match(s, end))


def after_digits(s: str, position: int) -> int:
    """Where a chain of digits and dashes ends."""
    while position < len(s) and (s[position].isdigit() or s[position] == "-"):
        position += 1
    return position
