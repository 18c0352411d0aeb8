"""Fusing: every layout, every stored form, what must not change, and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from precision_lora import folders, fusing, merging
from precision_lora.adapters import read_adapter
from precision_lora.base_folder import canonical, read_base
from precision_lora.errors import UserError
from precision_lora.safetensors_io import read_float32, read_shard
from tests import model_folders as made

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
EXPERTS = ("switch_mlp.gate_proj", "switch_mlp.up_proj", "switch_mlp.down_proj")


def fuse(base: Path, adapter: Path, out: Path, precision: str = "same", dequantize: bool = False) -> fusing.FusePlan:
    plan = fusing.make_plan(read_base(base), read_adapter(adapter, "融合"), precision, dequantize)
    out.mkdir()
    fusing.write(plan, out)
    fusing.check_files(plan, out)
    return plan


def raw_tensors(folder: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Every tensor's type, shape and bytes."""
    out = {}
    for path in sorted(folder.glob("*.safetensors")):
        data = path.read_bytes()
        for name, tensor in read_shard(path).tensors.items():
            out[name] = (tensor.dtype, tensor.shape, data[tensor.start : tensor.end])
    return out


def floats(folder: Path, name: str) -> np.ndarray:
    tensor = read_base(folder).tensors[name]
    return read_float32(tensor).reshape(tensor.shape)


def change(pair: tuple[np.ndarray, np.ndarray], scale: float = 2.0) -> np.ndarray:
    """s·(AB)ᵀ in float64, or for experts s·BA."""
    a, b = (array.astype(np.float64) for array in pair)
    return scale * (b @ a if a.ndim == 3 else (a @ b).T)


def assert_rounded_once(stored: np.ndarray, exact: np.ndarray) -> None:
    """Bfloat16 values within half a step of the exact ones; float32 arithmetic may move that by its own noise."""
    half_step = 2.0 ** (np.floor(np.log2(np.maximum(np.abs(exact), 1e-30))) - 8)
    assert (np.abs(stored - exact) <= half_step * 1.01 + 1e-7).all()


@pytest.mark.parametrize("shard_bytes", [1 << 40, 20_000])
@pytest.mark.parametrize("layout", made.LAYOUTS)
def test_every_layout_gets_the_same_weights(tmp_path: Path, layout: str, shard_bytes: int) -> None:
    config = made.vl_config() if layout in ("mlx-vlm", "huggingface") else made.text_config()
    base = made.write_base(tmp_path / "base", config, layout, shard_bytes=shard_bytes)
    prefix = "language_model.model." if "vision_config" in config else "model."
    pairs = made.write_adapter(tmp_path / "ad", config, ATTENTION + EXPERTS, prefix=prefix)
    before = {path: path.read_bytes() for path in base.iterdir()}
    fuse(base, tmp_path / "ad", tmp_path / "out")
    assert before == {path: path.read_bytes() for path in base.iterdir()}
    touched = set()
    for module, pair in pairs.items():
        path, moved = canonical(module), change(pair)
        plain = f"{made._prefix(path, layout)}{path}.weight"
        names: list[tuple[str, Any, bool]] = [(plain, ..., False)]
        if "switch_mlp" in path and layout == "huggingface":
            experts, _, part = plain.removesuffix(".weight").partition(".switch_mlp.")
            inner = moved.shape[1]
            columns = {"gate_proj": slice(0, inner), "up_proj": slice(inner, None), "down_proj": slice(None)}[part]
            name = f"{experts}.experts.{'down_proj' if part == 'down_proj' else 'gate_up_proj'}"
            names = [(name, (..., columns), True)]
        elif "switch_mlp" in path and layout == "text-experts":
            names = [(plain.replace("switch_mlp", f"experts.{e}"), e, False) for e in range(len(moved))]
        for name, part, transposed in names:
            expected = moved[part] if layout == "text-experts" and "experts" in name else moved
            at: Any = ... if layout == "text-experts" else part
            expected = floats(base, name)[at] + (expected.swapaxes(-1, -2) if transposed else expected)
            assert_rounded_once(floats(tmp_path / "out", name)[at], expected)
            touched.add(name)
    old, new = raw_tensors(base), raw_tensors(tmp_path / "out")
    assert old.keys() == new.keys()
    assert {name for name in old if old[name] != new[name]} == touched
    assert {name: entry[:2] for name, entry in old.items()} == {name: entry[:2] for name, entry in new.items()}


