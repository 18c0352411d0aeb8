#!/usr/bin/env python3
"""The evaluation: V2 (the base) beside V3 (base + adapter), five indicators, every point shown in the answer's text.

python evaluate_v3_model.py                        # the five typical scenarios
python evaluate_v3_model.py --suite full           # the held-out questions
python evaluate_v3_model.py --answers FILE.jsonl   # given answers, no model
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from precision_lora import evaluation, page, plots, report
from precision_lora.checkpoint import to_text, write_text
from precision_lora.config import DEMO_SETTINGS, TrainConfig
from precision_lora.errors import EXIT_DONE, EXIT_VETO, UserError, run_main

OUTPUT = "evaluation_v3"
ANSWERS, PICTURE = "answers.jsonl", "scores.png"
# Values of the flags that only some ways of evaluating use; absent from the arguments unless given.
MAX_TOKENS, TEMPERATURE, BATCH_SIZE = 300, 0.0, 8
BASE_NAME, ADAPTER_NAME, FUSED_NAME = "V2", "V3", "融合"


def main() -> int:
    args = _parse()
    output = Path(args.output_dir).expanduser() / OUTPUT
    if args.answers:
        answers = evaluation.read_answers(Path(args.answers).expanduser())
        systems = [{"id": name, "name": name} for name in dict.fromkeys(a.system for a in answers)]
        suites = [Path(args.scenarios).expanduser()] if args.scenarios else [_suite("typical"), _suite("full")]
        questions = [question for suite in suites for question in evaluation.read_suite(suite)]
        settings = {"suite": args.answers, "seed": args.seed}
        if args.scenarios:
            settings["rubrics"] = args.scenarios
        _prepare(output)
    else:
        questions = evaluation.read_suite(Path(args.scenarios).expanduser() if args.scenarios else _suite(args.suite))
        settings = {
            "suite": args.scenarios or args.suite,
            "max_tokens": args.max_tokens,
            "temperature": args.temp,
            "seed": args.seed,
        }
        _check_models(args)
        _prepare(output)
        systems, answers = _saved_answers(args, questions, output)
    # A rubric belongs to a question's text: given answers may use any ids.
    rubrics = {q.question: q.rubric for q in questions}
    result = evaluation.evaluate(
        systems,
        answers,
        {answer.id: rubrics.get(answer.question) for answer in answers},
        settings,
        datetime.now().astimezone().isoformat(timespec="seconds"),
    )
    _write(
        output,
        {
            "report.json": to_text(result),
            "report.html": page.render_page(result),
            "report.md": report.render_markdown(result),
            "summary.txt": report.render_summary(result) + "\n",
        },
    )
    if problem := _draw(result, output / PICTURE):
        print(f"⚠️  {problem}", file=sys.stderr)
    print(f"\n{report.render_summary(result)}\n\n报告: {output / 'report.html'}")
    if not args.answers:
        print(f"回答: {output / ANSWERS}（重新打分: --answers 这个文件）")
    newest = systems[-1]["id"]
    return EXIT_VETO if result["summary"]["vetoes"][newest] else EXIT_DONE


def _check_models(args: argparse.Namespace) -> None:
    """All that can be said against the models before gigabytes are loaded."""
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
    adapters.read_adapter(adapter, "评估")


def _saved_answers(
    args: argparse.Namespace, questions: list[evaluation.Question], output: Path
) -> tuple[list[dict[str, str]], list[evaluation.Answer]]:
    """Systems and their answers, written after each system.

    Hours of answers outlive whatever goes wrong with the next model, the scoring or the report.
    """
    systems: list[dict[str, str]] = []
    answers: list[evaluation.Answer] = []
    for system, texts in _ask_models(args, questions):
        systems.append(system)
        answers += [
            evaluation.Answer(question.id, question.scenario, system["id"], question.question, text)
            for question, text in zip(questions, texts, strict=True)
        ]
        _write(output, {ANSWERS: evaluation.answers_text(answers)})
        print(f"💾 {system['id']}的回答已保存: {output / ANSWERS}")
    return systems, answers


def _ask_models(
    args: argparse.Namespace, questions: list[evaluation.Question]
) -> Iterator[tuple[dict[str, str], list[str]]]:
    """Each system with its answers, once it has given them: V2, V3 and, with ``--model``, a fused folder.

    V2 and V3 come from one load of the base.
    """
    from precision_lora import generation, lora, model

    adapter = Path(args.adapter_path).expanduser()
    decoding = generation.Decoding(args.max_tokens, args.temp, args.seed, args.batch_size)
    print(f"📦 加载基础模型: {args.base_model}")
    base = model.load_base(args.base_model)
    lora.load_adapter(base.model, adapter)
    if generation.adapter_is_zero(base.model):
        raise UserError(f"adapter没有改变任何权重，V3与V2完全相同: {adapter}", "先训练: python train_v3_precision.py")
    with generation.adapter_off(base.model):
        texts = _answers(base, questions, decoding, BASE_NAME)
    yield {"id": BASE_NAME, "name": str(args.base_model)}, texts
    texts = _answers(base, questions, decoding, ADAPTER_NAME)
    yield {"id": ADAPTER_NAME, "name": f"{args.base_model} + {args.adapter_path}"}, texts
    if args.model:
        del base
        fused = model.load_base(args.model)
        yield {"id": FUSED_NAME, "name": str(args.model)}, _answers(fused, questions, decoding, FUSED_NAME)


def _answers(base: Any, questions: list[evaluation.Question], decoding: Any, name: str) -> list[str]:
    from tqdm import tqdm

    from precision_lora import generation

    with tqdm(total=len(questions), desc=f"{name} 回答", unit="题", disable=not sys.stderr.isatty()) as bar:
        conversations = [[{"role": "user", "content": question.question}] for question in questions]
        return generation.generate(base, conversations, decoding, lambda: bar.update() and None)


def _prepare(output: Path) -> None:
    """Make the output folder and write to it once: a folder that refuses is named before anything takes long."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output) as file:
            file.write(b" ")
    except OSError as error:
        raise UserError(f"输出文件夹不能写入: {output}（{error.strerror or error}）", "换一个 --output-dir") from None


