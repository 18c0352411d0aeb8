"""Agreement with careful readers, on the halves that were set aside before anything was tuned.

``scoring_pairs.jsonl``: two answers alike but for one indicator, ``better`` and ``worse``. ``scoring_labels.jsonl``:
answers with met / not met for each indicator. Both are split by the SHA-256 of id or question; only the first half was
tuned on.
``independent_pairs.jsonl`` and ``independent_labels.jsonl`` come from another writer who did not know the scorer; ids
whose SHA-256 is odd were never looked at, and the floors are what was reached on them.
``scoring_pairs_later.jsonl`` was written when the scorer stood, to see it fail: it is a regression set by now.
"""

import hashlib
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from precision_lora import scoring

DATA = Path(__file__).parent / "data"


def rows(name):
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def set_aside(keys):
    """Every second key in the order of its hash."""
    return set(sorted(set(keys), key=lambda k: hashlib.sha256(k.encode()).hexdigest())[1::2])


@cache
def scored(question, answer):
    return scoring.score(question, answer)


def f1(truth, said):
    hits = sum(t and s for t, s in zip(truth, said, strict=True))
    wrong = sum(t != s for t, s in zip(truth, said, strict=True))
    return 2 * hits / (2 * hits + wrong) if hits else 0.0


def macro_f1(truth, said):
    """Mean of the F1 of met and the F1 of not met."""
    return (f1(truth, said) + f1([not t for t in truth], [not s for s in said])) / 2


def accuracy(pairs, indicator):
    right = sum(
        scored(p["question"], p["better"]).scores[indicator] > scored(p["question"], p["worse"]).scores[indicator]
        for p in pairs
    )
    return right / len(pairs)


def held_out_pairs(indicator):
    pairs = [p for p in rows("scoring_pairs.jsonl") if p["indicator"] == indicator]
    kept = set_aside(p["id"] for p in pairs)
    return [p for p in pairs if p["id"] in kept]


def held_out_labels():
    labels = rows("scoring_labels.jsonl")
    kept = set_aside(r["question"] for r in labels)
    return [r for r in labels if r["question"] in kept]


def test_the_labelled_sets_are_large_enough():
    pairs = rows("scoring_pairs.jsonl")
    assert len(pairs) >= 200
    for indicator in scoring.INDICATORS:
        assert sum(p["indicator"] == indicator for p in pairs) >= 40
    labels = rows("scoring_labels.jsonl")
    assert len(labels) >= 150
    assert all(set(r["met"]) == set(scoring.INDICATORS) for r in labels)


@pytest.mark.parametrize("indicator", scoring.INDICATORS)
def test_pairwise_accuracy_of_each_indicator_on_the_set_aside_half(indicator):
    assert accuracy(held_out_pairs(indicator), indicator) >= 0.85


def test_pairwise_accuracy_on_the_set_aside_half():
    right = total = 0
    for indicator in scoring.INDICATORS:
        pairs = held_out_pairs(indicator)
        right += accuracy(pairs, indicator) * len(pairs)
        total += len(pairs)
    assert right / total >= 0.93


def test_pairs_that_were_written_later_stay_in_order():
    pairs = rows("scoring_pairs_later.jsonl")
    right = sum(accuracy([p], p["indicator"]) for p in pairs)
    assert right / len(pairs) >= 0.93


def test_met_and_not_met_on_the_set_aside_half():
    labels = held_out_labels()
    values = []
    for indicator in scoring.INDICATORS:
        truth = [bool(r["met"][indicator]) for r in labels]
        said = [scored(r["question"], r["answer"]).scores[indicator] >= scoring.MET for r in labels]
        values.append(macro_f1(truth, said))
        assert values[-1] >= 0.75, indicator
    assert sum(values) / len(values) >= 0.85


def test_length_buys_nothing():
    labels = rows("scoring_labels.jsonl")
    lengths = [len(r["answer"]) for r in labels]
    overall = [scored(r["question"], r["answer"]).overall for r in labels]
    assert abs(np.corrcoef(lengths, overall)[0, 1]) <= 0.3


def test_no_good_answer_is_taken_for_nonsense():
    for r in rows("scoring_labels.jsonl"):
        if any(r["met"].values()):
            found = scored(r["question"], r["answer"])
            assert found.genuine, (r["id"], found.reason)


def test_no_good_answer_is_vetoed():
    for r in rows("scoring_labels.jsonl"):
        if sum(r["met"].values()) >= 3:
            assert not scored(r["question"], r["answer"]).vetoes, r["id"]


# Pairwise accuracy of each indicator on the half of the independent pairs that nobody tuned on, rounded down.
INDEPENDENT_FLOORS = {
    "medical_term_accuracy": 0.90,
    "numerical_precision": 0.88,
    "diagnosis_confidence": 0.92,
    "treatment_specificity": 1.00,
    "empathy": 0.95,
}


def unseen(key):
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % 2 == 1


@pytest.mark.parametrize("indicator", scoring.INDICATORS)
def test_pairwise_accuracy_on_pairs_of_another_writer(indicator):
    pairs = [p for p in rows("independent_pairs.jsonl") if p["indicator"] == indicator]
    assert len(pairs) >= 40
    assert accuracy([p for p in pairs if unseen(p["id"])], indicator) >= INDEPENDENT_FLOORS[indicator]
    assert accuracy(pairs, indicator) >= 0.93


@pytest.mark.parametrize("indicator", scoring.INDICATORS)
def test_met_and_not_met_on_answers_of_another_writer(indicator):
    labels = rows("independent_labels.jsonl")
    assert len(labels) >= 150
    truth = [bool(r["labels"][indicator]) for r in labels]
    said = [scored(r["question"], r["answer"]).scores[indicator] >= scoring.MET for r in labels]
    assert macro_f1(truth, said) >= 0.85
