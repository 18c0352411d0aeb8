#!/usr/bin/env python3
"""Fit the weights of precision_lora/clause_network.py and tagger.py on the annotated texts; needs PyTorch.

    pip install -r span_model/requirements.txt
    python span_model/fit.py            # writes precision_lora/span_model.npz; some 15 minutes on two cores
    python span_model/fit.py --measure  # learning curve alone, nothing written

The order is fixed: the same texts and versions give the same weights. Thresholds are chosen on a tenth of the texts by
a model of the other nine, so that F1 is largest, and are folded into the biases of the model of all texts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, relu

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from precision_lora import clause_network, spans, tagger  # noqa: E402
from span_model.annotated import ANNOTATED_KINDS, Annotated, Marks, character_f1, read  # noqa: E402

TEXTS = PROJECT / "span_model" / "texts"
BUCKETS = 1 << tagger.BUCKET_BITS
SET_ASIDE = 10  # one of so many texts chooses the thresholds
# Logits that are tried as the line between yes and no.
THRESHOLDS = np.arange(-2.0, 2.01, 0.1)
SMALL = 0.03  # term weights below this are dropped, the others rounded: half the file, the same F1 within 0.01
LETTER_SIZE, TAG_SIZE, FILTERS, CLAUSE_SIZE = 96, 16, 96, 128
DROPOUT, HIDDEN_LETTERS, WARMUP_STEPS = 0.3, 0.1, 50


@dataclass(frozen=True)
class Model:
    """Both parts of what span_model.npz holds."""

    clauses: clause_network.Network
    terms: tagger.Model


@dataclass(frozen=True)
class Example:
    """An annotated text as the models see it, with the wanted answers."""

    source: Annotated
    seen: spans.Reading
    letters: np.ndarray  # int64 (L,) rows of the letter table
    said: np.ndarray  # float32 (clauses, 3)
    weights: np.ndarray  # float32 (clauses,): F1 counts characters, and long clauses are few
    features: np.ndarray  # int64 (L, features) buckets
    answers: np.ndarray  # int64 (L,)


def known_characters(texts: list[Annotated]) -> np.ndarray:
    return np.unique(np.concatenate([spans.read(text.text).codes for text in texts])).astype(np.uint32)


def example(source: Annotated, characters: np.ndarray) -> Example:
    seen = spans.read(source.text)
    said = [
        [any(k == kind and s <= start < e for s, e, k in source.marks) for kind in clause_network.CLAUSE_KINDS]
        for start, _ in seen.clauses
    ]
    answers = np.zeros(len(source.text), np.int64)
    for start, end, kind in source.marks:
        if kind == "term":
            answers[start:end] = tagger.INSIDE
            answers[start] = tagger.BEGIN
    return Example(
        source,
        seen,
        clause_network.letter_rows(characters, seen.codes),
        np.array(said, np.float32),
        np.sqrt([end - start for start, end in seen.clauses], dtype=np.float32),
        tagger.term_features(seen.codes, seen.tags).T,
        answers,
    )


def batches(examples: list[Example], size: int, epochs: int):
    """(epoch, examples) in an order that depends on nothing but their number."""
    for epoch in range(epochs):
        order = random.Random(epoch).sample(range(len(examples)), len(examples))
        for first in range(0, len(order), size):
            yield epoch, [examples[i] for i in order[first : first + size]]


class ClauseNetwork(torch.nn.Module):
    """`clause_network` in PyTorch; letters and clauses are padded with `NOTHING`."""

    def __init__(self, letters: int) -> None:
        super().__init__()
        values = torch.randn(letters, LETTER_SIZE) * 0.3
        values[clause_network.NOTHING] = 0
        self.letters = torch.nn.Embedding.from_pretrained(values, freeze=False, padding_idx=clause_network.NOTHING)
        self.tags = torch.nn.Embedding(clause_network.TAGS, TAG_SIZE, padding_idx=0)
        inputs = LETTER_SIZE + TAG_SIZE
        self.kernels = torch.nn.ModuleList(
            [torch.nn.Conv1d(inputs, FILTERS, w, padding=w // 2) for w in clause_network.WIDTHS]
        )
        self.projection = torch.nn.Linear(2 * FILTERS * len(clause_network.WIDTHS), CLAUSE_SIZE)
        self.context_1 = torch.nn.Conv1d(CLAUSE_SIZE, CLAUSE_SIZE, clause_network.CONTEXT_WIDTH, padding=1)
        self.context_2 = torch.nn.Conv1d(CLAUSE_SIZE, CLAUSE_SIZE, clause_network.CONTEXT_WIDTH, padding=1)
        self.output = torch.nn.Linear(2 * CLAUSE_SIZE, len(clause_network.CLAUSE_KINDS))
        self.dropout = torch.nn.Dropout(DROPOUT)

    def forward(self, letters: torch.Tensor, tags: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Logits (N, 3) of clauses ``letters`` and ``tags`` (N, L); ``places`` (texts, T) numbers them, N for none."""
        inside = (letters != clause_network.NOTHING).float()[:, None]
        x = self.dropout(torch.cat([self.letters(letters), self.tags(tags)], -1)).transpose(1, 2)
        pooled = []
        for kernel in self.kernels:
            h = relu(kernel(x)) * inside
            pooled += [h.amax(2), h.sum(2) / (inside.sum(2) + 1)]
        said = relu(self.projection(self.dropout(torch.cat(pooled, 1))))
        there = places < len(said)
        in_texts = self.dropout(torch.cat([said, torch.zeros(1, CLAUSE_SIZE)])[places])
        mask = there.float()[:, None]
        context = relu(self.context_1(in_texts.transpose(1, 2))) * mask
        context = relu(self.context_2(context)).transpose(1, 2)
        return self.output(self.dropout(torch.cat([in_texts, context], -1)))[there]


