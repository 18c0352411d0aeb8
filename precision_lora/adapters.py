"""Adapter folders as mlx-lm and mlx-vlm write them, read without a model.

mlx-lm and newer mlx-vlm: ``lora_parameters {rank, scale, dropout[, keys]}`` and tensors ``<module>.lora_a/.lora_b``;
older mlx-vlm: ``{rank, alpha, dropout}`` and ``<module>.A/.B`` with scale ``alpha / rank``.
A module's change of its weight is ``scale * (a @ b).T``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from precision_lora.errors import UserError
from precision_lora.safetensors_io import FLOAT_DTYPES, Tensor, read_shard

WEIGHT_FILES = ("adapters.safetensors", "weights.safetensors")
CONFIG_FILE = "adapter_config.json"
_PAIRS = {"lora_a": "lora_b", "A": "B"}


@dataclass(frozen=True)
class AdapterLayer:
    """One adapted module: ``a`` (in, rank) and ``b`` (rank, out); experts: ``a`` (E, rank, in), ``b`` (E, out, rank).

    An embedding has ``a`` (vocabulary, rank) and ``b`` (rank, dims).
    """

    module: str
    a: Tensor
    b: Tensor
    scale: float

    @property
    def rank(self) -> int:
        """The axis that ``a`` and ``b`` share."""
        return self.b.shape[-1] if len(self.b.shape) == 3 else self.a.shape[-1]


@dataclass(frozen=True)
class Adapter:
    """An adapter folder: its file of ``weights``, adapter_config.json as ``config``, and the modules that it adapts."""

    folder: Path
    weights: Path
    config: dict[str, Any]
    layers: tuple[AdapterLayer, ...]

    @property
    def rank(self) -> int:
        """The largest rank of its layers."""
        return max(layer.rank for layer in self.layers)


def read_adapter(folder: Path, use: str) -> Adapter:
    """Read an adapter folder's settings and tensor headers; ``use`` is what is wanted of it, for the refusals.

    Raises: UserError where it is missing, simulated, DoRA or a full fine-tune, damaged, or not made of LoRA pairs.
    """
    config = _read_config(folder)
    weights = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if weights is None:
        raise UserError(f"adapter 缺少权重文件: {folder / WEIGHT_FILES[0]}", *_TRAIN_FIRST)
    _refuse_unsupported(folder, config, use)
    scale = _scale(folder, config)
    tensors = read_shard(weights).tensors
    problems, layers = [], []
    for name, tensor in sorted(tensors.items()):
        module, _, leaf = name.rpartition(".")
        if leaf in _PAIRS.values() and any(f"{module}.{first}" in tensors for first in _PAIRS):
            continue
        if leaf == "m":
            raise _dora(folder, use)
        partner = tensors.get(f"{module}.{_PAIRS.get(leaf, '')}")
        if leaf not in _PAIRS or partner is None:
            problems.append(f"{name} {tensor.shape}: 不是成对的 LoRA 权重")
        elif tensor.dtype not in FLOAT_DTYPES or partner.dtype not in FLOAT_DTYPES:
            problems.append(f"{name} {tensor.dtype}/{partner.dtype}: 不是浮点数")
        elif not _is_pair(tensor.shape, partner.shape):
            problems.append(f"{name} {tensor.shape}、{partner.shape}: 形状不成对")
        else:
            layers.append(AdapterLayer(module, tensor, partner, scale))
    if problems:
        raise UserError("adapter 里有无法使用的权重:\n   " + "\n   ".join(problems), "用训练得到的完整 adapter 文件夹")
    if not layers:
        raise UserError(f"adapter 里没有 LoRA 权重: {weights}", *_TRAIN_FIRST)
    return Adapter(folder, weights, config, tuple(layers))


_TRAIN_FIRST = ("先训练: ./run_v3_training.sh", "或用 --adapter-path 指定已有的 adapter 文件夹")


def _read_config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise UserError(f"adapter 不存在: {folder}", *_TRAIN_FIRST)
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"adapter 缺少配置文件: {path}", *_TRAIN_FIRST) from None
    except ValueError:
        raise UserError(f"adapter 的配置文件不是有效的 JSON: {path}", *_TRAIN_FIRST) from None
    if not isinstance(config, dict):
        raise UserError(f"adapter 的配置文件不是 JSON 对象: {path}", *_TRAIN_FIRST)
    return config


def _is_pair(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether the shapes share a rank, and for experts their number."""
    if len(a) == 3:
        return len(b) == 3 and a[0] == b[0] and a[1] == b[2]
    return len(a) == len(b) == 2 and a[1] == b[0]


