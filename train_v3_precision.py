#!/usr/bin/env python3
"""V3 precision training: LoRA on a chat model, in three phases that weigh medical precision up and keep the warmth.

Reads top to bottom: settings, data, model, the loop, the files that it leaves. `python train_v3_precision.py --help`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import math
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from precision_lora import checkpoint, config, datacheck, outputs, preview, tokenizers
from precision_lora.base_folder import read_base
from precision_lora.batching import MicroBatch, micro_batches, padding_share, plan, shapes
from precision_lora.blas import use_fast_blas
from precision_lora.config import ADAPTER_DIR, CHECKPOINT_DIR, LOG_DIR, TrainConfig
from precision_lora.dataset import Encoded, encode
from precision_lora.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_USER, UserError, run_main
from precision_lora.folders import gigabytes
from precision_lora.journal import Journal, duration
from precision_lora.phases import Phase, mean_weight, phase_at, phases_for, weight_table
from precision_lora.rows import Row, read_rows

if TYPE_CHECKING:
    from precision_lora import lora, model, step

# Steps in a row whose loss or gradient is not finite, before the run gives up.
MAX_SKIPPED_IN_A_ROW = 5
# Difference of the cut model's cross-entropy from the whole model's, in nats, that rounding explains.
SPLIT_TOLERANCE = {"mlx.core.float32": 1e-3, "mlx.core.float16": 0.05, "mlx.core.bfloat16": 0.2}
KIND_NAMES = {
    "term": "术语",
    "number": "数值",
    "diagnosis": "诊断",
    "treatment": "治疗",
    "empathy": "人情味",
    "other": "其他",
}


def main() -> int:
    settings = config.parse(sys.argv[1:])
    if settings.check_data:
        return check_data(settings)
    if settings.preview:
        return show_preview(settings)
    if importlib.util.find_spec("mlx") is None:
        raise UserError("MLX未安装", "pip install mlx mlx-lm", "或用启动脚本，它会准备好环境: ./run_v3_training.sh")
    return train(settings, use_fast_blas())


def check_data(settings: TrainConfig) -> int:
    """``--check-data``: the report, on the terminal and as JSON in logs/; exit code 2 when training cannot use the data."""
    folder = Path(settings.data).expanduser()
    tokenizer = tokenizers.load(settings.base_model)
    if tokenizer is None:
        print(f"ℹ️  没有找到基础模型的分词器（{settings.base_model}），只检查文字，不统计词元")
    report = datacheck.check_folder(
        folder,
        tokenizer,
        max_seq_length=settings.max_seq_length,
        rows_per_step=settings.batch_size * settings.grad_accumulation,
        batch_size=settings.batch_size,
        steps=settings.steps,
        precision_weight=settings.precision_weight,
        empathy_weight=settings.empathy_weight,
    )
    print(datacheck.render_report(report))
    path = settings.output / LOG_DIR / "data_check.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write_text(path, json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"检查报告不能写入: {path}（{error.strerror}）", "换一个: --output-dir 文件夹") from None
    print(f"完整报告: {path}")
    return EXIT_DONE if report["usable"] else EXIT_USER


def show_preview(settings: TrainConfig) -> int:
    """``--preview N``: rows as the trainer sees them, on the terminal alone."""
    tokenizer = tokenizers.load(settings.base_model)
    if tokenizer is None:
        raise UserError(f"没有找到基础模型的分词器: {settings.base_model}", "--base-model 指向模型文件夹，或加 --demo")
    rows = read_rows(Path(settings.data).expanduser() / "train.jsonl")[: settings.preview]
    print(
        preview.preview(
            encode(rows, tokenizer, settings.max_seq_length),
            tokenizer,
            settings.preview,
            steps=settings.steps,
            precision_weight=settings.precision_weight,
            empathy_weight=settings.empathy_weight,
            colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ,
        )
    )
    return EXIT_DONE


def train(settings: TrainConfig, blas_hint: str | None) -> int:
    """One run, from settings to files; returns the exit code."""
    # MLX comes in here and not above, because it must find the BLAS that `use_fast_blas` put in front of its own.
    import mlx.core as mx

    from precision_lora import lora, model

    group = mx.distributed.init()
    journal = Journal(silent=group.rank() != 0)
    if blas_hint and mx.default_device() == mx.cpu:
        journal.say(f"⚠️  {blas_hint}")

    # ---- Input. Whatever can be wrong with it is said before anything is written.
    train_rows = read_rows(Path(settings.data).expanduser() / "train.jsonl")
    valid_rows = read_rows(Path(settings.data).expanduser() / "valid.jsonl") if settings.val_batches else []
    base = model.load_base(settings.base_model)
    old = lora.read_adapter(Path(settings.adapter_path).expanduser()) if settings.adapter_path else None
    if old is not None:
        lora.check_fits(base.model, old, Path(str(settings.adapter_path)))
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
    if old is not None:
        lora.warm_start(base.model, old, spec)
    encode(train_rows[:1], base.tokenizer, settings.max_seq_length)  # a chat template that refuses rows shows here
    parameters = model.count(model.trainable(base.model).values())
    outputs.check_output(settings)
    outputs.check_disk(settings, parameters)

    show_plan(journal, settings, spec, parameters, len(train_rows), len(valid_rows))
    if not confirmed(settings, group.rank()):
        return EXIT_DONE

    with checkpoint.run_lock(settings.output / CHECKPOINT_DIR) if group.rank() == 0 else contextlib.nullcontext():
        if group.rank() == 0:
            outputs.prepare(settings)
        try:
            journal.open(settings.output / LOG_DIR)
            return run(settings, journal, base, spec, train_rows, valid_rows, group)
        finally:
            journal.close()


def run(
    settings: TrainConfig,
    journal: Journal,
    base: model.Base,
    spec: lora.LoraSpec,
    train_rows: Sequence[Row],
    valid_rows: Sequence[Row],
    group: Any,
) -> int:
    """The part under the lock: tokenise, restore, loop, save."""
    import mlx.core as mx

    from precision_lora import model, step

    started = time.perf_counter()
    output, rank, ranks = settings.output, group.rank(), group.size()
    folder = output / CHECKPOINT_DIR

    # ---- Data: tokens, the order of the steps, the weights of the phases.
    data = encode(train_rows, base.tokenizer, settings.max_seq_length, folder / ".tokens")
    held_out = encode(valid_rows, base.tokenizer, settings.max_seq_length, folder / ".tokens") if valid_rows else None
    if len(data.lines) == 0:
        raise UserError("训练数据里没有一条可用", "把 --max-seq-length 调大，或检查数据里的 assistant 回答")
    lengths, bounds = data.lengths, shapes(data.lengths)
    pad = base.tokenizer.pad_token_id or base.tokenizer.eos_token_id or 0
    rows_per_step = settings.batch_size * settings.grad_accumulation
    rows_per_micro = math.ceil(settings.batch_size / ranks)
    steps_per_epoch = math.ceil(len(lengths) / rows_per_step)
    phases = phases_for(settings.steps)
    tables = {p.index: weight_table(p, settings.precision_weight, settings.empathy_weight) for p in phases}
    targets = data.supervised
    means = {index: mean_weight(t, data.kinds[targets], data.weights[targets]) for index, t in tables.items()}
    validation = validation_batches(settings, held_out, pad)
    show_data(journal, settings, data, held_out, bounds, rows_per_step, rows_per_micro)

    # ---- Model: restored where a run goes on, cut before its head, the cut checked on a real row.
    digests = {"data": data_digest(data), "base": base_digest(base.path)}
    memory, state = Memory(), step.start(base.model)
    snapshot = find_snapshot(settings, journal, digests) if rank == 0 else None
    if snapshot is not None:
        memory = Memory.from_snapshot(snapshot)
        state = step.restored(snapshot.adapter, snapshot.first, snapshot.second, snapshot.state["updates"])
        model.set_trainable(base.model, state.parameters)
    state, memory.step = step.share(state, memory.step, group)
    mx.eval(base.model.parameters(), state.parameters, state.first, state.second)
    if mx.metal.is_available():
        # Weights stay resident: paging them out between steps would cost more than the step.
        mx.set_wired_limit(int(mx.device_info()["max_recommended_working_set_size"]))
    if settings.grad_checkpoint:
        model.checkpoint_layers(base.model)
    split, vocabulary = checked_split(journal, base, micro_batches(data, np.array([0]), 1, bounds, pad)[0])
    take_step = step.make_step(base.model, split, vocabulary, settings.clip_grad_norm, settings.weight_decay, group)
    validate = step.make_validation(base.model, split, vocabulary)
    record = describe_run(settings, base, spec, state, data, held_out, phases, digests)
    if rank == 0:
        outputs.write_record(output, record)

    def snapshot_now() -> checkpoint.Snapshot:
        return checkpoint.Snapshot(
            step=memory.step,
            adapter=to_numpy(state.parameters),
            adapter_config=spec.adapter_config(settings.num_layers),
            first=to_numpy(state.first),
            second=to_numpy(state.second),
            state=memory.to_json() | {"updates": state.updates, "config": settings.to_json(), **digests},
            history=memory.history,
        )

    def save() -> Path:
        """A full checkpoint of the step just done, and the same adapter where the person looks for it."""
        path = checkpoint.save(folder, f"step_{memory.step}", snapshot_now())
        checkpoint.prune(folder, settings.keep_checkpoints)
        outputs.publish(output, path, memory.history)
        journal.note(f"已保存 {path}")
        return path

    if rank == 0 and validation and memory.step == 0:
        memory.valid_before = validate(state.parameters, validation)
        journal.say(f"🔎 训练前的{describe_valid(memory.valid_before)}")
    first = min(memory.step + 1, settings.steps)
    ready = duration(time.perf_counter() - started)
    journal.say(f"🚀 开始训练: 第 {first}–{settings.steps} 步（准备用了 {ready}）")

    # ---- The loop. Step n depends on settings, data, adapter, moments and n alone: a resumed run repeats it exactly.
    stop = StopSignals()
    journal.start_bar(memory.step, settings.steps)
    begun, begun_at, epoch, order = time.perf_counter(), memory.step, -1, []
    while memory.step < settings.steps and not stop.requested:
        tick = time.perf_counter()
        index = memory.step  # from 0 here, from 1 in everything that is shown
        if index // steps_per_epoch != epoch:
            epoch = index // steps_per_epoch
            order = plan(lengths, rows_per_step, settings.seed, epoch)
        rows = order[index % steps_per_epoch]
        phase = phase_at(index, phases)
        if index in (phase.start, begun_at):
            journal.say(describe_phase(phase, settings))

        micros = micro_batches(data, rows, rows_per_micro, bounds, pad)[rank::ranks]
        batches = [step.to_device(micro, tables[phase.index], means[phase.index]) for micro in micros]
        rate = config.learning_rate(index + 1, settings)
        mx.random.seed(random_seed(settings.seed, index, rank))  # dropout
        try:
            state, result = take_step(state, batches, sum(m.supervised_tokens for m in micros), rate)
        except RuntimeError as error:
            if not looks_like_memory(error):
                raise
            raise out_of_memory(settings, save() if rank == 0 and memory.step > begun_at else None) from error
        memory.step += 1

        entry: dict[str, Any] = {
            "step": memory.step,
            "phase": phase.index,
            "loss": finite(result.loss),
            "nll": finite(result.nll),
            "lr": rate,
            "precision_weight": settings.precision_weight * phase.precision_factor,
            "empathy_weight": settings.empathy_weight * phase.empathy_factor,
            "grad_norm": finite(result.grad_norm),
            "supervised_tokens": result.supervised_tokens,
        }
        memory.skipped_in_a_row = 0 if result.applied else memory.skipped_in_a_row + 1
        if not result.applied:
            memory.skipped += 1
            entry["applied"] = False
            lines = "、".join(str(int(data.lines[row])) for row in rows)
            journal.say(f"⚠️  第 {memory.step} 步的损失或梯度不是有限的数，没有更新（train.jsonl 第 {lines} 行）")
        seconds = time.perf_counter() - tick
        last = memory.step == settings.steps
        if rank == 0 and validation and (last or memory.step % settings.eval_every == 0):
            entry["valid"] = validate(state.parameters, validation)
            journal.say(f"🔎 第 {memory.step} 步的{describe_valid(entry['valid'], memory.valid_before)}")
            if memory.best is None or entry["valid"]["loss"] < memory.best["loss"]:
                memory.best = {"step": memory.step, "loss": entry["valid"]["loss"]}
                if settings.keep_best:
                    checkpoint.save(folder, checkpoint.best_name(memory.best), snapshot_now(), adapter_only=True)
        entry["seconds"] = round(seconds, 3)
        memory.history.append(entry)

        speed = result.supervised_tokens / max(seconds, 1e-3)
        left = (time.perf_counter() - begun) / (memory.step - begun_at) * (settings.steps - memory.step)
        line = (
            f"阶段{phase.index} loss {result.loss:.4f} · {speed:.0f} token/s · 内存 {gigabytes(mx.get_peak_memory())}"
        )
        journal.step(memory.step, settings.steps, line, left)
        if memory.skipped_in_a_row == MAX_SKIPPED_IN_A_ROW:
            raise diverged(save() if rank == 0 else folder)
        if rank == 0 and (last or memory.step % settings.save_every == 0):
            save()
    if rank != 0:
        return EXIT_DONE

    # ---- What it leaves.
    if memory.step < settings.steps:
        path = save() if memory.step > begun_at else folder
        journal.say(f"\n⏸️  已停在第 {memory.step} 步，进度保存在 {path}")
        journal.say(f"   继续训练: {resume_command()}")
        return EXIT_INTERRUPTED
    chosen = folder / f"step_{settings.steps}"
    if settings.keep_best and memory.best is not None and (folder / checkpoint.best_name(memory.best)).is_dir():
        chosen = folder / checkpoint.best_name(memory.best)
    outputs.publish(output, chosen, memory.history)
    record["result"] = {
        "final_loss": memory.history[-1]["loss"],
        "adapter_step": memory.best["step"] if memory.best and chosen.name.startswith("best") else settings.steps,
        "skipped_steps": memory.skipped,
        "best": memory.best,
        "valid_before": memory.valid_before,
        "valid_after": memory.history[-1].get("valid"),
        "peak_memory_bytes": mx.get_peak_memory(),
    }
    outputs.write_record(output, record)
    outputs.write_card(output, settings, record)
    show_end(journal, settings, record, time.perf_counter() - begun)
    return EXIT_DONE


# --------------------------------------------------------------------------------------------------------------------
# State of the loop


@dataclass
class Memory:
    """What a run remembers besides tensors; all of it is in every checkpoint."""

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    best: dict[str, Any] | None = None
    valid_before: dict[str, float] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "history"}

    @classmethod
    def from_snapshot(cls, snapshot: checkpoint.Snapshot) -> Memory:
        names = [name for name in vars(cls()) if name != "history"]
        return cls(**{name: snapshot.state[name] for name in names}, history=list(snapshot.history))


class StopSignals:
    """Ctrl-C and SIGTERM ask the loop to end after the step in hand; a second one ends it at once."""

    def __init__(self) -> None:
        self.requested = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, *_: Any) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        print("\n收到停止信号，做完这一步就保存（再按一次立即退出）……", file=sys.stderr, flush=True)


def find_snapshot(settings: TrainConfig, journal: Journal, digests: dict[str, str]) -> checkpoint.Snapshot | None:
    """The checkpoint that ``--resume`` asks for, checked against today's settings, data and base.

    Raises:
        UserError: the named one is damaged, or something changed that would make it another run.
    """
    if not settings.resume:
        return None
    folder = settings.output / CHECKPOINT_DIR
    if settings.resume == config.RESUME_NEWEST:
        snapshot = checkpoint.newest_sound(folder, journal.say)
        if snapshot is None:
            journal.say(f"ℹ️  {folder} 里没有可用的检查点，从第 1 步开始")
            return None
    else:
        try:
            snapshot = checkpoint.load(Path(settings.resume).expanduser())
        except checkpoint.Damaged as error:
            raise UserError(f"检查点不能用: {error}", "用最新的完好检查点: --resume（后面不写文件夹）") from None
    changes = config.changed_settings(TrainConfig.from_json(dict(snapshot.state["config"])), settings)
    if snapshot.state["data"] != digests["data"]:
        changes.append(f"训练数据或其标注: 原来是 {snapshot.state['data'][:12]}…，现在是 {digests['data'][:12]}…")
    if snapshot.state["base"] != digests["base"]:
        changes.append(f"基础模型: 原来是 {snapshot.state['base'][:12]}…，现在是 {digests['base'][:12]}…")
    if changes:
        listed = "".join(f"\n   · {change}" for change in changes)
        raise UserError(
            f"设置与检查点不同，不能接着训练: step_{snapshot.step}{listed}",
            "用原来的设置继续；可以改的只有总步数、保存与验证的频率和输出设置",
            "或用新设置另开一次训练: --output-dir 文件夹",
        )
    if snapshot.step > settings.steps:
        raise UserError(
            f"检查点已经训练到第 {snapshot.step} 步，超过 --steps {settings.steps}", f"--steps {snapshot.step} 或更多"
        )
    journal.say(f"▶️  从检查点继续: step_{snapshot.step}")
    return snapshot


def random_seed(seed: int, index: int, rank: int) -> int:
    """Seed of one step's random numbers: a function of its arguments, so that nothing about them needs saving."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}/{rank}".encode()).digest()[:4], "big")