def test_companions_stay_and_strays_do_not_come_along(tmp_path: Path) -> None:
    base = made.write_base(tmp_path / "base", made.vl_config(), shard_bytes=50_000)
    made.write_adapter(tmp_path / "ad", made.vl_config(), ("q_proj",))
    (base / "extra").mkdir()
    (base / "extra" / "notes.txt").write_text("保持原样")
    (base / "README.md").write_text("旧的说明")
    (base / "adapter_config.json").write_text("{}")
    (base / ".cache").mkdir()
    (base / ".cache" / "x").write_text("x")
    fuse(base, tmp_path / "ad", tmp_path / "out")
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    expected = {path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file()}
    assert names == expected - {"adapter_config.json", ".cache/x", "README.md"} | {"README.base.md"}
    for name in names - {"README.base.md"}:
        if not name.endswith(".safetensors"):
            assert (tmp_path / "out" / name).read_bytes() == (base / name).read_bytes()
    assert (tmp_path / "out" / "README.base.md").read_text() == "旧的说明"


def test_dense_model_with_biases_and_tied_embeddings(tmp_path: Path) -> None:
    config = made.llama_config()
    base = made.write_base(tmp_path / "base", config, "text")
    pairs = made.write_adapter(tmp_path / "ad", config, ("embed_tokens", "q_proj"), prefix="model.")
    fuse(base, tmp_path / "ad", tmp_path / "out")
    a, b = pairs["model.embed_tokens"]
    name = "model.embed_tokens.weight"
    assert_rounded_once(floats(tmp_path / "out", name), floats(base, name) + 2.0 * (a.astype(np.float64) @ b))
    old, new = raw_tensors(base), raw_tensors(tmp_path / "out")
    bias = "model.layers.0.self_attn.q_proj.bias"
    assert (
        old[bias] == new[bias] and old["model.layers.0.mlp.up_proj.weight"] == new["model.layers.0.mlp.up_proj.weight"]
    )


def test_stored_copy_of_a_tied_head_moves_with_the_embedding(tmp_path: Path) -> None:
    config = made.llama_config()
    base = made.write_base(tmp_path / "base", {**config, "tie_word_embeddings": False}, "text")
    (base / "config.json").write_text(json.dumps(config))
    made.write_adapter(tmp_path / "ad", config, ("embed_tokens",), prefix="model.")
    fuse(base, tmp_path / "ad", tmp_path / "out")
    moved = {n: floats(tmp_path / "out", n) - floats(base, n) for n in ("model.embed_tokens.weight", "lm_head.weight")}
    first, second = moved.values()
    assert np.abs(first).max() > 0
    np.testing.assert_allclose(first, second, atol=2e-3)


ADAPTER_STYLES: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "relative keys": (
        {
            "fine_tune_type": "lora",
            "num_layers": 2,
            "lora_parameters": {"rank": 4, "scale": 2.0, "dropout": 0.0, "keys": ["self_attn.q_proj"]},
        },
        ("lora_a", "lora_b"),
    ),
    "no keys": ({"num_layers": -1, "lora_parameters": {"rank": 4, "scale": 2.0, "dropout": 0.1}}, ("lora_a", "lora_b")),
    "mlx-vlm, keys inside the language model": (
        {"lora_parameters": {"rank": 4, "scale": 2.0, "keys": [f"model.layers.{i}.self_attn.q_proj" for i in (0, 1)]}},
        ("lora_a", "lora_b"),
    ),
    "mlx-vlm, older": ({"rank": 4, "alpha": 8, "dropout": 0.1}, ("A", "B")),
}


@pytest.mark.parametrize("style", ADAPTER_STYLES)
def test_adapters_of_all_styles(tmp_path: Path, style: str) -> None:
    settings, leaves = ADAPTER_STYLES[style]
    config = made.vl_config()
    base = made.write_base(tmp_path / "base", config)
    pairs = made.write_adapter(tmp_path / "ad", config, ("q_proj",), settings=settings, leaves=leaves)
    fuse(base, tmp_path / "ad", tmp_path / "out")
    for module, pair in pairs.items():
        assert_rounded_once(
            floats(tmp_path / "out", f"{module}.weight"), floats(base, f"{module}.weight") + change(pair)
        )


