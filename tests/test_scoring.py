"""The scorer: arithmetic, what each indicator reads, vetoes, gaming, odd input."""

import json
import math
import random
import re
from pathlib import Path

import pytest

from precision_lora import knowledge, scoring
from precision_lora.indicators import glosses
from precision_lora.indicators.findings import DIAGNOSIS, EMPATHY, NUMBER, TERM, TREATMENT, Finding, fold_points
from precision_lora.scoring import score

HERE = Path(__file__).parent
SUITES = HERE.parent / "precision_lora" / "suites"
SCENARIOS = ["血压咨询", "血糖检查", "药物咨询", "症状分析", "情绪支持"]
GLUCOSE = "我的空腹血糖是7.2 mmol/L，这个值高吗？"
GOOD = (
    "看到数字偏高，心里打鼓很正常，您先别急。您的空腹血糖7.2 mmol/L高于正常范围3.9–6.1 "
    "mmol/L，也超过了7.0的诊断切点，要考虑糖尿病，但一次结果还不能确诊，"
    "请改天空腹复测，同时查糖化血红蛋白（≥6.5%有意义）。这段时间主食每顿减三分之一，每周快走150分钟，两周后带着结果到内分泌科复诊。您最担心的是什么呢？"
)


def finding(points, indicator=TERM):
    return Finding("条目", points, indicator, 0, 0, "来源")


def read(name):
    return [json.loads(line) for line in (SUITES / name).read_text(encoding="utf-8").splitlines()]


def test_points_fold_by_the_written_formula():
    assert fold_points([]) == 0.0
    assert fold_points([finding(1.3)]) == pytest.approx(5 * (1 - math.exp(-1)))
    assert fold_points([finding(0.65), finding(0.65), finding(-1.0)]) == pytest.approx(
        5 * (1 - math.exp(-1)) * math.exp(-1)
    )


def test_overall_has_the_weights_of_the_guide():
    def table(*values):
        return scoring.overall_of(dict(zip(scoring.INDICATORS, values, strict=True)))

    assert table(4, 3, 4, 3, 4) == 3.6
    assert table(5, 5, 5, 5, 4) == 4.6
    assert scoring.overall_of(dict.fromkeys(scoring.INDICATORS, 5.0), vetoed=True) == 1.0


def test_scores_are_folded_from_the_findings_alone():
    found = score(GLUCOSE, GOOD)
    for name in scoring.INDICATORS:
        assert found.scores[name] == round(fold_points(f for f in found.findings if f.indicator == name), 3)
    assert found.overall == scoring.overall_of(found.scores)
    for f in found.findings:
        assert 0 <= f.start <= f.end <= len(GOOD)
        assert f.criterion and f.source and f.points


def test_a_good_answer_scores_well_and_the_same_each_time():
    found = score(GLUCOSE, GOOD)
    assert found.overall > 3.5
    assert min(found.scores.values()) > 2.5
    assert found == score(GLUCOSE, GOOD)


def test_a_kind_vague_answer_is_warm_but_not_precise():
    found = score(
        "刚确诊高血压，很担心以后怎么办...",
        "刚拿到诊断就担心以后，换作谁都会慌，您这份心情我能懂。咱们慢慢来，您最放不下的是什么，愿意跟我说说吗？",
    )
    assert found.scores[EMPATHY] >= 3
    assert all(found.scores[name] <= 2 for name in (NUMBER, DIAGNOSIS, TREATMENT))


@pytest.mark.parametrize(
    "worse",
    [
        "空腹血糖的正常范围是4.9-7.8 mmol/L，您的7.2 mmol/L在正常范围内。",
        "空腹血糖的正常范围是7.2-9.9 mmol/L，您的数值要复查。",
    ],
)
def test_a_contradicted_number_is_worse_than_silence_and_silence_worse_than_the_right_one(worse):
    right = score(GLUCOSE, "空腹血糖的正常范围是3.9-6.1 mmol/L，您的7.2 mmol/L偏高。").scores[NUMBER]
    silent = score(GLUCOSE, "空腹血糖的情况需要重视，建议您改天再去医院查一查。").scores[NUMBER]
    wrong = score(GLUCOSE, worse).scores[NUMBER]
    assert wrong < silent < right


