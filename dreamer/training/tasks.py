"""Tasks of two optional packages as the agent can see them: MiniGrid, and the DeepMind Control Suite.

    MiniGrid-Empty-8x8-v0           the 7 x 7 view as symbols: object, colour and state of each cell, and the direction
    MiniGrid-Empty-8x8-v0-pixels    the same view as a 64 x 64 picture, without the direction
    walker_walk                     64 x 64 pictures; every task of the suite is named DOMAIN_TASK
    walker_walk-proprio             its state vector: positions, angles, speeds

How a task is seen stands in its id, so that checkpoints, folders and evaluations know it. MiniGrid's mission, a
sentence, is left out: in Empty, DoorKey, FourRooms and most others it is the same in every episode.
"""

import importlib.util
import os
import re
import subprocess
import sys
from contextlib import contextmanager

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from PIL import Image

from ..world_model.encoder import IMAGE_SIZE
from .guard import TaskError, first_line

GRID = re.compile(r"(MiniGrid-.+?)(-pixels)?")
SUITE = re.compile(r"([a-z]+(?:_[A-Za-z0-9]+)+)(-proprio)?")
CONTROL = "dm_control", "dm_control==1.0.50 mujoco==3.17.0"     # the package, and what pip is to install
REPEAT = 2              # frames of the suite for which an action is held: an episode of 1000 frames has 500 steps
SHOWN = 240             # pixels along each side of a picture for people
RENDERER = ("on Debian or Ubuntu without a screen, apt-get install libosmesa6 is enough (libegl1, libopengl0 and "
            "libgl1-mesa-dri, or the driver of a GPU, serve as well)")
TRY_TO_DRAW = ("import mujoco; context = mujoco.GLContext(64, 64); context.make_current(); "
               "mujoco.MjrContext(mujoco.MjModel.from_xml_string('<mujoco/>'), mujoco.mjtFontScale.mjFONTSCALE_100)")


def seen_as_pictures(env_id):
    """Is it a name of this file for a task whose observations are pictures?"""
    suite = SUITE.fullmatch(env_id)
    return env_id.endswith("-pixels") or bool(suite) and not suite[2]


def make(task, render_mode=None):
    """gym.make of an id or a spec; tasks of the two packages as the head of this file says. Raises TaskError."""
    env_id, how = getattr(task, "id", task), {"render_mode": render_mode} if render_mode else {}
    if found := GRID.fullmatch(env_id):
        return grid(*found.groups(), how)
    found = SUITE.fullmatch(env_id)
    if found and env_id not in gym.registry:
        return Suite(*found.groups(), render_mode)
    return gym.make(task, **how)


@contextmanager
def needing(package, command):
    """Raise a TaskError that names the package, and the command that brings it, if it is not there."""
    try:
        yield
    except (ImportError, AttributeError, RuntimeError) as error:        # the latter two: of another version
        absent = isinstance(error, ImportError) and (error.name or "").partition(".")[0] == package
        problem = "is not installed" if absent else f"fails: {first_line(error)}"
        raise TaskError(f"the package {package} {problem} (pip install {command})") from None


# ------------------------------------------------------------------ MiniGrid

def grid(name, pixels, how):
    """The task `name` of MiniGrid, seen as symbols or as a picture."""
    with needing("minigrid", "minigrid==3.2.0"):
        import minigrid  # noqa: F401 (registers its tasks)
    env = gym.make(name, **how)
    return Picture(env) if pixels else Symbols(env)


class Symbols(gym.ObservationWrapper):
    """The view (7, 7, 3) of object, colour and state as symbols, with the direction in which the agent looks."""

    def __init__(self, env):
        from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX
        super().__init__(env)
        classes = [len(OBJECT_TO_IDX), len(COLOR_TO_IDX), len(STATE_TO_IDX)]
        view = np.broadcast_to(classes, env.observation_space["image"].shape)
        self.observation_space = Dict({"direction": Discrete(4), "view": MultiDiscrete(view)})

    def observation(self, obs):
        return {"direction": obs["direction"], "view": obs["image"]}