# --------------------------------------------------------------------------------------------------------------------
# Quantised bases


FORMS = [
    ("affine", 4, "same"),
    ("affine", 4, "8bit"),
    ("affine", 4, "bf16"),
    ("affine", 4, "f16"),
    ("affine", 6, "8bit"),
    ("affine", 6, "same"),
    ("affine", 8, "same"),
    ("affine", 8, "bf16"),
    ("mxfp4", 4, "same"),
    ("mxfp4", 4, "8bit"),
    ("mxfp4", 4, "bf16"),
]


def dequantised(folder: Path, module: str) -> np.ndarray:
    """A layer's weight in float32 as MLX reads it, by the sizes of its tensors."""
    mx = pytest.importorskip("mlx.core")
    loaded: dict[str, Any] = {}
    for path in folder.glob("*.safetensors"):
        loaded |= mx.load(str(path))
    weight, scales, biases = (loaded.get(f"{module}.{key}") for key in ("weight", "scales", "biases"))
    assert weight is not None
    if scales is None:
        return np.array(weight.astype(mx.float32))
    group = 32 if biases is None else 64
    bits = weight.shape[-1] * 32 // (scales.shape[-1] * group)
    if biases is not None:
        scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
    mode = "mxfp4" if biases is None else "affine"
    return np.array(mx.dequantize(weight, scales, biases, group, bits, mode).astype(mx.float32))


@pytest.mark.parametrize(("mode", "bits", "precision"), FORMS)
def test_quantised_bases(tmp_path: Path, mode: str, bits: int, precision: str) -> None:
    load_model = pytest.importorskip("mlx_lm.utils").load_model
    config = made.vl_config()
    # Small shards, so that a layer's weight, scales and biases lie in different files.
    base = made.write_base(tmp_path / "base", config, bits=bits, mode=mode, shard_bytes=9_000)
    pairs = made.write_adapter(tmp_path / "ad", config, ("q_proj", "switch_mlp.up_proj"), relative=0.05)
    out = tmp_path / "out"
    fuse(base, tmp_path / "ad", out, precision)
    _, loaded = load_model(out, lazy=True, strict=True)
    assert loaded["quantization"] == loaded["quantization_config"]
    for module, pair in pairs.items():
        exact = dequantised(base, module) + change(pair)
        error = np.linalg.norm(dequantised(out, module) - exact) / np.linalg.norm(change(pair))
        # A grid of 16 values cannot follow a change of 5 %, finer ones do: measured 0.9, 0.14, 0.03, 0.004.
        assert error < {"same": 1.5 if bits == 4 else 0.6, "8bit": 0.25, "bf16": 0.05, "f16": 0.006}[precision]
        entry = loaded["quantization"].get(module)
        expected = {"same": None, "8bit": {"group_size": 64, "bits": 8}, "bf16": False, "f16": False}[precision]
        assert entry == expected
    old, new = raw_tensors(base), raw_tensors(out)
    touched = tuple(pairs)
    assert {n: e for n, e in old.items() if not n.startswith(touched)} == {
        n: e for n, e in new.items() if not n.startswith(touched)
    }
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == new.keys()
    assert index["metadata"]["total_size"] == sum(len(data) for _, _, data in new.values())


def test_quantised_embedding_and_head(tmp_path: Path) -> None:
    load_model = pytest.importorskip("mlx_lm.utils").load_model
    config = made.llama_config()
    base = made.write_base(tmp_path / "base", config, "text", bits=4)
    (a, b) = made.write_adapter(tmp_path / "ad", config, ("embed_tokens",), prefix="model.")["model.embed_tokens"]
    fuse(base, tmp_path / "ad", tmp_path / "out", "bf16")
    _, loaded = load_model(tmp_path / "out", strict=True)
    assert loaded["quantization"]["model.embed_tokens"] is False
    exact = dequantised(base, "model.embed_tokens") + 2.0 * (a @ b)
    assert_rounded_once(dequantised(tmp_path / "out", "model.embed_tokens"), exact)


