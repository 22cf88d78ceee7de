"""python -m dreamer train as a reader uses it: any task, a module of one's own, and the two halves of the algorithm."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

import killer
from dreamer.__main__ import main
from dreamer.config import SIZES, Config
from dreamer.learner import Learner
from dreamer.tools.dream import DreamOptions
from dreamer.tools.evaluate import EvaluateOptions
from dreamer.tools.services import ServiceOptions
from dreamer.tools.train import TrainOptions, read
from dreamer.training import checkpoint, cli, envs
from dreamer.training.flags import read_flags
from toys import TINY

SMALL = ("--steps 60 --prefill 24 --batch-size 2 --batch-length 8 --starts 4 --imagination-horizon 2 --stoch 4 --train-ratio 4 "
         "--log-every 10 --eval-every 20 --eval-episodes 2 --final-episodes 2 --checkpoint-every 10 --warmup 2 --capacity 200 "
         "--device cpu")
MINE = '''
import gymnasium as gym, numpy as np
class Mine(gym.Env):
    observation_space = gym.spaces.Dict({"at": gym.spaces.Box(-1, 1, (2,), np.float32), "card": gym.spaces.Discrete(3)})
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.see(), {}
    def see(self):
        return {"at": np.array([self.time / 9, 0], np.float32), "card": self.time % 3}
    def step(self, action):
        self.time += 1
        return self.see(), float(action[0]), self.time == 5, False, {}
gym.register("Mine-v0", lambda: Mine())
'''


@pytest.fixture(autouse=True)
def elsewhere(tiny_size, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dreamer.tools.modes.HELD_OUT", 4)


def train(flags, code=0):
    assert main(["train", *shlex.split(SMALL), *shlex.split(flags)]) == code


def refusal(capsys, argv, code):
    """The one sentence with which a command is refused."""
    assert main(shlex.split(argv)) == code
    out, err = capsys.readouterr()
    assert not out and err.startswith("error: ") and err.count("\n") == 1 and len(err) < 500
    return err


# ------------------------------------------------------------------ the command line

def test_help_names_all_commands_and_their_flags(capsys):
    assert main([]) == main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(text.count(f"\n  {name} ") == 2 for name in ("train", "evaluate", "dream", "check"))
    for command, flags in (("train", "--mode --checkpoint --config --import --print-config --patience --steps --lr"),
                           ("evaluate", "RUN --episodes --json --record --device"), ("dream", "RUN --context --output")):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        text = capsys.readouterr().out
        assert stop.value.code == 0 and f"python -m dreamer {command}" in text
        assert all(flag in text for flag in flags.split())


@pytest.mark.parametrize("argv, text", [
    ("trian", "unknown command trian; did you mean train? (there are train, evaluate"),
    ("train --chekpoint x", "unknown flag --chekpoint; did you mean --checkpoint?"),
    ("train --patiense 3", "did you mean --patience?"), ("train --stepz 3", "did you mean --steps?"),
    ("train --import", "--import needs a value"), ("train x", "unexpected word x"), ("evaluate a b", "unexpected word b"),
    ("train --mode dreams", "--mode must be one of full, world-model, dream, not dreams; did you mean dream?"),
    ("evaluate --episode 3", "did you mean --episodes?"), ("dream", "dream what? Name the folder of a run"),
    ("train --mode dream", "--mode dream needs --checkpoint"), ("train --lr 0", "--lr must be above 0"),
    ("train --patience -1", "--patience must be 0 or more"), ("dream x --horizon 0", "--horizon must be at least 1"),
    ("evaluate x --seed -1", "--seed must be 0 or more"), ("dream x --output x.png", "a film is a .gif or an .mp4, not x.png"),
    ("check --fast", "unknown flag --fast")])
def test_a_wrong_command_line_is_refused_in_one_sentence(argv, text, capsys, tmp_path):
    assert text in refusal(capsys, argv, 2) and not list(tmp_path.iterdir())


def test_every_command_of_the_documentation_has_flags_that_exist():
    text = (Path(envs.__file__).parents[2] / "docs" / "tools.md").read_text(encoding="utf-8")
    commands = re.findall(r"^(?:\$ )?python -m dreamer (train|evaluate|dream) (.*)", text, flags=re.MULTILINE)
    kinds = {"train": (TrainOptions, ServiceOptions, Config), "evaluate": (EvaluateOptions,), "dream": (DreamOptions,)}
    assert {name for name, _ in commands} == set(kinds) and len(commands) > 10
    for name, flags in commands:
        words = [word for word in shlex.split(flags.partition("   ")[0]) if word != "--help"]
        list(read_flags(words, kinds[name], word_for="run"))


def test_ctrl_c_before_a_run_says_so(capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr("dreamer.tools.train.read", interrupted)
    assert main(["train"]) == 130 and capsys.readouterr().err == "\nstopped\n"


# ------------------------------------------------------------------ whole runs

def test_a_run_keeps_its_configuration_from_which_it_can_be_repeated(tmp_path, capsys):
    train("--env toys:ToyCounter-v0 --lr 2e-3 --output one")
    folder = tmp_path / "one"
    assert {"config.yaml", "metrics.jsonl", "checkpoint.pt", "summary.json"} <= {file.name for file in folder.iterdir()}
    assert (folder / "config.yaml").read_text().startswith("# mode: full\n# python ")
    assert yaml.safe_load((folder / "config.yaml").read_text())["lr"] == 2e-3
    assert main(["train", "--config", "one/config.yaml", "--output", "two"]) == 0
    assert killer.results(folder) == killer.results(tmp_path / "two")
    out = capsys.readouterr().out
    assert "toys:ToyCounter-v0, seed 0: 60 steps" in out and "files: two/summary.json" in out.replace("\\", "/")
    train("--env Pendulum-v1 --seed 3 --steps 26 --prefill 26")
    assert (tmp_path / "runs" / "Pendulum-v1-3" / "config.yaml").exists()       # without --output: as the lessons choose
    assert "all 26 steps are random prefill" in capsys.readouterr().out


def test_a_run_that_is_refused_leaves_the_configuration_in_its_folder_alone(capsys):
    train("--env toys:ToyCounter-v0 --output here")
    before = Path("here/config.yaml").read_text()
    capsys.readouterr()
    train("--env toys:ToyCounter-v0 --output here --lr 0.5", code=1)
    assert "was trained with lr=0.001, not 0.5" in capsys.readouterr().err and Path("here/config.yaml").read_text() == before


def test_services_follow_the_run():
    train("--env toys:ToyCounter-v0 --output here --keep 2 --patience 1 --stop-window 1 --steps 2000 --lr 1e-9")
    assert "has not risen" in json.loads(Path("here/summary.json").read_text())["stopped"]
    assert 1 <= len(list(Path("here").glob("best-*.pt"))) <= 2


def test_a_module_of_ones_own_is_imported_from_the_current_folder_also_by_other_processes(tmp_path):
    """As processes: one that knows nothing of the module, and whose environments start with an empty registry."""
    (tmp_path / "my_env.py").write_text(MINE)
    spawned = ("import multiprocessing, sys; multiprocessing.set_start_method('spawn'); from dreamer.__main__ import main; "
               "sys.exit(main(sys.argv[1:]))")

    def run(argv, *start):
        environment = {**os.environ, "PYTHONPATH": str(Path(envs.__file__).parents[2]), "DREAMER_QUIET": "1"}
        return subprocess.run([sys.executable, *start, *shlex.split(argv)], capture_output=True, text=True, env=environment)
    done = run(f"train {SMALL} --env Mine-v0 --import my_env --envs 2 --async-envs --output here", "-c", spawned)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert json.loads(Path("here/summary.json").read_text())["steps"] == 60
    done = run("evaluate here --import my_env --episodes 3 --json", "-m", "dreamer")
    assert done.returncode == 0 and json.loads(done.stdout)["episodes"] == 3, done.stderr
    missing = run("evaluate here", "-m", "dreamer")
    assert missing.returncode == 1 and missing.stderr.count("\n") == 1 and "Mine" in missing.stderr


@pytest.mark.parametrize("module, text", [
    ("nothing_here", "--import nothing_here: there is no such module"), ("broken", "--import broken failed: ValueError: oh"),
    ("needy", "--import needy needs a package that is not installed: not_there"), ("mine.py", "write my_env for a file")])
def test_a_module_that_cannot_be_imported_is_refused_in_one_sentence(module, text, capsys):
    Path("broken.py").write_text("raise ValueError('oh')")
    Path("needy.py").write_text("import not_there")
    Path("mine.py").write_text("")
    assert text in refusal(capsys, f"train --import {module}", 1)


# ------------------------------------------------------------------ halves

@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The folder of a world model with its rows."""
    folder = tmp_path_factory.mktemp("source") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "1m", TINY)
        train(f"--mode world-model --env CartPole-v1 --output {shlex.quote(str(folder))}")
    return folder


