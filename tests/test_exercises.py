"""
The exercises at the end of the versions' READMEs. Each edit fits the committed files. Each file of tests/exercises,
which plain `pytest` does not collect, fails on the committed code and passes with the README's solution.

An edit or a solution is a block of ```diff lines without line numbers: "--- file", then lines that stay (" "), go ("-")
or come ("+"); @@ stands where lines of the file are left out.
"""
import ast
import importlib.util
import inspect
import re
import shutil
import subprocess
import sys

import pytest

import shared.boxes
from shared.paths import ROOT

VERSIONS = ["yolov1", "yolov2", "yolov3"]
EXERCISES, SOLUTIONS = {}, {}                                                # version -> text
for version in VERSIONS:
    text = (ROOT / version / "README.md").read_text().split("\n## Exercises\n")[1]
    EXERCISES[version], SOLUTIONS[version] = text.split("\n## Solutions\n")
FILES = sorted(path.name for path in (ROOT / "tests" / "exercises").glob("*.py"))


def blocks(text):
    return re.findall(r"^```diff\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def apply(block, folder):
    """Makes the edit in the files of folder. The old lines have to be there exactly once."""
    for part in re.split(r"^--- ", block, flags=re.MULTILINE)[1:]:
        name, _, hunks = part.partition("\n")
        path = folder / name
        for hunk in hunks.split("@@\n"):
            lines = hunk.splitlines()
            assert all(line[0] in " -+" for line in lines), hunk
            old = "".join(line[1:] + "\n" for line in lines if line[0] in " -")
            new = "".join(line[1:] + "\n" for line in lines if line[0] in " +")
            text = path.read_text()
            assert old and ("\n" + text).count("\n" + old) == 1, f"{name} does not have these lines once:\n{old}"
            text = ("\n" + text).replace("\n" + old, "\n" + new)[1:]
            ast.parse(text)
            path.write_text(text)


def load(path):
    """The module of a file, under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"loaded_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def repository(tmp_path):
    """A copy of the code, to be edited."""
    skip = shutil.ignore_patterns("__pycache__", "*.ipynb", "*.md")
    for name in ["shared", *VERSIONS, "tests/exercises"]:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=skip)
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests")
    return tmp_path


def test_apply_by_hand(tmp_path):
    (tmp_path / "a.py").write_text("a = 1\nb = 2\nc = 3\nd = 4\n")
    apply("--- a.py\n a = 1\n-b = 2\n+b = 5\n+e = 6\n@@\n-d = 4\n", tmp_path)
    assert (tmp_path / "a.py").read_text() == "a = 1\nb = 5\ne = 6\nc = 3\n"
    for wrong in "--- a.py\n-b = 2\n+b = 3\n", "--- a.py\n-= 5\n+= 6\n":     # b = 2 is gone; "= 5" is no whole line
        with pytest.raises(AssertionError, match="a.py does not have these lines once"):
            apply(wrong, tmp_path)


@pytest.mark.parametrize("version", VERSIONS)
def test_each_edit_fits_the_files(version, repository):
    assert len(blocks(EXERCISES[version])) >= 2
    for block in blocks(EXERCISES[version]):
        apply(block, repository)                                             # they are in different lines


def test_each_exercise_with_a_test_has_a_command_and_a_solution():
    assert len(FILES) == 5
    named, solved = [], []
    for version in VERSIONS:
        parts = re.split(r"^\*\*(\d)\. ", EXERCISES[version], flags=re.MULTILINE)
        tested = {int(number): name for number, part in zip(parts[1::2], parts[2::2])
                  for name in re.findall(r"^```\npytest tests/exercises/(\w+\.py)\n```$", part, re.MULTILINE)}
        solutions = re.findall(r"^Exercise (\d), `(\w+\.py)`:\n\n```diff$", SOLUTIONS[version], re.MULTILINE)
        assert [int(n) for n in parts[1::2]] == list(range(1, len(parts) // 2 + 1))
        assert {int(n): name for n, name in solutions} == tested
        for number, name in tested.items():
            docstring = ast.get_docstring(ast.parse((ROOT / "tests" / "exercises" / name).read_text()))
            assert docstring.startswith(f"Exercise {number} of {version}/README.md: ")
        named += tested.values()
        solved += [name for _, name in solutions]
    assert sorted(named) == sorted(solved) == FILES


@pytest.mark.parametrize("name", FILES)
def test_it_fails_before(name, tmp_path):
    """With an assertion that says what is wanted, not with another error."""
    module, messages = load(ROOT / "tests" / "exercises" / name), []
    for function in [value for key, value in vars(module).items() if key.startswith("test_")]:
        try:
            function(*[tmp_path] * len(inspect.signature(function).parameters))
        except AssertionError as error:
            messages.append(str(error))
    assert messages and re.search("wanted: |write ", messages[0])


def test_they_pass_with_the_solutions(repository):
    for version in VERSIONS:
        for block in blocks(SOLUTIONS[version]):
            apply(block, repository)
    files = [f"tests/exercises/{name}" for name in FILES]
    result = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files], cwd=repository,
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    counts = [(repository / file).read_text().count("\ndef test_") for file in files]
    assert f"{sum(counts)} passed" in result.stdout and min(counts) >= 1


def test_they_reject_wrong_solutions(repository, monkeypatch):
    """(R, 1) times (R,) has R x R entries; wh is no tensor; the mirror image's boxes replace those of the image."""
    for block in blocks(SOLUTIONS["yolov3"]):
        apply(block, repository)
    apply("--- yolov3/loss.py\n"
          '-        loss["xy"] += (size_weight[:, 0] * (1 - giou)).sum() / B\n'
          '-        loss["wh"] += torch.zeros_like(loss["xy"])\n'
          '+        loss["xy"] += (size_weight * (1 - giou)).sum() / B\n'
          "--- yolov3/evaluate.py\n"
          "-        both = torch.cat([boxes, mirrored_boxes], 1), torch.cat([scores, mirrored_scores], 1)\n"
          "+        both = mirrored_boxes, mirrored_scores\n", repository)
    solution = load(repository / "shared" / "boxes.py").paired_giou
    monkeypatch.setattr(shared.boxes, "paired_giou", solution, raising=False)
    giou, flip = [load(ROOT / "tests" / "exercises" / name) for name in ("giou.py", "flip.py")]
    giou.yolov3_loss = load(repository / "yolov3" / "loss.py").yolov3_loss
    flip.detect_all = load(repository / "yolov3" / "evaluate.py").detect_all
    with pytest.raises(AssertionError, match=r"^xy is 5.7500; wanted: 2 x 1.875 \(1 - 7/30\) = 2.8750"):
        giou.test_the_term_xy()
    with pytest.raises(AssertionError, match="^wh is the number 0; wanted: a tensor"):
        giou.test_the_term_wh()
    with pytest.raises(AssertionError, match=r"^the boxes of the second image are \[\]; .* from the image itself"):
        flip.test_the_mirror_image_is_searched_too(repository)


def test_plain_pytest_does_not_collect_them():
    assert not [name for name in FILES if re.match(r"test_|.*_test\.py", name)]
