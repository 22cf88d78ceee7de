"""Hyperparameters as YAML: the same names, types and values as the flags, in a file."""

import difflib
import math
from dataclasses import asdict, fields
from pathlib import Path

import yaml

from ..config import Config
from ..training import checkpoint
from ..training.flags import RECIPES
from ..training.validate import ConfigError, check_type, flag

KINDS = {field.name: field.type for field in fields(Config)}


def dump(config, comment=""):
    """All hyperparameters as YAML text, in the order of dreamer/config.py; `comment`: lines above them."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    return head + yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)


def save(path, config, comment=""):
    """Write `dump` to `path`, atomically. Raises OSError."""
    with checkpoint.replacing(path) as file:
        file.write(dump(config, comment).encode())


def read(path):
    """The values that a YAML file gives, a dict of Config's fields. Raises ConfigError with one sentence."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}{ready()}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text in UTF-8") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(values, dict):
        found = "nothing" if values is None else f"a {type(values).__name__}"
        raise ConfigError(f"{path} must hold lines such as 'steps: 8000', not {found}")
    return {name: value_of(path, name, value) for name, value in values.items()}


def ready():
    """Where the files of the lessons are, if they are there."""
    folder = Path(__file__).resolve().parents[2] / "configs"
    names = ", ".join(sorted(file.name for file in folder.glob("*.yaml")))
    return f"; in {folder.name}/ there are {names}" if names else ""


def value_of(path, name, value):
    """`value` as the field `name` holds it. Raises ConfigError, naming the file."""
    if name not in KINDS:
        close = difflib.get_close_matches(str(name).replace("-", "_"), KINDS, n=1)
        raise ConfigError(f"{path}: unknown key {name}{f'; did you mean {close[0]}?' if close else ''} "
                          "(python -m dreamer train --print-config shows all)")
    if isinstance(value, (list, dict, set)):
        raise ConfigError(f"{path}: {name} must be a single value, not a {type(value).__name__}")
    if KINDS[name] is float and type(value) in (int, str):
        value = number(value)
    try:
        check_type(name, value, KINDS[name])
    except ConfigError as error:
        raise ConfigError(f"{path}: {str(error).replace(flag(name), name, 1)}") from None
    return value


def number(value):
    """A whole number or a text as float, where it is one: YAML 1.1 takes 1e-4 for a text, as it has no point."""
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except ValueError:
        return value


def complete(values):
    """A Config of these values, and of those of its recipe for the rest."""
    return Config(**{**RECIPES[values.get("recipe", "course")], **values})
