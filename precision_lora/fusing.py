"""Fuse an adapter into a base folder shard by shard: plan, write into a staging folder, prove.

Memory holds one block of one tensor's rows, whatever the model's size. A shard whose tensors keep type and size is
cloned or copied and changed in place; another is written anew with the untouched bytes copied past this process.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from precision_lora import merging
from precision_lora.adapters import Adapter
from precision_lora.base_folder import (
    BASE_CARD_FILE,
    CONFIG_FILE,
    INDEX_FILE,
    RECORD_FILE,
    Base,
    is_vision,
    read_base,
)
from precision_lora.errors import UserError
from precision_lora.folders import Progress, copy_file, copy_range
from precision_lora.merging import Packing, Site
from precision_lora.safetensors_io import (
    ITEM_BYTES,
    Shard,
    Tensor,
    from_float32,
    lay_out,
    read_float32,
    to_float32,
    write_rows,
)

CARD_FILE = "README.md"
SHARD_FORMAT = {"format": "mlx"}
PLAIN_PRECISIONS = {"bf16": "BF16", "f16": "F16", "f32": "F32"}
PRECISIONS = ("same", "8bit", *PLAIN_PRECISIONS)
_QUANTIZATION_KEYS = ("quantization", "quantization_config")


@dataclass(frozen=True)
class Form:
    """How a fused weight is stored: quantised (``dtype`` of scales and biases), or plain in ``dtype``."""

    packing: Packing | None
    dtype: str


@dataclass(frozen=True)
class ShardPlan:
    """One file of the fused folder. ``opening`` None: same header as the base's, so clone and change in place."""

    source: Shard
    opening: bytes | None
    tensors: dict[str, Tensor]
    size: int


@dataclass(frozen=True)
class FusePlan:
    """What a fusion writes: the weights it stores anew (``sites``), each one's form by the weight's name, and files.

    ``sites`` has the changed weights first; with ``dequantize`` all other quantised ones follow, without updates.
    """

    base: Base
    adapter: Adapter
    sites: tuple[Site, ...]
    forms: dict[str, Form]
    shards: tuple[ShardPlan, ...]
    dequantize: bool

    @property
    def touched_bytes(self) -> int:
        """Bytes of changed tensors in the result."""
        names = {name for site in self.sites for name in stored_names(site)}
        return sum(tensor.nbytes for shard in self.shards for name, tensor in shard.tensors.items() if name in names)

    @property
    def total_bytes(self) -> int:
        """Size of the fused folder's shards."""
        return sum(shard.size for shard in self.shards)

    @property
    def base_bytes(self) -> int:
        """Size of the base's shards."""
        return sum(shard.source.size for shard in self.shards)

    @property
    def extra_bytes(self) -> int:
        """How much larger the fused shards are than the base's."""
        return self.total_bytes - self.base_bytes

    def needed_bytes(self, clones: bool) -> int:
        """Free space that writing it takes; a clone takes only what is then changed in it."""
        companions = sum((self.base.folder / path).stat().st_size for path in self.base.companions)
        if not clones:
            return self.total_bytes + companions
        return self.touched_bytes + sum(shard.size for shard in self.shards if shard.opening is not None)


@dataclass(frozen=True)
class MergeResult:
    """Sums over the changed weights: of the adapter's change, and of what rounding to the stored form adds to it."""

    change_norm: float
    rounding_norm: float

    @property
    def remaining(self) -> float:
        """Rounding relative to the change, in the weights."""
        return self.rounding_norm / self.change_norm if self.change_norm else 0.0


def form_of(site: Site, precision: str, base: Base) -> Form:
    """The stored form of a touched weight; a plain one stays as it is, ``precision`` is about quantised ones."""
    if site.packing is None:
        return Form(None, site.weight.dtype)
    if precision in PLAIN_PRECISIONS:
        return Form(None, PLAIN_PRECISIONS[precision])
    assert site.scales is not None
    if precision == "same":
        return Form(site.packing, site.scales.dtype)
    if site.packing.mode == "affine":
        return Form(Packing("affine", 8, site.packing.group_size), site.scales.dtype)
    return Form(Packing("affine", 8, 64 if site.width % 64 == 0 else 32), base.float_dtype)


