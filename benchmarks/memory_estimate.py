#!/usr/bin/env python3
"""The estimate of ``--preflight`` beside the measured peak of real training steps.

    python benchmarks/memory_estimate.py --model demo/base --model ANOTHER_FOLDER

Each setting runs in a process of its own, through the engine that the script drives: load, self-check, two steps on
rows of random tokens. Printed are MLX's own peak and, on a CPU, the largest resident size of the process, each beside
its estimate. Without ``--case`` the settings below are tried.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from benchmarks.train_vs_mlx_lm import resident_bytes  # noqa: E402
from precision_lora.base_folder import read_base  # noqa: E402
from precision_lora.batching import micro_batches  # noqa: E402
from precision_lora.blas import fast_environment, find_openblas  # noqa: E402
from precision_lora.config import TrainConfig  # noqa: E402
from precision_lora.dataset import Encoded  # noqa: E402
from precision_lora.journal import Journal  # noqa: E402
from precision_lora.layout import read_layout  # noqa: E402
from precision_lora.memory import Work, estimate  # noqa: E402

# Batch, tokens a row, supervised tokens a row, rank, targets, with --grad-checkpoint.
CASES = (
    "2,256,100,64,attention,no",
    "2,256,100,64,attention,yes",
    "1,512,300,128,attention,no",
    "4,384,200,64,attention,no",
    "4,384,200,64,attention,yes",
    "2,256,100,32,all-linear,no",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, action="append", help="MLX model folder; may be given several times")
    parser.add_argument("--case", action="append", metavar="BATCH,TOKENS,SUPERVISED,RANK,TARGETS,CHECKPOINT")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    models, cases = args.model or [PROJECT / "demo" / "base"], args.case or CASES
    if args.measure:
        print(json.dumps(measured(models[0], cases[0])))
        return
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores; MB\n")
    print("| model | batch | tokens | rank | targets | checkpoint | MLX: estimate | measured | ratio ", end="")
    print("| process: estimate | measured | ratio |\n|---|---|---|---|---|---|---|---|---|---|---|---|")
    ratios = []
    for model in models:
        for case in cases:
            result = child(model, case)
            batch, tokens, _, rank, targets, checkpoint = case.split(",")
            cells = [model.name, batch, tokens, rank, targets, checkpoint]
            for kind in ("mlx", "process"):
                guess, truth = result["estimate"][kind], result[kind]
                ratios.append(guess / truth)
                cells += [f"{guess / 1e6:.0f}", f"{truth / 1e6:.0f}", f"{guess / truth:.2f}"]
            print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\nestimate / measured: {min(ratios):.2f} to {max(ratios):.2f}")


def child(model: Path, case: str) -> dict[str, Any]:
    library = find_openblas()
    environment = dict(os.environ) if library is None else fast_environment(library)
    command = [sys.executable, __file__, "--measure", "--model", str(model), "--case", case]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{model.name} {case} failed ({done.returncode}):\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measured(model: Path, case: str) -> dict[str, Any]:
    """Peaks of two steps in this process and what `memory.estimate` says of them, in bytes."""
    from precision_lora import mlx_engine
    from train_v3_precision import this_machine

    batch, tokens, supervised, rank = (int(word) for word in case.split(",")[:4])
    targets, checkpoint = case.split(",")[4:]
    settings = TrainConfig(
        base_model=str(model),
        batch_size=batch,
        lora_rank=rank,
        lora_targets=targets,
        grad_checkpoint=checkpoint == "yes",
    )
    layout = read_layout(read_base(model))
    work = Work(batch, tokens, batch * supervised, rank, targets, grad_checkpoint=settings.grad_checkpoint)
    guess = estimate(layout, work, this_machine())
    loaded = mlx_engine.load(settings, None)
    data = random_rows(batch, tokens, supervised, layout.vocabulary)
    probe = micro_batches(data, np.array([0]), 1, (tokens,), 0)[0]
    engine = loaded.engine(data, probe, None, Journal(silent=True))
    state, micro = engine.state, micro_batches(data, np.arange(batch), batch, (tokens,), 0)[0]
    for number in range(2):
        on_device = [engine.to_device(micro, np.ones(32, np.float32), 1.0)]
        state, _ = engine.take_step(state, on_device, micro.supervised_tokens, 1e-4, number)
    return {
        "mlx": engine.peak_memory(),
        "process": resident_bytes(),
        "estimate": {"mlx": guess.peak - guess.process, "process": guess.peak},
    }


def random_rows(count: int, tokens: int, supervised: int, vocabulary: int) -> Encoded:
    """``count`` rows of ``tokens`` random tokens, of which the last ``supervised`` are targets."""
    rng = np.random.default_rng(0)
    targets = np.zeros((count, tokens), np.bool_)
    targets[:, tokens - supervised :] = True
    return Encoded(
        tokens=rng.integers(0, vocabulary, count * tokens, dtype=np.int32),
        supervised=targets.reshape(-1),
        kinds=np.zeros(count * tokens, np.uint8),
        weights=np.ones(count * tokens, np.float32),
        offsets=np.arange(count + 1, dtype=np.int64) * tokens,
        lines=np.arange(1, count + 1, dtype=np.int32),
        truncated=0,
        skipped=(),
    )


if __name__ == "__main__":
    main()
