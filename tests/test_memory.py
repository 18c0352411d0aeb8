"""The memory estimate: the 30B layout in figures, each term by hand on a small one, and what moves it which way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from precision_lora import memory
from precision_lora.layout import Layout, Linear
from precision_lora.memory import Estimate, Machine, Work, estimate, held_weights, logits_bytes, lora_parameters

METAL = Machine("metal", 48 * 10**9)


def layout_30b(bits: int | None = None) -> Layout:
    """Qwen3-VL-30B-A3B's language model: 48 layers, hidden 2048, 32/4 heads of 128, 128 experts of 768, 8 visited."""
    linears = []
    for layer in range(48):
        for name, inputs, outputs in (
            ("self_attn.q_proj", 2048, 4096),
            ("self_attn.k_proj", 2048, 512),
            ("self_attn.v_proj", 2048, 512),
            ("self_attn.o_proj", 4096, 2048),
            ("mlp.gate", 2048, 128),
        ):
            linears.append(Linear(layer, name, inputs, outputs, 1))
        linears += [Linear(layer, f"mlp.switch_mlp.{n}", 2048, 768, 128) for n in ("gate_proj", "up_proj")]
        linears.append(Linear(layer, "mlp.switch_mlp.down_proj", 768, 2048, 128))
    weights = sum(x.experts * x.inputs * x.outputs for x in linears) + 2 * 151_936 * 2048
    packed = 0 if bits is None else weights
    return Layout(
        linears=tuple(linears),
        layers=48,
        hidden=2048,
        heads=32,
        head_dim=128,
        qk_norm=True,
        chosen=8,
        vocabulary=151_936,
        stored_bytes=2 * weights if bits is None else weights * bits // 8 + weights // 64 * 4,
        stored_items=weights if bits is None else weights * bits // 32 + weights // 64 * 2,
        quantised_weights=packed,
        quantised_bytes=0 if bits is None else weights * bits // 8 + weights // 64 * 4,
        quantised_items=0 if bits is None else weights * bits // 32 + weights // 64 * 2,
        plain_weights=weights - packed,
        float_bytes=2,
        folder_bytes=2 * weights,
    )


def small(**changes: object) -> Layout:
    """One dense layer: q and o (8, 8), gate, up and down of 16, two heads of 4, float32, 32 words."""
    linears = (
        Linear(0, "self_attn.q_proj", 8, 8, 1),
        Linear(0, "self_attn.k_proj", 8, 8, 1),
        Linear(0, "self_attn.v_proj", 8, 8, 1),
        Linear(0, "self_attn.o_proj", 8, 8, 1),
        Linear(0, "mlp.gate_proj", 8, 16, 1),
        Linear(0, "mlp.up_proj", 8, 16, 1),
        Linear(0, "mlp.down_proj", 16, 8, 1),
    )
    weights = sum(x.inputs * x.outputs for x in linears) + 32 * 8
    plain = Layout(linears, 1, 8, 2, 4, False, 0, 32, 4 * weights, weights, 0, 0, 0, weights, 4, 4 * weights)
    return replace(plain, **changes)


def test_the_30b_layout_in_figures() -> None:
    layout, work = layout_30b(), Work(rows=2, length=512, supervised=512, rank=128)
    # Each layer: q (2048 + 4096), k and v (2048 + 512), o (4096 + 2048), times the rank.
    assert lora_parameters(layout, work) == 48 * 128 * (6144 + 2 * 2560 + 6144) == 106_954_752
    found = estimate(layout, work, METAL)
    assert (found.adapter, found.moments, found.updated) == (427_819_008, 855_638_016, 1_283_457_024)
    assert found.weights == layout.stored_bytes == pytest.approx(61.1e9, rel=0.01)  # 30.5 billion in 16 bits
    assert found.peak > found.resident > found.weights and found.process == 0
    four = estimate(layout_30b(bits=4), work, METAL)
    assert four.weights == pytest.approx(61.1e9 * 4.5 / 16, rel=0.01)
    assert four.peak - four.weights == pytest.approx(found.peak - found.weights)


