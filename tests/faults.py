"""Environments that go wrong, and runs to lose: imported by test_faults_*.py and by the processes they start.

What goes wrong, and in which of its steps an environment does it, stands in environment variables: the same
task can be broken in one run and sound in the next.
"""

import os
import signal
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch

import toys
from dreamer.training.loop import Run
from toys import tiny

RIGHT = "steady"        # the fault of an environment that has none


def short(**changes):
    """A run of half a second with several checkpoints on the way, whose ring of rows wraps."""
    return tiny(**{"env": "faults:Faulty-v0", "capacity": 60, "steps": 64, "train_ratio": 8.0, "eval_every": 30,
                   "eval_episodes": 1, "final_episodes": 2, **changes})


def random_only(**changes):
    """A run that never learns: what the environments do is all that happens."""
    return short(**{"steps": 60, "prefill": 60, "eval_every": 1000, "final_episodes": 1, **changes})


def flags(config):
    """The command line that asks for `config`."""
    words = []
    for name, value in vars(config).items():
        flag = name.replace("_", "-")
        words += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}={value}"]
    return words


def train(config):
    """A whole run, for a process of its own."""
    toys.use_tiny_size()
    torch.set_num_threads(1)
    Run(config, watchers=[noted]).train()


def noted(run, event, values):
    """Write into the journal beside the run's folder at which steps it began, or began again, and was saved."""
    if event in ("start", "save"):
        with open(f"{run.folder}.journal", "a") as journal:
            journal.write(f"{event} {run.step}\n")


def begun_again(folder):
    """The steps at which a run was taken up, in order; each is that of the checkpoint before, or what stands there is wrong."""
    steps, saved = [], 0
    for line in Path(f"{folder}.journal").read_text().splitlines():
        event, step = line.split()
        if event == "start":
            assert int(step) >= saved, f"begun at step {step} after a checkpoint of step {saved}"
            steps.append(int(step))
        else:
            saved = int(step)
    return steps


class Unpicklable(Exception):
    """No process can hand this on to another."""

    def __init__(self, one, two):
        super().__init__(one, two)
        self.cannot = lambda: one + two


class Faulty(toys.Counter):
    """A Counter that does what $FAULT says in its $FAULT_AT-th step; $FAULT_FROM: copies made before it are sound."""

    made = 0

    def __init__(self):
        Faulty.made += 1
        sound = Faulty.made < int(os.environ.get("FAULT_FROM", 0))
        self.fault, self.at, self.steps = RIGHT if sound else os.environ.get("FAULT", RIGHT), int(os.environ.get("FAULT_AT", 0)), 0
        if self.fault == "cannot start":
            raise ConnectionError("port 5005 is taken")

    def reset(self, seed=None, options=None):
        if self.steps >= self.at and self.fault == "hangs in reset":
            hang()
        answer = super().reset(seed=seed, options=options)
        return answer[0] if self.steps >= self.at and self.fault == "resets alone" else answer

    def step(self, action):
        self.steps += 1
        answer = super().step(action)
        return answer if self.steps < self.at else getattr(self, self.fault.replace(" ", "_"))(*answer)

    def steady(self, *answer):
        return answer

    hangs_in_reset = resets_alone = steady

    def raises(self, *answer):
        raise ValueError("the motor is broken\nsecond line")

    def raises_what_no_pipe_carries(self, *answer):
        raise Unpicklable("left", "right")

    def asserts(self, *answer):
        assert not answer

    def exits(self, *answer):
        raise SystemExit(3)

    def interrupts(self, *answer):
        signal.raise_signal(signal.SIGINT)      # Ctrl-C in the middle of a step
        return answer

    def dies(self, *answer):
        os.kill(os.getpid(), signal.SIGKILL)

    def leaves(self, *answer):
        os._exit(7)

    def hangs(self, *answer):
        hang()

    def hangs_for_good(self, *answer):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        hang()

    def sees_nan(self, obs, *rest):
        return np.where([False, True, False, False], np.nan, obs).astype(np.float32), *rest

    def sees_infinity(self, obs, *rest):
        return obs - np.float32(np.inf), *rest

    def sees_less(self, obs, *rest):
        return obs[:3], *rest

    def sees_more(self, obs, *rest):
        return np.concatenate([obs, obs]), *rest

    def sees_a_scalar(self, obs, *rest):
        return obs[0], *rest

    def sees_nothing(self, obs, *rest):
        return None, *rest

    def sees_words(self, obs, *rest):
        return np.array(["a", "b", "c", "d"]), *rest

    def sees_complex_numbers(self, obs, *rest):
        return obs.astype(np.complex64), *rest

    def sees_ragged_rows(self, obs, *rest):
        return [[1.0], [1.0, 2.0], 3.0, 4.0], *rest

    def sees_doubles(self, obs, *rest):
        return obs.astype(np.float64), *rest        # no fault: rounded

    def earns_nan(self, obs, reward, *rest):
        return obs, float("nan"), *rest

    def earns_infinity(self, obs, reward, *rest):
        return obs, -float("inf"), *rest

    def earns_too_much(self, obs, reward, *rest):
        return obs, 1e300, *rest                    # finite in double precision only

    def earns_words(self, obs, reward, *rest):
        return obs, "one", *rest

    def earns_nothing(self, obs, reward, *rest):
        return obs, None, *rest

    def earns_twice(self, obs, reward, *rest):
        return obs, np.array([reward, reward]), *rest

    def ends_with_words(self, obs, reward, terminated, truncated, info):
        return obs, reward, "no", truncated, info

    def ends_in_an_array(self, obs, reward, terminated, truncated, info):
        return obs, reward, terminated, np.array([truncated]), info

    def answers_as_of_old(self, obs, reward, terminated, truncated, info):
        return obs, reward, terminated, info

    def answers_nothing(self, *answer):
        return None


def hang():
    """Hold a lock on $FAULT_LOCK, and wait for ever. The lock lasts as long as the process does."""
    if "FAULT_LOCK" in os.environ:
        import fcntl
        file = open(os.environ["FAULT_LOCK"], "w")
        fcntl.flock(file, fcntl.LOCK_EX)
        Path(os.environ["FAULT_LOCK"] + ".held").touch()
    while True:
        time.sleep(3600)


gym.register("Faulty-v0", Faulty, disable_env_checker=True)
