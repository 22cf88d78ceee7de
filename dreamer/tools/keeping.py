"""The best agents of a run, beside its last checkpoint: best-step5000-score487.50.pt.

A run goes on from checkpoint.pt, which holds everything. A best one holds the averaged agent that was
evaluated, its configuration and its score, for whatever reads agents: no replay buffer, so it is small.
"""

import re
from dataclasses import asdict

from ..training import checkpoint
from ..training.bar import mean

NAME = re.compile(r"best-step(\d+)-score(-?\d+\.\d+)\.pt")


class Keeper:
    """A watcher that keeps the `count` agents with the best greedy mean of one evaluation; a later one wins a tie.

    Which are kept is read off the names in the folder: a kill at any moment leaves at least the best.
    """

    def __init__(self, count):
        self.count = count

    def __call__(self, run, event, values):
        if event == "start":
            self.tidy(run)
        if event == "evaluate":
            self.keep(run, values)

    def tidy(self, run):
        """Remove what a kill in mid-write has left, and the best of an earlier run if this one begins anew."""
        for file in run.folder.glob("best-step*.pt.tmp"):
            file.unlink()
        for file in () if run.saved_at else ranked(run.folder):
            file.unlink()

    def keep(self, run, evaluation):
        """Write the agent if it is one of the best, then remove those that no longer are. Raises OSError."""
        step, score = evaluation["step"], mean(evaluation["greedy"])
        path = run.folder / f"best-step{step}-score{score:.2f}.pt"
        if path not in sorted([*ranked(run.folder), path], key=rank)[-self.count:]:
            return
        checkpoint.save(path, {
            "config": asdict(run.config), "average": run.learner.average.state_dict(), "updates": run.learner.updates,
            "step": step, "score": score, "metric": f"mean return of {len(evaluation['greedy'])} greedy episodes",
            "evaluation": evaluation})
        for file in ranked(run.folder)[:-self.count]:
            file.unlink(missing_ok=True)


def rank(path):
    """What orders the names: the score, then the step."""
    step, score = NAME.fullmatch(path.name).groups()
    return float(score), int(step)


def ranked(folder):
    """The best checkpoints in `folder`, the best one last."""
    return sorted((file for file in folder.iterdir() if NAME.fullmatch(file.name)), key=rank)
