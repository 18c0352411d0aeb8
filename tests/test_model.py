"""Bases and adapters on disk: the real model's size, warm starts, 4 bits on the CPU, and what is refused and how."""

import json

import numpy as np
import pytest

mx = pytest.importorskip("mlx.core")

import mlx.nn as nn  # noqa: E402
from mlx.utils import tree_flatten  # noqa: E402
from mlx_lm import load as mlx_load  # noqa: E402
from mlx_lm.models import qwen3_vl_moe  # noqa: E402
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters  # noqa: E402
from mlx_lm.utils import load_model, quantize_model  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402

from precision_lora import adapters, lora, model  # noqa: E402
from precision_lora.errors import UserError  # noqa: E402
from tests import tiny  # noqa: E402

TOKENS = mx.array([[5, 80, 33, 12, 7, 64], [9, 9, 1, 2, 3, 4]])
VL_PREFIX = "language_model.model."
REAL_30B = {
    "model_type": "qwen3_vl_moe",
    "text_config": {
        **tiny.VL_MOE["text_config"],
        "hidden_size": 2048,
        "num_hidden_layers": 48,
        "intermediate_size": 6144,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
        "vocab_size": 151936,
    },
}


@pytest.fixture(autouse=True)
def on_the_cpu():
    """Float32 there is exact enough for these comparisons, and only there are weights converted."""
    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(before)


def logits(net, tokens=TOKENS):
    net.eval()
    return np.array(net(tokens).astype(mx.float32))


def write_base(folder, config=tiny.LLAMA):
    """A model folder with weights and a tokenizer."""
    config = {**config, "eos_token_id": 1}
    sizes = {"vocab_size": tiny.TOKENIZER_VOCABULARY}
    config |= {"text_config": {**config["text_config"], **sizes}} if "text_config" in config else sizes
    tiny.save(tiny.build(config), config, folder)
    tiny.save_tokenizer(folder)
    return folder


def write_adapter(folder, config=tiny.LLAMA, *, rank=3, scale=7.0, keys=None, num_layers=-1, dora=False):
    """An adapter of mlx-lm's own making, every number random; the logits of `tiny.build` with it."""
    net = tiny.build(config)
    parameters = {"rank": rank, "scale": scale, "dropout": 0.0} | ({"keys": keys} if keys else {})
    linear_to_lora_layers(net, num_layers, parameters, use_dora=dora)
    mx.random.seed(11)
    arrays = {name: mx.random.normal(array.shape) * 0.1 for name, array in tree_flatten(net.trainable_parameters())}
    net.load_weights(list(arrays.items()), strict=False)
    folder.mkdir()
    mx.save_safetensors(str(folder / "adapters.safetensors"), arrays)
    kind = "dora" if dora else "lora"
    settings = {"fine_tune_type": kind, "num_layers": num_layers, "lora_parameters": parameters}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return logits(net)


def started_from(folder, config, *, rank, scale, targets="attention", num_layers=-1):
    """A model set up for training from an earlier adapter, as the trainer does it, and what it trains."""
    net = tiny.build(config)
    old = lora.matching_layers(net, adapters.read_adapter(folder, "接着训练"))
    spec = lora.plan_lora(net, rank, scale, 0.0, targets, num_layers, old)
    lora.attach_lora(net, spec, seed=3)
    lora.warm_start(net, old, spec)
    return net, spec


def refused(action):
    with pytest.raises(UserError) as caught:
        action()
    assert caught.value.fixes
    return caught.value.render()


# --------------------------------------------------------------------------------------------------------------------
# The real model


def test_the_30b_layout_has_the_parameters_of_the_guide_and_nothing_is_evaluated():
    before = mx.get_active_memory()
    net = qwen3_vl_moe.Model(qwen3_vl_moe.ModelArgs.from_dict(REAL_30B))
    spec = lora.plan_lora(net, 128, 20.0, 0.0, "attention", -1, {})
    lora.attach_lora(net, spec, seed=42)
    trained = model.trainable(net)
    # A layer at rank 128: q 2048 → 4096, k and v 2048 → 512, o 4096 → 2048, each rank × (in + out).
    assert 48 * 128 * ((2048 + 4096) + 2 * (2048 + 512) + (4096 + 2048)) == 106_954_752
    assert model.count(trained.values()) == 106_954_752
    assert len(spec.keys) == 48 * 4
    assert lora.describe_targets(spec.keys) == "k_proj×48、o_proj×48、q_proj×48、v_proj×48"
    # The adapter alone would be 428 MB; random keys and empty arrays are a few kilobytes.
    assert mx.get_active_memory() - before < 1 << 20