def clause_batch(batch: list[Example]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What `ClauseNetwork` takes, from examples whose ``letters`` are set."""
    spans_of = [(e, start, end) for e in batch for start, end in e.seen.clauses]
    longest = max(end - start for _, start, end in spans_of)
    letters, tags = np.zeros((2, len(spans_of), longest), np.int64)
    for row, (e, start, end) in enumerate(spans_of):
        letters[row, : end - start] = e.letters[start:end]
        tags[row, : end - start] = e.seen.tags[start:end]
    places = np.full((len(batch), max(len(e.said) for e in batch)), len(spans_of))
    first = 0
    for text, e in enumerate(batch):
        places[text, : len(e.said)] = np.arange(first, first + len(e.said))
        first += len(e.said)
    return torch.from_numpy(letters), torch.from_numpy(tags), torch.from_numpy(places)


def fit_clauses(examples: list[Example], size: int = 16, epochs: int = 8, rate: float = 2e-3) -> ClauseNetwork:
    network = ClauseNetwork(1 + max(int(e.letters.max()) for e in examples))
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-2)
    steps = epochs * -(-len(examples) // size)
    for step, (_, batch) in enumerate(batches(examples, size, epochs)):
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / WARMUP_STEPS) * (1 - step / steps)
        letters, tags, places = clause_batch(batch)
        # Characters that the texts do not have must be bearable.
        hidden = (torch.rand(letters.shape) < HIDDEN_LETTERS) & (letters != clause_network.NOTHING)
        letters = torch.where(hidden, clause_network.UNKNOWN, letters)
        wanted = torch.from_numpy(np.concatenate([e.said for e in batch]))
        weights = torch.from_numpy(np.concatenate([e.weights for e in batch]))[:, None]
        losses = binary_cross_entropy_with_logits(network(letters, tags, places), wanted, reduction="none")
        optimizer.zero_grad()
        ((losses * weights / weights.mean()).sum() / (8 * size)).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return network.eval()


def exported(network: ClauseNetwork, characters: np.ndarray) -> clause_network.Network:
    """The weights as `clause_network` uses them."""
    w = {name: value.numpy() for name, value in network.state_dict().items()}
    arrays = {
        "characters": characters,
        "letters": w["letters.weight"],
        "tags": w["tags.weight"],
        "projection": w["projection.weight"].T,
        "projection_bias": w["projection.bias"],
        "output": w["output.weight"].T,
        "output_bias": w["output.bias"],
    }
    for number, width in enumerate(clause_network.WIDTHS):
        arrays[f"kernel_{width}"] = w[f"kernels.{number}.weight"].transpose(2, 1, 0)
        arrays[f"bias_{width}"] = w[f"kernels.{number}.bias"]
    for name in ("context_1", "context_2"):
        arrays[name], arrays[f"{name}_bias"] = w[f"{name}.weight"].transpose(2, 1, 0), w[f"{name}.bias"]
    # What is stored is of 16 bits: measured is what will be used.
    return clause_network.Network(
        **{n: a if n == "characters" else a.astype(np.float16).astype(np.float32) for n, a in arrays.items()}
    )


def fit_terms(examples: list[Example], epochs: int = 6, rate: float = 0.01, penalty: float = 1e-3):
    """Weights (BUCKETS, 3) and bias (3,)."""
    table, bias = torch.zeros(BUCKETS, 3, requires_grad=True), torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([table, bias], lr=rate)
    for epoch, batch in batches(examples, 16, epochs):
        optimizer.param_groups[0]["lr"] = rate * (1 - epoch / epochs)
        rows = table[torch.from_numpy(np.concatenate([e.features for e in batch]))]
        wanted = torch.from_numpy(np.concatenate([e.answers for e in batch]))
        loss = cross_entropy(rows.sum(1) + bias, wanted, reduction="sum")
        optimizer.zero_grad()
        ((loss + penalty * rows.square().sum()) / 16).backward()
        optimizer.step()
    return table.detach().numpy(), bias.detach().numpy()


def fit(examples: list[Example], characters: np.ndarray) -> Model:
    torch.manual_seed(0)
    return Model(exported(fit_clauses(examples), characters), tagger.Model(*fit_terms(examples)))


def found(model: Model, one: Example, threshold: float) -> Marks:
    """What the models mark, with logits above ``threshold``."""
    bias = model.terms.bias + np.array([threshold, 0, 0], np.float32)
    marks = [
        (start, end, "term")
        for start, end in tagger.terms(tagger.Model(model.terms.table, bias), [one.seen.codes], [one.seen.tags])[0]
    ]
    logits = clause_network.logits(model.clauses, [one.seen.codes], [one.seen.tags], [one.seen.clauses])[0]
    for clause, kind in np.argwhere(logits > threshold):
        marks.append((*one.seen.clauses[clause], clause_network.CLAUSE_KINDS[kind]))
    return tuple(marks)


def best_thresholds(model: Model, examples: list[Example]) -> dict[str, tuple[float, float]]:
    """For each kind the largest F1 on texts that were not fitted, and the threshold that gives it."""
    best = dict.fromkeys(ANNOTATED_KINDS, (0.0, 0.0))
    for threshold in THRESHOLDS:
        rows = [(e.source.text, e.source.marks, found(model, e, float(threshold))) for e in examples]
        best = {kind: max(best[kind], (character_f1(rows, kind), float(threshold))) for kind in ANNOTATED_KINDS}
    return best


def all_examples() -> tuple[list[Example], np.ndarray]:
    """Every annotated text in a fixed random order, and the characters of them all."""
    texts = [text for path in sorted(TEXTS.glob("*.txt")) for text in read(path)]
    random.Random(0).shuffle(texts)
    characters = known_characters(texts)
    return [example(text, characters) for text in texts], characters


def measured(share: float) -> dict[str, float]:
    """Thresholds by a model of ``share`` of the texts outside the tenth that is set aside; prints F1 there."""
    examples, characters = all_examples()
    fitted = [e for i, e in enumerate(examples) if i % SET_ASIDE]
    fitted = fitted[: round(share * len(fitted))]
    best = best_thresholds(fit(fitted, characters), examples[::SET_ASIDE])
    scores = ", ".join(f"{kind} {f1:.3f}" for kind, (f1, _) in best.items())
    print(f"{len(fitted)} texts, F1 on {len(examples[::SET_ASIDE])} others: {scores}", flush=True)
    return {kind: threshold for kind, (_, threshold) in best.items()}


def fitted_on_all() -> Model:
    return fit(*all_examples())


def begin() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="print F1 by the number of texts, write nothing")
    args = parser.parse_args()
    # Two models side by side: the operations are too small for several threads.
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), initializer=begin) as pool:
        if args.measure:
            list(pool.map(measured, (1.0, 0.5, 0.25)))
            return
        chosen, fitted = pool.submit(measured, 1.0), pool.submit(fitted_on_all)
        thresholds, model = chosen.result(), fitted.result()
    arrays = {f"clause_{name}": values for name, values in vars(model.clauses).items()}
    arrays["clause_output_bias"] -= [thresholds[kind] for kind in clause_network.CLAUSE_KINDS]
    arrays["term_table"] = np.where(np.abs(model.terms.table) < SMALL, 0, np.round(model.terms.table, 2))
    arrays["term_bias"] = model.terms.bias + np.array([thresholds["term"], 0, 0], np.float32)
    stored = {n: values if n == "clause_characters" else values.astype(np.float16) for n, values in arrays.items()}
    np.savez_compressed(clause_network.WEIGHTS, **stored)
    print(f"{clause_network.WEIGHTS.name}: {clause_network.WEIGHTS.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
