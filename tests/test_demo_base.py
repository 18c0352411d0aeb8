"""The small base model that the repository carries: layout, tokenizer, template, and that it speaks Chinese."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

BASE = Path(__file__).resolve().parents[1] / "demo" / "base"
MAX_BYTES = 25_000_000


def read(name: str) -> dict[str, Any]:
    return json.loads((BASE / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(str(BASE))


def test_is_small_sharded_and_complete() -> None:
    assert sum(p.stat().st_size for p in BASE.rglob("*") if p.is_file()) <= MAX_BYTES
    companions = "preprocessor_config.json video_preprocessor_config.json generation_config.json chat_template.jinja"
    assert all((BASE / name).is_file() for name in companions.split())
    index = read("model.safetensors.index.json")
    files = sorted(BASE.glob("*.safetensors"))
    assert len(files) >= 2
    held: dict[str, str] = {}
    total = 0
    for file in files:
        with safe_open(file, framework="numpy") as shard:
            for name in shard.keys():  # noqa: SIM118 -- not a dict
                held[name] = file.name
                piece = shard.get_slice(name)
                # 16-bit experts run on no CPU; float32 and packed 8-bit ones (in 32-bit words) do.
                assert piece.get_dtype() in ("F32", "U32")
                size = 4
                for side in piece.get_shape():
                    size *= side
                total += size
    assert held == index["weight_map"]
    assert total == index["metadata"]["total_size"]


def test_is_a_mixture_of_experts_with_a_vision_tower_and_its_own_head() -> None:
    config = read("config.json")
    names = read("model.safetensors.index.json")["weight_map"]
    assert config["model_type"] == "qwen3_vl_moe"
    assert config["text_config"]["num_experts"] >= 8
    assert config["tie_word_embeddings"] is False and "language_model.lm_head.weight" in names
    assert any(n.startswith("vision_tower.blocks.1.") for n in names)
    assert any(n.startswith("vision_tower.deepstack_merger_list.") for n in names)
    assert "language_model.model.layers.0.mlp.switch_mlp.gate_proj.weight" in names
    sections = config["text_config"]["rope_scaling"]["mrope_section"]
    assert sum(sections) == config["text_config"]["head_dim"] // 2


def test_special_ids_agree_between_tokenizer_and_configs(tokenizer: Any) -> None:
    config, generation = read("config.json"), read("generation_config.json")
    expected = {
        "<|image_pad|>": config["image_token_id"],
        "<|video_pad|>": config["video_token_id"],
        "<|vision_start|>": config["vision_start_token_id"],
        "<|vision_end|>": config["vision_end_token_id"],
        "<|im_end|>": config["eos_token_id"],
        "<|endoftext|>": generation["eos_token_id"][1],
    }
    for text, number in expected.items():
        assert tokenizer.encode(text, add_special_tokens=False) == [number]
    assert generation["eos_token_id"][0] == config["eos_token_id"] == tokenizer.eos_token_id
    assert len(tokenizer) == config["text_config"]["vocab_size"]


@pytest.mark.parametrize(
    "text",
    [
        "空腹血糖7.2 mmol/L，超过正常范围3.9–6.1 mmol/L。",
        "血压140/90 mmHg，37.5℃，5.0×10⁹/L，μmol/L，0.5g bid",
        "罕见字：龘靐，emoji 😀，English words.\n第二行",
    ],
)
def test_text_comes_back_and_digits_stand_alone(tokenizer: Any, text: str) -> None:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    assert tokenizer.decode(encoded["input_ids"]) == text
    for token in encoded["input_ids"]:
        assert not re.search(r"[0-9]{2}|[0-9]\.|[0-9][A-Za-z]", tokenizer.decode([token]))


def test_loaders_cut_text_as_the_file_says(tokenizer: Any) -> None:
    """A client may rebuild a Qwen tokenizer from its merges: the ids must be those that the model was trained on."""
    plain = pytest.importorskip("tokenizers").Tokenizer.from_file(str(BASE / "tokenizer.json"))
    text = "<|im_start|>user\n我的血压140/90，需要担心吗？（在家量的，HbA1c 6.8%）<|im_end|>\n"
    assert tokenizer.encode(text, add_special_tokens=False) == plain.encode(text, add_special_tokens=False).ids


def test_template_takes_strings_and_image_parts(tokenizer: Any) -> None:
    question = {"role": "user", "content": "我的血压140/90需要担心吗？"}
    plain = tokenizer.apply_chat_template([question], tokenize=False, add_generation_prompt=True)
    assert plain == "<|im_start|>user\n我的血压140/90需要担心吗？<|im_end|>\n<|im_start|>assistant\n"
    parts = [{"type": "image"}, {"type": "text", "text": "这张化验单要紧吗？"}]
    seen = tokenizer.apply_chat_template([{"role": "user", "content": parts}], tokenize=False)
    assert seen == "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>这张化验单要紧吗？<|im_end|>\n"
    rounds = [{"role": "system", "content": "甲"}, question, {"role": "assistant", "content": "乙"}]
    rendered = tokenizer.apply_chat_template(rounds, tokenize=False)
    assert rendered.startswith("<|im_start|>system\n甲<|im_end|>\n") and rendered.endswith("assistant\n乙<|im_end|>\n")


def test_answers_in_chinese_on_the_topic_without_exact_figures() -> None:
    mx = pytest.importorskip("mlx.core")
    from mlx_lm.generate import generate
    from mlx_lm.utils import load_model, load_tokenizer

    model, _ = load_model(BASE, strict=True)
    model.set_dtype(mx.float32)
    wrapped = load_tokenizer(BASE)
    questions = {
        "我的空腹血糖是7.2 mmol/L，这个值高吗？": "血糖",
        "我的血压140/90需要担心吗？": "血压",
        "刚确诊高血压，很担心以后怎么办...": "",
    }
    answers = []
    for question, topic in questions.items():
        prompt = wrapped.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True)
        answers.append(generate(model, wrapped, prompt, max_tokens=250))
        chinese = sum("\u4e00" <= c <= "\u9fff" for c in answers[-1])
        assert len(answers[-1]) >= 40 and chinese > 0.75 * len(answers[-1]), answers[-1]
        assert topic in answers[-1]
        assert not re.search(r"3\.9|6\.1|120|159", answers[-1]), "the base is to be loose with numbers"
    assert "您" in "".join(answers)
