"""LoRA on a loaded model: which modules, attaching, and starting from an earlier adapter.

Adapters are mlx-lm's: ``adapters.safetensors`` with ``<module path>.lora_a`` / ``.lora_b`` and ``adapter_config.json``
whose ``keys`` are full module paths (mlx-vlm refuses relative ones). Earlier ones are read as `adapters` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten
from mlx_lm.tuner.lora import LoRALinear, LoRASwitchLinear

from precision_lora.adapters import Adapter, AdapterLayer, read_adapter
from precision_lora.base_folder import canonical
from precision_lora.errors import UserError
from precision_lora.layout import ATTENTION_NAMES, ROUTER_NAMES
from precision_lora.model import (
    LINEAR_TYPES,
    SWITCH_TYPES,
    decoder_layers,
    dimensions,
    set_trainable,
    trainable,
)


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


def matching_layers(model: nn.Module, adapter: Adapter) -> dict[str, AdapterLayer]:
    """The adapter's layers by the model's own module paths, which may differ from the adapter's in their wrappers.

    Raises:
        UserError: it was trained on a model of another layout; all misfits counted, the first named.
    """
    modules = dict(model.named_modules())
    paths = {canonical(name): name for name in modules}
    found, misfits = {}, []
    for layer in adapter.layers:
        path = layer.module if layer.module in modules else paths.get(canonical(layer.module), "")
        module = modules.get(path) if path else None
        if not isinstance(module, (*LINEAR_TYPES, *SWITCH_TYPES)):
            misfits.append(f"{layer.module}: 模型里没有这个线性层")
            continue
        width, height = dimensions(module)
        wanted_a: tuple[int, ...] = (width, layer.rank)
        wanted_b: tuple[int, ...] = (layer.rank, height)
        if isinstance(module, SWITCH_TYPES):
            wanted_a, wanted_b = (module.num_experts, layer.rank, width), (module.num_experts, height, layer.rank)
        if (layer.a.shape, layer.b.shape) != (wanted_a, wanted_b):
            misfits.append(
                f"{layer.module}: adapter 是 {layer.a.shape}、{layer.b.shape}，模型要 {wanted_a}、{wanted_b}"
            )
        found[path] = layer
    if misfits:
        raise UserError(
            f"adapter 与基础模型不匹配: {adapter.folder}（{len(misfits)} 处，如 {misfits[0]}）",
            "用训练它时的基础模型: --base-model …",
        )
    return found


def warm_start(model: nn.Module, old: Mapping[str, AdapterLayer], spec: LoraSpec) -> None:
    """Fill attached LoRA modules from ``old``, so that the model computes what base + old adapter does.

    The old A takes the first ranks, the rest keep their random start with B zero; B carries the ratio of the scales.
    ``spec.keys`` must contain the paths in ``old``, and ``spec.rank`` be at least its largest rank.
    """
    now = trainable(model)
    files = {tensor.file for layer in old.values() for tensor in (layer.a, layer.b)}
    stored = {name: array for file in files for name, array in mx.load(str(file)).items()}  # type: ignore[union-attr]
    for key, layer in old.items():
        a, b = (stored[tensor.name].astype(mx.float32) for tensor in (layer.a, layer.b))
        b = b * (layer.scale / spec.scale)
        name_a, name_b = f"{key}.lora_a", f"{key}.lora_b"
        if a.ndim == 3:  # experts: A (E, r, in), B (E, out, r)
            now[name_a] = mx.concatenate([a, now[name_a][:, layer.rank :]], axis=1)
            now[name_b] = mx.concatenate([b, now[name_b][:, :, layer.rank :]], axis=2)
        else:
            now[name_a] = mx.concatenate([a, now[name_a][:, layer.rank :]], axis=1)
            now[name_b] = mx.concatenate([b, now[name_b][layer.rank :]], axis=0)
    set_trainable(model, now)


def plan_lora(
    model: nn.Module,
    rank: int,
    scale: float,
    dropout: float,
    targets: str,
    num_layers: int,
    old: Mapping[str, AdapterLayer],
) -> LoraSpec:
    """The adapter to attach: the wanted targets, joined with those of an earlier adapter (none: empty).

    Raises:
        UserError: no module matches, or the earlier adapter has a larger rank.
    """
    keys = target_modules(model, targets, num_layers)
    largest = max((layer.rank for layer in old.values()), default=0)
    if largest > rank:
        raise UserError(f"--lora-rank {rank} 小于已有 adapter 的秩 {largest}", f"--lora-rank {largest} 或更大")
    return LoraSpec(rank, scale, dropout, tuple(dict.fromkeys((*keys, *old))))


def load_adapter(model: nn.Module, folder: Path) -> LoraSpec:
    """Attach the adapter in ``folder`` as it is, for inference.

    Raises:
        UserError: files missing, not a LoRA adapter, or trained on another model.
    """
    adapter = read_adapter(folder, "使用")
    old = matching_layers(model, adapter)
    spec = LoraSpec(adapter.rank, adapter.layers[0].scale, 0.0, tuple(old))
    attach_lora(model, spec, seed=0)
    warm_start(model, old, spec)
    return spec


def describe_targets(keys: Sequence[str]) -> str:
    """The adapted modules in one line: counts by name, such as ``q_proj×48``."""
    counts = Counter(key.rsplit(".", 1)[-1] for key in keys)
    return "、".join(f"{name}×{number}" for name, number in sorted(counts.items()))