class Picture(gym.ObservationWrapper):
    """The view as a picture in the package's own drawing, brought to the size that the agent takes."""

    def __init__(self, env):
        from minigrid.wrappers import RGBImgPartialObsWrapper
        super().__init__(RGBImgPartialObsWrapper(env))
        self.observation_space = Box(0, 255, (IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)

    def observation(self, obs):
        return np.asarray(Image.fromarray(obs["image"]).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR))


# ------------------------------------------------------------------ the DeepMind Control Suite

def choose_renderer():
    """On Linux the first that draws: a screen's GLFW, EGL, OSMesa; "off" if none does. MUJOCO_GL, read once, overrules."""
    if not sys.platform.startswith("linux") or os.environ.get("MUJOCO_GL") or not importlib.util.find_spec("mujoco"):
        return
    screen = any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    os.environ["MUJOCO_GL"] = next(filter(draws, ["glfw"] * screen + ["egl", "osmesa"]), "off")


def draws(renderer):
    """Can MuJoCo draw by it? Asked in a process of its own: a renderer that fails leaves its traces in the one that tried."""
    environment = {**os.environ, "MUJOCO_GL": renderer}
    try:
        return subprocess.run([sys.executable, "-c", TRY_TO_DRAW], env=environment, capture_output=True, timeout=60).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def load_suite():
    """The module dm_control.suite. Raises TaskError if it, or the renderer that MUJOCO_GL asks for, cannot be loaded."""
    asked = os.environ.get("MUJOCO_GL")
    choose_renderer()
    with needing(*CONTROL):
        try:
            from dm_control import suite
            return suite
        except (AttributeError, RuntimeError, ImportError) as error:
            if asked in (None, "off") or not importlib.util.find_spec("mujoco") or draws(asked):
                raise                   # the renderer is not to blame
            raise TaskError(f"MUJOCO_GL={asked} names a renderer that does not work here: {first_line(error)}; leave it "
                            f"unset, or MUJOCO_GL=off to train with --proprio, which draws nothing before its end; {RENDERER}") from None


class Suite(gym.Env):
    """A task of the suite. An action is held for REPEAT frames, whose rewards are summed.

    Episodes of 1000 frames are truncated: only a discount of 0, which few tasks ever give, is a termination.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(self, name, proprio=None, render_mode=None):
        suite, self.proprio, self.render_mode = load_suite(), proprio, render_mode
        known = {f"{domain}_{task}": (domain, task) for domain, task in suite.ALL_TASKS}
        if name not in known:
            raise TaskError(f"neither Gymnasium nor the DeepMind Control Suite has a task {name}")
        with needing(*CONTROL):         # a mujoco that does not fit says so here and not before
            self.env = suite.load(*known[name])
        limits, spec = self.env.action_spec(), self.env.observation_spec()
        self.action_space = Box(np.float32(limits.minimum), np.float32(limits.maximum))
        self.observation_space = Box(0, 255, (IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        if proprio:
            self.observation_space = Dict({key: Box(-np.inf, np.inf, x.shape, np.float32) for key, x in spec.items()})
        else:
            self.draw(IMAGE_SIZE)       # if it cannot, now is the time to say so

    def reset(self, seed=None, options=None):
        if seed is not None:
            self.env.task.random.seed(seed)
        return self.see(self.env.reset()), {}

    def step(self, action):
        reward = 0.0
        for _ in range(REPEAT):
            now = self.env.step(action)
            reward += now.reward
            if now.last():
                break
        return self.see(now), reward, now.last() and now.discount == 0, now.last() and now.discount > 0, {}

    def see(self, now):
        if not self.proprio:
            return self.draw(IMAGE_SIZE)
        return {key: np.asarray(value, np.float32) for key, value in now.observation.items()}

    def draw(self, pixels):
        """A picture by the task's first camera, uint8 (pixels, pixels, 3). Raises TaskError if nothing can draw it."""
        try:
            return self.env.physics.render(pixels, pixels, camera_id=0)
        except Exception as error:      # each renderer has errors of its own
            raise TaskError(f"it cannot be drawn by MUJOCO_GL={os.environ.get('MUJOCO_GL', '')}: {first_line(error)}; "
                            f"{RENDERER}; training with --proprio needs no renderer") from None

    def render(self):
        return self.draw(SHOWN)

    def close(self):
        self.env.close()
