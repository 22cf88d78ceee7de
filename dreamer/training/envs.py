"""Environments: any Gymnasium task with supported spaces, many at once, in the agent's own terms.

The agent sees a dict of `vector`, `symbols` and `image` (see world_model/encoder.py) and acts with
float vectors: one-hot for discrete actions, about [-1, 1] for continuous ones.
"""

import multiprocessing
import signal

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import ClipAction, RescaleAction

from ..world_model.encoder import IMAGE_SIZE, ObservationSpec

SUPPORTED = ("Box of floats, Box of 64x64 uint8 images (height, width, channels), Discrete, MultiDiscrete, "
             "MultiBinary, and a flat Dict of these")


class TaskError(Exception):
    """Something about the task is wrong; the message says what, and what would be right."""


def make(env_id):
    """gym.make; raises TaskError with one sentence for what usually goes wrong."""
    try:
        return gym.make(env_id)
    except gym.error.DependencyNotInstalled as error:
        raise TaskError(f"{env_id} needs a package that is not installed: {first_line(error)} "
                        "(for LunarLander: pip install 'gymnasium[box2d]')") from None
    except (gym.error.Error, ImportError) as error:
        raise TaskError(f"cannot make the environment {env_id!r}: {first_line(error)}") from None


def make_worker(env_id):
    """An environment ready to step; in a process of its own it leaves Ctrl-C to the main process."""
    if multiprocessing.parent_process() is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return wrap(make(env_id))


def first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0]


def wrap(env):
    """Continuous actions: clip to [-1, 1], then stretch to the environment's own bounds."""
    if not isinstance(env.action_space, Box):
        return env
    return ClipAction(RescaleAction(env, np.float32(-1), np.float32(1)))


def is_image(space):
    return isinstance(space, Box) and len(space.shape) == 3


def keys_of(space):
    """(key, space) pairs in alphabetical order; a space that is no Dict has the one key ''."""
    return sorted(space.spaces.items()) if isinstance(space, Dict) else [("", space)]


def classes_of(space):
    """Class counts of a discrete space, () for any other."""
    if isinstance(space, Discrete):
        return (int(space.n),)
    if isinstance(space, MultiBinary):
        return (2,) * int(np.prod(space.shape))
    return tuple(int(n) for n in np.ravel(space.nvec)) if isinstance(space, MultiDiscrete) else ()


def observation_spec(space):
    """What the agent will see of an observation space. Raises TaskError if it is not supported."""
    vector, symbols, image = 0, (), 0
    for key, part in keys_of(space):
        if is_image(part):
            image += check_image(key, part)
        elif classes_of(part):
            symbols += classes_of(part)
        elif isinstance(part, Box) and len(part.shape) <= 1 and np.issubdtype(part.dtype, np.number):
            vector += int(np.prod(part.shape))
        else:
            raise TaskError(f"{named(key)} has the unsupported space {part}; supported are: {SUPPORTED}")
    if not (vector or symbols or image):
        raise TaskError(f"the observation space {space} is empty; supported are: {SUPPORTED}")
    return ObservationSpec(vector, symbols, image)


def declared_bounds(space):
    """Largest absolute value that each of the V floats of an observation may take; 0 where unbounded. (V,)"""
    parts = [np.maximum(np.abs(part.low), np.abs(part.high)).ravel() for _, part in keys_of(space)
             if isinstance(part, Box) and not is_image(part)]
    bounds = np.concatenate([*parts, np.zeros(0)]).astype(np.float32)
    return np.where(np.isfinite(bounds), bounds, 0)


def named(key):
    return f"observation {key!r}" if key else "the observation"


def check_image(key, space):
    """Channels of an image space; raises TaskError unless it is 64 x 64 uint8."""
    if space.dtype != np.uint8:
        raise TaskError(f"{named(key)} is an image of dtype {space.dtype}; supported is uint8 (0 to 255)")
    if space.shape[:2] != (IMAGE_SIZE, IMAGE_SIZE):
        raise TaskError(f"{named(key)} is an image of shape {space.shape}; supported is ({IMAGE_SIZE}, {IMAGE_SIZE}, "
                        "channels): wrap the environment in gymnasium.wrappers.ResizeObservation")
    return space.shape[2]


