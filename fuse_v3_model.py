#!/usr/bin/env python3
"""Fuse the V3 adapter into its base model and put the result where LM Studio finds it."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import errno
import importlib.util
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from precision_lora import folders, fusing, merging, model_card
from precision_lora.adapters import CONFIG_FILE, Adapter, read_adapter
from precision_lora.base_folder import Base, read_base
from precision_lora.blas import use_fast_blas
from precision_lora.config import ADAPTER_DIR, DEMO_SETTINGS, MODEL_DIR, PROJECT
from precision_lora.errors import EXIT_DONE, UserError, run_main
from precision_lora.folders import gigabytes
from precision_lora.fusing import FusePlan

BASE_NAME = "Qwen3-VL-30B-Medical-V2-Fused"
OUTPUT_NAME = "Qwen3-VL-30B-Medical-V3-Precision"
# For the estimate of --dry-run only: an SSD's copy speed, and that of adding changes on a laptop's CPU.
COPY_BYTES_PER_SECOND, MERGE_BYTES_PER_SECOND = 1.5e9, 0.3e9


@dataclass(frozen=True)
class Measured:
    """Logits before writing: of base, base + adapter and every candidate; and what each candidate loses."""

    logits: dict[str, np.ndarray]
    remaining: dict[str, float]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; without ``arguments`` that of the process."""
    local = folders.lmstudio_models() / "local"
    parser = argparse.ArgumentParser(
        prog="fuse_v3_model.py", description="把 V3 adapter 融合进基础模型，生成 LM Studio 能打开的文件夹"
    )
    paths = parser.add_argument_group("模型与输出")
    paths.add_argument("--base-model", help=f"基础模型文件夹（默认 {local / BASE_NAME}）")
    paths.add_argument("--adapter-path", help=f"adapter 文件夹（默认 {ADAPTER_DIR}）")
    paths.add_argument("--output", help=f"融合后的文件夹（默认 {local / OUTPUT_NAME}）")
    paths.add_argument("--demo", action="store_true", help="融合 demo/ 的小模型，输出到 demo_run/fused")
    precision = parser.add_argument_group("精度")
    precision.add_argument(
        "--touched-precision",
        choices=("auto", *fusing.PRECISIONS),
        default="auto",
        help="量化模型里被改动的层存成什么（默认 auto: 实测后取误差低于 0.05 的最小一种）",
    )
    precision.add_argument("--dequantize", action="store_true", help="整个模型去量化")
    other = parser.add_argument_group("其他")
    other.add_argument("--force", action="store_true", help="替换已有的输出文件夹（新的检查通过后才替换）")
    other.add_argument("--dry-run", action="store_true", help="只显示计划，不写任何文件")
    other.add_argument(
        "--no-model-check",
        action="store_true",
        help="写完后不再重读模型: 不测量、不检查输出、不算权重文件的哈希（更快）",
    )
    return parser.parse_args(arguments)


def resolve_paths(args: argparse.Namespace) -> tuple[Path, Path, Path]:
    """Base, adapter and output folder, with the defaults filled in."""
    local = folders.lmstudio_models() / "local"
    base, adapter, output = local / BASE_NAME, Path(ADAPTER_DIR), local / OUTPUT_NAME
    if args.demo:
        run = PROJECT / str(DEMO_SETTINGS["output_dir"])
        base, adapter, output = Path(str(DEMO_SETTINGS["base_model"])), run / ADAPTER_DIR, run / "fused"
    base = Path(args.base_model).expanduser() if args.base_model else base
    adapter = Path(args.adapter_path).expanduser() if args.adapter_path else adapter
    output = Path(args.output).expanduser() if args.output else output
    is_hub_id = args.base_model and not base.exists() and args.base_model.count("/") == 1
    if is_hub_id and not args.base_model.startswith((".", "~", "/")):
        from precision_lora.model import resolve_base

        base = resolve_base(args.base_model)
    # A linked folder is replaced where it really lies, and the link stays.
    return base, adapter, output.resolve() if os.path.islink(output) else output.absolute()