def test_all_linear_on_the_30b_layout_takes_the_experts_and_no_router():
    net = qwen3_vl_moe.Model(qwen3_vl_moe.ModelArgs.from_dict(REAL_30B))
    keys = lora.target_modules(net, "all-linear", 2)
    assert len(keys) == 2 * (4 + 3)
    assert keys[0].startswith("language_model.model.layers.46.")
    assert {key.rsplit(".", 2)[-2] for key in keys} == {"self_attn", "switch_mlp"}


# --------------------------------------------------------------------------------------------------------------------
# Warm start


@pytest.mark.parametrize(
    ("config", "old", "new", "modules"),
    [
        (tiny.LLAMA, {"keys": ["self_attn.q_proj"]}, {"rank": 6, "scale": 7.0}, 8),  # smaller rank
        (tiny.LLAMA, {"keys": ["self_attn.q_proj"]}, {"rank": 3, "scale": 20.0}, 8),  # other scale
        (tiny.LLAMA, {"keys": ["mlp.up_proj"]}, {"rank": 4, "scale": 2.0}, 10),  # other targets
        (tiny.LLAMA, {"num_layers": 1}, {"rank": 5, "scale": 1.5, "num_layers": 1}, 7),  # mlx-lm's default keys
        (tiny.LLAMA, {"keys": ["self_attn.v_proj"]}, {"rank": 4, "scale": 2.0, "num_layers": 1}, 5),
        (tiny.VL_MOE, {"keys": ["mlp.switch_mlp.down_proj", "self_attn.o_proj"]}, {"rank": 4, "scale": 2.0}, 10),
        (tiny.VL_MOE, {}, {"rank": 4, "scale": 9.0, "targets": "all-linear"}, 2 * (4 + 3 + 1)),  # a router among them
    ],
)
def test_a_warm_start_computes_what_base_and_old_adapter_do(tmp_path, config, old, new, modules):
    before = write_adapter(tmp_path / "old", config, **old)
    net, spec = started_from(tmp_path / "old", config, **new)
    assert len(spec.keys) == modules
    assert np.abs(before - logits(tiny.build(config))).max() > 0.05
    np.testing.assert_allclose(logits(net), before, rtol=1e-4, atol=1e-5)
    assert {a.shape[-1 if a.ndim == 2 else -2] for n, a in model.trainable(net).items() if "lora_a" in n} == {
        new["rank"]
    }


@pytest.mark.parametrize("leaves", [("lora_a", "lora_b"), ("A", "B")])
def test_a_warm_start_from_other_names_for_the_same_layers(tmp_path, leaves):
    # A text model's names on a model with eyes; with A and B, older mlx-vlm's form, whose scale is alpha / rank.
    before = write_adapter(tmp_path / "old", tiny.VL_MOE, keys=["self_attn.q_proj"], rank=3, scale=4.0)
    path = tmp_path / "old/adapters.safetensors"
    arrays = {name.replace(VL_PREFIX, "model."): array for name, array in load_file(path).items()}
    arrays = {n.replace("lora_a", leaves[0]).replace("lora_b", leaves[1]): array for n, array in arrays.items()}
    save_file(arrays, path)
    if leaves[0] == "A":
        (tmp_path / "old/adapter_config.json").write_text(json.dumps({"rank": 3, "alpha": 12.0, "dropout": 0.0}))
    net, spec = started_from(tmp_path / "old", tiny.VL_MOE, rank=4, scale=2.0)
    assert all(key.startswith(VL_PREFIX) for key in spec.keys)
    np.testing.assert_allclose(logits(net), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [tiny.LLAMA, tiny.VL_MOE])
