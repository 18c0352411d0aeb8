"""A base model's folder: its settings, its shards' headers, the files beside them, and what its tensors are called.

Three ways of naming are in use, and all mean the same module:
``language_model.model.layers.0…`` (mlx-vlm and mlx-lm for Qwen3-VL), ``model.layers.0…`` (text models) and
``model.language_model.layers.0…`` (Hugging Face).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from precision_lora.errors import UserError
from precision_lora.safetensors_io import FLOAT_DTYPES, Shard, Tensor, read_shard

CONFIG_FILE = "config.json"
INDEX_FILE = "model.safetensors.index.json"
# What fusing writes into a folder about itself, and the name under which the base's own card is kept there.
RECORD_FILE, BASE_CARD_FILE = "fuse.json", "README.base.md"
_RECOPY = "重新下载或重新复制这个模型文件夹后再试"
# Left behind: an adapter beside a model confuses loaders, .DS_Store is the Finder's, and what an earlier fusion said of
# itself does not hold for the next one.
_LEFT_BEHIND = {
    *("adapter_config.json", "adapters.safetensors", "adapter_model.safetensors", ".DS_Store"),
    *(RECORD_FILE, BASE_CARD_FILE),
}
_LEFT_BEHIND_FOLDERS = {".git", ".cache", "__pycache__"}


@dataclass(frozen=True)
class Base:
    """``shards`` by file name; ``tensors`` by their name in the files; ``companions`` relative to ``folder``."""

    folder: Path
    config: dict[str, Any]
    shards: dict[str, Shard]
    tensors: dict[str, Tensor]
    index: dict[str, Any] | None
    companions: tuple[Path, ...]

    @property
    def quantization(self) -> dict[str, Any] | None:
        """MLX's quantisation settings, None for a plain model."""
        for key in ("quantization", "quantization_config"):
            settings = self.config.get(key)
            if isinstance(settings, dict) and "bits" in settings:
                return settings
        return None

    @property
    def text_config(self) -> dict[str, Any]:
        """The language model's settings; those of the whole model where it has no part of its own for them."""
        return self.config.get("text_config") or self.config

    @property
    def num_layers(self) -> int:
        """Decoder layers of the language model, 0 where config.json does not say."""
        return int(self.text_config.get("num_hidden_layers", 0))

    @property
    def float_dtype(self) -> str:
        """The type in which the model computes: that of its norm weights, else of any floating tensor."""
        floats = [tensor for tensor in self.tensors.values() if tensor.dtype in FLOAT_DTYPES]
        norms = [tensor for tensor in floats if tensor.name.endswith("norm.weight") and not is_vision(tensor.name)]
        return (norms or floats)[0].dtype if floats else "BF16"


def canonical(name: str) -> str:
    """A tensor's or module's name without the wrappers that differ between the three ways of naming."""
    parts = name.split(".")
    while len(parts) > 1 and parts[0] in ("model", "language_model"):
        parts.pop(0)
    return ".".join(parts)


def is_vision(name: str) -> bool:
    """Whether a tensor or module of this name belongs to the vision tower, in any of the three ways of naming."""
    return canonical(name).split(".")[0] in ("vision_tower", "visual", "vision_model")


def local_folder(name: str) -> Path:
    """Where a base model is on this machine, without downloading it: a folder, or a hub id that was downloaded before.

    A name that is neither comes back as a path, for `read_base` to refuse.
    """
    path = Path(name).expanduser()
    if path.is_dir() or name.count("/") != 1:
        return path
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, local_files_only=True))
    except Exception:  # not installed, not downloaded, or no name that the hub could have
        return path


def read_base(folder: Path) -> Base:
    """Read a model folder's settings and headers; no tensor is loaded.

    Raises: UserError for a missing folder, no or damaged weights, and an index that names missing or outside files.
    """
    if not folder.is_dir():
        raise UserError(
            f"基础模型不存在: {folder}",
            "方案1: 使用原始基础模型: python fuse_v3_model.py --base-model "
            "~/.lmstudio/models/lmstudio-community/Qwen3-VL-30B-Medical-Finetuned --adapter-path adapters_v2",
            "方案2: 先融合V2模型: 在方案1的命令后加上 --output "
            "~/.lmstudio/models/local/Qwen3-VL-30B-Medical-V2-Fused，再重新运行",
        )
    config = _read_object(folder / CONFIG_FILE)
    index = _read_object(folder / INDEX_FILE) if (folder / INDEX_FILE).is_file() else None
    files = _files(folder)
    shards: dict[str, Shard] = {}
    tensors: dict[str, Tensor] = {}
    for name in _shard_names(folder, index, files):
        shard = read_shard(folder / name)
        shards[name] = shard
        for tensor in shard.tensors.values():
            if tensor.name in tensors:
                raise UserError(
                    f"同一个权重出现在两个文件里: {tensor.name}（{tensors[tensor.name].file.name}、{name}）",
                    "删除不属于这个模型的 safetensors 文件后再试",
                )
            tensors[tensor.name] = tensor
    _check_index(folder, index, tensors)
    companions = tuple(path for path in files if path.as_posix() not in shards)
    return Base(folder, config, shards, tensors, index, companions)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"模型文件夹缺少 {path.name}: {path.parent}", _RECOPY) from None
    except ValueError:
        raise UserError(f"不是有效的 JSON: {path}", _RECOPY) from None
    if not isinstance(value, dict):
        raise UserError(f"不是 JSON 对象: {path}", _RECOPY)
    return value


def _files(folder: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _LEFT_BEHIND_FOLDERS)
        found += [Path(parent, name).relative_to(folder) for name in sorted(names) if name not in _LEFT_BEHIND]
    return found


def _shard_names(folder: Path, index: dict[str, Any] | None, files: list[Path]) -> list[str]:
    present = sorted(path.name for path in files if path.parent == Path() and path.suffix == ".safetensors")
    # mlx-lm reads all of these, with or without an index.
    names = [name for name in present if name.startswith("model")]
    if index is not None:
        weight_map = index.get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise UserError(f"索引里没有 weight_map: {folder / INDEX_FILE}", _RECOPY)
        listed = sorted(set(weight_map.values()))
        outside = [name for name in listed if Path(name).name != name or name in ("", ".", "..")]
        if outside:
            raise UserError(
                f"索引指向模型文件夹以外的文件: {', '.join(outside)}", "不要使用来历不明的模型文件夹", _RECOPY
            )
        missing = [name for name in listed if name not in present]
        if missing:
            raise UserError(f"模型缺少权重文件: {', '.join(missing)}（{folder}）", _RECOPY)
        names = sorted({*names, *listed})
    if not names:
        raise UserError(f"模型文件夹里没有权重（model*.safetensors）: {folder}", _RECOPY)
    return names


def _check_index(folder: Path, index: dict[str, Any] | None, tensors: dict[str, Tensor]) -> None:
    if index is None:
        return
    wrong = [
        f"{name} → {file}"
        for name, file in index["weight_map"].items()
        if name not in tensors or tensors[name].file.name != file
    ]
    if wrong:
        shown = "\n   ".join(wrong[:20]) + ("\n   …" if len(wrong) > 20 else "")
        raise UserError(f"索引与权重文件不符（{folder / INDEX_FILE}）:\n   {shown}", _RECOPY)
