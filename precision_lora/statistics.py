"""Paired comparison of two systems: seeded bootstrap clustered by scenario, comparison at equal length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

REPEATS = 4000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and its percentile interval; ``n`` values in ``clusters`` clusters."""

    mean: float
    low: float
    high: float
    n: int
    clusters: int


@dataclass(frozen=True)
class LengthMatched:
    """A paired difference with the effect of length taken out.

    ``adjusted``: the difference at equal length (intercept of the differences' line over log length ratio).
    ``matched``: plain difference over the pairs whose lengths are within ``tolerance`` of each other, None for
    fewer than 3. ``length_ratio``: geometric mean of length b / length a.
    """

    adjusted: Interval
    matched: Interval | None
    length_ratio: float
    tolerance: float


def _grouped(clusters: Sequence[str]) -> list[np.ndarray]:
    names = list(dict.fromkeys(clusters))
    labels = np.array([names.index(c) for c in clusters])
    return [np.flatnonzero(labels == i) for i in range(len(names))]


def _resamples(groups: list[np.ndarray], seed: int, repeats: int) -> list[np.ndarray]:
    """Index arrays of ``repeats`` resamples: scenarios drawn with replacement, then questions within each.

    With fewer than two scenarios only questions are drawn.
    """
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(repeats):
        drawn = rng.integers(0, len(groups), len(groups)) if len(groups) > 1 else np.zeros(1, dtype=int)
        out.append(np.concatenate([rng.choice(groups[g], len(groups[g])) for g in drawn]))
    return out


def _interval(point: float, draws: np.ndarray, n: int, clusters: int) -> Interval:
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(point), float(low), float(high), n, clusters)


def mean_interval(values: Sequence[float], clusters: Sequence[str], seed: int = 0, repeats: int = REPEATS) -> Interval:
    """Mean of ``values`` with a 95 % interval; ``clusters`` names the scenario of each.

    Raises:
        ValueError: no values, or not as many clusters as values.
    """
    return mean_intervals(np.asarray(values, dtype=np.float64)[:, None], clusters, seed, repeats)[0]


def mean_intervals(
    values: np.ndarray, clusters: Sequence[str], seed: int = 0, repeats: int = REPEATS
) -> list[Interval]:
    """``mean_interval`` of each column of ``values`` float64 (n, k), all over the same resamples.

    Raises:
        ValueError: no values, or not as many clusters as rows.
    """
    if not len(values) or len(values) != len(clusters):
        raise ValueError(f"{len(values)} values and {len(clusters)} clusters: equally many, at least one, are needed")
    groups = _grouped(clusters)
    draws = np.stack([values[index].mean(axis=0) for index in _resamples(groups, seed, repeats)])
    means = values.mean(axis=0)
    return [_interval(means[k], draws[:, k], len(values), len(groups)) for k in range(values.shape[1])]


def length_matched(
    a: Sequence[float],
    b: Sequence[float],
    lengths_a: Sequence[int],
    lengths_b: Sequence[int],
    clusters: Sequence[str],
    seed: int = 0,
    repeats: int = REPEATS,
    tolerance: float = 0.25,
) -> LengthMatched:
    """b − a at equal answer length; lengths in characters.

    Raises:
        ValueError: the sequences are not equally long, or empty.
    """
    if not len(a) == len(b) == len(lengths_a) == len(lengths_b) == len(clusters) or not len(a):
        raise ValueError("equally many scores, lengths and clusters are needed, at least one")
    difference = np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64)
    ratio = np.log((np.asarray(lengths_b) + 1.0) / (np.asarray(lengths_a) + 1.0))
    groups = _grouped(clusters)

    def at_equal_length(index: np.ndarray) -> float:
        x, y = ratio[index], difference[index]
        spread = x - x.mean()
        variance = float(spread @ spread)
        # Hardly any spread in length: the slope is noise, and the plain mean is the answer.
        slope = float(spread @ y) / variance if variance > 1e-6 * len(x) else 0.0
        return float(y.mean() - slope * x.mean())

    draws = np.array([at_equal_length(index) for index in _resamples(groups, seed, repeats)])
    adjusted = _interval(at_equal_length(np.arange(len(difference))), draws, len(difference), len(groups))
    close = np.flatnonzero(np.abs(ratio) <= np.log1p(tolerance)).tolist()
    matched = None
    if len(close) >= 3:
        matched = mean_interval(difference[close].tolist(), [clusters[i] for i in close], seed, repeats)
    return LengthMatched(adjusted, matched, float(np.exp(ratio.mean())), tolerance)