def to_numpy(arrays: step.Arrays) -> dict[str, np.ndarray]:
    return {name: np.array(array, copy=False) for name, array in arrays.items()}


def finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


# --------------------------------------------------------------------------------------------------------------------
# Data and model


def validation_batches(settings: TrainConfig, held_out: Encoded | None, pad: int) -> list[MicroBatch]:
    """The same batches at every validation, a random choice by seed."""
    if held_out is None or len(held_out.lines) == 0:
        return []
    chosen = plan(held_out.lengths, settings.batch_size, settings.seed, 0)
    chosen = chosen if settings.val_batches < 0 else chosen[: settings.val_batches]
    bounds = shapes(held_out.lengths)
    return [m for rows in chosen for m in micro_batches(held_out, rows, settings.batch_size, bounds, pad)]


def checked_split(journal: Journal, base: model.Base, probe: MicroBatch) -> tuple[model.SplitModel, int]:
    """The model cut before its head, if on a real row the parts compute what the whole does; its vocabulary size."""
    import mlx.core as mx

    from precision_lora import model, step

    batch = step.to_device(probe, np.ones(32, np.float32), 1.0)
    logits = base.model(batch.tokens[:, :2])
    vocabulary, tolerance = logits.shape[-1], SPLIT_TOLERANCE.get(str(logits.dtype), 1e-3)
    split = model.split(base.model)
    base.model.eval()  # dropout would tell the two passes apart
    difference = math.inf if split is None else step.split_error(base.model, split, batch, vocabulary)
    mx.clear_cache()  # once: the whole model's logits are never needed again
    if split is not None and difference <= tolerance:
        journal.note(f"只对有监督的位置算输出层，与完整模型相差 {difference:.1e}")
        return split, vocabulary
    journal.say("ℹ️  这个模型的输出层不能单独计算，改用完整的 logits（更慢，更占内存）")
    return step.whole(base.model), vocabulary


