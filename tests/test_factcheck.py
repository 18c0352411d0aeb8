"""Hand-made answers: sound ones without a finding, faulty ones with the finding that they deserve."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precision_lora.asker import read_asker
from precision_lora.factcheck import check, findings

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "factcheck_cases.jsonl").read_text(encoding="utf-8").splitlines()
]
SOUND = [c for c in CASES if c["kind"] is None]
FAULTY = [c for c in CASES if c["kind"] is not None]


def verdicts(answer: str, question: str = "") -> list[str]:
    return [reading.verdict for reading in check(answer, question)]


def test_enough_cases_each_way() -> None:
    assert len(SOUND) >= 60
    assert len(FAULTY) >= 60


@pytest.mark.parametrize("case", SOUND, ids=[c["answer"] for c in SOUND])
def test_a_sound_answer_has_no_finding(case: dict) -> None:
    assert findings(case["answer"], case["question"]) == []


@pytest.mark.parametrize("case", FAULTY, ids=[c["answer"] for c in FAULTY])
def test_a_fault_is_named(case: dict) -> None:
    found = findings(case["answer"], case["question"])
    assert case["kind"] in {f.kind for f in found}
    for finding in found:
        assert 0 <= finding.start <= finding.end <= len(case["answer"])
        assert finding.note
        assert finding.source


def test_every_source_of_a_disagreement_passes_and_is_named() -> None:
    (first,) = check("空腹血糖正常范围是3.9-6.1 mmol/L")
    (second,) = check("空腹血糖正常范围是3.9-5.6 mmol/L")
    assert (first.verdict, second.verdict) == ("supported", "supported")
    assert first.fact_id == second.fact_id
    assert first.source != second.source


def test_the_same_number_means_different_things_in_different_units() -> None:
    # 126 / 18.0 = 7.0 for glucose, 126 / 38.67 = 3.26 for cholesterol.
    assert verdicts("126 mg/dL相当于7.0 mmol/L", "空腹血糖126 mg/dL") == ["echo", "computed"]
    assert verdicts("126 mg/dL相当于7.0 mmol/L", "总胆固醇126 mg/dL") == ["echo", "contradicted"]
    assert verdicts("126 mg/dL相当于3.26 mmol/L", "总胆固醇126 mg/dL") == ["echo", "computed"]


def test_computed_values_have_five_percent() -> None:
    # 80 / 1.7² = 27.68; 5 % of it is 1.38.
    question = "身高170cm，体重80kg"
    assert verdicts("您的BMI约28.9", question) == ["computed"]
    assert verdicts("您的BMI约29.3", question) == ["contradicted"]


def test_the_mean_of_the_askers_values() -> None:
    question = "三天的空腹血糖是6.8、7.2和7.6，心率70"
    assert verdicts("空腹血糖平均7.2", question)[-1] in ("computed", "echo")


def test_an_echo_is_not_judged() -> None:
    assert verdicts("您说空腹血糖正常是7.2-9.9，这不对，应该是3.9-6.1。", "空腹血糖正常是7.2-9.9吗") == [
        "echo",
        "supported",
    ]


def test_sex_comes_from_the_question() -> None:
    assert verdicts("血红蛋白参考范围130-175 g/L", "我是男的，血红蛋白140") == ["supported"]
    assert verdicts("血红蛋白参考范围130-175 g/L", "我是女的，血红蛋白120") == ["contradicted"]


def test_age_comes_from_the_question() -> None:
    answer = "血压目标是降到150/90以下"
    assert verdicts(answer, "我85岁，高血压") == ["supported"]
    assert verdicts(answer, "我40岁，高血压") == ["contradicted"]


def test_a_contraindication_named_is_no_recommendation() -> None:
    question = "怀孕20周，血压150/95"
    assert findings("缬沙坦、厄贝沙坦孕妇禁用，不要自己吃。", question) == []
    assert [f.severity for f in findings("可以吃缬沙坦80mg。", question)] == ["veto"]


def test_doses_are_multiplied_by_their_frequency() -> None:
    # 0.6 g × 4 = 2.4 g is within what a listed source allows, 0.8 g × 4 = 3.2 g is not.
    assert [f.kind for f in findings("布洛芬每次0.4g，每日3次")] == []
    assert "overdose" in {f.kind for f in findings("布洛芬每次0.8g，每日4次")}


def test_red_flags_of_earlier_messages_are_not_asked_for_again() -> None:
    history = "胸口疼了半小时，还出冷汗"
    assert findings("急诊一般要查心电图和肌钙蛋白。", "好的已经叫了救护车，要查什么？", history) == []
    assert {f.kind for f in findings("一般要查心电图。", history)} == {"missed_red_flag"}


def test_a_denied_sign_raises_no_flag() -> None:
    assert findings("可以先观察，注意休息。", "没有胸痛，也没有出冷汗，就是有点累") == []


def test_harm_is_found_behind_a_denial_of_the_same_words() -> None:
    question = "我爸说胸口压着疼，出冷汗，20分钟了"
    warned = "请立即拨打120，不要先观察。"
    assert findings(warned, question) == []
    assert [f.kind for f in findings(warned + "算了，我看可以先观察。", question)] == ["harmful_advice"]


@pytest.mark.parametrize(
    "question, months",
    [("宝宝二十个月大", 20), ("宝宝十一个月大", 11), ("娃两个月大", 2), ("宝宝七八个月大", 7), ("宝宝9个月大", 9)],
)
def test_chinese_months_are_read_whole(question: str, months: int) -> None:
    assert read_asker(question).age == pytest.approx(months / 12)


def test_what_was_left_out_has_no_place_in_the_answer() -> None:
    [missed] = findings("多喝水，好好休息。", "我爸说胸口压着疼，出冷汗，20分钟了")
    assert (missed.kind, missed.start, missed.end) == ("missed_red_flag", 0, 0)
    [unnoticed] = findings("饭后吃就行。", "我一天吃对乙酰氨基酚6g")
    assert (unnoticed.kind, unnoticed.start, unnoticed.end) == ("unnoticed_overdose", 0, 0)


def test_empty_and_foreign_texts() -> None:
    assert check("", "") == []
    assert findings("", "血压140/90") == []
    assert findings("The range is 3 to 5 apples.", "hello") == []


@given(st.text(max_size=200), st.text(max_size=100))
@settings(max_examples=100, deadline=None)
def test_any_text_is_checked(answer: str, question: str) -> None:
    for finding in findings(answer, question):
        assert 0 <= finding.start <= finding.end <= len(answer)


WORDS = st.sampled_from(
    [
        "您的",
        "空腹血糖",
        "血压",
        "尿酸",
        "BMI",
        "正常",
        "偏高",
        "偏低",
        "不",
        "7.2",
        "140/90",
        "3.9-6.1",
        "mmol/L",
        "mg/dL",
        "属于",
        "2级高血压",
        "达到",
        "诊断标准",
        "目标",
        "控制在",
        "氨氯地平",
        "布洛芬",
        "5mg",
        "每日两次",
        "停用",
        "胰岛素",
        "可以",
        "孕妇禁用",
        "，",
        "。",
        "？",
        "相当于",
        "平均",
        "怀孕",
        "胸痛",
        "出汗",
        "120",
        "超过",
        "以下",
    ]
)


@given(st.lists(WORDS, max_size=25).map("".join), st.lists(WORDS, max_size=15).map("".join))
@settings(max_examples=300, deadline=None)
def test_any_pile_of_words_is_checked(answer: str, question: str) -> None:
    assert len(check(answer, question)) <= len(answer)
    for finding in findings(answer, question):
        assert 0 <= finding.start <= finding.end <= len(answer)


def test_time_grows_with_the_length_and_no_faster() -> None:
    text = "您的空腹血糖7.2 mmol/L偏高，正常3.9-6.1，氨氯地平5mg每日一次，血压140/90属于1级高血压。"

    def seconds(times: int) -> float:
        start = time.process_time()
        findings(text * times, "空腹血糖7.2，血压140/90")
        return time.process_time() - start

    seconds(10)
    # Quadratic work would take 16 times as long.
    assert seconds(400) < 9 * max(seconds(100), 0.01)
