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
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from precision_lora import (
    checkpoint,
    config,
    datacheck,
    outputs,
    preflight,
    preview,
    simulation,
    terminal,
    tokenizers,
)
from precision_lora.base_folder import local_folder
from precision_lora.batching import MicroBatch, cut_step, micro_batches, plan, shapes
from precision_lora.blas import use_fast_blas
from precision_lora.config import CHECKPOINT_DIR, LOG_DIR, TrainConfig
from precision_lora.dataset import Encoded, encode
from precision_lora.engine import Loaded
from precision_lora.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_USER, UserError, run_main
from precision_lora.journal import Journal, duration
from precision_lora.memory import Machine, machine_of
from precision_lora.phases import Phase, mean_weight, phase_at, phases_for, weight_table
from precision_lora.rows import read_rows

# Steps in a row whose loss or gradient is not finite, before the run gives up.
MAX_SKIPPED_IN_A_ROW = 5


def main() -> int:
    settings = config.parse(sys.argv[1:])
    if settings.check_data:
        return check_data(settings)
    if settings.preview:
        return show_preview(settings)
    if settings.preflight:
        return show_preflight(settings)
    return train(settings, choose_engine(settings))


def choose_engine(settings: TrainConfig) -> Callable[[], Loaded]:
    """What loads the model: MLX, or the simulation where the person asks for it or there is no MLX.

    Raises:
        UserError: MLX is there but broken. That is never simulated over.
    """
    if settings.simulate:
        return lambda: simulation.load(settings, terminal.ASKED_FOR)
    if importlib.util.find_spec("mlx") is None:
        return lambda: simulation.load(settings, terminal.NO_MLX)
    hint = use_fast_blas()  # before MLX is imported: it may restart the process
    try:
        import mlx.core  # noqa: F401 (tried before anything of ours that needs it)
        import mlx_lm  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name == "mlx":
            return lambda: simulation.load(settings, terminal.NO_MLX)
        raise terminal.broken_mlx(error) from None
    except (ImportError, OSError, RuntimeError) as error:
        raise terminal.broken_mlx(error) from None
    from precision_lora import mlx_engine

    return lambda: mlx_engine.load(settings, hint)


def check_data(settings: TrainConfig) -> int:
    """``--check-data``: the report, on the terminal and in logs/; exit code 2 when training cannot use the data."""
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


def show_preflight(settings: TrainConfig) -> int:
    """``--preflight``: memory and disk of the run, from files alone; exit code 2 when it will not fit."""
    rows = read_rows(Path(settings.data).expanduser() / "train.jsonl")
    base = local_folder(settings.base_model)
    sizes = preflight.row_sizes(rows, tokenizers.load(str(base)), settings)
    seen = preflight.look(settings, base, sizes, this_machine())
    print(preflight.render(seen))
    outputs.check_disk(settings, seen.parameters)
    warnings = preflight.check(seen)
    print("\n".join([f"⚠️  {line}" for line in warnings[:1]] + warnings[1:]) if warnings else "✅ 放得下")
    return EXIT_DONE


def this_machine() -> Machine:
    """Where MLX would compute, and how much memory it has for that."""
    if importlib.util.find_spec("mlx") is None:
        return machine_of("metal" if sys.platform == "darwin" else "cpu")
    import mlx.core as mx

    if mx.default_device() == mx.cpu:
        return machine_of("cpu")
    name = "max_recommended_working_set_size" if mx.metal.is_available() else "free_memory"
    size = mx.device_info().get(name)
    return machine_of("metal" if mx.metal.is_available() else "cuda", None if size is None else int(size))


def choose_report(settings: TrainConfig, loaded: Loaded) -> Callable[[Journal], Callable[[Mapping[str, Any]], object]]:
    """What ``--report-to`` asks for, begun once there is a journal; only the first machine of a real run reports.

    Raises:
        UserError: a package that it needs is not installed.
    """
    if not settings.report_to or loaded.simulated or loaded.rank != 0:
        return lambda _: lambda _: None
    from precision_lora import reporting

    return reporting.prepare(settings)


