"""The notebooks: what is stored in them, what they import and define, and whether they still run from top to bottom."""
import ast
import importlib
import re

import nbformat
import pytest
from nbclient import NotebookClient

from shared.paths import ROOT

NOTEBOOKS = sorted(path.relative_to(ROOT) for path in ROOT.glob("yolov*/**/*.ipynb") if ".ipynb_" not in str(path))
NUMBER = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")


def cells(path):
    return [cell for cell in nbformat.read(ROOT / path, as_version=4).cells if cell.cell_type == "code"]


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def test_there_are_notebooks():
    assert {path.as_posix() for path in NOTEBOOKS} >= {f"yolov{n}/walkthrough.ipynb" for n in (1, 2, 3)}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=str)
def test_outputs_are_kept_and_small(path):
    text = (ROOT / path).read_text()
    assert len(text) < 1_000_000
    assert not re.search(r"/home/|/root/|/tmp/|/Users/|site-packages", text)
    notebook = nbformat.read(ROOT / path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert [cell.execution_count for cell in cells(path)] == list(range(1, len(cells(path)) + 1))
    outputs = [output for cell in cells(path) for output in cell.outputs]
    assert sum("image/jpeg" in output.get("data", {}) for output in outputs) >= 5
    for output in outputs:
        assert output.output_type != "error" and output.get("name") != "stderr"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=str)
def test_nothing_is_written_twice(path):
    """A notebook defines no function or class that a file beside it or in shared/ defines."""
    files = [*(ROOT / path).parent.glob("*.py"), *ROOT.glob("shared/*.py")]
    theirs = {node.name for file in files for node in ast.parse(file.read_text()).body
              if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    lines = [line for cell in cells(path) for line in cell.source.splitlines()]
    assert max(map(len, lines)) <= 120
    ours = {node.name for cell in cells(path) for node in ast.walk(ast.parse(cell.source))
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assert not ours & theirs


@pytest.mark.parametrize("path", NOTEBOOKS, ids=str)
def test_what_a_notebook_imports_exists(path):
    for cell in cells(path):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                assert not missing, f"{path}: from {node.module} import {missing}"


def test_the_lines_with_a_bug_are_lines_of_the_loss():
    """Each bug of debugging.ipynb changes one line, which is in loss.py exactly once. The result is still Python."""
    loss = (ROOT / "yolov3" / "loss.py").read_text()
    statements = [node for cell in cells("yolov3/debugging.ipynb") for node in ast.parse(cell.source).body]
    bugs, = [ast.literal_eval(node.value) for node in statements
             if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "BUGS"]
    assert len(bugs) >= 5
    for name, (before, after) in bugs.items():
        assert loss.count(before) == 1 and after != before and "\n" not in before + after, name
        ast.parse(loss.replace(before, after))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=str)
def test_the_notebook_runs(path, tmp_path, monkeypatch):
    """
    It also writes nothing into the repository and prints what it printed before. The result of a training differs from
    one machine to the next, so the notebooks show it in pictures only.
    """
    def files():
        return {p: p.stat().st_mtime_ns for p in ROOT.rglob("*") if p.is_file() and "__pycache__" not in p.parts
                and ".git" not in p.parts and ".pytest_cache" not in p.parts}

    monkeypatch.setenv("OMP_NUM_THREADS", "1")                           # on a busy machine threads wait for each other
    before, notebook = files(), nbformat.read(ROOT / path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    assert files() == before and not list(tmp_path.iterdir())
    again = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for old, new in zip(cells(path), again):
        assert NUMBER.sub("#", printed(new)) == NUMBER.sub("#", printed(old))
        numbers = [[float(n) for n in NUMBER.findall(printed(cell))] for cell in (new, old)]
        assert numbers[0] == pytest.approx(numbers[1], rel=0.01, abs=0.02)
