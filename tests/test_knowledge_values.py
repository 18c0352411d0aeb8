"""The values in the tables of quantities, units, facts and drugs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from precision_lora import knowledge

FACTS = {fact.id: fact for fact in knowledge.facts()}
MEASURES = {measure.id: measure for measure in knowledge.quantities_table()}
UNITS = {unit.unit: unit for unit in knowledge.units()}
DRUGS = {drug.name: drug for drug in knowledge.drugs()}

# Intakes in 24 hours; what is taken on some days only, or when needed, counts as one.
INTAKES = {
    **dict.fromkeys(("每日一次", "每晚一次", "单次", "必要时", "每5分钟一次"), 1),
    **dict.fromkeys(("每周一次", "每周两次", "每两周一次", "每月一次"), 1),
    **dict.fromkeys(("每日两次", "每12小时一次"), 2),
    **dict.fromkeys(("每日三次", "每6～8小时一次"), 3),
    **dict.fromkeys(("每日四次", "每4～6小时一次", "每6小时一次"), 4),
    **dict.fromkeys(("每日五次",), 5),
    **dict.fromkeys(("每日六次", "每4小时一次"), 6),
}


def ranges(fact: knowledge.Fact) -> list[tuple[knowledge.Bound, knowledge.Bound]]:
    """(low, high) of the fact and of every alternative."""
    return [(fact.low, fact.high), *((other.low, other.high) for other in fact.alternatives)]


def repeated(items: Iterable[str]) -> list[str]:
    return sorted(item for item, count in Counter(items).items() if count > 1)


def test_the_tables_are_as_large_as_everyday_consultation_needs() -> None:
    assert len(MEASURES) >= 120
    assert len(FACTS) >= 280
    assert len(DRUGS) >= 230
    assert len(UNITS) >= 100


def test_nothing_is_named_twice() -> None:
    assert repeated(name for drug in DRUGS.values() for name in (drug.name, *drug.aliases)) == []
    assert repeated(name for measure in MEASURES.values() for name in measure.names) == []
    assert repeated(form for unit in UNITS.values() for form in (unit.unit, *unit.forms)) == []


def test_every_entry_has_a_source() -> None:
    sources = [fact.source for fact in FACTS.values()] + [drug.source for drug in DRUGS.values()]
    sources += [measure.source for measure in MEASURES.values()] + [unit.source for unit in UNITS.values()]
    sources += [other.source for fact in FACTS.values() for other in fact.alternatives]
    assert all(source.strip() for source in sources)


def test_quantities_use_known_units_of_their_dimension() -> None:
    for measure in MEASURES.values():
        if measure.unit is not None:
            assert UNITS[measure.unit].dimension == measure.dimension, measure.id
        assert set(measure.conversions) <= set(UNITS), measure.id
        assert measure.unit not in measure.conversions, measure.id


def test_facts_speak_of_known_quantities_in_their_unit_within_what_is_plausible() -> None:
    for fact in FACTS.values():
        measure = MEASURES[fact.quantity]
        assert fact.unit == measure.unit, fact.id
        for low, high in ranges(fact):
            for bound in (low, high):
                assert bound is None or isinstance(bound, tuple) == measure.pair, fact.id
                first = bound[0] if isinstance(bound, tuple) else bound
                assert first is None or measure.plausible[0] <= first <= measure.plausible[1], (fact.id, first)
        assert fact.age is None or fact.age[0] <= fact.age[1] <= 120, fact.id


def test_ranges_run_upwards() -> None:
    for fact in FACTS.values():
        for low, high in ranges(fact):
            if isinstance(low, tuple) and isinstance(high, tuple):
                assert low[0] < high[0] and low[1] < high[1], fact.id
                assert low[0] > low[1] and high[0] > high[1], fact.id
            elif isinstance(low, float) and isinstance(high, float):
                assert low <= high, fact.id
        if fact.meaning == "grade" and fact.low is not None and fact.high is not None:
            assert fact.low != fact.high, fact.id


def test_an_alternative_differs_from_the_fact() -> None:
    for fact in FACTS.values():
        assert all((one.low, one.high) != (fact.low, fact.high) for one in fact.alternatives), fact.id


def test_drug_doses_are_consistent() -> None:
    for drug in DRUGS.values():
        dose = drug.dose
        assert dose.unit is None or dose.unit in UNITS, drug.name
        assert dose.frequency and all(frequency in INTAKES for frequency in dose.frequency), drug.name
        assert (dose.low is None) == (dose.high is None), drug.name
        if dose.low is not None and dose.high is not None:
            assert 0 < dose.low <= dose.high, drug.name
            assert dose.start is None or dose.low <= dose.start <= dose.high, drug.name
        if drug.max_daily is not None:
            assert drug.max_daily.unit in (dose.unit, f"{dose.unit}/天"), drug.name
            intakes = [INTAKES[frequency] for frequency in dose.frequency]
            highest, lowest = dose.high or 0.0, dose.low or 0.0
            # The highest dose at its rarest and the lowest at its most frequent are both allowed in a day.
            usual = max(highest * min(intakes), lowest * max(intakes))
            assert drug.max_daily.value >= usual - 1e-9, drug.name


def test_no_drug_group_is_both_forbidden_and_allowed_with_care() -> None:
    for drug in DRUGS.values():
        assert repeated(one.group for one in drug.contraindications) == [], drug.name
        assert repeated(one.other for one in drug.interactions) == [], drug.name


@pytest.mark.parametrize(
    ("fact_id", "low", "high", "unit"),
    [
        ("htn_office", (140, 90), None, "mmHg"),
        ("htn_home", (135, 85), None, "mmHg"),
        ("htn_24h", (130, 80), None, "mmHg"),
        ("htn_night", (120, 70), None, "mmHg"),
        ("htn_grade1", (140, 90), (159, 99), "mmHg"),
        ("htn_grade2", (160, 100), (179, 109), "mmHg"),
        ("htn_grade3", (180, 110), None, "mmHg"),
        ("bp_high_normal", (120, 80), (139, 89), "mmHg"),
        ("bp_target_general", None, (140, 90), "mmHg"),
        ("bp_target_65_79", None, (140, 90), "mmHg"),
        ("bp_target_80", None, (150, 90), "mmHg"),
        ("bp_start_drugs_now", (160, 100), None, "mmHg"),
        ("bp_lifestyle_trial", 4, 12, "周"),
        ("bp_rest", 5, None, "分钟"),
        ("bp_reading_gap", 30, 60, "秒"),
        ("amlodipine_dose", 2.5, 10, "mg/天"),
        ("amlodipine_start", 5, 5, "mg/天"),
        ("nifedipine_gits_dose", 30, 60, "mg/天"),
        ("valsartan_dose", 80, 160, "mg/天"),
        ("losartan_dose", 25, 100, "mg/天"),
        ("irbesartan_dose", 150, 300, "mg/天"),
        ("perindopril_dose", 4, 8, "mg/天"),
        ("indapamide_dose", 0.625, 2.5, "mg/天"),
        ("metoprolol_sr_dose", 47.5, 190, "mg/天"),
        ("salt", None, 5, "g/天"),
        ("fpg_normal", 3.9, 6.1, "mmol/L"),
        ("ifg", 6.1, 6.9, "mmol/L"),
        ("igt", 7.8, 11.0, "mmol/L"),
        ("dm_fpg", 7.0, None, "mmol/L"),
        ("dm_2h", 11.1, None, "mmol/L"),
        ("dm_random", 11.1, None, "mmol/L"),
        ("dm_hba1c", 6.5, None, "%"),
        ("dm_target_hba1c", None, 7.0, "%"),
        ("dm_target_fpg", 4.4, 7.0, "mmol/L"),
        ("dm_target_nonfasting", None, 10.0, "mmol/L"),
        ("hypo_dm", None, 3.9, "mmol/L"),
        ("hypo_rescue_sugar", 15, 15, "g"),
        ("hypo_rescue_recheck", 15, 15, "分钟"),
        ("metformin_start", 500, 500, "mg/天"),
        ("metformin_best", 2000, 2000, "mg/天"),
        ("metformin_stop_egfr", None, 45, "mL/min/1.73m²"),
        ("acarbose_start", 50, 50, "mg"),
        ("tc_ok", None, 5.2, "mmol/L"),
        ("tg_ok", None, 1.7, "mmol/L"),
        ("ldl_ok", None, 3.4, "mmol/L"),
        ("hdl_low", None, 1.0, "mmol/L"),
        ("ldl_goal_low", None, 3.4, "mmol/L"),
        ("ldl_goal_middle_high", None, 2.6, "mmol/L"),
        ("ldl_goal_very_high", None, 1.8, "mmol/L"),
        ("ldl_goal_ultra", None, 1.4, "mmol/L"),
        ("atorvastatin_moderate", 10, 20, "mg/天"),
        ("rosuvastatin_moderate", 5, 10, "mg/天"),
        ("simvastatin_moderate", 20, 40, "mg/天"),
        ("hyperuricemia", 420, None, "μmol/L"),
        ("gout_target", None, 360, "μmol/L"),
        ("febuxostat_start", 20, 20, "mg/天"),
        ("alt_male", 9, 50, "U/L"),
        ("alt_female", 7, 40, "U/L"),
        ("ast_male", 15, 40, "U/L"),
        ("ast_female", 13, 35, "U/L"),
        ("cr_male", 57, 97, "μmol/L"),
        ("cr_female", 41, 73, "μmol/L"),
        ("k_normal", 3.5, 5.3, "mmol/L"),
        ("na_normal", 137, 147, "mmol/L"),
        ("alb_normal", 40, 55, "g/L"),
        ("hb_male", 130, 175, "g/L"),
        ("hb_female", 115, 150, "g/L"),
        ("wbc_normal", 3.5, 9.5, "10⁹/L"),
        ("plt_normal", 125, 350, "10⁹/L"),
        ("tsh_normal", 0.27, 4.2, "mIU/L"),
        ("bmi_normal", 18.5, 23.9, "kg/m²"),
        ("bmi_overweight", 24.0, 27.9, "kg/m²"),
        ("bmi_obese", 28.0, None, "kg/m²"),
        ("fever", 37.3, None, "℃"),
        ("high_fever", 39.1, 41.0, "℃"),
        ("hr_normal", 60, 100, "次/分"),
        ("spo2_normal", 95, 100, "%"),
        ("spo2_hypoxaemia", None, 90, "%"),
        ("paracetamol_dose", 0.5, 0.5, "g"),
        ("paracetamol_gap", 4, 6, "小时"),
        ("paracetamol_doses", None, 4, "次/天"),
        ("paracetamol_daily", None, 2, "g/天"),
        ("ibuprofen_sr_dose", 0.3, 0.3, "g"),
        ("ibuprofen_daily", None, 1.2, "g/天"),
        ("fever_selfcare", None, 3, "天"),
        ("pain_selfcare", None, 5, "天"),
        ("aspirin_antithrombotic", 75, 100, "mg/天"),
        ("chest_pain_120", 15, None, "分钟"),
        ("helpline", 12356, 12356, None),
        # Beyond the core list.
        ("gdm_fasting", 5.1, None, "mmol/L"),
        ("gdm_1h", 10.0, None, "mmol/L"),
        ("gdm_2h", 8.5, None, "mmol/L"),
        ("paracetamol_child", 10, 15, "mg/kg"),
        ("ibuprofen_child", 5, 10, "mg/kg"),
        ("waist_male", 90, None, "cm"),
        ("waist_female", 85, None, "cm"),
        ("exercise", 150, 300, "分钟/周"),
        ("copd_fev1fvc", None, 70, "%"),
        ("egfr_g3a", 45, 59, "mL/min/1.73m²"),
        ("stroke_iv", None, 4.5, "小时"),
    ],
)  # fmt: skip
def test_values_by_hand(fact_id: str, low: object, high: object, unit: str | None) -> None:
    fact = FACTS[fact_id]
    assert (fact.low, fact.high, fact.unit) == (low, high, unit)


@pytest.mark.parametrize(
    ("fact_id", "low", "high"),
    [
        ("htn_office", (130, 80), None),
        ("ifg", 5.6, 6.9),
        ("hyperuricemia", 360, None),
        ("k_normal", 3.5, 5.5),
        ("wbc_normal", 4, 10),
        ("paracetamol_daily", None, 4),
        ("metformin_stop_egfr", None, 30),
    ],
)
def test_where_sources_disagree_both_values_stand(fact_id: str, low: object, high: object) -> None:
    assert (low, high) in [(one.low, one.high) for one in FACTS[fact_id].alternatives]


@pytest.mark.parametrize(
    ("measure_id", "unit", "value", "canonical", "tolerance"),
    [
        ("fasting_glucose", "mg/dL", 126, 7.0, 0.005),  # 126 / 18.0
        ("total_cholesterol", "mg/dL", 126, 3.26, 0.005),  # 126 / 38.67
        ("ldl_c", "mg/dL", 100, 2.59, 0.005),  # 100 / 38.67
        ("triglycerides", "mg/dL", 150, 1.69, 0.005),  # 150 / 88.57
        ("creatinine", "mg/dL", 1.0, 88.4, 0.01),
        ("uric_acid", "mg/dL", 7.0, 416.4, 0.1),  # 7 × 59.48
        ("total_bilirubin", "mg/dL", 1.0, 17.1, 0.01),
        ("transcutaneous_bilirubin", "μmol/L", 171, 10.0, 0.01),  # 171 / 17.1
        ("hemoglobin", "g/dL", 13.0, 130, 1e-9),
        ("calcium", "mg/dL", 10.0, 2.495, 0.002),  # 10 × 10 / 40.08
        ("urea", "mg/dL", 14.0, 5.0, 0.005),  # urea nitrogen: 14 × 10 / 28.01
        ("urine_acr", "mg/mmol", 3.4, 30, 0.1),  # creatinine 113.1 g/mol
        ("vitamin_d", "nmol/L", 50, 20, 0.1),  # 400.6 g/mol
        ("systolic", "kPa", 16, 120, 0.05),  # 1 kPa = 7.50062 mmHg
        ("weight", "斤", 120, 60, 1e-9),
        ("white_cells", "个/μL", 8000, 8.0, 1e-9),
        ("vitamin_d_per_day", "μg/天", 10, 400, 1e-9),
        ("exercise_per_week", "小时", 2.5, 150, 1e-9),
    ],
)
def test_conversions_by_hand(measure_id: str, unit: str, value: float, canonical: float, tolerance: float) -> None:
    assert value * MEASURES[measure_id].conversions[unit] == pytest.approx(canonical, abs=tolerance)


def test_a_converted_diagnostic_line_is_not_lost_to_rounding() -> None:
    # 126 mg/dL is the diabetes line itself; a factor rounded down would read it as below 7.0 mmol/L.
    line = FACTS["dm_fpg"].low
    assert isinstance(line, float)
    assert 126 * MEASURES["fasting_glucose"].conversions["mg/dL"] >= line
    assert 125 * MEASURES["fasting_glucose"].conversions["mg/dL"] < line


@pytest.mark.parametrize(
    ("name", "low", "high", "unit", "max_daily"),
    [
        ("氨氯地平", 2.5, 10, "mg", 10),
        ("二甲双胍", 250, 1000, "mg", 2550),
        ("对乙酰氨基酚", 0.3, 0.5, "g", 2),
        ("布洛芬", 0.2, 0.4, "g", 1.2),
        ("布洛芬混悬液", 5, 10, "mg/kg", 40),
        ("瑞舒伐他汀", 5, 20, "mg", 20),
        ("左甲状腺素", 12.5, 200, "μg", None),
        ("地高辛", 0.0625, 0.25, "mg", None),
        ("左氧氟沙星", 0.2, 0.75, "g", 0.75),
        ("唑吡坦", 5, 10, "mg", 10),
        ("华法林", None, None, "mg", None),
    ],
)
def test_drugs_by_hand(name: str, low: float | None, high: float | None, unit: str, max_daily: float | None) -> None:
    drug = DRUGS[name]
    assert (drug.dose.low, drug.dose.high, drug.dose.unit) == (low, high, unit)
    assert (drug.max_daily.value if drug.max_daily else None) == max_daily


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("依那普利", "孕妇"),
        ("缬沙坦", "孕妇"),
        ("阿托伐他汀", "孕妇"),
        ("左氧氟沙星", "儿童（<18岁）"),
        ("多西环素", "儿童（<8岁）"),
        ("异维A酸", "孕妇"),
        ("二甲双胍", "中重度肾功能不全（eGFR<45）"),
        ("美托洛尔", "支气管哮喘"),
        ("西地那非", "正在使用硝酸酯类"),
        ("布洛芬", "活动性消化性溃疡"),
        ("阿莫西林", "青霉素过敏"),
    ],
)
def test_who_must_not_take_it(name: str, group: str) -> None:
    assert (group, "禁用") in [(one.group, one.strength) for one in DRUGS[name].contraindications]


@pytest.mark.parametrize("otc", ["对乙酰氨基酚", "布洛芬", "氯雷他定", "蒙脱石散"])
def test_medicines_sold_without_prescription(otc: str) -> None:
    assert DRUGS[otc].otc


@pytest.mark.parametrize("prescription", ["阿莫西林", "舍曲林", "华法林", "阿普唑仑", "左甲状腺素"])
def test_medicines_that_need_a_prescription(prescription: str) -> None:
    assert not DRUGS[prescription].otc