@pytest.fixture
def environment_steps(monkeypatch):
    """A list that grows by one entry for every step of any environment: how many play side by side."""
    original, counted = envs.Environments.step, []

    def step(environments, action):
        counted.append(environments.count)
        return original(environments, action)
    monkeypatch.setattr(envs.Environments, "step", step)
    return counted


def world_model_of(path):
    return {k: v for k, v in checkpoint.load(path)["average"].items() if k.startswith("world_model.")}


def interrupted(monkeypatch, method, count):
    """Ctrl-C at the update number `count`, once."""
    original = getattr(Learner, method)

    def update(learner, *arguments):
        if learner.updates == count:
            monkeypatch.setattr(Learner, method, original)
            raise KeyboardInterrupt
        return original(learner, *arguments)
    monkeypatch.setattr(Learner, method, update)


def test_a_world_model_alone_learns_from_random_steps(source, environment_steps):
    summary = json.loads((source / "summary.json").read_text())
    assert summary["mode"] == "world-model" and summary["steps"] == 60
    assert summary["updates"] == (60 - 24) * 4 // 16
    assert len(summary["open loop"]["model"]) > 1 and min(summary["open loop"]["model"]) > 0
    assert (source / "config.yaml").read_text().startswith("# mode: world-model")


def test_a_world_model_alone_learns_from_the_rows_of_a_checkpoint(source, environment_steps, capsys, monkeypatch):
    flags = f"--mode world-model --checkpoint {shlex.quote(str(source))} --seed 5 --steps 300"
    monkeypatch.setattr("dreamer.tools.modes.HELD_OUT", 1)
    monkeypatch.setattr("dreamer.training.offline.SAVE_EVERY", 20)
    train(f"{flags} --output whole")
    assert set(environment_steps) == {1}                # the one held-out episode
    rows, theirs = (checkpoint.load(folder / "checkpoint.pt")["replay"] for folder in (Path("whole"), source))
    assert torch.equal(rows["count"], theirs["count"]) and rows["rows"]["is_last"][0, -1]
    assert torch.equal(rows["rows"]["obs_vector"], theirs["rows"]["obs_vector"])
    summary = json.loads(Path("whole/summary.json").read_text())
    assert summary["updates"] == 69 and summary["task"] == "CartPole-v1"          # the task is that of the checkpoint
    interrupted(monkeypatch, "update_world_model", 50)
    train(f"{flags} --output here", code=130)
    assert checkpoint.load("here/checkpoint.pt")["updates"] == 40
    train(f"{flags} --output here")
    assert json.loads(Path("here/summary.json").read_text())["open loop"] == summary["open loop"]
    capsys.readouterr()
    train(f"{flags} --output here --steps 100", code=2)
    assert "here holds a run of 300 steps, not 100" in capsys.readouterr().err