def data_digest(data: Encoded) -> str:
    """sha256 over what the training reads: tokens, targets, span kinds and weights."""
    digest = hashlib.sha256()
    for array in (data.tokens, data.supervised, data.kinds, data.weights, data.offsets):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


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


def describe_run(
    settings: TrainConfig,
    base: model.Base,
    spec: lora.LoraSpec,
    state: step.TrainState,
    data: Encoded,
    held_out: Encoded | None,
    phases: Sequence[Phase],
    digests: dict[str, str],
) -> dict[str, Any]:
    """training_config.json before there is a result."""
    from precision_lora import model

    def part(encoded: Encoded | None) -> dict[str, Any]:
        if encoded is None:
            return {"rows": 0}
        return {
            "rows": len(encoded.lines),
            "tokens": len(encoded.tokens),
            "supervised_tokens": int(encoded.supervised.sum()),
            "truncated": encoded.truncated,
            "skipped_lines": list(encoded.skipped),
        }

    return {
        "config": settings.to_json(),
        "seed": settings.seed,
        "base": {"path": str(base.path), "model_type": base.config["model_type"], "sha256": digests["base"]},
        "data": {"path": settings.data, "sha256": digests["data"], "train": part(data), "valid": part(held_out)},
        "trainable_parameters": model.count(state.parameters.values()),
        "adapted_modules": list(spec.keys),
        "warmup_steps": settings.warmup,
        "phases": [vars(phase) for phase in phases],
        "versions": model.versions(),
        "result": None,
    }


