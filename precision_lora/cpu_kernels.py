"""Attention, SwiGLU and softmax for MLX on CPUs, where one exponential costs as much as a thousand multiplications.

MLX 0.32 on x86 computes 0.06 exponentials a nanosecond and thread, and attention takes them twice, masked pairs
included. Here they come from a polynomial and squarings, which the compiler vectorises (five times faster), and
attention computes blocks of queries against the keys that they may see. On a GPU MLX's own kernels are used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models import activations, base

# Queries in a block: small enough to skip most of the masked half, large enough for efficient products.
QUERY_BLOCK = 128
# exp(-60) is 0 beside any float32 sum of softmax terms, and far from the denormal numbers, which are slow.
LOWEST = -60.0
MASKED = -1e9


def fast_exp(x: mx.array) -> mx.array:
    """exp(max(x, -60)) for x ≤ 30: the Taylor polynomial of exp(x/32), squared five times.

    Relative error < 4e-6 for |x| ≤ 10 and < 1e-4 down to -20; what lies lower is nothing beside a softmax's largest
    term, 1.
    """
    t = mx.maximum(x, LOWEST) * (1 / 32)
    p = t * (1 / 5040) + 1 / 720
    for coefficient in (1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0):
        p = p * t + coefficient
    for _ in range(5):
        p = p * p
    return p


@mx.compile
def _shifted_exp(scores: mx.array, shift: mx.array) -> mx.array:
    return fast_exp(scores - shift)


@mx.compile
def _masked_shifted_exp(scores: mx.array, shift: mx.array, mask: mx.array) -> mx.array:
    return fast_exp(scores - shift) * mask


def _anew(primals: Sequence[mx.array], cotangent: mx.array) -> list[mx.array]:
    """``primals`` for a backward pass that computes again what the forward pass did not keep.

    `mx.compile` finds equal expressions and would keep their results from the forward pass on.
    """
    again: list[mx.array] = mx.depends(list(primals), [cotangent])
    return again


# --------------------------------------------------------------------------------------------------------------------
# Softmax over a vocabulary


def exponentials(logits: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """exp(logits - top) (P, V), its sums (P, 1) and the largest logits (P, 1), from float32 logits (P, V)."""
    top = logits.max(axis=-1, keepdims=True)
    e = _shifted_exp(logits, top)
    return e, e.sum(axis=-1, keepdims=True), top


# --------------------------------------------------------------------------------------------------------------------
# SwiGLU


@mx.compile
def _swiglu_forward(gate: mx.array, x: mx.array) -> mx.array:
    return x * gate / (1 + fast_exp(mx.minimum(-gate, 30.0)))


@mx.compile
def _swiglu_backward(gate: mx.array, x: mx.array, d_out: mx.array) -> tuple[mx.array, mx.array]:
    s = 1 / (1 + fast_exp(mx.minimum(-gate, 30.0)))
    return d_out * x * s * (1 + gate * (1 - s)), d_out * gate * s


@mx.custom_function
def swiglu(gate: mx.array, x: mx.array) -> mx.array:
    """silu(gate) * x, elementwise, float32."""
    return _swiglu_forward(gate, x)


@swiglu.vjp
def _swiglu_vjp(primals: Any, cotangent: mx.array, _: Any) -> tuple[mx.array, mx.array]:
    gate, x = _anew(primals, cotangent)
    return _swiglu_backward(gate, x, cotangent)


# --------------------------------------------------------------------------------------------------------------------
# Causal attention


def _blocks(length: int) -> list[tuple[int, int]]:
    return [(first, min(first + QUERY_BLOCK, length)) for first in range(0, length, QUERY_BLOCK)]


def _causal(first: int, last: int, repeats: int) -> mx.array:
    """1 where query ``first + i`` may see key ``j``, else 0: float32 (repeats * (last - first), last)."""
    mask = mx.arange(first, last)[:, None] >= mx.arange(last)[None]
    return mx.tile(mask.astype(mx.float32), (repeats, 1))


def _fold(x: mx.array, heads: int, first: int, last: int) -> mx.array:
    """Queries ``first:last`` (B, H, L, D) with the heads that share keys as rows: (B, heads, H/heads * rows, D)."""
    batch, all_heads, _, width = x.shape
    part = x[:, :, first:last].reshape(batch, heads, all_heads // heads, last - first, width)
    return part.reshape(batch, heads, -1, width)


def _unfold(parts: list[mx.array], blocks: list[tuple[int, int]], all_heads: int) -> mx.array:
    """The inverse of `_fold` over all blocks: (B, H, L, D)."""
    batch, _, _, width = parts[0].shape
    shaped = [p.reshape(batch, all_heads, last - first, width) for p, (first, last) in zip(parts, blocks, strict=True)]
    return mx.concatenate(shaped, axis=2)


def _attend(q: mx.array, k: mx.array, v: mx.array, scale: mx.array) -> tuple[mx.array, mx.array]:
    heads, repeats = k.shape[1], q.shape[1] // k.shape[1]
    blocks = _blocks(q.shape[2])
    outs, sums = [], []
    for first, last in blocks:
        scores = (_fold(q, heads, first, last) * scale) @ k[:, :, :last].swapaxes(-1, -2)
        mask = _causal(first, last, repeats)
        # The maximum over visible keys alone: a large masked score would push the visible ones below the range.
        top = (scores + (mask - 1) * -MASKED).max(axis=-1, keepdims=True)
        e = _masked_shifted_exp(mx.minimum(scores, top), top, mask)
        total = e.sum(axis=-1, keepdims=True)
        outs.append((e @ v[:, :, :last]) * (1 / total))
        sums.append(top + mx.log(total))
    return _unfold(outs, blocks, q.shape[1]), _unfold(sums, blocks, q.shape[1])


@mx.custom_function
def _attention(q: mx.array, k: mx.array, v: mx.array, scale: mx.array) -> tuple[mx.array, mx.array]:
    return _attend(q, k, v, scale)


@_attention.vjp
def _attention_vjp(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
    d_out, (out, lse) = cotangents[0], outputs
    q, k, v, scale = _anew(primals, d_out)
    heads, repeats = k.shape[1], q.shape[1] // k.shape[1]
    blocks = _blocks(q.shape[2])
    # dS = P * (dP - rowsum(dO * O)), see Dao et al. 2022 (FlashAttention), appendix B.
    delta = (d_out * out).sum(axis=-1, keepdims=True)
    d_q, d_k, d_v = [], mx.zeros_like(k), mx.zeros_like(v)
    for first, last in blocks:
        q_block, d_block = _fold(q, heads, first, last) * scale, _fold(d_out, heads, first, last)
        keys, values = k[:, :, :last], v[:, :, :last]
        rows = _fold(lse, heads, first, last)
        scores = mx.minimum(q_block @ keys.swapaxes(-1, -2), rows)
        p = _masked_shifted_exp(scores, rows, _causal(first, last, repeats))
        d_scores = p * (d_block @ values.swapaxes(-1, -2) - _fold(delta, heads, first, last))
        d_q.append((d_scores @ keys) * scale)
        pad = [(0, 0), (0, 0), (0, k.shape[2] - last), (0, 0)]
        d_k = d_k + mx.pad(d_scores.swapaxes(-1, -2) @ q_block, pad)
        d_v = d_v + mx.pad(p.swapaxes(-1, -2) @ d_block, pad)
    return _unfold(d_q, blocks, q.shape[1]), d_k, d_v, mx.zeros_like(scale)


def attention(
    queries: mx.array, keys: mx.array, values: mx.array, cache: Any, scale: float, mask: Any, sinks: Any = None
) -> mx.array:
    """mlx-lm's ``scaled_dot_product_attention``: the causal float32 case here, every other one as before."""
    causal = isinstance(mask, str) and mask == "causal" and queries.shape[2] == keys.shape[2]
    if not causal or cache is not None or sinks is not None or queries.dtype != mx.float32:
        return _plain_attention(queries, keys, values, cache=cache, scale=scale, mask=mask, sinks=sinks)
    outputs: Any = _attention(queries, keys, values, mx.array(scale))
    return outputs[0]


_plain_attention: Callable[..., mx.array] = base.scaled_dot_product_attention
_plain_swiglu: Callable[..., mx.array] = activations.swiglu


def _swiglu_any(gate: mx.array, x: mx.array) -> mx.array:
    if gate.dtype == x.dtype == mx.float32:
        fast: Any = swiglu(gate, x)
        return fast
    return _plain_swiglu(gate, x)


def install(model: nn.Module) -> Callable[[], None]:
    """Let ``model``'s architecture use these kernels where it uses mlx-lm's; returns what undoes it."""
    replaced: list[tuple[Any, str, Any]] = []
    for name in {type(module).__module__ for module in model.modules()}:
        for attribute, plain, ours in (
            ("scaled_dot_product_attention", _plain_attention, attention),
            ("swiglu", _plain_swiglu, _swiglu_any),
        ):
            if getattr(sys.modules[name], attribute, None) is plain:
                setattr(sys.modules[name], attribute, ours)
                replaced.append((sys.modules[name], attribute, plain))

    def undo() -> None:
        for module, attribute, plain in replaced:
            setattr(module, attribute, plain)

    return undo
