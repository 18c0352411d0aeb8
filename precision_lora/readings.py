"""What the fact checker says: one reading for each quantity, one finding for each fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from precision_lora.quantities import Quantity

Verdict = Literal["supported", "contradicted", "echo", "computed", "unchecked"]
Severity = Literal["veto", "error", "warning"]


@dataclass(frozen=True)
class Reading:
    """How one quantity of an answer stands to the tables.

    ``echo``: the asker's own number. ``computed``: follows from the asker's numbers or from another number of the
    answer (units, BMI, mean) within 5 %. ``unchecked``: no fact speaks of it. ``note`` is the Chinese reason; where
    guidelines differ ``source`` is that of the value that matched.
    """

    quantity: Quantity
    verdict: Verdict
    fact_id: str | None
    source: str
    note: str


@dataclass(frozen=True)
class Finding:
    """A fault in an answer: ``start``/``end`` are offsets in the answer, ``note`` is the Chinese reason.

    Kinds: contradicted_number, wrong_unit, overdose, underdose, contraindicated_drug, wrong_placement, wrong_grade,
    missed_red_flag, harmful_advice, stopped_treatment, unnoticed_overdose.
    """

    kind: str
    start: int
    end: int
    severity: Severity
    source: str
    note: str
