#!/usr/bin/env python3
"""The evaluation: V2 (the base) beside V3 (base + adapter), five indicators, every point shown in the answer's text.

python evaluate_v3_model.py                        # the five typical scenarios
python evaluate_v3_model.py --suite full           # the held-out questions
python evaluate_v3_model.py --answers FILE.jsonl   # given answers, no model
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from precision_lora import evaluation, page, plots, report
from precision_lora.config import DEMO_SETTINGS, TrainConfig
from precision_lora.errors import EXIT_DONE, EXIT_VETO, UserError, run_main

OUTPUT = "evaluation_v3"
BASE_NAME, ADAPTER_NAME, FUSED_NAME = "V2", "V3", "融合"


def main() -> int:
    args = _parse()
    output = Path(args.output_dir).expanduser() / OUTPUT
    if args.answers:
        answers = evaluation.read_answers(Path(args.answers).expanduser())
        systems = [{"id": name, "name": name} for name in dict.fromkeys(a.system for a in answers)]
        questions = [q for suite in ("typical", "full") for q in evaluation.read_suite(_suite(suite))]
    else:
        questions = evaluation.read_suite(Path(args.scenarios).expanduser() if args.scenarios else _suite(args.suite))
        systems, answers = _ask_models(args, questions)
    settings = {
        "suite": args.answers or args.scenarios or args.suite,
        "max_tokens": args.max_tokens,
        "temperature": args.temp,
        "seed": args.seed,
    }
    # A rubric belongs to a question's text: given answers may use any ids.
    rubrics = {q.question: q.rubric for q in questions}
    result = evaluation.evaluate(
        systems,
        answers,
        {answer.id: rubrics.get(answer.question) for answer in answers},
        settings,
        datetime.now().astimezone().isoformat(timespec="seconds"),
    )
    _write(result, output)
    print(f"\n{report.render_summary(result)}\n\n报告: {output / 'report.html'}")
    newest = systems[-1]["id"]
    return EXIT_VETO if result["summary"]["vetoes"][newest] else EXIT_DONE


def _ask_models(
    args: argparse.Namespace, questions: list[evaluation.Question]
) -> tuple[list[dict[str, str]], list[evaluation.Answer]]:
    """Answers of V2, V3 and, with ``--model``, of a fused folder; V2 and V3 come from one load of the base."""
    from precision_lora import adapters, blas

    adapter = Path(args.adapter_path).expanduser()
    adapters.refuse_simulated_folder(adapter, "评估")  # said first: installing MLX would not help
    if hint := blas.use_fast_blas():
        print(f"⚠️  {hint}", file=sys.stderr)
    try:
        import mlx.core  # noqa: F401 (asked before anything else is loaded)
    except ImportError as error:
        raise UserError(
            f"MLX未安装或无法加载，不能让模型回答 ({error})",
            "pip install -r requirements.txt",
            "没有MLX时可以给已有的回答打分: python evaluate_v3_model.py --answers 回答.jsonl",
        ) from None
    from precision_lora import generation, lora, model

    decoding = generation.Decoding(args.max_tokens, args.temp, args.seed, args.batch_size)
    adapters.read_adapter(adapter, "评估")  # a missing or damaged adapter is named before gigabytes are loaded
    print(f"📦 加载基础模型: {args.base_model}")
    base = model.load_base(args.base_model)
    lora.load_adapter(base.model, adapter)
    if generation.adapter_is_zero(base.model):
        raise UserError(f"adapter没有改变任何权重，V3与V2完全相同: {adapter}", "先训练: python train_v3_precision.py")
    systems = [
        {"id": BASE_NAME, "name": str(args.base_model)},
        {"id": ADAPTER_NAME, "name": f"{args.base_model} + {args.adapter_path}"},
    ]
    with generation.adapter_off(base.model):
        texts = {BASE_NAME: _answers(base, questions, decoding, BASE_NAME)}
    texts[ADAPTER_NAME] = _answers(base, questions, decoding, ADAPTER_NAME)
    if args.model:
        del base
        fused = model.load_base(args.model)
        systems.append({"id": FUSED_NAME, "name": str(args.model)})
        texts[FUSED_NAME] = _answers(fused, questions, decoding, FUSED_NAME)
    return systems, [
        evaluation.Answer(question.id, question.scenario, system, question.question, text)
        for system, answers in texts.items()
        for question, text in zip(questions, answers, strict=True)
    ]


def _answers(base: Any, questions: list[evaluation.Question], decoding: Any, name: str) -> list[str]:
    from tqdm import tqdm

    from precision_lora import generation

    with tqdm(total=len(questions), desc=f"{name} 回答", unit="题", disable=not sys.stderr.isatty()) as bar:
        conversations = [[{"role": "user", "content": question.question}] for question in questions]
        return generation.generate(base, conversations, decoding, lambda: bar.update() and None)


def _write(result: dict[str, Any], output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        _replace(output / "report.json", json.dumps(result, ensure_ascii=False, indent=1) + "\n")
        _replace(output / "report.html", page.render_page(result))
        _replace(output / "report.md", report.render_markdown(result))
        _replace(output / "summary.txt", report.render_summary(result) + "\n")
        plots.plot_scores(result, output / "scores.png")
    except OSError as error:
        raise UserError(
            f"无法写入评估报告: {output} ({error.strerror})", "换一个 --output-dir，或检查权限和磁盘空间"
        ) from None


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _suite(name: str) -> Path:
    return evaluation.SUITES / f"{name}.jsonl"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="V2与V3对照评估: 五项指标、安全否决、逐题依据",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    models = parser.add_argument_group("模型")
    models.add_argument("--base-model", default=None, help="V2: 基础模型 (文件夹或hub id)")
    models.add_argument("--adapter-path", default=None, help="V3: 训练得到的adapter")
    models.add_argument("--model", default=None, help="融合后的文件夹，作为第三列")
    models.add_argument("--demo", action="store_true", help="评估 demo_run/ 里的演示结果")
    asked = parser.add_argument_group("问题与回答")
    asked.add_argument(
        "--suite",
        choices=("typical", "full"),
        default=None,
        help="五个典型场景 (默认)，或全部预留问题 (--demo 时的默认)",
    )
    asked.add_argument(
        "--scenarios", default=None, help="自己的问题文件 (JSON lines: id, question[, scenario, rubric])"
    )
    asked.add_argument("--answers", default=None, help="给已有的回答打分，不加载模型")
    decoding = parser.add_argument_group("生成")
    decoding.add_argument("--max-tokens", type=int, default=300, help="每个回答的最多词元数")
    decoding.add_argument("--temp", type=float, default=0.0, help="温度，0为贪心")
    decoding.add_argument("--seed", type=int, default=0, help="抽样与区间估计的随机种子")
    decoding.add_argument("--batch-size", type=int, default=8, help="同时生成的回答数")
    parser.add_argument("--output-dir", default=None, help=f"报告写入其下的 {OUTPUT}/ (默认 . ；--demo 时为 demo_run)")
    args = parser.parse_args()
    problems = [
        f"{flag} {value}: 应{rule}"
        for flag, value, wrong, rule in (
            ("--max-tokens", args.max_tokens, args.max_tokens < 1, "≥ 1"),
            ("--temp", args.temp, not 0 <= args.temp <= 5, "在 0 到 5 之间"),
            ("--seed", args.seed, args.seed < 0, "≥ 0"),
            ("--batch-size", args.batch_size, args.batch_size < 1, "≥ 1"),
        )
        if wrong
    ]
    if args.answers and (args.model or args.scenarios or args.base_model or args.adapter_path):
        problems.append("--answers 不加载模型，不能与 --model、--base-model、--adapter-path、--scenarios 同用")
    if problems:
        raise UserError("参数有误: " + "；".join(problems), "python evaluate_v3_model.py --help")
    settings = DEMO_SETTINGS if args.demo else {}
    config = TrainConfig()
    output = settings.get("output_dir", config.output_dir)
    args.output_dir = args.output_dir or output
    # Five questions say little about a small model; the demo asks them all.
    args.suite = args.suite or ("full" if args.demo else "typical")
    args.base_model = args.base_model or settings.get("base_model", config.base_model)
    args.adapter_path = args.adapter_path or str(Path(output) / "adapters_v3_precision")
    return args


if __name__ == "__main__":
    sys.exit(run_main(main))
