#!/usr/bin/env python3
"""A fused folder in LM Studio's loaders: mlx-vlm, and optionally the public mlx-engine. Has an environment of its own.

    python3 -m venv .venv-vlm && .venv-vlm/bin/pip install mlx mlx-lm mlx-vlm torch torchvision   # Linux: and mlx-cpu
    .venv-vlm/bin/python tests/vlm/check_fused.py BASE FUSED

loads both folders strictly in mlx-vlm and compares what the vision tower makes of a picture: it has to be the same, bit
for bit. With ``--engine FOLDER``, a checkout of https://github.com/lmstudio-ai/mlx-engine (and ``pip install
outlines==0.1.14 outlines_core==0.1.26``), its demo.py answers a text and an image prompt from the fused folder.
Without folders it makes small ones, plain and in 4 bits, fuses an adapter into each and checks those.

On Linux, MLX multiplies experts in float32 or quantised only; a bfloat16 mixture of experts loads there, but answers on
a Mac alone. ``--float32`` tries the engine on a float32 copy of the fused folder.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(PROJECT))

QUESTION = "我的血压140/90需要担心吗？"
IMAGE_QUESTION = "这张图里有什么？"
# A whole number of the tower's merged patches on both sides.
IMAGE_PIXELS = 96


def make_picture(path: Path) -> Path:
    """Coloured squares, the same at every run."""
    from PIL import Image

    squares = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(squares).resize((IMAGE_PIXELS, IMAGE_PIXELS), Image.Resampling.NEAREST).save(path)
    return path


def vision_features(folder: Path, picture: Path) -> list[np.ndarray]:
    """What mlx-vlm's tower makes of the picture: merged features and those of the deeper layers."""
    import mlx.core as mx
    from mlx_vlm import load
    from PIL import Image

    model, processor = load(str(folder), lazy=True)
    content = [{"type": "image"}, {"type": "text", "text": IMAGE_QUESTION}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    inputs = processor(text=[text], images=[Image.open(picture)], return_tensors="np")
    pixels = mx.array(inputs["pixel_values"]).astype(model.vision_tower.patch_embed.proj.weight.dtype)
    hidden, deeper = model.vision_tower(pixels, mx.array(inputs["image_grid_thw"]))
    features = [np.array(part.astype(mx.float32)) for part in (hidden, *deeper)]
    assert all(np.isfinite(part).all() and np.ptp(part) > 0 for part in features)
    return features


def check_vision(base: Path, fused: Path, picture: Path) -> None:
    expected, found = vision_features(base, picture), vision_features(fused, picture)
    assert len(expected) == len(found)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)
    print(f"ok: {len(found)} feature maps of {fused.name} equal those of {base.name}, first {found[0].shape}")


def check_engine(engine: Path, fused: Path, picture: Path) -> None:
    for question, images in ((QUESTION, []), (IMAGE_QUESTION, ["--images", str(picture)])):
        command = [sys.executable, "demo.py", "--model", str(fused.resolve()), "--prompt", question, "--no-system"]
        result = subprocess.run(
            [*command, "--temp", "0", *images], cwd=engine, capture_output=True, text=True, timeout=900
        )
        # The process may end in an abort of a library's thread after its work is done; the statistics come last.
        answered = "Stopped generation due to" in result.stdout
        kind = "image" if images else "text"
        if not answered:
            raise SystemExit(f"{kind} prompt failed on {fused}:\n{result.stderr[-2000:]}")
        answer = result.stdout.split("✓", 1)[-1].split("Generation stats", 1)[0].strip()
        print(f"ok: mlx-engine answers a {kind} prompt from {fused.name}: {answer[:60]!r}")


def as_float32(folder: Path, target: Path) -> Path:
    """A copy of a plain model folder with its floating tensors in float32."""
    import mlx.core as mx

    shutil.copytree(folder, target)
    for path in target.glob("*.safetensors"):
        arrays = mx.load(str(path))
        arrays = {k: v.astype(mx.float32) if mx.issubdtype(v.dtype, mx.floating) else v for k, v in arrays.items()}
        mx.eval(arrays)
        mx.save_safetensors(str(path), arrays, {"format": "mlx"})
    return target


def fuse(base: Path, adapter: Path, out: Path) -> Path:
    command = [sys.executable, str(PROJECT / "fuse_v3_model.py"), "--base-model", str(base)]
    subprocess.run([*command, "--adapter-path", str(adapter), "--output", str(out)], check=True)
    assert json.loads((out / "fuse.json").read_text())["result"]["mlx_vlm_strict"] is True
    return out


def make_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Small bases, a float32 and a 4-bit one, each with its fused folder."""
    from tests.model_folders import vl_config, write_adapter, write_base

    pairs = []
    for bits in (0, 4):
        config = vl_config(layers=3, hidden=128, experts=8, dtype="F32", head_dim=32)
        base = write_base(folder / f"base-{bits}", config, dtype="F32", bits=bits, shard_bytes=400_000)
        write_adapter(folder / f"adapter-{bits}", config, ("q_proj", "k_proj", "v_proj", "o_proj"))
        pairs.append((base, fuse(base, folder / f"adapter-{bits}", folder / f"fused-{bits}")))
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, nargs="?")
    parser.add_argument("fused", type=Path, nargs="?")
    parser.add_argument("--engine", type=Path, help="checkout of lmstudio-ai/mlx-engine")
    parser.add_argument("--float32", action="store_true", help="run the engine on a float32 copy (Linux)")
    args = parser.parse_args()
    if args.base and not args.fused:
        parser.error("BASE needs FUSED")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        picture = make_picture(scratch / "picture.png")
        pairs = [(args.base, args.fused)] if args.base else make_pairs(scratch)
        for base, fused in pairs:
            check_vision(base, fused, picture)
            if args.engine:
                tried = as_float32(fused, scratch / f"{fused.name}-float32") if args.float32 else fused
                check_engine(args.engine, tried, picture)


if __name__ == "__main__":
    main()
