"""Every written form of one quantity reads alike; what only looks like a quantity is none."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precision_lora.numerals import chinese_number, fold
from precision_lora.quantities import Quantity, find
from precision_lora.unit_forms import convert, split_period

GROUPS = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "quantity_forms.jsonl").read_text(encoding="utf-8").splitlines()
]
READ = [(g["group"], g["reads"], form) for g in GROUPS if g["reads"] for form in g["forms"]]
NOT_READ = [form for g in GROUPS if g["reads"] is None for form in g["forms"]]


def only(text: str) -> Quantity:
    found = find(text)
    assert len(found) == 1, [q.text for q in found]
    return found[0]


def test_enough_forms() -> None:
    assert len(READ) >= 350
    assert len({form for _, _, form in READ}) == len(READ)
    assert len(NOT_READ) >= 60


@pytest.mark.parametrize(("group", "reads", "form"), READ, ids=[f"{g}: {f}" for g, _, f in READ])
def test_forms_of_a_group_read_alike(group: str, reads: dict, form: str) -> None:
    quantity = only(form)
    for name, wanted in reads.items():
        if name == "per" and wanted is None:
            continue
        got = getattr(quantity, name)
        assert got == (pytest.approx(wanted) if isinstance(wanted, float) else wanted), (name, quantity)


@pytest.mark.parametrize("form", NOT_READ)
def test_what_is_no_quantity(form: str) -> None:
    assert find(form) == []


def test_superscripts_are_not_folded_into_digits() -> None:
    quantity = only("白细胞 5.0×10⁹/L")
    assert (quantity.low, quantity.unit, quantity.text) == (5.0, "10⁹/L", "5.0×10⁹/L")


def test_offsets_refer_to_the_original_text() -> None:
    text = "体温３７～３８℃，血压１４０／９０ｍｍＨｇ。"
    assert [text[q.start : q.end] for q in find(text)] == ["３７～３８℃", "１４０／９０ｍｍＨｇ"]


def test_a_pair_written_apart_names_its_parts() -> None:
    text = "高压140低压90"
    quantity = only(text)
    assert [text[a:b] for a, b in quantity.parts] == ["140", "90"]
    assert quantity.measures == "blood_pressure"


def test_bounds_with_and_between_stay_two_values() -> None:
    found = find("收缩压≥140mmHg和（或）舒张压≥90mmHg")
    assert [(q.measures, q.comparator, q.low, q.high) for q in found] == [
        ("systolic", ">=", 140.0, None),
        ("diastolic", ">=", 90.0, None),
    ]


@pytest.mark.parametrize(
    ("text", "measured"),
    [
        ("空腹血糖3.9-6.1 mmol/L，餐后2小时血糖<7.8", ["fasting_glucose", "postprandial_glucose"]),
        ("白细胞12.5，血红蛋白130，血小板210", ["white_cells", "hemoglobin", "platelets"]),
        ("空腹和餐后2小时血糖分别是7.2和11.5", ["fasting_glucose", "postprandial_glucose"]),
        ("空腹血糖正常是3.9-6.1。您7.2，这个值偏高", ["fasting_glucose", "fasting_glucose"]),
        ("空腹血糖查了两回，昨天的结果是7.2 mmol/L", ["fasting_glucose"]),
        ("7.2 mmol/L的空腹血糖已经偏高", ["fasting_glucose"]),
        ("高血压3年，最近血压150/95", [None, "blood_pressure"]),
        ("家庭血压≥135/85", ["home_blood_pressure"]),
        ("心率80，血压120/80", ["heart_rate", "blood_pressure"]),
        ("血压高到180", ["systolic"]),
        ("烧到39度", ["body_temperature"]),
        ("HbA1c7.2%", ["hba1c"]),
        ("BMI 28.4，腰围95cm", ["bmi", "waist"]),
        ("我65岁，尿酸480", ["age", "uric_acid"]),
        ("每天吃盐少于5克", ["salt_per_day"]),
        ("空腹血糖7.2mmHg", ["fasting_glucose"]),
    ],
)
def test_what_is_measured(text: str, measured: list[str | None]) -> None:
    assert [q.measures for q in find(text)] == measured


def test_doses_belong_to_their_drug() -> None:
    found = find("氨氯地平5mg每日一次，二甲双胍0.5g一天两次；硝苯地平控释片30mg")
    assert [(q.measures, q.low, q.unit) for q in found] == [
        ("氨氯地平", 5.0, "mg"),
        ("氨氯地平", 1.0, "次/天"),
        ("二甲双胍", 0.5, "g"),
        ("二甲双胍", 2.0, "次/天"),
        ("硝苯地平控释片", 30.0, "mg"),
    ]


def test_an_amount_knows_what_it_counts_for() -> None:
    assert [q.per for q in find("每次0.3g，每天不超过1.2g，5g/天，每周150分钟，共500ml")] == [
        "次",
        "天",
        "天",
        "周",
        None,
    ]
    # The 每日 of a frequency says nothing about the amount behind it.
    assert find("每日两次，0.5g")[1].per is None


def test_bare_integers_need_something_to_measure() -> None:
    assert find("有3，还有5") == []
    assert only("尿酸480").low == 480.0
    assert only("血糖偏高，我今年测了7.8").low == 7.8


def test_phone_numbers_and_pressures_are_told_apart() -> None:
    assert find("胸痛不缓解请立即拨打120") == []
    assert only("收缩压120").low == 120.0
    assert only("血压120/80，不用打120").text == "120/80"


def test_units_convert_only_within_their_kind() -> None:
    assert convert(0.5, "g", "mg") == 500.0
    assert convert(0.5, "g", "mL") is None
    assert convert(90, "分钟", "小时") == 1.5
    assert only("500mg-1g").low == 0.5
    assert split_period("g/天") == ("g", "天")
    assert split_period("次/分") == ("次/分", None)
    assert split_period("mmol/L") == ("mmol/L", None)


@pytest.mark.parametrize(
    ("numeral", "value"),
    [("一百四", 140), ("一百零四", 104), ("十四", 14), ("三十八点五", 38.5), ("两千", 2000), ("一万二", 12000),
     ("半", 0.5), ("二〇", 20), ("点五", None), ("三点", None), ("两三四十", None)],
)  # fmt: skip
def test_chinese_numerals(numeral: str, value: float | None) -> None:
    assert chinese_number(numeral) == value


@given(st.text(max_size=300))
@settings(max_examples=150, deadline=None)
def test_any_text_is_read(text: str) -> None:
    check_offsets(text)


PIECES = st.sampled_from(
    [
        "0",
        "1",
        "2",
        "9",
        ".",
        ",",
        "，",
        "/",
        "-",
        "～",
        "±",
        "×",
        "10",
        "⁹",
        "%",
        "％",
        "mg",
        "mmol/L",
        "mmHg",
        "每",
        "日",
        "天",
        "次",
        "一",
        "二",
        "两",
        "百",
        "点",
        "半",
        "至",
        "到",
        "≥",
        "<",
        "不超过",
        "约",
        "以上",
        "左右",
        "血压",
        "空腹血糖",
        "氨氯地平",
        "120",
        "高压",
        "低压",
        "分之",
        "q",
        "h",
        "bid",
        "个月",
        "第",
        "年",
        "月",
        "周",
        "片",
        "(",
        ")",
        "（",
        "）",
        "。",
        "\n",
        "隔",
        "各",
        "早晚",
        "和",
        "分别",
        "度",
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join))
@settings(max_examples=500, deadline=None)
def test_any_pile_of_pieces_is_read(text: str) -> None:
    check_offsets(text)


def check_offsets(text: str) -> None:
    assert len(fold(text)) == len(text)
    end = 0
    for quantity in find(text):
        assert end <= quantity.start < quantity.end <= len(text)
        assert text[quantity.start : quantity.end] == quantity.text
        for low, high in ((quantity.low, quantity.high), (quantity.second_low, quantity.second_high)):
            assert low is None or high is None or low <= high
        end = quantity.end


HOSTILE = {
    "digits": "1", "slashes": "1/", "dashes": "1-", "dots": "1.1", "numerals": "一百", "commas": "1,000,",
    "blanks": "1 ",
    "every": "每日口服", "powers": "10⁹", "portions": "百分之", "respectively": "血压分别", "marks": "≥",
    "doses": "1mg", "lists": "1、",
}  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE.values(), ids=list(HOSTILE))
def test_time_grows_with_the_length_and_no_faster(piece: str) -> None:
    def seconds(characters: int) -> float:
        text = piece * (characters // len(piece))
        best = float("inf")
        for _ in range(2):
            start = time.process_time()
            find(text)
            best = min(best, time.process_time() - start)
        return best

    # Quadratic reading would take 16 times as long; 9 leaves room for a busy machine.
    assert seconds(40_000) < 9 * max(seconds(10_000), 0.002)
