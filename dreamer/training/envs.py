"""Environments: any Gymnasium task with supported spaces, many at once, in the agent's own terms.

The agent sees a dict of `vector`, `symbols` and `image` (see world_model/encoder.py) and acts with
float vectors: one-hot for discrete actions, about [-1, 1] for continuous ones.
"""

import os

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import ClipAction, RescaleAction

from ..world_model.encoder import ObservationSpec
from . import tasks, workers
from .guard import TROUBLE, Guarded, TaskError, first_line, keys_of, named, told
from .image_spaces import check_image, is_image
from .records import DivergenceError

SUPPORTED = ("one-dimensional Box of numbers, Box of 64x64 uint8 images (height, width, channels), Discrete, "
             "MultiDiscrete, MultiBinary, and a flat Dict of these")
MOST_CLASSES = 2 ** 15      # of one symbol: replay keeps symbols in 16 bits
UNBOUNDED = 1e6             # a bound as large as this says that there is none, as np.finfo(np.float32).max does


def make(env_id, render_mode=None):
    """tasks.make, of an id or what `registered` gives for it. Raises TaskError, one sentence for what goes wrong."""
    task, env_id = env_id, getattr(env_id, "id", env_id)
    try:
        return tasks.make(task, render_mode)
    except gym.error.DependencyNotInstalled as error:
        command = " (pip install 'gymnasium[box2d]')" if "box2d" in str(error).lower() else ""
        raise TaskError(f"{env_id} needs a package that is not installed: {first_line(error)}{command}") from None
    except (gym.error.Error, ImportError) as error:
        raise TaskError(f"cannot make the environment {env_id!r}: {first_line(error)}") from None
    except (Exception, SystemExit) as error:
        raise TaskError(f"cannot make the environment {env_id!r}: {told(error)}") from error


def registered(env_id):
    """How a task was registered: a process of its own may know nothing of the reader's module that did it."""
    return gym.registry.get(env_id.rpartition(":")[2], env_id)


def make_worker(env_id, owner, render_mode=None):
    """An environment ready to step, in the process of id `owner` or in one of its own."""
    if os.getpid() == owner:
        return Guarded(wrap(make(env_id, render_mode)))
    workers.follow_parent()
    try:
        return Guarded(wrap(make(env_id, render_mode)))
    except TaskError as error:
        raise SystemExit(f"error: {error}") from None       # one line, where another exception would print its stack


def wrap(env):
    """Continuous actions: clip to [-1, 1], then stretch to the environment's own bounds."""
    if not isinstance(env.action_space, Box):
        return env
    return ClipAction(RescaleAction(env, np.float32(-1), np.float32(1)))


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
            if max(symbols) > MOST_CLASSES:
                raise TaskError(f"{named(key)} is a symbol of {max(symbols)} classes; supported are {MOST_CLASSES}")
        elif isinstance(part, Box) and len(part.shape) <= 1 and np.issubdtype(part.dtype, np.number):
            vector += int(np.prod(part.shape))
        else:
            flatten = isinstance(part, Box) and len(part.shape) > 1 and np.issubdtype(part.dtype, np.number)
            raise TaskError(f"{named(key)} has the unsupported space {part}; supported are: {SUPPORTED}"
                            + "; wrap the environment in gymnasium.wrappers.FlattenObservation" * flatten)
    if not (vector or symbols or image):
        raise TaskError(f"the observation space {space} is empty; supported are: {SUPPORTED}")
    return ObservationSpec(vector, symbols, image)


def declared_bounds(space):
    """Largest absolute value that each of the V floats of an observation may take; 0 where unbounded. (V,)"""
    parts = [np.maximum(np.abs(part.low), np.abs(part.high)).ravel() for _, part in keys_of(space)
             if isinstance(part, Box) and not is_image(part)]
    bounds = np.concatenate([*parts, np.zeros(0)]).astype(np.float32)
    return np.where(bounds < UNBOUNDED, bounds, 0)


def action_spec(space):
    """(A, discrete?) of an action space. Raises TaskError if it is not supported."""
    if isinstance(space, Discrete):
        return int(space.n), True
    if isinstance(space, Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating):
        if not np.isfinite([space.low, space.high]).all():
            raise TaskError(f"the action space {space} has no finite bounds; the agent acts within finite ones")
        if not len(space.low) or (space.low >= space.high).any():
            raise TaskError(f"the action space {space} leaves no choice in some number; each needs a low below its high")
        return int(space.shape[0]), False
    raise TaskError(f"unsupported action space {space}; supported are Discrete and one-dimensional Box of floats")


