"""docs/implementation_details.md is true: its lines, snippets, tests and numbers.

    python tests/test_details.py --fix      when code has moved: find the snippets again, correct the lines
"""

import ast
import re
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import conftest  # noqa: F401  (puts dreamer and toys on the path, also for --fix)
import pytest
import torch
from dreamer.agent import Agent
from dreamer.config import OFFICIAL, Config
from dreamer.training.loop import Run
from dreamer.world_model.encoder import ObservationSpec, Standardize
from toys import tiny

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "implementation_details.md"
FIX = "run: python tests/test_details.py --fix"

DETAIL = re.compile(r"^\*\*(\d+)\. (.+?)\*\*(.*?)(?=^\*\*\d+\. |^## |\Z)", re.M | re.S)
CODE = re.compile(r"\[`(?P<path>[\w./]+):(?P<line>\d+)`\]\(\.\./(?P<link>[\w./]+)#L(?P<anchor>\d+)\)\s+"
                  r"`(?P<snippet>[^`]+)`")
TEST = re.compile(r"`(tests/\w+\.py)::([\w:]+)`")
FIELDS = ("code", "official", "tests", "without it")


class Detail(NamedTuple):
    number: int
    body: str
    code: list      # (path, line, snippet, link, anchor), the numbers as ints
    tests: list     # (file, name)


def read(text):
    """All details of the page, in its order."""
    found = []
    for number, _, body in DETAIL.findall(text):
        code = [(path, int(line), plain(snippet), link, int(anchor))
                for path, line, link, anchor, snippet in CODE.findall(body)]
        found.append(Detail(int(number), body, code, TEST.findall(body)))
    return found


def plain(text):
    """Text with every run of white space as one space."""
    return " ".join(text.split())


def lines_with(snippet, path):
    """Numbers of the lines that hold a snippet."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [number for number, line in enumerate(lines, 1) if snippet in plain(line)]


@cache
def named_tests(path):
    """Names of the tests of a file: functions, and Class::method."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else ():
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{child.name}" for child in node.body if isinstance(child, ast.FunctionDef)}
    return {name for name in names if name.split("::")[-1].startswith("test_")}


# ------------------------------------------------------------------ what can be wrong, as sentences

def wrong_lines(details, root=ROOT):
    """References whose line does not hold the snippet quoted for it, or is not the only one that does."""
    for detail in details:
        for path, line, snippet, link, anchor in detail.code:
            where, found = f"detail {detail.number}: {path}:{line}", lines_with(snippet, root / path)
            if not (root / path).is_file():
                yield f"{where}: there is no such file"
            elif line not in found:
                yield f"{where} does not hold `{snippet}`; {FIX}"
            elif (path, line) != (link, anchor):
                yield f"{where} links to {link}#L{anchor}; {FIX}"
            elif len(found) > 1:
                yield f"{where}: `{snippet}` stands on {len(found)} lines, --fix could not follow it; quote more"


def missing_tests(details, root=ROOT):
    for detail in details:
        for file, name in detail.tests:
            if name not in named_tests(root / file):
                yield f"detail {detail.number}: {file} has no test {name}"


def missing_parts(details):
    """Fields that a detail lacks, and links or tests that are written in a way nothing here checks."""
    for detail in details:
        for field in FIELDS:
            if not re.search(rf"^- {field}: \S", detail.body, re.M):
                yield f"detail {detail.number} has no field \"{field}\""
        if not detail.tests or detail.body.count("::") != sum(1 + name.count("::") for _, name in detail.tests):
            yield f"detail {detail.number}: write every test as `tests/file.py::name`"
        if not len(detail.code) == detail.body.count("](../") == len(re.findall(r"^- code: ", detail.body, re.M)):
            yield f"detail {detail.number}: write every line of code as [`path:1`](../path#L1) `snippet`"


def wrong_numbers(details):
    for wanted, detail in enumerate(details, 1):
        if detail.number != wanted:
            yield f"detail {detail.number} stands in place {wanted}"


# ------------------------------------------------------------------ --fix

def fix(text, root=ROOT):
    """The page with corrected lines, what was moved, and what was refused: snippets not on exactly one line."""
    moved, refused = [], []

    def correct(number, match):
        path, snippet = match["path"], plain(match["snippet"])
        lines = lines_with(snippet, root / path)
        if len(lines) != 1:
            refused.append(f"detail {number}: `{snippet}` stands on {len(lines)} lines of {path}, not on one")
            return match[0]
        line, old = lines[0], match[0][:match.start("snippet") - match.start()]
        new = re.sub(r"\(\.\./.*\)", f"(../{path}#L{line})", old.replace(f":{match['line']}`", f":{line}`"))
        if new != old:
            moved.append(f"detail {number}: {path}:{match['line']} -> {line}")
        return new + match[0][len(old):]

    def each(detail):
        return CODE.sub(lambda match: correct(detail[1], match), detail[0])
    return DETAIL.sub(each, text), moved, refused


