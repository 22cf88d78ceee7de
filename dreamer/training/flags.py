"""Command lines: every hyperparameter is a flag, and a wrong one is refused in one sentence."""

import contextlib
import io
import shlex
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Literal, get_args, get_origin

import tyro

from ..config import OFFICIAL, Config
from .validate import ConfigError, brief, flag, suggestion, validate

RECIPES = {"official": OFFICIAL, "course": {name: getattr(Config(), name) for name in OFFICIAL}}


def parse_flags(defaults, argv, about=""):
    """Config from a command line. `--recipe` replaces the defaults before all other flags count.

    Raises ConfigError with one sentence, or SystemExit(0) after --help.
    """
    given = dict(read_flags(argv))
    return validate(ask_tyro(with_recipe(defaults, given.get("recipe")), argv, about, Path(sys.argv[0]).name))


def with_recipe(config, wanted):
    """`config` with all values in which the recipes differ, if it is of another recipe than the `wanted` one."""
    return config if wanted in (None, config.recipe) else replace(config, **RECIPES[wanted])


def ask_tyro(defaults, argv, about, program):
    """An instance of the dataclass of `defaults` from flags that `read_flags` lets through, or all of --help."""
    refusal = io.StringIO()
    try:
        with contextlib.redirect_stderr(refusal):
            return tyro.cli(type(defaults), prog=program, default=defaults, args=argv,
                            description=about.strip().partition("\n")[0])
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ConfigError(f"cannot read the flags {brief(shlex.join(argv))}; --help lists them all") from None


def read_flags(argv, classes=(Config,), word_for=None):
    """Yield (field name, text or None) for each flag; raise ConfigError for the first that is wrong.

    classes: the dataclasses whose fields are flags. word_for: the field that a first word without -- is for.
    """
    kinds = {field.name.rstrip("_"): field.type for kind in classes for field in fields(kind)}
    words = list(argv)
    while words:
        if word_for and not words[0].startswith("-"):
            yield word_for, words.pop(0)
            word_for = None
            continue
        word, equals, value = words.pop(0).partition("=")
        if word in ("-h", "--help"):
            continue
        name = word.removeprefix("--").replace("-", "_")
        switch = kinds.get(name.removeprefix("no_")) is bool
        if not word.startswith("--") or (name not in kinds and not switch):
            known = [flag(k) for k in kinds]
            kind = "unknown flag" if word.startswith("-") else "unexpected word"
            raise ConfigError(f"{kind} {brief(word)}{suggestion(word.replace('_', '-'), known)} (--help lists all flags)")
        if switch:
            if equals:
                raise ConfigError(f"{word} takes no value; write {flag(name.removeprefix('no_'))} "
                                  f"or --no-{name.removeprefix('no_').replace('_', '-')}")
            yield name, None
            continue
        if not equals:
            if not words or words[0].startswith("--"):
                raise ConfigError(f"{word} needs a value")
            value = words.pop(0)
        check_text(name, value, kinds[name])
        yield name, value


def check_text(name, text, kind):
    """Raise ConfigError unless `text` can be read as what the field `name` holds."""
    if get_origin(kind) is Literal and text not in get_args(kind):
        raise ConfigError(f"{flag(name)} must be one of {', '.join(get_args(kind))}, not {brief(text)}"
                          f"{suggestion(text, get_args(kind))}")
    if kind in (int, float):
        try:
            kind(text)
        except ValueError:
            wanted = "a whole number" if kind is int else "a number"
            raise ConfigError(f"{flag(name)} must be {wanted}, not {brief(text)}") from None
