"""Environments that tell where they are and may break, and a trainer that is killed: for test_collector_process.py and
test_distributed.py. Light to import: the processes that are started there import it, too."""

import multiprocessing
import os
import signal
from pathlib import Path

import gymnasium as gym

import toys
from dreamer.learner import Learner
from dreamer.tools import collector_process
from dreamer.training.loop import Run


class Tells(toys.Counter):
    """A Counter that leaves its process id in `folder`, and fails at its 41st step while a file "broken" is there.

    length: of every episode; 0: 1 to 8 steps.
    """

    def __init__(self, folder=None, length=0):
        self.steps, self.folder, self.longer = 0, Path(folder or os.environ["TELLS"]), length
        with open(self.folder / "pids", "a") as file:
            file.write(f"{os.getpid()}\n")

    def reset(self, seed=None, options=None):
        seen = super().reset(seed=seed)
        self.length = self.longer or self.length
        return seen

    def step(self, action):
        self.steps += 1
        if self.steps == 41 and (self.folder / "broken").exists():
            self.fail()
        return super().step(action)

    def fail(self):
        raise ValueError("the motor is broken")


class KillsRankOne(Tells):
    """Fails by killing the process it is in, if that is rank 1 of a distributed run."""

    def fail(self):
        if os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)


gym.register("Tells-v0", "telling:Tells", disable_env_checker=True)
gym.register("KillsRankOne-v0", "telling:KillsRankOne", disable_env_checker=True)


def register(folder, length=0):
    """What a script may do: register a task that a fresh process has never heard of."""
    gym.registry.pop("Local-v0", None)
    gym.register("Local-v0", Tells, kwargs={"folder": str(folder), "length": length}, disable_env_checker=True)


def train_and_be_killed(config, folder):
    """In a process of its own: SIGKILL at environment step 87, before an update."""
    toys.use_tiny_size()
    os.chdir(folder)
    register(folder)
    collector_process.SPAWN = multiprocessing.get_context("forkserver")
    run, update = Run(config), Learner.update

    def killed(learner, *arguments):
        if run.step >= 87:
            os.kill(os.getpid(), signal.SIGKILL)
        return update(learner, *arguments)
    Learner.update = killed
    run.train()
