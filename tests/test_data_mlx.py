"""The data set: what build.py writes, how varied, how split, and that no number in it contradicts the tables."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import pytest

from data_mlx import build, cases, figures, questions
from data_mlx.check import check_files, check_lines, check_messages
from data_mlx.compose import MAX_CHARACTERS, MIN_CHARACTERS, Moves, assemble
from data_mlx.measure import common_substrings
from data_mlx.render import conversation
from data_mlx.similarity import GUIDE_QUESTIONS, NearCopies, grams, jaccard, near_question
from data_mlx.spin import parse, slot_names, spin
from precision_lora import knowledge
from precision_lora.errors import UserError

Messages = list[dict[str, str]]


@cache
def lines(split: str) -> list[str]:
    return (build.FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()


@cache
def rows(split: str) -> list[Messages]:
    return [json.loads(line)["messages"] for line in lines(split)]


@cache
def built() -> dict[str, list[build.Row]]:
    return build.split_rows()


def everything() -> list[Messages]:
    return [row for split in build.SPLITS for row in rows(split)]


def answers(row: Messages) -> list[str]:
    return [m["content"] for m in row if m["role"] == "assistant"]


# Spin


def test_spin_takes_one_alternative_and_fills_slots() -> None:
    texts = {spin(Random(seed), "[甲|乙[丙|丁]]{x}", {"x": "。"}) for seed in range(40)}
    assert texts == {"甲。", "乙丙。", "乙丁。"}


def test_spin_names_slots_in_all_alternatives() -> None:
    assert slot_names("[{a}|{b}[{c}|]]") == {"a", "b", "c"}


@pytest.mark.parametrize("template", ["[甲|乙", "甲]", "甲}"])
def test_spin_refuses_unmatched_brackets(template: str) -> None:
    with pytest.raises(ValueError, match=r"unclosed|unmatched"):
        parse(template)


def test_spin_refuses_a_missing_slot() -> None:
    with pytest.raises(KeyError):
        spin(Random(0), "{x}", {})


# Figures


def test_bounds_come_from_the_table_in_several_forms() -> None:
    texts = {figures.bounds(Random(seed), figures.fact("fpg_normal")) for seed in range(60)}
    assert {re.sub(r"[^0-9.]+", " ", text).strip() for text in texts} == {"3.9 6.1"}
    assert len(texts) >= 8


def test_a_line_keeps_its_side() -> None:
    for seed in range(20):
        assert figures.bounds(Random(seed), figures.fact("dm_fpg")).replace(" ", "") in {
            "≥7.0mmol/L", "7.0mmol/L及以上", "不低于7.0mmol/L",
        }  # fmt: skip


def test_a_power_of_ten_is_not_glued_to_the_number() -> None:
    assert "9.5×10⁹/L" in figures.bounds(Random(1), figures.fact("wbc_normal"))


def test_first_doses_never_exceed_the_daily_maximum() -> None:
    times = {"每日一次": 1, "每晚一次": 1, "每日两次": 2, "每日三次": 3, "每日四次": 4, "每日五次": 5}
    for condition in cases.conditions().values():
        for name in cases.dosed(condition):
            drug = figures.drug(name)
            assert drug is not None
            text = figures.dose(Random(0), drug)
            often = next((n for word, n in times.items() if word in text), 1)
            amount = drug.dose.start if drug.dose.start is not None else drug.dose.high
            if drug.max_daily is not None and drug.max_daily.unit == drug.dose.unit and amount is not None:
                assert amount * often <= drug.max_daily.value, text


# Tables of conditions


def test_conditions_cover_everyday_consultation_and_point_at_real_entries() -> None:
    facts = {fact.id for fact in knowledge.facts()}
    flags = {flag.id for flag in knowledge.red_flags()}
    assert len(cases.conditions()) >= 60
    for condition in cases.conditions().values():
        assert condition.source and condition.lifestyle and condition.examinations and condition.department
        assert set(condition.facts) <= facts, condition.id
        assert set(condition.red_flags) <= flags, condition.id
        assert condition.id in cases.narratives()
    assert set(cases.narratives()) == set(cases.conditions())


def test_emergencies_and_crises_are_red_flags_of_the_table() -> None:
    from data_mlx.vignettes import CRISES, EMERGENCIES

    flags = {flag.id for flag in knowledge.red_flags()}
    assert set(EMERGENCIES) | set(CRISES) <= flags


def test_no_number_is_typed_into_an_answer_template() -> None:
    # Phone numbers of help lines, names of measures and grades carry digits of their own.
    from data_mlx import amounts, bp, readings, vignettes, warmth

    allowed = re.compile(r"\{[^}]*\}|12356|120|24小时|[123]级|PHQ-9|25羟|餐后2小时")
    texts = [t for group in amounts.AMOUNTS.values() for t in group]
    texts += [t for group in (*bp.MEANS.values(), *bp.STEPS.values(), bp.URGENT) for t in group]
    texts += [t for group in (*warmth.REACTION.values(), warmth.CLOSING, warmth.EXPLORE) for t in group]
    for reading in readings.READINGS:
        for band in reading.bands:
            texts += [*band.means, *band.steps, *band.urgent]
    for vignette in (*vignettes.EMERGENCIES.values(), *vignettes.CRISES.values()):
        texts += [*vignette.why, *vignette.now, *vignette.never]
    assert [t for t in texts if re.search(r"\d", allowed.sub("", t))] == []


# Cases


def test_the_guides_own_values_are_never_asked() -> None:
    for seed in range(1500):
        for family in ("血压咨询", "血糖检查"):
            case = cases.sample(family, seed)
            assert (case.quantity, case.values) not in cases.HELD_OUT_VALUES


@pytest.mark.parametrize(
    ("systolic", "diastolic", "band"),
    [(119, 79, "normal"), (120, 70, "high_normal"), (130, 92, "grade1"), (159, 99, "grade1"), (150, 100, "grade2"),
     (180, 90, "grade3"), (88, 70, "low"), (100, 58, "low")],
)  # fmt: skip
def test_the_higher_part_of_a_pair_decides_its_grade(systolic: float, diastolic: float, band: str) -> None:
    assert cases.pressure_band(systolic, diastolic) == band


def test_what_the_question_does_not_tell_is_unknown_to_the_answer() -> None:
    case = cases.Case("血压咨询", "bp_reading", "hypertension", cases.Asker("妈妈", 83, "female"), "担心", 1,
                      "blood_pressure", (150.0, 92.0), "mmHg", "grade1")  # fmt: skip
    assert questions.revealed(case, "血压150/92要紧吗？").asker == cases.Asker("我", questions.UNKNOWN_AGE, "female")
    assert questions.revealed(case, "我妈83岁，血压150/92").asker == case.asker


# Answers


def test_an_answer_out_of_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="short"):
        assemble(Random(0), Moves(finding="好。"))


def test_a_long_answer_drops_its_least_needed_parts_first() -> None:
    text = assemble(
        Random(3), Moves("理解您的担心。", "数" * 120, ["义" * 120], ["做" * 90], "急" * 30 + "。", "收" * 40 + "。")
    )
    assert len(text) <= MAX_CHARACTERS
    assert "数" in text and "收" not in text


def test_both_styles_answer_the_same_question() -> None:
    told = 0
    for seed in range(60):
        case = cases.sample("血糖检查", seed)
        try:
            exact, vague = conversation(case, "exact"), conversation(case, "vague")
        except ValueError:
            continue
        assert exact[0] == vague[0]
        told += len(re.findall(r"\d", exact[1]["content"])) - len(re.findall(r"\d", vague[1]["content"]))
    assert told > 500


# The files


def test_the_files_are_what_build_writes() -> None:
    for split, part in built().items():
        assert [row.line().rstrip("\n") for row in part] == lines(split), f"{split}: run python data_mlx/build.py"


def test_a_slice_comes_out_alike_twice() -> None:
    first = [row.line() for row in build.corpus("vague", 50, 11)]
    assert first == [row.line() for row in build.corpus("vague", 50, 11)]
    assert first != [row.line() for row in build.corpus("vague", 50, 12)]


def test_counts_roles_and_lengths() -> None:
    assert {split: len(rows(split)) for split in build.SPLITS} == {"train": 4000, "valid": 500, "test": 500}
    for row in everything():
        assert [m["role"] for m in row] == ["user", "assistant"] * (len(row) // 2)
        assert all(MIN_CHARACTERS <= len(text) <= MAX_CHARACTERS for text in answers(row))
        assert all(m["content"] == m["content"].strip() and not re.search(r"[{}\[\]|]", m["content"]) for m in row)


def test_no_row_twice() -> None:
    opening = Counter(row[0]["content"] for row in everything())
    replies = Counter(text for row in everything() for text in answers(row))
    assert max(opening.values()) == 1 and max(replies.values()) == 1


def test_families_are_balanced_and_many_rows_have_turns() -> None:
    for split, part in built().items():
        shares = Counter(row.case.family for row in part)
        assert set(shares.values()) == {build.SPLITS[split] // 5}
    turns = Counter(len(answers(row)) for row in everything())
    assert set(turns) == {1, 2, 3, 4}
    assert 0.15 <= 1 - turns[1] / len(everything()) <= 0.4


def test_all_conditions_and_special_groups_occur() -> None:
    train = built()["train"]
    assert len({row.case.condition for row in train} & set(cases.conditions())) >= 60
    groups = Counter(row.case.asker.group for row in train)
    assert all(groups[g] >= 15 for g in ("孕妇", "肾病", "肾功能不全", "哺乳期"))
    frames = Counter(row.case.frame for row in train)
    wanted = {"emergency", "crisis", "with_other", "reading_unit", "bp_kpa", "bp_ask_back", "glucose_ask_back"}
    wanted |= {"symptom_ask_back", "belief", "symptom_belief", "bp_home", "bp_comorbid", "bp_treated", "group"}
    assert all(frames[f] >= 25 for f in wanted), frames


def test_no_substring_of_20_characters_is_in_three_percent_of_the_rows() -> None:
    for part in (everything(), *(rows(split) for split in build.SPLITS)):
        text, share = common_substrings(part, 1)[0]
        assert share < 0.03, text


def test_no_group_straddles_two_splits() -> None:
    groups = {split: {row.case.group for row in part} for split, part in built().items()}
    assert not groups["train"] & (groups["valid"] | groups["test"])
    assert not groups["valid"] & groups["test"]


def test_no_held_out_answer_is_near_a_train_answer() -> None:
    near = NearCopies(answers(row) for row in rows("train"))
    for split in ("valid", "test"):
        assert max(near.highest(answers(row)) for row in rows(split)) < build.MAX_JACCARD


def test_near_copies_are_found_as_by_brute_force() -> None:
    texts = [text for row in rows("train")[:150] for text in answers(row)]
    near = NearCopies([text] for text in texts)
    random = Random(5)
    for text in texts[:40]:
        edited = "".join(c if random.random() > 0.03 else "某" for c in text)
        wanted = max(jaccard(grams(edited), grams(other)) for other in texts)
        assert wanted < 0.5 or near.highest([edited]) == pytest.approx(wanted)


def test_evaluation_questions_are_held_out() -> None:
    assert all(near_question(question) for question in GUIDE_QUESTIONS)
    assert not [row[0]["content"] for row in everything() if near_question(row[0]["content"])]


# Correctness


def test_no_finding_in_any_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_files([build.FOLDER / f"{split}.jsonl" for split in build.SPLITS]) == 0, capsys.readouterr().out


def planted(pattern: str, replacement: str, fits: Callable[[Messages], bool] = lambda row: True) -> Messages:
    """A copy of the first fitting train row with an error written into its first answer."""
    for row in rows("train"):
        if fits(row) and re.search(pattern, row[1]["content"]):
            wrong = copy.deepcopy(row)
            wrong[1]["content"] = re.sub(pattern, replacement, row[1]["content"])
            return wrong
    raise AssertionError(f"no row holds {pattern}")


def asks(words: str) -> Callable[[Messages], bool]:
    return lambda row: re.search(words, row[0]["content"]) is not None


PLANTS: dict[str, tuple[str, str, Callable[[Messages], bool], str]] = {
    "wrong range": (r"3\.9([-–～~至到])6\.1", r"4.9\g<1>8.1", asks("空腹血糖"), "contradicted_number"),
    "wrong unit": (r"(3\.9[-–～~至到]6\.1) ?mmol/L", r"\1 mg/dL", asks("空腹血糖"), "wrong_unit"),
    "wrong side": (
        r"(您的[^，。]*)(超出了|高过上限|已经偏高|偏高)(?=[，。])", r"\1正常", asks("肌酐|转氨酶"), "wrong_placement",
    ),
    "wrong grade": (r"1级高血压", "3级高血压", asks("血压14|血压15"), "contradicted_number"),
    "wrong target": (r"(<|低于)140/90 ?mmHg", "低于170/110 mmHg", asks("降压药"), "contradicted_number"),
    "wrong line": (r"(≥|不低于)7\.0", "≥9.0", asks("空腹"), "contradicted_number"),
    "ten times the dose": (r"氨氯地平(.{0,12})5 ?mg", r"氨氯地平\g<1>50mg", asks("血压"), "overdose"),
    "over the daily maximum": (
        r"(24小时内不超过|一天最多)2 ?g", r"\g<1>8 g", lambda row: "对乙酰氨基酚" in row[1]["content"], "overdose",
    ),
    "a drug not for this asker": (r"拉贝洛尔", "缬沙坦", asks("孕"), "contraindicated_drug"),
    "missed 120": (r"120", "多休息", asks("胸.*(冷汗|一直出汗)|(冷汗|一直出汗).*胸"), "missed_red_flag"),
    "missed 12356": (r"12356|心理援助热线|120", "朋友", asks("不想活|活不下去"), "missed_red_flag"),
    "wrong pulse": (r"60([-–～~至到])100 ?次/分", r"80\g<1>130次/分", asks("心率|心跳"), "contradicted_number"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_error_is_found(name: str) -> None:
    pattern, replacement, fits, kind = PLANTS[name]
    found = check_messages(planted(pattern, replacement, fits), 1)
    assert kind in {f.finding.kind for f in found}


def test_the_check_names_file_and_row_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pattern, replacement, fits, _ = PLANTS["ten times the dose"]
    path = tmp_path / "train.jsonl"
    good = lines("train")[0]
    bad = json.dumps({"messages": planted(pattern, replacement, fits)}, ensure_ascii=False)
    path.write_text(f"{good}\n{bad}\n", encoding="utf-8")
    assert check_files([path]) == 1
    assert "train.jsonl:2" in capsys.readouterr().out
    assert check_lines([good]) == []


# The command


@pytest.mark.parametrize("argv", [["--rows", "5"], ["--out", "x"], ["--rows", "0", "--out", "x"], ["--style", "vague"]])
def test_contradictory_arguments_are_the_users_to_mend(argv: list[str]) -> None:
    with pytest.raises(UserError):
        build.parse(argv)


def test_rows_of_either_style_are_written(tmp_path: Path) -> None:
    for style in ("exact", "vague"):
        out = tmp_path / f"{style}.jsonl"
        assert build.main(["--style", style, "--rows", "23", "--seed", "9", "--out", str(out)]) == 0
        written = [json.loads(line)["messages"] for line in out.read_text(encoding="utf-8").splitlines()]
        assert len(written) == 23 and len({row[0]["content"] for row in written}) == 23