def _write(output: Path, texts: dict[str, str]) -> None:
    try:
        for name, text in texts.items():
            write_text(output / name, text)
    except OSError as error:
        raise UserError(
            f"无法写入评估报告: {output / name} ({error.strerror or error})",
            "换一个 --output-dir，或检查权限和磁盘空间",
        ) from None


def _draw(result: dict[str, Any], path: Path) -> str | None:
    """Draw the scores. A picture is never worth a result: what went wrong with it comes back as a line."""
    try:
        # One of an earlier evaluation must not stand beside these numbers.
        path.unlink(missing_ok=True)
        plots.plot_scores(result, path)
    except ImportError:
        return "没有 matplotlib，不画得分图。安装: pip install matplotlib"
    except Exception as error:  # fonts, caches and back ends fail in ways of their own
        return f"得分图没有画成: {str(error).strip()[:200] or type(error).__name__}"
    return None


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
        default=argparse.SUPPRESS,
        help="五个典型场景 (默认)，或全部预留问题 (--demo 时的默认)",
    )
    asked.add_argument(
        "--scenarios",
        default=None,
        help="自己的问题文件 (JSON lines: id, question[, scenario, rubric])；与 --answers 同用时只取其中的rubric",
    )
    asked.add_argument("--answers", default=None, help="给已有的回答打分，不加载模型")
    decoding = parser.add_argument_group("生成")
    decoding.add_argument(
        "--max-tokens", type=int, default=argparse.SUPPRESS, help=f"每个回答的最多词元数 (默认 {MAX_TOKENS})"
    )
    decoding.add_argument("--temp", type=float, default=argparse.SUPPRESS, help=f"温度，0为贪心 (默认 {TEMPERATURE:g})")
    decoding.add_argument("--seed", type=int, default=0, help="抽样与区间估计的随机种子")
    decoding.add_argument(
        "--batch-size", type=int, default=argparse.SUPPRESS, help=f"同时生成的回答数 (默认 {BATCH_SIZE})"
    )
    parser.add_argument("--output-dir", default=None, help=f"报告写入其下的 {OUTPUT}/ (默认 . ；--demo 时为 demo_run)")
    args = parser.parse_args()
    settings = DEMO_SETTINGS if args.demo else {}
    given = set(vars(args))
    defaults = {
        # Five questions say little about a small model; the demo asks them all.
        "suite": "full" if args.demo else "typical",
        "max_tokens": MAX_TOKENS,
        "temp": TEMPERATURE,
        "batch_size": BATCH_SIZE,
    }
    args = argparse.Namespace(**{**defaults, **vars(args)})
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
    # What would have no effect is refused: the person who gave it believes that it has one.
    if args.answers:
        useless = [name for name in ("model", "base_model", "adapter_path") if getattr(args, name)]
        useless += [name for name in defaults if name in given]
        if useless:
            flags = "、".join("--" + name.replace("_", "-") for name in useless)
            problems.append(f"--answers 不加载模型，不能与 {flags} 同用")
    elif args.scenarios and "suite" in given:
        problems.append("--scenarios 代替 --suite，不能同用")
    if problems:
        raise UserError("参数有误: " + "；".join(problems), "python evaluate_v3_model.py --help")
    config = TrainConfig()
    output = settings.get("output_dir", config.output_dir)
    args.output_dir = args.output_dir or output
    args.base_model = args.base_model or settings.get("base_model", config.base_model)
    args.adapter_path = args.adapter_path or str(Path(output) / "adapters_v3_precision")
    return args


if __name__ == "__main__":
    sys.exit(run_main(main))