def test_base_and_adapter_through_mlx_lm_give_our_logits(tmp_path, config):
    base = write_base(tmp_path / "base", config)
    ours = model.load_base(str(base))
    spec = lora.plan_lora(ours.model, 4, 3.0, 0.0, "all-linear", -1, {})
    lora.attach_lora(ours.model, spec, seed=1)
    plain = logits(ours.model)
    mx.random.seed(2)
    arrays = {name: mx.random.normal(a.shape) * 0.1 for name, a in model.trainable(ours.model).items()}
    model.set_trainable(ours.model, arrays)
    (tmp_path / "new").mkdir()
    mx.save_safetensors(str(tmp_path / "new/adapters.safetensors"), arrays)
    (tmp_path / "new/adapter_config.json").write_text(json.dumps(spec.adapter_config(-1)))
    theirs, _ = mlx_load(str(base), adapter_path=str(tmp_path / "new"))
    assert np.abs(logits(ours.model) - plain).max() > 0.05
    np.testing.assert_allclose(logits(ours.model), logits(theirs), rtol=1e-4, atol=1e-5)
    # And what was trained is read back as it was written.
    again = model.load_base(str(base))
    lora.load_adapter(again.model, tmp_path / "new")
    np.testing.assert_array_equal(logits(again.model), logits(ours.model))


# --------------------------------------------------------------------------------------------------------------------
# Quantised bases on the CPU


# Widths that groups of 32, and of 64 for the router, divide.
_WIDE = {"hidden_size": 64, "intermediate_size": 64, "moe_intermediate_size": 64}


@pytest.mark.parametrize("mode", ["affine", "mxfp4"])
@pytest.mark.parametrize(
    "config", [{**tiny.LLAMA, **_WIDE}, {**tiny.VL_MOE, "text_config": {**tiny.VL_MOE["text_config"], **_WIDE}}]
)
def test_a_4_bit_base_becomes_the_float32_numbers_that_it_stands_for(tmp_path, config, mode):
    write_base(tmp_path, config)
    net, settings = load_model(tmp_path)
    net.set_dtype(mx.bfloat16)
    net, settings = quantize_model(net, settings, group_size=32, bits=4, mode=mode)
    tiny.save(net, settings, tmp_path)
    stored = mx.load(str(tmp_path / "model.safetensors"))

    loaded = model.flat(model.load_base(str(tmp_path)).model.parameters())
    quantised = [name for name in loaded if f"{name.removesuffix('weight')}scales" in stored]
    assert len(quantised) == sum(name.endswith("scales") for name in stored) >= 14
    assert {array.dtype for array in loaded.values()} == {mx.float32}
    worst = 0.0
    for name in quantised:
        stem = name.removesuffix("weight")
        weight, scales, biases = stored[name], stored[f"{stem}scales"], stored.get(f"{stem}biases")
        kind = {"group_size": 32, "bits": 4, "mode": mode}
        if name.endswith("mlp.gate.weight"):  # mlx-lm keeps routers finer
            kind = {"group_size": 64, "bits": 8, "mode": "affine"}
        rounded = mx.dequantize(weight, scales, biases, **kind).astype(mx.float32)
        exact = rounded
        if biases is not None:
            exact = mx.dequantize(weight, scales.astype(mx.float32), biases.astype(mx.float32), **kind)
        assert mx.array_equal(loaded[name], exact), name
        worst = max(worst, mx.abs(exact - rounded).max().item() if "gate.weight" not in name else 0.0)
    # Bfloat16 scales would have rounded the numbers of affine bases; those of mxfp4 fit into 16 bits.
    assert (worst > 1e-4) == (mode == "affine")


def test_a_quantised_base_stays_quantised_where_float32_would_not_fit(tmp_path, monkeypatch):
    write_base(tmp_path)
    net, settings = load_model(tmp_path)
    net, settings = quantize_model(net, settings, group_size=32, bits=4)
    tiny.save(net, settings, tmp_path)
    monkeypatch.setattr(model, "available_memory", lambda: 1000)
    ours = model.load_base(str(tmp_path)).model
    assert isinstance(ours.layers[0].self_attn.q_proj, nn.QuantizedLinear)
    # A 4-bit layer takes LoRA all the same: its dimensions are those of the numbers, not of their storage.
    lora.attach_lora(ours, lora.plan_lora(ours, 4, 2.0, 0.0, "attention", -1, {}), seed=0)
    assert model.trainable(ours)["model.layers.0.self_attn.q_proj.lora_a"].shape == (32, 4)


