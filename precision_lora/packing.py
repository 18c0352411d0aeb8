"""MLX's quantised forms, both ways, on NumPy blocks."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from precision_lora.merging import Packing
from precision_lora.safetensors_io import from_float32, to_float32


def unpack(weight: np.ndarray, scales: np.ndarray, biases: np.ndarray | None, packing: Packing) -> np.ndarray:
    """Dequantise rows in float32: ``weight`` uint32 (rows, packed), ``scales`` and ``biases`` (rows, groups).

    Affine scales come in float32, those of the other modes as stored (uint8).
    """
    values = mx.dequantize(
        mx.array(weight),
        mx.array(scales),
        None if biases is None else mx.array(biases),
        group_size=packing.group_size,
        bits=packing.bits,
        mode=packing.mode,
    )
    return np.array(values.astype(mx.float32))


def pack(
    values: np.ndarray, packing: Packing, dtype: str, own_grid: tuple[np.ndarray, np.ndarray] | None = None
) -> list[np.ndarray]:
    """Quantise float32 rows to stored form: weight, scales and, for affine, biases; these two in ``dtype``.

    Affine rows are rounded against scales and biases as stored, not against the float32 ones that MLX finds first.
    ``own_grid`` (scales and biases that the rows had before, float32) is kept in every group where it fits better:
    a small change then moves few weights, while a new grid would move them all.
    """
    parts = mx.quantize(mx.array(values), packing.group_size, packing.bits, mode=packing.mode)
    if packing.mode != "affine":
        return [np.array(part) for part in parts]
    grouped = values.reshape(len(values), -1, packing.group_size)
    scales, biases = (to_float32(from_float32(np.array(part), dtype), dtype) for part in parts[1:])
    codes = _codes(grouped, scales, biases, packing.bits)
    if own_grid is not None:
        own_codes = _codes(grouped, *own_grid, packing.bits)
        better = _error(grouped, own_codes, *own_grid) < _error(grouped, codes, scales, biases)
        codes = np.where(better[..., None], own_codes, codes)
        scales, biases = np.where(better, own_grid[0], scales), np.where(better, own_grid[1], biases)
    return [
        _pack_codes(codes.reshape(values.shape), packing.bits),
        from_float32(scales, dtype),
        from_float32(biases, dtype),
    ]


def _codes(grouped: np.ndarray, scales: np.ndarray, biases: np.ndarray, bits: int) -> np.ndarray:
    """The nearest code of each value: uint8 (rows, groups, group size)."""
    divisor = np.where(scales == 0, np.float32(1), scales)[..., None]
    return np.clip(np.rint((grouped - biases[..., None]) / divisor), 0, 2**bits - 1).astype(np.uint8)


def _error(grouped: np.ndarray, codes: np.ndarray, scales: np.ndarray, biases: np.ndarray) -> np.ndarray:
    """Squared error of each group."""
    return ((codes * scales[..., None] + biases[..., None] - grouped) ** 2).sum(-1)


def _pack_codes(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes (rows, width) packed into uint32, the first value in the lowest bits."""
    if bits == 8:
        return np.ascontiguousarray(codes).view(np.uint32)
    ones = np.unpackbits(codes[..., None], axis=-1, count=bits, bitorder="little")
    return np.packbits(ones.reshape(len(codes), -1), axis=-1, bitorder="little").view(np.uint32)
