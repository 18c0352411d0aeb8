"""Model folders written by hand, in every naming in use: a Qwen3-VL-MoE with vision tower, or a text model.

Nothing here uses the project's own readers and writers, or mlx-vlm: the names and shapes are written down once more.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

LAYOUTS = ("mlx-vlm", "huggingface", "text", "text-experts")
SPECIALS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
)
VOCABULARY = 256 + len(SPECIALS)
_TYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
    "{% if c.type == 'image' or 'image' in c %}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{% elif 'text' in c %}{{ c.text }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def vl_config(
    *, layers: int = 2, hidden: int = 64, experts: int = 4, moe: int = 64, heads: int = 4, kv: int = 2,
    head_dim: int = 16, depth: int = 2, vision_hidden: int = 64, vocabulary: int = VOCABULARY, dtype: str = "BF16",
    tied: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """config.json of a small Qwen3-VL-MoE."""
    sections = [head_dim // 2 - 2 * (head_dim // 6), head_dim // 6, head_dim // 6]
    return {
        "architectures": ["Qwen3VLMoeForConditionalGeneration"],
        "model_type": "qwen3_vl_moe",
        "torch_dtype": _TYPES[dtype],
        "tie_word_embeddings": tied,
        "eos_token_id": SPECIALS.index("<|im_end|>"),
        "image_token_id": SPECIALS.index("<|image_pad|>"),
        "video_token_id": SPECIALS.index("<|video_pad|>"),
        "vision_start_token_id": SPECIALS.index("<|vision_start|>"),
        "vision_end_token_id": SPECIALS.index("<|vision_end|>"),
        "text_config": {
            "model_type": "qwen3_vl_moe_text",
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "intermediate_size": 2 * hidden,
            "num_attention_heads": heads,
            "num_key_value_heads": kv,
            "head_dim": head_dim,
            "num_experts": experts,
            "num_experts_per_tok": 2,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "moe_intermediate_size": moe,
            "rms_norm_eps": 1e-6,
            "vocab_size": vocabulary,
            "rope_theta": 5e6,
            "max_position_embeddings": 4096,
            "norm_topk_prob": True,
            "tie_word_embeddings": tied,
            "attention_bias": False,
            "rope_scaling": {"mrope_interleaved": True, "mrope_section": sections, "rope_type": "default"},
        },
        "vision_config": {
            "model_type": "qwen3_vl_moe",
            "depth": depth,
            "hidden_size": vision_hidden,
            "intermediate_size": 2 * vision_hidden,
            "out_hidden_size": hidden,
            "num_heads": 4,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "in_channels": 3,
            "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [0],
        },
    }


def text_config(**sizes: Any) -> dict[str, Any]:
    """config.json of the same language model without eyes."""
    config = vl_config(**sizes)
    return {**config["text_config"], "model_type": "qwen3_moe", "torch_dtype": config["torch_dtype"]}


def llama_config(
    *, layers: int = 2, hidden: int = 64, dtype: str = "BF16", vocabulary: int = VOCABULARY
) -> dict[str, Any]:
    """config.json of a dense model with biases on its attention and tied embeddings."""
    return {
        "model_type": "llama",
        "torch_dtype": _TYPES[dtype],
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rms_norm_eps": 1e-6,
        "vocab_size": vocabulary,
        "rope_theta": 1e4,
        "tie_word_embeddings": True,
        "attention_bias": True,
    }


def language_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of the language model's tensors, named from ``layers.…`` on, experts stacked as mlx-lm has them."""
    text = config.get("text_config", config)
    hidden, head = text["hidden_size"], text["head_dim"]
    queries, keys = text["num_attention_heads"] * head, text["num_key_value_heads"] * head
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (text["vocab_size"], hidden), "norm.weight": (hidden,)}
    for layer in range(text["num_hidden_layers"]):
        at = f"layers.{layer}"
        outputs = {
            "q_proj": (queries, hidden),
            "k_proj": (keys, hidden),
            "v_proj": (keys, hidden),
            "o_proj": (hidden, queries),
        }
        for name, shape in outputs.items():
            shapes[f"{at}.self_attn.{name}.weight"] = shape
            if text.get("attention_bias"):
                shapes[f"{at}.self_attn.{name}.bias"] = shape[:1]
        shapes[f"{at}.input_layernorm.weight"] = shapes[f"{at}.post_attention_layernorm.weight"] = (hidden,)
        if "num_experts" in text:
            experts, inner = text["num_experts"], text["moe_intermediate_size"]
            shapes[f"{at}.self_attn.q_norm.weight"] = shapes[f"{at}.self_attn.k_norm.weight"] = (head,)
            shapes[f"{at}.mlp.gate.weight"] = (experts, hidden)
            shapes[f"{at}.mlp.switch_mlp.gate_proj.weight"] = (experts, inner, hidden)
            shapes[f"{at}.mlp.switch_mlp.up_proj.weight"] = (experts, inner, hidden)
            shapes[f"{at}.mlp.switch_mlp.down_proj.weight"] = (experts, hidden, inner)
        else:
            inner = text["intermediate_size"]
            shapes[f"{at}.mlp.gate_proj.weight"] = shapes[f"{at}.mlp.up_proj.weight"] = (inner, hidden)
            shapes[f"{at}.mlp.down_proj.weight"] = (hidden, inner)
    if not text["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (text["vocab_size"], hidden)
    return shapes


def vision_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of the vision tower's tensors, named from ``blocks.…`` on."""
    vision = config["vision_config"]
    width, inner, out = vision["hidden_size"], vision["intermediate_size"], vision["out_hidden_size"]
    patch, merged = vision["patch_size"], width * vision["spatial_merge_size"] ** 2
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (width, vision["temporal_patch_size"], patch, patch, vision["in_channels"]),
        "patch_embed.proj.bias": (width,),
        "pos_embed.weight": (vision["num_position_embeddings"], width),
    }

    def linear(name: str, rows: int, columns: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (rows, columns), (rows,)

    def norm(name: str, size: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (size,)

    for block in range(vision["depth"]):
        at = f"blocks.{block}"
        linear(f"{at}.attn.qkv", 3 * width, width)
        linear(f"{at}.attn.proj", width, width)
        linear(f"{at}.mlp.linear_fc1", inner, width)
        linear(f"{at}.mlp.linear_fc2", width, inner)
        norm(f"{at}.norm1", width)
        norm(f"{at}.norm2", width)
    mergers = {"merger": width} | {
        f"deepstack_merger_list.{i}": merged for i in range(len(vision["deepstack_visual_indexes"]))
    }
    for name, size in mergers.items():
        norm(f"{name}.norm", size)
        linear(f"{name}.linear_fc1", merged, merged)
        linear(f"{name}.linear_fc2", out, merged)
    return shapes


def weights(config: Mapping[str, Any], layout: str = "mlx-vlm", seed: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """Names and float32 values of a whole model in a layout, one after the other; the values do not depend on it."""
    rng = np.random.default_rng(seed)

    def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) == 1 and name.endswith("weight"):
            return np.ones(shape, np.float32)
        return rng.standard_normal(shape, np.float32) * np.float32(0.05)

    halves: dict[str, np.ndarray] = {}
    for name, shape in language_shapes(config).items():
        array = values(name, shape)
        if "switch_mlp" in name and layout == "huggingface":
            experts = f"model.language_model.{name.split('.switch_mlp')[0]}.experts"
            if "gate_proj" in name:
                halves[experts] = array
            elif "up_proj" in name:
                both = np.concatenate([halves.pop(experts), array], axis=1)
                yield f"{experts}.gate_up_proj", np.ascontiguousarray(both.swapaxes(1, 2))
            else:
                yield f"{experts}.down_proj", np.ascontiguousarray(array.swapaxes(1, 2))
        elif "switch_mlp" in name and layout == "text-experts":
            head, _, tail = name.partition(".switch_mlp.")
            for expert, part in enumerate(array):
                yield f"model.{head}.experts.{expert}.{tail}", part
        else:
            yield _prefix(name, layout) + name, array
    if layout in ("mlx-vlm", "huggingface"):
        for name, shape in vision_shapes(config).items():
            yield ("vision_tower." if layout == "mlx-vlm" else "model.visual.") + name, values(name, shape)


def _prefix(name: str, layout: str) -> str:
    inner = not name.startswith("lm_head")
    if layout == "mlx-vlm":
        return "language_model.model." if inner else "language_model."
    if layout == "huggingface":
        return "model.language_model." if inner else ""
    return "model." if inner else ""


def to_bytes(values: np.ndarray, dtype: str) -> bytes:
    """Values in the bytes of a safetensors file, rounded to nearest even."""
    if dtype == "BF16":
        bits = values.astype("<f4").view("<u4").astype(np.uint64)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()
    return values.astype({"F16": "<f2", "F32": "<f4", "U32": "<u4", "U8": "u1"}[dtype]).tobytes()


def write_safetensors(path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> None:
    """A safetensors file from ``{name: (dtype, shape, bytes)}``, in the given order."""
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    position = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, position + len(data)]}
        position += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)


