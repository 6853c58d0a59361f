"""The README: what it names exists, what it tells one to type can be typed, what it quotes is what the files hold."""
import ast
import json
import re
import shlex

import pytest
from matplotlib.figure import Figure
from PIL import Image

import data_samples.draw_readme as draw_readme
import yolov3.train as train
from shared.errors import InputError
from shared.paths import ROOT, SAMPLES

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


def test_the_quoted_line_is_what_training_prints():
    quoted, = re.findall(r"^step (\d+)  (AP50 .*)$", TEXT, re.MULTILINE)
    assert quoted[0] == str(train.MAX_STEPS)
    assert re.sub(r" \d\.\d{4}", "", quoted[1]).split("  ") == train.MEASURES


def test_the_table_of_sizes_is_what_the_files_say():
    # Parameters and operations, in "From v1 to v2 to v3".
    million = re.search(r"\| parameters \(VOC\) \| ([\d.]+) million \| ([\d.]+) million \| ([\d.]+) million", TEXT)
    for version, value in zip((1, 2, 3), million.groups()):
        docstring = ast.get_docstring(ast.parse((ROOT / f"yolov{version}/model.py").read_text()))
        counts = [int(n.replace(",", "")) / 1e6 for n in re.findall(r"\d{2,3},\d{3},\d{3}", docstring)]
        assert any(f"{count:.1f}" == value for count in counts), (version, value, counts)


# ---- data_samples/draw_readme.py

@pytest.fixture
def runs(tmp_path, monkeypatch):
    """What three trainings and detections leave: pictures of one colour, a box or two, logs of two steps."""
    for number, version in enumerate(draw_readme.VERSIONS, 1):
        folder = tmp_path / version / "detect"
        folder.mkdir(parents=True)
        Image.new("RGB", (375, 500), (80 * number, 0, 0)).save(folder / "000006.jpg")
        (folder / "detections.txt").write_text("# file\n" + "000006.jpg\tcat\n" * number + "000007.jpg\tdog\n")
        (tmp_path / version / "log.csv").write_text(
            "step,xy,wh,object,no_object,class,total,AP50 train\n1,1,1,1,1,1,5,\n2,.5,.5,.5,.5,.5,2.5,0.7\n")
    monkeypatch.setattr(draw_readme, "RUNS", tmp_path)
    monkeypatch.setattr(draw_readme, "OUT", tmp_path / "readme")
    return tmp_path


def test_the_pictures_are_drawn_from_the_runs(runs):
    draw_readme.main()
    assert {path.name for path in (runs / "readme").iterdir()} == {"scene.jpg", "training.png", "assignment.jpg"}
    figure = Figure()
    draw_readme.draw_scene(figure.subplots(1, 3))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"YOLOv{n}: {n} detections, 5 objects" for n in (1, 2, 3)]
    assert [axes.images[0].get_array()[250, 100, 0] // 80 for axes in figure.axes] == [1, 2, 3]
    figure = Figure()
    draw_readme.draw_training(figure.subplots(1, 3))
    assert [list(line.get_ydata()) for line in figure.axes[0].lines] == [[1, .5]] * 5 + [[5, 2.5]]
    assert list(figure.axes[3].lines[0].get_ydata()) == [0.7]
    assert (runs / "readme" / "assignment.jpg").read_bytes() == (SAMPLES / "readme" / "assignment.jpg").read_bytes()


def test_what_is_missing_for_the_pictures_is_one_line(runs):
    (runs / "yolov2" / "log.csv").unlink()
    with pytest.raises(InputError, match="yolov2/log.csv: no such file; run the six commands"):
        draw_readme.main()
