"""The engine that really trains: a base model in MLX with LoRA attached, behind what the loop knows (`engine`)."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from precision_lora import adapters, cpu_kernels, lora, model, step
from precision_lora.base_folder import read_base
from precision_lora.batching import MicroBatch
from precision_lora.checkpoint import Snapshot
from precision_lora.config import TrainConfig
from precision_lora.engine import Engine, Loaded, StepResult, TrainedTensors
from precision_lora.journal import Journal
from precision_lora.memory import CPU_MAX_TOKENS

# Difference of the cut model's cross-entropy from the whole model's, in nats, that rounding explains.
SPLIT_TOLERANCE = {"mlx.core.float32": 1e-3, "mlx.core.float16": 0.05, "mlx.core.bfloat16": 0.2}


def load(settings: TrainConfig, blas_hint: str | None) -> Loaded:
    """The base model with LoRA attached, nothing written yet.

    Raises:
        UserError: no such model, no layer to train, or an earlier adapter that does not fit.
    """
    group = mx.distributed.init()
    base = model.load_base(settings.base_model)
    old = {}
    if settings.adapter_path:
        adapter = adapters.read_adapter(Path(settings.adapter_path).expanduser(), "接着训练")
        old = lora.matching_layers(base.model, adapter)
    spec = lora.plan_lora(
        base.model,
        settings.lora_rank,
        settings.lora_scale,
        settings.lora_dropout,
        settings.lora_targets,
        settings.num_layers,
        old,
    )
    lora.attach_lora(base.model, spec, settings.seed)
    if old:
        lora.warm_start(base.model, old, spec)
    parameters = model.count(model.trainable(base.model).values())
    return Loaded(
        path=base.path,
        model_type=base.config["model_type"],
        digest=base_digest(base.path),
        tokenizer=base.tokenizer,
        adapter_config=spec.adapter_config(settings.num_layers),
        modules=spec.keys,
        summary=f"LoRA: 秩 {spec.rank}，缩放 {spec.scale:g}，{parameters:,} 个参数，{lora.describe_targets(spec.keys)}",
        parameters=parameters,
        versions=model.versions(),
        engine=lambda _, probe, snapshot, journal: make_engine(settings, base, probe, snapshot, journal, group),
        max_tokens=CPU_MAX_TOKENS if mx.default_device() == mx.cpu else None,
        remarks=remarks(blas_hint) if mx.default_device() == mx.cpu else (),
        rank=group.rank(),
        ranks=group.size(),
    )


def remarks(blas_hint: str | None) -> tuple[str, ...]:
    """What the person should know of a run on the CPU."""
    found = [f"⚠️  {blas_hint}"] if blas_hint else []
    # Where MLX keeps what it has compiled.
    if shutil.which("g++") and not Path(tempfile.gettempdir(), "mlx", version("mlx"), "cpu").exists():
        found.append("ℹ️  这台电脑上的第一次运行: MLX 要先编译它的 CPU 运算，第一步约需一分钟")
    return tuple(found)


def make_engine(
    settings: TrainConfig,
    base: model.Base,
    probe: MicroBatch,
    snapshot: Snapshot | None,
    journal: Journal,
    group: mx.distributed.Group,
) -> Engine:
    """The model ready to step: restored where a run goes on, cut before its head, the cut checked on a real row."""
    state, done, dropout = step.start(base.model), 0, settings.lora_dropout > 0
    if snapshot is not None:
        state = step.restored(snapshot.adapter, snapshot.first, snapshot.second, snapshot.state["updates"])
        done = snapshot.step
        model.set_trainable(base.model, state.parameters)
    state, done = step.share(state, done, group)
    mx.eval(base.model.parameters(), state.parameters, state.first, state.second)
    if mx.metal.is_available():
        # Weights stay resident: paging them out between steps would cost more than the step.
        mx.set_wired_limit(int(mx.device_info()["max_recommended_working_set_size"]))
    if settings.grad_checkpoint:
        model.checkpoint_layers(base.model, dropout)
    split, vocabulary = checked_split(journal, base, probe)
    plain_step = step.make_step(
        base.model, split, vocabulary, settings.clip_grad_norm, settings.weight_decay, group, dropout
    )
    measure = step.make_validation(base.model, split, vocabulary)

    def take_step(
        now: step.TrainState, batches: Sequence[step.Batch], supervised_tokens: int, learning_rate: float, seed: int
    ) -> tuple[step.TrainState, StepResult]:
        mx.random.seed(seed)  # dropout
        return plain_step(now, batches, supervised_tokens, learning_rate)

    return Engine(
        state=state,
        done=done,
        to_device=step.to_device,
        take_step=take_step,
        validate=lambda now, micros: measure(now.parameters, micros),
        tensors=lambda now: TrainedTensors(
            to_numpy(now.parameters), to_numpy(now.first), to_numpy(now.second), now.updates
        ),
        peak_memory=mx.get_peak_memory,
    )


def checked_split(journal: Journal, base: model.Base, probe: MicroBatch) -> tuple[model.SplitModel, int]:
    """The model cut before its head, on a CPU with faster kernels, if on a real row that computes what it should.

    Returns the cut model (the whole one where a cut differs) and its vocabulary size.
    """
    batch = step.to_device(probe, np.ones(32, np.float32), 1.0)
    base.model.eval()  # dropout would tell the passes apart
    logits = base.model(batch.tokens[:, :2])
    vocabulary, tolerance = logits.shape[-1], SPLIT_TOLERANCE.get(str(logits.dtype), 1e-3)
    truth = step.supervised_nll(step.whole(base.model), batch, vocabulary)
    mx.clear_cache()  # once: the whole model's logits are not needed again

    def differs(split: model.SplitModel) -> bool:
        difference = step.number(mx.abs(step.supervised_nll(split, batch, vocabulary) - truth).max())
        journal.note(f"与完整模型的交叉熵最多相差 {difference:.1e}")
        return not difference <= tolerance  # NaN differs

    split = model.split(base.model)
    if split is None or differs(split):
        journal.say("ℹ️  这个模型的输出层不能单独计算，改用完整的 logits（更慢，更占内存）")
        split = step.whole(base.model)
    if mx.default_device() == mx.cpu:
        undo = cpu_kernels.install(base.model)
        if differs(split):
            undo()
            journal.say("ℹ️  这个模型不适合 CPU 加速，改用 MLX 自带的运算（更慢）")
    return split, vocabulary


def base_digest(path: Path) -> str:
    """sha256 over the base's settings, tensor names, shapes and places, and a sample of each shard's bytes."""
    base, digest = read_base(path), hashlib.sha256()
    digest.update((path / "config.json").read_bytes())
    for name in sorted(base.shards):
        file = path / name
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        with open(file, "rb") as reader:
            digest.update(reader.read(1 << 20))
            reader.seek(file.stat().st_size // 2)
            digest.update(reader.read(1 << 16))
    return digest.hexdigest()


def to_numpy(arrays: Mapping[str, mx.array]) -> dict[str, Any]:
    return {name: np.array(array, copy=False) for name, array in arrays.items()}
