"""The rules of the house that a machine can check: who imports whom, docstrings, constants, lengths, runnable files."""
import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.paths import ROOT

ROOMS = ["shared", "data_samples", "tests", *(room.name for room in ROOT.glob("yolov*"))]
FILES = sorted(path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py"))
VERSIONS = ("yolov1", "yolov2", "yolov3")


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_run_one_way(path):
    room, imported = path.parts[0], set(imports(ast.parse((ROOT / path).read_text())))
    if room in VERSIONS or room in ("shared", "data_samples"):
        assert not imported & set(VERSIONS) - {room}
    siblings = {other.stem for other in FILES if other.parent == path.parent}
    assert not imported & siblings - {"tests"}, "a bare import of a file in the same folder"


@pytest.mark.parametrize("path", [path for path in FILES if path.name != "__init__.py"], ids=str)
def test_files_open_with_what_they_are(path):
    text = (ROOT / path).read_text()
    assert ast.get_docstring(ast.parse(text))
    assert max(len(line) for line in text.splitlines()) <= 120
    if path.parts[0] in VERSIONS:
        assert "What changed from" in ast.get_docstring(ast.parse(text))
        assert path.stem not in sys.stdlib_module_names


def test_nothing_happens_at_import():
    """Importing every script writes nothing and prints nothing."""
    scripts = [path for path in FILES if path.parts[0] != "tests" and path.stem != "__init__"]
    program = "import " + ", ".join(".".join(path.with_suffix("").parts) for path in scripts)
    before = {path: path.stat().st_mtime_ns for path in ROOT.glob("runs/**/*")}
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert {path: path.stat().st_mtime_ns for path in ROOT.glob("runs/**/*")} == before


@pytest.mark.parametrize("module, expected", [
    ("yolov3.model", "61,949,149   65.864"),
    ("yolov3.loss", "xy               2.688957"),
])
def test_files_do_something_when_run(module, expected):
    result = subprocess.run([sys.executable, "-m", module], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and expected in result.stdout


def test_scripts_start_from_any_folder(tmp_path):
    command = [sys.executable, str(ROOT / "yolov3" / "loss.py")]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0 and "total" in result.stdout


def test_the_readme_names_what_exists():
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"(?<!runs/)(?:yolov\d|shared|data_samples|tests)/[\w/]+\.(?:py|md|ipynb|png|jpg)", text))
    assert named and not [name for name in named if not (ROOT / name).exists()]


def test_the_first_import_is_this_checkout():
    import yolov3.model
    assert Path(yolov3.model.__file__).resolve().is_relative_to(ROOT)
