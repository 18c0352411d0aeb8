#!/usr/bin/env python3
"""What a long run costs beyond its steps: seconds until the first one, and memory at the beginning and at the end.

    python benchmarks/long_run.py --steps 5000

Start-up is that of the script itself with the token cache filled, from the command to the line that step 1 prints,
without validation. Memory is that of the engine the script drives, over short rows of random tokens: MLX's active
memory and the resident size of the process after 100 steps and after the last.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from benchmarks.memory_estimate import random_rows  # noqa: E402
from precision_lora.batching import micro_batches  # noqa: E402
from precision_lora.blas import fast_environment, find_openblas  # noqa: E402
from precision_lora.config import TrainConfig  # noqa: E402
from precision_lora.journal import Journal  # noqa: E402

EARLY = 100
ROWS, TOKENS, SUPERVISED = 8, 64, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=PROJECT / "demo" / "base", help="MLX model folder")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(memory_over(args.model, args.steps)))
        return
    library = find_openblas()
    environment = dict(os.environ) if library is None else fast_environment(library)
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores; {args.model.name}")
    seconds = sorted(first_step(args.model, environment))
    print("command to the end of step 1: " + ", ".join(f"{s:.1f}" for s in seconds) + " s", flush=True)
    command = [sys.executable, __file__, "--measure", "--model", str(args.model), "--steps", str(args.steps)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    for step, (active, resident) in json.loads(done.stdout.splitlines()[-1]).items():
        print(f"step {step}: MLX holds {active / 1e6:.1f} MB, the process {resident / 1e6:.0f} MB")


def first_step(model: Path, environment: dict[str, str], rounds: int = 3) -> list[float]:
    """Seconds until the first step is done, in runs of one step whose rows are tokenised already."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(PROJECT / "train_v3_precision.py"), "--base-model", str(model), "--steps", "1"]
        command += ["--lora-rank", "64", "--val-batches", "0", "--output-dir", folder, "--yes", "--overwrite"]
        for _ in range(1 + rounds):  # the first run fills the cache
            begun = time.perf_counter()
            with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as run:
                assert run.stdout is not None
                seconds += [time.perf_counter() - begun for line in run.stdout if "步 1/1" in line]
            if run.returncode:
                raise SystemExit(f"the run ended with exit code {run.returncode}")
    return seconds[1:]


def memory_over(model: Path, steps: int) -> dict[int, tuple[int, int]]:
    """(MLX's active memory, resident size) after `EARLY` steps and after all."""
    import mlx.core as mx

    from precision_lora import mlx_engine

    loaded = mlx_engine.load(TrainConfig(base_model=str(model), batch_size=1, lora_rank=64), None)
    data = random_rows(ROWS, TOKENS, SUPERVISED, 1000)
    micros = [micro_batches(data, np.array([row]), 1, (TOKENS,), 0)[0] for row in range(ROWS)]
    engine = loaded.engine(data, micros[0], None, Journal(silent=True))
    state, seen = engine.state, {}
    for step in range(1, steps + 1):
        batch = engine.to_device(micros[step % ROWS], np.ones(32, np.float32), 1.0)
        state, _ = engine.take_step(state, [batch], SUPERVISED, 1e-5, step)
        if step in (EARLY, steps):
            seen[step] = (mx.get_active_memory(), current_resident_bytes())
    return seen


def current_resident_bytes() -> int:
    """Resident size of this process now, as ``ps`` tells it in kilobytes."""
    return (
        int(subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, text=True).stdout) * 1024
    )


if __name__ == "__main__":
    main()
