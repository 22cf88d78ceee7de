"""Which values a Config may hold. Everything that starts a run asks `validate` first."""

import difflib
import math
from dataclasses import fields
from typing import Literal, get_args, get_origin

from ..config import SIZES, Config
from ..world_model.encoder import STAGES

AT_LEAST_ONE = ("steps", "log_every", "eval_every", "eval_episodes", "final_episodes", "checkpoint_every",
                "batch_size", "capacity", "stoch", "blocks", "imagination_horizon", "hold")
RULES = {       # for each field: what is allowed, and the same in words; all other numbers: 0 or more
    **dict.fromkeys(AT_LEAST_ONE, (lambda v: v >= 1, "at least 1")),
    **dict.fromkeys(("train_ratio", "lr", "agc", "return_floor"), (lambda v: v > 0, "above 0")),
    **dict.fromkeys(("unimix", "lam", "cold_starts", "lr_end", "entropy_end"), (lambda v: 0 <= v <= 1, "between 0 and 1")),
    **dict.fromkeys(("slow_rate", "return_rate", "average_rate"), (lambda v: 0 < v <= 1, "above 0 and at most 1")),
    "batch_length": (lambda v: v >= 2, "at least 2"),       # the critic learns from steps between two rows
    "envs": (lambda v: 1 <= v <= 16, "1 to 16"),
    "discount_horizon": (lambda v: v > 1, "above 1"),
    "bins": (lambda v: v >= 3 and v % 2 == 1, "an odd number of at least 3"),
}
NOT_NEGATIVE = (lambda v: v >= 0, "0 or more")
LARGEST = {     # beyond these no machine has the memory, or a library fails without a word
    "seed": 2 ** 32 - 1, "threads": 1024, "env_timeout": 1_000_000, "eval_episodes": 10_000, "final_episodes": 10_000,
    "batch_size": 4096, "batch_length": 4096, "train_ratio": 1_000_000, "stoch": 1024, "bins": 65_535,
    "imagination_horizon": 1000}
LARGEST_OF_ALL = 10 ** 15   # of every other number


class ConfigError(ValueError):
    """A hyperparameter or flag cannot be what it is; the message names it and what would be right."""


def flag(name):
    """batch_size -> --batch-size"""
    return "--" + name.replace("_", "-")


def brief(value, longest=80):
    """`value` as it stands in a message: a text as it is, all else as Python writes it, cut where it is long."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except ValueError:
        return "a number of thousands of digits"        # Python refuses to write it out
    return text if len(text) <= longest else text[:longest] + "..."


def suggestion(wrong, known):
    """'; did you mean X?', or nothing if no known word is close."""
    close = difflib.get_close_matches(wrong[:80], known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def validate(config):
    """Return `config` if a run with it is possible, else raise ConfigError with one sentence."""
    for field in fields(Config):
        check_type(field.name, getattr(config, field.name), field.type)
        if field.type in (int, float):
            check_number(field.name, getattr(config, field.name))
    check_together(config)
    return config


def check_type(name, value, kind):
    """Raise ConfigError unless value is of the type that the dataclass declares."""
    if get_origin(kind) is Literal:
        if not isinstance(value, str) or value not in get_args(kind):
            raise ConfigError(f"{flag(name)} must be one of {', '.join(get_args(kind))}, not {quoted(value)}"
                              f"{suggestion(brief(value), get_args(kind))}")
        return
    words = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}[kind]
    fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{flag(name)} must be {words}, not {quoted(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{flag(name)} must be a finite number, not {value}")
    if isinstance(value, str):
        check_name(name, value)


def quoted(value):
    return repr(brief(value)) if isinstance(value, str) else brief(value)


def check_name(name, text):
    """Raise ConfigError if no file could be named by `text`, on any system."""
    try:
        text.encode("utf-8", "surrogateescape")     # undecodable names of Linux are fine
        fits = "\0" not in text
    except UnicodeEncodeError:
        fits = False
    if not fits:
        raise ConfigError(f"{flag(name)} holds a character that no name can have: {ascii(brief(text))}")


def check_number(name, value):
    """Raise ConfigError unless `value` is within its bounds."""
    allowed, words = RULES.get(name, NOT_NEGATIVE)
    if not allowed(value):
        raise ConfigError(f"{flag(name)} must be {words}, not {brief(value)}")
    largest = LARGEST.get(name, LARGEST_OF_ALL)
    if value > largest:
        raise ConfigError(f"{flag(name)} must be at most {largest}, not {brief(value)}")


def check_together(config):
    """Values that must fit each other, and the one text that must not be empty."""
    if not config.env:
        raise ConfigError("--env must name an environment, such as CartPole-v1")
    check_blocks(config, SIZES[config.size].deter, "units of the recurrent state")
    if config.compile and config.device == "mps":
        raise ConfigError("--compile is for --device cpu and cuda; leave it out on mps")
    if config.starts == config.imagination_horizon == 1:
        raise ConfigError("--starts 1 and --imagination-horizon 1 dream of a single state; use at least 2 for one of them")
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
