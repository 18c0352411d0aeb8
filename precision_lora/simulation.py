"""The simulation: a small model that really trains, in NumPy, where there is no MLX (pure).

It stands in for the large model so that checks, checkpoints, resuming and pictures can be tried on any machine; the
adapter that it leaves fits no language model. What it computes:

- A log-linear n-gram language model. The n-grams (n = 1…`ORDERS`) that end at a position are hashed to `FEATURES`
  inputs; x has these set, scaled to a root mean square of 1, as a hidden state of a network has.
- logits = base + scale · (x A) B with A (FEATURES, rank), B (rank, classes). The frozen base is the log frequency of
  each class among the training targets; A and B are the adapter, started and trained as LoRA is.
- Classes are the `MAX_CLASSES` − 1 most frequent training targets and one for all others, so that a vocabulary of
  150,000 costs no more than one of 4,000. Losses are therefore those of classes: no measure of any real model.

Loss, order, phases, weights, accumulation, clipping, the finite check and AdamW are those of the real run (`step`).
"""

from __future__ import annotations

import hashlib
import math
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from precision_lora import adapters, tokenizers
from precision_lora.batching import MicroBatch
from precision_lora.blas import use_one_numpy_thread
from precision_lora.checkpoint import Snapshot
from precision_lora.config import PROJECT, TrainConfig
from precision_lora.dataset import Encoded
from precision_lora.engine import Engine, Loaded, StepResult, TrainedTensors, mean_nll
from precision_lora.errors import UserError
from precision_lora.journal import Journal

if sys.platform != "win32":
    import resource

ORDERS = 4
FEATURES = 1 << 14
MAX_CLASSES = 4096
FALLBACK_BASE = PROJECT / "demo" / "base"
NAME_A, NAME_B = "surrogate.lora_a", "surrogate.lora_b"

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
# Elements of a tensor that AdamW takes at a time: they and their moments stay in the cache of a core.
UPDATE_CHUNK = 1 << 15

# Contexts that reach over the start of a row meet this in place of a token.
_NO_TOKEN = np.uint64(0xFFFF_FFFF)
_MIX = np.uint64(0x9E37_79B9_7F4A_7C15)  # 2^64 divided by the golden ratio: spreads neighbouring tokens


@dataclass(frozen=True)
class Model:
    """What does not change while training.

    base float (C,): frozen logits. classes int32 (V,): class of each token id; ids beyond it are of the last class.
    scale: factor of A·B. dropout: share of the inputs that is dropped in training.
    """

    base: np.ndarray
    classes: np.ndarray
    scale: float
    dropout: float


@dataclass(frozen=True)
class Batch:
    """The real positions of a micro-batch: features int64 (P, ORDERS), classes int64 (P,), weights float (P,)."""

    features: np.ndarray
    classes: np.ndarray
    weights: np.ndarray


Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class State:
    """Adapter tensors and AdamW moments by name (updated in place), and the updates so far."""

    parameters: Arrays
    first: Arrays
    second: Arrays
    updates: int


# --------------------------------------------------------------------------------------------------------------------
# The model


def make_model(data: Encoded, scale: float, dropout: float, dtype: type[np.floating[Any]] = np.float32) -> Model:
    """The frozen part, from the counts of the training targets (one added to each, so that none is impossible)."""
    targets = data.tokens[data.supervised]
    counts = np.bincount(targets)
    by_frequency = np.argsort(-counts, kind="stable")
    frequent = by_frequency[: min(MAX_CLASSES - 1, int((counts > 0).sum()))]
    classes = np.full(len(counts), len(frequent), dtype=np.int32)
    classes[frequent] = np.arange(len(frequent), dtype=np.int32)
    in_class = np.bincount(classes[targets], minlength=len(frequent) + 1) + 1.0
    return Model(np.log(in_class / in_class.sum()).astype(dtype), classes, scale, dropout)


def class_of(model: Model, tokens: np.ndarray) -> np.ndarray:
    """Class int64 of each token id, of any shape."""
    rare = len(model.base) - 1
    known = np.minimum(tokens, len(model.classes) - 1)
    return np.where(tokens < len(model.classes), model.classes[known], rare).astype(np.int64)


