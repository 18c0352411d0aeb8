#!/usr/bin/env python3
"""Speed and memory of a training step: this trainer beside mlx-lm's, the same model, rows, adapter and batch.

    python benchmarks/train_vs_mlx_lm.py --model demo/base --rank 64 --batch 8

Both sides start from one adapter with random A and B, in float32, with OpenBLAS where there is one. mlx-lm trains
through its own ``tuner.trainer.train`` (compiled step, ``mask_prompt``, its datasets), this trainer through the engine
that the script drives. They take turns, each in a process of its own. A round is one pass over the same rows for
either, so both have the same supervised tokens, and seconds are those of the steps alone. A first pass does not count:
both sides compile their step for each shape, and a run of thousands of steps meets each shape many times. mlx-lm reads
quantised weights slowly on a CPU: a quantised model is handed to it as a float32 copy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from precision_lora import tokenizers  # noqa: E402
from precision_lora.batching import MicroBatch, micro_batches, plan, rows_at_a_time, shapes  # noqa: E402
from precision_lora.blas import fast_environment, find_openblas  # noqa: E402
from precision_lora.config import TrainConfig  # noqa: E402
from precision_lora.dataset import Encoded, encode  # noqa: E402
from precision_lora.journal import Journal  # noqa: E402
from precision_lora.rows import read_rows  # noqa: E402

MAX_TOKENS = 2048
SCALE = 2.0
LEARNING_RATE = 1e-5
LOSS_TOLERANCE = 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=PROJECT / "demo" / "base", help="MLX model folder")
    parser.add_argument("--data", type=Path, default=PROJECT / "data_mlx" / "train.jsonl")
    parser.add_argument("--rows", type=int, default=400, help="rows of the data set that the steps are taken from")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rank", type=int, default=128)
    parser.add_argument("--targets", choices=("attention", "all-linear"), default="attention")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--work-dir", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        measured = SIDES[args.side](args)
        (args.work_dir / "result.json").write_text(json.dumps(measured))
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(args, Path(folder))


def compare(args: argparse.Namespace, folder: Path) -> None:
    """Run both sides in turn and print what they measured."""
    config = json.loads((args.model / "config.json").read_text())
    theirs_model = args.model
    if "quantization" in config:
        theirs_model = folder / "float32"
        options = ["--hf-path", str(args.model), "--mlx-path", str(theirs_model), "-d", "--dtype", "float32"]
        subprocess.run([sys.executable, "-m", "mlx_lm", "convert", *options], check=True, stdout=subprocess.DEVNULL)
        print("mlx-lm gets a dequantised float32 copy of this model; this trainer makes its own in memory")
    choose_rows(args, folder)
    child(args, folder, "adapter", args.model)
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "mlx-lm": []}
    for number in range(args.rounds):
        for side in ("mlx-lm", "ours") if number % 2 == 0 else ("ours", "mlx-lm"):
            runs[side].append(child(args, folder, side, theirs_model if side == "mlx-lm" else args.model))
    report(args, runs)


def choose_rows(args: argparse.Namespace, folder: Path) -> None:
    """The timed rows, in the order of the file, and how this trainer's plan for all rows groups and pads them.

    Only rows with one answer: of several, mlx-lm's ``mask_prompt`` trains the last alone.
    """
    lines = args.data.read_text(encoding="utf-8").splitlines()
    single = [x for x in lines if sum(m["role"] == "assistant" for m in json.loads(x)["messages"]) == 1]
    count = min(args.rows, len(single))
    pool = [single[i * len(single) // count] for i in range(count)]
    path = folder / "train.jsonl"
    path.write_text("\n".join(pool) + "\n", encoding="utf-8")
    lengths = encoded_rows(path, args.model).lengths
    whole = [step for step in plan(lengths, args.batch, 0, 0) if len(step) == args.batch][: args.steps]
    if len(whole) < args.steps:
        raise SystemExit(f"{args.steps} steps of {args.batch} rows do not come out of {count} rows")
    timed = np.sort(np.concatenate(whole))
    path.write_text("\n".join(pool[row] for row in timed) + "\n", encoding="utf-8")
    steps = [np.searchsorted(timed, step).tolist() for step in whole]
    (folder / "plan.json").write_text(json.dumps({"shapes": shapes(lengths), "steps": steps}))


def child(args: argparse.Namespace, folder: Path, side: str, model: Path) -> dict[str, Any]:
    environment = dict(os.environ)
    library = find_openblas()
    if library is not None:
        # mlx-lm alone would compute with the reference BLAS; it is lent ours, but not our allocator settings.
        environment = fast_environment(library) if side == "ours" else {**os.environ, "LD_PRELOAD": str(library)}
    command = [sys.executable, __file__, "--side", side, "--work-dir", str(folder), "--model", str(model)]
    for name in ("batch", "rank", "targets"):
        command += [f"--{name}", str(getattr(args, name))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{side} failed ({done.returncode}):\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    measured: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return measured


def report(args: argparse.Namespace, runs: dict[str, list[dict[str, Any]]]) -> None:
    print(
        f"\n{args.model.name}: {args.steps} steps, rank {args.rank} ({args.targets}), batch {args.batch}, float32, ",
        end="",
    )
    print(f"{args.rounds} rounds; {platform.machine()}, {os.cpu_count()} cores\n")
    print("| | supervised tokens/s (rounds) | peak MLX, MB | peak resident, MB | padding |\n|---|---|---|---|---|")
    speed, peak, resident = {}, {}, {}
    for side, results in runs.items():
        speeds = [r["supervised"] / r["seconds"] for r in results]
        speed[side] = statistics.median(speeds)
        peak[side] = statistics.median(r["peak"] for r in results) / 1e6
        resident[side] = statistics.median(r["resident"] for r in results) / 1e6
        listed = ", ".join(f"{s:.1f}" for s in speeds)
        padding = results[0]["padding"]
        print(f"| {side} | {speed[side]:.1f} ({listed}) | {peak[side]:.0f} | {resident[side]:.0f} | {padding:.1%} |")
    ratios = [
        (t["seconds"] / t["supervised"]) / (o["seconds"] / o["supervised"])
        for o, t in zip(runs["ours"], runs["mlx-lm"], strict=True)
    ]
    print(f"\nspeed, ours / mlx-lm: {statistics.median(ratios):.2f} (rounds {', '.join(f'{r:.2f}' for r in ratios)})")
    print(f"peak MLX memory, ours / mlx-lm: {peak['ours'] / peak['mlx-lm']:.2f}")
    print(f"peak resident size, ours / mlx-lm: {resident['ours'] / resident['mlx-lm']:.2f}")
    difference = abs(runs["ours"][0]["loss"] - runs["mlx-lm"][0]["loss"])
    print(f"loss on one identical batch: {runs['ours'][0]['loss']:.5f} and {runs['mlx-lm'][0]['loss']:.5f}")
    if not difference <= LOSS_TOLERANCE:
        raise SystemExit(f"the losses differ by {difference:.2g}, more than {LOSS_TOLERANCE:g}")


# --------------------------------------------------------------------------------------------------------------------
# The sides, each in a process of its own


def make_adapter(args: argparse.Namespace) -> dict[str, Any]:
    """The adapter that both start from: A as this trainer draws it, B random, so that the adapter has a part in it."""
    import mlx.core as mx

    from precision_lora import lora, model

    base = model.load_base(str(args.model))
    spec = lora.LoraSpec(args.rank, SCALE, 0.0, lora.target_modules(base.model, args.targets, -1))
    lora.attach_lora(base.model, spec, seed=1)
    mx.random.seed(1)
    arrays = {
        name: mx.random.normal(array.shape, scale=0.01) if name.endswith("lora_b") else array
        for name, array in model.trainable(base.model).items()
    }
    folder = args.work_dir / "adapter"
    folder.mkdir()
    mx.save_safetensors(str(folder / "adapters.safetensors"), arrays)
    (folder / "adapter_config.json").write_text(json.dumps(spec.adapter_config(-1)))
    return {}


def encoded_rows(path: Path, model: Path) -> Encoded:
    return encode(read_rows(path), tokenizers.load(str(model)), MAX_TOKENS)


def resident_bytes(whose: int = resource.RUSAGE_SELF) -> int:
    """Largest resident size of this process, or of its children, so far; Linux counts kilobytes, macOS bytes."""
    return resource.getrusage(whose).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run_ours(args: argparse.Namespace) -> dict[str, Any]:
    """This trainer's engine over the rows, with weights of 1."""
    import mlx.core as mx

    from precision_lora import mlx_engine

    settings = TrainConfig(
        base_model=str(args.model),
        adapter_path=str(args.work_dir / "adapter"),
        batch_size=args.batch,
        lora_rank=args.rank,
        lora_scale=SCALE,
        lora_targets=args.targets,
    )
    loaded = mlx_engine.load(settings, None)
    data, pad = (
        encoded_rows(args.work_dir / "train.jsonl", args.model),
        loaded.tokenizer.pad_token_id or loaded.tokenizer.eos_token_id or 0,
    )
    planned = json.loads((args.work_dir / "plan.json").read_text())
    bounds, ones = planned["shapes"], np.ones(32, np.float32)
    engine = loaded.engine(data, micro_batches(data, np.array([0]), 1, bounds, pad)[0], None, Journal())
    state = engine.state

    def cut(rows: np.ndarray) -> list[MicroBatch]:
        at_a_time = rows_at_a_time(args.batch, int(data.lengths[rows].max()), bounds, loaded.max_tokens)
        return micro_batches(data, rows, at_a_time, bounds, pad)

    def take(rows: np.ndarray) -> tuple[float, float]:
        """Loss and seconds of a step."""
        nonlocal state
        micros = cut(rows)
        begun = time.perf_counter()
        batches = [engine.to_device(micro, ones, 1.0) for micro in micros]
        supervised = sum(m.supervised_tokens for m in micros)
        state, result = engine.take_step(state, batches, supervised, LEARNING_RATE, 0)
        mx.eval(state.parameters, state.first, state.second)
        return result.loss, time.perf_counter() - begun

    loss, _ = take(np.arange(args.batch))
    steps = [np.array(rows) for rows in planned["steps"]]
    for rows in steps:
        take(rows)
    seconds = sum(take(rows)[1] for rows in steps)
    computed = sum(m.tokens.size for rows in steps for m in cut(rows))
    return {
        "seconds": seconds,
        "supervised": int(data.supervised.sum()),
        "padding": 1 - len(data.tokens) / computed,
        "loss": loss,
        "peak": engine.peak_memory(),
        "resident": resident_bytes(),
    }


