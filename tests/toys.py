"""Tiny environments whose observations tell what happened, and a tiny configuration for them.

Ids are written "toys:ToyCounter-v0": Gymnasium then imports this module wherever it makes one,
also in the processes of asynchronous environments.
"""

import importlib.util
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from dreamer.config import SIZES, Config, Size

TINY = Size(deter=64, hidden=16, classes=4, depth=2)


def load_lesson(name):
    """A fresh module of a lesson's script, e.g. 02_dreamer_cartpole."""
    spec = importlib.util.spec_from_file_location(f"lesson_{name}", Path(__file__).parent.parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tiny(**changes):
    """A Config that runs in a second or two, together with `use_tiny_size`."""
    return Config(**{
        "env": "toys:ToyCounter-v0", "device": "cpu", "threads": 1, "steps": 80, "prefill": 24, "batch_size": 4,
        "batch_length": 8, "starts": 8, "imagination_horizon": 3, "train_ratio": 16.0, "capacity": 200, "stoch": 4,
        "log_every": 7, "eval_every": 20, "eval_episodes": 2, "final_episodes": 3, "checkpoint_every": 10,
        "warmup": 2, **changes})


def use_tiny_size():
    SIZES["1m"] = TINY


class Toy(gym.Env):
    """An episode of 1 to 8 steps which a coin lets end as terminated or as truncated."""

    observation_space = Box(-np.inf, np.inf, (4,), np.float32)
    action_space = Discrete(3)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.action = 0, None
        self.length, self.terminates = int(self.np_random.integers(1, 9)), bool(self.np_random.integers(2))
        self.name = float(self.np_random.integers(1, 10_000))
        return self.see(), {}

    def step(self, action):
        self.time, self.action = self.time + 1, action
        over = self.time >= self.length
        return self.see(), self.reward(), over and self.terminates, over and not self.terminates, {}


class Counter(Toy):
    """Sees (name of the episode, steps so far, action just taken or -1, 1 if it will terminate).

    The reward is 10 x (steps so far) + action just taken: every row can be checked on its own.
    """

    def see(self):
        action = -1 if self.action is None else self.action
        return np.array([self.name, self.time, action, self.terminates], dtype=np.float32)

    def reward(self):
        return int(10 * self.time + self.action)


class Endless(Counter):
    """A Counter whose episodes never end."""

    def reset(self, seed=None, options=None):
        seen = super().reset(seed=seed)
        self.length = 10 ** 9
        return seen


class Mixed(Toy):
    """Vector, symbols and image in one Dict; float64 rewards; actions that do not start at 0."""

    action_space = Discrete(3, start=5)
    observation_space = Dict({
        "position": Box(-1, 1, (2,), np.float64), "card": Discrete(3, start=1), "marks": MultiBinary(2),
        "left": Box(0, 255, (64, 64, 1), np.uint8), "right": Box(0, 255, (64, 64, 3), np.uint8)})

    def see(self):
        t = self.time
        return {"position": np.array([t / 9, -t / 9]), "card": 1 + t % 3, "marks": np.array([t % 2, 1], np.int8),
                "left": np.full((64, 64, 1), t, np.uint8), "right": np.full((64, 64, 3), 100 + t, np.uint8)}

    def reward(self):
        assert 5 <= self.action <= 7
        return np.float64(self.time)


class Continuous(Toy):
    """Two bounded actions, seen again in the next observation. Fails on an action beyond the bounds."""

    action_space = Box(np.array([-2, 0], np.float32), np.array([2, 5], np.float32))

    def see(self):
        action = np.zeros(2) if self.action is None else self.action
        return np.array([self.name, self.time, *action], dtype=np.float32)

    def reward(self):
        assert self.action_space.contains(self.action), self.action
        return float(self.action.sum())


class Symbols(Toy):
    """Nothing but discrete symbols."""

    observation_space = MultiDiscrete([9, 4])

    def see(self):
        return np.array([self.time, self.time % 4])

    def reward(self):
        return 1


class Odd(Counter):
    """A Counter that goes wrong: `field` becomes `value` at its fifth step; or with other spaces."""

    def __init__(self, field=None, value=None, observation=None, action=None):
        self.field, self.value, self.steps = field, value, 0
        self.observation_space = observation or self.observation_space
        self.action_space = action or self.action_space

    def see(self):
        seen = super().see()
        if self.field == "observation" and self.steps >= 5:
            seen[1] = self.value
        return seen[:3] if self.field == "shape" else seen

    def reward(self):
        return self.value if self.field == "reward" and self.steps >= 5 else super().reward()

    def step(self, action):
        self.steps += 1
        return super().step(action)


class WrongSymbol(Symbols):
    """Shows a symbol which its space does not have."""

    def see(self):
        return np.array([self.time, 4 if self.time else 0])


for kind in (Counter, Endless, Mixed, Continuous, Symbols, Odd, WrongSymbol):
    gym.register(f"Toy{kind.__name__}-v0", kind, disable_env_checker=True)
