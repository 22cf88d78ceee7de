"""Lesson scripts from the outside: flags, one-line refusals, exit codes, summary, Ctrl-C, resuming."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest

from dreamer.config import OFFICIAL, Config
from dreamer.training.bar import Bar
from dreamer.training.cli import run_lesson
from dreamer.training.flags import parse_flags
from dreamer.training.loop import Run
from toys import load_lesson, tiny

SCRIPT = Path(__file__).parent.parent / "02_dreamer_cartpole.py"
SMALL = shlex.split("--steps 60 --prefill 20 --batch-size 2 --batch-length 8 --starts 4 --imagination-horizon 2 "
                    "--stoch 4 --train-ratio 4 --eval-every 30 --eval-episodes 2 --final-episodes 2 --checkpoint-every 10 --device cpu")


def lesson():
    """The module of lesson 2."""
    return load_lesson("02_dreamer_cartpole")


@pytest.fixture(autouse=True)
def elsewhere(tiny_size, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# ------------------------------------------------------------------ flags

def test_flags_change_the_defaults_and_nothing_else():
    flags = shlex.split("--env Acrobot-v1 --steps=123 --lr 3e-4 --no-resume --async-envs --size 12m --batch_size 5")
    wanted = replace(Config(), env="Acrobot-v1", steps=123, lr=3e-4, resume=False, async_envs=True, size="12m", batch_size=5)
    assert parse_flags(Config(), flags) == wanted and parse_flags(tiny(), []) == tiny()


def test_the_official_recipe_keeps_the_lesson_and_yields_to_flags():
    defaults = Config(env="Pendulum-v1", steps=77, envs=2)
    assert parse_flags(defaults, ["--recipe", "official"]) == replace(defaults, **OFFICIAL)
    for flags in ("--recipe official --lr 0.5 --starts 9", "--lr=0.5 --starts 9 --recipe=official"):
        assert parse_flags(defaults, flags.split()) == replace(defaults, **{**OFFICIAL, "lr": 0.5, "starts": 9})


@pytest.mark.parametrize("recipe", ["course", "official"])
def test_help_shows_every_hyperparameter_with_its_value(recipe, capsys):
    with pytest.raises(SystemExit) as stop:
        lesson().main(["--recipe", recipe, "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    config = replace(lesson().DEFAULTS, **(OFFICIAL if recipe == "official" else {}))
    for field in fields(Config):
        after = text.split(f"--{field.name.replace('_', '-')}", 1)[1]
        assert after.split("(default: ", 1)[1].split(")")[0].strip("'") == str(getattr(config, field.name))
    assert "balances a pole" in text


@pytest.mark.parametrize("flags, text", [
    ("--step 3", "unknown flag --step; did you mean --steps?"), ("--batch_sise 3", "did you mean --batch-size?"),
    ("--qqq", "unknown flag --qqq"), ("-s 3", "unknown flag -s"), ("--no-steps", "unknown flag --no-steps"),
    ("3", "unexpected word 3"), ("--steps", "--steps needs a value"), ("--steps --lr 3", "--steps needs a value"),
    ("--steps many", "--steps must be a whole number, not many"), ("--steps 1e3", "--steps must be a whole number"),
    ("--lr fast", "--lr must be a number, not fast"), ("--lr nan", "--lr must be a finite number"),
    ("--size 2m", "--size must be one of 1m, 12m"), ("--size=12", "did you mean 12m?"), ("--resume=yes", "takes no value"),
    ("--device gpu", "auto, cpu, cuda, mps"), ("--steps 0", "--steps must be at least 1, not 0"),
    ("--steps -3", "--steps must be at least 1, not -3"), ("--envs 17", "1 to 16"), ("--capacity 9", "use at least")])
def test_wrong_flags_give_one_line_and_exit_code_2(flags, text, capsys, tmp_path):
    assert lesson().main(flags.split()) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("error: ") and err.count("\n") == 1 and text in err
    assert not list(tmp_path.iterdir())


def test_tyro_refuses_nothing_that_the_flag_check_lets_through():
    """Every flag with a plain value: what `read_flags` accepts, tyro accepts."""
    for field in fields(Config):
        value = getattr(Config(), field.name)
        name = "--" + field.name.replace("_", "-")
        for flags in ([name], ["--no-" + name[2:]]) if field.type is bool else ([name, str(value)], [f"{name}={value}"]):
            changed = parse_flags(Config(), flags)
            assert replace(changed, **{field.name: value}) == Config()


# ------------------------------------------------------------------ failures while running

@pytest.mark.parametrize("flags, text", [
    ("--env CartPol-v1", "Did you mean: `CartPole`?"), ("--output /dev/null/run", "cannot use /dev/null/run"),
    ("--env toys:ToyWrongSymbol-v0", "environment step 1")])
def test_failures_of_task_and_folder_give_one_line_and_exit_code_1(flags, text, capsys):
    assert lesson().main([*SMALL, *flags.split()]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and text in err


def test_a_damaged_checkpoint_gives_one_line_and_exit_code_1(capsys, tmp_path):
    (tmp_path / "checkpoint.pt").write_text("garbage")
    assert lesson().main([*SMALL, "--output", "."]) == 1
    err = capsys.readouterr().err
    assert "checkpoint.pt is damaged" in err and err.count("\n") == 1


def test_a_full_disk_gives_one_line_and_exit_code_1(capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("dreamer.training.checkpoint.save", full)
    assert lesson().main([*SMALL, "--output", "here"]) == 1
    assert capsys.readouterr().err == "error: cannot use here: No space left on device; --output takes another folder\n"


# ------------------------------------------------------------------ complete runs

def test_a_lesson_trains_reports_and_can_be_run_again(capsys, tmp_path):
    assert lesson().main(SMALL) == 0
    out = capsys.readouterr().out
    summary = json.loads((tmp_path / "runs" / "CartPole-v1-0" / "summary.json").read_text())
    assert summary["steps"] == 60 and summary["config"]["batch_length"] == 8
    assert shlex.split(summary["command"])[2:] == SMALL
    final = sum(summary["final"]["greedy"]) / 2
    assert f"bar not met: mean of 2 fresh greedy episodes {final:.1f}, wanted 475" in out
    assert "not judged" in out and "runs/CartPole-v1-0/summary.json" in out
    assert f"  final {final:8.1f}" in out and f"\n     30 " in out
    assert lesson().main(SMALL) == 0                    # finished already: evaluates and reports the same
    assert json.loads((tmp_path / "runs" / "CartPole-v1-0" / "summary.json").read_text())["final"] == summary["final"]


def test_a_run_without_learning_says_so(capsys):
    assert lesson().main([*SMALL, "--prefill", "60", "--env", "toys:ToyCounter-v0"]) == 0
    out = capsys.readouterr().out
    assert "nothing will be learned" in out and "bar" not in out    # the bar of CartPole is not for other tasks


def summary_with(final, evaluations, envs=1):
    return {"final": {"greedy": final}, "config": {"envs": envs},
            "evaluations": [{"step": step, "greedy": scores} for step, scores in evaluations]}


def test_the_bar_is_judged_by_means():
    bar = Bar(final=475, window=465, at=(5, 6))
    good = [(4, [0]), (5, [500, 440]), (6, [460, 460])]
    assert [met for _, met in bar.check(summary_with([500, 450], good))] == [True, True]
    assert [met for _, met in bar.check(summary_with([500, 449], good))] == [False, True]
    assert [met for _, met in bar.check(summary_with([500], [(5, [500]), (6, [429])]))] == [True, False]
    assert [met for _, met in bar.check(summary_with([500], [(5, [500])]))] == [True, None]
    late = Bar(final=3, window=3, at=(5, 9))            # three environments count in steps of three
    assert [met for _, met in late.check(summary_with([3], [(6, [3]), (9, [3])], envs=3))] == [True, True]
    assert [met for _, met in late.check(summary_with([3], [(6, [3]), (12, [3])], envs=3))] == [True, None]
    assert [met for _, met in Bar(final=-200).check(summary_with([-199.0, -201.0], []))] == [True]


def test_a_curve_that_cannot_be_drawn_spoils_no_finished_run(tmp_path, capsys):
    (tmp_path / "assets").write_text("in the way")
    assert run_lesson(Config(), None, [*SMALL, "--env", "toys:ToyCounter-v0"]) == 0
    out = capsys.readouterr().out
    assert "checkpoint.pt\nno curve: cannot write assets/curve_toys-ToyCounter-v0-0.png: " in out and out.count("curve: ") == 1


# ------------------------------------------------------------------ Ctrl-C

def test_ctrl_c_explains_how_to_resume(capsys, monkeypatch):
    original, calls = Run.advance, []

    def advance(run):
        calls.append(1)
        if len(calls) == 41:
            raise KeyboardInterrupt
        original(run)
    monkeypatch.setattr(Run, "advance", advance)
    flags = [*SMALL, "--env", "toys:ToyCounter-v0", "--output", "here"]
    assert run_lesson(Config(), None, [*flags, "--no-resume"]) == 130
    err = capsys.readouterr().err
    assert "stopped at step 40" in err and "the checkpoint of step 28" in err and "Traceback" not in err
    again = shlex.split(err.strip().splitlines()[-1])
    assert again[2:] == flags                           # without --no-resume
    assert run_lesson(Config(), None, again[2:]) == 0
    assert json.loads(Path("here/summary.json").read_text())["steps"] == 60


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_a_real_script_from_another_folder_is_interrupted_and_resumed(tmp_path):
    command = [sys.executable, str(SCRIPT), *SMALL, "--output", "out/run", "--envs", "2", "--async-envs", "--log-every", "1"]
    hear = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)         # noqa: E731  deaf, if the tests run in the background
    process = subprocess.Popen([*command, "--steps", "100000"], cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=hear)
    log = tmp_path / "out" / "run" / "metrics.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") > 12):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    err = process.communicate()[1]
    assert process.returncode == 130 and "To go on from the checkpoint" in err and "Traceback" not in err
    done = subprocess.run([*command, "--steps", "60"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr and "files: out/run/summary.json" in done.stdout


def test_the_official_recipe_is_what_the_configuration_says_of_the_paper():
    """Every "(paper: ...)" with a number in dreamer/config.py agrees with OFFICIAL, or with the value itself."""
    text = (Path(__file__).parent.parent / "dreamer" / "config.py").read_text(encoding="utf-8")
    notes = re.findall(r'^    (\w+): \w+ = .*\n    """.*\(paper: ([^)]*)\)', text, flags=re.MULTILINE)
    numbers = {name: [float(n) for n in re.findall(r"\d[\d.]*(?:e-?\d+)?", note)] for name, note in notes}
    assert len([name for name, found in numbers.items() if found]) >= 12
    for name, found in numbers.items():
        if found:
            assert OFFICIAL.get(name, getattr(Config(), name)) in found, name