def candidate_precisions(base: Base, sites: Iterable[Site]) -> tuple[str, ...]:
    """What ``auto`` may choose from, smallest first; empty where no touched weight is quantised.

    Float16 rounds 8 times finer than bfloat16 at the same size, but in a bfloat16 model it turns the activations into
    float32 from there on; so it comes last there, and before float32 elsewhere.
    """
    packings = {site.packing for site in sites if site.packing is not None}
    if not packings:
        return ()
    larger = {"BF16": ("bf16", "f16"), "F16": ("f16",), "F32": ("f16", "f32")}[base.float_dtype]
    same_is_8bit = all(packing.mode == "affine" and packing.bits == 8 for packing in packings)
    return ("same", *larger) if same_is_8bit else ("same", "8bit", *larger)


def stored_names(site: Site) -> tuple[str, str, str]:
    """Names of a site's weight, scales and biases, whether it has them or not."""
    return (site.weight.name, f"{site.module}.scales", f"{site.module}.biases")


def stored_tensors(site: Site, form: Form) -> tuple[Tensor, ...]:
    """The tensors of a site in ``form``, without positions yet."""
    lead = site.weight.shape[:-1]
    weight, scales, biases = stored_names(site)

    def tensor(name: str, dtype: str, width: int) -> Tensor:
        nbytes = ITEM_BYTES[dtype] * width * site.weight.rows
        return Tensor(name, dtype, (*lead, width), site.weight.file, 0, nbytes)

    if form.packing is None:
        return (tensor(weight, form.dtype, site.width),)
    groups = site.width // form.packing.group_size
    packed = (tensor(weight, "U32", site.width * form.packing.bits // 32), tensor(scales, form.dtype, groups))
    return packed if form.packing.mode != "affine" else (*packed, tensor(biases, form.dtype, groups))


def make_plan(base: Base, adapter: Adapter, precision: str, dequantize: bool = False) -> FusePlan:
    """What will be written; nothing is yet.

    Raises: UserError as ``merging.find_sites`` does.
    """
    touched = merging.find_sites(base, adapter)
    sites = touched
    if dequantize:
        names = {site.weight.name for site in touched}
        sites += tuple(site for site in merging.quantised_sites(base) if site.weight.name not in names)
    plain = {dtype: name for name, dtype in PLAIN_PRECISIONS.items()}[base.float_dtype]
    forms = {site.weight.name: form_of(site, plain if dequantize else precision, base) for site in sites}
    new: dict[str, dict[str, Tensor]] = {name: {} for name in base.shards}
    for site in sites:
        for tensor in stored_tensors(site, forms[site.weight.name]):
            # Scales may lie in another shard than their weight; there they stay.
            home = base.tensors.get(tensor.name, site.weight).file.name
            new[home][tensor.name] = tensor
    replaced = {name for site in sites for name in stored_names(site)}
    shards = tuple(_plan_shard(shard, new[name], replaced) for name, shard in base.shards.items())
    return FusePlan(base, adapter, sites, forms, shards, dequantize)


def _plan_shard(shard: Shard, new: Mapping[str, Tensor], replaced: set[str]) -> ShardPlan:
    old = {name: tensor for name, tensor in shard.tensors.items() if name in replaced}
    if {(name, t.dtype, t.shape) for name, t in old.items()} == {(name, t.dtype, t.shape) for name, t in new.items()}:
        return ShardPlan(shard, None, shard.tensors, shard.size)
    # Every tensor keeps its place in the order; one that is new to the shard follows at the end.
    tensors = [new.get(name, tensor) for name, tensor in shard.tensors.items() if name not in old or name in new]
    tensors += [tensor for name, tensor in new.items() if name not in shard.tensors]
    opening, placed = lay_out(tensors, shard.metadata or SHARD_FORMAT, shard.file)
    return ShardPlan(shard, opening, placed, max((t.end for t in placed.values()), default=len(opening)))


def work_bytes(plan: FusePlan) -> int:
    """The total that ``write`` reports to its progress."""
    companions = sum((plan.base.folder / path).stat().st_size for path in plan.base.companions)
    return plan.total_bytes + plan.touched_bytes + companions


def write(plan: FusePlan, staging: Path, progress: Progress = lambda _: None) -> MergeResult:
    """Write the fused model into the empty folder ``staging``: shards, index, companions, and config.json last.

    Raises: UserError for values that are not finite; OSError, for one a full disk.
    """
    for shard in plan.shards:
        _write_shard(plan, shard, staging / shard.source.file.name, progress)
    result = _merge(plan, staging, progress)
    replaced = {CONFIG_FILE}
    if plan.base.index is not None and any(shard.opening is not None for shard in plan.shards):
        (staging / INDEX_FILE).write_text(json.dumps(_new_index(plan), indent=2, ensure_ascii=False), "utf-8")
        replaced.add(INDEX_FILE)
    for path in plan.base.companions:
        if path.as_posix() not in replaced:
            target = staging / (BASE_CARD_FILE if path.as_posix() == CARD_FILE else path)
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_file(plan.base.folder / path, target, progress)
    config = new_config(plan)
    if config == plan.base.config:
        copy_file(plan.base.folder / CONFIG_FILE, staging / CONFIG_FILE, progress)
    else:
        (staging / CONFIG_FILE).write_text(json.dumps(config, indent=2, ensure_ascii=False), "utf-8")
    return result


def _write_shard(plan: FusePlan, shard: ShardPlan, target: Path, progress: Progress) -> None:
    if shard.opening is None:
        copy_file(shard.source.file, target, progress)
        target.chmod(0o644)
        return
    replaced = {name for site in plan.sites for name in stored_names(site)}
    with target.open("wb") as writer:
        writer.write(shard.opening)
        writer.flush()
        writer.truncate(shard.size)
        for name, tensor in shard.tensors.items():
            if name not in replaced:
                source = shard.source.tensors[name]
                copy_range(source.file, writer.fileno(), source.start, source.end, tensor.start, progress)
            else:
                progress(tensor.nbytes)


def _merge(plan: FusePlan, staging: Path, progress: Progress) -> MergeResult:
    """Write the changed weights at their places in the staged shards."""
    targets = {name: tensor for shard in plan.shards for name, tensor in shard.tensors.items()}
    descriptors = {name: os.open(staging / name, os.O_WRONLY) for name in plan.base.shards}
    change_squares = rounding_squares = 0.0
    try:
        for site in plan.sites:
            form = plan.forms[site.weight.name]
            for block in merging.blocks(site, _unpack):
                parts = encode(site, form, block)
                for name, part in zip(stored_names(site), parts, strict=False):
                    write_rows(descriptors[targets[name].file.name], targets[name], block.first, part)
                    progress(part.nbytes)
                if block.change is not None:
                    error = decode(parts, form) - block.exact
                    change_squares += float(np.vdot(block.change, block.change))
                    rounding_squares += float(np.vdot(error, error))
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)
    return MergeResult(change_squares**0.5, rounding_squares**0.5)


def _unpack(weight: np.ndarray, scales: np.ndarray, biases: np.ndarray | None, packing: Packing) -> np.ndarray:
    # Only quantised bases need MLX; a plain one merges without it, and starts without loading it.
    from precision_lora import packing as mlx_packing

    return mlx_packing.unpack(weight, scales, biases, packing)


def encode(site: Site, form: Form, block: merging.Block) -> list[np.ndarray]:
    """A block in stored form: the weight's rows, and for a quantised form those of scales and biases."""
    if form.packing is None:
        stored = from_float32(block.exact, form.dtype)
        if form.dtype == "F16" and not np.isfinite(stored).all():
            raise UserError(f"融合后的值超出 float16 的范围: {site.weight.name}", "检查 adapter 的训练日志")
        return [stored]
    from precision_lora import packing as mlx_packing

    own_grid = None
    if form.packing == site.packing and site.biases is not None and site.scales is not None:
        rows = len(block.exact)
        own_grid = read_float32(site.scales, block.first, rows), read_float32(site.biases, block.first, rows)
    return mlx_packing.pack(block.exact, form.packing, form.dtype, own_grid)


def decode(parts: list[np.ndarray], form: Form) -> np.ndarray:
    """What ``encode`` stored, in float32."""
    if form.packing is None:
        return to_float32(parts[0], form.dtype)
    if form.packing.mode != "affine":
        return _unpack(parts[0], parts[1], None, form.packing)
    scales, biases = (to_float32(part, form.dtype) for part in parts[1:])
    return _unpack(parts[0], scales, biases, form.packing)


def _new_index(plan: FusePlan) -> dict[str, Any]:
    assert plan.base.index is not None
    tensors = {name: tensor for shard in plan.shards for name, tensor in shard.tensors.items()}
    metadata = dict(plan.base.index.get("metadata") or {})
    metadata["total_size"] = sum(tensor.nbytes for tensor in tensors.values())
    return {
        **plan.base.index,
        "metadata": metadata,
        "weight_map": {name: tensors[name].file.name for name in sorted(tensors)},
    }


def new_config(plan: FusePlan) -> dict[str, Any]:
    """The base's config.json, with an entry for every layer whose quantisation changes, or without any quantisation."""
    config = dict(plan.base.config)
    if plan.dequantize:
        return {key: value for key, value in config.items() if key not in _QUANTIZATION_KEYS}
    entries: dict[str, Any] = {}
    for site in plan.sites:
        form = plan.forms[site.weight.name]
        if site.packing is None or form.packing == site.packing:
            continue
        # The loaders ask by their own module path, which a text model's file names may lack the head of.
        for module in {site.module, *(update.layer.module for update in site.updates)}:
            entries[module] = form.packing.to_config() if form.packing else False
    for key in _QUANTIZATION_KEYS:
        if entries and isinstance(config.get(key), dict):
            config[key] = {**config[key], **dict(sorted(entries.items()))}
    return config


def check_files(plan: FusePlan, staging: Path) -> dict[str, Any]:
    """Prove the staged files: index complete, every tensor as planned, companions and vision bytes as in the base.

    Vision tensors that ``--dequantize`` stores anew are held to the plan alone.
    Returns the counts for the record. Raises: UserError naming the first file or tensor that differs.
    """
    staged = read_base(staging)
    planned = {name: (t.dtype, t.shape) for shard in plan.shards for name, t in shard.tensors.items()}
    actual = {name: (t.dtype, t.shape) for name, t in staged.tensors.items()}
    if planned != actual:
        raise _unproven(min(name for name, _ in planned.items() ^ actual.items()))
    if staged.index is not None and set(staged.index["weight_map"]) != set(actual):
        raise _unproven(INDEX_FILE)
    rewritten = {CONFIG_FILE, INDEX_FILE, CARD_FILE}
    companions = [path for path in plan.base.companions if path.as_posix() not in rewritten]
    for path in companions:
        if not _equal_files(plan.base.folder / path, staging / path):
            raise _unproven(path.as_posix())
    replaced = {name for site in plan.sites for name in stored_names(site)}
    vision = [tensor for name, tensor in plan.base.tensors.items() if is_vision(name) and name not in replaced]
    for tensor in vision:
        if not _equal_bytes(tensor, staged.tensors[tensor.name]):
            raise _unproven(tensor.name)
    return {
        "tensors": len(actual),
        "touched_tensors": len(replaced & set(actual)),
        "vision_tensors_equal": len(vision),
        "companions_equal": len(companions),
    }


def _unproven(what: str) -> UserError:
    return UserError(f"融合结果没有通过检查: {what}", "重新运行；若再次出现，请附上 --dry-run 的输出报告问题")


def _equal_files(one: Path, other: Path) -> bool:
    return one.stat().st_size == other.stat().st_size and file_sha256(one) == file_sha256(other)


def _equal_bytes(one: Tensor, other: Tensor) -> bool:
    chunk = 16 << 20
    with one.file.open("rb") as first, other.file.open("rb") as second:
        first.seek(one.start)
        second.seek(other.start)
        for begin in range(0, one.nbytes, chunk):
            count = min(chunk, one.nbytes - begin)
            if first.read(count) != second.read(count):
                return False
    return one.nbytes == other.nbytes


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def header_sha256(shard: Shard) -> str:
    """Hex SHA-256 of a shard's header: names, types, shapes and places of its tensors, without their values."""
    with shard.file.open("rb") as file:
        return hashlib.sha256(file.read(shard.data_start)).hexdigest()


def hash_files(folder: Path, names: Iterable[str]) -> Callable[[], dict[str, str]]:
    """Start hashing files in the background; call the result to wait for ``{name: SHA-256}``."""
    pool = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1))
    futures = {name: pool.submit(file_sha256, folder / name) for name in sorted(names)}
    pool.shutdown(wait=False)
    return lambda: {name: future.result() for name, future in futures.items()}


def write_record(staging: Path, record: Mapping[str, Any]) -> None:
    """Put fuse.json into the staged folder."""
    (staging / RECORD_FILE).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
