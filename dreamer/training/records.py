"""What a run leaves behind: metrics.jsonl while it goes on, summary.json when it is done."""

import json
import math
import os
import platform
import time
from contextlib import contextmanager
from pathlib import Path

import gymnasium
import numpy as np
import torch
from tqdm import tqdm

from . import checkpoint


def quiet():
    """True if the environment variable DREAMER_QUIET is set: no progress bar, no lines."""
    return bool(os.environ.get("DREAMER_QUIET"))


def versions():
    return {"python": platform.python_version(), "torch": torch.__version__, "gymnasium": gymnasium.__version__,
            "numpy": np.__version__, "system": platform.system(), "machine": platform.machine()}


def write_summary(path, summary):
    """Write summary.json, atomically. Raises OSError."""
    with checkpoint.replacing(path) as file:
        file.write((json.dumps(summary, indent=1) + "\n").encode())


def hardware(device="cpu"):
    """Name of the processor, as well as Python can tell, its cores, and the name of the GPU if `device` is one."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return {"processor": name, "cores": os.cpu_count(), **({"gpu": torch.cuda.get_device_name()} if device == "cuda" else {})}


class DivergenceError(Exception):
    """A loss, another metric or an action of the agent is no longer a finite number."""


class Records:
    """Means of everything measured since the last line of metrics.jsonl, and the progress bar."""

    def __init__(self, folder, total):
        self.path, self.total, self.name = folder / "metrics.jsonl", total, folder.name
        self.sums, self.seconds, self.log_size = {}, 0.0, 0

    @contextmanager
    def open(self, step):
        """Clock and progress bar, from `step` on. Lines from beyond the checkpoint are dropped."""
        with open(self.path, "ab") as log:
            log.truncate(min(self.log_size, log.seek(0, os.SEEK_END)))
        self.before, self.started = self.seconds, time.monotonic()
        # disable=None: tqdm shows the bar on terminals only.
        with tqdm(total=self.total, initial=step, desc=self.name, unit="step", mininterval=1,
                  disable=True if quiet() else None) as self.bar:
            yield

    def tick(self, step):
        """Move the bar to `step`; seconds counts all the times the run was taken up."""
        self.seconds = self.before + time.monotonic() - self.started
        self.bar.update(step - self.bar.n)

    def add(self, metrics):
        """metrics: dict of 0-d tensors, from one update."""
        for name, value in metrics.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = (total + float(value), count + 1)

    def means(self, step):
        """Mean of everything measured since the last line, a dict. Raises DivergenceError if one is NaN or infinite."""
        means = {name: total / count for name, (total, count) in self.sums.items()}
        for name, value in means.items():
            if not math.isfinite(value):
                raise DivergenceError(f"{name} is {value} at environment step {step}; a smaller --lr may help")
        return means

    def write(self, step, updates, episodes, recent):
        """Append one line to metrics.jsonl and return it, a dict. Raises DivergenceError as `means` does."""
        means = self.means(step)
        score, rate = float(np.mean(recent)) if recent else None, updates / max(self.seconds, 1e-9)
        line = {"step": step, "updates": updates, "episodes": episodes, "return": score, **means,
                "updates_per_second": rate, "seconds": self.seconds}
        with open(self.path, "ab") as log:
            log.write((json.dumps(line) + "\n").encode())
            self.log_size = log.tell()
        self.sums = {}
        shown = {"return": score, **{k: means.get(f"loss_{k}") for k in ("rec", "policy", "value")}, "upd/s": rate}
        self.bar.set_postfix({k: f"{v:.3g}" for k, v in shown.items() if v is not None})
        return line

    def say(self, text):
        """Print a line above the progress bar."""
        if not quiet():
            tqdm.write(text)

    def state_dict(self):
        return {"sums": self.sums, "seconds": self.seconds, "log_size": self.log_size}

    def load_state_dict(self, state):
        self.sums, self.seconds, self.log_size = state["sums"], state["seconds"], state["log_size"]