def test_dequantize_leaves_a_plain_model(tmp_path: Path) -> None:
    load_model = pytest.importorskip("mlx_lm.utils").load_model
    config = made.vl_config()
    base = made.write_base(tmp_path / "base", config, bits=4, shard_bytes=9_000)
    pairs = made.write_adapter(tmp_path / "ad", config, ("q_proj",))
    fuse(base, tmp_path / "ad", tmp_path / "out", dequantize=True)
    _, loaded = load_model(tmp_path / "out", strict=True)
    assert "quantization" not in loaded and "quantization_config" not in loaded
    new = raw_tensors(tmp_path / "out")
    assert not any(name.endswith((".scales", ".biases")) for name in new)
    module = next(iter(pairs))
    assert_rounded_once(floats(tmp_path / "out", f"{module}.weight"), dequantised(base, module) + change(pairs[module]))
    other = "language_model.model.layers.1.mlp.switch_mlp.down_proj"
    assert_rounded_once(floats(tmp_path / "out", f"{other}.weight"), dequantised(base, other))


def test_dequantize_takes_a_quantised_vision_tower_along(tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    config = made.vl_config()
    base = made.write_base(tmp_path / "base", config, bits=4, quantized_vision=True)
    made.write_adapter(tmp_path / "ad", config, ("q_proj",))
    plan = fuse(base, tmp_path / "ad", tmp_path / "out", dequantize=True)
    module = "vision_tower.blocks.0.attn.proj"
    assert_rounded_once(floats(tmp_path / "out", f"{module}.weight"), dequantised(base, module))
    counts = fusing.check_files(plan, tmp_path / "out")
    stayed = [name for name in raw_tensors(tmp_path / "out") if "vis" in name and name in raw_tensors(base)]
    assert 0 < counts["vision_tensors_equal"] < len(stayed)


def test_same_bits_keep_the_grid_where_the_change_is_small(tmp_path: Path) -> None:
    """mlx_lm.fuse quantises anew: 2.6 times the adapter's effect is added as noise. Ours never adds more than 1."""
    pytest.importorskip("mlx.core")
    config = made.vl_config()
    base = made.write_base(tmp_path / "base", config, bits=4)
    pairs = made.write_adapter(tmp_path / "ad", config, ("q_proj",), relative=0.001)
    fuse(base, tmp_path / "ad", tmp_path / "out", "same")
    for module, pair in pairs.items():
        moved = dequantised(tmp_path / "out", module) - dequantised(base, module)
        assert np.linalg.norm(moved - change(pair)) <= 1.001 * np.linalg.norm(change(pair))


# --------------------------------------------------------------------------------------------------------------------
# The measured effect


def test_effect_is_that_of_mlx_lms_own_adapter(tmp_path: Path) -> None:
    mx = pytest.importorskip("mlx.core")
    from mlx_lm.utils import load_adapters, load_model

    from precision_lora import effect

    config = made.vl_config(dtype="F32")
    base = made.write_base(tmp_path / "base", config, dtype="F32")
    made.write_adapter(tmp_path / "ad", config, ATTENTION + EXPERTS, relative=0.05)
    plan = fuse(base, tmp_path / "ad", tmp_path / "out")
    prompts = effect.make_prompts(base)
    variants = (effect.BASE, effect.ADAPTER, "same")
    logits = effect.measure(base, prompts, effect.touches({"same": plan}), variants)
    plain, _ = load_model(base)
    adapted, _ = load_model(base)
    load_adapters(adapted, str(tmp_path / "ad"))
    tokens = mx.array(prompts.tokens)
    for variant, model in (("base", plain), ("adapter", adapted)):
        expected = np.array(model(tokens))[prompts.valid]
        np.testing.assert_allclose(logits[variant], expected, atol=2e-4 * np.abs(expected).max())
    assert effect.relative_effect(logits) > 0.01
    assert effect.remaining(logits["same"], logits) < 1e-3
    from_files = effect.measure(tmp_path / "out", prompts, {}, (effect.BASE,))[effect.BASE]
    effect.check_fused(from_files, "same", logits)
    with pytest.raises(UserError, match="不符"):
        effect.check_fused(logits["base"], "same", logits)


def test_effect_with_adapted_embedding(tmp_path: Path) -> None:
    mx = pytest.importorskip("mlx.core")
    from mlx_lm.utils import load_adapters, load_model

    from precision_lora import effect

    config = made.llama_config(dtype="F32")
    base = made.write_base(tmp_path / "base", config, "text", dtype="F32")
    made.write_adapter(tmp_path / "ad", config, ("embed_tokens", "mlp.up_proj"), prefix="model.", relative=0.05)
    plan = fuse(base, tmp_path / "ad", tmp_path / "out")
    prompts = effect.make_prompts(base)
    logits = effect.measure(base, prompts, effect.touches({"same": plan}), (effect.BASE, effect.ADAPTER))
    adapted, _ = load_model(base)
    load_adapters(adapted, str(tmp_path / "ad"))
    expected = np.array(adapted(mx.array(prompts.tokens)))[prompts.valid]
    np.testing.assert_allclose(logits["adapter"], expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("bits", "mode"), [(4, "affine"), (4, "mxfp4"), (0, "affine")])
def test_effect_with_weights_left_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int, mode: str
) -> None:
    """The path of a GPU, which multiplies quantised weights directly, agrees with that of a CPU."""
    pytest.importorskip("mlx.core")
    from precision_lora import effect

    config = made.vl_config()
    base = made.write_base(tmp_path / "base", config, dtype="F32", bits=bits, mode=mode)
    made.write_adapter(tmp_path / "ad", config, ("q_proj", "switch_mlp.down_proj"), relative=0.05)
    plan = fusing.make_plan(read_base(base), read_adapter(tmp_path / "ad", "融合"), "same")
    prompts = effect.make_prompts(base)
    variants = (effect.BASE, effect.ADAPTER, "same")
    plain = effect.measure(base, prompts, effect.touches({"same": plan}), variants)
    monkeypatch.setattr(effect, "_prefers_plain", lambda: False)
    direct = effect.measure(base, prompts, effect.touches({"same": plan}), variants)
    for variant in variants:
        np.testing.assert_allclose(direct[variant], plain[variant], atol=1e-3 * np.abs(plain[variant]).max())


