"""What the training loop asks of the model, whoever computes it: MLX (`mlx_engine`) or NumPy (`simulation`) (pure).

The loop, checkpoints, resuming, history and pictures know nothing but this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from precision_lora.batching import MicroBatch
from precision_lora.checkpoint import Snapshot, Tensors
from precision_lora.dataset import Encoded
from precision_lora.journal import Journal
from precision_lora.phases import KIND_BITS


@dataclass(frozen=True)
class StepResult:
    """One optimizer step: weighted loss, plain mean cross-entropy (nats/token), gradient norm before clipping.

    ``applied`` is False when loss or gradient was not finite; the state is then the one before the step.
    """

    loss: float
    nll: float
    grad_norm: float
    supervised_tokens: int
    applied: bool


@dataclass(frozen=True)
class TrainedTensors:
    """A training state as a checkpoint keeps it: adapter and AdamW moments (float32, by name), and the update count."""

    adapter: Tensors
    first: Tensors
    second: Tensors
    updates: int


@dataclass(frozen=True)
class Engine:
    """A model that is ready to step. ``state`` is the engine's own kind of value, handed back to it unseen.

    - ``done``: optimizer steps behind ``state``.
    - ``to_device(micro, table, mean)``: a micro-batch with its weights ``table[kinds] · row weight / mean``;
      ``table`` float32 (32,), ``mean`` is w̄ of the phase.
    - ``take_step(state, batches, supervised_tokens, learning_rate, seed)`` → (state, `StepResult`). The old state may
      have been overwritten. ``seed`` feeds the step's random numbers; ``supervised_tokens`` is this rank's count.
    - ``validate(state, micros)``: as `mean_nll`.
    - ``tensors(state)``: the state for a checkpoint, good until the next step.
    - ``peak_memory()``: bytes, None where the system does not say.
    """

    state: Any
    done: int
    to_device: Callable[[MicroBatch, np.ndarray, float], Any]
    take_step: Callable[[Any, Sequence[Any], int, float, int], tuple[Any, StepResult]]
    validate: Callable[[Any, Sequence[MicroBatch]], dict[str, float]]
    tensors: Callable[[Any], TrainedTensors]
    peak_memory: Callable[[], int | None]


@dataclass(frozen=True)
class Loaded:
    """A base model with its adapter attached, known before the data is tokenised.

    - ``digest``: sha256 of what a resumed run must find unchanged in the base.
    - ``modules``: full paths of what the adapter changes; ``summary`` says it in a line.
    - ``max_tokens``: of a micro-batch, padding included; more would cost memory for little time. None: no limit.
    - ``remarks``: lines for the person about how this engine came to be.
    - ``engine(data, probe, snapshot, journal)``: ready to step, from ``snapshot`` where a run goes on. ``probe`` is a
      micro-batch of a real row, on which the engine may check itself.
    """

    path: Path
    model_type: str
    digest: str
    tokenizer: Any
    adapter_config: dict[str, Any]
    modules: tuple[str, ...]
    summary: str
    parameters: int
    versions: dict[str, str]
    engine: Callable[[Encoded, MicroBatch, Snapshot | None, Journal], Engine]
    max_tokens: int | None = None
    remarks: tuple[str, ...] = ()
    simulated: bool = False
    rank: int = 0
    ranks: int = 1

    @property
    def marks(self) -> dict[str, bool]:
        """What every JSON object that a simulated run writes carries, so that none is taken for a trained one."""
        return {"simulated": True} if self.simulated else {}


def mean_nll(parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Mean negative log-likelihood (nats/token), overall as ``loss`` and for each span kind, with the token count.

    ``parts``: per micro-batch the losses (P,) and kind masks uint8 (P,) of its real targets. A token of two kinds
    counts in both; one of no kind in ``other``. A kind without tokens is left out; without any token ``loss`` is NaN.
    """
    bits = {**KIND_BITS, "other": 0}
    sums, counts = dict.fromkeys(bits, 0.0), dict.fromkeys(bits, 0)
    total, tokens = 0.0, 0
    for losses, kinds in parts:
        losses = losses.astype(np.float64)
        total, tokens = total + float(losses.sum()), tokens + len(losses)
        for name, bit in bits.items():
            chosen = (kinds & bit) != 0 if bit else kinds == 0
            sums[name] += float(losses[chosen].sum())
            counts[name] += int(chosen.sum())
    measured = {name: sums[name] / counts[name] for name in bits if counts[name]}
    return {"loss": total / tokens if tokens else float("nan"), **measured, "tokens": tokens}
