"""The READMEs: what they name exists, the commands can be typed, and what they quote is what the files hold."""
import ast
import json
import json
import re
import shlex

import pytest
from matplotlib.figure import Figure
from PIL import Image

import data_samples.draw_readme as draw_readme
import yolov3.train as train
from shared.error_analysis import KINDS
from shared.errors import InputError
from shared.paths import ROOT, SAMPLES

READMES = ["README.md", "yolov1/README.md", "yolov2/README.md", "yolov3/README.md"]
TEXTS = {name: (ROOT / name).read_text() for name in READMES}
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


def table(paper):
    """The rows of the first table of a version's README: section, what, file, test, chapter."""
    text = TEXTS[f"{paper.lower()}/README.md"].split("## The map of the paper")[1]
    lines = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE).group().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0] == ["section", "what", "file", "test", "chapter"]
    return rows[2:]


def functions(path):
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


@pytest.mark.parametrize("readme", READMES)
def test_every_link_leads_somewhere(readme):
    links = re.findall(r"!?\[[^\]]*\]\(([^)]+)\)", TEXTS[readme])
    local = [link for link in links if "://" not in link]
    assert len(local) > 20
    for link in local:
        path, _, heading = link.partition("#")
        target = (ROOT / readme).parent / path if path else ROOT / readme
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles], link


def test_every_figure_is_described_and_small():
    figures = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", TEXTS["README.md"])
    assert len(figures) >= 2
    for text, path in figures:
        assert len(text) > 20 and 1_000 < (ROOT / path).stat().st_size < 300_000


@pytest.mark.parametrize("paper", PAPERS)
def test_the_map_names_every_part_of_the_paper(paper):
    rows = table(paper)
    named = "; ".join(row[0] for row in rows)
    for part in PAPERS[paper]:
        assert re.search(rf"(?<![\w.]){re.escape(part)}(?![\w.])", named), part
    for place, what, file, test, _ in rows:
        if "](" not in file:
            assert re.match("none(?: yet)?: .+", file), place                # and why
        elif "none" not in file:
            assert re.search(r"\]\(\.\./tests/test_\w+\.py\)", test), place


@pytest.mark.parametrize("readme", READMES)
def test_the_functions_that_are_named_exist(readme):
    """`name` in [file](path); names in capitals are constants."""
    named = re.findall(r"`(\w*[a-z]\w*)` in \[[^\]]+\]\(([^)]+\.py)\)", TEXTS[readme])
    assert named or readme == "README.md"
    for name, path in named:
        assert name in functions((ROOT / readme).parent / path), (name, path)


