"""Stop a long run for today: `--max-steps`. The same command goes on from there, as if nothing had happened.

The run is left right after a checkpoint, where with one environment nothing is in progress: no episode is cut, nothing
is evaluated, no summary is written. Its plan, the falling learning rate among it, knows nothing of the pause.
"""


class Paused(Exception):
    """Ends a run from inside a watcher."""


def pause_after(steps):
    """A watcher (see `Run`) that raises Paused at the first checkpoint `steps` or more after this start."""
    began = []

    def watch(run, event, values):
        if event == "start":
            began.append(values["step"])
        if event == "save" and began and values["step"] - began[-1] >= steps and values["step"] < run.config.steps:
            raise Paused
    return watch