def run_mlx_lm(args: argparse.Namespace) -> dict[str, Any]:
    """mlx-lm's trainer over the rows, set up as ``mlx_lm.lora --resume-adapter-file --mask-prompt`` does."""
    import mlx.core as mx
    import mlx.optimizers as optim
    from mlx_lm.tuner import trainer
    from mlx_lm.tuner.callbacks import TrainingCallback
    from mlx_lm.tuner.datasets import CacheDataset, ChatDataset
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import load

    loaded: Any = load(str(args.model))
    model, tokenizer = loaded[:2]
    model.freeze()
    adapter = args.work_dir / "adapter"
    wanted = json.loads((adapter / "adapter_config.json").read_text())
    linear_to_lora_layers(model, wanted["num_layers"], wanted["lora_parameters"])
    model.load_weights(str(adapter / "adapters.safetensors"), strict=False)

    data = encoded_rows(args.work_dir / "train.jsonl", args.model)
    loss = float(trainer.default_loss(model, *first_batch(data, args.batch))[0].item())
    mx.reset_peak_memory()

    messages = [json.loads(line) for line in (args.work_dir / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    dataset = CacheDataset(ChatDataset(messages, tokenizer, mask_prompt=True))
    computed, times = [], []

    def batches(**options: Any) -> Iterator[tuple[mx.array, mx.array]]:
        """mlx-lm's own batches: one pass to warm up, and the one that counts."""
        yield from trainer.iterate_batches(**options | {"loop": False})
        for tokens, lengths in trainer.iterate_batches(**options | {"loop": False}):
            computed.append(tokens.shape[0] * (tokens.shape[1] - 1))
            yield tokens, lengths

    class Clock(TrainingCallback):
        def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
            times.append(1 / train_info["iterations_per_second"])

    warmup = len(messages) // args.batch
    iterations = 2 * warmup
    options = trainer.TrainingArgs(
        batch_size=args.batch,
        iters=iterations,
        steps_per_report=1,
        steps_per_save=iterations + 1,
        max_seq_length=MAX_TOKENS,
        adapter_file=str(args.work_dir / "trained.safetensors"),
    )
    optimizer = optim.AdamW(learning_rate=LEARNING_RATE, weight_decay=0.01)
    trainer.train(model, optimizer, dataset, None, options, iterate_batches=batches, training_callback=Clock())
    return {
        "seconds": sum(times[warmup:]),
        "supervised": int(data.supervised.sum()),
        "padding": 1 - len(data.tokens) / sum(computed),
        "loss": loss,
        "peak": mx.get_peak_memory(),
        "resident": resident_bytes(),
    }


def first_batch(data: Encoded, size: int) -> tuple[Any, Any]:
    """The first rows as mlx-lm's loss takes them: tokens (B, L), and of each row its first and last target."""
    import mlx.core as mx

    tokens = np.zeros((size, int(data.lengths[:size].max())), np.int32)
    ranges = []
    for row in range(size):
        first, end = int(data.offsets[row]), int(data.offsets[row + 1])
        tokens[row, : end - first] = data.tokens[first:end]
        at = np.flatnonzero(data.supervised[first:end])
        ranges.append((int(at[0]), int(at[-1])))
    return mx.array(tokens), mx.array(ranges)


SIDES = {"adapter": make_adapter, "ours": run_ours, "mlx-lm": run_mlx_lm}

if __name__ == "__main__":
    main()
