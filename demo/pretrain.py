"""Pretrain the demo's base model on JSON-lines rows, on a few CPU cores.

Rows are ``{"messages": […]}`` (rendered with the chat template) or ``{"text": …}``. Every token is a target: this is
pretraining. Matrix weights are updated by Muon, the others by AdamW; weights are computed in bfloat16 and kept in
float32. The state is written every few minutes, and a second call goes on from it.

    python demo/pretrain.py --data vague.jsonl textbook.jsonl --tokenizer demo/base --run run --steps 3000
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment
from network import HeadLoss, Network, Shape
from tokenizers import Tokenizer
from torch import Tensor

BALANCE_WEIGHT = 0.01
MATRIX_RATE = 0.02  # Muon: the size of an update, whatever the gradient's
OTHER_RATE = 3e-3  # AdamW: embeddings, head, routers, norms
AVERAGE = 0.995  # moving average of the weights, which is what is exported


def read_rows(paths: list[Path], folder: Path, longest: int) -> list[np.ndarray]:
    """Token ids of every row, int32 (T,), cut at ``longest``."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    template = ImmutableSandboxedEnvironment().from_string((folder / "chat_template.jinja").read_text("utf-8"))
    texts: list[str] = []
    for path in paths:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                if "text" in row:
                    texts.append(row["text"] + "<|endoftext|>")
                else:
                    texts.append(template.render(messages=row["messages"], add_generation_prompt=False))
    encodings = tokenizer.encode_batch_fast(texts)
    return [np.asarray(e.ids[:longest], dtype=np.int32) for e in encodings]


