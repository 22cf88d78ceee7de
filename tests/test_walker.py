"""Lesson 8: tasks of the DeepMind Control Suite, pictures of all kinds, pausing a run, and the script from outside."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict

from dreamer.agent import Agent
from dreamer.config import SIZES, Config
from dreamer.distributions import Draw
from dreamer.tools.pause import Paused, pause_after
from dreamer.training import checkpoint, envs, experiments, paths, tasks
from dreamer.training.envs import Environments, TaskError, observation_spec
from dreamer.training.loop import Run
from dreamer.training.replay import Replay
from dreamer.visual import triptych
from dreamer.visual.episodes import record
from dreamer.visual.walker import Painter
from dreamer.world_model.encoder import ObservationSpec
from test_visual import draw, toy_agent
from toys import load_lesson, tiny

ROOT = Path(__file__).parent.parent
PROPRIO = "walker_walk-proprio"
SMALL = shlex.split("--steps 60 --prefill 20 --batch-size 2 --batch-length 8 --starts 4 --imagination-horizon 2 "
                    "--stoch 4 --train-ratio 4 --log-every 30 --eval-every 100 --final-episodes 1 --device cpu")
needs_suite = pytest.mark.skipif(not importlib.util.find_spec("dm_control"), reason="dm_control is not installed")


@pytest.fixture(scope="module")
def screen():
    """Skips the test where nothing can draw."""
    try:
        tasks.Suite("walker_walk").close()
    except TaskError as error:
        pytest.skip(str(error))


# ------------------------------------------------------------------ what the agent sees

@needs_suite
def test_the_state_vector_has_its_keys_in_alphabetical_order_and_two_frames_a_step():
    several = Environments(PROPRIO, 2, seed=5)
    assert (several.spec.vector, several.spec.image, several.actions, several.discrete) == (24, 0, 6, False)
    seen = several.reset()["vector"]
    assert not np.array_equal(seen[0], seen[1])
    theirs = tasks.load_suite().load("walker", "walk")
    theirs.task.random.seed(int(np.random.SeedSequence([5, 0]).generate_state(1)[0]))
    now = theirs.reset()
    actions = np.random.default_rng(0).uniform(-1.5, 1.5, (6, 2, 6)).astype(np.float32)
    for action in actions:
        expected = np.concatenate([np.ravel(now.observation[key]) for key in ("height", "orientations", "velocity")])
        np.testing.assert_allclose(seen[0], expected, rtol=1e-6)
        frames = [theirs.step(np.clip(action[0], -1, 1)) for _ in range(2)]
        now, (obs, reward, _, _) = frames[-1], several.step(action)
        seen = obs["vector"]
        assert reward[0] == pytest.approx(sum(frame.reward for frame in frames), rel=1e-5)


@needs_suite
def test_an_episode_of_1000_frames_has_500_steps_and_is_truncated():
    one = Environments(PROPRIO, 1, seed=0)
    one.reset()
    for step in range(1, 501):
        _, _, terminal, last = one.step(np.zeros((1, 6), np.float32))
        assert bool(last[0]) == (step == 500) and not terminal[0]


@needs_suite
def test_only_a_discount_of_0_is_a_termination():
    import dm_env
    env = tasks.Suite("walker_walk", "-proprio")
    obs = env.env.reset().observation
    env.env.step = lambda action: dm_env.termination(0.25, obs)
    assert env.step(np.zeros(6))[1:4] == (0.25, True, False)        # the second frame is not asked for
    env.env.step = lambda action: dm_env.truncation(0.25, obs, 1.0)
    assert env.step(np.zeros(6))[1:4] == (0.25, False, True)


@needs_suite
def test_pictures_are_those_of_the_first_camera(screen):
    one = Environments("walker_walk", 1, seed=0)
    assert one.spec.image == 3 and not one.spec.vector
    image = one.reset()["image"]
    assert image.shape == (1, 64, 64, 3) and image.dtype == np.uint8
    same = tasks.Suite("walker_walk", "-proprio", "rgb_array")
    same.reset(seed=int(np.random.SeedSequence([0, 0]).generate_state(1)[0]))
    assert np.array_equal(same.env.physics.render(64, 64, camera_id=0), image[0]) and same.render().shape == (240, 240, 3)
    assert one.step(np.ones((1, 6), np.float32))[0]["image"].std() > 10
    one.close()


@needs_suite
@pytest.mark.parametrize("env_id", ["walker_wolk", "walker_walk-pixels", "no_such_task-proprio"])
def test_unknown_tasks_are_named(env_id):
    with pytest.raises(TaskError, match=env_id.removesuffix("-proprio")):
        envs.make(env_id)


@needs_suite
def test_other_tasks_of_the_suite_work_too():
    ball = Environments("ball_in_cup_catch-proprio", 1, seed=0)
    assert ball.reset()["vector"].shape == (1, 8) and ball.actions == 2


# ------------------------------------------------------------------ what is missing

def refusal(function, *arguments):
    with pytest.raises(TaskError) as caught:
        function(*arguments)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_without_the_package_one_sentence_says_what_brings_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "dm_control", None)
    assert load_lesson("08_dreamer_walker_walk").main([*SMALL, "--proprio"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
    assert "dm_control is not installed (pip install dm_control==" in err and "mujoco==" in err


@needs_suite
def test_without_a_renderer_the_sentence_names_its_package_and_the_state_vector_still_works():
    script = ("from dreamer.training.envs import Environments, TaskError\n"
              f"print(Environments('{PROPRIO}', 1, 0).reset()['vector'].shape)\n"
              "try:\n    Environments('walker_walk', 1, 0)\nexcept TaskError as error:\n    print(error)")
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "MUJOCO_GL": "off"})
    shape, *message = done.stdout.splitlines()
    assert shape == "(1, 24)" and len(message) == 1 and "Traceback" not in done.stderr
    assert "MUJOCO_GL=off" in message[0] and "libosmesa6" in message[0] and "training with --proprio needs no renderer" in message[0]


@needs_suite
@pytest.mark.parametrize("variable, value", [("MUJOCO_GL", "osmose"), ("__EGL_VENDOR_LIBRARY_FILENAMES", os.devnull), ("DISPLAY", ":7777")])
def test_a_renderer_that_does_not_work_is_one_sentence_or_passed_over(variable, value):
    """A name that is none; EGL without a driver; a screen that is not there. Only the first stops the state vector, too."""
    script = ("from dreamer.training.envs import Environments, TaskError\n"
              f"for task in ('{PROPRIO}', 'walker_walk'):\n    try:\n        print(Environments(task, 1, 0).reset()[{{'walker_walk': 'image'}}.get(task, 'vector')].shape)\n"
              "    except TaskError as error:\n        print(error)")
    clean = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL")}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, env={**clean, variable: value})
    vector, image = done.stdout.splitlines()
    assert "Traceback" not in done.stderr
    if variable == "MUJOCO_GL":
        assert "MUJOCO_GL=osmose names a renderer that does not work here" in vector and "MUJOCO_GL=off to train with --proprio" in vector
        assert "libosmesa6" in image
    else:
        assert vector == "(1, 24)"
        assert image == "(1, 64, 64, 3)" or "libosmesa6" in image and "training with --proprio needs no renderer" in image


@pytest.mark.parametrize("screen, drawing, chosen", [
    ("", {"egl", "osmesa", "glfw"}, "egl"), ("", {"osmesa"}, "osmesa"), ("", {"glfw"}, "off"), ("DISPLAY", {"glfw", "egl"}, "glfw"),
    ("WAYLAND_DISPLAY", {"glfw", "egl"}, "glfw"), ("DISPLAY", {"egl", "osmesa"}, "egl"), ("DISPLAY", set(), "off")])
def test_linux_takes_the_first_renderer_that_draws(screen, drawing, chosen, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    if screen:
        monkeypatch.setenv(screen, ":0")
    monkeypatch.setattr(tasks.sys, "platform", "linux")
    monkeypatch.setattr(tasks, "draws", drawing.__contains__)
    monkeypatch.setattr(tasks.importlib.util, "find_spec", lambda name: name)       # as if MuJoCo were installed
    tasks.choose_renderer()
    assert os.environ["MUJOCO_GL"] == chosen
    monkeypatch.delenv("MUJOCO_GL")


def test_a_renderer_is_tried_by_its_name_and_not_for_ever(monkeypatch):
    def run(command, env, timeout, **_):
        if env["MUJOCO_GL"] == "glfw":
            raise subprocess.TimeoutExpired(command, timeout)
        return SimpleNamespace(returncode=int(env["MUJOCO_GL"] != "osmesa"))
    monkeypatch.setattr(tasks.subprocess, "run", run)
    assert [tasks.draws(name) for name in ("glfw", "egl", "osmesa")] == [False, False, True]


@pytest.mark.parametrize("asked", ["", "egl", "off"])
def test_a_package_of_another_version_is_not_taken_for_a_renderer(asked, monkeypatch):
    class Other(ModuleType):
        def __getattr__(self, name):
            raise RuntimeError("module 'mujoco' has no attribute 'mjNUISTATE'")
    monkeypatch.setitem(sys.modules, "dm_control", Other("dm_control"))
    monkeypatch.setattr(tasks, "draws", lambda renderer: renderer == "egl")
    monkeypatch.setattr(tasks, "choose_renderer", lambda: None)
    monkeypatch.setenv("MUJOCO_GL", asked)
    if not asked:
        monkeypatch.delenv("MUJOCO_GL")
    message = refusal(tasks.load_suite)
    assert "dm_control fails: module 'mujoco' has no attribute" in message and "pip install dm_control==" in message


@needs_suite
def test_a_mujoco_that_shows_only_when_a_task_is_made_that_it_does_not_fit_is_named_too(monkeypatch):
    from dm_control import suite

    def load(domain, task):
        raise AttributeError("'MjModel' object has no attribute 'flex_vertedge'")
    monkeypatch.setattr(suite, "load", load)
    with pytest.raises(TaskError, match="dm_control fails: 'MjModel' object has no attribute 'flex_vertedge' .pip install .*mujoco==3"):
        tasks.make("walker_walk-proprio")


def test_without_mujoco_no_renderer_is_chosen(monkeypatch):
    monkeypatch.setattr(tasks.sys, "platform", "linux")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(tasks.importlib.util, "find_spec", lambda name: None)
    tasks.choose_renderer()
    assert "MUJOCO_GL" not in os.environ


def test_a_choice_is_left_alone_and_so_are_other_systems(monkeypatch):
    monkeypatch.setattr(tasks, "draws", lambda renderer: pytest.fail("asked"))
    monkeypatch.setattr(tasks.sys, "platform", "linux")
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    tasks.choose_renderer()
    assert os.environ["MUJOCO_GL"] == "glfw"
    monkeypatch.setattr(tasks.sys, "platform", "win32")
    monkeypatch.delenv("MUJOCO_GL")
    tasks.choose_renderer()
    assert "MUJOCO_GL" not in os.environ


@pytest.mark.parametrize("space, texts", [
    (Box(0, 255, (3, 64, 64), np.uint8), ("(3, 64, 64), with the channels first", "transpose(1, 2, 0)")),
    (Box(0, 255, (1, 84, 84), np.uint8), ("channels first",)),
    (Box(0, 255, (12, 64, 64), np.uint8), ("channels first", "transpose(1, 2, 0)")),
    (Box(0, 255, (64, 3, 64), np.uint8), ("channels in the middle", "transpose(0, 2, 1)")),
    (Box(0, 255, (84, 84, 3), np.uint8), ("(84, 84, 3)", "ResizeObservation(env, (64, 64))", "opencv-python")),
    (Box(0, 255, (210, 160, 3), np.uint8), ("(210, 160, 3);", "ResizeObservation")),
    (Box(0, 255, (3, 210, 160), np.uint8), ("channels first",)),
    (Box(0, 255, (9, 84, 96), np.uint8), ("channels first",)),
    (Box(0, 255, (2, 3, 64, 64), np.uint8), ("a stack of pictures with the channels not last",)),
    (Box(0, 1, (32, 32), np.float32), ("an image of dtype float32 and shape (32, 32);",)),
    (Dict(eye=Box(0, 255, (96, 96, 3), np.uint8)), ("observation 'eye' is an image", "lambda obs: {**obs, 'eye': cv2.resize(obs['eye'], (64, 64))", "opencv-python")),
    (Dict(eye=Box(0, 255, (64, 64), np.uint8)), ("TransformObservation(env, lambda obs: {**obs, 'eye': obs['eye'][..., None]}, space)",)),
    (Dict(eye=Box(0, 255, (3, 64, 64), np.uint8)), ("'eye': obs['eye'].transpose(1, 2, 0)}",)),
    (Dict(eye=Box(0, 255, (64, 64, 3), np.float32)), ("dtype float32;", "'eye': obs['eye'].astype(np.uint8)}")),
    (Box(-1, 1, (64, 64, 3), np.float32), ("lambda obs: (255 * (obs - -1) / 2).astype(np.uint8)",)),
    (Box(0, 65535, (64, 64, 3), np.uint16), ("(255 * (obs - 0) / 65535).astype",)),
    (Box(-np.inf, np.inf, (64, 64, 3), np.float32), ("(255 * (obs - low) / (high - low)).astype",)),
    (Box(0, 255, (84, 84), np.uint8), ("(84, 84), without channels", "ResizeObservation(env, (64, 64))")),
    (Box(0, 255, (4, 64, 64, 3), np.uint8), ("a stack of pictures", "np.concatenate(obs, -1)")),
    (Box(0, 1, (64, 64), np.float32), ("dtype float32", "uint8 (0 to 255)")),
    (Box(0, 255, (64, 64), np.uint8), ("(64, 64), without channels", "ReshapeObservation")),
    (Box(0, 1, (64, 64, 3), np.float32), ("dtype float32;", "uint8 (0 to 255)", "lambda obs: (255 * obs).astype(np.uint8), space)"))])
def test_pictures_of_another_kind_are_named_with_the_wrapper_that_helps(space, texts):
    message = refusal(observation_spec, space)
    assert "supported is" in message and all(text in message for text in texts)


def test_wrappers_that_the_messages_name_do_help():
    from gymnasium import Env
    from gymnasium.wrappers import ReshapeObservation, TransformObservation

    class Odd(Env):
        def __init__(self, shape):
            self.observation_space = Box(0, 255, shape, np.uint8)
    spaces = [ReshapeObservation(Odd((64, 64)), (64, 64, 1)).observation_space]
    for shape, change in (((3, 64, 64), lambda obs: obs.transpose(1, 2, 0)), ((64, 3, 64), lambda obs: obs.transpose(0, 2, 1)),
                          ((4, 64, 64, 3), lambda obs: np.concatenate(obs, -1)), ((64, 64), lambda obs: obs[..., None])):
        whole = Box(0, 255, change(np.zeros(shape)).shape, np.uint8)
        spaces.append(TransformObservation(Odd(shape), change, whole).observation_space)
    assert [observation_spec(space).image for space in spaces] == [1, 3, 3, 12, 1]


@pytest.mark.parametrize("space", [
    Dict(eye=Box(0, 255, (3, 64, 64), np.uint8)), Dict(eye=Box(0, 255, (64, 64), np.uint8)), Dict(eye=Box(-1, 1, (64, 64, 3), np.float32)),
    Box(-1, 1, (64, 64, 3), np.float32), Box(0, 65535, (64, 64, 1), np.uint16), Box(0, 255, (2, 64, 64, 3), np.uint8)])
def test_what_a_message_says_can_be_typed(space):
    from gymnasium import Env, wrappers

    class Odd(Env):
        observation_space = space

        def reset(self, **_):
            return (space.sample(), {})
    told = re.search(r"gymnasium\.wrappers\.(\w+\(env, .*\)), where", refusal(observation_spec, space))[1]
    channels = {(3, 64, 64): 3, (64, 64): 1, (2, 64, 64, 3): 6}
    shape = (space["eye"] if isinstance(space, Dict) else space).shape
    picture = Box(0, 255, (64, 64, channels.get(shape, shape[-1])), np.uint8)
    env = eval(f"wrappers.{told}", {"wrappers": wrappers, "np": np, "env": Odd(), "space": Dict(eye=picture) if isinstance(space, Dict) else picture})
    assert env.observation_space.contains(env.reset()[0]) and observation_spec(env.observation_space).image == picture.shape[-1]


@pytest.mark.parametrize("shape", [(3, 4), (2, 2, 2, 2), (31, 31)])
def test_small_arrays_of_floats_are_no_pictures(shape):
    assert "FlattenObservation" in refusal(observation_spec, Box(-1, 1, shape, np.float32))


# ------------------------------------------------------------------ pictures

@needs_suite
def test_a_state_vector_is_turned_back_into_the_pose_it_came_from():
    painter, env = Painter(), tasks.Suite("walker_walk", "-proprio")
    env.reset(seed=3)
    draw = np.random.default_rng(3)
    for _ in range(30):
        obs = env.step(draw.uniform(-1, 1, 6))[0]
    vector = np.concatenate([np.ravel(obs[key]) for key in sorted(obs)])
    painter.pose(vector)
    real, posed = (physics.data.qpos.copy() for physics in (env.env.physics, painter.physics))
    rootx = env.env.physics.model.name2id("rootx", "joint")
    real[rootx] = 0
    assert np.abs(real).max() > 0.1
    turns = (posed - real) / (2 * np.pi)
    np.testing.assert_allclose(turns - turns.round(), 0, atol=1e-5)
    np.testing.assert_allclose(painter.physics.torso_height(), env.env.physics.torso_height(), rtol=1e-5)


@needs_suite
@pytest.mark.parametrize("env_id", ["walker_walk", PROPRIO])
def test_a_dream_of_the_walker_stands_beside_the_truth(env_id, screen, tiny_size):
    one = Environments(env_id, 1, 0)
    one.close()
    agent = Agent(one.spec, one.actions, one.discrete, tiny()).requires_grad_(False)
    episode, = record(None, env_id, 1, 0, longest=8)
    draw = Draw(torch.Generator().manual_seed(0))
    real, dreamed = triptych.pictures(env_id, *triptych.dream(agent, episode, 5, 3, draw))
    assert [len(real), len(dreamed)] == [8, 3]
    assert all(p.dtype == np.uint8 and p.shape == real[0].shape for p in (*real, *dreamed))
    frames = triptych.frames(real, dreamed)
    grey = [np.asarray(frame)[30:, -triptych.SCALE:].std() for frame in frames]
    assert max(grey[:5]) == 0 and min(grey[5:]) > 0


# ------------------------------------------------------------------ memory

def row_bytes(spec, actions):
    """Of one row of replay at size 1m, as it is stored."""
    rows = Replay(64, 1, spec, actions, SIZES["1m"].deter, Config.stoch, 16).rows
    return sum(store[0, 0].numel() * store.element_size() for store in rows.values())


def test_memory_of_replay_is_what_the_lesson_says():
    pixels, proprio = row_bytes(ObservationSpec(image=3), 6), row_bytes(ObservationSpec(vector=24), 6)
    doc = " ".join(load_lesson("08_dreamer_walker_walk").__doc__.split())
    assert f"A row of replay with a picture takes {pixels / 1e3:.1f} KB" in doc
    assert f"Without pictures a row takes {proprio / 1e3:.1f} KB" in doc
    assert f"{50_000 * pixels / 1e9:.2f} GB for 100,000 frames" in doc
    assert f"{Config.capacity * pixels / 1e9:.1f} GB at the default capacity" in doc
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, size in (("state vector of the walker", proprio), ("64x64 picture", pixels)):
        numbers = [f"{size / 1e3:.1f} KB", f"{50_000 * size / 1e9:.2f} GB".lstrip("0"), f"{Config.capacity * size / 1e9:.1f} GB".lstrip("0")]
        assert f"| {name} | {' | '.join(numbers)} |" in readme
    assert 100_000 * pixels < 2e9           # even if every frame were a row


# ------------------------------------------------------------------ pausing

def run_to_the_end(config, watchers=()):
    return Run(config, "c", watchers).train()


def test_a_run_that_was_paused_ends_like_one_that_never_stopped(tiny_size, tmp_path):
    config = tiny(steps=90, output=str(tmp_path / "whole"))
    whole = run_to_the_end(config)
    parts, stops = replace(config, output=str(tmp_path / "parts")), []
    for _ in range(9):
        run = Run(parts, "c", (pause_after(25),))
        try:
            summary = run.train()
            break
        except Paused:
            stops.append(run.step)
            assert run.saved_at == run.step and not (run.folder / "summary.json").exists()
    assert len(stops) > 1 and all(after - before >= 25 for before, after in zip([0, *stops], stops))
    assert [summary[name] for name in ("evaluations", "final", "updates")] == [
        whole[name] for name in ("evaluations", "final", "updates")]
    weights = [checkpoint.load(tmp_path / name / "checkpoint.pt")["agent"] for name in ("whole", "parts")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_a_pause_beyond_the_end_is_none(tiny_size, tmp_path):
    assert run_to_the_end(tiny(steps=30, output=str(tmp_path)), (pause_after(30),))["steps"] == 30


# ------------------------------------------------------------------ the script

@pytest.fixture
def lesson(tiny_size, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = load_lesson("08_dreamer_walker_walk")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(module, "HORIZON", 5)
    return module


@needs_suite
def test_the_lesson_trains_a_little_at_a_time_and_draws(lesson, tmp_path, capsys, screen):
    flags = [*SMALL, "--proprio", "--steps", "700", "--eval-every", "600", "--checkpoint-every", "100"]
    assert lesson.main([*flags, "--max-steps", "400"]) == 0
    out = capsys.readouterr().out
    assert "stopped at step 500 of 700" in out and "--max-steps 400" in out
    assert not (tmp_path / "runs" / f"{PROPRIO}-0" / "summary.json").exists()
    drawn = tmp_path / "assets" / f"08_dream_{PROPRIO}.png"
    drawn.unlink()                                          # of the agent so far
    assert lesson.main(flags) == 0
    out = capsys.readouterr().out
    assert re.search(r"bar (not )?met: +mean of 1 fresh greedy episodes \d+\.\d, wanted 850", out)
    summary = json.loads((tmp_path / "runs" / f"{PROPRIO}-0" / "summary.json").read_text())
    assert summary["steps"] == 700 and summary["config"]["env"] == PROPRIO
    pictures = {path.name for path in (tmp_path / "assets").iterdir()}
    assert pictures == {f"08_dream_{PROPRIO}.gif", f"08_dream_{PROPRIO}.png", f"curve_{PROPRIO}-0.png"}


def test_the_dream_is_written_into_the_folder_that_is_asked_for(lesson, tmp_path, monkeypatch):
    black = np.zeros((8, 8, 3), np.uint8)
    for name, value in {"record": [None], "save_gif": None}.items():
        monkeypatch.setattr(lesson, name, lambda *a, value=value, **k: value)
    monkeypatch.setattr(lesson.triptych, "dream", lambda *a: (None, None))
    monkeypatch.setattr(lesson.triptych, "pictures", lambda *a: ([black] * 3, [black]))
    lesson.picture(None, Config(env="walker_walk"), tmp_path / "there")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["08_dream_walker_walk.png"]


@pytest.mark.parametrize("flags, folder", [([], "assets"), (["--output", "there"], "there")])
def test_a_dream_lies_where_its_run_does_if_a_folder_is_named(flags, folder, lesson, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(lesson.cli, "start", lambda *a: SimpleNamespace(folder=tmp_path))
    monkeypatch.setattr(lesson.cli, "train", lambda *a: None)
    monkeypatch.setattr(lesson, "load_agent", lambda path: (path, None))
    monkeypatch.setattr(lesson, "picture", lambda agent, config, pictures: seen.append((agent, pictures.absolute())))
    assert lesson.main(flags) == 0 and seen == [(tmp_path / "checkpoint.pt", tmp_path / folder)]
    seen.clear()                                            # the shipped agent: no run
    monkeypatch.setattr(lesson.cli, "start", None)
    assert lesson.main(["--dream", "--proprio", *flags]) == 0
    assert seen == [(paths.ROOT / "assets" / "checkpoints" / f"{PROPRIO}.pt", tmp_path / folder)]


def test_a_dream_alone_goes_with_no_flag_of_training(lesson, capsys):
    assert lesson.main(["--dream", "--seed", "1"]) == 2
    assert capsys.readouterr().err == ("error: --dream trains nothing: it goes with --proprio and --env and --output alone, "
                                       "not with --seed\n")


def test_flags_say_what_is_seen_and_kept(lesson):
    own, config = lesson.read(["--proprio", "--replay-capacity", "5000", "--seed", "3"])
    assert (config.env, config.steps, config.capacity, config.seed, own.max_steps) == (PROPRIO, 125_000, 5000, 3, 0)
    own, config = lesson.read(["--max-steps=9"])
    assert (config.env, config.steps, config.capacity, own.max_steps) == ("walker_walk", 100_000, Config.capacity, 9)
    assert lesson.read(["--env", "cheetah_run", "--proprio"])[1].env == "cheetah_run-proprio"
    assert lesson.read(["--env", "walker_walk-proprio", "--proprio"])[1].env == "walker_walk-proprio"
    assert lesson.read(["--max-steps=9"])[1] == lesson.read([])[1]          # the plan knows nothing of the pause


@pytest.mark.parametrize("flags, text", [
    ("--max-steps -1", "0 or more"), ("--replay-capacity 9", "--replay-capacity 9 is too small"), ("--propio", "did you mean --proprio?"),
    ("--replay-capacity 5000 --capacity 4000", "give one of them"), ("--max-steps many", "a whole number")])
def test_wrong_flags_give_one_line_and_exit_code_2(flags, text, lesson, capsys):
    assert lesson.main(flags.split()) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("error: ") and err.count("\n") == 1 and text in err


def test_the_header_names_bars_and_budgets_of_the_code(lesson):
    words = " ".join(lesson.__doc__.split())
    for task, what in ((PROPRIO, "from the state vector, with"), ("walker_walk", "from pictures, with")):
        steps = lesson.TASKS[task]["steps"]
        assert f"at least {lesson.BAR[task].final} {what} {steps:,} steps ({2 * steps:,} frames)" in words
        job = experiments.load("08_dreamer_walker_walk").of(task)
        assert (job.defaults.env, job.defaults.steps, job.bar) == (task, steps, lesson.BAR[task])
    assert f"{lesson.DEFAULTS.final_episodes} fresh greedy episodes" in words
    for part in ("Goal ", "Read before ", "Frames ", "Memory ", "Solved means: ", "Files written", "Next "):
        assert f"\n{part}" in lesson.__doc__


def test_an_episode_that_ends_while_it_is_looked_at_cannot_be_dreamed_on(tiny_size):
    agent, e = toy_agent("CartPole-v1"), record(None, "CartPole-v1", 1, 0, longest=4)[0]
    with pytest.raises(TaskError, match="an episode of 5 rows is too short for a dream after 5 rows"):
        triptych.dream(agent, e, 5, 20, draw())


def test_a_dream_that_is_drawn_has_not_seen_what_follows(tiny_size):
    agent, e = toy_agent("CartPole-v1"), record(None, "CartPole-v1", 1, 3)[0]
    seen, dreamed = triptych.dream(agent, e, 3, 5, draw())
    e.obs["vector"][3:] += 9.0
    later, again = triptych.dream(agent, e, 3, 5, draw())
    assert torch.equal(dreamed["vector"], again["vector"]) and not torch.equal(seen["vector"], later["vector"])