# --------------------------------------------------------------------------------------------------------------------
# Words


def show_plan(
    journal: Journal, settings: TrainConfig, spec: lora.LoraSpec, parameters: int, train_rows: int, valid_rows: int
) -> None:
    from precision_lora import lora

    journal.say("🎯 V3精准度强化训练")
    journal.say(f"   基础模型: {settings.base_model}")
    journal.say(f"   数据: {settings.data}（训练 {train_rows} 条，验证 {valid_rows} 条）")
    journal.say(
        f"   步数: {settings.steps}，批次 {settings.batch_size}"
        + (f" × 累积 {settings.grad_accumulation}" if settings.grad_accumulation > 1 else "")
        + f"，学习率 {settings.lr:g}（预热 {settings.warmup} 步，{settings.lr_schedule}）"
    )
    journal.say(f"   精准度权重: {settings.precision_weight:g}，人情味权重: {settings.empathy_weight:g}")
    journal.say(
        f"   LoRA: 秩 {spec.rank}，缩放 {spec.scale:g}，{len(spec.keys)} 个模块（{lora.describe_targets(spec.keys)}），"
        f"{parameters:,} 个参数"
    )
    for key in spec.keys:
        journal.note(f"训练 {key}")
    if settings.adapter_path:
        journal.say(f"   起点: {settings.adapter_path}")
    journal.say(
        f"   输出: {settings.output.resolve()}（检查点最多占 {gigabytes(outputs.disk_needed(settings, parameters))}）"
    )


