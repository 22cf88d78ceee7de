"""When does acting in a process of its own help? python benchmarks/collector.py

Trains CartPole, and copies of it whose step takes longer, with --collector inline and --collector process. The two
take turns in one run, and what is quoted is the median of the ratios of their times within a turn: what else
the machine does slows both sides of a turn alike. *sleeping* environments wait, as one on another machine or in
another program does; *busy* ones compute, and need a free core for the gain.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))     # to run as a script, from any folder

import dreamer  # noqa: F401 (before torch: it sets how long idle threads spin)
import gymnasium as gym

from dreamer.config import Config
from dreamer.training.loop import Run

SIDES = ("inline", "process")


class Slow(gym.Wrapper):
    """Each step takes `seconds` longer: asleep, or busy."""

    def __init__(self, env, seconds, busy):
        super().__init__(env)
        self.seconds, self.busy = seconds, busy

    def step(self, action):
        if self.busy:
            end = time.thread_time() + self.seconds
            while time.thread_time() < end:
                pass
        elif self.seconds:
            time.sleep(self.seconds)
        return self.env.step(action)


def slow_cartpole(ms, busy):
    return Slow(gym.make("CartPole-v1"), ms / 1e3, busy)


def register(ms, busy):
    """Id of a CartPole whose steps take `ms` milliseconds longer."""
    name = f"{'Busy' if busy else 'Sleeping'}{ms}CartPole-v0"
    gym.register(name, "benchmarks.collector:slow_cartpole", kwargs={"ms": ms, "busy": busy})
    return name


class Side:
    """A run in the middle of training, without evaluations, checkpoints and log lines."""

    def __init__(self, env, collector, folder, changes):
        never = dict.fromkeys(("log_every", "eval_every", "checkpoint_every"), 10 ** 9)
        self.run = Run(Config(env=env, collector=collector, output=str(folder / collector), steps=10 ** 6, prefill=300, device="cpu",
                              **never, **changes))
        self.run.collector.begin()

    def advance(self, steps):
        """Milliseconds per step, with the updates that it earns: of the clock, and of this process's processor time."""
        start, busy, target = time.perf_counter(), time.process_time(), self.run.step + steps
        while self.run.step < target:
            self.run.advance()
        return (time.perf_counter() - start) / steps * 1e3, (time.process_time() - busy) / steps * 1e3


def compare(env, turns, steps, changes):
    """Milliseconds per step of both sides, and the ratio: above 1 the process helps."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sides = {name: Side(env, name, Path(folder), changes) for name in SIDES}
        for side in sides.values():
            stack.callback(side.run.envs.close)
            stack.enter_context(side.run.records.open(0))
            side.advance(340)                       # the prefill, the first updates
        length = sides["process"].run.collector.length
        times = {name: [] for name in SIDES}
        for _ in range(turns):
            for name, side in sides.items():
                side.advance(2 * length)            # while the other had its turn the collector was idle: fill its pipe
                times[name].append(side.advance(steps))
        found = {f"{name}_{what}": statistics.median(one[i] for one in times[name])
                 for name in SIDES for i, what in enumerate(("ms", "trainer_cpu_ms"))}
        ratio = statistics.median(a[0] / b[0] for a, b in zip(*times.values()))
        return {**found, "ratio": ratio, "stretch": length, "behind": sides["process"].run.collector.oldest}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=5, help="turns of both sides")
    parser.add_argument("--steps", type=int, default=120, help="environment steps in a turn")
    parser.add_argument("--sleeping", type=int, nargs="*", default=[0, 5, 20, 50], help="milliseconds a step sleeps")
    parser.add_argument("--busy", type=int, nargs="*", default=[5, 20], help="milliseconds a step computes")
    parser.add_argument("--train-ratio", type=float, default=Config.train_ratio, help="replayed steps per step")
    parser.add_argument("--json", help="write all numbers into this file")
    flags = parser.parse_args(arguments)
    found = {}
    for ms, busy in [*((ms, False) for ms in flags.sleeping), *((ms, True) for ms in flags.busy)]:
        env = register(ms, busy)
        found[env] = one = compare(env, flags.turns, flags.steps, {"train_ratio": flags.train_ratio})
        print(f"{env:<24} inline {one['inline_ms']:6.1f} ms a step, process {one['process_ms']:6.1f} ms: inline / process "
              f"{one['ratio']:.2f}; processor time of the trainer {one['inline_trainer_cpu_ms']:.1f} and "
              f"{one['process_trainer_cpu_ms']:.1f} ms; weights at most {one['behind']} updates behind", flush=True)
    if flags.json:
        Path(flags.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
