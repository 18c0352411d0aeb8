"""Both READMEs against the code: flags, defaults, files and error messages named are those that exist."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
READMES = ("README.md", "README.en.md")
SCRIPTS = ("train_v3_precision.py", "evaluate_v3_model.py", "fuse_v3_model.py")
# Flags of other programs, and of every program, that the pages show.
FOREIGN_FLAGS = {
    "--help",
    "--force-reinstall",
    "--model",
    "--prompt",
    "--max-tokens",
    "--adapter-path",
    "--hostfile",
    "--samplers",
}


def text_of(name):
    return (PROJECT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def flags():
    found = {}
    for script in SCRIPTS:
        result = subprocess.run(
            [sys.executable, script, "--help"], cwd=PROJECT, capture_output=True, text=True, check=True
        )
        found[script] = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", result.stdout)) - {"--help"}
    return found


@pytest.mark.parametrize("name", READMES)
def test_every_flag_named_exists_and_every_flag_that_exists_is_named(name, flags):
    text = text_of(name)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))
    known = set().union(*flags.values())
    assert named - known - FOREIGN_FLAGS == set()
    assert known - named == set()


@pytest.mark.parametrize("name", READMES)
def test_commands_use_flags_of_their_own_script(name, flags):
    commands = [line for block in re.findall(r"```bash\n(.*?)```", text_of(name), re.S) for line in block.splitlines()]
    seen = 0
    for command in commands:
        command = command.split("#")[0]
        for script in SCRIPTS:
            if f"python {script}" in command or (script == SCRIPTS[0] and "run_v3_training.sh" in command):
                used = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", command.split(script)[-1]))
                assert used <= flags[script], command
                seen += 1
    assert seen >= 12


@pytest.mark.parametrize("name", READMES)
def test_defaults_in_the_flag_table_are_the_code_s(name):
    from precision_lora.config import TrainConfig

    defaults = TrainConfig()
    for flag, value in re.findall(r"^\| `--([a-z-]+)` \| ([\d.e-]+) \|", text_of(name), re.M):
        field = flag.replace("-", "_")
        if hasattr(defaults, field):
            assert float(value) == pytest.approx(float(getattr(defaults, field))), flag


@pytest.mark.parametrize("name", READMES)
def test_files_that_the_page_lists_exist(name):
    tree = re.search(r"```\n(run_v3_training\.sh.*?)```", text_of(name), re.S)
    assert tree, "the file tree is missing"
    folder, listed = [], []
    for line in tree.group(1).splitlines():
        entry = re.match(r"( *)([\w./-]+)", line)
        if not entry:
            continue
        depth = len(entry.group(1)) // 2
        folder = [*folder[:depth], entry.group(2)]
        listed.append(PROJECT.joinpath(*folder))
    assert len(listed) > 30
    assert [str(path) for path in listed if not path.exists()] == []
    tracked = subprocess.run(["git", "ls-files", "precision_lora/*.py"], cwd=PROJECT, capture_output=True, text=True)
    modules = {line for line in tracked.stdout.split() if line.count("/") == 1 and "__init__" not in line}
    assert {PROJECT / module for module in modules} <= set(listed), "a module is missing from the tree"


def words_of(node):
    """A message as its source writes it, … for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(words_of(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return words_of(node.left) + words_of(node.right)
    return "…"


def messages():
    """First line of every message that ends a program with exit code 2, as (where, text)."""
    for path in sorted([*PROJECT.glob("precision_lora/**/*.py"), *(PROJECT / script for script in SCRIPTS)]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "UserError":
                yield f"{path.name}:{node.lineno}", words_of(node.args[0]).split("\n")[0]
    shell = (PROJECT / "scripts" / "environment.sh").read_text(encoding="utf-8")
    for text in re.findall(r'\bfail "([^"$]+)', shell):
        yield "environment.sh", text


@pytest.mark.parametrize("name", READMES)
def test_every_error_has_a_line_in_troubleshooting(name):
    section = re.search(r"^## (?:故障排查|Troubleshooting)\n(.*?)^## ", text_of(name), re.S | re.M).group(1)
    cells = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    phrases = [phrase for cell in cells for phrase in re.findall(r"`([^`]+)`", cell)]
    assert len(phrases) > 60
    patterns = [".*".join(map(re.escape, phrase.split("…"))) for phrase in phrases]
    found = list(messages())
    assert len(found) > 60
    # A message that is all filled in is put together elsewhere: its parts are not told from here.
    told = [(where, text) for where, text in found if re.search(r"\w", text)]
    assert [(where, text) for where, text in told if not any(re.search(p, text) for p in patterns)] == []
    sources = "".join(path.read_text(encoding="utf-8") for path in PROJECT.glob("precision_lora/**/*.py"))
    sources += "".join((PROJECT / file).read_text(encoding="utf-8") for file in (*SCRIPTS, "scripts/environment.sh"))
    # The other way round: no line for a message that no program prints.
    gone = [phrase for phrase in phrases if not all(part in sources for part in phrase.split("…"))]
    assert gone == []


def test_the_two_pages_say_the_same():
    pages = [text_of(name) for name in READMES]
    shapes = [
        {
            "headings": [len(level) for level in re.findall(r"^(#+) ", page, re.M)],
            "commands": [
                [line.split("#")[0].split() for line in block.splitlines() if line.strip()]
                for block in re.findall(r"```bash\n(.*?)```", page, re.S)
            ],
            "table rows": len(re.findall(r"^\|", page, re.M)),
            "pictures": re.findall(r"!\[[^\]]*\]\(([^)]*)\)", page),
        }
        for page in pages
    ]
    assert shapes[0]["headings"] == shapes[1]["headings"]
    assert len(shapes[0]["commands"]) == len(shapes[1]["commands"])
    assert shapes[0]["table rows"] == shapes[1]["table rows"]
    assert shapes[0]["pictures"] == shapes[1]["pictures"]


@pytest.mark.parametrize("name", READMES)
def test_nothing_is_left_to_fill_in(name):
    assert not re.findall(r"⟨[^⟩]*⟩|TODO|TBD", text_of(name))
