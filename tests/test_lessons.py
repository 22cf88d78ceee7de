"""Every lesson that trains an agent: in toy size, from another folder, it does what its header says."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import pytest

from dreamer.training import paths
from dreamer.training.shipping import load_agent
from dreamer.visual import curves
from toys import load_lesson

ROOT = Path(__file__).parent.parent
LESSONS = {"02_dreamer_cartpole": "CartPole-v1", "03_dreamer_pendulum": "Pendulum-v1",
           "05_dreamer_acrobot": "Acrobot-v1", "06_dreamer_lunar_lander": "LunarLander-v3"}
SMALL = shlex.split("--steps 60 --prefill 20 --batch-size 2 --batch-length 8 --starts 4 --imagination-horizon 2 --stoch 4 "
                    "--train-ratio 4 --log-every 30 --eval-every 60 --eval-episodes 1 --final-episodes 1 --device cpu")


@pytest.fixture(autouse=True)
def elsewhere(tiny_size, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def skip_without(name):
    if name.startswith("06"):
        pytest.importorskip("Box2D")


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_runs_writes_its_files_and_names_its_bar(name, tmp_path, capsys, monkeypatch):
    skip_without(name)
    module = load_lesson(name)
    monkeypatch.setattr("dreamer.visual.health.ENDS", 100)
    if name.startswith("06"):
        monkeypatch.setattr(module, "HELD_OUT", 2)
    drawn, own = [], curves.own
    monkeypatch.setattr(curves, "own", lambda *a: drawn.append(a) or own(*a))
    assert module.main([*SMALL, "--seed", "3"]) == 0
    out, folder = capsys.readouterr().out, tmp_path / "runs" / f"{LESSONS[name]}-3"
    assert re.search(rf"bar (not )?met: +mean of 1 fresh greedy episodes -?\d+\.\d, wanted {module.BAR.final:g}", out)
    assert {file.name for file in folder.iterdir()} == {"metrics.jsonl", "checkpoint.pt", "summary.json"}
    assert json.loads((folder / "summary.json").read_text())["task"] == LESSONS[name] == module.DEFAULTS.env
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2 and [bar for _, bar in drawn] == [module.BAR]
    assert load_agent(folder / "checkpoint.pt")[1].env == LESSONS[name]
    panel = {"06_health_panel.png"} if name.startswith("06") else set()
    assert {file.name for file in (tmp_path / "assets").iterdir()} == {f"curve_{LESSONS[name]}-3.png", *panel}
    assert f"checkpoint.pt\ncurve: assets/curve_{LESSONS[name]}-3.png\n" in out and bool(panel) == ("06_health_panel.png" in out)


@pytest.mark.parametrize("name", LESSONS)
def test_the_header_says_what_the_lesson_does(name):
    """Goal, reading, minutes, expectation, bar and files; the bar in words is the bar in the code."""
    module = load_lesson(name)
    for part in ("Goal ", "Read before ", "Time ", "What you should see", "Solved means: ", "Files written"):
        assert f"\n{part}" in module.__doc__, part
    solved = re.search(r"mean of (\d+) fresh greedy episodes at the end is at least (-?\d+)", " ".join(module.__doc__.split()))
    assert solved and [float(x) for x in solved.groups()] == [module.DEFAULTS.final_episodes, module.BAR.final]
    for file in ("metrics.jsonl", "checkpoint.pt", "summary.json", "curve.png", "runs/" + LESSONS[name]):
        assert file in module.__doc__
    assert re.findall(r"assets/\S+\.png", module.__doc__) == [f"assets/curve_{LESSONS[name]}-SEED.png"] + [
        "assets/06_health_panel.png"] * name.startswith("06")


def test_the_bars_of_the_course():
    assert [load_lesson(name).BAR.final for name in LESSONS] == [475, -200, -100, 200]


def test_the_panel_is_for_the_task_of_lesson_6_only(tmp_path, capsys):
    assert load_lesson("06_dreamer_lunar_lander").main([*SMALL, "--env", "toys:ToyCounter-v0", "--output", "here"]) == 0
    assert {file.name for file in (tmp_path / "here").iterdir()} == {"metrics.jsonl", "checkpoint.pt", "summary.json", "curve.png"}
    assert not (tmp_path / "assets").exists()
    out = capsys.readouterr().out
    assert "panel" not in out and "bar" not in out          # another task has no bar here, and no panel


@pytest.mark.parametrize("flags, folder", [([], "assets"), (["--output", "there"], "there")])
def test_the_panel_lies_where_its_run_does_if_a_folder_is_named(flags, folder, tmp_path, monkeypatch):
    module, seen = load_lesson("06_dreamer_lunar_lander"), []
    monkeypatch.setattr(module.cli, "start", lambda config, *a: SimpleNamespace(folder=tmp_path / "run"))
    monkeypatch.setattr(module.cli, "train", lambda *a: None)
    monkeypatch.setattr(module, "draw_panel", lambda *a: seen.append(a))
    assert module.main(flags) == 0
    (agent, metrics, name, pictures), = seen
    assert agent == tmp_path / "run" / "checkpoint.pt" and metrics == agent.with_name("metrics.jsonl") and name == "seed 0"
    assert pictures.absolute() == tmp_path / folder


def test_the_panel_of_the_shipped_agent_needs_no_run(tmp_path, capsys, monkeypatch):
    module, seen = load_lesson("06_dreamer_lunar_lander"), []
    monkeypatch.setattr(module, "load_agent", lambda path: seen.append(path) or (None, module.DEFAULTS))
    monkeypatch.setattr(module.health, "examine", lambda *a: seen.append(a[-1]))
    monkeypatch.setattr(module.health, "draw", lambda *a: None)
    assert module.main(["--panel", "--seed", "1"]) == 2 and not seen
    assert capsys.readouterr().err == "error: --panel trains nothing: it goes with --output alone, not with --seed\n"
    for flags, folder in ([], "assets"), (["--output", "there"], "there"):
        assert module.main(["--panel", *flags]) == 0
        assert seen == [paths.ROOT / "assets" / "checkpoints" / "LunarLander-v3.pt", None]
        assert (tmp_path / folder / "06_health_panel.png").exists() and not (tmp_path / "runs").exists()
        seen.clear()


def test_a_folder_that_cannot_hold_the_panel_gives_one_line_and_exit_code_1(tmp_path, capsys, monkeypatch):
    module, blocked = load_lesson("06_dreamer_lunar_lander"), tmp_path / "blocked"
    blocked.write_text("")
    monkeypatch.setattr(module, "load_agent", lambda path: (None, module.DEFAULTS))
    monkeypatch.setattr(module.health, "examine", lambda *a: {})
    monkeypatch.setattr(module.health, "draw", lambda *a: None)
    monkeypatch.setattr(paths, "ROOT", blocked)
    assert module.main(["--panel"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: cannot use ") and err.count("\n") == 1


def test_without_box2d_lesson_6_says_so_in_one_sentence(tmp_path, capsys, monkeypatch):
    def missing(env_id):
        raise gym.error.DependencyNotInstalled("Box2D is not installed, you can install it by run `pip install swig`")
    monkeypatch.setattr("dreamer.training.envs.gym.make", missing)
    assert load_lesson("06_dreamer_lunar_lander").main(SMALL) == 1
    out, err = capsys.readouterr()
    assert err.startswith("error: LunarLander-v3 needs a package that is not installed: Box2D") and err.count("\n") == 1
    assert "pip install 'gymnasium[box2d]'" in err and "panel" not in out
    assert not list(tmp_path.iterdir())                     # and no folder of a run


def test_help_of_lesson_6_trains_nothing_and_shows_the_panel(tmp_path, capsys, monkeypatch):
    module = load_lesson("06_dreamer_lunar_lander")
    monkeypatch.setitem(sys.modules, module.__name__, module)       # where --help looks for the words beside its flags
    with pytest.raises(SystemExit) as stop:
        module.main(["--help"])
    assert stop.value.code == 0 and not list(tmp_path.iterdir())
    assert "--panel" in (out := capsys.readouterr().out) and "the shipped agent" in out and "--train-ratio" in out


@pytest.mark.parametrize("name", LESSONS)
def test_the_script_itself_works_from_another_folder(name, tmp_path):
    """As a process: only flags and files of the test's own folder (a task of another name: no panel)."""
    done = subprocess.run([sys.executable, str(ROOT / f"{name}.py"), *SMALL, "--size", "1m", "--env", "CartPole-v1",
                           "--output", "out"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr
    assert "files: out/summary.json, metrics.jsonl, checkpoint.pt" in done.stdout.replace("\\", "/")
    assert ("bar" in done.stdout) == name.startswith("02")      # the bar of another task is not named