def test_activations_of_a_dense_layer_by_hand() -> None:
    """On a CPU in float32: norms 2·8, q k v 3·8, attention's input 8 and o's 8, gate and up 2·16, their input's
    share only where they are adapted, rank 4 behind each of four A, attention's output 8 and a float32 a head."""
    work = Work(rows=1, length=10, supervised=10, rank=4)
    numbers = 2 * 8 + 3 * 8 + 8 + 8 + 2 * 16 + 4 * 4 + 8 + 2
    assert estimate(small(), work, Machine("cpu", None)).activations == 10 * 4 * numbers
    more = estimate(small(), replace(work, targets="all-linear"), Machine("cpu", None)).activations
    assert more == 10 * 4 * (numbers + 8 + 16 + 3 * 4)  # the inputs of gate and up, and of down; three more A


@pytest.mark.parametrize("machine", [METAL, Machine("cpu", None)])
def test_what_needs_less_is_estimated_at_less(machine: Machine) -> None:
    layout, work = layout_30b(), Work(rows=2, length=1024, supervised=1024, rank=128)
    now = estimate(layout, work, machine).peak
    for change in ({"rows": 1, "supervised": 512}, {"rank": 64}, {"length": 512}, {"grad_checkpoint": True}):
        assert estimate(layout, replace(work, **change), machine).peak < now, change
    for change in ({"targets": "all-linear"}, {"accumulated": True}, {"rows": 4}):
        assert estimate(layout, replace(work, **change), machine).peak > now, change
    # Below the first trained layer nothing is kept.
    assert estimate(layout, replace(work, num_layers=8), machine).activations == pytest.approx(
        estimate(layout, work, machine).activations * 8 / 48
    )


def test_a_cpu_takes_float32_weights_only_where_they_fit() -> None:
    layout = layout_30b(bits=4)
    assert held_weights(layout, Machine("cpu", None)) == (4 * layout.weights, 4)
    assert held_weights(layout, Machine("cpu", 10**9)) == (layout.stored_bytes, 2)
    middle = Machine("cpu", round(4 * (layout.quantised_weights + layout.stored_items) / 0.7))
    assert held_weights(layout, middle) == (layout.quantised_bytes + 4 * layout.plain_weights, 4)
    assert held_weights(layout, METAL) == (layout.stored_bytes, 2)


def test_logits_grow_with_positions_up_to_a_bound() -> None:
    assert logits_bytes(4096, 0) == 0
    assert logits_bytes(4096, 64) == round(10.5 * 64) * 4 * 4096
    assert logits_bytes(4096, 10_000) == logits_bytes(4096, 20_000) == 20 * 128 * 4 * 4096


def test_the_peak_is_the_largest_of_what_does_not_overlap() -> None:
    base = dict.fromkeys(Estimate.__dataclass_fields__, 0)
    assert Estimate(**(base | {"weights": 5, "moments": 2, "whole": 7})).peak == 14
    backward = Estimate(**(base | {"activations": 10, "logits": 3, "layer": 2, "ahead": 4, "gradients": 1}))
    assert (backward.backward, backward.update, backward.peak) == (16, 1, 16)
    assert Estimate(**(base | {"gradients": 20, "updated": 60, "activations": 30})).peak == 80


def test_machines_say_what_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory.machine_of("cuda", 7) == Machine("cuda", 7)
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    monkeypatch.setattr(memory, "_mac_memory", lambda: 100)
    assert memory.machine_of("metal") == Machine("metal", 67)
    monkeypatch.setattr(memory, "_mac_memory", lambda: None)
    assert memory.machine_of("metal").limit is None
    monkeypatch.setattr(memory.sys, "platform", "linux")
    assert memory.machine_of("cuda").limit is None
