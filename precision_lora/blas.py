"""The matrix libraries: a fast one for MLX on Linux CPUs, and how many threads NumPy's own one takes.

The mlx-cpu wheel carries the reference BLAS (2.4 GFLOP/s in float32 on two cores). OpenBLAS loaded before it takes its
place and computes 75 times faster. A library can be put in front, and the allocator be set, only when a process
starts, hence the restart.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

LIBRARY_PATTERNS = (
    "/usr/lib/*-linux-gnu/openblas-pthread/libblas.so.3",
    "/usr/lib/*-linux-gnu/openblas-openmp/libblas.so.3",
    "/usr/lib64/libopenblasp.so.0",
    "/usr/lib64/libopenblas.so.0",
    "/usr/lib/libopenblas.so",
)
# glibc gives arrays of more than 128 KB back to the system and fetches them anew, page by page, at every operation.
# Kept, a training step of a 135M model takes 0.87 of the time; the peak stays what it was.
KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
}
CUDA_WHEELS = ("mlx-cuda", "mlx-cuda-12", "mlx-cuda-13")
# Set in the restarted process, so that it never restarts again.
MARK = "PRECISION_LORA_FAST_BLAS"


def find_openblas() -> Path | None:
    """An installed OpenBLAS with the standard BLAS symbols, or None."""
    for pattern in LIBRARY_PATTERNS:
        for path in sorted(Path("/").glob(pattern.lstrip("/"))):
            return path
    return None


def fast_environment(library: Path) -> dict[str, str]:
    """Variables of a process that computes with ``library`` and keeps freed memory; those already set win."""
    preload = ":".join(filter(None, [str(library), os.environ.get("LD_PRELOAD", "")]))
    return {**KEEP_FREED_MEMORY, **os.environ, "LD_PRELOAD": preload, MARK: "1"}


def _has_cuda_backend() -> bool:
    """Whether MLX's CUDA wheel is installed: a driver alone does not make MLX compute on the GPU."""
    for name in CUDA_WHEELS:
        with contextlib.suppress(PackageNotFoundError):
            return bool(version(name))
    return False


def use_fast_blas() -> str | None:
    """On Linux without a GPU, restart this process with OpenBLAS in front of MLX's own and `KEEP_FREED_MEMORY`.

    Call before MLX is imported.

    Returns:
        A Chinese hint when no OpenBLAS or no compiler is installed, else None. Does not return where it restarts.
    """
    if sys.platform != "linux" or _has_cuda_backend():
        return None
    if MARK in os.environ or "blas" in os.environ.get("LD_PRELOAD", ""):
        # MLX compiles elementwise operations with it, or computes them one by one.
        return None if shutil.which("g++") else "没有找到 g++，CPU 上的训练会慢两成。安装: sudo apt-get install -y g++"
    library = find_openblas()
    if library is None:
        return "没有找到 OpenBLAS，CPU 上的训练会慢几十倍。安装: sudo apt-get install -y libopenblas0-pthread"
    environment = fast_environment(library)
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def use_one_numpy_thread() -> None:
    """Let the OpenBLAS that NumPy's wheels carry compute on one core; without effect where NumPy has another library.

    For products of a few milliseconds its threads wait for each other longer than they compute, on a busy machine
    seven times as long, and with one thread the number of cores has no part in the rounding.
    """
    packages = Path(np.__file__).parent.parent
    for path in [*packages.glob("numpy.libs/*openblas*"), *packages.glob("numpy/.dylibs/*openblas*")]:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(str(path)).scipy_openblas_set_num_threads64_(1)
