#!/usr/bin/env python3
"""Fit the weights of precision_lora/tagger.py on the annotated texts; needs PyTorch (span_model/requirements.txt).

    python span_model/fit.py            # writes precision_lora/span_model.npz
    python span_model/fit.py --measure  # cross-validation and learning curve alone, nothing written

Logistic regression on hashed n-grams with a quadratic penalty, by Adam in a fixed order: the same texts and versions
give the same weights. Thresholds come from cross-validation, so that F1 is largest, and are folded into the biases.
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from precision_lora import spans, tagger  # noqa: E402
from span_model.annotated import ANNOTATED_KINDS, Annotated, Marks, character_f1, read  # noqa: E402

TEXTS = PROJECT / "span_model" / "texts"
BUCKETS = 1 << tagger.BUCKET_BITS
FOLDS = 3
# Logits that are tried as the line between yes and no.
THRESHOLDS = np.arange(-2.0, 1.01, 0.1)
SMALL = 0.03  # weights below this are dropped, the others rounded: half the file, the same F1 within 0.01


@dataclass(frozen=True)
class Example:
    """An annotated text as the tagger sees it, with the wanted answers."""

    source: Annotated
    seen: spans.Reading
    grams: np.ndarray  # int64 (G,) buckets, and the clause of each
    owners: np.ndarray
    said: np.ndarray  # float32 (clauses, 3)
    characters: np.ndarray  # int64 (L, features) buckets
    answers: np.ndarray  # int64 (L,)


def example(source: Annotated) -> Example:
    seen = spans.read(source.text)
    grams, owners = tagger.clause_features((seen.folded, seen.shadow), seen.clauses)
    said = [
        [any(k == kind and s <= start < e for s, e, k in source.marks) for kind in tagger.CLAUSE_KINDS]
        for start, _ in seen.clauses
    ]
    answers = np.zeros(len(source.text), np.int64)
    for start, end, kind in source.marks:
        if kind == "term":
            answers[start:end] = tagger.INSIDE
            answers[start] = tagger.BEGIN
    features = tagger.term_features(seen.folded, seen.tags).T
    return Example(source, seen, grams, owners, np.array(said, np.float32), features, answers)


def batches(examples: list[Example], size: int, epochs: int):
    """(epoch, examples) in an order that depends on nothing but their number."""
    for epoch in range(epochs):
        order = random.Random(epoch).sample(range(len(examples)), len(examples))
        for first in range(0, len(order), size):
            yield epoch, [examples[i] for i in order[first : first + size]]


def fit_clauses(examples: list[Example], epochs: int = 8, rate: float = 0.02, penalty: float = 1e-3):
    """Weights (BUCKETS, 9) and bias (3,)."""
    table, bias = torch.zeros(BUCKETS, 9, requires_grad=True), torch.full((3,), -1.0, requires_grad=True)
    optimizer = torch.optim.Adam([table, bias], lr=rate)
    for epoch, batch in batches(examples, 32, epochs):
        optimizer.param_groups[0]["lr"] = rate * (1 - epoch / epochs)
        sizes = np.array([len(e.said) for e in batch])
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        rows = table[torch.from_numpy(np.concatenate([e.grams for e in batch]))]
        owners = torch.from_numpy(np.concatenate([e.owners + start for e, start in zip(batch, starts, strict=True)]))
        sums = torch.zeros(int(sizes.sum()), 9).index_add(0, owners, rows)
        not_first, not_last = torch.ones(len(sums), 1), torch.ones(len(sums), 1)
        not_first[starts] = 0
        not_last[starts + sizes - 1] = 0
        logits = sums[:, :3] + bias
        logits = logits + sums[:, 3:6].roll(1, 0) * not_first + sums[:, 6:9].roll(-1, 0) * not_last
        wanted = torch.from_numpy(np.concatenate([e.said for e in batch]))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
        optimizer.zero_grad()
        ((loss + penalty * rows.square().sum()) / 32).backward()
        optimizer.step()
    return table.detach().numpy(), bias.detach().numpy()


def fit_terms(examples: list[Example], epochs: int = 6, rate: float = 0.01, penalty: float = 1e-3):
    """Weights (BUCKETS, 3) and bias (3,)."""
    table, bias = torch.zeros(BUCKETS, 3, requires_grad=True), torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([table, bias], lr=rate)
    for epoch, batch in batches(examples, 16, epochs):
        optimizer.param_groups[0]["lr"] = rate * (1 - epoch / epochs)
        rows = table[torch.from_numpy(np.concatenate([e.characters for e in batch]))]
        wanted = torch.from_numpy(np.concatenate([e.answers for e in batch]))
        loss = torch.nn.functional.cross_entropy(rows.sum(1) + bias, wanted, reduction="sum")
        optimizer.zero_grad()
        ((loss + penalty * rows.square().sum()) / 16).backward()
        optimizer.step()
    return table.detach().numpy(), bias.detach().numpy()


def fit(examples: list[Example]) -> tagger.Model:
    return tagger.Model(*fit_clauses(examples), *fit_terms(examples))


def found(model: tagger.Model, one: Example, shift: dict[str, float] | None = None) -> Marks:
    """What the tagger marks, with thresholds moved by ``shift``."""
    shift = shift or {}
    moved = model.term_bias + np.array([shift.get("term", 0.0), 0, 0], np.float32)
    terms = tagger.terms(
        tagger.Model(model.clause, model.clause_bias, model.term, moved), [one.seen.folded], [one.seen.tags]
    )[0]
    logits = tagger.clause_logits(model, ([one.seen.folded], [one.seen.shadow]), [one.seen.clauses])[0]
    marks = [(start, end, "term") for start, end in terms]
    for column, kind in enumerate(tagger.CLAUSE_KINDS):
        chosen = np.flatnonzero(logits[:, column] > shift.get(kind, 0.0))
        marks += [(*one.seen.clauses[i], kind) for i in chosen]
    return tuple(marks)


def scores(pairs: list[tuple[tagger.Model, Example]], shift: dict[str, float]) -> dict[str, float]:
    rows = [(one.source.text, one.source.marks, found(model, one, shift)) for model, one in pairs]
    return {kind: character_f1(rows, kind) for kind in ANNOTATED_KINDS}


def cross_validated(examples: list[Example]) -> tuple[dict[str, float], dict[str, float]]:
    """Thresholds with the largest F1 on texts that were not fitted, and those F1."""
    folds = [fit([e for j, e in enumerate(examples) if j % FOLDS != i]) for i in range(FOLDS)]
    pairs = [(folds[j % FOLDS], e) for j, e in enumerate(examples)]
    best: dict[str, tuple[float, float]] = dict.fromkeys(ANNOTATED_KINDS, (0.0, 0.0))
    for threshold in THRESHOLDS:
        for kind, f1 in scores(pairs, dict.fromkeys(ANNOTATED_KINDS, float(threshold))).items():
            best[kind] = max(best[kind], (f1, float(threshold)))
    return {k: threshold for k, (_, threshold) in best.items()}, {k: f1 for k, (f1, _) in best.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="print F1 by the number of texts, write nothing")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    examples = [example(text) for path in sorted(TEXTS.glob("*.txt")) for text in read(path)]
    random.Random(0).shuffle(examples)
    for share in (0.25, 0.5, 1.0) if args.measure else (1.0,):
        some = examples[: round(share * len(examples))]
        shift, f1 = cross_validated(some)
        print(f"{len(some)} texts, F1 in {FOLDS}-fold cross-validation: ", end="")
        print(", ".join(f"{kind} {value:.3f}" for kind, value in f1.items()), flush=True)
    if args.measure:
        return
    model = fit(examples)
    model.clause_bias[:] -= [shift[kind] for kind in tagger.CLAUSE_KINDS]
    model.term_bias[tagger.OUTSIDE] += shift["term"]
    tables = {
        name: np.where(np.abs(values) < SMALL, 0, np.round(values, 2)) if values.ndim == 2 else values
        for name, values in vars(model).items()
    }
    np.savez_compressed(tagger.WEIGHTS, **{name: values.astype(np.float16) for name, values in tables.items()})
    print(f"{tagger.WEIGHTS.name}: {tagger.WEIGHTS.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
