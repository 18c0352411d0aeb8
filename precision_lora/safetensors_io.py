"""Safetensors files without loading them: headers, parts of tensors, and the bytes of a new header.

A file is 8 bytes (length of the header, little endian), the header as JSON, then the tensors' bytes without gaps;
``data_offsets`` count from the end of the header. Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from precision_lora.errors import UserError

ITEM_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
}  # fmt: skip
FLOAT_DTYPES = ("F32", "F16", "BF16")
_RAW = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "U32": np.uint32, "U8": np.uint8}
# The format's own limit; a longer "header" is another kind of file.
MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class Tensor:
    """One tensor in one file: ``start`` and ``end`` are byte positions in ``file``."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        """Its size in the file, in bytes."""
        return self.end - self.start

    @property
    def rows(self) -> int:
        """All leading axes as one; a vector counts as one row."""
        return math.prod(self.shape[:-1])

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, 0 where it has none."""
        return self.nbytes // self.rows if self.rows else 0


@dataclass(frozen=True)
class Shard:
    """A file's header: its tensors in the order of their bytes, and where those begin."""

    file: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    data_start: int
    size: int


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"模型文件已损坏: {path}（{why}）", "重新下载或重新复制这个文件后再试")


def read_shard(path: Path) -> Shard:
    """The header of a safetensors file, checked against the file's size.

    Raises: UserError where the file is cut off, is no safetensors file, or its offsets leave the file or overlap.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise _damaged(path, "不足 8 个字节")
        length = struct.unpack("<Q", prefix)[0]
        if length > MAX_HEADER_BYTES or 8 + length > size:
            raise _damaged(path, "文件头不完整，或不是 safetensors 格式")
        try:
            fields = json.loads(file.read(length))
            metadata = fields.pop("__metadata__", None) or {}
            tensors = {name: _tensor(name, entry, path, 8 + length) for name, entry in fields.items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _damaged(path, "文件头无法解析") from error
    position = 8 + length
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.start, tensor.end)):
        expected = ITEM_BYTES.get(tensor.dtype)
        if expected is not None and tensor.nbytes != expected * math.prod(tensor.shape):
            raise _damaged(path, f"{tensor.name} 的大小与形状不符")
        if tensor.start != position:
            raise _damaged(path, f"{tensor.name} 的位置不连续")
        position = tensor.end
    if position != size:
        raise _damaged(path, f"文件应有 {position} 字节，实际 {size} 字节")
    ordered = dict(sorted(tensors.items(), key=lambda item: item[1].start))
    return Shard(path, ordered, metadata, 8 + length, size)


def _tensor(name: str, entry: Mapping[str, Any], path: Path, data_start: int) -> Tensor:
    first, last = entry["data_offsets"]
    shape = tuple(int(length) for length in entry["shape"])
    if first < 0 or last < first or any(length < 0 for length in shape):
        raise ValueError(name)
    return Tensor(name, str(entry["dtype"]), shape, path, data_start + first, data_start + last)


def lay_out(tensors: Iterable[Tensor], metadata: Mapping[str, str], file: Path) -> tuple[bytes, dict[str, Tensor]]:
    """Place tensors in a new file: its opening bytes and the tensors at their new positions.

    Of the given tensors, all but their positions counts. Wide types come first, so that every tensor stays aligned.
    """
    ordered = sorted(tensors, key=lambda tensor: -ITEM_BYTES.get(tensor.dtype, 1))
    fields: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    position, offsets = 0, {}
    for tensor in ordered:
        offsets[tensor.name] = (position, position + tensor.nbytes)
        fields[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": list(offsets[tensor.name]),
        }
        position += tensor.nbytes
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    opening = struct.pack("<Q", len(text)) + text
    placed = {
        tensor.name: replace(
            tensor,
            file=file,
            start=len(opening) + offsets[tensor.name][0],
            end=len(opening) + offsets[tensor.name][1],
        )
        for tensor in ordered
    }
    return opening, placed


def read_rows(tensor: Tensor, first: int = 0, count: int | None = None) -> np.ndarray:
    """Rows of a tensor as stored (bfloat16 as uint16): shape (count, last axis)."""
    count = tensor.rows - first if count is None else count
    width = tensor.shape[-1] if tensor.shape else 1
    data = np.empty((count, width), _RAW[tensor.dtype])
    with tensor.file.open("rb") as file:
        file.seek(tensor.start + first * tensor.row_bytes)
        if file.readinto(data.data.cast("B")) != data.nbytes:
            raise _damaged(tensor.file, f"{tensor.name} 读不完整")
    return data


def read_float32(tensor: Tensor, first: int = 0, count: int | None = None) -> np.ndarray:
    """Rows of a floating tensor in float32: shape (count, last axis)."""
    return to_float32(read_rows(tensor, first, count), tensor.dtype)


def to_float32(raw: np.ndarray, dtype: str) -> np.ndarray:
    """Stored values to float32; exact for all three types."""
    if dtype == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32, copy=False)


def from_float32(values: np.ndarray, dtype: str) -> np.ndarray:
    """Float32 to the stored form, rounded once, to nearest even. Values must be finite."""
    if dtype != "BF16":
        with np.errstate(over="ignore"):
            return values.astype(_RAW[dtype], copy=False)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    # Adding 0x7FFF, or 0x8000 where the kept part is odd, carries into it exactly when nearest-even rounds up.
    return ((bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16).astype(np.uint16)


def write_rows(descriptor: int, tensor: Tensor, first: int, data: np.ndarray) -> None:
    """Put rows, already in stored form, at their place in the open file that holds ``tensor``."""
    view = np.ascontiguousarray(data).data.cast("B")
    position = tensor.start + first * tensor.row_bytes
    while view:
        written = os.pwrite(descriptor, view, position)
        view, position = view[written:], position + written
