"""Reading rows: four formats alike, and each kind of bad line named with its place."""

import json
import random

import pytest

from precision_lora.errors import UserError
from precision_lora.rows import Message, Problem, Row, iter_rows, read_rows

CONVERSATION = (Message("user", "血压140/90高吗？"), Message("assistant", "略高，达到140/90 mmHg的诊断界值。"))


def written(tmp_path, *lines, encoding="utf-8"):
    path = tmp_path / "train.jsonl"
    path.write_bytes("\n".join(lines).encode(encoding))
    return path


@pytest.mark.parametrize(
    "value",
    [
        {"messages": [{"role": m.role, "content": m.content} for m in CONVERSATION]},
        {"messages": [{"role": m.role, "content": [{"type": "text", "text": m.content}]} for m in CONVERSATION]},
        {"prompt": CONVERSATION[0].content, "completion": CONVERSATION[1].content},
        {"instruction": CONVERSATION[0].content, "output": CONVERSATION[1].content},
        {"instruction": CONVERSATION[0].content, "input": "", "output": CONVERSATION[1].content},
    ],
)
def test_formats_are_read_alike(tmp_path, value):
    (row,) = read_rows(written(tmp_path, json.dumps(value, ensure_ascii=False)))
    assert row == Row(1, CONVERSATION, None, 1.0)


def test_instruction_input_joined_and_text_kept(tmp_path):
    path = written(tmp_path, '{"instruction": "看", "input": "化验单", "output": "好"}', "", '{"text": "血糖正常"}')
    first, second = read_rows(path)
    assert first.messages[0].content == "看\n化验单"
    assert (second.line, second.text, second.messages) == (3, "血糖正常", ())


def test_weights_and_train(tmp_path):
    value = {
        "weight": 2,
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b", "train": False, "weight": 5},
            {"role": "user", "content": "c"},
            {"role": "assistant", "content": "d", "weight": 0.5},
        ],
    }
    (row,) = read_rows(written(tmp_path, json.dumps(value)))
    assert row.weight == 2.0
    assert [m.weight for m in row.messages] == [1.0, 0.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("{", "json"),
        ("[1]", "fields"),
        ('{"a": 1}', "fields"),
        ('{"messages": []}', "fields"),
        ('{"messages": [3]}', "fields"),
        ('{"messages": [{"role": "doctor", "content": "x"}]}', "fields"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "no_assistant"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "no_user"),
        ('{"prompt": "x", "completion": "  "}', "empty"),
        ('{"prompt": "x", "completion": 3}', "fields"),
        ('{"text": " "}', "empty"),
        ('{"text": "a", "weight": -1}', "weight"),
        ('{"text": "a", "weight": true}', "weight"),
        ('{"text": "a", "weight": NaN}', "json"),
        ('{"text": "a", "weight": 1e999}', "weight"),
        ('{"text": "a", "train": "no"}', "weight"),
        ('{"text": "\\ud800"}', "encoding"),
        ('{"prompt": [{"type": "image"}], "completion": "x"}', "fields"),
        ('{"messages": [{"role": "user", "content": [{"type": "image"}]}]}', "image"),
        ("[" * 5000, "json"),
        ('{"text": "a", "weight": ' + "9" * 5000 + "}", "json"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, code):
    path = written(tmp_path, '{"text": "好"}', line)
    problems = [item for item in iter_rows(path) if isinstance(item, Problem)]
    assert [(p.line, p.code) for p in problems] == [(2, code)]
    with pytest.raises(UserError) as caught:
        read_rows(path)
    assert f"{path}:2: " in caught.value.render()


def test_problems_never_quote_the_patient(tmp_path):
    path = written(tmp_path, '{"messages": "张三的身份证110101"}', '{"prompt": "张三", "completion": 1}')
    assert all("张三" not in item.reason for item in iter_rows(path) if isinstance(item, Problem))


def test_bom_is_read_and_other_encodings_are_named(tmp_path):
    assert len(read_rows(written(tmp_path, '{"text": "好"}', encoding="utf-8-sig"))) == 1
    with pytest.raises(UserError, match=r"GB18030.*train\.jsonl:1"):
        read_rows(written(tmp_path, '{"text": "血压高"}', encoding="gb18030"))
    with pytest.raises(UserError, match="UTF-16"):
        read_rows(written(tmp_path, '{"text": "血压高"}', encoding="utf-16"))


def test_empty_and_missing_files(tmp_path):
    with pytest.raises(UserError, match="空的"):
        read_rows(written(tmp_path, "", "  "))
    with pytest.raises(UserError, match="无法读取"):
        read_rows(tmp_path / "absent.jsonl")


def test_two_thousand_mutated_files_never_end_in_a_traceback(tmp_path):
    rng = random.Random(5)
    good = json.dumps(
        {"messages": [{"role": m.role, "content": m.content} for m in CONVERSATION], "weight": 1.5},
        ensure_ascii=False,
    ).encode()
    tokens = [b"{", b"}", b"[", b"]", b'"', b"null", b"NaN", b"1e999", b"\\ud800", b"\xff", b"\x00", b"\n", b"-1", b","]
    path = tmp_path / "train.jsonl"
    read = refused = 0
    for _ in range(2000):
        data = bytearray(b"\n".join([good] * rng.randint(1, 3)))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data) + 1)
            choice = rng.random()
            if choice < 0.4:
                data[at:at] = rng.choice(tokens)
            elif choice < 0.7:
                del data[at : at + rng.randint(1, 12)]
            elif choice < 0.9 and data:
                data[at % len(data)] = rng.randrange(256)
            else:
                del data[at:]
        path.write_bytes(bytes(data))
        try:
            assert read_rows(path)
            read += 1
        except UserError as error:
            assert str(path) in error.render()
            refused += 1
    assert read > 50 and refused > 1000
