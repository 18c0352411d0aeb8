"""The report's arithmetic, the script on given answers, and the page clicked in a real browser."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import evaluate_v3_model
from precision_lora import evaluation, page, plots, report
from precision_lora.errors import UserError
from precision_lora.labels import INDICATOR_ORDER, relative, share_of_scale, stars

PROJECT = Path(__file__).resolve().parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
GLUCOSE = "我的空腹血糖是7.2 mmol/L，这个值高吗？"
VAGUE = "您好，别担心。看您的数值有一点偏高，平时适当注意就好，有空去医院看看。"
EXACT = (
    "您好，看到数值偏高会紧张，这很自然。您的空腹血糖7.2 mmol/L高于正常范围3.9～6.1 mmol/L，也达到了≥7.0 mmol/L的诊断线"
    "，但一次结果还不能确诊，建议改日复查空腹血糖并查糖化血红蛋白。每周运动150分钟，主食定量，3个月后复查。您最近有没有口渴？"
)
DANGEROUS = "没事的，您可以自己停用胰岛素，二甲双胍每次5克，每日三次。"


def lines(*answers):
    return "\n".join(json.dumps(answer, ensure_ascii=False) for answer in answers)


def given(identifier, system, answer, question=GLUCOSE, scenario="血糖检查"):
    return {"id": identifier, "scenario": scenario, "system": system, "question": question, "answer": answer}


def evaluated(*answers):
    entries = [evaluation.Answer(**answer) for answer in answers]
    systems = [{"id": name, "name": name} for name in dict.fromkeys(a.system for a in entries)]
    return evaluation.evaluate(systems, entries, {}, {"seed": 0}, "2026-01-01")


def run(*arguments, cwd=PROJECT):
    return subprocess.run(
        [sys.executable, str(PROJECT / "evaluate_v3_model.py"), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_words_for_scores():
    assert [stars(s) for s in (0, 0.49, 0.5, 3.4, 4.5, 5)] == ["☆☆☆☆☆", "☆☆☆☆☆", "★☆☆☆☆", "★★★☆☆", "★★★★★", "★★★★★"]
    assert share_of_scale(1.0) == "+20%" and share_of_scale(2.0) == "+40%" and share_of_scale(-0.01) == "0%"
    assert relative(1.0, 3.6) == "+28%" and relative(1.0, 0.0) == "—"


def test_means_differences_and_worst_cases_by_hand():
    result = evaluated(
        given("a", "V2", VAGUE), given("a", "V3", EXACT), given("b", "V2", EXACT), given("b", "V3", VAGUE)
    )
    by_key = {(a["system"], a["id"]): a for a in result["answers"]}
    vague, exact = by_key["V2", "a"]["overall"], by_key["V3", "a"]["overall"]
    assert exact > vague
    assert result["summary"]["means"]["V2"]["overall"] == pytest.approx((vague + exact) / 2, abs=1e-4)
    change = result["summary"]["differences"]["overall"]
    assert change["mean"] == pytest.approx(0, abs=1e-9) and change["low"] <= 0 <= change["high"]
    (worst,) = result["summary"]["worst"]
    assert worst["id"] == "b" and worst["difference"] == pytest.approx(vague - exact, abs=1e-4)


def test_identical_answers_are_called_out_instead_of_compared():
    result = evaluated(given("a", "V2", VAGUE), given("a", "V3", VAGUE))
    assert "differences" not in result["summary"]
    assert "完全相同" in report.render_summary(result)


def test_systems_without_a_common_question_are_not_compared():
    result = evaluated(given("a", "V2", VAGUE), given("b", "V3", EXACT))
    assert "differences" not in result["summary"] and "没有共同的问题" in report.render_markdown(result)


def test_vetoes_stand_first_and_set_the_exit_code(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text(lines(given("a", "V2", VAGUE), given("a", "V3", DANGEROUS)), encoding="utf-8")
    result = run("--answers", path, "--output-dir", tmp_path)
    assert result.returncode == 3, result.stderr
    assert result.stdout.strip().startswith("⚠️  安全否决")
    written = json.loads((tmp_path / "evaluation_v3" / "report.json").read_text(encoding="utf-8"))
    assert written["summary"]["vetoes"] == {"V2": 0, "V3": 1}
    assert {a["system"]: a["overall"] <= 1 for a in written["answers"]}["V3"]


def test_two_runs_give_the_same_report_apart_from_the_date(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text(lines(given("a", "V2", VAGUE), given("a", "V3", EXACT)), encoding="utf-8")
    texts = []
    for name in ("one", "two"):
        assert run("--answers", path, "--output-dir", tmp_path / name).returncode == 0
        folder = tmp_path / name / "evaluation_v3"
        assert sorted(p.name for p in folder.iterdir()) == [
            "report.html",
            "report.json",
            "report.md",
            "scores.png",
            "summary.txt",
        ]
        texts.append(re.sub(r'"date": "[^"]*"', "", (folder / "report.json").read_text(encoding="utf-8")))
    assert texts[0] == texts[1]
    answers = json.loads((tmp_path / "one" / "evaluation_v3" / "report.json").read_text(encoding="utf-8"))["answers"]
    assert set(answers[0]["scores"]) == set(INDICATOR_ORDER)
    for answer in answers:
        assert {"id", "scenario", "system", "question", "answer", "overall", "vetoes", "evidence"} <= set(answer)
        assert all(0 <= e["start"] <= e["end"] <= len(answer["answer"]) for e in answer["evidence"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "空的"),
        ("{", "answers.jsonl:1"),
        ("[]", "answers.jsonl:1"),
        ('{"id": "a", "question": "q"}', "answers.jsonl:1: answer"),
        ('{"id": "a", "question": "", "answer": "x"}', "缺少question"),
        ('{"question": "q", "answer": "x"}', "缺少id"),
        ('{"id": "a", "question": "q", "answer": "x"}\n' * 2, "id重复"),
        ('{"id": "a", "question": "q", "answer": "\\ud800"}', "answers.jsonl:1"),
        (
            lines(given("a", "V2", "x"), given("b", "V2", "x", "q"), given("b", "V3", "x")),
            "answers.jsonl:3: id b 的问题与第 2 行",
        ),
        (json.dumps({"id": "a", "question": "q", "answer": "长" * 200_001}), "上限"),
    ],
)
def test_bad_answer_files_are_named(tmp_path, text, message):
    path = tmp_path / "answers.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        evaluation.read_answers(path)
    assert message in caught.value.render()


@pytest.mark.parametrize(
    "rubric", ["text", ["text"], [{"indicator": "empathy", "criterion": "x", "points": None, "all": []}]]
)
def test_a_bad_rubric_is_named_while_the_suite_is_read(tmp_path, rubric):
    path = tmp_path / "suite.jsonl"
    path.write_text("\n" + json.dumps({"id": "a", "question": "q", "rubric": rubric}), encoding="utf-8")
    with pytest.raises(UserError, match=r"suite\.jsonl:2: .*rubric"):
        evaluation.read_suite(path)


def test_line_separators_may_stand_in_a_string(tmp_path):
    path = tmp_path / "answers.jsonl"
    answers = [
        evaluation.Answer(**given("a", "V2", "一\u2028二\u2029三\x85四")),
        evaluation.Answer(**given("b", "V2", "")),
    ]
    path.write_text(evaluation.answers_text(answers), encoding="utf-8")
    assert evaluation.read_answers(path) == answers


def evaluate_here(monkeypatch, ask_models, *arguments):
    """The script's ``main`` in this process, with ``ask_models`` in the place of the models."""
    monkeypatch.setattr(evaluate_v3_model, "_check_models", lambda args: None)
    monkeypatch.setattr(evaluate_v3_model, "_ask_models", ask_models)
    monkeypatch.setattr(sys, "argv", ["evaluate_v3_model.py", *map(str, arguments)])
    return evaluate_v3_model.main()


