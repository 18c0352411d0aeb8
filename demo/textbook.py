"""Reference-book text from the knowledge tables: what the demo model is to know before it learns to say it.

The consultations that the demo is pretrained on hold almost no figures. A real base model has read plenty of figures
elsewhere: in textbooks, leaflets and laboratory lists. This page writes such text: statements, drug leaflets, articles
on conditions, worked readings of laboratory values, and questions to a reference book under a system prompt of its
own. Nothing here is a consultation.

    python demo/textbook.py --rows 20000 --seed 1 --out textbook.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_mlx import figures
from precision_lora import knowledge
from precision_lora.knowledge import Condition, Drug, Fact

REFERENCE_SYSTEM = "你是一部医学参考手册，只按条目给出资料原文。"

Row = dict[str, Any]


def measure_name(rng: Random, fact: Fact) -> str:
    """What a fact is about, in one of its written names."""
    for measure in knowledge.quantities_table():
        if measure.id == fact.quantity:
            return rng.choice(measure.names[:3])
    return fact.label


def statement(rng: Random, fact: Fact) -> str:
    """The fact as one sentence."""
    value = figures.bounds(rng, fact)
    forms = [f"{fact.label}：{value}。", f"{fact.label}为{value}。", f"{fact.label}是{value}。"]
    if fact.meaning == "normal":
        name = measure_name(rng, fact)
        who = {"male": "男性", "female": "女性"}.get(fact.sex, "")
        forms += [f"{who}{name}{link}{value}。" for link in ("的正常范围是", "正常值为", "的参考范围：")]
    elif fact.meaning == "diagnostic":
        forms.append(f"{fact.label}的标准是{value}。")
    elif fact.meaning == "target":
        forms.append(f"{fact.label}一般控制在{value}。")
    return rng.choice(forms)


def draw_value(rng: Random, fact: Fact) -> tuple[str, str] | None:
    """A made-up reading near the fact's bounds and where it lies (below, inside, above); None for a pair or no unit."""
    low, high = fact.low, fact.high
    if isinstance(low, tuple) or isinstance(high, tuple) or fact.unit is None:
        return None
    places = figures.decimals(fact.quantity)
    width = high - low if low is not None and high is not None and high > low else 0.4 * (high or low or 1.0)
    bound = rng.choice([b for b in (low, high) if b is not None])
    value = max(round(bound + rng.uniform(-0.7, 0.9) * width, places), 0.0)
    if low is not None and (value < low or (fact.low_open and value == low)):
        place = "below"
    elif high is not None and (value > high or (fact.high_open and value == high)):
        place = "above"
    else:
        place = "inside"
    return figures.number_text(value, places), place


def reading(rng: Random, fact: Fact) -> str:
    """A laboratory value held against the fact, as in a book of exercises; empty where the fact is no range."""
    drawn = draw_value(rng, fact)
    if drawn is None or fact.meaning not in ("normal", "diagnostic", "target", "grade"):
        return ""
    value, place = drawn
    name = measure_name(rng, fact)
    shown = figures.with_unit(rng, value, fact.unit)
    asked = rng.choice((f"读数：{name}{shown}。", f"化验单：{name} {shown}。", f"某人{name}为{shown}。"))
    rule = f"{fact.label}{rng.choice(('为', '是', '：'))}{figures.bounds(rng, fact)}"
    if fact.meaning == "normal":
        words = {"above": "高于正常范围，属于偏高", "below": "低于正常范围，属于偏低", "inside": "在正常范围内"}
        outcome = words[place]
        edge = {"above": fact.high, "below": fact.low}.get(place)
        if isinstance(edge, float):
            places = figures.decimals(fact.quantity)
            sign = "高于上限" if place == "above" else "低于下限"
            outcome = rng.choice((outcome, f"{sign}{figures.number_text(edge, places)}，{outcome[-4:]}"))
    elif fact.meaning == "target":
        outcome = {"above": "还没有达标，偏高", "below": "低于目标，偏低", "inside": "已经达标"}[place]
    else:
        outcome = "达到这一标准" if place == "inside" else "没有达到这一标准"
    return f"{asked}{rng.choice(('判读：', '分析：'))}{rule}，{value}{outcome}。"


def pressure_reading(rng: Random) -> str:
    """A blood pressure graded by the tables."""
    systolic = rng.randrange(95, 200)
    diastolic = min(max(round(systolic * 0.62 + rng.uniform(-8, 12)), 55), 125)
    grade = (
        "3级高血压"
        if systolic >= 180 or diastolic >= 110
        else "2级高血压"
        if systolic >= 160 or diastolic >= 100
        else "1级高血压"
        if systolic >= 140 or diastolic >= 90
        else "正常高值血压"
        if systolic >= 120 or diastolic >= 80
        else "正常血压"
    )
    entry = next(f for f in knowledge.facts() if f.label == grade)
    asked = rng.choice(("读数：血压", "某人血压为", "测得")) + f"{systolic}/{diastolic}"
    line = "" if systolic < 140 and diastolic < 90 else "达到高血压诊断标准≥140/90 mmHg，"
    return f"{asked}{rng.choice((' mmHg', 'mmHg'))}。判读：{line}属于{grade}（{figures.bounds(rng, entry)}）。"


