"""LoRA on a loaded model: which modules, attaching, and starting from an earlier adapter.

Adapters are mlx-lm's: ``adapters.safetensors`` with ``<module path>.lora_a`` / ``.lora_b`` and ``adapter_config.json``
whose ``keys`` are full module paths (mlx-vlm refuses relative ones).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten
from mlx_lm.tuner.lora import LoRALinear, LoRASwitchLinear

from precision_lora.adapters import refuse_simulated
from precision_lora.errors import UserError
from precision_lora.model import (
    LINEAR_TYPES,
    SWITCH_TYPES,
    decoder_layers,
    dimensions,
    set_trainable,
    trainable,
)

# Names of the submodule that holds a layer's attention projections, across mlx-lm's architectures.
ATTENTION_NAMES = frozenset({"self_attn", "attn", "attention", "self_attention", "linear_attn"})
# Routers choose experts; a low-rank change of the choice is not what an adapter is for, and it has no useful gradient.
ROUTER_NAMES = frozenset({"gate", "router", "shared_expert_gate"})

ADAPTER_FILE = "adapters.safetensors"
ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class LoraSpec:
    """How an adapter is attached: the change of a weight is ``scale * A @ B`` with A (in, rank), B (rank, out)."""

    rank: int
    scale: float
    dropout: float
    keys: tuple[str, ...]

    def adapter_config(self, num_layers: int) -> dict[str, Any]:
        """The content of adapter_config.json as mlx-lm and mlx-vlm read it."""
        return {
            "fine_tune_type": "lora",
            "num_layers": num_layers,
            "lora_parameters": {
                "rank": self.rank,
                "scale": self.scale,
                "dropout": self.dropout,
                "keys": list(self.keys),
            },
        }


def target_modules(model: nn.Module, targets: str, num_layers: int) -> tuple[str, ...]:
    """Paths of the modules that get LoRA: ``attention`` or ``all-linear``, in the last ``num_layers`` layers (-1: all).

    Routers never; experts' stacked linears with ``all-linear``.

    Raises:
        UserError: more layers wanted than there are, or no module matches.
    """
    layers = decoder_layers(model)
    if num_layers > len(layers):
        raise UserError(f"--num-layers {num_layers}: 该模型只有 {len(layers)} 层", "--num-layers -1 训练全部层")
    chosen = layers if num_layers < 0 else layers[-num_layers:]
    modules = dict(model.named_modules())
    found = []
    for layer in chosen:
        for name in sorted(key for key in modules if key.startswith(layer + ".")):
            parts = name[len(layer) + 1 :].split(".")
            if not isinstance(modules[name], (*LINEAR_TYPES, *SWITCH_TYPES)) or ROUTER_NAMES & set(parts):
                continue
            if targets == "all-linear" or ATTENTION_NAMES & set(parts):
                found.append(name)
    if not found:
        raise UserError(
            f"在模型里没有找到可训练的层: --lora-targets {targets}", "--lora-targets all-linear 训练全部线性层"
        )
    return tuple(found)


def attach_lora(model: nn.Module, spec: LoraSpec, seed: int) -> None:
    """Replace the modules ``spec.keys`` by LoRA ones in place; only their A and B are trainable afterwards.

    A is uniform in ±1/sqrt(input dimension), a pure function of (seed, place in ``keys``); B is zero.

    Raises:
        UserError: the rank is larger than a layer.
    """
    modules = dict(model.named_modules())
    limits = {key: min(dimensions(modules[key])) for key in spec.keys}
    smallest = min(limits, key=lambda key: limits[key])
    if spec.rank > limits[smallest]:
        raise UserError(
            f"--lora-rank {spec.rank} 比层还大: {smallest} 最多 {limits[smallest]}",
            f"--lora-rank {limits[smallest]} 或更小",
        )
    model.freeze()
    attached: list[tuple[str, nn.Module]] = []
    for key, random_key in zip(spec.keys, mx.random.split(mx.random.key(seed), len(spec.keys)), strict=True):
        kind = LoRASwitchLinear if isinstance(modules[key], SWITCH_TYPES) else LoRALinear
        lora = kind.from_base(modules[key], r=spec.rank, scale=spec.scale, dropout=spec.dropout)
        bound = 1 / dimensions(modules[key])[0] ** 0.5
        lora.lora_a = mx.random.uniform(-bound, bound, lora.lora_a.shape, key=random_key)
        attached.append((key, lora))
    model.update_modules(tree_unflatten(attached))
    # The base inside each new module stays frozen: `freeze` above marked it before it was wrapped.


@dataclass(frozen=True)
class OldAdapter:
    """An mlx-lm LoRA adapter on disk: its rank, scale, module paths and tensors."""

    rank: int
    scale: float
    keys: tuple[str, ...]
    arrays: dict[str, mx.array]


def read_adapter(folder: Path) -> OldAdapter:
    """Read ``adapter_config.json`` and ``adapters.safetensors`` of a LoRA adapter.

    Raises:
        UserError: files missing or unreadable, or a kind other than LoRA.
    """
    config_path, weights_path = folder / ADAPTER_CONFIG, folder / ADAPTER_FILE
    for path in (config_path, weights_path):
        if not path.is_file():
            raise UserError(f"adapter 文件不存在: {path}", "--adapter-path 指向含这两个文件的文件夹，例如 adapters_v2")
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
        kind = config.get("fine_tune_type", "lora")
        scale = float(config["lora_parameters"]["scale"]) if kind == "lora" else 0.0
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        fix = "换用 mlx-lm 训练出的 LoRA adapter"
        raise UserError(f"adapter 配置无法读取: {config_path}（{error!r}）", fix) from None
    refuse_simulated(folder, config, "使用")
    if kind != "lora":
        raise UserError(f"只能从 LoRA adapter 开始，{folder} 是 {kind}", "先用 fuse 把它并入基础模型，再训练")
    try:
        arrays = mx.load(str(weights_path))
    except (RuntimeError, ValueError) as error:
        raise UserError(f"adapter 权重无法读取: {weights_path}（{error}）", "重新复制这个 adapter") from None
    assert isinstance(arrays, dict)
    keys = tuple(sorted(name.removesuffix(".lora_a") for name in arrays if name.endswith(".lora_a")))
    if not keys or {f"{k}.lora_{x}" for k in keys for x in "ab"} != arrays.keys():
        raise UserError(f"adapter 权重不是成对的 lora_a / lora_b: {weights_path}", "换用 mlx-lm 训练出的 LoRA adapter")
    first = arrays[f"{keys[0]}.lora_a"]
    return OldAdapter(first.shape[-1] if first.ndim == 2 else first.shape[-2], scale, keys, arrays)


def check_fits(model: nn.Module, old: OldAdapter, folder: Path) -> None:
    """Raises UserError when ``old`` was trained on a model of another layout: all misfits counted, the first named."""
    modules = dict(model.named_modules())
    misfits = []
    for key in old.keys:
        module = modules.get(key)
        if not isinstance(module, (*LINEAR_TYPES, *SWITCH_TYPES)):
            misfits.append(f"{key}: 模型里没有这一层")
            continue
        a, b = old.arrays[f"{key}.lora_a"].shape, old.arrays[f"{key}.lora_b"].shape
        width, height = dimensions(module)
        experts = (module.num_experts,) if isinstance(module, SWITCH_TYPES) else ()
        wanted = (
            ((*experts, old.rank, width), (*experts, height, old.rank))
            if experts
            else ((width, old.rank), (old.rank, height))
        )
        if (a, b) != wanted:
            misfits.append(f"{key}: adapter 是 {a}、{b}，模型要 {wanted[0]}、{wanted[1]}")
    if misfits:
        raise UserError(
            f"adapter 与基础模型不匹配: {folder}（{len(misfits)} 处，如 {misfits[0]}）",
            "用训练它时的基础模型: --base-model …",
        )


def warm_start(model: nn.Module, old: OldAdapter, spec: LoraSpec) -> None:
    """Fill attached LoRA modules from ``old`` so that the model computes what base + old adapter does.

    The old A takes the first ranks, the rest keep their random start with B zero; B carries the ratio of the scales.
    ``spec.keys`` must contain ``old.keys`` and ``spec.rank`` be at least ``old.rank``.
    """
    now, ratio, rank = trainable(model), old.scale / spec.scale, old.rank
    for key in old.keys:
        a, b = (old.arrays[f"{key}.lora_{x}"].astype(mx.float32) for x in "ab")
        name_a, name_b = f"{key}.lora_a", f"{key}.lora_b"
        if a.ndim == 3:  # experts: A (E, r, in), B (E, out, r)
            now[name_a] = mx.concatenate([a, now[name_a][:, rank:]], axis=1)
            now[name_b] = mx.concatenate([b * ratio, now[name_b][:, :, rank:]], axis=2)
        else:
            now[name_a] = mx.concatenate([a, now[name_a][:, rank:]], axis=1)
            now[name_b] = mx.concatenate([b * ratio, now[name_b][rank:]], axis=0)
    set_trainable(model, now)


def plan_lora(
    model: nn.Module, rank: int, scale: float, dropout: float, targets: str, num_layers: int, old: OldAdapter | None
) -> LoraSpec:
    """The adapter to attach: the wanted targets, joined with those of an earlier adapter.

    Raises:
        UserError: no module matches, or the earlier adapter has a larger rank.
    """
    keys = target_modules(model, targets, num_layers)
    if old is None:
        return LoraSpec(rank, scale, dropout, keys)
    if old.rank > rank:
        raise UserError(f"--lora-rank {rank} 小于已有 adapter 的秩 {old.rank}", f"--lora-rank {old.rank} 或更大")
    return LoraSpec(rank, scale, dropout, tuple(dict.fromkeys((*keys, *old.keys))))


def load_adapter(model: nn.Module, folder: Path) -> LoraSpec:
    """Attach the adapter in ``folder`` as it is, for inference.

    Raises:
        UserError: files missing, not a LoRA adapter, or trained on another model.
    """
    old = read_adapter(folder)
    check_fits(model, old, folder)
    spec = LoraSpec(old.rank, old.scale, 0.0, old.keys)
    attach_lora(model, spec, seed=0)
    warm_start(model, old, spec)
    return spec


def describe_targets(keys: Sequence[str]) -> str:
    """The adapted modules in one line: counts by name, such as ``q_proj×48``."""
    counts = Counter(key.rsplit(".", 1)[-1] for key in keys)
    return "、".join(f"{name}×{number}" for name, number in sorted(counts.items()))
