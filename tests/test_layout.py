"""Layouts read from headers alone, against sizes counted by hand."""

import json

import numpy as np
import pytest

from precision_lora.base_folder import read_base
from precision_lora.errors import UserError
from precision_lora.layout import place_of, read_layout
from tests import model_folders
from tests.model_folders import LAYOUTS, llama_config, text_config, vl_config, write_base, write_safetensors

# Two layers, hidden 64, 4 heads of 16, 2 of keys: q (64, 64), k and v (32, 64), o (64, 64).
ATTENTION = 64 * 64 + 2 * 32 * 64 + 64 * 64
# 4 experts of gate, up and down (64 by 64), their router (4, 64), norms of q and k (16 each), two norms of 64.
MOE_LAYER = ATTENTION + 4 * 3 * 64 * 64 + 4 * 64 + 2 * 16 + 2 * 64
VOCABULARY = model_folders.VOCABULARY
MOE_MODEL = 2 * MOE_LAYER + VOCABULARY * 64 + 64


def layout_of(folder):
    return read_layout(read_base(folder))


def sizes(layout):
    return sorted((x.layer, x.name, x.inputs, x.outputs, x.experts) for x in layout.linears)


@pytest.fixture
def moe(tmp_path):
    def write(layout="mlx-vlm", tied=False, **more):
        config = vl_config(tied=tied) if layout in ("mlx-vlm", "huggingface") else text_config()
        return write_base(tmp_path / f"{layout}-{tied}-{more.get('bits', 0)}", config, layout, **more)

    return write


def test_experts_by_hand(moe):
    layout = layout_of(moe())
    assert (layout.layers, layout.hidden, layout.heads, layout.head_dim, layout.chosen) == (2, 64, 4, 16, 2)
    assert layout.qk_norm and layout.vocabulary == VOCABULARY
    assert layout.weights == MOE_MODEL + VOCABULARY * 64  # with a head of its own
    assert layout.stored_bytes == 2 * layout.weights  # bfloat16, without the vision tower
    assert layout.folder_bytes > layout.stored_bytes
    assert sizes(layout)[:8] == [
        (0, "mlp.gate", 64, 4, 1),
        (0, "mlp.switch_mlp.down_proj", 64, 64, 4),
        (0, "mlp.switch_mlp.gate_proj", 64, 64, 4),
        (0, "mlp.switch_mlp.up_proj", 64, 64, 4),
        (0, "self_attn.k_proj", 64, 32, 1),
        (0, "self_attn.o_proj", 64, 64, 1),
        (0, "self_attn.q_proj", 64, 64, 1),
        (0, "self_attn.v_proj", 64, 32, 1),
    ]


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "text-experts"])
def test_every_naming_and_stacking_is_the_same_model(moe, tmp_path, layout):
    """Experts as mlx-lm stacks them, and as Hugging Face does with gate and up side by side."""
    config = vl_config(moe=32)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    here = layout_of(write_base(tmp_path / "a" / "x", config, layout))
    there = layout_of(write_base(tmp_path / "b" / "x", config, "mlx-vlm"))
    assert sizes(here) == sizes(there)
    assert here.weights == there.weights


def test_experts_one_by_one_are_stacked(tmp_path):
    config = {**vl_config(), **vl_config()["text_config"]}
    one = layout_of(write_base(tmp_path / "one", config, "text-experts"))
    stacked = layout_of(write_base(tmp_path / "stacked", config, "mlx-vlm"))
    assert sizes(one) == sizes(stacked) and one.weights == stacked.weights


def test_a_dense_model_by_hand(tmp_path):
    layout = layout_of(write_base(tmp_path / "dense", llama_config(layers=3), "text"))
    # Biases on q, k, v and o (64 + 32 + 32 + 64); gate, up, down of 128; two norms. The head is the embedding.
    layer = ATTENTION + 192 + 3 * 64 * 128 + 2 * 64
    assert layout.weights == 3 * layer + VOCABULARY * 64 + 64
    assert layout.chosen == 0 and not layout.qk_norm
    assert {x.experts for x in layout.linears} == {1}


def test_a_tied_head_that_is_stored_all_the_same_is_not_counted(moe, tmp_path):
    folder = moe(tied=True)
    before = layout_of(folder)
    config = json.loads((folder / "config.json").read_text())
    write_safetensors(
        folder / "model-head.safetensors", {"lm_head.weight": ("BF16", (VOCABULARY, 64), bytes(2 * VOCABULARY * 64))}
    )
    assert layout_of(folder).weights == before.weights == MOE_MODEL
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = False
    (folder / "config.json").write_text(json.dumps(config))
    assert layout_of(folder).weights == before.weights + VOCABULARY * 64


