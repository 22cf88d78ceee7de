"""Notebooks that need an optional package, or something that can draw, are left out where it is missing."""

from dreamer.training.envs import TaskError, make

NEEDS = {"06_dreamer_lunar_lander.ipynb": "LunarLander-v3",
         "07_dreamer_minigrid.ipynb": "MiniGrid-Empty-8x8-v0", "08_dreamer_walker_walk.ipynb": "walker_walk"}


def missing(task):
    try:
        make(task).close()
    except TaskError:
        return True
    return False


collect_ignore = [name for name, task in NEEDS.items() if missing(task)]