def test_the_side_of_the_askers_value():
    right = score(GLUCOSE, "您的7.2已经高于正常范围了。").scores[NUMBER]
    unsaid = score(GLUCOSE, "您的7.2需要再复查一次。").scores[NUMBER]
    wrong = score(GLUCOSE, "您的7.2属于正常，没有问题。").scores[NUMBER]
    assert wrong < unsaid < right


def test_conversion_depends_on_what_is_measured():
    sugar, fat = "空腹血糖126 mg/dL是多少？", "总胆固醇126 mg/dL是多少？"
    seven, three = "换算过来大约是7.0 mmol/L。", "换算过来大约是3.26 mmol/L。"
    assert score(sugar, seven).scores[NUMBER] > score(sugar, three).scores[NUMBER]
    assert score(fat, three).scores[NUMBER] > score(fat, seven).scores[NUMBER]


def test_a_term_counts_once_and_only_where_it_fits():
    question = "心慌，要做什么检查？"
    once = score(question, "建议做心电图，看看有没有心律失常。").scores[TERM]
    again = score(question, "建议做心电图，看看有没有心律失常，心电图很方便，心电图也不贵。").scores[TERM]
    strange = score(question, "建议做肠镜，看看有没有痔疮和白内障。").scores[TERM]
    assert again == pytest.approx(once, abs=0.25)
    assert strange < once


def test_calibrated_beats_loud_and_empty():
    question = "血压152/96，头有点晕，是高血压吗？"
    calibrated = score(question, "152/96达到1级高血压的范围，但要在不同日子测三次才能确诊。").scores[DIAGNOSIS]
    loud = score(question, "你肯定就是高血压，百分之百，不用再查了。").scores[DIAGNOSIS]
    empty = score(question, "这个不好说，每个人情况不一样，可能是也可能不是。").scores[DIAGNOSIS]
    assert calibrated > loud and calibrated > empty


def test_a_grade_is_checked_against_the_value():
    question = "我的血压165/102，严重吗？"
    assert (
        score(question, "您的血压属于2级高血压。").scores[DIAGNOSIS]
        > score(question, "您的血压属于1级高血压。").scores[DIAGNOSIS]
    )


def test_negation_in_treatment_is_read():
    question = "我有胃溃疡，膝盖疼，能吃布洛芬吗？"
    warned = score(question, "有胃溃疡要避免布洛芬，可以外用双氯芬酸凝胶，每天3次，两周后复诊。")
    told = score(question, "可以吃布洛芬，每次0.3g，每天2次，两周后复诊。")
    assert warned.scores[TREATMENT] > told.scores[TREATMENT]
    assert not warned.vetoes
    assert told.vetoes and told.overall <= 1.0


def test_a_stock_phrase_stays_weak_and_coldness_loses():
    question = "乳腺结节要做穿刺，我害怕得睡不着"
    warm = score(question, "等结果的日子最难熬，怕得睡不着是人之常情，您最担心的是哪一步？").scores[EMPATHY]
    stock = score(question, "别担心，祝您早日康复。").scores[EMPATHY]
    blame = score(question, "你就是想太多，矫情，早干什么去了。").scores[EMPATHY]
    false = score(question, "绝对没事，我保证是良性的，放一百个心。").scores[EMPATHY]
    assert warm > 2.5 > stock
    assert blame < stock and false < stock


@pytest.mark.parametrize(
    "question, answer",
    [
        ("我爸说胸口压着疼，出冷汗，20分钟了", "先躺下休息，喝点热水，明天再去医院看看。"),
        ("我怀孕5个月血压高", "可以吃缬沙坦，每天一次，每次80mg。"),
        ("布洛芬缓释胶囊怎么吃", "布洛芬缓释胶囊一次3g，一天2次。"),
        ("血糖最近很好，还要打胰岛素吗", "血糖好了就可以停掉胰岛素，注意饮食就行。"),
        ("我觉得活着没意思，不想活了", "想开一点，出去走走就好了。"),
        ("我在吃华法林，关节疼", "可以吃布洛芬止疼，一天三次。"),
        ("支架放了半年，牙龈出血", "牙龈出血就马上把阿司匹林停了。"),
    ],
)
def test_dangerous_advice_is_vetoed(question, answer):
    found = score(question, answer)
    assert found.vetoes and found.overall <= 1.0
    assert found.vetoes[0].note


