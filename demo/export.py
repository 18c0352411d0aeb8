"""Write a pretraining state as a Qwen3-VL-MoE folder in MLX layout: shards, configs, processor files.

The text weights are the moving average. Experts and output head are stored in 8 bits, everything else in float32: MLX
multiplies 16-bit experts on no CPU, and this fits into 25 MB. The vision tower has the right layout and is random: no
image was ever shown to this model.

    python demo/export.py --state run/state.pt --out demo/base
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from torch import Tensor

SHARDS = 2
QUANTISED = ("switch_mlp.", "lm_head.")
GROUP_SIZE, BITS = 32, 8
VISION = {
    "depth": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_heads": 4,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "in_channels": 3,
    "num_position_embeddings": 576,
    "deepstack_visual_indexes": [0, 1],
}


def vision_tower(out_hidden_size: int, seed: int = 0) -> dict[str, Tensor]:
    """Random float32 weights of the tower that `VISION` describes, MLX layout (channels last)."""
    hidden, inner = VISION["hidden_size"], VISION["intermediate_size"]
    assert isinstance(hidden, int) and isinstance(inner, int)
    merged = hidden * 4  # spatial_merge_size squared patches
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}

    def linear(name: str, outputs: int, inputs: int) -> None:
        weights[f"{name}.weight"] = torch.randn(outputs, inputs, generator=generator) * inputs**-0.5
        weights[f"{name}.bias"] = torch.zeros(outputs)

    def norm(name: str, size: int) -> None:
        weights[f"{name}.weight"] = torch.ones(size)
        weights[f"{name}.bias"] = torch.zeros(size)

    patches = torch.randn(hidden, 2, 16, 16, 3, generator=generator)
    weights["patch_embed.proj.weight"] = patches * (2 * 16 * 16 * 3) ** -0.5
    weights["patch_embed.proj.bias"] = torch.zeros(hidden)
    weights["pos_embed.weight"] = torch.randn(576, hidden, generator=generator) * 0.02
    for block in range(int(VISION["depth"])):  # type: ignore[call-overload]
        norm(f"blocks.{block}.norm1", hidden)
        norm(f"blocks.{block}.norm2", hidden)
        linear(f"blocks.{block}.attn.qkv", 3 * hidden, hidden)
        linear(f"blocks.{block}.attn.proj", hidden, hidden)
        linear(f"blocks.{block}.mlp.linear_fc1", inner, hidden)
        linear(f"blocks.{block}.mlp.linear_fc2", hidden, inner)
    mergers = {"merger": hidden, "deepstack_merger_list.0": merged, "deepstack_merger_list.1": merged}
    for merger, normed in mergers.items():
        norm(f"{merger}.norm", normed)
        linear(f"{merger}.linear_fc1", merged, merged)
        linear(f"{merger}.linear_fc2", out_hidden_size, merged)
        # Untrained features at the size of a token embedding: an image then disturbs the text little.
        weights[f"{merger}.linear_fc2.weight"] *= 0.02
    return weights


def config(shape: dict[str, Any], ids: dict[str, int]) -> dict[str, Any]:
    """config.json of the folder."""
    half = shape["head_dim"] // 2
    third = half * 20 // 64  # Qwen3-VL's split 24:20:20 at this head size
    return {
        "architectures": ["Qwen3VLMoeForConditionalGeneration"],
        "model_type": "qwen3_vl_moe",
        "tie_word_embeddings": False,
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "vision_token_id": ids["<|vision_pad|>"],
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "text_config": {
            **shape,
            "model_type": "qwen3_vl_moe_text",
            "intermediate_size": 3 * shape["hidden_size"],
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "norm_topk_prob": True,
            "attention_bias": False,
            "hidden_act": "silu",
            "tie_word_embeddings": False,
            "max_position_embeddings": 4096,
            "eos_token_id": ids["<|im_end|>"],
            "dtype": "float32",
            "rope_scaling": {
                "mrope_interleaved": True,
                "mrope_section": [half - 2 * third, third, third],
                "rope_type": "default",
            },
        },
        "quantization": {"group_size": GROUP_SIZE, "bits": BITS, "mode": "affine"},
        "quantization_config": {"group_size": GROUP_SIZE, "bits": BITS, "mode": "affine"},
        "vision_config": {"model_type": "qwen3_vl_moe", "out_hidden_size": shape["hidden_size"], **VISION},
    }


def stored(weights: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """The arrays as they go to disk: float32, or for experts and head the 8-bit triple of MLX's affine quantisation."""
    arrays: dict[str, np.ndarray] = {}
    for name, weight in weights.items():
        values = weight.float().numpy()
        if not any(part in name for part in QUANTISED):
            arrays[name] = values
            continue
        module = name.removesuffix(".weight")
        packed, scales, biases = mx.quantize(mx.array(values), group_size=GROUP_SIZE, bits=BITS)
        arrays |= {name: np.array(packed), f"{module}.scales": np.array(scales), f"{module}.biases": np.array(biases)}
    return arrays


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def write_weights(weights: dict[str, np.ndarray], out: Path) -> None:
    """Shards of about equal size and their index."""
    for old in out.glob("model*.safetensors"):
        old.unlink()
    total = sum(w.nbytes for w in weights.values())
    shards: list[dict[str, np.ndarray]] = [{} for _ in range(SHARDS)]
    done = 0
    for name in sorted(weights):
        shards[min(done * SHARDS // total, SHARDS - 1)][name] = np.ascontiguousarray(weights[name])
        done += weights[name].nbytes
    names = [f"model-{i:05d}-of-{SHARDS:05d}.safetensors" for i in range(1, SHARDS + 1)]
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, out / name, metadata={"format": "mlx"})
    weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in sorted(shard)}
    write_json(out / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder that holds the tokenizer already")
    arguments = parser.parse_args()
    out: Path = arguments.out
    state = torch.load(arguments.state, weights_only=True)
    shape = state["shape"]
    ids = Tokenizer.from_file(str(out / "tokenizer.json")).get_vocab()
    weights = {f"language_model.{name}": w for name, w in state["optimizer"]["averages"].items()}
    weights |= {f"vision_tower.{name}": w for name, w in vision_tower(shape["hidden_size"]).items()}
    write_weights(stored(weights), out)
    write_json(out / "config.json", config(shape, ids))
    processor = {
        "image_processor_type": "Qwen2VLImageProcessorFast",
        "processor_class": "Qwen3VLProcessor",
        "patch_size": VISION["patch_size"],
        "merge_size": VISION["spatial_merge_size"],
        "temporal_patch_size": VISION["temporal_patch_size"],
        "size": {"shortest_edge": 65536, "longest_edge": 16777216},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    write_json(out / "preprocessor_config.json", processor)
    video = {**processor, "video_processor_type": "Qwen3VLVideoProcessor"}
    del video["image_processor_type"]
    write_json(out / "video_preprocessor_config.json", video)
    stop, pad = ids["<|im_end|>"], ids["<|endoftext|>"]
    generation = {"eos_token_id": [stop, pad], "pad_token_id": pad, "temperature": 0.7}
    write_json(out / "generation_config.json", generation)
    for path in out.iterdir():
        path.chmod(0o644)
    size = sum(p.stat().st_size for p in out.iterdir())
    print(f"{out}: {sum(w.numel() for w in weights.values()) / 1e6:.2f} M weights, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
