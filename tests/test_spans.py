"""Spans of the five kinds: by hand, on hostile text, in linear time, and against annotated answers."""

from __future__ import annotations

import itertools
import json
import re
from collections import defaultdict
from pathlib import Path

import pytest

from precision_lora import knowledge, span_rules, spans

DATA = Path(__file__).parent / "data"


def _found(text: str) -> dict[str, list[str]]:
    by_kind: dict[str, list[str]] = defaultdict(list)
    for span in spans.find(text):
        by_kind[span.kind].append(text[span.start : span.end])
    return by_kind


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("您的空腹血糖是7.2 mmol/L。", "term", ["空腹血糖"]),
        ("做了心电图和头颅CT，查了肝功能", "term", ["心电图", "头颅CT", "肝功能"]),
        ("左膝盖隐隐作痛", "term", ["左膝盖隐隐作痛"]),
        ("诊断慢性胃炎", "term", ["慢性胃炎"]),
        ("考虑代谢综合征", "term", ["代谢综合征"]),
        ("服用苯磺酸氨氯地平片", "term", ["苯磺酸氨氯地平片"]),
        ("TSH、FT4都查了", "term", ["TSH", "FT4"]),
        ("换成伊拉地平和阿齐沙坦", "term", ["伊拉地平", "阿齐沙坦"]),  # by their stems
        ("今天天气很好，我们去公园散步", "term", []),
        ("MATRIX里的HALT不是转氨酶", "term", ["转氨酶"]),  # ALT inside a word is none
        ("血压140/90mmHg，每日两次，吃半片", "number", ["140/90mmHg", "每日两次", "半片"]),
        ("控制在120-140之间，均值7.2±0.8", "number", ["120-140", "7.2±0.8"]),
        ("高压140低压90", "number", ["140", "90"]),
        ("这是第一个问题，有两点要说", "number", []),
        ("考虑1级高血压", "diagnosis", ["考虑", "1级高血压"]),
        ("糖尿病患者要吃早饭", "diagnosis", []),
        ("多运动可以预防冠心病", "diagnosis", []),
        ("急性阑尾炎不能排除", "diagnosis", ["急性阑尾炎", "不能排除"]),
        ("血钾略低于正常下限", "diagnosis", ["略低于正常下限"]),
        ("达到糖尿病的诊断标准", "diagnosis", ["达到糖尿病的诊断标准"]),
        ("都在正常范围内", "diagnosis", ["都在正常范围内"]),
        ("属于正常高值", "diagnosis", ["属于正常高值"]),
        ("再考虑使用药物", "diagnosis", []),
        ("氨氯地平5mg，每日一次，早上吃", "treatment", ["氨氯地平5mg，每日一次，早上吃"]),
        ("建议2周后复查血脂和肝功能", "treatment", ["2周后复查血脂和肝功能"]),
        ("请到心内科就诊", "treatment", ["到心内科就诊"]),
        ("立即拨打120", "treatment", ["立即拨打120"]),
        ("平时少吃海鲜和动物内脏", "treatment", ["少吃海鲜和动物内脏"]),
        ("每周快走150分钟", "treatment", ["每周快走150分钟"]),
        ("不要自行停药", "treatment", ["不要自行停药"]),
        ("24小时尿蛋白定量3.8g", "treatment", []),  # measured, not taken
        ("每周发作两次", "treatment", []),
        ("我非常理解您的担心", "empathy", ["我非常理解您的担心"]),
        ("换作是谁都会紧张的，先别着急。", "empathy", ["换作是谁都会紧张的", "先别着急"]),
        ("这段时间您一定很辛苦", "empathy", ["这段时间您一定很辛苦"]),
        ("您愿意说说最担心什么吗？", "empathy", ["您愿意说说最担心什么吗"]),
        ("您已经做得很好了", "empathy", ["您已经做得很好了"]),
        ("我们一起慢慢来", "empathy", ["我们一起慢慢来"]),
        ("这不是您的错", "empathy", ["这不是您的错"]),
        ("祝您早日康复！", "empathy", ["祝您早日康复"]),
        ("有没有胸痛？什么时候开始的？", "empathy", []),  # taking the history is no warmth
        ("血压受情绪影响", "empathy", []),
        ("您的担心是正常的。", "diagnosis", []),  # comforts, judges nothing
    ],
)
def test_spans_by_hand(text: str, kind: str, expected: list[str]) -> None:
    assert _found(text)[kind] == expected


def test_kinds_overlap_but_a_kind_does_not() -> None:
    text = "考虑2型糖尿病，二甲双胍0.5g，每日三次，3个月后复查糖化血红蛋白。"
    found = spans.find(text)
    assert found == sorted(found, key=lambda s: s.start)
    by_kind = _found(text)
    assert "2型糖尿病" in by_kind["term"] and "2型糖尿病" in by_kind["diagnosis"]
    assert by_kind["treatment"][0] == "二甲双胍0.5g，每日三次" and by_kind["number"][:2] == ["0.5g", "每日三次"]
    for kind in spans.KINDS:
        own = [s for s in found if s.kind == kind]
        assert all(a.end <= b.start for a, b in itertools.pairwise(own))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("😀空腹血糖７．２ｍｍｏｌ／Ｌ", {"空腹血糖", "７．２ｍｍｏｌ／Ｌ"}),
        ("白细胞5.0×10⁹/L，ｶﾞ血小板㎎", {"白细胞", "5.0×10⁹/L", "血小板"}),
        ("ﬁﬁﬁ㈱ＡＬＴ偏高", {"ＡＬＴ", "偏高"}),
        ("👨‍👩‍👧血压１４０／９０", {"血压", "１４０／９０"}),
    ],
)
def test_offsets_are_those_of_the_text_as_written(text: str, expected: set[str]) -> None:
    """NFKC would change the length of every one of these."""
    assert expected <= {text[s.start : s.end] for s in spans.find(text)}


