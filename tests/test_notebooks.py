"""The form of every notebook: names, kernel, order, first cell, outputs, size, exercises. (nbval executes them.)"""

import ast
import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FIRST = ('os.environ["DREAMER_QUIET"] = "1"', 'sys.path.insert(0, "..")', "%matplotlib inline", "import matplotlib.pyplot as plt",
         "import dreamer", "import torch", "torch.manual_seed(0)", 'print("ready")')
MACHINE = re.compile(r"""(?:(?<=[\s"'(=:\[])|^)/(?:home|root|Users|tmp|work|usr|opt|mnt|var|private|workspace|content)/"""
                     r"""|\b[A-Za-z]:\\+\w|site-packages""")
EXERCISE = re.compile(r"\*\*Exercise (\d+)\*\* \((?:difficulty )?[●○]{3}, about \d+ minutes\)")


def text_of(cell):
    return "".join(cell["source"])


def code_of(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def texts_of(cell):
    """All text that a cell has left behind: what it printed, and what stands in for its pictures."""
    for output in cell.get("outputs", ()):
        yield "".join(output.get("text", ""))
        for kind, value in output.get("data", {}).items():
            if not kind.startswith("image/"):
                yield "".join(value) if isinstance(value, (str, list)) else json.dumps(value)


def solution(cell):
    return cell["cell_type"] == "code" and "solution" in cell["metadata"].get("tags", [])


# ------------------------------------------------------------------ what is asked of a notebook

def form(notebook):
    """Kernel, execution counts, errors, paths, first cell: a list of sentences, empty if all is well."""
    said, code = [], code_of(notebook)
    if notebook["metadata"].get("kernelspec", {}).get("name") != "python3":
        said.append("the kernel is not python3")
    if [cell["execution_count"] for cell in code] != list(range(1, len(code) + 1)):
        said.append("execution counts are not 1, 2, 3 ...")
    for number, cell in enumerate(code, 1):
        if any(o["output_type"] == "error" for o in cell["outputs"]):
            said.append(f"code cell {number} stores an error")
        if any(o.get("name") == "stderr" for o in cell["outputs"]):
            said.append(f"code cell {number} stores something on stderr")
    for cell in notebook["cells"]:
        said += [f"a path of a machine: {path.group()}" for text in (text_of(cell), *texts_of(cell))
                 for path in MACHINE.finditer(text)]
    lines = [line.split("#")[0].strip() for line in text_of(code[0]).splitlines()]
    said += [f"the first cell lacks {line}" for line in FIRST if line not in lines]
    return said


def exercises(notebook):
    """At least three; each is a text, a stub that is not yet right, and a folded solution that is."""
    said, cells = [], notebook["cells"]
    places = [i for i, cell in enumerate(cells) if cell["cell_type"] == "markdown" and "**Exercise" in text_of(cell)]
    if len(places) < 3:
        said.append(f"{len(places)} exercises, wanted 3 or more")
    for number, (i, end) in enumerate(zip(places, [*places[1:], len(cells)]), 1):
        head = EXERCISE.search(text_of(cells[i]))
        if not head or int(head[1]) != number:
            said.append(f"exercise {number} does not say its number, difficulty and minutes")
        said += [f"exercise {number}: {problem}" for problem in exercise(cells[i + 1:end])]
    if sum(map(solution, cells)) != len(places):
        said.append("there are not as many solutions as exercises")
    return said


def checkers(cell, asserted):
    """The calls check(...) of a cell, those inside an assert or those alone, in a form to compare; a list."""
    try:
        statements = ast.parse(text_of(cell)).body
    except SyntaxError:                         # a magic command
        return []
    calls = [getattr(s, "test" if asserted else "value", None) for s in statements if isinstance(s, ast.Assert) == asserted]
    return [ast.dump(c) for c in calls if isinstance(c, ast.Call) and getattr(c.func, "id", "") == "check"]


def exercise(cells):
    """cells: those between the text of one exercise and the next."""
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    solutions = [cell for cell in code if solution(cell)]
    stubs = [cell for cell in code if not solution(cell) and checkers(cell, asserted=False)]
    if len(stubs) != 1 or len(solutions) != 1 or code.index(stubs[0]) > code.index(solutions[0]):
        return [f"{len(stubs)} stubs with check(...) and {len(solutions)} solutions, wanted one of each in this order"]
    said, answer = [], solutions[0]
    if "".join(texts_of(stubs[0])) != "not yet\n":
        said.append("the stored output of the stub is not 'not yet'")
    if not text_of(answer).startswith("# solution (folded"):
        said.append("the solution does not begin with its comment")
    if answer["metadata"].get("jupyter") != {"source_hidden": True}:
        said.append("the solution is not folded")
    if checkers(answer, asserted=True) != checkers(stubs[0], asserted=False):
        said.append("the solution does not assert the same checker")
    if "correct" not in "".join(texts_of(answer)):
        said.append("the stored output of the solution is not 'correct'")
    return said


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_the_form_of_all(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert form(notebook) + exercises(notebook) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_belongs_to_a_script_and_is_small(path):
    assert (ROOT / f"{path.stem}.py").exists() and re.match(r"\d\d_", path.stem)
    assert path.stat().st_size < 1_000_000


def test_there_is_one_notebook_for_each_number():
    assert NOTEBOOKS and len({path.name[:2] for path in NOTEBOOKS}) == len(NOTEBOOKS)


# ------------------------------------------------------------------ are these tests able to fail?

def code(source, count, output="", **metadata):
    outputs = [{"output_type": "stream", "name": "stdout", "text": [output]}] if output else []
    return {"cell_type": "code", "source": source.splitlines(keepends=True), "execution_count": count, "outputs": outputs,
            "metadata": metadata}


def good():
    """The smallest notebook without a fault."""
    cells = [code("import os, sys\n" + "\n".join(FIRST), 1, "ready\n")]
    for n in (1, 2, 3):
        cells += [{"cell_type": "markdown", "metadata": {}, "source": [f"**Exercise {n}** (●○○, about 5 minutes) Give {n}."]},
                  code(f"def f():\n    return None   # your code\n\n\ncheck(lambda: f() == {n});", 2 * n, "not yet\n"),
                  code(f"# solution (folded: unfold the cell to read it)\ndef f():\n    return {n}\n\n\nassert check(lambda: f() == {n})",
                       2 * n + 1, "correct\n", jupyter={"source_hidden": True}, tags=["solution"])]
    return {"cells": cells, "metadata": {"kernelspec": {"name": "python3"}}}


BREAKS = {
    "the kernel is not python3": lambda nb: nb["metadata"]["kernelspec"].update(name="venv"),
    "execution counts": lambda nb: nb["cells"][3].update(execution_count=None),
    "stores an error": lambda nb: nb["cells"][0]["outputs"].append({"output_type": "error", "ename": "E"}),
    "on stderr": lambda nb: nb["cells"][0]["outputs"][0].update(name="stderr"),
    "a path of a machine: /home/": lambda nb: nb["cells"][1]["source"].append("see /home/me/x"),
    "a path of a machine: /tmp/": lambda nb: nb["cells"][0]["outputs"][0].update(text=["/tmp/run\n"]),
    "a path of a machine: C:": lambda nb: nb["cells"][2]["source"].insert(0, '"C:\\\\Users"\n'),
    "site-packages": lambda nb: nb["cells"][0]["outputs"].append({"output_type": "execute_result", "data": {"text/plain": ["site-packages"]}}),
    "the first cell lacks %matplotlib": lambda nb: nb["cells"][0]["source"].remove("%matplotlib inline\n"),
    "2 exercises, wanted 3": lambda nb: nb["cells"].__delitem__(slice(7, None)),
    "exercise 1 does not say": lambda nb: nb["cells"][1].update(source=["**Exercise 1** (easy) Do."]),
    "exercise 2 does not say": lambda nb: nb["cells"][4].update(source=["**Exercise 3** (●○○, about 5 minutes) Do."]),
    "and 0 solutions": lambda nb: nb["cells"][3]["metadata"].update(tags=[]),
    "0 stubs": lambda nb: nb["cells"][2].update(source=["f = None   # your code"]),
    "2 stubs": lambda nb: nb["cells"].insert(2, nb["cells"][2]),
    "in this order": lambda nb: nb["cells"].insert(2, nb["cells"].pop(3)),
    "is not 'not yet'": lambda nb: nb["cells"][2]["outputs"][0].update(text=["correct\n"]),
    "does not begin with its comment": lambda nb: nb["cells"][3]["source"].pop(0),
    "is not folded": lambda nb: nb["cells"][3]["metadata"].pop("jupyter"),
    "assert the same checker": lambda nb: nb["cells"][3].update(source=[*nb["cells"][3]["source"][:-1], "assert check(lambda: True)"]),
    "is not 'correct'": lambda nb: nb["cells"][3]["outputs"].clear(),
    "as many solutions": lambda nb: nb["cells"][0]["metadata"].update(tags=["solution"])}


def test_a_good_notebook_is_good():
    assert form(good()) + exercises(good()) == []


@pytest.mark.parametrize("sentence", BREAKS)
def test_every_fault_is_found(sentence):
    notebook = copy.deepcopy(good())
    BREAKS[sentence](notebook)
    assert any(sentence in said for said in form(notebook) + exercises(notebook))


@pytest.mark.parametrize("package, left_out", [("Box2D", "06_dreamer_lunar_lander.ipynb"), ("minigrid", "07_dreamer_minigrid.ipynb"),
                                               ("dm_control", "08_dreamer_walker_walk.ipynb")])
def test_a_notebook_is_left_out_where_its_package_is_missing(package, left_out):
    script = f"import sys; sys.modules[{package!r}] = None; sys.path.insert(0, 'notebooks'); import conftest; print(conftest.collect_ignore)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert left_out in done.stdout and "05_dreamer_acrobot.ipynb" not in done.stdout, done.stderr
    assert "06" not in done.stdout or package == "Box2D"
