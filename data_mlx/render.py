"""A case as a finished conversation: questions and answers of all its turns, in one of the two styles."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from data_mlx import answers, questions, vague
from data_mlx.cases import HELD_OUT_VALUES, Case, narratives, sample_band_value, sample_pressure
from data_mlx.readings import BY_QUANTITY

STYLES = ("exact", "vague")
Message = dict[str, str]


def _answer(case: Case, style: str) -> str:
    return answers.first_answer(case) if style == "exact" else vague.first_answer(case)


def _told(case: Case) -> tuple[Case, str]:
    """The case after the asker has given what the first answer asked for, and the message that gives it."""
    rng = Random(f"{case.family}/{case.seed}/told")
    if case.frame == "bp_ask_back":
        band = rng.choice(("high_normal", "grade1", "grade1", "grade2", "normal"))
        known = replace(case, frame="bp_reading", values=sample_pressure(rng, band), unit="mmHg", band=band)
        shown = questions.pressure_text(rng, known)
        text = rng.choice(
            (
                f"在医院量的，{shown}，没有别的病",
                f"刚量了，{shown}，没吃过药",
                f"{shown}，量前坐了一会儿，没有糖尿病",
                f"上午{shown}，没头痛也没胸闷",
                f"最近都是{shown}左右，没吃降压药",
                f"医院量的{shown}，平时没什么病",
                f"{shown}，就是有点头胀，没别的",
            )
        )
        return known, text
    if case.frame == "glucose_ask_back":
        reading = BY_QUANTITY["fasting_glucose"]
        index = rng.choice((1, 2, 2, 3, 3))
        value = sample_band_value(rng, reading, reading.bands[index])
        while ("fasting_glucose", (value,)) in HELD_OUT_VALUES:
            value = sample_band_value(rng, reading, reading.bands[index])
        known = replace(
            case,
            frame="reading",
            values=(value,),
            unit="",
            band=str(index),
            condition=reading.bands[index].condition,
        )
        shown = questions.value_text(rng, known)
        text = rng.choice(
            (
                f"空腹抽血，{shown}，没口渴",
                f"空腹的，{shown}，体重没变",
                f"是空腹，{shown}，爸爸有糖尿病",
                f"早上没吃饭查的，{shown}",
                f"{shown}，空腹静脉血，没吃药",
                f"医院抽的空腹血，{shown}，没别的不舒服",
            )
        )
        return known, text
    narrative = narratives()[case.condition]
    complaint = rng.choice(narrative.complaints)
    text = rng.choice(
        (
            f"{complaint}，{case.duration}，没发烧",
            f"{case.duration}，{complaint}，没吃药",
            f"{complaint}，{case.duration}，以前没什么病",
            f"就是{complaint}，{case.duration}，别的还好",
            f"{complaint}。{case.duration}，胃口还行",
        )
    )
    return case, text


def conversation(case: Case, style: str = "exact") -> list[Message]:
    """All messages of the case, user first.

    Raises:
        ValueError: an answer cannot be brought to 60–350 characters.
    """
    question = questions.first_question(case)
    case = questions.revealed(case, question)
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": _answer(case, style)}]
    asked: set[str] = set()
    current = case
    for turn, topic in enumerate(case.turns, 1):
        if topic in ("tell_pressure", "tell_glucose"):
            current, text = _told(case)
            reply = _answer(current, style)
        elif topic == "tell_symptom":
            current, text = _told(case)
            reply = (
                answers.follow_answer(current, topic, turn)
                if style == "exact"
                else vague.follow_answer(current, topic, turn)
            )
        else:
            if case.condition not in narratives() or topic in asked:
                continue
            asked.add(topic)
            rng = Random(f"{case.family}/{case.seed}/question/{turn}")
            narrative = narratives()[case.condition]
            belief, worry = rng.choice(narrative.beliefs)[0], rng.choice(narrative.worries)
            drugs = questions.follow_drugs(case)
            drug = rng.choice(drugs) if drugs else ""
            text = questions.follow_question(case, topic, turn, belief, worry, drug)
            reply = (
                answers.follow_answer(case, topic, turn, belief, drug)
                if style == "exact"
                else vague.follow_answer(case, topic, turn)
            )
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": reply}]
    return messages