class Environments:
    """`count` copies of one task that step together; episodes are reset one by one, each with a seed.

    The seed of an episode follows from (seed, number of the episode) alone: a resumed run meets the
    same episodes as one that was never stopped. render_mode: see `pictures`.
    """

    def __init__(self, env_id, count, seed, asynchronous=False, timeout=0, render_mode=None):
        probe, self.render_mode = Guarded(make(env_id, render_mode)), render_mode
        self.space, self.action_space = probe.observation_space, probe.action_space
        self.spec = observation_spec(self.space)
        self.actions, self.discrete = action_spec(self.action_space)
        self.env_id, self.count, self.seed = env_id, count, seed
        self.episodes, self.steps = 0, 0        # episodes begun; environment steps, resets not counted
        self.asynchronous, self.timeout = asynchronous, timeout or None
        self.answered(probe.reset(seed=0))
        probe.close()
        self.envs = self.start()

    def start(self):
        """All copies: in this process, or each in one of its own. Raises TaskError."""
        env_id, owner, task, mode = self.env_id, os.getpid(), registered(self.env_id), self.render_mode
        kind, how = (AsyncVectorEnv, {"context": workers.context(self.spec.image or self.render_mode)}) if self.asynchronous else (SyncVectorEnv, {})
        try:
            return kind([lambda: make_worker(task, owner, mode)] * self.count, autoreset_mode=AutoresetMode.DISABLED, **how)
        except TaskError:
            raise
        except (EOFError, OSError):
            raise TaskError(f"a process of {env_id} ended before it had begun; a script of your own starts "
                            "under if __name__ == \"__main__\":") from None
        except Exception as error:
            raise TaskError(f"cannot make {self.count} environments {env_id!r}: {told(error)}") from error

    def reset(self, mask=None):
        """Start new episodes where mask (N,) is set (None: everywhere); returns all observations."""
        mask = np.ones(self.count, dtype=bool) if mask is None else mask
        seeds = [None] * self.count
        for i in np.flatnonzero(mask):
            seeds[i] = int(np.random.SeedSequence([self.seed, self.episodes]).generate_state(1)[0])
            self.episodes += 1
        return self.convert(self.ask("reset", seed=seeds, options={"reset_mask": mask})[0])

    def step(self, action):
        """action (N, A) -> obs dict of (N, ...), reward, is_terminal, is_last (N,). Raises TaskError, DivergenceError."""
        self.steps += self.count
        if not np.isfinite(action).all():
            raise DivergenceError(f"the agent's action is not finite at environment step {self.steps}; a smaller --lr may help")
        chosen = action.argmax(-1) + getattr(self.action_space, "start", 0) if self.discrete else action
        obs, reward, terminated, truncated, _ = self.ask("step", actions=chosen)
        reward = self.single("the reward", reward)
        return self.convert(obs), reward, terminated, terminated | truncated

    def ask(self, what, **arguments):
        """Reset or step everywhere. Raises TaskError if one of them fails, is gone, or takes longer than `timeout`.

        Only environments in processes of their own can be given up: no system-independent way leads out of
        a step in this process, other than Ctrl-C.
        """
        if not self.asynchronous:
            return self.answered(getattr(self.envs, what)(**arguments))
        try:
            return self.answered(workers.ask(self.envs, self.timeout, what, arguments))
        except workers.NoAnswer as problem:
            raise self.failed(problem) from None

    def answered(self, answer):
        """`answer` of a reset or step, unless some environment speaks of trouble in it: then TaskError."""
        trouble = answer[-1].get(TROUBLE)
        if trouble is None:
            return answer
        found = {0: trouble} if isinstance(trouble, str) else {i: text for i, text in enumerate(trouble) if text}
        raise self.failed("; ".join(f"in environment {i}, {text}" for i, text in found.items()))

    def failed(self, problem):
        return TaskError(f"{self.env_id} failed at environment step {self.steps}: {problem}")

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
                parts["vector"].append(np.reshape(self.single(named(key), value), (self.count, -1)))
        return {k: np.concatenate(v, -1) for k, v in parts.items() if v}

    def single(self, name, value):
        """`value` in single precision; raises TaskError unless it is finite there."""
        with np.errstate(over="ignore"):
            single = np.asarray(value).astype(np.float32)
        self.check(name, value, np.isfinite(single), "not finite")
        return single

    def check(self, name, value, good, problem):
        """Raise TaskError, naming the step, unless `good` is True everywhere."""
        if not good.all():
            i = np.argwhere(~good)[0][0]
            raise TaskError(f"{name} is {problem} at environment step {self.steps}: {value[i]}")

    def pictures(self):
        """What each environment draws now, uint8 (h, w, 3), if render_mode is "rgb_array". Raises TaskError."""
        try:
            return self.envs.render()
        except (Exception, SystemExit) as error:
            raise TaskError(f"{self.env_id} cannot be drawn: {told(error)}") from None

    def close(self, interrupted=False):
        """Let the environments go; processes that were interrupted in mid-step are ended, not asked."""
        if self.asynchronous and interrupted:
            return workers.end(self.envs)
        try:
            self.envs.close()
        except (EOFError, OSError):     # a process that is gone already
            workers.end(self.envs)
