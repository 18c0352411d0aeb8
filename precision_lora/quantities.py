"""Numbers in Chinese medical text: every written form as value or range, comparator, unit and what is measured.

The text is folded one character to one (``numerals.fold``), so offsets always refer to the original. Atoms
(numbers, frequencies, things that only look like numbers) come from one compiled expression whose repeats are
possessive; what stands around an atom is looked up in dictionaries. Both are linear in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from precision_lora import measures as _measures
from precision_lora.numerals import DIGITS, SUPERSCRIPTS, chinese_number, fold
from precision_lora.unit_forms import convert, split_period, unit_forms


@dataclass(frozen=True)
class Quantity:
    """One written quantity.

    ``start``/``end``: character offsets in the original text, ``text`` what stands there, comparator and unit
    included. ``low``/``high``: in ``unit``; a value has low == high, an open side is None (≥7.0 is low 7.0,
    high None). ``second_low``/``second_high``: the diastolic part of a pair, or the SD of a mean.
    ``form``: value, range, pair, mean_sd, fraction or frequency. A frequency counts 次/天, 次/周, 次/月, 次/年, or
    时间/次 (2 天/次 is every other day); prn has neither low nor high. ``measures``: quantity id or generic drug
    name. ``per``: the time or intake that an amount counts for (天, 次, 周 …). ``parts``: the number spans of a
    pair that is written apart (高压140低压90), else empty.
    """

    start: int
    end: int
    text: str
    form: str
    comparator: str | None
    low: float | None
    high: float | None
    second_low: float | None = None
    second_high: float | None = None
    unit: str | None = None
    measures: str | None = None
    per: str | None = None
    parts: tuple[tuple[int, int], ...] = ()


_CN = "零〇一二两三四五六七八九十百千万"
_FREQUENCY_NUMBER = r"(?:\d{1,3}|[一二两三四五六七八九十]{1,3}|半)"
_SPAN = r"\s?(?:-{1,2}|至|到|、|或)\s?"


def _numbers(first: str, second: str) -> str:
    """Pattern of a number or a range of two, in groups of these names."""
    return rf"(?P<{first}>{_FREQUENCY_NUMBER})(?:{_SPAN}(?P<{second}>{_FREQUENCY_NUMBER}))?"


_DOING = (
    r"(?:[ ,、]?(?:口服|内服|晨起|早起|只|服用|服药|服|吃|喝|清晨|早晨|早上|早餐前|早餐后|早饭后|晚上|晚餐后|"
    r"晚饭后|睡前|饭前|饭后|餐前|餐后|空腹|"
    r"随餐|测量|监测|测|复查|复诊|随访|检查|查|外用|涂抹|涂|喷|滴|吸入|皮下注射|静脉滴注|静滴|肌注|注射|固定时间|"
    r"固定|应|可|需|各|"
    r"约|大约|至少|最少|最多|至多|不超过|不要超过|不能超过|不得超过|别超过|不少于|大便|排便|运动|锻炼|门诊|测血压|"
    r"测血糖|量血压|定期)){0,4} ?"
)
_FREQUENCY = (
    rf"(?P<f_per>(?:平均)?(?:每个?|[一1]个?)(?:24小时|日|天|周|星期|月|年|晚|早)|24小时内?){_DOING}"
    + _numbers("f_n", "f_m")
    + r"次(?!/)"
    rf"|(?P<f_every>每隔?|间?隔)?{_numbers('e_n', 'e_m')} ?个?(?P<e_unit>小时|h(?![a-z])|分钟|天|日|周|星期|月|年)"
    rf"(?P<e_times>{_DOING}(?:一|1)次)?"
    r"|(?P<f_other>隔[日天晚])(?:" + _DOING + r"(?:一|1)?次)?"
    r"|(?P<f_both>早晚|早中晚|三餐[前后]?)(?:各" + _DOING + r"(?:一|1)次|(?=各))"
    rf"|{_numbers('c_n', 'c_m')} ?次(?:/|每)(?P<c_per>日|天|周|星期|月|年|d(?![a-z]))"
    r"|(?<![a-z])(?P<latin>q\.?d|b\.?i\.?d|t\.?i\.?d|q\.?i\.?d|qn|qod|hs|biw|tiw|qw|p\.?r\.?n|"
    r"q(?P<q_n>\d{1,2})(?:-(?P<q_m>\d{1,2}))?h)\.?(?![a-z])"
)
_NO_QUANTITY = (
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
_ARABIC = r"(?:[½¼¾⅓⅔]|(?:\d{1,3}(?:,\d{3})++(?![\d])|\d{1,12}+)(?:\.\d{1,9}+)?)"
_VULGAR = {"½": 1 / 2, "¼": 1 / 4, "¾": 3 / 4, "⅓": 1 / 3, "⅔": 2 / 3}
_CHINESE = rf"[{_CN}]{{1,14}}+(?:点[{''.join(DIGITS)}]{{1,4}}+)?"
_ATOM = re.compile(
    rf"(?P<none>{_NO_QUANTITY})|(?P<frequency>{_FREQUENCY})|(?P<portion>[{_CN}]{{1,4}}+分之)"
    rf"|(?P<arabic>{_ARABIC})|(?P<chinese>半|{_CHINESE})"
)
_NUMBER = re.compile(rf"(?P<arabic>{_ARABIC})|(?P<chinese>{_CHINESE})")
_SEPARATOR = re.compile(r" {0,2}(?:-{1,2}|至|到) {0,2}")
_SLASH = re.compile(r" ?/ ?(?P<c>[≥≤<>]=?)? ?")
_PLUS_MINUS = re.compile(r" ?(?:±|\+/-|\+-) ?")
_SUFFIX = re.compile(
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
_NOT_COUNTED = re.compile(
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
_APART = re.compile(r"(?:高压|收缩压|上压|高血压值)(?:是|为|约|有|在|到|大概|:| )? ?$")
_APART_SECOND = re.compile(r"[ ,，、;和]{0,2}(?:低压|舒张压|下压)(?:是|为|约|有|在|到|大概|:| )? ?")
_LETTERS = re.compile(r"[a-zα-ω][a-zα-ω0-9\-]{0,11}$")

_COMPARATORS = {"≥": ">=", "≤": "<=", ">": ">", "<": "<", ">=": ">=", "<=": "<=", "≈": "~", "=": None}
_SAYING = {
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
    _SAYING |= {_not + word: "<=" for word in ("超过", "高于", "大于", "多于")}
    _SAYING |= {_not + word: ">=" for word in ("低于", "少于", "小于")}
_SAYING |= {word + tail: sign for word, sign in list(_SAYING.items()) for tail in ("了", "到") if sign != "~"}
_LONGEST_SAYING = max(map(len, _SAYING))
# 近 and 约 are comparators only where they do not end a word: 最近3天, 预约3天.
_NO_COMPARATOR_BEFORE = {"近": "最附靠临", "约": "预制节大", "满": "不未圆"}
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
_DAY_NAMES = frozenset("天日周年月")


def find(text: str, keep_bare: bool = False) -> list[Quantity]:
    """All quantities of ``text``, in order and without overlaps; the longest written form wins.

    Dates, clock times, phone numbers (120, 12356), ordinals, list numbers, counting words (3个问题, 一种) and numbers
    inside names (2型糖尿病, 维生素B12, 餐后2小时血糖) are none. 高压140低压90 is one pair with ``parts``;
    收缩压≥140和(或)舒张压≥90 are two values that measure ``systolic`` and ``diastolic``. Integers that neither carry a
    unit nor measure anything are dropped unless ``keep_bare``.
    """
    folded = fold(text)
    names = _measures.find_names(folded, text)
    found: list[Quantity] = []
    position, name_index = 0, 0
    while match := _ATOM.search(folded, position):
        start = match.start()
        while name_index < len(names) and names[name_index].end <= start:
            name_index += 1
        if name_index < len(names) and names[name_index].start <= start and names[name_index].holds_digits:
            position = names[name_index].end
            continue
        after_name = name_index > 0 and names[name_index - 1].end == start
        quantity, position = _read(folded, text, match, after_name)
        if quantity is not None:
            found.append(quantity)
    return _measures.assign(folded, found, names, keep_bare)


def _read(s: str, original: str, match: re.Match[str], after_name: bool) -> tuple[Quantity | None, int]:
    """The quantity at an atom (or None) and where to go on."""
    start, end = match.span()
    kind = match.lastgroup if match.lastgroup in ("none", "portion", "arabic", "chinese") else "frequency"
    if match["none"] is not None:
        return None, end
    if match["frequency"] is not None:
        quantity = _frequency(s, original, match)
        if quantity is not None:
            return quantity, end
        # A plain span of time (3天) that only looked like an interval.
        number = _NUMBER.match(s, start)
        if number is None:
            return None, _skip(s, start, end)
        match, end = number, number.end()
    elif kind == "portion":
        return _portion(s, original, start, end)
    if start and not after_name and _belongs_to_word(s, start):
        return None, end
    return _number(s, original, start, after_name)


def _skip(s: str, start: int, end: int) -> int:
    return max(start + 1, min(end, start + 1))


def _belongs_to_word(s: str, start: int) -> bool:
    """Whether the digits at ``start`` continue a Latin word or a longer number: B12, IL-6, 1.2.3."""
    before = s[start - 1]
    if before.isdigit() or (before == "." and start > 1 and s[start - 2].isdigit()):
        return True
    if (before.isascii() and before.isalpha()) or "α" <= before <= "ω":
        return True
    return before == "-" and start > 1 and (s[start - 2].isascii() and s[start - 2].isalpha())


def _value(s: str, position: int) -> tuple[float, int, bool] | None:
    """(value, end, is Chinese) of the number at ``position``."""
    match = _NUMBER.match(s, position)
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


def _several(s: str, start: int, end: int) -> tuple[float, float] | None:
    """两三(天), 七八(十): two neighbouring digits as a range."""
    word = s[start:end]
    if len(word) == 2 and all(c in DIGITS for c in word) and 0 < DIGITS[word[0]] < DIGITS[word[1]]:
        return float(DIGITS[word[0]]), float(DIGITS[word[1]])
    return None


def _unit(s: str, position: int, value: float) -> tuple[str, int] | None:
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


def _comparator(s: str, original: str, start: int) -> tuple[str | None, int]:
    """(comparator, where it begins) of what stands before the number at ``start``."""
    position = start
    while position and start - position < 2 and s[position - 1] == " ":
        position -= 1
    for length in (2, 1):
        sign = s[max(0, position - length) : position]
        if len(sign) == length and sign in _COMPARATORS:
            return (_COMPARATORS[sign], position - length) if sign != "=" else (None, start)
    if position and original[position - 1] in "~～∼˜" and (position == 1 or not s[position - 2].isalnum()):
        return "~", position - 1
    for length in range(min(_LONGEST_SAYING, position), 0, -1):
        word = s[position - length : position]
        if word in _SAYING:
            first = position - length
            if first and s[first - 1] in _NO_COMPARATOR_BEFORE.get(word, ""):
                return None, start
            if _SAYING[word] in (">", "<") and s[max(0, first - 1) : first] == "否":
                return None, start  # 是否超过: a question, no bound
            return _SAYING[word], first
    return None, start


def _bounds(sign: str | None, low: float, high: float) -> tuple[float | None, float | None]:
    if sign in (">=", ">"):
        return low, None
    if sign in ("<=", "<"):
        return None, high
    return low, high


def _per(s: str, start: int, end: int) -> tuple[str | None, str, int]:
    """(time or intake that the amount counts for, unit tail such as /kg, end)."""
    after = _PER_AFTER.match(s, end)
    if after and (after[1] or after[2]):
        slashed = s[end : after.end()].lstrip()[0] == "/"
        # 5mg每日一次: the 每日 belongs to the frequency that follows.
        if slashed or not re.match(r"[^,，。;；]{0,6}次", s[after.end() : after.end() + 8]):
            return _PER_NAMES.get(after[2] or ""), "/kg" if after[1] else "", after.end()
    before = _PER_BEFORE.search(s, max(0, start - 16), start)
    return (_PER_NAMES[before[1]] if before else None), "", end


def _number(s: str, original: str, start: int, after_name: bool) -> tuple[Quantity | None, int]:
    """The quantity whose first number begins at ``start``."""
    first = _value(s, start)
    if first is None:
        return None, _NUMBER.match(s, start).end() if _NUMBER.match(s, start) else start + 1  # type: ignore[union-attr]
    low, end, chinese = first
    if not chinese and (end < len(s) and (s[end].isdigit() or (s[end] == "." and s[end + 1 : end + 2].isdigit()))):
        return None, end  # longer than any measured number, or a version such as 1.2.3
    if _is_list_mark(s, start, end):
        return None, end
    high, form = low, "value"
    second_low: float | None = None
    second_high: float | None = None
    second_sign: str | None = None
    several = _several(s, start, end) if chinese else None
    if several:
        low, high = several
        form = "range"
    vague = False
    if s[end : end + 1] in ("多", "余", "来", "几") and s[end : end + 1]:
        vague, end = True, end + 1
    unit: str | None = None
    if not chinese or not s[start:end].startswith("半") or end - start == 1:
        got = _unit(s, end, low)
        if got:
            unit, end = got
            if (
                unit == "℃"
                and s[end - 1] == "度"
                and (tail := re.compile(r"[\d一二三四五六七八九](?![\d.])").match(s, end))
            ):
                low = high = low + float(chinese_number(tail[0]) if tail[0] in DIGITS else tail[0]) / 10  # type: ignore[arg-type]
                end = tail.end()
            if s.startswith("半", end) and unit in ("小时", "天", "年", "月", "片", "粒", "周"):
                low, high, end = low + 0.5, high + 0.5, end + 1
    plain_end = end
    if (slash := _SLASH.match(s, end)) and not several and unit in (None, "mmHg", "kPa", "mg", "μg"):
        other = _value(s, slash.end())
        if other and unit in ("mg", "μg") and (_unit(s, other[1], other[0]) or ("", 0))[0] != unit:
            other = None  # 5mg/1次
        if other:
            second_low = second_high = other[0]
            second_sign, end, form = slash["c"], other[1], "pair"
            got = _unit(s, end, other[0])
            if got:
                unit, end = got
            if (sep := _SEPARATOR.match(s, end)) and (third := _value(s, sep.end())):
                fourth_at = _SLASH.match(s, third[1])
                fourth = _value(s, fourth_at.end()) if fourth_at else None
                if fourth:  # 120/80-139/89
                    high, second_high, end = third[0], fourth[0], fourth[1]
                elif third[0] > second_low and form == "pair":  # ≥140/90-99
                    second_high, end = third[0], third[1]
                if (fourth or second_high == third[0]) and (got := _unit(s, end, third[0])):
                    unit, end = got
    elif pm := _PLUS_MINUS.match(s, end):
        other = _value(s, pm.end())
        if other:
            second_low = second_high = other[0]
            end, form = other[1], "mean_sd"
            if got := _unit(s, end, other[0]):
                unit, end = got
    elif not several and ((sep := _SEPARATOR.match(s, end)) or (sep := re.compile("、").match(s, end))):
        other = _value(s, sep.end())
        joined = other is not None and (sep[0] != "、" or (other[0] == low + 1 and unit is None and low < 10))
        if joined and other is not None:
            got = _unit(s, other[1], other[0])
            other_unit, other_end = got if got else (None, other[1])
            scaled: float | None = low
            if unit and other_unit and unit != other_unit:
                scaled = convert(low, unit, other_unit)
            if sep[0] == "、" and other_unit is None:
                scaled = None
            if scaled is not None and scaled < other[0]:
                if s[other_end : other_end + 1] == "-" and s[other_end + 1 : other_end + 2].isdigit():
                    return None, _after_digits(s, other_end)  # 400-161-9995, 1-2-3
                low, high, unit, end, form = scaled, other[0], other_unit or unit, other_end, "range"
                slash = _SLASH.match(s, end)
                third = _value(s, slash.end()) if slash else None
                if slash and third and unit in (None, "mmHg", "kPa"):  # 140-159/90-99
                    second_low = second_high = third[0]
                    second_sign, end, form = slash["c"], third[1], "pair"
                    if (sep := _SEPARATOR.match(s, end)) and (fourth := _value(s, sep.end())) and fourth[0] > third[0]:
                        second_high, end = fourth[0], fourth[1]
                    if got := _unit(s, end, third[0]):
                        unit, end = got
    comparator, outer = _comparator(s, original, start)
    if outer == start and not chinese and _is_minus(s, original, start):
        low, high, outer = -high, -low, start - 1
        comparator, outer_sign = _comparator(s, original, outer)
        outer = min(outer, outer_sign)
    if vague and comparator is None:
        comparator = "~"
    parts: tuple[tuple[int, int], ...] = ()
    if form == "value" and comparator is None and _APART.search(s, max(0, start - 8), start):
        apart = _APART_SECOND.match(s, end)
        other = _value(s, apart.end()) if apart else None
        if apart and other and unit in (None, "mmHg", "kPa") and not _SEPARATOR.match(s, other[1]):
            parts_end, second_unit = other[1], None
            if got := _unit(s, other[1], other[0]):
                second_unit, parts_end = got
            if second_unit in (None, "mmHg", "kPa"):
                parts = ((start, end), (apart.end(), parts_end))
                second_low = second_high = other[0]
                unit, end, form = second_unit or unit, parts_end, "pair"
    if form == "pair":
        keep = _pair_or_fraction(low, high, second_low, second_high, unit, s, end)
        if keep is None:
            return None, end
        if keep == "fraction":
            assert second_low is not None
            low = high = low / second_low
            second_low = second_high = None
            form = "fraction"
            if got := _unit(s, end, low):
                unit, end = got
                form = "value"
    if form == "value" and unit is None:
        if not chinese and s[end : end + 1].isascii() and s[end : end + 1].isalpha():
            return None, end  # 13C, 5HT
        if s[end : end + 1] == "-" and s[end + 1 : end + 2].isascii() and s[end + 1 : end + 2].isalpha():
            return None, end  # 5-HT
        if _NOT_COUNTED.match(s, end) or _is_call(s, start, end, low):
            return None, end
        if (
            not chinese
            and low.is_integer()
            and (
                (end - start > 6 and s[end - 1] not in "万亿")
                or 1900 <= low <= 2100
                or (s[start] == "0" and end - start > 1)
            )
        ):
            return None, end
    if chinese and not _chinese_counts(s, start, plain_end, end, form, unit, low, after_name):
        return None, end
    if unit in ("天", "周", "年") and low == high == 1 and comparator is None and _names_period(s, start, end):
        return None, end
    per: str | None = None
    if unit is not None:
        unit, per = split_period(unit)
        said_per, tail, per_end = _per(s, outer, end)
        per, unit, end = per or said_per, unit + tail, max(end, per_end)
    if suffix := _SUFFIX.match(s, end):
        said = {"ge": ">=", "lt": "<", "le": "<=", "about": "~"}[suffix.lastgroup or ""]
        if form in ("value", "pair", "fraction"):
            comparator = comparator if comparator not in (None, "~") else said
        elif said == "~":
            comparator = comparator or said
        end = suffix.end()
    if form in ("value", "pair", "fraction"):
        if low == high:
            new_low, new_high = _bounds(comparator, low, high)
        else:
            new_low, new_high = low, high
        if form == "pair" and second_low is not None and second_high is not None and second_low == second_high:
            sign = _COMPARATORS.get(second_sign or "", comparator) if second_sign else comparator
            second_low, second_high = _bounds(sign, second_low, second_high)
    elif form == "range" and comparator in ("<=", "<", ">=", ">"):
        new_low, new_high = low, high  # 不超过2-3天: the range says more than the bound
    else:
        new_low, new_high = low, high
    if s.startswith("(", outer - 1) and ")" in s[outer:end] and "(" not in s[outer:end]:
        outer -= 1
    quantity = Quantity(
        outer,
        end,
        original[outer:end],
        form,
        comparator,
        new_low,
        new_high,
        second_low,
        second_high,
        unit,
        None,
        per,
        parts,
    )
    return quantity, end


def _after_digits(s: str, position: int) -> int:
    while position < len(s) and (s[position].isdigit() or s[position] == "-"):
        position += 1
    return position


def _is_list_mark(s: str, start: int, end: int) -> bool:
    """Whether the one or two digits are an item number: 1. / 2、 / (3)."""
    if end - start > 2:
        return False
    mark = _LIST_MARK.match(s, end)
    if mark is None:
        return False
    return bool(_BEFORE_LIST.search(s, max(0, start - 6), start)) and not (
        s[end] in ")）" and s[max(0, start - 1) : start] not in ("(", "（", "\n", "", " ")
    )


def _is_minus(s: str, original: str, start: int) -> bool:
    if not start or s[start - 1] != "-" or original[start - 1] in "~～∼˜—–":
        return False
    return start == 1 or s[start - 2] in " :=(,，≤≥<>值为是分"


def _is_call(s: str, start: int, end: int, value: float) -> bool:
    """Whether the number is one that is dialled."""
    if value in (12356, 12320, 12355, 12345, 12338, 12333):
        return True
    if value not in (110, 112, 119, 120, 122, 999):
        return False
    return bool(_CALL_BEFORE.search(s, max(0, start - 9), start) or _CALL_AFTER.match(s, end))


def _pair_or_fraction(
    low: float, high: float, second_low: float | None, second_high: float | None, unit: str | None, s: str, end: int
) -> str | None:
    """What a/b is: a blood pressure, a double strength (80/5mg), a fraction, or nothing known."""
    assert second_low is not None and second_high is not None
    if unit in ("mmHg", "kPa"):
        return "pair"
    if unit is None and 50 <= low <= 320 and 20 <= second_low <= 220 and low > second_low:
        return "pair"
    if unit is None and 10 <= low <= 40 and low > second_low and "." in s[end - 4 : end]:
        return None
    if unit in ("mg", "μg", "g"):
        return "pair"
    if low == high and second_low == second_high and 0 < low < second_low <= 100 and low.is_integer():
        return "fraction"
    return None


def _chinese_counts(
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
    said = _measures.name_just_before(s, start)
    return (after_name or said) and low >= 10


def _names_period(s: str, start: int, end: int) -> bool:
    """Whether 一天/1日 says 'per day' for a number that follows (一天三片) rather than a span of time."""
    if s[end - 1] not in _DAY_NAMES and s[end - 2 : end] != "星期":
        return False
    return bool(re.compile(rf"[^,，。;；、\n\d{_CN}内后]{{0,6}}(?:\d|[{_CN}半])").match(s, end))


def _portion(s: str, original: str, start: int, end: int) -> tuple[Quantity | None, int]:
    """百分之七, 三分之一."""
    whole = chinese_number(s[start : end - 2])
    part = _value(s, end)
    if whole is None or part is None or whole == 0:
        return None, end
    low = high = part[0]
    stop = part[1]
    form = "value"
    if (sep := _SEPARATOR.match(s, stop)) and (
        other := _value(s, sep.end() + (3 if s.startswith("百分之", sep.end()) else 0))
    ) and other[0] > low:
        high, stop, form = other[0], other[1], "range"
    comparator, outer = _comparator(s, original, start)
    if suffix := _SUFFIX.match(s, stop):
        comparator = comparator or {"ge": ">=", "lt": "<", "le": "<=", "about": "~"}[suffix.lastgroup or ""]
        stop = suffix.end()
    if whole == 100:
        unit = "%"
    else:
        low, high, unit = low / whole, high / whole, None
        form = "fraction"
    new_low, new_high = _bounds(comparator, low, high) if form != "range" else (low, high)
    return Quantity(outer, stop, original[outer:stop], form, comparator, new_low, new_high, unit=unit), stop


_PERIODS = {"日": "天", "星期": "周", "晚": "天", "早": "天", "d": "天", "24小时": "天"}
_LATIN = {
    "qd": (1.0, "次/天"), "qn": (1.0, "次/天"), "hs": (1.0, "次/天"), "bid": (2.0, "次/天"), "tid": (3.0, "次/天"),
    "qid": (4.0, "次/天"), "qod": (2.0, "天/次"), "qw": (1.0, "次/周"), "biw": (2.0, "次/周"), "tiw": (3.0, "次/周"),
}  # fmt: skip


def _count(word: str | None) -> float | None:
    if word is None:
        return None
    return float(word) if word.isdigit() else chinese_number(word)


def _frequency(s: str, original: str, match: re.Match[str]) -> Quantity | None:
    """The frequency that ``match`` found; None where it is a mere span of time (3天)."""
    start, end = match.span()
    low: float | None
    high: float | None
    sign: str | None = None
    if match["f_per"] is not None:
        low = _count(match["f_n"])
        high = _count(match["f_m"]) or low
        period = re.sub(r"^(?:平均)?(?:每个?|[一1]个?)|内$", "", match["f_per"])
        unit = "次/" + _PERIODS.get(period, period)
        between = s[match.end("f_per") : match.start("f_n")].rstrip()
        for word, value in _SAYING.items():
            if value != "~" and between.endswith(word):
                sign = value
                break
    elif match["e_unit"] is not None:
        every, times = match["f_every"], match["e_times"]
        if times is None and match["e_n"] in ("一", "1") and match["e_m"] is None:
            return None  # 每一天
        if every in (None, "隔", "间隔") and times is None:
            return None
        low = _count(match["e_n"])
        high = _count(match["e_m"]) or low
        span = {"h": "小时", "日": "天", "星期": "周", "个月": "月"}.get(match["e_unit"], match["e_unit"])
        if every is None and low == 0.5:
            return None
        if span == "小时":
            if not low or not high:
                return None
            low, high, unit = 24 / high, 24 / low, "次/天"
        else:
            unit = f"{span}/次"
        if times is None and every is not None and (unit != "次/天" and span == "分钟"):
            unit = "分钟/次"
    elif match["f_other"] is not None:
        low = high = 2.0
        unit = "天/次"
    elif match["f_both"] is not None:
        low = high = 2.0 if match["f_both"] == "早晚" else 3.0
        unit = "次/天"
    elif match["c_per"] is not None:
        low = _count(match["c_n"])
        high = _count(match["c_m"]) or low
        unit = "次/" + _PERIODS.get(match["c_per"], match["c_per"])
        sign, start = _comparator(s, original, start)
    else:
        if match["q_n"] is not None:
            first, last = int(match["q_n"]), int(match["q_m"] or match["q_n"])
            if not first or last < first:
                return None
            low, high, unit = 24 / last, 24 / first, "次/天"
        else:
            word = match["latin"].replace(".", "")
            if word == "prn":
                return Quantity(start, end, original[start:end], "frequency", None, None, None, unit="prn")
            low, unit = _LATIN[word]
            high = low
    if low is None or high is None or high < low:
        return None
    low_bound, high_bound = _bounds(sign, low, high) if low == high else (low, high)
    return Quantity(start, end, original[start:end], "frequency", sign, low_bound, high_bound, unit=unit)


def in_unit(quantity: Quantity, unit: str) -> Quantity | None:
    """``quantity`` with low and high in ``unit`` (mass, time, volume), or None where the two do not convert."""
    if quantity.unit is None:
        return None
    bounds = [None if b is None else convert(b, quantity.unit, unit) for b in (quantity.low, quantity.high)]
    if [b is None for b in bounds] != [b is None for b in (quantity.low, quantity.high)]:
        return None
    return replace(quantity, low=bounds[0], high=bounds[1], unit=unit)
