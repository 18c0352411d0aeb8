"""Which base tensors an adapter changes, and the changed values, a block of rows at a time.

A change is ``left @ right`` in the orientation of the stored tensor, so that any block of rows can be had alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from precision_lora.adapters import Adapter, AdapterLayer, uncovered
from precision_lora.base_folder import Base, canonical, is_vision
from precision_lora.errors import UserError
from precision_lora.safetensors_io import FLOAT_DTYPES, Tensor, read_float32, read_rows

# Rows are merged in blocks of at most this many values in float32: 16 MB each for weight, change and result.
_BLOCK_VALUES = 4 << 20


@dataclass(frozen=True)
class Packing:
    """How a quantised weight is stored: MLX's ``mode``, ``bits`` and ``group_size``."""

    mode: str
    bits: int
    group_size: int

    def to_config(self) -> dict[str, Any]:
        """The per-layer entry for ``quantization`` in config.json."""
        entry: dict[str, Any] = {"group_size": self.group_size, "bits": self.bits}
        return entry if self.mode == "affine" else {**entry, "mode": self.mode}


# Dequantises rows: weight, scales, biases (None where the mode has none) and how they are packed → float32.
Unpack = Callable[[np.ndarray, np.ndarray, np.ndarray | None, Packing], np.ndarray]


@dataclass(frozen=True)
class Update:
    """One adapter layer's part in one stored tensor.

    ``expert``: the one expert that a two-axis tensor holds. ``transposed``: stored as (in, out). ``column``: where its
    columns begin in the stored tensor (the upper half of ``gate_up_proj``).
    """

    layer: AdapterLayer
    expert: int | None = None
    transposed: bool = False
    column: int = 0


@dataclass(frozen=True)
class Site:
    """A stored weight: its tensor, for a quantised one scales and biases as well, and the updates to add (or none)."""

    weight: Tensor
    scales: Tensor | None = None
    biases: Tensor | None = None
    packing: Packing | None = None
    updates: tuple[Update, ...] = ()

    @property
    def width(self) -> int:
        """Its last axis in values; a packed one holds several in each 32-bit word."""
        if self.packing is None:
            return self.weight.shape[-1]
        return self.weight.shape[-1] * 32 // self.packing.bits

    @property
    def experts(self) -> int:
        """Its leading axis, 1 where it has two axes."""
        return self.weight.shape[0] if len(self.weight.shape) == 3 else 1

    @property
    def rows_per_expert(self) -> int:
        """Rows of one expert's matrix; of the whole weight where it has two axes."""
        return self.weight.rows // self.experts

    @property
    def module(self) -> str:
        """The module's path in the base's own naming."""
        return self.weight.name.removesuffix(".weight")


@dataclass(frozen=True)
class Block:
    """Rows ``first`` and following of a site, all axes but the last taken as one; values (rows, width) float32."""

    first: int
    exact: np.ndarray
    change: np.ndarray | None


def find_sites(base: Base, adapter: Adapter) -> tuple[Site, ...]:
    """The stored weights that the adapter changes, in the order of the files.

    Raises: UserError that lists every layer which the base does not have, or has in another shape.
    """
    left_out = uncovered(adapter, base.num_layers)
    if left_out:
        raise UserError(
            "adapter 的权重与它自己的 adapter_config.json（keys、num_layers）不符:\n   " + _listed(left_out),
            "用训练时一起保存的 adapters.safetensors 和 adapter_config.json",
        )
    names = {canonical(name): tensor for name, tensor in base.tensors.items()}
    found: dict[str, list[Update]] = {}
    problems = []
    for layer in adapter.layers:
        if is_vision(layer.module):
            problems.append(f"{layer.module}: 视觉部分不参与融合，它必须保持原样")
            continue
        places = _places(layer, names, base)
        if not places:
            problems.append(f"{layer.module}: a {layer.a.shape}、b {layer.b.shape}，基础模型里没有这一层")
        for tensor, update in places:
            problem = _shape_problem(_site(tensor, base), update)
            if problem:
                problems.append(problem)
            found.setdefault(tensor.name, []).append(update)
    if problems:
        raise UserError(
            "这个 adapter 不属于这个基础模型:\n   " + _listed(problems),
            f"用训练时的基础模型: --base-model …（现在是 {base.folder}）",
        )
    sites = [_site(base.tensors[name], base, tuple(updates)) for name, updates in found.items()]
    return tuple(sorted(sites, key=lambda site: (site.weight.file.name, site.weight.start)))


