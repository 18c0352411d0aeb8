"""Intervals and length matching, with arithmetic by hand."""

import math

import pytest

from precision_lora import statistics as st


def test_equal_differences_leave_no_width():
    found = st.mean_interval([0.5, 0.5, 0.5], ["a", "a", "b"], seed=1, repeats=200)
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)
    assert (found.n, found.clusters) == (3, 2)


def test_interval_holds_the_mean_and_is_reproducible():
    values, scenarios = [0.0, 1.0, 0.0, 1.0, 2.0, 1.0], ["a", "a", "b", "b", "c", "c"]
    first = st.mean_interval(values, scenarios, seed=3, repeats=500)
    assert first == st.mean_interval(values, scenarios, seed=3, repeats=500)
    assert first.mean == pytest.approx(5 / 6)
    assert first.low < first.mean < first.high
    assert first.low >= 0 and first.high <= 2


def test_scenarios_are_drawn_whole():
    """Values that differ between scenarios only: drawing questions alone would hide that there are but two."""
    values, scenarios = [0.0] * 30 + [1.0] * 30, ["a"] * 30 + ["b"] * 30
    clustered = st.mean_interval(values, scenarios, repeats=400)
    assert (clustered.low, clustered.high) == (0.0, 1.0)
    flat = st.mean_interval(values, ["one"] * 60, repeats=400)
    assert flat.high - flat.low < 0.4


@pytest.mark.parametrize("values, clusters", [([], []), ([1.0], ["a", "b"])])
def test_bad_input_is_named(values, clusters):
    with pytest.raises(ValueError, match="equally many"):
        st.mean_interval(values, clusters)


def test_a_gain_that_is_all_length_vanishes_at_equal_length():
    lengths_a = [99] * 6
    lengths_b = [99, 199, 399, 99, 199, 399]
    gain = [math.log((b + 1) / (a + 1)) for a, b in zip(lengths_a, lengths_b, strict=True)]
    found = st.length_matched(
        [1.0] * 6, [1.0 + g for g in gain], lengths_a, lengths_b, ["a", "a", "a", "b", "b", "b"], repeats=200
    )
    assert found.adjusted.mean == pytest.approx(0.0, abs=1e-9)
    # ratios 1, 2, 4, twice over: their geometric mean is 2
    assert found.length_ratio == pytest.approx(2.0)
    assert found.matched is None, "only two of the pairs are about equally long"


def test_a_gain_at_equal_length_stays():
    found = st.length_matched(
        [1.0] * 4, [2.0] * 4, [50, 60, 70, 80], [52, 61, 69, 80], ["a", "a", "b", "b"], repeats=100
    )
    assert found.adjusted.mean == pytest.approx(1.0)
    assert found.matched is not None and found.matched.mean == 1.0 and found.matched.n == 4