def main():
    """Rewrite the page. Returns 1 if a row has to be corrected by hand."""
    text, moved, refused = fix(PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(text, encoding="utf-8")
    print("\n".join(moved) or "no line has moved")
    for sentence in refused:
        print(f"refused: {sentence}", file=sys.stderr)
    return 1 if refused else 0


# ------------------------------------------------------------------ the tests

def test_there_are_details_and_all_of_them_are_read():
    text = PAGE.read_text(encoding="utf-8")
    assert len(read(text)) == len(re.findall(r"^\*\*", text, re.M)) >= 35


@pytest.mark.parametrize("check", [wrong_numbers, wrong_lines, missing_tests, missing_parts])
def test_the_page_is_right(check):
    assert list(check(read(PAGE.read_text(encoding="utf-8")))) == []


SMALL = """
## A group
**1. One thing.** What it is.

- code: [`src/a.py:2`](../src/a.py#L2)
  `x = 1`
- official: `b.py`, `f`
- tests: `tests/test_a.py::test_one`, `tests/test_a.py::TestGroup::test_two`
- without it: it breaks.
"""


def small(root, code="import this\nx  =  1    # one\ny = 2\n"):
    """A repository of one file and one detail, which is right."""
    for folder in ("src", "tests"):
        (root / folder).mkdir(exist_ok=True)
    (root / "src/a.py").write_text(code)
    (root / "tests/test_a.py").write_text("def test_one():\n    pass\n\ndef helper():\n    pass\n\n"
                                          "class TestGroup:\n    def test_two(self):\n        pass\n")
    return root


def complaints(text, root):
    details = read(text)
    return [*wrong_numbers(details), *wrong_lines(details, root), *missing_tests(details, root),
            *missing_parts(details)]


def test_mistakes_are_noticed(tmp_path):
    root = small(tmp_path)
    assert complaints(SMALL, root) == []
    for right, wrong, sentence in (
            ("a.py:2`", "a.py:3`", "src/a.py:3 does not hold `x = 1`; run: python tests/test_details.py --fix"),
            ("a.py:2`", "a.py:99`", "does not hold"), ("#L2", "#L3", "links to src/a.py#L3"),
            ("`x = 1`", "`x = 2`", "does not hold `x = 2`"), ("`x = 1`", "x = 1", "write every line of code"),
            ("src/a.py", "src/b.py", "no such file"), ("::test_one", "::test_other", "no test test_other"),
            ("::test_one", "::helper", "no test helper"), ("::test_two", "::test_one", "no test TestGroup::test_one"),
            ("test_a.py::test_one`", "test_b.py::test_one`", "tests/test_b.py has no test"),
            ("`tests/test_a.py::test_one`", "tests/test_a.py::test_one", "write every test"),
            ("**1.", "**2.", "detail 2 stands in place 1"), ("- without it", "- with it", 'no field "without it"')):
        assert right in SMALL
        found = complaints(SMALL.replace(right, wrong), root)
        assert len(found) >= 1 and any(sentence in text for text in found), (wrong, found)


def test_fix_follows_a_line_that_moved(tmp_path):
    root = small(tmp_path, "import this\n\n\n\nif this:\n    x = 1\n")
    assert complaints(SMALL, root) != []
    text, moved, refused = fix(SMALL, root)
    assert text == SMALL.replace(":2`", ":6`").replace("#L2", "#L6")
    assert (moved, refused) == (["detail 1: src/a.py:2 -> 6"], [])
    assert complaints(text, root) == [] and fix(text, root) == (text, [], [])


def test_fix_refuses_what_it_cannot_find_once(tmp_path):
    for code, count in (("x = 1\nx = 1\n", 2), ("y = 1\n", 0)):
        text, moved, refused = fix(SMALL, small(tmp_path, code))
        assert (text, moved) == (SMALL, [])
        assert refused == [f"detail 1: `x = 1` stands on {count} lines of src/a.py, not on one"]
    assert "stands on 2 lines" in complaints(SMALL, small(tmp_path, "y\nx = 1\nx = 1\n"))[0]


# ------------------------------------------------------------------ three details that nothing else tests

def test_every_loss_enters_the_total_with_its_scale(tiny_size):
    always = dict(con=1, policy=1, value=1)
    for recipe, model in (({}, dict(rec=10, dyn=10, rep=1, rew=10, repval=1)), (OFFICIAL, dict(rec=1, dyn=1, rep=0.1, rew=1, repval=0.3))):
        agent = Agent(ObservationSpec(vector=2), 2, True, Config(**recipe))
        for name, scale in {**always, **model}.items():
            assert float(agent.total({name: torch.tensor([1.0, 3.0])})) == pytest.approx(2 * scale)


def test_a_declared_bound_widens_the_scale_at_most_tenfold():
    scale = Standardize(4)
    scale.measure(torch.tensor([[0.0] * 4, [2.0] * 4]), bound=torch.tensor([0.0, 4.0, 16.0, 800.0]))
    assert (scale.mean.tolist(), scale.std.tolist()) == ([1] * 4, [1, 1, 2, 10])


def test_a_number_that_never_moved_is_not_blown_up():
    scale = Standardize(3)
    scale.measure(torch.tensor([[0.0, 7.0, 0.0], [2.0, 7.0, 0.0]]), bound=torch.zeros(3))
    torch.testing.assert_close(scale(torch.tensor([[3.0, 7.0, 0.0], [3.0, 7.008, 0.001]])),
                               torch.tensor([[2.0, 0.0, 0.0], [2.0, 1.0, 1.0]]), atol=1e-3, rtol=0)


def test_the_averaged_agent_collects(tiny_size, tmp_path, monkeypatch):
    act, acting = Agent.act, []
    monkeypatch.setattr(Agent, "act", lambda agent, *given: acting.append(agent) or act(agent, *given))
    run = Run(tiny(output=str(tmp_path), steps=40, eval_every=1000))
    run.finish = lambda: None               # no evaluations: only the training run acts
    run.train()
    assert len(acting) == 40 - 24 and all(agent is run.learner.average for agent in acting)


if __name__ == "__main__":
    if sys.argv[1:] != ["--fix"]:
        sys.exit("usage: python tests/test_details.py --fix")
    sys.exit(main())