def check_request(args: argparse.Namespace, base: Path, adapter: Path, output: Path) -> None:
    """Raises UserError for paths and flags that cannot go together; all of them at once."""
    problems = []
    if args.dequantize and args.touched_precision != "auto":
        problems.append("--dequantize 去量化整个模型，不能再指定 --touched-precision")
    inside, real = output.resolve(), base.resolve()
    if inside == real:
        problems.append(f"--output 就是基础模型: {output}")
    elif real in inside.parents:
        problems.append(f"--output 在基础模型文件夹里面: {output}")
    elif inside in real.parents or inside in (adapter.resolve(), *adapter.resolve().parents):
        problems.append(f"--output 包含了基础模型或 adapter: {output}")
    elif os.path.exists(output) and not output.is_dir():
        problems.append(f"--output 是一个文件: {output}")
    elif os.path.exists(output) and not args.force:
        problems.append(f"输出文件夹已存在: {output}（加 --force 替换，或用 --output 换一个名字）")
    # os.path and not Path.exists, which raises for what lies in a folder that may not be looked into.
    nearest = next(place for place in output.parents if os.path.exists(place))
    if not nearest.is_dir():
        problems.append(f"--output 在一个文件里面: {nearest}")
    elif not os.access(nearest, os.W_OK | os.X_OK):
        problems.append(f"--output 不能写入: {nearest}（没有写入权限，或磁盘只读）")
    if problems:
        raise UserError("；".join(problems), "python fuse_v3_model.py --help 列出全部参数")


def mlx_is_there() -> bool:
    """Whether MLX and mlx-lm are installed; neither is loaded."""
    return importlib.util.find_spec("mlx") is not None and importlib.util.find_spec("mlx_lm") is not None


def choose_precision(
    args: argparse.Namespace, base: Base, adapter: Adapter, check_model: bool
) -> tuple[str, FusePlan, Measured | None]:
    """The precision of the touched layers, its plan, and the measurement behind it (None without one)."""
    sites = merging.find_sites(base, adapter)
    candidates = fusing.candidate_precisions(base, sites)
    dequantize = args.dequantize and bool(merging.quantised_sites(base))
    if (candidates or dequantize) and not mlx_is_there():
        raise UserError("MLX未安装，无法读写量化的权重", "pip install mlx mlx-lm")
    if args.dequantize and not dequantize:
        print("基础模型没有量化，--dequantize 不起作用")
    elif args.touched_precision != "auto" and not candidates:
        print(f"被改动的层没有量化，保持原来的精度，--touched-precision {args.touched_precision} 不起作用")
    if dequantize or not candidates:
        candidates = ("same",)
    elif args.touched_precision != "auto":
        candidates = (args.touched_precision,)
    plans = {name: fusing.make_plan(base, adapter, name, dequantize) for name in candidates}
    if not check_model or (args.dry_run and len(candidates) == 1):
        # Unmeasured, the 16-bit type of the model is the safe choice among several.
        chosen = candidates[0] if len(candidates) == 1 else ("bf16" if "bf16" in candidates else "f16")
        return chosen, plans[chosen], None
    from precision_lora import effect

    prompts = effect.make_prompts(base.folder)
    with tqdm(total=base.num_layers, desc="测量 adapter 的效果", unit="层", file=sys.stderr, disable=None) as bar:
        variants = (effect.BASE, effect.ADAPTER, *candidates)
        logits = effect.measure(base.folder, prompts, effect.touches(plans), variants, bar.update)
    remaining = {name: effect.remaining(logits[name], logits) for name in candidates}
    kept = [name for name in candidates if remaining[name] <= effect.REMAINING_LIMIT]
    chosen = kept[0] if kept else min(candidates, key=lambda name: remaining[name])
    return chosen, plans[chosen], Measured(logits, remaining)