def train(settings: TrainConfig, load: Callable[[], Loaded]) -> int:
    """One run, from settings to files; returns the exit code."""
    # ---- Input. Whatever can be wrong with it is said before anything is written.
    train_rows = read_rows(Path(settings.data).expanduser() / "train.jsonl")
    valid_rows = read_rows(Path(settings.data).expanduser() / "valid.jsonl") if settings.val_batches else []
    loaded = load()
    # A chat template that refuses rows, and data without a usable one, show here.
    sizes = preflight.row_sizes(train_rows, loaded.tokenizer, settings)
    outputs.check_output(settings, loaded.simulated)
    outputs.check_disk(settings, loaded.parameters)
    seen = look_ahead(settings, loaded, sizes)
    warnings = preflight.check(seen) if seen else []
    start_report = choose_report(settings, loaded)

    journal = Journal(silent=loaded.rank != 0)
    terminal.show_plan(journal, settings, loaded, len(train_rows), len(valid_rows))
    terminal.show_memory(journal, seen, warnings)
    if not terminal.confirmed(settings, loaded.rank):
        return EXIT_INTERRUPTED  # the launcher goes on after a run that was done

    folder = settings.output / CHECKPOINT_DIR
    with checkpoint.run_lock(folder) if loaded.rank == 0 else contextlib.nullcontext():
        # Every row is read before `prepare` may delete an earlier run.
        data = encode(train_rows, loaded.tokenizer, settings.max_seq_length, folder / ".tokens")
        held_out = None
        if valid_rows:
            held_out = encode(valid_rows, loaded.tokenizer, settings.max_seq_length, folder / ".tokens")
        try:
            journal.open(settings.output / LOG_DIR)
            report = start_report(journal)  # may be refused: nothing of an earlier run is gone by then
            if loaded.rank == 0:
                outputs.prepare(settings, loaded.simulated)
            return run(settings, journal, loaded, data, held_out, report, seen)
        except (RuntimeError, MemoryError) as error:
            if not terminal.looks_like_memory(error):
                raise
            raise preflight.out_of_memory(seen, next(reversed(checkpoint.checkpoints(folder)), None)) from error
        finally:
            journal.close()


def look_ahead(settings: TrainConfig, loaded: Loaded, sizes: preflight.RowSizes) -> preflight.Preflight | None:
    """The estimate of a real run; None for a simulation, and for a model of a kind that cannot be estimated."""
    if loaded.simulated:
        return None
    try:
        return preflight.look(settings, loaded.path, sizes, this_machine(), loaded.ranks)
    except UserError:  # the model is loaded: what it is made of is no longer in question
        return None