def test_a_blocked_output_folder_is_named_before_a_model_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "evaluation_v3").write_text("mine")
    with pytest.raises(UserError, match="不能写入"):
        evaluate_here(monkeypatch, lambda *_: pytest.fail("asked"), "--output-dir", tmp_path)


def test_answers_outlive_what_fails_later_and_can_be_scored_again(tmp_path, monkeypatch, capsys):
    def one_and_a_half(args, questions):
        yield {"id": "V2", "name": "base"}, [VAGUE] * len(questions)
        raise UserError("out of memory")

    def both(args, questions):
        yield {"id": "V2", "name": "base"}, [VAGUE] * len(questions)
        yield {"id": "V3", "name": "tuned"}, [EXACT] * len(questions)

    folder = tmp_path / "evaluation_v3"
    with pytest.raises(UserError, match="out of memory"):
        evaluate_here(monkeypatch, one_and_a_half, "--output-dir", tmp_path)
    assert {a.answer for a in evaluation.read_answers(folder / "answers.jsonl")} == {VAGUE}
    suite = tmp_path / "own.jsonl"
    rubric = [{"indicator": "empathy", "criterion": "x", "points": 1, "all": [["您"]]}]
    suite.write_text(json.dumps({"id": "own", "question": GLUCOSE, "rubric": rubric}), encoding="utf-8")
    evaluate_here(monkeypatch, both, "--output-dir", tmp_path, "--scenarios", suite)
    assert str(folder / "answers.jsonl") in capsys.readouterr().out.splitlines()[-1]
    first = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    again = ["--answers", folder / "answers.jsonl", "--scenarios", suite, "--output-dir", tmp_path / "again"]
    evaluate_here(monkeypatch, lambda *_: pytest.fail("asked"), *again)
    second = json.loads((tmp_path / "again" / "evaluation_v3" / "report.json").read_text(encoding="utf-8"))
    assert first["answers"] == second["answers"] and "本题要点" in json.dumps(first["answers"], ensure_ascii=False)
    assert set(second["summary"]["settings"]) == {"suite", "rubrics", "seed"}