def quantised_sites(base: Base) -> tuple[Site, ...]:
    """Every quantised weight of the base, with no update."""
    return tuple(
        _site(tensor, base)
        for name, tensor in base.tensors.items()
        if name.endswith(".weight") and f"{name.removesuffix('.weight')}.scales" in base.tensors
    )


def _listed(lines: list[str]) -> str:
    return "\n   ".join(lines)


def _places(layer: AdapterLayer, names: dict[str, Tensor], base: Base) -> list[tuple[Tensor, Update]]:
    """Where a layer's weight is stored; empty where the base does not have it."""
    path = canonical(layer.module)
    if f"{path}.weight" in names:
        places = [(names[f"{path}.weight"], Update(layer))]
        head = names.get("lm_head.weight")
        if path == "embed_tokens" and base.text_config.get("tie_word_embeddings") and head is not None:
            # A stored second copy of a tied embedding has to stay equal to the first.
            places.append((head, Update(layer)))
        return places
    parent, _, projection = path.rpartition(".")
    if not parent.endswith("switch_mlp"):
        return []
    experts = parent.removesuffix("switch_mlp") + "experts"
    both = names.get(f"{experts}.gate_up_proj")
    if both is not None and projection in ("gate_proj", "up_proj"):
        return [(both, Update(layer, transposed=True, column=0 if projection == "gate_proj" else both.shape[-1] // 2))]
    if both is not None and f"{experts}.{projection}" in names:
        return [(names[f"{experts}.{projection}"], Update(layer, transposed=True))]
    for stacked in (f"{experts}.{projection}.weight", f"{experts}.{projection}"):
        if stacked in names:
            return [(names[stacked], Update(layer))]
    single: list[tuple[Tensor, Update]] = []
    while (tensor := names.get(f"{experts}.{len(single)}.{projection}.weight")) is not None:
        single.append((tensor, Update(layer, expert=len(single))))
    return single


def _site(weight: Tensor, base: Base, updates: tuple[Update, ...] = ()) -> Site:
    module = weight.name.removesuffix(".weight")
    if weight.dtype in FLOAT_DTYPES:
        return Site(weight, updates=updates)
    scales, biases = base.tensors.get(f"{module}.scales"), base.tensors.get(f"{module}.biases")
    if weight.dtype != "U32" or scales is None or base.quantization is None:
        raise UserError(
            f"不支持的权重格式: {weight.name}（{weight.dtype}）", "支持 float32、float16、bfloat16 和 MLX 的量化格式"
        )
    if f"{module}.global_scale" in base.tensors:
        raise UserError(f"不支持带 global_scale 的 nvfp4 权重: {weight.name}", "换用 4 位 affine 或 mxfp4 的基础模型")
    return Site(weight, scales, biases, _packing(weight, scales, biases, base), updates)


def _packing(weight: Tensor, scales: Tensor, biases: Tensor | None, base: Base) -> Packing:
    settings = base.quantization or {}
    module = weight.name.removesuffix(".weight")
    own: dict[str, Any] = {}
    for name in reversed(_config_names(module)):
        own = settings[name] if isinstance(settings.get(name), dict) else own
    mode = own.get("mode", settings.get("mode", "affine")) if scales.dtype == "U8" else "affine"
    packing = Packing(mode, int(own.get("bits", settings["bits"])), int(own.get("group_size", settings["group_size"])))
    groups = scales.shape[-1] * packing.group_size
    if weight.shape[-1] * 32 != groups * packing.bits or (mode == "affine") != (biases is not None):
        raise UserError(
            f"config.json 的 quantization 与权重不符: {module}"
            f"（{packing.bits} 位、每组 {packing.group_size}，weight {weight.shape}、scales {scales.shape}）",
            "用转换时一起保存的 config.json",
        )
    return packing


def _config_names(module: str) -> tuple[str, ...]:
    """The names under which a module's own quantisation settings may stand."""
    path = canonical(module)
    wrapped = path if path.startswith("lm_head") else f"model.{path}"
    return (module, f"language_model.{wrapped}", wrapped)


def _is_embedding(site: Site, layer: AdapterLayer) -> bool:
    """An embedding's ``a`` counts the vocabulary, a linear layer's the inputs; a square one goes by its name."""
    rows, width = site.weight.rows, site.width
    if rows != width:
        return layer.a.shape[0] == rows
    return "embed" in layer.module


def _shape_problem(site: Site, update: Update) -> str | None:
    """What does not fit, with both shapes; None where the update fits the stored weight."""
    layer = update.layer
    a, b = layer.a.shape, layer.b.shape
    stored = (*site.weight.shape[:-1], site.width)
    complaint = f"{layer.module}: a {a}、b {b}，基础模型 {site.weight.name} 是 {stored}"
    if len(b) == 3:
        experts, outputs, rank = b
        if len(a) == 2 and a[0] == experts * rank:
            a = (experts, rank, a[1])
        if len(a) != 3 or a[:2] != (experts, rank):
            return complaint
        inputs = a[2]
        if update.expert is not None:
            fits = stored == (outputs, inputs) and update.expert < experts
        elif update.transposed:
            parts = 2 if site.weight.name.endswith("gate_up_proj") else 1
            fits = stored == (experts, inputs, parts * outputs)
        else:
            fits = stored == (experts, outputs, inputs)
        return None if fits else complaint
    if len(a) != 2 or len(b) != 2 or a[1] != b[0]:
        return complaint
    change = (a[0], b[1]) if _is_embedding(site, layer) else (b[1], a[0])
    return None if stored == change else complaint


def _factors(site: Site, update: Update, expert: int) -> tuple[np.ndarray, np.ndarray]:
    """``left`` (rows, rank) and ``right`` (rank, columns) in float32, the scale in ``left``."""
    layer = update.layer
    scale = np.float32(layer.scale)
    if len(layer.b.shape) == 2:
        a, b = read_float32(layer.a), read_float32(layer.b)
        return (scale * a, b) if _is_embedding(site, layer) else (scale * b.T, a.T)
    chosen = update.expert if update.expert is not None else expert
    outputs, rank = layer.b.shape[1:]
    a = read_float32(layer.a, chosen * rank, rank)
    b = read_float32(layer.b, chosen * outputs, outputs)
    return (scale * a.T, b.T) if update.transposed else (scale * b, a)


def blocks(site: Site, unpack: Unpack) -> Iterator[Block]:
    """The merged values of a site in float32, in order of rows; the base's own ones where it has no update.

    Raises: UserError where base or adapter hold values that are not finite.
    """
    step = max(1, _BLOCK_VALUES // site.width)
    for expert in range(site.experts):
        factors = [(update.column, *_factors(site, update, expert)) for update in site.updates]
        for begin in range(0, site.rows_per_expert, step):
            count = min(step, site.rows_per_expert - begin)
            first = expert * site.rows_per_expert + begin
            exact = read_values(site, first, count, unpack)
            change = np.zeros_like(exact)
            for column, left, right in factors:
                change[:, column : column + right.shape[1]] += left[begin : begin + count] @ right
            exact = exact + change
            if not np.isfinite(exact).all():
                raise UserError(
                    f"融合后出现无穷大或 NaN: {site.weight.name}", "检查 adapter 的训练日志，用更早的检查点重新融合"
                )
            yield Block(first, exact, change if factors else None)


def read_values(site: Site, first: int, count: int, unpack: Unpack) -> np.ndarray:
    """Rows of the base's weight in float32, dequantised in float32 where it is quantised: shape (count, width)."""
    if site.packing is None:
        return read_float32(site.weight, first, count)
    assert site.scales is not None
    weight = read_rows(site.weight, first, count)
    if site.biases is None:
        return unpack(weight, read_rows(site.scales, first, count), None, site.packing)
    scales, biases = read_float32(site.scales, first, count), read_float32(site.biases, first, count)
    return unpack(weight, scales, biases, site.packing)


def count_parameters(sites: tuple[Site, ...]) -> int:
    """Weights in these sites, in values."""
    return sum(math.prod((site.weight.rows, site.width)) for site in sites)