def batches(rows: list[np.ndarray], tokens: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """For ever: inputs and targets int64 (B, T) of about ``tokens`` positions; target -1 is padding.

    Rows of like length go together, lengths rounded up to 32: few shapes, little padding.
    """
    rng = np.random.default_rng(seed)
    lengths = np.asarray([len(row) - 1 for row in rows])
    while True:
        order = np.argsort(lengths + rng.uniform(-16, 16, len(rows)), kind="stable")
        groups, first = [], 0
        while first < len(order):
            width = -(-int(lengths[order[first]] + 32) // 32) * 32
            groups.append(order[first : first + max(tokens // width, 1)])
            first += len(groups[-1])
        for index in rng.permutation(len(groups)):
            group = groups[index]
            width = -(-int(lengths[group].max()) // 32) * 32
            inputs = np.zeros((len(group), width), dtype=np.int64)
            targets = np.full((len(group), width), -1, dtype=np.int64)
            for r, row in enumerate(group):
                inputs[r, : lengths[row]] = rows[row][:-1]
                targets[r, : lengths[row]] = rows[row][1:]
            yield torch.from_numpy(inputs), torch.from_numpy(targets)


def orthogonal(matrices: Tensor) -> Tensor:
    """Nearest semi-orthogonal matrices of (N, rows, columns), by five Newton-Schulz steps (Muon)."""
    x = matrices.bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = torch.bmm(x, x.mT)
        gram = torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        gram.diagonal(dim1=1, dim2=2).add_(3.4445)
        x = torch.bmm(gram, x)
    return x


class Optimizer:
    """Float32 master weights with Muon for the maps inside the layers and AdamW for everything else."""

    def __init__(self, network: Network) -> None:
        self.weights = dict(network.named_parameters())
        self.masters = {name: w.detach().float().clone() for name, w in self.weights.items()}
        self.averages = {name: m.clone() for name, m in self.masters.items()}
        self.moments = {name: torch.zeros_like(m) for name, m in self.masters.items()}
        self.matrices = [n for n in self.weights if n.endswith("proj.weight")]
        self.others = [n for n in self.weights if not n.endswith("proj.weight")]
        self.squares = {name: torch.zeros_like(self.masters[name]) for name in self.others}
        self.step_count = 0

    def state(self) -> dict[str, object]:
        return {k: getattr(self, k) for k in ("masters", "averages", "moments", "squares", "step_count")}

    def load(self, state: dict[str, object]) -> None:
        for key, value in state.items():
            setattr(self, key, value)
        self._publish()

    def _publish(self) -> None:
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(self.masters[name])

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One update from the gradients, which are cleared; ``rate`` scales both learning rates."""
        self.step_count += 1
        groups: dict[tuple[int, int], list[tuple[str, bool]]] = {}
        for name in self.matrices:
            rows, columns = self.masters[name].shape[-2:]
            # A tall matrix is handled lying down, together with those of its shape.
            groups.setdefault((min(rows, columns), max(rows, columns)), []).append((name, rows > columns))
        for (rows, columns), members in groups.items():
            directions = []
            for name, tall in members:
                gradient = self.weights[name].grad.float()  # type: ignore[union-attr]
                moment = self.moments[name].lerp_(gradient, 0.05)
                direction = gradient.lerp(moment, 0.95)
                directions.append((direction.mT if tall else direction).reshape(-1, rows, columns))
            counts = [len(d) for d in directions]
            parts = orthogonal(torch.cat(directions)).float().split(counts)
            for (name, tall), part in zip(members, parts, strict=True):
                master = self.masters[name]
                update = (part.mT if tall else part).reshape(master.shape)
                master.add_(update, alpha=-rate * MATRIX_RATE * (columns / rows if tall else 1.0) ** 0.5)
        for name in self.others:
            gradient = self.weights[name].grad.float()  # type: ignore[union-attr]
            moment = self.moments[name].lerp_(gradient, 0.1)
            square = self.squares[name].lerp_(gradient.square(), 0.02)
            scale = (square / (1 - 0.98**self.step_count)).sqrt_().add_(1e-10)
            self.masters[name].addcdiv_(moment / (1 - 0.9**self.step_count), scale, value=-rate * OTHER_RATE)
        average = min(AVERAGE, 1 - 10 / (10 + self.step_count))
        for name, master in self.masters.items():
            self.averages[name].lerp_(master, 1 - average)
        self._publish()
        for weight in self.weights.values():
            weight.grad = None


def schedule(step: int, steps: int) -> float:
    """Warm-up over 50 steps, full rate, then linearly to zero over the last 40 %."""
    return min(1.0, (step + 1) / 50, max(0.0, (steps - step) / (0.4 * steps)))


def save(path: Path, network: Network, optimizer: Optimizer) -> None:
    """Write the whole state under its name at once."""
    partial = path.with_suffix(".partial")
    torch.save({"shape": asdict(network.shape), "optimizer": optimizer.state()}, partial)
    os.replace(partial, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer and chat template")
    parser.add_argument("--run", type=Path, required=True, help="folder of state.pt")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--tokens-per-step", type=int, default=6144)
    parser.add_argument("--max-length", type=int, default=640)
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--save-minutes", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = read_rows(arguments.data, arguments.tokenizer, arguments.max_length)
    vocab_size = Tokenizer.from_file(str(arguments.tokenizer / "tokenizer.json")).get_vocab_size()
    print(f"{len(rows)} rows, {sum(map(len, rows)) / 1e6:.2f} M tokens", flush=True)
    network = Network(Shape(vocab_size), arguments.seed).bfloat16()
    optimizer = Optimizer(network)
    arguments.run.mkdir(parents=True, exist_ok=True)
    path = arguments.run / "state.pt"
    if path.exists():
        optimizer.load(torch.load(path, weights_only=True)["optimizer"])
        print(f"goes on from step {optimizer.step_count}", flush=True)
    started = saved = time.monotonic()
    tokens, losses = 0, []
    # A resumed run draws a new order of the rows; every order is as good.
    source = batches(rows, arguments.tokens_per_step, arguments.seed + optimizer.step_count)
    while optimizer.step_count < arguments.steps:
        inputs, targets = next(source)
        hidden = network.model(inputs).flatten(0, 1)
        count = int((targets >= 0).sum())
        loss = HeadLoss.apply(hidden, network.lm_head.weight, targets.flatten()) / count
        (loss + BALANCE_WEIGHT * network.balance()).backward()
        optimizer.step(arguments.rate * schedule(optimizer.step_count, arguments.steps))
        tokens += count
        losses.append(loss.item())
        if optimizer.step_count % 50 == 0:
            rate = tokens / (time.monotonic() - started)
            balance = network.balance().item()
            line = f"loss {np.mean(losses[-50:]):.4f}  balance {balance:.2f}  {rate:.0f} tokens/s"
            print(f"step {optimizer.step_count}/{arguments.steps}  {line}", flush=True)
        if time.monotonic() - saved > 60 * arguments.save_minutes:
            save(path, network, optimizer)
            saved = time.monotonic()
    save(path, network, optimizer)


if __name__ == "__main__":
    # glibc gives every large tensor back to the system at once; keeping them saves a fifth of the time.
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        os.environ.update(MALLOC_MMAP_THRESHOLD_="33554432", MALLOC_TRIM_THRESHOLD_="8589934592")
        os.execv(sys.executable, [sys.executable, *sys.argv])
    main()
