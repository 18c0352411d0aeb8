"""Pairs of sentences that differ in one word and mean opposite things."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precision_lora.negation import polarity

PAIRS = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "negation_pairs.jsonl").read_text(encoding="utf-8").splitlines()
]


def read(text: str, mention: str) -> str:
    start = text.index(mention)
    return polarity(text, start, start + len(mention))


def test_enough_pairs_that_differ() -> None:
    assert sum(a["polarity"] != b["polarity"] for a, b in PAIRS) >= 70


@pytest.mark.parametrize("pair", PAIRS, ids=[f"{a['text']} | {b['text']}" for a, b in PAIRS])
def test_pairs_are_told_apart(pair: list[dict]) -> None:
    assert [read(s["text"], s["mention"]) for s in pair] == [s["polarity"] for s in pair]


def test_scope_ends_with_the_clause() -> None:
    text = "不建议自己买抗生素，可以先吃对乙酰氨基酚，但不要和感冒药同用；没有好转就去医院。"
    assert read(text, "抗生素") == "negated"
    assert read(text, "对乙酰氨基酚") == "affirmed"
    assert read(text, "感冒药") == "negated"
    assert read(text, "医院") != "negated"


def test_a_far_cue_says_nothing() -> None:
    assert read("不用" + "啊" * 200 + "布洛芬", "布洛芬") == "affirmed"


@given(st.text(max_size=120), st.integers(0, 120), st.integers(0, 20))
@settings(max_examples=200, deadline=None)
def test_any_text_has_a_polarity(text: str, start: int, length: int) -> None:
    start = min(start, len(text))
    end = min(start + length, len(text))
    assert polarity(text, start, end) in {"affirmed", "negated", "contraindicated", "uncertain", "conditional"}