def confirmed(settings: TrainConfig, rank: int) -> bool:
    """Ask before starting, where someone is there to answer."""
    if settings.yes or rank != 0 or not sys.stdin.isatty():
        return True
    return input("\n开始训练？[Y/n] ").strip().lower() in ("", "y", "yes", "是")


def show_data(
    journal: Journal,
    settings: TrainConfig,
    data: Encoded,
    held_out: Encoded | None,
    bounds: Sequence[int],
    rows_per_step: int,
    rows_per_micro: int,
) -> None:
    padding = padding_share(data.lengths, plan(data.lengths, rows_per_step, settings.seed, 0), rows_per_micro)
    journal.say(
        f"📚 学习 {int(data.supervised.sum()):,} 个 token（全文 {len(data.tokens):,}），"
        f"{len(bounds)} 种长度，填充 {padding:.1%}"
    )
    for name, part in (("train.jsonl", data), ("valid.jsonl", held_out)):
        if part is not None and part.truncated:
            journal.say(f"⚠️  {name}: {part.truncated} 条超过 {settings.max_seq_length} 个 token，被截短")
        if part is not None and part.skipped:
            shown = "、".join(map(str, part.skipped[:5])) + ("……" if len(part.skipped) > 5 else "")
            journal.say(f"⚠️  {name}: {len(part.skipped)} 条没有可学的回答，跳过（第 {shown} 行）")