def quantized(values: np.ndarray, bits: int, mode: str, dtype: str) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """A weight as MLX quantises it: ``{"weight" | "scales" | "biases": (dtype, shape, bytes)}``."""
    import mlx.core as mx

    group = 64 if mode == "affine" else 32
    parts = mx.quantize(mx.array(values).astype(getattr(mx, _TYPES[dtype])), group, bits, mode=mode)
    out = {}
    for key, part in zip(("weight", "scales", "biases"), parts, strict=False):
        stored = {mx.uint32: "U32", mx.uint8: "U8"}.get(part.dtype, dtype)
        array = np.array(part if stored in ("U32", "U8") else part.astype(mx.float32))
        out[key] = (stored, tuple(part.shape), to_bytes(array, stored))
    return out


def write_base(
    folder: Path,
    config: Mapping[str, Any],
    layout: str = "mlx-vlm",
    *,
    dtype: str = "BF16",
    bits: int = 0,
    mode: str = "affine",
    quantized_vision: bool = False,
    shard_bytes: int = 1 << 40,
    seed: int = 0,
) -> Path:
    """A whole model folder: shards and index (no index for one shard), settings, tokenizer and processor files."""
    folder.mkdir(parents=True)
    shards: list[dict[str, tuple[str, tuple[int, ...], bytes]]] = [{}]
    names: list[Path] = []
    config = dict(config)
    if bits:
        settings: dict[str, Any] = {"group_size": 64 if mode == "affine" else 32, "bits": bits}
        settings |= {} if mode == "affine" else {"mode": mode}
        config["quantization"] = config["quantization_config"] = settings

    def flush() -> None:
        names.append(folder / f"part-{len(names)}")
        write_safetensors(names[-1], shards[-1])
        shards[-1] = {name: (kind, shape, b"") for name, (kind, shape, _) in shards[-1].items()}
        shards.append({})

    for name, values in weights(config, layout, seed):
        entries = {name: (dtype, values.shape, b"")}
        packable = values.ndim == 2 and quantized_vision if "vis" in name else values.ndim > 1
        if bits and packable and name.endswith(".weight") and ".mlp.gate." not in name:
            stem = name.removesuffix("weight")
            entries = {f"{stem}{key}": entry for key, entry in quantized(values, bits, mode, dtype).items()}
        else:
            entries[name] = (dtype, values.shape, to_bytes(values, dtype))
        for key, entry in entries.items():
            held = sum(len(data) for _, _, data in shards[-1].values())
            if held and held + len(entry[2]) > shard_bytes:
                flush()
            shards[-1][key] = entry
    flush()
    weight_map: dict[str, str] = {}
    for number, path in enumerate(names):
        final = "model.safetensors" if len(names) == 1 else f"model-{number + 1:05d}-of-{len(names):05d}.safetensors"
        path.rename(folder / final)
        weight_map |= {name: final for name in shards[number]}
    if len(names) > 1:
        widths = {"BF16": 2, "F16": 2, "F32": 4, "U32": 4, "U8": 1}
        total = sum(widths[kind] * math.prod(shape) for shard in shards for kind, shape, _ in shard.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    write_tokenizer(folder, vision="vision_config" in config)
    return folder


def write_tokenizer(folder: Path, vision: bool) -> None:
    """A byte-level tokenizer with ChatML's and the vision tokens, its chat template, and the processor's files."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = {word: index for index, word in enumerate([*SPECIALS, *sorted(byte_level.alphabet())])}
    tokenizer = Tokenizer(models.BPE(words, []))
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in SPECIALS])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings: dict[str, Any] = {
        "tokenizer_class": "Qwen2TokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 4096,
    }
    if vision:
        settings["processor_class"] = "Qwen3VLProcessor"
        image = {
            "image_processor_type": "Qwen2VLImageProcessorFast",
            "processor_class": "Qwen3VLProcessor",
            "patch_size": 16,
            "merge_size": 2,
            "temporal_patch_size": 2,
            "size": {"shortest_edge": 4096, "longest_edge": 65536},
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
        }
        video = {**image, "video_processor_type": "Qwen3VLVideoProcessor"}
        (folder / "preprocessor_config.json").write_text(json.dumps(image))
        (folder / "video_preprocessor_config.json").write_text(json.dumps(video))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(_TEMPLATE)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [SPECIALS.index("<|im_end|>")]}))


def write_adapter(
    folder: Path,
    config: Mapping[str, Any],
    modules: tuple[str, ...],
    *,
    prefix: str = "language_model.model.",
    rank: int = 4,
    scale: float = 2.0,
    relative: float = 0.01,
    settings: Mapping[str, Any] | None = None,
    leaves: tuple[str, str] = ("lora_a", "lora_b"),
    seed: int = 1,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A random adapter on every layer tensor whose name ends in one of ``modules``; its ``{module: (a, b)}``.

    The change has ``relative`` of the norm that `weights` gives a tensor.
    """
    rng = np.random.default_rng(seed)
    pairs = {}
    for name, shape in language_shapes(config).items():
        module = name.removesuffix(".weight")
        if not name.endswith(".weight") or not module.endswith(modules):
            continue
        *lead, rows, columns = shape
        if module == "embed_tokens":
            a, b = rng.standard_normal((rows, rank)), rng.standard_normal((rank, columns))
            change = a @ b
        elif lead:
            a, b = rng.standard_normal((*lead, rank, columns)), rng.standard_normal((*lead, rows, rank))
            change = b @ a
        else:
            a, b = rng.standard_normal((columns, rank)), rng.standard_normal((rank, rows))
            change = a @ b
        b *= relative * 0.05 * math.sqrt(change.size) / np.linalg.norm(change) / scale
        pairs[prefix + module] = (a.astype(np.float32), b.astype(np.float32))
    folder.mkdir(parents=True)
    tensors = {}
    for module, pair in pairs.items():
        for leaf, array in zip(leaves, pair, strict=True):
            tensors[f"{module}.{leaf}"] = ("F32", array.shape, array.tobytes())
    write_safetensors(folder / "adapters.safetensors", tensors)
    parameters = {"rank": rank, "scale": scale, "dropout": 0.0, "keys": list(pairs)}
    default = {"fine_tune_type": "lora", "num_layers": -1, "lora_parameters": parameters}
    (folder / "adapter_config.json").write_text(json.dumps(default if settings is None else dict(settings)))
    return pairs
