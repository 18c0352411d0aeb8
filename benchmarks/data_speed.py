#!/usr/bin/env python3
"""Seconds and memory of reading a data set: tokenised, tagged and cached, read from the cache, and ``--check-data``.

    python benchmarks/data_speed.py --tokenizer demo/base --tokenizer ANOTHER_MODEL_FOLDER --check-rows 400000

Each measurement runs in a process of its own. Rows are those of data_mlx; the large folder for ``--check-data`` repeats
them with another number in every question, since a check finds and lists duplicates.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from benchmarks.train_vs_mlx_lm import resident_bytes  # noqa: E402
from precision_lora import tokenizers  # noqa: E402
from precision_lora.dataset import encode  # noqa: E402
from precision_lora.rows import read_rows  # noqa: E402

MAX_TOKENS = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, action="append", help="model folder; may be given several times")
    parser.add_argument("--check-rows", type=int, default=400_000, help="rows for --check-data, 0 to leave it out")
    parser.add_argument("--encode", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.encode:
        print(json.dumps(encoded(*args.encode)))
        return
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores\n")
    if args.check_rows:  # first: its peak is that of the largest child so far
        check(args.check_rows)
    for tokenizer in args.tokenizer or [PROJECT / "demo" / "base"]:
        with tempfile.TemporaryDirectory() as cache:
            command = [sys.executable, __file__, "--encode", str(tokenizer), cache]
            for what in ("tokenised, tagged and cached", "read from the cache"):
                done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                print(
                    f"{done['rows']} rows, vocabulary {done['vocabulary']}, {what}: {done['seconds']:.2f} s "
                    f"({done['rows'] / done['seconds']:.0f} rows/s), {done['megabytes']:.0f} MB",
                    flush=True,
                )


def encoded(folder: Path, cache: Path) -> dict[str, float]:
    """One pass over the training rows in this process."""
    tokenizer = tokenizers.load(str(folder))
    if tokenizer is None:
        raise SystemExit(f"no tokenizer in {folder}")
    begun = time.perf_counter()
    data = encode(read_rows(PROJECT / "data_mlx" / "train.jsonl"), tokenizer, MAX_TOKENS, cache)
    seconds = time.perf_counter() - begun
    peak = resident_bytes() / 1e6
    return {"rows": len(data.lengths), "vocabulary": len(tokenizer), "seconds": seconds, "megabytes": peak}


def check(rows: int) -> None:
    """``--check-data`` on ``rows`` rows, as the person runs it."""
    source = (PROJECT / "data_mlx" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        with open(data / "train.jsonl", "w", encoding="utf-8") as writer:
            for number in range(rows):
                row = json.loads(source[number % len(source)])
                row["messages"][0]["content"] += f"（第{number}问）"
                writer.write(json.dumps(row, ensure_ascii=False) + "\n")
        (data / "valid.jsonl").write_text("\n".join(source[:500]) + "\n", encoding="utf-8")
        command = [sys.executable, str(PROJECT / "train_v3_precision.py"), "--check-data", "--data", str(data)]
        command += ["--base-model", str(PROJECT / "demo" / "base"), "--output-dir", folder]
        begun = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        seconds = time.perf_counter() - begun
    peak = resident_bytes(resource.RUSAGE_CHILDREN) / 1e6
    print(f"--check-data, {rows} rows: {seconds:.0f} s ({rows / seconds:.0f} rows/s), {peak:.0f} MB", end="")
    print(f", exit code {done.returncode}")


if __name__ == "__main__":
    main()