@pytest.mark.parametrize("text", ["", " ", "\n\n", "。。。", "😀", "\ue000\ue004\ue006", "a" * 50])
def test_text_without_content_has_no_spans(text: str) -> None:
    assert spans.find(text) == []


def test_private_use_characters_do_not_pass_for_entities() -> None:
    assert spans.find("\ue004\ue005 每日") == spans.find("   每日")


def test_spans_lie_inside_the_text_and_hold_no_outer_punctuation() -> None:
    for line in (DATA / "spans_tuning.jsonl").read_text(encoding="utf-8").splitlines():
        text = json.loads(line)["text"]
        for span in spans.find(text):
            assert 0 <= span.start < span.end <= len(text) and span.kind in spans.KINDS
            assert text[span.start] not in " ，。、；：" and text[span.end - 1] not in " ，。、；："


def test_a_long_text_costs_what_its_parts_cost() -> None:
    """Linear: 100 kB hold as many spans as 64 copies of the part; a quadratic search would not end in time."""
    part = (
        "您好，我理解您的担心。血压150/95mmHg偏高，考虑高血压。氨氯地平5mg，每日一次，4周后复查血压。"
        "每天盐不超过5克，少吃腌制食品，胸痛超过15分钟请立即拨打120。您愿意说说最担心什么吗？\n"
    )
    copies = 100_000 // len(part)
    one, many = spans.find(part), spans.find(part * copies)
    assert len(many) == len(one) * copies
    assert many[-1].end == one[-1].end + len(part) * (copies - 1)


@pytest.mark.parametrize("text", ["别" * 20_000, "1" * 20_000, "血压" * 10_000, "您一定" * 7_000, "每日" * 10_000])
def test_repetition_does_not_explode(text: str) -> None:
    spans.find(text)


@pytest.mark.parametrize("name", ["DIAGNOSIS", "TREATMENT", "EMPATHY", "COMPOUND"])
def test_every_rule_can_begin_with_the_characters_named_for_it(name: str) -> None:
    """A rule whose first character is missing from the starts would be dead."""
    pattern = getattr(span_rules, name).pattern
    ahead, rules = re.match(r"\(\?=\[(.*?[^\\])\]\)(.*)", pattern, re.S).groups()  # type: ignore[union-attr]
    free = re.compile(rules)
    starts = re.compile(f"[{ahead}]")
    checked = 0
    for line in (DATA / "spans_tuning.jsonl").read_text(encoding="utf-8").splitlines():
        text = spans.fold(json.loads(line)["text"])
        shadow = spans._shadow(text, spans._entities(text), spans.quantities.find(text))
        for match in free.finditer(text if name in ("EMPATHY", "COMPOUND") else shadow):
            assert starts.match(match[0]), match[0]
            checked += 1
    assert checked >= 10


def test_empathy_phrases_of_the_table_are_found() -> None:
    """Every literal phrase, alone in a sentence, is an empathy span that covers it."""
    for phrase in knowledge.empathy():
        if "…" in phrase.phrase:
            continue
        text = f"您好。{phrase.phrase}。"
        covered = {i for s in spans.find(text) if s.kind == "empathy" for i in range(s.start, s.end)}
        wanted = {i for i in range(3, 3 + len(phrase.phrase)) if text[i] not in "，、"}
        assert wanted <= covered, phrase.phrase


def _f1(rows: list[dict]) -> dict[str, float]:
    """Character-level F1 per kind over all rows, punctuation left out."""
    counts = {kind: [0, 0, 0] for kind in spans.KINDS}
    for row in rows:
        text = row["text"]
        wanted: dict[str, set[int]] = defaultdict(set)
        got: dict[str, set[int]] = defaultdict(set)
        for start, end, kind in row["spans"]:
            wanted[kind] |= set(range(start, end))
        for span in spans.find(text):
            got[span.kind] |= set(range(span.start, span.end))
        words = {i for i, c in enumerate(text) if c not in "，、。；：！？ ,（）()“”\n"}
        for kind, count in counts.items():
            a, b = wanted[kind] & words, got[kind] & words
            for i, size in enumerate((len(a & b), len(b - a), len(a - b))):
                count[i] += size
    return {kind: 2 * tp / (2 * tp + fp + fn) for kind, (tp, fp, fn) in counts.items()}


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    """血压 wanted, 血压 and 头晕 found: precision 1/2, recall 1, F1 2/3."""
    assert _f1([{"text": "血压，头晕", "spans": [[0, 2, "term"], [2, 3, "number"]] + [
        [0, 1, kind] for kind in ("number", "diagnosis", "treatment", "empathy")
    ]}])["term"] == pytest.approx(2 / 3)  # fmt: skip


def test_the_tuning_answers_are_annotated_as_the_rules_see_them() -> None:
    """46 answers in several styles on which the rules were tuned: a floor, no measure of quality."""
    rows = [json.loads(line) for line in (DATA / "spans_tuning.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) >= 40
    assert {kind: f1 for kind, f1 in _f1(rows).items() if f1 < 0.85} == {}
