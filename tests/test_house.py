"""
The rules for all files that a test can check: imports, docstrings, line lengths, scripts that start, and READMEs that
name files which exist.
"""
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
READMES = sorted(path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("README.md"))
READMES.append(Path("README.md"))
ALL_FILES = [path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.*")]
ALL_FILES += [path.relative_to(ROOT) for path in ROOT.glob("*.*")]
COMPARES = Path("data_samples/compare.py")    # trains all three versions, which it imports with import_module
DARKNETS_FILES = {"voc_label.py"}    # the READMEs name these files too, but they are not in this repository


def imports(tree):
    """The first component of every imported module: "shared" for `from shared.boxes import iou`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_run_one_way(path):
    """No version imports another one. shared and data_samples import no version, except for COMPARES."""
    text = (ROOT / path).read_text()
    room, imported = path.parts[0], set(imports(ast.parse(text)))
    if room in VERSIONS or room in ("shared", "data_samples"):
        assert not imported & set(VERSIONS) - {room}
        assert path == COMPARES or "import_module" not in text
    if room != "tests":                                  # pytest finds a test's neighbours, Python finds no script's
        siblings = {other.stem for other in FILES if other.parent == path.parent}
        assert not imported & siblings, "a bare import of a file in the same folder"


@pytest.mark.parametrize("path", [path for path in FILES if path.name != "__init__.py"], ids=str)
def test_files_open_with_a_docstring_and_have_short_lines(path):
    """The docstring of a file in a version's folder also tells what changed."""
    text = (ROOT / path).read_text()
    assert ast.get_docstring(ast.parse(text))
    assert max(len(line) for line in text.splitlines()) <= 120
    if path.parts[0] in VERSIONS:
        assert "What changed from" in ast.get_docstring(ast.parse(text))
        assert path.stem not in sys.stdlib_module_names


def test_importing_a_script_writes_and_prints_nothing():
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


def missing_links(text, readme):
    """The targets of links and pictures in the text of a README that lead to no file, or to no heading of one."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)         # code has brackets that are no links
    missing = []
    for target in re.findall(r"\]\(\s*<?([^)\s>]+)", text):
        if re.match(r"[a-z]+:", target):                                     # https: or mailto:
            continue
        file, _, heading = target.partition("#")
        path = (ROOT / readme).parent / file if file else ROOT / readme
        if not path.exists() or heading and path.suffix == ".md" and heading not in headings(path.read_text()):
            missing.append(target)
    return missing


def headings(text):
    """The names by which links refer to the headings of a text, as GitHub forms them."""
    lines = re.findall(r"^#+ +(.+?) *$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def missing_files(text, readme):
    """
    The files and folders named anywhere in the text of a README, its code included, that do not exist.

    A file may be named by the end of its path: train.py, tiny/model.py, yolov1/tiny/model.py. Files in runs/ are
    written by the scripts and need not exist. yolovN means each of the versions.
    """
    # Removes web addresses, and patterns such as draw_*.py and $f.py; ** begins and ends bold text.
    text = re.sub(r"https?://\S+|\S*[*<>{}$]\S*", "", text.replace("**", ""))
    files = re.findall(r"(?<![\w./-])(?:\.\.?/)*\w[\w./-]*\.(?:py|ipynb|md)\b", text)
    in_rooms = re.findall(r"(?<![\w./-])(?:yolov[N1-3]|shared|data_samples|tests)/[\w./-]*", text)
    paths = {path.rstrip(".") for path in files + in_rooms if not path.startswith("runs/")} - DARKNETS_FILES
    paths = {path.replace("yolovN", version) for path in paths for version in VERSIONS}
    return [path for path in sorted(paths) if not exists(path, readme)]


def exists(path, readme):
    """Whether a path is right from the README's folder or from the top folder, or is the end of the path of a file."""
    if (ROOT / readme).parent.joinpath(path).exists() or ROOT.joinpath(path).exists():
        return True
    parts = Path(path).parts
    return any(file.parts[-len(parts):] == parts for file in ALL_FILES)


@pytest.mark.parametrize("readme", READMES, ids=str)
def test_a_readme_names_what_exists(readme):
    text = (ROOT / readme).read_text()
    assert missing_links(text, readme) == []
    assert missing_files(text, readme) == []


def test_the_modules_come_from_this_checkout():
    import yolov3.model
    assert Path(yolov3.model.__file__).resolve().is_relative_to(ROOT)