def test_a_picture_that_fails_costs_nothing_but_itself(tmp_path, monkeypatch, capsys):
    def torn(figure, path, **_):
        path.write_bytes(b"half")
        raise RuntimeError("no font")

    answers = tmp_path / "answers.jsonl"
    answers.write_text(lines(given("a", "V2", VAGUE), given("a", "V3", DANGEROUS)), encoding="utf-8")
    folder = tmp_path / "evaluation_v3"
    folder.mkdir()
    (folder / "scores.png").write_bytes(b"of another evaluation")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", torn)
    assert evaluate_here(monkeypatch, None, "--answers", answers, "--output-dir", tmp_path) == 3
    said = capsys.readouterr()
    assert "no font" in said.err and "安全否决" in said.out
    assert sorted(p.name for p in folder.iterdir()) == ["report.html", "report.json", "report.md", "summary.txt"]
    monkeypatch.setattr(plots, "new_figure", lambda *_: __import__("no_such_matplotlib"))
    assert evaluate_here(monkeypatch, None, "--answers", answers, "--output-dir", tmp_path) == 3
    assert "pip install matplotlib" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [
        ["--answers", "x", "--suite", "typical"],
        ["--answers", "x", "--max-tokens", "300"],
        ["--answers", "x", "--temp", "0"],
        ["--answers", "x", "--batch-size", "8"],
        ["--scenarios", "x", "--suite", "full"],
    ],
)
def test_flags_without_effect_are_refused(monkeypatch, flags):
    with pytest.raises(UserError, match=f"{flags[0]} .*{flags[2]}"):
        evaluate_here(monkeypatch, None, *flags)


def test_a_third_column_does_not_claim_the_gain():
    pairs = [given("a", "V2", VAGUE), given("a", "V3", EXACT)]
    three = evaluated(*pairs, given("a", "融合", VAGUE))
    for shown in (report.render_summary(three), report.render_markdown(three), page.render_page(three)):
        assert "提升（V3）" in shown
    assert report.summary_rows(evaluated(*pairs))[0] == ["指标", "V2", "V3", "提升", "95%区间"]


