#!/usr/bin/env python3
"""Wall time and peak memory of fusing: fuse_v3_model.py beside ``cp -r`` and ``mlx_lm.fuse``.

    python benchmarks/fuse_vs_mlx_lm.py --work-dir /tmp/fuse-bench

makes a 2.7 GB bfloat16 Qwen3-VL-MoE (12 layers, hidden 1024, 48 experts) and one of twice the size with random weights,
an adapter of rank 128 on their attention, and prints a table. The three commands take turns, so that a slow moment of
the disk meets all of them; medians count. Needs about 16 GB of disk. ``--base`` and ``--adapter`` take your folders.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from precision_lora.blas import find_openblas  # noqa: E402
from tests.model_folders import vl_config, write_adapter, write_base  # noqa: E402

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True)
class Run:
    seconds: float
    peak_megabytes: float


def timed(command: list[str], fast_blas: bool = True) -> Run:
    """Run a command to its end; its wall time and its own largest resident size."""
    environment = dict(os.environ)
    library = find_openblas()
    if fast_blas and library is not None:
        environment["LD_PRELOAD"] = str(library)
    begun = time.perf_counter()
    with open(os.devnull, "w") as silent:
        actions = [(os.POSIX_SPAWN_DUP2, silent.fileno(), 1), (os.POSIX_SPAWN_DUP2, silent.fileno(), 2)]
        process = os.posix_spawnp(command[0], command, environment, file_actions=actions)
        _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - begun
    if status != 0:
        raise SystemExit(f"failed ({status}): {' '.join(command)}")
    # Linux counts kilobytes, macOS bytes.
    return Run(seconds, usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3))


def make_base(folder: Path, layers: int) -> Path:
    """A random Qwen3-VL-MoE of about 225 MB a layer, made once."""
    if not (folder / "config.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        config = vl_config(layers=layers, hidden=1024, experts=48, moe=704, heads=16, kv=4, head_dim=64)
        write_base(folder, config, shard_bytes=400 << 20)
    return folder


def make_adapter(folder: Path, base: Path) -> Path:
    if not folder.is_dir():
        write_adapter(folder, json.loads((base / "config.json").read_text()), ATTENTION, rank=128)
    return folder


def commands(base: Path, adapter: Path, out: Path) -> dict[str, list[str]]:
    script = [sys.executable, str(PROJECT / "fuse_v3_model.py")]
    ours = [*script, "--base-model", str(base), "--adapter-path", str(adapter), "--output", str(out), "--force"]
    theirs = ["--model", str(base), "--adapter-path", str(adapter), "--save-path", str(out)]
    return {
        "cp -r": ["cp", "-r", str(base), str(out)],
        "ours, without model checks": [*ours, "--no-model-check"],
        "ours, with model checks": ours,
        "mlx_lm.fuse": [sys.executable, "-m", "mlx_lm", "fuse", *theirs],
    }


def measure(base: Path, adapter: Path, out: Path, names: list[str], rounds: int) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            shutil.rmtree(out, ignore_errors=True)
            # What the last command left to be written must not be charged to the next one.
            os.sync()
            runs[name].append(timed(commands(base, adapter, out)[name], fast_blas=name != "cp -r"))
    shutil.rmtree(out, ignore_errors=True)
    return runs


def size_gigabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work-dir", type=Path, required=True, help="folder for the models, kept between runs")
    parser.add_argument("--base", type=Path, help="a model folder of yours")
    parser.add_argument("--adapter", type=Path, help="its adapter")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    out = args.work_dir / "out"
    base = args.base or make_base(args.work_dir / "base-12", 12)
    adapter = args.adapter or make_adapter(args.work_dir / "adapter-12", base)
    runs = measure(base, adapter, out, list(commands(base, adapter, out)), args.rounds)
    print(f"{base.name}: {size_gigabytes(base):.2f} GB, median of {args.rounds}\n")
    print("| command | seconds | range | peak MB |\n|---|---|---|---|")
    for name, results in runs.items():
        seconds = [run.seconds for run in results]
        peak = max(run.peak_megabytes for run in results)
        print(f"| {name} | {statistics.median(seconds):.2f} | {min(seconds):.2f}–{max(seconds):.2f} | {peak:.0f} |")
    medians = {name: statistics.median(run.seconds for run in results) for name, results in runs.items()}
    ours = medians["ours, without model checks"]
    print(f"\nours / (2 × cp + 3 s) = {ours / (2 * medians['cp -r'] + 3):.2f} (at most 1)")
    print(f"ours / mlx_lm.fuse = {ours / medians['mlx_lm.fuse']:.2f} (at most 0.33)")
    if args.base is None:
        twice = make_base(args.work_dir / "base-24", 24)
        again = measure(
            twice, make_adapter(args.work_dir / "adapter-24", twice), out, ["ours, without model checks"], 1
        )
        one = max(run.peak_megabytes for run in runs["ours, without model checks"])
        two = again["ours, without model checks"][0].peak_megabytes
        print(f"peak memory at {size_gigabytes(twice):.2f} GB: {two:.0f} MB, {two / one:.2f} times (at most 1.1)")


if __name__ == "__main__":
    main()