@pytest.mark.parametrize("paper", PAPERS)
def test_the_notebooks_chapters_exist(paper):
    cells = json.loads((ROOT / paper.lower() / "walkthrough.ipynb").read_text())["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    chapters = {int(n) for n in re.findall(r"^## (\d+)\. ", text, re.MULTILINE)}
    named = {int(n) for row in table(paper) for n in re.findall(r"\d+", row[4])}
    last = 12 if paper == "YOLOv2" else 11                                   # YOLO9000
    assert chapters == set(range(1, last + 1)) and len(named) >= 8 and named <= chapters


@pytest.mark.parametrize("readme", READMES)
def test_every_command_can_be_typed(readme):
    commands = re.findall(r"`((?:python|pytest|pip|torchrun) [^`]+)`", TEXTS[readme])
    for block in re.findall(r"```\n(.*?)```", TEXTS[readme], re.DOTALL):
        commands += [line for line in block.splitlines() if re.match("pip|python|torchrun", line)]
    assert commands
    for command in commands:
        for part in command.split("&&"):
            words = shlex.split(part)
            if words[:2] == ["python", "-c"]:
                ast.parse(words[2])
            elif words[0] in ("python", "torchrun"):
                script, = [word for word in words if word.endswith(".py")]
                assert "__main__" in (ROOT / script).read_text(), command
            elif words[0] in ("python3", "source"):
                assert ".venv" in part
            elif words[0] == "pip":
                assert words == ["pip", "install", "-r", "requirements.txt"]
            else:
                assert words in (["pytest"], ["pytest", "-m", "slow"]), command


@pytest.mark.parametrize("readme", READMES)
def test_every_constant_that_is_named_exists(readme):
    constants = set()
    for path in [*ROOT.glob("yolov*/**/*.py"), *ROOT.glob("data_samples/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            for target in getattr(node, "targets", []):
                constants |= {name.id for name in ast.walk(target) if isinstance(name, ast.Name)}
    named = set(re.findall(r"`([A-Z][A-Z_]{3,})\b", TEXTS[readme]))
    assert named and not named - constants


def test_the_quoted_line_is_what_training_prints():
    # The README runs the committed preset, the tests the sample.
    quoted, = re.findall(r"^step (\d+)  (AP50 .*)$", TEXTS["README.md"], re.MULTILINE)
    values = (ROOT / "yolov3" / "train.py").read_text().split('if PRESET == "mini":')[1].split("elif")[0]
    assert f"MAX_STEPS = {quoted[0]}\n" in values
    assert re.sub(r" \d\.\d{4}", "", quoted[1]).split("  ") == train.MEASURES


def test_the_table_of_sizes_is_what_the_files_say():
    # Parameters and operations, in "From v1 to v2 to v3".
    row, = re.findall(r"\| parameters \(VOC\) \|(.*)\|", TEXTS["README.md"])
    for version, value in zip((1, 2, 3), re.findall(r"([\d.]+) million", row), strict=True):
        docstring = ast.get_docstring(ast.parse((ROOT / f"yolov{version}/model.py").read_text()))
        counts = [int(n.replace(",", "")) / 1e6 for n in re.findall(r"\d{2,3},\d{3},\d{3}", docstring)]
        assert any(f"{count:.1f}" == value for count in counts), (version, value, counts)


# ---- data_samples/draw_readme.py

@pytest.fixture
def runs(tmp_path, monkeypatch):
    """What the detect.py of three versions leave: pictures of one colour, a box or more."""
    for number, version in enumerate(draw_readme.VERSIONS, 1):
        folder = tmp_path / f"{version}_mini" / "detect"
        folder.mkdir(parents=True)
        for scene in draw_readme.SCENES:
            Image.new("RGB", (375, 500), (80 * number, 0, 0)).save(folder / f"{scene}.jpg")
        (folder / "detections.txt").write_text("# file\n")
        evaluation = tmp_path / f"{version}_mini" / "evaluation" / "test"
        evaluation.mkdir(parents=True)
        (evaluation / "figures.json").write_text(json.dumps({"errors": dict.fromkeys(KINDS, 0.2)}))
    monkeypatch.setattr(draw_readme, "RUNS", tmp_path)
    monkeypatch.setattr(draw_readme, "OUT", tmp_path / "readme")
    return tmp_path


def test_the_pictures_are_drawn_from_the_runs(runs):
    draw_readme.main()
    assert {path.name for path in (runs / "readme").iterdir()} == {"unseen.jpg", "errors.png", "assignment.jpg"}
    figure = Figure()
    draw_readme.draw_unseen(figure)
    assert [axes.get_title() for axes in figure.axes[:3]] == ["YOLOv1", "YOLOv2", "YOLOv3"]
    assert [axes.images[0].get_array()[250, 100, 0] // 80 for axes in figure.axes] == [1, 2, 3, 1, 2, 3]
    assert (runs / "readme" / "assignment.jpg").read_bytes() == (SAMPLES / "readme" / "assignment.jpg").read_bytes()


def test_photographs_have_bars_if_they_were_trained_on(runs):
    drawings = [f"YOLOv{n} (drawings)" for n in (1, 2, 3)]
    assert [*draw_readme.error_shares()] == [*draw_readme.PAPER, *drawings]
    evaluation = runs / "yolov2_bccd" / "evaluation" / "test"
    evaluation.mkdir(parents=True)
    (evaluation / "figures.json").write_text(json.dumps({"errors": dict.fromkeys(KINDS, 0.1)}))
    shares = draw_readme.error_shares()
    assert [*shares] == [*draw_readme.PAPER, *drawings, "YOLOv2 (blood cells)"]
    assert shares["YOLOv1 (drawings)"] == [0.2] * 5 and shares["YOLOv2 (blood cells)"] == [0.1] * 5


def test_what_is_missing_for_the_pictures_is_one_line(runs):
    (runs / "yolov2_mini" / "detect" / "detections.txt").unlink()
    with pytest.raises(InputError, match="yolov2_mini/detect/detections.txt: no such file; run the nine commands"):
        draw_readme.main()
