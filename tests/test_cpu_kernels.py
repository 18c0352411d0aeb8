"""The CPU kernels against MLX's own, forward and backward."""

import numpy as np
import pytest

mx = pytest.importorskip("mlx.core")

import mlx.nn as nn  # noqa: E402

from precision_lora import cpu_kernels as kernels  # noqa: E402
from tests import tiny  # noqa: E402


def test_exponential_within_its_stated_error():
    x = np.linspace(-60, 30, 20001).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    error = np.abs(np.array(kernels.fast_exp(mx.array(x)), dtype=np.float64) - exact)
    assert (error / exact)[np.abs(x) <= 10].max() < 4e-6
    assert (error / exact)[x >= -20].max() < 3e-4
    assert error[x <= -20].max() < 1e-12
    assert 0 <= kernels.fast_exp(mx.array([-1e9])).item() < 1e-20


def test_softmax_and_log_sum_exp():
    mx.random.seed(0)
    logits = mx.random.normal((7, 501)) * 6
    e, total, top = kernels.exponentials(logits)
    lse = (top + mx.log(total))[:, 0]
    np.testing.assert_allclose(np.array(e / total), np.array(mx.softmax(logits, axis=-1)), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(np.array(lse), np.array(mx.logsumexp(logits, axis=-1)), rtol=1e-6)


def test_swiglu_and_its_gradient():
    mx.random.seed(1)
    gate, x, d = (mx.random.normal((5, 64)) * 10 for _ in range(3))
    gate[0, 0], gate[0, 1] = 200.0, -200.0

    def through(function):
        return mx.vjp(function, [gate, x], [d])

    (out,), grads = through(kernels.swiglu)
    (wanted,), wanted_grads = through(lambda g, y: nn.silu(g) * y)
    np.testing.assert_allclose(np.array(out), np.array(wanted), rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(grads, wanted_grads, strict=True):
        np.testing.assert_allclose(np.array(ours), np.array(theirs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [1, 2, 127, 128, 300])
@pytest.mark.parametrize("heads", [(4, 2), (3, 3)])
def test_attention_and_its_gradient(length, heads):
    mx.random.seed(2)
    q = mx.random.normal((2, heads[0], length, 16)) * 3
    k, v = (mx.random.normal((2, heads[1], length, 16)) * 3 for _ in range(2))
    if length > 2:
        # A future key that fits far better than any visible one must not push those out of range.
        k[:, :, -1] = 40.0 * q[:, : heads[1], 0]
    d = mx.random.normal(q.shape)

    def plain(q, k, v):
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=0.25, mask="causal")

    def ours(q, k, v):
        return kernels.attention(q, k, v, cache=None, scale=0.25, mask="causal")

    (out,), grads = mx.vjp(ours, [q, k, v], [d])
    (wanted,), wanted_grads = mx.vjp(plain, [q, k, v], [d])
    np.testing.assert_allclose(np.array(out), np.array(wanted), rtol=1e-3, atol=2e-5)
    for a, b in zip(grads, wanted_grads, strict=True):
        scale = max(1.0, np.abs(np.array(b)).max())
        np.testing.assert_allclose(np.array(a), np.array(b), rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("config", [tiny.LLAMA, tiny.VL_MOE])
def test_a_model_computes_the_same_with_them_and_they_can_be_undone(config):
    model = tiny.build(config)
    tokens = mx.array([[5, 9, 17, 3, 44, 60, 2, 8], [1, 2, 3, 4, 5, 6, 7, 8]])
    plain = np.array(model(tokens))
    undo = kernels.install(model)
    try:
        assert not np.array_equal(np.array(model(tokens)), plain)  # they are in use
        np.testing.assert_allclose(np.array(model(tokens)), plain, rtol=1e-3, atol=1e-4)
    finally:
        undo()
    np.testing.assert_array_equal(np.array(model(tokens)), plain)


def test_compiling_keeps_no_more_from_the_forward_pass():
    """A compiled function computes equal expressions once: what the backward pass computes anew was kept instead."""
    mx.random.seed(0)
    q, k, v = (mx.random.normal((1, heads, 256, 16)) for heads in (4, 2, 2))

    def deep(q):
        for _ in range(8):
            q = q + kernels.attention(q, k, v, cache=None, scale=0.25, mask="causal")
        return q.square().sum()

    peaks = []
    for function in (mx.grad(deep), mx.compile(mx.grad(deep))):
        mx.eval(function(q))  # the first call of a compiled function traces it
        mx.reset_peak_memory()
        mx.eval(function(q))
        peaks.append(mx.get_peak_memory())
    assert peaks[1] <= 1.1 * peaks[0]
