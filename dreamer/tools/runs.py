"""What a reader means by RUN: the folder of a run, a checkpoint, or the task of an agent that comes with the course."""

from pathlib import Path

from ..training import shipping
from ..training.checkpoint import CheckpointError, previous
from ..training.paths import shown
from ..training.validate import suggestion


def locate(run):
    """Path of the checkpoint that `run` names. Raises CheckpointError that says what would be one."""
    path = Path(run)
    if path.is_dir():
        last = path / "checkpoint.pt"
        for file in (last, previous(last)):     # a kill between two of its moves leaves the one before
            if file.exists():
                return file
        raise CheckpointError(f"{run} is a folder without a run: there is no checkpoint.pt in it")
    if path.exists():
        return path
    if run and shipping.shipped(run).exists():
        return shipping.shipped(run)
    known = sorted(file.stem for file in shipping.shipped("any").parent.glob("*.pt"))
    raise CheckpointError(f"there is no {run!r}; name the folder of a run, a checkpoint, or the task of a shipped "
                          f"agent ({', '.join(known) or 'none is here'}){suggestion(run, known)}")


def find(run):
    """The averaged agent that `run` names, its Config, and the path as a reader wants to see it.

    Raises CheckpointError or TaskError.
    """
    path = locate(run)
    return *shipping.load_agent(path), shown(path)
