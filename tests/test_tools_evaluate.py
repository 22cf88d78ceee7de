"""python -m dreamer evaluate and dream: what RUN may be, the numbers, the films, and what is refused."""

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from PIL import Image

import toys
from dreamer.__main__ import main
from dreamer.agent import Agent
from dreamer.tools.evaluate import EvaluateOptions, film, report
from dreamer.training import checkpoint, envs
from dreamer.training.evaluate import evaluate
from dreamer.training.loop import derived_seed
from dreamer.training.shipping import load_agent

TASK = "toys:ToyCounter-v0"


class Drawn(toys.Counter):
    """A Counter that draws how many steps have passed: a picture of odd size, brighter by 20 with every step."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def render(self):
        return np.full((41, 61, 3), 20 * self.time, np.uint8)


class Seen(toys.Endless):
    """The agent sees a picture, brighter by 2 with every step."""

    observation_space = Box(0, 255, (64, 64, 3), np.uint8)

    def see(self):
        return np.full((64, 64, 3), 2 * self.time % 256, np.uint8)


gym.register("ToyDrawn-v0", Drawn, disable_env_checker=True)
gym.register("ToySeen-v0", Seen, disable_env_checker=True)


@pytest.fixture(autouse=True)
def elsewhere(tiny_size, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def save_agent(path, env_id=TASK):
    """A checkpoint of an agent whose zero-initialised heads have been stirred."""
    made, config = envs.Environments(env_id, 1, 0), toys.tiny(env=env_id)
    torch.manual_seed(0)
    agent = Agent(made.spec, made.actions, made.discrete, config).requires_grad_(False)
    for parameter in agent.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    made.close()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(path, {"config": asdict(config), "average": agent.state_dict(), "updates": 0})


def say(capsys, argv, code=0):
    """What a command prints."""
    assert main(shlex.split(argv)) == code
    out, err = capsys.readouterr()
    assert (not err) if code == 0 else (not out and err.startswith("error: ") and err.count("\n") == 1 and len(err) < 500), err
    return err or out


def frames(path):
    """All pictures of a GIF, as arrays, and its milliseconds."""
    with Image.open(path) as film:
        pictures, pauses = [], []
        for i in range(film.n_frames):
            film.seek(i)
            pictures.append(np.asarray(film.convert("RGB")).copy())
            pauses.append(film.info["duration"])
    return pictures, pauses


# ------------------------------------------------------------------ numbers

def test_the_numbers_are_those_of_fresh_episodes(capsys):
    save_agent("run/checkpoint.pt")
    found = json.loads(say(capsys, "evaluate run --episodes 7 --seed 3 --json"))
    agent, _ = load_agent("run/checkpoint.pt")
    for mode in ("greedy", "sampled"):
        returns = evaluate(agent, TASK, 7, derived_seed(3, 6), mode == "greedy")
        assert found[mode]["returns"] == returns and len(set(returns)) > 3
        wanted = {"mean": np.mean(returns), "std": np.std(returns), "min": min(returns), "max": max(returns)}
        assert {name: found[mode][name] for name in wanted} == pytest.approx(wanted)
    assert found["greedy"] != found["sampled"]
    assert (found["task"], found["episodes"], found["seed"], Path(found["run"])) == (TASK, 7, 3, Path("run/checkpoint.pt"))
    text = say(capsys, "evaluate run/checkpoint.pt --episodes 7 --seed 3").splitlines()
    assert text[0] == f"{TASK}, {Path('run/checkpoint.pt')}: returns of 7 fresh episodes"
    for line, mode in zip(text[-2:], ("greedy", "sampled")):
        assert line.split() == [mode, *(f"{found[mode][name]:.1f}" for name in ("mean", "std", "min", "max"))]
    assert json.loads(say(capsys, "evaluate run --episodes 7 --seed 4 --json"))["greedy"] != found["greedy"]


@pytest.mark.parametrize("far, said", [(0.9604, "0.312"), (1.5, "0.3"), (-200.0, "0.3")])
def test_returns_that_do_not_exceed_1_have_three_decimals(far, said, capsys):
    scores = {"mean": 0.3124, "std": 0.1, "min": 0.0, "max": 0.5, "returns": [0.0, 0.5]}
    report({"task": "t", "episodes": 2, "greedy": scores, "sampled": {**scores, "returns": [0.0, far]}}, "here")
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[3:]] == [said, said]


def test_a_task_names_the_agent_that_comes_with_the_course(capsys, tmp_path):
    save_agent(tmp_path / "assets" / "checkpoints" / "CartPole-v1.pt", "CartPole-v1")
    assert "CartPole-v1.pt: returns of 2 fresh" in say(capsys, "evaluate CartPole-v1 --episodes 2")
    assert "there is no 'CartPol-v1'; name" in (said := say(capsys, "evaluate CartPol-v1", 1))
    assert said.endswith("(CartPole-v1); did you mean CartPole-v1?\n")


@pytest.mark.parametrize("run, text", [
    ("nowhere", "there is no 'nowhere'; name the folder of a run, a checkpoint, or the task of a shipped agent (none is here)"),
    ("empty", "empty is a folder without a run: there is no checkpoint.pt in it"), ("text.pt", "text.pt is damaged, or no checkpoint"),
    ("half.pt", "half.pt is damaged (its checksum"), ("other.pt", "other.pt was written by another version"),
    ("gone.pt", "cannot make the environment 'Gone-v0'")])
@pytest.mark.parametrize("command", ["evaluate", "dream"])
def test_what_is_no_run_is_refused_in_one_sentence(command, run, text, capsys):
    save_agent("whole.pt")
    Path("empty").mkdir()
    Path("text.pt").write_text("hello")
    Path("half.pt").write_bytes(Path("whole.pt").read_bytes()[:-9])
    saved = checkpoint.load("whole.pt")
    checkpoint.save("other.pt", {**saved, "config": {"envy": 1}})
    checkpoint.save("gone.pt", {**saved, "config": {**saved["config"], "env": "Gone-v0"}})
    assert text in say(capsys, f"{command} {run}", 1)


# ------------------------------------------------------------------ films of real episodes

def every_frame(path):
    """The pictures of a film of 20 a second; Pillow writes two that are alike as one of twice the time. The last one rests."""
    return [p for p, pause in zip(*frames(path)) for _ in range(pause // 50 if pause < 1000 else pause // 50 - 19)]


def brightness(pictures):
    return [round(float(p.mean()) / 20) for p in pictures]


def test_a_gif_shows_every_step_of_three_episodes(capsys):
    save_agent("run/checkpoint.pt", "ToyDrawn-v0")
    found = json.loads(say(capsys, "evaluate run --episodes 2 --json --record films/a.gif"))
    steps, lengths = brightness(every_frame("films/a.gif")), []
    for now, after in zip(steps, [*steps[1:], 1]):
        if after == 1:                                  # the next episode begins
            lengths.append(now)
    assert len(lengths) == 3 and steps == [t for length in lengths for t in range(1, length + 1)]
    assert found["record"] == "films/a.gif" and [f.name for f in Path("films").iterdir()] == ["a.gif"]


def test_an_mp4_shows_the_same(capsys):
    reader = pytest.importorskip("imageio_ffmpeg").read_frames
    save_agent("run/checkpoint.pt", "ToyDrawn-v0")
    assert "film of 3 greedy episodes: a.mp4" in say(capsys, "evaluate run --episodes 2 --record a.mp4")
    assert "film" in say(capsys, "evaluate run --episodes 2 --record a.gif")
    film = reader("a.mp4")
    about = next(film)
    pictures = [np.frombuffer(picture, np.uint8).reshape(*about["size"][::-1], 3) for picture in film]
    assert about["size"] == (62, 42) and about["fps"] == 20         # an even width and height
    assert brightness(p[:40, :60] for p in pictures) == brightness(every_frame("a.gif"))
    assert not list(Path().glob("*part*"))


def test_what_cannot_be_filmed_is_refused_before_it_is_played(capsys, monkeypatch):
    save_agent("run/checkpoint.pt")
    monkeypatch.setattr("dreamer.tools.evaluate.judge", None)
    assert f"{TASK} draws no pictures" in say(capsys, "evaluate run --record a.gif", 1)
    assert "a film is a .gif or an .mp4, not a.avi" in say(capsys, "evaluate run --record a.avi", 2)
    Path("b.gif").mkdir()
    assert "cannot write b.gif: it is a folder" in say(capsys, "evaluate run --record b.gif", 2)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert "pip install imageio-ffmpeg" in say(capsys, "evaluate run --record a.mp4", 2)


def test_a_film_that_cannot_be_written_is_refused_in_one_sentence_and_leaves_nothing(capsys):
    save_agent("run/checkpoint.pt", "ToyDrawn-v0")
    Path("file").write_text("")
    assert "cannot write " in say(capsys, "evaluate run --episodes 1 --record file/a.gif", 2)
    save_agent("bad/checkpoint.pt", "ToyUndrawn-v0")
    assert "cannot be drawn" in say(capsys, "evaluate bad --episodes 1 --record a.gif", 1)
    assert not list(Path().glob("a*"))


class Undrawn(Drawn):
    def render(self):
        raise RuntimeError("no paint")


gym.register("ToyUndrawn-v0", Undrawn, disable_env_checker=True)


# ------------------------------------------------------------------ dreams

def test_a_dream_is_drawn_by_the_renderer_of_the_task(capsys, tmp_path):
    save_agent(tmp_path / "assets" / "checkpoints" / "CartPole-v1.pt", "CartPole-v1")
    text = say(capsys, "dream CartPole-v1 --horizon 4 --context 3")
    assert "3 rows seen, 4 dreamed, drawn by the task's own renderer" in text and "file: dream-CartPole-v1.gif" in text
    pictures, _ = frames("dream-CartPole-v1.gif")
    half = pictures[0].shape[1] // 2
    same = [np.array_equal(p[30:, :half - 3], p[30:, half + 3:]) for p in pictures]
    assert same[:3] == [True] * 3 and not any(same[3:]) and len(same) == 7


@pytest.mark.parametrize("env_id, horizon", [(TASK, 3), ("toys:ToySymbols-v0", 3), ("toys:ToyEndless-v0", 6)])
def test_what_cannot_be_drawn_is_shown_as_curves(env_id, horizon, capsys):
    save_agent("a.pt", env_id)
    text = say(capsys, f"dream a.pt --context 2 --horizon {horizon} --output out/c.gif --seed 1")
    assert f"2 rows seen, {horizon} dreamed, drawn as curves of 8 dreams" in text
    pictures, _ = frames("out/c.gif")
    ink = [int((p < 250).any(-1).sum()) for p in pictures]
    assert len(ink) == 2 + horizon and ink == sorted(ink) and ink[-1] > ink[0]      # every step adds something


def test_pictures_are_shown_beside_the_dreamed_ones(capsys):
    save_agent("a.pt", "ToySeen-v0")
    assert "drawn as pictures" in say(capsys, "dream a.pt --context 3 --horizon 5")
    pictures, _ = frames("dream-ToySeen-v0.gif")
    third = pictures[0].shape[1] // 3
    left, middle = ([p[60:, i * third + 20:(i + 1) * third - 20].mean() for p in pictures] for i in (0, 1))
    assert len(pictures) == 8 and left[:3] == pytest.approx(middle[:3], abs=4) and left[-1] == pytest.approx(14, abs=4)
    assert abs(left[5] - middle[5]) > 20                # an untrained model dreams of something else


def test_episodes_that_are_too_short_to_dream_of_are_refused(capsys):
    save_agent("a.pt")
    assert "nothing is left to dream of" in say(capsys, "dream a.pt --context 50", 1)


def test_the_film_is_of_other_episodes_than_the_numbers(monkeypatch):
    """Trailing zeros do not change a seed: the first film was of the first episode that had been judged."""
    seeds = []
    monkeypatch.setattr("dreamer.tools.evaluate.play", lambda agent, env, count, seed, *others, **how: seeds.append(seed) or ())
    list(film(None, TASK, EvaluateOptions(run="x", record="x.gif", seed=3), "cpu"))
    assert len({*seeds, derived_seed(3, 6)}) == 4
