"""The phase table by hand: design §3."""

import numpy as np
import pytest

from precision_lora.phases import KIND_BITS, KINDS, mean_weight, phase_at, phases_for, weight_table

TERM, NUMBER, DIAGNOSIS, TREATMENT, EMPATHY = (KIND_BITS[kind] for kind in KINDS)


def test_default_run_has_the_boundaries_of_the_guide():
    first, second, third = phases_for(5200)
    assert (first.start, first.end) == (0, 2000)
    assert (second.start, second.end) == (2000, 4000)
    assert (third.start, third.end) == (4000, 5200)
    assert phase_at(1999, phases_for(5200)).index == 1
    assert phase_at(2000, phases_for(5200)).index == 2
    assert phase_at(3999, phases_for(5200)).index == 2
    assert phase_at(4000, phases_for(5200)).index == 3
    assert phase_at(9999, phases_for(5200)).index == 3


@pytest.mark.parametrize("steps", [3, 4, 5, 10, 100, 777, 6000])
def test_every_run_of_three_steps_or_more_sees_all_phases(steps):
    phases = phases_for(steps)
    assert [phase_at(step, phases).index for step in range(steps)] == sorted(
        phase_at(step, phases).index for step in range(steps)
    )
    assert {phase_at(step, phases).index for step in range(steps)} == {1, 2, 3}
    assert phases[0].start == 0 and phases[-1].end == steps


@pytest.mark.parametrize("steps", [1, 2])
def test_tiny_runs_still_have_a_phase_for_each_step(steps):
    assert all(phase_at(step, phases_for(steps)).end > step for step in range(steps))


def test_weights_of_the_guide():
    first, second, third = (weight_table(phase, 2.0, 1.0) for phase in phases_for(5200))
    assert first[0] == second[0] == third[0] == 1.0
    assert first[TERM] == first[NUMBER] == pytest.approx(3.0)
    assert first[DIAGNOSIS] == first[TREATMENT] == pytest.approx(2.0)
    assert first[EMPATHY] == pytest.approx(0.8)
    assert second[TERM] == second[NUMBER] == pytest.approx(2.0)
    assert second[DIAGNOSIS] == second[TREATMENT] == pytest.approx(2.6)
    assert second[EMPATHY] == pytest.approx(0.9)
    assert all(third[bit] == pytest.approx(2.0) for bit in (TERM, NUMBER, DIAGNOSIS, TREATMENT))
    assert third[EMPATHY] == pytest.approx(1.0)


def test_overlap_precision_wins_and_the_larger_counts():
    first = weight_table(phases_for(5200)[0], 2.0, 1.0)
    assert first[TERM | DIAGNOSIS] == pytest.approx(3.0)
    assert first[DIAGNOSIS | EMPATHY] == pytest.approx(2.0)
    # A precision weight below the empathy weight still wins: the rule is about kinds, not about size.
    assert weight_table(phases_for(5200)[2], 0.5, 4.0)[TERM | EMPATHY] == pytest.approx(0.5)


def test_mean_weight_by_hand():
    table = weight_table(phases_for(5200)[0], 2.0, 1.0)
    kinds = np.array([0, TERM, EMPATHY], dtype=np.uint8)
    assert mean_weight(table, kinds, np.ones(3, np.float32)) == pytest.approx((1 + 3.0 + 0.8) / 3)
    assert mean_weight(table, kinds, np.array([2, 1, 0], np.float32)) == pytest.approx((2 + 3.0) / 3)
    assert mean_weight(table, kinds, np.zeros(3, np.float32)) == 1.0