def test_chat_template_that_refuses(tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    from precision_lora import effect

    made.write_tokenizer(tmp_path, vision=False)
    (tmp_path / "config.json").write_text(json.dumps(made.text_config()))
    (tmp_path / "chat_template.jinja").write_text("{{ raise_exception('only with a system turn') }}")
    with pytest.raises(UserError, match=r"聊天模板.*only with a system turn"):
        effect.make_prompts(tmp_path)


def test_remaining_by_hand() -> None:
    pytest.importorskip("mlx.core")
    from precision_lora import effect

    logits = {"base": np.array([[0.0, 0.0]]), "adapter": np.array([[3.0, 4.0]])}
    # |fused - adapter| = |(0, 1)| = 1, |adapter - base| = |(3, 4)| = 5.
    assert effect.remaining(np.array([[3.0, 5.0]]), logits) == pytest.approx(0.2)
    assert effect.remaining(logits["base"], {"base": logits["base"], "adapter": logits["base"]}) == 0.0


@pytest.mark.parametrize(
    ("dtype", "bits", "expected"),
    [
        ("BF16", 4, ("same", "8bit", "bf16", "f16")),
        ("F16", 6, ("same", "8bit", "f16")),
        ("F32", 4, ("same", "8bit", "f16", "f32")),
        ("BF16", 8, ("same", "bf16", "f16")),
        ("BF16", 0, ()),
    ],
)
def test_candidates(tmp_path: Path, dtype: str, bits: int, expected: tuple[str, ...]) -> None:
    if bits:
        pytest.importorskip("mlx.core")
    config = made.vl_config()
    base = read_base(made.write_base(tmp_path / "base", config, dtype=dtype, bits=bits))
    made.write_adapter(tmp_path / "ad", config, ("q_proj",))
    sites = merging.find_sites(base, read_adapter(tmp_path / "ad", "融合"))
    assert fusing.candidate_precisions(base, sites) == expected


# --------------------------------------------------------------------------------------------------------------------
# What is refused


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    config = made.vl_config()
    base = made.write_base(tmp_path / "base", config, shard_bytes=20_000)
    made.write_adapter(tmp_path / "ad", config, ("q_proj", "k_proj"))
    return base, tmp_path / "ad"


def refused(base: Path, adapter: Path) -> str:
    with pytest.raises(UserError) as caught:
        fusing.make_plan(read_base(base), read_adapter(adapter, "融合"), "same")
    assert caught.value.fixes
    return caught.value.message


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_adapter_of_another_base_lists_every_tensor(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    made.write_adapter(tmp_path / "other", made.vl_config(hidden=128, layers=3), ("q_proj", "switch_mlp.up_proj"))
    message = refused(pair[0], tmp_path / "other")
    for layer in range(3):
        assert f"layers.{layer}.self_attn.q_proj: a (128, 4)、b (4, 64)" in message
        assert f"layers.{layer}.mlp.switch_mlp.up_proj" in message
    assert "(64, 64)" in message and "(4, 64, 64)" in message and message.count("基础模型里没有这一层") == 2


def test_dora_and_full_and_simulated(pair: tuple[Path, Path]) -> None:
    base, adapter = pair
    settings = adapter / "adapter_config.json"
    original = settings.read_text()
    change_json(settings, fine_tune_type="dora")
    assert "DoRA" in refused(base, adapter)
    settings.write_text(original)
    change_json(settings, fine_tune_type="full")
    assert "full" in refused(base, adapter)
    settings.write_text(original)
    change_json(settings, simulated=True)
    assert "模拟" in refused(base, adapter)


def test_keys_that_leave_tensors_out(pair: tuple[Path, Path]) -> None:
    parameters = {"rank": 4, "scale": 2.0, "keys": ["self_attn.q_proj"]}
    change_json(pair[1] / "adapter_config.json", lora_parameters=parameters, num_layers=1)
    message = refused(*pair)
    # q_proj of layer 0 lies before the last layer, k_proj is in no key.
    assert "layers.0.self_attn.q_proj" in message and message.count("k_proj") == 2
    assert "layers.1.self_attn.q_proj" not in message


@pytest.mark.parametrize(
    "parameters", [{}, {"rank": 4}, {"scale": "x"}, {"scale": float("nan")}, {"rank": 0, "alpha": 1}]
)
def test_adapter_without_scale(pair: tuple[Path, Path], parameters: dict[str, Any]) -> None:
    change_json(pair[1] / "adapter_config.json", lora_parameters=parameters)
    assert "缩放" in refused(*pair)


def test_adapter_folder_incomplete(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    base, adapter = pair
    assert "adapter 不存在" in refused(base, tmp_path / "nowhere")
    (adapter / "adapters.safetensors").rename(adapter / "x")
    assert "缺少权重文件" in refused(base, adapter)
    (adapter / "adapter_config.json").write_text("{")
    assert "JSON" in refused(base, adapter)
    (adapter / "adapter_config.json").unlink()
    assert "缺少配置文件" in refused(base, adapter)


def test_adapter_on_the_eyes(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    tensors = {
        "vision_tower.blocks.0.attn.proj.lora_a": ("F32", (64, 4), bytes(64 * 16)),
        "vision_tower.blocks.0.attn.proj.lora_b": ("F32", (4, 64), bytes(64 * 16)),
    }
    made.write_safetensors(pair[1] / "adapters.safetensors", tensors)
    change_json(
        pair[1] / "adapter_config.json", lora_parameters={"scale": 1, "keys": ["vision_tower.blocks.0.attn.proj"]}
    )
    assert "视觉" in refused(*pair)


def test_index_that_points_outside_or_nowhere(pair: tuple[Path, Path]) -> None:
    base, adapter = pair
    path = base / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    name = next(iter(index["weight_map"]))
    for file in ("../../x.safetensors", "/etc/passwd", "..", ""):
        change_json(path, weight_map={**index["weight_map"], name: file})
        assert "以外" in refused(base, adapter)
    change_json(path, weight_map={**index["weight_map"], name: "model-9.safetensors"})
    assert "model-9.safetensors" in refused(base, adapter)
    change_json(path, weight_map={**index["weight_map"], "no.such.tensor": index["weight_map"][name]})
    assert "no.such.tensor" in refused(base, adapter)
    change_json(path, weight_map=[])
    assert "weight_map" in refused(base, adapter)


def test_truncated_or_missing_shard(pair: tuple[Path, Path]) -> None:
    base, adapter = pair
    shard = sorted(base.glob("model-*.safetensors"))[1]
    data = shard.read_bytes()
    shard.write_bytes(data[:-5])
    assert shard.name in refused(base, adapter)
    shard.unlink()
    assert shard.name in refused(base, adapter)


def test_base_missing_or_empty(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    assert "基础模型不存在: " in refused(tmp_path / "Qwen3-VL-30B-Medical-V2-Fused", pair[1])
    (tmp_path / "empty").mkdir()
    assert "config.json" in refused(tmp_path / "empty", pair[1])
    (tmp_path / "empty" / "config.json").write_text("{}")
    assert "没有权重" in refused(tmp_path / "empty", pair[1])


def test_values_that_are_not_finite(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    path = pair[1] / "adapters.safetensors"
    data = bytearray(path.read_bytes())
    data[-4:] = np.float32("nan").tobytes()
    path.write_bytes(data)
    with pytest.raises(UserError, match="NaN"):
        fuse(*pair, tmp_path / "out")


def test_check_finds_a_changed_vision_byte(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    plan = fuse(*pair, tmp_path / "out")
    tensor = read_base(tmp_path / "out").tensors["vision_tower.blocks.1.mlp.linear_fc1.weight"]
    with tensor.file.open("r+b") as file:
        file.seek(tensor.start + 7)
        byte = file.read(1)[0]
        file.seek(tensor.start + 7)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(UserError, match="linear_fc1"):
        fusing.check_files(plan, tmp_path / "out")


def test_hashes_are_those_of_the_files(pair: tuple[Path, Path]) -> None:
    hashes = fusing.hash_files(pair[0], ["config.json"])()
    assert hashes == {"config.json": hashlib.sha256((pair[0] / "config.json").read_bytes()).hexdigest()}


# --------------------------------------------------------------------------------------------------------------------
# Folders


def test_lmstudio_home_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folders.lmstudio_models() == tmp_path / ".lmstudio" / "models"
    (tmp_path / ".lmstudio-home-pointer").write_text(f"{tmp_path}/elsewhere\n")
    assert folders.lmstudio_models() == tmp_path / "elsewhere" / "models"


@pytest.mark.parametrize("exchange", [True, False])
def test_publish_replaces_in_one_step_or_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:
        monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    target = tmp_path / "model"
    for content in ("old", "new"):
        staging = folders.staging_name(target)
        staging.mkdir()
        (staging / "config.json").write_text(content)
        folders.publish(staging, target)
        assert (target / "config.json").read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_leftovers_of_a_killed_run(tmp_path: Path) -> None:
    target = tmp_path / "model"
    folders.staging_name(target).mkdir()
    assert folders.clean_leftovers(target) == [folders.staging_name(target)]
    # Killed between the two renames: the old model comes back.
    retired = tmp_path / ".model.old"
    retired.mkdir()
    (retired / "config.json").write_text("old")
    folders.staging_name(target).mkdir()
    folders.clean_leftovers(target)
    assert (target / "config.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_one_fusion_at_a_time(tmp_path: Path) -> None:
    with folders.locked(tmp_path), pytest.raises(UserError, match="另一个融合"), folders.locked(tmp_path):
        pass
    with folders.locked(tmp_path):
        pass


def test_space_is_checked(tmp_path: Path) -> None:
    folders.require_space(tmp_path, 0)
    with pytest.raises(UserError, match="磁盘空间不足"):
        folders.require_space(tmp_path, 1 << 60)


def test_copies_follow_links(tmp_path: Path) -> None:
    """Hugging Face's cache holds links to blobs; a copied link would break when the cache is cleaned."""
    (tmp_path / "blob").write_bytes(b"x" * 100_000)
    (tmp_path / "link").symlink_to(tmp_path / "blob")
    copied: list[int] = []
    folders.copy_file(tmp_path / "link", tmp_path / "copy", copied.append)
    assert not (tmp_path / "copy").is_symlink() and (tmp_path / "copy").read_bytes() == b"x" * 100_000
    assert sum(copied) == 100_000


def test_copy_without_help_from_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_kernel_copy", lambda *_: None)
    monkeypatch.setattr(folders, "clone_file", lambda *_: False)
    data = np.random.default_rng(0).bytes(9 << 20)
    (tmp_path / "a").write_bytes(data)
    folders.copy_file(tmp_path / "a", tmp_path / "b", lambda _: None)
    assert (tmp_path / "b").read_bytes() == data
