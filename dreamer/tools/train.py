"""python -m dreamer train: any Gymnasium task, with the whole algorithm or one half of it."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, arg

from ..config import Config
from ..training import checkpoint, cli
from ..training.flags import ask_tyro, read_flags, with_recipe
from ..training.paths import run_folder, shown
from ..training.validate import ConfigError, validate
from . import modes, yaml_config
from .options import import_tasks
from .runs import locate
from .services import ServiceOptions
from .services import watchers as services


@dataclass(frozen=True)
class TrainOptions:
    """What to train, besides the hyperparameters below."""
    mode: Literal["full", "world-model", "dream"] = "full"
    """full: the whole algorithm; world-model: no actor and no critic; dream: only these, inside a frozen world model"""
    checkpoint: str = ""
    """run, a folder or a checkpoint, whose world model is dreamt in (dream) or whose rows are learned (world-model)"""
    config: str = ""
    """YAML file of hyperparameters, such as those in configs/; flags override it"""
    import_: Annotated[str, arg(name="import")] = ""
    """module to import first, for the tasks that it registers; also one of the current folder"""
    print_config: bool = False
    """print all hyperparameters as YAML, and train nothing"""


@dataclass(frozen=True)
class Flags:
    """Train an agent on any Gymnasium task, or one half of it."""
    tool: OmitArgPrefixes[TrainOptions]
    service: OmitArgPrefixes[ServiceOptions]
    config: OmitArgPrefixes[Config]


def read(argv):
    """Flags from a command line, argv[0] is the command; flags override the file, the file overrides the checkpoint's
    configuration. Raises ConfigError or CheckpointError."""
    given = dict(read_flags(argv[1:], (TrainOptions, ServiceOptions, Config)))
    values = {}
    if given.get("checkpoint"):
        values |= {**modes.load(locate(given["checkpoint"]))["config"], "output": "", "resume": True}
    if given.get("config"):
        values |= yaml_config.read(given["config"])
    defaults = with_recipe(yaml_config.complete(values), given.get("recipe"))
    flags = Flags(TrainOptions(), ServiceOptions(), defaults)
    flags = ask_tyro(flags, argv[1:], Flags.__doc__, f"python -m dreamer {argv[0]}")
    return check(replace(flags, config=validate(modes.fit(flags.tool.mode, flags.config))))


def check(flags):
    """Return `flags` if they fit each other. Raises ConfigError."""
    mode, source = flags.tool.mode, flags.tool.checkpoint
    if mode == "dream" and not source:
        raise ConfigError("--mode dream needs --checkpoint: the folder of a run whose world model is to be dreamt in")
    if mode == "full" and source:
        raise ConfigError("--checkpoint is for --mode world-model and --mode dream; a whole run goes on from the "
                          "checkpoint in its own --output folder")
    stops = flags.service.patience or flags.service.stop_at < math.inf
    if mode == "world-model" and stops:
        raise ConfigError("--patience and --stop-at judge evaluations, and --mode world-model makes none; leave them out")
    return flags


def work(argv, runs):
    """Train as the command line argv says; runs: see `cli.guarded`."""
    flags = read(argv)
    if flags.tool.print_config:
        print(yaml_config.dump(flags.config), end="")
        return
    import_tasks(flags.tool.import_)
    folder = folder_of(flags)
    run = cli.start(replace(flags.config, output=str(folder)), argv, runs, watchers(flags, argv))
    if flags.tool.mode == "full":
        cli.train(run)
    else:
        modes.MODES[flags.tool.mode](run, flags.tool.checkpoint and locate(flags.tool.checkpoint))


def folder_of(flags):
    """--output, or runs/TASK-seed for the whole algorithm and runs/MODE-TASK-seed for a half of it.

    Raises ConfigError if a run of another mode would be taken up there.
    """
    mode, folder = flags.tool.mode, run_folder(flags.config.env, flags.config.seed)
    folder = folder if mode == "full" else folder.with_name(f"{mode}-{folder.name}")
    folder = Path(flags.config.output or folder)
    known, there = folder / "config.yaml", ""
    if flags.config.resume and known.exists():
        there = known.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# mode: ")
    if there in ("full", *modes.MODES) and there != mode:
        raise ConfigError(f"{shown(folder)} holds a run of --mode {there}; use another --output folder, or --no-resume "
                          "to start anew")
    return folder


def watchers(flags, argv):
    """What follows the run (see `Run`)."""
    def keep_config(run, event, values):
        if event == "start":            # not before: a folder that holds another run is refused first
            head = f"mode: {flags.tool.mode}\n{cli.command_line(argv)}"
            yaml_config.save(run.folder / "config.yaml", replace(flags.config, resume=True), head)     # to repeat, or to go on
    return (keep_config, *services(flags.service))
