"""Flags that only one lesson has, beside the hyperparameters that all share."""

import sys
from dataclasses import make_dataclass
from pathlib import Path

from tyro.conf import OmitArgPrefixes

from ..config import Config
from ..training.flags import ask_tyro, read_flags, with_recipe
from ..training.validate import ConfigError, validate


def given(own, argv):
    """What a command line names: dict of field to text. own: an instance of the dataclass of the lesson's own flags.

    Raises ConfigError with one sentence for the first flag that is wrong.
    """
    return dict(read_flags(argv, (type(own), Config)))


def alone(named, flag, others=()):
    """Raise ConfigError if a command line (`given`) names `flag` and, beside it, another flag than `others`."""
    if flag in named and (beside := set(named) - {flag, *others}):
        goes = f"goes with {' and '.join(f'--{name}' for name in others)} alone" if others else "goes with no other flag"
        raise ConfigError(f"--{flag} trains nothing: it {goes}, not with --{min(beside).replace('_', '-')}")


def read(own, defaults, argv, about):
    """The lesson's own flags and its Config from a command line, each starting from the instance that is given.

    Raises ConfigError with one sentence, or SystemExit(0) after --help. about: its first line heads --help.
    """
    defaults = with_recipe(defaults, given(own, argv).get("recipe"))
    groups = [("own", OmitArgPrefixes[type(own)]), ("config", OmitArgPrefixes[Config])]
    kind = make_dataclass("Flags", groups, frozen=True)
    kind.__doc__ = about
    flags = ask_tyro(kind(own, defaults), argv, about, Path(sys.argv[0]).name)
    return flags.own, validate(flags.config)
