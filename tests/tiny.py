"""Small random models, and micro-batches made by hand, for the tests of the trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models import gemma2, llama, qwen3_vl_moe
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from precision_lora.batching import MicroBatch
from precision_lora.phases import KIND_BITS

VOCABULARY = 97
TOKENIZER_VOCABULARY = 260

LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": VOCABULARY,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}
# Caps on attention and final logits: a head that is more than one product.
GEMMA2 = {
    "model_type": "gemma2",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-5,
    "vocab_size": VOCABULARY,
    "query_pre_attn_scalar": 8,
    "final_logit_softcapping": 2.0,
}
VL_MOE = {
    "model_type": "qwen3_vl_moe",
    "text_config": {
        "model_type": "qwen3_vl_moe_text",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "moe_intermediate_size": 16,
        "rms_norm_eps": 1e-6,
        "vocab_size": VOCABULARY,
        "rope_theta": 5e6,
        "tie_word_embeddings": False,
        "max_position_embeddings": 4096,
        "norm_topk_prob": True,
    },
}
MODULES = {"llama": llama, "gemma2": gemma2, "qwen3_vl_moe": qwen3_vl_moe}


def build(config: dict[str, Any], seed: int = 0) -> nn.Module:
    """A frozen model of ``config`` with seeded random weights in float32."""
    module: Any = MODULES[config["model_type"]]
    model: nn.Module = module.Model(module.ModelArgs.from_dict(config))
    mx.random.seed(seed)
    model.update(tree_map(lambda p: mx.random.normal(p.shape) * 0.2 if p.ndim > 1 else p, model.parameters()))
    mx.eval(model.parameters())
    model.freeze()
    model.eval()
    return model


def save(model: nn.Module, config: dict[str, Any], folder: Path) -> None:
    """The model as a folder that mlx-lm loads, without a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(
        str(folder / "model.safetensors"), tree_flatten(model.parameters(), destination={}), {"format": "mlx"}
    )
    (folder / "config.json").write_text(json.dumps(config))


def save_tokenizer(folder: Path) -> None:
    """A byte-level tokenizer without merges, with a chat template, as Hugging Face writes it."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    specials = ["<|pad|>", "<|im_end|>", "<|im_start|>", "<|unk|>"]
    words = {word: index for index, word in enumerate([*specials, *sorted(byte_level.alphabet())])}
    tokenizer = Tokenizer(models.BPE(words, [], unk_token="<|unk|>"))
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in specials])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|pad|>")
    fast.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    fast.save_pretrained(folder)


def micro(
    rows: list[list[int]], first_target: list[int], kinds: dict[tuple[int, int], str] | None = None, width: int = 0
) -> MicroBatch:
    """A micro-batch of ``rows`` whose tokens from ``first_target`` on are targets; ``kinds``: (row, place) → kind."""
    length = max(width, *(len(row) for row in rows))
    tokens = np.zeros((len(rows), length), np.int32)
    places: list[tuple[int, int]] = []
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = row
        places += [(index, at) for at in range(first_target[index], len(row))]
    size = -(-len(places) // 8) * 8
    out = {name: np.zeros(size, kind) for name, kind in (("p", np.int32), ("t", np.int32), ("k", np.uint8))}
    weights, valid = np.zeros(size, np.float32), np.zeros(size, np.bool_)
    for slot, (row, at) in enumerate(places):
        out["p"][slot], out["t"][slot] = row * length + at - 1, rows[row][at]
        out["k"][slot] = KIND_BITS.get((kinds or {}).get((row, at), ""), 0)
        weights[slot], valid[slot] = 1.0, True
    return MicroBatch(tokens, out["p"], out["t"], out["k"], weights, valid, np.arange(len(rows), dtype=np.int32))
