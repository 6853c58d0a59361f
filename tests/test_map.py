"""The README: what it names exists, what it tells one to type can be typed, what it quotes is what the files hold."""
import ast
import json
import re
import shlex

import pytest

from shared.paths import ROOT

TEXT = (ROOT / "README.md").read_text()
LINKS = re.findall(r"!?\[[^\]]*\]\(([^)#]+)\)", TEXT)
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("|")]
PAPERS = {  # the sections, equations, tables and figures of each paper
    "YOLOv1": "1 2 2.1 2.2 2.3 2.4 3 4.1 4.2 4.3 4.4 4.5 5 6".split()
              + [f"equation ({n})" for n in (1, 2, 3)] + [f"Figure {n}" for n in (1, 2, 3, 4)]
              + ["Figures 5 and 6", "Tables 1 and 3", "Table 2"],
    "YOLOv2": ["Batch Normalization", "High Resolution Classifier", "Convolutional With Anchor Boxes",
               "Dimension Clusters", "Direct location prediction", "Fine-Grained Features", "Multi-Scale Training",
               "Further Experiments", "Training for classification", "Training for detection", "Darknet-19"]
              + ["Figure 2", "Figure 3", "Figure 4", "Figures 1, 5 and 6"]
              + ["Table 1", "Table 2", "Table 3", "Tables 4 and 5", "Table 6", "Table 7"],
    "YOLOv3": "1 2.1 2.2 2.3 2.4 2.5 3 4 5".split() + ["Rebuttal", "Figure 2", "Figures 1 and 3", "Figures 4 and 5"]
              + ["Tables 1 and 2", "Table 3"]}


def table(heading):
    """The rows of the table whose first line begins with the heading, without that line and the ruler."""
    start, = [n for n, row in enumerate(ROWS) if row[:2] == [heading, "what"]]
    rows = []
    for row in ROWS[start + 2:]:
        if row[1] == "what" or len(row) != 5:
            break
        rows.append(row)
    return rows


def functions(path):
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


def test_every_link_leads_somewhere():
    local = [link for link in LINKS if "://" not in link]
    assert len(local) > 120 and not [link for link in local if not (ROOT / link).exists()]


def test_every_figure_is_in_the_repository():
    figures = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", TEXT)
    assert len(figures) >= 4
    for text, path in figures:
        assert len(text) > 20 and 1_000 < (ROOT / path).stat().st_size < 300_000


def test_every_heading_that_is_linked_exists():
    headings = {re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
                for line in TEXT.splitlines() if line.startswith("#")}
    linked = re.findall(r"\]\(#([^)]+)\)", TEXT)
    assert linked and not set(linked) - headings


@pytest.mark.parametrize("paper", PAPERS)
def test_the_map_names_every_part_of_the_paper(paper):
    rows = table(paper)
    named = "; ".join(row[0] for row in rows)
    for part in PAPERS[paper]:
        assert re.search(rf"(?<![\w.]){re.escape(part)}(?![\w.])", named), part
    for place, what, file, test, _ in rows:
        if "](" not in file and "`" not in file:
            assert file.startswith("none"), place                             # and why, but for introductions
            assert ":" in file or "conclusion" in what or "introduction" in what
        elif "none" not in file:
            assert re.search(r"\]\(tests/test_\w+\.py\)", test), place


@pytest.mark.parametrize("paper", PAPERS)
def test_the_functions_of_the_map_exist(paper):
    """`name` in [file](path), or `name` alone: of the last file named before."""
    path, named = None, 0
    for row in table(paper):
        cell = row[2]
        for name, link in re.findall(r"`(\w+)`(?: in \[[^\]]+\]\(([^)]+)\))?", cell):
            if link:
                path = link
            elif not any(name in functions(f"{paper.lower()}/{file}.py") for file in ("model", "loss")):
                pytest.fail(f"{name} is in neither model.py nor loss.py of {paper}")
            if link:
                assert name in functions(path), (name, path)
            named += 1
    assert named >= 4


@pytest.mark.parametrize("paper", PAPERS)
def test_the_notebooks_chapters_exist(paper):
    cells = json.loads((ROOT / paper.lower() / "walkthrough.ipynb").read_text())["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    chapters = {int(n) for n in re.findall(r"^## (\d+)\. ", text, re.MULTILINE)}
    named = {int(n) for row in table(paper) for n in re.findall(r"\d+", row[4])}
    assert chapters == set(range(1, 12)) and len(named) >= 8 and named <= chapters


def test_every_command_can_be_typed():
    commands = re.findall(r"`((?:python|pytest|pip|torchrun) [^`]+)`", TEXT)
    for block in re.findall(r"```\n(.*?)```", TEXT, re.DOTALL):
        commands += [line.split("#")[0].strip() for line in block.splitlines() if re.match("pip|python|torchrun", line)]
    assert len(commands) >= 20
    for command in commands:
        for part in " ".join(command.split()).split("&&"):
            words = shlex.split(part)
            if words[:2] == ["python", "-c"]:
                ast.parse(words[2])
            elif words[0] in ("python", "torchrun"):
                script, = [word for word in words if word.endswith(".py")]
                assert "__main__" in (ROOT / script).read_text(), command
            elif words[0] == "pip":
                assert words == ["pip", "install", "-r", "requirements.txt"]
            else:
                assert words in (["pytest"], ["pytest", "-m", "not slow"]), command


def test_every_constant_that_is_named_exists():
    constants = set()
    for path in [*ROOT.glob("yolov*/**/*.py"), *ROOT.glob("data_samples/*.py")]:
        for node in ast.parse(path.read_text()).body:
            for target in getattr(node, "targets", []):
                constants |= {name.id for name in ast.walk(target) if isinstance(name, ast.Name)}
    named = set(re.findall(r"`([A-Z][A-Z_]{3,})\b", TEXT))
    assert len(named) > 15 and not named - constants


def test_the_table_of_sizes_is_what_the_files_say():
    # Parameters and operations, in "From v1 to v2 to v3".
    million = re.search(r"\| parameters \(VOC\) \| ([\d.]+) million \| ([\d.]+) million \| ([\d.]+) million", TEXT)
    for version, value in zip((1, 2, 3), million.groups()):
        docstring = ast.get_docstring(ast.parse((ROOT / f"yolov{version}/model.py").read_text()))
        counts = [int(n.replace(",", "")) / 1e6 for n in re.findall(r"\d{2,3},\d{3},\d{3}", docstring)]
        assert any(f"{count:.1f}" == value for count in counts), (version, value, counts)