def features_of(tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Inputs that are set at each position: int64 (P, ORDERS), one for the n-gram of each length that ends there.

    ``tokens`` int32 (B, L); ``positions`` (P,): flat indices ``row * L + t``. A token is never looked at across rows.
    """
    length = tokens.shape[1]
    flat = tokens.reshape(-1).astype(np.uint64)
    column = positions % length
    state = np.zeros(len(positions), dtype=np.uint64)
    found = np.empty((len(positions), ORDERS), dtype=np.int64)
    for back in range(ORDERS):
        token = np.where(column >= back, flat[np.maximum(positions - back, 0)], _NO_TOKEN)
        # Arrays of uint64 wrap around without a warning, as hashing wants.
        state = (state ^ (token + np.uint64(back + 1))) * _MIX
        state ^= state >> np.uint64(29)
        found[:, back] = (state >> np.uint64(64 - FEATURES.bit_length() + 1)).astype(np.int64)
    return found


def start(model: Model, rank: int, seed: int) -> State:
    """A uniform in ±1/sqrt(FEATURES) by ``seed``, B zero, as LoRA starts; zero moments."""
    bound, dtype = 1 / math.sqrt(FEATURES), model.base.dtype
    a = np.random.default_rng(seed).uniform(-bound, bound, (FEATURES, rank)).astype(dtype)
    parameters = {NAME_A: a, NAME_B: np.zeros((rank, len(model.base)), dtype)}
    zeros = {name: np.zeros_like(p) for name, p in parameters.items()}
    return State(parameters, zeros, {name: z.copy() for name, z in zeros.items()}, 0)


def to_batch(model: Model, micro: MicroBatch, table: np.ndarray, mean_weight: float) -> Batch:
    """A micro-batch without its filling, its weights divided by w̄ (``table`` float32 (32,))."""
    weights = (table[micro.kinds] * micro.row_weights / mean_weight)[micro.valid]
    features = features_of(micro.tokens, micro.positions[micro.valid])
    return Batch(features, class_of(model, micro.targets[micro.valid]), weights.astype(model.base.dtype))


def hidden(a: np.ndarray, features: np.ndarray, kept: np.ndarray | None) -> np.ndarray:
    """x A: (P, rank). ``kept`` (P, ORDERS) multiplies the inputs where dropout is at work."""
    rows = a[features]
    if kept is not None:
        rows *= kept[:, :, None]
    return rows.sum(axis=1) * a.dtype.type(math.sqrt(FEATURES / ORDERS))


def log_probabilities(model: Model, parameters: Arrays, x_a: np.ndarray) -> np.ndarray:
    """log softmax (P, C) of base + scale · (x A) B."""
    logits = x_a @ (parameters[NAME_B] * parameters[NAME_B].dtype.type(model.scale))
    logits += model.base
    logits -= logits.max(axis=1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logits


def position_nll(model: Model, parameters: Arrays, batch: Batch) -> np.ndarray:
    """Cross-entropy (P,) of each position, without dropout."""
    log_p = log_probabilities(model, parameters, hidden(parameters[NAME_A], batch.features, None))
    return -log_p[np.arange(len(batch.classes)), batch.classes]


def gradients_of(
    model: Model, parameters: Arrays, batch: Batch, kept: np.ndarray | None = None
) -> tuple[float, float, Arrays]:
    """Σ w·ce and Σ ce over the batch, and the gradient of the first for A and B.

    ``kept`` (P, ORDERS): 0 for a dropped input, 1 / (1 − dropout) for another; None without dropout.
    """
    a, b = parameters[NAME_A], parameters[NAME_B]
    scale, norm = a.dtype.type(model.scale), a.dtype.type(math.sqrt(FEATURES / ORDERS))
    at = np.arange(len(batch.classes))
    x_a = hidden(a, batch.features, kept)
    log_p = log_probabilities(model, parameters, x_a)
    ce = -log_p[at, batch.classes]
    d_logits = np.exp(log_p, out=log_p)
    d_logits[at, batch.classes] -= 1
    d_logits *= (batch.weights * scale)[:, None]
    d_b = x_a.T @ d_logits
    d_x_a = (d_logits @ b.T) * norm
    # Positions that share an input add up in its row: sorted by input, each run of equal ones is one sum.
    flat = batch.features.reshape(-1)
    order = np.argsort(flat, kind="stable")
    rows = d_x_a[order // ORDERS]
    if kept is not None:
        rows *= kept.reshape(-1)[order, None]
    firsts = np.flatnonzero(np.diff(flat[order], prepend=-1))
    d_a = np.zeros_like(a)
    if len(firsts):
        d_a[flat[order][firsts]] = np.add.reduceat(rows, firsts, axis=0)
    weighted, plain = (float(x.sum(dtype=np.float64)) for x in (batch.weights * ce, ce))
    return weighted, plain, {NAME_A: d_a, NAME_B: d_b}


# --------------------------------------------------------------------------------------------------------------------
# One optimizer step


def take_step(
    model: Model,
    state: State,
    batches: Sequence[Batch],
    supervised_tokens: int,
    learning_rate: float,
    seed: int,
    *,
    clip: float,
    weight_decay: float,
) -> tuple[State, StepResult]:
    """Sums over the micro-batches, one division by the step's tokens, clipping, the finite check, AdamW in place."""
    rng = np.random.default_rng(seed)
    loss = nll = 0.0
    gradients: Arrays = {}
    for batch in batches:
        kept = None
        if model.dropout:
            drawn = rng.random(batch.features.shape) >= model.dropout
            kept = (drawn / (1 - model.dropout)).astype(model.base.dtype)
        weighted, plain, grads = gradients_of(model, state.parameters, batch, kept)
        loss, nll = loss + weighted, nll + plain
        gradients = {name: gradients[name] + g for name, g in grads.items()} if gradients else grads
    squares = sum(float(np.vdot(g, g)) for g in gradients.values())
    norm = math.sqrt(squares) / supervised_tokens if math.isfinite(squares) else math.nan
    result = StepResult(loss / supervised_tokens, nll / supervised_tokens, norm, supervised_tokens, applied=True)
    if not all(map(math.isfinite, (result.loss, result.nll, result.grad_norm))):
        return state, replace(result, applied=False)
    factor = (min(1.0, clip / (norm + 1e-6)) if clip > 0 else 1.0) / supervised_tokens
    updates = state.updates + 1
    for name, gradient in gradients.items():
        adamw(
            state.parameters[name],
            gradient,
            state.first[name],
            state.second[name],
            factor,
            learning_rate,
            weight_decay,
            updates,
        )
    return replace(state, updates=updates), result


def adamw(
    parameter: np.ndarray,
    gradient: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    factor: float,
    learning_rate: float,
    weight_decay: float,
    updates: int,
) -> None:
    """AdamW with bias correction on ``factor * gradient``: overwrites parameter, both moments and the gradient."""
    number = parameter.dtype.type  # Python floats would be as good; this keeps float64 out of a float32 run
    rate, correction = number(learning_rate / (1 - BETA1**updates)), number(1 / (1 - BETA2**updates))
    shrink = number(1 - learning_rate * weight_decay)
    flat = [array.reshape(-1) for array in (parameter, gradient, first, second)]
    scratch = np.empty(min(UPDATE_CHUNK, parameter.size), parameter.dtype)
    for begin in range(0, parameter.size, UPDATE_CHUNK):
        p, g, m, v = (array[begin : begin + UPDATE_CHUNK] for array in flat)
        work = scratch[: len(p)]
        g *= number(factor)
        m *= number(BETA1)
        np.multiply(g, number(1 - BETA1), out=work)
        m += work
        v *= number(BETA2)
        np.multiply(g, g, out=work)
        work *= number(1 - BETA2)
        v += work
        np.multiply(v, correction, out=work)
        np.sqrt(work, out=work)
        work += number(EPSILON)
        np.divide(m, work, out=work)
        work *= rate
        p *= shrink
        p -= work


# --------------------------------------------------------------------------------------------------------------------
# The engine


def load(settings: TrainConfig, remarks: Sequence[str]) -> Loaded:
    """The surrogate for ``settings``, with the base model's tokenizer where its folder is at hand.

    ``remarks``: why there is a simulation at all, for the person.

    Raises:
        UserError: no tokenizer to be had, or the earlier adapter named by ``--adapter-path`` cannot be one.
    """
    told = list(remarks)
    path = Path(settings.base_model).expanduser()
    tokenizer = tokenizers.load(str(path))
    if tokenizer is None:
        told.append(f"⚠️  基础模型不存在: {path}；模拟改用 {FALLBACK_BASE.relative_to(PROJECT)} 的分词器")
        path = FALLBACK_BASE
        tokenizer = tokenizers.load(str(path))
    if tokenizer is None:
        raise UserError(f"没有可用的分词器: {path}", "用 --base-model 指向一个含 tokenizer.json 的模型文件夹")
    if settings.adapter_path:
        adapters.read_adapter(Path(settings.adapter_path).expanduser(), "接着训练")
        told.append(f"⚠️  模拟不从已有的 adapter 开始，只检查了它: {settings.adapter_path}")
    digest = hashlib.sha256(b"simulation\0" + (path / "tokenizer.json").read_bytes())
    digest.update(str(tokenizer.chat_template).encode())
    return Loaded(
        path=path,
        model_type="simulation",
        digest=digest.hexdigest(),
        tokenizer=tokenizer,
        # No `lora_parameters`: other programs would take the file for a LoRA adapter and load nothing from it.
        adapter_config={
            "simulated": True,
            "fine_tune_type": "simulation",
            "rank": settings.lora_rank,
            "scale": settings.lora_scale,
            "dropout": settings.lora_dropout,
        },
        modules=("surrogate",),
        summary=f"代用模型: {ORDERS} 元语法，{FEATURES} 个输入，至多 {MAX_CLASSES} 类输出",
        parameters=settings.lora_rank * (FEATURES + MAX_CLASSES),
        versions=versions(),
        engine=lambda data, _, snapshot, journal: make_engine(settings, data, snapshot, journal),
        remarks=tuple(told),
        simulated=True,
    )


def make_engine(settings: TrainConfig, data: Encoded, snapshot: Snapshot | None, journal: Journal) -> Engine:
    """The surrogate ready to step, from ``snapshot`` where a run goes on."""
    use_one_numpy_thread()
    model = make_model(data, settings.lora_scale, settings.lora_dropout)
    journal.note(f"代用模型有 {len(model.base)} 类输出")
    state = start(model, settings.lora_rank, settings.seed)
    if snapshot is not None:
        own = [
            {name: np.array(v) for name, v in t.items()} for t in (snapshot.adapter, snapshot.first, snapshot.second)
        ]
        state = State(own[0], own[1], own[2], snapshot.state["updates"])
    every_one = np.ones(32, np.float32)

    def validate(now: State, micros: Sequence[MicroBatch]) -> dict[str, float]:
        return mean_nll(
            (position_nll(model, now.parameters, to_batch(model, m, every_one, 1.0)), m.kinds[m.valid]) for m in micros
        )

    def step(
        now: State, batches: Sequence[Batch], supervised_tokens: int, learning_rate: float, seed: int
    ) -> tuple[State, StepResult]:
        return take_step(
            model,
            now,
            batches,
            supervised_tokens,
            learning_rate,
            seed,
            clip=settings.clip_grad_norm,
            weight_decay=settings.weight_decay,
        )

    return Engine(
        state=state,
        done=0 if snapshot is None else snapshot.step,
        to_device=lambda micro, table, mean: to_batch(model, micro, table, mean),
        take_step=step,
        validate=validate,
        tensors=lambda now: TrainedTensors(now.parameters, now.first, now.second, now.updates),
        peak_memory=peak_memory,
    )


def peak_memory() -> int | None:
    """The largest resident size of this process so far, bytes; None where the system does not say (Windows)."""
    if sys.platform == "win32":
        return None
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024  # Linux counts in KiB


def versions() -> dict[str, str]:
    """Versions of what a simulated run's numbers depend on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in ("numpy", "safetensors", "tokenizers", "transformers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
