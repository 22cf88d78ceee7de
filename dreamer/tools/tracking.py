"""Tracking: what stands in metrics.jsonl and summary.json, sent on to TensorBoard, Weights & Biases or MLflow.

A tracker is a class `Tracker` in a file of its own, track_NAME.py. It is opened with (folder, name, config, key,
step), where key is what an earlier part of the run has left as tracker.key (None: a new one) and step where the run
goes on. It has scalars(numbers, step), picture(name, path, step), close(), and says in `look` how to see what it got.
Whatever goes wrong in one of them is a line on stderr: training goes on without it.
"""

import importlib
import json
import sys
from dataclasses import asdict
from importlib.util import find_spec

import numpy as np
from tqdm import tqdm

from ..training.records import versions, write_summary
from ..training.validate import ConfigError, suggestion
from .pictures import commit, draw

PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow-skinny"}      # tracker: what pip calls it


def names_of(track):
    """("tensorboard", "mlflow") of "tensorboard,mlflow". Raises ConfigError if one is unknown or not installed."""
    names = tuple(dict.fromkeys(name.strip() for name in track.split(","))) if track else ()
    for name in names:
        if name not in PACKAGES:
            raise ConfigError(f"--track must be one or several of {', '.join(PACKAGES)} (with commas), not {name!r}"
                              f"{suggestion(name, PACKAGES)}")
    for name in names:
        if getattr(find_spec(name), "origin", None) is None:        # a folder of that name is no package
            raise ConfigError(f"--track {name} needs a package that is not installed: pip install {PACKAGES[name]} "
                              "(requirements-extras.txt names the version that is tested)")
    return names


class Tracking:
    """A watcher that sends on what happens. tracking.json in the run's folder remembers how far each tracker is.

    A resumed run repeats the steps since its checkpoint. What was sent of them is not sent again, or is taken back
    first by trackers that can (`rewinds`). A run without a checkpoint to go on from is a new one for every tracker.
    """

    def __init__(self, names, pictures_every=0):
        self.names, self.pictures_every, self.open = names, pictures_every, {}

    def __call__(self, run, event, values):
        if event == "start":
            self.start(run)
        elif event == "log":
            self.scalars(run, event, {f"train/{k}": v for k, v in values.items() if k != "step" and v is not None})
        elif event == "evaluate":
            self.scalars(run, event, statistics("eval", values))
            if self.pictures_every and len(run.evaluations) % self.pictures_every == 0:
                self.pictures(run)
        elif event == "end":
            self.pictures(run)
            self.scalars(run, event, statistics("final", values.get("final", {})))
            for name, tracker in list(self.open.items()):
                self.attempt(name, tracker.close)

    def start(self, run):
        """Open every tracker that has something to come, where an earlier part of the run has left it."""
        self.path = run.folder / "tracking.json"
        known = read(self.path) if run.saved_at else {}
        self.state = {name: {"key": None, "sent": {}} for name in self.names} | known
        step, over = position(run) if run.saved_at else 0, run.enough or run.step >= run.config.steps
        config = {**asdict(run.config), "device": run.device, "command": run.command, "commit": commit(), **versions()}
        for name in self.names:
            if self.is_new(name, "end", step) or not over:
                self.attempt(name, lambda: self.begin(name, run, config, step))
        self.remember()

    def begin(self, name, run, config, step):
        kind, state = importlib.import_module(f".track_{name}", __package__).Tracker, self.state[name]
        tracker = self.open[name] = kind(run.folder, run.folder.name, config, state["key"], step)
        run.records.say(f"{run.folder.name} is tracked with {name}: {tracker.look}")
        state["key"] = tracker.key
        if kind.rewinds:
            state["sent"] = {event: min(last, step) for event, last in state["sent"].items()}

    def scalars(self, run, event, numbers):
        self.send(event, position(run), lambda tracker, step: numbers and tracker.scalars(numbers, step))

    def pictures(self, run):
        """Draw them and send them, if there is a tracker that has not had them."""
        step = position(run)
        if any(self.is_new(name, "pictures", step) for name in self.open):
            try:
                pictures = draw(run, step)
            except Exception as error:          # an episode may be too short, the memory too small
                return warn(f"warning: no pictures of step {step} ({type(error).__name__}: {error})")
            self.send("pictures", step, lambda tracker, step: [
                tracker.picture(name, path, step) for name, path in pictures.items()])

    def send(self, event, step, action):
        """action(tracker, step) for every open tracker to which it is new."""
        for name, tracker in list(self.open.items()):
            if self.is_new(name, event, step):
                self.attempt(name, lambda: action(tracker, step))
                self.state[name]["sent"][event] = step
        self.remember()

    def is_new(self, name, event, step):
        return self.state[name]["sent"].get(event, -1) < step

    def attempt(self, name, action):
        """Call action; whatever is wrong with it is a line on stderr, and the end of this tracker."""
        try:
            action()
        except Exception as error:              # theirs are of many kinds; none is worth a run
            self.open.pop(name, None)
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            warn(f"warning: tracking with {name} ends here ({why}); training goes on, and metrics.jsonl has everything")

    def remember(self):
        write_summary(self.path, self.state)


def warn(text):
    """A line on stderr, above the progress bar if there is one."""
    tqdm.write(text, file=sys.stderr)


def read(path):
    """What `path` holds, {} if there is nothing to read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def position(run):
    """Where a run is on the axis of its curves: environment steps, or updates where only the world model learns.

    There no step is taken after training has begun.
    """
    return run.learner.updates if run.began == run.step and run.learner.updates > 1 else run.step


def statistics(kind, scores):
    """Returns by mode -> mean, deviation, smallest and largest: {"eval/greedy_mean": 480.5, ...}"""
    of = {"mean": np.mean, "std": np.std, "min": np.min, "max": np.max}
    return {f"{kind}/{mode}_{name}": float(number(scores[mode]))
            for mode in ("greedy", "sampled") if mode in scores for name, number in of.items()}
