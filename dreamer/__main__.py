"""The tools around the course: python -m dreamer train | evaluate | dream | check."""

import importlib
import sys

from .training.cli import guarded
from .training.validate import ConfigError, suggestion

COMMANDS = {
    "train": "train an agent on any Gymnasium task, or one half of it: --mode world-model, --mode dream",
    "evaluate": "returns of fresh episodes of a trained agent, and a film of them",
    "dream": "an open-loop dream beside reality, as GIF or MP4",
    "check": "versions, speed of this machine, and whether the tricks of the algorithm work on it",
}
HELP = "\n".join([
    "usage: python -m dreamer COMMAND ...", "", "DreamerV3, readable: the tools around the course.", "",
    *(f"  {name:<10} {what}" for name, what in COMMANDS.items()), "",
    "python -m dreamer COMMAND --help lists the flags of a command; docs/tools.md shows examples."])


def work(argv, runs):
    if not argv or argv[0] in ("-h", "--help", "help"):
        return print(HELP)
    if argv[0] not in COMMANDS:
        raise ConfigError(f"unknown command {argv[0]}{suggestion(argv[0], COMMANDS)} (there are {', '.join(COMMANDS)})")
    return importlib.import_module(f".tools.{argv[0]}", __package__).work(argv, runs)


def main(argv=None):
    """Run a command; argv: its name and flags, those of the command line if None. Returns the exit code."""
    return guarded(work, argv)


if __name__ == "__main__":
    sys.exit(main())
