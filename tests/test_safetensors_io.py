"""Reading and laying out safetensors files, against bytes written by hand."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from precision_lora import safetensors_io as sio
from precision_lora.errors import UserError
from tests.model_folders import write_safetensors


def two_tensors(folder: Path) -> Path:
    path = folder / "model.safetensors"
    first = np.arange(6, dtype="<f4").reshape(2, 3)
    # 0x3F80 is 1.0 in bfloat16, 0xC040 is -3.0.
    second = np.array([0x3F80, 0xC040], "<u2")
    tensors = {"w": ("F32", (2, 3), first.tobytes()), "n": ("BF16", (2,), second.tobytes())}
    write_safetensors(path, tensors)
    return path


def test_header_gives_positions_of_bytes(tmp_path: Path) -> None:
    shard = sio.read_shard(two_tensors(tmp_path))
    assert list(shard.tensors) == ["w", "n"]
    assert shard.tensors["w"].shape == (2, 3)
    assert shard.tensors["w"].start == shard.data_start
    assert shard.tensors["n"].end == shard.size == os.path.getsize(shard.file)
    assert shard.metadata == {"format": "mlx"}


def test_rows_come_in_float32_and_in_part(tmp_path: Path) -> None:
    shard = sio.read_shard(two_tensors(tmp_path))
    assert sio.read_float32(shard.tensors["w"], 1, 1).tolist() == [[3.0, 4.0, 5.0]]
    assert sio.read_float32(shard.tensors["n"]).tolist() == [[1.0, -3.0]]


def header_file(folder: Path, fields: dict[str, object], data: bytes) -> Path:
    text = json.dumps(fields).encode()
    path = folder / "bad.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"1234"),  # cut off
        ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"123456789"),  # bytes of nobody
        ({"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, b"12345678"),  # size is not the shape's
        ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}, b"12345678"),
        ({"w": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, b"12345678"),
        ({"w": {"dtype": "F32", "shape": [2]}}, b"12345678"),
        (
            {
                "a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
                "b": {"dtype": "U8", "shape": [4], "data_offsets": [2, 6]},
            },
            b"123456",
        ),  # overlap
    ],
)
def test_damaged_files_are_named(tmp_path: Path, fields: dict[str, object], data: bytes) -> None:
    path = header_file(tmp_path, fields, data)
    with pytest.raises(UserError, match=str(path)):
        sio.read_shard(path)


@pytest.mark.parametrize("content", [b"", b"1234", struct.pack("<Q", 1 << 60) + b"{}", struct.pack("<Q", 2) + b"[]"])
def test_files_of_another_kind_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="已损坏"):
        sio.read_shard(path)


def test_bfloat16_rounds_to_nearest_even() -> None:
    # bfloat16 keeps 7 bits behind the point: 1 + 1/256 is halfway between 1 and 1 + 1/128, and 1 is the even one.
    values = np.array([1 + 1 / 256, 1 + 3 / 256, 1 + 1 / 256 + 1e-6, -1 - 1 / 256, 0.0, 2.0**-130], np.float32)
    back = sio.to_float32(sio.from_float32(values, "BF16"), "BF16")
    assert back.tolist() == [1.0, 1 + 4 / 256, 1 + 2 / 256, -1.0, 0.0, 2.0**-130]


@given(st.floats(-(2.0**100), 2.0**100, width=32))
def test_bfloat16_error_is_half_a_step(value: float) -> None:
    back = float(sio.to_float32(sio.from_float32(np.array([value], np.float32), "BF16"), "BF16")[0])
    # Half a step is 2^-8 of the value's power of two; below the normal numbers it is half of 2^-133.
    assert abs(back - value) <= max(2.0**-8 * abs(value), 2.0**-134)


@given(st.integers(0, 0xFFFF))
def test_bfloat16_bits_survive(bits: int) -> None:
    value = sio.to_float32(np.array([bits], np.uint16), "BF16")
    if np.isfinite(value).all():
        assert sio.from_float32(value, "BF16")[0] == bits


def test_laying_out_keeps_wide_types_aligned(tmp_path: Path) -> None:
    file = tmp_path / "x"
    tensors = [
        sio.Tensor("odd", "U8", (3,), file, 0, 3),
        sio.Tensor("wide", "F32", (2,), file, 0, 8),
        sio.Tensor("half", "BF16", (1,), file, 0, 2),
    ]
    opening, placed = sio.lay_out(tensors, {"format": "mlx"}, file)
    assert len(opening) % 8 == 0
    assert [name for name, _ in sorted(placed.items(), key=lambda item: item[1].start)] == ["wide", "half", "odd"]
    file.write_bytes(opening + bytes(13))
    assert sio.read_shard(file).tensors == placed


def test_rows_are_written_at_their_place(tmp_path: Path) -> None:
    path = two_tensors(tmp_path)
    before = path.read_bytes()
    tensor = sio.read_shard(path).tensors["w"]
    descriptor = os.open(path, os.O_WRONLY)
    sio.write_rows(descriptor, tensor, 1, np.array([[7, 8, 9]], np.float32))
    os.close(descriptor)
    assert sio.read_float32(tensor).tolist() == [[0, 1, 2], [7, 8, 9]]
    assert path.read_bytes()[-4:] == before[-4:]
