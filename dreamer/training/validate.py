"""Which values a Config may hold. Everything that starts a run asks `validate` first."""

import difflib
import math
from dataclasses import fields
from typing import Literal, get_args, get_origin, get_type_hints

from ..config import SIZES, Config
from ..world_model.encoder import STAGES

AT_LEAST_ONE = ("steps", "log_every", "eval_every", "eval_episodes", "final_episodes", "checkpoint_every",
                "batch_size", "batch_length", "capacity", "stoch", "blocks", "imagination_horizon", "hold")
NOT_NEGATIVE = ("seed", "threads", "starts", "prefill", "warmup", "free_nats", "beta_dyn", "beta_rep",
                "beta_repval", "entropy", "slow_regulariser")
ABOVE_ZERO = ("train_ratio", "lr", "agc")
SHARES = ("unimix", "lam")
RATES = ("slow_rate", "return_rate", "average_rate")


class ConfigError(ValueError):
    """A hyperparameter or flag cannot be what it is; the message names it and what would be right."""


def flag(name):
    """batch_size -> --batch-size"""
    return "--" + name.replace("_", "-")


def suggestion(wrong, known):
    """'; did you mean X?', or nothing if no known word is close."""
    close = difflib.get_close_matches(wrong, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def validate(config):
    """Return `config` if a run with it is possible, else raise ConfigError with one sentence."""
    for name, kind in get_type_hints(Config).items():
        if name in {field.name for field in fields(Config)}:
            check_type(name, getattr(config, name), kind)
    check_ranges(config)
    check_together(config)
    return config


def check_type(name, value, kind):
    """Raise ConfigError unless value is of the type that the dataclass declares."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ConfigError(f"{flag(name)} must be one of {', '.join(get_args(kind))}, not {value!r}"
                              f"{suggestion(str(value), get_args(kind))}")
        return
    words = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}[kind]
    fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{flag(name)} must be {words}, not {value!r}")
    if kind is float and not math.isfinite(value):
        raise ConfigError(f"{flag(name)} must be a finite number, not {value}")


def check_ranges(config):
    """Bounds of single values."""
    rules = ((AT_LEAST_ONE, lambda v: v >= 1, "at least 1"), (NOT_NEGATIVE, lambda v: v >= 0, "0 or more"),
             (ABOVE_ZERO, lambda v: v > 0, "above 0"), (SHARES, lambda v: 0 <= v <= 1, "between 0 and 1"),
             (RATES, lambda v: 0 < v <= 1, "above 0 and at most 1"), (("envs",), lambda v: 1 <= v <= 16, "1 to 16"),
             (("discount_horizon",), lambda v: v > 1, "above 1"),
             (("bins",), lambda v: v >= 3 and v % 2 == 1, "an odd number of at least 3"))
    for names, allowed, words in rules:
        for name in names:
            if not allowed(getattr(config, name)):
                raise ConfigError(f"{flag(name)} must be {words}, not {getattr(config, name)}")
    if not config.env:
        raise ConfigError("--env must name an environment, such as CartPole-v1")


def check_together(config):
    """Values that must fit each other."""
    check_blocks(config, SIZES[config.size].deter, "units of the recurrent state")
    needed = smallest_capacity(config)
    if config.capacity < needed:
        raise ConfigError(f"--capacity {config.capacity} is too small for batches of {config.batch_size} x "
                          f"{config.batch_length} steps from {config.envs} environment(s); use at least {needed}")
    if config.capacity < config.prefill:
        raise ConfigError(f"--capacity {config.capacity} does not hold the {config.prefill} steps of the "
                          f"prefill; use at least {config.prefill}, or a smaller --prefill")


def check_blocks(config, width, of_what):
    """Layers of this width must fall into `blocks` equal pieces."""
    if width % config.blocks:
        fitting = ", ".join(str(n) for n in range(1, min(width, 64) + 1) if width % n == 0)
        raise ConfigError(f"--blocks {config.blocks} does not divide the {width} {of_what} of size {config.size}; "
                          f"use one of {fitting}")


def validate_for(config, spec):
    """What can only be checked once the task's observations are known. Raises ConfigError."""
    if spec.image:
        check_blocks(config, STAGES[-1] * SIZES[config.size].depth, "channels of the smallest image layer")


def smallest_capacity(config):
    """Rows in which one batch has as many different windows as it has trained steps, the gate of `learn`."""
    windows = -(-config.batch_size * config.batch_length // config.envs)        # per environment, rounded up
    return config.envs * (config.batch_length + windows)