def _dora(folder: Path, use: str) -> UserError:
    return UserError(
        f"不支持 DoRA adapter，不能{use}: {folder}",
        "用 LoRA 重新训练（fine_tune_type: lora）",
        "或先用 mlx_lm.fuse 把它融合进基础模型",
    )


def refuse_simulated(folder: Path, config: Mapping[str, Any], use: str) -> None:
    """Raises UserError where the adapter's ``config`` carries the mark of a simulation; ``use`` is what was wanted."""
    if config.get("simulated"):
        raise UserError(
            f"这是模拟训练的 adapter，没有真正训练过，不能{use}: {folder}",
            "在装有 MLX 的机器上重新训练: ./run_v3_training.sh",
        )


def refuse_simulated_folder(folder: Path, use: str) -> None:
    """As `refuse_simulated`, before anything else is known of ``folder``; silent where it has no readable settings."""
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if isinstance(config, dict):
        refuse_simulated(folder, config, use)


def _refuse_unsupported(folder: Path, config: Mapping[str, Any], use: str) -> None:
    refuse_simulated(folder, config, use)
    kind = config.get("fine_tune_type", "lora")
    if kind == "dora" or config.get("use_dora"):
        raise _dora(folder, use)
    if kind != "lora":
        raise UserError(
            f"不支持 fine_tune_type 为 {kind!r} 的训练结果，不能{use}: {folder}", "换用 mlx-lm 训练出的 LoRA adapter"
        )


def _scale(folder: Path, config: Mapping[str, Any]) -> float:
    parameters = config.get("lora_parameters")
    parameters = parameters if isinstance(parameters, dict) else config
    try:
        scale = float(parameters["scale"]) if "scale" in parameters else parameters["alpha"] / parameters["rank"]
        if math.isfinite(scale):
            return scale
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        pass
    raise UserError(
        f"adapter 的配置里没有可用的缩放: {folder / CONFIG_FILE}",
        "需要 lora_parameters.scale，或 rank 与 alpha（mlx-vlm 旧格式）",
    )


def uncovered(adapter: Adapter, num_model_layers: int) -> list[str]:
    """Modules with tensors that the adapter's own ``keys`` and ``num_layers`` leave out, so that loaders would too."""
    parameters = adapter.config.get("lora_parameters")
    keys = parameters.get("keys") if isinstance(parameters, dict) else None
    num_layers = adapter.config.get("num_layers")
    if not isinstance(num_layers, int) or num_layers <= 0:
        num_layers = num_model_layers
    first = num_model_layers - num_layers
    return [layer.module for layer in adapter.layers if not _covered(layer.module, keys, first)]


def _covered(module: str, keys: list[str] | None, first_layer: int) -> bool:
    """Whether a loader adapts ``module``: by its full path, or by its path within one of the last layers."""
    if keys is not None and module in keys:
        return True
    _, found, tail = f".{module}".rpartition(".layers.")
    index, _, relative = tail.partition(".")
    if not found or not index.isdigit():
        return False
    # mlx-vlm also takes paths that begin inside its language model.
    if keys is not None and any(f".layers.{tail}" in f".{key}" and module.endswith(f".{key}") for key in keys):
        return True
    return int(index) >= first_layer and (keys is None or relative in keys)
