"""Command lines of the tools: a dataclass for each, read and refused in the way of a lesson's flags."""

import importlib
import os
import sys

from ..training.flags import ask_tyro, read_flags
from ..training.envs import TaskError
from ..training.validate import ConfigError, flag


def read(kind, argv):
    """An instance of the dataclass `kind` from a command line: argv[0] is the command, fields are flags.

    Its field `run` is the first word that is no flag, and has to be there. The first line of its docstring
    heads --help. Raises ConfigError with one sentence, or SystemExit(0) after --help.
    """
    named = "run" in kind.__dataclass_fields__
    given = dict(read_flags(argv[1:], [kind], word_for="run" if named else None))
    options = ask_tyro(kind(), argv[1:], kind.__doc__, f"python -m dreamer {argv[0]}")
    if named and "run" not in given:
        raise ConfigError(f"{argv[0]} what? Name the folder of a run, a checkpoint, or the task of a shipped agent: "
                          f"python -m dreamer {argv[0]} CartPole-v1")
    return options


def at_least(least, **values):
    """Raise ConfigError if one of the options `values` is smaller than `least`."""
    for name, value in values.items():
        if value < least:
            raise ConfigError(f"{flag(name)} must be {f'at least {least}' if least else '0 or more'}, not {value}")


def import_tasks(name):
    """Import a module, also one of the current folder: the tasks that it registers are known. Raises TaskError."""
    if not name:
        return
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0] and error.name != name:
            raise TaskError(f"--import {name} needs a package that is not installed: {error.name}") from None
        raise TaskError(f"--import {name}: there is no such module, neither installed nor in the current folder; "
                        "write my_env for a file my_env.py") from None
    except Exception as error:          # whatever a reader's own module may raise
        raise TaskError(f"--import {name} failed: {type(error).__name__}: {error}") from error