def run(
    settings: TrainConfig,
    journal: Journal,
    loaded: Loaded,
    data: Encoded,
    held_out: Encoded | None,
    report: Callable[[Mapping[str, Any]], object],
    seen: preflight.Preflight | None,
) -> int:
    """The part under the lock: restore, loop, save."""
    started = time.perf_counter()
    output, rank, ranks = settings.output, loaded.rank, loaded.ranks
    folder = output / CHECKPOINT_DIR

    # ---- Data: the order of the steps, the weights of the phases.
    lengths, bounds = data.lengths, shapes(data.lengths)
    pad = loaded.tokenizer.pad_token_id or loaded.tokenizer.eos_token_id or 0
    rows_per_step = settings.batch_size * settings.grad_accumulation
    rows_per_micro = math.ceil(settings.batch_size / ranks)
    steps_per_epoch = math.ceil(len(lengths) / rows_per_step)
    phases = phases_for(settings.steps)
    tables = {p.index: weight_table(p, settings.precision_weight, settings.empathy_weight) for p in phases}
    targets = data.supervised
    means = {index: mean_weight(t, data.kinds[targets], data.weights[targets]) for index, t in tables.items()}
    validation = validation_batches(settings, loaded, held_out, pad)
    terminal.show_data(journal, settings, data, held_out, bounds, rows_per_step, rows_per_micro, loaded.max_tokens)

    # ---- Model: restored where a run goes on.
    digests = {"data": data_digest(data), "base": loaded.digest}
    snapshot = find_snapshot(settings, journal, digests, loaded.simulated) if rank == 0 else None
    memory = Memory() if snapshot is None else Memory.from_snapshot(snapshot)
    if settings.keep_best and memory.best and not (folder / checkpoint.best_name(memory.best)).is_dir():
        memory.best = None  # asked for only now: the best step so far was not kept
    probe = micro_batches(data, np.array([0]), 1, bounds, pad)[0]
    engine = loaded.engine(data, probe, snapshot, journal)
    state, memory.step = engine.state, engine.done
    record = describe_run(settings, loaded, data, held_out, phases, digests)
    if rank == 0:
        outputs.write_record(output, record)

    def snapshot_now() -> checkpoint.Snapshot:
        tensors = engine.tensors(state)
        return checkpoint.Snapshot(
            step=memory.step,
            adapter=tensors.adapter,
            adapter_config=loaded.adapter_config,
            first=tensors.first,
            second=tensors.second,
            state=memory.to_json() | {"updates": tensors.updates, "config": settings.to_json(), **digests},
            history=memory.history,
            simulated=loaded.simulated,
        )

    def save() -> Path:
        """A full checkpoint of the step just done, and the same adapter where the person looks for it."""
        path = checkpoint.save(folder, f"step_{memory.step}", snapshot_now())
        checkpoint.prune(folder, settings.keep_checkpoints)
        outputs.publish(output, path, memory.history)
        journal.note(f"已保存 {path}")
        return path

    def draw() -> None:
        complaint = outputs.draw_curves(output, memory.history, settings.steps, memory.valid_before, loaded.simulated)
        if complaint:
            journal.warn(complaint)

    if rank == 0 and validation and memory.step == 0:
        memory.valid_before = engine.validate(state, validation)
        if not all_finite(memory.valid_before):
            raise terminal.base_not_finite()
        terminal.show_valid(journal, "训练前", memory.valid_before)
    first = min(memory.step + 1, settings.steps)
    ready = duration(time.perf_counter() - started)
    journal.say(f"🚀 开始训练: 第 {first}–{settings.steps} 步（准备用了 {ready}）")

    # ---- The loop. Step n depends on settings, data, adapter, moments and n alone: a resumed run repeats it exactly.
    stop = StopSignals(ranks)
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
            terminal.show_phase(journal, phase, settings)

        micros = cut_step(data, rows, rows_per_micro, bounds, pad, max_tokens=loaded.max_tokens, rank=rank, ranks=ranks)
        batches = [engine.to_device(micro, tables[phase.index], means[phase.index]) for micro in micros]
        rate = config.learning_rate(index + 1, settings)
        supervised = sum(m.supervised_tokens for m in micros)
        try:
            state, result = engine.take_step(state, batches, supervised, rate, random_seed(settings.seed, index, rank))
        except (RuntimeError, MemoryError) as error:
            if not terminal.looks_like_memory(error):
                raise
            raise preflight.out_of_memory(seen, save() if rank == 0 and memory.step > begun_at else None) from error
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
            **loaded.marks,
        }
        memory.skipped_in_a_row = 0 if result.applied else memory.skipped_in_a_row + 1
        if not result.applied:
            memory.skipped += 1
            entry["applied"] = False
            lines = "、".join(str(int(data.lines[row])) for row in rows)
            journal.warn(f"第 {memory.step} 步的损失或梯度不是有限的数，没有更新（train.jsonl 第 {lines} 行）")
        seconds = time.perf_counter() - tick
        last = memory.step == settings.steps
        if rank == 0 and validation and (last or memory.step % settings.eval_every == 0):
            valid = engine.validate(state, validation)
            terminal.show_valid(journal, f"第 {memory.step} 步", valid, memory.valid_before)
            if all_finite(valid):
                entry["valid"] = valid
            else:
                journal.warn(f"第 {memory.step} 步的验证损失不是有限的数，没有记下")
            if all_finite(valid) and (memory.best is None or valid["loss"] < memory.best["loss"]):
                memory.best = {"step": memory.step, "loss": entry["valid"]["loss"]}
                if settings.keep_best:
                    checkpoint.save(folder, checkpoint.best_name(memory.best), snapshot_now(), adapter_only=True)
        entry["seconds"] = round(seconds, 3)
        memory.history.append(entry)
        report(entry)

        speed = result.supervised_tokens / max(seconds, 1e-3)
        left = (time.perf_counter() - begun) / (memory.step - begun_at) * (settings.steps - memory.step)
        fields = terminal.live_fields(phase, result.loss, speed, engine.peak_memory())
        journal.step(memory.step, settings.steps, fields, left)
        if rank == 0 and "valid" in entry and not last:
            draw()
        if memory.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise terminal.diverged(MAX_SKIPPED_IN_A_ROW, save() if rank == 0 else folder)
        if rank == 0 and (last or memory.step % settings.save_every == 0):
            save()
    if rank != 0:
        return EXIT_DONE

    # ---- What it leaves.
    journal.end_bar()
    if memory.step < settings.steps:
        terminal.show_stopped(journal, memory.step, save() if memory.step > begun_at else folder)
        return EXIT_INTERRUPTED
    draw()
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
        "peak_memory_bytes": engine.peak_memory(),
    }
    outputs.write_record(output, record)
    outputs.write_card(output, settings, record)
    terminal.show_end(journal, settings, loaded, record, time.perf_counter() - begun)
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
    """Ctrl-C and SIGTERM ask the loop to end after the step in hand; a second one ends it at once.

    With several ranks they end the process at once: one that waits in an exchange for a rank that is gone never comes
    to the end of its step, and `mlx.launch` has to be able to end it.
    """

    def __init__(self, ranks: int) -> None:
        self.requested = False
        if ranks > 1:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, *_: Any) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        print("\n收到停止信号，做完这一步就保存（再按一次立即退出）……", file=sys.stderr, flush=True)


