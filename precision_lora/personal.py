"""Finds what looks like personal data in a text: kinds and counts, never the text itself (pure)."""

from __future__ import annotations

import re
from collections import Counter

# GB 11643-1999: weights of the first 17 digits, and the check character by remainder.
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS = "10X98765432"
_ID = re.compile(r"(?<![0-9A-Za-z])\d{17}[\dXx](?![0-9A-Za-z])")
_MOBILE = re.compile(r"(?<![\d.])(?:\+?86[- ]?)?1[3-9]\d(?:[- ]?\d{4}){2}(?!\d|\.\d)")
_EMAIL = re.compile(r"[A-Za-z0-9_.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,24}(?![A-Za-z0-9])")
_SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏"
    "魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵"
    "万钱严覃武戴莫孔向汤"
)
# 姓名 is followed by a name; 患者 mostly by a symptom (患者高热): there sex or age must close the name.
_NAME = re.compile(
    rf"姓名\s*[：:]?\s*[{_SURNAMES}][\u4e00-\u9fa5]{{1,2}}(?![\u4e00-\u9fa5])"
    rf"|(?:患者|病人)\s*[：:]?\s*[{_SURNAMES}](?:某某?|[\u4e00-\u9fa5]{{1,2}})\s*[，,、（( ]\s*(?:男|女|\d{{1,3}}\s*岁)"
)


def find_personal(text: str) -> Counter[str]:
    """How many ID-card numbers (with a right checksum), mobile numbers, e-mail addresses and names ``text`` holds."""
    found = Counter(
        {
            "身份证号": sum(_valid_id(match.group()) for match in _ID.finditer(text)),
            "手机号": len(_MOBILE.findall(text)),
            "邮箱": len(_EMAIL.findall(text)) if "@" in text else 0,
            "姓名": len(_NAME.findall(text)),
        }
    )
    return +found


def _valid_id(number: str) -> bool:
    total = sum(int(digit) * weight for digit, weight in zip(number, _ID_WEIGHTS, strict=False))
    return _ID_CHECKS[total % 11] == number[-1].upper()
