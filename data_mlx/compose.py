"""From moves (sentences with a purpose) to one answer: order, lists, connectives, length, register."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

MIN_CHARACTERS, MAX_CHARACTERS = 60, 350


@dataclass
class Moves:
    """What an answer has to say. Every text is finished: no slots, no alternatives left."""

    empathy: str = ""
    finding: str = ""
    meaning: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    urgent: str = ""
    closing: str = ""
    # Moves that may not be dropped or reordered: an emergency says what to do first.
    first: str = ""


ORDERS = ("EFMSUC",) * 5 + (
    "EFMUSC",
    "EFMUSC",
    "FMSUE",
    "FMSUE",
    "FMESUC",
    "FMESUC",
    "FMESU",
    "EFMSU",
    "FMSUEC",
)


# Steps that begin with a verb may follow 先 and 再; a statement may not.
ACTION = re.compile(
    "做|去|到|查|吃|喝|别|不|少|多|每天|每周|按|量|控制|戒|记|测|静坐|早|晚|随身|用|睡|躺|侧|加查|再查|连着|连续|出门|房间|隔离|起|三餐|温|热|练|减|穿|洗|低盐|规律|"
    "保|饭|勤|先|坐|设|把|带"
)


def _end(text: str) -> str:
    """``text`` as a sentence of its own."""
    text = text.strip().rstrip("，；、")
    return text if not text or text[-1] in "。！？…" else text + "。"


def step_text(rng: Random, steps: Sequence[str], lists: bool = True) -> str:
    """The steps in one of many layouts."""
    items = [s.strip().rstrip("。；，") for s in steps if s.strip()]
    if not items:
        return ""
    # Coming back belongs behind what is done first.
    items.sort(key=lambda s: bool(re.search(r"复查|复诊|随访", s)))
    if len(items) == 1 and re.search(r"复查|复诊|随访", items[0]):
        return rng.choice(("", "记得", "另外，", "后面")) + items[0] + "。"
    if len(items) == 1:
        lead = rng.choice(("建议", "眼下", "先", "可以", "", "您可以"))
        return (lead if ACTION.match(items[0]) else "") + items[0] + "。"
    lead = rng.choice(
        (
            "建议这样做：",
            "接下来：",
            "可以这样安排：",
            "眼下先做这些：",
            "我的建议：",
            "具体做法：",
            "您可以这样来：",
            "",
            "",
            "",
            "先做几件事：",
            "这几件事要做：",
            "往下走：",
        )
    )
    roll = rng.random()
    if roll < 0.10 and lists:
        marks = rng.choice(
            (
                ("一是", "二是", "三是", "四是", "五是"),
                ("第一，", "第二，", "第三，", "第四，", "第五，"),
                ("首先，", "其次，", "再有，", "另外，", "最后，"),
            )
        )
        return lead + "；".join(m + s for m, s in zip(marks, items, strict=False)) + "。"
    if roll < 0.16 and lists:
        return (lead or "建议：") + "\n" + "\n".join(f"- {s}" for s in items)
    if roll < 0.45:
        return lead + "；".join(items) + "。"
    if roll < 0.72:
        links = [
            "",
            *rng.sample(
                (
                    "另外，",
                    "同时，",
                    "还有，",
                    "再就是，",
                    "然后，",
                    "此外，",
                    "平时，",
                    "也别忘了，",
                    "",
                    "",
                    "",
                ),
                len(items) - 1,
            ),
        ]
        return lead + "。".join(link + s for link, s in zip(links, items, strict=True)) + "。"
    if roll < 0.86 and all(ACTION.match(s) for s in items[:2]):
        head = rng.choice(("先", "首先", "眼下", "现在", "建议"))
        tail = rng.choice(("再", "接着", "然后", "之后"))
        return f"{head}{items[0]}，{tail}{items[1]}" + "".join(f"；{s}" for s in items[2:]) + "。"
    return lead + "，".join(items[:2]) + "。" + "".join(_end(s) for s in items[2:])


def informal(text: str) -> str:
    """您 → 你, for young askers."""
    return text.replace("您", "你")


CLEAN = (
    ("有有", "有"),
    ("出现有", "有"),
    ("，，", "，"),
    ("。。", "。"),
    ("，。", "。"),
    ("。，", "。"),
    ("；。", "。"),
    ("：。", "。"),
    ("，；", "；"),
    ("？。", "？"),
    ("。；", "；"),
    ("！。", "！"),
    ("；；", "；"),
    ("：：", "："),
    ("先先", "先"),
    ("建议建议", "建议"),
    ("可以可以", "可以"),
    ("每天每天", "每天"),
    ("首先先", "首先"),
    ("您您", "您"),
    ("先首先", "首先"),
    ("再再", "再"),
    ("然后再", "再"),
    ("眼下先眼下", "眼下"),
    ("的的", "的"),
    ("现在先", "先"),
    ("先现在", "现在"),
)


def clean(text: str) -> str:
    """Mend the seams between parts."""
    for wrong, right in CLEAN:
        while wrong in text:
            text = text.replace(wrong, right)
    return re.sub(r"^[，。；、]+", "", text).strip()


def assemble(rng: Random, moves: Moves, young: bool = False) -> str:
    """One answer of 60–350 characters out of the moves, by dropping the least needed until it fits.

    Raises:
        ValueError: the moves are too long or too short to make an answer.
    """
    order = rng.choice(ORDERS)
    steps = list(moves.steps)
    limit = rng.choice((2, 3, 3, 3, 4, 4))
    steps = steps[:limit] if not moves.first else steps
    meaning = list(moves.meaning)
    closing, empathy, urgent = moves.closing, moves.empathy, moves.urgent
    finding_digits = moves.finding
    state = rng.getstate()
    while True:
        rng.setstate(state)
        join = rng.choice(("，", "，", "。", "；"))
        if re.search(r"\d", finding_digits) and any(re.search(r"\d", m) for m in meaning):
            join = "。"  # two figures of different meaning in one sentence are easily misread
        finding = moves.finding.rstrip("。")
        body_meaning = _end(rng.choice(("，", "。", "；")).join(m.rstrip("。") for m in meaning)) if meaning else ""
        parts = {"E": empathy, "F": "", "M": "", "S": step_text(rng, steps), "U": urgent, "C": closing}
        if "FM" in order and finding and body_meaning:
            parts["F"] = finding + join + body_meaning
        else:
            parts["F"], parts["M"] = _end(finding) if finding else "", body_meaning
        text = clean(
            moves.first
            + "".join(_end(parts[k]) if k != "S" else parts[k] + ("\n" if "\n" in parts[k] else "") for k in order)
        )
        if young:
            text = informal(text)
        if len(text) <= MAX_CHARACTERS:
            break
        if closing:
            closing = ""
        elif len(meaning) > 1:
            meaning.pop()
        elif len(steps) > 1:
            steps.pop()
        elif urgent and not moves.first:
            urgent = ""
        elif empathy:
            empathy = ""
        else:
            raise ValueError("answer too long")
    if len(text) < MIN_CHARACTERS:
        raise ValueError("answer too short")
    return text
