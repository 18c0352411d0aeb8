"""How much memory a training run takes at its peak, from a model's layout and the run's sizes (pure).

The peak is what stays all the time (weights, adapter, AdamW moments) and the largest of what comes and goes: a
backward pass, the update, the check against the whole model before the first step. How the terms were derived stands
with each; the factors marked "measured" come from MLX 0.32.4 on CPUs, over 30 runs of small dense and expert models.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import dataclass

from precision_lora.batching import chunk_positions
from precision_lora.layout import Layout, Linear, Place

FLOAT32_BYTES = 4
# Queries that the CPU kernels take against all keys at a time.
QUERY_BLOCK = 128

# MLX hands out the results of operations before it has run them and frees their inputs afterwards, ten operations
# ahead, each with a temporary or two. Measured: 12 to 16 of the largest array.
ARRAYS_AHEAD = 16
# The same for attention without fused kernels, whose (heads, length, length) arrays are so large that the wait for
# them dominates. Measured: 6 to 10; in the graph are scores, masked scores, softmax and the gradients of each.
SCORES_AHEAD = 8
# Logits, exponentials, their gradient and copies of these, ahead in the same way. Measured: 9 to 12 arrays of one
# chunk, never more than 21 however many chunks follow each other.
LOGITS_AHEAD, LOGITS_AHEAD_MOST = 10.5, 20
# Python, libraries, tokenizer and data in a process. Measured: 0.12 to 0.34 GB above MLX's own count.
PROCESS_BYTES = 300_000_000
# `model.load_base` gives the CPU float32 weights while they take no more than these shares of the free memory.
DEQUANTISE_SHARE, CAST_SHARE = 0.6, 0.8
# Without Metal to ask: the share of a Mac's memory that it recommends for the GPU is 0.67 to 0.75.
METAL_SHARE = 0.67
# Tokens of a micro-batch on a CPU: twice as many take 0.95 of the time there and 1.7 times the memory (demo model).
CPU_MAX_TOKENS = 768
# An estimate may be this much too high, so only a run that is further over the limit surely does not fit.
TOLERANCE = 0.25


@dataclass(frozen=True)
class Machine:
    """``device``: "metal", "cuda" or "cpu". ``limit``: bytes that a run may take there, None where nobody says."""

    device: str
    limit: int | None

    @property
    def source(self) -> str:
        """What the limit is, for the person."""
        return {"metal": "Metal 建议的上限", "cuda": "显卡的可用显存"}.get(self.device, "可用内存")


@dataclass(frozen=True)
class Work:
    """The sizes of a run that its memory depends on.

    ``rows``: rows of a micro-batch. ``length``: tokens of the longest one, padding included. ``supervised``: supervised
    positions of that micro-batch. ``also``: layers of an earlier adapter, beside the targets.
    ``accumulated``: whether a step has more than one micro-batch.
    """

    rows: int
    length: int
    supervised: int
    rank: int
    targets: str = "attention"
    num_layers: int = -1
    also: frozenset[Place] = frozenset()
    grad_checkpoint: bool = False
    accumulated: bool = False

    @property
    def tokens(self) -> int:
        return self.rows * self.length


@dataclass(frozen=True)
class Estimate:
    """Bytes, term by term. `peak` says how they overlap in time.

    - ``weights``: the base as the device holds it. ``adapter``: A and B, float32. ``moments``: both AdamW moments.
    - ``gradients``: of A and B, float32; ``carried``: those of earlier micro-batches of the step.
    - ``activations``: what the forward pass keeps for the backward pass. ``layer``: what the largest layer computes
      anew in the backward pass where ``activations`` does not hold it.
    - ``ahead``: results of a layer's operations that are there before or after their time.
    - ``logits``: the same at the output head, supervised positions only.
    - ``updated``: the new adapter and moments, beside the old ones until the step is known to be finite.
    - ``whole``: every logit of one row, once, to check the cut model against the whole one.
    - ``process``: Python and libraries, where they share the memory that is being estimated.
    """

    weights: int
    adapter: int
    moments: int
    gradients: int
    carried: int
    activations: int
    layer: int
    ahead: int
    logits: int
    updated: int
    whole: int
    process: int

    @property
    def resident(self) -> int:
        """What is there all the time."""
        return self.weights + self.adapter + self.moments + self.process

    @property
    def backward(self) -> int:
        """The backward pass, at the output head or at the layer below it; activations give way to gradients."""
        return self.carried + max(self.activations + max(self.logits, self.layer + self.ahead), self.gradients)

    @property
    def update(self) -> int:
        return self.gradients + self.updated

    @property
    def peak(self) -> int:
        return self.resident + max(self.backward, self.update, self.whole)


def lora_parameters(layout: Layout, work: Work) -> int:
    """Numbers in the adapter."""
    return sum(linear.lora_parameters(work.rank) for linear in adapted_by(layout, work))


def adapted_by(layout: Layout, work: Work) -> tuple[Linear, ...]:
    """The layers that ``work`` puts LoRA on."""
    return layout.adapted(work.targets, work.num_layers, work.also)


def estimate(layout: Layout, work: Work, machine: Machine) -> Estimate:
    """The memory of a run of ``work`` on ``machine``."""
    held, float_bytes = held_weights(layout, machine)
    adapter = FLOAT32_BYTES * lora_parameters(layout, work)
    adapted = frozenset(adapted_by(layout, work))
    fused = has_fused_attention(machine.device, float_bytes)
    by_layer: dict[int, list[Linear]] = {}
    for linear in layout.linears:
        by_layer.setdefault(linear.layer, []).append(linear)
    # Below the first adapted layer nothing needs a gradient, so nothing is kept.
    first = min((linear.layer for linear in adapted), default=0)
    layers = [
        work.tokens * kept_bytes_per_token(layout, linears, adapted, float_bytes, fused, work)
        for number, linears in by_layer.items()
        if number >= first
    ]
    # With --grad-checkpoint each layer keeps its input alone, and brings the rest back when its turn comes.
    inputs = len(layers) * work.tokens * layout.hidden * float_bytes
    return Estimate(
        weights=held,
        adapter=adapter,
        moments=2 * adapter,
        gradients=adapter,
        carried=adapter if work.accumulated else 0,
        activations=inputs if work.grad_checkpoint else sum(layers),
        layer=max(layers) if work.grad_checkpoint else 0,
        ahead=_ahead_bytes(layout, adapted, float_bytes, fused, machine.device, work),
        logits=logits_bytes(layout.vocabulary, work.supervised),
        updated=3 * adapter,
        whole=2 * work.length * layout.vocabulary * float_bytes,
        process=PROCESS_BYTES if machine.device == "cpu" else 0,
    )


def held_weights(layout: Layout, machine: Machine) -> tuple[int, int]:
    """Bytes of the base on the device, and bytes of the floating type that it computes in.

    A GPU takes the tensors as stored. A CPU multiplies float32 a hundred times faster than anything else, so
    quantised layers become plain and 16-bit numbers float32 where there is room (`model.load_base`).
    """
    if machine.device != "cpu":
        return layout.stored_bytes, layout.float_bytes
    wanted = FLOAT32_BYTES * (layout.quantised_weights + layout.stored_items)
    free = math.inf if machine.limit is None else machine.limit
    if layout.quantised_weights and wanted < DEQUANTISE_SHARE * free:
        return FLOAT32_BYTES * layout.weights, FLOAT32_BYTES
    if wanted < CAST_SHARE * free:
        return layout.quantised_bytes + FLOAT32_BYTES * layout.plain_weights, FLOAT32_BYTES
    return layout.stored_bytes, layout.float_bytes


def has_fused_attention(device: str, float_bytes: int) -> bool:
    """Whether attention keeps its output for the backward pass and not its (heads, length, length) probabilities.

    The CPU kernels do in float32, cuDNN in 16 bits; MLX on Metal trains with plain attention (``use_fallback`` in
    mlx/backend/metal/scaled_dot_product_attention.cpp).
    """
    return float_bytes == FLOAT32_BYTES if device == "cpu" else device == "cuda" and float_bytes < FLOAT32_BYTES


def kept_bytes_per_token(
    layout: Layout, linears: list[Linear], adapted: frozenset[Linear], float_bytes: int, fused: bool, work: Work
) -> int:
    """Bytes that one decoder layer keeps for the backward pass, for each token of the micro-batch.

    Frozen weights need no activations: only what a norm, attention, an activation function, a routing weight or a
    LoRA matrix was computed from is kept. LoRA computes in float32, so with 16-bit models every adapted layer keeps
    its own float32 copy of its input. Checked: eight dense layers of 256 dimensions keep 2,984 numbers a token each by
    this count, 3,020 measured.
    """
    wide = float_bytes == FLOAT32_BYTES
    total = 2 * layout.hidden * float_bytes  # inputs of the two norms
    attention_width = layout.heads * layout.head_dim
    for attention in (True, False):
        readers = [x for x in linears if x.attention == attention and not x.writes and not x.router]
        writers = [x for x in linears if x.attention == attention and x.writes]
        # Queries, keys and values; gate and up.
        total += sum(_visits(layout, x) * x.outputs for x in readers) * float_bytes
        inputs = [FLOAT32_BYTES * _visits(layout, x) * x.inputs for x in readers if x in adapted]
        # Layers that read the same float32 input share it.
        total += max(inputs, default=0) if wide else sum(inputs)
        total += sum(FLOAT32_BYTES * _visits(layout, x) * x.inputs for x in writers if x in adapted)
        # Outputs of experts, which the gradient of their routing weights needs.
        total += sum(layout.chosen * x.outputs for x in writers if x.experts > 1) * float_bytes
    total += sum(2 * x.outputs * float_bytes for x in linears if x.router)
    # Behind A, before B.
    total += sum(FLOAT32_BYTES * work.rank * _visits(layout, x) for x in linears if x in adapted)
    if layout.qk_norm:
        keys = [x.outputs for x in linears if x.attention and x.name.endswith("k_proj")]
        total += (attention_width + sum(keys)) * float_bytes
    if any(x.attention for x in linears):
        scores = layout.heads * work.length * float_bytes
        total += attention_width * float_bytes + layout.heads * FLOAT32_BYTES if fused else scores
    return total


def _visits(layout: Layout, linear: Linear) -> int:
    """How often a token goes through ``linear``: once, or through as many experts as it visits."""
    return layout.chosen if linear.experts > 1 else 1


def _ahead_bytes(
    layout: Layout, adapted: frozenset[Linear], float_bytes: int, fused: bool, device: str, work: Work
) -> int:
    results = [work.tokens * _visits(layout, x) * max(x.inputs, x.outputs) for x in layout.linears]
    largest = float_bytes * max(results)
    # Their gradients, of one matrix.
    largest = max(largest, max((FLOAT32_BYTES * x.experts * x.inputs * work.rank for x in adapted), default=0))
    if fused and device == "cpu":
        largest = max(largest, work.tokens * layout.heads * min(QUERY_BLOCK, work.length) * float_bytes)
    scores = 0 if fused else SCORES_AHEAD * work.tokens * layout.heads * work.length * float_bytes
    return max(ARRAYS_AHEAD * largest, scores)


def logits_bytes(vocabulary: int, supervised: int) -> int:
    """Bytes at the output head while the logits of ``supervised`` positions are computed, chunk by chunk."""
    row = FLOAT32_BYTES * vocabulary
    chunk = min(supervised, chunk_positions(vocabulary))
    return round(min(LOGITS_AHEAD * supervised, LOGITS_AHEAD_MOST * chunk) * row)


# --------------------------------------------------------------------------------------------------------------------
# The machine


def machine_of(device: str, working_set: int | None = None) -> Machine:
    """The memory of this machine for a run on ``device``; ``working_set`` is what a GPU says that it can take.

    Without a GPU's word: the memory that Linux calls available, a share of a Mac's.
    """
    if working_set is not None:
        return Machine(device, working_set)
    if sys.platform == "darwin":
        total = _mac_memory()
        return Machine(device, None if total is None else round(METAL_SHARE * total))
    return Machine(device, available_memory() if device == "cpu" else None)


def available_memory() -> int | None:
    """Bytes of RAM that are free to use, where the system says so (Linux)."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _mac_memory() -> int | None:
    try:
        words = [os.path.join("/usr/sbin", "sysctl"), "-n", "hw.memsize"]
        return int(subprocess.run(words, capture_output=True, text=True, timeout=5, check=True).stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