def find_snapshot(
    settings: TrainConfig, journal: Journal, digests: dict[str, str], simulated: bool
) -> checkpoint.Snapshot | None:
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
    if snapshot.simulated != simulated:
        raise UserError(
            f"检查点 step_{snapshot.step} 来自{'模拟' if snapshot.simulated else '真正的'}训练，"
            f"不能用{'模拟' if simulated else '真正的训练'}接着做",
            "另开一次: 加 --output-dir 文件夹",
            *(["模拟的结果不再需要时，删除它重新开始: 把 --resume 换成 --overwrite"] if snapshot.simulated else []),
        )
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


def all_finite(measured: Mapping[str, float]) -> bool:
    return all(map(math.isfinite, measured.values()))


def finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


# --------------------------------------------------------------------------------------------------------------------
# Data and model


def validation_batches(settings: TrainConfig, loaded: Loaded, held_out: Encoded | None, pad: int) -> list[MicroBatch]:
    """The same batches at every validation, a random choice by seed."""
    if held_out is None or len(held_out.lines) == 0:
        return []
    chosen = plan(held_out.lengths, settings.batch_size, settings.seed, 0)
    chosen = chosen if settings.val_batches < 0 else chosen[: settings.val_batches]
    bounds = shapes(held_out.lengths)
    size = math.ceil(settings.batch_size / loaded.ranks)
    return [m for rows in chosen for m in cut_step(held_out, rows, size, bounds, pad, max_tokens=loaded.max_tokens)]


def data_digest(data: Encoded) -> str:
    """sha256 over what the training reads: tokens, targets, span kinds and weights."""
    digest = hashlib.sha256()
    for array in (data.tokens, data.supervised, data.kinds, data.weights, data.offsets):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def describe_run(
    settings: TrainConfig,
    loaded: Loaded,
    data: Encoded,
    held_out: Encoded | None,
    phases: Sequence[Phase],
    digests: dict[str, str],
) -> dict[str, Any]:
    """training_config.json before there is a result."""

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
        **loaded.marks,
        "config": settings.to_json(),
        "seed": settings.seed,
        "base": {"path": str(loaded.path), "model_type": loaded.model_type, "sha256": digests["base"]},
        "data": {"path": settings.data, "sha256": digests["data"], "train": part(data), "valid": part(held_out)},
        "trainable_parameters": loaded.parameters,
        "adapted_modules": list(loaded.modules),
        "warmup_steps": settings.warmup,
        "phases": [vars(phase) for phase in phases],
        "versions": loaded.versions,
        "result": None,
    }


if __name__ == "__main__":
    sys.exit(run_main(main))
