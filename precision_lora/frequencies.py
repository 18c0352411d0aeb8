"""How often: 每日两次, 每8小时一次, bid, 早晚各一次, 隔日一次."""

from __future__ import annotations

import re

from precision_lora.number_forms import SAYING, bounds_of, comparator_before
from precision_lora.numerals import chinese_number
from precision_lora.quantity import Quantity

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
FREQUENCY = (
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

_PERIODS = {"日": "天", "星期": "周", "晚": "天", "早": "天", "d": "天", "24小时": "天"}
_LATIN = {
    "qd": (1.0, "次/天"), "qn": (1.0, "次/天"), "hs": (1.0, "次/天"), "bid": (2.0, "次/天"), "tid": (3.0, "次/天"),
    "qid": (4.0, "次/天"), "qod": (2.0, "天/次"), "qw": (1.0, "次/周"), "biw": (2.0, "次/周"), "tiw": (3.0, "次/周"),
}  # fmt: skip


def _count(word: str | None) -> float | None:
    if word is None:
        return None
    return float(word) if word.isdigit() else chinese_number(word)


def read_frequency(s: str, original: str, match: re.Match[str]) -> Quantity | None:
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
        for word, value in SAYING.items():
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
        sign, start = comparator_before(s, original, start)
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
    low_bound, high_bound = bounds_of(sign, low, high) if low == high else (low, high)
    return Quantity(start, end, original[start:end], "frequency", sign, low_bound, high_bound, unit=unit)
