"""Environments: any Gymnasium task with supported spaces, many at once, in the agent's own terms.

The agent sees a dict of `vector`, `symbols` and `image` (see world_model/encoder.py) and acts with
float vectors: one-hot for discrete actions, about [-1, 1] for continuous ones.
"""

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
    """gym.make, with one sentence for what usually goes wrong."""
    try:
        return gym.make(env_id)
    except gym.error.DependencyNotInstalled as error:
        raise TaskError(f"{env_id} needs a package that is not installed: {error} "
                        "(for LunarLander: pip install 'gymnasium[box2d]').") from None
    except (gym.error.NameNotFound, gym.error.NamespaceNotFound, gym.error.VersionNotFound,
            gym.error.UnregisteredEnv, gym.error.DeprecatedEnv, gym.error.Error, ModuleNotFoundError) as error:
        raise TaskError(f"cannot make the environment {env_id!r}: {str(error).splitlines()[0]}") from None


def wrap(env):
    """Continuous actions: clip to [-1, 1], then stretch to the environment's own bounds."""
    if not isinstance(env.action_space, Box):
        return env
    return ClipAction(RescaleAction(env, np.float32(-1), np.float32(1)))


def is_image(space):
    return isinstance(space, Box) and space.dtype == np.uint8 and len(space.shape) == 3


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
            if part.shape[:2] != (IMAGE_SIZE, IMAGE_SIZE):
                raise TaskError(f"image observation {key!r} has shape {part.shape}; supported is ({IMAGE_SIZE}, "
                                f"{IMAGE_SIZE}, channels): wrap the environment in gymnasium.wrappers.ResizeObservation.")
            image += part.shape[2]
        elif classes_of(part):
            symbols += classes_of(part)
        elif isinstance(part, Box) and len(part.shape) <= 1 and np.issubdtype(part.dtype, np.number):
            vector += int(np.prod(part.shape))
        else:
            raise TaskError(f"unsupported observation space {part} (key {key!r}); supported are: {SUPPORTED}.")
    if not (vector or symbols or image):
        raise TaskError(f"the observation space {space} is empty; supported are: {SUPPORTED}.")
    return ObservationSpec(vector, symbols, image)


def action_spec(space):
    """(A, discrete?) of an action space. Raises TaskError if it is not supported."""
    if isinstance(space, Discrete):
        return int(space.n), True
    if isinstance(space, Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating):
        if not np.isfinite([space.low, space.high]).all():
            raise TaskError(f"the action space {space} has no finite bounds; the agent acts within finite ones.")
        return int(space.shape[0]), False
    raise TaskError(f"unsupported action space {space}; supported are Discrete and one-dimensional Box of floats.")


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
        probe.close()
        kind = AsyncVectorEnv if asynchronous else SyncVectorEnv
        self.envs = kind([lambda: wrap(make(env_id))] * count, autoreset_mode=AutoresetMode.DISABLED)
        self.count, self.seed, self.episodes, self.steps = count, seed, 0, 0

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
        if not np.isfinite(reward).all():
            raise TaskError(f"the reward is not finite at environment step {self.steps}: {reward}.")
        return self.convert(obs), reward.astype(np.float32), terminated, terminated | truncated

    def convert(self, obs):
        """Gymnasium's batched observation -> dict of vector, symbols, image."""
        parts = {"vector": [], "symbols": [], "image": []}
        for key, space in keys_of(self.space):
            value = obs[key] if key else obs
            if is_image(space):
                parts["image"].append(value)
            elif classes_of(space):
                parts["symbols"].append(np.reshape(value, (self.count, -1)) - getattr(space, "start", 0))
            else:
                if not np.isfinite(value).all():
                    raise TaskError(f"observation {key!r} is not finite at environment step {self.steps}: {value}.")
                parts["vector"].append(np.reshape(value, (self.count, -1)).astype(np.float32))
        return {k: np.concatenate(v, -1) for k, v in parts.items() if v}

    def close(self):
        self.envs.close()