# --------------------------------------------------------------------------------------------------------------------
# Refusals


def test_a_missing_base_is_told_in_the_guide_s_words(tmp_path):
    said = refused(lambda: model.load_base(str(tmp_path / "Qwen3-VL-30B-Medical-V2-Fused")))
    lines = said.splitlines()
    assert lines[0] == f"❌ 基础模型不存在: {tmp_path}/Qwen3-VL-30B-Medical-V2-Fused"
    first = next(i for i, line in enumerate(lines) if "方案1: 使用原始基础模型" in line)
    second = next(i for i, line in enumerate(lines) if "方案2: 先融合V2模型" in line)
    assert "Qwen3-VL-30B-Medical-Finetuned" in said and "--adapter-path adapters_v2" in "".join(lines[first:second])
    assert "fuse_v3_model.py" in "".join(lines[second:])


def sharded(folder):
    """The base in two files with an index."""
    write_base(folder)
    arrays = load_file(folder / "model.safetensors")
    names = sorted(arrays)
    files = {
        name: f"model-0000{1 + (place >= len(names) // 2)}-of-00002.safetensors" for place, name in enumerate(names)
    }
    for file in set(files.values()):
        save_file({name: arrays[name] for name in names if files[name] == file}, folder / file, {"format": "mlx"})
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return folder / "model-00002-of-00002.safetensors"


def test_shards_that_are_there_load_and_one_that_is_missing_or_cut_short_is_named(tmp_path):
    shard = sharded(tmp_path)
    model.load_base(str(tmp_path))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    said = refused(lambda: model.load_base(str(tmp_path)))
    assert f"模型文件已损坏: {shard}" in said and f"应有 {len(whole)} 字节，实际 {len(whole) - 1} 字节" in said
    shard.unlink()
    assert f"模型缺少权重文件: {shard.name}" in refused(lambda: model.load_base(str(tmp_path)))


def test_a_folder_without_weights_or_with_settings_that_nobody_knows(tmp_path):
    write_base(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "model_type": "no_such_model"}))
    said = refused(lambda: model.load_base(str(tmp_path)))
    assert f"基础模型无法加载: {tmp_path}" in said and "no_such_model" in said
    (tmp_path / "model.safetensors").unlink()
    assert f"模型文件夹里没有权重（model*.safetensors）: {tmp_path}" in refused(lambda: model.load_base(str(tmp_path)))


def test_a_rank_larger_than_a_layer_names_layer_and_limit():
    net = tiny.build(tiny.LLAMA)
    # Two key heads of 8 in a model of width 32: k and v can have no more than 16.
    spec = lora.plan_lora(net, 17, 2.0, 0.0, "attention", -1, {})
    said = refused(lambda: lora.attach_lora(net, spec, seed=0))
    assert "--lora-rank 17 比层还大: model.layers.0.self_attn.k_proj 最多 16" in said and "--lora-rank 16" in said
    assert model.trainable(net) == {}
    lora.attach_lora(net, lora.plan_lora(net, 16, 2.0, 0.0, "attention", -1, {}), seed=0)


def test_a_rank_smaller_than_the_old_adapter_s(tmp_path):
    write_adapter(tmp_path / "old", rank=5)
    said = refused(lambda: started_from(tmp_path / "old", tiny.LLAMA, rank=4, scale=2.0))
    assert "--lora-rank 4 小于已有 adapter 的秩 5" in said and "--lora-rank 5 或更大" in said


def test_an_adapter_of_another_model_is_refused_with_the_first_misfit(tmp_path):
    wide = {**tiny.LLAMA, "hidden_size": 64, "num_hidden_layers": 3}
    write_adapter(tmp_path / "wide", wide, keys=["self_attn.q_proj"])
    said = refused(lambda: started_from(tmp_path / "wide", tiny.LLAMA, rank=4, scale=2.0))
    # Layers 0 and 1 are too wide, layer 2 is not there.
    assert "不匹配" in said and "3 处" in said
    assert "model.layers.0.self_attn.q_proj: adapter 是 (64, 3)、(3, 64)，模型要 (32, 3)、(3, 32)" in said
    write_adapter(tmp_path / "experts", tiny.VL_MOE, keys=["mlp.switch_mlp.up_proj"])
    said = refused(lambda: lora.load_adapter(tiny.build(tiny.LLAMA), tmp_path / "experts"))
    assert "2 处" in said and "switch_mlp.up_proj: 模型里没有这个线性层" in said


