"""What does sharing an update between two ranks cost? python benchmarks/ranks.py

Two processes on this machine, connected by gloo, make updates of the course's recipe on batches of their own: in turn
without sharing anything and with averaged gradients and joint percentiles. What is quoted is the median of the ratios
within a turn. With sharing both wait for the slower one, as the ranks of a run do.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))     # to run as a script, from any folder

import dreamer  # noqa: F401 (before torch: it sets how long idle threads spin)
import torch
import torch.distributed as dist
import torch.multiprocessing

from benchmarks.throughput import Subject, timed
from dreamer.config import Config
from dreamer.tools.ranks import all_agree, average_gradients, connect_learner
from dreamer.training.memory import keep_memory


def work(rank, flags, folder):
    """One rank."""
    keep_memory()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    alone, shared = (Subject(Config(size=flags.size)) for _ in range(2))
    connect_learner(shared.learner)
    message = Subject(Config(size=flags.size)).learner.optimizer.parameters
    sides = {"alone": alone.update, "shared": shared.update, "message": lambda: average_gradients(message)}
    times = {name: [] for name in sides}
    for turn in range(flags.turns + 1):             # the first one warms up
        for name, side in sides.items():
            all_agree()
            busy = time.process_time()
            times[name].append((timed(side)[0], (time.process_time() - busy) * 1e3))
    if not rank:
        say(message, {name: values[1:] for name, values in times.items()})
    dist.destroy_process_group()


def say(parameters, times):
    """What rank 0 has measured."""
    wall = {name: statistics.median(one[0] for one in values) for name, values in times.items()}
    busy = {name: statistics.median(one[1] for one in values) for name, values in times.items()}
    ratio = statistics.median(a[0] / b[0] for a, b in zip(times["shared"], times["alone"]))
    print(f"{sum(p.numel() for p in parameters):,} parameters; update alone {wall['alone']:.1f} ms, shared {wall['shared']:.1f} ms: "
          f"shared / alone {ratio:.2f}; the gradient's message alone {wall['message']:.1f} ms; processor time "
          f"{busy['alone']:.1f}, {busy['shared']:.1f} and {busy['message']:.1f} ms", flush=True)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=20, help="updates of each kind")
    parser.add_argument("--size", default="1m", help="model size")
    flags = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (flags, folder), nprocs=2)


if __name__ == "__main__":
    main()
