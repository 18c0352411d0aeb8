"""Imports point one way, and the pure rooms run on a machine without MLX."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "precision_lora"
SCRIPTS = ("train_v3_precision", "evaluate_v3_model", "fuse_v3_model")
# The rooms that may import MLX; every other file of the package is pure.
MLX_LM_ROOMS = {"model", "lora", "generation", "cpu_kernels", "reporting"}
MLX_ROOMS = MLX_LM_ROOMS | {"step", "mlx_engine", "packing", "fusing", "effect"}


def modules_of(path):
    """Top-level names that a file imports, relative ones as ``.name``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0 and node.module:
                parts = node.module.split(".")
                if parts[0] == "precision_lora":
                    names = parts[1:2] or [alias.name for alias in node.names]
                    found |= {f".{name}" for name in names}
                else:
                    found.add(parts[0])
            elif node.level == 1:
                found |= {f".{(node.module or alias.name).split('.')[0]}" for alias in node.names}
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


def room(path):
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_only_the_named_rooms_import_mlx_and_none_imports_a_script(path):
    imported = modules_of(path)
    assert not imported & set(SCRIPTS)
    assert "mlx_lm" not in imported or room(path) in MLX_LM_ROOMS
    if room(path) not in MLX_ROOMS:
        assert not imported & {"mlx", "mlx_lm", "mlx_vlm", "torch"}
        assert not imported & {f".{name}" for name in MLX_ROOMS}


def test_imports_have_no_cycle():
    graph = {room(path): {name[1:] for name in modules_of(path) if name.startswith(".")} for path in FILES}
    done, under_way = set(), []

    def visit(name):
        if name in done or name not in graph:
            return
        assert name not in under_way, f"cycle: {' → '.join([*under_way, name])}"
        under_way.append(name)
        for other in sorted(graph[name] - {name}):
            visit(other)
        under_way.pop()
        done.add(name)

    for name in graph:
        visit(name)


def test_pure_rooms_import_without_mlx():
    pure = sorted({room(path) for path in FILES} - MLX_ROOMS - {"__init__"})
    code = "import sys\nfor name in ('mlx', 'mlx_lm'): sys.modules[name] = None\n"
    code += "\n".join(f"import precision_lora.{name}" for name in pure)
    result = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
