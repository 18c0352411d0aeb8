"""Tokens and their labels: supervised exactly where the assistant speaks, kinds where the spans are."""

import numpy as np
import pytest

from precision_lora import spans
from precision_lora.dataset import encode, render, template_of
from precision_lora.errors import UserError
from precision_lora.phases import KIND_BITS
from precision_lora.rows import Message, Row
from tests.tiny_tokenizer import CHATML, tiny_tokenizer


def row(*contents, line=1, weight=1.0, weights=None):
    roles = ["user", "assistant"] * len(contents)
    weights = weights or [1.0] * len(contents)
    return Row(line, tuple(Message(r, c, w) for r, c, w in zip(roles, contents, weights, strict=False)), None, weight)


def supervised_text(encoded, tokenizer, index=0):
    at = slice(int(encoded.offsets[index]), int(encoded.offsets[index + 1]))
    return tokenizer.decode(encoded.tokens[at][encoded.supervised[at]].tolist(), skip_special_tokens=False)


def test_every_assistant_turn_with_its_end_of_turn_and_nothing_else():
    tokenizer = tiny_tokenizer()
    encoded = encode([row("你好", "您好。", "血压高", "多高？")], tokenizer, 2048)
    assert supervised_text(encoded, tokenizer) == "您好。<|im_end|>多高？<|im_end|>"
    expected = tokenizer("<|im_start|>user\n你好<|im_end|>\n", add_special_tokens=False)["input_ids"]
    assert encoded.tokens[: len(expected)].tolist() == expected


def test_contents_equal_to_role_names_are_still_placed_exactly():
    tokenizer = tiny_tokenizer()
    encoded = encode([row("assistant", "user", "user", "assistant")], tokenizer, 2048)
    assert supervised_text(encoded, tokenizer) == "user<|im_end|>assistant<|im_end|>"


def test_template_that_trims_and_one_that_rewrites():
    trims = tiny_tokenizer(CHATML.replace("m['content']", "(m['content'] | trim)"))
    assert supervised_text(encode([row("问", "  答 \n")], trims, 2048), trims) == "答<|im_end|>"
    rewrites = tiny_tokenizer(CHATML.replace("m['content']", "(m['content'] | replace('思考', ''))"))
    assert "答" in supervised_text(encode([row("问", "答")], rewrites, 2048), rewrites)


def test_template_without_end_of_turn_gets_the_end_of_text():
    plain = tiny_tokenizer(
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}", "<|im_end|>"
    )
    assert supervised_text(encode([row("问", "答")], plain, 2048), plain) == "答<|im_end|>"


def test_text_row_is_supervised_whole_but_for_its_first_token():
    tokenizer = tiny_tokenizer()
    encoded = encode([Row(1, (), "abc", 1.0)], tokenizer, 2048)
    assert supervised_text(encoded, tokenizer) == "bc<|im_end|>"


def test_weight_zero_turns_are_context():
    tokenizer = tiny_tokenizer()
    encoded = encode([row("问", "一", "再问", "二", weight=2.0, weights=[1, 0, 1, 0.25])], tokenizer, 2048)
    assert supervised_text(encoded, tokenizer) == "二<|im_end|>"
    assert set(encoded.weights[encoded.supervised].tolist()) == {0.5}
    assert encode([row("问", "答", line=9, weight=0.0)], tokenizer, 2048).skipped == (9,)


def test_kinds_follow_the_spans_of_the_answer():
    tokenizer = tiny_tokenizer()
    answer = "您的血压140/90 mmHg，别太担心。"
    encoded = encode([row("血压140/90 mmHg", answer)], tokenizer, 2048)
    rendered = render(row("血压140/90 mmHg", answer), template_of(tokenizer)).text
    start = rendered.rindex(answer)
    wanted = np.zeros(len(rendered), dtype=np.uint8)
    for span in spans.find(answer):
        wanted[start + span.start : start + span.end] |= KIND_BITS[span.kind]
    offsets = tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert encoded.kinds.tolist() == [int(wanted[s]) if e > s else 0 for s, e in offsets]
    assert encoded.kinds.any() and not encoded.kinds[~encoded.supervised].any()
    # The end-of-turn token lies in no span.
    assert encoded.kinds[np.flatnonzero(encoded.supervised)[-1]] == 0


def test_long_rows_are_cut_and_prompts_that_fill_the_limit_skipped():
    tokenizer = tiny_tokenizer()
    encoded = encode([row("短", "好" * 50, line=1), row("长" * 60, "好", line=2)], tokenizer, 100)
    assert encoded.truncated == 2
    assert encoded.skipped == (2,)
    assert encoded.lengths.tolist() == [100] and encoded.lines.tolist() == [1]


def test_cache_is_used_and_a_damaged_one_made_anew(tmp_path):
    tokenizer = tiny_tokenizer()
    rows = [row("血压", "140/90 mmHg"), row("血糖", "7.2 mmol/L", line=2)]
    first = encode(rows, tokenizer, 512, tmp_path)
    (path,) = tmp_path.iterdir()
    written = path.stat().st_mtime_ns
    again = encode(rows, tokenizer, 512, tmp_path)
    assert path.stat().st_mtime_ns == written
    for name in ("tokens", "supervised", "kinds", "weights", "offsets", "lines"):
        assert (getattr(first, name) == getattr(again, name)).all()
        assert getattr(first, name).dtype == getattr(again, name).dtype
    damaged = bytearray(path.read_bytes())
    damaged[-3] ^= 0xFF
    for data in (bytes(damaged), path.read_bytes()[:50], b""):
        path.write_bytes(data)
        assert (encode(rows, tokenizer, 512, tmp_path).tokens == first.tokens).all()
    encode(rows, tokenizer, 511, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_refusals():
    with pytest.raises(UserError, match="第7行"):
        encode([row("问", "答", line=7)], tiny_tokenizer("{{ raise_exception('roles') }}"), 512)

    class Slow:
        is_fast = False

    with pytest.raises(UserError, match="分词器"):
        encode([row("问", "答")], Slow(), 512)