def describe(plan: FusePlan, precision: str, measured: Measured | None, output: Path, clones: bool) -> None:
    """Print the plan."""
    sites = [site for site in plan.sites if site.updates]
    values = merging.count_parameters(tuple(sites))
    print(f"基础模型: {plan.base.folder}（{len(plan.base.shards)} 个权重文件，{gigabytes(plan.base_bytes)}）")
    print(f"adapter:  {plan.adapter.folder}（{len(plan.adapter.layers)} 层，秩 {plan.adapter.rank}）")
    print(f"输出:     {output}")
    print(f"改动 {len(sites)} 个权重、{values / 1e6:.1f} M 参数；其余张量逐字节不变")
    how = "克隆，几乎不占空间" if clones else "复制"
    print(f"写入: {how}；改动部分 {gigabytes(plan.touched_bytes)}，比基础模型大 {gigabytes(max(0, plan.extra_bytes))}")
    if measured is not None:
        describe_effect(precision, measured, plan)
    elif any(site.packing for site in sites) and not plan.dequantize:
        print(f"改动层的精度: {model_card.PRECISION_NAMES[precision]}（没有测量）")


def describe_effect(precision: str, measured: Measured, plan: FusePlan) -> None:
    """Print the adapter's effect, what each candidate loses of it, and a warning where the chosen one loses much."""
    from precision_lora import effect

    print(f"adapter 使输出改变 {effect.relative_effect(measured.logits):.2%}；剩余误差（越小越好）:")
    for name, value in measured.remaining.items():
        cost = fusing.make_plan(plan.base, plan.adapter, name, plan.dequantize).extra_bytes
        mark = " ← 选用" if name == precision else ""
        print(f"   {model_card.PRECISION_NAMES[name]}: {value:.4f}，比基础模型大 {gigabytes(max(0, cost))}{mark}")
    if precision == "f16" and plan.base.float_dtype == "BF16":
        print("   float16 的层会让后面的计算用 float32: 精度更高，KV 缓存占用加倍；不想要时用 --touched-precision bf16")
    if measured.remaining[precision] > effect.REMAINING_LIMIT:
        print(
            f"⚠️  剩余误差 {measured.remaining[precision]:.2f} 高于 {effect.REMAINING_LIMIT}: "
            "训练的改变相对权重的精度太小，"
            "融合会损失一部分；直接用 adapter（mlx_lm.chat --adapter-path …）没有这个损失"
        )


def prove(plan: FusePlan, precision: str, measured: Measured | None, staging: Path) -> dict[str, Any]:
    """Check the staged folder; the counts for the record, with the effect measured from its files."""
    counts = fusing.check_files(plan, staging)
    if measured is None:
        return {"result": counts, "effect": None}
    from precision_lora import effect

    prompts = effect.make_prompts(staging)
    with tqdm(total=plan.base.num_layers, desc="检查融合后的模型", unit="层", file=sys.stderr, disable=None) as bar:
        fused = effect.measure(staging, prompts, {}, (effect.BASE,), bar.update)[effect.BASE]
    effect.check_fused(fused, precision, measured.logits)
    counts["mlx_lm_strict"] = True
    counts["mlx_vlm_strict"] = effect.load_in_mlx_vlm(staging) if "vision_config" in plan.base.config else None
    numbers = {
        "prompts": len(prompts.tokens),
        "relative": effect.relative_effect(measured.logits),
        "remaining": effect.remaining(fused, measured.logits),
        "candidates": measured.remaining,
    }
    return {"result": counts, "effect": numbers}


def make_record(
    plan: FusePlan, precision: str, proof: Mapping[str, Any], hashes: Mapping[str, dict[str, str]], rounding: float
) -> dict[str, Any]:
    """The content of fuse.json."""
    return {
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "base": {
            "name": plan.base.folder.resolve().name,
            "header_sha256": {name: fusing.header_sha256(shard) for name, shard in plan.base.shards.items()},
            "sha256": hashes["base"],
        },
        "adapter": {
            "name": plan.adapter.folder.resolve().name,
            "rank": plan.adapter.rank,
            "scale": plan.adapter.layers[0].scale,
            "modules": len(plan.adapter.layers),
            "sha256": hashes["adapter"],
        },
        "touched_precision": "dequantized" if plan.dequantize else precision,
        "rounding_in_weights": rounding,
        "effect": proof["effect"],
        "result": {**proof["result"], "sha256": hashes["result"]},
    }