def check_first(env):
    """Reset once and compare the shapes of what comes with what the environment declares."""
    obs = env.reset(seed=0)[0]
    for key, space in keys_of(env.observation_space):
        value = np.asarray(obs[key] if key else obs)
        if value.shape != space.shape:
            raise TaskError(f"{named(key)} has shape {value.shape}, but the environment declares {space.shape}")


def action_spec(space):
    """(A, discrete?) of an action space. Raises TaskError if it is not supported."""
    if isinstance(space, Discrete):
        return int(space.n), True
    if isinstance(space, Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating):
        if not np.isfinite([space.low, space.high]).all():
            raise TaskError(f"the action space {space} has no finite bounds; the agent acts within finite ones")
        return int(space.shape[0]), False
    raise TaskError(f"unsupported action space {space}; supported are Discrete and one-dimensional Box of floats")


class Environments:
    """`count` copies of one task that step together; episodes are reset one by one, each with a seed.

    The seed of an episode follows from (seed, number of the episode) alone: a resumed run meets the
    same episodes as one that was never stopped.
    """

    def __init__(self, env_id, count, seed, asynchronous=False):
        probe = make(env_id)
        self.space, self.action_space = probe.observation_space, probe.action_space
        self.spec = observation_spec(self.space)
        self.actions, self.discrete = action_spec(self.action_space)
        check_first(probe)
        probe.close()
        kind = AsyncVectorEnv if asynchronous else SyncVectorEnv
        self.envs = kind([lambda: make_worker(env_id)] * count, autoreset_mode=AutoresetMode.DISABLED)
        self.count, self.seed = count, seed
        self.episodes, self.steps = 0, 0        # episodes begun; environment steps, resets not counted

    def reset(self, mask=None):
        """Start new episodes where mask (N,) is set (None: everywhere); returns all observations."""
        mask = np.ones(self.count, dtype=bool) if mask is None else mask
        seeds = [None] * self.count
        for i in np.flatnonzero(mask):
            seeds[i] = int(np.random.SeedSequence([self.seed, self.episodes]).generate_state(1)[0])
            self.episodes += 1
        return self.convert(self.envs.reset(seed=seeds, options={"reset_mask": mask})[0])

    def step(self, action):
        """action (N, A) -> obs dict of (N, ...), reward, is_terminal, is_last (N,)."""
        self.steps += self.count
        chosen = action.argmax(-1) + getattr(self.action_space, "start", 0) if self.discrete else action
        obs, reward, terminated, truncated, _ = self.envs.step(chosen)
        self.check("the reward", reward, np.isfinite(reward), "not finite")
        return self.convert(obs), reward.astype(np.float32), terminated, terminated | truncated

    def convert(self, obs):
        """Gymnasium's batched observation -> dict of vector, symbols, image."""
        parts = {"vector": [], "symbols": [], "image": []}
        for key, space in keys_of(self.space):
            value = obs[key] if key else obs
            if is_image(space):
                parts["image"].append(value)
            elif classes := classes_of(space):
                value = np.reshape(value - getattr(space, "start", 0), (self.count, -1))
                self.check(named(key), value, (value >= 0) & (value < classes), "outside its space")
                parts["symbols"].append(value)
            else:
                self.check(named(key), value, np.isfinite(value), "not finite")
                parts["vector"].append(np.reshape(value, (self.count, -1)).astype(np.float32))
        return {k: np.concatenate(v, -1) for k, v in parts.items() if v}

    def check(self, name, value, good, problem):
        """Raise TaskError, naming the step, unless `good` is True everywhere."""
        if not good.all():
            i = np.argwhere(~good)[0][0]
            raise TaskError(f"{name} is {problem} at environment step {self.steps}: {value[i]}")

    def close(self, interrupted=False):
        """Let the environments go; processes that were interrupted in mid-step are ended, not asked."""
        self.envs.close(terminate=interrupted)