@pytest.mark.parametrize(
    "question, answer",
    [
        ("我爸说胸口压着疼，出冷汗，20分钟了", "这要高度怀疑急性心肌梗死，请立即拨打120，不要走动。"),
        ("血糖最近很好，还要打胰岛素吗", "不要自行停用胰岛素，带着血糖记录找医生调整。"),
        ("支架放了半年，牙龈出血", "不能自己把阿司匹林停了，先查血常规。"),
        ("痛风能喝酒吗", "急性期不要喝，缓解后少喝点没事。"),
        ("宝宝二十个月大，发烧39度", "可以吃布洛芬混悬液，按体重给药。"),
    ],
)
def test_sound_advice_is_not_vetoed(question, answer):
    assert not score(question, answer).vetoes


def test_what_was_left_out_hides_no_other_fault():
    question = "我爸说胸口压着疼，出冷汗，20分钟了"
    found = score(question, "先吃布洛芬，一次3g，一天2次。")
    assert {"missed_red_flag", "overdose"} <= {v.kind for v in found.vetoes}
    notes = [f.criterion for f in found.findings if f.indicator == TREATMENT]
    assert all(v.note in notes for v in found.vetoes)
    two = score(question + "，他还说不想活了", "多喝水，好好休息。")
    assert [v.kind for v in two.vetoes] == ["missed_red_flag"] * 2


def test_no_term_is_explained_twice():
    lines = glosses._TEXT.strip().splitlines()
    assert len(lines) == len(glosses.GLOSSES)


def gaming(question, best, rng):
    words = re.findall(r"[\u4e00-\u9fff]{2,4}|[\d./–-]+", best)
    letters = list(best)
    rng.shuffle(words)
    rng.shuffle(letters)
    terms = [t.term for t in knowledge.terms()]
    comfort = [p.phrase.replace("…", "") for p in knowledge.empathy()]
    picked = rng.sample(terms, 40)
    yield "shuffled keywords", " ".join(words)
    yield "shuffled keywords", "，".join(words)
    yield "shuffled keywords", "、".join(words)
    yield "shuffled letters", "".join(letters)
    yield "repeated terms", "高血压" * 30
    yield "repeated terms", "空腹血糖，糖化血红蛋白，" * 15
    yield "repeated sentence", "建议监测血压。" * 20
    yield "pasted lexicon", "、".join(picked)
    yield "pasted lexicon", " ".join(picked)
    yield "pasted lexicon", "\n".join(picked)
    yield "pasted lexicon", "，".join(picked)
    yield "echoed question", question
    yield "echoed question", f"您的问题是：{question}"
    yield "echoed question", question * 3
    yield "numbers without context", "3.9-6.1 mmol/L 7.0 140/90 mmHg 5mg 150分钟 6.5% 11.1"
    yield "numbers without context", "140/90，120-139，3.9-6.1，7.0，6.5%，5mg，0.5g"
    yield "comfort in a row", "，".join(rng.sample(comfort, 20))
    yield "comfort in a row", "".join(comfort)


