#!/usr/bin/env python3
"""Seconds and memory of loss and gradient by the number of supervised positions, whole logits beside it.

    python benchmarks/head_cost.py --hidden 576 --vocabulary 49152

A random output head in float32. The trainer sends supervised positions alone through it, in chunks whose logits are not
kept; "whole logits" is what a loss over all positions of the same rows costs, two of three tokens being prompt.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from precision_lora.blas import use_fast_blas  # noqa: E402

ROUNDS = 5
PROMPT_TOKENS_PER_TARGET = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=576)
    parser.add_argument("--vocabulary", type=int, default=49152)
    args = parser.parse_args()
    use_fast_blas()
    import mlx.core as mx
    import mlx.nn as nn

    from precision_lora.batching import chunk_positions
    from precision_lora.step import position_losses

    weight = mx.random.normal((args.vocabulary, args.hidden)) * 0.05
    chunk = chunk_positions(args.vocabulary)

    def ours(hidden: mx.array) -> mx.array:
        targets = mx.zeros(hidden.shape[0], mx.int32)
        return position_losses(hidden, targets, mx.ones(hidden.shape[0]), lambda h: h @ weight.T, chunk)[0]

    def whole(hidden: mx.array) -> mx.array:
        targets = mx.zeros(hidden.shape[0], mx.int32)
        return nn.losses.cross_entropy(hidden @ weight.T, targets, reduction="sum")

    def cost(loss: Callable[[mx.array], mx.array], positions: int) -> tuple[float, float]:
        """Least seconds of `ROUNDS`, and peak bytes above what was there before."""
        hidden, gradient = mx.random.normal((positions, args.hidden)), mx.compile(mx.grad(loss))
        mx.eval(weight, hidden, gradient(hidden))
        mx.clear_cache()
        mx.reset_peak_memory()
        before, seconds = mx.get_active_memory(), []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            mx.eval(gradient(hidden))
            seconds.append(time.perf_counter() - begun)
        return min(seconds), mx.get_peak_memory() - before

    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores; head {args.hidden} × {args.vocabulary}\n")
    print("| supervised positions | ms | ms per 128 | MB | whole logits: ms | MB |\n|---|---|---|---|---|---|")
    for positions in (128, 256, 512, 1024):
        seconds, peak = cost(ours, positions)
        all_seconds, all_peak = cost(whole, positions * (1 + PROMPT_TOKENS_PER_TARGET))
        print(
            f"| {positions} | {seconds * 1e3:.0f} | {seconds * 128e3 / positions:.0f} | {peak / 1e6:.0f} "
            f"| {all_seconds * 1e3:.0f} | {all_peak / 1e6:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
