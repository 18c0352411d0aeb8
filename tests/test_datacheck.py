"""The data report: every kind of finding planted and found, the patient's words never in it."""

import json

import pytest

from precision_lora import datacheck
from precision_lora.errors import UserError
from tests.tiny_tokenizer import tiny_tokenizer


def conversation(question, answer, **extra):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages, **extra}, ensure_ascii=False)


def check(tmp_path, train, valid=None, tokenizer=None, **settings):
    (tmp_path / "train.jsonl").write_text("\n".join(train), encoding="utf-8")
    (tmp_path / "valid.jsonl").write_text("\n".join(valid or [conversation("问", "答")]), encoding="utf-8")
    defaults = {
        "max_seq_length": 400,
        "rows_per_step": 2,
        "batch_size": 2,
        "steps": 5200,
        "precision_weight": 2.0,
        "empathy_weight": 1.0,
    }
    return datacheck.check_folder(tmp_path, tokenizer, **{**defaults, **settings})


GOOD = conversation(
    "空腹血糖5.0 mmol/L正常吗？", "空腹血糖的正常范围是3.9～6.1 mmol/L，您的5.0 mmol/L在正常范围内，请放心。"
)


def test_a_sound_folder_is_usable_and_counted(tmp_path):
    report = check(tmp_path, [GOOD, conversation("头晕", "先测血压。")], tokenizer=tiny_tokenizer())
    train = report["files"]["train"]
    assert report["usable"] and train["rows"] == 2 and not train["findings"] and not train["facts"]
    assert train["tokens"]["kinds"]["number"] > 0
    assert [phase["phase"] for phase in train["phases"]] == [1, 2, 3]
    assert train["phases"][0]["mean_weight"] > train["phases"][2]["mean_weight"] > 1


def test_each_finding_is_counted_with_its_line(tmp_path):
    turns = [{"role": "user", "content": "问"}, {"role": "assistant", "content": " "}]
    turns += [{"role": "user", "content": "再问"}, {"role": "assistant", "content": "答"}]
    rows = [
        GOOD,
        GOOD,
        "{bad",
        conversation("我叫王五，电话13800138000", "好的，请说说您的情况。"),
        conversation("长" * 200, "答"),
        json.dumps({"messages": turns}, ensure_ascii=False),
        conversation("空腹血糖7.2 mmol/L高吗？", "空腹血糖的正常范围是7.2～9.9 mmol/L。"),
    ]
    report = check(tmp_path, rows, valid=[GOOD], tokenizer=tiny_tokenizer())
    train = report["files"]["train"]
    found = {name: entry["lines"] for name, entry in train["findings"].items()}
    assert found == {
        "duplicate": [2],
        "problem:json": [3],
        "personal:手机号": [4],
        "too_long": [5],
        "prompt_fills_limit": [5],
        "empty_turn": [6],
    }
    assert [7] in [entry["lines"] for entry in train["facts"].values()]
    assert report["train_overlap"] == {"valid": 1}
    assert not report["usable"]
    text = datacheck.render_report(report)
    assert "❌ 训练无法使用" in text and "第3行" in text
    assert "13800138000" not in text + json.dumps(report, ensure_ascii=False)
    assert "王五" not in text + json.dumps(report, ensure_ascii=False)


def test_large_files_are_sampled_evenly_for_the_costly_checks(tmp_path, monkeypatch):
    monkeypatch.setattr(datacheck, "SAMPLE_ROWS", 10)
    rows = [conversation(f"第{index}问", "先测血压。") for index in range(95)]
    report = check(tmp_path, rows)
    train = report["files"]["train"]
    assert train["rows"] == 95 and 10 <= train["sampled_rows"] < 20
    assert "tokens" not in train
    assert "抽样" in datacheck.render_report(report)


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"train\.jsonl"):
        datacheck.check_folder(
            tmp_path,
            None,
            max_seq_length=64,
            rows_per_step=2,
            batch_size=2,
            steps=3,
            precision_weight=2.0,
            empathy_weight=1.0,
        )


def test_exchanges_carry_what_was_asked_before():
    row = datacheck.Row(
        1,
        tuple(
            datacheck.Message(r, c) for r, c in [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
        ),
        None,
        1.0,
    )
    assert datacheck.exchanges(row.messages) == [("a", "b", ""), ("c", "d", "a")]