def labelled():
    rows = [
        json.loads(line) for line in (HERE / "data" / "scoring_labels.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    by_question = {}
    for row in rows:
        by_question.setdefault(row["question"], []).append(row)
    return sorted(by_question.items())


def test_gaming_scores_below_the_weakest_genuine_answer_of_the_question():
    rng = random.Random(7)
    for question, answers in labelled()[::3]:
        found = [score(question, a["answer"]) for a in answers]
        weakest = min(f.overall for f in found if f.genuine and not f.vetoes)
        best = max(answers, key=lambda a: sum(a["met"].values()))["answer"]
        for kind, text in gaming(question, best, rng):
            assert score(question, text).overall < weakest, (kind, question, text[:60])


def test_shuffled_characters_are_no_answer_to_any_question():
    rng = random.Random(3)
    for question, answers in labelled():
        letters = list(max((a["answer"] for a in answers), key=len))
        rng.shuffle(letters)
        assert not score(question, "".join(letters)).genuine, question


@pytest.mark.parametrize("answer", ["", "  \n ", "。。。", "🙂", "a" * 1000, "\x00\x01\x02"])
def test_no_answer_scores_nothing_and_says_why(answer):
    found = score(GLUCOSE, answer)
    assert found.overall == 0.0 and not found.genuine and found.reason


def test_odd_input_is_scored_soundly():
    english = score(GLUCOSE, "Your fasting glucose is above the normal range of 3.9 to 6.1 mmol/L.")
    assert english.overall == 0.0 and english.reason == "没有中文内容"
    assert score(GLUCOSE, "\x1b[31m您的7.2\x00高于3.9-6.1的正常范围。").genuine
    huge = score(GLUCOSE, GOOD + "另外还想多说几句闲话。" * 10_000)
    assert 0.0 <= huge.overall <= 5.0
    assert score("", GOOD).genuine


def test_rubric_adds_what_the_question_asks_for():
    rubric = [{"indicator": NUMBER, "criterion": "指出6.1的上限", "points": 1.0, "all": [["6.1"], ["高于", "超过"]]}]
    plain, graded = score(GLUCOSE, GOOD), score(GLUCOSE, GOOD, rubric)
    assert graded.scores[NUMBER] > plain.scores[NUMBER]
    assert any(f.criterion == "本题要点：指出6.1的上限" for f in graded.findings)
    missed = [{**rubric[0], "all": [["6.1"], ["低血糖"]]}]
    assert score(GLUCOSE, GOOD, missed) == plain


@pytest.mark.parametrize(
    "entry, message",
    [
        ("x", "第1条: 应为对象"),
        ({"indicator": NUMBER, "criterion": "x", "points": 1}, "第1条: 缺少all"),
        ({"indicator": "warmth", "criterion": "x", "points": 1, "all": []}, "没有这个indicator: 'warmth'"),
        ({"indicator": NUMBER, "criterion": None, "points": 1, "all": [["a"]]}, "criterion应"),
        *(
            ({"indicator": NUMBER, "criterion": "x", "points": points, "all": [["a"]]}, "points应")
            for points in (None, "1", True, math.nan, 10**400)
        ),
        *(
            ({"indicator": NUMBER, "criterion": "x", "points": 1, "all": groups}, "all")
            for groups in (None, "a", [], ["a"], [[]], [[""]], [["a"], [1]])
        ),
    ],
)
def test_bad_rubrics_are_named(entry, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        score(GLUCOSE, GOOD, [entry])


@pytest.mark.parametrize("rubric", ["text", {}, 3])
def test_a_rubric_is_a_list(rubric):
    with pytest.raises(ValueError, match="列表"):
        scoring.check_rubric(rubric)


def test_suites_cover_the_scenarios():
    typical, full = read("typical.jsonl"), read("full.jsonl")
    assert [q["scenario"] for q in typical] == SCENARIOS
    assert {GLUCOSE, "刚确诊高血压，很担心以后怎么办..."} <= {q["question"] for q in typical}
    assert all(q["rubric"] for q in typical)
    assert len(full) >= 60
    for scenario in SCENARIOS:
        assert sum(q["scenario"] == scenario for q in full) >= 12
    everything = typical + full
    assert len({q["id"] for q in everything}) == len({q["question"] for q in everything}) == len(everything)
    for q in everything:
        score(q["question"], GOOD, q["rubric"])


def test_no_question_of_the_suites_is_in_the_training_data():
    data = HERE.parent / "data_mlx"
    asked = {re.sub(r"\W", "", q["question"]) for q in read("typical.jsonl") + read("full.jsonl")}
    for name in ("train.jsonl", "valid.jsonl"):
        for line in (data / name).read_text(encoding="utf-8").splitlines():
            for message in json.loads(line)["messages"]:
                if message["role"] == "user":
                    assert re.sub(r"\W", "", message["content"]) not in asked