def read_training(adapter: Path) -> dict[str, Any] | None:
    """The settings of the run that made the adapter, where they lie beside it."""
    path = adapter.resolve().parent / MODEL_DIR / "training_config.json"
    with contextlib.suppress(OSError, ValueError):
        settings = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(settings, dict):
            config = settings.get("config")
            return {**settings, **config} if isinstance(config, dict) else settings
    return None


def build(plan: FusePlan, precision: str, measured: Measured | None, output: Path) -> dict[str, Any]:
    """Write, prove and publish the fused folder; its record. ``output``'s parent is locked by the caller."""
    staging = folders.staging_name(output)
    staging.mkdir()
    try:
        # Hashing reads the whole model, as the model check does; they are left out together.
        hashed = [path.as_posix() for path in plan.base.companions if path.suffix == ".json"]
        hashed += [] if measured is None else plan.base.shards
        base_hashes = fusing.hash_files(plan.base.folder, hashed)
        with tqdm(
            total=fusing.work_bytes(plan), desc="写入", unit="B", unit_scale=True, file=sys.stderr, disable=None
        ) as bar:
            merged = fusing.write(plan, staging, bar.update)
        result_hashes = fusing.hash_files(staging, hashed)
        proof = prove(plan, precision, measured, staging)
        hashes = {
            "base": base_hashes(),
            "adapter": fusing.hash_files(plan.adapter.folder, [plan.adapter.weights.name, CONFIG_FILE])(),
            "result": result_hashes(),
        }
        record = make_record(plan, precision, proof, hashes, merged.remaining)
        fusing.write_record(staging, record)
        card = model_card.fused_card(output.name, record, read_training(plan.adapter.folder))
        (staging / fusing.CARD_FILE).write_text(card, encoding="utf-8")
        folders.sync_tree(staging)
        folders.publish(staging, output)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return record


def main() -> int:
    started = time.monotonic()
    args = parse()
    base_path, adapter_path, output = resolve_paths(args)
    base = read_base(base_path)
    adapter = read_adapter(adapter_path, "融合")
    check_request(args, base_path, adapter_path, output)
    check_model = not args.no_model_check and mlx_is_there()
    if check_model and (hint := use_fast_blas()):
        print(hint)
    precision, plan, measured = choose_precision(args, base, adapter, check_model)
    parent = folders.existing_parent(output)
    clones = folders.can_clone(base_path / "config.json", parent)
    describe(plan, precision, measured, output, clones)
    if args.dry_run:
        seconds = plan.touched_bytes / MERGE_BYTES_PER_SECOND
        seconds += 0 if clones else plan.total_bytes / COPY_BYTES_PER_SECOND
        print(f"需要空间 {gigabytes(plan.needed_bytes(clones))}，估计约 {max(1, round(seconds))} 秒（不含检查）")
        print("--dry-run: 没有写任何文件。")
        return EXIT_DONE
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with folders.locked(output.parent):
            if folders.clean_leftovers(output):
                print("已清理上次中断留下的文件。")
            # Only now: what was left of an interrupted run may be what fills the disk.
            folders.require_space(output.parent, plan.needed_bytes(clones))
            check_request(args, base_path, adapter_path, output)
            record = build(plan, precision, measured, output)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"磁盘已满: {output.parent}", "腾出空间后重新运行，没有留下半成品") from error
        raise UserError(
            f"读写文件失败: {error.filename or output.parent}（{error.strerror or error}）",
            "检查磁盘和权限，或用 --output 换一个文件夹",
        ) from error
    if record["effect"]:
        print(f"检查通过: mlx-lm 严格加载，剩余误差 {record['effect']['remaining']:.4f}")
    print(f"✅ 融合完成: {output}（{time.monotonic() - started:.0f} 秒）")
    print("接下来:")
    if folders.lmstudio_models() in output.parents:
        print(f"   重启LM Studio，在“我的模型”里选择 {output.parent.name}/{output.name}")
    else:
        print(f"   想在 LM Studio 里用: 把文件夹复制到 {folders.lmstudio_models() / 'local'}，再重启LM Studio")
    print(f"   命令行对话: mlx_lm.chat --model {output}")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(run_main(main))