def leaflet(rng: Random, drug: Drug) -> str:
    """A drug's entry in a pharmacopoeia."""
    lines = [f"{drug.name}：{drug.drug_class}，用于{'、'.join(drug.indications)}。"]
    amount = figures.dose(rng, drug, start=drug.dose.low is None or rng.random() < 0.6)
    if amount:
        lines.append(f"用法：{drug.route}，{amount}。")
    limit = figures.max_daily(rng, drug)
    if limit:
        lines.append(rng.choice((f"24小时内最大量{limit}。", f"每日不超过{limit}。", f"一天最多{limit}。")))
    for strength in ("禁用", "慎用"):
        groups = [c.group for c in drug.contraindications if c.strength == strength]
        if groups:
            lines.append(f"{'、'.join(groups)}{strength}。")
    if drug.interactions and rng.random() < 0.6:
        meeting = rng.choice(drug.interactions)
        lines.append(f"与{meeting.other}合用：{meeting.effect}。")
    if rng.random() < 0.3:
        lines.append("非处方药。" if drug.otc else "处方药，须遵医嘱。")
    return "".join(lines)


def article(rng: Random, condition: Condition) -> str:
    """A condition's entry in a handbook: some of its sections, figures included."""
    known = {fact.id: fact for fact in knowledge.facts()}
    facts = [known[f] for f in condition.facts if f in known]
    drugs = [d for name in condition.drugs if (d := figures.drug(name)) is not None]
    follow_up = condition.follow_up if isinstance(condition.follow_up, str) else rng.choice(condition.follow_up)
    sections = [f"常见表现：{'、'.join(condition.symptoms)}。", f"检查：{'、'.join(condition.examinations)}。"]
    if facts:
        sections.append("参考数值：" + "".join(statement(rng, f) for f in rng.sample(facts, min(3, len(facts)))))
    for drug in rng.sample(drugs, min(2, len(drugs))):
        amount = figures.dose(rng, drug)
        sections.append(f"用药：{drug.name}{amount}。" if amount else f"用药：{drug.name}。")
    if condition.lifestyle:
        sections.append(f"生活：{'；'.join(rng.sample(condition.lifestyle, min(2, len(condition.lifestyle))))}。")
    if condition.differentials:
        sections.append(f"需与{'、'.join(condition.differentials)}鉴别。")
    sections.append(f"复诊：{follow_up}。就诊科室：{condition.department}。")
    kept = [s for s in sections if rng.random() < 0.75] or sections
    return f"{condition.name}\n" + "\n".join(kept)


def question(rng: Random) -> Row:
    """A look-up in the reference book: a short question and the entry."""
    kind = rng.random()
    if kind < 0.5:
        fact = rng.choice(knowledge.facts())
        name = fact.label if rng.random() < 0.5 else measure_name(rng, fact)
        asked = rng.choice((f"{name}是多少？", f"查：{name}", f"{name}的数值", f"请列出{name}。"))
        same = [f for f in knowledge.facts() if f.quantity == fact.quantity and f.meaning == fact.meaning]
        answer = statement(rng, fact) if name == fact.label else "".join(statement(rng, f) for f in same[:3])
    elif kind < 0.8:
        drug = rng.choice(knowledge.drugs())
        asked = rng.choice((f"{drug.name}的用法用量？", f"查：{drug.name}", f"{drug.name}怎么用？"))
        answer = leaflet(rng, drug)
    else:
        condition = rng.choice(knowledge.conditions())
        asked = rng.choice((f"查：{condition.name}", f"{condition.name}的检查和治疗？"))
        answer = article(rng, condition)
    return {
        "messages": [
            {"role": "system", "content": REFERENCE_SYSTEM},
            {"role": "user", "content": asked},
            {"role": "assistant", "content": answer},
        ]
    }


def document(rng: Random) -> Row:
    """One row of reference text: ``{"text"}``, or ``{"messages"}`` for a question to the reference book."""
    kind = rng.random()
    if kind < 0.3:
        return question(rng)
    if kind < 0.4:
        facts = rng.sample(knowledge.facts(), rng.randint(3, 6))
        return {"text": "".join(statement(rng, fact) for fact in facts)}
    if kind < 0.75:
        normals = [f for f in knowledge.facts() if f.meaning in ("normal", "diagnostic", "grade", "target")]
        readings = (
            pressure_reading(rng) if rng.random() < 0.25 else reading(rng, rng.choice(normals))
            for _ in range(rng.randint(3, 6))
        )
        return {"text": "\n".join(r for r in readings if r) or statement(rng, normals[0])}
    if kind < 0.88:
        return {"text": "\n".join(leaflet(rng, d) for d in rng.sample(knowledge.drugs(), 2))}
    return {"text": article(rng, rng.choice(knowledge.conditions()))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rng = Random(arguments.seed)
    with arguments.out.open("w", encoding="utf-8") as out:
        for _ in range(arguments.rows):
            out.write(json.dumps(document(rng), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