@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_layers_have_their_plain_dimensions(moe, bits):
    plain, quantised = layout_of(moe()), layout_of(moe(bits=bits))
    assert sizes(quantised) == sizes(plain)
    assert quantised.weights == plain.weights
    # Router and norms stay; the rest takes its bits and 32 of scale and bias for each 64 weights.
    kept = 2 * (4 * 64 + 2 * 16 + 2 * 64) + 64
    assert quantised.plain_weights == kept
    assert quantised.quantised_weights == plain.weights - kept
    assert quantised.quantised_bytes * 64 * 8 == quantised.quantised_weights * (64 * bits + 32)
    assert quantised.stored_bytes == quantised.quantised_bytes + 2 * kept


def test_an_exception_from_the_group_size_counts(moe):
    folder = moe(bits=4)
    config = json.loads((folder / "config.json").read_text())
    config["quantization"]["model.layers.0.self_attn.q_proj"] = {"group_size": 32, "bits": 8}
    (folder / "config.json").write_text(json.dumps(config))
    inputs = {(x.layer, x.name): x.inputs for x in layout_of(folder).linears}
    assert inputs[0, "self_attn.q_proj"] == 32  # one group of 32, by its own setting
    assert inputs[1, "self_attn.q_proj"] == 64


def test_which_layers_get_lora(moe):
    layout = layout_of(moe())

    def names(*arguments):
        return sorted((x.layer, x.name.split(".")[-1]) for x in layout.adapted(*arguments))

    four = ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert names("attention", -1) == [(layer, name) for layer in (0, 1) for name in four]
    assert names("attention", 1) == [(1, name) for name in four]
    every = sorted([*four, "gate_proj", "up_proj", "down_proj"])
    assert names("all-linear", 1) == [(1, name) for name in every]  # the router never
    # An earlier adapter adds its own, whatever its wrappers are called.
    place = place_of("language_model.model.layers.0.mlp.switch_mlp.up_proj")
    assert names("attention", 1, frozenset({place})) == [(0, "up_proj"), *((1, name) for name in four)]


def test_lora_parameters_by_hand(moe):
    layout = layout_of(moe())
    # Rank 8 on layer 1: q and o 8 · (64 + 64), k and v 8 · (64 + 32); experts 4 · 3 · 8 · (64 + 64).
    attention = 8 * (2 * 128 + 2 * 96)
    assert sum(x.lora_parameters(8) for x in layout.adapted("attention", 1)) == attention
    assert sum(x.lora_parameters(8) for x in layout.adapted("all-linear", 1)) == attention + 12 * 8 * 128


def test_places_are_those_of_the_decoder():
    for wrapper in ("language_model.model.", "model.language_model.", "model.", ""):
        assert place_of(f"{wrapper}layers.12.self_attn.q_proj") == (12, "self_attn.q_proj")
        assert place_of(f"{wrapper}embed_tokens.weight") is None


def test_mxfp4_counts_groups_of_32(tmp_path):
    folder = write_base(tmp_path / "mx", vl_config(), bits=4, mode="mxfp4")
    assert sizes(layout_of(folder)) == sizes(layout_of(write_base(tmp_path / "plain", vl_config())))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, "config.json 里缺少模型的尺寸"),
        ({"num_attention_heads": "many"}, "config.json 里缺少模型的尺寸"),
        ({"num_attention_heads": 0, "head_dim": None}, "config.json 里缺少模型的尺寸"),
        ({"vocab_size": -5}, "没有找到语言模型的层"),
    ],
)
def test_settings_that_no_model_can_have(tmp_path, change, message):
    folder = write_base(tmp_path / "dense", text_config(), "text")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(UserError, match=message):
        layout_of(folder)


def test_a_folder_without_decoder_layers(tmp_path):
    folder = write_base(tmp_path / "dense", text_config(), "text")
    array = np.zeros((4, 64), np.float32)
    write_safetensors(folder / "model.safetensors", {"embed_tokens.weight": ("F32", array.shape, array.tobytes())})
    with pytest.raises(UserError, match="没有找到语言模型的层"):
        layout_of(folder)
