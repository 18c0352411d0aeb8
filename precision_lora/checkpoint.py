"""Checkpoints that survive anything: written beside their place, synced, hashed, then renamed (pure).

A checkpoint ``step_<n>/`` is a usable adapter folder plus, while it is among the newest, what resuming needs::

    adapters.safetensors, adapter_config.json    the adapter, as mlx-lm loads it
    optimizer.safetensors                        AdamW moments, "first.<tensor>" and "second.<tensor>", float32
    history.json                                 one object for each step so far
    state.json                                   step, updates, settings, best validation, digests of data and base
    manifest.json                                size and sha256 of each file above; written last

Random numbers need no place in it: data order and dropout are functions of (seed, step).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from precision_lora.errors import UserError
from precision_lora.folders import publish, sync_tree

if sys.platform != "win32":
    import fcntl

ADAPTER, ADAPTER_CONFIG = "adapters.safetensors", "adapter_config.json"
OPTIMIZER, HISTORY, STATE, MANIFEST = "optimizer.safetensors", "history.json", "state.json", "manifest.json"
RESUME_FILES = (OPTIMIZER, HISTORY)
LOCK = ".lock"

Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Snapshot:
    """All of a run after ``step`` optimizer steps; ``state`` is plain JSON. ``simulated`` marks every file of it."""

    step: int
    adapter: Tensors
    adapter_config: Mapping[str, Any]
    first: Tensors
    second: Tensors
    state: Mapping[str, Any]
    history: list[dict[str, Any]]
    simulated: bool = False


class Damaged(Exception):
    """A checkpoint that does not hold what it says; the text names the file and what is wrong with it."""


# --------------------------------------------------------------------------------------------------------------------
# Files


def write_tensors(path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> str:
    """Write float32 tensors as safetensors, one at a time without a second copy in memory; returns the sha256.

    Raises:
        OSError: disk full, file too large, not writable.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for name in sorted(tensors):
        size = tensors[name].size * 4
        header[name] = {"dtype": "F32", "shape": list(tensors[name].shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for piece in (struct.pack("<Q", len(text)), text):
            file.write(piece)
            digest.update(piece)
        for name in sorted(tensors):
            data = np.ascontiguousarray(tensors[name], dtype="<f4").reshape(-1).view(np.uint8).data
            file.write(data)
            digest.update(data)
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` in one step, on the disk before it counts."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def to_text(value: Any) -> str:
    """JSON as this project writes it: Chinese as it is, NaN refused."""
    return json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def history_text(history: list[dict[str, Any]]) -> str:
    """A JSON list with one object a line, one object a step."""
    rows = ",\n".join(json.dumps(entry, ensure_ascii=False, allow_nan=False) for entry in history)
    return f"[\n{rows}\n]\n"


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --------------------------------------------------------------------------------------------------------------------
# Saving


def save(folder: Path, name: str, snapshot: Snapshot, *, adapter_only: bool = False) -> Path:
    """Write ``folder/name`` so that it is there whole or not at all; an older one of that name is replaced.

    Raises:
        UserError: the disk is full or not writable; what was there before is untouched.
    """
    staging = folder / f".{name}.tmp"
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        mark = {"simulated": True} if snapshot.simulated else {}
        metadata = {"format": "mlx"} | ({"simulated": "true"} if snapshot.simulated else {})
        hashes = {ADAPTER: write_tensors(staging / ADAPTER, snapshot.adapter, metadata)}
        texts = {ADAPTER_CONFIG: to_text(snapshot.adapter_config), STATE: to_text({**snapshot.state, **mark})}
        if not adapter_only:
            moments = {f"first.{k}": v for k, v in snapshot.first.items()}
            moments |= {f"second.{k}": v for k, v in snapshot.second.items()}
            hashes[OPTIMIZER] = write_tensors(staging / OPTIMIZER, moments, metadata)
            texts[HISTORY] = history_text(snapshot.history)
        for file, text in texts.items():
            (staging / file).write_text(text, encoding="utf-8")
            hashes[file] = hashlib.sha256(text.encode()).hexdigest()
        _write_manifest(staging, hashes, mark)
        sync_tree(staging)
        publish(staging, folder / name)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise UserError(
            f"检查点没有保存: {folder / name}（{error.strerror or error}），之前的检查点都还在",
            f"腾出磁盘空间: du -sh {folder}/*",
            "然后从最新的检查点继续: 在原来的命令后加 --resume",
        ) from error
    return folder / name


def _write_manifest(folder: Path, hashes: Mapping[str, str], mark: Mapping[str, bool]) -> None:
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": hashes[name]} for name in sorted(hashes)}
    write_text(folder / MANIFEST, to_text({**mark, "files": files}))


def prune(folder: Path, keep: int) -> None:
    """Reduce all but the newest ``keep`` full checkpoints to their adapter; drop best ones that no full one names."""
    steps = [path for path in checkpoints(folder) if (path / OPTIMIZER).exists()]
    for path in steps[:-keep]:
        with contextlib.suppress(Damaged, KeyError):  # a damaged one is left for the person to look at
            manifest = _read_json(path / MANIFEST)
            kept = {n: v["sha256"] for n, v in manifest.pop("files").items() if n not in RESUME_FILES}
            _write_manifest(path, kept, manifest)
            for name in RESUME_FILES:
                (path / name).unlink(missing_ok=True)
    wanted = set()
    for path in steps[-keep:]:
        with contextlib.suppress(Damaged):
            wanted.add(best_name(_read_json(path / STATE).get("best")))
    for path in folder.glob("best_step_*"):
        if path.name not in wanted:
            shutil.rmtree(path)


def best_name(best: Mapping[str, Any] | None) -> str:
    """Folder name of the best validation's adapter, from the run state's ``best``; empty when there is none."""
    return f"best_step_{best['step']}" if best else ""


def clean_leftovers(folder: Path) -> None:
    """Remove what an interrupted save left behind (call it under the lock)."""
    for path in [*folder.glob(".*.tmp"), *folder.glob(".*.old")]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


# --------------------------------------------------------------------------------------------------------------------
# Loading


def checkpoints(folder: Path) -> list[Path]:
    """``step_<n>`` folders, oldest first."""
    found = [(int(m[1]), p) for p in folder.glob("step_*") if p.is_dir() and (m := re.fullmatch(r"step_(\d+)", p.name))]
    return [path for _, path in sorted(found)]


def load(path: Path) -> Snapshot:
    """Read a full checkpoint back, every byte verified.

    Raises:
        Damaged: a file is missing, cut short or altered, or the checkpoint keeps its adapter only.
    """
    files = _read_json(path / MANIFEST).get("files")
    if not isinstance(files, dict):
        raise Damaged(f"{path / MANIFEST}: 没有文件清单")
    for name, entry in files.items():
        if not (path / name).is_file():
            raise Damaged(f"{path / name}: 文件不见了")
        size = (path / name).stat().st_size
        if size != entry["bytes"]:
            raise Damaged(f"{path / name}: 应为 {entry['bytes']} 字节，实为 {size} 字节")
        if _sha256(path / name) != entry["sha256"]:
            raise Damaged(f"{path / name}: 内容与保存时不同")
    if not {ADAPTER, ADAPTER_CONFIG, STATE, *RESUME_FILES} <= files.keys():
        raise Damaged(f"{path}: 只保留了 adapter，不能从这里继续训练")
    try:
        adapter, moments = load_file(path / ADAPTER), load_file(path / OPTIMIZER)
    except (SafetensorError, OSError) as error:
        raise Damaged(f"{path}: {error}") from None
    state = _read_json(path / STATE)
    history = json.loads((path / HISTORY).read_text(encoding="utf-8"))
    return Snapshot(
        step=state["step"],
        adapter=adapter,
        adapter_config=_read_json(path / ADAPTER_CONFIG),
        first={k.removeprefix("first."): v for k, v in moments.items() if k.startswith("first.")},
        second={k.removeprefix("second."): v for k, v in moments.items() if k.startswith("second.")},
        state=state,
        history=history,
        simulated=bool(state.get("simulated")),
    )


def newest_sound(folder: Path, report: Callable[[str], object]) -> Snapshot | None:
    """The newest checkpoint that is whole; each damaged one on the way is reported by name. None without any."""
    for path in reversed(checkpoints(folder)):
        try:
            return load(path)
        except Damaged as error:
            report(f"⚠️  检查点不能用: {error}；改用上一个")
    return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Damaged(f"{path}: 文件不见了") from None
    except (OSError, ValueError):
        raise Damaged(f"{path}: 无法读取") from None
    if not isinstance(value, dict):
        raise Damaged(f"{path}: 内容不对")
    return value


# --------------------------------------------------------------------------------------------------------------------
# One run at a time


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold ``folder`` (made if need be) for one run; the system lets go when the process ends, however it ends.

    Raises:
        UserError: another run holds it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f"输出文件夹不能写入: {folder}（{error.strerror}）", "换一个: --output-dir 文件夹") from None
    try:
        if sys.platform != "win32":
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(
                    f"另一个训练正在使用这个输出文件夹: {folder.parent.resolve()}",
                    "等它结束，或换一个: --output-dir 文件夹",
                ) from None
        yield
    finally:
        os.close(descriptor)