def test_adapters_that_are_simulated_dora_or_not_lora(tmp_path):
    write_adapter(tmp_path / "dora", keys=["self_attn.q_proj"], dora=True)
    config = tmp_path / "dora/adapter_config.json"
    assert f"不支持 DoRA adapter，不能接着训练: {tmp_path}/dora" in refused(
        lambda: started_from(tmp_path / "dora", tiny.LLAMA, rank=4, scale=2.0)
    )
    # Its magnitudes tell it apart where its settings do not.
    config.write_text(config.read_text().replace('"dora"', '"lora"'))
    assert "DoRA" in refused(lambda: lora.load_adapter(tiny.build(tiny.LLAMA), tmp_path / "dora"))
    config.write_text(config.read_text().replace('"lora"', '"full"'))
    assert "'full'" in refused(lambda: lora.load_adapter(tiny.build(tiny.LLAMA), tmp_path / "dora"))
    config.write_text(json.dumps({"simulated": True, "fine_tune_type": "simulation"}))
    said = refused(lambda: started_from(tmp_path / "dora", tiny.LLAMA, rank=4, scale=2.0))
    assert "模拟训练的 adapter" in said and "不能接着训练" in said


def test_an_adapter_with_pieces_missing_or_cut_short(tmp_path):
    write_adapter(tmp_path / "old", keys=["self_attn.q_proj"])
    path = tmp_path / "old/adapters.safetensors"
    arrays = load_file(path)
    save_file({n: a for n, a in arrays.items() if n != "model.layers.1.self_attn.q_proj.lora_b"}, path)
    said = refused(lambda: adapters.read_adapter(tmp_path / "old", "使用"))
    assert "model.layers.1.self_attn.q_proj.lora_a" in said and "成对" in said
    save_file({n: a[:, :2] if "1.self_attn.q_proj.lora_a" in n else a for n, a in arrays.items()}, path)
    assert "形状不成对" in refused(lambda: adapters.read_adapter(tmp_path / "old", "使用"))
    path.write_bytes(path.read_bytes()[:-4])
    assert "已损坏" in refused(lambda: adapters.read_adapter(tmp_path / "old", "使用"))
    path.unlink()
    assert "缺少权重文件" in refused(lambda: adapters.read_adapter(tmp_path / "old", "使用"))


class _NoAttention(nn.Module):
    """One decoder layer without anything named as attention."""

    def __init__(self):
        super().__init__()
        self.blocks = [{"mixer": nn.Linear(4, 4), "norm": nn.RMSNorm(4)}]
        self.inner = nn.Sequential(nn.Linear(4, 4))

    @property
    def layers(self):
        return [self.inner]


def test_nothing_to_train_is_an_error_and_so_are_too_many_layers():
    said = refused(lambda: lora.target_modules(_NoAttention(), "attention", -1))
    assert "没有找到可训练的层: --lora-targets attention" in said and "--lora-targets all-linear" in said
    assert lora.target_modules(_NoAttention(), "all-linear", -1) == ("inner.layers.0",)
    assert "--num-layers 2: 该模型只有 1 层" in refused(lambda: lora.target_modules(_NoAttention(), "attention", 2))


def test_mlx_lm_refuses_nothing_that_we_write_for_one_layer(tmp_path):
    # Full paths as keys make num_layers matter to mlx-lm alone: it must find every tensor of ours.
    net = tiny.build(tiny.LLAMA)
    spec = lora.plan_lora(net, 4, 2.0, 0.0, "attention", 1, {})
    lora.attach_lora(net, spec, seed=0)
    mx.save_safetensors(str(tmp_path / "adapters.safetensors"), model.trainable(net))
    (tmp_path / "adapter_config.json").write_text(json.dumps(spec.adapter_config(1)))
    theirs = load_adapters(tiny.build(tiny.LLAMA), str(tmp_path))
    assert set(model.flat(theirs.trainable_parameters())) == set(model.trainable(net))