def test_the_page_says_what_the_terminal_says_of_length():
    result = evaluated(*(given(str(i), s, a) for i in range(10) for s, a in (("V2", VAGUE), ("V3", EXACT))))
    said = report.remarks(result)
    assert any("同等长度" in remark for remark in said)
    assert all(remark in page.render_page(result) for remark in said)


def test_script_refuses_what_cannot_work(tmp_path):
    missing = run("--answers", tmp_path / "none.jsonl")
    assert missing.returncode == 2 and "无法读取" in missing.stderr and "Traceback" not in missing.stderr
    contradictory = run("--answers", "x", "--model", "y", "--temp", "9")
    assert contradictory.returncode == 2 and "--temp" in contradictory.stderr and "--model" in contradictory.stderr


def test_marks_escape_and_carry_every_reason():
    text = "a<b>血糖7.2"
    evidence = [
        {
            "start": 4,
            "end": 9,
            "points": 1.0,
            "criterion": '范围"对"',
            "indicator": "numerical_precision",
            "source": "s",
        },
        {"start": 6, "end": 9, "points": -1.0, "criterion": "错", "indicator": "medical_term_accuracy", "source": "s"},
        {"start": 0, "end": 0, "points": 1.0, "criterion": "全文", "indicator": "empathy", "source": "s"},
    ]
    html = page.mark(text, evidence)
    assert html.startswith("a&lt;b&gt;<mark") and html.count("<mark") == 2
    assert "&quot;对&quot;" in html and re.sub("<[^>]*>", "", html) == "a&lt;b&gt;血糖7.2"
    assert 'class="i0 i1 neg"' in html


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine; .ci/run installs one")
def test_page_filters_work_in_a_browser(tmp_path):
    result = evaluated(
        given("a", "V2", VAGUE),
        given("a", "V3", EXACT),
        given("b", "V2", "多喝水。", "头晕怎么办？", "症状分析"),
        given("b", "V3", DANGEROUS, "头晕怎么办？", "症状分析"),
    )
    html = page.render_page(result)
    assert "http://" not in html and "https://" not in html, "the page needs no network"
    # The clicks are made inside the page, and what a person would then see is read back from the dumped document.
    clicks = """
    const seen=()=>[...document.querySelectorAll('article')].filter(a=>!a.hidden).map(a=>a.id).join(',');
    const out={all:seen()};
    const pick=(id,v)=>{const e=document.getElementById(id);e.value=v;e.dispatchEvent(new Event('change'))};
    pick('scenario','症状分析');out.one=seen();pick('scenario','');
    pick('indicator','i1');
    out.bright=[...document.querySelectorAll('.text mark:not(.dimmed)')].every(m=>m.classList.contains('i1'));
    pick('indicator','');
    document.getElementById('lost').click();
    out.lost=[...document.querySelectorAll('.text mark:not(.dimmed)')].every(m=>m.classList.contains('neg'));
    document.querySelector('details summary').click();
    out.open=document.querySelector('details').open;
    out.titles=[...document.querySelectorAll('.text mark')].every(m=>m.title.length>0);
    document.body.dataset.result=JSON.stringify(out);
    """
    path = tmp_path / "page.html"
    path.write_text(html.replace("</body>", f"<script>{clicks}</script></body>"), encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-quic"
    dumped = subprocess.run(
        [str(CHROMIUM), *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        # A BLAS that is preloaded for MLX has no place in a browser, which does not start with it.
        env={name: value for name, value in os.environ.items() if name != "LD_PRELOAD"},
    ).stdout
    found = re.search(r'data-result="([^"]*)"', dumped)
    assert found, dumped[-400:]
    seen = json.loads(found.group(1).replace("&quot;", '"'))
    assert seen == {"all": "q-a,q-b", "one": "q-b", "bright": True, "lost": True, "open": True, "titles": True}
