"""Characters and Chinese numerals: text folded one character to one, and 一百四十 as 140."""

from __future__ import annotations

DIGITS = {
    "零": 0, "〇": 0, "一": 1, "二": 2, "两": 2, "三": 3, "四": 4,
    "五": 5, "六": 6, "七": 7, "八": 8, "九": 9,
}  # fmt: skip
POWERS = {"十": 10, "百": 100, "千": 1000, "万": 10_000, "亿": 100_000_000}
SUPERSCRIPTS = {c: str(i) for i, c in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}

_FOLDED = {chr(code): chr(code + 32) for code in range(ord("A"), ord("Z") + 1)}
_FOLDED |= {chr(0xFF21 + i): chr(ord("a") + i) for i in range(26)}
_FOLDED |= {chr(0xFF41 + i): chr(ord("a") + i) for i in range(26)}
_FOLDED |= {chr(0xFF10 + i): chr(ord("0") + i) for i in range(10)}
_FOLDED |= dict.fromkeys("–—―‐‑‒−－﹣～〜∼˜~", "-")
_FOLDED |= {
    "／": "/", "∕": "/", "⁄": "/", "％": "%", "﹪": "%", "．": ".", "：": ":", "（": "(", "）": ")",
    "＜": "<", "﹤": "<", "＞": ">", "﹥": ">", "≦": "≤", "⩽": "≤", "≧": "≥", "⩾": "≥", "＝": "=", "≒": "≈",
    "＋": "+", "µ": "μ", "＊": "*", "✕": "×", "＾": "^", "•": "·", "﹢": "+",
    "\u3000": " ", "\u00a0": " ", "\u2002": " ", "\u2009": " ", "\u202f": " ", "\t": " ",
}  # fmt: skip
_TABLE = str.maketrans(_FOLDED)


def fold(text: str) -> str:
    """``text`` in lower case with full-width forms, dashes and blanks made plain, each character kept in its place.

    Unlike NFKC this never changes the length and leaves superscripts alone: 10⁹ stays 10⁹, not 109.
    """
    return text.translate(_TABLE)


def chinese_number(numeral: str) -> float | None:
    """The value of a Chinese numeral such as 一百四十, 一百四, 三点九, 二〇, 十五, 半; None if it is none."""
    if numeral == "半":
        return 0.5
    whole, dot, fraction = numeral.partition("点")
    value = _whole(whole)
    if value is None or not dot:
        return value
    if not fraction or any(c not in DIGITS for c in fraction):
        return None
    return float(f"{int(value)}.{''.join(str(DIGITS[c]) for c in fraction)}")


def _whole(numeral: str) -> float | None:
    if not numeral:
        return None
    if all(c in DIGITS for c in numeral):
        # 一二〇 spelled digit by digit; a lone digit is the common case.
        return float("".join(str(DIGITS[c]) for c in numeral))
    total = section = 0.0
    digit: float | None = None
    last_power = 0
    for character in numeral:
        if character in DIGITS:
            if digit is not None and digit != 0:
                return None
            digit = DIGITS[character]
            if digit == 0:
                last_power = 10
        elif character in POWERS:
            power = POWERS[character]
            if power >= 10_000:
                total = (total + section + (digit or 0)) * power
                section = 0.0
            else:
                section += (1 if digit is None or digit == 0 else digit) * power
            digit, last_power = None, power
        else:
            return None
    if digit is not None:
        # 一百四 is 140, 一百零四 is 104, 十四 is 14.
        section += digit * (last_power // 10 if last_power >= 100 else 1)
    return total + section
