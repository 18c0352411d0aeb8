"""What a base model is made of, from its settings and headers alone: linear layers, sizes, bytes (pure)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from precision_lora.base_folder import Base, canonical, is_vision
from precision_lora.errors import UserError
from precision_lora.safetensors_io import ITEM_BYTES, Tensor

# Names of the submodule that holds a layer's attention projections, across mlx-lm's architectures.
ATTENTION_NAMES = frozenset({"self_attn", "attn", "attention", "self_attention", "linear_attn"})
# Routers choose experts; a low-rank change of the choice is not what an adapter is for, and it has no useful gradient.
ROUTER_NAMES = frozenset({"gate", "router", "shared_expert_gate"})
# Linear layers whose output goes back into the residual stream; all others read from it.
_WRITERS = frozenset({"o_proj", "out_proj", "wo", "dense", "down_proj", "w2", "fc2", "c_proj", "dense_4h_to_h"})
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.(.+)$")
_ONE_EXPERT = re.compile(r"\.experts\.\d+\.")
# Stacked experts as Hugging Face stores them: (experts, inputs, outputs), with gate and up side by side.
_STACKED = re.compile(r"\.experts\.(gate_up_proj|down_proj)$")


# A module's decoder layer and its name in there: (3, "self_attn.q_proj").
Place = tuple[int, str]


@dataclass(frozen=True)
class Linear:
    """A linear layer of decoder layer ``layer``; of experts: ``experts`` of them, stacked (else 1).

    ``inputs`` and ``outputs`` are dimensions of the plain layer, whatever the stored bits.
    """

    layer: int
    name: str
    inputs: int
    outputs: int
    experts: int

    @property
    def parts(self) -> frozenset[str]:
        return frozenset(self.name.split("."))

    @property
    def attention(self) -> bool:
        return bool(self.parts & ATTENTION_NAMES)

    @property
    def router(self) -> bool:
        return bool(self.parts & ROUTER_NAMES)

    @property
    def writes(self) -> bool:
        """Whether its output is added to the residual stream."""
        return self.name.rsplit(".", 1)[-1] in _WRITERS

    def lora_parameters(self, rank: int) -> int:
        """Numbers in A (inputs, rank) and B (rank, outputs), for each expert."""
        return self.experts * rank * (self.inputs + self.outputs)


@dataclass(frozen=True)
class Layout:
    """A language model as its headers describe it, without vision tensors, which training leaves on the disk.

    - ``linears``: linear layers of the decoder; ``layers`` decoder layers of ``hidden`` dimensions.
    - ``heads``, ``head_dim``: query heads; ``qk_norm``: queries and keys are normalised per head.
    - ``chosen``: experts that a token visits (0 without experts). ``vocabulary``: width of the logits.
    - ``stored_bytes``: tensors as stored. ``stored_items``: their elements, packed words counted as one.
    - ``quantised_weights``: weights that quantised layers stand for; ``quantised_bytes``, ``quantised_items``: what
      stores them. ``plain_weights``: all other numbers.
    - ``float_bytes``: bytes of the floating type that the model computes in. ``folder_bytes``: all shards together.
    """

    linears: tuple[Linear, ...]
    layers: int
    hidden: int
    heads: int
    head_dim: int
    qk_norm: bool
    chosen: int
    vocabulary: int
    stored_bytes: int
    stored_items: int
    quantised_weights: int
    quantised_bytes: int
    quantised_items: int
    plain_weights: int
    float_bytes: int
    folder_bytes: int

    @property
    def weights(self) -> int:
        """Numbers in the model."""
        return self.quantised_weights + self.plain_weights

    def adapted(self, targets: str, num_layers: int, also: frozenset[Place] = frozenset()) -> tuple[Linear, ...]:
        """What gets LoRA: ``attention`` or ``all-linear`` of the last ``num_layers`` layers (-1: all), and ``also``."""
        first = 0 if num_layers < 0 else self.layers - num_layers
        return tuple(
            linear
            for linear in self.linears
            if (linear.layer, linear.name) in also
            or (linear.layer >= first and not linear.router and (targets == "all-linear" or linear.attention))
        )


def place_of(name: str) -> Place | None:
    """Where a tensor or module belongs in the decoder, however its wrappers are called; None outside of its layers."""
    found = _LAYER.search(canonical(name))
    return None if found is None else (int(found[1]), found[2])


def read_layout(base: Base) -> Layout:
    """The layout of a model folder.

    Raises:
        UserError: sizes missing from config.json, or no decoder layer among the tensors.
    """
    tensors = {name: tensor for name, tensor in base.tensors.items() if not is_vision(name)}
    if base.config.get("tie_word_embeddings") or base.text_config.get("tie_word_embeddings"):
        # mlx-lm drops a head that is stored although it is tied.
        tensors = {name: tensor for name, tensor in tensors.items() if not canonical(name).startswith("lm_head.")}
    linears = _merged(_linears(base, tensors))
    text = base.text_config
    try:
        hidden, heads = int(text["hidden_size"]), int(text["num_attention_heads"])
        head_dim, chosen = int(text.get("head_dim") or hidden // heads), int(text.get("num_experts_per_tok") or 0)
        vocabulary = int(text.get("vocab_size") or base.config["vocab_size"])
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise UserError(
            f"config.json 里缺少模型的尺寸: {base.folder}（{error}）", "换用 mlx-lm 支持的语言模型"
        ) from None
    if not linears or hidden < 1 or heads < 1 or vocabulary < 1:
        raise UserError(f"没有找到语言模型的层: {base.folder}", "换用 mlx-lm 支持的语言模型")
    quantised = [name for name in tensors if _is_quantised(name, tensors)]
    packed = [t for name in quantised for t in _parts(name, tensors)]
    stored_bytes = sum(tensor.nbytes for tensor in tensors.values())
    stored_items = sum(math.prod(tensor.shape) for tensor in tensors.values())
    quantised_items = sum(math.prod(tensor.shape) for tensor in packed)
    return Layout(
        linears=linears,
        layers=1 + max(linear.layer for linear in linears),
        hidden=hidden,
        heads=heads,
        head_dim=head_dim,
        qk_norm=any(canonical(name).endswith((".q_norm.weight", ".query_norm.weight")) for name in tensors),
        chosen=chosen,
        vocabulary=vocabulary,
        stored_bytes=stored_bytes,
        stored_items=stored_items,
        quantised_weights=sum(math.prod(_dimensions(base, name, tensors)) for name in quantised),
        quantised_bytes=sum(tensor.nbytes for tensor in packed),
        quantised_items=quantised_items,
        plain_weights=stored_items - quantised_items,
        float_bytes=ITEM_BYTES[base.float_dtype],
        folder_bytes=sum(shard.size for shard in base.shards.values()),
    )


def _linears(base: Base, tensors: dict[str, Tensor]) -> Iterator[Linear]:
    for name, tensor in tensors.items():
        place = place_of(name)
        if place is None:
            continue
        layer, inner = place
        stacked = _STACKED.search("." + inner)
        if stacked and len(tensor.shape) == 3:
            experts, inputs, outputs = tensor.shape
            stem = inner[: inner.index("experts.")]
            if stacked[1] == "gate_up_proj":
                for half in ("gate_proj", "up_proj"):
                    yield Linear(layer, f"{stem}switch_mlp.{half}", inputs, outputs // 2, experts)
            else:
                yield Linear(layer, f"{stem}switch_mlp.down_proj", inputs, outputs, experts)
        elif inner.endswith(".weight") and len(tensor.shape) in (2, 3):
            shape = _dimensions(base, name, tensors)
            many = shape[0] if len(shape) == 3 else 1
            if len(shape) == 3 and not {"switch_mlp", "experts"} & set(inner.split(".")):
                continue  # a convolution
            yield Linear(layer, inner.removesuffix(".weight"), shape[-1], shape[-2], many)


def _merged(linears: Iterator[Linear]) -> tuple[Linear, ...]:
    """With experts that are stored one by one stacked, as mlx-lm stacks them."""
    stacked: dict[tuple[int, str], list[Linear]] = {}
    for linear in linears:
        name = _ONE_EXPERT.sub(".switch_mlp.", linear.name)
        stacked.setdefault((linear.layer, name), []).append(linear)
    return tuple(
        Linear(layer, name, found[0].inputs, found[0].outputs, sum(one.experts for one in found))
        for (layer, name), found in sorted(stacked.items())
    )


def _is_quantised(name: str, tensors: dict[str, Tensor]) -> bool:
    return name.endswith(".weight") and f"{name.removesuffix('weight')}scales" in tensors


def _parts(name: str, tensors: dict[str, Tensor]) -> list[Tensor]:
    stem = name.removesuffix("weight")
    return [tensors[stem + part] for part in ("weight", "scales", "biases") if stem + part in tensors]


def _dimensions(base: Base, name: str, tensors: dict[str, Tensor]) -> tuple[int, ...]:
    """The plain shape of a weight, ``([experts,] outputs, inputs)``, whatever the stored bits."""
    shape = tensors[name].shape
    if not _is_quantised(name, tensors):
        return shape
    module = name.removesuffix(".weight")
    groups = tensors[f"{module}.scales"].shape[-1]
    return (*shape[:-1], groups * _group_size(base.quantization or {}, module))


def _group_size(settings: dict[str, Any], module: str) -> int:
    """``group_size`` of a module; MLX writes exceptions under the module's path."""
    for path, own in settings.items():
        if isinstance(own, dict) and canonical(path) == canonical(module) and "group_size" in own:
            return int(own["group_size"])
    return int(settings.get("group_size", 64))
