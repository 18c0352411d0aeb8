"""Folders on disk: cheap copies, free space, and giving a finished folder its final name in one step."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from precision_lora.errors import UserError

if sys.platform != "win32":
    import fcntl

# linux/fs.h: _IOW(0x94, 9, int). Makes the target share the source's blocks until one of them is written.
_FICLONE = 0x40049409
_COPY_CHUNK_BYTES = 64 << 20
# linux/fs.h RENAME_EXCHANGE and <sys/stdio.h> RENAME_SWAP have the same value.
_SWAP_FLAG = 2
_AT_FDCWD = -100
# What a full disk may lack after rounding to blocks and writing small files.
_SPARE_BYTES = 16 << 20

Progress = Callable[[int], object]


def lmstudio_models() -> Path:
    """LM Studio's models folder; its home can be moved, and then a pointer file in the home folder says where."""
    pointer = Path.home() / ".lmstudio-home-pointer"
    if pointer.is_file():
        moved = pointer.read_text(encoding="utf-8").strip()
        if moved:
            return Path(moved).expanduser() / "models"
    return Path.home() / ".lmstudio" / "models"


def clone_file(source: Path, target: Path) -> bool:
    """Make ``target`` a copy-on-write clone of ``source``; False where the file system cannot, with no target left."""
    try:
        if sys.platform == "darwin":
            clonefile = ctypes.CDLL(None, use_errno=True).clonefile
            return clonefile(os.fsencode(source.resolve()), os.fsencode(target), 0) == 0
        if sys.platform == "linux":
            with source.open("rb") as reader, target.open("wb") as writer:
                fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
            return True
    except (OSError, AttributeError):
        target.unlink(missing_ok=True)
    return False


def copy_range(source: Path, target_descriptor: int, start: int, end: int, at: int, progress: Progress) -> None:
    """Copy bytes ``start`` to ``end`` of a file to position ``at`` of an open one, in the kernel where possible."""
    with source.open("rb") as reader:
        while start < end:
            count = min(_COPY_CHUNK_BYTES, end - start)
            copied = _kernel_copy(reader.fileno(), target_descriptor, count, start, at)
            if copied is None:
                data = os.pread(reader.fileno(), min(count, 8 << 20), start)
                copied = os.pwrite(target_descriptor, data, at) if data else 0
            if copied == 0:
                raise UserError(f"复制时文件变短了: {source}", "基础模型在融合时不要改动，之后重新运行")
            start, at = start + copied, at + copied
            progress(copied)


def _kernel_copy(reader: int, writer: int, count: int, start: int, at: int) -> int | None:
    """Bytes copied without passing through this process; None where the system cannot."""
    if not hasattr(os, "copy_file_range"):
        return None
    try:
        return os.copy_file_range(reader, writer, count, start, at)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM):
            return None
        raise


def copy_file(source: Path, target: Path, progress: Progress) -> bool:
    """A copy of ``source``, links followed; True where it is a clone that shares its blocks."""
    size = source.stat().st_size
    if clone_file(source, target):
        progress(size)
        return True
    if not hasattr(os, "pread"):  # Windows
        shutil.copyfile(source, target)
        progress(size)
        return False
    with target.open("wb") as writer:
        copy_range(source, writer.fileno(), 0, size, 0, progress)
    return False


def can_clone(source: Path, folder: Path) -> bool:
    """Whether files of ``source``'s folder can be cloned into ``folder`` (an existing one); tried, not guessed."""
    probe = folder / f".clone-probe-{os.getpid()}"
    try:
        return clone_file(source, probe)
    finally:
        probe.unlink(missing_ok=True)


def existing_parent(path: Path) -> Path:
    """The nearest folder above ``path`` that exists."""
    parent = path.absolute().parent
    while not parent.is_dir():
        parent = parent.parent
    return parent


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raises UserError where ``folder``'s file system has less than ``needed_bytes`` free."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + _SPARE_BYTES:
        raise UserError(
            f"磁盘空间不足: {folder} 需要 {gigabytes(needed_bytes + _SPARE_BYTES)}，剩余 {gigabytes(free)}",
            "删除不用的模型，腾出空间后重新运行",
            "或用 --output 换一个磁盘（与基础模型在同一个 APFS 磁盘上时，复制几乎不占空间）",
        )


def gigabytes(count: int) -> str:
    """A byte count for people."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for one fusion at a time; the system lets go when the process ends, however it ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise UserError(f"另一个融合正在写入 {folder}", "等它结束后再运行") from error
        yield
    finally:
        os.close(descriptor)


def staging_name(target: Path) -> Path:
    """Where the folder ``target`` is built: beside it, so that the last rename stays on one file system."""
    return target.parent / f".{target.name}.fusing"


def _retired_name(target: Path) -> Path:
    return target.parent / f".{target.name}.old"


def clean_leftovers(target: Path) -> list[Path]:
    """Undo an interrupted run (call it under ``locked``): put a set-aside old folder back, remove half-made ones.

    Returns the removed or restored folders.
    """
    touched = []
    retired, staging = _retired_name(target), staging_name(target)
    if retired.exists() and not target.exists():
        os.rename(retired, target)
        touched.append(retired)
    for leftover in (retired, staging):
        if leftover.exists():
            shutil.rmtree(leftover)
            touched.append(leftover)
    return touched


def sync_tree(folder: Path) -> None:
    """Have every file and folder below ``folder`` on the disk, so that a power cut cannot undo a later rename."""
    if sys.platform == "win32":  # syncs files open for writing alone, and no folders
        return
    for parent, _, names in os.walk(folder):
        for path in [*(os.path.join(parent, name) for name in names), parent]:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def publish(staging: Path, target: Path) -> None:
    """Give the finished ``staging`` its final name; an old folder there is replaced in the same step and removed."""
    if target.exists():
        retired = _retired_name(target)
        if _exchange(staging, target):
            os.rename(staging, retired)
        else:
            os.rename(target, retired)
            os.rename(staging, target)
        _sync_folder(target.parent)
        shutil.rmtree(retired)
    else:
        os.rename(staging, target)
        _sync_folder(target.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system cannot."""
    if sys.platform == "win32":
        return False
    library = ctypes.CDLL(None, use_errno=True)
    first, second = os.fsencode(one), os.fsencode(other)
    try:
        if sys.platform == "darwin":
            return library.renamex_np(first, second, _SWAP_FLAG) == 0
        return library.renameat2(_AT_FDCWD, first, _AT_FDCWD, second, _SWAP_FLAG) == 0
    except AttributeError:
        return False


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
