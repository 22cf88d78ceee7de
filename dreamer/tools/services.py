"""What may follow a training run: stopping it early, keeping its best agents, tracking. All off in a lesson.

    Run(config, watchers=watchers(ServiceOptions(patience=5, track="tensorboard"))).train()
"""

import math
from dataclasses import dataclass, fields

from ..training.validate import ConfigError, check_type, flag
from .keeping import Keeper
from .stopping import Stopper
from .tracking import Tracking, names_of


@dataclass(frozen=True)
class ServiceOptions:
    """Services around a run. They change nothing of what is learned, but for when it ends."""
    patience: int = 0
    """stop after so many evaluations without a better mean of the last --stop-window ones; 0: never"""
    stop_window: int = 3
    """evaluations whose greedy means are averaged before --patience and --stop-at judge them"""
    stop_at: float = math.inf
    """stop when that mean has reached this; inf: never"""
    keep: int = 1
    """how many of the best agents to keep as best-step...-score....pt, by the greedy mean of one evaluation; 0: none"""
    track: str = ""
    """tensorboard, wandb, mlflow, or several of them with commas: where to follow the run, besides metrics.jsonl"""
    pictures_every: int = 0
    """with --track: evaluations between two health panels and dreams; 0: only at the end"""


def watchers(options):
    """The watchers that `options` ask for, for Run(..., watchers=...). Raises ConfigError."""
    trackers = names_of(check(options).track)
    stops = options.patience or options.stop_at < math.inf
    return (*([Keeper(options.keep)] if options.keep else []),
            *([Stopper(options.patience, options.stop_window, options.stop_at)] if stops else []),
            *([Tracking(trackers, options.pictures_every)] if trackers else []))


def check(options):
    """Return `options` if they make sense, else raise ConfigError with one sentence."""
    for field in fields(ServiceOptions):
        value = getattr(options, field.name)
        if field.name != "stop_at" or value != math.inf:
            check_type(field.name, value, field.type)
    for name, least in (("patience", 0), ("stop_window", 1), ("keep", 0), ("pictures_every", 0)):
        if getattr(options, name) < least:
            raise ConfigError(f"{flag(name)} must be {least} or more, not {getattr(options, name)}")
    if options.pictures_every and not options.track:
        raise ConfigError("--pictures-every needs --track: it says where the pictures are shown")
    return options