def describe_phase(phase: Phase, settings: TrainConfig) -> str:
    focus = "、".join(KIND_NAMES[kind] for kind in phase.focus)
    return (
        f"📍 阶段{phase.index} {phase.name}（第 {phase.start + 1}–{phase.end} 步）: "
        f"精准度 {settings.precision_weight * phase.precision_factor:g}，"
        f"人情味 {settings.empathy_weight * phase.empathy_factor:g}，重点 {focus}"
    )


def describe_valid(measured: dict[str, float], before: dict[str, float] | None = None) -> str:
    def one(name: str, key: str) -> str:
        change = f"（{measured[key] - before[key]:+.3f}）" if before and key in before else ""
        return f"{name} {measured[key]:.3f}{change}"

    parts = [one(name, key) for key, name in KIND_NAMES.items() if key in measured]
    return f"验证 loss {one('', 'loss').strip()} · " + " ".join(parts)


def show_end(journal: Journal, settings: TrainConfig, record: dict[str, Any], seconds: float) -> None:
    adapter, base = settings.output / ADAPTER_DIR, record["base"]["path"]
    loss = record["result"]["final_loss"]
    journal.say(
        f"\n✅ 训练完成: {settings.steps} 步，用时 {duration(seconds)}" + (f"，最终 loss {loss:.4f}" if loss else "")
    )
    if record["result"]["skipped_steps"]:
        journal.say(f"⚠️  有 {record['result']['skipped_steps']} 步没有更新，行号在日志里")
    journal.say(f"   adapter（第 {record['result']['adapter_step']} 步）: {adapter}")
    journal.say("\n接下来:")
    prompt = '--prompt "我的血压140/90需要担心吗？" --max-tokens 300'
    journal.say(f"   试一句: mlx_lm.generate --model {shlex.quote(base)} --adapter-path {adapter} {prompt}")
    journal.say("   评估:   python evaluate_v3_model.py" + (" --demo" if settings.demo else ""))
    journal.say("   融合:   python fuse_v3_model.py" + (" --demo" if settings.demo else ""))