def test_a_dream_leaves_the_world_model_as_it_is_and_the_environment_to_the_evaluations(source, environment_steps, capsys):
    train(f"--mode dream --checkpoint {shlex.quote(str(source / 'checkpoint.pt'))} --output here --eval-episodes 3")
    saved, summary = checkpoint.load("here/checkpoint.pt"), json.loads(Path("here/summary.json").read_text())
    frozen, now = world_model_of(source / "checkpoint.pt"), world_model_of("here/checkpoint.pt")
    assert frozen and all(torch.equal(now[name], value) for name, value in frozen.items())
    assert all(torch.equal(saved["agent"][name], value) for name, value in frozen.items())
    fresh = Learner(envs.observation_spec(envs.make("CartPole-v1").observation_space), 2, True, config_of("here")).agent
    for part in ("actor", "critic", "slow_critic"):
        assert any(not torch.equal(saved["agent"][f"{part}.{name}"], value)
                   for name, value in getattr(fresh, part).state_dict().items()), part
    assert set(environment_steps) == {2, 3, 4}         # final and other evaluations, and what dreams are compared with
    assert torch.equal(saved["replay"]["count"], checkpoint.load(source / "checkpoint.pt")["replay"]["count"])
    assert [e["step"] for e in summary["evaluations"]] == [20, 40, 60] and summary["steps"] == 60
    assert summary["updates"] == 1 + 59 * 4 // 16 and summary["mode"] == "dream" and summary["config"]["prefill"] == 0
    lines = [json.loads(line) for line in Path("here/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30, 40, 50, 60] and lines[-1]["episodes"] == 0
    promised = summary["promises"]
    out = capsys.readouterr().out
    assert f"dreams promise {promised['dreamed']:.1f}, {promised['real']:.1f} really follow" in out and promised["states"] > 10
    assert promised["real"] > 5                         # CartPole: at least some ten steps are left on average


def config_of(folder):
    return Config(**checkpoint.load(Path(folder) / "checkpoint.pt")["config"])


def test_a_dream_that_was_stopped_goes_on_as_if_it_had_not_been(source, capsys, monkeypatch, tmp_path):
    flags = f"--mode dream --checkpoint {shlex.quote(str(source))}"
    train(f"{flags} --output whole")
    interrupted(monkeypatch, "update", 11)
    capsys.readouterr()
    train(f"{flags} --output here --no-resume", code=130)
    err = capsys.readouterr().err
    assert "stopped at step 45" in err and "the checkpoint of step 40" in err
    again = shlex.split(err.strip().splitlines()[-1])
    assert "--no-resume" not in again and again[-2:] == ["--output", "here"]
    assert main(again[again.index("train"):]) == 0
    assert killer.results(tmp_path / "here") == killer.results(tmp_path / "whole")
    whole, here = (checkpoint.load(f"{name}/checkpoint.pt") for name in ("whole", "here"))
    assert all(torch.equal(here["agent"][name], value) for name, value in whole["agent"].items())
    promises = [json.loads(Path(f"{name}/summary.json").read_text())["promises"] for name in ("whole", "here")]
    assert promises[0] == promises[1]


def test_modes_write_into_folders_of_their_own(source, tmp_path):
    train(f"--mode dream --checkpoint {shlex.quote(str(source))} --seed 4 --steps 20")
    assert (tmp_path / "runs" / "dream-CartPole-v1-4" / "summary.json").exists()


def test_a_folder_is_taken_up_in_its_own_mode_only(source, capsys):
    train(f"--mode dream --checkpoint {shlex.quote(str(source))} --output here")
    before = checkpoint.load("here/checkpoint.pt")["updates"]
    capsys.readouterr()
    for flags in ("", "--mode world-model"):
        train(f"{flags} --env CartPole-v1 --output here", code=2)
        assert "here holds a run of --mode dream" in capsys.readouterr().err
    (Path("here") / "config.yaml").unlink()             # as a lesson's script leaves it
    train("--env CartPole-v1 --output full")
    (Path("full") / "config.yaml").unlink()
    capsys.readouterr()
    train(f"--mode dream --checkpoint {shlex.quote(str(source))} --output full --prefill 24", code=2)
    assert "full holds a run that began from another checkpoint" in capsys.readouterr().err
    assert checkpoint.load("here/checkpoint.pt")["updates"] == before


@pytest.mark.parametrize("flags, code, text", [
    ("--mode dream --checkpoint {source} --size 12m", 2, "the run in --checkpoint has --size 1m, not 12m; leave --size out"),
    ("--mode dream --checkpoint {source} --env Acrobot-v1", 2, "--env CartPole-v1, not Acrobot-v1"),
    ("--mode world-model --checkpoint {source} --envs 2", 2, "--envs 1, not 2"),
    ("--mode dream --checkpoint {source} --discount-horizon 100", 2, "--discount-horizon 200.0, not 100.0"),
    ("--mode world-model --patience 3", 2, "--mode world-model makes none; leave them out"),
    ("--mode world-model --stop-at 3", 2, "--mode world-model makes none; leave them out"),
    ("--checkpoint {source}", 2, "--checkpoint is for --mode world-model and --mode dream"),
    ("--mode dream --checkpoint nowhere", 1, "there is no 'nowhere'; name the folder of a run"),
    ("--mode dream --checkpoint .", 1, "a folder without a run: there is no checkpoint.pt in it"),
    ("--mode dream --checkpoint agent.pt", 1, "agent.pt holds an agent without its replay buffer"),
    ("--mode dream --checkpoint other.pt", 1, "other.pt was written by another version"),
    ("--mode dream --checkpoint damaged.pt", 1, "damaged.pt is damaged")])
def test_a_source_that_does_not_fit_is_refused_in_one_sentence(flags, code, text, source, capsys):
    saved = checkpoint.load(source / "checkpoint.pt")
    checkpoint.save("agent.pt", {k: saved[k] for k in ("config", "average", "updates")})
    checkpoint.save("other.pt", {**saved, "config": {"envy": 3}})
    Path("damaged.pt").write_bytes((source / "checkpoint.pt").read_bytes()[:-5])
    assert main(["train", *shlex.split(flags.format(source=shlex.quote(str(source))))]) == code
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and text in err


@pytest.mark.parametrize("mode", ["dream", "world-model"])
def test_a_half_of_the_algorithm_goes_on_from_its_own_source_only(mode, source, capsys):
    flags = f"--mode {mode} --output here --checkpoint"
    saved = checkpoint.load(source / "checkpoint.pt")
    for name, changes in (("a.pt", {}), ("b.pt", {"updates": saved["updates"] + 1})):
        checkpoint.save(name, {**saved, **changes})
    train(f"{flags} a.pt")
    train(f"{flags} a.pt")                              # finished: nothing is new
    capsys.readouterr()
    train(f"{flags} b.pt", code=2)
    assert "here holds a run that began from another checkpoint" in capsys.readouterr().err
    train(f"{flags} b.pt --no-resume")
    train(f"{flags} b.pt")
    if mode == "world-model":
        train("--mode world-model --output here", code=2)           # from random steps of its own
        train("--mode world-model --env CartPole-v1 --output here --no-resume")
        train("--mode world-model --env CartPole-v1 --output here")


def test_what_a_run_leaves_behind_and_says_goes_on_with_it():
    """A run that was begun anew must not be begun anew by the file it leaves, nor by the command that it names."""
    train("--env CartPole-v1 --output here --no-resume")
    assert yaml.safe_load(Path("here/config.yaml").read_text())["resume"] is True
    Path("mine.yaml").write_text("env: CartPole-v1\nresume: false\n")
    run = SimpleNamespace(config=read(["train", "--config", "mine.yaml"]).config)
    assert not run.config.resume
    assert cli.again(["train", "--config", "mine.yaml"], run).endswith("train --config mine.yaml --resume")
    assert cli.again(["train", "--config", "mine.yaml", "--no-resume"], run).endswith("train --config mine.yaml --resume")
    assert cli.again(["train", "--no-resume"], run).endswith("train")
    run.config = replace(run.config, resume=True)
    assert cli.again(["train", "--seed", "1"], run).endswith("train --seed 1")


def test_a_refused_start_deletes_nothing_and_leaves_the_mark_of_the_source(source, capsys):
    saved = checkpoint.load(source / "checkpoint.pt")
    for name, changes in (("a.pt", {}), ("b.pt", {"updates": saved["updates"] + 1})):
        checkpoint.save(name, {**saved, **changes})
    train("--mode dream --output here --checkpoint a.pt")
    begun = Path("here/checkpoint.pt").read_bytes()
    train("--mode dream --output here --checkpoint b.pt --no-resume --envs 2", code=2)
    assert Path("here/checkpoint.pt").read_bytes() == begun
    train("--mode dream --output here --checkpoint a.pt")
    train("--mode world-model --env CartPole-v1 --output model")
    before = Path("model/checkpoint.pt").read_bytes()
    train("--mode world-model --env CartPole-v1 --output model --no-resume --steps 3", code=2)
    assert "less than one sequence" in capsys.readouterr().err
    assert Path("model/checkpoint.pt").read_bytes() == before and Path("model/summary.json").exists()
