"""What an environment may get wrong, caught where it happens and told in one sentence."""

import traceback
from contextlib import suppress
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Dict

TROUBLE = "trouble"         # the key under which `Guarded` says in `info` what went wrong


class TaskError(Exception):
    """Something about the task is wrong; the message says what, and what would be right."""


def keys_of(space):
    """(key, space) pairs in alphabetical order; a space that is no Dict has the one key ''. Raises TaskError."""
    if not isinstance(space, Dict):
        return [("", space)]
    if not all(isinstance(key, str) and key for key in space.spaces):
        raise TaskError(f"the observation has the keys {list(space.spaces)}; supported are names, texts that are not empty")
    return sorted(space.spaces.items())


def named(key):
    return f"observation {key!r}" if key else "the observation"


def first_line(error):
    return (str(error).splitlines() or [""])[0][:300] or type(error).__name__


def told(error):
    """What an environment raised, in a few words, with the line of code that it came from."""
    if isinstance(error, TaskError):
        return str(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {first_line(error)} ({Path(where.filename).name}, line {where.lineno})"


class Guarded(gym.Wrapper):
    """An environment that answers in every case: what goes wrong inside comes out as a sentence in `info`.

    Gymnasium's vector environments would print the stack of an error, hand on only what can be pickled,
    and fail in their own code when a shape or a type changes. Nothing else is left in `info`.
    """

    def reset(self, *, seed=None, options=None):
        try:
            obs, _ = self.env.reset(seed=seed, options=options)
            check_observation(self.observation_space, obs)
        except (Exception, SystemExit) as error:
            return self.observation_space.sample(), {TROUBLE: told(error)}
        return obs, {}

    def step(self, action):
        try:
            obs, reward, terminated, truncated, _ = self.env.step(action)
            check_observation(self.observation_space, obs)
            check_scalar("the reward", reward, "biuf", "a number")
            check_scalar("terminated", terminated, "biu", "True or False")
            check_scalar("truncated", truncated, "biu", "True or False")
        except (Exception, SystemExit) as error:
            return self.observation_space.sample(), 0.0, False, False, {TROUBLE: told(error)}
        return obs, reward, terminated, truncated, {}

    def close(self):
        with suppress(Exception):       # of a task that cannot even be closed, what came before counts
            self.env.close()


def check_observation(space, obs):
    """Raise TaskError unless `obs` has the keys, shapes and kinds of number that `space` declares."""
    for key, part in keys_of(space):
        if key and (not isinstance(obs, dict) or key not in obs):
            raise TaskError(f"{named(key)} is missing, but the environment declares it")
        value = as_array(named(key), obs[key] if key else obs)
        if value.shape != part.shape:
            raise TaskError(f"{named(key)} has shape {value.shape}, but the environment declares {part.shape}")
        if not np.can_cast(value.dtype, part.dtype, "same_kind"):
            raise TaskError(f"{named(key)} is of type {value.dtype}, but the environment declares {part.dtype}")


def check_scalar(name, value, kinds, wanted):
    """Raise TaskError unless `value` is one number of the NumPy `kinds`."""
    array = as_array(name, value)
    if array.shape or array.dtype.kind not in kinds:
        raise TaskError(f"{name} must be {wanted}, not {str(value)[:100]} ({type(value).__name__})")


def as_array(name, value):
    try:
        return np.asarray(value)
    except Exception:                   # rows of different lengths, or an object of another library
        raise TaskError(f"{name} is a {type(value).__name__} that is no array of numbers") from None