def resume_command() -> str:
    """The command line that goes on with this run."""
    words = [word for word in sys.argv if word != "--overwrite" and not word.startswith("--resume")]
    return shlex.join(["python", *words, "--resume"])


def looks_like_memory(error: RuntimeError) -> bool:
    return any(word in str(error).lower() for word in ("malloc", "out of memory", "allocate", "insufficient memory"))


def out_of_memory(settings: TrainConfig, saved: Path | None) -> UserError:
    kept = f"，进度保存在 {saved}" if saved else ""
    return UserError(
        f"内存不足{kept}",
        f"减小批次: --batch-size {max(1, settings.batch_size // 2)}",
        f"减小 LoRA: --lora-rank {max(8, settings.lora_rank // 2)}",
        "用时间换内存: --grad-checkpoint",
        f"截短数据: --max-seq-length {settings.max_seq_length // 2}",
    )


def diverged(saved: Path) -> UserError:
    return UserError(
        f"连续 {MAX_SKIPPED_IN_A_ROW} 步的损失或梯度不是有限的数，训练停止（状态在 {saved}）",
        "学习率太高: 把 --lr 减到十分之一，另开一次训练",
        "数据有问题: 查看日志里写出的行",
        "模型权重里有 NaN: 重新下载基础模型",
    )


if __name__ == "__main__":
    sys.exit(run_main(main))
