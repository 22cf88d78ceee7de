"""Lesson 1 with toy sizes: data, world model, judgement, pictures, refusals, Ctrl-C and resuming."""

import json
import re
import shlex
from pathlib import Path

import matplotlib
import pytest
import torch

from dreamer.config import Config
from dreamer.learner import Learner
from dreamer.training.checkpoint import load
from dreamer.training.shipping import ship
from dreamer.visual import figures
from dreamer.world_model.encoder import ObservationSpec
from test_visual import toy_agent
from toys import load_lesson

SMALL = shlex.split("--batch-size 2 --batch-length 8 --stoch 4 --train-ratio 2 --warmup 2 --device cpu")


def lesson():
    """The module of lesson 1, with few and short held-out episodes."""
    module = load_lesson("01_world_model_demo")
    module.EPISODES, module.LONGEST, module.SEGMENTS, module.SAMPLES = 20, 40, 5, 3
    return module


@pytest.fixture(autouse=True)
def elsewhere(tiny_size, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_both_tasks_are_learned_judged_and_drawn(capsys, tmp_path):
    backend = matplotlib.get_backend()
    assert lesson().main([*SMALL, "--steps", "48"]) == 0
    out = capsys.readouterr().out
    for task in ("CartPole-v1", "Pendulum-v1"):
        folder = tmp_path / "runs" / f"01-{task}-0"
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["task"] == task and summary["steps"] == 48 and summary["updates"] == 48 * 2 // 16
        assert {k: len(v) for k, v in summary["errors"].items()} == {"model": 15, "no change": 15, "constant change": 15}
        better = min(summary["errors"][k][-1] for k in ("no change", "constant change"))
        assert summary["ratio"] == pytest.approx(summary["errors"]["model"][-1] / better)
        assert f"bar {'met:     ' if summary['ratio'] <= 1 / 3 else 'not met: '}" in out and f"{summary['ratio']:.2f} of" in out
        assert (folder / "checkpoint.pt").exists()
    pictures = sorted(p.name for p in (tmp_path / "assets").iterdir())
    assert pictures == ["01_open_loop_CartPole-v1.png", "01_open_loop_Pendulum-v1.png", "01_symlog_twohot.png"]
    for name in pictures:                                       # PNG, 900 pixels wide
        data = (tmp_path / "assets" / name).read_bytes()
        assert data[1:4] == b"PNG" and int.from_bytes(data[16:20]) == 900
    assert matplotlib.get_backend() == backend


def test_shipped_models_are_judged_and_drawn_and_nothing_is_trained(capsys, tmp_path):
    module = lesson()
    assert module.main([*SMALL, "--steps", "48", "--env", "CartPole-v1", "--seed", "3"]) == 0
    numbers = lambda: [float(x) for x in re.findall(r"\d+\.\d+", capsys.readouterr().out.split("bar ")[1])]
    trained = numbers()
    picture = tmp_path / "assets" / "01_open_loop_CartPole-v1.png"
    before = picture.read_bytes()
    picture.unlink()
    ship(tmp_path / "runs" / "01-CartPole-v1-3" / "checkpoint.pt", tmp_path / "assets" / "world_models" / "CartPole-v1.pt")
    assert module.main(["--draw", "--env", "CartPole-v1"]) == 0
    assert numbers() == pytest.approx(trained, rel=0.01)            # of its own seed; half precision
    assert picture.exists() and len(picture.read_bytes()) == pytest.approx(len(before), rel=0.05)
    assert sorted(x.name for x in (tmp_path / "runs").iterdir()) == ["01-CartPole-v1-3"]
    assert module.main(["--draw"]) == 1
    assert "there is no agent at assets/world_models/Pendulum-v1.pt" in capsys.readouterr().err
    assert module.main(["--draw", "--env", "Acrobot-v1"]) == 2
    assert "there are shipped models of CartPole-v1 and Pendulum-v1, not of Acrobot-v1" in capsys.readouterr().err
    assert module.main(["--draw", "--steps", "48"]) == 2
    assert "--draw trains nothing: it goes with --env and --output alone, not with --steps" in capsys.readouterr().err


def test_a_few_steps_more_than_a_prefill_are_trained_on_as_much(tmp_path):
    assert lesson().main([*SMALL, "--steps", "60", "--prefill", "48", "--env", "CartPole-v1", "--output", "here"]) == 0
    saved = load(tmp_path / "here" / "checkpoint.pt")
    assert saved["updates"] == 48 * 2 // 16 and saved["config"]["prefill"] == 48


def test_only_the_world_model_learns(tmp_path):
    assert lesson().main([*SMALL, "--steps", "48", "--env", "CartPole-v1", "--output", "here"]) == 0
    assert (tmp_path / "here" / "01_open_loop_CartPole-v1.png").exists() and not (tmp_path / "assets").exists()
    saved, moved = load(tmp_path / "here" / "checkpoint.pt"), set()
    fresh = Learner(ObservationSpec(vector=4), 2, True, Config(**saved["config"])).agent.state_dict()
    for name, value in saved["agent"].items():
        if not torch.equal(value, fresh[name]):
            moved.add(name.split(".")[0])
    assert moved == {"world_model"}


def test_held_out_episodes_are_not_the_trained_ones_and_follow_the_seed(tmp_path):
    module = lesson()
    assert module.main([*SMALL, "--steps", "60", "--env", "CartPole-v1", "--output", "here"]) == 0
    rows, _ = module.held_out("CartPole-v1", 0)
    trained = load(tmp_path / "here" / "checkpoint.pt")["replay"]["rows"]["obs_vector"].flatten(0, 1)
    seen = rows["obs"]["vector"].flatten(0, 1)
    assert len(rows["reward"]) == 5 and rows["reward"].shape[1] == module.CONTEXT + module.HORIZON
    assert (seen.unsqueeze(1) - trained).abs().sum(-1).min() > 0
    assert torch.equal(seen, module.held_out("CartPole-v1", 0)[0]["obs"]["vector"].flatten(0, 1))
    assert not torch.equal(seen, module.held_out("CartPole-v1", 1)[0]["obs"]["vector"].flatten(0, 1))


# ------------------------------------------------------------------ refusals

@pytest.mark.parametrize("flags, code, text", [
    ("--steps 8 --env CartPole-v1", 2, "--steps 8 is less than one sequence; use at least 9"),
    ("--steps 18 --envs 3 --env toys:ToyEndless-v0", 2, "--steps 18 is less than one sequence in each environment; use at least 27"),
    ("--stepz 8", 2, "did you mean --steps?"),
    ("--env toys:ToySymbols-v0 --steps 48", 1, "hold no numbers"), ("--env CartPol-v1", 1, "CartPol-v1"),
    ("--env toys:ToyCounter-v0 --steps 48", 1, "no episode has 20 rows; the longest has")])
def test_what_cannot_be_done_is_said_in_one_line(flags, code, text, capsys):
    assert lesson().main([*SMALL, *flags.split()]) == code
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and text in err


def test_a_longer_run_in_the_folder_is_not_passed_off_as_a_shorter_one(capsys):
    flags = [*SMALL, "--env", "CartPole-v1", "--output", "here", "--steps"]
    assert lesson().main([*flags, "60"]) == 0
    assert lesson().main([*flags, "40"]) == 2
    assert "here holds a run of 60 steps, not 40" in capsys.readouterr().err
    assert lesson().main([*flags, "40", "--no-resume"]) == 0
    assert json.loads(Path("here/summary.json").read_text())["steps"] == 40


# ------------------------------------------------------------------ Ctrl-C

def test_ctrl_c_leaves_a_run_that_goes_on(capsys, monkeypatch):
    flags = [*SMALL, "--env", "CartPole-v1", "--steps", "100"]
    assert lesson().main([*flags, "--output", "whole"]) == 0
    whole = json.loads(Path("whole/summary.json").read_text())
    original = Learner.update_world_model

    def update(learner, *arguments):
        if learner.updates == 8:
            raise KeyboardInterrupt
        return original(learner, *arguments)
    monkeypatch.setattr("dreamer.training.offline.SAVE_EVERY", 5)
    monkeypatch.setattr(Learner, "update_world_model", update)
    capsys.readouterr()
    assert lesson().main([*flags, "--output", "here"]) == 130
    err = capsys.readouterr().err
    assert "To go on from the checkpoint" in err and "Traceback" not in err
    monkeypatch.setattr(Learner, "update_world_model", original)
    assert load(Path("here/checkpoint.pt"))["updates"] == 5
    again = shlex.split(err.strip().splitlines()[-1])[2:]
    assert lesson().main(again) == 0
    summary = json.loads(Path("here/summary.json").read_text())
    assert summary["steps"] == whole["steps"] == 100 and summary["updates"] == whole["updates"] == 12
    assert summary["errors"] == whole["errors"]                 # as if nothing had happened
    assert lesson().main(again) == 0                            # finished: judges again, trains no further
    assert json.loads(Path("here/summary.json").read_text())["updates"] == 12


def test_a_stop_before_the_first_checkpoint_starts_anew(monkeypatch, capsys):
    flags = [*SMALL, "--env", "CartPole-v1", "--steps", "60", "--output", "here"]
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "update_world_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert lesson().main(flags) == 130
    assert "no checkpoint yet" in capsys.readouterr().err
    assert lesson().main(flags) == 0


# ------------------------------------------------------------------ figures

def segments_with(error, terminal):
    """Segments of 4 seen and 3 predicted rows whose predictions are off by `error` (B,), with 2 samples each."""
    count = len(error)
    truth = torch.arange(7.0).expand(count, 7).unsqueeze(-1)
    rows = {"obs": {"vector": truth}, "reward": torch.ones(count, 7), "is_terminal": torch.zeros(count, 7, dtype=torch.bool)}
    rows["is_terminal"][:, -1] = torch.tensor(terminal)
    vector = (truth[:, 4:] + torch.tensor(error).view(-1, 1, 1)).expand(2, -1, -1, -1)
    return rows, {"vector": vector, "reward": torch.ones(2, count, 3), "continues": torch.ones(2, count, 3)}


def test_the_shown_segments_are_typical_and_not_the_best():
    rows, said = segments_with([9.0, 0.0, 5.0, 1.0, 7.0], [False] * 5)
    assert [i for i, _ in figures.typical(rows, said, 4)] == [2, 0]
    rows, said = segments_with([9.0, 0.0, 5.0, 1.0, 7.0, 6.0], [False, True, True, False, False, True])
    assert [i for i, _ in figures.typical(rows, said, 4)] == [4, 2]
    rows, said = segments_with([1.0], [True])
    assert [i for i, _ in figures.typical(rows, said, 4)] == [0, 0]


def test_the_open_loop_figure_draws_predictions_only_where_the_model_did_not_look():
    rows, said = segments_with([9.0, 0.5, 5.0], [False, False, False])
    figure = figures.open_loop("Some-v0", rows, said, {"model": [1, 2, 3], "no change": [2, 3, 4]}, 4)
    *panels, last = [a for a in figure.axes]
    assert [a.get_ylabel() for a in panels[::2]] == ["number 1", "reward", "continue"]
    truth, *samples = panels[0].get_lines()
    assert truth.get_xdata().tolist() == [-3, -2, -1, 0, 1, 2, 3] and len(samples) == 2
    for line in samples:
        assert line.get_xdata().tolist() == [1, 2, 3] and line.get_ydata().tolist() == [9.0, 10.0, 11.0]
    assert [line.get_label() for line in last.get_lines()] == ["model", "no change"]


def test_the_two_hot_figure_shows_what_the_code_is():
    right = figures.symlog_twohot(target=30.0).axes[1]
    said = " ".join(text.get_text() for text in right.texts)
    assert "0.21 on\nbin 26.3" in said and "0.79 on\nbin 31.0" in said and "= 30.0" in said


# ------------------------------------------------------------------ what is judged

def test_the_model_is_judged_by_what_it_says_with_closed_eyes_of_the_rows_that_follow(monkeypatch):
    module, agent = lesson(), toy_agent("CartPole-v1")
    rows, scale = module.held_out("CartPole-v1", 0)
    said, errors = module.judge(agent, rows, scale, 0)
    by_hand = (((said["vector"].mean(0) - rows["obs"]["vector"][:, module.CONTEXT:]) / scale) ** 2).mean((0, 2)).sqrt()
    assert errors["model"] == pytest.approx(by_hand.tolist(), rel=1e-4)
    later = {**rows, "obs": {"vector": rows["obs"]["vector"].clone()}}
    later["obs"]["vector"][:, module.CONTEXT:] += 1.0
    again, others = module.judge(agent, later, scale, 0)
    assert torch.equal(said["vector"], again["vector"]) and others["model"] != errors["model"]


def test_a_number_that_never_changes_is_not_judged():
    module, agent = lesson(), toy_agent("CartPole-v1")
    rows, scale = module.held_out("CartPole-v1", 0)
    all_errors = module.judge(agent, rows, scale, 0)[1]
    scale[1] = 0.0
    errors = module.judge(agent, rows, scale, 0)[1]
    assert all(torch.tensor(values).isfinite().all() for values in errors.values()) and errors != all_errors


def test_a_task_that_shows_always_the_same_is_refused(monkeypatch, capsys):
    module = lesson()
    really = module.record

    def frozen(*arguments, **options):
        episodes = really(*arguments, **options)
        for e in episodes:
            e.obs["vector"][:] = 3.0
        return episodes
    monkeypatch.setattr(module, "record", frozen)
    assert module.main([*SMALL, "--steps", "48", "--env", "CartPole-v1"]) == 1
    assert "never change under random actions" in capsys.readouterr().err


def test_the_third_part_shows_each_bin_against_its_distance_to_the_one_below():
    from dreamer.distributions import make_bins
    bins = make_bins().tolist()
    (line,) = figures.symlog_twohot().axes[2].get_lines()
    points = list(zip(*line.get_data()))
    assert len(points) == 127 and points[0] == pytest.approx((bins[128], bins[128] - bins[127]))
    assert points[-1] == pytest.approx((bins[254], bins[254] - bins[253]))
